// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Cuts weights in their recipes, and retypes all that passes them on.

#include "passes/Pruning/Pruner.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

std::optional<PruneAmount>
hadal::parsePruneAmount(StringRef what, StringRef text, std::string &error) {
  PruneAmount amount;
  StringRef number = text;
  bool isGood;
  if (number.consume_back("%"))
    isGood = !number.getAsDouble(amount.percent) && amount.percent > 0 &&
             amount.percent < 100;
  else
    isGood = !number.getAsInteger(10, amount.count) && amount.count > 0;
  if (isGood)
    return amount;
  error = llvm::formatv("expects a percentage of {0} above 0% and below 100%, "
                        "or a number of 1 or more, but got '{1}'",
                        what, text);
  return std::nullopt;
}

int64_t hadal::findLayerOperand(func::CallOp call) {
  for (OpOperand &operand : call->getOpOperands())
    if (operand.get().getType().isIndex() &&
        operand.get().getDefiningOp<arith::ConstantIndexOp>())
      return operand.getOperandNumber();
  return -1;
}

FailureOr<SmallVector<func::CallOp>> hadal::findLayers(func::FuncOp entry) {
  SmallVector<func::CallOp> layers;
  for (auto call : entry.getOps<func::CallOp>()) {
    if (llvm::none_of(call.getOperandTypes(), llvm::IsaPred<KVCacheType>))
      continue;
    if (call.getNumResults() != 1 ||
        call.getResult(0).getType() != call.getOperand(0).getType() ||
        findLayerOperand(call) < 0)
      return call.emitOpError("expects a layer from activations to "
                              "activations, with its number, to go without it");
    layers.push_back(call);
  }
  return layers;
}

Pruner::Pruner(ModuleOp module)
    : module(module), symbols(module),
      scratch(ModuleOp::create(module.getLoc())) {
  module.walk([&](func::CallOp call) {
    if (auto callee = symbols.lookup<func::FuncOp>(call.getCallee()))
      callsOf[callee].push_back(call);
  });
}

std::optional<PrunedWeight> Pruner::lookup(Value value) {
  PrunedWeight found{value, {}};
  auto add = [&](Value passed) {
    auto use = passed.getDefiningOp<UseWeightOp>();
    auto weight = use ? symbols.lookup<WeightOp>(use.getName()) : WeightOp();
    if (!weight || !use->hasOneUse())
      return false;
    std::optional<SymbolTable::UseRange> uses =
        SymbolTable::getSymbolUses(weight, module);
    if (!uses || !llvm::hasSingleElement(*uses))
      return false;
    found.weights.push_back(weight);
    return true;
  };
  bool isGood = true;
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    auto function = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
    SmallVector<func::CallOp> &calls = callsOf[function];
    isGood = function && function.isPrivate() && !calls.empty();
    for (func::CallOp call : calls)
      isGood = isGood && add(call.getOperand(argument.getArgNumber()));
  } else {
    isGood = add(value);
  }
  return isGood ? std::optional(found) : std::nullopt;
}

FailureOr<PrunedWeight> Pruner::find(Operation *op, Value value) {
  if (std::optional<PrunedWeight> found = lookup(value))
    return *found;
  return op->emitOpError("expects a weight that is read there alone, to take "
                         "a part of it away");
}

Value Pruner::inlineRecipe(OpBuilder &builder, WeightOp of) {
  IRMapping mapping;
  Block &recipe = of.getRecipe().front();
  for (Operation &op : recipe.without_terminator())
    builder.clone(op, mapping);
  return mapping.lookup(cast<YieldOp>(recipe.getTerminator()).getValue());
}

WeightOp Pruner::findStatistic(WeightOp weight, StringRef name) {
  return symbols.lookup<WeightOp>(
      ("statistics." + weight.getSymName() + "." + name).str());
}

WeightOp Pruner::findOrAssumeStatistic(WeightOp weight, StringRef name,
                                       int64_t count) {
  if (WeightOp known = findStatistic(weight, name))
    return known;
  ++numMissing;
  std::string symbol = (weight.getSymName() + "." + name).str();
  OpBuilder builder = OpBuilder::atBlockEnd(scratch->getBody());
  auto type = RankedTensorType::get({count}, builder.getF32Type());
  auto assumed = WeightOp::create(builder, weight.getLoc(), symbol, type);
  builder.setInsertionPointToStart(&assumed.getRecipe().emplaceBlock());
  auto source = SourceOp::create(builder, weight.getLoc(), type, symbol,
                                 builder.getArrayAttr({}),
                                 builder.getDenseI64ArrayAttr({}));
  YieldOp::create(builder, weight.getLoc(), source);
  return assumed;
}

FailureOr<WeightOp> Pruner::findMass(RouterOp router, WeightOp gate,
                                     bool assume) {
  WeightOp known = assume ? findOrAssumeStatistic(
                                gate, "mass", router.getRouting().getExperts())
                          : findStatistic(gate, "mass");
  if (known)
    return known;
  return router.emitOpError("expects to know how often each expert is "
                            "chosen, but there is no '@statistics.")
         << gate.getSymName() << ".mass'; calibrate";
}

WeightOp Pruner::declareMap(WeightOp gate, int64_t experts) {
  OpBuilder builder(gate.getContext());
  auto map = WeightOp::create(
      builder, gate.getLoc(), (gate.getSymName() + ".map").str(),
      RankedTensorType::get({experts}, builder.getI32Type()));
  map.getRecipe().emplaceBlock();
  symbols.insert(map, std::next(gate->getIterator()));
  return map;
}

WeightOp Pruner::makeChannelImportance(WeightOp weight, int64_t group) {
  WeightOp moment = findStatistic(weight, "moment");
  if (!moment)
    ++numMissing;
  Location loc = weight.getLoc();
  RankedTensorType type = weight.getWeightType();
  SmallVector<int64_t> shape(type.getShape().drop_back(2));
  shape.push_back(type.getShape().back() / group);
  OpBuilder builder = OpBuilder::atBlockEnd(scratch->getBody());
  auto result = RankedTensorType::get(shape, builder.getF32Type());
  auto importance = WeightOp::create(builder, loc, weight.getSymName(), result);
  builder.setInsertionPointToStart(&importance.getRecipe().emplaceBlock());
  Value of = inlineRecipe(builder, weight);
  Value factors = moment ? inlineRecipe(builder, moment) : Value();
  YieldOp::create(
      builder, loc,
      ImportanceOp::create(builder, loc, result, of, factors, group));
  return importance;
}

/// Ends the recipe of \p weight, seen as of the shape \p view, in a choice of
/// \p keep indices of \p axis, after which it has the shape \p shape.
void Pruner::cut(WeightOp weight, ArrayRef<int64_t> view, size_t axis,
                 ArrayRef<int64_t> shape, int64_t keep, int64_t groups,
                 WeightOp importance, bool sorted) {
  RankedTensorType type = weight.getWeightType();
  SmallVector<int64_t> cut(view);
  cut[axis] = keep;
  Location loc = weight.getLoc();
  auto yield = cast<YieldOp>(weight.getRecipe().front().getTerminator());
  OpBuilder builder(yield);
  Value value = yield.getValue();
  if (type.getShape() != view)
    value = ReshapeOp::create(builder, loc, type.clone(view), value);
  value = SelectOp::create(builder, loc, type.clone(cut), value,
                           inlineRecipe(builder, importance), int64_t(axis),
                           keep, groups, sorted);
  if (shape != ArrayRef(cut))
    value = ReshapeOp::create(builder, loc, type.clone(shape), value);
  yield.getValueMutable().assign(value);
  weight.setType(type.clone(shape));
}

/// Cuts what is known of the inputs of \p weight as the weight is about to be
/// cut: its last dimension, of input channels, or the first of a stack.
void Pruner::cutStatistics(WeightOp weight, ArrayRef<int64_t> view, size_t axis,
                           size_t dimension, int64_t keep, int64_t groups,
                           WeightOp importance, bool sorted) {
  size_t rank = weight.getWeightType().getShape().size();
  bool isInput = dimension == rank - 1;
  if (!isInput && (rank != 3 || dimension != 0))
    return;
  for (int dimensions : {1, 2}) {
    WeightOp statistic =
        findStatistic(weight, dimensions == 1 ? "moment" : "gram");
    if (!statistic)
      continue;
    SmallVector<int64_t> shape(statistic.getWeightType().getShape());
    bool isStack = int64_t(shape.size()) > dimensions;
    if (!isInput && isStack) {
      SmallVector<int64_t> stack(shape);
      shape[0] = keep;
      cut(statistic, stack, 0, shape, keep, groups, importance, sorted);
    }
    for (int i = 0; isInput && i < dimensions; ++i) {
      // The dimensions before, those of channels, and those behind.
      ArrayRef<int64_t> channels = view.drop_front(rank - 1);
      SmallVector<int64_t> seen(shape);
      size_t at = size_t(i) + (isStack ? 1 : 0);
      seen.erase(seen.begin() + at);
      seen.insert(seen.begin() + at, channels.begin(), channels.end());
      shape[at] = shape[at] / view[axis] * keep;
      cut(statistic, seen, at + axis - (rank - 1), shape, keep, groups,
          importance, sorted);
    }
  }
}

void Pruner::select(PrunedWeight pruned, ArrayRef<int64_t> view, size_t axis,
                    size_t dimension, int64_t keep, int64_t groups,
                    ArrayRef<WeightOp> importance, bool sorted) {
  auto type = cast<RankedTensorType>(pruned.value.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape[dimension] = shape[dimension] / view[axis] * keep;
  auto result = type.clone(shape);
  for (auto [i, weight] : llvm::enumerate(pruned.weights)) {
    cutStatistics(weight, view, axis, dimension, keep, groups, importance[i],
                  sorted);
    cut(weight, view, axis, shape, keep, groups, importance[i], sorted);
  }
  setType(pruned, result);
}

void Pruner::keepLargest(WeightOp statistic, int64_t keep, int64_t groups) {
  // As it is before.
  OwningOpRef<WeightOp> importance = statistic.clone();
  ArrayRef<int64_t> view = importance->getWeightType().getShape();
  cut(statistic, view, 0, {keep}, keep, groups, *importance, /*sorted=*/false);
}

void Pruner::setType(const PrunedWeight &pruned, RankedTensorType type) {
  Value value = pruned.value;
  value.setType(type);
  if (auto argument = dyn_cast<BlockArgument>(value))
    for (func::CallOp call : callsOf[argument.getOwner()->getParentOp()])
      call.getOperand(argument.getArgNumber()).setType(type);
}

Value Pruner::pass(Operation *op, const PrunedWeight &beside,
                   ArrayRef<WeightOp> weights) {
  RankedTensorType type = WeightOp(weights.front()).getWeightType();
  auto use = [&](Operation *before, WeightOp weight) {
    OpBuilder builder(before);
    return UseWeightOp::create(builder, before->getLoc(), type,
                               weight.getSymName());
  };
  auto argument = dyn_cast<BlockArgument>(beside.value);
  if (!argument)
    return use(op, weights.front());
  auto function = cast<func::FuncOp>(argument.getOwner()->getParentOp());
  unsigned index = argument.getArgNumber() + 1;
  if (failed(function.insertArgument(index, type, {}, op->getLoc())))
    llvm_unreachable("the type of a func.func can always be replaced");
  for (auto [call, weight] : llvm::zip_equal(callsOf[function], weights)) {
    SmallVector<Value> operands(call.getOperands());
    operands.insert(operands.begin() + index, use(call, weight));
    call->setOperands(operands);
  }
  return function.getArgument(index);
}

void Pruner::drop(const PrunedWeight &pruned) {
  auto argument = dyn_cast<BlockArgument>(pruned.value);
  if (!argument)
    return;
  auto function = cast<func::FuncOp>(argument.getOwner()->getParentOp());
  unsigned index = argument.getArgNumber();
  for (func::CallOp call : callsOf[function])
    call->eraseOperand(index);
  if (failed(function.eraseArgument(index)))
    llvm_unreachable("the type of a func.func can always be replaced");
}

void Pruner::setColumns(Value value, int64_t columns) {
  auto type = cast<RankedTensorType>(value.getType());
  value.setType(type.clone({type.getDimSize(0), columns}));
}

void Pruner::finish() {
  for (auto function : module.getOps<func::FuncOp>())
    if (!function.isExternal())
      function.setFunctionType(FunctionType::get(
          module.getContext(), function.getBody().getArgumentTypes(),
          function.getFunctionType().getResults()));
  eraseUnusedWeights(module);
}

void hadal::eraseUnusedWeights(ModuleOp module) {
  llvm::StringSet<> read;
  module.walk([&](UseWeightOp use) {
    if (use->use_empty())
      use.erase();
    else
      read.insert(use.getName());
  });
  for (auto weight : llvm::make_early_inc_range(module.getOps<WeightOp>()))
    if (!read.contains(weight.getSymName()) &&
        !weight.getSymName().starts_with("statistics."))
      weight.erase();
}
