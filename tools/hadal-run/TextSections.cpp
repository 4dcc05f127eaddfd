// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a weights file says of text: its tokenizer, and how it chats.

#include "TextSections.h"

using namespace hadal;
using namespace hadal::run;

std::unique_ptr<text::Tokenizer> run::loadTokenizer(const rt::Weights &weights,
                                                    std::string &error) {
  auto refuse = [&](const char *section) {
    error = std::string(section) + ": " + error;
    return nullptr;
  };
  std::string_view json = weights.section("tokenizer.json");
  if (json.empty()) {
    error = "the model has none";
    return refuse("tokenizer.json");
  }
  auto tokenizer = text::Tokenizer::fromJson(json, error);
  if (!tokenizer)
    return refuse("tokenizer.json");
  json = weights.section("tokenizer_config.json");
  if (!json.empty() && !tokenizer->applyTokenizerConfig(json, error))
    return refuse("tokenizer_config.json");
  json = weights.section("generation_config.json");
  if (!json.empty() && !tokenizer->applyGenerationConfig(json, error))
    return refuse("generation_config.json");
  return tokenizer;
}

std::vector<int32_t> run::findTextPrefix(const text::Tokenizer &tokenizer) {
  std::string error;
  auto special = tokenizer.encode("", /*addSpecial=*/true,
                                  /*parseSpecial=*/false, error);
  if (special && !special->empty() && special->front() == tokenizer.bosId())
    return {tokenizer.bosId()};
  return {};
}

std::optional<text::ChatFormat>
run::findChatFormat(const rt::Weights &weights,
                    const text::Tokenizer &tokenizer, std::string &error) {
  std::string_view chatTemplate = weights.section("chat_template.jinja");
  if (!chatTemplate.empty())
    return text::detectChatTemplate(chatTemplate, tokenizer, error);
  return text::detectChatFormat(weights.section("tokenizer_config.json"),
                                tokenizer, error);
}
