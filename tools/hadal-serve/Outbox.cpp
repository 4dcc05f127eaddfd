// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the generations of a request hand to the connection that answers it.

#include "Outbox.h"

#include <iterator>

using namespace hadal::serve;

void Outbox::add(size_t index, Delta delta) {
  {
    std::lock_guard lock(mutex);
    Delta &to = pending[index];
    to.text += delta.text;
    std::move(delta.logprobs.begin(), delta.logprobs.end(),
              std::back_inserter(to.logprobs));
    bool hasFailed = false;
    if (delta.finish) {
      to.finish = delta.finish;
      to.error = std::move(delta.error);
      --left;
      hasFailed = *to.finish != Finish::Stop && *to.finish != Finish::Length;
    }
    isReady |= inPieces ? !to.isEmpty() : !left || hasFailed;
    // To wake a thread for nothing would take a core from the model.
    if (!isReady)
      return;
  }
  changed.notify_one();
}

std::vector<Delta> Outbox::wait(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex);
  if (!changed.wait_for(lock, timeout, [this] { return isReady; }))
    return {};
  isReady = false;
  return std::exchange(pending, std::vector<Delta>(pending.size()));
}
