// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Takes the heads of latent attention away that add the least to its output.

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
};

} // namespace

LogicalResult PruneHeads::prune(Pruner &pruner, LatentAttentionOp attention,
                                PruneAmount amount) {
  int64_t heads = attention.getHeads();
  int64_t gone = amount.count
                     ? amount.count
                     : int64_t(double(heads) * amount.percent / 100 + 0.5);
  if (gone < 1 || gone >= heads)
    return attention.emitOpError("expects to take out 1 to ")
           << heads - 1 << " of " << heads << " heads, but got " << gone;
  int64_t keep = heads - gone;
  auto rotary = attention.getQuery().getDefiningOp<RotaryOp>();
  auto query =
      rotary ? rotary.getInput().getDefiningOp<LinearOp>() : LinearOp();
  auto output = attention->hasOneUse()
                    ? dyn_cast<LinearOp>(*attention->user_begin())
                    : LinearOp();
  auto isPlain = [](LinearOp op) {
    return op && !op.getScales() && !op.getBias();
  };
  Type element =
      cast<RankedTensorType>(attention.getKvB().getType()).getElementType();
  if (!isPlain(query) || !isPlain(output) || !query->hasOneUse() ||
      !rotary->hasOneUse() || isa<Float8E4M3FNType>(element))
    return attention.emitOpError("expects products of its own around it, of "
                                 "weights without scales and biases, to take "
                                 "heads away");
  FailureOr<PrunedWeight> q = pruner.find(attention, query.getWeight()),
                          kv = pruner.find(attention, attention.getKvB()),
                          o = pruner.find(attention, output.getWeight());
  if (failed(q) || failed(kv) || failed(o))
    return failure();
  auto shapeOf = [](const PrunedWeight &weight) {
    return cast<RankedTensorType>(weight.value.getType()).getShape();
  };
  int64_t valueDim = shapeOf(*o)[1] / heads;
  SmallVector<WeightOp> importance;
  for (WeightOp weight : o->weights)
    importance.push_back(pruner.makeChannelImportance(weight, valueDim));
  for (const PrunedWeight *weight : {&*q, &*kv}) {
    ArrayRef<int64_t> shape = shapeOf(*weight);
    pruner.select(*weight, {heads, shape[0] / heads, shape[1]}, 0, 0, keep, 1,
                  importance);
  }
  pruner.select(*o, {shapeOf(*o)[0], heads, valueDim}, 1, 1, keep, 1,
                importance);
  Pruner::setColumns(query.getResult(), shapeOf(*q)[0]);
  Pruner::setColumns(rotary.getResult(), shapeOf(*q)[0]);
  Pruner::setColumns(attention.getResult(), shapeOf(*o)[1]);
  rotary.setHeads(uint64_t(keep));
  attention.setHeads(uint64_t(keep));
  numRemoved += unsigned(gone) * unsigned(o->weights.size());
  return success();
}

void PruneHeads::runOnOperation() {
  std::string error;
  std::optional<PruneAmount> parsed = parsePruneAmount("heads", amount, error);
  SmallVector<LatentAttentionOp> attentions;
  getOperation().walk(
      [&](LatentAttentionOp attention) { attentions.push_back(attention); });
  if (parsed && attentions.empty())
    error = "expects a model with latent attention, as it was imported, to "
            "take heads away";
  if (!error.empty()) {
    emitError(getOperation().getLoc()) << error;
    return signalPassFailure();
  }
  Pruner pruner(getOperation());
  for (LatentAttentionOp attention : attentions)
    if (failed(prune(pruner, attention, *parsed)))
      return signalPassFailure();
  pruner.finish();
  if (pruner.numMissing)
    getOperation().emitRemark("judges heads by their weights alone: nothing "
                              "says what they carry");
}
