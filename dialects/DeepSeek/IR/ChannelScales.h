// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// By what channels are scaled before they are rounded: one choice for the
// reference interpreter and for the packer.

#ifndef HADAL_DIALECTS_DEEPSEEK_IR_CHANNELSCALES_H
#define HADAL_DIALECTS_DEEPSEEK_IR_CHANNELSCALES_H

#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace hadal::deepseek {

/// How `deepseek.channel_scales` chooses: by the error of integers of `bits`
/// with a scale for each `group`, or, with `strength`, by largest values.
struct ChannelScaling {
  unsigned bits = 0;
  int64_t group = 0;
  std::optional<double> strength;
};

/// Rows of a weight that decide, at most.
constexpr int64_t judgedRows = 1024;

/// The first of every so many of \p rows rows, so that no more than
/// `judgedRows` decide.
constexpr int64_t getRowStep(int64_t rows) {
  return rows <= judgedRows ? 1 : (rows + judgedRows - 1) / judgedRows;
}

/// Chooses the scales of the channels that some rows of weights have.
class ChannelScaler {
public:
  /// \param statistic Of each channel of the input: its mean square, or, with
  /// `strength`, its largest magnitude.
  ChannelScaler(ChannelScaling scaling, llvm::ArrayRef<float> statistic);

  /// Takes note of \p row, as long as the statistic.
  void add(const float *row);

  /// A power of two for each channel.
  std::vector<float> choose() const;

private:
  struct Candidate {
    std::vector<int> exponents; ///< Of two.
    std::vector<float> scales;
    std::vector<float> factors; ///< Of the squares of errors.
    double error = 0;           ///< Of all rows.
  };
  double errorOf(const float *row, const Candidate &candidate);

  ChannelScaling scaling;
  std::vector<float> statistic;
  std::vector<Candidate> candidates;
  std::vector<float> largest; ///< Magnitudes of weights, of each channel.
  std::vector<float> scaled;  ///< A row.
};

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_IR_CHANNELSCALES_H
