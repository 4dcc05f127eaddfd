// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Nodes that together compute one operator of newer opsets become that.

#include "dialects/ONNX/IR/ONNXOps.h"
#include "lib/Import/ONNX/Evaluator.h"
#include "lib/Import/ONNX/Passes.h"

#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

namespace hadal::onnx {
#define GEN_PASS_DEF_FUSEIDIOMS
#include "lib/Import/ONNX/Passes.h.inc"
} // namespace hadal::onnx

/// The node of \p type that computes \p value, or null.
static NodeOp nodeOf(Value value, StringRef type, size_t operands = 1) {
  auto node = value ? value.getDefiningOp<NodeOp>() : NodeOp();
  bool isThat = node && node.getOpType() == type;
  // Nothing has said yet that a node has what its operator takes.
  return isThat && node.getInputs().size() >= operands ? node : NodeOp();
}

static bool isFunctionOf(NodeOp op, size_t operands) {
  return op.getInputs().size() == operands && op.getOutputs().size() == 1;
}

/// \p value before it is converted between types of floating point.
static Value stripCasts(Value value) {
  while (NodeOp cast = nodeOf(value, "Cast")) {
    int64_t to = getInt(cast, "to", 0);
    if (to != 1 && to != 10 && to != 11 && to != 16)
      return value;
    value = cast.getInputs()[0];
  }
  return value;
}

static DenseElementsAttr constantOf(Value value) {
  auto constant = value ? value.getDefiningOp<ConstantOp>() : ConstantOp();
  return constant ? dyn_cast<DenseElementsAttr>(constant.getValue())
                  : DenseElementsAttr();
}

/// The one number of \p value, or nothing.
static std::optional<double> scalarOf(Value value) {
  DenseElementsAttr constant = constantOf(stripCasts(value));
  if (!constant || constant.getNumElements() != 1)
    return std::nullopt;
  if (isa<FloatType>(constant.getElementType())) {
    APFloat number = *constant.getValues<APFloat>().begin();
    bool losesInfo;
    number.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven,
                   &losesInfo);
    return number.convertToDouble();
  }
  return double((*constant.getValues<APInt>().begin()).getSExtValue());
}

/// The square of a value, which is returned, or null.
static Value matchSquare(Value value) {
  value = stripCasts(value);
  if (NodeOp pow = nodeOf(value, "Pow"))
    if (pow.getInputs().size() == 2 && scalarOf(pow.getInputs()[1]) == 2.0)
      return stripCasts(pow.getInputs()[0]);
  if (NodeOp mul = nodeOf(value, "Mul"))
    if (mul.getInputs().size() == 2 &&
        stripCasts(mul.getInputs()[0]) == stripCasts(mul.getInputs()[1]))
      return stripCasts(mul.getInputs()[0]);
  return {};
}

/// mean(x^2) + epsilon over the last dimension: gives x.
static Value matchMeanSquare(Value value, double &epsilon) {
  NodeOp add = nodeOf(stripCasts(value), "Add");
  if (!add || add.getInputs().size() != 2)
    return {};
  for (unsigned side : {0, 1}) {
    std::optional<double> number = scalarOf(add.getInputs()[side]);
    NodeOp mean = nodeOf(stripCasts(add.getInputs()[1 - side]), "ReduceMean");
    if (!number || !mean || getInt(mean, "keepdims", 1) != 1)
      continue;
    std::optional<SmallVector<int64_t>> axes = getInts(mean, "axes");
    if (Value given = getOperand(mean, 1))
      if (DenseElementsAttr constant = constantOf(given);
          constant && constant.getElementType().isInteger(64)) {
        axes.emplace();
        for (const APInt &axis : constant.getValues<APInt>())
          axes->push_back(axis.getSExtValue());
      }
    if (!axes || *axes != ArrayRef<int64_t>{-1})
      continue;
    epsilon = *number;
    return matchSquare(mean.getInputs()[0]);
  }
  return {};
}

/// x / sqrt(mean(x^2) + epsilon): gives x.
static Value matchNormalized(Value value, double &epsilon) {
  value = stripCasts(value);
  auto matchRoot = [&](Value root) -> Value {
    NodeOp sqrt = nodeOf(stripCasts(root), "Sqrt");
    return sqrt ? matchMeanSquare(sqrt.getInputs()[0], epsilon) : Value();
  };
  if (NodeOp div = nodeOf(value, "Div")) {
    Value x =
        div.getInputs().size() == 2 ? matchRoot(div.getInputs()[1]) : Value();
    return x && stripCasts(div.getInputs()[0]) == x ? x : Value();
  }
  NodeOp mul = nodeOf(value, "Mul");
  if (!mul || mul.getInputs().size() != 2)
    return {};
  for (unsigned side : {0, 1}) {
    Value inverse = stripCasts(mul.getInputs()[side]), x;
    if (NodeOp reciprocal = nodeOf(inverse, "Reciprocal"))
      x = matchRoot(reciprocal.getInputs()[0]);
    else if (NodeOp div = nodeOf(inverse, "Div", 2);
             div && scalarOf(div.getInputs()[0]) == 1.0)
      x = matchRoot(div.getInputs()[1]);
    else if (NodeOp pow = nodeOf(inverse, "Pow", 2);
             pow && scalarOf(pow.getInputs()[1]) == -0.5)
      x = matchMeanSquare(pow.getInputs()[0], epsilon);
    if (x && stripCasts(mul.getInputs()[1 - side]) == x)
      return x;
  }
  return {};
}

static NodeOp makeNorm(PatternRewriter &rewriter, NodeOp op, Value input,
                       Value weight, Attribute epsilon) {
  NamedAttribute parameters[] = {
      rewriter.getNamedAttr("axis", rewriter.getI64IntegerAttr(-1)),
      rewriter.getNamedAttr("epsilon", epsilon)};
  return NodeOp::create(
      rewriter, op.getLoc(), TypeRange(ValueType::get(op.getContext())),
      "RMSNormalization", op.getName(), ValueRange{input, weight},
      rewriter.getDictionaryAttr(parameters));
}

namespace {
/// weight * (x / sqrt(mean(x^2) + epsilon)).
struct FuseRMSNorm : public OpRewritePattern<NodeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(NodeOp op,
                                PatternRewriter &rewriter) const override {
    if (op.getOpType() != "Mul" || !isFunctionOf(op, 2))
      return rewriter.notifyMatchFailure(op, "expected a product");
    for (unsigned side : {0, 1}) {
      Value weight = stripCasts(op.getInputs()[side]);
      auto type = dyn_cast<RankedTensorType>(weight.getType());
      if (!type || type.getRank() != 1 || !weight.getDefiningOp())
        continue;
      double epsilon = 0;
      Value input = matchNormalized(op.getInputs()[1 - side], epsilon);
      if (!input)
        continue;
      rewriter.replaceOp(op, makeNorm(rewriter, op, input, weight,
                                      rewriter.getF32FloatAttr(float(epsilon)))
                                 .getOutputs());
      return success();
    }
    return rewriter.notifyMatchFailure(op, "expected a normalized factor");
  }
};

/// ONNX Runtime's names of the same.
struct RenameNorm : public OpRewritePattern<NodeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(NodeOp op,
                                PatternRewriter &rewriter) const override {
    bool hasSkip =
        op.getOpType() == "com.microsoft.SkipSimplifiedLayerNormalization";
    unsigned weight = hasSkip ? 2 : 1;
    if ((!hasSkip && op.getOpType() != "SimplifiedLayerNormalization") ||
        op.getInputs().size() <= weight || op.getOutputs().empty())
      return rewriter.notifyMatchFailure(op, "expected a norm");
    if (!hasSkip && (getInt(op, "axis", -1) != -1 || op.getInputs().size() > 2))
      return rewriter.notifyMatchFailure(op, "expected axis -1 and two inputs");
    for (auto [i, output] : llvm::enumerate(op.getOutputs()))
      if (i != 0 && !(hasSkip && i == 3) && !output.use_empty())
        return rewriter.notifyMatchFailure(op, "expected no use of statistics");
    Attribute epsilon = op.getParameters().get("epsilon");
    if (!epsilon && hasSkip)
      return rewriter.notifyMatchFailure(op, "expected an epsilon");
    if (!epsilon)
      epsilon = rewriter.getF32FloatAttr(1e-5f);
    Value input = op.getInputs()[0];
    auto add = [&](Value other) {
      input = NodeOp::create(rewriter, op.getLoc(),
                             TypeRange(ValueType::get(op.getContext())), "Add",
                             op.getName(), ValueRange{input, other},
                             rewriter.getDictionaryAttr({}))
                  .getOutputs()[0];
    };
    if (hasSkip)
      add(op.getInputs()[1]);
    if (Value bias = getOperand(op, 3))
      add(bias);
    NodeOp norm =
        makeNorm(rewriter, op, input, op.getInputs()[weight], epsilon);
    SmallVector<Value> results(op.getOutputs().size(), norm.getOutputs()[0]);
    if (results.size() > 3)
      results[3] = input;
    rewriter.replaceOp(op, results);
    return success();
  }
};

/// x * sigmoid(x).
struct FuseSwish : public OpRewritePattern<NodeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(NodeOp op,
                                PatternRewriter &rewriter) const override {
    if (op.getOpType() != "Mul" || !isFunctionOf(op, 2))
      return rewriter.notifyMatchFailure(op, "expected a product");
    for (unsigned side : {0, 1}) {
      Value x = op.getInputs()[1 - side];
      NodeOp sigmoid = nodeOf(stripCasts(op.getInputs()[side]), "Sigmoid");
      if (!sigmoid || stripCasts(sigmoid.getInputs()[0]) != stripCasts(x))
        continue;
      rewriter.replaceOpWithNewOp<NodeOp>(
          op, TypeRange(ValueType::get(op.getContext())), "Swish", op.getName(),
          ValueRange{x},
          rewriter.getDictionaryAttr(
              rewriter.getNamedAttr("alpha", rewriter.getF32FloatAttr(1))));
      return success();
    }
    return rewriter.notifyMatchFailure(op, "expected a sigmoid of a factor");
  }
};

/// [a * cos - b * sin, b * cos + a * sin] of two slices a and b of one value:
/// becomes [a, b] * [cos, cos] + [-b, a] * [sin, sin], whose numbers are the
/// same to the bit.
struct JoinRotation : public OpRewritePattern<NodeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(NodeOp op,
                                PatternRewriter &rewriter) const override {
    if (op.getOpType() != "Concat" || !isFunctionOf(op, 2))
      return rewriter.notifyMatchFailure(op, "expected two parts");
    NodeOp low = nodeOf(op.getInputs()[0], "Sub");
    NodeOp high = nodeOf(op.getInputs()[1], "Add");
    SmallVector<NodeOp, 4> products;
    for (NodeOp sum : {low, high})
      for (unsigned i = 0; sum && i < sum.getInputs().size(); ++i)
        if (NodeOp product = nodeOf(sum.getInputs()[i], "Mul"))
          products.push_back(product);
    auto isBinary = [](NodeOp product) {
      return product.getInputs().size() == 2;
    };
    if (products.size() != 4 || !llvm::all_of(products, isBinary))
      return rewriter.notifyMatchFailure(op, "expected four products");
    // Which factor of a product is a slice; both are of one value.
    auto sliceOf = [](NodeOp product, unsigned side) {
      return nodeOf(product.getInputs()[side], "Slice");
    };
    unsigned first = sliceOf(products[0], 0) ? 0 : 1;
    unsigned second = sliceOf(products[1], 0) ? 0 : 1;
    NodeOp a = sliceOf(products[0], first), b = sliceOf(products[1], second);
    if (!a || !b || a.getInputs()[0] != b.getInputs()[0])
      return rewriter.notifyMatchFailure(op, "expected slices of one value");
    Value x = a.getOutputs()[0], y = b.getOutputs()[0];
    Value cosine = products[0].getInputs()[1 - first];
    Value sine = products[1].getInputs()[1 - second];
    auto isProduct = [](NodeOp product, Value one, Value other) {
      ValueRange factors = product.getInputs();
      return (factors[0] == one && factors[1] == other) ||
             (factors[0] == other && factors[1] == one);
    };
    bool isRotation =
        (isProduct(products[2], y, cosine) &&
         isProduct(products[3], x, sine)) ||
        (isProduct(products[3], y, cosine) && isProduct(products[2], x, sine));
    if (!isRotation)
      return rewriter.notifyMatchFailure(op, "expected a rotation");
    auto make = [&](StringRef type, ValueRange inputs) -> Value {
      return NodeOp::create(rewriter, op.getLoc(),
                            TypeRange(ValueType::get(op.getContext())), type,
                            op.getName(), inputs,
                            type == "Concat" ? op.getParameters()
                                             : rewriter.getDictionaryAttr({}))
          .getOutputs()[0];
    };
    Value plain =
        make("Mul", {make("Concat", {x, y}), make("Concat", {cosine, cosine})});
    Value turned = make("Mul", {make("Concat", {make("Neg", y), x}),
                                make("Concat", {sine, sine})});
    rewriter.replaceOp(op, make("Add", {plain, turned}));
    return success();
  }
};

/// Also a Concat of one tensor: torch joins a past to a list that is empty.
struct RemoveIdentity : public OpRewritePattern<NodeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(NodeOp op,
                                PatternRewriter &rewriter) const override {
    if ((op.getOpType() != "Identity" && op.getOpType() != "Concat") ||
        !isFunctionOf(op, 1))
      return rewriter.notifyMatchFailure(op, "expected an identity");
    // What a function returns keeps its type.
    for (Operation *user : op->getUsers())
      if (!isa<NodeOp>(user) &&
          op.getInputs()[0].getType() != op.getOutputs()[0].getType())
        return rewriter.notifyMatchFailure(op, "expected uses by nodes");
    rewriter.replaceOp(op, op.getInputs());
    return success();
  }
};

struct FuseIdioms : public onnx::impl::FuseIdiomsBase<FuseIdioms> {
  void runOnOperation() override {
    if (failed(fuseIdioms(getOperation())))
      signalPassFailure();
  }
};
} // namespace

LogicalResult onnx::fuseIdioms(func::FuncOp graph) {
  RewritePatternSet patterns(graph.getContext());
  patterns
      .add<FuseRMSNorm, FuseSwish, JoinRotation, RemoveIdentity, RenameNorm>(
          graph.getContext());
  return applyPatternsGreedily(graph, std::move(patterns));
}
