// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the machine can read, multiply and dispatch, measured on the threads
// that a model runs on.

#ifndef HADAL_TOOLS_HADAL_RUN_PROBES_H
#define HADAL_TOOLS_HADAL_RUN_PROBES_H

#include "Product.h"
#include "WorkTable.h"

#include <algorithm>
#include <vector>

namespace hadal::run {

/// What several repeats of a measurement gave.
struct Samples {
  std::vector<double> values;

  void add(double value) {
    values.insert(std::upper_bound(values.begin(), values.end(), value), value);
  }
  double min() const { return values.front(); }
  double max() const { return values.back(); }
  double median() const {
    size_t half = values.size() / 2;
    return values.size() % 2 ? values[half]
                             : (values[half - 1] + values[half]) / 2;
  }
};

/// What this machine can do a second. A multiplication and an addition are two
/// operations.
struct Machine {
  Samples bytes;   ///< Read from memory.
  Samples f32Ops;  ///< Fused multiply-adds of vectors.
  Samples int8Ops; ///< Dot products of bytes, summed in 32 bits.
  Samples bf16Ops; ///< Dot products of bf16; empty without the instruction.
  const char *int8Instruction = "";
  Samples dispatchSeconds; ///< Start and end of a dispatch that does nothing.

  /// Seconds that \p work takes at the least: those of its bytes, or those of
  /// its operations at the peaks that fit them.
  double leastSeconds(double workBytes, const Work &work) const {
    return std::max(workBytes / bytes.median(), operationSeconds(work));
  }
  double operationSeconds(const Work &work) const {
    return work.int8Ops / int8Ops.median() + work.f32Ops / f32Ops.median();
  }

  /// Measures all of it with \p threads threads, 0 being all; takes seconds.
  ExitCode measure(const Weights &weights, int64_t threads);

  /// Appends members of a JSON object, each followed by a comma.
  void appendJson(std::string &out) const;
  /// Appends a line of text.
  void appendText(std::string &out) const;
};

/// Appends `"KEY":{"min":..,"median":..,"max":..}`.
void appendSamples(std::string &out, const char *key, const Samples &samples);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_PROBES_H
