// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What each pass changed, for the report's page.

#ifndef HADAL_LIB_COMPILER_PASSCHANGES_H
#define HADAL_LIB_COMPILER_PASSCHANGES_H

#include "hadal/Compiler.h"

#include "mlir/Pass/PassInstrumentation.h"

#include <memory>

namespace hadal {

/// Returns an instrumentation of one pipeline that adds to \p changes, which
/// must outlive it, an entry for each pass, in their order. A pass that runs on
/// each function has one entry for all, and so has one that runs twice.
std::unique_ptr<mlir::PassInstrumentation>
makePassChanges(std::vector<PassChange> &changes);

} // namespace hadal

#endif // HADAL_LIB_COMPILER_PASSCHANGES_H
