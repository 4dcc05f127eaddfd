// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The whole pipeline, phase by phase.

#include "hadal/Compiler.h"

#include "codegen/CUDA/EmitCuda.h"
#include "codegen/Cpp/EmitCpp.h"
#include "codegen/LLVM/EmitObject.h"
#include "codegen/LLVM/Link.h"
#include "codegen/Passes.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/IR/ExpertMerging.h"
#include "dialects/RT/IR/RTOps.h"
#include "hadal/Import.h"
#include "lib/Compiler/Calibration.h"
#include "lib/Compiler/ChooseScheme.h"
#include "lib/Compiler/CudaToolkit.h"
#include "lib/Compiler/DebugScopes.h"
#include "lib/Compiler/DepFile.h"
#include "lib/Compiler/Diagnostics.h"
#include "lib/Compiler/Gates.h"
#include "lib/Compiler/Manifest.h"
#include "lib/Compiler/Outputs.h"
#include "lib/Compiler/PassChanges.h"
#include "lib/Compiler/Report.h"
#include "lib/Compiler/Verify.h"
#include "lib/Compiler/WorkTable.h"
#include "lib/Packer/Packer.h"
#include "lib/Packer/Recipe.h"
#include "lib/Support/InputRecorder.h"
#include "passes/Passes.h"
#include "passes/Pruning/Pruner.h"
#include "passes/Quantization/Scheme.h"
#include "runtime/include/hadal_rt/abi.h"

#include "absl/strings/str_cat.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/Transforms/Passes.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/LocationSnapshot.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SHA256.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

#include <array>
#include <map>
#include <unistd.h>

using namespace mlir;
using namespace hadal;

/// Files of a model's folder that the weights file carries, for the text
/// library.
static constexpr const char *textFiles[] = {
    "tokenizer.json", "tokenizer_config.json", "generation_config.json",
    "chat_template.jinja"};

/// The largest such file; DeepSeek's tokenizer.json has 8 MB.
static constexpr uint64_t maxTextFileBytes = 256 << 20;

static constexpr char defaultSymbol[] = "hadal_model";

/// The API level of Android that libhadal_rt.a is built for.
static constexpr unsigned firstAndroid = 29;

const char *hadal::getActivationsName(Activations activations) {
  switch (activations) {
  case Activations::F32:
    return "f32";
  case Activations::Int8:
    return "int8";
  case Activations::BF16:
    return "bf16";
  }
  llvm_unreachable("every one is above");
}

std::optional<Activations> hadal::parseActivations(std::string_view name) {
  for (auto known : {Activations::F32, Activations::Int8, Activations::BF16})
    if (name == getActivationsName(known))
      return known;
  return std::nullopt;
}

/// \p name as a C identifier.
static std::string toIdentifier(StringRef name) {
  std::string identifier;
  for (char c : name)
    identifier += llvm::isAlnum(c) ? c : '_';
  if (identifier.empty() || llvm::isDigit(identifier.front()))
    identifier.insert(0, "model_");
  return identifier;
}

namespace {

class Compilation {
public:
  /// \param verifier Shown what each pass makes; null: nothing is.
  Compilation(const CompileOptions &options, CompileResult &result,
              Verifier *verifier = nullptr)
      : options(options), result(result), verifier(verifier),
        context(makeRegistry()), capture(context), dumper(options.dumpFolder) {}

  absl::Status run();

private:
  static DialectRegistry makeRegistry() {
    DialectRegistry registry;
    registry.insert<deepseek::DeepSeekDialect, rt::RTDialect, func::FuncDialect,
                    arith::ArithDialect>();
    registerGraphDialects(registry);
    return registry;
  }

  absl::Status checkOptions();
  absl::Status resolveTargets();
  absl::Status import();
  absl::Status parse();
  /// Runs the passes that \p build adds. \p code is that of their failures.
  absl::Status runPasses(llvm::function_ref<void(PassManager &)> build,
                         absl::StatusCode code);
  /// The same for a level, of which nobody asks what passes did.
  absl::Status runPassesOf(CodeLevel &level,
                           llvm::function_ref<void(PassManager &)> build,
                           absl::StatusCode code);
  absl::Status verifyProbes();
  absl::Status calibrate();
  absl::Status runPruning();
  absl::Status runGraphPasses();
  absl::Status checkWindow();
  absl::Status checkActivations();
  void listIR();
  absl::Status convertToRT();
  absl::Status planMemory();
  absl::Status alignLevels();
  ManifestInput manifestInput(std::string passes, const ResolvedTarget &target);
  absl::StatusOr<std::string> makeManifestOf(ModuleOp program,
                                             const ResolvedTarget &target,
                                             llvm::ArrayRef<CodeLevel> lesser);
  absl::Status setManifest();
  absl::Status convertToLLVM();

  /// All that comes after the import of a graph of tensors.
  absl::Status compileGraph(std::optional<Phase> stopAfter);
  absl::Status checkGraphOptions();
  absl::Status describeGraph();
  absl::Status addGraphManifest();
  std::string makeGraphHeader(const std::string &stem);
  func::FuncOp findGraph();

  /// Writes the module, or what LLVM makes of it, where the user wants it.
  absl::Status print(Phase phase);
  absl::StatusOr<std::string> emitText(EmitKind kind);
  absl::Status writeCode();
  absl::Status writeProducts();
  absl::Status writeHeader(const std::string &path);
  std::string makeHeader(const std::string &stem);
  absl::Status writeSource();
  absl::Status writeCuda();
  absl::Status
  buildCuda(llvm::ArrayRef<std::pair<std::string, StringRef>> files);
  absl::Status link(const std::string &object);
  absl::Status pack(AtomicFile &file);
  absl::StatusOr<std::string> findLibrary(const char *name);
  absl::StatusOr<std::vector<std::string>> findProductLibraries();
  absl::Status commit();

  /// What the names of files beside the product begin with: beside model.o, the
  /// weights of the model are no weights of the object.
  std::string getStem() const {
    StringRef stem = options.output;
    if (options.emit == Emit::Object)
      stem.consume_back(".o");
    return stem.str();
  }

  /// Whether C++ or CUDA is made, and not what LLVM makes.
  bool isSource() const {
    return (options.emit == Emit::Cpp || options.emit == Emit::Cuda) &&
           !options.stopAfter;
  }

  void report(const char *phase, uint64_t done = 0, uint64_t total = 0) {
    if (options.progress)
      options.progress({phase, done, total});
  }

  const CompileOptions &options;
  CompileResult &result;
  Verifier *verifier;
  MLIRContext context;
  DiagnosticCapture capture;
  IRDumper dumper;
  ResolvedTarget target;
  /// Code for lesser processors than `target`, the best first.
  std::vector<CodeLevel> lesser;
  std::string modelFolder, modelFile, symbol, manifest, pipeline;
  bool roundsWeights = false, roundsActivations = false;
  bool hasBF16Inputs = false;
  std::vector<std::string> lossy; ///< What else changes the numbers.
  std::string statisticsPath;     ///< Empty: there are none.
  Observed observed;              ///< What they were gathered with.
  std::string scheme;             ///< Of -deepseek-quantize.
  std::optional<CudaToolkit> cuda;
  /// The model is a graph of tensors, and no language model.
  bool isGraph = false;
  std::string graphHash, graphName; ///< The 16 bytes.
  int64_t graphWeightsBytes = 0, graphArenaBytes = 0;
  std::vector<std::string> sources;
  /// In place of the files that a folder has.
  std::vector<TextFile> importedTextFiles;
  /// In place of generation_config.json where a folder has none, if not empty:
  /// as in transformers, what config.json says ends a text.
  std::string generationConfig;
  OwningOpRef<ModuleOp> module;
  std::vector<OwningOpRef<ModuleOp>> lesserModules; ///< Of `lesser`.
  /// The weights and the program, which lowering takes from the module.
  OwningOpRef<ModuleOp> recipes;
  Outputs outputs;
  InputRecorder inputs;
};

} // namespace

//===----------------------------------------------------------------------===//
// From the model to the llvm dialect
//===----------------------------------------------------------------------===//

/// Whether a library can be linked for \p name, a triple of Android.
static absl::Status checkAndroid(const std::string &name) {
  llvm::Triple triple(llvm::Triple::normalize(name));
  if (!triple.isAArch64())
    return absl::UnimplementedError(
        absl::StrCat("target '", name,
                     "': libraries for Android are made for aarch64 only; use "
                     "--emit=obj"));
  // The runtime has a variable for each thread.
  unsigned level = triple.getEnvironmentVersion().getMajor();
  if (level && level < firstAndroid)
    return absl::UnimplementedError(absl::StrCat(
        "target '", name, "': libraries are made for Android's API ",
        firstAndroid, " and later, but it names ", level,
        "; use --emit=obj, and the runtime as an NDK compiles it"));
  return absl::OkStatus();
}

absl::Status Compilation::checkOptions() {
  if (options.contextTokens < 0 || options.maxBatch < 0)
    return absl::InvalidArgumentError(
        absl::StrCat("expects context and batch >= 0, but got ",
                     options.contextTokens, " and ", options.maxBatch));
  llvm::Triple triple(llvm::Triple::normalize(
      options.target.empty() ? llvm::sys::getDefaultTargetTriple()
                             : options.target));
  bool isLinked = options.emit == Emit::Executable ||
                  options.emit == Emit::Library || options.emit == Emit::Cuda;
  bool isRISCV = triple.getArch() == llvm::Triple::riscv64;
  if ((triple.getArch() != llvm::Triple::x86_64 && !triple.isAArch64() &&
       !isRISCV) ||
      !(triple.isOSLinux() || (triple.isOSDarwin() && !isRISCV)))
    return absl::UnimplementedError(
        absl::StrCat("target '", options.target,
                     "' is not supported, only Linux and macOS on x86_64 and "
                     "aarch64 and Linux on riscv64 are"));
  // The libraries of other systems come with their own kits.
  if (isLinked && triple.isAndroid()) {
    if (options.emit != Emit::Library)
      return absl::UnimplementedError(absl::StrCat(
          "target '", options.target,
          "': only objects and libraries are made for it; use --emit=obj or "
          "--emit=lib"));
    if (absl::Status status = checkAndroid(options.target); !status.ok())
      return status;
  } else if (isLinked && !triple.isOSLinux()) {
    return absl::UnimplementedError(
        absl::StrCat("target '", options.target,
                     "': only objects are made for it; use --emit=obj"));
  }
  if (options.window &&
      (options.window->tokens < 1 || options.window->sink < 0 ||
       options.window->tokens > INT32_MAX || options.window->sink > INT32_MAX))
    return absl::InvalidArgumentError(
        absl::StrCat("the window has ", options.window->tokens,
                     " tokens and a sink of ", options.window->sink,
                     ", expected 1 to ", INT32_MAX, " and 0 to ", INT32_MAX));
  if (!options.prune.empty())
    if (absl::Status status = checkPruneList(options.prune); !status.ok())
      return status;
  if (options.mergeExperts &&
      ("," + options.prune).find(",experts:") != std::string::npos)
    return absl::InvalidArgumentError(absl::StrCat(
        "experts are merged into ", options.mergeExperts, " and pruned by '",
        options.prune, "', of which one is possible"));
  if (options.orderExperts && options.mergeExperts)
    return absl::InvalidArgumentError(
        "experts are merged and put in order, of which one is possible");
  bool skips = options.hasGates();
  if (options.skipLayers < 0 || options.skipPercent < 0 ||
      options.skipPercent > 100)
    return absl::InvalidArgumentError(
        absl::StrCat("expects layers to skip >= 0, for 0 to 100 percent of the "
                     "tokens, but got ",
                     options.skipLayers, " and ", options.skipPercent));
  for (auto [layer, percent] : options.exits)
    if (layer < 0 || layer > INT32_MAX || percent < 0 || percent > 100)
      return absl::InvalidArgumentError(
          absl::StrCat("expects layers >= 0 for 0 to 100 percent of the tokens "
                       "to leave before, but got ",
                       layer, " and ", percent));
  if ((options.skipLayers || !options.exits.empty()) &&
      options.calibration.empty() && options.packWeights)
    return absl::InvalidArgumentError(
        "to skip layers by what they change takes a calibration");
  if (skips && ("," + options.prune).find(",layers:") != std::string::npos)
    return absl::InvalidArgumentError(
        absl::StrCat("layers are skipped by a gate and pruned by '",
                     options.prune, "', of which one is possible"));
  if (skips && !options.adapters.empty())
    return absl::UnimplementedError(
        "layers with adapters that are kept at run time cannot be skipped; "
        "merge one with --lora");
  if (skips && options.emit == Emit::Cuda)
    return absl::UnimplementedError(
        "layers are skipped on processors only: kernels of a GPU do not tell "
        "the host how many tokens go through");
  if (!options.prune.empty() && !options.adapters.empty())
    return absl::UnimplementedError(
        "adapters that are kept at run time are not cut with --prune; merge "
        "one with --lora");
  if (!options.quantize.empty())
    if (absl::Status status = checkQuantizeScheme(options.quantize);
        !status.ok())
      return status;
  if (absl::Status status = checkRounding(options.rounding); !status.ok())
    return status;
  if (!(options.smoothing >= 0 && options.smoothing <= 1))
    return absl::InvalidArgumentError(
        absl::StrCat("expects an alpha of smoothquant of 0 to 1, but got ",
                     options.smoothing));
  if (options.calibration.empty() && options.getRounding() != "rtn")
    return absl::InvalidArgumentError(absl::StrCat(
        "to round by ", options.getRounding(), " takes a calibration"));
  if (parseAutoBits(options.quantize) &&
      (options.calibration.empty() || options.evaluator.empty() ||
       isStatisticsFile(options.calibration)))
    return absl::InvalidArgumentError(absl::StrCat(
        "--quantize=", options.quantize, " measures what is lost: it takes ",
        options.calibration.empty() || isStatisticsFile(options.calibration)
            ? "a text, calibration=FILE"
            : "hadal-eval, which is not beside hadalc"));
  if (!llvm::is_contained({"f32", "bf16", "f16", "int8"},
                          StringRef(options.cacheElement)))
    return absl::InvalidArgumentError(
        absl::StrCat("expects a cache of f32, bf16, f16 or int8, but got '",
                     options.cacheElement, "'"));
  if (!llvm::is_contained({"f32", "bf16"}, StringRef(options.attentionElement)))
    return absl::InvalidArgumentError(
        absl::StrCat("expects attention in f32 or bf16, but got '",
                     options.attentionElement, "'"));
  if (options.attentionElement != "f32" && options.cacheElement != "bf16" &&
      options.cacheElement != "int8")
    return absl::InvalidArgumentError(
        absl::StrCat("--attention=", options.attentionElement,
                     " is for a cache of bf16 or int8 (--kv), but got one of ",
                     options.cacheElement));
  if (absl::Status status = resolveTargets(); !status.ok())
    return status;
  if (options.emit == Emit::Cpp || options.emit == Emit::Cuda) {
    if (!lesser.empty())
      return absl::InvalidArgumentError(absl::StrCat(
          "--cpu=", options.cpu,
          ": only objects have code for several processors, and source is "
          "compiled for one; name that alone"));
    // Source does not know what it is compiled for; `kernels.h` chooses then.
    // Rows go in pairs only where a processor is named that multiplies pairs.
    bool hasPairs = target.dotProduct == DotProductKind::NeonI8MM;
    target.dotProduct = options.emit == Emit::Cuda ? DotProductKind::CUDA
                        : hasPairs                 ? DotProductKind::GenericI8MM
                                                   : DotProductKind::Generic;
    target.bf16Pairs = false;
    target.bf16Dots &= options.emit == Emit::Cpp;
    target.scalesByExponents = false;
    target.followsStreams = false;
    // Small blocks read better and suit any processor.
    if (options.cpu.empty() || options.emit == Emit::Cuda) {
      target.vectorBits = 128;
      target.caches = {};
    }
  }
  if (options.emit == Emit::Cuda && !options.stopAfter &&
      options.nvcc != "none" && !options.output.empty()) {
    absl::StatusOr<std::optional<CudaToolkit>> found =
        findCuda(options.nvcc, outputs);
    if (!found.ok())
      return found.status();
    cuda = *found;
  }
  symbol = defaultSymbol;
  if (options.emit == Emit::Library)
    symbol = toIdentifier(llvm::sys::path::filename(options.output)) + "_model";
  else if (!options.header.empty())
    symbol = toIdentifier(llvm::sys::path::stem(options.header)) + "_model";
  return absl::OkStatus();
}

/// Finds out what the processors have that code is made for.
absl::Status Compilation::resolveTargets() {
  std::vector<ResolvedTarget> targets;
  bool isHere = isForThisMachine(options.target.empty()
                                     ? llvm::sys::getDefaultTargetTriple()
                                     : options.target);
  for (StringRef cpu : llvm::split(options.cpu, ',')) {
    if (cpu.empty() && !options.cpu.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("expects names of processors with a comma between them, "
                       "but got '",
                       options.cpu, "'"));
    absl::StatusOr<ResolvedTarget> resolved = resolveTarget(
        {options.target, cpu.empty() && isHere ? "native" : cpu.str(), ""});
    if (!resolved.ok())
      return resolved.status();
    targets.push_back(*resolved);
  }
  // The runtime takes the first that it can: the one with most instructions.
  llvm::stable_sort(
      targets, [](const ResolvedTarget &a, const ResolvedTarget &b) {
        return llvm::popcount(a.cpuFeatures) > llvm::popcount(b.cpuFeatures);
      });
  for (size_t i = 1; i < targets.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (targets[i].cpuFeatures == targets[j].cpuFeatures)
        return absl::InvalidArgumentError(absl::StrCat(
            "--cpu=", options.cpu, ": '", targets[j].tuneCpu, "' and '",
            targets[i].tuneCpu, "' need the same instructions; name one"));
  target = targets.front();
  for (const ResolvedTarget &one : llvm::drop_begin(targets))
    lesser.push_back({ModuleOp(), one});
  return absl::OkStatus();
}

absl::StatusOr<OwningOpRef<ModuleOp>>
hadal::parseModel(MLIRContext &context, DiagnosticCapture &capture,
                  const std::string &path) {
  // The parser reports a file that it cannot read in its own words.
  InputFile file;
  std::string error;
  if (!file.open(path, error))
    return absl::InvalidArgumentError(error);
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(path, &context);
  if (!module)
    return capture.toStatus(absl::StatusCode::kInvalidArgument,
                            "the module does not parse");
  if (module->getOps<deepseek::ModelOp>().empty())
    return absl::InvalidArgumentError(
        absl::StrCat("'", path, "' has no deepseek.model operation"));
  return std::move(module);
}

absl::Status Compilation::parse() {
  modelFolder = llvm::sys::path::parent_path(options.model).str();
  modelFile = llvm::sys::path::filename(options.model).str();
  absl::StatusOr<OwningOpRef<ModuleOp>> parsed =
      parseModel(context, capture, options.model);
  if (!parsed.ok())
    return parsed.status();
  module = std::move(*parsed);
  if (options.contextTokens)
    (*module->getOps<deepseek::ModelOp>().begin())
        .setContextLength(options.contextTokens);
  return absl::OkStatus();
}

absl::Status Compilation::import() {
  report("import");
  if (StringRef(options.model).ends_with(".mlir")) {
    if (!options.lora.empty() || !options.adapters.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("an adapter needs a checkpoint, but the model is '",
                       options.model, "'"));
    if (!options.ggufKeys.empty())
      return absl::InvalidArgumentError(absl::StrCat(
          "a key, '", options.ggufKeys.front().first,
          "', needs a GGUF file, but the model is '", options.model, "'"));
    if (!options.dims.empty())
      return absl::InvalidArgumentError(absl::StrCat(
          "--dims needs an ONNX file, but the model is '", options.model, "'"));
    if (absl::Status status = parse(); !status.ok())
      return status;
  } else {
    modelFolder = options.model;
    if (!llvm::sys::fs::is_directory(options.model)) {
      modelFolder = llvm::sys::path::parent_path(options.model).str();
      modelFile = llvm::sys::path::filename(options.model).str();
    }
    ImportOptions importOptions;
    importOptions.weights = options.packWeights;
    importOptions.lora = options.lora;
    for (const auto &[name, folder] : options.adapters)
      importOptions.adapters.push_back({name, folder});
    importOptions.contextTokens = options.contextTokens;
    importOptions.ggufKeys = options.ggufKeys;
    importOptions.graphs = true;
    importOptions.dims = options.dims;
    importOptions.notes = &result.notes;
    importOptions.textFiles = &importedTextFiles;
    absl::StatusOr<OwningOpRef<ModuleOp>> imported =
        importModel(context, options.model, importOptions);
    if (!imported.ok())
      return imported.status();
    module = std::move(*imported);
    isGraph = module->getOps<deepseek::ModelOp>().empty();
  }
  for (auto model : module->getOps<deepseek::ModelOp>())
    if (auto tokens = model.getInfo().getAs<DenseI64ArrayAttr>("eos_token_ids"))
      llvm::raw_string_ostream(generationConfig)
          << llvm::json::Value(llvm::json::Object{
                 {"eos_token_id", llvm::json::Array(tokens.asArrayRef())}});
  dumper.dump(*module, "import");
  if (verifier && !isGraph)
    verifier->begin(*module);
  return absl::OkStatus();
}

absl::Status
Compilation::runPasses(llvm::function_ref<void(PassManager &)> build,
                       absl::StatusCode code) {
  PassManager passes = PassManager::on<ModuleOp>(&context);
  build(passes);
  if (!pipeline.empty())
    pipeline += ",";
  std::string text;
  llvm::raw_string_ostream os(text);
  passes.printAsTextualPipeline(os);
  // "builtin.module(a,b)" is "a,b" in the list of all.
  StringRef list = text;
  if (list.consume_front("builtin.module(") && list.consume_back(")"))
    pipeline += list;
  if (options.listIR) {
    result.ir.passes.push_back(list.str());
    passes.addInstrumentation(makePassChanges(result.ir.changes));
  }
  if (dumper.isEnabled())
    passes.addInstrumentation(dumper.getInstrumentation());
  if (verifier)
    passes.addInstrumentation(verifier->getInstrumentation());
  if (failed(passes.run(*module)))
    return capture.toStatus(code, "a pass failed without saying why");
  return absl::OkStatus();
}

absl::Status
Compilation::runPassesOf(CodeLevel &level,
                         llvm::function_ref<void(PassManager &)> build,
                         absl::StatusCode code) {
  PassManager passes = PassManager::on<ModuleOp>(&context);
  build(passes);
  if (failed(passes.run(level.module)))
    return capture.toStatus(code, "a pass failed without saying why");
  return absl::OkStatus();
}

/// Shows the verifier what probes do to the model: another program has them.
absl::Status Compilation::verifyProbes() {
  if (!verifier)
    return absl::OkStatus();
  OwningOpRef<ModuleOp> probed = module->clone();
  PassManager passes = PassManager::on<ModuleOp>(&context);
  InsertProbesOptions probes;
  probes.gram = options.getRounding() == "gptq";
  passes.addPass(createInsertProbes(probes));
  passes.addInstrumentation(verifier->getInstrumentation());
  if (failed(passes.run(*probed)))
    return capture.toStatus(absl::StatusCode::kInternal,
                            "a pass failed without saying why");
  return absl::OkStatus();
}

/// Finds out what matters, if it is asked for, and puts it where passes look.
absl::Status Compilation::calibrate() {
  if (options.calibration.empty())
    return absl::OkStatus();
  statisticsPath = options.calibration;
  if (!isStatisticsFile(statisticsPath)) {
    if (!options.packWeights)
      return absl::InvalidArgumentError(absl::StrCat(
          "to calibrate on '", options.calibration,
          "' takes the weights; give statistics of it (.safetensors)"));
    report("calibrate");
    if (absl::Status status = verifyProbes(); !status.ok())
      return status;
    statisticsPath = options.saveStatistics;
    if (statisticsPath.empty()) {
      absl::StatusOr<std::string> path =
          outputs.getScratchPath("statistics.safetensors");
      if (!path.ok())
        return path.status();
      statisticsPath = *path;
    }
    if (absl::Status status = gatherStatistics(
            options,
            options.getRounding() == "gptq" && !options.quantize.empty(),
            outputs, statisticsPath, observed);
        !status.ok())
      return status;
  }
  if (absl::Status status =
          attachStatistics(*module, statisticsPath, result.notes);
      !status.ok())
    return status;
  bool hasGrams = llvm::any_of(module->getOps<deepseek::WeightOp>(),
                               [](deepseek::WeightOp weight) {
                                 return weight.getSymName().ends_with(".gram");
                               });
  if (!options.quantize.empty() && options.getRounding() == "gptq" && !hasGrams)
    return absl::InvalidArgumentError(absl::StrCat(
        "'", statisticsPath,
        "' has no second moments, which gptq needs; gather them from a text, "
        "with gptq and --save-statistics"));
  return absl::OkStatus();
}

/// Adds the passes that take away what \p list says.
static void addPruning(PassManager &passes, StringRef list, bool assume) {
  for (StringRef item : llvm::split(list, ',')) {
    auto [kind, amount] = item.split(':');
    if (kind == "layers")
      passes.addPass(createPruneLayers({amount.str()}));
    else if (kind == "experts")
      passes.addPass(createPruneExperts({amount.str(), assume}));
    else if (kind == "channels")
      passes.addPass(createPruneChannels({amount.str()}));
    else
      passes.addPass(createPruneHeads({amount.str()}));
  }
}

/// Adds the pass that scales channels, if that is how weights are rounded.
static void addScaling(PassManager &passes, StringRef scheme,
                       const CompileOptions &options) {
  std::string error;
  std::optional<RoundingMethod> method =
      parseRoundingMethod(options.getRounding(), error);
  ScaleChannelsOptions scaling;
  if (method == RoundingMethod::Smooth) {
    scaling.strength = options.smoothing;
  } else if (method == RoundingMethod::ActivationAware) {
    // Of several types that with the fewest bits, which loses the most.
    QuantizedType type{8, 0};
    for (QuantizedType other : parseQuantizeScheme(scheme, error)->types)
      if (other.bits && (other.bits < type.bits || !type.group))
        type = other;
    scaling.bits = type.bits;
    scaling.groupSize = type.group;
  } else {
    return;
  }
  passes.addPass(createScaleChannels(scaling));
}

/// Takes away what the user asks for; that it cannot be done is the user's
/// mistake.
absl::Status Compilation::runPruning() {
  if (options.topK)
    lossy.push_back("tokens choose " + std::to_string(options.topK) +
                    " experts");
  if (!options.prune.empty())
    lossy.push_back("pruned " + options.prune);
  if (options.mergeExperts)
    lossy.push_back("experts merged into " +
                    std::to_string(options.mergeExperts));
  if (lossy.empty() && !options.orderExperts && !options.hasProbes)
    return absl::OkStatus();
  InsertProbesOptions probes;
  probes.gram = options.hasGramProbes;
  absl::Status status = runPasses(
      [&](PassManager &passes) {
        if (options.topK)
          passes.addPass(createReduceActiveExperts({options.topK, true}));
        if (!options.prune.empty())
          addPruning(passes, options.prune, !options.packWeights);
        if (options.mergeExperts)
          passes.addPass(createMergeExperts({options.mergeExperts}));
        if (options.orderExperts)
          passes.addPass(createOrderExperts({!options.packWeights}));
        if (options.hasProbes)
          passes.addPass(createInsertProbes(probes));
      },
      absl::StatusCode::kInvalidArgument);
  if (auto probes = module->getOperation()->getAttrOfType<ArrayAttr>(
          deepseek::probesAttrName))
    for (auto name : probes.getAsRange<StringAttr>())
      result.probes.push_back(name.str());
  return status;
}

absl::Status Compilation::runGraphPasses() {
  if (absl::Status status = calibrate(); !status.ok())
    return status;
  report("optimize");
  if (absl::Status status = runPruning(); !status.ok())
    return status;
  absl::Status status;
  // An adapter may change what it cannot change at run time.
  if (!module->getOps<deepseek::AdaptersOp>().empty())
    status = runPasses(
        [](PassManager &passes) { passes.addPass(createAttachAdapters()); },
        absl::StatusCode::kUnimplemented);
  if (!status.ok())
    return status;
  status = runPasses(
      [&](PassManager &passes) {
        if (options.window)
          passes.addPass(createWindowAttention(
              {options.window->tokens, options.window->sink}));
        if (!module->getOps<deepseek::LoRAOp>().empty())
          passes.addPass(createMergeLoRA());
        passes.addPass(createAbsorbLatentAttention());
      },
      absl::StatusCode::kInternal);
  scheme = options.quantize;
  if (status.ok() && parseAutoBits(scheme)) {
    report("choose");
    absl::StatusOr<std::string> chosen =
        chooseScheme(options, statisticsPath, observed, outputs, result.notes);
    if (!chosen.ok())
      return chosen.status();
    scheme = *chosen;
  }
  // Statistics may be of another model, which is the user's mistake.
  if (status.ok() && !scheme.empty())
    status = runPasses(
        [&](PassManager &passes) {
          addScaling(passes, scheme, options);
          passes.addPass(createQuantize({scheme, options.getRounding()}));
        },
        absl::StatusCode::kInvalidArgument);
  if (status.ok())
    status = runPasses(
        [&](PassManager &passes) {
          passes.addPass(createKeepStored());
          if (options.activations)
            passes.addPass(createRoundActivations(
                {getActivationsName(*options.activations)}));
          if (options.cacheElement != "f32")
            passes.addPass(createQuantizeCache({options.cacheElement}));
        },
        absl::StatusCode::kInternal);
  if (status.ok() && !options.gates.empty())
    status = attachGates(*module, options.gates);
  if (status.ok() && options.hasGates()) {
    lossy.push_back("tokens skip layers");
    GateLayersOptions gates;
    gates.count = unsigned(options.skipLayers);
    gates.percent = unsigned(options.skipPercent);
    for (auto [layer, percent] : options.exits) {
      gates.exitBefore.push_back(unsigned(layer));
      gates.exitPercent.push_back(unsigned(percent));
    }
    gates.assume = !options.packWeights;
    status = runPasses(
        [&](PassManager &passes) { passes.addPass(createGateLayers(gates)); },
        absl::StatusCode::kInvalidArgument);
  }
  result.remarks = capture.takeRemarks();
  detachStatistics(*module);
  if (status.ok())
    status = checkWindow();
  if (status.ok())
    status = checkActivations();
  if (status.ok()) {
    countModel(*module, result.report);
    result.report.maxBatch = std::max<int64_t>(options.maxBatch, 1);
    if (options.cacheElement != "f32" && result.report.cacheElement == "f32")
      return absl::UnimplementedError(
          absl::StrCat("a cache of ", options.cacheElement,
                       " is not supported for this model, only f32 is"));
    // Numbers are multiplied in pairs.
    bool hasLatents = false;
    module->walk([&](deepseek::AbsorbedAttentionOp op) {
      auto cache = cast<deepseek::KVCacheType>(op.getCache().getType());
      hasLatents |= cache.getKeyDim() % 2 == 0 &&
                    cache.getValueDim() % 2 == 0 && cache.getGroup() % 2 == 0;
    });
    if (options.attentionElement != "f32" && !hasLatents)
      return absl::UnimplementedError(absl::StrCat(
          "--attention=", options.attentionElement,
          " is for attention over latents of an even number of columns, which "
          "this model does not have"));
  }
  return status;
}

/// Refuses a window that no attention has taken: a flag must not be ignored.
absl::Status Compilation::checkWindow() {
  bool hasWindow = false;
  module->walk([&](Operation *op) {
    hasWindow |= bool(op->getAttrOfType<deepseek::WindowAttr>("window"));
  });
  auto model = *module->getOps<deepseek::ModelOp>().begin();
  if (!options.window || hasWindow ||
      int64_t(model.getContextLength()) <= options.window->tokens)
    return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "a window is not supported for this model: ",
      result.remarks.empty() ? "it has no attention" : result.remarks.front()));
}

/// Finds out what is rounded, and whether it may be.
absl::Status Compilation::checkActivations() {
  module->walk([&](Operation *op) {
    roundsWeights |= isa<deepseek::QuantizeOp>(op);
    if (isa<deepseek::LinearOp, deepseek::LMHeadOp, deepseek::ExpertsOp>(op)) {
      roundsActivations |= op->hasAttr("activation_group");
      hasBF16Inputs |= op->hasAttr("bf16_inputs");
    }
  });
  if (!options.activations)
    return absl::OkStatus();
  if (!roundsActivations && *options.activations == Activations::Int8)
    return absl::InvalidArgumentError(
        "activations in int8 need integer weights, and the model has none; "
        "quantize them");
  if (!hasBF16Inputs && *options.activations == Activations::BF16)
    return absl::InvalidArgumentError(
        "activations in bf16 need weights of bf16, f16 or FP8, and the model "
        "has none");
  return absl::OkStatus();
}

/// Keeps the functions of the optimized model for the report.
void Compilation::listIR() {
  for (auto function : module->getOps<func::FuncOp>()) {
    std::string text;
    llvm::raw_string_ostream os(text);
    function.print(os);
    result.ir.functions.emplace_back(function.getSymName().str(),
                                     std::move(text));
  }
}

absl::Status Compilation::convertToRT() {
  report("lower");
  if (options.listIR)
    listIR();
  sources = getSourceFiles(*module);
  auto passesFor = [&](const ResolvedTarget &target) {
    ConvertDeepSeekToRTOptions convert;
    convert.registers = target.vectorBits >= 512 ? 32 : 8;
    convert.dotProduct = target.dotProduct;
    convert.bf16Products = options.attentionElement == "bf16";
    convert.bf16Pairs = target.bf16Pairs;
    convert.bf16Dots = target.bf16Dots;
    convert.scalesByExponents = target.scalesByExponents;
    convert.followsStreams = target.followsStreams;
    convert.l1Bytes = target.caches.l1Bytes;
    convert.l2Bytes = target.caches.l2Bytes;
    convert.describeWork = true;
    // Compilers that are told the processor unroll by themselves.
    convert.isRead = options.emit == Emit::Cpp && options.cpu.empty();
    return [convert](PassManager &passes) {
      passes.addPass(createPackWeights());
      passes.addPass(createConvertDeepSeekToRT(convert));
    };
  };
  // What no kernel is made for is refused by the conversion.
  constexpr auto code = absl::StatusCode::kUnimplemented;
  for (CodeLevel &level : lesser) {
    lesserModules.emplace_back(module->clone());
    level.module = *lesserModules.back();
    if (absl::Status status = runPassesOf(level, passesFor(level.target), code);
        !status.ok())
      return status;
  }
  return runPasses(passesFor(target), code);
}

absl::Status Compilation::planMemory() {
  auto build = [](PassManager &passes) { passes.addPass(createPlanMemory()); };
  constexpr auto code = absl::StatusCode::kInternal;
  absl::Status status = runPasses(build, code);
  for (CodeLevel &level : lesser)
    if (status.ok())
      status = runPassesOf(level, build, code);
  if (status.ok())
    status = alignLevels();
  if (!status.ok())
    return status;
  setCpuFeatures(*module, target);
  for (CodeLevel &level : lesser)
    setCpuFeatures(level.module, level.target);
  addMemory(*module, result.report);
  addDispatches(*module, result.report);
  return absl::OkStatus();
}

/// Gives all levels one arena, so that what is promised does not depend on the
/// processor. They read one weights file.
absl::Status Compilation::alignLevels() {
  auto best = *module->getOps<rt::ProgramOp>().begin();
  llvm::SmallVector<rt::ProgramOp> programs = {best};
  for (CodeLevel &level : lesser) {
    auto program = *level.module.getOps<rt::ProgramOp>().begin();
    if (program.getLayoutHash() != best.getLayoutHash() ||
        program.getWeightsBytes() != best.getWeightsBytes() ||
        program.getPageBytes() != best.getPageBytes())
      return absl::InvalidArgumentError(
          absl::StrCat("--cpu=", options.cpu, ": weights for '", target.tuneCpu,
                       "' are stored in another way than for '",
                       level.target.tuneCpu, "'; compile for each"));
    programs.push_back(program);
  }
  uint64_t perToken = 0, fixed = 0;
  for (rt::ProgramOp program : programs) {
    perToken = std::max<uint64_t>(perToken, program.getArenaPerToken());
    fixed = std::max<uint64_t>(fixed, program.getArenaFixed());
  }
  for (rt::ProgramOp program : programs) {
    program.setArenaPerToken(perToken);
    program.setArenaFixed(fixed);
  }
  return absl::OkStatus();
}

/// What a manifest says of code that \p passes made for \p target.
ManifestInput Compilation::manifestInput(std::string passes,
                                         const ResolvedTarget &target) {
  return {options,
          result.report,
          modelFolder,
          modelFile,
          std::move(passes),
          cuda,
          target.triple,
          target.cpu,
          target.features,
          /*lesser=*/{},
          result.notes,
          result.remarks,
          lossy,
          result.verification,
          roundsWeights,
          roundsActivations,
          hasBF16Inputs};
}

absl::StatusOr<std::string>
Compilation::makeManifestOf(ModuleOp program, const ResolvedTarget &target,
                            llvm::ArrayRef<CodeLevel> lesser) {
  ManifestInput input = manifestInput(
      pipeline + (isSource() ? ",canonicalize,cse" : ",hadal-lower-to-llvm"),
      target);
  for (const CodeLevel &level : lesser)
    input.lesser.emplace_back(level.target.cpu, level.target.features);
  return makeManifest(program, sources, input);
}

absl::Status Compilation::setManifest() {
  // Each has its own table of dispatches.
  for (auto [i, level] : llvm::enumerate(lesser)) {
    absl::StatusOr<std::string> text = makeManifestOf(
        level.module, level.target, llvm::ArrayRef(lesser).drop_front(i + 1));
    if (!text.ok())
      return text.status();
    (*level.module.getOps<rt::ProgramOp>().begin()).setManifest(*text);
  }
  absl::StatusOr<std::string> text = makeManifestOf(*module, target, lesser);
  if (!text.ok())
    return text.status();
  manifest = *text;
  auto programs = module->getOps<rt::ProgramOp>();
  (*programs.begin()).setManifest(manifest);

  // Lowering drops the weights, and they are packed last.
  recipes = ModuleOp::create(module->getLoc());
  OpBuilder builder(recipes->getBodyRegion());
  builder.clone(**programs.begin());
  for (auto weight :
       llvm::make_early_inc_range(module->getOps<deepseek::WeightOp>()))
    weight->moveBefore(recipes->getBody(), recipes->getBody()->end());
  sources = getSourceFiles(*recipes);
  return absl::OkStatus();
}

static absl::Status writeFile(Outputs &outputs, const std::string &path,
                              StringRef contents) {
  absl::StatusOr<AtomicFile *> file = outputs.add(path);
  if (!file.ok())
    return file.status();
  std::string error;
  if (!(*file)->write(contents.data(), contents.size(), error))
    return absl::InvalidArgumentError(error);
  return absl::OkStatus();
}

absl::Status Compilation::convertToLLVM() {
  auto writeLocations = [&](ModuleOp module, const std::string &path) {
    if (!options.debugInfo)
      return absl::OkStatus();
    std::string text;
    llvm::raw_string_ostream os(text);
    generateLocationsFromIR(os, path, module, OpPrintingFlags());
    nameLocations(module);
    return writeFile(outputs, path, text);
  };
  // Level 0 is the best.
  auto symbolOf = [&](size_t level) {
    if (level > lesser.size())
      return std::string();
    return level == 0 ? symbol : absl::StrCat(symbol, "_lesser", level);
  };
  auto passesFor = [&](size_t level) {
    return [&, level](PassManager &passes) {
      LowerToLLVMOptions lower;
      lower.symbol = symbolOf(level);
      lower.lesser = symbolOf(level + 1);
      buildLowerToLLVMPipeline(passes, lower);
      if (options.debugInfo)
        passes.addPass(LLVM::createDIScopeForLLVMFuncOpPass());
    };
  };
  constexpr auto code = absl::StatusCode::kInternal;
  absl::Status status = writeLocations(*module, getStem() + ".mlir");
  if (status.ok())
    status = runPasses(passesFor(0), code);
  for (auto [i, level] : llvm::enumerate(lesser)) {
    if (status.ok())
      status = writeLocations(
          level.module,
          absl::StrCat(getStem(), ".", level.target.tuneCpu, ".mlir"));
    if (status.ok())
      status = runPassesOf(level, passesFor(i + 1), code);
  }
  if (status.ok() && options.debugInfo) {
    addNamedScopes(*module);
    for (CodeLevel &level : lesser)
      addNamedScopes(level.module);
  }
  return status;
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

absl::StatusOr<std::string> Compilation::emitText(EmitKind kind) {
  report("emit");
  EmitOptions emitOptions;
  emitOptions.kind = kind;
  // Kernels of a model are vectors already.
  emitOptions.vectorize = isGraph;
  llvm::SmallString<0> text;
  llvm::raw_svector_ostream os(text);
  std::vector<CodeLevel> levels = {{*module, target}};
  levels.insert(levels.end(), lesser.begin(), lesser.end());
  absl::Status status = emit(levels, emitOptions, os);
  if (!status.ok())
    return status;
  return std::string(text.str());
}

static absl::Status writeStandardOutput(StringRef text) {
  while (!text.empty()) {
    ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0)
      return absl::InvalidArgumentError(absl::StrCat(
          "cannot write to the standard output: ", std::strerror(errno)));
    text = text.drop_front(size_t(written));
  }
  return absl::OkStatus();
}

absl::Status Compilation::print(Phase phase) {
  std::string text;
  if (phase >= Phase::LLVMIR) {
    EmitKind kind = options.emit == Emit::Assembly ? EmitKind::Assembly
                    : phase == Phase::LLVMIR       ? EmitKind::LLVMIR
                                                   : EmitKind::Object;
    absl::StatusOr<std::string> emitted = emitText(kind);
    if (!emitted.ok())
      return emitted.status();
    text = std::move(*emitted);
  } else {
    llvm::raw_string_ostream os(text);
    module->print(os);
    os << '\n';
    for (CodeLevel &level : lesser)
      if (level.module) {
        os << "// -----\n";
        level.module.print(os);
        os << '\n';
      }
  }
  if (options.output.empty() || options.output == "-")
    return writeStandardOutput(text);
  if (absl::Status status = writeFile(outputs, options.output, text);
      !status.ok())
    return status;
  return commit();
}

absl::StatusOr<std::string> Compilation::findLibrary(const char *name) {
  std::string folder = options.libraryFolder;
  bool isNative = isForThisMachine(target.triple);
  llvm::Triple triple(target.triple);
  // As Debian names the folders of its libraries.
  std::string machine = (triple.getArchName() +
                         (triple.isAndroid() ? "-linux-android" : "-linux-gnu"))
                            .str();
  if (!isNative)
    folder += "/" + machine;
  std::string path = folder + "/" + name;
  if (llvm::sys::fs::exists(path))
    return path;
  if (isNative)
    return absl::NotFoundError(
        absl::StrCat("cannot find the runtime library '", path,
                     "'; name its folder with --library-dir"));
  if (triple.isAndroid())
    return absl::NotFoundError(absl::StrCat(
        "linking for ", target.triple, " needs '", path,
        "', which a build of Hadal makes where there are Debian's packages "
        "clang-22 and lld-22; --emit=obj does without"));
  llvm::replace(machine, '_', '-');
  return absl::NotFoundError(absl::StrCat(
      "linking for ", target.triple, " needs '", path,
      "', which a build of Hadal makes where there is Debian's package g++-",
      machine,
      ", as scripts/setup --cross installs it; --emit=obj does "
      "without"));
}

absl::Status Compilation::writeHeader(const std::string &path) {
  return writeFile(outputs, path,
                   makeHeader(llvm::sys::path::stem(path).str()));
}

/// The header \p stem.h.
std::string Compilation::makeHeader(const std::string &stem) {
  if (isGraph)
    return makeGraphHeader(stem);
  std::string name = toIdentifier(stem);
  std::string macro = StringRef(name).upper();
  const ModelReport &r = result.report;
  auto program = *recipes->getOps<rt::ProgramOp>().begin();
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "/* The model '" << r.name << "', compiled by hadalc " << HADAL_VERSION
     << ".\n * " << (isSource() ? "Compile " + name + ".cpp" : "Link it")
     << " and map its weights file; see hadal_rt/hadal_rt.h. */\n\n"
     << "#ifndef " << macro << "_H\n#define " << macro << "_H\n\n"
     << "#include \"hadal_rt/abi.h\"\n\n"
     << "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n";
  os << "#define " << macro << "_NAME \"" << toIdentifier(program.getSymName())
     << "\"\n"
     << "#define " << macro << "_HASH \"" << program.getLayoutHash()
     << "\" /* of code and weights that fit */\n";
  for (auto [constant, value, comment] :
       std::initializer_list<std::tuple<const char *, int64_t, const char *>>{
           {"VOCAB", program.getVocab(), "columns of the logits"},
           {"HIDDEN", program.getHidden(), "width of the residual stream"},
           {"LAYERS", program.getLayers(), nullptr},
           {"CONTEXT", program.getContextLength(), "tokens of a sequence"},
           {"PAGE_TOKENS", program.getPageTokens(), "tokens in a KV page"},
           {"PAGE_BYTES", program.getPageBytes(), "all layers"},
           {"ARENA_BYTES_PER_TOKEN", program.getArenaPerToken(), nullptr},
           {"ARENA_BYTES_FIXED", program.getArenaFixed(), nullptr},
           {"WINDOW_TOKENS", program.getWindowTokens(),
            "latest tokens that a token sees, 0: all"},
           {"SINK_TOKENS", program.getSinkTokens(), "first ones, too"},
           {"WEIGHTS_BYTES", program.getWeightsBytes(),
            "of section \"weights\""}}) {
    os << "#define " << macro << "_" << constant << " INT64_C(" << value << ")";
    if (comment)
      os << " /* " << comment << " */";
    os << '\n';
  }
  os << "\nextern const hadal_rt_model_t " << symbol << ";\n\n"
     << "#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n\n"
     << "#endif /* " << macro << "_H */\n";
  return text;
}

absl::Status Compilation::writeSource() {
  report("emit");
  EmitCppOptions emitOptions;
  std::string name = llvm::sys::path::filename(options.output).str();
  emitOptions.header = name + ".h";
  emitOptions.symbol = symbol;
  emitOptions.isRead = options.cpu.empty();
  emitOptions.preamble =
      absl::StrCat("The model '", result.report.name, "', compiled by hadalc ",
                   HADAL_VERSION, " for g++ 12, clang 22 or later.");
  std::string text;
  llvm::raw_string_ostream os(text);
  if (failed(prepareForCpp(*module)) ||
      failed(emitCpp(*module, emitOptions, os)))
    return capture.toStatus(absl::StatusCode::kUnimplemented,
                            "the module has no form in C++");
  if (absl::Status status = writeFile(outputs, options.output + ".cpp", text);
      !status.ok())
    return status;
  return writeHeader(options.output + ".h");
}

/// How \p emit is linked for \p triple.
static LinkOptions getLinkOptions(Emit emit, const std::string &triple) {
  LinkOptions options;
  options.triple = triple;
#ifdef HADAL_SANITIZE
  // The runtime of a sanitized build needs that of the sanitizers, which a
  // shared library finds in the program that loads it.
  options.arguments = {"-fsanitize=" HADAL_SANITIZE};
  if (emit == Emit::Library)
    options.arguments.push_back("-Wl,-z,undefs");
#endif
  // Finds its driver when it runs.
  if (emit == Emit::Cuda)
    options.arguments.push_back("-ldl");
  return options;
}

/// What a program links beside its model.
absl::StatusOr<std::vector<std::string>> Compilation::findProductLibraries() {
  std::vector<std::string> libraries;
  std::vector<const char *> names = {"libhadal_run_main.a", "libhadal_text.a"};
  if (options.emit == Emit::Cuda)
    names.push_back("libhadal_rt_cuda.a");
  names.insert(names.end(), {"libhadal_rt.a", "libpcre2-8.a"});
  if (isGraph)
    names = {"libhadal_graph_main.a", "libhadal_rt.a"};
  for (const char *name : names) {
    absl::StatusOr<std::string> library = findLibrary(name);
    if (!library.ok())
      return library.status();
    libraries.push_back(*library);
  }
  return libraries;
}

absl::Status Compilation::writeCuda() {
  report("emit");
  std::string name = llvm::sys::path::filename(options.output).str();
  EmitCudaOptions emitOptions;
  emitOptions.header = name + ".h";
  emitOptions.deviceFile = name + ".cu";
  emitOptions.symbol = symbol;
  emitOptions.preamble = absl::StrCat("The model '", result.report.name,
                                      "', compiled by hadalc ", HADAL_VERSION);
  std::string device, host;
  llvm::raw_string_ostream deviceStream(device), hostStream(host);
  if (failed(prepareForCpp(*module)) ||
      failed(emitCuda(*module, emitOptions, deviceStream, hostStream)))
    return capture.toStatus(absl::StatusCode::kUnimplemented,
                            "the module has no form in CUDA");
  std::string header = makeHeader(name);
  const std::pair<std::string, StringRef> files[] = {
      {".cu", device}, {".cpp", host}, {".h", header}};
  for (const auto &[suffix, text] : files)
    if (absl::Status status = writeFile(outputs, options.output + suffix, text);
        !status.ok())
      return status;
  if (cuda)
    return buildCuda(files);
  if (options.nvcc != "none")
    result.shortfall = "there is no nvcc in PATH or /usr/local/cuda, which "
                       "NVIDIA's package cuda-nvcc has: only the source is "
                       "made, and no program";
  return absl::OkStatus();
}

/// Writes \p text where only this compilation reads it.
static absl::Status writeScratch(const std::string &path, StringRef text) {
  std::error_code code;
  llvm::raw_fd_ostream os(path, code);
  os << text;
  os.close();
  if (!code && !os.has_error())
    return absl::OkStatus();
  code = code ? code : os.error();
  os.clear_error();
  return absl::InvalidArgumentError(absl::StrCat(
      "cannot write a temporary file '", path, "': ", code.message()));
}

/// Makes from \p files, suffixes and texts of the source, the device's code,
/// libraries and a program.
absl::Status Compilation::buildCuda(
    llvm::ArrayRef<std::pair<std::string, StringRef>> files) {
  // As the files include each other, under names that no product depends on.
  std::string name = llvm::sys::path::filename(options.output).str();
  std::map<std::string, std::string> paths;
  for (StringRef suffix : {".cu", ".cpp", ".h", ".fatbin", ".o"}) {
    absl::StatusOr<std::string> path =
        outputs.getScratchPath(name + suffix.str());
    if (!path.ok())
      return path.status();
    paths[suffix.str()] = *path;
  }
  for (const auto &[suffix, text] : files)
    if (absl::Status status = writeScratch(paths[suffix], text); !status.ok())
      return status;

  report("compile kernels");
  if (absl::Status status =
          compileCuda(*cuda, paths[".cu"], options.includeFolder,
                      paths[".fatbin"], outputs);
      !status.ok())
    return status;
  InputFile image;
  std::string error;
  if (!image.open(paths[".fatbin"], error))
    return absl::InvalidArgumentError(error);
  std::string bytes(image.size(), '\0');
  if (!image.read(0, bytes.data(), bytes.size(), error))
    return absl::InvalidArgumentError(error);
  if (absl::Status status =
          writeFile(outputs, options.output + ".fatbin", bytes);
      !status.ok())
    return status;

  report("link");
  LinkOptions linkOptions = getLinkOptions(options.emit, target.triple);
  if (absl::Status status = compileSource(
          paths[".cpp"], paths[".o"],
          {"-std=c++17", "-O2", "-fPIC", "-fno-exceptions", "-fno-rtti", "-I",
           options.includeFolder,
           absl::StrCat("-DHADAL_CUDA_IMAGE=\"", paths[".fatbin"], "\"")},
          linkOptions);
      !status.ok())
    return status;
  absl::StatusOr<std::vector<std::string>> libraries = findProductLibraries();
  if (!libraries.ok())
    return libraries.status();
  std::vector<std::string> members = {paths[".o"]};
  for (const char *runtime : {"libhadal_rt_cuda.a", "libhadal_rt.a"}) {
    absl::StatusOr<std::string> library = findLibrary(runtime);
    if (!library.ok())
      return library.status();
    members.push_back(*library);
  }
  absl::StatusOr<AtomicFile *> file = outputs.add(options.output + ".a");
  if (!file.ok())
    return file.status();
  if (absl::Status status = archive(members, (*file)->temporaryPath());
      !status.ok())
    return status;
  // Who loads a library looks for a model of its name.
  file = outputs.add(options.output + ".so", 0755);
  if (!file.ok())
    return file.status();
  LinkOptions sharedOptions = linkOptions;
  sharedOptions.wholeLibraries = true;
  sharedOptions.arguments.push_back("-Wl,-soname," + name + ".so");
  sharedOptions.arguments.push_back("-Wl,--defsym=" + toIdentifier(name) +
                                    "_model=" + symbol);
  if (absl::Status status =
          linkShared(paths[".o"], llvm::ArrayRef(members).drop_front(),
                     (*file)->temporaryPath(), sharedOptions);
      !status.ok())
    return status;
  file = outputs.add(options.output, 0755);
  if (!file.ok())
    return file.status();
  return linkExecutable(paths[".o"], *libraries, (*file)->temporaryPath(),
                        linkOptions);
}

absl::Status Compilation::link(const std::string &object) {
  report("link");
  LinkOptions linkOptions = getLinkOptions(options.emit, target.triple);
  absl::StatusOr<std::string> runtime = findLibrary("libhadal_rt.a");
  if (!runtime.ok())
    return runtime.status();

  if (options.emit == Emit::Library) {
    // The archive has the runtime in it, so that it is all there is to link.
    absl::StatusOr<AtomicFile *> file = outputs.add(options.output + ".a");
    if (!file.ok())
      return file.status();
    if (absl::Status status =
            archive({object, *runtime}, (*file)->temporaryPath());
        !status.ok())
      return status;
    file = outputs.add(options.output + ".so", 0755);
    if (!file.ok())
      return file.status();
    linkOptions.wholeLibraries = true;
    if (llvm::Triple(target.triple).isAndroid())
      linkOptions.systemFolder = llvm::sys::path::parent_path(*runtime);
    linkOptions.arguments.push_back(
        ("-Wl,-soname," + llvm::sys::path::filename(options.output) + ".so")
            .str());
    if (absl::Status status = linkShared(object, {*runtime},
                                         (*file)->temporaryPath(), linkOptions);
        !status.ok())
      return status;
    return writeHeader(options.output + ".h");
  }

  absl::StatusOr<std::vector<std::string>> libraries = findProductLibraries();
  if (!libraries.ok())
    return libraries.status();
  absl::StatusOr<AtomicFile *> file = outputs.add(options.output, 0755);
  if (!file.ok())
    return file.status();
  if (!options.embedWeights)
    return linkExecutable(object, *libraries, (*file)->temporaryPath(),
                          linkOptions);

  // The weights follow the program, and a trailer says where they begin.
  absl::StatusOr<std::string> program = outputs.getScratchPath("program");
  if (!program.ok())
    return program.status();
  if (absl::Status status =
          linkExecutable(object, *libraries, *program, linkOptions);
      !status.ok())
    return status;
  InputFile linked;
  std::string error;
  std::vector<char> buffer(1 << 20);
  if (!linked.open(*program, error))
    return absl::InvalidArgumentError(error);
  for (uint64_t at = 0; at < linked.size(); at += buffer.size()) {
    uint64_t now = std::min<uint64_t>(buffer.size(), linked.size() - at);
    if (!linked.read(at, buffer.data(), now, error) ||
        !(*file)->write(buffer.data(), now, error))
      return absl::InvalidArgumentError(error);
  }
  if (!(*file)->pad(HADAL_RT_WEIGHTS_ALIGNMENT, error))
    return absl::InvalidArgumentError(error);
  hadal_rt_trailer_t trailer = {};
  trailer.offset = (*file)->size();
  if (absl::Status status = pack(**file); !status.ok())
    return status;
  trailer.bytes = (*file)->size() - trailer.offset;
  std::memcpy(trailer.magic, HADAL_RT_TRAILER_MAGIC, sizeof(trailer.magic));
  if (!(*file)->write(&trailer, sizeof(trailer), error))
    return absl::InvalidArgumentError(error);
  return absl::OkStatus();
}

absl::Status Compilation::pack(AtomicFile &file) {
  PackOptions packOptions;
  auto progress = [&](uint64_t done, uint64_t total) {
    report("pack", done, total);
  };
  packOptions.progress = progress;
  report("pack");
  if (isGraph)
    return packWeights(*recipes, graphHash, graphWeightsBytes, modelFolder,
                       file, packOptions);
  packOptions.sections.emplace_back("manifest", manifest);
  for (const TextFile &made : importedTextFiles)
    packOptions.sections.emplace_back(made.name, made.contents);
  SourceFiles files(modelFolder);
  // What lies beside a model of one file need not be about it.
  // Exporters to ONNX write the tokenizer's files into the folder, too.
  StringRef given = modelFile;
  bool isFolder = given.empty() || given.ends_with(".mlir") ||
                  given.ends_with_insensitive(".onnx");
  for (const char *name : textFiles) {
    if (!isFolder || !llvm::sys::fs::exists(modelFolder + "/" + name))
      continue;
    absl::StatusOr<InputFile *> input = files.open(name);
    if (!input.ok())
      return input.status();
    if ((*input)->size() > maxTextFileBytes)
      return absl::InvalidArgumentError(
          absl::StrCat("'", (*input)->path(), "' has ", (*input)->size(),
                       " bytes, expected at most ", maxTextFileBytes));
    std::string contents((*input)->size(), '\0'), error;
    if (!(*input)->read(0, contents.data(), contents.size(), error))
      return absl::InvalidArgumentError(error);
    packOptions.sections.emplace_back(name, std::move(contents));
  }
  if (isFolder && !generationConfig.empty() &&
      llvm::sys::fs::exists(modelFolder + "/tokenizer.json") &&
      !llvm::sys::fs::exists(modelFolder + "/generation_config.json"))
    packOptions.sections.emplace_back("generation_config.json",
                                      generationConfig);
  auto merged = [&](StringRef router, const deepseek::ExpertMerger &merger) {
    MergedLayer layer{router.str(), {}};
    for (int64_t i = 0; i < merger.getCount(); ++i) {
      layer.experts.emplace_back();
      for (const deepseek::ExpertMerger::Member &member : merger.getMembers(i))
        layer.experts.back().push_back(
            {member.expert, member.massShare, member.similarity});
    }
    result.report.merged.push_back(std::move(layer));
  };
  packOptions.merged = merged;
  packOptions.adapterFolder = options.lora;
  if (!statisticsPath.empty())
    packOptions.moreFiles.emplace_back(statisticsFileName, statisticsPath);
  if (!options.gates.empty())
    packOptions.moreFiles.emplace_back(gatesFileName, options.gates);
  for (const auto &[name, folder] : options.adapters)
    packOptions.moreFiles.emplace_back(getAdapterFile(name),
                                       folder + "/adapter_model.safetensors");
  return packWeights(*recipes, modelFolder, file, packOptions);
}

absl::Status Compilation::writeCode() {
  if (options.emit == Emit::Cpp)
    return writeSource();
  if (options.emit == Emit::Cuda)
    return writeCuda();
  absl::StatusOr<std::string> object = emitText(EmitKind::Object);
  if (!object.ok())
    return object.status();
  if (options.emit == Emit::Object) {
    if (absl::Status status = writeFile(outputs, options.output, *object);
        !status.ok())
      return status;
    return options.header.empty() ? absl::OkStatus()
                                  : writeHeader(options.header);
  }
  absl::StatusOr<std::string> path = outputs.getScratchPath(
      toIdentifier(llvm::sys::path::filename(options.output)) + ".o");
  if (!path.ok())
    return path.status();
  if (absl::Status status = writeScratch(*path, *object); !status.ok())
    return status;
  return link(*path);
}

absl::Status Compilation::writeProducts() {
  if (absl::Status status = writeCode(); !status.ok())
    return status;
  bool hasWeights = !isGraph || graphWeightsBytes;
  if (options.packWeights && !options.embedWeights && hasWeights) {
    absl::StatusOr<AtomicFile *> file = outputs.add(getStem() + ".weights");
    if (!file.ok())
      return file.status();
    if (absl::Status status = pack(**file); !status.ok())
      return status;
  }
  return commit();
}

/// Puts all outputs in their places, with a rule that says what they need.
absl::Status Compilation::commit() {
  if (!options.depfile.empty()) {
    std::vector<std::string> needed;
    for (const std::string &path : inputs.getPaths())
      if (!outputs.isScratch(path) && llvm::sys::fs::exists(path) &&
          !llvm::sys::fs::equivalent(path, options.saveStatistics))
        needed.push_back(path);
    // Only the program that was calibrated has read it.
    if (!options.calibration.empty() && !isStatisticsFile(options.calibration))
      needed.push_back(options.calibration);
    if (absl::Status status = writeFile(
            outputs, options.depfile, makeDepFile(outputs.getPaths(), needed));
        !status.ok())
      return status;
  }
  return outputs.commit();
}

//===----------------------------------------------------------------------===//
// Graphs of tensors
//===----------------------------------------------------------------------===//

func::FuncOp Compilation::findGraph() {
  for (auto function : module->getOps<func::FuncOp>())
    if (function->hasAttr(rt::graphInputsAttrName))
      return function;
  return {};
}

/// Refuses what only a language model has: a flag must not be ignored.
absl::Status Compilation::checkGraphOptions() {
  const CompileOptions defaults;
  const std::pair<bool, const char *> refused[] = {
      {options.embedWeights, "--embed-weights"},
      {options.contextTokens, "--context"},
      {options.maxBatch, "--max-batch"},
      {!options.adapters.empty(), "--lora-runtime"},
      {options.topK, "--top-k"},
      {options.mergeExperts, "--merge-experts"},
      {options.orderExperts, "--order-experts"},
      {!options.prune.empty(), "--prune"},
      {!options.calibration.empty(), "--calibration"},
      {!options.quantize.empty(), "--quantize"},
      {options.window.has_value(), "--window"},
      {options.cacheElement != defaults.cacheElement, "--kv"},
      {options.attentionElement != defaults.attentionElement, "--attention"},
      {options.activations.has_value(), "--activations"},
      {options.debugInfo, "-g"},
      {options.output.empty() && !options.stopAfter, "--report"},
      {!options.stopAfter && options.emit == Emit::Cpp, "--emit=cpp"},
      {!options.stopAfter && options.emit == Emit::Cuda, "--emit=cuda"}};
  for (const auto &[isGiven, flag] : refused)
    if (isGiven)
      return absl::UnimplementedError(
          absl::StrCat(flag, " is for language models: ", result.notes.back()));
  return absl::OkStatus();
}

/// Adds to the graph what its description says of code and weights.
absl::Status Compilation::describeGraph() {
  func::FuncOp graph = findGraph();
  Builder builder(&context);
  auto numberOf = [&](const char *name) {
    return graph->getAttrOfType<IntegerAttr>(name).getInt();
  };
  graphWeightsBytes = numberOf(rt::graphWeightsBytesAttrName);
  graphArenaBytes = numberOf(rt::graphArenaBytesAttrName);
  if (auto name = graph->getAttrOfType<StringAttr>(rt::graphNameAttrName))
    graphName = name.str();
  std::string text;
  llvm::raw_string_ostream os(text);
  module->print(os);
  std::array<uint8_t, 32> digest =
      llvm::SHA256::hash(llvm::arrayRefFromStringRef(text));
  graphHash.assign(digest.begin(), digest.begin() + 16);
  graph->setAttr(rt::graphHashAttrName, builder.getStringAttr(llvm::toHex(
                                            graphHash, /*LowerCase=*/true)));
  graph->setAttr(rt::graphCpuFeaturesAttrName,
                 builder.getI64IntegerAttr(target.cpuFeatures));
  recipes = ModuleOp::create(module->getLoc());
  for (auto weight :
       llvm::make_early_inc_range(module->getOps<deepseek::WeightOp>()))
    weight->moveBefore(recipes->getBody(), recipes->getBody()->end());
  sources = getSourceFiles(*recipes);
  return absl::OkStatus();
}

/// Puts the manifest into a section of the object, as that of a model is.
absl::Status Compilation::addGraphManifest() {
  ManifestInput input =
      manifestInput("hadal-bufferize-graph,rt-plan-graph-memory,"
                    "hadal-lower-graph-to-llvm",
                    target);
  absl::StatusOr<std::string> text =
      makeGraphManifest({graphName, llvm::toHex(graphHash, /*LowerCase=*/true),
                         graphArenaBytes, graphWeightsBytes},
                        sources, input);
  if (!text.ok())
    return text.status();
  manifest = *text;
  OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
  Location loc = module->getLoc();
  auto bytes = LLVM::LLVMArrayType::get(builder.getI8Type(), manifest.size());
  auto section = LLVM::GlobalOp::create(
      builder, loc, bytes, /*isConstant=*/true, LLVM::Linkage::Internal,
      symbol + ".manifest.section", builder.getStringAttr(manifest),
      /*alignment=*/1);
  section.setSection(manifestSectionName);
  auto pointer = LLVM::LLVMPointerType::get(&context);
  auto type = LLVM::LLVMArrayType::get(pointer, 1);
  auto used = LLVM::GlobalOp::create(builder, loc, type, /*isConstant=*/false,
                                     LLVM::Linkage::Appending, "llvm.used",
                                     Attribute());
  used.setSection("llvm.metadata");
  builder.createBlock(&used.getInitializerRegion());
  Value aggregate = LLVM::PoisonOp::create(builder, loc, type);
  Value address = LLVM::AddressOfOp::create(builder, loc, section);
  aggregate =
      LLVM::InsertValueOp::create(builder, loc, aggregate, address, int64_t(0));
  LLVM::ReturnOp::create(builder, loc, aggregate);
  return absl::OkStatus();
}

std::string Compilation::makeGraphHeader(const std::string &stem) {
  std::string name = toIdentifier(stem);
  std::string macro = StringRef(name).upper();
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "/* The graph '" << graphName << "', compiled by hadalc "
     << HADAL_VERSION << ".\n * Link it; see hadal_rt/graph.h. */\n\n"
     << "#ifndef " << macro << "_H\n#define " << macro << "_H\n\n"
     << "#include \"hadal_rt/graph.h\"\n\n"
     << "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
     << "#define " << macro << "_ARENA_BYTES INT64_C(" << graphArenaBytes
     << ")\n"
     << "#define " << macro << "_WEIGHTS_BYTES INT64_C(" << graphWeightsBytes
     << ") /* of section \"weights\" */\n\n"
     << "extern const hadal_rt_graph_t " << symbol << ";\n\n"
     << "#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n\n"
     << "#endif /* " << macro << "_H */\n";
  return text;
}

absl::Status Compilation::compileGraph(std::optional<Phase> stopAfter) {
  if (absl::Status status = checkGraphOptions(); !status.ok())
    return status;
  // NAME_model is a graph's NAME_graph.
  symbol.resize(symbol.size() - strlen("_model"));
  symbol += "_graph";
  report("lower");
  LowerGraphToLLVMOptions lower;
  lower.symbol = symbol;
  const std::pair<Phase, std::function<void(PassManager &)>> steps[] = {
      {Phase::RT,
       [](PassManager &passes) { buildBufferizeGraphPipeline(passes); }},
      {Phase::Planned,
       [](PassManager &passes) { passes.addPass(createPlanGraphMemory()); }},
      {Phase::LLVMDialect, [&](PassManager &passes) {
         buildLowerGraphToLLVMPipeline(passes, lower);
       }}};
  for (const auto &[phase, build] : steps) {
    if (stopAfter && phase > *stopAfter)
      break;
    absl::Status status;
    if (phase == Phase::LLVMDialect)
      status = describeGraph();
    if (status.ok())
      status = runPasses(build, absl::StatusCode::kInternal);
    if (status.ok() && phase == Phase::LLVMDialect)
      status = addGraphManifest();
    if (status.ok())
      status = dumper.getStatus();
    if (!status.ok())
      return status;
  }
  return stopAfter ? print(*stopAfter) : writeProducts();
}

absl::Status Compilation::run() {
  std::optional<Phase> stopAfter = options.stopAfter;
  if (!stopAfter && options.emit == Emit::MLIR)
    stopAfter = Phase::Graph;
  if (!stopAfter && options.emit == Emit::LLVMIR)
    stopAfter = Phase::LLVMIR;
  if (!stopAfter && options.emit == Emit::Assembly)
    stopAfter = Phase::Object;

  using Step = absl::Status (Compilation::*)();
  struct {
    Phase phase;
    Step step;
  } const steps[] = {{Phase::Import, &Compilation::import},
                     {Phase::Graph, &Compilation::runGraphPasses},
                     {Phase::RT, &Compilation::convertToRT},
                     {Phase::Planned, &Compilation::planMemory},
                     {Phase::LLVMDialect, &Compilation::setManifest},
                     {Phase::LLVMDialect, &Compilation::convertToLLVM}};
  if (absl::Status status = checkOptions(); !status.ok())
    return status;
  if (options.verify) {
    report("verify");
    result.verification.emplace();
    if (absl::Status status = verify(options, outputs, *result.verification);
        !status.ok())
      return status;
  }
  for (auto [phase, step] : steps) {
    if (stopAfter && phase > *stopAfter)
      break;
    // Nothing to write: a report needs no code.
    if (!stopAfter && options.output.empty() && phase > Phase::Planned)
      return dumper.getStatus();
    if (isSource() && step == &Compilation::convertToLLVM)
      break;
    absl::Status status = (this->*step)();
    if (status.ok())
      status = dumper.getStatus();
    if (!status.ok())
      return status;
    if (isGraph)
      return compileGraph(stopAfter);
  }
  if (stopAfter)
    return print(*stopAfter);
  if (absl::Status status = writeProducts(); !status.ok())
    return status;
  bool isLossy = !lossy.empty() || roundsWeights || roundsActivations ||
                 hasBF16Inputs || options.window ||
                 options.cacheElement != "f32";
  if (!options.measuresLoss || !isLossy || options.evaluator.empty() ||
      observed.program.empty() || options.emit != Emit::Executable ||
      !isForThisMachine(target.triple))
    return absl::OkStatus();
  report("measure");
  absl::StatusOr<LossReport> loss = measureLoss(options, outputs, observed);
  if (!loss.ok())
    return loss.status();
  result.report.loss = *loss;
  return absl::OkStatus();
}

absl::Status hadal::checkPruneList(const std::string &list) {
  llvm::StringSet<> seen;
  for (StringRef item : llvm::split(list, ',')) {
    auto [kind, amount] = item.split(':');
    if (!llvm::is_contained({"layers", "experts", "channels", "heads"}, kind))
      return absl::InvalidArgumentError(absl::StrCat(
          "expects items like layers:2, experts:25%, channels:25% or heads:1, "
          "but got '",
          item.str(), "'"));
    if (!seen.insert(kind).second)
      return absl::InvalidArgumentError(absl::StrCat(
          "expects one amount of ", kind.str(), ", but got '", list, "'"));
    std::string error;
    if (!parsePruneAmount(kind, amount, error))
      return absl::InvalidArgumentError(error);
  }
  return absl::OkStatus();
}

absl::Status hadal::checkQuantizeScheme(const std::string &scheme) {
  std::string error;
  if (std::optional<double> bits = parseAutoBits(scheme)) {
    if (*bits > 0)
      return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        "expects bits a weight of more than 0 and at most 32, like "
        "auto:4.5bpw, but got '",
        scheme, "'"));
  }
  if (parseQuantizeScheme(scheme, error))
    return absl::OkStatus();
  return absl::InvalidArgumentError(error);
}

absl::Status hadal::checkRounding(const std::string &method) {
  std::string error;
  if (method.empty() || parseRoundingMethod(method, error))
    return absl::OkStatus();
  return absl::InvalidArgumentError(error);
}

absl::Status hadal::compile(const CompileOptions &options,
                            CompileResult *result) {
  CompileResult ignored;
  return Compilation(options, result ? *result : ignored).run();
}

absl::Status hadal::compileWith(const CompileOptions &options,
                                CompileResult &result, Verifier &verifier) {
  return Compilation(options, result, &verifier).run();
}
