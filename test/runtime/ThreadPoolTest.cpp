// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Dispatches: every item once, joined before return, whatever the number of
// threads and items, awake or asleep.

#include "ThreadPool.h"

#include "gtest/gtest.h"
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

using namespace hadal_rt;

namespace {

struct Pool {
  explicit Pool(int64_t threads) : handles(size_t(threads)) {
    EXPECT_TRUE(pool->start(threads, handles.data()));
  }
  ~Pool() { pool->shutDown(); }
  std::unique_ptr<ThreadPool> pool{new ThreadPool()};
  std::vector<PoolThread> handles;
};

} // namespace

/// params: {int32 counts[items], int32 calls}.
static void countItems(const hadal_rt_step_t *, const int64_t *params,
                       int64_t first, int64_t last) {
  auto *counts = reinterpret_cast<int32_t *>(params[0]);
  EXPECT_LT(first, last);
  for (int64_t i = first; i < last; ++i)
    ++counts[i];
}

TEST(ThreadPool, RunsEveryItemOnce) {
  for (int64_t threads = 1; threads <= 8; ++threads) {
    Pool pool(threads);
    for (int64_t items : {0, 1, 2, 3, 5, 7, 8, 9, 31, 32, 33, 63, 64, 65, 100,
                          127, 997, 10007}) {
      std::vector<int32_t> counts(size_t(items) + 1);
      int64_t params[] = {reinterpret_cast<int64_t>(counts.data())};
      for (int32_t round = 1; round <= 3; ++round) {
        pool.pool->run(nullptr, countItems, params, items);
        for (int64_t i = 0; i < items; ++i)
          ASSERT_EQ(counts[size_t(i)], round)
              << "item " << i << " of " << items << ", threads " << threads;
        ASSERT_EQ(counts[size_t(items)], 0);
      }
    }
  }
}

/// params: {int64 values[items], addend}: each item depends on its neighbor
/// in the dispatch before, so a dispatch that returns too early shows.
static void addNeighbor(const hadal_rt_step_t *, const int64_t *params,
                        int64_t first, int64_t last) {
  auto *from = reinterpret_cast<const int64_t *>(params[0]);
  auto *to = reinterpret_cast<int64_t *>(params[1]);
  for (int64_t i = first; i < last; ++i)
    to[i] = from[(i + 1) % params[2]] + 1;
}

TEST(ThreadPool, SurvivesManyDispatches) {
  for (int64_t threads : {2, 3, 8}) {
    Pool pool(threads);
    int64_t dispatches = threads == 2 ? 100000 : 5000;
    std::vector<int64_t> a(13), b(13);
    for (int64_t n = 0; n < dispatches; ++n) {
      auto &from = n % 2 ? b : a, &to = n % 2 ? a : b;
      int64_t params[] = {reinterpret_cast<int64_t>(from.data()),
                          reinterpret_cast<int64_t>(to.data()), 13};
      pool.pool->run(nullptr, addNeighbor, params, 13);
    }
    for (int64_t value : dispatches % 2 ? b : a)
      ASSERT_EQ(value, dispatches);
  }
}

/// params: {pthread_t threads[items], items, atomic<int64> begun}: ends only
/// when every item has begun, so that no thread takes a second one.
static void meetOthers(const hadal_rt_step_t *, const int64_t *params,
                       int64_t first, int64_t last) {
  EXPECT_EQ(last, first + 1);
  reinterpret_cast<pthread_t *>(params[0])[first] = pthread_self();
  auto &begun = *reinterpret_cast<std::atomic<int64_t> *>(params[2]);
  ++begun;
  while (begun < params[1])
    std::this_thread::yield();
}

TEST(ThreadPool, GivesAThreadTheSameItems) {
  constexpr int64_t threads = 4;
  Pool pool(threads);
  std::vector<pthread_t> first(threads), now(threads);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int64_t> begun = 0;
    auto &to = round ? now : first;
    int64_t params[] = {reinterpret_cast<int64_t>(to.data()), threads,
                        reinterpret_cast<int64_t>(&begun)};
    pool.pool->run(nullptr, meetOthers, params, threads);
    EXPECT_TRUE(pthread_equal(to[0], pthread_self()));
    for (int64_t i = 0; round && i < threads; ++i)
      EXPECT_TRUE(pthread_equal(now[size_t(i)], first[size_t(i)]));
  }
}

TEST(ThreadPool, WakesSleepers) {
  Pool pool(3);
  std::vector<int32_t> counts(100);
  int64_t params[] = {reinterpret_cast<int64_t>(counts.data())};
  for (int32_t round = 1; round <= 200; ++round) {
    // Around the time after which workers fall asleep.
    std::this_thread::sleep_for(std::chrono::microseconds(round * 2));
    pool.pool->run(nullptr, countItems, params, 100);
    for (int32_t count : counts)
      ASSERT_EQ(count, round);
  }
}

/// Waits on one item, so that the caller has to sleep.
static void sleepOnLastItem(const hadal_rt_step_t *, const int64_t *params,
                            int64_t first, int64_t last) {
  auto *counts = reinterpret_cast<int32_t *>(params[0]);
  for (int64_t i = first; i < last; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(i % 2 ? 3 : 1));
    ++counts[i];
  }
}

TEST(ThreadPool, CallerSleepsUntilTheLastItem) {
  Pool pool(4);
  std::vector<int32_t> counts(4);
  int64_t params[] = {reinterpret_cast<int64_t>(counts.data())};
  for (int32_t round = 1; round <= 20; ++round) {
    pool.pool->run(nullptr, sleepOnLastItem, params, 4);
    for (int32_t count : counts)
      ASSERT_EQ(count, round);
  }
}

TEST(ThreadPool, StartsAndStopsQuickly) {
  for (int i = 0; i < 100; ++i) {
    Pool pool(4);
    if (i % 2)
      continue;
    std::vector<int32_t> counts(9);
    int64_t params[] = {reinterpret_cast<int64_t>(counts.data())};
    pool.pool->run(nullptr, countItems, params, 9);
  }
}

TEST(ThreadPool, CountsProcessors) {
  EXPECT_GE(availableProcessors(), 1);
  EXPECT_LE(availableProcessors(), maxThreads);
}

/// Not a check, since a shared machine can be as slow as it likes: prints what
/// a dispatch costs.
TEST(ThreadPool, PrintsDispatchCost) {
  for (int64_t threads : {1, 2}) {
    Pool pool(threads);
    std::vector<int32_t> counts(8);
    int64_t params[] = {reinterpret_cast<int64_t>(counts.data())};
    double best = 1e9;
    for (int repeat = 0; repeat < 20; ++repeat) {
      auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < 1000; ++i)
        pool.pool->run(nullptr, countItems, params, 8);
      std::chrono::duration<double, std::micro> time =
          std::chrono::steady_clock::now() - start;
      best = time.count() / 1000 < best ? time.count() / 1000 : best;
    }
    printf("%d threads: %.2f us per dispatch\n", int(threads), best);
  }
}
