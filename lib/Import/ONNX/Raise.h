// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The graph of an ONNX file becomes a module of the deepseek dialect.

#ifndef HADAL_IMPORT_ONNX_RAISE_H
#define HADAL_IMPORT_ONNX_RAISE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include "absl/status/statusor.h"
#include "llvm/ADT/StringRef.h"

#include <string>
#include <vector>

namespace hadal::onnx {

struct RaiseOptions {
  /// Of the files of the initializers, and of the model's configuration.
  std::string folder;
  /// Starts messages.
  std::string path;
  /// What the model is called.
  std::string name;
  /// 0: as many as the configuration or the graph allows.
  int64_t contextTokens = 0;
  /// Make a tiny model like that of the graph.
  bool tiny = false;
};

/// Returns what -raise-onnx-to-deepseek makes of \p graph, whose idioms it
/// fuses. What config.json or genai_config.json in the folder say of tokens and
/// of the length of a sequence is taken; where they speak of what the graph
/// computes, they must agree. Adds to \p notes.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
raiseToDeepSeek(mlir::ModuleOp graph, const RaiseOptions &options,
                std::vector<std::string> &notes);

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_RAISE_H
