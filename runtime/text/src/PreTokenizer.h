// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How a text is cut into the pieces that BPE does not merge across.

#ifndef HADAL_TEXT_SRC_PRETOKENIZER_H
#define HADAL_TEXT_SRC_PRETOKENIZER_H

#include "Json.h"
#include "Regex.h"

#include <memory>
#include <optional>
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
  /// Reads the value of the key `pre_tokenizer`. Of byte-level BPE: Split,
  /// Digits, ByteLevel, or a Sequence of them, which must end with the only
  /// ByteLevel. Otherwise Metaspace, or null.
  bool read(const Json *json, bool isByteLevel, std::string &error);

  /// Cuts \p text, valid UTF-8 and not empty, into \p pieces, none empty.
  /// Prefix spaces are inserted into \p text. \p isFirst says that nothing is
  /// before it.
  ///
  /// \returns False with an error if a regular expression gave up.
  bool split(std::string &text, bool isFirst, std::vector<Piece> &pieces,
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

  /// SentencePiece's way: blanks become U+2581, and one is put before the text.
  struct Metaspace {
    enum class Scheme { Never, First, Always };
    std::string replacement;
    Scheme scheme = Scheme::Always;
    /// Each replacement starts a piece.
    bool isSplit = true;
  };

  bool readMetaspace(const Json &json, std::string &error);
  void splitMetaspace(std::string &text, bool isFirst,
                      std::vector<Piece> &pieces) const;
  bool readStep(const Json &json, const std::string &where, std::string &error);
  static void arrange(Behavior behavior, std::vector<std::pair<Piece, bool>> &,
                      std::vector<Piece> &pieces);

  std::vector<Step> steps;
  std::optional<Metaspace> metaspace;
  bool hasByteLevel = false;
};

} // namespace hadal::text

#endif // HADAL_TEXT_SRC_PRETOKENIZER_H
