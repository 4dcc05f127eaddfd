// Attention of GPUs, whose blocks of threads share what they read.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=cuda" -split-input-file | FileCheck %s --enable-var-scope

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 64, value_dim = 64, element = bf16>

deepseek.model @m vocab 64 hidden 32 layers 2 context 2048 entry @forward {}
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
func.func private @attention(%q: tensor<?x768xf32>, %k: tensor<?x128xf32>, %v: tensor<?x128xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x768xf32> {
  %a = deepseek.attention %q, %k, %v at %positions of %sequences in %cache[%layer] heads 12 scale 1.25e-1 : tensor<?x768xf32>, tensor<?x128xf32>, tensor<?x128xf32>, tensor<?xi32>, !cache -> tensor<?x768xf32>
  return %a : tensor<?x768xf32>
}

// A token takes a block for the six heads of a key and a strand of its segments
// of 1024 tokens, and others five rows of them: 30 of 32 slots.

// CHECK-LABEL: rt.kernel @attention_split_2_12_heads_2x64_64_of_2_32_bf16
// CHECK:         rt.block_attention %{{.+}} to %{{.+}} of %{{.+}}(%{{.+}}, %{{.+}}, %{{.+}}, %{{.+}}) into %{{.+}}, %{{.+}} {block_heads = 6 : i64, block_rows = 1 : i64, element = bf16, head_bytes = 8192 : i64, heads = 12 : i64, key_dim = 64 : i64, kv_heads = 2 : i64, {{.*}}segment_tokens = 1024 : i64, segments = 2 : i64, {{.*}}value_dim = 64 : i64, value_offset = 4096 : i64
// CHECK-LABEL: rt.kernel @attention_12_heads_2x64_64_of_2_32_bf16
// CHECK:         rt.block_attention {{.+}} into %{{.+}} rows %{{.+}} by %{{.+}} {block_heads = 6 : i64, block_rows = 5 : i64

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 1024, value_dim = 1024, element = f32>

deepseek.model @m vocab 64 hidden 32 layers 2 context 2048 entry @forward {}
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
func.func private @attention(%q: tensor<?x2048xf32>, %k: tensor<?x2048xf32>, %v: tensor<?x2048xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x2048xf32> {
  %a = deepseek.attention %q, %k, %v at %positions of %sequences in %cache[%layer] heads 2 scale 1.25e-1 : tensor<?x2048xf32>, tensor<?x2048xf32>, tensor<?x2048xf32>, tensor<?xi32>, !cache -> tensor<?x2048xf32>
  return %a : tensor<?x2048xf32>
}

// Keys and values that do not fit into shared memory.

// CHECK-LABEL: rt.kernel @attention_2_heads_2x1024_1024_of_2_32
// CHECK-NOT:     rt.block_attention
// CHECK:         memref.alloca() {alignment = 64 : i64} : memref<{{.+}}x1024xf32>
