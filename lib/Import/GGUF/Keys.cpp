// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the keys of a GGUF file say of a model's graph. What each key means is
// what llama.cpp (src/llama-model.cpp) does with it.

#include "lib/Import/GGUF/Keys.h"

#include "lib/Import/GGUF/RopeFactors.h"
#include "lib/Import/JSON.h"
#include "lib/Import/ObjectReader.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Format.h"

#include <cmath>

using namespace hadal;
using namespace hadal::gguf;
using huggingface::CompressedConfig;
using huggingface::Config;
using huggingface::HyperConfig;
using huggingface::IndexerConfig;
using huggingface::LatentConfig;
using huggingface::maxDimension;
using huggingface::maxExperts;
using huggingface::maxLayers;
using huggingface::maxTokens;
using huggingface::MoEConfig;
using huggingface::RopeConfig;
using llvm::StringLiteral;
using llvm::StringRef;
using llvm::Twine;

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

namespace {
enum class Architecture {
  Llama,
  Qwen2,
  MoE16B,
  DeepSeek2,
  DeepSeek32,
  DeepSeek4
};

struct ArchitectureInfo {
  StringRef name;
  Architecture architecture;
  StringRef modelType;
};

/// What files of published models leave out that older converters wrote.
struct Published {
  int64_t layers, hidden, experts;
  int64_t groups, topGroups;
  double mscale; ///< 0: not known well enough to be assumed.
};
} // namespace

static constexpr ArchitectureInfo architectures[] = {
    {"llama", Architecture::Llama, "llama"},
    {"qwen2", Architecture::Qwen2, "qwen2"},
    {"deepseek", Architecture::MoE16B, "deepseek"},
    // Or deepseek_v3, which its experts tell.
    {"deepseek2", Architecture::DeepSeek2, "deepseek_v2"},
    {"deepseek32", Architecture::DeepSeek32, "deepseek_v32"},
    {"deepseek4", Architecture::DeepSeek4, "deepseek_v4"}};

/// Architectures of the family that Hadal knows of and does not import.
static constexpr StringRef laterArchitectures[] = {"deepseek2-ocr", "glm-dsa"};

/// V2-Lite and Coder-V2-Lite; V2, V2.5 and Coder-V2; V3, R1 and V3.1.
static constexpr Published publishedModels[] = {{27, 2048, 64, 1, 1, 0.707},
                                                {60, 5120, 160, 8, 3, 0},
                                                {61, 7168, 256, 8, 4, 1.0}};

/// Keys, less the architecture's name, that change nothing in what the model
/// computes.
static constexpr StringRef ignoredKeys[] = {"rope.scaling.finetuned",
                                            "tensor_data_layout"};

//===----------------------------------------------------------------------===//
// Reader
//===----------------------------------------------------------------------===//

namespace {
/// Reads keys one by one. The first error is kept and what is read after it is
/// a harmless value, so that callers need not check each.
class KeyReader {
public:
  KeyReader(const Model &model, std::vector<std::string> &notes)
      : model(model), notes(notes) {}

  absl::StatusOr<Config> read();

private:
  bool ok() const { return status.ok(); }
  void fail(absl::Status error) {
    if (ok())
      status = std::move(error);
  }
  void fail(StringRef key, const Twine &value, const Twine &expected) {
    fail(invalid(model.sourcePath() + ": '" + key + "' is " + value +
                 ", expected " + expected));
  }
  void missing(StringRef key, const Twine &why = "") {
    fail(invalid(model.sourcePath() + ": has no key '" + key + "'" + why +
                 "; --gguf-key=" + key + "=VALUE supplies it"));
  }
  void note(const Twine &text) { notes.push_back(text.str()); }

  /// The whole name of the architecture's key \p name.
  std::string full(StringRef name) const {
    return (architecture + "." + name).str();
  }
  /// Null if it is missing.
  const KeyValue *get(const std::string &key) {
    seen.insert(key);
    return model.get(key);
  }
  bool has(StringRef name) { return get(full(name)); }
  bool hasLatentAttention() const {
    return kind == Architecture::DeepSeek2 || kind == Architecture::DeepSeek32;
  }

  std::optional<int64_t> optionalInteger(const std::string &key, int64_t min,
                                         int64_t max);
  std::optional<double> optionalNumber(const std::string &key, double min,
                                       double max);
  std::optional<bool> optionalBoolean(const std::string &key);
  std::optional<StringRef> optionalString(const std::string &key);
  /// Of the architecture, and required.
  int64_t integer(StringRef name, int64_t min, int64_t max);
  int64_t dimension(StringRef name) { return integer(name, 1, maxDimension); }
  double number(StringRef name, double min, double max);
  /// Requires that a product of keys is a dimension that Hadal takes.
  void checkProduct(StringRef keys, int64_t a, int64_t b);
  /// Requires the value of a key that may be missing.
  void expectInteger(StringRef name, int64_t expected, StringRef why);

  void readArchitecture();
  void readSizes();
  void readAttention();
  void readLatentAttention();
  void readIndexer();
  void readCompressedAttention();
  void readRatios(CompressedConfig &compressed);
  void readHyperConnections();
  void readLayers();
  void readMoE();
  int64_t readGating(bool hasBias);
  void readRouting(MoEConfig &moe);
  void expectNoGroups(std::optional<int64_t> groups,
                      std::optional<int64_t> topGroups);
  void readGroups(MoEConfig &moe, std::optional<int64_t> groups,
                  std::optional<int64_t> topGroups);
  void readLimit(MoEConfig &moe);
  void readRope();
  void readYarn(RopeConfig &rope);
  void readRopeFactors();
  void readTokens();
  void checkUnknownKeys();
  const Published *findPublished() const;

  const Model &model;
  std::vector<std::string> &notes;
  absl::Status status;
  llvm::StringSet<> seen;
  StringRef architecture;
  Architecture kind = Architecture::Llama;
  Config config;
};
} // namespace

std::optional<int64_t> KeyReader::optionalInteger(const std::string &key,
                                                  int64_t min, int64_t max) {
  const KeyValue *value = get(key);
  if (!value)
    return std::nullopt;
  std::optional<int64_t> result = value->getInteger();
  // One entry a layer, of which all have to be equal.
  if (value->isArray && value->isKept && !value->bits.empty() &&
      llvm::all_equal(value->bits))
    result = value->getInteger(0);
  if (result && *result >= min && *result <= max)
    return result;
  fail(key,
       value->isArray ? value->toText() + " values, not all the same"
                      : value->toText(),
       "an integer from " + Twine(min) + " to " + Twine(max));
  return min;
}

std::optional<double> KeyReader::optionalNumber(const std::string &key,
                                                double min, double max) {
  const KeyValue *value = get(key);
  if (!value)
    return std::nullopt;
  std::optional<double> result = value->getNumber();
  if (value->isArray && value->isKept && !value->bits.empty() &&
      llvm::all_equal(value->bits))
    result = value->getNumber(0);
  if (result && *result >= min && *result <= max) // False for NaN too.
    return result;
  fail(key,
       value->isArray ? value->toText() + " values, not all the same"
                      : value->toText(),
       "a number from " + toText(min) + " to " + toText(max));
  return min;
}

std::optional<bool> KeyReader::optionalBoolean(const std::string &key) {
  const KeyValue *value = get(key);
  if (!value)
    return std::nullopt;
  if (std::optional<bool> result = value->getBoolean())
    return result;
  fail(key, value->toText(), "a boolean");
  return false;
}

std::optional<StringRef> KeyReader::optionalString(const std::string &key) {
  const KeyValue *value = get(key);
  if (!value)
    return std::nullopt;
  if (std::optional<StringRef> result = value->getString())
    return result;
  fail(key, value->toText(), "a string");
  return StringRef();
}

int64_t KeyReader::integer(StringRef name, int64_t min, int64_t max) {
  std::optional<int64_t> value = optionalInteger(full(name), min, max);
  if (!value)
    missing(full(name));
  return value.value_or(min);
}

double KeyReader::number(StringRef name, double min, double max) {
  std::optional<double> value = optionalNumber(full(name), min, max);
  if (!value)
    missing(full(name));
  return value.value_or(min);
}

void KeyReader::checkProduct(StringRef keys, int64_t a, int64_t b) {
  if (a * b > maxDimension)
    fail(invalid(model.sourcePath() + ": " + keys + " is " + Twine(a) + " x " +
                 Twine(b) + ", expected at most " + Twine(maxDimension)));
}

void KeyReader::expectInteger(StringRef name, int64_t expected, StringRef why) {
  std::optional<int64_t> value =
      optionalInteger(full(name), 0, maxDimension * 2);
  if (ok() && value && *value != expected)
    fail(full(name), Twine(*value), Twine(expected) + ", " + why);
}

/// The published model that this one has the sizes of, or null.
const Published *KeyReader::findPublished() const {
  for (const Published &published : publishedModels)
    if (config.moe && published.layers == config.layers &&
        published.hidden == config.hidden &&
        published.experts == config.moe->experts)
      return &published;
  return nullptr;
}

//===----------------------------------------------------------------------===//
// Keys
//===----------------------------------------------------------------------===//

void KeyReader::readArchitecture() {
  std::optional<StringRef> name = optionalString("general.architecture");
  if (!name)
    return missing("general.architecture");
  if (!ok())
    return;
  std::optional<StringRef> type = optionalString("general.type");
  if (ok() && type && *type != "model")
    return fail("general.type", quote(llvm::json::fixUTF8(*type)), "'model'");
  for (const ArchitectureInfo &info : architectures)
    if (info.name == *name) {
      architecture = *name;
      kind = info.architecture;
      config.modelType = info.modelType.str();
      return;
    }
  std::string supported;
  for (const ArchitectureInfo &info : architectures)
    supported += (supported.empty() ? "" : ", ") + info.name.str();
  bool isLater = llvm::is_contained(laterArchitectures, *name);
  fail(unimplemented(model.sourcePath() + ": general.architecture " +
                     quote(llvm::json::fixUTF8(*name)) +
                     (isLater ? " is not supported yet" : " is not known") +
                     ", expected one of " + supported));
}

void KeyReader::readSizes() {
  config.path = model.sourcePath();
  config.hidden = dimension("embedding_length");
  config.layers = integer("block_count", 1, maxLayers);
  config.heads = dimension("attention.head_count");
  config.maxPositions = integer("context_length", 1, maxTokens);
  config.normEpsilon = number("attention.layer_norm_rms_epsilon", 1e-30, 1);
  const Tensor *embedding = model.find("token_embd.weight");
  if (std::optional<int64_t> vocab =
          optionalInteger(full("vocab_size"), 1, maxDimension))
    config.vocab = *vocab;
  else if (embedding && embedding->shape.size() == 2 &&
           embedding->shape[0] <= maxDimension)
    config.vocab = embedding->shape[0];
  else
    missing(full("vocab_size"), " and no matrix 'token_embd.weight'");
  config.tiedEmbeddings = !model.find("output.weight");

  readLayers();
  // A model whose layers all have experts needs no width of a dense one.
  if (kind == Architecture::DeepSeek4) {
    optionalInteger(full("feed_forward_length"), 0, maxDimension);
    return;
  }
  bool hasExperts = hasLatentAttention() || kind == Architecture::MoE16B;
  if (!hasExperts || has("feed_forward_length") ||
      integer("leading_dense_block_count", 0, maxLayers))
    config.intermediate = dimension("feed_forward_length");
  else
    config.intermediate = 1;
}

/// Layers for multi-token prediction are counted in, with their tensors or
/// without; or they are not there at all, whatever the key says.
void KeyReader::readLayers() {
  std::optional<int64_t> extra =
      optionalInteger(full("nextn_predict_layers"), 0, config.layers - 1);
  if (!ok() || !extra || *extra == 0)
    return;
  auto has = [&](int64_t layer, StringRef name) {
    return model.find("blk." + std::to_string(layer) + name.str()) != nullptr;
  };
  if (!has(config.layers - 1, ".nextn.eh_proj.weight") &&
      has(config.layers - *extra, ".attn_norm.weight"))
    return;
  config.layers -= *extra;
  config.mtpLayers = *extra;
}

void KeyReader::readAttention() {
  config.kvHeads =
      optionalInteger(full("attention.head_count_kv"), 1, maxDimension)
          .value_or(config.heads);
  if (!ok())
    return;
  if (config.heads % config.kvHeads != 0)
    fail(full("attention.head_count"), Twine(config.heads),
         "a multiple of '" + full("attention.head_count_kv") + "', " +
             Twine(config.kvHeads));
  if (std::optional<int64_t> length =
          optionalInteger(full("attention.key_length"), 1, maxDimension)) {
    config.headDim = *length;
  } else {
    config.headDim = config.hidden / config.heads;
    if (config.hidden % config.heads != 0)
      fail(full("embedding_length"), Twine(config.hidden),
           "a multiple of '" + full("attention.head_count") + "', " +
               Twine(config.heads));
  }
  if (ok() && config.headDim % 2 != 0)
    fail(invalid(model.sourcePath() + ": the width of a head is " +
                 Twine(config.headDim) +
                 ", expected an even number, for rotary embedding"));
  checkProduct("attention.head_count x attention.key_length", config.heads,
               config.headDim);
  expectInteger("attention.value_length", config.headDim, "the width of a key");
  expectInteger("rope.dimension_count", config.headDim, "the width of a head");
  if (const Tensor *keys = model.find("blk.0.attn_k.weight");
      ok() && keys && !has("attention.head_count_kv") &&
      keys->shape.front() < config.heads * config.headDim)
    return missing(full("attention.head_count_kv"),
                   ", but heads of keys are fewer than those of queries");
  // Qwen2 has these biases; others are there if their tensors are.
  config.qkvBias =
      kind == Architecture::Qwen2 || model.find("blk.0.attn_q.bias");
  config.outputBias = model.find("blk.0.attn_output.bias");
  config.mlpBias = model.find("blk.0.ffn_gate.bias");
}

void KeyReader::readLatentAttention() {
  LatentConfig &latent = config.latent.emplace();
  std::string queryKey = full("attention.q_lora_rank");
  latent.queryRank = optionalInteger(queryKey, 0, maxDimension);
  if (ok() && !latent.queryRank && model.find("blk.0.attn_q_a.weight"))
    return missing(queryKey, ", but there is a tensor attn_q_a");
  if (latent.queryRank == 0)
    latent.queryRank.reset();
  latent.rank = dimension("attention.kv_lora_rank");
  latent.ropeDim = dimension("rope.dimension_count");
  int64_t keyLength = dimension("attention.key_length");
  int64_t valueLength = dimension("attention.value_length");
  int64_t queryDim = keyLength;
  latent.valueDim = valueLength;
  if (has("attention.key_length_mla") || has("attention.value_length_mla")) {
    // The attention is described as it is once it is absorbed.
    queryDim = dimension("attention.key_length_mla");
    latent.valueDim = dimension("attention.value_length_mla");
    if (ok() && keyLength != latent.rank + latent.ropeDim)
      fail(full("attention.key_length"), Twine(keyLength),
           "kv_lora_rank + rope.dimension_count, " + Twine(latent.rank) +
               " + " + Twine(latent.ropeDim));
    if (ok() && valueLength != latent.rank)
      fail(full("attention.value_length"), Twine(valueLength),
           "kv_lora_rank, " + Twine(latent.rank));
    expectInteger("attention.head_count_kv", 1,
                  "beside 'attention.key_length_mla'");
  } else {
    expectInteger("attention.head_count_kv", config.heads,
                  "'attention.head_count'");
  }
  if (ok() && latent.ropeDim % 2 != 0)
    fail(full("rope.dimension_count"), Twine(latent.ropeDim), "an even number");
  if (ok() && queryDim <= latent.ropeDim)
    fail(full(has("attention.key_length_mla") ? "attention.key_length_mla"
                                              : "attention.key_length"),
         Twine(queryDim),
         "more than 'rope.dimension_count', " + Twine(latent.ropeDim));
  if (!ok())
    return;
  latent.nopeDim = queryDim - latent.ropeDim;
  checkProduct("attention.head_count x the width of a key", config.heads,
               queryDim);
  checkProduct("attention.head_count x the widths of what is expanded",
               config.heads, latent.nopeDim + latent.valueDim);
}

/// The lightning indexer of V3.2, which reads the latent of queries. It rotates
/// halves in all of llama.cpp's files: no key says it.
void KeyReader::readIndexer() {
  IndexerConfig &indexer = config.indexer.emplace();
  indexer.heads = dimension("attention.indexer.head_count");
  indexer.dim = dimension("attention.indexer.key_length");
  indexer.topK = dimension("attention.indexer.top_k");
  checkProduct("attention.indexer.head_count x attention.indexer.key_length",
               indexer.heads, indexer.dim);
  if (!ok())
    return;
  if (indexer.dim < config.latent->ropeDim)
    fail(full("attention.indexer.key_length"), Twine(indexer.dim),
         "at least 'rope.dimension_count', " + Twine(config.latent->ropeDim));
  if (!config.latent->queryRank)
    missing(full("attention.q_lora_rank"));
}

/// Attention over a window and compressed entries, of V4.
void KeyReader::readCompressedAttention() {
  CompressedConfig &compressed = config.compressed.emplace();
  config.kvHeads = 1;
  expectInteger("attention.head_count_kv", 1, "as all heads share their keys");
  config.headDim = dimension("attention.key_length");
  if (ok())
    expectInteger("attention.value_length", config.headDim,
                  "the width of a key");
  compressed.queryRank = dimension("attention.q_lora_rank");
  compressed.ropeDim = dimension("rope.dimension_count");
  compressed.outputRank = dimension("attention.output_lora_rank");
  compressed.outputGroups = dimension("attention.output_group_count");
  compressed.window = integer("attention.sliding_window", 1, maxTokens);
  checkProduct("attention.head_count x attention.key_length", config.heads,
               config.headDim);
  checkProduct("attention.output_group_count x attention.output_lora_rank",
               compressed.outputGroups, compressed.outputRank);
  if (ok() && config.heads % compressed.outputGroups != 0)
    fail(full("attention.head_count"), Twine(config.heads),
         "a multiple of '" + full("attention.output_group_count") + "', " +
             Twine(compressed.outputGroups));
  if (ok() && compressed.ropeDim % 2 != 0)
    fail(full("rope.dimension_count"), Twine(compressed.ropeDim),
         "an even number");
  // No model rotates whole heads by neighbors.
  if (ok() && config.headDim <= compressed.ropeDim)
    fail(full("attention.key_length"), Twine(config.headDim),
         "more than '" + full("rope.dimension_count") + "', " +
             Twine(compressed.ropeDim));
  if (ok())
    readRatios(compressed);
  if (!ok())
    return;
  if (llvm::is_contained(compressed.ratios,
                         CompressedConfig::overlappingRatio)) {
    compressed.indexHeads = dimension("attention.indexer.head_count");
    compressed.indexDim = dimension("attention.indexer.key_length");
    compressed.indexTopK = dimension("attention.indexer.top_k");
    checkProduct("attention.indexer.head_count x attention.indexer.key_length",
                 compressed.indexHeads, compressed.indexDim);
    if (ok() && compressed.indexDim <= compressed.ropeDim)
      fail(full("attention.indexer.key_length"), Twine(compressed.indexDim),
           "more than '" + full("rope.dimension_count") + "', " +
               Twine(compressed.ropeDim));
  } else {
    for (StringRef name : {"head_count", "key_length", "top_k"})
      optionalInteger(full(("attention.indexer." + name).str()), 0,
                      maxDimension);
    compressed.indexDim = 1;
  }
}

void KeyReader::readRatios(CompressedConfig &compressed) {
  std::string key = full("attention.compress_ratios");
  const KeyValue *value = get(key);
  if (!value)
    return missing(key);
  if (!value->isArray || !value->isKept ||
      int64_t(value->count) < config.layers)
    return fail(key, value->toText(),
                "an array of at least '" + full("block_count") + "', " +
                    Twine(config.layers) + " integers");
  for (size_t i = 0; i < value->count; ++i) {
    std::optional<int64_t> tokens = value->getInteger(i);
    if (!tokens || (*tokens != 0 && *tokens != 4 && *tokens != 128))
      return fail(unimplemented(model.sourcePath() + ": '" + key +
                                "' has an element " + Twine(i) +
                                " that is not supported, expected only 0, 4 "
                                "and 128"));
    if (int64_t(i) < config.layers)
      compressed.ratios.push_back(*tokens);
  }
}

void KeyReader::readHyperConnections() {
  HyperConfig &hyper = config.hyper.emplace();
  hyper.streams = integer("hyper_connection.count", 1, 8);
  hyper.iterations = integer("hyper_connection.sinkhorn_iterations", 1, 1000);
  hyper.epsilon = number("hyper_connection.epsilon", 1e-30, 1);
  checkProduct("hyper_connection.count x embedding_length", hyper.streams,
               config.hidden);
  if (ok())
    expectInteger("embedding_length_out", hyper.streams * config.hidden,
                  "all residual streams");
}

void KeyReader::readMoE() {
  if (kind == Architecture::Llama || kind == Architecture::Qwen2) {
    for (StringRef name : {"expert_count", "expert_used_count"})
      expectInteger(name, 0, ("as " + architecture + " has no experts").str());
    return;
  }
  MoEConfig &moe = config.moe.emplace();
  moe.experts = integer("expert_count", 1, maxExperts);
  moe.topK = integer("expert_used_count", 1, moe.experts);
  moe.intermediate = dimension("expert_feed_forward_length");
  if (kind == Architecture::DeepSeek4) {
    expectInteger("leading_dense_block_count", 0, "as all layers have experts");
    moe.hashLayers = integer("hash_layer_count", 0, maxLayers);
    readLimit(moe);
  } else {
    moe.firstDense = integer("leading_dense_block_count", 0, maxLayers);
  }
  if (std::optional<int64_t> shared =
          optionalInteger(full("expert_shared_count"), 0, maxExperts))
    moe.sharedExperts = *shared;
  else if (model.find("blk." + std::to_string(moe.firstDense) +
                      ".ffn_gate_shexp.weight"))
    missing(full("expert_shared_count"));
  checkProduct("expert_feed_forward_length x expert_shared_count",
               moe.intermediate, moe.sharedExperts);
  readRouting(moe);
}

/// What V4 cuts off between the matrices of experts, of shared ones as of
/// others; 0: nothing.
void KeyReader::readLimit(MoEConfig &moe) {
  std::string key = full("swiglu_clamp_exp");
  std::optional<double> limit = optionalNumber(key, 0, 1e6);
  std::optional<double> shared =
      optionalNumber(full("swiglu_clamp_shexp"), 0, 1e6);
  if (!ok())
    return;
  if (!limit)
    return missing(key);
  if (shared && *shared != *limit)
    return fail(full("swiglu_clamp_shexp"), toText(*shared),
                toText(*limit) + " as '" + key + "'");
  if (*limit > 1e-6)
    moe.limit = *limit;
}

/// The function that scores experts, as the file has it: 1 softmax, 2 sigmoid,
/// 4 the square root of softplus; 0 stands for none. Of V2 and V3 a tensor
/// tells it, in V3.2 and V4 there is one.
int64_t KeyReader::readGating(bool hasBias) {
  std::string key = full("expert_gating_func");
  std::optional<int64_t> gating = optionalInteger(key, 0, 255);
  if (!ok())
    return 0;
  bool isFixed =
      kind == Architecture::DeepSeek32 || kind == Architecture::DeepSeek4;
  int64_t expected = kind == Architecture::DeepSeek4               ? 4
                     : kind == Architecture::DeepSeek32 || hasBias ? 2
                                                                   : 1;
  static constexpr StringLiteral names[] = {"", "softmax", "sigmoid", "",
                                            "the square root of softplus"};
  StringRef why = isFixed   ? "as all models of this architecture have it"
                  : hasBias ? "as there is a tensor exp_probs_b"
                            : "as there is no tensor exp_probs_b";
  if (!gating || *gating == 0) {
    if (kind != Architecture::MoE16B)
      note("'" + key + "' is missing: took " + names[expected] + ", " + why);
    return expected;
  }
  if (kind == Architecture::MoE16B && *gating != 1)
    fail(key, Twine(*gating), "1 (softmax)");
  else if (*gating != expected && !isFixed && *gating != 1 && *gating != 2)
    fail(key, Twine(*gating), "1 (softmax) or 2 (sigmoid)");
  else if (*gating != expected)
    fail(key, Twine(*gating), Twine(expected) + ", " + why);
  return expected;
}

void KeyReader::readRouting(MoEConfig &moe) {
  using deepseek::Scoring;
  using deepseek::TopKMethod;
  bool hasBias = false;
  int64_t layer = std::max(moe.firstDense, moe.hashLayers);
  for (StringRef name : {".exp_probs_b.bias", ".exp_probs_b"})
    hasBias |=
        model.find("blk." + std::to_string(layer) + name.str()) != nullptr;
  int64_t gating = readGating(hasBias);
  std::optional<double> scale =
      optionalNumber(full("expert_weights_scale"), 0, 1e6);
  std::optional<bool> norm = optionalBoolean(full("expert_weights_norm"));
  std::optional<int64_t> groups =
      optionalInteger(full("expert_group_count"), 0, moe.experts);
  std::optional<int64_t> topGroups =
      optionalInteger(full("expert_group_used_count"), 0, moe.experts);
  if (!ok())
    return;
  if (kind == Architecture::MoE16B) {
    // llama.cpp neither scales nor normalizes; nor does the model's own code,
    // unless the configuration says so, which no published one does.
    if (scale && *scale != 1 && *scale != 0)
      return fail(full("expert_weights_scale"), toText(*scale), "1");
    if (norm.value_or(false))
      return fail(full("expert_weights_norm"), "true", "false");
    return expectNoGroups(groups, topGroups);
  }

  if (!scale)
    return missing(full("expert_weights_scale"));
  if (*scale == 0) // How llama.cpp spells that there is none.
    scale = 1;
  if (*scale < 1e-6)
    return fail(full("expert_weights_scale"), toText(*scale),
                "a number from 1e-06 to 1e+06");
  moe.scale = *scale;
  bool isSoftmax = gating == 1;
  if (!norm) {
    // Converters leave out what is false, too, and once left it out at all.
    if (!isSoftmax && !findPublished())
      return missing(full("expert_weights_norm"),
                     ", and the sizes are of no published model that would "
                     "tell it");
    norm = !isSoftmax;
    note("'" + full("expert_weights_norm") + "' is missing: took " +
         (isSoftmax ? "false, as DeepSeek-V2" : "true, as DeepSeek-V3"));
  }
  moe.normalize = *norm;
  if (isSoftmax && moe.normalize)
    return fail(unimplemented(
        model.sourcePath() + ": '" + full("expert_weights_norm") +
        "' is true, expected false with softmax: DeepSeek-V2's own code "
        "normalizes the weights of experts and does not scale them, llama.cpp "
        "does both"));
  if (kind == Architecture::DeepSeek4) {
    moe.scoring = Scoring::SqrtSoftplus;
    moe.method = TopKMethod::NoAuxTC;
    return expectNoGroups(groups, topGroups);
  }
  readGroups(moe, groups, topGroups);
  if (!ok())
    return;
  if (isSoftmax) {
    if (moe.groups > 1)
      moe.method = TopKMethod::GroupLimitedGreedy;
    return;
  }
  if (kind == Architecture::DeepSeek2)
    config.modelType = "deepseek_v3";
  moe.scoring = Scoring::Sigmoid;
  moe.method = TopKMethod::NoAuxTC;
  if (moe.groups > 1 && moe.experts / moe.groups < 2)
    fail(full("expert_group_count"), Twine(moe.groups),
         "groups of at least two of " + Twine(moe.experts) + " experts");
}

void KeyReader::expectNoGroups(std::optional<int64_t> groups,
                               std::optional<int64_t> topGroups) {
  for (auto [name, count] : {std::pair<StringRef, std::optional<int64_t>>(
                                 "expert_group_count", groups),
                             {"expert_group_used_count", topGroups}})
    if (count && *count > 1)
      return fail(full(name), Twine(*count), "1");
}

/// Groups of experts, of which the best are looked at.
void KeyReader::readGroups(MoEConfig &moe, std::optional<int64_t> groups,
                           std::optional<int64_t> topGroups) {
  const Published *published = findPublished();
  for (auto [name, count, known] :
       {std::tuple<StringRef, std::optional<int64_t> *, int64_t>(
            "expert_group_count", &groups, published ? published->groups : 0),
        {"expert_group_used_count", &topGroups,
         published ? published->topGroups : 0}}) {
    if (*count && **count > 0)
      continue;
    if (*count) {
      *count = 1; // Zero groups: none.
      continue;
    }
    if (!known)
      return missing(full(name),
                     ", and the sizes are of no published model that would "
                     "tell it");
    *count = known;
    note("'" + full(name) + "' is missing: took " + Twine(known) +
         ", that of the published model of this size");
  }
  moe.groups = *groups;
  moe.topGroups = *topGroups;
  int64_t inGroup = moe.experts / moe.groups;
  if (moe.experts % moe.groups != 0)
    return fail(full("expert_count"), Twine(moe.experts),
                "a multiple of '" + full("expert_group_count") + "', " +
                    Twine(moe.groups));
  if (moe.topGroups > moe.groups)
    return fail(full("expert_group_used_count"), Twine(moe.topGroups),
                "at most '" + full("expert_group_count") + "', " +
                    Twine(moe.groups));
  if (moe.topK > inGroup * moe.topGroups)
    fail(full("expert_used_count"), Twine(moe.topK),
         "at most the " + Twine(inGroup * moe.topGroups) +
             " experts of the groups in use");
}

void KeyReader::readRope() {
  RopeConfig &rope = config.rope;
  std::optional<double> theta =
      optionalNumber(full("rope.freq_base"), 1.0 + 1e-6, 1e12);
  if (!theta)
    note("'" + full("rope.freq_base") + "' is missing: took 10000");
  rope.theta = theta.value_or(1e4);
  std::optional<StringRef> givenType =
      optionalString(full("rope.scaling.type"));
  std::string type = givenType.value_or("none").str();
  // Files of before August 2023 have this key and no type.
  std::optional<double> linear =
      optionalNumber(full("rope.scale_linear"), 1, 1e6);
  std::optional<double> factor =
      optionalNumber(full("rope.scaling.factor"), 0, 1e6);
  std::optional<int64_t> originalTokens = optionalInteger(
      full("rope.scaling.original_context_length"), 0, maxTokens);
  if (!ok())
    return;
  if (type == "none" && linear && *linear != 1) {
    type = "linear";
    factor = linear;
  }
  if (!givenType && type == "none" && factor && *factor != 0 && *factor != 1)
    return missing(full("rope.scaling.type"), ", but '" +
                                                  full("rope.scaling.factor") +
                                                  "', " + toText(*factor));
  if (type != "none" && (!factor || *factor < 1)) {
    if (!factor)
      return missing(full("rope.scaling.factor"));
    return fail(full("rope.scaling.factor"), toText(*factor),
                "a number from 1 to 1e+06");
  }
  // These multiply cosine and sine in llama.cpp; no converter of this family
  // writes anything else.
  for (StringRef name :
       {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_ext_factor"})
    if (std::optional<double> value = optionalNumber(full(name), -1e6, 1e6)) {
      bool isUnset = name.ends_with("ext_factor") && *value < 0;
      if (ok() && *value != 1 && !isUnset)
        return fail(full(name), toText(*value), "1");
    }
  if (type == "linear") {
    rope.type = RopeConfig::Type::Linear;
    rope.factor = *factor;
  } else if (type == "yarn") {
    rope.type = RopeConfig::Type::Yarn;
    rope.factor = *factor;
    if (!originalTokens || *originalTokens < 1)
      return missing(full("rope.scaling.original_context_length"));
    rope.originalTokens = *originalTokens;
    readYarn(rope);
  } else if (type != "none") {
    return fail(unimplemented(
        model.sourcePath() + ": '" + full("rope.scaling.type") + "' is " +
        quote(llvm::json::fixUTF8(type)) +
        ", which is not supported, expected none, linear or yarn"));
  }
  if (config.compressed) {
    // Layers with entries scale their frequencies and have another base;
    // nothing multiplies cosine and sine in either.
    rope.attentionFactor = 1;
    config.compressed->rope = rope;
    config.compressed->rope.theta =
        number("attention.compress_rope_freq_base", 1.0 + 1e-6, 1e12);
    double theta = rope.theta;
    rope = RopeConfig();
    rope.theta = theta;
  } else if (!config.latent) {
    readRopeFactors();
  }
}

/// The rest of the keys of YaRN. llama.cpp multiplies cosine and sine by
/// g(factor, 1); in deepseek2 it divides that out again, and multiplies the
/// scale of the softmax by g(factor, mscale_all_dim)^2.
void KeyReader::readYarn(RopeConfig &rope) {
  auto beta = [&](StringRef name, double otherwise) {
    std::optional<double> value = optionalNumber(full(name), 1e-6, 1e6);
    if (!value)
      note("'" + full(name) + "' is missing: took " + toText(otherwise));
    return value.value_or(otherwise);
  };
  rope.betaFast = beta("rope.scaling.yarn_beta_fast", 32);
  rope.betaSlow = beta("rope.scaling.yarn_beta_slow", 1);
  if (ok() && rope.betaFast <= rope.betaSlow)
    fail(full("rope.scaling.yarn_beta_fast"), toText(rope.betaFast),
         "more than 'rope.scaling.yarn_beta_slow', " + toText(rope.betaSlow));
  std::string key = full("rope.scaling.yarn_log_multiplier");
  std::optional<double> multiplier = optionalNumber(key, 0, 1e3);
  if (!config.latent) {
    if (multiplier && *multiplier != 0)
      return fail(key, toText(*multiplier), "none without latent attention");
    rope.attentionFactor = huggingface::yarnMScale(rope.factor, 1);
    return;
  }
  // The key is a tenth of mscale_all_dim: this is what it was a tenth of.
  double mscale = 0;
  if (multiplier) {
    std::string text;
    llvm::raw_string_ostream(text) << llvm::format("%.15g", *multiplier * 10);
    StringRef(text).getAsDouble(mscale);
  } else {
    const Published *published = findPublished();
    if (!published || published->mscale == 0)
      return missing(key, ", and the sizes are of no published model that "
                          "would tell it");
    mscale = published->mscale;
    note("'" + key + "' is missing: took a tenth of mscale_all_dim " +
         toText(mscale) + ", that of the published model of this size");
  }
  double g = huggingface::yarnMScale(rope.factor, mscale);
  rope.softmaxFactor = g * g;
}

/// Llama 3's scaling, which is stored as what it does to each frequency.
void KeyReader::readRopeFactors() {
  const Tensor *tensor = model.find("rope_freqs.weight");
  if (!tensor || !ok())
    return;
  std::string what = model.pathOf(*tensor) + ": tensor 'rope_freqs.weight'";
  if (tensor->type->name != "F32" ||
      llvm::ArrayRef<int64_t>(tensor->shape) !=
          llvm::ArrayRef<int64_t>(config.headDim / 2))
    return fail(invalid(what + " is " + tensor->type->name + " of shape " +
                        hadal::toText(tensor->shape) + ", expected F32 of [" +
                        Twine(config.headDim / 2) + "]"));
  absl::StatusOr<std::vector<float>> factors = model.readF32(*tensor);
  if (!factors.ok())
    return fail(factors.status());
  if (llvm::all_of(*factors, [](float factor) { return factor == 1; }))
    return;
  if (config.rope.type != RopeConfig::Type::Default)
    return fail(invalid(what + " is there beside '" +
                        full("rope.scaling.type") + "', expected one"));
  std::optional<RopeConfig> fitted =
      fitRopeFactors(*factors, config.rope.theta);
  if (!fitted)
    return fail(unimplemented(
        what + " has factors from " + toText((*factors).front()) + " to " +
        toText((*factors).back()) +
        " that are not those of Llama 3's rule, expected a factor for low "
        "frequencies, 1 for high ones, and its blend between"));
  config.rope = *fitted;
}

void KeyReader::readTokens() {
  // -1 stands for none.
  constexpr int64_t none = (int64_t(1) << 32) - 1;
  auto token = [&](StringRef name) -> std::optional<int64_t> {
    std::string key = ("tokenizer.ggml." + name).str();
    const KeyValue *value = model.get(key);
    if (!value || value->getInteger() == none || value->getInteger() == -1)
      return std::nullopt;
    return optionalInteger(key, 0, config.vocab - 1);
  };
  config.bosToken = token("bos_token_id");
  constexpr StringRef addsBos = "tokenizer.ggml.add_bos_token";
  if (const KeyValue *adds = model.get(addsBos);
      ok() && adds && adds->getBoolean() == true && !config.bosToken)
    return missing("tokenizer.ggml.bos_token_id",
                   ", but '" + addsBos + "' is true");
  for (StringRef name : {"eos_token_id", "eot_token_id", "eom_token_id"})
    if (std::optional<int64_t> id = token(name))
      if (!llvm::is_contained(config.eosTokens, *id))
        config.eosTokens.push_back(*id);
}

void KeyReader::checkUnknownKeys() {
  std::vector<std::string> ignored;
  for (StringRef key : model.keys()) {
    if (seen.contains(key))
      continue;
    StringRef rest = key;
    if (model.isSupplied(key) && !key.starts_with("tokenizer."))
      return fail(invalid(model.sourcePath() + ": key " + quote(key) +
                          ", which was given, is read by nothing"));
    if (!rest.consume_front(architecture) || !rest.consume_front(".")) {
      // Who made the file and how. The tokenizer's and those of splits are read
      // elsewhere.
      if (!key.starts_with("general.") && !key.starts_with("tokenizer.") &&
          !key.starts_with("split."))
        ignored.push_back(key.str());
    } else if (llvm::is_contained(ignoredKeys, rest)) {
      ignored.push_back(key.str());
    } else {
      return fail(invalid(model.sourcePath() + ": unknown key " + quote(key) +
                          " with value " + model.get(key)->toText()));
    }
  }
  if (!ignored.empty())
    note("ignored keys: " + llvm::join(ignored, ", "));
}

absl::StatusOr<Config> KeyReader::read() {
  readArchitecture();
  if (!ok())
    return status;
  readSizes();
  if (ok())
    readMoE();
  if (ok() && kind == Architecture::DeepSeek4)
    readCompressedAttention();
  else if (ok() && hasLatentAttention())
    readLatentAttention();
  else if (ok())
    readAttention();
  if (ok() && kind == Architecture::DeepSeek32)
    readIndexer();
  if (ok() && kind == Architecture::DeepSeek4)
    readHyperConnections();
  if (ok())
    readRope();
  if (ok())
    readTokens();
  if (ok())
    checkUnknownKeys();
  if (!ok())
    return status;
  return std::move(config);
}

absl::StatusOr<Config> gguf::readKeys(const Model &model,
                                      std::vector<std::string> &notes) {
  return KeyReader(model, notes).read();
}
