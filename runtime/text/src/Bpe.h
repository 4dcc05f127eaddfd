// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909), over bytes or
// over characters.

#ifndef HADAL_TEXT_SRC_BPE_H
#define HADAL_TEXT_SRC_BPE_H

#include "Json.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace hadal::text {

class Bpe {
public:
  Bpe() = default;
  Bpe(const Bpe &) = delete;
  Bpe &operator=(const Bpe &) = delete;

  /// Reads the value of the key `model`. With \p isByteLevel pieces are merged
  /// from bytes, and tokens are spelled in byte-level characters; without, from
  /// characters, and tokens are spelled as they are.
  bool read(const Json &json, bool isByteLevel, std::string &error);

  /// The byte that the token \p spelling, such as `<0x0A>`, stands for where a
  /// character has no token; -1 if it is none of these.
  int getFallbackByte(std::string_view spelling) const;

  /// Memory that `encode` uses again and again; one per thread.
  struct Workspace {
    struct Symbol {
      int32_t id;
      /// Indices of neighbors, -1 for none. A symbol that was merged into its
      /// left neighbor has `id` -1.
      int32_t previous, next;
    };
    struct Candidate {
      uint32_t rank;
      int32_t position;
      int32_t merged;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
    std::unordered_map<std::string, std::vector<int32_t>> cache;
    std::string key, character;
  };

  /// Appends the tokens of \p piece to \p ids, in O(n log n) for n bytes.
  void encode(std::string_view piece, Workspace &workspace,
              std::vector<int32_t> &ids) const;

  /// Spelling to id.
  const std::unordered_map<std::string, int32_t> &vocabulary() const {
    return vocab;
  }

  /// By id, the spelling of the token; null for an id without one.
  const std::vector<const std::string *> &spellings() const {
    return spellingOf;
  }

private:
  struct Merge {
    uint64_t pair;
    uint32_t rank;
    int32_t merged;
  };
  static constexpr uint64_t noPair = ~uint64_t(0);

  static uint64_t makePair(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 |
           static_cast<uint32_t>(right);
  }
  bool readVocab(const Json &model, std::string &error);
  bool readMerges(const Json &model, std::string &error);
  bool addMerge(const std::string &left, const std::string &right,
                uint32_t rank, size_t index, std::string &error);
  /// The slot of \p pair in `merges`: its own, or the empty one it would get.
  size_t findSlot(uint64_t pair) const;
  const Merge *findMerge(int32_t left, int32_t right) const;
  void merge(Workspace &workspace) const;
  /// Makes a symbol of each byte, or of each character, of \p piece.
  void startFromBytes(std::string_view piece, Workspace &workspace) const;
  void startFromCharacters(std::string_view piece, Workspace &workspace) const;
  void addSymbol(int32_t id, bool &wasUnknown, Workspace &workspace) const;

  std::unordered_map<std::string, int32_t> vocab;
  /// Points to the keys of `vocab`.
  std::vector<const std::string *> spellingOf;
  /// A hash table with open addressing; a power of two in size.
  std::vector<Merge> merges;
  /// The token of each byte, -1 for a byte without: of its byte-level
  /// character, or the one that it falls back to.
  std::array<int32_t, 256> byteIds;
  bool isByteLevel = true;
  bool fallsBackToBytes = false;
  int32_t unknownId = -1;
  bool fusesUnknown = false;
  bool ignoresMerges = false;
};

} // namespace hadal::text

#endif // HADAL_TEXT_SRC_BPE_H
