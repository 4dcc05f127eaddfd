// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Continuous batching: one thread steps all generations in flat batches.

#ifndef HADAL_TOOLS_HADAL_SERVE_ENGINE_H
#define HADAL_TOOLS_HADAL_SERVE_ENGINE_H

#include "Generation.h"
#include "Helpers.h"
#include "Metrics.h"

#include "hadal_rt/hadal_rt.hpp"

#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace hadal::serve {

struct EngineOptions {
  int64_t threads = 0;        ///< 0: all cores.
  int64_t maxRunning = 32;    ///< Most generations in a step.
  int64_t maxQueue = 256;     ///< Most generations that wait.
  int64_t stepTokens = 256;   ///< Most tokens in a step.
  int64_t kvTokens = 0;       ///< 0: see Engine::open().
  int64_t cachedPrompts = 32; ///< Finished sequences kept for their prefix.
};

/// Runs generations. Each step takes one token of every sequence that
/// generates, and fills up with pieces of prompts, evenly shared. What a
/// generation yields does not depend on what runs beside it.
///
/// A generation starts when there are pages for its prompt. When pages run out,
/// sequences that are kept for their prefix go first; then the youngest
/// generation gives its pages back and is computed again later, to the same
/// bits. The oldest always goes on, so all end.
class Engine {
public:
  Engine(const hadal_rt_model_t &model, Metrics &metrics)
      : model(model), metrics(metrics) {}
  ~Engine() { stop(); }

  /// Makes the session and starts the thread. KV pages are by default for 4096
  /// tokens, or the context, of each generation.
  ///
  /// \returns False, and one line in \p error, if that is not possible.
  bool open(const rt::Weights &weights, const EngineOptions &options,
            std::string &error);

  /// Adds \p generations to the queue. \returns False if that has no room for
  /// all of them.
  bool submit(const Generations &generations);

  /// Cancels what has not ended, and joins the thread.
  void stop();

  /// Whether nothing waits or runs.
  bool isIdle() const;

  /// Most tokens of a sequence: of the model, and of the KV pages.
  int64_t contextTokens() const { return context; }
  /// Most bytes of memory, the mapped weights not counted.
  int64_t memoryBytes() const { return sessionBytes; }
  int64_t threads() const { return hadal_rt_session_threads(session.get()); }

private:
  /// A sequence and the tokens it holds or will hold.
  struct Slot {
    std::shared_ptr<Generation> generation; ///< Null: kept for its prefix.
    rt::Sequence sequence;
    /// Prompt and generated tokens; `fed` of them are in the sequence.
    std::vector<int32_t> tokens;
    int64_t fed = 0;
    int32_t adapter = -1; ///< Of the sequence.
    bool isDone = false;
    int64_t remaining() const { return int64_t(tokens.size()) - fed; }
  };

  void run();
  bool takeSubmitted();
  void endExpired();
  void admit();
  bool start(const std::shared_ptr<Generation> &generation);
  void reusePrefix(Slot &slot);
  bool freePages(int64_t wanted);
  bool makeRoom();
  void step();
  void planStep();
  void takeLogits();
  void end(std::list<Slot>::iterator slot);
  void failAll(const std::string &message);
  void publish();

  const hadal_rt_model_t &model;
  Metrics &metrics;
  EngineOptions options;
  rt::Session session;
  std::unique_ptr<Helpers> helpers;
  int64_t context = 0;
  int64_t sessionBytes = 0;

  // Of the engine's thread alone.
  std::deque<std::shared_ptr<Generation>> waiting;
  std::list<Slot> running; ///< In the order they were submitted.
  std::list<Slot> kept;    ///< Least recently used first.
  std::vector<int32_t> stepTokens, stepSequences, outputRows;
  std::vector<Slot *> outputSlots; ///< Whose logits each output row is.
  std::vector<std::pair<Slot *, int64_t>> planned; ///< Tokens of each.
  std::vector<float> logits;

  mutable std::mutex mutex;
  std::condition_variable wakeUp;
  std::deque<std::shared_ptr<Generation>> submitted; ///< Under the mutex.
  int64_t unfinished = 0;                            ///< Under the mutex.
  int64_t notStarted = 0;                            ///< Under the mutex.
  bool stopping = false;                             ///< Under the mutex.
  std::thread thread;
};

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_ENGINE_H
