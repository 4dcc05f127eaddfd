// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every op of the deepseek dialect again, plain and slow. Each function below
// is the formula in the description of its op, and nothing cleverer.

#include "dialects/DeepSeek/Reference/Reference.h"

#include "dialects/DeepSeek/IR/InputRounding.h"
#include "dialects/DeepSeek/IR/RotaryTable.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

/// A chain of calls that is longer is taken for a recursion.
constexpr unsigned maxCallDepth = 64;

static double dot(const double *a, const double *b, int64_t size) {
  double sum = 0;
  for (int64_t i = 0; i < size; ++i)
    sum += a[i] * b[i];
  return sum;
}

static double silu(double x) { return x / (1 + std::exp(-x)); }

static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// silu(gate) * up, both cut off at \p limit if there is one.
static double gated(double gate, double up,
                    const std::optional<llvm::APFloat> &limit) {
  if (!limit)
    return silu(gate) * up;
  double most = limit->convertToDouble();
  return silu(std::min(gate, most)) * std::clamp(up, -most, most);
}

/// Replaces \p values by their softmax.
static void softmax(MutableArrayRef<double> values) {
  double largest = *llvm::max_element(values), sum = 0;
  for (double &value : values) {
    value = std::exp(value - largest);
    sum += value;
  }
  for (double &value : values)
    value /= sum;
}

/// The \p count largest of \p values, largest first; of equal ones, the one
/// with the lower index first.
static SmallVector<int64_t> topK(ArrayRef<double> values, int64_t count) {
  std::vector<bool> isTaken(values.size());
  SmallVector<int64_t> taken;
  // Not a sort, whose order NaN would break.
  while (int64_t(taken.size()) < count) {
    std::optional<size_t> best;
    for (size_t i = 0; i < values.size(); ++i)
      if (!isTaken[i] && (!best || values[i] > values[*best]))
        best = i;
    isTaken[*best] = true;
    taken.push_back(int64_t(*best));
  }
  return taken;
}

/// Whether \p tensor can be a value of \p type.
static bool fits(const Tensor &tensor, Type type) {
  if (isa<IndexType>(type))
    return tensor.rank() == 0;
  auto ranked = dyn_cast<RankedTensorType>(type);
  if (!ranked)
    return isa<KVCacheType, CompressedCacheType>(type);
  if (ranked.getRank() != tensor.rank())
    return false;
  for (auto [size, expected] : llvm::zip(tensor.shape, ranked.getShape()))
    if (!ShapedType::isDynamic(expected) && size != expected)
      return false;
  return true;
}

namespace {
/// What the elements of matrix `m` of a stack in FP8 or of integers, or of a
/// single one, stand for; without scales themselves.
struct BlockScales {
  const Tensor *scales;
  const Tensor *offsets = nullptr;
  int64_t blockRows = 1, blockColumns = 1;
  int64_t m = 0;
  int scaleLevels = 1, offsetLevels = 1;
  CodebookAttr codebook = {};

  double scale(double element, int64_t i, int64_t j) const {
    if (!scales)
      return element;
    int64_t rows = scales->shape[size_t(scales->rank() - 2)];
    int64_t row = m * rows + i / blockRows, column = j / blockColumns;
    if (codebook)
      element = double(codebook.getNumbers()[size_t(element)]);
    double product = element * number(*scales, scaleLevels, row, column);
    return offsets ? product - number(*offsets, offsetLevels, row, column)
                   : product;
  }

  /// Number \p column of a row of scales or offsets.
  double number(const Tensor &stored, int levels, int64_t row,
                int64_t column) const {
    const double *numbers = stored.row(row);
    if (levels == 1)
      return numbers[column];
    int64_t groups = scaleBlock / blockColumns;
    const double *block =
        numbers + column / groups * (groups + scaleBlockBytes);
    auto bits = uint32_t(uint8_t(int8_t(block[groups]))) |
                uint32_t(uint8_t(int8_t(block[groups + 1]))) << 8;
    llvm::APFloat unit(llvm::APFloat::IEEEhalf(), llvm::APInt(16, bits));
    return block[column % groups] * unit.convertToDouble();
  }
};
} // namespace

/// Rounds \p values to 8-bit integers of one scale, \p toPower: one that is a
/// power of two. In f32 and with a reciprocal, as kernels do, because another
/// integer would be another result.
static void roundGroup(MutableArrayRef<double> values, bool toPower) {
  float largest = 0;
  for (double value : values)
    largest = std::max(largest, std::abs(float(value)));
  // A subnormal scale has no finite inverse; its group counts as zeros.
  float scale = largest / 127;
  if (scale < std::numeric_limits<float>::min())
    scale = 0;
  if (toPower && scale > 0) {
    float power = std::ldexp(1.0f, std::ilogb(scale));
    scale = power < scale ? 2 * power : power;
  }
  float inverse = scale == 0 ? 0 : 1 / scale;
  for (double &value : values) {
    float integer = std::nearbyint(float(value) * inverse);
    value = double(std::clamp(integer, -127.0f, 127.0f)) * double(scale);
  }
}

/// Rounds each \p group of the \p count numbers at \p x, if there are any.
static std::vector<double> roundInput(const double *x, int64_t count,
                                      std::optional<uint64_t> group,
                                      bool toPower = false) {
  std::vector<double> result(x, x + count);
  for (int64_t begin = 0; group && begin < count; begin += int64_t(*group))
    roundGroup(MutableArrayRef(result).slice(size_t(begin), size_t(*group)),
               toPower);
  return result;
}

/// \p value, as kernels have it in f32, rounded to \p element.
static double roundTo(FloatType element, double value) {
  constexpr float largestHalf = 65504;
  auto single = float(value);
  if (element.isF16())
    single = std::clamp(single, -largestHalf, largestHalf);
  llvm::APFloat rounded(single);
  bool losesInfo;
  rounded.convert(element.getFloatSemantics(),
                  llvm::APFloat::rmNearestTiesToEven, &losesInfo);
  return rounded.convertToDouble();
}

/// The same for a product of \p op, linear, lm_head or experts, with \p weight.
template <typename Op>
static std::vector<double> roundInput(Op op, const double *x, int64_t count,
                                      Value weight, Value scales) {
  if (op.getBf16Inputs()) {
    std::vector<double> result(x, x + count);
    for (double &value : result)
      value = roundTo(BFloat16Type::get(op.getContext()), value);
    return result;
  }
  std::optional<uint64_t> group = op.getActivationGroup();
  bool toPower =
      group && roundsToPowers(int64_t(cast<RankedTensorType>(weight.getType())
                                          .getElementTypeBitWidth()),
                              getScaleGroup(weight, scales), int64_t(*group));
  return roundInput(x, count, group, toPower);
}

/// Returns what a cache of \p type keeps of a key, a value or a part of them,
/// the \p count numbers at \p x. Kernels round what they have in f32.
static std::vector<double> roundEntry(const double *x, int64_t count,
                                      KVCacheType type) {
  if (type.getGroup())
    return roundInput(x, count, type.getGroup());
  std::vector<double> result(x, x + count);
  Type element = type.getElement();
  if (element.isF32())
    return result;
  for (double &value : result)
    value = roundTo(cast<FloatType>(element), value);
  return result;
}

/// \p stack with each of its matrices transposed.
static Tensor turnMatrices(const Tensor &stack) {
  int64_t rows = stack.shape[1], columns = stack.shape[2];
  Tensor turned({stack.shape[0], columns, rows});
  for (int64_t m = 0; m < stack.shape[0]; ++m)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        turned.row(m * columns + j)[i] = stack.row(m * rows + i)[j];
  return turned;
}

/// Returns `W x`, where row i of W, `[n, k]`, is at \p weight + i * k.
static std::vector<double> multiply(const double *weight, BlockScales scales,
                                    const double *x, int64_t n, int64_t k) {
  std::vector<double> result(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < k; ++j)
      sum += x[j] * scales.scale(weight[i * k + j], i, j);
    result[size_t(i)] = sum;
  }
  return result;
}

//===----------------------------------------------------------------------===//
// One call of one function
//===----------------------------------------------------------------------===//

/// The values of one call, and the ops.
class Interpreter::Frame {
public:
  Frame(Interpreter &interpreter) : interpreter(interpreter) {}

  /// Runs \p op and sets its results.
  LogicalResult run(Operation *op);

  TensorPtr get(Value value) const { return values.lookup(value); }
  LogicalResult set(Operation *op, Value value, TensorPtr tensor);

private:
  LogicalResult set(Operation *op, Value value, Tensor tensor) {
    return set(op, value, std::make_shared<const Tensor>(std::move(tensor)));
  }
  const Tensor &at(Value value) const { return *values.find(value)->second; }
  BlockScales scalesOf(Value weight, Value scales, Value offsets,
                       int64_t m = 0) const;
  LogicalResult expectSameRows(Operation *op, ValueRange operands);
  /// `[rows of like, columns of the type of result]`, all zeros.
  Tensor zeros(const Tensor &like, Value result) const;

  LogicalResult visit(func::CallOp op);
  LogicalResult visit(arith::ConstantOp op);
  LogicalResult visit(UseWeightOp op);
  LogicalResult visit(EmbedOp op);
  LogicalResult visit(RMSNormOp op);
  LogicalResult visit(LayerNormOp op);
  LogicalResult visit(RoundToGridOp op);
  LogicalResult visit(LinearOp op);
  LogicalResult visit(AdaptOp op);
  /// Adds to the rows of \p result, of \p sequences, what `deepseek.adapt`
  /// says.
  LogicalResult adapt(Operation *op, Tensor &result, const Tensor &input,
                      const Tensor &down, const Tensor &up,
                      const Tensor &sequences);
  LogicalResult visit(HeadLinearOp op);
  LogicalResult visit(SplitOp op);
  LogicalResult visit(RotaryOp op);
  LogicalResult visit(AttentionOp op);
  LogicalResult visit(SelectKeysOp op);
  LogicalResult visit(LatentAttentionOp op);
  LogicalResult visit(AbsorbedAttentionOp op);
  LogicalResult visit(SwiGLUOp op);
  LogicalResult visit(AddOp op);
  LogicalResult visit(RouterOp op);
  LogicalResult visit(ExpertsOp op);
  LogicalResult visit(GatherRowsOp op);
  LogicalResult visit(ScatterRowsOp op);
  LogicalResult visit(SelectRowsOp op);
  LogicalResult visit(InfluenceOp op);
  LogicalResult visit(LMHeadOp op);
  LogicalResult visit(UnitNormOp op);
  LogicalResult visit(HashRouterOp op);
  LogicalResult visit(HyperExpandOp op);
  LogicalResult visit(HyperMixOp op);
  LogicalResult visit(HyperUpdateOp op);
  LogicalResult visit(HyperHeadOp op);
  LogicalResult visit(CompressOp op);
  LogicalResult visit(SelectEntriesOp op);
  LogicalResult visit(CompressedAttentionOp op);

  SmallVector<const Tensor *> operandsOf(Operation *op) const;
  /// The cache's entry of token \p t, for an op that appends to it.
  template <typename Op> FailureOr<CacheEntry *> entryOf(Op op, int64_t t);
  /// Puts a row of \p key and of \p value into the cache for every token.
  template <typename Op>
  LogicalResult append(Op op, const Tensor &key, const Tensor &value);
  /// The cache's entries that token \p t sees, in the order of positions.
  template <typename Op>
  SmallVector<const CacheEntry *> seenBy(Op op, int64_t t);

  Interpreter &interpreter;
  llvm::DenseMap<Value, TensorPtr> values;
};

/// Requires elements that have a meaning below, and that only the number of
/// rows of \p type is unknown: verifiers relate the other sizes of types, and
/// ops below rely on that.
static LogicalResult expectSupported(Operation *op, Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return success();
  Type element = tensor.getElementType();
  if (!isa<FloatType>(element) && !element.isSignlessInteger(32) &&
      !(element.isInteger() && element.getIntOrFloatBitWidth() <= 8))
    return op->emitError("expects floating point, i32 or at most 8 bits in the "
                         "reference, but got ")
           << tensor;
  if (tensor.hasStaticShape())
    return success();
  if (tensor.getRank() <= 2 &&
      !llvm::is_contained(tensor.getShape().drop_front(), ShapedType::kDynamic))
    return success();
  return op->emitError("expects no dynamic size but the number of rows in the "
                       "reference, but got ")
         << tensor;
}

LogicalResult Interpreter::Frame::set(Operation *op, Value value,
                                      TensorPtr tensor) {
  if (!fits(*tensor, value.getType())) {
    InFlightDiagnostic diag = op->emitError("expects a value of type ")
                              << value.getType()
                              << " in the reference, but got shape [";
    llvm::interleaveComma(tensor->shape, diag);
    return diag << "]";
  }
  if (failed(expectSupported(op, value.getType())))
    return failure();
  values[value] = std::move(tensor);
  return success();
}

LogicalResult Interpreter::Frame::expectSameRows(Operation *op,
                                                 ValueRange operands) {
  int64_t rows = at(operands.front()).rows();
  for (Value operand : operands)
    if (at(operand).rows() != rows)
      return op->emitOpError("expects operands of as many rows, but got ")
             << rows << " and " << at(operand).rows();
  return success();
}

SmallVector<const Tensor *>
Interpreter::Frame::operandsOf(Operation *op) const {
  return llvm::map_to_vector(op->getOperands(),
                             [&](Value value) { return &at(value); });
}

Tensor Interpreter::Frame::zeros(const Tensor &like, Value result) const {
  auto type = cast<RankedTensorType>(result.getType());
  return Tensor({like.rows(), type.getShape().back()});
}

LogicalResult Interpreter::Frame::run(Operation *op) {
  for (Type type : op->getResultTypes())
    if (failed(expectSupported(op, type)))
      return failure();
  return llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case<func::CallOp, arith::ConstantOp, UseWeightOp, EmbedOp, RMSNormOp,
            LayerNormOp, RoundToGridOp, LinearOp, AdaptOp, HeadLinearOp,
            SplitOp, RotaryOp, AttentionOp, SelectKeysOp, LatentAttentionOp,
            AbsorbedAttentionOp, SwiGLUOp, AddOp, RouterOp, ExpertsOp,
            GatherRowsOp, ScatterRowsOp, SelectRowsOp, InfluenceOp, LMHeadOp,
            UnitNormOp, HashRouterOp, HyperExpandOp, HyperMixOp, HyperUpdateOp,
            HyperHeadOp, CompressOp, SelectEntriesOp, CompressedAttentionOp>(
          [&](auto concrete) { return visit(concrete); })
      // It computes nothing.
      .Case([](ProbeOp) { return success(); })
      .Default([](Operation *unknown) {
        return unknown->emitOpError("is not an op that the reference knows");
      });
}

LogicalResult Interpreter::Frame::visit(func::CallOp op) {
  auto function = interpreter.symbols.lookup<func::FuncOp>(op.getCallee());
  if (!function)
    return op.emitOpError("expects a function of the module, but got '")
           << op.getCallee() << "'";
  SmallVector<TensorPtr> arguments;
  for (Value operand : op.getOperands())
    arguments.push_back(get(operand));
  interpreter.calls.push_back(op);
  auto results = interpreter.callFunction(op, function, arguments);
  interpreter.calls.pop_back();
  if (failed(results))
    return failure();
  for (auto [value, tensor] : llvm::zip(op.getResults(), *results))
    if (failed(set(op, value, tensor)))
      return failure();
  return success();
}

LogicalResult Interpreter::Frame::visit(arith::ConstantOp op) {
  auto value = dyn_cast<IntegerAttr>(op.getValue());
  if (!value || !isa<IndexType>(op.getType()))
    return op.emitOpError("expects a constant of type index in the reference");
  return set(op, op.getResult(), Tensor({}, {double(value.getInt())}));
}

LogicalResult Interpreter::Frame::visit(UseWeightOp op) {
  auto weight = interpreter.lookupWeight(op.getLoc(), op.getName());
  if (failed(weight))
    return failure();
  return set(op, op.getResult(), *weight);
}

//===----------------------------------------------------------------------===//
// Row by row
//===----------------------------------------------------------------------===//

/// What scales matrix \p m of \p weight, a value of FP8 or integers; \p scales
/// and \p offsets may be null.
BlockScales Interpreter::Frame::scalesOf(Value weight, Value scales,
                                         Value offsets, int64_t m) const {
  if (!scales)
    return {nullptr};
  if (isa<FloatType>(getElementTypeOrSelf(weight)))
    return {&at(scales), nullptr, fp8BlockSize, fp8BlockSize, m};
  auto levels = [](Value value) {
    return value && getElementTypeOrSelf(value).isInteger() ? 2 : 1;
  };
  return {&at(scales),
          offsets ? &at(offsets) : nullptr,
          1,
          getScaleGroup(weight, scales),
          m,
          levels(scales),
          levels(offsets),
          getCodebook(weight.getType())};
}

LogicalResult Interpreter::Frame::visit(EmbedOp op) {
  const Tensor &tokens = at(op.getTokens()), &table = at(op.getTable());
  BlockScales scales = scalesOf(op.getTable(), op.getScales(), op.getOffsets());
  Tensor result = zeros(tokens, op.getResult());
  for (int64_t t = 0; t < tokens.rows(); ++t) {
    auto token = int64_t(tokens.values[size_t(t)]);
    if (token < 0 || token >= table.rows())
      return op.emitOpError("expects tokens in [0, ")
             << table.rows() << "), but got " << token;
    for (int64_t j = 0; j < table.columns(); ++j)
      result.row(t)[j] = scales.scale(table.row(token)[j], token, j);
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(RMSNormOp op) {
  const Tensor &input = at(op.getInput()), &weight = at(op.getWeight());
  Tensor result = input;
  double epsilon = double(op.getEpsilon().convertToFloat());
  int64_t dim = input.columns();
  for (int64_t t = 0; t < input.rows(); ++t) {
    const double *x = input.row(t);
    double factor = 1 / std::sqrt(dot(x, x, dim) / double(dim) + epsilon);
    for (int64_t j = 0; j < dim; ++j)
      result.row(t)[j] = weight.values[size_t(j)] * x[j] * factor;
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(UnitNormOp op) {
  Tensor result = at(op.getInput());
  double epsilon = double(op.getEpsilon().convertToFloat());
  int64_t heads = op.getHeads(), dim = result.columns() / heads;
  for (int64_t h = 0; h < result.rows() * heads; ++h) {
    double *x = result.values.data() + h * dim;
    double factor = 1 / std::sqrt(dot(x, x, dim) / double(dim) + epsilon);
    for (int64_t j = 0; j < dim; ++j)
      x[j] *= factor;
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(LayerNormOp op) {
  const Tensor &input = at(op.getInput()), &weight = at(op.getWeight());
  const Tensor &bias = at(op.getBias());
  Tensor result = input;
  double epsilon = double(op.getEpsilon().convertToFloat());
  int64_t dim = input.columns();
  for (int64_t t = 0; t < input.rows(); ++t) {
    double *x = result.row(t), mean = 0;
    for (int64_t j = 0; j < dim; ++j)
      mean += x[j] / double(dim);
    for (int64_t j = 0; j < dim; ++j)
      x[j] -= mean;
    double factor = 1 / std::sqrt(dot(x, x, dim) / double(dim) + epsilon);
    for (int64_t j = 0; j < dim; ++j)
      x[j] = weight.values[size_t(j)] * x[j] * factor + bias.values[size_t(j)];
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(RoundToGridOp op) {
  Tensor result = at(op.getInput());
  const Tensor &grid = at(op.getGrid());
  auto scale = float(grid.values[0]), zero = float(grid.values[1]);
  for (double &value : result.values) {
    float code = std::nearbyint(float(value) / scale) + zero;
    value = double((std::clamp(code, -128.0f, 127.0f) - zero) * scale);
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(LinearOp op) {
  const Tensor &input = at(op.getInput()), &weight = at(op.getWeight());
  BlockScales scales =
      scalesOf(op.getWeight(), op.getScales(), op.getOffsets());
  Tensor result({input.rows(), weight.rows()});
  for (int64_t t = 0; t < input.rows(); ++t) {
    std::vector<double> x = roundInput(op, input.row(t), input.columns(),
                                       op.getWeight(), op.getScales());
    std::vector<double> row = multiply(weight.row(0), scales, x.data(),
                                       weight.rows(), weight.columns());
    if (op.getBias())
      for (auto [value, bias] : llvm::zip(row, at(op.getBias()).values))
        value += bias;
    llvm::copy(row, result.row(t));
  }
  if (AdaptersOp change = interpreter.changes.lookup(&weight)) {
    if (interpreter.sequences.values.size() != size_t(input.rows()))
      return op.emitOpError("expects -deepseek-attach-adapters before, as its "
                            "rows are not those of the step");
    FailureOr<TensorPtr> down =
        interpreter.lookupWeight(change.getLoc(), change.getDown());
    FailureOr<TensorPtr> up =
        interpreter.lookupWeight(change.getLoc(), change.getUp());
    if (failed(down) || failed(up) ||
        failed(adapt(op, result, input, **down, **up, interpreter.sequences)))
      return failure();
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(AdaptOp op) {
  if (failed(
          expectSameRows(op, {op.getBase(), op.getInput(), op.getSequences()})))
    return failure();
  Tensor result = at(op.getBase());
  if (failed(adapt(op, result, at(op.getInput()), at(op.getDown()),
                   at(op.getUp()), at(op.getSequences()))))
    return failure();
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::adapt(Operation *op, Tensor &result,
                                        const Tensor &input, const Tensor &down,
                                        const Tensor &up,
                                        const Tensor &sequences) {
  int64_t count = down.shape[0], rank = down.shape[1];
  for (int64_t t = 0; t < input.rows(); ++t) {
    auto sequence = size_t(sequences.values[size_t(t)]);
    int64_t adapter = sequence < interpreter.adapters.size()
                          ? interpreter.adapters[sequence]
                          : -1;
    if (adapter < 0)
      continue;
    if (adapter >= count)
      return op->emitOpError("expects adapters below ")
             << count << ", but got " << adapter;
    for (int64_t r = 0; r < rank; ++r) {
      double hidden =
          dot(down.row(adapter * rank + r), input.row(t), input.columns());
      for (int64_t n = 0; n < result.columns(); ++n)
        result.row(t)[n] += up.row(adapter * rank + r)[n] * hidden;
    }
  }
  return success();
}

LogicalResult Interpreter::Frame::visit(LMHeadOp op) {
  const Tensor &input = at(op.getInput()), &weight = at(op.getWeight());
  BlockScales scales =
      scalesOf(op.getWeight(), op.getScales(), op.getOffsets());
  Tensor result({input.rows(), weight.rows()});
  for (int64_t r = 0; r < input.rows(); ++r) {
    std::vector<double> x = roundInput(op, input.row(r), input.columns(),
                                       op.getWeight(), op.getScales());
    llvm::copy(multiply(weight.row(0), scales, x.data(), weight.rows(),
                        weight.columns()),
               result.row(r));
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(HeadLinearOp op) {
  const Tensor &input = at(op.getInput()), &weight = at(op.getWeight());
  int64_t heads = weight.shape[0], n = weight.shape[1], k = weight.shape[2];
  int64_t stride = input.columns() / heads;
  Value scales = op.getScales();
  bool isTurned = scales && getScaleAxis(op.getWeight(), scales) == 1;
  BlockScales blocks = scalesOf(op.getWeight(), scales, op.getOffsets());
  // As matrices were stored, groups are of a row.
  std::optional<Tensor> turnedScales, turnedOffsets;
  if (isTurned) {
    blocks.scales = &turnedScales.emplace(turnMatrices(*blocks.scales));
    if (blocks.offsets)
      blocks.offsets = &turnedOffsets.emplace(turnMatrices(*blocks.offsets));
  }
  Tensor result({input.rows(), heads * n});
  for (int64_t h = 0; h < heads; ++h) {
    blocks.m = h;
    for (int64_t i = 0; i < n; ++i) {
      std::vector<double> row(weight.row(h * n + i), weight.row(h * n + i) + k);
      for (int64_t j = 0; j < k; ++j)
        row[size_t(j)] =
            blocks.scale(row[size_t(j)], isTurned ? j : i, isTurned ? i : j);
      for (int64_t t = 0; t < input.rows(); ++t)
        result.row(t)[h * n + i] =
            dot(input.row(t) + h * stride, row.data(), k);
    }
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(SplitOp op) {
  const Tensor &input = at(op.getInput());
  int64_t begin = 0;
  for (Value value : op.getResults()) {
    Tensor part = zeros(input, value);
    for (int64_t t = 0; t < input.rows(); ++t)
      std::copy_n(input.row(t) + begin, part.columns(), part.row(t));
    begin += part.columns();
    if (failed(set(op, value, std::move(part))))
      return failure();
  }
  return success();
}

LogicalResult Interpreter::Frame::visit(RotaryOp op) {
  if (failed(expectSameRows(op, {op.getInput(), op.getPositions()})))
    return failure();
  const Tensor &positions = at(op.getPositions());
  RotaryAttr rotary = op.getRotary();
  SmallVector<double> frequencies = getRotaryFrequencies(rotary);
  double factor = getRotaryAttentionFactor(rotary);
  double direction = op.getInverse() ? -1 : 1;
  bool isHalfSplit = rotary.getLayout() == RotaryLayout::HalfSplit;
  int64_t heads = op.getHeads(), dim = rotary.getDim(), half = dim / 2;
  Tensor result = at(op.getInput());
  int64_t stride = result.columns() / heads;
  for (int64_t t = 0; t < result.rows(); ++t)
    for (int64_t h = 0; h < heads; ++h) {
      double *x = result.row(t) + h * stride;
      if (!op.getLeading())
        x += stride - dim;
      for (int64_t i = 0; i < half; ++i) {
        double angle = positions.values[size_t(t)] * frequencies[size_t(i)];
        double cosine = std::cos(angle) * factor;
        double sine = std::sin(angle) * factor * direction;
        double &first = x[isHalfSplit ? i : 2 * i];
        double &second = x[isHalfSplit ? i + half : 2 * i + 1];
        double a = first, b = second;
        first = a * cosine - b * sine;
        second = b * cosine + a * sine;
      }
    }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(SwiGLUOp op) {
  if (failed(expectSameRows(op, {op.getGate(), op.getUp()})))
    return failure();
  const Tensor &up = at(op.getUp());
  Tensor result = at(op.getGate());
  for (auto [value, upValue] : llvm::zip(result.values, up.values))
    value = gated(value, upValue, op.getLimit());
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(AddOp op) {
  if (failed(expectSameRows(op, {op.getLhs(), op.getRhs()})))
    return failure();
  const Tensor &rhs = at(op.getRhs());
  Tensor result = at(op.getLhs());
  for (auto [value, rhsValue] : llvm::zip(result.values, rhs.values))
    value += rhsValue;
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(GatherRowsOp op) {
  const Tensor &input = at(op.getInput()), &rows = at(op.getRows());
  bool isVector = input.rank() == 1;
  int64_t columns = isVector ? 1 : input.columns();
  Tensor result =
      isVector ? Tensor({rows.rows()}) : Tensor({rows.rows(), columns});
  for (int64_t r = 0; r < rows.rows(); ++r) {
    auto row = int64_t(rows.values[size_t(r)]);
    if (row < 0 || row >= input.rows())
      return op.emitOpError("expects rows in [0, ")
             << input.rows() << "), but got " << row;
    std::copy_n(input.values.data() + row * columns, columns,
                result.values.data() + r * columns);
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(ScatterRowsOp op) {
  const Tensor &update = at(op.getUpdate()), &rows = at(op.getRows());
  if (failed(expectSameRows(op, {op.getUpdate(), op.getRows()})))
    return failure();
  Tensor result = at(op.getInput());
  for (int64_t r = 0; r < rows.rows(); ++r) {
    auto row = int64_t(rows.values[size_t(r)]);
    if (row < 0 || row >= result.rows())
      return op.emitOpError("expects rows in [0, ")
             << result.rows() << "), but got " << row;
    std::copy_n(update.row(r), update.columns(), result.row(row));
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(SelectRowsOp op) {
  const Tensor &scores = at(op.getScores());
  double threshold = op.getThreshold() ? at(op.getThreshold()).values[0] : 0;
  std::vector<double> rows;
  int64_t all = op.getAmong() ? at(op.getAmong()).rows() : scores.rows();
  for (int64_t i = 0; i < all; ++i) {
    int64_t t =
        op.getAmong() ? int64_t(at(op.getAmong()).values[size_t(i)]) : i;
    if (t < 0 || t >= scores.rows())
      return op.emitOpError("expects rows in [0, ")
             << scores.rows() << "), but got " << t;
    if (!(scores.row(t)[0] <= threshold))
      rows.push_back(double(t));
  }
  auto count = int64_t(rows.size());
  return set(op, op.getRows(), Tensor({count}, std::move(rows)));
}

LogicalResult Interpreter::Frame::visit(InfluenceOp op) {
  const Tensor &before = at(op.getBefore()), &after = at(op.getAfter());
  if (failed(expectSameRows(op, {op.getBefore(), op.getAfter()})))
    return failure();
  Tensor result = zeros(before, op.getResult());
  int64_t dim = before.columns();
  for (int64_t t = 0; t < before.rows(); ++t) {
    const double *x = before.row(t), *y = after.row(t);
    double squares = dot(x, x, dim) * dot(y, y, dim);
    result.row(t)[0] =
        squares > 0 ? 1 - dot(x, y, dim) / std::sqrt(squares) : 1;
  }
  return set(op, op.getResult(), std::move(result));
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

/// Where the tokens of the queries of \p op are.
template <typename Op> static Value positionsOfQueries(Op op) {
  if constexpr (!std::is_same_v<Op, LatentAttentionOp>)
    if (op.getQueryPositions())
      return op.getQueryPositions();
  return op.getPositions();
}

/// And whose.
template <typename Op> static Value sequencesOfQueries(Op op) {
  if constexpr (!std::is_same_v<Op, LatentAttentionOp>)
    if (op.getQuerySequences())
      return op.getQuerySequences();
  return op.getSequences();
}

template <typename Op>
FailureOr<Interpreter::CacheEntry *> Interpreter::Frame::entryOf(Op op,
                                                                 int64_t t) {
  auto type = cast<KVCacheType>(op.getCache().getType());
  auto layer = int64_t(at(op.getLayer()).values[0]);
  auto position = int64_t(at(op.getPositions()).values[size_t(t)]);
  auto sequence = int64_t(at(op.getSequences()).values[size_t(t)]);
  if (layer < 0 || layer >= type.getLayers())
    return op.emitOpError("expects a layer in [0, ")
           << type.getLayers() << "), but got " << layer;
  if (position < 0 || sequence < 0)
    return op.emitOpError("expects positions and sequences >= 0, but got ")
           << position << " and " << sequence;
  return &interpreter.cache[{layer, sequence}][position];
}

template <typename Op>
LogicalResult Interpreter::Frame::append(Op op, const Tensor &key,
                                         const Tensor &value) {
  auto type = cast<KVCacheType>(op.getCache().getType());
  for (int64_t t = 0; t < key.rows(); ++t) {
    FailureOr<CacheEntry *> entry = entryOf(op, t);
    if (failed(entry))
      return failure();
    (*entry)->key = roundEntry(key.row(t), key.columns(), type);
    (*entry)->value = roundEntry(value.row(t), value.columns(), type);
  }
  return success();
}

template <typename Op>
SmallVector<const Interpreter::CacheEntry *>
Interpreter::Frame::seenBy(Op op, int64_t t) {
  auto layer = int64_t(at(op.getLayer()).values[0]);
  auto sequence = int64_t(at(sequencesOfQueries(op)).values[size_t(t)]);
  auto position = int64_t(at(positionsOfQueries(op)).values[size_t(t)]);
  SmallVector<const CacheEntry *> seen;
  if constexpr (!std::is_same_v<Op, AttentionOp>)
    if (op.getSelected()) {
      const Tensor &selected = at(op.getSelected());
      auto &entries = interpreter.cache[{layer, sequence}];
      for (int64_t i = 0; i < selected.columns(); ++i)
        if (selected.row(t)[i] >= 0)
          seen.push_back(&entries[int64_t(selected.row(t)[i])]);
      return seen;
    }
  std::optional<WindowAttr> window = op.getWindow();
  for (const auto &[at, entry] : interpreter.cache[{layer, sequence}])
    if (window ? window->sees(position, at) : at <= position)
      seen.push_back(&entry);
  return seen;
}

LogicalResult Interpreter::Frame::visit(AttentionOp op) {
  const Tensor &query = at(op.getQuery());
  if (failed(expectSameRows(op, {op.getKey(), op.getValue(), op.getPositions(),
                                 op.getSequences()})) ||
      failed(expectSameRows(op, {op.getQuery(), positionsOfQueries(op),
                                 sequencesOfQueries(op)})) ||
      failed(append(op, at(op.getKey()), at(op.getValue()))))
    return failure();
  auto type = cast<KVCacheType>(op.getCache().getType());
  int64_t heads = op.getHeads(), group = heads / type.getHeads();
  int64_t keyDim = type.getKeyDim(), valueDim = type.getValueDim();
  double scale = op.getScale().convertToDouble();
  Tensor result = zeros(query, op.getResult());
  for (int64_t t = 0; t < query.rows(); ++t) {
    SmallVector<const CacheEntry *> seen = seenBy(op, t);
    for (int64_t h = 0; h < heads; ++h) {
      std::vector<double> weights;
      for (const CacheEntry *entry : seen)
        weights.push_back(dot(query.row(t) + h * keyDim,
                              entry->key.data() + (h / group) * keyDim,
                              keyDim) *
                          scale);
      softmax(weights);
      double *out = result.row(t) + h * valueDim;
      for (auto [entry, weight] : llvm::zip(seen, weights))
        for (int64_t i = 0; i < valueDim; ++i)
          out[i] += weight * entry->value[size_t((h / group) * valueDim + i)];
    }
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(SelectKeysOp op) {
  const Tensor &query = at(op.getQuery()), &key = at(op.getKey());
  const Tensor &weights = at(op.getWeights());
  if (failed(expectSameRows(
          op, {op.getKey(), op.getPositions(), op.getSequences()})) ||
      failed(
          expectSameRows(op, {op.getQuery(), op.getWeights(),
                              positionsOfQueries(op), sequencesOfQueries(op)})))
    return failure();
  for (int64_t t = 0; t < key.rows(); ++t) {
    FailureOr<CacheEntry *> entry = entryOf(op, t);
    if (failed(entry))
      return failure();
    (*entry)->index.assign(key.row(t), key.row(t) + key.columns());
  }
  int64_t heads = op.getHeads(), dim = key.columns();
  auto layer = int64_t(at(op.getLayer()).values[0]);
  Tensor result = zeros(query, op.getSelected());
  for (int64_t t = 0; t < query.rows(); ++t) {
    auto sequence = int64_t(at(sequencesOfQueries(op)).values[size_t(t)]);
    auto own = int64_t(at(positionsOfQueries(op)).values[size_t(t)]);
    std::vector<int64_t> positions;
    std::vector<double> scores;
    for (const auto &[position, entry] : interpreter.cache[{layer, sequence}]) {
      if (position > own)
        continue;
      double score = 0;
      for (int64_t h = 0; h < heads; ++h)
        score +=
            weights.row(t)[h] *
            std::max(0.0, dot(query.row(t) + h * dim, entry.index.data(), dim));
      positions.push_back(position);
      scores.push_back(score * op.getScale().convertToDouble());
    }
    auto count = std::min(int64_t(op.getTopK()), int64_t(scores.size()));
    SmallVector<int64_t> chosen = topK(scores, count);
    llvm::sort(chosen);
    std::fill_n(result.row(t), result.columns(), -1.0);
    for (auto [i, index] : llvm::enumerate(chosen))
      result.row(t)[i] = double(positions[size_t(index)]);
  }
  return set(op, op.getSelected(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(LatentAttentionOp op) {
  const Tensor &query = at(op.getQuery()), &kvB = at(op.getKvB());
  if (failed(expectSameRows(op, {op.getQuery(), op.getLatent(), op.getRopeKey(),
                                 op.getPositions(), op.getSequences()})) ||
      failed(append(op, at(op.getRopeKey()), at(op.getLatent()))))
    return failure();
  int64_t heads = op.getHeads(), stride = query.columns() / heads;
  int64_t rope = at(op.getRopeKey()).columns(), nope = stride - rope;
  int64_t rank = kvB.columns();
  Tensor result = zeros(query, op.getResult());
  int64_t valueDim = result.columns() / heads, expanded = nope + valueDim;
  double scale = op.getScale().convertToDouble();

  // Keys and values of each cached token, `[heads, nope + valueDim]`.
  llvm::DenseMap<const CacheEntry *, std::vector<double>> expansions;
  for (int64_t t = 0; t < query.rows(); ++t) {
    SmallVector<const CacheEntry *> seen = seenBy(op, t);
    SmallVector<const double *> keysAndValues;
    for (const CacheEntry *entry : seen) {
      std::vector<double> &expansion = expansions[entry];
      if (expansion.empty())
        expansion = multiply(kvB.row(0), BlockScales{nullptr},
                             entry->value.data(), heads * expanded, rank);
      keysAndValues.push_back(expansion.data());
    }
    for (int64_t h = 0; h < heads; ++h) {
      const double *q = query.row(t) + h * stride;
      std::vector<double> weights;
      for (auto [entry, kv] : llvm::zip(seen, keysAndValues))
        weights.push_back((dot(q, kv + h * expanded, nope) +
                           dot(q + nope, entry->key.data(), rope)) *
                          scale);
      softmax(weights);
      double *out = result.row(t) + h * valueDim;
      for (auto [kv, weight] : llvm::zip(keysAndValues, weights))
        for (int64_t i = 0; i < valueDim; ++i)
          out[i] += weight * kv[h * expanded + nope + i];
    }
  }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(AbsorbedAttentionOp op) {
  const Tensor &query = at(op.getQuery()), &ropeQuery = at(op.getRopeQuery());
  if (failed(expectSameRows(op, {op.getLatent(), op.getRopeKey(),
                                 op.getPositions(), op.getSequences()})) ||
      failed(expectSameRows(op, {op.getQuery(), op.getRopeQuery(),
                                 positionsOfQueries(op),
                                 sequencesOfQueries(op)})) ||
      failed(append(op, at(op.getRopeKey()), at(op.getLatent()))))
    return failure();
  int64_t heads = op.getHeads(), stride = ropeQuery.columns() / heads;
  int64_t rope = at(op.getRopeKey()).columns();
  int64_t rank = at(op.getLatent()).columns();
  double scale = op.getScale().convertToDouble();
  Tensor result = zeros(query, op.getResult());
  for (int64_t t = 0; t < query.rows(); ++t) {
    SmallVector<const CacheEntry *> seen = seenBy(op, t);
    for (int64_t h = 0; h < heads; ++h) {
      const double *q = query.row(t) + h * rank;
      const double *r = ropeQuery.row(t) + (h + 1) * stride - rope;
      std::vector<double> weights;
      for (const CacheEntry *entry : seen)
        weights.push_back((dot(q, entry->value.data(), rank) +
                           dot(r, entry->key.data(), rope)) *
                          scale);
      softmax(weights);
      double *out = result.row(t) + h * rank;
      for (auto [entry, weight] : llvm::zip(seen, weights))
        for (int64_t i = 0; i < rank; ++i)
          out[i] += weight * entry->value[size_t(i)];
    }
  }
  return set(op, op.getResult(), std::move(result));
}

//===----------------------------------------------------------------------===//
// Mixture of experts
//===----------------------------------------------------------------------===//

/// Sets to -infinity the \p choice of every expert outside the best groups.
static void keepBestGroups(MutableArrayRef<double> choice,
                           RoutingAttr routing) {
  int64_t size = routing.getExperts() / routing.getGroups();
  bool sumsTwo = routing.getMethod() == TopKMethod::NoAuxTC;
  std::vector<double> groups;
  for (int64_t g = 0; g < routing.getGroups(); ++g) {
    auto members =
        ArrayRef<double>(choice).slice(size_t(g * size), size_t(size));
    SmallVector<int64_t> best = topK(members, sumsTwo ? 2 : 1);
    double score = 0;
    for (int64_t i : best)
      score += members[size_t(i)];
    groups.push_back(score);
  }
  SmallVector<int64_t> kept = topK(groups, routing.getTopGroups());
  for (int64_t e = 0; e < routing.getExperts(); ++e)
    if (!llvm::is_contained(kept, e / size))
      choice[size_t(e)] = -INFINITY;
}

/// Replaces router logits by scores.
static void computeScores(MutableArrayRef<double> scores, Scoring scoring) {
  if (scoring == Scoring::Softmax)
    return softmax(scores);
  for (double &score : scores)
    score = scoring == Scoring::Sigmoid
                ? sigmoid(score)
                : std::sqrt(std::max(score, 0.0) +
                            std::log1p(std::exp(-std::abs(score))));
}

/// The weights of the \p experts that a token goes to.
static void weigh(RoutingAttr routing, ArrayRef<double> scores,
                  const double *experts, double *weights) {
  double sum = 0;
  for (int64_t s = 0; s < routing.getTopK(); ++s) {
    weights[s] = scores[size_t(experts[s])];
    sum += weights[s];
  }
  for (int64_t s = 0; s < routing.getTopK(); ++s) {
    if (routing.getNormalize())
      weights[s] /= sum + 1e-20;
    weights[s] *= routing.getScale().getValueAsDouble();
  }
}

LogicalResult Interpreter::Frame::visit(RouterOp op) {
  const Tensor &logits = at(op.getLogits());
  RoutingAttr routing = op.getRouting();
  Tensor experts = zeros(logits, op.getExperts());
  Tensor weights = zeros(logits, op.getWeights());
  for (int64_t t = 0; t < logits.rows(); ++t) {
    std::vector<double> scores(logits.row(t), logits.row(t) + logits.columns());
    computeScores(scores, routing.getScoring());
    std::vector<double> choice = scores;
    if (op.getBias())
      for (auto [value, bias] : llvm::zip(choice, at(op.getBias()).values))
        value += bias;
    if (routing.getGroups() > 1)
      keepBestGroups(choice, routing);

    // Of those chosen, the first get weights; all of them count in the mass.
    int64_t chosen =
        int64_t(op.getRenormalizeFrom().value_or(uint64_t(routing.getTopK())));
    double sum = 0, mass = 0;
    for (auto [s, expert] : llvm::enumerate(topK(choice, chosen))) {
      mass += scores[size_t(expert)];
      if (int64_t(s) >= routing.getTopK())
        continue;
      experts.row(t)[s] = double(expert);
      sum += scores[size_t(expert)];
    }
    weigh(routing, scores, experts.row(t), weights.row(t));
    if (op.getRenormalizeFrom())
      for (int64_t s = 0; s < routing.getTopK(); ++s)
        weights.row(t)[s] *= mass / (sum + 1e-20);
    if (op.getMap())
      for (int64_t s = 0; s < routing.getTopK(); ++s)
        experts.row(t)[s] = at(op.getMap()).values[size_t(experts.row(t)[s])];
  }
  if (failed(set(op, op.getExperts(), std::move(experts))))
    return failure();
  return set(op, op.getWeights(), std::move(weights));
}

LogicalResult Interpreter::Frame::visit(HashRouterOp op) {
  if (failed(expectSameRows(op, {op.getLogits(), op.getTokens()})))
    return failure();
  const Tensor &logits = at(op.getLogits()), &table = at(op.getTable());
  RoutingAttr routing = op.getRouting();
  Tensor experts = zeros(logits, op.getExperts());
  Tensor weights = zeros(logits, op.getWeights());
  for (int64_t t = 0; t < logits.rows(); ++t) {
    auto token = int64_t(at(op.getTokens()).values[size_t(t)]);
    if (token < 0 || token >= table.rows())
      return op.emitOpError("expects tokens in [0, ")
             << table.rows() << "), but got " << token;
    for (int64_t s = 0; s < table.columns(); ++s) {
      auto expert = int64_t(table.row(token)[s]);
      if (expert < 0 || expert >= routing.getExperts())
        return op.emitOpError("expects experts in [0, ")
               << routing.getExperts() << "), but got " << expert;
      experts.row(t)[s] = double(expert);
    }
    std::vector<double> scores(logits.row(t), logits.row(t) + logits.columns());
    computeScores(scores, routing.getScoring());
    weigh(routing, scores, experts.row(t), weights.row(t));
  }
  if (failed(set(op, op.getExperts(), std::move(experts))))
    return failure();
  return set(op, op.getWeights(), std::move(weights));
}

LogicalResult Interpreter::Frame::visit(ExpertsOp op) {
  if (failed(expectSameRows(op,
                            {op.getInput(), op.getExperts(), op.getWeights()})))
    return failure();
  const Tensor &input = at(op.getInput()), &experts = at(op.getExperts());
  const Tensor &weights = at(op.getWeights());
  const Tensor &gate = at(op.getGate());
  int64_t inner = gate.shape[1], hidden = gate.shape[2];
  auto multiplyBy = [&](Value value, unsigned scales, int64_t e,
                        const double *input) {
    const Tensor &matrices = at(value);
    Value ofValue = op.getScales().empty() ? Value() : op.getScales()[scales];
    BlockScales blocks = scalesOf(value, ofValue, op.getOffsetsOf(scales), e);
    int64_t n = matrices.shape[1], k = matrices.shape[2];
    std::vector<double> x = roundInput(op, input, k, value, ofValue);
    return multiply(matrices.row(e * n), blocks, x.data(), n, k);
  };
  Tensor result({input.rows(), hidden});
  for (int64_t t = 0; t < input.rows(); ++t)
    for (int64_t s = 0; s < experts.columns(); ++s) {
      auto e = int64_t(experts.row(t)[s]);
      if (e < 0 || e >= gate.shape[0])
        return op.emitOpError("expects experts in [0, ")
               << gate.shape[0] << "), but got " << e;
      std::vector<double> inside = multiplyBy(op.getGate(), 0, e, input.row(t));
      std::vector<double> upped = multiplyBy(op.getUp(), 1, e, input.row(t));
      for (int64_t i = 0; i < inner; ++i)
        inside[size_t(i)] =
            gated(inside[size_t(i)], upped[size_t(i)], op.getLimit());
      std::vector<double> out = multiplyBy(op.getDown(), 2, e, inside.data());
      for (int64_t i = 0; i < hidden; ++i)
        result.row(t)[i] += weights.row(t)[s] * out[size_t(i)];
    }
  return set(op, op.getResult(), std::move(result));
}

//===----------------------------------------------------------------------===//
// Hyper-connections
//===----------------------------------------------------------------------===//

LogicalResult Interpreter::Frame::visit(HyperExpandOp op) {
  const Tensor &input = at(op.getInput());
  Tensor result = zeros(input, op.getResult());
  for (int64_t t = 0; t < input.rows(); ++t)
    for (int64_t j = 0; j < int64_t(op.getStreams()); ++j)
      std::copy_n(input.row(t), input.columns(),
                  result.row(t) + j * input.columns());
  return set(op, op.getResult(), std::move(result));
}

/// The products of a normalized row of streams, `u` of hyper_mix.
static std::vector<double> projectStreams(const double *x, const Tensor &weight,
                                          double epsilon) {
  int64_t columns = weight.columns();
  double factor = 1 / std::sqrt(dot(x, x, columns) / double(columns) + epsilon);
  std::vector<double> u;
  for (int64_t i = 0; i < weight.rows(); ++i)
    u.push_back(dot(weight.row(i), x, columns) * factor);
  return u;
}

/// Sums the \p streams at \p x, each times sigmoid(u * scale + base) + epsilon.
static void readStreams(const double *x, ArrayRef<double> u, double scale,
                        const double *base, double epsilon, int64_t streams,
                        int64_t hidden, double *out) {
  for (int64_t j = 0; j < streams; ++j) {
    double pre = sigmoid(u[size_t(j)] * scale + base[j]) + epsilon;
    for (int64_t i = 0; i < hidden; ++i)
      out[i] += pre * x[j * hidden + i];
  }
}

LogicalResult Interpreter::Frame::visit(HyperMixOp op) {
  const Tensor &input = at(op.getInput());
  const double *base = at(op.getBase()).values.data();
  const double *scale = at(op.getScale()).values.data();
  int64_t m = op.getStreams();
  double epsilon = double(op.getEpsilon().convertToFloat());
  Tensor sublayer = zeros(input, op.getSublayer());
  Tensor post = zeros(input, op.getPost()), comb = zeros(input, op.getComb());
  for (int64_t t = 0; t < input.rows(); ++t) {
    std::vector<double> u =
        projectStreams(input.row(t), at(op.getWeight()),
                       double(op.getNormEpsilon().convertToFloat()));
    readStreams(input.row(t), u, scale[0], base, epsilon, m, sublayer.columns(),
                sublayer.row(t));
    for (int64_t j = 0; j < m; ++j)
      post.row(t)[j] = 2 * sigmoid(u[size_t(m + j)] * scale[1] + base[m + j]);
    double *c = comb.row(t);
    for (int64_t i = 0; i < m * m; ++i)
      c[i] = u[size_t(2 * m + i)] * scale[2] + base[2 * m + i];
    for (int64_t i = 0; i < m; ++i)
      softmax(MutableArrayRef(c + i * m, size_t(m)));
    for (int64_t i = 0; i < m * m; ++i)
      c[i] += epsilon;
    // Divides the rows (or columns) by their sums.
    auto normalize = [&](int64_t stride, int64_t step) {
      for (int64_t line = 0; line < m; ++line) {
        double sum = epsilon;
        for (int64_t i = 0; i < m; ++i)
          sum += c[line * stride + i * step];
        for (int64_t i = 0; i < m; ++i)
          c[line * stride + i * step] /= sum;
      }
    };
    for (int64_t i = 0; i < int64_t(op.getIterations()); ++i) {
      if (i)
        normalize(m, 1);
      normalize(1, m);
    }
  }
  if (failed(set(op, op.getSublayer(), std::move(sublayer))) ||
      failed(set(op, op.getPost(), std::move(post))))
    return failure();
  return set(op, op.getComb(), std::move(comb));
}

LogicalResult Interpreter::Frame::visit(HyperUpdateOp op) {
  if (failed(expectSameRows(op, op.getOperands())))
    return failure();
  const Tensor &input = at(op.getInput()), &sublayer = at(op.getSublayer());
  const Tensor &post = at(op.getPost()), &comb = at(op.getComb());
  int64_t m = post.columns(), hidden = sublayer.columns();
  Tensor result = zeros(input, op.getResult());
  for (int64_t t = 0; t < input.rows(); ++t)
    for (int64_t k = 0; k < m; ++k)
      for (int64_t i = 0; i < hidden; ++i) {
        double sum = post.row(t)[k] * sublayer.row(t)[i];
        for (int64_t j = 0; j < m; ++j)
          sum += comb.row(t)[j * m + k] * input.row(t)[j * hidden + i];
        result.row(t)[k * hidden + i] = sum;
      }
  return set(op, op.getResult(), std::move(result));
}

LogicalResult Interpreter::Frame::visit(HyperHeadOp op) {
  const Tensor &input = at(op.getInput());
  Tensor result = zeros(input, op.getResult());
  for (int64_t t = 0; t < input.rows(); ++t) {
    std::vector<double> u =
        projectStreams(input.row(t), at(op.getWeight()),
                       double(op.getNormEpsilon().convertToFloat()));
    readStreams(input.row(t), u, at(op.getScale()).values[0],
                at(op.getBase()).values.data(),
                double(op.getEpsilon().convertToFloat()), op.getStreams(),
                result.columns(), result.row(t));
  }
  return set(op, op.getResult(), std::move(result));
}

//===----------------------------------------------------------------------===//
// Attention over compressed entries
//===----------------------------------------------------------------------===//

LogicalResult Interpreter::Frame::visit(CompressOp op) {
  return interpreter.compressedCache.compress(op, operandsOf(op));
}

LogicalResult Interpreter::Frame::visit(SelectEntriesOp op) {
  FailureOr<Tensor> result =
      interpreter.compressedCache.select(op, operandsOf(op));
  return failed(result) ? failure()
                        : set(op, op.getResult(), std::move(*result));
}

LogicalResult Interpreter::Frame::visit(CompressedAttentionOp op) {
  SmallVector<const Tensor *> operands = operandsOf(op);
  if (!op.getSelected()) // As if it were there.
    operands.insert(operands.begin() + 3, nullptr);
  FailureOr<Tensor> result = interpreter.compressedCache.attend(op, operands);
  return failed(result) ? failure()
                        : set(op, op.getResult(), std::move(*result));
}

//===----------------------------------------------------------------------===//
// The interpreter
//===----------------------------------------------------------------------===//

Interpreter::Interpreter(ModuleOp module, Options options)
    : module(module), symbols(module), adapters(std::move(options.adapters)),
      observe(std::move(options.observe)),
      recipes(std::move(options.modelFolder), options.maxWeightElements) {}

Interpreter::~Interpreter() = default;

FailureOr<Interpreter::TensorPtr> Interpreter::lookupWeight(Location loc,
                                                            StringRef name) {
  TensorPtr &known = weights[name];
  if (known)
    return known;
  auto weight = symbols.lookup<WeightOp>(name);
  if (!weight)
    return emitError(loc, "expects a weight of the module, but got '")
           << name << "'";
  FailureOr<Tensor> tensor = recipes.evaluate(weight);
  if (failed(tensor))
    return failure();
  for (auto change : module.getOps<LoRAOp>()) {
    if (change.getWeight() != name)
      continue;
    FailureOr<TensorPtr> up = lookupWeight(change.getLoc(), change.getUp());
    FailureOr<TensorPtr> down = lookupWeight(change.getLoc(), change.getDown());
    if (failed(up) || failed(down))
      return failure();
    *tensor = addProduct(
        std::move(*tensor), **up, **down, change.getScale().convertToDouble(),
        cast<FloatType>(weight.getWeightType().getElementType()));
  }
  known = std::make_shared<const Tensor>(std::move(*tensor));
  for (auto change : module.getOps<AdaptersOp>())
    if (change.getWeight() == name)
      changes[known.get()] = change;
  return known;
}

FailureOr<const Tensor *> Interpreter::getWeight(StringRef name) {
  FailureOr<TensorPtr> weight = lookupWeight(module.getLoc(), name);
  if (failed(weight))
    return failure();
  return weight->get();
}

FailureOr<SmallVector<Interpreter::TensorPtr>>
Interpreter::callFunction(Operation *caller, func::FuncOp function,
                          ArrayRef<TensorPtr> arguments) {
  if (!function.getBody().hasOneBlock())
    return function.emitOpError("expects one block in the reference");
  if (depth >= maxCallDepth)
    return caller->emitError("expects at most ")
           << maxCallDepth << " calls inside each other in the reference";
  ++depth;
  llvm::scope_exit leave([&] { --depth; });

  Frame frame(*this);
  Block &block = function.getBody().front();
  if (arguments.size() != block.getNumArguments())
    return caller->emitError("expects ")
           << block.getNumArguments() << " arguments for '"
           << function.getName() << "', but got " << arguments.size();
  for (auto [value, tensor] : llvm::zip(block.getArguments(), arguments))
    if (failed(frame.set(caller, value, tensor)))
      return failure();
  auto get = [&](Value value) { return frame.get(value).get(); };
  for (Operation &op : block.without_terminator())
    if (failed(frame.run(&op)) || (observe && !isa<func::CallOp>(op) &&
                                   failed(observe({&op, calls, get}))))
      return failure();
  auto returned = dyn_cast<func::ReturnOp>(block.getTerminator());
  if (!returned)
    return block.getTerminator()->emitOpError(
        "is not an op that the reference knows");
  SmallVector<TensorPtr> results;
  for (Value value : returned.getOperands())
    results.push_back(frame.get(value));
  return results;
}

FailureOr<SmallVector<Tensor>> Interpreter::call(StringRef name,
                                                 ArrayRef<Tensor> arguments) {
  auto function = symbols.lookup<func::FuncOp>(name);
  if (!function)
    return emitError(module.getLoc(),
                     "expects a function of the module, but got '")
           << name << "'";
  SmallVector<TensorPtr> pointers;
  for (const Tensor &argument : arguments)
    pointers.push_back(std::make_shared<const Tensor>(argument));
  auto results = callFunction(function, function, pointers);
  if (failed(results))
    return failure();
  return llvm::map_to_vector(*results,
                             [](const TensorPtr &tensor) { return *tensor; });
}

FailureOr<Tensor> Interpreter::run(StringRef entry, ArrayRef<int32_t> tokens,
                                   ArrayRef<int32_t> positions,
                                   ArrayRef<int32_t> sequences,
                                   ArrayRef<int32_t> outputs) {
  if (positions.size() != tokens.size() || sequences.size() != tokens.size())
    return emitError(module.getLoc(),
                     "expects a position and a sequence for each of ")
           << tokens.size() << " tokens, but got " << positions.size()
           << " and " << sequences.size();
  auto toTensor = [](ArrayRef<int32_t> numbers) {
    return Tensor({int64_t(numbers.size())},
                  std::vector<double>(numbers.begin(), numbers.end()));
  };
  this->sequences = toTensor(sequences);
  FailureOr<SmallVector<Tensor>> results =
      call(entry, {toTensor(tokens), toTensor(positions), this->sequences,
                   toTensor(outputs), Tensor()});
  if (failed(results))
    return failure();
  if (results->size() != 1)
    return emitError(module.getLoc(), "expects '")
           << entry << "' to return logits, but it returns " << results->size()
           << " values";
  return std::move(results->front());
}
