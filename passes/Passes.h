// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Graph passes: deepseek in, deepseek out.

#ifndef HADAL_PASSES_PASSES_H
#define HADAL_PASSES_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace hadal {

#define GEN_PASS_DECL
#include "passes/Passes.h.inc"

/// Defines `registerDeepSeekPasses`, which registers every pass of this folder.
#define GEN_PASS_REGISTRATION
#include "passes/Passes.h.inc"

} // namespace hadal

#endif // HADAL_PASSES_PASSES_H
