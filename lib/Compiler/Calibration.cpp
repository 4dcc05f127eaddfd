// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs a model over a text and reads what its probes saw.

#include "lib/Compiler/Calibration.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "lib/Import/Safetensors/Safetensors.h"
#include "lib/Support/FileIO.h"
#include "passes/Pruning/Pruner.h"

#include "absl/strings/str_cat.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cmath>
#include <map>

using namespace mlir;
using namespace hadal;

static constexpr StringLiteral prefix = "statistics.";

/// Probes write files of a few numbers a channel.
static constexpr uint64_t maxHeaderBytes = 100'000'000;

bool hadal::isStatisticsFile(StringRef path) {
  return path.ends_with(".safetensors");
}

/// The names of the statistics that probe \p name, "KIND WEIGHT..", takes in
/// layer \p layer.
static SmallVector<std::string> nameStatistics(StringRef name,
                                               StringRef layer) {
  if (name == "state")
    return {("layers." + layer + ".influence").str()};
  auto [kind, weights] = name.split(' ');
  StringRef suffix = kind.ends_with("gram") ? ".gram"
                     : kind == "mass"       ? ".mass"
                                            : ".moment";
  SmallVector<std::string> result;
  for (StringRef weight : llvm::split(weights, ' ')) {
    auto [before, after] = weight.split("{}");
    std::string of = before.str();
    if (weight.contains("{}"))
      of += (layer + after).str();
    result.push_back(of + suffix.str());
  }
  return result;
}

/// Copies the statistics \p from, which have the numbers of probes, to \p to,
/// with the names of weights.
static absl::Status renameStatistics(const std::string &from,
                                     const std::string &to,
                                     ArrayRef<std::string> probes) {
  auto buffer = llvm::MemoryBuffer::getFile(from, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer || (*buffer)->getBufferSize() < 8)
    return absl::InternalError("the program left no statistics");
  StringRef bytes = (*buffer)->getBuffer();
  uint64_t length = llvm::support::endian::read64le(bytes.data());
  if (length > maxHeaderBytes || length > bytes.size() - 8)
    return absl::InternalError("the program left broken statistics");
  llvm::Expected<llvm::json::Value> header =
      llvm::json::parse(bytes.substr(8, length));
  if (!header || !header->getAsObject()) {
    llvm::consumeError(header.takeError());
    return absl::InternalError("the program left broken statistics");
  }
  StringRef data = bytes.drop_front(8 + length);
  llvm::json::Object renamed;
  // Weights that read the same have the same numbers, each a copy, since no two
  // tensors of a file share bytes.
  SmallVector<StringRef> copies;
  uint64_t end = data.size();
  for (auto &[key, value] : *header->getAsObject()) {
    // "PROBE.LAYER" or "PROBE.LAYER.count".
    auto [probe, rest] = StringRef(key).split('.');
    auto [layer, suffix] = rest.split('.');
    size_t index;
    if (probe.getAsInteger(10, index) || index >= probes.size())
      return absl::InternalError("the program left broken statistics");
    SmallVector<std::string> names = nameStatistics(probes[index], layer);
    for (auto [i, name] : llvm::enumerate(names)) {
      if (!suffix.empty())
        name += ("." + suffix).str();
      llvm::json::Value entry = value;
      if (i > 0) {
        const llvm::json::Array *range = nullptr;
        if (auto *object = entry.getAsObject())
          range = object->getArray("data_offsets");
        std::optional<int64_t> from, to;
        if (range && range->size() == 2) {
          from = (*range)[0].getAsInteger();
          to = (*range)[1].getAsInteger();
        }
        if (!from || !to || *from < 0 || *to < *from ||
            uint64_t(*to) > data.size())
          return absl::InternalError("the program left broken statistics");
        copies.push_back(data.slice(size_t(*from), size_t(*to)));
        (*entry.getAsObject())["data_offsets"] = llvm::json::Array{
            int64_t(end), int64_t(end + copies.back().size())};
        end += copies.back().size();
      }
      renamed[name] = std::move(entry);
    }
  }
  std::string text;
  llvm::raw_string_ostream(text) << llvm::json::Value(std::move(renamed));
  text.append((8 - text.size() % 8) % 8, ' ');
  char size[8];
  llvm::support::endian::write64le(size, text.size());
  AtomicFile file;
  std::string error;
  bool isGood = file.open(to, error) && file.write(size, 8, error) &&
                file.write(text.data(), text.size(), error) &&
                file.write(data.data(), data.size(), error);
  for (StringRef copy : copies)
    isGood = isGood && file.write(copy.data(), copy.size(), error);
  if (!isGood || !file.commit(error))
    return absl::InvalidArgumentError(error);
  return absl::OkStatus();
}

CompileOptions hadal::makeLossless(const CompileOptions &options,
                                   const std::string &output) {
  CompileOptions lossless;
  lossless.model = options.model;
  lossless.output = output;
  lossless.cpu = "native";
  lossless.contextTokens = options.contextTokens;
  lossless.lora = options.lora;
  lossless.ggufKeys = options.ggufKeys;
  lossless.libraryFolder = options.libraryFolder;
  return lossless;
}

absl::Status hadal::gatherStatistics(const CompileOptions &options, bool grams,
                                     Outputs &outputs, const std::string &path,
                                     Observed &base) {
  std::string program, weights, seen, errors;
  for (auto [of, name] : {std::pair(&program, "observed"),
                          {&weights, "observed.weights"},
                          {&seen, "seen"},
                          {&errors, "errors"}}) {
    absl::StatusOr<std::string> scratch = outputs.getScratchPath(name);
    if (!scratch.ok())
      return scratch.status();
    *of = *scratch;
  }
  CompileOptions plain = makeLossless(options, program);
  plain.hasProbes = true;
  plain.hasGramProbes = grams;
  CompileResult result;
  if (absl::Status status = compile(plain, &result); !status.ok())
    return status;
  base = {program, result.report};
  bool isTokens = StringRef(options.calibration).ends_with(".tokens");
  std::string text = (isTokens ? "@" : "") + options.calibration;
  SmallVector<StringRef> arguments = {
      program, "--eval",       isTokens ? "--tokens" : "--text",
      text,    "--statistics", seen};
  std::string message;
  int code = outputs.run(program, arguments, errors, message);
  if (code != 0)
    return absl::InvalidArgumentError(
        absl::StrCat("cannot calibrate on '", options.calibration,
                     "': ", findLastError(code, errors, message)));
  return renameStatistics(seen, path, result.probes);
}

absl::StatusOr<LossReport> hadal::measureLoss(const CompileOptions &options,
                                              Outputs &outputs,
                                              const Observed &base) {
  absl::StatusOr<std::string> found = outputs.getScratchPath("loss.json");
  absl::StatusOr<std::string> errors = outputs.getScratchPath("loss.errors");
  for (const auto *scratch : {&found, &errors})
    if (!scratch->ok())
      return scratch->status();
  bool isTokens = StringRef(options.calibration).ends_with(".tokens");
  std::string text = (isTokens ? "@" : "") + options.calibration;
  auto refuse = [&](const std::string &why) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot measure what is lost on '", options.calibration, "': ", why));
  };
  // The object that \p program prints of the text.
  auto evaluate = [&](const std::string &program,
                      SmallVector<StringRef> arguments)
      -> absl::StatusOr<llvm::json::Object> {
    std::string message;
    arguments.append({isTokens ? "--tokens" : "--text", text, "--json"});
    int code = outputs.run(program, arguments, *errors, message, *found);
    if (code != 0)
      return refuse(findLastError(code, *errors, message));
    auto buffer = llvm::MemoryBuffer::getFile(*found);
    llvm::Expected<llvm::json::Value> json =
        llvm::json::parse(buffer ? (*buffer)->getBuffer() : "");
    if (!json || !json->getAsObject()) {
      llvm::consumeError(json.takeError());
      return refuse("the evaluator printed no JSON");
    }
    return std::move(*json->getAsObject());
  };
  absl::StatusOr<llvm::json::Object> object =
      evaluate(options.evaluator,
               {options.evaluator, options.output, "--against", base.program});
  if (!object.ok())
    return object.status();
  const llvm::json::Object *of = object->getObject("base");
  const llvm::json::Object *divergence = object->getObject("kl_divergence");
  if (!of || !divergence)
    return refuse("the evaluator printed other JSON");
  LossReport loss;
  loss.tokens = object->getInteger("scored_tokens").value_or(0);
  loss.perplexity = object->getNumber("perplexity").value_or(NAN);
  loss.basePerplexity = of->getNumber("perplexity").value_or(NAN);
  loss.klDivergence = divergence->getNumber("mean").value_or(NAN);
  loss.topAgreement = object->getNumber("top_1_agreement").value_or(NAN);
  loss.baseParameters = base.report.total.parameters;
  loss.baseFlops = base.report.decodeFlops(0);
  loss.baseWeightBytes = base.report.total.weightBytes;
  if (options.hasGates()) {
    absl::StatusOr<llvm::json::Object> counted =
        evaluate(options.output, {options.output, "--eval"});
    if (!counted.ok())
      return counted.status();
    const llvm::json::Object *skipped = counted->getObject("skipped_layers");
    if (!skipped)
      return refuse("the program printed other JSON");
    loss.skippedShare = skipped->getNumber("share").value_or(NAN);
    loss.savedShare = skipped->getNumber("operations_share").value_or(NAN);
  }
  return loss;
}

absl::Status hadal::attachStatistics(ModuleOp module, const std::string &path,
                                     std::vector<std::string> &notes) {
  absl::StatusOr<safetensors::Checkpoint> file =
      safetensors::Checkpoint::openFile(path);
  if (!file.ok())
    return file.status();
  InputFile input;
  std::string error;
  if (!input.open(path, error))
    return absl::InvalidArgumentError(error);
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  Location loc = module.getLoc();
  std::map<int64_t, double> influence;
  int64_t experts = 0, idle = 0;
  for (StringRef name : file->names()) {
    const safetensors::Tensor &tensor = *file->find(name);
    if (tensor.dtype != safetensors::DType::F32 || tensor.shape.empty() ||
        llvm::is_contained(tensor.shape, 0))
      return absl::InvalidArgumentError(
          absl::StrCat("'", path, "': tensor '", name.str(),
                       "' is not a statistic: expected F32"));
    StringRef layer = name;
    int64_t number;
    if (layer.consume_front("layers.") && layer.consume_back(".influence") &&
        !layer.getAsInteger(10, number)) {
      float value;
      if (!input.read(uint64_t(tensor.offsetBytes), &value, sizeof(value),
                      error))
        return absl::InvalidArgumentError(error);
      if (!std::isfinite(value))
        return absl::InvalidArgumentError(absl::StrCat(
            "'", path, "': tensor '", name.str(), "' is not finite"));
      influence[number] = double(value);
    }
    if (name.ends_with(".mass.count")) {
      std::vector<float> counts(size_t(tensor.shape.front()));
      if (!input.read(uint64_t(tensor.offsetBytes), counts.data(),
                      counts.size() * sizeof(float), error))
        return absl::InvalidArgumentError(error);
      experts += tensor.shape.front();
      idle += llvm::count(counts, 0.0f);
    }
    auto type = RankedTensorType::get(tensor.shape, builder.getF32Type());
    std::string symbol = (prefix + name).str();
    auto weight = deepseek::WeightOp::create(builder, loc, symbol, type);
    OpBuilder recipe(builder.getContext());
    recipe.setInsertionPointToStart(&weight.getRecipe().emplaceBlock());
    auto source = deepseek::SourceOp::create(
        recipe, loc, type, symbol,
        builder.getStrArrayAttr({statisticsFileName}),
        builder.getDenseI64ArrayAttr(tensor.offsetBytes));
    deepseek::YieldOp::create(recipe, loc, source);
  }
  if (idle)
    notes.push_back(
        absl::StrCat(idle, " of ", experts,
                     " experts were not chosen in the calibration's "
                     "text; they are judged by their weights alone"));
  SmallVector<double> values;
  for (auto [layer, value] : influence)
    if (layer == int64_t(values.size()))
      values.push_back(value);
  for (auto model : module.getOps<deepseek::ModelOp>())
    if (!values.empty())
      model->setAttr(influenceName, builder.getDenseF64ArrayAttr(values));
  return absl::OkStatus();
}

void hadal::detachStatistics(ModuleOp module) {
  for (auto weight :
       llvm::make_early_inc_range(module.getOps<deepseek::WeightOp>()))
    if (weight.getSymName().starts_with(prefix))
      weight.erase();
  for (auto model : module.getOps<deepseek::ModelOp>())
    model->removeAttr(influenceName);
}
