// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checked access to JSON.

#include "Json.h"

#include "Utf8.h"

#include <cstdio>

namespace hadal::text {

namespace {

/// Accepts everything and remembers where the text stops being JSON.
struct ErrorLocator {
  size_t position = 0;

  // The names are nlohmann-json's.
  // NOLINTBEGIN(readability-identifier-naming)
  bool null() { return true; }
  bool boolean(bool) { return true; }
  bool number_integer(Json::number_integer_t) { return true; }
  bool number_unsigned(Json::number_unsigned_t) { return true; }
  bool number_float(Json::number_float_t, const std::string &) { return true; }
  bool string(std::string &) { return true; }
  bool binary(Json::binary_t &) { return true; }
  bool start_object(size_t) { return true; }
  bool key(std::string &) { return true; }
  bool end_object() { return true; }
  bool start_array(size_t) { return true; }
  bool end_array() { return true; }
  template <typename Exception>
  bool parse_error(size_t at, const std::string &, const Exception &) {
    position = at;
    return false;
  }
  // NOLINTEND(readability-identifier-naming)
};

} // namespace

std::string quote(std::string_view text) {
  constexpr size_t limitBytes = 60;
  std::string result = "'";
  for (size_t at = 0; at < text.size();) {
    if (at >= limitBytes) {
      result += "...";
      break;
    }
    Utf8Step step = readUtf8(text, at);
    auto byte = static_cast<unsigned char>(text[at]);
    bool isControl = byte < 0x20 || byte == 0x7F ||
                     (step.codePoint >= 0x80 && step.codePoint < 0xA0);
    if (step.valid && !isControl) {
      result.append(text.substr(at, step.length));
      at += step.length;
      continue;
    }
    char escape[8];
    std::snprintf(escape, sizeof escape, "\\x%02x", byte);
    result += escape;
    ++at;
  }
  return result + "'";
}

std::string quoteJson(const std::string &text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::optional<Json> parseJson(std::string_view text, std::string_view file,
                              std::string &error) {
  Json json = Json::parse(text.begin(), text.end(), /*cb=*/nullptr,
                          /*allow_exceptions=*/false);
  if (!json.is_discarded())
    return json;
  ErrorLocator locator;
  Json::sax_parse(text.begin(), text.end(), &locator);
  error = std::string(file) + ": not valid JSON at byte " +
          std::to_string(locator.position) + " of " +
          std::to_string(text.size());
  return std::nullopt;
}

const Json *findMember(const Json &object, const char *key) {
  if (!object.is_object())
    return nullptr;
  auto member = object.find(key);
  if (member == object.end() || member->is_null())
    return nullptr;
  return &*member;
}

std::optional<std::string> stringMember(const Json &object, const char *key) {
  const Json *member = findMember(object, key);
  if (!member || !member->is_string())
    return std::nullopt;
  return *member->get_ptr<const std::string *>();
}

bool readBool(const Json &object, const char *key, const std::string &where,
              bool &value, std::string &error) {
  const Json *member = findMember(object, key);
  if (!member)
    return true;
  if (!member->is_boolean()) {
    error = where + "." + key + ": expected true or false, but got " +
            member->type_name();
    return false;
  }
  value = *member->get_ptr<const bool *>();
  return true;
}

bool readTokenId(const Json &json, const std::string &where, int32_t &id,
                 std::string &error) {
  if (json.is_number_unsigned()) {
    uint64_t value = *json.get_ptr<const uint64_t *>();
    if (value <= static_cast<uint64_t>(maxTokenId)) {
      id = static_cast<int32_t>(value);
      return true;
    }
  }
  std::string got = json.is_number() ? json.dump() : json.type_name();
  error = where + ": expected a token id from 0 to " +
          std::to_string(maxTokenId) + ", but got " + got;
  return false;
}

} // namespace hadal::text
