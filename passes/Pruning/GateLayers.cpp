// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lets tokens go past layers that would change little of them.

#include "passes/Passes.h"
#include "passes/Pruning/Pruner.h"

#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/TypeSwitch.h"

#include <limits>
#include <vector>

namespace hadal {
#define GEN_PASS_DEF_GATELAYERS
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

/// How a gate judges tokens: by a matrix that reads the state, with or without
/// a bias, or by what the layer before has changed.
enum class GateKind { Linear, LinearWithBias, Influence };

struct GateLayers : public hadal::impl::GateLayersBase<GateLayers> {
  using GateLayersBase::GateLayersBase;

  void runOnOperation() override;

private:
  FailureOr<SmallVector<size_t>> choose(ModelOp model,
                                        ArrayRef<func::CallOp> layers);
  FailureOr<WeightOp> makeThreshold(func::CallOp call, size_t layer);
  FailureOr<func::FuncOp> gate(func::FuncOp function, GateKind kind,
                               int64_t hidden);
  LogicalResult gate(func::CallOp call, GateKind kind, ArrayRef<Value> inputs);
  Value use(OpBuilder &builder, Location loc, WeightOp weight);

  std::optional<SymbolTable> symbols;
  /// What each function has become, by how it is gated.
  DenseMap<std::pair<Operation *, int>, func::FuncOp> gated;
};

} // namespace

/// True if \p type has a row for each token.
static bool isOfTokens(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getRank() && tensor.isDynamicDim(0);
}

/// What \p op puts into the cache. It is of all tokens: later ones attend to
/// them.
static SmallVector<OpOperand *, 2> getCached(Operation *op) {
  using Operands = SmallVector<OpOperand *, 2>;
  return llvm::TypeSwitch<Operation *, Operands>(op)
      .Case([](AttentionOp op) {
        return Operands{&op.getKeyMutable(), &op.getValueMutable()};
      })
      .Case([](AbsorbedAttentionOp op) {
        return Operands{&op.getLatentMutable(), &op.getRopeKeyMutable()};
      })
      .Case([](SelectKeysOp op) { return Operands{&op.getKeyMutable()}; })
      .Default(Operands());
}

Value GateLayers::use(OpBuilder &builder, Location loc, WeightOp weight) {
  return UseWeightOp::create(builder, loc, weight.getWeightType(),
                             weight.getSymName());
}

/// The layers that change the least together, none of them the first or beside
/// another: each is judged by what the one before it has done.
FailureOr<SmallVector<size_t>>
GateLayers::choose(ModelOp model, ArrayRef<func::CallOp> layers) {
  auto influence = model->getAttrOfType<DenseF64ArrayAttr>(influenceName);
  if (influence && influence.size() != int64_t(layers.size()))
    return model.emitOpError("expects the influence of ")
           << layers.size() << " layers, but got that of " << influence.size();
  if (!influence && !assume)
    return model.emitOpError("expects to know what each layer changes, but has "
                             "no deepseek.block_influence; calibrate");
  size_t most = layers.size() / 2;
  if (count > most)
    return model.emitOpError("expects at most ")
           << most << " layers to skip, none the first and no two beside one "
           << "another, but got " << int64_t(count);
  // sums[i][k]: the least that k of the layers before layer i change.
  constexpr double none = std::numeric_limits<double>::infinity();
  std::vector<std::vector<double>> sums(
      layers.size() + 1, std::vector<double>(size_t(count) + 1, none));
  auto with = [&](size_t i, size_t k) {
    // Of layers 1 .. i - 1, the last is among them. Without statistics all are
    // alike.
    size_t before = i >= 2 ? i - 2 : 0;
    return k && i >= 2
               ? sums[before][k - 1] + (influence ? influence[i - 1] : 1)
               : none;
  };
  for (size_t i = 0; i <= layers.size(); ++i)
    for (size_t k = 0; k <= count; ++k)
      sums[i][k] = k == 0 ? 0 : i ? std::min(sums[i - 1][k], with(i, k)) : none;
  SmallVector<size_t> chosen;
  for (size_t i = layers.size(), k = count; k && i;) {
    bool isChosen = with(i, k) <= sums[i - 1][k];
    if (isChosen) {
      chosen.push_back(i - 1);
      --k;
    }
    i -= isChosen ? 2 : 1;
  }
  llvm::sort(chosen);
  return chosen;
}

/// The weight of what the layer before \p layer changes of as many percent of
/// the tokens, at most.
FailureOr<WeightOp> GateLayers::makeThreshold(func::CallOp call, size_t layer) {
  std::string name = "statistics.layers." + std::to_string(layer - 1) +
                     ".influence.percentiles";
  auto statistic = symbols->lookup<WeightOp>(name);
  if (!statistic && !assume)
    return call.emitOpError("expects to know how much the layer before changes "
                            "tokens, but there is no '@")
           << name << "'; calibrate";
  OpBuilder builder(&getContext());
  Type f32 = builder.getF32Type();
  auto all = RankedTensorType::get({101}, f32);
  if (statistic && statistic.getWeightType() != all)
    return statistic.emitOpError("expects percentiles of ") << all;
  auto one = RankedTensorType::get({1}, f32);
  auto weight = WeightOp::create(
      builder, call.getLoc(),
      "layers." + std::to_string(layer) + ".skip_threshold", one);
  builder.setInsertionPointToStart(&weight.getRecipe().emplaceBlock());
  Value percentiles = statistic
                          ? Pruner::inlineRecipe(builder, statistic)
                          : SourceOp::create(builder, call.getLoc(), all, name,
                                             builder.getArrayAttr({}),
                                             builder.getDenseI64ArrayAttr({}))
                                .getResult();
  YieldOp::create(builder, call.getLoc(),
                  SliceOp::create(builder, call.getLoc(), one, percentiles,
                                  /*axis=*/0, int64_t(percent),
                                  int64_t(percent) + 1));
  symbols->insert(weight);
  return weight;
}

/// A copy of \p function that computes only the rows that go through, behind
/// arguments for the gate.
FailureOr<func::FuncOp> GateLayers::gate(func::FuncOp function, GateKind kind,
                                         int64_t hidden) {
  func::FuncOp &copy = gated[{function, int(kind)}];
  if (copy)
    return copy;
  Operation *refused = nullptr;
  bool attends = false;
  function.walk([&](Operation *op) {
    attends |= !getCached(op).empty();
    if (isa<LatentAttentionOp, AdaptOp, ProbeOp>(op))
      refused = op;
  });
  if (refused)
    return refused->emitOpError("is in a layer that tokens are to skip, which "
                                "is not supported");
  if (!attends)
    return function.emitOpError("expects attention in a layer that tokens are "
                                "to skip");

  copy = function.clone();
  copy.setPrivate();
  copy.setName((function.getName() + "_gated").str());
  symbols->insert(copy);
  Block &block = copy.front();
  Location loc = copy.getLoc();
  OpBuilder builder(&getContext());
  Value input = block.getArgument(0);
  auto states = cast<RankedTensorType>(input.getType());
  Type f32 = builder.getF32Type();
  auto one = RankedTensorType::get({1}, f32);
  auto scoreType = RankedTensorType::get({states.getDimSize(0), 1}, f32);
  auto rowsType =
      RankedTensorType::get({states.getDimSize(0)}, builder.getI32Type());
  builder.setInsertionPointToStart(&block);
  Value scores, threshold;
  if (kind == GateKind::Influence) {
    Value before = block.addArgument(states, loc);
    threshold = block.addArgument(one, loc);
    scores = InfluenceOp::create(builder, loc, scoreType, before, input);
  } else {
    Value weight =
        block.addArgument(RankedTensorType::get({1, hidden}, f32), loc);
    Value bias = kind == GateKind::LinearWithBias ? block.addArgument(one, loc)
                                                  : Value();
    scores = LinearOp::create(builder, loc, scoreType, input, weight, bias,
                              /*scales=*/Value(), /*offsets=*/Value(),
                              /*activation_group=*/IntegerAttr());
  }
  copy.setFunctionType(FunctionType::get(
      &getContext(), block.getArgumentTypes(), function.getResultTypes()));
  Value rows = SelectRowsOp::create(builder, loc, rowsType, scores, threshold);

  // The slices of the copy.
  llvm::SetVector<Operation *> whole;
  whole.insert(scores.getDefiningOp());
  whole.insert(rows.getDefiningOp());
  BackwardSliceOptions slice;
  slice.inclusive = true;
  for (Operation &op : block)
    for (OpOperand *operand : getCached(&op))
      (void)getBackwardSlice(operand->get(), &whole, slice);

  llvm::DenseMap<Value, Value> kept;
  auto keep = [&](Value value) {
    Value &some = kept[value];
    if (!some) {
      // Behind the gate, and behind what it keeps of.
      Operation *after = value.getDefiningOp();
      if (!after || after->isBeforeInBlock(rows.getDefiningOp()))
        after = rows.getDefiningOp();
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointAfter(after);
      some = GatherRowsOp::create(builder, loc, value.getType(), value, rows);
    }
    return some;
  };
  for (Operation &op : llvm::make_early_inc_range(block)) {
    if (whole.contains(&op) || isa<GatherRowsOp>(op))
      continue;
    auto isWhole = [&](Value value) {
      return isOfTokens(value.getType()) &&
             (!value.getDefiningOp() || whole.contains(value.getDefiningOp()));
    };
    llvm::SmallDenseSet<OpOperand *> left;
    // Operands move when there are more of them.
    auto attend = [&](auto op) {
      op.getQueryPositionsMutable().assign(keep(op.getPositions()));
      op.getQuerySequencesMutable().assign(keep(op.getSequences()));
      left.insert(&op.getPositionsMutable());
      left.insert(&op.getSequencesMutable());
    };
    llvm::TypeSwitch<Operation *>(&op)
        .Case<AttentionOp, AbsorbedAttentionOp, SelectKeysOp>(attend);
    left.insert_range(getCached(&op));
    for (OpOperand &operand : op.getOpOperands())
      if (!left.contains(&operand) && isWhole(operand.get()))
        operand.set(keep(operand.get()));
  }
  auto terminator = cast<func::ReturnOp>(block.getTerminator());
  builder.setInsertionPoint(terminator);
  terminator.setOperand(0,
                        ScatterRowsOp::create(builder, loc, states, input,
                                              terminator.getOperand(0), rows));
  return copy;
}

LogicalResult GateLayers::gate(func::CallOp call, GateKind kind,
                               ArrayRef<Value> inputs) {
  auto function = symbols->lookup<func::FuncOp>(call.getCallee());
  if (!function || function.isExternal() || !function.isPrivate() ||
      function.getNumResults() != 1)
    return call.emitOpError("expects a private function of one result to skip");
  auto states = cast<RankedTensorType>(call.getOperand(0).getType());
  FailureOr<func::FuncOp> with = gate(function, kind, states.getDimSize(1));
  if (failed(with))
    return failure();
  call.setCallee(with->getName());
  call.getOperandsMutable().append(inputs);
  if (SymbolTable::symbolKnownUseEmpty(function, getOperation()))
    symbols->erase(function);
  ++numGated;
  return success();
}

void GateLayers::runOnOperation() {
  symbols.emplace(getOperation());
  gated.clear();
  auto models = getOperation().getOps<ModelOp>();
  func::FuncOp entry;
  if (!models.empty())
    entry = dyn_cast_or_null<func::FuncOp>(SymbolTable::lookupSymbolIn(
        getOperation(), (*models.begin()).getEntryAttr()));
  if (!entry || entry.isExternal()) {
    emitError(getOperation().getLoc()) << "expects a deepseek.model, whose "
                                          "layers tokens skip";
    return signalPassFailure();
  }
  if (percent > 100) {
    emitError(getOperation().getLoc())
        << "expects 0 to 100 percent of the tokens to skip a layer, but got "
        << int64_t(percent);
    return signalPassFailure();
  }
  FailureOr<SmallVector<func::CallOp>> layers = findLayers(entry);
  if (failed(layers))
    return signalPassFailure();
  SmallVector<size_t> chosen;
  if (count) {
    auto found = choose(*models.begin(), *layers);
    if (failed(found))
      return signalPassFailure();
    chosen = *found;
  }
  for (auto [i, call] : llvm::enumerate(*layers)) {
    OpBuilder builder(call);
    std::string name = "layers." + std::to_string(i) + ".skip_gate";
    LogicalResult result = success();
    if (llvm::is_contained(chosen, i)) {
      FailureOr<WeightOp> threshold = makeThreshold(call, i);
      if (failed(threshold))
        return signalPassFailure();
      Value before = (*layers)[i - 1].getOperand(0);
      result = gate(call, GateKind::Influence,
                    {before, use(builder, call.getLoc(), *threshold)});
    } else if (auto weight = symbols->lookup<WeightOp>(name)) {
      auto bias = symbols->lookup<WeightOp>(name + ".bias");
      SmallVector<Value> inputs = {use(builder, call.getLoc(), weight)};
      if (bias)
        inputs.push_back(use(builder, call.getLoc(), bias));
      result = gate(call, bias ? GateKind::LinearWithBias : GateKind::Linear,
                    inputs);
    }
    if (failed(result))
      return signalPassFailure();
  }
}
