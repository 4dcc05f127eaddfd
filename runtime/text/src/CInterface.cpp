// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The text library for C.

#include "hadal_text/hadal_text.h"

#include "hadal_text/chat.h"
#include "hadal_text/sampler.h"
#include "hadal_text/tokenizer.h"

#include <algorithm>
#include <optional>

using namespace hadal::text;

static thread_local std::string lastError;

static hadal_rt_status_t fail(hadal_rt_status_t status,
                              std::string_view error) {
  lastError = error;
  return status;
}

static hadal_rt_status_t failArgument(std::string_view error) {
  return fail(HADAL_RT_INVALID_ARGUMENT, error);
}

static std::string_view asText(const void *data, uint64_t bytes) {
  return {static_cast<const char *>(data), data ? size_t(bytes) : 0};
}

struct hadal_text {
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<Detokenizer> detokenizer;
  std::optional<ChatFormat> format;
  std::string formatError; ///< Why there is no format.
  std::vector<int32_t> tokens;
  std::string piece;
};

struct hadal_text_sampler {
  Sampler sampler;
};

const char *hadal_text_last_error(void) { return lastError.c_str(); }

hadal_rt_status_t hadal_text_create(const hadal_text_files_t *files,
                                    hadal_text_t **out) {
  if (!out)
    return failArgument("out is null");
  *out = nullptr;
  if (!files)
    return failArgument("files is null");
  std::string_view json =
      asText(files->tokenizer_json, files->tokenizer_json_bytes);
  if (json.empty())
    return fail(HADAL_RT_NOT_FOUND, "the model has no tokenizer.json");
  auto text = std::make_unique<hadal_text>();
  std::string error;
  text->tokenizer = Tokenizer::fromJson(json, error);
  if (!text->tokenizer)
    return failArgument("tokenizer.json: " + error);
  std::string_view config =
      asText(files->tokenizer_config_json, files->tokenizer_config_json_bytes);
  if (!config.empty() && !text->tokenizer->applyTokenizerConfig(config, error))
    return failArgument("tokenizer_config.json: " + error);
  std::string_view generation = asText(files->generation_config_json,
                                       files->generation_config_json_bytes);
  if (!generation.empty() &&
      !text->tokenizer->applyGenerationConfig(generation, error))
    return failArgument("generation_config.json: " + error);
  std::string_view chatTemplate =
      asText(files->chat_template_jinja, files->chat_template_jinja_bytes);
  text->format =
      chatTemplate.empty()
          ? detectChatFormat(config, *text->tokenizer, text->formatError)
          : detectChatTemplate(chatTemplate, *text->tokenizer,
                               text->formatError);
  text->detokenizer.emplace(*text->tokenizer, /*skipSpecial=*/true);
  *out = text.release();
  return HADAL_RT_OK;
}

void hadal_text_free(hadal_text_t *text) { delete text; }

/// Keeps what \p ids holds, for the caller.
static hadal_rt_status_t giveTokens(hadal_text_t *text,
                                    std::optional<std::vector<int32_t>> ids,
                                    const std::string &error,
                                    const int32_t **tokens, int64_t *count) {
  if (!ids)
    return failArgument(error);
  text->tokens = std::move(*ids);
  *tokens = text->tokens.data();
  *count = int64_t(text->tokens.size());
  return HADAL_RT_OK;
}

hadal_rt_status_t hadal_text_encode(hadal_text_t *text, const char *utf8,
                                    uint64_t bytes, const int32_t **tokens,
                                    int64_t *count) {
  if (!text || (!utf8 && bytes) || !tokens || !count)
    return failArgument("an argument of hadal_text_encode is null");
  std::string error;
  auto ids = text->tokenizer->encode(asText(utf8, bytes), /*addSpecial=*/true,
                                     /*parseSpecial=*/true, error);
  return giveTokens(text, std::move(ids), error, tokens, count);
}

hadal_rt_status_t hadal_text_chat(hadal_text_t *text,
                                  const hadal_text_message_t *messages,
                                  int64_t message_count, const char *format,
                                  int32_t thinking, const int32_t **tokens,
                                  int64_t *count) {
  if (!text || (!messages && message_count) || !tokens || !count)
    return failArgument("an argument of hadal_text_chat is null");
  std::string error = text->formatError;
  std::optional<ChatFormat> chatFormat =
      format ? parseChatFormat(format, error) : text->format;
  if (!chatFormat)
    return failArgument(error);
  std::vector<ChatMessage> list;
  for (int64_t i = 0; i < message_count; ++i) {
    if (!messages[i].role || !messages[i].content)
      return failArgument("the role or content of a message is null");
    list.push_back({messages[i].role, messages[i].content});
  }
  ChatOptions options;
  options.thinking = thinking != 0;
  auto rendered = renderChat(*chatFormat, list, options, error);
  if (!rendered)
    return failArgument(error);
  auto ids = text->tokenizer->encode(*rendered, /*addSpecial=*/false,
                                     /*parseSpecial=*/true, error);
  return giveTokens(text, std::move(ids), error, tokens, count);
}

const char *hadal_text_push(hadal_text_t *text, int32_t token) {
  text->piece = text->detokenizer->push(token);
  return text->piece.c_str();
}

const char *hadal_text_flush(hadal_text_t *text) {
  text->piece = text->detokenizer->flush();
  return text->piece.c_str();
}

int32_t hadal_text_is_end(const hadal_text_t *text, int32_t token) {
  const std::vector<int32_t> &ids = text->tokenizer->eosIds();
  return std::binary_search(ids.begin(), ids.end(), token);
}

hadal_rt_status_t
hadal_text_sampler_create(const hadal_text_sampling_t *sampling,
                          hadal_text_sampler_t **out) {
  if (!out)
    return failArgument("out is null");
  *out = nullptr;
  SamplerOptions options;
  options.temperature = 0;
  if (sampling) {
    options.temperature = sampling->temperature;
    options.topK = sampling->top_k;
    options.topP = sampling->top_p == 0 ? 1 : sampling->top_p;
    options.minP = sampling->min_p;
    options.repetitionPenalty =
        sampling->repetition_penalty == 0 ? 1 : sampling->repetition_penalty;
    options.seed = sampling->seed;
  }
  std::string error;
  if (!Sampler::validate(options, error))
    return failArgument(error);
  *out = new hadal_text_sampler{Sampler(options)};
  return HADAL_RT_OK;
}

void hadal_text_sampler_free(hadal_text_sampler_t *sampler) { delete sampler; }

void hadal_text_sampler_accept(hadal_text_sampler_t *sampler, int32_t token) {
  sampler->sampler.accept(token);
}

int32_t hadal_text_sample(hadal_text_sampler_t *sampler, const float *logits,
                          int64_t vocab) {
  if (!sampler) {
    SamplerOptions likeliest;
    likeliest.temperature = 0;
    return Sampler(likeliest).sample(logits, size_t(vocab));
  }
  int32_t token = sampler->sampler.sample(logits, size_t(vocab));
  if (token >= 0)
    sampler->sampler.accept(token);
  return token;
}
