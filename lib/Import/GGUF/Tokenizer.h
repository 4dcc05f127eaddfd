// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tokenizer's files of a Hugging Face folder, from the keys of a GGUF file.

#ifndef HADAL_IMPORT_GGUF_TOKENIZER_H
#define HADAL_IMPORT_GGUF_TOKENIZER_H

#include "hadal/Import.h"
#include "lib/Import/GGUF/GGUF.h"
#include "lib/Import/HuggingFace/Config.h"

namespace hadal::gguf {

/// Makes tokenizer.json and tokenizer_config.json, and generation_config.json
/// if several tokens end a text. A tokenizer that the text library cannot run,
/// such as SentencePiece, is no error: there are no files then, and a note says
/// so. One that contradicts itself is.
absl::StatusOr<std::vector<TextFile>>
makeTextFiles(const Model &model, const huggingface::Config &config,
              std::vector<std::string> &notes);

} // namespace hadal::gguf

#endif // HADAL_IMPORT_GGUF_TOKENIZER_H
