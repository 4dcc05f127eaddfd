// A layer that has a trained gate is skipped by it; with a bias it is another function. Nothing else is touched.

// RUN: hadal-opt %s -deepseek-gate-layers | FileCheck %s

!cache = !deepseek.kv_cache<kind = heads, layers = 3, heads = 1, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @tiny vocab 4 hidden 8 layers 3 context 16 entry @forward {}

deepseek.weight @embed : tensor<4x8xf32> {
  %0 = deepseek.source "embed" in [] at [] : tensor<4x8xf32>
  deepseek.yield %0 : tensor<4x8xf32>
}
deepseek.weight @layers.0.skip_gate : tensor<1x8xf32> {
  %0 = deepseek.source "a" in [] at [] : tensor<1x8xf32>
  deepseek.yield %0 : tensor<1x8xf32>
}
deepseek.weight @layers.2.skip_gate : tensor<1x8xf32> {
  %0 = deepseek.source "b" in [] at [] : tensor<1x8xf32>
  deepseek.yield %0 : tensor<1x8xf32>
}
deepseek.weight @layers.2.skip_gate.bias : tensor<1xf32> {
  %0 = deepseek.source "c" in [] at [] : tensor<1xf32>
  deepseek.yield %0 : tensor<1xf32>
}

func.func private @layer(%x: tensor<?x8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x8xf32> {
  %a = deepseek.attention %x, %x, %x at %p of %s in %cache[%layer] heads 1 scale 1.0e0 : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>, tensor<?xi32>, !cache -> tensor<?x8xf32>
  %y = deepseek.add %x, %a : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @forward(
func.func @forward(%tokens: tensor<?xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x4xf32> {
  %embed = deepseek.use_weight @embed : tensor<4x8xf32>
  %x = deepseek.embed %tokens, %embed : tensor<?xi32>, tensor<4x8xf32> -> tensor<?x8xf32>
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  // CHECK: %[[GATE:.+]] = deepseek.use_weight @layers.0.skip_gate : tensor<1x8xf32>
  // CHECK: call @[[PLAIN:layer_gated[_0-9]*]]({{.+}}, %[[GATE]])
  %y = call @layer(%x, %p, %s, %cache, %c0) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index) -> tensor<?x8xf32>
  // CHECK: call @layer(
  %z = call @layer(%y, %p, %s, %cache, %c1) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index) -> tensor<?x8xf32>
  // CHECK: %[[LAST:.+]] = deepseek.use_weight @layers.2.skip_gate : tensor<1x8xf32>
  // CHECK: %[[BIAS:.+]] = deepseek.use_weight @layers.2.skip_gate.bias : tensor<1xf32>
  // CHECK: call @[[BIASED:layer_gated[_0-9]*]]({{.+}}, %[[LAST]], %[[BIAS]])
  %u = call @layer(%z, %p, %s, %cache, %c2) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index) -> tensor<?x8xf32>
  %rows = deepseek.gather_rows %u, %outputs : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %logits = deepseek.lm_head %rows, %embed : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  return %logits : tensor<?x4xf32>
}

// CHECK: func.func private @[[PLAIN]](%[[X:[a-z0-9]+]]: tensor<?x8xf32>,
// CHECK: %[[SCORE:.+]] = deepseek.linear %[[X]], %{{.+}} : tensor<?x8xf32>, tensor<1x8xf32> -> tensor<?x1xf32>
// CHECK: deepseek.select_rows %[[SCORE]] : tensor<?x1xf32> -> tensor<?xi32>

// CHECK: func.func private @[[BIASED]](
// CHECK: deepseek.linear %{{.+}}, %{{.+}} bias %{{.+}}
