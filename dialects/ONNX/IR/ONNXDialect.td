// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The onnx dialect: the graph of an ONNX file as it is.

#ifndef HADAL_ONNX_DIALECT
#define HADAL_ONNX_DIALECT

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/DialectBase.td"

def ONNX_Dialect : Dialect {
  let name = "onnx";
  let cppNamespace = "::hadal::onnx";
  let summary = "The graph of an ONNX file, node by node";
  let description = [{
    What an importer reads and `-raise-onnx-to-deepseek` turns into a model of
    the deepseek dialect. A graph is a `func.func` that carries
    `onnx.opsets`, the version of each domain of operators, and
    `onnx.outputs`, the names of what it returns; its arguments carry
    `onnx.name`. Tensors of the file are `onnx.initializer`, which says where
    the bytes are, or, where they are few numbers that shapes are computed
    from, `onnx.constant`.

    Values that nodes compute are `!onnx.value`: what their shapes are depends
    on the lengths of a step, and what a file says of them is not trusted.
  }];
  let useDefaultTypePrinterParser = 1;
}

def ONNX_ValueType : TypeDef<ONNX_Dialect, "Value"> {
  let mnemonic = "value";
  let summary = "A tensor that a node computes";
}

#endif // HADAL_ONNX_DIALECT
