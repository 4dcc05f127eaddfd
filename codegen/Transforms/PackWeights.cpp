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

/// How an operand is read: not in tiles, or as a matrix, or as scales or
/// offsets of one of integers.
enum class Role { None, Matrix, Scales };

Role roleOf(OpOperand &operand) {
  Operation *op = operand.getOwner();
  Value value = operand.get();
  auto role = [](bool isMatrix, bool isScales) {
    return isMatrix ? Role::Matrix : isScales ? Role::Scales : Role::None;
  };
  if (auto linear = dyn_cast<LinearOp>(op))
    return role(
        linear.getWeight() == value,
        linear.getOffsets() == value ||
            (linear.getScales() == value && isInteger(linear.getWeight())));
  if (auto embed = dyn_cast<EmbedOp>(op))
    return role(embed.getTable() == value && isInteger(value),
                embed.getScales() == value || embed.getOffsets() == value);
  if (auto linear = dyn_cast<HeadLinearOp>(op)) {
    // Scales of groups of rows are read along the columns.
    bool areInTiles = linear.getScales() &&
                      getScaleAxis(linear.getWeight(), linear.getScales()) == 2;
    return role(linear.getWeight() == value,
                areInTiles && (linear.getScales() == value ||
                               linear.getOffsets() == value));
  }
  if (auto head = dyn_cast<LMHeadOp>(op))
    return role(head.getWeight() == value,
                head.getScales() == value || head.getOffsets() == value);
  if (auto experts = dyn_cast<ExpertsOp>(op))
    return role(experts.getGate() == value || experts.getUp() == value ||
                    experts.getDown() == value,
                llvm::is_contained(experts.getOffsets(), value) ||
                    (llvm::is_contained(experts.getScales(), value) &&
                     isInteger(experts.getGate())));
  return Role::None;
}

struct PackWeights : public hadal::impl::PackWeightsBase<PackWeights> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable symbols(module);

    // A weight is packed if a matrix product reads it, here or in a callee.
    llvm::MapVector<Operation *, Role> roles;
    for (auto function : module.getOps<func::FuncOp>())
      function.walk([&](UseWeightOp use) {
        auto weight = symbols.lookup<WeightOp>(use.getName());
        for (OpOperand &operand : use.getResult().getUses()) {
          Role role = roleOf(operand);
          if (role == Role::None)
            role = argumentRole(symbols, operand);
          if (role != Role::None)
            roles[weight] = role;
        }
      });

    for (auto [op, role] : roles) {
      auto weight = cast<WeightOp>(op);
      RankedTensorType type = weight.getWeightType();
      if (isa_and_nonnull<TiledAttr>(type.getEncoding()))
        continue;
      Type element = type.getElementType();
      auto encoding =
          TiledAttr::get(&getContext(), /*rows=*/16,
                         role == Role::Matrix && element.isInteger()
                             ? getTileColumns(element.getIntOrFloatBitWidth())
                             : 1,
                         getCodebook(type));
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

  /// How a function reads \p operand, if it is passed to one.
  static Role argumentRole(SymbolTable &symbols, OpOperand &operand) {
    auto call = dyn_cast<func::CallOp>(operand.getOwner());
    if (!call)
      return Role::None;
    auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
    if (!callee || callee.isExternal())
      return Role::None;
    for (OpOperand &use :
         callee.getArgument(operand.getOperandNumber()).getUses())
      if (Role role = roleOf(use); role != Role::None)
        return role;
    return Role::None;
  }
};

} // namespace
