// What each op becomes: its buffers, its kernels and their work items.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt | FileCheck %s --enable-var-scope
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt | FileCheck %s --check-prefix=SHARES
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=cuda" | FileCheck %s --check-prefix=CUDA

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 8, element = f32>
!latents = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 24, value_dim = 16, element = f32>
#half = #deepseek.rotary<dim = 8, theta = 1.0e4 : f64, layout = half_split>
#pairs = #deepseek.rotary<dim = 8, theta = 1.0e4 : f64, layout = interleaved>

// One table serves both layouts of pairs.
// CHECK:     deepseek.weight @rotary_table.0 : tensor<64x8xf32>
// CHECK-NOT: rotary_table.1
// CHECK:     rt.program @m entry @forward
deepseek.model @m vocab 40 hidden 32 layers 2 context 64 entry @forward {}

deepseek.weight @table : tensor<40x32xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<40x32xbf16>
  deepseek.yield %0 : tensor<40x32xbf16>
}
// A weight that nothing reads is not stored.
// CHECK-NOT: @unused
deepseek.weight @unused : tensor<40x32xbf16> {
  %0 = deepseek.source "unused" in [] at [] : tensor<40x32xbf16>
  deepseek.yield %0 : tensor<40x32xbf16>
}

// Some columns of wide rows may be as many, and as far apart, as those of rows
// that are padded: kernels of either type are two.

// CHECK-LABEL: func.func private @columns
// CHECK:         rt.dispatch @[[ONE:rms_norm_20_.+_32_32]] items
// CHECK:         rt.dispatch @[[ONE]]_other items
func.func private @columns(%x: tensor<?x32xf32>, %y: tensor<?x20xf32>, %w: tensor<20xf32>) -> (tensor<?x20xf32>, tensor<?x20xf32>) {
  %a, %b = deepseek.split %x : tensor<?x32xf32> -> tensor<?x20xf32>, tensor<?x12xf32>
  %c = deepseek.rms_norm %a, %w epsilon 1.0e-6 : tensor<?x20xf32>, tensor<20xf32>
  %d = deepseek.rms_norm %y, %w epsilon 1.0e-6 : tensor<?x20xf32>, tensor<20xf32>
  return %c, %d : tensor<?x20xf32>, tensor<?x20xf32>
}

// Rows are padded to 64 bytes: 20 columns take 32.

// CHECK-LABEL: func.func private @linear
// CHECK-SAME:    (%[[STEP:.+]]: !rt.step, %[[X:.+]]: memref<?x32xf32, strided<[32, 1]>>, %[[W:.+]]: memref<2x32x16xbf16>, %[[B:.+]]: memref<32xf32>, %[[OUT:.+]]: memref<?x32xf32, strided<[32, 1]>>)
// CHECK:         %[[TOKENS:.+]] = rt.tokens %[[STEP]]
// CHECK:         %[[ITEMS:.+]] = arith.constant 1 : index
// CHECK:         rt.dispatch @linear_bf16_20x32_bias{{.*}} items %[[ITEMS]] of %[[STEP]](%[[X]], %[[W]], %[[B]], %[[OUT]], %[[TOKENS]])
func.func private @linear(%x: tensor<?x32xf32>, %w: tensor<20x32xbf16, #deepseek.tiled<rows = 16>>, %b: tensor<20xf32>) -> tensor<?x20xf32> {
  %y = deepseek.linear %x, %w bias %b : tensor<20xf32> : tensor<?x32xf32>, tensor<20x32xbf16, #deepseek.tiled<rows = 16>> -> tensor<?x20xf32>
  return %y : tensor<?x20xf32>
}

// FP8 weights stay bytes; their scales are an argument.

// CHECK-LABEL: func.func private @fp8
// CHECK:         rt.dispatch @linear_fp8_16x32{{.*}} : memref<?x32xf32, strided<[32, 1]>>, memref<1x32x16xi8>, memref<1x1xf32>, memref<?x16xf32, strided<[16, 1]>>, index
func.func private @fp8(%x: tensor<?x32xf32>, %w: tensor<16x32xf8E4M3FN, #deepseek.tiled<rows = 16>>, %s: tensor<1x1xf32>) -> tensor<?x16xf32> {
  %y = deepseek.linear %x, %w scales %s : tensor<1x1xf32> : tensor<?x32xf32>, tensor<16x32xf8E4M3FN, #deepseek.tiled<rows = 16>> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// Gate and up are one product with what they share.

// CHECK-LABEL: func.func private @gated
// CHECK-SAME:    %[[X:[^:]+]]: memref<?x32xf32{{[^:]*}}>, %[[G:[^:]+]]: memref<1x32x16xbf16>, %[[U:[^:]+]]: memref<1x32x16xbf16>, %[[OUT:[^:]+]]: memref<?x16xf32
// CHECK:         rt.dispatch @linear_swiglu_bf16_16x32{{.*}}(%[[X]], %[[G]], %[[U]], %[[OUT]], %{{.+}}) :
// CHECK-NOT:     rt.dispatch
// CHECK:         return
func.func private @gated(%x: tensor<?x32xf32>, %g: tensor<16x32xbf16, #deepseek.tiled<rows = 16>>, %u: tensor<16x32xbf16, #deepseek.tiled<rows = 16>>) -> tensor<?x16xf32> {
  %a = deepseek.linear %x, %g : tensor<?x32xf32>, tensor<16x32xbf16, #deepseek.tiled<rows = 16>> -> tensor<?x16xf32>
  %b = deepseek.linear %x, %u : tensor<?x32xf32>, tensor<16x32xbf16, #deepseek.tiled<rows = 16>> -> tensor<?x16xf32>
  %c = deepseek.swiglu %a, %b : tensor<?x16xf32>
  return %c : tensor<?x16xf32>
}

// They are two if something else reads one.

// CHECK-LABEL: func.func private @read_again
// CHECK:         rt.dispatch @linear_bf16_16x32
// CHECK:         rt.dispatch @linear_bf16_16x32
// CHECK:         rt.dispatch @swiglu_16
// CHECK:         rt.dispatch @add_16
func.func private @read_again(%x: tensor<?x32xf32>, %g: tensor<16x32xbf16, #deepseek.tiled<rows = 16>>, %u: tensor<16x32xbf16, #deepseek.tiled<rows = 16>>) -> tensor<?x16xf32> {
  %a = deepseek.linear %x, %g : tensor<?x32xf32>, tensor<16x32xbf16, #deepseek.tiled<rows = 16>> -> tensor<?x16xf32>
  %b = deepseek.linear %x, %u : tensor<?x32xf32>, tensor<16x32xbf16, #deepseek.tiled<rows = 16>> -> tensor<?x16xf32>
  %c = deepseek.swiglu %a, %b : tensor<?x16xf32>
  %d = deepseek.add %c, %b : tensor<?x16xf32>
  return %d : tensor<?x16xf32>
}

// Ops of one shape share a kernel, and what is returned is written in place.

// CHECK-LABEL: func.func private @elementwise
// CHECK-SAME:    %[[A:[^:]+]]: memref<?x32xf32, strided<[32, 1]>>, %[[B:[^:]+]]: memref<?x32xf32, strided<[32, 1]>>, %[[OUT:[^:]+]]: memref<?x32xf32, strided<[32, 1]>>)
// CHECK:         %[[G:.+]] = rt.alloc %{{.+}} bytes 128 * tokens + 0
// CHECK:         rt.dispatch @swiglu_32{{.*}}(%[[A]], %[[B]], %[[G]])
// CHECK:         %[[S:.+]] = rt.alloc
// CHECK:         rt.dispatch @[[ADD:add_32.*]] items %{{.*}}(%[[G]], %[[A]], %[[S]])
// CHECK:         rt.dispatch @[[ADD]] items %{{.*}}(%[[S]], %[[B]], %[[OUT]])
func.func private @elementwise(%a: tensor<?x32xf32>, %b: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %g = deepseek.swiglu %a, %b : tensor<?x32xf32>
  %s = deepseek.add %g, %a : tensor<?x32xf32>
  %t = deepseek.add %s, %b : tensor<?x32xf32>
  return %t : tensor<?x32xf32>
}

// Attention first appends to the cache; then blocks of rows of each group of
// heads are items.

// CHECK-LABEL: func.func private @attention
// CHECK-SAME:    (%{{.+}}: !rt.step, %[[Q:[^:]+]]: memref<?x32xf32, strided<[32, 1]>>, %[[K:[^:]+]]: memref<?x16xf32, strided<[16, 1]>>, %[[POS:[^:]+]]: memref<?xi32>, %[[SEQ:[^:]+]]: memref<?xi32>, %[[LAYER:[^:]+]]: index, %[[OUT:[^:]+]]: memref
// CHECK:         %[[TABLE:.+]] = rt.weight %{{.+}} at 0 "rotary_table.0" : memref<64x8xf32>
// CHECK:         rt.dispatch @rotary_half_split_4x8_8{{.*}}(%[[Q]], %[[POS]], %[[TABLE]], %[[QR:.+]]) :
// CHECK:         %[[PARTS:.+]] = arith.muli %{{.+}}, %c2
// CHECK:         rt.dispatch @append_cache_heads_2x8_8_of_2_32{{.*}} items %[[PARTS]] of %{{.+}}(%[[K]], %[[K]], %[[POS]], %[[SEQ]], %[[LAYER]], %{{.+}})
// CHECK:         %[[BLOCK_ROWS:.+]] = arith.minui
// CHECK:         %[[BLOCKS:.+]] = arith.divui %{{.+}}, %[[BLOCK_ROWS]]
// CHECK:         %[[ITEMS:.+]] = arith.muli %[[BLOCKS]], %{{.+}}
// CHECK:         rt.dispatch @attention_4_heads{{.*}} items %[[ITEMS]] of %{{.+}}(%[[QR]], %[[POS]], %[[SEQ]], %[[LAYER]], %[[OUT]], %{{.+}}, %[[BLOCK_ROWS]])
func.func private @attention(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x32xf32> {
  %r = deepseek.rotary %q, %positions heads 4 by #half : tensor<?x32xf32>, tensor<?xi32>
  %a = deepseek.attention %r, %k, %k at %positions of %sequences in %cache[%layer] heads 4 scale 3.5e-1 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, !cache -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// MLA: parts of a row are views of it; latents are read by all heads.

// CHECK-LABEL: func.func private @latent
// CHECK:         %[[C:.+]] = rt.columns %{{.+}} from 0 : memref<?x32xf32, strided<[32, 1]>> -> memref<?x16xf32, strided<[32, 1]>>
// CHECK:         %[[R:.+]] = rt.columns %{{.+}} from 16 : memref<?x32xf32, strided<[32, 1]>> -> memref<?x8xf32, strided<[32, 1]>>
// CHECK:         rt.dispatch @rotary_interleaved_1x8_8_32
// CHECK:         rt.dispatch @head_linear_f32_2x16x8_of_16
// CHECK:         rt.dispatch @append_cache_latent_1x24_16_of_2_32{{.*}}(%[[C]],
// CHECK:         rt.dispatch @absorbed_attention_2_16_latent
func.func private @latent(%kv: tensor<?x24xf32>, %q: tensor<?x32xf32>, %w_uk: tensor<2x16x8xf32, #deepseek.tiled<rows = 16>>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !latents, %layer: index) -> tensor<?x32xf32> {
  %c, %r = deepseek.split %kv : tensor<?x24xf32> -> tensor<?x16xf32>, tensor<?x8xf32>
  %rr = deepseek.rotary %r, %positions heads 1 by #pairs : tensor<?x8xf32>, tensor<?xi32>
  %qc = deepseek.head_linear %q, %w_uk : tensor<?x32xf32>, tensor<2x16x8xf32, #deepseek.tiled<rows = 16>> -> tensor<?x32xf32>
  %a = deepseek.absorbed_attention %qc, %q, %c, %rr at %positions of %sequences in %cache[%layer] heads 2 scale 3.5e-1 : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x8xf32>, tensor<?xi32>, !latents -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// Experts: slots are sorted by expert; at most min(tokens * top_k, experts)
// experts have work.

// Items are equal parts of the work: where one begins follows from the slots
// before each active expert. On a GPU an item is a group of tiles.

// SHARES-LABEL: rt.kernel @experts_up_bf16_8x16x32_2
// SHARES:         %[[ACTIVE:.+]] = arith.index_castui
// SHARES:         %[[SLOTS:.+]] = arith.index_castui
// SHARES:         %[[WEIGHTS:.+]] = arith.muli %[[ACTIVE]], %{{.+}} : index
// SHARES:         %[[WORK:.+]] = arith.addi %[[SLOTS]], %[[WEIGHTS]] : index
// SHARES:         %[[EXPERTS:.+]] = arith.minui %[[SLOTS]]
// SHARES:         %[[PRODUCT:.+]] = arith.muli %arg1, %[[WORK]] : index
// SHARES:         %[[WANTED:.+]] = arith.divui %[[PRODUCT]], %[[EXPERTS]] : index
// SHARES:         scf.for %{{.+}} = %{{.+}} to %[[ACTIVE]] step
// SHARES:           %[[IS_PAST:.+]] = arith.cmpi slt, %[[WANTED]]
// SHARES:           arith.select %[[IS_PAST]]

// CUDA-LABEL: rt.kernel @experts_up_bf16_8x16x32_2
// CUDA:         %[[ACTIVE:.+]] = arith.index_castui
// CUDA:         arith.minui %arg2, %[[ACTIVE]] : index
// CUDA-NOT:     arith.cmpi slt
// CUDA:         scf.for
// CHECK-LABEL: func.func private @experts
// CHECK:         rt.dispatch @router_sigmoid_noaux_tc_2_of_8_2_of_4_normalized
// CHECK:         %[[OFFSETS:.+]] = rt.alloc %{{.+}} bytes 0 * tokens + 64 : memref<9xi32>
// CHECK:         %[[ACTIVE:.+]] = rt.alloc %{{.+}} bytes 0 * tokens + 64 : memref<9xi32>
// CHECK:         %[[LIST:.+]] = rt.alloc %{{.+}} bytes 64 * tokens + 0 : memref<?xi32>
// CHECK:         rt.dispatch @group_slots_2_of_8{{.*}}(%{{.+}}, %[[OFFSETS]], %[[LIST]], %[[ACTIVE]], %{{.+}})
// CHECK:         %[[SLOTS:.+]] = arith.muli
// CHECK:         %[[MOST:.+]] = arith.minui %[[SLOTS]]
// CHECK:         rt.alloc %{{.+}} bytes 128 * tokens + 0 : memref<?x16xf32, strided<[16, 1]>>
// CHECK:         rt.dispatch @experts_up_bf16_8x16x32_2
// CHECK:         rt.dispatch @experts_down_bf16_8x32x16
// CHECK:         rt.dispatch @combine_2_32
func.func private @experts(%x: tensor<?x32xf32>, %logits: tensor<?x8xf32>, %bias: tensor<8xf32>, %up: tensor<8x16x32xbf16, #deepseek.tiled<rows = 16>>, %down: tensor<8x32x16xbf16, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  %e, %w = deepseek.router %logits bias %bias : tensor<8xf32> by <scoring = sigmoid, method = noaux_tc, experts = 8, top_k = 2, groups = 4, top_groups = 2, normalize = true, scale = 2.5 : f64> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %y = deepseek.experts %x, %e, %w gate %up up %up down %down : tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x16x32xbf16, #deepseek.tiled<rows = 16>>, tensor<8x16x32xbf16, #deepseek.tiled<rows = 16>>, tensor<8x32x16xbf16, #deepseek.tiled<rows = 16>> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// The entry takes the step alone. Logits are written where the step wants
// them, in rows that are not padded, and only for the rows it names.

// CHECK-LABEL: func.func @forward(%{{.+}}: !rt.step)
// CHECK:         %[[OUTPUTS:.+]] = rt.outputs
// CHECK:         %[[IDS:.+]] = rt.input %{{.+}} token_ids
// CHECK:         %[[ROWS:.+]] = rt.input %{{.+}} output_rows
// CHECK:         %[[LOGITS:.+]] = rt.logits %{{.+}} : memref<?x40xf32, strided<[40, 1]>>
// CHECK:         rt.dispatch @embed_bf16_32_tiled{{.*}}(%[[IDS]],
// CHECK:         call @elementwise(%{{.+}}, %[[X:.+]], %[[X]], %{{.+}}) : (!rt.step,
// CHECK:         rt.dispatch @gather_rows_32{{.*}} items %[[OUTPUTS]] of %{{.+}}(%{{.+}}, %[[ROWS]], %[[KEPT:.+]]) :
// CHECK:         rt.dispatch @linear_bf16_40x32{{.*}}(%[[KEPT]], %{{.+}}, %[[LOGITS]], %[[OUTPUTS]])
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x40xf32> {
  %table = deepseek.use_weight @table : tensor<40x32xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<40x32xbf16> -> tensor<?x32xf32>
  %y = call @elementwise(%x, %x) : (tensor<?x32xf32>, tensor<?x32xf32>) -> tensor<?x32xf32>
  %k = deepseek.gather_rows %y, %outputs : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %l = deepseek.lm_head %k, %table : tensor<?x32xf32>, tensor<40x32xbf16> -> tensor<?x40xf32>
  return %l : tensor<?x40xf32>
}

// E4M3 becomes f16, whose subnormals widen to f32 that are none.

// CHECK-LABEL: rt.kernel @linear_fp8_16x32
// CHECK:         arith.mulf %{{.+}}, %{{.+}} : f32
// CHECK:         %[[BYTES:.+]] = arith.extui %{{.+}} : vector<16xi8> to vector<16xi16>
// CHECK:         arith.shli %[[BYTES]]
// CHECK:         arith.shrsi
// CHECK:         %[[BITS:.+]] = arith.andi
// CHECK:         %[[HALF:.+]] = arith.bitcast %[[BITS]] : vector<16xi16> to vector<16xf16>
// CHECK:         arith.extf %[[HALF]] : vector<16xf16> to vector<16xf32>
