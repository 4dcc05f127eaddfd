// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tiles of integers as the numbers that they stand for, in f32.

#include "codegen/Conversion/DeepSeekToRT/DequantizedTiles.h"

#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace hadal;
using Values = KernelBuilder::Values;

DequantizedTiles::DequantizedTiles(KernelBuilder &b, DotProductKind dotProduct,
                                   const HeadShape &shape, ValueRange arguments,
                                   size_t &next, int64_t mostTiles)
    : b(b), dotProduct(dotProduct), shape(shape) {
  memref = arguments[next++];
  scales = arguments[next++];
  if (shape.hasOffsets)
    offsets = arguments[next++];
  if (!shape.isTurned)
    return;
  turnedScales =
      b.stack({mostTiles, shape.inner}, b.getF32Type(), "turned_scales");
  if (offsets)
    turnedOffsets =
        b.stack({mostTiles, shape.inner}, b.getF32Type(), "turned_offsets");
}

/// The scales or offsets \p memref of group \p group, \p lanes of them, of
/// which \p load gives what is stored in a column.
Value DequantizedTiles::numberOf(Value memref, Value group, int64_t lanes,
                                 function_ref<Value(Value column)> load) const {
  Type element = getElementTypeOrSelf(memref);
  VectorType wide = b.vectorType(lanes);
  if (element.isF32())
    return load(group);
  if (!element.isInteger())
    return arith::ExtFOp::create(b, wide, load(group));
  // Of two levels: factors of a block, and the two bytes of an f16.
  auto words = VectorType::get({lanes}, b.getI16Type());
  int64_t groups = deepseek::scaleBlock / shape.group;
  Value block = b.div(group, groups);
  Value begin = b.mul(block, groups + deepseek::scaleBlockBytes);
  auto byte = [&](int64_t i) -> Value {
    return arith::ExtUIOp::create(b, words, load(b.add(begin, groups + i)));
  };
  Value eight = arith::ConstantOp::create(
      b, DenseElementsAttr::get(words, b.getI16IntegerAttr(8)));
  Value low = byte(0);
  Value bits =
      arith::OrIOp::create(b, low, arith::ShLIOp::create(b, byte(1), eight));
  Value half = arith::BitcastOp::create(
      b, VectorType::get({lanes}, b.getF16Type()), bits);
  Value factor =
      arith::ExtSIOp::create(b, VectorType::get({lanes}, b.getI32Type()),
                             load(b.add(begin, b.rem(group, groups))));
  return b.mulf(arith::SIToFPOp::create(b, wide, factor),
                arith::ExtFOp::create(b, wide, half));
}

/// Lane \p lane of a unit, four columns of 16 rows, as signed bytes.
Value DequantizedTiles::signedCodes(
    int64_t lane, function_ref<Value(int64_t vector)> load) const {
  Value codes = unpackLane(b, shape.bits, lane, load);
  int64_t offset = 0;
  if (!shape.codebook.empty()) {
    codes = lookUp(b, dotProduct, shape.codebook, codes);
    offset = weightOffset(dotProduct);
  } else if (shape.bits < 8 && !shape.isUnsigned) {
    offset = int64_t(1) << (shape.bits - 1);
  }
  if (offset == 0)
    return codes;
  auto type = cast<VectorType>(codes.getType());
  return b.sub(codes, arith::ConstantOp::create(
                          b, DenseElementsAttr::get(
                                 type, b.getI8IntegerAttr(int8_t(offset)))));
}

/// Widens the scales or offsets \p memref of each of \p tiles to a row of
/// \p to.
void DequantizedTiles::readTurned(Value memref, Value head, ValueList tiles,
                                  Value to) const {
  int64_t lanes = KernelBuilder::lanesFor(shape.inner);
  for (auto [i, tile] : llvm::enumerate(tiles)) {
    Value slot = b.index(int64_t(i));
    Value group = b.div(tile, shape.group / tileRows);
    b.loop("k", b.index(0), b.index(shape.inner), lanes, [&](Value k) {
      auto load = [&](Value row) {
        return b.loadVector(memref, {head, row, k}, lanes);
      };
      b.storeVector(numberOf(memref, group, lanes, load), to, {slot, k});
    });
  }
}

Values DequantizedTiles::forColumns(Value head, ValueList tiles,
                                    ValueRange carried, Body body) const {
  bool isTurned = shape.isTurned;
  int64_t inner = shape.inner, unit = deepseek::getTileColumns(shape.bits);
  int64_t unitVectors = unit * shape.bits / 32;
  // Columns whose scales are read together.
  int64_t span = isTurned ? unit : std::max(shape.group, unit);
  int64_t groups = isTurned ? 1 : span / shape.group;
  if (isTurned) {
    readTurned(scales, head, tiles, turnedScales);
    if (offsets)
      readTurned(offsets, head, tiles, turnedOffsets);
  }

  auto vectorAt = [&](Value memref, Value tile, Value column, int64_t lanes) {
    return b.loadVector(memref, {head, tile, column, b.index(0)}, lanes);
  };
  // Of each group of the span at \p index, for each tile.
  auto numbersOf = [&](Value memref, Value index) {
    SmallVector<Values> numbers;
    for (int64_t g = 0; g < groups; ++g) {
      Values &ofTiles = numbers.emplace_back();
      Value group = b.add(b.mul(index, groups), g);
      for (Value tile : tiles)
        ofTiles.push_back(numberOf(memref, group, tileRows, [&](Value column) {
          return vectorAt(memref, tile, column, tileRows);
        }));
    }
    return numbers;
  };
  auto words = VectorType::get({tileRows}, b.getI32Type());
  auto shift = [&](int32_t by) -> Value {
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(words, b.getI32IntegerAttr(by)));
  };
  // Column \p c of four, as numbers without scales.
  auto columnOf = [&](Value codes, int32_t c) -> Value {
    Value word = vector::BitCastOp::create(b, words, codes);
    if (c < 3)
      word = arith::ShLIOp::create(b, word, shift(24 - 8 * c));
    return arith::SIToFPOp::create(b, b.vectorType(tileRows),
                                   arith::ShRSIOp::create(b, word, shift(24)));
  };
  auto addUnit = [&](Value index, ArrayRef<Values> ofScales,
                     ArrayRef<Values> ofOffsets, ValueRange carried) {
    Values next(carried);
    SmallVector<Values> stored(tiles.size(), Values(size_t(unitVectors)));
    for (int64_t lane = 0; lane < unit / 4; ++lane) {
      Values codes;
      for (size_t t = 0; t < tiles.size(); ++t)
        codes.push_back(signedCodes(lane, [&](int64_t i) {
          Value &known = stored[t][size_t(i)], tile = tiles[t];
          if (known)
            return known;
          Value vector = b.add(b.mul(index, unitVectors), i);
          known = vectorAt(memref, tile, vector, 4 * tileRows);
          // What is read after these tiles, as fast as these are.
          int64_t last = ceilDiv(shape.columns, tileRows) - 1;
          Value after =
              b.min(b.add(tile, int64_t(tiles.size())), b.index(last));
          memref::PrefetchOp::create(
              b, memref, ValueRange{head, after, vector, b.index(0)},
              /*isWrite=*/false, prefetchLocality, /*isDataCache=*/true);
          return known;
        }));
      for (int32_t c = 0; c < 4; ++c) {
        int64_t inUnit = 4 * lane + c;
        Value k = b.add(b.mul(index, unit), inUnit);
        Values columns;
        for (size_t t = 0; t < tiles.size(); ++t) {
          auto numbers = [&](ArrayRef<Values> ofGroups, Value turned) {
            if (!isTurned)
              return ofGroups[size_t(inUnit / shape.group) % ofGroups.size()]
                             [t];
            return b.broadcast(b.load(turned, {b.index(int64_t(t)), k}),
                               tileRows);
          };
          Value number =
              b.mulf(columnOf(codes[t], c), numbers(ofScales, turnedScales));
          if (offsets)
            number = b.subf(number, numbers(ofOffsets, turnedOffsets));
          columns.push_back(number);
        }
        next = body(k, columns, next);
      }
    }
    return next;
  };
  return b.loop("index", b.index(0), b.index(inner / span), 1, carried,
                [&](Value index, ValueRange carried) {
                  SmallVector<Values> ofScales, ofOffsets;
                  if (!isTurned) {
                    ofScales = numbersOf(scales, index);
                    if (offsets)
                      ofOffsets = numbersOf(offsets, index);
                  }
                  int64_t units = span / unit;
                  if (units == 1)
                    return addUnit(index, ofScales, ofOffsets, carried);
                  Value first = b.mul(index, units);
                  return b.loop("at", first, b.add(first, units), 1, carried,
                                [&](Value at, ValueRange carried) {
                                  return addUnit(at, ofScales, ofOffsets,
                                                 carried);
                                });
                });
}
