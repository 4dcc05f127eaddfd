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
  int32_t sequence;
  check(hadal_rt_weights_open(&abyss_model, "abyss.weights", &weights));
  check(hadal_rt_session_create(&abyss_model, weights, &options, &session));
  check(hadal_rt_sequence_create(session, &sequence));

  float *logits = malloc(sizeof(float) * (size_t)abyss_model.vocab);
  int32_t *tokens = malloc(sizeof(int32_t) * (size_t)argc);
  if (!logits || !tokens)
    return 1;
  // The whole prompt at once, then each token that follows.
  for (int i = 0; i < argc - 1; ++i)
    tokens[i] = atoi(argv[i + 1]);
  for (int64_t count = argc - 1, step = 0; step < 32; ++step, count = 1) {
    check(hadal_rt_sequence_append(session, sequence, tokens, count, logits));
    tokens[0] = 0;
    for (int32_t i = 1; i < abyss_model.vocab; ++i)
      if (logits[i] > logits[tokens[0]])
        tokens[0] = i;
    printf("%d\n", tokens[0]);
  }
  free(tokens);
  free(logits);
  hadal_rt_session_free(session);
  hadal_rt_weights_close(weights);
  return 0;
}
