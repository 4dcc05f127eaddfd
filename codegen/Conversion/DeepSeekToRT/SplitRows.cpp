// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Inputs of integer weights that are not rounded: each number is four digits,
// and a product of digits with integers is one of integers.

#include "codegen/Conversion/DeepSeekToRT/IntegerProduct.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

KernelOp KernelSet::splitRows(TypeRange types, int64_t columns, int64_t group,
                              int64_t offset) {
  auto name =
      llvm::formatv("split_rows_{0}_{1}_{2}", columns, group, -offset).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value in = arguments[0], planes = arguments[1], scales = arguments[2],
          offsets = arguments[3];
    int64_t lanes = KernelBuilder::lanesFor(group);
    auto integers = VectorType::get({lanes}, b.getI32Type());
    auto bytes = VectorType::get({lanes}, b.getI8Type());
    auto fours = VectorType::get({lanes / 4}, b.getI32Type());
    auto constant = [&](int32_t value) -> Value {
      return arith::ConstantOp::create(
          b, DenseElementsAttr::get(integers, b.getI32IntegerAttr(value)));
    };
    auto toF32 = [&](Value bits) -> Value {
      return arith::BitcastOp::create(b, b.getF32Type(), bits);
    };
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value firstPlane = b.mul(row, inputDigits);
      b.loop(b.index(0), b.index(columns / group), 1, [&](Value g) {
        Value begin = b.mul(g, group);
        Value end = b.add(begin, group);
        Value largest = b.maxLane(b.loop(
            begin, end, lanes, b.f32(0, b.vectorType(lanes)),
            [&](Value k, ValueRange carried) {
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
        Values sums(inputDigits, constant(0));
        sums =
            b.loop(begin, end, lanes, sums, [&](Value k, ValueRange carried) {
              Value x = b.loadVector(in, {row, k}, lanes);
              Value rounded = math::RoundEvenOp::create(b, b.mulf(x, inverses));
              Value rest = arith::FPToSIOp::create(b, integers, rounded);
              Values next;
              for (int64_t i = 0; i < inputDigits; ++i) {
                Value digit = rest;
                if (i + 1 < inputDigits) {
                  // The lowest seven bits, less 128 from 64 on.
                  digit =
                      b.sub(arith::AndIOp::create(b, b.add(rest, constant(64)),
                                                  constant(127)),
                            constant(64));
                  rest = arith::ShRSIOp::create(b, b.sub(rest, digit),
                                                constant(7));
                }
                Value packed = vector::BitCastOp::create(
                    b, fours, arith::TruncIOp::create(b, bytes, digit));
                b.storeVector(packed, planes,
                              {b.add(firstPlane, i), b.div(k, 4)});
                next.push_back(b.add(carried[size_t(i)], digit));
              }
              return next;
            });
        b.store(scale, scales, {row, g});
        for (int64_t i = 0; i < inputDigits; ++i)
          b.store(b.mul(b.sumLanes(sums[size_t(i)]), b.i32(int32_t(offset))),
                  offsets, {b.add(firstPlane, i), g});
      });
    });
  });
}
