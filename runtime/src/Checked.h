// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Arithmetic on sizes that says when it does not fit.

#ifndef HADAL_RT_SRC_CHECKED_H
#define HADAL_RT_SRC_CHECKED_H

#include <stdint.h>

namespace hadal_rt {

/// A byte count that remembers that it once overflowed.
class CheckedBytes {
public:
  CheckedBytes(int64_t value) : value(value), overflowed(value < 0) {}

  CheckedBytes &operator+=(const CheckedBytes &other) {
    overflowed |= other.overflowed;
    overflowed |= __builtin_add_overflow(value, other.value, &value);
    return *this;
  }
  CheckedBytes &operator*=(int64_t factor) {
    overflowed |= factor < 0;
    overflowed |= __builtin_mul_overflow(value, factor, &value);
    return *this;
  }
  /// Rounds up to a multiple of \p alignment, a power of two.
  CheckedBytes &alignTo(int64_t alignment) {
    *this += alignment - 1;
    value &= -alignment;
    return *this;
  }
  bool isValid() const { return !overflowed; }
  int64_t get() const { return value; }

private:
  int64_t value;
  bool overflowed;
};

/// Divides, rounding up. Both are positive; does not overflow.
inline int64_t ceilDivide(int64_t value, int64_t divisor) {
  return value / divisor + (value % divisor != 0);
}

} // namespace hadal_rt

#endif // HADAL_RT_SRC_CHECKED_H
