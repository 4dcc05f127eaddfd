// RUN: hadal-opt %s -deepseek-attach-adapters | FileCheck %s
// RUN: hadal-opt %s -deepseek-attach-adapters -deepseek-run="tokens=3,1,4 sequences=0,1,2 adapters=-1,-1,-1" -o /dev/null > %t.none
// RUN: hadal-opt %s -deepseek-attach-adapters -deepseek-run="tokens=3,1,4 sequences=0,1,2 adapters=1,-1,0" -o /dev/null > %t.mixed
// RUN: hadal-opt %s -deepseek-attach-adapters -deepseek-run="tokens=3,1 sequences=0,1 adapters=1,-1" -o /dev/null > %t.two
// RUN: %python %S/Inputs/compare-rows.py %t.none %t.mixed different,same,different
// RUN: %python %S/Inputs/compare-rows.py %t.two %t.mixed same,same

// Both layers give their function the factors of their own weight; the head's stand where it is read.

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 1, key_dim = 8, value_dim = 8, element = f32>
deepseek.model @m vocab 16 hidden 8 layers 2 context 64 entry @forward {} {deepseek.adapters = ["first", "second"]}

deepseek.weight @table : tensor<16x8xf32> {
  %0 = deepseek.source "table" in [] at [] : tensor<16x8xf32>
  deepseek.yield %0 : tensor<16x8xf32>
}
deepseek.weight @embeddings : tensor<16x8xf32> {
  %0 = deepseek.source "embeddings" in [] at [] : tensor<16x8xf32>
  deepseek.yield %0 : tensor<16x8xf32>
}
deepseek.weight @layers.0.w : tensor<8x8xbf16> {
  %0 = deepseek.source "0.w" in [] at [] : tensor<8x8xbf16>
  deepseek.yield %0 : tensor<8x8xbf16>
}
deepseek.weight @layers.1.w : tensor<8x8xbf16> {
  %0 = deepseek.source "1.w" in [] at [] : tensor<8x8xbf16>
  deepseek.yield %0 : tensor<8x8xbf16>
}
deepseek.weight @layers.0.w.a : tensor<2x4x8xf32> {
  %0 = deepseek.source "0.first" in [] at [] : tensor<4x8xf32>
  %1 = deepseek.source "0.second" in [] at [] : tensor<2x8xf16>
  %2 = deepseek.stack_rows (%0, %1) at [0, 1] times [1.0, 1.0] : (tensor<4x8xf32>, tensor<2x8xf16>) -> tensor<2x4x8xf32>
  deepseek.yield %2 : tensor<2x4x8xf32>
}
deepseek.weight @layers.0.w.b : tensor<2x4x8xf32> {
  %0 = deepseek.source "0.first.b" in [] at [] : tensor<4x8xf32>
  %1 = deepseek.source "0.second.b" in [] at [] : tensor<2x8xf16>
  %2 = deepseek.stack_rows (%0, %1) at [0, 1] times [2.0, 0.5] : (tensor<4x8xf32>, tensor<2x8xf16>) -> tensor<2x4x8xf32>
  deepseek.yield %2 : tensor<2x4x8xf32>
}
// No adapter changes layer 1.
deepseek.weight @zeros : tensor<2x4x8xf32> {
  %0 = deepseek.stack_rows () at [] times [] : () -> tensor<2x4x8xf32>
  deepseek.yield %0 : tensor<2x4x8xf32>
}
deepseek.weight @head.a : tensor<2x1x8xf32> {
  %0 = deepseek.source "head.a" in [] at [] : tensor<1x8xf32>
  %1 = deepseek.stack_rows (%0) at [1] times [1.0] : (tensor<1x8xf32>) -> tensor<2x1x8xf32>
  deepseek.yield %1 : tensor<2x1x8xf32>
}
deepseek.weight @head.b : tensor<2x1x16xf32> {
  %0 = deepseek.source "head.b" in [] at [] : tensor<1x16xf32>
  %1 = deepseek.stack_rows (%0) at [1] times [1.0] : (tensor<1x16xf32>) -> tensor<2x1x16xf32>
  deepseek.yield %1 : tensor<2x1x16xf32>
}
// CHECK-NOT: deepseek.adapters @
deepseek.adapters @layers.0.w down @layers.0.w.a up @layers.0.w.b
deepseek.adapters @layers.1.w down @zeros up @zeros
deepseek.adapters @table down @head.a up @head.b

// CHECK-LABEL: func.func private @layer
//  CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<?x8xf32>, %[[S:[a-z0-9]+]]: tensor<?xi32>, %[[W:[a-z0-9]+]]: tensor<8x8xbf16>, %[[A:[a-z0-9]+]]: tensor<2x4x8xf32>, %[[B:[a-z0-9]+]]: tensor<2x4x8xf32>
//  CHECK-NEXT: %[[Y:.+]] = deepseek.linear %[[X]], %[[W]]
//  CHECK-NEXT: %[[Z:.+]] = deepseek.adapt %[[Y]], %[[X]], %[[A]], %[[B]] of %[[S]] : tensor<?x8xf32>, tensor<?x8xf32>, tensor<2x4x8xf32>, tensor<2x4x8xf32>, tensor<?xi32>
//  CHECK-NEXT: deepseek.add %[[X]], %[[Z]]
func.func private @layer(%x: tensor<?x8xf32>, %s: tensor<?xi32>, %w: tensor<8x8xbf16>) -> tensor<?x8xf32> {
  %0 = deepseek.linear %x, %w : tensor<?x8xf32>, tensor<8x8xbf16> -> tensor<?x8xf32>
  %1 = deepseek.add %x, %0 : tensor<?x8xf32>
  return %1 : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @forward
//  CHECK-SAME: (%{{[a-z0-9]+}}: tensor<?xi32>, %{{[a-z0-9]+}}: tensor<?xi32>, %[[SEQUENCES:[a-z0-9]+]]: tensor<?xi32>
//       CHECK: %[[A0:.+]] = deepseek.use_weight @layers.0.w.a
//       CHECK: %[[B0:.+]] = deepseek.use_weight @layers.0.w.b
//       CHECK: call @layer(%{{.+}}, %[[SEQUENCES]], %{{.+}}, %[[A0]], %[[B0]])
//       CHECK: %[[A1:.+]] = deepseek.use_weight @zeros
//       CHECK: %[[B1:.+]] = deepseek.use_weight @zeros
//       CHECK: call @layer(%{{.+}}, %[[SEQUENCES]], %{{.+}}, %[[A1]], %[[B1]])
//       CHECK: %[[L:.+]] = deepseek.linear %[[H:.+]], %
//  CHECK-NEXT: deepseek.adapt %[[L]], %[[H]], %{{.+}}, %{{.+}} of %[[SEQUENCES]]
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x16xf32> {
  %table = deepseek.use_weight @table : tensor<16x8xf32>
  %w0 = deepseek.use_weight @layers.0.w : tensor<8x8xbf16>
  %w1 = deepseek.use_weight @layers.1.w : tensor<8x8xbf16>
  %embeddings = deepseek.use_weight @embeddings : tensor<16x8xf32>
  %0 = deepseek.embed %tokens, %embeddings : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %1 = call @layer(%0, %sequences, %w0) : (tensor<?x8xf32>, tensor<?xi32>, tensor<8x8xbf16>) -> tensor<?x8xf32>
  %2 = call @layer(%1, %sequences, %w1) : (tensor<?x8xf32>, tensor<?xi32>, tensor<8x8xbf16>) -> tensor<?x8xf32>
  %3 = deepseek.linear %2, %table : tensor<?x8xf32>, tensor<16x8xf32> -> tensor<?x16xf32>
  %4 = deepseek.gather_rows %3, %outputs : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %4 : tensor<?x16xf32>
}
