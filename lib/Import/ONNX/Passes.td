// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Passes on the graph of an ONNX file.

#ifndef HADAL_IMPORT_ONNX_PASSES
#define HADAL_IMPORT_ONNX_PASSES

include "mlir/Pass/PassBase.td"

def FuseIdioms : Pass<"onnx-fuse-idioms", "::mlir::func::FuncOp"> {
  let summary = "Gives nodes that are one operator together its name";
  let description = [{
    Exporters write a norm or an activation as the arithmetic that it is, or by
    a name of their own; newer opsets have operators for them. Exact: what is
    matched is that operator in exact arithmetic. Conversions between types of
    floating point within it are dropped, since all is computed in f32. Never
    fails; what does not match is left as it is.

    ```mlir
    %1 = onnx.node "Pow" "p"(%x, %two) {} : ..
    %2 = onnx.node "ReduceMean" "m"(%1, %last) {keepdims = 1 : i64} : ..
    %3 = onnx.node "Add" "a"(%2, %epsilon) {} : ..
    %4 = onnx.node "Sqrt" "s"(%3) {} : ..
    %5 = onnx.node "Reciprocal" "r"(%4) {} : ..
    %6 = onnx.node "Mul" "n"(%x, %5) {} : ..
    %7 = onnx.node "Mul" "y"(%w, %6) {} : ..
    // becomes
    %7 = onnx.node "RMSNormalization" "y"(%x, %w) {axis = -1, epsilon = ..} : ..
    ```

    | Nodes | become |
    |---|---|
    | x / sqrt(mean(x^2) + e) * w, with Div, Reciprocal or Pow | `RMSNormalization` |
    | `SimplifiedLayerNormalization` | `RMSNormalization` |
    | `com.microsoft.SkipSimplifiedLayerNormalization` | `Add`, `RMSNormalization` |
    | x * Sigmoid(x) | `Swish` |
    | `Identity` | its operand |
  }];
  let dependentDialects = ["::hadal::onnx::ONNXDialect"];
}

def RaiseToDeepSeek : Pass<"raise-onnx-to-deepseek", "::mlir::ModuleOp"> {
  let summary = "Turns the graph of a language model into the deepseek dialect";
  let description = [{
    `@main_graph` is proven to be a decoder of the family: from its output
    `logits` back to its input `input_ids`, each node is matched with what a
    layer consists of. What nodes say of shapes, positions and masks is
    computed for several lengths of a step, and one of many tokens: which
    element of a projection a head's element is, whether a mask lets a token
    see those before it and itself and no others, and whether cosines and
    sines are those of a rotary embedding of the dialect. The module is then
    made as for any other format; the weights' recipes read the initializers.

    Exact. Fails with one error that names the first node that could not be
    matched, and how many of its kind there are. Inputs for keys and values of
    the past, and outputs for those of the present, are what the cache is for
    and disappear; an attention mask is one without padding.
  }];
  let options = [
    Option<"folder", "folder", "std::string", /*default=*/"\".\"",
           "Folder of the files that initializers are in">,
    Option<"contextTokens", "context", "int64_t", /*default=*/"0",
           "Tokens a sequence may have, 0 for as many as the graph allows">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect",
                           "::mlir::arith::ArithDialect"];
}

def ConvertONNXToLinalg : Pass<"convert-onnx-to-linalg", "::mlir::ModuleOp"> {
  let summary = "Turns a graph of static shapes into a function of tensors";
  let description = [{
    What is no model of the deepseek dialect still runs: `@main_graph` becomes
    a function of linalg, tensor, arith, math and scf, which returns the
    outputs and whether an index was out of range or a divisor zero. Shapes,
    axes and the like are numbers that the graph computes from constants and
    shapes. Initializers become weights, `deepseek.weight` of bytes, which the
    function takes after its inputs.

    Exact to the rounding of sums: floats of 16 bits are computed in f32 and
    rounded after each operator, as ONNX's reference does. Fails with one error
    that names all operators that have no rule, or the node that is used in a
    way that none covers.

    ```mlir
    %1 = onnx.node "Add" "a"(%x, %y) {} : (tensor<4xf32>, tensor<1xf32>) -> ..
    // becomes
    %1 = linalg.generic {..} ins(%x, %y : tensor<4xf32>, tensor<1xf32>) ..
    ```
  }];
  let options = [Option<"folder", "folder", "std::string", /*default=*/"\".\"",
      "Folder of the files that initializers are in">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect",
                           "::mlir::arith::ArithDialect",
                           "::mlir::bufferization::BufferizationDialect",
                           "::mlir::linalg::LinalgDialect",
                           "::mlir::math::MathDialect",
                           "::hadal::rt::RTDialect",
                           "::mlir::scf::SCFDialect",
                           "::mlir::tensor::TensorDialect"];
}

#endif // HADAL_IMPORT_ONNX_PASSES
