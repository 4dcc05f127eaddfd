// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Computes what a graph says of shapes, positions and masks. Operators are
// those of https://onnx.ai/onnx/operators. One that is not here, or that is
// used in a way that is not, gives a value of unknown shape, so that whatever
// needs it cannot be proven.

#include "lib/Import/ONNX/Evaluator.h"

#include "lib/Import/ONNX/GraphImporter.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Utils/IndexingUtils.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/Support/Path.h"

#include <cmath>
#include <cstring>

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

/// Elements of arrays that are computed at once.
constexpr int64_t eagerElements = 4096;
/// Of arrays whose elements depend on each other.
constexpr int64_t maxSummedElements = 1 << 21;
constexpr int64_t maxElements = int64_t(1) << 50;
constexpr unsigned maxDepth = 64;

//===----------------------------------------------------------------------===//
// Attributes and operands
//===----------------------------------------------------------------------===//

StringRef onnx::getText(NodeOp op, StringRef name, StringRef fallback) {
  auto text = dyn_cast_or_null<StringAttr>(op.getParameters().get(name));
  return text ? text.getValue() : fallback;
}

int64_t onnx::getInt(NodeOp op, StringRef name, int64_t fallback) {
  auto value = dyn_cast_or_null<IntegerAttr>(op.getParameters().get(name));
  return value ? value.getInt() : fallback;
}

double onnx::getFloat(NodeOp op, StringRef name, double fallback) {
  auto value = dyn_cast_or_null<FloatAttr>(op.getParameters().get(name));
  return value ? value.getValueAsDouble() : fallback;
}

std::optional<SmallVector<int64_t>> onnx::getInts(NodeOp op, StringRef name) {
  auto value =
      dyn_cast_or_null<DenseI64ArrayAttr>(op.getParameters().get(name));
  if (!value)
    return std::nullopt;
  return SmallVector<int64_t>(value.asArrayRef());
}

Value onnx::getOperand(NodeOp op, unsigned i) {
  if (i >= op.getInputs().size() || isa<NoneType>(op.getInputs()[i].getType()))
    return {};
  return op.getInputs()[i];
}

//===----------------------------------------------------------------------===//
// Arrays
//===----------------------------------------------------------------------===//

/// An array without numbers; null if it is too big to be one.
static std::shared_ptr<Array> makeOpaque(ArrayRef<int64_t> shape) {
  std::optional<int64_t> count = checkedProduct(shape);
  if (!count || *count > maxElements || shape.size() > 16)
    return nullptr;
  auto array = std::make_shared<Array>();
  array->shape.assign(shape.begin(), shape.end());
  array->count = *count;
  return array;
}

/// An array whose elements are computed from those of \p inputs, which it keeps
/// alive only through \p compute. Without numbers if one of them has none.
static ArrayPtr make(ArrayRef<int64_t> shape, bool isReal,
                     ArrayRef<ArrayPtr> inputs,
                     std::function<Number(int64_t)> compute) {
  std::shared_ptr<Array> array = makeOpaque(shape);
  if (!array)
    return nullptr;
  array->isReal = isReal;
  for (const ArrayPtr &input : inputs) {
    if (!input->isKnown())
      return array;
    array->depth =
        std::max(array->depth, input->elements.empty() ? input->depth + 1 : 1);
  }
  if (array->depth > maxDepth)
    return array;
  if (array->count <= eagerElements) {
    for (int64_t i = 0; i < array->count; ++i)
      array->elements.push_back(compute(i));
    return array;
  }
  array->compute = std::move(compute);
  return array;
}

ArrayPtr onnx::makeArray(ArrayRef<int64_t> shape, bool isReal,
                         std::function<Number(int64_t)> compute) {
  return make(shape, isReal, {}, std::move(compute));
}

static Number fromInteger(int64_t value) {
  Number number;
  number.integer = value;
  return number;
}

static Number fromReal(double value) {
  Number number;
  number.real = value;
  return number;
}

static ArrayPtr makeIntegers(ArrayRef<int64_t> values, bool isScalar = false) {
  SmallVector<int64_t> copy(values);
  SmallVector<int64_t, 1> shape;
  if (!isScalar)
    shape.push_back(int64_t(values.size()));
  return make(shape, false, {},
              [copy](int64_t i) { return fromInteger(copy[size_t(i)]); });
}

/// Numbers of elements that one step along each dimension passes.
static SmallVector<int64_t, 5> stridesOf(ArrayRef<int64_t> shape) {
  SmallVector<int64_t, 5> strides(shape.size(), 1);
  for (size_t i = shape.size(); i > 1; --i)
    strides[i - 2] = strides[i - 1] * shape[i - 1];
  return strides;
}

/// The element of an array with \p strides that element \p index of \p shape
/// reads, plus \p base.
static int64_t mapIndex(int64_t index, ArrayRef<int64_t> shape,
                        ArrayRef<int64_t> strides, int64_t base = 0) {
  for (size_t i = shape.size(); i > 0; --i) {
    base += index % shape[i - 1] * strides[i - 1];
    index /= shape[i - 1];
  }
  return base;
}

static std::optional<SmallVector<int64_t, 5>> broadcast(ArrayRef<int64_t> a,
                                                        ArrayRef<int64_t> b) {
  SmallVector<int64_t, 5> shape(std::max(a.size(), b.size()), 1);
  for (size_t i = 0; i < shape.size(); ++i) {
    int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1)
      return std::nullopt;
    shape[shape.size() - 1 - i] = x == 1 ? y : x;
  }
  return shape;
}

/// Strides by which an array of \p from is read as one of \p to.
static SmallVector<int64_t, 5> broadcastStrides(ArrayRef<int64_t> from,
                                                ArrayRef<int64_t> to) {
  SmallVector<int64_t, 5> strides(to.size(), 0), own = stridesOf(from);
  size_t skipped = to.size() - from.size();
  for (size_t i = 0; i < from.size(); ++i)
    if (from[i] != 1)
      strides[skipped + i] = own[i];
  return strides;
}

int64_t onnx::broadcastIndex(int64_t index, ArrayRef<int64_t> from,
                             ArrayRef<int64_t> to) {
  std::optional<SmallVector<int64_t, 5>> both = broadcast(from, to);
  if (!both || ArrayRef<int64_t>(*both) != to)
    return -1;
  return mapIndex(index, to, broadcastStrides(from, to));
}

static std::optional<int64_t> normalize(int64_t axis, int64_t rank) {
  if (axis < 0)
    axis += rank;
  if (axis < 0 || axis >= rank)
    return std::nullopt;
  return axis;
}

/// \p array read by other strides.
static ArrayPtr makeView(const ArrayPtr &array, ArrayRef<int64_t> shape,
                         ArrayRef<int64_t> strides, int64_t base = 0) {
  SmallVector<int64_t, 5> size(shape), step(strides);
  return make(shape, array->isReal, {array}, [=](int64_t i) {
    return array->at(mapIndex(i, size, step, base));
  });
}

static ArrayPtr reshape(const ArrayPtr &array, ArrayRef<int64_t> shape) {
  std::optional<int64_t> count = checkedProduct(shape);
  if (!count || *count != array->count)
    return nullptr;
  return make(shape, array->isReal, {array},
              [array](int64_t i) { return array->at(i); });
}

//===----------------------------------------------------------------------===//
// Inputs and tensors
//===----------------------------------------------------------------------===//

std::shared_ptr<InputFile> TensorFiles::open(StringRef name) {
  std::shared_ptr<InputFile> &file = files[name];
  if (!file) {
    llvm::SmallString<256> path(folder);
    llvm::sys::path::append(path, name);
    auto opened = std::make_shared<InputFile>();
    std::string error;
    if (opened->open(path, error))
      file = std::move(opened);
  }
  return file;
}

/// The number that \p bytes stand for, as an element of type \p type.
static Number decode(const char *bytes, Type type) {
  unsigned width = type.getIntOrFloatBitWidth();
  uint64_t bits = 0;
  std::memcpy(&bits, bytes, std::max(width, 8u) / 8);
  if (auto real = dyn_cast<FloatType>(type)) {
    APFloat value(real.getFloatSemantics(), APInt(width, bits));
    bool losesInfo;
    value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven,
                  &losesInfo);
    return fromReal(value.convertToDouble());
  }
  if (width == 1)
    return fromInteger(bits != 0);
  if (width < 64 && !type.isUnsignedInteger())
    return fromInteger(int64_t(bits << (64 - width)) >> (64 - width));
  return fromInteger(int64_t(bits));
}

ArrayPtr Evaluator::makeInitializer(InitializerOp op) {
  RankedTensorType type = getLogicalType(op);
  Type element = type.getElementType();
  bool isReal = isa<FloatType>(element);
  std::shared_ptr<InputFile> file =
      op.getFile().empty() ? nullptr : files.open(op.getFile());
  if (!file)
    return makeOpaque(type.getShape());
  // Weights are read in other places, by recipes; tables of positions, too,
  // but a few of their numbers here.
  std::shared_ptr<Array> array = makeOpaque(type.getShape());
  if (!array)
    return nullptr;
  array->isReal = isReal;
  unsigned bits = element.getIntOrFloatBitWidth();
  unsigned width = bits == 1 ? 8 : bits, bytes = std::max(width, 8u) / 8;
  uint64_t offset = op.getOffset();
  array->compute = [=](int64_t i) {
    char data[8] = {};
    std::string error;
    uint64_t bit = uint64_t(i) * width;
    // Within the file, as it was when the graph was imported.
    if (!file->read(offset + bit / 8, data, bytes, error))
      return isa<FloatType>(element) ? fromReal(std::nan("")) : fromInteger(-1);
    // Bytes may hold several, the lowest bits first.
    if (width < 8)
      data[0] = char(uint8_t(data[0]) >> bit % 8 & ((1u << width) - 1));
    return decode(data, element);
  };
  return array;
}

static ArrayPtr makeConstant(DenseElementsAttr value) {
  ArrayRef<int64_t> shape = value.getType().getShape();
  if (isa<FloatType>(value.getElementType())) {
    std::vector<double> numbers;
    for (APFloat number : value.getValues<APFloat>()) {
      bool losesInfo;
      number.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven,
                     &losesInfo);
      numbers.push_back(number.convertToDouble());
    }
    return make(shape, true, {}, [numbers = std::move(numbers)](int64_t i) {
      return fromReal(numbers[size_t(i)]);
    });
  }
  bool isSigned = !value.getElementType().isUnsignedInteger() &&
                  !value.getElementType().isInteger(1);
  std::vector<int64_t> numbers;
  for (const APInt &number : value.getValues<APInt>())
    numbers.push_back(isSigned ? number.getSExtValue()
                               : int64_t(number.getZExtValue()));
  return make(shape, false, {}, [numbers = std::move(numbers)](int64_t i) {
    return fromInteger(numbers[size_t(i)]);
  });
}

/// Inputs have the names that transformers gives them. A mask has ones: a
/// session's sequences have no padding.
ArrayPtr Evaluator::makeInput(StringRef name, RankedTensorType type) {
  SmallVector<int64_t> shape(type.getShape());
  bool isInteger = type.getElementType().isInteger();
  int64_t total = lengths.past + lengths.tokens;
  auto fill = [&](ArrayRef<int64_t> sizes) {
    for (auto [size, given] : llvm::zip(shape, sizes))
      if (ShapedType::isDynamic(size))
        size = given;
  };
  auto counts = [&](int64_t first) {
    int64_t row = shape.back();
    return make(shape, false, {},
                [=](int64_t i) { return fromInteger(first + i % row); });
  };
  if (isInteger && shape.size() == 2 && name == "attention_mask") {
    fill({lengths.batch, total});
    return make(shape, false, {}, [](int64_t) { return fromInteger(1); });
  }
  if (isInteger && shape.size() == 2 && name == "position_ids") {
    fill({lengths.batch, lengths.tokens});
    return counts(lengths.past);
  }
  if (isInteger && shape.size() == 1 && name == "cache_position") {
    fill({lengths.tokens});
    return counts(lengths.past);
  }
  if (isInteger && shape.size() == 2) {
    fill({lengths.batch, lengths.tokens});
    return makeOpaque(shape);
  }
  if (!isInteger && shape.size() == 4) { // Keys or values of the past.
    fill({lengths.batch, lengths.past, lengths.past, 1});
    return makeOpaque(shape);
  }
  return nullptr;
}

Evaluator::Evaluator(func::FuncOp graph, TensorFiles &files, Lengths lengths,
                     const llvm::DenseMap<Value, ArrayPtr> &given)
    : files(files), lengths(lengths) {
  for (BlockArgument argument : graph.getArguments()) {
    auto name = graph.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                   "onnx.name");
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (name && type)
      values[argument] = makeInput(name, type);
  }
  for (Operation &op : graph.front()) {
    evaluateTensor(op);
    if (auto node = dyn_cast<NodeOp>(op))
      evaluate(node);
    for (Value result : op.getResults())
      if (ArrayPtr array = given.lookup(result))
        values[result] = array;
  }
}

Evaluator::Evaluator(func::FuncOp graph, TensorFiles &files) : files(files) {
  for (Operation &op : graph.front())
    evaluateTensor(op);
}

void Evaluator::evaluateTensor(Operation &op) {
  if (auto constant = dyn_cast<ConstantOp>(op)) {
    if (auto value = dyn_cast<DenseElementsAttr>(constant.getValue()))
      values[constant.getResult()] = makeConstant(value);
  } else if (auto initializer = dyn_cast<InitializerOp>(op)) {
    values[initializer.getResult()] = makeInitializer(initializer);
  }
}

void Evaluator::setShape(Value value, ArrayRef<int64_t> shape) {
  values[value] = makeOpaque(shape);
}

std::optional<SmallVector<int64_t>> Evaluator::getIntegers(Value value) const {
  ArrayPtr array = values.lookup(value);
  if (!array || !array->isKnown() || array->isReal ||
      array->count > eagerElements)
    return std::nullopt;
  SmallVector<int64_t> integers;
  for (int64_t i = 0; i < array->count; ++i)
    integers.push_back(array->integer(i));
  return integers;
}

//===----------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------===//

using Unary = double (*)(double);
using Binary = double (*)(double, double);

/// Null if \p type is no function of one number.
static Unary findUnary(StringRef type) {
  return llvm::StringSwitch<Unary>(type)
      .Case("Neg", [](double x) { return -x; })
      .Case("Abs", [](double x) { return std::abs(x); })
      .Case("Sqrt", [](double x) { return std::sqrt(x); })
      .Case("Reciprocal", [](double x) { return 1 / x; })
      .Case("Exp", [](double x) { return std::exp(x); })
      .Case("Log", [](double x) { return std::log(x); })
      .Case("Cos", [](double x) { return std::cos(x); })
      .Case("Sin", [](double x) { return std::sin(x); })
      .Case("Floor", [](double x) { return std::floor(x); })
      .Case("Ceil", [](double x) { return std::ceil(x); })
      .Case("Not", [](double x) { return double(x == 0); })
      .Case("IsNaN", [](double x) { return double(std::isnan(x)); })
      .Case("Identity", [](double x) { return x; })
      .Default(nullptr);
}

static Binary findBinary(StringRef type) {
  return llvm::StringSwitch<Binary>(type)
      .Case("Add", [](double x, double y) { return x + y; })
      .Case("Sub", [](double x, double y) { return x - y; })
      .Case("Mul", [](double x, double y) { return x * y; })
      .Case("Div", [](double x, double y) { return x / y; })
      .Case("Pow", [](double x, double y) { return std::pow(x, y); })
      .Case("Min", [](double x, double y) { return std::min(x, y); })
      .Case("Max", [](double x, double y) { return std::max(x, y); })
      .Case("Equal", [](double x, double y) { return double(x == y); })
      .Case("Less", [](double x, double y) { return double(x < y); })
      .Case("LessOrEqual", [](double x, double y) { return double(x <= y); })
      .Case("Greater", [](double x, double y) { return double(x > y); })
      .Case("GreaterOrEqual", [](double x, double y) { return double(x >= y); })
      .Case("And", [](double x, double y) { return double(x && y); })
      .Case("Or", [](double x, double y) { return double(x || y); })
      .Default(nullptr);
}

static bool isPredicate(StringRef type) {
  return llvm::is_contained({"Equal", "Less", "LessOrEqual", "Greater",
                             "GreaterOrEqual", "And", "Or", "Not", "IsNaN"},
                            type);
}

/// Integers keep all their bits. INT64_MIN stands for what has no result.
static int64_t computeIntegers(StringRef type, Binary real, int64_t x,
                               int64_t y) {
  auto ux = uint64_t(x), uy = uint64_t(y);
  if (type == "Add")
    return int64_t(ux + uy);
  if (type == "Sub")
    return int64_t(ux - uy);
  if (type == "Mul")
    return int64_t(ux * uy);
  if (type == "Div")
    return y == 0 || (y == -1 && x == INT64_MIN) ? INT64_MIN : x / y;
  if (type == "Mod") {
    if (y == 0 || y == -1)
      return y == 0 ? INT64_MIN : 0;
    int64_t rest = x % y;
    return rest && (rest < 0) != (y < 0) ? rest + y : rest;
  }
  if (type == "Min")
    return std::min(x, y);
  if (type == "Max")
    return std::max(x, y);
  if (type == "Equal")
    return x == y;
  if (type == "Less")
    return x < y;
  if (type == "LessOrEqual")
    return x <= y;
  if (type == "Greater")
    return x > y;
  if (type == "GreaterOrEqual")
    return x >= y;
  double result = real(double(x), double(y));
  return std::abs(result) < 9e15 ? int64_t(result) : INT64_MIN;
}

ArrayPtr Evaluator::evaluateElementwise(NodeOp op, StringRef type) {
  ArrayPtr a = input(op, 0);
  if (!a)
    return nullptr;
  if (Unary unary = findUnary(type)) {
    bool isInteger = !a->isReal || isPredicate(type);
    return make(a->shape, !isInteger, {a}, [a, unary, isInteger](int64_t i) {
      if (!isInteger)
        return fromReal(unary(a->real(i)));
      // Exact up to 2^53; larger ones are limits that nothing is computed with.
      if (!a->isReal && std::abs(double(a->integer(i))) > 9e15)
        return a->at(i);
      return fromInteger(int64_t(unary(a->real(i))));
    });
  }
  if (type == "Cast" || type == "CastLike") {
    int64_t to = getInt(op, "to", 0);
    bool isReal = to == 1 || to == 10 || to == 11 || to == 16;
    bool isBool = to == 9;
    if (type == "CastLike") {
      ArrayPtr like = input(op, 1);
      if (!like)
        return nullptr;
      isReal = like->isReal;
    }
    return make(a->shape, isReal, {a}, [a, isReal, isBool](int64_t i) {
      if (isReal)
        return fromReal(a->real(i));
      if (isBool)
        return fromInteger(a->real(i) != 0);
      if (!a->isReal)
        return a->at(i);
      double value = a->real(i);
      bool fits = std::abs(value) < 9e18; // False for NaN.
      return fromInteger(fits ? int64_t(value) : INT64_MIN);
    });
  }
  if (type == "Where") {
    ArrayPtr b = input(op, 1), c = input(op, 2);
    if (!b || !c)
      return nullptr;
    auto some = broadcast(a->shape, b->shape);
    auto all = some ? broadcast(*some, c->shape) : some;
    if (!all)
      return nullptr;
    SmallVector<int64_t, 5> shape(*all), by[3];
    by[0] = broadcastStrides(a->shape, shape);
    by[1] = broadcastStrides(b->shape, shape);
    by[2] = broadcastStrides(c->shape, shape);
    auto choose = [=](int64_t i) {
      bool first = a->integer(mapIndex(i, shape, by[0])) != 0;
      int64_t index = mapIndex(i, shape, by[first ? 1 : 2]);
      const Array &from = first ? *b : *c;
      return b->isReal ? fromReal(from.real(index))
                       : fromInteger(from.integer(index));
    };
    return make(shape, b->isReal, {a, b, c}, choose);
  }
  Binary binary = findBinary(type);
  if (!binary && type != "Mod")
    return nullptr;
  ArrayPtr result = a;
  if (op.getInputs().size() < 2)
    return nullptr;
  for (unsigned n = 1; n < op.getInputs().size(); ++n) {
    ArrayPtr x = result, y = input(op, n);
    if (!x || !y)
      return nullptr;
    auto all = broadcast(x->shape, y->shape);
    if (!all)
      return nullptr;
    SmallVector<int64_t, 5> shape(*all);
    SmallVector<int64_t, 5> xBy = broadcastStrides(x->shape, shape);
    SmallVector<int64_t, 5> yBy = broadcastStrides(y->shape, shape);
    bool isReal = x->isReal || y->isReal;
    if (isReal && !binary)
      return makeOpaque(shape);
    bool isInteger = !isReal || isPredicate(type);
    StringRef name = type; // Of an attribute, which lives on.
    result = make(shape, !isInteger, {x, y}, [=](int64_t i) {
      int64_t xi = mapIndex(i, shape, xBy), yi = mapIndex(i, shape, yBy);
      if (!isReal)
        return fromInteger(
            computeIntegers(name, binary, x->integer(xi), y->integer(yi)));
      double value = binary(x->real(xi), y->real(yi));
      return isInteger ? fromInteger(int64_t(value)) : fromReal(value);
    });
  }
  return result;
}

std::optional<SmallVector<int64_t>> Evaluator::axesOf(NodeOp op, unsigned i,
                                                      int64_t rank) const {
  std::optional<SmallVector<int64_t>> axes = getInts(op, "axes");
  if (!axes && getOperand(op, i))
    axes = integers(op, i);
  if (!axes)
    return std::nullopt;
  for (int64_t &axis : *axes) {
    std::optional<int64_t> normal = normalize(axis, rank);
    if (!normal)
      return std::nullopt;
    axis = *normal;
  }
  return axes;
}

/// Nodes that look at shapes, or change nothing else.
ArrayPtr Evaluator::evaluateShapes(NodeOp op, StringRef type) {
  ArrayPtr a = input(op, 0);
  if (!a)
    return nullptr;
  auto rank = int64_t(a->shape.size());
  if (type == "Shape") {
    auto clamp = [&](int64_t at) {
      return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank);
    };
    int64_t begin = clamp(getInt(op, "start", 0));
    int64_t end = std::max(begin, clamp(getInt(op, "end", rank)));
    return makeIntegers(
        ArrayRef<int64_t>(a->shape).slice(size_t(begin), size_t(end - begin)));
  }
  if (type == "Size")
    return makeIntegers({a->count}, /*isScalar=*/true);
  if (type == "Reshape") {
    std::optional<SmallVector<int64_t>> shape = integers(op, 1);
    if (!shape)
      return nullptr;
    int64_t known = 1;
    std::optional<size_t> rest;
    for (auto [i, size] : llvm::enumerate(*shape)) {
      if (size == 0 && !getInt(op, "allowzero", 0)) {
        if (int64_t(i) >= rank)
          return nullptr;
        size = a->shape[i];
      }
      if (size < -1 || size > maxElements || (size == -1 && rest))
        return nullptr;
      if (size == -1)
        rest = i;
      else if (std::optional<int64_t> product = checkedProduct({known, size}))
        known = *product;
      else
        return nullptr;
    }
    if (rest) {
      if (known == 0 || a->count % known != 0)
        return nullptr;
      (*shape)[*rest] = a->count / known;
    }
    return reshape(a, *shape);
  }
  if (type == "Flatten") {
    int64_t axis = getInt(op, "axis", 1);
    axis = axis < 0 ? axis + rank : axis;
    if (axis < 0 || axis > rank)
      return nullptr;
    int64_t rows = 1;
    for (int64_t size : ArrayRef<int64_t>(a->shape).take_front(size_t(axis)))
      rows *= size;
    return rows ? reshape(a, {rows, a->count / rows}) : nullptr;
  }
  if (type == "Unsqueeze") {
    std::optional<SmallVector<int64_t>> raw = getInts(op, "axes");
    if (!raw)
      raw = integers(op, 1);
    if (!raw)
      return nullptr;
    auto axes = axesOf(op, 1, rank + int64_t(raw->size()));
    if (!axes)
      return nullptr;
    llvm::sort(*axes);
    SmallVector<int64_t> shape(a->shape.begin(), a->shape.end());
    for (int64_t axis : *axes) {
      if (axis > int64_t(shape.size()))
        return nullptr;
      shape.insert(shape.begin() + axis, 1);
    }
    return reshape(a, shape);
  }
  if (type == "Squeeze") {
    auto axes = axesOf(op, 1, rank);
    if (!axes && (getInts(op, "axes") || getOperand(op, 1)))
      return nullptr;
    SmallVector<int64_t> shape;
    for (int64_t i = 0; i < rank; ++i) {
      bool isDropped =
          axes ? llvm::is_contained(*axes, i) : a->shape[size_t(i)] == 1;
      if (isDropped && a->shape[size_t(i)] != 1)
        return nullptr;
      if (!isDropped)
        shape.push_back(a->shape[size_t(i)]);
    }
    return reshape(a, shape);
  }
  return nullptr;
}

/// Nodes that move elements by rules that depend on shapes alone.
ArrayPtr Evaluator::evaluateMovement(NodeOp op, StringRef type) {
  if (type == "Concat") {
    SmallVector<ArrayPtr> parts;
    for (unsigned i = 0; i < op.getInputs().size(); ++i)
      parts.push_back(input(op, i));
    if (parts.empty() || !llvm::all_of(parts, [](auto &p) { return !!p; }))
      return nullptr;
    auto axis =
        normalize(getInt(op, "axis", 0), int64_t(parts[0]->shape.size()));
    if (!axis)
      return nullptr;
    SmallVector<int64_t, 5> shape = parts[0]->shape;
    shape[size_t(*axis)] = 0;
    for (const ArrayPtr &part : parts) {
      SmallVector<int64_t, 5> other = part->shape;
      if (other.size() != shape.size())
        return nullptr;
      shape[size_t(*axis)] += other[size_t(*axis)];
      other[size_t(*axis)] = shape[size_t(*axis)];
      if (other != shape)
        return nullptr;
    }
    int64_t inner = stridesOf(shape)[size_t(*axis)];
    int64_t size = shape[size_t(*axis)], at = *axis;
    return make(shape, parts[0]->isReal, parts, [=](int64_t i) {
      int64_t outer = i / inner / size, middle = i / inner % size;
      for (const ArrayPtr &part : parts) {
        int64_t own = part->shape[size_t(at)];
        if (middle < own)
          return part->at((outer * own + middle) * inner + i % inner);
        middle -= own;
      }
      return fromInteger(0);
    });
  }
  ArrayPtr a = input(op, 0);
  if (!a)
    return nullptr;
  auto rank = int64_t(a->shape.size());
  SmallVector<int64_t, 5> strides = stridesOf(a->shape);
  if (type == "Transpose") {
    SmallVector<int64_t> order;
    if (auto given = getInts(op, "perm"))
      order = *given;
    else
      for (int64_t i = rank; i > 0; --i)
        order.push_back(i - 1);
    if (int64_t(order.size()) != rank || !isPermutationVector(order))
      return nullptr;
    SmallVector<int64_t, 5> shape, steps;
    for (int64_t axis : order) {
      shape.push_back(a->shape[size_t(axis)]);
      steps.push_back(strides[size_t(axis)]);
    }
    return makeView(a, shape, steps);
  }
  if (type == "Expand") {
    std::optional<SmallVector<int64_t>> to = integers(op, 1);
    if (!to || llvm::any_of(*to, [](int64_t size) { return size < 0; }))
      return nullptr;
    auto shape = broadcast(a->shape, *to);
    return shape ? makeView(a, *shape, broadcastStrides(a->shape, *shape))
                 : nullptr;
  }
  if (type == "Tile") {
    std::optional<SmallVector<int64_t>> by = integers(op, 1);
    if (!by || int64_t(by->size()) != rank)
      return nullptr;
    SmallVector<int64_t, 5> shape;
    for (auto [size, times] : llvm::zip(a->shape, *by)) {
      std::optional<int64_t> product = checkedProduct({size, times});
      if (times < 0 || !product)
        return nullptr;
      shape.push_back(*product);
    }
    SmallVector<int64_t, 5> strides = stridesOf(a->shape);
    return make(shape, a->isReal, {a}, [=](int64_t i) {
      int64_t from = 0;
      for (size_t d = shape.size(); d-- > 0; i /= shape[d])
        from += i % shape[d] % a->shape[d] * strides[d];
      return a->at(from);
    });
  }
  if (type == "Trilu") {
    std::optional<SmallVector<int64_t>> by = integers(op, 1);
    if (rank < 2 || (getOperand(op, 1) && (!by || by->size() != 1)))
      return nullptr;
    int64_t k = by ? by->front() : 0;
    int64_t columns = a->shape.back(), rows = a->shape[size_t(rank - 2)];
    bool isUpper = getInt(op, "upper", 1);
    return make(a->shape, a->isReal, {a}, [=](int64_t i) {
      int64_t column = i % columns, row = i / columns % rows;
      bool isKept = isUpper ? column - row >= k : column - row <= k;
      if (isKept)
        return a->at(i);
      return a->isReal ? fromReal(0) : fromInteger(0);
    });
  }
  if (type == "Slice") {
    auto begins = integers(op, 1), ends = integers(op, 2);
    auto steps = integers(op, 4);
    std::optional<SmallVector<int64_t>> axes;
    if (auto old = getInts(op, "starts")) {
      begins = old;
      ends = getInts(op, "ends");
      steps = std::nullopt;
    } else if (getOperand(op, 4) && !steps) {
      return nullptr;
    }
    if (!begins || !ends || begins->size() != ends->size())
      return nullptr;
    if (getInts(op, "axes") || getOperand(op, 3)) {
      axes = axesOf(op, 3, rank);
      if (!axes)
        return nullptr;
    } else {
      axes.emplace();
      for (int64_t i = 0; i < int64_t(begins->size()); ++i)
        axes->push_back(i);
    }
    if (axes->size() != begins->size() ||
        (steps && steps->size() != begins->size()))
      return nullptr;
    SmallVector<int64_t, 5> shape = a->shape, by = strides;
    int64_t base = 0;
    for (auto [i, axis] : llvm::enumerate(*axes)) {
      int64_t size = a->shape[size_t(axis)];
      int64_t step = steps ? (*steps)[i] : 1;
      if (axis >= rank || step < 1)
        return nullptr;
      step = std::min(step, std::max<int64_t>(size, 1));
      auto clamp = [&](int64_t at) {
        return std::clamp<int64_t>(at < 0 && at > -maxElements ? at + size : at,
                                   0, size);
      };
      int64_t begin = clamp((*begins)[i]);
      int64_t end = std::max(begin, clamp((*ends)[i]));
      shape[size_t(axis)] = ceilDiv(end - begin, step);
      base += begin * strides[size_t(axis)];
      by[size_t(axis)] *= step;
    }
    return makeView(a, shape, by, base);
  }
  return nullptr;
}

/// Nodes that read elements at indices, or count.
ArrayPtr Evaluator::evaluateIndexing(NodeOp op, StringRef type) {
  ArrayPtr a = input(op, 0), b = input(op, 1);
  if (type == "Range") {
    ArrayPtr c = input(op, 2);
    for (const ArrayPtr &each : {a, b, c})
      if (!each || each->count != 1 || !each->isKnown() || each->isReal)
        return nullptr;
    int64_t begin = a->integer(0), end = b->integer(0), step = c->integer(0);
    if (step == 0 || std::abs(double(begin)) > 1e15 ||
        std::abs(double(end)) > 1e15 || std::abs(double(step)) > 1e15)
      return nullptr;
    int64_t count = step > 0
                        ? ceilDiv(std::max<int64_t>(end - begin, 0), step)
                        : ceilDiv(std::max<int64_t>(begin - end, 0), -step);
    return make({count}, false, {},
                [=](int64_t i) { return fromInteger(begin + i * step); });
  }
  if (type == "ConstantOfShape") {
    std::optional<SmallVector<int64_t>> shape = integers(op, 0);
    if (!shape || llvm::any_of(*shape, [](int64_t size) { return size < 0; }))
      return nullptr;
    auto value =
        dyn_cast_or_null<DenseElementsAttr>(op.getParameters().get("value"));
    ArrayPtr one = value ? makeConstant(value) : nullptr;
    if (value && one->count != 1)
      return nullptr;
    Number number = one ? one->at(0) : fromReal(0);
    return make(*shape, one ? one->isReal : true, {},
                [number](int64_t) { return number; });
  }
  if (!a)
    return nullptr;
  auto rank = int64_t(a->shape.size());
  if (type == "NonZero") {
    // How many there are is part of the shape.
    if (!a->isKnown() || a->count > maxSummedElements || rank == 0)
      return nullptr;
    std::vector<int64_t> found;
    for (int64_t i = 0; i < a->count; ++i)
      if (a->real(i) != 0)
        found.push_back(i);
    SmallVector<int64_t, 5> strides = stridesOf(a->shape);
    auto count = int64_t(found.size());
    return make({rank, count}, false, {},
                [=, found = std::move(found)](int64_t i) {
                  auto axis = size_t(i / count);
                  return fromInteger(found[size_t(i % count)] / strides[axis] %
                                     a->shape[axis]);
                });
  }
  if (type == "OneHot") {
    std::optional<SmallVector<int64_t>> depth = integers(op, 1);
    ArrayPtr numbers = input(op, 2);
    auto axis = normalize(getInt(op, "axis", -1), rank + 1);
    if (!depth || depth->size() != 1 || (*depth)[0] < 0 || !axis || !numbers ||
        numbers->count != 2)
      return nullptr;
    SmallVector<int64_t, 5> shape = a->shape;
    shape.insert(shape.begin() + *axis, (*depth)[0]);
    int64_t inner = stridesOf(shape)[size_t(*axis)], size = (*depth)[0];
    return make(shape, numbers->isReal, {a, numbers}, [=](int64_t i) {
      int64_t at = a->integer(i / inner / size * inner + i % inner);
      at = at < 0 ? at + size : at;
      return numbers->at(at == i / inner % size);
    });
  }
  if (!b)
    return nullptr;
  if (type == "GatherElements") {
    auto axis = normalize(getInt(op, "axis", 0), rank);
    if (!axis || b->shape.size() != a->shape.size())
      return nullptr;
    SmallVector<int64_t, 5> shape = b->shape, strides = stridesOf(a->shape);
    bool isReal = a->isReal;
    return make(shape, isReal, {a, b}, [=](int64_t i) {
      int64_t rest = i, from = 0;
      for (size_t d = shape.size(); d > 0; --d) {
        int64_t at = rest % shape[d - 1], size = a->shape[d - 1];
        rest /= shape[d - 1];
        if (int64_t(d - 1) == *axis) {
          at = b->integer(i);
          at = at < 0 ? at + size : at;
        }
        if (at < 0 || at >= size)
          return isReal ? fromReal(std::nan("")) : fromInteger(INT64_MIN);
        from += at * strides[d - 1];
      }
      return a->at(from);
    });
  }
  if (type == "Gather") {
    auto axis = normalize(getInt(op, "axis", 0), rank);
    if (!axis)
      return nullptr;
    SmallVector<int64_t> shape(a->shape.begin(), a->shape.begin() + *axis);
    llvm::append_range(shape, b->shape);
    shape.append(a->shape.begin() + *axis + 1, a->shape.end());
    int64_t inner = stridesOf(a->shape)[size_t(*axis)];
    int64_t size = a->shape[size_t(*axis)], count = b->count;
    bool isReal = a->isReal;
    return make(shape, isReal, {a, b}, [=](int64_t i) {
      int64_t outer = i / inner / count;
      int64_t index = b->integer(i / inner % count);
      index = index < 0 ? index + size : index;
      if (index < 0 || index >= size)
        return isReal ? fromReal(std::nan("")) : fromInteger(INT64_MIN);
      return a->at((outer * size + index) * inner + i % inner);
    });
  }
  if (type == "GatherND" && getInt(op, "batch_dims", 0) == 0) {
    if (b->shape.empty() || b->shape.back() > rank)
      return nullptr;
    int64_t depth = b->shape.back();
    SmallVector<int64_t> shape(b->shape.begin(), b->shape.end() - 1);
    shape.append(a->shape.begin() + depth, a->shape.end());
    SmallVector<int64_t, 5> strides = stridesOf(a->shape);
    int64_t inner = 1;
    for (int64_t size : ArrayRef<int64_t>(a->shape).drop_front(size_t(depth)))
      inner *= size;
    bool isReal = a->isReal;
    return make(shape, isReal, {a, b}, [=](int64_t i) {
      int64_t from = i % inner;
      for (int64_t k = 0; k < depth; ++k) {
        int64_t size = a->shape[size_t(k)];
        int64_t index = b->integer(i / inner * depth + k);
        index = index < 0 ? index + size : index;
        if (index < 0 || index >= size)
          return isReal ? fromReal(std::nan("")) : fromInteger(INT64_MIN);
        from += index * strides[size_t(k)];
      }
      return a->at(from);
    });
  }
  return nullptr;
}

/// Elements of a small array that are replaced.
ArrayPtr Evaluator::evaluateScatter(NodeOp op) {
  ArrayPtr a = input(op, 0), b = input(op, 1), c = input(op, 2);
  if (!a)
    return nullptr;
  std::shared_ptr<Array> result = makeOpaque(a->shape);
  auto rank = int64_t(a->shape.size());
  auto axis = normalize(getInt(op, "axis", 0), rank);
  if (!result || op.getOpType() != "ScatterElements" || !axis || !b || !c ||
      !a->isKnown() || !b->isKnown() || !c->isKnown() ||
      a->count > maxSummedElements || b->count > maxSummedElements ||
      b->shape != c->shape || b->shape.size() != a->shape.size() ||
      getText(op, "reduction", "none") != "none")
    return result;
  SmallVector<int64_t, 5> strides = stridesOf(a->shape);
  std::vector<Number> elements;
  for (int64_t i = 0; i < a->count; ++i)
    elements.push_back(a->at(i));
  for (int64_t i = 0; i < b->count; ++i) {
    int64_t rest = i, to = 0;
    for (size_t d = b->shape.size(); d > 0; --d) {
      int64_t at = rest % b->shape[d - 1], size = a->shape[d - 1];
      rest /= b->shape[d - 1];
      if (int64_t(d - 1) == *axis) {
        at = b->integer(i);
        at = at < 0 ? at + size : at;
      }
      if (at < 0 || at >= size)
        return result;
      to += at * strides[d - 1];
    }
    elements[size_t(to)] =
        a->isReal ? fromReal(c->real(i)) : fromInteger(c->integer(i));
  }
  result->isReal = a->isReal;
  result->elements = std::move(elements);
  return result;
}

ArrayPtr Evaluator::evaluateReduction(NodeOp op, StringRef type) {
  ArrayPtr a = input(op, 0);
  if (!a)
    return nullptr;
  auto rank = int64_t(a->shape.size());
  if (type == "CumSum") {
    std::optional<SmallVector<int64_t>> given = integers(op, 1);
    auto axis = given && given->size() == 1 ? normalize((*given)[0], rank)
                                            : std::nullopt;
    std::shared_ptr<Array> sums = makeOpaque(a->shape);
    if (!axis || !sums || !a->isKnown() || a->isReal ||
        a->count > maxSummedElements || getInt(op, "exclusive", 0) ||
        getInt(op, "reverse", 0))
      return sums;
    int64_t inner = stridesOf(a->shape)[size_t(*axis)];
    int64_t size = a->shape[size_t(*axis)];
    for (int64_t i = 0; i < a->count; ++i) {
      bool isFirst = i / inner % size == 0;
      int64_t before = isFirst ? 0 : sums->elements[size_t(i - inner)].integer;
      sums->elements.push_back(
          fromInteger(int64_t(uint64_t(before) + uint64_t(a->integer(i)))));
    }
    return sums;
  }
  auto axes = axesOf(op, 1, rank);
  bool hasAxes = getInts(op, "axes") || getOperand(op, 1);
  if (hasAxes && !axes)
    return nullptr;
  if (!hasAxes || axes->empty()) {
    if (getInt(op, "noop_with_empty_axes", 0))
      return a;
    axes.emplace();
    for (int64_t i = 0; i < rank; ++i)
      axes->push_back(i);
  }
  SmallVector<int64_t, 5> shape, kept, reduced, keptBy, reducedBy;
  SmallVector<int64_t, 5> strides = stridesOf(a->shape);
  for (int64_t i = 0; i < rank; ++i) {
    int64_t size = a->shape[size_t(i)];
    bool isReduced = llvm::is_contained(*axes, i);
    (isReduced ? reduced : kept).push_back(size);
    (isReduced ? reducedBy : keptBy).push_back(strides[size_t(i)]);
    if (!isReduced || getInt(op, "keepdims", 1))
      shape.push_back(isReduced ? 1 : size);
  }
  std::optional<int64_t> count = checkedProduct(reduced);
  if (!count || *count == 0 || *count > maxSummedElements || !a->isKnown() ||
      a->count > maxSummedElements || type == "ReduceMean" ||
      type == "ReduceL2")
    return makeOpaque(shape);
  bool isReal = a->isReal;
  auto reduce = [=](int64_t i) {
    int64_t base = mapIndex(i, kept, keptBy);
    Number result{};
    for (int64_t k = 0; k < *count; ++k) {
      Number next = a->at(mapIndex(k, reduced, reducedBy, base));
      if (k == 0)
        result = next;
      else if (isReal)
        result.real = type == "ReduceMax"    ? std::max(result.real, next.real)
                      : type == "ReduceMin"  ? std::min(result.real, next.real)
                      : type == "ReduceProd" ? result.real * next.real
                                             : result.real + next.real;
      else
        result.integer =
            type == "ReduceMax"   ? std::max(result.integer, next.integer)
            : type == "ReduceMin" ? std::min(result.integer, next.integer)
            : type == "ReduceProd"
                ? int64_t(uint64_t(result.integer) * uint64_t(next.integer))
                : int64_t(uint64_t(result.integer) + uint64_t(next.integer));
    }
    return result;
  };
  return make(shape, isReal, {a}, reduce);
}

/// Products: of numbers for tables of angles, else of shapes.
ArrayPtr Evaluator::evaluateProduct(NodeOp op, StringRef type) {
  ArrayPtr a = input(op, 0), b = input(op, 1);
  if (!a || !b)
    return nullptr;
  if (type == "Gemm") {
    if (a->shape.size() != 2 || b->shape.size() != 2)
      return nullptr;
    return makeOpaque({a->shape[getInt(op, "transA", 0) ? 1 : 0],
                       b->shape[getInt(op, "transB", 0) ? 0 : 1]});
  }
  if (a->shape.size() < 2 || b->shape.size() < 2)
    return nullptr;
  ArrayRef<int64_t> aShape = a->shape, bShape = b->shape;
  int64_t inner = aShape.back(), columns = bShape.back();
  int64_t rows = aShape[aShape.size() - 2];
  auto outer = broadcast(aShape.drop_back(2), bShape.drop_back(2));
  if (!outer || bShape[bShape.size() - 2] != inner)
    return nullptr;
  SmallVector<int64_t, 5> batch(*outer), shape(*outer);
  shape.append({rows, columns});
  if (inner > 16 || !a->isReal || !b->isReal)
    return makeOpaque(shape);
  SmallVector<int64_t, 5> aBy = broadcastStrides(aShape.drop_back(2), batch);
  SmallVector<int64_t, 5> bBy = broadcastStrides(bShape.drop_back(2), batch);
  return make(shape, true, {a, b}, [=](int64_t i) {
    int64_t column = i % columns, row = i / columns % rows;
    int64_t at = i / columns / rows;
    int64_t aBase = mapIndex(at, batch, aBy) * rows * inner + row * inner;
    int64_t bBase = mapIndex(at, batch, bBy) * inner * columns + column;
    double sum = 0;
    for (int64_t k = 0; k < inner; ++k)
      sum += a->real(aBase + k) * b->real(bBase + k * columns);
    return fromReal(sum);
  });
}

void Evaluator::evaluate(NodeOp op) {
  StringRef type = op.getOpType();
  auto set = [&](unsigned i, ArrayPtr array) {
    if (i < op.getOutputs().size() && array)
      values[op.getOutputs()[i]] = std::move(array);
  };
  auto like = [&](const ArrayPtr &array) -> ArrayPtr {
    return array ? makeOpaque(array->shape) : nullptr;
  };
  ArrayPtr a = input(op, 0);
  // Functions of each element, or of each row, that nothing is proven from.
  if (llvm::is_contained({"Sigmoid",
                          "Softmax",
                          "LogSoftmax",
                          "Tanh",
                          "Relu",
                          "Erf",
                          "Gelu",
                          "Swish",
                          "Softplus",
                          "Dropout",
                          "SimplifiedLayerNormalization",
                          "RMSNormalization",
                          "LayerNormalization",
                          "RotaryEmbedding",
                          "com.microsoft.RotaryEmbedding",
                          "com.microsoft.MoE",
                          "com.microsoft.QMoE",
                          "com.microsoft.QuickGelu",
                          "QuantizeLinear",
                          "DequantizeLinear"},
                         type))
    return set(0, like(a));
  if (type == "com.microsoft.SkipSimplifiedLayerNormalization") {
    set(0, like(a));
    return set(3, like(a));
  }
  if (type == "Attention") {
    // [batch, heads, tokens, dim], or [batch, tokens, heads * dim].
    ArrayPtr v = input(op, 2);
    if (!a || !v || a->shape.size() != v->shape.size() || a->shape.size() < 3)
      return;
    SmallVector<int64_t, 5> shape = a->shape;
    int64_t heads = getInt(op, "q_num_heads", 0);
    int64_t kvHeads = getInt(op, "kv_num_heads", 0);
    bool isRows = shape.size() == 3;
    if (isRows && (heads < 1 || kvHeads < 1 || v->shape.back() % kvHeads != 0))
      return;
    std::optional<int64_t> width = v->shape.back();
    if (isRows)
      width = checkedProduct({*width / kvHeads, heads});
    if (!width)
      return;
    shape.back() = *width;
    return set(0, makeOpaque(shape));
  }
  if (type == "com.microsoft.MatMulNBits" ||
      type == "com.microsoft.GroupQueryAttention") {
    if (!a || a->shape.empty())
      return;
    SmallVector<int64_t, 5> shape = a->shape;
    int64_t heads = getInt(op, "num_heads", 0);
    int64_t kvHeads = getInt(op, "kv_num_heads", 0);
    if (type == "com.microsoft.MatMulNBits")
      shape.back() = getInt(op, "N", 0);
    else if (heads > 0 && kvHeads > 0 && heads < maxElements &&
             kvHeads < maxElements && !getOperand(op, 1))
      shape.back() = shape.back() / (heads + 2 * kvHeads) * heads;
    return set(0, makeOpaque(shape));
  }
  if (type == "com.microsoft.GatherBlockQuantized") {
    ArrayPtr b = input(op, 1), scales = input(op, 2);
    if (!a || !b || !scales || a->shape.size() != 2 ||
        scales->shape.size() != 2)
      return;
    SmallVector<int64_t, 5> shape = b->shape;
    // Bytes hold several elements.
    auto initializer = getOperand(op, 0).getDefiningOp<InitializerOp>();
    int64_t bits = getInt(op, "bits", 4);
    bool isPacked = !initializer || !initializer->hasAttr(packedAttrName);
    shape.push_back(isPacked && bits > 0 ? a->shape[1] * 8 / bits
                                         : a->shape[1]);
    return set(0, makeOpaque(shape));
  }
  // Elements that are replaced, or chosen by their size, are not known.
  if (type == "ScatterND" || type == "ScatterElements")
    return set(0, evaluateScatter(op));
  if (type == "TopK") {
    std::optional<SmallVector<int64_t>> k = integers(op, 1);
    auto axis = a ? normalize(getInt(op, "axis", -1), int64_t(a->shape.size()))
                  : std::nullopt;
    if (!axis || !k || k->size() != 1 || (*k)[0] < 0 ||
        (*k)[0] > a->shape[size_t(*axis)])
      return;
    SmallVector<int64_t, 5> shape = a->shape;
    shape[size_t(*axis)] = (*k)[0];
    set(0, makeOpaque(shape));
    return set(1, makeOpaque(shape));
  }
  if (type == "Split") {
    std::optional<SmallVector<int64_t>> sizes = getInts(op, "split");
    if (!sizes)
      sizes = integers(op, 1);
    auto axis = a ? normalize(getInt(op, "axis", 0), int64_t(a->shape.size()))
                  : std::nullopt;
    if (!axis || (getOperand(op, 1) && !sizes))
      return;
    auto parts = int64_t(op.getOutputs().size());
    int64_t size = a->shape[size_t(*axis)];
    if (!sizes)
      sizes.emplace(size_t(parts), ceilDiv(size, parts));
    if (int64_t(sizes->size()) != parts)
      return;
    SmallVector<int64_t, 5> strides = stridesOf(a->shape);
    int64_t begin = 0;
    for (auto [i, part] : llvm::enumerate(*sizes)) {
      part = std::min(part, size - begin);
      if (part < 0)
        return;
      SmallVector<int64_t, 5> shape = a->shape;
      shape[size_t(*axis)] = part;
      set(unsigned(i),
          makeView(a, shape, strides, begin * strides[size_t(*axis)]));
      begin += part;
    }
    return;
  }
  using Rule = ArrayPtr (Evaluator::*)(NodeOp, StringRef);
  Rule rule = &Evaluator::evaluateElementwise;
  if (llvm::is_contained(
          {"Shape", "Size", "Reshape", "Flatten", "Unsqueeze", "Squeeze"},
          type))
    rule = &Evaluator::evaluateShapes;
  else if (llvm::is_contained(
               {"Concat", "Transpose", "Expand", "Tile", "Trilu", "Slice"},
               type))
    rule = &Evaluator::evaluateMovement;
  else if (llvm::is_contained({"Range", "ConstantOfShape", "Gather", "GatherND",
                               "GatherElements", "NonZero", "OneHot"},
                              type))
    rule = &Evaluator::evaluateIndexing;
  else if (type == "CumSum" || type.starts_with("Reduce"))
    rule = &Evaluator::evaluateReduction;
  else if (type == "MatMul" || type == "Gemm")
    rule = &Evaluator::evaluateProduct;
  set(0, (this->*rule)(op, type));
}

ArrayPtr Evaluator::trace(Value source, ArrayRef<NodeOp> chain, Value result) {
  llvm::SmallVector<std::pair<Value, ArrayPtr>> saved;
  auto replace = [&](Value value, ArrayPtr array) {
    saved.emplace_back(value, values.lookup(value));
    values[value] = std::move(array);
  };
  ArrayPtr from = values.lookup(source);
  if (!from)
    return nullptr;
  replace(source, make(from->shape, false, {}, fromInteger));
  for (NodeOp node : chain) {
    if (node.getOpType() == "Concat")
      for (Value other : node.getInputs())
        if (ArrayPtr past = values.lookup(other);
            past && isa<BlockArgument>(other))
          replace(other, make(past->shape, false, {},
                              [](int64_t) { return fromInteger(-1); }));
    for (Value output : node.getOutputs())
      replace(output, nullptr);
    evaluate(node);
  }
  ArrayPtr traced = values.lookup(result);
  for (auto &[value, array] : llvm::reverse(saved))
    values[value] = array;
  return traced && traced->isKnown() ? traced : nullptr;
}
