// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The BPE model: reading it, and merging with a heap over a linked list.

#include "Bpe.h"

#include "ByteLevel.h"
#include "Utf8.h"

#include <algorithm>

namespace hadal::text {

namespace {

/// Longer pieces seldom come twice.
constexpr size_t maxCachedPieceBytes = 256;
constexpr size_t maxCachedPieces = 1 << 14;

} // namespace

bool Bpe::readVocab(const Json &model, std::string &error) {
  const std::string where = "tokenizer.json: model.vocab";
  const Json *json = findMember(model, "vocab");
  if (!json || !json->is_object()) {
    error = where + ": expected an object, but got " +
            (json ? json->type_name() : "none");
    return false;
  }
  vocab.reserve(json->size());
  for (auto item = json->begin(); item != json->end(); ++item) {
    int32_t id;
    if (!readTokenId(item.value(), where, id, error)) {
      error.insert(where.size(), "[" + quote(item.key()) + "]");
      return false;
    }
    if (static_cast<size_t>(id) >= spellingOf.size())
      spellingOf.resize(id + 1);
    if (spellingOf[id]) {
      error = where + ": the id " + std::to_string(id) + " is given to both " +
              quote(*spellingOf[id]) + " and " + quote(item.key());
      return false;
    }
    spellingOf[id] = &vocab.emplace(item.key(), id).first->first;
  }
  return true;
}

size_t Bpe::findSlot(uint64_t pair) const {
  size_t mask = merges.size() - 1;
  // Fibonacci hashing: the high bits of the product are well mixed.
  size_t slot = (pair * 0x9E3779B97F4A7C15u >> 32) & mask;
  while (merges[slot].pair != pair && merges[slot].pair != noPair)
    slot = (slot + 1) & mask;
  return slot;
}

const Bpe::Merge *Bpe::findMerge(int32_t left, int32_t right) const {
  const Merge &merge = merges[findSlot(makePair(left, right))];
  return merge.pair == noPair ? nullptr : &merge;
}

bool Bpe::addMerge(const std::string &left, const std::string &right,
                   uint32_t rank, size_t index, std::string &error) {
  int32_t ids[3];
  const std::string joined = left + right;
  const std::string *parts[3] = {&left, &right, &joined};
  for (int i = 0; i < 3; ++i) {
    auto token = vocab.find(*parts[i]);
    if (token == vocab.end()) {
      error = "tokenizer.json: model.merges[" + std::to_string(index) +
              "]: the token " + quote(*parts[i]) + " is not in model.vocab";
      return false;
    }
    ids[i] = token->second;
  }
  uint64_t pair = makePair(ids[0], ids[1]);
  // A pair that comes twice has the later rank, as in `tokenizers`.
  merges[findSlot(pair)] = {pair, rank, ids[2]};
  return true;
}

bool Bpe::readMerges(const Json &model, std::string &error) {
  const std::string where = "tokenizer.json: model.merges";
  const Json *json = findMember(model, "merges");
  if (!json || !json->is_array()) {
    error = where + ": expected an array, but got " +
            (json ? json->type_name() : "none");
    return false;
  }
  size_t capacity = 16;
  while (capacity < json->size() * 2)
    capacity *= 2;
  merges.assign(capacity, {noPair, 0, -1});
  uint32_t rank = 0;
  for (size_t i = 0; i < json->size(); ++i) {
    const Json &entry = (*json)[i];
    std::string left, right;
    bool isPair = false;
    if (const auto *text = entry.get_ptr<const std::string *>()) {
      if (text->compare(0, 8, "#version") == 0)
        continue;
      size_t space = text->find(' ');
      isPair = space != std::string::npos &&
               text->find(' ', space + 1) == std::string::npos;
      if (isPair) {
        left = text->substr(0, space);
        right = text->substr(space + 1);
      }
    } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() &&
               entry[1].is_string()) {
      isPair = true;
      left = *entry[0].get_ptr<const std::string *>();
      right = *entry[1].get_ptr<const std::string *>();
    }
    if (!isPair) {
      error = where + "[" + std::to_string(i) +
              "]: expected \"a b\" or [\"a\", \"b\"]";
      if (const auto *text = entry.get_ptr<const std::string *>())
        error += ", but got " + quote(*text);
      return false;
    }
    if (!addMerge(left, right, rank++, i, error))
      return false;
  }
  return true;
}

int Bpe::getFallbackByte(std::string_view spelling) const {
  auto digit = [](char c) {
    if (c >= '0' && c <= '9')
      return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  if (!fallsBackToBytes || spelling.size() != 6 ||
      spelling.substr(0, 3) != "<0x" || spelling[5] != '>')
    return -1;
  int high = digit(spelling[3]), low = digit(spelling[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool Bpe::read(const Json &json, bool byteLevel, std::string &error) {
  isByteLevel = byteLevel;
  const std::string where = "tokenizer.json: model";
  std::optional<std::string> type = stringMember(json, "type");
  if (type != "BPE") {
    error = where + ".type: expected 'BPE', but got " +
            (type ? quote(*type) : std::string("none"));
    return false;
  }
  for (const char *key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    std::optional<std::string> affix = stringMember(json, key);
    if (affix && !affix->empty()) {
      error = where + "." + key + ": " + quote(*affix) + " is not supported";
      return false;
    }
  }
  const Json *dropout = findMember(json, "dropout");
  if (dropout && (!dropout->is_number() || dropout->get<double>() != 0)) {
    error = where + ".dropout: expected null or 0, but got " +
            (dropout->is_number() ? dropout->dump() : dropout->type_name());
    return false;
  }
  if (!readBool(json, "byte_fallback", where, fallsBackToBytes, error) ||
      !readBool(json, "fuse_unk", where, fusesUnknown, error) ||
      !readBool(json, "ignore_merges", where, ignoresMerges, error))
    return false;
  if (fallsBackToBytes && isByteLevel) {
    error = where + ".byte_fallback: true is not supported in byte-level BPE, "
                    "which has a character for each byte";
    return false;
  }
  if (!readVocab(json, error) || !readMerges(json, error))
    return false;
  if (std::optional<std::string> unknown = stringMember(json, "unk_token")) {
    auto token = vocab.find(*unknown);
    if (token == vocab.end()) {
      error =
          where + ".unk_token: " + quote(*unknown) + " is not in model.vocab";
      return false;
    }
    unknownId = token->second;
  }
  byteIds.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string spelled;
    if (isByteLevel) {
      appendUtf8(spelled, byteLevelChar(static_cast<uint8_t>(byte)));
    } else {
      constexpr char digits[] = "0123456789ABCDEF";
      spelled = {'<', '0', 'x', digits[byte / 16], digits[byte % 16], '>'};
    }
    auto token = vocab.find(spelled);
    if (token != vocab.end() && (isByteLevel || fallsBackToBytes))
      byteIds[byte] = token->second;
  }
  return true;
}

void Bpe::merge(Workspace &workspace) const {
  auto &symbols = workspace.symbols;
  auto &heap = workspace.heap;
  // Lowest rank first, then leftmost.
  auto isAfter = [](const Workspace::Candidate &a,
                    const Workspace::Candidate &b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  heap.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i)
    if (const Merge *merge = findMerge(symbols[i].id, symbols[i + 1].id))
      heap.push_back({merge->rank, static_cast<int32_t>(i), merge->merged});
  std::make_heap(heap.begin(), heap.end(), isAfter);
  auto push = [&](int32_t position) {
    int32_t next = symbols[position].next;
    const Merge *merge = findMerge(symbols[position].id, symbols[next].id);
    if (!merge)
      return;
    heap.push_back({merge->rank, position, merge->merged});
    std::push_heap(heap.begin(), heap.end(), isAfter);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), isAfter);
    Workspace::Candidate top = heap.back();
    heap.pop_back();
    Workspace::Symbol &symbol = symbols[top.position];
    if (symbol.id < 0 || symbol.next < 0)
      continue;
    // The symbols may have changed since. Like `tokenizers`, take any pair that
    // still makes the same token.
    Workspace::Symbol &right = symbols[symbol.next];
    const Merge *merge = findMerge(symbol.id, right.id);
    if (!merge || merge->merged != top.merged)
      continue;
    symbol.id = top.merged;
    symbol.next = right.next;
    right.id = -1;
    if (symbol.next >= 0) {
      symbols[symbol.next].previous = top.position;
    }
    if (symbol.previous >= 0)
      push(symbol.previous);
    if (symbol.next >= 0)
      push(top.position);
  }
}

void Bpe::addSymbol(int32_t id, bool &wasUnknown, Workspace &workspace) const {
  bool isUnknown = id < 0;
  if (isUnknown && (unknownId < 0 || (wasUnknown && fusesUnknown)))
    return;
  wasUnknown = isUnknown;
  auto index = static_cast<int32_t>(workspace.symbols.size());
  workspace.symbols.push_back(
      {isUnknown ? unknownId : id, index - 1, index + 1});
}

void Bpe::startFromBytes(std::string_view piece, Workspace &workspace) const {
  bool wasUnknown = false;
  for (char byte : piece)
    addSymbol(byteIds[static_cast<uint8_t>(byte)], wasUnknown, workspace);
}

/// A character without a token becomes its bytes, if all of them have one.
void Bpe::startFromCharacters(std::string_view piece,
                              Workspace &workspace) const {
  bool wasUnknown = false;
  for (size_t at = 0; at < piece.size();) {
    std::string_view character = piece.substr(at, readUtf8(piece, at).length);
    at += character.size();
    workspace.character.assign(character);
    auto token = vocab.find(workspace.character);
    bool hasBytes = token == vocab.end();
    for (char byte : character)
      hasBytes &= byteIds[static_cast<uint8_t>(byte)] >= 0;
    if (!hasBytes) {
      addSymbol(token == vocab.end() ? -1 : token->second, wasUnknown,
                workspace);
      continue;
    }
    for (char byte : character)
      addSymbol(byteIds[static_cast<uint8_t>(byte)], wasUnknown, workspace);
  }
}

void Bpe::encode(std::string_view piece, Workspace &workspace,
                 std::vector<int32_t> &ids) const {
  bool isCached = piece.size() > 1 && piece.size() <= maxCachedPieceBytes;
  if (isCached) {
    workspace.key.assign(piece);
    auto hit = workspace.cache.find(workspace.key);
    if (hit != workspace.cache.end()) {
      ids.insert(ids.end(), hit->second.begin(), hit->second.end());
      return;
    }
  }
  size_t first = ids.size();
  bool isDone = false;
  if (ignoresMerges) {
    std::string spelled;
    if (isByteLevel)
      spellBytes(piece, spelled);
    else
      spelled = piece;
    auto token = vocab.find(spelled);
    if (token != vocab.end()) {
      ids.push_back(token->second);
      isDone = true;
    }
  }
  if (!isDone) {
    auto &symbols = workspace.symbols;
    symbols.clear();
    if (isByteLevel)
      startFromBytes(piece, workspace);
    else
      startFromCharacters(piece, workspace);
    if (!symbols.empty()) {
      symbols.back().next = -1;
      merge(workspace);
    }
    for (const Workspace::Symbol &symbol : symbols)
      if (symbol.id >= 0)
        ids.push_back(symbol.id);
  }
  if (isCached && workspace.cache.size() < maxCachedPieces)
    workspace.cache.emplace(
        workspace.key, std::vector<int32_t>(ids.begin() + first, ids.end()));
}

} // namespace hadal::text
