// After this pass comes the layout: the scales of integers are packed in tiles as their weights are, those of FP8 are not.

// RUN: hadal-opt %s -deepseek-quantize="scheme=head=int8-g32,ffn=int4-g64" -deepseek-pack-weights | FileCheck %s

// CHECK: deepseek.weight @head : tensor<40x64xi8, #deepseek.tiled<rows = 16, columns = 4>>
// CHECK: deepseek.weight @head.scales : tensor<40x2xf16, #deepseek.tiled<rows = 16>> {
// CHECK: %[[SCALES:.+]] = deepseek.quantize_scales
// CHECK: deepseek.pack %[[SCALES]] : tensor<40x2xf16> to tensor<40x2xf16, #deepseek.tiled<rows = 16>>
deepseek.weight @head : tensor<40x64xbf16> {
  %0 = deepseek.source "head" in [] at [] : tensor<40x64xbf16>
  deepseek.yield %0 : tensor<40x64xbf16>
}
// CHECK: deepseek.weight @up : tensor<64x64xi4, #deepseek.tiled<rows = 16, columns = 8>>
// CHECK: deepseek.weight @up.scales : tensor<64x1xf16, #deepseek.tiled<rows = 16>>
deepseek.weight @up : tensor<64x64xbf16> {
  %0 = deepseek.source "up" in [] at [] : tensor<64x64xbf16>
  deepseek.yield %0 : tensor<64x64xbf16>
}
// CHECK: deepseek.weight @attn : tensor<64x64xf8E4M3FN, #deepseek.tiled<rows = 16>>
deepseek.weight @attn : tensor<64x64xf8E4M3FN> {
  %0 = deepseek.source "attn" in [] at [] : tensor<64x64xf8E4M3FN>
  deepseek.yield %0 : tensor<64x64xf8E4M3FN>
}
// CHECK: deepseek.weight @attn.scales : tensor<1x1xf32> {
deepseek.weight @attn.scales : tensor<1x1xf32> {
  %0 = deepseek.source "attn_scale_inv" in [] at [] : tensor<1x1xf32>
  deepseek.yield %0 : tensor<1x1xf32>
}
// CHECK: deepseek.weight @e : tensor<2x64x64xi4, #deepseek.tiled<rows = 16, columns = 8>>
// CHECK: deepseek.weight @e.scales : tensor<2x64x2xf16, #deepseek.tiled<rows = 16>>
deepseek.weight @e : tensor<2x64x64xi4> {
  %0 = deepseek.source "e.{}" in [] at [] : tensor<2x64x64xbf16>
  %1 = deepseek.quantize %0 group 32 : tensor<2x64x64xbf16> -> tensor<2x64x64xi4>
  deepseek.yield %1 : tensor<2x64x64xi4>
}
deepseek.weight @e.scales : tensor<2x64x2xf16> {
  %0 = deepseek.source "e.{}" in [] at [] : tensor<2x64x64xbf16>
  %1 = deepseek.quantize_scales %0 bits 4 : tensor<2x64x64xbf16> -> tensor<2x64x2xf16>
  deepseek.yield %1 : tensor<2x64x2xf16>
}
// CHECK-LABEL: func.func private @mlp(
// CHECK-SAME: tensor<64x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %{{.+}}: tensor<64x1xf16, #deepseek.tiled<rows = 16>>)
func.func private @mlp(%x: tensor<?x64xf32>, %w: tensor<64x64xbf16>) -> tensor<?x64xf32> {
  %0 = deepseek.linear %x, %w : tensor<?x64xf32>, tensor<64x64xbf16> -> tensor<?x64xf32>
  %1 = deepseek.swiglu %0, %0 : tensor<?x64xf32>
  return %1 : tensor<?x64xf32>
}
func.func @forward(%x: tensor<?x64xf32>, %ids: tensor<?x1xi32>, %weights: tensor<?x1xf32>) -> tensor<?x40xf32> {
  %attn = deepseek.use_weight @attn : tensor<64x64xf8E4M3FN>
  %attn_scales = deepseek.use_weight @attn.scales : tensor<1x1xf32>
  %0 = deepseek.linear %x, %attn scales %attn_scales : tensor<1x1xf32> : tensor<?x64xf32>, tensor<64x64xf8E4M3FN> -> tensor<?x64xf32>
  %up = deepseek.use_weight @up : tensor<64x64xbf16>
  %1 = call @mlp(%0, %up) : (tensor<?x64xf32>, tensor<64x64xbf16>) -> tensor<?x64xf32>
  %e = deepseek.use_weight @e : tensor<2x64x64xi4>
  %es = deepseek.use_weight @e.scales : tensor<2x64x2xf16>
  %2 = deepseek.experts %1, %ids, %weights gate %e up %e down %e scales %es, %es, %es : tensor<2x64x2xf16>, tensor<2x64x2xf16>, tensor<2x64x2xf16> activation_group 32 : tensor<?x64xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<2x64x64xi4>, tensor<2x64x64xi4>, tensor<2x64x64xi4> -> tensor<?x64xf32>
  %head = deepseek.use_weight @head : tensor<40x64xbf16>
  %y = deepseek.lm_head %2, %head : tensor<?x64xf32>, tensor<40x64xbf16> -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}
