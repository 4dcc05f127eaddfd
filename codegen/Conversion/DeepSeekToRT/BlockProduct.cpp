// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of rows by a block of threads.

#include "codegen/Conversion/DeepSeekToRT/BlockProduct.h"

#include "lib/Support/CheckedMath.h"

using namespace mlir;
using namespace hadal;

bool BlockProduct::isFor(const KernelOptions &options, Type type) {
  Type element = cast<MemRefType>(type).getElementType();
  return options.dotProduct == DotProductKind::CUDA &&
         (element.isBF16() || element.isF16() || element.isInteger(8));
}

/// A tile each of few rows; of a block of them, as many as leave items for all
/// multiprocessors; and of more rows, all that a block has room for.
Value BlockProduct::tilesPerItem(KernelBuilder &b, Value rows) const {
  Value ofBlock = b.select(b.less(b.index(blockRows), rows),
                           b.index(mostTiles / weights), b.index(2 / weights));
  return b.select(b.less(b.index(fewRows), rows), ofBlock, b.index(1));
}

Value BlockProduct::items(KernelBuilder &b, Value rows) const {
  Value groups = b.ceilDiv(b.index(tiles), tilesPerItem(b, rows));
  return b.mul(groups, b.ceilDiv(rows, b.index(blockRows)));
}

int64_t BlockProduct::itemsOfList() const {
  return ceilDiv(tiles, mostTiles / weights);
}

BlockProduct::Item BlockProduct::item(KernelBuilder &b, Value item, Value rows,
                                      Value first, Value last) const {
  // Blocks of rows that share tiles come one after the other, when those are
  // still in the second-level cache.
  Value blocks = b.ceilDiv(rows, b.index(blockRows));
  Value perItem = tilesPerItem(b, rows);
  Value firstTile = b.mul(b.div(item, blocks), perItem);
  Value firstRow = b.mul(b.rem(item, blocks), b.index(blockRows));
  return {firstTile,
          b.min(b.add(firstTile, perItem), b.index(tiles)),
          arith::MaxUIOp::create(b, first, firstRow),
          b.min(last, b.add(firstRow, blockRows)),
          {}};
}

BlockProduct::Item BlockProduct::itemOfList(KernelBuilder &b, Value group,
                                            List list, Value first,
                                            Value last) const {
  int64_t perItem = mostTiles / weights;
  Value firstTile = b.mul(group, perItem);
  return {firstTile, b.min(b.add(firstTile, perItem), b.index(tiles)), first,
          last, list};
}

void BlockProduct::multiply(KernelBuilder &b, ArrayRef<TiledWeight> weights,
                            const Rows &input, const Item &item, Store store) {
  KernelBuilder::Values memrefs, scales;
  for (const TiledWeight &weight : weights) {
    memrefs.push_back(weight.memref);
    if (weight.scales)
      scales.push_back(weight.scales);
  }
  auto products = rt::ProductsOp::create(
      b, item.first, item.last, input.memref, input.columnOffset,
      item.list.memref, item.firstTile, item.lastTile, memrefs,
      weights.front().leading, scales, b.getI64IntegerAttr(item.list.perRow),
      input.isBF16 ? b.getUnitAttr() : UnitAttr());
  Block &body = products.getBody().emplaceBlock();
  Type index = b.getIndexType(), sums = b.vectorType(tileRows);
  SmallVector<Type> types = {index, index};
  types.append(weights.size(), sums);
  for (Type type : types)
    body.addArgument(type, b.getLoc());
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&body);
  KernelBuilder::Values values(body.args_begin() + 2, body.args_end());
  store(body.getArgument(0), body.getArgument(1), values);
  rt::ReturnOp::create(b);
}
