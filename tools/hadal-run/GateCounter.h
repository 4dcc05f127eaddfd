// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Counts the tokens that skip layers, and what that saves.

#ifndef HADAL_TOOLS_HADAL_RUN_GATECOUNTER_H
#define HADAL_TOOLS_HADAL_RUN_GATECOUNTER_H

#include "DispatchRecorder.h"

namespace hadal::run {

class GateCounter : public DispatchRecorder {
public:
  /// Whether the model has gates, so that there is something to count. Nothing
  /// but model() may be called otherwise.
  bool open();

  /// What the next step is.
  void nextStep(const StepShape &step);

  /// Of all times that a token came to a gate, the share in which it skipped
  /// the layer; and of the operations that all layers would have taken.
  double skippedShare() const { return 1 - passed / judged; }
  double savedShare() const { return saved / all; }

private:
  void record(const RecordedDispatch &dispatch) override;

  StepShape shape = {};
  double judged = 0, passed = 0, saved = 0, all = 0;
};

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_GATECOUNTER_H
