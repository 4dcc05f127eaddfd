// What is known of a weight's inputs is cut as the weight is, for passes that come after.

// RUN: hadal-opt %s -deepseek-prune-channels="amount=40%" -deepseek-quantize="scheme=int4-g32 method=gptq" 2>/dev/null | FileCheck %s

// CHECK: deepseek.weight @down : tensor<32x64xi4>
// CHECK: deepseek.select %{{.+}} by %{{.+}} axis 1 keep 64 groups 1 : tensor<32x96xf32>
// CHECK: deepseek.source "m"
// CHECK: %[[M:.+]] = deepseek.select %{{.+}} by %{{.+}} axis 0 keep 64 groups 1 : tensor<96xf32>
// CHECK: deepseek.source "g"
// CHECK: deepseek.select %{{.+}} by %{{.+}} axis 0 keep 64 groups 1 : tensor<96x96xf32>
// CHECK: %[[G:.+]] = deepseek.select %{{.+}} by %{{.+}} axis 1 keep 64 groups 1 : tensor<64x96xf32>
// CHECK: deepseek.quantize %{{.+}} moment %[[M]] : tensor<64xf32> gram %[[G]] : tensor<64x64xf32>
deepseek.weight @down : tensor<32x96xf32> {
  %0 = deepseek.source "down" in [] at [] : tensor<32x96xf32>
  deepseek.yield %0 : tensor<32x96xf32>
}
deepseek.weight @gate : tensor<96x32xf32> {
  %0 = deepseek.source "gate" in [] at [] : tensor<96x32xf32>
  deepseek.yield %0 : tensor<96x32xf32>
}
deepseek.weight @up : tensor<96x32xf32> {
  %0 = deepseek.source "up" in [] at [] : tensor<96x32xf32>
  deepseek.yield %0 : tensor<96x32xf32>
}
deepseek.weight @statistics.down.moment : tensor<96xf32> {
  %0 = deepseek.source "m" in ["@statistics"] at [0] : tensor<96xf32>
  deepseek.yield %0 : tensor<96xf32>
}
deepseek.weight @statistics.down.gram : tensor<96x96xf32> {
  %0 = deepseek.source "g" in ["@statistics"] at [384] : tensor<96x96xf32>
  deepseek.yield %0 : tensor<96x96xf32>
}
func.func @ffn(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %gate = deepseek.use_weight @gate : tensor<96x32xf32>
  %up = deepseek.use_weight @up : tensor<96x32xf32>
  %down = deepseek.use_weight @down : tensor<32x96xf32>
  %g = deepseek.linear %x, %gate : tensor<?x32xf32>, tensor<96x32xf32> -> tensor<?x96xf32>
  %u = deepseek.linear %x, %up : tensor<?x32xf32>, tensor<96x32xf32> -> tensor<?x96xf32>
  %s = deepseek.swiglu %g, %u : tensor<?x96xf32>
  %y = deepseek.linear %s, %down : tensor<?x96xf32>, tensor<32x96xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
