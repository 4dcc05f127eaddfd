// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a C program sees of a compiled graph: `hadal_rt_graph_t`.

#include "codegen/Passes.h"

#include "hadal_rt/graph.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "llvm/ADT/StringExtras.h"

#include <cstddef>

namespace hadal {
#define GEN_PASS_DEF_EMITGRAPHENTRY
#include "codegen/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::rt;

/// The number of an element type in C; 0 if there is none.
static int32_t getElement(Type type) {
  bool isUnsigned = type.isUnsignedInteger();
  if (type.isF64())
    return HADAL_RT_ELEMENT_F64;
  if (type.isF32())
    return HADAL_RT_ELEMENT_F32;
  if (type.isF16())
    return HADAL_RT_ELEMENT_F16;
  if (type.isBF16())
    return HADAL_RT_ELEMENT_BF16;
  if (!type.isInteger())
    return 0;
  switch (type.getIntOrFloatBitWidth()) {
  case 1:
    return HADAL_RT_ELEMENT_BOOL;
  case 8:
    return isUnsigned ? HADAL_RT_ELEMENT_U8 : HADAL_RT_ELEMENT_I8;
  case 16:
    return isUnsigned ? HADAL_RT_ELEMENT_U16 : HADAL_RT_ELEMENT_I16;
  case 32:
    return isUnsigned ? HADAL_RT_ELEMENT_U32 : HADAL_RT_ELEMENT_I32;
  case 64:
    return isUnsigned ? HADAL_RT_ELEMENT_U64 : HADAL_RT_ELEMENT_I64;
  default:
    return 0;
  }
}

namespace {
class EntryBuilder {
public:
  EntryBuilder(LLVM::LLVMFuncOp function, StringRef symbol)
      : function(function), symbol(symbol), builder(function),
        loc(function.getLoc()),
        pointer(LLVM::LLVMPointerType::get(function.getContext())) {}

  LogicalResult build();

private:
  FailureOr<ArrayAttr> getArray(StringRef name) {
    if (auto array = function->getAttrOfType<ArrayAttr>(name))
      return array;
    return function.emitOpError("expects an attribute '") << name << "'";
  }
  int64_t getNumber(StringRef name) {
    auto value = function->getAttrOfType<IntegerAttr>(name);
    return value ? value.getInt() : 0;
  }
  Value number(Type type, int64_t value) {
    return LLVM::ConstantOp::create(builder, loc, type,
                                    builder.getIntegerAttr(type, value));
  }
  LLVM::GlobalOp makeGlobal(Type type, const Twine &name, Attribute value,
                            LLVM::Linkage linkage = LLVM::Linkage::Private) {
    return LLVM::GlobalOp::create(builder, loc, type, /*isConstant=*/true,
                                  linkage, (symbol + name).str(), value,
                                  /*alignment=*/0);
  }
  LLVM::GlobalOp makeString(const Twine &name, StringRef text) {
    std::string bytes = text.str();
    bytes.push_back('\0');
    return makeGlobal(
        LLVM::LLVMArrayType::get(builder.getI8Type(), bytes.size()), name,
        builder.getStringAttr(bytes));
  }
  void initialize(LLVM::GlobalOp global, function_ref<Value()> build) {
    OpBuilder::InsertionGuard guard(builder);
    builder.createBlock(&global.getInitializerRegion());
    LLVM::ReturnOp::create(builder, loc, build());
  }
  Value fill(Type type, ArrayRef<Value> fields) {
    Value aggregate = LLVM::PoisonOp::create(builder, loc, type);
    for (auto [i, field] : llvm::enumerate(fields))
      aggregate = LLVM::InsertValueOp::create(builder, loc, aggregate, field,
                                              int64_t(i));
    return aggregate;
  }
  Value addressOf(LLVM::GlobalOp global) {
    return LLVM::AddressOfOp::create(builder, loc, global);
  }
  FailureOr<LLVM::GlobalOp> makeTensors(StringRef what, ArrayAttr names,
                                        ArrayAttr types);
  LLVM::LLVMFuncOp makeRun(int64_t inputs, int64_t outputs);

  LLVM::LLVMFuncOp function;
  StringRef symbol;
  OpBuilder builder;
  Location loc;
  Type pointer;
};
} // namespace

/// An array of `hadal_rt_graph_tensor_t`.
FailureOr<LLVM::GlobalOp>
EntryBuilder::makeTensors(StringRef what, ArrayAttr names, ArrayAttr types) {
  Type i32 = builder.getI32Type();
  static_assert(offsetof(hadal_rt_graph_tensor_t, rank) == 16 &&
                sizeof(hadal_rt_graph_tensor_t) == 24);
  auto entry = LLVM::LLVMStructType::getLiteral(builder.getContext(),
                                                {pointer, pointer, i32, i32});
  SmallVector<std::array<LLVM::GlobalOp, 2>> parts;
  SmallVector<std::pair<int32_t, int32_t>> numbers;
  for (auto [i, name, type] : llvm::enumerate(names.getAsRange<StringAttr>(),
                                              types.getAsRange<TypeAttr>())) {
    auto tensor = cast<RankedTensorType>(type.getValue());
    int32_t element = getElement(tensor.getElementType());
    if (!element)
      return function.emitOpError("expects elements that C has, but got ")
             << tensor;
    std::string prefix = ("." + what + Twine(i)).str();
    auto text = makeString(prefix + ".name", name.getValue());
    auto shapeType = LLVM::LLVMArrayType::get(builder.getI64Type(),
                                              size_t(tensor.getRank()));
    auto shape = makeGlobal(
        shapeType, prefix + ".shape",
        DenseElementsAttr::get(
            RankedTensorType::get(tensor.getRank(), builder.getI64Type()),
            tensor.getShape()));
    parts.push_back({text, shape});
    numbers.emplace_back(int32_t(tensor.getRank()), element);
  }
  auto type = LLVM::LLVMArrayType::get(entry, parts.size());
  auto global = makeGlobal(type, "." + what, Attribute());
  initialize(global, [&] {
    SmallVector<Value> entries;
    for (auto [part, pair] : llvm::zip(parts, numbers))
      entries.push_back(
          fill(entry, {addressOf(part[0]), addressOf(part[1]),
                       number(i32, pair.first), number(i32, pair.second)}));
    return fill(type, entries);
  });
  return global;
}

/// Unpacks the arrays of pointers, and calls the function.
LLVM::LLVMFuncOp EntryBuilder::makeRun(int64_t inputs, int64_t outputs) {
  Type i32 = builder.getI32Type();
  auto type =
      LLVM::LLVMFunctionType::get(i32, {pointer, pointer, pointer, pointer});
  auto run = LLVM::LLVMFuncOp::create(builder, loc, (symbol + "_run").str(),
                                      type, LLVM::Linkage::Internal);
  OpBuilder::InsertionGuard guard(builder);
  Block *block = run.addEntryBlock(builder);
  builder.setInsertionPointToStart(block);
  SmallVector<Value> arguments;
  auto load = [&](Value array, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      Value at = LLVM::GEPOp::create(builder, loc, pointer, pointer, array,
                                     ArrayRef<LLVM::GEPArg>{int32_t(i)});
      arguments.push_back(LLVM::LoadOp::create(builder, loc, pointer, at));
    }
  };
  load(block->getArgument(0), inputs);
  load(block->getArgument(1), outputs);
  arguments.push_back(block->getArgument(2));
  arguments.push_back(block->getArgument(3));
  Value failed =
      LLVM::CallOp::create(builder, loc, function, arguments).getResult();
  Value status = LLVM::SelectOp::create(builder, loc, failed,
                                        number(i32, HADAL_RT_INVALID_ARGUMENT),
                                        number(i32, HADAL_RT_OK));
  LLVM::ReturnOp::create(builder, loc, status);
  return run;
}

LogicalResult EntryBuilder::build() {
  auto inputNames = getArray(graphInputsAttrName);
  auto inputTypes = getArray(graphInputTypesAttrName);
  auto outputNames = getArray(graphOutputsAttrName);
  auto outputTypes = getArray(graphOutputTypesAttrName);
  if (failed(inputNames) || failed(inputTypes) || failed(outputNames) ||
      failed(outputTypes))
    return failure();
  auto inputCount = int64_t(inputNames->size());
  auto outputCount = int64_t(outputNames->size());
  if (int64_t(function.getNumArguments()) != inputCount + outputCount + 2)
    return function.emitOpError("expects ")
           << inputCount << " inputs, " << outputCount
           << " outputs, weights and an arena, but got "
           << function.getNumArguments() << " arguments";
  std::string hash(16, '\0');
  if (auto text = function->getAttrOfType<StringAttr>(graphHashAttrName))
    if (text.size() != 32 || !llvm::tryGetFromHex(text.getValue(), hash))
      return function.emitOpError(
                 "expects a hash of 32 hexadecimal digits, but got ")
             << text;
  builder.setInsertionPointAfter(function);
  auto inputs = makeTensors("inputs", *inputNames, *inputTypes);
  auto outputs = makeTensors("outputs", *outputNames, *outputTypes);
  if (failed(inputs) || failed(outputs))
    return failure();
  auto nameText = function->getAttrOfType<StringAttr>(graphNameAttrName);
  auto name = makeString(".name", nameText ? nameText.getValue() : "graph");
  LLVM::LLVMFuncOp run = makeRun(inputCount, outputCount);
  function.setLinkage(LLVM::Linkage::Internal);

  Type i32 = builder.getI32Type(), i64 = builder.getI64Type();
  auto hashType = LLVM::LLVMArrayType::get(builder.getI8Type(), hash.size());
  static_assert(offsetof(hadal_rt_graph_t, layout_hash) == 16 &&
                offsetof(hadal_rt_graph_t, weights_bytes) == 32 &&
                offsetof(hadal_rt_graph_t, inputs) == 64 &&
                offsetof(hadal_rt_graph_t, run) == 80 &&
                sizeof(hadal_rt_graph_t) == 88);
  auto type = LLVM::LLVMStructType::getLiteral(
      builder.getContext(), {i32, i32, pointer, hashType, i64, i64, i64, i64,
                             pointer, pointer, pointer});
  auto graph = makeGlobal(type, "", Attribute(), LLVM::Linkage::External);
  initialize(graph, [&] {
    return fill(
        type,
        {number(i32, HADAL_RT_GRAPH_ABI_VERSION),
         number(i32, int32_t(getNumber(graphCpuFeaturesAttrName))),
         addressOf(name),
         LLVM::ConstantOp::create(builder, loc, hashType,
                                  builder.getStringAttr(hash)),
         number(i64, getNumber(graphWeightsBytesAttrName)),
         number(i64, getNumber(graphArenaBytesAttrName)),
         number(i64, inputCount), number(i64, outputCount), addressOf(*inputs),
         addressOf(*outputs),
         LLVM::AddressOfOp::create(builder, loc, pointer, run.getSymName())});
  });
  for (StringRef each :
       {graphInputsAttrName, graphInputTypesAttrName, graphOutputsAttrName,
        graphOutputTypesAttrName, graphHashAttrName, graphNameAttrName,
        graphCpuFeaturesAttrName, graphWeightsBytesAttrName,
        graphArenaBytesAttrName})
    function->removeAttr(each);
  return success();
}

namespace {
struct EmitGraphEntry : public hadal::impl::EmitGraphEntryBase<EmitGraphEntry> {
  using EmitGraphEntryBase::EmitGraphEntryBase;

  void runOnOperation() override {
    for (auto function :
         llvm::make_early_inc_range(getOperation().getOps<LLVM::LLVMFuncOp>()))
      if (function->hasAttr(graphInputsAttrName) &&
          failed(EntryBuilder(function, symbol).build()))
        return signalPassFailure();
  }
};
} // namespace
