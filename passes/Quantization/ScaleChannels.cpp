// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Moves the scales of channels from what a product reads into its weights, so
// that rounding either loses less.

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
  void scale(Pruner &pruner, Operation *op, MutableArrayRef<Scaled> group,
             Value channels, int64_t rank);
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
    int64_t size = groupSize;
    while (size > 32 && columns % size != 0)
      size /= 2;
    if (size == 0 || columns % size != 0)
      size = columns;
    auto integer = [&](int64_t value) {
      return strength < 0 ? builder.getI64IntegerAttr(value) : IntegerAttr();
    };
    YieldOp::create(
        inside, op->getLoc(),
        ChannelScalesOp::create(
            inside, op->getLoc(), type, statistic, judges, integer(bits),
            integer(size),
            strength < 0 ? FloatAttr() : builder.getF64FloatAttr(strength)));
    for (Scaled &scaled : group) {
      WeightOp weight = scaled.weight.weights[i];
      rewrite(weight, scales, scaled.axis, scaled.power);
      if (scaled.power != 1)
        continue;
      // What is known of the input is of what it is now.
      if (WeightOp moment = pruner.findStatistic(weight, "moment"))
        rewrite(moment, scales, moment.getWeightType().getRank() - 1, -2);
      if (WeightOp most = pruner.findStatistic(weight, "moment.max"))
        rewrite(most, scales, most.getWeightType().getRank() - 1, -1);
      if (WeightOp gram = pruner.findStatistic(weight, "gram"))
        for (int64_t axis : {-2, -1})
          rewrite(gram, scales, gram.getWeightType().getRank() + axis, -1);
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

void ScaleChannels::runOnOperation() {
  if (!(strength <= 1) || (strength < 0 && bits != 4 && bits != 8)) {
    emitError(getOperation().getLoc())
        << "expects bits of 4 or 8, or a strength of 0 to 1, but got "
        << int64_t(bits) << " and " << double(strength);
    return signalPassFailure();
  }
  Pruner pruner(getOperation());
  SmallVector<Operation *> ops;
  getOperation().walk([&](Operation *op) {
    if (isa<RMSNormOp, SwiGLUOp, ExpertsOp>(op))
      ops.push_back(op);
  });
  for (Operation *op : ops) {
    if (auto norm = dyn_cast<RMSNormOp>(op))
      scaleNorm(pruner, norm);
    else if (auto swiglu = dyn_cast<SwiGLUOp>(op))
      scaleGated(pruner, swiglu);
    else
      scaleExperts(pruner, cast<ExpertsOp>(op));
  }
  pruner.finish();
}
