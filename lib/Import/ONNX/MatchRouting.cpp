// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Proves that nodes are a mixture of experts that is written out: a rule of the
// family chooses experts for each token, and each runs on the rows of the
// tokens that chose it, or each token on its experts' matrices. What exporters
// do to numbers of tokens and experts is computed, for two choices that are
// made up, in which every expert is chosen and no two weights are equal.

#include "lib/Import/JSON.h"
#include "lib/Import/ONNX/DecoderProof.h"

#include <cmath>

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

/// Choices that are made up.
constexpr unsigned choiceCount = 2;
/// Tokens more than experts that they are made up for.
constexpr int64_t extraTokens = 3;
/// What a sum of weights is at most off by so that it is not zero.
constexpr double largestBias = 1e-6;
/// An expert whose score is this or less is not chosen.
constexpr double leastScore = -1e4;

/// Expert, or group, number \p slot of \p token in choice \p variant, of \p n.
static int64_t choose(unsigned variant, int64_t token, int64_t slot,
                      int64_t n) {
  int64_t at = (token + slot) % n;
  return variant ? n - 1 - at : at;
}

static ArrayPtr makeChoice(unsigned variant, ArrayRef<int64_t> shape,
                           int64_t n) {
  int64_t k = shape.back();
  return makeArray(shape, /*isReal=*/false, [=](int64_t i) {
    Number number;
    number.integer = choose(variant, i / k, i % k, n);
    return number;
  });
}

/// Weights that are all different: one more than their index.
static ArrayPtr makeWeights(ArrayRef<int64_t> shape) {
  return makeArray(shape, /*isReal=*/true, [](int64_t i) {
    Number number;
    number.real = double(i + 1);
    return number;
  });
}

/// Nodes that take or move elements of their first operand.
static bool takesElements(NodeOp node) {
  return llvm::is_contained({"Reshape", "Flatten", "Squeeze", "Unsqueeze",
                             "Transpose", "Expand", "Tile", "Slice", "Split",
                             "Identity", "Gather", "GatherND"},
                            node.getOpType());
}

static bool isAdding(NodeOp node) {
  return getText(node, "reduction", "none") == "add";
}

/// The same as `walk`, through nodes that take rows by numbers, too.
Movement DecoderProof::walkRows(Value value) {
  Movement movement;
  movement.result = value;
  while (NodeOp node = nodeOf(value)) {
    if (!takesElements(node) && strip(value) == value)
      break;
    if (node.getInputs().empty())
      break;
    movement.chain.push_back(node);
    value = node.getInputs()[0];
  }
  std::reverse(movement.chain.begin(), movement.chain.end());
  movement.source = value;
  return movement;
}

/// Whether \p value ends what may be a mixture that is written out.
bool DecoderProof::isWrittenMixture(NodeOp node) {
  if ((node.getOpType() == "ScatterND" ||
       node.getOpType() == "ScatterElements") &&
      isAdding(node))
    return true;
  return node.getOpType() == "ReduceSum";
}

/// The TopK that \p value is made of, nearest to it; null if there is none
/// among a few hundred nodes.
static NodeOp findChoice(Value value) {
  SmallVector<Value> queue = {value};
  llvm::DenseSet<Value> seen = {value};
  for (size_t i = 0; i < queue.size() && i < 512; ++i) {
    auto node = queue[i].getDefiningOp<NodeOp>();
    if (!node)
      continue;
    if (node.getOpType() == "TopK")
      return node;
    for (Value operand : node.getInputs())
      if (seen.insert(operand).second)
        queue.push_back(operand);
  }
  return {};
}

/// Makes evaluators for choices that are made up: \p top, a TopK, chooses of
/// as many as it does, and \p weights, if there are any, are all different.
bool DecoderProof::makeChoices(NodeOp top, Value weights, Evaluators &made) {
  const Array *scores = small().get(top.getInputs()[0]);
  if (!scores || scores->shape.empty())
    return false;
  Lengths lengths = limitLengths({1, scores->shape.back() + extraTokens, 0});
  std::unique_ptr<Evaluator> &sizes = choiceSizes[lengths.tokens];
  if (!sizes)
    sizes = std::make_unique<Evaluator>(graph, files, lengths);
  const Array *from = sizes->get(top.getInputs()[0]);
  const Array *to = sizes->get(top.getOutputs()[1]);
  const Array *weighted = weights ? sizes->get(weights) : nullptr;
  if (!from || !to || to->shape.empty() || (weights && !weighted))
    return false;
  for (unsigned variant = 0; variant < choiceCount; ++variant) {
    llvm::DenseMap<Value, ArrayPtr> given;
    given[top.getOutputs()[1]] =
        makeChoice(variant, to->shape, from->shape.back());
    if (weights)
      given[weights] = makeWeights(weighted->shape);
    made.push_back(std::make_unique<Evaluator>(graph, files, lengths, given));
  }
  return true;
}

/// TopK of the last dimension of `[tokens, n]` that takes the greatest.
static bool isPlainChoice(NodeOp top, const Array *from) {
  return top && top.getOutputs().size() == 2 && from && !from->shape.empty() &&
         getInt(top, "largest", 1) == 1 && isLastAxis(top, -1, from);
}

//===----------------------------------------------------------------------===//
// The rule
//===----------------------------------------------------------------------===//

/// What \p top chooses from, less groups that are not among the best:
/// \p choice are the scores of all.
bool DecoderProof::matchGroups(NodeOp top, Mixture &mixture, Value &choice) {
  huggingface::MoEConfig &config = mixture.config;
  choice = strip(top.getInputs()[0]);
  NodeOp where = nodeOf(choice, "Where");
  if (!where || where.getInputs().size() != 3)
    return true;
  NodeOp groupTop = findChoice(where.getInputs()[0]);
  const Array *groupScores =
      groupTop ? small().get(groupTop.getInputs()[0]) : nullptr;
  if (!isPlainChoice(groupTop, groupScores))
    return refuse(choice, "groups of experts that are chosen by TopK");
  const Array *chosen = small().get(groupTop.getOutputs()[1]);
  config.groups = groupScores->shape.back();
  config.topGroups = chosen ? chosen->shape.back() : 0;
  if (config.topGroups < 1 || config.experts % config.groups != 0)
    return refuse(choice, "groups of as many experts each");
  int64_t inGroup = config.experts / config.groups;
  Evaluators made;
  if (!makeChoices(groupTop, {}, made))
    return refuse(choice, "groups that are chosen from scores of known shape");
  std::optional<unsigned> kept;
  for (auto [variant, evaluator] : llvm::enumerate(made)) {
    const Array *mask = evaluator->get(where.getInputs()[0]);
    const Array *whole = evaluator->get(where.getOutputs()[0]);
    if (!mask || !mask->isKnown() || !whole ||
        whole->shape.back() != config.experts)
      return refuse(choice, "a mask of the experts in the chosen groups");
    for (int64_t i = 0; i < whole->count; ++i) {
      int64_t at = broadcastIndex(i, mask->shape, whole->shape);
      if (at < 0)
        return refuse(choice, "a mask of the experts in the chosen groups");
      int64_t token = i / config.experts, group = i % config.experts / inGroup;
      bool isChosen = false;
      for (int64_t slot = 0; slot < config.topGroups; ++slot)
        isChosen |=
            choose(unsigned(variant), token, slot, config.groups) == group;
      unsigned side = (mask->integer(at) != 0) == isChosen ? 1 : 2;
      if (kept.value_or(side) != side)
        return refuse(choice, "a mask of the experts in the chosen groups");
      kept = side;
    }
  }
  std::optional<double> other = scalarOf(where.getInputs()[3 - *kept]);
  if (!other || (*other != 0 && *other > leastScore))
    return refuse(choice, "0, or -10000 or less, for experts of other groups");
  choice = strip(where.getInputs()[*kept]);
  // Groups by their best expert, or by the sum of their two best.
  Value scores = strip(groupTop.getInputs()[0]);
  NodeOp reduce = nodeOf(scores);
  bool isMax = reduce && reduce.getOpType() == "ReduceMax";
  Value grouped = reduce ? reduce.getInputs()[0] : Value();
  if (reduce && reduce.getOpType() == "ReduceSum") {
    NodeOp best = nodeOf(strip(grouped), "TopK");
    const Array *two = best ? small().get(best.getOutputs()[0]) : nullptr;
    if (!best || strip(grouped) != best.getOutputs()[0] || !two ||
        two->shape.back() != 2 ||
        !isPlainChoice(best, small().get(best.getInputs()[0])))
      return refuse(scores, "the sum of the two best experts of a group");
    grouped = best.getInputs()[0];
    config.method = deepseek::TopKMethod::NoAuxTC;
  } else if (isMax) {
    config.method = deepseek::TopKMethod::GroupLimitedGreedy;
  } else {
    return refuse(scores, "the best expert of a group, or the sum of two");
  }
  Movement movement = walk(grouped);
  const Array *shape = small().get(grouped);
  const Array *reduced = small().get(scores);
  ArrayPtr index = trace(small(), movement);
  bool isRight = strip(movement.source) == choice && shape && reduced &&
                 index && !shape->shape.empty() &&
                 shape->shape.back() == inGroup &&
                 reduced->count * inGroup == index->count &&
                 reduced->shape.back() == config.groups;
  for (int64_t i = 0; isRight && i < index->count; ++i)
    isRight = index->integer(i) == i;
  if (!isRight)
    return refuse(scores, "scores of experts, group by group");
  return true;
}

/// \p weights `[tokens, k]` of the experts that \p top chooses.
bool DecoderProof::matchRule(NodeOp top, Value weights, Mixture &mixture,
                             Value &input) {
  huggingface::MoEConfig &config = mixture.config;
  Value ids = top.getOutputs()[1];
  const Array *from = small().get(top.getInputs()[0]);
  const Array *chosen = small().get(ids);
  if (!isPlainChoice(top, from) || !chosen)
    return refuse(ids, "the greatest of the last dimension");
  config.experts = from->shape.back();
  config.topK = chosen->shape.back();
  if (config.experts < 1 || config.experts > huggingface::maxExperts ||
      config.topK < 1 || config.topK > config.experts)
    return refuse(ids, "some experts of at most 65536");

  double scale = 1;
  Value value = strip(peel(weights, scale));
  mixture.config.scale *= scale;
  if (NodeOp div = nodeOf(value, "Div"); div && div.getInputs().size() == 2) {
    Value sum = strip(div.getInputs()[1]);
    if (NodeOp add = nodeOf(sum, "Add"); add && add.getInputs().size() == 2) {
      unsigned side = scalarOf(add.getInputs()[1]) ? 1 : 0;
      std::optional<double> least = scalarOf(add.getInputs()[side]);
      if (!least || std::abs(*least) > largestBias)
        return refuse(sum, "a sum, and a number that keeps it from being zero");
      sum = strip(add.getInputs()[1 - side]);
    }
    NodeOp reduce = nodeOf(sum, "ReduceSum");
    const Array *all = small().get(value), *one = small().get(sum);
    if (!reduce || !all || !one || one->count * config.topK != all->count ||
        one->shape.back() != 1 ||
        strip(reduce.getInputs()[0]) != strip(div.getInputs()[0]))
      return refuse(value, "weights that are divided by their sum");
    config.normalize = true;
    value = strip(div.getInputs()[0]);
  } else if (NodeOp softmax = nodeOf(value, "Softmax");
             softmax && strip(softmax.getInputs()[0]) == top.getOutputs()[0]) {
    // The softmax of the best logits is that of all, normalized.
    if (getInt(softmax, "axis", -1) != -1 && getInt(softmax, "axis", -1) != 1)
      return refuse(value, "a softmax of the best logits");
    config.normalize = true;
    return matchLogits(top.getInputs()[0], mixture, input);
  }
  Value choice;
  if (!matchGroups(top, mixture, choice))
    return false;
  Value scores = choice;
  if (NodeOp add = nodeOf(choice, "Add"); add && add.getInputs().size() == 2)
    for (unsigned side : {0, 1})
      if (InitializerOp bias = initializerOf(add.getInputs()[side]);
          bias && bias.getType().getNumElements() == config.experts) {
        const Array *row = small().get(add.getInputs()[side]);
        if (!row || row->shape.back() != config.experts)
          return refuse(choice, "a correction for each expert");
        mixture.correction = bias;
        scores = strip(add.getInputs()[1 - side]);
      }
  // The weights are scores of those that are chosen.
  if (NodeOp gather = nodeOf(value, "GatherElements")) {
    const Array *array = small().get(value);
    if (!array || !isLastAxis(gather, 0, array) ||
        strip(gather.getInputs()[0]) != scores ||
        strip(gather.getInputs()[1]) != ids)
      return refuse(value, "the scores of the experts that are chosen");
  } else if (value != top.getOutputs()[0] || choice != scores) {
    return refuse(value, "the scores of the experts that are chosen");
  }
  NodeOp function = nodeOf(scores);
  bool isSoftmax = function && function.getOpType() == "Softmax";
  if (!isSoftmax && (!function || function.getOpType() != "Sigmoid"))
    return refuse(scores, "a softmax or a sigmoid of logits");
  if (isSoftmax && !isLastAxis(function, -1, from))
    return refuse(scores, "a softmax over all experts");
  bool isCorrected = bool(mixture.correction);
  if (!isSoftmax)
    config.scoring = deepseek::Scoring::Sigmoid;
  if (isCorrected && config.groups == 1)
    config.method = deepseek::TopKMethod::NoAuxTC;
  if (isSoftmax == isCorrected ||
      isCorrected != (config.method == deepseek::TopKMethod::NoAuxTC))
    return refuse(scores, "a softmax, or a sigmoid with a correction, and "
                          "groups by the rule of either");
  return matchLogits(function.getInputs()[0], mixture, input);
}

bool DecoderProof::matchLogits(Value logits, Mixture &mixture, Value &input) {
  if (!matchLinear(logits, mixture.router, input) || mixture.router.bias ||
      mixture.router.rows != mixture.config.experts)
    return refuse(strip(logits), "logits of " + Twine(mixture.config.experts) +
                                     " experts, a projection without a bias");
  return true;
}

//===----------------------------------------------------------------------===//
// The experts
//===----------------------------------------------------------------------===//

/// The factor of \p value that is a result of experts, and the other.
bool DecoderProof::matchWeighted(Value value, Value &expert, Value &weight) {
  NodeOp product = nodeOf(strip(value), "Mul");
  if (!product || product.getInputs().size() != 2)
    return refuse(value, "a result of experts, times its weight");
  for (unsigned side : {0, 1}) {
    Value other = product.getInputs()[1 - side];
    const Array *whole = small().get(product.getOutputs()[0]);
    const Array *part = small().get(other);
    // Of unknown rows the weights are the ones that no matrix makes.
    bool isWeight =
        whole && part ? part->count < whole->count
                      : !nodeOf(strip(other), "MatMul") &&
                            !nodeOf(strip(other), "Gemm") &&
                            !nodeOf(strip(other), "com.microsoft.MatMulNBits");
    if (!isWeight)
      continue;
    expert = product.getInputs()[side];
    weight = other;
    return true;
  }
  return refuse(value, "a result of experts, times its weight");
}

/// The rule by which \p top chooses experts for rows of \p input, with
/// \p weights, and evaluators for choices that are made up.
bool DecoderProof::matchChoice(NodeOp top, Value weights, Mixture &mixture,
                               Value &input, Evaluators &made) {
  if (!matchRule(top, weights, mixture, input))
    return false;
  return makeChoices(top, weights, made) ||
         refuse(weights, "weights of known shape");
}

/// Whether both are stored in one way, so that they can be a stack.
static bool isLike(const Matrix &a, const Matrix &b) {
  auto typeOf = [](InitializerOp tensor) {
    return tensor ? tensor.getType() : RankedTensorType();
  };
  return !a.bias && !b.bias && typeOf(a.tensor) == typeOf(b.tensor) &&
         typeOf(a.scales) == typeOf(b.scales) &&
         typeOf(a.zeros) == typeOf(b.zeros) &&
         std::tuple(a.block, a.packedBits, a.isTransposed, a.storedRows,
                    a.columns, a.firstRow, a.rows) ==
             std::tuple(b.block, b.packedBits, b.isTransposed, b.storedRows,
                        b.columns, b.firstRow, b.rows);
}

/// Each expert on the rows of its tokens: \p value is zeros to which their
/// results are added where the rows are from.
bool DecoderProof::matchScattered(Value value, Mixture &mixture, Value &input) {
  SmallVector<NodeOp> adds;
  while (NodeOp node = nodeOf(strip(value))) {
    bool isScatter = node.getOpType() == "ScatterND" ||
                     node.getOpType() == "ScatterElements";
    if (!isScatter || !isAdding(node) || node.getInputs().size() != 3)
      break;
    adds.push_back(node);
    value = node.getInputs()[0];
  }
  if (!isZero(value))
    return refuse(value, "zeros that results of experts are added to");
  NodeOp top = findChoice(adds[0].getInputs()[1]);
  Value firstExpert, firstWeight;
  if (!top || !matchWeighted(adds[0].getInputs()[2], firstExpert, firstWeight))
    return refuse(adds[0].getOutputs()[0], "experts that TopK chooses");
  Value weights = walkRows(firstWeight).source;
  Evaluators made;
  if (!matchChoice(top, weights, mixture, input, made))
    return false;
  huggingface::MoEConfig &config = mixture.config;
  mixture.gate.resize(size_t(config.experts));
  mixture.up.resize(size_t(config.experts));
  mixture.down.resize(size_t(config.experts));
  llvm::DenseSet<int64_t> seen;
  for (NodeOp add : adds) {
    Value result = add.getOutputs()[0], expert, weight, gated, rows;
    DecoderLayer matrices;
    if (!matchWeighted(add.getInputs()[2], expert, weight))
      return false;
    if (!matchLinear(expert, matrices.down, gated))
      return refuse(strip(expert), "an expert that ends in a projection");
    if (!matchGated(gated, matrices, rows))
      return false;
    Movement from = walkRows(rows);
    if (strip(from.source) != strip(input))
      return refuse(rows, "experts and a router of the same rows");
    std::optional<int64_t> number;
    for (auto [variant, evaluator] : llvm::enumerate(made)) {
      const Array *all = evaluator->get(result);
      const Array *places = evaluator->get(add.getInputs()[1]);
      const Array *factors = evaluator->get(weight);
      const Array *whole = evaluator->get(add.getInputs()[2]);
      const Array *chosen = evaluator->get(top.getOutputs()[1]);
      ArrayPtr index = trace(*evaluator, from);
      if (!all || all->shape.size() != 2 || !places || !places->isKnown() ||
          !factors || !factors->isKnown() || !whole || !index || !chosen ||
          index->shape.empty())
        return refuse(result, "rows that are chosen by nodes that are known");
      int64_t hidden = all->shape[1], width = index->shape.back();
      int64_t count = whole->count / hidden;
      bool isElements = add.getOpType() == "ScatterElements";
      if (width != hidden || index->count != whole->count ||
          whole->shape.back() != hidden ||
          places->count != (isElements ? whole->count : count) ||
          (isElements && getInt(add, "axis", 0) != 0))
        return refuse(result, "a row of an expert for each row it is added to");
      llvm::DenseSet<int64_t> taken;
      for (int64_t r = 0; r < count; ++r) {
        int64_t at = broadcastIndex(r * hidden, factors->shape, whole->shape);
        if (at < 0)
          return refuse(weight, "a weight for each row");
        double given = factors->real(at);
        auto pair = int64_t(given) - 1;
        int64_t token = pair / config.topK;
        bool isRight = given == double(pair + 1) && pair >= 0 &&
                       pair < chosen->count && taken.insert(pair).second;
        if (!isRight)
          return refuse(weight, "a weight of the router for each row");
        int64_t own = chosen->integer(pair);
        isRight = number.value_or(own) == own;
        number = own;
        for (int64_t c : {int64_t(0), hidden / 2, hidden - 1})
          isRight &= index->integer(r * hidden + c) == token * hidden + c &&
                     places->integer(isElements ? r * hidden + c : r) == token;
        if (!isRight)
          return refuse(result, "the rows of the tokens that chose an expert");
      }
      // None is left out.
      int64_t expected = 0;
      for (int64_t i = 0; number && i < chosen->count; ++i)
        expected += chosen->integer(i) == *number;
      if (!number || expected != count)
        return refuse(result, "all tokens that chose an expert");
    }
    if (!seen.insert(*number).second)
      return refuse(result, "each expert once");
    mixture.gate[size_t(*number)] = matrices.gate;
    mixture.up[size_t(*number)] = matrices.up;
    mixture.down[size_t(*number)] = matrices.down;
  }
  if (int64_t(seen.size()) != config.experts)
    return refuse(weights, "all of " + Twine(config.experts) +
                               " experts, but got " + Twine(seen.size()));
  config.intermediate = mixture.gate[0].rows;
  for (const std::vector<Matrix> *stack :
       {&mixture.gate, &mixture.up, &mixture.down})
    for (const Matrix &matrix : *stack)
      if (!isLike(matrix, (*stack)[0]))
        return refuse(weights, "experts of one shape, type and layout, without "
                               "biases");
  return true;
}

/// Rows of \p value are those of a matrix of each row's expert, times \p input;
/// a matrix of a stack that is taken by numbers of experts.
bool DecoderProof::matchTaken(Value value, NodeOp top, const Evaluators &made,
                              Matrix &matrix, Value &input) {
  Movement after = walk(value);
  NodeOp product = nodeOf(after.source, "MatMul");
  if (!product || product.getInputs().size() != 2)
    return refuse(after.source, "a product with matrices of experts");
  for (unsigned side : {0, 1}) {
    Value taken = strip(product.getInputs()[side]);
    bool isTransposed = side == 1;
    if (NodeOp transpose = nodeOf(taken, "Transpose")) {
      auto order = getInts(transpose, "perm");
      if (!order || *order != ArrayRef<int64_t>{0, 2, 1})
        continue;
      isTransposed = !isTransposed;
      taken = strip(transpose.getInputs()[0]);
    }
    NodeOp gather = nodeOf(taken);
    bool isByPlace = gather && gather.getOpType() == "GatherND";
    if (!gather || (!isByPlace && gather.getOpType() != "Gather") ||
        getInt(gather, isByPlace ? "batch_dims" : "axis", 0) != 0)
      continue;
    InitializerOp stack = initializerOf(gather.getInputs()[0]);
    const Array *places = small().get(gather.getInputs()[1]);
    if (!stack || stack.getType().getRank() != 3 || !places ||
        (isByPlace && (places->shape.empty() || places->shape.back() != 1)))
      continue;
    ArrayRef<int64_t> shape = stack.getType().getShape();
    matrix.tensor = stack;
    matrix.experts = shape[0];
    matrix.isTransposed = isTransposed;
    matrix.storedRows = shape[isTransposed ? 2 : 1];
    matrix.columns = shape[isTransposed ? 1 : 2];
    input = product.getInputs()[1 - side];
    for (auto &evaluator : made) {
      const Array *numbers = evaluator->get(gather.getInputs()[1]);
      const Array *chosen = evaluator->get(top.getOutputs()[1]);
      const Array *whole = evaluator->get(product.getOutputs()[0]);
      ArrayPtr index = trace(*evaluator, after);
      if (!numbers || !numbers->isKnown() || !chosen || !whole || !index ||
          index->shape.empty() || numbers->count != chosen->count ||
          whole->count != chosen->count * matrix.storedRows)
        return refuse(taken, "a matrix for each token and expert");
      int64_t rows = index->shape.back(), first = index->integer(0);
      matrix.firstRow = first;
      matrix.rows = rows;
      bool isRight = first >= 0 && first + rows <= matrix.storedRows &&
                     index->count == chosen->count * rows;
      for (int64_t r = 0; isRight && r < chosen->count; ++r) {
        isRight = numbers->integer(r) == chosen->integer(r);
        for (int64_t j : {int64_t(0), rows / 2, rows - 1})
          isRight &=
              index->integer(r * rows + j) == r * matrix.storedRows + first + j;
      }
      if (!isRight)
        return refuse(taken, "the matrices of the experts of each token");
    }
    return true;
  }
  return refuse(after.source, "a product with matrices that Gather takes");
}

/// Each token on the matrices of its experts, whose results are summed.
bool DecoderProof::matchGathered(Value value, Mixture &mixture, Value &input) {
  NodeOp reduce = nodeOf(strip(value), "ReduceSum");
  Movement summed = walk(reduce.getInputs()[0]);
  Value expert, weight;
  if (!matchWeighted(summed.source, expert, weight))
    return false;
  NodeOp top = findChoice(weight);
  if (!top)
    return refuse(weight, "experts that TopK chooses");
  Value weights = walkRows(weight).source;
  Evaluators made;
  if (!matchChoice(top, weights, mixture, input, made))
    return false;
  huggingface::MoEConfig &config = mixture.config;
  Matrix gate, up, down;
  Value gated, gateInput, upInput;
  if (!matchTaken(expert, top, made, down, gated))
    return false;
  Movement inner = walk(gated);
  NodeOp product = nodeOf(inner.source, "Mul");
  if (!product || product.getInputs().size() != 2)
    return refuse(inner.source, "the product of a gate and a projection");
  NodeOp swish;
  for (unsigned side : {0, 1})
    if (NodeOp node = nodeOf(strip(product.getInputs()[side]), "Swish");
        node && getFloat(node, "alpha", 1) == 1 && !swish) {
      swish = node;
      if (!matchTaken(node.getInputs()[0], top, made, gate, gateInput) ||
          !matchTaken(product.getInputs()[1 - side], top, made, up, upInput))
        return false;
    }
  if (!swish)
    return refuse(inner.source, "x * sigmoid(x) as one factor");
  for (Value rows : {gateInput, upInput})
    if (strip(walkRows(rows).source) != strip(input))
      return refuse(rows, "experts and a router of the same rows");
  for (auto &evaluator : made) {
    // The sum is over the experts of a token.
    const Array *terms = evaluator->get(reduce.getInputs()[0]);
    const Array *sums = evaluator->get(reduce.getOutputs()[0]);
    const Array *factors = evaluator->get(weight);
    const Array *whole = evaluator->get(summed.source);
    ArrayPtr moved = trace(*evaluator, summed);
    ArrayPtr through = trace(*evaluator, inner);
    int64_t k = config.topK, hidden = down.rows;
    if (!terms || terms->shape.size() != 3 || terms->shape[1] != k ||
        terms->shape[2] != hidden || !sums || sums->count * k != terms->count ||
        sums->shape.back() != hidden || sums->dim(0) != terms->shape[0] ||
        !factors || !factors->isKnown() || !whole || !moved ||
        moved->count != terms->count || !through ||
        through->count != terms->count / hidden * down.columns)
      return refuse(reduce.getOutputs()[0],
                    "a sum of the results of the experts of a token");
    int64_t count = terms->count / hidden;
    bool isRight = true;
    for (int64_t r = 0; isRight && r < count; ++r)
      for (int64_t part : {0, 1, 2}) {
        int64_t c = part * (hidden - 1) / 2, j = part * (down.columns - 1) / 2;
        int64_t at =
            broadcastIndex(r * hidden + c, factors->shape, whole->shape);
        isRight &=
            moved->integer(r * hidden + c) == r * hidden + c && at >= 0 &&
            factors->real(at) == double(r + 1) &&
            through->integer(r * down.columns + j) == r * down.columns + j;
      }
    for (Value rows : {gateInput, upInput}) {
      Movement from = walkRows(rows);
      ArrayPtr index = trace(*evaluator, from);
      isRight &= index && index->count == count * gate.columns;
      for (int64_t r = 0; isRight && r < count; ++r)
        for (int64_t part : {0, 1, 2}) {
          int64_t c = part * (gate.columns - 1) / 2;
          isRight &=
              index->integer(r * gate.columns + c) == r / k * gate.columns + c;
        }
    }
    if (!isRight)
      return refuse(reduce.getOutputs()[0],
                    "the rows of tokens, their experts and weights, in order");
  }
  if (gate.rows != up.rows || gate.rows != down.columns ||
      gate.columns != down.rows || gate.experts != config.experts ||
      up.experts != config.experts || down.experts != config.experts ||
      down.rows != down.storedRows)
    return refuse(inner.source, "matrices of " + Twine(config.experts) +
                                    " experts of one shape");
  config.intermediate = gate.rows;
  mixture.gate = {gate};
  mixture.up = {up};
  mixture.down = {down};
  return true;
}

bool DecoderProof::matchWrittenExperts(NodeOp node, Mixture &mixture,
                                       Value &input) {
  if (node.getOpType() == "ReduceSum")
    return matchGathered(node.getOutputs()[0], mixture, input);
  return matchScattered(node.getOutputs()[0], mixture, input);
}
