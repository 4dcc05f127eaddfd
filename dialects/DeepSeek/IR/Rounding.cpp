// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rounds weights by what their inputs are on a text. Sums have a fixed order
// and no fused operations, so that every machine rounds alike.

#include "dialects/DeepSeek/IR/Rounding.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#pragma STDC FP_CONTRACT OFF

using namespace hadal;
using namespace hadal::deepseek;

//===----------------------------------------------------------------------===//
// Scales
//===----------------------------------------------------------------------===//

/// Sums are of so many lanes, which are added at the end.
static constexpr int64_t lanes = 16;

/// What all moments of a group get of their mean, so that a channel that the
/// text leaves idle still has a say.
static constexpr float momentFloor = 0.01f;

namespace {

/// A group of weights, padded with zeros to whole lanes.
struct Group {
  std::vector<float> weights, moments;
  float smallest, largest; ///< Integers that there are.

  /// Sums of moment * w * q and of moment * q * q, with q = w * inverse,
  /// rounded.
  struct Fit {
    float product = 0, square = 0;
  };
  Fit fit(float inverse) const;
  /// The error of rounding by \p scale.
  float errorOf(float scale) const;
};

} // namespace

static float addLanes(float *sums) {
  for (int64_t half = lanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i)
      sums[i] += sums[i + half];
  return sums[0];
}

/// A float of this size has a unit in the last place of 1, so that adding and
/// taking it away rounds to an integer, to nearest even.
static constexpr float magic = 0x1.8p23f;

Group::Fit Group::fit(float inverse) const {
  float products[lanes] = {}, squares[lanes] = {};
  for (size_t i = 0; i < weights.size(); i += lanes)
    for (size_t j = 0; j < lanes; ++j) {
      float w = weights[i + j];
      float q = std::min(std::max(w * inverse, smallest), largest);
      q = (q + magic) - magic;
      float mq = moments[i + j] * q;
      products[j] += mq * w;
      squares[j] += mq * q;
    }
  return {addLanes(products), addLanes(squares)};
}

float Group::errorOf(float scale) const {
  float inverse = scale == 0 ? 0 : 1 / scale;
  if (!std::isfinite(inverse))
    inverse = 0;
  float sums[lanes] = {};
  for (size_t i = 0; i < weights.size(); i += lanes)
    for (size_t j = 0; j < lanes; ++j) {
      float w = weights[i + j];
      float q = std::min(std::max(w * inverse, smallest), largest);
      q = (q + magic) - magic;
      float error = w - scale * q;
      sums[j] += moments[i + j] * error * error;
    }
  return addLanes(sums);
}

float deepseek::findScale(const float *weights, const float *moments,
                          int64_t count, unsigned bits, float fallback) {
  if (fallback == 0 || !std::isfinite(fallback))
    return fallback;
  // Weights are divided by the largest and moments by their mean, so that no
  // sum overflows.
  float first = -getLeastInteger(bits);
  float unit = std::fabs(fallback) * first;
  double sum = std::accumulate(moments, moments + count, 0.0);
  auto mean = float(sum / double(count));
  if (!std::isfinite(unit) || !(1 / unit <= 3e38f))
    return fallback;
  Group group;
  auto padded = size_t((count + lanes - 1) / lanes * lanes);
  group.weights.resize(padded);
  group.moments.resize(padded);
  for (int64_t i = 0; i < count; ++i) {
    group.weights[size_t(i)] = weights[i] / unit;
    group.moments[size_t(i)] =
        mean > 0 ? moments[i] / mean + momentFloor : 1.0f;
  }
  group.smallest = getLeastInteger(bits);
  group.largest = getMostInteger(bits);

  // What the largest weight becomes, in units of the integers: of 4 bits by
  // tenths around 8, as ggml's make_qx_quants does, of more by as much of it.
  int64_t steps = bits == 8 ? 4 : 12;
  float step = bits == 8 ? 1.0f : 0.1f * (first / 8);
  float best = fallback / unit, bestError = group.errorOf(best);
  float bestGain = 0, candidate = 0;
  for (int sign = 0; sign < (bits == 8 ? 1 : 2); ++sign)
    for (int64_t i = -steps; i <= steps; ++i) {
      float inverse = first + float(i) * step;
      if ((fallback < 0) != (sign == 1))
        inverse = -inverse;
      Group::Fit fit = group.fit(inverse);
      // The error is that of zeros less this.
      float gain = fit.square > 0 ? fit.product * fit.product / fit.square : 0;
      if (gain > bestGain) {
        bestGain = gain;
        candidate = fit.product / fit.square;
      }
    }
  if (candidate != 0 && group.errorOf(candidate) < bestError)
    best = candidate;
  else
    return fallback;
  return best * unit;
}

//===----------------------------------------------------------------------===//
// Error feedback
//===----------------------------------------------------------------------===//

// Bodies that are compiled for several instruction sets. They compute the same:
// lanes are independent of each other, and nothing is fused.

/// row -= factor * other, for \p count elements.
[[gnu::always_inline]] static inline void
subtractScaled(double *row, const double *other, double factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    row[i] -= factor * other[i];
}

/// Left-looking, some columns at a time, so that what is read of the columns
/// before them is read once for all.
[[gnu::always_inline]] static inline void factorizeBody(double *factor,
                                                        int64_t n) {
  constexpr int64_t block = 16;
  for (int64_t begin = 0; begin < n; begin += block) {
    int64_t end = std::min(n, begin + block);
    for (int64_t k = 0; k < begin; ++k)
      for (int64_t c = begin; c < end; ++c)
        subtractScaled(factor + c * n + c, factor + k * n + c,
                       factor[k * n + c], n - c);
    for (int64_t c = begin; c < end; ++c) {
      double *column = factor + c * n;
      for (int64_t k = begin; k < c; ++k)
        subtractScaled(column + c, factor + k * n + c, factor[k * n + c],
                       n - c);
      // The damped gram is positive definite, but for what rounding takes away.
      double pivot = std::sqrt(std::max(column[c], 1e-9));
      column[c] = pivot;
      for (int64_t i = c + 1; i < n; ++i)
        column[i] /= pivot;
    }
  }
}

/// sums[row] += errors[i][row] * column[i], in the order of i.
[[gnu::always_inline]] static inline void addErrorsBody(const double *errors,
                                                        const double *column,
                                                        int64_t count,
                                                        double *sums) {
  constexpr int64_t rows = ErrorFeedback::blockRows;
  double local[rows] = {};
  for (int64_t i = 0; i < count; ++i)
    for (int64_t row = 0; row < rows; ++row)
      local[row] += errors[i * rows + row] * column[i];
  std::copy_n(local, rows, sums);
}

#if defined(__x86_64__)
[[gnu::target("avx512f")]] static void factorizeAVX512(double *f, int64_t n) {
  factorizeBody(f, n);
}
[[gnu::target("avx2")]] static void factorizeAVX2(double *f, int64_t n) {
  factorizeBody(f, n);
}
[[gnu::target("avx512f")]] static void addErrorsAVX512(const double *errors,
                                                       const double *column,
                                                       int64_t count,
                                                       double *sums) {
  addErrorsBody(errors, column, count, sums);
}
[[gnu::target("avx2")]] static void addErrorsAVX2(const double *errors,
                                                  const double *column,
                                                  int64_t count, double *sums) {
  addErrorsBody(errors, column, count, sums);
}
#endif

static void addErrors(const double *errors, const double *column, int64_t count,
                      double *sums) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f"))
    return addErrorsAVX512(errors, column, count, sums);
  if (__builtin_cpu_supports("avx2"))
    return addErrorsAVX2(errors, column, count, sums);
#endif
  addErrorsBody(errors, column, count, sums);
}

void ErrorFeedback::factorize() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f"))
    return factorizeAVX512(factor.data(), columns);
  if (__builtin_cpu_supports("avx2"))
    return factorizeAVX2(factor.data(), columns);
#endif
  factorizeBody(factor.data(), columns);
}

ErrorFeedback::ErrorFeedback(const float *gram, int64_t columns, double damping)
    : columns(columns), order(static_cast<size_t>(columns)),
      factor(static_cast<size_t>(columns * columns)) {
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    float of = gram[a * columns + a], other = gram[b * columns + b];
    return of != other ? of < other : a < b;
  });
  double mean = 0;
  for (int64_t i = 0; i < columns; ++i)
    mean += double(gram[i * columns + i]) / double(columns);
  // In units of the mean, so that what is small has a meaning.
  for (int64_t i = 0; i < columns; ++i)
    for (int64_t j = i; j < columns; ++j) {
      double value = i == j ? 1 : 0;
      if (mean > 0)
        value =
            double(gram[order[size_t(j)] * columns + order[size_t(i)]]) / mean +
            (i == j ? damping : 0);
      factor[size_t(i * columns + j)] = value;
    }
  factorize();
}

void ErrorFeedback::round(const float *weights, const float *scales,
                          int64_t rows, int64_t group, unsigned bits,
                          int8_t *to) const {
  double smallest = double(getLeastInteger(bits));
  double largest = double(getMostInteger(bits));
  std::vector<double> errors(static_cast<size_t>(columns * blockRows));
  double sums[blockRows];
  for (int64_t begin = 0; begin < rows; begin += blockRows) {
    int64_t now = std::min(blockRows, rows - begin);
    std::fill(errors.begin(), errors.end(), 0.0);
    for (int64_t place = columns; place-- > 0;) {
      const double *column = factor.data() + place * columns;
      addErrors(errors.data() + (place + 1) * blockRows, column + place + 1,
                columns - place - 1, sums);
      int64_t at = order[size_t(place)];
      for (int64_t row = 0; row < now; ++row) {
        int64_t index = (begin + row) * columns + at;
        double weight = double(weights[index]);
        double scale = double(scales[index / group]);
        double wanted = weight + sums[row] / column[place];
        double integer = 0;
        if (scale != 0)
          integer =
              std::clamp(std::nearbyint(wanted / scale), smallest, largest);
        to[index] = int8_t(integer);
        errors[size_t(place * blockRows + row)] = weight - scale * integer;
      }
    }
  }
}
