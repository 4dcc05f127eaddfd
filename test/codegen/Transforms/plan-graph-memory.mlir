// RUN: hadal-opt %s -split-input-file -rt-plan-graph-memory -verify-diagnostics | FileCheck %s

// The first and the last buffer are never alive together and share bytes; the weight is a part of all of them.

// CHECK-LABEL: deepseek.weight @w
//  CHECK-SAME: rt.offset = 0
// CHECK-LABEL: func.func @graph
//  CHECK-SAME: (%[[X:.+]]: memref<16xf32>, %[[Y:.+]]: memref<16xf32>, %[[WEIGHTS:.+]]: memref<64xi8>, %[[ARENA:.+]]: memref<128xi8>) -> i1
//  CHECK-SAME: rt.arena_bytes = 128 : i64
//  CHECK-SAME: rt.weights_bytes = 64 : i64
//   CHECK-DAG: memref.view %[[WEIGHTS]][%{{.+}}][] : memref<64xi8> to memref<16xf32>
//   CHECK-NOT: memref.alloc
//       CHECK: %[[FIRST:.+]] = memref.view %[[ARENA]][%[[C0:.+]]][]
//       CHECK: linalg.add {{.*}} outs(%[[FIRST]]
//       CHECK: %[[SECOND:.+]] = memref.view %[[ARENA]][%[[C64:.+]]][]
//       CHECK: linalg.exp {{.*}} outs(%[[SECOND]]
//       CHECK: %[[THIRD:.+]] = memref.view %[[ARENA]][%[[AT:.+]]][]
//       CHECK: linalg.exp {{.*}} outs(%[[THIRD]]
//       CHECK: linalg.generic
//   CHECK-NOT: memref.copy
deepseek.weight @w : tensor<64xi8> {
  %0 = deepseek.source "w" in ["model.onnx"] at [0] : tensor<64xi8>
  deepseek.yield %0 : tensor<64xi8>
}
func.func @graph(%x: memref<16xf32>, %w: memref<16xf32> {rt.weight = @w}, %y: memref<16xf32>) -> i1
    attributes {rt.inputs = ["x"], rt.outputs = ["y"]} {
  %false = arith.constant false
  %0 = memref.alloc() : memref<16xf32>
  linalg.add ins(%x, %w : memref<16xf32>, memref<16xf32>) outs(%0 : memref<16xf32>)
  %1 = memref.alloc() : memref<16xf32>
  linalg.exp ins(%0 : memref<16xf32>) outs(%1 : memref<16xf32>)
  %2 = memref.alloc() : memref<16xf32>
  linalg.exp ins(%1 : memref<16xf32>) outs(%2 : memref<16xf32>)
  memref.copy %2, %y : memref<16xf32> to memref<16xf32>
  return %false : i1
}

// -----

// A buffer that each turn of a loop hands to the next one has no place.

func.func @escapes(%x: memref<4xf32>, %y: memref<4xf32>) -> i1 attributes {rt.inputs = ["x"], rt.outputs = ["y"]} {
  %false = arith.constant false
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %0 = scf.for %i = %c0 to %c4 step %c1 iter_args(%a = %x) -> (memref<4xf32>) {
    // expected-error@below {{expects a buffer that does not leave its loop}}
    %b = memref.alloc() : memref<4xf32>
    linalg.exp ins(%a : memref<4xf32>) outs(%b : memref<4xf32>)
    scf.yield %b : memref<4xf32>
  }
  memref.copy %0, %y : memref<4xf32> to memref<4xf32>
  return %false : i1
}
