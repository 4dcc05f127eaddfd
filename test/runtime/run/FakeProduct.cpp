// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Stands for an object that the compiler made. Its logits are
//
//     logits[v] = -|v - target|,  target = sum_p (p + 1) (token[p] + 1) mod 258
//
// with the sum over the whole sequence, read from KV pages, so that
// check-run.py can tell what each option must give.

#include "hadal_rt/abi.h"

static constexpr int64_t vocab = 260;
static constexpr int64_t pageTokens = 8;

static int64_t *rowOf(const hadal_rt_step_t *step, int32_t sequence,
                      int64_t position) {
  int32_t page = step->page_table[sequence * step->page_table_stride +
                                  position / pageTokens];
  return reinterpret_cast<int64_t *>(step->kv) + page * pageTokens +
         position % pageTokens;
}

static void writeTokens(const hadal_rt_step_t *step, const int64_t *,
                        int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i)
    *rowOf(step, step->sequences[i], step->positions[i]) =
        int64_t(step->positions[i] + 1) * (step->token_ids[i] + 1);
}

static void writeLogits(const hadal_rt_step_t *step, const int64_t *,
                        int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    int32_t row = step->output_rows[i];
    int64_t sum = 0;
    for (int64_t p = 0; p <= step->positions[row]; ++p)
      sum += *rowOf(step, step->sequences[row], p);
    int64_t target = sum % 258;
    for (int64_t v = 0; v < vocab; ++v)
      step->logits[i * vocab + v] =
          -float(v < target ? target - v : v - target);
  }
}

static void runStep(const hadal_rt_step_t *step) {
  step->dispatch(step->pool, step, writeTokens, nullptr, step->tokens);
  step->dispatch(step->pool, step, writeLogits, nullptr, step->outputs);
}

extern "C" {
extern const char hadal_manifest[];
__attribute__((section(".hadal.manifest"), used)) const char hadal_manifest[] =
    "{\"dispatches\":{\"entry\":\"run\",\"functions\":{\"run\":[{\"call\":"
    "\"layer\",\"name\":\"layers.0\"},{\"name\":\"write_logits\",\"op\":"
    "\"lm_head\",\"kernel\":\"write_logits_260\",\"outputs\":true,"
    "\"weights\":2048,\"context_bytes\":8,\"row_f32_ops\":1000}],"
    "\"layer\":[{\"name\":\"write_tokens\",\"op\":\"embed\",\"kernel\":"
    "\"write_tokens_8\",\"row_bytes\":8,\"row_int8_ops\":500}]}}}";

extern const hadal_rt_model_t hadal_model;
const hadal_rt_model_t hadal_model = {HADAL_RT_ABI_VERSION,
                                      0,
                                      "fake-product",
                                      hadal_manifest,
                                      {42},
                                      4096,
                                      vocab,
                                      /*hidden=*/1,
                                      /*layers=*/1,
                                      /*context=*/600,
                                      pageTokens,
                                      pageTokens * 8,
                                      /*arena_bytes_per_token=*/8,
                                      /*arena_bytes_fixed=*/64,
                                      /*window_tokens=*/0,
                                      /*sink_tokens=*/0,
                                      runStep,
                                      /*adapter_names=*/"",
                                      /*device=*/nullptr,
                                      /*lesser=*/nullptr};
}
