// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tiles of a packed matrix times rows of activations.

#include "codegen/Conversion/DeepSeekToRT/TileProduct.h"

#include "codegen/Conversion/DeepSeekToRT/DotProduct.h"
#include "codegen/Conversion/DeepSeekToRT/PairProduct.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace hadal;
using Values = KernelBuilder::Values;

Value TiledWeight::blockScale(KernelBuilder &b, Value tile, Value block) const {
  Values indices;
  if (leading)
    indices.push_back(leading);
  indices.push_back(b.div(tile, deepseek::fp8BlockSize / tileRows));
  indices.push_back(block);
  // Times 2^8, which `column` leaves out.
  return b.broadcast(b.mulf(b.load(scales, indices), b.f32(0x1p8)), tileRows);
}

Value TiledWeight::stored(KernelBuilder &b, Value tile, Value k) const {
  Values indices;
  if (leading)
    indices.push_back(leading);
  indices.append({tile, k, b.index(0)});
  return b.loadVector(memref, indices, tileRows);
}

Value TiledWeight::columnPair(KernelBuilder &b, Value tile, Value k) const {
  SmallVector<int64_t> lanes;
  for (int64_t i = 0; i < tileRows; ++i)
    lanes.append({i, tileRows + i});
  Value both = vector::ShuffleOp::create(b, stored(b, tile, k),
                                         stored(b, tile, b.add(k, 1)), lanes);
  return vector::BitCastOp::create(
      b, VectorType::get({tileRows}, b.getI32Type()), both);
}

Value TiledWeight::column(KernelBuilder &b, Value tile, Value k,
                          Value scale) const {
  Value stored = this->stored(b, tile, k);
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  VectorType wide = b.vectorType(tileRows);
  if (element.isF32())
    return stored;
  if (!element.isInteger(8))
    return arith::ExtFOp::create(b, wide, stored);
  // E4M3FN: exponent and mantissa go to bits 7 to 13 of an f16, which makes an
  // exponent that is 8 too small, of subnormals too; the scale makes up for it.
  // No f32 is subnormal, which some processors multiply slowly.
  VectorType words = VectorType::get({tileRows}, b.getI16Type());
  auto constant = [&](int16_t value) -> Value {
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(words, b.getI16IntegerAttr(value)));
  };
  Value high = arith::ShLIOp::create(
      b, arith::ExtUIOp::create(b, words, stored), constant(8));
  Value bits =
      arith::AndIOp::create(b, arith::ShRSIOp::create(b, high, constant(1)),
                            constant(int16_t(0xbfff)));
  Value half = arith::BitcastOp::create(
      b, VectorType::get({tileRows}, b.getF16Type()), bits);
  return b.mulf(arith::ExtFOp::create(b, wide, half), scale);
}

int64_t TiledWeight::columnBytes() const {
  auto type = cast<MemRefType>(memref.getType());
  return tileRows * type.getElementTypeBitWidth() / 8;
}

void TiledWeight::prefetch(KernelBuilder &b, Value tile, Value k, int64_t bytes,
                           int64_t next) const {
  Values indices;
  if (leading)
    indices.push_back(leading);
  Value wanted = b.add(k, bytes / columnBytes());
  Value isHere = b.less(wanted, b.index(inner));
  indices.append({b.add(tile, b.select(isHere, b.index(0), b.index(next))),
                  b.select(isHere, wanted, b.sub(wanted, b.index(inner))),
                  b.index(0)});
  memref::PrefetchOp::create(b, memref, indices, /*isWrite=*/false,
                             prefetchLocality, /*isDataCache=*/true);
}

namespace {

/// Adds the products of some columns to the sums of all weights, tiles and
/// rows.
class ColumnStep {
public:
  ColumnStep(KernelBuilder &b, ArrayRef<TiledWeight> weights, ValueList tiles,
             const Rows &input, ValueList rows)
      : b(b), weights(weights), tiles(tiles), input(input), rows(rows),
        pairs(b, input.bf16Pairs && isBF16Weight()) {
    if (!input.isBF16)
      return;
    columns = 2;
    hasDots = input.bf16Dots && isBF16Weight();
    // Four columns of two rows, where there are whole fours.
    if (hasDots && rows.size() % 2 == 0 && weights.front().inner % 4 == 0)
      columns = 4;
  }

  /// Columns that it takes at a time.
  int64_t columns = 1;

  Values operator()(Value k, ValueRange sums, ValueList scales) {
    if (!input.isBF16)
      return addColumn(k, sums, scales);
    if (!hasDots)
      return addPair(k, sums, scales);
    return columns == 2 ? addDots(k, sums) : addMatrices(k, sums);
  }

  /// The sums of each row, when all columns are added.
  Values finish(ValueRange sums) {
    if (columns != 4)
      return Values(sums);
    Values results;
    for (size_t i = 0; i < sums.size(); i += 2)
      results.append(unpackPair(b, sums.slice(i, 2)));
    return results;
  }

private:
  bool isBF16Weight() const {
    auto type = cast<MemRefType>(weights.front().memref.getType());
    return type.getElementType().isBF16();
  }

  Values addColumn(Value k, ValueRange sums, ValueList scales) {
    Values inputs, results;
    for (Value row : rows)
      inputs.push_back(b.broadcast(input.element(b, row, k), tileRows));
    size_t next = 0;
    for (auto [w, weight] : llvm::enumerate(weights))
      for (Value tile : tiles) {
        Value column =
            weight.column(b, tile, k, scales.empty() ? Value() : scales[w]);
        for (Value x : inputs)
          results.push_back(b.fma(column, x, sums[next++]));
      }
    return results;
  }

  Values addPair(Value k, ValueRange sums, ValueList scales) {
    SmallVector<PairProduct::Pairs> inputs;
    Values results;
    for (Value row : rows)
      inputs.push_back(
          pairs.broadcast(input.element(b, row, b.div(k, 2)), tileRows));
    size_t next = 0;
    for (auto [w, weight] : llvm::enumerate(weights))
      for (Value tile : tiles) {
        PairProduct::Pairs both;
        Value scale = scales.empty() ? Value() : scales[w];
        if (pairs.isNative(b.vectorType(tileRows)))
          both.packed = weight.columnPair(b, tile, k);
        else
          both = {Value(), weight.column(b, tile, k, scale),
                  weight.column(b, tile, b.add(k, 1), scale)};
        for (const PairProduct::Pairs &x : inputs)
          results.push_back(pairs.add(sums[next++], both, x));
      }
    return results;
  }

  Values addDots(Value k, ValueRange sums) {
    Values inputs, results;
    for (Value row : rows)
      inputs.push_back(
          b.broadcast(input.element(b, row, b.div(k, 2)), tileRows));
    size_t next = 0;
    for (const TiledWeight &weight : weights)
      for (Value tile : tiles) {
        Value both = weight.columnPair(b, tile, k);
        for (Value x : inputs)
          results.push_back(addBF16Dots(b, sums[next++], both, x));
      }
    return results;
  }

  Values addMatrices(Value k, ValueRange sums) {
    Values inputs, results;
    for (size_t i = 0; i < rows.size(); i += 2) {
      auto fourOf = [&](Value row) {
        return b.loadVector(input.memref, {row, b.div(k, 2)}, 2);
      };
      inputs.push_back(
          vector::ShuffleOp::create(b, fourOf(rows[i]), fourOf(rows[i + 1]),
                                    ArrayRef<int64_t>{0, 1, 2, 3}));
    }
    for (const TiledWeight &weight : weights)
      for (Value tile : tiles) {
        Value both = weight.columnPair(b, tile, k);
        Value more = weight.columnPair(b, tile, b.add(k, 2));
        for (Value x : inputs)
          results.append(addBF16PairProducts(b, sums.slice(results.size(), 2),
                                             both, more, x));
      }
    return results;
  }

  KernelBuilder &b;
  ArrayRef<TiledWeight> weights;
  ValueList tiles;
  const Rows &input;
  ValueList rows;
  PairProduct pairs;
  bool hasDots = false;
};

} // namespace

Values hadal::multiplyTiles(KernelBuilder &b, const KernelOptions &options,
                            ArrayRef<TiledWeight> weights,
                            ArrayRef<Value> tiles, const Rows &input,
                            ArrayRef<Value> rows) {
  KernelBuilder::Named named(b, "multiply_tiles");
  int64_t inner = weights.front().inner;
  ColumnStep step(b, weights, tiles, input, rows);
  // k in [lower, lower + count).
  auto span = [&](Value lower, int64_t count, ValueRange accumulators,
                  ArrayRef<Value> scales) {
    int64_t unroll = b.isRead         ? step.columns
                     : count % 4 == 0 ? 4
                     : count % 2 == 0 ? 2
                                      : 1;
    return b.loop("k", lower, b.add(lower, count), unroll, accumulators,
                  [&](Value k, ValueRange carried) {
                    Values values(carried);
                    for (int64_t i = 0; i < unroll; ++i) {
                      if (i % step.columns == 0)
                        values = step(b.add(k, i), values, scales);
                      if (rows.size() > 1 || b.isRead || options.followsStreams)
                        continue;
                      for (const TiledWeight &weight : weights)
                        if (i * weight.columnBytes() % 64 == 0)
                          for (Value tile : tiles)
                            weight.prefetch(b, tile, b.add(k, i), prefetchBytes,
                                            int64_t(tiles.size()));
                    }
                    return values;
                  });
  };

  Values accumulators(weights.size() * tiles.size() * rows.size(),
                      b.f32(0, b.vectorType(tileRows)));
  if (!weights.front().scales)
    return step.finish(span(b.index(0), inner, accumulators, {}));

  constexpr int64_t block = deepseek::fp8BlockSize;
  auto scaled = [&](Value index, int64_t count, ValueRange carried) {
    Values scales;
    for (const TiledWeight &weight : weights)
      scales.push_back(weight.blockScale(b, tiles.front(), index));
    return span(b.mul(index, block), count, carried, scales);
  };
  if (inner >= block)
    accumulators = b.loop("block", b.index(0), b.index(inner / block), 1,
                          accumulators, [&](Value index, ValueRange carried) {
                            return scaled(index, block, carried);
                          });
  if (inner % block != 0)
    accumulators = scaled(b.index(inner / block), inner % block, accumulators);
  return accumulators;
}

void hadal::forRowBlocks(KernelBuilder &b, Value first, Value last,
                         ArrayRef<int64_t> sizes,
                         function_ref<void(ValueList)> body) {
  for (int64_t size : sizes) {
    Value end = last;
    if (size > 1) {
      Value whole = b.called(
          "whole", b.mul(b.div(b.sub(last, first), size), b.index(size)));
      end = b.called("whole_end", b.add(first, whole));
    }
    b.loop("row", first, end, size, [&](Value row) {
      Values rows;
      for (int64_t i = 0; i < size; ++i)
        rows.push_back(b.add(row, i));
      body(rows);
    });
    first = end;
  }
}

void hadal::forTilesOfItem(KernelBuilder &b, Value group, int64_t tiles,
                           int64_t perItem,
                           function_ref<void(ArrayRef<Value>)> body) {
  Value begin = b.called("tile", b.mul(group, perItem));
  auto all = [&] {
    Values values;
    for (int64_t i = 0; i < perItem; ++i)
      values.push_back(b.add(begin, i));
    body(values);
  };
  if (tiles % perItem == 0)
    return all();
  Value isWhole = b.less(group, b.index(tiles / perItem));
  b.when(isWhole, all);
  b.when(b.equal(group, b.index(tiles / perItem)), [&] {
    b.loop("tile", begin, b.index(tiles), 1,
           [&](Value tile) { body(ArrayRef<Value>(tile)); });
  });
}

void hadal::storeTile(KernelBuilder &b, Value vector, Value out, Value row,
                      Value columnOffset, Value tile, int64_t columns,
                      bool isPadded) {
  Value column = b.called("column", b.mul(tile, tileRows));
  Value at =
      columnOffset ? b.called("column", b.add(columnOffset, column)) : column;
  if (columns % tileRows == 0 || isPadded) {
    b.storeVector(vector, out, {row, at});
    return;
  }
  Value left = b.sub(b.index(columns), column);
  Value mask = vector::CreateMaskOp::create(
      b, VectorType::get({tileRows}, b.getI1Type()), ValueRange{left});
  vector::MaskedStoreOp::create(b, out, ValueRange{row, at}, mask, vector);
}

void hadal::storeTiles(KernelBuilder &b, ValueList sums, ValueList tiles,
                       ValueList rows, Value out, Value columnOffset,
                       int64_t columns, bool isPadded) {
  KernelBuilder::Named named(b, "store_tiles");
  size_t next = 0;
  for (Value tile : tiles)
    for (Value row : rows)
      storeTile(b, sums[next++], out, row, columnOffset, tile, columns,
                isPadded);
}

bool hadal::hasPaddedRows(Type type, int64_t columns) {
  auto memref = cast<MemRefType>(type);
  return memref.getDimSize(1) >= roundUp(columns, tileRows);
}

void hadal::storeGated(KernelBuilder &b, ValueList sums, ValueList tiles,
                       ValueList rows, Value out, int64_t columns,
                       bool isPadded, std::optional<double> limit) {
  KernelBuilder::Named named(b, "store_gated");
  size_t half = sums.size() / 2, next = 0;
  for (Value tile : tiles)
    for (Value row : rows) {
      Value gate = sums[next], up = sums[half + next];
      ++next;
      storeTile(b, b.gated(gate, up, limit), out, row, Value(), tile, columns,
                isPadded);
    }
}

SmallVector<int64_t> hadal::rowBlocks(int64_t registers, int64_t chains) {
  // Accumulators take what a column of each chain and one broadcast leave.
  int64_t most = std::clamp<int64_t>((registers - chains - 2) / chains, 1, 6);
  if (most == 1)
    return {1};
  if (most < 4)
    return {most, 1};
  return {most, 2, 1};
}
