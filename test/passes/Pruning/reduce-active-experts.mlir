// Every router chooses fewer experts. One whose rule does not normalize says whose weight those that are left get.

// RUN: hadal-opt %s -deepseek-reduce-active-experts="top-k=2" | FileCheck %s
// RUN: hadal-opt %s -deepseek-reduce-active-experts="top-k=2 renormalize=false" | FileCheck %s --check-prefix=PLAIN
// RUN: hadal-opt %s -deepseek-reduce-active-experts="top-k=3" | FileCheck %s --check-prefix=SAME
// RUN: hadal-opt %s -deepseek-reduce-active-experts="top-k=2" -deepseek-reduce-active-experts="top-k=1" | FileCheck %s --check-prefix=TWICE

#v2 = #deepseek.routing<scoring = softmax, method = greedy, experts = 4, top_k = 3, groups = 1, top_groups = 1, normalize = false, scale = 1.0e0 : f64>
#v3 = #deepseek.routing<scoring = sigmoid, method = noaux_tc, experts = 4, top_k = 3, groups = 2, top_groups = 2, normalize = true, scale = 2.5e0 : f64>

// CHECK-LABEL: func.func @v2(
// CHECK-NEXT: %[[E:.+]], %[[W:.+]] = deepseek.router %{{.+}} by <{{.+}} top_k = 2,{{.+}}> renormalize_from 3 : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
// CHECK-NEXT: deepseek.experts %{{.+}}, %[[E]], %[[W]] gate {{.+}} : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>,
// PLAIN-LABEL: func.func @v2(
// PLAIN-NEXT: deepseek.router %{{.+}} by <{{.+}} top_k = 2,{{.+}}> : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
// SAME-LABEL: func.func @v2(
// SAME-NEXT: deepseek.router %{{.+}} by <{{.+}} top_k = 3,{{.+}}> : tensor<?x4xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
// TWICE-LABEL: func.func @v2(
// TWICE-NEXT: deepseek.router %{{.+}} by <{{.+}} top_k = 1,{{.+}}> renormalize_from 3 :
func.func @v2(%x: tensor<?x8xf32>, %l: tensor<?x4xf32>, %g: tensor<4x4x8xf32>, %u: tensor<4x4x8xf32>, %d: tensor<4x8x4xf32>) -> tensor<?x8xf32> {
  %e, %w = deepseek.router %l by #v2 : tensor<?x4xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  %y = deepseek.experts %x, %e, %w gate %g up %u down %d : tensor<?x8xf32>, tensor<?x3xi32>, tensor<?x3xf32>, tensor<4x4x8xf32>, tensor<4x4x8xf32>, tensor<4x8x4xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @v3(
// CHECK-NEXT: deepseek.router %{{.+}} bias {{.+}} by <{{.+}} top_k = 2,{{.+}} normalize = true,{{.+}}> : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
func.func @v3(%x: tensor<?x8xf32>, %l: tensor<?x4xf32>, %b: tensor<4xf32>, %g: tensor<4x4x8xf32>, %u: tensor<4x4x8xf32>, %d: tensor<4x8x4xf32>) -> tensor<?x8xf32> {
  %e, %w = deepseek.router %l bias %b : tensor<4xf32> by #v3 : tensor<?x4xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  %y = deepseek.experts %x, %e, %w gate %g up %u down %d : tensor<?x8xf32>, tensor<?x3xi32>, tensor<?x3xf32>, tensor<4x4x8xf32>, tensor<4x4x8xf32>, tensor<4x8x4xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
