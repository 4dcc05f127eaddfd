// RUN: hadal-opt %s -split-input-file -convert-onnx-to-linalg -verify-diagnostics | FileCheck %s

// Operands are broadcast by how they are read, and integers keep their signs in the description alone.

// CHECK: #[[$ALL:.+]] = affine_map<(d0, d1) -> (d0, d1)>
// CHECK: #[[$ROW:.+]] = affine_map<(d0, d1) -> (d1)>
// CHECK-LABEL: func.func @main_graph(%arg0: tensor<2x3xi8> {bufferization.writable = false}, %arg1: tensor<3xi8> {bufferization.writable = false}) -> (tensor<2x3xi8>, i1)
//  CHECK-SAME: rt.input_types = [tensor<2x3xui8>, tensor<3xui8>], rt.inputs = ["a", "b"]
//  CHECK-SAME: rt.output_types = [tensor<2x3xui8>], rt.outputs = ["y"]
//       CHECK: linalg.generic {indexing_maps = [#[[$ALL]], #[[$ROW]], #[[$ALL]]]
//       CHECK: arith.maxui
func.func @main_graph(%a: tensor<2x3xui8> {onnx.name = "a"}, %b: tensor<3xui8> {onnx.name = "b"}) -> !onnx.value
    attributes {onnx.opsets = {ai.onnx = 23 : i64}, onnx.outputs = ["y"]} {
  %0 = onnx.node "Max" "m" (%a, %b) {} : (tensor<2x3xui8>, tensor<3xui8>) -> !onnx.value
  return %0 : !onnx.value
}

// -----

// A tensor of the file is a weight of bytes, which the function takes; narrow floats are summed in f32.

// CHECK-LABEL: deepseek.weight @w : tensor<24xi8>
//       CHECK: deepseek.source "w" in ["model.onnx"] at [64] : tensor<24xi8>
// CHECK-LABEL: func.func @main_graph(%arg0: tensor<2x4xf16> {bufferization.writable = false}, %arg1: tensor<4x3xf16> {bufferization.writable = false, rt.weight = @w})
//       CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "reduction", "parallel"]
//       CHECK: arith.mulf {{.*}} : f32
//       CHECK: arith.addf {{.*}} : f32
//       CHECK: arith.truncf {{.*}} : f32 to f16
func.func @main_graph(%x: tensor<2x4xf16> {onnx.name = "x"}) -> !onnx.value
    attributes {onnx.opsets = {ai.onnx = 23 : i64}, onnx.outputs = ["y"]} {
  %w = onnx.initializer "w" in "model.onnx" at 64 : tensor<4x3xf16>
  %0 = onnx.node "MatMul" "m" (%x, %w) {} : (tensor<2x4xf16>, tensor<4x3xf16>) -> !onnx.value
  return %0 : !onnx.value
}

// -----

// What shapes are computed from is computed now.

// CHECK-LABEL: func.func @main_graph
//       CHECK: tensor.collapse_shape %arg0 {{\[\[}}0, 1], [2]] : tensor<2x3x4xf32> into tensor<6x4xf32>
//   CHECK-NOT: tensor.extract
func.func @main_graph(%x: tensor<2x3x4xf32> {onnx.name = "x"}) -> !onnx.value
    attributes {onnx.opsets = {ai.onnx = 23 : i64}, onnx.outputs = ["y"]} {
  %two = onnx.constant dense<2> : tensor<1xi64>
  %rest = onnx.constant dense<-1> : tensor<1xi64>
  %0 = onnx.node "Shape" "s" (%x) {} : (tensor<2x3x4xf32>) -> !onnx.value
  %1 = onnx.node "Gather" "g" (%0, %two) {} : (!onnx.value, tensor<1xi64>) -> !onnx.value
  %2 = onnx.node "Concat" "c" (%rest, %1) {axis = 0 : i64} : (tensor<1xi64>, !onnx.value) -> !onnx.value
  %3 = onnx.node "Reshape" "r" (%x, %2) {} : (tensor<2x3x4xf32>, !onnx.value) -> !onnx.value
  return %3 : !onnx.value
}

// -----

// All operators without a rule are named at once.

// expected-error@below {{has operators that are not supported: 'Foo' (node 'a', 2 of its kind), 'x.Bar' (node 'b', 1 of its kind)}}
module {
  func.func @main_graph(%x: tensor<2xf32> {onnx.name = "x"}) -> !onnx.value
      attributes {onnx.opsets = {ai.onnx = 23 : i64}, onnx.outputs = ["y"]} {
    %0 = onnx.node "Foo" "a" (%x) {} : (tensor<2xf32>) -> !onnx.value
    %1 = onnx.node "x.Bar" "b" (%0) {} : (!onnx.value) -> !onnx.value
    %2 = onnx.node "Foo" "c" (%1) {} : (!onnx.value) -> !onnx.value
    return %2 : !onnx.value
  }
}

// -----

// Of factors that are integers less zero points, times a scale, the integers are multiplied; the sum is scaled.

// CHECK-LABEL: func.func @main_graph(%arg0: tensor<2x4xi8>
//       CHECK: linalg.generic {{.*}} ins(%arg0 : tensor<2x4xi8>)
//       CHECK: arith.extsi {{.*}} : i8 to i32
//       CHECK: %[[SUMS:.+]] = linalg.generic {{.*}} iterator_types = ["parallel", "reduction", "parallel"]} ins(%{{.+}}, %{{.+}} : tensor<2x4xi32>, tensor<4x3xi32>)
//       CHECK: arith.muli {{.*}} : i32
//       CHECK: linalg.generic {{.*}} ins(%[[SUMS]], %{{.+}}, %{{.+}} : tensor<2x3xi32>, tensor<f32>, tensor<1x3xf32>)
//       CHECK: arith.sitofp {{.*}} : i32 to f32
//       CHECK: return
func.func @main_graph(%x: tensor<2x4xi8> {onnx.name = "x"}, %w: tensor<4x3xi8> {onnx.name = "w"}, %t: tensor<3xf32> {onnx.name = "t"}) -> !onnx.value
    attributes {onnx.opsets = {ai.onnx = 23 : i64}, onnx.outputs = ["y"]} {
  %s = onnx.constant dense<0.5> : tensor<f32>
  %0 = onnx.node "DequantizeLinear" "a" (%x, %s) {} : (tensor<2x4xi8>, tensor<f32>) -> !onnx.value
  %1 = onnx.node "DequantizeLinear" "b" (%w, %t) {axis = 1 : i64} : (tensor<4x3xi8>, tensor<3xf32>) -> !onnx.value
  %2 = onnx.node "MatMul" "m" (%0, %1) {} : (!onnx.value, !onnx.value) -> !onnx.value
  return %2 : !onnx.value
}

// -----

// A scale for each of the elements that are summed up leaves the numbers as they are.

// CHECK-LABEL: func.func @main_graph(%arg0: tensor<2x4xi8>
//   CHECK-NOT: arith.muli
//       CHECK: linalg.generic {{.*}} ins(%{{.+}}, %{{.+}} : tensor<2x4xf32>, tensor<4x3xf32>)
func.func @main_graph(%x: tensor<2x4xi8> {onnx.name = "x"}, %w: tensor<4x3xi8> {onnx.name = "w"}, %t: tensor<4xf32> {onnx.name = "t"}) -> !onnx.value
    attributes {onnx.opsets = {ai.onnx = 23 : i64}, onnx.outputs = ["y"]} {
  %s = onnx.constant dense<0.5> : tensor<f32>
  %0 = onnx.node "DequantizeLinear" "a" (%x, %s) {} : (tensor<2x4xi8>, tensor<f32>) -> !onnx.value
  %1 = onnx.node "DequantizeLinear" "b" (%w, %t) {axis = 0 : i64} : (tensor<4x3xi8>, tensor<4xf32>) -> !onnx.value
  %2 = onnx.node "MatMul" "m" (%0, %1) {} : (!onnx.value, !onnx.value) -> !onnx.value
  return %2 : !onnx.value
}
