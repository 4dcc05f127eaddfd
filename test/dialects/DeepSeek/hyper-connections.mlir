// Hyper-connections print as they were written.

// RUN: hadal-opt %s | hadal-opt | FileCheck %s
// RUN: hadal-opt %s --emit-bytecode | hadal-opt | FileCheck %s

// CHECK-LABEL: func.func @streams
func.func @streams(%x: tensor<?x16xf32>, %fn: tensor<24x64xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>, %hfn: tensor<4x64xf32>, %hbase: tensor<4xf32>, %hscale: tensor<1xf32>) -> tensor<?x16xf32> {
  // CHECK: deepseek.hyper_expand %{{.+}} streams 4 : tensor<?x16xf32> -> tensor<?x64xf32>
  %0 = deepseek.hyper_expand %x streams 4 : tensor<?x16xf32> -> tensor<?x64xf32>
  // CHECK: deepseek.hyper_mix %{{.+}}, %{{.+}}, %{{.+}}, %{{.+}} streams 4 iterations 20 norm_epsilon 9.99999997E-7 epsilon 9.99999997E-7 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  %u, %post, %comb = deepseek.hyper_mix %0, %fn, %base, %scale streams 4 iterations 20 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<24x64xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  // CHECK: deepseek.hyper_update %{{.+}}, %{{.+}}, %{{.+}}, %{{.+}} : tensor<?x64xf32>, tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  %1 = deepseek.hyper_update %0, %u, %post, %comb : tensor<?x64xf32>, tensor<?x16xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  // CHECK: deepseek.hyper_head %{{.+}}, %{{.+}}, %{{.+}}, %{{.+}} streams 4 norm_epsilon 9.99999997E-7 epsilon 9.99999997E-7 :
  %2 = deepseek.hyper_head %1, %hfn, %hbase, %hscale streams 4 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x64xf32>, tensor<4x64xf32>, tensor<4xf32>, tensor<1xf32> -> tensor<?x16xf32>
  return %2 : tensor<?x16xf32>
}
