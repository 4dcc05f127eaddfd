// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The keywords `pattern` and `format` of a JSON schema as a grammar.

#ifndef HADAL_TEXT_SRC_SCHEMAPATTERN_H
#define HADAL_TEXT_SRC_SCHEMAPATTERN_H

#include "Grammar.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hadal::text {

/// Writes between \p from and \p to the strings of JSON, with their quotes, in
/// which \p pattern matches anywhere, and that have \p min to \p max (-1: any
/// number of) characters. \p pattern is a regular expression of ECMA-262 with
/// the flag `u`, as JSON schemas have it. A character is escaped only where it
/// must be.
///
/// \returns False, and what is wrong in \p error, if \p pattern is not one, or
/// not regular: it looks around or back. A grammar that is too large says so.
bool addPattern(Grammar::Impl &grammar, int32_t from, int32_t to,
                std::string_view pattern, int64_t min, int64_t max,
                std::string &error);

/// A pattern of strings that are all valid under the format \p name; common
/// ones, not all. Nothing if the format is not known here.
std::optional<std::string> findFormat(std::string_view name);

} // namespace hadal::text

#endif // HADAL_TEXT_SRC_SCHEMAPATTERN_H
