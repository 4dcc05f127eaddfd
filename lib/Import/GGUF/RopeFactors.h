// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The rule behind the table `rope_freqs.weight`.

#ifndef HADAL_IMPORT_GGUF_ROPEFACTORS_H
#define HADAL_IMPORT_GGUF_ROPEFACTORS_H

#include "lib/Import/HuggingFace/Config.h"

namespace hadal::gguf {

/// Finds the parameters of Llama 3's scaling (transformers
/// `modeling_rope_utils.py`, `_compute_llama3_parameters`) for which frequency
/// theta^(-i / n) of n is divided by \p factors[i]; nothing if there are none.
/// Several sets of parameters mean the same; that of the published models is
/// preferred.
std::optional<huggingface::RopeConfig>
fitRopeFactors(llvm::ArrayRef<float> factors, double theta);

} // namespace hadal::gguf

#endif // HADAL_IMPORT_GGUF_ROPEFACTORS_H
