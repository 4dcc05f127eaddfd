// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loops over tensors, of which every rule is made.

#include "lib/Import/ONNX/GraphLowering.h"

#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

/// Elements of one tensor.
constexpr int64_t maxElements = int64_t(1) << 40;

//===----------------------------------------------------------------------===//
// Scalars
//===----------------------------------------------------------------------===//

Value Scalars::real(double value, Type type) {
  return make<arith::ConstantOp>(builder.getFloatAttr(type, value));
}

Value Scalars::integer(int64_t value, Type type) {
  return make<arith::ConstantOp>(builder.getIntegerAttr(type, value));
}

Value Scalars::zero(Type type) {
  return make<arith::ConstantOp>(builder.getZeroAttr(type));
}

static bool isReal(Value x) { return isa<FloatType>(x.getType()); }

Value Scalars::add(Value x, Value y) {
  return isReal(x) ? make<arith::AddFOp>(x, y) : make<arith::AddIOp>(x, y);
}

Value Scalars::sub(Value x, Value y) {
  return isReal(x) ? make<arith::SubFOp>(x, y) : make<arith::SubIOp>(x, y);
}

Value Scalars::mul(Value x, Value y) {
  return isReal(x) ? make<arith::MulFOp>(x, y) : make<arith::MulIOp>(x, y);
}

Value Scalars::div(Value x, Value y) { return make<arith::DivFOp>(x, y); }

Value Scalars::max(Value x, Value y, bool isUnsigned) {
  if (isReal(x))
    return make<arith::MaximumFOp>(x, y);
  return isUnsigned ? make<arith::MaxUIOp>(x, y) : make<arith::MaxSIOp>(x, y);
}

Value Scalars::min(Value x, Value y, bool isUnsigned) {
  if (isReal(x))
    return make<arith::MinimumFOp>(x, y);
  return isUnsigned ? make<arith::MinUIOp>(x, y) : make<arith::MinSIOp>(x, y);
}

Value Scalars::compare(StringRef name, Value x, Value y, bool isUnsigned) {
  if (isReal(x)) {
    auto predicate = llvm::StringSwitch<arith::CmpFPredicate>(name)
                         .Case("eq", arith::CmpFPredicate::OEQ)
                         .Case("ne", arith::CmpFPredicate::UNE)
                         .Case("lt", arith::CmpFPredicate::OLT)
                         .Case("le", arith::CmpFPredicate::OLE)
                         .Case("gt", arith::CmpFPredicate::OGT)
                         .Default(arith::CmpFPredicate::OGE);
    return make<arith::CmpFOp>(predicate, x, y);
  }
  using P = arith::CmpIPredicate;
  auto predicate = llvm::StringSwitch<P>(name)
                       .Case("eq", P::eq)
                       .Case("ne", P::ne)
                       .Case("lt", isUnsigned ? P::ult : P::slt)
                       .Case("le", isUnsigned ? P::ule : P::sle)
                       .Case("gt", isUnsigned ? P::ugt : P::sgt)
                       .Default(isUnsigned ? P::uge : P::sge);
  return make<arith::CmpIOp>(predicate, x, y);
}

Value Scalars::select(Value condition, Value x, Value y) {
  return make<arith::SelectOp>(condition, x, y);
}

Value Scalars::both(Value x, Value y) { return make<arith::AndIOp>(x, y); }

Value Scalars::either(Value x, Value y) { return make<arith::OrIOp>(x, y); }

Value Scalars::sigmoid(Value x) {
  Value one = real(1, x.getType());
  Value power = make<math::ExpOp>(Value(make<arith::NegFOp>(x)));
  return div(one, add(one, power));
}

Value Scalars::cast(Value x, Type from, Type to) {
  bool fromUnsigned = from.isUnsignedInteger() || from.isInteger(1);
  unsigned width = from.getIntOrFloatBitWidth();
  unsigned toWidth = to.getIntOrFloatBitWidth();
  if (to.isInteger(1))
    return from.isInteger(1) ? x : compare("ne", x, zero(x.getType()));
  if (isa<FloatType>(from) && isa<FloatType>(to)) {
    if (from == to)
      return x;
    // Between two of 16 bits there is no way but through a wider one.
    if (width == toWidth)
      return cast(cast(x, from, builder.getF32Type()), builder.getF32Type(),
                  to);
    return width < toWidth ? make<arith::ExtFOp>(to, x)
                           : make<arith::TruncFOp>(to, x);
  }
  Type signless = to.isInteger() ? builder.getIntegerType(toWidth) : to;
  if (isa<FloatType>(from)) {
    bool isUnsigned = to.isUnsignedInteger();
    if (width < 32) {
      x = cast(x, from, builder.getF32Type());
      from = builder.getF32Type();
    }
    // The ends of the range, rounded towards zero.
    auto bound = [&](APInt limit) {
      APFloat value(cast_or_null<FloatType>(from).getFloatSemantics());
      value.convertFromAPInt(limit, !isUnsigned, APFloat::rmTowardZero);
      return Value(make<arith::ConstantOp>(
          builder.getFloatAttr(cast_or_null<FloatType>(from), value)));
    };
    Value low = bound(isUnsigned ? APInt::getMinValue(toWidth)
                                 : APInt::getSignedMinValue(toWidth));
    Value high = bound(isUnsigned ? APInt::getMaxValue(toWidth)
                                  : APInt::getSignedMaxValue(toWidth));
    Value isNumber = make<arith::CmpFOp>(arith::CmpFPredicate::ORD, x, x);
    x = select(isNumber, x, zero(from));
    x = min(max(x, low), high);
    return isUnsigned ? make<arith::FPToUIOp>(signless, x)
                      : make<arith::FPToSIOp>(signless, x);
  }
  if (isa<FloatType>(to)) {
    Type middle = toWidth < 32 ? builder.getF32Type() : to;
    Value y = fromUnsigned ? make<arith::UIToFPOp>(middle, x)
                           : make<arith::SIToFPOp>(middle, x);
    return cast(y, middle, to);
  }
  if (width == toWidth)
    return x;
  if (width > toWidth)
    return make<arith::TruncIOp>(signless, x);
  return fromUnsigned ? make<arith::ExtUIOp>(signless, x)
                      : make<arith::ExtSIOp>(signless, x);
}

Value Scalars::toIndex(Value x) {
  if (x.getType().isIndex())
    return x;
  return make<arith::IndexCastOp>(builder.getIndexType(), x);
}

//===----------------------------------------------------------------------===//
// Attributes and operands
//===----------------------------------------------------------------------===//

void GraphLowering::define(Value value, Lowered lowered) {
  values[value] = lowered;
  // Where the evaluator knows no numbers, it may know no shape, either.
  const Array *array = evaluator.get(value);
  if (!array || ArrayRef<int64_t>(array->shape) != lowered.getShape())
    evaluator.setShape(value, lowered.getShape());
}

Lowered GraphLowering::input(unsigned i) const {
  Value operand = getOperand(node, i);
  return operand ? values.lookup(operand) : Lowered();
}

LogicalResult GraphLowering::set(unsigned i, Lowered result) {
  if (i < node.getOutputs().size())
    define(node.getOutputs()[i], result);
  return success();
}

StringRef GraphLowering::getString(StringRef name, StringRef fallback) {
  auto value = dyn_cast_or_null<StringAttr>(getParameter(name));
  return value ? value.getValue() : fallback;
}

std::optional<SmallVector<int64_t>> GraphLowering::integers(unsigned i) {
  Value operand = getOperand(node, i);
  return operand ? evaluator.getIntegers(operand) : std::nullopt;
}

FailureOr<std::optional<SmallVector<int64_t>>>
GraphLowering::integersOf(StringRef name, unsigned i) {
  std::optional<SmallVector<int64_t>> given = getInts(name);
  if (given || !has(i))
    return given;
  given = integers(i);
  if (!given)
    return fail("operand " + Twine(i) + ", '" + name +
                "', has to be known when the graph is compiled");
  return given;
}

FailureOr<int64_t> GraphLowering::axisOf(int64_t axis, int64_t rank,
                                         bool allowEnd) {
  int64_t result = axis < 0 ? axis + rank : axis;
  if (result < 0 || result >= rank + allowEnd)
    return fail("axis " + Twine(axis) + " is not one of " + Twine(rank) +
                " dimensions");
  return result;
}

LogicalResult GraphLowering::normalizeAxes(MutableArrayRef<int64_t> axes,
                                           int64_t rank) {
  for (auto [i, axis] : llvm::enumerate(axes)) {
    FailureOr<int64_t> normal = axisOf(axis, rank);
    if (failed(normal))
      return failure();
    axis = *normal;
    if (llvm::is_contained(axes.take_front(i), axis))
      return fail("axis " + Twine(axis) + " is given twice");
  }
  return success();
}

LogicalResult GraphLowering::checkShape(ArrayRef<int64_t> shape) {
  std::optional<int64_t> count;
  if (llvm::none_of(shape, [](int64_t size) { return size < 0; }))
    count = checkedProduct(shape);
  if (count && *count <= maxElements)
    return success();
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::interleave(shape, os, "x");
  return fail("a tensor of shape " + text + " is not possible");
}

FailureOr<SmallVector<int64_t>>
GraphLowering::broadcast(ArrayRef<Lowered> operands) {
  SmallVector<int64_t> shape;
  for (const Lowered &operand : operands)
    shape.resize(std::max(shape.size(), operand.getShape().size()), 1);
  for (const Lowered &operand : operands) {
    size_t skipped = shape.size() - operand.getShape().size();
    for (auto [i, size] : llvm::enumerate(operand.getShape())) {
      int64_t &all = shape[skipped + i];
      if (all != size && all != 1 && size != 1)
        return fail("dimensions of " + Twine(all) + " and " + Twine(size) +
                    " cannot be broadcast");
      all = all == 1 ? size : all;
    }
  }
  if (failed(checkShape(shape)))
    return failure();
  return shape;
}

//===----------------------------------------------------------------------===//
// Loops
//===----------------------------------------------------------------------===//

Type GraphLowering::storage(Type element) const {
  if (auto integer = dyn_cast<IntegerType>(element))
    return builder.getIntegerType(integer.getWidth());
  return element;
}

Type GraphLowering::computeType(Type element) const {
  return element.isF64() ? element : Type(builder.getF32Type());
}

Value GraphLowering::empty(ArrayRef<int64_t> shape, Type element) {
  return tensor::EmptyOp::create(builder, loc, shape, storage(element));
}

Value GraphLowering::filled(ArrayRef<int64_t> shape, Type element,
                            Value scalar) {
  return linalg::FillOp::create(builder, loc, scalar, empty(shape, element))
      .getResult(0);
}

Value GraphLowering::generic(ArrayRef<Value> inputs, ArrayRef<AffineMap> maps,
                             ArrayRef<utils::IteratorType> iterators,
                             Value init, ScalarBody body) {
  return linalg::GenericOp::create(
             builder, loc, init.getType(), inputs, init, maps, iterators,
             [&](OpBuilder &nested, Location at, ValueRange arguments) {
               Scalars s(nested, at);
               linalg::YieldOp::create(nested, at, body(s, arguments));
             })
      .getResult(0);
}

/// Reads one of \p from as if it were broadcast to \p rank dimensions.
static AffineMap broadcastMap(ArrayRef<int64_t> from, ArrayRef<int64_t> to,
                              MLIRContext *context) {
  SmallVector<AffineExpr> results;
  size_t skipped = to.size() - from.size();
  for (auto [i, size] : llvm::enumerate(from))
    results.push_back(size == 1 && to[skipped + i] != 1
                          ? getAffineConstantExpr(0, context)
                          : getAffineDimExpr(unsigned(skipped + i), context));
  return AffineMap::get(unsigned(to.size()), 0, results, context);
}

Lowered GraphLowering::map(ArrayRef<Lowered> operands, ArrayRef<int64_t> shape,
                           Type element, ScalarBody body) {
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  MLIRContext *context = builder.getContext();
  for (const Lowered &operand : operands) {
    inputs.push_back(operand.value);
    maps.push_back(broadcastMap(operand.getShape(), shape, context));
  }
  maps.push_back(
      AffineMap::getMultiDimIdentityMap(unsigned(shape.size()), context));
  SmallVector<utils::IteratorType> iterators(shape.size(),
                                             utils::IteratorType::parallel);
  Value result =
      generic(inputs, maps, iterators, empty(shape, element),
              [&](Scalars &s, ValueRange arguments) {
                SmallVector<Value> wide;
                for (Value argument : arguments.drop_back())
                  wide.push_back(isReal(argument)
                                     ? s.cast(argument, argument.getType(),
                                              computeType(argument.getType()))
                                     : argument);
                Value result = body(s, wide);
                return isReal(result)
                           ? s.cast(result, result.getType(), element)
                           : result;
              });
  return {result, element};
}

Lowered GraphLowering::generate(ArrayRef<int64_t> shape, Type element,
                                ScalarBody body) {
  AffineMap map = AffineMap::getMultiDimIdentityMap(unsigned(shape.size()),
                                                    builder.getContext());
  SmallVector<utils::IteratorType> iterators(shape.size(),
                                             utils::IteratorType::parallel);
  Value result = generic({}, map, iterators, empty(shape, element),
                         [&](Scalars &s, ValueRange) {
                           SmallVector<Value> indices;
                           for (int64_t i = 0; i < int64_t(shape.size()); ++i)
                             indices.push_back(s.make<linalg::IndexOp>(i));
                           return body(s, indices);
                         });
  return {result, element};
}

Lowered GraphLowering::view(Lowered source, ArrayRef<int64_t> shape,
                            AffineMap access) {
  AffineMap identity = AffineMap::getMultiDimIdentityMap(unsigned(shape.size()),
                                                         builder.getContext());
  SmallVector<utils::IteratorType> iterators(shape.size(),
                                             utils::IteratorType::parallel);
  // A loop whose dimension is empty reads nothing, which linalg does not see.
  if (llvm::is_contained(shape, 0))
    return {empty(shape, source.element), source.element};
  // A dimension that is read as it is has to be read to its end.
  SmallVector<int64_t> sizes(source.getShape());
  for (auto [size, place] : llvm::zip(sizes, access.getResults()))
    if (auto dim = dyn_cast<AffineDimExpr>(place))
      size = shape[dim.getPosition()];
  if (source.getShape() != ArrayRef<int64_t>(sizes))
    source = slice(source, SmallVector<int64_t>(sizes.size(), 0), sizes);
  Value result = generic(
      source.value, {access, identity}, iterators, empty(shape, source.element),
      [](Scalars &, ValueRange arguments) { return arguments[0]; });
  return {result, source.element};
}

Lowered GraphLowering::transpose(Lowered source, ArrayRef<int64_t> order) {
  SmallVector<int64_t> shape;
  SmallVector<AffineExpr> results(order.size());
  for (auto [i, from] : llvm::enumerate(order)) {
    shape.push_back(source.dim(from));
    results[size_t(from)] = builder.getAffineDimExpr(unsigned(i));
  }
  return view(
      source, shape,
      AffineMap::get(unsigned(order.size()), 0, results, builder.getContext()));
}

Lowered GraphLowering::reshape(Lowered source, ArrayRef<int64_t> shape) {
  if (source.getShape() == shape)
    return source;
  RankedTensorType type = source.getType();
  Value value = source.value;
  auto countOf = [](ArrayRef<int64_t> sizes) { return *checkedProduct(sizes); };
  if (countOf(shape) == 0)
    return {empty(shape, source.element), source.element};
  // Through one dimension; what need not be is folded away.
  auto whole = [](int64_t rank) {
    ReassociationIndices all;
    for (int64_t i = 0; i < rank; ++i)
      all.push_back(i);
    return rank ? SmallVector<ReassociationIndices>{all}
                : SmallVector<ReassociationIndices>{};
  };
  if (auto direct = getReassociationIndicesForReshape(
          type, RankedTensorType::get(shape, type.getElementType()))) {
    auto to = RankedTensorType::get(shape, type.getElementType());
    if (int64_t(shape.size()) < source.getRank())
      return {tensor::CollapseShapeOp::create(builder, loc, to, value, *direct),
              source.element};
    return {tensor::ExpandShapeOp::create(builder, loc, to, value, *direct),
            source.element};
  }
  auto flat = RankedTensorType::get({countOf(shape)}, type.getElementType());
  if (source.getRank() == 0)
    value = tensor::ExpandShapeOp::create(builder, loc, flat, value,
                                          ArrayRef<ReassociationIndices>());
  else if (source.getRank() > 1)
    value = tensor::CollapseShapeOp::create(builder, loc, flat, value,
                                            whole(source.getRank()));
  auto to = RankedTensorType::get(shape, type.getElementType());
  if (shape.empty())
    value = tensor::CollapseShapeOp::create(builder, loc, to, value,
                                            ArrayRef<ReassociationIndices>());
  else if (shape.size() > 1)
    value = tensor::ExpandShapeOp::create(builder, loc, to, value,
                                          whole(int64_t(shape.size())));
  return {value, source.element};
}

Lowered GraphLowering::expand(Lowered source, ArrayRef<int64_t> shape) {
  if (source.getShape() == shape)
    return source;
  return view(source, shape,
              broadcastMap(source.getShape(), shape, builder.getContext()));
}

static SmallVector<OpFoldResult> attributes(OpBuilder &builder,
                                            ArrayRef<int64_t> values) {
  return getAsIndexOpFoldResult(builder.getContext(), values);
}

bool onnx::isElement(Type type) {
  if (type.isF64() || type.isF32() || type.isF16() || type.isBF16())
    return true;
  auto integer = dyn_cast<IntegerType>(type);
  return integer && (integer.isSignless() || integer.isUnsigned()) &&
         llvm::is_contained({1u, 8u, 16u, 32u, 64u}, integer.getWidth());
}

Lowered GraphLowering::slice(Lowered source, ArrayRef<int64_t> offsets,
                             ArrayRef<int64_t> sizes) {
  if (llvm::is_contained(sizes, 0))
    return {empty(sizes, source.element), source.element};
  SmallVector<int64_t> ones(sizes.size(), 1);
  return {tensor::ExtractSliceOp::create(
              builder, loc, tensor(sizes, source.element), source.value,
              attributes(builder, offsets), attributes(builder, sizes),
              attributes(builder, ones)),
          source.element};
}

Lowered GraphLowering::insert(Lowered part, Lowered into,
                              ArrayRef<int64_t> offsets) {
  SmallVector<int64_t> ones(offsets.size(), 1);
  return {tensor::InsertSliceOp::create(builder, loc, part.value, into.value,
                                        attributes(builder, offsets),
                                        attributes(builder, part.getShape()),
                                        attributes(builder, ones)),
          into.element};
}

Lowered GraphLowering::join(ArrayRef<Lowered> parts, int64_t axis) {
  SmallVector<int64_t> shape(parts[0].getShape());
  for (const Lowered &part : parts.drop_front())
    shape[size_t(axis)] += part.dim(axis);
  Lowered result{empty(shape, parts[0].element), parts[0].element};
  SmallVector<int64_t> offsets(shape.size(), 0);
  for (const Lowered &part : parts) {
    if (part.getType().getNumElements())
      result = insert(part, result, offsets);
    offsets[size_t(axis)] += part.dim(axis);
  }
  return result;
}

Lowered GraphLowering::gather(Lowered source, Lowered indices, int64_t axis) {
  auto first = size_t(axis), rank = size_t(indices.getRank());
  SmallVector<int64_t> shape(source.getShape().take_front(first));
  llvm::append_range(shape, indices.getShape());
  llvm::append_range(shape, source.getShape().drop_front(first + 1));
  return generate(
      shape, source.element, [&](Scalars &s, ValueRange at) -> Value {
        SmallVector<Value> from(at.take_front(first));
        Value index = s.make<tensor::ExtractOp>(
            indices.value, ValueRange(at.slice(first, rank)));
        from.push_back(s.toIndex(index));
        llvm::append_range(from, at.drop_front(first + rank));
        return s.make<tensor::ExtractOp>(source.value, ValueRange(from));
      });
}

Lowered GraphLowering::convert(Lowered source, Type element) {
  if (source.element == element)
    return source;
  Type from = source.element;
  SmallVector<AffineMap> maps(
      2, AffineMap::getMultiDimIdentityMap(unsigned(source.getRank()),
                                           builder.getContext()));
  SmallVector<utils::IteratorType> iterators(size_t(source.getRank()),
                                             utils::IteratorType::parallel);
  Value result =
      generic(source.value, maps, iterators, empty(source.getShape(), element),
              [&](Scalars &s, ValueRange arguments) {
                return s.cast(arguments[0], from, element);
              });
  return {result, element};
}

Lowered GraphLowering::unpack(Lowered bytes, RankedTensorType type) {
  unsigned bits = type.getElementTypeBitWidth();
  bool isUnsigned = type.getElementType().isUnsignedInteger();
  Type byte = builder.getI8Type(), element = byte;
  if (isUnsigned)
    element = IntegerType::get(builder.getContext(), 8, IntegerType::Unsigned);
  int64_t count = bytes.dim(0);
  Lowered plain{bytes.value, byte};
  SmallVector<Lowered> parts;
  for (unsigned begin = 0; begin < 8; begin += bits) {
    Lowered part =
        map(plain, {count}, element, [&](Scalars &s, ValueRange v) -> Value {
          Value up = s.integer(8 - bits - begin, byte);
          Value down = s.integer(8 - bits, byte);
          Value x = s.make<arith::ShLIOp>(v[0], up);
          return isUnsigned ? s.make<arith::ShRUIOp>(x, down)
                            : s.make<arith::ShRSIOp>(x, down);
        });
    parts.push_back(reshape(part, {count, 1}));
  }
  Lowered all = reshape(join(parts, 1), {count * int64_t(parts.size())});
  return reshape(slice(all, {0}, {type.getNumElements()}), type.getShape());
}

Lowered GraphLowering::splat(double value, Type element,
                             ArrayRef<int64_t> shape) {
  Scalars s = scalars();
  Type type = storage(element);
  Value scalar = isa<FloatType>(type) ? s.real(value, type)
                                      : s.integer(int64_t(value), type);
  return {filled(shape, element, scalar), element};
}

Value GraphLowering::extract(Value tensor, ValueRange indices) {
  return tensor::ExtractOp::create(builder, loc, tensor, indices);
}

Lowered GraphLowering::reduceWith(Lowered source, ArrayRef<int64_t> axes,
                                  TypedAttr init, ScalarBody body) {
  MLIRContext *context = builder.getContext();
  SmallVector<int64_t> shape(source.getShape()), kept;
  SmallVector<AffineExpr> results;
  SmallVector<utils::IteratorType> iterators;
  for (int64_t i = 0; i < source.getRank(); ++i) {
    bool isReduced = llvm::is_contained(axes, i);
    iterators.push_back(isReduced ? utils::IteratorType::reduction
                                  : utils::IteratorType::parallel);
    if (isReduced) {
      shape[size_t(i)] = 1;
    } else {
      kept.push_back(source.dim(i));
      results.push_back(getAffineDimExpr(unsigned(i), context));
    }
  }
  auto rank = unsigned(source.getRank());
  Type type = init.getType(), from = source.element;
  Value first = arith::ConstantOp::create(builder, loc, init);
  Value result = generic(source.value,
                         {AffineMap::getMultiDimIdentityMap(rank, context),
                          AffineMap::get(rank, 0, results, context)},
                         iterators, filled(kept, type, first),
                         [&](Scalars &s, ValueRange arguments) {
                           Value x = arguments[0];
                           if (isReal(x))
                             x = s.cast(x, from, type);
                           return body(s, {arguments[1], x});
                         });
  return reshape({result, isa<FloatType>(type) ? type : from}, shape);
}

Lowered GraphLowering::reduce(Lowered source, ArrayRef<int64_t> axes,
                              double init, ScalarBody body) {
  Type type =
      source.isFloat() ? computeType(source.element) : storage(source.element);
  TypedAttr first = isa<FloatType>(type)
                        ? TypedAttr(builder.getFloatAttr(type, init))
                        : builder.getIntegerAttr(type, int64_t(init));
  return reduceWith(source, axes, first, body);
}

Lowered GraphLowering::mean(Lowered source, ArrayRef<int64_t> axes) {
  Lowered sum = reduce(source, axes, 0, [](Scalars &s, ValueRange x) -> Value {
    return s.add(x[0], x[1]);
  });
  double count = 1;
  for (int64_t axis : axes)
    count *= double(source.dim(axis));
  return map(sum, sum.getShape(), sum.element,
             [&](Scalars &s, ValueRange x) -> Value {
               return s.div(x[0], s.real(count, x[0].getType()));
             });
}

Lowered GraphLowering::softmax(Lowered x, int64_t axis, bool isLog) {
  Type type = computeType(x.element);
  SmallVector<int64_t> shape(x.getShape());
  double lowest = -std::numeric_limits<double>::infinity();
  Lowered highest =
      reduce(x, axis, lowest, [](Scalars &s, ValueRange v) -> Value {
        return s.max(v[0], v[1]);
      });
  Lowered shifted =
      map({x, highest}, shape, type,
          [](Scalars &s, ValueRange v) -> Value { return s.sub(v[0], v[1]); });
  Lowered powers =
      map(shifted, shape, type, [](Scalars &s, ValueRange v) -> Value {
        return s.make<math::ExpOp>(v[0]);
      });
  Lowered sum = reduce(powers, axis, 0, [](Scalars &s, ValueRange v) -> Value {
    return s.add(v[0], v[1]);
  });
  return map({isLog ? shifted : powers, sum}, shape, x.element,
             [&](Scalars &s, ValueRange v) -> Value {
               if (isLog)
                 return s.sub(v[0], s.make<math::LogOp>(v[1]));
               return s.div(v[0], v[1]);
             });
}

FailureOr<Lowered> GraphLowering::matmul(Lowered a, Lowered b, Type sum) {
  SmallVector<int64_t> aShape(a.getShape()), bShape(b.getShape());
  if (aShape.empty() || bShape.empty())
    return fail("a factor of a product is a single number");
  bool isRow = aShape.size() == 1, isColumn = bShape.size() == 1;
  if (isRow)
    aShape.insert(aShape.begin(), 1);
  if (isColumn)
    bShape.push_back(1);
  int64_t rows = aShape[aShape.size() - 2], inner = aShape.back();
  int64_t columns = bShape.back();
  if (inner != bShape[bShape.size() - 2])
    return fail("rows of " + Twine(inner) +
                " elements are multiplied with "
                "columns of " +
                Twine(bShape[bShape.size() - 2]));
  a = reshape(a, aShape);
  b = reshape(b, bShape);
  size_t batches = std::max(aShape.size(), bShape.size()) - 2;
  SmallVector<int64_t> shape(batches, 1);
  for (ArrayRef<int64_t> part : {ArrayRef(aShape), ArrayRef(bShape)})
    for (auto [i, size] : llvm::enumerate(part.drop_back(2))) {
      int64_t &all = shape[batches - (part.size() - 2) + i];
      if (all != size && all != 1 && size != 1)
        return fail("batches of " + Twine(all) + " and " + Twine(size) +
                    " products cannot be broadcast");
      all = all == 1 ? size : all;
    }
  // Loops: batches, row, inner, column, so that the last runs over neighbors.
  MLIRContext *context = builder.getContext();
  auto loops = unsigned(batches + 3);
  auto dim = [&](size_t i) { return getAffineDimExpr(unsigned(i), context); };
  auto mapOf = [&](ArrayRef<int64_t> part, AffineExpr row, AffineExpr column) {
    SmallVector<AffineExpr> results;
    size_t skipped = batches - (part.size() - 2);
    for (auto [i, size] : llvm::enumerate(part.drop_back(2)))
      results.push_back(size == 1 && shape[skipped + i] != 1
                            ? getAffineConstantExpr(0, context)
                            : dim(skipped + i));
    results.append({row, column});
    return AffineMap::get(loops, 0, results, context);
  };
  SmallVector<AffineMap> maps = {
      mapOf(aShape, dim(batches), dim(batches + 1)),
      mapOf(bShape, dim(batches + 1), dim(batches + 2))};
  shape.append({rows, columns});
  maps.push_back(mapOf(shape, dim(batches), dim(batches + 2)));
  SmallVector<utils::IteratorType> iterators(loops,
                                             utils::IteratorType::parallel);
  iterators[batches + 1] = utils::IteratorType::reduction;
  if (failed(checkShape(shape)))
    return failure();
  Scalars s = scalars();
  Type aElement = a.element, bElement = b.element;
  Value product =
      generic({a.value, b.value}, maps, iterators,
              filled(shape, sum, s.zero(storage(sum))),
              [&](Scalars &s, ValueRange x) -> Value {
                return s.add(x[2], s.mul(s.cast(x[0], aElement, sum),
                                         s.cast(x[1], bElement, sum)));
              });
  if (isColumn)
    shape.pop_back();
  if (isRow)
    shape.erase(shape.end() - (isColumn ? 1 : 2));
  return reshape({product, sum}, shape);
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

void GraphLowering::check(Lowered bad) {
  SmallVector<int64_t> axes;
  for (int64_t i = 0; i < bad.getRank(); ++i)
    axes.push_back(i);
  Lowered any = reduceWith(
      bad, axes, builder.getBoolAttr(false),
      [](Scalars &s, ValueRange x) -> Value { return s.either(x[0], x[1]); });
  any = reshape(any, {});
  failures.push_back(extract(any.value, {}));
}

Lowered GraphLowering::checkedIndices(Lowered indices, int64_t size) {
  Type type = builder.getI64Type();
  Lowered wide = convert(indices, type);
  Lowered within =
      map(wide, wide.getShape(), type, [&](Scalars &s, ValueRange x) -> Value {
        Value all = s.integer(size, type);
        Value isBack = s.compare("lt", x[0], s.zero(type));
        return s.select(isBack, s.add(x[0], all), x[0]);
      });
  check(map(within, within.getShape(), builder.getI1Type(),
            [&](Scalars &s, ValueRange x) -> Value {
              return s.compare("ge", x[0], s.integer(size, type),
                               /*isUnsigned=*/true);
            }));
  return map(within, within.getShape(), type,
             [&](Scalars &s, ValueRange x) -> Value {
               Value last = s.integer(std::max<int64_t>(size - 1, 0), type);
               return s.max(s.min(x[0], last), s.zero(type));
             });
}

Value GraphLowering::getFailure() {
  Scalars s = scalars();
  Value any = s.integer(0, builder.getI1Type());
  for (Value failure : failures)
    any = s.either(any, failure);
  return any;
}

//===----------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------===//

static LowerRule findRule(StringRef type) {
  for (auto find : {findElementwiseRule, findMovementRule, findReductionRule,
                    findProductRule, findAttentionRule, findWindowRule})
    if (LowerRule rule = find(type))
      return rule;
  return nullptr;
}

bool GraphLowering::isKnown(StringRef type) { return findRule(type); }

/// Whether attribute \p name of an operator \p type needs no rule.
static bool isWithoutEffect(StringRef type, StringRef name) {
  return llvm::StringSwitch<bool>((type + "." + name).str())
      // Of FP8, which is refused.
      .Cases({"Cast.saturate", "CastLike.saturate", "QuantizeLinear.saturate",
              "Cast.round_mode", "CastLike.round_mode"},
             true)
      // Of training.
      .Cases({"Dropout.seed", "Dropout.ratio", "BatchNormalization.momentum"},
             true)
      // The evaluator reads them for the shape of the result.
      .Cases({"Flatten.axis", "Reshape.allowzero", "Shape.start", "Shape.end",
              "Squeeze.axes", "Unsqueeze.axes"},
             true)
      // What is allowed is done: sorted, and at least in f32.
      .Cases({"TopK.sorted", "Attention.softmax_precision",
              "LayerNormalization.stash_type", "RMSNormalization.stash_type",
              "GroupNormalization.stash_type"},
             true)
      .Default(false);
}

LogicalResult GraphLowering::lower(NodeOp op) {
  node = op;
  loc = op.getLoc();
  evaluator.evaluateNode(op);
  message.clear();
  if (op.getOutputs().empty())
    return fail("has no output");
  for (auto [i, operand] : llvm::enumerate(op.getInputs()))
    if (!isa<NoneType>(operand.getType()) && !values.lookup(operand))
      return fail("operand " + Twine(i) +
                  " is an output that no rule computes");
  LowerRule rule = findRule(op.getOpType());
  if (!rule)
    return fail("the operator is not known");
  readParameters.clear();
  if (failed(rule(*this)))
    return failure();
  // What no rule reads would be silently left out.
  for (NamedAttribute parameter : op.getParameters())
    if (!readParameters.contains(parameter.getName()) &&
        !isWithoutEffect(op.getOpType(), parameter.getName()))
      return fail("has the attribute '" + parameter.getName().getValue() +
                  "', which is not known");
  return success();
}
