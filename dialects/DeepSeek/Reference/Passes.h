// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Passes that run a module instead of changing it.

#ifndef HADAL_DIALECTS_DEEPSEEK_REFERENCE_PASSES_H
#define HADAL_DIALECTS_DEEPSEEK_REFERENCE_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace hadal::deepseek {

#define GEN_PASS_DECL
#include "dialects/DeepSeek/Reference/Passes.h.inc"

/// Defines `registerDeepSeekReferencePasses`.
#define GEN_PASS_REGISTRATION
#include "dialects/DeepSeek/Reference/Passes.h.inc"

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_REFERENCE_PASSES_H
