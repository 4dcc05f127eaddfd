// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes manifests, and finds them in products.

#include "lib/Compiler/Manifest.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/RT/IR/RTOps.h"
#include "hadal/Import.h"
#include "lib/Compiler/Calibration.h"
#include "lib/Compiler/Gates.h"
#include "lib/Compiler/WorkTable.h"
#include "lib/Packer/Recipe.h"
#include "runtime/include/hadal_rt/abi.h"

#include "absl/strings/str_cat.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/BinaryFormat/Magic.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Object/Archive.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SHA256.h"

#include <cstring>
#include <set>

using namespace mlir;
using namespace hadal;

/// A manifest is text of some kilobytes; more is not one.
static constexpr uint64_t maxManifestBytes = 64 << 20;

/// The largest header of a safetensors file that is read.
static constexpr uint64_t maxHeaderBytes = 100 << 20;

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

std::vector<std::string> hadal::getSourceFiles(ModuleOp module) {
  std::set<std::string> files;
  module.walk([&](deepseek::SourceOp source) {
    for (auto file : source.getFiles().getAsRange<StringAttr>())
      if (file != statisticsFileName && file != gatesFileName)
        files.insert(file.str());
  });
  return {files.begin(), files.end()};
}

static std::string toHex(ArrayRef<uint8_t> bytes) {
  return llvm::toHex(bytes, /*LowerCase=*/true);
}

static std::string hashText(StringRef text) {
  return toHex(
      llvm::SHA256::hash(ArrayRef(text.bytes_begin(), text.bytes_end())));
}

/// Describes one file: its size, and the hash of what says what is in it. To
/// hash all of a checkpoint would take longer than to compile it.
static absl::StatusOr<llvm::json::Object>
describeFile(SourceFiles &files, const std::string &name) {
  absl::StatusOr<InputFile *> opened = files.open(name);
  if (!opened.ok())
    return opened.status();
  InputFile &file = **opened;
  std::string error;
  llvm::json::Object object{{"name", name}, {"bytes", int64_t(file.size())}};
  uint64_t hashBytes = file.size();
  const char *key = "sha256";
  if (StringRef(name).ends_with(".safetensors") && file.size() >= 8) {
    uint8_t length[8];
    if (!file.read(0, length, 8, error))
      return absl::InvalidArgumentError(error);
    uint64_t headerBytes = llvm::support::endian::read64le(length);
    if (headerBytes > maxHeaderBytes || headerBytes > file.size() - 8)
      return object;
    hashBytes = 8 + headerBytes;
    key = "header_sha256";
  } else if (file.size() > maxHeaderBytes) {
    return object;
  }
  std::string contents(hashBytes, '\0');
  if (!file.read(0, contents.data(), hashBytes, error))
    return absl::InvalidArgumentError(error);
  object[key] = hashText(contents);
  return object;
}

static const char *getEmitName(Emit emit) {
  switch (emit) {
  case Emit::Executable:
    return "exe";
  case Emit::Library:
    return "lib";
  case Emit::Object:
    return "obj";
  case Emit::Cpp:
    return "cpp";
  case Emit::Cuda:
    return "cuda";
  case Emit::MLIR:
    return "mlir";
  case Emit::LLVMIR:
    return "llvm";
  case Emit::Assembly:
    return "asm";
  }
  llvm_unreachable("unknown product");
}

/// To what inputs of products are rounded.
static const char *getActivations(const ManifestInput &input) {
  if (input.roundsActivations)
    return input.hasBF16Inputs ? "int8,bf16" : "int8";
  return input.hasBF16Inputs ? "bf16" : "f32";
}

/// How far logits may be from those of the reference implementation.
static llvm::json::Object makeTolerance(const ManifestInput &input) {
  const auto &window = input.options.window;
  const std::string &cache = input.report.cacheElement;
  bool roundsCache = cache != "f32";
  if (input.lossy.empty() && !input.roundsWeights && !input.roundsActivations &&
      !input.hasBF16Inputs && !window && !roundsCache)
    return llvm::json::Object{
        {"logits", 1e-4},
        {"of", "largest absolute logit of the reference in f32"}};
  // How much rounding costs depends on the model: hadal-eval measures it.
  llvm::json::Array lossy;
  for (const std::string &what : input.lossy)
    lossy.push_back(what);
  if (input.roundsWeights)
    lossy.push_back("weights are rounded to integers");
  if (input.roundsActivations)
    lossy.push_back("inputs of products with integer weights are rounded to 8 "
                    "bits");
  if (input.hasBF16Inputs)
    lossy.push_back("inputs of products with weights of bf16, f16 and FP8 are "
                    "rounded to bf16");
  if (roundsCache)
    lossy.push_back("what the KV cache keeps is rounded to " + cache);
  if (input.options.attentionElement != "f32")
    lossy.push_back("products of attention are those of " +
                    input.options.attentionElement);
  if (window)
    lossy.push_back(llvm::formatv("a token sees the {0} latest tokens and the "
                                  "first {1}",
                                  window->tokens, window->sink)
                        .str());
  return llvm::json::Object{{"logits", nullptr}, {"lossy", std::move(lossy)}};
}

/// How many pages a sequence holds at most.
static const char *getPagesFormula(const ModelReport &report) {
  if (!report.windowTokens)
    return "ceil(context_tokens / page_tokens)";
  return "min(ceil(context_tokens / page_tokens), ceil(sink_tokens / "
         "page_tokens) + ceil((window_tokens + step_tokens - 2) / page_tokens) "
         "+ 1)";
}

static llvm::json::Value makeWindow(const CompileOptions &options) {
  if (!options.window)
    return nullptr;
  return llvm::json::Object{{"tokens", options.window->tokens},
                            {"sink", options.window->sink}};
}

static llvm::json::Array makeStorage(const ModelReport &report) {
  llvm::json::Array storage;
  for (const StorageReport &of : report.storage)
    storage.push_back(llvm::json::Object{
        {"type", of.type}, {"parameters", of.parameters}, {"bytes", of.bytes}});
  return storage;
}

static llvm::json::Value
makeVerification(const std::optional<Verification> &verification) {
  if (!verification)
    return nullptr;
  llvm::json::Array steps;
  for (const Verification::Step &step : verification->steps) {
    llvm::json::Object ops;
    for (const auto &[name, count] : step.ops)
      ops[name] = count;
    steps.push_back(llvm::json::Object{
        {"step", step.name},
        {"max_error", step.error},
        {"ops", std::move(ops)},
        {"tolerance", step.tolerance > 0 ? llvm::json::Value(step.tolerance)
                                         : llvm::json::Value(nullptr)}});
  }
  return llvm::json::Object{{"model", verification->model},
                            {"tokens", verification->tokens},
                            {"steps", std::move(steps)}};
}

static llvm::json::Object
makeToolchain(const std::optional<CudaToolkit> &cuda) {
  llvm::json::Object toolchain{{"llvm", LLVM_VERSION_STRING}};
  if (cuda) {
    toolchain["nvcc"] = cuda->version;
    toolchain["gpus"] = llvm::json::Array(cuda->architectures);
  }
  return toolchain;
}

/// Describes the files in \p sources and that of the model.
static absl::StatusOr<llvm::json::Array>
makeSources(std::vector<std::string> names, const ManifestInput &input) {
  const CompileOptions &options = input.options;
  if (!input.modelFile.empty())
    names.push_back(input.modelFile);
  else
    names.push_back("config.json");
  if (!options.lora.empty())
    names.push_back(
        (deepseek::adapterFolderPrefix + "adapter_config.json").str());
  llvm::sort(names);
  names.erase(llvm::unique(names), names.end());
  SourceFiles sourceFiles(input.modelFolder, options.lora);
  for (const auto &[name, folder] : options.adapters)
    sourceFiles.add(getAdapterFile(name),
                    folder + "/adapter_model.safetensors");
  llvm::json::Array files;
  for (const std::string &name : names) {
    absl::StatusOr<llvm::json::Object> file = describeFile(sourceFiles, name);
    if (!file.ok())
      return file.status();
    files.push_back(std::move(*file));
  }
  return files;
}

/// Adds the hash of \p manifest without it, and writes it on one line.
static std::string finishManifest(llvm::json::Object manifest) {
  std::string text =
      llvm::formatv("{0}", llvm::json::Value(llvm::json::Object(manifest)));
  manifest["manifest_sha256"] = hashText(text);
  return llvm::formatv("{0}", llvm::json::Value(std::move(manifest))).str();
}

absl::StatusOr<std::string>
hadal::makeGraphManifest(const GraphInfo &graph,
                         const std::vector<std::string> &sources,
                         const ManifestInput &input) {
  absl::StatusOr<llvm::json::Array> files = makeSources(sources, input);
  if (!files.ok())
    return files.status();
  llvm::json::Object dims;
  for (const auto &[name, size] : input.options.dims)
    dims[name] = size;
  return finishManifest(llvm::json::Object{
      {"hadal_version", HADAL_VERSION},
      {"model", llvm::json::Object{{"name", graph.name}, {"type", "graph"}}},
      {"sources", std::move(*files)},
      {"notes", llvm::json::Array(input.notes)},
      {"options",
       llvm::json::Object{
           {"emit", getEmitName(input.options.emit)},
           {"weights", input.options.packWeights ? "pack" : "none"},
           {"dims", std::move(dims)}}},
      {"passes", input.pipeline},
      {"toolchain", makeToolchain(input.cuda)},
      {"target", llvm::json::Object{{"triple", input.triple},
                                    {"cpu", input.cpu},
                                    {"features", input.features}}},
      {"memory", llvm::json::Object{{"formula", "arena_bytes"},
                                    {"arena_bytes", graph.arenaBytes},
                                    {"weights_bytes", graph.weightsBytes}}},
      {"layout_hash", graph.layoutHash}});
}

absl::StatusOr<std::string>
hadal::makeManifest(ModuleOp module, const std::vector<std::string> &sources,
                    const ManifestInput &input) {
  const CompileOptions &options = input.options;
  const ModelReport &report = input.report;

  absl::StatusOr<llvm::json::Array> files = makeSources(sources, input);
  if (!files.ok())
    return files.status();
  llvm::json::Array adapters;
  for (const auto &[name, folder] : options.adapters)
    adapters.push_back(name);

  rt::ProgramOp program = *module.getOps<rt::ProgramOp>().begin();
  llvm::json::Array notes;
  for (const std::string &note : input.notes)
    notes.push_back(note);
  llvm::json::Array remarks;
  for (const std::string &remark : input.remarks)
    remarks.push_back(remark);
  llvm::json::Array lesser;
  for (const auto &[cpu, features] : input.lesser)
    lesser.push_back(llvm::json::Object{{"cpu", cpu}, {"features", features}});
  llvm::json::Object ggufKeys;
  for (const auto &[key, value] : options.ggufKeys)
    ggufKeys[llvm::json::fixUTF8(key)] = llvm::json::fixUTF8(value);
  llvm::json::Array exits;
  for (auto [layer, percent] : options.exits)
    exits.push_back(llvm::json::Object{{"layer", layer}, {"percent", percent}});
  llvm::json::Object manifest{
      {"hadal_version", HADAL_VERSION},
      {"model", llvm::json::Object{{"name", report.name},
                                   {"type", report.type},
                                   {"parameters", report.total.parameters},
                                   {"active_parameters",
                                    report.total.activeParameters}}},
      {"sources", std::move(*files)},
      {"notes", std::move(notes)},
      {"options",
       llvm::json::Object{
           {"emit", getEmitName(options.emit)},
           {"context", options.contextTokens},
           {"max_batch", options.maxBatch},
           {"weights", options.packWeights ? "pack" : "none"},
           {"embed_weights", options.embedWeights},
           {"gguf_keys", std::move(ggufKeys)},
           {"quantize", options.quantize},
           {"lora", !options.lora.empty()},
           {"adapters", std::move(adapters)},
           {"top_k", options.topK},
           {"merge_experts", options.mergeExperts},
           {"order_experts", options.orderExperts},
           {"prune", options.prune},
           {"skip_layers", options.skipLayers},
           {"skip_percent", options.skipPercent},
           {"exits", std::move(exits)},
           {"gates", !options.gates.empty()},
           {"calibrated", !options.calibration.empty()},
           {"rounding", options.quantize.empty() ? "" : options.getRounding()},
           {"smoothing",
            options.getRounding() == "smoothquant" ? options.smoothing : 0},
           {"window", makeWindow(options)},
           {"kv", report.cacheElement},
           {"attention", options.attentionElement},
           {"activations", getActivations(input)}}},
      {"passes", input.pipeline},
      {"toolchain", makeToolchain(input.cuda)},
      {"target", llvm::json::Object{{"triple", input.triple},
                                    {"cpu", input.cpu},
                                    {"features", input.features},
                                    {"lesser", std::move(lesser)}}},
      {"tolerance", makeTolerance(input)},
      {"verification", makeVerification(input.verification)},
      {"storage", makeStorage(report)},
      {"remarks", std::move(remarks)},
      {"memory",
       llvm::json::Object{{"formula",
                           "arena_per_token * step_tokens + arena_fixed + "
                           "page_bytes * pages"},
                          {"arena_per_token", report.arenaPerToken},
                          {"arena_fixed", report.arenaFixed},
                          {"page_bytes", report.pageBytes},
                          {"page_tokens", report.pageTokens},
                          {"pages", getPagesFormula(report)},
                          {"window_tokens", report.windowTokens},
                          {"sink_tokens", report.sinkTokens},
                          {"context_tokens", report.contextTokens},
                          {"weights_bytes", report.weightsBytes}}},
      {"layout_hash", program.getLayoutHash()},
      // hadal-bench counts bytes and operations with it.
      {"dispatches", makeWorkTable(module)}};
  return finishManifest(std::move(manifest));
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

static absl::Status refuse(const std::string &path, StringRef why) {
  return absl::InvalidArgumentError(absl::StrCat("'", path, "' ", why.str()));
}

static absl::StatusOr<std::string> readFromWeights(const std::string &path) {
  InputFile file;
  std::string error;
  hadal_rt_weights_header_t header;
  if (!file.open(path, error) || !file.read(0, &header, sizeof(header), error))
    return absl::InvalidArgumentError(error);
  if (header.version != HADAL_RT_WEIGHTS_VERSION ||
      header.section_count > HADAL_RT_MAX_SECTIONS)
    return refuse(path, "is a weights file of another version");
  for (uint32_t i = 0; i < header.section_count; ++i) {
    const hadal_rt_section_t &section = header.sections[i];
    if (StringRef(section.name, strnlen(section.name, sizeof(section.name))) !=
        "manifest")
      continue;
    if (section.bytes > maxManifestBytes)
      return refuse(path, "has a manifest that is too large");
    std::string text(section.bytes, '\0');
    if (!file.read(section.offset, text.data(), text.size(), error))
      return absl::InvalidArgumentError(error);
    return text;
  }
  return refuse(path, "has no manifest");
}

/// The manifest in an object or executable; nothing if there is none.
static std::optional<std::string>
findInObject(const llvm::object::Binary &binary) {
  auto *object = dyn_cast<llvm::object::ObjectFile>(&binary);
  if (!object)
    return std::nullopt;
  for (const llvm::object::SectionRef &section : object->sections()) {
    llvm::Expected<StringRef> name = section.getName();
    if (!name) {
      llvm::consumeError(name.takeError());
      continue;
    }
    if (*name != manifestSectionName)
      continue;
    llvm::Expected<StringRef> contents = section.getContents();
    if (contents)
      return contents->take_until([](char c) { return c == 0; }).str();
    llvm::consumeError(contents.takeError());
  }
  return std::nullopt;
}

static absl::StatusOr<std::string> readFromBinary(const std::string &path) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot read '", path, "': ", buffer.getError().message()));
  auto binary = llvm::object::createBinary((*buffer)->getMemBufferRef());
  if (!binary) {
    llvm::consumeError(binary.takeError());
    return refuse(path, "is not a product of hadalc");
  }
  std::optional<std::string> manifest = findInObject(**binary);
  if (auto *archive = dyn_cast<llvm::object::Archive>(binary->get())) {
    llvm::Error error = llvm::Error::success();
    for (const llvm::object::Archive::Child &child : archive->children(error)) {
      auto member = child.getAsBinary();
      if (member && !manifest)
        manifest = findInObject(**member);
      else if (!member)
        llvm::consumeError(member.takeError());
    }
    llvm::consumeError(std::move(error));
  }
  if (manifest)
    return *manifest;
  return refuse(path, "was not made by hadalc: it has no manifest");
}

absl::StatusOr<std::string> hadal::readManifest(const std::string &given) {
  std::string path = given;
  for (const char *suffix : {".a", ".so", ".weights"})
    if (!llvm::sys::fs::exists(path) && llvm::sys::fs::exists(given + suffix))
      path = given + suffix;
  InputFile file;
  std::string error;
  char magic[8];
  if (!file.open(path, error))
    return absl::InvalidArgumentError(error);
  if (file.size() < sizeof(magic) || !file.read(0, magic, sizeof(magic), error))
    return refuse(path, "is not a product of hadalc");
  if (!std::memcmp(magic, HADAL_RT_WEIGHTS_MAGIC, sizeof(magic)))
    return readFromWeights(path);
  return readFromBinary(path);
}
