// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What is kept when parts of a weight go.

#include "dialects/DeepSeek/IR/Importance.h"

#include "llvm/ADT/STLExtras.h"

#include <numeric>

using namespace hadal;

llvm::SmallVector<int64_t>
deepseek::selectMost(int64_t count, int64_t keep, int64_t groups, bool sorted,
                     llvm::function_ref<double(int64_t)> importance) {
  int64_t perGroup = count / groups, keptPerGroup = keep / groups;
  llvm::SmallVector<int64_t> kept, order(static_cast<size_t>(perGroup));
  for (int64_t group = 0; group < groups; ++group) {
    std::iota(order.begin(), order.end(), group * perGroup);
    llvm::sort(order, [&](int64_t a, int64_t b) {
      double of = importance(a), other = importance(b);
      return of != other ? of > other : a < b;
    });
    if (!sorted)
      llvm::sort(order.begin(), order.begin() + keptPerGroup);
    kept.append(order.begin(), order.begin() + keptPerGroup);
  }
  return kept;
}

llvm::SmallVector<int64_t>
deepseek::rankAll(int64_t count,
                  llvm::function_ref<double(int64_t)> importance) {
  llvm::SmallVector<int64_t> ranks(static_cast<size_t>(count));
  for (auto [place, index] : llvm::enumerate(
           selectMost(count, count, 1, /*sorted=*/true, importance)))
    ranks[size_t(index)] = int64_t(place);
  return ranks;
}
