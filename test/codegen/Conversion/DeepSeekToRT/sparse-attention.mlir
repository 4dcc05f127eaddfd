// Attention over the tokens that an indexer selects.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt | FileCheck %s --enable-var-scope

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 48, value_dim = 32, element = f32, index_dim = 16>

// A page has 32 latents of 48 and 32 index keys of 16, for two layers.

// CHECK: rt.program @m entry @forward
// CHECK-SAME: page_bytes = 16384 : i64
deepseek.model @m vocab 64 hidden 32 layers 2 context 2040 entry @forward {}
deepseek.weight @table : tensor<64x32xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<64x32xbf16>
  deepseek.yield %0 : tensor<64x32xbf16>
}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %rows: tensor<?xi32>, %cache: !cache) -> tensor<?x64xf32> {
  %table = deepseek.use_weight @table : tensor<64x32xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<64x32xbf16> -> tensor<?x32xf32>
  %l = deepseek.lm_head %x, %table : tensor<?x32xf32>, tensor<64x32xbf16> -> tensor<?x64xf32>
  return %l : tensor<?x64xf32>
}

// Scores are rows of whole pages, the only buffer that grows with the context.

// CHECK-LABEL: func.func private @sparse
// CHECK: rt.dispatch @append_index_16_at_6144_of_16384
// CHECK: %[[SELECTED:.+]] = rt.alloc %{{.+}} bytes 448 * tokens + 0 : memref<?x112xi32
// CHECK: %[[SCORES:.+]] = rt.alloc %{{.+}} bytes 8192 * tokens + 0 : memref<?x2048xf32
// CHECK: %[[ITEMS:.+]] = arith.muli %{{.+}}, %c64
// CHECK: rt.dispatch @index_scores_3_16_at_6144_of_16384_of_100_by_64{{.*}} items %[[ITEMS]] of {{.+}} %[[SCORES]])
// CHECK: rt.dispatch @select_top_100{{.*}} of %{{.+}}(%[[SCORES]], %{{.+}}, %[[SELECTED]])
// CHECK: rt.dispatch @append_cache_latent
// CHECK: rt.dispatch @absorbed_attention_selected_100_4{{.*}} of {{.+}}, %[[SELECTED]], %
func.func private @sparse(%iq: tensor<?x48xf32>, %ik: tensor<?x16xf32>, %iw: tensor<?x3xf32>, %q: tensor<?x128xf32>, %rq: tensor<?x128xf32>, %c: tensor<?x32xf32>, %r: tensor<?x16xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x128xf32> {
  %sel = deepseek.select_keys %iq, %ik, %iw at %positions of %sequences in %cache[%layer] heads 3 top_k 100 scale 0.25 : tensor<?x48xf32>, tensor<?x16xf32>, tensor<?x3xf32>, tensor<?xi32>, !cache -> tensor<?x100xi32>
  %0 = deepseek.absorbed_attention %q, %rq, %c, %r at %positions of %sequences in %cache[%layer] heads 4 scale 0.125 selected %sel : tensor<?x100xi32> : tensor<?x128xf32>, tensor<?x128xf32>, tensor<?x32xf32>, tensor<?x16xf32>, tensor<?xi32>, !cache -> tensor<?x128xf32>
  return %0 : tensor<?x128xf32>
}

// Latents of 32 selected tokens at a time are gathered, each from its page.

// CHECK-LABEL: rt.kernel @absorbed_attention_selected_100_4
// CHECK: %[[GATHERED:.+]] = memref.alloca() {alignment = 64 : i64} : memref<32x48xf32>
// CHECK: rt.page {{.+}} : memref<32x48xf32>
// CHECK: vector.store %{{.+}}, %[[GATHERED]]
