// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a generation publishes, token by token, on logits that are made up.

#include "Generation.h"

#include "gtest/gtest.h"
#include <cmath>
#include <fstream>
#include <iterator>

using namespace hadal;
using namespace hadal::serve;
using namespace std::chrono_literals;

namespace {

class GenerationTest : public testing::Test {
protected:
  GenerationTest() {
    std::ifstream file(HADAL_CHECKPOINT "/tokenizer.json");
    std::string json((std::istreambuf_iterator<char>(file)), {}), error;
    tokenizer = text::Tokenizer::fromJson(json, error);
    EXPECT_TRUE(tokenizer) << error;
    EXPECT_TRUE(
        tokenizer->applyGenerationConfig(R"({"eos_token_id": 1})", error));
    trie = std::make_unique<text::TokenTrie>(*tokenizer);
    options.prompt = {5};
    options.maxTokens = 100;
    options.sampler.temperature = 0;
  }

  std::vector<int32_t> encode(const std::string &text) {
    std::string error;
    return *tokenizer->encode(text, false, false, error);
  }

  /// Makes \p generation choose \p token.
  static std::optional<int32_t> choose(Generation &generation, int32_t token) {
    std::vector<float> logits(vocab);
    logits[size_t(token)] = 1;
    return generation.accept(logits.data(), vocab);
  }

  /// Takes what has been published.
  Delta take() {
    std::vector<Delta> deltas = outbox->wait(0ms);
    return deltas.empty() ? Delta() : std::move(deltas.front());
  }

  /// Lets \p text come token by token; returns what each token published.
  std::vector<std::string> feed(Generation &generation,
                                const std::vector<int32_t> &tokens) {
    std::vector<std::string> shown;
    for (int32_t token : tokens) {
      bool goesOn = choose(generation, token).has_value();
      Delta delta = take();
      EXPECT_EQ(goesOn, !delta.finish);
      shown.push_back(delta.text);
      if (!goesOn)
        shown.push_back(*delta.finish == Finish::Stop ? "(stop)" : "(length)");
    }
    return shown;
  }

  static constexpr int64_t vocab = 2048;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<text::TokenTrie> trie;
  std::shared_ptr<Outbox> outbox =
      std::make_shared<Outbox>(1, /*inPieces=*/true);
  GenerationOptions options;
};

// Bytes of a character come in tokens of their own; none is shown before all.
TEST_F(GenerationTest, HoldsBackPartsOfCharacters) {
  Generation generation(options, *tokenizer, *trie, outbox, 0, nullptr);
  std::vector<int32_t> tokens = encode("\u65e5\U0001f41f");
  ASSERT_EQ(tokens.size(), 7u);
  EXPECT_EQ(
      feed(generation, tokens),
      (std::vector<std::string>{"", "", "\u65e5", "", "", "", "\U0001f41f"}));
}

TEST_F(GenerationTest, ReplacesPartsOfCharactersAtTheEnd) {
  std::vector<int32_t> tokens = encode("\u65e5");
  tokens.pop_back();
  tokens.push_back(1);
  Generation generation(options, *tokenizer, *trie, outbox, 0, nullptr);
  EXPECT_EQ(feed(generation, tokens),
            (std::vector<std::string>{"", "", "\ufffd", "(stop)"}));
  options.maxTokens = 2;
  Generation shorter(options, *tokenizer, *trie, outbox, 0, nullptr);
  tokens.pop_back();
  EXPECT_EQ(feed(shorter, tokens),
            (std::vector<std::string>{"", "\ufffd", "(length)"}));
}

TEST_F(GenerationTest, CutsAtStopStrings) {
  options.stops = {"b\u65e5", "xyz"};
  Generation generation(options, *tokenizer, *trie, outbox, 0, nullptr);
  std::vector<int32_t> tokens = encode("abab\u65e5");
  std::vector<std::string> shown = feed(generation, tokens);
  ASSERT_EQ(shown.back(), "(stop)");
  shown.pop_back();
  std::string text;
  for (const std::string &piece : shown)
    text += piece;
  EXPECT_EQ(text, "aba");
}

TEST_F(GenerationTest, FailsWithoutFiniteLogits) {
  Generation generation(options, *tokenizer, *trie, outbox, 0, nullptr);
  std::vector<float> logits(vocab, -INFINITY);
  EXPECT_FALSE(generation.accept(logits.data(), vocab));
  Delta delta = take();
  EXPECT_EQ(delta.finish, Finish::Failed);
  EXPECT_EQ(delta.error, "no logit of generated token 0 is finite");
}

// It waits until what the other computes can be shared, or never will be.
TEST_F(GenerationTest, WaitsForItsPrompt) {
  options.maxTokens = 2;
  auto make = [&](std::shared_ptr<const Generation> first) {
    return std::make_shared<Generation>(options, *tokenizer, *trie, outbox, 0,
                                        std::move(first));
  };
  std::shared_ptr<Generation> first = make(nullptr), second = make(first);
  EXPECT_FALSE(first->mustWait());
  EXPECT_TRUE(second->mustWait());
  choose(*first, 3);
  EXPECT_FALSE(second->mustWait());
  std::shared_ptr<Generation> failed = make(nullptr), third = make(failed);
  failed->finish(Finish::Failed);
  EXPECT_FALSE(third->mustWait());
  // Of the three, the second has the prompt of the first.
  options.prompt = {5, 6, 7};
  std::shared_ptr<Generation> longer = make(nullptr);
  choose(*longer, 3);
  TokenCounts counts = countTokens({first, second, longer});
  EXPECT_EQ(counts.prompt, 4);
  EXPECT_EQ(counts.generated, 2);
}

TEST_F(GenerationTest, IgnoresEndsIfAsked) {
  options.ignoresEos = true;
  Generation generation(options, *tokenizer, *trie, outbox, 0, nullptr);
  EXPECT_EQ(choose(generation, 1), 1);
}

TEST_F(GenerationTest, FollowsASchema) {
  std::string error;
  options.grammar =
      text::Grammar::fromJsonSchema(R"({"enum": ["yes", "no"]})", error);
  ASSERT_TRUE(options.grammar) << error;
  options.ignoresEos = true;
  Generation generation(options, *tokenizer, *trie, outbox, 0, nullptr);
  // What is likeliest cannot come; nor can an end, before it is one.
  std::vector<float> logits(vocab);
  logits[1] = logits[size_t(encode("!")[0])] = 2;
  logits[size_t(encode("n")[0])] = 1;
  while (generation.accept(logits.data(), vocab))
    EXPECT_LT(generation.generatedTokens(), 5);
  Delta delta = take();
  EXPECT_EQ(delta.text, "\"no\"");
  EXPECT_EQ(delta.finish, Finish::Stop);
}

TEST(StopFilterTest, HoldsBackTheStartOfAStop) {
  StopFilter filter({"abcd", "bx"});
  EXPECT_EQ(filter.push("12ab"), "12");
  EXPECT_EQ(filter.push("c"), "");
  EXPECT_EQ(filter.push("3a"), "abc3");
  EXPECT_EQ(filter.push("b"), "");
  // The stop that begins first counts, not the one that ends first.
  EXPECT_EQ(filter.push("xabcd"), "a");
  EXPECT_TRUE(filter.hasStopped());
  EXPECT_EQ(filter.push("more"), "");
  EXPECT_EQ(filter.flush(), "");
}

TEST(StopFilterTest, GivesBackWhatIsHeld) {
  StopFilter filter({"aab"});
  EXPECT_EQ(filter.push("aaa"), "a");
  EXPECT_EQ(filter.flush(), "aa");
  EXPECT_FALSE(filter.hasStopped());
}

} // namespace
