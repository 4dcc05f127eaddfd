// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What /metrics tells, in the text format of Prometheus.

#include "Metrics.h"

#include "../hadal-run/Report.h"

using namespace hadal;
using namespace hadal::serve;
using run::appendFormat;

void Histogram::add(double seconds) {
  size_t bucket = 0;
  while (bucket < bounds.size() && seconds > bounds[bucket])
    ++bucket;
  ++counts[bucket];
  sumMicroseconds += uint64_t(seconds * 1e6);
}

static void appendHeader(std::string &out, const char *name, const char *help,
                         const char *type) {
  appendFormat(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void Histogram::append(std::string &out, const char *name,
                       const char *help) const {
  appendHeader(out, name, help, "histogram");
  uint64_t total = 0;
  for (size_t i = 0; i < bounds.size(); ++i)
    appendFormat(out, "%s_bucket{le=\"%g\"} %llu\n", name, bounds[i],
                 static_cast<unsigned long long>(total += counts[i]));
  total += counts[bounds.size()];
  appendFormat(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.6f\n%s_count %llu\n",
               name, static_cast<unsigned long long>(total), name,
               double(sumMicroseconds) * 1e-6, name,
               static_cast<unsigned long long>(total));
}

void Metrics::countRequest(const std::string &route, int status) {
  std::lock_guard lock(mutex);
  ++requests[{route, status}];
}

std::string Metrics::format() const {
  std::string out;
  appendHeader(out, "hadal_requests_total", "Requests answered.", "counter");
  {
    std::lock_guard lock(mutex);
    for (const auto &[key, count] : requests)
      appendFormat(out,
                   "hadal_requests_total{route=\"%s\",status=\"%d\"} %llu\n",
                   key.first.c_str(), key.second,
                   static_cast<unsigned long long>(count));
  }
  auto append = [&](const char *name, const char *help, const char *type,
                    long long value) {
    appendHeader(out, name, help, type);
    appendFormat(out, "%s %lld\n", name, value);
  };
  append("hadal_prompt_tokens_total", "Tokens of prompts.", "counter",
         static_cast<long long>(promptTokens));
  append("hadal_prompt_cached_tokens_total",
         "Of those, tokens that were in memory already.", "counter",
         static_cast<long long>(cachedTokens));
  append("hadal_generated_tokens_total", "Tokens generated.", "counter",
         static_cast<long long>(generatedTokens));
  append("hadal_steps_total", "Steps of the model.", "counter",
         static_cast<long long>(steps));
  append("hadal_preemptions_total",
         "Generations that gave their pages back to others.", "counter",
         static_cast<long long>(preemptions));
  append("hadal_cancellations_total", "Generations that nobody waited for.",
         "counter", static_cast<long long>(cancellations));
  append("hadal_queue_length", "Generations that wait.", "gauge", waiting);
  append("hadal_running", "Generations in the steps.", "gauge", running);
  append("hadal_connections", "Connections that are open.", "gauge",
         connections);
  append("hadal_kv_pages", "KV pages there are.", "gauge", pages);
  append("hadal_kv_pages_free", "KV pages that no sequence holds.", "gauge",
         freePages);
  firstToken.append(out, "hadal_time_to_first_token_seconds",
                    "From the request to its first token.");
  interToken.append(out, "hadal_inter_token_seconds",
                    "From a token to the next of its generation.");
  request.append(out, "hadal_generation_seconds",
                 "From the request to its last token.");
  return out;
}
