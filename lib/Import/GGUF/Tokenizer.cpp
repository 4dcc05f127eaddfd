// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tokenizer's files of a Hugging Face folder, from the keys of a GGUF file.
// The file has the vocabulary and the merges; how text is split before them it
// only names (`tokenizer.ggml.pre`). The expressions here are those of the
// tokenizer.json files of the published models.

#include "lib/Import/GGUF/Tokenizer.h"

#include "lib/Import/JSON.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/ConvertUTF.h"
#include "llvm/Support/JSON.h"

#include <cmath>
#include <tuple>

using namespace hadal;
using namespace hadal::gguf;
using huggingface::Config;
using llvm::StringRef;
using llvm::Twine;

/// Pieces of SentencePiece are short; each is tried as two others at each cut.
constexpr size_t maxPieceBytes = 256;

namespace {
/// How text is split before the merges.
struct Splitter {
  StringRef name; ///< `tokenizer.ggml.pre`
  /// Applied in this order; empty ones are not there.
  StringRef expressions[5];
  bool splitsDigits = false;
  bool normalizesNFC = false;
  /// A piece that is a token is one, whatever the merges say.
  bool ignoresMerges = false;
  bool addsBos = false;
};

struct CodePoints {
  uint32_t first, last;
};
} // namespace

/// The letters with case of the Unicode version that the tokenizer of
/// DeepSeek-LLM was made with.
static constexpr CodePoints casedLetters[] = {
    {0x41, 0x5a},       {0x61, 0x7a},       {0xb5, 0xb5},
    {0xc0, 0xd6},       {0xd8, 0xf6},       {0xf8, 0x1ba},
    {0x1bc, 0x1bf},     {0x1c4, 0x293},     {0x295, 0x2af},
    {0x370, 0x373},     {0x376, 0x376},     {0x377, 0x377},
    {0x37b, 0x37d},     {0x37f, 0x37f},     {0x386, 0x386},
    {0x388, 0x38a},     {0x38c, 0x38c},     {0x38e, 0x3a1},
    {0x3a3, 0x3f5},     {0x3f7, 0x481},     {0x48a, 0x52f},
    {0x531, 0x556},     {0x10a0, 0x10c5},   {0x13a0, 0x13f5},
    {0x13f8, 0x13fd},   {0x1c90, 0x1cba},   {0x1cbd, 0x1cbf},
    {0x1d00, 0x1d2b},   {0x1d6b, 0x1d77},   {0x1d79, 0x1d9a},
    {0x1e00, 0x1f15},   {0x1f18, 0x1f1d},   {0x1f20, 0x1f45},
    {0x1f48, 0x1f4d},   {0x1f50, 0x1f57},   {0x1f59, 0x1f59},
    {0x1f5b, 0x1f5b},   {0x1f5d, 0x1f5d},   {0x1f5f, 0x1f7d},
    {0x1f80, 0x1fb4},   {0x1fb6, 0x1fbc},   {0x1fbe, 0x1fbe},
    {0x1fc2, 0x1fc4},   {0x1fc6, 0x1fcc},   {0x1fd0, 0x1fd3},
    {0x1fd6, 0x1fdb},   {0x1fe0, 0x1fec},   {0x1ff2, 0x1ff4},
    {0x1ff6, 0x1ffc},   {0x2102, 0x2102},   {0x2107, 0x2107},
    {0x210a, 0x2113},   {0x2115, 0x2115},   {0x2119, 0x211d},
    {0x2124, 0x2124},   {0x2126, 0x2126},   {0x2128, 0x2128},
    {0x212a, 0x212d},   {0x212f, 0x2134},   {0x2139, 0x2139},
    {0x213c, 0x213f},   {0x2145, 0x2149},   {0x214e, 0x214e},
    {0x2183, 0x2183},   {0x2184, 0x2184},   {0x2c00, 0x2c7b},
    {0x2c7e, 0x2ce4},   {0x2ceb, 0x2cee},   {0x2cf2, 0x2cf2},
    {0x2cf3, 0x2cf3},   {0xa640, 0xa66d},   {0xa680, 0xa69b},
    {0xa722, 0xa76f},   {0xa771, 0xa787},   {0xa78b, 0xa78e},
    {0xab70, 0xabbf},   {0xfb00, 0xfb06},   {0xfb13, 0xfb17},
    {0xff21, 0xff3a},   {0xff41, 0xff5a},   {0x10400, 0x1044f},
    {0x104b0, 0x104d3}, {0x104d8, 0x104fb}, {0x10c80, 0x10cb2},
    {0x10cc0, 0x10cf2}, {0x118a0, 0x118df}, {0x1e900, 0x1e943}};

/// Stands for `casedLetters` as a set.
static constexpr StringRef lettersMark = "LETTERS";

static constexpr StringRef qwen2Expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
static constexpr StringRef llama3Expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr llvm::StringLiteral Splitting::byteLevel =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|)"
    R"(\s+(?!\S)|\s+)";

static constexpr Splitter splitters[] = {
    {"deepseek-llm",
     {R"([\r\n])", R"(\s?LETTERS+)", R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)",
      R"(\s+$)", "[一-龥ࠀ-一가-퟿]+"},
     /*splitsDigits=*/true},
    {"deepseek-coder",
     {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+"},
     /*splitsDigits=*/true},
    {"deepseek-v3",
     {R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+",
      R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|)"
      R"([^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)"
      R"(\s*[\r\n]+|\s+(?!\S)|\s+)"}},
    {"deepseek-r1-qwen", {qwen2Expression}},
    {"qwen2",
     {qwen2Expression},
     /*splitsDigits=*/false,
     /*normalizesNFC=*/true},
    {"llama-bpe",
     {llama3Expression},
     /*splitsDigits=*/false,
     /*normalizesNFC=*/false,
     /*ignoresMerges=*/true,
     /*addsBos=*/true},
    {"gpt-2", {Splitting::byteLevel}},
    {"smollm", {Splitting::digits, Splitting::byteLevel}},
};

/// Other names that llama.cpp has for the same.
static constexpr std::pair<StringRef, StringRef> splitterAliases[] = {
    {"llama3", "llama-bpe"},
    {"llama-v3", "llama-bpe"},
    // What the converter calls that of DeepSeek-V4.
    {"joyai-llm", "deepseek-v3"}};

static const Splitter *findSplitter(StringRef name) {
  for (auto [alias, real] : splitterAliases)
    if (alias == name)
      name = real;
  const auto *it = llvm::find_if(splitters, [&](const Splitter &splitter) {
    return splitter.name == name;
  });
  return it == std::end(splitters) ? nullptr : it;
}

static void appendUTF8(uint32_t point, std::string &text) {
  char buffer[UNI_MAX_UTF8_BYTES_PER_CODE_POINT];
  char *end = buffer;
  llvm::ConvertCodePointToUTF8(point, end);
  text.append(buffer, end);
}

/// \p expression with the set of letters in place of its mark.
static std::string expand(StringRef expression) {
  auto [before, after] = expression.split(lettersMark);
  if (before == expression)
    return expression.str();
  std::string letters = "[";
  for (CodePoints range : casedLetters) {
    appendUTF8(range.first, letters);
    if (range.last == range.first)
      continue;
    letters += '-';
    appendUTF8(range.last, letters);
  }
  return (before + letters + "]" + after).str();
}

std::optional<StringRef> gguf::findSplitterName(const Splitting &splitting) {
  for (const Splitter &splitter : splitters) {
    std::vector<std::string> steps;
    for (StringRef expression : splitter.expressions)
      if (!expression.empty())
        steps.push_back(expand(expression));
    if (splitter.splitsDigits)
      steps.push_back(Splitting::digits.str());
    if (steps == splitting.steps &&
        splitter.normalizesNFC == splitting.normalizesNFC &&
        splitter.ignoresMerges == splitting.ignoresMerges)
      return splitter.name;
  }
  return std::nullopt;
}

namespace {
class TokenizerWriter {
public:
  TokenizerWriter(const Model &model, const Config &config,
                  std::vector<std::string> &notes)
      : model(model), config(config), notes(notes) {}

  absl::StatusOr<std::vector<TextFile>> make();

private:
  absl::Status fail(const Twine &message) const {
    return invalid(model.sourcePath() + ": " + message);
  }
  std::vector<TextFile> none(const Twine &why) {
    notes.push_back(
        ("no tokenizer: " + why + "; the product takes ids of tokens, not text")
            .str());
    return {};
  }
  std::optional<StringRef> getString(StringRef key) const {
    const KeyValue *value = model.get(key);
    return value ? value->getString() : std::nullopt;
  }
  std::optional<bool> getBoolean(StringRef key) const {
    const KeyValue *value = model.get(key);
    return value ? value->getBoolean() : std::nullopt;
  }
  TokenKind kindOf(size_t id) const {
    return kinds ? TokenKind(kinds->getInteger(id).value_or(1))
                 : TokenKind::Normal;
  }
  absl::Status checkTypes();
  absl::Status checkTokens();
  absl::Status checkMerges();
  absl::Status checkScores();
  void writeStart(llvm::json::OStream &json);
  void writeVocabulary(llvm::json::OStream &json);
  std::string writeByteLevel(const Splitter &splitter);
  std::string writeSentencePiece();
  std::vector<std::string> findMerges() const;
  llvm::json::Value findUnknown() const;
  std::string writeConfig(bool addsBos);
  absl::StatusOr<std::vector<TextFile>> finish(std::string tokenizer,
                                               bool addsBos);

  const Model &model;
  const Config &config;
  std::vector<std::string> &notes;
  const KeyValue *tokens = nullptr, *merges = nullptr, *kinds = nullptr;
  const KeyValue *scores = nullptr;
};
} // namespace

/// Makes sure that \p value is a list of strings that JSON can have.
static absl::Status checkStrings(StringRef path, StringRef key,
                                 const KeyValue *value) {
  if (!value || !value->isArray || value->type != ValueType::String)
    return invalid(path + ": '" + key + "' is " +
                   (value ? value->toText() : "missing") +
                   ", expected an array of strings");
  for (auto [i, text] : llvm::enumerate(value->strings))
    if (!llvm::json::isUTF8(text))
      return invalid(path + ": '" + key + "' has element " + Twine(i) +
                     " that is not UTF-8, " + quote(llvm::json::fixUTF8(text)));
  return absl::OkStatus();
}

/// What is one value is of the type that the format has it in.
absl::Status TokenizerWriter::checkTypes() {
  auto wrong = [&](StringRef key, const KeyValue &value, StringRef expected) {
    return fail("'" + key + "' is " + value.toText() + ", expected " +
                expected);
  };
  for (StringRef key : {"tokenizer.ggml.model", "tokenizer.ggml.pre",
                        "tokenizer.chat_template"})
    if (const KeyValue *value = model.get(key); value && !value->getString())
      return wrong(key, *value, "a string");
  for (StringRef key :
       {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token",
        "tokenizer.ggml.add_space_prefix"})
    if (const KeyValue *value = model.get(key); value && !value->getBoolean())
      return wrong(key, *value, "a boolean");
  return absl::OkStatus();
}

absl::Status TokenizerWriter::checkTokens() {
  if (absl::Status status =
          checkStrings(model.sourcePath(), "tokenizer.ggml.tokens", tokens);
      !status.ok())
    return status;
  if (int64_t(tokens->count) > config.vocab)
    return fail("'tokenizer.ggml.tokens' has " + Twine(tokens->count) +
                " elements, expected at most one for each of the " +
                Twine(config.vocab) + " rows of 'token_embd.weight'");
  if (kinds && (!kinds->isArray || kinds->count != tokens->count ||
                kinds->bits.size() != kinds->count))
    return fail("'tokenizer.ggml.token_type' is " + kinds->toText() +
                ", expected an array of " + Twine(tokens->count) + " integers");
  return absl::OkStatus();
}

absl::Status TokenizerWriter::checkMerges() {
  if (absl::Status status =
          checkStrings(model.sourcePath(), "tokenizer.ggml.merges", merges);
      !status.ok())
    return status;
  for (auto [i, text] : llvm::enumerate(merges->strings)) {
    StringRef merge = text;
    size_t space = merge.find(' ');
    if (space == 0 || space == StringRef::npos || space + 1 == merge.size() ||
        merge.rfind(' ') != space)
      return fail("'tokenizer.ggml.merges' has element " + Twine(i) + ", " +
                  quote(merge) + ", expected two tokens with a space between");
  }
  return absl::OkStatus();
}

absl::Status TokenizerWriter::checkScores() {
  if (!scores || !scores->isArray || scores->type != ValueType::F32 ||
      scores->count != tokens->count)
    return fail("'tokenizer.ggml.scores' is " +
                (scores ? scores->toText() : "missing") +
                ", expected an array of " + Twine(tokens->count) + " numbers");
  for (auto [i, bits] : llvm::enumerate(scores->bits))
    if (!std::isfinite(llvm::bit_cast<double>(bits)))
      return fail("'tokenizer.ggml.scores' has element " + Twine(i) +
                  " that is not finite");
  for (auto [i, token] : llvm::enumerate(tokens->strings))
    if (token.size() > maxPieceBytes)
      return fail("'tokenizer.ggml.tokens' has element " + Twine(i) + " of " +
                  Twine(token.size()) + " bytes, expected at most " +
                  Twine(maxPieceBytes));
  return absl::OkStatus();
}

/// Writes what comes before the normalizer: the tokens that are found in the
/// text itself among them.
void TokenizerWriter::writeStart(llvm::json::OStream &json) {
  json.attribute("version", "1.0");
  json.attribute("truncation", nullptr);
  json.attribute("padding", nullptr);
  json.attributeArray("added_tokens", [&] {
    llvm::StringMap<size_t> seen;
    for (size_t id = 0; id < tokens->strings.size(); ++id) {
      const std::string &content = tokens->strings[id];
      TokenKind kind = kindOf(id);
      if ((kind != TokenKind::Control && kind != TokenKind::UserDefined) ||
          content.empty() || !seen.try_emplace(content, id).second)
        continue;
      json.object([&] {
        json.attribute("id", int64_t(id));
        json.attribute("content", content);
        for (const char *key :
             {"single_word", "lstrip", "rstrip", "normalized"})
          json.attribute(key, false);
        json.attribute("special", kind == TokenKind::Control);
      });
    }
  });
}

void TokenizerWriter::writeVocabulary(llvm::json::OStream &json) {
  json.attributeObject("vocab", [&] {
    llvm::StringMap<size_t> seen;
    for (auto [id, content] : llvm::enumerate(tokens->strings))
      // Ids that no token has are filled up; a token that is in the list
      // twice has the lower id.
      if (kindOf(id) != TokenKind::Unused &&
          seen.try_emplace(content, id).second)
        json.attribute(content, int64_t(id));
  });
}

std::string TokenizerWriter::writeByteLevel(const Splitter &splitter) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::json::OStream json(os);
  auto split = [&](const std::string &expression) {
    json.object([&] {
      json.attribute("type", "Split");
      json.attributeObject("pattern",
                           [&] { json.attribute("Regex", expression); });
      json.attribute("behavior", "Isolated");
      json.attribute("invert", false);
    });
  };
  json.object([&] {
    writeStart(json);
    if (splitter.normalizesNFC)
      json.attributeObject("normalizer",
                           [&] { json.attribute("type", "NFC"); });
    else
      json.attribute("normalizer", nullptr);
    json.attributeObject("pre_tokenizer", [&] {
      json.attribute("type", "Sequence");
      json.attributeArray("pretokenizers", [&] {
        for (StringRef expression : splitter.expressions)
          if (!expression.empty())
            split(expand(expression));
        if (splitter.splitsDigits)
          json.object([&] {
            json.attribute("type", "Digits");
            json.attribute("individual_digits", true);
          });
        json.object([&] {
          json.attribute("type", "ByteLevel");
          json.attribute("add_prefix_space", false);
          json.attribute("trim_offsets", true);
          json.attribute("use_regex", false);
        });
      });
    });
    json.attribute("post_processor", nullptr);
    json.attributeObject("decoder", [&] {
      json.attribute("type", "ByteLevel");
      json.attribute("add_prefix_space", true);
      json.attribute("trim_offsets", true);
      json.attribute("use_regex", true);
    });
    json.attributeObject("model", [&] {
      json.attribute("type", "BPE");
      for (const char *key :
           {"dropout", "unk_token", "continuing_subword_prefix",
            "end_of_word_suffix"})
        json.attribute(key, nullptr);
      json.attribute("fuse_unk", false);
      json.attribute("byte_fallback", false);
      json.attribute("ignore_merges", splitter.ignoresMerges);
      writeVocabulary(json);
      json.attributeArray("merges", [&] {
        for (const std::string &merge : merges->strings)
          json.value(merge);
      });
    });
  });
  return text;
}

/// The pairs of tokens that SentencePiece merges, the best first: it takes the
/// neighbors whose token together has the highest score (its
/// `bpe_model.cc`). A pair of equal scores comes in the order of the ids, as in
/// the converters of transformers.
std::vector<std::string> TokenizerWriter::findMerges() const {
  llvm::StringMap<size_t> ids;
  for (auto [id, token] : llvm::enumerate(tokens->strings))
    if (kindOf(id) == TokenKind::Normal)
      ids.try_emplace(token, id);
  struct Pair {
    double score;
    size_t left, right;
  };
  std::vector<Pair> pairs;
  for (auto [id, text] : llvm::enumerate(tokens->strings)) {
    StringRef token = text;
    auto known = ids.find(token);
    if (known == ids.end() || known->second != id)
      continue;
    for (size_t cut = 1; cut < token.size(); ++cut) {
      auto left = ids.find(token.take_front(cut));
      if (left == ids.end())
        continue;
      auto right = ids.find(token.drop_front(cut));
      if (right != ids.end())
        pairs.push_back({llvm::bit_cast<double>(scores->bits[id]), left->second,
                         right->second});
    }
  }
  llvm::sort(pairs, [](const Pair &a, const Pair &b) {
    return std::tuple(-a.score, a.left, a.right) <
           std::tuple(-b.score, b.left, b.right);
  });
  std::vector<std::string> merges;
  for (const Pair &pair : pairs)
    merges.push_back(tokens->strings[pair.left] + " " +
                     tokens->strings[pair.right]);
  return merges;
}

/// The token of characters that have none; null if there is none.
llvm::json::Value TokenizerWriter::findUnknown() const {
  for (auto [id, content] : llvm::enumerate(tokens->strings))
    if (kindOf(id) == TokenKind::Unknown)
      return content;
  return nullptr;
}

/// As the tokenizer.json of Llama 2.
std::string TokenizerWriter::writeSentencePiece() {
  constexpr StringRef blank = "\u2581";
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::json::OStream json(os);
  auto replace = [&](StringRef from, StringRef to) {
    json.object([&] {
      json.attribute("type", "Replace");
      json.attributeObject("pattern", [&] { json.attribute("String", from); });
      json.attribute("content", to);
    });
  };
  bool addsBlank = getBoolean("tokenizer.ggml.add_space_prefix").value_or(true);
  json.object([&] {
    writeStart(json);
    json.attributeObject("normalizer", [&] {
      json.attribute("type", "Sequence");
      json.attributeArray("normalizers", [&] {
        if (addsBlank)
          json.object([&] {
            json.attribute("type", "Prepend");
            json.attribute("prepend", blank);
          });
        replace(" ", blank);
      });
    });
    json.attribute("pre_tokenizer", nullptr);
    json.attribute("post_processor", nullptr);
    json.attributeObject("decoder", [&] {
      json.attribute("type", "Sequence");
      json.attributeArray("decoders", [&] {
        replace(blank, " ");
        for (const char *type : {"ByteFallback", "Fuse"})
          json.object([&] { json.attribute("type", type); });
        json.object([&] {
          json.attribute("type", "Strip");
          json.attribute("content", " ");
          json.attribute("start", int64_t(addsBlank));
          json.attribute("stop", 0);
        });
      });
    });
    json.attributeObject("model", [&] {
      json.attribute("type", "BPE");
      json.attribute("dropout", nullptr);
      json.attribute("unk_token", findUnknown());
      json.attribute("fuse_unk", true);
      json.attribute("byte_fallback", true);
      json.attribute("ignore_merges", false);
      writeVocabulary(json);
      json.attributeArray("merges", [&] {
        for (const std::string &merge : findMerges())
          json.value(merge);
      });
    });
  });
  return text;
}

std::string TokenizerWriter::writeConfig(bool addsBos) {
  llvm::json::Object object;
  auto setToken = [&](StringRef key, std::optional<int64_t> id) {
    if (id && uint64_t(*id) < tokens->strings.size())
      object[key] = tokens->strings[size_t(*id)];
  };
  setToken("bos_token", config.bosToken);
  if (!config.eosTokens.empty())
    setToken("eos_token", config.eosTokens.front());
  object["add_bos_token"] =
      getBoolean("tokenizer.ggml.add_bos_token").value_or(addsBos);
  object["add_eos_token"] =
      getBoolean("tokenizer.ggml.add_eos_token").value_or(false);
  if (std::optional<StringRef> chat = getString("tokenizer.chat_template")) {
    if (llvm::json::isUTF8(*chat))
      object["chat_template"] = *chat;
    else
      notes.emplace_back(
          "left out 'tokenizer.chat_template', which is not UTF-8");
  }
  std::string text;
  llvm::raw_string_ostream(text) << llvm::json::Value(std::move(object));
  return text;
}

absl::StatusOr<std::vector<TextFile>> TokenizerWriter::make() {
  if (absl::Status status = checkTypes(); !status.ok())
    return status;
  std::optional<StringRef> kind = getString("tokenizer.ggml.model");
  if (!kind || *kind == "none" || *kind == "no_vocab")
    return none("the file has none");
  bool isSentencePiece = *kind == "llama";
  if (*kind != "gpt2" && !isSentencePiece)
    return none("'tokenizer.ggml.model' is " +
                quote(llvm::json::fixUTF8(*kind)) +
                ", which is not supported, only gpt2 and llama are");
  tokens = model.get("tokenizer.ggml.tokens");
  kinds = model.get("tokenizer.ggml.token_type");
  if (isSentencePiece) {
    scores = model.get("tokenizer.ggml.scores");
    if (absl::Status status = checkTokens(); !status.ok())
      return status;
    if (absl::Status status = checkScores(); !status.ok())
      return status;
    return finish(writeSentencePiece(), /*addsBos=*/true);
  }
  std::optional<StringRef> pre = getString("tokenizer.ggml.pre");
  if (!pre)
    return none("the file has no key 'tokenizer.ggml.pre', which says how text "
                "is split; --gguf-key=tokenizer.ggml.pre=VALUE supplies it");
  const Splitter *splitter = findSplitter(*pre);
  if (!splitter)
    return none("'tokenizer.ggml.pre' is " + quote(llvm::json::fixUTF8(*pre)) +
                ", which is not supported");
  merges = model.get("tokenizer.ggml.merges");
  if (!merges)
    return none("the file has no key 'tokenizer.ggml.merges'");
  if (absl::Status status = checkTokens(); !status.ok())
    return status;
  if (absl::Status status = checkMerges(); !status.ok())
    return status;
  return finish(writeByteLevel(*splitter), splitter->addsBos);
}

/// The files, of which \p tokenizer is the tokenizer.json.
absl::StatusOr<std::vector<TextFile>>
TokenizerWriter::finish(std::string tokenizer, bool addsBos) {
  std::vector<TextFile> files = {
      {"tokenizer.json", std::move(tokenizer)},
      {"tokenizer_config.json", writeConfig(addsBos)}};
  if (config.eosTokens.size() > 1) {
    std::string text;
    llvm::raw_string_ostream(text) << llvm::json::Value(llvm::json::Object{
        {"eos_token_id", llvm::json::Array(config.eosTokens)}});
    files.push_back({"generation_config.json", std::move(text)});
  }
  return files;
}

absl::StatusOr<std::vector<TextFile>>
gguf::makeTextFiles(const Model &model, const Config &config,
                    std::vector<std::string> &notes) {
  return TokenizerWriter(model, config, notes).make();
}
