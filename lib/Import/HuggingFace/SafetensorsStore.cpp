// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tensors of a Hugging Face folder, for the model builder.

#include "lib/Import/HuggingFace/SafetensorsStore.h"

#include "lib/Import/HuggingFace/Config.h"
#include "lib/Import/JSON.h"
#include "lib/Support/FileIO.h"

#include <algorithm>

using namespace mlir;
using namespace hadal;
using namespace hadal::huggingface;
using safetensors::DType;
using safetensors::Tensor;

Type huggingface::elementOf(MLIRContext &context, DType dtype) {
  switch (dtype) {
  case DType::BF16:
    return BFloat16Type::get(&context);
  case DType::F16:
    return Float16Type::get(&context);
  case DType::F32:
    return Float32Type::get(&context);
  case DType::F8E4M3:
    return Float8E4M3FNType::get(&context);
  case DType::F8E8M0:
    return Float8E8M0FNUType::get(&context);
  case DType::I8:
    return IntegerType::get(&context, 8);
  case DType::I32:
    return IntegerType::get(&context, 32);
  case DType::I64:
    return IntegerType::get(&context, 64);
  default:
    return {};
  }
}

absl::StatusOr<const Tensor *> SafetensorsStore::find(StringRef name,
                                                      ArrayRef<int64_t> shape) {
  const Tensor *tensor = checkpoint.find(name);
  if (!tensor)
    return invalid(checkpoint.sourcePath() + ": has no tensor " + quote(name) +
                   ", expected one of shape " + toText(shape));
  used.insert(name);
  if (ArrayRef<int64_t>(tensor->shape) != shape)
    return invalid(checkpoint.pathOf(*tensor) + ": tensor " + quote(name) +
                   " has shape " + toText(tensor->shape) +
                   ", but config.json makes it " + toText(shape));
  return tensor;
}

StoredTensor SafetensorsStore::describe(StringRef name,
                                        const Tensor &tensor) const {
  StoredTensor stored;
  stored.element = elementOf(context, tensor.dtype);
  stored.place = checkpoint.pathOf(tensor) + ": tensor " + quote(name);
  stored.typeName = safetensors::stringify(tensor.dtype).str();
  return stored;
}

/// Makes the op that reads \p tensors; several are a stack.
static std::function<Value(OpBuilder &)>
makeSource(const safetensors::Checkpoint &checkpoint, StringRef name,
           ArrayRef<int64_t> shape, Type element,
           ArrayRef<const Tensor *> tensors) {
  return
      [&checkpoint, name = name.str(), shape = SmallVector<int64_t, 4>(shape),
       element, tensors = std::vector<const Tensor *>(tensors)](
          OpBuilder &recipe) -> Value {
        SmallVector<Attribute> files;
        SmallVector<int64_t> offsets;
        for (const Tensor *tensor : tensors) {
          files.push_back(recipe.getStringAttr(checkpoint.fileOf(*tensor)));
          offsets.push_back(tensor->offsetBytes);
        }
        if (llvm::all_equal(files))
          files.resize(1);
        return deepseek::SourceOp::create(
            recipe, recipe.getUnknownLoc(),
            RankedTensorType::get(shape, element), recipe.getStringAttr(name),
            recipe.getArrayAttr(files), recipe.getDenseI64ArrayAttr(offsets));
      };
}

absl::StatusOr<StoredTensor> SafetensorsStore::take(StringRef name,
                                                    ArrayRef<int64_t> shape) {
  absl::StatusOr<const Tensor *> tensor = find(name, shape);
  if (!tensor.ok())
    return tensor.status();
  StoredTensor stored = describe(name, **tensor);
  stored.build = makeSource(checkpoint, name, shape, stored.element, *tensor);
  return stored;
}

absl::StatusOr<StoredTensor>
SafetensorsStore::takeStack(StringRef name, ArrayRef<int64_t> shape) {
  auto [before, after] = name.split("{}");
  std::vector<const Tensor *> tensors;
  StoredTensor stored;
  for (int64_t i = 0; i < shape.front(); ++i) {
    std::string one = (before + Twine(i) + after).str();
    absl::StatusOr<const Tensor *> tensor = find(one, shape.drop_front());
    if (!tensor.ok())
      return tensor.status();
    if (tensors.empty())
      stored = describe(one, **tensor);
    if (!stored.element)
      return stored; // Which is what is wrong, whatever the others are.
    if (!tensors.empty() && (*tensor)->dtype != tensors.front()->dtype)
      return invalid(checkpoint.pathOf(**tensor) + ": tensor " + quote(one) +
                     " is " + safetensors::stringify((*tensor)->dtype) +
                     ", but that of expert 0 is " + stored.typeName);
    tensors.push_back(*tensor);
  }
  stored.build = makeSource(checkpoint, name, shape, stored.element, tensors);
  return stored;
}

/// The name of tensor \p index of the stack \p name.
static std::string nameInStack(StringRef name, int64_t index) {
  auto [before, after] = name.split("{}");
  return (before + Twine(index) + after).str();
}

absl::StatusOr<StoredTensor>
SafetensorsStore::takeBytes(StringRef name, ArrayRef<int64_t> shape,
                            DType dtype) {
  bool isStack = name.contains("{}");
  std::vector<const Tensor *> tensors;
  StoredTensor stored;
  for (int64_t i = 0; i < (isStack ? shape.front() : 1); ++i) {
    std::string one = isStack ? nameInStack(name, i) : name.str();
    absl::StatusOr<const Tensor *> tensor =
        find(one, isStack ? shape.drop_front() : shape);
    if (!tensor.ok())
      return tensor.status();
    StoredTensor described = describe(one, **tensor);
    if ((*tensor)->dtype != dtype)
      return invalid(described.place + " is " + described.typeName +
                     ", expected " + safetensors::stringify(dtype));
    if (tensors.empty())
      stored = std::move(described);
    tensors.push_back(*tensor);
  }
  SmallVector<int64_t, 4> bytes(shape.begin(), shape.end());
  bytes.back() *= dtype == DType::I64 ? 8 : dtype == DType::I32 ? 4 : 1;
  stored.element = IntegerType::get(&context, 8);
  stored.build = makeSource(checkpoint, name, bytes, stored.element, tensors);
  return stored;
}

void SafetensorsStore::ignore(StringRef name, int64_t count) {
  if (!count)
    used.insert(name);
  for (int64_t i = 0; i < count; ++i)
    used.insert(nameInStack(name, i));
}

/// Requires that `lm_head.weight`, stored by a model whose head is its
/// embedding, is that embedding: releases of transformers before 5 read the
/// embedding if it is not, later ones the head.
absl::Status SafetensorsStore::checkTiedHead(StringRef headName) {
  constexpr StringRef embedName = "model.embed_tokens.weight";
  const Tensor *head = checkpoint.find(headName);
  const Tensor *embed = checkpoint.find(embedName);
  auto differs = [&](const Twine &how) {
    return invalid(checkpoint.pathOf(*head) + ": tensor " + quote(headName) +
                   " differs from " + quote(embedName) + " " + how +
                   ", but tie_word_embeddings of config.json, which is true, "
                   "makes them one; set it to false to use both");
  };
  if (!embed)
    return absl::OkStatus(); // An error already.
  if (head->dtype != embed->dtype || head->shape != embed->shape)
    return differs("in type or shape, " + safetensors::stringify(head->dtype) +
                   " " + toText(head->shape) + " and " +
                   safetensors::stringify(embed->dtype) + " " +
                   toText(embed->shape));
  InputFile files[2];
  std::string error;
  const Tensor *tensors[] = {head, embed};
  for (int i : {0, 1})
    if (!files[i].open(checkpoint.pathOf(*tensors[i]), error))
      return invalid(error);
  constexpr int64_t chunk = int64_t(1) << 20;
  std::vector<char> bytes[2];
  for (int64_t at = 0; at < head->sizeBytes; at += chunk) {
    for (int i : {0, 1}) {
      bytes[i].resize(size_t(std::min(chunk, head->sizeBytes - at)));
      if (!files[i].read(uint64_t(tensors[i]->offsetBytes + at),
                         bytes[i].data(), bytes[i].size(), error))
        return invalid(error);
    }
    if (auto [one, other] =
            std::mismatch(bytes[0].begin(), bytes[0].end(), bytes[1].begin());
        one != bytes[0].end())
      return differs("at byte " + Twine(at + (one - bytes[0].begin())));
  }
  return absl::OkStatus();
}

absl::Status SafetensorsStore::checkUnused(const Config &config,
                                           std::vector<std::string> &notes) {
  int64_t buffers = 0;
  for (StringRef name : checkpoint.names()) {
    if (used.contains(name))
      continue;
    StringRef rest = name;
    int64_t layer = 0;
    if (config.compressed && rest.consume_front("mtp.") &&
        !rest.consumeInteger(10, layer) && rest.starts_with(".") &&
        layer >= 0 && layer < config.mtpLayers)
      continue; // Noted already.
    if (rest.consume_front("model.layers.") &&
        !rest.consumeInteger(10, layer) && rest.starts_with(".") &&
        layer >= config.layers && layer - config.layers < config.mtpLayers) {
      continue; // Noted already.
    } else if (name.ends_with(".rotary_emb.inv_freq")) {
      ++buffers; // Older releases of transformers saved this table.
    } else if (name == "lm_head.weight" && config.tiedEmbeddings) {
      if (absl::Status status = checkTiedHead(name); !status.ok())
        return status;
      notes.emplace_back("tie_word_embeddings is true: tensor 'lm_head.weight' "
                         "is not used, 'model.embed_tokens.weight' is");
    } else {
      const Tensor *tensor = checkpoint.find(name);
      return invalid(checkpoint.pathOf(*tensor) + ": tensor " + quote(name) +
                     " of shape " + toText(tensor->shape) +
                     " is not part of a " + config.modelType + " model with " +
                     Twine(config.layers) + " layers");
    }
  }
  if (buffers)
    notes.push_back(("left out " + Twine(buffers) +
                     " tensors *.rotary_emb.inv_freq, which are computed")
                        .str());
  return absl::OkStatus();
}
