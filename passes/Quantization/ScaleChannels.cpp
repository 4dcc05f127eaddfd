// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Moves the scales of channels from what a product reads into its weights, so
// that rounding either loses less.

#include "dialects/DeepSeek/IR/Rounding.h"
#include "passes/Passes.h"
#include "passes/Pruning/Pruner.h"

namespace hadal {
#define GEN_PASS_DEF_SCALECHANNELS
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

/// A weight and the axis on which it has the channels.
struct Scaled {
  PrunedWeight weight;
  int64_t axis;
  int64_t power;       ///< 1: it reads the channels; -1: it makes them.
  bool isJudge = true; ///< It decides what the scales are.
};

struct ScaleChannels : public hadal::impl::ScaleChannelsBase<ScaleChannels> {
  using ScaleChannelsBase::ScaleChannelsBase;

  void runOnOperation() override;

private:
  void scaleNorm(Pruner &pruner, RMSNormOp norm);
  void scaleGated(Pruner &pruner, SwiGLUOp swiglu);
  void scaleExperts(Pruner &pruner, ExpertsOp experts);
  void scaleValues(Pruner &pruner, LinearOp out);
  void scale(Pruner &pruner, Operation *op, MutableArrayRef<Scaled> group,
             Value channels, int64_t rank);
  Value choose(OpBuilder &builder, Location loc, Value statistic,
               ArrayRef<Value> judges);
  void decline(Operation *op, const Twine &why) {
    op->emitRemark("keeps the scales of its channels: " + why);
    ++numDeclined;
  }
};

} // namespace

/// True if \p value is a weight of numbers that can be scaled one by one.
static bool isScalable(Value value) {
  return isa<Float32Type, Float16Type, BFloat16Type>(
      cast<RankedTensorType>(value.getType()).getElementType());
}

/// Adds \p value to \p group if it is a weight that can be changed.
static bool addTo(SmallVectorImpl<Scaled> &group, Pruner &pruner, Value value,
                  int64_t axis, int64_t power, bool isJudge = true) {
  std::optional<PrunedWeight> found = pruner.lookup(value);
  if (!found || !isScalable(value))
    return false;
  group.push_back({*found, axis, power, isJudge});
  return true;
}

/// Multiplies \p weight, on \p axis, by \p scales to the power \p power.
static void rewrite(WeightOp weight, WeightOp scales, int64_t axis,
                    int64_t power) {
  auto yield = cast<YieldOp>(weight.getRecipe().front().getTerminator());
  OpBuilder builder(yield);
  RankedTensorType type = weight.getWeightType();
  // Numbers of f16 that are scaled may have fewer digits.
  if (type.getElementType().isF16())
    type = type.clone(builder.getF32Type());
  yield.getValueMutable().assign(ScaleChannelsOp::create(
      builder, weight.getLoc(), type, yield.getValue(),
      Pruner::inlineRecipe(builder, scales), axis, power));
  weight.setType(type);
}

/// Lets statistics of what \p weight reads be of what it is now.
static void rescaleStatistics(Pruner &pruner, WeightOp weight,
                              WeightOp scales) {
  if (WeightOp moment = pruner.findStatistic(weight, "moment"))
    rewrite(moment, scales, moment.getWeightType().getRank() - 1, -2);
  if (WeightOp most = pruner.findStatistic(weight, "moment.max"))
    rewrite(most, scales, most.getWeightType().getRank() - 1, -1);
  if (WeightOp gram = pruner.findStatistic(weight, "gram"))
    for (int64_t axis : {-2, -1})
      rewrite(gram, scales, gram.getWeightType().getRank() + axis, -1);
}

/// The scales of the last dimension of \p judges, by \p statistic.
Value ScaleChannels::choose(OpBuilder &builder, Location loc, Value statistic,
                            ArrayRef<Value> judges) {
  auto type = cast<RankedTensorType>(statistic.getType());
  int64_t columns = type.getShape().back(), size = groupSize;
  while (size > 32 && columns % size != 0)
    size /= 2;
  if (size == 0 || columns % size != 0)
    size = columns;
  auto integer = [&](int64_t value) {
    return strength < 0 ? builder.getI64IntegerAttr(value) : IntegerAttr();
  };
  return ChannelScalesOp::create(
      builder, loc, type, statistic, judges, integer(bits), integer(size),
      strength < 0 ? FloatAttr() : builder.getF64FloatAttr(strength));
}

/// Scales the channels that the columns of \p channels are, by statistics of
/// \p rank dimensions.
void ScaleChannels::scale(Pruner &pruner, Operation *op,
                          MutableArrayRef<Scaled> group, Value channels,
                          int64_t rank) {
  int64_t columns =
      cast<RankedTensorType>(channels.getType()).getShape().back();
  StringRef name = strength < 0 ? "moment" : "moment.max";
  size_t calls = group.front().weight.weights.size();
  SmallVector<WeightOp> statistics;
  for (size_t i = 0; i < calls; ++i) {
    WeightOp found;
    for (Scaled &scaled : group) {
      if (scaled.weight.weights.size() != calls)
        return decline(op, "its weights are not all passed alike");
      if (found || scaled.power != 1)
        continue;
      // What chose an expert is not all that is read.
      found = pruner.findStatistic(scaled.weight.weights[i], name);
      if (found && found.getWeightType().getRank() > rank)
        found = nullptr;
    }
    if (!found)
      return decline(op, "nothing says what they carry");
    if (found.getWeightType().getShape().back() != columns)
      return decline(op, "the statistics are of another model");
    statistics.push_back(found);
  }

  for (size_t i = 0; i < calls; ++i) {
    // A recipe of the scales, of weights as they are before.
    OwningOpRef<ModuleOp> scratch = ModuleOp::create(op->getLoc());
    OpBuilder builder = OpBuilder::atBlockEnd(scratch->getBody());
    RankedTensorType type = statistics[i].getWeightType();
    auto scales = WeightOp::create(builder, op->getLoc(), "scales", type);
    OpBuilder inside(&getContext());
    inside.setInsertionPointToStart(&scales.getRecipe().emplaceBlock());
    Value statistic = Pruner::inlineRecipe(inside, statistics[i]);
    SmallVector<Value> judges;
    for (Scaled &scaled : group)
      if (scaled.power == 1 && scaled.isJudge)
        judges.push_back(
            Pruner::inlineRecipe(inside, scaled.weight.weights[i]));
    YieldOp::create(inside, op->getLoc(),
                    choose(inside, op->getLoc(), statistic, judges));
    for (Scaled &scaled : group) {
      WeightOp weight = scaled.weight.weights[i];
      rewrite(weight, scales, scaled.axis, scaled.power);
      if (scaled.power == 1)
        rescaleStatistics(pruner, weight, scales);
    }
  }
  for (Scaled &scaled : group)
    pruner.setType(scaled.weight,
                   scaled.weight.weights.front().getWeightType());
  ++numScaled;
}

/// True if all that \p op makes is chosen by.
static bool isOfRouter(LinearOp op) {
  return llvm::all_of(op->getUsers(), llvm::IsaPred<RouterOp, HashRouterOp>);
}

void ScaleChannels::scaleNorm(Pruner &pruner, RMSNormOp norm) {
  SmallVector<Scaled> group;
  llvm::SmallPtrSet<Operation *, 4> seen;
  bool isRounded = false;
  // Uses are listed from the last.
  for (Operation *user : llvm::reverse(llvm::to_vector(norm->getUsers()))) {
    if (!seen.insert(user).second)
      continue;
    bool isGood = false;
    if (auto linear = dyn_cast<LinearOp>(user)) {
      isGood = !linear.getScales() && addTo(group, pruner, linear.getWeight(),
                                            1, 1, !isOfRouter(linear));
      isRounded |= !isOfRouter(linear);
    } else if (auto head = dyn_cast<LMHeadOp>(user)) {
      isGood =
          !head.getScales() && addTo(group, pruner, head.getWeight(), 1, 1);
      isRounded = true;
    } else if (auto experts = dyn_cast<ExpertsOp>(user)) {
      isGood = experts.getScales().empty() &&
               addTo(group, pruner, experts.getGate(), 2, 1) &&
               addTo(group, pruner, experts.getUp(), 2, 1);
      isRounded = true;
    }
    if (isGood)
      continue;
    if (isRounded)
      decline(norm, "'" + user->getName().getStringRef() +
                        "' reads them in another way");
    return;
  }
  if (!isRounded)
    return;
  if (!addTo(group, pruner, norm.getWeight(), 0, -1))
    return decline(norm, "its weight is read elsewhere, too");
  scale(pruner, norm, group, norm.getResult(), 1);
}

void ScaleChannels::scaleGated(Pruner &pruner, SwiGLUOp swiglu) {
  auto up = swiglu.getUp().getDefiningOp<LinearOp>();
  auto down = swiglu->hasOneUse() ? dyn_cast<LinearOp>(*swiglu->user_begin())
                                  : LinearOp();
  SmallVector<Scaled> group;
  if (swiglu.getLimit())
    return decline(swiglu, "they have a limit");
  if (!up || !down || !up->hasOneUse() || up.getScales() || up.getBias() ||
      down.getScales() || !addTo(group, pruner, down.getWeight(), 1, 1) ||
      !addTo(group, pruner, up.getWeight(), 0, -1))
    return decline(swiglu, "it has no products of its own around it");
  scale(pruner, swiglu, group, swiglu.getResult(), 1);
}

void ScaleChannels::scaleExperts(Pruner &pruner, ExpertsOp experts) {
  SmallVector<Scaled> group;
  if (experts.getLimit())
    return decline(experts, "they have a limit");
  if (!experts.getScales().empty() ||
      !addTo(group, pruner, experts.getDown(), 2, 1) ||
      !addTo(group, pruner, experts.getUp(), 1, -1))
    return decline(experts, "its weights are integers, or read elsewhere");
  scale(pruner, experts, group, experts.getDown(), 2);
}

/// Values of heads: divided where they are made, multiplied in what reads what
/// attention sums up of them. Query heads that share a value share its scales,
/// which the first of them decides together with the rows of all.
void ScaleChannels::scaleValues(Pruner &pruner, LinearOp out) {
  Value made;
  Value bias;
  int64_t axis = 0, heads = 0, shared = 1, dim = 0;
  if (auto value = out.getInput().getDefiningOp<HeadLinearOp>()) {
    if (!value->hasOneUse() || value.getScales())
      return decline(out, "what it reads is read elsewhere, too");
    made = value.getWeight();
    auto type = cast<RankedTensorType>(made.getType());
    axis = 1;
    heads = type.getDimSize(0);
    dim = type.getDimSize(1);
  } else if (auto attention = out.getInput().getDefiningOp<AttentionOp>()) {
    auto value = attention.getValue().getDefiningOp<LinearOp>();
    auto cache = cast<KVCacheType>(attention.getCache().getType());
    if (!value || !value->hasOneUse() || value.getScales() ||
        !attention->hasOneUse())
      return decline(out, "values are read elsewhere, too");
    made = value.getWeight();
    bias = value.getBias();
    heads = cache.getHeads();
    dim = cache.getValueDim();
    shared = int64_t(attention.getHeads()) / heads;
  } else {
    return;
  }
  SmallVector<Scaled> group;
  if (out.getScales() || !addTo(group, pruner, out.getWeight(), 1, 1) ||
      !addTo(group, pruner, made, axis, -1) ||
      (bias && !addTo(group, pruner, bias, 0, -1)))
    return decline(out, "its weights are integers, or read elsewhere");
  PrunedWeight &reader = group.front().weight;
  size_t calls = reader.weights.size();
  StringRef name = strength < 0 ? "moment" : "moment.max";
  int64_t columns = heads * shared * dim;
  for (Scaled &scaled : group)
    if (scaled.weight.weights.size() != calls)
      return decline(out, "its weights are not all passed alike");
  for (WeightOp weight : reader.weights) {
    WeightOp found = pruner.findStatistic(weight, name);
    if (!found)
      return decline(out, "nothing says what they carry");
    if (found.getWeightType().getShape() != ArrayRef(columns))
      return decline(out, "the statistics are of another model");
  }

  Location loc = out.getLoc();
  Type f32 = Float32Type::get(&getContext());
  for (size_t i = 0; i < calls; ++i) {
    OwningOpRef<ModuleOp> scratch = ModuleOp::create(loc);
    OpBuilder builder = OpBuilder::atBlockEnd(scratch->getBody());
    OpBuilder inside(&getContext());
    auto reshape = [&](Value value, ArrayRef<int64_t> shape) -> Value {
      auto type = cast<RankedTensorType>(value.getType()).clone(shape);
      return type == value.getType()
                 ? value
                 : ReshapeOp::create(inside, loc, type, value).getResult();
    };
    auto declare = [&](ArrayRef<int64_t> shape) {
      auto scales = WeightOp::create(builder, loc, "scales",
                                     RankedTensorType::get(shape, f32));
      inside.setInsertionPointToStart(&scales.getRecipe().emplaceBlock());
      return scales;
    };
    // Of values, in the shape of what makes them.
    auto ofValues = axis ? declare({heads, dim}) : declare({heads * dim});
    Value statistic = Pruner::inlineRecipe(
        inside, pruner.findStatistic(reader.weights[i], name));
    Value judge = Pruner::inlineRecipe(inside, reader.weights[i]);
    if (shared > 1) {
      auto judged = cast<RankedTensorType>(judge.getType());
      int64_t rows = judged.getDimSize(0);
      statistic = SliceOp::create(
          inside, loc, RankedTensorType::get({heads, 1, dim}, f32),
          reshape(statistic, {heads, shared, dim}), /*axis=*/1, 0, 1);
      judge = reshape(judge, {rows, heads, shared, dim});
      judge = TransposeOp::create(
          inside, loc, judged.clone({rows, shared, heads, dim}), judge,
          inside.getDenseI64ArrayAttr({0, 2, 1, 3}));
      judge = reshape(judge, {rows * shared, heads * dim});
    }
    Value chosen =
        choose(inside, loc, reshape(statistic, {heads * dim}), {judge});
    YieldOp::create(inside, loc,
                    reshape(chosen, ofValues.getWeightType().getShape()));
    // Of what reads them: each once for each head that shares it.
    auto ofReader = declare({columns});
    Value each =
        reshape(Pruner::inlineRecipe(inside, ofValues), {heads, 1, dim});
    if (shared > 1)
      each = ConcatOp::create(
          inside, loc, RankedTensorType::get({heads, shared, dim}, f32),
          SmallVector<Value>(size_t(shared), each), /*axis=*/1);
    YieldOp::create(inside, loc, reshape(each, {columns}));
    for (Scaled &scaled : group)
      rewrite(scaled.weight.weights[i], scaled.power == 1 ? ofReader : ofValues,
              scaled.axis, scaled.power);
    rescaleStatistics(pruner, reader.weights[i], ofReader);
  }
  for (Scaled &scaled : group)
    pruner.setType(scaled.weight,
                   scaled.weight.weights.front().getWeightType());
  ++numScaled;
}

void ScaleChannels::runOnOperation() {
  if (!(strength <= 1) || (strength < 0 && !isRoundingWidth(bits))) {
    emitError(getOperation().getLoc())
        << "expects bits of 4, 5, 6 or 8, or a strength of 0 to 1, but got "
        << int64_t(bits) << " and " << double(strength);
    return signalPassFailure();
  }
  Pruner pruner(getOperation());
  SmallVector<Operation *> ops;
  getOperation().walk([&](Operation *op) {
    if (isa<RMSNormOp, SwiGLUOp, ExpertsOp, LinearOp>(op))
      ops.push_back(op);
  });
  for (Operation *op : ops) {
    if (auto norm = dyn_cast<RMSNormOp>(op))
      scaleNorm(pruner, norm);
    else if (auto swiglu = dyn_cast<SwiGLUOp>(op))
      scaleGated(pruner, swiglu);
    else if (auto linear = dyn_cast<LinearOp>(op))
      scaleValues(pruner, linear);
    else
      scaleExperts(pruner, cast<ExpertsOp>(op));
  }
  pruner.finish();
}
