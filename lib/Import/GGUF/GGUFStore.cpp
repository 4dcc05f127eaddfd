// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tensors of a GGUF file, for the model builder. What the converter did to
// each is in llama.cpp's `convert_hf_to_gguf.py`.

#include "lib/Import/GGUF/GGUFStore.h"

#include "dialects/DeepSeek/IR/GGUFBlocks.h"
#include "lib/Import/JSON.h"
#include "lib/Import/RotaryRows.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::gguf;
using huggingface::Config;
using huggingface::StoredTensor;

namespace {
struct NamePair {
  StringRef huggingFace, gguf;
};
} // namespace

/// Names of whole models, then those within a layer; all less `.weight` or
/// `.bias`. DeepSeek-V4 has its own, some of which end in neither.
static constexpr NamePair modelNames[] = {{"model.embed_tokens", "token_embd"},
                                          {"model.norm", "output_norm"},
                                          {"lm_head", "output"},
                                          {"embed", "token_embd"},
                                          {"norm", "output_norm"},
                                          {"head", "output"},
                                          {"hc_head_fn", "output_hc_fn"},
                                          {"hc_head_base", "output_hc_base"},
                                          {"hc_head_scale", "output_hc_scale"}};
static constexpr NamePair layerNames[] = {
    {"input_layernorm", "attn_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_a_proj", "attn_q_a"},
    {"self_attn.q_a_layernorm", "attn_q_a_norm"},
    {"self_attn.q_b_proj", "attn_q_b"},
    {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
    {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
    {"self_attn.kv_b_proj", "attn_kv_b"},
    {"self_attn.indexer.wq_b", "indexer.attn_q_b"},
    {"self_attn.indexer.wk", "indexer.attn_k"},
    {"self_attn.indexer.k_norm", "indexer.k_norm"},
    {"self_attn.indexer.weights_proj", "indexer.proj"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"mlp.gate", "ffn_gate_inp"},
    {"mlp.experts.{}.gate_proj", "ffn_gate_exps"},
    {"mlp.experts.{}.up_proj", "ffn_up_exps"},
    {"mlp.experts.{}.down_proj", "ffn_down_exps"},
    {"mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_experts.up_proj", "ffn_up_shexp"},
    {"mlp.shared_experts.down_proj", "ffn_down_shexp"},
    {"hc_attn_fn", "hc_attn_fn"},
    {"hc_attn_base", "hc_attn_base"},
    {"hc_attn_scale", "hc_attn_scale"},
    {"hc_ffn_fn", "hc_ffn_fn"},
    {"hc_ffn_base", "hc_ffn_base"},
    {"hc_ffn_scale", "hc_ffn_scale"},
    {"attn_norm", "attn_norm"},
    {"ffn_norm", "ffn_norm"},
    {"attn.wq_a", "attn_q_a"},
    {"attn.q_norm", "attn_q_a_norm"},
    {"attn.wq_b", "attn_q_b"},
    {"attn.wkv", "attn_kv"},
    {"attn.kv_norm", "attn_kv_a_norm"},
    {"attn.attn_sink", "attn_sinks"},
    {"attn.wo_a", "attn_output_a"},
    {"attn.wo_b", "attn_output_b"},
    {"attn.compressor.wkv", "attn_compressor_kv"},
    {"attn.compressor.wgate", "attn_compressor_gate"},
    {"attn.compressor.ape", "attn_compressor_ape"},
    {"attn.compressor.norm", "attn_compressor_norm"},
    {"attn.indexer.wq_b", "indexer.attn_q_b"},
    {"attn.indexer.weights_proj", "indexer.proj"},
    {"attn.indexer.compressor.wkv", "indexer_compressor_kv"},
    {"attn.indexer.compressor.wgate", "indexer_compressor_gate"},
    {"attn.indexer.compressor.ape", "indexer_compressor_ape"},
    {"attn.indexer.compressor.norm", "indexer_compressor_norm"},
    {"ffn.gate", "ffn_gate_inp"},
    {"ffn.gate.tid2eid", "ffn_gate_tid2eid"},
    {"ffn.experts.{}.w1", "ffn_gate_exps"},
    {"ffn.experts.{}.w3", "ffn_up_exps"},
    {"ffn.experts.{}.w2", "ffn_down_exps"},
    {"ffn.shared_experts.w1", "ffn_gate_shexp"},
    {"ffn.shared_experts.w3", "ffn_up_shexp"},
    {"ffn.shared_experts.w2", "ffn_down_shexp"},
};

/// "model.layers.3." or "layers.3." of \p name becomes "blk.3."; the rest stays
/// in \p name.
static std::string takeLayer(StringRef &name) {
  name.consume_front("model.");
  if (!name.consume_front("layers."))
    return "";
  auto [layer, rest] = name.split('.');
  name = rest;
  return ("blk." + layer + ".").str();
}

std::optional<std::string> gguf::toGGUFName(StringRef name) {
  StringRef rest = name;
  std::string layer = takeLayer(rest);
  if (rest.ends_with(".gate.e_score_correction_bias") ||
      rest == "ffn.gate.bias")
    return layer + "exp_probs_b.bias";
  ArrayRef<NamePair> names = modelNames;
  if (!layer.empty())
    names = layerNames;
  else
    rest = name;
  auto [stem, suffix] = rest.rsplit('.');
  if (suffix != "weight" && suffix != "bias")
    std::tie(stem, suffix) = std::pair<StringRef, StringRef>(rest, "weight");
  for (const NamePair &pair : names)
    if (pair.huggingFace == stem)
      return layer + pair.gguf.str() + "." + suffix.str();
  return std::nullopt;
}

/// Blocks of an f32 scale, integers of 8 bits, and sums that nothing needs: no
/// other format has wide scales, so that recipes take it apart as it is read.
constexpr StringRef wideBlocks = "Q8_K";

static bool hasBlocks(const BlockType &type) {
  return getFormat(type) || type.name == wideBlocks;
}

/// The IR's type of \p type, f32 for blocks; null if no weight may have it.
static Type elementOf(MLIRContext &context, const BlockType &type) {
  if (type.name == "F32" || hasBlocks(type))
    return Float32Type::get(&context);
  if (type.name == "F16")
    return Float16Type::get(&context);
  if (type.name == "BF16")
    return BFloat16Type::get(&context);
  if (type.name == "I32") // A table of experts.
    return IntegerType::get(&context, 32);
  return {};
}

GGUFStore::GGUFStore(MLIRContext &context, const Model &model,
                     const Config &config, bool hasPlaces)
    : context(context), model(model), config(config), hasPlaces(hasPlaces),
      hasPermutedRows(config.modelType == "llama" ||
                      config.modelType == "deepseek") {
  if (config.rope.type == huggingface::RopeConfig::Type::Llama3)
    used.insert("rope_freqs.weight"); // The configuration comes from it.
}

/// True if \p given is \p shape, which may have dimensions of 1 before it.
static bool isShape(ArrayRef<int64_t> given, ArrayRef<int64_t> shape) {
  while (given.size() > shape.size() && given.front() == 1)
    given = given.drop_front();
  while (shape.size() > given.size() && shape.front() == 1)
    shape = shape.drop_front();
  return given == shape;
}

absl::StatusOr<GGUFStore::Part> GGUFStore::find(StringRef name,
                                                ArrayRef<int64_t> shape) {
  const Tensor *tensor = model.find(name);
  if (!tensor)
    return invalid(model.sourcePath() + ": has no tensor " + quote(name) +
                   ", expected one of shape " + toText(shape));
  used.insert(name);
  if (!isShape(tensor->shape, shape))
    return invalid(model.pathOf(*tensor) + ": tensor " + quote(name) +
                   " has shape " + toText(tensor->shape) +
                   ", but the file's keys make it " + toText(shape));
  Part part{name.str(), tensor, elementOf(context, *tensor->type)};
  if (!part.element)
    return unimplemented(
        model.pathOf(*tensor) + ": tensor " + quote(name) + " is " +
        tensor->type->name +
        ", which is not supported, expected F32, F16, BF16, Q4_0, Q4_1, Q5_0, "
        "Q5_1, Q8_0, Q2_K to Q6_K, Q8_K, IQ4_NL, IQ4_XS or MXFP4");
  if (hasBlocks(*tensor->type)) {
    blockBytes[tensor->type->name] += tensor->sizeBytes;
    blockElements += tensor->sizeBytes / tensor->type->blockBytes *
                     tensor->type->blockElements;
  }
  return part;
}

StoredTensor GGUFStore::describe(const Part &part) const {
  StoredTensor stored;
  stored.element = part.element;
  stored.place = model.pathOf(*part.tensor) + ": tensor " + quote(part.name);
  stored.typeName = part.tensor->type->name.str();
  return stored;
}

/// Reads the bytes of \p part as \p type.
Value GGUFStore::readSource(OpBuilder &recipe, const Part &part,
                            RankedTensorType type) const {
  SmallVector<Attribute> files;
  SmallVector<int64_t> offsets;
  if (hasPlaces) {
    files.push_back(recipe.getStringAttr(model.fileOf(*part.tensor)));
    offsets.push_back(part.tensor->offsetBytes);
  }
  return deepseek::SourceOp::create(
      recipe, recipe.getUnknownLoc(), type, recipe.getStringAttr(part.name),
      recipe.getArrayAttr(files), recipe.getDenseI64ArrayAttr(offsets));
}

/// Reads \p part, which is Q8_K, as a matrix or stack of \p shape.
Value GGUFStore::readWideBlocks(OpBuilder &recipe, const Part &part,
                                ArrayRef<int64_t> shape) const {
  constexpr int64_t scaleBytes = 4;
  const BlockType &type = *part.tensor->type;
  Location loc = recipe.getUnknownLoc();
  SmallVector<int64_t> groups(shape);
  groups.back() /= type.blockElements;
  // Columns \p begin to \p end of each block, whose bytes are \p element.
  auto take = [&](Type element, int64_t begin, int64_t end,
                  ArrayRef<int64_t> result) -> Value {
    SmallVector<int64_t> blocks(groups);
    blocks.push_back(type.blockBytes * 8 / element.getIntOrFloatBitWidth());
    Value value =
        readSource(recipe, part, RankedTensorType::get(blocks, element));
    auto axis = int64_t(blocks.size()) - 1;
    blocks.back() = end - begin;
    value = deepseek::SliceOp::create(recipe, loc,
                                      RankedTensorType::get(blocks, element),
                                      value, axis, begin, end);
    return deepseek::ReshapeOp::create(
        recipe, loc, RankedTensorType::get(result, element), value);
  };
  Value codes = take(recipe.getI8Type(), scaleBytes,
                     scaleBytes + type.blockElements, shape);
  Value scales = take(recipe.getF32Type(), 0, 1, groups);
  return deepseek::DequantizeOp::create(
      recipe, loc, RankedTensorType::get(shape, recipe.getF32Type()), codes,
      scales, /*rows=*/1, /*columns=*/type.blockElements, /*unchecked=*/false);
}

/// Reads \p part as \p shape, with rows of \p permutedHeads heads put back from
/// the order of rotation by neighbors; 0 for as they are.
Value GGUFStore::read(OpBuilder &recipe, const Part &part,
                      ArrayRef<int64_t> shape, int64_t permutedHeads) const {
  Location loc = recipe.getUnknownLoc();
  const BlockType &type = *part.tensor->type;
  if (type.name == wideBlocks) {
    SmallVector<int64_t> matrix(shape);
    if (matrix.size() == 1)
      matrix.insert(matrix.begin(), 1);
    Value value = readWideBlocks(recipe, part, matrix);
    if (shape.size() == 1)
      value = deepseek::ReshapeOp::create(
          recipe, loc, RankedTensorType::get(shape, part.element), value);
    return permutedHeads ? splitRotaryPairs(recipe, value, permutedHeads)
                         : value;
  }
  std::optional<deepseek::GGUFFormat> format = getFormat(type);
  SmallVector<int64_t> stored(shape);
  Type element = part.element;
  if (format) {
    // Rows of bytes, which can be moved before they are numbers.
    element = recipe.getI8Type();
    stored.back() = stored.back() / type.blockElements * type.blockBytes;
  }
  Value value =
      readSource(recipe, part, RankedTensorType::get(stored, element));
  if (permutedHeads)
    value = splitRotaryPairs(recipe, value, permutedHeads);
  if (format)
    value = deepseek::DequantizeGGUFOp::create(
        recipe, loc, RankedTensorType::get(shape, part.element), *format,
        value);
  return value;
}

/// \p value, converted if it is not of type \p element.
static Value convertTo(OpBuilder &recipe, Value value, Type element) {
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getElementType() == element)
    return value;
  return deepseek::ConvertOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get(type.getShape(), element), value);
}

absl::StatusOr<StoredTensor> GGUFStore::take(StringRef name,
                                             ArrayRef<int64_t> shape) {
  std::string ggufName = *toGGUFName(name);
  StringRef stem = ggufName;
  if (stem.consume_back(".attn_kv_b.weight") && !model.find(ggufName) &&
      model.find(stem.str() + ".attn_k_b.weight"))
    return takeExpansion(stem, shape);
  // Some converters leave the suffix out.
  if (StringRef(ggufName).ends_with(".exp_probs_b.bias") &&
      !model.find(ggufName))
    if (StringRef bare = StringRef(ggufName).drop_back(5); model.find(bare))
      ggufName = bare.str();
  absl::StatusOr<Part> part = find(ggufName, shape);
  if (!part.ok())
    return part.status();
  int64_t heads = 0;
  if (hasPermutedRows && name.contains(".self_attn.q_proj."))
    heads = config.heads;
  if (hasPermutedRows && name.contains(".self_attn.k_proj."))
    heads = config.kvHeads;
  StoredTensor stored = describe(*part);
  stored.build = [this, part = *part, heads,
                  shape = SmallVector<int64_t, 4>(shape)](OpBuilder &recipe) {
    return read(recipe, part, shape, heads);
  };
  return stored;
}

/// All experts are one tensor. Those that are not stored in blocks are f32,
/// too, if others of the layer are in blocks or of another type: one op reads
/// all.
absl::StatusOr<StoredTensor> GGUFStore::takeStack(StringRef name,
                                                  ArrayRef<int64_t> shape) {
  std::string ggufName = *toGGUFName(name);
  absl::StatusOr<Part> part = find(ggufName, shape);
  if (!part.ok())
    return part.status();
  Type element = part->element;
  StringRef layer = StringRef(ggufName).split(".ffn_").first;
  for (StringRef other : {"gate", "up", "down"}) {
    const Tensor *tensor =
        model.find((layer + ".ffn_" + other + "_exps.weight").str());
    if (tensor && elementOf(context, *tensor->type) != element)
      element = Float32Type::get(&context);
  }
  StoredTensor stored = describe(*part);
  stored.element = element;
  stored.build = [this, part = *part, element,
                  shape = SmallVector<int64_t, 4>(shape)](OpBuilder &recipe) {
    return convertTo(recipe, read(recipe, part, shape, 0), element);
  };
  return stored;
}

/// kv_b from its halves: `attn_k_b`, which is transposed in each head, and
/// `attn_v_b`. Both have three dimensions, or the first two as one.
absl::StatusOr<StoredTensor> GGUFStore::takeExpansion(StringRef prefix,
                                                      ArrayRef<int64_t> shape) {
  const huggingface::LatentConfig &latent = *config.latent;
  SmallVector<int64_t, 3> keyShape = {config.heads, latent.rank,
                                      latent.nopeDim};
  SmallVector<int64_t, 3> valueShape = {config.heads, latent.valueDim,
                                        latent.rank};
  auto findHalf = [&](const std::string &name, ArrayRef<int64_t> shape) {
    const Tensor *tensor = model.find(name);
    int64_t flat[] = {shape[0] * shape[1], shape[2]};
    return find(name, tensor && isShape(tensor->shape, flat)
                          ? ArrayRef<int64_t>(flat)
                          : shape);
  };
  absl::StatusOr<Part> keys =
      findHalf(prefix.str() + ".attn_k_b.weight", keyShape);
  if (!keys.ok())
    return keys.status();
  absl::StatusOr<Part> values =
      findHalf(prefix.str() + ".attn_v_b.weight", valueShape);
  if (!values.ok())
    return values.status();
  Type element = keys->element;
  if (values->element != element)
    element = Float32Type::get(&context);
  StoredTensor stored = describe(*keys);
  stored.element = element;
  stored.build =
      [this, keys = *keys, values = *values, keyShape, valueShape, element,
       shape = SmallVector<int64_t, 4>(shape)](OpBuilder &recipe) -> Value {
    Location loc = recipe.getUnknownLoc();
    int64_t heads = keyShape[0], rank = keyShape[1], nope = keyShape[2];
    Value key = convertTo(recipe, read(recipe, keys, keyShape, 0), element);
    key = deepseek::TransposeOp::create(
        recipe, loc, RankedTensorType::get({heads, nope, rank}, element), key,
        ArrayRef<int64_t>({0, 2, 1}));
    Value value =
        convertTo(recipe, read(recipe, values, valueShape, 0), element);
    Value both = deepseek::ConcatOp::create(
        recipe, loc,
        RankedTensorType::get({heads, nope + valueShape[1], rank}, element),
        ValueRange{key, value}, /*axis=*/1);
    return deepseek::ReshapeOp::create(
        recipe, loc, RankedTensorType::get(shape, element), both);
  };
  return stored;
}

/// \p bytes in the unit that suits them.
static std::string toBytes(int64_t bytes) {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (bytes < 10 << 20)
    os << bytes << " bytes";
  else
    os << (bytes >> 20) << " MiB";
  return text;
}

absl::Status GGUFStore::checkUnused(const Config &config,
                                    std::vector<std::string> &notes) {
  int64_t tables = 0, halves = 0, ofImages = 0;
  for (StringRef name : model.names()) {
    if (used.contains(name))
      continue;
    StringRef rest = name;
    int64_t layer = 0;
    bool inLayer = rest.consume_front("blk.") &&
                   !rest.consumeInteger(10, layer) && rest.consume_front(".");
    if (inLayer && layer >= config.layers &&
        layer - config.layers < config.mtpLayers) {
      continue; // Noted already.
    } else if (name == "rope_freqs.weight" || rest == "attn_rot_embd.weight") {
      ++tables; // Of ones, and the frequencies themselves.
    } else if (inLayer && layer < config.layers && config.latent &&
               (rest == "attn_k_b.weight" || rest == "attn_v_b.weight")) {
      ++halves; // Beside attn_kv_b, of which they are the halves.
    } else if (inLayer && config.compressed && rest == "exp_probs_b_vl.bias") {
      ++ofImages;
    } else {
      const Tensor *tensor = model.find(name);
      return invalid(model.pathOf(*tensor) + ": tensor " + quote(name) +
                     " of shape " + toText(tensor->shape) +
                     " is not part of a " + config.modelType + " model with " +
                     Twine(config.layers) + " layers");
    }
  }
  if (tables)
    notes.push_back(("left out " + Twine(tables) +
                     " tables of rotary frequencies, which "
                     "are computed")
                        .str());
  if (halves)
    notes.push_back(("left out " + Twine(halves) +
                     " tensors attn_k_b and attn_v_b, which are the halves of "
                     "attn_kv_b")
                        .str());
  if (ofImages)
    notes.push_back(("left out " + Twine(ofImages) +
                     " tensors exp_probs_b_vl, which choose experts for images")
                        .str());
  if (blockBytes.empty())
    return absl::OkStatus();
  std::string types;
  int64_t bytes = 0;
  for (auto [type, typeBytes] : blockBytes) {
    types += (types.empty() ? "" : ", ") + type.str();
    bytes += typeBytes;
  }
  notes.push_back("tensors in " + types + " have " + toBytes(bytes) +
                  " of blocks, " + toBytes(blockElements * 4) + " as f32");
  return absl::OkStatus();
}
