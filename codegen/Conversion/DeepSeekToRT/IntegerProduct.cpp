// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of 8-bit activations with 4- and 8-bit weights.

#include "codegen/Conversion/DeepSeekToRT/IntegerProduct.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/FormatVariadic.h"

#include <numeric>

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

/// Bytes that one vector of a tile has: 16 rows of 4 columns.
constexpr int64_t vectorBytes = 64;

int64_t hadal::integerOffset(int64_t bits, bool isUnsigned,
                             DotProductKind dotProduct) {
  if (bits == 8)
    return -weightOffset(dotProduct);
  return isUnsigned ? 0 : -8;
}

static Value byteVector(KernelBuilder &b, int32_t value) {
  auto type = VectorType::get({vectorBytes}, b.getI8Type());
  return arith::ConstantOp::create(
      b, DenseElementsAttr::get(type, b.getI8IntegerAttr(int8_t(value))));
}

namespace {

/// What a product of tiles needs to know of a weight beside `IntegerWeight`.
struct GroupLoop {
  KernelBuilder &b;
  DotProductKind dotProduct;
  ArrayRef<IntegerWeight> weights;
  ValueList tiles;
  const IntegerRows &input;
  /// Of the inputs, and of values: as many for each as there are digits.
  ValueList inputRows, rows;

  const IntegerWeight &shape() const { return weights.front(); }
  size_t chains() const { return weights.size() * tiles.size(); }
  /// Four columns are a lane of bytes; a vector has two lanes' worth of 4-bit
  /// weights, or one of 8-bit.
  int64_t lanesPerVector() const { return shape().bits == 4 ? 2 : 1; }
  /// Vectors of a tile in a group of the inputs.
  int64_t vectors() const {
    return shape().activationGroup / (4 * lanesPerVector());
  }
  Values indices(const IntegerWeight &weight, Value tile, Value at) const {
    Values list;
    if (weight.leading)
      list.push_back(weight.leading);
    list.append({tile, at, b.index(0)});
    return list;
  }
  Values scales(Value group) const;
  Values offsets(Value group) const;
  Values inputSums(Value part) const;
  Values sums(Value group) const;

private:
  /// What to ask for while a group is multiplied: tiles, in the order of
  /// chains, and what to add to the index of a vector.
  struct Ahead {
    Values tiles;
    Value shift;
  };
  Ahead prefetch(Value group) const;
  Values load(const IntegerWeight &weight, Value tile, Value index,
              ArrayRef<Value> &asked, const Ahead &ahead) const;
  /// Vectors that `step` takes at a time.
  int64_t vectorsPerStep() const {
    return inPairs() ? 2 / lanesPerVector() : 1;
  }
  bool inPairs() const {
    return multipliesPairs(dotProduct) && rows.size() % 2 == 0;
  }
  Values step(Value index, ValueRange carried, int64_t unrolled,
              const Ahead &ahead) const;
  Values stepInPairs(Value index, ValueRange carried, int64_t unrolled,
                     const Ahead &ahead) const;
};

} // namespace

/// A vector of 16 at \p indices, widened to f32.
static Value loadWide(KernelBuilder &b, Value memref, ValueRange indices) {
  Value stored = b.loadVector(memref, indices, tileRows);
  VectorType wide = b.vectorType(tileRows);
  if (stored.getType() == wide)
    return stored;
  return arith::ExtFOp::create(b, wide, stored);
}

/// Scales of \p group, for each weight and tile.
Values GroupLoop::scales(Value group) const {
  Values result;
  for (const IntegerWeight &weight : weights)
    for (Value tile : tiles)
      result.push_back(
          loadWide(b, weight.scales, indices(weight, tile, group)));
  return result;
}

/// Offsets of \p group, likewise; none if the weights have none.
Values GroupLoop::offsets(Value group) const {
  Values result;
  for (const IntegerWeight &weight : weights)
    for (Value tile : tiles)
      if (weight.offsets)
        result.push_back(
            loadWide(b, weight.offsets, indices(weight, tile, group)));
  return result;
}

/// Numbers of \p digits, which are f32: those of each, the lowest first, follow
/// each other.
static Values joinDigits(KernelBuilder &b, ValueRange digits, int64_t count) {
  Values result;
  for (size_t i = 0; i < digits.size(); i += size_t(count)) {
    Value number = digits[i + size_t(count) - 1];
    for (size_t d = size_t(count) - 1; d-- > 0;)
      number = b.fma(number, b.f32(128, number.getType()), digits[i + d]);
    result.push_back(number);
  }
  return result;
}

/// The sum of group \p part of each row of the inputs, as rounded, negated.
Values GroupLoop::inputSums(Value part) const {
  Values digits;
  for (Value row : rows)
    digits.push_back(arith::SIToFPOp::create(
        b, b.getF32Type(), b.load(input.offsets, {row, part})));
  Values sums = joinDigits(b, digits, input.digits);
  for (auto [sum, row] : llvm::zip(sums, inputRows))
    sum = b.mulf(arith::NegFOp::create(b, sum),
                 b.load(input.scales, {row, part}));
  return sums;
}

/// Where the weights are that come `prefetchBytes` after those of \p group;
/// past a tile's end, those of the tile that is read after it. Asks for their
/// scales.
GroupLoop::Ahead GroupLoop::prefetch(Value group) const {
  int64_t groups = shape().inner / shape().activationGroup;
  int64_t distance =
      std::clamp<int64_t>(prefetchBytes / (vectors() * vectorBytes), 1, groups);
  Value wanted = b.add(group, distance);
  Value isHere = b.less(wanted, b.index(groups));
  Value at = b.select(isHere, wanted, b.sub(wanted, b.index(groups)));
  Value step = b.select(isHere, b.index(0), b.index(int64_t(tiles.size())));
  int64_t ratio = shape().group / shape().activationGroup;
  Ahead ahead = {{}, b.mul(b.sub(at, group), vectors())};
  for (const IntegerWeight &weight : weights)
    for (Value tile : tiles) {
      Value there =
          b.min(b.add(tile, step), b.sub(weight.tilesEnd, b.index(1)));
      memref::PrefetchOp::create(b, weight.scales,
                                 indices(weight, there, b.div(at, ratio)),
                                 /*isWrite=*/false, prefetchLocality,
                                 /*isDataCache=*/true);
      ahead.tiles.push_back(there);
    }
  return ahead;
}

/// Four columns, or eight, of \p tile: as many vectors of bytes as
/// `lanesPerVector`. Asks for what is \p ahead: one line for each that is read,
/// as many at once would wait for each other.
Values GroupLoop::load(const IntegerWeight &weight, Value tile, Value index,
                       ArrayRef<Value> &asked, const Ahead &ahead) const {
  Value stored =
      b.loadVector(weight.memref, indices(weight, tile, index), vectorBytes);
  if (!asked.empty()) {
    memref::PrefetchOp::create(
        b, weight.memref,
        indices(weight, asked.front(), b.add(index, ahead.shift)),
        /*isWrite=*/false, prefetchLocality, /*isDataCache=*/true);
    asked = asked.drop_front();
  }
  if (weight.bits == 8)
    return {stored};
  // Bits that a shift of 16-bit lanes brings in from the neighbor are masked
  // away.
  Value low = byteVector(b, 0x0f);
  auto words = VectorType::get({vectorBytes / 2}, b.getI16Type());
  Value shifted = arith::ShRUIOp::create(
      b, vector::BitCastOp::create(b, words, stored),
      arith::ConstantOp::create(
          b, DenseElementsAttr::get(words, b.getI16IntegerAttr(4))));
  return {arith::AndIOp::create(b, stored, low),
          arith::AndIOp::create(
              b, vector::BitCastOp::create(b, stored.getType(), shifted), low)};
}

/// Adds the products of vector \p index of each tile.
Values GroupLoop::step(Value index, ValueRange carried, int64_t unrolled,
                       const Ahead &ahead) const {
  auto byteType = VectorType::get({vectorBytes}, b.getI8Type());
  Values next(carried);
  Value column = b.mul(index, lanesPerVector());
  // Read once for all tiles.
  SmallVector<Values> inputs(lanesPerVector());
  for (auto [i, lane] : llvm::enumerate(inputs))
    for (Value row : rows) {
      Value four = b.load(input.values, {row, b.add(column, int64_t(i))});
      lane.push_back(
          vector::BitCastOp::create(b, byteType, b.broadcast(four, tileRows)));
    }
  size_t sum = 0, count = chains() * rows.size();
  ArrayRef<Value> asked = ahead.tiles;
  for (const IntegerWeight &weight : weights)
    for (Value tile : tiles) {
      Values parts = load(weight, tile, index, asked, ahead);
      for (auto [i, part] : llvm::enumerate(parts))
        for (size_t m = 0; m < rows.size(); ++m) {
          // Sums past the first `count` are further chains of the same.
          size_t at =
              (sum + m + count * (size_t(unrolled) * parts.size() + i)) %
              carried.size();
          next[at] = addDotProducts(b, dotProduct, weight.bits == 8, next[at],
                                    part, inputs[i][m]);
        }
      sum += rows.size();
    }
  return next;
}

/// Adds the products of eight columns of each tile, of vector \p index and,
/// with 8 bits, the one after it, to sums of `packPair`.
Values GroupLoop::stepInPairs(Value index, ValueRange carried, int64_t unrolled,
                              const Ahead &ahead) const {
  Values next(carried), inputs;
  Value column = b.mul(index, lanesPerVector());
  for (size_t m = 0; m < rows.size(); m += 2) {
    Value first = b.loadVector(input.values, {rows[m], column}, 2);
    Value second = b.loadVector(input.values, {rows[m + 1], column}, 2);
    inputs.push_back(vector::ShuffleOp::create(b, first, second,
                                               ArrayRef<int64_t>{0, 1, 2, 3}));
  }
  size_t sum = 0, count = chains() * rows.size();
  ArrayRef<Value> asked = ahead.tiles;
  for (const IntegerWeight &weight : weights)
    for (Value tile : tiles) {
      Values parts = load(weight, tile, index, asked, ahead);
      if (parts.size() == 1)
        parts.append(load(weight, tile, b.add(index, 1), asked, ahead));
      for (Value pair : inputs) {
        size_t at = (sum + count * size_t(unrolled)) % carried.size();
        Values products = addPairProducts(b, {next[at], next[at + 1]}, parts[0],
                                          parts[1], pair);
        next[at] = products[0];
        next[at + 1] = products[1];
        sum += 2;
      }
    }
  return next;
}

/// Integer sums of one group of the inputs, as f32.
Values GroupLoop::sums(Value group) const {
  auto type = VectorType::get({tileRows}, b.getI32Type());
  Value zero = arith::ConstantOp::create(
      b, DenseElementsAttr::get(type, b.getI32IntegerAttr(0)));
  Values sums, starts;
  int64_t offset = integerOffset(shape().bits, shape().isUnsigned, dotProduct);
  for (Value row : rows) {
    if (shape().offsets && offset == 0) {
      starts.push_back(zero);
      continue;
    }
    Value start = b.load(input.offsets, {row, group});
    if (shape().offsets)
      start = b.mul(start, b.i32(int32_t(offset)));
    starts.push_back(b.broadcast(start, tileRows));
  }
  bool isInPairs = inPairs();
  // Vectors that as many rows as are multiplied at once have.
  auto convertPairs = [&](Values &vectors, auto convert) {
    for (size_t i = 0; isInPairs && i < vectors.size(); i += 2)
      llvm::copy(convert(vectors[i], vectors[i + 1]), vectors.begin() + i);
  };
  convertPairs(starts, [&](Value a, Value c) { return packPair(b, a, c); });
  for (size_t i = 0; i < chains(); ++i)
    sums.append(starts);
  // Sums of integers are exact in any order: a few of them have two chains
  // each, so that none waits for the one before.
  size_t count = sums.size();
  if (count <= (isInPairs ? 2 : 4))
    sums.append(count, zero);
  // More rows than one keep a processor busy for as long as memory takes.
  Ahead ahead;
  if (inputRows.size() == 1)
    ahead = prefetch(group);
  Value first = b.mul(group, vectors());
  int64_t unroll = std::gcd(vectors(), int64_t(8));
  auto steps = [&](Value index, ValueRange carried) {
    Values next(carried);
    int64_t size = vectorsPerStep();
    for (int64_t i = 0; i < unroll; i += size)
      next = isInPairs ? stepInPairs(b.add(index, i), next, i / size, ahead)
                       : step(b.add(index, i), next, i, ahead);
    return next;
  };
  if (vectors() == unroll)
    sums = steps(first, sums);
  else
    sums = b.loop(first, b.add(first, vectors()), unroll, sums, steps);
  for (size_t i = count; i < sums.size(); ++i)
    sums[i - count] = b.add(sums[i - count], sums[i]);
  sums.truncate(count);
  convertPairs(sums, [&](Value a, Value c) { return unpackPair(b, {a, c}); });
  for (Value &sum : sums)
    sum = arith::SIToFPOp::create(b, b.vectorType(tileRows), sum);
  return joinDigits(b, sums, input.digits);
}

Values hadal::multiplyIntegerTiles(KernelBuilder &b, DotProductKind dotProduct,
                                   ArrayRef<IntegerWeight> weights,
                                   ValueList tiles, const IntegerRows &input,
                                   ValueList rows) {
  Values digits;
  for (Value row : rows)
    for (int64_t i = 0; i < input.digits; ++i)
      digits.push_back(b.add(b.mul(row, input.digits), i));
  GroupLoop loop = {b, dotProduct, weights, tiles, input, rows, digits};
  const IntegerWeight &shape = weights.front();
  int64_t ratio = shape.group / shape.activationGroup;
  auto inputScales = [&](Value group) {
    Values scales;
    for (Value row : rows)
      scales.push_back(
          b.broadcast(b.load(input.scales, {row, group}), tileRows));
    return scales;
  };

  Values zeros(loop.chains() * rows.size(), b.f32(0, b.vectorType(tileRows)));
  return b.loop(
      b.index(0), b.index(shape.inner / shape.group), 1, zeros,
      [&](Value group, ValueRange carried) {
        Values next, scales = loop.scales(group);
        // Subtracts the offsets times \p sums of the inputs of this group.
        auto subtract = [&](Values totals, ValueRange sums) {
          Values offsets = loop.offsets(group);
          for (auto [i, offset] : llvm::enumerate(offsets))
            for (auto [m, sum] : llvm::enumerate(sums)) {
              Value &total = totals[i * rows.size() + m];
              total = b.fma(offset, b.broadcast(sum, tileRows), total);
            }
          return totals;
        };
        if (ratio == 1) {
          Values sums = loop.sums(group), inputs = inputScales(group);
          for (auto [i, sum] : llvm::enumerate(sums)) {
            Value scale =
                b.mulf(scales[i / rows.size()], inputs[i % rows.size()]);
            next.push_back(b.fma(sum, scale, carried[i]));
          }
          return shape.offsets ? subtract(next, loop.inputSums(group)) : next;
        }
        Value first = b.mul(group, ratio);
        Values start = zeros;
        if (shape.offsets)
          start.append(rows.size(), b.f32(0));
        Values inner = b.loop(
            first, b.add(first, ratio), 1, start,
            [&](Value part, ValueRange partial) {
              Values sums = loop.sums(part), inputs = inputScales(part), result;
              for (auto [i, sum] : llvm::enumerate(sums))
                result.push_back(
                    b.fma(sum, inputs[i % rows.size()], partial[i]));
              if (shape.offsets)
                for (auto [m, sum] : llvm::enumerate(loop.inputSums(part)))
                  result.push_back(b.addf(partial[zeros.size() + m], sum));
              return result;
            });
        Values inputSums(ArrayRef(inner).drop_front(zeros.size()));
        inner.truncate(zeros.size());
        for (auto [i, sum] : llvm::enumerate(inner))
          next.push_back(b.fma(sum, scales[i / rows.size()], carried[i]));
        return subtract(next, inputSums);
      });
}

TileRange hadal::tilesFrom(KernelBuilder &b, Value group, int64_t perGroup,
                           int64_t count, Value end) {
  Value begin = b.mul(group, perGroup);
  return {begin, b.min(b.add(begin, count), end)};
}

KernelOp KernelSet::quantizeRows(TypeRange types, int64_t columns,
                                 int64_t group, int64_t offset,
                                 std::optional<float> epsilon) {
  auto name =
      llvm::formatv("quantize_rows_{0}_{1}_{2}", columns, group, -offset).str();
  if (epsilon)
    name = llvm::formatv("rms_norm_{0:e8}_", *epsilon).str() + name;
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    size_t next = 0;
    Value in = arguments[next++];
    Value weight = epsilon ? arguments[next++] : Value();
    Value values = arguments[next++], scales = arguments[next++],
          offsets = arguments[next];
    constexpr int64_t lanes = KernelBuilder::maxLanes;
    auto integers = VectorType::get({lanes}, b.getI32Type());
    auto bytes = VectorType::get({lanes}, b.getI8Type());
    auto fours = VectorType::get({lanes / 4}, b.getI32Type());
    Value noSum = arith::ConstantOp::create(
        b, DenseElementsAttr::get(integers, b.getI32IntegerAttr(0)));
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value norms;
      if (epsilon)
        norms = b.broadcast(rmsScale(b, in, row, columns, *epsilon), lanes);
      // Few operations: what is rounded is computed again, not stored.
      auto at = [&](Value k) {
        Value x = b.loadVector(in, {row, k}, lanes);
        return epsilon
                   ? b.mulf(b.mulf(x, norms), b.loadVector(weight, k, lanes))
                   : x;
      };
      b.loop(b.index(0), b.index(columns / group), 1, [&](Value g) {
        Value begin = b.mul(g, group);
        Value end = b.add(begin, group);
        Value largest = b.maxLane(b.loop(
            begin, end, lanes, b.f32(0, b.vectorType(lanes)),
            [&](Value k, ValueRange carried) {
              Value x = at(k);
              return Values{b.maxf(carried[0], math::AbsFOp::create(b, x))};
            })[0]);
        // A subnormal scale has no finite inverse; its group counts as zeros.
        Value quotient = b.divf(largest, b.f32(127));
        Value isZero = b.lessf(quotient, b.f32(0x1p-126));
        Value scale = b.select(isZero, b.f32(0), quotient);
        Value inverse = b.select(isZero, b.f32(0), b.divf(b.f32(1), scale));
        Value inverses = b.broadcast(inverse, lanes);
        Value sum =
            b.loop(begin, end, lanes, noSum, [&](Value k, ValueRange carried) {
              Value x = at(k);
              Value rounded = math::RoundEvenOp::create(b, b.mulf(x, inverses));
              Value q = arith::FPToSIOp::create(b, integers, rounded);
              Value packed = vector::BitCastOp::create(
                  b, fours, arith::TruncIOp::create(b, bytes, q));
              b.storeVector(packed, values, {row, b.div(k, 4)});
              return Values{b.add(carried[0], q)};
            })[0];
        Value total = b.sumLanes(sum);
        b.store(scale, scales, {row, g});
        b.store(b.mul(total, b.i32(int32_t(offset))), offsets, {row, g});
      });
    });
  });
}
