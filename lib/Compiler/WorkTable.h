// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The dispatches of a step, in order, with names and what each reads and
// computes: for the report, and for the manifest, from which a product's
// profile knows what it measures.

#ifndef HADAL_LIB_COMPILER_WORKTABLE_H
#define HADAL_LIB_COMPILER_WORKTABLE_H

#include "hadal/Compiler.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/JSON.h"

namespace hadal {

/// Fills `report.dispatches` from \p module, which is of the rt dialect and
/// whose dispatches have their `work`.
void addDispatches(mlir::ModuleOp module, ModelReport &report);

/// "layers.3." of "layers.3.mlp.gate"; nothing if it is not of a layer.
llvm::StringRef getLayerPrefix(llvm::StringRef name);

/// Returns the table of \p module as JSON:
///
///     {"entry": NAME, "functions": {NAME: [ROW, ..], ..}}
///
/// where a ROW is a dispatch `{"name", "op", "kernel", ..}` with the numbers of
/// its `#rt.work` that are not zero, and "results", `[argument, columns,
/// stride]` of each buffer of f32 that holds a result of its op then, or a call
/// `{"call": NAME, "name"}`. A dispatch has the name of the first weight that
/// it reads, without the prefix that all weights of a layer share and that
/// names the call; or, if it reads none, that of its kernel without shapes.
llvm::json::Object makeWorkTable(mlir::ModuleOp module);

/// Gives the locations of dispatches and calls the names that they have there.
void nameLocations(mlir::ModuleOp module);

} // namespace hadal

#endif // HADAL_LIB_COMPILER_WORKTABLE_H
