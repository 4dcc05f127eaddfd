// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Proves that nodes are a mixture of experts: those of ONNX Runtime that hold
// all of it, com.microsoft.MoE and QMoE
// (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).

#include "lib/Import/JSON.h"
#include "lib/Import/ONNX/DecoderProof.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

/// The node that adds up experts, behind products with numbers; null if there
/// is none.
NodeOp DecoderProof::findExperts(Value value, double &scale) {
  value = strip(value);
  while (true) {
    Value inner = strip(peel(value, scale));
    if (inner == value)
      break;
    value = inner;
  }
  NodeOp node = nodeOf(value);
  bool isFound = node && (node.getOpType() == "com.microsoft.MoE" ||
                          node.getOpType() == "com.microsoft.QMoE" ||
                          isWrittenMixture(node));
  return isFound ? node : NodeOp();
}

/// Experts, or the sum of them and of a shared part.
bool DecoderProof::isMixture(Value value) {
  double scale = 1;
  if (findExperts(value, scale))
    return true;
  NodeOp add = nodeOf(strip(value), "Add");
  if (!add || add.getInputs().size() != 2)
    return false;
  return llvm::any_of(add.getInputs(), [&](Value summand) {
    return bool(findExperts(summand, scale));
  });
}

bool DecoderProof::matchMixture(Value value, DecoderLayer &layer,
                                Value &input) {
  Mixture &mixture = layer.mixture.emplace();
  double scale = 1;
  NodeOp experts = findExperts(value, scale);
  Value shared;
  if (!experts) {
    NodeOp add = nodeOf(strip(value), "Add");
    for (unsigned side : {0, 1}) {
      scale = 1;
      if (experts = findExperts(add.getInputs()[side], scale); !experts)
        continue;
      shared = add.getInputs()[1 - side];
      break;
    }
  }
  bool isFused = experts.getOpType().starts_with("com.microsoft.");
  if (isFused ? !matchFusedExperts(experts, mixture, input)
              : !matchWrittenExperts(experts, mixture, input))
    return false;
  mixture.config.scale *= scale;
  if (!(scale > 0))
    return refuse(experts.getOutputs()[0],
                  "experts that are multiplied by more than 0, but got " +
                      Twine(std::to_string(scale)));
  if (!shared)
    return true;
  Value gated, sharedInput;
  if (!matchLinear(shared, layer.down, gated))
    return refuse(strip(shared), "a shared expert that ends in a projection");
  if (!matchGated(gated, layer, sharedInput))
    return false;
  if (strip(sharedInput) != strip(input))
    return refuse(gated, "experts and a shared one of the same rows");
  mixture.config.sharedExperts = 1;
  return true;
}

bool DecoderProof::matchFusedExperts(NodeOp node, Mixture &mixture,
                                     Value &input) {
  Value result = node.getOutputs()[0];
  bool isPacked = node.getOpType() == "com.microsoft.QMoE";
  // One meaning each, and none of an attribute that is not known here.
  constexpr std::pair<StringLiteral, int64_t> fixed[] = {
      {"use_sparse_mixer", 0},
      {"swiglu_interleaved", 0},
      {"weights_prepacked", 0}};
  for (auto [name, allowed] : fixed)
    if (int64_t given = getInt(node, name, allowed); given != allowed)
      return refuse(result,
                    name + " " + Twine(allowed) + ", but got " + Twine(given));
  for (NamedAttribute each : node.getParameters())
    if (StringRef name = each.getName().getValue(); !llvm::is_contained(
            {"activation_type", "activation_alpha", "activation_beta", "k",
             "normalize_routing_weights", "use_sparse_mixer", "swiglu_fusion",
             "swiglu_limit", "swiglu_interleaved", "weights_prepacked",
             "expert_weight_bits", "block_size", "quant_type"},
            name))
      return refuse(result, "no attribute " + quote(name));
  StringRef quantType = getText(node, "quant_type", "int");
  if (quantType != "int")
    return refuse(result, "quant_type 'int', but got " + quote(quantType));
  StringRef activation = getText(node, "activation_type", "relu");
  int64_t fusion = getInt(node, "swiglu_fusion", 0);
  double alpha = getFloat(node, "activation_alpha", 1);
  double beta = getFloat(node, "activation_beta", 0);
  if (activation != "swiglu" && activation != "silu")
    return refuse(result, "activation_type 'swiglu' or 'silu', but got " +
                              quote(activation));
  if (fusion < 0 || fusion > 2 || (fusion && activation == "silu"))
    return refuse(result, "swiglu_fusion 0, 1 or 2, and 0 with 'silu', but "
                          "got " +
                              Twine(fusion));
  if (activation == "swiglu" && (alpha != 1 || beta != 0))
    return refuse(result, "activation_alpha 1 and activation_beta 0, but got " +
                              Twine(std::to_string(alpha)) + " and " +
                              Twine(std::to_string(beta)));
  double limit = getFloat(node, "swiglu_limit", 0);
  if (limit < 0 || (limit > 0 && activation == "silu"))
    return refuse(result, "swiglu_limit above 0, with 'swiglu', but got " +
                              Twine(std::to_string(limit)));
  if (limit > 0)
    mixture.config.limit = limit;

  // Inputs: weights, scales, bias and zero points of fc1, fc2 and fc3.
  unsigned weights[3] = {2, 4, 6}, biases[3] = {3, 5, 7};
  unsigned scales[3] = {}, zeros[3] = {};
  if (isPacked)
    for (unsigned i : {0, 1, 2}) {
      weights[i] = 2 + 3 * i;
      scales[i] = 3 + 3 * i;
      biases[i] = 4 + 3 * i;
      zeros[i] = 11 + i;
    }
  unsigned routerWeights = isPacked ? 14 : 8;
  for (unsigned i = routerWeights + 1; i < node.getInputs().size(); ++i)
    if (getOperand(node, i))
      return refuse(result, "no input " + Twine(i));
  for (unsigned i : biases)
    if (Value bias = getOperand(node, i); bias && !isZero(bias))
      return refuse(result, "no biases of experts, but got input " + Twine(i));
  bool hasThird = bool(getOperand(node, weights[2]));
  if (hasThird == (fusion != 0))
    return refuse(result, "the weights fc3 with swiglu_fusion 0 and only then");
  InitializerOp first = initializerOf(getOperand(node, weights[0]));
  InitializerOp second = initializerOf(getOperand(node, weights[1]));
  const Array *rows = small().get(node.getInputs()[0]);
  if (!first || !second || first.getType().getRank() != 3 ||
      second.getType().getRank() != 3 || !rows || rows->shape.empty())
    return refuse(result, "rows, and weights fc1 and fc2 that are tensors of "
                          "the file of three dimensions");
  int64_t hidden = rows->shape.back();
  huggingface::MoEConfig &config = mixture.config;
  config.experts = first.getType().getDimSize(0);
  config.topK = getInt(node, "k", 1);
  if (config.experts < 1 || config.experts > huggingface::maxExperts ||
      config.topK < 1 || config.topK > config.experts)
    return refuse(result, "k from 1 to the number of experts, " +
                              Twine(config.experts) + ", but got " +
                              Twine(config.topK));
  // Of weights that are no integers, the inner width is what is not `hidden`:
  // old versions of the node have matrices that are transposed.
  int64_t fused = fusion ? 2 : 1;
  int64_t inner = first.getType().getDimSize(1);
  if (!isPacked && first.getType().getDimSize(2) != hidden)
    inner = first.getType().getDimSize(2);
  if (inner < 1 || inner % fused != 0)
    return refuse(result, "rows of gates and of what they multiply, but got " +
                              Twine(inner) + " rows of fc1");
  config.intermediate = inner / fused;
  Matrix gate, up, down;
  if (!matchFusedMatrix(node, weights[0], scales[0], zeros[0], inner, hidden,
                        gate) ||
      !matchFusedMatrix(node, weights[1], scales[1], zeros[1], hidden,
                        config.intermediate, down) ||
      (hasThird && !matchFusedMatrix(node, weights[2], scales[2], zeros[2],
                                     inner, hidden, up)))
    return false;
  if (fusion) {
    up = gate;
    gate.rows = up.rows = config.intermediate;
    gate.rowStep = up.rowStep = fusion == 1 ? 2 : 1;
    up.firstRow = fusion == 1 ? 1 : config.intermediate;
  }
  mixture.gate = {gate};
  mixture.up = {up};
  mixture.down = {down};
  input = node.getInputs()[0];
  config.normalize = getInt(node, "normalize_routing_weights", 0) != 0;
  return matchFusedRouter(node, getOperand(node, routerWeights), mixture,
                          input);
}

/// Matrices `[rows, columns]` of all experts, of integers if \p scales is an
/// input.
bool DecoderProof::matchFusedMatrix(NodeOp node, unsigned weights,
                                    unsigned scales, unsigned zeros,
                                    int64_t rows, int64_t columns,
                                    Matrix &matrix) {
  Value result = node.getOutputs()[0];
  InitializerOp tensor = initializerOf(getOperand(node, weights));
  if (!tensor || tensor.getType().getRank() != 3)
    return refuse(result, "weights of three dimensions in the file as input " +
                              Twine(weights));
  ArrayRef<int64_t> shape = tensor.getType().getShape();
  Type element = tensor.getType().getElementType();
  matrix.tensor = tensor;
  matrix.experts = shape[0];
  matrix.storedRows = matrix.rows = rows;
  matrix.columns = columns;
  int64_t experts = initializerOf(getOperand(node, 2)).getType().getDimSize(0);
  auto hasShape = [&](ArrayRef<int64_t> given, ArrayRef<int64_t> expected) {
    return given == expected;
  };
  if (!scales) {
    bool isFloat = element.isF32() || element.isF16() || element.isBF16();
    matrix.isTransposed = !hasShape(shape, {experts, rows, columns});
    if (isFloat &&
        (!matrix.isTransposed || hasShape(shape, {experts, columns, rows})))
      return true;
    return refuse(result,
                  "floats of shape " +
                      toText(ArrayRef<int64_t>({experts, rows, columns})) +
                      " as input " + Twine(weights) + ", but got " +
                      toText(shape));
  }
  int64_t bits = getInt(node, "expert_weight_bits", 4);
  int64_t block = getInt(node, "block_size", 0);
  if (bits != 2 && bits != 4 && bits != 8)
    return refuse(result,
                  "expert_weight_bits 2, 4 or 8, but got " + Twine(bits));
  if (block < 0 || (block && (block < 16 || (block & (block - 1)) != 0 ||
                              columns % block != 0)))
    return refuse(result, "a block_size that is a power of two from 16 on and "
                          "divides " +
                              Twine(columns) + ", but got " + Twine(block));
  int64_t packed = 8 / bits;
  if (!element.isUnsignedInteger(8) || columns % packed != 0 ||
      !hasShape(shape, {experts, rows, columns / packed}))
    return refuse(
        result,
        "bytes of shape " +
            toText(ArrayRef<int64_t>({experts, rows, columns / packed})) +
            " as input " + Twine(weights) + ", but got " + toText(shape));
  matrix.packedBits = bits;
  matrix.block = block ? block : columns;
  int64_t blocks = columns / matrix.block;
  matrix.scales = initializerOf(getOperand(node, scales));
  if (!matrix.scales)
    return refuse(result, "scales that are a tensor of the file as input " +
                              Twine(scales));
  Type scale = matrix.scales.getType().getElementType();
  ArrayRef<int64_t> scaleShape = matrix.scales.getType().getShape();
  bool isColumn = hasShape(scaleShape, {experts, rows});
  if ((!scale.isF32() && !scale.isF16() && !scale.isBF16()) ||
      (!(isColumn && blocks == 1) &&
       !hasShape(scaleShape, {experts, rows, blocks})))
    return refuse(result,
                  "scales of shape " +
                      toText(ArrayRef<int64_t>({experts, rows, blocks})) +
                      " as input " + Twine(scales) + ", but got " +
                      toText(scaleShape));
  Value operand = getOperand(node, zeros);
  if (!operand)
    return true;
  matrix.zeros = initializerOf(operand);
  if (!matrix.zeros)
    return refuse(result,
                  "zero points that are a tensor of the file as input " +
                      Twine(zeros));
  ArrayRef<int64_t> zeroShape = matrix.zeros.getType().getShape();
  matrix.hasZeroColumn = zeroShape.size() == 2 && blocks == 1;
  SmallVector<int64_t> expected = {experts, rows,
                                   (blocks + packed - 1) / packed};
  if (matrix.hasZeroColumn)
    expected = {experts, (rows + packed - 1) / packed};
  if (!matrix.zeros.getType().getElementType().isUnsignedInteger(8) ||
      zeroShape != ArrayRef<int64_t>(expected))
    return refuse(result, "zero points of shape " +
                              toText(ArrayRef<int64_t>(expected)) +
                              " as input " + Twine(zeros) + ", but got " +
                              toText(zeroShape));
  return true;
}

/// The best experts by the logits, weighted by their softmax; or by \p weights,
/// which are scores, and chosen by them and a correction.
bool DecoderProof::matchFusedRouter(NodeOp node, Value weights,
                                    Mixture &mixture, Value &input) {
  huggingface::MoEConfig &config = mixture.config;
  Value result = node.getOutputs()[0], logits = strip(node.getInputs()[1]);
  if (weights) {
    Value scores = strip(weights);
    NodeOp function = nodeOf(scores, "Sigmoid");
    NodeOp add = nodeOf(logits, "Add");
    if (!function || !add || add.getInputs().size() != 2)
      return refuse(result, "weights of experts that are a sigmoid, and a "
                            "choice by them and a correction that is added");
    for (unsigned side : {0, 1})
      if (strip(add.getInputs()[side]) == scores)
        mixture.correction = initializerOf(add.getInputs()[1 - side]);
    if (!mixture.correction ||
        mixture.correction.getType().getNumElements() != config.experts)
      return refuse(result, "a choice of experts by their weights and a "
                            "correction of " +
                                Twine(config.experts) + " numbers");
    config.scoring = deepseek::Scoring::Sigmoid;
    config.method = deepseek::TopKMethod::NoAuxTC;
    logits = function.getInputs()[0];
  }
  Value routerInput;
  if (!matchLogits(logits, mixture, routerInput))
    return false;
  if (strip(routerInput) != strip(input))
    return refuse(result, "a router and experts of the same rows");
  return true;
}
