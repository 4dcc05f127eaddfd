// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Answers a question with a compiled model, in C. The Makefile beside it says
// how to build it, also as one static binary.

#include "abyss.h" // Made by hadalc --emit=lib: declares abyss_model.
#include "hadal_text/hadal_text.h"
#include <stdio.h>

static int fail(const char *error) {
  return fprintf(stderr, "error: %s\n", error), 1;
}

int main(int argc, char **argv) {
  hadal_rt_weights_t *weights;
  hadal_rt_session_t *session;
  hadal_text_t *text;
  hadal_text_sampler_t *sampler;
  const int32_t *prompt;
  int64_t count;
  int32_t sequence, sequences[512], token;
  static float logits[ABYSS_VOCAB];
  if (hadal_rt_weights_open(&abyss_model, "abyss.weights", &weights) ||
      hadal_rt_session_create(&abyss_model, weights, NULL, &session) ||
      hadal_rt_sequence_create(session, &sequence))
    return fail(hadal_rt_last_error());
  hadal_text_message_t message = {"user", argc > 1 ? argv[1] : "Hello"};
  if (hadal_text_open(weights, &text) ||
      hadal_text_chat(text, &message, 1, "deepseek-v3", 0, &prompt, &count) ||
      hadal_text_sampler_create(
          &(hadal_text_sampling_t){.temperature = 0.6f, .top_p = 0.95f},
          &sampler))
    return fail(hadal_text_last_error());
  for (int i = 0; i < 512; ++i)
    sequences[i] = sequence;
  for (int i = 0; i < 200; ++i, prompt = &token, count = 1) {
    if (hadal_rt_session_step(session, prompt, sequences, count,
                              &(int32_t){(int32_t)count - 1}, 1, logits))
      return fail(hadal_rt_last_error());
    token = hadal_text_sample(sampler, logits, ABYSS_VOCAB);
    if (token < 0 || hadal_text_is_end(text, token))
      break;
    fputs(hadal_text_push(text, token), stdout);
    fflush(stdout);
  }
  puts(hadal_text_flush(text));
  hadal_text_sampler_free(sampler);
  hadal_text_free(text);
  hadal_rt_session_free(session);
  hadal_rt_weights_close(weights);
  return 0;
}
