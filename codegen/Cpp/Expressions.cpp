// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What each op of arith, math, vector and memref is in C++. An op, a type or a
// predicate that is not here is refused by name.

#include "codegen/Cpp/BodyEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace hadal;
using Binding = CppExpression::Binding;

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

static std::string getNumber(Attribute value) {
  if (auto number = dyn_cast<FloatAttr>(value))
    return getCppFloat(number.getValue());
  APInt integer = cast<IntegerAttr>(value).getValue();
  if (integer.getBitWidth() == 1)
    return integer.isZero() ? "false" : "true";
  if (integer.isMinSignedValue() && integer.getBitWidth() == 32)
    return "INT32_MIN";
  if (integer.isMinSignedValue() && integer.getBitWidth() == 64)
    return "INT64_MIN";
  llvm::SmallString<24> text;
  integer.toStringSigned(text);
  return text.str().str();
}

CppExpression BodyEmitter::expressConstant(Attribute value, Type type) {
  auto number = [](Attribute value) {
    std::string text = getNumber(value);
    return CppExpression{text,
                         text[0] == '-' ? Binding::Unary : Binding::Primary};
  };
  auto elements = dyn_cast<DenseElementsAttr>(value);
  if (!elements)
    return number(value);
  std::string name = getCppType(type);
  if (elements.isSplat()) {
    auto splat = elements.getSplatValue<Attribute>();
    if (elements.getElementType().isInteger(1))
      return {"splat<" + name + ">(" +
              (cast<IntegerAttr>(splat).getValue().isZero() ? "0" : "-1") +
              ")"};
    return {"splat<" + name + ">(" + getNumber(splat) + ")"};
  }
  std::string list;
  for (Attribute element : elements.getValues<Attribute>())
    list += (list.empty() ? "" : ", ") + getNumber(element);
  return {name + "{" + list + "}"};
}

CppExpression BodyEmitter::get(Value value) {
  auto found = expressions.find(value);
  assert(found != expressions.end() && "a value is written before its uses");
  return found->second;
}

CppExpression BodyEmitter::lane(Value value) {
  Type element = getElementTypeOrSelf(value);
  if (isa<VectorType>(value.getType()) &&
      (element.isF32() || element.isInteger(32))) {
    DenseElementsAttr splat;
    if (matchPattern(value, m_Constant(&splat)) && splat.isSplat())
      return expressConstant(splat.getSplatValue<Attribute>(), element);
    auto broadcast = value.getDefiningOp<vector::BroadcastOp>();
    if (broadcast && inlined.contains(broadcast) &&
        !isa<VectorType>(broadcast.getSource().getType()))
      return get(broadcast.getSource());
  }
  return get(value);
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// The sum of indices times strides, without zeros: "256 * row + k"; empty: 0.
std::string BodyEmitter::offset(Value memref, ValueRange indices) {
  SmallVector<int64_t> strides;
  int64_t ignored, constant = 0;
  // Only types with static strides get here.
  (void)cast<MemRefType>(memref.getType())
      .getStridesAndOffset(strides, ignored);
  std::string sum;
  for (auto [index, stride] : llvm::zip_equal(indices, strides)) {
    Value base = index;
    APInt number;
    // "(k + 1)" of a row is "k", and then the constant of all.
    if (auto add = base.getDefiningOp<arith::AddIOp>();
        add && inlined.contains(add) &&
        matchPattern(add.getRhs(), m_ConstantInt(&number))) {
      constant += number.getSExtValue() * stride;
      base = add.getLhs();
    }
    if (matchPattern(base, m_ConstantInt(&number))) {
      constant += number.getSExtValue() * stride;
      continue;
    }
    if (!sum.empty())
      sum += " + ";
    sum += stride == 1
               ? text(base, Binding::Sum)
               : text(base, Binding::Product) + " * " + std::to_string(stride);
  }
  if (constant != 0)
    sum += (sum.empty() ? "" : " + ") + std::to_string(constant);
  return sum;
}

std::string BodyEmitter::address(Value memref, ValueRange indices) {
  std::string sum = offset(memref, indices);
  return text(memref) + (sum.empty() ? "" : " + " + sum);
}

std::string BodyEmitter::subscript(Value memref, ValueRange indices) {
  std::string sum = offset(memref, indices);
  return text(memref, Binding::Primary) + "[" + (sum.empty() ? "0" : sum) + "]";
}

//===----------------------------------------------------------------------===//
// Operations
//===----------------------------------------------------------------------===//

CppExpression BodyEmitter::infix(Operation *op, StringRef sign,
                                 Binding binding) {
  Value left = op->getOperand(0), right = op->getOperand(1);
  // One of the two has to be a vector where the result is one.
  CppExpression b = lane(right);
  bool isScalar = isa<VectorType>(right.getType()) && b.text != text(right);
  CppExpression a = isScalar ? get(left) : lane(left);
  // Bits and comparisons mix with nothing, as compilers ask for.
  bool isPlain = binding == Binding::Sum || binding == Binding::Product;
  Binding least = isPlain                          ? binding
                  : binding == Binding::Comparison ? Binding::Sum
                                                   : Binding::Unary;
  // a - (b + c), a / (b * c) and sums of floats keep their parentheses.
  Binding leastRight =
      isPlain ? Binding(std::min<int>(binding + 1, Binding::Primary)) : least;
  bool isAssociative = isa<arith::AddIOp, arith::MulIOp>(op);
  return {a.at(least) + " " + sign.str() + " " +
              b.at(isAssociative ? least : leastRight),
          binding};
}

CppExpression BodyEmitter::call(StringRef callee, ValueRange operands) {
  std::string list;
  for (Value operand : operands)
    list += (list.empty() ? "" : ", ") + text(operand);
  return {callee.str() + "(" + list + ")"};
}

/// The sign of an integer comparison; empty: there is none in C++.
static StringRef getSign(arith::CmpIPredicate predicate) {
  switch (predicate) {
  case arith::CmpIPredicate::eq:
    return "==";
  case arith::CmpIPredicate::ne:
    return "!=";
  case arith::CmpIPredicate::slt:
    return "<";
  case arith::CmpIPredicate::sle:
    return "<=";
  case arith::CmpIPredicate::sgt:
    return ">";
  case arith::CmpIPredicate::sge:
    return ">=";
  default:
    return "";
  }
}

static StringRef getSign(arith::CmpFPredicate predicate) {
  switch (predicate) {
  case arith::CmpFPredicate::OEQ:
    return "==";
  case arith::CmpFPredicate::UNE:
    return "!=";
  case arith::CmpFPredicate::OLT:
    return "<";
  case arith::CmpFPredicate::OLE:
    return "<=";
  case arith::CmpFPredicate::OGT:
    return ">";
  case arith::CmpFPredicate::OGE:
    return ">=";
  default:
    return "";
  }
}

/// The word for a shuffle of one vector, or of two.
static std::string getShuffle(vector::ShuffleOp op, bool &takesTwo) {
  ArrayRef<int64_t> mask = op.getMask();
  int64_t lanes = op.getV1VectorType().getDimSize(0), count = mask.size();
  auto isRun = [&](int64_t begin, int64_t stride) {
    for (int64_t i = 0; i < count; ++i)
      if (mask[i] != begin + i * stride)
        return false;
    return true;
  };
  takesTwo = llvm::any_of(mask, [&](int64_t lane) { return lane >= lanes; });
  if (!takesTwo && 2 * count == lanes && isRun(0, 1))
    return "low";
  if (!takesTwo && 2 * count == lanes && isRun(lanes / 2, 1))
    return "high";
  if (!takesTwo && isRun(mask[0], 1))
    return "slice<" + std::to_string(mask[0]) + ", " + std::to_string(count) +
           ">";
  if (!takesTwo && lanes % count == 0 && isRun(mask[0], lanes / count))
    return "every<" + std::to_string(lanes / count) + ", " +
           std::to_string(mask[0]) + ">";
  if (takesTwo && count == 2 * lanes && isRun(0, 1))
    return "join";
  std::string list;
  for (int64_t lane : mask)
    list += (list.empty() ? "" : ", ") + std::to_string(lane);
  return "shuffle<" + list + ">";
}

std::optional<CppExpression> BodyEmitter::express(Operation *op) {
  using Result = std::optional<CppExpression>;
  if (auto idiom = idioms.find(op); idiom != idioms.end())
    return call(idiom->second.callee, idiom->second.operands);
  Type type = op->getResult(0).getType(), element = getElementTypeOrSelf(type);
  std::string name = getCppType(type);
  bool isVector = isa<VectorType>(type);
  auto refuse = [] { return Result(); };
  auto infixOf = [&](StringRef sign, Binding binding) {
    return Result(infix(op, sign, binding));
  };
  // Conversions of lanes, and of numbers.
  auto convert = [&](StringRef word) {
    return Result(call((word + "<" + name + ">").str(), op->getOperands()));
  };
  auto isStatic = [](MemRefType memref) {
    SmallVector<int64_t> strides;
    int64_t offset;
    return succeeded(memref.getStridesAndOffset(strides, offset)) &&
           !llvm::is_contained(strides, ShapedType::kDynamic);
  };
  // `narrow` and `widen` are named after the type of 16 bits.
  auto half = [&](StringRef word, Type shortType) {
    if (!shortType.isBF16() && !shortType.isF16())
      return Result();
    return Result(call((word + (shortType.isBF16() ? "_bf16" : "_f16")).str(),
                       op->getOperands()));
  };

  return llvm::TypeSwitch<Operation *, Result>(op)
      .Case([&](arith::ConstantOp op) {
        return Result(expressConstant(op.getValue(), type));
      })
      .Case([&](arith::AddIOp) { return infixOf("+", Binding::Sum); })
      .Case([&](arith::AddFOp) { return infixOf("+", Binding::Sum); })
      .Case([&](arith::SubIOp) { return infixOf("-", Binding::Sum); })
      .Case([&](arith::SubFOp) { return infixOf("-", Binding::Sum); })
      .Case([&](arith::MulIOp) { return infixOf("*", Binding::Product); })
      .Case([&](arith::MulFOp) { return infixOf("*", Binding::Product); })
      .Case([&](arith::DivFOp) { return infixOf("/", Binding::Product); })
      .Case([&](arith::AndIOp) {
        return infixOf(type.isInteger(1) ? "&&" : "&", Binding::Bits);
      })
      .Case([&](arith::OrIOp) {
        return infixOf(type.isInteger(1) ? "||" : "|", Binding::Bits);
      })
      .Case([&](arith::XOrIOp) {
        return infixOf(type.isInteger(1) ? "!=" : "^", Binding::Bits);
      })
      .Case([&](arith::ShLIOp) { return infixOf("<<", Binding::Bits); })
      .Case([&](arith::ShRSIOp) { return infixOf(">>", Binding::Bits); })
      .Case([&](arith::ShRUIOp) {
        return Result(call("shift_right", op->getOperands()));
      })
      .Case([&](arith::NegFOp op) {
        return Result(
            {"-" + text(op.getOperand(), Binding::Unary), Binding::Unary});
      })
      .Case<arith::DivUIOp, arith::RemUIOp, arith::MinUIOp, arith::MaxUIOp>(
          [&](Operation *op) {
            if (!isa<IndexType>(type))
              return refuse();
            StringRef word = isa<arith::DivUIOp>(op)   ? "udiv"
                             : isa<arith::RemUIOp>(op) ? "urem"
                             : isa<arith::MinUIOp>(op) ? "umin"
                                                       : "umax";
            return Result(call(word, op->getOperands()));
          })
      .Case([&](arith::MinSIOp op) {
        return Result(call("min", op->getOperands()));
      })
      .Case([&](arith::MaxSIOp op) {
        return Result(call("max", op->getOperands()));
      })
      .Case([&](arith::CmpIOp op) {
        StringRef sign = getSign(op.getPredicate());
        Type compared = op.getLhs().getType();
        // A lane of a mask is as wide as those that are compared.
        if (isVector && !getElementTypeOrSelf(compared).isInteger(32))
          return refuse();
        // Both words take what is less first.
        Value a = op.getLhs(), b = op.getRhs();
        if (!compared.isInteger(1))
          switch (op.getPredicate()) {
          case arith::CmpIPredicate::ult:
            return Result(call("uless", {a, b}));
          case arith::CmpIPredicate::ule:
            return Result(call("uless_equal", {a, b}));
          case arith::CmpIPredicate::ugt:
            return Result(call("uless", {b, a}));
          case arith::CmpIPredicate::uge:
            return Result(call("uless_equal", {b, a}));
          default:
            break;
          }
        return sign.empty() ? refuse() : infixOf(sign, Binding::Comparison);
      })
      .Case([&](arith::CmpFOp op) {
        StringRef sign = getSign(op.getPredicate());
        return sign.empty() || !getElementTypeOrSelf(op.getLhs()).isF32()
                   ? refuse()
                   : infixOf(sign, Binding::Comparison);
      })
      .Case([&](arith::SelectOp op) {
        // The lanes of a mask have 32 bits.
        if (isa<VectorType>(op.getCondition().getType()) &&
            element.getIntOrFloatBitWidth() != 32)
          return refuse();
        if (isVector && sharesLanes &&
            isa<VectorType>(op.getCondition().getType()))
          return Result(call("select", op->getOperands()));
        return Result({text(op.getCondition(), Binding::Comparison) + " ? " +
                           text(op.getTrueValue(), Binding::Sum) + " : " +
                           text(op.getFalseValue(), Binding::Sum),
                       Binding::Choice});
      })
      .Case([&](arith::ExtFOp op) {
        return element.isF32() ? half("widen", getElementTypeOrSelf(op.getIn()))
                               : refuse();
      })
      .Case([&](arith::TruncFOp op) {
        return getElementTypeOrSelf(op.getIn()).isF32()
                   ? half("narrow", element)
                   : refuse();
      })
      .Case<arith::ExtSIOp, arith::TruncIOp, arith::SIToFPOp, arith::FPToSIOp>(
          [&](Operation *op) {
            Type from = getElementTypeOrSelf(op->getOperand(0));
            if (from.isInteger(1) || element.isInteger(1) || from.isF16() ||
                from.isBF16() || element.isF16() || element.isBF16())
              return refuse();
            return isVector ? convert("convert")
                            : Result(call(name, op->getOperands()));
          })
      .Case([&](arith::ExtUIOp op) {
        Type from = getElementTypeOrSelf(op.getIn());
        // A lane of a mask is -1 or 0.
        if (from.isInteger(1) && isVector)
          return element.isInteger(32)
                     ? Result({"-" + text(op.getIn(), Binding::Unary),
                               Binding::Unary})
                     : refuse();
        if (from.isInteger(1))
          return Result(call(name, op->getOperands()));
        if (isVector)
          return convert("zero_extend");
        return Result({name + "(u" + getCppElement(from) + "(" +
                       text(op.getIn()) + "))"});
      })
      .Case<arith::BitcastOp, vector::BitCastOp>([&](Operation *op) {
        Type from = getElementTypeOrSelf(op->getOperand(0));
        return from.isInteger(1) || element.isInteger(1) ? refuse()
                                                         : convert("bit_cast");
      })
      .Case([&](arith::IndexCastUIOp op) {
        Type from = op.getIn().getType();
        if (isVector)
          return refuse();
        if (from.isInteger(32))
          return Result(call("to_index", op->getOperands()));
        return type.isInteger(32) || (from.isInteger(64) || type.isInteger(64))
                   ? Result(call(name, op->getOperands()))
                   : refuse();
      })
      .Case([&](arith::IndexCastOp op) {
        return isVector || op.getIn().getType().isInteger(1)
                   ? refuse()
                   : Result(call(name, op->getOperands()));
      })
      .Case([&](math::FmaOp op) {
        return element.isF32() ? Result(call("fma", op->getOperands()))
                               : refuse();
      })
      .Case([&](vector::FMAOp op) {
        return element.isF32() ? Result(call("fma", op->getOperands()))
                               : refuse();
      })
      .Case([&](math::SqrtOp op) {
        return element.isF32() ? Result(call("sqrt", op->getOperands()))
                               : refuse();
      })
      .Case([&](math::FloorOp op) {
        return element.isF32() ? Result(call("floor", op->getOperands()))
                               : refuse();
      })
      .Case([&](math::RoundEvenOp op) {
        return element.isF32() ? Result(call("round_even", op->getOperands()))
                               : refuse();
      })
      .Case([&](math::AbsFOp op) {
        return element.isF32() ? Result(call("abs", op->getOperands()))
                               : refuse();
      })
      .Case([&](vector::BroadcastOp op) {
        return isa<VectorType>(op.getSource().getType()) ? refuse()
                                                         : convert("splat");
      })
      .Case([&](vector::ShuffleOp op) {
        if (op.getV1VectorType() != op.getV2VectorType() ||
            llvm::any_of(op.getMask(), [](int64_t lane) { return lane < 0; }))
          return refuse();
        bool takesTwo = false;
        std::string word = getShuffle(op, takesTwo);
        SmallVector<Value> operands = {op.getV1()};
        if (takesTwo || StringRef(word).starts_with("shuffle"))
          operands.push_back(takesTwo ? op.getV2() : op.getV1());
        return Result(call(word, operands));
      })
      .Case([&](vector::InterleaveOp op) {
        return Result(call("interleave", op->getOperands()));
      })
      .Case([&](vector::ExtractOp op) {
        if (!op.getDynamicPosition().empty() ||
            op.getStaticPosition().size() != 1 ||
            op.getSourceVectorType().getRank() != 1)
          return refuse();
        return Result({text(op.getSource(), Binding::Primary) + "[" +
                       std::to_string(op.getStaticPosition()[0]) + "]"});
      })
      .Case([&](memref::LoadOp op) {
        return isStatic(op.getMemRefType())
                   ? Result({subscript(op.getMemRef(), op.getIndices())})
                   : refuse();
      })
      .Case([&](vector::LoadOp op) {
        return isStatic(op.getMemRefType()) ? Result({loadVector(op)})
                                            : refuse();
      })
      .Default([&](Operation *) { return refuse(); });
}
