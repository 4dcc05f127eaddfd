// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Adapters that are kept beside the weights, for sequences to choose from.

#include "lib/Import/LoRA/RuntimeAdapters.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "lib/Import/HuggingFace/SafetensorsStore.h"
#include "lib/Import/JSON.h"
#include "lib/Import/LoRA/AdaptedStore.h"

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
  Declarer(ModuleOp module, ArrayRef<RuntimeAdapter> given, bool isTiny)
      : module(module), given(given), isTiny(isTiny),
        builder(OpBuilder::atBlockEnd(module.getBody())) {}

  absl::Status open(std::vector<std::string> &notes);
  absl::Status match();
  void declare();

private:
  int64_t rankOf(const LowRank &change) const {
    return isTiny ? std::min(change.rank, TinyStore::maxRank) : change.rank;
  }
  Value readMatrix(OpBuilder &recipe, size_t adapter, Changed &changed,
                   bool isUp);
  StringRef declareFactor(Changed &changed, StringRef suffix, int64_t rank,
                          bool isUp);

  ModuleOp module;
  ArrayRef<RuntimeAdapter> given;
  bool isTiny;
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
      const LowRank *change =
          isTiny ? adapter.findLike(name) : adapter.findLowRank(name);
      if (change && change->isEmbedding)
        return unimplemented(adapter.getCheckpoint().pathOf(*change->a) +
                             ": tensor " + quote(change->aName) +
                             " changes the embedding, which is supported with "
                             "--lora alone");
      if (change && !isTiny)
        if (absl::Status status = adapter.checkShapes(*change, shape);
            !status.ok())
          return status;
      changed.changes.push_back(change);
      if (change)
        ranks[kind] = std::max(ranks[kind], rankOf(*change));
    }
    auto place = kinds.insert({builder.getStringAttr(kind).getValue(), {}});
    place.first->second.push_back(std::move(changed));
  }
  if (isTiny)
    return absl::OkStatus();
  for (const Adapter &adapter : adapters)
    if (absl::Status status = adapter.checkUnused(
            "the model that can be changed at run time; --lora changes others");
        !status.ok())
      return status;
  return absl::OkStatus();
}

/// The matrix A, or B, of an adapter that changes the weight.
Value Declarer::readMatrix(OpBuilder &recipe, size_t adapter, Changed &changed,
                           bool isUp) {
  const LowRank &change = *changed.changes[adapter];
  const Tensor &tensor = isUp ? *change.b : *change.a;
  std::string file = getAdapterFile(given[adapter].name);
  std::string name = isUp ? change.bName : change.aName;
  SmallVector<int64_t> shape = llvm::to_vector(ArrayRef(tensor.shape));
  ArrayAttr files = recipe.getStrArrayAttr({file});
  ArrayRef<int64_t> offsets = tensor.offsetBytes;
  if (isTiny) {
    // One matrix of some layer stands for those of all.
    shape = llvm::to_vector(changed.weight.getWeightType().getShape());
    shape[isUp ? 1 : 0] = rankOf(change);
    name = (file + "/" + changed.weight.getSymName() + "/" + name).str();
    files = recipe.getArrayAttr({});
    offsets = {};
  }
  Type element = huggingface::elementOf(*recipe.getContext(), tensor.dtype);
  return deepseek::SourceOp::create(
      recipe, recipe.getUnknownLoc(), RankedTensorType::get(shape, element),
      recipe.getStringAttr(name), files, recipe.getDenseI64ArrayAttr(offsets));
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
    Value value = readMatrix(recipe, i, changed, isUp);
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
                                   bool isTiny,
                                   std::vector<std::string> &notes) {
  Declarer declarer(module, adapters, isTiny);
  absl::Status status = declarer.open(notes);
  if (status.ok())
    status = declarer.match();
  if (status.ok())
    declarer.declare();
  return status;
}
