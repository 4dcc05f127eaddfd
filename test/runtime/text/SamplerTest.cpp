// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The samplers draw from the distribution they promise, reproducibly.

#include "hadal_text/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

using namespace hadal::text;

namespace {

const std::vector<float> logits = {1.0f, 2.5f,  -0.5f, 2.0f, 0.0f,
                                   1.5f, -3.0f, 2.5f,  0.5f, 1.0f};

/// The exact probabilities, written as plainly as can be: penalty, temperature,
/// top-k, top-p, min-p, each on the probabilities that the one before leaves.
std::vector<double> exactProbabilities(const SamplerOptions &options,
                                       const std::vector<int32_t> &seen) {
  std::vector<double> scores(logits.begin(), logits.end());
  for (size_t i = 0; i < scores.size(); ++i)
    if (std::count(seen.begin(), seen.end(), static_cast<int32_t>(i)))
      scores[i] = scores[i] < 0 ? scores[i] * options.repetitionPenalty
                                : scores[i] / options.repetitionPenalty;
  for (double &score : scores)
    score /= options.temperature;
  std::vector<size_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  size_t kept = order.size();
  if (options.topK > 0)
    kept = std::min<size_t>(kept, options.topK);
  auto total = [&] {
    double sum = 0;
    for (size_t i = 0; i < kept; ++i)
      sum += std::exp(scores[order[i]]);
    return sum;
  };
  double sum = 0, before = total();
  for (size_t i = 0; i < kept; ++i) {
    sum += std::exp(scores[order[i]]) / before;
    if (sum >= options.topP) {
      kept = i + 1;
      break;
    }
  }
  while (std::exp(scores[order[kept - 1]] - scores[order[0]]) < options.minP)
    --kept;
  std::vector<double> result(scores.size());
  double left = total();
  for (size_t i = 0; i < kept; ++i)
    result[order[i]] = std::exp(scores[order[i]]) / left;
  return result;
}

class SamplerDistribution : public testing::TestWithParam<SamplerOptions> {};

TEST_P(SamplerDistribution, ChiSquare) {
  SamplerOptions options = GetParam();
  std::string error;
  ASSERT_TRUE(Sampler::validate(options, error)) << error;
  Sampler sampler(options);
  std::vector<int32_t> seen = {1, 6, 1};
  for (int32_t id : seen)
    sampler.accept(id);
  std::vector<double> expected = exactProbabilities(options, seen);
  const int draws = 200000;
  std::vector<int> counts(logits.size());
  for (int i = 0; i < draws; ++i) {
    int32_t id = sampler.sample(logits.data(), logits.size());
    ASSERT_GE(id, 0);
    ++counts[id];
  }
  double chiSquare = 0;
  int degrees = -1;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (expected[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " should have been dropped";
      continue;
    }
    double difference = counts[i] - draws * expected[i];
    chiSquare += difference * difference / (draws * expected[i]);
    ++degrees;
  }
  // The Wilson-Hilferty bound at 5 standard deviations: it fails once in
  // millions of seeds, and the seed is fixed.
  if (degrees > 0) {
    double a = 2.0 / (9.0 * degrees);
    EXPECT_LT(chiSquare, degrees * std::pow(1 - a + 5 * std::sqrt(a), 3));
  }
}

SamplerOptions makeOptions(float temperature, int32_t topK, float topP,
                           float minP, float penalty) {
  SamplerOptions options;
  options.temperature = temperature;
  options.topK = topK;
  options.topP = topP;
  options.minP = minP;
  options.repetitionPenalty = penalty;
  options.seed = 42;
  return options;
}

INSTANTIATE_TEST_SUITE_P(
    Options, SamplerDistribution,
    testing::Values(makeOptions(1.0f, 0, 1.0f, 0.0f, 1.0f),
                    makeOptions(0.6f, 0, 0.95f, 0.0f, 1.0f),
                    makeOptions(1.0f, 5, 1.0f, 0.0f, 1.0f),
                    makeOptions(1.0f, 1, 1.0f, 0.0f, 1.0f),
                    makeOptions(1.5f, 0, 0.5f, 0.0f, 1.0f),
                    makeOptions(1.0f, 0, 1.0f, 0.25f, 1.0f),
                    makeOptions(0.8f, 7, 0.9f, 0.1f, 1.3f),
                    makeOptions(2.0f, 100, 1.0f, 0.0f, 2.0f),
                    makeOptions(1.0f, 0, 0.001f, 0.0f, 1.0f),
                    makeOptions(0.01f, 0, 1.0f, 1.0f, 0.5f)));

TEST(Sampler, GreedyTakesTheLowestOfEqualIds) {
  Sampler sampler(makeOptions(0.0f, 0, 1.0f, 0.0f, 1.0f));
  EXPECT_EQ(sampler.sample(logits.data(), logits.size()), 1);
}

TEST(Sampler, GreedyWithPenalty) {
  Sampler sampler(makeOptions(0.0f, 0, 1.0f, 0.0f, 2.0f));
  sampler.accept(1);
  EXPECT_EQ(sampler.sample(logits.data(), logits.size()), 7);
  sampler.accept(7);
  EXPECT_EQ(sampler.sample(logits.data(), logits.size()), 3);
}

// Only the last tokens count, and a token that leaves the window is free again.
TEST(Sampler, PenaltyWindow) {
  SamplerOptions options = makeOptions(0.0f, 0, 1.0f, 0.0f, 2.0f);
  options.repetitionWindowTokens = 2;
  Sampler sampler(options);
  sampler.accept(1);
  sampler.accept(1);
  sampler.accept(7);
  EXPECT_EQ(sampler.sample(logits.data(), logits.size()), 3);
  sampler.accept(0);
  EXPECT_EQ(sampler.sample(logits.data(), logits.size()), 1);
}

TEST(Sampler, OddLogits) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (float temperature : {0.0f, 1.0f}) {
    Sampler sampler(makeOptions(temperature, 3, 0.9f, 0.1f, 1.2f));
    std::vector<float> none = {nan, -infinity, nan};
    EXPECT_EQ(sampler.sample(none.data(), none.size()), -1);
    EXPECT_EQ(sampler.sample(nullptr, 0), -1);
    std::vector<float> one = {nan, -infinity, -80.0f, nan};
    EXPECT_EQ(sampler.sample(one.data(), one.size()), 2);
    std::vector<float> sure = {nan, 1.0f, infinity, infinity};
    EXPECT_EQ(sampler.sample(sure.data(), sure.size()), 2);
    std::vector<float> wide = {-3e38f, 3e38f, 0.0f};
    EXPECT_EQ(sampler.sample(wide.data(), wide.size()), 1);
  }
  // The smallest temperature that is not 0 must not divide to NaN.
  Sampler cold(makeOptions(1e-45f, 0, 1.0f, 0.0f, 1.0f));
  EXPECT_EQ(cold.sample(logits.data(), logits.size()) % 6, 1);
}

// The numbers themselves are a promise: the same on every platform and version.
TEST(Sampler, Reproducible) {
  // From the authors' splitmix64.c and xoshiro256plusplus.c, seed 42.
  RandomGenerator generator(42);
  EXPECT_EQ(generator.next(), 0xd0764d4f4476689fu);
  EXPECT_EQ(generator.next(), 0x519e4174576f3791u);
  EXPECT_EQ(generator.next(), 0xfbe07cfb0c24ed8cu);

  Sampler sampler(makeOptions(1.0f, 0, 0.95f, 0.0f, 1.0f));
  std::vector<int32_t> ids;
  for (int i = 0; i < 16; ++i)
    ids.push_back(sampler.sample(logits.data(), logits.size()));
  EXPECT_EQ(ids, (std::vector<int32_t>{5, 7, 8, 3, 5, 3, 1, 3, 1, 9, 7, 0, 3, 1,
                                       7, 7}));
}

// Large vocabularies take the partial orderings; compare with a full one.
TEST(Sampler, LargeVocabulary) {
  const size_t size = 129280;
  std::vector<float> large(size);
  RandomGenerator generator(7);
  for (float &logit : large)
    logit = static_cast<float>(generator.nextUniform() * 24.0 - 12.0);
  std::vector<float> sorted = large;
  std::sort(sorted.begin(), sorted.end(), std::greater<float>());
  Sampler sampler(makeOptions(1.0f, 40, 1.0f, 0.0f, 1.0f));
  for (int i = 0; i < 100; ++i)
    EXPECT_GE(large[sampler.sample(large.data(), size)], sorted[39]);
  double total = 0;
  for (float logit : sorted)
    total += std::exp(static_cast<double>(logit));
  double sum = 0;
  size_t kept = 0;
  while (sum < 0.5 * total)
    sum += std::exp(static_cast<double>(sorted[kept++]));
  Sampler nucleus(makeOptions(1.0f, 0, 0.5f, 0.0f, 1.0f));
  for (int i = 0; i < 100; ++i)
    EXPECT_GE(large[nucleus.sample(large.data(), size)], sorted[kept - 1]);
}

TEST(Sampler, Validate) {
  std::string error;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (auto [options, message] :
       {std::pair{makeOptions(-1.0f, 0, 1.0f, 0.0f, 1.0f),
                  "temperature: expected a finite number >= 0, but got -1"},
        {makeOptions(nan, 0, 1.0f, 0.0f, 1.0f),
         "temperature: expected a finite number >= 0, but got nan"},
        {makeOptions(1.0f, -1, 1.0f, 0.0f, 1.0f),
         "top-k: expected a number >= 0, but got -1"},
        {makeOptions(1.0f, 0, 0.0f, 0.0f, 1.0f),
         "top-p: expected a number > 0 and <= 1, but got 0"},
        {makeOptions(1.0f, 0, 1.0f, 1.5f, 1.0f),
         "min-p: expected a number >= 0 and <= 1, but got 1.5"},
        {makeOptions(1.0f, 0, 1.0f, 0.0f, 0.0f),
         "repetition penalty: expected a finite number > 0, but got 0"}}) {
    EXPECT_FALSE(Sampler::validate(options, error));
    EXPECT_EQ(error, message);
  }
}

} // namespace
