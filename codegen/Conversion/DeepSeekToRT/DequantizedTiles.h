// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tiles of integers as the numbers that they stand for, in f32.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_DEQUANTIZEDTILES_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_DEQUANTIZEDTILES_H

#include "codegen/Conversion/DeepSeekToRT/IntegerProduct.h"

namespace hadal {

/// Numbers of an integer weight, with the roundings of
/// `deepseek.dequantize_gguf`: what is multiplied by them gives the bits of a
/// weight in f32.
class DequantizedTiles {
public:
  /// Reads (weight, scales, [offsets]) of \p shape from \p next of
  /// \p arguments on. Makes what it keeps on the stack: to be called where the
  /// kernel begins. No more than \p mostTiles come at once.
  DequantizedTiles(KernelBuilder &b, DotProductKind dotProduct,
                   const HeadShape &shape, mlir::ValueRange arguments,
                   size_t &next, int64_t mostTiles);

  /// Calls \p body with columns 0, 1, .. of \p tiles of \p head, a vector of 16
  /// for each tile, and with what it returned for the column before.
  using Body = llvm::function_ref<KernelBuilder::Values(
      mlir::Value k, ValueList columns, mlir::ValueRange carried)>;
  KernelBuilder::Values forColumns(mlir::Value head, ValueList tiles,
                                   mlir::ValueRange carried, Body body) const;

private:
  using Value = mlir::Value;
  using Values = KernelBuilder::Values;

  Value numberOf(Value memref, Value group, int64_t lanes,
                 llvm::function_ref<Value(Value column)> load) const;
  Value signedCodes(int64_t lane,
                    llvm::function_ref<Value(int64_t vector)> load) const;
  void readTurned(Value memref, Value head, ValueList tiles, Value to) const;

  KernelBuilder &b;
  DotProductKind dotProduct;
  HeadShape shape;
  Value memref, scales, offsets; ///< No offsets: null.
  /// `[tiles, inner]` in f32, if groups are of columns.
  Value turnedScales, turnedOffsets;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_DEQUANTIZEDTILES_H
