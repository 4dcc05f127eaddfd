// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the report predicts of a machine: each dispatch takes as long as its
// bytes or its operations, whichever is longer (Williams et al. 2009,
// "Roofline: an insightful visual performance model for multicore
// architectures").

#ifndef HADAL_LIB_COMPILER_ROOFLINE_H
#define HADAL_LIB_COMPILER_ROOFLINE_H

#include "hadal/Compiler.h"

#include "llvm/Support/JSON.h"

namespace hadal {

/// Reads what of a file that `parseMachine()` takes, \p path, is in \p object:
/// all of it, or what was measured beside one run. Fails as that does.
absl::StatusOr<Machine> readMachine(const llvm::json::Object &object,
                                    const std::string &path);

/// The prediction of `report.machine`, which is set, as a table of 80 columns.
std::string predictText(const ModelReport &report);

/// The same as JSON.
llvm::json::Object predictJSON(const ModelReport &report);

} // namespace hadal

#endif // HADAL_LIB_COMPILER_ROOFLINE_H
