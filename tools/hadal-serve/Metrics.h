// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What /metrics tells, in the text format of Prometheus.

#ifndef HADAL_TOOLS_HADAL_SERVE_METRICS_H
#define HADAL_TOOLS_HADAL_SERVE_METRICS_H

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace hadal::serve {

/// Counts durations by upper bounds, from 1 ms to 2 minutes.
class Histogram {
public:
  void add(double seconds);
  void append(std::string &out, const char *name, const char *help) const;

private:
  static constexpr std::array<double, 16> bounds = {
      0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2,
      0.5,   1,     2,     5,    10,   30,   60,  120};
  std::array<std::atomic<uint64_t>, bounds.size() + 1> counts = {};
  std::atomic<uint64_t> sumMicroseconds = 0;
};

/// Any thread may change any of it.
class Metrics {
public:
  /// \p route is one of the server's own, so that there are few.
  void countRequest(const std::string &route, int status);
  std::string format() const;

  Histogram firstToken, interToken, request;
  std::atomic<uint64_t> promptTokens = 0, cachedTokens = 0, generatedTokens = 0;
  std::atomic<uint64_t> steps = 0, preemptions = 0, cancellations = 0;
  std::atomic<int64_t> waiting = 0, running = 0, connections = 0;
  std::atomic<int64_t> freePages = 0, pages = 0;

private:
  mutable std::mutex mutex;
  std::map<std::pair<std::string, int>, uint64_t> requests; ///< Under it.
};

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_METRICS_H
