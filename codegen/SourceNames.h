// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What values of kernels are called in source that people read. A location has
// it, since those change no code and are in the way of no pass.

#ifndef HADAL_CODEGEN_SOURCENAMES_H
#define HADAL_CODEGEN_SOURCENAMES_H

#include "mlir/IR/Location.h"
#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"

namespace hadal {

/// Gives \p value a name: that of an argument, of a loop's index, or of an op
/// with one result and no regions. Of ops that are made one, the first's stays.
inline void setSourceName(mlir::Value value, llvm::StringRef name) {
  auto named = [&](mlir::Location loc) -> mlir::Location {
    return mlir::FusedLoc::get(loc.getContext(), {loc},
                               mlir::StringAttr::get(loc.getContext(), name));
  };
  if (auto argument = mlir::dyn_cast<mlir::BlockArgument>(value))
    return argument.setLoc(named(argument.getLoc()));
  mlir::Operation *op = value.getDefiningOp();
  if (op->getNumResults() == 1 && op->getNumRegions() == 0)
    op->setLoc(named(op->getLoc()));
}

/// The name of \p value, or "".
inline llvm::StringRef getSourceName(mlir::Value value) {
  mlir::Operation *op = value.getDefiningOp();
  if (op && op->getNumRegions() != 0)
    return "";
  auto named =
      mlir::dyn_cast<mlir::FusedLocWith<mlir::StringAttr>>(value.getLoc());
  return named ? named.getMetadata().getValue() : llvm::StringRef();
}

} // namespace hadal

#endif // HADAL_CODEGEN_SOURCENAMES_H
