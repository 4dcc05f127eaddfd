// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A model of the same architecture that is small enough to be run slowly.

#ifndef HADAL_IMPORT_SHRINK_H
#define HADAL_IMPORT_SHRINK_H

#include "lib/Import/HuggingFace/Config.h"
#include "lib/Import/HuggingFace/TensorStore.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace hadal::huggingface {

/// Tokens that a sequence of a shrunken model may have, if \p config allows as
/// many.
inline constexpr int64_t tinyContextTokens = 512;

/// Makes \p config, a checked one, that of a few layers of small sizes: each
/// kind of layer that it has is there, and what decides which ops a layer is
/// made of stays. It is of no checkpoint: quantized matrices count as plain,
/// but for FP8, and there are no layers for multi-token prediction.
Config shrink(Config config);

/// Builds the module of what shrink() makes of \p config. \p store says what an
/// adapter adds to its weights; null: there is none. Adds to \p notes.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
buildTiny(mlir::MLIRContext &context, const Config &config, TensorStore *store,
          std::vector<std::string> &notes);

} // namespace hadal::huggingface

#endif // HADAL_IMPORT_SHRINK_H
