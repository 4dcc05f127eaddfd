// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rewrites MLA from its expanded to its absorbed form, with the weights that
// the absorbed form reads.

#include "passes/Passes.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"

namespace hadal {
#define GEN_PASS_DEF_ABSORBLATENTATTENTION
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

/// How a `kv_b`, `[heads * (nope + value), rank]`, is cut.
struct Cut {
  int64_t heads, nope, value, rank;
  Type element;

  bool operator==(const Cut &other) const {
    return heads == other.heads && nope == other.nope && value == other.value &&
           rank == other.rank && element == other.element;
  }
  RankedTensorType keyType() const {
    return RankedTensorType::get({heads, rank, nope}, element);
  }
  RankedTensorType valueType() const {
    return RankedTensorType::get({heads, value, rank}, element);
  }
};

/// The two weights, or the two values, that stand for one `kv_b`.
template <typename T> struct Halves {
  T key, value;
};

struct AbsorbLatentAttention
    : public hadal::impl::AbsorbLatentAttentionBase<AbsorbLatentAttention> {
  void runOnOperation() override;

private:
  std::optional<Cut> getCut(Value kvB);
  bool absorbArgument(func::FuncOp function, BlockArgument kvB, const Cut &cut);
  void absorbUses(Value kvB, Halves<Value> halves, const Cut &cut);
  Halves<Value> useHalves(UseWeightOp use, const Cut &cut);
  WeightOp cutWeight(WeightOp weight, const Cut &cut, bool isKey);
  void eraseIfUnused(UseWeightOp use);

  /// Weights that were cut already, and those that no longer may be needed.
  llvm::MapVector<StringAttr, SmallVector<std::pair<Cut, Halves<WeightOp>>, 1>>
      halvesOf;
};

} // namespace

/// Returns how every use of \p kvB cuts it; nothing if one use is not the
/// `kv_b` of a latent attention, two disagree, or it cannot be cut.
std::optional<Cut> AbsorbLatentAttention::getCut(Value kvB) {
  auto type = dyn_cast<RankedTensorType>(kvB.getType());
  // FP8 would need its scales cut, too; an encoding, its tiles.
  if (!type || type.getEncoding() ||
      isa<Float8E4M3FNType>(type.getElementType()))
    return std::nullopt;
  std::optional<Cut> cut;
  for (OpOperand &use : kvB.getUses()) {
    auto op = dyn_cast<LatentAttentionOp>(use.getOwner());
    if (!op || &use != &op.getKvBMutable())
      return std::nullopt;
    auto cache = cast<KVCacheType>(op.getCache().getType());
    auto columns = [](Value value) {
      return cast<RankedTensorType>(value.getType()).getDimSize(1);
    };
    int64_t heads = op.getHeads(), rank = cache.getValueDim();
    int64_t rope = cache.getKeyDim() - rank;
    Cut found{heads, columns(op.getQuery()) / heads - rope,
              columns(op.getResult()) / heads, rank, type.getElementType()};
    if (cut && !(*cut == found))
      return std::nullopt;
    cut = found;
  }
  return cut;
}

void AbsorbLatentAttention::runOnOperation() {
  halvesOf.clear();
  SmallVector<func::FuncOp> functions(getOperation().getOps<func::FuncOp>());
  for (func::FuncOp function : functions) {
    if (function.isExternal())
      continue;
    // From the last, so that the indices of those before do not change.
    for (unsigned i = function.getNumArguments(); i-- > 0;) {
      BlockArgument argument = function.getArgument(i);
      if (std::optional<Cut> cut = getCut(argument))
        absorbArgument(function, argument, *cut);
    }
    SmallVector<UseWeightOp> uses;
    function.walk([&](UseWeightOp use) { uses.push_back(use); });
    for (UseWeightOp use : uses) {
      std::optional<Cut> cut = getCut(use.getResult());
      if (!cut)
        continue;
      OpBuilder builder(use);
      absorbUses(use.getResult(), useHalves(use, *cut), *cut);
      eraseIfUnused(use);
    }
  }
  for (auto &[name, halves] : halvesOf)
    if (auto weight = getOperation().lookupSymbol<WeightOp>(name))
      if (SymbolTable::symbolKnownUseEmpty(weight, getOperation()))
        weight.erase();
  if (halvesOf.empty())
    markAllAnalysesPreserved();
}

/// Replaces \p kvB by two arguments, in \p function and at its calls. Returns
/// false, and changes nothing, if a caller is unknown or passes no weight.
bool AbsorbLatentAttention::absorbArgument(func::FuncOp function,
                                           BlockArgument kvB, const Cut &cut) {
  unsigned index = kvB.getArgNumber();
  if (function.isPublic())
    return false;
  std::optional<SymbolTable::UseRange> uses =
      SymbolTable::getSymbolUses(function, getOperation());
  if (!uses)
    return false;
  llvm::SetVector<func::CallOp> calls;
  for (SymbolTable::SymbolUse use : *uses) {
    auto call = dyn_cast<func::CallOp>(use.getUser());
    if (!call || call.getArgAttrsAttr() ||
        !call.getOperand(index).getDefiningOp<UseWeightOp>())
      return false;
    calls.insert(call);
  }

  for (func::CallOp call : calls) {
    auto use = call.getOperand(index).getDefiningOp<UseWeightOp>();
    Halves<Value> halves = useHalves(use, cut);
    SmallVector<Value> operands(call.getOperands());
    operands[index] = halves.key;
    operands.insert(operands.begin() + index + 1, halves.value);
    call->setOperands(operands);
    eraseIfUnused(use);
  }

  Location loc = kvB.getLoc();
  if (failed(function.insertArgument(index + 1, cut.keyType(), {}, loc)) ||
      failed(function.insertArgument(index + 2, cut.valueType(), {}, loc)))
    llvm_unreachable("the type of a func.func can always be replaced");
  absorbUses(kvB,
             {function.getArgument(index + 1), function.getArgument(index + 2)},
             cut);
  (void)function.eraseArgument(index);
  return true;
}

/// Rewrites every latent attention that reads \p kvB, and nothing else does.
void AbsorbLatentAttention::absorbUses(Value kvB, Halves<Value> halves,
                                       const Cut &cut) {
  for (Operation *user : llvm::make_early_inc_range(kvB.getUsers())) {
    auto op = cast<LatentAttentionOp>(user);
    OpBuilder builder(op);
    int64_t tokens =
        cast<RankedTensorType>(op.getQuery().getType()).getDimSize(0);
    auto latents = RankedTensorType::get({tokens, cut.heads * cut.rank},
                                         builder.getF32Type());
    Value query = HeadLinearOp::create(builder, op.getLoc(), latents,
                                       op.getQuery(), halves.key);
    auto attention = AbsorbedAttentionOp::create(
        builder, op.getLoc(), latents, query, op.getQuery(), op.getLatent(),
        op.getRopeKey(), op.getPositions(), op.getSequences(), op.getCache(),
        op.getLayer(), op.getSelected(), /*query_positions=*/Value(),
        /*query_sequences=*/Value(), op.getHeadsAttr(), op.getScaleAttr(),
        op.getWindowAttr());
    attention->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    Value result =
        HeadLinearOp::create(builder, op.getLoc(), op.getResult().getType(),
                             attention.getResult(), halves.value);
    op.getResult().replaceAllUsesWith(result);
    op.erase();
    ++numAbsorbed;
  }
}

/// Uses of the two halves of the weight of \p use, where \p use stands.
Halves<Value> AbsorbLatentAttention::useHalves(UseWeightOp use,
                                               const Cut &cut) {
  auto &known = halvesOf[use.getNameAttr().getAttr()];
  auto *it =
      llvm::find_if(known, [&](auto &pair) { return pair.first == cut; });
  if (it == known.end()) {
    auto weight = getOperation().lookupSymbol<WeightOp>(use.getNameAttr());
    // Each goes right behind the weight: the key first.
    WeightOp value = cutWeight(weight, cut, /*isKey=*/false);
    WeightOp key = cutWeight(weight, cut, /*isKey=*/true);
    known.push_back({cut, {key, value}});
    it = &known.back();
  }
  OpBuilder builder(use);
  auto make = [&](WeightOp weight) -> Value {
    return UseWeightOp::create(builder, use.getLoc(), weight.getWeightType(),
                               weight.getSymName());
  };
  Value key = make(it->second.key);
  return {key, make(it->second.value)};
}

/// Declares one half of \p weight, with a recipe that cuts it out.
WeightOp AbsorbLatentAttention::cutWeight(WeightOp weight, const Cut &cut,
                                          bool isKey) {
  OpBuilder builder(weight.getContext());
  RankedTensorType type = isKey ? cut.keyType() : cut.valueType();
  std::string name =
      (weight.getSymName() + (isKey ? ".absorbed_key" : ".absorbed_value"))
          .str();
  auto half = WeightOp::create(builder, weight.getLoc(), name, type);
  half->setDiscardableAttrs(weight->getDiscardableAttrDictionary());
  IRMapping mapping;
  weight.getRecipe().cloneInto(&half.getRecipe(), mapping);

  auto yield = cast<YieldOp>(half.getRecipe().front().back());
  builder.setInsertionPoint(yield);
  auto reshaped = RankedTensorType::get(
      {cut.heads, cut.nope + cut.value, cut.rank}, cut.element);
  // What an importer joined of halves folds to the half that it was.
  Value result = builder.createOrFold<ReshapeOp>(yield.getLoc(), reshaped,
                                                 yield.getValue());
  int64_t begin = isKey ? 0 : cut.nope;
  int64_t end = isKey ? cut.nope : cut.nope + cut.value;
  auto sliced =
      RankedTensorType::get({cut.heads, end - begin, cut.rank}, cut.element);
  result = builder.createOrFold<SliceOp>(yield.getLoc(), sliced, result,
                                         /*axis=*/1, begin, end);
  if (isKey)
    result = builder.createOrFold<TransposeOp>(yield.getLoc(), type, result,
                                               ArrayRef<int64_t>{0, 2, 1});
  yield.getValueMutable().assign(result);
  half.eraseUnusedSteps();

  SymbolTable(getOperation()).insert(half, std::next(weight->getIterator()));
  return half;
}

void AbsorbLatentAttention::eraseIfUnused(UseWeightOp use) {
  if (use->use_empty())
    use.erase();
}
