// What a sequence's adapter adds: a product of low rank for each row that has one, and a copy of the others.

// RUN: hadal-opt %s -convert-deepseek-to-rt | FileCheck %s

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 1, key_dim = 8, value_dim = 8, element = f32>
deepseek.model @m vocab 48 hidden 32 layers 1 context 64 entry @forward {} {deepseek.adapters = ["first", "second"]}

deepseek.weight @table : tensor<48x32xf32> {
  %0 = deepseek.source "table" in [] at [] : tensor<48x32xf32>
  deepseek.yield %0 : tensor<48x32xf32>
}
deepseek.weight @a : tensor<2x4x32xf32> {
  %0 = deepseek.stack_rows () at [] times [] : () -> tensor<2x4x32xf32>
  deepseek.yield %0 : tensor<2x4x32xf32>
}

// CHECK: rt.program @m entry @forward
// CHECK-SAME: rt.adapters = ["first", "second"]

// CHECK-LABEL: func.func @forward
//       CHECK: %[[X:.+]] = rt.alloc
//       CHECK: rt.dispatch @embed
//       CHECK: %[[CHOSEN:.+]] = rt.input %{{.+}} adapters : memref<?xi32>
//       CHECK: %[[HIDDEN:.+]] = rt.alloc %{{.+}} bytes 64 * tokens + 0
//       CHECK: %[[FOUR:.+]] = arith.constant 4 : index
//       CHECK: %[[ITEMS:.+]] = arith.muli %{{.+}}, %[[FOUR]]
//       CHECK: rt.dispatch @adapt_down_4x32_of_2{{.*}} items %[[ITEMS]] of %{{.+}}(%[[X]], %[[A:.+]], %[[CHOSEN]], %[[HIDDEN]])
//       CHECK: rt.dispatch @adapt_up_32x4_of_2{{.*}} items %{{.+}} of %{{.+}}(%[[X]], %[[HIDDEN]], %{{.+}}, %[[CHOSEN]], %{{.+}})
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x48xf32> {
  %table = deepseek.use_weight @table : tensor<48x32xf32>
  %a = deepseek.use_weight @a : tensor<2x4x32xf32>
  %b = deepseek.use_weight @a : tensor<2x4x32xf32>
  %0 = deepseek.embed %tokens, %table : tensor<?xi32>, tensor<48x32xf32> -> tensor<?x32xf32>
  %1 = deepseek.adapt %0, %0, %a, %b of %sequences : tensor<?x32xf32>, tensor<?x32xf32>, tensor<2x4x32xf32>, tensor<2x4x32xf32>, tensor<?xi32>
  %2 = deepseek.gather_rows %1, %outputs : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %head = deepseek.use_weight @head : tensor<48x32xf32, #deepseek.tiled<rows = 16>>
  %3 = deepseek.lm_head %2, %head : tensor<?x32xf32>, tensor<48x32xf32, #deepseek.tiled<rows = 16>> -> tensor<?x48xf32>
  return %3 : tensor<?x48xf32>
}
deepseek.weight @head : tensor<48x32xf32, #deepseek.tiled<rows = 16>> {
  %0 = deepseek.source "head" in [] at [] : tensor<48x32xf32>
  %1 = deepseek.pack %0 : tensor<48x32xf32> to tensor<48x32xf32, #deepseek.tiled<rows = 16>>
  deepseek.yield %1 : tensor<48x32xf32, #deepseek.tiled<rows = 16>>
}

// An item of each kernel is a row and a rank, or a row and a block of columns; 0 is no adapter.

// CHECK-LABEL: rt.kernel @adapt_down_4x32_of_2
//       CHECK: %[[ID:.+]] = memref.load %{{.+}}[%[[ROW:.+]]] : memref<?xi32>
//       CHECK: %[[INDEX:.+]] = arith.index_castui %[[ID]]
//       CHECK: %[[HAS:.+]] = arith.cmpi slt, %{{.+}}, %[[INDEX]]
//       CHECK: scf.if %[[HAS]]
// CHECK-LABEL: rt.kernel @adapt_up_32x4_of_2
//       CHECK: vector.store
