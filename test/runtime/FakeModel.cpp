// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A model whose step is written by hand, and weights files to go with it.

#include "FakeModel.h"

#include "gtest/gtest.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <unistd.h>

using namespace fake;

bool fake::poisonPages = false;
int64_t fake::windowTokens = 0;
int32_t fake::stepAdapters[4];
int64_t fake::sinkTokens = 0;

/// Whether the token at \p position sees the one at \p other.
static bool sees(int64_t position, int64_t other) {
  return other <= position && (!windowTokens || other < sinkTokens ||
                               other > position - windowTokens);
}

int64_t fake::openDevices = 0;
bool fake::failsToOpen = false;
bool fake::failsToStep = false;

static const uint8_t layoutHash[16] = {1, 2, 3, 4, 5, 6, 7, 8};

static float *rowOf(const hadal_rt_step_t *step, int32_t sequence,
                    int64_t position) {
  int32_t page = step->page_table[sequence * step->page_table_stride +
                                  position / pageTokens];
  return reinterpret_cast<float *>(step->kv) + page * pageTokens +
         position % pageTokens;
}

/// Writes what the tokens [first, last) contribute to their pages. params:
/// {the address of an int64 in the arena a token, which it fills, too}.
static void writeTokens(const hadal_rt_step_t *step, const int64_t *params,
                        int64_t first, int64_t last) {
  auto *seen = reinterpret_cast<int64_t *>(params[0]);
  for (int64_t i = first; i < last; ++i) {
    *rowOf(step, step->sequences[i], step->positions[i]) =
        float((step->positions[i] + 1) * (step->token_ids[i] + 1));
    seen[i] = step->positions[i];
  }
}

/// Computes the logits of outputs [first, last).
static void readTokens(const hadal_rt_step_t *step, const int64_t *params,
                       int64_t first, int64_t last) {
  auto *seen = reinterpret_cast<int64_t *>(params[0]);
  auto *weights = reinterpret_cast<const float *>(step->weights);
  for (int64_t i = first; i < last; ++i) {
    int32_t row = step->output_rows[i];
    float sum = 0;
    int64_t end = (seen[row] / pageTokens + 1) * pageTokens;
    int64_t position = step->positions[row];
    for (int64_t p = 0; p < end; ++p) {
      // A page of which nothing is seen may be another sequence's.
      int64_t last = p / pageTokens * pageTokens + pageTokens - 1;
      if (windowTokens && last <= position - windowTokens &&
          last - (pageTokens - 1) >= sinkTokens)
        continue;
      sum += *rowOf(step, step->sequences[row], p) *
             (sees(position, p) ? 1.0f : 0.0f);
    }
    for (int64_t v = 0; v < vocab; ++v)
      step->logits[i * vocab + v] = weights[v] * sum;
  }
}

static void runStep(const hadal_rt_step_t *step) {
  for (int64_t i = 0; i < step->tokens && i < 4; ++i)
    fake::stepAdapters[i] = step->adapters[i];
  int64_t params[] = {reinterpret_cast<int64_t>(step->arena) + 64};
  step->dispatch(step->pool, step, writeTokens, params, step->tokens);
  step->dispatch(step->pool, step, readTokens, params, step->outputs);
  if (!poisonPages)
    return;
  for (int64_t i = 0; i < step->tokens; ++i)
    for (int64_t p = 0; p < pageTokens; ++p)
      *rowOf(step, step->sequences[i],
             step->positions[i] / pageTokens * pageTokens + p) = NAN;
}

hadal_rt_model_t fake::makeModel() {
  hadal_rt_model_t model = {};
  model.abi_version = HADAL_RT_ABI_VERSION;
  model.name = "fake";
  model.manifest = "{}";
  memcpy(model.layout_hash, layoutHash, sizeof(layoutHash));
  model.weights_bytes = vocab * sizeof(float);
  model.vocab = vocab;
  model.hidden = 1;
  model.layers = 1;
  model.context = context;
  model.page_tokens = pageTokens;
  model.page_bytes = pageTokens * sizeof(float);
  model.arena_bytes_per_token = sizeof(int64_t);
  model.arena_bytes_fixed = 64;
  model.window_tokens = windowTokens;
  model.sink_tokens = sinkTokens;
  model.step = runStep;
  model.adapter_names = "first\0second\0";
  return model;
}

namespace {

struct Device {
  const hadal_rt_model_t *model;
  std::vector<uint8_t> weights;
  std::vector<uint64_t> arena;
  std::vector<float> kv;

  float *page(int64_t index) { return kv.data() + index * pageTokens; }
};

} // namespace

static int64_t deviceBytes(const hadal_rt_model_t *model,
                           const hadal_rt_device_sizes_t *sizes) {
  return sizes->arena_bytes + sizes->pages * model->page_bytes;
}

static int32_t openDevice(const hadal_rt_model_t *model, const uint8_t *weights,
                          const hadal_rt_device_sizes_t *sizes, void **out) {
  if (failsToOpen)
    return HADAL_RT_OUT_OF_MEMORY;
  ++openDevices;
  *out = new Device{model,
                    {weights, weights + model->weights_bytes},
                    std::vector<uint64_t>(size_t(sizes->arena_bytes + 7) / 8),
                    std::vector<float>(size_t(sizes->pages * pageTokens))};
  return HADAL_RT_OK;
}

static void closeDevice(void *device) {
  --openDevices;
  delete static_cast<Device *>(device);
}

static void zeroDevicePage(void *device, int64_t page) {
  std::fill_n(static_cast<Device *>(device)->page(page), pageTokens, 0.0f);
}

static void copyDevicePage(void *device, int64_t to, int64_t from) {
  auto *self = static_cast<Device *>(device);
  std::copy_n(self->page(from), pageTokens, self->page(to));
}

static int32_t stepDevice(void *device, const hadal_rt_step_t *given) {
  if (failsToStep)
    return HADAL_RT_DEVICE_ERROR;
  auto *self = static_cast<Device *>(device);
  EXPECT_EQ(given->kv, nullptr);
  EXPECT_EQ(given->arena, nullptr);
  EXPECT_EQ(given->weights, nullptr);
  hadal_rt_step_t step = *given;
  step.dispatch = [](void *, const hadal_rt_step_t *of,
                     hadal_rt_kernel_t kernel, const int64_t *params,
                     int64_t items) { kernel(of, params, 0, items); };
  step.weights = self->weights.data();
  step.arena = reinterpret_cast<uint8_t *>(self->arena.data());
  step.kv = reinterpret_cast<uint8_t *>(self->kv.data());
  self->model->step(&step);
  return HADAL_RT_OK;
}

static const hadal_rt_device_calls_t deviceCalls = {
    deviceBytes,    openDevice,     closeDevice,
    zeroDevicePage, copyDevicePage, stepDevice};
const hadal_rt_device_t fake::device = {&deviceCalls, nullptr, nullptr,
                                        nullptr};

std::vector<float> fake::expectedLogits(const std::vector<int32_t> &tokens) {
  float sum = 0;
  for (size_t p = 0; p < tokens.size(); ++p)
    if (sees(int64_t(tokens.size()) - 1, int64_t(p)))
      sum += float((p + 1) * size_t(tokens[p] + 1));
  std::vector<float> logits;
  logits.reserve(vocab);
  for (int64_t v = 0; v < vocab; ++v)
    logits.push_back(float(v + 1) * sum);
  return logits;
}

WeightsFile::WeightsFile() : bytes(3 * 4096 + 5) {
  hadal_rt_weights_header_t &h = header();
  memcpy(h.magic, HADAL_RT_WEIGHTS_MAGIC, 8);
  h.version = HADAL_RT_WEIGHTS_VERSION;
  h.section_count = 3;
  memcpy(h.layout_hash, layoutHash, sizeof(layoutHash));
  h.file_bytes = bytes.size();
  h.sections[0] = {"weights", 4096, vocab * sizeof(float)};
  h.sections[1] = {"manifest", 8192, 2};
  h.sections[2] = {"tokenizer.json", 3 * 4096, 5};
  for (int64_t v = 0; v < vocab; ++v) {
    float weight = float(v + 1);
    memcpy(&bytes[4096 + size_t(v) * sizeof(float)], &weight, sizeof(float));
  }
  memcpy(&bytes[8192], "{}", 2);
  memcpy(&bytes[3 * 4096], "hello", 5);
}

TemporaryFile::TemporaryFile(const std::vector<char> &bytes)
    : name(testing::TempDir() + "hadal-test-XXXXXX") {
  int descriptor = mkstemp(name.data());
  EXPECT_GE(descriptor, 0);
  EXPECT_EQ(write(descriptor, bytes.data(), bytes.size()),
            ssize_t(bytes.size()));
  close(descriptor);
}

TemporaryFile::~TemporaryFile() { unlink(name.c_str()); }
