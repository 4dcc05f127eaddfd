// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the dispatches of a step read and compute, as the compiler wrote it into
// the manifest.

#ifndef HADAL_TOOLS_HADAL_RUN_WORKTABLE_H
#define HADAL_TOOLS_HADAL_RUN_WORKTABLE_H

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::run {

/// A step of `tokens` tokens of one sequence, which has `depth` before them.
struct StepShape {
  int64_t tokens, depth, outputs;
};

/// Bytes and operations, a multiplication and an addition being two.
struct Work {
  double weightBytes = 0; ///< Of weights and cache: from memory.
  double bufferBytes = 0; ///< Of buffers, which caches may hold.
  double int8Ops = 0, f32Ops = 0;

  double bytes() const { return weightBytes + bufferBytes; }
  Work &operator+=(const Work &other);
  Work operator*(double factor) const;
};

/// One dispatch of a step; the numbers are those of `#rt.work`.
struct DispatchRow {
  std::string name; ///< "layers.3.self_attn.q_proj"
  std::string op;   ///< "linear"
  std::string kernel;
  std::string layer; ///< "layers.3", of the call that it is in; or empty.
  /// A buffer of f32 that holds a result of the op when the dispatch is done.
  struct Result {
    size_t argument;
    int64_t columns, stride;
  };
  std::vector<Result> results;
  /// Rows are those whose logits are wanted, or those that the gate before let
  /// through.
  bool outputs = false, selected = false;
  bool isAlternative = false;
  /// The argument with the number that a gate counts, an i32; -1: this is none.
  int64_t count = -1;
  double weights = 0, experts = 0, expertsPerRow = 0, rowBytes = 0;
  double contextBytes = 0, windowTokens = 0, rowF32Ops = 0, rowInt8Ops = 0,
         pairF32Ops = 0, contextF32Ops = 0, leastRows = 0, belowRows = 0;

  /// Whether this is what does the work in \p step, not another of its kind.
  bool isUsedIn(const StepShape &step) const;
  Work workIn(const StepShape &step) const;
};

/// The dispatches of a step, in order.
struct WorkTable {
  std::vector<DispatchRow> rows;

  /// What all of a step does.
  Work workIn(const StepShape &step) const;

  /// Reads the table in \p manifest. \returns False, with what is wrong in
  /// \p error, if there is none or it is damaged.
  bool read(std::string_view manifest, std::string &error);
};

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_WORKTABLE_H
