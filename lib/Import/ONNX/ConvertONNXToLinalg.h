// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A graph that is no model of the deepseek dialect becomes a function of
// tensors.

#ifndef HADAL_IMPORT_ONNX_CONVERTONNXTOLINALG_H
#define HADAL_IMPORT_ONNX_CONVERTONNXTOLINALG_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include "absl/status/statusor.h"
#include "llvm/ADT/StringRef.h"

namespace hadal::onnx {

struct LinalgOptions {
  /// Of the files of the initializers.
  std::string folder;
  /// Starts messages.
  std::string path;
};

/// Returns what -convert-onnx-to-linalg makes of \p graph.
///
/// kInvalidArgument: operands that do not fit. kUnimplemented: an operator
/// without a rule, or one that is used in a way that has none; inputs whose
/// shape is not known. Messages name operator, node, and how many there are.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
convertToLinalg(mlir::ModuleOp graph, const LinalgOptions &options);

/// Whether \p graph has the inputs and outputs of a language model, so that
/// what is wrong with it as one is what its user has to know.
bool isDecoder(mlir::ModuleOp graph);

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_CONVERTONNXTOLINALG_H
