// RUN: hadal-opt %s -split-input-file -deepseek-keep-stored | FileCheck %s --enable-var-scope

// A weight of blocks, with a minimum, becomes three.

// CHECK: deepseek.weight @w : tensor<32x64xui4> {
// CHECK-NEXT: %[[BYTES:.+]] = deepseek.source "w"
// CHECK-NEXT: %[[CODES:.+]] = deepseek.gguf_part codes of q4_1 %[[BYTES]] : tensor<32x40xi8> -> tensor<32x64xui4>
// CHECK-NEXT: deepseek.yield %[[CODES]]
// CHECK: deepseek.weight @w.scales : tensor<32x2xf16> {
// CHECK: deepseek.gguf_part scales of q4_1 %{{.+}} : tensor<32x40xi8> -> tensor<32x2xf16>
// CHECK: deepseek.weight @w.offsets : tensor<32x2xf16> {
// CHECK: deepseek.gguf_part offsets of q4_1 %{{.+}} : tensor<32x40xi8> -> tensor<32x2xf16>
deepseek.weight @w : tensor<32x64xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<32x40xi8>
  %1 = deepseek.dequantize_gguf q4_1 %0 : tensor<32x40xi8> -> tensor<32x64xf32>
  deepseek.yield %1 : tensor<32x64xf32>
}
// CHECK-LABEL: func.func @linear
// CHECK: %[[W:.+]] = deepseek.use_weight @w : tensor<32x64xui4>
// CHECK: %[[S:.+]] = deepseek.use_weight @w.scales : tensor<32x2xf16>
// CHECK: %[[O:.+]] = deepseek.use_weight @w.offsets : tensor<32x2xf16>
// CHECK: deepseek.linear %{{.+}}, %[[W]] scales %[[S]] : tensor<32x2xf16> offsets %[[O]] : tensor<32x2xf16> : tensor<?x64xf32>, tensor<32x64xui4> -> tensor<?x32xf32>
func.func @linear(%x: tensor<?x64xf32>) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @w : tensor<32x64xf32>
  %y = deepseek.linear %x, %w : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// Zero points become offsets. What only other parts need is not in a recipe.

// CHECK: deepseek.weight @w : tensor<32x64xi4> {
// CHECK-NEXT: deepseek.source "codes"
// CHECK-NEXT: %[[C:.+]] = deepseek.unpack
// CHECK-NEXT: deepseek.yield %[[C]]
// CHECK: deepseek.weight @w.scales : tensor<32x2xbf16> {
// CHECK-NEXT: deepseek.source "scales"
// CHECK-NEXT: deepseek.yield
// CHECK: deepseek.weight @w.offsets : tensor<32x2xf32> {
// CHECK: deepseek.dequantize %{{.+}}, %{{.+}} block 1 x 1 : tensor<32x2xi8>, tensor<32x2xbf16> -> tensor<32x2xf32>
deepseek.weight @w : tensor<32x64xf32> {
  %0 = deepseek.source "codes" in [] at [] : tensor<32x32xi8>
  %1 = deepseek.unpack %0 bits 4 plus 0 : tensor<32x32xi8> -> tensor<32x64xi4>
  %2 = deepseek.source "zeros" in [] at [] : tensor<32x1xi8>
  %3 = deepseek.unpack %2 bits 4 plus 1 : tensor<32x1xi8> -> tensor<32x2xi8>
  %4 = deepseek.source "scales" in [] at [] : tensor<32x2xbf16>
  %5 = deepseek.dequantize %1, %4 zeros %3 : tensor<32x2xi8> block 1 x 32 : tensor<32x64xi4>, tensor<32x2xbf16> -> tensor<32x64xf32>
  deepseek.yield %5 : tensor<32x64xf32>
}
// CHECK-LABEL: func.func @head
// CHECK: deepseek.lm_head %{{.+}}, %{{.+}} scales %{{.+}} : tensor<32x2xbf16> offsets %{{.+}} : tensor<32x2xf32> :
func.func @head(%x: tensor<?x64xf32>) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @w : tensor<32x64xf32>
  %y = deepseek.lm_head %x, %w : tensor<?x64xf32>, tensor<32x64xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// Layers whose weights are stored differently call different functions.

deepseek.weight @a.0 : tensor<32x32xf32> {
  %0 = deepseek.source "a.0" in [] at [] : tensor<32x18xi8>
  %1 = deepseek.dequantize_gguf q4_0 %0 : tensor<32x18xi8> -> tensor<32x32xf32>
  deepseek.yield %1 : tensor<32x32xf32>
}
deepseek.weight @a.1 : tensor<32x32xf32> {
  %0 = deepseek.source "a.1" in [] at [] : tensor<32x34xi8>
  %1 = deepseek.dequantize_gguf q8_0 %0 : tensor<32x34xi8> -> tensor<32x32xf32>
  deepseek.yield %1 : tensor<32x32xf32>
}
deepseek.weight @a.2 : tensor<32x32xf32> {
  %0 = deepseek.source "a.2" in [] at [] : tensor<32x18xi8>
  %1 = deepseek.dequantize_gguf q4_0 %0 : tensor<32x18xi8> -> tensor<32x32xf32>
  deepseek.yield %1 : tensor<32x32xf32>
}
// CHECK: func.func private @layer(%{{.+}}: tensor<?x32xf32>, %{{.+}}: tensor<32x32xi4>, %{{.+}}: tensor<32x1xf16>, %{{.+}}: index)
// CHECK: func.func private @layer_0(%{{.+}}: tensor<?x32xf32>, %{{.+}}: tensor<32x32xi8>, %{{.+}}: tensor<32x1xf16>, %{{.+}}: index)
func.func private @layer(%x: tensor<?x32xf32>, %a: tensor<32x32xf32>, %layer: index) -> tensor<?x32xf32> {
  %y = deepseek.linear %x, %a : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
// CHECK-LABEL: func.func @forward
// CHECK: call @layer(
// CHECK: call @layer_0(
// CHECK: call @layer(
func.func @forward(%x: tensor<?x32xf32>, %layer: index) -> tensor<?x32xf32> {
  %a = deepseek.use_weight @a.0 : tensor<32x32xf32>
  %0 = call @layer(%x, %a, %layer) : (tensor<?x32xf32>, tensor<32x32xf32>, index) -> tensor<?x32xf32>
  %b = deepseek.use_weight @a.1 : tensor<32x32xf32>
  %1 = call @layer(%0, %b, %layer) : (tensor<?x32xf32>, tensor<32x32xf32>, index) -> tensor<?x32xf32>
  %c = deepseek.use_weight @a.2 : tensor<32x32xf32>
  %2 = call @layer(%1, %c, %layer) : (tensor<?x32xf32>, tensor<32x32xf32>, index) -> tensor<?x32xf32>
  return %2 : tensor<?x32xf32>
}

// -----

// The table of tied embeddings is stored once.

// CHECK: deepseek.weight @table : tensor<64x32xi8>
// CHECK: deepseek.weight @table.scales : tensor<64x1xf16>
// CHECK-NOT: deepseek.weight
deepseek.weight @table : tensor<64x32xf32> {
  %0 = deepseek.source "table" in [] at [] : tensor<64x34xi8>
  %1 = deepseek.dequantize_gguf q8_0 %0 : tensor<64x34xi8> -> tensor<64x32xf32>
  deepseek.yield %1 : tensor<64x32xf32>
}
// CHECK-LABEL: func.func @tied
func.func @tied(%ids: tensor<?xi32>) -> tensor<?x64xf32> {
  %t = deepseek.use_weight @table : tensor<64x32xf32>
  // CHECK: deepseek.embed %{{.+}}, %[[T:.+]] scales %[[S:.+]] : tensor<64x1xf16> : tensor<?xi32>, tensor<64x32xi8>
  %x = deepseek.embed %ids, %t : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  // CHECK: deepseek.lm_head %{{.+}}, %[[T]] scales %[[S]] : tensor<64x1xf16> : tensor<?x32xf32>, tensor<64x32xi8>
  %y = deepseek.lm_head %x, %t : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// Experts, all three or none; gate and up are of one kind, down of its own.
// Scales of scales stay two levels.

deepseek.weight @up : tensor<4x32x256xf32> {
  %0 = deepseek.source "up" in [] at [] : tensor<4x32x144xi8>
  %1 = deepseek.dequantize_gguf q4_k %0 : tensor<4x32x144xi8> -> tensor<4x32x256xf32>
  deepseek.yield %1 : tensor<4x32x256xf32>
}
deepseek.weight @down : tensor<4x256x32xf32> {
  %0 = deepseek.source "down" in [] at [] : tensor<4x256x22xi8>
  %1 = deepseek.dequantize_gguf q5_0 %0 : tensor<4x256x22xi8> -> tensor<4x256x32xf32>
  deepseek.yield %1 : tensor<4x256x32xf32>
}
// CHECK-LABEL: func.func @experts
// CHECK: deepseek.experts %{{.+}} scales %{{.+}} : tensor<4x32x10xi8>, tensor<4x32x10xi8>, tensor<4x256x1xf16> offsets %{{.+}} : tensor<4x32x10xi8>, tensor<4x32x10xi8> : {{.*}}tensor<4x32x256xui4>, tensor<4x32x256xui4>, tensor<4x256x32xi5> ->
func.func @experts(%x: tensor<?x256xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x256xf32> {
  %u = deepseek.use_weight @up : tensor<4x32x256xf32>
  %d = deepseek.use_weight @down : tensor<4x256x32xf32>
  %y = deepseek.experts %x, %e, %w gate %u up %u down %d : tensor<?x256xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<4x32x256xf32>, tensor<4x32x256xf32>, tensor<4x256x32xf32> -> tensor<?x256xf32>
  return %y : tensor<?x256xf32>
}

// -----

// Matrices of heads: rows that are cut out are those of the parts, and groups
// of what is transposed are of its columns.

// CHECK: deepseek.weight @key : tensor<2x256x16xi6> {
// CHECK-NEXT: %[[BYTES:.+]] = deepseek.source "kv_b"
// CHECK-NEXT: %[[CODES:.+]] = deepseek.gguf_part codes of q6_k %[[BYTES]] : tensor<64x210xi8> -> tensor<64x256xi6>
// CHECK-NEXT: %[[HEADS:.+]] = deepseek.reshape %[[CODES]] : tensor<64x256xi6> -> tensor<2x32x256xi6>
// CHECK-NEXT: %[[KEYS:.+]] = deepseek.slice %[[HEADS]] axis 1 from 0 to 16 : tensor<2x32x256xi6> -> tensor<2x16x256xi6>
// CHECK-NEXT: deepseek.transpose %[[KEYS]] [0, 2, 1] : tensor<2x16x256xi6> -> tensor<2x256x16xi6>
// CHECK: deepseek.weight @key.scales : tensor<2x18x16xi8> {
// CHECK: deepseek.gguf_part scales of q6_k %{{.+}} : tensor<64x210xi8> -> tensor<64x18xi8>
// CHECK: deepseek.transpose %{{.+}} [0, 2, 1] : tensor<2x16x18xi8> -> tensor<2x18x16xi8>
// CHECK: deepseek.weight @value : tensor<2x16x256xui4, #deepseek.codebook
// CHECK: deepseek.slice %{{.+}} axis 1 from 16 to 32 : tensor<2x32x256xui4, #{{.+}}> -> tensor<2x16x256xui4, #
// CHECK: deepseek.weight @value.scales : tensor<2x16x10xi8> {
deepseek.weight @key : tensor<2x256x16xf32> {
  %0 = deepseek.source "kv_b" in [] at [] : tensor<64x210xi8>
  %1 = deepseek.dequantize_gguf q6_k %0 : tensor<64x210xi8> -> tensor<64x256xf32>
  %2 = deepseek.reshape %1 : tensor<64x256xf32> -> tensor<2x32x256xf32>
  %3 = deepseek.slice %2 axis 1 from 0 to 16 : tensor<2x32x256xf32> -> tensor<2x16x256xf32>
  %4 = deepseek.transpose %3 [0, 2, 1] : tensor<2x16x256xf32> -> tensor<2x256x16xf32>
  deepseek.yield %4 : tensor<2x256x16xf32>
}
deepseek.weight @value : tensor<2x16x256xf32> {
  %0 = deepseek.source "kv_b" in [] at [] : tensor<64x136xi8>
  %1 = deepseek.dequantize_gguf iq4_xs %0 : tensor<64x136xi8> -> tensor<64x256xf32>
  %2 = deepseek.reshape %1 : tensor<64x256xf32> -> tensor<2x32x256xf32>
  %3 = deepseek.slice %2 axis 1 from 16 to 32 : tensor<2x32x256xf32> -> tensor<2x16x256xf32>
  deepseek.yield %3 : tensor<2x16x256xf32>
}
// CHECK-LABEL: func.func @heads
// CHECK: %[[L:.+]] = deepseek.head_linear %{{.+}}, %{{.+}} scales %{{.+}} : tensor<2x18x16xi8> : tensor<?x48xf32>, tensor<2x256x16xi6> -> tensor<?x512xf32>
// CHECK: deepseek.head_linear %[[L]], %{{.+}} scales %{{.+}} : tensor<2x16x10xi8> : tensor<?x512xf32>, tensor<2x16x256xui4, #{{.+}}> -> tensor<?x32xf32>
func.func @heads(%x: tensor<?x48xf32>) -> tensor<?x32xf32> {
  %k = deepseek.use_weight @key : tensor<2x256x16xf32>
  %v = deepseek.use_weight @value : tensor<2x16x256xf32>
  %0 = deepseek.head_linear %x, %k : tensor<?x48xf32>, tensor<2x256x16xf32> -> tensor<?x512xf32>
  %1 = deepseek.head_linear %0, %v : tensor<?x512xf32>, tensor<2x16x256xf32> -> tensor<?x32xf32>
  return %1 : tensor<?x32xf32>
}
