// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What logits say of a text.

#include "LogProbabilities.h"

#include "Report.h"

#include <algorithm>
#include <cmath>

using namespace hadal;
using namespace hadal::run;

double run::logSumExp(const float *logits, int64_t vocab) {
  double largest = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i)
    sum += std::exp(double(logits[i]) - largest);
  return largest + std::log(sum);
}

int64_t run::argMax(const float *logits, int64_t vocab) {
  return std::max_element(logits, logits + vocab) - logits;
}

double run::divergence(const float *base, double baseSum, const float *other,
                       double otherSum, int64_t vocab) {
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i) {
    double logP = double(base[i]) - baseSum;
    double p = std::exp(logP);
    if (p > 0) // Its limit at 0 is 0.
      sum += p * (logP - (double(other[i]) - otherSum));
  }
  // It cannot be negative, but a sum of rounded terms can.
  return std::max(sum, 0.0);
}

void RunningMean::add(double value) {
  ++number;
  double before = value - average;
  average += before / double(number);
  squares += before * (value - average);
}

double RunningMean::standardError() const {
  if (number < 2)
    return 0;
  return std::sqrt(squares / double(number - 1) / double(number));
}

void run::appendPerplexity(std::string &out, const RunningMean &nll) {
  double perplexity = std::exp(nll.mean());
  appendFormat(out,
               "\"scored_tokens\":%lld,\"nll\":%.9g,\"nll_standard_error\":"
               "%.6g,\"perplexity\":%.9g,\"perplexity_standard_error\":%.6g",
               static_cast<long long>(nll.count()), nll.mean(),
               nll.standardError(), perplexity,
               perplexity * nll.standardError());
}
