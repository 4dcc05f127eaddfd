// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What rounding by statistics promises: errors that are no larger, and numbers
// whatever the statistics are.

#include "dialects/DeepSeek/IR/Rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

using namespace hadal::deepseek;

namespace {

class RoundingTest : public ::testing::TestWithParam<unsigned> {
protected:
  unsigned bits() const { return GetParam(); }

  std::vector<float> randomNumbers(size_t count) {
    std::vector<float> numbers(count);
    for (float &number : numbers)
      number = normal(random);
    return numbers;
  }

  /// The scale of \p count weights without moments.
  float plainScale(const float *weights, int64_t count) const {
    float largest = 0;
    for (int64_t i = 0; i < count; ++i)
      if (std::fabs(weights[i]) > std::fabs(largest))
        largest = weights[i];
    return bits() == 8 ? std::fabs(largest) / 127
                       : largest / -float(1 << (bits() - 1));
  }

  double roundTo(float weight, float scale) const {
    double most = (1 << (bits() - 1)) - 1;
    double least = bits() == 8 ? -127 : -most - 1;
    return scale == 0
               ? 0
               : std::fmin(std::fmax(std::nearbyint(weight / scale), least),
                           most);
  }

  double errorOf(const float *weights, const float *moments, int64_t count,
                 float scale) const {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      double error =
          double(weights[i]) - double(scale) * roundTo(weights[i], scale);
      sum += double(moments[i]) * error * error;
    }
    return sum;
  }

  std::mt19937 random{1};
  std::normal_distribution<float> normal;
};

} // namespace

INSTANTIATE_TEST_SUITE_P(Bits, RoundingTest, ::testing::Values(4u, 5u, 6u, 8u));

TEST_P(RoundingTest, ScalesAreNoWorse) {
  double plain = 0, weighted = 0;
  for (int64_t count : {32, 64, 100, 128})
    for (int i = 0; i < 20; ++i) {
      std::vector<float> w = randomNumbers(size_t(count));
      std::vector<float> m = randomNumbers(size_t(count));
      for (float &moment : m)
        moment *= moment;
      float fallback = plainScale(w.data(), count);
      float scale = findScale(w.data(), m.data(), count, bits(), fallback);
      plain += errorOf(w.data(), m.data(), count, fallback);
      weighted += errorOf(w.data(), m.data(), count, scale);
    }
  EXPECT_LT(weighted, plain * (bits() < 8 ? 0.85 : 0.98));
}

// Sizes do not matter, and neither does what is not there.
TEST_P(RoundingTest, ScalesOfAnySize) {
  std::vector<float> w = randomNumbers(32), ones(32, 1), none(32, 0);
  float fallback = plainScale(w.data(), 32);
  float scale = findScale(w.data(), ones.data(), 32, bits(), fallback);
  // Ones have a hundredth of their mean added, zeros have not: f32 rounds the
  // sums in other places.
  EXPECT_FLOAT_EQ(findScale(w.data(), none.data(), 32, bits(), fallback),
                  scale);
  for (float factor : {0x1p-60f, 0x1p60f, 0x1p100f}) {
    std::vector<float> m(32, factor), large = w;
    EXPECT_EQ(findScale(w.data(), m.data(), 32, bits(), fallback), scale);
    for (float &number : large)
      number *= factor;
    EXPECT_EQ(findScale(large.data(), m.data(), 32, bits(), fallback * factor),
              scale * factor);
  }
  EXPECT_EQ(findScale(none.data(), ones.data(), 32, bits(), 0), 0);
}

namespace {

/// A gram of \p rows rows of correlated inputs.
std::vector<float> makeGram(int64_t k, int64_t rows, std::mt19937 &random) {
  std::normal_distribution<float> normal;
  std::vector<double> sums(size_t(k * k));
  std::vector<float> x(static_cast<size_t>(k));
  for (int64_t row = 0; row < rows; ++row) {
    float common = normal(random);
    for (int64_t i = 0; i < k; ++i)
      x[size_t(i)] = common * float(i % 3) + normal(random) * float(i % 5);
    for (int64_t i = 0; i < k; ++i)
      for (int64_t j = 0; j < k; ++j)
        sums[size_t(i * k + j)] += double(x[size_t(i)]) * double(x[size_t(j)]);
  }
  std::vector<float> gram;
  for (double sum : sums)
    gram.push_back(float(sum / double(std::max<int64_t>(rows, 1))));
  return gram;
}

} // namespace

TEST_P(RoundingTest, ErrorsMakeUpForOneAnother) {
  constexpr int64_t k = 96, n = 35, group = 32;
  // Of many rows, of fewer than there are columns, of one, and of none. Columns
  // 0, 15, .. are always zero.
  for (int64_t rows : {500, 20, 1, 0}) {
    std::vector<float> gram = makeGram(k, rows, random);
    std::vector<float> w = randomNumbers(n * k), scales;
    for (int64_t i = 0; i < n * k; i += group)
      scales.push_back(plainScale(w.data() + i, group));
    std::vector<int8_t> integers(w.size());
    ErrorFeedback(gram.data(), k, 0.01)
        .round(w.data(), scales.data(), n, group, bits(), integers.data());
    double before = 0, after = 0;
    for (int64_t row = 0; row < n; ++row) {
      std::vector<double> nearest(k), fed(k);
      for (int64_t i = 0; i < k; ++i) {
        size_t at = size_t(row * k + i);
        float scale = scales[at / group];
        nearest[size_t(i)] =
            double(w[at]) - double(scale) * roundTo(w[at], scale);
        fed[size_t(i)] = double(w[at]) - double(scale) * integers[at];
        if (rows == 0)
          EXPECT_EQ(int(integers[at]), int(roundTo(w[at], scale)));
      }
      for (size_t i = 0; i < k; ++i)
        for (size_t j = 0; j < k; ++j) {
          double moment = double(gram[i * k + j]);
          before += moment * nearest[i] * nearest[j];
          after += moment * fed[i] * fed[j];
        }
    }
    if (rows > 0)
      EXPECT_LT(after, before * 0.85) << rows;
  }
}

// Rows do not depend on each other, nor on how many are rounded at a time.
TEST_P(RoundingTest, RowsAreApart) {
  constexpr int64_t k = 64, n = 35, group = 32;
  std::vector<float> gram = makeGram(k, 100, random);
  std::vector<float> w = randomNumbers(n * k), scales(n * k / group, 0.25f);
  scales[3] = 0;
  std::vector<int8_t> all(w.size()), one(w.size());
  ErrorFeedback feedback(gram.data(), k, 0.01);
  feedback.round(w.data(), scales.data(), n, group, bits(), all.data());
  for (int64_t row = 0; row < n; ++row)
    feedback.round(w.data() + row * k, scales.data() + row * k / group, 1,
                   group, bits(), one.data() + row * k);
  EXPECT_EQ(all, one);
  for (int64_t i = 0; i < group; ++i)
    EXPECT_EQ(all[size_t(3 * group + i)], 0);
}
