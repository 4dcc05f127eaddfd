// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that compute each element of a result from one of each operand.
// Definitions are those of https://onnx.ai/onnx/operators.

#include "lib/Import/ONNX/GraphImporter.h"
#include "lib/Import/ONNX/GraphLowering.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

//===----------------------------------------------------------------------===//
// Functions of one number
//===----------------------------------------------------------------------===//

namespace {
/// The attributes `alpha`, `beta` or what stands for them.
struct Parameters {
  double alpha = 0, beta = 0;
  StringRef text;
};

using RealFunction = Value (*)(Scalars &, Value, const Parameters &);

/// A function of floats, and the defaults of its attributes.
struct RealRule {
  StringLiteral name;
  RealFunction function;
  StringLiteral alphaName = "";
  double alpha = 0;
  StringLiteral betaName = "";
  double beta = 0;
  StringLiteral textName = "";
  StringLiteral text = "";
};
} // namespace

template <typename Op>
static Value apply(Scalars &s, Value x, const Parameters &) {
  return s.make<Op>(x);
}

static Value constant(Scalars &s, Value like, double value) {
  return s.real(value, like.getType());
}

static Value erf(Scalars &s, Value x) { return s.make<math::ErfOp>(x); }

static Value tanh(Scalars &s, Value x) { return s.make<math::TanhOp>(x); }

/// log(1 + exp(x)), without overflow: max(x, 0) + log1p(exp(-|x|)).
static Value softplus(Scalars &s, Value x) {
  Value zero = s.zero(x.getType());
  Value size = s.make<math::AbsFOp>(x);
  Value power = s.make<math::ExpOp>(s.make<arith::NegFOp>(size));
  return s.add(s.max(x, zero), s.make<math::Log1pOp>(power));
}

static Value gelu(Scalars &s, Value x, bool isTanh) {
  Value half = constant(s, x, 0.5), one = constant(s, x, 1);
  Value inner;
  if (isTanh) {
    Value cube = s.mul(s.mul(x, x), x);
    inner = tanh(s, s.mul(constant(s, x, std::sqrt(2 / M_PI)),
                          s.add(x, s.mul(constant(s, x, 0.044715), cube))));
  } else {
    inner = erf(s, s.mul(x, constant(s, x, std::sqrt(0.5))));
  }
  return s.mul(s.mul(half, x), s.add(one, inner));
}

/// x where it is positive, else \p negative.
static Value positiveOr(Scalars &s, Value x, Value negative) {
  return s.select(s.compare("gt", x, s.zero(x.getType())), x, negative);
}

static Value clampUnit(Scalars &s, Value x) {
  return s.max(constant(s, x, 0), s.min(constant(s, x, 1), x));
}

static const RealRule realRules[] = {
    {"Sqrt", apply<math::SqrtOp>},
    {"Exp", apply<math::ExpOp>},
    {"Log", apply<math::LogOp>},
    {"Sin", apply<math::SinOp>},
    {"Cos", apply<math::CosOp>},
    {"Tan", apply<math::TanOp>},
    {"Asin", apply<math::AsinOp>},
    {"Acos", apply<math::AcosOp>},
    {"Atan", apply<math::AtanOp>},
    {"Sinh", apply<math::SinhOp>},
    {"Cosh", apply<math::CoshOp>},
    {"Tanh", apply<math::TanhOp>},
    {"Asinh", apply<math::AsinhOp>},
    {"Acosh", apply<math::AcoshOp>},
    {"Atanh", apply<math::AtanhOp>},
    {"Erf", apply<math::ErfOp>},
    {"Ceil", apply<math::CeilOp>},
    {"Floor", apply<math::FloorOp>},
    {"Round", apply<math::RoundEvenOp>},
    {"Reciprocal",
     [](Scalars &s, Value x, const Parameters &) {
       return s.div(constant(s, x, 1), x);
     }},
    {"Sigmoid",
     [](Scalars &s, Value x, const Parameters &) { return s.sigmoid(x); }},
    {"Swish",
     [](Scalars &s, Value x, const Parameters &p) {
       return s.mul(x, s.sigmoid(s.mul(constant(s, x, p.alpha), x)));
     },
     "alpha", 1},
    {"com.microsoft.QuickGelu",
     [](Scalars &s, Value x, const Parameters &p) {
       return s.mul(x, s.sigmoid(s.mul(constant(s, x, p.alpha), x)));
     },
     "alpha", 1.702},
    {"Gelu",
     [](Scalars &s, Value x, const Parameters &p) {
       return gelu(s, x, p.text == "tanh");
     },
     "", 0, "", 0, "approximate", "none"},
    {"com.microsoft.Gelu",
     [](Scalars &s, Value x, const Parameters &) { return gelu(s, x, false); }},
    {"LeakyRelu",
     [](Scalars &s, Value x, const Parameters &p) {
       return s.select(s.compare("lt", x, s.zero(x.getType())),
                       s.mul(constant(s, x, p.alpha), x), x);
     },
     "alpha", 0.01},
    {"Elu",
     [](Scalars &s, Value x, const Parameters &p) {
       return positiveOr(
           s, x, s.mul(constant(s, x, p.alpha), s.make<math::ExpM1Op>(x)));
     },
     "alpha", 1},
    {"Selu",
     [](Scalars &s, Value x, const Parameters &p) {
       Value below = s.mul(constant(s, x, p.alpha), s.make<math::ExpM1Op>(x));
       return s.mul(constant(s, x, p.beta), positiveOr(s, x, below));
     },
     "alpha", 1.67326319217681884765625, "gamma", 1.05070102214813232421875},
    {"Celu",
     [](Scalars &s, Value x, const Parameters &p) {
       Value alpha = constant(s, x, p.alpha);
       Value below = s.mul(alpha, s.make<math::ExpM1Op>(s.div(x, alpha)));
       return positiveOr(s, x, below);
     },
     "alpha", 1},
    {"HardSigmoid",
     [](Scalars &s, Value x, const Parameters &p) {
       return clampUnit(
           s, s.add(s.mul(constant(s, x, p.alpha), x), constant(s, x, p.beta)));
     },
     "alpha", 0.2, "beta", 0.5},
    {"HardSwish",
     [](Scalars &s, Value x, const Parameters &) {
       return s.mul(x, clampUnit(s, s.add(s.mul(constant(s, x, 1.0 / 6), x),
                                          constant(s, x, 0.5))));
     }},
    {"Softplus",
     [](Scalars &s, Value x, const Parameters &) { return softplus(s, x); }},
    {"Softsign",
     [](Scalars &s, Value x, const Parameters &) {
       return s.div(x, s.add(constant(s, x, 1), s.make<math::AbsFOp>(x)));
     }},
    {"Mish",
     [](Scalars &s, Value x, const Parameters &) {
       return s.mul(x, tanh(s, softplus(s, x)));
     }},
    {"ThresholdedRelu",
     [](Scalars &s, Value x, const Parameters &p) {
       return s.select(s.compare("gt", x, constant(s, x, p.alpha)), x,
                       s.zero(x.getType()));
     },
     "alpha", 1},
    {"Shrink",
     [](Scalars &s, Value x, const Parameters &p) {
       Value bias = constant(s, x, p.alpha);
       Value isLow = s.compare("lt", x, constant(s, x, -p.beta));
       Value isHigh = s.compare("gt", x, constant(s, x, p.beta));
       return s.select(isLow, s.add(x, bias),
                       s.select(isHigh, s.sub(x, bias), s.zero(x.getType())));
     },
     "bias", 0, "lambd", 0.5},
};

static const RealRule *findReal(StringRef type) {
  for (const RealRule &rule : realRules)
    if (type == rule.name)
      return &rule;
  return nullptr;
}

static LogicalResult lowerReal(GraphLowering &g) {
  const RealRule &rule = *findReal(g.node.getOpType());
  Lowered x = g.input(0);
  if (!x || !x.isFloat())
    return g.fail("expects a tensor of floats");
  Parameters parameters;
  if (!rule.alphaName.empty())
    parameters.alpha = g.getFloat(rule.alphaName, rule.alpha);
  if (!rule.betaName.empty())
    parameters.beta = g.getFloat(rule.betaName, rule.beta);
  if (!rule.textName.empty())
    parameters.text = g.getString(rule.textName, rule.text);
  return g.set(g.map(x, x.getShape(), x.element, [&](Scalars &s, ValueRange v) {
    return rule.function(s, v[0], parameters);
  }));
}

/// Functions that integers have, too.
static LogicalResult lowerUnary(GraphLowering &g) {
  StringRef type = g.node.getOpType();
  Lowered x = g.input(0);
  if (!x)
    return g.fail("expects an operand");
  Type element = x.element;
  bool isPredicate = type == "IsNaN" || type == "IsInf";
  bool isInteger = isa<IntegerType>(element);
  if ((isPredicate && isInteger) || (type == "Not" && !element.isInteger(1)) ||
      (type == "BitwiseNot" && !isInteger))
    return g.fail("does not take such elements");
  bool findsHigh = g.getInt("detect_positive", 1);
  bool findsLow = g.getInt("detect_negative", 1);
  if (isPredicate)
    element = g.builder.getI1Type();
  return g.set(
      g.map(x, x.getShape(), element, [&](Scalars &s, ValueRange v) -> Value {
        Value y = v[0], zero = s.zero(y.getType());
        if (type == "Neg")
          return isInteger ? s.sub(zero, y) : s.make<arith::NegFOp>(y);
        if (type == "Abs") {
          if (!isInteger)
            return s.make<math::AbsFOp>(y);
          return x.isUnsigned() ? y : s.make<math::AbsIOp>(y);
        }
        if (type == "Relu")
          return s.max(y, zero, x.isUnsigned());
        if (type == "Sign") {
          bool isUnsigned = x.isUnsigned();
          Type own = y.getType();
          Value one = isInteger ? s.integer(1, own) : s.real(1, own);
          Value minus = isInteger ? s.integer(-1, own) : s.real(-1, own);
          Value above = s.compare("gt", y, zero, isUnsigned);
          Value below = s.compare("lt", y, zero, isUnsigned);
          return s.select(above, one, s.select(below, minus, zero));
        }
        if (type == "Not" || type == "BitwiseNot")
          return s.make<arith::XOrIOp>(y, s.integer(-1, y.getType()));
        if (type == "IsNaN")
          return s.make<arith::CmpFOp>(arith::CmpFPredicate::UNO, y, y);
        double infinity = std::numeric_limits<double>::infinity();
        Value none = s.integer(0, element);
        Value high = findsHigh
                         ? s.compare("eq", y, s.real(infinity, y.getType()))
                         : none;
        Value low = findsLow
                        ? s.compare("eq", y, s.real(-infinity, y.getType()))
                        : none;
        return s.either(high, low);
      }));
}

//===----------------------------------------------------------------------===//
// Functions of two numbers
//===----------------------------------------------------------------------===//

/// Quotients of integers, rounded towards zero. A division by zero is checked
/// elsewhere and gives 0; the lowest number by -1 is itself.
static Value divideIntegers(Scalars &s, Value x, Value y, bool isUnsigned,
                            bool isRemainder) {
  Type type = y.getType();
  Value zero = s.zero(type), one = s.integer(1, type);
  Value isZero = s.compare("eq", y, zero);
  if (isUnsigned) {
    Value divisor = s.select(isZero, one, y);
    Value result = isRemainder ? Value(s.make<arith::RemUIOp>(x, divisor))
                               : Value(s.make<arith::DivUIOp>(x, divisor));
    return s.select(isZero, zero, result);
  }
  Value isMinus = s.compare("eq", y, s.integer(-1, type));
  Value divisor = s.select(s.either(isZero, isMinus), one, y);
  Value result = isRemainder ? Value(s.make<arith::RemSIOp>(x, divisor))
                             : Value(s.make<arith::DivSIOp>(x, divisor));
  Value ofMinus = isRemainder ? zero : s.sub(zero, x);
  return s.select(isZero, zero, s.select(isMinus, ofMinus, result));
}

/// The remainder that has the sign of the divisor.
static Value floorRemainder(Scalars &s, Value rest, Value y) {
  Value zero = s.zero(y.getType());
  Value isOpposite = s.make<arith::XOrIOp>(s.compare("lt", rest, zero),
                                           s.compare("lt", y, zero));
  // A zero has the sign of the divisor, too.
  if (isa<FloatType>(y.getType()))
    rest = s.select(s.compare("eq", rest, zero),
                    s.make<math::CopySignOp>(zero, y), rest);
  Value isMoved = s.both(s.compare("ne", rest, zero), isOpposite);
  return s.select(isMoved, s.add(rest, y), rest);
}

/// x to the power of an integer below 2^32, by squares; it wraps around.
static Value powerOfIntegers(Scalars &s, Value x, Value y, Type yElement) {
  Type type = x.getType(), wide = s.builder.getI64Type();
  Value exponent = s.cast(y, yElement, wide), base = x;
  Value result = s.integer(1, type), one = s.integer(1, wide);
  Value zero = s.zero(wide);
  auto bitOf = [&](unsigned i) {
    Value shifted = s.make<arith::ShRSIOp>(exponent, s.integer(i, wide));
    return s.compare("ne", s.make<arith::AndIOp>(shifted, one), zero);
  };
  for (unsigned i = 0; i < 32; ++i) {
    result = s.select(bitOf(i), s.mul(result, base), result);
    base = s.mul(base, base);
  }
  // 1 / x^-y, rounded towards zero: 0, but for 1 and -1.
  Value plus = s.integer(1, type), minus = s.integer(-1, type);
  Value ofMinus = s.select(bitOf(0), minus, plus);
  Value inverse = s.select(s.compare("eq", x, plus), plus, s.zero(type));
  inverse = s.select(s.compare("eq", x, minus), ofMinus, inverse);
  return s.select(s.compare("lt", exponent, zero), inverse, result);
}

/// Bits that are shifted past an end are lost; what comes in is the sign.
static Value bitShift(Scalars &s, Value x, Value y, bool isLeft,
                      bool isUnsigned) {
  Type type = y.getType();
  int64_t width = type.getIntOrFloatBitWidth();
  Value isWithin =
      s.compare("lt", y, s.integer(width, type), /*isUnsigned=*/true);
  if (!isLeft && !isUnsigned)
    return s.make<arith::ShRSIOp>(
        x, s.select(isWithin, y, s.integer(width - 1, type)));
  Value by = s.select(isWithin, y, s.zero(type));
  Value shifted = isLeft ? Value(s.make<arith::ShLIOp>(x, by))
                         : Value(s.make<arith::ShRUIOp>(x, by));
  return s.select(isWithin, shifted, s.zero(type));
}

static StringRef findComparison(StringRef type) {
  return llvm::StringSwitch<StringRef>(type)
      .Case("Equal", "eq")
      .Case("Less", "lt")
      .Case("LessOrEqual", "le")
      .Case("Greater", "gt")
      .Case("GreaterOrEqual", "ge")
      .Default("");
}

static Value combine(Scalars &s, GraphLowering &g, StringRef type, Value x,
                     Value y, bool isUnsigned) {
  bool isReal = isa<FloatType>(x.getType());
  if (StringRef name = findComparison(type); !name.empty())
    return s.compare(name, x, y, isUnsigned);
  if (type == "Add" || type == "Sum" || type == "Mean")
    return s.add(x, y);
  if (type == "Sub")
    return s.sub(x, y);
  if (type == "Mul")
    return s.mul(x, y);
  if (type == "Max")
    return s.max(x, y, isUnsigned);
  if (type == "Min")
    return s.min(x, y, isUnsigned);
  if (type == "And" || type == "BitwiseAnd")
    return s.both(x, y);
  if (type == "Or" || type == "BitwiseOr")
    return s.either(x, y);
  if (type == "Xor" || type == "BitwiseXor")
    return s.make<arith::XOrIOp>(x, y);
  if (type == "Div")
    return isReal ? s.div(x, y) : divideIntegers(s, x, y, isUnsigned, false);
  if (type == "BitShift")
    return bitShift(s, x, y, g.getString("direction", "") == "LEFT",
                    isUnsigned);
  if (type == "PRelu") {
    Value isNegative = s.compare("lt", x, s.zero(x.getType()), isUnsigned);
    return s.select(isNegative, s.mul(x, y), x);
  }
  // Mod: the sign of the dividend with fmod, else that of the divisor.
  bool isC = g.getInt("fmod", 0);
  if (isReal) {
    Value rest = s.make<arith::RemFOp>(x, y);
    return isC ? rest : floorRemainder(s, rest, y);
  }
  Value rest = divideIntegers(s, x, y, isUnsigned, true);
  return isC || isUnsigned ? rest : floorRemainder(s, rest, y);
}

/// Makes the run fail if an element of \p divisor is zero.
static void checkDivisor(GraphLowering &g, Lowered divisor) {
  g.check(g.map(divisor, divisor.getShape(), g.builder.getI1Type(),
                [](Scalars &s, ValueRange v) {
                  return s.compare("eq", v[0], s.zero(v[0].getType()));
                }));
}

static LogicalResult lowerBinary(GraphLowering &g) {
  StringRef type = g.node.getOpType();
  SmallVector<Lowered> operands;
  for (unsigned i = 0; i < g.node.getInputs().size(); ++i)
    operands.push_back(g.input(i));
  bool isVariadic = llvm::is_contained({"Max", "Min", "Sum", "Mean"}, type);
  if (operands.empty() || (!isVariadic && operands.size() != 2) ||
      llvm::any_of(operands, [](const Lowered &x) { return !x; }))
    return g.fail("expects " + Twine(isVariadic ? "operands" : "two operands"));
  Type element = operands[0].element;
  for (const Lowered &operand : operands)
    if (operand.element != element)
      return g.fail("has operands of different types");
  bool isInteger = isa<IntegerType>(element), isBool = element.isInteger(1);
  bool isLogic = llvm::is_contained({"And", "Or", "Xor"}, type);
  bool isBits = llvm::is_contained(
      {"BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift"}, type);
  StringRef comparison = findComparison(type);
  if ((isLogic && !isBool) || (isBits && (!isInteger || isBool)) ||
      (!isLogic && comparison != "eq" && isBool) ||
      (type == "Mean" && isInteger))
    return g.fail("does not take such elements");
  FailureOr<SmallVector<int64_t>> shape = g.broadcast(operands);
  if (failed(shape))
    return failure();
  if (type == "PRelu" && *shape != operands[0].getShape())
    return g.fail("has a slope that does not fit its operand");
  if (isInteger && (type == "Div" || type == "Mod"))
    checkDivisor(g, operands[1]);
  Type result = comparison.empty() ? element : g.builder.getI1Type();
  bool isUnsigned = operands[0].isUnsigned();
  return g.set(
      g.map(operands, *shape, result, [&](Scalars &s, ValueRange v) -> Value {
        Value x = v[0];
        for (Value y : v.drop_front())
          x = combine(s, g, type, x, y, isUnsigned);
        if (type == "Mean")
          x = s.div(x, s.real(double(v.size()), x.getType()));
        return x;
      }));
}

static LogicalResult lowerPow(GraphLowering &g) {
  Lowered x = g.input(0), y = g.input(1);
  if (!x || !y)
    return g.fail("expects two operands");
  FailureOr<SmallVector<int64_t>> shape = g.broadcast({x, y});
  if (failed(shape))
    return failure();
  return g.set(
      g.map({x, y}, *shape, x.element, [&](Scalars &s, ValueRange v) -> Value {
        if (!x.isFloat() && !y.isFloat())
          return powerOfIntegers(s, v[0], v[1], y.element);
        Type type = x.isFloat() ? v[0].getType() : Type(s.builder.getF64Type());
        Value base = x.isFloat() ? v[0] : s.cast(v[0], x.element, type);
        Type exponentType = y.isFloat() ? v[1].getType() : y.element;
        Value exponent = s.cast(v[1], exponentType, type);
        Value result = s.make<math::PowFOp>(base, exponent);
        return x.isFloat() ? result : s.cast(result, type, x.element);
      }));
}

//===----------------------------------------------------------------------===//
// Others
//===----------------------------------------------------------------------===//

static LogicalResult lowerWhere(GraphLowering &g) {
  Lowered condition = g.input(0), x = g.input(1), y = g.input(2);
  if (!condition || !x || !y || !condition.element.isInteger(1) ||
      x.element != y.element)
    return g.fail("expects a condition and two operands of one type");
  FailureOr<SmallVector<int64_t>> shape = g.broadcast({condition, x, y});
  if (failed(shape))
    return failure();
  return g.set(
      g.map({condition, x, y}, *shape, x.element, [](Scalars &s, ValueRange v) {
        return s.select(v[0], v[1], v[2]);
      }));
}

static LogicalResult lowerClip(GraphLowering &g) {
  Lowered x = g.input(0);
  if (!x)
    return g.fail("expects an operand");
  SmallVector<Lowered> operands = {x};
  // Attributes before opset 11, operands since.
  for (auto [i, name] : {std::pair(1u, "min"), std::pair(2u, "max")}) {
    Lowered bound = g.input(i);
    if (auto value = dyn_cast_or_null<FloatAttr>(g.getParameter(name)))
      bound = g.splat(value.getValueAsDouble(), x.element);
    if (bound &&
        (bound.element != x.element || bound.getType().getNumElements() != 1))
      return g.fail("expects bounds that are a number of the operand's type");
    operands.push_back(bound ? g.reshape(bound, {}) : bound);
  }
  bool hasLow = bool(operands[1]), hasHigh = bool(operands[2]);
  llvm::erase_if(operands, [](const Lowered &each) { return !each; });
  bool isUnsigned = x.isUnsigned();
  return g.set(g.map(operands, x.getShape(), x.element,
                     [&](Scalars &s, ValueRange v) -> Value {
                       Value y = v[0];
                       if (hasLow)
                         y = s.max(y, v[1], isUnsigned);
                       if (hasHigh)
                         y = s.min(y, v.back(), isUnsigned);
                       return y;
                     }));
}

static LogicalResult lowerCast(GraphLowering &g) {
  Lowered x = g.input(0);
  Type to;
  if (g.node.getOpType() == "CastLike") {
    Lowered like = g.input(1);
    to = like ? like.element : Type();
  } else {
    to = getElementType(g.builder, g.getInt("to", 0));
    if (!to || !isElement(to))
      return g.fail("casts to type " + Twine(g.getInt("to", 0)) +
                    ", which is not supported");
  }
  if (!x || !to)
    return g.fail("expects an operand");
  return g.set(g.convert(x, to));
}

static LogicalResult lowerIdentity(GraphLowering &g) {
  Lowered x = g.input(0);
  if (!x)
    return g.fail("expects an operand");
  if (g.node.getOpType() == "Dropout") {
    auto training = g.has(2) ? g.integers(2) : SmallVector<int64_t>{0};
    if (!training || *training != SmallVector<int64_t>{0})
      return g.fail("drops elements, as in training");
    (void)g.set(1, g.splat(1, g.builder.getI1Type(), x.getShape()));
  }
  return g.set(x);
}

LowerRule onnx::findElementwiseRule(StringRef type) {
  if (findReal(type))
    return lowerReal;
  return llvm::StringSwitch<LowerRule>(type)
      .Cases(
          {"Neg", "Abs", "Relu", "Sign", "Not", "BitwiseNot", "IsNaN", "IsInf"},
          lowerUnary)
      .Cases({"Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Sum", "Mean"},
             lowerBinary)
      .Cases({"And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater",
              "GreaterOrEqual"},
             lowerBinary)
      .Cases({"BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift", "PRelu"},
             lowerBinary)
      .Case("Pow", lowerPow)
      .Case("Where", lowerWhere)
      .Case("Clip", lowerClip)
      .Cases({"Cast", "CastLike"}, lowerCast)
      .Cases({"Identity", "Dropout"}, lowerIdentity)
      .Default(nullptr);
}
