// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of rows of f32 with weights of bf16, f16 and FP8 by the tensor cores
// of a GPU: `rt.products`, for which a block of threads takes an item.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_BLOCKPRODUCT_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_BLOCKPRODUCT_H

#include "codegen/Conversion/DeepSeekToRT/TileProduct.h"

namespace hadal {

/// How the products of \p tiles tiles of each of \p weights weights are shared
/// out to items. Up to `fewRows` rows, as in decode, an item has one tile: its
/// weights come from memory as fast as many items ask for them. With more rows
/// an item has a block of rows and several tiles, each of which is read once
/// for all of them.
class BlockProduct {
public:
  using Value = mlir::Value;

  /// As `products` of kernels.cuh has them.
  static constexpr int64_t fewRows = 8, blockRows = 64, mostTiles = 8;

  /// Whether kernels for \p options multiply a weight of \p type so.
  static bool isFor(const KernelOptions &options, mlir::Type type);

  BlockProduct(int64_t weights, int64_t tiles)
      : weights(weights), tiles(tiles) {}

  /// Items of \p rows rows.
  Value items(KernelBuilder &b, Value rows) const;
  /// Items of a list of entries that only the kernel knows: groups of tiles.
  int64_t itemsOfList() const;

  /// Where entries are rows of: of their own number, or `list[entry] / perRow`.
  struct List {
    Value memref;
    int64_t perRow = 1;
  };
  /// What an item computes: tiles, and entries.
  struct Item {
    Value firstTile, lastTile, first, last;
    List list;
  };
  /// Item \p item of \p rows rows, of which [first, last) are wanted.
  Item item(KernelBuilder &b, Value item, Value rows, Value first,
            Value last) const;
  /// Item \p item of \p rows rows, all of which are wanted.
  Item item(KernelBuilder &b, Value item, Value rows) const {
    return this->item(b, item, rows, b.index(0), rows);
  }
  /// Item \p group of \p list, for entries [first, last).
  Item itemOfList(KernelBuilder &b, Value group, List list, Value first,
                  Value last) const;

  using Store =
      llvm::function_ref<void(Value tile, Value entry, ValueList sums)>;
  /// Calls \p store for each tile and entry of \p item, once at compile time.
  static void multiply(KernelBuilder &b, llvm::ArrayRef<TiledWeight> weights,
                       const Rows &input, const Item &item, Store store);

private:
  Value tilesPerItem(KernelBuilder &b, Value rows) const;

  int64_t weights, tiles;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_BLOCKPRODUCT_H
