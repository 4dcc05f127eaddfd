// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a weights file says of text: its tokenizer, and how it chats.

#ifndef HADAL_TOOLS_HADAL_RUN_TEXTSECTIONS_H
#define HADAL_TOOLS_HADAL_RUN_TEXTSECTIONS_H

#include "hadal_rt/hadal_rt.hpp"
#include "hadal_text/chat.h"
#include "hadal_text/tokenizer.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace hadal::run {

/// Makes the tokenizer that \p weights carry. \returns Null, and in \p error a
/// line that names the section, if there is none or it is not supported.
std::unique_ptr<text::Tokenizer> loadTokenizer(const rt::Weights &weights,
                                               std::string &error);

/// Returns what \p tokenizer puts before a text: its bos token, or nothing.
std::vector<int32_t> findTextPrefix(const text::Tokenizer &tokenizer);

/// Finds the chat format of the template that \p weights carry. \returns
/// Nothing, and one line in \p error, if there is none that is known.
std::optional<text::ChatFormat> findChatFormat(const rt::Weights &weights,
                                               const text::Tokenizer &tokenizer,
                                               std::string &error);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_TEXTSECTIONS_H
