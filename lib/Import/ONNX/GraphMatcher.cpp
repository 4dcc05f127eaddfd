// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Proves that a graph is a decoder of the family, from its logits back to its
// tokens. Structure is matched node by node. What nodes do to shapes,
// positions and masks exporters write in ever new ways, so that it is computed
// instead, for several lengths of a step that have no factor in common.

#include "lib/Import/ONNX/DecoderProof.h"

#include "lib/Import/JSON.h"
#include "lib/Import/ONNX/GraphImporter.h"

#include <cmath>

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;
using huggingface::RopeConfig;

/// More than any window or chunk that a mask may have.
constexpr int64_t manyTokens = 40'009;
/// Elements that are read to see whether they are zero.
constexpr int64_t maxZeroElements = int64_t(1) << 22;
/// Masks add this or less where a token must not be seen.
constexpr double blocked = -1e4;

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

bool DecoderProof::refuse(const Twine &message) {
  if (ok())
    status = unimplemented(path + ": " + message);
  return false;
}

bool DecoderProof::refuse(Value value, const Twine &expected) {
  auto node = value ? value.getDefiningOp<NodeOp>() : NodeOp();
  if (!node)
    return refuse("expected " + expected +
                  ", but got a tensor or an input of "
                  "the graph");
  int64_t count = 0;
  for (auto other : graph.front().getOps<NodeOp>())
    count += other.getOpType() == node.getOpType();
  return refuse("node " + quote(node.getName()) + " (" +
                quote(node.getOpType()) + ", one of " + Twine(count) +
                "): expected " + expected);
}

/// The node that computes \p value, if it is of \p type.
NodeOp DecoderProof::nodeOf(Value value, StringRef type) {
  auto node = value ? value.getDefiningOp<NodeOp>() : NodeOp();
  return node && (type.empty() || node.getOpType() == type) ? node : NodeOp();
}

/// Sets the lengths that the graph is computed for, as far as it leaves them
/// open.
bool DecoderProof::chooseLengths() {
  bool hasTokens = false;
  for (BlockArgument argument : graph.getArguments()) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    auto name = graph.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                   "onnx.name");
    if (!type || !name)
      return refuse("an input of the graph has no name or is no tensor");
    auto sizeOf = [&](int64_t i) {
      return type.isDynamicDim(unsigned(i)) ? 0 : type.getDimSize(unsigned(i));
    };
    if (name.getValue() == "input_ids" && type.getRank() == 2) {
      hasTokens = true;
      fixed.batch = sizeOf(0);
      fixed.tokens = sizeOf(1);
    }
    if (type.getRank() == 4 && isa<FloatType>(type.getElementType())) {
      hasPast = true;
      if (!type.isDynamicDim(2))
        fixed.past = type.getDimSize(2);
    }
  }
  if (!hasTokens)
    return refuse("the graph has no input 'input_ids', [batch, tokens]");
  const Lengths lengths[] = {
      {2, 7, 5}, {1, 1, 11}, {1, 13, 0}, {1, manyTokens, 0}};
  for (const Lengths &each : lengths)
    evaluators.push_back(
        std::make_unique<Evaluator>(graph, files, limitLengths(each)));
  return true;
}

Lengths DecoderProof::limitLengths(Lengths lengths) const {
  if (fixed.batch)
    lengths.batch = fixed.batch;
  if (fixed.tokens)
    lengths.tokens = fixed.tokens;
  if (fixed.past >= 0)
    lengths.past = fixed.past;
  if (!hasPast)
    lengths.past = 0;
  return lengths;
}

/// A node that leaves the rows of its operand as they are, whatever shape it
/// gives to what they are rows of.
bool DecoderProof::keepsRows(NodeOp node) {
  if (!llvm::is_contained({"Reshape", "Flatten", "Squeeze", "Unsqueeze"},
                          node.getOpType()))
    return false;
  for (auto &evaluator : evaluators) {
    const Array *from = evaluator->get(node.getInputs()[0]);
    const Array *to = evaluator->get(node.getOutputs()[0]);
    if (!from || !to || from->shape.empty() || to->shape.empty() ||
        from->shape.back() != to->shape.back())
      return false;
  }
  return true;
}

static bool isFloatCast(NodeOp node) {
  int64_t to = getInt(node, "to", 0);
  return node.getOpType() == "Cast" &&
         (to == 1 || to == 10 || to == 11 || to == 16);
}

/// \p value before nodes that neither compute nor move anything: the flat rows
/// of a batch stay what they are.
Value DecoderProof::strip(Value value) {
  while (NodeOp node = nodeOf(value)) {
    if (node.getInputs().empty() || node.getOutputs()[0] != value)
      return value;
    bool isNothing = isFloatCast(node) || node.getOpType() == "Identity" ||
                     node.getOpType() == "Dropout" || keepsRows(node);
    if (!isNothing)
      return value;
    value = node.getInputs()[0];
  }
  return value;
}

/// The one number that \p value is at all lengths.
std::optional<double> DecoderProof::scalarOf(Value value) {
  std::optional<double> number;
  for (auto &evaluator : evaluators) {
    const Array *array = evaluator->get(value);
    if (!array || array->count != 1 || !array->isKnown())
      return std::nullopt;
    double here = array->real(0);
    if (number && *number != here)
      return std::nullopt;
    number = here;
  }
  return number;
}

/// The same, and before products with a number, which multiply \p scale.
Value DecoderProof::peel(Value value, double &scale) {
  while (NodeOp node = nodeOf(value)) {
    bool isCast = isFloatCast(node) || node.getOpType() == "Identity";
    bool isMul = node.getOpType() == "Mul", isDiv = node.getOpType() == "Div";
    if (isCast) {
      value = node.getInputs()[0];
      continue;
    }
    if ((!isMul && !isDiv) || node.getInputs().size() != 2)
      return value;
    unsigned side = 1;
    std::optional<double> number = scalarOf(node.getInputs()[1]);
    if (!number && isMul) {
      side = 0;
      number = scalarOf(node.getInputs()[0]);
    }
    if (!number || *number == 0)
      return value;
    scale = isMul ? scale * *number : scale / *number;
    value = node.getInputs()[1 - side];
  }
  return value;
}

InitializerOp DecoderProof::initializerOf(Value value) {
  value = strip(value);
  auto constant = value ? value.getDefiningOp<ConstantOp>() : ConstantOp();
  if (!constant || !constant.getName())
    return value ? value.getDefiningOp<InitializerOp>() : InitializerOp();
  InitializerOp &tensor = smallTensors[value];
  if (!tensor) {
    OpBuilder builder(constant);
    tensor = InitializerOp::create(
        builder, constant.getLoc(), constant.getResult().getType(),
        constant.getNameAttr(), constant.getFileAttr(),
        constant.getOffsetAttr());
  }
  return tensor;
}

/// The same of bytes, whatever shape is given to them.
InitializerOp DecoderProof::bytesOf(Value value) {
  while (NodeOp node = nodeOf(value)) {
    if (!llvm::is_contained({"Reshape", "Flatten", "Squeeze", "Unsqueeze"},
                            node.getOpType()))
      break;
    value = node.getInputs()[0];
  }
  return initializerOf(value);
}

/// Whether \p value is a tensor of the file of zeros.
bool DecoderProof::isZero(Value value) {
  const Array *array = small().get(value);
  if (!array || !array->isKnown() || array->count > maxZeroElements)
    return false;
  for (int64_t i = 0; i < array->count; ++i)
    if (array->real(i) != 0)
      return false;
  return true;
}

/// What all operands of \p node, a Concat, are slices of; null if it is none.
static Value partsOf(NodeOp node) {
  if (node.getOpType() != "Concat" || node.getInputs().size() < 2)
    return {};
  Value whole;
  for (Value part : node.getInputs()) {
    auto slice = part.getDefiningOp<NodeOp>();
    if (!slice || slice.getOpType() != "Slice" ||
        (whole && slice.getInputs()[0] != whole))
      return {};
    whole = slice.getInputs()[0];
  }
  return whole;
}

/// Follows \p value to where its elements come from.
Movement DecoderProof::walk(Value value) {
  Movement movement;
  movement.result = value;
  while (NodeOp node = nodeOf(value)) {
    StringRef type = node.getOpType();
    unsigned from = 0;
    // Parts of one value, such as every second element and the others.
    if (Value whole = partsOf(node)) {
      movement.chain.push_back(node);
      for (Value part : llvm::reverse(node.getInputs()))
        movement.chain.push_back(part.getDefiningOp<NodeOp>());
      value = whole;
      continue;
    }
    if (type == "Concat" && node.getInputs().size() == 2 &&
        isa<BlockArgument>(node.getInputs()[0]))
      from = 1; // Behind the keys or values of the past.
    else if (!isFloatCast(node) &&
             !llvm::is_contained({"Reshape", "Flatten", "Squeeze", "Unsqueeze",
                                  "Transpose", "Expand", "Slice", "Split",
                                  "Identity"},
                                 type))
      break;
    if (node.getInputs().size() <= from)
      break;
    movement.chain.push_back(node);
    value = node.getInputs()[from];
  }
  std::reverse(movement.chain.begin(), movement.chain.end());
  movement.source = value;
  return movement;
}

//===----------------------------------------------------------------------===//
// Products with weights
//===----------------------------------------------------------------------===//

/// Integers with one scale, a scale a row, or a block of a row.
bool DecoderProof::matchQuantized(NodeOp node, ArrayRef<Value> operands,
                                  int64_t axis, bool isTransposed,
                                  Matrix &matrix) {
  InitializerOp tensor = initializerOf(operands[0]);
  InitializerOp scales = initializerOf(operands[1]);
  Value zeroPoints = operands[2];
  Value result = node.getOutputs()[0];
  if (!tensor || !scales || getLogicalType(tensor).getRank() != 2)
    return refuse(result, "integers and scales that are tensors of the file");
  RankedTensorType type = getLogicalType(tensor);
  Type element = type.getElementType();
  Type scale = scales.getType().getElementType();
  bool isUnsigned = element.isUnsignedInteger();
  InitializerOp zeros;
  if (zeroPoints && (isUnsigned || !isZero(zeroPoints))) {
    zeros = initializerOf(zeroPoints);
    if (!zeros)
      return refuse(result, "zero points that are a tensor of the file");
  }
  if (!element.isInteger() || element.getIntOrFloatBitWidth() > 8 ||
      element.isInteger(1) || (!zeros && isUnsigned) ||
      (zeros &&
       (getLogicalType(zeros).getElementType() != element ||
        getLogicalType(zeros).getShape() != scales.getType().getShape())) ||
      (!scale.isF32() && !scale.isF16() && !scale.isBF16()))
    return refuse(result, "integers of 2, 4 or 8 bits, with zero points if "
                          "they are unsigned, and scales of floats");
  unsigned along = isTransposed ? 0 : 1; // Of a row.
  int64_t columns = type.getDimSize(along);
  int64_t rows = type.getDimSize(1 - along);
  matrix.tensor = tensor;
  matrix.scales = scales;
  matrix.zeros = zeros;
  matrix.isTransposed = isTransposed;
  matrix.columns = columns;
  matrix.storedRows = matrix.rows = rows;
  if (scales.getType().getNumElements() == 1 &&
      scales.getType().getRank() <= 1 && getInt(node, "block_size", 0) == 0) {
    matrix.hasOneScale = true;
    matrix.block = columns;
    return true;
  }
  int64_t block = getInt(node, "block_size", 0);
  axis = axis < 0 ? axis + 2 : axis;
  SmallVector<int64_t> expected = {rows};
  if (block > 0) {
    expected.assign({rows, (columns + block - 1) / block});
    if (isTransposed)
      std::swap(expected[0], expected[1]);
  }
  if (scales.getType().getShape() != ArrayRef<int64_t>(expected) ||
      axis != (block > 0 ? along : 1 - along))
    return refuse(result, "one scale, a scale a row, or a block of a row");
  matrix.block = block > 0 ? block : columns;
  return true;
}

/// The right side of a product: `[columns, rows]`, or that of a transposition.
bool DecoderProof::matchTensor(Value value, Matrix &matrix) {
  bool isTransposed = true;
  if (NodeOp transpose = nodeOf(strip(value), "Transpose")) {
    auto order = getInts(transpose, "perm");
    if (order && *order != ArrayRef<int64_t>{1, 0})
      return false;
    isTransposed = false;
    value = transpose.getInputs()[0];
  }
  if (NodeOp node = nodeOf(strip(value), "DequantizeLinear"))
    return matchQuantized(node, isTransposed, matrix);
  InitializerOp tensor = initializerOf(value);
  if (!tensor || tensor.getType().getRank() != 2)
    return false;
  matrix.tensor = tensor;
  matrix.isTransposed = isTransposed;
  matrix.columns = tensor.getType().getDimSize(isTransposed ? 0 : 1);
  matrix.storedRows = tensor.getType().getDimSize(isTransposed ? 1 : 0);
  matrix.rows = matrix.storedRows;
  return true;
}

/// com.microsoft.MatMulNBits: integers of a few bits, a scale a block.
bool DecoderProof::matchPacked(NodeOp node, Matrix &matrix) {
  int64_t bits = getInt(node, "bits", 4), n = getInt(node, "N", 0);
  int64_t k = getInt(node, "K", 0), block = getInt(node, "block_size", 0);
  Value result = node.getOutputs()[0];
  if ((bits != 2 && bits != 4 && bits != 8) || n < 1 || k < 1 || block < 16 ||
      block > (1 << 20) || (block & (block - 1)) != 0 ||
      n > huggingface::maxDimension || k > huggingface::maxDimension)
    return refuse(result, "bits 2, 4 or 8, N and K from 1 on and a block_size "
                          "that is a power of two from 16 on, but got bits " +
                              Twine(bits) + ", N " + Twine(n) + ", K " +
                              Twine(k) + ", block_size " + Twine(block));
  if (getInt(node, "weight_prepacked", 0))
    return refuse(result, "weight_prepacked 0, since others are in the layout "
                          "of one machine");
  int64_t blocks = (k + block - 1) / block;
  auto check = [&](unsigned i, StringRef what, int64_t elements, bool isBytes) {
    InitializerOp tensor = bytesOf(getOperand(node, i));
    if (!tensor)
      return refuse(result, what + " that are a tensor of the file");
    Type element = tensor.getType().getElementType();
    bool isRight = isBytes
                       ? element.isUnsignedInteger(8)
                       : element.isF32() || element.isF16() || element.isBF16();
    if (!isRight || tensor.getType().getNumElements() != elements)
      return refuse(result, what + " of " + Twine(elements) +
                                (isBytes ? " bytes" : " numbers") +
                                ", but got shape " +
                                toText(tensor.getType().getShape()));
    return true;
  };
  if (!check(1, "weights", n * blocks * (block * bits / 8), true) ||
      !check(2, "scales", n * blocks, false) ||
      (getOperand(node, 3) &&
       !check(3, "zero points", n * ((blocks * bits + 7) / 8), true)))
    return false;
  if (Value bias = getOperand(node, 5)) {
    matrix.bias = initializerOf(bias);
    if (!matrix.bias || matrix.bias.getType().getNumElements() != n)
      return refuse(result, "a bias of " + Twine(n) + " numbers");
  }
  if (Value order = getOperand(node, 4)) {
    const Array *groups = small().get(order);
    InitializerOp tensor = initializerOf(order);
    if (!tensor || !tensor.getType().getElementType().isInteger(32) ||
        !groups || !groups->isKnown() || groups->shape.size() != 1 ||
        (groups->count != k && groups->count != blocks * block))
      return refuse(result, "a g_idx that is a tensor of the file of " +
                                Twine(k) + " integers of 32 bits");
    for (int64_t i = 0; i < k; ++i) {
      int64_t group = groups->integer(i);
      if (group < 0 || group >= blocks)
        return refuse(result, "a g_idx from 0 to " + Twine(blocks - 1) +
                                  ", but got " + Twine(group) + " at " +
                                  Twine(i));
      if (group != i / block)
        matrix.order = tensor;
    }
  }
  matrix.tensor = bytesOf(node.getInputs()[1]);
  matrix.scales = bytesOf(node.getInputs()[2]);
  if (Value zeros = getOperand(node, 3))
    matrix.zeros = bytesOf(zeros);
  matrix.block = block;
  matrix.packedBits = bits;
  matrix.columns = k;
  matrix.storedRows = matrix.rows = n;
  return true;
}

/// A DequantizeLinear behind a QuantizeLinear, to 8 bits with the same scale
/// and zero point.
Value DecoderProof::beforeRounding(Value value, Matrix &matrix) {
  NodeOp after = nodeOf(strip(value), "DequantizeLinear");
  NodeOp before =
      after ? nodeOf(strip(after.getInputs()[0]), "QuantizeLinear") : NodeOp();
  if (!before)
    return value;
  std::optional<double> scale, zero;
  int64_t type = getInt(before, "output_dtype", 0);
  // Bytes without a sign, or with one.
  bool isUnsigned = type == 2 || type == 0, isByte = isUnsigned || type == 3;
  for (NodeOp node : {before, after}) {
    std::optional<double> one = scalarOf(getOperand(node, 1)), point = 0;
    if (Value operand = getOperand(node, 2)) {
      Type element = getElementTypeOrSelf(operand.getType());
      point = scalarOf(operand);
      isUnsigned = element.isUnsignedInteger();
      isByte &= element.isInteger() && element.getIntOrFloatBitWidth() == 8;
    }
    if (node == before)
      std::tie(scale, zero) = std::pair(one, point);
    if (!one || !point || one != scale || point != zero || !isByte ||
        !(float(*one) > 0 && std::isfinite(float(*one))) ||
        getInt(node, "precision", 0) ||
        (node == after && getInt(node, "output_dtype", 0) > 1)) {
      refuse(value, "one scale and one zero point of 8 bits, the same before "
                    "and after an input is rounded");
      return value;
    }
  }
  matrix.inputGrid = {float(*scale), float(*zero - (isUnsigned ? 128 : 0))};
  return before.getInputs()[0];
}

/// Some of the results of a product, which a Slice or a Split takes.
bool DecoderProof::takeColumns(NodeOp node, Value result, Matrix &matrix,
                               Value &input) {
  Movement movement{node.getInputs()[0], result, {node}};
  int64_t first = -1, count = -1, total = -1;
  for (auto &evaluator : evaluators) {
    ArrayPtr index = evaluator->trace(movement.source, {node}, result);
    const Array *from = evaluator->get(movement.source);
    if (!index || index->shape.empty() || !index->count || !from)
      return false;
    int64_t begin = index->integer(0), size = index->shape.back();
    total = from->shape.back();
    if ((first >= 0 && (begin != first || size != count)) ||
        index->count / size != from->count / total ||
        index->integer(index->count - 1) !=
            from->count - total + begin + size - 1)
      return false;
    first = begin;
    count = size;
  }
  if (!matchLinear(movement.source, matrix, input) || matrix.rows != total)
    return false;
  matrix.firstRow += first;
  matrix.rows = count;
  return true;
}

/// input * matrix^T + bias.
bool DecoderProof::matchLinear(Value value, Matrix &matrix, Value &input) {
  value = strip(value);
  NodeOp node = nodeOf(value);
  if (!node || !ok())
    return false;
  StringRef type = node.getOpType();
  if (type == "Add" && node.getInputs().size() == 2) {
    for (unsigned side : {0, 1}) {
      InitializerOp bias = initializerOf(node.getInputs()[side]);
      if (!bias || bias.getType().getRank() != 1)
        continue;
      if (!matchLinear(node.getInputs()[1 - side], matrix, input) ||
          matrix.bias || matrix.rows != matrix.storedRows ||
          bias.getType().getNumElements() != matrix.rows)
        return false;
      matrix.bias = bias;
      return true;
    }
    return false;
  }
  if (type == "MatMul" && node.getInputs().size() == 2) {
    input = beforeRounding(node.getInputs()[0], matrix);
    return matchTensor(node.getInputs()[1], matrix);
  }
  if (type == "Gemm" && node.getInputs().size() >= 2) {
    if (getFloat(node, "alpha", 1) != 1 || getInt(node, "transA", 0))
      return false;
    bool isTransposed = !getInt(node, "transB", 0);
    if (NodeOp dequantize =
            nodeOf(strip(node.getInputs()[1]), "DequantizeLinear")) {
      if (!matchQuantized(dequantize, isTransposed, matrix))
        return false;
    } else {
      InitializerOp tensor = initializerOf(node.getInputs()[1]);
      if (!tensor || tensor.getType().getRank() != 2)
        return false;
      matrix.tensor = tensor;
      matrix.isTransposed = isTransposed;
      matrix.columns = tensor.getType().getDimSize(isTransposed ? 0 : 1);
      matrix.storedRows = matrix.rows =
          tensor.getType().getDimSize(isTransposed ? 1 : 0);
    }
    if (Value bias = getOperand(node, 2)) {
      matrix.bias = initializerOf(bias);
      if (!matrix.bias || getFloat(node, "beta", 1) != 1 ||
          matrix.bias.getType().getRank() != 1 ||
          matrix.bias.getType().getNumElements() != matrix.rows)
        return false;
    }
    input = beforeRounding(node.getInputs()[0], matrix);
    return true;
  }
  if (type == "com.microsoft.MatMulNBits" && node.getInputs().size() >= 3) {
    input = beforeRounding(node.getInputs()[0], matrix);
    return matchPacked(node, matrix);
  }
  if ((type == "Slice" || type == "Split") && !node.getInputs().empty())
    return takeColumns(node, value, matrix, input);
  return false;
}

//===----------------------------------------------------------------------===//
// Layers
//===----------------------------------------------------------------------===//

/// A norm of the last dimension, of any epsilon.
bool DecoderProof::matchNormOf(NodeOp node, InitializerOp &weight,
                               Value &input) {
  if (node.getInputs().size() != 2)
    return false;
  const Array *array = small().get(node.getInputs()[0]);
  weight = initializerOf(node.getInputs()[1]);
  input = node.getInputs()[0];
  return weight && weight.getType().getRank() == 1 &&
         isLastAxis(node, -1, array);
}

bool DecoderProof::matchNorm(Value value, InitializerOp &weight, Value &input) {
  value = strip(value);
  NodeOp node = nodeOf(value, "RMSNormalization");
  if (!node)
    return refuse(value, "an RMS norm, of which this is no form that is known");
  if (!matchNormOf(node, weight, input))
    return refuse(value,
                  "a norm of the last dimension with a vector of weights");
  double epsilon = getFloat(node, "epsilon", 1e-5);
  if (hasEpsilon && epsilon != decoder.epsilon)
    return refuse(value, "epsilon " + Twine(std::to_string(decoder.epsilon)) +
                             ", as another norm has, but got " +
                             Twine(std::to_string(epsilon)));
  decoder.epsilon = epsilon;
  hasEpsilon = true;
  return true;
}

bool DecoderProof::matchInputNorm(Value attended, ArrayRef<Value> inputs,
                                  Value residual, DecoderLayer &layer) {
  if (strip(inputs[0]) != strip(inputs[1]) ||
      strip(inputs[0]) != strip(inputs[2]))
    return refuse(attended, "queries, keys and values of the same rows");
  Value normInput;
  if (!matchNorm(inputs[0], layer.inputNorm, normInput))
    return false;
  if (strip(normInput) != strip(residual))
    return refuse(inputs[0], "a norm of the residual");
  return true;
}

/// residual + linear(input).
bool DecoderProof::matchResidual(Value value, Value &residual, Matrix &last,
                                 Value &input) {
  value = strip(value);
  NodeOp node = nodeOf(value, "Add");
  if (!node || node.getInputs().size() != 2)
    return refuse(value, "the sum of a residual and a projection");
  for (unsigned side : {1, 0}) {
    last = Matrix();
    if (matchLinear(node.getInputs()[side], last, input)) {
      residual = node.getInputs()[1 - side];
      return true;
    }
  }
  return refuse(value, "a projection by a matrix of the file as one summand");
}

/// silu(gate) * up, both projections of \p input.
bool DecoderProof::matchGated(Value value, DecoderLayer &layer, Value &input) {
  value = strip(value);
  NodeOp product = nodeOf(value, "Mul");
  if (!product || product.getInputs().size() != 2)
    return refuse(value, "the product of a gate and a projection");
  for (unsigned side : {0, 1}) {
    NodeOp swish = nodeOf(strip(product.getInputs()[side]), "Swish");
    if (!swish || getFloat(swish, "alpha", 1) != 1)
      continue;
    Value upInput;
    if (!matchLinear(swish.getInputs()[0], layer.gate, input))
      return refuse(swish.getInputs()[0], "a projection by a matrix");
    if (!matchLinear(product.getInputs()[1 - side], layer.up, upInput))
      return refuse(product.getInputs()[1 - side], "a projection by a matrix");
    if (strip(input) != strip(upInput))
      return refuse(value, "a gate and a projection of the same rows");
    return true;
  }
  return refuse(value, "x * sigmoid(x) as one factor");
}

/// \p input is the norm of \p residual that the second half of a layer reads.
bool DecoderProof::matchSecondNorm(Value input, Value residual,
                                   DecoderLayer &layer) {
  Value normInput;
  if (!matchNorm(input, layer.attentionNorm, normInput))
    return false;
  if (strip(normInput) != strip(residual))
    return refuse(input, "a norm of the residual");
  return true;
}

/// residual + a feed-forward network, or experts, of the norm of residual.
bool DecoderProof::matchNetwork(Value value, Value &residual,
                                DecoderLayer &layer) {
  value = strip(value);
  if (NodeOp add = nodeOf(value, "Add"); add && add.getInputs().size() == 2)
    for (unsigned side : {1, 0})
      if (isMixture(add.getInputs()[side])) {
        residual = add.getInputs()[1 - side];
        Value input;
        return matchMixture(add.getInputs()[side], layer, input) &&
               matchSecondNorm(input, residual, layer);
      }
  Value gated, input;
  return matchResidual(value, residual, layer.down, gated) &&
         matchGated(gated, layer, input) &&
         matchSecondNorm(input, residual, layer);
}

bool DecoderProof::setHeads(Value value, int64_t heads, int64_t kvHeads,
                            int64_t dim) {
  bool isSane = heads > 0 && kvHeads > 0 && heads % kvHeads == 0 && dim > 0 &&
                dim % 2 == 0;
  if (!isSane)
    return refuse(value, "heads that are a multiple of those of the keys, of "
                         "an even width, but got " +
                             Twine(heads) + ", " + Twine(kvHeads) + " and " +
                             Twine(dim));
  if (!decoder.heads) {
    decoder.heads = heads;
    decoder.kvHeads = kvHeads;
    decoder.headDim = dim;
  }
  if (decoder.heads != heads || decoder.kvHeads != kvHeads ||
      decoder.headDim != dim)
    return refuse(value, Twine(decoder.heads) + " heads, " +
                             Twine(decoder.kvHeads) + " of keys, of width " +
                             Twine(decoder.headDim) +
                             ", as another layer has, but got " + Twine(heads) +
                             ", " + Twine(kvHeads) + " and " + Twine(dim));
  return true;
}

/// Rows in the order of tokens, which nothing has moved, \p heads of them in
/// the part of the matrix that is used.
static bool hasHeads(const Matrix &matrix, int64_t heads, int64_t dim) {
  return matrix.rows == heads * dim;
}

bool DecoderProof::matchGroupQuery(NodeOp node, Value residual,
                                   DecoderLayer &layer) {
  Value value = node.getOutputs()[0];
  int64_t heads = getInt(node, "num_heads", 0);
  int64_t kvHeads = getInt(node, "kv_num_heads", 0);
  bool isRotated = getInt(node, "do_rotary", 0);
  bool isInterleaved = getInt(node, "rotary_interleaved", 0);
  // What would change what is computed, where Hadal computes one thing.
  for (auto [name, allowed] :
       {std::pair<StringRef, int64_t>{"local_window_size", -1},
        {"smooth_softmax", 0},
        {"causal", 1},
        {"qk_output", 0},
        {"sliding_window_cache", 0}})
    if (int64_t given = getInt(node, name, allowed);
        given != allowed && !(name == "smooth_softmax" && given == -1))
      return refuse(value,
                    name + " " + Twine(allowed) + ", but got " + Twine(given));
  if (double cap = getFloat(node, "softcap", 0); cap != 0)
    return refuse(value, "softcap 0, but got " + Twine(std::to_string(cap)));
  for (unsigned i = 10; i < node.getInputs().size(); ++i)
    if (getOperand(node, i))
      return refuse(value, "no input " + Twine(i) +
                               ", such as an attention bias or a sink");
  for (unsigned i : {3, 4})
    if (Value past = getOperand(node, i); past && !isa<BlockArgument>(past))
      return refuse(value, "keys and values of the past that are inputs");

  Value inputs[3];
  Matrix *parts[] = {&layer.q, &layer.k, &layer.v};
  Value operands[3];
  for (unsigned i : {0, 1, 2})
    operands[i] = getOperand(node, i);
  int64_t dim = 0;
  if (!operands[1]) {
    // Rows of queries, keys and values in one matrix.
    if (!matchLinear(operands[0], layer.q, inputs[0]))
      return refuse(operands[0], "a projection by a matrix");
    if (heads < 1 || kvHeads < 1 || heads > huggingface::maxDimension ||
        kvHeads > huggingface::maxDimension ||
        layer.q.rows % (heads + 2 * kvHeads) != 0)
      return refuse(value, "as many rows as heads of queries, keys and values");
    dim = layer.q.rows / (heads + 2 * kvHeads);
    layer.k = layer.v = layer.q;
    layer.q.rows = heads * dim;
    layer.k.firstRow += heads * dim;
    layer.k.rows = layer.v.rows = kvHeads * dim;
    layer.v.firstRow += (heads + kvHeads) * dim;
    inputs[1] = inputs[2] = inputs[0];
  } else {
    bool isSplit[] = {false, false};
    for (unsigned i : {0, 1, 2}) {
      Value operand = operands[i];
      NodeOp rotary = nodeOf(strip(operand), "com.microsoft.RotaryEmbedding");
      if (i < 2 && !isRotated && rotary) {
        isInterleaved = getInt(rotary, "interleaved", 0);
        isSplit[i] = true;
        Value positions = getOperand(rotary, 1);
        for (auto &evaluator : evaluators) {
          const Array *given = positions ? evaluator->get(positions) : nullptr;
          const Lengths &lengths = evaluator->getLengths();
          if (!given || !given->isKnown() || given->count % lengths.tokens != 0)
            return refuse(operand, "positions that count tokens");
          for (int64_t at : {int64_t(0), given->count - 1})
            if (given->integer(at) != lengths.past + at % lengths.tokens)
              return refuse(operand, "positions that count tokens");
        }
        int64_t width = getInt(rotary, "rotary_embedding_dim", 0);
        if (width || getFloat(rotary, "scale", 1) != 1 ||
            getInt(rotary, "is_packed_batching", 0))
          return refuse(operand, "whole heads that are rotated, without a "
                                 "scale or packing");
        if (!checkCaches(getOperand(rotary, 2), getOperand(rotary, 3), operand))
          return false;
        operand = rotary.getInputs()[0];
      }
      if (!matchLinear(operand, *parts[i], inputs[i]))
        return refuse(operand, "a projection by a matrix");
    }
    if (isSplit[0] != isSplit[1])
      return refuse(value, "rotated queries and keys");
    isRotated |= isSplit[0];
    dim = heads > 0 ? layer.q.rows / heads : 0;
  }
  if (!isRotated)
    return refuse(value, "do_rotary 1, or rotated queries and keys");
  if (!setHeads(value, heads, kvHeads, dim))
    return false;
  if (!hasHeads(layer.q, heads, dim) || !hasHeads(layer.k, kvHeads, dim) ||
      !hasHeads(layer.v, kvHeads, dim))
    return refuse(value, "projections of " + Twine(heads) + " and " +
                             Twine(kvHeads) + " heads of width " + Twine(dim));
  if (getInt(node, "do_rotary", 0) &&
      !checkCaches(getOperand(node, 7), getOperand(node, 8), value))
    return false;
  if (isInterleaved) {
    layer.q.interleavedHeads = heads;
    layer.k.interleavedHeads = kvHeads;
  }
  if (Value positions = getOperand(node, 9)) {
    for (auto &evaluator : evaluators) {
      const Array *given = evaluator->get(positions);
      if (!given || !given->isKnown() || !given->count ||
          given->integer(given->count - 1) !=
              evaluator->getLengths().past + evaluator->getLengths().tokens - 1)
        return refuse(value, "positions that count tokens");
    }
  }
  double scale = getFloat(node, "scale", 0);
  double expected = 1 / std::sqrt(double(dim));
  if (scale != 0 && std::abs(scale - expected) > 1e-6 * expected)
    return refuse(value, "scale " + Twine(std::to_string(expected)) +
                             ", one over the root of a head's width, but got " +
                             Twine(std::to_string(scale)));
  // How many tokens each sequence has, and the most of them.
  for (auto &evaluator : evaluators) {
    int64_t total =
        evaluator->getLengths().past + evaluator->getLengths().tokens;
    for (unsigned i : {5, 6}) {
      Value lengths = getOperand(node, i);
      const Array *given = lengths ? evaluator->get(lengths) : nullptr;
      if (!given || !given->isKnown() || !given->count)
        return refuse(value, "lengths of sequences that come from shapes or "
                             "the attention mask, as input " +
                                 Twine(i));
      for (int64_t at = 0; at < given->count; ++at)
        if (given->integer(at) != total - (i == 5))
          return refuse(value,
                        "lengths of whole sequences as input " + Twine(i));
    }
  }
  return matchInputNorm(value, inputs, residual, layer);
}

bool DecoderProof::matchAttention(Value input, Value residual,
                                  DecoderLayer &layer) {
  Value stripped = strip(input);
  if (NodeOp node = nodeOf(stripped, "com.microsoft.GroupQueryAttention"))
    return matchGroupQuery(node, residual, layer);
  return matchProducts(input, residual, layer);
}

//===----------------------------------------------------------------------===//
// Attention as products
//===----------------------------------------------------------------------===//

bool onnx::forElements(
    const Lengths &lengths, int64_t heads, int64_t dim,
    llvm::function_ref<bool(int64_t, int64_t, int64_t, int64_t)> check) {
  int64_t last = lengths.batch - 1, end = lengths.tokens - 1;
  SmallVector<int64_t> tokens;
  if (lengths.tokens <= 64)
    for (int64_t s = 0; s < lengths.tokens; ++s)
      tokens.push_back(s);
  else
    tokens = {0, 1, 2, 100, lengths.tokens / 3, end - 1, end};
  for (int64_t h : {int64_t(0), heads - 1})
    for (int64_t s : tokens)
      for (int64_t j = 0; j < dim; ++j)
        if (!check(last, h, s, j))
          return false;
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t j : {int64_t(0), dim - 1})
      if (!check(0, h, end, j) || !check(last, h, end, j))
        return false;
  return true;
}

/// Concat(-high, low) of the last dimension of what is rotated.
bool DecoderProof::matchSwap(Value value, Rotation &rotation) {
  NodeOp concat = nodeOf(strip(value), "Concat");
  if (!concat || concat.getInputs().size() != 2)
    return false;
  const Array *whole = small().get(concat.getOutputs()[0]);
  if (!whole || !isLastAxis(concat, 0, whole))
    return false;
  NodeOp negated = nodeOf(strip(concat.getInputs()[0]), "Neg");
  if (!negated)
    return false;
  rotation.high = walk(negated.getInputs()[0]);
  rotation.low = walk(concat.getInputs()[1]);
  return true;
}

/// x * cos + swap(x) * sin.
bool DecoderProof::matchRotation(Value value, Rotation &rotation) {
  if (NodeOp node = nodeOf(value, "RotaryEmbedding")) {
    if (getInt(node, "interleaved", 0) ||
        getInt(node, "rotary_embedding_dim", 0) || node.getInputs().size() < 3)
      return refuse(value, "whole heads that are rotated by halves");
    rotation.node = node;
    rotation.isFused = true;
    rotation.input = walk(node.getInputs()[0]);
    rotation.cosine = node.getInputs()[1];
    rotation.sine = node.getInputs()[2];
    rotation.positions = getOperand(node, 3);
    return true;
  }
  NodeOp add = nodeOf(value, "Add");
  if (!add || add.getInputs().size() != 2)
    return refuse(value, "rotated heads: x * cos + rotate_half(x) * sin");
  rotation.node = add;
  auto isTable = [&](Value table) {
    const Array *array = small().get(table);
    return array && array->isKnown();
  };
  for (unsigned side : {0, 1}) {
    NodeOp plain = nodeOf(strip(add.getInputs()[side]), "Mul");
    NodeOp swapped = nodeOf(strip(add.getInputs()[1 - side]), "Mul");
    if (!plain || !swapped || plain.getInputs().size() != 2 ||
        swapped.getInputs().size() != 2)
      continue;
    for (unsigned a : {0, 1})
      for (unsigned b : {0, 1}) {
        if (!isTable(plain.getInputs()[1 - a]) ||
            !isTable(swapped.getInputs()[1 - b]) ||
            !matchSwap(swapped.getInputs()[b], rotation))
          continue;
        rotation.input = walk(plain.getInputs()[a]);
        rotation.cosine = plain.getInputs()[1 - a];
        rotation.sine = swapped.getInputs()[1 - b];
        if (rotation.input.source == rotation.high.source &&
            rotation.input.source == rotation.low.source)
          return true;
      }
  }
  return refuse(value, "rotated heads: x * cos + rotate_half(x) * sin, with "
                       "cosines and sines that depend on positions alone");
}

/// The rotation of the model, from the first table that is seen.
bool DecoderProof::setRope(const RopeTable &table, Value value) {
  if (hasRope)
    return true;
  std::optional<RopeConfig> rope = givenRope;
  if (!rope)
    rope = fitRope(table);
  if (!rope)
    return refuse(value, "cosines and sines of a rotary embedding without "
                         "scaling, or with that of YaRN, Llama 3 or one "
                         "factor; what config.json says beside the file is "
                         "taken, too");
  decoder.rope = *rope;
  formula =
      RopeFormula(makeRotary(*graph.getContext(), *rope, 2 * table.pairs));
  hasRope = true;
  return true;
}

/// How many bits a number of the type of \p value has, besides its exponent.
static unsigned mantissaOf(Value value) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type || type.getElementType().isF32())
    return 23;
  if (type.getElementType().isF16())
    return 10;
  return type.getElementType().isBF16() ? 7 : 23;
}

/// Tables `[positions, dim / 2]` of a fused node.
bool DecoderProof::checkCaches(Value cosine, Value sine, Value value) {
  if (!cosine || !sine)
    return refuse(value, "caches of cosines and sines");
  if (provenCaches.contains({cosine, sine}))
    return true;
  // A cache may be a tensor of the file, or some of its rows.
  const Array *cosines = large().get(cosine), *sines = large().get(sine);
  if (!cosines || !sines || !cosines->isKnown() || !sines->isKnown() ||
      cosines->shape.size() != 2 || cosines->shape != sines->shape ||
      cosines->count == 0)
    return refuse(value, "caches of cosines and sines, [positions, pairs], "
                         "that are tensors of the file");
  RopeTable table;
  table.positions = cosines->shape[0];
  table.pairs = cosines->shape[1];
  table.at = [=](int64_t p, int64_t i) {
    int64_t at = p * cosines->shape[1] + i;
    return Angle{cosines->real(at), sines->real(at)};
  };
  unsigned bits = std::min(mantissaOf(strip(cosine)), mantissaOf(strip(sine)));
  table.mantissaBits = bits;
  if (decoder.headDim && table.pairs * 2 != decoder.headDim)
    return refuse(value, "a cache of " + Twine(decoder.headDim / 2) +
                             " pairs, but got " + Twine(table.pairs));
  if (!setRope(table, value))
    return false;
  if (formula.pairs() != table.pairs)
    return refuse(value, "a cache of " + Twine(formula.pairs()) + " pairs");
  // All of a short table, some thousand rows of a long one.
  int64_t step = std::max<int64_t>(1, table.positions / 4096);
  for (int64_t p = 0; p < table.positions; p += step)
    for (int64_t i = 0; i < table.pairs; ++i) {
      Angle angle = table.at(p, i);
      if (formula.matches(angle, p, i, bits))
        continue;
      Angle expected = formula.at(p, i);
      return refuse(
          value, "a cosine of " + Twine(std::to_string(expected.cosine)) +
                     " and a sine of " + Twine(std::to_string(expected.sine)) +
                     " for pair " + Twine(i) + " at position " + Twine(p) +
                     ", but got " + Twine(std::to_string(angle.cosine)) +
                     " and " + Twine(std::to_string(angle.sine)));
    }
  decoder.maxPositions = decoder.maxPositions
                             ? std::min(decoder.maxPositions, table.positions)
                             : table.positions;
  provenCaches.insert({cosine, sine});
  return true;
}

/// The row of `[batch, tokens]` that element \p index of what a RotaryEmbedding
/// rotates is of.
int64_t DecoderProof::rowOf(Evaluator &evaluator, Rotation &rotation,
                            int64_t index) {
  const Array *whole = evaluator.get(rotation.node.getOutputs()[0]);
  const Lengths &lengths = evaluator.getLengths();
  int64_t width =
      whole->shape.size() == 4 ? decoder.headDim : whole->shape.back();
  return index / (whole->count / lengths.batch) * lengths.tokens +
         index / width % lengths.tokens;
}

/// The cosine and the sine that element \p index of what is rotated gets; no
/// numbers if there are none.
Angle DecoderProof::angleOf(Evaluator &evaluator, Rotation &rotation,
                            int64_t index) {
  const Array *cosines = evaluator.get(rotation.cosine);
  const Array *sines = evaluator.get(rotation.sine);
  const Array *whole = evaluator.get(rotation.node.getOutputs()[0]);
  int64_t c = -1, s = -1;
  if (!rotation.isFused) {
    c = broadcastIndex(index, cosines->shape, whole->shape);
    s = broadcastIndex(index, sines->shape, whole->shape);
  } else if (cosines->shape == sines->shape && cosines->count > 0 &&
             cosines->shape.back() * 2 == decoder.headDim) {
    int64_t half = decoder.headDim / 2;
    int64_t row = rowOf(evaluator, rotation, index) % (cosines->count / half);
    c = s = row * half + index % half;
  }
  return c < 0 || s < 0 ? Angle{std::nan(""), 0}
                        : Angle{cosines->real(c), sines->real(s)};
}

bool DecoderProof::matchHeads(Value operand, HeadLayout layout, bool isCached,
                              bool isRotated, int64_t heads, Matrix &matrix,
                              Value &input) {
  Movement outer = walk(operand);
  Rotation rotation;
  Value source = outer.source;
  if (isRotated) {
    if (!matchRotation(source, rotation))
      return false;
    if (rotation.positions &&
        !checkCaches(rotation.cosine, rotation.sine, source))
      return false;
    source = rotation.input.source;
  }
  int64_t dim = decoder.headDim;
  int64_t first = -1, kvHeads = 0, width = 0;
  // The lengths that all is known for come first, the many tokens last; the
  // table behind a rotation is read at the latter.
  for (size_t n = evaluators.size(); n-- > 0;) {
    Evaluator &evaluator = *evaluators[n];
    const Lengths &lengths = evaluator.getLengths();
    int64_t past = isCached ? lengths.past : 0;
    int64_t total = past + lengths.tokens;
    ArrayPtr outerIndex = trace(evaluator, outer);
    const Array *from = evaluator.get(source);
    if (!outerIndex || !from || from->shape.empty() ||
        outerIndex->count != lengths.batch * heads * total * dim)
      return refuse(operand, "heads that are moved by nodes that are known");
    width = from->shape.back();
    if (from->count != lengths.batch * lengths.tokens * width)
      return refuse(source, "rows of a projection, one a token");
    ArrayPtr index = outerIndex, high, low;
    if (isRotated) {
      index = trace(evaluator, rotation.input);
      const Array *cosines = evaluator.get(rotation.cosine);
      const Array *sines = evaluator.get(rotation.sine);
      const Array *whole = evaluator.get(rotation.node.getOutputs()[0]);
      if (!index || !cosines || !cosines->isKnown() || !sines ||
          !sines->isKnown() || !whole || whole->count != index->count ||
          whole->shape.empty() || whole->shape.back() % dim != 0 ||
          whole->count < lengths.batch)
        return refuse(operand, "whole heads that are rotated");
      if (!rotation.isFused) {
        high = trace(evaluator, rotation.high);
        low = trace(evaluator, rotation.low);
        if (!high || !low || whole->shape.back() != dim ||
            high->count * 2 != whole->count || low->count * 2 != whole->count ||
            high->shape.back() * 2 != dim || low->shape.back() * 2 != dim)
          return refuse(operand, "whole heads that are rotated");
      }
    }
    const Array *positions = nullptr;
    if (rotation.positions) {
      positions = evaluator.get(rotation.positions);
      if (!positions || !positions->isKnown() || positions->count == 0)
        return refuse(operand, "positions that count tokens");
    }
    auto flat = [&](int64_t b, int64_t h, int64_t t, int64_t j) {
      return layout == HeadLayout::Heads
                 ? ((b * heads + h) * total + t) * dim + j
             : layout == HeadLayout::Rows
                 ? ((b * total + t) * heads + h) * dim + j
                 : ((b * heads + h) * dim + j) * total + t;
    };
    auto angleAt = [&](int64_t at) { return angleOf(evaluator, rotation, at); };
    if (isRotated && !hasRope) {
      RopeTable table;
      table.positions = lengths.tokens;
      table.pairs = dim / 2;
      table.at = [&](int64_t p, int64_t i) {
        return angleAt(outerIndex->integer(flat(0, 0, past + p, i)));
      };
      if (past != 0 || !setRope(table, operand))
        return refuse(operand, "a graph that takes steps without a past");
    }
    if (first < 0) {
      // From the heads of one token: where they start, and how many there are.
      int64_t begin = outerIndex->integer(flat(0, 0, past, 0));
      first = isRotated ? index->integer(begin) : begin;
      int64_t repeats = 1;
      for (; repeats < heads; ++repeats)
        if (outerIndex->integer(flat(0, repeats, past, 0)) != begin)
          break;
      kvHeads = heads / repeats;
      if (heads % repeats != 0 || first < 0 || first + kvHeads * dim > width)
        return refuse(operand, "heads of a projection, each as often");
    }
    int64_t repeats = heads / kvHeads;
    unsigned bits = 23;
    bool isRight = forElements(
        lengths, heads, dim, [&](int64_t b, int64_t h, int64_t s, int64_t j) {
          int64_t expected =
              (b * lengths.tokens + s) * width + first + h / repeats * dim + j;
          int64_t at = outerIndex->integer(flat(b, h, past + s, j));
          if (!isRotated)
            return at == expected;
          if (at < 0 || at >= index->count || index->integer(at) != expected ||
              at % dim != j)
            return false;
          int64_t half = dim / 2, row = at / dim;
          if (positions)
            return positions->integer(rowOf(evaluator, rotation, at) %
                                      positions->count) == lengths.past + s;
          if (rotation.isFused)
            return formula.matches(angleAt(at), lengths.past + s, j % half,
                                   bits);
          int64_t other = j < half ? high->integer(row * half + j)
                                   : low->integer(row * half + j - half);
          return other == (j < half ? expected + half : expected - half) &&
                 formula.matches(angleAt(at), lengths.past + s, j % half, bits);
        });
    if (!isRight)
      return refuse(operand, isRotated
                                 ? "heads of a projection, rotated by halves "
                                   "as the positions say"
                                 : "heads of a projection");
    if (past)
      for (int64_t h : {int64_t(0), heads - 1})
        for (int64_t t : {int64_t(0), past - 1})
          if (outerIndex->integer(flat(0, h, t, 0)) != -1)
            return refuse(operand, "keys and values of the past before others");
  }
  if (!matchLinear(source, matrix, input))
    return refuse(source, "a projection by a matrix");
  if (matrix.rows != width)
    return refuse(source, "a projection to " + Twine(width) + " columns");
  matrix.firstRow += first;
  matrix.rows = kvHeads * dim;
  return true;
}

/// A token sees those before it and itself. \p isCondition: the mask is true,
/// or with \p isInverted false, where it does; else it is added to scores.
bool DecoderProof::matchMask(Value mask, bool isCondition, bool isInverted) {
  if (provenMasks.contains(mask))
    return true;
  for (auto &evaluator : evaluators) {
    const Lengths &lengths = evaluator->getLengths();
    const Array *array = evaluator->get(mask);
    int64_t total = lengths.past + lengths.tokens;
    if (!array || !array->isKnown() || array->shape.size() > 4)
      return refuse(mask, "a mask that is computed from positions, shapes and "
                          "the attention mask by nodes that are known");
    int64_t shape[] = {lengths.batch, 1, lengths.tokens, total};
    auto sees = [&](int64_t b, int64_t i, int64_t j) -> std::optional<bool> {
      int64_t at = broadcastIndex((b * lengths.tokens + i) * total + j,
                                  array->shape, shape);
      if (at < 0)
        return std::nullopt;
      double number = array->real(at);
      if (isCondition)
        return (number != 0) != isInverted;
      if (number == 0)
        return true;
      if (number <= blocked)
        return false;
      return std::nullopt; // Also for NaN.
    };
    SmallVector<int64_t> rows, columns;
    int64_t end = lengths.tokens - 1;
    if (lengths.tokens <= 64)
      for (int64_t i = 0; i < lengths.tokens; ++i)
        rows.push_back(i);
    else
      rows = {0, 1, 2, 100, lengths.tokens / 3, end - 1, end};
    for (int64_t i : rows) {
      int64_t own = lengths.past + i;
      columns.clear();
      if (total <= 64)
        for (int64_t j = 0; j < total; ++j)
          columns.push_back(j);
      else
        columns = {0,   1,       own / 2,           own - 1,
                   own, own + 1, (own + total) / 2, total - 1};
      for (int64_t j : columns) {
        if (j < 0 || j >= total)
          continue;
        for (int64_t b : {int64_t(0), lengths.batch - 1}) {
          std::optional<bool> seen = sees(b, i, j);
          if (!seen)
            return refuse(mask, "a mask of 0 and numbers of at most -10000, "
                                "[batch, 1, tokens, all tokens]");
          if (*seen != (j <= own))
            return refuse(mask, "a mask that lets a token see itself and all "
                                "before it, but at position " +
                                    Twine(own) + " position " + Twine(j) +
                                    " is " + (*seen ? "seen" : "not seen"));
        }
      }
    }
  }
  provenMasks.insert(mask);
  return true;
}

/// \p outer makes rows of \p value of heads `[batch, heads, tokens, dim]`.
bool DecoderProof::matchMerged(const Movement &outer, Value value,
                               int64_t heads, int64_t dim) {
  // The heads of a token, one after the other.
  for (auto &evaluator : evaluators) {
    const Lengths &lengths = evaluator->getLengths();
    ArrayPtr index = trace(*evaluator, outer);
    if (!index || index->shape.empty() || index->shape.back() != heads * dim ||
        index->count != lengths.batch * lengths.tokens * heads * dim)
      return refuse(value, "rows of all heads of a token");
    bool isRight = forElements(
        lengths, heads, dim, [&](int64_t b, int64_t h, int64_t s, int64_t j) {
          int64_t at = ((b * lengths.tokens + s) * heads + h) * dim + j;
          return index->integer(at) ==
                 ((b * heads + h) * lengths.tokens + s) * dim + j;
        });
    if (!isRight)
      return refuse(value, "rows of all heads of a token, in order");
  }
  return true;
}

/// softmax(q k^T * scale + mask) v.
bool DecoderProof::matchProducts(Value input, Value residual,
                                 DecoderLayer &layer) {
  Movement outer = walk(input);
  if (NodeOp node = nodeOf(outer.source, "Attention"))
    return matchOperator(node, outer, residual, layer);
  NodeOp product = nodeOf(outer.source, "MatMul");
  if (!product || product.getInputs().size() != 2)
    return refuse(outer.source, "attention: a product of weights and values, "
                                "or com.microsoft.GroupQueryAttention");
  Value result = product.getOutputs()[0];
  double none = 1;
  Value weights = peel(product.getInputs()[0], none);
  // Where a row has nothing to attend to, zeros; a causal one always has.
  if (NodeOp where = nodeOf(weights, "Where");
      where && where.getInputs().size() == 3)
    if (NodeOp isNaN = nodeOf(where.getInputs()[0], "IsNaN");
        isNaN && isNaN.getInputs()[0] == where.getInputs()[2])
      weights = where.getInputs()[2];
  weights = peel(weights, none);
  NodeOp softmax = nodeOf(weights, "Softmax");
  if (!softmax || none != 1)
    return refuse(weights, "a softmax of scores");
  const Array *shape = small().get(softmax.getInputs()[0]);
  if (!shape || shape->shape.size() != 4 ||
      (getInt(softmax, "axis", -1) != -1 && getInt(softmax, "axis", -1) != 3))
    return refuse(weights, "a softmax over the last of four dimensions");

  double scale = 1;
  Value scores = peel(softmax.getInputs()[0], scale);
  if (scale != 1)
    return refuse(weights, "a mask that is added last");
  auto isKnown = [&](Value value) {
    const Array *array = small().get(value);
    return array && array->isKnown();
  };
  if (NodeOp add = nodeOf(scores, "Add"); add && add.getInputs().size() == 2) {
    unsigned side = isKnown(add.getInputs()[1]) ? 1 : 0;
    if (!matchMask(add.getInputs()[side], false, false))
      return false;
    scores = add.getInputs()[1 - side];
  } else if (NodeOp where = nodeOf(scores, "Where");
             where && where.getInputs().size() == 3) {
    unsigned side = isKnown(where.getInputs()[1]) ? 1 : 2;
    std::optional<double> low = scalarOf(where.getInputs()[side]);
    if (!low || *low > blocked)
      return refuse(scores, "a number of at most -10000 for what is not seen");
    if (!matchMask(where.getInputs()[0], true, side == 1))
      return false;
    scores = where.getInputs()[3 - side];
  } else {
    return refuse(scores, "scores to which a mask is added");
  }
  scores = peel(scores, scale);
  NodeOp product2 = nodeOf(scores, "MatMul");
  if (!product2 || product2.getInputs().size() != 2)
    return refuse(scores, "a product of queries and keys");
  Value queries = peel(product2.getInputs()[0], scale);
  Value keys = peel(product2.getInputs()[1], scale);
  // A key may be scaled before it is transposed.
  if (NodeOp transpose = nodeOf(keys, "Transpose")) {
    double before = 1;
    peel(transpose.getInputs()[0], before);
    if (before != 1)
      return refuse(keys, "scores that are scaled, not keys before they are "
                          "transposed");
  }
  bool isLatent = bool(findJoin(queries));
  if (isLatent && !matchLatent(product, queries, keys, scale, residual, layer))
    return false;
  if (isLatent)
    return matchMerged(outer, input, decoder.heads, decoder.latent->valueDim);
  if (decoder.latent)
    return refuse(scores, "latent attention in all layers or in none");
  const Array *queryShape = small().get(queries);
  if (!queryShape || queryShape->shape.size() != 4)
    return refuse(scores, "queries of four dimensions");
  int64_t heads = queryShape->shape[1], dim = queryShape->shape[3];
  decoder.heads = decoder.heads ? decoder.heads : heads;
  decoder.headDim = decoder.headDim ? decoder.headDim : dim;
  if (heads != decoder.heads || dim != decoder.headDim || dim % 2 != 0)
    return refuse(scores, Twine(decoder.heads) + " heads of an even width, " +
                              Twine(decoder.headDim) + ", but got " +
                              Twine(heads) + " of " + Twine(dim));
  double expected = 1 / std::sqrt(double(dim));
  if (!(std::abs(scale - expected) <= 1e-6 * expected))
    return refuse(scores,
                  "a scale of " + Twine(std::to_string(expected)) +
                      ", one over the root of a head's width, but got " +
                      Twine(std::to_string(scale)));

  Value inputs[3];
  return matchProjections(
             result,
             {{queries, HeadLayout::Heads, /*isCached=*/false, heads},
              {keys, HeadLayout::Transposed, /*isCached=*/true, heads},
              {product.getInputs()[1], HeadLayout::Heads, /*isCached=*/true,
               heads}},
             layer, inputs) &&
         matchMerged(outer, input, heads, dim) &&
         matchInputNorm(result, inputs, residual, layer);
}

/// Queries, keys and values are \p operands, heads of projections of \p inputs.
bool DecoderProof::matchProjections(Value result,
                                    ArrayRef<HeadsOperand> operands,
                                    DecoderLayer &layer, Value (&inputs)[3]) {
  Matrix *matrices[] = {&layer.q, &layer.k, &layer.v};
  for (unsigned i : {0, 1, 2}) {
    const HeadsOperand &each = operands[i];
    if (!matchHeads(each.value, each.layout, each.isCached,
                    /*isRotated=*/i != 2, each.heads, *matrices[i], inputs[i]))
      return false;
  }
  int64_t heads = operands[0].heads, dim = decoder.headDim;
  if (layer.q.rows != heads * dim || layer.k.rows != layer.v.rows)
    return refuse(result, "as many heads of keys as of values");
  int64_t kvHeads = layer.k.rows / dim;
  decoder.kvHeads = decoder.kvHeads ? decoder.kvHeads : kvHeads;
  return setHeads(result, heads, kvHeads, dim);
}

/// Attention of opset 23, with the past in it or before it.
bool DecoderProof::matchOperator(NodeOp node, const Movement &outer,
                                 Value residual, DecoderLayer &layer) {
  Value result = node.getOutputs()[0];
  if (getInt(node, "left_window_size", -1) != -1 ||
      getInt(node, "right_window_size", -1) > 0)
    return refuse(result, "no left_window_size and no right_window_size");
  if (double cap = getFloat(node, "softcap", 0); cap != 0)
    return refuse(result, "softcap 0, but got " + Twine(std::to_string(cap)));
  if (getOperand(node, 6))
    return refuse(result, "no nonpad_kv_seqlen");
  bool hasPastInput = bool(getOperand(node, 4));
  for (unsigned i : {4, 5})
    if (Value past = getOperand(node, i); past && !isa<BlockArgument>(past))
      return refuse(result, "keys and values of the past that are inputs");
  // Sizes, which no length changes.
  int64_t counts[3] = {getInt(node, "q_num_heads", 0),
                       getInt(node, "kv_num_heads", 0),
                       getInt(node, "kv_num_heads", 0)};
  int64_t dim = 0;
  bool isRows = false;
  for (unsigned i : {0, 1, 2}) {
    Value operand = getOperand(node, i);
    const Array *array = operand ? small().get(operand) : nullptr;
    if (!array || (array->shape.size() != 4 && array->shape.size() != 3) ||
        (i && isRows != (array->shape.size() == 3)))
      return refuse(result, "queries, keys and values of known shape");
    isRows = array->shape.size() == 3;
    if (!isRows)
      counts[i] = array->shape[1];
    int64_t width = array->shape.back();
    if (isRows && (counts[i] < 1 || width % counts[i] != 0))
      return refuse(result, "q_num_heads and kv_num_heads that divide rows");
    width = isRows ? width / counts[i] : width;
    if (i && width != dim)
      return refuse(result, "heads of one width, but got " + Twine(dim) +
                                " and " + Twine(width));
    dim = width;
  }
  double scale = getFloat(node, "scale", 0);
  double expected = 1 / std::sqrt(double(dim));
  if (scale != 0 && !(std::abs(scale - expected) <= 1e-6 * expected))
    return refuse(result,
                  "scale " + Twine(std::to_string(expected)) +
                      ", one over the root of a head's width, but got " +
                      Twine(std::to_string(scale)));
  decoder.heads = decoder.heads ? decoder.heads : counts[0];
  decoder.headDim = decoder.headDim ? decoder.headDim : dim;
  if (decoder.latent || counts[0] != decoder.heads || dim != decoder.headDim ||
      dim < 2 || dim % 2 != 0 || counts[0] < 1 || counts[1] < 1 ||
      counts[2] < 1)
    return refuse(result, Twine(decoder.heads) + " heads of an even width, " +
                              Twine(decoder.headDim) + ", but got " +
                              Twine(counts[0]) + " of " + Twine(dim));
  bool isCausal = getInt(node, "is_causal", 0);
  // What is joined before the node is not past to it.
  if (isCausal && hasPast && !hasPastInput)
    return refuse(result, "is_causal 0 where the past is joined before it");
  if (Value mask = getOperand(node, 3)) {
    const Array *array = small().get(mask);
    if (!matchMask(mask, array && !array->isReal, false))
      return false;
  } else if (!isCausal) {
    return refuse(result, "is_causal 1, or a mask");
  }
  HeadLayout layout = isRows ? HeadLayout::Rows : HeadLayout::Heads;
  Value inputs[3];
  bool isCached = !hasPastInput;
  if (!matchProjections(result,
                        {{getOperand(node, 0), layout, false, counts[0]},
                         {getOperand(node, 1), layout, isCached, counts[1]},
                         {getOperand(node, 2), layout, isCached, counts[2]}},
                        layer, inputs))
    return false;
  if (isRows && strip(outer.result) != result)
    return refuse(outer.result, "rows of all heads of a token, in order");
  return (isRows || matchMerged(outer, outer.result, counts[0], dim)) &&
         matchInputNorm(result, inputs, residual, layer);
}

//===----------------------------------------------------------------------===//
// The model
//===----------------------------------------------------------------------===//

/// com.microsoft.GatherBlockQuantized: rows of integers, a scale a block.
bool DecoderProof::matchPackedTable(NodeOp node, Matrix &matrix) {
  Value result = node.getOutputs()[0];
  int64_t bits = getInt(node, "bits", 4);
  int64_t block = getInt(node, "block_size", 128);
  InitializerOp tensor = bytesOf(getOperand(node, 0));
  const Array *codes = small().get(getOperand(node, 0));
  int64_t along = getInt(node, "quantize_axis", 1);
  if (!tensor || !codes || codes->shape.size() != 2 ||
      getInt(node, "gather_axis", 0) != 0 || (along != 1 && along != -1))
    return refuse(result, "rows of a matrix of the file, with blocks along "
                          "them");
  if (block < 16 || block > (1 << 20) || (block & (block - 1)) != 0)
    return refuse(result, "a block_size that is a power of two from 16 on, "
                          "but got " +
                              Twine(block));
  // Of integers of 4 bits zero stands for zero.
  if (getLogicalType(tensor) != tensor.getType())
    return matchQuantized(
        node, {tensor.getResult(), getOperand(node, 2), getOperand(node, 3)},
        along, /*isTransposed=*/false, matrix);
  if ((bits != 2 && bits != 4 && bits != 8) ||
      !tensor.getType().getElementType().isUnsignedInteger(8))
    return refuse(result, "bytes of bits 2, 4 or 8, but got " + Twine(bits));
  int64_t rows = codes->shape[0], columns = codes->shape[1] * 8 / bits;
  int64_t blocks = (columns + block - 1) / block;
  matrix.tensor = tensor;
  matrix.scales = bytesOf(getOperand(node, 2));
  Value zeros = getOperand(node, 3);
  matrix.zeros = zeros ? bytesOf(zeros) : InitializerOp();
  auto hasElements = [](InitializerOp op, int64_t count) {
    return op && op.getType().getNumElements() == count;
  };
  Type scale =
      matrix.scales ? matrix.scales.getType().getElementType() : Type();
  if (!hasElements(matrix.scales, rows * blocks) ||
      (!scale.isF32() && !scale.isF16() && !scale.isBF16()))
    return refuse(result, "scales of floats, one a block, " +
                              Twine(rows * blocks) + " in all");
  int64_t zeroBytes = rows * ((blocks * bits + 7) / 8);
  if (zeros && (!hasElements(matrix.zeros, zeroBytes) ||
                !matrix.zeros.getType().getElementType().isUnsignedInteger(8)))
    return refuse(result, "zero points of " + Twine(zeroBytes) + " bytes");
  matrix.packedBits = bits;
  matrix.block = block;
  matrix.columns = columns;
  matrix.storedRows = matrix.rows = rows;
  return true;
}

/// DequantizeLinear of rows that are taken, and of their scales, or of one.
bool DecoderProof::matchTakenRows(NodeOp node, Value &tokens, Matrix &matrix) {
  Value result = node.getOutputs()[0];
  const Array *array = small().get(result);
  Value tables[3];
  for (unsigned i : {0, 1, 2}) {
    Value operand = getOperand(node, i);
    NodeOp gather = operand ? nodeOf(strip(operand), "Gather") : NodeOp();
    tables[i] = gather ? gather.getInputs()[0] : operand;
    if (!gather)
      continue;
    if (gather.getInputs().size() != 2 || getInt(gather, "axis", 0) != 0 ||
        (i && gather.getInputs()[1] != tokens))
      return refuse(result, "rows, scales and zero points of the same tokens");
    tokens = gather.getInputs()[1];
  }
  if (!array || array->shape.size() < 2)
    return refuse(result, "rows of a matrix");
  int64_t axis = getInt(node, "axis", 1);
  axis = axis < 0 ? axis : axis - int64_t(array->shape.size()) + 2;
  if (!matchQuantized(node, tables, axis, /*isTransposed=*/false, matrix))
    return false;
  bool areTaken = tables[1] != getOperand(node, 1);
  if (areTaken == matrix.hasOneScale)
    return refuse(result, "one scale, or those of the rows that are taken");
  return true;
}

bool DecoderProof::matchEmbedding(Value value) {
  Matrix &table = decoder.embedding;
  // Rows may be numbers before they are taken, or become them afterwards.
  NodeOp node = nodeOf(value), gather = node;
  if (node && node.getOpType() == "DequantizeLinear")
    gather = nodeOf(strip(node.getInputs()[0]), "Gather");
  bool isPacked =
      gather && gather.getOpType() == "com.microsoft.GatherBlockQuantized";
  if (!gather || (!isPacked && gather.getOpType() != "Gather") ||
      gather.getInputs().size() < 2)
    return false;
  Value rows = gather.getInputs()[0], tokens = gather.getInputs()[1];
  if (gather != node) {
    if (!matchTakenRows(node, tokens, table))
      return false;
  } else if (isPacked) {
    if (!matchPackedTable(gather, table))
      return false;
  } else if (NodeOp before = nodeOf(strip(rows), "DequantizeLinear")) {
    if (!matchQuantized(before, /*isTransposed=*/false, table))
      return false;
  } else if (InitializerOp tensor = initializerOf(rows);
             tensor && tensor.getType().getRank() == 2) {
    table.tensor = tensor;
    table.storedRows = table.rows = tensor.getType().getDimSize(0);
    table.columns = tensor.getType().getDimSize(1);
  }
  while (NodeOp cast = nodeOf(tokens, "Cast"))
    tokens = cast.getInputs()[0];
  auto argument = dyn_cast<BlockArgument>(tokens);
  auto name = argument ? graph.getArgAttrOfType<StringAttr>(
                             argument.getArgNumber(), "onnx.name")
                       : StringAttr();
  if (!table.tensor || getInt(gather, "axis", 0) != 0 || !name ||
      name.getValue() != "input_ids")
    return refuse(value, "rows of a matrix of the file by 'input_ids'");
  return true;
}

absl::StatusOr<Decoder> DecoderProof::match() {
  auto names = graph->getAttrOfType<ArrayAttr>("onnx.outputs");
  auto results = cast<func::ReturnOp>(graph.front().getTerminator());
  if (!names || names.size() != results.getNumOperands() || names.empty())
    return invalid(path + ": the graph has no outputs");
  Value logits;
  for (auto [name, value] : llvm::zip(names, results.getOperands()))
    if (cast<StringAttr>(name).getValue() == "logits")
      logits = value;
  if (!logits)
    return unimplemented(path +
                         ": the graph has no output 'logits', its first "
                         "is " +
                         quote(cast<StringAttr>(names[0]).getValue()));
  if (!chooseLengths())
    return status;
  if (joinAllParts()) {
    evaluators.clear();
    chooseLengths();
  }

  Value normed, x;
  if (!matchLinear(logits, decoder.head, normed)) {
    refuse(strip(logits), "logits that are a projection by a matrix");
    return status;
  }
  if (!matchNorm(normed, decoder.norm, x))
    return status;
  while (ok() && !matchEmbedding(strip(x))) {
    DecoderLayer layer;
    Value middle, attended;
    bool isLayer = ok() && matchNetwork(x, middle, layer) &&
                   matchResidual(middle, x, layer.o, attended) &&
                   matchAttention(attended, x, layer);
    if (!isLayer)
      break;
    decoder.layers.push_back(layer);
  }
  if (!ok())
    return status;
  if (decoder.layers.empty())
    return unimplemented(path + ": the graph has no layers");
  std::reverse(decoder.layers.begin(), decoder.layers.end());
  return std::move(decoder);
}

absl::StatusOr<Decoder>
onnx::matchDecoder(func::FuncOp graph, StringRef folder, StringRef path,
                   const std::optional<RopeConfig> &rope) {
  return DecoderProof(graph, folder, path, rope).match();
}
