// Steps of a recipe that change nothing go away.

// RUN: hadal-opt %s -canonicalize | FileCheck %s

// A slice of everything.

// CHECK-LABEL: deepseek.weight @slice
// CHECK-NEXT: %[[W:.+]] = deepseek.source
// CHECK-NEXT: deepseek.yield %[[W]]
deepseek.weight @slice : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  %1 = deepseek.slice %0 axis 1 from 0 to 8 : tensor<4x8xbf16> -> tensor<4x8xbf16>
  deepseek.yield %1 : tensor<4x8xbf16>
}

// A slice of a part stays.

// CHECK-LABEL: deepseek.weight @slice_of_part
// CHECK: deepseek.slice
deepseek.weight @slice_of_part : tensor<4x4xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  %1 = deepseek.slice %0 axis 1 from 0 to 4 : tensor<4x8xbf16> -> tensor<4x4xbf16>
  deepseek.yield %1 : tensor<4x4xbf16>
}

// A reshape to the same shape.

// CHECK-LABEL: deepseek.weight @reshape
// CHECK-NEXT: %[[W:.+]] = deepseek.source
// CHECK-NEXT: deepseek.yield %[[W]]
deepseek.weight @reshape : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  %1 = deepseek.reshape %0 : tensor<4x8xbf16> -> tensor<4x8xbf16>
  deepseek.yield %1 : tensor<4x8xbf16>
}

// Two reshapes are one.

// CHECK-LABEL: deepseek.weight @reshapes
// CHECK-NEXT: %[[W:.+]] = deepseek.source
// CHECK-NEXT: %[[R:.+]] = deepseek.reshape %[[W]] : tensor<4x8xbf16> -> tensor<2x16xbf16>
// CHECK-NEXT: deepseek.yield %[[R]]
deepseek.weight @reshapes : tensor<2x16xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  %1 = deepseek.reshape %0 : tensor<4x8xbf16> -> tensor<32xbf16>
  %2 = deepseek.reshape %1 : tensor<32xbf16> -> tensor<2x16xbf16>
  deepseek.yield %2 : tensor<2x16xbf16>
}

// There and back is nothing.

// CHECK-LABEL: deepseek.weight @reshape_back
// CHECK-NEXT: %[[W:.+]] = deepseek.source
// CHECK-NEXT: deepseek.yield %[[W]]
deepseek.weight @reshape_back : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  %1 = deepseek.reshape %0 : tensor<4x8xbf16> -> tensor<32xbf16>
  %2 = deepseek.reshape %1 : tensor<32xbf16> -> tensor<4x8xbf16>
  deepseek.yield %2 : tensor<4x8xbf16>
}

// A transpose that keeps the order.

// CHECK-LABEL: deepseek.weight @transpose
// CHECK-NEXT: %[[W:.+]] = deepseek.source
// CHECK-NEXT: deepseek.yield %[[W]]
deepseek.weight @transpose : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  %1 = deepseek.transpose %0 [0, 1] : tensor<4x8xbf16> -> tensor<4x8xbf16>
  deepseek.yield %1 : tensor<4x8xbf16>
}

// One that does not, of a square, stays: the type alone does not tell.

// CHECK-LABEL: deepseek.weight @transpose_square
// CHECK: deepseek.transpose
deepseek.weight @transpose_square : tensor<8x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<8x8xbf16>
  %1 = deepseek.transpose %0 [1, 0] : tensor<8x8xbf16> -> tensor<8x8xbf16>
  deepseek.yield %1 : tensor<8x8xbf16>
}

// A conversion to the same type.

// CHECK-LABEL: deepseek.weight @convert
// CHECK-NEXT: %[[W:.+]] = deepseek.source
// CHECK-NEXT: deepseek.yield %[[W]]
deepseek.weight @convert : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  %1 = deepseek.convert %0 : tensor<4x8xbf16> to tensor<4x8xbf16>
  deepseek.yield %1 : tensor<4x8xbf16>
}

// Two conversions stay two: the first may round.

// CHECK-LABEL: deepseek.weight @converts
// CHECK-COUNT-2: deepseek.convert
deepseek.weight @converts : tensor<4x8xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xf32>
  %1 = deepseek.convert %0 : tensor<4x8xf32> to tensor<4x8xbf16>
  %2 = deepseek.convert %1 : tensor<4x8xbf16> to tensor<4x8xf32>
  deepseek.yield %2 : tensor<4x8xf32>
}

// What a recipe does not yield, and a weight that is not read.

// CHECK-LABEL: deepseek.weight @dead
// CHECK-NOT: "other"
// CHECK-LABEL: func.func @unread
// CHECK-NEXT: return
deepseek.weight @dead : tensor<4xf32> {
  %0 = deepseek.source "other" in [] at [] : tensor<4xf32>
  %1 = deepseek.source "w" in [] at [] : tensor<4xf32>
  deepseek.yield %1 : tensor<4xf32>
}
func.func @unread() {
  %0 = deepseek.use_weight @dead : tensor<4xf32>
  return
}

// An attention whose result is not read still fills the cache.

!heads = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 8, element = f32>

// CHECK-LABEL: func.func @unread_attention
// CHECK: deepseek.attention
func.func @unread_attention(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !heads, %layer: index) {
  %0 = deepseek.attention %q, %k, %k at %p of %s in %cache[%layer] heads 4 scale 3.5e-1 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, !heads -> tensor<?x32xf32>
  return
}

// By value: recipes that were folded make the same bits.

// RUN: hadal-opt %S/Reference/Inputs/mla-moe.mlir -deepseek-run="tokens=3,1,4 check=1e-13" -deepseek-absorb-latent-attention -canonicalize -cse -deepseek-run="tokens=3,1,4 check=1e-13" -o /dev/null
// RUN: hadal-opt %S/Reference/Inputs/dense.mlir -deepseek-run="tokens=3,1,4 check=0" -canonicalize -cse -deepseek-run="tokens=3,1,4 check=0" -o /dev/null
