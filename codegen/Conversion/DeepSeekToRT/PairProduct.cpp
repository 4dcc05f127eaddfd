// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of pairs of bf16 numbers.

#include "codegen/Conversion/DeepSeekToRT/PairProduct.h"

#include "codegen/Conversion/DeepSeekToRT/CacheElements.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace hadal;

/// The bits that are the second number of a pair.
static constexpr int32_t highHalf = int32_t(0xffff0000);

static int64_t lanesOf(Type type) {
  auto vector = dyn_cast<VectorType>(type);
  return vector ? vector.getDimSize(0) : 1;
}

static Type withElement(Type like, Type element) {
  auto vector = dyn_cast<VectorType>(like);
  return vector ? Type(vector.clone(element)) : element;
}

/// \p value in each lane of a type like \p like.
static Value constant(KernelBuilder &b, int32_t value, Type like) {
  Value scalar = b.i32(value);
  return isa<VectorType>(like) ? b.broadcast(scalar, lanesOf(like)) : scalar;
}

static Value bitsOf(KernelBuilder &b, Value x) {
  return arith::BitcastOp::create(b, withElement(x.getType(), b.getI32Type()),
                                  x);
}

static Value toF32(KernelBuilder &b, Value bits) {
  return arith::BitcastOp::create(
      b, withElement(bits.getType(), b.getF32Type()), bits);
}

Value PairProduct::first(Value packed) {
  Value sixteen = constant(b, 16, packed.getType());
  return toF32(b, arith::ShLIOp::create(b, packed, sixteen));
}

Value PairProduct::second(Value packed) {
  Value mask = constant(b, highHalf, packed.getType());
  return toF32(b, arith::AndIOp::create(b, packed, mask));
}

/// Every second lane of \p low and then of \p high, from \p begin on.
static Value everySecond(KernelBuilder &b, Value low, Value high,
                         int64_t begin) {
  SmallVector<int64_t> lanes;
  for (int64_t i = 0; i < lanesOf(low.getType()); ++i)
    lanes.push_back(begin + 2 * i);
  return vector::ShuffleOp::create(b, low, high, lanes);
}

/// Lanes of \p even and \p odd in turns, \p count from lane \p begin of each.
static Value inTurns(KernelBuilder &b, Value even, Value odd, int64_t begin,
                     int64_t count) {
  SmallVector<int64_t> lanes;
  for (int64_t i = 0; i < count; ++i)
    lanes.append({begin + i, lanesOf(even.getType()) + begin + i});
  return vector::ShuffleOp::create(b, even, odd, lanes);
}

bool PairProduct::isNative(Type sums) const {
  return hasInstruction && lanesOf(sums) == KernelBuilder::maxLanes;
}

PairProduct::Pairs PairProduct::unpack(Value packed) {
  if (isNative(packed.getType()))
    return {packed, Value(), Value()};
  return {Value(), first(packed), second(packed)};
}

PairProduct::Pairs PairProduct::broadcast(Value packed, int64_t lanes) {
  if (isNative(VectorType::get({lanes}, b.getI32Type())))
    return {b.broadcast(packed, lanes), Value(), Value()};
  return {Value(), b.broadcast(first(packed), lanes),
          b.broadcast(second(packed), lanes)};
}

Value PairProduct::add(Value sums, const Pairs &x, const Pairs &y) {
  if (!isNative(sums.getType()))
    return b.fma(x.first, y.first, b.fma(x.second, y.second, sums));
  auto halves = VectorType::get({2 * KernelBuilder::maxLanes}, b.getBF16Type());
  auto cast = [&](const Pairs &pairs) -> Value {
    return vector::BitCastOp::create(b, halves, pairs.packed);
  };
  return LLVM::CallIntrinsicOp::create(
             b, sums.getType(),
             b.getStringAttr("llvm.x86.avx512bf16.dpbf16ps.512"),
             ValueRange{sums, cast(x), cast(y)})
      .getResult(0);
}

Value PairProduct::round(Value x) {
  Value bits = roundToBF16(b, x);
  return toF32(
      b, arith::AndIOp::create(b, bits, constant(b, highHalf, x.getType())));
}

Value PairProduct::pack(Value first, Value second) {
  Value low = arith::ShRUIOp::create(b, bitsOf(b, first),
                                     constant(b, 16, first.getType()));
  return arith::OrIOp::create(b, low, bitsOf(b, second));
}

Value PairProduct::packNeighbors(Value low, Value high) {
  if (!isNative(low.getType()))
    return pack(round(everySecond(b, low, high, 0)),
                round(everySecond(b, low, high, 1)));
  auto halves = VectorType::get({2 * KernelBuilder::maxLanes}, b.getBF16Type());
  Value rounded =
      LLVM::CallIntrinsicOp::create(
          b, halves, b.getStringAttr("llvm.x86.avx512bf16.cvtne2ps2bf16.512"),
          ValueRange{high, low})
          .getResult(0);
  return vector::BitCastOp::create(
      b, VectorType::get({KernelBuilder::maxLanes}, b.getI32Type()), rounded);
}

std::pair<Value, Value> PairProduct::transpose(Value row, Value nextRow) {
  Type type = row.getType();
  Value sixteen = constant(b, 16, type), mask = constant(b, highHalf, type);
  // Of the even columns, and of the odd ones.
  Value even = arith::OrIOp::create(
      b,
      arith::ShRUIOp::create(b, arith::ShLIOp::create(b, row, sixteen),
                             sixteen),
      arith::ShLIOp::create(b, nextRow, sixteen));
  Value odd = arith::OrIOp::create(b, arith::ShRUIOp::create(b, row, sixteen),
                                   arith::AndIOp::create(b, nextRow, mask));
  int64_t lanes = lanesOf(type);
  if (lanes == 1)
    return {even, odd};
  return {inTurns(b, even, odd, 0, lanes / 2),
          inTurns(b, even, odd, lanes / 2, lanes / 2)};
}
