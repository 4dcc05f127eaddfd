// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Takes the heads of attention away that add the least to its output.

#include "passes/Passes.h"
#include "passes/Pruning/Pruner.h"

namespace hadal {
#define GEN_PASS_DEF_PRUNEHEADS
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

struct PruneHeads : public hadal::impl::PruneHeadsBase<PruneHeads> {
  using PruneHeadsBase::PruneHeadsBase;

  void runOnOperation() override;

private:
  LogicalResult prune(Pruner &pruner, LatentAttentionOp attention,
                      PruneAmount amount);
  LogicalResult prune(Pruner &pruner, AttentionOp attention,
                      PruneAmount amount);
  LogicalResult cut(Pruner &pruner, Operation *attention, int64_t heads,
                    int64_t keep, int64_t groups, Value latent);
};

} // namespace

/// Leaves \p keep of the \p heads of \p attention, as many of each of
/// \p groups. \p latent is the weight that makes keys and values of latents, or
/// null.
LogicalResult PruneHeads::cut(Pruner &pruner, Operation *attention,
                              int64_t heads, int64_t keep, int64_t groups,
                              Value latent) {
  auto rotary = attention->getOperand(0).getDefiningOp<RotaryOp>();
  auto query =
      rotary ? rotary.getInput().getDefiningOp<LinearOp>() : LinearOp();
  auto output = attention->hasOneUse()
                    ? dyn_cast<LinearOp>(*attention->user_begin())
                    : LinearOp();
  auto isPlain = [](LinearOp op) { return op && !op.getScales(); };
  bool isFP8 =
      latent && isa<Float8E4M3FNType>(
                    cast<RankedTensorType>(latent.getType()).getElementType());
  if (!isPlain(query) || !isPlain(output) || !query->hasOneUse() ||
      !rotary->hasOneUse() || isFP8)
    return attention->emitOpError("expects products of its own around it, of "
                                  "weights without scales, to take heads away");
  // Weights with a row for each channel of a head.
  SmallVector<PrunedWeight> rows;
  for (Value value :
       {Value(query.getWeight()), Value(query.getBias()), latent}) {
    if (!value)
      continue;
    FailureOr<PrunedWeight> found = pruner.find(attention, value);
    if (failed(found))
      return failure();
    rows.push_back(*found);
  }
  FailureOr<PrunedWeight> o = pruner.find(attention, output.getWeight());
  if (failed(o))
    return failure();
  auto shapeOf = [](const PrunedWeight &weight) {
    return cast<RankedTensorType>(weight.value.getType()).getShape();
  };
  int64_t valueDim = shapeOf(*o)[1] / heads;
  SmallVector<WeightOp> importance;
  for (WeightOp weight : o->weights)
    importance.push_back(pruner.makeChannelImportance(weight, valueDim));
  for (const PrunedWeight &weight : rows) {
    SmallVector<int64_t> view(shapeOf(weight));
    view.front() /= heads;
    view.insert(view.begin(), heads);
    pruner.select(weight, view, 0, 0, keep, groups, importance);
  }
  pruner.select(*o, {shapeOf(*o)[0], heads, valueDim}, 1, 1, keep, groups,
                importance);
  int64_t columns = shapeOf(rows.front())[0];
  Pruner::setColumns(query.getResult(), columns);
  Pruner::setColumns(rotary.getResult(), columns);
  Pruner::setColumns(attention->getResult(0), shapeOf(*o)[1]);
  rotary.setHeads(uint64_t(keep));
  numRemoved += unsigned(heads - keep) * unsigned(o->weights.size());
  return success();
}

LogicalResult PruneHeads::prune(Pruner &pruner, LatentAttentionOp attention,
                                PruneAmount amount) {
  int64_t heads = attention.getHeads();
  int64_t gone = amount.count
                     ? amount.count
                     : int64_t(double(heads) * amount.percent / 100 + 0.5);
  if (gone < 1 || gone >= heads)
    return attention.emitOpError("expects to take out 1 to ")
           << heads - 1 << " of " << heads << " heads, but got " << gone;
  if (failed(cut(pruner, attention, heads, heads - gone, /*groups=*/1,
                 attention.getKvB())))
    return failure();
  attention.setHeads(uint64_t(heads - gone));
  return success();
}

LogicalResult PruneHeads::prune(Pruner &pruner, AttentionOp attention,
                                PruneAmount amount) {
  int64_t heads = attention.getHeads();
  int64_t groups = cast<KVCacheType>(attention.getCache().getType()).getHeads();
  int64_t each = heads / groups;
  if (each == 1)
    return attention.emitOpError("expects several heads of queries for one of "
                                 "keys, to take some away, but there are ")
           << heads << " of both";
  int64_t gone =
      amount.count
          ? amount.count
          : int64_t(double(each) * amount.percent / 100 + 0.5) * groups;
  if (gone < groups || gone > (each - 1) * groups || gone % groups != 0)
    return attention.emitOpError("expects to take out a multiple of ")
           << groups << " heads, as many of each that reads the same keys, up "
           << "to " << (each - 1) * groups << " of " << heads << ", but got "
           << gone;
  if (failed(cut(pruner, attention, heads, heads - gone, groups, nullptr)))
    return failure();
  attention.setHeads(uint64_t(heads - gone));
  return success();
}

void PruneHeads::runOnOperation() {
  std::string error;
  std::optional<PruneAmount> parsed = parsePruneAmount("heads", amount, error);
  SmallVector<Operation *> attentions;
  getOperation().walk([&](Operation *op) {
    if (isa<LatentAttentionOp, AttentionOp>(op))
      attentions.push_back(op);
  });
  if (parsed && attentions.empty())
    error = "expects a model with attention, as it was imported, to take heads "
            "away";
  if (!error.empty()) {
    emitError(getOperation().getLoc()) << error;
    return signalPassFailure();
  }
  Pruner pruner(getOperation());
  for (Operation *op : attentions) {
    auto latent = dyn_cast<LatentAttentionOp>(op);
    if (failed(latent ? prune(pruner, latent, *parsed)
                      : prune(pruner, cast<AttentionOp>(op), *parsed)))
      return signalPassFailure();
  }
  pruner.finish();
  if (pruner.numMissing)
    getOperation().emitRemark("judges heads by their weights alone: nothing "
                              "says what they carry");
}
