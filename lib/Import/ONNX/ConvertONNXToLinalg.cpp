// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A graph becomes a function of tensors, node by node; its initializers become
// weights.

#include "lib/Import/ONNX/ConvertONNXToLinalg.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/RT/IR/RTOps.h"
#include "lib/Import/JSON.h"
#include "lib/Import/ONNX/GraphImporter.h"
#include "lib/Import/ONNX/GraphLowering.h"
#include "lib/Import/ONNX/Passes.h"
#include "lib/Import/VerifyModule.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

namespace hadal::onnx {
#define GEN_PASS_DEF_CONVERTONNXTOLINALG
#include "lib/Import/ONNX/Passes.h.inc"
} // namespace hadal::onnx

/// Elements of an input.
constexpr int64_t maxElements = int64_t(1) << 40;

/// On an argument, false: what the caller owns is not written.
constexpr StringLiteral readOnly =
    bufferization::BufferizationDialect::kWritableAttrName;

static std::string toText(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

namespace {
class GraphConverter {
public:
  GraphConverter(func::FuncOp graph, const LinalgOptions &options)
      : graph(graph), options(options), files(options.folder),
        builder(graph.getContext()),
        module(ModuleOp::create(builder.getUnknownLoc())) {}

  absl::StatusOr<OwningOpRef<ModuleOp>> run();

private:
  absl::Status checkOperators();
  absl::Status addInputs();
  absl::Status addWeight(GraphLowering &lowering, InitializerOp initializer);
  absl::Status addConstant(GraphLowering &lowering, ConstantOp constant);
  absl::Status addOutputs(GraphLowering &lowering);
  /// How many nodes there are of an operator, as the end of a message.
  std::string countOf(StringRef type) {
    return std::to_string(counts[type].second) + " of its kind";
  }

  func::FuncOp graph;
  const LinalgOptions &options;
  TensorFiles files;
  OpBuilder builder;
  OwningOpRef<ModuleOp> module;
  func::FuncOp function;
  llvm::StringSet<> symbols;
  /// The first node of each operator, and how many there are.
  llvm::MapVector<StringRef, std::pair<NodeOp, int64_t>> counts;
};
} // namespace

absl::Status GraphConverter::checkOperators() {
  for (auto node : graph.getOps<NodeOp>()) {
    auto &[first, count] = counts[node.getOpType()];
    if (!first)
      first = node;
    ++count;
  }
  std::string unknown;
  for (auto &[type, entry] : counts)
    if (!GraphLowering::isKnown(type))
      unknown += (unknown.empty() ? "" : ", ") + quote(type) + " (node " +
                 quote(entry.first.getName()) + ", " + countOf(type) + ")";
  if (unknown.empty())
    return absl::OkStatus();
  return unimplemented(options.path +
                       ": has operators that are not supported: " + unknown);
}

absl::Status GraphConverter::addInputs() {
  SmallVector<Type> types;
  for (BlockArgument argument : graph.getArguments()) {
    auto type = cast<RankedTensorType>(argument.getType());
    auto name = graph.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                   "onnx.name");
    if (!name)
      return invalid(options.path + ": has an input without a name");
    std::string where = options.path + ": input " + quote(name.getValue());
    if (!type.hasStaticShape())
      return unimplemented(where + " has the shape " + toText(type) +
                           ", and a graph that is no language model needs "
                           "sizes that are known");
    // Before anything counts its elements.
    std::optional<int64_t> count = checkedProduct(type.getShape());
    if (!count || *count > maxElements)
      return invalid(where + " has the shape " + toText(type) +
                     ", which is not possible");
    if (!isElement(type.getElementType()))
      return unimplemented(where + " has elements of type " +
                           toText(type.getElementType()) +
                           ", which are not supported");
    Type element = type.getElementType();
    if (auto integer = dyn_cast<IntegerType>(element))
      element = builder.getIntegerType(integer.getWidth());
    types.push_back(*count ? RankedTensorType::get(type.getShape(), element)
                           : RankedTensorType::get({0}, element));
  }
  function = func::FuncOp::create(builder, graph.getLoc(), graphName,
                                  builder.getFunctionType(types, {}));
  function.addEntryBlock();
  for (unsigned i = 0; i < types.size(); ++i)
    function.setArgAttr(i, readOnly, builder.getBoolAttr(false));
  return absl::OkStatus();
}

/// An initializer becomes a weight of bytes, which the function takes.
absl::Status GraphConverter::addWeight(GraphLowering &lowering,
                                       InitializerOp initializer) {
  if (initializer.getResult().use_empty())
    return absl::OkStatus();
  RankedTensorType type = initializer.getType();
  Type element = type.getElementType();
  std::string where = options.path + ": tensor " + quote(initializer.getName());
  RankedTensorType logical = getLogicalType(initializer);
  bool isPacked = logical != type;
  if (!isElement(element) || !logical.getElementType().isIntOrFloat() ||
      (isPacked && !logical.getElementType().isInteger()))
    return unimplemented(where + " has elements of type " +
                         toText(logical.getElementType()) +
                         ", which are not supported");
  int64_t bytes = type.getNumElements() *
                  (std::max(element.getIntOrFloatBitWidth(), 8u) / 8);
  if (auto integer = dyn_cast<IntegerType>(element))
    element = builder.getIntegerType(integer.getWidth());
  auto stored = RankedTensorType::get(type.getShape(), element);
  if (!bytes) {
    Value empty = tensor::EmptyOp::create(builder, initializer.getLoc(),
                                          type.getShape(), element);
    lowering.define(initializer.getResult(), {empty, type.getElementType()});
    return absl::OkStatus();
  }
  std::string name = initializer.getName().str();
  while (name.empty() || name == graphName || !symbols.insert(name).second)
    name += "_";
  OpBuilder top = OpBuilder::atBlockBegin(module->getBody());
  top.setInsertionPoint(function);
  auto raw = RankedTensorType::get({bytes}, builder.getI8Type());
  auto weight =
      deepseek::WeightOp::create(top, initializer.getLoc(), name, raw);
  OpBuilder recipe =
      OpBuilder::atBlockBegin(&weight.getRecipe().emplaceBlock());
  SmallVector<StringRef> sourceFiles;
  SmallVector<int64_t> offsets;
  if (!initializer.getFile().empty()) {
    sourceFiles.push_back(initializer.getFile());
    offsets.push_back(int64_t(initializer.getOffset()));
  }
  Value source = deepseek::SourceOp::create(
      recipe, initializer.getLoc(), raw, getSourceName(initializer),
      builder.getStrArrayAttr(sourceFiles), offsets);
  deepseek::YieldOp::create(recipe, initializer.getLoc(), source);

  unsigned index = function.getNumArguments();
  NamedAttribute attributes[] = {
      {readOnly, builder.getBoolAttr(false)},
      {rt::graphWeightAttrName,
       FlatSymbolRefAttr::get(builder.getContext(), name)}};
  if (failed(function.insertArgument(index, stored,
                                     builder.getDictionaryAttr(attributes),
                                     initializer.getLoc())))
    return absl::InternalError("a function does not take a weight");
  Lowered lowered{function.getArgument(index), type.getElementType()};
  if (isPacked)
    lowered = lowering.unpack(lowered, logical);
  lowering.define(initializer.getResult(), lowered);
  return absl::OkStatus();
}

absl::Status GraphConverter::addConstant(GraphLowering &lowering,
                                         ConstantOp constant) {
  auto value = dyn_cast<DenseElementsAttr>(constant.getValue());
  Type element = value ? value.getElementType() : Type();
  if (!value || !isElement(element))
    return unimplemented(options.path + ": a constant has elements of type " +
                         toText(constant.getResult().getType()) +
                         ", which are not supported");
  if (auto integer = dyn_cast<IntegerType>(element)) {
    Type signless = builder.getIntegerType(integer.getWidth());
    if (signless != element)
      value = value.bitcast(signless);
  }
  Value result = arith::ConstantOp::create(builder, constant.getLoc(), value);
  lowering.define(constant.getResult(), {result, element});
  return absl::OkStatus();
}

absl::Status GraphConverter::addOutputs(GraphLowering &lowering) {
  Operation *end = graph.front().getTerminator();
  SmallVector<Value> results;
  SmallVector<Attribute> elements;
  auto names = graph->getAttrOfType<ArrayAttr>("onnx.outputs");
  for (auto [i, value] : llvm::enumerate(end->getOperands())) {
    Lowered result = lowering.lookup(value);
    if (!result)
      return unimplemented(options.path + ": output " + Twine(i) +
                           " is one of its node that is not supported");
    // A zero leaves only the strides of memrefs of one dimension known.
    Value output = result.value;
    if (llvm::is_contained(result.getShape(), 0))
      output =
          tensor::EmptyOp::create(builder, end->getLoc(), ArrayRef<int64_t>{0},
                                  getElementTypeOrSelf(output.getType()));
    results.push_back(output);
    elements.push_back(TypeAttr::get(
        RankedTensorType::get(result.getShape(), result.element)));
  }
  if (!names || names.size() != results.size())
    return invalid(options.path + ": has outputs without names");
  results.push_back(lowering.getFailure());
  func::ReturnOp::create(builder, end->getLoc(), results);
  function.setFunctionType(builder.getFunctionType(
      function.getArgumentTypes(), TypeRange(ValueRange(results))));

  SmallVector<Attribute> inputNames, inputElements;
  for (BlockArgument argument : graph.getArguments()) {
    inputNames.push_back(
        graph.getArgAttr(argument.getArgNumber(), "onnx.name"));
    inputElements.push_back(TypeAttr::get(argument.getType()));
  }
  function->setAttr(rt::graphInputsAttrName, builder.getArrayAttr(inputNames));
  function->setAttr(rt::graphInputTypesAttrName,
                    builder.getArrayAttr(inputElements));
  function->setAttr(rt::graphOutputsAttrName, names);
  function->setAttr(rt::graphOutputTypesAttrName,
                    builder.getArrayAttr(elements));
  return absl::OkStatus();
}

absl::StatusOr<OwningOpRef<ModuleOp>> GraphConverter::run() {
  if (absl::Status status = checkOperators(); !status.ok())
    return status;
  builder.setInsertionPointToEnd(module->getBody());
  if (absl::Status status = addInputs(); !status.ok())
    return status;
  builder.setInsertionPointToEnd(&function.front());
  auto opsets = graph->getAttrOfType<DictionaryAttr>("onnx.opsets");
  auto opset = opsets ? opsets.getAs<IntegerAttr>("ai.onnx") : IntegerAttr();
  Evaluator evaluator(graph, files);
  GraphLowering lowering(builder, evaluator, opset ? opset.getInt() : 0);
  for (BlockArgument argument : graph.getArguments()) {
    auto type = cast<RankedTensorType>(argument.getType());
    Value input = function.getArgument(argument.getArgNumber());
    if (llvm::is_contained(type.getShape(), 0))
      input = lowering.empty(type.getShape(), type.getElementType());
    lowering.define(argument, {input, type.getElementType()});
  }
  for (Operation &op : graph.front()) {
    absl::Status status;
    if (auto initializer = dyn_cast<InitializerOp>(op))
      status = addWeight(lowering, initializer);
    else if (auto constant = dyn_cast<ConstantOp>(op))
      status = addConstant(lowering, constant);
    else if (auto node = dyn_cast<NodeOp>(op);
             node && failed(lowering.lower(node)))
      status = unimplemented(options.path + ": node " + quote(node.getName()) +
                             " (" + quote(node.getOpType()) + ", " +
                             countOf(node.getOpType()) +
                             ") is not supported: it " + lowering.message);
    if (!status.ok())
      return status;
  }
  if (absl::Status status = addOutputs(lowering); !status.ok())
    return status;
  // Such as numbers of which a product took the integers.
  for (Operation &op :
       llvm::make_early_inc_range(llvm::reverse(function.front())))
    if (isOpTriviallyDead(&op))
      op.erase();
  if (absl::Status status = verifyModule(*module, "the converted graph");
      !status.ok())
    return status;
  return std::move(module);
}

absl::StatusOr<OwningOpRef<ModuleOp>>
onnx::convertToLinalg(ModuleOp module, const LinalgOptions &options) {
  module.getContext()
      ->loadDialect<arith::ArithDialect, bufferization::BufferizationDialect,
                    deepseek::DeepSeekDialect, func::FuncDialect,
                    linalg::LinalgDialect, math::MathDialect, rt::RTDialect,
                    scf::SCFDialect, tensor::TensorDialect>();
  auto graph = module.lookupSymbol<func::FuncOp>(graphName);
  if (!graph || graph.isExternal())
    return invalid(options.path + ": has no function '@" + graphName + "'");
  return GraphConverter(graph, options).run();
}

bool onnx::isDecoder(ModuleOp module) {
  auto graph = module.lookupSymbol<func::FuncOp>(graphName);
  auto outputs =
      graph ? graph->getAttrOfType<ArrayAttr>("onnx.outputs") : ArrayAttr();
  if (!outputs)
    return false;
  auto nameOf = [&](BlockArgument argument) {
    return graph.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                              "onnx.name");
  };
  return llvm::any_of(graph.getArguments(),
                      [&](BlockArgument argument) {
                        StringAttr name = nameOf(argument);
                        return name && name.getValue() == "input_ids";
                      }) &&
         llvm::any_of(outputs.getAsRange<StringAttr>(), [](StringAttr name) {
           return name.getValue() == "logits";
         });
}

namespace {
struct ConvertONNXToLinalg
    : public onnx::impl::ConvertONNXToLinalgBase<ConvertONNXToLinalg> {
  using ConvertONNXToLinalgBase::ConvertONNXToLinalgBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    LinalgOptions options;
    options.folder = folder;
    options.path = folder + "/@" + graphName.str();
    absl::StatusOr<OwningOpRef<ModuleOp>> converted =
        convertToLinalg(module, options);
    if (!converted.ok()) {
      module.emitError() << std::string(converted.status().message());
      return signalPassFailure();
    }
    module.getBody()->clear();
    module.getBody()->getOperations().splice(
        module.getBody()->end(), (*converted)->getBody()->getOperations());
  }
};
} // namespace
