// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads a JSON object key by key, with messages that name key, value and what
// was expected.

#include "lib/Import/ObjectReader.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"

using namespace hadal;
using llvm::StringRef;
using llvm::Twine;

std::string hadal::toText(double number) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%g", number);
  return text;
}

int64_t ObjectReader::integer(StringRef key, const llvm::json::Value &value,
                              int64_t min, int64_t max) {
  std::optional<int64_t> result = value.getAsInteger();
  if (result && *result >= min && *result <= max)
    return *result;
  fail(key, toText(value),
       "an integer from " + Twine(min) + " to " + Twine(max));
  return min;
}

double ObjectReader::number(StringRef key, const llvm::json::Value &value,
                            double min, double max) {
  std::optional<double> result = value.getAsNumber();
  if (result && *result >= min && *result <= max) // False for NaN too.
    return *result;
  fail(key, toText(value),
       "a number from " + toText(min) + " to " + toText(max));
  return min;
}

std::string ObjectReader::string(StringRef key,
                                 const llvm::json::Value &value) {
  if (std::optional<StringRef> result = value.getAsString())
    return result->str();
  fail(key, toText(value), "a string");
  return "";
}

bool ObjectReader::boolean(StringRef key, const llvm::json::Value &value) {
  if (std::optional<bool> result = value.getAsBoolean())
    return *result;
  fail(key, toText(value), "true or false");
  return false;
}

std::vector<StringRef> ObjectReader::unseen() const {
  std::vector<StringRef> keys;
  for (const auto &[key, value] : json)
    if (!seen.contains(StringRef(key)))
      keys.push_back(key);
  llvm::sort(keys);
  return keys;
}
