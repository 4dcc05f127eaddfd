// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Gives each result of a graph a buffer of its own.

#include "codegen/Passes.h"

#include "dialects/RT/IR/RTOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

namespace hadal {
#define GEN_PASS_DEF_SEPARATEGRAPHRESULTS
#include "codegen/Passes.h.inc"
} // namespace hadal

using namespace mlir;

namespace {
struct SeparateGraphResults
    : public hadal::impl::SeparateGraphResultsBase<SeparateGraphResults> {
  using SeparateGraphResultsBase::SeparateGraphResultsBase;

  void runOnOperation() override {
    if (!getOperation()->hasAttr(hadal::rt::graphInputsAttrName))
      return;
    getOperation().walk([](func::ReturnOp end) {
      OpBuilder builder(end);
      SmallPtrSet<Value, 8> seen;
      for (OpOperand &operand : end->getOpOperands()) {
        auto type = dyn_cast<MemRefType>(operand.get().getType());
        if (!type || seen.insert(operand.get()).second)
          continue;
        Value copy = memref::AllocOp::create(builder, end.getLoc(), type);
        memref::CopyOp::create(builder, end.getLoc(), operand.get(), copy);
        operand.set(copy);
      }
    });
  }
};
} // namespace
