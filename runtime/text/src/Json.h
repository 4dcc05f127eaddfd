// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Access to untrusted JSON that cannot throw: every read says what it expects,
// and a mismatch is an error that names the file and the key.

#ifndef HADAL_TEXT_SRC_JSON_H
#define HADAL_TEXT_SRC_JSON_H

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace hadal::text {

using Json = nlohmann::json;

/// \p text in single quotes, with bytes that are not printable ASCII or UTF-8
/// escaped, and cut where it gets long: fit for one line of an error message.
std::string quote(std::string_view text);

/// \p text, which should be UTF-8, as a string of JSON, with its quotes.
std::string quoteJson(const std::string &text);

/// Parses \p text. On failure sets \p error to "FILE: ... at byte N".
std::optional<Json> parseJson(std::string_view text, std::string_view file,
                              std::string &error);

/// The member \p key of \p object; null if it is absent or JSON's null, or if
/// \p object is not an object.
const Json *findMember(const Json &object, const char *key);

/// The string \p key of \p object; nothing if it is absent or not a string.
std::optional<std::string> stringMember(const Json &object, const char *key);

/// Reads the bool \p key of \p object into \p value, which stays as it is if
/// the key is absent or null. \p where is the path of \p object.
/// \returns False with an error if it is there and not a bool.
bool readBool(const Json &object, const char *key, const std::string &where,
              bool &value, std::string &error);

/// Reads a token id: an integer from 0 to `maxTokenId`.
/// \returns False with an error that begins with \p where.
bool readTokenId(const Json &json, const std::string &where, int32_t &id,
                 std::string &error);

/// No known vocabulary comes near; tables are indexed by id, so that a file
/// with one absurd id would otherwise cost gigabytes.
inline constexpr int32_t maxTokenId = (1 << 22) - 1;

} // namespace hadal::text

#endif // HADAL_TEXT_SRC_JSON_H
