// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Decides whether the inputs of products with weights are rounded.

#include "passes/Passes.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "mlir/IR/TypeUtilities.h"
#include "llvm/ADT/TypeSwitch.h"

namespace hadal {
#define GEN_PASS_DEF_ROUNDACTIVATIONS
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

struct RoundActivations
    : public hadal::impl::RoundActivationsBase<RoundActivations> {
  using RoundActivationsBase::RoundActivationsBase;

  void runOnOperation() override {
    if (type != "int8" && type != "bf16" && type != "f32") {
      emitError(getOperation().getLoc())
          << "expects type int8, bf16 or f32, but got '" << type << "'";
      return signalPassFailure();
    }
    getOperation().walk([&](Operation *op) {
      llvm::TypeSwitch<Operation *>(op)
          .Case<LinearOp, LMHeadOp>([&](auto op) {
            if (type != "int8")
              setBF16(op, op.getWeight());
            if (op.getScales() && type != "bf16")
              change(op, op.getWeight(),
                     {getScaleGroup(op.getWeight(), op.getScales())});
          })
          .Case([&](ExpertsOp op) {
            Value weights[] = {op.getGate(), op.getUp(), op.getDown()};
            if (type != "int8")
              setBF16(op, weights);
            if (op.getScales().empty() || type == "bf16")
              return;
            SmallVector<int64_t> groups;
            for (auto [weight, scales] : llvm::zip(weights, op.getScales()))
              groups.push_back(getScaleGroup(weight, scales));
            change(op, op.getGate(), groups);
          });
    });
  }

private:
  /// Rounds the inputs of \p op to bf16, or no longer.
  template <typename Op> void setBF16(Op op, ValueRange weights) {
    if (type == "f32") {
      numChanged += op.getBf16Inputs();
      op.setBf16Inputs(false);
      return;
    }
    auto isFloat = [](Type weight) {
      return isa<FloatType>(getElementTypeOrSelf(weight));
    };
    if (op.getBf16Inputs() || !llvm::all_of(weights.getTypes(), isFloat))
      return;
    if (!llvm::all_of(weights.getTypes(), canTakeBF16)) {
      op.emitRemark() << "inputs of '" << op->getName()
                      << "' stay f32: its weights are f32, or of an odd number "
                         "of columns";
      ++numDeclined;
      return;
    }
    op.setBf16Inputs(true);
    ++numChanged;
  }

  /// Sets or removes the rounding of \p op, whose weights have \p groups.
  template <typename Op>
  void change(Op op, Value weight, ArrayRef<int64_t> groups) {
    if (!getElementTypeOrSelf(weight).isInteger())
      return;
    if (type == "f32") {
      numChanged += op.getActivationGroup().has_value();
      op.removeActivationGroupAttr();
      return;
    }
    if (op.getActivationGroup())
      return;
    int64_t wanted = 128;
    while (wanted >= 16 && llvm::any_of(groups, [&](int64_t group) {
             return group % wanted != 0;
           }))
      wanted /= 2;
    if (wanted < 16) {
      op.emitRemark() << "inputs of '" << op->getName()
                      << "' stay f32: its weights have groups of no multiple "
                         "of 16";
      ++numDeclined;
      return;
    }
    op.setActivationGroup(wanted);
    ++numChanged;
  }
};

} // namespace
