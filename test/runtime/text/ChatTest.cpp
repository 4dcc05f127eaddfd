// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Each chat format, letter by letter, and its detection.

#include "Vectors.h"

#include "hadal_text/chat.h"

using namespace hadal::text;
using namespace hadal::text::test;

namespace {

const std::vector<ChatMessage> conversation = {
    {"system", "Be brief."},
    {"user", "Hi"},
    {"assistant", "<think>a greeting</think>Hello"},
    {"user", "1+1?"}};

std::string render(ChatFormat format, const std::vector<ChatMessage> &messages,
                   ChatOptions options = {}) {
  std::string error;
  auto text = renderChat(format, messages, options, error);
  EXPECT_TRUE(text) << error;
  return text.value_or("");
}

TEST(Chat, Plain) {
  EXPECT_EQ(render(ChatFormat::Plain, {{"user", "Once upon"}}), "Once upon");
}

TEST(Chat, LLM) {
  EXPECT_EQ(render(ChatFormat::LLM, {{"system", "Be brief."},
                                     {"user", "Hi"},
                                     {"assistant", "Hello"},
                                     {"user", "1+1?"}}),
            "<｜begin▁of▁sentence｜>Be brief.\n\nUser: Hi\n\nAssistant: Hello"
            "<｜end▁of▁sentence｜>User: 1+1?\n\nAssistant:");
}

TEST(Chat, Coder) {
  EXPECT_EQ(render(ChatFormat::Coder, {{"system", "Be brief."},
                                       {"user", "Hi"},
                                       {"assistant", "Hello"},
                                       {"user", "1+1?"}}),
            "<｜begin▁of▁sentence｜>Be brief.### Instruction:\nHi\n"
            "### Response:\nHello\n<|EOT|>\n### Instruction:\n1+1?\n"
            "### Response:\n");
}

TEST(Chat, CoderHasItsOwnSystemText) {
  EXPECT_EQ(
      render(ChatFormat::Coder, {{"user", "Hi"}}),
      "<｜begin▁of▁sentence｜>You are an AI programming assistant, utilizing "
      "the Deepseek Coder model, developed by Deepseek Company, and you only "
      "answer questions related to computer science. For politically sensitive "
      "questions, security and privacy issues, and other non-computer science "
      "questions, you will refuse to answer\n### Instruction:\nHi\n"
      "### Response:\n");
}

TEST(Chat, SmolLM2) {
  EXPECT_EQ(
      render(ChatFormat::SmolLM2,
             {{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Hello"}}),
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi"
      "<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
      "<|im_start|>assistant\n");
  EXPECT_EQ(
      render(ChatFormat::SmolLM2, {{"user", "Hi"}}),
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
      "trained by Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
      "<|im_start|>assistant\n");
}

// Its tokens are not those of the family.
TEST(ChatDetection, SmolLM2) {
  auto tokenizer = loadTokenizer("deepseek-v3");
  ASSERT_NE(tokenizer, nullptr);
  std::string error;
  EXPECT_FALSE(detectChatTemplate(
      "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
      "trained by Hugging Face<|im_end|>\n' }}",
      *tokenizer, error));
  EXPECT_EQ(error.substr(0, error.find(';')),
            "chat_template: looks like smollm2, but the tokenizer has no token "
            "'<|im_start|>'");
}

TEST(Chat, V3) {
  EXPECT_EQ(render(ChatFormat::V3, {{"system", "Be brief."},
                                    {"user", "Hi"},
                                    {"assistant", "Hello"},
                                    {"user", "1+1?"}}),
            "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi<｜Assistant｜>Hello"
            "<｜end▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜>");
}

TEST(Chat, V3JoinsSystemMessages) {
  EXPECT_EQ(render(ChatFormat::V3,
                   {{"system", "A"}, {"user", "Hi"}, {"system", "B"}}),
            "<｜begin▁of▁sentence｜>A\n\nB<｜User｜>Hi<｜Assistant｜>");
}

TEST(Chat, R1DistillTakesTheLastSystemMessage) {
  EXPECT_EQ(render(ChatFormat::R1Distill,
                   {{"system", "A"}, {"user", "Hi"}, {"system", "B"}}),
            "<｜begin▁of▁sentence｜>B<｜User｜>Hi<｜Assistant｜><think>\n");
  EXPECT_EQ(render(ChatFormat::R1Distill, conversation),
            render(ChatFormat::R1, conversation));
}

TEST(Chat, R1DropsEarlierReasoning) {
  EXPECT_EQ(render(ChatFormat::R1, conversation),
            "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi<｜Assistant｜>Hello"
            "<｜end▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜><think>\n");
  EXPECT_EQ(render(ChatFormat::R1NoPrefill, conversation),
            "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi<｜Assistant｜>Hello"
            "<｜end▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜>");
}

TEST(Chat, V31) {
  std::string history =
      "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi<｜Assistant｜></think>Hello"
      "<｜end▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜>";
  EXPECT_EQ(render(ChatFormat::V31, conversation), history + "</think>");
  ChatOptions options;
  options.thinking = true;
  EXPECT_EQ(render(ChatFormat::V31, conversation, options),
            history + "<think>");
  EXPECT_EQ(render(ChatFormat::V31, {{"assistant", "Hello"}}, options),
            "<｜begin▁of▁sentence｜>Hello<｜end▁of▁sentence｜>");
}

// R1 keeps what follows the last `</think>` of an answer, V3.1 the first.
TEST(Chat, WhichEndOfThinking) {
  std::vector<ChatMessage> messages = {{"user", "Hi"},
                                       {"assistant", "a</think>b</think>c"}};
  ChatOptions options;
  options.addGenerationPrompt = false;
  options.addBos = false;
  EXPECT_EQ(render(ChatFormat::R1, messages, options),
            "<｜User｜>Hi<｜Assistant｜>c<｜end▁of▁sentence｜>");
  EXPECT_EQ(
      render(ChatFormat::V31, messages, options),
      "<｜User｜>Hi<｜Assistant｜></think>b</think>c<｜end▁of▁sentence｜>");
}

TEST(Chat, WithoutGenerationPromptOrBos) {
  ChatOptions options;
  options.addGenerationPrompt = false;
  options.addBos = false;
  EXPECT_EQ(render(ChatFormat::LLM, {{"user", "Hi"}}, options), "User: Hi\n\n");
  EXPECT_EQ(render(ChatFormat::V3, {{"user", "Hi"}}, options), "<｜User｜>Hi");
}

TEST(Chat, Errors) {
  std::string error;
  ChatOptions options;
  EXPECT_FALSE(
      renderChat(ChatFormat::V3, {{"user", ""}, {"tool", ""}}, options, error));
  EXPECT_EQ(error, "message 1: expected the role system, user or assistant, "
                   "but got 'tool'");
  options.thinking = true;
  EXPECT_FALSE(renderChat(ChatFormat::V3, {{"user", "Hi"}}, options, error));
  EXPECT_EQ(error, "the chat format deepseek-v3 has no thinking mode");
}

TEST(Chat, Names) {
  std::string error;
  for (ChatFormat format :
       {ChatFormat::Plain, ChatFormat::LLM, ChatFormat::Coder, ChatFormat::V3,
        ChatFormat::R1, ChatFormat::R1Distill, ChatFormat::R1NoPrefill,
        ChatFormat::V31, ChatFormat::SmolLM2})
    EXPECT_EQ(parseChatFormat(chatFormatName(format), error), format);
  EXPECT_FALSE(parseChatFormat("v9", error));
  EXPECT_EQ(error,
            "--chat-format: expected one of plain, deepseek-llm, "
            "deepseek-coder, deepseek-v3, deepseek-r1, deepseek-r1-distill, "
            "deepseek-r1-0528, deepseek-v3.1, smollm2, but got 'v9'");
}

// The parts of the published templates that tell them apart.
TEST(ChatDetection, Templates) {
  auto tokenizer = loadTokenizer("deepseek-v3");
  ASSERT_NE(tokenizer, nullptr);
  const std::string tags = "{{'<｜User｜>' + message['content']}}"
                           "{{'<｜Assistant｜>' + content}}";
  ChatOptions bare;
  bare.addGenerationPrompt = bare.addBos = false;
  std::string system = render(ChatFormat::Coder, {}, bare);
  system.pop_back(); // The newline, which templates escape.
  const std::string coderTags =
      "{{'### Instruction:\\n' + message['content'] + '\\n'}}"
      "{{'### Response:\\n' + message['content'] + '\\n<|EOT|>\\n'}}";
  const std::string split = "{% set content = content.split('</think>')[-1] %}";
  for (auto &[text, format] : std::vector<std::pair<std::string, ChatFormat>>{
           {"{{ 'User: ' + message['content'] + '\\n\\n' }}{{ 'Assistant: ' + "
            "message['content'] + eos_token }}",
            ChatFormat::LLM},
           {"{{bos_token}}{{'" + system + "\\n'}}" + coderTags,
            ChatFormat::Coder},
           {tags, ChatFormat::V3},
           {"is_first_sp=true" + tags + split +
                "{{'<｜Assistant｜><think>\\n'}}",
            ChatFormat::R1},
           {tags + split + "{{'<｜Assistant｜><think>\\n'}}",
            ChatFormat::R1Distill},
           {tags + split + "{{'<｜Assistant｜>'}}", ChatFormat::R1NoPrefill},
           {tags + "{%- if not thinking %}{{'</think>'}}{%- else %}"
                   "{{'<think>'}}{%- endif %}",
            ChatFormat::V31}}) {
    std::string error;
    auto found = detectChatTemplate(text, *tokenizer, error);
    ASSERT_TRUE(found) << text << ": " << error;
    EXPECT_EQ(chatFormatName(*found), chatFormatName(format)) << text;
  }
}

TEST(ChatDetection, Config) {
  auto tokenizer = loadTokenizer("deepseek-v3");
  ASSERT_NE(tokenizer, nullptr);
  std::string error;
  const std::string plain = "{{ '<｜User｜>' + message['content'] }}"
                            "{{ '<｜Assistant｜>' + message['content'] }}";
  EXPECT_EQ(detectChatFormat(R"({"chat_template": ")" + plain + R"("})",
                             *tokenizer, error),
            ChatFormat::V3);
  EXPECT_EQ(detectChatFormat(
                R"({"chat_template": [{"name": "tool_use", "template": "?"},
                    {"name": "default", "template": ")" +
                    plain + R"("}]})",
                *tokenizer, error),
            ChatFormat::V3);
}

// It does not guess, and says which flag to use.
TEST(ChatDetection, Unknown) {
  auto tokenizer = loadTokenizer("deepseek-v3");
  ASSERT_NE(tokenizer, nullptr);
  for (
      const char *json :
      {"{", "[]", "{}", R"({"chat_template": 7})",
       R"({"chat_template": "<|im_start|>user"})",
       R"({"chat_template": "'User: ' 'Assistant: ' eos_token <｜sft▁begin｜>"})",
       R"({"chat_template": "'<｜User｜>'+message['content']}}<｜Assistant｜>)"
       R"({% if thinking %}"})",
       R"({"chat_template": "'<｜User｜>'+message['content']}}<｜Assistant｜>)"
       R"(<｜DSML｜invoke"})",
       R"({"chat_template": "'<｜User｜>'+message['content']+eos_token}})"
       R"(<｜Assistant｜>"})",
       R"({"chat_template": "### Instruction: ### Response: <|EOT|>"})"}) {
    std::string error;
    EXPECT_FALSE(detectChatFormat(json, *tokenizer, error)) << json;
    EXPECT_FALSE(error.empty());
    if (json[1] == '"') {
      EXPECT_NE(error.find("--chat-format"), std::string::npos) << error;
    }
  }
}

// A template whose special tokens the tokenizer lacks is of another model.
TEST(ChatDetection, TokensMustExist) {
  std::string error;
  auto tokenizer = Tokenizer::fromJson(
      R"({"pre_tokenizer": {"type": "ByteLevel"},
          "decoder": {"type": "ByteLevel"},
          "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})",
      error);
  ASSERT_NE(tokenizer, nullptr) << error;
  EXPECT_FALSE(
      detectChatTemplate("{{'<｜User｜>' + message['content']}}<｜Assistant｜>",
                         *tokenizer, error));
  EXPECT_EQ(error.find("chat_template: looks like deepseek-v3, but the "
                       "tokenizer has no token '<｜begin▁of▁sentence｜>'"),
            0u)
      << error;
}

} // namespace
