// Experts become fewer by recipes of all of them; the router keeps its choice, and a map says what that is now.

// DEFINE: %{moe} = %source/test/passes/Quantization/Inputs/moe.mlir
// RUN: hadal-opt %{moe} -deepseek-merge-experts="count=2" 2>%t | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK < %t
// RUN: not hadal-opt %{moe} -deepseek-merge-experts="count=4" 2>&1 | FileCheck %s --check-prefix=ALL
// RUN: not hadal-opt %{moe} -deepseek-merge-experts 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not hadal-opt %{moe} -deepseek-merge-experts="count=3" -deepseek-merge-experts="count=2" 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not hadal-opt %{moe} -deepseek-merge-experts="count=3" -deepseek-prune-experts="amount=1 assume=true" 2>&1 | FileCheck %s --check-prefix=PRUNE
// RUN: hadal-opt %s -deepseek-merge-experts="count=3" 2>/dev/null | FileCheck %s --check-prefix=STACK

// CHECK: deepseek.weight @router : tensor<4x64xbf16>
// CHECK: deepseek.weight @router.map : tensor<4xi32>
// CHECK: %[[MAP:.+]] = deepseek.merge_experts map of %{{.+}}, %{{.+}}, %{{.+}} keep 2
// CHECK: deepseek.weight @experts.gate : tensor<2x32x64xbf16>
// CHECK-NEXT: %[[G:.+]] = deepseek.source "experts.{}.gate" in [] at [] : tensor<4x32x64xbf16>
// CHECK-NEXT: %[[U:.+]] = deepseek.source "experts.{}.up"
// CHECK-NEXT: %[[D:.+]] = deepseek.source "experts.{}.down"
// CHECK-NEXT: %[[M:.+]] = deepseek.merge_experts gate of %[[G]], %[[U]], %[[D]] keep 2 : tensor<4x32x64xbf16>, tensor<4x32x64xbf16>, tensor<4x64x32xbf16> -> tensor<2x32x64xbf16>
// CHECK-NEXT: deepseek.yield %[[M]]
// CHECK: deepseek.weight @experts.down : tensor<2x64x32xbf16>
// CHECK: deepseek.merge_experts down of
// CHECK: %[[MAP:.+]] = deepseek.use_weight @router.map : tensor<4xi32>
// CHECK: deepseek.router %{{.+}} map %[[MAP]] : tensor<4xi32> by <{{.+}} experts = 4,
// CHECK: deepseek.experts {{.+}} tensor<2x32x64xbf16>, tensor<2x32x64xbf16>, tensor<2x64x32xbf16>

// REMARK: merges experts as if each was chosen as often
// ALL: 'deepseek.router' op expects to merge 4 experts into 1 to 3, but got 4
// NONE: 'deepseek.router' op expects to merge 4 experts into 1 to 3, but got 0
// TWICE: 'deepseek.router' op expects experts that are as they were made, but they have a map
// PRUNE: 'deepseek.router' op expects experts that are as they were made, but they have a map

// Experts of FP8 in a function become bf16; their scales are passed no more, and statistics of them are gone.

// STACK: deepseek.weight @layers.0.router.map : tensor<4xi32>
// STACK: deepseek.weight @layers.0.gate : tensor<3x128x128xbf16>
// STACK: %[[SCALES:.+]] = deepseek.source "g.scales"
// STACK: deepseek.dequantize %{{.+}}, %[[SCALES]] block 128 x 128 : tensor<4x128x128xf8E4M3FN>, tensor<4x1x1xf32> -> tensor<4x128x128xbf16>
// STACK: %[[MASS:.+]] = deepseek.source "mass"
// STACK: %[[MOMENT:.+]] = deepseek.source "moment"
// STACK: deepseek.merge_experts gate of {{.+}} mass %[[MASS]] : tensor<4xf32> moment %[[MOMENT]] : tensor<4x128xf32> keep 3
// STACK-NOT: @layers.0.gate.scales
// STACK-NOT: @statistics.layers.0.gate.moment
// STACK: func.func private @layer(%{{.+}}: tensor<?x128xf32>, %[[ROUTER:.+]]: tensor<4x128xf32>, %[[MAP:.+]]: tensor<4xi32>, %{{.+}}: tensor<3x128x128xbf16>, %{{.+}}: tensor<3x128x128xbf16>, %{{.+}}: tensor<3x128x128xbf16>)
// STACK: deepseek.router %{{.+}} map %[[MAP]]
// STACK: %[[PASSED:.+]] = deepseek.use_weight @layers.0.router.map
// STACK: call @layer(%{{.+}}, %{{.+}}, %[[PASSED]],
deepseek.weight @layers.0.router : tensor<4x128xf32> {
  %0 = deepseek.source "r" in [] at [] : tensor<4x128xf32>
  deepseek.yield %0 : tensor<4x128xf32>
}
deepseek.weight @layers.0.gate : tensor<4x128x128xf8E4M3FN> {
  %0 = deepseek.source "g" in [] at [] : tensor<4x128x128xf8E4M3FN>
  deepseek.yield %0 : tensor<4x128x128xf8E4M3FN>
}
deepseek.weight @layers.0.up : tensor<4x128x128xf8E4M3FN> {
  %0 = deepseek.source "u" in [] at [] : tensor<4x128x128xf8E4M3FN>
  deepseek.yield %0 : tensor<4x128x128xf8E4M3FN>
}
deepseek.weight @layers.0.down : tensor<4x128x128xf8E4M3FN> {
  %0 = deepseek.source "d" in [] at [] : tensor<4x128x128xf8E4M3FN>
  deepseek.yield %0 : tensor<4x128x128xf8E4M3FN>
}
deepseek.weight @layers.0.gate.scales : tensor<4x1x1xf32> {
  %0 = deepseek.source "g.scales" in [] at [] : tensor<4x1x1xf32>
  deepseek.yield %0 : tensor<4x1x1xf32>
}
deepseek.weight @layers.0.up.scales : tensor<4x1x1xf32> {
  %0 = deepseek.source "u.scales" in [] at [] : tensor<4x1x1xf32>
  deepseek.yield %0 : tensor<4x1x1xf32>
}
deepseek.weight @layers.0.down.scales : tensor<4x1x1xf32> {
  %0 = deepseek.source "d.scales" in [] at [] : tensor<4x1x1xf32>
  deepseek.yield %0 : tensor<4x1x1xf32>
}
deepseek.weight @statistics.layers.0.router.mass : tensor<4xf32> {
  %0 = deepseek.source "mass" in ["@statistics"] at [0] : tensor<4xf32>
  deepseek.yield %0 : tensor<4xf32>
}
deepseek.weight @statistics.layers.0.gate.moment : tensor<4x128xf32> {
  %0 = deepseek.source "moment" in ["@statistics"] at [16] : tensor<4x128xf32>
  deepseek.yield %0 : tensor<4x128xf32>
}
func.func private @layer(%x: tensor<?x128xf32>, %router: tensor<4x128xf32>, %gate: tensor<4x128x128xf8E4M3FN>, %gs: tensor<4x1x1xf32>, %up: tensor<4x128x128xf8E4M3FN>, %us: tensor<4x1x1xf32>, %down: tensor<4x128x128xf8E4M3FN>, %ds: tensor<4x1x1xf32>) -> tensor<?x128xf32> {
  %logits = deepseek.linear %x, %router : tensor<?x128xf32>, tensor<4x128xf32> -> tensor<?x4xf32>
  %e, %w = deepseek.router %logits by <scoring = softmax, method = greedy, experts = 4, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0e0 : f64> : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %y = deepseek.experts %x, %e, %w gate %gate up %up down %down scales %gs, %us, %ds : tensor<4x1x1xf32>, tensor<4x1x1xf32>, tensor<4x1x1xf32> : tensor<?x128xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<4x128x128xf8E4M3FN>, tensor<4x128x128xf8E4M3FN>, tensor<4x128x128xf8E4M3FN> -> tensor<?x128xf32>
  return %y : tensor<?x128xf32>
}
func.func @model(%x: tensor<?x128xf32>) -> tensor<?x128xf32> {
  %router = deepseek.use_weight @layers.0.router : tensor<4x128xf32>
  %gate = deepseek.use_weight @layers.0.gate : tensor<4x128x128xf8E4M3FN>
  %gs = deepseek.use_weight @layers.0.gate.scales : tensor<4x1x1xf32>
  %up = deepseek.use_weight @layers.0.up : tensor<4x128x128xf8E4M3FN>
  %us = deepseek.use_weight @layers.0.up.scales : tensor<4x1x1xf32>
  %down = deepseek.use_weight @layers.0.down : tensor<4x128x128xf8E4M3FN>
  %ds = deepseek.use_weight @layers.0.down.scales : tensor<4x1x1xf32>
  %y = call @layer(%x, %router, %gate, %gs, %up, %us, %down, %ds) : (tensor<?x128xf32>, tensor<4x128xf32>, tensor<4x128x128xf8E4M3FN>, tensor<4x1x1xf32>, tensor<4x128x128xf8E4M3FN>, tensor<4x1x1xf32>, tensor<4x128x128xf8E4M3FN>, tensor<4x1x1xf32>) -> tensor<?x128xf32>
  return %y : tensor<?x128xf32>
}
