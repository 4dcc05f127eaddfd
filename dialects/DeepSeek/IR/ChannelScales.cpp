// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// By what channels are scaled before they are rounded. Sums have a fixed order
// and no fused operations, so that every machine chooses alike.

#include "dialects/DeepSeek/IR/ChannelScales.h"

#include "dialects/DeepSeek/IR/Rounding.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cmath>

#pragma STDC FP_CONTRACT OFF

using namespace hadal;
using namespace hadal::deepseek;

/// No scale is more than two to this, nor less than its inverse.
static constexpr int maxExponent = 12;

/// Strengths that are tried, as in the reference implementation of AWQ.
static constexpr int strengths = 20;

/// Exponents of two for the logarithms \p logs of what scales would be: around
/// the middle of all of them. Where nothing is known there is a NaN.
static std::vector<int> toExponents(llvm::ArrayRef<double> logs) {
  double least = INFINITY, most = -INFINITY;
  for (double log : logs)
    if (std::isfinite(log)) {
      least = std::min(least, log);
      most = std::max(most, log);
    }
  std::vector<int> exponents(logs.size(), 0);
  for (size_t i = 0; i < logs.size(); ++i)
    if (std::isfinite(logs[i])) {
      double exponent = std::nearbyint(logs[i] - (least + most) / 2);
      exponents[i] =
          int(std::clamp(exponent, -double(maxExponent), double(maxExponent)));
    }
  return exponents;
}

static std::vector<float> toScales(llvm::ArrayRef<int> exponents) {
  std::vector<float> scales(exponents.size());
  for (size_t i = 0; i < scales.size(); ++i)
    scales[i] = std::ldexp(1.0f, exponents[i]);
  return scales;
}

ChannelScaler::ChannelScaler(ChannelScaling scaling,
                             llvm::ArrayRef<float> statistic)
    : scaling(scaling), statistic(statistic.begin(), statistic.end()),
      scaled(statistic.size()) {
  if (scaling.strength) {
    largest.resize(statistic.size(), 0.0f);
    return;
  }
  // Divided by the mean, so that no sum overflows.
  double mean = 0;
  for (float moment : statistic)
    mean += double(moment) / double(statistic.size());
  std::vector<double> logs(statistic.size());
  for (int i = 0; i < strengths; ++i) {
    for (size_t c = 0; c < logs.size(); ++c)
      logs[c] = double(i) / strengths * std::log2(double(statistic[c])) / 2;
    Candidate candidate;
    candidate.exponents = toExponents(logs);
    if (!candidates.empty() &&
        candidates.back().exponents == candidate.exponents)
      continue;
    candidate.scales = toScales(candidate.exponents);
    for (size_t c = 0; c < logs.size(); ++c)
      candidate.factors.push_back(
          float(std::ldexp(mean > 0 ? double(statistic[c]) / mean : 1.0,
                           -2 * candidate.exponents[c])));
    candidates.push_back(std::move(candidate));
  }
}

/// The error of the product of \p row with an input of the statistic, if the
/// row is rounded times its scales.
double ChannelScaler::errorOf(const float *row, const Candidate &candidate) {
  // A float of this size has a unit in the last place of 1, so that adding and
  // taking it away rounds to an integer, to nearest even.
  constexpr float magic = 0x1.8p23f;
  size_t columns = scaled.size();
  size_t group = scaling.group ? size_t(scaling.group) : columns;
  float least = getLeastInteger(scaling.bits);
  float most = getMostInteger(scaling.bits);
  for (size_t i = 0; i < columns; ++i)
    scaled[i] = row[i] * candidate.scales[i];
  double error = 0;
  for (size_t first = 0; first < columns; first += group) {
    size_t end = std::min(first + group, columns);
    float extreme = 0;
    for (size_t i = first; i < end; ++i)
      if (std::fabs(scaled[i]) > std::fabs(extreme))
        extreme = scaled[i];
    float scale = getScaleOf(extreme, scaling.bits);
    float inverse = 1 / scale;
    if (!std::isfinite(inverse))
      continue;
    float sum = 0;
    for (size_t i = first; i < end; ++i) {
      float integer = std::min(std::max(scaled[i] * inverse, least), most);
      integer = (integer + magic) - magic;
      float missed = scaled[i] - integer * scale;
      sum += candidate.factors[i] * missed * missed;
    }
    error += double(sum);
  }
  return error;
}

void ChannelScaler::add(const float *row) {
  for (size_t i = 0; i < largest.size(); ++i)
    largest[i] = std::max(largest[i], std::fabs(row[i]));
  for (Candidate &candidate : candidates)
    candidate.error += errorOf(row, candidate);
}

std::vector<float> ChannelScaler::choose() const {
  if (!scaling.strength)
    // The first of equal ones, of which that of no scaling is the first.
    return llvm::min_element(candidates,
                             [](const Candidate &a, const Candidate &b) {
                               return a.error < b.error;
                             })
        ->scales;
  std::vector<double> logs(statistic.size());
  for (size_t i = 0; i < logs.size(); ++i)
    logs[i] = *scaling.strength * std::log2(double(statistic[i])) -
              (1 - *scaling.strength) * std::log2(double(largest[i]));
  return toScales(toExponents(logs));
}
