// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Dot products of four bytes, as each kind of target has them, and those of
// bf16 numbers of ARM.

#include "codegen/Conversion/DeepSeekToRT/DotProduct.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <numeric>

using namespace mlir;
using namespace hadal;
using Values = KernelBuilder::Values;

static Value callIntrinsic(KernelBuilder &b, StringRef name, Type result,
                           ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(b, result, b.getStringAttr(name),
                                       operands)
      .getResult(0);
}

/// Every \p stride th lane of \p vector from \p begin on, \p count of them.
static Value lanesOf(KernelBuilder &b, Value vector, int64_t begin,
                     int64_t count, int64_t stride = 1) {
  SmallVector<int64_t> lanes;
  for (int64_t i = 0; i < count; ++i)
    lanes.push_back(begin + i * stride);
  return vector::ShuffleOp::create(b, vector, vector, lanes);
}

/// All lanes of \p parts, two or four vectors of the same length, in order.
static Value join(KernelBuilder &b, ValueRange parts) {
  Values left(parts);
  while (left.size() > 1) {
    Values joined;
    for (size_t i = 0; i < left.size(); i += 2) {
      SmallVector<int64_t> lanes(
          2 * cast<VectorType>(left[i].getType()).getDimSize(0));
      std::iota(lanes.begin(), lanes.end(), 0);
      joined.push_back(
          vector::ShuffleOp::create(b, left[i], left[i + 1], lanes));
    }
    left = joined;
  }
  return left.front();
}

int64_t hadal::weightOffset(DotProductKind kind) {
  bool isVNNI =
      kind == DotProductKind::AVX512VNNI || kind == DotProductKind::AMXInt8;
  return isVNNI ? 128 : 0;
}

static Value addAVX512VNNI(KernelBuilder &b, bool isSigned, Value sums,
                           Value weights, Value inputs) {
  if (isSigned) {
    // Flipping the highest bit adds 128.
    auto type = cast<VectorType>(weights.getType());
    weights = arith::XOrIOp::create(
        b, weights,
        arith::ConstantOp::create(
            b, DenseElementsAttr::get(type, b.getI8IntegerAttr(int8_t(0x80)))));
  }
  return callIntrinsic(b, "llvm.x86.avx512.vpdpbusd.512", sums.getType(),
                       {sums, weights, inputs});
}

static Value addAVX2(KernelBuilder &b, bool isSigned, Value sums, Value weights,
                     Value inputs) {
  // Two products of a byte by a signed byte are added in 16 bits: that of 6-bit
  // weights is at most 2 * 63 * 127, that of magnitudes 2 * 127 * 127.
  auto bytes = VectorType::get({32}, b.getI8Type());
  auto words = VectorType::get({16}, b.getI16Type());
  auto doubleWords = VectorType::get({8}, b.getI32Type());
  Value ones = arith::ConstantOp::create(
      b, DenseElementsAttr::get(words, b.getI16IntegerAttr(1)));
  Values halves;
  for (int64_t begin : {0, 32}) {
    Value w = lanesOf(b, weights, begin, 32), x = lanesOf(b, inputs, begin, 32);
    if (isSigned) {
      // The signs of the weights move to the inputs.
      x = callIntrinsic(b, "llvm.x86.avx2.psign.b", bytes, {x, w});
      w = math::AbsIOp::create(b, w);
    }
    Value pairs = callIntrinsic(b, "llvm.x86.avx2.pmadd.ub.sw", words, {w, x});
    halves.push_back(
        callIntrinsic(b, "llvm.x86.avx2.pmadd.wd", doubleWords, {pairs, ones}));
  }
  return b.add(sums, join(b, halves));
}

static Value addNeon(KernelBuilder &b, Value sums, Value weights,
                     Value inputs) {
  auto quarter = VectorType::get({4}, b.getI32Type());
  Values quarters;
  for (int64_t i = 0; i < 4; ++i)
    quarters.push_back(callIntrinsic(
        b, "llvm.aarch64.neon.sdot.v4i32.v16i8", quarter,
        {lanesOf(b, sums, 4 * i, 4), lanesOf(b, weights, 16 * i, 16),
         lanesOf(b, inputs, 16 * i, 16)}));
  return join(b, quarters);
}

static Value addGeneric(KernelBuilder &b, Value sums, Value weights,
                        Value inputs) {
  for (int64_t i = 0; i < 4; ++i) {
    Value w = arith::ExtSIOp::create(b, sums.getType(),
                                     lanesOf(b, weights, i, 16, 4));
    Value x =
        arith::ExtSIOp::create(b, sums.getType(), lanesOf(b, inputs, i, 16, 4));
    sums = b.add(sums, b.mul(w, x));
  }
  return sums;
}

Value hadal::addDotProducts(KernelBuilder &b, DotProductKind kind,
                            bool isSigned, Value sums, Value weights,
                            Value inputs) {
  switch (kind) {
  case DotProductKind::AVX512VNNI:
  case DotProductKind::AMXInt8:
    return addAVX512VNNI(b, isSigned, sums, weights, inputs);
  case DotProductKind::AVX2:
    return addAVX2(b, isSigned, sums, weights, inputs);
  case DotProductKind::Neon:
  case DotProductKind::NeonI8MM:
    return addNeon(b, sums, weights, inputs);
  case DotProductKind::Generic:
  case DotProductKind::GenericI8MM:
  case DotProductKind::CUDA:
    return addGeneric(b, sums, weights, inputs);
  }
  llvm_unreachable("every kind is above");
}

Value hadal::scaleByExponents(KernelBuilder &b, Value numbers,
                              Value exponents) {
  auto constant = [&](IntegerAttr value) -> Value {
    return LLVM::ConstantOp::create(b, value);
  };
  // Of all lanes, in the current direction of rounding; it is exact but for
  // subnormal results, and rounds those as a product does.
  return callIntrinsic(
      b, "llvm.x86.avx512.mask.scalef.ps.512", numbers.getType(),
      {numbers, exponents, numbers, constant(b.getI16IntegerAttr(-1)),
       constant(b.getI32IntegerAttr(4))});
}

bool hadal::multipliesPairs(DotProductKind kind) {
  return kind == DotProductKind::NeonI8MM ||
         kind == DotProductKind::GenericI8MM;
}

/// Lanes of two vectors of 16, given as numbers of 0 to 31.
static Value gather(KernelBuilder &b, Value first, Value second,
                    function_ref<int64_t(int64_t lane)> from) {
  SmallVector<int64_t> lanes;
  for (int64_t lane = 0; lane < 16; ++lane)
    lanes.push_back(from(lane));
  return vector::ShuffleOp::create(b, first, second, lanes);
}

Values hadal::packPair(KernelBuilder &b, Value first, Value second) {
  Values packed;
  for (int64_t half : {0, 8})
    packed.push_back(gather(b, first, second, [&](int64_t lane) {
      int64_t output = half + lane / 4 * 2 + lane % 2;
      return lane % 4 < 2 ? output : 16 + output;
    }));
  return packed;
}

Values hadal::unpackPair(KernelBuilder &b, ValueRange sums) {
  Values rows;
  for (int64_t row : {0, 2})
    rows.push_back(gather(b, sums[0], sums[1], [&](int64_t output) {
      return output / 2 * 4 + row + output % 2;
    }));
  return rows;
}

/// \p sums of `packPair` + what \p intrinsic multiplies of \p inputs, two rows,
/// with two outputs at a time: of each a lane of \p weights and then one of
/// \p moreWeights, both `vector<16xi32>`. Its factors are of type \p factors.
static Values addMatrices(KernelBuilder &b, StringRef intrinsic,
                          VectorType factors, ValueRange sums, Value weights,
                          Value moreWeights, Value inputs) {
  auto quarter = VectorType::get(
      {4}, cast<VectorType>(sums.front().getType()).getElementType());
  Value rows = vector::BitCastOp::create(b, factors, inputs);
  Values next;
  for (int64_t half : {0, 1}) {
    Values quarters;
    for (int64_t i = 0; i < 4; ++i) {
      int64_t output = 8 * half + 2 * i;
      Value outputs = vector::ShuffleOp::create(
          b, weights, moreWeights,
          ArrayRef<int64_t>{output, 16 + output, output + 1, 17 + output});
      quarters.push_back(
          callIntrinsic(b, intrinsic, quarter,
                        {lanesOf(b, sums[half], 4 * i, 4), rows,
                         vector::BitCastOp::create(b, factors, outputs)}));
    }
    next.push_back(join(b, quarters));
  }
  return next;
}

Values hadal::addPairProducts(KernelBuilder &b, ValueRange sums, Value weights,
                              Value moreWeights, Value inputs) {
  auto words = VectorType::get({16}, b.getI32Type());
  // Eight columns of one output, then of the next.
  return addMatrices(b, "llvm.aarch64.neon.smmla.v4i32.v16i8",
                     VectorType::get({16}, b.getI8Type()), sums,
                     vector::BitCastOp::create(b, words, weights),
                     vector::BitCastOp::create(b, words, moreWeights), inputs);
}

Value hadal::addBF16Dots(KernelBuilder &b, Value sums, Value weights,
                         Value input) {
  auto quarter = VectorType::get({4}, b.getF32Type());
  auto halves = VectorType::get({8}, b.getBF16Type());
  auto pairsOf = [&](Value vector, int64_t i) -> Value {
    return vector::BitCastOp::create(b, halves, lanesOf(b, vector, 4 * i, 4));
  };
  Value pair = pairsOf(input, 0);
  Values quarters;
  for (int64_t i = 0; i < 4; ++i)
    quarters.push_back(
        callIntrinsic(b, "llvm.aarch64.neon.bfdot.v4f32.v8bf16", quarter,
                      {lanesOf(b, sums, 4 * i, 4), pairsOf(weights, i), pair}));
  return join(b, quarters);
}

Values hadal::addBF16PairProducts(KernelBuilder &b, ValueRange sums,
                                  Value weights, Value moreWeights,
                                  Value inputs) {
  return addMatrices(b, "llvm.aarch64.neon.bfmmla",
                     VectorType::get({8}, b.getBF16Type()), sums, weights,
                     moreWeights, inputs);
}

static Value byteVector(KernelBuilder &b, int32_t value) {
  auto type = VectorType::get({64}, b.getI8Type());
  return arith::ConstantOp::create(
      b, DenseElementsAttr::get(type, b.getI8IntegerAttr(int8_t(value))));
}

Value hadal::moveBits(KernelBuilder &b, Value bytes, int64_t bits, int64_t from,
                      int64_t to) {
  Type byteType = bytes.getType();
  auto words = VectorType::get({64 / 2}, b.getI16Type());
  auto by = [&](int64_t distance) -> Value {
    return arith::ConstantOp::create(
        b,
        DenseElementsAttr::get(words, b.getI16IntegerAttr(int16_t(distance))));
  };
  // Bits that a shift of 16-bit lanes brings in from the neighbor are masked
  // away.
  if (from != to) {
    Value shifted = vector::BitCastOp::create(b, words, bytes);
    if (from > to)
      shifted = arith::ShRUIOp::create(b, shifted, by(from - to));
    else
      shifted = arith::ShLIOp::create(b, shifted, by(to - from));
    bytes = vector::BitCastOp::create(b, byteType, shifted);
  }
  return arith::AndIOp::create(b, bytes,
                               byteVector(b, ((1 << bits) - 1) << to));
}

/// Chooses by each bit of the codes, the lowest first, between the two of each
/// pair of numbers that are left.
static Value lookUpByBits(KernelBuilder &b, ArrayRef<int64_t> table,
                          Value codes) {
  Values left;
  for (int64_t number : table)
    left.push_back(byteVector(b, int32_t(number)));
  for (int64_t bit = 0; left.size() > 1; ++bit) {
    // All ones where the bit is set.
    Value mask = b.sub(byteVector(b, 0), moveBits(b, codes, 1, bit, 0));
    Values chosen;
    for (size_t i = 0; i < left.size(); i += 2) {
      Value change = arith::AndIOp::create(
          b, arith::XOrIOp::create(b, left[i], left[i + 1]), mask);
      chosen.push_back(arith::XOrIOp::create(b, left[i], change));
    }
    left = chosen;
  }
  return left.front();
}

Value hadal::lookUp(KernelBuilder &b, DotProductKind kind,
                    ArrayRef<int64_t> table, Value codes) {
  // The table as often as a vector of \p bytes has room for it.
  auto tableOf = [&](int64_t bytes) -> Value {
    SmallVector<int8_t> numbers;
    for (int64_t i = 0; i < bytes; ++i)
      numbers.push_back(
          int8_t(table[size_t(i) % table.size()] + weightOffset(kind)));
    auto type = VectorType::get({bytes}, b.getI8Type());
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(type, ArrayRef(numbers)));
  };
  switch (kind) {
  case DotProductKind::AVX512VNNI:
  case DotProductKind::AMXInt8:
    return callIntrinsic(b, "llvm.x86.avx512.pshuf.b.512", codes.getType(),
                         {tableOf(64), codes});
  case DotProductKind::AVX2: {
    Value numbers = tableOf(32);
    Values halves;
    for (int64_t begin : {0, 32})
      halves.push_back(callIntrinsic(b, "llvm.x86.avx2.pshuf.b",
                                     numbers.getType(),
                                     {numbers, lanesOf(b, codes, begin, 32)}));
    return join(b, halves);
  }
  case DotProductKind::Neon:
  case DotProductKind::NeonI8MM: {
    Value numbers = tableOf(16);
    Values quarters;
    for (int64_t begin : {0, 16, 32, 48})
      quarters.push_back(
          callIntrinsic(b, "llvm.aarch64.neon.tbl1.v16i8", numbers.getType(),
                        {numbers, lanesOf(b, codes, begin, 16)}));
    return join(b, quarters);
  }
  case DotProductKind::Generic:
  case DotProductKind::GenericI8MM:
  case DotProductKind::CUDA:
    return lookUpByBits(b, table, codes);
  }
  llvm_unreachable("every kind is above");
}
