// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Threads that share the work between two steps.

#include "Helpers.h"

using namespace hadal::serve;

Helpers::Helpers(size_t count) {
  for (size_t i = 1; i < count; ++i)
    threads.emplace_back([this] { run(); });
}

Helpers::~Helpers() {
  {
    std::lock_guard lock(mutex);
    stopping = true;
  }
  wakeUp.notify_all();
  for (std::thread &thread : threads)
    thread.join();
}

void Helpers::run() {
  std::unique_lock lock(mutex);
  while (true) {
    wakeUp.wait(lock, [&] { return stopping || next < count; });
    if (stopping)
      return;
    work(lock);
  }
}

/// Takes items until there are no more.
void Helpers::work(std::unique_lock<std::mutex> &lock) {
  while (next < count) {
    size_t item = next++;
    const std::function<void(size_t)> &call = *function;
    lock.unlock();
    call(item);
    lock.lock();
    if (!--unfinished)
      allDone.notify_one();
  }
}

void Helpers::forEach(size_t items, const std::function<void(size_t)> &toCall) {
  std::unique_lock lock(mutex);
  function = &toCall;
  next = 0;
  count = unfinished = items;
  if (items > 1)
    wakeUp.notify_all();
  work(lock);
  allDone.wait(lock, [&] { return !unfinished; });
}
