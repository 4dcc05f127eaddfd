// Products of integer weights whose inputs are not rounded: each is four digits,
// so that integers are multiplied by integers. Offsets need the sums of inputs:
// as integers where products need them, too, else as what is multiplied.

// RUN: hadal-opt %s -split-input-file -verify-diagnostics -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=avx512-vnni" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,VNNI
// RUN: hadal-opt %s -split-input-file -verify-diagnostics -deepseek-pack-weights -convert-deepseek-to-rt="registers=8 dot-product=avx2" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,AVX2

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @m vocab 32 hidden 64 layers 1 context 64 entry @forward {}

deepseek.weight @head : tensor<32x64xui4> {
  %0 = deepseek.source "head" in [] at [] : tensor<32x40xi8>
  %1 = deepseek.gguf_part codes of q4_1 %0 : tensor<32x40xi8> -> tensor<32x64xui4>
  deepseek.yield %1 : tensor<32x64xui4>
}
deepseek.weight @head.scales : tensor<32x2xf16> {
  %0 = deepseek.source "head" in [] at [] : tensor<32x40xi8>
  %1 = deepseek.gguf_part scales of q4_1 %0 : tensor<32x40xi8> -> tensor<32x2xf16>
  deepseek.yield %1 : tensor<32x2xf16>
}
deepseek.weight @head.offsets : tensor<32x2xf16> {
  %0 = deepseek.source "head" in [] at [] : tensor<32x40xi8>
  %1 = deepseek.gguf_part offsets of q4_1 %0 : tensor<32x40xi8> -> tensor<32x2xf16>
  deepseek.yield %1 : tensor<32x2xf16>
}

// CHECK-LABEL: func.func private @layer
// CHECK:         rt.dispatch @split_rows_64_32_m1{{.*}}(%[[X:.+]], %[[D:.+]], %[[S:.+]], %[[O:.+]]) :
// CHECK:         rt.dispatch @linear_int4_32x64_32_32_f32_offsets_f32{{.*}}(%[[D]], %[[S]], %[[O]], %{{.+}}, %{{.+}}, %{{.+}}, %[[A:.+]], %{{.+}}) :
// CHECK-NOT:     split_rows
// CHECK:         rt.dispatch @linear_int4_32x64_32_32_f32_offsets_f32{{.*}}(%[[D]], %[[S]], %[[O]], %{{.+}}, %{{.+}}, %{{.+}}, %[[B:.+]], %{{.+}}) :
// Rounded inputs of such weights have their sums, too.
// CHECK:         rt.dispatch @quantize_rows_64_32_m1
// CHECK:         rt.dispatch @linear_int4_32x64_32_32_offsets_f32
func.func private @layer(%x: tensor<?x64xf32>, %w: tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %s: tensor<32x2xf16, #deepseek.tiled<rows = 16>>, %o: tensor<32x2xf32, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  %a = deepseek.linear %x, %w scales %s : tensor<32x2xf16, #deepseek.tiled<rows = 16>> offsets %o : tensor<32x2xf32, #deepseek.tiled<rows = 16>> : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  %b = deepseek.linear %x, %w scales %s : tensor<32x2xf16, #deepseek.tiled<rows = 16>> offsets %o : tensor<32x2xf32, #deepseek.tiled<rows = 16>> : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  %c = deepseek.linear %x, %w scales %s : tensor<32x2xf16, #deepseek.tiled<rows = 16>> offsets %o : tensor<32x2xf32, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  %d = deepseek.add %a, %b : tensor<?x32xf32>
  %e = deepseek.add %c, %d : tensor<?x32xf32>
  return %e : tensor<?x32xf32>
}

// Products that are gated are one kernel.
// CHECK-LABEL: func.func private @gated
// CHECK:         rt.dispatch @linear_swiglu_int4_32x64_32_32_f32_offsets_f32
func.func private @gated(%x: tensor<?x64xf32>, %w: tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %s: tensor<32x2xf16, #deepseek.tiled<rows = 16>>, %o: tensor<32x2xf32, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  %a = deepseek.linear %x, %w scales %s : tensor<32x2xf16, #deepseek.tiled<rows = 16>> offsets %o : tensor<32x2xf32, #deepseek.tiled<rows = 16>> : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  %b = deepseek.linear %x, %w scales %s : tensor<32x2xf16, #deepseek.tiled<rows = 16>> offsets %o : tensor<32x2xf32, #deepseek.tiled<rows = 16>> : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  %c = deepseek.swiglu %a, %b : tensor<?x32xf32>
  return %c : tensor<?x32xf32>
}

// Heads' inputs are not rounded, nor cut into digits. Groups are of a row, or,
// where scales are in no tiles, of columns.
// CHECK-LABEL: func.func private @heads
// CHECK-NOT:     split_rows
// CHECK:         rt.dispatch @head_linear_int4_2x256x16_32_32_f32_scales_levels_turned_of_24
// CHECK:         rt.dispatch @head_linear_int8_2x16x256_32_32_f32_of_256
func.func private @heads(%x: tensor<?x48xf32>, %k: tensor<2x256x16xi4, #deepseek.tiled<rows = 16, columns = 8>>, %ks: tensor<2x10x16xi8>, %v: tensor<2x16x256xi8, #deepseek.tiled<rows = 16, columns = 4>>, %vs: tensor<2x16x8xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  %a = deepseek.head_linear %x, %k scales %ks : tensor<2x10x16xi8> : tensor<?x48xf32>, tensor<2x256x16xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x512xf32>
  %b = deepseek.head_linear %a, %v scales %vs : tensor<2x16x8xf16, #deepseek.tiled<rows = 16>> : tensor<?x512xf32>, tensor<2x16x256xi8, #deepseek.tiled<rows = 16, columns = 4>> -> tensor<?x32xf32>
  return %b : tensor<?x32xf32>
}

// Codes of other bits, and scales of two levels. Down is of its own type.
// CHECK-LABEL: func.func private @k_quants
// CHECK:         rt.dispatch @split_rows_256_16_32
// CHECK:         rt.dispatch @linear_int6_32x256_16_16_f32_scales_levels
// CHECK:         rt.dispatch @split_rows_256_16_4
// CHECK:         rt.dispatch @linear_int3_32x256_16_16_f32_scales_levels
// CHECK:         rt.dispatch @split_rows_256_32_sums_{{.*}}memref<?x16xf32, strided<[16, 1]>>, memref<?x16xf32, strided<[16, 1]>>
// CHECK:         rt.dispatch @experts_up_uint5_8x256x256_32_32_f32_scales_levels_offsets_levels_2
// CHECK:         rt.dispatch @experts_down_int6_8x256x256_16_16_f32_scales_levels
!i6 = tensor<32x256xi6, #deepseek.tiled<rows = 16, columns = 16>>
!i3 = tensor<32x256xi3, #deepseek.tiled<rows = 16, columns = 32>>
!sixteen = tensor<32x18xi8, #deepseek.tiled<rows = 16>>
!up = tensor<8x256x256xui5, #deepseek.tiled<rows = 16, columns = 32>>
!ups = tensor<8x256x10xi8, #deepseek.tiled<rows = 16>>
!down = tensor<8x256x256xi6, #deepseek.tiled<rows = 16, columns = 16>>
!downs = tensor<8x256x18xi8, #deepseek.tiled<rows = 16>>
func.func private @k_quants(%x: tensor<?x256xf32>, %w6: !i6, %w3: !i3, %s: !sixteen, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %up: !up, %us: !ups, %down: !down, %ds: !downs) -> (tensor<?x32xf32>, tensor<?x256xf32>) {
  %a = deepseek.linear %x, %w6 scales %s : !sixteen : tensor<?x256xf32>, !i6 -> tensor<?x32xf32>
  %b = deepseek.linear %x, %w3 scales %s : !sixteen : tensor<?x256xf32>, !i3 -> tensor<?x32xf32>
  %c = deepseek.add %a, %b : tensor<?x32xf32>
  %y = deepseek.experts %x, %e, %w gate %up up %up down %down scales %us, %us, %ds : !ups, !ups, !downs offsets %us, %us : !ups, !ups : tensor<?x256xf32>, tensor<?x2xi32>, tensor<?x2xf32>, !up, !up, !down -> tensor<?x256xf32>
  return %c, %y : tensor<?x32xf32>, tensor<?x256xf32>
}

// CHECK-LABEL: func.func private @experts
// CHECK:         rt.dispatch @split_rows_64_16
// CHECK:         rt.dispatch @experts_up_int8_8x32x64_16_16_f32_scales_f32_2
// CHECK:         rt.dispatch @split_rows_32_16
// CHECK:         rt.dispatch @experts_down_int8_8x64x32_16_16_f32_scales_f32
func.func private @experts(%x: tensor<?x64xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %up: tensor<8x32x64xi8, #deepseek.tiled<rows = 16, columns = 4>>, %us: tensor<8x32x4xf32, #deepseek.tiled<rows = 16>>, %down: tensor<8x64x32xi8, #deepseek.tiled<rows = 16, columns = 4>>, %ds: tensor<8x64x2xf32, #deepseek.tiled<rows = 16>>) -> tensor<?x64xf32> {
  %y = deepseek.experts %x, %e, %w gate %up up %up down %down scales %us, %us, %ds : tensor<8x32x4xf32, #deepseek.tiled<rows = 16>>, tensor<8x32x4xf32, #deepseek.tiled<rows = 16>>, tensor<8x64x2xf32, #deepseek.tiled<rows = 16>> : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x32x64xi8, #deepseek.tiled<rows = 16, columns = 4>>, tensor<8x32x64xi8, #deepseek.tiled<rows = 16, columns = 4>>, tensor<8x64x32xi8, #deepseek.tiled<rows = 16, columns = 4>> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// A tied table is read in tiles.
// CHECK-LABEL: func.func @forward
// CHECK:         rt.dispatch @embed_uint4_32x64_32_32_offsets_f16
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @head : tensor<32x64xui4>
  %s = deepseek.use_weight @head.scales : tensor<32x2xf16>
  %o = deepseek.use_weight @head.offsets : tensor<32x2xf16>
  %x = deepseek.embed %ids, %w scales %s : tensor<32x2xf16> offsets %o : tensor<32x2xf16> : tensor<?xi32>, tensor<32x64xui4> -> tensor<?x64xf32>
  %l = deepseek.lm_head %x, %w scales %s : tensor<32x2xf16> offsets %o : tensor<32x2xf16> : tensor<?x64xf32>, tensor<32x64xui4> -> tensor<?x32xf32>
  return %l : tensor<?x32xf32>
}

// A number is its integer part in units of a power of two, cut into digits of
// seven bits; of each, the group's sum is kept.

// CHECK-LABEL: rt.kernel @split_rows_64_32_m1
// CHECK:         arith.shrui
// CHECK:         math.roundeven
// CHECK:         arith.fptosi %{{.+}} : vector<16xf32> to vector<16xi32>
// CHECK-COUNT-3: arith.shrsi
// CHECK-COUNT-4: memref.store %{{.+}}, %{{.+}} : memref<?x16xi32

// One row is four of digits: their sums are joined before they are scaled. The
// sum of the inputs is that of its digits, too.

// CHECK-LABEL: rt.kernel @linear_int4_32x64_32_32_f32_offsets_f32
// CHECK:         vector.load %{{.+}} : memref<2x8x64xi8>, vector<64xi8>
// VNNI:          llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"
// AVX2:          llvm.call_intrinsic "llvm.x86.avx2.pmadd.ub.sw"
// CHECK:         arith.sitofp %{{.+}} : vector<16xi32> to vector<16xf32>
// CHECK:         arith.sitofp %{{.+}} : i32 to f32
// CHECK:         arith.negf

// Six bits are four of one vector and two of another; the f16 of a block is two
// bytes, and a group's scale a product.

// CHECK-LABEL: rt.kernel @linear_int6_32x256_16_16_f32_scales_levels
// CHECK:         vector.load %{{.+}} : memref<2x18x16xi8>, vector<16xi8>
// CHECK:         vector.load %{{.+}} : memref<2x18x16xi8>, vector<16xi8>
// CHECK:         arith.bitcast %{{.+}} : vector<16xi16> to vector<16xf16>
// CHECK:         vector.load %{{.+}} : memref<2x18x16xi8>, vector<16xi8>
// CHECK:         arith.extsi %{{.+}} : vector<16xi8> to vector<16xi32>
// CHECK:         vector.load %{{.+}} : memref<2x48x64xi8>, vector<64xi8>
// CHECK:         vector.load %{{.+}} : memref<2x48x64xi8>, vector<64xi8>
// CHECK:         arith.ori %{{.+}} : vector<64xi8>
// CHECK:         vector.load %{{.+}} : memref<2x48x64xi8>, vector<64xi8>

// Sums that offsets alone need are joined, negated and scaled as they are kept,
// and products read them as they are.

// CHECK-LABEL: rt.kernel @split_rows_256_32_sums
// CHECK-COUNT-3: math.fma %{{.+}} : f32
// CHECK:         %[[SUM:.+]] = arith.negf
// CHECK:         %[[SCALED:.+]] = arith.mulf %[[SUM]]
// CHECK:         memref.store %[[SCALED]], %{{.+}} : memref<?x16xf32

// CHECK-LABEL: rt.kernel @experts_up_uint5_8x256x256_32_32_f32_scales_levels_offsets_levels
// CHECK-NOT:     arith.sitofp %{{.+}} : i32 to f32
// CHECK-LABEL: rt.kernel

// -----

// Bytes that are packed as scales are no weight.

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @m vocab 32 hidden 64 layers 1 context 64 entry @forward {}

func.func private @layer(%x: tensor<?x64xf32>, %w: tensor<32x64xi8, #deepseek.tiled<rows = 16>>, %s: tensor<32x2xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  // expected-error @below {{'deepseek.linear' op expects a packed weight to lower, but got 'tensor<32x64xi8, #deepseek.tiled<rows = 16>>'}}
  %a = deepseek.linear %x, %w scales %s : tensor<32x2xf16, #deepseek.tiled<rows = 16>> : tensor<?x64xf32>, tensor<32x64xi8, #deepseek.tiled<rows = 16>> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x32xf32> {
  %table = deepseek.use_weight @table : tensor<32x64xf32>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<32x64xf32> -> tensor<?x64xf32>
  %l = deepseek.lm_head %x, %table : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
  return %l : tensor<?x32xf32>
}
deepseek.weight @table : tensor<32x64xf32> {
  %0 = deepseek.source "table" in [] at [] : tensor<32x64xf32>
  deepseek.yield %0 : tensor<32x64xf32>
}

// -----

// Scales of columns are read along these, not in tiles.

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @m vocab 32 hidden 64 layers 1 context 64 entry @forward {}

func.func private @layer(%x: tensor<?x64xf32>, %w: tensor<2x64x32xi8, #deepseek.tiled<rows = 16, columns = 4>>, %s: tensor<2x2x32xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x128xf32> {
  // expected-error @below {{'deepseek.head_linear' op expects scales of columns that are not packed to lower, but got 'tensor<2x2x32xf16, #deepseek.tiled<rows = 16>>'}}
  %a = deepseek.head_linear %x, %w scales %s : tensor<2x2x32xf16, #deepseek.tiled<rows = 16>> : tensor<?x64xf32>, tensor<2x64x32xi8, #deepseek.tiled<rows = 16, columns = 4>> -> tensor<?x128xf32>
  return %a : tensor<?x128xf32>
}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x32xf32> {
  %table = deepseek.use_weight @table : tensor<32x64xf32>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<32x64xf32> -> tensor<?x64xf32>
  %l = deepseek.lm_head %x, %table : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
  return %l : tensor<?x32xf32>
}
deepseek.weight @table : tensor<32x64xf32> {
  %0 = deepseek.source "table" in [] at [] : tensor<32x64xf32>
  deepseek.yield %0 : tensor<32x64xf32>
}

// -----

// A group shares its words with no other.

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @m vocab 32 hidden 64 layers 1 context 64 entry @forward {}

func.func private @layer(%x: tensor<?x64xf32>, %w: tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %s: tensor<32x16xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  // expected-error @below {{'deepseek.linear' op expects groups of a multiple of 8 columns to lower, but got 4 of 'tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>'}}
  %a = deepseek.linear %x, %w scales %s : tensor<32x16xf16, #deepseek.tiled<rows = 16>> : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x32xf32> {
  %table = deepseek.use_weight @table : tensor<32x64xf32>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<32x64xf32> -> tensor<?x64xf32>
  %l = deepseek.lm_head %x, %table : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
  return %l : tensor<?x32xf32>
}
deepseek.weight @table : tensor<32x64xf32> {
  %0 = deepseek.source "table" in [] at [] : tensor<32x64xf32>
  deepseek.yield %0 : tensor<32x64xf32>
}
