// Second moments are summed up once for what reads the same, and not for routers.

// DEFINE: %{model} = %source/test/dialects/DeepSeek/Reference/Inputs/mla-moe.mlir
// RUN: hadal-opt %{model} -deepseek-run="tokens=3,1,4 check=0" -deepseek-insert-probes=gram -deepseek-run="tokens=3,1,4 check=0" | FileCheck %s
// RUN: not hadal-opt %{model} -deepseek-insert-probes="gram max-gram-bytes=1000" 2>&1 | FileCheck %s --check-prefix=LIMIT

// CHECK: "gram layers.{}.q_a layers.{}.kv_a"
// CHECK: deepseek.probe gram {{[0-9]+}} of %{{.+}} count 0 layer
// CHECK: deepseek.probe inner_gram
// CHECK: deepseek.probe gram {{[0-9]+}} of %{{.+}} experts %{{.+}} : tensor<?x3xi32> count 8 layer

// LIMIT: error: the second moments of all inputs would take {{[0-9]+}} bytes, at most 1000 are allowed
