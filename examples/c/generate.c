// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Continues token ids with a compiled model, in plain C: the likeliest token,
// 32 times. The Makefile beside it says how to build it.

#include "abyss.h" // Made by hadalc --emit=lib: declares abyss_model.

#include "hadal_rt/hadal_rt.h"

#include <stdio.h>
#include <stdlib.h>

static void check(hadal_rt_status_t status) {
  if (status == HADAL_RT_OK)
    return;
  fprintf(stderr, "error: %s\n", hadal_rt_last_error());
  exit(1);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s TOKEN_ID...\n", argv[0]);
    return 2;
  }
  hadal_rt_weights_t *weights;
  hadal_rt_session_t *session;
  hadal_rt_session_options_t options = {.kv_tokens = argc + 32};
  int32_t sequence, last = 0;
  check(hadal_rt_weights_open(&abyss_model, "abyss.weights", &weights));
  check(hadal_rt_session_create(&abyss_model, weights, &options, &session));
  check(hadal_rt_sequence_create(session, &sequence));

  float *logits = malloc(sizeof(float) * (size_t)abyss_model.vocab);
  if (!logits)
    return 1;
  for (int step = 1; step < argc + 31; ++step) {
    // A prompt may also be one step of many tokens, which is faster.
    int32_t token = step < argc ? atoi(argv[step]) : last;
    check(hadal_rt_session_step(session, &token, &sequence, 1, &(int32_t){0}, 1,
                                logits));
    last = 0;
    for (int32_t i = 1; i < abyss_model.vocab; ++i)
      if (logits[i] > logits[last])
        last = i;
    if (step >= argc - 1)
      printf("%d\n", last);
  }
  free(logits);
  hadal_rt_session_free(session);
  hadal_rt_weights_close(weights);
  return 0;
}
