// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Continuous batching: one thread steps all generations in flat batches.

#include "Engine.h"

#include <algorithm>
#include <iterator>
#include <optional>

using namespace hadal;
using namespace hadal::serve;

/// KV memory for this many tokens of each generation, unless told otherwise.
static constexpr int64_t defaultSequenceTokens = 4096;

bool Engine::open(const rt::Weights &weights, const EngineOptions &asked,
                  std::string &error) {
  options = asked;
  hadal_rt_session_options_t sizes = {};
  sizes.threads = options.threads;
  sizes.max_step_tokens = std::max(options.stepTokens, options.maxRunning);
  sizes.max_sequences = options.maxRunning + options.cachedPrompts;
  sizes.kv_tokens =
      options.kvTokens
          ? options.kvTokens
          : options.maxRunning * std::min(model.context, defaultSequenceTokens);
  if (hadal_rt_session_memory_bytes(&model, &sizes, &sessionBytes) ||
      session.create(model, weights, sizes)) {
    error = hadal_rt_last_error();
    return false;
  }
  options.stepTokens = sizes.max_step_tokens;
  int64_t pages = hadal_rt_session_free_pages(session.get());
  metrics.pages = metrics.freePages = pages;
  context = model.context;
  // Of a model with a window, the runtime gives fewer pages.
  if (!model.window_tokens)
    context = std::min(context, pages * model.page_tokens);
  logits.resize(size_t(options.maxRunning * model.vocab));
  helpers = std::make_unique<Helpers>(
      size_t(std::min(threads(), options.maxRunning)));
  thread = std::thread([this] { run(); });
  return true;
}

bool Engine::submit(const Generations &generations) {
  {
    std::lock_guard lock(mutex);
    auto count = int64_t(generations.size());
    if (stopping || notStarted + count > options.maxQueue)
      return false;
    unfinished += count;
    notStarted += count;
    metrics.waiting = notStarted;
    submitted.insert(submitted.end(), generations.begin(), generations.end());
  }
  wakeUp.notify_one();
  return true;
}

void Engine::stop() {
  {
    std::lock_guard lock(mutex);
    stopping = true;
  }
  wakeUp.notify_one();
  if (thread.joinable())
    thread.join();
}

bool Engine::isIdle() const {
  std::lock_guard lock(mutex);
  return !unfinished;
}

//===----------------------------------------------------------------------===//
// The engine's thread
//===----------------------------------------------------------------------===//

void Engine::run() {
  while (takeSubmitted()) {
    endExpired();
    admit();
    if (!running.empty())
      step();
    publish();
  }
  failAll("the server stops");
  publish();
}

/// Waits for something to do. \returns False if it is time to stop.
bool Engine::takeSubmitted() {
  std::unique_lock lock(mutex);
  wakeUp.wait(lock, [&] {
    return stopping || !submitted.empty() || !waiting.empty() ||
           !running.empty();
  });
  std::move(submitted.begin(), submitted.end(), std::back_inserter(waiting));
  submitted.clear();
  return !stopping;
}

/// Tells others how things stand.
void Engine::publish() {
  metrics.running = int64_t(running.size());
  metrics.freePages = hadal_rt_session_free_pages(session.get());
  std::lock_guard lock(mutex);
  notStarted = int64_t(waiting.size() + submitted.size());
  unfinished = notStarted + int64_t(running.size());
  metrics.waiting = notStarted;
}

/// Ends what nobody waits for, and what took too long.
void Engine::endExpired() {
  Clock::time_point now = Clock::now();
  auto mustEnd = [&](Generation &generation) {
    if (generation.isCancelled()) {
      ++metrics.cancellations;
      generation.finish(Finish::Cancelled);
      return true;
    }
    if (now < generation.request().deadline)
      return false;
    generation.finish(Finish::Timeout);
    return true;
  };
  waiting.erase(std::remove_if(waiting.begin(), waiting.end(),
                               [&](auto &it) { return mustEnd(*it); }),
                waiting.end());
  for (auto it = running.begin(); it != running.end();) {
    auto slot = it++;
    if (mustEnd(*slot->generation))
      end(slot);
  }
}

/// Takes \p slot out of the steps. What it has computed is kept for prompts
/// that begin alike.
void Engine::end(std::list<Slot>::iterator slot) {
  slot->generation.reset();
  if (!options.cachedPrompts || !slot->fed) {
    running.erase(slot);
    return;
  }
  slot->tokens.resize(size_t(slot->fed));
  kept.splice(kept.end(), running, slot);
  if (int64_t(kept.size()) > options.cachedPrompts)
    kept.pop_front();
}

void Engine::failAll(const std::string &message) {
  for (Slot &slot : running)
    slot.generation->finish(Finish::Failed, message);
  for (auto &generation : waiting)
    generation->finish(Finish::Failed, message);
  running.clear();
  waiting.clear();
  kept.clear();
}

/// Starts generations in the order they came, as long as there is room. Those
/// whose prompt another one is computing let others pass: they share it then.
void Engine::admit() {
  for (auto it = waiting.begin();
       it != waiting.end() && int64_t(running.size()) < options.maxRunning;) {
    if (options.cachedPrompts && (*it)->mustWait())
      ++it;
    else if (start(*it))
      it = waiting.erase(it);
    else
      break;
  }
}

/// Gives \p generation a sequence, if there are pages for its prompt and one
/// more for each that runs. \returns False if it has to wait.
bool Engine::start(const std::shared_ptr<Generation> &generation) {
  Slot slot;
  slot.tokens = generation->tokens();
  slot.adapter = generation->request().adapter;
  reusePrefix(slot);
  auto total = int64_t(slot.tokens.size()) + 1;
  if (model.window_tokens) // A ring of pages is all it ever holds.
    total = std::min(total, model.sink_tokens + model.window_tokens +
                                options.stepTokens + 2 * model.page_tokens);
  int64_t wanted = (total + model.page_tokens - 1) / model.page_tokens -
                   slot.fed / model.page_tokens + int64_t(running.size());
  // Alone, it has all there are: the server takes no prompt that is longer.
  if (!freePages(wanted) && !running.empty())
    return false;
  if (!slot.sequence && (slot.sequence.create(session) ||
                         slot.sequence.setAdapter(slot.adapter))) {
    generation->finish(Finish::Failed, hadal_rt_last_error());
    return true;
  }
  if (!generation->generatedTokens()) {
    generation->setCachedTokens(slot.fed);
    metrics.promptTokens += uint64_t(generation->promptTokens());
    metrics.cachedTokens += uint64_t(slot.fed);
  }
  slot.generation = generation;
  running.push_back(std::move(slot));
  return true;
}

/// Shares with \p slot the whole pages of the sequence that begins like it for
/// longest. At least one token is left, whose logits are wanted.
void Engine::reusePrefix(Slot &slot) {
  if (!options.cachedPrompts)
    return;
  Slot *best = nullptr;
  int64_t bestTokens = 0;
  for (std::list<Slot> *slots : {&running, &kept})
    for (Slot &other : *slots) {
      if (other.adapter != slot.adapter)
        continue;
      int64_t most = std::min(other.fed, int64_t(slot.tokens.size()) - 1);
      int64_t same =
          std::mismatch(slot.tokens.begin(), slot.tokens.begin() + most,
                        other.tokens.begin())
              .first -
          slot.tokens.begin();
      // Rows past the end of a sequence may hold anything: no part of a page.
      same -= same % model.page_tokens;
      if (same > bestTokens) {
        best = &other;
        bestTokens = same;
      }
    }
  if (!best || slot.sequence.fork(best->sequence))
    return;
  // In a model with a window, the beginning may be gone.
  if (slot.sequence.truncate(bestTokens)) {
    slot.sequence.reset();
    return;
  }
  slot.fed = bestTokens;
  if (!best->generation)
    for (auto it = kept.begin(); it != kept.end(); ++it)
      if (&*it == best) {
        kept.splice(kept.end(), kept, it);
        break;
      }
}

/// Drops sequences that are kept for their prefix until \p wanted pages are
/// free. \returns Whether they are.
bool Engine::freePages(int64_t wanted) {
  while (hadal_rt_session_free_pages(session.get()) < wanted) {
    if (kept.empty())
      return false;
    kept.pop_front();
  }
  return true;
}

/// Frees pages at the cost of the youngest. \returns False if there is nobody
/// to take from.
bool Engine::makeRoom() {
  if (!kept.empty()) {
    kept.pop_front();
    return true;
  }
  if (running.size() < 2)
    return false;
  ++metrics.preemptions;
  // Its tokens go back with it; they are computed again.
  running.back().generation->setTokens(std::move(running.back().tokens));
  waiting.push_front(running.back().generation);
  running.pop_back();
  return true;
}

/// Chooses the tokens of the next step.
void Engine::planStep() {
  planned.clear();
  int64_t budget = options.stepTokens;
  for (Slot &slot : running)
    if (slot.remaining() == 1) {
      planned.emplace_back(&slot, 1);
      --budget;
    }
  // The rest is for prompts. The shortest come first, so that what they do not
  // need of their share goes to the others.
  auto firstPrompt = ptrdiff_t(planned.size());
  for (Slot &slot : running)
    if (slot.remaining() > 1)
      planned.emplace_back(&slot, slot.remaining());
  std::sort(planned.begin() + firstPrompt, planned.end(),
            [](const auto &a, const auto &b) { return a.second < b.second; });
  for (auto left = ptrdiff_t(planned.size()) - firstPrompt; left; --left) {
    auto &[slot, count] = planned[planned.size() - size_t(left)];
    count = std::min(count, budget / left);
    budget -= count;
  }
}

void Engine::step() {
  hadal_rt_status_t status;
  do {
    planStep();
    stepTokens.clear();
    stepSequences.clear();
    outputRows.clear();
    outputSlots.clear();
    for (auto [slot, count] : planned) {
      auto first = slot->tokens.begin() + slot->fed;
      stepTokens.insert(stepTokens.end(), first, first + count);
      stepSequences.insert(stepSequences.end(), size_t(count),
                           slot->sequence.id());
      if (count && count == slot->remaining()) {
        outputRows.push_back(int32_t(stepTokens.size()) - 1);
        outputSlots.push_back(slot);
      }
    }
    status = hadal_rt_session_step(
        session.get(), stepTokens.data(), stepSequences.data(),
        int64_t(stepTokens.size()), outputRows.data(),
        int64_t(outputRows.size()), logits.data());
  } while (status == HADAL_RT_EXHAUSTED && makeRoom());
  if (status) {
    failAll(hadal_rt_last_error());
    return;
  }
  ++metrics.steps;
  for (auto [slot, count] : planned)
    slot->fed += count;
  takeLogits();
}

/// Gives each sequence whose logits were computed its next token. To choose it
/// takes milliseconds of a large vocabulary, in which the session's threads
/// have nothing to do: sequences are shared among as many.
void Engine::takeLogits() {
  helpers->forEach(outputSlots.size(), [this](size_t i) {
    Slot &slot = *outputSlots[i];
    std::optional<int32_t> token = slot.generation->accept(
        logits.data() + int64_t(i) * model.vocab, model.vocab);
    if (token)
      slot.tokens.push_back(*token);
    slot.isDone = !token;
  });
  for (Slot *slot : outputSlots) {
    Generation &generation = *slot->generation;
    ++metrics.generatedTokens;
    Generation::Latency latency = generation.takeLatency();
    (latency.isFirst ? metrics.firstToken : metrics.interToken)
        .add(latency.seconds);
    if (slot->isDone)
      metrics.request.add(generation.seconds());
  }
  for (auto it = running.begin(); it != running.end();) {
    auto slot = it++;
    if (slot->isDone)
      end(slot);
  }
}
