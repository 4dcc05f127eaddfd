// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Times the dispatches of a model: for a table, and for a trace with a track
// per thread. The runtime knows nothing of it: a step of the model is given
// another `dispatch`, which keeps the time and calls the one that was there.

#ifndef HADAL_TOOLS_HADAL_RUN_PROFILE_H
#define HADAL_TOOLS_HADAL_RUN_PROFILE_H

#include "DispatchRecorder.h"
#include "Probes.h"

#include <atomic>
#include <map>

namespace hadal::run {

/// The dispatches of one op and kernel, summed.
struct ProfileEntry {
  std::string op, kernel;
  int64_t calls = 0;
  double seconds = 0;
  Work work;
};

/// Collects times while it is told to. There is one at a time.
class Profile : public DispatchRecorder {
public:
  /// Reads the table of dispatches. \p keepsTrace: times of every thread are
  /// kept for writeTrace().
  ExitCode open(bool keepsTrace);

  /// Starts to record steps of one sequence, on \p threads threads, under the
  /// name \p label.
  void start(const std::string &label, int64_t threads);
  /// Says what the next step has. Makes room, so that the step need not.
  void nextStep(const StepShape &step);
  /// Ends recording. \returns The ops and kernels that took most time first.
  std::vector<ProfileEntry> stop();

  /// Writes what was recorded as a trace that Perfetto and Chrome show.
  ExitCode writeTrace(const std::string &path) const;

private:
  struct Event {
    size_t row; ///< In `table`.
    double start, end;
  };

  void record(const RecordedDispatch &dispatch) override;
  static void runItems(const hadal_rt_step_t *step, const int64_t *params,
                       int64_t first, int64_t last);

  bool keepsTrace = false, isRecording = false;
  StepShape shape = {};
  std::map<std::pair<std::string, std::string>, ProfileEntry> entries;
  /// entries, by row; a step looks nothing up.
  std::vector<ProfileEntry *> entryOfRow;
  /// Dispatches, and what each thread ran of them.
  std::vector<Event> dispatches;
  std::vector<std::vector<Event>> threadEvents;
  std::atomic<int> threadCount{0};
  struct Label {
    std::string text;
    double start;
  };
  std::vector<Label> labels;
};

/// Appends the table of \p entries as text; \p limits is what the machine could
/// do.
void appendProfile(std::string &out, const std::vector<ProfileEntry> &entries,
                   const Speeds &limits);
/// ... and as a JSON array.
void appendProfileJson(std::string &out,
                       const std::vector<ProfileEntry> &entries,
                       const Speeds &limits);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_PROFILE_H
