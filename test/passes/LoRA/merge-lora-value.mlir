// The reference adds an adapter wherever the weight is read, so that merging it changes no logit.

// RUN: cat %source/test/dialects/DeepSeek/Reference/Inputs/dense.mlir %S/Inputs/adapter.mlir > %t.mlir
// RUN: hadal-opt %t.mlir -deepseek-run="tokens=3,1,4,1,5 check=0" -deepseek-merge-lora -deepseek-run="tokens=3,1,4,1,5 check=0" | FileCheck %s


// CHECK: deepseek.add_product
