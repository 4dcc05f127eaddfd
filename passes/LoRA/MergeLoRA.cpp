// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Adds what adapters change to the recipes of the weights that they change.

#include "passes/Passes.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "mlir/IR/IRMapping.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/MapVector.h"

namespace hadal {
#define GEN_PASS_DEF_MERGELORA
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

/// Copies the recipe of \p weight to where \p builder stands; returns its
/// value.
static Value copyRecipe(OpBuilder &builder, WeightOp weight) {
  IRMapping mapping;
  for (Operation &op : weight.getRecipe().front().without_terminator())
    builder.clone(op, mapping);
  return mapping.lookup(weight.getResult());
}

namespace {

struct MergeLoRA : public hadal::impl::MergeLoRABase<MergeLoRA> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable symbols(module);
    SmallVector<LoRAOp> changes(module.getOps<LoRAOp>());
    if (changes.empty())
      return markAllAnalysesPreserved();
    // By element type, so that there is one remark for all.
    llvm::MapVector<Type, SmallVector<WeightOp>> rounded;
    for (LoRAOp change : changes) {
      auto weight = symbols.lookup<WeightOp>(change.getWeight());
      RankedTensorType type = weight.getWeightType();
      if (type.getEncoding()) {
        change.emitOpError("expects a weight without a layout to merge into, "
                           "but got ")
            << type;
        return signalPassFailure();
      }
      auto yield = cast<YieldOp>(weight.getRecipe().front().back());
      OpBuilder builder(yield);
      Value down =
          copyRecipe(builder, symbols.lookup<WeightOp>(change.getDown()));
      Value up = copyRecipe(builder, symbols.lookup<WeightOp>(change.getUp()));
      yield.getValueMutable().assign(
          AddProductOp::create(builder, change.getLoc(), type, yield.getValue(),
                               up, down, change.getScaleAttr()));
      if (!type.getElementType().isF32())
        rounded[type.getElementType()].push_back(weight);
      ++numMerged;
    }
    for (LoRAOp change : changes) {
      StringAttr parts[] = {change.getDownAttr().getAttr(),
                            change.getUpAttr().getAttr()};
      change.erase();
      for (StringAttr part : parts)
        if (Operation *weight = symbols.lookup(part);
            weight && SymbolTable::symbolKnownUseEmpty(part, module))
          symbols.erase(weight);
    }
    for (auto &[type, weights] : rounded)
      emitRemark(weights.front().getLoc())
          << "'" << weights.front().getSymName() << "' and "
          << weights.size() - 1 << " like it are rounded to " << type
          << " after an adapter was merged";
  }
};

} // namespace
