// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A model whose step is written by hand, and weights files to go with it.

#ifndef HADAL_TEST_RUNTIME_FAKEMODEL_H
#define HADAL_TEST_RUNTIME_FAKEMODEL_H

#include "hadal_rt/hadal_rt.h"

#include <string>
#include <vector>

namespace fake {

constexpr int64_t vocab = 11;
constexpr int64_t context = 40;
constexpr int64_t pageTokens = 4;

/// A model that remembers, in KV pages of one float a token, the tokens of
/// each sequence. Its logits at position p are
///
///     logits[v] = weights[v] * sum_(q <= p) (q + 1) * (token[q] + 1)
///
/// over the q that p sees, so any token, position, page or row that is mixed up
/// shows. Like a real kernel it reads whole pages and gives rows past the end a
/// weight of zero.
hadal_rt_model_t makeModel();

/// If not 0, a token sees the latest ones, itself included, as many as this,
/// and of the first ones those before `sinkTokens`.
extern int64_t windowTokens, sinkTokens;

/// Adapters of the first tokens of the last step. The model has "first" and
/// "second".
extern int32_t stepAdapters[4];

/// The logits that the model must give after \p tokens.
std::vector<float> expectedLogits(const std::vector<int32_t> &tokens);

/// Puts a NaN into each row of the KV page that a step starts, as a step that
/// overflowed would.
extern bool poisonPages;

/// A device with memory of its own, for a model's `device`. It runs kernels in
/// the calling thread.
extern const hadal_rt_device_t device;

/// Devices that sessions hold.
extern int64_t openDevices;

/// Make the next session or the next step fail.
extern bool failsToOpen, failsToStep;

/// A weights file with sections "weights", "manifest" and "tokenizer.json".
struct WeightsFile {
  WeightsFile();
  hadal_rt_weights_header_t &header() {
    return *reinterpret_cast<hadal_rt_weights_header_t *>(bytes.data());
  }
  std::vector<char> bytes;
};

/// A file in the temporary folder that is deleted in the end.
class TemporaryFile {
public:
  explicit TemporaryFile(const std::vector<char> &bytes);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile &) = delete;
  TemporaryFile &operator=(const TemporaryFile &) = delete;
  const char *path() const { return name.c_str(); }

private:
  std::string name;
};

} // namespace fake

#endif // HADAL_TEST_RUNTIME_FAKEMODEL_H
