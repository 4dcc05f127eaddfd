// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A checked configuration and the tensors of a checkpoint become a module: the
// weights of every layer, a function per distinct layer, and the entry point
// that calls them in order.

#include "lib/Import/HuggingFace/ModelBuilder.h"

#include "lib/Import/JSON.h"
#include "lib/Import/VerifyModule.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

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

/// What makes two layers the same function: its kind, its window, which
/// products share a grid, and its weights.
using LayerKey =
    std::tuple<deepseek::WindowAttr, std::map<std::string, std::string>,
               std::vector<std::pair<std::string, Type>>>;

/// The arguments of a layer function, and how its body is written.
struct LayerBody {
  OpBuilder builder;
  Value positions, sequences, cache, layer;
  llvm::StringMap<Value> weights = {};
  /// Inputs that were rounded already, by what they were and the grid.
  llvm::DenseMap<std::pair<Value, Value>, Value> rounded =
      llvm::DenseMap<std::pair<Value, Value>, Value>();
  /// Of a layer with hyper-connections: token ids, and the layer's number among
  /// those with as many tokens in an entry.
  Value tokens = {}, index = {};
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
                    bool mayBeFP8, bool mayChange = false);
  StoredTensor takeMatrix(StringRef tensor, ArrayRef<int64_t> shape);
  StoredTensor toF32(StoredTensor source, StringRef tensor,
                     ArrayRef<int64_t> shape);
  void declareChange(StringRef symbol, const StoredTensor &source);
  /// What of a weight are parameters that a token reads: none are parameters,
  /// all, or a stack of experts' has those of top_k.
  enum class Counted { No, Whole, Experts };
  Type matrixElement();
  RankedTensorType defineWeight(StringRef symbol, RankedTensorType type,
                                function_ref<Value(OpBuilder &)> recipe,
                                Counted counted = Counted::Whole);
  RankedTensorType defineVector(StringRef symbol, StringRef tensor,
                                ArrayRef<int64_t> shape);
  RankedTensorType defineMatrix(StringRef symbol, StringRef tensor,
                                ArrayRef<int64_t> shape);

  // Weights of one layer, collected in `layerWeights`.
  std::string tensorName(StringRef name) const;
  enum Part { Gate, Up, Down };
  std::string networkPart(StringRef prefix, Part part) const;
  // Names in a layer, as the checkpoints of a generation have them.
  StringRef networkName() const { return config.compressed ? "ffn" : "mlp"; }
  std::string routerBias() const {
    return (networkName() + ".gate.e_score_correction_bias").str();
  }
  StringRef inputNorm() const {
    return config.compressed ? "attn_norm" : "input_layernorm";
  }
  StringRef outputNorm() const {
    return config.compressed ? "ffn_norm" : "post_attention_layernorm";
  }
  void addLayerWeight(const Twine &name, RankedTensorType type);
  void addVector(StringRef name, ArrayRef<int64_t> shape,
                 StringRef suffix = ".weight");
  void addLinear(StringRef name, int64_t rows, int64_t columns,
                 bool hasBias = false);
  void addGrid(StringRef name, StringRef tensor);
  RankedTensorType defineGrid(StringRef symbol, const InputGrid &grid);
  StoredTensor takeScales(StringRef tensor, ArrayRef<int64_t> weight);
  void addScales(const Twine &name, StringRef tensor, RankedTensorType weight);
  void addMatrix(StringRef name, int64_t rows, int64_t columns);
  void addGroups(StringRef name, int64_t groups, int64_t rows, int64_t columns);
  void addLatentExpansion(StringRef name, int64_t rows, int64_t columns);
  void addExperts(Part part, int64_t rows, int64_t columns);
  void addFP4Experts(StringRef name, StringRef tensor, ArrayRef<int64_t> shape);
  void addExpertTable(StringRef name);
  void checkExpertTypes();
  void addIndexer(const IndexerConfig &indexer, int64_t queryRank);
  void addFFN(StringRef prefix, int64_t intermediate, bool hasBias);
  void addCompressedAttention();
  void addHyperConnection(StringRef prefix);
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
  Type cacheType();
  deepseek::RotaryAttr rotary(const RopeConfig &rope);
  /// How far back tokens see in \p layer; null if to the start.
  deepseek::WindowAttr windowOf(int64_t layer);
  /// Columns of what goes from layer to layer.
  int64_t streamColumns() const {
    return config.hidden * (config.hyper ? config.hyper->streams : 1);
  }
  FloatAttr f64(double value) { return builder.getF64FloatAttr(value); }
  Value norm(LayerBody &body, Value input, StringRef name, double epsilon);
  Value linear(LayerBody &body, Value input, StringRef name,
               StringRef result = "");
  Value rotate(LayerBody &body, Value input, int64_t heads, StringRef name);
  Value attention(LayerBody &body, Value input);
  Value latentAttention(LayerBody &body, Value input);
  void compress(LayerBody &body, Value input, StringRef prefix,
                deepseek::CachePart part, int64_t ratio);
  Value compressedAttention(LayerBody &body, Value input);
  Value connect(LayerBody &body, Value x, StringRef prefix,
                function_ref<Value(Value)> sublayer);
  FloatAttr limit();
  Value selectKeys(LayerBody &body, Value input, Value queryLatent);
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
  /// The grids of the layer, each with the first product that has it, and of
  /// each product the first that has the same.
  std::vector<std::pair<InputGrid, std::string>> grids;
  std::map<std::string, std::string> gridNames;
  struct Layer {
    func::FuncOp function;
    std::vector<LayerWeight> weights;
  };
  std::vector<Layer> layers;
  std::map<bool, unsigned> functionCount;
  std::vector<std::pair<LayerKey, func::FuncOp>> functions;
  RankedTensorType embedType, headType, normType;
  std::optional<RankedTensorType> headGrid;
  SmallVector<RankedTensorType> headMixTypes;
};
} // namespace

static std::string symbolName(int64_t layer, const Twine &name) {
  return ("layers." + Twine(layer) + "." + name).str();
}

//===----------------------------------------------------------------------===//
// Tensors and weights
//===----------------------------------------------------------------------===//

/// Whether matrices are stored in \p type.
static bool isMatrixElement(Type type) {
  return isa<BFloat16Type, Float16Type, Float32Type, Float8E4M3FNType>(type);
}

/// What a checkpoint calls \p type. Tables of experts may be narrow, too.
static StringRef specialName(Type type) {
  return isa<Float8E8M0FNUType>(type) ? "F8_E8M0"
         : type.isInteger(8)          ? "I8"
                                      : "I64 or I32";
}

static bool isSpecialType(Type type, Type assumed) {
  return type == assumed ||
         (type && assumed.isInteger(64) && type.isInteger(32));
}

/// The tensor \p name, or the stack if it has `{}` in it. Without weights, or
/// after an error, one of type \p assumed that says not where its bytes are.
/// One that an adapter changes is an error unless \p mayChange: the caller
/// declares the change.
StoredTensor ModelBuilder::take(StringRef name, ArrayRef<int64_t> shape,
                                Type assumed, bool mayBeFP8, bool mayChange) {
  auto type = RankedTensorType::get(shape, assumed);
  auto build = [type, name = name.str()](OpBuilder &recipe) -> Value {
    return deepseek::SourceOp::create(
        recipe, recipe.getUnknownLoc(), type, recipe.getStringAttr(name),
        recipe.getArrayAttr({}), recipe.getDenseI64ArrayAttr({}));
  };
  if (store && ok()) {
    absl::StatusOr<StoredTensor> tensor = name.contains("{}")
                                              ? store->takeStack(name, shape)
                                              : store->take(name, shape);
    if (tensor.ok() && !tensor->build) {
      tensor->element = assumed;
      tensor->build = build;
    }
    bool isFP8 = tensor.ok() && tensor->element &&
                 isa<Float8E4M3FNType>(tensor->element);
    // An assumed type that no matrix has is the only one that may be.
    bool isSpecial = !isMatrixElement(assumed);
    if (!tensor.ok())
      fail(tensor.status());
    else if (isSpecial
                 ? !isSpecialType(tensor->element, assumed)
                 : !tensor->element || !isMatrixElement(tensor->element) ||
                       (isFP8 && !mayBeFP8))
      fail(invalid(tensor->place + " is " + tensor->typeName + ", expected " +
                   (isSpecial  ? specialName(assumed)
                    : mayBeFP8 ? "BF16, F16, F32 or F8_E4M3"
                               : "BF16, F16 or F32")));
    else if (tensor->change && !mayChange)
      fail(unimplemented(tensor->place + " is changed by an adapter, which is "
                                         "not supported for a tensor of its "
                                         "kind"));
    else if (isFP8 && !config.isFP8)
      fail(invalid(tensor->place + " is F8_E4M3, but config.json has no "
                                   "quantization_config of fp8"));
    else
      return std::move(*tensor);
  }
  StoredTensor tensor;
  tensor.element = assumed;
  tensor.build = build;
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
RankedTensorType
ModelBuilder::defineWeight(StringRef symbol, RankedTensorType type,
                           function_ref<Value(OpBuilder &)> recipe,
                           Counted counted) {
  if (!ok())
    return type;
  std::optional<int64_t> count = checkedProduct(type.getShape());
  if (counted != Counted::No) {
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
    activeParameters += counted == Counted::Experts
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

/// The value of \p source as f32.
static Value buildF32(OpBuilder &recipe, const StoredTensor &source) {
  Value value = source.build(recipe);
  if (source.element.isF32())
    return value;
  auto type = cast<RankedTensorType>(value.getType());
  return deepseek::ConvertOp::create(recipe, recipe.getUnknownLoc(),
                                     type.clone(recipe.getF32Type()), value);
}

/// A weight that is stored in f32 whatever the tensor is: it is small, or its
/// precision decides which experts run.
RankedTensorType ModelBuilder::defineVector(StringRef symbol, StringRef tensor,
                                            ArrayRef<int64_t> shape) {
  StoredTensor source = take(tensor, shape, matrixElement(),
                             /*mayBeFP8=*/false, /*mayChange=*/true);
  auto type = RankedTensorType::get(shape, builder.getF32Type());
  defineWeight(symbol, type,
               [&](OpBuilder &recipe) { return buildF32(recipe, source); });
  declareChange(symbol, source);
  return type;
}

/// A matrix that is stored as it is, and is never FP8.
RankedTensorType ModelBuilder::defineMatrix(StringRef symbol, StringRef tensor,
                                            ArrayRef<int64_t> shape) {
  StoredTensor source = take(tensor, shape, matrixElement(),
                             /*mayBeFP8=*/false, /*mayChange=*/true);
  if (source.change)
    source = toF32(std::move(source), tensor, shape);
  auto type = RankedTensorType::get(shape, source.element);
  defineWeight(symbol, type, source.build);
  declareChange(symbol, source);
  return type;
}

/// A matrix, or a stack of them, that may be FP8.
StoredTensor ModelBuilder::takeMatrix(StringRef tensor,
                                      ArrayRef<int64_t> shape) {
  Type assumed = matrixElement();
  if (config.isFP8)
    assumed = Float8E4M3FNType::get(builder.getContext());
  return take(tensor, shape, assumed, /*mayBeFP8=*/true, /*mayChange=*/true);
}

/// \p source, which is \p tensor, with its values in f32: multiplied by its
/// scales, if it is FP8.
StoredTensor ModelBuilder::toF32(StoredTensor source, StringRef tensor,
                                 ArrayRef<int64_t> shape) {
  auto type = RankedTensorType::get(shape, builder.getF32Type());
  StoredTensor result = source;
  result.element = type.getElementType();
  if (!isa<Float8E4M3FNType>(source.element)) {
    result.build = [source = std::move(source)](OpBuilder &recipe) {
      return buildF32(recipe, source);
    };
    return result;
  }
  StoredTensor scales = takeScales(tensor, shape);
  result.build = [type, build = std::move(source.build),
                  scales = std::move(scales)](OpBuilder &recipe) -> Value {
    Value matrix = build(recipe);
    return deepseek::DequantizeOp::create(
        recipe, recipe.getUnknownLoc(), type, matrix, buildF32(recipe, scales),
        deepseek::fp8BlockSize, deepseek::fp8BlockSize, /*unchecked=*/false);
  };
  return result;
}

/// Declares what an adapter adds to \p symbol, which has just been defined
/// from \p source.
void ModelBuilder::declareChange(StringRef symbol, const StoredTensor &source) {
  if (!source.change || !ok())
    return;
  auto define = [&](StringRef suffix,
                    const std::function<Value(OpBuilder &)> &build) {
    auto weight = deepseek::WeightOp::create(
        builder, builder.getUnknownLoc(), (symbol + suffix).str(),
        RankedTensorType::get({1}, builder.getF32Type()));
    OpBuilder body(builder.getContext());
    body.createBlock(&weight.getRecipe());
    Value value = build(body);
    deepseek::YieldOp::create(body, body.getUnknownLoc(), value);
    weight.setType(cast<RankedTensorType>(value.getType()));
    return weight.getSymName();
  };
  StringRef down = define(".lora_a", source.change->buildDown);
  StringRef up = define(".lora_b", source.change->buildUp);
  deepseek::LoRAOp::create(builder, builder.getUnknownLoc(), symbol, down, up,
                           APFloat(source.change->scale));
}

/// The scales of an FP8 weight, whose tensor is \p tensor: one for each block.
StoredTensor ModelBuilder::takeScales(StringRef tensor,
                                      ArrayRef<int64_t> weight) {
  SmallVector<int64_t> shape(weight);
  for (int64_t &size : MutableArrayRef(shape).take_back(2))
    size = ceilDiv(size, deepseek::fp8BlockSize);
  if (config.compressed) {
    tensor.consume_back("weight");
    return take((tensor + "scale").str(), shape,
                Float8E8M0FNUType::get(builder.getContext()),
                /*mayBeFP8=*/false);
  }
  StoredTensor source = take((tensor + "_scale_inv").str(), shape,
                             builder.getF32Type(), /*mayBeFP8=*/true);
  if (!source.element.isF32())
    fail(invalid(source.place + " is " + source.typeName + ", expected F32"));
  return source;
}

void ModelBuilder::addScales(const Twine &name, StringRef tensor,
                             RankedTensorType weight) {
  StoredTensor source = takeScales(tensor, weight.getShape());
  if (!ok())
    return;
  SmallVector<int64_t> shape(weight.getShape());
  for (int64_t &size : MutableArrayRef(shape).take_back(2))
    size = ceilDiv(size, deepseek::fp8BlockSize);
  auto type = RankedTensorType::get(shape, builder.getF32Type());
  addLayerWeight(
      name, defineWeight(
                symbolName(layerIndex, name), type,
                [&](OpBuilder &recipe) { return buildF32(recipe, source); },
                Counted::No));
}

//===----------------------------------------------------------------------===//
// The weights of a layer
//===----------------------------------------------------------------------===//

/// The checkpoint's name, less `.weight`, of \p name in the current layer.
std::string ModelBuilder::tensorName(StringRef name) const {
  return ((config.compressed ? "layers." : "model.layers.") +
          Twine(layerIndex) + "." + name)
      .str();
}

/// The name of a matrix of the feed-forward network \p prefix.
std::string ModelBuilder::networkPart(StringRef prefix, Part part) const {
  static constexpr StringLiteral names[] = {"gate_proj", "up_proj",
                                            "down_proj"};
  static constexpr StringLiteral numbers[] = {"w1", "w3", "w2"};
  return (prefix + "." + (config.compressed ? numbers : names)[part]).str();
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
  StoredTensor source = takeMatrix(tensor, shape);
  if (source.change)
    source = toF32(std::move(source), tensor, shape);
  auto type = RankedTensorType::get(shape, source.element);
  addLayerWeight(name, defineWeight(symbol, type, source.build));
  declareChange(symbol, source);
  if (hasBias)
    addLayerWeight(
        name + ".bias",
        defineVector(symbol + ".bias", tensorName(name) + ".bias", {rows}));
  if (isa<Float8E4M3FNType>(source.element))
    addScales(name + ".scales", tensor, type);
  addGrid(name, tensor);
}

RankedTensorType ModelBuilder::defineGrid(StringRef symbol,
                                          const InputGrid &grid) {
  return defineWeight(
      symbol, RankedTensorType::get({2}, builder.getF32Type()),
      [&](OpBuilder &recipe) {
        return deepseek::NumbersOp::create(
            recipe, recipe.getUnknownLoc(),
            RankedTensorType::get({2}, recipe.getF32Type()),
            recipe.getDenseF32ArrayAttr({grid.scale, grid.zero}));
      },
      Counted::No);
}

/// What the input of the product \p name with \p tensor is rounded to, if it
/// is.
void ModelBuilder::addGrid(StringRef name, StringRef tensor) {
  std::optional<InputGrid> grid =
      store ? store->getInputGrid(tensor) : std::nullopt;
  if (!grid)
    return;
  auto known = llvm::find_if(
      grids, [&](const auto &each) { return each.first == *grid; });
  if (known != grids.end()) {
    gridNames[name.str()] = known->second;
    return;
  }
  grids.emplace_back(*grid, name.str());
  gridNames[name.str()] = name.str();
  addLayerWeight(name + ".grid",
                 defineGrid(symbolName(layerIndex, name + ".grid"), *grid));
}

/// A matrix `[rows, columns]` that is never FP8.
void ModelBuilder::addMatrix(StringRef name, int64_t rows, int64_t columns) {
  addLayerWeight(name,
                 defineMatrix(symbolName(layerIndex, name),
                              tensorName(name) + ".weight", {rows, columns}));
}

/// A matrix `[groups * rows, columns]` as one for each group, which multiplies
/// its own part of the input. FP8 becomes bf16, which is exact: scales are
/// powers of two.
void ModelBuilder::addGroups(StringRef name, int64_t groups, int64_t rows,
                             int64_t columns) {
  std::string tensor = tensorName(name) + ".weight";
  int64_t shape[] = {groups * rows, columns};
  Type fp8 = Float8E4M3FNType::get(builder.getContext());
  StoredTensor source =
      take(tensor, shape, config.isFP8 ? fp8 : matrixElement(),
           /*mayBeFP8=*/true);
  bool isFP8 = source.element == fp8;
  StoredTensor scales;
  if (isFP8)
    scales = takeScales(tensor, shape);
  Type element = isFP8 ? builder.getBF16Type() : source.element;
  auto type = RankedTensorType::get({groups, rows, columns}, element);
  addLayerWeight(
      name,
      defineWeight(symbolName(layerIndex, name), type, [&](OpBuilder &recipe) {
        Location loc = recipe.getUnknownLoc();
        Value value = source.build(recipe);
        if (isFP8)
          value = deepseek::DequantizeOp::create(
              recipe, loc, RankedTensorType::get(shape, element), value,
              buildF32(recipe, scales), deepseek::fp8BlockSize,
              deepseek::fp8BlockSize, /*unchecked=*/false);
        return deepseek::ReshapeOp::create(recipe, loc, type, value);
      }));
}

/// kv_b, which attention reads by halves of each head: FP8 becomes f32.
void ModelBuilder::addLatentExpansion(StringRef name, int64_t rows,
                                      int64_t columns) {
  std::string tensor = tensorName(name) + ".weight";
  std::string symbol = symbolName(layerIndex, name);
  int64_t shape[] = {rows, columns};
  StoredTensor source = takeMatrix(tensor, shape);
  if (isa<Float8E4M3FNType>(source.element) || source.change)
    source = toF32(std::move(source), tensor, shape);
  auto type = RankedTensorType::get(shape, source.element);
  addLayerWeight(name, defineWeight(symbol, type, source.build));
  declareChange(symbol, source);
}

/// The matrices `[rows, columns]` of all experts as one stack.
void ModelBuilder::addExperts(Part part, int64_t rows, int64_t columns) {
  int64_t experts = config.moe->experts;
  std::string prefix = (networkName() + ".experts").str();
  std::string tensor =
      tensorName(networkPart(prefix + ".{}", part)) + ".weight";
  std::string relative = networkPart(prefix, part);
  std::string symbol = symbolName(layerIndex, relative);
  if (config.moe->isFP4)
    return addFP4Experts(relative, tensor, {experts, rows, columns});
  int64_t shape[] = {experts, rows, columns};
  StoredTensor source = takeMatrix(tensor, shape);
  if (source.change || source.mustBeF32)
    source = toF32(std::move(source), tensor, shape);
  auto type = RankedTensorType::get(shape, source.element);
  addLayerWeight(relative,
                 defineWeight(symbol, type, source.build, Counted::Experts));
  declareChange(symbol, source);
  if (isa<Float8E4M3FNType>(source.element))
    addScales(relative + ".scales", tensor, type);
}

/// The same of 4 bits with an exponent for 32 columns, which become bf16; that
/// is exact.
void ModelBuilder::addFP4Experts(StringRef name, StringRef tensor,
                                 ArrayRef<int64_t> shape) {
  constexpr int64_t group = 32;
  if (shape.back() % group != 0)
    return fail(invalid(config.path + ": experts of FP4 have rows of " +
                        Twine(shape.back()) + ", expected a multiple of " +
                        Twine(group)));
  SmallVector<int64_t> bytes(shape), exponents(shape);
  bytes.back() /= 2;
  exponents.back() /= group;
  StoredTensor source = take(tensor, bytes, builder.getI8Type(),
                             /*mayBeFP8=*/false);
  tensor.consume_back("weight");
  StoredTensor scales = take((tensor + "scale").str(), exponents,
                             Float8E8M0FNUType::get(builder.getContext()),
                             /*mayBeFP8=*/false);
  auto type = RankedTensorType::get(shape, builder.getBF16Type());
  addLayerWeight(name, defineWeight(
                           symbolName(layerIndex, name), type,
                           [&](OpBuilder &recipe) {
                             Value codes = source.build(recipe);
                             return deepseek::DequantizeMXFP4Op::create(
                                 recipe, recipe.getUnknownLoc(), type, codes,
                                 scales.build(recipe));
                           },
                           Counted::Experts));
}

/// The experts of each token of the vocabulary.
void ModelBuilder::addExpertTable(StringRef name) {
  const MoEConfig &moe = *config.moe;
  int64_t shape[] = {config.vocab, moe.topK};
  StoredTensor source = take(tensorName(name), shape, builder.getI64Type(),
                             /*mayBeFP8=*/false);
  auto type = RankedTensorType::get(shape, builder.getI32Type());
  addLayerWeight(name, defineWeight(
                           symbolName(layerIndex, name), type,
                           [&](OpBuilder &recipe) {
                             return deepseek::ExpertIdsOp::create(
                                 recipe, recipe.getUnknownLoc(), type,
                                 source.build(recipe), moe.experts);
                           },
                           Counted::No));
}

/// All three stacks of a layer must have one element type.
void ModelBuilder::checkExpertTypes() {
  if (!ok())
    return;
  const LayerWeight *first = nullptr;
  for (const LayerWeight &weight : layerWeights) {
    if (!StringRef(weight.name).contains(".experts.") ||
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
  for (Part part : {Gate, Up})
    addLinear(networkPart(prefix, part), intermediate, config.hidden, hasBias);
  addLinear(networkPart(prefix, Down), config.hidden, intermediate, hasBias);
}

/// The weights of attention over compressed entries.
void ModelBuilder::addCompressedAttention() {
  const CompressedConfig &compressed = *config.compressed;
  int64_t hidden = config.hidden, heads = config.heads, dim = config.headDim;
  int64_t groups = compressed.outputGroups, rank = compressed.outputRank;
  addLinear("attn.wq_a", compressed.queryRank, hidden);
  addVector("attn.q_norm", {compressed.queryRank});
  addLinear("attn.wq_b", heads * dim, compressed.queryRank);
  addLinear("attn.wkv", dim, hidden);
  addVector("attn.kv_norm", {dim});
  addVector("attn.attn_sink", {heads}, /*suffix=*/"");
  addGroups("attn.wo_a", groups, rank, heads * dim / groups);
  addLinear("attn.wo_b", hidden, groups * rank);
  int64_t ratio = compressed.ratios[size_t(layerIndex)];
  if (!ratio)
    return;
  bool overlaps = ratio == CompressedConfig::overlappingRatio;
  auto addCompressor = [&](StringRef prefix, int64_t dim) {
    int64_t columns = overlaps ? 2 * dim : dim;
    addMatrix((prefix + ".wkv").str(), columns, hidden);
    addMatrix((prefix + ".wgate").str(), columns, hidden);
    addVector((prefix + ".ape").str(), {ratio, columns}, /*suffix=*/"");
    addVector((prefix + ".norm").str(), {dim});
  };
  addCompressor("attn.compressor", dim);
  if (!overlaps)
    return;
  addLinear("attn.indexer.wq_b", compressed.indexHeads * compressed.indexDim,
            compressed.queryRank);
  addMatrix("attn.indexer.weights_proj", compressed.indexHeads, hidden);
  addCompressor("attn.indexer.compressor", compressed.indexDim);
}

/// How a sublayer reads and writes the residual streams.
void ModelBuilder::addHyperConnection(StringRef prefix) {
  int64_t streams = config.hyper->streams, rows = (2 + streams) * streams;
  addVector((prefix + "_fn").str(), {rows, streams * config.hidden},
            /*suffix=*/"");
  addVector((prefix + "_base").str(), {rows}, /*suffix=*/"");
  addVector((prefix + "_scale").str(), {3}, /*suffix=*/"");
}

void ModelBuilder::addIndexer(const IndexerConfig &indexer, int64_t queryRank) {
  addLinear("self_attn.indexer.wq_b", indexer.heads * indexer.dim, queryRank);
  addLinear("self_attn.indexer.wk", indexer.dim, config.hidden);
  addVector("self_attn.indexer.k_norm", {indexer.dim});
  addLayerWeight(
      "self_attn.indexer.k_norm.bias",
      defineVector(symbolName(layerIndex, "self_attn.indexer.k_norm.bias"),
                   tensorName("self_attn.indexer.k_norm") + ".bias",
                   {indexer.dim}));
  // Evaluated in f32 where it comes from: it decides what attention sees.
  addVector("self_attn.indexer.weights_proj", {indexer.heads, config.hidden});
}

/// Defines the weights of one layer and finds, or builds, its function.
void ModelBuilder::addLayer(int64_t layer) {
  layerIndex = layer;
  layerWeights.clear();
  grids.clear();
  gridNames.clear();
  int64_t hidden = config.hidden, heads = config.heads;
  if (config.hyper)
    for (StringRef prefix : {"hc_attn", "hc_ffn"})
      addHyperConnection(prefix);
  addVector(inputNorm(), {hidden});
  if (config.compressed) {
    addCompressedAttention();
  } else if (config.latent) {
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
    if (config.indexer)
      addIndexer(*config.indexer, *latent.queryRank);
  } else {
    int64_t width = config.headDim;
    addLinear("self_attn.q_proj", heads * width, hidden, config.qkvBias);
    for (StringRef name : {"self_attn.k_proj", "self_attn.v_proj"})
      addLinear(name, config.kvHeads * width, hidden, config.qkvBias);
    addLinear("self_attn.o_proj", hidden, heads * width, config.outputBias);
  }
  addVector(outputNorm(), {hidden});
  bool isMoE = config.isMoELayer(layer);
  if (isMoE) {
    const MoEConfig &moe = *config.moe;
    std::string gate = (networkName() + ".gate").str();
    addVector(gate, {moe.experts, hidden});
    if (layer < moe.hashLayers)
      addExpertTable(gate + ".tid2eid");
    else if (moe.method == deepseek::TopKMethod::NoAuxTC)
      // Not a bias of the product, whatever it is called.
      addLayerWeight(routerBias(),
                     defineVector(symbolName(layerIndex, routerBias()),
                                  tensorName(config.compressed ? gate + ".bias"
                                                               : routerBias()),
                                  {moe.experts}));
    addExperts(Gate, moe.intermediate, hidden);
    addExperts(Up, moe.intermediate, hidden);
    addExperts(Down, hidden, moe.intermediate);
    checkExpertTypes();
    if (moe.sharedExperts)
      addFFN((networkName() + ".shared_experts").str(),
             moe.intermediate * moe.sharedExperts, /*hasBias=*/false);
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

Type ModelBuilder::cacheType() {
  Type f32 = builder.getF32Type();
  MLIRContext *context = builder.getContext();
  if (const auto &compressed = config.compressed)
    return deepseek::CompressedCacheType::get(
        context, config.headDim, compressed->indexDim,
        builder.getDenseI64ArrayAttr(compressed->ratios),
        CompressedConfig::overlappingRatio, f32);
  if (const auto &latent = config.latent)
    return deepseek::KVCacheType::get(
        context, deepseek::CacheKind::Latent, config.layers, 1,
        latent->rank + latent->ropeDim, latent->rank, f32, /*group=*/0,
        config.indexer ? config.indexer->dim : 0);
  return deepseek::KVCacheType::get(context, deepseek::CacheKind::Heads,
                                    config.layers, config.kvHeads,
                                    config.headDim, config.headDim, f32,
                                    /*group=*/0, /*indexDim=*/0);
}

deepseek::RotaryAttr ModelBuilder::rotary(const RopeConfig &rope) {
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
      context,
      config.latent       ? config.latent->ropeDim
      : config.compressed ? config.compressed->ropeDim
                          : config.headDim,
      f64(rope.theta),
      config.latent || config.compressed ? deepseek::RotaryLayout::Interleaved
                                         : deepseek::RotaryLayout::HalfSplit,
      scaling);
}

deepseek::WindowAttr ModelBuilder::windowOf(int64_t layer) {
  if (!config.windowTokens || !config.windowedLayers[size_t(layer)])
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
  if (auto shared = gridNames.find(name.str()); shared != gridNames.end()) {
    Value grid = body.weights.lookup(shared->second + ".grid");
    Value &rounded = body.rounded[{input, grid}];
    if (!rounded)
      rounded = deepseek::RoundToGridOp::create(body.builder, named("rounded"),
                                                input.getType(), input, grid);
    input = rounded;
  }
  return deepseek::LinearOp::create(
      body.builder, named(result), activations(rows), input, weight,
      body.weights.lookup((name + ".bias").str()),
      body.weights.lookup((name + ".scales").str()),
      /*activation_group=*/IntegerAttr());
}

Value ModelBuilder::rotate(LayerBody &body, Value input, int64_t heads,
                           StringRef name) {
  return deepseek::RotaryOp::create(body.builder, named(name), input.getType(),
                                    input, body.positions, heads,
                                    /*leading=*/false, rotary(config.rope),
                                    /*inverse=*/false,
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
      body.sequences, body.cache, body.layer, /*query_positions=*/Value(),
      /*query_sequences=*/Value(), config.heads,
      APFloat(1.0 / std::sqrt(double(config.headDim))), windowOf(layerIndex));
  return linear(body, heads, "self_attn.o_proj");
}

/// The positions that sparse attention sees. \p queryLatent is what the queries
/// are expanded from. Heads begin with their rotary part, unlike those of MLA.
Value ModelBuilder::selectKeys(LayerBody &body, Value input,
                               Value queryLatent) {
  const IndexerConfig &indexer = *config.indexer;
  deepseek::RotaryAttr main = rotary(config.rope);
  auto layout = indexer.isInterleaved ? deepseek::RotaryLayout::Interleaved
                                      : deepseek::RotaryLayout::HalfSplit;
  auto own =
      deepseek::RotaryAttr::get(builder.getContext(), main.getDim(),
                                main.getTheta(), layout, main.getScaling());
  auto turn = [&](Value value, int64_t heads, StringRef name) -> Value {
    return deepseek::RotaryOp::create(body.builder, named(name),
                                      value.getType(), value, body.positions,
                                      heads, /*leading=*/true, own,
                                      /*inverse=*/false, /*unchecked=*/false);
  };
  Value q = linear(body, queryLatent, "self_attn.indexer.wq_b", "index_q");
  q = turn(q, indexer.heads, "index_q_rotated");
  Value k = linear(body, input, "self_attn.indexer.wk", "index_k");
  k = deepseek::LayerNormOp::create(
      body.builder, named("index_k_normed"), k.getType(), k,
      body.weights.lookup("self_attn.indexer.k_norm"),
      body.weights.lookup("self_attn.indexer.k_norm.bias"),
      builder.getF32FloatAttr(float(latentNormEpsilon)));
  k = turn(k, 1, "index_k_rotated");
  Value weights =
      linear(body, input, "self_attn.indexer.weights_proj", "index_weights");
  auto type = RankedTensorType::get({ShapedType::kDynamic, indexer.topK},
                                    builder.getI32Type());
  double scale = 1.0 / std::sqrt(double(indexer.heads) * double(indexer.dim));
  return deepseek::SelectKeysOp::create(
      body.builder, named("selected"), type, q, k, weights, body.positions,
      body.sequences, body.cache, body.layer, /*query_positions=*/Value(),
      /*query_sequences=*/Value(), indexer.heads, indexer.topK, APFloat(scale));
}

Value ModelBuilder::latentAttention(LayerBody &body, Value input) {
  const LatentConfig &latent = *config.latent;
  Value q, selected;
  if (latent.queryRank) {
    q = linear(body, input, "self_attn.q_a_proj");
    q = norm(body, q, "self_attn.q_a_layernorm", latentNormEpsilon);
    if (config.indexer)
      selected = selectKeys(body, input, q);
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
      body.positions, body.sequences, body.cache, body.layer, selected,
      config.heads,
      APFloat(config.rope.softmaxFactor / std::sqrt(double(queryDim))),
      windowOf(layerIndex));
  return linear(body, heads, "self_attn.o_proj");
}

/// Pools tokens into an entry of \p part of the cache, by the compressor
/// \p prefix.
void ModelBuilder::compress(LayerBody &body, Value input, StringRef prefix,
                            deepseek::CachePart part, int64_t ratio) {
  auto name = [&](StringRef word) { return (prefix + "." + word).str(); };
  Value value = linear(body, input, name("wkv"), "value");
  Value gate = linear(body, input, name("wgate"), "gate");
  deepseek::CompressOp::create(
      body.builder, named("compressed"), value, gate,
      body.weights.lookup(name("ape")), body.weights.lookup(name("norm")),
      body.positions, body.sequences, body.cache, body.index, part, ratio,
      rotary(config.compressed->rope), APFloat(float(config.normEpsilon)));
}

Value ModelBuilder::compressedAttention(LayerBody &body, Value input) {
  const CompressedConfig &compressed = *config.compressed;
  int64_t ratio = compressed.ratios[size_t(layerIndex)];
  deepseek::RotaryAttr by = rotary(ratio ? compressed.rope : config.rope);
  auto rotate = [&](Value x, int64_t heads, StringRef name, bool inverse) {
    return deepseek::RotaryOp::create(body.builder, named(name), x.getType(), x,
                                      body.positions, heads,
                                      /*leading=*/false, by, inverse,
                                      /*unchecked=*/false);
  };
  Value latent = norm(body, linear(body, input, "attn.wq_a", "q_latent"),
                      "attn.q_norm", config.normEpsilon);
  Value q = linear(body, latent, "attn.wq_b", "q");
  q = deepseek::UnitNormOp::create(body.builder, named("q"), q.getType(), q,
                                   config.heads,
                                   APFloat(float(config.normEpsilon)));
  q = rotate(q, config.heads, "q_rotated", /*inverse=*/false);
  Value kv = norm(body, linear(body, input, "attn.wkv", "kv"), "attn.kv_norm",
                  config.normEpsilon);
  kv = rotate(kv, 1, "kv_rotated", /*inverse=*/false);
  Value selected;
  if (ratio)
    compress(body, input, "attn.compressor", deepseek::CachePart::Entries,
             ratio);
  if (ratio == CompressedConfig::overlappingRatio) {
    compress(body, input, "attn.indexer.compressor", deepseek::CachePart::Index,
             ratio);
    int64_t heads = compressed.indexHeads;
    Value query = linear(body, latent, "attn.indexer.wq_b", "index_q");
    query = rotate(query, heads, "index_q_rotated", /*inverse=*/false);
    Value weights =
        linear(body, input, "attn.indexer.weights_proj", "index_weights");
    double scale = 1 / std::sqrt(double(compressed.indexDim) * double(heads));
    selected = deepseek::SelectEntriesOp::create(
        body.builder, named("selected"),
        RankedTensorType::get({ShapedType::kDynamic, compressed.indexTopK},
                              builder.getI32Type()),
        query, weights, body.positions, body.sequences, body.cache, body.index,
        heads, APFloat(scale));
  }
  Value heads = deepseek::CompressedAttentionOp::create(
      body.builder, named("heads"), q.getType(), q, kv,
      body.weights.lookup("attn.attn_sink"), selected, body.positions,
      body.sequences, body.cache, body.layer, body.index, config.heads,
      compressed.window, ratio, APFloat(1 / std::sqrt(double(config.headDim))));
  // Values are keys, and have been rotated like them.
  heads = rotate(heads, config.heads, "heads_rotated", /*inverse=*/true);
  Value groups = deepseek::HeadLinearOp::create(
      body.builder, named("groups"),
      activations(compressed.outputGroups * compressed.outputRank), heads,
      body.weights.lookup("attn.wo_a"));
  return linear(body, groups, "attn.wo_b", "attended");
}

/// Has \p sublayer read the streams \p x as one row, and returns the streams
/// after it.
Value ModelBuilder::connect(LayerBody &body, Value x, StringRef prefix,
                            function_ref<Value(Value)> sublayer) {
  const HyperConfig &hyper = *config.hyper;
  auto weight = [&](StringRef suffix) {
    return body.weights.lookup((prefix + suffix).str());
  };
  int64_t streams = hyper.streams;
  auto mix = deepseek::HyperMixOp::create(
      body.builder, named(prefix), activations(config.hidden),
      activations(streams), activations(streams * streams), x, weight("_fn"),
      weight("_base"), weight("_scale"), streams, hyper.iterations,
      APFloat(float(config.normEpsilon)), APFloat(float(hyper.epsilon)));
  Value y = sublayer(mix.getSublayer());
  return deepseek::HyperUpdateOp::create(body.builder, named("x"), x.getType(),
                                         x, y, mix.getPost(), mix.getComb());
}

FloatAttr ModelBuilder::limit() {
  return config.moe && config.moe->limit ? f64(*config.moe->limit)
                                         : FloatAttr();
}

Value ModelBuilder::ffn(LayerBody &body, Value input, StringRef prefix) {
  Value gate = linear(body, input, networkPart(prefix, Gate), "gate");
  Value up = linear(body, input, networkPart(prefix, Up), "up");
  Value gated = deepseek::SwiGLUOp::create(body.builder, named("gated"),
                                           gate.getType(), gate, up, limit());
  return linear(body, gated, networkPart(prefix, Down), "down");
}

Value ModelBuilder::mixture(LayerBody &body, Value input) {
  const MoEConfig &moe = *config.moe;
  std::string gate = (networkName() + ".gate").str();
  Value logits = linear(body, input, gate, "logits");
  Value table = body.weights.lookup(gate + ".tid2eid");
  auto routing = deepseek::RoutingAttr::get(
      builder.getContext(), moe.scoring,
      table ? deepseek::TopKMethod::Hash : moe.method, moe.experts, moe.topK,
      moe.groups, moe.topGroups, moe.normalize, f64(moe.scale));
  auto ids = RankedTensorType::get({ShapedType::kDynamic, moe.topK},
                                   builder.getI32Type());
  Operation *router;
  if (table)
    router = deepseek::HashRouterOp::create(body.builder, named("chosen"), ids,
                                            activations(moe.topK), logits,
                                            body.tokens, table, routing);
  else
    router = deepseek::RouterOp::create(
        body.builder, named("chosen"), ids, activations(moe.topK), logits,
        body.weights.lookup(routerBias()), routing,
        /*renormalize_from=*/IntegerAttr(), /*unchecked=*/false);
  SmallVector<Value> stacks, scales;
  for (Part part : {Gate, Up, Down}) {
    std::string name = networkPart((networkName() + ".experts").str(), part);
    stacks.push_back(body.weights.lookup(name));
    if (Value scale = body.weights.lookup(name + ".scales"))
      scales.push_back(scale);
  }
  Value routed = deepseek::ExpertsOp::create(
      body.builder, named("routed"), input.getType(), input,
      router->getResult(0), router->getResult(1), stacks[0], stacks[1],
      stacks[2], scales, /*activation_group=*/IntegerAttr(), limit());
  if (!moe.sharedExperts)
    return routed;
  Value shared = ffn(body, input, (networkName() + ".shared_experts").str());
  return deepseek::AddOp::create(body.builder, named("mixed"), routed.getType(),
                                 routed, shared);
}

/// The function for a layer with the weights in `layerWeights`. Layers that
/// agree in kind, shapes and element types share one.
func::FuncOp ModelBuilder::getLayerFunction(bool isMoE) {
  LayerKey key{windowOf(layerIndex), gridNames, {}};
  for (const LayerWeight &weight : layerWeights)
    std::get<2>(key).emplace_back(weight.name, weight.type);
  // The names of the weights tell the kinds apart.
  for (auto &[known, function] : functions)
    if (known == key)
      return function;

  SmallVector<Type> inputs = {activations(streamColumns()), ids(), ids(),
                              cacheType(), builder.getIndexType()};
  SmallVector<StringRef> names = {"x", "positions", "sequences", "cache",
                                  "layer"};
  if (config.hyper) {
    inputs.append({ids(), builder.getIndexType()});
    names.append({"tokens", "index"});
  }
  size_t firstWeight = inputs.size();
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
      builder.getFunctionType(inputs, {activations(streamColumns())}));
  function.setPrivate();
  Block *block = function.addEntryBlock();
  for (auto [argument, name] : llvm::zip(block->getArguments(), names))
    argument.setLoc(named(name));

  LayerBody body{OpBuilder::atBlockEnd(block), block->getArgument(1),
                 block->getArgument(2), block->getArgument(3),
                 block->getArgument(4)};
  if (config.hyper) {
    body.tokens = block->getArgument(5);
    body.index = block->getArgument(6);
  }
  for (auto [i, weight] : llvm::enumerate(layerWeights))
    body.weights[weight.name] = block->getArgument(unsigned(firstWeight + i));
  auto attend = [&](Value x) {
    Value normed = norm(body, x, inputNorm(), config.normEpsilon);
    return config.compressed ? compressedAttention(body, normed)
           : config.latent   ? latentAttention(body, normed)
                             : attention(body, normed);
  };
  auto mix = [&](Value x) {
    Value normed = norm(body, x, outputNorm(), config.normEpsilon);
    return isMoE ? mixture(body, normed) : ffn(body, normed, networkName());
  };
  Value x = block->getArgument(0);
  if (config.hyper) {
    x = connect(body, x, "hc_attn", attend);
    x = connect(body, x, "hc_ffn", mix);
  } else {
    for (function_ref<Value(Value)> sublayer :
         {function_ref<Value(Value)>(attend),
          function_ref<Value(Value)>(mix)}) {
      Value y = sublayer(x);
      x = deepseek::AddOp::create(body.builder, named("x"), x.getType(), x, y);
    }
  }
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
  if (config.hyper)
    x = deepseek::HyperExpandOp::create(body, named("x"),
                                        activations(streamColumns()), x,
                                        config.hyper->streams);
  // How many layers there are so far of each number of tokens to an entry.
  std::map<int64_t, int64_t> indices;
  for (auto [i, layer] : llvm::enumerate(layers)) {
    SmallVector<Value> operands = {
        x, block->getArgument(1), block->getArgument(2), block->getArgument(4)};
    operands.push_back(arith::ConstantIndexOp::create(
        body, named("layer" + std::to_string(i)), int64_t(i)));
    if (config.hyper) {
      operands.push_back(block->getArgument(0));
      operands.push_back(arith::ConstantIndexOp::create(
          body, named("index" + std::to_string(i)),
          indices[config.compressed->ratios[i]]++));
    }
    for (const LayerWeight &weight : layer.weights)
      operands.push_back(use(weight.symbol, weight.type));
    x = func::CallOp::create(body, named("x"), layer.function, operands)
            .getResult(0);
  }
  x = deepseek::GatherRowsOp::create(body, named("x"), x.getType(), x,
                                     block->getArgument(3));
  if (config.hyper)
    x = deepseek::HyperHeadOp::create(
        body, named("x"), activations(config.hidden), x,
        use("hc_head_fn", headMixTypes[0]),
        use("hc_head_base", headMixTypes[1]),
        use("hc_head_scale", headMixTypes[2]), config.hyper->streams,
        APFloat(float(config.normEpsilon)),
        APFloat(float(config.hyper->epsilon)));
  x = deepseek::RMSNormOp::create(
      body, named("normed"), x.getType(), x, use("norm", normType),
      builder.getF32FloatAttr(float(config.normEpsilon)));
  if (headGrid)
    x = deepseek::RoundToGridOp::create(body, named("rounded"), x.getType(), x,
                                        use("lm_head.grid", *headGrid));
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
  // DeepSeek-V4 has its own names.
  bool isShort = config.compressed.has_value();
  embedType = defineMatrix(
      "embed_tokens", isShort ? "embed.weight" : "model.embed_tokens.weight",
      {config.vocab, config.hidden});
  normType = defineVector("norm", isShort ? "norm.weight" : "model.norm.weight",
                          {config.hidden});
  if (!config.tiedEmbeddings) {
    // Of the embedding a token reads one row, unless it is the head, too.
    activeParameters -= (config.vocab - 1) * config.hidden;
    headType =
        defineMatrix("lm_head", isShort ? "head.weight" : "lm_head.weight",
                     {config.vocab, config.hidden});
  }
  if (std::optional<InputGrid> grid =
          store ? store->getInputGrid("lm_head.weight") : std::nullopt)
    headGrid = defineGrid("lm_head.grid", *grid);
  if (config.hyper) {
    int64_t streams = config.hyper->streams;
    headMixTypes = {defineVector("hc_head_fn", "hc_head_fn",
                                 {streams, streams * config.hidden}),
                    defineVector("hc_head_base", "hc_head_base", {streams}),
                    defineVector("hc_head_scale", "hc_head_scale", {1})};
  }
  for (int64_t layer = 0; layer < config.layers && ok(); ++layer)
    addLayer(layer);
  if (config.mtpLayers)
    notes.push_back(("left out the layers for multi-token prediction: " +
                     Twine(config.mtpLayers) +
                     (isShort ? " from mtp.0"
                              : " from model.layers." + Twine(config.layers)) +
                     " on")
                        .str());
  if (store && ok())
    fail(store->checkUnused(config, notes));
  if (!ok())
    return status;
  buildForward();
  buildModelOp(name);

  if (absl::Status status = verifyModule(*module, "imported module");
      !status.ok())
    return status;
  return std::move(module);
}

absl::StatusOr<OwningOpRef<ModuleOp>> huggingface::buildModel(
    MLIRContext &context, const Config &config, TensorStore *store,
    StringRef name, int64_t contextTokens, std::vector<std::string> &notes) {
  return ModelBuilder(context, config, store, contextTokens, notes).build(name);
}
