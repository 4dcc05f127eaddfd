// RUN: hadal-opt %s -split-input-file -deepseek-window-attention="tokens=8 sink=2" -verify-diagnostics | FileCheck %s

// Each kind of attention gets the window.

!heads = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>
!latent = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

// CHECK-LABEL: func.func @all
func.func @all(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %v: tensor<?x12xf32>, %lq: tensor<?x20xf32>, %aq: tensor<?x16xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %heads: !heads, %latents: !latent, %layer: index) {
  // CHECK: deepseek.attention {{.+}} scale 3.500000e-01 window <tokens = 8, sink = 2> :
  %0 = deepseek.attention %q, %k, %v at %p of %s in %heads[%layer] heads 4 scale 3.5e-1 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, !heads -> tensor<?x24xf32>
  // CHECK: deepseek.latent_attention {{.+}} scale 2.500000e-01 window <tokens = 8, sink = 2> :
  %1 = deepseek.latent_attention %lq, %c, %r, %kv_b at %p of %s in %latents[%layer] heads 2 scale 2.5e-1 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !latent -> tensor<?x10xf32>
  // CHECK: deepseek.absorbed_attention {{.+}} scale 2.500000e-01 window <tokens = 8, sink = 2> :
  %2 = deepseek.absorbed_attention %aq, %lq, %c, %r at %p of %s in %latents[%layer] heads 2 scale 2.5e-1 : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, !latent -> tensor<?x16xf32>
  return
}

// -----

// A wider window is replaced, with its sink; one that is no wider stays.

!heads = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>

// CHECK-LABEL: func.func @windowed
func.func @windowed(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %v: tensor<?x12xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %heads: !heads, %layer: index) {
  // CHECK: deepseek.attention {{.+}} window <tokens = 8, sink = 2> :
  %0 = deepseek.attention %q, %k, %v at %p of %s in %heads[%layer] heads 4 scale 3.5e-1 window <tokens = 9, sink = 5> : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, !heads -> tensor<?x24xf32>
  // CHECK: deepseek.attention {{.+}} window <tokens = 8, sink = 0> :
  // expected-remark @below {{keeps its window of 8 tokens, which is no wider than 8}}
  %1 = deepseek.attention %q, %k, %v at %p of %s in %heads[%layer] heads 4 scale 3.5e-1 window <tokens = 8, sink = 0> : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, !heads -> tensor<?x24xf32>
  return
}

// -----

// Tokens that an indexer chooses are not cut further.

!indexed = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32, index_dim = 6>

// CHECK-LABEL: func.func @selected
func.func @selected(%aq: tensor<?x16xf32>, %lq: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %sel: tensor<?x5xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !indexed, %layer: index) {
  // CHECK: deepseek.absorbed_attention {{.+}} scale 2.500000e-01 selected
  // expected-remark @below {{stays without a window: it sees the tokens that deepseek.select_keys chooses}}
  %2 = deepseek.absorbed_attention %aq, %lq, %c, %r at %p of %s in %cache[%layer] heads 2 scale 2.5e-1 selected %sel : tensor<?x5xi32> : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, !indexed -> tensor<?x16xf32>
  return
}

// -----

// Where no sequence leaves the window, there is nothing to hide.

!heads = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>

// expected-remark @below {{stays without a window of 8 tokens: no sequence has more than 8}}
deepseek.model @short vocab 64 hidden 32 layers 2 context 8 entry @forward {}
// CHECK-LABEL: func.func @forward
// CHECK: deepseek.attention {{.+}} scale 3.500000e-01 :
func.func @forward(%ids: tensor<?xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %rows: tensor<?xi32>, %heads: !heads) -> tensor<?x64xf32> {
  %t = deepseek.use_weight @table : tensor<64x32xbf16>
  %x = deepseek.embed %ids, %t : tensor<?xi32>, tensor<64x32xbf16> -> tensor<?x32xf32>
  %kv:2 = deepseek.split %x : tensor<?x32xf32> -> tensor<?x16xf32>, tensor<?x16xf32>
  %kw:2 = deepseek.split %kv#1 : tensor<?x16xf32> -> tensor<?x12xf32>, tensor<?x4xf32>
  %layer = arith.constant 0 : index
  %0 = deepseek.attention %x, %kv#0, %kw#0 at %p of %s in %heads[%layer] heads 4 scale 3.5e-1 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, !heads -> tensor<?x24xf32>
  %l = deepseek.lm_head %x, %t : tensor<?x32xf32>, tensor<64x32xbf16> -> tensor<?x64xf32>
  return %l : tensor<?x64xf32>
}
deepseek.weight @table : tensor<64x32xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<64x32xbf16>
  deepseek.yield %0 : tensor<64x32xbf16>
}

// By value: nothing changes for sequences within the window, and what does not
// fit into it changes the logits.

// RUN: hadal-opt %source/test/dialects/DeepSeek/Reference/Inputs/mla-moe.mlir -deepseek-run="tokens=3,1,4,1,5,9,2,6 check=0" -deepseek-window-attention="tokens=8" -deepseek-run="tokens=3,1,4,1,5,9,2,6 check=0" | FileCheck %s --check-prefix=BY-VALUE
// RUN: not hadal-opt %source/test/dialects/DeepSeek/Reference/Inputs/mla-moe.mlir -deepseek-run="tokens=3,1,4,1,5,9,2,6 check=1e-6" -deepseek-window-attention="tokens=7" -deepseek-run="tokens=3,1,4,1,5,9,2,6 check=1e-6" 2>&1 | FileCheck %s --check-prefix=LOSSY
// A sink of one makes up for the token that is out of a window of seven.
// RUN: hadal-opt %source/test/dialects/DeepSeek/Reference/Inputs/dense.mlir -deepseek-run="tokens=3,1,4,1,5,9,2,6 check=0" -deepseek-window-attention="tokens=7 sink=1" -deepseek-run="tokens=3,1,4,1,5,9,2,6 check=0" | FileCheck %s --check-prefix=BY-VALUE
// Absorbing a windowed attention changes nothing but the order of sums.
// RUN: hadal-opt %source/test/dialects/DeepSeek/Reference/Inputs/mla-moe.mlir -deepseek-window-attention="tokens=3 sink=1" -deepseek-run="tokens=3,1,4,1,5,9,2,6 check=1e-13" -deepseek-absorb-latent-attention -deepseek-run="tokens=3,1,4,1,5,9,2,6 check=1e-13" | FileCheck %s --check-prefix=ABSORBED

// BY-VALUE: window <tokens = {{[78]}}
// LOSSY: expects the logits of the first run within {{.+}} for token 7
// ABSORBED: deepseek.absorbed_attention {{.+}} window <tokens = 3, sink = 1>

// RUN: not hadal-opt %s -split-input-file -deepseek-window-attention="tokens=0" 2>&1 | FileCheck %s --check-prefix=ZERO
// ZERO: expects tokens > 0, but got 0

// What sees compressed entries has a window already, of its own.

// RUN: hadal-translate --import-hf %source/test/lib/Import/Inputs/DeepSeek-V4-Flash --weights=none --context=8192 -o %t.v4.mlir
// RUN: hadal-opt %t.v4.mlir -deepseek-window-attention="tokens=64" 2>&1 -o /dev/null | FileCheck %s --check-prefix=COMPRESSED
// COMPRESSED: remark: keeps its window of 128 tokens, in front of compressed entries
