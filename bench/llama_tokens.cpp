// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Greedy tokens of llama.cpp, by its library: see bench/beside_llama.py.
//
//     llama_tokens MODEL.gguf PROMPTS COUNT once|again|score
//     [SETTING=NUMBER...]
//
// PROMPTS has the tokens of a prompt in each line, with commas between. Writes
// a line for each: COUNT tokens, or as many as come before the end, each with
// how much its logit is above the next, TOKEN:LEAD,...
//
// `once` is llama.cpp as it comes, without BLAS: each token is computed once,
// and inputs of products with integers are rounded to 8 bits. `again` computes
// the last 32 tokens for each new one: the BLAS backend, which takes products
// of at least as many rows, multiplies in f32. The cache is f32 then, too.
// `score` is `once`, and writes the logarithms of the probabilities of the
// tokens of each line but the first.
//
// Settings change what must not matter to a model: `threads` (1), `batch`, the
// most tokens that are computed together (2048), `flash` for flash attention
// (its own choice), `repack` for weights in the order of its kernels (1), and
// `wide` for keys and values in f32 (0).

#include "ggml-backend.h"
#include "llama.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
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

ggml_backend_reg_t findBLAS() {
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i)
    if (ggml_backend_dev_t device = ggml_backend_dev_get(i);
        std::strcmp(ggml_backend_dev_name(device), "BLAS") == 0)
      return ggml_backend_dev_backend_reg(device);
  return nullptr;
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

/// Writes the scores of one line. False: llama.cpp has failed.
bool scoreTokens(llama_context *context, const llama_vocab *vocab,
                 const std::vector<llama_token> &tokens) {
  llama_memory_clear(llama_get_memory(context), true);
  llama_batch batch = llama_batch_init(contextTokens, 0, 1);
  batch.n_tokens = int(tokens.size());
  for (int i = 0; i < batch.n_tokens; ++i) {
    batch.token[i] = tokens[size_t(i)];
    batch.pos[i] = i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = true;
  }
  bool isGood = llama_decode(context, batch) == 0;
  int count = llama_vocab_n_tokens(vocab);
  for (int i = 0; isGood && i + 1 < batch.n_tokens; ++i) {
    const float *logits = llama_get_logits_ith(context, i);
    double best = *std::max_element(logits, logits + count), sum = 0;
    for (int j = 0; j < count; ++j)
      sum += std::exp(logits[j] - best);
    std::printf("%s%.9g", i ? "," : "",
                logits[tokens[size_t(i) + 1]] - best - std::log(sum));
  }
  std::puts("");
  llama_batch_free(batch);
  return isGood;
}

} // namespace

int main(int argc, char **argv) {
  std::map<std::string, int> settings{{"threads", 1},
                                      {"batch", contextTokens},
                                      {"flash", -1},
                                      {"repack", 1},
                                      {"wide", 0}};
  bool isUsage = argc < 5;
  for (int i = 5; i < argc; ++i) {
    std::string_view setting = argv[i];
    auto found =
        settings.find(std::string(setting.substr(0, setting.find('='))));
    if (found == settings.end() || setting.find('=') == setting.npos)
      isUsage = true;
    else
      found->second = std::atoi(std::strchr(argv[i], '=') + 1);
  }
  if (isUsage) {
    std::fputs("usage: llama_tokens MODEL.gguf PROMPTS COUNT once|again|score "
               "[SETTING=NUMBER...]\n",
               stderr);
    return 2;
  }
  bool isAgain = std::strcmp(argv[4], "again") == 0;
  llama_log_set(logErrors, nullptr);
  llama_backend_init();
  ggml_backend_load_all();
  ggml_backend_reg_t blas = findBLAS();
  if (blas && !isAgain) // It would take the products of prompts.
    ggml_backend_unload(blas);
  if (isAgain && !blas) {
    std::fputs("llama_tokens: this llama.cpp was built without GGML_BLAS\n",
               stderr);
    return 1;
  }
  llama_model_params modelParams = llama_model_default_params();
  // Repacked weights are for the processor's own products.
  modelParams.use_extra_bufts = !isAgain && settings["repack"];
  llama_model *model = llama_model_load_from_file(argv[1], modelParams);
  if (!model)
    return 1;
  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = contextTokens;
  params.n_ubatch = settings["batch"];
  // Threads that wait for each other wait long on a machine that is not alone.
  params.n_threads = params.n_threads_batch = settings["threads"];
  if (isAgain || settings["wide"])
    params.type_k = params.type_v = GGML_TYPE_F32;
  params.flash_attn_type =
      llama_flash_attn_type(isAgain ? 0 : settings["flash"]);
  llama_context *context = llama_init_from_model(model, params);
  if (!context)
    return 1;
  std::ifstream prompts(argv[2]);
  for (std::string line; std::getline(prompts, line);) {
    std::vector<llama_token> tokens;
    std::stringstream words(line);
    for (std::string word; std::getline(words, word, ',');)
      tokens.push_back(llama_token(std::atoi(word.c_str())));
    const llama_vocab *vocab = llama_model_get_vocab(model);
    if (!(std::strcmp(argv[4], "score") == 0
              ? scoreTokens(context, vocab, tokens)
              : continuePrompt(context, vocab, tokens, std::atoi(argv[3]),
                               isAgain)))
      return 1;
  }
  return 0;
}
