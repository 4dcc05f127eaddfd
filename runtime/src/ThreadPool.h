// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The threads of a session and the dispatch that generated code calls.

#ifndef HADAL_RT_SRC_THREADPOOL_H
#define HADAL_RT_SRC_THREADPOOL_H

#include "Platform.h"

#include "hadal_rt/abi.h"

#include <atomic>
#ifndef HADAL_RT_BARE
#include <pthread.h>
#endif

namespace hadal_rt {

/// Stack of a worker, part of the memory that a session promises to keep to:
/// that of a kernel, and as much for the thread itself and thread-local data of
/// the program.
constexpr int64_t workerStackBytes = 2 * HADAL_RT_KERNEL_STACK_BYTES;

struct ThreadPool;

#ifdef HADAL_RT_BARE
/// The caller's alone, which has nothing to keep.
using PoolThread = char;
constexpr int64_t maxThreads = 1;
#else
/// A thread of a pool, and its share of a dispatch: one line, that a worker
/// waits on.
struct alignas(64) PoolThread {
  /// A generation, and how many items of the share are still to be taken.
  std::atomic<uint64_t> ticket;
  /// The job, the same in all threads. Atomic, because another thread that is
  /// late may read it while it is written; it then fails to take items.
  std::atomic<const hadal_rt_step_t *> step;
  std::atomic<hadal_rt_kernel_t> kernel;
  std::atomic<const int64_t *> params;
  std::atomic<uint32_t> items;
  ThreadPool *pool;
  int64_t number;   ///< The caller's is 0.
  pthread_t handle; ///< Of a worker.
};
/// Most threads of one pool.
constexpr int64_t maxThreads = 1024;
#endif

/// Runs dispatches on the caller's thread and on workers.
///
/// Each thread has a share of a dispatch's items, the same of all dispatches
/// with as many: what it wrote in one is in its own caches when it reads that
/// in the next, and so are weights that fit them. Who has done its share takes
/// of those of others.
///
/// Taking n items is a compare-and-swap of a share's ticket from (g, r) to
/// (g, r - n), where g is the generation of the dispatch. No such value ever
/// comes twice, so a thread that succeeds has read the job of generation g,
/// however late it came: that job cannot end, and the next cannot be written,
/// before those items are done. A worker that sleeps or is descheduled is
/// therefore never waited for. A thread takes a part of what is left of a
/// share: many items at first, which lie side by side in memory, and single
/// ones at the end, so that all threads end together.
struct ThreadPool {
  /// Items that workers have done, of all jobs. The caller sleeps on it.
  alignas(64) std::atomic<uint32_t> done;
  std::atomic<uint32_t> callerSleeps;
  /// Counts wakenings. Workers sleep on it.
  alignas(64) std::atomic<uint32_t> epoch;
  std::atomic<uint32_t> sleepers;
  std::atomic<uint32_t> stop;
  /// Of the caller alone: jobs, and what `done` is when the last one has ended.
  alignas(64) uint32_t generation;
  uint32_t doneInAll;
  int64_t threads;
  int64_t workersStarted;
  PoolThread *all; ///< [threads], not owned.

  /// Starts \p count - 1 workers. \p threads, `[count]`, are zeros, and the
  /// pool's until it ends. Returns false, with none left running, when the
  /// system gives no thread.
  bool start(int64_t count, PoolThread *threads);

  /// Ends and joins the workers.
  void shutDown();

  /// Runs \p kernel over [0, items), as hadal_rt_dispatch_t says.
  void run(const hadal_rt_step_t *step, hadal_rt_kernel_t kernel,
           const int64_t *params, int64_t items);

private:
  uint32_t takeItems(int64_t self);
  uint32_t takeFrom(int64_t owner);
  void workerLoop(PoolThread &self);
  static void *workerMain(void *thread);
};

/// Returns how many processors this process may use: those of its affinity
/// mask, no more than the CPU quota of its control group. At least 1.
int64_t availableProcessors();

} // namespace hadal_rt

#endif // HADAL_RT_SRC_THREADPOOL_H
