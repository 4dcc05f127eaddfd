// Of three layers the one that changes the least goes.

// RUN: hadal-opt %s -deepseek-prune-layers="amount=1" | FileCheck %s

!cache = !deepseek.kv_cache<kind = heads, layers = 3, heads = 1, key_dim = 8, value_dim = 8, element = f32>

// CHECK: deepseek.model @tiny vocab 4 hidden 8 layers 2 context 16 entry @forward {}{{$}}
deepseek.model @tiny vocab 4 hidden 8 layers 3 context 16 entry @forward {} {deepseek.block_influence = array<f64: 5.0e-1, 1.0e-1, 2.0e-1>}

// CHECK: deepseek.weight @w.0
// CHECK-NOT: deepseek.weight @w.1
// CHECK: deepseek.weight @w.2
deepseek.weight @w.0 : tensor<8xf32> {
  %0 = deepseek.source "w.0" in [] at [] : tensor<8xf32>
  deepseek.yield %0 : tensor<8xf32>
}
deepseek.weight @w.1 : tensor<8xf32> {
  %0 = deepseek.source "w.1" in [] at [] : tensor<8xf32>
  deepseek.yield %0 : tensor<8xf32>
}
deepseek.weight @w.2 : tensor<8xf32> {
  %0 = deepseek.source "w.2" in [] at [] : tensor<8xf32>
  deepseek.yield %0 : tensor<8xf32>
}
deepseek.weight @embed : tensor<4x8xf32> {
  %0 = deepseek.source "embed" in [] at [] : tensor<4x8xf32>
  deepseek.yield %0 : tensor<4x8xf32>
}

func.func private @layer(%x: tensor<?x8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index, %w: tensor<8xf32>) -> tensor<?x8xf32> {
  %h = deepseek.rms_norm %x, %w epsilon 1.0e-6 : tensor<?x8xf32>, tensor<8xf32>
  %a = deepseek.attention %h, %h, %h at %p of %s in %cache[%layer] heads 1 scale 1.0e0 : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>, tensor<?xi32>, !cache -> tensor<?x8xf32>
  %y = deepseek.add %x, %a : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// CHECK: func.func @forward(
func.func @forward(%tokens: tensor<?xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x4xf32> {
  %embed = deepseek.use_weight @embed : tensor<4x8xf32>
  // CHECK: %[[X:.+]] = deepseek.embed
  %x = deepseek.embed %tokens, %embed : tensor<?xi32>, tensor<4x8xf32> -> tensor<?x8xf32>
  %w0 = deepseek.use_weight @w.0 : tensor<8xf32>
  %w1 = deepseek.use_weight @w.1 : tensor<8xf32>
  %w2 = deepseek.use_weight @w.2 : tensor<8xf32>
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  // CHECK: %[[Y:.+]] = call @layer(%[[X]],
  %y = call @layer(%x, %p, %s, %cache, %c0, %w0) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<8xf32>) -> tensor<?x8xf32>
  %z = call @layer(%y, %p, %s, %cache, %c1, %w1) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<8xf32>) -> tensor<?x8xf32>
  // CHECK: %[[ONE:.+]] = arith.constant 1 : index
  // CHECK: call @layer(%[[Y]], %{{.+}}, %{{.+}}, %{{.+}}, %[[ONE]],
  // CHECK-NOT: call @layer
  %u = call @layer(%z, %p, %s, %cache, %c2, %w2) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<8xf32>) -> tensor<?x8xf32>
  %rows = deepseek.gather_rows %u, %outputs : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %logits = deepseek.lm_head %rows, %embed : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  return %logits : tensor<?x4xf32>
}
