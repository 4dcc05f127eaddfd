// Probes of products, experts and the router; the numbers stay.

// DEFINE: %{model} = %source/test/dialects/DeepSeek/Reference/Inputs/mla-moe.mlir
// RUN: hadal-opt %{model} -deepseek-run="tokens=3,1,4 check=0" -deepseek-insert-probes -deepseek-run="tokens=3,1,4 check=0" | FileCheck %s

// CHECK: module attributes {deepseek.probes = ["state", "moment layers.{}.q_a", "moment layers.{}.q_b"
// CHECK: func.func private @attention(
// CHECK: deepseek.linear
// CHECK-NEXT: deepseek.probe moment 1 of %{{.+}} count 0 layer %{{.+}} : tensor<?x16xf32>
// CHECK: func.func @forward(
// CHECK: deepseek.probe state 0 of
// CHECK: deepseek.router
// CHECK-NEXT: arith.constant
// CHECK-NEXT: deepseek.probe mass {{[0-9]+}} of %{{.+}} experts %{{.+}} : tensor<?x3xi32> count 8 layer
// CHECK: deepseek.experts
// CHECK: deepseek.probe inner_moment
