// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How inputs of integer weights are rounded to 8 bits.

#ifndef HADAL_DIALECTS_DEEPSEEK_IR_INPUTROUNDING_H
#define HADAL_DIALECTS_DEEPSEEK_IR_INPUTROUNDING_H

#include <cstdint>

namespace hadal::deepseek {

/// Whether the scales of rounded inputs are powers of two, for weights of
/// \p bits with groups of \p weightGroup, and inputs with groups of
/// \p inputGroup. Small groups of weights have a product of scales for few
/// products of bytes, which a processor may then make by adding exponents; what
/// the rounding loses by it is little beside what weights of few bits lose.
constexpr bool roundsToPowers(int64_t bits, int64_t weightGroup,
                              int64_t inputGroup) {
  return bits <= 4 && weightGroup <= 32 && weightGroup == inputGroup;
}

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_IR_INPUTROUNDING_H
