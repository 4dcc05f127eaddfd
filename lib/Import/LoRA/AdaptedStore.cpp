// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tensors of a checkpoint with what a LoRA adapter does to them, for the
// model builder.

#include "lib/Import/LoRA/AdaptedStore.h"

#include "lib/Import/HuggingFace/Config.h"
#include "lib/Import/HuggingFace/SafetensorsStore.h"
#include "lib/Import/JSON.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::lora;
using huggingface::StoredTensor;
using safetensors::Tensor;

/// Makes the op that reads \p tensors of the adapter, which are one, or a stack
/// with one for each index of dimension 0.
static Value readTensors(OpBuilder &recipe, const Adapter &adapter,
                         StringRef name, ArrayRef<const Tensor *> tensors,
                         bool isStack) {
  const safetensors::Checkpoint &checkpoint = adapter.getCheckpoint();
  const Tensor &first = *tensors.front();
  SmallVector<int64_t, 4> shape(first.shape);
  if (isStack)
    shape.insert(shape.begin(), int64_t(tensors.size()));
  SmallVector<int64_t> offsets;
  for (const Tensor *tensor : tensors)
    offsets.push_back(tensor->offsetBytes);
  std::string file =
      (deepseek::adapterFolderPrefix + checkpoint.fileOf(first)).str();
  Type element = huggingface::elementOf(*recipe.getContext(), first.dtype);
  return deepseek::SourceOp::create(
      recipe, recipe.getUnknownLoc(), RankedTensorType::get(shape, element),
      recipe.getStringAttr(name), recipe.getStrArrayAttr({file}),
      recipe.getDenseI64ArrayAttr(offsets));
}

/// An embedding and the head that it is tied to would no longer be one: PEFT
/// changes the embedding alone.
absl::Status AdaptedStore::checkTied(StringRef name, const Tensor &tensor,
                                     StringRef tensorName) const {
  if (!isTied || name != "model.embed_tokens.weight")
    return absl::OkStatus();
  return unimplemented(adapter.getCheckpoint().pathOf(tensor) + ": tensor " +
                       quote(tensorName) +
                       " changes the embedding, but not the head, which "
                       "tie_word_embeddings makes the same tensor");
}

/// Attaches \p changes to \p stored: one, or one for each of a stack.
StoredTensor AdaptedStore::attach(StoredTensor stored, StringRef name,
                                  ArrayRef<int64_t> shape,
                                  std::vector<const LowRank *> changes) const {
  bool isStack = shape.size() == 3;
  const LowRank *first = changes.front();
  huggingface::LowRankChange change;
  change.scale = first->scale;
  auto make = [&](const Tensor *LowRank::*which, StringRef suffix) {
    std::vector<const Tensor *> tensors;
    for (const LowRank *of : changes)
      tensors.push_back(of->*which);
    std::string full =
        Adapter::getTensorName(name.drop_back(StringRef("weight").size())) +
        suffix.str();
    return [this, tensors, full, isStack,
            isEmbedding = first->isEmbedding](OpBuilder &recipe) -> Value {
      Value value = readTensors(recipe, adapter, full, tensors, isStack);
      if (!isEmbedding)
        return value;
      auto type = cast<RankedTensorType>(value.getType());
      int64_t turned[] = {type.getDimSize(1), type.getDimSize(0)};
      return deepseek::TransposeOp::create(
          recipe, recipe.getUnknownLoc(),
          RankedTensorType::get(turned, type.getElementType()), value,
          ArrayRef<int64_t>({1, 0}));
    };
  };
  if (first->isEmbedding) {
    change.buildDown = make(&LowRank::b, "lora_embedding_B");
    change.buildUp = make(&LowRank::a, "lora_embedding_A");
  } else {
    change.buildDown = make(&LowRank::a, "lora_A.weight");
    change.buildUp = make(&LowRank::b, "lora_B.weight");
  }
  stored.change = std::move(change);
  return stored;
}

/// Attaches \p stack, one pair of all experts, to \p stored of \p shape.
StoredTensor AdaptedStore::attachStack(StoredTensor stored,
                                       ArrayRef<int64_t> shape,
                                       const LowRank &stack) const {
  int64_t experts = shape[0], outputs = shape[1], inputs = shape[2];
  auto reshape = [](OpBuilder &recipe, Value value, ArrayRef<int64_t> shape) {
    auto type = cast<RankedTensorType>(value.getType());
    return deepseek::ReshapeOp::create(recipe, recipe.getUnknownLoc(),
                                       type.clone(shape), value);
  };
  huggingface::LowRankChange change;
  change.scale = stack.scale;
  change.buildDown = [this, &stack, reshape, experts,
                      inputs](OpBuilder &recipe) -> Value {
    Value value =
        readTensors(recipe, adapter, stack.aName, stack.a, /*isStack=*/false);
    return reshape(recipe, value, {experts, stack.rank, inputs});
  };
  change.buildUp = [this, &stack, reshape, experts,
                    outputs](OpBuilder &recipe) -> Value {
    Location loc = recipe.getUnknownLoc();
    Value value =
        readTensors(recipe, adapter, stack.bName, stack.b, /*isStack=*/false);
    auto type = cast<RankedTensorType>(value.getType());
    if (stack.halves > 1)
      value = deepseek::SliceOp::create(
          recipe, loc, type.clone({outputs, type.getDimSize(1)}), value,
          /*axis=*/0, stack.half * outputs, (stack.half + 1) * outputs);
    value = reshape(recipe, value, {outputs, stack.rank, experts});
    return deepseek::TransposeOp::create(
        recipe, loc, type.clone({experts, outputs, stack.rank}), value,
        ArrayRef<int64_t>({2, 0, 1}));
  };
  stored.change = std::move(change);
  return stored;
}

absl::StatusOr<StoredTensor> AdaptedStore::take(StringRef name,
                                                ArrayRef<int64_t> shape) {
  absl::StatusOr<StoredTensor> stored = base.take(name, shape);
  if (!stored.ok())
    return stored;
  const LowRank *change = adapter.findLowRank(name);
  if (const Replacement *replacement = adapter.findReplacement(name)) {
    const Tensor *tensor = replacement->tensor;
    std::string place = adapter.getCheckpoint().pathOf(*tensor) + ": tensor " +
                        quote(replacement->name);
    if (change && !replacement->isBase)
      return invalid(place + " is beside " + quote(change->aName) +
                     ", expected one of them");
    // PEFT copies one of the base to where the head finds it, too.
    if (!replacement->isBase)
      if (absl::Status status = checkTied(name, *tensor, replacement->name);
          !status.ok())
        return status;
    if (ArrayRef<int64_t>(tensor->shape) != shape)
      return invalid(place + " has shape " + toText(tensor->shape) +
                     ", but the base model makes it " + toText(shape));
    stored->element = huggingface::elementOf(context, tensor->dtype);
    stored->typeName = safetensors::stringify(tensor->dtype).str();
    stored->place = std::move(place);
    stored->build = [this, replacement](OpBuilder &recipe) {
      return readTensors(recipe, adapter, replacement->name,
                         replacement->tensor, /*isStack=*/false);
    };
  }
  if (!change)
    return stored;
  if (absl::Status status = checkTied(name, *change->a, change->aName);
      !status.ok())
    return status;
  if (shape.size() != 2)
    return invalid(adapter.getCheckpoint().pathOf(*change->a) + ": tensor " +
                   quote(change->aName) + " is for a weight of shape " +
                   toText(shape) + ", expected a matrix");
  if (absl::Status status = adapter.checkShapes(*change, shape); !status.ok())
    return status;
  return attach(std::move(*stored), name, shape, {change});
}

absl::StatusOr<StoredTensor> AdaptedStore::takeStack(StringRef name,
                                                     ArrayRef<int64_t> shape) {
  absl::StatusOr<StoredTensor> stored = base.takeStack(name, shape);
  if (!stored.ok())
    return stored;
  auto [before, after] = name.split("{}");
  std::vector<const LowRank *> changes;
  for (int64_t i = 0; i < shape.front(); ++i) {
    std::string one = (before + Twine(i) + after).str();
    if (const Replacement *replacement = adapter.findReplacement(one))
      return unimplemented(
          adapter.getCheckpoint().pathOf(*replacement->tensor) + ": tensor " +
          quote(replacement->name) +
          " replaces one expert, which is not supported");
    const LowRank *change = adapter.findLowRank(one);
    if (bool(change) != !changes.empty() && i > 0)
      return unimplemented(adapter.getCheckpoint().sourcePath() + ": " +
                           (change ? quote(change->aName) +
                                         " is there, but none of expert " +
                                         Twine(i - 1)
                                   : Twine("has no lora_A for ") + quote(one) +
                                         ", but one for expert 0") +
                           ", expected one for all experts or none");
    if (!change)
      continue;
    if (absl::Status status = adapter.checkShapes(*change, shape.drop_front());
        !status.ok())
      return status;
    changes.push_back(change);
    const LowRank &first = *changes.front();
    if (change->rank != first.rank || change->scale != first.scale ||
        change->a->dtype != first.a->dtype ||
        change->b->dtype != first.b->dtype)
      return unimplemented(
          adapter.getCheckpoint().pathOf(*change->a) + ": tensor " +
          quote(change->aName) + " differs in rank, scale or dtype from " +
          quote(first.aName) + ", expected one for all experts");
  }
  // One op reads the three stacks of a layer, which are of one type.
  StringRef network = before;
  for (StringRef part : {"gate_proj", "up_proj", "down_proj"})
    for (StringRef which : {"0.", "{}."})
      stored->mustBeF32 |=
          adapter.changes((network + which + part + ".weight").str());
  if (const LowRank *stack = adapter.findLowRank(name)) {
    if (absl::Status status = adapter.checkShapes(*stack, shape); !status.ok())
      return status;
    return attachStack(std::move(*stored), shape, *stack);
  }
  if (changes.empty())
    return stored;
  return attach(std::move(*stored), name, shape, std::move(changes));
}

absl::Status AdaptedStore::checkUnused(const huggingface::Config &config,
                                       std::vector<std::string> &notes) {
  if (absl::Status status = base.checkUnused(config, notes); !status.ok())
    return status;
  return adapter.checkUnused("a " + config.modelType + " model with " +
                             Twine(config.layers) + " layers");
}

//===----------------------------------------------------------------------===//
// A tiny model
//===----------------------------------------------------------------------===//

absl::StatusOr<StoredTensor> TinyStore::take(StringRef name,
                                             ArrayRef<int64_t> shape) {
  StoredTensor stored;
  const LowRank *like = adapter.findLike(name);
  if (!like || shape.size() < 2)
    return stored;
  stored.place = adapter.getCheckpoint().pathOf(*like->a) + ": tensor " +
                 quote(like->aName);
  SmallVector<int64_t> down(shape), up(shape);
  down[down.size() - 2] = up.back() = std::min(like->rank, maxRank);
  auto make = [&](ArrayRef<int64_t> shape, const Tensor &tensor,
                  StringRef suffix) {
    auto type = RankedTensorType::get(
        shape, huggingface::elementOf(context, tensor.dtype));
    return [type, full = (name + suffix).str()](OpBuilder &recipe) -> Value {
      return deepseek::SourceOp::create(
          recipe, recipe.getUnknownLoc(), type, recipe.getStringAttr(full),
          recipe.getArrayAttr({}), recipe.getDenseI64ArrayAttr({}));
    };
  };
  stored.change = {like->scale, make(down, *like->a, ".lora_a"),
                   make(up, *like->b, ".lora_b")};
  return stored;
}

absl::StatusOr<StoredTensor> TinyStore::takeStack(StringRef name,
                                                  ArrayRef<int64_t> shape) {
  absl::StatusOr<StoredTensor> stored = take(name, shape);
  // One op reads the three stacks of a layer, which are of one type.
  StringRef network = name.split("{}").first;
  for (StringRef part : {"gate_proj", "up_proj", "down_proj"})
    stored->mustBeF32 |=
        adapter.findLike((network + "{}." + part + ".weight").str()) != nullptr;
  return stored;
}

absl::Status TinyStore::checkUnused(const huggingface::Config &config,
                                    std::vector<std::string> &notes) {
  return absl::OkStatus();
}

std::string TinyStore::sourcePath() const {
  return adapter.getCheckpoint().sourcePath();
}
