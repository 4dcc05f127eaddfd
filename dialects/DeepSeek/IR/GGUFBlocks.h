// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The block formats of GGUF files: their sizes, and the numbers they stand for.

#ifndef HADAL_DEEPSEEK_GGUFBLOCKS_H
#define HADAL_DEEPSEEK_GGUFBLOCKS_H

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

namespace hadal::deepseek {

/// Consecutive elements of a row that are stored together.
struct GGUFBlock {
  int64_t elements;
  int64_t bytes;
};

GGUFBlock getGGUFBlock(GGUFFormat format);

/// Computes the numbers of \p blocks blocks at \p bytes, bit for bit as ggml
/// does. \p out has room for all of them, and does not overlap \p bytes.
void dequantizeGGUF(GGUFFormat format, const uint8_t *bytes, int64_t blocks,
                    float *out);

} // namespace hadal::deepseek

#endif // HADAL_DEEPSEEK_GGUFBLOCKS_H
