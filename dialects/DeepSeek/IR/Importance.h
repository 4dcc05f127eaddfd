// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What is kept when parts of a weight go: one choice for the reference
// interpreter and for the packer.

#ifndef HADAL_DIALECTS_DEEPSEEK_IR_IMPORTANCE_H
#define HADAL_DIALECTS_DEEPSEEK_IR_IMPORTANCE_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/SmallVector.h"

#include <cstdint>

namespace hadal::deepseek {

/// The indices that `deepseek.select` keeps of \p count, ascending: of each of
/// \p groups equal ranges the \p keep / \p groups most important ones, of equal
/// ones the first.
llvm::SmallVector<int64_t>
selectMost(int64_t count, int64_t keep, int64_t groups,
           llvm::function_ref<double(int64_t)> importance);

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_IR_IMPORTANCE_H
