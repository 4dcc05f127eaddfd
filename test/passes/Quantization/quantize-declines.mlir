// RUN: hadal-opt %s -split-input-file -verify-diagnostics -deepseek-quantize="scheme=int8-g64" | FileCheck %s

// Rows that the group does not divide get a smaller one; rows of no multiple of
// 32 stay.

// CHECK: deepseek.weight @mlp.groups : tensor<64x96xi8>
// CHECK: deepseek.weight @mlp.groups.scales : tensor<64x3xf16>
// expected-remark @below {{groups of 32, not 64, for 'mlp.groups': it has rows of 96}}
deepseek.weight @mlp.groups : tensor<64x96xbf16> {
  %0 = deepseek.source "groups" in [] at [] : tensor<64x96xbf16>
  deepseek.yield %0 : tensor<64x96xbf16>
}
// CHECK: deepseek.weight @mlp.odd.0 : tensor<64x48xbf16>
// expected-remark @below {{cannot quantize 'mlp.odd.0' and 1 like it: rows of 48 are no multiple of 32}}
deepseek.weight @mlp.odd.0 : tensor<64x48xbf16> {
  %0 = deepseek.source "odd.0" in [] at [] : tensor<64x48xbf16>
  deepseek.yield %0 : tensor<64x48xbf16>
}
// CHECK: deepseek.weight @mlp.odd.1 : tensor<64x48xbf16>
deepseek.weight @mlp.odd.1 : tensor<64x48xbf16> {
  %0 = deepseek.source "odd.1" in [] at [] : tensor<64x48xbf16>
  deepseek.yield %0 : tensor<64x48xbf16>
}
func.func private @layer(%x: tensor<?x48xf32>, %w: tensor<64x48xbf16>) -> tensor<?x64xf32> {
  %y = deepseek.linear %x, %w : tensor<?x48xf32>, tensor<64x48xbf16> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
func.func @rows(%x: tensor<?x96xf32>, %z: tensor<?x48xf32>) -> (tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>) {
  %a = deepseek.use_weight @mlp.groups : tensor<64x96xbf16>
  %0 = deepseek.linear %x, %a : tensor<?x96xf32>, tensor<64x96xbf16> -> tensor<?x64xf32>
  %b = deepseek.use_weight @mlp.odd.0 : tensor<64x48xbf16>
  %1 = call @layer(%z, %b) : (tensor<?x48xf32>, tensor<64x48xbf16>) -> tensor<?x64xf32>
  %c = deepseek.use_weight @mlp.odd.1 : tensor<64x48xbf16>
  %2 = call @layer(%z, %c) : (tensor<?x48xf32>, tensor<64x48xbf16>) -> tensor<?x64xf32>
  return %0, %1, %2 : tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>
}

// -----

// Experts are of one type, all three of them.

// CHECK: deepseek.weight @gate : tensor<2x48x64xbf16>
// expected-remark @below {{cannot quantize 'gate': another matrix of its experts stays}}
deepseek.weight @gate : tensor<2x48x64xbf16> {
  %0 = deepseek.source "{}.gate" in [] at [] : tensor<2x48x64xbf16>
  deepseek.yield %0 : tensor<2x48x64xbf16>
}
// CHECK: deepseek.weight @down : tensor<2x64x48xbf16>
// expected-remark @below {{cannot quantize 'down': rows of 48 are no multiple of 32}}
deepseek.weight @down : tensor<2x64x48xbf16> {
  %0 = deepseek.source "{}.down" in [] at [] : tensor<2x64x48xbf16>
  deepseek.yield %0 : tensor<2x64x48xbf16>
}
func.func @experts(%x: tensor<?x64xf32>, %e: tensor<?x1xi32>, %w: tensor<?x1xf32>) -> tensor<?x64xf32> {
  %gate = deepseek.use_weight @gate : tensor<2x48x64xbf16>
  %down = deepseek.use_weight @down : tensor<2x64x48xbf16>
  %y = deepseek.experts %x, %e, %w gate %gate up %gate down %down : tensor<?x64xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<2x48x64xbf16>, tensor<2x48x64xbf16>, tensor<2x64x48xbf16> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// What nothing is known of may be a router of a kind that is not known.

// CHECK: deepseek.weight @w : tensor<64x64xbf16>
// expected-remark @below {{cannot quantize 'w': nothing says what it is part of}}
deepseek.weight @w : tensor<64x64xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<64x64xbf16>
  deepseek.yield %0 : tensor<64x64xbf16>
}
func.func @unknown(%x: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %w = deepseek.use_weight @w : tensor<64x64xbf16>
  %y = deepseek.linear %x, %w : tensor<?x64xf32>, tensor<64x64xbf16> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// A public function may have callers that are not seen.

// CHECK-LABEL: func.func @public
// CHECK: deepseek.lm_head %{{.+}} : tensor<?x64xf32>, tensor<40x64xbf16>
func.func @public(%x: tensor<?x64xf32>, %w: tensor<40x64xbf16>) -> tensor<?x40xf32> {
  // expected-remark @below {{cannot quantize a weight: it is an argument of a function whose callers are not known}}
  %y = deepseek.lm_head %x, %w : tensor<?x64xf32>, tensor<40x64xbf16> -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// -----

// So may one whose address is taken; the weight that is passed elsewhere stays
// with it.

// CHECK: deepseek.weight @w : tensor<40x64xbf16>
// expected-remark @below {{cannot quantize 'w': it is an argument of a function whose callers are not known}}
deepseek.weight @w : tensor<40x64xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<40x64xbf16>
  deepseek.yield %0 : tensor<40x64xbf16>
}
func.func private @address_taken(%x: tensor<?x64xf32>, %w: tensor<40x64xbf16>) -> tensor<?x40xf32> {
  %y = deepseek.lm_head %x, %w : tensor<?x64xf32>, tensor<40x64xbf16> -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}
func.func @taker(%x: tensor<?x64xf32>) -> tensor<?x40xf32> {
  %f = func.constant @address_taken : (tensor<?x64xf32>, tensor<40x64xbf16>) -> tensor<?x40xf32>
  %w = deepseek.use_weight @w : tensor<40x64xbf16>
  %y = call @address_taken(%x, %w) : (tensor<?x64xf32>, tensor<40x64xbf16>) -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// -----

// A weight that something else reads, or that has tiles already, stays.

// CHECK: deepseek.weight @returned : tensor<40x64xbf16>
// expected-remark @below {{cannot quantize 'returned': 'func.return' reads it, too}}
deepseek.weight @returned : tensor<40x64xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<40x64xbf16>
  deepseek.yield %0 : tensor<40x64xbf16>
}
// CHECK: deepseek.weight @packed : tensor<40x64xbf16, #deepseek.tiled<rows = 16>>
// expected-remark @below {{cannot quantize 'packed': it has a layout already}}
deepseek.weight @packed : tensor<40x64xbf16, #deepseek.tiled<rows = 16>> {
  %0 = deepseek.source "w" in [] at [] : tensor<40x64xbf16>
  %1 = deepseek.pack %0 : tensor<40x64xbf16> to tensor<40x64xbf16, #deepseek.tiled<rows = 16>>
  deepseek.yield %1 : tensor<40x64xbf16, #deepseek.tiled<rows = 16>>
}
func.func @readers(%x: tensor<?x64xf32>) -> (tensor<?x40xf32>, tensor<?x40xf32>, tensor<40x64xbf16>) {
  %a = deepseek.use_weight @returned : tensor<40x64xbf16>
  %0 = deepseek.lm_head %x, %a : tensor<?x64xf32>, tensor<40x64xbf16> -> tensor<?x40xf32>
  %b = deepseek.use_weight @packed : tensor<40x64xbf16, #deepseek.tiled<rows = 16>>
  %1 = deepseek.lm_head %x, %b : tensor<?x64xf32>, tensor<40x64xbf16, #deepseek.tiled<rows = 16>> -> tensor<?x40xf32>
  return %0, %1, %a : tensor<?x40xf32>, tensor<?x40xf32>, tensor<40x64xbf16>
}

// -----

// FP8 whose scales differ from place to place has no one value.

// CHECK: deepseek.weight @mlp : tensor<64x64xf8E4M3FN>
// expected-remark @below {{cannot quantize 'mlp': it has different scales in different places}}
deepseek.weight @mlp : tensor<64x64xf8E4M3FN> {
  %0 = deepseek.source "w" in [] at [] : tensor<64x64xf8E4M3FN>
  deepseek.yield %0 : tensor<64x64xf8E4M3FN>
}
deepseek.weight @s0 : tensor<1x1xf32> {
  %0 = deepseek.source "s0" in [] at [] : tensor<1x1xf32>
  deepseek.yield %0 : tensor<1x1xf32>
}
deepseek.weight @s1 : tensor<1x1xf32> {
  %0 = deepseek.source "s1" in [] at [] : tensor<1x1xf32>
  deepseek.yield %0 : tensor<1x1xf32>
}
func.func @two_scales(%x: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %w = deepseek.use_weight @mlp : tensor<64x64xf8E4M3FN>
  %s0 = deepseek.use_weight @s0 : tensor<1x1xf32>
  %s1 = deepseek.use_weight @s1 : tensor<1x1xf32>
  %0 = deepseek.linear %x, %w scales %s0 : tensor<1x1xf32> : tensor<?x64xf32>, tensor<64x64xf8E4M3FN> -> tensor<?x64xf32>
  %1 = deepseek.linear %0, %w scales %s1 : tensor<1x1xf32> : tensor<?x64xf32>, tensor<64x64xf8E4M3FN> -> tensor<?x64xf32>
  return %1 : tensor<?x64xf32>
}

// -----

// Weights that are integers, and what absorbed heads read, are not named.

// CHECK: deepseek.weight @integers : tensor<40x64xi8>
deepseek.weight @integers : tensor<40x64xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<40x64xf32>
  %1 = deepseek.quantize %0 group 32 : tensor<40x64xf32> -> tensor<40x64xi8>
  deepseek.yield %1 : tensor<40x64xi8>
}
deepseek.weight @scales : tensor<40x2xf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<40x64xf32>
  %1 = deepseek.quantize_scales %0 bits 8 : tensor<40x64xf32> -> tensor<40x2xf16>
  deepseek.yield %1 : tensor<40x2xf16>
}
// CHECK: deepseek.weight @heads : tensor<2x16x32xbf16>
deepseek.weight @heads : tensor<2x16x32xbf16> {
  %0 = deepseek.source "heads" in [] at [] : tensor<2x16x32xbf16>
  deepseek.yield %0 : tensor<2x16x32xbf16>
}
func.func @silent(%x: tensor<?x64xf32>) -> (tensor<?x40xf32>, tensor<?x32xf32>) {
  %w = deepseek.use_weight @integers : tensor<40x64xi8>
  %s = deepseek.use_weight @scales : tensor<40x2xf16>
  %0 = deepseek.lm_head %x, %w scales %s : tensor<40x2xf16> activation_group 32 : tensor<?x64xf32>, tensor<40x64xi8> -> tensor<?x40xf32>
  %h = deepseek.use_weight @heads : tensor<2x16x32xbf16>
  %1 = deepseek.head_linear %x, %h : tensor<?x64xf32>, tensor<2x16x32xbf16> -> tensor<?x32xf32>
  return %0, %1 : tensor<?x40xf32>, tensor<?x32xf32>
}

// -----

// A matrix that a function computes is no weight, and keeps the others.

// CHECK: deepseek.weight @gate : tensor<2x32x32xbf16>
// expected-remark @below {{cannot quantize 'gate': another matrix of its experts stays}}
deepseek.weight @gate : tensor<2x32x32xbf16> {
  %0 = deepseek.source "{}.gate" in [] at [] : tensor<2x32x32xbf16>
  deepseek.yield %0 : tensor<2x32x32xbf16>
}
deepseek.weight @down : tensor<2x32x32xf32> {
  %0 = deepseek.source "{}.down" in [] at [] : tensor<2x32x32xf32>
  deepseek.yield %0 : tensor<2x32x32xf32>
}
func.func @computed(%x: tensor<?x32xf32>, %e: tensor<?x1xi32>, %w: tensor<?x1xf32>) -> tensor<?x32xf32> {
  %gate = deepseek.use_weight @gate : tensor<2x32x32xbf16>
  %whole = deepseek.use_weight @down : tensor<2x32x32xf32>
  %down = deepseek.convert %whole : tensor<2x32x32xf32> to tensor<2x32x32xbf16>
  %y = deepseek.experts %x, %e, %w gate %gate up %gate down %down : tensor<?x32xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<2x32x32xbf16>, tensor<2x32x32xbf16>, tensor<2x32x32xbf16> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// Nor is an argument that is computed for some call.

// CHECK-LABEL: func.func private @given
// CHECK-SAME: tensor<40x64xbf16>
func.func private @given(%x: tensor<?x64xf32>, %w: tensor<40x64xbf16>) -> tensor<?x40xf32> {
  // expected-remark @below {{cannot quantize a weight: it is an argument for which a call passes no weight}}
  %y = deepseek.lm_head %x, %w : tensor<?x64xf32>, tensor<40x64xbf16> -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}
deepseek.weight @whole : tensor<40x64xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<40x64xf32>
  deepseek.yield %0 : tensor<40x64xf32>
}
func.func @giver(%x: tensor<?x64xf32>) -> tensor<?x40xf32> {
  %whole = deepseek.use_weight @whole : tensor<40x64xf32>
  %w = deepseek.convert %whole : tensor<40x64xf32> to tensor<40x64xbf16>
  %y = call @given(%x, %w) : (tensor<?x64xf32>, tensor<40x64xbf16>) -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// -----

// What a function elsewhere reads stays as it knows it.

// CHECK: deepseek.weight @w : tensor<40x64xbf16>
// expected-remark @below {{cannot quantize 'w': it is passed to a function without a body}}
deepseek.weight @w : tensor<40x64xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<40x64xbf16>
  deepseek.yield %0 : tensor<40x64xbf16>
}
func.func private @elsewhere(tensor<40x64xbf16>)
func.func @body(%x: tensor<?x64xf32>) -> tensor<?x40xf32> {
  %w = deepseek.use_weight @w : tensor<40x64xbf16>
  call @elsewhere(%w) : (tensor<40x64xbf16>) -> ()
  %y = deepseek.lm_head %x, %w : tensor<?x64xf32>, tensor<40x64xbf16> -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// -----

// FP8 whose scales are computed.

// CHECK: deepseek.weight @mlp : tensor<64x64xf8E4M3FN>
// expected-remark @below {{cannot quantize 'mlp': its scales are not known}}
deepseek.weight @mlp : tensor<64x64xf8E4M3FN> {
  %0 = deepseek.source "w" in [] at [] : tensor<64x64xf8E4M3FN>
  deepseek.yield %0 : tensor<64x64xf8E4M3FN>
}
deepseek.weight @s : tensor<1x1xbf16> {
  %0 = deepseek.source "s" in [] at [] : tensor<1x1xbf16>
  deepseek.yield %0 : tensor<1x1xbf16>
}
func.func @computed_scales(%x: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %w = deepseek.use_weight @mlp : tensor<64x64xf8E4M3FN>
  %stored = deepseek.use_weight @s : tensor<1x1xbf16>
  %s = deepseek.convert %stored : tensor<1x1xbf16> to tensor<1x1xf32>
  %y = deepseek.linear %x, %w scales %s : tensor<1x1xf32> : tensor<?x64xf32>, tensor<64x64xf8E4M3FN> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
