// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What --help says of the options of emitted executables, to them and to the
// tools that run them.

#ifndef HADAL_TOOLS_HADAL_RUN_HELP_H
#define HADAL_TOOLS_HADAL_RUN_HELP_H

namespace hadal::run {

/// Options for running a model.
extern const char runHelp[];

/// Options for measuring one.
extern const char benchHelp[];

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_HELP_H
