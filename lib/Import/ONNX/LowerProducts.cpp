// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of matrices, and integers that stand for numbers. Definitions are
// those of https://onnx.ai/onnx/operators.

#include "lib/Import/ONNX/GraphImporter.h"
#include "lib/Import/ONNX/GraphLowering.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

/// \p x less what stands for zero, as i32.
static FailureOr<Lowered> centered(GraphLowering &g, Lowered x, Lowered zero,
                                   bool isRows) {
  Type wide = g.builder.getI32Type();
  SmallVector<Lowered> operands = {x};
  if (x.isFloat())
    return g.fail("expects integers");
  if (zero) {
    if (zero.element != x.element)
      return g.fail("has a zero point of another type");
    // One for all, or one a row of the first factor or column of the second.
    if (zero.getRank() == 1 && isRows && zero.dim(0) != 1)
      zero = g.reshape(zero, {zero.dim(0), 1});
    operands.push_back(zero);
  }
  FailureOr<SmallVector<int64_t>> shape = g.broadcast(operands);
  if (failed(shape))
    return failure();
  if (*shape != x.getShape())
    return g.fail("has zero points that do not fit their operand");
  Type element = x.element;
  return g.map(operands, *shape, wide, [&](Scalars &s, ValueRange v) -> Value {
    Value y = s.cast(v[0], element, wide);
    return zero ? s.sub(y, s.cast(v[1], element, wide)) : y;
  });
}

/// Operand \p i as a factor; one scale, or one a part along \p axis unless that
/// is negative.
static FailureOr<std::optional<IntegerFactor>>
readFactor(GraphLowering &g, unsigned i, int64_t axis) {
  std::optional<IntegerFactor> none;
  Value operand = getOperand(g.node, i);
  auto node = operand ? operand.getDefiningOp<NodeOp>() : NodeOp();
  if (!node || node.getOpType() != "DequantizeLinear" ||
      getInt(node, "block_size", 0) != 0)
    return none;
  auto lookup = [&](unsigned at) {
    Value value = getOperand(node, at);
    return value ? g.lookup(value) : Lowered();
  };
  Lowered x = lookup(0), scales = lookup(1), zeros = lookup(2);
  bool isByte =
      x && (x.element.isSignlessInteger(8) || x.element.isUnsignedInteger(8));
  if (!isByte || !scales || !scales.element.isF32())
    return none;
  auto rank = x.getRank();
  bool isOne = scales.getType().getNumElements() == 1 && scales.getRank() <= 1;
  int64_t given = getInt(node, "axis", 1);
  given = given < 0 ? given + rank : given;
  if (!isOne && (axis < 0 || given != axis || scales.getRank() != 1))
    return none;
  if (zeros) {
    SmallVector<int64_t> shape(size_t(rank), 1);
    if (!isOne)
      shape[size_t(axis)] = scales.dim(0);
    zeros = g.reshape(zeros, shape);
  }
  FailureOr<Lowered> integers = centered(g, x, zeros, /*isRows=*/false);
  if (failed(integers))
    return failure();
  if (isOne)
    scales = g.reshape(scales, {});
  return std::optional(IntegerFactor{*integers, scales});
}

FailureOr<std::optional<std::pair<IntegerFactor, IntegerFactor>>>
onnx::readFactors(GraphLowering &g, unsigned i, unsigned j, int64_t axis,
                  int64_t terms) {
  // Of absolute values up to 255 * 255.
  constexpr int64_t maxTerms = INT32_MAX / (255 * 255);
  std::optional<std::pair<IntegerFactor, IntegerFactor>> none;
  if (terms > maxTerms)
    return none;
  FailureOr<std::optional<IntegerFactor>> a = readFactor(g, i, -1);
  if (failed(a))
    return failure();
  if (!*a)
    return none;
  FailureOr<std::optional<IntegerFactor>> b = readFactor(g, j, axis);
  if (failed(b))
    return failure();
  if (!*b)
    return none;
  return std::optional(std::pair(**a, **b));
}

Lowered onnx::scaleSums(GraphLowering &g, Lowered sums,
                        const std::pair<IntegerFactor, IntegerFactor> &factors,
                        int64_t axis) {
  Lowered scales = factors.second.scales;
  if (scales.getRank() == 1) {
    SmallVector<int64_t> shape(size_t(sums.getRank()), 1);
    shape[size_t(axis)] = scales.dim(0);
    scales = g.reshape(scales, shape);
  }
  Type real = g.builder.getF32Type(), wide = g.builder.getI32Type();
  return g.map({sums, factors.first.scales, scales}, sums.getShape(), real,
               [&](Scalars &s, ValueRange v) -> Value {
                 return s.mul(s.cast(v[0], wide, real), s.mul(v[1], v[2]));
               });
}

static LogicalResult lowerMatMul(GraphLowering &g) {
  Lowered a = g.input(0), b = g.input(1);
  if (!a || !b)
    return g.fail("expects two factors");
  if (g.node.getOpType() == "MatMulInteger") {
    FailureOr<Lowered> x = centered(g, a, g.input(2), true);
    FailureOr<Lowered> y = failed(x) ? x : centered(g, b, g.input(3), false);
    if (failed(y))
      return failure();
    FailureOr<Lowered> product = g.matmul(*x, *y, g.builder.getI32Type());
    return failed(product) ? failure() : g.set(*product);
  }
  if (a.element != b.element)
    return g.fail("has factors of different types");
  if (a.getRank() >= 2 && b.getRank() >= 2) {
    auto factors = readFactors(g, 0, 1, b.getRank() - 1, a.getShape().back());
    if (failed(factors))
      return failure();
    if (*factors) {
      FailureOr<Lowered> sums =
          g.matmul((*factors)->first.integers, (*factors)->second.integers,
                   g.builder.getI32Type());
      if (failed(sums))
        return failure();
      return g.set(scaleSums(g, *sums, **factors, sums->getRank() - 1));
    }
  }
  Type sum = a.isFloat() ? g.computeType(a.element) : a.element;
  FailureOr<Lowered> product = g.matmul(a, b, sum);
  return failed(product) ? failure() : g.set(g.convert(*product, a.element));
}

static LogicalResult lowerGemm(GraphLowering &g) {
  Lowered a = g.input(0), b = g.input(1), c = g.input(2);
  if (!a || !b || a.getRank() != 2 || b.getRank() != 2 ||
      a.element != b.element || (c && c.element != a.element))
    return g.fail("expects two matrices of one type");
  bool isTurned = g.getInt("transA", 0), areTurned = g.getInt("transB", 0);
  auto factors =
      readFactors(g, 0, 1, areTurned ? 0 : 1, a.dim(isTurned ? 0 : 1));
  if (failed(factors))
    return failure();
  Type sum = a.isFloat() ? g.computeType(a.element) : a.element;
  if (*factors) {
    a = (*factors)->first.integers;
    b = (*factors)->second.integers;
    sum = g.builder.getI32Type();
  }
  if (isTurned)
    a = g.transpose(a, {1, 0});
  if (areTurned)
    b = g.transpose(b, {1, 0});
  FailureOr<Lowered> product = g.matmul(a, b, sum);
  if (failed(product))
    return failure();
  if (*factors)
    a = *product = scaleSums(g, *product, **factors, 1);
  double alpha = g.getFloat("alpha", 1), beta = g.getFloat("beta", 1);
  if (!a.isFloat() && (alpha != 1 || beta != 1))
    return g.fail("scales integers");
  SmallVector<Lowered> operands = {*product};
  if (c)
    operands.push_back(c);
  FailureOr<SmallVector<int64_t>> shape = g.broadcast(operands);
  if (failed(shape))
    return failure();
  if (*shape != product->getShape())
    return g.fail("has a third operand that does not fit the product");
  return g.set(g.map(operands, *shape, a.element,
                     [&](Scalars &s, ValueRange v) -> Value {
                       Value y = v[0];
                       if (alpha != 1)
                         y = s.mul(y, s.real(alpha, y.getType()));
                       if (!c)
                         return y;
                       Value other = v[1];
                       if (beta != 1)
                         other = s.mul(other, s.real(beta, y.getType()));
                       return s.add(y, other);
                     }));
}

//===----------------------------------------------------------------------===//
// Integers that stand for numbers
//===----------------------------------------------------------------------===//

/// Gives \p scale one element, one a part along \p axis, or one a block, the
/// dimensions that broadcast to those of \p x.
static FailureOr<Lowered> spread(GraphLowering &g, Lowered scale, Lowered x) {
  if (scale.getType().getNumElements() == 1 && scale.getRank() <= 1)
    return g.reshape(scale, {});
  FailureOr<int64_t> axis = g.readAxis(1, x.getRank());
  if (failed(axis))
    return failure();
  int64_t block = g.getInt("block_size", 0);
  if (scale.getRank() == 1 && !block) {
    if (scale.dim(0) != x.dim(*axis))
      return g.fail("has " + Twine(scale.dim(0)) + " scales for " +
                    Twine(x.dim(*axis)) + " parts");
    SmallVector<int64_t> shape(size_t(x.getRank()), 1);
    shape[size_t(*axis)] = scale.dim(0);
    return g.reshape(scale, shape);
  }
  if (block < 1 || scale.getRank() != x.getRank())
    return g.fail("has scales that do not fit its operand");
  for (int64_t i = 0; i < x.getRank(); ++i) {
    int64_t expected = i == *axis ? (x.dim(i) + block - 1) / block : x.dim(i);
    if (scale.dim(i) != expected)
      return g.fail("has " + Twine(scale.dim(i)) + " scales along dimension " +
                    Twine(i) + ", expected " + Twine(expected));
  }
  SmallVector<AffineExpr> access;
  for (int64_t i = 0; i < x.getRank(); ++i)
    access.push_back(g.builder.getAffineDimExpr(unsigned(i)));
  access[size_t(*axis)] = access[size_t(*axis)].floorDiv(uint64_t(block));
  return g.view(
      scale, x.getShape(),
      AffineMap::get(unsigned(x.getRank()), 0, access, g.builder.getContext()));
}

/// x / scale, to nearest, ties to even, plus \p zero, within the range of
/// \p element.
static Value quantizeScalar(Scalars &s, Value x, Value scale, Value zero,
                            Type element) {
  Type type = x.getType();
  Value y = s.make<math::RoundEvenOp>(s.div(x, scale));
  if (zero)
    y = s.add(y, s.cast(zero, element, type));
  return s.cast(y, type, element);
}

static LogicalResult lowerQuantize(GraphLowering &g) {
  Lowered x = g.input(0), scale = g.input(1), zero = g.input(2);
  Type element =
      IntegerType::get(g.builder.getContext(), 8, IntegerType::Unsigned);
  int64_t type = g.getInt("output_dtype", 0);
  if (type || zero)
    element = type ? getElementType(g.builder, type) : zero.element;
  if (!x || !scale || !scale.isFloat() || !element || !isElement(element) ||
      isa<FloatType>(element) || (zero && zero.element != element) ||
      g.getParameter("precision"))
    return g.fail("expects numbers, a scale, and a zero point of 8 or 16 bits");
  FailureOr<Lowered> scales = spread(g, scale, x);
  if (failed(scales))
    return failure();
  Type wide = g.builder.getF32Type();
  SmallVector<Lowered> operands = {g.convert(x, wide),
                                   g.convert(*scales, wide)};
  if (zero) {
    FailureOr<Lowered> zeros = spread(g, zero, x);
    if (failed(zeros))
      return failure();
    operands.push_back(*zeros);
  }
  return g.set(
      g.map(operands, x.getShape(), element, [&](Scalars &s, ValueRange v) {
        return quantizeScalar(s, v[0], v[1], zero ? v[2] : Value(), element);
      }));
}

static LogicalResult lowerDequantize(GraphLowering &g) {
  Lowered x = g.input(0), scale = g.input(1), zero = g.input(2);
  int64_t other = g.getInt("output_dtype", 0);
  Type element = other   ? getElementType(g.builder, other)
                 : scale ? scale.element
                         : Type();
  if (!x || !scale || x.isFloat() || !scale.isFloat() ||
      (zero && zero.element != x.element))
    return g.fail("expects integers, a scale, and a zero point of their type");
  if (!element || !isElement(element) || !isa<FloatType>(element) ||
      g.computeType(element) != g.computeType(scale.element))
    return g.fail("chooses a type of its result that is not supported");
  FailureOr<Lowered> scales = spread(g, scale, x);
  if (failed(scales))
    return failure();
  SmallVector<Lowered> operands = {x, *scales};
  if (zero) {
    FailureOr<Lowered> zeros = spread(g, zero, x);
    if (failed(zeros))
      return failure();
    operands.push_back(*zeros);
  }
  Type wide = g.builder.getI32Type(), real = g.computeType(element);
  return g.set(g.map(operands, x.getShape(), element,
                     [&](Scalars &s, ValueRange v) -> Value {
                       Value y = s.cast(v[0], x.element, wide);
                       if (zero)
                         y = s.sub(y, s.cast(v[2], x.element, wide));
                       return s.mul(s.cast(y, wide, real), v[1]);
                     }));
}

static LogicalResult lowerDynamicQuantize(GraphLowering &g) {
  Lowered x = g.input(0);
  if (!x || !x.element.isF32())
    return g.fail("expects a tensor of f32");
  Type byte =
      IntegerType::get(g.builder.getContext(), 8, IntegerType::Unsigned);
  Type type = x.element;
  SmallVector<int64_t> axes;
  for (int64_t i = 0; i < x.getRank(); ++i)
    axes.push_back(i);
  // The range has zero in it.
  Lowered high = g.reduce(
      x, axes, 0, [](Scalars &s, ValueRange v) { return s.max(v[0], v[1]); });
  Lowered low = g.reduce(
      x, axes, 0, [](Scalars &s, ValueRange v) { return s.min(v[0], v[1]); });
  high = g.reshape(high, {});
  low = g.reshape(low, {});
  Lowered scale =
      g.map({high, low}, {}, type, [&](Scalars &s, ValueRange v) -> Value {
        return s.div(s.sub(v[0], v[1]), s.real(255, type));
      });
  Lowered zero =
      g.map({low, scale}, {}, byte, [&](Scalars &s, ValueRange v) -> Value {
        Value at = s.div(s.sub(s.zero(type), v[0]), v[1]);
        return s.cast(s.make<math::RoundEvenOp>(at), type, byte);
      });
  (void)g.set(1, scale);
  (void)g.set(2, zero);
  return g.set(g.map({x, scale, zero}, x.getShape(), byte,
                     [&](Scalars &s, ValueRange v) {
                       return quantizeScalar(s, v[0], v[1], v[2], byte);
                     }));
}

static LogicalResult lowerQLinearMatMul(GraphLowering &g) {
  for (unsigned i = 0; i < 8; ++i)
    if (!g.input(i))
      return g.fail("expects eight operands");
  Lowered a = g.input(0), b = g.input(3), zero = g.input(7);
  FailureOr<Lowered> x = centered(g, a, g.input(2), true);
  FailureOr<Lowered> y = failed(x) ? x : centered(g, b, g.input(5), false);
  if (failed(y))
    return failure();
  FailureOr<Lowered> product = g.matmul(*x, *y, g.builder.getI32Type());
  if (failed(product))
    return failure();
  SmallVector<Lowered> operands = {*product};
  for (unsigned i : {1u, 4u, 6u}) {
    Lowered scale = g.input(i);
    if (scale.getType().getNumElements() != 1)
      return g.fail("expects one scale a factor");
    operands.push_back(g.convert(g.reshape(scale, {}), g.builder.getF32Type()));
  }
  if (zero.getType().getNumElements() != 1)
    return g.fail("expects one zero point of the result");
  operands.push_back(g.reshape(zero, {}));
  Type wide = g.builder.getF32Type(), element = zero.element;
  return g.set(g.map(operands, product->getShape(), element,
                     [&](Scalars &s, ValueRange v) -> Value {
                       Value y = s.cast(v[0], s.builder.getI32Type(), wide);
                       Value scale = s.div(s.mul(v[1], v[2]), v[3]);
                       Value r = s.make<math::RoundEvenOp>(s.mul(y, scale));
                       r = s.add(r, s.cast(v[4], element, wide));
                       return s.cast(r, wide, element);
                     }));
}

LowerRule onnx::findProductRule(StringRef type) {
  return llvm::StringSwitch<LowerRule>(type)
      .Cases({"MatMul", "MatMulInteger"}, lowerMatMul)
      .Case("Gemm", lowerGemm)
      .Case("QuantizeLinear", lowerQuantize)
      .Case("DequantizeLinear", lowerDequantize)
      .Case("DynamicQuantizeLinear", lowerDynamicQuantize)
      .Case("QLinearMatMul", lowerQLinearMatMul)
      .Default(nullptr);
}
