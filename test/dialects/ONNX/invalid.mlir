// RUN: hadal-opt %s -split-input-file -verify-diagnostics

func.func @initializer_c1() {
  // expected-error@+1 {{expects a static shape, but got 'tensor<?x4xf32>'}}
  %w = onnx.initializer "w" in "model.onnx" at 64 : tensor<?x4xf32>
  return
}

// -----

func.func @initializer_c2() {
  // expected-error@+1 {{expects offset >= 0, but got -1}}
  %w = onnx.initializer "w" in "model.onnx" at -1 : tensor<2x4xf32>
  return
}

// -----

func.func @constant_c2() {
  // expected-error@+1 {{expects offset >= 0, but got -1}}
  %w = onnx.constant dense<0.5> : tensor<f32> "w" in "model.onnx" at -1
  return
}

// -----

func.func @constant_c1() {
  // expected-error@+1 {{expects a name, a file and an offset, or none of them}}
  %w = "onnx.constant"() {value = dense<0.5> : tensor<f32>, file = "model.onnx"} : () -> tensor<f32>
  return
}
