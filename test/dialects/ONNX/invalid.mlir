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
