// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of 8-bit activations with 4- and 8-bit weights: sums of a group are
// exact integers, groups are added in f32 in the order of k.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_INTEGERPRODUCT_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_INTEGERPRODUCT_H

#include "codegen/Conversion/DeepSeekToRT/TileProduct.h"

namespace hadal {

/// A packed integer weight in a kernel: bytes `[.., tiles, k / columns, 64]`
/// and scales `[.., tiles, groups, 16]` in f16.
struct IntegerWeight {
  mlir::Value memref, scales;
  mlir::Value leading; ///< Expert; null without.
  int64_t inner;
  int64_t bits; ///< 4 or 8.
  /// Elements of a row that share a scale of the weight, and of the input.
  int64_t group, activationGroup;
};

/// Rows of activations that `KernelSet::quantizeRows` has rounded.
struct IntegerRows {
  mlir::Value values;  ///< `[rows, k / 4]` in i32: four bytes each.
  mlir::Value scales;  ///< `[rows, groups]` in f32.
  mlir::Value offsets; ///< `[rows, groups]` in i32: where sums start.
};

/// What a group's sum of products starts with, per unit of the sum of its
/// inputs: it undoes that the weights are stored, or read, as unsigned.
int64_t integerOffset(int64_t bits, bool hasVNNI);

/// Products of one tile of \p weight with \p rows: one vector of 16 a row.
KernelBuilder::Values
multiplyIntegerTile(KernelBuilder &b, bool hasVNNI, const IntegerWeight &weight,
                    mlir::Value tile, const IntegerRows &input, ValueList rows);

/// Sizes of row blocks, largest first, for a machine of \p registers.
llvm::SmallVector<int64_t> integerRowBlocks(int64_t registers);

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_INTEGERPRODUCT_H
