// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Makes a model tell what its products read and how its experts are chosen.

#include "passes/Passes.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/MapVector.h"

namespace hadal {
#define GEN_PASS_DEF_INSERTPROBES
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

struct InsertProbes : public hadal::impl::InsertProbesBase<InsertProbes> {
  using InsertProbesBase::InsertProbesBase;

  void runOnOperation() override;

private:
  std::optional<std::string> nameOf(Value weight);
  void probe(Operation *before, ProbeKind kind, StringRef name, Value input,
             Value experts, int64_t count);
  void probeFunction(func::FuncOp function);
  void probeGrams(func::FuncOp function);
  void probeStates(func::FuncOp entry);

  SymbolTable *symbols = nullptr;
  DenseMap<Operation *, SmallVector<func::CallOp>> callsOf;
  SmallVector<Attribute> names;
  int64_t gramBytes = 0;
};

} // namespace

/// The number of the layer that \p call is; -1 if none.
static int64_t layerOf(func::CallOp call) {
  for (Value operand : call.getOperands())
    if (auto constant = operand.getDefiningOp<arith::ConstantIndexOp>())
      return constant.value();
  return -1;
}

/// The name of the weight that \p weight is, with `{}` for the number of the
/// layer that the function is called for; nothing if there is no such name.
std::optional<std::string> InsertProbes::nameOf(Value weight) {
  if (auto use = weight.getDefiningOp<UseWeightOp>())
    return use.getName().str();
  auto argument = dyn_cast<BlockArgument>(weight);
  if (!argument)
    return std::nullopt;
  std::optional<std::string> common;
  for (func::CallOp call : callsOf[argument.getOwner()->getParentOp()]) {
    auto use =
        call.getOperand(argument.getArgNumber()).getDefiningOp<UseWeightOp>();
    std::string prefix = "layers." + std::to_string(layerOf(call)) + ".";
    if (!use || !use.getName().starts_with(prefix))
      return std::nullopt;
    std::string name =
        ("layers.{}." + use.getName().drop_front(prefix.size())).str();
    if (common && *common != name)
      return std::nullopt;
    common = name;
  }
  return common;
}

void InsertProbes::probe(Operation *before, ProbeKind kind, StringRef name,
                         Value input, Value experts, int64_t count) {
  OpBuilder builder(before);
  Value layer;
  auto function = before->getParentOfType<func::FuncOp>();
  for (BlockArgument argument : function.getArguments())
    if (argument.getType().isIndex())
      layer = argument;
  if (!layer)
    layer = arith::ConstantIndexOp::create(builder, before->getLoc(), 0);
  ProbeOp::create(builder, before->getLoc(), kind, int64_t(names.size()), input,
                  experts, count, layer);
  names.push_back(builder.getStringAttr(stringifyProbeKind(kind) + " " + name));
  ++numProbes;
}

void InsertProbes::probeFunction(func::FuncOp function) {
  SmallVector<Operation *> ops;
  function.walk([&](Operation *op) {
    if (isa<LinearOp, LMHeadOp, ExpertsOp, RouterOp>(op))
      ops.push_back(op);
  });
  for (Operation *op : ops) {
    Operation *next = op->getNextNode();
    auto add = [&](ProbeKind kind, Value weight, Value input,
                   Value experts = nullptr, int64_t count = 0) {
      if (std::optional<std::string> name = nameOf(weight))
        probe(next, kind, *name, input, experts, count);
      else
        op->emitRemark("has a weight that no name of a layer's stands for, and "
                       "gets no statistics");
    };
    if (auto linear = dyn_cast<LinearOp>(op)) {
      add(ProbeKind::Moment, linear.getWeight(), linear.getInput());
    } else if (auto head = dyn_cast<LMHeadOp>(op)) {
      add(ProbeKind::Moment, head.getWeight(), head.getInput());
    } else if (auto router = dyn_cast<RouterOp>(op)) {
      if (auto logits = router.getLogits().getDefiningOp<LinearOp>())
        add(ProbeKind::Mass, logits.getWeight(), router.getWeights(),
            router.getExperts(), router.getRouting().getExperts());
    } else if (auto experts = dyn_cast<ExpertsOp>(op)) {
      int64_t count =
          cast<RankedTensorType>(experts.getGate().getType()).getDimSize(0);
      for (Value weight : {experts.getGate(), experts.getUp()})
        add(ProbeKind::Moment, weight, experts.getInput(), experts.getExperts(),
            count);
      add(ProbeKind::InnerMoment, experts.getDown(), experts.getResult(),
          experts.getExperts(), count);
    }
  }
}

/// True if \p op only leads to a router, whose weights are never rounded.
static bool isOfRouter(LinearOp op) {
  return llvm::any_of(op->getUsers(), llvm::IsaPred<RouterOp, HashRouterOp>);
}

/// Adds a probe of the products of columns for each input of weights.
void InsertProbes::probeGrams(func::FuncOp function) {
  struct Gram {
    Operation *op = nullptr;
    ProbeKind kind;
    int64_t count, columns;
    std::string names;
  };
  // By what is read, and by which experts.
  llvm::MapVector<std::pair<Value, Value>, Gram> grams;
  auto add = [&](Operation *op, ProbeKind kind, Value weight, Value input,
                 Value experts) {
    std::optional<std::string> name = nameOf(weight);
    if (!name)
      return;
    ArrayRef<int64_t> shape =
        cast<RankedTensorType>(weight.getType()).getShape();
    Gram &gram = grams[{input, experts}];
    if (!gram.op)
      gram = {op, kind, experts ? shape.front() : 0, shape.back(), ""};
    gram.names += " " + *name;
  };
  function.walk([&](Operation *op) {
    if (auto linear = dyn_cast<LinearOp>(op); linear && !isOfRouter(linear)) {
      add(op, ProbeKind::Gram, linear.getWeight(), linear.getInput(), nullptr);
    } else if (auto head = dyn_cast<LMHeadOp>(op)) {
      add(op, ProbeKind::Gram, head.getWeight(), head.getInput(), nullptr);
    } else if (auto experts = dyn_cast<ExpertsOp>(op)) {
      for (Value weight : {experts.getGate(), experts.getUp()})
        add(op, ProbeKind::Gram, weight, experts.getInput(),
            experts.getExperts());
      add(op, ProbeKind::InnerGram, experts.getDown(), experts.getResult(),
          experts.getExperts());
    }
  });
  auto calls = int64_t(callsOf[function].size());
  for (auto &[key, gram] : grams) {
    probe(gram.op->getNextNode(), gram.kind, StringRef(gram.names).drop_front(),
          key.first, key.second, gram.count);
    std::optional<int64_t> bytes = checkedProduct(
        {8, std::max<int64_t>(calls, 1), std::max<int64_t>(gram.count, 1),
         gram.columns, gram.columns});
    std::optional<int64_t> sum =
        bytes ? checkedSum(gramBytes, *bytes) : std::nullopt;
    gramBytes = sum.value_or(INT64_MAX);
  }
}

/// Lets the entry tell what each layer reads, and what the last one makes.
void InsertProbes::probeStates(func::FuncOp entry) {
  SmallVector<func::CallOp> layers;
  for (auto call : entry.getOps<func::CallOp>())
    if (llvm::any_of(call.getOperandTypes(), llvm::IsaPred<KVCacheType>) &&
        call.getNumResults() == 1)
      layers.push_back(call);
  if (layers.empty())
    return;
  OpBuilder builder(entry.getContext());
  auto add = [&](Value state, size_t number) {
    Value layer = arith::ConstantIndexOp::create(builder, entry.getLoc(),
                                                 int64_t(number));
    ProbeOp::create(builder, entry.getLoc(), ProbeKind::State,
                    int64_t(names.size()), state, nullptr, 0, layer);
    ++numProbes;
  };
  for (auto [i, call] : llvm::enumerate(layers)) {
    builder.setInsertionPoint(call);
    add(call.getOperand(0), i);
  }
  builder.setInsertionPointAfter(layers.back());
  add(layers.back().getResult(0), layers.size());
  names.push_back(builder.getStringAttr("state"));
}

void InsertProbes::runOnOperation() {
  ModuleOp module = getOperation();
  auto models = module.getOps<ModelOp>();
  if (models.empty()) {
    emitError(module.getLoc()) << "expects a deepseek.model to observe";
    return signalPassFailure();
  }
  ModelOp model = *models.begin();
  SymbolTable table(module);
  symbols = &table;
  callsOf.clear();
  names.clear();
  gramBytes = 0;
  module.walk([&](func::CallOp call) {
    if (auto callee = table.lookup<func::FuncOp>(call.getCallee()))
      callsOf[callee].push_back(call);
  });
  if (auto entry = table.lookup<func::FuncOp>(model.getEntry()))
    probeStates(entry);
  for (auto function : module.getOps<func::FuncOp>())
    if (!function.isExternal()) {
      probeFunction(function);
      if (gram)
        probeGrams(function);
    }
  if (gramBytes > maxGramBytes) {
    emitError(module.getLoc())
        << "the second moments of all inputs would take " << gramBytes
        << " bytes, at most " << int64_t(maxGramBytes) << " are allowed";
    return signalPassFailure();
  }
  module->setAttr(probesAttrName, ArrayAttr::get(&getContext(), names));
}
