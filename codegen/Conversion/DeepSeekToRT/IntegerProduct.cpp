// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of 8-bit activations with 4- and 8-bit weights.

#include "codegen/Conversion/DeepSeekToRT/IntegerProduct.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

/// Bytes that one vector of a tile has: 16 rows of 4 columns.
constexpr int64_t vectorBytes = 64;

int64_t hadal::integerOffset(int64_t bits, bool hasVNNI) {
  // Without VNNI, signs of 8-bit weights move to the inputs instead.
  return bits == 4 ? -8 : hasVNNI ? -128 : 0;
}

static Value byteVector(KernelBuilder &b, int32_t value) {
  auto type = VectorType::get({vectorBytes}, b.getI8Type());
  return arith::ConstantOp::create(
      b, DenseElementsAttr::get(type, b.getI8IntegerAttr(int8_t(value))));
}

static Value callIntrinsic(KernelBuilder &b, StringRef name, Type result,
                           ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(b, result, b.getStringAttr(name),
                                       operands)
      .getResult(0);
}

/// Lanes [begin, begin + count) of a vector.
static Value lanesOf(KernelBuilder &b, Value vector, int64_t begin,
                     int64_t count) {
  SmallVector<int64_t> lanes;
  for (int64_t i = 0; i < count; ++i)
    lanes.push_back(begin + i);
  return vector::ShuffleOp::create(b, vector, vector, lanes);
}

/// sums + products of \p weights, as bytes, with \p inputs, four to a lane.
static Value addProducts(KernelBuilder &b, bool hasVNNI, bool isSigned,
                         Value sums, Value weights, Value inputs) {
  if (hasVNNI) {
    if (isSigned)
      weights = arith::XOrIOp::create(b, weights, byteVector(b, 0x80));
    return callIntrinsic(b, "llvm.x86.avx512.vpdpbusd.512", sums.getType(),
                         {sums, weights, inputs});
  }
  // Two products of a byte by a signed byte are added in 16 bits: that of 4-bit
  // weights is at most 2 * 15 * 127, that of magnitudes 2 * 127 * 127.
  auto bytes = VectorType::get({32}, b.getI8Type());
  auto words = VectorType::get({16}, b.getI16Type());
  auto doubleWords = VectorType::get({8}, b.getI32Type());
  Value ones = arith::ConstantOp::create(
      b, DenseElementsAttr::get(words, b.getI16IntegerAttr(1)));
  Values halves;
  for (int64_t begin : {0, 32}) {
    Value w = lanesOf(b, weights, begin, 32), x = lanesOf(b, inputs, begin, 32);
    if (isSigned) {
      x = callIntrinsic(b, "llvm.x86.avx2.psign.b", bytes, {x, w});
      w = math::AbsIOp::create(b, w);
    }
    Value pairs = callIntrinsic(b, "llvm.x86.avx2.pmadd.ub.sw", words, {w, x});
    halves.push_back(
        callIntrinsic(b, "llvm.x86.avx2.pmadd.wd", doubleWords, {pairs, ones}));
  }
  SmallVector<int64_t> lanes(16);
  std::iota(lanes.begin(), lanes.end(), 0);
  Value products = vector::ShuffleOp::create(b, halves[0], halves[1], lanes);
  return b.add(sums, products);
}

Values hadal::multiplyIntegerTile(KernelBuilder &b, bool hasVNNI,
                                  const IntegerWeight &weight, Value tile,
                                  const IntegerRows &input, ValueList rows) {
  auto byteType = VectorType::get({vectorBytes}, b.getI8Type());
  VectorType floatType = b.vectorType(tileRows);
  bool isSigned = weight.bits == 8;
  // A vector of bytes is two lanes' worth of 4-bit weights, or one of 8-bit.
  int64_t lanesPerVector = weight.bits == 4 ? 2 : 1;
  int64_t vectors = weight.activationGroup / (4 * lanesPerVector);

  auto indices = [&](Value a, Value c) {
    Values list;
    if (weight.leading)
      list.push_back(weight.leading);
    list.append({tile, a, c});
    return list;
  };
  /// Integer sums of one group of the inputs, as f32.
  auto groupSums = [&](Value group) {
    // Sums of integers are exact in any order: the short groups of 4 bits have
    // several chains in a single row, so that none waits for the one before.
    size_t chains = rows.size() == 1 && weight.bits == 4 ? 4 : 1;
    Values sums;
    for (Value row : rows)
      sums.push_back(
          b.broadcast(b.load(input.offsets, {row, group}), tileRows));
    sums.append(chains - 1,
                arith::ConstantOp::create(
                    b, DenseElementsAttr::get(
                           VectorType::get({tileRows}, b.getI32Type()),
                           b.getI32IntegerAttr(0))));
    auto step = [&](Value index, int64_t unrolled, ValueRange carried) {
      Values next(carried);
      Value stored =
          b.loadVector(weight.memref, indices(index, b.index(0)), vectorBytes);
      if (rows.size() == 1)
        memref::PrefetchOp::create(
            b, weight.memref,
            indices(b.add(index, prefetchBytes / vectorBytes), b.index(0)),
            /*isWrite=*/false, /*localityHint=*/3, /*isDataCache=*/true);
      Values parts = {stored};
      if (weight.bits == 4) {
        // Bits that a shift of 16-bit lanes brings in from the neighbor are
        // masked away.
        Value low = byteVector(b, 0x0f);
        auto words = VectorType::get({vectorBytes / 2}, b.getI16Type());
        Value shifted = arith::ShRUIOp::create(
            b, vector::BitCastOp::create(b, words, stored),
            arith::ConstantOp::create(
                b, DenseElementsAttr::get(words, b.getI16IntegerAttr(4))));
        parts = {arith::AndIOp::create(b, stored, low),
                 arith::AndIOp::create(
                     b, vector::BitCastOp::create(b, byteType, shifted), low)};
      }
      Value column = b.mul(index, lanesPerVector);
      for (auto [i, part] : llvm::enumerate(parts))
        for (auto [m, row] : llvm::enumerate(rows)) {
          Value four = b.load(input.values, {row, b.add(column, int64_t(i))});
          Value x = vector::BitCastOp::create(b, byteType,
                                              b.broadcast(four, tileRows));
          size_t chain =
              m + size_t(unrolled * lanesPerVector + int64_t(i)) % chains;
          next[chain] = addProducts(b, hasVNNI, isSigned, next[chain], part, x);
        }
      return next;
    };
    Value first = b.mul(group, vectors);
    int64_t unroll = std::min<int64_t>(vectors, 8);
    if (vectors == unroll) {
      for (int64_t i = 0; i < vectors; ++i)
        sums = step(b.add(first, i), i, sums);
    } else {
      sums = b.loop(first, b.add(first, vectors), unroll, sums,
                    [&](Value index, ValueRange carried) {
                      Values next(carried);
                      for (int64_t i = 0; i < unroll; ++i)
                        next = step(b.add(index, i), i, next);
                      return next;
                    });
    }
    while (sums.size() > rows.size()) {
      Value last = sums.pop_back_val();
      sums.back() = b.add(sums.back(), last);
    }
    for (Value &sum : sums)
      sum = arith::SIToFPOp::create(b, floatType, sum);
    return sums;
  };
  auto inputScale = [&](Value row, Value group) {
    return b.broadcast(b.load(input.scales, {row, group}), tileRows);
  };

  Values zeros(rows.size(), b.f32(0, floatType));
  int64_t ratio = weight.group / weight.activationGroup;
  return b.loop(
      b.index(0), b.index(weight.inner / weight.group), 1, zeros,
      [&](Value group, ValueRange carried) {
        Value scale = arith::ExtFOp::create(
            b, floatType,
            b.loadVector(weight.scales, indices(group, b.index(0)), tileRows));
        Values next;
        if (ratio == 1) {
          Values sums = groupSums(group);
          for (auto [m, row] : llvm::enumerate(rows))
            next.push_back(b.fma(sums[m], b.mulf(scale, inputScale(row, group)),
                                 carried[m]));
          return next;
        }
        Value first = b.mul(group, ratio);
        Values inner =
            b.loop(first, b.add(first, ratio), 1, zeros,
                   [&](Value part, ValueRange innerCarried) {
                     Values sums = groupSums(part), innerNext;
                     for (auto [m, row] : llvm::enumerate(rows))
                       innerNext.push_back(b.fma(sums[m], inputScale(row, part),
                                                 innerCarried[m]));
                     return innerNext;
                   });
        for (auto [m, row] : llvm::enumerate(rows))
          next.push_back(b.fma(inner[m], scale, carried[m]));
        return next;
      });
}

SmallVector<int64_t> hadal::integerRowBlocks(int64_t registers) {
  // A row has a vector of integer sums and one of f32.
  if (registers >= 32)
    return {12, 4, 1};
  return {2, 1};
}

KernelOp KernelSet::quantizeRows(TypeRange types, int64_t columns,
                                 int64_t group, int64_t offset) {
  auto name =
      llvm::formatv("quantize_rows_{0}_{1}_{2}", columns, group, -offset).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value in = arguments[0], values = arguments[1], scales = arguments[2],
          offsets = arguments[3];
    constexpr int64_t lanes = KernelBuilder::maxLanes;
    auto integers = VectorType::get({lanes}, b.getI32Type());
    auto bytes = VectorType::get({lanes}, b.getI8Type());
    auto fours = VectorType::get({lanes / 4}, b.getI32Type());
    Value noSum = arith::ConstantOp::create(
        b, DenseElementsAttr::get(integers, b.getI32IntegerAttr(0)));
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      b.loop(b.index(0), b.index(columns / group), 1, [&](Value g) {
        Value begin = b.mul(g, group);
        Value end = b.add(begin, group);
        Value largest = b.maxLane(b.loop(
            begin, end, lanes, b.f32(0, b.vectorType(lanes)),
            [&](Value k, ValueRange carried) {
              Value x = b.loadVector(in, {row, k}, lanes);
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
              Value x = b.loadVector(in, {row, k}, lanes);
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
