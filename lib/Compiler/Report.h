// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Counts what a model holds and does.

#ifndef HADAL_COMPILER_REPORT_H
#define HADAL_COMPILER_REPORT_H

#include "hadal/Compiler.h"

#include "mlir/IR/BuiltinOps.h"

namespace hadal {

/// Counts \p module, in the deepseek dialect, into \p report.
void countModel(mlir::ModuleOp module, ModelReport &report);

/// Adds the sizes in the `rt.program` of \p module, if there is one.
void addMemory(mlir::ModuleOp module, ModelReport &report);

} // namespace hadal

#endif // HADAL_COMPILER_REPORT_H
