// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Puts what a sequence's adapter adds behind the products that it changes.

#include "passes/Passes.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"

namespace hadal {
#define GEN_PASS_DEF_ATTACHADAPTERS
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

struct AttachAdapters : public hadal::impl::AttachAdaptersBase<AttachAdapters> {
  void runOnOperation() override {
    if (failed(attachAll()))
      signalPassFailure();
  }

private:
  LogicalResult attachAll();
  LogicalResult attachArgument(func::FuncOp function, unsigned argument);
  LogicalResult attachUse(UseWeightOp use);
  LogicalResult attach(Value weight, Value down, Value up);
  FailureOr<Value> findSequences(func::FuncOp function);

  llvm::StringMap<AdaptersOp> changes; ///< By the weight.
  DenseMap<Operation *, SmallVector<func::CallOp>> callsOf;
  func::FuncOp entry;
};

} // namespace

/// The sequences of the rows in \p function.
FailureOr<Value> AttachAdapters::findSequences(func::FuncOp function) {
  constexpr unsigned sequences = 2; // Of the entry's arguments.
  if (function == entry)
    return Value(function.getArgument(sequences));
  for (BlockArgument argument : function.getArguments())
    if (llvm::all_of(callsOf[function], [&](func::CallOp call) {
          return call.getOperand(argument.getArgNumber()) ==
                 entry.getArgument(sequences);
        }))
      return Value(argument);
  return function.emitOpError("expects the sequences of its rows as an "
                              "argument, to choose adapters by");
}

/// Adds to all products with \p weight, a value of one function.
LogicalResult AttachAdapters::attach(Value weight, Value down, Value up) {
  auto function = down.getParentBlock()->getParentOp();
  FailureOr<Value> sequences = findSequences(cast<func::FuncOp>(function));
  if (failed(sequences))
    return failure();
  for (Operation *user : llvm::to_vector(weight.getUsers())) {
    auto linear = dyn_cast<LinearOp>(user);
    if (!linear || linear.getWeight() != weight)
      return user->emitOpError("reads a weight that adapters change, which is "
                               "supported in deepseek.linear alone; merge the "
                               "adapter");
    OpBuilder builder(linear);
    builder.setInsertionPointAfter(linear);
    auto adapt =
        AdaptOp::create(builder, linear.getLoc(), linear.getType(), linear,
                        linear.getInput(), down, up, *sequences);
    linear.getResult().replaceAllUsesExcept(adapt, adapt);
    ++numAttached;
  }
  return success();
}

/// Gives \p function the factors for the weight that is its argument
/// \p argument, if adapters change it in any of its calls.
LogicalResult AttachAdapters::attachArgument(func::FuncOp function,
                                             unsigned argument) {
  SmallVector<AdaptersOp> ofCall;
  for (func::CallOp call : callsOf[function]) {
    auto use = call.getOperand(argument).getDefiningOp<UseWeightOp>();
    ofCall.push_back(use ? changes.lookup(use.getName()) : AdaptersOp());
  }
  if (llvm::none_of(ofCall, [](AdaptersOp op) { return bool(op); }))
    return success();
  SymbolTableCollection symbols;
  Type types[2];
  for (auto [change, call] : llvm::zip_equal(ofCall, callsOf[function])) {
    if (!change)
      return call.emitOpError("expects adapters for argument ")
             << argument << ", as in other calls of " << call.getCalleeAttr();
    OpBuilder builder(call);
    SmallVector<Value> added;
    FlatSymbolRefAttr names[] = {change.getDownAttr(), change.getUpAttr()};
    for (auto [i, name] : llvm::enumerate(names)) {
      auto weight = symbols.lookupNearestSymbolFrom<WeightOp>(change, name);
      if (types[i] && types[i] != weight.getWeightType())
        return call.emitOpError("expects adapters of ")
               << types[i] << " for argument " << argument
               << ", as in other calls, but got " << weight.getWeightType();
      types[i] = weight.getWeightType();
      added.push_back(UseWeightOp::create(builder, call.getLoc(), types[i],
                                          weight.getSymName()));
    }
    call.getOperandsMutable().append(added);
  }
  unsigned end = function.getNumArguments();
  for (unsigned i : {0, 1})
    if (failed(
            function.insertArgument(end + i, types[i], {}, function.getLoc())))
      return failure();
  return attach(function.getArgument(argument), function.getArgument(end),
                function.getArgument(end + 1));
}

/// The same for a weight that the entry reads itself.
LogicalResult AttachAdapters::attachUse(UseWeightOp use) {
  AdaptersOp change = changes.lookup(use.getName());
  bool isPassedOn = llvm::all_of(use->getUsers(), llvm::IsaPred<func::CallOp>);
  if (!change || isPassedOn)
    return success();
  OpBuilder builder(use);
  builder.setInsertionPointAfter(use);
  SymbolTableCollection symbols;
  SmallVector<Value> factors;
  for (FlatSymbolRefAttr name : {change.getDownAttr(), change.getUpAttr()}) {
    auto weight = symbols.lookupNearestSymbolFrom<WeightOp>(change, name);
    factors.push_back(UseWeightOp::create(
        builder, use.getLoc(), weight.getWeightType(), weight.getSymName()));
  }
  return attach(use, factors[0], factors[1]);
}

LogicalResult AttachAdapters::attachAll() {
  ModuleOp module = getOperation();
  changes.clear();
  callsOf.clear();
  for (auto change : module.getOps<AdaptersOp>())
    changes[change.getWeight()] = change;
  auto models = module.getOps<ModelOp>();
  if (changes.empty() || models.empty())
    return success();
  SymbolTable symbols(module);
  entry = symbols.lookup<func::FuncOp>((*models.begin()).getEntry());
  module.walk([&](func::CallOp call) {
    if (auto callee = symbols.lookup<func::FuncOp>(call.getCallee()))
      callsOf[callee].push_back(call);
  });
  for (auto function : llvm::to_vector(module.getOps<func::FuncOp>())) {
    unsigned count = function.getNumArguments();
    for (unsigned i = 0; i < count; ++i)
      if (failed(attachArgument(function, i)))
        return failure();
  }
  SmallVector<UseWeightOp> uses(entry.getOps<UseWeightOp>());
  for (UseWeightOp use : uses)
    if (failed(attachUse(use)))
      return failure();
  for (auto &change : changes)
    change.second.erase();
  return success();
}
