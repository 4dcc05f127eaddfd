// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Takes whole layers out of a model.

#include "passes/Passes.h"
#include "passes/Pruning/Pruner.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

namespace hadal {
#define GEN_PASS_DEF_PRUNELAYERS
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

struct PruneLayers : public hadal::impl::PruneLayersBase<PruneLayers> {
  using PruneLayersBase::PruneLayersBase;

  void runOnOperation() override;

private:
  FailureOr<SmallVector<size_t>> choose(ModelOp model, PruneAmount amount);
  FailureOr<SmallVector<size_t>> rank(ModelOp model);
  void remove(ModelOp model, func::FuncOp entry, ArrayRef<size_t> chosen);

  /// Calls of layers, in order.
  SmallVector<func::CallOp> layers;
};

} // namespace

/// Layers, the one that changes the least first.
FailureOr<SmallVector<size_t>> PruneLayers::rank(ModelOp model) {
  auto order = llvm::to_vector(llvm::seq<size_t>(layers.size()));
  auto influence = model->getAttrOfType<DenseF64ArrayAttr>(influenceName);
  if (!influence) {
    // Gromov et al. 2024, section 4.4: the deepest, but for the last.
    model.emitRemark("takes out the deepest layers but the last: nothing says "
                     "what each changes");
    std::reverse(order.begin(), order.end());
    std::rotate(order.begin(), order.begin() + 1, order.end());
    return order;
  }
  if (influence.size() != int64_t(layers.size()))
    return model.emitOpError("expects the influence of ")
           << layers.size() << " layers, but got that of " << influence.size();
  llvm::sort(order, [&](size_t a, size_t b) {
    return influence[a] != influence[b] ? influence[a] < influence[b] : a < b;
  });
  return order;
}

FailureOr<SmallVector<size_t>> PruneLayers::choose(ModelOp model,
                                                   PruneAmount amount) {
  if (amount.count >= int64_t(layers.size()))
    return model.emitOpError("expects to take out fewer layers than the ")
           << layers.size() << " that there are, but got " << amount.count;
  FailureOr<SmallVector<size_t>> order = rank(model);
  if (failed(order))
    return failure();
  if (amount.count) {
    order->truncate(size_t(amount.count));
    return order;
  }
  // Weights of a layer, and all of them.
  auto parametersOf = [](func::CallOp call) {
    int64_t sum = 0;
    for (Value operand : call.getOperands())
      if (operand.getDefiningOp<UseWeightOp>())
        sum += cast<RankedTensorType>(operand.getType()).getNumElements();
    return sum;
  };
  int64_t total = 0, gone = 0;
  for (auto weight : getOperation().getOps<WeightOp>())
    if (!weight.getSymName().starts_with("statistics."))
      total += weight.getWeightType().getNumElements();
  size_t count = 0;
  while (double(gone) < amount.percent / 100 * double(total) &&
         count < order->size())
    gone += parametersOf(layers[(*order)[count++]]);
  if (count == order->size())
    return model.emitOpError("expects to keep a layer, but ")
           << llvm::formatv("{0}% of the parameters are in all {1} of them",
                            amount.percent, count)
                  .str();
  order->truncate(count);
  return order;
}

void PruneLayers::remove(ModelOp model, func::FuncOp entry,
                         ArrayRef<size_t> chosen) {
  SmallVector<bool> isGone(layers.size(), false);
  for (size_t layer : chosen)
    isGone[layer] = true;
  auto left = int64_t(layers.size() - chosen.size());
  int64_t next = 0;
  for (auto [i, call] : llvm::enumerate(layers)) {
    if (isGone[i]) {
      call.getResult(0).replaceAllUsesWith(call.getOperand(0));
      call.erase();
      ++numRemoved;
      continue;
    }
    // What is cached for a layer follows what is for those before it.
    OpBuilder builder(call);
    call.setOperand(
        unsigned(findLayerOperand(call)),
        arith::ConstantIndexOp::create(builder, call.getLoc(), next++));
  }
  model.setLayers(uint64_t(left));
  model->removeAttr(influenceName);

  // Functions that no layer calls any more.
  SymbolTable symbols(getOperation());
  for (auto function :
       llvm::make_early_inc_range(getOperation().getOps<func::FuncOp>()))
    if (function != entry && function.isPrivate() &&
        SymbolTable::symbolKnownUseEmpty(function, getOperation()))
      symbols.erase(function);
  for (auto function : getOperation().getOps<func::FuncOp>()) {
    if (function.isExternal())
      continue;
    for (BlockArgument argument : function.getArguments())
      if (auto cache = dyn_cast<KVCacheType>(argument.getType()))
        argument.setType(KVCacheType::get(
            &getContext(), cache.getKind(), left, cache.getHeads(),
            cache.getKeyDim(), cache.getValueDim(), cache.getElement(),
            cache.getGroup(), cache.getIndexDim()));
    function.setFunctionType(
        FunctionType::get(&getContext(), function.getBody().getArgumentTypes(),
                          function.getFunctionType().getResults()));
  }
  for (auto constant :
       llvm::make_early_inc_range(entry.getOps<arith::ConstantOp>()))
    if (constant->use_empty())
      constant.erase();
  eraseUnusedWeights(getOperation());
}

void PruneLayers::runOnOperation() {
  std::string error;
  std::optional<PruneAmount> parsed = parsePruneAmount("layers", amount, error);
  auto models = getOperation().getOps<ModelOp>();
  if (parsed && models.empty())
    error = "expects a deepseek.model, whose layers go";
  if (!error.empty()) {
    emitError(getOperation().getLoc()) << error;
    return signalPassFailure();
  }
  ModelOp model = *models.begin();
  auto entry = dyn_cast_or_null<func::FuncOp>(
      SymbolTable::lookupSymbolIn(getOperation(), model.getEntryAttr()));
  if (!entry || entry.isExternal())
    return signalPassFailure();
  auto found = findLayers(entry);
  if (failed(found))
    return signalPassFailure();
  layers = std::move(*found);
  FailureOr<SmallVector<size_t>> chosen = choose(model, *parsed);
  if (failed(chosen))
    return signalPassFailure();
  remove(model, entry, *chosen);
}
