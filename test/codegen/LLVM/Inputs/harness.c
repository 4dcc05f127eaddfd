// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs one step of the model of tiny.mlir with a dispatch that splits its items
// in two, and compares with the same sums in C. All numbers are small integers,
// so that any order of summation gives the same floats.

#include "hadal_rt/abi.h"

#include <stdio.h>
#include <string.h>

enum { Vocab = 16, Hidden = 32, Tokens = 7, Outputs = 2, PageTokens = 3 };

extern const hadal_rt_model_t hadal_model;

static int dispatches;

static void dispatch(void *pool, const hadal_rt_step_t *step,
                     hadal_rt_kernel_t kernel, const int64_t *params,
                     int64_t items) {
  ++*(int *)pool;
  kernel(step, params, items / 2, items);
  kernel(step, params, 0, items / 2);
}

static int fail(const char *what, double expected, double got) {
  fprintf(stderr, "expected %s %g, but got %g\n", what, expected, got);
  return 1;
}

static float embedding(int token, int column) {
  return (float)((token * 7 + column * 3) % 11 - 5);
}
static float head(int row, int column) {
  return (float)((row * 5 + column) % 7 - 3);
}

int main(void) {
  _Alignas(64) static uint8_t weights[4096];
  for (int i = 0; i < Vocab; ++i)
    for (int j = 0; j < Hidden; ++j) {
      // The upper half of a float is a bf16; small integers lose nothing.
      float value = embedding(i, j);
      memcpy(weights + 2 * (i * Hidden + j), (uint8_t *)&value + 2, 2);
      static const uint16_t halves[7] = {0xc200, 0xc000, 0xbc00, 0,
                                         0x3c00, 0x4000, 0x4200};
      memcpy(weights + 1088 + 2 * (i * Hidden + j),
             &halves[(int)head(i, j) + 3], 2);
    }
  for (int i = 0; i < Vocab; ++i) {
    float value = (float)(i + 1);
    memcpy(weights + 1024 + 4 * i, &value, 4);
  }

  if (hadal_model.abi_version != HADAL_RT_ABI_VERSION)
    return fail("abi_version", HADAL_RT_ABI_VERSION, hadal_model.abi_version);
  if (strcmp(hadal_model.name, "Tiny") ||
      strcmp(hadal_model.manifest, "{\"model\": \"tiny\"}"))
    return fail("name and manifest", 0, 1);
  if (hadal_model.layout_hash[1] != 1 || hadal_model.layout_hash[15] != 0xff)
    return fail("layout_hash", 0xff, hadal_model.layout_hash[15]);
  if (hadal_model.vocab != Vocab || hadal_model.hidden != Hidden ||
      hadal_model.layers != 2 || hadal_model.context != 32 ||
      hadal_model.page_tokens != PageTokens || hadal_model.page_bytes != 1024 ||
      hadal_model.weights_bytes != 2112)
    return fail("sizes", 0, 1);
  if (hadal_model.arena_bytes_per_token != 192 + 64 + 192 ||
      hadal_model.arena_bytes_fixed != 0)
    return fail("arena_bytes_per_token", 448,
                (double)hadal_model.arena_bytes_per_token);

  // Two sequences, of 5 and 2 tokens, in pages that are not in order.
  static const int32_t ids[Tokens] = {3, 15, 0, 7, 9, 4, 3};
  static const int32_t sequences[Tokens] = {1, 1, 1, 1, 1, 0, 0};
  static const int32_t positions[Tokens] = {0, 1, 2, 3, 4, 0, 1};
  static const int32_t rows[Outputs] = {4, 6};
  static const int32_t pages[4] = {2, -1, 4, 1};
  _Alignas(64) static uint8_t kv[5 * 1024];
  _Alignas(64) static uint8_t arena[Tokens * 448 + 64];
  static float logits[Outputs * Vocab + 1];
  memset(arena, 0xa5, sizeof(arena));
  logits[Outputs * Vocab] = 1234;
  hadal_rt_step_t step = {.dispatch = dispatch,
                          .pool = &dispatches,
                          .weights = weights,
                          .arena = arena,
                          .kv = kv,
                          .page_table = pages,
                          .page_table_stride = 2,
                          .token_ids = ids,
                          .positions = positions,
                          .sequences = sequences,
                          .output_rows = rows,
                          .logits = logits,
                          .tokens = Tokens,
                          .outputs = Outputs};
  hadal_model.step(&step);

  if (dispatches != 7)
    return fail("dispatches", 7, dispatches);
  for (int o = 0; o < Outputs; ++o)
    for (int v = 0; v < Vocab; ++v) {
      float expected = (float)ids[rows[o]] + (v < 10 ? (float)(v + 1) : 0);
      for (int j = 0; j < Hidden; ++j) {
        float sum = 0;
        for (int t = 0; t <= rows[o]; ++t)
          if (sequences[t] == sequences[rows[o]])
            sum += embedding(ids[t], j);
        expected += 2 * sum * head(v, j);
      }
      if (logits[o * Vocab + v] != expected)
        return fail("logit", expected, logits[o * Vocab + v]);
    }
  if (logits[Outputs * Vocab] != 1234)
    return fail("nothing behind the logits", 1234, logits[Outputs * Vocab]);
  for (int i = 0; i < 64; ++i)
    if (arena[Tokens * 448 + i] != 0xa5)
      return fail("nothing behind the arena", 0xa5, arena[Tokens * 448 + i]);
  puts("ok");
  return 0;
}
