// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Files that are not what they should be: one clear line each, never a crash.

#include "Vectors.h"

using namespace hadal::text;
using namespace hadal::text::test;

namespace {

/// A tokenizer.json of three tokens and one merge.
const std::string small = R"({
  "added_tokens": [{"id": 3, "content": "<s>", "special": true}],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
  "post_processor": null,
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
            "merges": ["a b"]}})";

/// \p text with the first \p from replaced by \p to.
std::string replace(std::string text, const std::string &from,
                    const std::string &to) {
  size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

void expectError(const std::string &json, const std::string &part) {
  std::string error;
  EXPECT_EQ(Tokenizer::fromJson(json, error), nullptr);
  EXPECT_NE(error.find(part), std::string::npos)
      << "expected " << part << "\ngot      " << error;
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  EXPECT_LT(error.size(), 400u) << error;
}

TEST(TokenizerErrors, SmallOneIsFine) {
  std::string error;
  auto tokenizer = Tokenizer::fromJson(small, error);
  ASSERT_NE(tokenizer, nullptr) << error;
  EXPECT_EQ(*tokenizer->encode("ab<s>b", true, true, error),
            (std::vector<int32_t>{2, 3, 1}));
  EXPECT_EQ(tokenizer->vocabSize(), 4);
  EXPECT_EQ(tokenizer->idOf("ab"), 2);
  EXPECT_EQ(tokenizer->idOf("<s>"), 3);
  EXPECT_EQ(tokenizer->idOf("nope"), -1);
}

TEST(TokenizerErrors, NotJson) {
  expectError("", "not valid JSON at byte");
  expectError("null", "expected an object");
  expectError("[]", "expected an object");
  expectError("{\"a\": \"\xff\"}", "not valid JSON at byte 8");
  expectError(std::string(100000, '['), "not valid JSON");
  expectError(std::string(100000, '[') + std::string(100000, ']'),
              "expected an object");
  expectError("{\"model\": " + std::string(100000, '[') +
                  std::string(100000, ']') + "}",
              "decoder: expected ByteLevel or a Sequence, but got none");
}

// Cut anywhere, a file is an error; it never loads and never crashes.
TEST(TokenizerErrors, Truncated) {
  for (size_t size = 0; size < small.size(); ++size) {
    std::string error;
    EXPECT_EQ(Tokenizer::fromJson(small.substr(0, size), error), nullptr)
        << size;
    EXPECT_FALSE(error.empty());
  }
}

// With any one value replaced by one of another kind, it loads or it is an
// error.
TEST(TokenizerErrors, WrongKinds) {
  for (size_t at = 0; at < small.size(); ++at) {
    for (const char *value : {"null", "-1", "1e99", "[]", "{}", "\"\\u0000\"",
                              "true", "18446744073709551615"}) {
      size_t end = small.find_first_of(",}]", at);
      if (small[at] != ' ' || end == std::string::npos)
        continue;
      std::string text = small, error;
      text.replace(at, end - at, value);
      if (!Tokenizer::fromJson(text, error)) {
        EXPECT_FALSE(error.empty());
      }
    }
  }
}

TEST(TokenizerErrors, Ids) {
  expectError(replace(small, "\"b\": 1", "\"b\": -1"),
              "model.vocab['b']: expected a token id from 0 to 4194303, but "
              "got -1");
  expectError(replace(small, "\"b\": 1", "\"b\": 99999999999"),
              "but got 99999999999");
  expectError(replace(small, "\"b\": 1", "\"b\": 1.5"), "but got 1.5");
  expectError(replace(small, "\"b\": 1", "\"b\": \"1\""), "but got string");
  expectError(replace(small, "\"b\": 1", "\"b\": 0"),
              "the id 0 is given to both 'a' and 'b'");
  expectError(replace(small, "\"id\": 3", "\"id\": 1"),
              "added_tokens[0]: the id 1 is given to both 'b' and '<s>'");
  expectError(replace(small, "<s>", "ab"),
              "added_tokens[0]: 'ab' has the id 3 here, but 2 before");
}

TEST(TokenizerErrors, Merges) {
  expectError(replace(small, "a b", "a c"),
              "model.merges[0]: the token 'c' is not in model.vocab");
  expectError(replace(small, "a b", "b a"),
              "model.merges[0]: the token 'ba' is not in model.vocab");
  expectError(replace(small, "a b", "ab"),
              "model.merges[0]: expected \"a b\" or [\"a\", \"b\"], but got "
              "'ab'");
  expectError(replace(small, "a b", "a b c"), "but got 'a b c'");
  expectError(replace(small, "\"a b\"", "[\"a\"]"), "model.merges[0]");
  expectError(replace(small, "\"a b\"", "7"), "model.merges[0]");
}

TEST(TokenizerErrors, Unsupported) {
  expectError(replace(small, "BPE", "Unigram"),
              "model.type: expected 'BPE', but got 'Unigram'");
  expectError(
      replace(small, "\"merges\"", "\"byte_fallback\": true, \"merges\""),
      "model.byte_fallback");
  expectError(replace(small, "\"merges\"", "\"dropout\": 0.1, \"merges\""),
              "model.dropout: expected null or 0, but got 0.1");
  expectError(replace(small, "\"merges\"", "\"unk_token\": \"?\", \"merges\""),
              "model.unk_token: '?' is not in model.vocab");
  expectError(replace(small, "\"normalizer\": null",
                      "\"normalizer\": {\"type\": \"Lowercase\"}"),
              "normalizer: 'Lowercase' is not supported");
  expectError(replace(small, "\"ByteLevel\"", "\"Whitespace\""),
              "pre-tokenizer 'Whitespace' is not supported");
  expectError(replace(small, "\"decoder\": {\"type\": \"ByteLevel\"}",
                      "\"decoder\": {\"type\": \"Metaspace\"}"),
              "decoder: expected ByteLevel or a Sequence, but got "
              "'Metaspace'");
  expectError(replace(small, "\"post_processor\": null",
                      "\"post_processor\": {\"type\": \"BertProcessing\"}"),
              "post_processor: 'BertProcessing' is not supported");
  std::string sequence = R"({"type": "Sequence", "normalizers": [)";
  expectError(replace(small, "\"normalizer\": null",
                      "\"normalizer\": " + sequence + sequence + "]}]}"),
              "a Sequence in a Sequence");
}

/// One of SentencePiece: a character that has no token becomes its bytes.
const std::string pieces = R"({
  "normalizer": {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "\u2581"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
  "pre_tokenizer": null,
  "decoder": {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
    {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
  "model": {"type": "BPE", "byte_fallback": true, "fuse_unk": true,
            "unk_token": "<unk>",
            "vocab": {"<unk>": 0, "<0xC3>": 1, "<0xA9>": 2, "a": 3, "b": 4,
                      "ab": 5, "\u2581": 6, "\u2581ab": 7},
            "merges": ["a b", "\u2581 ab"]}})";

TEST(TokenizerErrors, SentencePiece) {
  std::string error;
  auto tokenizer = Tokenizer::fromJson(pieces, error);
  ASSERT_NE(tokenizer, nullptr) << error;
  // Those that have no bytes either are one unknown token.
  EXPECT_EQ(*tokenizer->encode("ab \u00e9xyb", false, false, error),
            (std::vector<int32_t>{7, 6, 1, 2, 0, 4}));
  EXPECT_EQ(tokenizer->decode({7, 6, 1, 2}), "ab \u00e9");
  EXPECT_EQ(tokenizer->tokenBytes(1), "\xC3");
  EXPECT_EQ(tokenizer->tokenBytes(7), " ab");
  expectError(replace(pieces, "\"Fuse\"", "\"CTC\""),
              "decoder: 'CTC' is not supported here");
  expectError(replace(pieces, "\"start\": 1", "\"start\": -1"),
              "decoder: 'Strip' is not supported here");
  expectError(replace(pieces, "{\"String\": \" \"}", "{\"Regex\": \" \"}"),
              "normalizer: expected a Replace with");
  expectError(
      replace(pieces, "\"prepend\": \"",
              "\"prepend\": \"" + std::string(62, ' ')),
      "normalizer: a text of 65 bytes is inserted, expected at most 64");
  expectError(replace(pieces, "\"content\": \"",
                      "\"content\": \"" + std::string(62, ' ')),
              "normalizer: a text of 65 bytes is inserted");
  expectError(replace(pieces, "\"pre_tokenizer\": null",
                      "\"pre_tokenizer\": {\"type\": \"ByteLevel\"}"),
              "pre_tokenizer: 'ByteLevel' is not supported");
  expectError(replace(pieces, "\"pre_tokenizer\": null",
                      "\"pre_tokenizer\": {\"type\": \"Metaspace\"}"),
              "pre_tokenizer.replacement: expected a character");
}

// Steps that each make a text longer end in an error, not in all memory.
TEST(TokenizerErrors, LongNormalization) {
  std::string step = R"({"type": "Replace", "pattern": {"String": "a"},)"
                     R"( "content": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},)";
  std::string steps;
  for (int i = 0; i < 100; ++i)
    steps += step;
  std::string error;
  auto tokenizer = Tokenizer::fromJson(
      replace(pieces, R"({"type": "Prepend")", steps + R"({"type": "Prepend")"),
      error);
  ASSERT_NE(tokenizer, nullptr) << error;
  EXPECT_FALSE(tokenizer->encode("aaaa", false, false, error));
  EXPECT_EQ(error, "the normalizer makes 131072 bytes of 4");
}

TEST(TokenizerErrors, Split) {
  auto withSplit = [](const std::string &members) {
    return replace(small, R"({"type": "ByteLevel", "add_prefix_space": false})",
                   R"({"type": "Sequence", "pretokenizers": [
                      {"type": "Split", )" +
                       members + R"(}, {"type": "ByteLevel"}]})");
  };
  std::string error;
  EXPECT_NE(
      Tokenizer::fromJson(
          withSplit(R"("pattern": {"Regex": "a"}, "behavior": "Isolated")"),
          error),
      nullptr)
      << error;
  expectError(
      withSplit(R"("pattern": {"Regex": "(a"}, "behavior": "Isolated")"),
      "pretokenizers[0].pattern: '(' without ')' at byte 2 of '(a'");
  expectError(withSplit(R"("pattern": {"Regex": "a"}, "behavior": "Apart")"),
              "pretokenizers[0].behavior: expected Isolated");
  expectError(withSplit(R"("pattern": "a", "behavior": "Isolated")"),
              "pretokenizers[0].pattern: expected");
  // A pattern that takes exponential time loads, but its use ends in an error.
  auto slow = Tokenizer::fromJson(
      withSplit(R"x("pattern": {"Regex": "(?:[ab]+[ab]+)+[cd](?=x)"},
                    "behavior": "Isolated")x"),
      error);
  ASSERT_NE(slow, nullptr) << error;
  error.clear();
  auto ids = slow->encode(std::string(200, 'a') + "cy", false, true, error);
  EXPECT_FALSE(ids);
  EXPECT_NE(error.find("takes too many steps on a piece of 202 bytes"),
            std::string::npos)
      << error;
}

TEST(TokenizerErrors, Template) {
  std::string processor = R"("post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}}})";
  std::string json = replace(small, "\"post_processor\": null", processor);
  std::string error;
  auto tokenizer = Tokenizer::fromJson(json, error);
  ASSERT_NE(tokenizer, nullptr) << error;
  EXPECT_EQ(*tokenizer->encode("a", true, true, error),
            (std::vector<int32_t>{3, 0}));
  EXPECT_EQ(*tokenizer->encode("a", false, true, error),
            (std::vector<int32_t>{0}));
  expectError(replace(json, "[3]", "[4]"),
              "the id 4 is outside of the vocabulary of 4");
  expectError(replace(json, "\"ids\": [3]", "\"ids\": 3"), "no ids for '<s>'");
  expectError(replace(json, "\"Sequence\"", "\"Text\""), "post_processor");
}

TEST(TokenizerConfig, BosAndEos) {
  std::string error;
  auto tokenizer = Tokenizer::fromJson(small, error);
  ASSERT_NE(tokenizer, nullptr) << error;
  EXPECT_EQ(tokenizer->bosId(), -1);
  ASSERT_TRUE(tokenizer->applyTokenizerConfig(
      R"({"bos_token": {"content": "<s>"}, "eos_token": "b",
          "add_bos_token": true, "add_eos_token": false})",
      error))
      << error;
  EXPECT_EQ(tokenizer->bosId(), 3);
  EXPECT_EQ(tokenizer->eosId(), 1);
  EXPECT_EQ(*tokenizer->encode("a", true, true, error),
            (std::vector<int32_t>{3, 0}));
  ASSERT_TRUE(tokenizer->applyGenerationConfig(
      R"({"bos_token_id": 0, "eos_token_id": [2, 1]})", error))
      << error;
  EXPECT_EQ(tokenizer->bosId(), 3);
  EXPECT_EQ(tokenizer->eosIds(), (std::vector<int32_t>{1, 2}));
  tokenizer->setAddSpecial(false, true);
  EXPECT_EQ(*tokenizer->encode("a", true, true, error),
            (std::vector<int32_t>{0, 1}));
}

// The Llama classes of transformers add a bos token unless told otherwise.
TEST(TokenizerConfig, LlamaAddsBos) {
  std::string error;
  auto tokenizer = Tokenizer::fromJson(small, error);
  ASSERT_NE(tokenizer, nullptr) << error;
  ASSERT_TRUE(tokenizer->applyTokenizerConfig(
      R"({"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>"})",
      error));
  EXPECT_EQ(*tokenizer->encode("a", true, true, error),
            (std::vector<int32_t>{3, 0}));
  // What release 5 has written says it in the post-processor.
  tokenizer = Tokenizer::fromJson(small, error);
  ASSERT_TRUE(tokenizer->applyTokenizerConfig(
      R"({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>",
          "backend": "tokenizers"})",
      error));
  EXPECT_EQ(*tokenizer->encode("a", true, true, error),
            (std::vector<int32_t>{0}));
}

TEST(TokenizerConfig, Errors) {
  std::string error;
  auto tokenizer = Tokenizer::fromJson(small, error);
  ASSERT_NE(tokenizer, nullptr) << error;
  EXPECT_FALSE(tokenizer->applyTokenizerConfig("{", error));
  EXPECT_EQ(error.find("tokenizer_config.json: not valid JSON"), 0u) << error;
  EXPECT_FALSE(tokenizer->applyTokenizerConfig(R"({"bos_token": "x"})", error));
  EXPECT_EQ(error, "tokenizer_config.json: bos_token: the tokenizer has no "
                   "token 'x'");
  EXPECT_FALSE(tokenizer->applyTokenizerConfig(R"({"eos_token": 1})", error));
  EXPECT_FALSE(
      tokenizer->applyTokenizerConfig(R"({"add_bos_token": 1})", error));
  EXPECT_FALSE(
      tokenizer->applyGenerationConfig(R"({"eos_token_id": 4})", error));
  EXPECT_EQ(error, "generation_config.json: eos_token_id: the id 4 is outside "
                   "of the vocabulary of 4");
  EXPECT_FALSE(
      tokenizer->applyGenerationConfig(R"({"eos_token_id": [1, "x"]})", error));
  EXPECT_EQ(tokenizer->eosId(), -1);
}

// Special tokens in text that is not trusted stay text.
TEST(Tokenizer, ParseSpecial) {
  auto tokenizer = loadTokenizer("deepseek-v3");
  ASSERT_NE(tokenizer, nullptr);
  std::string error;
  int32_t user = tokenizer->idOf("<｜User｜>");
  ASSERT_GE(user, 0);
  EXPECT_EQ(*tokenizer->encode("<｜User｜>", false, true, error),
            (std::vector<int32_t>{user}));
  auto ids = *tokenizer->encode("<｜User｜>", false, false, error);
  EXPECT_GT(ids.size(), 1u);
  EXPECT_EQ(tokenizer->decode(ids), "<｜User｜>");
}

// A token of blanks that takes more of them, on both sides, is found once.
TEST(Tokenizer, TokensOfBlanks) {
  std::string error;
  auto tokenizer = Tokenizer::fromJson(
      replace(small, R"("<s>", "special": true)",
              R"("  ", "special": true, "lstrip": true, "rstrip": true)"),
      error);
  ASSERT_NE(tokenizer, nullptr) << error;
  for (const char *text : {"a  b", "a    b", "a       b", "a \t    \nb"})
    EXPECT_EQ(*tokenizer->encode(text, false, true, error),
              (std::vector<int32_t>{0, 3, 1}))
        << text;
}

} // namespace
