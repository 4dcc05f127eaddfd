// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The keys of a tokenizer, from the files of a Hugging Face folder.

#ifndef HADAL_EXPORT_GGUF_TOKENIZERKEYS_H
#define HADAL_EXPORT_GGUF_TOKENIZERKEYS_H

#include "hadal/Import.h"
#include "lib/Export/GGUF/KeyWriter.h"

#include "llvm/ADT/ArrayRef.h"

namespace hadal::gguf {

/// Adds the vocabulary of tokenizer.json, the way in which it splits text, and
/// the chat template, of the \p files that there are, to \p keys. A model has
/// \p vocab rows; ids that no token has are filled up. A tokenizer that GGUF
/// files cannot say is left out, with a note.
///
/// kInvalidArgument: a file is not JSON; the message starts with its name.
absl::Status addTokenizerKeys(llvm::ArrayRef<TextFile> files, int64_t vocab,
                              KeyWriter &keys, std::vector<std::string> &notes);

} // namespace hadal::gguf

#endif // HADAL_EXPORT_GGUF_TOKENIZERKEYS_H
