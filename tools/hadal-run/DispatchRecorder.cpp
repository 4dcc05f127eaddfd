// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Stands between a model and the pool that runs its dispatches.

#include "DispatchRecorder.h"

using namespace hadal;
using namespace hadal::run;

static DispatchRecorder *current;

namespace {

/// What stands in for the pool of a step.
struct Pool {
  void *pool;
  hadal_rt_dispatch_t dispatch;
};

} // namespace

DispatchRecorder::~DispatchRecorder() {
  if (current == this)
    current = nullptr;
}

ExitCode DispatchRecorder::open(const char *name) {
  if (hadal_model.device)
    return reportError(BadInput,
                       "%s looks at kernels that run on the processor, and "
                       "those of this model run on a GPU, for which there is "
                       "nsys",
                       name);
  std::string error;
  recorded = chosenModel();
  if (!recorded.manifest || !table.read(recorded.manifest, error))
    return reportError(BadInput, "%s: %s", name,
                       recorded.manifest ? error.c_str() : "no manifest");
  step = recorded.step;
  recorded.step = runStep;
  current = this;
  return Done;
}

void DispatchRecorder::runStep(const hadal_rt_step_t *step) {
  Pool pool = {step->pool, step->dispatch};
  hadal_rt_step_t copy = *step;
  copy.pool = &pool;
  copy.dispatch = dispatch;
  current->nextRow = 0;
  current->step(&copy);
}

void DispatchRecorder::dispatch(void *pool, const hadal_rt_step_t *step,
                                hadal_rt_kernel_t kernel, const int64_t *params,
                                int64_t items) {
  auto *real = static_cast<Pool *>(pool);
  RecordedDispatch one = {
      current->nextRow++, kernel,         params,      items, step,
      real->pool,         real->dispatch, step->tokens};
  if (one.row >= current->table.rows.size())
    return one.run();
  const DispatchRow &row = current->table.rows[one.row];
  if (row.outputs)
    one.rows = step->outputs;
  else if (row.selected)
    one.rows = current->selectedRows;
  if (items > 0)
    current->record(one);
  else
    one.run();
  if (row.count >= 0)
    current->selectedRows =
        *reinterpret_cast<const int32_t *>(params[row.count]);
}
