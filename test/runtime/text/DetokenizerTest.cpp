// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text that arrives a token at a time; the vectors test it on whole texts.

#include "Vectors.h"

using namespace hadal::text;
using namespace hadal::text::test;

namespace {

/// Pushes each byte of \p bytes as a token of its own.
std::vector<std::string> pushBytes(Detokenizer &detokenizer,
                                   const Tokenizer &tokenizer,
                                   const std::string &bytes) {
  std::vector<std::string> texts;
  for (char byte : bytes) {
    int32_t id = 0;
    while (tokenizer.tokenBytes(id) != std::string_view(&byte, 1))
      ++id;
    texts.push_back(detokenizer.push(id));
  }
  return texts;
}

using Texts = std::vector<std::string>;

TEST(Detokenizer, NeverSplitsACharacter) {
  auto tokenizer = loadTokenizer("deepseek-v3");
  ASSERT_NE(tokenizer, nullptr);
  Detokenizer detokenizer(*tokenizer);
  EXPECT_EQ(pushBytes(detokenizer, *tokenizer, "a\u5b57\U0001F600"),
            (Texts{"a", "", "", "\u5b57", "", "", "", "\U0001F600"}));
  EXPECT_EQ(detokenizer.flush(), "");
}

TEST(Detokenizer, ReplacesAsSoonAsItIsSure) {
  auto tokenizer = loadTokenizer("deepseek-v3");
  ASSERT_NE(tokenizer, nullptr);
  Detokenizer detokenizer(*tokenizer);
  EXPECT_EQ(pushBytes(detokenizer, *tokenizer,
                      "\xE5\xAD"
                      "a\xFF\xE5\xE5"),
            (Texts{"", "",
                   "\ufffd"
                   "a",
                   "\ufffd", "", "\ufffd"}));
  EXPECT_EQ(detokenizer.flush(), "\ufffd");
  EXPECT_EQ(detokenizer.flush(), "");
}

TEST(Detokenizer, SkipsSpecialTokens) {
  auto tokenizer = loadTokenizer("deepseek-v3");
  ASSERT_NE(tokenizer, nullptr);
  std::string error;
  auto ids = tokenizer->encode("a<｜User｜><think>b", false, true, error);
  ASSERT_TRUE(ids) << error;
  EXPECT_EQ(tokenizer->decode(*ids), "a<｜User｜><think>b");
  EXPECT_EQ(tokenizer->decode(*ids, true), "a<think>b");
  std::string streamed;
  Detokenizer detokenizer(*tokenizer, /*skipSpecial=*/true);
  for (int32_t id : *ids)
    streamed += detokenizer.push(id);
  EXPECT_EQ(streamed + detokenizer.flush(), "a<think>b");
}

// Ids that no token has, as from a model with padded logits, give nothing.
TEST(Detokenizer, UnknownIds) {
  auto tokenizer = loadTokenizer("deepseek-v3");
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->decode({-1, 1 << 30, tokenizer->vocabSize()}), "");
  EXPECT_FALSE(tokenizer->isSpecial(-5));
}

} // namespace
