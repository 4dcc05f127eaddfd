// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How weights are rounded to integers by what their inputs are on a text: one
// choice for the reference interpreter and for the packer.

#ifndef HADAL_DIALECTS_DEEPSEEK_IR_ROUNDING_H
#define HADAL_DIALECTS_DEEPSEEK_IR_ROUNDING_H

#include <cstdint>
#include <vector>

namespace hadal::deepseek {

/// Whether weights are rounded to integers of \p bits: 4, 5, 6 or 8.
inline constexpr bool isRoundingWidth(int64_t bits) {
  return (bits >= 4 && bits <= 6) || bits == 8;
}
/// The largest of these integers.
inline constexpr float getMostInteger(unsigned bits) {
  return float((1 << (bits - 1)) - 1);
}
/// The least: of 8 bits one that has an opposite.
inline constexpr float getLeastInteger(unsigned bits) {
  return bits == 8 ? -127.0f : -getMostInteger(bits) - 1;
}
/// The scale by which \p largest, the number of largest magnitude of a group,
/// becomes the integer of largest magnitude. That of less than 8 bits is
/// negative.
inline float getScaleOf(float largest, unsigned bits) {
  float least = getLeastInteger(bits);
  return bits == 8 ? (largest < 0 ? largest : -largest) / least
                   : largest / least;
}

/// The most weights of one scale that moments can choose it for.
inline constexpr int64_t maxWeightedGroup = 32768;

/// The scale that `deepseek.quantize_scales` gives \p count weights, at most
/// `maxWeightedGroup`, whose inputs have the mean squares \p moments, for
/// integers of \p bits; not rounded to f16. \p fallback is the scale
/// without moments. Finite if all arguments are.
float findScale(const float *weights, const float *moments, int64_t count,
                unsigned bits, float fallback);

/// Rounds rows of a matrix by the second moments of its inputs, as
/// `deepseek.quantize` says.
class ErrorFeedback {
public:
  /// Rows that are rounded at a time; a multiple of it is the fastest.
  static constexpr int64_t blockRows = 16;

  /// \p gram is `[columns, columns]`, symmetric and finite. Holds 8 *
  /// columns^2 bytes.
  ErrorFeedback(const float *gram, int64_t columns, double damping);

  /// Rounds \p rows rows of \p weights, `[rows, columns]`, to integers of
  /// \p bits in \p to, by \p scales, `[rows, columns / group]`.
  void round(const float *weights, const float *scales, int64_t rows,
             int64_t group, unsigned bits, int8_t *to) const;

private:
  void factorize();

  int64_t columns;
  std::vector<int64_t> order; ///< The last column is rounded first.
  /// Cholesky factor of the damped gram in that order, column by column.
  std::vector<double> factor;
};

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_IR_ROUNDING_H
