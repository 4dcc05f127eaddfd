// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Arithmetic on sizes that come from files: overflow is a result, not a bug.

#ifndef HADAL_SUPPORT_CHECKEDMATH_H
#define HADAL_SUPPORT_CHECKEDMATH_H

#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <optional>

namespace hadal {

/// The product of \p factors, or nothing if one is negative or it overflows.
std::optional<int64_t> checkedProduct(llvm::ArrayRef<int64_t> factors);

/// a + b, or nothing on overflow.
std::optional<int64_t> checkedSum(int64_t a, int64_t b);

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t roundUp(int64_t a, int64_t b) { return ceilDiv(a, b) * b; }

} // namespace hadal

#endif // HADAL_SUPPORT_CHECKEDMATH_H
