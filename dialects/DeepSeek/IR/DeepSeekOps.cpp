// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Verifiers and folders of the deepseek dialect. Each check names, in a
// comment, the constraint of the op's description that it is.

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "dialects/DeepSeek/IR/GGUFBlocks.h"
#include "dialects/DeepSeek/IR/Rounding.h"
#include "dialects/DeepSeek/IR/VerifyShapes.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

#include <cmath>

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

#define GET_OP_CLASSES
#include "dialects/DeepSeek/IR/DeepSeekOps.cpp.inc"

//===----------------------------------------------------------------------===//
// Helpers
//===----------------------------------------------------------------------===//

static Type elementOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

LogicalResult hadal::deepseek::expectShape(Operation *op, StringRef name,
                                           Value value,
                                           ArrayRef<int64_t> expected) {
  ArrayRef<int64_t> shape = shapeOf(value);
  bool equal = shape.size() == expected.size();
  for (size_t i = 0; equal && i < shape.size(); ++i)
    equal = ShapedType::isDynamic(expected[i]) || shape[i] == expected[i];
  if (equal)
    return success();
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::interleave(
      expected, os,
      [&](int64_t size) {
        if (ShapedType::isDynamic(size))
          os << '?';
        else
          os << size;
      },
      "x");
  return op->emitOpError("expects ")
         << name << " of shape " << text << ", but got " << value.getType();
}

LogicalResult hadal::deepseek::expectPositive(Operation *op, StringRef name,
                                              FloatAttr value) {
  double number = value.getValueAsDouble();
  if (number > 0 && std::isfinite(number)) // False for NaN too.
    return success();
  return op->emitOpError("expects ") << name << " > 0, but got " << value;
}

//===----------------------------------------------------------------------===//
// The model and its weights
//===----------------------------------------------------------------------===//

LogicalResult ModelOp::verify() {
  for (auto [name, value] : {std::pair<StringRef, int64_t>("vocab", getVocab()),
                             {"hidden", getHidden()},
                             {"layers", getLayers()},
                             {"context", getContextLength()}})
    if (value <= 0) // C1
      return emitOpError("expects ") << name << " > 0, but got " << value;
  return success();
}

LogicalResult ModelOp::verifySymbolUses(SymbolTableCollection &symbols) {
  constexpr int64_t mostElements = 1 << 16;
  WalkResult constants = (*this)->getParentOp()->walk([&](Operation *op) {
    if (!op->hasTrait<OpTrait::ConstantLike>())
      return WalkResult::advance();
    auto type = dyn_cast<ShapedType>(op->getResult(0).getType());
    if (!type || !type.hasStaticShape() ||
        type.getNumElements() <= mostElements)
      return WalkResult::advance();
    op->emitOpError("expects at most ") // C3
        << mostElements << " elements beside a model, whose weights are "
        << "symbols, but got " << type;
    return WalkResult::interrupt();
  });
  if (constants.wasInterrupted())
    return failure();
  auto entry =
      symbols.lookupNearestSymbolFrom<func::FuncOp>(*this, getEntryAttr());
  if (!entry) // C2
    return emitOpError("expects entry ")
           << getEntryAttr() << " to be a function of this module";
  Builder builder(getContext());
  FunctionType type = entry.getFunctionType();
  Type ids = RankedTensorType::get({anySize}, builder.getI32Type());
  auto logits = RankedTensorType::get({anySize, int64_t(getVocab())},
                                      builder.getF32Type());
  ArrayRef<Type> inputs = type.getInputs();
  // After lowering, the entry is the host program and takes a step instead.
  if (inputs.size() == 1 && type.getNumResults() == 0)
    return success();
  if (inputs.size() == 5 && type.getNumResults() == 1 &&
      llvm::all_of(inputs.take_front(4),
                   [&](Type input) { return input == ids; }) &&
      isa<KVCacheType, CompressedCacheType>(inputs[4]) &&
      type.getResult(0) == logits)
    return success();
  return emitOpError("expects entry ")
         << getEntryAttr() << " to take token ids, positions, sequences, "
         << "output rows and a cache and to return " << logits << ", but got "
         << type;
}

Value WeightOp::getResult() {
  return cast<YieldOp>(getRecipe().front().back()).getValue();
}

void WeightOp::eraseUnusedSteps() {
  SmallVector<Operation *> steps;
  for (Operation &op : getRecipe().front().without_terminator())
    steps.push_back(&op);
  for (Operation *op : llvm::reverse(steps))
    if (op->use_empty())
      op->erase();
}

LogicalResult WeightOp::verify() {
  if (!getWeightType().hasStaticShape()) // C2
    return emitOpError("expects a static shape, but got ") << getType();
  Block &block = getRecipe().front();
  auto yield = block.empty() ? YieldOp() : dyn_cast<YieldOp>(block.back());
  if (!yield) // C1
    return emitOpError("expects a recipe that ends in 'deepseek.yield'");
  if (yield.getValue().getType() != getType()) { // C1
    InFlightDiagnostic diag = emitOpError("expects a recipe of type ")
                              << getType() << ", but got "
                              << yield.getValue().getType();
    diag.attachNote(yield.getLoc()) << "yielded here";
    return diag;
  }
  return success();
}

RecordAttr WeightOp::getRecord() {
  auto tiled = dyn_cast_or_null<TiledAttr>(getWeightType().getEncoding());
  return tiled ? tiled.getRecord() : RecordAttr();
}

int64_t WeightOp::getTileRecords() {
  return getWeightType().getShape().back() / getRecord().getColumns();
}

int64_t WeightOp::getTileCount() {
  ArrayRef<int64_t> shape = getWeightType().getShape();
  int64_t rows = cast<TiledAttr>(getWeightType().getEncoding()).getRows();
  int64_t tiles = (shape[shape.size() - 2] + rows - 1) / rows;
  return shape.size() == 3 ? shape.front() * tiles : tiles;
}

LogicalResult WeightOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (!getBeside()) {
    if (getAt())
      return emitOpError("expects a place only beside another weight");
    return success();
  }
  auto base = symbols.lookupNearestSymbolFrom<WeightOp>(*this, getBesideAttr());
  RecordAttr record = getRecord(), other = base ? base.getRecord() : record;
  if (!base || !record || !other || base.getBeside() || !getAt() ||
      record.getBytes() != other.getBytes() ||
      record.getTiles() != other.getTiles() ||
      getTileRecords() != base.getTileRecords() ||
      getTileCount() != base.getTileCount()) // C3
    return emitOpError("expects a weight beside it, ")
           << getBesideAttr() << ", with records like those of "
           << getWeightType() << ", from their first byte on";
  int64_t at = *getAt(), tileBytes = getTileRecords() * record.getBytes(),
          bytes = record.getColumns() * 16 *
                  getWeightType().getElementTypeBitWidth() / 8;
  if (at < 0 || at % 64 != 0 || at / tileBytes >= record.getTiles() ||
      at % tileBytes > record.getBytes() - bytes) // C3
    return emitOpError("expects a place in the first record, at a multiple "
                       "of 64, but got ")
           << at;
  return success();
}

LogicalResult UseWeightOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto weight = symbols.lookupNearestSymbolFrom<WeightOp>(*this, getNameAttr());
  if (!weight) // C1
    return emitOpError("expects ") << getNameAttr() << " to be a weight";
  if (weight.getType() != getResult().getType()) { // C1
    InFlightDiagnostic diag = emitOpError("expects the type of the weight, ")
                              << weight.getType() << ", but got "
                              << getResult().getType();
    diag.attachNote(weight.getLoc()) << "declared here";
    return diag;
  }
  return success();
}

/// Requires that \p left, `[.., n, r]`, times \p right, `[.., r, k]`, is of
/// the shape of \p sum, `[.., n, k]`.
static LogicalResult verifyProduct(Operation *op, RankedTensorType sum,
                                   RankedTensorType left,
                                   RankedTensorType right) {
  bool fits = sum.getRank() >= 2 && left.getRank() == sum.getRank() &&
              right.getRank() == sum.getRank();
  if (fits) {
    size_t rank = size_t(sum.getRank());
    ArrayRef<int64_t> s = sum.getShape(), l = left.getShape(),
                      r = right.getShape();
    fits = s.drop_back(1) == l.drop_back(1) &&
           s.drop_back(2) == r.drop_back(2) && l[rank - 1] == r[rank - 2] &&
           s[rank - 1] == r[rank - 1];
  }
  if (fits)
    return success();
  return op->emitOpError("expects [.., n, r] times [.., r, k] to add to "
                         "[.., n, k], but got ")
         << left << ", " << right << " and " << sum;
}

static LogicalResult expectFinite(Operation *op, StringRef name,
                                  FloatAttr value) {
  if (value.getValue().isFinite())
    return success();
  return op->emitOpError("expects a finite ") << name << ", but got " << value;
}

LogicalResult LoRAOp::verify() {
  return expectFinite(*this, "scale", getScaleAttr()); // C2
}

LogicalResult LoRAOp::verifySymbolUses(SymbolTableCollection &symbols) {
  SmallVector<RankedTensorType> types;
  for (FlatSymbolRefAttr name : {getWeightAttr(), getUpAttr(), getDownAttr()}) {
    auto weight = symbols.lookupNearestSymbolFrom<WeightOp>(*this, name);
    if (!weight) // C1
      return emitOpError("expects ") << name << " to be a weight";
    types.push_back(weight.getWeightType());
    if (!types.back().getElementType().isF32() &&
        !types.back().getElementType().isF16() &&
        !types.back().getElementType().isBF16()) // C1
      return emitOpError("expects ")
             << name << " in f32, f16 or bf16, but got " << types.back();
  }
  return verifyProduct(*this, types[0], types[1], types[2]); // C1
}

/// Checks factors `[adapters, r, k]` and `[adapters, r, n]`.
static LogicalResult verifyAdapters(Operation *op, int64_t n, int64_t k,
                                    RankedTensorType down,
                                    RankedTensorType up) {
  if (down.getRank() == 3 && up.getRank() == 3 &&
      down.getElementType().isF32() && up.getElementType().isF32() &&
      down.getDimSize(0) == up.getDimSize(0) &&
      down.getDimSize(1) == up.getDimSize(1) && down.getDimSize(2) == k &&
      up.getDimSize(2) == n && down.hasStaticShape() && up.hasStaticShape())
    return success();
  return op->emitOpError("expects [adapters, r, ")
         << k << "] and [adapters, r, " << n << "] in f32, but got " << down
         << " and " << up;
}

LogicalResult AdaptersOp::verifySymbolUses(SymbolTableCollection &symbols) {
  SmallVector<RankedTensorType> types;
  for (FlatSymbolRefAttr name : {getWeightAttr(), getDownAttr(), getUpAttr()}) {
    auto weight = symbols.lookupNearestSymbolFrom<WeightOp>(*this, name);
    if (!weight) // C1
      return emitOpError("expects ") << name << " to be a weight";
    types.push_back(weight.getWeightType());
  }
  if (types[0].getRank() != 2) // C1
    return emitOpError("expects a matrix to add to, but got ") << types[0];
  return verifyAdapters(*this, types[0].getDimSize(0), types[0].getDimSize(1),
                        types[1], types[2]); // C1
}

LogicalResult AdaptOp::verify() {
  return verifyAdapters(*this, columnsOf(getBase()), columnsOf(getInput()),
                        cast<RankedTensorType>(getDown().getType()),
                        cast<RankedTensorType>(getUp().getType())); // C1
}

//===----------------------------------------------------------------------===//
// Recipes
//===----------------------------------------------------------------------===//

LogicalResult StackRowsOp::verify() {
  ArrayRef<int64_t> shape = shapeOf(getResult());
  for (Value input : getInputs())
    if (shapeOf(input)[0] > shape[1] || shapeOf(input)[1] != shape[2]) // C1
      return emitOpError("expects inputs of at most ")
             << shape[1] << " rows of " << shape[2] << ", but got "
             << input.getType();
  size_t count = getInputs().size();
  if (getIndices().size() != count || getScales().size() != count) // C2
    return emitOpError("expects an index and a scale for each of ")
           << count << " inputs, but got " << getIndices().size() << " and "
           << getScales().size();
  int64_t last = -1;
  for (int64_t index : getIndices()) {
    if (index <= last || index >= shape[0]) // C2
      return emitOpError("expects ascending indices in [0, ")
             << shape[0] << "), but got " << index << " after " << last;
    last = index;
  }
  for (double scale : getScales())
    if (!std::isfinite(scale)) // C2
      return emitOpError("expects finite scales, but got ") << scale;
  return success();
}

LogicalResult AddProductOp::verify() {
  if (failed(verifyProduct(*this, cast<RankedTensorType>(getInput().getType()),
                           cast<RankedTensorType>(getLeft().getType()),
                           cast<RankedTensorType>(getRight().getType())))) // C1
    return failure();
  return expectFinite(*this, "scale", getScaleAttr()); // C2
}

LogicalResult SourceOp::verify() {
  if (!getType().hasStaticShape())
    return emitOpError("expects a static shape, but got ") << getType();
  int64_t count = getTensorCount();
  ArrayRef<int64_t> offsets = getOffsets();
  if (!offsets.empty() && int64_t(offsets.size()) != count) // C1
    return emitOpError("expects one offset for each of ")
           << count << " tensors, but got " << offsets.size();
  for (int64_t offset : offsets)
    if (offset < 0) // C1
      return emitOpError("expects offsets >= 0, but got ") << offset;
  int64_t files = int64_t(getFiles().size());
  if (offsets.empty() ? files != 0 : files != 1 && files != count) // C2
    return emitOpError("expects one file, or one for each of ")
           << count << " tensors, but got " << files;
  return success();
}

LogicalResult ConcatOp::verify() {
  auto type = cast<RankedTensorType>(getResult().getType());
  int64_t axis = getAxis();
  if (getInputs().empty())
    return emitOpError("expects at least one input");
  if (axis < 0 || axis >= type.getRank()) // C1
    return emitOpError("expects axis within rank ")
           << type.getRank() << ", but got " << axis;
  int64_t sum = 0;
  for (Value input : getInputs()) {
    auto inputType = cast<RankedTensorType>(input.getType());
    SmallVector<int64_t> expected(type.getShape());
    if (inputType.getRank() == type.getRank())
      expected[axis] = inputType.getDimSize(axis);
    if (inputType.getShape() != ArrayRef(expected) ||
        inputType.getElementType() != type.getElementType()) // C1
      return emitOpError("expects inputs like the result except along axis ")
             << axis << ", but got " << inputType << " and " << type;
    sum += inputType.getDimSize(axis);
  }
  if (sum != type.getDimSize(axis)) // C1
    return emitOpError("expects ")
           << sum << " along axis " << axis << ", but got " << type;
  return success();
}

LogicalResult SliceOp::verify() {
  auto input = cast<RankedTensorType>(getInput().getType());
  int64_t axis = getAxis(), begin = getBegin(), end = getEnd();
  if (axis < 0 || axis >= input.getRank()) // C1
    return emitOpError("expects axis within rank ")
           << input.getRank() << ", but got " << axis;
  if (begin < 0 || begin >= end || end > input.getDimSize(axis)) // C1
    return emitOpError("expects 0 <= begin < end <= ")
           << input.getDimSize(axis) << ", but got " << begin << " and " << end;
  SmallVector<int64_t> shape(input.getShape());
  shape[axis] = end - begin;
  auto expected =
      RankedTensorType::get(shape, input.getElementType(), input.getEncoding());
  if (getResult().getType() != expected) // C1
    return emitOpError("expects result ")
           << expected << ", but got " << getResult().getType();
  return success();
}

OpFoldResult SliceOp::fold(FoldAdaptor) {
  if (getInput().getType() == getResult().getType())
    return getInput();
  auto concat = getInput().getDefiningOp<ConcatOp>();
  if (!concat || concat.getAxis() != getAxis())
    return {};
  // One of what is joined.
  int64_t begin = 0;
  for (Value input : concat.getInputs()) {
    if (begin == int64_t(getBegin()) &&
        input.getType() == getResult().getType())
      return input;
    begin += cast<RankedTensorType>(input.getType()).getDimSize(getAxis());
  }
  return {};
}

LogicalResult ReshapeOp::verify() {
  auto input = cast<RankedTensorType>(getInput().getType());
  auto result = cast<RankedTensorType>(getResult().getType());
  std::optional<int64_t> before = checkedProduct(input.getShape());
  std::optional<int64_t> after = checkedProduct(result.getShape());
  if (!before || before != after ||
      input.getElementType() != result.getElementType() ||
      input.getEncoding() != result.getEncoding()) // C1
    return emitOpError("expects as many elements, of one type, but got ")
           << input << " and " << result;
  return success();
}

OpFoldResult ReshapeOp::fold(FoldAdaptor) {
  if (getInput().getType() == getResult().getType())
    return getInput();
  if (auto before = getInput().getDefiningOp<ReshapeOp>()) {
    if (before.getInput().getType() == getResult().getType())
      return before.getInput();
    getInputMutable().assign(before.getInput());
    return getResult();
  }
  return {};
}

LogicalResult TransposeOp::verify() {
  auto input = cast<RankedTensorType>(getInput().getType());
  auto result = cast<RankedTensorType>(getResult().getType());
  ArrayRef<int64_t> permutation = getPermutation();
  SmallVector<bool> seen(size_t(input.getRank()), false);
  bool valid = int64_t(permutation.size()) == input.getRank() &&
               result.getRank() == input.getRank() &&
               result.getElementType() == input.getElementType() &&
               result.getEncoding() == input.getEncoding();
  for (size_t i = 0; valid && i < permutation.size(); ++i) {
    int64_t from = permutation[i];
    valid = from >= 0 && from < input.getRank() && !seen[size_t(from)] &&
            result.getDimSize(i) == input.getDimSize(from);
    if (valid)
      seen[size_t(from)] = true;
  }
  if (!valid) // C1
    return emitOpError("expects a permutation from ")
           << input << " to " << result << ", but got [" << permutation << "]";
  return success();
}

OpFoldResult TransposeOp::fold(FoldAdaptor) {
  auto isIdentity = [](ArrayRef<int64_t> permutation) {
    return llvm::all_of(llvm::enumerate(permutation), [](auto entry) {
      return int64_t(entry.index()) == entry.value();
    });
  };
  if (isIdentity(getPermutation()))
    return getInput();
  auto before = getInput().getDefiningOp<TransposeOp>();
  if (!before)
    return {};
  SmallVector<int64_t> both;
  for (int64_t from : getPermutation())
    both.push_back(before.getPermutation()[size_t(from)]);
  return isIdentity(both) ? before.getInput() : Value();
}

LogicalResult ConvertOp::verify() {
  return expectShape(*this, "a result", getResult(), shapeOf(getInput())); // C1
}

OpFoldResult ConvertOp::fold(FoldAdaptor) {
  return getInput().getType() == getResult().getType() ? getInput() : Value();
}

/// The shape of the scales of an FP8 weight of shape \p weight.
static SmallVector<int64_t> scaleShape(ArrayRef<int64_t> weight, int64_t rows,
                                       int64_t columns) {
  SmallVector<int64_t> shape(weight);
  shape[shape.size() - 2] = ceilDiv(shape[shape.size() - 2], rows);
  shape[shape.size() - 1] = ceilDiv(shape[shape.size() - 1], columns);
  return shape;
}

int64_t hadal::deepseek::getScaleColumns(int64_t columns, int64_t group,
                                         Type element) {
  if (!element.isInteger())
    return columns / group;
  return columns / scaleBlock * (scaleBlock / group + scaleBlockBytes);
}

int64_t hadal::deepseek::getScaleAxis(Value weight, Value scales) {
  ArrayRef<int64_t> shape = shapeOf(weight), stored = shapeOf(scales);
  auto rank = int64_t(shape.size());
  bool isOfRows =
      int64_t(stored.size()) == rank && rank == 3 && stored[1] != shape[1];
  return isOfRows ? 1 : rank - 1;
}

/// Elements along \p axis that one of \p scales is for, or 0.
static int64_t getScaleGroup(Value weight, Value scales, int64_t axis) {
  if (axis >= int64_t(shapeOf(scales).size()))
    return 0;
  int64_t columns = shapeOf(weight)[size_t(axis)];
  int64_t stored = shapeOf(scales)[size_t(axis)];
  if (stored <= 0)
    return 0;
  if (!elementOf(scales).isInteger())
    return columns % stored == 0 ? columns / stored : 0;
  int64_t blocks = columns / scaleBlock;
  if (columns % scaleBlock != 0 || blocks == 0 || stored % blocks != 0)
    return 0;
  int64_t groups = stored / blocks - scaleBlockBytes;
  return groups > 0 && scaleBlock % groups == 0 ? scaleBlock / groups : 0;
}

int64_t hadal::deepseek::getScaleGroup(Value weight, Value scales) {
  return ::getScaleGroup(weight, scales, getScaleAxis(weight, scales));
}

/// Requires the scales, the offsets and the rounding of inputs that a
/// weight of the type of \p weight may have: of FP8 blocks, of integer groups,
/// or none. Groups are along \p axis, the last if none is given.
static LogicalResult verifyScales(Operation *op, StringRef name, Value weight,
                                  Value scales, Value offsets,
                                  std::optional<int64_t> activationGroup,
                                  std::optional<int64_t> axis = std::nullopt) {
  Type element = elementOf(weight);
  bool isFP8 = isa<Float8E4M3FNType>(element), isInteger = element.isInteger();
  if ((isFP8 || isInteger) != bool(scales))
    return op->emitOpError("expects ")
           << name << " with an FP8 or integer weight and only then, but got "
           << (scales ? "some" : "none") << " with " << weight.getType();
  if (!isInteger && (activationGroup || offsets))
    return op->emitOpError("expects activation_group and offsets only with an "
                           "integer weight, but got some with ")
           << weight.getType();
  if (!scales)
    return success();
  if (isFP8 && !elementOf(scales).isF32())
    return op->emitOpError("expects ")
           << name << " in f32 for FP8, but got " << scales.getType();
  if (isFP8)
    return expectShape(op, name, scales,
                       scaleShape(shapeOf(weight), fp8BlockSize, fp8BlockSize));
  SmallVector<int64_t> shape(shapeOf(weight));
  auto along = size_t(axis.value_or(int64_t(shape.size()) - 1));
  int64_t columns = shape[along];
  int64_t group = ::getScaleGroup(weight, scales, int64_t(along));
  if (along < shapeOf(scales).size())
    shape[along] = shapeOf(scales)[along];
  if (failed(expectShape(op, name, scales, shape)))
    return failure();
  if (group == 0)
    return op->emitOpError("expects ")
           << name << " of groups that divide " << columns
           << " columns, but got " << scales.getType();
  if (offsets) {
    bool hasBlocks = columns % scaleBlock == 0 && scaleBlock % group == 0;
    if (elementOf(offsets).isInteger() && !hasBlocks)
      return op->emitOpError("expects offsets of one level for groups of ")
             << group << " of " << columns << " columns, but got "
             << offsets.getType();
    shape[along] = getScaleColumns(columns, group, elementOf(offsets));
    if (failed(expectShape(op, "offsets", offsets, shape)))
      return failure();
  }
  if (activationGroup && (*activationGroup <= 0 || *activationGroup % 16 != 0 ||
                          group % *activationGroup != 0))
    return op->emitOpError("expects activation_group to be a multiple of 16 "
                           "that divides the weight's group, ")
           << group << ", but got " << *activationGroup;
  return success();
}

bool hadal::deepseek::canTakeBF16(Type weight) {
  auto tensor = cast<RankedTensorType>(weight);
  Type element = tensor.getElementType();
  return (element.isBF16() || element.isF16() ||
          isa<Float8E4M3FNType>(element)) &&
         tensor.getShape().back() % 2 == 0;
}

/// Requires that inputs are rounded to bf16 only where \p weight allows it.
static LogicalResult verifyBF16Inputs(Operation *op, bool hasBF16Inputs,
                                      Value weight) {
  if (!hasBF16Inputs || canTakeBF16(weight.getType()))
    return success();
  return op->emitOpError("expects bf16_inputs only with a weight of bf16, f16 "
                         "or FP8 of an even number of columns, but got ")
         << weight.getType();
}

LogicalResult ImportanceOp::verify() {
  ArrayRef<int64_t> weight = shapeOf(getWeight());
  if (weight.size() != 2 && weight.size() != 3)
    return emitOpError("expects a matrix or a stack of them, but got ")
           << getWeight().getType();
  int64_t columns = weight.back(), group = getGroup();
  if (getMoment()) {
    ArrayRef<int64_t> moment = shapeOf(getMoment());
    SmallVector<int64_t> each = {weight.front(), columns};
    if (moment != ArrayRef(columns) &&
        (weight.size() != 3 || moment != ArrayRef(each))) // C1
      return emitOpError("expects a moment of ")
             << columns << " channels, but got " << getMoment().getType();
  }
  if (group <= 0 || columns % group != 0) // C2
    return emitOpError("expects a group that divides ")
           << columns << " channels, but got " << group;
  SmallVector<int64_t> shape(weight.drop_back(2));
  shape.push_back(columns / group);
  return expectShape(*this, "a result", getResult(), shape); // C2
}

LogicalResult RankOp::verify() {
  return expectShape(*this, "a result", getResult(),
                     shapeOf(getImportance())); // C1
}

LogicalResult MergeExpertsOp::verify() {
  ArrayRef<int64_t> gate = shapeOf(getGate());
  if (gate.size() != 3) // C1
    return emitOpError("expects a stack of matrices, but got ")
           << getGate().getType();
  int64_t experts = gate[0], inner = gate[1], hidden = gate[2];
  if (failed(expectShape(*this, "up", getUp(), gate)) ||
      failed(expectShape(*this, "down", getDown(), {experts, hidden, inner})))
    return failure(); // C1
  Type element = elementOf(getGate());
  if (elementOf(getUp()) != element || elementOf(getDown()) != element) // C1
    return emitOpError("expects equal element types, but got ")
           << getGate().getType() << ", " << getUp().getType() << " and "
           << getDown().getType();
  if (getMass() && failed(expectShape(*this, "mass", getMass(), {experts})))
    return failure(); // C2
  if (getMoment() &&
      failed(expectShape(*this, "moment", getMoment(), {experts, hidden})))
    return failure(); // C2
  int64_t keep = getKeep();
  if (keep <= 0 || keep > experts) // C3
    return emitOpError("expects to keep 1 to ")
           << experts << " experts, but got " << keep;
  bool isOuter = getPart() == MergedPart::Outer;
  bool isStatistic = isOuter || getPart() == MergedPart::Inner;
  if (bool(getStatistic()) != isStatistic || bool(getCount()) != isStatistic)
    return emitOpError("expects a statistic and its count with outer and inner "
                       "and only then, but got ")
           << stringifyMergedPart(getPart()); // C4
  SmallVector<int64_t> shape = {keep, inner, hidden};
  if (isStatistic) {
    shape = SmallVector<int64_t>(shapeOf(getStatistic()));
    int64_t columns = isOuter ? hidden : inner;
    SmallVector<int64_t> wanted(shape.size(), columns);
    wanted.front() = experts;
    if (shape.size() < 2 || shape.size() > 3 || shape != wanted) // C4
      return emitOpError("expects a statistic of ")
             << experts << " times " << columns << " channels, but got "
             << getStatistic().getType();
    if (failed(expectShape(*this, "count", getCount(), {experts})))
      return failure(); // C4
    shape.front() = keep;
    element = Float32Type::get(getContext());
  }
  if (getPart() == MergedPart::Down)
    std::swap(shape[1], shape[2]);
  if (getPart() == MergedPart::Map) {
    shape = {experts};
    element = IntegerType::get(getContext(), 32);
  }
  if (elementOf(getResult()) != element) // C3
    return emitOpError("expects elements of ")
           << element << ", but got " << getResult().getType();
  return expectShape(*this, "a result", getResult(), shape); // C3
}

ChannelScaling ChannelScalesOp::getScaling() {
  ChannelScaling scaling;
  scaling.bits = unsigned(getBits().value_or(0));
  scaling.group = int64_t(getGroup().value_or(0));
  if (getStrength())
    scaling.strength = getStrength()->convertToDouble();
  return scaling;
}

LogicalResult ChannelScalesOp::verify() {
  ArrayRef<int64_t> statistic = shapeOf(getStatistic());
  if (statistic.empty() || statistic.size() > 2) // C1
    return emitOpError("expects a statistic of channels, but got ")
           << getStatistic().getType();
  for (Value weight : getWeights()) {
    ArrayRef<int64_t> shape = shapeOf(weight);
    SmallVector<int64_t> each = {shape.front(), shape.back()};
    if (shape.size() < 2 || shape.back() != statistic.back() ||
        (statistic.size() == 2 &&
         (shape.size() != 3 || statistic != ArrayRef(each)))) // C1
      return emitOpError("expects weights that read the channels of ")
             << getStatistic().getType() << ", but got " << weight.getType();
  }
  bool hasBits = getBits() && getGroup() && !getStrength() &&
                 isRoundingWidth(int64_t(*getBits())) &&
                 int64_t(*getGroup()) > 0;
  double strength = getStrength() ? getStrength()->convertToDouble() : -1;
  if (!hasBits &&
      (getBits() || getGroup() || !(strength >= 0 && strength <= 1))) // C2
    return emitOpError(
        "expects bits of 4, 5, 6 or 8 and a group, or a strength "
        "of 0 to 1");
  return expectShape(*this, "a result", getResult(), statistic); // C1
}

LogicalResult ScaleChannelsOp::verify() {
  ArrayRef<int64_t> input = shapeOf(getInput());
  int64_t axis = getAxis(), power = getPower();
  if (axis < 0 || axis >= int64_t(input.size())) // C1
    return emitOpError("expects an axis of ")
           << getInput().getType() << ", but got " << axis;
  ArrayRef<int64_t> scales = shapeOf(getScales());
  SmallVector<int64_t> each = {input.front(), input[size_t(axis)]};
  if (scales != ArrayRef(input[size_t(axis)]) &&
      (axis == 0 || scales != ArrayRef(each))) // C1
    return emitOpError("expects scales of ")
           << input[size_t(axis)] << " indices, but got "
           << getScales().getType();
  if (power != 1 && power != -1 && power != -2) // C2
    return emitOpError("expects a power of 1, -1 or -2, but got ") << power;
  return expectShape(*this, "a result", getResult(), input); // C3
}

LogicalResult SelectOp::verify() {
  ArrayRef<int64_t> input = shapeOf(getInput());
  int64_t axis = getAxis(), keep = getKeep(), groups = getGroups();
  if (axis < 0 || axis >= int64_t(input.size())) // C1
    return emitOpError("expects an axis of ")
           << getInput().getType() << ", but got " << axis;
  int64_t count = input[size_t(axis)];
  ArrayRef<int64_t> importance = shapeOf(getImportance());
  SmallVector<int64_t> each = {input.front(), count};
  if (importance != ArrayRef(count) &&
      (axis == 0 || importance != ArrayRef(each))) // C1
    return emitOpError("expects the importance of ")
           << count << " indices, but got " << getImportance().getType();
  if (groups <= 0 || count % groups != 0 || keep % groups != 0) // C2
    return emitOpError("expects groups that divide ")
           << count << " and " << keep << ", but got " << groups;
  if (keep <= 0 || keep > count) // C2
    return emitOpError("expects to keep 1 to ")
           << count << " indices, but got " << keep;
  SmallVector<int64_t> shape(input);
  shape[size_t(axis)] = keep;
  if (elementOf(getResult()) != elementOf(getInput())) // C2
    return emitOpError("expects equal element types, but got ")
           << getInput().getType() << " and " << getResult().getType();
  return expectShape(*this, "a result", getResult(), shape); // C2
}

/// Checks that \p statistic, of `k` input channels in \p dimensions of its own,
/// is one of \p input, [.., n, k], or of each matrix of a stack.
static LogicalResult checkStatistic(Operation *op, StringRef what,
                                    Value statistic, Value input,
                                    size_t dimensions) {
  ArrayRef<int64_t> matrix = shapeOf(input);
  SmallVector<int64_t> one(dimensions, matrix.back()), each(one);
  each.insert(each.begin(), matrix.front());
  if (shapeOf(statistic) == ArrayRef(one) ||
      (matrix.size() == 3 && shapeOf(statistic) == ArrayRef(each)))
    return success();
  return op->emitOpError("expects a ")
         << what << " of " << matrix.back() << " channels, but got "
         << statistic.getType();
}

LogicalResult QuantizeOp::verify() {
  int64_t columns = columnsOf(getInput()), group = getGroup();
  if (failed(expectShape(*this, "a result", getResult(),
                         shapeOf(getInput())))) // C1
    return failure();
  if (group <= 0 || group % 32 != 0 || columns % group != 0) // C2
    return emitOpError("expects a group that is a multiple of 32 and divides ")
           << columns << " columns, but got " << group;
  if (getMoment() &&
      failed(checkStatistic(*this, "moment", getMoment(), getInput(), 1))) // C3
    return failure();
  if (getMoment() && group > maxWeightedGroup) // C3
    return emitOpError("expects a group of at most ")
           << maxWeightedGroup << " with a moment, but got " << group;
  if (getGram() &&
      failed(checkStatistic(*this, "gram", getGram(), getInput(), 2))) // C4
    return failure();
  if (bool(getGram()) != bool(getDampingAttr())) // C4
    return emitOpError("expects a damping with a gram, and none without");
  if (getDamping() &&
      (!getDamping()->isFinite() || getDamping()->isNegative() ||
       getDamping()->isZero())) // C4
    return emitOpError("expects a damping above 0, but got ")
           << getDampingAttr();
  return success();
}

LogicalResult RoundByOp::verify() {
  if (failed(expectShape(*this, "a result", getResult(),
                         shapeOf(getInput())))) // C1
    return failure();
  ArrayRef<int64_t> input = shapeOf(getInput()), scales = shapeOf(getScales());
  bool isGood = input.size() >= 2 && scales.size() == input.size() &&
                scales.drop_back(2) == input.drop_back(2);
  for (size_t i = input.size() - 2; isGood && i < input.size(); ++i)
    isGood = scales[i] > 0 && input[i] % scales[i] == 0;
  if (!isGood) // C2
    return emitOpError("expects scales of blocks of ")
           << getInput().getType() << ", but got " << getScales().getType();
  return success();
}

LogicalResult QuantizeScalesOp::verify() {
  if (!isRoundingWidth(int64_t(getBits()))) // C1
    return emitOpError("expects 4, 5, 6 or 8 bits, but got ") << getBits();
  SmallVector<int64_t> shape(shapeOf(getInput()));
  int64_t columns = shape.back(), groups = columnsOf(getResult());
  shape.back() = groups;
  if (failed(expectShape(*this, "a result", getResult(), shape))) // C2
    return failure();
  if (groups <= 0 || columns % groups != 0 || columns / groups % 32 != 0) // C2
    return emitOpError("expects groups of a multiple of 32 that divide ")
           << columns << " columns, but got " << getResult().getType();
  if (getMoment() &&
      failed(checkStatistic(*this, "moment", getMoment(), getInput(), 1))) // C3
    return failure();
  if (getMoment() && columns / groups > maxWeightedGroup) // C3
    return emitOpError("expects a group of at most ")
           << maxWeightedGroup << " with a moment, but got "
           << columns / groups;
  return success();
}

LogicalResult DequantizeOp::verify() {
  int64_t rows = getRows(), columns = getColumns();
  if (rows <= 0 || columns <= 0) // C1
    return emitOpError("expects positive block sizes, but got ")
           << rows << " and " << columns;
  if (shapeOf(getInput()).size() < 2)
    return emitOpError("expects a matrix, but got ") << getInput().getType();
  if (failed(expectShape(*this, "scales", getScales(),
                         scaleShape(shapeOf(getInput()), rows, columns))) ||
      failed(expectShape(*this, "a result", getResult(),
                         shapeOf(getInput())))) // C2
    return failure();
  bool isInteger = elementOf(getInput()).isInteger();
  if (!getUnchecked() && !isInteger &&
      (rows != fp8BlockSize || columns != fp8BlockSize)) // C3
    return emitOpError("expects blocks of 128 x 128, but got ")
           << rows << " x " << columns;
  if (!getZeros())
    return success();
  if (!isInteger) // C4
    return emitOpError("expects an integer input with zeros, but got ")
           << getInput().getType();
  return expectShape(*this, "zeros", getZeros(), shapeOf(getScales())); // C4
}

LogicalResult UnpackOp::verify() {
  int64_t bits = getBits(), plus = getPlus();
  bool isKnown = llvm::is_contained({2, 3, 4, 8}, bits);
  if (!isKnown || (plus != 0 && plus != 1 && plus != int64_t(1) << (bits - 1)))
    return emitOpError("expects 2, 3, 4 or 8 bits, plus 0, 1 or half their "
                       "range, but got ")
           << bits << " and " << plus; // C1
  SmallVector<int64_t> shape(shapeOf(getInput()));
  if (shape.empty())
    return emitOpError("expects rows of bytes, but got ")
           << getInput().getType();
  std::optional<int64_t> all = checkedProduct({shape.back(), 8});
  if (!all || *all % bits != 0) // C2
    return emitOpError("expects rows of whole integers of ")
           << bits << " bits, but got " << getInput().getType();
  shape.back() = *all / bits;
  if (failed(expectShape(*this, "a result", getResult(), shape))) // C2
    return failure();
  if (bits == 8 && !elementOf(getResult()).isInteger(8)) // C3
    return emitOpError("expects i8 for 8 bits, but got ")
           << getResult().getType();
  return success();
}

LogicalResult GatherOp::verify() {
  SmallVector<int64_t> shape(shapeOf(getInput()));
  if (shape.empty() || elementOf(getInput()) != elementOf(getResult())) // C1
    return emitOpError("expects rows of the result's type, but got ")
           << getInput().getType() << " and " << getResult().getType();
  shape.back() = shapeOf(getIndices())[0];
  if (failed(expectShape(*this, "indices", getIndices(), {shape.back(), 4})))
    return failure();                                        // C1
  return expectShape(*this, "a result", getResult(), shape); // C1
}

LogicalResult DequantizeGGUFOp::verify() {
  GGUFBlock block = getGGUFBlock(getFormat());
  SmallVector<int64_t> shape(shapeOf(getInput()));
  if (shape.empty() || shape.back() % block.bytes != 0) // C1
    return emitOpError("expects rows of a multiple of ")
           << block.bytes << " bytes for " << stringifyGGUFFormat(getFormat())
           << ", but got " << getInput().getType();
  std::optional<int64_t> columns =
      checkedProduct({shape.back() / block.bytes, block.elements});
  if (!columns) // C1
    return emitOpError("expects rows of fewer bytes, but got ")
           << getInput().getType();
  shape.back() = *columns;
  return expectShape(*this, "a result", getResult(), shape); // C1, C2
}

LogicalResult GGUFPartOp::verify() {
  GGUFBlock block = getGGUFBlock(getFormat());
  GGUFParts parts = getGGUFParts(getFormat());
  SmallVector<int64_t> shape(shapeOf(getInput()));
  if (shape.empty() || shape.back() % block.bytes != 0) // C1
    return emitOpError("expects rows of a multiple of ")
           << block.bytes << " bytes for " << stringifyGGUFFormat(getFormat())
           << ", but got " << getInput().getType();
  Type type = parts.getType(getContext(), getPart());
  if (!type) // C3
    return emitOpError("expects a format with ")
           << stringifyGGUFPart(getPart()) << ", but got "
           << stringifyGGUFFormat(getFormat());
  int64_t each = getPart() == GGUFPart::Codes
                     ? block.elements
                     : getScaleColumns(block.elements, parts.group, type);
  std::optional<int64_t> columns =
      checkedProduct({shape.back() / block.bytes, each});
  if (!columns) // C1
    return emitOpError("expects rows of fewer bytes, but got ")
           << getInput().getType();
  shape.back() = *columns;
  if (failed(expectShape(*this, "a result", getResult(), shape))) // C1, C2
    return failure();
  Attribute codebook = getPart() == GGUFPart::Codes
                           ? parts.getCodebook(getContext())
                           : Attribute();
  if (cast<RankedTensorType>(getResult().getType()).getEncoding() !=
      codebook) // C3
    return emitOpError("expects a result with the encoding ")
           << codebook << " for " << stringifyGGUFPart(getPart()) << " of "
           << stringifyGGUFFormat(getFormat()) << ", but got "
           << getResult().getType();
  if (elementOf(getResult()) != type) // C3
    return emitOpError("expects a result of ")
           << type << " for " << stringifyGGUFPart(getPart()) << " of "
           << stringifyGGUFFormat(getFormat()) << ", but got "
           << getResult().getType();
  return success();
}

LogicalResult DequantizeMXFP4Op::verify() {
  SmallVector<int64_t> shape(shapeOf(getResult()));
  if (shape.size() < 2 || shape.back() % 32 != 0) // C1
    return emitOpError("expects rows of a multiple of 32 numbers, but got ")
           << getResult().getType();
  int64_t columns = shape.back();
  shape.back() = columns / 2;
  if (failed(expectShape(*this, "input", getInput(), shape))) // C1
    return failure();
  shape.back() = columns / 32;
  return expectShape(*this, "scales", getScales(), shape); // C1
}

LogicalResult ExpertIdsOp::verify() {
  if (int64_t(getExperts()) <= 0) // C2
    return emitOpError("expects experts > 0, but got ")
           << int64_t(getExperts());
  return expectShape(*this, "a result", getResult(), shapeOf(getInput())); // C1
}

LogicalResult RotaryTableOp::verify() {
  return expectShape(*this, "a result", getResult(),
                     {anySize, getRotary().getDim()}); // C1
}

LogicalResult NumbersOp::verify() {
  constexpr size_t most = 16;
  if (getValues().size() > most) // C1
    return emitOpError("expects at most ")
           << most << " numbers, but got " << getValues().size();
  return expectShape(*this, "a result", getResult(),
                     {int64_t(getValues().size())});
}

LogicalResult PackOp::verify() {
  auto input = cast<RankedTensorType>(getInput().getType());
  auto result = cast<RankedTensorType>(getResult().getType());
  if (isa_and_nonnull<TiledAttr>(input.getEncoding()) ||
      !isa_and_nonnull<TiledAttr>(result.getEncoding()) ||
      getCodebook(input) != getCodebook(result) ||
      result.getShape() != input.getShape() ||
      result.getElementType() != input.getElementType()) // C1
    return emitOpError("expects the input's type with a tiled encoding, but "
                       "got ")
           << input << " and " << result;
  return success();
}

//===----------------------------------------------------------------------===//
// The forward step
//===----------------------------------------------------------------------===//

LogicalResult EmbedOp::verify() {
  if (failed(expectShape(*this, "a result", getResult(),
                         {anySize, columnsOf(getTable())}))) // C1
    return failure();
  if (elementOf(getTable()).isInteger())
    return verifyScales(*this, "scales", getTable(), getScales(), getOffsets(),
                        std::nullopt); // C2
  if (getScales() || getOffsets())     // C2
    return emitOpError("expects scales and offsets only with a table of "
                       "integers, but got some with ")
           << getTable().getType();
  return success();
}

LogicalResult RMSNormOp::verify() {
  if (failed(expectShape(*this, "weight", getWeight(),
                         {columnsOf(getInput())}))) // C1
    return failure();
  if (!(getEpsilon().convertToFloat() > 0.0f)) // C2; false for NaN too.
    return emitOpError("expects epsilon > 0, but got ") << getEpsilonAttr();
  return success();
}

LogicalResult UnitNormOp::verify() {
  int64_t heads = getHeads();
  if (heads <= 0 || columnsOf(getInput()) % heads != 0) // C1
    return emitOpError("expects heads that divide ")
           << columnsOf(getInput()) << " columns, but got " << heads;
  return expectPositive(*this, "epsilon", getEpsilonAttr()); // C2
}

LogicalResult RoundToGridOp::verify() {
  return expectShape(*this, "a grid", getGrid(), {2}); // C1
}

LogicalResult LayerNormOp::verify() {
  int64_t dim = columnsOf(getInput());
  if (failed(expectShape(*this, "weight", getWeight(), {dim})) ||
      failed(expectShape(*this, "bias", getBias(), {dim}))) // C1
    return failure();
  if (!(getEpsilon().convertToFloat() > 0.0f)) // C2; false for NaN too.
    return emitOpError("expects epsilon > 0, but got ") << getEpsilonAttr();
  return success();
}

LogicalResult LinearOp::verify() {
  ArrayRef<int64_t> weight = shapeOf(getWeight());
  if (weight[1] != columnsOf(getInput())) // C1
    return emitOpError("expects weight and input to agree in k, but got ")
           << getWeight().getType() << " and " << getInput().getType();
  if (failed(expectShape(*this, "a result", getResult(), {anySize, weight[0]})))
    return failure(); // C1
  if (getBias() &&
      failed(expectShape(*this, "bias", getBias(), {weight[0]}))) // C2
    return failure();
  if (failed(verifyScales(*this, "scales", getWeight(), getScales(),
                          getOffsets(), getActivationGroup()))) // C3, C4, C5
    return failure();
  return verifyBF16Inputs(*this, getBf16Inputs(), getWeight()); // C6
}

LogicalResult HeadLinearOp::verify() {
  ArrayRef<int64_t> weight = shapeOf(getWeight());
  int64_t columns = columnsOf(getInput());
  if (weight[0] <= 0 || columns % weight[0] != 0 ||
      columns / weight[0] < weight[2]) // C1
    return emitOpError("expects ")
           << weight[0] << " heads of at least " << weight[2]
           << " columns, but got " << getInput().getType();
  if (failed(expectShape(*this, "a result", getResult(),
                         {anySize, weight[0] * weight[1]}))) // C1
    return failure();
  std::optional<int64_t> axis;
  if (getScales())
    axis = getScaleAxis(getWeight(), getScales());
  return verifyScales(*this, "scales", getWeight(), getScales(), getOffsets(),
                      std::nullopt, axis); // C2
}

LogicalResult SplitOp::verify() {
  int64_t sum = 0;
  for (Value result : getResults())
    sum += columnsOf(result);
  if (sum != columnsOf(getInput())) // C1
    return emitOpError("expects parts of ")
           << columnsOf(getInput()) << " columns in all, but got " << sum;
  return success();
}

LogicalResult RotaryOp::verify() {
  int64_t heads = getHeads(), columns = columnsOf(getInput());
  int64_t dim = getRotary().getDim();
  if (heads <= 0 || columns % heads != 0 || columns / heads < dim) // C1
    return emitOpError("expects heads that divide ")
           << columns << " columns into at least " << dim << ", but got "
           << heads;
  if (getUnchecked() || getLeading())
    return success();
  bool isWhole = columns / heads == dim;
  RotaryLayout layout = getRotary().getLayout();
  if (isWhole && heads > 1 && layout != RotaryLayout::HalfSplit) // C2
    return emitOpError("expects layout half_split where heads rotate in full "
                       "(")
           << heads << " heads of " << dim << "), but got "
           << stringifyRotaryLayout(layout);
  if (!isWhole && layout != RotaryLayout::Interleaved) // C3
    return emitOpError("expects layout interleaved where heads rotate in part "
                       "(")
           << dim << " of " << columns / heads << "), but got "
           << stringifyRotaryLayout(layout);
  return success();
}

/// Both say of queries which tokens they are of.
template <typename Op> static LogicalResult verifyQueries(Op op) {
  if (bool(op.getQueryPositions()) != bool(op.getQuerySequences())) // C4
    return op.emitOpError("expects positions and sequences of queries, or "
                          "neither");
  return success();
}

LogicalResult AttentionOp::verify() {
  auto cache = cast<KVCacheType>(getCache().getType());
  int64_t heads = getHeads(), kvHeads = cache.getHeads();
  if (cache.getKind() != CacheKind::Heads) // C1
    return emitOpError("expects a cache of kind heads, but got ") << cache;
  if (failed(expectShape(*this, "query", getQuery(),
                         {anySize, heads * cache.getKeyDim()})) ||
      failed(expectShape(*this, "key", getKey(),
                         {anySize, kvHeads * cache.getKeyDim()})) ||
      failed(expectShape(*this, "value", getValue(),
                         {anySize, kvHeads * cache.getValueDim()})) ||
      failed(expectShape(*this, "a result", getResult(),
                         {anySize, heads * cache.getValueDim()})))
    return failure();                     // C1
  if (heads <= 0 || heads % kvHeads != 0) // C2
    return emitOpError("expects heads to be a multiple of the cache's ")
           << kvHeads << ", but got " << heads;
  if (failed(verifyQueries(*this)))
    return failure();                                    // C4
  return expectPositive(*this, "scale", getScaleAttr()); // C3
}

LogicalResult SelectKeysOp::verify() {
  auto cache = cast<KVCacheType>(getCache().getType());
  int64_t heads = getHeads(), dim = cache.getIndexDim();
  if (cache.getKind() != CacheKind::Latent || !dim) // C1
    return emitOpError("expects a latent cache with an index_dim, but got ")
           << cache;
  if (heads <= 0 || int64_t(getTopK()) <= 0) // C2
    return emitOpError("expects heads and top_k > 0, but got ")
           << heads << " and " << int64_t(getTopK());
  if (failed(expectShape(*this, "query", getQuery(), {anySize, heads * dim})) ||
      failed(expectShape(*this, "key", getKey(), {anySize, dim})) ||
      failed(expectShape(*this, "weights", getWeights(), {anySize, heads})) ||
      failed(expectShape(*this, "a result", getSelected(),
                         {anySize, int64_t(getTopK())})) || // C1, C2
      failed(verifyQueries(*this)))                         // C4
    return failure();
  return expectPositive(*this, "scale", getScaleAttr()); // C3
}

/// Selected positions and a window would both say what a token sees.
template <typename Op> static LogicalResult verifySelected(Op op) {
  if (op.getSelected() && op.getWindow()) // C3
    return op.emitOpError("expects no window with selected positions, but got ")
           << *op.getWindow();
  return success();
}

LogicalResult LatentAttentionOp::verify() {
  auto cache = cast<KVCacheType>(getCache().getType());
  int64_t heads = getHeads();
  if (cache.getKind() != CacheKind::Latent) // C1
    return emitOpError("expects a cache of kind latent, but got ") << cache;
  int64_t rank = cache.getValueDim(), rope = cache.getKeyDim() - rank;
  if (heads <= 0 || columnsOf(getQuery()) % heads != 0 ||
      columnsOf(getResult()) % heads != 0) // C1
    return emitOpError("expects heads that divide query and result, but got ")
           << heads << ", " << getQuery().getType() << " and "
           << getResult().getType();
  int64_t nope = columnsOf(getQuery()) / heads - rope;
  int64_t valueDim = columnsOf(getResult()) / heads;
  if (nope <= 0)
    return emitOpError("expects query heads wider than the rotary part, ")
           << rope << ", but got " << nope + rope; // C1
  if (failed(expectShape(*this, "latent", getLatent(), {anySize, rank})) ||
      failed(expectShape(*this, "rope_key", getRopeKey(), {anySize, rope})) ||
      failed(expectShape(*this, "kv_b", getKvB(),
                         {heads * (nope + valueDim), rank})))
    return failure(); // C1
  if (failed(verifySelected(*this)))
    return failure();                                    // C3
  return expectPositive(*this, "scale", getScaleAttr()); // C2
}

LogicalResult AbsorbedAttentionOp::verify() {
  auto cache = cast<KVCacheType>(getCache().getType());
  int64_t heads = getHeads();
  if (cache.getKind() != CacheKind::Latent) // C1
    return emitOpError("expects a cache of kind latent, but got ") << cache;
  int64_t rank = cache.getValueDim(), rope = cache.getKeyDim() - rank;
  if (heads <= 0 || columnsOf(getRopeQuery()) % heads != 0 ||
      columnsOf(getRopeQuery()) / heads < rope) // C1
    return emitOpError("expects heads of rope_query of at least ")
           << rope << " columns, but got " << getRopeQuery().getType();
  if (failed(
          expectShape(*this, "query", getQuery(), {anySize, heads * rank})) ||
      failed(expectShape(*this, "latent", getLatent(), {anySize, rank})) ||
      failed(expectShape(*this, "rope_key", getRopeKey(), {anySize, rope})) ||
      failed(
          expectShape(*this, "a result", getResult(), {anySize, heads * rank})))
    return failure(); // C1
  if (failed(verifySelected(*this)) || failed(verifyQueries(*this)))
    return failure();                                    // C3, C4
  return expectPositive(*this, "scale", getScaleAttr()); // C2
}

LogicalResult SwiGLUOp::verify() {
  return getLimit() ? expectPositive(*this, "limit", getLimitAttr()) // C1
                    : success();
}

LogicalResult RouterOp::verify() {
  RoutingAttr routing = getRouting();
  int64_t experts = routing.getExperts(), topK = routing.getTopK();
  if (failed(expectShape(*this, "logits", getLogits(), {anySize, experts})) ||
      failed(expectShape(*this, "experts", getExperts(), {anySize, topK})) ||
      failed(expectShape(*this, "weights", getWeights(), {anySize, topK})))
    return failure(); // C1
  bool needsBias = routing.getMethod() == TopKMethod::NoAuxTC;
  if (needsBias != bool(getBias())) // C2
    return emitOpError("expects a bias with noaux_tc and only then, but got ")
           << (getBias() ? "one" : "none") << " with "
           << stringifyTopKMethod(routing.getMethod());
  if (getBias() && failed(expectShape(*this, "bias", getBias(), {experts})))
    return failure(); // C2
  if (getMap() && failed(expectShape(*this, "map", getMap(), {experts})))
    return failure();                          // C6
  if (routing.getMethod() == TopKMethod::Hash) // C5
    return emitOpError("expects a method that chooses by scores, but got hash");
  bool isSoftmax = routing.getScoring() == Scoring::Softmax;
  if (!getUnchecked() && isSoftmax == needsBias) // C3
    return emitOpError("expects softmax with greedy or group_limited_greedy, "
                       "or sigmoid or sqrt_softplus with noaux_tc, but got ")
           << stringifyScoring(routing.getScoring()) << " with "
           << stringifyTopKMethod(routing.getMethod());
  if (std::optional<uint64_t> from = getRenormalizeFrom()) { // C4
    if (routing.getNormalize())
      return emitOpError("expects no renormalize_from with a rule that "
                         "normalizes, but got ")
             << *from;
    int64_t most = experts / routing.getGroups() * routing.getTopGroups();
    if (int64_t(*from) <= topK || int64_t(*from) > most)
      return emitOpError("expects renormalize_from above top_k, ")
             << topK << ", and at most " << most << ", but got "
             << int64_t(*from);
  }
  return success();
}

LogicalResult HashRouterOp::verify() {
  RoutingAttr routing = getRouting();
  int64_t experts = routing.getExperts(), topK = routing.getTopK();
  if (failed(expectShape(*this, "logits", getLogits(), {anySize, experts})) ||
      failed(expectShape(*this, "table", getTable(), {anySize, topK})) ||
      failed(expectShape(*this, "experts", getExperts(), {anySize, topK})) ||
      failed(expectShape(*this, "weights", getWeights(), {anySize, topK})))
    return failure();                          // C1
  if (routing.getMethod() != TopKMethod::Hash) // C2
    return emitOpError("expects method hash, but got ")
           << stringifyTopKMethod(routing.getMethod());
  return success();
}

LogicalResult ProbeOp::verify() {
  bool isInner =
      getKind() == ProbeKind::InnerMoment || getKind() == ProbeKind::InnerGram;
  bool needsExperts = isInner || getKind() == ProbeKind::Mass;
  bool isState = getKind() == ProbeKind::State;
  if (getExperts() ? isState : needsExperts) // C1
    return emitOpError("expects experts with inner_moment, inner_gram and mass "
                       "and none with state, but got ")
           << (getExperts() ? "some" : "none") << " with "
           << stringifyProbeKind(getKind());
  if (bool(getExperts()) != (int64_t(getCount()) > 0)) // C1
    return emitOpError("expects a number of experts, with experts, but got ")
           << int64_t(getCount());
  if (getKind() == ProbeKind::Mass &&
      columnsOf(getInput()) != columnsOf(getExperts())) // C1
    return emitOpError("expects a weight for each expert chosen, but got ")
           << getInput().getType() << " and " << getExperts().getType();
  if (isInner && !getInput().getDefiningOp<ExpertsOp>()) // C2
    return emitOpError("expects the result of deepseek.experts");
  return success();
}

LogicalResult ExpertsOp::verify() {
  ArrayRef<int64_t> gate = shapeOf(getGate());
  int64_t hidden = columnsOf(getInput());
  if (gate[2] != hidden || shapeOf(getUp()) != gate) // C1
    return emitOpError("expects gate and up of [experts, i, ")
           << hidden << "], but got " << getGate().getType() << " and "
           << getUp().getType();
  if (failed(
          expectShape(*this, "down", getDown(), {gate[0], hidden, gate[1]})) ||
      failed(expectShape(*this, "a result", getResult(), {anySize, hidden})))
    return failure(); // C1
  if (failed(expectShape(*this, "weights", getWeights(),
                         {anySize, columnsOf(getExperts())})))
    return failure(); // C2
  Type element = elementOf(getGate());
  bool hasScales = isa<Float8E4M3FNType>(element) || element.isInteger();
  bool isAlike = elementOf(getDown()) == element ||
                 (element.isInteger() && elementOf(getDown()).isInteger());
  if (getScales().size() != (hasScales ? 3 : 0) ||
      elementOf(getUp()) != element || !isAlike) // C3
    return emitOpError(
               "expects weights of one type, or all integer, with three "
               "scales if they are FP8 or integer, but got ")
           << getScales().size() << " with " << getGate().getType() << ", "
           << getUp().getType() << " and " << getDown().getType();
  if (getOffsets().size() > (hasScales ? 3 : 0)) // C5
    return emitOpError("expects at most three offsets, with integer weights, "
                       "but got ")
           << getOffsets().size() << " with " << getGate().getType();
  const StringRef names[] = {"gate scales", "up scales", "down scales"};
  const Value weights[] = {getGate(), getUp(), getDown()};
  for (auto [i, weight] : llvm::enumerate(weights))
    if (failed(verifyScales(*this, names[i], weight,
                            hasScales ? getScales()[i] : Value(),
                            getOffsetsOf(i),
                            getActivationGroup())) ||             // C3, C4, C5
        failed(verifyBF16Inputs(*this, getBf16Inputs(), weight))) // C7
      return failure();
  return getLimit() ? expectPositive(*this, "limit", getLimitAttr()) // C6
                    : success();
}

LogicalResult GatherRowsOp::verify() {
  auto input = cast<RankedTensorType>(getInput().getType());
  auto result = cast<RankedTensorType>(getResult().getType());
  if (input.getRank() != result.getRank() ||
      input.getElementType() != result.getElementType() ||
      input.getShape().drop_front() != result.getShape().drop_front()) // C1
    return emitOpError("expects input and result of one type but for the "
                       "rows, but got ")
           << input << " and " << result;
  return success();
}

LogicalResult ScatterRowsOp::verify() {
  return expectShape(*this, "update", getUpdate(),
                     {anySize, columnsOf(getInput())}); // C1
}

LogicalResult SelectRowsOp::verify() {
  if (getThreshold() &&
      failed(expectShape(*this, "threshold", getThreshold(), {1})))
    return failure();                                             // C1
  return expectShape(*this, "scores", getScores(), {anySize, 1}); // C1
}

LogicalResult InfluenceOp::verify() {
  return expectShape(*this, "a result", getResult(), {anySize, 1}); // C1
}

LogicalResult LMHeadOp::verify() {
  ArrayRef<int64_t> weight = shapeOf(getWeight());
  if (weight[1] != columnsOf(getInput())) // C1
    return emitOpError("expects weight and input to agree in hidden, but got ")
           << getWeight().getType() << " and " << getInput().getType();
  if (failed(expectShape(*this, "a result", getResult(),
                         {anySize, weight[0]}))) // C1
    return failure();
  if (failed(verifyScales(*this, "scales", getWeight(), getScales(),
                          getOffsets(), getActivationGroup()))) // C2, C3, C4
    return failure();
  return verifyBF16Inputs(*this, getBf16Inputs(), getWeight()); // C5
}

WindowAttr hadal::deepseek::getCommonWindow(Operation *module) {
  int64_t tokens = 0, sink = 0;
  bool all = true;
  module->walk([&](Operation *op) {
    if (!isa<AttentionOp, LatentAttentionOp, AbsorbedAttentionOp>(op))
      return;
    auto window = op->getAttrOfType<WindowAttr>("window");
    all &= bool(window);
    if (window) {
      tokens = std::max(tokens, window.getTokens());
      sink = std::max(sink, window.getSink());
    }
  });
  if (!all || !tokens)
    return nullptr;
  return WindowAttr::get(module->getContext(), tokens, sink);
}
