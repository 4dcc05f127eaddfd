// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Times the dispatches of a model.

#include "Profile.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

using namespace hadal;
using namespace hadal::run;

/// Times more chunks of a dispatch than this are not kept, for each thread.
static constexpr size_t chunksPerDispatch = 16;

namespace {

/// What a kernel of a dispatch that is traced gets instead of its params.
struct TracedJob {
  Profile *profile;
  const RecordedDispatch *dispatch;
};

} // namespace

ExitCode Profile::open(bool keepsTrace) {
  this->keepsTrace = keepsTrace;
  return DispatchRecorder::open("--profile");
}

void Profile::start(const std::string &label, int64_t threads) {
  entries.clear();
  entryOfRow.clear();
  for (const DispatchRow &row : table.rows) {
    ProfileEntry &entry = entries[{row.op, row.kernel}];
    entry.op = row.op;
    entry.kernel = row.kernel;
    entryOfRow.push_back(&entry);
  }
  threadEvents.resize(std::max(threadEvents.size(), size_t(threads)));
  labels.push_back({label, nowSeconds()});
  isRecording = true;
}

void Profile::nextStep(const StepShape &step) {
  shape = step;
  if (!isRecording || !keepsTrace)
    return;
  auto makeRoom = [](std::vector<Event> &events, size_t more) {
    if (events.capacity() - events.size() < more)
      events.reserve(2 * events.capacity() + more);
  };
  makeRoom(dispatches, table.rows.size());
  for (std::vector<Event> &events : threadEvents)
    makeRoom(events, chunksPerDispatch * table.rows.size());
}

void Profile::record(const RecordedDispatch &dispatch) {
  if (!isRecording)
    return dispatch.run();
  TracedJob job = {this, &dispatch};
  double start = nowSeconds();
  if (keepsTrace)
    dispatch.run(runItems, reinterpret_cast<const int64_t *>(&job));
  else
    dispatch.run();
  double end = nowSeconds();
  ProfileEntry &entry = *entryOfRow[dispatch.row];
  ++entry.calls;
  entry.seconds += end - start;
  const DispatchRow &row = table.rows[dispatch.row];
  Work work;
  // Another dispatch may have done it, for so many rows.
  if (row.isAlternative || row.isUsedIn(shape))
    work = row.workIn(shape);
  entry.work += row.selected
                    ? work * (double(dispatch.rows) / double(shape.tokens))
                    : work;
  if (keepsTrace)
    dispatches.push_back({dispatch.row, start, end});
}

void Profile::runItems(const hadal_rt_step_t *step, const int64_t *params,
                       int64_t first, int64_t last) {
  auto *job = reinterpret_cast<const TracedJob *>(params);
  const RecordedDispatch &dispatch = *job->dispatch;
  // Sessions come one after the other, each with threads of its own.
  thread_local int thread = job->profile->threadCount.fetch_add(1);
  double start = nowSeconds();
  dispatch.kernel(step, dispatch.params, first, last);
  double end = nowSeconds();
  if (size_t(thread) >= job->profile->threadEvents.size())
    return;
  std::vector<Event> &events = job->profile->threadEvents[size_t(thread)];
  if (events.size() < events.capacity())
    events.push_back({dispatch.row, start, end});
}

std::vector<ProfileEntry> Profile::stop() {
  isRecording = false;
  std::vector<ProfileEntry> result;
  for (auto &[key, entry] : entries)
    if (entry.calls)
      result.push_back(entry);
  std::sort(result.begin(), result.end(),
            [](const ProfileEntry &a, const ProfileEntry &b) {
              return a.seconds > b.seconds;
            });
  return result;
}

ExitCode Profile::writeTrace(const std::string &path) const {
  FILE *file = fopen(path.c_str(), "we");
  if (!file)
    return reportError(BadInput, "%s: cannot write: %s", path.c_str(),
                       strerror(errno));
  std::string out = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[";
  double zero = labels.empty() ? 0 : labels.front().start;
  auto appendThread = [&](size_t id, const std::string &name) {
    appendFormat(out,
                 "%s{\"ph\":\"M\",\"pid\":1,\"tid\":%zu,\"name\":"
                 "\"thread_name\",\"args\":{\"name\":\"%s\"}}",
                 id ? ",\n" : "\n", id, name.c_str());
  };
  auto append = [&](size_t id, const Event &event) {
    const DispatchRow &row = table.rows[event.row];
    appendFormat(out, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%zu,\"name\":", id);
    appendJsonString(out, row.name);
    out += ",\"cat\":";
    appendJsonString(out, row.op);
    appendFormat(out, ",\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"kernel\":",
                 (event.start - zero) * 1e6, (event.end - event.start) * 1e6);
    appendJsonString(out, row.kernel);
    out += "}}";
    if (out.size() > (1 << 20)) {
      fwrite(out.data(), 1, out.size(), file);
      out.clear();
    }
  };
  appendThread(0, "dispatches");
  for (size_t thread = 0; thread < threadEvents.size(); ++thread)
    appendThread(thread + 1, "thread " + std::to_string(thread));
  for (const Label &label : labels) {
    out += ",\n{\"ph\":\"i\",\"s\":\"g\",\"pid\":1,\"tid\":0,\"name\":";
    appendJsonString(out, label.text);
    appendFormat(out, ",\"ts\":%.3f}", (label.start - zero) * 1e6);
  }
  for (const Event &event : dispatches)
    append(0, event);
  for (size_t thread = 0; thread < threadEvents.size(); ++thread)
    for (const Event &event : threadEvents[thread])
      append(thread + 1, event);
  out += "\n]}\n";
  fwrite(out.data(), 1, out.size(), file);
  bool isGood = !ferror(file);
  if (fclose(file) || !isGood)
    return reportError(BadInput, "%s: cannot write: %s", path.c_str(),
                       strerror(errno));
  return Done;
}

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

/// Seconds of all of \p entries.
static double sumSeconds(const std::vector<ProfileEntry> &entries) {
  double sum = 0;
  for (const ProfileEntry &entry : entries)
    sum += entry.seconds;
  return sum;
}

static double shareOfLimit(const ProfileEntry &entry, const Speeds &limits) {
  return limits.leastSeconds(entry.work.bytes(), entry.work) / entry.seconds;
}

static void appendRow(std::string &out, const char *name,
                      const ProfileEntry &entry, double total,
                      const Speeds &limits) {
  double operations = entry.work.int8Ops + entry.work.f32Ops;
  appendFormat(
      out, "%-34.34s %6lld %9.3f %4.0f%% %8.1f %8.1f %6.1f %7.1f %4.0f%%\n",
      name, static_cast<long long>(entry.calls), entry.seconds * 1e3,
      100 * entry.seconds / total, entry.work.bytes() * 1e-6, operations * 1e-6,
      entry.work.bytes() * 1e-9 / entry.seconds,
      operations * 1e-9 / entry.seconds, 100 * shareOfLimit(entry, limits));
}

void run::appendProfile(std::string &out,
                        const std::vector<ProfileEntry> &entries,
                        const Speeds &limits) {
  double total = sumSeconds(entries);
  // Kernels stand below their op, and ops by their time.
  std::vector<ProfileEntry> ops;
  for (const ProfileEntry &entry : entries) {
    auto found =
        std::find_if(ops.begin(), ops.end(),
                     [&](const ProfileEntry &op) { return op.op == entry.op; });
    if (found == ops.end())
      found = ops.insert(ops.end(), {entry.op, "", 0, 0, {}});
    found->calls += entry.calls;
    found->seconds += entry.seconds;
    found->work += entry.work;
  }
  std::sort(ops.begin(), ops.end(),
            [](const ProfileEntry &a, const ProfileEntry &b) {
              return a.seconds > b.seconds;
            });
  appendFormat(out, "%-34s %6s %9s %5s %8s %8s %6s %7s %5s\n", "op, kernel",
               "calls", "ms", "share", "MB", "MOP", "GB/s", "GOP/s", "limit");
  for (const ProfileEntry &op : ops) {
    appendRow(out, op.op.c_str(), op, total, limits);
    for (const ProfileEntry &entry : entries)
      if (entry.op == op.op && entry.seconds >= total * 1e-3)
        appendRow(out, ("  " + entry.kernel).c_str(), entry, total, limits);
  }
}

void run::appendProfileJson(std::string &out,
                            const std::vector<ProfileEntry> &entries,
                            const Speeds &limits) {
  out += '[';
  for (const ProfileEntry &entry : entries) {
    out += &entry == entries.data() ? "{\"op\":" : ",{\"op\":";
    appendJsonString(out, entry.op);
    out += ",\"kernel\":";
    appendJsonString(out, entry.kernel);
    appendFormat(out,
                 ",\"calls\":%lld,\"seconds\":%.9f,\"bytes\":%.0f,"
                 "\"int8_operations\":%.0f,\"f32_operations\":%.0f,"
                 "\"share_of_limit\":%.4f}",
                 static_cast<long long>(entry.calls), entry.seconds,
                 entry.work.bytes(), entry.work.int8Ops, entry.work.f32Ops,
                 shareOfLimit(entry, limits));
  }
  out += ']';
}
