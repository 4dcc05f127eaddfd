// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of f32 activations with 4- and 8-bit weights, which are numbers in
// registers only: what is read from memory is what is stored.

#include "codegen/Conversion/DeepSeekToRT/DotProduct.h"
#include "codegen/Conversion/DeepSeekToRT/TileProduct.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

/// Bytes of a vector of a tile: a word of four for each of 16 rows.
constexpr int64_t vectorBytes = 64;

/// Element \p j of each word of \p words, as f32.
static Value elementOf(KernelBuilder &b, const StoredIntegers &integers,
                       Value words, int64_t j) {
  auto type = cast<VectorType>(words.getType());
  VectorType floats = b.vectorType(tileRows);
  auto constant = [&](int32_t value) -> Value {
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(type, b.getI32IntegerAttr(value)));
  };
  auto shifted = [&](Value value, int64_t left, int64_t right) {
    if (left)
      value = arith::ShLIOp::create(b, value, constant(int32_t(left)));
    return arith::ShRSIOp::create(b, value, constant(int32_t(right)))
        .getResult();
  };
  if (integers.bits == 8)
    return arith::SIToFPOp::create(b, floats, shifted(words, 24 - 8 * j, 24));
  // Byte j of four has element j in its low and 4 + j in its high half.
  int64_t first = j < 4 ? 8 * j : 8 * (j - 4) + 4;
  int64_t least = integers.isUnsigned ? 0 : -8;
  Value low = words;
  if (first)
    low = arith::ShRUIOp::create(b, words, constant(int32_t(first)));
  if (hasTableLookup(integers.dotProduct)) {
    SmallVector<float> numbers;
    for (int64_t i = 0; i < tileRows; ++i)
      numbers.push_back(float(i + least));
    return lookUp(b,
                  arith::ConstantOp::create(
                      b, DenseElementsAttr::get(floats, ArrayRef(numbers))),
                  low);
  }
  if (integers.isUnsigned)
    return arith::SIToFPOp::create(b, floats,
                                   arith::AndIOp::create(b, low, constant(15)));
  // Flipping the highest of four bits subtracts 8.
  Value flipped =
      arith::XOrIOp::create(b, words, constant(int32_t(0x88888888)));
  return arith::SIToFPOp::create(b, floats, shifted(flipped, 28 - first, 28));
}

Values hadal::multiplyStoredTiles(KernelBuilder &b,
                                  ArrayRef<TiledWeight> weights,
                                  ValueList tiles, const Rows &input,
                                  ValueList rows) {
  const StoredIntegers &shape = *weights.front().integers;
  int64_t inner = weights.front().inner, perWord = 32 / shape.bits;
  int64_t words = shape.group / perWord, allWords = inner / perWord;
  VectorType floats = b.vectorType(tileRows);
  auto indices = [&](const TiledWeight &weight, Value tile, Value at) {
    Values list;
    if (weight.leading)
      list.push_back(weight.leading);
    list.append({tile, at, b.index(0)});
    return list;
  };
  auto prefetch = [&](Value memref, ValueRange at) {
    memref::PrefetchOp::create(b, memref, at, /*isWrite=*/false,
                               prefetchLocality, /*isDataCache=*/true);
  };
  auto loadGroup = [&](Value memref, ValueRange at) {
    Value stored = b.loadVector(memref, at, tileRows);
    if (stored.getType() == floats)
      return stored;
    return arith::ExtFOp::create(b, floats, stored).getResult();
  };
  // Products of one word of each tile.
  auto step = [&](Value word, ValueRange carried, ValueList ahead,
                  Value shift) {
    Values next(carried), packed;
    for (const TiledWeight &weight : weights)
      for (Value tile : tiles) {
        Value bytes = b.loadVector(weight.memref, indices(weight, tile, word),
                                   vectorBytes);
        packed.push_back(vector::BitCastOp::create(
            b, VectorType::get({tileRows}, b.getI32Type()), bytes));
        if (!ahead.empty())
          prefetch(weight.memref,
                   indices(weight, ahead[(packed.size() - 1) % tiles.size()],
                           b.add(word, shift)));
      }
    Value column = b.mul(word, perWord);
    for (int64_t j = 0; j < perWord; ++j) {
      Values inputs;
      for (Value row : rows)
        inputs.push_back(
            b.broadcast(input.element(b, row, b.add(column, j)), tileRows));
      size_t sum = 0;
      for (Value words : packed) {
        Value element = elementOf(b, shape, words, j);
        for (Value x : inputs) {
          next[sum] = b.fma(element, x, next[sum]);
          ++sum;
        }
      }
    }
    return next;
  };

  Values zeros(weights.size() * tiles.size() * rows.size(), b.f32(0, floats));
  return b.loop(
      b.index(0), b.index(inner / shape.group), 1, zeros,
      [&](Value group, ValueRange carried) {
        Value first = b.mul(group, words);
        // One row is as fast as memory. What comes `prefetchBytes` later may
        // be of the tiles that are read after these.
        Values ahead;
        Value shift;
        if (rows.size() == 1) {
          Value wanted = b.add(first, prefetchBytes / vectorBytes);
          Value isHere = b.less(wanted, b.index(allWords));
          Value step =
              b.select(isHere, b.index(0), b.index(int64_t(tiles.size())));
          for (Value tile : tiles)
            ahead.push_back(b.add(tile, step));
          shift = b.select(isHere, b.index(prefetchBytes / vectorBytes),
                           b.index(prefetchBytes / vectorBytes - allWords));
        }
        Values scales, offsets;
        for (const TiledWeight &weight : weights)
          for (auto [i, tile] : llvm::enumerate(tiles)) {
            Values at = indices(weight, tile, group);
            scales.push_back(loadGroup(weight.scales, at));
            if (Value memref = weight.integers->offsets)
              offsets.push_back(loadGroup(memref, at));
          }
        Values sums = b.loop(first, b.add(first, words), 1, zeros,
                             [&](Value word, ValueRange partial) {
                               return step(word, partial, ahead, shift);
                             });
        Values totals;
        for (auto [i, sum] : llvm::enumerate(sums))
          totals.push_back(b.fma(sum, scales[i / rows.size()], carried[i]));
        if (offsets.empty())
          return totals;
        for (auto [m, row] : llvm::enumerate(rows)) {
          Value sum =
              arith::NegFOp::create(b, b.load(input.sums, {row, group}));
          Value all = b.broadcast(sum, tileRows);
          for (size_t i = 0; i < offsets.size(); ++i) {
            Value &total = totals[i * rows.size() + m];
            total = b.fma(offsets[i], all, total);
          }
        }
        return totals;
      });
}

KernelOp KernelSet::sumGroups(TypeRange types, int64_t columns, int64_t group) {
  auto name = llvm::formatv("sum_groups_{0}_{1}", columns, group).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    int64_t lanes = KernelBuilder::lanesFor(group);
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      b.loop(b.index(0), b.index(columns / group), 1, [&](Value g) {
        Value begin = b.mul(g, group);
        Value sum = b.loop(
            begin, b.add(begin, group), lanes, b.f32(0, b.vectorType(lanes)),
            [&](Value k, ValueRange carried) {
              return Values{b.addf(
                  carried[0], b.loadVector(arguments[0], {row, k}, lanes))};
            })[0];
        b.store(b.sumLanes(sum), arguments[1], {row, g});
      });
    });
  });
}
