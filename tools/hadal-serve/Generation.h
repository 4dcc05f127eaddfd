// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One answer in the making: what was asked, and the text as it comes.

#ifndef HADAL_TOOLS_HADAL_SERVE_GENERATION_H
#define HADAL_TOOLS_HADAL_SERVE_GENERATION_H

#include "Outbox.h"
#include "StopFilter.h"

#include "hadal_text/constraint.h"
#include "hadal_text/sampler.h"
#include "hadal_text/tokenizer.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace hadal::serve {

using Clock = std::chrono::steady_clock;

struct GenerationOptions {
  std::vector<int32_t> prompt; ///< At least one, each in [0, vocab).
  int64_t maxTokens = 0;       ///< At least 1; fits the context.
  text::SamplerOptions sampler;
  std::vector<std::string> stops; ///< None empty.
  /// What the text must follow; null: anything goes.
  std::shared_ptr<const text::Grammar> grammar;
  bool ignoresEos = false;
  /// -1: no log-probabilities; else those of the token and of so many others.
  int32_t topLogprobs = -1;
  Clock::time_point deadline = Clock::time_point::max();
  int32_t adapter = -1; ///< Of the model; -1: none.
};

/// Shared by the engine, which goes on with it, and the connection, which waits
/// for what it puts into its outbox.
class Generation {
public:
  /// \param tokenizer, trie Of the same vocabulary; must outlive it.
  /// \param outbox          Not null; where it is the generation \p index.
  /// \param first           Another one of the same prompt, which is to be
  ///                        computed once; null: none.
  Generation(GenerationOptions options, const text::Tokenizer &tokenizer,
             const text::TokenTrie &trie, std::shared_ptr<Outbox> outbox,
             size_t index, std::shared_ptr<const Generation> first);

  // For the connection.

  /// Nobody wants the rest.
  void cancel() { cancelled = true; }

  int64_t promptTokens() const { return int64_t(options.prompt.size()); }
  /// Of the prompt, tokens that were in memory already.
  int64_t cachedTokens() const { return cached; }
  int64_t generatedTokens() const { return generated; }
  /// Whether none of the request has the same prompt before it.
  bool isFirst() const { return !first; }
  double seconds() const;

  // For the engine.

  const GenerationOptions &request() const { return options; }
  bool isCancelled() const { return cancelled; }
  /// Whether its prompt is still to be computed by another.
  bool mustWait() const {
    return first && !first->generated && !first->hasEnded;
  }
  void setCachedTokens(int64_t tokens) { cached = tokens; }
  /// The prompt, and what was generated before it was last put back to wait.
  const std::vector<int32_t> &tokens() const {
    return tokensSoFar.empty() ? options.prompt : tokensSoFar;
  }
  void setTokens(std::vector<int32_t> tokens) {
    tokensSoFar = std::move(tokens);
  }

  /// Chooses the next token from \p logits, float32 [vocab], and publishes what
  /// it adds. \returns The token to go on with; nothing if this was the end.
  std::optional<int32_t> accept(const float *logits, int64_t vocab);

  /// Publishes the end; what was held back comes first.
  void finish(Finish finish, const std::string &error = {});

  /// Seconds from the request to the first token, or since the last; once a
  /// token, after accept().
  struct Latency {
    bool isFirst;
    double seconds;
  };
  Latency takeLatency();

private:
  int32_t sample(const float *logits, int64_t vocab);
  TokenLogprobs computeLogprobs(int32_t token, const float *logits,
                                int64_t vocab) const;
  void publish(Delta delta);

  const GenerationOptions options;
  const text::Tokenizer &tokenizer;
  const std::shared_ptr<Outbox> outbox;
  const size_t index;
  const std::shared_ptr<const Generation> first;
  const Clock::time_point created = Clock::now();
  Clock::time_point lastToken = created;
  text::Sampler sampler;
  std::optional<text::Constraint> constraint;
  std::vector<float> allowedLogits; ///< Of the constraint.
  text::Detokenizer detokenizer;
  StopFilter stopFilter;
  std::vector<int32_t> tokensSoFar; ///< Empty: the prompt.
  std::atomic<bool> cancelled = false, hasEnded = false;
  std::atomic<int64_t> cached = 0, generated = 0;
};

/// The generations of a request; the index of each is that of its choice.
using Generations = std::vector<std::shared_ptr<Generation>>;

struct TokenCounts {
  int64_t prompt = 0; ///< Once, however many choices it has.
  int64_t cached = 0; ///< Of these, tokens that were in memory already.
  int64_t generated = 0;
};

TokenCounts countTokens(const Generations &generations);

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_GENERATION_H
