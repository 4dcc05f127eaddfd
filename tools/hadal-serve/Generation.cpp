// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One answer in the making: what was asked, and the text as it comes.

#include "Generation.h"

#include "../hadal-run/LogProbabilities.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace hadal;
using namespace hadal::serve;

static double secondsBetween(Clock::time_point first, Clock::time_point last) {
  return std::chrono::duration<double>(last - first).count();
}

Generation::Generation(GenerationOptions asked,
                       const text::Tokenizer &tokenizer,
                       const text::TokenTrie &trie,
                       std::shared_ptr<Outbox> outbox, size_t index,
                       std::shared_ptr<const Generation> first)
    : options(std::move(asked)), tokenizer(tokenizer),
      outbox(std::move(outbox)), index(index), first(std::move(first)),
      sampler(options.sampler), detokenizer(tokenizer, /*skipSpecial=*/true),
      stopFilter(options.stops) {
  for (int32_t token : options.prompt)
    sampler.accept(token);
  if (options.grammar)
    constraint.emplace(options.grammar, trie);
}

double Generation::seconds() const {
  return secondsBetween(created, Clock::now());
}

Generation::Latency Generation::takeLatency() {
  Clock::time_point now = Clock::now();
  Latency latency = {generated == 1, secondsBetween(lastToken, now)};
  lastToken = now;
  return latency;
}

TokenLogprobs Generation::computeLogprobs(int32_t token, const float *logits,
                                          int64_t vocab) const {
  double sum = run::logSumExp(logits, vocab);
  TokenLogprobs result = {token, double(logits[token]) - sum, {}};
  auto count = size_t(std::min<int64_t>(options.topLogprobs, vocab));
  if (!count)
    return result;
  std::vector<int32_t> ids(static_cast<size_t>(vocab));
  std::iota(ids.begin(), ids.end(), 0);
  // NaN, which compares with nothing, must not break the order.
  auto valueOf = [&](int32_t id) {
    return logits[id] == logits[id] ? logits[id] : -INFINITY;
  };
  std::partial_sort(ids.begin(), ids.begin() + ptrdiff_t(count), ids.end(),
                    [&](int32_t a, int32_t b) {
                      float x = valueOf(a), y = valueOf(b);
                      return x != y ? x > y : a < b;
                    });
  for (size_t i = 0; i < count; ++i)
    result.top.emplace_back(ids[i], double(logits[ids[i]]) - sum);
  return result;
}

/// Chooses a token among those that may come. \returns -1 if there is none.
int32_t Generation::sample(const float *logits, int64_t vocab) {
  if (!constraint)
    return sampler.sample(logits, size_t(vocab));
  allowedLogits.assign(logits, logits + vocab);
  constraint->apply(allowedLogits.data(), size_t(vocab));
  return sampler.sample(allowedLogits.data(), size_t(vocab));
}

std::optional<int32_t> Generation::accept(const float *logits, int64_t vocab) {
  int32_t token = sample(logits, vocab);
  if (token < 0) {
    finish(Finish::Failed,
           "no logit of generated token " + std::to_string(generated) +
               " is finite" +
               (constraint ? " among those that follow the schema" : ""));
    return std::nullopt;
  }
  sampler.accept(token);
  int64_t count = ++generated;
  const std::vector<int32_t> &ends = tokenizer.eosIds();
  // A text that follows a grammar ends where it can.
  bool isEnd = (!options.ignoresEos || constraint) &&
               std::binary_search(ends.begin(), ends.end(), token);
  Delta delta;
  if (options.topLogprobs >= 0 && !isEnd)
    delta.logprobs.push_back(computeLogprobs(token, logits, vocab));
  if (!isEnd)
    delta.text = stopFilter.push(detokenizer.push(token));
  bool isComplete = false;
  if (constraint && !isEnd) {
    constraint->accept(tokenizer.tokenBytes(token));
    isComplete = constraint->isComplete();
  }
  bool stops = isEnd || isComplete || stopFilter.hasStopped();
  bool isLast = stops || count == options.maxTokens;
  if (isLast && !stopFilter.hasStopped()) {
    delta.text += stopFilter.push(detokenizer.flush());
    stops |= stopFilter.hasStopped();
    delta.text += stopFilter.flush();
  }
  if (isLast)
    delta.finish = stops ? Finish::Stop : Finish::Length;
  publish(std::move(delta));
  if (isLast)
    return std::nullopt;
  return token;
}

void Generation::finish(Finish finish, const std::string &error) {
  std::string text = stopFilter.push(detokenizer.flush());
  text += stopFilter.flush();
  publish({std::move(text), {}, finish, error});
}

void Generation::publish(Delta delta) {
  if (delta.finish)
    hasEnded = true;
  outbox->add(index, std::move(delta));
}

TokenCounts serve::countTokens(const Generations &generations) {
  TokenCounts counts;
  for (const auto &generation : generations) {
    counts.generated += generation->generatedTokens();
    if (!generation->isFirst())
      continue;
    counts.prompt += generation->promptTokens();
    counts.cached += generation->cachedTokens();
  }
  return counts;
}
