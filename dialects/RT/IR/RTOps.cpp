// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The rt dialect: registration and verifiers. Each check names the constraint
// of the op's description that it is.

#include "dialects/RT/IR/RTOps.h"

#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace hadal::rt;

#include "dialects/RT/IR/RTDialect.cpp.inc"
#include "dialects/RT/IR/RTEnums.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/RT/IR/RTTypes.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/RT/IR/RTAttrs.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/RT/IR/RTOps.cpp.inc"

void RTDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/RT/IR/RTTypes.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/RT/IR/RTAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/RT/IR/RTOps.cpp.inc"
      >();
}

LogicalResult
WorkAttr::verify(llvm::function_ref<InFlightDiagnostic()> emitError,
                 StringRef op, bool outputs, bool selected, bool alternative,
                 int64_t weights, int64_t experts, int64_t expertsPerRow,
                 int64_t rowBytes, int64_t contextBytes, int64_t windowTokens,
                 int64_t rowF32Ops, int64_t rowInt8Ops, int64_t pairF32Ops,
                 int64_t contextF32Ops, int64_t pairExps, int64_t rowRounded,
                 int64_t leastRows, int64_t belowRows) {
  for (int64_t number :
       {weights, experts, expertsPerRow, rowBytes, contextBytes, windowTokens,
        rowF32Ops, rowInt8Ops, pairF32Ops, contextF32Ops, pairExps, rowRounded,
        leastRows, belowRows})
    if (number < 0) // C1
      return emitError() << "expects numbers >= 0, but got " << number;
  if (expertsPerRow > experts) // C1
    return emitError() << "expects experts_per_row <= experts, but got "
                       << expertsPerRow << " and " << experts;
  return success();
}

FailureOr<std::string> ProgramOp::getLayoutHashBytes() {
  std::string bytes;
  if (getLayoutHash().size() == 32 &&
      llvm::tryGetFromHex(getLayoutHash(), bytes))
    return bytes;
  return emitOpError("expects a layout_hash of 32 hexadecimal digits, but got ")
         << getLayoutHashAttr();
}

LogicalResult ProgramOp::verify() {
  for (int64_t size :
       {int64_t(getVocab()), int64_t(getHidden()), int64_t(getLayers()),
        int64_t(getContextLength()), int64_t(getPageTokens()),
        int64_t(getPageBytes()), int64_t(getWeightsBytes())})
    if (size <= 0) // C1
      return emitOpError("expects positive sizes, but got ") << size;
  for (int64_t size : {int64_t(getArenaPerToken()), int64_t(getArenaFixed())})
    if (size < 0) // C1
      return emitOpError("expects arena sizes >= 0, but got ") << size;
  for (int64_t tokens : {int64_t(getWindowTokens()), int64_t(getSinkTokens())})
    if (tokens < 0 || tokens > INT32_MAX) // C1
      return emitOpError("expects window_tokens and sink_tokens from 0 to ")
             << INT32_MAX << ", but got " << tokens;
  return success();
}

LogicalResult ProgramOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto entry =
      symbols.lookupNearestSymbolFrom<func::FuncOp>(*this, getEntryAttr());
  if (entry && entry.getNumArguments() == 1 && entry.getNumResults() == 0 &&
      isa<StepType>(entry.getArgumentTypes()[0]))
    return success();
  return emitOpError("expects entry ") // C2
         << getEntryAttr() << " to be a function from a step to nothing";
}

static bool isAligned(int64_t bytes) {
  return bytes >= 0 && bytes % alignmentBytes == 0;
}

LogicalResult WeightOp::verify() {
  if (isAligned(getOffset()))
    return success();
  return emitOpError("expects an offset that is a multiple of ") // C1
         << alignmentBytes << ", but got " << int64_t(getOffset());
}

LogicalResult AllocOp::verify() {
  if (getOffsetPerToken().has_value() != getOffsetFixed().has_value()) // C2
    return emitOpError("expects both offsets or none, but got one");
  for (int64_t bytes : {int64_t(getPerToken()), int64_t(getFixed()),
                        int64_t(getOffsetPerToken().value_or(0)),
                        int64_t(getOffsetFixed().value_or(0))})
    if (!isAligned(bytes)) // C1
      return emitOpError("expects sizes that are multiples of ")
             << alignmentBytes << ", but got " << bytes;
  return success();
}

LogicalResult ColumnsOp::verify() {
  auto input = cast<MemRefType>(getInput().getType());
  auto result = cast<MemRefType>(getResult().getType());
  SmallVector<int64_t> inputStrides, resultStrides;
  int64_t inputOffset, resultOffset;
  if (failed(input.getStridesAndOffset(inputStrides, inputOffset)) ||
      failed(result.getStridesAndOffset(resultStrides, resultOffset)) ||
      inputStrides != resultStrides || inputOffset != 0 || resultOffset != 0 ||
      input.getElementType() != result.getElementType() ||
      int64_t(getBegin()) < 0 ||
      int64_t(getBegin()) + result.getDimSize(1) > input.getDimSize(1)) // C1
    return emitOpError("expects columns within the rows of ")
           << input << ", but got " << result << " from " << getBegin();
  return success();
}

LogicalResult PageOp::verify() {
  if (int64_t(getPageBytes()) > 0 && int64_t(getLayerBytes()) > 0 &&
      int64_t(getOffset()) >= 0 && int64_t(getBase()) >= 0)
    return success();
  return emitOpError("expects positive sizes, an offset and a base >= 0, but "
                     "got ")
         << int64_t(getPageBytes()) << ", " << int64_t(getLayerBytes()) << ", "
         << int64_t(getOffset()) << " and " << int64_t(getBase()); // C1
}

void KernelOp::build(OpBuilder &builder, OperationState &state, StringRef name,
                     TypeRange argumentTypes) {
  state.addAttribute(getSymNameAttrName(state.name),
                     builder.getStringAttr(name));
  state.addAttribute(getArgumentTypesAttrName(state.name),
                     builder.getTypeArrayAttr(argumentTypes));
  Block &block = state.addRegion()->emplaceBlock();
  block.addArgument(StepType::get(builder.getContext()), state.location);
  block.addArgument(builder.getIndexType(), state.location);
  block.addArgument(builder.getIndexType(), state.location);
  for (Type type : argumentTypes)
    block.addArgument(type, state.location);
  ensureTerminator(*state.regions.front(), builder, state.location);
}

LogicalResult KernelOp::verify() {
  SmallVector<Type> expected = {StepType::get((*this)->getContext()),
                                IndexType::get((*this)->getContext()),
                                IndexType::get((*this)->getContext())};
  for (Type type : getArgumentTypes().getAsValueRange<TypeAttr>()) {
    if (!isa<MemRefType, IndexType>(type)) // C1
      return emitOpError("expects memref or index arguments, but got ") << type;
    expected.push_back(type);
  }
  if (!llvm::equal(getBody().getArgumentTypes(), expected)) // C1
    return emitOpError("expects a block of arguments (")
           << expected << "), but got (" << getBody().getArgumentTypes() << ")";
  return success();
}

LogicalResult ProductsOp::verify() {
  auto type = dyn_cast_or_null<MemRefType>(
      getWeights().empty() ? Type() : getWeights().front().getType());
  bool isTiled =
      type && type.getRank() == (getLeading() ? 4 : 3) &&
      type.getShape().back() == 16 &&
      (type.getElementType().isBF16() || type.getElementType().isF16() ||
       type.getElementType().isInteger(8));
  if (!isTiled || getWeights().size() > 2 ||
      !llvm::all_equal(getWeights().getTypes())) // C1
    return emitOpError("expects one weight, or two of one type, of bf16, f16 "
                       "or i8 [.., tiles, inner, 16], but got ")
           << getWeights().getTypes();
  size_t scales = type.getElementType().isInteger() ? getWeights().size() : 0;
  if (getScales().size() != scales) // C2
    return emitOpError("expects ")
           << scales << " scales, but got " << getScales().size();
  SmallVector<Type> expected(2, IndexType::get(getContext()));
  expected.append(getWeights().size(),
                  VectorType::get({16}, Float32Type::get(getContext())));
  if (!llvm::equal(getBody().getArgumentTypes(), expected)) // C3
    return emitOpError("expects a block of arguments (")
           << expected << "), but got (" << getBody().getArgumentTypes() << ")";
  if (int64_t(getEntriesPerRow()) < 1) // C4
    return emitOpError("expects entries_per_row > 0, but got ")
           << int64_t(getEntriesPerRow());
  return success();
}

int64_t BlockAttentionOp::getSharedBytes(int64_t slots, int64_t keyDim,
                                         int64_t valueDim, Type element,
                                         bool isRounded) {
  int64_t padded = llvm::alignTo(slots, 16);
  int64_t columns = llvm::alignTo(keyDim, 16), parts = isRounded ? 1 : 3;
  // Integers are bf16 where a token has one scale.
  bool hasScales = valueDim != 0 && element.isInteger();
  bool isHalf = isRounded || element.isBF16() || hasScales;
  int64_t tokens = isHalf ? 32 : 16, bytes = isHalf ? 2 : 4;
  int64_t query = parts * padded * (columns + 8) * 2;
  int64_t stage = tokens * (columns * bytes + 16);
  if (valueDim != 0)
    stage = columns * (tokens * bytes + 16) +
            tokens * (llvm::alignTo(valueDim, 16) * bytes + 16) +
            (hasScales ? 2 * tokens * 4 : 0);
  int64_t scores = (padded <= 32 ? 2 : 1) * padded * (tokens + 4) * 4;
  int64_t weights = parts * padded * (tokens + 8) * 2;
  return query + 2 * stage + scores + weights + 4 * padded * 4;
}

int64_t BlockAttentionOp::getSharedBytes() {
  return getSharedBytes(
      int64_t(getBlockRows() * getBlockHeads()), int64_t(getKeyDim()),
      getKvHeads() ? int64_t(getValueDim()) : 0, getElement(), getIsRounded());
}

LogicalResult BlockAttentionOp::verify() {
  bool isWhole = getResults().size() == 1 && getRows() && getBlockRowsNow();
  bool isSplit = getResults().size() == 2 && !getRows() && !getBlockRowsNow();
  if (!isWhole && !isSplit) // C1
    return emitOpError("expects a result with rows and a block of them, or two "
                       "without, but got ")
           << getResults().size();
  auto isPositive = [](uint64_t size) { return int64_t(size) > 0; };
  uint64_t sizes[] = {getHeads(),     getBlockHeads(), getBlockRows(),
                      getKeyDim(),    getValueDim(),   getPageTokens(),
                      getPageBytes(), getLayerBytes()};
  int64_t kvHeads = int64_t(getKvHeads());
  if (!llvm::all_of(sizes, isPositive) || getHeads() % getBlockHeads() != 0 ||
      (kvHeads == 0 && getValueDim() > getKeyDim()) ||
      (getScaleGroup() && getKeyDim() % getScaleGroup() != 0)) // C2
    return emitOpError("expects positive sizes, heads in whole blocks, and "
                       "values of latents and groups in keys, but got ")
           << getHeads() << " heads in blocks of " << getBlockHeads()
           << ", keys of " << getKeyDim() << " columns, values of "
           << getValueDim() << " and groups of " << getScaleGroup();
  Type element = getElement();
  bool isFloat = element.isF32() || element.isF16() || element.isBF16();
  if (getScaleGroup() ? !element.isInteger(8) : !isFloat) // C3
    return emitOpError("expects numbers of f32, f16 or bf16, or of i8 with "
                       "scales, but got ")
           << element << " with groups of " << getScaleGroup();
  if (kvHeads == 0 && !getRopeQuery()) // C4
    return emitOpError("expects rope_query with latents");
  if (kvHeads == 0)
    return success();
  int64_t heads = int64_t(getHeads());
  int64_t bytes = element.getIntOrFloatBitWidth() / 8;
  std::optional<int64_t> values = hadal::checkedProduct(
      {int64_t(getPageTokens()), int64_t(getValueDim()), bytes});
  std::optional<int64_t> end =
      values ? hadal::checkedSum(int64_t(getValueOffset()), *values)
             : std::nullopt;
  if (kvHeads < 0 || heads % kvHeads != 0 ||
      heads / kvHeads % int64_t(getBlockHeads()) != 0 || !end ||
      *end > int64_t(getHeadBytes()) || getRopeQuery() || getSelected() ||
      getIsRounded()) // C4
    return emitOpError("expects blocks of heads with one key, in head_bytes, "
                       "and no rope_query, selected or is_rounded, but got ")
           << kvHeads << " keys for " << heads << " heads in blocks of "
           << getBlockHeads() << ", of " << getHeadBytes() << " bytes";
  return success();
}

LogicalResult CountOp::verify() {
  auto type = cast<MemRefType>(getBuffer().getType());
  if (!type.isDynamicDim(0) && type.getDimSize(0) < 1) // C1
    return emitOpError("expects room for a number, but got ") << type;
  return success();
}

LogicalResult ProbeOp::verify() {
  bool hasExperts = bool(getExperts());
  if ((int64_t(getTopK()) > 0) != hasExperts ||
      (int64_t(getExpertCount()) > 0) != hasExperts) // C1
    return emitOpError("expects numbers of experts, with experts, but got ")
           << int64_t(getTopK()) << " of " << int64_t(getExpertCount());
  return success();
}

std::string hadal::rt::joinAdapterNames(ProgramOp program) {
  std::string joined;
  if (auto names = program->getAttrOfType<ArrayAttr>(adaptersAttrName))
    for (auto name : names.getAsRange<StringAttr>())
      joined += (name.getValue() + StringRef("\0", 1)).str();
  return joined;
}

LogicalResult DispatchOp::verify() {
  ArrayRef<int64_t> pairs = getResultBuffers().value_or(ArrayRef<int64_t>());
  llvm::SmallDenseSet<int64_t> seen;
  for (size_t i = 0; i < pairs.size(); i += 2) {
    MemRefType type;
    if (pairs[i] >= 0 && pairs[i] < int64_t(getArguments().size()))
      type = dyn_cast<MemRefType>(getArguments()[unsigned(pairs[i])].getType());
    if (i + 1 == pairs.size() || !type || type.getRank() != 2 ||
        !type.getElementType().isF32() || pairs[i + 1] < 1 ||
        pairs[i + 1] > type.getDimSize(1) ||
        !seen.insert(pairs[i]).second) // C2
      return emitOpError(
                 "expects pairs of an argument that is a memref<?xNxf32> "
                 "and of columns, 1 to N, but got ")
             << getResultBuffersAttr();
  }
  return success();
}

LogicalResult DispatchOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto kernel =
      symbols.lookupNearestSymbolFrom<KernelOp>(*this, getKernelAttr());
  if (!kernel) // C1
    return emitOpError("expects ") << getKernelAttr() << " to be a kernel";
  auto expected = kernel.getArgumentTypes().getAsValueRange<TypeAttr>();
  if (!llvm::equal(expected, getArguments().getTypes())) { // C1
    InFlightDiagnostic diag = emitOpError("expects arguments ")
                              << kernel.getArgumentTypes() << ", but got ("
                              << getArguments().getTypes() << ")";
    diag.attachNote(kernel.getLoc()) << "kernel declared here";
    return diag;
  }
  return success();
}
