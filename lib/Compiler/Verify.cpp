// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Makes a tiny model, and runs it pass by pass and as a program.

#include "lib/Compiler/Verify.h"

#include "codegen/LLVM/Link.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/Reference/Reference.h"
#include "hadal/Import.h"
#include "lib/Compiler/Calibration.h"
#include "lib/Compiler/ChooseScheme.h"
#include "lib/Compiler/Gates.h"
#include "lib/Compiler/RecordSource.h"
#include "lib/Compiler/Report.h"

#include "absl/strings/str_cat.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

#include <cmath>

using namespace mlir;
using namespace hadal;

/// Tokens that are run: more than the windows and the selections of a tiny
/// model, and more than a kernel takes at a time.
static constexpr int64_t verifiedTokens = 24;

/// What an exact pass may change: roundings in f64, which add up.
static constexpr double passTolerance = 1e-9;

/// What a program may differ from the interpreter: as logits from those of the
/// reference implementation; where a cache, or inputs, are rounded to 16 or to
/// 8 bits, a number between two may go to either.
static constexpr double exactProgramTolerance = 1e-4;
static constexpr double roundedTo16Tolerance = 1e-2;
static constexpr double roundedInputTolerance = 5e-2;

/// Of a module that the interpreter runs, in seconds.
static constexpr int64_t maxModuleParameters = 16'000'000;

static constexpr StringLiteral lossyPasses[] = {
    "deepseek-quantize",         "deepseek-quantize-cache",
    "deepseek-prune-layers",     "deepseek-prune-experts",
    "deepseek-prune-channels",   "deepseek-prune-heads",
    "deepseek-window-attention", "deepseek-reduce-active-experts",
    "deepseek-merge-experts",    "deepseek-round-activations",
    "deepseek-gate-layers"};

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

bool Verifier::run(ModuleOp module, std::vector<double> &result) {
  auto models = module.getOps<deepseek::ModelOp>();
  if (models.empty())
    return false;
  deepseek::Interpreter::Options options;
  options.modelFolder = folder;
  // The last one, if sequences choose adapters.
  if (auto names = (*models.begin())
                       ->getAttrOfType<ArrayAttr>(deepseek::adaptersAttrName))
    options.adapters = {int32_t(names.size()) - 1};
  deepseek::Interpreter interpreter(module, options);
  auto count = int32_t(tokens.size());
  auto positions = llvm::to_vector(llvm::seq<int32_t>(0, count));
  SmallVector<int32_t> sequences(tokens.size(), 0);
  FailureOr<deepseek::Tensor> tensor = interpreter.run(
      (*models.begin()).getEntry(), tokens, positions, sequences, positions);
  if (failed(tensor))
    return false;
  result = std::move(tensor->values);
  programTolerance = exactProgramTolerance;
  for (auto function : module.getOps<func::FuncOp>())
    for (Type type : function.getArgumentTypes())
      if (auto cache = dyn_cast<deepseek::KVCacheType>(type);
          cache && !cache.getElement().isF32())
        programTolerance = std::max(programTolerance, roundedTo16Tolerance);
  module.walk([&](Operation *op) {
    if (op->hasAttr("bf16_inputs"))
      programTolerance = std::max(programTolerance, roundedTo16Tolerance);
    if (op->hasAttr("activation_group") || isa<deepseek::RoundToGridOp>(op))
      programTolerance = roundedInputTolerance;
  });
  return true;
}

void Verifier::begin(ModuleOp module) {
  if (!run(module, logits))
    failure = "the model, as it was imported";
}

void Verifier::add(const std::string &name, std::vector<double> after,
                   double tolerance, std::map<std::string, int64_t> ops) {
  double largest = 0, worst = 0;
  for (double value : logits)
    largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < std::max(logits.size(), after.size()); ++i) {
    double difference = logits.size() != after.size()
                            ? INFINITY
                            : std::fabs(logits[i] - after[i]);
    // A NaN is out of every tolerance.
    if (!(difference <= worst))
      worst = std::isnan(difference) ? INFINITY : difference;
  }
  steps.push_back(
      {name, largest > 0 ? worst / largest : worst, tolerance, std::move(ops)});
  logits = std::move(after);
}

/// How many of each op the functions of \p module have.
static std::map<std::string, int64_t> countOps(ModuleOp module) {
  std::map<std::string, int64_t> counts;
  for (auto function : module.getOps<func::FuncOp>())
    function.getBody().walk(
        [&](Operation *op) { ++counts[op->getName().getStringRef().str()]; });
  return counts;
}

void Verifier::afterPass(StringRef pass, ModuleOp module) {
  isDone |= pass == "convert-deepseek-to-rt";
  if (isDone || !failure.empty())
    return;
  std::vector<double> after;
  if (!run(module, after))
    failure = "the model after " + pass.str();
  else
    add(pass.str(), std::move(after),
        llvm::is_contained(lossyPasses, pass) ? 0 : passTolerance,
        countOps(module));
}

namespace {

class VerifyInstrumentation : public PassInstrumentation {
public:
  explicit VerifyInstrumentation(Verifier &verifier) : verifier(verifier) {}

  void runAfterPass(Pass *pass, Operation *op) override {
    if (auto module = dyn_cast<ModuleOp>(op))
      verifier.afterPass(pass->getArgument(), module);
  }

private:
  Verifier &verifier;
};

} // namespace

std::unique_ptr<PassInstrumentation> Verifier::getInstrumentation() {
  return std::make_unique<VerifyInstrumentation>(*this);
}

std::string Verification::toText() const {
  std::string text =
      llvm::formatv("verified on {0}, {1} tokens\n", model, tokens);
  for (const Step &step : steps)
    text += llvm::formatv(
        "  {0,-32} max |error| {1:e2} of the largest |logit|, {2}\n", step.name,
        step.error,
        step.tolerance > 0
            ? llvm::formatv("at most {0:e0}", step.tolerance).str()
            : "lossy");
  return text;
}

//===----------------------------------------------------------------------===//
// A tiny model
//===----------------------------------------------------------------------===//

static bool isModule(const CompileOptions &options) {
  return StringRef(options.model).ends_with(".mlir");
}

/// The model that is run: a tiny one like that of \p options, or the module
/// that they name, if it is not too large.
static absl::StatusOr<OwningOpRef<ModuleOp>>
makeTiny(MLIRContext &context, const CompileOptions &options) {
  if (!isModule(options)) {
    ImportOptions import;
    import.weights = false;
    import.tiny = true;
    import.lora = options.lora;
    for (const auto &[name, folder] : options.adapters)
      import.adapters.push_back({name, folder});
    import.ggufKeys = options.ggufKeys;
    return importModel(context, options.model, import);
  }
  context.loadDialect<deepseek::DeepSeekDialect, func::FuncDialect,
                      arith::ArithDialect>();
  DiagnosticCapture capture(context);
  absl::StatusOr<OwningOpRef<ModuleOp>> module =
      parseModel(context, capture, options.model);
  if (!module.ok())
    return module;
  ModelReport report;
  countModel(**module, report);
  if (report.total.parameters > maxModuleParameters)
    return absl::UnimplementedError(absl::StrCat(
        "'", options.model, "' has ", report.total.parameters,
        " parameters; to verify a module, which is run as it is, it may have ",
        maxModuleParameters));
  return module;
}

/// \p options for the tiny \p module. Amounts that are taken away are small.
static CompileOptions shrinkOptions(const CompileOptions &options,
                                    ModuleOp module) {
  CompileOptions tiny;
  tiny.target = options.target;
  tiny.cpu = options.cpu;
  tiny.libraryFolder = options.libraryFolder;
  tiny.topK = options.topK;
  tiny.mergeExperts = options.mergeExperts;
  tiny.orderExperts = options.orderExperts;
  tiny.window = options.window;
  tiny.skipLayers = std::min<int64_t>(options.skipLayers, 1);
  tiny.skipPercent = options.skipPercent;
  // The tiny model has a gate of layer 1, and so none leaves before layer 2.
  if (!options.exits.empty())
    tiny.exits = {{1, options.exits.front().second}};
  tiny.quantize = options.quantize;
  tiny.rounding = options.rounding;
  tiny.activations = options.activations;
  tiny.cacheElement = options.cacheElement;
  tiny.attentionElement = options.attentionElement;
  // What is chosen for the model says nothing of a tiny one.
  if (parseAutoBits(tiny.quantize))
    tiny.quantize = "int4-g32";
  module.walk([&](deepseek::RouterOp router) {
    // Fewer than the tiny model's own, so that the pass has something to do.
    auto own = int64_t(router.getRouting().getTopK());
    tiny.topK = std::min(tiny.topK, std::max<int64_t>(own - 1, 1));
    tiny.mergeExperts = std::min<int64_t>(
        tiny.mergeExperts, int64_t(router.getRouting().getExperts()) / 2);
  });
  if (tiny.window)
    *tiny.window = {std::min<int64_t>(tiny.window->tokens, 9),
                    std::min<int64_t>(tiny.window->sink, 2)};
  SmallVector<std::string> prune;
  for (StringRef item : llvm::split(options.prune, ','))
    if (!item.empty())
      prune.push_back(
          (item.split(':').first +
           (item.starts_with("channels") || item.starts_with("experts") ? ":25%"
                                                                        : ":1"))
              .str());
  tiny.prune = llvm::join(prune, ",");
  return tiny;
}

//===----------------------------------------------------------------------===//
// The program
//===----------------------------------------------------------------------===//

/// Reads the \p count numbers of an .npy file of f32.
static absl::Status readLogits(const std::string &path, size_t count,
                               std::vector<double> &logits) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer || (*buffer)->getBufferSize() < 10)
    return absl::InternalError("the tiny program wrote no logits");
  StringRef bytes = (*buffer)->getBuffer();
  size_t begin = 10 + llvm::support::endian::read16le(bytes.data() + 8);
  if (bytes.size() < begin || bytes.size() - begin != count * sizeof(float))
    return absl::InternalError("the tiny program wrote other logits");
  logits.resize(count);
  for (size_t i = 0; i < count; ++i) {
    float value;
    std::memcpy(&value, bytes.data() + begin + i * sizeof(float),
                sizeof(value));
    logits[i] = double(value);
  }
  return absl::OkStatus();
}

static absl::Status writeScratch(Outputs &outputs, const std::string &name,
                                 StringRef contents, std::string &path) {
  absl::StatusOr<std::string> scratch = outputs.getScratchPath(name);
  if (!scratch.ok())
    return scratch.status();
  path = *scratch;
  AtomicFile file;
  std::string error;
  if (!file.open(path, error) ||
      !file.write(contents.data(), contents.size(), error) ||
      !file.commit(error))
    return absl::InvalidArgumentError(error);
  return absl::OkStatus();
}

/// A file of a made-up gate of layer 1 of a model of \p hidden columns.
static std::string makeGate(int64_t hidden) {
  std::string header = llvm::formatv(
      "{{\"layers.1.skip_gate.weight\":{{\"dtype\":\"F32\",\"shape\":[{0}],"
      "\"data_offsets\":[0,{1}]}}",
      hidden, hidden * int64_t(sizeof(float)));
  header.append((8 - header.size() % 8) % 8, ' ');
  char size[8];
  llvm::support::endian::write64le(size, header.size());
  std::string bytes(size, sizeof(size));
  bytes += header;
  for (int64_t i = 0; i < hidden; ++i) {
    char value[4];
    llvm::support::endian::write32le(
        value, llvm::bit_cast<uint32_t>(float(i * 37 % 17 - 8)));
    bytes.append(value, sizeof(value));
  }
  return bytes;
}

absl::Status hadal::verify(const CompileOptions &options, Outputs &outputs,
                           Verification &result) {
  MLIRContext context;
  absl::StatusOr<OwningOpRef<ModuleOp>> module = makeTiny(context, options);
  if (!module.ok())
    return module.status();
  deepseek::ModelOp model = *(*module)->getOps<deepseek::ModelOp>().begin();
  auto type = model.getInfo().getAs<StringAttr>("model_type");
  result.model = llvm::formatv(
      "{0} {1}: {2} layers, hidden {3}, vocabulary {4}",
      isModule(options) ? "the module of a" : "a tiny",
      type ? type.getValue() : StringRef("model"), int64_t(model.getLayers()),
      int64_t(model.getHidden()), int64_t(model.getVocab()));
  if (!options.lora.empty())
    result.model += ", with an adapter";
  if (!options.adapters.empty())
    result.model += ", with adapter '" + options.adapters.back().first + "'";
  CompileOptions tiny = shrinkOptions(options, **module);

  std::string bytes, path;
  absl::Status status;
  (*module)->walk([&](deepseek::SourceOp source) {
    source.setFilesAttr(Builder(&context).getArrayAttr({}));
    source.setOffsets({});
    if (status.ok())
      status = recordSource(source, "", "tiny.bin", bytes);
  });
  if (status.ok())
    status = writeScratch(outputs, "tiny.bin", bytes, path);
  std::string text;
  llvm::raw_string_ostream(text) << **module;
  if (status.ok())
    status = writeScratch(outputs, "tiny.mlir", text, tiny.model);

  std::vector<int32_t> tokens;
  std::string list;
  for (int64_t i = 0; i < verifiedTokens; ++i) {
    tokens.push_back(
        int32_t((i * i * 7 + i * 3 + 1) % int64_t(model.getVocab())));
    list += (i ? "," : "") + std::to_string(tokens.back());
  }
  result.tokens = verifiedTokens;
  if (status.ok() &&
      (!options.calibration.empty() || tiny.skipLayers || !tiny.exits.empty() ||
       tiny.orderExperts || StringRef(tiny.prune).contains("experts"))) {
    // Recipes find statistics under this name, beside the model.
    absl::StatusOr<std::string> statistics =
        outputs.getScratchPath(statisticsFileName);
    if (!statistics.ok())
      return statistics.status();
    tiny.saveStatistics = *statistics;
    status =
        writeScratch(outputs, "calibration.tokens", list, tiny.calibration);
  }
  if (status.ok() && !options.gates.empty())
    status = writeScratch(outputs, gatesFileName,
                          makeGate(int64_t(model.getHidden())), tiny.gates);
  absl::StatusOr<std::string> program = outputs.getScratchPath("tiny");
  absl::StatusOr<std::string> weights = outputs.getScratchPath("tiny.weights");
  absl::StatusOr<std::string> logits = outputs.getScratchPath("logits.npy");
  absl::StatusOr<std::string> errors = outputs.getScratchPath("tiny.errors");
  for (const auto *scratch : {&program, &weights, &logits, &errors})
    if (status.ok())
      status = scratch->status();
  if (!status.ok())
    return status;
  tiny.output = *program;

  std::string triple = llvm::Triple::normalize(
      options.target.empty() ? llvm::sys::getDefaultTargetTriple()
                             : options.target);
  // What another machine's program computes cannot be seen here.
  bool isRun = isForThisMachine(triple);
  if (!isRun)
    tiny.emit = Emit::Object;
  Verifier verifier(llvm::sys::path::parent_path(tiny.model).str(), tokens);
  CompileResult compiled;
  status = compileWith(tiny, compiled, verifier);
  if (!verifier.getFailure().empty())
    return absl::InternalError(absl::StrCat(
        "the reference interpreter cannot run ", verifier.getFailure()));
  if (!status.ok())
    return absl::Status(status.code(),
                        absl::StrCat("in verifying a tiny model: ",
                                     std::string(status.message())));
  if (isRun) {
    std::string message;
    SmallVector<StringRef> command = {*program, "--tokens", list, "--logits",
                                      *logits};
    if (!options.adapters.empty())
      command.append({"--adapter", options.adapters.back().first});
    int code = outputs.run(*program, command, *errors, message);
    if (code != 0)
      return absl::InternalError(absl::StrCat(
          "the tiny program failed: ",
          message.empty() ? absl::StrCat("status ", code) : message));
    std::vector<double> found;
    status = readLogits(*logits, size_t(verifiedTokens * verifier.getVocab()),
                        found);
    if (!status.ok())
      return status;
    double tolerance = verifier.getProgramTolerance();
    if (options.attentionElement != "f32")
      tolerance = std::max(tolerance, roundedInputTolerance);
    verifier.add("program", std::move(found), tolerance);
  }
  result.steps = verifier.getSteps();
  for (const Verification::Step &step : result.steps)
    if (step.tolerance > 0 && !(step.error <= step.tolerance))
      return absl::InvalidArgumentError(
          llvm::formatv("verification failed: on {0}, '{1}' changes logits by "
                        "{2:e2} of the largest, at most {3:e0} is allowed",
                        result.model, step.name, step.error, step.tolerance)
              .str());
  return absl::OkStatus();
}
