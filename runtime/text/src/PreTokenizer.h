// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How a text is cut into the pieces that BPE does not merge across.

#ifndef HADAL_TEXT_SRC_PRETOKENIZER_H
#define HADAL_TEXT_SRC_PRETOKENIZER_H

#include "Json.h"
#include "Regex.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::text {

/// A range of bytes.
struct Piece {
  size_t begin, end;
};

class PreTokenizer {
public:
  /// Reads the value of the key `pre_tokenizer`: Split, Digits, ByteLevel, or a
  /// Sequence of them. It must end with the only ByteLevel.
  bool read(const Json &json, std::string &error);

  /// Cuts \p text, valid UTF-8 and not empty, into \p pieces, none empty.
  /// ByteLevel's prefix spaces are inserted into \p text.
  ///
  /// \returns False with an error if a regular expression gave up.
  bool split(std::string &text, std::vector<Piece> &pieces,
             std::string &error) const;

private:
  /// What becomes of a match; as `SplitDelimiterBehavior` of `tokenizers`.
  enum class Behavior {
    Isolated,
    Removed,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous
  };
  struct Step {
    /// Null for a ByteLevel that does not split.
    std::unique_ptr<Regex> regex;
    Behavior behavior = Behavior::Isolated;
    bool isInverted = false;
    bool addsPrefixSpace = false;
  };

  bool readStep(const Json &json, const std::string &where, std::string &error);
  static void arrange(Behavior behavior, std::vector<std::pair<Piece, bool>> &,
                      std::vector<Piece> &pieces);

  std::vector<Step> steps;
  bool hasByteLevel = false;
};

} // namespace hadal::text

#endif // HADAL_TEXT_SRC_PRETOKENIZER_H
