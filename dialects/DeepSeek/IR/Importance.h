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

/// The indices that `deepseek.select` keeps of \p count: of each of \p groups
/// equal ranges the \p keep / \p groups most important ones, of equal ones the
/// first. They ascend, or, if \p sorted, their importance falls in each range.
llvm::SmallVector<int64_t>
selectMost(int64_t count, int64_t keep, int64_t groups, bool sorted,
           llvm::function_ref<double(int64_t)> importance);

/// For each of \p count indices, its place by falling importance.
llvm::SmallVector<int64_t>
rankAll(int64_t count, llvm::function_ref<double(int64_t)> importance);

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_IR_IMPORTANCE_H
