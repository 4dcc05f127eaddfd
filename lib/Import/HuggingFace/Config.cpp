// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a config.json says of a model's graph, checked and with defaults filled
// in. The tables come first: the keys of each family, their defaults, and those
// that must have one value because Hadal builds only what that value means.

#include "lib/Import/HuggingFace/Config.h"

#include "lib/Import/JSON.h"
#include "lib/Import/ObjectReader.h"
#include "lib/Support/CheckedMath.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>

using namespace hadal;
using namespace hadal::huggingface;
using llvm::ArrayRef;
using llvm::StringRef;
using llvm::Twine;

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

namespace {
enum Family : unsigned {
  Llama = 1,
  Qwen2 = 2,
  MoE16B = 4,
  V2 = 8,
  V3 = 16,
  V4 = 32,
  V32 = 64,
  LikeV3 = V3 | V32,
  WithMLA = V2 | LikeV3,
  WithMoE = MoE16B | WithMLA | V4,
  WithoutMLA = Llama | Qwen2 | MoE16B,
  Any = 127
};

struct FamilyInfo {
  StringRef modelType;
  Family family;
};

/// A number that the class in transformers takes where the key is missing.
struct Default {
  StringRef key;
  unsigned families;
  double value;
};

/// A key that must have this value, or be missing.
struct Fixed {
  StringRef key;
  unsigned families;
  StringRef json;
};

struct FamilyKey {
  StringRef key;
  unsigned families;
};
} // namespace

static constexpr FamilyInfo families[] = {
    {"llama", Llama},    {"qwen2", Qwen2},    {"deepseek", MoE16B},
    {"deepseek_v2", V2}, {"deepseek_v3", V3}, {"deepseek_v32", V32},
    {"deepseek_v4", V4}};

/// Architectures of the family that Hadal knows of and does not import.
static constexpr StringRef laterModelTypes[] = {
    "deepseek_v41", "deepseek_vl_v2", "multi_modality"};

static constexpr Default defaults[] = {
    {"vocab_size", Llama, 32000},
    {"vocab_size", V2, 102400},
    {"vocab_size", LikeV3, 129280},
    {"hidden_size", Llama | V2, 4096},
    {"hidden_size", LikeV3, 7168},
    {"intermediate_size", Llama | V2, 11008},
    {"intermediate_size", LikeV3, 18432},
    {"num_hidden_layers", Llama | V2, 32},
    {"num_hidden_layers", LikeV3, 61},
    {"num_attention_heads", Llama | V2, 32},
    {"num_attention_heads", LikeV3, 128},
    {"max_position_embeddings", Llama | V2, 2048},
    {"max_position_embeddings", V3, 4096},
    {"max_position_embeddings", V32, 163840},
    {"sliding_window", Qwen2, 4096},
    {"max_window_layers", Qwen2, 28},
    {"rms_norm_eps", Any, 1e-6},
    {"rope_theta", Any, 1e4},
    {"kv_lora_rank", WithMLA, 512},
    {"q_lora_rank", WithMLA, 1536},
    {"qk_rope_head_dim", WithMLA, 64},
    {"qk_nope_head_dim", WithMLA, 128},
    {"v_head_dim", WithMLA, 128},
    {"moe_intermediate_size", V2, 1407},
    {"moe_intermediate_size", LikeV3, 2048},
    {"n_shared_experts", V2, 2},
    {"n_shared_experts", LikeV3, 1},
    {"n_routed_experts", V2, 64},
    {"n_routed_experts", LikeV3, 256},
    {"num_experts_per_tok", LikeV3, 8},
    {"routed_scaling_factor", V2, 1.0},
    {"routed_scaling_factor", LikeV3, 2.5},
    {"n_group", LikeV3, 8},
    {"topk_group", LikeV3, 4},
    {"index_n_heads", V32, 64},
    {"index_head_dim", V32, 128},
    {"index_topk", V32, 2048},
    {"first_k_dense_replace", V2, 0},
    {"first_k_dense_replace", LikeV3, 3},
    {"moe_layer_freq", WithMoE, 1},
};

static constexpr Fixed fixedKeys[] = {
    {"hidden_act", Any, "\"silu\""},
    {"is_encoder_decoder", Any, "false"},
    {"add_cross_attention", Any, "false"},
    {"partial_rotary_factor", Any & ~V4, "1"},
    {"use_mrope", Qwen2, "false"},
    {"attention_bias", Qwen2, "true"},
    // Newer releases of transformers write it for these, too.
    {"mlp_bias", WithMLA | V4, "false"},
    {"use_mla", WithMLA, "true"},
    {"rope_interleave", LikeV3, "true"},
    // The remote code of MoE-16B has no such factor.
    {"routed_scaling_factor", MoE16B, "1"},
    {"topk_method", MoE16B, "\"greedy\""},
    {"scoring_func", MoE16B | V2, "\"softmax\""},
    {"scoring_func", LikeV3, "\"sigmoid\""},
    {"topk_method", LikeV3 | V4, "\"noaux_tc\""},
    {"scoring_func", V4, "\"sqrtsoftplus\""},
    {"num_key_value_heads", V4, "1"},
    {"attention_bias", V4, "false"},
    {"n_group", V4, "1"},
    {"topk_group", V4, "1"},
};

/// Keys that change nothing in what the model computes: how it was trained or
/// run, who wrote the file, and text handling that the tokenizer's files say.
static constexpr FamilyKey ignoredKeys[] = {
    {"architectures", Any},
    {"attention_dropout", Any},
    {"attn_implementation", Any},
    {"aux_loss_alpha", Any},
    {"auto_map", Any},
    {"do_sample", Any},
    {"embd_pdrop", Any},
    {"ep_size", Any},
    {"finetuning_task", Any},
    {"gradient_checkpointing", Any},
    {"hidden_dropout", Any},
    {"initializer_range", Any},
    {"is_decoder", Any},
    {"max_length", Any},
    {"max_new_tokens", Any},
    {"model_max_length", Any},
    {"name_or_path", Any},
    {"output_attentions", Any},
    {"output_hidden_states", Any},
    {"output_router_logits", Any},
    {"pad_token_id", Any},
    {"pretraining_tp", Any},
    {"problem_type", Any},
    {"resid_pdrop", Any},
    {"return_dict", Any},
    {"router_aux_loss_coef", Any},
    {"seq_aux", Any},
    {"task_specific_params", Any},
    {"temperature", Any},
    {"tokenizer_class", Any},
    {"top_k", Any},
    {"top_p", Any},
    {"torchscript", Any},
    {"transformers_version", Any},
    {"unsloth_fixed", Any},
    {"unsloth_version", Any},
    {"use_bfloat16", Any},
    {"use_cache", Any},
    // Every layer has experts.
    {"intermediate_size", V4},
    // Every MLA head has its own keys, expanded from the latent.
    {"num_key_value_heads", WithMLA},
};

//===----------------------------------------------------------------------===//
// Reader
//===----------------------------------------------------------------------===//

namespace {
class ConfigReader : ObjectReader {
public:
  ConfigReader(const llvm::json::Object &json, StringRef path,
               std::vector<std::string> &notes)
      : ObjectReader(json, path.str(), firstError), json(json), notes(notes) {}

  absl::StatusOr<Config> read();

private:
  void note(const Twine &text) { notes.push_back(text.str()); }
  /// Marks a key that what was read before makes meaningless.
  void ignore(StringRef key) {
    get(key);
    if (has(key))
      ignored.push_back(key.str());
  }

  using ObjectReader::boolean;
  using ObjectReader::integer;
  using ObjectReader::number;
  std::optional<double> defaultOf(StringRef key);
  int64_t integer(StringRef key, int64_t min, int64_t max);
  int64_t dimension(StringRef key) { return integer(key, 1, maxDimension); }
  double number(StringRef key, double min, double max);
  bool boolean(StringRef key, bool fallback);
  /// Requires that a product of keys, such as heads times their width, is a
  /// dimension that Hadal takes.
  void checkProduct(StringRef keys, int64_t a, int64_t b);

  Family readFamily();
  void readSizes();
  void readAttention();
  void readWindow();
  void readLatentAttention();
  void readCompressedAttention();
  void readRatios(CompressedConfig &compressed);
  void readHyperConnections();
  void readIndexer();
  void readMoE();
  void readRouting(MoEConfig &moe);
  void readRope();
  void readQuantization();
  void readDType();
  void readTokens();
  void checkFixedKeys();
  void checkLayerTypes();
  void checkMLPLayerTypes();
  void checkUnknownKeys();

  const llvm::json::Object &json;
  std::vector<std::string> &notes;
  std::vector<std::string> ignored;
  absl::Status firstError;
  Family family = Llama;
  Config config;
};
} // namespace

std::optional<double> ConfigReader::defaultOf(StringRef key) {
  for (const Default &entry : defaults)
    if (entry.key == key && (entry.families & family))
      return entry.value;
  return std::nullopt;
}

int64_t ConfigReader::integer(StringRef key, int64_t min, int64_t max) {
  if (const llvm::json::Value *value = get(key))
    return integer(key, *value, min, max);
  std::optional<double> fallback = defaultOf(key);
  if (has(key) || !fallback) {
    missing(key);
    return min;
  }
  auto taken = int64_t(*fallback);
  // Of other sizes than those of the model that the default is of.
  if (taken < min || taken > max) {
    fail(key, "missing and " + Twine(taken) + " by default",
         "an integer from " + Twine(min) + " to " + Twine(max));
    return min;
  }
  note("'" + key + "' is missing: took " + Twine(taken) + ", the default of " +
       config.modelType);
  return taken;
}

double ConfigReader::number(StringRef key, double min, double max) {
  if (const llvm::json::Value *value = get(key))
    return number(key, *value, min, max);
  std::optional<double> fallback = defaultOf(key);
  if (has(key) || !fallback) {
    missing(key);
    return min;
  }
  note("'" + key + "' is missing: took " + toText(*fallback) +
       ", the default of " + config.modelType);
  return *fallback;
}

bool ConfigReader::boolean(StringRef key, bool fallback) {
  if (const llvm::json::Value *value = get(key))
    return boolean(key, *value);
  if (has(key))
    missing(key);
  else
    note("'" + key + "' is missing: took " + (fallback ? "true" : "false") +
         ", the default of " + config.modelType);
  return fallback;
}

void ConfigReader::checkProduct(StringRef keys, int64_t a, int64_t b) {
  if (a * b > maxDimension)
    fail(invalid(place() + ": " + keys + " is " + Twine(a) + " x " + Twine(b) +
                 ", expected at most " + Twine(maxDimension)));
}

//===----------------------------------------------------------------------===//
// Keys
//===----------------------------------------------------------------------===//

Family ConfigReader::readFamily() {
  const llvm::json::Value *value = get("model_type");
  if (!value) {
    missing("model_type");
    return Llama;
  }
  config.modelType = string("model_type", *value);
  for (const FamilyInfo &info : families)
    if (info.modelType == config.modelType)
      return info.family;
  if (!ok())
    return Llama;
  std::string supported;
  for (const FamilyInfo &info : families)
    supported += (supported.empty() ? "" : ", ") + info.modelType.str();
  bool isLater = llvm::is_contained(laterModelTypes, config.modelType);
  fail(unimplemented(place() + ": model_type " + quote(config.modelType) +
                     (isLater ? " is not supported yet" : " is not known") +
                     ", expected one of " + supported));
  return Llama;
}

void ConfigReader::readSizes() {
  config.vocab = dimension("vocab_size");
  config.hidden = dimension("hidden_size");
  if (!(family & V4))
    config.intermediate = dimension("intermediate_size");
  config.layers = integer("num_hidden_layers", 1, maxLayers);
  config.heads = dimension("num_attention_heads");
  config.maxPositions = integer("max_position_embeddings", 1, maxTokens);
  config.normEpsilon = number("rms_norm_eps", 1e-30, 1);
  config.tiedEmbeddings = boolean("tie_word_embeddings", false);
}

void ConfigReader::readAttention() {
  config.kvHeads = config.heads;
  if (const llvm::json::Value *value = get("num_key_value_heads"))
    config.kvHeads = integer("num_key_value_heads", *value, 1, maxDimension);
  else
    note("'num_key_value_heads' is missing: took num_attention_heads, " +
         Twine(config.heads));
  if (config.heads % config.kvHeads != 0)
    fail("num_attention_heads", Twine(config.heads),
         "a multiple of 'num_key_value_heads', " + Twine(config.kvHeads));
  if (const llvm::json::Value *value = get("head_dim")) {
    config.headDim = integer("head_dim", *value, 1, maxDimension);
    // MoE-16B's remote code does not read it.
    if (family == MoE16B && config.headDim * config.heads != config.hidden)
      fail("head_dim", Twine(config.headDim),
           "hidden_size / num_attention_heads, " + Twine(config.hidden) +
               " / " + Twine(config.heads));
  } else {
    config.headDim = config.hidden / config.heads;
    if (config.hidden % config.heads != 0)
      fail("hidden_size", Twine(config.hidden),
           "a multiple of 'num_attention_heads', " + Twine(config.heads));
  }
  if (ok() && config.headDim % 2 != 0)
    fail(invalid(place() + ": the width of a head is " + Twine(config.headDim) +
                 ", expected an even number, for rotary embedding"));
  checkProduct("num_attention_heads x head_dim", config.heads, config.headDim);
  if (family == Qwen2) {
    config.qkvBias = true;
    readWindow();
  } else {
    config.qkvBias = config.outputBias = boolean("attention_bias", false);
  }
  if (family == Llama)
    if (const llvm::json::Value *value = get("mlp_bias"))
      config.mlpBias = boolean("mlp_bias", *value);
  readRope();
}

/// transformers' Qwen2Config: layers from `max_window_layers` on have a window,
/// unless `layer_types` says which.
void ConfigReader::readWindow() {
  const llvm::json::Value *uses = get("use_sliding_window");
  if (!uses || !boolean("use_sliding_window", *uses) ||
      (has("sliding_window") && !get("sliding_window"))) {
    ignore("sliding_window");
    ignore("max_window_layers");
    return;
  }
  config.windowTokens = integer("sliding_window", 1, maxTokens);
  int64_t first = integer("max_window_layers", 0, maxLayers);
  for (int64_t layer = 0; layer < config.layers; ++layer)
    config.windowedLayers.push_back(layer >= first);
}

void ConfigReader::readLatentAttention() {
  LatentConfig &latent = config.latent.emplace();
  // Null means one q_proj; only a missing key means the default.
  if (get("q_lora_rank") || !has("q_lora_rank"))
    latent.queryRank = dimension("q_lora_rank");
  latent.rank = dimension("kv_lora_rank");
  latent.nopeDim = dimension("qk_nope_head_dim");
  latent.ropeDim = dimension("qk_rope_head_dim");
  latent.valueDim = dimension("v_head_dim");
  if (ok() && latent.ropeDim % 2 != 0)
    fail("qk_rope_head_dim", Twine(latent.ropeDim), "an even number");
  int64_t queryDim = latent.nopeDim + latent.ropeDim;
  checkProduct("num_attention_heads x (qk_nope_head_dim + qk_rope_head_dim)",
               config.heads, queryDim);
  checkProduct("num_attention_heads x (qk_nope_head_dim + v_head_dim)",
               config.heads, latent.nopeDim + latent.valueDim);
  // Newer releases of transformers write what they derive.
  for (auto [key, expected] :
       {std::pair<StringRef, int64_t>("qk_head_dim", queryDim),
        {"head_dim", latent.ropeDim}})
    if (const llvm::json::Value *value = get(key))
      if (int64_t size = integer(key, *value, 1, maxDimension);
          ok() && size != expected)
        fail(key, Twine(size), Twine(expected));
  config.latentBias = config.outputBias = boolean("attention_bias", false);
  readRope();
}

void ConfigReader::readCompressedAttention() {
  CompressedConfig &compressed = config.compressed.emplace();
  config.kvHeads = 1;
  config.headDim = dimension("head_dim");
  compressed.queryRank = dimension("q_lora_rank");
  compressed.ropeDim = dimension("qk_rope_head_dim");
  compressed.outputRank = dimension("o_lora_rank");
  compressed.outputGroups = dimension("o_groups");
  compressed.window = integer("sliding_window", 1, maxTokens);
  checkProduct("num_attention_heads x head_dim", config.heads, config.headDim);
  checkProduct("o_groups x o_lora_rank", compressed.outputGroups,
               compressed.outputRank);
  if (ok() && config.heads % compressed.outputGroups != 0)
    fail("num_attention_heads", Twine(config.heads),
         "a multiple of 'o_groups', " + Twine(compressed.outputGroups));
  if (ok() && compressed.ropeDim % 2 != 0)
    fail("qk_rope_head_dim", Twine(compressed.ropeDim), "an even number");
  readRatios(compressed);
  if (llvm::is_contained(compressed.ratios,
                         CompressedConfig::overlappingRatio)) {
    compressed.indexHeads = dimension("index_n_heads");
    compressed.indexDim = dimension("index_head_dim");
    compressed.indexTopK = dimension("index_topk");
    checkProduct("index_n_heads x index_head_dim", compressed.indexHeads,
                 compressed.indexDim);
    if (ok() && compressed.indexDim <= compressed.ropeDim)
      fail("index_head_dim", Twine(compressed.indexDim),
           "more than 'qk_rope_head_dim', " + Twine(compressed.ropeDim));
  } else {
    for (StringRef key : {"index_n_heads", "index_head_dim", "index_topk"})
      ignore(key);
    compressed.indexDim = 1;
  }
  // No model rotates whole heads by neighbors.
  if (ok() && config.headDim <= compressed.ropeDim)
    fail("head_dim", Twine(config.headDim),
         "more than 'qk_rope_head_dim', " + Twine(compressed.ropeDim));
  if (const llvm::json::Value *value = get("partial_rotary_factor"))
    if (double share = number("partial_rotary_factor", *value, 0, 1);
        ok() && share * double(config.headDim) != double(compressed.ropeDim))
      fail("partial_rotary_factor", toText(*value),
           "'qk_rope_head_dim' / 'head_dim', " + Twine(compressed.ropeDim) +
               " / " + Twine(config.headDim));
  readRope();
  // Layers with entries scale their frequencies and have another base; nothing
  // multiplies cosine and sine in either.
  compressed.rope = config.rope;
  compressed.rope.theta = number("compress_rope_theta", 1.0 + 1e-6, 1e12);
  compressed.rope.attentionFactor = 1;
  RopeConfig plain;
  plain.theta = config.rope.theta;
  config.rope = plain;
}

void ConfigReader::readRatios(CompressedConfig &compressed) {
  constexpr StringRef key = "compress_ratios";
  const llvm::json::Value *value = get(key);
  if (!value)
    return missing(key);
  const llvm::json::Array *ratios = value->getAsArray();
  if (!ratios || int64_t(ratios->size()) < config.layers)
    return fail(key, toText(*value),
                "a list of at least 'num_hidden_layers', " +
                    Twine(config.layers) + " numbers");
  for (const llvm::json::Value &ratio : *ratios) {
    int64_t tokens = integer(key, ratio, 0, 128);
    if (ok() && tokens != 0 && tokens != 4 && tokens != 128)
      return fail(unimplemented(place() + ": '" + key + "' has " +
                                Twine(tokens) +
                                ", expected only 0, 4 and 128"));
    if (int64_t(compressed.ratios.size()) < config.layers)
      compressed.ratios.push_back(tokens);
  }
}

void ConfigReader::readHyperConnections() {
  HyperConfig &hyper = config.hyper.emplace();
  hyper.streams = integer("hc_mult", 1, 8);
  hyper.iterations = integer("hc_sinkhorn_iters", 1, 1000);
  hyper.epsilon = number("hc_eps", 1e-30, 1);
  checkProduct("hc_mult x hidden_size", hyper.streams, config.hidden);
}

void ConfigReader::readIndexer() {
  IndexerConfig &indexer = config.indexer.emplace();
  indexer.heads = dimension("index_n_heads");
  indexer.dim = dimension("index_head_dim");
  indexer.topK = dimension("index_topk");
  checkProduct("index_n_heads x index_head_dim", indexer.heads, indexer.dim);
  if (const llvm::json::Value *value = get("indexer_rope_interleave"))
    indexer.isInterleaved = boolean("indexer_rope_interleave", *value);
  if (!ok())
    return;
  int64_t least = config.latent->ropeDim + indexer.isInterleaved;
  if (indexer.dim < least)
    fail("index_head_dim", Twine(indexer.dim),
         (indexer.isInterleaved ? "more than" : "at least") +
             Twine(" 'qk_rope_head_dim', ") + Twine(config.latent->ropeDim));
  if (!config.latent->queryRank)
    fail("q_lora_rank", "null", "a number, since the indexer reads the latent");
}

void ConfigReader::readMoE() {
  // Null means no layer with experts.
  if (!get("n_routed_experts") &&
      (has("n_routed_experts") || !defaultOf("n_routed_experts"))) {
    note("'n_routed_experts' is " +
         StringRef(has("n_routed_experts") ? "null" : "missing") +
         ": no layer has experts");
    for (StringRef key :
         {"num_experts_per_tok", "moe_intermediate_size", "n_shared_experts",
          "first_k_dense_replace", "moe_layer_freq", "n_group", "topk_group",
          "norm_topk_prob", "routed_scaling_factor", "topk_method"})
      ignore(key);
    return;
  }
  MoEConfig &moe = config.moe.emplace();
  moe.experts = integer("n_routed_experts", 1, maxExperts);
  moe.topK = integer("num_experts_per_tok", 1, moe.experts);
  moe.intermediate = dimension("moe_intermediate_size");
  if (get("n_shared_experts") ||
      (!has("n_shared_experts") && defaultOf("n_shared_experts")))
    moe.sharedExperts = integer("n_shared_experts", 0, maxExperts);
  checkProduct("moe_intermediate_size x n_shared_experts", moe.intermediate,
               moe.sharedExperts);
  if (family & V4) {
    moe.hashLayers = integer("num_hash_layers", 0, maxLayers);
    // Null means no limit.
    if (get("swiglu_limit") || !has("swiglu_limit"))
      moe.limit = number("swiglu_limit", 1e-6, 1e6);
    if (const llvm::json::Value *value = get("expert_dtype")) {
      std::string dtype = string("expert_dtype", *value);
      moe.isFP4 = dtype == "fp4";
      if (ok() && dtype != "fp4" && dtype != "fp8")
        fail("expert_dtype", toText(*value), "\"fp4\" or \"fp8\"");
    }
    return readRouting(moe);
  }
  moe.firstDense = integer("first_k_dense_replace", 0, maxLayers);
  moe.layerFreq = integer("moe_layer_freq", 1, maxLayers);
  readRouting(moe);
}

void ConfigReader::readRouting(MoEConfig &moe) {
  using deepseek::Scoring;
  using deepseek::TopKMethod;
  moe.normalize = boolean("norm_topk_prob", (family & (LikeV3 | V4)) != 0);
  if (family == MoE16B) {
    // Remote code: only if there is more than one weight to normalize.
    moe.normalize &= moe.topK > 1;
    return;
  }
  moe.scale = number("routed_scaling_factor", 1e-6, 1e6);
  if (family == V4) {
    moe.scoring = Scoring::SqrtSoftplus;
    moe.method = TopKMethod::NoAuxTC;
    return;
  }
  if (family & LikeV3) {
    moe.scoring = Scoring::Sigmoid;
    moe.method = TopKMethod::NoAuxTC;
  } else {
    const llvm::json::Value *value = get("topk_method");
    std::string method = value ? string("topk_method", *value) : "greedy";
    if (!value)
      note("'topk_method' is missing: took \"greedy\", the default of " +
           config.modelType);
    if (method == "group_limited_greedy")
      moe.method = TopKMethod::GroupLimitedGreedy;
    else if (method != "greedy" && ok())
      fail(unimplemented(place() + ": topk_method " + quote(method) +
                         " is not supported for " + config.modelType +
                         ", expected \"greedy\" or \"group_limited_greedy\""));
    if (moe.normalize && moe.topK > 1)
      fail(unimplemented(
          place() + ": 'norm_topk_prob' is true, expected false: the model's "
                    "own code normalizes the weights of experts and does not "
                    "scale them, transformers' deepseek_v2 does the contrary"));
    moe.normalize = false;
  }
  if (moe.method == TopKMethod::Greedy) {
    ignore("n_group");
    ignore("topk_group");
    return;
  }
  moe.groups = integer("n_group", 1, moe.experts);
  moe.topGroups = integer("topk_group", 1, moe.groups);
  if (!ok())
    return;
  int64_t inGroup = moe.experts / moe.groups;
  if (moe.experts % moe.groups != 0)
    fail("n_routed_experts", Twine(moe.experts),
         "a multiple of 'n_group', " + Twine(moe.groups));
  else if (moe.topK > inGroup * moe.topGroups)
    fail("num_experts_per_tok", Twine(moe.topK),
         "at most the " + Twine(inGroup * moe.topGroups) +
             " experts of 'topk_group' groups");
  else if ((family & LikeV3) && moe.groups > 1 && inGroup < 2)
    fail("n_group", Twine(moe.groups),
         "groups of at least two of " + Twine(moe.experts) + " experts");
}

double huggingface::yarnMScale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void ConfigReader::readRope() {
  RopeConfig &rope = config.rope;
  const llvm::json::Value *scaling = get("rope_scaling");
  const llvm::json::Value *parameters = get("rope_parameters");
  if (scaling && parameters)
    return fail(invalid(place() + ": has both 'rope_scaling' and "
                                  "'rope_parameters', expected one"));
  StringRef name = parameters ? "rope_parameters" : "rope_scaling";
  const llvm::json::Value *given = parameters ? parameters : scaling;
  static const llvm::json::Object none;
  const llvm::json::Object *object = given ? given->getAsObject() : &none;
  if (!object)
    return fail(name, toText(*given), "an object");
  ObjectReader reader(*object, place() + ": " + name.str(), firstError);

  constexpr double minTheta = 1.0 + 1e-6, maxTheta = 1e12;
  const llvm::json::Value *inner = reader.get("rope_theta");
  const llvm::json::Value *outer = get("rope_theta");
  if (inner) {
    rope.theta = reader.number("rope_theta", *inner, minTheta, maxTheta);
    if (outer && number("rope_theta", *outer, minTheta, maxTheta) != rope.theta)
      fail("rope_theta", toText(*outer),
           toText(*inner) + " as in '" + name + "'");
  } else {
    rope.theta = number("rope_theta", minTheta, maxTheta);
  }

  const llvm::json::Value *type = reader.get("rope_type");
  const llvm::json::Value *alias = reader.get("type");
  if (type && alias && *type != *alias)
    return reader.fail("type", toText(*alias),
                       toText(*type) + " as 'rope_type'");
  type = type ? type : alias;
  std::string typeName = type ? reader.string("rope_type", *type) : "default";
  if (!type && given && !object->empty() && !parameters)
    return reader.missing("rope_type");

  auto numberOf = [&](StringRef key, std::optional<double> fallback, double min,
                      double max) {
    if (const llvm::json::Value *value = reader.get(key))
      return reader.number(key, *value, min, max);
    if (!fallback)
      reader.missing(key);
    return fallback.value_or(min);
  };
  auto originalTokens = [&] {
    constexpr StringRef key = "original_max_position_embeddings";
    if (const llvm::json::Value *value = reader.get(key))
      return reader.integer(key, *value, 1, maxTokens);
    reader.missing(key);
    return int64_t(1);
  };
  if (typeName == "linear") {
    rope.type = RopeConfig::Type::Linear;
    rope.factor = numberOf("factor", std::nullopt, 1, 1e6);
  } else if (typeName == "llama3") {
    rope.type = RopeConfig::Type::Llama3;
    rope.factor = numberOf("factor", std::nullopt, 1, 1e6);
    rope.lowFreqFactor = numberOf("low_freq_factor", std::nullopt, 1e-6, 1e6);
    rope.highFreqFactor = numberOf("high_freq_factor", std::nullopt, 1e-6, 1e6);
    rope.originalTokens = originalTokens();
    if (ok() && rope.highFreqFactor <= rope.lowFreqFactor)
      reader.fail("high_freq_factor", toText(*reader.get("high_freq_factor")),
                  "more than 'low_freq_factor', " +
                      toText(*reader.get("low_freq_factor")));
  } else if (typeName == "yarn") {
    rope.type = RopeConfig::Type::Yarn;
    rope.factor = numberOf("factor", std::nullopt, 1, 1e6);
    rope.originalTokens = originalTokens();
    rope.betaFast = numberOf("beta_fast", 32, 1e-6, 1e6);
    rope.betaSlow = numberOf("beta_slow", 1, 1e-6, 1e6);
    if (ok() && rope.betaFast <= rope.betaSlow)
      reader.fail("beta_fast", toText(rope.betaFast),
                  "more than 'beta_slow', " + toText(rope.betaSlow));
    double mscale = numberOf("mscale", 0, 0, 1e3);
    double mscaleAll = numberOf("mscale_all_dim", 0, 0, 1e3);
    if (const llvm::json::Value *value = reader.get("attention_factor"))
      rope.attentionFactor =
          reader.number("attention_factor", *value, 1e-6, 1e6);
    else if (mscale != 0 && mscaleAll != 0)
      rope.attentionFactor =
          yarnMScale(rope.factor, mscale) / yarnMScale(rope.factor, mscaleAll);
    else
      rope.attentionFactor = yarnMScale(rope.factor, 1);
    if (config.latent && mscaleAll != 0) {
      double g = yarnMScale(rope.factor, mscaleAll);
      rope.softmaxFactor = g * g;
    }
    if (const llvm::json::Value *value = reader.get("truncate"))
      rope.truncate = reader.boolean("truncate", *value);
  } else if (typeName != "default" && ok()) {
    return fail(unimplemented(
        reader.place() + ": rope_type " + quote(typeName) +
        " is not supported, expected default, linear, llama3 or yarn"));
  }
  if (const llvm::json::Value *value = reader.get("partial_rotary_factor"))
    if (reader.number("partial_rotary_factor", *value, 0, 1) != 1)
      reader.fail("partial_rotary_factor", toText(*value), "1");
  for (StringRef key : reader.unseen())
    reader.fail(invalid(reader.place() + ": unknown key " + quote(key) +
                        " with value " + toText(*object->get(key)) +
                        " for rope_type " + quote(typeName)));
}

void ConfigReader::readQuantization() {
  const llvm::json::Value *value = get("quantization_config");
  if (!value)
    return;
  const llvm::json::Object *object = value->getAsObject();
  if (!object)
    return fail("quantization_config", toText(*value), "an object");
  ObjectReader reader(*object, place() + ": quantization_config", firstError);
  const llvm::json::Value *method = reader.get("quant_method");
  if (!method)
    return reader.missing("quant_method");
  if (std::string name = reader.string("quant_method", *method);
      ok() && name != "fp8") {
    config.packed = readPackedConfig(name, *object, reader, firstError, notes);
    if (!config.packed)
      fail(unimplemented(reader.place() + ": quant_method " + quote(name) +
                         " is not supported, expected \"fp8\", \"gptq\", "
                         "\"awq\" or \"compressed-tensors\""));
    return;
  }
  auto expect = [&](StringRef key, ArrayRef<StringRef> choices, bool required) {
    const llvm::json::Value *value = reader.get(key);
    if (!value && required)
      return reader.missing(key);
    if (value && !llvm::is_contained(choices, toText(*value)))
      reader.fail(key, toText(*value), llvm::join(choices, " or "));
  };
  // Other releases of transformers leave fmt out and have only this one.
  expect("fmt", {"\"e4m3\""}, false);
  expect("weight_block_size", {"[128,128]"}, true);
  expect("activation_scheme", {"\"dynamic\""}, false);
  expect("scale_fmt", {"\"ue8m0\"", "\"float\""}, false);
  // Of transformers 5, which says here once more what experts are, and how it
  // would load the weights, which is not what they are.
  expect("expert_dtype",
         {config.moe && config.moe->isFP4 ? "\"fp4\"" : "\"fp8\""}, false);
  expect("dequantize", {"false", "true"}, false);
  for (StringRef key : {"modules_to_not_convert", "modules_to_convert"}) {
    const llvm::json::Value *modules = reader.get(key);
    if (!modules)
      continue;
    const llvm::json::Array *names = modules->getAsArray();
    if (!names || !llvm::all_of(*names, [](const llvm::json::Value &name) {
          return name.getAsString().has_value();
        }))
      reader.fail(key, toText(*modules), "a list of strings");
    note("quantization_config: which matrices are FP8 is read from the "
         "tensors, not from '" +
         key + "'; without tensors, all are");
  }
  for (StringRef key : reader.unseen())
    if (!key.starts_with("_"))
      reader.fail(invalid(reader.place() + ": unknown key " + quote(key) +
                          " with value " + toText(*object->get(key))));
  config.isFP8 = true;
  note("quantization_config: weights stay in FP8; activations, which its "
       "activation_scheme would round too, do not");
}

void ConfigReader::readDType() {
  const llvm::json::Value *oldValue = get("torch_dtype");
  const llvm::json::Value *newValue = get("dtype");
  StringRef key = newValue ? "dtype" : "torch_dtype";
  const llvm::json::Value *value = newValue ? newValue : oldValue;
  if (!value)
    return note("'torch_dtype' is missing: took \"bfloat16\"");
  if (oldValue && newValue && *oldValue != *newValue)
    return fail("dtype", toText(*newValue),
                toText(*oldValue) + " as 'torch_dtype'");
  StringRef name = value->getAsString().value_or("");
  if (name == "bfloat16")
    config.dtype = TorchDType::BFloat16;
  else if (name == "float16")
    config.dtype = TorchDType::Float16;
  else if (name == "float32")
    config.dtype = TorchDType::Float32;
  else
    fail(key, toText(*value), "\"bfloat16\", \"float16\" or \"float32\"");
}

void ConfigReader::readTokens() {
  if (const llvm::json::Value *value = get("bos_token_id"))
    config.bosToken = integer("bos_token_id", *value, 0, maxTokens);
  const llvm::json::Value *value = get("eos_token_id");
  if (!value)
    return;
  if (const llvm::json::Array *array = value->getAsArray()) {
    for (const llvm::json::Value &token : *array)
      config.eosTokens.push_back(integer("eos_token_id", token, 0, maxTokens));
    return;
  }
  config.eosTokens.push_back(integer("eos_token_id", *value, 0, maxTokens));
}

/// True if \p value is \p expected: numbers by value, so that 1 is 1.0.
static bool isValue(const llvm::json::Value &value, StringRef expected) {
  double number;
  if (std::optional<double> given = value.getAsNumber())
    return !expected.getAsDouble(number) && *given == number;
  return toText(value) == expected;
}

void ConfigReader::checkFixedKeys() {
  for (const Fixed &fixed : fixedKeys)
    if (fixed.families & family)
      if (const llvm::json::Value *value = get(fixed.key))
        if (!isValue(*value, fixed.json))
          fail(fixed.key, toText(*value),
               fixed.json + ", the only value supported for " +
                   config.modelType);
}

void ConfigReader::checkLayerTypes() {
  const llvm::json::Value *value = get("layer_types");
  if (!value)
    return;
  const llvm::json::Array *types = value->getAsArray();
  if (!types || int64_t(types->size()) != config.layers)
    return fail("layer_types", toText(*value),
                "a list of " + Twine(config.layers) + " strings");
  for (auto [layer, type] : llvm::enumerate(*types)) {
    llvm::SmallVector<StringRef> expected = {"\"full_attention\""};
    if (config.windowTokens) {
      expected.push_back("\"sliding_attention\"");
      config.windowedLayers[layer] = isValue(type, expected.back());
    }
    if (config.indexer) // In older and newer releases of transformers.
      expected = {"\"deepseek_sparse_attention\"", "\"indexed_attention\""};
    if (config.compressed && ok()) {
      int64_t ratio = config.compressed->ratios[layer];
      expected = {ratio == 0   ? "\"sliding_attention\""
                  : ratio == 4 ? "\"compressed_sparse_attention\""
                               : "\"heavily_compressed_attention\""};
    }
    if (llvm::none_of(expected, [&, &type = type](StringRef one) {
          return isValue(type, one);
        }))
      return fail("layer_types", "a list with " + toText(type),
                  llvm::join(expected, " or ") + " for layer " + Twine(layer));
  }
}

/// transformers writes for deepseek_v32 which layers have experts.
void ConfigReader::checkMLPLayerTypes() {
  const llvm::json::Value *value = get("mlp_layer_types");
  if (!value)
    return;
  const llvm::json::Array *types = value->getAsArray();
  if (!types || int64_t(types->size()) != config.layers)
    return fail("mlp_layer_types", toText(*value),
                "a list of " + Twine(config.layers) + " strings");
  for (auto [layer, type] : llvm::enumerate(*types)) {
    StringRef expected =
        config.isMoELayer(int64_t(layer)) ? "\"sparse\"" : "\"dense\"";
    if (!isValue(type, expected))
      return fail("mlp_layer_types", "a list with " + toText(type),
                  expected + " for layer " + Twine(layer));
  }
}

void ConfigReader::checkUnknownKeys() {
  for (StringRef key : unseen()) {
    bool isKnown = key.starts_with("_") ||
                   llvm::any_of(ignoredKeys, [&](const FamilyKey &entry) {
                     return entry.key == key && (entry.families & family);
                   });
    if (!isKnown)
      return fail(invalid(place() + ": unknown key " + quote(key) +
                          " with value " + toText(*json.get(key)) +
                          " for model_type " + quote(config.modelType)));
    ignored.push_back(key.str());
  }
  llvm::sort(ignored);
  if (!ignored.empty())
    note("ignored keys: " + llvm::join(ignored, ", "));
}

absl::StatusOr<Config> ConfigReader::read() {
  config.path = place();
  family = readFamily();
  if (!ok())
    return firstError;
  readSizes();
  if (family & WithMLA)
    readLatentAttention();
  else if (family & V4)
    readCompressedAttention();
  else
    readAttention();
  if (family & V4)
    readHyperConnections();
  if (family & WithMoE)
    readMoE();
  if (family & V32)
    readIndexer();
  if (family & (LikeV3 | V4))
    if (const llvm::json::Value *value = get("num_nextn_predict_layers"))
      config.mtpLayers =
          integer("num_nextn_predict_layers", *value, 0, maxLayers);
  readQuantization();
  readDType();
  readTokens();
  checkFixedKeys();
  checkLayerTypes();
  if (family & V32)
    checkMLPLayerTypes();
  checkUnknownKeys();
  if (!ok())
    return firstError;
  return std::move(config);
}

absl::StatusOr<Config>
huggingface::readConfig(const llvm::json::Object &json, StringRef path,
                        std::vector<std::string> &notes) {
  return ConfigReader(json, path, notes).read();
}
