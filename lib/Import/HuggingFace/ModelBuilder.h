// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A checked configuration and the tensors of a checkpoint become a module,
// whatever the format of either.

#ifndef HADAL_IMPORT_MODELBUILDER_H
#define HADAL_IMPORT_MODELBUILDER_H

#include "lib/Import/HuggingFace/Config.h"
#include "lib/Import/HuggingFace/TensorStore.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace hadal::huggingface {

/// Builds the module of \p config, with a model named after \p name and room
/// for \p contextTokens. \p store is null when there are no weights. Errors
/// name the tensor; a tensor that nothing reads is one, unless it is known that
/// nothing should.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
buildModel(mlir::MLIRContext &context, const Config &config, TensorStore *store,
           llvm::StringRef name, int64_t contextTokens,
           std::vector<std::string> &notes);

} // namespace hadal::huggingface

#endif // HADAL_IMPORT_MODELBUILDER_H
