// Statistics of another model are refused.

// RUN: hadal-opt %s -deepseek-quantize="scheme=int4-g32 method=imatrix" -verify-diagnostics
// RUN: hadal-opt %s -deepseek-quantize="scheme=int4-g32 method=rtn" | FileCheck %s

// CHECK: deepseek.quantize
// expected-error @below {{the statistics are of another model: those of 'attn', 'tensor<32x64xf16>', are 'tensor<32xf32>'}}
deepseek.weight @attn : tensor<32x64xf16> {
  %0 = deepseek.source "attn" in [] at [] : tensor<32x64xf16>
  deepseek.yield %0 : tensor<32x64xf16>
}
deepseek.weight @statistics.attn.moment : tensor<32xf32> {
  %0 = deepseek.source "m" in ["@statistics"] at [0] : tensor<32xf32>
  deepseek.yield %0 : tensor<32xf32>
}
func.func @attention(%x: tensor<?x64xf32>) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @attn : tensor<32x64xf16>
  %y = deepseek.linear %x, %w : tensor<?x64xf32>, tensor<32x64xf16> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
