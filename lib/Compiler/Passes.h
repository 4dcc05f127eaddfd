// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Passes that make files of a module instead of changing it.

#ifndef HADAL_COMPILER_PASSES_H
#define HADAL_COMPILER_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace hadal {

#define GEN_PASS_DECL
#include "lib/Compiler/Passes.h.inc"

/// Defines `registerHadalCompilerPasses`.
#define GEN_PASS_REGISTRATION
#include "lib/Compiler/Passes.h.inc"

} // namespace hadal

#endif // HADAL_COMPILER_PASSES_H
