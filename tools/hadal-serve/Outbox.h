// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the generations of a request hand to the connection that answers it.

#ifndef HADAL_TOOLS_HADAL_SERVE_OUTBOX_H
#define HADAL_TOOLS_HADAL_SERVE_OUTBOX_H

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace hadal::serve {

enum class Finish { Stop, Length, Timeout, Failed, Cancelled };

/// Natural logarithms of the model's own probabilities: before temperature and
/// all that the sampler does.
struct TokenLogprobs {
  int32_t token;
  double logprob;
  std::vector<std::pair<int32_t, double>> top; ///< Likeliest first.
};

/// What has come of a generation since the last one.
struct Delta {
  std::string text; ///< Whole characters.
  std::vector<TokenLogprobs> logprobs;
  std::optional<Finish> finish;
  std::string error; ///< Of Finish::Failed.

  bool isEmpty() const { return text.empty() && logprobs.empty() && !finish; }
};

/// Any thread may call any of it.
class Outbox {
public:
  /// \param count    Of generations.
  /// \param inPieces Whether wait() is to return before the end of all.
  Outbox(size_t count, bool inPieces)
      : pending(count), left(count), inPieces(inPieces) {}

  /// Adds what has come of the generation \p index.
  void add(size_t index, Delta delta);

  /// Waits at most \p timeout: for anything if that was asked for; else for the
  /// end of all, or the first that ends without an answer.
  ///
  /// \returns [count] what has come since the last call; empty after a timeout.
  std::vector<Delta> wait(std::chrono::milliseconds timeout);

private:
  std::mutex mutex;
  std::condition_variable changed;
  // Under the mutex.
  std::vector<Delta> pending;
  size_t left;          ///< That have not ended.
  bool isReady = false; ///< Whether wait() has something to return.
  const bool inPieces;
};

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_OUTBOX_H
