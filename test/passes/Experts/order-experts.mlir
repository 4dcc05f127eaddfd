// Experts are stored by how much they are chosen, each with its own bits, and a map says where each is.

// DEFINE: %{moe} = %source/test/passes/Quantization/Inputs/moe.mlir
// DEFINE: %{run} = -deepseek-run="tokens=3,1,4,1,5,9,2,6
// RUN: hadal-opt %{moe} %{run} check=0" -deepseek-order-experts="assume=true" %{run} check=0" | FileCheck %s
// RUN: not hadal-opt %{moe} -deepseek-order-experts 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: hadal-opt %{moe} -deepseek-merge-experts="count=2" -deepseek-order-experts="assume=true" 2>&1 >/dev/null | FileCheck %s --check-prefix=MERGED
// RUN: not hadal-opt %source/test/dialects/DeepSeek/Reference/Inputs/dense.mlir -deepseek-order-experts 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: hadal-opt %s -deepseek-order-experts 2>&1 | FileCheck %s --check-prefix=STORED

// CHECK: deepseek.weight @router : tensor<4x64xbf16>
// CHECK-NEXT: deepseek.source "router"
// CHECK-NEXT: deepseek.yield
// CHECK: deepseek.weight @router.map : tensor<4xi32>
// CHECK-NEXT: %[[MASS:.+]] = deepseek.source "router.mass" in [] at [] : tensor<4xf32>
// CHECK-NEXT: %[[RANK:.+]] = deepseek.rank %[[MASS]] : tensor<4xf32> -> tensor<4xi32>
// CHECK-NEXT: deepseek.yield %[[RANK]]
// CHECK: deepseek.weight @experts.gate : tensor<4x32x64xbf16>
// CHECK: deepseek.select %{{.+}} by %{{.+}} axis 0 keep 4 groups 1 sorted : tensor<4x32x64xbf16>, tensor<4xf32> -> tensor<4x32x64xbf16>
// CHECK: deepseek.weight @experts.down : tensor<4x64x32xbf16>
// CHECK: deepseek.select %{{.+}} by %{{.+}} axis 0 keep 4 groups 1 sorted
// CHECK: deepseek.router %{{.+}} map %{{.+}} : tensor<4xi32> by

// UNKNOWN: 'deepseek.router' op expects to know how often each expert is chosen, but there is no '@statistics.router.mass'; calibrate
// MERGED: remark: keeps its experts in their order: they are merged
// NONE: error: expects a model with experts to order, but it has no router

// Integers of a checkpoint are kept as they are, in their order.

// STORED: remark: keeps its experts in their order: they stay the integers that the checkpoint has
// STORED-NOT: deepseek.select
deepseek.weight @router : tensor<4x64xf32> {
  %0 = deepseek.source "router" in [] at [] : tensor<4x64xf32>
  deepseek.yield %0 : tensor<4x64xf32>
}
deepseek.weight @gate : tensor<4x64x64xf32> {
  %0 = deepseek.source "gate" in [] at [] : tensor<4x64x36xi8>
  %1 = deepseek.dequantize_gguf q4_0 %0 : tensor<4x64x36xi8> -> tensor<4x64x64xf32>
  deepseek.yield %1 : tensor<4x64x64xf32>
}
deepseek.weight @up : tensor<4x64x64xf32> {
  %0 = deepseek.source "up" in [] at [] : tensor<4x64x64xf32>
  deepseek.yield %0 : tensor<4x64x64xf32>
}
deepseek.weight @down : tensor<4x64x64xf32> {
  %0 = deepseek.source "down" in [] at [] : tensor<4x64x64xf32>
  deepseek.yield %0 : tensor<4x64x64xf32>
}
func.func @moe(%x: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %router = deepseek.use_weight @router : tensor<4x64xf32>
  %gate = deepseek.use_weight @gate : tensor<4x64x64xf32>
  %up = deepseek.use_weight @up : tensor<4x64x64xf32>
  %down = deepseek.use_weight @down : tensor<4x64x64xf32>
  %logits = deepseek.linear %x, %router : tensor<?x64xf32>, tensor<4x64xf32> -> tensor<?x4xf32>
  %e, %w = deepseek.router %logits by <scoring = softmax, method = greedy, experts = 4, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0e0 : f64> : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %y = deepseek.experts %x, %e, %w gate %gate up %up down %down : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<4x64x64xf32>, tensor<4x64x64xf32>, tensor<4x64x64xf32> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
