// RUN: hadal-opt %s -deepseek-pack-weights -split-input-file | FileCheck %s --enable-var-scope

// A matrix that a product reads is stored in tiles: its type says so.

// CHECK-LABEL: deepseek.weight @w : tensor<20x8xbf16, #deepseek.tiled<rows = 16>>
// CHECK:         %[[S:.+]] = deepseek.source
// CHECK:         %[[P:.+]] = deepseek.pack %[[S]] : tensor<20x8xbf16> to tensor<20x8xbf16, #deepseek.tiled<rows = 16>>
// CHECK:         deepseek.yield %[[P]]
deepseek.weight @w : tensor<20x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<20x8xbf16>
  deepseek.yield %0 : tensor<20x8xbf16>
}
// CHECK-LABEL: func.func @product
// CHECK:         deepseek.use_weight @w : tensor<20x8xbf16, #deepseek.tiled<rows = 16>>
func.func @product(%x: tensor<?x8xf32>) -> tensor<?x20xf32> {
  %w = deepseek.use_weight @w : tensor<20x8xbf16>
  %y = deepseek.linear %x, %w : tensor<?x8xf32>, tensor<20x8xbf16> -> tensor<?x20xf32>
  return %y : tensor<?x20xf32>
}

// -----

// A function that reads its argument as a matrix takes it packed.

// CHECK-LABEL: deepseek.weight @w : tensor<16x8xf32, #deepseek.tiled<rows = 16>>
deepseek.weight @w : tensor<16x8xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<16x8xf32>
  deepseek.yield %0 : tensor<16x8xf32>
}
// CHECK-LABEL: func.func private @layer
// CHECK-SAME:    tensor<16x8xf32, #deepseek.tiled<rows = 16>>
func.func private @layer(%x: tensor<?x8xf32>, %w: tensor<16x8xf32>) -> tensor<?x16xf32> {
  %y = deepseek.linear %x, %w : tensor<?x8xf32>, tensor<16x8xf32> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}
func.func @argument(%x: tensor<?x8xf32>) -> tensor<?x16xf32> {
  %w = deepseek.use_weight @w : tensor<16x8xf32>
  %y = call @layer(%x, %w) : (tensor<?x8xf32>, tensor<16x8xf32>) -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// -----

// Norm weights, scales and an embedding table of its own stay row-major.

// CHECK-LABEL: deepseek.weight @table : tensor<40x8xbf16> {
deepseek.weight @table : tensor<40x8xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<40x8xbf16>
  deepseek.yield %0 : tensor<40x8xbf16>
}
// CHECK-LABEL: deepseek.weight @norm : tensor<8xf32> {
deepseek.weight @norm : tensor<8xf32> {
  %0 = deepseek.source "norm" in [] at [] : tensor<8xf32>
  deepseek.yield %0 : tensor<8xf32>
}
// CHECK-LABEL: deepseek.weight @scales : tensor<1x1xf32> {
deepseek.weight @scales : tensor<1x1xf32> {
  %0 = deepseek.source "scales" in [] at [] : tensor<1x1xf32>
  deepseek.yield %0 : tensor<1x1xf32>
}
// CHECK-LABEL: deepseek.weight @w : tensor<16x8xf8E4M3FN, #deepseek.tiled<rows = 16>>
deepseek.weight @w : tensor<16x8xf8E4M3FN> {
  %0 = deepseek.source "w" in [] at [] : tensor<16x8xf8E4M3FN>
  deepseek.yield %0 : tensor<16x8xf8E4M3FN>
}
func.func @row_major(%ids: tensor<?xi32>) -> tensor<?x16xf32> {
  %table = deepseek.use_weight @table : tensor<40x8xbf16>
  %norm = deepseek.use_weight @norm : tensor<8xf32>
  %w = deepseek.use_weight @w : tensor<16x8xf8E4M3FN>
  %s = deepseek.use_weight @scales : tensor<1x1xf32>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<40x8xbf16> -> tensor<?x8xf32>
  %h = deepseek.rms_norm %x, %norm epsilon 1.0e-6 : tensor<?x8xf32>, tensor<8xf32>
  %y = deepseek.linear %h, %w scales %s : tensor<1x1xf32> : tensor<?x8xf32>, tensor<16x8xf8E4M3FN> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// -----

// A table that is tied to the head is stored once, for the head.

// CHECK-LABEL: deepseek.weight @table : tensor<40x8xbf16, #deepseek.tiled<rows = 16>>
deepseek.weight @table : tensor<40x8xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<40x8xbf16>
  deepseek.yield %0 : tensor<40x8xbf16>
}
// CHECK-LABEL: func.func @tied
// CHECK-COUNT-1: deepseek.use_weight @table : tensor<40x8xbf16, #deepseek.tiled<rows = 16>>
func.func @tied(%ids: tensor<?xi32>) -> tensor<?x40xf32> {
  %table = deepseek.use_weight @table : tensor<40x8xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<40x8xbf16> -> tensor<?x8xf32>
  %y = deepseek.lm_head %x, %table : tensor<?x8xf32>, tensor<40x8xbf16> -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// -----

// A weight that is packed already is left alone.

// CHECK-LABEL: deepseek.weight @w
// CHECK-COUNT-1: deepseek.pack
// CHECK-NOT:     deepseek.pack
deepseek.weight @w : tensor<16x8xbf16, #deepseek.tiled<rows = 16>> {
  %0 = deepseek.source "w" in [] at [] : tensor<16x8xbf16>
  %1 = deepseek.pack %0 : tensor<16x8xbf16> to tensor<16x8xbf16, #deepseek.tiled<rows = 16>>
  deepseek.yield %1 : tensor<16x8xbf16, #deepseek.tiled<rows = 16>>
}
func.func @packed(%x: tensor<?x8xf32>) -> tensor<?x16xf32> {
  %w = deepseek.use_weight @w : tensor<16x8xbf16, #deepseek.tiled<rows = 16>>
  %y = deepseek.linear %x, %w : tensor<?x8xf32>, tensor<16x8xbf16, #deepseek.tiled<rows = 16>> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}
