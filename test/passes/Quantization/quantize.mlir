// RUN: hadal-opt %s -split-input-file -deepseek-quantize="scheme=int8" | FileCheck %s

// The recipe ends in rounding, and a second weight has the scales.

// CHECK: deepseek.weight @lm_head : tensor<40x256xi8> {
// CHECK-NEXT: %[[SOURCE:.+]] = deepseek.source "head"
// CHECK-NEXT: %[[ROUNDED:.+]] = deepseek.quantize %[[SOURCE]] group 128 : tensor<40x256xbf16> -> tensor<40x256xi8>
// CHECK-NEXT: deepseek.yield %[[ROUNDED]] : tensor<40x256xi8>
// CHECK: deepseek.weight @lm_head.scales : tensor<40x2xf16> {
// CHECK-NEXT: %[[SOURCE:.+]] = deepseek.source "head"
// CHECK-NEXT: %[[SCALES:.+]] = deepseek.quantize_scales %[[SOURCE]] bits 8 : tensor<40x256xbf16> -> tensor<40x2xf16>
// CHECK-NEXT: deepseek.yield %[[SCALES]] : tensor<40x2xf16>
deepseek.weight @lm_head : tensor<40x256xbf16> {
  %0 = deepseek.source "head" in [] at [] : tensor<40x256xbf16>
  deepseek.yield %0 : tensor<40x256xbf16>
}
// CHECK-LABEL: func.func @head
// CHECK: %[[W:.+]] = deepseek.use_weight @lm_head : tensor<40x256xi8>
// CHECK: %[[S:.+]] = deepseek.use_weight @lm_head.scales : tensor<40x2xf16>
// CHECK: deepseek.lm_head %{{.+}}, %[[W]] scales %[[S]] : tensor<40x2xf16> activation_group 128 : tensor<?x256xf32>, tensor<40x256xi8> -> tensor<?x40xf32>
func.func @head(%x: tensor<?x256xf32>) -> tensor<?x40xf32> {
  %w = deepseek.use_weight @lm_head : tensor<40x256xbf16>
  %y = deepseek.lm_head %x, %w : tensor<?x256xf32>, tensor<40x256xbf16> -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// -----

// An argument that several weights are passed for becomes two, through calls
// of calls; other arguments keep their order, and biases stay.

// CHECK: deepseek.weight @a.0 : tensor<32x64xi8>
// CHECK: deepseek.weight @a.0.scales : tensor<32x1xf16>
deepseek.weight @a.0 : tensor<32x64xf16> {
  %0 = deepseek.source "a.0" in [] at [] : tensor<32x64xf16>
  deepseek.yield %0 : tensor<32x64xf16>
}
// CHECK: deepseek.weight @a.1 : tensor<32x64xi8>
// CHECK: deepseek.weight @a.1.scales : tensor<32x1xf16>
deepseek.weight @a.1 : tensor<32x64xf16> {
  %0 = deepseek.source "a.1" in [] at [] : tensor<32x64xf16>
  deepseek.yield %0 : tensor<32x64xf16>
}
// CHECK: deepseek.weight @bias : tensor<32xf32>
deepseek.weight @bias : tensor<32xf32> {
  %0 = deepseek.source "bias" in [] at [] : tensor<32xf32>
  deepseek.yield %0 : tensor<32xf32>
}
// CHECK: deepseek.weight @b : tensor<64x32xi8>
// CHECK: deepseek.weight @b.scales : tensor<64x1xf16>
deepseek.weight @b : tensor<64x32xf32> {
  %0 = deepseek.source "b" in [] at [] : tensor<64x32xf32>
  deepseek.yield %0 : tensor<64x32xf32>
}

// CHECK-LABEL: func.func private @inner(
// CHECK-SAME: %[[X:[^:]+]]: tensor<?x64xf32>, %[[A:[^:]+]]: tensor<32x64xi8>, %[[AS:[^:]+]]: tensor<32x1xf16>, %[[BIAS:[^:]+]]: tensor<32xf32>, %[[B:[^:]+]]: tensor<64x32xi8>, %[[BS:[^:]+]]: tensor<64x1xf16>, %{{.+}}: index)
// CHECK: deepseek.linear %[[X]], %[[A]] bias %[[BIAS]] : tensor<32xf32> scales %[[AS]] : tensor<32x1xf16> activation_group 64 :
// CHECK: deepseek.linear %{{.+}}, %[[B]] scales %[[BS]] : tensor<64x1xf16> activation_group 32 :
func.func private @inner(%x: tensor<?x64xf32>, %a: tensor<32x64xf16>, %bias: tensor<32xf32>, %b: tensor<64x32xf32>, %layer: index) -> tensor<?x64xf32> {
  %0 = deepseek.linear %x, %a bias %bias : tensor<32xf32> : tensor<?x64xf32>, tensor<32x64xf16> -> tensor<?x32xf32>
  %1 = deepseek.swiglu %0, %0 : tensor<?x32xf32>
  %2 = deepseek.linear %1, %b : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return %2 : tensor<?x64xf32>
}
// CHECK-LABEL: func.func private @outer(
// CHECK-SAME: %[[B:[^:]+]]: tensor<64x32xi8>, %[[BS:[^:]+]]: tensor<64x1xf16>, %[[X:[^:]+]]: tensor<?x64xf32>, %[[A:[^:]+]]: tensor<32x64xi8>, %[[AS:[^:]+]]: tensor<32x1xf16>)
// CHECK: call @inner(%[[X]], %[[A]], %[[AS]], %{{.+}}, %[[B]], %[[BS]], %{{.+}})
func.func private @outer(%b: tensor<64x32xf32>, %x: tensor<?x64xf32>, %a: tensor<32x64xf16>) -> tensor<?x64xf32> {
  %layer = arith.constant 0 : index
  %bias = deepseek.use_weight @bias : tensor<32xf32>
  %0 = call @inner(%x, %a, %bias, %b, %layer) : (tensor<?x64xf32>, tensor<32x64xf16>, tensor<32xf32>, tensor<64x32xf32>, index) -> tensor<?x64xf32>
  return %0 : tensor<?x64xf32>
}
// CHECK-LABEL: func.func @forward
// CHECK: %[[B:.+]] = deepseek.use_weight @b : tensor<64x32xi8>
// CHECK: %[[BS:.+]] = deepseek.use_weight @b.scales
// CHECK: %[[A0:.+]] = deepseek.use_weight @a.0 :
// CHECK: %[[A0S:.+]] = deepseek.use_weight @a.0.scales
// CHECK: call @outer(%[[B]], %[[BS]], %{{.+}}, %[[A0]], %[[A0S]])
// CHECK: %[[A1:.+]] = deepseek.use_weight @a.1 :
// CHECK: %[[A1S:.+]] = deepseek.use_weight @a.1.scales
// CHECK: call @outer(%[[B]], %[[BS]], %{{.+}}, %[[A1]], %[[A1S]])
func.func @forward(%x: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %b = deepseek.use_weight @b : tensor<64x32xf32>
  %a0 = deepseek.use_weight @a.0 : tensor<32x64xf16>
  %0 = call @outer(%b, %x, %a0) : (tensor<64x32xf32>, tensor<?x64xf32>, tensor<32x64xf16>) -> tensor<?x64xf32>
  %a1 = deepseek.use_weight @a.1 : tensor<32x64xf16>
  %1 = call @outer(%b, %0, %a1) : (tensor<64x32xf32>, tensor<?x64xf32>, tensor<32x64xf16>) -> tensor<?x64xf32>
  return %1 : tensor<?x64xf32>
}

// -----

// FP8 is multiplied by its scales first; these leave functions and calls, and
// their name goes to the new ones.

// CHECK: deepseek.weight @mlp.up : tensor<130x128xi8> {
// CHECK-NEXT: %[[SOURCE:.+]] = deepseek.source "up"
// CHECK-NEXT: %[[BLOCKS:.+]] = deepseek.source "up_scale_inv"
// CHECK-NEXT: %[[WHOLE:.+]] = deepseek.dequantize %[[SOURCE]], %[[BLOCKS]] block 128 x 128 : tensor<130x128xf8E4M3FN>, tensor<2x1xf32> -> tensor<130x128xf32>
// CHECK-NEXT: deepseek.quantize %[[WHOLE]] group 128 : tensor<130x128xf32> -> tensor<130x128xi8>
// CHECK: deepseek.weight @mlp.up.scales : tensor<130x1xf16> {
// CHECK-NEXT: deepseek.source "up"
// CHECK-NEXT: deepseek.source "up_scale_inv"
// CHECK-NEXT: %[[WHOLE:.+]] = deepseek.dequantize
// CHECK-NEXT: deepseek.quantize_scales %[[WHOLE]] bits 8
// CHECK-NOT: deepseek.weight
deepseek.weight @mlp.up : tensor<130x128xf8E4M3FN> {
  %0 = deepseek.source "up" in [] at [] : tensor<130x128xf8E4M3FN>
  deepseek.yield %0 : tensor<130x128xf8E4M3FN>
}
deepseek.weight @mlp.up.scales : tensor<2x1xf32> {
  %0 = deepseek.source "up_scale_inv" in [] at [] : tensor<2x1xf32>
  deepseek.yield %0 : tensor<2x1xf32>
}
// CHECK-LABEL: func.func private @fp8(
// CHECK-SAME: %[[X:[^:]+]]: tensor<?x128xf32>, %[[W:[^:]+]]: tensor<130x128xi8>, %[[S:[^:]+]]: tensor<130x1xf16>) ->
// CHECK: deepseek.linear %[[X]], %[[W]] scales %[[S]] : tensor<130x1xf16> activation_group 128
func.func private @fp8(%x: tensor<?x128xf32>, %w: tensor<130x128xf8E4M3FN>, %s: tensor<2x1xf32>) -> tensor<?x130xf32> {
  %y = deepseek.linear %x, %w scales %s : tensor<2x1xf32> : tensor<?x128xf32>, tensor<130x128xf8E4M3FN> -> tensor<?x130xf32>
  return %y : tensor<?x130xf32>
}
// CHECK-LABEL: func.func @fp8_caller
// CHECK: %[[W:.+]] = deepseek.use_weight @mlp.up : tensor<130x128xi8>
// CHECK-NEXT: %[[S:.+]] = deepseek.use_weight @mlp.up.scales : tensor<130x1xf16>
// CHECK-NEXT: call @fp8(%{{.+}}, %[[W]], %[[S]])
func.func @fp8_caller(%x: tensor<?x128xf32>) -> tensor<?x130xf32> {
  %w = deepseek.use_weight @mlp.up : tensor<130x128xf8E4M3FN>
  %s = deepseek.use_weight @mlp.up.scales : tensor<2x1xf32>
  %y = call @fp8(%x, %w, %s) : (tensor<?x128xf32>, tensor<130x128xf8E4M3FN>, tensor<2x1xf32>) -> tensor<?x130xf32>
  return %y : tensor<?x130xf32>
}

// -----

// Groups of a matrix are those that its rows have room for; inputs are rounded
// by what divides the groups of all three.

deepseek.weight @gate : tensor<2x32x128xbf16> {
  %0 = deepseek.source "{}.gate" in [] at [] : tensor<2x32x128xbf16>
  deepseek.yield %0 : tensor<2x32x128xbf16>
}
deepseek.weight @down : tensor<2x128x32xbf16> {
  %0 = deepseek.source "{}.down" in [] at [] : tensor<2x128x32xbf16>
  deepseek.yield %0 : tensor<2x128x32xbf16>
}
// CHECK-LABEL: func.func @experts
// CHECK: %[[G:.+]] = deepseek.use_weight @gate : tensor<2x32x128xi8>
// CHECK: %[[GS:.+]] = deepseek.use_weight @gate.scales : tensor<2x32x1xf16>
// CHECK: %[[D:.+]] = deepseek.use_weight @down : tensor<2x128x32xi8>
// CHECK: %[[DS:.+]] = deepseek.use_weight @down.scales : tensor<2x128x1xf16>
// CHECK: deepseek.experts %{{.+}} gate %[[G]] up %[[G]] down %[[D]] scales %[[GS]], %[[GS]], %[[DS]] : tensor<2x32x1xf16>, tensor<2x32x1xf16>, tensor<2x128x1xf16> activation_group 32 :
func.func @experts(%x: tensor<?x128xf32>, %e: tensor<?x1xi32>, %w: tensor<?x1xf32>) -> tensor<?x128xf32> {
  %gate = deepseek.use_weight @gate : tensor<2x32x128xbf16>
  %down = deepseek.use_weight @down : tensor<2x128x32xbf16>
  %y = deepseek.experts %x, %e, %w gate %gate up %gate down %down : tensor<?x128xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<2x32x128xbf16>, tensor<2x32x128xbf16>, tensor<2x128x32xbf16> -> tensor<?x128xf32>
  return %y : tensor<?x128xf32>
}
