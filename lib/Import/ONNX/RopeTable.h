// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The rotary embedding behind a graph's cosines and sines.

#ifndef HADAL_IMPORT_ONNX_ROPETABLE_H
#define HADAL_IMPORT_ONNX_ROPETABLE_H

#include "lib/Import/HuggingFace/Config.h"

#include <functional>

namespace hadal::onnx {

struct Angle {
  double cosine = 0, sine = 0;
};

/// Cosines and sines as a graph has them, by position and pair.
struct RopeTable {
  std::function<Angle(int64_t position, int64_t pair)> at;
  int64_t positions = 0, pairs = 0;
  /// Of the type that numbers are stored in.
  unsigned mantissaBits = 23;
};

/// The attribute that a model of \p rope with heads of \p dim has.
deepseek::RotaryAttr makeRotary(mlir::MLIRContext &context,
                                const huggingface::RopeConfig &rope,
                                int64_t dim);

/// Finds the base and the scaling that give \p table; nothing if Hadal knows
/// none. No scaling, by one factor, and that of Llama 3 are found as they were;
/// of YaRN one that gives the same, since its length and its numbers of turns
/// are not in the table.
std::optional<huggingface::RopeConfig> fitRope(const RopeTable &table);

/// What a rotary embedding has for a position and a pair.
class RopeFormula {
public:
  RopeFormula() = default;
  explicit RopeFormula(deepseek::RotaryAttr rotary);

  /// Whether \p angle is that of \p position and \p pair, computed in f32 and
  /// stored in a type of \p mantissaBits.
  bool matches(Angle angle, int64_t position, int64_t pair,
               unsigned mantissaBits) const;
  Angle at(int64_t position, int64_t pair) const;
  int64_t pairs() const { return int64_t(frequencies.size()); }

private:
  llvm::SmallVector<double> frequencies;
  double factor = 1;
};

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_ROPETABLE_H
