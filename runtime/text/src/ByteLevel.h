// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The table of GPT-2 that spells each byte as one printable character (Radford
// et al. 2019, `bytes_to_unicode` in encoder.py).

#ifndef HADAL_TEXT_SRC_BYTELEVEL_H
#define HADAL_TEXT_SRC_BYTELEVEL_H

#include <cstdint>
#include <string>
#include <string_view>

namespace hadal::text {

/// The character that spells \p byte: U+0021 to U+0143.
uint32_t byteLevelChar(uint8_t byte);

/// Appends to \p spelled the spelling of each of \p bytes.
void spellBytes(std::string_view bytes, std::string &spelled);

/// The bytes that \p spelled spells; \p spelled itself if it is not a spelling,
/// as with most special tokens. This is what the ByteLevel decoder of
/// `tokenizers` does with each token.
std::string unspellBytes(std::string_view spelled);

} // namespace hadal::text

#endif // HADAL_TEXT_SRC_BYTELEVEL_H
