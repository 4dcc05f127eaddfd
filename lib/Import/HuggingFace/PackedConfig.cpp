// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What `quantization_config` says of checkpoints whose matrices are packed
// integers: keys of GPTQ (transformers `GPTQConfig`, GPTQModel), of AWQ
// (`AwqConfig`, AutoAWQ) and of compressed-tensors (`QuantizationConfig`).

#include "lib/Import/HuggingFace/PackedConfig.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

using namespace hadal;
using namespace hadal::huggingface;
using llvm::ArrayRef;
using llvm::StringRef;
using llvm::Twine;

constexpr int64_t maxGroup = int64_t(1) << 24;
constexpr int64_t gptqBits[] = {2, 3, 4, 8};

/// Keys that say how a checkpoint was made or run, and which of its modules
/// are quantized: that is read from its tensors.
static constexpr StringRef ignoredGPTQKeys[] = {
    "act_group_aware",
    "backend",
    "batch_size",
    "block_name_to_quantize",
    "cache_block_outputs",
    "damp_auto_increment",
    "damp_percent",
    "dataset",
    "desc_act",
    "exllama_config",
    "hyb_act",
    "lm_head",
    "max_input_length",
    "meta",
    "model_file_base_name",
    "model_name_or_path",
    "model_seqlen",
    "module_name_preceding_first_block",
    "modules_in_block_to_quantize",
    "mse",
    "pad_token_id",
    "static_groups",
    "sym",
    "tokenizer",
    "true_sequential",
    "use_cuda_fp16",
    "use_exllama",
    "version"};
/// Of one pattern of modules.
static constexpr StringRef ignoredDynamicKeys[] = {"act_group_aware",
                                                   "damp_auto_increment",
                                                   "damp_percent",
                                                   "desc_act",
                                                   "mse",
                                                   "static_groups",
                                                   "sym",
                                                   "true_sequential"};
static constexpr StringRef ignoredAWQKeys[] = {
    "backend",          "do_fuse",         "exllama_config",
    "fuse_max_seq_len", "modules_to_fuse", "modules_to_not_convert"};
static constexpr StringRef ignoredCompressedKeys[] = {
    "global_compression_ratio", "ignore", "quantization_status", "version"};
static constexpr StringRef ignoredWeightKeys[] = {
    "actorder",        "dynamic",     "observer",
    "observer_kwargs", "scale_dtype", "zp_dtype"};

namespace {
/// Reads one configuration.
class PackedReader {
public:
  PackedReader(const llvm::json::Object &json, ObjectReader &reader,
               absl::Status &status, std::vector<std::string> &notes)
      : json(json), reader(reader), status(status), notes(notes) {}

  PackedConfig readGPTQ();
  PackedConfig readAWQ();
  PackedConfig readCompressed();

private:
  /// Refuses a value of \p key that is there and not one of \p choices, as
  /// JSON.
  static void expect(ObjectReader &reader, StringRef key,
                     ArrayRef<StringRef> choices) {
    const llvm::json::Value *value = reader.get(key);
    if (value && !llvm::is_contained(choices, toText(*value)))
      reader.fail(unimplemented(reader.place() + ": '" + key + "' is " +
                                toText(*value) + ", expected " +
                                llvm::join(choices, " or ")));
  }
  static void refuseUnknown(ObjectReader &reader,
                            const llvm::json::Object &json,
                            ArrayRef<StringRef> ignored) {
    for (StringRef key : reader.unseen())
      if (!key.starts_with("_") && !llvm::is_contained(ignored, key))
        reader.fail(invalid(reader.place() + ": unknown key " + quote(key) +
                            " with value " + toText(*json.get(key))));
  }
  /// `group_size`: -1 is all of a row.
  static int64_t readGroupSize(ObjectReader &reader,
                               const llvm::json::Value &value) {
    int64_t group = reader.integer("group_size", value, -1, maxGroup);
    if (group == 0)
      reader.fail("group_size", "0", "-1 or more than 0");
    return group;
  }
  void readGroup(ObjectReader &reader, PackedConfig &config) {
    const llvm::json::Value *value = reader.get("group_size");
    if (!value)
      return reader.missing("group_size");
    config.group = readGroupSize(reader, *value);
    if (config.group == -1)
      config.strategy = PackedStrategy::Channel;
  }
  static int64_t readBits(ObjectReader &reader, StringRef key,
                          ArrayRef<int64_t> choices) {
    const llvm::json::Value *value = reader.get(key);
    if (!value) {
      reader.missing(key);
      return choices.front();
    }
    int64_t bits = reader.integer(key, *value, 1, 64);
    if (llvm::is_contained(choices, bits))
      return bits;
    std::string text;
    for (int64_t choice : choices)
      text += (text.empty() ? "" : " or ") + std::to_string(choice);
    reader.fail(unimplemented(reader.place() + ": '" + key + "' is " +
                              Twine(bits) + ", expected " + text));
    return choices.front();
  }
  void readDynamic(const llvm::json::Value &value, PackedConfig &config);
  void readWeights(const llvm::json::Object &weights, StringRef where,
                   StringRef format, PackedConfig &config);

  const llvm::json::Object &json;
  ObjectReader &reader;
  absl::Status &status;
  std::vector<std::string> &notes;
};
} // namespace

/// GPTQModel's patterns of modules, each with what is other there. Those that
/// begin with "-:" are not quantized, which their tensors say, too.
void PackedReader::readDynamic(const llvm::json::Value &value,
                               PackedConfig &config) {
  const llvm::json::Object *patterns = value.getAsObject();
  if (!patterns)
    return reader.fail("dynamic", toText(value), "an object");
  for (const auto &[pattern, other] : *patterns) {
    if (StringRef(pattern).starts_with("-:"))
      continue;
    std::string where =
        reader.place() + ": 'dynamic': " + quote(StringRef(pattern));
    const llvm::json::Object *object = other.getAsObject();
    if (!object)
      return reader.fail(
          invalid(where + " is " + toText(other) + ", expected an object"));
    ObjectReader inner(*object, where, status);
    PackedConfig::Width width = {config.bits, config.group};
    if (inner.get("bits"))
      width.bits = readBits(inner, "bits", gptqBits);
    if (const llvm::json::Value *group = inner.get("group_size"))
      width.group = readGroupSize(inner, *group);
    refuseUnknown(inner, *object, ignoredDynamicKeys);
    if (!llvm::is_contained(config.otherWidths, width))
      config.otherWidths.push_back(width);
  }
  // JSON objects have no order here.
  llvm::sort(config.otherWidths, [](const auto &a, const auto &b) {
    return std::pair(a.bits, a.group) < std::pair(b.bits, b.group);
  });
}

PackedConfig PackedReader::readGPTQ() {
  PackedConfig config;
  config.layout = PackedLayout::GPTQ;
  config.bits = readBits(reader, "bits", gptqBits);
  readGroup(reader, config);
  // Older files have no such key.
  config.storesZerosLessOne = true;
  for (StringRef key : {"checkpoint_format", "format"}) {
    expect(reader, key, {"\"gptq\"", "\"gptq_v2\""});
    if (const llvm::json::Value *value = reader.get(key))
      config.storesZerosLessOne = value->getAsString() != "gptq_v2";
  }
  expect(reader, "is_marlin_format", {"false"});
  expect(reader, "pack_dtype", {"\"int32\""});
  for (StringRef key : {"adapter", "rotation", "quant_type"})
    expect(reader, key, {"{}", "\"\"", "false"});
  if (const llvm::json::Value *value = reader.get("dynamic");
      value && value->getAsBoolean() != false)
    readDynamic(*value, config);
  refuseUnknown(reader, json, ignoredGPTQKeys);
  return config;
}

PackedConfig PackedReader::readAWQ() {
  PackedConfig config;
  config.layout = PackedLayout::AWQ;
  config.bits = readBits(reader, "bits", {4});
  readGroup(reader, config);
  if (const llvm::json::Value *value = reader.get("version")) {
    std::string version = reader.string("version", *value);
    if (StringRef(version).lower() == "gemv")
      config.layout = PackedLayout::AWQRows;
    else if (status.ok() && StringRef(version).lower() != "gemm")
      reader.fail(unimplemented(reader.place() + ": 'version' is " +
                                toText(*value) +
                                ", expected \"gemm\" or \"gemv\""));
  }
  expect(reader, "zero_point", {"true"});
  refuseUnknown(reader, json, ignoredAWQKeys);
  return config;
}

/// Reads `weights` of a config group.
void PackedReader::readWeights(const llvm::json::Object &weights,
                               StringRef where, StringRef format,
                               PackedConfig &config) {
  ObjectReader inner(weights, where.str() + ": weights", status);
  bool isFloat = format == "float-quantized";
  expect(inner, "type", {isFloat ? "\"float\"" : "\"int\""});
  config.layout = isFloat                      ? PackedLayout::FP8
                  : format == "dense"          ? PackedLayout::Dense
                  : format == "pack-quantized" ? PackedLayout::Packed
                                               : PackedLayout::Integers;
  if (config.layout == PackedLayout::Packed)
    config.bits = readBits(inner, "num_bits", {2, 4, 8});
  else if (config.layout == PackedLayout::Dense)
    config.bits = readBits(inner, "num_bits", {4, 8});
  else
    config.bits = readBits(inner, "num_bits", {8});
  config.hasZeros = false;
  if (const llvm::json::Value *value = inner.get("symmetric"))
    config.hasZeros = !inner.boolean("symmetric", *value);
  if (config.hasZeros && isFloat)
    inner.fail(unimplemented(inner.place() + ": 'symmetric' is false, expected "
                                             "true with type \"float\""));
  if (config.hasZeros && config.layout == PackedLayout::Dense)
    inner.fail(unimplemented(inner.place() + ": 'symmetric' is false, expected "
                                             "true with format \"dense\""));
  const llvm::json::Value *group = inner.get("group_size");
  const llvm::json::Value *block = inner.get("block_structure");
  const llvm::json::Value *value = inner.get("strategy");
  // What compressed-tensors takes where there is no strategy.
  std::string strategy = value   ? inner.string("strategy", *value)
                         : group ? "group"
                                 : "tensor";
  if (strategy == "tensor") {
    config.strategy = PackedStrategy::Tensor;
  } else if (strategy == "channel") {
    config.strategy = PackedStrategy::Channel;
  } else if (strategy == "group") {
    config.strategy = PackedStrategy::Group;
    readGroup(inner, config);
  } else if (strategy == "block") {
    config.strategy = PackedStrategy::Block;
    const llvm::json::Array *sizes = block ? block->getAsArray() : nullptr;
    if (!sizes || sizes->size() != 2)
      return inner.fail("block_structure", block ? toText(*block) : "missing",
                        "a list of two integers");
    config.blockRows =
        inner.integer("block_structure", (*sizes)[0], 1, maxGroup);
    config.blockColumns =
        inner.integer("block_structure", (*sizes)[1], 1, maxGroup);
  } else if (status.ok()) {
    inner.fail(unimplemented(
        inner.place() + ": 'strategy' is " + quote(strategy) +
        ", expected \"tensor\", \"channel\", \"group\" or \"block\""));
  }
  refuseUnknown(inner, weights, ignoredWeightKeys);
}

PackedConfig PackedReader::readCompressed() {
  PackedConfig config;
  const llvm::json::Value *format = reader.get("format");
  if (!format) {
    reader.missing("format");
    return config;
  }
  std::string name = reader.string("format", *format);
  if (name == "naive-quantized") {
    // Whatever the type: bytes of integers, or FP8.
    name = "int-quantized";
  } else if (status.ok() && name != "pack-quantized" &&
             name != "int-quantized" && name != "float-quantized" &&
             name != "dense") {
    reader.fail(
        unimplemented(reader.place() + ": 'format' is " + quote(name) +
                      ", expected \"pack-quantized\", \"int-quantized\", "
                      "\"naive-quantized\", \"float-quantized\" or \"dense\""));
  }
  for (StringRef key : {"kv_cache_scheme", "transform_config"})
    expect(reader, key, {"{}"});
  if (const llvm::json::Value *sparsity = reader.get("sparsity_config")) {
    const llvm::json::Object *object = sparsity->getAsObject();
    if (!object || (!object->empty() && object->getString("format") != "dense"))
      reader.fail(unimplemented(reader.place() + ": 'sparsity_config' is " +
                                toText(*sparsity) + ", expected {}"));
  }
  const llvm::json::Value *value = reader.get("config_groups");
  const llvm::json::Object *groups = value ? value->getAsObject() : nullptr;
  if (!groups || groups->size() != 1) {
    reader.fail(unimplemented(reader.place() + ": 'config_groups' is " +
                              (value ? toText(*value) : "missing") +
                              ", expected one group"));
    return config;
  }
  std::string where =
      reader.place() + ": " + StringRef(groups->begin()->first).str();
  const llvm::json::Object *group = groups->begin()->second.getAsObject();
  if (!group) {
    reader.fail(invalid(where + " is " + toText(groups->begin()->second) +
                        ", expected an object"));
    return config;
  }
  ObjectReader inner(*group, where, status);
  const llvm::json::Value *weights = inner.get("weights");
  if (!weights || !weights->getAsObject()) {
    inner.fail("weights", weights ? toText(*weights) : "null", "an object");
    return config;
  }
  if (const llvm::json::Value *own = inner.get("format");
      own && own->getAsString() != format->getAsString())
    inner.fail("format", toText(*own), toText(*format) + " as of all");
  if (format->getAsString() == "naive-quantized" &&
      weights->getAsObject()->getString("type") == "float")
    name = "float-quantized";
  readWeights(*weights->getAsObject(), where, name, config);
  for (StringRef key : {"input_activations", "output_activations"})
    if (inner.get(key))
      notes.push_back(("quantization_config: '" + key +
                       "' would round activations too; they are not rounded")
                          .str());
  refuseUnknown(inner, *group, {"targets"});
  refuseUnknown(reader, json, ignoredCompressedKeys);
  return config;
}

std::optional<PackedConfig>
huggingface::readPackedConfig(StringRef method, const llvm::json::Object &json,
                              ObjectReader &reader, absl::Status &status,
                              std::vector<std::string> &notes) {
  PackedReader packed(json, reader, status, notes);
  if (method == "gptq")
    return packed.readGPTQ();
  if (method == "awq")
    return packed.readAWQ();
  if (method == "compressed-tensors")
    return packed.readCompressed();
  return std::nullopt;
}
