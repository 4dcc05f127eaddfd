// RUN: hadal-opt %s -split-input-file -verify-diagnostics -deepseek-keep-stored | FileCheck %s

// Groups in no order, of one column each.

// expected-remark @below {{'w' becomes 'f32': its integers have groups in no order, or of no whole words}}
deepseek.weight @w : tensor<32x64xf32> {
  %0 = deepseek.source "codes" in [] at [] : tensor<32x32xi8>
  %1 = deepseek.unpack %0 bits 4 plus 0 : tensor<32x32xi8> -> tensor<32x64xi4>
  %2 = deepseek.source "scales" in [] at [] : tensor<32x64xf16>
  %3 = deepseek.dequantize %1, %2 block 1 x 1 : tensor<32x64xi4>, tensor<32x64xf16> -> tensor<32x64xf32>
  deepseek.yield %3 : tensor<32x64xf32>
}
// CHECK-LABEL: func.func @no_order
func.func @no_order(%x: tensor<?x64xf32>) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @w : tensor<32x64xf32>
  // CHECK: deepseek.linear %{{.+}}, %{{.+}} : tensor<?x64xf32>, tensor<32x64xf32>
  %y = deepseek.linear %x, %w : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// The product of a zero point and such a scale may have no f32.

// expected-remark @below {{'w' becomes 'f32': its integers have zero points and scales in f32}}
deepseek.weight @w : tensor<32x64xf32> {
  %0 = deepseek.source "codes" in [] at [] : tensor<32x64xi8>
  %1 = deepseek.source "scales" in [] at [] : tensor<32x2xf32>
  %2 = deepseek.source "zeros" in [] at [] : tensor<32x2xi8>
  %3 = deepseek.dequantize %0, %1 zeros %2 : tensor<32x2xi8> block 1 x 32 : tensor<32x64xi8>, tensor<32x2xf32> -> tensor<32x64xf32>
  deepseek.yield %3 : tensor<32x64xf32>
}
func.func @zeros_in_f32(%x: tensor<?x64xf32>) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @w : tensor<32x64xf32>
  %y = deepseek.linear %x, %w : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// Experts whose gate and up are not alike, and heads whose columns are no whole
// vectors, where groups are of rows.

deepseek.weight @up : tensor<4x32x64xf32> {
  %0 = deepseek.source "up" in [] at [] : tensor<4x32x36xi8>
  %1 = deepseek.dequantize_gguf q4_0 %0 : tensor<4x32x36xi8> -> tensor<4x32x64xf32>
  deepseek.yield %1 : tensor<4x32x64xf32>
}
deepseek.weight @gate : tensor<4x32x64xf32> {
  %0 = deepseek.source "gate" in [] at [] : tensor<4x32x68xi8>
  %1 = deepseek.dequantize_gguf q8_0 %0 : tensor<4x32x68xi8> -> tensor<4x32x64xf32>
  deepseek.yield %1 : tensor<4x32x64xf32>
}
deepseek.weight @down : tensor<4x64x32xf32> {
  %0 = deepseek.source "down" in [] at [] : tensor<4x64x34xi8>
  %1 = deepseek.dequantize_gguf q8_0 %0 : tensor<4x64x34xi8> -> tensor<4x64x32xf32>
  deepseek.yield %1 : tensor<4x64x32xf32>
}
// expected-remark @below {{'heads' is stored in 'f32': 'deepseek.head_linear' reads its numbers}}
deepseek.weight @heads : tensor<2x32x8xf32> {
  %0 = deepseek.source "heads" in [] at [] : tensor<2x8x34xi8>
  %1 = deepseek.dequantize_gguf q8_0 %0 : tensor<2x8x34xi8> -> tensor<2x8x32xf32>
  %2 = deepseek.transpose %1 [0, 2, 1] : tensor<2x8x32xf32> -> tensor<2x32x8xf32>
  deepseek.yield %2 : tensor<2x32x8xf32>
}
// CHECK-LABEL: func.func @experts
func.func @experts(%x: tensor<?x64xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x64xf32> {
  %g = deepseek.use_weight @gate : tensor<4x32x64xf32>
  %u = deepseek.use_weight @up : tensor<4x32x64xf32>
  %d = deepseek.use_weight @down : tensor<4x64x32xf32>
  %h = deepseek.use_weight @heads : tensor<2x32x8xf32>
  %0 = deepseek.head_linear %x, %h : tensor<?x64xf32>, tensor<2x32x8xf32> -> tensor<?x64xf32>
  // expected-remark @below {{experts become f32: gate and up are stored in different forms, of 'i8' and 'i4'}}
  %y = deepseek.experts %0, %e, %w gate %g up %u down %d : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<4x32x64xf32>, tensor<4x32x64xf32>, tensor<4x64x32xf32> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// An argument of a function whose callers are not known.

// CHECK-LABEL: func.func @open
// CHECK-SAME: tensor<32x64xf32>
func.func @open(%x: tensor<?x64xf32>, %w: tensor<32x64xf32>) -> tensor<?x32xf32> {
  %y = deepseek.linear %x, %w : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
