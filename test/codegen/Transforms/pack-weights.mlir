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

// -----

// Integers share records with their scales: two groups, whose scales come
// first, are nine lines of 64 bytes.

// CHECK-LABEL: deepseek.weight @w : tensor<32x128xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 64, bytes = 576>>> beside @s at 64
deepseek.weight @w : tensor<32x128xi4> {
  %0 = deepseek.source "w" in [] at [] : tensor<32x128xi4>
  deepseek.yield %0 : tensor<32x128xi4>
}
// CHECK-LABEL: deepseek.weight @s : tensor<32x4xf16, #deepseek.tiled<rows = 16, record = <columns = 2, bytes = 576>>> {
deepseek.weight @s : tensor<32x4xf16> {
  %0 = deepseek.source "s" in [] at [] : tensor<32x4xf16>
  deepseek.yield %0 : tensor<32x4xf16>
}
func.func @records(%x: tensor<?x128xf32>) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @w : tensor<32x128xi4>
  %s = deepseek.use_weight @s : tensor<32x4xf16>
  %y = deepseek.linear %x, %w scales %s : tensor<32x4xf16> : tensor<?x128xf32>, tensor<32x128xi4> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// Tiles of a gate and an up alternate, also if a function takes them.

// CHECK-LABEL: deepseek.weight @g : {{.*}}record = <columns = 64, bytes = 576, tiles = 2>>> beside @gs at 64
deepseek.weight @g : tensor<32x128xi4> {
  %0 = deepseek.source "g" in [] at [] : tensor<32x128xi4>
  deepseek.yield %0 : tensor<32x128xi4>
}
// CHECK-LABEL: deepseek.weight @gs : {{.*}}record = <columns = 2, bytes = 576, tiles = 2>>> {
deepseek.weight @gs : tensor<32x4xf16> {
  %0 = deepseek.source "gs" in [] at [] : tensor<32x4xf16>
  deepseek.yield %0 : tensor<32x4xf16>
}
// CHECK-LABEL: deepseek.weight @u : {{.*}} beside @gs at 1216
deepseek.weight @u : tensor<32x128xi4> {
  %0 = deepseek.source "u" in [] at [] : tensor<32x128xi4>
  deepseek.yield %0 : tensor<32x128xi4>
}
// CHECK-LABEL: deepseek.weight @us : {{.*}} beside @gs at 1152
deepseek.weight @us : tensor<32x4xf16> {
  %0 = deepseek.source "us" in [] at [] : tensor<32x4xf16>
  deepseek.yield %0 : tensor<32x4xf16>
}
func.func private @layer(%x: tensor<?x128xf32>, %g: tensor<32x128xi4>, %gs: tensor<32x4xf16>, %u: tensor<32x128xi4>, %us: tensor<32x4xf16>) -> tensor<?x32xf32> {
  %a = deepseek.linear %x, %g scales %gs : tensor<32x4xf16> : tensor<?x128xf32>, tensor<32x128xi4> -> tensor<?x32xf32>
  %b = deepseek.linear %x, %u scales %us : tensor<32x4xf16> : tensor<?x128xf32>, tensor<32x128xi4> -> tensor<?x32xf32>
  %y = deepseek.swiglu %a, %b : tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
func.func @gated(%x: tensor<?x128xf32>) -> tensor<?x32xf32> {
  %g = deepseek.use_weight @g : tensor<32x128xi4>
  %gs = deepseek.use_weight @gs : tensor<32x4xf16>
  %u = deepseek.use_weight @u : tensor<32x128xi4>
  %us = deepseek.use_weight @us : tensor<32x4xf16>
  %y = call @layer(%x, %g, %gs, %u, %us) : (tensor<?x128xf32>, tensor<32x128xi4>, tensor<32x4xf16>, tensor<32x128xi4>, tensor<32x4xf16>) -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// An odd number of groups has no records of whole lines, and scales that two
// weights read are beside neither.

// CHECK-LABEL: deepseek.weight @odd : tensor<16x96xi4, #deepseek.tiled<rows = 16, columns = 8>> {
deepseek.weight @odd : tensor<16x96xi4> {
  %0 = deepseek.source "odd" in [] at [] : tensor<16x96xi4>
  deepseek.yield %0 : tensor<16x96xi4>
}
// CHECK-LABEL: deepseek.weight @three : tensor<16x3xf16, #deepseek.tiled<rows = 16>> {
deepseek.weight @three : tensor<16x3xf16> {
  %0 = deepseek.source "three" in [] at [] : tensor<16x3xf16>
  deepseek.yield %0 : tensor<16x3xf16>
}
// CHECK-LABEL: deepseek.weight @a : tensor<96x128xi4, #deepseek.tiled<rows = 16, columns = 8>> {
deepseek.weight @a : tensor<96x128xi4> {
  %0 = deepseek.source "a" in [] at [] : tensor<96x128xi4>
  deepseek.yield %0 : tensor<96x128xi4>
}
// CHECK-LABEL: deepseek.weight @b : tensor<96x128xi4, #deepseek.tiled<rows = 16, columns = 8>> {
deepseek.weight @b : tensor<96x128xi4> {
  %0 = deepseek.source "b" in [] at [] : tensor<96x128xi4>
  deepseek.yield %0 : tensor<96x128xi4>
}
// CHECK-LABEL: deepseek.weight @shared : tensor<96x4xf16, #deepseek.tiled<rows = 16>> {
deepseek.weight @shared : tensor<96x4xf16> {
  %0 = deepseek.source "shared" in [] at [] : tensor<96x4xf16>
  deepseek.yield %0 : tensor<96x4xf16>
}
func.func @apart(%x: tensor<?x128xf32>) -> (tensor<?x16xf32>, tensor<?x96xf32>) {
  %odd = deepseek.use_weight @odd : tensor<16x96xi4>
  %three = deepseek.use_weight @three : tensor<16x3xf16>
  %a = deepseek.use_weight @a : tensor<96x128xi4>
  %b = deepseek.use_weight @b : tensor<96x128xi4>
  %shared = deepseek.use_weight @shared : tensor<96x4xf16>
  %h = deepseek.linear %x, %a scales %shared : tensor<96x4xf16> : tensor<?x128xf32>, tensor<96x128xi4> -> tensor<?x96xf32>
  %i = deepseek.linear %x, %b scales %shared : tensor<96x4xf16> : tensor<?x128xf32>, tensor<96x128xi4> -> tensor<?x96xf32>
  %y = deepseek.linear %h, %odd scales %three : tensor<16x3xf16> : tensor<?x96xf32>, tensor<16x96xi4> -> tensor<?x16xf32>
  return %y, %i : tensor<?x16xf32>, tensor<?x96xf32>
}
