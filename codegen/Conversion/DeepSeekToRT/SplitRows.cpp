// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Inputs of integer weights that are not rounded: each number is some digits,
// and a product of digits with integers is one of integers. Also those that the
// model itself rounds, to a grid.

#include "codegen/Conversion/DeepSeekToRT/IntegerProduct.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

namespace {

/// Stores the digits of integers of a row, by groups.
struct DigitWriter {
  DigitWriter(KernelBuilder &b, int64_t count, int64_t group, Value planes,
              Value scales, Value sums, std::optional<int64_t> factor)
      : b(b), count(count), group(group), lanes(KernelBuilder::lanesFor(group)),
        planes(planes), scales(scales), sums(sums), factor(factor),
        integers(VectorType::get({lanes}, b.getI32Type())) {}

  /// Group \p g of \p row: \p integersAt gives vectors of integers, from a
  /// column on, in f32.
  void write(Value row, Value g, Value scale,
             function_ref<Value(Value k)> integersAt);

  KernelBuilder &b;
  int64_t count, group, lanes;
  Value planes, scales, sums;
  std::optional<int64_t> factor;
  VectorType integers;

private:
  Value constant(int32_t value) {
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(integers, b.getI32IntegerAttr(value)));
  }
};

} // namespace

void DigitWriter::write(Value row, Value g, Value scale,
                        function_ref<Value(Value k)> integersAt) {
  auto bytes = VectorType::get({lanes}, b.getI8Type());
  auto fours = VectorType::get({lanes / 4}, b.getI32Type());
  Value firstPlane = b.mul(row, count), begin = b.mul(g, group);
  Values totals(size_t(count), constant(0));
  totals = b.loop(
      "k", begin, b.add(begin, group), lanes, totals,
      [&](Value k, ValueRange carried) {
        Value rest = arith::FPToSIOp::create(b, integers, integersAt(k));
        Values next;
        for (int64_t i = 0; i < count; ++i) {
          Value digit = rest;
          if (i + 1 < count) {
            // The lowest seven bits, less 128 from 64 on.
            digit = b.sub(arith::AndIOp::create(b, b.add(rest, constant(64)),
                                                constant(127)),
                          constant(64));
            rest = arith::ShRSIOp::create(b, b.sub(rest, digit), constant(7));
          }
          Value packed = vector::BitCastOp::create(
              b, fours, arith::TruncIOp::create(b, bytes, digit));
          b.storeVector(packed, planes, {b.add(firstPlane, i), b.div(k, 4)});
          next.push_back(b.add(carried[size_t(i)], digit));
        }
        return next;
      });
  b.store(scale, scales, {row, g});
  for (Value &total : totals)
    total = b.sumLanes(total);
  if (!factor)
    return b.store(scaledSum(b, totals, scale), sums, {row, g});
  for (auto [i, total] : llvm::enumerate(totals))
    b.store(b.mul(total, b.i32(int32_t(*factor))), sums,
            {b.add(firstPlane, int64_t(i)), g});
}

KernelOp KernelSet::splitRows(TypeRange types, const IntegerShape &shape) {
  int64_t columns = shape.inner, group = shape.activationGroup;
  std::optional<int64_t> factor = sumFactor(shape, options.dotProduct);
  std::string name = llvm::formatv("split_rows_{0}_{1}_{2}", columns, group,
                                   nameOfSums(factor));
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value in = arguments[0];
    DigitWriter writer(b, inputDigits, group, arguments[1], arguments[2],
                       arguments[3], factor);
    int64_t lanes = writer.lanes;
    auto toF32 = [&](Value bits) -> Value {
      return arith::BitcastOp::create(b, b.getF32Type(), bits);
    };
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      b.loop("group", b.index(0), b.index(columns / group), 1, [&](Value g) {
        Value begin = b.mul(g, group);
        Value largest = b.maxLane(b.loop(
            "k", begin, b.add(begin, group), lanes,
            b.f32(0, b.vectorType(lanes)), [&](Value k, ValueRange carried) {
              Value x = b.loadVector(in, {row, k}, lanes);
              return Values{b.maxf(carried[0], math::AbsFOp::create(b, x))};
            })[0]);
        // The scale is 2^-26 times the power of two at or below the largest, so
        // that numbers are less than 2^27 of it. Where it would be subnormal,
        // a group counts as zeros.
        Value bits = arith::BitcastOp::create(b, b.getI32Type(), largest);
        Value power = arith::ShRUIOp::create(b, bits, b.i32(23));
        Value exponent = b.sub(power, b.i32(26));
        Value isZero = arith::CmpIOp::create(b, arith::CmpIPredicate::sle,
                                             exponent, b.i32(0));
        Value scale =
            b.select(isZero, b.f32(0),
                     toF32(arith::ShLIOp::create(b, exponent, b.i32(23))));
        Value inverse =
            b.select(isZero, b.f32(0),
                     toF32(arith::ShLIOp::create(b, b.sub(b.i32(254), exponent),
                                                 b.i32(23))));
        Value inverses = b.broadcast(inverse, lanes);
        writer.write(row, g, scale, [&](Value k) -> Value {
          Value x = b.loadVector(in, {row, k}, lanes);
          return math::RoundEvenOp::create(b, b.mulf(x, inverses));
        });
      });
    });
  });
}

/// Integers of a grid, less its zero point, that numbers \p x are rounded to.
static Value toGrid(KernelBuilder &b, Value x, Value scales, Value zeros) {
  Value code = b.addf(math::RoundEvenOp::create(b, b.divf(x, scales)), zeros);
  auto limit = [&](double number) { return b.f32(number, x.getType()); };
  Value above = b.maxf(code, limit(-128));
  Value inside = b.select(b.lessf(limit(127), above), limit(127), above);
  return b.subf(inside, zeros);
}

KernelOp KernelSet::splitGrid(TypeRange types, const IntegerShape &shape) {
  int64_t columns = shape.inner, group = shape.activationGroup;
  std::optional<int64_t> factor = sumFactor(shape, options.dotProduct);
  std::string name = llvm::formatv("split_grid_{0}_{1}_{2}", columns, group,
                                   nameOfSums(factor));
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value in = arguments[0];
    DigitWriter writer(b, gridDigits, group, arguments[2], arguments[3],
                       arguments[4], factor);
    Value scale = b.load(arguments[1], b.index(0));
    Value scales = b.broadcast(scale, writer.lanes);
    Value zeros = b.broadcast(b.load(arguments[1], b.index(1)), writer.lanes);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      b.loop("group", b.index(0), b.index(columns / group), 1, [&](Value g) {
        writer.write(row, g, scale, [&](Value k) {
          return toGrid(b, b.loadVector(in, {row, k}, writer.lanes), scales,
                        zeros);
        });
      });
    });
  });
}

KernelOp KernelSet::roundToGrid(TypeRange types, int64_t columns) {
  auto name = llvm::formatv("round_to_grid_{0}", columns).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    int64_t lanes = KernelBuilder::lanesFor(columns);
    Value scales = b.broadcast(b.load(arguments[1], b.index(0)), lanes);
    Value zeros = b.broadcast(b.load(arguments[1], b.index(1)), lanes);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      b.loop("k", b.index(0), b.index(columns), lanes, [&](Value k) {
        Value x = b.loadVector(arguments[0], {row, k}, lanes);
        b.storeVector(b.mulf(toGrid(b, x, scales, zeros), scales), arguments[2],
                      {row, k});
      });
    });
  });
}
