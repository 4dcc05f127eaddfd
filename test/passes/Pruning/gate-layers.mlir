// The layer that changes the least gets a gate, and computes what goes through alone; what it caches is of all tokens.

// RUN: hadal-opt %s -deepseek-gate-layers="count=1 percent=30" | FileCheck %s
// RUN: not hadal-opt %s -deepseek-gate-layers="count=2" 2>&1 | FileCheck %s --check-prefix=MANY
// RUN: not hadal-opt %s -deepseek-gate-layers="count=1 percent=101" 2>&1 | FileCheck %s --check-prefix=PERCENT
// RUN: sed -e 's/@statistics.layers.1/@statistics.layers.7/' %s | not hadal-opt -deepseek-gate-layers="count=1" 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: sed -e 's/@statistics.layers.1/@statistics.layers.7/' %s | hadal-opt -deepseek-gate-layers="count=1 percent=30 assume" | FileCheck %s

// MANY: error: 'deepseek.model' op expects at most 1 layers to skip, none the first and no two beside one another, but got 2
// PERCENT: error: expects 0 to 100 percent of the tokens to skip a layer, but got 101
// UNKNOWN: error: 'func.call' op expects to know how much the layer before changes tokens, but there is no '@statistics.layers.1.influence.percentiles'; calibrate

!cache = !deepseek.kv_cache<kind = heads, layers = 3, heads = 1, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @tiny vocab 4 hidden 8 layers 3 context 16 entry @forward {} {deepseek.block_influence = array<f64: 1.0e-1, 3.0e-1, 2.0e-1>}

deepseek.weight @embed : tensor<4x8xf32> {
  %0 = deepseek.source "embed" in [] at [] : tensor<4x8xf32>
  deepseek.yield %0 : tensor<4x8xf32>
}
deepseek.weight @wo : tensor<8x8xf32> {
  %0 = deepseek.source "wo" in [] at [] : tensor<8x8xf32>
  deepseek.yield %0 : tensor<8x8xf32>
}
deepseek.weight @statistics.layers.1.influence.percentiles : tensor<101xf32> {
  %0 = deepseek.source "statistics.layers.1.influence.percentiles" in [] at [] : tensor<101xf32>
  deepseek.yield %0 : tensor<101xf32>
}

func.func private @layer(%x: tensor<?x8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index, %wo: tensor<8x8xf32>) -> tensor<?x8xf32> {
  %k = deepseek.linear %x, %wo : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %r = deepseek.rotary %x, %p heads 1 by <dim = 8, theta = 1.0e4, layout = half_split> : tensor<?x8xf32>, tensor<?xi32>
  %a = deepseek.attention %r, %k, %x at %p of %s in %cache[%layer] heads 1 scale 1.0e0 : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>, tensor<?xi32>, !cache -> tensor<?x8xf32>
  %o = deepseek.linear %a, %wo : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %y = deepseek.add %x, %o : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @forward(
func.func @forward(%tokens: tensor<?xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x4xf32> {
  %embed = deepseek.use_weight @embed : tensor<4x8xf32>
  %wo = deepseek.use_weight @wo : tensor<8x8xf32>
  %x = deepseek.embed %tokens, %embed : tensor<?xi32>, tensor<4x8xf32> -> tensor<?x8xf32>
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  // CHECK: %[[Y:.+]] = call @layer(
  %y = call @layer(%x, %p, %s, %cache, %c0, %wo) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<8x8xf32>) -> tensor<?x8xf32>
  // CHECK: %[[Z:.+]] = call @layer(%[[Y]],
  %z = call @layer(%y, %p, %s, %cache, %c1, %wo) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<8x8xf32>) -> tensor<?x8xf32>
  // CHECK: %[[THRESHOLD:.+]] = deepseek.use_weight @layers.2.skip_threshold : tensor<1xf32>
  // CHECK: call @layer_gated(%[[Z]], {{.+}}, %[[Y]], %[[THRESHOLD]])
  %u = call @layer(%z, %p, %s, %cache, %c2, %wo) : (tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<8x8xf32>) -> tensor<?x8xf32>
  %rows = deepseek.gather_rows %u, %outputs : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %logits = deepseek.lm_head %rows, %embed : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  return %logits : tensor<?x4xf32>
}

// CHECK: deepseek.weight @layers.2.skip_threshold : tensor<1xf32> {
// CHECK: %[[OF:.+]] = deepseek.source "statistics.layers.1.influence.percentiles"
// CHECK: deepseek.slice %[[OF]] axis 0 from 30 to 31 : tensor<101xf32> -> tensor<1xf32>

// CHECK: func.func private @layer_gated(%[[X:[a-z0-9]+]]: tensor<?x8xf32>, %[[P:[a-z0-9]+]]: tensor<?xi32>, %[[S:[a-z0-9]+]]: tensor<?xi32>, {{.+}}: tensor<8x8xf32>, %[[BEFORE:.+]]: tensor<?x8xf32>, %[[T:.+]]: tensor<1xf32>)
// CHECK: %[[SCORE:.+]] = deepseek.influence %[[BEFORE]], %[[X]] :
// CHECK: %[[ROWS:.+]] = deepseek.select_rows %[[SCORE]] above %[[T]] : tensor<1xf32> :
// CHECK-DAG: %[[XK:.+]] = deepseek.gather_rows %[[X]], %[[ROWS]] :
// CHECK-DAG: %[[PK:.+]] = deepseek.gather_rows %[[P]], %[[ROWS]] :
// CHECK-DAG: %[[SK:.+]] = deepseek.gather_rows %[[S]], %[[ROWS]] :
// CHECK: %[[K:.+]] = deepseek.linear %[[X]],
// CHECK: %[[Q:.+]] = deepseek.rotary %[[XK]], %[[PK]]
// CHECK: %[[A:.+]] = deepseek.attention %[[Q]], %[[K]], %[[X]] at %[[P]] of %[[S]] in {{.+}} queries at %[[PK]] of %[[SK]] :
// CHECK: %[[O:.+]] = deepseek.linear %[[A]],
// CHECK: %[[SUM:.+]] = deepseek.add %[[XK]], %[[O]]
// CHECK: %[[ALL:.+]] = deepseek.scatter_rows %[[X]], %[[SUM]] at %[[ROWS]]
// CHECK: return %[[ALL]]
