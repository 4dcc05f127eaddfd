// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that look at rows: sums, norms, orders. Definitions are those of
// https://onnx.ai/onnx/operators.

#include "lib/Import/ONNX/GraphLowering.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

#include <limits>

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

static Value addBoth(Scalars &s, ValueRange x) { return s.add(x[0], x[1]); }

/// Drops dimensions of 1 along \p axes.
static Lowered dropAxes(GraphLowering &g, Lowered x, ArrayRef<int64_t> axes) {
  SmallVector<int64_t> shape;
  for (int64_t i = 0; i < x.getRank(); ++i)
    if (!llvm::is_contained(axes, i))
      shape.push_back(x.dim(i));
  return g.reshape(x, shape);
}

//===----------------------------------------------------------------------===//
// Reductions
//===----------------------------------------------------------------------===//

/// What a maximum or a minimum of nothing is: the lowest or highest number.
static TypedAttr getLimit(Builder &builder, Lowered x, Type type, bool isMax) {
  if (isa<FloatType>(type)) {
    double infinity = std::numeric_limits<double>::infinity();
    return builder.getFloatAttr(type, isMax ? -infinity : infinity);
  }
  unsigned width = type.getIntOrFloatBitWidth();
  APInt limit = x.isUnsigned() ? (isMax ? APInt::getMinValue(width)
                                        : APInt::getMaxValue(width))
                               : (isMax ? APInt::getSignedMinValue(width)
                                        : APInt::getSignedMaxValue(width));
  return builder.getIntegerAttr(type, limit);
}

static LogicalResult lowerReduce(GraphLowering &g) {
  StringRef type = g.node.getOpType();
  Lowered x = g.input(0);
  if (!x)
    return g.fail("expects an operand");
  auto given = g.integersOf("axes", 1);
  if (failed(given))
    return failure();
  SmallVector<int64_t> axes = given->value_or(SmallVector<int64_t>());
  // Read in any case: exporters give it beside axes, too.
  bool keepsAll = g.getInt("noop_with_empty_axes", 0);
  bool isWhole = axes.empty();
  if (isWhole && !keepsAll)
    for (int64_t i = 0; i < x.getRank(); ++i)
      axes.push_back(i);
  if (failed(g.normalizeAxes(axes, x.getRank())))
    return failure();
  bool isMax = type == "ReduceMax", isMin = type == "ReduceMin";
  bool isInteger = !x.isFloat();
  if (isInteger && !isMax && !isMin && type != "ReduceSum" &&
      type != "ReduceProd" && type != "ReduceSumSquare" && type != "ReduceL1" &&
      type != "ReduceMean")
    return g.fail("does not take such elements");
  Type element = x.element;
  Type wide = isInteger ? g.storage(element) : g.computeType(element);
  auto shift = [&](Lowered by) {
    return g.map({x, by}, x.getShape(), wide,
                 [](Scalars &s, ValueRange v) { return s.sub(v[0], v[1]); });
  };
  auto square = [](Scalars &s, ValueRange v) {
    return s.add(v[0], s.mul(v[1], v[1]));
  };
  Lowered result, highest;
  if (isMax || isMin) {
    bool isUnsigned = x.isUnsigned();
    result = g.reduceWith(x, axes, getLimit(g.builder, x, wide, isMax),
                          [&](Scalars &s, ValueRange v) {
                            return isMax ? s.max(v[0], v[1], isUnsigned)
                                         : s.min(v[0], v[1], isUnsigned);
                          });
  } else if (type == "ReduceProd") {
    result = g.reduce(
        x, axes, 1, [](Scalars &s, ValueRange v) { return s.mul(v[0], v[1]); });
  } else if (type == "ReduceL1") {
    result = g.reduce(x, axes, 0, [&](Scalars &s, ValueRange v) -> Value {
      if (x.isUnsigned())
        return s.add(v[0], v[1]);
      Value size = isInteger ? Value(s.make<math::AbsIOp>(v[1]))
                             : Value(s.make<math::AbsFOp>(v[1]));
      return s.add(v[0], size);
    });
  } else if (type == "ReduceSumSquare" || type == "ReduceL2") {
    result = g.reduce(x, axes, 0, square);
  } else if (type == "ReduceLogSumExp") {
    // Of numbers less the highest, which cannot overflow; where that is
    // infinite, it is the result.
    highest = g.reduceWith(
        x, axes, getLimit(g.builder, x, wide, true),
        [](Scalars &s, ValueRange v) { return s.max(v[0], v[1]); });
    double infinity = std::numeric_limits<double>::infinity();
    highest =
        g.map(highest, highest.getShape(), wide,
              [&](Scalars &s, ValueRange v) -> Value {
                Value size = s.make<math::AbsFOp>(v[0]);
                return s.select(s.compare("eq", size, s.real(infinity, wide)),
                                s.zero(wide), v[0]);
              });
    result = g.reduce(shift(highest), axes, 0,
                      [](Scalars &s, ValueRange v) -> Value {
                        return s.add(v[0], s.make<math::ExpOp>(v[1]));
                      });
  } else {
    result = g.reduce(x, axes, 0, addBoth);
  }
  double count = 1;
  for (int64_t axis : axes)
    count *= double(x.dim(axis));
  bool isRoot = type == "ReduceL2", isMean = type == "ReduceMean";
  bool isLog = type == "ReduceLogSum" || type == "ReduceLogSumExp";
  if (isMean && isInteger && count == 0)
    return g.fail("is the mean of no integers");
  SmallVector<Lowered> operands = {result};
  if (highest)
    operands.push_back(highest);
  result = g.map(operands, result.getShape(), element,
                 [&](Scalars &s, ValueRange v) -> Value {
                   Value y = v[0];
                   if (isRoot)
                     return s.make<math::SqrtOp>(y);
                   if (isLog)
                     y = s.make<math::LogOp>(y);
                   if (highest)
                     y = s.add(y, v[1]);
                   if (!isMean)
                     return y;
                   if (!isInteger)
                     return s.div(y, s.real(count, y.getType()));
                   Value all = s.integer(int64_t(count), y.getType());
                   return x.isUnsigned()
                              ? Value(s.make<arith::DivUIOp>(y, all))
                              : Value(s.make<arith::DivSIOp>(y, all));
                 });
  return g.set(g.getInt("keepdims", 1) ? result : dropAxes(g, result, axes));
}

/// The place of the highest or lowest element along an axis.
static LogicalResult lowerArg(GraphLowering &g) {
  Lowered x = g.input(0);
  if (!x)
    return g.fail("expects an operand");
  FailureOr<int64_t> axis = g.readAxis(0, x.getRank());
  if (failed(axis))
    return failure();
  bool isMax = g.node.getOpType() == "ArgMax";
  bool isLast = g.getInt("select_last_index", 0);
  if (!x.dim(*axis))
    return g.fail("looks for one of no elements");
  Type wide = x.isFloat() ? g.computeType(x.element) : g.storage(x.element);
  Lowered best = g.reduceWith(x, *axis, getLimit(g.builder, x, wide, isMax),
                              [&](Scalars &s, ValueRange v) {
                                return isMax
                                           ? s.max(v[0], v[1], x.isUnsigned())
                                           : s.min(v[0], v[1], x.isUnsigned());
                              });
  // The first, or last, that equals it; a NaN is like any other.
  Type index = g.builder.getI64Type();
  int64_t none = isLast ? -1 : x.dim(*axis);
  Lowered places = g.map(
      {x, best}, x.getShape(), index, [&](Scalars &s, ValueRange v) -> Value {
        Value at = s.make<arith::IndexCastOp>(
            index, Value(s.make<linalg::IndexOp>(*axis)));
        Value isBest = s.compare("eq", v[0], v[1]);
        if (x.isFloat())
          isBest = s.either(isBest, s.make<arith::CmpFOp>(
                                        arith::CmpFPredicate::UNO, v[0], v[0]));
        return s.select(isBest, at, s.integer(none, index));
      });
  Lowered result =
      g.reduceWith(places, *axis, g.builder.getI64IntegerAttr(none),
                   [&](Scalars &s, ValueRange v) {
                     return isLast ? s.max(v[0], v[1]) : s.min(v[0], v[1]);
                   });
  return g.set(g.getInt("keepdims", 1) ? result : dropAxes(g, result, *axis));
}

//===----------------------------------------------------------------------===//
// Softmax and norms
//===----------------------------------------------------------------------===//

static LogicalResult lowerSoftmax(GraphLowering &g) {
  Lowered x = g.input(0);
  if (!x || !x.isFloat())
    return g.fail("expects a tensor of floats");
  bool isLog = g.node.getOpType() == "LogSoftmax";
  bool isOld = g.opset < 13;
  FailureOr<int64_t> axis = g.readAxis(isOld ? 1 : -1, x.getRank(), isOld);
  if (failed(axis))
    return failure();
  if (!isOld)
    return g.set(g.softmax(x, *axis, isLog));
  // Before opset 13 over all dimensions from the axis on.
  SmallVector<int64_t> shape(x.getShape());
  int64_t rows = 1;
  for (int64_t i = 0; i < *axis; ++i)
    rows *= x.dim(i);
  int64_t all = x.getType().getNumElements();
  if (!all)
    return g.set(x);
  Lowered flat = g.reshape(x, {rows, all / rows});
  return g.set(g.reshape(g.softmax(flat, 1, isLog), shape));
}

/// (x - mean) / sqrt(variance + epsilon), or x / sqrt(mean(x^2) + epsilon).
struct Normalized {
  Lowered result, mean, inverse;
};
static Normalized normalize(GraphLowering &g, Lowered x, ArrayRef<int64_t> axes,
                            double epsilon, bool isCentered) {
  Type type = g.computeType(x.element);
  Normalized normalized;
  Lowered centered = g.convert(x, type);
  if (isCentered) {
    normalized.mean = g.mean(x, axes);
    centered =
        g.map({x, normalized.mean}, x.getShape(), type,
              [](Scalars &s, ValueRange v) { return s.sub(v[0], v[1]); });
  }
  Lowered squares =
      g.map(centered, x.getShape(), type,
            [](Scalars &s, ValueRange v) { return s.mul(v[0], v[0]); });
  Lowered variance = g.mean(squares, axes);
  normalized.inverse =
      g.map(variance, variance.getShape(), type,
            [&](Scalars &s, ValueRange v) -> Value {
              Value sum = s.add(v[0], s.real(epsilon, type));
              return s.div(s.real(1, type), s.make<math::SqrtOp>(sum));
            });
  normalized.result =
      g.map({centered, normalized.inverse}, x.getShape(), type,
            [](Scalars &s, ValueRange v) { return s.mul(v[0], v[1]); });
  return normalized;
}

/// x * scale + bias, where there is one, rounded to \p element.
static FailureOr<Lowered> scaleAndShift(GraphLowering &g, Lowered x,
                                        Lowered scale, Lowered bias,
                                        Type element) {
  SmallVector<Lowered> operands = {x, scale};
  if (bias)
    operands.push_back(bias);
  FailureOr<SmallVector<int64_t>> shape = g.broadcast(operands);
  if (failed(shape))
    return failure();
  if (*shape != x.getShape())
    return g.fail("has a scale or a bias that does not fit its operand");
  Type type = x.element;
  return g.map(operands, *shape, element,
               [&](Scalars &s, ValueRange v) -> Value {
                 Value y = s.mul(v[0], s.cast(v[1], v[1].getType(), type));
                 return bias ? s.add(y, s.cast(v[2], v[2].getType(), type)) : y;
               });
}

static LogicalResult lowerNorm(GraphLowering &g) {
  StringRef type = g.node.getOpType();
  bool isSkip = type.starts_with("com.microsoft.Skip");
  bool isCentered =
      type.ends_with("LayerNormalization") && !type.contains("Simplified");
  Lowered x = g.input(0), scale = g.input(isSkip ? 2 : 1);
  Lowered bias = g.input(isSkip ? 3 : 2);
  if (!x || !scale || !x.isFloat() || !scale.isFloat())
    return g.fail("expects a tensor of floats and a scale");
  if (isSkip) {
    // The simplified one has no bias but that of the sum.
    SmallVector<Lowered> parts = {x, g.input(1)};
    Lowered extra = g.input(isCentered ? 4 : 3);
    if (!isCentered)
      bias = {};
    if (extra)
      parts.push_back(extra);
    if (!parts[1] || llvm::any_of(parts, [&](const Lowered &part) {
          return part.element != x.element;
        }))
      return g.fail("expects tensors of one type");
    FailureOr<SmallVector<int64_t>> shape = g.broadcast(parts);
    if (failed(shape))
      return failure();
    x = g.map(parts, *shape, x.element, [](Scalars &s, ValueRange v) {
      Value sum = s.add(v[0], v[1]);
      return v.size() > 2 ? s.add(sum, v[2]) : sum;
    });
    (void)g.set(3, x);
  }
  FailureOr<int64_t> axis = g.readAxis(-1, x.getRank());
  if (failed(axis))
    return failure();
  SmallVector<int64_t> axes;
  for (int64_t i = *axis; i < x.getRank(); ++i)
    axes.push_back(i);
  double epsilon = g.getFloat("epsilon", isSkip ? 1e-12 : 1e-5);
  Normalized normalized = normalize(g, x, axes, epsilon, isCentered);
  FailureOr<Lowered> result =
      scaleAndShift(g, normalized.result, scale, bias, x.element);
  if (failed(result))
    return failure();
  if (isCentered && !isSkip) {
    (void)g.set(1, normalized.mean);
    (void)g.set(2, normalized.inverse);
  } else if (!isSkip && type == "SimplifiedLayerNormalization") {
    (void)g.set(1, normalized.inverse);
  }
  return g.set(*result);
}

/// [channels] as a tensor that is broadcast along dimension 1 of \p rank.
static Lowered alongChannels(GraphLowering &g, Lowered x, int64_t rank) {
  SmallVector<int64_t> shape(size_t(rank), 1);
  shape[1] = x.dim(0);
  return g.reshape(x, shape);
}

static LogicalResult lowerChannelNorm(GraphLowering &g) {
  StringRef type = g.node.getOpType();
  Lowered x = g.input(0), scale = g.input(1), bias = g.input(2);
  if (!x || !scale || !bias || x.getRank() < 2 || !x.isFloat() ||
      !scale.isFloat() || scale.getRank() != 1 || bias.getRank() != 1 ||
      scale.dim(0) != bias.dim(0))
    return g.fail("expects [batch, channels, ..], and a scale and a bias");
  int64_t channels = x.dim(1);
  double epsilon = g.getFloat("epsilon", 1e-5);
  SmallVector<int64_t> shape(x.getShape());
  Type wide = g.computeType(x.element);
  Lowered normal;
  if (type == "BatchNormalization") {
    Lowered mean = g.input(3), variance = g.input(4);
    if (g.getInt("training_mode", 0) || g.node.getOutputs().size() > 1)
      return g.fail("computes a mean, as in training");
    if (!mean || !variance || mean.getRank() != 1 || variance.getRank() != 1 ||
        mean.dim(0) != channels || variance.dim(0) != channels)
      return g.fail("expects a mean and a variance of each channel");
    normal =
        g.map({x, alongChannels(g, mean, x.getRank()),
               alongChannels(g, variance, x.getRank())},
              shape, wide, [&](Scalars &s, ValueRange v) -> Value {
                auto to = [&](Value y) { return s.cast(y, y.getType(), wide); };
                Value sum = s.add(to(v[2]), s.real(epsilon, wide));
                return s.div(s.sub(v[0], to(v[1])), s.make<math::SqrtOp>(sum));
              });
  } else {
    int64_t groups =
        type == "GroupNormalization" ? g.getInt("num_groups", 0) : channels;
    if (groups < 1 || channels % groups)
      return g.fail("has " + Twine(channels) + " channels and " +
                    Twine(groups) + " groups");
    if (!x.getType().getNumElements())
      return g.set(x);
    int64_t row = x.getType().getNumElements() / x.dim(0) / groups;
    normal =
        normalize(g, g.reshape(x, {x.dim(0), groups, row}), 2, epsilon, true)
            .result;
    normal = g.reshape(normal, shape);
    // Before opset 21 a scale was one of a group.
    if (scale.dim(0) == groups && groups != channels) {
      auto spread = [&](Lowered y) {
        y = g.expand(g.reshape(y, {groups, 1}), {groups, channels / groups});
        return g.reshape(y, channels);
      };
      scale = spread(scale);
      bias = spread(bias);
    }
  }
  if (scale.dim(0) != channels)
    return g.fail("expects a scale of " + Twine(channels) + " channels");
  FailureOr<Lowered> result =
      scaleAndShift(g, normal, alongChannels(g, scale, x.getRank()),
                    alongChannels(g, bias, x.getRank()), x.element);
  return failed(result) ? failure() : g.set(*result);
}

static LogicalResult lowerLpNorm(GraphLowering &g) {
  Lowered x = g.input(0);
  int64_t p = g.getInt("p", 2);
  if (!x || !x.isFloat() || (p != 1 && p != 2))
    return g.fail("expects a tensor of floats, and a norm of 1 or 2");
  FailureOr<int64_t> axis = g.readAxis(-1, x.getRank());
  if (failed(axis))
    return failure();
  Lowered sum = g.reduce(x, *axis, 0, [&](Scalars &s, ValueRange v) -> Value {
    Value y = p == 1 ? Value(s.make<math::AbsFOp>(v[1])) : s.mul(v[1], v[1]);
    return s.add(v[0], y);
  });
  return g.set(g.map(
      {x, sum}, x.getShape(), x.element,
      [&](Scalars &s, ValueRange v) -> Value {
        Value size = p == 1 ? v[1] : Value(s.make<math::SqrtOp>(v[1]));
        Value isZero = s.compare("eq", size, s.zero(size.getType()));
        return s.select(isZero, s.zero(size.getType()), s.div(v[0], size));
      }));
}

//===----------------------------------------------------------------------===//
// Sums of all before, and orders
//===----------------------------------------------------------------------===//

/// Part \p index of \p x along \p axis, as a tensor with 1 there.
static Value takeAlong(Scalars &s, Value x, int64_t axis, Value index) {
  auto type = cast<RankedTensorType>(x.getType());
  SmallVector<OpFoldResult> offsets, sizes, steps;
  SmallVector<int64_t> shape(type.getShape());
  shape[size_t(axis)] = 1;
  for (auto [i, size] : llvm::enumerate(shape)) {
    offsets.push_back(s.builder.getIndexAttr(0));
    sizes.push_back(s.builder.getIndexAttr(size));
    steps.push_back(s.builder.getIndexAttr(1));
  }
  offsets[size_t(axis)] = index;
  return s.make<tensor::ExtractSliceOp>(
      RankedTensorType::get(shape, type.getElementType()), x, offsets, sizes,
      steps);
}

/// \p x with \p part as part \p index along \p axis.
static Value putAlong(Scalars &s, Value part, Value x, int64_t axis,
                      Value index) {
  auto type = cast<RankedTensorType>(part.getType());
  SmallVector<OpFoldResult> offsets, sizes, steps;
  for (int64_t size : type.getShape()) {
    offsets.push_back(s.builder.getIndexAttr(0));
    sizes.push_back(s.builder.getIndexAttr(size));
    steps.push_back(s.builder.getIndexAttr(1));
  }
  offsets[size_t(axis)] = index;
  return s.make<tensor::InsertSliceOp>(part, x, offsets, sizes, steps);
}

static LogicalResult lowerCumulative(GraphLowering &g) {
  Lowered x = g.input(0);
  std::optional<SmallVector<int64_t>> given = g.integers(1);
  if (!x || !given || given->size() != 1)
    return g.fail("the axis has to be known when the graph is compiled");
  FailureOr<int64_t> axis = g.axisOf((*given)[0], x.getRank());
  if (failed(axis))
    return failure();
  bool isReverse = g.getInt("reverse", 0),
       isExclusive = g.getInt("exclusive", 0);
  bool isProduct = g.node.getOpType() == "CumProd";
  Type wide = x.isFloat() ? g.computeType(x.element) : g.storage(x.element);
  Lowered from = x.isFloat() ? g.convert(x, wide) : x;
  int64_t size = x.dim(*axis);
  SmallVector<int64_t> slice(x.getShape());
  slice[size_t(*axis)] = 1;
  Value sum = g.splat(isProduct ? 1 : 0, wide, slice).value;
  Value result = g.empty(x.getShape(), wide);
  SmallVector<AffineMap> maps(
      2, AffineMap::getMultiDimIdentityMap(unsigned(x.getRank()),
                                           g.builder.getContext()));
  SmallVector<utils::IteratorType> iterators(size_t(x.getRank()),
                                             utils::IteratorType::parallel);
  Scalars s = g.scalars();
  auto loop = scf::ForOp::create(
      g.builder, g.loc, s.index(0), s.index(size), s.index(1),
      ValueRange{result, sum},
      [&](OpBuilder &nested, Location at, Value i, ValueRange carried) {
        OpBuilder::InsertionGuard guard(g.builder);
        g.builder.setInsertionPointToEnd(nested.getInsertionBlock());
        Scalars inner(g.builder, at);
        Value index = isReverse ? inner.sub(inner.index(size - 1), i) : i;
        Value put = carried[0];
        if (isExclusive)
          put = putAlong(inner, carried[1], put, *axis, index);
        // The sum so far is changed in its place.
        Value next = g.generic(
            takeAlong(inner, from.value, *axis, index), maps, iterators,
            carried[1], [&](Scalars &sc, ValueRange v) {
              return isProduct ? sc.mul(v[1], v[0]) : sc.add(v[1], v[0]);
            });
        if (!isExclusive)
          put = putAlong(inner, next, put, *axis, index);
        scf::YieldOp::create(g.builder, at, ValueRange{put, next});
      });
  return g.set(g.convert({loop.getResult(0), x.isFloat() ? wide : x.element},
                         x.element));
}

/// The k highest or lowest along an axis, in order: each is the best of those
/// that come after the one before it, by number, then by place.
static LogicalResult lowerTopK(GraphLowering &g) {
  Lowered x = g.input(0);
  auto given = g.has(1) ? g.integers(1) : std::nullopt;
  int64_t k = given && given->size() == 1 ? given->front() : g.getInt("k", -1);
  if (!x || k < 0)
    return g.fail("the number of elements has to be known when the graph is "
                  "compiled");
  FailureOr<int64_t> axis = g.readAxis(-1, x.getRank());
  if (failed(axis))
    return failure();
  if (k > x.dim(*axis))
    return g.fail("looks for " + Twine(k) + " of " + Twine(x.dim(*axis)) +
                  " elements");
  bool isLargest = g.getInt("largest", 1);
  Type type = g.storage(x.element), index = g.builder.getI64Type();
  SmallVector<int64_t> shape(x.getShape()), slice(x.getShape());
  shape[size_t(*axis)] = k;
  slice[size_t(*axis)] = 1;
  Scalars s = g.scalars();
  bool isUnsigned = x.isUnsigned();
  // Orders numbers, and NaN before all.
  auto isBefore = [&](Scalars &sc, Value a, Value b) {
    Value result = sc.compare(isLargest ? "gt" : "lt", a, b, isUnsigned);
    if (!isa<FloatType>(type))
      return result;
    Value aNaN = sc.make<arith::CmpFOp>(arith::CmpFPredicate::UNO, a, a);
    Value bNaN = sc.make<arith::CmpFOp>(arith::CmpFPredicate::UNO, b, b);
    Value bNumber =
        sc.make<arith::XOrIOp>(bNaN, sc.integer(1, sc.builder.getI1Type()));
    return sc.either(result, sc.both(aNaN, bNumber));
  };
  Value values = g.empty(shape, x.element), places = g.empty(shape, index);
  MLIRContext *context = g.builder.getContext();
  auto rank = unsigned(x.getRank());
  SmallVector<AffineExpr> kept;
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  iterators[size_t(*axis)] = utils::IteratorType::reduction;
  for (unsigned i = 0; i < rank; ++i)
    kept.push_back(i == unsigned(*axis) ? getAffineConstantExpr(0, context)
                                        : getAffineDimExpr(i, context));
  AffineMap identity = AffineMap::getMultiDimIdentityMap(rank, context);
  AffineMap row = AffineMap::get(rank, 0, kept, context);
  SmallVector<AffineExpr> outer;
  SmallVector<int64_t> outerShape;
  for (unsigned i = 0; i < rank; ++i)
    if (i != unsigned(*axis)) {
      outer.push_back(getAffineDimExpr(i, context));
      outerShape.push_back(x.dim(i));
    }
  AffineMap rowOut = AffineMap::get(rank, 0, outer, context);
  auto loop = scf::ForOp::create(
      g.builder, g.loc, s.index(0), s.index(k), s.index(1),
      ValueRange{values, places},
      [&](OpBuilder &nested, Location at, Value i, ValueRange carried) {
        OpBuilder::InsertionGuard guard(g.builder);
        g.builder.setInsertionPointToEnd(nested.getInsertionBlock());
        Scalars inner(g.builder, at);
        // Before the first there is nothing.
        Value isStart = inner.compare("eq", i, inner.index(0));
        Value before = inner.select(isStart, i, inner.sub(i, inner.index(1)));
        Value last = takeAlong(inner, carried[0], *axis, before);
        Value lastPlace = takeAlong(inner, carried[1], *axis, before);
        Value bestInit = g.filled(outerShape, x.element, inner.zero(type));
        Value placeInit = g.filled(outerShape, index, inner.integer(-1, index));
        auto search = linalg::GenericOp::create(
            g.builder, at, TypeRange{bestInit.getType(), placeInit.getType()},
            ValueRange{x.value, last, lastPlace},
            ValueRange{bestInit, placeInit},
            ArrayRef<AffineMap>{identity, row, row, rowOut, rowOut}, iterators,
            [&](OpBuilder &b, Location l, ValueRange v) {
              Scalars sc(b, l);
              Value own = sc.make<arith::IndexCastOp>(
                  index, Value(sc.make<linalg::IndexOp>(*axis)));
              Value zero = sc.zero(index);
              // After the one before: worse, or as good at a later place.
              Value isWorse = isBefore(sc, v[1], v[0]);
              Value isBetter = isBefore(sc, v[0], v[1]);
              Value isLater = sc.compare("gt", own, v[2]);
              Value isSame = sc.make<arith::XOrIOp>(
                  sc.either(isWorse, isBetter), sc.integer(1, b.getI1Type()));
              Value isLeft = sc.either(
                  isStart, sc.either(isWorse, sc.both(isSame, isLater)));
              Value isFirst = sc.compare("lt", v[4], zero);
              Value isBest =
                  sc.both(isLeft, sc.either(isFirst, isBefore(sc, v[0], v[3])));
              linalg::YieldOp::create(b, l,
                                      ValueRange{sc.select(isBest, v[0], v[3]),
                                                 sc.select(isBest, own, v[4])});
            });
        Lowered best = g.reshape({search.getResult(0), x.element}, slice);
        Lowered place = g.reshape({search.getResult(1), index}, slice);
        Value put = putAlong(inner, best.value, carried[0], *axis, i);
        Value putPlace = putAlong(inner, place.value, carried[1], *axis, i);
        scf::YieldOp::create(g.builder, at, ValueRange{put, putPlace});
      });
  (void)g.set(1, {loop.getResult(1), index});
  return g.set(loop.getResult(0), x.element);
}

LowerRule onnx::findReductionRule(StringRef type) {
  return llvm::StringSwitch<LowerRule>(type)
      .Cases(
          {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"},
          lowerReduce)
      .Cases({"ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum",
              "ReduceLogSumExp"},
             lowerReduce)
      .Cases({"ArgMax", "ArgMin"}, lowerArg)
      .Cases({"Softmax", "LogSoftmax"}, lowerSoftmax)
      .Cases({"LayerNormalization", "RMSNormalization",
              "SimplifiedLayerNormalization",
              "com.microsoft.SkipLayerNormalization",
              "com.microsoft.SkipSimplifiedLayerNormalization"},
             lowerNorm)
      .Cases(
          {"BatchNormalization", "InstanceNormalization", "GroupNormalization"},
          lowerChannelNorm)
      .Case("LpNormalization", lowerLpNorm)
      .Cases({"CumSum", "CumProd"}, lowerCumulative)
      .Case("TopK", lowerTopK)
      .Default(nullptr);
}
