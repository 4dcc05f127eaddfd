// Tokens that leave before a layer are out of all later ones: what says so is computed once, and each later layer takes those that
// have not left, and of them those that its own gate lets through.

// RUN: hadal-opt %s -deepseek-gate-layers="exit-before=1 exit-percent=30" | FileCheck %s
// RUN: not hadal-opt %s -deepseek-gate-layers="exit-before=3 exit-percent=30" 2>&1 | FileCheck %s --check-prefix=LAST
// RUN: not hadal-opt %s -deepseek-gate-layers="exit-before=1,1 exit-percent=30,40" 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not hadal-opt %s -deepseek-gate-layers="exit-before=1,2 exit-percent=30" 2>&1 | FileCheck %s --check-prefix=NUMBER
// RUN: not hadal-opt %s -deepseek-gate-layers="exit-before=1 exit-percent=101" 2>&1 | FileCheck %s --check-prefix=PERCENT
// RUN: not hadal-opt %s -deepseek-gate-layers="exit-before=2 exit-percent=30" 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: sed -e 's/@layers.2.skip_gate/@layers.0.skip_gate/' %s | not hadal-opt -deepseek-gate-layers="exit-before=1 exit-percent=30" 2>&1 | FileCheck %s --check-prefix=GATED

// LAST: error: 'deepseek.model' op expects tokens to leave before one of the layers 1 to 2, but got 3
// TWICE: error: 'deepseek.model' op expects tokens to leave once before layer 1, but got it twice
// NUMBER: error: 'deepseek.model' op expects a percentage for each layer that tokens leave before, but got 1 for 2
// PERCENT: error: 'deepseek.model' op expects 0 to 100 percent of the tokens to leave, but got 101
// UNKNOWN: error: 'func.call' op expects to know how much the layer before changes tokens, but there is no '@statistics.layers.1.influence.percentiles'; calibrate
// GATED: error: 'deepseek.model' op expects tokens to leave by what the layer before has changed, but layer 0 has a gate

!cache = !deepseek.kv_cache<kind = heads, layers = 3, heads = 1, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @tiny vocab 4 hidden 8 layers 3 context 16 entry @forward {}

deepseek.weight @embed : tensor<4x8xf32> {
  %0 = deepseek.source "embed" in [] at [] : tensor<4x8xf32>
  deepseek.yield %0 : tensor<4x8xf32>
}
deepseek.weight @layers.2.exit_gate : tensor<1x8xf32> {
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

deepseek.weight @statistics.layers.0.influence.percentiles : tensor<101xf32> {
  %0 = deepseek.source "statistics.layers.0.influence.percentiles" in [] at [] : tensor<101xf32>
  deepseek.yield %0 : tensor<101xf32>
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
  // CHECK: %[[Y:.+]] = call @layer(%[[X:[a-z0-9]+]],
  %y = call @layer(%x, %p, %s, %cache, %c0) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index) -> tensor<?x8xf32>
  // CHECK-DAG: %[[T:.+]] = deepseek.use_weight @layers.1.exit_threshold : tensor<1xf32>
  // CHECK-DAG: %[[FIRST:.+]] = deepseek.influence %[[X]], %[[Y]] : tensor<?x8xf32> -> tensor<?x1xf32>
  // CHECK: %[[Z:.+]] = call @[[ONE:layer_gated[_0-9]*]](%[[Y]], {{.+}}, %[[FIRST]], %[[T]])
  %z = call @layer(%y, %p, %s, %cache, %c1) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index) -> tensor<?x8xf32>
  // CHECK: %[[W:.+]] = deepseek.use_weight @layers.2.exit_gate : tensor<1x8xf32>
  // CHECK: %[[SECOND:.+]] = deepseek.linear %[[Z]], %[[W]] :
  // CHECK: call @[[TWO:layer_gated[_0-9]*]](%[[Z]], {{.+}}, %[[FIRST]], %[[T]], %[[SECOND]], %{{.+}}, %{{.+}})
  %u = call @layer(%z, %p, %s, %cache, %c2) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index) -> tensor<?x8xf32>
  %rows = deepseek.gather_rows %u, %outputs : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %logits = deepseek.lm_head %rows, %embed : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  return %logits : tensor<?x4xf32>
}

// CHECK: deepseek.weight @layers.1.exit_threshold : tensor<1xf32> {
// CHECK: deepseek.slice %{{.+}} axis 0 from 30 to 31 :

// CHECK: func.func private @[[ONE]](%[[X:[a-z0-9]+]]: tensor<?x8xf32>, {{.+}}, %[[S:[a-z0-9]+]]: tensor<?x1xf32>, %[[T:[a-z0-9]+]]: tensor<1xf32>)
// CHECK: %[[ROWS:.+]] = deepseek.select_rows %[[S]] above %[[T]] : tensor<1xf32> :
// CHECK: deepseek.gather_rows %[[X]], %[[ROWS]]
// CHECK: deepseek.scatter_rows %[[X]], %{{.+}} at %[[ROWS]]

// CHECK: func.func private @[[TWO]](%[[X:[a-z0-9]+]]: tensor<?x8xf32>, {{.+}}, %[[S:[a-z0-9]+]]: tensor<?x1xf32>, %[[T:[a-z0-9]+]]: tensor<1xf32>, %[[U:[a-z0-9]+]]: tensor<?x1xf32>,
// CHECK: %[[OWN:.+]] = deepseek.linear %[[X]], %{{.+}} bias
// CHECK-NEXT: %[[A:.+]] = deepseek.select_rows %[[S]] above %[[T]] : tensor<1xf32> :
// CHECK-NEXT: %[[B:.+]] = deepseek.select_rows %[[U]] among %[[A]] : tensor<?xi32> :
// CHECK-NEXT: %[[C:.+]] = deepseek.select_rows %[[OWN]] among %[[B]] : tensor<?xi32> :
// CHECK: deepseek.scatter_rows %[[X]], %{{.+}} at %[[C]]
