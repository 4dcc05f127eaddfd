// What quantization changes, by value. A weight of 8 bits is off by at most 1/254 of the largest of its group, as is an
// input; over a few products that adds up to less than 2 in 100 of the largest logit. With 4 bits the step is 16 times as
// wide: 25 in 100, 13 with 5 bits, and 7 with 6. Where nothing is quantized, nothing changes.

// DEFINE: %{dense} = %source/test/dialects/DeepSeek/Reference/Inputs/dense.mlir
// DEFINE: %{run} = -deepseek-run="tokens=3,1,4,1,5,9,2,6
// RUN: hadal-opt %{dense} %{run} check=2e-2" -deepseek-quantize="scheme=int8-g32" %{run} check=2e-2" | FileCheck %s
// RUN: hadal-opt %{dense} %{run} check=2e-2" -deepseek-quantize="scheme=int8" %{run} check=2e-2" | FileCheck %s
// RUN: hadal-opt %{dense} %{run} check=25e-2" -deepseek-quantize="scheme=int4-g32" %{run} check=25e-2" | FileCheck %s
// RUN: hadal-opt %{dense} %{run} check=13e-2" -deepseek-quantize="scheme=int5-g32" %{run} check=13e-2" | FileCheck %s
// RUN: hadal-opt %{dense} %{run} check=7e-2" -deepseek-quantize="scheme=int6-g64" %{run} check=7e-2" | FileCheck %s
// RUN: hadal-opt %S/Inputs/moe.mlir %{run} check=2e-2" -deepseek-quantize="scheme=int8" %{run} check=2e-2" | FileCheck %s
// RUN: hadal-opt %S/Inputs/moe.mlir %{run} check=25e-2" -deepseek-quantize="scheme=mixed" %{run} check=25e-2" | FileCheck %s
// RUN: hadal-opt %S/Inputs/moe.mlir %{run} check=0" -deepseek-quantize="scheme=none" %{run} check=0" | FileCheck %s --check-prefix=NONE

// It is no accident: 4 bits are not within what 8 are.
// RUN: not hadal-opt %S/Inputs/moe.mlir %{run} check=2e-2" -deepseek-quantize="scheme=int4-g32" %{run} check=2e-2"

// CHECK: deepseek.quantize
// NONE-NOT: deepseek.quantize
