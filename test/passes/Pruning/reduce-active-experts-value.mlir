// By value: with as many experts as before nothing changes; with fewer, the output does.

// DEFINE: %{moe} = %source/test/passes/Quantization/Inputs/moe.mlir
// DEFINE: %{run} = -deepseek-run="tokens=3,1,4,1,5,9,2,6
// RUN: hadal-opt %{moe} %{run} check=0" -deepseek-reduce-active-experts="top-k=2" %{run} check=0" | FileCheck %s --check-prefix=SAME
// RUN: hadal-opt %{moe} %{run} check=3e-1" -deepseek-reduce-active-experts="top-k=1" %{run} check=3e-1" | FileCheck %s
// RUN: not hadal-opt %{moe} %{run} check=1e-4" -deepseek-reduce-active-experts="top-k=1" %{run} check=1e-4"

// SAME: top_k = 2
// CHECK: top_k = 1,{{.+}}> renormalize_from 2
