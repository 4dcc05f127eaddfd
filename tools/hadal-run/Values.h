// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Keeps what each op of a model computes, for hadal-diff. As for a profile, a
// step of the model is given another `dispatch`: what runs is the program that
// is shipped.

#ifndef HADAL_TOOLS_HADAL_RUN_VALUES_H
#define HADAL_TOOLS_HADAL_RUN_VALUES_H

#include "DispatchRecorder.h"

namespace hadal::run {

/// Records the results of all ops while it lives. There is one at a time.
class Values : public DispatchRecorder {
public:
  /// Reads the table of dispatches.
  ExitCode open();

  /// Writes a safetensors file with a tensor `[rows, columns]` of f32 for each
  /// result, "NUMBER NAME" in the order of the step, and its op, kernel and
  /// layer in the metadata under that name, "OP KERNEL LAYER".
  ExitCode write(const std::string &path) const;

private:
  struct Entry {
    size_t row; ///< In `table`, the last that wrote it.
    int64_t columns;
    std::vector<float> values;
  };

  void record(const RecordedDispatch &dispatch) override;

  std::vector<Entry> entries;
  /// Of each result of each row, its place in `entries`.
  std::vector<std::vector<size_t>> entriesOfRow;
};

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_VALUES_H
