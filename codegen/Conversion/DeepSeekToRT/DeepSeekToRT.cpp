// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Forms dispatches: functions of deepseek ops become host functions that
// allocate buffers in the arena and dispatch one kernel after the other.

#include "codegen/Conversion/DeepSeekToRT/CompressedLayout.h"
#include "codegen/Conversion/DeepSeekToRT/DescribeWork.h"
#include "codegen/Conversion/DeepSeekToRT/IntegerProduct.h"
#include "codegen/Passes.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/RT/IR/RTOps.h"
#include "hadal_rt/abi.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/SHA256.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace hadal {
#define GEN_PASS_DEF_CONVERTDEEPSEEKTORT
#include "codegen/Passes.h.inc"
} // namespace hadal

/// Attribute of a weight: its byte offset in the weights section.
static constexpr StringLiteral offsetName = "rt.offset";

//===----------------------------------------------------------------------===//
// Stored weights
//===----------------------------------------------------------------------===//

static std::optional<double> limitOf(std::optional<APFloat> limit) {
  return limit ? std::optional(limit->convertToDouble()) : std::nullopt;
}

/// How kernels see a weight of type \p type. With records, the dimension that
/// they cut becomes two: of records, and of what is in one.
static MemRefType storedType(RankedTensorType type) {
  MLIRContext *context = type.getContext();
  Type element = type.getElementType();
  if (isa<Float8E4M3FNType>(element))
    element = IntegerType::get(context, 8);
  SmallVector<int64_t> shape(type.getShape());
  if (auto tiled = dyn_cast_or_null<TiledAttr>(type.getEncoding())) {
    int64_t &rows = shape[shape.size() - 2];
    rows = ceilDiv(rows, tileRows);
    shape.back() /= tiled.getColumns();
    if (element.isInteger() && tiled.getColumns() > 1) {
      // Words of 4 bytes of each row.
      shape.back() *=
          tiled.getColumns() * int64_t(element.getIntOrFloatBitWidth()) / 32;
      element = IntegerType::get(context, 8);
      shape.push_back(tileRows * 4);
    } else {
      shape.push_back(tileRows);
    }
  } else if (shape.size() == 1) {
    // A weight's slot is a multiple of 64 bytes; vectors may read all of it.
    shape[0] = roundUp(shape[0], tileRows);
  }
  auto tiled = dyn_cast_or_null<TiledAttr>(type.getEncoding());
  RecordAttr record = tiled ? tiled.getRecord() : RecordAttr();
  if (!record)
    return MemRefType::get(shape, element);
  int64_t records = type.getShape().back() / record.getColumns();
  auto cut = shape.end() - 2;
  *cut /= records;
  shape.insert(cut, records);
  int64_t recordSize =
      record.getBytes() * 8 / int64_t(element.getIntOrFloatBitWidth());
  SmallVector<int64_t> strides = {records * recordSize * record.getTiles(),
                                  recordSize, shape.back(), 1};
  if (shape.size() > strides.size())
    strides.insert(strides.begin(), shape[1] * strides.front());
  return MemRefType::get(shape, element,
                         StridedLayoutAttr::get(context, 0, strides));
}

/// Bytes of \p weight, with those of what shares its records.
static std::optional<int64_t> storedBytes(WeightOp weight) {
  MemRefType type = storedType(weight.getWeightType());
  SmallVector<int64_t> factors(type.getShape());
  factors.push_back(type.getElementTypeBitWidth() / 8);
  if (RecordAttr record = weight.getRecord())
    factors = {weight.getTileCount(), record.getTiles(),
               weight.getTileRecords(), record.getBytes()};
  std::optional<int64_t> bytes = checkedProduct(factors);
  if (!bytes || *bytes > INT64_MAX - rt::alignmentBytes)
    return std::nullopt;
  return roundUp(*bytes, rt::alignmentBytes);
}

/// Width of a row of activations in memory: whole vectors of 64 bytes.
static int64_t paddedColumns(int64_t columns) {
  return roundUp(columns, tileRows);
}

static int64_t columnsOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape().back();
}

//===----------------------------------------------------------------------===//
// One function
//===----------------------------------------------------------------------===//

namespace {

/// What all functions of a module share while they are converted.
struct Program {
  ModuleOp module;
  SymbolTable symbols;
  KernelSet kernels;
  KernelOptions options;
  bool describesWork = false;
  int64_t context = 0;
  int64_t weightsBytes = 0;
  /// Of the cache that the entry takes; 0: none yet.
  int64_t pageBytes = 0;
  /// Tables by what is in them; two layouts of pairs share one.
  llvm::MapVector<Attribute, WeightOp> rotaryTables;

  Program(ModuleOp module, KernelOptions options)
      : module(module), symbols(module), kernels(module, options),
        options(options) {}

  LogicalResult place(WeightOp weight);
  FailureOr<WeightOp> rotaryTable(Location loc, RotaryAttr rotary);
};

/// How inputs are rounded: group, whether sums are integers, and times what,
/// digits, and whether scales are powers of two.
using InputRounding = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>;

/// Converts one function to a host function.
class FunctionConverter {
public:
  FunctionConverter(Program &program, func::FuncOp from)
      : program(program), from(from), b(from.getLoc(), from.getContext()) {}

  /// Replaces the function; its callers are converted later.
  LogicalResult run(bool isEntry);

private:
  LogicalResult convert(Operation *op);
  WorkRows workRowsOf(Operation &op) const;
  LogicalResult convertArguments(bool isEntry);

  // Each gives the results of its op a buffer and dispatches what fills it.
  LogicalResult convert(UseWeightOp op);
  LogicalResult convert(EmbedOp op);
  LogicalResult convertIntegerEmbed(EmbedOp op, Value table, Value out);
  LogicalResult convert(RMSNormOp op);
  LogicalResult convert(LayerNormOp op);
  LogicalResult convert(RoundToGridOp op);
  LogicalResult convert(LinearOp op);
  LogicalResult convert(LMHeadOp op);
  LogicalResult convert(AdaptOp op);
  LogicalResult convert(HeadLinearOp op);
  LogicalResult convert(SplitOp op);
  LogicalResult convert(RotaryOp op);
  LogicalResult convert(AttentionOp op);
  LogicalResult convert(SelectKeysOp op);
  LogicalResult convert(AbsorbedAttentionOp op);
  std::optional<ExpandedShape> getExpanded(AbsorbedAttentionOp op);
  Value ifManyRows(Value count);
  void findRuns(AbsorbedAttentionOp op);
  void attendExpanded(AbsorbedAttentionOp op, HeadLinearOp value, Value out);
  using AttentionKernel =
      function_ref<rt::KernelOp(TypeRange, AttentionPlan, bool isSplit)>;
  /// Dispatches attention over the cache: blocks of rows, or, in a step of few
  /// rows, segments of the context that are merged then.
  LogicalResult attend(Operation *op, Value out, PageLayout page, int64_t heads,
                       WindowAttr window, int64_t selectedTokens,
                       ArrayRef<Value> inputs, Value positions, Value rows,
                       AttentionKernel kernel);
  LogicalResult convert(SwiGLUOp op);
  /// The product of gate and up in one pass over their input.
  LogicalResult convertGated(SwiGLUOp op, LinearOp gate, LinearOp up);
  LogicalResult convert(AddOp op);
  LogicalResult convert(GatherRowsOp op);
  LogicalResult convert(ScatterRowsOp op);
  LogicalResult convert(SelectRowsOp op);
  LogicalResult convert(InfluenceOp op);
  LogicalResult convert(RouterOp op);
  LogicalResult convert(ExpertsOp op);
  LogicalResult convert(UnitNormOp op);
  LogicalResult convert(HashRouterOp op);
  LogicalResult convert(HyperExpandOp op);
  LogicalResult convert(HyperMixOp op);
  LogicalResult convert(HyperUpdateOp op);
  LogicalResult convert(HyperHeadOp op);
  LogicalResult convert(CompressOp op);
  LogicalResult convert(SelectEntriesOp op);
  LogicalResult convert(CompressedAttentionOp op);
  /// Products of the residual streams with the rows of \p weight.
  Value project(Value input, Value weight);
  FailureOr<Value> rotaryTable(RotaryAttr rotary);
  /// Where \p cache keeps what it has; refuses pages that cut an entry.
  FailureOr<CompressedLayout> layoutOf(Operation *op,
                                       CompressedCacheType cache);
  LogicalResult convert(ProbeOp op);
  LogicalResult convert(func::CallOp op);
  LogicalResult convert(func::ReturnOp op);

  /// What products with integers of \p shape read of \p input, `[rows, inner]`:
  /// bytes, scales and sums of its groups. Made once for all ops that read
  /// it alike.
  struct Quantized {
    Value values, scales, sums;
  };
  Quantized quantize(Value input, const IntegerShape &shape, Value rows,
                     int64_t rowsPerToken = 1);
  Quantized allocQuantized(const IntegerShape &shape, int64_t rowsPerToken);
  /// How all that read \p op, a norm or a round_to_grid, take it as integers,
  /// if they do so alike.
  std::optional<IntegerShape> roundedShape(Operation *op) const;
  /// How a product with a weight reads \p input: see `integerShape`.
  IntegerShape shapeOf(Value input, Value weight, Value scales, Value offsets,
                       std::optional<uint64_t> activationGroup) const;
  LogicalResult convertRounded(RMSNormOp op, const IntegerShape &shape);
  /// \p residual may be null: a buffer of rows that is added.
  LogicalResult convertIntegerLinear(Operation *op, Value oldInput,
                                     Value oldWeight, Value oldBias,
                                     Value oldScales, Value oldOffsets,
                                     Value residual, Value oldResult,
                                     std::optional<uint64_t> activationGroup);

  /// The rows of \p input, a buffer of \p columns columns, as products with
  /// \p bf16Inputs read them: as they are, or rounded, once for all ops.
  Value inputOf(Value input, int64_t columns, bool bf16Inputs, Value rows,
                int64_t rowsPerToken = 1);

  Value at(Value old) { return mapping.lookup(old); }
  /// Rows of \p old: the step's tokens, or some of them.
  Value rowsOf(Value old) {
    Value count = rowCounts.lookup(old);
    return count ? count : tokenCount;
  }
  /// Lets \p result have as many rows as \p like.
  void countRowsLike(Value result, Value like) {
    if (Value count = rowCounts.lookup(like))
      rowCounts[result] = count;
  }
  /// The buffer for a result: the function's own out argument if the value is
  /// returned, or a new slice of the arena.
  Value bufferFor(Value result, Value rowsLike, Type element = {});
  Value alloc(int64_t perToken, int64_t fixed, MemRefType type) {
    return rt::AllocOp::create(b, type, step, perToken, fixed, IntegerAttr(),
                               IntegerAttr());
  }
  void dispatch(rt::KernelOp kernel, Value items, ValueRange arguments) {
    rt::DispatchOp::create(b, step, SymbolRefAttr::get(kernel), items,
                           arguments);
  }

  Program &program;
  func::FuncOp from;
  func::FuncOp to;
  KernelBuilder b;
  IRMapping mapping;
  Value step, tokenCount, outputCount;
  /// The runs of rows that attention leaves to `attendExpanded`.
  struct Runs {
    Value ends, span;
  };
  llvm::DenseMap<Operation *, Runs> runsOf;
  /// How many rows old values have that do not have one for each token.
  llvm::DenseMap<Value, Value> rowCounts;
  /// Buffers that the caller, or the step, gives for returned values.
  llvm::DenseMap<Value, Value> returned;
  /// What experts have inside, a row a slot, by their results.
  llvm::DenseMap<Value, Value> insideExperts;
  /// Inputs that were rounded to bf16, by buffer.
  llvm::DenseMap<Value, Value> inBF16;
  /// Rounded inputs that are there already, by buffer.
  llvm::DenseMap<std::pair<Value, InputRounding>, Quantized> quantized;
};

} // namespace

LogicalResult Program::place(WeightOp weight) {
  if (weight->hasAttr(offsetName))
    return success();
  Builder builder(weight.getContext());
  if (FlatSymbolRefAttr beside = weight.getBesideAttr()) {
    auto base = symbols.lookup<WeightOp>(beside.getValue());
    if (failed(place(base)))
      return failure();
    int64_t offset = base->getAttrOfType<IntegerAttr>(offsetName).getInt();
    weight->setAttr(offsetName, builder.getI64IntegerAttr(
                                    offset + int64_t(*weight.getAt())));
    return success();
  }
  std::optional<int64_t> bytes = storedBytes(weight);
  std::optional<int64_t> end =
      bytes ? checkedSum(weightsBytes, *bytes) : std::nullopt;
  if (!end)
    return weight.emitOpError("expects weights of at most 2^63 bytes");
  weight->setAttr(offsetName, builder.getI64IntegerAttr(weightsBytes));
  weightsBytes = *end;
  return success();
}

FailureOr<WeightOp> Program::rotaryTable(Location loc, RotaryAttr rotary) {
  auto key =
      RotaryAttr::get(rotary.getContext(), rotary.getDim(), rotary.getTheta(),
                      RotaryLayout::HalfSplit, rotary.getScaling());
  WeightOp &table = rotaryTables[key];
  if (table)
    return table;
  OpBuilder builder(rotary.getContext());
  auto type =
      RankedTensorType::get({context, rotary.getDim()}, builder.getF32Type());
  builder.setInsertionPointToStart(module.getBody());
  table = WeightOp::create(
      builder, loc, "rotary_table." + std::to_string(rotaryTables.size() - 1),
      type);
  builder.setInsertionPointToStart(&table.getRecipe().emplaceBlock());
  YieldOp::create(builder, loc, RotaryTableOp::create(builder, loc, type, key));
  symbols.insert(table);
  if (failed(place(table)))
    return failure();
  return table;
}

Value FunctionConverter::bufferFor(Value result, Value rowsLike, Type element) {
  countRowsLike(result, rowsLike);
  if (Value buffer = returned.lookup(result)) {
    mapping.map(result, buffer);
    return buffer;
  }
  int64_t columns = columnsOf(result), stride = paddedColumns(columns);
  // The padding is part of the row: kernels store whole vectors.
  Value buffer =
      alloc(stride * 4, 0, rowsType(b.getContext(), stride, stride, element));
  mapping.map(result, buffer);
  return buffer;
}

LogicalResult FunctionConverter::convertArguments(bool isEntry) {
  MLIRContext *context = b.getContext();
  auto idsType =
      MemRefType::get({ShapedType::kDynamic}, IntegerType::get(context, 32));
  SmallVector<Type> types = {rt::StepType::get(context)};
  // What each old argument becomes; null for those that are not passed on.
  SmallVector<Type> newTypes;
  for (BlockArgument argument : from.getArguments()) {
    Type type = argument.getType(), newType;
    if (auto cache = dyn_cast<KVCacheType>(type)) {
      // A key and a value have one scale each in their kernels.
      if (cache.getKind() == CacheKind::Heads && cache.getGroup() &&
          (cache.getGroup() != cache.getKeyDim() ||
           cache.getGroup() != cache.getValueDim()))
        return from.emitOpError("expects a cache whose group is key_dim and "
                                "value_dim to lower, but got ")
               << cache;
      program.pageBytes =
          PageLayout::get(cache, program.options.pageTokens).pageBytes();
    } else if (auto cache = dyn_cast<CompressedCacheType>(type)) {
      program.pageBytes =
          CompressedLayout::get(cache, program.options.pageTokens).pageBytes;
    } else if (auto tensor = dyn_cast<RankedTensorType>(type)) {
      if (tensor.hasStaticShape())
        newType = storedType(tensor);
      else if (tensor.getRank() == 1)
        newType = idsType;
      else
        newType = rowsType(context, paddedColumns(columnsOf(argument)),
                           paddedColumns(columnsOf(argument)),
                           tensor.getElementType());
    } else if (type.isIndex()) {
      newType = type;
    } else {
      return from.emitOpError("has an argument that cannot be lowered: ")
             << type;
    }
    newTypes.push_back(isEntry ? Type() : newType);
    if (newTypes.back())
      types.push_back(newType);
  }
  size_t firstResult = types.size();
  if (!isEntry)
    for (Type type : from.getFunctionType().getResults()) {
      auto tensor = cast<RankedTensorType>(type);
      int64_t stride = paddedColumns(tensor.getShape().back());
      types.push_back(
          rowsType(context, stride, stride, tensor.getElementType()));
    }

  // Named when the old function is gone.
  OpBuilder builder(from);
  to = func::FuncOp::create(builder, from.getLoc(), from.getName(),
                            FunctionType::get(context, types, {}));
  to.setVisibility(from.getVisibility());
  Block *block = to.addEntryBlock();
  b.setInsertionPointToStart(block);
  step = block->getArgument(0);
  tokenCount = rt::TokensOp::create(b, step);
  auto terminator = cast<func::ReturnOp>(from.front().getTerminator());
  if (isEntry) {
    outputCount = rt::OutputsOp::create(b, step);
    using Kind = rt::InputKind;
    const Kind kinds[] = {Kind::TokenIds, Kind::Positions, Kind::Sequences,
                          Kind::OutputRows};
    for (auto [argument, kind] :
         llvm::zip(from.getArguments().take_front(4), kinds))
      mapping.map(argument, rt::InputOp::create(b, idsType, step, kind));
    rowCounts[from.getArgument(3)] = outputCount;
    Value logits = terminator.getOperand(0);
    int64_t vocab = columnsOf(logits);
    returned[logits] =
        rt::LogitsOp::create(b, rowsType(context, vocab, vocab), step);
    return success();
  }
  size_t next = 1;
  for (auto [argument, type] : llvm::zip(from.getArguments(), newTypes))
    if (type)
      mapping.map(argument, block->getArgument(next++));
  for (auto [i, value] : llvm::enumerate(terminator.getOperands())) {
    if (!value.getDefiningOp() || value.getDefiningOp<SplitOp>() ||
        returned.contains(value))
      return terminator.emitOpError("expects results that ops of the function "
                                    "compute, each returned once");
    returned[value] = block->getArgument(firstResult + i);
  }
  return success();
}

LogicalResult FunctionConverter::run(bool isEntry) {
  if (from.getBody().getBlocks().size() != 1)
    return from.emitOpError("expects one block");
  if (failed(convertArguments(isEntry)))
    return failure();
  for (Operation &op : from.front()) {
    b.setLoc(op.getLoc());
    Operation *last = &to.front().back();
    if (failed(convert(&op)))
      return failure();
    if (program.describesWork)
      describeWork(
          &op,
          llvm::make_range(std::next(last->getIterator()), to.front().end()),
          mapping, workRowsOf(op));
  }
  program.symbols.erase(from);
  program.symbols.insert(to);
  return success();
}

WorkRows FunctionConverter::workRowsOf(Operation &op) const {
  Value count;
  for (Value result : op.getResults())
    count = rowCounts.lookup(result);
  // The gate itself judges all tokens.
  if (!count || isa<SelectRowsOp>(op))
    return WorkRows::Tokens;
  return count == outputCount ? WorkRows::Outputs : WorkRows::Selected;
}

LogicalResult FunctionConverter::convert(Operation *op) {
  return llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case<UseWeightOp, EmbedOp, RMSNormOp, LayerNormOp, LinearOp, LMHeadOp,
            RoundToGridOp, AdaptOp, HeadLinearOp, SplitOp, RotaryOp,
            AttentionOp, SelectKeysOp, AbsorbedAttentionOp, SwiGLUOp, AddOp,
            GatherRowsOp, ScatterRowsOp, SelectRowsOp, InfluenceOp, RouterOp,
            ExpertsOp, UnitNormOp, HashRouterOp, HyperExpandOp, HyperMixOp,
            HyperUpdateOp, HyperHeadOp, CompressOp, SelectEntriesOp,
            CompressedAttentionOp, ProbeOp, func::CallOp, func::ReturnOp>(
          [&](auto op) { return convert(op); })
      .Case([&](LatentAttentionOp op) {
        return op.emitOpError("has no lowering in its expanded form; run "
                              "-deepseek-absorb-latent-attention first");
      })
      .Default([&](Operation *op) -> LogicalResult {
        if (op->getDialect()->getNamespace() == "arith") {
          b.clone(*op, mapping);
          return success();
        }
        return op->emitOpError("has no lowering to rt");
      });
}

LogicalResult FunctionConverter::convert(UseWeightOp op) {
  auto weight = program.symbols.lookup<WeightOp>(op.getName());
  if (failed(program.place(weight)))
    return failure();
  auto offset = weight->getAttrOfType<IntegerAttr>(offsetName);
  mapping.map(op.getResult(),
              rt::WeightOp::create(b, storedType(weight.getWeightType()), step,
                                   offset, b.getStringAttr(op.getName())));
  return success();
}

LogicalResult FunctionConverter::convert(EmbedOp op) {
  Value table = at(op.getTable());
  Value out = bufferFor(op.getResult(), op.getTokens());
  if (op.getScales())
    return convertIntegerEmbed(op, table, out);
  SmallVector<Value> arguments = {at(op.getTokens()), table, out};
  dispatch(
      program.kernels.embed(TypeRange(arguments), columnsOf(op.getResult())),
      tokenCount, arguments);
  return success();
}

LogicalResult FunctionConverter::convert(RMSNormOp op) {
  if (!cast<MemRefType>(at(op.getWeight()).getType()).getElementType().isF32())
    return op.emitOpError("expects an f32 weight to lower, but got ")
           << op.getWeight().getType();
  if (std::optional<IntegerShape> shape = roundedShape(op))
    return convertRounded(op, *shape);
  Value out = bufferFor(op.getResult(), op.getInput());
  SmallVector<Value> arguments = {at(op.getInput()), at(op.getWeight()), out};
  dispatch(program.kernels.rmsNorm(TypeRange(arguments),
                                   columnsOf(op.getInput()),
                                   op.getEpsilon().convertToFloat()),
           rowsOf(op.getInput()), arguments);
  return success();
}

LogicalResult FunctionConverter::convert(LayerNormOp op) {
  Value out = bufferFor(op.getResult(), op.getInput());
  SmallVector<Value> arguments = {at(op.getInput()), at(op.getWeight()),
                                  at(op.getBias()), out};
  for (size_t i : {1, 2})
    if (!cast<MemRefType>(arguments[i].getType()).getElementType().isF32())
      return op.emitOpError("expects an f32 weight and bias to lower, but got ")
             << op.getWeight().getType() << " and " << op.getBias().getType();
  dispatch(program.kernels.layerNorm(TypeRange(arguments),
                                     columnsOf(op.getInput()),
                                     op.getEpsilon().convertToFloat()),
           rowsOf(op.getInput()), arguments);
  return success();
}

/// Bits of an integer weight, the elements that share a scale, and how inputs
/// are read, which are not rounded without \p activationGroup. \p offsets may
/// be null.
static IntegerShape integerShape(Value weight, Value scales, Value offsets,
                                 std::optional<uint64_t> activationGroup) {
  auto type = cast<RankedTensorType>(weight.getType());
  int64_t inner = type.getShape().back(), group = getScaleGroup(weight, scales);
  CodebookAttr codebook = getCodebook(type);
  auto tiled = dyn_cast_or_null<TiledAttr>(type.getEncoding());
  RecordAttr record = tiled ? tiled.getRecord() : RecordAttr();
  // The largest power of two of which a sum of products is exact in f32.
  int64_t part = std::min<int64_t>(group & -group, 128);
  return {type.getShape()[type.getRank() - 2],
          inner,
          int64_t(type.getElementTypeBitWidth()),
          group,
          activationGroup ? int64_t(*activationGroup) : part,
          activationGroup ? 1 : inputDigits,
          type.getElementType().isUnsignedInteger(),
          bool(offsets),
          getElementTypeOrSelf(scales),
          offsets ? getElementTypeOrSelf(offsets) : Type(),
          codebook ? codebook.getNumbers() : ArrayRef<int64_t>(),
          record ? record.getColumns() : 0};
}

static InputRounding roundingOf(const IntegerShape &shape,
                                DotProductKind dotProduct) {
  std::optional<int64_t> factor = sumFactor(shape, dotProduct);
  return {shape.activationGroup, factor.has_value(), factor.value_or(0),
          shape.digits, shape.hasPowers()};
}

FunctionConverter::Quantized
FunctionConverter::quantize(Value input, const IntegerShape &shape, Value rows,
                            int64_t rowsPerToken) {
  Quantized &result =
      quantized[{input, roundingOf(shape, program.options.dotProduct)}];
  if (result.values)
    return result;
  result = allocQuantized(shape, rowsPerToken);
  SmallVector<Value> arguments = {input, result.values, result.scales,
                                  result.sums};
  TypeRange types(arguments);
  dispatch(shape.digits > 1
               ? program.kernels.splitRows(types, shape)
               : program.kernels.quantizeRows(types, shape,
                                              /*epsilon=*/std::nullopt),
           rows, arguments);
  return result;
}

FunctionConverter::Quantized
FunctionConverter::allocQuantized(const IntegerShape &shape,
                                  int64_t rowsPerToken) {
  int64_t columns = shape.inner, group = shape.activationGroup;
  int64_t bytes = roundUp(columns, rt::alignmentBytes);
  int64_t groups = paddedColumns(columns / group);
  MLIRContext *context = b.getContext();
  Type i32 = b.getI32Type();
  int64_t perToken = rowsPerToken * shape.digits;
  Quantized result;
  result.values =
      alloc(perToken * bytes, 0, rowsType(context, bytes / 4, bytes / 4, i32));
  result.scales =
      alloc(rowsPerToken * groups * 4, 0, rowsType(context, groups, groups));
  bool areIntegers = sumFactor(shape, program.options.dotProduct).has_value();
  result.sums = alloc(
      (areIntegers ? perToken : rowsPerToken) * groups * 4, 0,
      rowsType(context, groups, groups, areIntegers ? i32 : b.getF32Type()));
  return result;
}

Value FunctionConverter::inputOf(Value input, int64_t columns, bool bf16Inputs,
                                 Value rows, int64_t rowsPerToken) {
  if (!bf16Inputs || program.kernels.roundsInPlace())
    return input;
  Value &rounded = inBF16[input];
  if (rounded)
    return rounded;
  int64_t stride = paddedColumns(columns / 2);
  rounded = alloc(rowsPerToken * stride * 4, 0,
                  rowsType(b.getContext(), stride, stride, b.getI32Type()));
  Value arguments[] = {input, rounded};
  dispatch(program.kernels.roundRows(TypeRange(ValueRange(arguments)), columns),
           rows, arguments);
  return rounded;
}

std::optional<IntegerShape>
FunctionConverter::roundedShape(Operation *op) const {
  std::optional<IntegerShape> shape;
  DotProductKind dotProduct = program.options.dotProduct;
  bool isOnGrid = isa<RoundToGridOp>(op);
  for (Operation *user : op->getUsers()) {
    auto shapeOf = [&](auto product) -> std::optional<IntegerShape> {
      if (product.getInput() != op->getResult(0) ||
          !getElementTypeOrSelf(product.getWeight()).isInteger())
        return std::nullopt;
      return integerShape(product.getWeight(), product.getScales(),
                          product.getOffsets(), product.getActivationGroup());
    };
    std::optional<IntegerShape> one =
        llvm::TypeSwitch<Operation *, std::optional<IntegerShape>>(user)
            .Case<LinearOp, LMHeadOp>(shapeOf)
            .Default(std::nullopt);
    if (!one || (one->digits > 1) != isOnGrid ||
        (shape &&
         roundingOf(*one, dotProduct) != roundingOf(*shape, dotProduct)))
      return std::nullopt;
    shape = one;
  }
  if (shape && isOnGrid)
    shape->digits = gridDigits;
  return shape;
}

IntegerShape
FunctionConverter::shapeOf(Value input, Value weight, Value scales,
                           Value offsets,
                           std::optional<uint64_t> activationGroup) const {
  IntegerShape shape = integerShape(weight, scales, offsets, activationGroup);
  if (auto rounded = input.getDefiningOp<RoundToGridOp>();
      rounded && roundedShape(rounded))
    shape.digits = gridDigits;
  return shape;
}

LogicalResult FunctionConverter::convert(RoundToGridOp op) {
  Value input = at(op.getInput()), grid = at(op.getGrid());
  int64_t columns = columnsOf(op.getInput());
  std::optional<IntegerShape> shape = roundedShape(op);
  if (!shape) {
    SmallVector<Value> arguments = {input, grid,
                                    bufferFor(op.getResult(), op.getInput())};
    dispatch(program.kernels.roundToGrid(TypeRange(arguments), columns),
             rowsOf(op.getInput()), arguments);
    return success();
  }
  DotProductKind dotProduct = program.options.dotProduct;
  Quantized result = allocQuantized(*shape, /*rowsPerToken=*/1);
  SmallVector<Value> arguments = {input, grid, result.values, result.scales,
                                  result.sums};
  dispatch(program.kernels.splitGrid(TypeRange(arguments), *shape),
           rowsOf(op.getInput()), arguments);
  countRowsLike(op.getResult(), op.getInput());
  mapping.map(op.getResult(), result.values);
  quantized[{result.values, roundingOf(*shape, dotProduct)}] = result;
  return success();
}

/// The norm in the kernel that rounds it.
LogicalResult FunctionConverter::convertRounded(RMSNormOp op,
                                                const IntegerShape &shape) {
  DotProductKind dotProduct = program.options.dotProduct;
  Quantized result = allocQuantized(shape, /*rowsPerToken=*/1);
  SmallVector<Value> arguments = {at(op.getInput()), at(op.getWeight()),
                                  result.values, result.scales, result.sums};
  dispatch(program.kernels.quantizeRows(TypeRange(arguments), shape,
                                        op.getEpsilon().convertToFloat()),
           rowsOf(op.getInput()), arguments);
  countRowsLike(op.getResult(), op.getInput());
  // There is no buffer of the norm; its bytes stand for it.
  mapping.map(op.getResult(), result.values);
  quantized[{result.values, roundingOf(shape, dotProduct)}] = result;
  return success();
}

/// Refuses integers, the first of \p weights, that are not packed as such, nor
/// their scales and offsets; and groups that are no whole units of a tile, nor
/// equal parts of them.
static LogicalResult expectTiles(Operation *op, const IntegerShape &shape,
                                 ArrayRef<Value> weights) {
  int64_t columns = getTileColumns(shape.bits);
  for (Value weight : weights) {
    if (!weight)
      continue;
    auto tiled = dyn_cast_or_null<TiledAttr>(
        cast<RankedTensorType>(weight.getType()).getEncoding());
    if (!tiled ||
        tiled.getColumns() != (weight == weights.front() ? columns : 1) ||
        bool(tiled.getRecord()) != (shape.record != 0))
      return op->emitOpError("expects a packed weight to lower, but got ")
             << weight.getType();
  }
  bool isPart = columns % shape.activationGroup == 0 &&
                shape.activationGroup % 16 == 0 &&
                shape.group == shape.activationGroup;
  if (shape.activationGroup % columns != 0 && !isPart)
    return op->emitOpError("expects groups of a multiple of ")
           << columns << " columns to lower, but got " << shape.group << " of "
           << weights.front().getType();
  return success();
}

/// The integers that \p op multiplies by; none if it has floats.
static std::optional<HeadShape> headShape(HeadLinearOp op) {
  if (!op.getScales())
    return std::nullopt;
  HeadShape shape = {integerShape(op.getWeight(), op.getScales(),
                                  op.getOffsets(),
                                  /*activationGroup=*/std::nullopt)};
  shape.isTurned = getScaleAxis(op.getWeight(), op.getScales()) == 1;
  return shape;
}

/// The same for heads, whose scales are in no tiles if groups are of columns.
static LogicalResult expectHeadTiles(HeadLinearOp op, const HeadShape &shape) {
  Value weight = op.getWeight();
  if (!shape.isTurned)
    return expectTiles(op, shape, {weight, op.getScales(), op.getOffsets()});
  auto isPlain = [](Value numbers) {
    return !numbers || !cast<RankedTensorType>(numbers.getType()).getEncoding();
  };
  if (!isPlain(op.getScales()) || !isPlain(op.getOffsets()))
    return op.emitOpError("expects scales of columns that are not packed to "
                          "lower, but got ")
           << op.getScales().getType();
  if (shape.inner % 16 != 0 || shape.group % tileRows != 0)
    return op.emitOpError("expects a multiple of 16 columns, in groups of as "
                          "many rows, to lower, but got groups of ")
           << shape.group << " of " << weight.getType();
  return expectTiles(op, shape, weight);
}

LogicalResult FunctionConverter::convertIntegerEmbed(EmbedOp op, Value table,
                                                     Value out) {
  if (!getElementTypeOrSelf(op.getTable()).isInteger())
    return op.emitOpError(
               "expects a table of numbers or integers to lower, but "
               "got ")
           << op.getTable().getType();
  IntegerShape shape =
      integerShape(op.getTable(), op.getScales(), op.getOffsets(),
                   getScaleGroup(op.getTable(), op.getScales()));
  if (failed(expectTiles(op, shape,
                         {op.getTable(), op.getScales(), op.getOffsets()})))
    return failure();
  SmallVector<Value> arguments = {at(op.getTokens()), table,
                                  at(op.getScales())};
  if (op.getOffsets())
    arguments.push_back(at(op.getOffsets()));
  arguments.push_back(out);
  dispatch(program.kernels.integerEmbed(TypeRange(arguments), shape),
           tokenCount, arguments);
  return success();
}

LogicalResult FunctionConverter::convertIntegerLinear(
    Operation *op, Value oldInput, Value oldWeight, Value oldBias,
    Value oldScales, Value oldOffsets, Value residual, Value oldResult,
    std::optional<uint64_t> activationGroup) {
  IntegerShape shape =
      shapeOf(oldInput, oldWeight, oldScales, oldOffsets, activationGroup);
  if (failed(expectTiles(op, shape, {oldWeight, oldScales, oldOffsets})))
    return failure();
  Value rows = rowsOf(oldInput);
  Quantized input = quantize(at(oldInput), shape, rows);
  SmallVector<Value> arguments = {input.values, input.scales, input.sums,
                                  at(oldWeight), at(oldScales)};
  if (oldOffsets)
    arguments.push_back(at(oldOffsets));
  if (oldBias)
    arguments.push_back(at(oldBias));
  if (residual)
    arguments.push_back(residual);
  arguments.append({bufferFor(oldResult, oldInput), rows});
  dispatch(program.kernels.integerLinear(TypeRange(arguments), shape,
                                         bool(oldBias), bool(residual)),
           b.index(program.kernels.linearItems(shape.columns)), arguments);
  return success();
}

/// The products that \p op gates, if one kernel can make both and nothing else
/// reads them; else none.
static std::optional<std::pair<LinearOp, LinearOp>> gatedProducts(SwiGLUOp op) {
  auto haveOneType = [](Value a, Value b) {
    return bool(a) == bool(b) && (!a || a.getType() == b.getType());
  };
  auto gate = op.getGate().getDefiningOp<LinearOp>();
  auto up = op.getUp().getDefiningOp<LinearOp>();
  if (!gate || !up || gate == up || !gate->hasOneUse() || !up->hasOneUse() ||
      gate.getInput() != up.getInput() || gate.getBias() || up.getBias() ||
      gate.getWeight().getType() != up.getWeight().getType() ||
      gate.getActivationGroup() != up.getActivationGroup() ||
      gate.getBf16Inputs() != up.getBf16Inputs() ||
      !haveOneType(gate.getScales(), up.getScales()) ||
      !haveOneType(gate.getOffsets(), up.getOffsets()))
    return std::nullopt;
  // What is not packed, or has no kernel, is for the products to refuse.
  auto isPacked = [](Value weight) {
    return isa_and_nonnull<TiledAttr>(
        cast<RankedTensorType>(weight.getType()).getEncoding());
  };
  bool isInteger = getElementTypeOrSelf(gate.getWeight()).isInteger();
  if (!isPacked(gate.getWeight()) ||
      (isInteger && !isPacked(gate.getScales())) ||
      (gate.getOffsets() && !isPacked(gate.getOffsets())))
    return std::nullopt;
  return std::pair(gate, up);
}

LogicalResult FunctionConverter::convert(LinearOp op) {
  // The gated product comes where both factors are there.
  if (op->hasOneUse())
    if (auto gated = dyn_cast<SwiGLUOp>(*op->user_begin()))
      if (gatedProducts(gated))
        return success();
  // So does a sum with a product, whose kernel adds.
  if (op->hasOneUse())
    if (auto sum = dyn_cast<AddOp>(*op->user_begin()))
      if (addedProduct(sum) == op)
        return success();
  if (getElementTypeOrSelf(op.getWeight()).isInteger())
    return convertIntegerLinear(op, op.getInput(), op.getWeight(), op.getBias(),
                                op.getScales(), op.getOffsets(),
                                /*residual=*/Value(), op.getResult(),
                                op.getActivationGroup());
  int64_t columns = columnsOf(op.getResult());
  Value out = bufferFor(op.getResult(), op.getInput());
  Value rows = rowsOf(op.getInput());
  Value input = inputOf(at(op.getInput()), columnsOf(op.getInput()),
                        op.getBf16Inputs(), rows);
  SmallVector<Value> arguments = {input, at(op.getWeight())};
  if (op.getBias()) {
    arguments.push_back(at(op.getBias()));
    if (!cast<MemRefType>(arguments.back().getType()).getElementType().isF32())
      return op.emitOpError("expects an f32 bias to lower, but got ")
             << op.getBias().getType();
  }
  if (op.getScales())
    arguments.push_back(at(op.getScales()));
  arguments.append({out, rows});
  rt::KernelOp kernel = program.kernels.linear(
      TypeRange(arguments), columnsOf(op.getInput()), columns,
      bool(op.getBias()), bool(op.getScales()), op.getBf16Inputs());
  dispatch(kernel,
           program.kernels.linearItems(b, arguments[1].getType(), 1, columns,
                                       arguments.back()),
           arguments);
  return success();
}

LogicalResult FunctionConverter::convert(LMHeadOp op) {
  if (getElementTypeOrSelf(op.getWeight()).isInteger())
    return convertIntegerLinear(op, op.getInput(), op.getWeight(), Value(),
                                op.getScales(), op.getOffsets(),
                                /*residual=*/Value(), op.getResult(),
                                op.getActivationGroup());
  int64_t columns = columnsOf(op.getResult());
  Value out = bufferFor(op.getResult(), op.getInput());
  Value rows = rowsOf(op.getInput());
  Value input = inputOf(at(op.getInput()), columnsOf(op.getInput()),
                        op.getBf16Inputs(), rows);
  SmallVector<Value> arguments = {input, at(op.getWeight()), out, rows};
  rt::KernelOp kernel = program.kernels.linear(
      TypeRange(arguments), columnsOf(op.getInput()), columns,
      /*hasBias=*/false, /*hasScales=*/false, op.getBf16Inputs());
  dispatch(kernel,
           program.kernels.linearItems(b, arguments[1].getType(), 1, columns,
                                       arguments.back()),
           arguments);
  return success();
}

LogicalResult FunctionConverter::convert(AdaptOp op) {
  int64_t rank = cast<RankedTensorType>(op.getDown().getType()).getDimSize(1);
  int64_t columns = columnsOf(op.getBase());
  auto idsType = MemRefType::get({ShapedType::kDynamic}, b.getIntegerType(32));
  Value adapters =
      rt::InputOp::create(b, idsType, step, rt::InputKind::Adapters);
  int64_t stride = paddedColumns(rank);
  Value hidden = alloc(stride * 4, 0, rowsType(b.getContext(), stride, stride));
  SmallVector<Value> down = {at(op.getInput()), at(op.getDown()), adapters,
                             hidden};
  dispatch(program.kernels.adaptDown(TypeRange(down), rank,
                                     columnsOf(op.getInput())),
           b.mul(tokenCount, rank), down);
  Value out = bufferFor(op.getResult(), op.getBase());
  SmallVector<Value> up = {at(op.getBase()), hidden, at(op.getUp()), adapters,
                           out};
  dispatch(program.kernels.adaptUp(TypeRange(up), rank, columns),
           b.mul(tokenCount, KernelSet::adaptBlocks(columns)), up);
  return success();
}

LogicalResult FunctionConverter::convert(HeadLinearOp op) {
  ArrayRef<int64_t> weight =
      cast<RankedTensorType>(op.getWeight().getType()).getShape();
  // Before and behind an attention that has another form for some rows.
  auto attention = op.getInput().getDefiningOp<AbsorbedAttentionOp>();
  bool isBehind = attention != nullptr;
  if (!attention && op->hasOneUse())
    attention = dyn_cast<AbsorbedAttentionOp>(*op->user_begin());
  bool hasRuns = attention && getExpanded(attention);
  if (hasRuns && !isBehind)
    findRuns(attention);
  Value out = bufferFor(op.getResult(), op.getInput());
  SmallVector<Value> arguments = {at(op.getInput()), at(op.getWeight())};
  for (Value numbers : {Value(op.getScales()), Value(op.getOffsets())})
    if (numbers)
      arguments.push_back(at(numbers));
  if (hasRuns)
    arguments.push_back(runsOf.at(attention).span);
  arguments.append({out, rowsOf(op.getInput())});
  int64_t stride = columnsOf(op.getInput()) / weight[0];
  rt::KernelOp kernel;
  Value perHead;
  if (std::optional<HeadShape> shape = headShape(op)) {
    if (failed(expectHeadTiles(op, *shape)))
      return failure();
    kernel = program.kernels.integerHeadLinear(TypeRange(arguments), *shape,
                                               weight[0], stride, hasRuns);
    perHead = b.index(program.kernels.linearItems(weight[1]));
  } else {
    kernel = program.kernels.headLinear(TypeRange(arguments), weight[0], stride,
                                        weight[2], weight[1], hasRuns);
    perHead = program.kernels.linearItems(b, arguments[1].getType(), 1,
                                          weight[1], arguments.back());
  }
  dispatch(kernel, b.mul(perHead, weight[0]), arguments);
  if (hasRuns && isBehind)
    attendExpanded(attention, op, out);
  return success();
}

LogicalResult FunctionConverter::convert(SplitOp op) {
  Value input = at(op.getInput());
  auto type = cast<MemRefType>(input.getType());
  int64_t stride =
      cast<StridedLayoutAttr>(type.getLayout()).getStrides().front();
  int64_t begin = 0;
  for (Value result : op.getResults()) {
    int64_t columns = columnsOf(result);
    mapping.map(result, rt::ColumnsOp::create(
                            b, rowsType(b.getContext(), columns, stride), input,
                            begin));
    countRowsLike(result, op.getInput());
    begin += columns;
  }
  return success();
}

FailureOr<Value> FunctionConverter::rotaryTable(RotaryAttr rotary) {
  FailureOr<WeightOp> table = program.rotaryTable(b.getLoc(), rotary);
  if (failed(table))
    return failure();
  return rt::WeightOp::create(b, storedType(table->getWeightType()), step,
                              (*table)->getAttrOfType<IntegerAttr>(offsetName),
                              table->getSymNameAttr())
      .getResult();
}

LogicalResult FunctionConverter::convert(RotaryOp op) {
  FailureOr<Value> table = rotaryTable(op.getRotary());
  if (failed(table))
    return failure();
  Value out = bufferFor(op.getResult(), op.getInput());
  SmallVector<Value> arguments = {at(op.getInput()), at(op.getPositions()),
                                  *table, out};
  int64_t heads = op.getHeads();
  dispatch(program.kernels.rotary(
               TypeRange(arguments), heads, columnsOf(op.getInput()) / heads,
               op.getRotary(), op.getInverse(), op.getLeading()),
           rowsOf(op.getInput()), arguments);
  return success();
}

LogicalResult FunctionConverter::attend(Operation *op, Value out,
                                        PageLayout page, int64_t heads,
                                        WindowAttr window,
                                        int64_t selectedTokens,
                                        ArrayRef<Value> inputs, Value positions,
                                        Value rows, AttentionKernel kernel) {
  AttentionPlan plan = AttentionPlan::get(page, heads, program.context, window,
                                          program.options, selectedTokens);
  // Query and sums of a head are on the kernel's stack.
  if (!plan.groups)
    return op->emitOpError("expects keys and values that fit on a kernel's "
                           "stack to lower, but got ")
           << page.keyDim << " and " << page.valueDim << " columns";
  Value units = b.mul(rows, plan.groups);
  Value isFew, none;
  if (plan.segments) {
    AttentionPlan split = plan.split();
    int64_t partials = (plan.fewItems - 1) * split.segments;
    auto buffer = [&](ArrayRef<int64_t> shape) {
      auto type = MemRefType::get(shape, b.getF32Type());
      return alloc(0, roundUp(type.getNumElements() * 4, rt::alignmentBytes),
                   type);
    };
    Value splitUnits = plan.sides == 1 ? units : b.mul(rows, split.groups);
    isFew = b.called("is_few", b.less(splitUnits, b.index(plan.fewItems)));
    none = b.index(0);
    SmallVector<Value> arguments(inputs);
    Value sums = buffer({partials, split.groupHeads, page.valueDim});
    Value stats = buffer({partials, 2, split.groupHeads});
    arguments.append({sums, stats});
    dispatch(kernel(TypeRange(arguments), plan, /*isSplit=*/true),
             b.called("strands",
                      b.select(isFew, b.mul(splitUnits, split.strands), none)),
             arguments);
    SmallVector<Value> merge = {sums, stats, positions, out};
    dispatch(
        program.kernels.mergeSegments(TypeRange(merge), page.valueDim, split),
        b.called("merged", b.select(isFew, b.mul(rows, heads), none)), merge);
  }
  // Blocks of rows as large as leaves work for many threads.
  Value blockRows =
      b.called("block_rows", b.min(b.index(plan.blockRows),
                                   b.add(b.div(units, plan.enoughItems), 1)));
  Value blocks = b.ceilDiv(rows, blockRows);
  Value items = b.mul(blocks, plan.groups);
  SmallVector<Value> arguments(inputs);
  arguments.append({out, rows, blockRows});
  dispatch(kernel(TypeRange(arguments), plan, /*isSplit=*/false),
           isFew ? b.select(isFew, none, items) : items, arguments);
  return success();
}

/// Where the tokens of the queries of \p op are, and whose they are.
template <typename Op> static std::pair<Value, Value> placesOfQueries(Op op) {
  if (op.getQueryPositions())
    return {op.getQueryPositions(), op.getQuerySequences()};
  return {op.getPositions(), op.getSequences()};
}

LogicalResult FunctionConverter::convert(AttentionOp op) {
  PageLayout page = PageLayout::get(cast<KVCacheType>(op.getCache().getType()),
                                    program.options.pageTokens);
  Value positions = at(op.getPositions()), sequences = at(op.getSequences());
  Value layer = at(op.getLayer());
  SmallVector<Value> append = {at(op.getKey()), at(op.getValue()),
                               positions,       sequences,
                               layer,           tokenCount};
  dispatch(program.kernels.appendCache(TypeRange(append), page),
           KernelSet::appendItems(b, page, tokenCount), append);
  Value out = bufferFor(op.getResult(), op.getQuery());
  int64_t heads = op.getHeads();
  auto [queryPositions, querySequences] = placesOfQueries(op);
  return attend(
      op, out, page, heads, op.getWindowAttr(), /*selectedTokens=*/0,
      {at(op.getQuery()), at(queryPositions), at(querySequences), layer},
      at(queryPositions), rowsOf(op.getQuery()),
      [&](TypeRange types, AttentionPlan plan, bool isSplit) {
        return program.kernels.attention(
            types, page, heads, op.getScale().convertToDouble(), plan, isSplit);
      });
}

LogicalResult FunctionConverter::convert(SelectKeysOp op) {
  PageLayout page = PageLayout::get(cast<KVCacheType>(op.getCache().getType()),
                                    program.options.pageTokens);
  Value positions = at(op.getPositions()), sequences = at(op.getSequences());
  Value layer = at(op.getLayer());
  SmallVector<Value> append = {at(op.getKey()), positions, sequences, layer};
  dispatch(program.kernels.appendIndex(TypeRange(append), page), tokenCount,
           append);
  int64_t topK = op.getTopK();
  Value out = bufferFor(op.getSelected(), op.getQuery(), b.getI32Type());
  // Scores of all tokens that a row sees, in whole pages.
  int64_t pages = ceilDiv(program.context, page.pageTokens);
  int64_t columns = pages * page.pageTokens;
  Value scores =
      alloc(columns * 4, 0, rowsType(b.getContext(), columns, columns));
  constexpr int64_t mostStrands = 64;
  auto strands = std::min<int64_t>(llvm::PowerOf2Ceil(pages), mostStrands);
  auto [queryPositions, querySequences] = placesOfQueries(op);
  Value rows = rowsOf(op.getQuery());
  SmallVector<Value> score = {at(op.getQuery()),
                              at(op.getWeights()),
                              at(queryPositions),
                              at(querySequences),
                              layer,
                              scores};
  dispatch(program.kernels.indexScores(TypeRange(score), page, op.getHeads(),
                                       topK, op.getScale().convertToDouble(),
                                       strands),
           b.mul(rows, strands), score);
  SmallVector<Value> select = {scores, at(queryPositions), out};
  dispatch(program.kernels.selectTop(TypeRange(select), topK), rows, select);
  return success();
}

/// How the result of the head_linear behind \p op is computed from the query
/// that is absorbed, for many rows; none if there is but one form.
std::optional<ExpandedShape>
FunctionConverter::getExpanded(AbsorbedAttentionOp op) {
  PageLayout page = PageLayout::get(cast<KVCacheType>(op.getCache().getType()),
                                    program.options.pageTokens);
  auto key = op.getQuery().getDefiningOp<HeadLinearOp>();
  if (!key || key.getInput() != op.getRopeQuery() || !key->hasOneUse() ||
      op.getWindowAttr() || op.getSelected() || op.getQueryPositions() ||
      !op->hasOneUse())
    return std::nullopt;
  auto value = dyn_cast<HeadLinearOp>(*op->user_begin());
  if (!value || value.getInput() != op.getResult())
    return std::nullopt;
  int64_t heads = op.getHeads(), rope = page.keyDim - page.valueDim;
  int64_t nope = columnsOf(op.getRopeQuery()) / heads - rope;
  if (!page.isOfPairs(program.options))
    return std::nullopt;
  // Tiles of integers are widened where the keys will be.
  if ((key.getScales() || value.getScales()) &&
      std::max(nope, page.valueDim) > 4 * (nope + rope))
    return std::nullopt;
  return ExpandedShape::get(page, heads, nope,
                            columnsOf(value.getResult()) / heads);
}

/// \p count, or 0 for a step that is too short for a run of rows.
Value FunctionConverter::ifManyRows(Value count) {
  Value isFew = b.less(tokenCount, b.index(ExpandedShape::leastRows));
  return b.select(isFew, b.index(0), count);
}

void FunctionConverter::findRuns(AbsorbedAttentionOp op) {
  auto vector = [&](int64_t size) {
    return MemRefType::get({size}, b.getI32Type());
  };
  Runs runs;
  runs.ends = alloc(rt::alignmentBytes, 0, vector(ShapedType::kDynamic));
  runs.span = alloc(0, rt::alignmentBytes, vector(2));
  SmallVector<Value> arguments = {at(op.getSequences()), runs.ends, runs.span,
                                  tokenCount};
  dispatch(program.kernels.findRuns(TypeRange(arguments)),
           ifManyRows(b.index(1)), arguments);
  runsOf[op] = runs;
}

LogicalResult FunctionConverter::convert(AbsorbedAttentionOp op) {
  PageLayout page = PageLayout::get(cast<KVCacheType>(op.getCache().getType()),
                                    program.options.pageTokens);
  Value positions = at(op.getPositions()), sequences = at(op.getSequences());
  Value layer = at(op.getLayer());
  SmallVector<Value> append = {
      at(op.getLatent()), at(op.getRopeKey()), positions, sequences, layer,
      tokenCount};
  dispatch(program.kernels.appendCache(TypeRange(append), page),
           KernelSet::appendItems(b, page, tokenCount), append);
  Value out = bufferFor(op.getResult(), op.getQuery());
  int64_t heads = op.getHeads();
  auto [queryPositions, querySequences] = placesOfQueries(op);
  SmallVector<Value> inputs = {at(op.getQuery()), at(op.getRopeQuery()),
                               at(queryPositions), at(querySequences), layer};
  auto runs = runsOf.find(op);
  bool hasRuns = runs != runsOf.end();
  if (op.getSelected())
    inputs.push_back(at(op.getSelected()));
  if (hasRuns)
    inputs.push_back(runs->second.ends);
  return attend(op, out, page, heads, op.getWindowAttr(),
                op.getSelected() ? columnsOf(op.getSelected()) : 0, inputs,
                at(queryPositions), rowsOf(op.getQuery()),
                [&](TypeRange types, AttentionPlan plan, bool isSplit) {
                  return program.kernels.absorbedAttention(
                      types, page, heads, columnsOf(op.getRopeQuery()) / heads,
                      op.getScale().convertToDouble(), plan, isSplit, hasRuns);
                });
}

/// Lets rows of long runs see keys and values that are computed again; \p out
/// is the result of \p value.
void FunctionConverter::attendExpanded(AbsorbedAttentionOp op,
                                       HeadLinearOp value, Value out) {
  PageLayout page = PageLayout::get(cast<KVCacheType>(op.getCache().getType()),
                                    program.options.pageTokens);
  std::optional<ExpandedShape> shape = getExpanded(op);
  auto key = op.getQuery().getDefiningOp<HeadLinearOp>();
  int64_t columns = 2 * shape->heads;
  Value stats = alloc(roundUp(columns * 4, rt::alignmentBytes), 0,
                      rowsType(b.getContext(), columns, columns));
  SmallVector<Value> arguments = {at(op.getRopeQuery())};
  for (HeadLinearOp product : {key, value})
    for (Value operand :
         {Value(product.getWeight()), Value(product.getScales()),
          Value(product.getOffsets())})
      if (operand)
        arguments.push_back(at(operand));
  arguments.append({at(op.getPositions()), at(op.getSequences()),
                    at(op.getLayer()), runsOf.at(op).ends, stats, out,
                    tokenCount});
  constexpr int64_t most = ExpandedShape::blockRows;
  Value blocks = b.div(b.add(tokenCount, most - 1), most);
  dispatch(program.kernels.expandedAttention(TypeRange(arguments), page, *shape,
                                             headShape(key), headShape(value),
                                             op.getScale().convertToDouble()),
           ifManyRows(b.mul(blocks, shape->heads)), arguments);
}

LogicalResult FunctionConverter::convertGated(SwiGLUOp op, LinearOp gate,
                                              LinearOp up) {
  Value rows = rowsOf(gate.getInput());
  int64_t columns = columnsOf(op.getResult());
  if (!getElementTypeOrSelf(gate.getWeight()).isInteger()) {
    Value out = bufferFor(op.getResult(), gate.getInput());
    Value input = inputOf(at(gate.getInput()), columnsOf(gate.getInput()),
                          gate.getBf16Inputs(), rows);
    SmallVector<Value> arguments = {input, at(gate.getWeight()),
                                    at(up.getWeight())};
    if (gate.getScales())
      arguments.append({at(gate.getScales()), at(up.getScales())});
    arguments.append({out, rows});
    dispatch(program.kernels.gatedLinear(
                 TypeRange(arguments), columnsOf(gate.getInput()), columns,
                 bool(gate.getScales()), limitOf(op.getLimit()),
                 gate.getBf16Inputs()),
             program.kernels.linearItems(b, arguments[1].getType(), 2, columns,
                                         rows),
             arguments);
    return success();
  }
  IntegerShape shape =
      shapeOf(gate.getInput(), gate.getWeight(), gate.getScales(),
              gate.getOffsets(), gate.getActivationGroup());
  for (LinearOp product : {gate, up})
    if (failed(expectTiles(
            product, shape,
            {product.getWeight(), product.getScales(), product.getOffsets()})))
      return failure();
  Quantized input = quantize(at(gate.getInput()), shape, rows);
  SmallVector<Value> arguments = {input.values,         input.scales,
                                  input.sums,           at(gate.getWeight()),
                                  at(gate.getScales()), at(up.getWeight()),
                                  at(up.getScales())};
  if (shape.hasOffsets)
    arguments.append({at(gate.getOffsets()), at(up.getOffsets())});
  arguments.append({bufferFor(op.getResult(), gate.getInput()), rows});
  dispatch(program.kernels.integerGatedLinear(TypeRange(arguments), shape,
                                              limitOf(op.getLimit())),
           b.index(program.kernels.linearItems(columns)), arguments);
  return success();
}

LogicalResult FunctionConverter::convert(SwiGLUOp op) {
  if (auto products = gatedProducts(op))
    return convertGated(op, products->first, products->second);
  Value out = bufferFor(op.getResult(), op.getGate());
  SmallVector<Value> arguments = {at(op.getGate()), at(op.getUp()), out};
  dispatch(program.kernels.swiglu(TypeRange(arguments),
                                  columnsOf(op.getResult()),
                                  limitOf(op.getLimit())),
           rowsOf(op.getGate()), arguments);
  return success();
}

LogicalResult FunctionConverter::convert(AddOp op) {
  if (LinearOp product = addedProduct(op)) {
    Value other =
        op.getRhs() == product.getResult() ? op.getLhs() : op.getRhs();
    return convertIntegerLinear(
        product, product.getInput(), product.getWeight(), product.getBias(),
        product.getScales(), product.getOffsets(), at(other), op.getResult(),
        product.getActivationGroup());
  }
  Value out = bufferFor(op.getResult(), op.getLhs());
  SmallVector<Value> arguments = {at(op.getLhs()), at(op.getRhs()), out};
  dispatch(program.kernels.add(TypeRange(arguments), columnsOf(op.getResult())),
           rowsOf(op.getLhs()), arguments);
  return success();
}

LogicalResult FunctionConverter::convert(GatherRowsOp op) {
  Value count = rowCounts.lookup(op.getRows());
  if (!count)
    return op.emitOpError("expects rows that deepseek.select_rows gives, or, "
                          "in the model's entry, those that need logits");
  rowCounts[op.getResult()] = count;
  bool isVector =
      cast<RankedTensorType>(op.getResult().getType()).getRank() == 1;
  Value out;
  if (isVector) {
    out = alloc(rt::alignmentBytes, 0,
                MemRefType::get({ShapedType::kDynamic}, b.getI32Type()));
    mapping.map(op.getResult(), out);
  } else {
    out = bufferFor(op.getResult(), op.getResult());
  }
  SmallVector<Value> arguments = {at(op.getInput()), at(op.getRows()), out};
  dispatch(program.kernels.gatherRows(TypeRange(arguments),
                                      isVector ? 0 : columnsOf(op.getResult())),
           count, arguments);
  return success();
}

LogicalResult FunctionConverter::convert(ScatterRowsOp op) {
  Value out = bufferFor(op.getResult(), op.getInput());
  int64_t columns = columnsOf(op.getResult());
  SmallVector<Value> all = {at(op.getInput()), out};
  dispatch(program.kernels.copyRows(TypeRange(all), columns),
           rowsOf(op.getInput()), all);
  SmallVector<Value> some = {at(op.getUpdate()), at(op.getRows()), out};
  dispatch(program.kernels.scatterRows(TypeRange(some), columns),
           rowsOf(op.getUpdate()), some);
  return success();
}

LogicalResult FunctionConverter::convert(SelectRowsOp op) {
  auto i32Array = [&](int64_t size) {
    return MemRefType::get({size}, b.getI32Type());
  };
  Value rows = alloc(rt::alignmentBytes, 0, i32Array(ShapedType::kDynamic));
  Value count = alloc(0, rt::alignmentBytes, i32Array(1));
  SmallVector<Value> arguments = {at(op.getScores())};
  if (op.getThreshold())
    arguments.push_back(at(op.getThreshold()));
  if (op.getAmong())
    arguments.push_back(at(op.getAmong()));
  Value all = op.getAmong() ? op.getAmong() : op.getScores();
  arguments.append({rows, count, rowsOf(all)});
  dispatch(program.kernels.selectRows(TypeRange(arguments),
                                      bool(op.getThreshold()),
                                      bool(op.getAmong())),
           b.index(1), arguments);
  mapping.map(op.getRows(), rows);
  rowCounts[op.getRows()] = rt::CountOp::create(b, count);
  return success();
}

LogicalResult FunctionConverter::convert(InfluenceOp op) {
  Value out = bufferFor(op.getResult(), op.getBefore());
  SmallVector<Value> arguments = {at(op.getBefore()), at(op.getAfter()), out};
  dispatch(program.kernels.influence(TypeRange(arguments),
                                     columnsOf(op.getBefore())),
           rowsOf(op.getBefore()), arguments);
  return success();
}

/// Scores and ranking of all experts are on the kernel's stack.
static LogicalResult checkExperts(Operation *op, RoutingAttr routing) {
  constexpr int64_t mostExperts = HADAL_RT_KERNEL_STACK_BYTES / 16;
  if (routing.getExperts() <= mostExperts)
    return success();
  return op->emitOpError("expects at most ")
         << mostExperts << " experts to lower, but got "
         << routing.getExperts();
}

LogicalResult FunctionConverter::convert(RouterOp op) {
  if (failed(checkExperts(op, op.getRouting())))
    return failure();
  Value experts = bufferFor(op.getExperts(), op.getLogits(), b.getI32Type());
  Value weights = bufferFor(op.getWeights(), op.getLogits());
  SmallVector<Value> arguments = {at(op.getLogits())};
  if (op.getBias())
    arguments.push_back(at(op.getBias()));
  if (op.getMap())
    arguments.push_back(at(op.getMap()));
  arguments.append({experts, weights});
  int64_t topK = op.getRouting().getTopK();
  auto massOf = int64_t(op.getRenormalizeFrom().value_or(uint64_t(topK)));
  dispatch(program.kernels.router(TypeRange(arguments), op.getRouting(), massOf,
                                  bool(op.getMap())),
           rowsOf(op.getLogits()), arguments);
  return success();
}

LogicalResult FunctionConverter::convert(ExpertsOp op) {
  ArrayRef<int64_t> gate =
      cast<RankedTensorType>(op.getGate().getType()).getShape();
  int64_t experts = gate[0], inner = gate[1], hidden = gate[2];
  int64_t topK = columnsOf(op.getExperts());
  bool hasScales = !op.getScales().empty();
  Value rows = rowsOf(op.getInput());
  auto i32Array = [&](int64_t size) {
    return MemRefType::get({size}, b.getI32Type());
  };

  Value offsets = alloc(0, roundUp((experts + 1) * 4, rt::alignmentBytes),
                        i32Array(experts + 1));
  Value active = alloc(0, roundUp((experts + 1) * 4, rt::alignmentBytes),
                       i32Array(experts + 1));
  Value list = alloc(roundUp(topK * 4, rt::alignmentBytes), 0,
                     i32Array(ShapedType::kDynamic));
  SmallVector<Value> group = {at(op.getExperts()), offsets, list, active, rows};
  dispatch(program.kernels.groupSlots(TypeRange(group), experts, topK),
           b.index(1), group);

  // One row a slot: top_k rows a token.
  auto slotRows = [&](int64_t columns) {
    int64_t stride = paddedColumns(columns);
    return alloc(topK * stride * 4, 0,
                 rowsType(b.getContext(), stride, stride));
  };
  Value slots = b.mul(rows, topK);
  Value activeCount = b.min(slots, b.index(experts));
  Value between = slotRows(inner), perSlot = slotRows(hidden);
  insideExperts[op.getResult()] = between;
  bool isInteger = getElementTypeOrSelf(op.getGate()).isInteger();
  IntegerShape upShape, downShape;
  if (isInteger) {
    Value weights[] = {op.getGate(), op.getUp(), op.getDown()};
    IntegerShape shapes[3];
    for (size_t i = 0; i < 3; ++i) {
      Value offsets = op.getOffsetsOf(i);
      shapes[i] = integerShape(weights[i], op.getScales()[i], offsets,
                               op.getActivationGroup());
      if (failed(expectTiles(op, shapes[i],
                             {weights[i], op.getScales()[i], offsets})))
        return failure();
    }
    upShape = shapes[1];
    downShape = shapes[2];
    if (shapes[0].group != upShape.group)
      return op.emitOpError("expects gate and up of one group to lower, but "
                            "got ")
             << shapes[0].group << " and " << upShape.group;
    if (shapes[0].scaleElement != upShape.scaleElement ||
        shapes[0].offsetElement != upShape.offsetElement)
      return op.emitOpError("expects gate and up with scales and offsets of "
                            "one type to lower, but got ")
             << op.getScales()[0].getType() << " and "
             << op.getScales()[1].getType();
  }
  if (isInteger) {
    const IntegerShape &up = upShape, &down = downShape;
    Quantized input = quantize(at(op.getInput()), up, rows);
    SmallVector<Value> upArguments = {input.values,
                                      input.scales,
                                      input.sums,
                                      offsets,
                                      list,
                                      active,
                                      at(op.getGate()),
                                      at(op.getScales()[0]),
                                      at(op.getUp()),
                                      at(op.getScales()[1])};
    if (up.hasOffsets)
      upArguments.append({at(op.getOffsetsOf(0)), at(op.getOffsetsOf(1))});
    upArguments.push_back(between);
    dispatch(
        program.kernels.integerExpertsUp(TypeRange(upArguments), up, experts,
                                         topK, limitOf(op.getLimit())),
        b.mul(activeCount, program.kernels.linearItems(inner)), upArguments);
    Quantized middle = quantize(between, down, slots, /*rowsPerToken=*/topK);
    SmallVector<Value> downArguments = {
        middle.values, middle.scales, middle.sums,      offsets,
        list,          active,        at(op.getDown()), at(op.getScales()[2])};
    if (down.hasOffsets)
      downArguments.push_back(at(op.getOffsetsOf(2)));
    downArguments.push_back(perSlot);
    dispatch(program.kernels.integerExpertsDown(TypeRange(downArguments), down,
                                                experts),
             b.mul(activeCount, program.kernels.linearItems(hidden)),
             downArguments);
  } else {
    bool bf16Inputs = op.getBf16Inputs();
    Value input = inputOf(at(op.getInput()), hidden, bf16Inputs, rows);
    SmallVector<Value> up = {input,  offsets,          list,
                             active, at(op.getGate()), at(op.getUp())};
    if (hasScales)
      up.append({at(op.getScales()[0]), at(op.getScales()[1])});
    up.push_back(between);
    dispatch(program.kernels.expertsUp(TypeRange(up), experts, topK, hidden,
                                       inner, hasScales, limitOf(op.getLimit()),
                                       bf16Inputs),
             b.mul(activeCount,
                   program.kernels.expertItems(up[4].getType(), 2, inner)),
             up);
    Value middle = inputOf(between, inner, bf16Inputs, slots, topK);
    SmallVector<Value> down = {middle, offsets, list, active, at(op.getDown())};
    if (hasScales)
      down.push_back(at(op.getScales()[2]));
    down.push_back(perSlot);
    dispatch(program.kernels.expertsDown(TypeRange(down), experts, inner,
                                         hidden, hasScales, bf16Inputs),
             b.mul(activeCount,
                   program.kernels.expertItems(down[4].getType(), 1, hidden)),
             down);
  }

  Value out = bufferFor(op.getResult(), op.getInput());
  SmallVector<Value> sum = {perSlot, at(op.getWeights()), out};
  dispatch(program.kernels.combine(TypeRange(sum), topK, hidden), rows, sum);
  return success();
}

LogicalResult FunctionConverter::convert(ProbeOp op) {
  Value data = at(op.getInput()), experts;
  int64_t columns = columnsOf(op.getInput()), topK = 0;
  if (op.getKind() == ProbeKind::InnerMoment ||
      op.getKind() == ProbeKind::InnerGram) {
    auto maker = op.getInput().getDefiningOp<ExpertsOp>();
    data = insideExperts.lookup(op.getInput());
    columns = columnsOf(maker.getDown());
  }
  if (op.getExperts()) {
    experts = at(op.getExperts());
    topK = columnsOf(op.getExperts());
  }
  rt::ProbeOp::create(b, step, uint64_t(op.getKind()), op.getId(),
                      at(op.getLayer()), rowsOf(op.getInput()), columns, data,
                      experts, topK, op.getCount());
  return success();
}

LogicalResult FunctionConverter::convert(HashRouterOp op) {
  if (failed(checkExperts(op, op.getRouting())))
    return failure();
  Value experts = bufferFor(op.getExperts(), op.getLogits(), b.getI32Type());
  Value weights = bufferFor(op.getWeights(), op.getLogits());
  SmallVector<Value> arguments = {at(op.getLogits()), at(op.getTokens()),
                                  at(op.getTable()), experts, weights};
  dispatch(program.kernels.hashRouter(TypeRange(arguments), op.getRouting()),
           rowsOf(op.getLogits()), arguments);
  return success();
}

//===----------------------------------------------------------------------===//
// Hyper-connections
//===----------------------------------------------------------------------===//

LogicalResult FunctionConverter::convert(UnitNormOp op) {
  Value out = bufferFor(op.getResult(), op.getInput());
  SmallVector<Value> arguments = {at(op.getInput()), out};
  int64_t heads = op.getHeads();
  dispatch(program.kernels.unitNorm(TypeRange(arguments), heads,
                                    columnsOf(op.getInput()) / heads,
                                    op.getEpsilon().convertToFloat()),
           rowsOf(op.getInput()), arguments);
  return success();
}

LogicalResult FunctionConverter::convert(HyperExpandOp op) {
  Value out = bufferFor(op.getResult(), op.getInput());
  SmallVector<Value> arguments = {at(op.getInput()), out};
  dispatch(program.kernels.hyperExpand(TypeRange(arguments), op.getStreams(),
                                       columnsOf(op.getInput())),
           rowsOf(op.getInput()), arguments);
  return success();
}

Value FunctionConverter::project(Value input, Value weight) {
  auto type = cast<RankedTensorType>(weight.getType());
  int64_t rows = type.getDimSize(0), stride = paddedColumns(rows);
  Value out = alloc(stride * 4, 0, rowsType(b.getContext(), stride, stride));
  SmallVector<Value> arguments = {at(input), at(weight), out};
  dispatch(program.kernels.hyperProject(TypeRange(arguments), rows,
                                        type.getDimSize(1)),
           b.mul(rowsOf(input), rows), arguments);
  return out;
}

LogicalResult FunctionConverter::convert(HyperMixOp op) {
  Value products = project(op.getInput(), op.getWeight());
  SmallVector<Value> arguments = {at(op.getInput()), products, at(op.getBase()),
                                  at(op.getScale())};
  for (Value result : op.getResults())
    arguments.push_back(bufferFor(result, op.getInput()));
  dispatch(program.kernels.hyperMix(TypeRange(arguments), op.getStreams(),
                                    columnsOf(op.getSublayer()),
                                    op.getIterations(),
                                    op.getNormEpsilon().convertToFloat(),
                                    op.getEpsilon().convertToFloat()),
           rowsOf(op.getInput()), arguments);
  return success();
}

LogicalResult FunctionConverter::convert(HyperHeadOp op) {
  Value products = project(op.getInput(), op.getWeight());
  Value out = bufferFor(op.getResult(), op.getInput());
  SmallVector<Value> arguments = {at(op.getInput()), products, at(op.getBase()),
                                  at(op.getScale()), out};
  dispatch(program.kernels.hyperHead(TypeRange(arguments), op.getStreams(),
                                     columnsOf(op.getResult()),
                                     op.getNormEpsilon().convertToFloat(),
                                     op.getEpsilon().convertToFloat()),
           rowsOf(op.getInput()), arguments);
  return success();
}

LogicalResult FunctionConverter::convert(HyperUpdateOp op) {
  Value out = bufferFor(op.getResult(), op.getInput());
  SmallVector<Value> arguments = {at(op.getInput()), at(op.getSublayer()),
                                  at(op.getPost()), at(op.getComb()), out};
  dispatch(program.kernels.hyperUpdate(TypeRange(arguments),
                                       columnsOf(op.getPost()),
                                       columnsOf(op.getSublayer())),
           rowsOf(op.getInput()), arguments);
  return success();
}

//===----------------------------------------------------------------------===//
// Attention over compressed entries
//===----------------------------------------------------------------------===//

FailureOr<CompressedLayout>
FunctionConverter::layoutOf(Operation *op, CompressedCacheType cache) {
  int64_t pageTokens = program.options.pageTokens;
  for (int64_t ratio : cache.getDistinctRatios())
    if (ratio % pageTokens != 0 && pageTokens % ratio != 0)
      return op->emitOpError("expects pages that are a multiple of entries of ")
             << ratio << " tokens, or the contrary, to lower, but got pages of "
             << pageTokens;
  return CompressedLayout::get(cache, pageTokens);
}

LogicalResult FunctionConverter::convert(CompressOp op) {
  auto layout = layoutOf(op, op.getCache().getType());
  FailureOr<Value> table = rotaryTable(op.getRotary());
  if (failed(layout) || failed(table))
    return failure();
  // An entry is on the kernel's stack.
  constexpr int64_t mostColumns = HADAL_RT_KERNEL_STACK_BYTES / 8;
  if (columnsOf(op.getNorm()) > mostColumns)
    return op.emitOpError("expects entries of at most ")
           << mostColumns << " columns to lower, but got "
           << op.getNorm().getType();
  Value positions = at(op.getPositions()), sequences = at(op.getSequences());
  Value index = at(op.getIndex());
  int64_t ratio = op.getRatio();
  bool isIndex = op.getPart() == CachePart::Index;
  SmallVector<Value> append = {
      at(op.getValue()), at(op.getGate()), at(op.getPositionBias()),
      positions,         sequences,        index};
  dispatch(program.kernels.appendCompressor(TypeRange(append), *layout, ratio,
                                            isIndex),
           tokenCount, append);
  SmallVector<Value> pool = {at(op.getNorm()), *table, positions, sequences,
                             index};
  dispatch(program.kernels.compress(TypeRange(pool), *layout, ratio, isIndex,
                                    op.getRotary().getDim(),
                                    op.getEpsilon().convertToFloat()),
           tokenCount, pool);
  return success();
}

LogicalResult FunctionConverter::convert(SelectEntriesOp op) {
  auto layout = layoutOf(op, op.getCache().getType());
  if (failed(layout))
    return failure();
  // Scores and indices of twice as many are on the kernel's stack.
  constexpr int64_t mostSelected = HADAL_RT_KERNEL_STACK_BYTES / 32;
  int64_t topK = columnsOf(op.getResult());
  if (topK > mostSelected)
    return op.emitOpError("expects at most ")
           << mostSelected << " selected entries to lower, but got " << topK;
  Value out = bufferFor(op.getResult(), op.getQuery(), b.getI32Type());
  SmallVector<Value> arguments = {at(op.getQuery()),     at(op.getWeights()),
                                  at(op.getPositions()), at(op.getSequences()),
                                  at(op.getIndex()),     out};
  dispatch(program.kernels.selectEntries(TypeRange(arguments), *layout,
                                         op.getHeads(),
                                         op.getScale().convertToDouble(), topK),
           tokenCount, arguments);
  return success();
}

LogicalResult FunctionConverter::convert(CompressedAttentionOp op) {
  auto layout = layoutOf(op, op.getCache().getType());
  if (failed(layout))
    return failure();
  auto plan = CompressedAttentionPlan::get(
      op.getHeads(), op.getWindow(), op.getRatio(),
      op.getSelected() ? columnsOf(op.getSelected()) : 0, program.context);
  if (!plan.groups)
    return op.emitOpError("expects scores that fit on a kernel's stack to "
                          "lower, but got ")
           << plan.mostKeys << " keys";
  Value positions = at(op.getPositions()), sequences = at(op.getSequences());
  Value layer = at(op.getLayer());
  SmallVector<Value> append = {at(op.getKey()), positions, sequences, layer};
  dispatch(program.kernels.appendCompressed(TypeRange(append), *layout),
           tokenCount, append);
  Value out = bufferFor(op.getResult(), op.getQuery());
  SmallVector<Value> arguments = {at(op.getQuery()), at(op.getSinks())};
  if (op.getSelected())
    arguments.push_back(at(op.getSelected()));
  arguments.append({positions, sequences, layer, at(op.getIndex()), out});
  dispatch(program.kernels.compressedAttention(TypeRange(arguments), *layout,
                                               plan,
                                               op.getScale().convertToDouble()),
           b.mul(tokenCount, plan.groups), arguments);
  return success();
}

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

LogicalResult FunctionConverter::convert(func::CallOp op) {
  auto callee = program.symbols.lookup<func::FuncOp>(op.getCallee());
  if (!callee)
    return op.emitOpError("expects a callee in this module");
  SmallVector<Value> arguments = {step};
  for (Value operand : op.getOperands())
    if (!isa<KVCacheType, CompressedCacheType>(operand.getType()))
      arguments.push_back(at(operand));
  for (Value result : op.getResults())
    arguments.push_back(bufferFor(result, op.getOperand(0)));
  func::CallOp::create(b, op.getCallee(), TypeRange(), arguments);
  return success();
}

LogicalResult FunctionConverter::convert(func::ReturnOp) {
  func::ReturnOp::create(b);
  return success();
}

//===----------------------------------------------------------------------===//
// The module
//===----------------------------------------------------------------------===//

/// Ties code to weights: names, types and places of all weights, in order.
static std::string layoutHash(ModuleOp module) {
  llvm::SHA256 hash;
  for (auto weight : module.getOps<WeightOp>()) {
    auto offset = weight->getAttrOfType<IntegerAttr>(offsetName);
    if (!offset)
      continue;
    std::string line;
    llvm::raw_string_ostream(line)
        << weight.getSymName() << ' ' << weight.getType() << ' '
        << offset.getInt() << '\n';
    hash.update(line);
  }
  return llvm::toHex(ArrayRef(hash.final()).take_front(16),
                     /*LowerCase=*/true);
}

namespace {

struct ConvertDeepSeekToRT
    : public hadal::impl::ConvertDeepSeekToRTBase<ConvertDeepSeekToRT> {
  using Base = hadal::impl::ConvertDeepSeekToRTBase<ConvertDeepSeekToRT>;
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto models = llvm::to_vector(module.getOps<ModelOp>());
    if (models.size() != 1) {
      module.emitError("expects one deepseek.model, but got ") << models.size();
      return signalPassFailure();
    }
    ModelOp model = models.front();
    for (auto change : module.getOps<LoRAOp>()) {
      change.emitOpError("expects to be merged before lowering, by "
                         "-deepseek-merge-lora");
      return signalPassFailure();
    }
    for (auto change : module.getOps<AdaptersOp>()) {
      change.emitOpError("expects to be attached before lowering, by "
                         "-deepseek-attach-adapters");
      return signalPassFailure();
    }
    KernelOptions options;
    options.registers = registers;
    options.pageTokens = pageTokens;
    options.dotProduct = dotProduct;
    options.bf16Products = bf16Products;
    options.bf16Pairs = bf16Pairs;
    options.bf16Dots = bf16Dots;
    options.scalesByExponents = scalesByExponents;
    options.isRead = isRead;
    options.followsStreams = followsStreams;
    options.caches = {l1Bytes, l2Bytes};
    if (l1Bytes <= 0 || l2Bytes <= 0) {
      module.emitError("expects caches of some bytes, but got l1-bytes ")
          << options.caches.l1Bytes << " and l2-bytes "
          << options.caches.l2Bytes;
      return signalPassFailure();
    }
    if (options.pageTokens % 16 != 0 || options.pageTokens <= 0) {
      module.emitError("expects page-tokens to be a multiple of 16, but got ")
          << options.pageTokens;
      return signalPassFailure();
    }
    Program program(module, options);
    program.describesWork = describeWork;
    program.context = model.getContextLength();

    WindowAttr window = getCommonWindow(module);
    // One that spans the context is none.
    if (window && window.getTokens() >= program.context)
      window = nullptr;
    auto entry = program.symbols.lookup<func::FuncOp>(model.getEntry());
    for (auto function : llvm::to_vector(module.getOps<func::FuncOp>())) {
      bool isEntry = function == entry;
      if (!isEntry && !function.isPrivate()) {
        function.emitOpError("expects to be private or the model's entry");
        return signalPassFailure();
      }
      if (failed(FunctionConverter(program, function).run(isEntry)))
        return signalPassFailure();
    }
    if (!program.pageBytes) {
      model.emitOpError("expects an entry that takes a cache");
      return signalPassFailure();
    }

    OpBuilder builder(model);
    auto converted = rt::ProgramOp::create(
        builder, model.getLoc(), model.getSymName(), model.getEntry(),
        model.getVocab(), model.getHidden(), model.getLayers(),
        model.getContextLength(), options.pageTokens, program.pageBytes,
        std::max<int64_t>(program.weightsBytes, 1), layoutHash(module),
        /*arena_per_token=*/0, /*arena_fixed=*/0,
        window ? window.getTokens() : 0, window ? window.getSink() : 0,
        /*cpu_features=*/0, /*manifest=*/"", model.getInfo());
    if (Attribute names = model->getAttr(adaptersAttrName))
      converted->setAttr(rt::adaptersAttrName, names);
    model.erase();
    // Weights that nothing reads are not stored.
    for (auto weight : llvm::to_vector(module.getOps<WeightOp>()))
      if (!weight->hasAttr(offsetName))
        weight.erase();
  }
};

} // namespace
