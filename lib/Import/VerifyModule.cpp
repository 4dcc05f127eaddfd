// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks what an importer has made.

#include "lib/Import/VerifyModule.h"

#include "absl/strings/str_cat.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"

using namespace mlir;

absl::Status hadal::verifyModule(ModuleOp module, llvm::StringRef what) {
  std::string message;
  ScopedDiagnosticHandler handler(module.getContext(), [&](Diagnostic &diag) {
    if (message.empty())
      message = diag.str();
    return success();
  });
  if (succeeded(verify(module)))
    return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what.str(), " is wrong: ", message));
}
