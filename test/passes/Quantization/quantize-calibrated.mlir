// Statistics of a text become part of the recipes that round a weight.

// RUN: hadal-opt %s -split-input-file -deepseek-quantize="scheme=int4-g32 method=imatrix" -verify-diagnostics | FileCheck %s --check-prefixes=CHECK,IMATRIX
// RUN: hadal-opt %s -split-input-file -deepseek-quantize="scheme=int4-g32 method=gptq" 2>/dev/null | FileCheck %s --check-prefixes=CHECK,GPTQ
// RUN: hadal-opt %s -split-input-file -deepseek-quantize="scheme=int4-g32 method=rtn" 2>/dev/null | FileCheck %s --check-prefix=NEAREST

// NEAREST-NOT: moment %
// NEAREST-NOT: gram %

// CHECK: deepseek.weight @attn : tensor<32x64xi4> {
// CHECK: %[[W:.+]] = deepseek.source "attn"
// CHECK: %[[M:.+]] = deepseek.source "m" in ["@statistics"] at [0] : tensor<64xf32>
// IMATRIX: deepseek.quantize %[[W]] moment %[[M]] : tensor<64xf32> group 32 : tensor<32x64xf16> -> tensor<32x64xi4>
// GPTQ: %[[G:.+]] = deepseek.source "g" in ["@statistics"] at [256] : tensor<64x64xf32>
// GPTQ: deepseek.quantize %[[W]] moment %[[M]] : tensor<64xf32> gram %[[G]] : tensor<64x64xf32> group 32 damping 1.000000e-02 : tensor<32x64xf16> -> tensor<32x64xi4>
// CHECK: deepseek.weight @attn.scales : tensor<32x2xf16> {
// CHECK: deepseek.quantize_scales %{{.+}} moment %{{.+}} : tensor<64xf32> bits 4 : tensor<32x64xf16> -> tensor<32x2xf16>
deepseek.weight @attn : tensor<32x64xf16> {
  %0 = deepseek.source "attn" in [] at [] : tensor<32x64xf16>
  deepseek.yield %0 : tensor<32x64xf16>
}
deepseek.weight @statistics.attn.moment : tensor<64xf32> {
  %0 = deepseek.source "m" in ["@statistics"] at [0] : tensor<64xf32>
  deepseek.yield %0 : tensor<64xf32>
}
deepseek.weight @statistics.attn.gram : tensor<64x64xf32> {
  %0 = deepseek.source "g" in ["@statistics"] at [256] : tensor<64x64xf32>
  deepseek.yield %0 : tensor<64x64xf32>
}
func.func @attention(%x: tensor<?x64xf32>) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @attn : tensor<32x64xf16>
  %y = deepseek.linear %x, %w : tensor<?x64xf32>, tensor<32x64xf16> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// Without a statistic a weight is rounded to nearest, which is said.

// CHECK: deepseek.weight @mlp : tensor<32x64xi4> {
// CHECK: deepseek.quantize %{{.+}} group 32 : tensor<32x64xf16> -> tensor<32x64xi4>
// expected-remark @below {{rounds 'mlp' without the second moments of its inputs (moment): there are none}}
deepseek.weight @mlp : tensor<32x64xf16> {
  %0 = deepseek.source "mlp" in [] at [] : tensor<32x64xf16>
  deepseek.yield %0 : tensor<32x64xf16>
}
func.func @network(%x: tensor<?x64xf32>) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @mlp : tensor<32x64xf16>
  %y = deepseek.linear %x, %w : tensor<?x64xf32>, tensor<32x64xf16> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
