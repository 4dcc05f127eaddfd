// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Answers to completions, whole or in pieces, as OpenAI's API has them.

#include "Answer.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

using namespace hadal;
using namespace hadal::serve;
// Fields in the order of OpenAI's own answers.
using json = nlohmann::ordered_json;

static std::string dump(const json &value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

static std::string makeId(const char *prefix) {
  static constexpr char digits[] = "0123456789abcdef";
  std::random_device random;
  std::string id = prefix;
  for (int i = 0; i < 3; ++i)
    for (uint32_t bits = random(), j = 0; j < 8; ++j, bits >>= 4)
      id += digits[bits & 15];
  return id;
}

Answer::Answer(bool isChat, std::string model, std::string fingerprint,
               const text::Tokenizer &tokenizer)
    : isChat(isChat), model(std::move(model)),
      fingerprint(std::move(fingerprint)),
      id(makeId(isChat ? "chatcmpl-" : "cmpl-")), tokenizer(tokenizer) {}

static json finishReason(std::optional<Finish> finish) {
  if (!finish)
    return nullptr;
  return *finish == Finish::Length ? "length" : "stop";
}

/// JSON has no infinity: a probability of zero becomes what OpenAI's API says.
static double clampLogprob(double logprob) {
  return std::isfinite(logprob) ? std::max(logprob, -9999.0) : -9999.0;
}

/// In a chat: each token with its text, its bytes and the likeliest others.
static json chatLogprobs(const std::vector<TokenLogprobs> &tokens,
                         const text::Tokenizer &tokenizer) {
  auto describe = [&](int32_t token, double logprob) {
    std::string_view bytes = tokenizer.tokenBytes(token);
    return json{{"token", tokenizer.decode({token})},
                {"logprob", clampLogprob(logprob)},
                {"bytes", std::vector<uint8_t>(bytes.begin(), bytes.end())}};
  };
  json content = json::array();
  for (const TokenLogprobs &token : tokens) {
    json entry = describe(token.token, token.logprob);
    json &top = entry["top_logprobs"] = json::array();
    for (auto [other, logprob] : token.top)
      top.push_back(describe(other, logprob));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

/// In a completion: parallel lists.
static json completionLogprobs(const std::vector<TokenLogprobs> &tokens,
                               const text::Tokenizer &tokenizer) {
  json names = json::array(), values = json::array(), tops = json::array();
  for (const TokenLogprobs &token : tokens) {
    names.push_back(tokenizer.decode({token.token}));
    values.push_back(clampLogprob(token.logprob));
    json top = json::object();
    for (auto [other, logprob] : token.top)
      top[tokenizer.decode({other})] = clampLogprob(logprob);
    tops.push_back(std::move(top));
  }
  return {{"tokens", std::move(names)},
          {"token_logprobs", std::move(values)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", nullptr}};
}

static json makeUsage(const Generations &generations) {
  TokenCounts counts = countTokens(generations);
  return {{"prompt_tokens", counts.prompt},
          {"completion_tokens", counts.generated},
          {"total_tokens", counts.prompt + counts.generated},
          {"prompt_tokens_details", {{"cached_tokens", counts.cached}}}};
}

/// What differs between the events of a stream.
struct Answer::Parts {
  json choices = json::array();
  json usage; ///< Null: none.
};

std::string Answer::event(Parts parts) const {
  json event = {
      {"id", id},
      {"object", isChat ? "chat.completion.chunk" : "text_completion"},
      {"created", created},
      {"model", model},
      {"system_fingerprint", fingerprint},
      {"choices", std::move(parts.choices)}};
  if (!parts.usage.is_null())
    event["usage"] = std::move(parts.usage);
  return "data: " + dump(event) + "\n\n";
}

std::string Answer::whole(const std::vector<Delta> &all,
                          const Generations &generations) const {
  bool wants = generations.front()->request().topLogprobs >= 0;
  json choices = json::array();
  for (const Delta &delta : all) {
    json choice = {{"index", choices.size()}};
    if (isChat) {
      choice["message"] = {
          {"role", "assistant"}, {"content", delta.text}, {"refusal", nullptr}};
      choice["logprobs"] =
          wants ? chatLogprobs(delta.logprobs, tokenizer) : json(nullptr);
    } else {
      choice["text"] = delta.text;
      choice["logprobs"] =
          wants ? completionLogprobs(delta.logprobs, tokenizer) : json(nullptr);
    }
    choice["finish_reason"] = finishReason(delta.finish);
    choices.push_back(std::move(choice));
  }
  return dump({{"id", id},
               {"object", isChat ? "chat.completion" : "text_completion"},
               {"created", created},
               {"model", model},
               {"system_fingerprint", fingerprint},
               {"choices", std::move(choices)},
               {"usage", makeUsage(generations)}}) +
         "\n";
}

std::string Answer::begin(size_t index) const {
  if (!isChat)
    return {};
  return event(
      {json::array({{{"index", index},
                     {"delta", {{"role", "assistant"}, {"content", ""}}},
                     {"logprobs", nullptr},
                     {"finish_reason", nullptr}}}),
       nullptr});
}

std::string Answer::piece(size_t index, const Delta &delta) const {
  json choice = {{"index", index}};
  json logprobs = nullptr;
  if (!delta.logprobs.empty())
    logprobs = isChat ? chatLogprobs(delta.logprobs, tokenizer)
                      : completionLogprobs(delta.logprobs, tokenizer);
  if (!isChat)
    choice["text"] = delta.text;
  else if (delta.text.empty())
    choice["delta"] = json::object();
  else
    choice["delta"] = {{"content", delta.text}};
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = finishReason(delta.finish);
  return event({json::array({std::move(choice)}), nullptr});
}

std::string Answer::usage(const Generations &generations) const {
  return event({json::array(), makeUsage(generations)});
}
