// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Choosing the next token from logits, reproducibly.

#ifndef HADAL_TEXT_SAMPLER_H
#define HADAL_TEXT_SAMPLER_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace hadal::text {

/// xoshiro256++ 1.0 (Blackman & Vigna 2021, arXiv:1805.01407), seeded by
/// SplitMix64 as its authors advise. Gives the same numbers everywhere.
class RandomGenerator {
public:
  explicit RandomGenerator(uint64_t seed);
  uint64_t next();
  /// Uniform in [0, 1), a multiple of 2^-53.
  double nextUniform();

private:
  uint64_t state[4];
};

struct SamplerOptions {
  /// Divides the logits. 0 takes the largest logit, whatever the rest says but
  /// for `repetitionPenalty`.
  float temperature = 1.0f;
  /// Keeps the K most probable tokens. 0 keeps all.
  int32_t topK = 0;
  /// Keeps the most probable tokens until their probabilities, of the tokens
  /// left by `topK`, sum to at least P. 1 keeps all.
  float topP = 1.0f;
  /// Keeps tokens at least P times as probable as the most probable. 0 keeps
  /// all.
  float minP = 0.0f;
  /// Divides positive and multiplies negative logits of tokens seen before
  /// (Keskar et al. 2019, arXiv:1909.05858, as in `transformers`). 1 does
  /// nothing.
  float repetitionPenalty = 1.0f;
  /// How many of the last tokens count as seen before. -1 counts all.
  int32_t repetitionWindowTokens = -1;
  uint64_t seed = 0;
};

/// Applies, in this order: repetition penalty, temperature, top-k, top-p,
/// min-p; then draws from what is left. That is the order of `transformers`
/// and vLLM, for which DeepSeek recommends its settings. llama.cpp by default
/// applies the temperature last, so top-p and min-p keep more tokens here at a
/// temperature above 1, and fewer below.
///
/// The same options, logits and accepted tokens give the same token on every
/// platform: the exponential is computed here, in IEEE arithmetic. Tokens of
/// equal probability are ordered by id.
class Sampler {
public:
  /// \returns False, and one line in \p error that names the option and its
  /// value, if an option is out of range.
  static bool validate(const SamplerOptions &options, std::string &error);

  /// \param options As `validate` accepts them.
  explicit Sampler(const SamplerOptions &options);

  /// Records \p id as seen, for the repetition penalty. For each token of the
  /// prompt, and each token that `sample` returned.
  void accept(int32_t id);

  /// Chooses a token. Advances the generator by one number, or by none at
  /// temperature 0.
  ///
  /// \param logits [vocabSize]; left as they are. NaN counts as -infinity. If
  ///               some are +infinity, the first of them is chosen.
  /// \returns The id, or -1 if all logits are -infinity or NaN, or there are
  /// none.
  int32_t sample(const float *logits, size_t vocabSize);

private:
  struct Candidate {
    double logit;
    double weight; ///< Its probability over that of the most probable.
    int32_t id;
  };
  static bool isBefore(const Candidate &a, const Candidate &b);
  double penalize(double logit, int32_t id) const;

  SamplerOptions options;
  RandomGenerator generator;
  /// The last tokens, if only they count; a ring.
  std::vector<int32_t> window;
  size_t windowNext = 0;
  /// How often each token is in the window.
  std::unordered_map<int32_t, int64_t> counts;
  std::vector<Candidate> candidates;
  std::vector<double> weights;
};

} // namespace hadal::text

#endif // HADAL_TEXT_SAMPLER_H
