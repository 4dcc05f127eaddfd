// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Spin briefly, then sleep: a step is hundreds of dispatches a few
// microseconds apart, and between steps a session should cost nothing.

#include "ThreadPool.h"

#ifndef HADAL_RT_BARE

#include "Checked.h"
#include "Cpu.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

using namespace hadal_rt;

/// How long a thread spins before it sleeps. Longer than the sequential parts
/// of a step, shorter than what a person pays for in idle power.
static constexpr int64_t spinNs = 100 * 1000;

/// A thread takes half of what is left of a share, so that a slow one holds up
/// the others for half of its share at most.
static constexpr uint32_t partsOfShare = 2;

/// Where the share of thread \p number of \p threads begins. The caller, number
/// 0, has items whenever there are any.
static uint32_t shareBegin(uint32_t items, int64_t number, int64_t threads) {
  return uint32_t(ceilDivide(int64_t(items) * number, threads));
}

static int64_t nowNs() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t(time.tv_sec) * 1000000000 + time.tv_nsec;
}

#if defined(__linux__)
/// Sleeps while \p word is \p expected, or shorter.
static void waitOn(std::atomic<uint32_t> &word, uint32_t expected) {
  static_assert(sizeof(word) == sizeof(uint32_t), "a futex is one word");
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

/// Wakes \p count threads that sleep on \p word, or more.
static void wake(std::atomic<uint32_t> &word, uint32_t count) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}
#else
// One for all words: who wakes in vain sleeps again, and few come here.
static pthread_mutex_t sleepLock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wakening = PTHREAD_COND_INITIALIZER;

static void waitOn(std::atomic<uint32_t> &word, uint32_t expected) {
  pthread_mutex_lock(&sleepLock);
  if (word.load() == expected)
    pthread_cond_wait(&wakening, &sleepLock);
  pthread_mutex_unlock(&sleepLock);
}

static void wake(std::atomic<uint32_t> &, uint32_t) {
  // With the lock: nobody is between looking at the word and sleeping.
  pthread_mutex_lock(&sleepLock);
  pthread_cond_broadcast(&wakening);
  pthread_mutex_unlock(&sleepLock);
}
#endif

/// Spins until \p done is true or the time is over; returns what it last was.
template <typename Predicate> static bool spinUntil(Predicate done) {
  int64_t deadlineNs = 0;
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (done())
        return true;
      pauseCpu();
    }
    int64_t now = nowNs();
    if (!deadlineNs)
      deadlineNs = now + spinNs;
    else if (now >= deadlineNs)
      return done();
  }
}

/// Takes items of the share of thread \p owner, and runs them. Returns how
/// many; 0 when none is left.
uint32_t ThreadPool::takeFrom(int64_t owner) {
  PoolThread &from = all[owner];
  uint64_t seen = from.ticket.load(std::memory_order_acquire);
  while (uint32_t left = uint32_t(seen)) {
    const hadal_rt_step_t *jobStep = from.step.load(std::memory_order_relaxed);
    hadal_rt_kernel_t jobKernel = from.kernel.load(std::memory_order_relaxed);
    const int64_t *jobParams = from.params.load(std::memory_order_relaxed);
    uint32_t jobItems = from.items.load(std::memory_order_relaxed);
    uint32_t taken = left / partsOfShare;
    taken += taken == 0;
    if (!from.ticket.compare_exchange_weak(seen, seen - taken,
                                           std::memory_order_acq_rel,
                                           std::memory_order_acquire))
      continue;
    int64_t first = int64_t(shareBegin(jobItems, owner + 1, threads)) - left;
    jobKernel(jobStep, jobParams, first, first + taken);
    return taken;
  }
  return 0;
}

/// Takes items of thread \p self, then of the next that has some, until there
/// are none. Returns how many they were.
uint32_t ThreadPool::takeItems(int64_t self) {
  uint32_t sum = 0;
  for (int64_t i = 0; i < threads;) {
    int64_t owner = self + i;
    uint32_t taken = takeFrom(owner < threads ? owner : owner - threads);
    sum += taken;
    i = taken ? 0 : i + 1;
  }
  return sum;
}

void ThreadPool::workerLoop(PoolThread &self) {
  for (;;) {
    // Counted once, not at each taking: a line that threads write in turns is
    // most of what a short dispatch costs.
    if (uint32_t taken = takeItems(self.number)) {
      done.fetch_add(taken);
      if (callerSleeps.load())
        wake(done, 1);
    }
    bool found = spinUntil([&] {
      return uint32_t(self.ticket.load(std::memory_order_relaxed)) != 0 ||
             stop.load(std::memory_order_relaxed);
    });
    if (stop.load(std::memory_order_relaxed))
      return;
    if (found)
      continue;
    // The order of these four, and of tickets, sleepers and epoch in run(),
    // makes sure that either this thread sees its share or the caller sees this
    // thread.
    sleepers.fetch_add(1);
    uint32_t seenEpoch = epoch.load();
    if (uint32_t(self.ticket.load()) == 0 && !stop.load())
      waitOn(epoch, seenEpoch);
    sleepers.fetch_sub(1);
  }
}

void *ThreadPool::workerMain(void *thread) {
  DefaultFloatMode mode;
  auto &self = *static_cast<PoolThread *>(thread);
  self.pool->workerLoop(self);
  return nullptr;
}

bool ThreadPool::start(int64_t count, PoolThread *threads) {
  this->threads = count;
  all = threads;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes))
    return false;
  pthread_attr_setstacksize(&attributes, workerStackBytes);
  for (int64_t i = 1; i < count; ++i) {
    all[i].pool = this;
    all[i].number = i;
    if (pthread_create(&all[i].handle, &attributes, workerMain, &all[i]))
      break;
    ++workersStarted;
  }
  pthread_attr_destroy(&attributes);
  if (workersStarted == count - 1)
    return true;
  shutDown();
  return false;
}

void ThreadPool::shutDown() {
  stop.store(1);
  epoch.fetch_add(1);
  wake(epoch, INT32_MAX);
  for (int64_t i = 1; i <= workersStarted; ++i)
    pthread_join(all[i].handle, nullptr);
  workersStarted = 0;
}

void ThreadPool::run(const hadal_rt_step_t *jobStep,
                     hadal_rt_kernel_t jobKernel, const int64_t *jobParams,
                     int64_t jobItems) {
  if (jobItems <= 0)
    return;
  if (threads == 1 || jobItems == 1) {
    jobKernel(jobStep, jobParams, 0, jobItems);
    return;
  }
  // No step has that many; the words below could not count them.
  if (jobItems > UINT32_MAX) {
    jobKernel(jobStep, jobParams, 0, jobItems);
    return;
  }
  auto count = uint32_t(jobItems);
  ++generation;
  // The caller's last: it takes items only when all have theirs.
  for (int64_t i = threads; i-- > 0;) {
    uint32_t share =
        shareBegin(count, i + 1, threads) - shareBegin(count, i, threads);
    if (!share)
      continue;
    PoolThread &to = all[i];
    to.step.store(jobStep, std::memory_order_relaxed);
    to.kernel.store(jobKernel, std::memory_order_relaxed);
    to.params.store(jobParams, std::memory_order_relaxed);
    to.items.store(count, std::memory_order_relaxed);
    to.ticket.store(uint64_t(generation) << 32 | share,
                    std::memory_order_release);
  }
  // Shares are given before it is asked who sleeps.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (uint32_t asleep = sleepers.load()) {
    epoch.fetch_add(1);
    wake(epoch, asleep < count - 1 ? asleep : count - 1);
  }

  doneInAll += count - takeItems(0);
  auto isDone = [&] {
    return done.load(std::memory_order_acquire) == doneInAll;
  };
  if (spinUntil(isDone))
    return;
  callerSleeps.store(1);
  for (;;) {
    uint32_t seen = done.load();
    if (seen == doneInAll)
      break;
    waitOn(done, seen);
  }
  callerSleeps.store(0);
}

int64_t hadal_rt::availableProcessors() {
  int64_t processors = sysconf(_SC_NPROCESSORS_ONLN);
#if defined(__linux__)
  cpu_set_t set;
  // Fails on machines with more processors than a cpu_set_t has bits; the
  // number online is then the best answer at hand.
  if (!sched_getaffinity(0, sizeof(set), &set))
    processors = CPU_COUNT(&set);
  // Control groups, version 2: "QUOTA PERIOD" in microseconds, or "max ...".
  if (FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re")) {
    char line[64] = {};
    size_t bytes = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[bytes] = 0;
    char *end;
    // "max" and anything else that is no number reads as zero.
    int64_t quota = strtoll(line, &end, 10);
    int64_t period = strtoll(end, nullptr, 10);
    if (quota > 0 && period > 0) {
      int64_t allowed = ceilDivide(quota, period);
      processors = allowed < processors ? allowed : processors;
    }
  }
#endif
  if (processors < 1)
    return 1;
  return processors < maxThreads ? processors : maxThreads;
}

#else // HADAL_RT_BARE

using namespace hadal_rt;

bool ThreadPool::start(int64_t count, PoolThread *threads) {
  this->threads = count;
  all = threads;
  return true;
}

void ThreadPool::shutDown() {}

void ThreadPool::run(const hadal_rt_step_t *jobStep,
                     hadal_rt_kernel_t jobKernel, const int64_t *jobParams,
                     int64_t jobItems) {
  if (jobItems > 0)
    jobKernel(jobStep, jobParams, 0, jobItems);
}

int64_t hadal_rt::availableProcessors() { return 1; }

#endif
