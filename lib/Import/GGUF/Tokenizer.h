// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tokenizer's files of a Hugging Face folder, from the keys of a GGUF file.

#ifndef HADAL_IMPORT_GGUF_TOKENIZER_H
#define HADAL_IMPORT_GGUF_TOKENIZER_H

#include "hadal/Import.h"
#include "lib/Import/GGUF/GGUF.h"
#include "lib/Import/HuggingFace/Config.h"

#include <optional>

namespace hadal::gguf {

/// The kinds of `tokenizer.ggml.token_type`.
enum class TokenKind : int32_t {
  Normal = 1,
  Unknown = 2,
  Control = 3,
  UserDefined = 4,
  Unused = 5,
  Byte = 6
};

/// Makes tokenizer.json and tokenizer_config.json, and generation_config.json
/// if several tokens end a text. A tokenizer that the text library cannot run,
/// such as one of words, is no error: there are no files then, and a note says
/// so. One that contradicts itself is.
absl::StatusOr<std::vector<TextFile>>
makeTextFiles(const Model &model, const huggingface::Config &config,
              std::vector<std::string> &notes);

/// What the pre-tokenizer of a tokenizer.json does, step by step.
struct Splitting {
  /// Stands in `steps` for a step that makes each digit a piece.
  static constexpr llvm::StringLiteral digits = "\\p{N}";
  /// What byte-level pre-tokenizers split by, unless told not to.
  static const llvm::StringLiteral byteLevel;

  /// Regular expressions; what they match is a piece.
  std::vector<std::string> steps;
  bool normalizesNFC = false;
  bool ignoresMerges = false;
};

/// What `tokenizer.ggml.pre` calls \p splitting; nothing if it has no name.
std::optional<llvm::StringRef> findSplitterName(const Splitting &splitting);

} // namespace hadal::gguf

#endif // HADAL_IMPORT_GGUF_TOKENIZER_H
