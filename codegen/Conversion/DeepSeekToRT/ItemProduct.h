// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What every kernel of integer weights does for an item of its work: products
// by tile registers where the target has them, and by vectors.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_ITEMPRODUCT_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_ITEMPRODUCT_H

#include "codegen/Conversion/DeepSeekToRT/AMXProduct.h"

namespace hadal {

/// Multiplies tiles of a weight, or of a gate and an up, with blocks of rows.
/// Which way it takes, and how many tiles and rows at a time, changes no bit.
class ItemProduct {
public:
  /// Makes what the product keeps on the stack: to be called where the kernel
  /// begins. Tiles come in groups of \p perGroup.
  ItemProduct(KernelBuilder &b, const KernelOptions &options,
              const IntegerShape &shape, int64_t weights, int64_t perGroup);

  /// Groups of tiles that an item may have: the more, the more products a row
  /// serves that has come from memory.
  int64_t groupsAtOnce() const { return atOnce; }

  /// Tiles of as many groups from \p group on, as far as this call has them.
  TileRange tiles(KernelBuilder &b, mlir::Value group,
                  const IntegerWeight &weight) const {
    return tilesFrom(b, group, perGroup, perGroup * atOnce, weight.tilesEnd);
  }

  void multiply(KernelBuilder &b, const IntegerItem &item) const;

private:
  using Body = llvm::function_ref<void(ValueList tiles, ValueList entries)>;

  llvm::SmallVector<int64_t> blockSizes() const;
  void forBlocks(KernelBuilder &b, TileRange range, mlir::Value first,
                 mlir::Value last, Body body) const;

  const KernelOptions &options;
  int64_t tileCount, weights, digits, perGroup, atOnce;
  std::optional<AMXProduct> amx;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_ITEMPRODUCT_H
