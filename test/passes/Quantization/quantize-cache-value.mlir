// What a rounded cache changes, by value: an element of bf16 is off by 1/256 at most, one of f16 by 1/2048, an integer by
// 1/254 of the largest of its group.

// DEFINE: %{inputs} = %source/test/dialects/DeepSeek/Reference/Inputs
// DEFINE: %{run} = -deepseek-run="tokens=3,1,4,1,5,9,2,6
// RUN: hadal-opt %{inputs}/dense.mlir %{run} check=4e-3" -deepseek-quantize-cache="element=bf16" %{run} check=4e-3" | FileCheck %s
// RUN: hadal-opt %{inputs}/dense.mlir %{run} check=5e-4" -deepseek-quantize-cache="element=f16" %{run} check=5e-4" | FileCheck %s
// RUN: hadal-opt %{inputs}/dense.mlir %{run} check=4e-3" -deepseek-quantize-cache="element=int8" %{run} check=4e-3" | FileCheck %s
// RUN: hadal-opt %{inputs}/mla-moe.mlir %{run} check=4e-3" -deepseek-quantize-cache="element=bf16" %{run} check=4e-3" | FileCheck %s
// RUN: hadal-opt %{inputs}/mla-moe.mlir %{run} check=5e-4" -deepseek-quantize-cache="element=f16" %{run} check=5e-4" | FileCheck %s
// RUN: hadal-opt %{inputs}/mla-moe.mlir %{run} check=4e-3" -deepseek-quantize-cache="element=int8" %{run} check=4e-3" | FileCheck %s
// RUN: hadal-opt %{inputs}/dense.mlir %{run} check=0" -deepseek-quantize-cache="element=f32" %{run} check=0" | FileCheck %s --check-prefix=F32

// It is no accident that rounding shows, and f16 is not bf16.
// RUN: not hadal-opt %{inputs}/dense.mlir %{run} check=1e-6" -deepseek-quantize-cache="element=f16" %{run} check=1e-6"
// RUN: not hadal-opt %{inputs}/dense.mlir %{run} check=1e-5" -deepseek-quantize-cache="element=bf16" %{run} check=1e-5"

// Both forms of MLA read the same rounded latents.
// RUN: hadal-opt %{inputs}/mla-moe.mlir -deepseek-quantize-cache="element=int8" %{run} check=1e-12" -deepseek-absorb-latent-attention %{run} check=1e-12" | FileCheck %s

// CHECK: element = {{bf16|f16|i8}}
// F32: element = f32
