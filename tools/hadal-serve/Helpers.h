// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Threads that share the work between two steps.

#ifndef HADAL_TOOLS_HADAL_SERVE_HELPERS_H
#define HADAL_TOOLS_HADAL_SERVE_HELPERS_H

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace hadal::serve {

/// Calls a function for each of some items, on the caller's thread and others,
/// which sleep in between.
class Helpers {
public:
  /// Of \p threads, the caller is one.
  explicit Helpers(size_t threads);
  ~Helpers();
  Helpers(const Helpers &) = delete;
  Helpers &operator=(const Helpers &) = delete;

  /// Calls \p function with 0 to \p count - 1, in any order and at the same
  /// time, and returns when all have returned. One caller at a time.
  void forEach(size_t count, const std::function<void(size_t)> &function);

private:
  void run();
  void work(std::unique_lock<std::mutex> &lock);

  std::mutex mutex;
  std::condition_variable wakeUp, allDone;
  // All under the mutex.
  const std::function<void(size_t)> *function = nullptr;
  size_t next = 0, count = 0, unfinished = 0;
  bool stopping = false;
  std::vector<std::thread> threads;
};

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_HELPERS_H
