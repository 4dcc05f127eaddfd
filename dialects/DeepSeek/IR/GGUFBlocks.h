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
  /// What scales and offsets are stored as: i8 of two levels, or numbers.
  enum Storage { TwoLevels, F16, BF16 };

  int64_t group; ///< Codes that share a scale.
  int64_t bits;
  bool isUnsigned, hasOffsets;
  Storage storage;
  /// What codes stand for; empty if for themselves.
  llvm::ArrayRef<int64_t> codebook = {};

  /// The element type of \p part; null if there is none.
  mlir::Type getType(mlir::MLIRContext *context, GGUFPart part) const;
  /// Null without.
  CodebookAttr getCodebook(mlir::MLIRContext *context) const;
  /// The integer that \p code stands for.
  int64_t numberOf(int8_t code) const {
    return codebook.empty() ? code : codebook[size_t(code)];
  }
};

GGUFParts getGGUFParts(GGUFFormat format);

/// The scales, or the offsets, of the groups of a block: products, which are
/// exact in f32.
struct GGUFScales {
  float unit; ///< Where there are two levels, an f16.
  int8_t factors[16];

  float operator[](int64_t group) const { return unit * float(factors[group]); }
};

/// Splits one block at \p bytes: integers to \p codes, which have room for all
/// of them, and what they are scaled and shifted by. Offsets are not written if
/// the format has none.
void splitGGUF(GGUFFormat format, const uint8_t *bytes, int8_t *codes,
               GGUFScales &scales, GGUFScales &offsets);

} // namespace hadal::deepseek

#endif // HADAL_DEEPSEEK_GGUFBLOCKS_H
