// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The rotary embedding behind a graph's cosines and sines.

#include "lib/Import/ONNX/RopeTable.h"

#include "dialects/DeepSeek/IR/RotaryTable.h"
#include "lib/Import/GGUF/RopeFactors.h"

#include <cmath>

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;
using huggingface::RopeConfig;

constexpr double pi = 3.14159265358979323846;
/// Of one rounding to f32, relative.
constexpr double roundingF32 = 6e-8;

deepseek::RotaryAttr onnx::makeRotary(MLIRContext &context,
                                      const RopeConfig &rope, int64_t dim) {
  Builder builder(&context);
  auto f64 = [&](double value) { return builder.getF64FloatAttr(value); };
  mlir::Attribute scaling;
  switch (rope.type) {
  case RopeConfig::Type::Default:
    break;
  case RopeConfig::Type::Linear:
    scaling = deepseek::LinearScalingAttr::get(&context, f64(rope.factor));
    break;
  case RopeConfig::Type::Llama3:
    scaling = deepseek::Llama3ScalingAttr::get(
        &context, f64(rope.factor), f64(rope.lowFreqFactor),
        f64(rope.highFreqFactor), rope.originalTokens);
    break;
  case RopeConfig::Type::Yarn:
    scaling = deepseek::YarnScalingAttr::get(
        &context, f64(rope.factor), rope.originalTokens, f64(rope.betaFast),
        f64(rope.betaSlow), f64(rope.attentionFactor), rope.truncate);
    break;
  }
  return deepseek::RotaryAttr::get(&context, dim, f64(rope.theta),
                                   deepseek::RotaryLayout::HalfSplit, scaling);
}

RopeFormula::RopeFormula(deepseek::RotaryAttr rotary)
    : frequencies(deepseek::getRotaryFrequencies(rotary)),
      factor(deepseek::getRotaryAttentionFactor(rotary)) {}

Angle RopeFormula::at(int64_t position, int64_t pair) const {
  double angle = double(position) * frequencies[size_t(pair)];
  return {std::cos(angle) * factor, std::sin(angle) * factor};
}

bool RopeFormula::matches(Angle angle, int64_t position, int64_t pair,
                          unsigned mantissaBits) const {
  Angle expected = at(position, pair);
  // The frequency is rounded to f32, and so is the angle, each maybe twice.
  double turned = double(position) * frequencies[size_t(pair)];
  double tolerance = factor * (std::ldexp(1, -int(mantissaBits)) +
                               4 * roundingF32 + 8 * roundingF32 * turned);
  // False for NaN.
  return std::abs(angle.cosine - expected.cosine) <= tolerance &&
         std::abs(angle.sine - expected.sine) <= tolerance;
}

/// The frequency of \p pair, measured at positions ever further apart, so that
/// the rounding of an angle matters less and less.
static double measure(const RopeTable &table, int64_t pair,
                      double &uncertainty) {
  double frequency = 0, rounding = std::ldexp(1, -int(table.mantissaBits) - 1);
  for (int64_t p = 1; p < table.positions && p <= 4096; p *= 2) {
    Angle angle = table.at(p, pair);
    double given = std::atan2(angle.sine, angle.cosine);
    double turns = std::round((frequency * double(p) - given) / (2 * pi));
    frequency = (given + 2 * pi * turns) / double(p);
    uncertainty = 3 * std::max(roundingF32 * frequency, rounding / double(p));
  }
  return frequency;
}

/// \p value with as few digits as differ from it by \p uncertainty at most.
static double shorten(double value, double uncertainty) {
  for (int digits = 1; digits <= 7; ++digits) {
    // Powers of ten are exact only from 1 on.
    int places = digits - 1 - int(std::floor(std::log10(value)));
    double scale = std::pow(10.0, std::abs(places));
    double rounded = places >= 0 ? std::round(value * scale) / scale
                                 : std::round(value / scale) * scale;
    if (std::abs(rounded - value) <= uncertainty)
      return rounded;
  }
  return value;
}

/// YaRN's rule that gives \p frequencies for base \p theta, as `matches` tells.
/// Pairs up to `low` keep their frequency, those from `high` on have it divided
/// by a factor, and those between a mix. Several rules may give the same; a
/// factor that is an integer is taken first.
static std::optional<RopeConfig>
fitYarn(const std::vector<double> &frequencies, double theta,
        llvm::function_ref<bool(const std::vector<double> &)> matches) {
  auto n = int64_t(frequencies.size());
  auto baseOf = [&](int64_t i) {
    return std::pow(theta, -double(i) / double(n));
  };
  double last = 1 - frequencies.back() / baseOf(n - 1);
  if (!(last > 1e-4 && last < 1)) // False for NaN.
    return std::nullopt;
  std::optional<RopeConfig> found;
  for (int64_t low = 0; low < n - 1; ++low)
    for (int64_t high = low + 1; high < 2 * n; ++high) {
      auto rampOf = [&](int64_t i) {
        return std::clamp(double(i - low) / double(high - low), 0.0, 1.0);
      };
      double rest = 1 - last / rampOf(n - 1);
      if (!(rest > 1e-6))
        continue;
      double factor = shorten(1 / rest, 1e-5 / rest);
      bool isInteger = factor == std::round(factor);
      if (found && !isInteger)
        continue;
      std::vector<double> expected;
      for (int64_t i = 0; i < n; ++i)
        expected.push_back(baseOf(i) * (rampOf(i) / factor + 1 - rampOf(i)));
      if (!matches(expected))
        continue;
      // Any length will do, with numbers of turns that round to both pairs.
      constexpr int64_t length = 4096;
      auto turnsAt = [&](double pair) {
        return double(length) / (2 * pi * std::pow(theta, pair / double(n)));
      };
      found.emplace();
      found->type = RopeConfig::Type::Yarn;
      found->theta = theta;
      found->factor = factor;
      found->originalTokens = length;
      found->betaFast = turnsAt(double(low) + 0.25);
      found->betaSlow = turnsAt(double(high) - 0.25);
      if (isInteger)
        return found;
    }
  return found;
}

std::optional<RopeConfig> onnx::fitRope(const RopeTable &table) {
  if (table.pairs < 2 || table.positions < 2)
    return std::nullopt;
  std::vector<double> frequencies, uncertainties;
  for (int64_t i = 0; i < table.pairs; ++i) {
    double uncertainty = 0;
    double frequency = measure(table, i, uncertainty);
    bool isUsable =
        frequency > 0 && frequency <= 1 + 1e-6 + uncertainty; // False for NaN.
    if (!isUsable)
      return std::nullopt;
    frequencies.push_back(frequency);
    uncertainties.push_back(uncertainty);
  }
  RopeConfig rope;
  auto matches = [&](const std::vector<double> &expected) {
    for (size_t i = 0; i < frequencies.size(); ++i)
      if (std::abs(frequencies[i] - expected[i]) >
          4 * uncertainties[i] + 2e-7 * expected[i])
        return false;
    return true;
  };
  auto n = double(table.pairs);
  auto plain = [&](double theta, double factor) {
    std::vector<double> expected;
    for (size_t i = 0; i < frequencies.size(); ++i)
      expected.push_back(std::pow(theta, -double(i) / n) / factor);
    return expected;
  };
  // The factor from the first pair; the base from that pair and one of the
  // others, from the first, which is surest, on.
  double factor =
      shorten(1 / frequencies[0], 4 * uncertainties[0] / frequencies[0]);
  auto baseOf = [&](size_t i, size_t j) {
    double relative = (uncertainties[i] / frequencies[i] +
                       uncertainties[j] / frequencies[j] + 2e-7) *
                      n / double(j - i);
    double theta = std::pow(frequencies[i] / frequencies[j], n / double(j - i));
    theta = shorten(theta, 2 * relative * theta);
    bool isUsable = theta > 1 && theta < 1e12; // False for NaN.
    return isUsable ? theta : 0;
  };
  for (size_t i = 1; i < frequencies.size(); ++i) {
    rope.theta = baseOf(0, i);
    rope.factor = factor;
    rope.type =
        factor == 1 ? RopeConfig::Type::Default : RopeConfig::Type::Linear;
    if (rope.theta && matches(plain(rope.theta, factor)))
      return rope;
  }
  if (factor != 1)
    return std::nullopt;
  // Llama 3's scaling keeps some high frequencies, which give the base, and
  // divides all low ones by one factor, whose ratios do.
  auto scaled = [&](double theta) -> std::optional<RopeConfig> {
    std::vector<float> factors;
    std::vector<double> base = plain(theta, 1);
    for (size_t k = 0; k < frequencies.size(); ++k) {
      double given = base[k] / frequencies[k];
      if (given < 1 - 1e-5)
        return std::nullopt;
      // What is measured is off by some roundings, and 1 is exact.
      factors.push_back(given < 1 + 3e-6 ? 1 : float(given));
    }
    std::optional<RopeConfig> llama3 = gguf::fitRopeFactors(factors, theta);
    if (llama3)
      llama3->factor = shorten(llama3->factor, 1e-5 * llama3->factor);
    return llama3;
  };
  size_t last = frequencies.size() - 1;
  for (size_t i = 1; i < last; ++i)
    for (double theta : {baseOf(0, i), baseOf(i, last)})
      if (theta)
        if (std::optional<RopeConfig> llama3 = scaled(theta))
          return llama3;
  // YaRN keeps those of the first pairs, and divides those of the last.
  std::vector<double> bases = {1e4, 5e4, 1e5, 5e5, 1e6, 1e7};
  for (size_t i = 1; i < last; ++i)
    for (double theta : {baseOf(0, i), baseOf(i, last)})
      if (theta && bases.size() < 64)
        bases.push_back(theta);
  for (double theta : bases)
    if (std::optional<RopeConfig> yarn = fitYarn(frequencies, theta, matches)) {
      double cosine = table.at(0, 0).cosine;
      yarn->attentionFactor = std::abs(cosine - 1) < 1e-6 ? 1 : cosine;
      return yarn;
    }
  return std::nullopt;
}
