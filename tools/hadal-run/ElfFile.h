// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Recognizes the executables and libraries that hadalc makes, without running
// them.

#ifndef HADAL_TOOLS_HADAL_RUN_ELFFILE_H
#define HADAL_TOOLS_HADAL_RUN_ELFFILE_H

#include "Report.h"

#include <optional>
#include <string>

namespace hadal::run {

/// Checks that the open file \p descriptor is an ELF executable for this
/// machine with a section ".hadal.manifest", which hadalc puts into every
/// object. The file is not trusted.
///
/// \returns What is wrong with it; empty if nothing is.
std::string checkProduct(int descriptor);

/// As checkProduct(), for a shared library. \p symbol receives the name of the
/// model that it exports.
std::string checkLibrary(int descriptor, std::string &symbol);

/// Replaces this process by the product at \p argv[0] with the arguments
/// \p argv, which end with null, after checkProduct().
///
/// \returns Only if that is not possible: an exit code, after an error.
int executeProduct(char *const *argv);

/// Looks at the first argument of a tool that is called as `TOOL OUT
/// OPTION...`.
///
/// \param help What `TOOL --help` prints.
/// \returns Null if it is OUT; else an exit code to end with, after what the
/// tool prints.
std::optional<ExitCode> checkProductArgument(int argc, char **argv,
                                             const char *help);

/// The whole `main` of a tool that is called as `TOOL OUT OPTION...` and runs
/// the product OUT with \p mode, unless it is null, and then the options.
///
/// \param help What `TOOL --help` prints.
/// \returns An exit code; not at all if the product runs.
int runProductTool(int argc, char **argv, const char *help, const char *mode);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_ELFFILE_H
