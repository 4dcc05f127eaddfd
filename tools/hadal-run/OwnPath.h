// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where the running program lies: its weights are in it, or beside it.

#ifndef HADAL_TOOLS_HADAL_RUN_OWNPATH_H
#define HADAL_TOOLS_HADAL_RUN_OWNPATH_H

#include "Report.h"

#include <string>

namespace hadal::run {

/// Sets \p path to that of the running program. Reports if the system does not
/// tell it (BadInput).
ExitCode findOwnPath(std::string &path);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_OWNPATH_H
