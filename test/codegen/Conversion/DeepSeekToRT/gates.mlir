// A gate writes which tokens go through and how many; what follows has as many rows, and attention caches all.

// RUN: hadal-opt %s -convert-deepseek-to-rt="describe-work" | FileCheck %s
// RUN: hadal-opt %s -convert-deepseek-to-rt -rt-plan-memory -convert-rt-to-llvm | FileCheck %s --check-prefix=LLVM

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 1, key_dim = 32, value_dim = 32, element = f32>
deepseek.model @m vocab 48 hidden 32 layers 1 context 64 entry @forward {}

deepseek.weight @table : tensor<48x32xf32> {
  %0 = deepseek.source "table" in [] at [] : tensor<48x32xf32>
  deepseek.yield %0 : tensor<48x32xf32>
}
deepseek.weight @threshold : tensor<1xf32> {
  %0 = deepseek.source "threshold" in [] at [] : tensor<1xf32>
  deepseek.yield %0 : tensor<1xf32>
}
deepseek.weight @head : tensor<48x32xf32, #deepseek.tiled<rows = 16>> {
  %0 = deepseek.source "head" in [] at [] : tensor<48x32xf32>
  %1 = deepseek.pack %0 : tensor<48x32xf32> to tensor<48x32xf32, #deepseek.tiled<rows = 16>>
  deepseek.yield %1 : tensor<48x32xf32, #deepseek.tiled<rows = 16>>
}

// CHECK-LABEL: func.func private @layer
//  CHECK-SAME: (%[[STEP:.+]]: !rt.step, %[[X:.+]]: memref<?x32xf32, strided<[32, 1]>>, %[[P:.+]]: memref<?xi32>, %[[S:.+]]: memref<?xi32>,
//       CHECK: %[[TOKENS:.+]] = rt.tokens
//       CHECK: %[[SCORE:.+]] = rt.alloc
//       CHECK: rt.dispatch @influence_32{{.*}} items %[[TOKENS]] of %[[STEP]]({{.+}}, %[[X]], %[[SCORE]])
//       CHECK: %[[ROWS:.+]] = rt.alloc %{{.+}} bytes 64 * tokens + 0 : memref<?xi32>
//       CHECK: %[[COUNT:.+]] = rt.alloc %{{.+}} bytes 0 * tokens + 64 : memref<1xi32>
//       CHECK: rt.dispatch @select_rows_above{{.*}} items %{{.+}} of %[[STEP]](%[[SCORE]], %{{.+}}, %[[ROWS]], %[[COUNT]], %[[TOKENS]])
//       CHECK: %[[N:.+]] = rt.count %[[COUNT]] : memref<1xi32>
//       CHECK: rt.dispatch @gather_rows_32{{.*}} items %[[N]] of %[[STEP]](%[[X]], %[[ROWS]], %[[XK:.+]]) {{.*}}selected = true
//       CHECK: rt.dispatch @gather_each{{.*}} items %[[N]] of %[[STEP]](%[[P]], %[[ROWS]], %[[PK:.+]]) {{.*}}selected = true
//       CHECK: rt.dispatch @gather_each{{.*}} items %[[N]] of %[[STEP]](%[[S]], %[[ROWS]], %[[SK:.+]]) {{.*}}selected = true
//       CHECK: rt.dispatch @append_cache{{.*}} items %{{.+}} of %[[STEP]](%[[X]], %[[X]], %[[P]], %[[S]], %{{.+}}, %[[TOKENS]])
//       CHECK: rt.dispatch @attention{{.*}}(%[[XK]], %[[PK]], %[[SK]], {{.*}}, %[[A:.+]], %[[N]], %{{.+}}) {{.*}}selected = true
//       CHECK: rt.dispatch @copy_rows_32{{.*}} items %[[TOKENS]] of %[[STEP]](%[[X]], %[[OUT:.+]]) {{.*}}#rt.work<op = "scatter_rows", row_bytes
//       CHECK: rt.dispatch @scatter_rows_32{{.*}} items %[[N]] of %[[STEP]](%[[A]], %[[ROWS]], %[[OUT]])
func.func private @layer(%x: tensor<?x32xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index, %before: tensor<?x32xf32>, %t: tensor<1xf32>) -> tensor<?x32xf32> {
  %score = deepseek.influence %before, %x : tensor<?x32xf32> -> tensor<?x1xf32>
  %rows = deepseek.select_rows %score above %t : tensor<1xf32> : tensor<?x1xf32> -> tensor<?xi32>
  %xk = deepseek.gather_rows %x, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %pk = deepseek.gather_rows %p, %rows : tensor<?xi32>, tensor<?xi32> -> tensor<?xi32>
  %sk = deepseek.gather_rows %s, %rows : tensor<?xi32>, tensor<?xi32> -> tensor<?xi32>
  %a = deepseek.attention %xk, %x, %x at %p of %s in %cache[%layer] heads 1 scale 1.0 queries at %pk of %sk : tensor<?xi32>, tensor<?xi32> : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32>, tensor<?xi32>, !cache -> tensor<?x32xf32>
  %y = deepseek.scatter_rows %x, %a at %rows : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?xi32>
  return %y : tensor<?x32xf32>
}

func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x48xf32> {
  %table = deepseek.use_weight @table : tensor<48x32xf32>
  %t = deepseek.use_weight @threshold : tensor<1xf32>
  %0 = deepseek.embed %tokens, %table : tensor<?xi32>, tensor<48x32xf32> -> tensor<?x32xf32>
  %c0 = arith.constant 0 : index
  %1 = call @layer(%0, %positions, %sequences, %cache, %c0, %0, %t) : (tensor<?x32xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<?x32xf32>, tensor<1xf32>) -> tensor<?x32xf32>
  %2 = deepseek.gather_rows %1, %outputs : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %head = deepseek.use_weight @head : tensor<48x32xf32, #deepseek.tiled<rows = 16>>
  %3 = deepseek.lm_head %2, %head : tensor<?x32xf32>, tensor<48x32xf32, #deepseek.tiled<rows = 16>> -> tensor<?x48xf32>
  return %3 : tensor<?x48xf32>
}

// The host loads the number when the gate's dispatch is over.
// LLVM-LABEL: llvm.func internal @layer
//       LLVM: %[[NUMBER:.+]] = llvm.load %{{.+}} : !llvm.ptr -> i32
//  LLVM-NEXT: llvm.sext %[[NUMBER]] : i32 to i64
