// RUN: hadal-opt %s -rt-emit-graph-entry=symbol=net | FileCheck %s

// The constant has what C programs see, and its function unpacks pointers.

//  CHECK-DAG: llvm.mlir.global private constant @net.inputs0.name("x\00")
//  CHECK-DAG: llvm.mlir.global private constant @net.inputs0.shape(dense<[2, 3]> : tensor<2xi64>)
//  CHECK-DAG: llvm.mlir.global private constant @net.outputs0.name("y\00")
//  CHECK-DAG: llvm.mlir.global private constant @net.name("mlp\00")
// CHECK-LABEL: llvm.func internal @net_run
//       CHECK: %[[FAILED:.+]] = llvm.call @graph
//       CHECK: llvm.select %[[FAILED]]
//       CHECK: llvm.mlir.global external constant @net()
//       CHECK: llvm.mlir.addressof @net_run
llvm.func @graph(%x: !llvm.ptr, %y: !llvm.ptr, %w: !llvm.ptr, %arena: !llvm.ptr) -> i1 attributes {
    rt.inputs = ["x"], rt.input_types = [tensor<2x3xui8>], rt.outputs = ["y"], rt.output_types = [tensor<f32>],
    rt.name = "mlp", rt.arena_bytes = 64 : i64, rt.weights_bytes = 0 : i64} {
  %false = llvm.mlir.constant(false) : i1
  llvm.return %false : i1
}
