// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Copies what a source reads, or the values that the interpreter makes up for
// one that reads nothing, so that a module needs no other file.

#ifndef HADAL_COMPILER_RECORDSOURCE_H
#define HADAL_COMPILER_RECORDSOURCE_H

#include "absl/status/status.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include <string>

namespace hadal {

/// Appends the values of \p source, whose files are in \p folder, to \p bytes,
/// and says there where they are: in \p file.
///
/// - kInvalidArgument: they cannot be read.
/// - kUnimplemented: they are of a type that is not stored in files.
absl::Status recordSource(deepseek::SourceOp source, const std::string &folder,
                          const std::string &file, std::string &bytes);

/// Appends zeros up to where a tensor may begin; returns where that is.
size_t alignTensor(std::string &bytes);

} // namespace hadal

#endif // HADAL_COMPILER_RECORDSOURCE_H
