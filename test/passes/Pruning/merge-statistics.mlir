// What is known of the inputs of experts is merged like them: experts 2 and 3 are 0 and 1 with their channels in another
// order, as are their statistics, so that two that are rounded by the merged ones do what four rounded ones did.

// DEFINE: %{run} = -deepseek-run="tokens=3,1,4,1,5,9,2,6
// DEFINE: %{round} = -deepseek-quantize="scheme=experts=int4-g32 method=imatrix"
// RUN: cat %source/test/passes/Pruning/merge-experts-value.mlir %s > %t.mlir
// RUN: hadal-opt %t.mlir %{round} %{run} npy=%t.all" -o %t.ignored 2>/dev/null
// RUN: hadal-opt %t.mlir -deepseek-merge-experts="count=2" %{round} %{run} npy=%t.merged" 2>/dev/null | FileCheck %s
// RUN: cmp %t.all %t.merged

// CHECK: deepseek.weight @experts.down : tensor<2x64x32xi4>
// CHECK: %[[KNOWN:.+]] = deepseek.merge_experts inner of %{{.+}}, %{{.+}}, %{{.+}} moment %{{.+}} : tensor<4x64xf32> statistic %{{.+}} : tensor<4x32xf32> count %{{.+}} : tensor<4xf32> keep 2 : tensor<4x32x64xbf16>, tensor<4x32x64xbf16>, tensor<4x64x32xbf16> -> tensor<2x32xf32>
// CHECK: deepseek.quantize %{{.+}} moment %[[KNOWN]] : tensor<2x32xf32> group 32
// CHECK: deepseek.weight @statistics.experts.gate.moment : tensor<2x64xf32>
// CHECK: deepseek.merge_experts outer of

deepseek.weight @statistics.experts.gate.moment : tensor<4x64xf32> {
  %0 = deepseek.source "experts.{}.gate" in [] at [] : tensor<2x32x64xbf16>
  %1 = deepseek.importance %0 group 1 : tensor<2x32x64xbf16> -> tensor<2x64xf32>
  %2 = deepseek.concat %1, %1 axis 0 : (tensor<2x64xf32>, tensor<2x64xf32>) -> tensor<4x64xf32>
  deepseek.yield %2 : tensor<4x64xf32>
}
deepseek.weight @statistics.experts.down.moment : tensor<4x32xf32> {
  %0 = deepseek.source "experts.{}.down" in [] at [] : tensor<2x64x32xbf16>
  %1 = deepseek.importance %0 group 1 : tensor<2x64x32xbf16> -> tensor<2x32xf32>
  %2 = deepseek.slice %1 axis 1 from 16 to 32 : tensor<2x32xf32> -> tensor<2x16xf32>
  %3 = deepseek.slice %1 axis 1 from 0 to 16 : tensor<2x32xf32> -> tensor<2x16xf32>
  %4 = deepseek.concat %2, %3 axis 1 : (tensor<2x16xf32>, tensor<2x16xf32>) -> tensor<2x32xf32>
  %5 = deepseek.concat %1, %4 axis 0 : (tensor<2x32xf32>, tensor<2x32xf32>) -> tensor<4x32xf32>
  deepseek.yield %5 : tensor<4x32xf32>
}
deepseek.weight @statistics.experts.gate.moment.count : tensor<4xf32> {
  %0 = deepseek.source "router" in [] at [] : tensor<4x64xbf16>
  %1 = deepseek.reshape %0 : tensor<4x64xbf16> -> tensor<4x64x1xbf16>
  %2 = deepseek.importance %1 group 1 : tensor<4x64x1xbf16> -> tensor<4x1xf32>
  %3 = deepseek.reshape %2 : tensor<4x1xf32> -> tensor<4xf32>
  deepseek.yield %3 : tensor<4xf32>
}
deepseek.weight @statistics.experts.down.moment.count : tensor<4xf32> {
  %0 = deepseek.source "router" in [] at [] : tensor<4x64xbf16>
  %1 = deepseek.reshape %0 : tensor<4x64xbf16> -> tensor<4x64x1xbf16>
  %2 = deepseek.importance %1 group 1 : tensor<4x64x1xbf16> -> tensor<4x1xf32>
  %3 = deepseek.reshape %2 : tensor<4x1xf32> -> tensor<4xf32>
  deepseek.yield %3 : tensor<4xf32>
}
