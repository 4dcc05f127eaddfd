// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// UTF-8, strictly, with the replacement of ill-formed sequences that Unicode
// recommends (D93b, "maximal subpart") and that Python and Rust share.

#ifndef HADAL_TEXT_SRC_UTF8_H
#define HADAL_TEXT_SRC_UTF8_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hadal::text {

/// What stands at one place of a text.
struct Utf8Step {
  /// U+FFFD if not valid.
  uint32_t codePoint = 0xFFFD;
  /// Bytes of the character, or of the maximal subpart; at least 1.
  size_t length = 1;
  bool valid = false;
  /// Not valid only because the text ends too early.
  bool truncated = false;
};

/// Reads the character at byte \p at, which must be less than the size.
Utf8Step readUtf8(std::string_view text, size_t at);

/// Appends the UTF-8 of \p codePoint, which must be a Unicode scalar value.
void appendUtf8(std::string &text, uint32_t codePoint);

bool isValidUtf8(std::string_view text);

/// Appends \p bytes to \p text with every ill-formed sequence replaced.
void appendLossyUtf8(std::string &text, std::string_view bytes);

/// The last character that ends at the end of valid UTF-8 \p text; U+0000 if
/// the text is empty.
uint32_t lastCodePoint(std::string_view text);

} // namespace hadal::text

#endif // HADAL_TEXT_SRC_UTF8_H
