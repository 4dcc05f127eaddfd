// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A whole tokenizer: added tokens, normalizer, pre-tokenizer, BPE and the way
// back.

#include "hadal_text/tokenizer.h"

#include "AddedTokens.h"
#include "Bpe.h"
#include "ByteLevel.h"
#include "Json.h"
#include "Nfc.h"
#include "PreTokenizer.h"
#include "Utf8.h"

#include <algorithm>
#include <limits>

namespace hadal::text {

struct Tokenizer::Impl {
  Bpe bpe;
  PreTokenizer preTokenizer;
  /// What the normalizer does, in order: NFC where `from` is empty, else `from`
  /// becomes `to`, or, with `isPrefix`, `to` is put before the text.
  struct NormalizerStep {
    std::string from, to;
    bool isPrefix = false;
  };
  std::vector<NormalizerStep> normalizer;
  /// Tokens are spelled in byte-level characters, not as SentencePiece does.
  bool isByteLevel = true;
  /// What the decoder makes of a text of tokens that are not byte-level: what
  /// it replaces, by what, and how many blanks it takes from the start.
  std::string decodedFrom, decodedTo;
  int strippedBlanks = 0;
  /// Added tokens that are looked for before normalization, and after.
  AddedTokenSet rawTokens, normalizedTokens;
  std::unordered_map<std::string, int32_t> addedIds;

  struct Token {
    std::string bytes;
    bool isSpecial = false;
  };
  std::vector<Token> tokens;

  /// What a post-processor puts around a text.
  std::vector<int32_t> prefix, suffix;
  int32_t bosId = -1, eosId = -1;
  std::vector<int32_t> eosIds;

  bool readNormalizer(const Json &json, std::string &error);
  bool readDecoder(const Json &root, std::string &error);
  bool readDecoderStep(const Json &json, bool &isFused, std::string &error);
  bool normalize(std::string_view text, std::string &normalized,
                 std::string &error) const;
  /// The bytes that a token with \p spelling stands for.
  std::string bytesOf(std::string_view spelling) const;
  bool readAddedTokens(const Json &root, std::string &error);
  bool readPostProcessor(const Json &json, std::string &error);
  bool readTemplate(const Json &json, std::string &error);
  int32_t idOf(const std::string &token) const;
  void addSpecial(bool addBos, bool addEos);
  bool readTokenString(const Json &root, const char *key, int32_t &id,
                       std::string &error) const;
  bool readIdList(const Json &root, const char *key, std::vector<int32_t> &ids,
                  std::string &error) const;
  void setEosIds(int32_t first, const std::vector<int32_t> &more);
  bool encodeText(std::string_view text, bool isFirst,
                  Bpe::Workspace &workspace, std::vector<int32_t> &ids,
                  std::string &error) const;
};

/// Puts \p to in the place of each \p from, which is not empty, in \p text.
static std::string replaceAll(std::string_view text, std::string_view from,
                              std::string_view to) {
  std::string replaced;
  for (size_t at = 0; at < text.size();) {
    size_t found = std::min(text.find(from, at), text.size());
    replaced.append(text, at, found - at);
    if (found < text.size())
      replaced += to;
    at = found + from.size();
  }
  return replaced;
}

/// What normalizers and decoders put into texts is a character or two; long
/// strings would make a text many times as long.
constexpr size_t maxInsertedBytes = 64;

static bool checkInserted(const std::string &text, const std::string &where,
                          std::string &error) {
  if (text.size() <= maxInsertedBytes)
    return true;
  error = where + ": a text of " + std::to_string(text.size()) +
          " bytes is inserted, expected at most " +
          std::to_string(maxInsertedBytes);
  return false;
}

/// Reads `pattern.String`, not empty, and `content` of a Replace.
static bool readReplace(const Json &json, const std::string &where,
                        std::string &from, std::string &to,
                        std::string &error) {
  const Json *pattern = findMember(json, "pattern");
  std::optional<std::string> text, content = stringMember(json, "content");
  if (pattern)
    text = stringMember(*pattern, "String");
  if (!text || text->empty() || !content) {
    error = where + ": expected a Replace with {\"String\": string} as the "
                    "pattern and a string 'content'";
    return false;
  }
  from = *text;
  to = *content;
  return checkInserted(to, where, error);
}

bool Tokenizer::Impl::readNormalizer(const Json &json, std::string &error) {
  const std::string where = "tokenizer.json: normalizer";
  std::optional<std::string> type = stringMember(json, "type");
  if (type == "Sequence") {
    const Json *list = findMember(json, "normalizers");
    if (!list || !list->is_array()) {
      error = where + ".normalizers: expected an array";
      return false;
    }
    for (const Json &step : *list) {
      // One level only: a recursion would be as deep as a hostile file says.
      if (stringMember(step, "type") == "Sequence") {
        error = where + ": a Sequence in a Sequence is not supported";
        return false;
      }
      if (!readNormalizer(step, error))
        return false;
    }
    return true;
  }
  NormalizerStep step;
  if (type == "Prepend") {
    step.isPrefix = true;
    step.to = stringMember(json, "prepend").value_or("");
    if (!checkInserted(step.to, where, error))
      return false;
  } else if (type == "Replace") {
    if (!readReplace(json, where, step.from, step.to, error))
      return false;
  } else if (type != "NFC") {
    error = where + ": " + (type ? quote(*type) : json.type_name()) +
            " is not supported (null, NFC, Prepend, Replace and a Sequence of "
            "them are)";
    return false;
  }
  normalizer.push_back(std::move(step));
  return true;
}

bool Tokenizer::Impl::normalize(std::string_view text, std::string &normalized,
                                std::string &error) const {
  normalized = text;
  for (const NormalizerStep &step : normalizer) {
    if (step.isPrefix && !normalized.empty())
      normalized.insert(0, step.to);
    else if (!step.from.empty())
      normalized = replaceAll(normalized, step.from, step.to);
    else if (!step.isPrefix)
      normalized = normalizeNfc(normalized);
    // Each step may multiply what the one before has made.
    if (normalized.size() / maxInsertedBytes <= text.size() + maxInsertedBytes)
      continue;
    error = "the normalizer makes " + std::to_string(normalized.size()) +
            " bytes of " + std::to_string(text.size());
    return false;
  }
  return true;
}

/// Reads a step of the decoder of tokens that are spelled as they are.
bool Tokenizer::Impl::readDecoderStep(const Json &json, bool &isFused,
                                      std::string &error) {
  const std::string where = "tokenizer.json: decoder";
  std::optional<std::string> type = stringMember(json, "type");
  if (type == "ByteFallback")
    return true; // `Bpe` says which tokens are bytes.
  if (type == "Fuse") {
    isFused = true;
    return true;
  }
  if (type == "Replace" && decodedFrom.empty() && !isFused)
    return readReplace(json, where, decodedFrom, decodedTo, error);
  if (type == "Strip" && isFused && stringMember(json, "content") == " ") {
    const Json *start = findMember(json, "start");
    const Json *stop = findMember(json, "stop");
    bool isKnown = start && start->is_number_unsigned() &&
                   start->get<uint64_t>() < 1024 && stop &&
                   stop->is_number_unsigned() && stop->get<uint64_t>() == 0;
    if (isKnown) {
      strippedBlanks = static_cast<int>(start->get<uint64_t>());
      return true;
    }
  }
  error =
      where + ": " + (type ? quote(*type) : json.type_name()) +
      " is not supported here (Replace of a string, ByteFallback, Fuse, and "
      "then Strip of blanks at the start are)";
  return false;
}

bool Tokenizer::Impl::readDecoder(const Json &root, std::string &error) {
  const Json *json = findMember(root, "decoder");
  const Json *list = nullptr;
  if (json && stringMember(*json, "type") == "Sequence")
    list = findMember(*json, "decoders");
  const Json *step = json;
  if (list && list->is_array() && list->size() == 1)
    step = &(*list)[0];
  std::optional<std::string> type;
  if (step)
    type = stringMember(*step, "type");
  isByteLevel = type == "ByteLevel";
  if (isByteLevel)
    return true;
  if (!list || !list->is_array()) {
    error = "tokenizer.json: decoder: expected ByteLevel or a Sequence, but "
            "got " +
            (type ? quote(*type) : std::string(json ? "another" : "none"));
    return false;
  }
  bool isFused = false;
  for (const Json &entry : *list)
    if (!readDecoderStep(entry, isFused, error))
      return false;
  return true;
}

std::string Tokenizer::Impl::bytesOf(std::string_view spelling) const {
  if (isByteLevel)
    return unspellBytes(spelling);
  if (int byte = bpe.getFallbackByte(spelling); byte >= 0)
    return std::string(1, static_cast<char>(byte));
  return decodedFrom.empty() ? std::string(spelling)
                             : replaceAll(spelling, decodedFrom, decodedTo);
}

bool Tokenizer::Impl::readAddedTokens(const Json &root, std::string &error) {
  const Json *list = findMember(root, "added_tokens");
  if (!list)
    return true;
  if (!list->is_array()) {
    error = std::string("tokenizer.json: added_tokens: expected an array, but "
                        "got ") +
            list->type_name();
    return false;
  }
  std::unordered_map<int32_t, std::string> owners;
  for (size_t i = 0; i < list->size(); ++i) {
    const Json &entry = (*list)[i];
    const std::string where =
        "tokenizer.json: added_tokens[" + std::to_string(i) + "]";
    AddedToken token;
    std::optional<std::string> content = stringMember(entry, "content");
    const Json *id = findMember(entry, "id");
    if (!content || !id) {
      error = where + ": expected an object with a string 'content' and an "
                      "'id'";
      return false;
    }
    token.content = *content;
    if (!readTokenId(*id, where + ".id", token.id, error) ||
        !readBool(entry, "special", where, token.isSpecial, error))
      return false;
    token.isNormalized = !token.isSpecial;
    if (!readBool(entry, "lstrip", where, token.stripsLeft, error) ||
        !readBool(entry, "rstrip", where, token.stripsRight, error) ||
        !readBool(entry, "single_word", where, token.isSingleWord, error) ||
        !readBool(entry, "normalized", where, token.isNormalized, error))
      return false;
    if (token.content.empty())
      continue;
    auto [owner, isNew] = owners.emplace(token.id, token.content);
    if (isNew && static_cast<size_t>(token.id) < bpe.spellings().size() &&
        bpe.spellings()[token.id])
      owner->second = *bpe.spellings()[token.id];
    if (owner->second != token.content) {
      error = where + ": the id " + std::to_string(token.id) +
              " is given to both " + quote(owner->second) + " and " +
              quote(token.content);
      return false;
    }
    int32_t known = idOf(token.content);
    if (known >= 0 && known != token.id) {
      error = where + ": " + quote(token.content) + " has the id " +
              std::to_string(token.id) + " here, but " + std::to_string(known) +
              " before";
      return false;
    }
    if (!addedIds.emplace(token.content, token.id).second)
      continue;
    if (static_cast<size_t>(token.id) >= tokens.size())
      tokens.resize(token.id + 1);
    tokens[token.id] = {bytesOf(token.content), token.isSpecial};
    std::string normalized;
    if (!token.isNormalized) {
      rawTokens.add(token, token.content);
    } else if (normalize(token.content, normalized, error)) {
      normalizedTokens.add(token, normalized);
    } else {
      error = where + ": " + error;
      return false;
    }
  }
  return true;
}

bool Tokenizer::Impl::readTemplate(const Json &json, std::string &error) {
  const std::string where = "tokenizer.json: post_processor";
  const Json *single = findMember(json, "single");
  const Json *specials = findMember(json, "special_tokens");
  if (!single || !single->is_array()) {
    error = where + ".single: expected an array";
    return false;
  }
  bool hasText = false;
  for (size_t i = 0; i < single->size(); ++i) {
    const Json &part = (*single)[i];
    const std::string partWhere = where + ".single[" + std::to_string(i) + "]";
    if (findMember(part, "Sequence")) {
      if (hasText) {
        error = partWhere + ": the text comes twice";
        return false;
      }
      hasText = true;
      continue;
    }
    const Json *special = findMember(part, "SpecialToken");
    std::optional<std::string> name;
    if (special)
      name = stringMember(*special, "id");
    if (!name) {
      error = partWhere + ": expected a Sequence or a SpecialToken with an id";
      return false;
    }
    const Json *entry =
        specials ? findMember(*specials, name->c_str()) : nullptr;
    const Json *ids = entry ? findMember(*entry, "ids") : nullptr;
    if (!ids || !ids->is_array()) {
      error = where + ".special_tokens: no ids for " + quote(*name);
      return false;
    }
    for (const Json &json : *ids) {
      int32_t id;
      if (!readTokenId(json, where + ".special_tokens[" + quote(*name) + "]",
                       id, error))
        return false;
      if (static_cast<size_t>(id) >= tokens.size()) {
        error = where + ".special_tokens[" + quote(*name) + "]: the id " +
                std::to_string(id) + " is outside of the vocabulary of " +
                std::to_string(tokens.size());
        return false;
      }
      (hasText ? suffix : prefix).push_back(id);
    }
  }
  if (!hasText) {
    error = where + ".single: expected a Sequence for the text";
    return false;
  }
  return true;
}

bool Tokenizer::Impl::readPostProcessor(const Json &json, std::string &error) {
  const std::string where = "tokenizer.json: post_processor";
  std::optional<std::string> type = stringMember(json, "type");
  if (type == "Sequence") {
    const Json *list = findMember(json, "processors");
    if (!list || !list->is_array()) {
      error = where + ".processors: expected an array";
      return false;
    }
    for (const Json &step : *list) {
      if (stringMember(step, "type") == "Sequence") {
        error = where + ": a Sequence in a Sequence is not supported";
        return false;
      }
      if (!readPostProcessor(step, error))
        return false;
    }
    return true;
  }
  if (type == "ByteLevel") // It changes offsets, not ids.
    return true;
  if (type == "TemplateProcessing") {
    if (!prefix.empty() || !suffix.empty()) {
      error = where + ": more than one TemplateProcessing is not supported";
      return false;
    }
    return readTemplate(json, error);
  }
  error = where + ": " + (type ? quote(*type) : json.type_name()) +
          " is not supported (ByteLevel, TemplateProcessing and a Sequence of "
          "them are)";
  return false;
}

int32_t Tokenizer::Impl::idOf(const std::string &token) const {
  auto added = addedIds.find(token);
  if (added != addedIds.end())
    return added->second;
  auto known = bpe.vocabulary().find(token);
  return known != bpe.vocabulary().end() ? known->second : -1;
}

void Tokenizer::Impl::addSpecial(bool addBos, bool addEos) {
  prefix.clear();
  suffix.clear();
  if (addBos && bosId >= 0)
    prefix.push_back(bosId);
  if (addEos && eosId >= 0)
    suffix.push_back(eosId);
}

bool Tokenizer::Impl::readTokenString(const Json &root, const char *key,
                                      int32_t &id, std::string &error) const {
  const Json *json = findMember(root, key);
  if (!json)
    return true;
  std::optional<std::string> content = stringMember(root, key);
  if (!content)
    content = stringMember(*json, "content");
  const std::string where = std::string("tokenizer_config.json: ") + key;
  if (!content) {
    error = where + ": expected a string or an object with a string 'content'";
    return false;
  }
  int32_t found = idOf(*content);
  if (found < 0) {
    error = where + ": the tokenizer has no token " + quote(*content);
    return false;
  }
  id = found;
  return true;
}

bool Tokenizer::Impl::readIdList(const Json &root, const char *key,
                                 std::vector<int32_t> &ids,
                                 std::string &error) const {
  const Json *json = findMember(root, key);
  if (!json)
    return true;
  const std::string where = std::string("generation_config.json: ") + key;
  auto readOne = [&](const Json &value) {
    int32_t id;
    if (!readTokenId(value, where, id, error))
      return false;
    if (static_cast<size_t>(id) >= tokens.size()) {
      error = where + ": the id " + std::to_string(id) +
              " is outside of the vocabulary of " +
              std::to_string(tokens.size());
      return false;
    }
    ids.push_back(id);
    return true;
  };
  if (!json->is_array())
    return readOne(*json);
  for (const Json &value : *json)
    if (!readOne(value))
      return false;
  return true;
}

void Tokenizer::Impl::setEosIds(int32_t first,
                                const std::vector<int32_t> &more) {
  if (first >= 0)
    eosId = first;
  if (eosId >= 0)
    eosIds.push_back(eosId);
  eosIds.insert(eosIds.end(), more.begin(), more.end());
  std::sort(eosIds.begin(), eosIds.end());
  eosIds.erase(std::unique(eosIds.begin(), eosIds.end()), eosIds.end());
}

bool Tokenizer::Impl::encodeText(std::string_view text, bool isFirst,
                                 Bpe::Workspace &workspace,
                                 std::vector<int32_t> &ids,
                                 std::string &error) const {
  std::string buffer(text);
  std::vector<Piece> pieces;
  if (!preTokenizer.split(buffer, isFirst, pieces, error))
    return false;
  for (const Piece &piece : pieces)
    bpe.encode(
        std::string_view(buffer).substr(piece.begin, piece.end - piece.begin),
        workspace, ids);
  return true;
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

std::unique_ptr<Tokenizer> Tokenizer::fromJson(std::string_view json,
                                               std::string &error) {
  std::optional<Json> root = parseJson(json, "tokenizer.json", error);
  if (!root)
    return nullptr;
  if (!root->is_object()) {
    error = std::string("tokenizer.json: expected an object, but got ") +
            root->type_name();
    return nullptr;
  }
  auto impl = std::make_unique<Impl>();
  const Json *model = findMember(*root, "model");
  const Json *preTokenizer = findMember(*root, "pre_tokenizer");
  const Json *normalizer = findMember(*root, "normalizer");
  const Json *postProcessor = findMember(*root, "post_processor");
  if (!model) {
    error = "tokenizer.json: no model";
    return nullptr;
  }
  if (!impl->readDecoder(*root, error) ||
      !impl->bpe.read(*model, impl->isByteLevel, error) ||
      !impl->preTokenizer.read(preTokenizer, impl->isByteLevel, error) ||
      (normalizer && !impl->readNormalizer(*normalizer, error)))
    return nullptr;
  const auto &spellings = impl->bpe.spellings();
  impl->tokens.resize(spellings.size());
  for (size_t id = 0; id < spellings.size(); ++id)
    if (spellings[id])
      impl->tokens[id].bytes = impl->bytesOf(*spellings[id]);
  if (!impl->readAddedTokens(*root, error) ||
      (postProcessor && !impl->readPostProcessor(*postProcessor, error)))
    return nullptr;
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

bool Tokenizer::applyTokenizerConfig(std::string_view json,
                                     std::string &error) {
  std::optional<Json> root = parseJson(json, "tokenizer_config.json", error);
  if (!root)
    return false;
  if (!root->is_object()) {
    error = std::string("tokenizer_config.json: expected an object, but got ") +
            root->type_name();
    return false;
  }
  int32_t bos = impl->bosId, eos = -1;
  std::string type = stringMember(*root, "tokenizer_class").value_or("");
  // Release 5 of transformers writes a `backend`, and all that is added into
  // the post-processor.
  bool isLlama = (type.compare(0, 5, "Llama") == 0 ||
                  type.compare(0, 9, "CodeLlama") == 0) &&
                 !findMember(*root, "backend");
  bool addBos = isLlama, addEos = false;
  if (!impl->readTokenString(*root, "bos_token", bos, error) ||
      !impl->readTokenString(*root, "eos_token", eos, error) ||
      !readBool(*root, "add_bos_token", "tokenizer_config.json", addBos,
                error) ||
      !readBool(*root, "add_eos_token", "tokenizer_config.json", addEos, error))
    return false;
  impl->bosId = bos;
  impl->setEosIds(eos, {});
  if (isLlama || findMember(*root, "add_bos_token") ||
      findMember(*root, "add_eos_token"))
    impl->addSpecial(addBos, addEos);
  return true;
}

bool Tokenizer::applyGenerationConfig(std::string_view json,
                                      std::string &error) {
  std::optional<Json> root = parseJson(json, "generation_config.json", error);
  if (!root)
    return false;
  if (!root->is_object()) {
    error =
        std::string("generation_config.json: expected an object, but got ") +
        root->type_name();
    return false;
  }
  std::vector<int32_t> bos, eos;
  if (!impl->readIdList(*root, "bos_token_id", bos, error) ||
      !impl->readIdList(*root, "eos_token_id", eos, error))
    return false;
  if (impl->bosId < 0 && !bos.empty())
    impl->bosId = bos[0];
  impl->setEosIds(impl->eosId < 0 && !eos.empty() ? eos[0] : -1, eos);
  return true;
}

void Tokenizer::setAddSpecial(bool addBos, bool addEos) {
  impl->addSpecial(addBos, addEos);
}

std::optional<std::vector<int32_t>>
Tokenizer::encode(std::string_view text, bool addSpecial, bool parseSpecial,
                  std::string &error) const {
  if (text.size() >= static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    error = "the text has " + std::to_string(text.size()) +
            " bytes, and 2147483646 is the most that can be encoded at once";
    return std::nullopt;
  }
  std::string repaired;
  if (!isValidUtf8(text)) {
    appendLossyUtf8(repaired, text);
    text = repaired;
  }
  std::vector<int32_t> ids;
  if (addSpecial)
    ids = impl->prefix;
  Bpe::Workspace workspace;
  std::vector<TextPart> parts, subparts;
  impl->rawTokens.split(text, parseSpecial, parts);
  for (const TextPart &part : parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      continue;
    }
    std::string normalized;
    std::string_view rest = part.text;
    if (!impl->normalizer.empty()) {
      if (!impl->normalize(rest, normalized, error))
        return std::nullopt;
      rest = normalized;
    }
    subparts.clear();
    impl->normalizedTokens.split(rest, parseSpecial, subparts);
    for (const TextPart &subpart : subparts) {
      bool isFirst =
          part.text.data() == text.data() && subpart.text.data() == rest.data();
      if (subpart.id >= 0)
        ids.push_back(subpart.id);
      else if (!impl->encodeText(subpart.text, isFirst, workspace, ids, error))
        return std::nullopt;
    }
  }
  if (addSpecial)
    ids.insert(ids.end(), impl->suffix.begin(), impl->suffix.end());
  return ids;
}

std::string Tokenizer::decode(const std::vector<int32_t> &ids,
                              bool skipSpecial) const {
  std::string bytes, text;
  for (int32_t id : ids)
    if (!skipSpecial || !isSpecial(id))
      bytes += tokenBytes(id);
  appendLossyUtf8(text, bytes);
  text.erase(0, countStrippedBlanks(text, strippedBlanks()));
  return text;
}

int Tokenizer::strippedBlanks() const { return impl->strippedBlanks; }

size_t Tokenizer::countStrippedBlanks(std::string_view text, int most) {
  size_t count = 0;
  while (count < text.size() && count < static_cast<size_t>(most) &&
         text[count] == ' ')
    ++count;
  return count;
}

std::string_view Tokenizer::tokenBytes(int32_t id) const {
  if (id < 0 || id >= vocabSize())
    return {};
  return impl->tokens[id].bytes;
}

bool Tokenizer::isSpecial(int32_t id) const {
  return id >= 0 && id < vocabSize() && impl->tokens[id].isSpecial;
}

int32_t Tokenizer::vocabSize() const {
  return static_cast<int32_t>(impl->tokens.size());
}

int32_t Tokenizer::idOf(std::string_view token) const {
  return impl->idOf(std::string(token));
}

int32_t Tokenizer::bosId() const { return impl->bosId; }
int32_t Tokenizer::eosId() const { return impl->eosId; }
const std::vector<int32_t> &Tokenizer::eosIds() const { return impl->eosIds; }

std::string Detokenizer::push(int32_t id) {
  std::string text;
  if (skipSpecial && tokenizer.isSpecial(id))
    return text;
  pending += tokenizer.tokenBytes(id);
  // Find the start of a character that the end of `pending` cuts short.
  size_t complete = 0;
  while (complete < pending.size()) {
    Utf8Step step = readUtf8(pending, complete);
    if (step.truncated)
      break;
    complete += step.length;
  }
  appendLossyUtf8(text, std::string_view(pending).substr(0, complete));
  pending.erase(0, complete);
  strip(text);
  return text;
}

void Detokenizer::strip(std::string &text) {
  size_t count = Tokenizer::countStrippedBlanks(text, blanksToStrip);
  blanksToStrip =
      count == text.size() ? blanksToStrip - static_cast<int>(count) : 0;
  text.erase(0, count);
}

std::string Detokenizer::flush() {
  std::string text;
  appendLossyUtf8(text, pending);
  pending.clear();
  strip(text);
  blanksToStrip = tokenizer.strippedBlanks();
  return text;
}

} // namespace hadal::text
