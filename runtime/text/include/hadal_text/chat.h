// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From a list of messages to the text that a chat model was trained on.

#ifndef HADAL_TEXT_CHAT_H
#define HADAL_TEXT_CHAT_H

#include "hadal_text/tokenizer.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::text {

/// The name of each, for `--chat-format`, is given by `chatFormatName`.
enum class ChatFormat {
  /// The contents of the messages, one after the other, and nothing else.
  Plain,
  /// DeepSeek LLM, MoE and V2: `User: ` and `Assistant: `.
  LLM,
  /// DeepSeek Coder instruct: `### Instruction:` and `### Response:`.
  Coder,
  /// DeepSeek V3 of December 2024 and March 2025.
  V3,
  /// DeepSeek R1: as V3, starts the answer with `<think>` and a newline, and
  /// drops the reasoning of earlier answers.
  R1,
  /// The distillations of R1: as R1, but with the last system message alone.
  R1Distill,
  /// As R1, but the model writes `<think>` itself: R1-0528, and the first
  /// templates that were published with R1.
  R1NoPrefill,
  /// DeepSeek V3.1 and, without tools, V3.2.
  V31,
  /// SmolLM2 instruct: `<|im_start|>` and `<|im_end|>`, with no bos token and a
  /// system text of its own where there is none.
  SmolLM2,
};

struct ChatMessage {
  /// "system", "user" or "assistant".
  std::string role;
  std::string content;
};

struct ChatOptions {
  /// Whether the answer is to begin with reasoning. V31 alone asks; R1 always
  /// reasons, the others never do.
  bool thinking = false;
  /// Whether to end with what begins an answer.
  bool addGenerationPrompt = true;
  /// Whether to begin with the bos token. False where `Tokenizer::encode` is
  /// told to add it.
  bool addBos = true;
};

/// The name of \p format on a command line, like "deepseek-v3".
std::string_view chatFormatName(ChatFormat format);

/// The format that \p name names. \returns Nothing, with the names there are in
/// \p error, if there is none.
std::optional<ChatFormat> parseChatFormat(std::string_view name,
                                          std::string &error);

/// Renders \p messages as the chat template of the models does. The result is
/// for `Tokenizer::encode` with `addSpecial` false and `parseSpecial` true.
///
/// The text of a special token in a message becomes that token, as it does with
/// the templates; who does not trust the messages has to look for it first.
///
/// System messages of V3, R1 and V31 are joined by an empty line and moved to
/// the front; of R1Distill the last one is. Coder puts its own system text
/// where there is none, and nothing between a given one and what follows, as
/// its template does.
///
/// \returns Nothing, and one line in \p error, for an unknown role, or for
/// thinking with a format that has no such mode.
std::optional<std::string> renderChat(ChatFormat format,
                                      const std::vector<ChatMessage> &messages,
                                      const ChatOptions &options,
                                      std::string &error);

/// Finds the format that the model was trained on, from the `chat_template` in
/// the text of its tokenizer_config.json.
///
/// \param tokenizer Of the same model. A format whose special tokens it lacks
///                  is refused.
/// \returns Nothing, and in \p error one line that names `--chat-format`, if
/// there is no template, or not one of a known format. It does not guess.
std::optional<ChatFormat> detectChatFormat(std::string_view tokenizerConfigJson,
                                           const Tokenizer &tokenizer,
                                           std::string &error);

/// As `detectChatFormat`, for the template itself, which newer checkpoints have
/// in a chat_template.jinja.
std::optional<ChatFormat> detectChatTemplate(std::string_view chatTemplate,
                                             const Tokenizer &tokenizer,
                                             std::string &error);

} // namespace hadal::text

#endif // HADAL_TEXT_CHAT_H
