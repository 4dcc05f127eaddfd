// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Answers a question with a compiled model, in C. The Makefile beside it says
// how to build it, also as one static binary.

#include "abyss.h" // Made by hadalc --emit=lib: declares abyss_model.
#include "hadal_text/hadal_text.h"
#include <stdio.h>

int main(int argc, char **argv) {
  hadal_rt_weights_t *weights;
  hadal_rt_session_t *session;
  hadal_text_t *text;
  hadal_text_sampler_t *sampler;
  hadal_text_message_t message = {"user", argc > 1 ? argv[1] : "Hello"};
  const int32_t *prompt;
  int64_t count;
  int32_t sequence, token, row = 0;
  static float logits[ABYSS_VOCAB];
  if (hadal_rt_weights_open(&abyss_model, "abyss.weights", &weights) ||
      hadal_rt_session_create(&abyss_model, weights, NULL, &session) ||
      hadal_rt_sequence_create(session, &sequence))
    return fprintf(stderr, "error: %s\n", hadal_rt_last_error()), 1;
  if (hadal_text_open(weights, &text) ||
      hadal_text_chat(text, &message, 1, "deepseek-v3", 0, &prompt, &count) ||
      hadal_text_sampler_create(NULL, &sampler)) // Null: the likeliest token.
    return fprintf(stderr, "error: %s\n", hadal_text_last_error()), 1;
  // A step for each token; examples/cpp gives the prompt to one.
  for (int64_t i = 0; i < count + 200; ++i) {
    token =
        i < count ? prompt[i] : hadal_text_sample(sampler, logits, ABYSS_VOCAB);
    if (i >= count && (token < 0 || hadal_text_is_end(text, token)))
      break;
    fputs(i < count ? "" : hadal_text_push(text, token), stdout);
    fflush(stdout);
    if (hadal_rt_session_step(session, &token, &sequence, 1, &row, 1, logits))
      return fprintf(stderr, "error: %s\n", hadal_rt_last_error()), 1;
  }
  return puts(hadal_text_flush(text)) < 0; // The system frees what is left.
}
