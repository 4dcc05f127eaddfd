// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Makes one expert of several that do much the same.

#include "passes/Passes.h"
#include "passes/Pruning/Pruner.h"

namespace hadal {
#define GEN_PASS_DEF_MERGEEXPERTS
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

struct MergeExperts : public hadal::impl::MergeExpertsBase<MergeExperts> {
  using MergeExpertsBase::MergeExpertsBase;

  void runOnOperation() override;

private:
  LogicalResult merge(Pruner &pruner, RouterOp router);
};

} // namespace

/// FP8 experts become bf16: a mean has no blocks of one scale.
static WeightOp copyWidened(Pruner &pruner, OpBuilder &builder, WeightOp weight,
                            WeightOp scales) {
  auto copy = cast<WeightOp>(builder.clone(*weight));
  if (!scales)
    return copy;
  auto yield = cast<YieldOp>(copy.getRecipe().front().getTerminator());
  OpBuilder inside(yield);
  auto type = RankedTensorType::get(weight.getWeightType().getShape(),
                                    builder.getBF16Type());
  yield.getValueMutable().assign(DequantizeOp::create(
      inside, weight.getLoc(), type, yield.getValue(),
      pruner.inlineRecipe(inside, scales), fp8BlockSize, fp8BlockSize,
      /*unchecked=*/false));
  copy.setType(type);
  return copy;
}

LogicalResult MergeExperts::merge(Pruner &pruner, RouterOp router) {
  int64_t all = router.getRouting().getExperts();
  if (count < 1 || count >= all)
    return router.emitOpError("expects to merge ")
           << all << " experts into 1 to " << all - 1 << ", but got "
           << int64_t(count);
  if (router.getMap())
    return router.emitOpError("expects experts that are as they were made, but "
                              "they have a map");
  auto logits = router.getLogits().getDefiningOp<LinearOp>();
  if (!logits || !logits->hasOneUse() || logits.getScales())
    return router.emitOpError("expects logits that a product with a weight "
                              "makes, to merge experts");
  auto experts = router.getExperts().hasOneUse()
                     ? dyn_cast<ExpertsOp>(*router.getExperts().user_begin())
                     : ExpertsOp();
  if (!experts)
    return router.emitOpError("expects one 'deepseek.experts' to read what it "
                              "chooses, to merge experts");
  if (!experts.getOffsets().empty() || experts.getActivationGroup())
    return experts.emitOpError("expects weights that are not integers, to "
                               "merge experts");
  FailureOr<PrunedWeight> gate = pruner.find(router, logits.getWeight());
  if (failed(gate))
    return failure();
  SmallVector<PrunedWeight> parts, scales;
  for (Value value : {experts.getGate(), experts.getUp(), experts.getDown()}) {
    FailureOr<PrunedWeight> found = pruner.find(experts, value);
    if (failed(found))
      return failure();
    parts.push_back(*found);
  }
  for (Value value : experts.getScales()) {
    FailureOr<PrunedWeight> found = pruner.find(experts, value);
    if (failed(found))
      return failure();
    scales.push_back(*found);
  }

  Location loc = router.getLoc();
  SmallVector<WeightOp> maps;
  for (size_t i = 0; i < gate->weights.size(); ++i) {
    OwningOpRef<ModuleOp> originals = ModuleOp::create(loc);
    OpBuilder builder = OpBuilder::atBlockEnd(originals->getBody());
    SmallVector<WeightOp> copies;
    for (size_t part = 0; part < 3; ++part)
      copies.push_back(
          copyWidened(pruner, builder, parts[part].weights[i],
                      scales.empty() ? WeightOp() : scales[part].weights[i]));
    WeightOp router = gate->weights[i];
    WeightOp mass = pruner.findStatistic(router, "mass");
    // As it was for the experts that are merged.
    WeightOp moment = pruner.findStatistic(parts.front().weights[i], "moment");
    if (moment)
      moment = cast<WeightOp>(builder.clone(*moment));
    int64_t keep = count;
    if (!mass)
      ++pruner.numMissing;
    auto rewrite = [&](WeightOp weight, MergedPart part, RankedTensorType type,
                       WeightOp statistic = {}, WeightOp count = {}) {
      OwningOpRef<WeightOp> old =
          statistic ? cast<WeightOp>(statistic->clone()) : WeightOp();
      weight.getRecipe().front().clear();
      OpBuilder inside = OpBuilder::atBlockBegin(&weight.getRecipe().front());
      SmallVector<Value> of;
      for (WeightOp copy : copies)
        of.push_back(pruner.inlineRecipe(inside, copy));
      Value masses = mass ? pruner.inlineRecipe(inside, mass) : Value();
      Value moments = moment ? pruner.inlineRecipe(inside, moment) : Value();
      Value known = old ? pruner.inlineRecipe(inside, *old) : Value();
      Value rows = count ? pruner.inlineRecipe(inside, count) : Value();
      YieldOp::create(inside, loc,
                      MergeExpertsOp::create(inside, loc, type, part, of[0],
                                             of[1], of[2], masses, moments,
                                             known, rows, int64_t(keep)));
      weight.setType(type);
    };
    for (size_t part = 0; part < 3; ++part) {
      RankedTensorType type = copies[part].getWeightType();
      SmallVector<int64_t> shape(type.getShape());
      shape.front() = count;
      rewrite(parts[part].weights[i],
              MergedPart(unsigned(MergedPart::Gate) + unsigned(part)),
              type.clone(shape));
    }
    WeightOp map = pruner.declareMap(router, all);
    rewrite(map, MergedPart::Map, map.getWeightType());
    maps.push_back(map);
    // What is known of the inputs becomes that of the merged experts; what is
    // not a mean, and how many rows it is of, is of experts that are no more.
    for (size_t part = 0; part < 3; ++part)
      for (StringRef name : {"moment", "gram"}) {
        WeightOp weight = parts[part].weights[i];
        WeightOp known = pruner.findStatistic(weight, name);
        WeightOp rows = pruner.findStatistic(weight, (name + ".count").str());
        if (known) {
          RankedTensorType type = known.getWeightType();
          SmallVector<int64_t> shape(type.getShape());
          bool isOfEach = rows && shape.size() > 1 && shape.front() == all &&
                          rows.getWeightType().getShape() == ArrayRef(all);
          if (isOfEach) {
            shape.front() = keep;
            rewrite(known, part == 2 ? MergedPart::Inner : MergedPart::Outer,
                    type.clone(shape), known, rows);
          } else {
            pruner.symbols.erase(known);
          }
        }
        for (StringRef suffix : {".count", ".max"})
          if (WeightOp other =
                  pruner.findStatistic(weight, (name + suffix).str()))
            pruner.symbols.erase(other);
      }
  }
  for (PrunedWeight &part : parts)
    pruner.setType(part, part.weights.front().getWeightType());
  router.getMapMutable().assign(pruner.pass(router, *gate, maps));
  if (!scales.empty()) {
    experts.getScalesMutable().clear();
    for (const PrunedWeight &scale : scales)
      pruner.drop(scale);
  }
  numMerged += unsigned(all - count) * unsigned(maps.size());
  return success();
}

void MergeExperts::runOnOperation() {
  SmallVector<RouterOp> routers;
  getOperation().walk([&](RouterOp router) { routers.push_back(router); });
  if (routers.empty()) {
    emitError(getOperation().getLoc())
        << "expects a model with experts to merge, but it has no router";
    return signalPassFailure();
  }
  Pruner pruner(getOperation());
  for (RouterOp router : routers)
    if (failed(merge(pruner, router)))
      return signalPassFailure();
  pruner.finish();
  if (pruner.numMissing)
    getOperation().emitRemark("merges experts as if each was chosen as often: "
                              "nothing says how much they are");
  getOperation().walk([](HashRouterOp router) {
    router.emitRemark("keeps its experts, which its table chooses");
  });
}
