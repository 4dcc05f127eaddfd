// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A model of the same architecture that is small enough to be run slowly.

#ifndef HADAL_IMPORT_SHRINK_H
#define HADAL_IMPORT_SHRINK_H

#include "lib/Import/HuggingFace/Config.h"

namespace hadal::huggingface {

/// Tokens that a sequence of a shrunken model may have, if \p config allows as
/// many.
inline constexpr int64_t tinyContextTokens = 512;

/// Makes \p config, a checked one, that of a few layers of small sizes: each
/// kind of layer that it has is there, and what decides which ops a layer is
/// made of stays. It is of no checkpoint: quantized matrices count as plain,
/// but for FP8, and there are no layers for multi-token prediction.
Config shrink(Config config);

} // namespace hadal::huggingface

#endif // HADAL_IMPORT_SHRINK_H
