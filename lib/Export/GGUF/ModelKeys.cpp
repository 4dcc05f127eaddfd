// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the keys of a GGUF file say of a module's graph: the other way of
// lib/Import/GGUF/Keys.cpp. Names and meanings are those that llama.cpp
// (src/llama-model.cpp) reads and its converters write.

#include "lib/Export/GGUF/ModelKeys.h"

#include "lib/Import/HuggingFace/Config.h"
#include "lib/Import/JSON.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"

#include "llvm/Support/Format.h"

#include <cmath>

using namespace mlir;
using namespace hadal;
using namespace hadal::gguf;

namespace {
struct ArchitectureName {
  StringRef modelType, name;
  bool hasPermutedRows;
};
} // namespace

static constexpr ArchitectureName architectureNames[] = {
    {"llama", "llama", true},
    {"qwen2", "qwen2", false},
    {"deepseek", "deepseek", true},
    {"deepseek_v2", "deepseek2", false},
    {"deepseek_v3", "deepseek2", false},
    {"deepseek_v32", "deepseek32", false},
    {"deepseek_v4", "deepseek4", false}};

namespace {
class GraphReader {
public:
  GraphReader(ModuleOp module, bool isExpansionWhole, KeyWriter &keys)
      : module(module), isExpansionWhole(isExpansionWhole), keys(keys) {}

  absl::StatusOr<ModelFacts> read();

private:
  absl::Status refuse(const Twine &what) {
    return unimplemented("model '" + model.getSymName() + "' " + what +
                         ", which no architecture of GGUF files has");
  }
  std::string full(StringRef name) const {
    return (architecture->name + "." + name).str();
  }
  bool hasLatentAttention() const {
    return architecture->name == "deepseek2" ||
           architecture->name == "deepseek32";
  }
  void addInteger(StringRef name, int64_t value) {
    keys.addInteger(full(name), value);
  }
  void addNumber(StringRef name, double value) {
    keys.addNumber(full(name), value);
  }

  absl::Status findLayers();
  absl::Status addSizes();
  absl::Status addAttention();
  absl::Status addLatentAttention();
  absl::Status addIndexer(deepseek::LatentAttentionOp attention);
  absl::Status addCompressedAttention();
  absl::Status addHyperConnections();
  absl::Status addRope(deepseek::RotaryAttr rotary, double softmaxFactor);
  absl::Status addScaling(deepseek::RotaryAttr rotary, double softmaxFactor);
  absl::Status addExperts();
  void addExpertsOfV4(deepseek::ExpertsOp experts);
  absl::Status addTokens();

  ModuleOp module;
  bool isExpansionWhole;
  KeyWriter &keys;
  deepseek::ModelOp model;
  const ArchitectureName *architecture = nullptr;
  func::FuncOp entry;
  SmallVector<func::FuncOp> layers;
  /// The first layer without experts, and the first with them, if any.
  std::optional<size_t> firstDense, firstMoE;
  ModelFacts facts;
};
} // namespace

/// The first op of a kind in \p function; null if there is none.
template <typename Op> static Op findFirst(func::FuncOp function) {
  Op found;
  function.walk([&](Op op) {
    found = op;
    return WalkResult::interrupt();
  });
  return found;
}

static int64_t getColumns(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape().back();
}

absl::Status GraphReader::findLayers() {
  auto type = model.getInfo().getAs<StringAttr>("model_type");
  for (const ArchitectureName &name : architectureNames)
    if (type && name.modelType == type.getValue())
      architecture = &name;
  if (!architecture)
    return refuse("is of the type " +
                  quote(type ? type.getValue() : StringRef("")));
  SymbolTable symbols(module);
  entry = symbols.lookup<func::FuncOp>(model.getEntry());
  for (auto call : entry.getOps<func::CallOp>()) {
    auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
    bool isMoE = callee && findFirst<deepseek::ExpertsOp>(callee);
    std::optional<size_t> &first = isMoE ? firstMoE : firstDense;
    if (!first)
      first = layers.size();
    layers.push_back(callee);
  }
  if (int64_t(layers.size()) != int64_t(model.getLayers()) ||
      llvm::is_contained(layers, nullptr))
    return refuse("has " + Twine(model.getLayers()) +
                  " layers that are not as many calls");
  return absl::OkStatus();
}

absl::Status GraphReader::addSizes() {
  keys.addString("general.architecture", architecture->name);
  keys.addString("general.type", "model");
  keys.addString("general.name", model.getSymName());
  addInteger("block_count", model.getLayers());
  addInteger("context_length", model.getContextLength());
  addInteger("embedding_length", model.getHidden());
  addInteger("vocab_size", model.getVocab());
  if (firstDense) {
    auto swiglu = findFirst<deepseek::SwiGLUOp>(layers[*firstDense]);
    if (!swiglu)
      return refuse("has a layer without SwiGLU");
    addInteger("feed_forward_length", getColumns(swiglu.getResult()));
  }
  auto norm = findFirst<deepseek::RMSNormOp>(entry);
  if (!norm)
    return refuse("has no norm before the logits");
  addNumber("attention.layer_norm_rms_epsilon",
            norm.getEpsilon().convertToFloat());
  return absl::OkStatus();
}

absl::Status GraphReader::addAttention() {
  auto attention = findFirst<deepseek::AttentionOp>(layers.front());
  auto rotary = findFirst<deepseek::RotaryOp>(layers.front());
  if (!attention || !rotary)
    return refuse("has a layer without rotary attention");
  if (attention.getWindow())
    return refuse("has attention over a window");
  deepseek::KVCacheType cache = attention.getCache().getType();
  addInteger("attention.head_count", attention.getHeads());
  addInteger("attention.head_count_kv", cache.getHeads());
  addInteger("attention.key_length", cache.getKeyDim());
  addInteger("attention.value_length", cache.getValueDim());
  addInteger("rope.dimension_count", rotary.getRotary().getDim());
  if (architecture->hasPermutedRows) {
    facts.permutedHeads = attention.getHeads();
    facts.permutedKVHeads = cache.getHeads();
  }
  return addRope(rotary.getRotary(), /*softmaxFactor=*/1);
}

absl::Status GraphReader::addLatentAttention() {
  auto attention = findFirst<deepseek::LatentAttentionOp>(layers.front());
  auto rotary = findFirst<deepseek::RotaryOp>(layers.front());
  if (!attention || !rotary)
    return refuse("has a layer without latent attention");
  bool isSparse = architecture->name == "deepseek32";
  if (attention.getWindow() || bool(attention.getSelected()) != isSparse)
    return refuse("has latent attention over " +
                  Twine(isSparse ? "all" : "some") + " of the tokens");
  int64_t heads = attention.getHeads();
  int64_t rank = attention.getCache().getType().getValueDim();
  int64_t keyDim = getColumns(attention.getQuery()) / heads;
  int64_t ropeDim = getColumns(attention.getRopeKey());
  int64_t valueDim = getColumns(attention.getResult()) / heads;
  addInteger("attention.head_count", heads);
  if (Operation *query =
          SymbolTable::lookupSymbolIn(module, "layers.0.self_attn.q_a_proj"))
    addInteger("attention.q_lora_rank",
               cast<deepseek::WeightOp>(query).getWeightType().getDimSize(0));
  addInteger("attention.kv_lora_rank", rank);
  // With kv_b in halves a head has the keys and values that are cached: the
  // latent, which all heads share.
  addInteger("attention.head_count_kv", isExpansionWhole ? heads : 1);
  addInteger("attention.key_length",
             isExpansionWhole ? keyDim : rank + ropeDim);
  addInteger("attention.value_length", isExpansionWhole ? valueDim : rank);
  if (!isExpansionWhole) {
    addInteger("attention.key_length_mla", keyDim);
    addInteger("attention.value_length_mla", valueDim);
    facts.expansion = {heads, keyDim - ropeDim, valueDim};
  }
  addInteger("rope.dimension_count", ropeDim);
  if (isSparse)
    if (absl::Status status = addIndexer(attention); !status.ok())
      return status;
  double scale = attention.getScale().convertToDouble();
  return addRope(rotary.getRotary(), scale * std::sqrt(double(keyDim)));
}

absl::Status GraphReader::addIndexer(deepseek::LatentAttentionOp attention) {
  auto select = attention.getSelected().getDefiningOp<deepseek::SelectKeysOp>();
  if (!select)
    return refuse("has attention to tokens that another op chooses");
  addInteger("attention.indexer.head_count", select.getHeads());
  addInteger("attention.indexer.key_length", getColumns(select.getKey()));
  addInteger("attention.indexer.top_k", select.getTopK());
  return absl::OkStatus();
}

/// Attention over a window and compressed entries. Layers without entries
/// rotate by one rule, those with them by another.
absl::Status GraphReader::addCompressedAttention() {
  deepseek::RotaryAttr plain, compressed;
  deepseek::SelectEntriesOp select;
  deepseek::CompressedAttentionOp attention;
  for (func::FuncOp layer : layers) {
    attention = findFirst<deepseek::CompressedAttentionOp>(layer);
    auto rotary = findFirst<deepseek::RotaryOp>(layer);
    if (!attention || !rotary)
      return refuse("has a layer without compressed attention");
    (attention.getRatio() ? compressed : plain) = rotary.getRotary();
    if (!select)
      select = findFirst<deepseek::SelectEntriesOp>(layer);
  }
  auto cache =
      cast<deepseek::CompressedCacheType>(attention.getCache().getType());
  auto output = findFirst<deepseek::HeadLinearOp>(layers.front());
  Operation *query = SymbolTable::lookupSymbolIn(module, "layers.0.attn.wq_a");
  if (!output || !query)
    return refuse("has projections of attention in other matrices");
  ArrayRef<int64_t> groups = output.getWeight().getType().getShape();
  addInteger("attention.head_count", attention.getHeads());
  addInteger("attention.head_count_kv", 1);
  addInteger("attention.key_length", cache.getDim());
  addInteger("attention.value_length", cache.getDim());
  addInteger("attention.q_lora_rank",
             cast<deepseek::WeightOp>(query).getWeightType().getDimSize(0));
  addInteger("attention.output_group_count", groups[0]);
  addInteger("attention.output_lora_rank", groups[1]);
  addInteger("attention.sliding_window", attention.getWindow());
  keys.addIntegers(full("attention.compress_ratios"),
                   SmallVector<int32_t>(cache.getRatios().asArrayRef()));
  // Readers want the keys of an indexer that is not there, too.
  addInteger("attention.indexer.head_count", select ? select.getHeads() : 0);
  addInteger("attention.indexer.key_length", select ? cache.getIndexDim() : 0);
  addInteger("attention.indexer.top_k",
             select ? getColumns(select.getResult()) : 0);
  if (!plain)
    plain = compressed;
  if (!compressed)
    compressed = plain;
  addInteger("rope.dimension_count", plain.getDim());
  addNumber("rope.freq_base", plain.getTheta().getValueAsDouble());
  addNumber("attention.compress_rope_freq_base",
            compressed.getTheta().getValueAsDouble());
  if (absl::Status status = addScaling(compressed, /*softmaxFactor=*/1);
      !status.ok())
    return status;
  return addHyperConnections();
}

absl::Status GraphReader::addHyperConnections() {
  auto mix = findFirst<deepseek::HyperMixOp>(layers.front());
  if (!mix)
    return refuse("has a layer without residual streams");
  addInteger("hyper_connection.count", mix.getStreams());
  addInteger("hyper_connection.sinkhorn_iterations", mix.getIterations());
  addNumber("hyper_connection.epsilon", mix.getEpsilon().convertToFloat());
  addInteger("embedding_length_out", mix.getStreams() * model.getHidden());
  return absl::OkStatus();
}

/// \p value with so many digits as configurations have, so that what was
/// computed from one is that one again.
static double roundToDecimal(double value) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.6g", value);
  double decimal = value;
  StringRef(text).getAsDouble(decimal);
  return decimal;
}

/// Llama 3's scaling as what it divides each frequency by, computed in f32 as
/// `convert_hf_to_gguf.py` does.
static std::vector<float> makeRopeFactors(deepseek::RotaryAttr rotary,
                                          deepseek::Llama3ScalingAttr scaling) {
  constexpr float pi = 3.14159265358979323846f;
  auto toFloat = [](FloatAttr attr) { return float(attr.getValueAsDouble()); };
  float factor = toFloat(scaling.getFactor());
  float low = toFloat(scaling.getLowFreqFactor());
  float high = toFloat(scaling.getHighFreqFactor());
  auto original = float(scaling.getOriginal());
  std::vector<float> factors;
  for (int64_t i = 0; i < rotary.getDim(); i += 2) {
    float frequency = 1 / std::pow(toFloat(rotary.getTheta()),
                                   float(i) / float(rotary.getDim()));
    float wavelength = 2 * pi / frequency;
    float kept = (original / wavelength - low) / (high - low);
    if (wavelength < original / high)
      factors.push_back(1);
    else if (wavelength > original / low)
      factors.push_back(factor);
    else
      factors.push_back(1 / ((1 - kept) / factor + kept));
  }
  return factors;
}

absl::Status GraphReader::addRope(deepseek::RotaryAttr rotary,
                                  double softmaxFactor) {
  addNumber("rope.freq_base", rotary.getTheta().getValueAsDouble());
  return addScaling(rotary, softmaxFactor);
}

absl::Status GraphReader::addScaling(deepseek::RotaryAttr rotary,
                                     double softmaxFactor) {
  Attribute scaling = rotary.getScaling();
  if (!scaling)
    return absl::OkStatus();
  if (auto llama3 = dyn_cast<deepseek::Llama3ScalingAttr>(scaling)) {
    facts.ropeFactors = makeRopeFactors(rotary, llama3);
    return absl::OkStatus();
  }
  if (auto linear = dyn_cast<deepseek::LinearScalingAttr>(scaling)) {
    keys.addString(full("rope.scaling.type"), "linear");
    addNumber("rope.scaling.factor", linear.getFactor().getValueAsDouble());
    return absl::OkStatus();
  }
  auto yarn = dyn_cast<deepseek::YarnScalingAttr>(scaling);
  if (!yarn)
    return refuse("scales rotary frequencies by another rule");
  double factor = yarn.getFactor().getValueAsDouble();
  keys.addString(full("rope.scaling.type"), "yarn");
  addNumber("rope.scaling.factor", factor);
  addInteger("rope.scaling.original_context_length", yarn.getOriginal());
  addNumber("rope.scaling.yarn_beta_fast",
            yarn.getBetaFast().getValueAsDouble());
  addNumber("rope.scaling.yarn_beta_slow",
            yarn.getBetaSlow().getValueAsDouble());
  if (hasLatentAttention()) {
    // A tenth of mscale_all_dim, by which the softmax is scaled: softmaxFactor
    // is g(factor, mscale_all_dim)^2.
    double mscale = 0;
    if (factor > 1)
      mscale = (std::sqrt(softmaxFactor) - 1) /
               (huggingface::yarnMScale(factor, 1) - 1);
    addNumber("rope.scaling.yarn_log_multiplier",
              roundToDecimal(roundToDecimal(mscale) / 10));
  }
  return absl::OkStatus();
}

/// Which layers choose experts by the token, and what is cut off in all.
void GraphReader::addExpertsOfV4(deepseek::ExpertsOp experts) {
  addInteger("hash_layer_count", llvm::count_if(layers, [](func::FuncOp layer) {
               return findFirst<deepseek::HashRouterOp>(layer);
             }));
  double limit = experts.getLimit() ? experts.getLimit()->convertToDouble() : 0;
  for (StringRef name : {"swiglu_clamp_exp", "swiglu_clamp_shexp"})
    keys.addNumbers(full(name),
                    std::vector<float>(layers.size(), float(limit)));
}

absl::Status GraphReader::addExperts() {
  if (!firstMoE)
    return architecture->name.starts_with("deepseek")
               ? refuse("has no layer with experts")
               : absl::OkStatus();
  func::FuncOp layer = layers[*firstMoE];
  auto experts = findFirst<deepseek::ExpertsOp>(layer);
  auto router = findFirst<deepseek::RouterOp>(layer);
  auto table = findFirst<deepseek::HashRouterOp>(layer);
  if ((!router && !table) || (router && router.getRenormalizeFrom()))
    return refuse("has experts that another rule chooses");
  deepseek::RoutingAttr routing =
      router ? router.getRouting() : table.getRouting();
  int64_t intermediate =
      cast<RankedTensorType>(experts.getGate().getType()).getDimSize(1);
  if (architecture->name == "deepseek4")
    addExpertsOfV4(experts);
  else
    addInteger("leading_dense_block_count", int64_t(*firstMoE));
  addInteger("expert_count", routing.getExperts());
  addInteger("expert_used_count", routing.getTopK());
  addInteger("expert_feed_forward_length", intermediate);
  auto shared = findFirst<deepseek::SwiGLUOp>(layer);
  addInteger("expert_shared_count",
             shared ? getColumns(shared.getResult()) / intermediate : 0);
  addNumber("expert_weights_scale", routing.getScale().getValueAsDouble());
  if (architecture->name == "deepseek")
    return absl::OkStatus();
  keys.addBoolean(full("expert_weights_norm"), routing.getNormalize());
  addInteger("expert_gating_func",
             routing.getScoring() == deepseek::Scoring::SqrtSoftplus ? 4
             : routing.getScoring() == deepseek::Scoring::Sigmoid    ? 2
                                                                     : 1);
  if (architecture->name == "deepseek4")
    return absl::OkStatus();
  addInteger("expert_group_count", routing.getGroups());
  addInteger("expert_group_used_count", routing.getTopGroups());
  return absl::OkStatus();
}

absl::Status GraphReader::addTokens() {
  if (auto bos = model.getInfo().getAs<IntegerAttr>("bos_token_id"))
    keys.addInteger("tokenizer.ggml.bos_token_id", bos.getInt());
  auto eos = model.getInfo().getAs<DenseI64ArrayAttr>("eos_token_ids");
  if (!eos)
    return absl::OkStatus();
  constexpr StringRef names[] = {"eos", "eot", "eom"};
  if (eos.size() > int64_t(std::size(names)))
    return refuse("has " + Twine(eos.size()) + " tokens that end a text");
  for (auto [name, id] : llvm::zip(names, eos.asArrayRef()))
    keys.addInteger(("tokenizer.ggml." + name + "_token_id").str(), id);
  return absl::OkStatus();
}

absl::StatusOr<ModelFacts> GraphReader::read() {
  auto models = module.getOps<deepseek::ModelOp>();
  if (models.empty())
    return invalid("the module has no deepseek.model operation");
  model = *models.begin();
  if (absl::Status status = findLayers(); !status.ok())
    return status;
  if (absl::Status status = addSizes(); !status.ok())
    return status;
  absl::Status status = hasLatentAttention() ? addLatentAttention()
                        : architecture->name == "deepseek4"
                            ? addCompressedAttention()
                            : addAttention();
  if (!status.ok())
    return status;
  if (absl::Status status = addExperts(); !status.ok())
    return status;
  if (absl::Status status = addTokens(); !status.ok())
    return status;
  return std::move(facts);
}

absl::StatusOr<ModelFacts>
gguf::addModelKeys(ModuleOp module, bool isExpansionWhole, KeyWriter &keys) {
  return GraphReader(module, isExpansionWhole, keys).read();
}
