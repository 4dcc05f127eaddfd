// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sampling. This file is compiled without contraction of products and sums, so
// that every platform computes the same numbers.

#include "hadal_text/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

namespace hadal::text {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// 2^k for a \p k from -1022 to 1023.
static double powerOfTwo(int64_t k) {
  uint64_t bits = uint64_t(k + 1023) << 52;
  double result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

/// exp(x) for x <= 0, to about 1 ulp, with basic arithmetic alone: the one of
/// the C library differs from platform to platform. Without branches and calls,
/// so that a loop over a vocabulary computes several at once.
static double expNonPositive(double x) {
  // Far enough down that the result is 0.
  x = x < -745.0 ? -750.0 : x;
  // x = k ln 2 + r with |r| <= ln(2) / 2; ln 2 in two parts (fdlibm, e_exp.c).
  double nearest = x * 1.44269504088896338700e+00 + 0.5;
  auto whole = static_cast<int32_t>(nearest);
  whole -= whole > nearest ? 1 : 0;
  double k = whole;
  double r =
      (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
  // Taylor to r^13 / 13!; the next term is below 2^-57.
  double sum = 1.0;
  for (int n = 13; n > 0; --n)
    sum = 1.0 + r * sum / n;
  // In halves, since 2^k may be too small for a normal number.
  return sum * powerOfTwo(whole / 2) * powerOfTwo(whole - whole / 2);
}

static uint64_t rotateLeft(uint64_t value, int bits) {
  return value << bits | value >> (64 - bits);
}

RandomGenerator::RandomGenerator(uint64_t seed) {
  for (uint64_t &word : state) {
    uint64_t z = seed += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    word = z ^ z >> 31;
  }
}

uint64_t RandomGenerator::next() {
  uint64_t result = rotateLeft(state[0] + state[3], 23) + state[0];
  uint64_t shifted = state[1] << 17;
  state[2] ^= state[0];
  state[3] ^= state[1];
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= shifted;
  state[3] = rotateLeft(state[3], 45);
  return result;
}

double RandomGenerator::nextUniform() {
  return static_cast<double>(next() >> 11) * 0x1p-53;
}

bool Sampler::validate(const SamplerOptions &options, std::string &error) {
  auto fail = [&](const char *name, double value, const char *expected) {
    char text[160];
    std::snprintf(text, sizeof text, "%s: expected %s, but got %g", name,
                  expected, value);
    error = text;
    return false;
  };
  // Written so that NaN fails.
  // NOLINTBEGIN(readability-simplify-boolean-expr)
  if (!(options.temperature >= 0 && options.temperature < infinity))
    return fail("temperature", options.temperature, "a finite number >= 0");
  if (options.topK < 0)
    return fail("top-k", options.topK, "a number >= 0");
  if (!(options.topP > 0 && options.topP <= 1))
    return fail("top-p", options.topP, "a number > 0 and <= 1");
  if (!(options.minP >= 0 && options.minP <= 1))
    return fail("min-p", options.minP, "a number >= 0 and <= 1");
  if (!(options.repetitionPenalty > 0 && options.repetitionPenalty < infinity))
    return fail("repetition penalty", options.repetitionPenalty,
                "a finite number > 0");
  // NOLINTEND(readability-simplify-boolean-expr)
  if (options.repetitionWindowTokens < -1)
    return fail("repetition window", options.repetitionWindowTokens,
                "a number >= -1");
  return true;
}

Sampler::Sampler(const SamplerOptions &options)
    : options(options), generator(options.seed) {}

void Sampler::accept(int32_t id) {
  if (options.repetitionPenalty == 1.0f || options.repetitionWindowTokens == 0)
    return;
  if (options.repetitionWindowTokens > 0) {
    size_t size = static_cast<size_t>(options.repetitionWindowTokens);
    if (window.size() < size) {
      window.push_back(id);
    } else {
      auto oldest = counts.find(window[windowNext]);
      if (oldest != counts.end() && --oldest->second == 0)
        counts.erase(oldest);
      window[windowNext] = id;
      windowNext = (windowNext + 1) % size;
    }
  }
  ++counts[id];
}

bool Sampler::isBefore(const Candidate &a, const Candidate &b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

double Sampler::penalize(double logit, int32_t id) const {
  if (!counts.count(id))
    return logit;
  double penalty = options.repetitionPenalty;
  return logit < 0 ? logit * penalty : logit / penalty;
}

int32_t Sampler::sample(const float *logits, size_t vocabSize) {
  bool isGreedy = options.temperature == 0.0f;
  // Drawn first, so that a token costs one number whatever the logits.
  double uniform = isGreedy ? 0.0 : generator.nextUniform();
  Candidate best = {-infinity, 0.0, -1};
  candidates.clear();
  for (size_t i = 0; i < vocabSize; ++i) {
    double logit = logits[i];
    auto id = static_cast<int32_t>(i);
    if (!(logit > -infinity)) // False for NaN too.
      continue;
    if (!counts.empty())
      logit = penalize(logit, id);
    if (best.id < 0 || logit > best.logit)
      best = {logit, 0.0, id};
    if (!isGreedy)
      candidates.push_back({logit, 0.0, id});
  }
  if (isGreedy || best.id < 0 || best.logit == infinity)
    return best.id;

  // Neither filter below needs the order of the tokens that it drops, so order
  // only as many as it takes. The sums depend on the order of the others.
  if (options.topK > 0) {
    size_t count = std::min(size_t(options.topK), candidates.size());
    std::partial_sort(candidates.begin(),
                      candidates.begin() + std::ptrdiff_t(count),
                      candidates.end(), isBefore);
    candidates.resize(count);
  }

  double temperature = options.temperature;
  weights.resize(candidates.size());
  for (size_t i = 0; i < candidates.size(); ++i)
    weights[i] =
        expNonPositive((candidates[i].logit - best.logit) / temperature);
  for (size_t i = 0; i < candidates.size(); ++i)
    candidates[i].weight = weights[i];
  if (options.topP < 1.0f) {
    double total = 0.0;
    for (const Candidate &candidate : candidates)
      total += candidate.weight;
    double enough = total * static_cast<double>(options.topP);
    // All below this sum to half of what may be dropped at most: without them,
    // there is still enough.
    double least = (total - enough) / 2 / double(candidates.size());
    candidates.erase(
        std::remove_if(candidates.begin(), candidates.end(),
                       [&](const Candidate &c) { return c.weight < least; }),
        candidates.end());
    // A heap from the most probable down.
    auto isAfter = [](const Candidate &a, const Candidate &b) {
      return isBefore(b, a);
    };
    std::make_heap(candidates.begin(), candidates.end(), isAfter);
    std::vector<Candidate>::iterator rest = candidates.end();
    double sum = 0.0;
    while (rest != candidates.begin() && sum < enough) {
      std::pop_heap(candidates.begin(), rest, isAfter);
      sum += (--rest)->weight;
    }
    // They stand at the end now, the least probable first.
    candidates.erase(candidates.begin(), rest);
    std::reverse(candidates.begin(), candidates.end());
  }
  double total = 0.0;
  size_t kept = 0;
  for (const Candidate &candidate : candidates) {
    // The weight of the most probable token is 1.
    if (candidate.weight < static_cast<double>(options.minP))
      continue;
    total += candidate.weight;
    candidates[kept++] = candidate;
  }
  candidates.resize(kept);
  double target = uniform * total;
  int32_t last = best.id;
  double sum = 0.0;
  for (size_t i = 0; i < kept; ++i) {
    if (candidates[i].weight == 0.0)
      continue;
    sum += candidates[i].weight;
    last = candidates[i].id;
    if (target < sum)
      break;
  }
  return last;
}

} // namespace hadal::text
