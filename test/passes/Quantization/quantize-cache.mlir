// The cache of a function, and of what it calls, gets another element.

// RUN: hadal-opt %s -deepseek-quantize-cache | FileCheck %s --check-prefixes=CHECK,BF16
// RUN: hadal-opt %s -deepseek-quantize-cache="element=f16" | FileCheck %s --check-prefixes=CHECK,F16
// RUN: hadal-opt %s -deepseek-quantize-cache="element=int8" | FileCheck %s --check-prefixes=CHECK,INT8
// RUN: hadal-opt %s -deepseek-quantize-cache="element=f32" | FileCheck %s --check-prefixes=CHECK,F32
// RUN: not hadal-opt %s -deepseek-quantize-cache="element=i8" 2>&1 | FileCheck %s --check-prefix=ERROR

// ERROR: error: expects an element of f32, bf16, f16 or int8, but got 'i8'

!heads = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 24, value_dim = 16, element = f32>
!latent = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 44, value_dim = 32, element = f32>
!rounded = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = bf16>

// CHECK-LABEL: @heads(
// BF16-SAME:     value_dim = 16, element = bf16>
// F16-SAME:      value_dim = 16, element = f16>
// INT8-SAME:     value_dim = 16, element = i8, group = 8>
// F32-SAME:      value_dim = 16, element = f32>
// CHECK-SAME:    -> tensor<?x32xf32>
// BF16:          deepseek.attention {{.+}} element = bf16>
// F16:           deepseek.attention {{.+}} element = f16>
// INT8:          deepseek.attention {{.+}} element = i8, group = 8>
// F32:           deepseek.attention {{.+}} element = f32>
func.func private @heads(%q: tensor<?x48xf32>, %k: tensor<?x48xf32>, %v: tensor<?x32xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !heads, %layer: index) -> tensor<?x32xf32> {
  %a = deepseek.attention %q, %k, %v at %positions of %sequences in %cache[%layer] heads 2 scale 1.25e-1 : tensor<?x48xf32>, tensor<?x48xf32>, tensor<?x32xf32>, tensor<?xi32>, !heads -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// CHECK-LABEL: @caller
// CHECK:         call @heads
func.func private @caller(%q: tensor<?x48xf32>, %k: tensor<?x48xf32>, %v: tensor<?x32xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !heads, %layer: index) -> tensor<?x32xf32> {
  %a = call @heads(%q, %k, %v, %positions, %sequences, %cache, %layer) : (tensor<?x48xf32>, tensor<?x48xf32>, tensor<?x32xf32>, tensor<?xi32>, tensor<?xi32>, !heads, index) -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// A group holds columns of the latent, or of the rotated key.

// CHECK-LABEL: @latent(
// BF16-SAME:     value_dim = 32, element = bf16>
// INT8-SAME:     value_dim = 32, element = i8, group = 4>
func.func private @latent(!latent)

// CHECK-LABEL: @rounded(
// CHECK-SAME:    element = bf16>
func.func private @rounded(!rounded)
