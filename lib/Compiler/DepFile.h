// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules that tell make and ninja when to compile again.

#ifndef HADAL_COMPILER_DEPFILE_H
#define HADAL_COMPILER_DEPFILE_H

#include "llvm/ADT/ArrayRef.h"

#include <string>

namespace hadal {

/// Makes a rule that \p targets need \p inputs, as clang writes it for -MD -MP:
/// each input is also a target that needs nothing, so that make does not ask
/// how to make one that is gone.
std::string makeDepFile(llvm::ArrayRef<std::string> targets,
                        llvm::ArrayRef<std::string> inputs);

} // namespace hadal

#endif // HADAL_COMPILER_DEPFILE_H
