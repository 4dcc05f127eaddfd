// A gated network and experts lose channels; what is left is a multiple of 32.

// RUN: hadal-opt %s -deepseek-prune-channels="amount=40%" | FileCheck %s

// CHECK: deepseek.weight @gate : tensor<64x8xf32>
// CHECK: %[[D:.+]] = deepseek.source "down"
// CHECK-NEXT: %[[M:.+]] = deepseek.source "m"
// CHECK-NEXT: %[[I:.+]] = deepseek.importance %[[D]] moment %[[M]] : tensor<96xf32> group 1 : tensor<8x96xf32> -> tensor<96xf32>
// CHECK-NEXT: deepseek.select %{{.+}} by %[[I]] axis 0 keep 64 groups 1 : tensor<96x8xf32>, tensor<96xf32> -> tensor<64x8xf32>
deepseek.weight @gate : tensor<96x8xf32> {
  %0 = deepseek.source "gate" in [] at [] : tensor<96x8xf32>
  deepseek.yield %0 : tensor<96x8xf32>
}
// CHECK: deepseek.weight @up : tensor<64x8xf32>
deepseek.weight @up : tensor<96x8xf32> {
  %0 = deepseek.source "up" in [] at [] : tensor<96x8xf32>
  deepseek.yield %0 : tensor<96x8xf32>
}
// CHECK: deepseek.weight @down : tensor<8x64xf32>
// CHECK: axis 1 keep 64 groups 1 : tensor<8x96xf32>, tensor<96xf32> -> tensor<8x64xf32>
deepseek.weight @down : tensor<8x96xf32> {
  %0 = deepseek.source "down" in [] at [] : tensor<8x96xf32>
  deepseek.yield %0 : tensor<8x96xf32>
}
deepseek.weight @statistics.down.moment : tensor<96xf32> {
  %0 = deepseek.source "m" in [] at [] : tensor<96xf32>
  deepseek.yield %0 : tensor<96xf32>
}

// CHECK: deepseek.linear %{{.+}}, %{{.+}} : tensor<?x8xf32>, tensor<64x8xf32> -> tensor<?x64xf32>
// CHECK: deepseek.swiglu %{{.+}}, %{{.+}} : tensor<?x64xf32>
// CHECK: deepseek.linear %{{.+}}, %{{.+}} : tensor<?x64xf32>, tensor<8x64xf32> -> tensor<?x8xf32>
func.func @ffn(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %gate = deepseek.use_weight @gate : tensor<96x8xf32>
  %up = deepseek.use_weight @up : tensor<96x8xf32>
  %down = deepseek.use_weight @down : tensor<8x96xf32>
  %g = deepseek.linear %x, %gate : tensor<?x8xf32>, tensor<96x8xf32> -> tensor<?x96xf32>
  %u = deepseek.linear %x, %up : tensor<?x8xf32>, tensor<96x8xf32> -> tensor<?x96xf32>
  %s = deepseek.swiglu %g, %u : tensor<?x96xf32>
  %y = deepseek.linear %s, %down : tensor<?x96xf32>, tensor<8x96xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
