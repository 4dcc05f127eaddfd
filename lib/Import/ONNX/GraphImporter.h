// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The graph of an .onnx file becomes a function of the onnx dialect.

#ifndef HADAL_IMPORT_ONNX_GRAPHIMPORTER_H
#define HADAL_IMPORT_ONNX_GRAPHIMPORTER_H

#include "dialects/ONNX/IR/ONNXOps.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include "absl/status/statusor.h"
#include "llvm/ADT/StringRef.h"

namespace hadal::onnx {

/// The name of the function that a graph becomes.
inline constexpr llvm::StringLiteral graphName = "main_graph";

/// On an initializer whose elements have fewer than 8 bits: its type.
inline constexpr llvm::StringLiteral packedAttrName = "onnx.packed";

/// The type of a number of `TensorProto.DataType` of 8 bits and more; null if
/// it is of none.
mlir::Type getElementType(mlir::Builder &builder, int64_t number);

/// On an argument of unknown sizes: what its dimensions are called, each by the
/// name in the file, or INPUT.AXIS.
inline constexpr llvm::StringLiteral dimsAttrName = "onnx.dims";

/// What the dimensions of the inputs of \p graph are called that have no size,
/// each once, in order: their names, or INPUT.AXIS.
llvm::SmallVector<std::string> unknownDimensions(mlir::ModuleOp graph);

/// Gives the unknown dimensions of the inputs of \p graph the sizes in \p dims,
/// by what they are called; INPUT.AXIS goes before a name. \p path starts
/// messages.
///
/// kInvalidArgument: no dimension has the name.
absl::Status
setDimensions(mlir::ModuleOp graph, llvm::StringRef path,
              llvm::ArrayRef<std::pair<std::string, int64_t>> dims);

/// What recipes call \p tensor: a name with `{}` would stand for several.
std::string getSourceName(InitializerOp tensor);

/// The type of \p tensor as ONNX has it: of elements of fewer than 8 bits, of
/// which bytes hold several, theirs.
mlir::RankedTensorType getLogicalType(InitializerOp tensor);

/// Reads \p path and returns a verified module with a function `@main_graph`;
/// loads the dialects it needs. Few integers, and single numbers, become
/// `onnx.constant`; other tensors `onnx.initializer`. With \p hasPlaces false
/// these do not say where their bytes are. Errors as for `readModel`, and
/// kInvalidArgument: a value that has no node before it, two of one name, an
/// attribute twice.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
importGraph(mlir::MLIRContext &context, llvm::StringRef path, bool hasPlaces);

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_GRAPHIMPORTER_H
