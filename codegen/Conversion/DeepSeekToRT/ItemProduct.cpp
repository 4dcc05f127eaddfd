// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Integer products of an item: blocks of rows times the item's tiles.

#include "codegen/Conversion/DeepSeekToRT/ItemProduct.h"

#include "lib/Support/CheckedMath.h"

using namespace mlir;
using namespace hadal;
using Values = KernelBuilder::Values;

/// Tiles of all weights that all blocks of rows are multiplied with, one after
/// the other: rows are read often enough.
constexpr int64_t mostTiles = 32;

ItemProduct::ItemProduct(KernelBuilder &b, const KernelOptions &options,
                         const IntegerShape &shape, int64_t weights,
                         int64_t perGroup)
    : options(options), tileCount(ceilDiv(shape.columns, tileRows)),
      weights(weights), digits(shape.digits), perGroup(perGroup) {
  amx = AMXProduct::get(b, options, shape, weights, tileCount, perGroup);
  int64_t tileBytes = shape.inner * tileRows * shape.bits / 8;
  // Their bytes stay in half of the second-level cache.
  int64_t most =
      std::min(options.caches.l2Bytes / 2 / tileBytes, mostTiles) / weights;
  atOnce = amx ? amx->groupsAtOnce()
               : std::clamp<int64_t>(most / perGroup, 1,
                                     ceilDiv(tileCount, perGroup));
  b.setTile("weight_tiles", weights * perGroup * atOnce);
}

/// Sizes of blocks of rows, largest first, down to 1.
SmallVector<int64_t> ItemProduct::blockSizes() const {
  // A row has a vector of integer sums and one of f32.
  SmallVector<int64_t> sizes = {2, 1};
  if (amx) // Fewer than 8 rows are left.
    sizes = {4, 2, 1};
  else if (multipliesPairs(options.dotProduct))
    // Integer sums of four rows are half of the registers. Those of f32 wait in
    // memory.
    sizes = {4, 2, 1};
  else if (options.registers >= 32)
    sizes = {12, 8, 4, 2, 1};
  // A row of several digits is as many.
  for (int64_t &size : sizes)
    size = std::max<int64_t>(size / digits, 1);
  sizes.erase(llvm::unique(sizes), sizes.end());
  return sizes;
}

/// Calls \p body with every pair of a block of rows of [first, last) and a
/// block of the tiles of \p range. All tiles come for the first block of rows,
/// then for the next.
void ItemProduct::forBlocks(KernelBuilder &b, TileRange range, Value first,
                            Value last, Body body) const {
  forRowBlocks(b, first, last, blockSizes(), [&](ValueList entries) {
    // Few rows wait for memory; tiles that are read side by side make up for
    // it, but for a single row where hardware follows one. Several rows share a
    // vector of inputs, too.
    int64_t most = 1;
    if (options.registers >= 32 && entries.size() == 1)
      most = options.followsStreams ? 1 : 4 / weights;
    else if (options.registers >= 32 && entries.size() <= 4 && digits == 1)
      most = 2;
    int64_t size = std::min(most, perGroup);
    Value whole = range.end;
    if (tileCount % size != 0)
      whole = b.add(range.begin,
                    b.mul(b.div(b.sub(range.end, range.begin), size), size));
    b.loop("tile", range.begin, whole, size, [&](Value tile) {
      Values block;
      for (int64_t i = 0; i < size; ++i)
        block.push_back(b.add(tile, i));
      body(block, entries);
    });
    if (tileCount % size != 0)
      b.loop("tile", whole, range.end, 1,
             [&](Value tile) { body(tile, entries); });
  });
}

void ItemProduct::multiply(KernelBuilder &b, const IntegerItem &item) const {
  Value first = item.first;
  if (amx)
    first = amx->multiply(b, item);
  forBlocks(b, item.tiles, first, item.last,
            [&](ValueList tiles, ValueList entries) {
              Values rows;
              for (Value entry : entries)
                rows.push_back(item.rowOf(entry));
              Values products = multiplyGateAndUp<IntegerWeight>(
                  item.weights, rows.size() == 1 && !options.followsStreams,
                  [&](ArrayRef<IntegerWeight> some) {
                    return multiplyIntegerTiles(b, options, some, tiles,
                                                item.input, rows);
                  });
              size_t next = 0, count = tiles.size() * rows.size();
              for (Value tile : tiles)
                for (Value entry : entries) {
                  Values sums;
                  for (size_t w = 0; w < item.weights.size(); ++w)
                    sums.push_back(products[w * count + next]);
                  item.store(tile, entry, sums);
                  ++next;
                }
            });
}
