// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A module of deepseek ops becomes a model on disk.

#ifndef HADAL_EXPORT_H
#define HADAL_EXPORT_H

#include "hadal/Import.h"

namespace hadal {

struct ExportOptions {
  /// Tokens a sequence may have. 0: as many as the model says.
  int64_t contextTokens = 0;
  /// As in `ImportOptions`.
  std::vector<std::pair<std::string, std::string>> ggufKeys = {};
  /// If set, gets one line for each thing that was ignored, assumed or left
  /// out.
  std::vector<std::string> *notes = nullptr;
};

/// Writes \p model as a GGUF file of version 3: one that `importModel` takes,
/// or a .mlir file in the deepseek dialect, whose recipes name files beside it.
/// Tensors keep the type that the model has: F32, F16, BF16, or the blocks of a
/// GGUF file; what has no such type there (integers of other formats, FP8)
/// becomes F32 if the importer says how. The tokenizer's files, which are
/// beside the model or in it, become keys; a tokenizer that the format has no
/// name for is left out, with a note.
///
/// Tensors are streamed, in bounded memory. Before the file gets its name it is
/// read again, and has to give \p model but for the recipes. On failure there
/// is no file.
///
/// - kInvalidArgument: the model is wrong, or \p output cannot be written.
/// - kUnimplemented: the format, as Hadal reads and llama.cpp runs it, cannot
///   say all of this model.
absl::Status exportGGUF(mlir::MLIRContext &context, llvm::StringRef model,
                        llvm::StringRef output,
                        const ExportOptions &options = {});

} // namespace hadal

#endif // HADAL_EXPORT_H
