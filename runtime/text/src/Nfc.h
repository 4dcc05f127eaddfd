// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Unicode normalization form C (UAX #15), which the Qwen tokenizers apply.

#ifndef HADAL_TEXT_SRC_NFC_H
#define HADAL_TEXT_SRC_NFC_H

#include <string>
#include <string_view>

namespace hadal::text {

/// The NFC of valid UTF-8 \p text, by Unicode 9, as `tokenizers` has it. A
/// character of a later version stays where it is.
std::string normalizeNfc(std::string_view text);

} // namespace hadal::text

#endif // HADAL_TEXT_SRC_NFC_H
