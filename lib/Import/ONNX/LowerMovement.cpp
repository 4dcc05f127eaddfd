// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that move elements, or look for them. Definitions are those of
// https://onnx.ai/onnx/operators.

#include "lib/Import/ONNX/GraphImporter.h"
#include "lib/Import/ONNX/GraphLowering.h"

#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

#include <cmath>

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

/// What the evaluator knows: the numbers of Shape and Size, and the shapes of
/// those that only change it.
static LogicalResult lowerKnown(GraphLowering &g) {
  Lowered x = g.input(0);
  if (!x)
    return g.fail("expects an operand");
  Value output = g.node.getOutputs().front();
  const Array *array = g.evaluator.get(output);
  StringRef type = g.node.getOpType();
  if (type != "Shape" && type != "Size") {
    if (!array)
      return g.fail("its shape has to be known when the graph is compiled, and "
                    "fit " +
                    Twine(x.getType().getNumElements()) + " elements");
    return g.set(g.reshape(x, array->shape));
  }
  std::optional<SmallVector<int64_t>> numbers = g.evaluator.getIntegers(output);
  if (!numbers)
    return g.fail("has a shape that is not known");
  auto shaped = RankedTensorType::get(array->shape, g.builder.getI64Type());
  Value value = arith::ConstantOp::create(
      g.builder, g.loc,
      DenseElementsAttr::get(shaped, ArrayRef<int64_t>(*numbers)));
  return g.set(value, g.builder.getI64Type());
}

static LogicalResult lowerConstantOfShape(GraphLowering &g) {
  std::optional<SmallVector<int64_t>> shape = g.integers(0);
  if (!shape)
    return g.fail("the shape has to be known when the graph is compiled");
  if (failed(g.checkShape(*shape)))
    return failure();
  auto value = dyn_cast_or_null<DenseElementsAttr>(g.getParameter("value"));
  if (g.getParameter("value") && (!value || value.getNumElements() != 1))
    return g.fail("expects a value of one element");
  if (!value)
    return g.set(g.splat(0, g.builder.getF32Type(), *shape));
  Type element = value.getElementType();
  Scalars s = g.scalars();
  Value scalar;
  if (isa<FloatType>(element))
    scalar = s.make<arith::ConstantOp>(
        cast<TypedAttr>(*value.getValues<Attribute>().begin()));
  else
    scalar = s.integer((*value.getValues<APInt>().begin()).getSExtValue(),
                       g.storage(element));
  return g.set({g.filled(*shape, element, scalar), element});
}

static LogicalResult lowerRange(GraphLowering &g) {
  double bounds[3];
  for (unsigned i = 0; i < 3; ++i) {
    const Array *array =
        g.has(i) ? g.evaluator.get(getOperand(g.node, i)) : nullptr;
    if (!array || array->count != 1 || !array->isKnown())
      return g.fail("its bounds have to be known when the graph is compiled");
    bounds[i] = array->real(0);
  }
  Type element = g.input(0).element;
  double count = std::ceil((bounds[1] - bounds[0]) / bounds[2]);
  if (!(std::abs(count) < 1e12))
    return g.fail("its bounds are not those of a range");
  int64_t size = std::max<int64_t>(int64_t(count), 0);
  Type wide = g.builder.getF64Type(), index = g.builder.getI64Type();
  bool isReal = isa<FloatType>(element);
  return g.set(g.generate(size, element, [&](Scalars &s, ValueRange i) {
    Value at = s.make<arith::IndexCastOp>(index, i[0]);
    if (!isReal) {
      Value value = s.add(s.integer(int64_t(bounds[0]), index),
                          s.mul(at, s.integer(int64_t(bounds[2]), index)));
      return s.cast(value, index, element);
    }
    Value value =
        s.add(s.real(bounds[0], wide),
              s.mul(s.cast(at, index, wide), s.real(bounds[2], wide)));
    return s.cast(value, wide, element);
  }));
}

//===----------------------------------------------------------------------===//
// Movement
//===----------------------------------------------------------------------===//

static LogicalResult lowerTranspose(GraphLowering &g) {
  Lowered x = g.input(0);
  if (!x)
    return g.fail("expects an operand");
  SmallVector<int64_t> order;
  if (auto given = g.getInts("perm"))
    order = *given;
  else
    for (int64_t i = x.getRank(); i > 0; --i)
      order.push_back(i - 1);
  if (int64_t(order.size()) != x.getRank())
    return g.fail("orders " + Twine(order.size()) + " dimensions, but has " +
                  Twine(x.getRank()));
  if (failed(g.normalizeAxes(order, x.getRank())))
    return failure();
  return g.set(g.transpose(x, order));
}

static LogicalResult lowerExpand(GraphLowering &g) {
  Lowered x = g.input(0);
  std::optional<SmallVector<int64_t>> to = g.integers(1);
  if (!x || !to)
    return g.fail("the shape has to be known when the graph is compiled");
  if (failed(g.checkShape(*to)))
    return failure();
  SmallVector<int64_t> all(*to);
  all.insert(all.begin(),
             size_t(std::max<int64_t>(x.getRank() - int64_t(to->size()), 0)),
             1);
  size_t skipped = all.size() - size_t(x.getRank());
  for (auto [i, size] : llvm::enumerate(x.getShape())) {
    int64_t &other = all[skipped + i];
    if (other != size && other != 1 && size != 1)
      return g.fail("dimensions of " + Twine(size) + " and " + Twine(other) +
                    " cannot be broadcast");
    other = other == 1 ? size : other;
  }
  if (failed(g.checkShape(all)))
    return failure();
  return g.set(g.expand(x, all));
}

static LogicalResult lowerTile(GraphLowering &g) {
  Lowered x = g.input(0);
  std::optional<SmallVector<int64_t>> repeats = g.integers(1);
  if (!x || !repeats || int64_t(repeats->size()) != x.getRank())
    return g.fail("expects one number of repeats a dimension, known when the "
                  "graph is compiled");
  // [a, b] is [ra, a, rb, b], flattened.
  SmallVector<int64_t> apart, shape;
  SmallVector<AffineExpr> access;
  for (auto [i, count] : llvm::enumerate(*repeats)) {
    apart.append({count, x.dim(int64_t(i))});
    std::optional<int64_t> size = checkedProduct({count, x.dim(int64_t(i))});
    shape.push_back(size.value_or(-1));
    access.push_back(g.builder.getAffineDimExpr(unsigned(2 * i + 1)));
  }
  if (failed(g.checkShape(shape)))
    return failure();
  AffineMap map =
      AffineMap::get(unsigned(apart.size()), 0, access, g.builder.getContext());
  return g.set(g.reshape(g.view(x, apart, map), shape));
}

static LogicalResult lowerConcat(GraphLowering &g) {
  SmallVector<Lowered> parts;
  for (unsigned i = 0; i < g.node.getInputs().size(); ++i)
    parts.push_back(g.input(i));
  if (parts.empty() ||
      llvm::any_of(parts, [](const Lowered &part) { return !part; }))
    return g.fail("expects operands");
  FailureOr<int64_t> axis = g.readAxis(g.opset < 4 ? 1 : 0, parts[0].getRank());
  if (failed(axis))
    return failure();
  SmallVector<int64_t> shape(parts[0].getShape());
  int64_t &all = shape[size_t(*axis)];
  all = 0;
  for (const Lowered &part : parts) {
    if (part.element != parts[0].element ||
        part.getRank() != parts[0].getRank())
      return g.fail("has operands of different types");
    for (int64_t i = 0; i < part.getRank(); ++i)
      if (i != *axis && part.dim(i) != shape[size_t(i)])
        return g.fail("has operands of " + Twine(part.dim(i)) + " and " +
                      Twine(shape[size_t(i)]) + " elements along dimension " +
                      Twine(i));
    all += part.dim(*axis);
    if (failed(g.checkShape(shape)))
      return failure();
  }
  return g.set(g.join(parts, *axis));
}

static LogicalResult lowerSplit(GraphLowering &g) {
  Lowered x = g.input(0);
  if (!x)
    return g.fail("expects an operand");
  FailureOr<int64_t> axis = g.readAxis(0, x.getRank());
  if (failed(axis))
    return failure();
  auto given = g.integersOf("split", 1);
  if (failed(given))
    return failure();
  auto count = int64_t(g.node.getOutputs().size());
  if (g.getInt("num_outputs", count) != count)
    return g.fail("has " + Twine(count) + " outputs, but num_outputs is " +
                  Twine(g.getInt("num_outputs", count)));
  int64_t size = x.dim(*axis);
  SmallVector<int64_t> sizes;
  if (*given)
    sizes = **given;
  else
    for (int64_t i = 0, part = ceilDiv(size, count), left = size; i < count;
         ++i, left -= sizes.back())
      sizes.push_back(std::min(part, left));
  int64_t sum = 0;
  for (int64_t part : sizes)
    sum = part < 0 || part > size ? INT64_MAX / 2 : std::min(sum, size) + part;
  if (int64_t(sizes.size()) != count || sum != size)
    return g.fail("has " + Twine(count) +
                  " outputs whose sizes do not add up "
                  "to " +
                  Twine(size));
  SmallVector<int64_t> offsets(size_t(x.getRank()), 0), shape(x.getShape());
  for (auto [i, part] : llvm::enumerate(sizes)) {
    shape[size_t(*axis)] = part;
    (void)g.set(unsigned(i), g.slice(x, offsets, shape));
    offsets[size_t(*axis)] += part;
  }
  return success();
}

static LogicalResult lowerSlice(GraphLowering &g) {
  Lowered x = g.input(0);
  if (!x)
    return g.fail("expects an operand");
  auto begins = g.integersOf("starts", 1), ends = g.integersOf("ends", 2);
  if (failed(begins) || failed(ends))
    return failure();
  auto axes = g.integersOf("axes", 3);
  auto steps = g.integersOf("steps", 4);
  if (failed(axes) || failed(steps))
    return failure();
  if (!*begins || !*ends)
    return g.fail("expects starts and ends");
  size_t count = (*begins)->size();
  if (!*axes) {
    axes->emplace();
    for (size_t i = 0; i < count; ++i)
      (*axes)->push_back(int64_t(i));
  }
  if (!*steps)
    steps->emplace(count, 1);
  if ((*ends)->size() != count || (*axes)->size() != count ||
      (*steps)->size() != count)
    return g.fail("expects as many starts, ends, axes and steps");
  if (failed(g.normalizeAxes(**axes, x.getRank())))
    return failure();
  SmallVector<int64_t> shape(x.getShape());
  SmallVector<AffineExpr> access;
  for (int64_t i = 0; i < x.getRank(); ++i)
    access.push_back(g.builder.getAffineDimExpr(unsigned(i)));
  for (size_t i = 0; i < count; ++i) {
    auto axis = size_t((**axes)[i]);
    int64_t size = x.dim(int64_t(axis)), step = (**steps)[i];
    if (step == 0)
      return g.fail("has a step of 0");
    // Limits may be as far away as integers go.
    auto clamp = [&](int64_t at, int64_t low, int64_t high) {
      at = std::max(at, -size - 1);
      return std::clamp(at < 0 ? at + size : at, low, high);
    };
    int64_t begin, end, length;
    if (step > 0) {
      begin = clamp((**begins)[i], 0, size);
      end = clamp((**ends)[i], 0, size);
      length = end > begin ? (end - begin - 1) / step + 1 : 0;
    } else {
      begin = clamp((**begins)[i], -1, size - 1);
      end = clamp((**ends)[i], -1, size - 1);
      step = std::max(step, -size - 1);
      length = begin > end ? (begin - end - 1) / -step + 1 : 0;
    }
    step = std::min(step, size + 1);
    shape[axis] = length;
    access[axis] = access[axis] * step + begin;
  }
  return g.set(g.view(x, shape,
                      AffineMap::get(unsigned(x.getRank()), 0, access,
                                     g.builder.getContext())));
}

static LogicalResult lowerPad(GraphLowering &g) {
  Lowered x = g.input(0);
  if (!x)
    return g.fail("expects an operand");
  auto pads = g.integersOf("pads", 1);
  auto axes = g.integersOf("axes", 3);
  if (failed(pads) || failed(axes))
    return failure();
  if (!*axes) {
    axes->emplace();
    for (int64_t i = 0; i < x.getRank(); ++i)
      (*axes)->push_back(i);
  }
  if (!*pads || (*pads)->size() != 2 * (*axes)->size())
    return g.fail("expects two pads a dimension");
  if (failed(g.normalizeAxes(**axes, x.getRank())))
    return failure();
  SmallVector<int64_t> before(size_t(x.getRank()), 0), shape(x.getShape());
  for (auto [i, axis] : llvm::enumerate(**axes)) {
    int64_t low = (**pads)[i], high = (**pads)[i + (*axes)->size()];
    if (std::abs(double(low)) > 1e12 || std::abs(double(high)) > 1e12)
      return g.fail("has absurd pads");
    before[size_t(axis)] = low;
    shape[size_t(axis)] += low + high;
  }
  if (failed(g.checkShape(shape)))
    return failure();
  StringRef mode = g.getString("mode", "constant");
  if (!llvm::is_contained({"constant", "edge", "reflect", "wrap"}, mode))
    return g.fail("pads in mode '" + mode + "', which is not supported");
  Lowered value = g.input(2);
  if (!value)
    value = g.splat(g.getFloat("value", 0), x.element);
  if (value.element != x.element || value.getType().getNumElements() != 1)
    return g.fail("expects a number of the operand's type to pad with");
  bool isConstant = mode == "constant";
  if (!x.getType().getNumElements() && !isConstant)
    return g.fail("pads a tensor without elements");
  Value fill = g.extract(g.reshape(value, {}).value, {});
  if (!x.getType().getNumElements())
    return g.set({g.filled(shape, x.element, fill), x.element});
  return g.set(g.generate(
      shape, x.element, [&](Scalars &s, ValueRange indices) -> Value {
        SmallVector<Value> from;
        Value isInside = s.integer(1, s.builder.getI1Type());
        Value zero = s.index(0);
        for (auto [i, index] : llvm::enumerate(indices)) {
          int64_t size = x.dim(int64_t(i));
          Value all = s.index(size), last = s.index(size - 1);
          Value at = s.sub(index, s.index(before[i]));
          if (isConstant)
            isInside = s.both(isInside, s.compare("lt", at, all, true));
          if (mode == "reflect" && size > 1) {
            // A period of 2 (size - 1), of which the second half runs back.
            Value period = s.index(2 * (size - 1));
            Value rest = s.make<arith::RemSIOp>(at, period);
            rest = s.select(s.compare("lt", rest, zero), s.add(rest, period),
                            rest);
            at = s.select(s.compare("gt", rest, last), s.sub(period, rest),
                          rest);
          } else if (mode == "wrap") {
            Value rest = s.make<arith::RemSIOp>(at, all);
            at = s.select(s.compare("lt", rest, zero), s.add(rest, all), rest);
          }
          from.push_back(s.max(s.min(at, last), zero));
        }
        Value element = s.make<tensor::ExtractOp>(x.value, ValueRange(from));
        return isConstant ? s.select(isInside, element, fill) : element;
      }));
}

static LogicalResult lowerTrilu(GraphLowering &g) {
  Lowered x = g.input(0);
  if (!x || x.getRank() < 2)
    return g.fail("expects matrices");
  Lowered k = g.has(1) ? g.convert(g.input(1), g.builder.getI64Type())
                       : g.splat(0, g.builder.getI64Type());
  if (k.getType().getNumElements() != 1)
    return g.fail("expects one diagonal");
  Value diagonal = g.extract(g.reshape(k, {}).value, {});
  bool isUpper = g.getInt("upper", 1);
  Type wide = g.builder.getI64Type();
  return g.set(
      g.map(x, x.getShape(), x.element, [&](Scalars &s, ValueRange v) -> Value {
        auto at = [&](int64_t dim) -> Value {
          return s.make<arith::IndexCastOp>(
              wide, Value(s.make<linalg::IndexOp>(dim)));
        };
        Value distance = s.sub(at(x.getRank() - 1), at(x.getRank() - 2));
        Value isKept = s.compare(isUpper ? "ge" : "le", distance, diagonal);
        return s.select(isKept, v[0], s.zero(v[0].getType()));
      }));
}

static LogicalResult lowerEyeLike(GraphLowering &g) {
  Lowered x = g.input(0);
  int64_t other = g.getInt("dtype", 0), k = g.getInt("k", 0);
  Type element = other ? getElementType(g.builder, other)
                 : x   ? x.element
                       : Type();
  if (!x || x.getRank() != 2 || !element || !isElement(element))
    return g.fail("expects a matrix, and a type that is supported");
  Type type = g.storage(element);
  return g.set(g.generate(
      x.getShape(), element, [&](Scalars &s, ValueRange at) -> Value {
        Value isOne = s.compare("eq", at[1], s.add(at[0], s.index(k)));
        Value one = isa<FloatType>(type) ? s.real(1, type) : s.integer(1, type);
        return s.select(isOne, one, s.zero(type));
      }));
}

/// Blocks of channels become pixels, or the other way round.
static LogicalResult lowerDepth(GraphLowering &g) {
  Lowered x = g.input(0);
  int64_t block = g.getInt("blocksize", 0);
  if (!x || x.getRank() != 4 || block < 1 || block > 1 << 20)
    return g.fail("expects [batch, channels, height, width] and a block size");
  std::optional<int64_t> most = checkedProduct({x.dim(1), block, block});
  if (!most)
    return g.fail("has more channels than can be counted");
  StringRef mode = g.getString("mode", "DCR");
  if (mode != "DCR" && mode != "CRD")
    return g.fail("has the mode '" + mode + "', expected DCR or CRD");
  int64_t n = x.dim(0), c = x.dim(1), h = x.dim(2), w = x.dim(3);
  if (g.node.getOpType() == "SpaceToDepth") {
    if (h % block || w % block)
      return g.fail("expects whole blocks of " + Twine(block));
    x = g.reshape(x, {n, c, h / block, block, w / block, block});
    if (mode == "DCR")
      x = g.transpose(x, {0, 3, 5, 1, 2, 4});
    else
      x = g.transpose(x, {0, 1, 3, 5, 2, 4});
    return g.set(g.reshape(x, {n, *most, h / block, w / block}));
  }
  if (c % (block * block))
    return g.fail("expects whole blocks of " + Twine(block));
  int64_t left = c / (block * block);
  if (mode == "DCR") {
    x = g.reshape(x, {n, block, block, left, h, w});
    x = g.transpose(x, {0, 3, 4, 1, 5, 2});
  } else {
    x = g.reshape(x, {n, left, block, block, h, w});
    x = g.transpose(x, {0, 1, 4, 2, 5, 3});
  }
  return g.set(g.reshape(x, {n, left, h * block, w * block}));
}

//===----------------------------------------------------------------------===//
// Indices
//===----------------------------------------------------------------------===//

static LogicalResult lowerGather(GraphLowering &g) {
  Lowered x = g.input(0), indices = g.input(1);
  if (!x || !indices || indices.isFloat())
    return g.fail("expects a tensor and indices");
  FailureOr<int64_t> axis = g.readAxis(0, x.getRank());
  if (failed(axis))
    return failure();
  SmallVector<int64_t> shape(x.getShape().take_front(size_t(*axis)));
  llvm::append_range(shape, indices.getShape());
  llvm::append_range(shape, x.getShape().drop_front(size_t(*axis) + 1));
  if (failed(g.checkShape(shape)))
    return failure();
  if (!x.getType().getNumElements())
    return g.set({g.empty(shape, x.element), x.element});
  return g.set(g.gather(x, g.checkedIndices(indices, x.dim(*axis)), *axis));
}

static LogicalResult lowerGatherElements(GraphLowering &g) {
  Lowered x = g.input(0), indices = g.input(1);
  if (!x || !indices || indices.isFloat() || indices.getRank() != x.getRank())
    return g.fail("expects a tensor and indices of as many dimensions");
  FailureOr<int64_t> axis = g.readAxis(0, x.getRank());
  if (failed(axis))
    return failure();
  for (int64_t i = 0; i < x.getRank(); ++i)
    if (i != *axis && indices.dim(i) > x.dim(i))
      return g.fail("has more indices than elements along dimension " +
                    Twine(i));
  if (indices.getType().getNumElements() && !x.dim(*axis))
    return g.fail("has indices of no elements");
  Lowered checked = g.checkedIndices(indices, x.dim(*axis));
  return g.set(g.generate(
      indices.getShape(), x.element, [&](Scalars &s, ValueRange at) -> Value {
        SmallVector<Value> from(at);
        Value index = s.make<tensor::ExtractOp>(checked.value, at);
        from[size_t(*axis)] = s.toIndex(index);
        return s.make<tensor::ExtractOp>(x.value, ValueRange(from));
      }));
}

/// Indices of tuples: the last dimension of \p indices counts along the
/// dimensions of \p shape, from \p first on.
static Lowered checkedTuples(GraphLowering &g, Lowered indices,
                             ArrayRef<int64_t> shape, size_t first) {
  int64_t depth = indices.getShape().back();
  SmallVector<int64_t> offsets(size_t(indices.getRank()), 0);
  SmallVector<int64_t> sizes(indices.getShape());
  sizes.back() = 1;
  Lowered all{g.empty(indices.getShape(), g.builder.getI64Type()),
              g.builder.getI64Type()};
  for (int64_t i = 0; i < depth; ++i) {
    offsets.back() = i;
    all = g.insert(g.checkedIndices(g.slice(indices, offsets, sizes),
                                    shape[first + size_t(i)]),
                   all, offsets);
  }
  return all;
}

static LogicalResult lowerGatherND(GraphLowering &g) {
  Lowered x = g.input(0), indices = g.input(1);
  int64_t batches = g.getInt("batch_dims", 0);
  if (!x || !indices || indices.isFloat() || indices.getRank() < 1 ||
      batches < 0 || batches >= indices.getRank() || batches > x.getRank())
    return g.fail("expects a tensor and tuples of indices");
  int64_t depth = indices.getShape().back();
  if (depth < 1 || batches + depth > x.getRank())
    return g.fail("expects tuples of 1 to " + Twine(x.getRank() - batches) +
                  " indices, but got " + Twine(depth));
  for (int64_t i = 0; i < batches; ++i)
    if (x.dim(i) != indices.dim(i))
      return g.fail("has batches of " + Twine(x.dim(i)) + " and " +
                    Twine(indices.dim(i)));
  SmallVector<int64_t> shape(indices.getShape().drop_back());
  auto own = size_t(batches + depth), outer = shape.size();
  llvm::append_range(shape, x.getShape().drop_front(own));
  if (failed(g.checkShape(shape)))
    return failure();
  if (!x.getType().getNumElements())
    return g.set({g.empty(shape, x.element), x.element});
  Lowered checked = checkedTuples(g, indices, x.getShape(), size_t(batches));
  return g.set(
      g.generate(shape, x.element, [&](Scalars &s, ValueRange at) -> Value {
        SmallVector<Value> from(at.take_front(size_t(batches)));
        SmallVector<Value> tuple(at.take_front(outer));
        tuple.push_back({});
        for (int64_t i = 0; i < depth; ++i) {
          tuple.back() = s.index(i);
          from.push_back(s.toIndex(
              s.make<tensor::ExtractOp>(checked.value, ValueRange(tuple))));
        }
        llvm::append_range(from, at.drop_front(outer));
        return s.make<tensor::ExtractOp>(x.value, ValueRange(from));
      }));
}

/// Runs \p body for each index of \p shape, in order, on a tensor that it
/// changes.
static Value
forEach(GraphLowering &g, ArrayRef<int64_t> shape, Value tensor,
        llvm::function_ref<Value(Scalars &, ValueRange, Value)> body) {
  OpBuilder &builder = g.builder;
  Scalars s(builder, g.loc);
  SmallVector<Value> lower, upper, steps;
  for (int64_t size : shape) {
    lower.push_back(s.index(0));
    upper.push_back(s.index(size));
    steps.push_back(s.index(1));
  }
  if (shape.empty())
    return body(s, {}, tensor);
  scf::LoopNest nest =
      scf::buildLoopNest(builder, g.loc, lower, upper, steps, tensor,
                         [&](OpBuilder &nested, Location at, ValueRange indices,
                             ValueRange arguments) -> SmallVector<Value> {
                           Scalars inner(nested, at);
                           return {body(inner, indices, arguments[0])};
                         });
  return nest.results[0];
}

/// Where two updates meet.
static FailureOr<Value> combineUpdates(GraphLowering &g, Scalars &s,
                                       StringRef how, Value old, Value update,
                                       Lowered x) {
  Type own = old.getType();
  Type type = x.isFloat() ? g.computeType(x.element) : own;
  Value a = x.isFloat() ? s.cast(old, own, type) : old;
  Value b = x.isFloat() ? s.cast(update, own, type) : update;
  Value result;
  if (how == "add")
    result = x.element.isInteger(1) ? s.either(a, b) : s.add(a, b);
  else if (how == "mul")
    result = s.mul(a, b);
  else if (how == "max")
    result = s.max(a, b, x.isUnsigned());
  else if (how == "min")
    result = s.min(a, b, x.isUnsigned());
  else
    return failure();
  return x.isFloat() ? s.cast(result, type, own) : result;
}

static LogicalResult lowerScatter(GraphLowering &g) {
  StringRef type = g.node.getOpType();
  Lowered x = g.input(0), indices = g.input(1), updates = g.input(2);
  if (!x || !indices || !updates || indices.isFloat() ||
      updates.element != x.element)
    return g.fail("expects a tensor, indices, and updates of its type");
  StringRef how = g.getString("reduction", "none");
  if (!llvm::is_contained({"none", "add", "mul", "max", "min"}, how))
    return g.fail("combines by '" + how + "', which is not supported");
  bool isND = type == "ScatterND";
  int64_t axis = 0, depth = 0;
  if (isND) {
    depth = indices.getRank() ? indices.getShape().back() : 0;
    SmallVector<int64_t> shape(
        indices.getShape().drop_back(indices.getRank() ? 1 : 0));
    if (depth < 1 || depth > x.getRank())
      return g.fail("expects tuples of 1 to " + Twine(x.getRank()) +
                    " indices, but got " + Twine(depth));
    llvm::append_range(shape, x.getShape().drop_front(size_t(depth)));
    if (updates.getShape() != ArrayRef<int64_t>(shape))
      return g.fail("has updates that do not fit its indices");
  } else {
    FailureOr<int64_t> given = g.readAxis(0, x.getRank());
    if (failed(given))
      return failure();
    axis = *given;
    if (indices.getRank() != x.getRank() ||
        indices.getShape() != updates.getShape())
      return g.fail("has updates that do not fit its indices");
    for (int64_t i = 0; i < x.getRank(); ++i)
      if (i != axis && indices.dim(i) > x.dim(i))
        return g.fail("has more indices than elements along dimension " +
                      Twine(i));
  }
  if (!updates.getType().getNumElements())
    return g.set(x);
  if (!x.getType().getNumElements())
    return g.fail("has updates of no elements");
  Lowered checked = isND ? checkedTuples(g, indices, x.getShape(), 0)
                         : g.checkedIndices(indices, x.dim(axis));
  auto outer = size_t(isND ? indices.getRank() - 1 : 0);
  Value result =
      forEach(g, updates.getShape(), x.value,
              [&](Scalars &s, ValueRange at, Value tensor) -> Value {
                SmallVector<Value> to;
                if (isND) {
                  SmallVector<Value> tuple(at.take_front(outer));
                  tuple.push_back({});
                  for (int64_t i = 0; i < depth; ++i) {
                    tuple.back() = s.index(i);
                    to.push_back(s.toIndex(s.make<tensor::ExtractOp>(
                        checked.value, ValueRange(tuple))));
                  }
                  llvm::append_range(to, at.drop_front(outer));
                } else {
                  to.assign(at.begin(), at.end());
                  to[size_t(axis)] =
                      s.toIndex(s.make<tensor::ExtractOp>(checked.value, at));
                }
                Value update = s.make<tensor::ExtractOp>(updates.value, at);
                if (how != "none") {
                  Value old = s.make<tensor::ExtractOp>(tensor, ValueRange(to));
                  update = *combineUpdates(g, s, how, old, update, x);
                }
                return s.make<tensor::InsertOp>(update, tensor, ValueRange(to));
              });
  return g.set(result, x.element);
}

static LogicalResult lowerOneHot(GraphLowering &g) {
  Lowered indices = g.input(0), values = g.input(2);
  const Array *depth =
      g.has(1) ? g.evaluator.get(getOperand(g.node, 1)) : nullptr;
  if (!indices || !values || !depth || depth->count != 1 || !depth->isKnown())
    return g.fail("the depth has to be known when the graph is compiled");
  int64_t size = depth->integer(0);
  FailureOr<int64_t> axis = g.readAxis(-1, indices.getRank() + 1);
  if (failed(axis))
    return failure();
  if (values.getType().getNumElements() != 2)
    return g.fail("expects two values");
  SmallVector<int64_t> shape(indices.getShape());
  shape.insert(shape.begin() + *axis, size);
  if (failed(g.checkShape(shape)))
    return failure();
  Type wide = g.builder.getI64Type();
  Lowered number = g.convert(indices, wide);
  Lowered two = g.reshape(values, {2});
  return g.set(g.generate(
      shape, values.element, [&](Scalars &s, ValueRange at) -> Value {
        SmallVector<Value> from(at);
        from.erase(from.begin() + *axis);
        Value index = s.make<tensor::ExtractOp>(number.value, ValueRange(from));
        Value isBack = s.compare("lt", index, s.zero(wide));
        index = s.select(isBack, s.add(index, s.integer(size, wide)), index);
        Value own = s.make<arith::IndexCastOp>(wide, at[size_t(*axis)]);
        Value which =
            s.select(s.compare("eq", index, own), s.index(1), s.index(0));
        return s.make<tensor::ExtractOp>(two.value, which);
      }));
}

LowerRule onnx::findMovementRule(StringRef type) {
  return llvm::StringSwitch<LowerRule>(type)
      .Cases({"Shape", "Size", "Reshape", "Flatten", "Squeeze", "Unsqueeze"},
             lowerKnown)
      .Case("ConstantOfShape", lowerConstantOfShape)
      .Case("Range", lowerRange)
      .Case("Transpose", lowerTranspose)
      .Case("Expand", lowerExpand)
      .Case("Tile", lowerTile)
      .Case("Concat", lowerConcat)
      .Case("Split", lowerSplit)
      .Case("Slice", lowerSlice)
      .Case("Pad", lowerPad)
      .Case("Trilu", lowerTrilu)
      .Case("EyeLike", lowerEyeLike)
      .Cases({"DepthToSpace", "SpaceToDepth"}, lowerDepth)
      .Case("Gather", lowerGather)
      .Case("GatherElements", lowerGatherElements)
      .Case("GatherND", lowerGatherND)
      .Cases({"Scatter", "ScatterElements", "ScatterND"}, lowerScatter)
      .Case("OneHot", lowerOneHot)
      .Default(nullptr);
}
