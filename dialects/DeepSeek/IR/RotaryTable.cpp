// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The frequencies behind a rotary embedding, in f64.

#include "dialects/DeepSeek/IR/RotaryTable.h"

#include <algorithm>
#include <cmath>

using namespace mlir;
using namespace hadal::deepseek;

/// The dimension whose pair turns \p rotations times over the original
/// context (YaRN, arXiv:2309.00071, eq. 17 solved for the dimension).
static double yarnCorrection(double rotations, double dim, double theta,
                             double original) {
  return dim * std::log(original / (rotations * 2 * M_PI)) /
         (2 * std::log(theta));
}

llvm::SmallVector<double>
hadal::deepseek::getRotaryFrequencies(RotaryAttr rotary) {
  double dim = double(rotary.getDim());
  double theta = rotary.getTheta().getValueAsDouble();
  llvm::SmallVector<double> frequencies;
  for (int64_t i = 0; i < rotary.getDim() / 2; ++i)
    frequencies.push_back(std::pow(theta, -2.0 * double(i) / dim));

  Attribute scaling = rotary.getScaling();
  if (auto linear = dyn_cast_or_null<LinearScalingAttr>(scaling)) {
    for (double &f : frequencies)
      f /= linear.getFactor().getValueAsDouble();
  } else if (auto llama3 = dyn_cast_or_null<Llama3ScalingAttr>(scaling)) {
    double factor = llama3.getFactor().getValueAsDouble();
    double low = llama3.getLowFreqFactor().getValueAsDouble();
    double high = llama3.getHighFreqFactor().getValueAsDouble();
    double original = double(llama3.getOriginal());
    for (double &f : frequencies) {
      double wavelength = 2 * M_PI / f;
      if (wavelength > original / low) {
        f /= factor;
      } else if (wavelength >= original / high) {
        double s = (original / wavelength - low) / (high - low);
        f = (1 - s) * f / factor + s * f;
      }
    }
  } else if (auto yarn = dyn_cast_or_null<YarnScalingAttr>(scaling)) {
    double factor = yarn.getFactor().getValueAsDouble();
    double original = double(yarn.getOriginal());
    double low = yarnCorrection(yarn.getBetaFast().getValueAsDouble(), dim,
                                theta, original);
    double high = yarnCorrection(yarn.getBetaSlow().getValueAsDouble(), dim,
                                 theta, original);
    if (yarn.getTruncate()) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, dim - 1);
    if (low == high)
      high += 0.001;
    for (auto [i, f] : llvm::enumerate(frequencies)) {
      double ramp = std::clamp((double(i) - low) / (high - low), 0.0, 1.0);
      f = f / factor * ramp + f * (1 - ramp);
    }
  }
  return frequencies;
}

double hadal::deepseek::getRotaryAttentionFactor(RotaryAttr rotary) {
  if (auto yarn = dyn_cast_or_null<YarnScalingAttr>(rotary.getScaling()))
    return yarn.getAttentionFactor().getValueAsDouble();
  return 1;
}
