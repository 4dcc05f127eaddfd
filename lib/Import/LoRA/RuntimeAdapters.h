// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Adapters that are kept beside the weights, for sequences to choose from.

#ifndef HADAL_IMPORT_LORA_RUNTIMEADAPTERS_H
#define HADAL_IMPORT_LORA_RUNTIMEADAPTERS_H

#include "hadal/Import.h"

namespace hadal::lora {

/// Declares by `deepseek.adapters` what each of \p adapters adds to the weights
/// of \p module, which has just been imported, and gives its model their names.
/// Recipes read the files as `getAdapterFile` names them; a tiny model's, \p
/// isTiny, have made-up matrices, of a rank of up to four, for the weights like
/// those that an adapter changes. Adds to \p notes.
///
/// - kInvalidArgument: an adapter is wrong, or of another model.
/// - kUnimplemented: one changes what cannot be changed at run time.
absl::Status declareAdapters(mlir::ModuleOp module,
                             llvm::ArrayRef<RuntimeAdapter> adapters,
                             bool isTiny, std::vector<std::string> &notes);

} // namespace hadal::lora

#endif // HADAL_IMPORT_LORA_RUNTIMEADAPTERS_H
