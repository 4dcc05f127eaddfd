// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Short names for the ops that kernels are made of.

#include "codegen/Conversion/DeepSeekToRT/KernelBuilder.h"

#include "codegen/SourceNames.h"
#include "dialects/RT/IR/RTOps.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include "mlir/IR/TypeUtilities.h"
#include <numeric>

using namespace mlir;
using namespace hadal;

int64_t KernelBuilder::lanesFor(int64_t size) {
  int64_t lanes = maxLanes;
  while (size % lanes != 0)
    lanes /= 2;
  return lanes;
}

void KernelBuilder::setTile(StringRef name, int64_t size) {
  auto kernel =
      getInsertionBlock()->getParent()->getParentOfType<rt::KernelOp>();
  NamedAttrList sizes(kernel.getTileAttr());
  sizes.set(name, getI64IntegerAttr(size));
  kernel.setTileAttr(sizes.getDictionary(getContext()));
}

VectorType KernelBuilder::vectorType(int64_t lanes) {
  return VectorType::get({lanes}, getF32Type());
}

Value KernelBuilder::called(StringRef name, Value value) {
  setSourceName(value, name);
  return value;
}

void KernelBuilder::call(ValueRange values, ArrayRef<StringRef> names) {
  for (auto [value, name] : llvm::zip(values, names))
    setSourceName(value, name);
}

//===----------------------------------------------------------------------===//
// Integers and indices
//===----------------------------------------------------------------------===//

Value KernelBuilder::index(int64_t value) {
  return arith::ConstantIndexOp::create(*this, value);
}

Value KernelBuilder::i32(int32_t value) {
  return arith::ConstantIntOp::create(*this, getI32Type(), value);
}

Value KernelBuilder::add(Value a, Value b) {
  return arith::AddIOp::create(*this, a, b);
}

Value KernelBuilder::sub(Value a, Value b) {
  return arith::SubIOp::create(*this, a, b);
}

Value KernelBuilder::mul(Value a, Value b) {
  return arith::MulIOp::create(*this, a, b);
}

Value KernelBuilder::div(Value a, Value b) {
  return arith::DivUIOp::create(*this, a, b);
}

Value KernelBuilder::ceilDiv(Value a, Value b) {
  return div(add(a, sub(b, index(1))), b);
}

Value KernelBuilder::rem(Value a, Value b) {
  return arith::RemUIOp::create(*this, a, b);
}

Value KernelBuilder::min(Value a, Value b) {
  return arith::MinUIOp::create(*this, a, b);
}

Value KernelBuilder::less(Value a, Value b) {
  return arith::CmpIOp::create(*this, arith::CmpIPredicate::slt, a, b);
}

Value KernelBuilder::equal(Value a, Value b) {
  return arith::CmpIOp::create(*this, arith::CmpIPredicate::eq, a, b);
}

Value KernelBuilder::laneNumbers(int64_t lanes) {
  SmallVector<int32_t> numbers(lanes);
  std::iota(numbers.begin(), numbers.end(), 0);
  auto type = VectorType::get({lanes}, getI32Type());
  return arith::ConstantOp::create(
      *this, DenseElementsAttr::get(type, ArrayRef(numbers)));
}

Value KernelBuilder::toIndex(Value i) {
  return arith::IndexCastUIOp::create(*this, getIndexType(), i);
}

Value KernelBuilder::toI32(Value i) {
  return arith::IndexCastUIOp::create(*this, getI32Type(), i);
}

//===----------------------------------------------------------------------===//
// Floating point, scalar or vector
//===----------------------------------------------------------------------===//

Value KernelBuilder::f32(double value, Type like) {
  FloatAttr attr = getF32FloatAttr(float(value));
  if (auto vector = dyn_cast_or_null<VectorType>(like))
    return arith::ConstantOp::create(*this,
                                     DenseElementsAttr::get(vector, attr));
  return arith::ConstantOp::create(*this, attr);
}

Value KernelBuilder::addf(Value a, Value b) {
  return arith::AddFOp::create(*this, a, b);
}

Value KernelBuilder::subf(Value a, Value b) {
  return arith::SubFOp::create(*this, a, b);
}

Value KernelBuilder::mulf(Value a, Value b) {
  return arith::MulFOp::create(*this, a, b);
}

Value KernelBuilder::divf(Value a, Value b) {
  return arith::DivFOp::create(*this, a, b);
}

Value KernelBuilder::maxf(Value a, Value b) {
  return select(lessf(a, b), b, a);
}

Value KernelBuilder::fma(Value a, Value b, Value c) {
  return math::FmaOp::create(*this, a, b, c);
}

Value KernelBuilder::sqrt(Value a) { return math::SqrtOp::create(*this, a); }

Value KernelBuilder::lessf(Value a, Value b) {
  return arith::CmpFOp::create(*this, arith::CmpFPredicate::OLT, a, b);
}

Value KernelBuilder::select(Value condition, Value a, Value b) {
  return arith::SelectOp::create(*this, condition, a, b);
}

/// Range reduction by multiples of ln 2 in two parts and a polynomial of
/// degree 7 (Cephes `expf`, Moshier 1989).
Value KernelBuilder::exp(Value x) {
  Type type = x.getType();
  auto c = [&](double value) { return f32(value, type); };
  Value clamped = maxf(x, c(-87.3));
  clamped = select(lessf(c(88.3), clamped), c(88.3), clamped);
  Value n = math::FloorOp::create(*this,
                                  fma(clamped, c(1.44269504088896341), c(0.5)));
  Value r = fma(n, c(-0.693359375), clamped);
  r = fma(n, c(2.12194440e-4), r);
  Value p = c(1.9875691500e-4);
  for (double coefficient : {1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2,
                             1.6666665459e-1, 5.0000001201e-1})
    p = fma(p, r, c(coefficient));
  p = addf(fma(p, mulf(r, r), r), c(1));
  Type integer = getI32Type();
  if (auto vector = dyn_cast<VectorType>(type))
    integer = vector.clone(integer);
  auto constant = [&](int32_t value) -> Value {
    Attribute attr = getI32IntegerAttr(value);
    if (auto vector = dyn_cast<VectorType>(integer))
      attr = DenseElementsAttr::get(vector, attr);
    return arith::ConstantOp::create(*this, cast<TypedAttr>(attr));
  };
  Value exponent = arith::FPToSIOp::create(*this, integer, n);
  exponent = arith::AddIOp::create(*this, exponent, constant(127));
  exponent = arith::ShLIOp::create(*this, exponent, constant(23));
  Value power = arith::BitcastOp::create(*this, type, exponent);
  Value result = mulf(p, power);
  return select(lessf(x, c(-87.3)), c(0), result);
}

Value KernelBuilder::sigmoid(Value x) {
  Type type = x.getType();
  Value e = exp(subf(f32(0, type), x));
  return divf(f32(1, type), addf(f32(1, type), e));
}

/// max(x, 0) + ln(1 + y) with y = e^-|x|, and ln(1 + y) = 2 artanh(y / (2 + y))
/// by its series: the argument is at most 1/3.
Value KernelBuilder::softplus(Value x) {
  Type type = x.getType();
  Value zero = f32(0, type);
  Value y = exp(subf(zero, maxf(x, subf(zero, x))));
  Value s = divf(y, addf(y, f32(2, type)));
  Value t = mulf(s, s);
  Value series = f32(1.0 / 17, type);
  for (int64_t n = 15; n > 0; n -= 2)
    series = fma(series, t, f32(1.0 / double(n), type));
  return addf(maxf(x, zero), mulf(mulf(s, f32(2, type)), series));
}

Value KernelBuilder::gated(Value gate, Value up, std::optional<double> limit) {
  if (limit) {
    Value most = f32(*limit, gate.getType());
    Value least = f32(-*limit, gate.getType());
    gate = select(lessf(most, gate), most, gate);
    up = select(lessf(most, up), most, up);
    up = select(lessf(up, least), least, up);
  }
  return mulf(mulf(gate, sigmoid(gate)), up);
}

Value KernelBuilder::broadcast(Value scalar, int64_t lanes) {
  return vector::BroadcastOp::create(
      *this, VectorType::get({lanes}, scalar.getType()), scalar);
}

static Value reduceLanes(KernelBuilder &b, Value vector,
                         function_ref<Value(Value, Value)> combine) {
  int64_t lanes = cast<VectorType>(vector.getType()).getDimSize(0);
  while (lanes > 1) {
    lanes /= 2;
    SmallVector<int64_t> low, high;
    for (int64_t i = 0; i < lanes; ++i) {
      low.push_back(i);
      high.push_back(lanes + i);
    }
    Value a = vector::ShuffleOp::create(b, vector, vector, low);
    Value c = vector::ShuffleOp::create(b, vector, vector, high);
    vector = combine(a, c);
  }
  return vector::ExtractOp::create(b, vector, ArrayRef<int64_t>{0});
}

Value KernelBuilder::sumLanes(Value vector) {
  bool isInteger = getElementTypeOrSelf(vector).isInteger();
  return reduceLanes(*this, vector, [&](Value a, Value c) {
    return isInteger ? add(a, c) : addf(a, c);
  });
}

Value KernelBuilder::maxLane(Value vector) {
  return reduceLanes(*this, vector,
                     [&](Value a, Value c) { return maxf(a, c); });
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value KernelBuilder::load(Value memref, ValueRange indices) {
  return memref::LoadOp::create(*this, memref, indices);
}

Value KernelBuilder::loadVector(Value memref, ValueRange indices,
                                int64_t lanes) {
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  return vector::LoadOp::create(*this, VectorType::get({lanes}, element),
                                memref, indices);
}

void KernelBuilder::store(Value value, Value memref, ValueRange indices) {
  memref::StoreOp::create(*this, value, memref, indices);
}

void KernelBuilder::storeVector(Value vector, Value memref,
                                ValueRange indices) {
  vector::StoreOp::create(*this, vector, memref, indices);
}

Value KernelBuilder::stack(ArrayRef<int64_t> shape, Type element,
                           StringRef name) {
  auto op = memref::AllocaOp::create(*this, MemRefType::get(shape, element));
  op.setAlignment(64);
  op->setLoc(NameLoc::get(getStringAttr(name), getLoc()));
  return op;
}

//===----------------------------------------------------------------------===//
// Control
//===----------------------------------------------------------------------===//

KernelBuilder::Values KernelBuilder::loop(Value lower, Value upper,
                                          int64_t step, ValueRange carried,
                                          LoopBody body) {
  auto loop = scf::ForOp::create(*this, lower, upper, index(step), carried);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(loop.getBody());
  Values results = body(loop.getInductionVar(), loop.getRegionIterArgs());
  // A loop without carried values already has its terminator.
  if (!carried.empty())
    scf::YieldOp::create(*this, results);
  return Values(loop.getResults());
}

void KernelBuilder::loop(Value lower, Value upper, Value step,
                         function_ref<void(Value)> body) {
  auto loop = scf::ForOp::create(*this, lower, upper, step);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(loop.getBody());
  body(loop.getInductionVar());
}

void KernelBuilder::when(Value condition, function_ref<void()> body) {
  auto op = scf::IfOp::create(*this, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(op.thenBlock());
  body();
}
