// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Adapters that are kept beside the weights, for sequences to choose from.

#include "lib/Import/LoRA/RuntimeAdapters.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "lib/Import/HuggingFace/SafetensorsStore.h"
#include "lib/Import/JSON.h"
#include "lib/Import/LoRA/Adapter.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::lora;
using safetensors::Tensor;

std::string hadal::getAdapterFile(StringRef name) {
  return ("@adapter/" + name).str();
}

/// What the checkpoint calls the weight \p symbol.
static std::string getTensorName(StringRef symbol) {
  StringRef prefix = symbol == "lm_head" ? "" : "model.";
  return (prefix + symbol + ".weight").str();
}

/// \p symbol without the number of its layer: weights alike have one rank.
static std::string getKind(StringRef symbol) {
  if (!symbol.starts_with("layers."))
    return symbol.str();
  return symbol.split('.').second.split('.').second.str();
}

namespace {

/// What each adapter adds to one weight; null: nothing.
struct Changed {
  deepseek::WeightOp weight;
  SmallVector<const LowRank *> changes;
};

class Declarer {
public:
  Declarer(ModuleOp module, ArrayRef<RuntimeAdapter> given)
      : module(module), given(given),
        builder(OpBuilder::atBlockEnd(module.getBody())) {}

  absl::Status open(std::vector<std::string> &notes);
  absl::Status match();
  void declare();

private:
  Value readMatrix(OpBuilder &recipe, size_t adapter, const Tensor &tensor,
                   StringRef name);
  StringRef declareFactor(Changed &changed, StringRef suffix, int64_t rank,
                          bool isUp);

  ModuleOp module;
  ArrayRef<RuntimeAdapter> given;
  OpBuilder builder;
  std::vector<Adapter> adapters;
  /// By kind.
  llvm::MapVector<StringRef, SmallVector<Changed>> kinds;
  llvm::StringMap<int64_t> ranks;
};

} // namespace

absl::Status Declarer::open(std::vector<std::string> &notes) {
  llvm::StringSet<> names;
  for (const RuntimeAdapter &one : given) {
    auto isPlain = [](char c) {
      return llvm::isAlnum(c) || StringRef("._-").contains(c);
    };
    if (one.name.empty() || !llvm::all_of(one.name, isPlain))
      return invalid("an adapter is called " + quote(one.name) +
                     ", expected letters, digits, '.', '_' and '-'");
    if (!names.insert(one.name).second)
      return invalid("two adapters are called " + quote(one.name) +
                     "; give one another name, as in NAME=" + one.folder);
    absl::StatusOr<Adapter> adapter = Adapter::open(one.folder, notes);
    if (!adapter.ok())
      return adapter.status();
    if (absl::Status status = adapter->checkLowRank(); !status.ok())
      return status;
    adapters.push_back(std::move(*adapter));
  }
  return absl::OkStatus();
}

/// Finds what each adapter changes.
absl::Status Declarer::match() {
  for (auto weight : module.getOps<deepseek::WeightOp>()) {
    ArrayRef<int64_t> shape = weight.getWeightType().getShape();
    if (shape.size() != 2)
      continue;
    Changed changed{weight, {}};
    std::string name = getTensorName(weight.getSymName());
    std::string kind = getKind(weight.getSymName());
    for (Adapter &adapter : adapters) {
      const LowRank *change = adapter.findLowRank(name);
      if (change && change->isEmbedding)
        return unimplemented(adapter.getCheckpoint().pathOf(*change->a) +
                             ": tensor " + quote(change->aName) +
                             " changes the embedding, which is supported with "
                             "--lora alone");
      if (change)
        if (absl::Status status = adapter.checkShapes(*change, shape);
            !status.ok())
          return status;
      changed.changes.push_back(change);
      if (change)
        ranks[kind] = std::max(ranks[kind], change->rank);
    }
    auto place = kinds.insert({builder.getStringAttr(kind).getValue(), {}});
    place.first->second.push_back(std::move(changed));
  }
  for (const Adapter &adapter : adapters)
    if (absl::Status status = adapter.checkUnused(
            "the model that can be changed at run time; --lora changes others");
        !status.ok())
      return status;
  return absl::OkStatus();
}

Value Declarer::readMatrix(OpBuilder &recipe, size_t adapter,
                           const Tensor &tensor, StringRef name) {
  Type element = huggingface::elementOf(*recipe.getContext(), tensor.dtype);
  return deepseek::SourceOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get(tensor.shape, element), recipe.getStringAttr(name),
      recipe.getStrArrayAttr({getAdapterFile(given[adapter].name)}),
      recipe.getDenseI64ArrayAttr(tensor.offsetBytes));
}

/// Declares A, or B transposed and scaled, of all adapters as one stack.
StringRef Declarer::declareFactor(Changed &changed, StringRef suffix,
                                  int64_t rank, bool isUp) {
  ArrayRef<int64_t> shape = changed.weight.getWeightType().getShape();
  auto type = RankedTensorType::get(
      {int64_t(adapters.size()), rank, shape[isUp ? 0 : 1]},
      builder.getF32Type());
  Location loc = changed.weight.getLoc();
  auto weight = deepseek::WeightOp::create(
      builder, loc, (changed.weight.getSymName() + suffix).str(), type);
  OpBuilder recipe(builder.getContext());
  recipe.createBlock(&weight.getRecipe());
  SmallVector<Value> inputs;
  SmallVector<int64_t> indices;
  SmallVector<double> scales;
  for (auto [i, change] : llvm::enumerate(changed.changes)) {
    if (!change)
      continue;
    const Tensor &tensor = isUp ? *change->b : *change->a;
    Value value =
        readMatrix(recipe, i, tensor, isUp ? change->bName : change->aName);
    auto stored = cast<RankedTensorType>(value.getType());
    if (isUp)
      value = deepseek::TransposeOp::create(
          recipe, loc,
          RankedTensorType::get({stored.getDimSize(1), stored.getDimSize(0)},
                                stored.getElementType()),
          value, ArrayRef<int64_t>({1, 0}));
    inputs.push_back(value);
    indices.push_back(int64_t(i));
    scales.push_back(isUp ? change->scale : 1.0);
  }
  Value stack =
      deepseek::StackRowsOp::create(recipe, loc, type, inputs, indices, scales);
  deepseek::YieldOp::create(recipe, loc, stack);
  return weight.getSymName();
}

void Declarer::declare() {
  for (auto &[kind, weights] : kinds) {
    int64_t rank = ranks.lookup(kind);
    if (!rank)
      continue;
    for (Changed &changed : weights) {
      StringRef down =
          declareFactor(changed, ".adapters_a", rank, /*isUp=*/false);
      StringRef up = declareFactor(changed, ".adapters_b", rank, /*isUp=*/true);
      deepseek::AdaptersOp::create(builder, changed.weight.getLoc(),
                                   changed.weight.getSymName(), down, up);
    }
  }
  SmallVector<Attribute> names;
  for (const RuntimeAdapter &one : given)
    names.push_back(builder.getStringAttr(one.name));
  deepseek::ModelOp model = *module.getOps<deepseek::ModelOp>().begin();
  model->setAttr(deepseek::adaptersAttrName, builder.getArrayAttr(names));
}

absl::Status lora::declareAdapters(ModuleOp module,
                                   ArrayRef<RuntimeAdapter> adapters,
                                   std::vector<std::string> &notes) {
  Declarer declarer(module, adapters);
  absl::Status status = declarer.open(notes);
  if (status.ok())
    status = declarer.match();
  if (status.ok())
    declarer.declare();
  return status;
}
