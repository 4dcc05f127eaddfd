// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The keys of a tokenizer, from the files of a Hugging Face folder: the other
// way of lib/Import/GGUF/Tokenizer.cpp.

#include "lib/Export/GGUF/TokenizerKeys.h"

#include "lib/Import/GGUF/Tokenizer.h"
#include "lib/Import/JSON.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/JSON.h"

using namespace hadal;
using namespace hadal::gguf;
using llvm::StringRef;
using llvm::Twine;
using llvm::json::Array;
using llvm::json::Object;
using llvm::json::Value;

/// How SentencePiece spells a blank: U+2581.
constexpr StringRef blank = "\xE2\x96\x81";

namespace {
class TokenizerReader {
public:
  explicit TokenizerReader(int64_t vocab)
      : vocab(vocab), tokens(size_t(vocab)),
        kinds(size_t(vocab), int32_t(TokenKind::Unused)) {}

  /// Reads tokenizer.json. Returns why GGUF files cannot say it; empty if they
  /// can.
  std::string read(const Object &root);
  /// Adds what `read` has read.
  void addTo(KeyWriter &keys) const;
  /// Whether texts start with the bos token, as far as tokenizer.json says.
  bool addsBos() const { return hasPrefix; }

private:
  std::string readByteLevel(const Object &root, const Object &model);
  std::string readSentencePiece(const Object &root, const Object &model);
  std::string readSplitting(const Object &root, bool ignoresMerges);
  std::string readStep(const Object &step, Splitting &splitting);
  std::string readVocabulary(const Object &model);
  std::string readAddedTokens(const Object &root);
  std::string readMerges(const Object &model);
  void findPieces(const Object &model);
  bool setToken(std::optional<int64_t> id, StringRef content, TokenKind kind);

  int64_t vocab;
  std::vector<std::string> tokens;
  std::vector<int32_t> kinds;
  std::vector<std::string> merges;
  std::vector<float> scores;
  /// Of byte-level BPE; empty for SentencePiece.
  StringRef splitter;
  /// Of SentencePiece: whether a blank is put before a text.
  bool addsBlank = false;
  bool hasPrefix = false;
};
} // namespace

/// The objects that \p step, which may be a Sequence with the list \p key,
/// stands for, in order.
static llvm::SmallVector<const Object *> flatten(const Object &step,
                                                 StringRef key) {
  if (step.getString("type") != StringRef("Sequence"))
    return {&step};
  llvm::SmallVector<const Object *> steps;
  if (const Array *list = step.getArray(key))
    for (const Value &entry : *list)
      if (const Object *object = entry.getAsObject())
        steps.push_back(object);
  return steps;
}

std::string TokenizerReader::readStep(const Object &step,
                                      Splitting &splitting) {
  StringRef type = step.getString("type").value_or("");
  auto isSet = [&](StringRef key, bool otherwise) {
    return step.getBoolean(key).value_or(otherwise);
  };
  if (type == "Split") {
    const Object *pattern = step.getObject("pattern");
    std::optional<StringRef> expression =
        pattern ? pattern->getString("Regex") : std::nullopt;
    if (expression && step.getString("behavior") == StringRef("Isolated") &&
        !isSet("invert", false)) {
      splitting.steps.push_back(expression->str());
      return "";
    }
  } else if (type == "Digits" && isSet("individual_digits", false)) {
    splitting.steps.push_back(Splitting::digits.str());
    return "";
  } else if (type == "ByteLevel" && !isSet("add_prefix_space", true)) {
    if (isSet("use_regex", true))
      splitting.steps.push_back(Splitting::byteLevel.str());
    return "";
  }
  return "it splits text by a step " + quote(type) + " that they have not";
}

std::string TokenizerReader::readSplitting(const Object &root,
                                           bool ignoresMerges) {
  Splitting splitting;
  splitting.ignoresMerges = ignoresMerges;
  if (const Object *normalizer = root.getObject("normalizer"))
    for (const Object *step : flatten(*normalizer, "normalizers")) {
      if (step->getString("type") != StringRef("NFC"))
        return "it normalizes text otherwise than by NFC";
      splitting.normalizesNFC = true;
    }
  if (const Object *steps = root.getObject("pre_tokenizer"))
    for (const Object *step : flatten(*steps, "pretokenizers"))
      if (std::string why = readStep(*step, splitting); !why.empty())
        return why;
  std::optional<StringRef> name = findSplitterName(splitting);
  if (!name)
    return "they have no name for how it splits text";
  splitter = *name;
  return "";
}

bool TokenizerReader::setToken(std::optional<int64_t> id, StringRef content,
                               TokenKind kind) {
  if (!id || *id < 0 || *id >= vocab)
    return false;
  tokens[size_t(*id)] = content.str();
  kinds[size_t(*id)] = int32_t(kind);
  return true;
}

std::string TokenizerReader::readVocabulary(const Object &model) {
  const Object *list = model.getObject("vocab");
  if (!list)
    return "it has no vocabulary";
  for (const auto &[content, id] : *list)
    if (!setToken(id.getAsInteger(), content, TokenKind::Normal))
      return "the id of " + quote(content) + " is not below the model's " +
             std::to_string(vocab);
  return "";
}

std::string TokenizerReader::readAddedTokens(const Object &root) {
  const Array *list = root.getArray("added_tokens");
  if (!list)
    return "";
  for (const Value &entry : *list) {
    const Object *token = entry.getAsObject();
    std::optional<StringRef> content =
        token ? token->getString("content") : std::nullopt;
    if (!content)
      return "it has an added token without 'content'";
    bool isSpecial = token->getBoolean("special").value_or(false);
    if (!setToken(token->getInteger("id"), *content,
                  isSpecial ? TokenKind::Control : TokenKind::UserDefined))
      return "the id of " + quote(*content) + " is not below the model's " +
             std::to_string(vocab);
  }
  return "";
}

std::string TokenizerReader::readMerges(const Object &model) {
  const Array *list = model.getArray("merges");
  if (!list)
    return "it has no merges";
  for (const Value &entry : *list) {
    std::string merge;
    if (std::optional<StringRef> text = entry.getAsString())
      merge = text->str();
    const Array *pair = entry.getAsArray();
    if (pair && pair->size() == 2)
      merge = ((*pair)[0].getAsString().value_or("") + " " +
               (*pair)[1].getAsString().value_or(""))
                  .str();
    if (StringRef(merge).starts_with("#version"))
      continue;
    if (StringRef(merge).count(' ') != 1)
      return "it has a merge that is not two tokens, " + quote(merge);
    merges.push_back(std::move(merge));
  }
  return "";
}

std::string TokenizerReader::readByteLevel(const Object &root,
                                           const Object &model) {
  if (model.getBoolean("byte_fallback").value_or(false))
    return "its BPE is byte-level, and falls back to bytes";
  return readSplitting(root, model.getBoolean("ignore_merges").value_or(false));
}

/// Reads what is not as in Llama 2's tokenizer.json, see
/// `TokenizerWriter::writeSentencePiece` of the importer.
std::string TokenizerReader::readSentencePiece(const Object &root,
                                               const Object &model) {
  if (!model.getBoolean("byte_fallback").value_or(false) ||
      root.getObject("pre_tokenizer"))
    return "its BPE is neither byte-level nor that of SentencePiece";
  bool replacesBlanks = false;
  const Object *normalizer = root.getObject("normalizer");
  if (normalizer)
    for (const Object *step : flatten(*normalizer, "normalizers")) {
      const Object *pattern = step->getObject("pattern");
      if (step->getString("type") == StringRef("Prepend") && !replacesBlanks &&
          step->getString("prepend") == blank)
        addsBlank = true;
      else if (step->getString("type") == StringRef("Replace") && pattern &&
               pattern->getString("String") == StringRef(" ") &&
               step->getString("content") == blank)
        replacesBlanks = true;
      else
        return "it normalizes text otherwise than SentencePiece";
    }
  return replacesBlanks ? "" : "it does not replace blanks";
}

std::string TokenizerReader::read(const Object &root) {
  const Object *model = root.getObject("model");
  if (!model || model->getString("type").value_or("BPE") != "BPE")
    return "its model is not BPE";
  const Object *decoder = root.getObject("decoder");
  bool isByteLevel =
      decoder && decoder->getString("type") == StringRef("ByteLevel");
  for (std::string why :
       {isByteLevel ? readByteLevel(root, *model)
                    : readSentencePiece(root, *model),
        readVocabulary(*model), readAddedTokens(root), readMerges(*model)})
    if (!why.empty())
      return why;
  if (!isByteLevel)
    findPieces(*model);
  if (const Object *processor = root.getObject("post_processor"))
    for (const Object *step : flatten(*processor, "processors"))
      if (const Array *single = step->getArray("single"))
        hasPrefix = !single->empty() && single->front().getAsObject() &&
                    single->front().getAsObject()->getObject("SpecialToken");
  for (auto [id, token] : llvm::enumerate(tokens))
    if (kinds[id] == int32_t(TokenKind::Unused))
      token = "[PAD" + std::to_string(id) + "]";
  return "";
}

/// Says which tokens are bytes and which is the unknown one, and gives scores:
/// the sooner two tokens are merged, the higher is that of what they make.
void TokenizerReader::findPieces(const Object &model) {
  scores.assign(tokens.size(), -float(merges.size()));
  llvm::StringMap<size_t> ids;
  for (auto [id, token] : llvm::enumerate(tokens)) {
    if (kinds[id] != int32_t(TokenKind::Normal) &&
        kinds[id] != int32_t(TokenKind::Control))
      continue;
    ids[token] = id;
    StringRef digits = token;
    uint8_t byte;
    if (model.getString("unk_token") == StringRef(token))
      kinds[id] = int32_t(TokenKind::Unknown);
    else if (digits.consume_front("<0x") && digits.consume_back(">") &&
             digits.size() == 2 && !digits.getAsInteger(16, byte))
      kinds[id] = int32_t(TokenKind::Byte);
  }
  for (auto [rank, merge] : llvm::enumerate(merges)) {
    auto [left, right] = StringRef(merge).split(' ');
    auto made = ids.find((left + right).str());
    if (made != ids.end() && scores[made->second] == -float(merges.size()))
      scores[made->second] = -float(rank);
  }
}

void TokenizerReader::addTo(KeyWriter &keys) const {
  bool isSentencePiece = splitter.empty();
  keys.addString("tokenizer.ggml.model", isSentencePiece ? "llama" : "gpt2");
  keys.addString("tokenizer.ggml.pre", isSentencePiece ? "default" : splitter);
  keys.addStrings("tokenizer.ggml.tokens", tokens);
  keys.addIntegers("tokenizer.ggml.token_type", kinds);
  if (!isSentencePiece)
    return keys.addStrings("tokenizer.ggml.merges", merges);
  keys.addNumbers("tokenizer.ggml.scores", scores);
  keys.addBoolean("tokenizer.ggml.add_space_prefix", addsBlank);
  if (auto it = llvm::find(kinds, int32_t(TokenKind::Unknown));
      it != kinds.end())
    keys.addInteger("tokenizer.ggml.unknown_token_id", it - kinds.begin());
}

/// The chat template of a tokenizer_config.json: one, or the one called
/// "default" of a list.
static std::optional<StringRef> findTemplate(const Object &config) {
  if (std::optional<StringRef> text = config.getString("chat_template"))
    return text;
  if (const Array *list = config.getArray("chat_template"))
    for (const Value &entry : *list)
      if (const Object *named = entry.getAsObject();
          named && named->getString("name") == StringRef("default"))
        return named->getString("template");
  return std::nullopt;
}

absl::Status gguf::addTokenizerKeys(llvm::ArrayRef<TextFile> files,
                                    int64_t vocab, KeyWriter &keys,
                                    std::vector<std::string> &notes) {
  auto find = [&](StringRef name) -> const TextFile * {
    for (const TextFile &file : files)
      if (file.name == name)
        return &file;
    return nullptr;
  };
  auto addNone = [&](const Twine &why) {
    notes.push_back(("no tokenizer: " + why).str());
    keys.addString("tokenizer.ggml.model", "none");
    return absl::OkStatus();
  };
  const TextFile *tokenizer = find("tokenizer.json");
  if (!tokenizer)
    return addNone("there is no tokenizer.json");
  absl::StatusOr<Object> root =
      parseObject(tokenizer->contents, tokenizer->name);
  if (!root.ok())
    return root.status();
  TokenizerReader reader(vocab);
  if (std::string why = reader.read(*root); !why.empty())
    return addNone("GGUF files cannot say what tokenizer.json does: " + why);
  reader.addTo(keys);
  Object config;
  if (const TextFile *file = find("tokenizer_config.json")) {
    absl::StatusOr<Object> read = parseObject(file->contents, file->name);
    if (!read.ok())
      return read.status();
    config = std::move(*read);
  }
  // As the text library takes them.
  StringRef type = config.getString("tokenizer_class").value_or("");
  bool isLlama = type.starts_with("Llama") || type.starts_with("CodeLlama");
  keys.addBoolean(
      "tokenizer.ggml.add_bos_token",
      config.getBoolean("add_bos_token").value_or(isLlama || reader.addsBos()));
  keys.addBoolean("tokenizer.ggml.add_eos_token",
                  config.getBoolean("add_eos_token").value_or(false));
  std::optional<StringRef> chat = findTemplate(config);
  if (const TextFile *file = find("chat_template.jinja"))
    chat = file->contents;
  if (chat)
    keys.addString("tokenizer.chat_template", *chat);
  return absl::OkStatus();
}
