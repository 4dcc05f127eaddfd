// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How the programs here report errors and print JSON.

#ifndef HADAL_TOOLS_HADAL_RUN_REPORT_H
#define HADAL_TOOLS_HADAL_RUN_REPORT_H

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::run {

/// The exit codes of all Hadal tools.
enum ExitCode { Done = 0, BadInput = 1, BadUsage = 2, InternalError = 3 };

/// Takes the name under which the program reports from \p argv0.
void setProgramName(const char *argv0);

/// The last component of the path that the program was called by.
const char *programName();

/// Prints `NAME: error: ...` on one line of stderr; control characters in it,
/// which may come from a file, are replaced. \returns \p code.
__attribute__((format(printf, 2, 3))) ExitCode reportError(ExitCode code,
                                                           const char *format,
                                                           ...);

/// As reportError(), and points to --help. \returns BadUsage.
__attribute__((format(printf, 1, 2))) ExitCode reportUsage(const char *format,
                                                           ...);

/// Appends \p text, which is UTF-8, as a JSON string.
void appendJsonString(std::string &out, std::string_view text);

/// Appends \p values as a JSON list.
void appendJsonList(std::string &out, const std::vector<int32_t> &values);

/// Appends formatted text.
__attribute__((format(printf, 2, 3))) void
appendFormat(std::string &out, const char *format, ...);

/// Writes \p text to stdout, and reports if it cannot.
ExitCode printOutput(std::string_view text);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_REPORT_H
