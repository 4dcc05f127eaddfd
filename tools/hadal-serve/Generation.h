// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One answer in the making: what was asked, and the text as it comes.

#ifndef HADAL_TOOLS_HADAL_SERVE_GENERATION_H
#define HADAL_TOOLS_HADAL_SERVE_GENERATION_H

#include "StopFilter.h"

#include "hadal_text/constraint.h"
#include "hadal_text/sampler.h"
#include "hadal_text/tokenizer.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
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
  bool inPieces = false; ///< Whether wait() is to return before the end.
  /// -1: no log-probabilities; else those of the token and of so many others.
  int32_t topLogprobs = -1;
  Clock::time_point deadline = Clock::time_point::max();
  int32_t adapter = -1; ///< Of the model; -1: none.
};

enum class Finish { Stop, Length, Timeout, Failed, Cancelled };

/// Natural logarithms of the model's own probabilities: before temperature and
/// all that the sampler does.
struct TokenLogprobs {
  int32_t token;
  double logprob;
  std::vector<std::pair<int32_t, double>> top; ///< Likeliest first.
};

/// What has come since the last one.
struct Delta {
  std::string text; ///< Whole characters.
  std::vector<TokenLogprobs> logprobs;
  std::optional<Finish> finish;
  std::string error; ///< Of Finish::Failed.
};

/// Shared by the engine, which fills it, and the connection, which waits.
class Generation {
public:
  /// \p tokenizer and \p trie, of the same vocabulary, must outlive it.
  Generation(GenerationOptions options, const text::Tokenizer &tokenizer,
             const text::TokenTrie &trie);

  // For the connection.

  /// Waits for text, or for all of it, or at most \p timeout. \returns Whether
  /// \p delta has any of its members.
  bool wait(Delta &delta, std::chrono::milliseconds timeout);

  /// Nobody wants the rest.
  void cancel() { cancelled = true; }

  int64_t promptTokens() const { return int64_t(options.prompt.size()); }
  /// Of the prompt, tokens that were in memory already.
  int64_t cachedTokens() const { return cached; }
  int64_t generatedTokens() const { return generated; }
  double seconds() const;

  // For the engine.

  const GenerationOptions &request() const { return options; }
  bool isCancelled() const { return cancelled; }
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
  void publish(std::string text, std::optional<TokenLogprobs> logprobs,
               std::optional<Finish> finish, const std::string &error = {});

  const GenerationOptions options;
  const text::Tokenizer &tokenizer;
  const Clock::time_point created = Clock::now();
  Clock::time_point lastToken = created;
  text::Sampler sampler;
  std::optional<text::Constraint> constraint;
  std::vector<float> allowedLogits; ///< Of the constraint.
  text::Detokenizer detokenizer;
  StopFilter stopFilter;
  std::vector<int32_t> tokensSoFar; ///< Empty: the prompt.
  std::atomic<bool> cancelled = false;
  std::atomic<int64_t> cached = 0, generated = 0;

  std::mutex mutex;
  std::condition_variable changed;
  Delta pending; ///< Under the mutex.
};

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_GENERATION_H
