// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Debuggers and profilers see the functions that code is in, and a layer's code
// is in one for all layers alike. Names of dispatches and of calls, as the
// manifest has them, become functions that are inlined there.

#ifndef HADAL_LIB_COMPILER_DEBUGSCOPES_H
#define HADAL_LIB_COMPILER_DEBUGSCOPES_H

#include "mlir/IR/BuiltinOps.h"

namespace hadal {

/// Gives all of \p module, which is of the llvm dialect, whose functions have
/// debug info and whose location has a name, a scope of that name: a function
/// that the one around it calls there, and which is inlined. Profilers unwind
/// by tables that are loaded with the program, which such functions get.
void addNamedScopes(mlir::ModuleOp module);

} // namespace hadal

#endif // HADAL_LIB_COMPILER_DEBUGSCOPES_H
