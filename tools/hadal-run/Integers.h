// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Integers on a command line.

#ifndef HADAL_TOOLS_HADAL_RUN_INTEGERS_H
#define HADAL_TOOLS_HADAL_RUN_INTEGERS_H

#include "Report.h"

#include <cstdint>
#include <string>
#include <vector>

namespace hadal::run {

/// Reads a number that is all of \p text. \returns False if it is none or not
/// in [\p min, \p max].
bool parseInteger(const char *text, int64_t min, int64_t max, int64_t &value);

/// Reads a number in [\p min, \p max], the value \p text of the option \p name,
/// or reports that it is none.
template <typename Number>
ExitCode readInteger(const char *name, const char *text, int64_t min,
                     int64_t max, Number &value) {
  int64_t parsed;
  if (!parseInteger(text, min, max, parsed))
    return reportUsage("%s is '%.60s', expected a number, %lld .. %lld", name,
                       text, static_cast<long long>(min),
                       static_cast<long long>(max));
  value = Number(parsed);
  return Done;
}

/// Reads numbers in [0, \p max], separated by commas or white space.
/// \returns False if \p text has anything else, or no number.
bool parseIntegerList(const std::string &text, int64_t max,
                      std::vector<int64_t> &values);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_INTEGERS_H
