// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The command line of the compiler: parses, reports, and leaves the work to
// lib/Compiler.

#include "hadal/Compiler.h"
#include "lib/Support/FileIO.h"
#include "lib/Support/ToolErrors.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <chrono>
#include <unistd.h>

using namespace hadal;

static constexpr ToolErrors errors("hadalc");

static const char helpText[] =
    R"(usage: hadalc MODEL -o OUT [options]    hadalc --manifest OUT: how it was made

  hadalc models/abyss-tiny -o abyss && ./abyss --prompt "Once upon a time"
MODEL: a Hugging Face folder (config.json, *.safetensors), .gguf, .onnx, .mlir.
  --emit=exe|lib|obj|cpp|cuda|mlir|llvm|asm  what OUT is (exe, and OUT.weights;
                        lib: OUT.a, .so, .h; cpp: .cpp, .h; cuda: for GPUs)
  --target=TRIPLE       machine of the product, as aarch64-linux-gnu (this one)
  --cpu=NAME,...        x86-64-v3, cortex-a76, native (this one; else oldest)
  --context=N, --dims=NAME=N,...  tokens; sizes of an ONNX graph (the model's)
  --max-batch=N         sequences that --report plans memory for (1)
  --weights=pack|none   none: open no tensor, write no weights file (pack)
  --top-k=K             experts of a token, fewer than the model's: lossy (all)
  --merge-experts=N     N experts a layer, alike ones become one: lossy (all)
  --order-experts       store those first that the text chooses most (as before)
  --prune=LIST          as layers:2,experts:25%,channels:9%,heads:1; lossy (no)
  --skip-layers=N:P%|FILE[,exit=L:P%]  P% skip N, or leave before L: lossy (no)
  --calibration=FILE    a text, or its statistics, .safetensors, to judge by
  --save-statistics=FILE  keep those of the text (they are not)
  --quantize=SCHEME[,method=rtn|imatrix|awq|smoothquant|gptq]
                        int8, int4-g32, mixed, the best of a size: auto:6.5bpw,
                        or experts=int4-g32,...; rtn: to nearest (as they are)
  --gguf-key=KEY=VALUE,...  keys that a GGUF file lacks (none)
  --lora=DIR            add a LoRA adapter, as PEFT saves it, to the weights
  --lora-runtime=[NAME=]DIR,...  keep some beside them, for sequences to choose
  --activations=int8|bf16|f32  inputs of integer weights, or of others: lossy
  --window=N[,sink=K]   a token sees the last N, the first K: lossy (mostly all)
  --kv=f32|bf16|f16|int8  what the KV cache is rounded to (f32: lossless)
  --attention=f32|bf16  MLA's products with a bf16 or int8 cache (f32: lossless)
  --embed-weights       the program carries its weights (a file beside it)
  --report[=FILE[.html]]  parameters, FLOPs, bytes, memory; --json; needs no -o
  --machine=FILE|bandwidth=37GB/s,int8=2TOPS,f32=485GFLOPS,dispatch=3us
                        --report predicts its speed; FILE: hadal-bench --json
  --nvcc=FILE|none      for --emit=cuda; none: only source (nvcc of PATH)
  --verify              check passes and kernels on a tiny model like it (no)
  --compile-to=PHASE    print the module after import, graph, rt, planned,
                        llvm-dialect, llvm or obj, to OUT or stdout, and stop
  -g, --depfile=FILE, --header=FILE  lines for gdb; a make rule; obj's C header
  --dump-ir=DIR         a numbered file of the IR after each pass (none)
  --library-dir=DIR     where libhadal_rt.a is (beside hadalc: ../lib)
  --verbose, --quiet    say what was assumed; show no progress
)";

//===----------------------------------------------------------------------===//
// Flags
//===----------------------------------------------------------------------===//

namespace {

/// A flag as it was given. LLVM's parser is not used: it takes the flags of all
/// of LLVM, and prints its errors itself.
struct Flag {
  enum Kind { Switch, Value, OptionalValue };

  const char *name;
  Kind kind = Value;
  std::string value = "";
  bool isGiven = false;
};

/// All flags; the values are the defaults.
struct Flags {
  Flag output{"o"};
  Flag emit{"emit", Flag::Value, "exe"};
  Flag target{"target"};
  Flag cpu{"cpu"};
  Flag weights{"weights", Flag::Value, "pack"};
  Flag embedWeights{"embed-weights", Flag::Switch};
  Flag context{"context"};
  Flag maxBatch{"max-batch"};
  Flag dims{"dims"};
  Flag report{"report", Flag::OptionalValue};
  Flag json{"json", Flag::Switch};
  Flag machine{"machine"};
  Flag compileTo{"compile-to"};
  Flag dumpIR{"dump-ir"};
  Flag depfile{"depfile"};
  Flag debugInfo{"g", Flag::Switch};
  Flag header{"header"};
  Flag libraryDir{"library-dir"};
  Flag manifest{"manifest", Flag::Switch};
  Flag verbose{"verbose", Flag::Switch};
  Flag quiet{"quiet", Flag::Switch};
  Flag help{"help", Flag::Switch};
  Flag version{"version", Flag::Switch};
  Flag topK{"top-k"};
  Flag mergeExperts{"merge-experts"};
  Flag orderExperts{"order-experts", Flag::Switch};
  Flag calibration{"calibration"};
  Flag saveStatistics{"save-statistics"};
  Flag quantize{"quantize"};
  Flag activations{"activations"};
  Flag ggufKey{"gguf-key"};
  Flag lora{"lora"};
  Flag loraRuntime{"lora-runtime"};
  Flag window{"window"};
  Flag kv{"kv", Flag::Value, "f32"};
  Flag attention{"attention", Flag::Value, "f32"};
  Flag prune{"prune"};
  Flag skipLayers{"skip-layers"};
  Flag verify{"verify", Flag::Switch};
  Flag nvcc{"nvcc"};

  std::vector<std::string> models;

  /// Reads the arguments of main; returns what is wrong with them, or nothing.
  std::string parse(int argc, char **argv);

private:
  Flag *find(llvm::StringRef name);
};

} // namespace

Flag *Flags::find(llvm::StringRef name) {
  for (Flag *flag : {&output,     &emit,         &target,       &cpu,
                     &weights,    &embedWeights, &context,      &maxBatch,
                     &report,     &json,         &compileTo,    &dumpIR,
                     &libraryDir, &manifest,     &verbose,      &quiet,
                     &help,       &version,      &quantize,     &prune,
                     &window,     &lora,         &activations,  &verify,
                     &topK,       &machine,      &calibration,  &saveStatistics,
                     &kv,         &depfile,      &header,       &debugInfo,
                     &nvcc,       &mergeExperts, &orderExperts, &loraRuntime,
                     &attention,  &skipLayers,   &ggufKey,      &dims})
    if (name == flag->name)
      return flag;
  return name == "h" ? &help : nullptr;
}

std::string Flags::parse(int argc, char **argv) {
  for (int i = 1; i < argc; ++i) {
    llvm::StringRef argument = argv[i];
    if (argument == "--") {
      models.insert(models.end(), argv + i + 1, argv + argc);
      break;
    }
    if (argument == "-" || !argument.consume_front("-")) {
      models.push_back(argument.str());
      continue;
    }
    argument.consume_front("-");
    auto [name, value] = argument.split('=');
    bool hasValue = name.size() < argument.size();
    Flag *flag = find(name);
    if (!flag)
      return llvm::formatv("unknown flag '{0}'", argv[i]);
    if (flag->kind == Flag::Switch && hasValue)
      return llvm::formatv("'{0}' takes no value", argv[i]);
    if (flag->kind == Flag::Value && !hasValue) {
      if (i + 1 == argc)
        return llvm::formatv("'{0}' needs a value", argv[i]);
      value = argv[++i];
    }
    flag->isGiven = true;
    flag->value = value.str();
  }
  return "";
}

//===----------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------===//

namespace {

/// Shows how far a compilation is, on a terminal only.
class ProgressLine {
public:
  explicit ProgressLine(bool isShown) : isShown(isShown) {}
  ~ProgressLine() { clear(); }

  void show(const Progress &progress) {
    if (!isShown)
      return;
    auto now = std::chrono::steady_clock::now();
    bool isNew = phase != progress.phase;
    if (isNew) {
      phase = progress.phase;
      start = now;
    } else if (now - last < std::chrono::milliseconds(100) &&
               progress.doneBytes != progress.totalBytes) {
      return;
    }
    last = now;
    std::string text = phase;
    if (progress.totalBytes)
      text += formatBytes(progress,
                          std::chrono::duration<double>(now - start).count());
    clear();
    llvm::errs() << text;
    length = text.size();
  }

  /// Takes the line away, so that the next one starts at its beginning.
  void clear() {
    if (length)
      llvm::errs() << '\r' << std::string(length, ' ') << '\r';
    length = 0;
  }

private:
  static std::string formatBytes(const Progress &progress, double seconds) {
    double done = double(progress.doneBytes), all = double(progress.totalBytes);
    auto filled = size_t(done / all * 30);
    double rate = seconds > 0 ? done / seconds : 0;
    auto left = rate > 0 ? int64_t((all - done) / rate) : 0;
    double unit = all < 1e9 ? 1e6 : 1e9;
    return llvm::formatv(" [{0}{1}] {2:f1} of {3:f1} {4}, {5:f2} GB/s, "
                         "{6}:{7,0+2} left",
                         std::string(filled, '#'),
                         std::string(30 - filled, ' '), done / unit, all / unit,
                         unit == 1e6 ? "MB" : "GB", rate / 1e9, left / 60,
                         left % 60)
        .str();
  }

  bool isShown;
  std::string phase;
  std::chrono::steady_clock::time_point start, last;
  size_t length = 0;
};

} // namespace

//===----------------------------------------------------------------------===//
// From flags to options
//===----------------------------------------------------------------------===//

/// Reads a number of 1 or more; 0 if \p flag is not given.
static bool parseCount(const Flag &flag, int64_t &count) {
  count = 0;
  return !flag.isGiven ||
         (!llvm::StringRef(flag.value).getAsInteger(10, count) && count > 0);
}

/// Reads NAME=N,...; a name may have = in it.
static bool parseDims(const Flag &flag, CompileOptions &options) {
  for (llvm::StringRef item : llvm::split(flag.value, ',')) {
    auto [name, text] = item.rsplit('=');
    int64_t size = 0;
    if (name.empty() || text.getAsInteger(10, size) || size < 0)
      return false;
    options.dims.emplace_back(name.str(), size);
  }
  return true;
}

static std::optional<Emit> parseEmit(llvm::StringRef name) {
  return llvm::StringSwitch<std::optional<Emit>>(name)
      .Case("exe", Emit::Executable)
      .Case("lib", Emit::Library)
      .Case("obj", Emit::Object)
      .Case("cpp", Emit::Cpp)
      .Case("cuda", Emit::Cuda)
      .Case("mlir", Emit::MLIR)
      .Case("llvm", Emit::LLVMIR)
      .Case("asm", Emit::Assembly)
      .Default(std::nullopt);
}

static std::optional<Phase> parsePhase(llvm::StringRef name) {
  return llvm::StringSwitch<std::optional<Phase>>(name)
      .Case("import", Phase::Import)
      .Cases({"graph", "absorb"}, Phase::Graph)
      .Case("rt", Phase::RT)
      .Case("planned", Phase::Planned)
      .Case("llvm-dialect", Phase::LLVMDialect)
      .Case("llvm", Phase::LLVMIR)
      .Case("obj", Phase::Object)
      .Default(std::nullopt);
}

/// Reads SCHEME[,calibration=FILE][,method=NAME]; returns an exit code, after
/// an error, or Done.
static int parseQuantize(const Flag &flag, CompileOptions &options) {
  llvm::SmallVector<llvm::StringRef> scheme;
  bool hasAlpha = false;
  for (llvm::StringRef item : llvm::split(flag.value, ',')) {
    bool isCalibration = item.consume_front("calibration=");
    bool isMethod = !isCalibration && item.consume_front("method=");
    if (llvm::StringRef alpha = item; alpha.consume_front("alpha=")) {
      hasAlpha = true;
      if (alpha.getAsDouble(options.smoothing) || !(options.smoothing >= 0) ||
          !(options.smoothing <= 1))
        return errors.failUsage(llvm::formatv(
            "--quantize: expects an alpha of 0 to 1, but got '{0}'", alpha));
      continue;
    }
    std::string &value = isMethod ? options.rounding : options.calibration;
    if (!isCalibration && !isMethod)
      scheme.push_back(item);
    else if (item.empty() || (!value.empty() && value != item))
      return errors.failUsage(
          llvm::formatv("--quantize: expects one {0}, but got '{1}' and '{2}'",
                        isMethod ? "method" : "calibration", value, item));
    else
      value = item.str();
  }
  options.quantize = llvm::join(scheme, ",");
  absl::Status status = checkQuantizeScheme(options.quantize);
  if (status.ok())
    status = checkRounding(options.rounding);
  if (!status.ok())
    return errors.failUsage("--quantize " + std::string(status.message()));
  if (hasAlpha && options.rounding != "smoothquant")
    return errors.failUsage("--quantize: alpha is for method=smoothquant");
  if (options.calibration.empty() && !options.rounding.empty() &&
      options.rounding != "rtn")
    return errors.failUsage("--quantize: method=" + options.rounding +
                            " needs calibration=FILE");
  return Done;
}

/// Reads items: N:P% or the name of a file, once, and exit=L:P%.
static bool parseSkipLayers(const Flag &flag, CompileOptions &options) {
  for (llvm::StringRef item : llvm::split(flag.value, ',')) {
    bool isExit = item.consume_front("exit=");
    if (!isExit && (options.skipLayers || !options.gates.empty()))
      return false;
    if (!isExit && item.ends_with(".safetensors")) {
      options.gates = item.str();
      continue;
    }
    int64_t number, share;
    auto [count, percent] = item.split(':');
    if (!percent.consume_back("%") || count.getAsInteger(10, number) ||
        number <= 0 || percent.getAsInteger(10, share) || share < 0 ||
        share > 100)
      return false;
    if (isExit) {
      options.exits.emplace_back(number, share);
    } else {
      options.skipLayers = number;
      options.skipPercent = share;
    }
  }
  return true;
}

/// Reads N[,sink=K]; whether the numbers make sense is for compile() to say.
static bool parseWindow(const Flag &flag,
                        std::optional<CompileOptions::Window> &window) {
  auto [tokens, rest] = llvm::StringRef(flag.value).split(',');
  bool hasSink = tokens.size() < flag.value.size();
  window.emplace();
  return !tokens.getAsInteger(10, window->tokens) &&
         (!hasSink || (rest.consume_front("sink=") &&
                       !rest.getAsInteger(10, window->sink)));
}

/// Folder of the runtime libraries: `../lib/hadal` of an installed hadalc,
/// `../lib` of one in a build tree.
static std::string findLibraries(const char *argv0) {
  std::string self = llvm::sys::fs::getMainExecutable(
      argv0, reinterpret_cast<void *>(&findLibraries));
  std::string bin = llvm::sys::path::parent_path(self).str();
  for (const char *folder : {"/../lib/hadal", "/../lib"})
    if (llvm::sys::fs::exists(bin + folder + "/libhadal_rt.a"))
      return bin + folder;
  return bin + "/../lib";
}

/// Folder of the runtime's headers, beside that of hadalc in both.
static std::string findHeaders(const char *argv0) {
  std::string self = llvm::sys::fs::getMainExecutable(
      argv0, reinterpret_cast<void *>(&findHeaders));
  return (llvm::sys::path::parent_path(self) + "/../include").str();
}

/// Path of hadal-eval beside hadalc; empty if there is none.
static std::string findEvaluator(const char *argv0) {
  llvm::SmallString<256> path(
      llvm::sys::path::parent_path(llvm::sys::fs::getMainExecutable(
          argv0, reinterpret_cast<void *>(&findEvaluator))));
  llvm::sys::path::append(path, "hadal-eval");
  return llvm::sys::fs::can_execute(path) ? path.str().str() : "";
}

/// Reads [NAME=]DIR,..; a folder's own name is the default.
static int parseAdapters(const Flag &flag, CompileOptions &options) {
  for (llvm::StringRef item : llvm::split(flag.value, ',')) {
    auto [name, folder] = item.split('=');
    if (!item.contains('=')) {
      folder = item.rtrim('/');
      name = llvm::sys::path::filename(folder);
    }
    if (folder.empty() || name.empty())
      return errors.failUsage(
          "--lora-runtime is '" + flag.value +
          "', expected folders of adapters, as NAME=DIR,...");
    options.adapters.emplace_back(name.str(), folder.str());
  }
  return Done;
}

/// Reads KEY=VALUE,..; a value may be text with '=' in it.
static bool parseKeys(const Flag &flag, CompileOptions &options) {
  for (llvm::StringRef item : llvm::split(flag.value, ',')) {
    auto [key, value] = item.split('=');
    if (key.empty() || value.empty())
      return false;
    options.ggufKeys.emplace_back(key.str(), value.str());
  }
  return true;
}

/// Fills \p options; returns an exit code, after an error, or Done.
static int makeOptions(const char *argv0, const Flags &flags,
                       CompileOptions &options) {
  if (flags.models.size() != 1)
    return errors.failUsage(
        llvm::formatv("expects one MODEL, but got {0}", flags.models.size()));
  options.model = flags.models.front();
  options.output = flags.output.value;
  options.target = flags.target.value;
  options.cpu = flags.cpu.value;
  options.embedWeights = flags.embedWeights.isGiven;
  options.dumpFolder = flags.dumpIR.value;
  options.libraryFolder =
      flags.libraryDir.isGiven ? flags.libraryDir.value : findLibraries(argv0);
  options.includeFolder = findHeaders(argv0);

  auto refuse = [](const Flag &flag, const char *expected) {
    return errors.failUsage(llvm::formatv("--{0} is '{1}', expected {2}",
                                          flag.name, flag.value, expected));
  };
  std::optional<Emit> emit = parseEmit(flags.emit.value);
  if (!emit)
    return refuse(flags.emit, "exe, lib, obj, cpp, cuda, mlir, llvm or asm");
  options.emit = *emit;
  if (flags.compileTo.isGiven) {
    options.stopAfter = parsePhase(flags.compileTo.value);
    if (!options.stopAfter)
      return refuse(flags.compileTo, "import, graph, rt, planned, "
                                     "llvm-dialect, llvm or obj");
  }
  if (flags.weights.value != "pack" && flags.weights.value != "none")
    return refuse(flags.weights, "pack or none");
  options.packWeights = flags.weights.value == "pack";
  if (!parseCount(flags.context, options.contextTokens))
    return refuse(flags.context, "a number of 1 or more");
  if (!parseCount(flags.maxBatch, options.maxBatch))
    return refuse(flags.maxBatch, "a number of 1 or more");
  if (flags.dims.isGiven && !parseDims(flags.dims, options))
    return refuse(flags.dims, "NAME=N,..., with sizes of 0 or more");
  if (options.embedWeights &&
      (*emit != Emit::Executable || !options.packWeights))
    return errors.failUsage(
        "--embed-weights needs --emit=exe and --weights=pack");
  if (!parseCount(flags.topK, options.topK))
    return refuse(flags.topK, "a number of 1 or more");
  if (!parseCount(flags.mergeExperts, options.mergeExperts))
    return refuse(flags.mergeExperts, "a number of 1 or more");
  options.orderExperts = flags.orderExperts.isGiven;
  options.prune = flags.prune.value;
  if (flags.prune.isGiven)
    if (absl::Status status = checkPruneList(options.prune); !status.ok())
      return errors.fail(BadInput, "--prune " + std::string(status.message()));
  if (flags.skipLayers.isGiven && !parseSkipLayers(flags.skipLayers, options))
    return refuse(flags.skipLayers, "N:P%, two numbers, as 4:25%, or a file of "
                                    "gates, .safetensors; and exit=L:P%");
  if (flags.calibration.isGiven && flags.calibration.value.empty())
    return refuse(flags.calibration, "a text, or its statistics");
  options.calibration = flags.calibration.value;
  options.saveStatistics = flags.saveStatistics.value;
  if (flags.quantize.isGiven)
    if (int code = parseQuantize(flags.quantize, options))
      return code;
  if (flags.saveStatistics.isGiven &&
      (options.saveStatistics.empty() || options.calibration.empty() ||
       llvm::StringRef(options.calibration).ends_with(".safetensors")))
    return errors.failUsage("--save-statistics=FILE keeps those of a text, and "
                            "needs --calibration=TEXT");
  if (flags.window.isGiven && !parseWindow(flags.window, options.window))
    return refuse(flags.window, "N or N,sink=K, two numbers");
  options.cacheElement = flags.kv.value;
  if (!llvm::is_contained({"f32", "bf16", "f16", "int8"},
                          llvm::StringRef(options.cacheElement)))
    return refuse(flags.kv, "f32, bf16, f16 or int8");
  options.attentionElement = flags.attention.value;
  if (!llvm::is_contained({"f32", "bf16"},
                          llvm::StringRef(options.attentionElement)))
    return refuse(flags.attention, "f32 or bf16");
  if (flags.activations.isGiven) {
    options.activations = parseActivations(flags.activations.value);
    if (!options.activations)
      return refuse(flags.activations, "int8, bf16 or f32");
  }
  if (flags.lora.isGiven) {
    if (flags.lora.value.empty())
      return refuse(flags.lora, "the folder of an adapter");
    options.lora = flags.lora.value;
  }
  if (flags.ggufKey.isGiven && !parseKeys(flags.ggufKey, options))
    return refuse(flags.ggufKey, "KEY=VALUE,...");
  if (flags.loraRuntime.isGiven)
    if (int code = parseAdapters(flags.loraRuntime, options))
      return code;
  bool isText = options.stopAfter || *emit >= Emit::MLIR;
  options.verify = flags.verify.isGiven;
  options.evaluator = findEvaluator(argv0);
  options.measuresLoss = flags.report.isGiven;
  if (options.output.empty() && !isText && !flags.report.isGiven &&
      !options.verify)
    return errors.failUsage("expects -o OUT");
  if (options.output == "-" && !isText)
    return errors.failUsage(
        "-o - needs --emit=mlir, llvm or asm, or --compile-to");
  for (auto [flag, value] : {std::pair(&flags.depfile, &options.depfile),
                             std::pair(&flags.header, &options.header)}) {
    if (flag->isGiven && flag->value.empty())
      return refuse(*flag, "a file name");
    *value = flag->value;
  }
  if (flags.nvcc.isGiven && (*emit != Emit::Cuda || flags.nvcc.value.empty()))
    return errors.failUsage("--nvcc=FILE or none needs --emit=cuda");
  options.nvcc = flags.nvcc.value;
  options.debugInfo = flags.debugInfo.isGiven;
  if (options.debugInfo && (isText || options.output.empty()))
    return errors.failUsage("-g needs -o OUT and --emit=exe, lib or obj");
  if (flags.depfile.isGiven &&
      (options.output.empty() || options.output == "-"))
    return errors.failUsage("--depfile needs -o OUT");
  if (flags.header.isGiven && (*emit != Emit::Object || options.stopAfter))
    return errors.failUsage("--header needs --emit=obj");
  return Done;
}

static bool wantsPage(const Flags &flags) {
  return llvm::StringRef(flags.report.value).ends_with(".html");
}

static int writeReport(const Flags &flags, CompileResult &result,
                       const std::optional<Machine> &machine) {
  ModelReport &model = result.report;
  model.machine = machine;
  std::string text = flags.json.isGiven ? model.toJSON() + "\n"
                     : wantsPage(flags) ? model.toHTML(result.ir)
                                        : model.toText();
  const std::string &path = flags.report.value;
  if (path.empty() || path == "-") {
    llvm::outs() << text;
    return Done;
  }
  AtomicFile file;
  std::string error;
  if (!file.open(path, error) || !file.write(text.data(), text.size(), error) ||
      !file.commit(error))
    return errors.fail(BadInput, error);
  return Done;
}

static int runManifest(const Flags &flags) {
  if (flags.models.size() != 1)
    return errors.failUsage(llvm::formatv(
        "--manifest expects one OUT, but got {0}", flags.models.size()));
  const std::string &path = flags.models.front();
  absl::StatusOr<std::string> manifest = readManifest(path);
  if (!manifest.ok())
    return errors.fail(manifest.status());
  llvm::Expected<llvm::json::Value> value = llvm::json::parse(*manifest);
  if (!value) {
    llvm::consumeError(value.takeError());
    return errors.fail(BadInput, "the manifest of '" + path + "' is not JSON");
  }
  llvm::outs() << llvm::formatv("{0:2}\n", *value);
  return Done;
}

static int run(const char *argv0, const Flags &flags) {
  if (flags.manifest.isGiven)
    return runManifest(flags);
  CompileOptions options;
  if (int code = makeOptions(argv0, flags, options))
    return code;
  std::optional<Machine> machine;
  if (flags.machine.isGiven) {
    if (!flags.report.isGiven)
      return errors.failUsage("--machine needs --report");
    absl::StatusOr<Machine> parsed = parseMachine(flags.machine.value);
    if (!parsed.ok()) {
      std::string why = "--machine " + std::string(parsed.status().message());
      return absl::IsNotFound(parsed.status()) ? errors.fail(BadInput, why)
                                               : errors.failUsage(why);
    }
    machine = *parsed;
  }
  ProgressLine progress(!flags.quiet.isGiven && ::isatty(STDERR_FILENO));
  options.progress = [&](const Progress &p) { progress.show(p); };
  options.listIR = wantsPage(flags);
  CompileResult result;
  absl::Status status = compile(options, &result);
  progress.clear();
  if (!status.ok())
    return errors.fail(status);
  // What the manifest of a product says, for those who make none.
  if (options.verify && options.output.empty() && !flags.report.isGiven)
    llvm::outs() << result.verification->toText();
  if (!result.shortfall.empty())
    llvm::errs() << "hadalc: note: " << result.shortfall << '\n';
  if (flags.verbose.isGiven)
    for (const std::string &note : result.notes)
      llvm::errs() << "hadalc: note: " << note << '\n';
  if (flags.verbose.isGiven)
    for (const std::string &remark : result.remarks)
      llvm::errs() << "hadalc: note: " << remark << '\n';
  return flags.report.isGiven ? writeReport(flags, result, machine) : Done;
}

int main(int argc, char **argv) {
  Flags flags;
  std::string error = flags.parse(argc, argv);
  if (!error.empty())
    return errors.failUsage(error);
  int code = Done;
  if (flags.help.isGiven)
    llvm::outs() << helpText;
  else if (flags.version.isGiven)
    llvm::outs() << "hadalc " HADAL_VERSION ", LLVM " LLVM_VERSION_STRING "\n";
  else
    code = run(argv[0], flags);
  return errors.finish(code);
}
