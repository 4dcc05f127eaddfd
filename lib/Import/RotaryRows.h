// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The order of rows of projections whose results are rotated.

#ifndef HADAL_IMPORT_ROTARYROWS_H
#define HADAL_IMPORT_ROTARYROWS_H

#include "mlir/IR/Builders.h"

namespace hadal {

/// \p value, a tensor of a recipe whose rows are of \p heads heads, with rows
/// that were neighbors a half of a head apart: row (head, i, j) of it is row
/// (head, j, i) of the result.
mlir::Value splitRotaryPairs(mlir::OpBuilder &recipe, mlir::Value value,
                             int64_t heads);

} // namespace hadal

#endif // HADAL_IMPORT_ROTARYROWS_H
