// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every family's tokenizer agrees with the `tokenizers` library, id by id.

#include "Utf8.h"
#include "Vectors.h"

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>

using namespace hadal::text;
using namespace hadal::text::test;

namespace {

class TokenizerVectors : public testing::TestWithParam<const char *> {};

TEST_P(TokenizerVectors, Agree) {
  auto tokenizer = loadTokenizer(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  std::string text = readVectorFile(std::string(GetParam()) + ".vec.gz");
  size_t encoded = 0, decoded = 0;
  for (const std::string &line : splitFields(text, '\n')) {
    std::vector<std::string> fields = splitFields(line, '\t');
    if (fields[0] == "E" && fields.size() == 4) {
      bool parseSpecial = fields[1].find('s') != std::string::npos;
      bool addSpecial = fields[1].find('a') != std::string::npos;
      std::string bytes = unhex(fields[2]), error;
      auto ids = tokenizer->encode(bytes, addSpecial, parseSpecial, error);
      ASSERT_TRUE(ids) << error;
      ++encoded;
      EXPECT_EQ(*ids, readIds(fields[3])) << line;
      // Token by token, the text is the same as all at once.
      std::string back = tokenizer->decode(*ids), streamed;
      Detokenizer detokenizer(*tokenizer);
      for (int32_t id : *ids)
        streamed += detokenizer.push(id);
      streamed += detokenizer.flush();
      EXPECT_EQ(streamed, back) << line;
      // Whether it is the text that was encoded; "r" implies that this was
      // UTF-8 or that its ill-formed bytes came back as U+FFFD.
      if (fields[1].find('r') != std::string::npos) {
        std::string repaired;
        appendLossyUtf8(repaired, bytes);
        EXPECT_EQ(back, repaired) << line;
      }
    } else if (fields[0] == "D" && fields.size() == 3) {
      std::vector<int32_t> ids = readIds(fields[1]);
      std::string expected = unhex(fields[2]), streamed;
      ++decoded;
      EXPECT_EQ(tokenizer->decode(ids), expected) << line;
      Detokenizer detokenizer(*tokenizer);
      for (int32_t id : ids)
        streamed += detokenizer.push(id);
      streamed += detokenizer.flush();
      EXPECT_EQ(streamed, expected) << line;
    } else {
      EXPECT_TRUE(line.empty()) << line;
    }
    if (HasFailure())
      break; // The others are likely to fail alike.
  }
  EXPECT_EQ(encoded, 1700u);
  EXPECT_EQ(decoded, 200u);
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerVectors,
                         testing::Values("deepseek-llm", "deepseek-coder",
                                         "deepseek-v3", "deepseek-r1-qwen",
                                         "llama-bpe", "gpt2", "behaviors",
                                         "sentencepiece", "metaspace"),
                         [](const auto &info) {
                           std::string name = info.param;
                           for (char &c : name)
                             if (c == '-')
                               c = '_';
                           return name;
                         });

// One piece of a megabyte, and texts on which a naive matcher would take
// quadratic time. Each takes well under a second; minutes if it were quadratic.
TEST(TokenizerSpeed, LongInputs) {
  const size_t size = 1 << 20;
  for (const char *name :
       {"deepseek-llm", "deepseek-coder", "deepseek-v3", "deepseek-r1-qwen",
        "llama-bpe", "gpt2", "sentencepiece"}) {
    auto tokenizer = loadTokenizer(name);
    ASSERT_NE(tokenizer, nullptr);
    for (std::string text :
         {std::string(size, 'a'), std::string(size, ' ') + "1",
          std::string(size, '\n') + "1", std::string(size, '!'),
          std::string(size, '\x01'), std::string(size, '7'),
          std::string(size, '\xFF')}) {
      auto start = std::chrono::steady_clock::now();
      std::string error;
      auto ids = tokenizer->encode(text, false, true, error);
      ASSERT_TRUE(ids) << name << ": " << error;
      auto elapsed = std::chrono::steady_clock::now() - start;
      EXPECT_LT(std::chrono::duration<double>(elapsed).count(), 20.0)
          << name << " on " << static_cast<int>(text[0]);
      if (text[0] != '\xFF') {
        EXPECT_EQ(tokenizer->decode(*ids).substr(name[0] == 'g' ? 1 : 0),
                  name[0] == 'g' && text[0] == ' ' ? text.substr(1) : text);
      }
    }
  }
}

// Blanks enough to use up PCRE2's default limit of ten million steps.
TEST(TokenizerSpeed, ManyBlanks) {
  auto tokenizer = loadTokenizer("deepseek-v3");
  ASSERT_NE(tokenizer, nullptr);
  std::string text(12'000'000, ' '), error;
  auto ids = tokenizer->encode(text + "x", false, true, error);
  ASSERT_TRUE(ids) << error;
  EXPECT_EQ(tokenizer->decode(*ids), text + "x");
}

// The tokenizer of a checkpoint: the one in the repository, or another.
TEST(TokenizerCheckpoint, RoundTrip) {
  const char *path = std::getenv("HADAL_TOKENIZER_JSON");
  std::ifstream file(path ? path : HADAL_TEXT_CHECKPOINT "/tokenizer.json",
                     std::ios::binary);
  if (!file.good())
    GTEST_SKIP() << "no tokenizer.json; HADAL_TOKENIZER_JSON can name one";
  std::stringstream json;
  json << file.rdbuf();
  std::string error;
  auto tokenizer = Tokenizer::fromJson(json.str(), error);
  ASSERT_NE(tokenizer, nullptr) << error;
  std::string text = readVectorFile("deepseek-v3.vec.gz");
  for (const std::string &line : splitFields(text, '\n')) {
    std::vector<std::string> fields = splitFields(line, '\t');
    if (fields[0] != "E" || fields[1].find('r') == std::string::npos)
      continue;
    std::string bytes = unhex(fields[2]), repaired;
    appendLossyUtf8(repaired, bytes);
    auto ids = tokenizer->encode(bytes, false, true, error);
    ASSERT_TRUE(ids) << error;
    EXPECT_EQ(tokenizer->decode(*ids), repaired);
  }
}

} // namespace
