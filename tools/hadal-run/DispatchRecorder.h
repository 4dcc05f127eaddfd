// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Stands between a model and the pool that runs its dispatches.

#ifndef HADAL_TOOLS_HADAL_RUN_DISPATCHRECORDER_H
#define HADAL_TOOLS_HADAL_RUN_DISPATCHRECORDER_H

#include "Product.h"
#include "WorkTable.h"

namespace hadal::run {

/// One dispatch of a step, which its recorder runs.
struct RecordedDispatch {
  size_t row; ///< In the table of dispatches.
  hadal_rt_kernel_t kernel;
  const int64_t *params;
  int64_t items;
  const hadal_rt_step_t *step;
  void *pool;
  hadal_rt_dispatch_t dispatch;
  /// Of the step: tokens, those whose logits are wanted, or those that the gate
  /// before let through.
  int64_t rows;

  void run() const { run(kernel, params); }
  /// Runs \p other with \p otherParams in place of the kernel.
  void run(hadal_rt_kernel_t other, const int64_t *otherParams) const {
    dispatch(pool, step, other, otherParams, items);
  }
};

/// Gets the dispatches of all steps of model() while it lives. There is one at
/// a time, since a step has no room to say whose it is.
class DispatchRecorder {
public:
  /// `hadal_model` with a step that is recorded; for sessions.
  const hadal_rt_model_t *model() const { return &recorded; }

protected:
  virtual ~DispatchRecorder();

  /// Reads the table of dispatches, for the option \p name. Refuses a model
  /// whose kernels run on a device.
  ExitCode open(const char *name);
  /// Runs \p dispatch, of a row of the table and at least one item.
  virtual void record(const RecordedDispatch &dispatch) = 0;

  WorkTable table;

private:
  static void runStep(const hadal_rt_step_t *step);
  static void dispatch(void *pool, const hadal_rt_step_t *step,
                       hadal_rt_kernel_t kernel, const int64_t *params,
                       int64_t items);

  hadal_rt_model_t recorded = {};
  decltype(hadal_rt_model_t::step) step = nullptr; ///< That is recorded.
  size_t nextRow = 0;                              ///< Of the step that runs.
  int64_t selectedRows = 0; ///< What its last gate let through.
};

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_DISPATCHRECORDER_H
