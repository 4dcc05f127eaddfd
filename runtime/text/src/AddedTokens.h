// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tokens that are found in the text itself, before the model sees it.

#ifndef HADAL_TEXT_SRC_ADDEDTOKENS_H
#define HADAL_TEXT_SRC_ADDEDTOKENS_H

#include "Regex.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace hadal::text {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool isSpecial = false;
  /// Takes the blanks before it, or after it, as well.
  bool stripsLeft = false, stripsRight = false;
  /// Is found only where no letter, digit, mark or `_` touches it.
  bool isSingleWord = false;
  /// Is looked for after normalization rather than before.
  bool isNormalized = false;
};

/// A part of a text: a token, or (id -1) text between tokens.
struct TextPart {
  std::string_view text;
  int32_t id;
};

/// Finds tokens leftmost first, the longest where several start.
class AddedTokenSet {
public:
  /// \p spelling is what the text has: `content`, or its normalized form.
  void add(const AddedToken &token, std::string_view spelling);

  /// Appends the parts of valid UTF-8 \p text to \p parts, in order, none of
  /// the texts empty. Special tokens stay text unless \p parseSpecial.
  void split(std::string_view text, bool parseSpecial,
             std::vector<TextPart> &parts) const;

  bool empty() const { return tokens.empty(); }

private:
  /// The token that is the longest to start at \p at; -1 if none does.
  int32_t findAt(std::string_view text, size_t at, size_t &length) const;

  std::vector<AddedToken> tokens;
  /// A trie of bytes: (node, byte) to node. Node 0 is the root.
  std::unordered_map<uint64_t, uint32_t> children;
  /// Per node, the index of the token that ends there, or -1.
  std::vector<int32_t> tokenAt = {-1};
  bool isFirstByte[256] = {};
};

} // namespace hadal::text

#endif // HADAL_TEXT_SRC_ADDEDTOKENS_H
