// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lets attention see a window of the latest tokens, and the first ones.

#include "passes/Passes.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "llvm/ADT/TypeSwitch.h"

namespace hadal {
#define GEN_PASS_DEF_WINDOWATTENTION
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

struct WindowAttention
    : public hadal::impl::WindowAttentionBase<WindowAttention> {
  using Base = hadal::impl::WindowAttentionBase<WindowAttention>;
  using Base::Base;

  void runOnOperation() override;

private:
  template <typename Op> void setWindow(Op op, WindowAttr window);
};

} // namespace

template <typename Op>
void WindowAttention::setWindow(Op op, WindowAttr window) {
  if constexpr (!std::is_same_v<Op, AttentionOp>)
    if (op.getSelected()) {
      op.emitRemark("stays without a window: it sees the tokens that "
                    "deepseek.select_keys chooses");
      ++numDeclined;
      return;
    }
  if (std::optional<WindowAttr> own = op.getWindow();
      own && own->getTokens() <= window.getTokens()) {
    op.emitRemark("keeps its window of ")
        << own->getTokens() << " tokens, which is no wider than "
        << window.getTokens();
    ++numDeclined;
    return;
  }
  op.setWindowAttr(window);
  ++numWindowed;
}

void WindowAttention::runOnOperation() {
  ModuleOp module = getOperation();
  int64_t windowTokens = tokens, sinkTokens = sink;
  auto window = WindowAttr::getChecked([&] { return module.emitError(); },
                                       &getContext(), windowTokens, sinkTokens);
  if (!window)
    return signalPassFailure();
  for (auto model : module.getOps<ModelOp>())
    if (int64_t(model.getContextLength()) <= windowTokens) {
      model.emitRemark("stays without a window of ")
          << windowTokens << " tokens: no sequence has more than "
          << model.getContextLength();
      ++numDeclined;
      return markAllAnalysesPreserved();
    }
  module.walk([&](Operation *op) {
    llvm::TypeSwitch<Operation *>(op)
        .Case<AttentionOp, LatentAttentionOp, AbsorbedAttentionOp>(
            [&](auto attention) { setWindow(attention, window); })
        .Case([&](CompressedAttentionOp attention) {
          attention.emitRemark("keeps its window of ")
              << int64_t(attention.getWindow())
              << " tokens, in front of compressed entries";
          ++numDeclined;
        });
  });
  if (!numWindowed)
    markAllAnalysesPreserved();
}
