// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// hadal_rt.h for C++: handles that close themselves. Header only, C++17; throws
// nothing and needs no exceptions: a failing call returns its status, and
// hadal_rt_last_error() says why.

#ifndef HADAL_RT_HADAL_RT_HPP
#define HADAL_RT_HADAL_RT_HPP

#include "hadal_rt/hadal_rt.h"

#include <cstdint>
#include <memory>
#include <string_view>

namespace hadal::rt {

/// The weights of a model, mapped read-only. Empty until opened. Outlives the
/// sessions that use it.
class Weights {
public:
  /// See hadal_rt_weights_open(). Gives up what was open before.
  hadal_rt_status_t open(const hadal_rt_model_t &model, const char *path) {
    hadal_rt_weights_t *opened = nullptr;
    hadal_rt_status_t status = hadal_rt_weights_open(&model, path, &opened);
    handle.reset(opened);
    return status;
  }

  /// See hadal_rt_weights_open_memory().
  hadal_rt_status_t openMemory(const hadal_rt_model_t &model, const void *data,
                               uint64_t bytes) {
    hadal_rt_weights_t *opened = nullptr;
    hadal_rt_status_t status =
        hadal_rt_weights_open_memory(&model, data, bytes, &opened);
    handle.reset(opened);
    return status;
  }

  /// See hadal_rt_weights_open_embedded().
  hadal_rt_status_t openEmbedded(const hadal_rt_model_t &model,
                                 const char *path) {
    hadal_rt_weights_t *opened = nullptr;
    hadal_rt_status_t status =
        hadal_rt_weights_open_embedded(&model, path, &opened);
    handle.reset(opened);
    return status;
  }

  /// The section called \p name, such as "tokenizer.json"; empty if there is
  /// none. Valid as long as the weights.
  std::string_view section(const char *name) const {
    const void *data = nullptr;
    std::uint64_t bytes = 0;
    if (!handle || hadal_rt_weights_section(handle.get(), name, &data, &bytes))
      return {};
    return {static_cast<const char *>(data), static_cast<std::size_t>(bytes)};
  }

  explicit operator bool() const { return handle != nullptr; }
  const hadal_rt_weights_t *get() const { return handle.get(); }

private:
  struct Close {
    void operator()(hadal_rt_weights_t *weights) const {
      hadal_rt_weights_close(weights);
    }
  };
  std::unique_ptr<hadal_rt_weights_t, Close> handle;
};

/// Threads, working memory and KV pages. Empty until created; used by one
/// thread at a time.
class Session {
public:
  /// See hadal_rt_session_create(). Gives up what was there before.
  hadal_rt_status_t create(const hadal_rt_model_t &model,
                           const Weights &weights,
                           const hadal_rt_session_options_t &options = {}) {
    handle.reset();
    hadal_rt_session_t *created = nullptr;
    hadal_rt_status_t status =
        hadal_rt_session_create(&model, weights.get(), &options, &created);
    handle.reset(created);
    return status;
  }

  /// See hadal_rt_session_step().
  hadal_rt_status_t step(const std::int32_t *tokenIds,
                         const std::int32_t *sequenceIds, std::int64_t tokens,
                         const std::int32_t *outputRows, std::int64_t outputs,
                         float *logits) {
    return hadal_rt_session_step(handle.get(), tokenIds, sequenceIds, tokens,
                                 outputRows, outputs, logits);
  }

  std::int64_t threads() const {
    return hadal_rt_session_threads(handle.get());
  }
  std::int64_t freePages() const {
    return hadal_rt_session_free_pages(handle.get());
  }

  explicit operator bool() const { return handle != nullptr; }
  hadal_rt_session_t *get() const { return handle.get(); }

private:
  struct Free {
    void operator()(hadal_rt_session_t *session) const {
      hadal_rt_session_free(session);
    }
  };
  std::unique_ptr<hadal_rt_session_t, Free> handle;
};

/// One sequence of a session, which outlives it. Empty until created or forked.
class Sequence {
public:
  Sequence() = default;
  Sequence(Sequence &&other) noexcept
      : session(other.session), number(other.number) {
    other.session = nullptr;
  }
  Sequence &operator=(Sequence &&other) noexcept {
    if (this != &other) {
      reset();
      session = other.session;
      number = other.number;
      other.session = nullptr;
    }
    return *this;
  }
  ~Sequence() { reset(); }

  /// See hadal_rt_sequence_create(). Gives up what was there before.
  hadal_rt_status_t create(Session &in) {
    reset();
    return take(in.get(), hadal_rt_sequence_create(in.get(), &number));
  }

  /// Becomes a copy of \p source; see hadal_rt_sequence_fork().
  hadal_rt_status_t fork(const Sequence &source) {
    hadal_rt_session_t *in = source.session;
    std::int32_t of = source.number;
    if (this == &source)
      return HADAL_RT_OK;
    reset();
    return take(in, hadal_rt_sequence_fork(in, of, &number));
  }

  /// See hadal_rt_sequence_append().
  hadal_rt_status_t append(const std::int32_t *tokenIds, std::int64_t tokens,
                           float *logits) {
    return hadal_rt_sequence_append(session, number, tokenIds, tokens, logits);
  }

  /// See hadal_rt_sequence_set_adapter().
  hadal_rt_status_t setAdapter(std::int32_t adapter) {
    return hadal_rt_sequence_set_adapter(session, number, adapter);
  }

  /// See hadal_rt_session_reserve() and hadal_rt_sequence_truncate().
  hadal_rt_status_t reserve(std::int64_t tokens) {
    return hadal_rt_session_reserve(session, number, tokens);
  }
  hadal_rt_status_t truncate(std::int64_t tokens) {
    return hadal_rt_sequence_truncate(session, number, tokens);
  }

  /// Gives back what it has.
  void reset() {
    if (session)
      hadal_rt_sequence_free(session, number);
    session = nullptr;
    number = -1;
  }

  /// How many tokens it has; 0 if it is empty.
  std::int64_t length() const {
    std::int64_t tokens = 0;
    if (session)
      hadal_rt_sequence_length(session, number, &tokens);
    return tokens;
  }

  /// What steps call it; -1 if it is empty.
  std::int32_t id() const { return number; }
  explicit operator bool() const { return session != nullptr; }

private:
  hadal_rt_status_t take(hadal_rt_session_t *in, hadal_rt_status_t status) {
    if (status == HADAL_RT_OK)
      session = in;
    return status;
  }

  hadal_rt_session_t *session = nullptr;
  std::int32_t number = -1;
};

} // namespace hadal::rt

#endif // HADAL_RT_HADAL_RT_HPP
