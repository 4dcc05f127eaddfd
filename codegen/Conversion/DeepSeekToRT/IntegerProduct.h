// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of 8-bit activations with weights of 2 to 8 bits: sums of a group
// are exact integers, groups are added in f32 in the order of k.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_INTEGERPRODUCT_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_INTEGERPRODUCT_H

#include "codegen/Conversion/DeepSeekToRT/DotProduct.h"
#include "codegen/Conversion/DeepSeekToRT/TileProduct.h"

namespace hadal {

/// A packed integer weight in a kernel: bytes `[.., tiles, k * bits / 32, 64]`
/// and scales `[.., tiles, groups, 16]`, in i8 of two levels. With records, the
/// third dimension of each is two: records, and what is in one.
struct IntegerWeight {
  mlir::Value memref, scales;
  mlir::Value leading; ///< Expert; null without.
  int64_t inner;
  int64_t bits;
  /// What its bits count from: see `integerOffset`.
  bool isUnsigned;
  /// Elements of a row that share a scale of the weight, and of the input.
  int64_t group, activationGroup;
  /// Where the tiles end that this call of the kernel reads; none past them is
  /// asked for beforehand.
  mlir::Value tilesEnd;
  /// Of the shape of the scales; null without.
  mlir::Value offsets = {};
  /// See `IntegerShape`.
  llvm::ArrayRef<int64_t> codebook = {};
  int64_t record = 0;

  /// How many of a dimension of \p count a record has; 0 without records.
  int64_t ofRecord(int64_t count) const {
    return record ? count / (inner / record) : 0;
  }
};

/// Indices of \p at in a dimension of a tile that records of \p ofRecord each
/// cut into two, or that is whole if that is 0.
KernelBuilder::Values placeInTile(KernelBuilder &b, mlir::Value at,
                                  int64_t ofRecord);

/// Rows of activations that `KernelSet::quantizeRows` has rounded, or that
/// `KernelSet::splitRows` has cut into digits, each a row of values and, if
/// they are integers, of sums.
struct IntegerRows {
  mlir::Value values; ///< `[rows, k / 4]` in i32: four bytes each.
  mlir::Value scales; ///< `[rows, groups]` in f32; see `scale`.
  mlir::Value sums;   ///< `[rows, groups]`, of each group, as `sumFactor` says.
  int64_t digits = 1;
  InputScale scale = InputScale::Number;
};

/// The rows that \p arguments of a kernel begin with.
IntegerRows integerRows(KernelBuilder &b, mlir::ValueRange arguments,
                        int64_t digits, InputScale scale);

/// What a group's sum of products starts with, per unit of the sum of its
/// inputs: it undoes that the weights are stored, or read, as unsigned.
int64_t integerOffset(int64_t bits, bool isUnsigned, bool hasCodebook,
                      DotProductKind dotProduct);

/// What sums of groups of the inputs of a product of \p shape are multiplied
/// by, as integers, for kernels to read: by `integerOffset`; by 1 for weights
/// with offsets. Where these alone need the sums, there is none: they are in
/// f32, negated and times the inputs' scale.
std::optional<int64_t> sumFactor(const IntegerShape &shape,
                                 DotProductKind dotProduct);

/// f32 numbers of \p digits: \p count of each, the lowest first, follow each
/// other.
KernelBuilder::Values joinDigits(KernelBuilder &b, mlir::ValueRange digits,
                                 int64_t count);

/// What a kernel is called that stores sums times \p factor.
std::string nameOfSums(std::optional<int64_t> factor);

/// The number of \p digits, i32, negated and times \p scale.
mlir::Value scaledSum(KernelBuilder &b, mlir::ValueRange digits,
                      mlir::Value scale);

/// Lane \p lane of what `unpackCodes` gives; \p load has the stored vectors.
mlir::Value unpackLane(KernelBuilder &b, int64_t bits, int64_t lane,
                       llvm::function_ref<mlir::Value(int64_t vector)> load);

/// The integers of columns of 16 rows that a tile stores together, from the
/// vectors that it stores: vectors of 64 bytes, each of four columns of every
/// row, which count from 0 if they have less than 8 \p bits.
KernelBuilder::Values unpackCodes(KernelBuilder &b, int64_t bits,
                                  ValueList stored);

/// Products of \p rows with the tiles of \p weights, which are alike: vectors
/// of 16, in the order of `multiplyTiles`.
KernelBuilder::Values
multiplyIntegerTiles(KernelBuilder &b, const KernelOptions &options,
                     llvm::ArrayRef<IntegerWeight> weights, ValueList tiles,
                     const IntegerRows &input, ValueList rows);

/// Tiles [begin, end) of a weight.
struct TileRange {
  mlir::Value begin, end;
};

/// \p count tiles from group \p group of \p perGroup on, as far as \p end.
TileRange tilesFrom(KernelBuilder &b, mlir::Value group, int64_t perGroup,
                    int64_t count, mlir::Value end);

/// Products of tiles with rows of activations: what a kernel has to compute at
/// once.
struct IntegerItem {
  llvm::ArrayRef<IntegerWeight> weights; ///< One, or a gate and an up.
  TileRange tiles;                       ///< Of each weight.
  const IntegerRows &input;
  /// Entries [first, last), and which row of the input each is.
  mlir::Value first, last;
  llvm::function_ref<mlir::Value(mlir::Value entry)> rowOf;
  /// Takes the product of a tile of each weight with an entry.
  llvm::function_ref<void(mlir::Value tile, mlir::Value entry, ValueList sums)>
      store;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_INTEGERPRODUCT_H
