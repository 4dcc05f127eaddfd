// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The deepseek dialect, its attributes and its types.

#include "dialects/DeepSeek/IR/DeepSeekDialect.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;
using namespace hadal::deepseek;

#include "dialects/DeepSeek/IR/DeepSeekDialect.cpp.inc"
#include "dialects/DeepSeek/IR/DeepSeekEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/DeepSeek/IR/DeepSeekAttrs.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/DeepSeek/IR/DeepSeekTypes.cpp.inc"

void DeepSeekDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/DeepSeek/IR/DeepSeekAttrs.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/DeepSeek/IR/DeepSeekTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/DeepSeek/IR/DeepSeekOps.cpp.inc"
      >();
}

using EmitError = function_ref<InFlightDiagnostic()>;

/// Requires a finite f64 above \p limit (or equal, if \p inclusive).
static LogicalResult verifyNumber(EmitError emitError, StringRef name,
                                  FloatAttr value, double limit,
                                  bool inclusive = false) {
  if (!value.getType().isF64())
    return emitError() << "expects " << name << " to be f64, but got " << value;
  double number = value.getValueAsDouble();
  if (std::isfinite(number) && (inclusive ? number >= limit : number > limit))
    return success();
  return emitError() << "expects " << name << (inclusive ? " >= " : " > ")
                     << limit << ", but got " << number;
}

static LogicalResult verifyPositive(EmitError emitError, StringRef name,
                                    int64_t value) {
  if (value > 0)
    return success();
  return emitError() << "expects " << name << " > 0, but got " << value;
}

LogicalResult LinearScalingAttr::verify(EmitError emitError, FloatAttr factor) {
  return verifyNumber(emitError, "factor", factor, 1, /*inclusive=*/true);
}

LogicalResult Llama3ScalingAttr::verify(EmitError emitError, FloatAttr factor,
                                        FloatAttr low, FloatAttr high,
                                        int64_t original) {
  if (failed(verifyNumber(emitError, "factor", factor, 1, true)) ||
      failed(verifyNumber(emitError, "low_freq_factor", low, 0)) ||
      failed(verifyNumber(emitError, "high_freq_factor", high, 0)) ||
      failed(verifyPositive(emitError, "original", original)))
    return failure();
  if (high.getValueAsDouble() <= low.getValueAsDouble())
    return emitError() << "expects high_freq_factor > low_freq_factor, but got "
                       << high.getValueAsDouble() << " and "
                       << low.getValueAsDouble();
  return success();
}

LogicalResult YarnScalingAttr::verify(EmitError emitError, FloatAttr factor,
                                      int64_t original, FloatAttr betaFast,
                                      FloatAttr betaSlow,
                                      FloatAttr attentionFactor,
                                      bool truncate) {
  if (failed(verifyNumber(emitError, "factor", factor, 1, true)) ||
      failed(verifyPositive(emitError, "original", original)) ||
      failed(verifyNumber(emitError, "beta_slow", betaSlow, 0)) ||
      failed(verifyNumber(emitError, "beta_fast", betaFast, 0)) ||
      failed(verifyNumber(emitError, "attention_factor", attentionFactor, 0)))
    return failure();
  if (betaFast.getValueAsDouble() <= betaSlow.getValueAsDouble())
    return emitError() << "expects beta_fast > beta_slow, but got "
                       << betaFast.getValueAsDouble() << " and "
                       << betaSlow.getValueAsDouble();
  return success();
}

LogicalResult RotaryAttr::verify(EmitError emitError, int64_t dim,
                                 FloatAttr theta, RotaryLayout layout,
                                 Attribute scaling) {
  if (dim <= 0 || dim % 2 != 0)
    return emitError() << "expects dim to be even and positive, but got "
                       << dim;
  if (failed(verifyNumber(emitError, "theta", theta, 1)))
    return failure();
  if (scaling &&
      !isa<LinearScalingAttr, Llama3ScalingAttr, YarnScalingAttr>(scaling))
    return emitError() << "expects a linear, llama3 or yarn scaling, but got "
                       << scaling;
  return success();
}

LogicalResult WindowAttr::verify(EmitError emitError, int64_t tokens,
                                 int64_t sink) {
  if (failed(verifyPositive(emitError, "tokens", tokens)))
    return failure();
  // Positions are i32.
  for (auto [name, value] :
       {std::pair<StringRef, int64_t>("tokens", tokens), {"sink", sink}})
    if (value < 0 || value > INT32_MAX)
      return emitError() << "expects " << name << " from 0 to " << INT32_MAX
                         << ", but got " << value;
  return success();
}

LogicalResult RoutingAttr::verify(EmitError emitError, Scoring scoring,
                                  TopKMethod method, int64_t experts,
                                  int64_t topK, int64_t groups,
                                  int64_t topGroups, bool normalize,
                                  FloatAttr scale) {
  if (failed(verifyPositive(emitError, "experts", experts)) ||
      failed(verifyPositive(emitError, "top_k", topK)) ||
      failed(verifyPositive(emitError, "groups", groups)) ||
      failed(verifyPositive(emitError, "top_groups", topGroups)) ||
      failed(verifyNumber(emitError, "scale", scale, 0)))
    return failure();
  if (experts % groups != 0)
    return emitError() << "expects experts to be a multiple of groups, but got "
                       << experts << " and " << groups;
  if (topGroups > groups)
    return emitError() << "expects top_groups <= groups, but got " << topGroups
                       << " and " << groups;
  if ((method == TopKMethod::Greedy || method == TopKMethod::Hash) &&
      groups != 1)
    return emitError() << "expects one group for "
                       << stringifyTopKMethod(method) << ", but got " << groups;
  if (topK > experts / groups * topGroups)
    return emitError() << "expects top_k <= experts of the chosen groups, but "
                          "got "
                       << topK << " and " << experts / groups * topGroups;
  if (method == TopKMethod::NoAuxTC && groups > 1 && experts / groups < 2)
    return emitError() << "expects groups of two or more experts, whose two "
                          "best are summed, but got "
                       << experts / groups;
  return success();
}

LogicalResult CodebookAttr::verify(EmitError emitError,
                                   ArrayRef<int64_t> numbers) {
  if (numbers.size() != 16)
    return emitError() << "expects 16 numbers, but got " << numbers.size();
  for (int64_t number : numbers)
    if (number < -128 || number > 127)
      return emitError() << "expects numbers of 8 bits, but got " << number;
  return success();
}

LogicalResult CodebookAttr::verifyEncoding(ArrayRef<int64_t> shape,
                                           Type elementType,
                                           EmitError emitError) const {
  if (!elementType.isUnsignedInteger(4))
    return emitError() << "expects a table for ui4, but got " << elementType;
  return success();
}

CodebookAttr hadal::deepseek::getCodebook(Type type) {
  Attribute encoding = cast<RankedTensorType>(type).getEncoding();
  if (auto tiled = dyn_cast_or_null<TiledAttr>(encoding))
    return tiled.getCodebook();
  return dyn_cast_or_null<CodebookAttr>(encoding);
}

LogicalResult RecordAttr::verify(EmitError emitError, int64_t columns,
                                 int64_t bytes, int64_t tiles) {
  if (failed(verifyPositive(emitError, "columns", columns)) ||
      failed(verifyPositive(emitError, "bytes", bytes)))
    return failure();
  if (bytes % 64 != 0)
    return emitError() << "expects records of a multiple of 64 bytes, but got "
                       << bytes;
  if (tiles != 1 && tiles != 2)
    return emitError() << "expects tiles of 1 or 2 weights, but got " << tiles;
  return success();
}

LogicalResult TiledAttr::verify(EmitError emitError, int64_t rows,
                                int64_t columns, CodebookAttr codebook,
                                RecordAttr record) {
  if (rows != 16)
    return emitError() << "expects tiles of 16 rows, but got " << rows;
  if (!llvm::is_contained({1, 4, 8, 16, 32}, columns))
    return emitError() << "expects 1, 4, 8, 16 or 32 columns, but got "
                       << columns;
  return success();
}

LogicalResult TiledAttr::verifyEncoding(ArrayRef<int64_t> shape,
                                        Type elementType,
                                        EmitError emitError) const {
  if (shape.size() != 2 && shape.size() != 3)
    return emitError() << "expects a tiled weight to have 2 or 3 dimensions, "
                          "but got "
                       << shape.size();
  int64_t columns = 1;
  if (elementType.isInteger() &&
      !(elementType.isInteger(8) && getColumns() == 1))
    columns = getTileColumns(elementType.getIntOrFloatBitWidth());
  if (getCodebook() &&
      failed(getCodebook().verifyEncoding(shape, elementType, emitError)))
    return failure();
  if (getColumns() != columns)
    return emitError() << "expects tiles of " << columns << " columns for "
                       << elementType << ", but got " << getColumns();
  if (shape.back() % columns != 0)
    return emitError() << "expects rows of a multiple of " << columns
                       << " elements, but got " << shape.back();
  RecordAttr record = getRecord();
  if (!record)
    return success();
  if (record.getColumns() % columns != 0 ||
      shape.back() % record.getColumns() != 0)
    return emitError() << "expects records of a multiple of " << columns
                       << " columns that divides " << shape.back()
                       << ", but got " << record.getColumns();
  int64_t bits = elementType.getIntOrFloatBitWidth();
  if (record.getColumns() > record.getBytes() * 8 / bits / getRows())
    return emitError() << "expects records of " << record.getColumns()
                       << " columns to fit into " << record.getBytes()
                       << " bytes";
  return success();
}

LogicalResult KVCacheType::verify(EmitError emitError, CacheKind kind,
                                  int64_t layers, int64_t heads, int64_t keyDim,
                                  int64_t valueDim, Type element, int64_t group,
                                  int64_t indexDim) {
  if (failed(verifyPositive(emitError, "layers", layers)) ||
      failed(verifyPositive(emitError, "heads", heads)) ||
      failed(verifyPositive(emitError, "key_dim", keyDim)) ||
      failed(verifyPositive(emitError, "value_dim", valueDim)))
    return failure();
  if (indexDim < 0 || (indexDim && kind != CacheKind::Latent))
    return emitError()
           << "expects index_dim >= 0, and 0 for kind heads, but got "
           << indexDim;
  if (kind == CacheKind::Latent && (heads != 1 || keyDim <= valueDim))
    return emitError() << "expects a latent cache to have one head and key_dim "
                          "> value_dim, but got "
                       << heads << ", " << keyDim << " and " << valueDim;
  if (!element.isInteger(8)) {
    if (!element.isF32() && !element.isBF16() && !element.isF16())
      return emitError() << "expects elements of f32, bf16, f16 or i8, but got "
                         << element;
    if (group)
      return emitError() << "expects a group for elements of i8 only, but got "
                         << group << " for " << element;
    return success();
  }
  if (failed(verifyPositive(emitError, "group", group)))
    return failure();
  // So that no group has columns of a latent and of its rotated key.
  if (keyDim % group || valueDim % group)
    return emitError() << "expects a group that divides key_dim and value_dim, "
                          "but got "
                       << group << ", " << keyDim << " and " << valueDim;
  return success();
}

LogicalResult CompressedCacheType::verify(EmitError emitError, int64_t dim,
                                          int64_t indexDim,
                                          DenseI64ArrayAttr ratios,
                                          int64_t overlapping, Type element) {
  if (failed(verifyPositive(emitError, "dim", dim)) ||
      failed(verifyPositive(emitError, "index_dim", indexDim)) ||
      failed(verifyPositive(emitError, "overlapping", overlapping)) ||
      failed(verifyPositive(emitError, "layers", ratios.size())))
    return failure();
  for (int64_t ratio : ratios.asArrayRef())
    if (ratio < 0)
      return emitError() << "expects ratios >= 0, but got " << ratio;
  if (!element.isF32())
    return emitError() << "expects f32 elements, but got " << element;
  return success();
}

int64_t CompressedCacheType::countLayers(int64_t ratio) const {
  return llvm::count(getRatios().asArrayRef(), ratio);
}

llvm::SmallVector<int64_t> CompressedCacheType::getDistinctRatios() const {
  llvm::SmallVector<int64_t> distinct;
  for (int64_t ratio : getRatios().asArrayRef())
    if (ratio && !llvm::is_contained(distinct, ratio))
      distinct.push_back(ratio);
  llvm::sort(distinct);
  return distinct;
}

int64_t CompressedCacheType::getElementsPerToken() const {
  int64_t elements = 0;
  for (int64_t ratio : getRatios().asArrayRef()) {
    elements += getDim();
    if (ratio == 0)
      continue;
    bool overlaps = isOverlapping(ratio);
    int64_t columns = getDim() + (overlaps ? getIndexDim() : 0);
    elements += 2 * (overlaps ? 2 : 1) * columns; // State.
    elements += (columns + ratio - 1) / ratio;
  }
  return elements;
}
