// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The chat formats of the family, as the chat templates of the checkpoints
// render them.

#include "hadal_text/chat.h"

#include "Json.h"

namespace hadal::text {

constexpr const char *bosText = "<｜begin▁of▁sentence｜>";
constexpr const char *eosText = "<｜end▁of▁sentence｜>";
constexpr const char *userText = "<｜User｜>";
constexpr const char *assistantText = "<｜Assistant｜>";
constexpr const char *thinkText = "<think>";
constexpr const char *endThinkText = "</think>";
constexpr const char *endOfTurnText = "<|EOT|>";

constexpr const char *coderSystemText =
    "You are an AI programming assistant, utilizing the Deepseek Coder model, "
    "developed by Deepseek Company, and you only answer questions related to "
    "computer science. For politically sensitive questions, security and "
    "privacy issues, and other non-computer science questions, you will refuse "
    "to answer\n";

constexpr const char *turnText = "<|im_start|>";
constexpr const char *endTurnText = "<|im_end|>";
constexpr const char *smolSystemText =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

constexpr std::pair<ChatFormat, const char *> formatNames[] = {
    {ChatFormat::Plain, "plain"},
    {ChatFormat::LLM, "deepseek-llm"},
    {ChatFormat::Coder, "deepseek-coder"},
    {ChatFormat::V3, "deepseek-v3"},
    {ChatFormat::R1, "deepseek-r1"},
    {ChatFormat::R1Distill, "deepseek-r1-distill"},
    {ChatFormat::R1NoPrefill, "deepseek-r1-0528"},
    {ChatFormat::V31, "deepseek-v3.1"},
    {ChatFormat::SmolLM2, "smollm2"},
};

static std::string listFormatNames() {
  std::string list;
  for (auto &[format, name] : formatNames)
    list += (list.empty() ? "" : ", ") + std::string(name);
  return list;
}

static bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

static std::string renderLLM(const std::vector<ChatMessage> &messages,
                             const ChatOptions &options) {
  std::string text;
  for (const ChatMessage &message : messages) {
    if (message.role == "user")
      text += "User: " + message.content + "\n\n";
    else if (message.role == "assistant")
      text += "Assistant: " + message.content + eosText;
    else
      text += message.content + "\n\n";
  }
  if (options.addGenerationPrompt)
    text += "Assistant:";
  return text;
}

static std::string renderCoder(const std::vector<ChatMessage> &messages,
                               const ChatOptions &options) {
  bool hasSystem = false;
  for (const ChatMessage &message : messages)
    hasSystem |= message.role == "system";
  std::string text = hasSystem ? "" : coderSystemText;
  for (const ChatMessage &message : messages) {
    if (message.role == "user")
      text += "### Instruction:\n" + message.content + "\n";
    else if (message.role == "assistant")
      text += "### Response:\n" + message.content + "\n" + endOfTurnText + "\n";
    else
      text += message.content;
  }
  if (options.addGenerationPrompt)
    text += "### Response:\n";
  return text;
}

static std::string renderSmolLM2(const std::vector<ChatMessage> &messages,
                                 const ChatOptions &options) {
  std::string text;
  auto add = [&](const std::string &role, const std::string &content) {
    text += turnText + role + "\n" + content + endTurnText + "\n";
  };
  if (!messages.empty() && messages.front().role != "system")
    add("system", smolSystemText);
  for (const ChatMessage &message : messages)
    add(message.role, message.content);
  if (options.addGenerationPrompt)
    text += std::string(turnText) + "assistant\n";
  return text;
}

/// V3 and all that followed it.
static std::string renderTagged(ChatFormat format,
                                const std::vector<ChatMessage> &messages,
                                const ChatOptions &options) {
  std::string text;
  bool isFirstSystem = true;
  for (const ChatMessage &message : messages) {
    if (message.role != "system")
      continue;
    if (format == ChatFormat::R1Distill)
      text.clear();
    else if (!isFirstSystem)
      text += "\n\n";
    text += message.content;
    isFirstSystem = false;
  }
  // V31 opens an answer only after a question.
  bool isOpen = false;
  for (const ChatMessage &message : messages) {
    if (message.role == "user") {
      text += userText + message.content;
      isOpen = true;
    } else if (message.role == "assistant") {
      std::string content = message.content;
      if (format == ChatFormat::V31) {
        size_t end = content.find(endThinkText);
        if (end != std::string::npos)
          content.erase(0, end + std::string_view(endThinkText).size());
        if (isOpen)
          text += std::string(assistantText) + endThinkText;
      } else {
        size_t end = content.rfind(endThinkText);
        if (format != ChatFormat::V3 && end != std::string::npos)
          content.erase(0, end + std::string_view(endThinkText).size());
        text += assistantText;
      }
      text += content + eosText;
      isOpen = false;
    }
  }
  if (!options.addGenerationPrompt)
    return text;
  switch (format) {
  case ChatFormat::R1:
  case ChatFormat::R1Distill:
    return text + assistantText + thinkText + "\n";
  case ChatFormat::V31:
    if (!isOpen)
      return text;
    return text + assistantText + (options.thinking ? thinkText : endThinkText);
  default:
    return text + assistantText;
  }
}

/// The chat template in \p config; the one named "default" if there are many.
static std::optional<std::string> findTemplate(const Json &config) {
  const Json *json = findMember(config, "chat_template");
  if (!json)
    return std::nullopt;
  if (const auto *text = json->get_ptr<const std::string *>())
    return *text;
  if (json->is_array())
    for (const Json &entry : *json)
      if (stringMember(entry, "name") == "default")
        return stringMember(entry, "template");
  return std::nullopt;
}

/// Whether a template that knows Coder's tags renders what `renderCoder` does:
/// others begin without a bos token, or with other words of their own.
static bool isCoder(std::string_view text) {
  std::string_view system = coderSystemText;
  system.remove_suffix(1); // The newline, which the template escapes.
  return contains(text, "bos_token") &&
         contains(text, std::string(system) + "\\n'");
}

/// Whether nothing follows a question in a template that knows V3's tags.
static bool hasPlainQuestions(std::string_view text) {
  std::string squeezed;
  for (char c : text)
    if (c != ' ' && c != '\n')
      squeezed += c;
  std::string question = "'" + std::string(userText) + "'+message['content']";
  return contains(squeezed, question + "}}") ||
         contains(squeezed, question + "-}}");
}

static std::optional<ChatFormat> classify(std::string_view text) {
  if (contains(text, turnText) && contains(text, endTurnText) &&
      contains(text, smolSystemText))
    return ChatFormat::SmolLM2;
  if (contains(text, "### Instruction:") && contains(text, "### Response:") &&
      contains(text, endOfTurnText))
    return isCoder(text) ? std::optional(ChatFormat::Coder) : std::nullopt;
  if (contains(text, userText) && contains(text, assistantText)) {
    if (!hasPlainQuestions(text))
      return std::nullopt;
    // Tool calls inside of "DSML" tags came with V3.2 and its own encoder.
    if (contains(text, "DSML"))
      return std::nullopt;
    if (contains(text, "not thinking"))
      return contains(text, "{{'</think>'}}") ? std::optional(ChatFormat::V31)
                                              : std::nullopt;
    if (contains(text, "thinking"))
      return std::nullopt;
    if (contains(text, "<｜Assistant｜><think>\\n"))
      return contains(text, "is_first_sp") ? ChatFormat::R1
                                           : ChatFormat::R1Distill;
    if (contains(text, "split('</think>')[-1]"))
      return ChatFormat::R1NoPrefill;
    if (!contains(text, "think>"))
      return ChatFormat::V3;
    return std::nullopt;
  }
  // V2-Chat-0628 frames its system text in "sft" tags; VL2 has other tags.
  if (contains(text, "'User: '") && contains(text, "'Assistant: '") &&
      contains(text, "eos_token") && !contains(text, "<｜sft") &&
      !contains(text, "<|User|>"))
    return ChatFormat::LLM;
  return std::nullopt;
}

std::string_view chatFormatName(ChatFormat format) {
  for (auto &[known, name] : formatNames)
    if (known == format)
      return name;
  return "";
}

std::optional<ChatFormat> parseChatFormat(std::string_view name,
                                          std::string &error) {
  for (auto &[format, known] : formatNames)
    if (name == known)
      return format;
  // Without tools they render alike.
  if (name == "deepseek-v3.2")
    return ChatFormat::V31;
  error = "--chat-format: expected one of " + listFormatNames() + ", but got " +
          quote(name);
  return std::nullopt;
}

std::optional<std::string> renderChat(ChatFormat format,
                                      const std::vector<ChatMessage> &messages,
                                      const ChatOptions &options,
                                      std::string &error) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string &role = messages[i].role;
    if (role == "system" || role == "user" || role == "assistant")
      continue;
    error = "message " + std::to_string(i) +
            ": expected the role system, user or assistant, but got " +
            quote(role);
    return std::nullopt;
  }
  if (options.thinking && format != ChatFormat::V31 &&
      format != ChatFormat::R1 && format != ChatFormat::R1Distill &&
      format != ChatFormat::R1NoPrefill) {
    error = "the chat format " + std::string(chatFormatName(format)) +
            " has no thinking mode";
    return std::nullopt;
  }
  std::string text = options.addBos && format != ChatFormat::Plain &&
                             format != ChatFormat::SmolLM2
                         ? bosText
                         : "";
  switch (format) {
  case ChatFormat::Plain:
    for (const ChatMessage &message : messages)
      text += message.content;
    return text;
  case ChatFormat::LLM:
    return text + renderLLM(messages, options);
  case ChatFormat::Coder:
    return text + renderCoder(messages, options);
  case ChatFormat::V3:
  case ChatFormat::R1:
  case ChatFormat::R1Distill:
  case ChatFormat::R1NoPrefill:
  case ChatFormat::V31:
    return text + renderTagged(format, messages, options);
  case ChatFormat::SmolLM2:
    return text + renderSmolLM2(messages, options);
  }
  error = "unknown chat format";
  return std::nullopt;
}

std::optional<ChatFormat> detectChatFormat(std::string_view tokenizerConfigJson,
                                           const Tokenizer &tokenizer,
                                           std::string &error) {
  std::optional<Json> config =
      parseJson(tokenizerConfigJson, "tokenizer_config.json", error);
  if (!config)
    return std::nullopt;
  std::optional<std::string> text = findTemplate(*config);
  if (!text) {
    error = "tokenizer_config.json: no chat_template; name the format with "
            "--chat-format (" +
            listFormatNames() + ")";
    return std::nullopt;
  }
  return detectChatTemplate(*text, tokenizer, error);
}

std::optional<ChatFormat> detectChatTemplate(std::string_view chatTemplate,
                                             const Tokenizer &tokenizer,
                                             std::string &error) {
  const std::string advice =
      "; name the format with --chat-format (" + listFormatNames() + ")";
  std::optional<ChatFormat> format = classify(chatTemplate);
  if (!format) {
    error = "chat_template: of no known format" + advice;
    return std::nullopt;
  }
  std::vector<std::string_view> needed;
  if (*format == ChatFormat::SmolLM2)
    needed = {turnText, endTurnText};
  else if (*format == ChatFormat::Coder)
    needed = {bosText, endOfTurnText};
  else if (*format == ChatFormat::LLM)
    needed = {bosText, eosText};
  else
    needed = {bosText, eosText, userText, assistantText};
  for (std::string_view token : needed) {
    if (tokenizer.idOf(token) >= 0)
      continue;
    error = "chat_template: looks like " +
            std::string(chatFormatName(*format)) +
            ", but the tokenizer has no token " + quote(token) + advice;
    return std::nullopt;
  }
  return format;
}

} // namespace hadal::text
