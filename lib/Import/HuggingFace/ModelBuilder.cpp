// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A checked configuration and the tensors of a checkpoint become a module: the
// weights of every layer, a function per distinct layer, and the entry point
// that calls them in order.

#include "lib/Import/HuggingFace/ModelBuilder.h"

#include "lib/Import/JSON.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Verifier.h"

#include "llvm/ADT/MapVector.h"

#include <cmath>

using namespace mlir;
using namespace hadal;
using namespace hadal::huggingface;

/// Fixed in the code of every generation with MLA, whatever rms_norm_eps is.
constexpr double latentNormEpsilon = 1e-6;
/// Weights in a module, so that sums of bytes stay far below 2^63.
constexpr int64_t maxParameters = int64_t(1) << 56;

namespace {
/// A weight of a layer, by its name within the layer, such as
/// `self_attn.q_proj`; `self_attn.q_proj.bias` and `.scales` stand beside it.
struct LayerWeight {
  std::string name;
  StringAttr symbol;
  RankedTensorType type;
};

/// What makes two layers the same function: its kind, its window and its
/// weights.
using LayerKey =
    std::pair<deepseek::WindowAttr, std::vector<std::pair<std::string, Type>>>;

/// The arguments of a layer function, and how its body is written.
struct LayerBody {
  OpBuilder builder;
  Value positions, sequences, cache, layer;
  llvm::StringMap<Value> weights;
};

class ModelBuilder {
public:
  ModelBuilder(MLIRContext &context, const Config &config, TensorStore *store,
               int64_t contextTokens, std::vector<std::string> &notes)
      : config(config), store(store), contextTokens(contextTokens),
        notes(notes), builder(&context),
        module(ModuleOp::create(builder.getUnknownLoc())) {
    builder.setInsertionPointToEnd(module->getBody());
  }

  absl::StatusOr<OwningOpRef<ModuleOp>> build(StringRef name);

private:
  // Tensors and weights.
  bool ok() const { return status.ok(); }
  void fail(absl::Status error) {
    if (ok())
      status = std::move(error);
  }
  StoredTensor take(StringRef name, ArrayRef<int64_t> shape, Type assumed,
                    bool mayBeFP8);
  Type matrixElement();
  RankedTensorType defineWeight(StringRef symbol, RankedTensorType type,
                                function_ref<Value(OpBuilder &)> recipe,
                                bool isParameter = true);
  RankedTensorType defineVector(StringRef symbol, StringRef tensor,
                                ArrayRef<int64_t> shape);
  RankedTensorType defineMatrix(StringRef symbol, StringRef tensor,
                                ArrayRef<int64_t> shape);

  // Weights of one layer, collected in `layerWeights`.
  std::string tensorName(StringRef name) const;
  void addLayerWeight(const Twine &name, RankedTensorType type);
  void addVector(StringRef name, ArrayRef<int64_t> shape,
                 StringRef suffix = ".weight");
  void addLinear(StringRef name, int64_t rows, int64_t columns,
                 bool hasBias = false);
  void addScales(const Twine &name, StringRef tensor, ArrayRef<int64_t> shape);
  void addLatentExpansion(StringRef name, int64_t rows, int64_t columns);
  void addExperts(StringRef name, int64_t rows, int64_t columns);
  void checkExpertTypes();
  void addFFN(StringRef prefix, int64_t intermediate, bool hasBias);
  void addLayer(int64_t layer);

  // Bodies of layer functions.
  Location named(StringRef name) {
    return NameLoc::get(builder.getStringAttr(name));
  }
  RankedTensorType activations(int64_t columns) {
    return RankedTensorType::get({ShapedType::kDynamic, columns},
                                 builder.getF32Type());
  }
  RankedTensorType ids() {
    return RankedTensorType::get({ShapedType::kDynamic}, builder.getI32Type());
  }
  deepseek::KVCacheType cacheType();
  deepseek::RotaryAttr rotary();
  /// How far back tokens see in \p layer; null if to the start.
  deepseek::WindowAttr windowOf(int64_t layer);
  FloatAttr f64(double value) { return builder.getF64FloatAttr(value); }
  Value norm(LayerBody &body, Value input, StringRef name, double epsilon);
  Value linear(LayerBody &body, Value input, StringRef name,
               StringRef result = "");
  Value rotate(LayerBody &body, Value input, int64_t heads, StringRef name);
  Value attention(LayerBody &body, Value input);
  Value latentAttention(LayerBody &body, Value input);
  Value ffn(LayerBody &body, Value input, StringRef prefix);
  Value mixture(LayerBody &body, Value input);
  func::FuncOp getLayerFunction(bool isMoE);
  void buildForward();

  void buildModelOp(StringRef name);

  const Config &config;
  TensorStore *store;
  int64_t contextTokens;
  std::vector<std::string> &notes;
  OpBuilder builder;
  OwningOpRef<ModuleOp> module;
  absl::Status status;

  int64_t parameters = 0, activeParameters = 0;
  int64_t layerIndex = 0;
  std::vector<LayerWeight> layerWeights;
  struct Layer {
    func::FuncOp function;
    std::vector<LayerWeight> weights;
  };
  std::vector<Layer> layers;
  std::map<bool, unsigned> functionCount;
  std::vector<std::pair<LayerKey, func::FuncOp>> functions;
  RankedTensorType embedType, headType, normType;
};
} // namespace

static std::string symbolName(int64_t layer, const Twine &name) {
  return ("layers." + Twine(layer) + "." + name).str();
}

//===----------------------------------------------------------------------===//
// Tensors and weights
//===----------------------------------------------------------------------===//

/// The tensor \p name, or the stack if it has `{}` in it. Without weights, or
/// after an error, one of type \p assumed that says not where its bytes are.
StoredTensor ModelBuilder::take(StringRef name, ArrayRef<int64_t> shape,
                                Type assumed, bool mayBeFP8) {
  if (store && ok()) {
    absl::StatusOr<StoredTensor> tensor = name.contains("{}")
                                              ? store->takeStack(name, shape)
                                              : store->take(name, shape);
    bool isFP8 = tensor.ok() && tensor->element &&
                 isa<Float8E4M3FNType>(tensor->element);
    if (!tensor.ok())
      fail(tensor.status());
    else if (!tensor->element || (isFP8 && !mayBeFP8))
      fail(invalid(
          tensor->place + " is " + tensor->typeName + ", expected " +
          (mayBeFP8 ? "BF16, F16, F32 or F8_E4M3" : "BF16, F16 or F32")));
    else if (isFP8 && !config.isFP8)
      fail(invalid(tensor->place + " is F8_E4M3, but config.json has no "
                                   "quantization_config of fp8"));
    else
      return std::move(*tensor);
  }
  StoredTensor tensor;
  tensor.element = assumed;
  auto type = RankedTensorType::get(shape, assumed);
  tensor.build = [type, name = name.str()](OpBuilder &recipe) -> Value {
    return deepseek::SourceOp::create(
        recipe, recipe.getUnknownLoc(), type, recipe.getStringAttr(name),
        recipe.getArrayAttr({}), recipe.getDenseI64ArrayAttr({}));
  };
  return tensor;
}

/// What matrices are stored in if no tensor says it.
Type ModelBuilder::matrixElement() {
  switch (config.dtype) {
  case TorchDType::Float16:
    return builder.getF16Type();
  case TorchDType::Float32:
    return builder.getF32Type();
  case TorchDType::BFloat16:
    break;
  }
  return builder.getBF16Type();
}

/// Defines `deepseek.weight @symbol : type` with the value of \p recipe.
/// Scales are not parameters.
RankedTensorType
ModelBuilder::defineWeight(StringRef symbol, RankedTensorType type,
                           function_ref<Value(OpBuilder &)> recipe,
                           bool isParameter) {
  if (!ok())
    return type;
  std::optional<int64_t> count = checkedProduct(type.getShape());
  if (isParameter) {
    std::optional<int64_t> sum =
        count ? checkedSum(parameters, *count) : std::nullopt;
    if (!sum || *sum > maxParameters) {
      fail(invalid(config.path + ": the model has more than " +
                   Twine(maxParameters) +
                   " parameters, the first that does "
                   "not fit is " +
                   quote(symbol) + " of shape " + toText(type.getShape())));
      return type;
    }
    parameters = *sum;
    // Of a stack of experts, a token reads top_k.
    activeParameters += type.getRank() == 3
                            ? *count / config.moe->experts * config.moe->topK
                            : *count;
  }
  auto weight = deepseek::WeightOp::create(builder, builder.getUnknownLoc(),
                                           symbol, type);
  OpBuilder body(builder.getContext());
  body.createBlock(&weight.getRecipe());
  deepseek::YieldOp::create(body, body.getUnknownLoc(), recipe(body));
  return type;
}

/// A weight that is stored in f32 whatever the tensor is: it is small, or its
/// precision decides which experts run.
RankedTensorType ModelBuilder::defineVector(StringRef symbol, StringRef tensor,
                                            ArrayRef<int64_t> shape) {
  StoredTensor source = take(tensor, shape, matrixElement(),
                             /*mayBeFP8=*/false);
  auto type = RankedTensorType::get(shape, builder.getF32Type());
  return defineWeight(symbol, type, [&](OpBuilder &recipe) {
    Value value = source.build(recipe);
    if (source.element.isF32())
      return value;
    return Value(deepseek::ConvertOp::create(recipe, recipe.getUnknownLoc(),
                                             type, value));
  });
}

/// A matrix that is stored as it is, and is never FP8.
RankedTensorType ModelBuilder::defineMatrix(StringRef symbol, StringRef tensor,
                                            ArrayRef<int64_t> shape) {
  StoredTensor source = take(tensor, shape, matrixElement(),
                             /*mayBeFP8=*/false);
  return defineWeight(symbol, RankedTensorType::get(shape, source.element),
                      source.build);
}

/// The scales of an FP8 weight.
void ModelBuilder::addScales(const Twine &name, StringRef tensor,
                             ArrayRef<int64_t> shape) {
  StoredTensor source = take(tensor, shape, builder.getF32Type(),
                             /*mayBeFP8=*/true);
  if (!source.element.isF32()) {
    fail(invalid(source.place + " is " + source.typeName + ", expected F32"));
    return;
  }
  auto type = RankedTensorType::get(shape, builder.getF32Type());
  addLayerWeight(name, defineWeight(symbolName(layerIndex, name), type,
                                    source.build, /*isParameter=*/false));
}

//===----------------------------------------------------------------------===//
// The weights of a layer
//===----------------------------------------------------------------------===//

/// The checkpoint's name, less `.weight`, of \p name in the current layer.
std::string ModelBuilder::tensorName(StringRef name) const {
  return ("model.layers." + Twine(layerIndex) + "." + name).str();
}

void ModelBuilder::addLayerWeight(const Twine &name, RankedTensorType type) {
  layerWeights.push_back(
      {name.str(), builder.getStringAttr(symbolName(layerIndex, name)), type});
}

void ModelBuilder::addVector(StringRef name, ArrayRef<int64_t> shape,
                             StringRef suffix) {
  addLayerWeight(name, defineVector(symbolName(layerIndex, name),
                                    tensorName(name) + suffix.str(), shape));
}

/// A matrix `[rows, columns]`, with its scales if it is FP8, and its bias.
void ModelBuilder::addLinear(StringRef name, int64_t rows, int64_t columns,
                             bool hasBias) {
  std::string tensor = tensorName(name) + ".weight";
  std::string symbol = symbolName(layerIndex, name);
  int64_t shape[] = {rows, columns};
  Type fp8 = Float8E4M3FNType::get(builder.getContext());
  StoredTensor source =
      take(tensor, shape, config.isFP8 ? fp8 : matrixElement(),
           /*mayBeFP8=*/true);
  auto type = RankedTensorType::get(shape, source.element);
  addLayerWeight(name, defineWeight(symbol, type, source.build));
  if (hasBias)
    addLayerWeight(
        name + ".bias",
        defineVector(symbol + ".bias", tensorName(name) + ".bias", {rows}));
  if (source.element == fp8)
    addScales(name + ".scales", tensor + "_scale_inv",
              {ceilDiv(rows, deepseek::fp8BlockSize),
               ceilDiv(columns, deepseek::fp8BlockSize)});
}

/// kv_b, which attention reads by halves of each head: FP8 becomes f32.
void ModelBuilder::addLatentExpansion(StringRef name, int64_t rows,
                                      int64_t columns) {
  addLinear(name, rows, columns);
  if (!ok() || layerWeights.back().name == name)
    return;
  // Two weights were just defined; the scales move into the recipe of the
  // first.
  layerWeights.pop_back();
  LayerWeight &matrix = layerWeights.back();
  auto scalesOp = cast<deepseek::WeightOp>(module->getBody()->back());
  auto matrixOp = cast<deepseek::WeightOp>(scalesOp->getPrevNode());
  matrix.type = RankedTensorType::get({rows, columns}, builder.getF32Type());
  matrixOp.setType(matrix.type);
  Operation *yield = &matrixOp.getRecipe().front().back();
  Operation *source = scalesOp.getResult().getDefiningOp();
  source->moveBefore(yield);
  OpBuilder recipe(yield);
  Value dense = deepseek::DequantizeOp::create(
      recipe, recipe.getUnknownLoc(), matrix.type, matrixOp.getResult(),
      source->getResult(0), deepseek::fp8BlockSize, deepseek::fp8BlockSize,
      /*unchecked=*/false);
  yield->setOperand(0, dense);
  scalesOp.erase();
}

/// The matrices `[rows, columns]` of all experts as one stack.
void ModelBuilder::addExperts(StringRef name, int64_t rows, int64_t columns) {
  int64_t experts = config.moe->experts;
  std::string tensor = tensorName(("mlp.experts.{}." + name + ".weight").str());
  std::string relative = ("mlp.experts." + name).str();
  int64_t shape[] = {experts, rows, columns};
  Type fp8 = Float8E4M3FNType::get(builder.getContext());
  StoredTensor source =
      take(tensor, shape, config.isFP8 ? fp8 : matrixElement(),
           /*mayBeFP8=*/true);
  auto type = RankedTensorType::get(shape, source.element);
  addLayerWeight(relative, defineWeight(symbolName(layerIndex, relative), type,
                                        source.build));
  if (source.element == fp8)
    addScales(relative + ".scales", tensor + "_scale_inv",
              {experts, ceilDiv(rows, deepseek::fp8BlockSize),
               ceilDiv(columns, deepseek::fp8BlockSize)});
}

/// All three stacks of a layer must have one element type.
void ModelBuilder::checkExpertTypes() {
  if (!ok())
    return;
  const LayerWeight *first = nullptr;
  for (const LayerWeight &weight : layerWeights) {
    if (weight.type.getRank() != 3 ||
        StringRef(weight.name).ends_with("scales"))
      continue;
    if (!first)
      first = &weight;
    else if (weight.type.getElementType() != first->type.getElementType())
      return fail(invalid(store->sourcePath() + ": the experts' tensors of " +
                          quote(weight.symbol.getValue()) + " and " +
                          quote(first->symbol.getValue()) +
                          " differ in dtype, expected one"));
  }
}

void ModelBuilder::addFFN(StringRef prefix, int64_t intermediate,
                          bool hasBias) {
  addLinear((prefix + ".gate_proj").str(), intermediate, config.hidden,
            hasBias);
  addLinear((prefix + ".up_proj").str(), intermediate, config.hidden, hasBias);
  addLinear((prefix + ".down_proj").str(), config.hidden, intermediate,
            hasBias);
}

/// Defines the weights of one layer and finds, or builds, its function.
void ModelBuilder::addLayer(int64_t layer) {
  layerIndex = layer;
  layerWeights.clear();
  int64_t hidden = config.hidden, heads = config.heads;
  addVector("input_layernorm", {hidden});
  if (config.latent) {
    const LatentConfig &latent = *config.latent;
    int64_t queryDim = heads * (latent.nopeDim + latent.ropeDim);
    if (latent.queryRank) {
      addLinear("self_attn.q_a_proj", *latent.queryRank, hidden,
                config.latentBias);
      addVector("self_attn.q_a_layernorm", {*latent.queryRank});
      addLinear("self_attn.q_b_proj", queryDim, *latent.queryRank);
    } else {
      addLinear("self_attn.q_proj", queryDim, hidden);
    }
    addLinear("self_attn.kv_a_proj_with_mqa", latent.rank + latent.ropeDim,
              hidden, config.latentBias);
    addVector("self_attn.kv_a_layernorm", {latent.rank});
    addLatentExpansion("self_attn.kv_b_proj",
                       heads * (latent.nopeDim + latent.valueDim), latent.rank);
    addLinear("self_attn.o_proj", hidden, heads * latent.valueDim,
              config.outputBias);
  } else {
    int64_t width = config.headDim;
    addLinear("self_attn.q_proj", heads * width, hidden, config.qkvBias);
    for (StringRef name : {"self_attn.k_proj", "self_attn.v_proj"})
      addLinear(name, config.kvHeads * width, hidden, config.qkvBias);
    addLinear("self_attn.o_proj", hidden, heads * width, config.outputBias);
  }
  addVector("post_attention_layernorm", {hidden});
  bool isMoE = config.isMoELayer(layer);
  if (isMoE) {
    const MoEConfig &moe = *config.moe;
    addVector("mlp.gate", {moe.experts, hidden});
    if (moe.method == deepseek::TopKMethod::NoAuxTC)
      addVector("mlp.gate.e_score_correction_bias", {moe.experts},
                /*suffix=*/"");
    addExperts("gate_proj", moe.intermediate, hidden);
    addExperts("up_proj", moe.intermediate, hidden);
    addExperts("down_proj", hidden, moe.intermediate);
    checkExpertTypes();
    if (moe.sharedExperts)
      addFFN("mlp.shared_experts", moe.intermediate * moe.sharedExperts,
             /*hasBias=*/false);
  } else {
    addFFN("mlp", config.intermediate, config.mlpBias);
  }
  if (!ok())
    return;
  func::FuncOp function = getLayerFunction(isMoE);
  layers.push_back({function, std::move(layerWeights)});
}

//===----------------------------------------------------------------------===//
// The function of a layer
//===----------------------------------------------------------------------===//

deepseek::KVCacheType ModelBuilder::cacheType() {
  Type f32 = builder.getF32Type();
  MLIRContext *context = builder.getContext();
  if (const auto &latent = config.latent)
    return deepseek::KVCacheType::get(
        context, deepseek::CacheKind::Latent, config.layers, 1,
        latent->rank + latent->ropeDim, latent->rank, f32);
  return deepseek::KVCacheType::get(context, deepseek::CacheKind::Heads,
                                    config.layers, config.kvHeads,
                                    config.headDim, config.headDim, f32);
}

deepseek::RotaryAttr ModelBuilder::rotary() {
  const RopeConfig &rope = config.rope;
  MLIRContext *context = builder.getContext();
  Attribute scaling;
  switch (rope.type) {
  case RopeConfig::Type::Default:
    break;
  case RopeConfig::Type::Linear:
    scaling = deepseek::LinearScalingAttr::get(context, f64(rope.factor));
    break;
  case RopeConfig::Type::Llama3:
    scaling = deepseek::Llama3ScalingAttr::get(
        context, f64(rope.factor), f64(rope.lowFreqFactor),
        f64(rope.highFreqFactor), rope.originalTokens);
    break;
  case RopeConfig::Type::Yarn:
    scaling = deepseek::YarnScalingAttr::get(
        context, f64(rope.factor), rope.originalTokens, f64(rope.betaFast),
        f64(rope.betaSlow), f64(rope.attentionFactor), rope.truncate);
    break;
  }
  return deepseek::RotaryAttr::get(
      context, config.latent ? config.latent->ropeDim : config.headDim,
      f64(rope.theta),
      config.latent ? deepseek::RotaryLayout::Interleaved
                    : deepseek::RotaryLayout::HalfSplit,
      scaling);
}

deepseek::WindowAttr ModelBuilder::windowOf(int64_t layer) {
  if (!config.windowTokens || layer < config.firstWindowLayer)
    return nullptr;
  return deepseek::WindowAttr::get(builder.getContext(), *config.windowTokens,
                                   /*sink=*/0);
}

/// The last word of a weight's name: `q_proj` of `self_attn.q_proj`.
static StringRef lastWord(StringRef name) { return name.rsplit('.').second; }

Value ModelBuilder::norm(LayerBody &body, Value input, StringRef name,
                         double epsilon) {
  return deepseek::RMSNormOp::create(
      body.builder, named("normed"), input.getType(), input,
      body.weights.lookup(name), builder.getF32FloatAttr(float(epsilon)));
}

/// \p result is what to call it, if not the first word of `q_proj`.
Value ModelBuilder::linear(LayerBody &body, Value input, StringRef name,
                           StringRef result) {
  Value weight = body.weights.lookup(name);
  int64_t rows = cast<RankedTensorType>(weight.getType()).getDimSize(0);
  if (result.empty())
    result = lastWord(name).split('_').first;
  return deepseek::LinearOp::create(
      body.builder, named(result), activations(rows), input, weight,
      body.weights.lookup((name + ".bias").str()),
      body.weights.lookup((name + ".scales").str()),
      /*activation_group=*/IntegerAttr());
}

Value ModelBuilder::rotate(LayerBody &body, Value input, int64_t heads,
                           StringRef name) {
  return deepseek::RotaryOp::create(body.builder, named(name), input.getType(),
                                    input, body.positions, heads, rotary(),
                                    /*unchecked=*/false);
}

Value ModelBuilder::attention(LayerBody &body, Value input) {
  Value q = linear(body, input, "self_attn.q_proj");
  Value k = linear(body, input, "self_attn.k_proj");
  Value v = linear(body, input, "self_attn.v_proj");
  q = rotate(body, q, config.heads, "q_rotated");
  k = rotate(body, k, config.kvHeads, "k_rotated");
  Value heads = deepseek::AttentionOp::create(
      body.builder, named("heads"), q.getType(), q, k, v, body.positions,
      body.sequences, body.cache, body.layer, config.heads,
      APFloat(1.0 / std::sqrt(double(config.headDim))), windowOf(layerIndex));
  return linear(body, heads, "self_attn.o_proj");
}

Value ModelBuilder::latentAttention(LayerBody &body, Value input) {
  const LatentConfig &latent = *config.latent;
  Value q;
  if (latent.queryRank) {
    q = linear(body, input, "self_attn.q_a_proj");
    q = norm(body, q, "self_attn.q_a_layernorm", latentNormEpsilon);
    q = linear(body, q, "self_attn.q_b_proj");
  } else {
    q = linear(body, input, "self_attn.q_proj");
  }
  q = rotate(body, q, config.heads, "q_rotated");
  Value kv = linear(body, input, "self_attn.kv_a_proj_with_mqa");
  Type parts[] = {activations(latent.rank), activations(latent.ropeDim)};
  auto split = deepseek::SplitOp::create(body.builder, named("latent"),
                                         TypeRange(parts), kv);
  Value compressed = norm(body, split.getResult(0), "self_attn.kv_a_layernorm",
                          latentNormEpsilon);
  Value ropeKey = rotate(body, split.getResult(1), 1, "k_rotated");
  int64_t queryDim = latent.nopeDim + latent.ropeDim;
  Value heads = deepseek::LatentAttentionOp::create(
      body.builder, named("heads"), activations(config.heads * latent.valueDim),
      q, compressed, ropeKey, body.weights.lookup("self_attn.kv_b_proj"),
      body.positions, body.sequences, body.cache, body.layer, config.heads,
      APFloat(config.rope.softmaxFactor / std::sqrt(double(queryDim))),
      windowOf(layerIndex));
  return linear(body, heads, "self_attn.o_proj");
}

Value ModelBuilder::ffn(LayerBody &body, Value input, StringRef prefix) {
  Value gate = linear(body, input, (prefix + ".gate_proj").str());
  Value up = linear(body, input, (prefix + ".up_proj").str());
  Value gated = deepseek::SwiGLUOp::create(body.builder, named("gated"),
                                           gate.getType(), gate, up);
  return linear(body, gated, (prefix + ".down_proj").str());
}

Value ModelBuilder::mixture(LayerBody &body, Value input) {
  const MoEConfig &moe = *config.moe;
  Value logits = linear(body, input, "mlp.gate", "logits");
  auto routing = deepseek::RoutingAttr::get(
      builder.getContext(), moe.scoring, moe.method, moe.experts, moe.topK,
      moe.groups, moe.topGroups, moe.normalize, f64(moe.scale));
  auto router = deepseek::RouterOp::create(
      body.builder, named("chosen"),
      RankedTensorType::get({ShapedType::kDynamic, moe.topK},
                            builder.getI32Type()),
      activations(moe.topK), logits,
      body.weights.lookup("mlp.gate.e_score_correction_bias"), routing,
      /*renormalize_from=*/IntegerAttr(), /*unchecked=*/false);
  SmallVector<Value> stacks, scales;
  for (StringRef name : {"mlp.experts.gate_proj", "mlp.experts.up_proj",
                         "mlp.experts.down_proj"}) {
    stacks.push_back(body.weights.lookup(name));
    if (Value scale = body.weights.lookup((name + ".scales").str()))
      scales.push_back(scale);
  }
  Value routed = deepseek::ExpertsOp::create(
      body.builder, named("routed"), input.getType(), input,
      router.getExperts(), router.getWeights(), stacks[0], stacks[1], stacks[2],
      scales, /*activation_group=*/IntegerAttr());
  if (!moe.sharedExperts)
    return routed;
  Value shared = ffn(body, input, "mlp.shared_experts");
  return deepseek::AddOp::create(body.builder, named("mixed"), routed.getType(),
                                 routed, shared);
}

/// The function for a layer with the weights in `layerWeights`. Layers that
/// agree in kind, shapes and element types share one.
func::FuncOp ModelBuilder::getLayerFunction(bool isMoE) {
  LayerKey key{windowOf(layerIndex), {}};
  for (const LayerWeight &weight : layerWeights)
    key.second.emplace_back(weight.name, weight.type);
  // The names of the weights tell the kinds apart.
  for (auto &[known, function] : functions)
    if (known == key)
      return function;

  SmallVector<Type> inputs = {activations(config.hidden), ids(), ids(),
                              cacheType(), builder.getIndexType()};
  SmallVector<StringRef> names = {"x", "positions", "sequences", "cache",
                                  "layer"};
  for (const LayerWeight &weight : layerWeights) {
    inputs.push_back(weight.type);
    names.push_back(weight.name);
  }
  unsigned number = functionCount[isMoE]++;
  std::string name = isMoE ? "layer_moe" : "layer_dense";
  if (number)
    name += "_" + std::to_string(number);
  auto function = func::FuncOp::create(
      builder, builder.getUnknownLoc(), name,
      builder.getFunctionType(inputs, {activations(config.hidden)}));
  function.setPrivate();
  Block *block = function.addEntryBlock();
  for (auto [argument, name] : llvm::zip(block->getArguments(), names))
    argument.setLoc(named(name));

  LayerBody body{OpBuilder::atBlockEnd(block), block->getArgument(1),
                 block->getArgument(2),        block->getArgument(3),
                 block->getArgument(4),        {}};
  for (auto [i, weight] : llvm::enumerate(layerWeights))
    body.weights[weight.name] = block->getArgument(unsigned(5 + i));
  Value x = block->getArgument(0);
  Value normed = norm(body, x, "input_layernorm", config.normEpsilon);
  Value attended =
      config.latent ? latentAttention(body, normed) : attention(body, normed);
  x = deepseek::AddOp::create(body.builder, named("x"), x.getType(), x,
                              attended);
  normed = norm(body, x, "post_attention_layernorm", config.normEpsilon);
  Value mixed = isMoE ? mixture(body, normed) : ffn(body, normed, "mlp");
  x = deepseek::AddOp::create(body.builder, named("x"), x.getType(), x, mixed);
  func::ReturnOp::create(body.builder, body.builder.getUnknownLoc(), x);
  functions.emplace_back(std::move(key), function);
  return function;
}

//===----------------------------------------------------------------------===//
// The module
//===----------------------------------------------------------------------===//

void ModelBuilder::buildForward() {
  // Weights first, then the functions that read them.
  for (auto &[key, function] : functions)
    function->moveBefore(module->getBody(), module->getBody()->end());
  auto function = func::FuncOp::create(
      builder, builder.getUnknownLoc(), "forward",
      builder.getFunctionType({ids(), ids(), ids(), ids(), cacheType()},
                              {activations(config.vocab)}));
  Block *block = function.addEntryBlock();
  constexpr StringRef names[] = {"tokens", "positions", "sequences", "outputs",
                                 "cache"};
  for (auto [argument, name] : llvm::zip(block->getArguments(), names))
    argument.setLoc(named(name));
  OpBuilder body = OpBuilder::atBlockEnd(block);
  auto use = [&](StringRef symbol, Type type) -> Value {
    return deepseek::UseWeightOp::create(body, named(symbol), type, symbol);
  };
  Value x = deepseek::EmbedOp::create(
      body, named("x"), activations(config.hidden), block->getArgument(0),
      use("embed_tokens", embedType));
  for (auto [i, layer] : llvm::enumerate(layers)) {
    SmallVector<Value> operands = {
        x, block->getArgument(1), block->getArgument(2), block->getArgument(4)};
    operands.push_back(arith::ConstantIndexOp::create(
        body, named("layer" + std::to_string(i)), int64_t(i)));
    for (const LayerWeight &weight : layer.weights)
      operands.push_back(use(weight.symbol, weight.type));
    x = func::CallOp::create(body, named("x"), layer.function, operands)
            .getResult(0);
  }
  x = deepseek::GatherRowsOp::create(body, named("x"), x.getType(), x,
                                     block->getArgument(3));
  x = deepseek::RMSNormOp::create(
      body, named("normed"), x.getType(), x, use("norm", normType),
      builder.getF32FloatAttr(float(config.normEpsilon)));
  x = deepseek::LMHeadOp::create(
      body, named("logits"), activations(config.vocab), x,
      config.tiedEmbeddings ? use("embed_tokens", embedType)
                            : use("lm_head", headType),
      /*scales=*/Value(), /*activation_group=*/IntegerAttr());
  func::ReturnOp::create(body, body.getUnknownLoc(), x);
}

void ModelBuilder::buildModelOp(StringRef name) {
  std::string symbol;
  for (char c : name)
    symbol += llvm::isAlnum(c) ? c : '_';
  if (symbol.empty() || !llvm::isAlpha(symbol[0]))
    symbol = config.modelType + (symbol.empty() ? "" : "_") + symbol;
  if (SymbolTable::lookupSymbolIn(*module, symbol))
    symbol += "_model"; // A folder may be called `forward`.
  SmallVector<NamedAttribute> info = {
      builder.getNamedAttr("model_type",
                           builder.getStringAttr(config.modelType)),
      builder.getNamedAttr("parameters", builder.getI64IntegerAttr(parameters)),
      builder.getNamedAttr("active_parameters",
                           builder.getI64IntegerAttr(activeParameters))};
  if (config.bosToken)
    info.push_back(builder.getNamedAttr(
        "bos_token_id", builder.getI64IntegerAttr(*config.bosToken)));
  if (!config.eosTokens.empty())
    info.push_back(builder.getNamedAttr(
        "eos_token_ids", builder.getDenseI64ArrayAttr(config.eosTokens)));
  builder.setInsertionPointToStart(module->getBody());
  deepseek::ModelOp::create(
      builder, builder.getUnknownLoc(), symbol, config.vocab, config.hidden,
      config.layers, contextTokens, "forward", builder.getDictionaryAttr(info));
}

absl::StatusOr<OwningOpRef<ModuleOp>> ModelBuilder::build(StringRef name) {
  embedType = defineMatrix("embed_tokens", "model.embed_tokens.weight",
                           {config.vocab, config.hidden});
  normType = defineVector("norm", "model.norm.weight", {config.hidden});
  if (!config.tiedEmbeddings) {
    // Of the embedding a token reads one row, unless it is the head, too.
    activeParameters -= (config.vocab - 1) * config.hidden;
    headType = defineMatrix("lm_head", "lm_head.weight",
                            {config.vocab, config.hidden});
  }
  for (int64_t layer = 0; layer < config.layers && ok(); ++layer)
    addLayer(layer);
  if (config.mtpLayers)
    notes.push_back(("left out the layers for multi-token prediction: " +
                     Twine(config.mtpLayers) + " from model.layers." +
                     Twine(config.layers) + " on")
                        .str());
  if (store && ok())
    fail(store->checkUnused(config, notes));
  if (!ok())
    return status;
  buildForward();
  buildModelOp(name);

  std::string message;
  ScopedDiagnosticHandler handler(builder.getContext(), [&](Diagnostic &diag) {
    if (message.empty())
      message = diag.str();
    return success();
  });
  if (failed(verify(*module)))
    return absl::InternalError("imported module is wrong: " + message);
  return std::move(module);
}

absl::StatusOr<OwningOpRef<ModuleOp>> huggingface::buildModel(
    MLIRContext &context, const Config &config, TensorStore *store,
    StringRef name, int64_t contextTokens, std::vector<std::string> &notes) {
  return ModelBuilder(context, config, store, contextTokens, notes).build(name);
}
