// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Gives every weight that a matrix product reads the layout that the kernels
// read, in its type and at the end of its recipe.

#include "codegen/Passes.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"

using namespace mlir;
using namespace hadal::deepseek;

namespace hadal {
#define GEN_PASS_DEF_PACKWEIGHTS
#include "codegen/Passes.h.inc"
} // namespace hadal

namespace {

/// True if \p weight is integers: their scales and offsets are read with them,
/// tile by tile.
bool isInteger(Value weight) {
  return getElementTypeOrSelf(weight).isInteger();
}

/// True if \p operand is read as a matrix, row tile by row tile.
bool isMatrixOperand(OpOperand &operand) {
  Operation *op = operand.getOwner();
  Value value = operand.get();
  if (auto linear = dyn_cast<LinearOp>(op))
    return linear.getWeight() == value || linear.getOffsets() == value ||
           (linear.getScales() == value && isInteger(linear.getWeight()));
  if (auto linear = dyn_cast<HeadLinearOp>(op))
    return linear.getWeight() == value;
  if (auto head = dyn_cast<LMHeadOp>(op))
    return head.getWeight() == value || head.getScales() == value ||
           head.getOffsets() == value;
  if (auto experts = dyn_cast<ExpertsOp>(op))
    return experts.getGate() == value || experts.getUp() == value ||
           experts.getDown() == value ||
           llvm::is_contained(experts.getOffsets(), value) ||
           (llvm::is_contained(experts.getScales(), value) &&
            isInteger(experts.getGate()));
  return false;
}

struct PackWeights : public hadal::impl::PackWeightsBase<PackWeights> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable symbols(module);

    // A weight is packed if a matrix product reads it, here or in a callee.
    llvm::MapVector<Operation *, bool> isPacked;
    for (auto function : module.getOps<func::FuncOp>())
      function.walk([&](UseWeightOp use) {
        auto weight = symbols.lookup<WeightOp>(use.getName());
        for (OpOperand &operand : use.getResult().getUses())
          isPacked[weight] |=
              isMatrixOperand(operand) || isMatrixArgument(symbols, operand);
      });

    for (auto [op, packed] : isPacked) {
      auto weight = cast<WeightOp>(op);
      RankedTensorType type = weight.getWeightType();
      if (!packed || type.getEncoding())
        continue;
      Type element = type.getElementType();
      auto encoding = TiledAttr::get(&getContext(), /*rows=*/16,
                                     element.isInteger(4)   ? 8
                                     : element.isInteger(8) ? 4
                                                            : 1);
      auto packedType = RankedTensorType::get(type.getShape(),
                                              type.getElementType(), encoding);
      auto yield = cast<YieldOp>(weight.getRecipe().front().back());
      OpBuilder builder(yield);
      yield.getValueMutable().assign(PackOp::create(
          builder, weight.getLoc(), packedType, yield.getValue()));
      weight.setType(packedType);
      ++numWeightsPacked;
    }

    for (auto function : module.getOps<func::FuncOp>()) {
      function.walk([&](UseWeightOp use) {
        auto weight = symbols.lookup<WeightOp>(use.getName());
        use.getResult().setType(weight.getWeightType());
      });
    }
    // Callees take what their callers now pass.
    module.walk([&](func::CallOp call) {
      auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
      if (!callee || callee.isExternal())
        return;
      for (auto [argument, operand] :
           llvm::zip(callee.getArguments(), call.getOperands()))
        argument.setType(operand.getType());
      callee.setFunctionType(
          FunctionType::get(&getContext(), callee.getBody().getArgumentTypes(),
                            callee.getFunctionType().getResults()));
    });
  }

  /// True if \p operand is passed to a function that reads it as a matrix.
  static bool isMatrixArgument(SymbolTable &symbols, OpOperand &operand) {
    auto call = dyn_cast<func::CallOp>(operand.getOwner());
    if (!call)
      return false;
    auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
    return callee && !callee.isExternal() &&
           llvm::any_of(
               callee.getArgument(operand.getOperandNumber()).getUses(),
               isMatrixOperand);
  }
};

} // namespace
