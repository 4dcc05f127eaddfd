// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Takes the experts away to which tokens go the least.

#include "passes/Passes.h"
#include "passes/Pruning/Pruner.h"

namespace hadal {
#define GEN_PASS_DEF_PRUNEEXPERTS
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

struct PruneExperts : public hadal::impl::PruneExpertsBase<PruneExperts> {
  using PruneExpertsBase::PruneExpertsBase;

  void runOnOperation() override;

private:
  LogicalResult prune(Pruner &pruner, RouterOp router, PruneAmount amount);
};

} // namespace

LogicalResult PruneExperts::prune(Pruner &pruner, RouterOp router,
                                  PruneAmount amount) {
  RoutingAttr routing = router.getRouting();
  int64_t all = routing.getExperts(), groups = routing.getGroups();
  if (router.getMap())
    return router.emitOpError("expects experts that are as they were made, but "
                              "they have a map");
  // As many of each group: a rounded share, or as many as that takes.
  int64_t gone =
      amount.count
          ? amount.count
          : int64_t(double(all / groups) * amount.percent / 100 + 0.5) * groups;
  if (amount.count % groups != 0)
    return router.emitOpError("expects to take out a multiple of ")
           << groups << " experts, as many of each group, but got "
           << amount.count;
  if (gone == 0)
    return router.emitOpError("expects to take out an expert, but ")
           << llvm::formatv("{0}% of {1} is less than half of one",
                            amount.percent, all / groups)
                  .str();
  int64_t left = all - gone, topK = routing.getTopK();
  int64_t needed = router.getRenormalizeFrom()
                       ? int64_t(*router.getRenormalizeFrom())
                       : topK;
  int64_t choosable = left > 0 ? left / groups * routing.getTopGroups() : 0;
  if (choosable < needed)
    return router.emitOpError("expects to keep ")
           << needed << " experts that a token can choose, but of " << all
           << " without " << gone << ", it can choose " << choosable;
  auto rule = RoutingAttr::getChecked(
      [&] { return router.emitOpError("cannot do without experts: "); },
      &getContext(), routing.getScoring(), routing.getMethod(), left, topK,
      groups, routing.getTopGroups(), routing.getNormalize(),
      routing.getScale());
  if (!rule)
    return failure();

  auto logits = router.getLogits().getDefiningOp<LinearOp>();
  if (!logits || !logits->hasOneUse() || logits.getScales())
    return router.emitOpError("expects logits that a product with a weight "
                              "makes, to take experts away");
  // The router's weight first: its statistics decide.
  SmallVector<Value> values = {logits.getWeight()};
  if (logits.getBias())
    values.push_back(logits.getBias());
  if (router.getBias())
    values.push_back(router.getBias());
  for (Operation *user : router.getExperts().getUsers()) {
    auto experts = dyn_cast<ExpertsOp>(user);
    if (!experts)
      return user->emitOpError("reads experts in a way that does not allow to "
                               "take some away");
    llvm::append_values(values, experts.getGate(), experts.getUp(),
                        experts.getDown());
    llvm::append_range(values, experts.getScales());
  }
  SmallVector<PrunedWeight> weights;
  for (Value value : values) {
    FailureOr<PrunedWeight> found = pruner.find(router, value);
    if (failed(found))
      return failure();
    weights.push_back(*found);
  }
  SmallVector<WeightOp> mass;
  for (WeightOp weight : weights.front().weights) {
    FailureOr<WeightOp> known = pruner.findMass(router, weight, assume);
    if (failed(known))
      return failure();
    mass.push_back(*known);
  }
  for (const PrunedWeight &weight : weights)
    pruner.select(weight, 0, left, groups, mass);
  // What is left has the mass that it had.
  for (WeightOp known : mass)
    if (pruner.symbols.lookup(known.getSymName()) == known)
      pruner.keepLargest(known, left, groups);
  Pruner::setColumns(logits.getResult(), left);
  router.setRoutingAttr(rule);
  numRemoved += unsigned(gone) * unsigned(mass.size());
  return success();
}

void PruneExperts::runOnOperation() {
  std::string error;
  std::optional<PruneAmount> parsed =
      parsePruneAmount("experts", amount, error);
  SmallVector<RouterOp> routers;
  getOperation().walk([&](RouterOp router) { routers.push_back(router); });
  if (parsed && routers.empty())
    error = "expects a model with experts, but it has no router";
  if (!error.empty()) {
    emitError(getOperation().getLoc()) << error;
    return signalPassFailure();
  }
  Pruner pruner(getOperation());
  for (RouterOp router : routers)
    if (failed(prune(pruner, router, *parsed)))
      return signalPassFailure();
  pruner.finish();
}
