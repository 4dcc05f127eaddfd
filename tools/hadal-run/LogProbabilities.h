// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What logits say of a text: in f64, since a mean over many tokens shows what
// f32 would lose.

#ifndef HADAL_TOOLS_HADAL_RUN_LOGPROBABILITIES_H
#define HADAL_TOOLS_HADAL_RUN_LOGPROBABILITIES_H

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace hadal::run {

/// Computes log(sum_i exp(logits[i])), relative to the largest logit, so that
/// nothing overflows. NaN or infinite if a logit is NaN or infinite, but for
/// minus infinity, which is a probability of zero.
double logSumExp(const float *logits, int64_t vocab);

/// Index of the largest logit, the first of equal ones.
int64_t argMax(const float *logits, int64_t vocab);

/// Kullback-Leibler divergence of \p other from \p base, in nats:
/// sum_i p_i (log p_i - log q_i) with the probabilities p of \p base and q of
/// \p other. Their logSumExp() is given.
double divergence(const float *base, double baseSum, const float *other,
                  double otherSum, int64_t vocab);

/// A mean of values as they come, and its standard error. Welford 1962.
class RunningMean {
public:
  void add(double value);
  int64_t count() const { return number; }
  double mean() const { return average; }
  /// Standard deviation of the mean; 0 for fewer than two values.
  double standardError() const;

private:
  int64_t number = 0;
  double average = 0, squares = 0;
};

/// Begins what --rows-to writes: this, then `rows` times an int32 token and the
/// float32 logits [vocab] from which it had to be guessed.
struct RowsHeader {
  char magic[8];
  int64_t vocab;
  int64_t rows;
  int64_t windowTokens;
};
inline constexpr char rowsMagic[8] = {'H', 'D', 'L', 'R', 'O', 'W', 'S', '1'};

/// Appends the JSON members that all measurements of a text begin with.
void appendPerplexity(std::string &out, const RunningMean &nll);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_LOGPROBABILITIES_H
