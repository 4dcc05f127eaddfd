// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The graph of an ONNX file becomes a module of the deepseek dialect: what was
// matched is a configuration and tensors by their names on Hugging Face, from
// which the module is built as for any other format.

#include "lib/Import/ONNX/Raise.h"

#include "lib/Import/HuggingFace/Config.h"
#include "lib/Import/HuggingFace/ModelBuilder.h"
#include "lib/Import/HuggingFace/Shrink.h"
#include "lib/Import/HuggingFace/TensorStore.h"
#include "lib/Import/JSON.h"
#include "lib/Import/ONNX/Evaluator.h"
#include "lib/Import/ONNX/GraphImporter.h"
#include "lib/Import/ONNX/GraphMatcher.h"
#include "lib/Import/ONNX/Passes.h"
#include "lib/Import/RotaryRows.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;
using huggingface::Config;
using huggingface::StoredTensor;

namespace hadal::onnx {
#define GEN_PASS_DEF_RAISETODEEPSEEK
#include "lib/Import/ONNX/Passes.h.inc"
} // namespace hadal::onnx

constexpr uint64_t maxConfigBytes = 16 << 20;
/// What a sequence may have where nothing says it.
constexpr int64_t defaultContextTokens = 4096;

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

namespace {
/// A tensor as the model builder asks for it: some rows of a matrix, all of a
/// vector, which has no columns, or a stack.
struct Part {
  /// One, or one for each expert.
  std::vector<Matrix> matrices;
  /// What several are called, with `{}` for their number; else empty.
  std::string name;

  /// Matrices of a stack; 0: it is none.
  int64_t depth() const {
    return name.empty() ? matrices[0].experts : int64_t(matrices.size());
  }
};

class GraphStore : public huggingface::TensorStore {
public:
  GraphStore(const Decoder &decoder, const RaiseOptions &options);

  absl::StatusOr<StoredTensor> take(StringRef name,
                                    ArrayRef<int64_t> shape) override;
  absl::StatusOr<StoredTensor> takeStack(StringRef name,
                                         ArrayRef<int64_t> shape) override {
    return take(name, shape);
  }
  std::optional<huggingface::InputGrid>
  getInputGrid(StringRef name) const override {
    auto found = parts.find(name);
    return found == parts.end() ? std::nullopt
                                : found->second.matrices[0].inputGrid;
  }
  /// The graph says what is used, and of that nothing is left over.
  absl::Status checkUnused(const Config &config,
                           std::vector<std::string> &notes) override {
    return absl::OkStatus();
  }
  std::string sourcePath() const override { return options.path; }

private:
  void addVector(const Twine &name, InitializerOp tensor);
  void addMatrix(const Twine &name, const Matrix &matrix);
  void addStack(const Twine &name, const std::vector<Matrix> &matrices);
  void addLayer(const std::string &prefix, const DecoderLayer &layer,
                bool isLatent);

  const RaiseOptions &options;
  llvm::StringMap<Part> parts;
};

/// Makes the recipe of a part.
class PartReader {
public:
  PartReader(OpBuilder &recipe, const Part &part)
      : recipe(recipe), part(part), matrix(part.matrices[0]),
        depth(part.depth()) {}

  Value read();

private:
  using Role = InitializerOp Matrix::*;

  SmallVector<int64_t> stacked(ArrayRef<int64_t> shape) const;
  /// Axis \p i of a matrix, counted in a stack.
  int64_t axis(int64_t i) const { return i + (depth ? 1 : 0); }
  Value readSource(Role role, ArrayRef<int64_t> shape);
  Value slice(Value value, int64_t axis, int64_t begin, int64_t end);
  Value reshape(Value value, ArrayRef<int64_t> shape);
  Value transpose(Value value);
  Value unpack(Value value, int64_t bits, Type element, int64_t plus = 0);
  Value readIntegers(Role role);
  Value selectRows(Value value);
  Value readPackedZeros(int64_t blocks);
  Value readPacked();
  Value readQuantized();

  OpBuilder &recipe;
  const Part &part;
  const Matrix &matrix;
  int64_t depth;
};
} // namespace

GraphStore::GraphStore(const Decoder &decoder, const RaiseOptions &options)
    : options(options) {
  addMatrix("model.embed_tokens", decoder.embedding);
  addMatrix("lm_head", decoder.head);
  addVector("model.norm.weight", decoder.norm);
  for (auto [i, layer] : llvm::enumerate(decoder.layers))
    addLayer("model.layers." + std::to_string(i) + ".", layer,
             decoder.latent.has_value());
}

void GraphStore::addLayer(const std::string &prefix, const DecoderLayer &layer,
                          bool isLatent) {
  addVector(prefix + "input_layernorm.weight", layer.inputNorm);
  addVector(prefix + "post_attention_layernorm.weight", layer.attentionNorm);
  std::string attention = prefix + "self_attn.";
  if (isLatent) {
    addMatrix(attention + (layer.qNorm ? "q_b_proj" : "q_proj"), layer.q);
    if (layer.qNorm) {
      addMatrix(attention + "q_a_proj", layer.qLatent);
      addVector(attention + "q_a_layernorm.weight", layer.qNorm);
    }
    addMatrix(attention + "kv_a_proj_with_mqa", layer.kvLatent);
    addVector(attention + "kv_a_layernorm.weight", layer.kvNorm);
    addMatrix(attention + "kv_b_proj", layer.kvExpansion);
  } else {
    addMatrix(attention + "q_proj", layer.q);
    addMatrix(attention + "k_proj", layer.k);
    addMatrix(attention + "v_proj", layer.v);
  }
  addMatrix(attention + "o_proj", layer.o);
  std::string network = prefix + "mlp.";
  if (const std::optional<Mixture> &mixture = layer.mixture) {
    addMatrix(network + "gate", mixture->router);
    if (mixture->correction)
      addVector(network + "gate.e_score_correction_bias", mixture->correction);
    addStack(network + "experts.{}.gate_proj", mixture->gate);
    addStack(network + "experts.{}.up_proj", mixture->up);
    addStack(network + "experts.{}.down_proj", mixture->down);
    if (!mixture->config.sharedExperts)
      return;
    network += "shared_experts.";
  }
  addMatrix(network + "gate_proj", layer.gate);
  addMatrix(network + "up_proj", layer.up);
  addMatrix(network + "down_proj", layer.down);
}

void GraphStore::addVector(const Twine &name, InitializerOp tensor) {
  Matrix vector;
  vector.tensor = tensor;
  vector.storedRows = vector.rows = tensor.getType().getNumElements();
  parts[name.str()] = {{vector}, ""};
}

void GraphStore::addMatrix(const Twine &name, const Matrix &matrix) {
  parts[(name + ".weight").str()] = {{matrix}, ""};
  if (!matrix.bias)
    return;
  Matrix bias;
  bias.tensor = matrix.bias;
  bias.storedRows = matrix.storedRows;
  bias.firstRow = matrix.firstRow;
  bias.rows = matrix.rows;
  bias.interleavedHeads = matrix.interleavedHeads;
  parts[(name + ".bias").str()] = {{bias}, ""};
}

void GraphStore::addStack(const Twine &name,
                          const std::vector<Matrix> &matrices) {
  std::string full = (name + ".weight").str();
  parts[full] = {matrices, matrices[0].experts ? "" : full};
}

SmallVector<int64_t> PartReader::stacked(ArrayRef<int64_t> shape) const {
  SmallVector<int64_t> all;
  if (depth)
    all.push_back(depth);
  llvm::append_range(all, shape);
  return all;
}

/// Reads tensors as \p shape, or a stack of it; integers of a few bits as their
/// bytes.
Value PartReader::readSource(Role role, ArrayRef<int64_t> shape) {
  InitializerOp first = matrix.*role;
  Type element = first.getType().getElementType();
  if (element.isUnsignedInteger(8) || role == &Matrix::order)
    element = recipe.getI8Type();
  std::string name = getSourceName(first);
  if (!part.name.empty())
    name = part.name + (role == &Matrix::scales  ? ".scales"
                        : role == &Matrix::zeros ? ".zeros"
                                                 : "");
  SmallVector<mlir::Attribute> files;
  SmallVector<int64_t> offsets;
  for (const Matrix &each : part.matrices) {
    InitializerOp tensor = each.*role;
    if (tensor.getFile().empty())
      continue;
    files.push_back(tensor.getFileAttr());
    offsets.push_back(int64_t(tensor.getOffset()));
  }
  if (files.size() > 1 && llvm::all_equal(files))
    files.resize(1);
  return deepseek::SourceOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get(stacked(shape), element),
      recipe.getStringAttr(name), recipe.getArrayAttr(files),
      recipe.getDenseI64ArrayAttr(offsets));
}

Value PartReader::slice(Value value, int64_t axis, int64_t begin, int64_t end) {
  auto type = cast<RankedTensorType>(value.getType());
  if (begin == 0 && end == type.getDimSize(unsigned(axis)))
    return value;
  SmallVector<int64_t> shape(type.getShape());
  shape[size_t(axis)] = end - begin;
  return deepseek::SliceOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get(shape, type.getElementType()), value, axis, begin,
      end);
}

Value PartReader::reshape(Value value, ArrayRef<int64_t> shape) {
  Type element = cast<RankedTensorType>(value.getType()).getElementType();
  return deepseek::ReshapeOp::create(recipe, recipe.getUnknownLoc(),
                                     RankedTensorType::get(shape, element),
                                     value);
}

/// Swaps the last two dimensions.
Value PartReader::transpose(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  SmallVector<int64_t> shape(type.getShape()), order;
  for (int64_t i = 0; i < type.getRank(); ++i)
    order.push_back(i);
  std::swap(shape[shape.size() - 1], shape[shape.size() - 2]);
  std::swap(order[order.size() - 1], order[order.size() - 2]);
  return deepseek::TransposeOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get(shape, type.getElementType()), value, order);
}

Value PartReader::unpack(Value value, int64_t bits, Type element,
                         int64_t plus) {
  SmallVector<int64_t> shape(
      cast<RankedTensorType>(value.getType()).getShape());
  shape.back() = shape.back() * 8 / bits;
  return deepseek::UnpackOp::create(recipe, recipe.getUnknownLoc(),
                                    RankedTensorType::get(shape, element),
                                    value, bits, plus);
}

/// Those rows of \p value, matrices or columns, that the part is.
Value PartReader::selectRows(Value value) {
  if (matrix.rowStep == 1) {
    value =
        slice(value, axis(0), matrix.firstRow, matrix.firstRow + matrix.rows);
  } else {
    // A dimension for the rows that stand between those of the part.
    SmallVector<int64_t> rest(
        cast<RankedTensorType>(value.getType()).getShape());
    rest.erase(rest.begin(), rest.begin() + axis(1));
    SmallVector<int64_t> split = {matrix.rows, matrix.rowStep};
    SmallVector<int64_t> joined = {matrix.rows};
    llvm::append_range(split, rest);
    llvm::append_range(joined, rest);
    value = reshape(value, stacked(split));
    value = slice(value, axis(1), matrix.firstRow, matrix.firstRow + 1);
    value = reshape(value, stacked(joined));
  }
  if (!matrix.interleavedHeads)
    return value;
  return splitRotaryPairs(recipe, value, matrix.interleavedHeads);
}

Value PartReader::readPackedZeros(int64_t blocks) {
  int64_t bits = matrix.packedBits, rows = matrix.storedRows;
  Type i8 = recipe.getI8Type();
  if (matrix.hasZeroColumn) {
    Value zeros = readSource(&Matrix::zeros, {(rows * bits + 7) / 8});
    zeros = slice(unpack(zeros, bits, i8), axis(0), 0, rows);
    return selectRows(reshape(zeros, stacked({rows, 1})));
  }
  Value zeros = readSource(&Matrix::zeros, {rows, (blocks * bits + 7) / 8});
  return selectRows(slice(unpack(zeros, bits, i8), axis(1), 0, blocks));
}

/// (code - zero point) * scale, in f32. Both are less half their range; where
/// there are no zero points, they are that half. Ends in that, so that a pass
/// can keep the codes.
Value PartReader::readPacked() {
  int64_t bits = matrix.packedBits, rows = matrix.storedRows;
  int64_t blocks = (matrix.columns + matrix.block - 1) / matrix.block;
  InitializerOp tensor = matrix.tensor;
  int64_t bytes = tensor.getType().getNumElements() / rows /
                  std::max<int64_t>(1, matrix.experts);
  Value codes = unpack(readSource(&Matrix::tensor, {rows, bytes}), bits,
                       recipe.getIntegerType(bits <= 4 ? 4 : 8));
  codes = selectRows(slice(codes, axis(1), 0, matrix.columns));
  Value scales = selectRows(readSource(&Matrix::scales, {rows, blocks}));
  Value zeros = matrix.zeros ? readPackedZeros(blocks) : Value();
  int64_t block = matrix.block;
  if (InitializerOp order = matrix.order) {
    Value indices =
        readSource(&Matrix::order, {order.getType().getNumElements(), 4});
    indices = slice(indices, 0, 0, matrix.columns);
    auto gather = [&](Value value) -> Value {
      SmallVector<int64_t> shape(
          cast<RankedTensorType>(value.getType()).getShape());
      shape.back() = matrix.columns;
      return deepseek::GatherOp::create(
          recipe, recipe.getUnknownLoc(),
          RankedTensorType::get(
              shape, cast<RankedTensorType>(value.getType()).getElementType()),
          value, indices);
    };
    scales = gather(scales);
    zeros = zeros ? gather(zeros) : zeros;
    block = 1;
  }
  return deepseek::DequantizeOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get(stacked({matrix.rows, matrix.columns}),
                            recipe.getF32Type()),
      codes, scales, zeros, /*rows=*/1, /*columns=*/block,
      /*unchecked=*/false);
}

/// Integers of DequantizeLinear as they are, signed. Bytes hold several of a
/// few bits, whatever row they are of.
Value PartReader::readIntegers(Role role) {
  InitializerOp tensor = matrix.*role;
  RankedTensorType type = getLogicalType(tensor);
  unsigned bits = type.getElementTypeBitWidth();
  bool isUnsigned = type.getElementType().isUnsignedInteger();
  SmallVector<int64_t> shape(tensor.getType().getShape());
  if (shape.empty())
    shape.push_back(1);
  Value value = readSource(role, shape);
  if (bits == 8 && !isUnsigned)
    return value;
  Type element = role == &Matrix::tensor && bits <= 4 ? recipe.getIntegerType(4)
                                                      : recipe.getI8Type();
  int64_t half = int64_t(1) << (bits - 1);
  value = unpack(value, bits, element, isUnsigned ? 0 : half);
  if (bits == 8)
    return value;
  return reshape(slice(value, 0, 0, type.getNumElements()), type.getShape());
}

/// (code - zero point) * scale, in f32, of DequantizeLinear.
Value PartReader::readQuantized() {
  // As [rows, columns of \p role].
  auto readMatrix = [&](Role role) {
    InitializerOp tensor = matrix.*role;
    RankedTensorType type = tensor.getType();
    Value value = isa<FloatType>(type.getElementType())
                      ? readSource(role, type.getShape())
                      : readIntegers(role);
    auto shape = cast<RankedTensorType>(value.getType()).getShape();
    if (role != &Matrix::tensor && matrix.hasOneScale)
      return reshape(value, {1, 1});
    if (shape.size() == 1)
      value = reshape(value, {shape[0], 1});
    else if (matrix.isTransposed)
      value = transpose(value);
    return selectRows(value);
  };
  Value codes = readMatrix(&Matrix::tensor);
  Value scales = readMatrix(&Matrix::scales);
  Value zeros = matrix.zeros ? readMatrix(&Matrix::zeros) : Value();
  return deepseek::DequantizeOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get(stacked({matrix.rows, matrix.columns}),
                            recipe.getF32Type()),
      codes, scales, zeros, /*rows=*/matrix.hasOneScale ? matrix.rows : 1,
      /*columns=*/matrix.block, /*unchecked=*/false);
}

Value PartReader::read() {
  if (matrix.packedBits)
    return readPacked();
  if (matrix.scales)
    return readQuantized();
  int64_t rows = matrix.storedRows, columns = matrix.columns;
  if (!columns)
    return selectRows(readSource(&Matrix::tensor, {rows}));
  if (!matrix.isTransposed)
    return selectRows(readSource(&Matrix::tensor, {rows, columns}));
  // Rows are columns of the tensor.
  Value value = readSource(&Matrix::tensor, {columns, rows});
  if (matrix.rowStep != 1)
    return selectRows(transpose(value));
  value = transpose(
      slice(value, axis(1), matrix.firstRow, matrix.firstRow + matrix.rows));
  if (!matrix.interleavedHeads)
    return value;
  return splitRotaryPairs(recipe, value, matrix.interleavedHeads);
}

absl::StatusOr<StoredTensor> GraphStore::take(StringRef name,
                                              ArrayRef<int64_t> shape) {
  auto found = parts.find(name);
  if (found == parts.end())
    return invalid(options.path + ": the graph has nothing that is " +
                   quote(name) + ", expected a tensor of shape " +
                   toText(shape));
  const Part &part = found->second;
  const Matrix &matrix = part.matrices[0];
  SmallVector<int64_t> given;
  if (part.depth())
    given.push_back(part.depth());
  given.push_back(matrix.rows);
  if (matrix.columns)
    given.push_back(matrix.columns);
  InitializerOp tensor = matrix.tensor;
  StoredTensor stored;
  stored.place = options.path + ": tensor " + quote(tensor.getName());
  if (ArrayRef<int64_t>(given) != shape)
    return invalid(stored.place + ", which is " + quote(name) + ", has shape " +
                   toText(given) + ", but the rest of the graph makes it " +
                   toText(shape));
  Type element = tensor.getType().getElementType();
  llvm::raw_string_ostream(stored.typeName) << element;
  if (matrix.scales)
    element = Float32Type::get(element.getContext());
  if (element.isF32() || element.isF16() || element.isBF16())
    stored.element = element;
  stored.build = [&part](OpBuilder &recipe) {
    return PartReader(recipe, part).read();
  };
  return stored;
}

//===----------------------------------------------------------------------===//
// Configuration
//===----------------------------------------------------------------------===//

/// The object in \p name of the model's folder, or nothing if there is none.
static absl::StatusOr<std::optional<llvm::json::Object>>
readBeside(const RaiseOptions &options, StringRef name) {
  llvm::SmallString<256> path(options.folder);
  llvm::sys::path::append(path, name);
  if (!llvm::sys::fs::exists(path))
    return std::optional<llvm::json::Object>();
  absl::StatusOr<std::string> resolved =
      resolveInFolder(options.folder.empty() ? "." : options.folder, name);
  if (!resolved.ok())
    return resolved.status();
  absl::StatusOr<llvm::json::Object> object =
      readObject(*resolved, maxConfigBytes);
  if (!object.ok())
    return object.status();
  return std::optional<llvm::json::Object>(std::move(*object));
}

/// What onnxruntime-genai's own file says of tokens and lengths.
static absl::Status readGenAI(const llvm::json::Object &json, StringRef path,
                              Config &config) {
  const llvm::json::Object *model = json.getObject("model");
  if (!model)
    return invalid(path + ": has no object 'model'");
  auto token = [&](StringRef key, const llvm::json::Value &value,
                   int64_t &result) -> absl::Status {
    std::optional<int64_t> number = value.getAsInteger();
    if (!number || *number < 0 || *number > huggingface::maxTokens)
      return invalid(path + ": '" + key + "' is " + toText(value) +
                     ", expected an integer from 0 to " +
                     Twine(huggingface::maxTokens));
    result = *number;
    return absl::OkStatus();
  };
  absl::Status status;
  int64_t number = 0;
  if (const llvm::json::Value *value = model->get("context_length")) {
    status = token("context_length", *value, number);
    if (status.ok() && number > 0)
      config.maxPositions = number;
  }
  if (const llvm::json::Value *value = model->get("bos_token_id");
      value && status.ok() && value->kind() != llvm::json::Value::Null) {
    status = token("bos_token_id", *value, number);
    config.bosToken = number;
  }
  if (const llvm::json::Value *value = model->get("eos_token_id");
      value && status.ok() && value->kind() != llvm::json::Value::Null) {
    if (const llvm::json::Array *list = value->getAsArray()) {
      for (const llvm::json::Value &each : *list)
        if (status.ok()) {
          status = token("eos_token_id", each, number);
          config.eosTokens.push_back(number);
        }
    } else {
      status = token("eos_token_id", *value, number);
      config.eosTokens.push_back(number);
    }
  }
  return status;
}

/// Requires that config.json and the graph agree.
static absl::Status checkConfig(const Config &given, const Config &config) {
  using Pair = std::tuple<StringRef, int64_t, int64_t>;
  SmallVector<Pair> pairs = {
      {"vocab_size", given.vocab, config.vocab},
      {"hidden_size", given.hidden, config.hidden},
      {"num_hidden_layers", given.layers, config.layers},
      {"num_attention_heads", given.heads, config.heads},
      {"sliding_window", given.windowTokens.value_or(0), 0},
      {"index_topk", given.indexer ? given.indexer->topK : 0, 0},
      {"hc_mult", given.hyper ? given.hyper->streams : 0, 0}};
  if (config.intermediate)
    pairs.push_back(
        {"intermediate_size", given.intermediate, config.intermediate});
  auto a = given.latent.value_or(huggingface::LatentConfig());
  auto b = config.latent.value_or(huggingface::LatentConfig());
  pairs.append(
      {Pair{"kv_lora_rank", a.rank, b.rank},
       Pair{"q_lora_rank", a.queryRank.value_or(0), b.queryRank.value_or(0)},
       Pair{"qk_nope_head_dim", a.nopeDim, b.nopeDim},
       Pair{"qk_rope_head_dim", a.ropeDim, b.ropeDim},
       Pair{"v_head_dim", a.valueDim, b.valueDim}});
  if (!config.latent)
    pairs.append({Pair{"num_key_value_heads", given.kvHeads, config.kvHeads},
                  Pair{"head_dim", given.headDim, config.headDim}});
  auto m = given.moe.value_or(huggingface::MoEConfig());
  auto n = config.moe.value_or(huggingface::MoEConfig());
  pairs.push_back({"n_routed_experts", m.experts, n.experts});
  if (given.moe && config.moe)
    pairs.append({Pair{"num_experts_per_tok", m.topK, n.topK},
                  Pair{"moe_intermediate_size", m.intermediate, n.intermediate},
                  Pair{"n_shared_experts", m.sharedExperts, n.sharedExperts},
                  Pair{"first_k_dense_replace", m.firstDense, n.firstDense},
                  Pair{"moe_layer_freq", m.layerFreq, n.layerFreq},
                  Pair{"n_group", m.groups, n.groups},
                  Pair{"topk_group", m.topGroups, n.topGroups},
                  Pair{"norm_topk_prob", m.normalize, n.normalize}});
  for (auto [key, x, y] : pairs)
    if (x != y)
      return invalid(given.path + ": '" + key + "' is " + Twine(x) +
                     ", but the graph has " + Twine(y));
  if (m.scoring != n.scoring || m.method != n.method)
    return invalid(given.path + ": experts are chosen by " +
                   deepseek::stringifyScoring(m.scoring) + " and " +
                   deepseek::stringifyTopKMethod(m.method) +
                   ", but the graph has " +
                   deepseek::stringifyScoring(n.scoring) + " and " +
                   deepseek::stringifyTopKMethod(n.method));
  const std::tuple<StringRef, double, double> numbers[] = {
      {"rms_norm_eps", given.normEpsilon, config.normEpsilon},
      {"routed_scaling_factor", m.scale, n.scale},
      {"swiglu_limit", m.limit.value_or(0), n.limit.value_or(0)}};
  for (auto [key, x, y] : numbers)
    if (float(x) != float(y))
      return invalid(given.path + ": '" + key + "' is " + std::to_string(x) +
                     ", but the graph has " + std::to_string(y));
  return absl::OkStatus();
}

/// All layers have biases on the same projections, or none.
static absl::Status readBiases(const Decoder &decoder, StringRef path,
                               Config &config) {
  auto has = [](const Matrix &matrix) { return bool(matrix.bias); };
  const DecoderLayer &first = decoder.layers.front();
  bool isLatent = decoder.latent.has_value();
  config.qkvBias = !isLatent && has(first.q);
  config.latentBias = has(first.kvLatent);
  config.outputBias = has(first.o);
  config.mlpBias = has(first.gate);
  bool hasQueryLatent = isLatent && decoder.latent->queryRank;
  for (auto [i, layer] : llvm::enumerate(decoder.layers)) {
    bool isSame =
        has(layer.q) == config.qkvBias && has(layer.k) == config.qkvBias &&
        has(layer.v) == config.qkvBias && has(layer.o) == config.outputBias &&
        has(layer.kvLatent) == config.latentBias &&
        has(layer.qLatent) == (hasQueryLatent && config.latentBias) &&
        !has(layer.kvExpansion) && has(layer.gate) == config.mlpBias &&
        has(layer.up) == config.mlpBias && has(layer.down) == config.mlpBias;
    if (!isSame)
      return unimplemented(path + ": layer " + Twine(i) +
                           " has biases on other projections than layer 0, or "
                           "not on all of q, k and v, or of the feed-forward");
    if (layer.mixture && config.mlpBias)
      return unimplemented(path + ": layer " + Twine(i) +
                           " has experts, and the feed-forward has biases");
  }
  if (has(decoder.head))
    return unimplemented(path + ": the logits have a bias");
  return absl::OkStatus();
}

/// Only inputs of ordinary products may be rounded: not of what attention has
/// in it, of routers and of experts.
static absl::Status checkGrids(const Decoder &decoder, StringRef path) {
  for (auto [i, layer] : llvm::enumerate(decoder.layers)) {
    SmallVector<const Matrix *> others = {&layer.kvExpansion};
    if (const std::optional<Mixture> &mixture = layer.mixture) {
      others.push_back(&mixture->router);
      for (const auto *stack : {&mixture->gate, &mixture->up, &mixture->down})
        for (const Matrix &matrix : *stack)
          others.push_back(&matrix);
    }
    for (const Matrix *matrix : others)
      if (matrix->inputGrid)
        return unimplemented(path + ": layer " + Twine(i) +
                             " rounds the inputs of its experts, their router "
                             "or the expansion of its latents");
  }
  return absl::OkStatus();
}

/// The shortest decimal that rounds to \p number, which it was before.
static double shorten(double number) {
  std::string digits;
  llvm::raw_string_ostream(digits) << llvm::format("%.6g", number);
  double shortest = 0;
  if (StringRef(digits).getAsDouble(shortest) ||
      float(shortest) != float(number))
    return number;
  return shortest;
}

/// Layers with experts follow those without, and all have the same.
static absl::Status readExperts(const Decoder &decoder, StringRef path,
                                Config &config) {
  for (auto [i, layer] : llvm::enumerate(decoder.layers)) {
    if (!layer.mixture) {
      if (config.moe)
        return unimplemented(path + ": layer " + Twine(i) +
                             " has no experts, which a layer before it has");
      config.intermediate = layer.gate.rows;
      continue;
    }
    huggingface::MoEConfig moe = layer.mixture->config;
    moe.scale = shorten(moe.scale);
    if (moe.limit)
      moe.limit = shorten(*moe.limit);
    // How many experts the shared part is as wide as.
    if (moe.sharedExperts) {
      if (layer.gate.rows % moe.intermediate != 0)
        return unimplemented(path + ": layer " + Twine(i) +
                             " has a shared part of " + Twine(layer.gate.rows) +
                             " columns, expected a multiple of an expert's " +
                             Twine(moe.intermediate));
      moe.sharedExperts = layer.gate.rows / moe.intermediate;
    }
    moe.firstDense = config.moe ? config.moe->firstDense : int64_t(i);
    if (moe.limit && (moe.sharedExperts || moe.firstDense))
      return unimplemented(path + ": layer " + Twine(i) +
                           " has a swiglu_limit, which the shared experts and "
                           "the layers without experts do not have");
    if (!config.moe)
      config.moe = moe;
    auto keyOf = [](const huggingface::MoEConfig &moe) {
      return std::tuple(moe.experts, moe.sharedExperts, moe.topK, moe.groups,
                        moe.topGroups, moe.intermediate, moe.scoring,
                        moe.method, moe.normalize, moe.scale, moe.limit);
    };
    if (keyOf(moe) != keyOf(*config.moe))
      return unimplemented(path + ": layer " + Twine(i) +
                           " has other experts, or chooses them by another "
                           "rule, than layer " +
                           Twine(config.moe->firstDense));
  }
  return absl::OkStatus();
}

/// The generation that a graph looks like one of, if nothing says it.
static StringRef modelTypeOf(const Config &config) {
  if (config.latent)
    return config.moe && config.moe->scoring == deepseek::Scoring::Sigmoid
               ? "deepseek_v3"
               : "deepseek_v2";
  if (config.moe)
    return "deepseek";
  // Of Llama's and Qwen2's graphs only this differs.
  return config.qkvBias && !config.outputBias ? "qwen2" : "llama";
}

static absl::StatusOr<Config> makeConfig(const Decoder &decoder,
                                         const std::optional<Config> &given,
                                         const RaiseOptions &options,
                                         std::vector<std::string> &notes) {
  Config config;
  config.path = options.path;
  if (absl::Status status = readBiases(decoder, options.path, config);
      !status.ok())
    return status;
  if (absl::Status status = readExperts(decoder, options.path, config);
      !status.ok())
    return status;
  if (absl::Status status = checkGrids(decoder, options.path); !status.ok())
    return status;
  config.latent = decoder.latent;
  config.modelType = modelTypeOf(config).str();
  config.vocab = decoder.head.rows;
  config.hidden = decoder.head.columns;
  config.layers = int64_t(decoder.layers.size());
  config.heads = decoder.heads;
  config.kvHeads = decoder.kvHeads;
  config.headDim = decoder.headDim;
  config.normEpsilon = shorten(decoder.epsilon);
  config.rope = decoder.rope;
  config.tiedEmbeddings = decoder.head.isSame(decoder.embedding);
  config.maxPositions = decoder.maxPositions;
  if (config.layers > huggingface::maxLayers ||
      (config.moe && config.moe->experts > huggingface::maxExperts) ||
      std::max({config.vocab, config.hidden, config.intermediate,
                config.heads * config.headDim}) > huggingface::maxDimension)
    return unimplemented(options.path + ": the model has more layers or larger "
                                        "ones than Hadal takes");
  if (!(config.normEpsilon > 0))
    return invalid(options.path + ": the norms have epsilon " +
                   std::to_string(config.normEpsilon) +
                   ", expected more than 0");

  absl::StatusOr<std::optional<llvm::json::Object>> genai =
      readBeside(options, "genai_config.json");
  if (!genai.ok())
    return genai.status();
  int64_t fromTables = config.maxPositions;
  if (*genai)
    if (absl::Status status =
            readGenAI(**genai, options.folder + "/genai_config.json", config);
        !status.ok())
      return status;
  if (given) {
    if (absl::Status status = checkConfig(*given, config); !status.ok())
      return status;
    config.modelType = given->modelType;
    config.maxPositions = given->maxPositions;
    config.bosToken = given->bosToken;
    config.eosTokens = given->eosTokens;
  }
  if (fromTables && config.maxPositions > fromTables) {
    notes.push_back("the graph's tables have " + std::to_string(fromTables) +
                    " positions, fewer than the configuration's " +
                    std::to_string(config.maxPositions));
    config.maxPositions = fromTables;
  }
  if (!config.maxPositions) {
    notes.push_back("nothing says how many tokens a sequence may have: took " +
                    std::to_string(defaultContextTokens));
    config.maxPositions = defaultContextTokens;
  }
  return config;
}

//===----------------------------------------------------------------------===//
// The module
//===----------------------------------------------------------------------===//

absl::StatusOr<OwningOpRef<ModuleOp>>
onnx::raiseToDeepSeek(ModuleOp module, const RaiseOptions &options,
                      std::vector<std::string> &notes) {
  MLIRContext &context = *module.getContext();
  context.loadDialect<deepseek::DeepSeekDialect, func::FuncDialect,
                      arith::ArithDialect>();
  auto graph = module.lookupSymbol<func::FuncOp>(graphName);
  if (!graph || graph.isExternal())
    return invalid(options.path + ": has no function '@" + graphName + "'");
  if (failed(fuseIdioms(graph)))
    return absl::InternalError("fusing the idioms of the graph did not end");

  std::optional<Config> given;
  absl::StatusOr<std::optional<llvm::json::Object>> json =
      readBeside(options, "config.json");
  if (!json.ok())
    return json.status();
  if (*json) {
    absl::StatusOr<Config> read =
        huggingface::readConfig(**json, options.folder + "/config.json", notes);
    if (!read.ok())
      return read.status();
    given = std::move(*read);
  }
  std::optional<huggingface::RopeConfig> rope;
  if (given)
    rope = given->rope;
  absl::StatusOr<Decoder> decoder =
      matchDecoder(graph, options.folder, options.path, rope);
  if (!decoder.ok())
    return decoder.status();
  absl::StatusOr<Config> config = makeConfig(*decoder, given, options, notes);
  if (!config.ok())
    return config.status();
  if (options.tiny)
    return huggingface::buildTiny(context, *config, nullptr, notes);

  int64_t contextTokens = config->maxPositions;
  if (options.contextTokens) {
    contextTokens = options.contextTokens;
    // Beyond its tables the graph computes nothing.
    if (decoder->maxPositions && contextTokens > decoder->maxPositions)
      notes.push_back("a context of " + std::to_string(contextTokens) +
                      " tokens is more than the positions of the graph's "
                      "tables, " +
                      std::to_string(decoder->maxPositions));
  }
  GraphStore store(*decoder, options);
  return huggingface::buildModel(context, *config, &store, options.name,
                                 contextTokens, notes);
}

namespace {
struct RaiseToDeepSeek
    : public onnx::impl::RaiseToDeepSeekBase<RaiseToDeepSeek> {
  using RaiseToDeepSeekBase::RaiseToDeepSeekBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    RaiseOptions options;
    options.folder = folder;
    options.path = folder + "/@" + graphName.str();
    options.name = "model";
    options.contextTokens = contextTokens;
    std::vector<std::string> notes;
    absl::StatusOr<OwningOpRef<ModuleOp>> raised =
        raiseToDeepSeek(module, options, notes);
    if (!raised.ok()) {
      module.emitError() << std::string(raised.status().message());
      return signalPassFailure();
    }
    module.getBody()->clear();
    module.getBody()->getOperations().splice(
        module.getBody()->end(), (*raised)->getBody()->getOperations());
  }
};
} // namespace
