// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How the tools that are linked with LLVM report errors and end.

#ifndef HADAL_SUPPORT_TOOLERRORS_H
#define HADAL_SUPPORT_TOOLERRORS_H

#include "absl/status/status.h"

#include <string>

namespace hadal {

/// Exit codes, the same for all tools.
enum ExitCode { Done = 0, BadInput = 1, BadUsage = 2, Bug = 3 };

/// The errors of the tool \p name.
class ToolErrors {
public:
  explicit constexpr ToolErrors(const char *name) : name(name) {}

  /// Prints "NAME: error: MESSAGE" on one line of stderr, behind what was
  /// printed to stdout. \returns \p code.
  int fail(int code, const std::string &message) const;
  /// ... and points to --help. \returns BadUsage.
  int failUsage(const std::string &message) const;
  /// ... \returns Bug for an internal error, else BadInput.
  int fail(const absl::Status &status) const;

  /// The exit code of a tool whose work ends with \p code: a full disk or a
  /// closed pipe behind stdout is no bug, and no success.
  int finish(int code) const;

private:
  const char *name;
};

} // namespace hadal

#endif // HADAL_SUPPORT_TOOLERRORS_H
