// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the keys of a GGUF file say of a model's graph.

#ifndef HADAL_IMPORT_GGUF_KEYS_H
#define HADAL_IMPORT_GGUF_KEYS_H

#include "lib/Import/GGUF/GGUF.h"
#include "lib/Import/HuggingFace/Config.h"

namespace hadal::gguf {

/// Reads the keys of \p model into the configuration that its checkpoint had
/// before it was converted; a key of the architecture that is neither used nor
/// known not to matter is an error. What the format leaves out is taken from
/// the tensors there are, or where the architecture leaves no choice. Adds to
/// \p notes.
absl::StatusOr<huggingface::Config> readKeys(const Model &model,
                                             std::vector<std::string> &notes);

} // namespace hadal::gguf

#endif // HADAL_IMPORT_GGUF_KEYS_H
