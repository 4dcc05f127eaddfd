// Inputs in bf16 are off by at most 2^-9 of their size each: a fourth of what
// sums of products of two models may differ by, which these limits are.

// DEFINE: %{inputs} = %source/test/dialects/DeepSeek/Reference/Inputs
// DEFINE: %{run} = -deepseek-run="tokens=3,1,4,1,5,9,2,6
// RUN: hadal-opt %{inputs}/dense.mlir %{run} check=1e-2" -deepseek-round-activations="type=bf16" %{run} check=1e-2" | FileCheck %s
// RUN: not hadal-opt %{inputs}/dense.mlir %{run} check=1e-7" -deepseek-round-activations="type=bf16" %{run} check=1e-7"

// CHECK: bf16_inputs
