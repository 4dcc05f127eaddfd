// Attention with a window, and over selected tokens: what is dispatched, what
// the arena has, and what the program says.

// RUN: hadal-opt %s -split-input-file -deepseek-pack-weights -convert-deepseek-to-rt | FileCheck %s --enable-var-scope

// The widest window and the largest sink of any layer are the program's. A
// window of 600 tokens can touch 20 pages, which is more than a segment of 16:
// up to three segments a row, not the 32 of the context.

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 64, value_dim = 32, element = f32>

// CHECK: rt.program @m entry @forward
// CHECK-SAME: sink_tokens = 4 : i64
// CHECK-SAME: window_tokens = 600 : i64
deepseek.model @m vocab 64 hidden 32 layers 2 context 16384 entry @forward {}
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

// CHECK-LABEL: func.func private @wide
// CHECK: rt.alloc %{{.+}} bytes 0 * tokens + {{.+}} : memref<21x4x32xf32>
// CHECK: rt.dispatch @attention_split_3_window_600_0_4_heads
// CHECK: rt.dispatch @merge_segments_window_600_0_1x4x32_of_3
// CHECK: rt.dispatch @attention_window_600_0_4_heads
func.func private @wide(%q: tensor<?x256xf32>, %k: tensor<?x128xf32>, %v: tensor<?x64xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x128xf32> {
  %0 = deepseek.attention %q, %k, %v at %positions of %sequences in %cache[%layer] heads 4 scale 0.125 window <tokens = 600, sink = 0> : tensor<?x256xf32>, tensor<?x128xf32>, tensor<?x64xf32>, tensor<?xi32>, !cache -> tensor<?x128xf32>
  return %0 : tensor<?x128xf32>
}

// What fits a segment is not split.

// CHECK-LABEL: func.func private @narrow
// CHECK-NOT: attention_split
// CHECK: rt.dispatch @attention_window_64_4_4_heads
func.func private @narrow(%q: tensor<?x256xf32>, %k: tensor<?x128xf32>, %v: tensor<?x64xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x128xf32> {
  %0 = deepseek.attention %q, %k, %v at %positions of %sequences in %cache[%layer] heads 4 scale 0.125 window <tokens = 64, sink = 4> : tensor<?x256xf32>, tensor<?x128xf32>, tensor<?x64xf32>, tensor<?xi32>, !cache -> tensor<?x128xf32>
  return %0 : tensor<?x128xf32>
}

// -----

// One layer without a window keeps all pages.

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 64, value_dim = 32, element = f32>

// CHECK: rt.program @m entry @forward
// CHECK-NOT: window_tokens
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
// CHECK-LABEL: func.func private @mixed
func.func private @mixed(%q: tensor<?x256xf32>, %k: tensor<?x128xf32>, %v: tensor<?x64xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %first: index, %second: index) -> (tensor<?x128xf32>, tensor<?x128xf32>) {
  %0 = deepseek.attention %q, %k, %v at %positions of %sequences in %cache[%first] heads 4 scale 0.125 window <tokens = 64, sink = 4> : tensor<?x256xf32>, tensor<?x128xf32>, tensor<?x64xf32>, tensor<?xi32>, !cache -> tensor<?x128xf32>
  %1 = deepseek.attention %q, %k, %v at %positions of %sequences in %cache[%second] heads 4 scale 0.125 : tensor<?x256xf32>, tensor<?x128xf32>, tensor<?x64xf32>, tensor<?xi32>, !cache -> tensor<?x128xf32>
  return %0, %1 : tensor<?x128xf32>, tensor<?x128xf32>
}
