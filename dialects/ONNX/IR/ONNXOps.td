// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operations of the onnx dialect.

#ifndef HADAL_ONNX_OPS
#define HADAL_ONNX_OPS

include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/IR/OpBase.td"
include "dialects/ONNX/IR/ONNXDialect.td"

class ONNX_Op<string opMnemonic, list<Trait> traits = []>
    : Op<ONNX_Dialect, opMnemonic, !listconcat([Pure], traits)>;

def ONNX_Operand : AnyTypeOf<[ONNX_ValueType, AnyRankedTensor, NoneType]>;

def ONNX_NodeOp : ONNX_Op<"node"> {
  let summary = "A node of the graph";
  let description = [{
    `op_type` has the domain before it, unless that is ONNX's own:
    `com.microsoft.MatMulNBits`. `parameters` are what the file calls its
    attributes, and `name` is what messages call the node. An operand or result that the
    node leaves out is `onnx.none`, or has no uses.

    ```mlir
    %1 = onnx.node "Softmax" "/layers.0/softmax" (%0) {axis = -1 : si64}
        : (!onnx.value) -> !onnx.value
    ```
  }];
  let arguments = (ins StrAttr:$op_type, StrAttr:$name,
                       Variadic<ONNX_Operand>:$inputs,
                       DictionaryAttr:$parameters);
  let results = (outs Variadic<ONNX_ValueType>:$outputs);
  let assemblyFormat = [{
    $op_type $name `(` $inputs `)` $parameters attr-dict `:`
    functional-type($inputs, $outputs)
  }];
}

def ONNX_InitializerOp : ONNX_Op<"initializer"> {
  let summary = "A tensor of the file";
  let description = [{
    Bytes of `name`, in row-major order, at byte `offset` of `file`, which is
    relative to the model's folder. Elements of fewer than 8 bits are rows of
    bytes of type `ui8`. Without weights, `file` is empty.
    - (C1) the type has static shape.
    - (C2) `offset >= 0`.

    ```mlir
    %w = onnx.initializer "lm_head" in "model.onnx.data" at 4096
        : tensor<64x320xf32>
    ```
  }];
  let arguments = (ins StrAttr:$name, StrAttr:$file, I64Attr:$offset);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$name `in` $file `at` $offset attr-dict `:` type($result)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getType() {
      return ::llvm::cast<::mlir::RankedTensorType>(getResult().getType());
    }
  }];
}

def ONNX_ConstantOp : ONNX_Op<"constant", [
    AllTypesMatch<["value", "result"]>]> {
  let summary = "A few numbers that the file gives";
  let description = [{
    Of those that the file has as bytes, `name`, `file` and `offset` say where,
    as those of `onnx.initializer` do: a weight may be so small.
    - (C1) `name`, `file` and `offset` are given together.
    - (C2) `offset >= 0`.

    ```mlir
    %shape = onnx.constant dense<[1, -1, 4, 16]> : tensor<4xi64>
    %scale = onnx.constant dense<0.5> : tensor<f32> "w.scale" in "model.onnx" at 64
    ```
  }];
  let arguments = (ins ElementsAttr:$value, OptionalAttr<StrAttr>:$name,
                       OptionalAttr<StrAttr>:$file,
                       OptionalAttr<I64Attr>:$offset);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat =
      "attr-dict $value ($name^ `in` $file `at` $offset)?";
  let hasVerifier = 1;
  let builders = [OpBuilder<(ins "::mlir::ElementsAttr":$value), [{
    build($_builder, $_state, value.getType(), value, ::mlir::StringAttr(),
          ::mlir::StringAttr(), ::mlir::IntegerAttr());
  }]>];
}

def ONNX_NoneOp : ONNX_Op<"none"> {
  let summary = "An operand that a node leaves out";
  let results = (outs NoneType:$result);
  let assemblyFormat = "attr-dict";
}

#endif // HADAL_ONNX_OPS
