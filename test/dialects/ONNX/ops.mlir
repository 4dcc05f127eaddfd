// RUN: hadal-opt %s | hadal-opt | FileCheck %s

// CHECK-LABEL: func.func @graph
// CHECK-SAME:    onnx.name = "x"
// CHECK:         %[[W:.+]] = onnx.initializer "w" in "model.onnx.data" at 64 : tensor<8x4xf32>
// CHECK:         %[[AXES:.+]] = onnx.constant dense<1> : tensor<1xi64>
// CHECK:         onnx.constant dense<5.000000e-01> : tensor<f32> "w.scale" in "model.onnx" at 64
// CHECK:         %[[NONE:.+]] = onnx.none
// CHECK:         %[[P:.+]] = onnx.node "MatMul" "/product"(%{{.+}}, %[[W]]) {} : (tensor<?x8xf32>, tensor<8x4xf32>) -> !onnx.value
// CHECK:         onnx.node "com.microsoft.Two" ""(%[[P]], %[[NONE]], %[[AXES]]) {axis = -1 : i64} : (!onnx.value, none, tensor<1xi64>) -> (!onnx.value, !onnx.value)
func.func @graph(%x: tensor<?x8xf32> {onnx.name = "x"}) -> !onnx.value attributes {onnx.opsets = {ai.onnx = 21 : i64}, onnx.outputs = ["y"]} {
  %w = onnx.initializer "w" in "model.onnx.data" at 64 : tensor<8x4xf32>
  %axes = onnx.constant dense<1> : tensor<1xi64>
  %scale = onnx.constant dense<0.5> : tensor<f32> "w.scale" in "model.onnx" at 64
  %none = onnx.none
  %0 = onnx.node "MatMul" "/product"(%x, %w) {} : (tensor<?x8xf32>, tensor<8x4xf32>) -> !onnx.value
  %1:2 = onnx.node "com.microsoft.Two" ""(%0, %none, %axes) {axis = -1 : i64} : (!onnx.value, none, tensor<1xi64>) -> (!onnx.value, !onnx.value)
  return %1#0 : !onnx.value
}
