// RUN: hadal-opt %s -verify-diagnostics -deepseek-round-activations="type=int8" | FileCheck %s --check-prefix=INT8
// RUN: hadal-opt %s -deepseek-round-activations="type=bf16" 2> %t | FileCheck %s --check-prefix=BF16
// RUN: FileCheck %s --check-prefix=DECLINED < %t
// RUN: hadal-opt %s -deepseek-round-activations="type=bf16" -deepseek-round-activations="type=f32" 2> %t | FileCheck %s --check-prefix=F32
// RUN: not hadal-opt %s -deepseek-round-activations="type=int4" 2>&1 | FileCheck %s --check-prefix=INVALID

// INVALID: error: expects type int8, bf16 or f32, but got 'int4'

// INT8-LABEL: func.func @linear
// F32-LABEL: func.func @linear
func.func @linear(%x: tensor<?x256xf32>, %a: tensor<32x256xi8>, %as: tensor<32x1xf16>, %b: tensor<32x256xui4>, %bs: tensor<32x16xf32>, %c: tensor<32x256xi4>, %cs: tensor<32x32xf16>, %d: tensor<32x256xf32>) -> tensor<?x32xf32> {
  // INT8: deepseek.linear {{.*}} activation_group 32 :
  // F32: deepseek.linear %{{.+}}, %{{.+}} scales %{{.+}} : tensor<32x1xf16> : tensor<?x256xf32>
  %0 = deepseek.linear %x, %a scales %as : tensor<32x1xf16> activation_group 32 : tensor<?x256xf32>, tensor<32x256xi8> -> tensor<?x32xf32>
  // INT8: deepseek.linear {{.*}} activation_group 128 :
  %1 = deepseek.linear %x, %a scales %as : tensor<32x1xf16> : tensor<?x256xf32>, tensor<32x256xi8> -> tensor<?x32xf32>
  // INT8: deepseek.linear {{.*}} offsets %{{.+}} : tensor<32x16xf32> activation_group 16 :
  // F32: deepseek.linear {{.*}} offsets %{{.+}} : tensor<32x16xf32> : tensor<?x256xf32>
  %2 = deepseek.linear %x, %b scales %bs : tensor<32x16xf32> offsets %bs : tensor<32x16xf32> : tensor<?x256xf32>, tensor<32x256xui4> -> tensor<?x32xf32>
  // expected-remark @below {{inputs of 'deepseek.linear' stay f32: its weights have groups of no multiple of 16}}
  %3 = deepseek.linear %x, %c scales %cs : tensor<32x32xf16> : tensor<?x256xf32>, tensor<32x256xi4> -> tensor<?x32xf32>
  // INT8: deepseek.linear %{{.+}}, %{{.+}} : tensor<?x256xf32>, tensor<32x256xf32>
  %4 = deepseek.linear %x, %d : tensor<?x256xf32>, tensor<32x256xf32> -> tensor<?x32xf32>
  return %4 : tensor<?x32xf32>
}

// Weights of fewer bits than f32 let their inputs be rounded to bf16; integers
// keep what they have.

// BF16-LABEL: func.func @linear
// BF16:         deepseek.linear {{.*}} activation_group 32 :
// BF16-NOT:     bf16_inputs
// BF16-LABEL: func.func @floats
// F32-LABEL:  func.func @floats
// INT8-LABEL: func.func @floats
func.func @floats(%x: tensor<?x256xf32>, %e: tensor<?x2xi32>, %p: tensor<?x2xf32>, %a: tensor<32x256xbf16>, %b: tensor<32x256xf8E4M3FN>, %s: tensor<1x2xf32>, %g: tensor<8x4x256xf16>, %d: tensor<8x256x4xf16>, %o: tensor<32x255xbf16>, %y: tensor<?x255xf32>) -> tensor<?x32xf32> {
  // BF16: deepseek.linear %{{.+}}, %{{.+}} bf16_inputs :
  // F32-NOT:  bf16_inputs
  // INT8-NOT: bf16_inputs
  %0 = deepseek.linear %x, %a : tensor<?x256xf32>, tensor<32x256xbf16> -> tensor<?x32xf32>
  // BF16: deepseek.linear {{.*}} bf16_inputs :
  %1 = deepseek.linear %x, %b scales %s : tensor<1x2xf32> : tensor<?x256xf32>, tensor<32x256xf8E4M3FN> -> tensor<?x32xf32>
  // BF16: deepseek.lm_head {{.*}} bf16_inputs :
  %2 = deepseek.lm_head %x, %a : tensor<?x256xf32>, tensor<32x256xbf16> -> tensor<?x32xf32>
  // BF16: deepseek.experts {{.*}} bf16_inputs :
  %3 = deepseek.experts %x, %e, %p gate %g up %g down %d : tensor<?x256xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x256xf16>, tensor<8x4x256xf16>, tensor<8x256x4xf16> -> tensor<?x256xf32>
  // BF16: deepseek.linear %{{.+}}, %{{.+}} : tensor<?x255xf32>
  // DECLINED-COUNT-2: remark: inputs of 'deepseek.linear' stay f32: its weights are f32, or of an odd number of columns
  %4 = deepseek.linear %y, %o : tensor<?x255xf32>, tensor<32x255xbf16> -> tensor<?x32xf32>
  return %4 : tensor<?x32xf32>
}
