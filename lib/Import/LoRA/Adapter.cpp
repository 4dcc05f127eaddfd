// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A LoRA adapter as PEFT saves it: adapter_config.json beside
// adapter_model.safetensors. Keys and names are those of PEFT's
// `tuners/lora/config.py` and `utils/save_and_load.py`.

#include "lib/Import/LoRA/Adapter.h"

#include "lib/Import/ObjectReader.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Regex.h"
#include "llvm/Support/VersionTuple.h"

#include <cmath>

using namespace hadal;
using namespace hadal::lora;
using llvm::StringRef;
using llvm::Twine;
using safetensors::DType;
using safetensors::Tensor;

constexpr uint64_t maxConfigBytes = 16 << 20;
constexpr int64_t maxRank = 1 << 16;
constexpr size_t maxPatternLength = 256;
constexpr char tensorPrefix[] = "base_model.model.";
constexpr char tensorsFile[] = "adapter_model.safetensors";
/// Of PEFT, whose stacks of experts are as `LowRank` says.
constexpr char firstStackVersion[] = "0.19.1";

namespace {
/// A key whose value changes what the adapter computes in a way that Hadal
/// does not know, unless it is null, missing, or this.
struct Neutral {
  StringRef key, json, what;
};
} // namespace

static constexpr Neutral neutralKeys[] = {
    {"use_dora", "false",
     "weight-decomposed LoRA (DoRA), which PEFT's merge_and_unload merges,"},
    {"use_qalora", "false", "QA-LoRA"},
    {"use_bdlora", "null", "block-diagonal LoRA"},
    {"lora_bias", "false",
     "a bias beside B, which PEFT's merge_and_unload merges,"},
    {"layer_replication", "null", "a model with layers repeated"},
    {"trainable_token_indices", "null", "single rows of the embedding"},
    {"alora_invocation_tokens", "null", "activated LoRA"},
    {"arrow_config", "null", "Arrow routing"},
    {"kasa_config", "null", "KaSA"},
    {"megatron_config", "null", "parallel layers"},
    {"monteclora_config", "null", "MonteCLoRA"},
    {"velora_config", "null", "VeLoRA"},
};

/// Keys that change nothing in what a saved adapter computes. Which modules it
/// changes is read from its tensors.
static constexpr StringRef ignoredKeys[] = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
};

static bool isNeutral(const llvm::json::Value &value, StringRef json) {
  if (const llvm::json::Array *array = value.getAsArray())
    return array->empty();
  if (const llvm::json::Object *object = value.getAsObject())
    return object->empty();
  return value.getAsBoolean() == false || toText(value) == json;
}

//===----------------------------------------------------------------------===//
// The configuration
//===----------------------------------------------------------------------===//

/// True if \p key is a regular expression that means the same to Python and to
/// POSIX, or none at all.
static bool isPlainPattern(StringRef key) {
  if (key.empty() || key.size() > maxPatternLength)
    return false;
  for (size_t i = 0; i < key.size(); ++i) {
    if (key[i] == '\\') {
      if (++i == key.size() || (key[i] != '.' && key[i] != '\\'))
        return false;
    } else if (!llvm::isAlnum(key[i]) &&
               !StringRef("_-.*+?()|[]^$").contains(key[i])) {
      return false;
    }
  }
  // Lookahead, and repetition that is lazy or possessive.
  for (StringRef special : {"(?", "*?", "+?", "??", "*+", "++", "?+"})
    if (key.contains(special))
      return false;
  return llvm::Regex("^(" + key.str() + ")$").isValid();
}

/// True if \p path is a module that \p name, its last words, means.
static bool isNamed(StringRef path, StringRef name) {
  return path == name ||
         (path.ends_with(name) && path.drop_back(name.size()).ends_with("."));
}

/// True if \p version is one before \p first, "1.2.3", or no such number.
static bool isBefore(StringRef version, StringRef first) {
  llvm::VersionTuple a, b;
  return a.tryParse(version.take_while(
             [](char c) { return llvm::isDigit(c) || c == '.'; })) ||
         b.tryParse(first) || a < b;
}

absl::Status Adapter::readConfig(const llvm::json::Object &json, StringRef path,
                                 std::vector<std::string> &notes) {
  absl::Status status;
  ObjectReader reader(json, path.str(), status);
  configPath = path.str();
  const llvm::json::Value *type = reader.get("peft_type");
  if (!type) {
    reader.missing("peft_type");
    return status;
  }
  if (std::string name = reader.string("peft_type", *type);
      status.ok() && name != "LORA")
    return unimplemented(path + ": peft_type " + quote(name) +
                         " is not supported, expected 'LORA'");
  for (const Neutral &neutral : neutralKeys)
    if (const llvm::json::Value *value = reader.get(neutral.key);
        value && !isNeutral(*value, neutral.json))
      return unimplemented(path + ": '" + neutral.key + "' is " +
                           toText(*value) + ", expected " + neutral.json +
                           ": " + neutral.what + " is not supported");
  // Those that change the base model: the tensors are relative to another one.
  if (const llvm::json::Value *value = reader.get("init_lora_weights")) {
    StringRef name = value->getAsString().value_or("");
    for (StringRef other : {"pissa", "olora", "corda", "lora_ga"})
      if (name.starts_with(other))
        return unimplemented(path + ": 'init_lora_weights' is " +
                             toText(*value) +
                             ", expected true: it changes "
                             "the base model");
  }

  rank = 8;
  if (const llvm::json::Value *value = reader.get("r"))
    rank = reader.integer("r", *value, 1, maxRank);
  alpha = 8;
  if (const llvm::json::Value *value = reader.get("lora_alpha"))
    alpha = reader.number("lora_alpha", *value, -1e9, 1e9);
  if (const llvm::json::Value *value = reader.get("use_rslora"))
    isRankStabilized = reader.boolean("use_rslora", *value);
  if (const llvm::json::Value *value = reader.get("fan_in_fan_out"))
    if (reader.boolean("fan_in_fan_out", *value))
      notes.push_back((path + ": 'fan_in_fan_out' is true: took false, as PEFT "
                              "does for modules that store [outputs, inputs]")
                          .str());
  if (const llvm::json::Value *value = reader.get("bias")) {
    std::string bias = reader.string("bias", *value);
    hasBiases = bias != "none";
    if (status.ok() && bias != "none" && bias != "all" && bias != "lora_only")
      reader.fail("bias", toText(*value), "\"none\", \"all\" or \"lora_only\"");
  }

  auto readNames = [&](StringRef key, std::vector<std::string> &names) {
    const llvm::json::Value *value = reader.get(key);
    const llvm::json::Array *array = value ? value->getAsArray() : nullptr;
    if (value && !array)
      reader.fail(key, toText(*value), "a list of strings");
    for (size_t i = 0; array && i < array->size(); ++i)
      names.push_back(reader.string(key, (*array)[i]));
  };
  const llvm::json::Value *target = reader.get("target_modules");
  // A string is a regular expression, or "all-linear".
  if (!target || !target->getAsString())
    readNames("target_modules", targets);
  readNames("modules_to_save", saved);
  readNames("target_parameters", parameters);
  std::string version;
  if (const llvm::json::Value *value = reader.get("peft_version"))
    version = reader.string("peft_version", *value);
  // Until then inputs and outputs of experts had changed places.
  if (status.ok() && !parameters.empty() &&
      isBefore(version, firstStackVersion))
    return unimplemented(path + ": 'peft_version' is " + quote(version) +
                         ", expected " + firstStackVersion +
                         " or later with 'target_parameters'");

  auto readPattern = [&](StringRef key, double min, double max, auto &pattern) {
    const llvm::json::Value *value = reader.get(key);
    if (!value)
      return;
    const llvm::json::Object *object = value->getAsObject();
    if (!object)
      return reader.fail(key, toText(*value), "an object");
    for (const auto &[name, number] : *object) {
      if (!isPlainPattern(StringRef(name)))
        return reader.fail(unimplemented(
            path + ": '" + key + "' has the pattern " + quote(StringRef(name)) +
            ", expected one of letters, digits and _ - . * + ? ( ) | [ ] ^ $"));
      double result = key == "rank_pattern"
                          ? double(reader.integer(StringRef(name), number,
                                                  int64_t(min), int64_t(max)))
                          : reader.number(StringRef(name), number, min, max);
      pattern.emplace_back(StringRef(name).str(), result);
    }
    llvm::sort(pattern); // JSON objects have no order here.
  };
  readPattern("rank_pattern", 1, maxRank, rankPattern);
  readPattern("alpha_pattern", -1e9, 1e9, alphaPattern);

  // What newer versions of PEFT know, and this adapter does not use, is null.
  for (StringRef key : reader.unseen())
    if (!key.starts_with("_") && !llvm::is_contained(ignoredKeys, key) &&
        json.get(key)->kind() != llvm::json::Value::Null)
      reader.fail(invalid(path + ": unknown key " + quote(key) +
                          " with value " + toText(*json.get(key))));
  return status;
}

/// The rank or the alpha of \p module: PEFT takes the first pattern that
/// matches, and objects have no order here, so that all that do must agree.
absl::StatusOr<double> Adapter::valueFor(
    StringRef module, double fallback,
    const std::vector<std::pair<std::string, double>> &pattern) const {
  const std::pair<std::string, double> *found = nullptr;
  for (const auto &entry : pattern) {
    if (!llvm::Regex("^(.*\\.)?(" + entry.first + ")$").match(module))
      continue;
    if (found && found->second != entry.second)
      return invalid(configPath + ": patterns " + quote(found->first) +
                     " and " + quote(entry.first) + " give " + module + " " +
                     toText(found->second) + " and " + toText(entry.second) +
                     ", expected one value");
    found = &entry;
  }
  return found ? found->second : fallback;
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

std::string Adapter::getTensorName(StringRef name) {
  return tensorPrefix + name.str();
}

absl::Status Adapter::addTensors() {
  std::map<std::string, LowRank> stacks;
  for (StringRef full : checkpoint.names()) {
    const Tensor *tensor = checkpoint.find(full);
    std::string place = checkpoint.pathOf(*tensor) + ": tensor " + quote(full);
    if (tensor->dtype != DType::F32 && tensor->dtype != DType::F16 &&
        tensor->dtype != DType::BF16)
      return invalid(place + " is " + safetensors::stringify(tensor->dtype) +
                     ", expected BF16, F16 or F32");
    StringRef name = full;
    if (!name.consume_front(tensorPrefix))
      return invalid(place + " has a name that does not start with " +
                     quote(tensorPrefix));
    if (name.contains(".lora_magnitude_vector"))
      return unimplemented(place + " is of weight-decomposed LoRA (DoRA), "
                                   "which is not supported");
    auto [module, part] = name.split(".lora_");
    if (part.empty()) {
      // A module that was trained as a whole, or a bias.
      auto [owner, kind] = name.rsplit('.');
      bool isBase = owner.consume_back(".base_layer");
      auto isOneOf = [path = owner](llvm::ArrayRef<std::string> names) {
        return llvm::any_of(names,
                            [&](StringRef of) { return isNamed(path, of); });
      };
      // PEFT compares letters, so that "norm" is "input_layernorm", too.
      bool isSaved = llvm::any_of(
          saved, [path = owner](StringRef of) { return path.ends_with(of); });
      // PEFT's save_embedding_layers: both, if either is a target.
      std::vector<std::string> embeddings = {"embed_tokens", "lm_head"};
      if (!isSaved && kind == "weight" && isOneOf(embeddings) &&
          llvm::any_of(targets, [&](StringRef target) {
            return llvm::is_contained(embeddings, target);
          }))
        isSaved = isBase = true;
      if (!isSaved && !(hasBiases && kind == "bias"))
        return invalid(place +
                       " is no part of the adapter: 'modules_to_save' "
                       "of adapter_config.json is [" +
                       llvm::join(saved, ", ") + "]");
      auto added = replacements.insert(
          {(owner + "." + kind).str(), {tensor, full.str(), isBase}});
      if (!added.second)
        return invalid(place + " is beside " + quote(added.first->second.name) +
                       ", expected one of them");
      continue;
    }
    bool isEmbedding = part.starts_with("embedding_");
    bool isA = part == "A.weight" || part == "embedding_A";
    if (!isA && part != "B.weight" && part != "embedding_B")
      return unimplemented(place + " is not supported, expected '" + module +
                           ".lora_A.weight' or '.lora_B.weight'");
    auto isTarget = [&, path = module](StringRef parameter) {
      return llvm::any_of(parameters, [&](StringRef target) {
        return isNamed((path + "." + parameter).str(), target);
      });
    };
    if (tensor->shape.size() != 2)
      return invalid(place + " has shape " + toText(tensor->shape) +
                     ", expected a matrix");
    bool isStack = !parameters.empty() && !isEmbedding &&
                   module.split(".base_layer").first.ends_with(".mlp.experts");
    if (!isStack && !targets.empty() && !isTarget("weight") &&
        llvm::none_of(targets, [path = module](StringRef target) {
          return isNamed(path, target);
        }))
      return invalid(place +
                     " is of a module that 'target_modules' of "
                     "adapter_config.json does not name: [" +
                     llvm::join(targets, ", ") + "]");
    LowRank &change =
        isStack ? stacks[module.str()] : lowRanks[module.str() + ".weight"];
    if ((change.a || change.b) && change.isEmbedding != isEmbedding)
      return invalid(place + " is beside " +
                     quote(change.a ? change.aName : change.bName) +
                     ", expected one kind of a module");
    change.module = module;
    change.isStack = isStack;
    change.isEmbedding = isEmbedding;
    (isA ? change.a : change.b) = tensor;
    (isA ? change.aName : change.bName) = full.str();
  }

  auto checkPair = [&](const LowRank &change) -> absl::Status {
    if (change.a && change.b)
      return absl::OkStatus();
    return invalid(checkpoint.pathOf(change.a ? *change.a : *change.b) +
                   ": tensor " + quote(change.a ? change.aName : change.bName) +
                   " has no " + (change.a ? "lora_B" : "lora_A") +
                   " beside it");
  };
  for (const auto &[name, change] : stacks)
    if (absl::Status status = checkPair(change); !status.ok())
      return status;
  if (absl::Status status = addStacks(std::move(stacks)); !status.ok())
    return status;
  for (auto &[name, change] : lowRanks) {
    if (absl::Status status = checkPair(change); !status.ok())
      return status;
    absl::StatusOr<double> wanted =
        valueFor(change.module, double(rank), rankPattern);
    if (!wanted.ok())
      return wanted.status();
    absl::StatusOr<double> alphaHere =
        valueFor(change.module, alpha, alphaPattern);
    if (!alphaHere.ok())
      return alphaHere.status();
    change.rank = int64_t(*wanted);
    for (auto [tensor, tensorName, axis] :
         {std::tuple(change.a, &change.aName, 0),
          std::tuple(change.b, &change.bName, 1)})
      // Of how many experts, the model says.
      if (int64_t size = tensor->shape[size_t(axis)];
          size != change.rank && (!change.isStack || size % change.rank != 0))
        return invalid(checkpoint.pathOf(*tensor) + ": tensor " +
                       quote(*tensorName) + " has shape " +
                       toText(tensor->shape) + ", but adapter_config.json " +
                       "makes its rank " + Twine(change.rank));
    double divisor = isRankStabilized ? std::sqrt(*wanted) : *wanted;
    change.scale = *alphaHere / divisor;
  }
  if (lowRanks.empty() && replacements.empty())
    return invalid(checkpoint.sourcePath() + ": has no tensor of an adapter");
  return absl::OkStatus();
}

/// Tells of \p pairs, by the module in whose place they are, which parameter
/// of the experts each changes. PEFT does not store it: it puts the second one
/// around the first, and calls that ".base_layer".
absl::Status Adapter::addStacks(std::map<std::string, LowRank> pairs) {
  std::map<std::string, std::vector<LowRank>> byExperts;
  for (auto &[module, change] : pairs)
    byExperts[StringRef(module).split(".base_layer").first.str()].push_back(
        std::move(change));
  for (auto &[experts, changes] : byExperts) {
    std::vector<StringRef> names;
    for (StringRef name : {"gate_up_proj", "down_proj"})
      if (llvm::any_of(parameters, [&](StringRef target) {
            return isNamed(experts + "." + name.str(), target);
          }))
        names.push_back(name);
    std::string place = checkpoint.pathOf(*changes.front().a) + ": tensor " +
                        quote(changes.front().aName);
    if (names.size() != changes.size())
      return invalid(place + " is one of " + Twine(changes.size()) + " of " +
                     quote(experts) + ", but 'target_parameters' names " +
                     Twine(names.size()) + " there: [" +
                     llvm::join(parameters, ", ") + "]");
    if (changes.size() == 2) {
      // What gate and up read is what down makes, and half of what they make
      // is what down reads.
      auto areInOrder = [](const LowRank &gateUp, const LowRank &down) {
        return gateUp.a->shape[1] == down.b->shape[0] &&
               gateUp.b->shape[0] == 2 * down.a->shape[1];
      };
      if (!areInOrder(changes[0], changes[1]))
        std::swap(changes[0], changes[1]);
      if (!areInOrder(changes[0], changes[1]))
        return invalid(place + " has shape " + toText(changes[1].a->shape) +
                       " beside " + quote(changes[0].aName) + " of shape " +
                       toText(changes[0].a->shape) +
                       ", expected those of gate_up_proj and down_proj");
    }
    auto add = [&](StringRef weight, LowRank change, StringRef name,
                   int64_t halves, int64_t half) {
      change.module = experts + "." + name.str();
      change.halves = halves;
      change.half = half;
      lowRanks[experts + ".{}." + weight.str() + ".weight"] = std::move(change);
    };
    for (auto [name, change] : llvm::zip_equal(names, changes)) {
      if (name == "down_proj") {
        add("down_proj", change, name, 1, 0);
        continue;
      }
      if (change.b->shape[0] % 2 != 0)
        return invalid(checkpoint.pathOf(*change.b) + ": tensor " +
                       quote(change.bName) + " has shape " +
                       toText(change.b->shape) +
                       ", expected rows of gate and as many of up");
      add("gate_proj", change, name, 2, 0);
      add("up_proj", change, name, 2, 1);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Adapter> Adapter::open(StringRef folder,
                                      std::vector<std::string> &notes) {
  llvm::SmallString<256> path(folder);
  llvm::sys::path::append(path, "adapter_config.json");
  if (!llvm::sys::fs::exists(path))
    return invalid(folder + ": has no adapter_config.json");
  absl::StatusOr<std::string> configPath =
      resolveInFolder(folder, "adapter_config.json");
  if (!configPath.ok())
    return configPath.status();
  absl::StatusOr<llvm::json::Object> json =
      readObject(*configPath, maxConfigBytes);
  if (!json.ok())
    return json.status();
  path = folder;
  llvm::sys::path::append(path, tensorsFile);
  if (!llvm::sys::fs::exists(path)) {
    path = folder;
    llvm::sys::path::append(path, "adapter_model.bin");
    if (llvm::sys::fs::exists(path))
      return unimplemented(folder + ": has only 'adapter_model.bin', expected "
                                    "'adapter_model.safetensors'");
    return invalid(folder + ": has no 'adapter_model.safetensors'");
  }
  absl::StatusOr<safetensors::Checkpoint> checkpoint =
      safetensors::Checkpoint::openFile(folder, tensorsFile);
  if (!checkpoint.ok())
    return checkpoint.status();
  Adapter adapter(std::move(*checkpoint));
  absl::Status status = adapter.readConfig(*json, *configPath, notes);
  if (status.ok())
    status = adapter.addTensors();
  if (!status.ok())
    return status;
  return std::move(adapter);
}

absl::Status Adapter::checkShapes(const LowRank &change,
                                  llvm::ArrayRef<int64_t> shape) const {
  int64_t outputs = shape[shape.size() - 2], inputs = shape.back();
  if (change.isEmbedding)
    std::swap(outputs, inputs);
  outputs *= change.halves;
  int64_t ranks = change.rank * (change.isStack ? shape.front() : 1);
  for (auto [tensor, name, expected] :
       {std::tuple(change.a, &change.aName,
                   llvm::SmallVector<int64_t>{ranks, inputs}),
        std::tuple(change.b, &change.bName,
                   llvm::SmallVector<int64_t>{outputs, ranks})})
    if (llvm::ArrayRef<int64_t>(tensor->shape) !=
        llvm::ArrayRef<int64_t>(expected))
      return invalid(checkpoint.pathOf(*tensor) + ": tensor " + quote(*name) +
                     " has shape " + toText(tensor->shape) +
                     ", but the base model makes it " +
                     toText(llvm::ArrayRef<int64_t>(expected)));
  return absl::OkStatus();
}

absl::Status Adapter::checkLowRank() const {
  for (const auto &[name, replacement] : replacements)
    return unimplemented(checkpoint.pathOf(*replacement.tensor) + ": tensor " +
                         quote(replacement.name) +
                         " takes the place of one of the model, which is "
                         "supported with --lora alone");
  return absl::OkStatus();
}

const LowRank *Adapter::findLowRank(StringRef name) {
  auto it = lowRanks.find(name.str());
  if (it == lowRanks.end())
    return nullptr;
  used.insert(it->second.aName);
  used.insert(it->second.bName);
  return &it->second;
}

/// \p name with "{}" in place of each number between dots.
static std::string dropNumbers(StringRef name) {
  llvm::SmallVector<StringRef> words;
  for (StringRef word : llvm::split(name, '.'))
    words.push_back(llvm::all_of(word, llvm::isDigit) ? "{}" : word);
  return llvm::join(words, ".");
}

const LowRank *Adapter::findLike(StringRef name) const {
  std::string pattern = dropNumbers(name);
  for (const auto &[changed, change] : lowRanks)
    if (dropNumbers(changed) == pattern)
      return &change;
  return nullptr;
}

const Replacement *Adapter::findReplacement(StringRef name) {
  auto it = replacements.find(name.str());
  if (it == replacements.end())
    return nullptr;
  used.insert(it->second.name);
  return &it->second;
}

absl::Status Adapter::checkUnused(const Twine &model) const {
  for (StringRef name : checkpoint.names())
    if (!used.contains(name)) {
      const Tensor *tensor = checkpoint.find(name);
      return invalid(checkpoint.pathOf(*tensor) + ": tensor " + quote(name) +
                     " of shape " + toText(tensor->shape) +
                     " is for no weight of " + model);
    }
  return absl::OkStatus();
}
