// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Evaluates the recipes of weights, one op at a time, for the interpreter.

#include "dialects/DeepSeek/Reference/Recipe.h"

#include "dialects/DeepSeek/IR/ExpertMerging.h"
#include "dialects/DeepSeek/IR/GGUFBlocks.h"
#include "dialects/DeepSeek/IR/Importance.h"
#include "dialects/DeepSeek/IR/RotaryTable.h"
#include "dialects/DeepSeek/IR/Rounding.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/IR/TypeUtilities.h"

#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <cmath>

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

/// Null for integers.
static FloatType elementType(Value value) {
  return dyn_cast<FloatType>(
      cast<RankedTensorType>(value.getType()).getElementType());
}

static ArrayRef<int64_t> shapeOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape();
}

//===----------------------------------------------------------------------===//
// Sources
//===----------------------------------------------------------------------===//

/// The name of tensor \p index of a stack.
static std::string nameInStack(StringRef name, int64_t index) {
  auto [before, after] = name.split("{}");
  return (before + Twine(index) + after).str();
}

/// A number in [-1, 1) from \p seed and \p index (the output function of
/// SplitMix64; Steele et al. 2014, doi:10.1145/2660193.2660195).
static double madeUp(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return double(int64_t(z >> 11)) * 0x1p-52 - 1;
}

/// FNV-1a, 64 bits.
static uint64_t hashName(StringRef name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char c : name)
    hash = (hash ^ c) * 0x100000001b3u;
  return hash;
}

InputFile *RecipeEvaluator::openFile(Operation *op, StringRef name) {
  std::unique_ptr<InputFile> &file = files[name];
  if (file)
    return file.get();
  if (folder.empty()) {
    op->emitOpError("expects a model folder, to read '") << name << "' from";
    return nullptr;
  }
  SmallString<256> path(folder), realFolder, realPath;
  llvm::sys::path::append(path, name);
  std::error_code error = llvm::sys::fs::real_path(folder, realFolder);
  if (!error)
    error = llvm::sys::fs::real_path(path, realPath);
  if (error) {
    op->emitOpError("cannot open '") << path << "': " << error.message();
    return nullptr;
  }
  StringRef rest = realPath;
  if (!rest.consume_front(realFolder) ||
      (realFolder != "/" && !rest.starts_with("/"))) {
    op->emitOpError("expects a file inside the model folder, but got '")
        << name << "'";
    return nullptr;
  }
  auto opened = std::make_unique<InputFile>();
  std::string message;
  if (!opened->open(realPath, message)) {
    op->emitOpError(message);
    return nullptr;
  }
  file = std::move(opened);
  return file.get();
}

/// Reads one little-endian signed integer.
static double decodeInteger(const uint8_t *bytes, size_t width) {
  uint64_t bits = 0;
  for (size_t i = 0; i < width; ++i)
    bits |= uint64_t(bytes[i]) << (8 * i);
  return double(llvm::SignExtend64(bits, unsigned(8 * width)));
}

FailureOr<Tensor> RecipeEvaluator::readSource(SourceOp source) {
  Tensor result(source.getType().getShape());
  FloatType type = elementType(source.getResult());
  unsigned integerBits = type ? 0 : source.getType().getElementTypeBitWidth();
  int64_t count = source.getTensorCount();
  if (count == 0)
    return result;
  size_t each = result.values.size() / size_t(count);
  ArrayRef<int64_t> offsets = source.getOffsets();
  if (offsets.empty()) {
    int64_t rank = result.rank() - (source.isStack() ? 1 : 0);
    double scale = rank > 1 ? std::sqrt(3.0 / double(result.columns())) : 1;
    for (int64_t i = 0; i < count; ++i) {
      uint64_t seed =
          hashName(source.isStack() ? nameInStack(source.getName(), i)
                                    : source.getName().str());
      double *values = result.values.data() + size_t(i) * each;
      for (size_t j = 0; j < each; ++j) {
        double x = madeUp(seed, j);
        if (isa_and_nonnull<Float8E8M0FNUType>(type))
          values[j] = std::exp2(std::floor(x)); // A scale: a half or one.
        else if (type)
          values[j] = roundTo(x * scale, type);
        else if (integerBits > 8)
          values[j] = x < 0 ? 0 : 1; // An entry of a table.
        else
          // As bytes of an f16 or an E8M0: a small number.
          values[j] = 36 + std::floor(4 * x);
      }
    }
    return result;
  }

  size_t width = (type ? type.getWidth() : integerBits) / 8;
  std::vector<uint8_t> bytes(each * width);
  for (int64_t i = 0; i < count; ++i) {
    ArrayAttr names = source.getFiles();
    auto name = cast<StringAttr>(names[names.size() == 1 ? 0 : size_t(i)]);
    InputFile *file = openFile(source, name);
    if (!file)
      return failure();
    std::string error;
    if (!file->read(uint64_t(offsets[i]), bytes.data(), bytes.size(), error)) {
      source.emitOpError("cannot read tensor ") << i << ": " << error;
      return failure();
    }
    double *values = result.values.data() + size_t(i) * each;
    for (size_t j = 0; j < each; ++j)
      values[j] = type ? decode(bytes.data() + j * width, type)
                       : decodeInteger(bytes.data() + j * width, width);
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Ops on whole tensors
//===----------------------------------------------------------------------===//

/// Product of the sizes of \p shape in [begin, end).
static int64_t sizeOf(ArrayRef<int64_t> shape, int64_t begin, int64_t end) {
  int64_t product = 1;
  for (int64_t size : shape.slice(size_t(begin), size_t(end - begin)))
    product *= size;
  return product;
}

static Tensor concat(ConcatOp op, ArrayRef<Tensor> inputs) {
  Tensor result(shapeOf(op.getResult()));
  int64_t axis = op.getAxis(), rank = result.rank();
  int64_t outer = sizeOf(result.shape, 0, axis);
  double *to = result.values.data();
  for (int64_t i = 0; i < outer; ++i)
    for (const Tensor &input : inputs) {
      int64_t inner = sizeOf(input.shape, axis, rank);
      to = std::copy_n(input.values.data() + i * inner, inner, to);
    }
  return result;
}

static Tensor slice(SliceOp op, const Tensor &input) {
  Tensor result(shapeOf(op.getResult()));
  int64_t axis = op.getAxis(), rank = input.rank();
  int64_t outer = sizeOf(input.shape, 0, axis);
  int64_t unit = sizeOf(input.shape, axis + 1, rank);
  int64_t begin = op.getBegin(), size = int64_t(op.getEnd()) - begin;
  double *to = result.values.data();
  for (int64_t i = 0; i < outer; ++i)
    to = std::copy_n(input.values.data() +
                         (i * input.shape[axis] + begin) * unit,
                     size * unit, to);
  return result;
}

static Tensor transpose(TransposeOp op, const Tensor &input) {
  Tensor result(shapeOf(op.getResult()));
  ArrayRef<int64_t> permutation = op.getPermutation();
  size_t rank = permutation.size();
  SmallVector<int64_t> inputStride(rank, 1), stride(rank), index(rank, 0);
  for (size_t i = rank; i-- > 1;)
    inputStride[i - 1] = inputStride[i] * input.shape[i];
  for (size_t i = 0; i < rank; ++i)
    stride[i] = inputStride[size_t(permutation[i])];
  for (double &value : result.values) {
    int64_t from = 0;
    for (size_t i = 0; i < rank; ++i)
      from += index[i] * stride[i];
    value = input.values[size_t(from)];
    for (size_t i = rank; i-- > 0;) {
      if (++index[i] < result.shape[i])
        break;
      index[i] = 0;
    }
  }
  return result;
}

static Tensor convert(ConvertOp op, Tensor input) {
  FloatType type = elementType(op.getResult());
  for (double &value : input.values)
    value = roundTo(value, type);
  return input;
}

static Tensor dequantize(DequantizeOp op, Tensor input, const Tensor &scales,
                         const Tensor *zeros) {
  FloatType type = elementType(op.getResult());
  Type f32 = Float32Type::get(op.getContext());
  int64_t rank = input.rank(), columns = input.columns();
  int64_t rows = input.shape[size_t(rank - 2)];
  int64_t scaleRows = scales.shape[size_t(rank - 2)];
  int64_t matrices = sizeOf(input.shape, 0, rank - 2);
  int64_t blockRows = op.getRows(), blockColumns = op.getColumns();
  for (int64_t m = 0; m < matrices; ++m)
    for (int64_t i = 0; i < rows; ++i) {
      double *values = input.row(m * rows + i);
      const double *scale = scales.row(m * scaleRows + i / blockRows);
      for (int64_t j = 0; j < columns; ++j) {
        double value = values[j];
        if (zeros)
          value -= zeros->row(m * scaleRows + i / blockRows)[j / blockColumns];
        // Exact in f64, so that this rounds once to f32, as the op says.
        double product = value * scale[j / blockColumns];
        values[j] = roundTo(roundTo(product, cast<FloatType>(f32)), type);
      }
    }
  return input;
}

Tensor deepseek::addProduct(Tensor input, const Tensor &left,
                            const Tensor &right, double scale, FloatType type) {
  int64_t n = input.shape[size_t(input.rank() - 2)], k = input.columns();
  int64_t r = left.columns();
  int64_t rows = int64_t(input.values.size()) / k;
  for (int64_t i = 0; i < rows; ++i) {
    int64_t matrix = i / n;
    for (int64_t j = 0; j < k; ++j) {
      double sum = 0;
      for (int64_t m = 0; m < r; ++m)
        sum += left.row(i)[m] * right.row(matrix * r + m)[j];
      double &value = input.row(i)[j];
      value = roundTo(value + scale * sum, type);
    }
  }
  return input;
}

static Tensor stackRows(StackRowsOp op, ArrayRef<Tensor> inputs) {
  Tensor result(shapeOf(op.getResult()));
  int64_t rows = result.shape[1];
  for (auto [input, index, scale] :
       llvm::zip_equal(inputs, op.getIndices(), op.getScales()))
    for (int64_t i = 0; i < input.rows(); ++i)
      for (int64_t j = 0; j < input.columns(); ++j)
        result.row(index * rows + i)[j] =
            double(float(input.row(i)[j]) * float(scale));
  return result;
}

static Tensor unpack(UnpackOp op, const Tensor &input) {
  Tensor result(shapeOf(op.getResult()));
  int64_t bits = op.getBits(), half = int64_t(1) << (bits - 1);
  for (size_t i = 0; i < result.values.size(); ++i) {
    int64_t code = 0;
    for (int64_t bit = 0; bit < bits; ++bit) {
      int64_t at = int64_t(i) * bits + bit;
      auto byte = uint8_t(int8_t(input.values[size_t(at / 8)]));
      code |= int64_t(byte >> (at % 8) & 1) << bit;
    }
    code = (code + int64_t(op.getPlus())) % (2 * half) - half;
    result.values[i] = double(code);
  }
  return result;
}

static Tensor dequantizeMXFP4(DequantizeMXFP4Op op, const Tensor &input,
                              const Tensor &scales) {
  static constexpr double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  Tensor result(shapeOf(op.getResult()));
  FloatType type = elementType(op.getResult());
  for (auto [i, value] : llvm::enumerate(result.values)) {
    unsigned code = uint8_t(int8_t(input.values[i / 2])) >> (i % 2 * 4) & 15;
    value = magnitudes[code & 7] * scales.values[i / 32];
    value = roundTo(code & 8 ? -value : value, type);
  }
  return result;
}

static FailureOr<Tensor> gather(GatherOp op, const Tensor &input,
                                const Tensor &indices) {
  Tensor result(shapeOf(op.getResult()));
  for (int64_t j = 0; j < result.columns(); ++j) {
    uint32_t index = 0;
    for (int64_t byte = 0; byte < 4; ++byte)
      index |= uint32_t(uint8_t(int8_t(indices.row(j)[byte]))) << (8 * byte);
    if (index >= uint64_t(input.columns()))
      return op.emitOpError("expects indices below ")
             << input.columns() << ", but got " << index << " at " << j;
    int64_t rows = int64_t(result.values.size()) / result.columns();
    for (int64_t i = 0; i < rows; ++i)
      result.row(i)[j] = input.row(i)[index];
  }
  return result;
}

static Tensor importance(ImportanceOp op, const Tensor &weight,
                         const Tensor *moment) {
  Tensor result(shapeOf(op.getResult()));
  int64_t columns = weight.columns(), group = op.getGroup();
  int64_t rows = weight.shape[size_t(weight.rank() - 2)];
  int64_t matrices = sizeOf(weight.shape, 0, weight.rank() - 2);
  for (int64_t m = 0; m < matrices; ++m) {
    const double *factors = nullptr;
    if (moment) {
      factors = moment->values.data() + (moment->rank() == 2 ? m * columns : 0);
      if (llvm::all_of(ArrayRef(factors, size_t(columns)),
                       [](double factor) { return factor == 0; }))
        factors = nullptr;
    }
    for (int64_t i = 0; i < rows; ++i) {
      const double *values = weight.row(m * rows + i);
      for (int64_t c = 0; c < columns; ++c)
        result.values[size_t((m * columns + c) / group)] +=
            values[c] * values[c] * (factors ? factors[c] : 1);
    }
  }
  FloatType type = elementType(op.getResult());
  for (double &value : result.values)
    value = roundTo(value, type);
  return result;
}

static Tensor select(SelectOp op, const Tensor &input,
                     const Tensor &importance) {
  Tensor result(shapeOf(op.getResult()));
  int64_t axis = op.getAxis(), rank = input.rank();
  int64_t count = input.shape[size_t(axis)], keep = op.getKeep();
  int64_t outer = sizeOf(input.shape, 0, axis);
  int64_t unit = sizeOf(input.shape, axis + 1, rank);
  int64_t perRow = outer / (importance.rank() == 2 ? importance.shape[0] : 1);
  double *to = result.values.data();
  for (int64_t i = 0; i < outer; ++i) {
    const double *of = importance.values.data();
    if (importance.rank() == 2)
      of += i / perRow * count;
    for (int64_t index : selectMost(count, keep, op.getGroups(), op.getSorted(),
                                    [&](int64_t index) { return of[index]; }))
      to = std::copy_n(input.values.data() + (i * count + index) * unit, unit,
                       to);
  }
  return result;
}

static Tensor mergeExperts(MergeExpertsOp op, const Tensor &gate,
                           const Tensor &up, const Tensor &down,
                           const Tensor *mass, const Tensor *moment,
                           const Tensor *statistic, const Tensor *count) {
  int64_t experts = gate.shape[0], inner = gate.shape[1];
  int64_t hidden = gate.shape[2], size = inner * hidden;
  auto floats = [](const Tensor *tensor) {
    return tensor ? std::vector<float>(tensor->values.begin(),
                                       tensor->values.end())
                  : std::vector<float>();
  };
  std::vector<float> masses = floats(mass);
  ExpertMerger merger(experts, inner, hidden,
                      averageMoments(floats(moment), masses, experts));
  std::vector<float> gates = floats(&gate), ups = floats(&up),
                     downs = floats(&down);
  for (int64_t e = 0; e < experts; ++e)
    merger.add(e, gates.data() + e * size, ups.data() + e * size,
               downs.data() + e * size);
  merger.merge(op.getKeep(), masses);

  Tensor result(shapeOf(op.getResult()));
  if (op.getPart() == MergedPart::Map) {
    llvm::copy(merger.getMap(), result.values.begin());
    return result;
  }
  if (statistic) {
    bool isInner = op.getPart() == MergedPart::Inner;
    int64_t columns = result.columns();
    int64_t rows = result.rank() == 3 ? columns : 1;
    std::vector<float> counts = floats(count);
    for (int64_t i = 0; i < int64_t(op.getKeep()); ++i) {
      ArrayRef<ExpertMerger::Member> members = merger.getMembers(i);
      std::vector<double> shares = shareCounts(members, counts);
      for (auto [member, share] : llvm::zip(members, shares))
        for (int64_t r = 0; r < rows; ++r) {
          int64_t row = isInner && rows > 1 ? member.channels[size_t(r)] : r;
          const double *from = statistic->row(member.expert * rows + row);
          for (int64_t j = 0; j < columns; ++j)
            result.row(i * rows + r)[j] +=
                share * from[isInner ? member.channels[size_t(j)] : j];
        }
    }
    for (double &value : result.values)
      value = double(float(value));
    return result;
  }
  bool isDown = op.getPart() == MergedPart::Down;
  const Tensor &from = isDown                             ? down
                       : op.getPart() == MergedPart::Gate ? gate
                                                          : up;
  FloatType type = elementType(op.getResult());
  int64_t rows = isDown ? hidden : inner, columns = result.columns();
  for (int64_t i = 0; i < int64_t(op.getKeep()) * rows; ++i) {
    int64_t row = i % rows;
    double *to = result.row(i);
    for (const ExpertMerger::Member &member : merger.getMembers(i / rows)) {
      const std::vector<int32_t> &channels = member.channels;
      const double *values = from.row(member.expert * rows +
                                      (isDown ? row : channels[size_t(row)]));
      for (int64_t j = 0; j < columns; ++j)
        to[j] += member.share * values[isDown ? channels[size_t(j)] : j];
    }
    for (int64_t j = 0; j < columns; ++j)
      to[j] = roundTo(to[j], type);
  }
  return result;
}

static Tensor channelScales(ChannelScalesOp op, const Tensor &statistic,
                            ArrayRef<Tensor> weights) {
  Tensor result(shapeOf(op.getResult()));
  std::vector<float> moments(statistic.values.begin(), statistic.values.end());
  int64_t columns = result.columns();
  int64_t stacks = result.rank() == 2 ? result.shape[0] : 1;
  for (int64_t m = 0; m < stacks; ++m) {
    ChannelScaler scaler(
        op.getScaling(),
        ArrayRef(moments).slice(size_t(m * columns), size_t(columns)));
    for (const Tensor &weight : weights) {
      int64_t rows = int64_t(weight.values.size()) / columns / stacks;
      for (int64_t i = 0; i < rows; i += getRowStep(rows)) {
        const double *values = weight.row(m * rows + i);
        std::vector<float> row(values, values + columns);
        scaler.add(row.data());
      }
    }
    llvm::copy(scaler.choose(), result.row(m));
  }
  return result;
}

static Tensor scaleChannels(ScaleChannelsOp op, Tensor input,
                            const Tensor &scales) {
  int64_t axis = op.getAxis(), rank = input.rank();
  int64_t size = input.shape[size_t(axis)];
  int64_t unit = sizeOf(input.shape, axis + 1, rank);
  int64_t perRow =
      int64_t(input.values.size()) / (scales.rank() == 2 ? scales.shape[0] : 1);
  FloatType type = elementType(op.getResult());
  for (auto [i, value] : llvm::enumerate(input.values)) {
    auto at = int64_t(i);
    double scale = scales.values[size_t(at / perRow * size + at / unit % size)];
    value =
        roundTo(value * std::pow(scale, double(int64_t(op.getPower()))), type);
  }
  return input;
}

static FailureOr<Tensor> expertIds(ExpertIdsOp op, Tensor input) {
  for (double id : input.values)
    if (id < 0 || id >= double(int64_t(op.getExperts())))
      return op.emitOpError("expects experts in [0, ")
             << int64_t(op.getExperts()) << "), but got " << int64_t(id);
  return input;
}

static FloatType f16Of(Operation *op) {
  return cast<FloatType>(Type(Float16Type::get(op->getContext())));
}

/// The scale of \p group numbers, rounded to f16, for integers of \p bits.
/// \p moments, of their channels, may be null.
static double scaleOf(const double *values, const double *moments,
                      int64_t group, uint64_t bits, FloatType f16) {
  double largest = 0;
  for (int64_t i = 0; i < group; ++i)
    if (std::abs(values[i]) > std::abs(largest))
      largest = values[i];
  float scale = getScaleOf(float(largest), unsigned(bits));
  if (moments) {
    std::vector<float> numbers(values, values + group);
    std::vector<float> factors(moments, moments + group);
    scale =
        findScale(numbers.data(), factors.data(), group, unsigned(bits), scale);
  }
  return roundTo(double(scale), f16);
}

/// The scales of the groups of \p input. \p moment may be null.
static FailureOr<std::vector<double>> findScales(Operation *op,
                                                 const Tensor &input,
                                                 const Tensor *moment,
                                                 int64_t group, uint64_t bits) {
  std::vector<double> scales(input.values.size() / size_t(group));
  int64_t columns = input.columns();
  int64_t matrix = columns * input.shape[size_t(input.rank() - 2)];
  for (auto [i, scale] : llvm::enumerate(scales)) {
    int64_t first = int64_t(i) * group;
    const double *moments = nullptr;
    if (moment)
      moments = moment->row(moment->rank() == 1 ? 0 : first / matrix) +
                first % columns;
    scale =
        scaleOf(input.values.data() + first, moments, group, bits, f16Of(op));
    if (!std::isfinite(scale))
      return op->emitOpError("expects scales that fit f16, but got ")
             << scale << " for group " << i;
  }
  return scales;
}

static FailureOr<Tensor>
quantizeScales(QuantizeScalesOp op, const Tensor &input, const Tensor *moment) {
  Tensor result(shapeOf(op.getResult()));
  FailureOr<std::vector<double>> scales = findScales(
      op, input, moment, input.columns() / result.columns(), op.getBits());
  if (failed(scales))
    return failure();
  result.values = std::move(*scales);
  return result;
}

/// Rounds \p input, by \p scales, so that errors make up for one another.
static Tensor feedBackErrors(QuantizeOp op, Tensor input, const Tensor &gram,
                             const std::vector<double> &scales, unsigned bits) {
  int64_t columns = input.columns();
  int64_t rows = input.shape[size_t(input.rank() - 2)];
  std::vector<float> numbers(input.values.begin(), input.values.end());
  std::vector<float> products(gram.values.begin(), gram.values.end());
  std::vector<float> factors(scales.begin(), scales.end());
  std::vector<int8_t> integers(numbers.size());
  auto group = int64_t(op.getGroup());
  for (int64_t first = 0; first < int64_t(numbers.size());
       first += rows * columns) {
    int64_t of = gram.rank() == 2 ? 0 : first / (rows * columns);
    ErrorFeedback feedback(products.data() + of * columns * columns, columns,
                           op.getDamping()->convertToDouble());
    feedback.round(numbers.data() + first, factors.data() + first / group, rows,
                   group, bits, integers.data() + first);
  }
  input.values.assign(integers.begin(), integers.end());
  return input;
}

static Tensor roundBy(RoundByOp op, Tensor input, const Tensor &scales) {
  double least = getElementTypeOrSelf(op.getResult()).isInteger(4) ? -8 : -128;
  int64_t columns = input.columns();
  int64_t rows = input.shape[input.shape.size() - 2];
  int64_t blockRows = rows / scales.shape[scales.shape.size() - 2];
  int64_t blockColumns = columns / scales.columns();
  for (int64_t i = 0; i < int64_t(input.values.size()); ++i) {
    // All rows of all matrices have blocks of as many rows.
    int64_t block = i / columns / blockRows;
    auto scale = float(scales.row(block)[i % columns / blockColumns]);
    double &value = input.values[size_t(i)];
    value = scale == 0 ? 0 : double(float(value) / scale);
    value = std::clamp(std::nearbyint(value), least, -least - 1);
  }
  return input;
}

static FailureOr<Tensor> quantize(QuantizeOp op, Tensor input,
                                  const Tensor *moment, const Tensor *gram) {
  auto group = int64_t(op.getGroup());
  unsigned bits = getElementTypeOrSelf(op.getResult()).getIntOrFloatBitWidth();
  auto least = double(getLeastInteger(bits));
  auto most = double(getMostInteger(bits));
  FailureOr<std::vector<double>> scales =
      findScales(op, input, moment, group, bits);
  if (failed(scales))
    return failure();
  if (gram)
    return feedBackErrors(op, std::move(input), *gram, *scales, bits);
  for (auto [i, value] : llvm::enumerate(input.values)) {
    double scale = (*scales)[i / size_t(group)];
    // In f32, as the division could round to a tie in another way in f64.
    float quotient = scale == 0 ? 0 : float(value) / float(scale);
    value = std::clamp(double(std::nearbyint(quotient)), least, most);
  }
  return input;
}

static Tensor dequantizeBlocks(DequantizeGGUFOp op, const Tensor &input) {
  Tensor result(shapeOf(op.getResult()));
  GGUFBlock block = getGGUFBlock(op.getFormat());
  std::vector<uint8_t> bytes(size_t(block.bytes));
  std::vector<float> numbers(size_t(block.elements));
  const double *from = input.values.data();
  for (size_t i = 0; i < result.values.size(); i += numbers.size()) {
    for (uint8_t &byte : bytes)
      byte = uint8_t(int8_t(*from++));
    deepseek::dequantizeGGUF(op.getFormat(), bytes.data(), 1, numbers.data());
    llvm::copy(numbers, result.values.begin() + int64_t(i));
  }
  return result;
}

static Tensor partOfBlocks(GGUFPartOp op, const Tensor &input) {
  Tensor result(shapeOf(op.getResult()));
  GGUFBlock block = getGGUFBlock(op.getFormat());
  std::vector<uint8_t> bytes(size_t(block.bytes));
  std::vector<int8_t> codes(size_t(block.elements));
  GGUFParts parts = getGGUFParts(op.getFormat());
  GGUFScales scales, offsets;
  const double *from = input.values.data();
  for (auto to = result.values.begin(); to != result.values.end();) {
    for (uint8_t &byte : bytes)
      byte = uint8_t(int8_t(*from++));
    splitGGUF(op.getFormat(), bytes.data(), codes.data(), scales, offsets);
    if (op.getPart() == GGUFPart::Codes) {
      to = llvm::copy(codes, to);
      continue;
    }
    const GGUFScales &part =
        op.getPart() == GGUFPart::Scales ? scales : offsets;
    if (parts.storage != GGUFParts::TwoLevels) {
      *to++ = part.unit;
      continue;
    }
    to = std::copy_n(part.factors, block.elements / parts.group, to);
    llvm::APFloat unit(part.unit);
    bool isRounded;
    unit.convert(llvm::APFloat::IEEEhalf(), llvm::APFloat::rmNearestTiesToEven,
                 &isRounded);
    auto bits = uint16_t(unit.bitcastToAPInt().getZExtValue());
    *to++ = int8_t(bits & 0xff);
    *to++ = int8_t(bits >> 8);
  }
  return result;
}

static Tensor rotaryTable(RotaryTableOp op) {
  Tensor result(shapeOf(op.getResult()));
  FloatType type = elementType(op.getResult());
  SmallVector<double> frequencies = getRotaryFrequencies(op.getRotary());
  double factor = getRotaryAttentionFactor(op.getRotary());
  int64_t half = int64_t(frequencies.size());
  for (int64_t p = 0; p < result.rows(); ++p)
    for (int64_t i = 0; i < half; ++i) {
      double angle = double(p) * frequencies[size_t(i)];
      result.row(p)[i] = roundTo(std::cos(angle) * factor, type);
      result.row(p)[half + i] = roundTo(std::sin(angle) * factor, type);
    }
  return result;
}

FailureOr<Tensor> RecipeEvaluator::evaluate(WeightOp weight) {
  // A value dies at its last use, so that a recipe of many steps on a large
  // tensor holds few of them.
  llvm::DenseMap<Value, Tensor> values;
  auto take = [&](Value value) {
    if (!value.hasOneUse())
      return values.lookup(value);
    Tensor tensor = std::move(values[value]);
    values.erase(value);
    return tensor;
  };
  for (Operation &op : weight.getRecipe().front()) {
    for (Type type : op.getResultTypes()) {
      auto tensor = dyn_cast<RankedTensorType>(type);
      // A source of integers has the bytes of blocks, or a table.
      bool mayBeInteger =
          isa<SourceOp>(op)
              ? getElementTypeOrSelf(type).getIntOrFloatBitWidth() >= 8
              : !isa<ConvertOp, DequantizeOp>(op);
      if (!tensor || !(isa<FloatType>(tensor.getElementType()) || mayBeInteger))
        return op.emitOpError("expects floating point in the reference, but "
                              "got ")
               << type;
      std::optional<int64_t> elements = checkedProduct(tensor.getShape());
      if (!elements || *elements > maxElements)
        return op.emitOpError("expects at most ")
               << maxElements << " elements in the reference, but got " << type;
    }
    FailureOr<Tensor> result =
        llvm::TypeSwitch<Operation *, FailureOr<Tensor>>(&op)
            .Case([&](SourceOp source) { return readSource(source); })
            .Case([&](ConcatOp concatOp) {
              SmallVector<Tensor> inputs;
              for (Value input : concatOp.getInputs())
                inputs.push_back(take(input));
              return concat(concatOp, inputs);
            })
            .Case([&](SliceOp sliceOp) {
              return slice(sliceOp, take(sliceOp.getInput()));
            })
            .Case([&](ReshapeOp reshape) {
              Tensor tensor = take(reshape.getInput());
              tensor.shape.assign(shapeOf(reshape.getResult()));
              return tensor;
            })
            .Case([&](TransposeOp transposeOp) {
              return transpose(transposeOp, take(transposeOp.getInput()));
            })
            .Case([&](ConvertOp convertOp) {
              return convert(convertOp, take(convertOp.getInput()));
            })
            .Case([&](DequantizeOp dequantizeOp) {
              Tensor scales = take(dequantizeOp.getScales()), zeros;
              if (dequantizeOp.getZeros())
                zeros = take(dequantizeOp.getZeros());
              return dequantize(dequantizeOp, take(dequantizeOp.getInput()),
                                scales,
                                dequantizeOp.getZeros() ? &zeros : nullptr);
            })
            .Case([&](AddProductOp product) {
              Tensor left = take(product.getLeft());
              Tensor right = take(product.getRight());
              return addProduct(take(product.getInput()), left, right,
                                product.getScale().convertToDouble(),
                                elementType(product.getResult()));
            })
            .Case([&](StackRowsOp stack) {
              std::vector<Tensor> inputs;
              for (Value input : stack.getInputs())
                inputs.push_back(take(input));
              return stackRows(stack, inputs);
            })
            .Case([&](UnpackOp unpackOp) {
              return unpack(unpackOp, take(unpackOp.getInput()));
            })
            .Case([&](GatherOp gatherOp) {
              Tensor indices = take(gatherOp.getIndices());
              return gather(gatherOp, take(gatherOp.getInput()), indices);
            })
            .Case([&](ImportanceOp importanceOp) {
              Tensor moment;
              if (importanceOp.getMoment())
                moment = take(importanceOp.getMoment());
              return importance(importanceOp, take(importanceOp.getWeight()),
                                importanceOp.getMoment() ? &moment : nullptr);
            })
            .Case([&](SelectOp selectOp) {
              Tensor importance = take(selectOp.getImportance());
              return select(selectOp, take(selectOp.getInput()), importance);
            })
            .Case([&](RankOp rank) {
              Tensor tensor = take(rank.getImportance());
              std::vector<double> values = std::move(tensor.values);
              tensor.values.assign(values.size(), 0);
              llvm::copy(rankAll(int64_t(values.size()),
                                 [&](int64_t i) { return values[size_t(i)]; }),
                         tensor.values.begin());
              return tensor;
            })
            .Case([&](MergeExpertsOp merge) {
              Tensor mass, moment, statistic, count;
              if (merge.getMass())
                mass = take(merge.getMass());
              if (merge.getMoment())
                moment = take(merge.getMoment());
              if (merge.getStatistic())
                statistic = take(merge.getStatistic());
              if (merge.getCount())
                count = take(merge.getCount());
              Tensor gate = take(merge.getGate()), up = take(merge.getUp());
              return mergeExperts(merge, gate, up, take(merge.getDown()),
                                  merge.getMass() ? &mass : nullptr,
                                  merge.getMoment() ? &moment : nullptr,
                                  merge.getStatistic() ? &statistic : nullptr,
                                  merge.getCount() ? &count : nullptr);
            })
            .Case([&](ChannelScalesOp scales) {
              SmallVector<Tensor> weights;
              for (Value weight : scales.getWeights())
                weights.push_back(take(weight));
              return channelScales(scales, take(scales.getStatistic()),
                                   weights);
            })
            .Case([&](ScaleChannelsOp scaleOp) {
              Tensor scales = take(scaleOp.getScales());
              return scaleChannels(scaleOp, take(scaleOp.getInput()), scales);
            })
            .Case([&](QuantizeOp quantizeOp) {
              Tensor moment, gram;
              if (quantizeOp.getMoment())
                moment = take(quantizeOp.getMoment());
              if (quantizeOp.getGram())
                gram = take(quantizeOp.getGram());
              return quantize(quantizeOp, take(quantizeOp.getInput()),
                              quantizeOp.getMoment() ? &moment : nullptr,
                              quantizeOp.getGram() ? &gram : nullptr);
            })
            .Case([&](RoundByOp round) {
              Tensor scales = take(round.getScales());
              return roundBy(round, take(round.getInput()), scales);
            })
            .Case([&](QuantizeScalesOp scales) {
              Tensor moment;
              if (scales.getMoment())
                moment = take(scales.getMoment());
              return quantizeScales(scales, take(scales.getInput()),
                                    scales.getMoment() ? &moment : nullptr);
            })
            .Case([&](DequantizeGGUFOp dequantizeOp) {
              return dequantizeBlocks(dequantizeOp,
                                      take(dequantizeOp.getInput()));
            })
            .Case([&](GGUFPartOp partOp) {
              return partOfBlocks(partOp, take(partOp.getInput()));
            })
            .Case([&](DequantizeMXFP4Op dequantizeOp) {
              Tensor scales = take(dequantizeOp.getScales());
              return dequantizeMXFP4(dequantizeOp,
                                     take(dequantizeOp.getInput()), scales);
            })
            .Case([&](ExpertIdsOp ids) {
              return expertIds(ids, take(ids.getInput()));
            })
            .Case([&](RotaryTableOp table) { return rotaryTable(table); })
            .Case([&](NumbersOp numbers) {
              Tensor result(shapeOf(numbers.getResult()));
              llvm::copy(numbers.getValues(), result.values.begin());
              return result;
            })
            // A layout changes where values are, not what they are.
            .Case([&](PackOp pack) { return take(pack.getInput()); })
            .Case([&](YieldOp yield) { return take(yield.getValue()); })
            .Default([&](Operation *unknown) -> FailureOr<Tensor> {
              return unknown->emitOpError(
                  "is not an op that the reference knows in a recipe");
            });
    if (failed(result))
      return failure();
    if (isa<YieldOp>(op))
      return result;
    values[op.getResult(0)] = std::move(*result);
  }
  return weight.emitOpError("expects a recipe that ends in 'deepseek.yield'");
}
