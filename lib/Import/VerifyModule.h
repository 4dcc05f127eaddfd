// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks what an importer has made.

#ifndef HADAL_IMPORT_VERIFYMODULE_H
#define HADAL_IMPORT_VERIFYMODULE_H

#include "absl/status/status.h"
#include "mlir/IR/BuiltinOps.h"

namespace hadal {

/// An internal error with the first message of the verifier if \p module,
/// which \p what names, is wrong.
absl::Status verifyModule(mlir::ModuleOp module, llvm::StringRef what);

} // namespace hadal

#endif // HADAL_IMPORT_VERIFYMODULE_H
