// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Integers on a command line.

#include "Integers.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

using namespace hadal;

bool run::parseInteger(const char *text, int64_t min, int64_t max,
                       int64_t &value) {
  char *end;
  errno = 0;
  long long parsed = strtoll(text, &end, 10);
  if (errno || end == text || *end || parsed < min || parsed > max)
    return false;
  value = parsed;
  return true;
}

static bool isSeparator(char c) {
  return c == ',' || c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

bool run::parseIntegerList(const std::string &text, int64_t max,
                           std::vector<int64_t> &values) {
  values.clear();
  const char *cursor = text.c_str();
  while (*cursor) {
    char *end;
    errno = 0;
    // strtoll would take a sign and leading space.
    if (*cursor < '0' || *cursor > '9')
      return false;
    long long value = strtoll(cursor, &end, 10);
    if (errno || value > max)
      return false;
    values.push_back(value);
    // One comma at most between two numbers, and none at the end.
    bool hasComma = false;
    for (cursor = end; isSeparator(*cursor); ++cursor) {
      if (*cursor == ',' && hasComma)
        return false;
      hasComma |= *cursor == ',';
    }
    if (*cursor ? cursor == end : hasComma)
      return false;
  }
  return !values.empty() && text.size() == strlen(text.c_str());
}
