// Results of a graph that are one buffer get copies.
// RUN: hadal-opt %s -pass-pipeline='builtin.module(func.func(rt-separate-graph-results))' | FileCheck %s

// CHECK-LABEL: func.func @twice
//       CHECK: %[[Y:.+]] = memref.alloc()
//       CHECK: %[[COPY:.+]] = memref.alloc()
//       CHECK: memref.copy %[[Y]], %[[COPY]]
//       CHECK: return %[[Y]], %[[COPY]], %{{.+}} : memref<4xf32>, memref<4xf32>, i1
func.func @twice(%x: memref<4xf32>) -> (memref<4xf32>, memref<4xf32>, i1) attributes {rt.inputs = ["x"]} {
  %no = arith.constant false
  %y = memref.alloc() : memref<4xf32>
  memref.copy %x, %y : memref<4xf32> to memref<4xf32>
  return %y, %y, %no : memref<4xf32>, memref<4xf32>, i1
}

// A function that is no graph stays as it is.

// CHECK-LABEL: func.func @other
//       CHECK: return %[[Z:.+]], %[[Z]]
func.func @other(%z: memref<4xf32>) -> (memref<4xf32>, memref<4xf32>) {
  return %z, %z : memref<4xf32>, memref<4xf32>
}
