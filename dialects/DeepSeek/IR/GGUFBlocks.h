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

/// What the blocks of a format are as integers of groups of a row: see
/// `deepseek.gguf_part`.
struct GGUFParts {
  int64_t group; ///< Codes that share a scale.
  int64_t bits;  ///< 4 or 8.
  bool isUnsigned, hasOffsets;
  bool areF16; ///< Scales and offsets; else f32.

  /// The element type of \p part; null if there is none.
  mlir::Type getType(mlir::MLIRContext *context, GGUFPart part) const;
};

GGUFParts getGGUFParts(GGUFFormat format);

/// Splits one block at \p bytes: integers to \p codes, and a scale and an
/// offset a group, in f32, to \p scales and \p offsets. Each has room for all
/// of them; offsets are not written if the format has none.
void splitGGUF(GGUFFormat format, const uint8_t *bytes, int8_t *codes,
               float *scales, float *offsets);

} // namespace hadal::deepseek

#endif // HADAL_DEEPSEEK_GGUFBLOCKS_H
