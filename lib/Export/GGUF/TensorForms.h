// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tensors of a GGUF file, as recipes.

#ifndef HADAL_EXPORT_GGUF_TENSORFORMS_H
#define HADAL_EXPORT_GGUF_TENSORFORMS_H

#include "lib/Export/GGUF/ModelKeys.h"

#include <string>
#include <vector>

namespace hadal::gguf {

/// A tensor of a GGUF file.
struct TensorForm {
  std::string name;
  const BlockType *type;
  /// As PyTorch has it: the last dimension is contiguous.
  llvm::SmallVector<int64_t, 4> shape;
  /// Its recipe makes the tensor's bytes.
  deepseek::WeightOp recipe;

  int64_t getSizeBytes() const;
};

/// True if \p module has a matrix kv_b in blocks, which cannot be cut in halves
/// as they are.
bool hasWholeExpansion(mlir::ModuleOp module);

/// Makes a tensor of each weight of \p module, in its order, and puts their
/// recipes into \p recipes: those of the weights, and then what a converter
/// does, the other way of `GGUFStore`. Numbers that come from blocks of a GGUF
/// file stay these blocks.
///
/// kUnimplemented: a weight has no name or no type in the format.
absl::StatusOr<std::vector<TensorForm>> makeTensorForms(mlir::ModuleOp module,
                                                        const ModelFacts &facts,
                                                        mlir::ModuleOp recipes);

} // namespace hadal::gguf

#endif // HADAL_EXPORT_GGUF_TENSORFORMS_H
