// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Stores the experts that are chosen most beside one another.

#include "passes/Passes.h"
#include "passes/Pruning/Pruner.h"

namespace hadal {
#define GEN_PASS_DEF_ORDEREXPERTS
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

struct OrderExperts : public hadal::impl::OrderExpertsBase<OrderExperts> {
  using OrderExpertsBase::OrderExpertsBase;

  void runOnOperation() override;

private:
  LogicalResult order(Pruner &pruner, RouterOp router);
};

} // namespace

/// True if the recipe of \p weight ends in what becomes integers again, if it
/// is its last step.
static bool isStoredAsIntegers(WeightOp weight) {
  Operation *last = weight.getResult().getDefiningOp();
  auto dequantize = dyn_cast_if_present<DequantizeOp>(last);
  return isa_and_present<DequantizeGGUFOp>(last) ||
         (dequantize && !isa<Float8E4M3FNType>(
                            dequantize.getInput().getType().getElementType()));
}

LogicalResult OrderExperts::order(Pruner &pruner, RouterOp router) {
  int64_t all = router.getRouting().getExperts();
  auto decline = [&](const Twine &why) {
    router.emitRemark("keeps its experts in their order: " + why);
    ++numDeclined;
    return success();
  };
  auto logits = router.getLogits().getDefiningOp<LinearOp>();
  auto experts = router.getExperts().hasOneUse()
                     ? dyn_cast<ExpertsOp>(*router.getExperts().user_begin())
                     : ExpertsOp();
  std::optional<PrunedWeight> gate =
      logits ? pruner.lookup(logits.getWeight()) : std::nullopt;
  if (!gate || !experts)
    return decline("something else reads what it chooses by, or chooses");
  if (router.getMap())
    return decline("they are merged");
  SmallVector<Value> values = {experts.getGate(), experts.getUp(),
                               experts.getDown()};
  llvm::append_range(values, experts.getScales());
  llvm::append_range(values, experts.getOffsets());
  SmallVector<PrunedWeight> weights;
  for (Value value : values) {
    std::optional<PrunedWeight> found = pruner.lookup(value);
    if (!found || found->weights.size() != gate->weights.size())
      return decline("their weights are read elsewhere, too");
    if (llvm::any_of(found->weights, isStoredAsIntegers))
      return decline("they stay the integers that the checkpoint has");
    weights.push_back(*found);
  }
  SmallVector<WeightOp> mass, maps;
  for (WeightOp weight : gate->weights) {
    FailureOr<WeightOp> known = pruner.findMass(router, weight, assume);
    if (failed(known))
      return failure();
    if (known->getWeightType().getShape() != ArrayRef(all))
      return router.emitOpError("expects statistics of ")
             << all << " experts, but those of '" << weight.getSymName()
             << "' are " << known->getWeightType();
    mass.push_back(*known);
  }
  for (const PrunedWeight &weight : weights)
    pruner.select(weight, 0, all, 1, mass, /*sorted=*/true);
  for (auto [weight, importance] : llvm::zip_equal(gate->weights, mass)) {
    WeightOp map = pruner.declareMap(weight, all);
    auto builder = OpBuilder::atBlockBegin(&map.getRecipe().front());
    YieldOp::create(builder, map.getLoc(),
                    RankOp::create(builder, map.getLoc(), map.getWeightType(),
                                   Pruner::inlineRecipe(builder, importance)));
    maps.push_back(map);
  }
  router.getMapMutable().assign(pruner.pass(router, *gate, maps));
  numOrdered += unsigned(all) * unsigned(maps.size());
  return success();
}

void OrderExperts::runOnOperation() {
  SmallVector<RouterOp> routers;
  getOperation().walk([&](RouterOp router) { routers.push_back(router); });
  if (routers.empty()) {
    emitError(getOperation().getLoc())
        << "expects a model with experts to order, but it has no router";
    return signalPassFailure();
  }
  Pruner pruner(getOperation());
  for (RouterOp router : routers)
    if (failed(order(pruner, router)))
      return signalPassFailure();
  pruner.finish();
  getOperation().walk([](HashRouterOp router) {
    router.emitRemark("keeps its experts in their order: its table chooses");
  });
}
