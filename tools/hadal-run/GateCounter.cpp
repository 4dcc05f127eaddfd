// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Counts the tokens that skip layers, and what that saves.

#include "GateCounter.h"

#include <algorithm>

using namespace hadal;
using namespace hadal::run;

bool GateCounter::open() {
  WorkTable found;
  std::string error;
  if (hadal_model.device || !hadal_model.manifest ||
      !found.read(hadal_model.manifest, error) ||
      std::none_of(found.rows.begin(), found.rows.end(),
                   [](const DispatchRow &row) { return row.count >= 0; }))
    return false;
  return DispatchRecorder::open("--eval") == Done;
}

void GateCounter::nextStep(const StepShape &step) {
  shape = step;
  Work work = table.workIn(step);
  all += work.int8Ops + work.f32Ops;
}

void GateCounter::record(const RecordedDispatch &dispatch) {
  dispatch.run();
  const DispatchRow &row = table.rows[dispatch.row];
  size_t next = dispatch.row + 1;
  // Of several gates of a layer, the last says who goes through all.
  if (row.count < 0 ||
      (next < table.rows.size() && table.rows[next].count >= 0))
    return;
  auto rows = double(dispatch.rows);
  double kept = *reinterpret_cast<const int32_t *>(dispatch.params[row.count]);
  judged += rows;
  passed += kept;
  // What follows, up to the next gate, for those that went through alone.
  for (size_t i = next; i < table.rows.size() && table.rows[i].count < 0; ++i)
    if (table.rows[i].selected && !table.rows[i].isAlternative) {
      Work work = table.rows[i].workIn(shape) * (1 - kept / rows);
      saved += work.int8Ops + work.f32Ops;
    }
}
