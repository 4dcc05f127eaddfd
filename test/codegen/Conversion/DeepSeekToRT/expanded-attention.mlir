// Products with latents in bf16: pairs of columns, or of tokens, at once. A step with many tokens of a sequence computes
// their keys and values again.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="bf16-products bf16-pairs" | FileCheck %s --enable-var-scope
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="bf16-products" | FileCheck %s --check-prefix=FMA
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt | FileCheck %s --check-prefix=F32
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="bf16-products bf16-pairs describe-work" | FileCheck %s --check-prefix=WORK

!latents = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 64, value_dim = 32, element = bf16>

deepseek.model @m vocab 64 hidden 32 layers 2 context 512 entry @forward {}
deepseek.weight @table : tensor<64x32xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<64x32xbf16>
  deepseek.yield %0 : tensor<64x32xbf16>
}
deepseek.weight @key : tensor<16x32x32xbf16> {
  %0 = deepseek.source "key" in [] at [] : tensor<16x32x32xbf16>
  deepseek.yield %0 : tensor<16x32x32xbf16>
}
deepseek.weight @value : tensor<16x32x32xbf16> {
  %0 = deepseek.source "value" in [] at [] : tensor<16x32x32xbf16>
  deepseek.yield %0 : tensor<16x32x32xbf16>
}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %rows: tensor<?xi32>, %cache: !latents) -> tensor<?x64xf32> {
  %table = deepseek.use_weight @table : tensor<64x32xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<64x32xbf16> -> tensor<?x32xf32>
  %l = deepseek.lm_head %x, %table : tensor<?x32xf32>, tensor<64x32xbf16> -> tensor<?x64xf32>
  return %l : tensor<?x64xf32>
}

// Rows of long runs are computed in the other form, and neither absorbed nor brought back.

// CHECK-LABEL: func.func private @latent(
// CHECK:         %[[ENDS:.+]] = rt.alloc {{.+}} : memref<?xi32>
// CHECK:         %[[SPAN:.+]] = rt.alloc {{.+}} : memref<2xi32>
// CHECK:         rt.dispatch @find_runs items {{.+}}, %[[ENDS]], %[[SPAN]], %
// CHECK:         rt.dispatch @head_linear_span_{{.+}}, %[[SPAN]], %
// CHECK:         rt.dispatch @absorbed_attention_pairs_runs_16_64_{{.+}}, %[[ENDS]], %
// CHECK:         rt.dispatch @head_linear_span_{{.+}}, %[[SPAN]], %
// CHECK:         rt.dispatch @expanded_attention_16_32_32_{{.+}}, %[[ENDS]], %

// F32-LABEL: func.func private @latent(
// F32-NOT:     find_runs
// F32:         rt.dispatch @absorbed_attention_16_64_
// F32-NOT:     expanded_attention

// What is counted in a step is either of the two. Keys and values of a token are 2 * 16 * 32 * (32 + 32) operations.

// WORK-LABEL: func.func private @latent(
// WORK:         rt.dispatch @find_runs
// WORK-NOT:     below_rows
// WORK:         rt.dispatch @head_linear_span_{{.+}}#rt.work<{{.+}}, below_rows = 384>
// WORK:         rt.dispatch @absorbed_attention_pairs_runs_16_64_{{.+}} pair_f32_ops = 3072, pair_exps = 16, below_rows = 384>
// WORK:         rt.dispatch @head_linear_span_{{.+}}#rt.work<{{.+}}, below_rows = 384>
// WORK:         rt.dispatch @expanded_attention_{{.+}} alternative = true, {{.+}} pair_f32_ops = 3072, context_f32_ops = 65536, pair_exps = 16, least_rows = 384>

// A page is read as it is, two columns at once; weights are rounded.

// CHECK-LABEL: rt.kernel @absorbed_attention_pairs_runs_16_64_
// CHECK:         %[[PAGE:.+]] = rt.page {{.+}} : memref<32x32xi32>
// CHECK:         %[[PAIR:.+]] = memref.load %[[PAGE]]
// CHECK:         %[[KEY:.+]] = vector.broadcast %[[PAIR]] : i32 to vector<16xi32>
// CHECK:         %[[HALVES:.+]] = vector.bitcast %[[KEY]] : vector<16xi32> to vector<32xbf16>
// CHECK:         llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.512"({{.+}}, %[[HALVES]])

// Elsewhere, the second product of a pair comes first, as the instruction has it.

// FMA-LABEL: rt.kernel @absorbed_attention_pairs_runs_16_64_
// FMA:         %[[FIRST:.+]] = arith.shli %{{.+}}, %{{.+}} : vector<16xi32>
// FMA:         arith.bitcast %[[FIRST]]
// FMA:         %[[SECOND:.+]] = arith.andi %{{.+}}, %{{.+}} : vector<16xi32>
// FMA:         arith.bitcast %[[SECOND]]
// FMA:         %[[SUM:.+]] = math.fma
// FMA:         math.fma %{{.+}}, %{{.+}}, %[[SUM]]
// FMA-NOT:     call_intrinsic

// CHECK-LABEL: rt.kernel @expanded_attention_16_32_32_
// CHECK:         %[[KEYS:.+]] = memref.alloca() {{.*}}: memref<32x128xi32>
// CHECK:         rt.page {{.+}} : memref<32x32xi32>
// CHECK:         vector.store %{{.+}}, %[[KEYS]]
// CHECK:         vector.load %[[KEYS]]
func.func private @latent(%q: tensor<?x1024xf32>, %c: tensor<?x32xf32>, %k: tensor<?x32xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !latents, %layer: index) -> tensor<?x512xf32> {
  %key = deepseek.use_weight @key : tensor<16x32x32xbf16>
  %value = deepseek.use_weight @value : tensor<16x32x32xbf16>
  %ql = deepseek.head_linear %q, %key : tensor<?x1024xf32>, tensor<16x32x32xbf16> -> tensor<?x512xf32>
  %u = deepseek.absorbed_attention %ql, %q, %c, %k at %positions of %sequences in %cache[%layer] heads 16 scale 1.25e-1 : tensor<?x512xf32>, tensor<?x1024xf32>, tensor<?x32xf32>, tensor<?x32xf32>, tensor<?xi32>, !latents -> tensor<?x512xf32>
  %o = deepseek.head_linear %u, %value : tensor<?x512xf32>, tensor<16x32x32xbf16> -> tensor<?x512xf32>
  return %o : tensor<?x512xf32>
}
