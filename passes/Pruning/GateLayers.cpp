// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lets tokens go past layers that would change little of them.

#include "passes/Passes.h"
#include "passes/Pruning/Pruner.h"

#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/TypeSwitch.h"

#include <limits>
#include <map>
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
enum class GateKind { None, Linear, LinearWithBias, Influence };

/// What says which tokens have left: scores that the entry computes, of all
/// tokens, and what they must be above; null: zero.
struct Exit {
  Value scores, threshold;
};

struct GateLayers : public hadal::impl::GateLayersBase<GateLayers> {
  using GateLayersBase::GateLayersBase;

  void runOnOperation() override;

private:
  FailureOr<SmallVector<size_t>> choose(ModelOp model,
                                        ArrayRef<func::CallOp> layers);
  LogicalResult checkExits(ModelOp model, size_t layers);
  FailureOr<WeightOp> makeThreshold(func::CallOp call, size_t layer,
                                    StringRef name, unsigned percent);
  FailureOr<func::FuncOp> gate(func::FuncOp function, GateKind kind,
                               int64_t hidden, ArrayRef<Exit> exits);
  LogicalResult gate(func::CallOp call, GateKind kind, ArrayRef<Value> inputs,
                     ArrayRef<Exit> exits);
  LogicalResult addExits(ArrayRef<func::CallOp> layers, size_t layer,
                         SmallVectorImpl<Exit> &exits);
  /// The gate of \p layer, trained, by the name of its kind; null: none.
  WeightOp findTrained(size_t layer, StringRef name) {
    return symbols->lookup<WeightOp>("layers." + std::to_string(layer) + "." +
                                     name.str());
  }
  Value use(OpBuilder &builder, Location loc, WeightOp weight);

  std::optional<SymbolTable> symbols;
  /// What each function has become, by how it is gated: its own gate, and which
  /// exits before it have a threshold.
  std::map<std::pair<Operation *, std::string>, func::FuncOp> gated;
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

/// The type of scores of the rows of \p states.
static RankedTensorType getScoreType(Value states) {
  auto type = cast<RankedTensorType>(states.getType());
  return RankedTensorType::get({type.getDimSize(0), 1},
                               Float32Type::get(type.getContext()));
}

/// What a trained gate says of each row of \p input. \p bias may be null.
static Value makeScores(OpBuilder &builder, Location loc, Value input,
                        Value weight, Value bias) {
  return LinearOp::create(builder, loc, getScoreType(input), input, weight,
                          bias,
                          /*scales=*/Value(), /*offsets=*/Value(),
                          /*activation_group=*/IntegerAttr());
}

Value GateLayers::use(OpBuilder &builder, Location loc, WeightOp weight) {
  return UseWeightOp::create(builder, loc, weight.getWeightType(),
                             weight.getSymName());
}

LogicalResult GateLayers::checkExits(ModelOp model, size_t layers) {
  if (exitBefore.size() != exitPercent.size())
    return model.emitOpError("expects a percentage for each layer that tokens "
                             "leave before, but got ")
           << exitPercent.size() << " for " << exitBefore.size();
  llvm::SmallDenseSet<unsigned> seen;
  for (auto [layer, share] : llvm::zip(exitBefore, exitPercent)) {
    if (layer < 1 || layer >= layers)
      return model.emitOpError("expects tokens to leave before one of the "
                               "layers 1 to ")
             << int64_t(layers) - 1 << ", but got " << layer;
    if (share > 100)
      return model.emitOpError("expects 0 to 100 percent of the tokens to "
                               "leave, but got ")
             << share;
    if (!seen.insert(layer).second)
      return model.emitOpError("expects tokens to leave once before layer ")
             << layer << ", but got it twice";
    // Who skips that is changed by nothing, and would leave.
    if (findTrained(layer - 1, "skip_gate"))
      return model.emitOpError("expects tokens to leave by what the layer "
                               "before has changed, but layer ")
             << layer - 1 << " has a gate";
  }
  return success();
}

/// The layers that change the least together, none of them the first or beside
/// another: each is judged by what the one before it has done. So are tokens
/// that leave before the next one.
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
    return k && i >= 2 && !llvm::is_contained(exitBefore, unsigned(i))
               ? sums[before][k - 1] + (influence ? influence[i - 1] : 1)
               : none;
  };
  for (size_t i = 0; i <= layers.size(); ++i)
    for (size_t k = 0; k <= count; ++k)
      sums[i][k] = k == 0 ? 0 : i ? std::min(sums[i - 1][k], with(i, k)) : none;
  if (!(sums.back()[count] < none))
    return model.emitOpError("expects fewer layers to skip where tokens leave "
                             "by what the layer before has changed, but got ")
           << int64_t(count);
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

/// The weight of what the layer before \p layer changes of \p percent percent
/// of the tokens, at most.
FailureOr<WeightOp> GateLayers::makeThreshold(func::CallOp call, size_t layer,
                                              StringRef kind,
                                              unsigned percent) {
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
  auto weight =
      WeightOp::create(builder, call.getLoc(),
                       ("layers." + Twine(layer) + "." + kind).str(), one);
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

/// A copy of \p function that computes only the rows that go through its gate,
/// and have not left before, behind arguments for \p exits and the gate.
FailureOr<func::FuncOp> GateLayers::gate(func::FuncOp function, GateKind kind,
                                         int64_t hidden, ArrayRef<Exit> exits) {
  std::string how = std::to_string(int(kind));
  for (const Exit &exit : exits)
    how += exit.threshold ? '>' : '+';
  func::FuncOp &copy = gated[{function, how}];
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
  auto rowsType =
      RankedTensorType::get({states.getDimSize(0)}, builder.getI32Type());
  builder.setInsertionPointToStart(&block);
  SmallVector<Exit> gates;
  for (const Exit &exit : exits) {
    Value scores = block.addArgument(exit.scores.getType(), loc);
    gates.push_back(
        {scores, exit.threshold ? block.addArgument(one, loc) : Value()});
  }
  llvm::SetVector<Operation *> whole;
  if (kind == GateKind::Influence) {
    Value before = block.addArgument(states, loc);
    Value threshold = block.addArgument(one, loc);
    auto influence =
        InfluenceOp::create(builder, loc, getScoreType(input), before, input);
    gates.push_back({influence, threshold});
    whole.insert(influence);
  } else if (kind != GateKind::None) {
    Value weight =
        block.addArgument(RankedTensorType::get({1, hidden}, f32), loc);
    Value bias = kind == GateKind::LinearWithBias ? block.addArgument(one, loc)
                                                  : Value();
    gates.push_back({makeScores(builder, loc, input, weight, bias), Value()});
    whole.insert(gates.back().scores.getDefiningOp());
  }
  copy.setFunctionType(FunctionType::get(
      &getContext(), block.getArgumentTypes(), function.getResultTypes()));
  // One after the other, so that the last is known to be what counts.
  Value rows;
  for (const Exit &gate : gates) {
    rows = SelectRowsOp::create(builder, loc, rowsType, gate.scores,
                                gate.threshold, rows);
    whole.insert(rows.getDefiningOp());
  }

  // The slices of the copy.
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

/// Lets those tokens leave before layer \p layer that its gates say: scores for
/// it and all layers behind it.
LogicalResult GateLayers::addExits(ArrayRef<func::CallOp> layers, size_t layer,
                                   SmallVectorImpl<Exit> &exits) {
  func::CallOp call = layers[layer];
  OpBuilder builder(call);
  Location loc = call.getLoc();
  Value state = call.getOperand(0);
  if (WeightOp weight = findTrained(layer, "exit_gate")) {
    WeightOp bias = findTrained(layer, "exit_gate.bias");
    exits.push_back({makeScores(builder, loc, state, use(builder, loc, weight),
                                bias ? use(builder, loc, bias) : Value()),
                     Value()});
  }
  ArrayRef<unsigned> exitLayers = exitBefore, percents = exitPercent;
  const auto *found = llvm::find(exitLayers, unsigned(layer));
  if (found == exitLayers.end())
    return success();
  FailureOr<WeightOp> threshold =
      makeThreshold(call, layer, "exit_threshold",
                    percents[size_t(found - exitLayers.begin())]);
  if (failed(threshold))
    return failure();
  func::CallOp before = layers[layer - 1];
  exits.push_back({InfluenceOp::create(builder, loc, getScoreType(state),
                                       before.getOperand(0), state),
                   use(builder, loc, *threshold)});
  return success();
}

LogicalResult GateLayers::gate(func::CallOp call, GateKind kind,
                               ArrayRef<Value> inputs, ArrayRef<Exit> exits) {
  auto function = symbols->lookup<func::FuncOp>(call.getCallee());
  if (!function || function.isExternal() || !function.isPrivate() ||
      function.getNumResults() != 1)
    return call.emitOpError("expects a private function of one result to skip");
  auto states = cast<RankedTensorType>(call.getOperand(0).getType());
  FailureOr<func::FuncOp> with =
      gate(function, kind, states.getDimSize(1), exits);
  if (failed(with))
    return failure();
  call.setCallee(with->getName());
  for (const Exit &exit : exits) {
    call.getOperandsMutable().append(exit.scores);
    if (exit.threshold)
      call.getOperandsMutable().append(exit.threshold);
  }
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
  if (failed(checkExits(*models.begin(), layers->size())))
    return signalPassFailure();
  SmallVector<size_t> chosen;
  if (count) {
    auto found = choose(*models.begin(), *layers);
    if (failed(found))
      return signalPassFailure();
    chosen = *found;
  }
  SmallVector<Exit> exits;
  for (auto [i, call] : llvm::enumerate(*layers)) {
    if (failed(addExits(*layers, i, exits)))
      return signalPassFailure();
    OpBuilder builder(call);
    LogicalResult result = success();
    if (llvm::is_contained(chosen, i)) {
      FailureOr<WeightOp> threshold =
          makeThreshold(call, i, "skip_threshold", percent);
      if (failed(threshold))
        return signalPassFailure();
      Value before = (*layers)[i - 1].getOperand(0);
      result = gate(call, GateKind::Influence,
                    {before, use(builder, call.getLoc(), *threshold)}, exits);
    } else if (WeightOp weight = findTrained(i, "skip_gate")) {
      WeightOp bias = findTrained(i, "skip_gate.bias");
      SmallVector<Value> inputs = {use(builder, call.getLoc(), weight)};
      if (bias)
        inputs.push_back(use(builder, call.getLoc(), bias));
      result = gate(call, bias ? GateKind::LinearWithBias : GateKind::Linear,
                    inputs, exits);
    } else if (!exits.empty()) {
      result = gate(call, GateKind::None, {}, exits);
    }
    if (failed(result))
      return signalPassFailure();
  }
}
