// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lets every token choose fewer experts.

#include "passes/Passes.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

namespace hadal {
#define GEN_PASS_DEF_REDUCEACTIVEEXPERTS
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

struct ReduceActiveExperts
    : public hadal::impl::ReduceActiveExpertsBase<ReduceActiveExperts> {
  using ReduceActiveExpertsBase::ReduceActiveExpertsBase;

  void runOnOperation() override;

private:
  LogicalResult check(RouterOp router);
  void reduce(RouterOp router);
};

} // namespace

/// Refuses what only a function that \p router is not in could rewrite.
LogicalResult ReduceActiveExperts::check(RouterOp router) {
  int64_t before = router.getRouting().getTopK();
  if (topK < 1 || topK > before)
    return router.emitOpError("expects top-k of 1 to ")
           << before << ", the experts of a token, but got " << int64_t(topK);
  for (Value result : router.getResults())
    for (Operation *user : result.getUsers())
      if (!isa<ExpertsOp>(user))
        return router.emitOpError("expects only experts to read what it "
                                  "chooses, but '")
               << user->getName() << "' does, too";
  return success();
}

void ReduceActiveExperts::reduce(RouterOp router) {
  RoutingAttr routing = router.getRouting();
  int64_t before = routing.getTopK();
  if (topK == before)
    return;
  router.setRoutingAttr(RoutingAttr::get(
      &getContext(), routing.getScoring(), routing.getMethod(),
      routing.getExperts(), topK, routing.getGroups(), routing.getTopGroups(),
      routing.getNormalize(), routing.getScale()));
  // A rule that normalizes gives those that are left all of the weight.
  if (renormalize && !routing.getNormalize() && !router.getRenormalizeFrom())
    router.setRenormalizeFrom(uint64_t(before));
  for (Value result : router.getResults()) {
    auto type = cast<RankedTensorType>(result.getType());
    result.setType(type.clone({type.getDimSize(0), topK}));
  }
  ++numReduced;
}

void ReduceActiveExperts::runOnOperation() {
  SmallVector<RouterOp> routers;
  getOperation().walk([&](RouterOp router) { routers.push_back(router); });
  if (routers.empty()) {
    emitError(getOperation().getLoc())
        << "expects a model with experts for top-k " << int64_t(topK)
        << ", but it has no router";
    return signalPassFailure();
  }
  for (RouterOp router : routers)
    if (failed(check(router)))
      return signalPassFailure();
  for (RouterOp router : routers)
    reduce(router);
  getOperation().walk([](HashRouterOp router) {
    router.emitRemark("keeps the experts that its table has of each token");
  });
}
