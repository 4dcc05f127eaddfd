// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Answers a question with a compiled model, in C++ with the text library: one
// step for the prompt, then a step a token, printed as it comes.

#include "abyss.h" // Made by hadalc --emit=lib: declares abyss_model.

#include "hadal_rt/hadal_rt.h"
#include "hadal_text/chat.h"
#include "hadal_text/sampler.h"
#include "hadal_text/tokenizer.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

using namespace hadal;

static void check(hadal_rt_status_t status) {
  if (status == HADAL_RT_OK)
    return;
  fprintf(stderr, "error: %s\n", hadal_rt_last_error());
  exit(1);
}

[[noreturn]] static void fail(const std::string &error) {
  fprintf(stderr, "error: %s\n", error.c_str());
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s QUESTION\n", argv[0]);
    return 2;
  }
  hadal_rt_weights_t *weights;
  check(hadal_rt_weights_open(&abyss_model, "abyss.weights", &weights));

  // The tokenizer is a section of the weights file.
  const void *data;
  uint64_t bytes;
  check(hadal_rt_weights_section(weights, "tokenizer.json", &data, &bytes));
  std::string error;
  auto tokenizer = text::Tokenizer::fromJson(
      {static_cast<const char *>(data), size_t(bytes)}, error);
  if (!tokenizer)
    fail(error);
  if (!hadal_rt_weights_section(weights, "tokenizer_config.json", &data,
                                &bytes) &&
      !tokenizer->applyTokenizerConfig(
          {static_cast<const char *>(data), size_t(bytes)}, error))
    fail(error);

  auto prompt =
      text::renderChat(text::ChatFormat::V3, {{"user", argv[1]}}, {}, error);
  if (!prompt)
    fail(error);
  auto tokens = tokenizer->encode(*prompt, /*addSpecial=*/false,
                                  /*parseSpecial=*/true, error);
  if (!tokens)
    fail(error);

  constexpr int64_t answerTokens = 200;
  hadal_rt_session_options_t options = {};
  options.max_step_tokens = int64_t(tokens->size());
  options.kv_tokens = int64_t(tokens->size()) + answerTokens;
  hadal_rt_session_t *session;
  int32_t sequence;
  check(hadal_rt_session_create(&abyss_model, weights, &options, &session));
  check(hadal_rt_sequence_create(session, &sequence));

  text::SamplerOptions sampling;
  sampling.temperature = 0.6f;
  sampling.topP = 0.95f;
  text::Sampler sampler(sampling);
  text::Detokenizer detokenizer(*tokenizer, /*skipSpecial=*/true);
  std::vector<float> logits(size_t(abyss_model.vocab));
  for (int64_t i = 0; i < answerTokens; ++i) {
    // Each token belongs to the one sequence; the last one's logits count.
    std::vector<int32_t> sequences(tokens->size(), sequence);
    int32_t last = int32_t(tokens->size()) - 1;
    check(hadal_rt_session_step(session, tokens->data(), sequences.data(),
                                last + 1, &last, 1, logits.data()));
    int32_t token = sampler.sample(logits.data(), logits.size());
    if (token < 0 || std::binary_search(tokenizer->eosIds().begin(),
                                        tokenizer->eosIds().end(), token))
      break;
    sampler.accept(token);
    tokens->assign(1, token);
    fputs(detokenizer.push(token).c_str(), stdout);
    fflush(stdout);
  }
  puts(detokenizer.flush().c_str());
  hadal_rt_session_free(session);
  hadal_rt_weights_close(weights);
  return 0;
}
