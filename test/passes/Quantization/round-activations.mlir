// RUN: hadal-opt %s -verify-diagnostics -deepseek-round-activations="type=int8" | FileCheck %s --check-prefix=INT8
// RUN: hadal-opt %s -deepseek-round-activations="type=f32" | FileCheck %s --check-prefix=F32
// RUN: not hadal-opt %s -deepseek-round-activations="type=int4" 2>&1 | FileCheck %s --check-prefix=INVALID

// INVALID: error: expects type int8 or f32, but got 'int4'

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
