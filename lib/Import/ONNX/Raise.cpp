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
/// A tensor as the model builder asks for it: all of a vector or matrix of the
/// graph, or some rows of it.
struct Part {
  InitializerOp tensor;
  NodeOp packed, quantized; ///< As in `Matrix`.
  bool isTransposed = false;
  int64_t storedRows = 0, columns = 0; ///< No columns: a vector.
  int64_t firstRow = 0, rows = 0;
  int64_t interleavedHeads = 0;
};

class GraphStore : public huggingface::TensorStore {
public:
  GraphStore(const Decoder &decoder, const RaiseOptions &options);

  absl::StatusOr<StoredTensor> take(StringRef name,
                                    ArrayRef<int64_t> shape) override;
  absl::StatusOr<StoredTensor> takeStack(StringRef name,
                                         ArrayRef<int64_t> shape) override {
    return invalid(options.path + ": has no experts " + quote(name));
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

  const RaiseOptions &options;
  llvm::StringMap<Part> parts;
};
} // namespace

GraphStore::GraphStore(const Decoder &decoder, const RaiseOptions &options)
    : options(options) {
  Matrix embedding;
  embedding.tensor = decoder.embedding;
  RankedTensorType type = embedding.tensor.getType();
  embedding.storedRows = embedding.rows = type.getDimSize(0);
  embedding.columns = type.getDimSize(1);
  addMatrix("model.embed_tokens", embedding);
  addMatrix("lm_head", decoder.head);
  addVector("model.norm.weight", decoder.norm);
  for (auto [i, layer] : llvm::enumerate(decoder.layers)) {
    std::string prefix = "model.layers." + std::to_string(i) + ".";
    addVector(prefix + "input_layernorm.weight", layer.inputNorm);
    addVector(prefix + "post_attention_layernorm.weight", layer.attentionNorm);
    addMatrix(prefix + "self_attn.q_proj", layer.q);
    addMatrix(prefix + "self_attn.k_proj", layer.k);
    addMatrix(prefix + "self_attn.v_proj", layer.v);
    addMatrix(prefix + "self_attn.o_proj", layer.o);
    addMatrix(prefix + "mlp.gate_proj", layer.gate);
    addMatrix(prefix + "mlp.up_proj", layer.up);
    addMatrix(prefix + "mlp.down_proj", layer.down);
  }
}

void GraphStore::addVector(const Twine &name, InitializerOp tensor) {
  Part part;
  part.tensor = tensor;
  part.storedRows = part.rows = tensor.getType().getNumElements();
  parts[name.str()] = part;
}

void GraphStore::addMatrix(const Twine &name, const Matrix &matrix) {
  Part part{matrix.tensor,       matrix.packed,     matrix.quantized,
            matrix.isTransposed, matrix.storedRows, matrix.columns,
            matrix.firstRow,     matrix.rows,       matrix.interleavedHeads};
  parts[(name + ".weight").str()] = part;
  if (!matrix.bias)
    return;
  part.tensor = matrix.bias;
  part.packed = part.quantized = {};
  part.isTransposed = false;
  part.columns = 0;
  parts[(name + ".bias").str()] = part;
}

/// Reads \p tensor as \p shape; integers of a few bits as their bytes.
static Value readSource(OpBuilder &recipe, InitializerOp tensor,
                        ArrayRef<int64_t> shape) {
  Type element = tensor.getType().getElementType();
  if (element.isUnsignedInteger(8))
    element = recipe.getI8Type();
  SmallVector<mlir::Attribute> files;
  SmallVector<int64_t> offsets;
  if (!tensor.getFile().empty()) {
    files.push_back(tensor.getFileAttr());
    offsets.push_back(int64_t(tensor.getOffset()));
  }
  return deepseek::SourceOp::create(
      recipe, recipe.getUnknownLoc(), RankedTensorType::get(shape, element),
      recipe.getStringAttr(getSourceName(tensor)), recipe.getArrayAttr(files),
      recipe.getDenseI64ArrayAttr(offsets));
}

static Value slice(OpBuilder &recipe, Value value, int64_t axis, int64_t begin,
                   int64_t end) {
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

/// Those rows of \p value, a matrix or a column, that \p part is.
static Value selectRows(OpBuilder &recipe, Value value, const Part &part) {
  value = slice(recipe, value, 0, part.firstRow, part.firstRow + part.rows);
  if (!part.interleavedHeads)
    return value;
  return splitRotaryPairs(recipe, value, part.interleavedHeads);
}

/// The tensor of the file that operand \p i is.
static InitializerOp tensorOf(NodeOp node, unsigned i) {
  Value value = getOperand(node, i);
  while (NodeOp other = value.getDefiningOp<NodeOp>())
    value = other.getInputs()[0]; // A cast or a reshape.
  return value.getDefiningOp<InitializerOp>();
}

/// Codes, or zero points, of MatMulNBits: \p columns a row, of type \p element.
static Value readCodes(OpBuilder &recipe, InitializerOp tensor,
                       const Part &part, int64_t columns, int64_t bits,
                       Type element) {
  int64_t bytes = tensor.getType().getNumElements() / part.storedRows;
  Value codes = readSource(recipe, tensor, {part.storedRows, bytes});
  codes = deepseek::UnpackOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get({part.storedRows, bytes * 8 / bits}, element),
      codes, bits, /*plus=*/0);
  return selectRows(recipe, slice(recipe, codes, 1, 0, columns), part);
}

/// (code - zero point) * scale, in f32. Both are less half their range; where
/// there are no zero points, they are that half. Ends in that, so that a pass
/// can keep the codes.
static Value readPacked(OpBuilder &recipe, const Part &part) {
  NodeOp node = part.packed;
  int64_t bits = getInt(node, "bits", 4);
  int64_t block = getInt(node, "block_size", 0);
  int64_t blocks = (part.columns + block - 1) / block;
  Value codes = readCodes(recipe, part.tensor, part, part.columns, bits,
                          recipe.getIntegerType(bits <= 4 ? 4 : 8));
  Value scales = selectRows(
      recipe, readSource(recipe, tensorOf(node, 2), {part.storedRows, blocks}),
      part);
  Value zeros;
  if (getOperand(node, 3))
    zeros = readCodes(recipe, tensorOf(node, 3), part, blocks, bits,
                      recipe.getI8Type());
  return deepseek::DequantizeOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get({part.rows, part.columns}, recipe.getF32Type()),
      codes, scales, zeros, /*rows=*/1, /*columns=*/block,
      /*unchecked=*/false);
}

/// (code - zero point) * scale, in f32, of DequantizeLinear.
static Value readQuantized(OpBuilder &recipe, const Part &part) {
  NodeOp node = part.quantized;
  Location loc = recipe.getUnknownLoc();
  int64_t block = getInt(node, "block_size", 0);
  int64_t group = block > 0 ? block : part.columns;
  // As [rows, columns of \p tensor], signed.
  auto readMatrix = [&](InitializerOp tensor) {
    SmallVector<int64_t> shape(tensor.getType().getShape());
    if (shape.size() == 1)
      shape.push_back(1);
    Value value = readSource(recipe, tensor, shape);
    Type element = cast<RankedTensorType>(value.getType()).getElementType();
    if (tensor.getType().getElementType().isUnsignedInteger())
      value = deepseek::UnpackOp::create(recipe, loc, value.getType(), value,
                                         /*bits=*/8, /*plus=*/0);
    if (part.isTransposed && tensor.getType().getRank() == 2)
      value = deepseek::TransposeOp::create(
          recipe, loc, RankedTensorType::get({shape[1], shape[0]}, element),
          value, ArrayRef<int64_t>({1, 0}));
    return selectRows(recipe, value, part);
  };
  Value codes = readMatrix(part.tensor), scales = readMatrix(tensorOf(node, 1));
  Value zeros;
  if (getOperand(node, 2))
    zeros = readMatrix(tensorOf(node, 2));
  return deepseek::DequantizeOp::create(
      recipe, loc,
      RankedTensorType::get({part.rows, part.columns}, recipe.getF32Type()),
      codes, scales, zeros, /*rows=*/1, /*columns=*/group,
      /*unchecked=*/false);
}

static Value read(OpBuilder &recipe, const Part &part) {
  if (part.packed)
    return readPacked(recipe, part);
  if (part.quantized)
    return readQuantized(recipe, part);
  if (!part.columns)
    return selectRows(recipe,
                      readSource(recipe, part.tensor, {part.storedRows}), part);
  if (!part.isTransposed)
    return selectRows(
        recipe,
        readSource(recipe, part.tensor, {part.storedRows, part.columns}), part);
  // Rows are columns of the tensor.
  Value value =
      readSource(recipe, part.tensor, {part.columns, part.storedRows});
  Type element = cast<RankedTensorType>(value.getType()).getElementType();
  value = slice(recipe, value, 1, part.firstRow, part.firstRow + part.rows);
  value = deepseek::TransposeOp::create(
      recipe, recipe.getUnknownLoc(),
      RankedTensorType::get({part.rows, part.columns}, element), value,
      ArrayRef<int64_t>({1, 0}));
  Part whole = part;
  whole.firstRow = 0;
  return selectRows(recipe, value, whole);
}

absl::StatusOr<StoredTensor> GraphStore::take(StringRef name,
                                              ArrayRef<int64_t> shape) {
  auto found = parts.find(name);
  if (found == parts.end())
    return invalid(options.path + ": the graph has nothing that is " +
                   quote(name) + ", expected a tensor of shape " +
                   toText(shape));
  Part part = found->second;
  SmallVector<int64_t> given = {part.rows};
  if (part.columns)
    given.push_back(part.columns);
  StoredTensor stored;
  stored.place = options.path + ": tensor " + quote(part.tensor.getName());
  if (ArrayRef<int64_t>(given) != shape)
    return invalid(stored.place + ", which is " + quote(name) + ", has shape " +
                   toText(given) + ", but the rest of the graph makes it " +
                   toText(shape));
  Type element = part.tensor.getType().getElementType();
  llvm::raw_string_ostream(stored.typeName) << element;
  if (part.packed || part.quantized)
    element = Float32Type::get(element.getContext());
  if (element.isF32() || element.isF16() || element.isBF16())
    stored.element = element;
  stored.build = [part](OpBuilder &recipe) { return read(recipe, part); };
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
  auto check = [&](StringRef key, int64_t a, int64_t b) -> absl::Status {
    if (a == b)
      return absl::OkStatus();
    return invalid(given.path + ": '" + key + "' is " + Twine(a) +
                   ", but the graph has " + Twine(b));
  };
  const std::tuple<StringRef, int64_t, int64_t> pairs[] = {
      {"vocab_size", given.vocab, config.vocab},
      {"hidden_size", given.hidden, config.hidden},
      {"num_hidden_layers", given.layers, config.layers},
      {"intermediate_size", given.intermediate, config.intermediate},
      {"num_attention_heads", given.heads, config.heads},
      {"num_key_value_heads", given.kvHeads, config.kvHeads},
      {"head_dim", given.headDim, config.headDim},
      {"kv_lora_rank", given.latent ? given.latent->rank : 0, 0},
      {"n_routed_experts", given.moe ? given.moe->experts : 0, 0},
      {"sliding_window", given.windowTokens.value_or(0), 0}};
  for (auto [key, a, b] : pairs)
    if (absl::Status status = check(key, a, b); !status.ok())
      return status;
  if (float(given.normEpsilon) != float(config.normEpsilon))
    return invalid(given.path + ": 'rms_norm_eps' is " +
                   std::to_string(given.normEpsilon) + ", but the graph has " +
                   std::to_string(config.normEpsilon));
  return absl::OkStatus();
}

/// All layers have biases on the same projections, or none.
static absl::Status readBiases(const Decoder &decoder, StringRef path,
                               Config &config) {
  auto has = [](const Matrix &matrix) { return bool(matrix.bias); };
  const DecoderLayer &first = decoder.layers.front();
  config.qkvBias = has(first.q);
  config.outputBias = has(first.o);
  config.mlpBias = has(first.gate);
  for (auto [i, layer] : llvm::enumerate(decoder.layers)) {
    bool isSame =
        has(layer.q) == config.qkvBias && has(layer.k) == config.qkvBias &&
        has(layer.v) == config.qkvBias && has(layer.o) == config.outputBias &&
        has(layer.gate) == config.mlpBias && has(layer.up) == config.mlpBias &&
        has(layer.down) == config.mlpBias;
    if (!isSame)
      return unimplemented(path + ": layer " + Twine(i) +
                           " has biases on other projections than layer 0, or "
                           "not on all of q, k and v, or of the feed-forward");
  }
  if (has(decoder.head))
    return unimplemented(path + ": the logits have a bias");
  return absl::OkStatus();
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
  // Of Llama's and Qwen2's graphs only this differs.
  config.modelType = config.qkvBias && !config.outputBias ? "qwen2" : "llama";
  config.vocab = decoder.head.rows;
  config.hidden = decoder.head.columns;
  config.layers = int64_t(decoder.layers.size());
  config.intermediate = decoder.layers.front().gate.rows;
  config.heads = decoder.heads;
  config.kvHeads = decoder.kvHeads;
  config.headDim = decoder.headDim;
  // As the shortest decimal that rounds to it, which it was before.
  std::string digits;
  llvm::raw_string_ostream(digits) << llvm::format("%.6g", decoder.epsilon);
  double shortest = 0;
  if (StringRef(digits).getAsDouble(shortest) ||
      float(shortest) != float(decoder.epsilon))
    shortest = decoder.epsilon;
  config.normEpsilon = shortest;
  config.rope = decoder.rope;
  InitializerOp head = decoder.head.tensor;
  config.tiedEmbeddings = head == decoder.embedding &&
                          !decoder.head.isTransposed && !decoder.head.packed;
  config.maxPositions = decoder.maxPositions;
  if (config.layers > huggingface::maxLayers ||
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
