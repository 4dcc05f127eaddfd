// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Greedy tokens of llama.cpp, by its library: see bench/beside_llama.py.
//
//     llama_tokens MODEL.gguf PROMPTS COUNT once|again
//
// PROMPTS has the tokens of a prompt in each line, with commas between. Writes
// a line for each: COUNT tokens, or as many as come before the end, each with
// how much its logit is above the next, TOKEN:LEAD,...
//
// `once` is llama.cpp as it comes: each token is computed once, and inputs of
// products with integers are rounded to 8 bits. `again` computes the last 32
// tokens for each new one: the BLAS backend, which takes products of at least
// as many rows, multiplies in f32. The cache is f32 then, too.

#include "ggml-backend.h"
#include "llama.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr size_t blasRows = 32;
constexpr int contextTokens = 2048;

void logErrors(ggml_log_level level, const char *text, void *) {
  if (level == GGML_LOG_LEVEL_ERROR)
    std::fputs(text, stderr);
}

/// The best token of \p count logits, and its lead.
std::pair<llama_token, float> choose(const float *logits, int count) {
  const float *best = std::max_element(logits, logits + count);
  float next = -HUGE_VALF;
  for (const float *each = logits; each < logits + count; ++each)
    if (each != best)
      next = std::max(next, *each);
  return {llama_token(best - logits), *best - next};
}

bool hasBLAS() {
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i)
    if (std::strcmp(ggml_backend_dev_name(ggml_backend_dev_get(i)), "BLAS") ==
        0)
      return true;
  return false;
}

/// Writes the line of one prompt. False: llama.cpp has failed.
bool continuePrompt(llama_context *context, const llama_vocab *vocab,
                    std::vector<llama_token> tokens, int count, bool isAgain) {
  llama_memory_t memory = llama_get_memory(context);
  llama_memory_clear(memory, true);
  llama_batch batch = llama_batch_init(contextTokens, 0, 1);
  size_t begin = 0;
  bool isGood = true;
  for (int i = 0; i < count; ++i) {
    batch.n_tokens = 0;
    for (size_t at = begin; at < tokens.size(); ++at) {
      int j = batch.n_tokens++;
      batch.token[j] = tokens[at];
      batch.pos[j] = llama_pos(at);
      batch.n_seq_id[j] = 1;
      batch.seq_id[j][0] = 0;
      // Rows without logits would leave the last layer before its end.
      batch.logits[j] = isAgain || at + 1 == tokens.size();
    }
    if (llama_decode(context, batch) != 0) {
      isGood = false;
      break;
    }
    auto [token, lead] =
        choose(llama_get_logits_ith(context, batch.n_tokens - 1),
               llama_vocab_n_tokens(vocab));
    std::printf("%s%d:%g", i ? "," : "", token, double(lead));
    if (llama_vocab_is_eog(vocab, token))
      break;
    tokens.push_back(token);
    begin = tokens.size() - 1;
    if (isAgain) {
      begin = tokens.size() - std::min(tokens.size(), blasRows);
      llama_memory_seq_rm(memory, 0, llama_pos(begin), -1);
    }
  }
  std::puts("");
  llama_batch_free(batch);
  return isGood;
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 5) {
    std::fputs("usage: llama_tokens MODEL.gguf PROMPTS COUNT once|again\n",
               stderr);
    return 2;
  }
  bool isAgain = std::strcmp(argv[4], "again") == 0;
  llama_log_set(logErrors, nullptr);
  llama_backend_init();
  ggml_backend_load_all();
  if (isAgain && !hasBLAS()) {
    std::fputs("llama_tokens: this llama.cpp was built without GGML_BLAS\n",
               stderr);
    return 1;
  }
  llama_model_params modelParams = llama_model_default_params();
  // Repacked weights are for the processor's own products.
  modelParams.use_extra_bufts = !isAgain;
  llama_model *model = llama_model_load_from_file(argv[1], modelParams);
  if (!model)
    return 1;
  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = params.n_ubatch = contextTokens;
  // Threads that wait for each other wait long on a machine that is not alone.
  params.n_threads = params.n_threads_batch = 1;
  if (isAgain) {
    params.type_k = params.type_v = GGML_TYPE_F32;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  }
  llama_context *context = llama_init_from_model(model, params);
  if (!context)
    return 1;
  std::ifstream prompts(argv[2]);
  for (std::string line; std::getline(prompts, line);) {
    std::vector<llama_token> tokens;
    std::stringstream words(line);
    for (std::string word; std::getline(words, word, ',');)
      tokens.push_back(llama_token(std::atoi(word.c_str())));
    if (!continuePrompt(context, llama_model_get_vocab(model), tokens,
                        std::atoi(argv[3]), isAgain))
      return 1;
  }
  return 0;
}
