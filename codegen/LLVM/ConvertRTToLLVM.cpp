// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Turns the rt dialect into functions and constants of the llvm dialect, laid
// out as `hadal_rt/abi.h` has it. Bodies of kernels keep their other ops.

#include "codegen/Passes.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "hadal_rt/abi.h"
#include "hadal_rt/probe.h"

#include "mlir/Conversion/LLVMCommon/MemRefBuilder.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

#include <cstddef>

namespace hadal {
#define GEN_PASS_DEF_CONVERTRTTOLLVM
#include "codegen/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;

namespace {

constexpr StringLiteral manifestSection = ".hadal.manifest";
constexpr int64_t wordBytes = sizeof(int64_t);

//===----------------------------------------------------------------------===//
// Values in LLVM functions
//===----------------------------------------------------------------------===//

/// Builds the few LLVM ops that everything here is made of.
class LLVMBuilder : public ImplicitLocOpBuilder {
public:
  using ImplicitLocOpBuilder::ImplicitLocOpBuilder;

  Type pointer() { return LLVM::LLVMPointerType::get(getContext()); }
  Type word() { return getI64Type(); }

  Value constant(int64_t value) {
    return LLVM::ConstantOp::create(*this, word(), value);
  }
  Value add(Value a, Value b) { return LLVM::AddOp::create(*this, a, b); }
  Value mul(Value a, Value b) { return LLVM::MulOp::create(*this, a, b); }
  Value load(Type type, Value address) {
    return LLVM::LoadOp::create(*this, type, address);
  }
  /// The address \p bytes after \p base, in the same object.
  Value offset(Value base, Value bytes) {
    return LLVM::GEPOp::create(*this, pointer(), getI8Type(), base,
                               ValueRange{bytes},
                               LLVM::GEPNoWrapFlags::inbounds);
  }
  Value offset(Value base, int64_t bytes) {
    return bytes ? offset(base, constant(bytes)) : base;
  }
  Value cast(Type type, Value value) {
    if (value.getType() == type)
      return value;
    return UnrealizedConversionCastOp::create(*this, type, value).getResult(0);
  }
};

/// Reads fields of the step of one function, each once, at its start.
class StepFields {
public:
  StepFields(LLVM::LLVMFuncOp function)
      : entry(function.getBody().front()), step(entry.getArgument(0)),
        loc(function.getLoc()) {}

  Value getStep() const { return step; }
  Value getTokens() { return get(offsetof(hadal_rt_step_t, tokens), false); }
  Value getOutputs() { return get(offsetof(hadal_rt_step_t, outputs), false); }
  Value getPointer(size_t offset) { return get(offset, true); }
  Value getPageTableStride() {
    return get(offsetof(hadal_rt_step_t, page_table_stride), false);
  }

private:
  Value get(size_t offset, bool isPointer) {
    Value &field = fields[offset];
    if (!field) {
      LLVMBuilder builder(loc, step.getContext());
      builder.setInsertionPointToStart(&entry);
      field = builder.load(isPointer ? builder.pointer() : builder.word(),
                           builder.offset(step, offset));
    }
    return field;
  }

  Block &entry;
  Value step;
  Location loc;
  llvm::DenseMap<size_t, Value> fields;
};

} // namespace

static size_t getInputOffset(rt::InputKind kind) {
  switch (kind) {
  case rt::InputKind::TokenIds:
    return offsetof(hadal_rt_step_t, token_ids);
  case rt::InputKind::Positions:
    return offsetof(hadal_rt_step_t, positions);
  case rt::InputKind::Sequences:
    return offsetof(hadal_rt_step_t, sequences);
  case rt::InputKind::OutputRows:
    return offsetof(hadal_rt_step_t, output_rows);
  case rt::InputKind::Adapters:
    return offsetof(hadal_rt_step_t, adapters);
  }
  llvm_unreachable("no such input");
}

/// The address that \p op, an op of a step without operands besides it, gives.
static Value buildAddress(LLVMBuilder &builder, StepFields &fields,
                          Operation *op) {
  if (auto input = dyn_cast<rt::InputOp>(op))
    return fields.getPointer(getInputOffset(input.getKind()));
  return fields.getPointer(offsetof(hadal_rt_step_t, logits));
}

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

/// Refuses memrefs that an address alone does not describe.
static LogicalResult checkMemRef(Operation *op, MemRefType type) {
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(type.getStridesAndOffset(strides, offset)) || offset != 0 ||
      llvm::is_contained(strides, ShapedType::kDynamic))
    return op->emitError("expects static strides and offset 0, but got ")
           << type;
  if (llvm::any_of(type.getShape().drop_front(type.getRank() ? 1 : 0),
                   ShapedType::isDynamic))
    return op->emitError("expects only the first size to be dynamic, but got ")
           << type;
  if (!type.getElementType().isIntOrFloat() ||
      type.getElementTypeBitWidth() % 8 != 0)
    return op->emitError("expects elements of whole bytes, but got ") << type;
  if (type.getMemorySpace())
    return op->emitError("expects the default memory space, but got ") << type;
  return success();
}

static LogicalResult checkTypes(Operation *op, TypeRange types) {
  for (Type type : types)
    if (auto memref = dyn_cast<MemRefType>(type))
      if (failed(checkMemRef(op, memref)))
        return failure();
  return success();
}

/// Describes an argument that points to memory which nothing else may write
/// while the function runs.
static DictionaryAttr getReadOnlyPointer(MLIRContext *context,
                                         int64_t sizeBytes) {
  Builder builder(context);
  SmallVector<NamedAttribute> attributes;
  auto add = [&](StringRef name, Attribute value) {
    attributes.push_back(builder.getNamedAttr(name, value));
  };
  add(LLVM::LLVMDialect::getNoAliasAttrName(), builder.getUnitAttr());
  add(LLVM::LLVMDialect::getNoUndefAttrName(), builder.getUnitAttr());
  add(LLVM::LLVMDialect::getNonNullAttrName(), builder.getUnitAttr());
  add(LLVM::LLVMDialect::getReadonlyAttrName(), builder.getUnitAttr());
  add(LLVM::LLVMDialect::getAlignAttrName(),
      builder.getI64IntegerAttr(wordBytes));
  if (sizeBytes)
    add(LLVM::LLVMDialect::getDereferenceableAttrName(),
        builder.getI64IntegerAttr(sizeBytes));
  return builder.getDictionaryAttr(attributes);
}

namespace {

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

class KernelConverter {
public:
  KernelConverter(rt::KernelOp kernel, const LLVMTypeConverter &types)
      : kernel(kernel), types(types) {}

  LogicalResult convert() {
    if (failed(check()))
      return failure();
    LLVM::LLVMFuncOp function = createFunction();
    StepFields fields(function);
    convertArguments(function, fields);
    // Collected first, because conversion adds ops at the start.
    SmallVector<Operation *> ops;
    function.walk([&](Operation *op) {
      if (isa<rt::RTDialect>(op->getDialect()))
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      convertOp(op, fields);
      op->erase();
    }
    function.getBody().front().eraseArgument(4);
    kernel.erase();
    return success();
  }

private:
  LogicalResult check() {
    if (failed(checkTypes(kernel, kernel.getBody().getArgumentTypes())))
      return failure();
    WalkResult result = kernel.getBody().walk([&](Operation *op) {
      if (auto dim = dyn_cast<memref::DimOp>(op)) {
        auto type = dyn_cast<MemRefType>(dim.getSource().getType());
        auto index = dim.getConstantIndex();
        bool isStatic =
            type &&
            (type.hasStaticShape() ||
             (index && *index < type.getRank() && !type.isDynamicDim(*index)));
        if (!isStatic) {
          op->emitOpError("expects a static size: a kernel has sizes from "
                          "rt.tokens and rt.outputs");
          return WalkResult::interrupt();
        }
      }
      if (!isa<rt::RTDialect>(op->getDialect()))
        return WalkResult::advance();
      if (!isa<rt::TokensOp, rt::OutputsOp, rt::InputOp, rt::LogitsOp,
               rt::PageOp, rt::ReturnOp>(op)) {
        op->emitOpError("has no place in a kernel");
        return WalkResult::interrupt();
      }
      return WalkResult(checkTypes(op, op->getResultTypes()));
    });
    return failure(result.wasInterrupted());
  }

  /// Moves the body into a new function. Its entry block has the arguments of
  /// the ABI, then the step of the kernel, which the caller erases.
  LLVM::LLVMFuncOp createFunction() {
    MLIRContext *context = kernel.getContext();
    Location loc = kernel.getLoc();
    OpBuilder builder(kernel);
    Type pointer = LLVM::LLVMPointerType::get(context);
    Type word = builder.getI64Type();
    auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context),
                                            {pointer, pointer, word, word});
    auto none = DictionaryAttr::get(context);
    int64_t paramsBytes = kernel.getKernelArguments().size() * wordBytes;
    DictionaryAttr attributes[] = {
        getReadOnlyPointer(context, sizeof(hadal_rt_step_t)),
        getReadOnlyPointer(context, paramsBytes), none, none};
    auto function = LLVM::LLVMFuncOp::create(
        builder, loc, kernel.getSymName(), type, LLVM::Linkage::Internal,
        /*dsoLocal=*/true, LLVM::CConv::C, /*comdat=*/nullptr,
        /*attrs=*/{}, attributes);
    function.getBody().takeBody(kernel.getBodyRegion());
    Block &entry = function.getBody().front();
    for (auto [index, argument] : llvm::enumerate(type.getParams()))
      entry.insertArgument(index, argument, loc);
    return function;
  }

  /// Replaces all arguments but the step by what `params` holds.
  void convertArguments(LLVM::LLVMFuncOp function, StepFields &fields) {
    Block &entry = function.getBody().front();
    Value params = entry.getArgument(1);
    LLVMBuilder builder(kernel.getLoc(), kernel.getContext());
    builder.setInsertionPointToStart(&entry);
    for (unsigned bound : {0, 1}) {
      Value argument = entry.getArgument(5 + bound);
      argument.replaceAllUsesWith(
          builder.cast(argument.getType(), entry.getArgument(2 + bound)));
    }
    for (auto [index, argument] :
         llvm::enumerate(entry.getArguments().drop_front(7))) {
      if (argument.use_empty())
        continue;
      Value address = builder.offset(params, index * wordBytes);
      if (auto type = dyn_cast<MemRefType>(argument.getType())) {
        Value start = builder.load(builder.pointer(), address);
        argument.replaceAllUsesWith(
            describe(builder, type, start, [&] { return fields.getTokens(); }));
      } else {
        Value value = builder.load(builder.word(), address);
        argument.replaceAllUsesWith(builder.cast(argument.getType(), value));
      }
    }
    entry.eraseArguments(5, entry.getNumArguments() - 5);
  }

  /// A memref of \p type at \p address whose first size, if it is dynamic, is
  /// what \p getSize gives.
  Value describe(LLVMBuilder &builder, MemRefType type, Value address,
                 function_ref<Value()> getSize) {
    Location loc = builder.getLoc();
    SmallVector<int64_t> strides;
    int64_t offset;
    (void)type.getStridesAndOffset(strides, offset);
    auto descriptor =
        MemRefDescriptor::poison(builder, loc, types.convertType(type));
    descriptor.setAllocatedPtr(builder, loc, address);
    descriptor.setAlignedPtr(builder, loc, address);
    descriptor.setConstantOffset(builder, loc, 0);
    for (auto [index, size] : llvm::enumerate(type.getShape())) {
      if (ShapedType::isDynamic(size))
        descriptor.setSize(builder, loc, index, getSize());
      else
        descriptor.setConstantSize(builder, loc, index, size);
      descriptor.setConstantStride(builder, loc, index, strides[index]);
    }
    return builder.cast(type, descriptor);
  }

  void convertOp(Operation *op, StepFields &fields) {
    LLVMBuilder builder(op->getLoc(), op->getContext());
    builder.setInsertionPoint(op);
    auto tokens = [&] { return fields.getTokens(); };
    auto outputs = [&] { return fields.getOutputs(); };
    if (isa<rt::ReturnOp>(op)) {
      LLVM::ReturnOp::create(builder, ValueRange());
      return;
    }
    Value result;
    if (isa<rt::TokensOp>(op)) {
      result = builder.cast(builder.getIndexType(), tokens());
    } else if (isa<rt::OutputsOp>(op)) {
      result = builder.cast(builder.getIndexType(), outputs());
    } else {
      auto type = cast<MemRefType>(op->getResult(0).getType());
      auto input = dyn_cast<rt::InputOp>(op);
      bool perToken = input && input.getKind() != rt::InputKind::OutputRows;
      Value address =
          isa<rt::PageOp>(op)
              ? buildPageAddress(builder, cast<rt::PageOp>(op), fields)
              : buildAddress(builder, fields, op);
      result = perToken ? describe(builder, type, address, tokens)
                        : describe(builder, type, address, outputs);
    }
    op->getResult(0).replaceAllUsesWith(result);
  }

  Value buildPageAddress(LLVMBuilder &builder, rt::PageOp page,
                         StepFields &fields) {
    Type word = builder.word();
    Value table = fields.getPointer(offsetof(hadal_rt_step_t, page_table));
    Value entry =
        builder.add(builder.mul(builder.cast(word, page.getSequence()),
                                fields.getPageTableStride()),
                    builder.cast(word, page.getIndex()));
    Value number = LLVM::SExtOp::create(
        builder, word,
        builder.load(builder.getI32Type(),
                     LLVM::GEPOp::create(builder, builder.pointer(),
                                         builder.getI32Type(), table,
                                         ValueRange{entry},
                                         LLVM::GEPNoWrapFlags::inbounds)));
    Value bytes =
        builder.add(builder.mul(number, builder.constant(page.getPageBytes())),
                    builder.mul(builder.cast(word, page.getLayer()),
                                builder.constant(page.getLayerBytes())));
    Value start =
        builder.offset(fields.getPointer(offsetof(hadal_rt_step_t, kv)), bytes);
    return builder.offset(start, page.getBase() + page.getOffset());
  }

  rt::KernelOp kernel;
  const LLVMTypeConverter &types;
};

//===----------------------------------------------------------------------===//
// Host functions
//===----------------------------------------------------------------------===//

/// Buffers become their addresses; indices stay until arith is lowered.
class HostConverter {
public:
  HostConverter(func::FuncOp function) : source(function) {}

  LogicalResult convert() {
    if (failed(check()))
      return failure();
    LLVM::LLVMFuncOp function = createFunction();
    StepFields stepFields(function);
    fields = &stepFields;
    Block &entry = function.getBody().front();
    LLVMBuilder builder(source.getLoc(), source.getContext());
    builder.setInsertionPointToEnd(&entry);
    for (auto [from, to] :
         llvm::zip_equal(source.getArguments(), entry.getArguments()))
      map(builder, from, to);
    for (Operation &op : source.getBody().front()) {
      builder.setLoc(op.getLoc());
      convertOp(builder, &op);
    }
    source.erase();
    return success();
  }

private:
  LogicalResult check() {
    if (!source.getBody().hasOneBlock())
      return source.emitOpError("expects one block in a host function");
    if (source.getNumArguments() == 0 ||
        !isa<rt::StepType>(source.getArgumentTypes()[0]))
      return source.emitOpError("expects a step as the first argument of a "
                                "host function");
    for (Type type : source.getArgumentTypes().drop_front())
      if (!isa<MemRefType, IndexType>(type))
        return source.emitOpError("expects arguments that are buffers and "
                                  "indices, but got ")
               << type;
    if (source.getNumResults() != 0)
      return source.emitOpError("expects no results of a host function");
    if (failed(checkTypes(source, source.getArgumentTypes())))
      return failure();
    for (Operation &op : source.getBody().front())
      if (failed(checkOp(&op)))
        return failure();
    return success();
  }

  LogicalResult checkOp(Operation *op) {
    if (op->getNumRegions() != 0 ||
        !(isa<rt::TokensOp, rt::OutputsOp, rt::InputOp, rt::LogitsOp,
              rt::WeightOp, rt::AllocOp, rt::ColumnsOp, rt::CountOp,
              rt::DispatchOp, rt::ProbeOp, func::CallOp, func::ReturnOp>(op) ||
          isa<arith::ArithDialect>(op->getDialect())))
      return op->emitOpError("has no place in a host function");
    if (auto alloc = dyn_cast<rt::AllocOp>(op))
      if (!alloc.getOffsetPerToken())
        return op->emitOpError("expects a place in the arena; "
                               "-rt-plan-memory gives it one");
    for (Value operand : op->getOperands())
      if (isa<rt::StepType>(operand.getType()) &&
          operand != source.getArgument(0))
        return op->emitOpError("expects the first argument as the step");
    return checkTypes(op, op->getResultTypes());
  }

  LLVM::LLVMFuncOp createFunction() {
    MLIRContext *context = source.getContext();
    OpBuilder builder(source);
    Type pointer = LLVM::LLVMPointerType::get(context);
    SmallVector<Type> arguments;
    SmallVector<DictionaryAttr> attributes;
    for (Type type : source.getArgumentTypes()) {
      bool isIndex = isa<IndexType>(type);
      arguments.push_back(isIndex ? Type(builder.getI64Type()) : pointer);
      attributes.push_back(
          isa<rt::StepType>(type)
              ? getReadOnlyPointer(context, sizeof(hadal_rt_step_t))
              : DictionaryAttr::get(context));
    }
    auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context),
                                            arguments);
    auto function = LLVM::LLVMFuncOp::create(
        builder, source.getLoc(), source.getSymName(), type,
        LLVM::Linkage::Internal, /*dsoLocal=*/true, LLVM::CConv::C,
        /*comdat=*/nullptr, /*attrs=*/{}, attributes);
    function.addEntryBlock(builder);
    return function;
  }

  /// \p to stands for \p from: as it is, or as an index when that is one.
  void map(LLVMBuilder &builder, Value from, Value to) {
    if (isa<IndexType>(from.getType()))
      to = builder.cast(from.getType(), to);
    mapping.map(from, to);
  }

  /// What \p value is in a call: a pointer or a word.
  Value word(LLVMBuilder &builder, Value value) {
    Value mapped = mapping.lookup(value);
    return isa<IndexType>(mapped.getType())
               ? builder.cast(builder.word(), mapped)
               : mapped;
  }

  void convertOp(LLVMBuilder &builder, Operation *op) {
    if (isa<rt::TokensOp>(op))
      return map(builder, op->getResult(0), fields->getTokens());
    if (isa<rt::OutputsOp>(op))
      return map(builder, op->getResult(0), fields->getOutputs());
    if (isa<rt::InputOp, rt::LogitsOp>(op))
      return map(builder, op->getResult(0), buildAddress(builder, *fields, op));
    if (auto weight = dyn_cast<rt::WeightOp>(op)) {
      Value weights = fields->getPointer(offsetof(hadal_rt_step_t, weights));
      return map(builder, weight, builder.offset(weights, weight.getOffset()));
    }
    if (auto alloc = dyn_cast<rt::AllocOp>(op))
      return map(builder, alloc, buildAlloc(builder, alloc));
    if (auto columns = dyn_cast<rt::ColumnsOp>(op)) {
      auto type = cast<MemRefType>(columns.getType());
      int64_t bytes = columns.getBegin() * type.getElementTypeBitWidth() / 8;
      return map(builder, columns,
                 builder.offset(mapping.lookup(columns.getInput()), bytes));
    }
    if (auto count = dyn_cast<rt::CountOp>(op)) {
      Value number =
          builder.load(builder.getI32Type(), mapping.lookup(count.getBuffer()));
      return map(builder, count,
                 LLVM::SExtOp::create(builder, builder.word(), number));
    }
    if (auto dispatch = dyn_cast<rt::DispatchOp>(op))
      return buildDispatch(builder, dispatch);
    if (auto probe = dyn_cast<rt::ProbeOp>(op))
      return buildProbe(builder, probe);
    if (auto call = dyn_cast<func::CallOp>(op)) {
      SmallVector<Value> arguments;
      for (Value operand : call.getOperands())
        arguments.push_back(word(builder, operand));
      LLVM::CallOp::create(builder, TypeRange(), call.getCalleeAttr(),
                           arguments);
      return;
    }
    if (isa<func::ReturnOp>(op)) {
      LLVM::ReturnOp::create(builder, ValueRange());
      return;
    }
    builder.clone(*op, mapping);
  }

  Value buildAlloc(LLVMBuilder &builder, rt::AllocOp alloc) {
    Value address = fields->getPointer(offsetof(hadal_rt_step_t, arena));
    if (int64_t perToken = *alloc.getOffsetPerToken())
      address =
          builder.offset(address, builder.mul(fields->getTokens(),
                                              builder.constant(perToken)));
    return builder.offset(address, *alloc.getOffsetFixed());
  }

  void buildDispatch(LLVMBuilder &builder, rt::DispatchOp dispatch) {
    Value params = getParams(builder, dispatch.getArguments().size());
    for (auto [index, argument] : llvm::enumerate(dispatch.getArguments()))
      LLVM::StoreOp::create(builder, word(builder, argument),
                            builder.offset(params, index * wordBytes));
    Value function = fields->getPointer(offsetof(hadal_rt_step_t, dispatch));
    Value pool = fields->getPointer(offsetof(hadal_rt_step_t, pool));
    Value kernel = LLVM::AddressOfOp::create(builder, builder.pointer(),
                                             dispatch.getKernel());
    Type pointer = builder.pointer();
    auto type = LLVM::LLVMFunctionType::get(
        LLVM::LLVMVoidType::get(builder.getContext()),
        {pointer, pointer, pointer, pointer, builder.word()});
    LLVM::CallOp::create(builder, type,
                         ValueRange{function, pool, fields->getStep(), kernel,
                                    params,
                                    word(builder, dispatch.getItems())});
  }

  void buildProbe(LLVMBuilder &builder, rt::ProbeOp probe) {
    auto strideOf = [](Value buffer) {
      SmallVector<int64_t> strides;
      int64_t offset;
      auto type = cast<MemRefType>(buffer.getType());
      return succeeded(type.getStridesAndOffset(strides, offset)) ? strides[0]
                                                                  : 0;
    };
    Value experts = probe.getExperts();
    auto number = [&](int64_t value) { return builder.constant(value); };
    // The fields of hadal_rt_probe_t.
    static_assert(offsetof(hadal_rt_probe_t, expert_count) == 10 * wordBytes);
    const Value words[] = {number(probe.getKind()),
                           number(probe.getId()),
                           word(builder, probe.getLayer()),
                           word(builder, probe.getInput()),
                           word(builder, probe.getRows()),
                           number(probe.getColumns()),
                           number(strideOf(probe.getInput())),
                           experts ? word(builder, experts) : number(0),
                           number(probe.getTopK()),
                           number(experts ? strideOf(experts) : 0),
                           number(probe.getExpertCount())};
    Value params = getParams(builder, std::size(words));
    for (auto [index, value] : llvm::enumerate(words))
      LLVM::StoreOp::create(builder, value,
                            builder.offset(params, index * wordBytes));
    constexpr StringLiteral name = "hadal_rt_probe";
    auto module = params.getDefiningOp()->getParentOfType<ModuleOp>();
    if (!module.lookupSymbol(name)) {
      auto type = LLVM::LLVMFunctionType::get(
          LLVM::LLVMVoidType::get(builder.getContext()), {builder.pointer()});
      OpBuilder declaration = OpBuilder::atBlockEnd(module.getBody());
      LLVM::LLVMFuncOp::create(declaration, probe.getLoc(), name, type);
    }
    LLVM::CallOp::create(builder, TypeRange(), name, ValueRange{params});
  }

  /// Stack memory for \p count words. All dispatches share it, because each
  /// is over when the next begins.
  Value getParams(LLVMBuilder &builder, int64_t count) {
    if (!params) {
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(builder.getInsertionBlock());
      params =
          LLVM::AllocaOp::create(builder, builder.pointer(), builder.word(),
                                 builder.constant(1), wordBytes);
    }
    auto size = params.getArraySize().getDefiningOp<LLVM::ConstantOp>();
    if (cast<IntegerAttr>(size.getValue()).getInt() < count)
      size.setValueAttr(builder.getI64IntegerAttr(count));
    return params;
  }

  func::FuncOp source;
  StepFields *fields = nullptr;
  IRMapping mapping;
  LLVM::AllocaOp params;
};

//===----------------------------------------------------------------------===//
// The model
//===----------------------------------------------------------------------===//

/// Builds the constant `hadal_rt_model_t`.
class ProgramConverter {
public:
  ProgramConverter(rt::ProgramOp program, StringRef symbol, StringRef lesser)
      : program(program), symbol(symbol), lesser(lesser),
        builder(program.getLoc(), program.getContext()) {
    builder.setInsertionPoint(program);
  }

  LogicalResult convert() {
    FailureOr<std::string> hash = program.getLayoutHashBytes();
    if (failed(hash))
      return failure();
    if (!llvm::isUInt<32>(program.getCpuFeatures()))
      return program.emitOpError("expects cpu_features of 32 bits, but got ")
             << program.getCpuFeatures();

    StringRef name = program.getSymName();
    if (auto given = program.getInfo().getAs<StringAttr>("name"))
      name = given.getValue();
    auto nameGlobal = createString((symbol + ".name").str(), name);
    auto adaptersGlobal = createString((symbol + ".adapters").str(),
                                       rt::joinAdapterNames(program));
    auto manifestGlobal =
        createString((symbol + ".manifest").str(), program.getManifest());
    if (!program.getManifest().empty())
      keepInSection(program.getManifest());

    Type pointer = builder.pointer();
    auto hashType = LLVM::LLVMArrayType::get(builder.getI8Type(), hash->size());
    auto text = [&](LLVM::GlobalOp global) -> Value {
      return LLVM::AddressOfOp::create(builder, global);
    };
    auto number = [&](Type type, int64_t value) -> Value {
      return LLVM::ConstantOp::create(builder, type,
                                      builder.getIntegerAttr(type, value));
    };
    Type i32 = builder.getI32Type(), i64 = builder.getI64Type();
    SmallVector<Type> types = {i32, i32, pointer, pointer, hashType};
    types.append(11, i64);
    types.append(4, pointer);
    // No padding: LLVM lays this out as C does.
    static_assert(offsetof(hadal_rt_model_t, name) == 8 &&
                  offsetof(hadal_rt_model_t, layout_hash) == 24 &&
                  offsetof(hadal_rt_model_t, weights_bytes) == 40 &&
                  offsetof(hadal_rt_model_t, step) == 40 + 11 * 8 &&
                  offsetof(hadal_rt_model_t, adapter_names) == 40 + 12 * 8 &&
                  offsetof(hadal_rt_model_t, device) == 40 + 13 * 8 &&
                  offsetof(hadal_rt_model_t, lesser) == 40 + 14 * 8 &&
                  sizeof(hadal_rt_model_t) == 40 + 15 * 8);
    auto type = LLVM::LLVMStructType::getLiteral(builder.getContext(), types);
    auto createModel = [&](StringRef name) {
      return LLVM::GlobalOp::create(builder, type, /*isConstant=*/true,
                                    LLVM::Linkage::External, name, Attribute(),
                                    /*alignment=*/8);
    };
    LLVM::GlobalOp lesserModel;
    if (!lesser.empty())
      lesserModel = createModel(lesser);
    LLVM::GlobalOp model = createModel(symbol);
    initialize(model, [&] {
      return SmallVector<Value>{
          number(i32, HADAL_RT_ABI_VERSION),
          number(i32, int32_t(program.getCpuFeatures())),
          text(nameGlobal),
          text(manifestGlobal),
          LLVM::ConstantOp::create(builder, hashType,
                                   builder.getStringAttr(*hash)),
          number(i64, program.getWeightsBytes()),
          number(i64, program.getVocab()),
          number(i64, program.getHidden()),
          number(i64, program.getLayers()),
          number(i64, program.getContextLength()),
          number(i64, program.getPageTokens()),
          number(i64, program.getPageBytes()),
          number(i64, program.getArenaPerToken()),
          number(i64, program.getArenaFixed()),
          number(i64, program.getWindowTokens()),
          number(i64, program.getSinkTokens()),
          LLVM::AddressOfOp::create(builder, pointer, program.getEntry()),
          text(adaptersGlobal),
          LLVM::ZeroOp::create(builder, pointer),
          lesserModel ? text(lesserModel)
                      : LLVM::ZeroOp::create(builder, pointer)};
    });
    program.erase();
    return success();
  }

private:
  LLVM::GlobalOp createBytes(StringRef name, StringRef bytes,
                             LLVM::Linkage linkage) {
    auto type = LLVM::LLVMArrayType::get(builder.getI8Type(), bytes.size());
    return LLVM::GlobalOp::create(builder, type, /*isConstant=*/true, linkage,
                                  name, builder.getStringAttr(bytes));
  }

  /// A NUL-terminated string.
  LLVM::GlobalOp createString(StringRef name, StringRef value) {
    std::string bytes = value.str();
    bytes.push_back('\0');
    auto global = createBytes(name, bytes, LLVM::Linkage::Private);
    global.setUnnamedAddr(LLVM::UnnamedAddr::Global);
    return global;
  }

  /// Puts \p bytes in a section of their own, for tools that read objects.
  void keepInSection(StringRef bytes) {
    auto global = createBytes((symbol + ".manifest.section").str(), bytes,
                              LLVM::Linkage::Internal);
    global.setSection(manifestSection);
    global.setAlignment(1);
    auto type = LLVM::LLVMArrayType::get(builder.pointer(), 1);
    auto used = LLVM::GlobalOp::create(builder, type, /*isConstant=*/false,
                                       LLVM::Linkage::Appending, "llvm.used",
                                       Attribute());
    used.setSection("llvm.metadata");
    initialize(used, [&]() -> SmallVector<Value> {
      return {LLVM::AddressOfOp::create(builder, global)};
    });
  }

  /// Makes \p global the aggregate of what \p build gives.
  void initialize(LLVM::GlobalOp global,
                  function_ref<SmallVector<Value>()> build) {
    OpBuilder::InsertionGuard guard(builder);
    builder.createBlock(&global.getInitializerRegion());
    Value aggregate = LLVM::PoisonOp::create(builder, global.getType());
    for (auto [index, value] : llvm::enumerate(build()))
      aggregate = LLVM::InsertValueOp::create(builder, aggregate, value, index);
    LLVM::ReturnOp::create(builder, aggregate);
  }

  rt::ProgramOp program;
  StringRef symbol, lesser;
  LLVMBuilder builder;
};

struct ConvertRTToLLVM
    : public hadal::impl::ConvertRTToLLVMBase<ConvertRTToLLVM> {
  using ConvertRTToLLVMBase::ConvertRTToLLVMBase;

  void runOnOperation() override {
    if (failed(convert(getOperation())))
      signalPassFailure();
  }

  LogicalResult convert(ModuleOp module) {
    // C code has to be able to name it.
    auto isIdentifier = [](StringRef name) {
      return !name.empty() && !llvm::isDigit(name[0]) &&
             llvm::all_of(name,
                          [](char c) { return llvm::isAlnum(c) || c == '_'; });
    };
    for (const std::string &name : {symbol.getValue(), lesser.getValue()})
      if (!isIdentifier(name) && !(name.empty() && !symbol.empty()))
        return module.emitError("expects a symbol that is an identifier of C, "
                                "but got '")
               << name << "'";
    auto programs = llvm::to_vector(module.getOps<rt::ProgramOp>());
    if (programs.size() > 1)
      return programs[1].emitOpError("expects one rt.program in a module");
    if (!programs.empty() && SymbolTable::lookupSymbolIn(module, symbol) &&
        programs.front().getSymName() != symbol)
      return programs.front().emitOpError("expects no other symbol @")
             << symbol;

    for (auto weight :
         llvm::make_early_inc_range(module.getOps<deepseek::WeightOp>()))
      weight.erase();
    LLVMTypeConverter types(&getContext());
    for (auto kernel :
         llvm::make_early_inc_range(module.getOps<rt::KernelOp>()))
      if (failed(KernelConverter(kernel, types).convert()))
        return failure();
    for (auto function :
         llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
      if (!function.isExternal() && failed(HostConverter(function).convert()))
        return failure();
    for (rt::ProgramOp program : programs)
      if (failed(ProgramConverter(program, symbol, lesser).convert()))
        return failure();
    return success();
  }
};

} // namespace
