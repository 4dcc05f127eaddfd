// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Arrays of vectors of which each is in registers, in kernels for GPUs: loops
// that count them to the end are unrolled in what is emitted.

#ifndef HADAL_CODEGEN_REGISTERARRAYS_H
#define HADAL_CODEGEN_REGISTERARRAYS_H

#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"

namespace hadal {

/// On a `memref.alloca`, `[count, lanes]`, anywhere in a kernel: its rows are
/// vectors in registers, which are loaded and stored whole.
inline constexpr char registersAttrName[] = "rt.registers";

/// Whether \p memref is such an array.
inline bool isRegisterArray(mlir::Value memref) {
  mlir::Operation *op = memref.getDefiningOp();
  return op && op->hasAttr(registersAttrName);
}

} // namespace hadal

#endif // HADAL_CODEGEN_REGISTERARRAYS_H
