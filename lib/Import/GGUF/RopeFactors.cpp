// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The rule behind the table `rope_freqs.weight`. Converters compute the table
// from four parameters in f32 (`convert_hf_to_gguf.py`); with those, and not
// the table, a model is the same module whatever file it comes from.

#include "lib/Import/GGUF/RopeFactors.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>

using namespace hadal;
using namespace hadal::gguf;
using huggingface::RopeConfig;

/// Of the f32 arithmetic behind the table: a factor is off by at most `factor`
/// times some roundings.
constexpr double tolerance = 1e-5;
constexpr double pi = 3.14159265358979323846;

namespace {
struct Table {
  llvm::ArrayRef<float> factors;
  double theta;

  /// The wavelength of frequency \p i before it is scaled.
  double wavelength(size_t i) const {
    return 2 * pi * std::pow(theta, double(i) / double(factors.size()));
  }

  bool isOf(const RopeConfig &rope) const {
    for (size_t i = 0; i < factors.size(); ++i) {
      double turns = double(rope.originalTokens) / wavelength(i);
      double kept = (turns - rope.lowFreqFactor) /
                    (rope.highFreqFactor - rope.lowFreqFactor);
      kept = std::min(std::max(kept, 0.0), 1.0);
      double factor = 1 / ((1 - kept) / rope.factor + kept);
      // The factors are no NaNs.
      if (std::abs(double(factors[i]) - factor) > tolerance * factor)
        return false;
    }
    return true;
  }
};
} // namespace

std::optional<RopeConfig> gguf::fitRopeFactors(llvm::ArrayRef<float> factors,
                                               double theta) {
  Table table{factors, theta};
  RopeConfig rope;
  rope.type = RopeConfig::Type::Llama3;
  rope.theta = theta;
  rope.factor = 1;
  for (float factor : factors) {
    bool isUsable = factor >= 1 && factor <= 1e6f; // False for NaN.
    if (!isUsable)
      return std::nullopt;
    rope.factor = std::max(rope.factor, double(factor));
  }
  auto matches = [&](double low, double high, double original) {
    // False for NaN.
    bool isUsable = original >= 1 && original < 1e9 && low > 1e-6 &&
                    high > low && high < 1e6;
    if (!isUsable)
      return false;
    rope.lowFreqFactor = low;
    rope.highFreqFactor = high;
    rope.originalTokens = std::llround(original);
    return table.isOf(rope);
  };
  if (matches(1, 4, 8192)) // Llama 3.1 and later.
    return rope;

  // Between the two bounds, what is kept of a frequency is a line over the
  // turns that it makes in one token: kept = slope * turns - offset, where
  // slope = original / (high - low) and offset = low / (high - low).
  struct Point {
    double turns, kept;
  };
  llvm::SmallVector<Point> points;
  double shortest = 0, longest = 0; // Wavelengths next to the jump, if any.
  for (auto [i, factor] : llvm::enumerate(factors)) {
    double wavelength = table.wavelength(i);
    if (factor == 1) {
      shortest = wavelength;
      continue;
    }
    if (double(factor) >= rope.factor * (1 - tolerance)) {
      longest = longest ? longest : wavelength;
      continue;
    }
    points.push_back({1 / wavelength, (1 / double(factor) - 1 / rope.factor) /
                                          (1 - 1 / rope.factor)});
  }
  if (points.empty()) {
    // A jump: the blend lies between two neighbors.
    if (!shortest || !longest)
      return std::nullopt;
    double ratio = std::min(4.0, std::sqrt(longest / shortest));
    double middle = std::sqrt(longest * shortest);
    if (matches(1, ratio, middle * std::sqrt(ratio)))
      return rope;
    return std::nullopt;
  }
  if (points.size() == 1) {
    double original = (3 * points[0].kept + 1) / points[0].turns;
    if (matches(1, 4, original))
      return rope;
    return std::nullopt;
  }
  const Point &first = points.front(), &last = points.back();
  double slope = (first.kept - last.kept) / (first.turns - last.turns);
  double offset = slope * last.turns - last.kept;
  bool isRising = slope > 0 && offset > 0; // False for NaN.
  if (!isRising)
    return std::nullopt;
  // Any multiple of (low, high, original) means the same: low is 1.
  double original = slope / offset, high = (1 + offset) / offset;
  if (matches(1, std::round(high * 4) / 4, std::round(original)))
    return rope;
  // The tokens are an integer, the others follow.
  original = std::max(std::round(original), 1.0);
  double width = original / slope;
  if (matches(offset * width, (offset + 1) * width, original))
    return rope;
  return std::nullopt;
}
