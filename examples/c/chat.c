// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Answers a question with a compiled model, in 30 lines of C: those of main().
// The Makefile beside it says how to build it, also as one static binary.

#include "abyss.h" // Made by hadalc --emit=lib: declares abyss_model.
#include "hadal_text/hadal_text.h"
#include <stdio.h>

int main(int argc, char **argv) {
  hadal_text_message_t message = {"user", argc > 1 ? argv[1] : "Hello"};
  static float logits[ABYSS_VOCAB];
  const char *error = NULL;
  hadal_rt_weights_t *weights = NULL;
  hadal_rt_session_t *session = NULL;
  hadal_text_t *text = NULL;
  const int32_t *next = NULL;
  int64_t count = 0;
  int32_t sequence = -1, token;
  if (hadal_rt_weights_open(&abyss_model, "abyss.weights", &weights) ||
      hadal_rt_session_create(&abyss_model, weights, NULL, &session) ||
      hadal_rt_sequence_create(session, &sequence))
    error = hadal_rt_last_error();
  else if (hadal_text_open(weights, &text) ||
           hadal_text_chat(text, &message, 1, NULL, 0, &next, &count))
    error = hadal_text_last_error();
  for (int i = 0; !error && i < 200; ++i, next = &token, count = 1) {
    if (hadal_rt_sequence_append(session, sequence, next, count, logits))
      error = hadal_rt_last_error();
    token = hadal_text_sample(NULL, logits, ABYSS_VOCAB);
    if (error || hadal_text_is_end(text, token))
      break;
    fputs(hadal_text_push(text, token), stdout);
    fflush(stdout);
  }
  error ? fprintf(stderr, "error: %s\n", error) : puts(hadal_text_flush(text));
  hadal_text_free(text);
  hadal_rt_session_free(session);
  hadal_rt_weights_close(weights);
  return error != NULL;
}
