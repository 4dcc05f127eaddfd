// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The command line of the compiler: parses, reports, and leaves the work to
// lib/Compiler.

#include "hadal/Compiler.h"
#include "lib/Support/FileIO.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <chrono>
#include <unistd.h>

using namespace hadal;
namespace cl = llvm::cl;

/// Exit codes, the same for all tools.
enum ExitCode { Done = 0, BadInput = 1, BadUsage = 2, Bug = 3 };

static const char helpText[] =
    R"(usage: hadalc MODEL -o OUT [options]        hadalc --manifest OUT

  hadalc models/abyss-tiny -o abyss && ./abyss --prompt "Once upon a time"

MODEL: a Hugging Face folder (config.json, *.safetensors) or a .mlir file.
  --emit=exe|lib|obj|mlir|llvm|asm   what OUT is (exe, beside OUT.weights;
                                     lib: OUT.a, OUT.so, OUT.h, OUT.weights)
  --target=TRIPLE       machine of the product (x86_64-linux-gnu)
  --cpu=NAME            x86-64-v3, x86-64-v4, ... (native: this machine's)
  --context=N           tokens in a sequence (as many as the model says)
  --max-batch=N         sequences that --report plans memory for (1)
  --weights=pack|none   none: open no tensor, write no weights file (pack)
  --embed-weights       the program carries its weights (a file beside it)
  --report[=FILE]       parameters, FLOPs, bytes and memory (no report);
                        without -o nothing else is made; --json: as JSON
  --compile-to=PHASE    print the module after import, graph, rt, planned,
                        llvm-dialect, llvm or obj, to OUT or stdout, and stop
  --dump-ir=DIR         a numbered file of the IR after each pass (none)
  --library-dir=DIR     where libhadal_rt.a is (beside hadalc: ../lib)
  --manifest            print how the product OUT was made, as JSON
  --verbose, --quiet    say what was assumed; show no progress
)";

//===----------------------------------------------------------------------===//
// Flags
//===----------------------------------------------------------------------===//

static cl::OptionCategory category("hadalc");

#define FLAG(type, variable, name, ...)                                        \
  static cl::opt<type> variable(name, cl::cat(category), ##__VA_ARGS__)

static cl::list<std::string> models(cl::Positional, cl::cat(category));
FLAG(std::string, output, "o");
FLAG(std::string, emitName, "emit", cl::init("exe"));
FLAG(std::string, target, "target");
FLAG(std::string, cpu, "cpu", cl::init("native"));
FLAG(std::string, weights, "weights", cl::init("pack"));
FLAG(bool, embedWeights, "embed-weights");
FLAG(std::string, context, "context");
FLAG(std::string, maxBatch, "max-batch");
FLAG(std::string, report, "report", cl::ValueOptional);
FLAG(bool, json, "json");
FLAG(std::string, compileTo, "compile-to");
FLAG(std::string, dumpIR, "dump-ir");
FLAG(std::string, libraryDir, "library-dir");
FLAG(bool, printManifest, "manifest");
FLAG(bool, verbose, "verbose");
FLAG(bool, quiet, "quiet");
// Known, but not there yet: a flag must not be ignored.
FLAG(std::string, quantize, "quantize");
FLAG(std::string, prune, "prune");
FLAG(std::string, window, "window");
FLAG(std::string, lora, "lora");
FLAG(std::string, activations, "activations");
FLAG(bool, verify, "verify");

#undef FLAG

//===----------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------===//

/// Prints "hadalc: error: MESSAGE" on one line.
static int fail(int code, const std::string &message) {
  std::string line = message;
  for (char &c : line)
    if (static_cast<unsigned char>(c) < 0x20)
      c = ' ';
  llvm::errs() << "hadalc: error: " << line << '\n';
  return code;
}

static int failUsage(const std::string &message) {
  return fail(BadUsage, message + "; see hadalc --help");
}

static int fail(const absl::Status &status) {
  return fail(absl::IsInternal(status) ? Bug : BadInput,
              std::string(status.message()));
}

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
    return llvm::formatv(" [{0}{1}] {2:f1} of {3:f1} GB, {4:f2} GB/s, "
                         "{5}:{6,0+2} left",
                         std::string(filled, '#'),
                         std::string(30 - filled, ' '), done / 1e9, all / 1e9,
                         rate / 1e9, left / 60, left % 60)
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

/// Parses \p text, a number of 1 or more, or nothing for 0.
static bool parseCount(llvm::StringRef text, int64_t &count) {
  count = 0;
  return text.empty() || (!text.getAsInteger(10, count) && count > 0);
}

static std::optional<Emit> parseEmit(llvm::StringRef name) {
  return llvm::StringSwitch<std::optional<Emit>>(name)
      .Case("exe", Emit::Executable)
      .Case("lib", Emit::Library)
      .Case("obj", Emit::Object)
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

/// Fills \p options; returns an exit code, after an error, or Done.
static int makeOptions(const char *argv0, CompileOptions &options) {
  if (models.size() != 1)
    return failUsage(
        llvm::formatv("expects one MODEL, but got {0}", models.size()));
  options.model = models.front();
  options.output = output;
  options.target = target;
  options.cpu = cpu;
  options.embedWeights = embedWeights;
  options.dumpFolder = dumpIR;
  options.libraryFolder =
      libraryDir.empty() ? findLibraries(argv0) : std::string(libraryDir);

  if (emitName == "cpp" || emitName == "cuda")
    return fail(BadInput, "--emit=" + emitName + " is not supported yet");
  std::optional<Emit> emit = parseEmit(emitName);
  if (!emit)
    return failUsage("--emit is '" + emitName +
                     "', expected exe, lib, obj, mlir, llvm or asm");
  options.emit = *emit;
  if (compileTo.getNumOccurrences()) {
    options.stopAfter = parsePhase(compileTo);
    if (!options.stopAfter)
      return failUsage("--compile-to is '" + compileTo +
                       "', expected import, graph, rt, planned, llvm-dialect, "
                       "llvm or obj");
  }
  if (weights != "pack" && weights != "none")
    return failUsage("--weights is '" + weights + "', expected pack or none");
  options.packWeights = weights == "pack";
  if (!parseCount(context, options.contextTokens))
    return failUsage("--context is '" + context +
                     "', expected a positive number");
  if (!parseCount(maxBatch, options.maxBatch))
    return failUsage("--max-batch is '" + maxBatch +
                     "', expected a positive number");
  if (embedWeights && (*emit != Emit::Executable || !options.packWeights))
    return failUsage("--embed-weights needs --emit=exe and --weights=pack");
  bool hasText = options.stopAfter || *emit >= Emit::MLIR;
  if (output.empty() && !hasText && !report.getNumOccurrences())
    return failUsage("expects -o OUT");
  if (output == "-" && !hasText)
    return failUsage("-o - needs --emit=mlir, llvm or asm, or --compile-to");

  for (cl::Option *option : std::initializer_list<cl::Option *>{
           &quantize, &prune, &window, &lora, &activations, &verify})
    if (option->getNumOccurrences())
      return fail(BadInput,
                  "--" + option->ArgStr.str() + " is not supported yet");
  return Done;
}

static int writeReport(const ModelReport &model) {
  std::string text = json ? model.toJSON() + "\n" : model.toText();
  if (report.empty() || report == "-") {
    llvm::outs() << text;
    llvm::outs().flush();
    return Done;
  }
  AtomicFile file;
  std::string error;
  if (!file.open(report, error) ||
      !file.write(text.data(), text.size(), error) || !file.commit(error))
    return fail(BadInput, error);
  return Done;
}

static int runManifest() {
  if (models.size() != 1)
    return failUsage(llvm::formatv("--manifest expects one product, but got "
                                   "{0}",
                                   models.size()));
  absl::StatusOr<std::string> manifest = readManifest(models.front());
  if (!manifest.ok())
    return fail(manifest.status());
  llvm::Expected<llvm::json::Value> value = llvm::json::parse(*manifest);
  if (!value) {
    llvm::consumeError(value.takeError());
    return fail(BadInput,
                "the manifest of '" + models.front() + "' is not JSON");
  }
  llvm::outs() << llvm::formatv("{0:2}\n", *value);
  return Done;
}

int main(int argc, char **argv) {
  cl::HideUnrelatedOptions(category);
  // Help that fits a screen, before the parser sees flags of its own.
  for (int i = 1; i < argc; ++i) {
    llvm::StringRef argument = argv[i];
    if (argument == "--")
      break;
    if (argument == "--help" || argument == "-help" || argument == "-h") {
      llvm::outs() << helpText;
      return Done;
    }
    if (argument == "--version") {
      llvm::outs() << "hadalc " HADAL_VERSION ", LLVM " LLVM_VERSION_STRING
                   << '\n';
      return Done;
    }
  }
  std::string errors;
  llvm::raw_string_ostream os(errors);
  if (!cl::ParseCommandLineOptions(argc, argv, "", &os)) {
    // "hadalc: Unknown command line argument '--x'.  Try: '...'", and more.
    llvm::StringRef line = llvm::StringRef(errors).split('\n').first;
    line.consume_front(argv[0]);
    line.consume_front(llvm::sys::path::filename(argv[0]));
    line.consume_front(":");
    line = line.split(".  Try").first.trim();
    std::string message = line.str();
    if (!message.empty())
      message[0] = llvm::toLower(message[0]);
    return failUsage(message.empty() ? "wrong usage" : message);
  }
  if (printManifest)
    return runManifest();

  CompileOptions options;
  if (int code = makeOptions(argv[0], options))
    return code;
  ProgressLine progress(!quiet && ::isatty(STDERR_FILENO));
  options.progress = [&](const Progress &p) { progress.show(p); };
  CompileResult result;
  absl::Status status = compile(options, &result);
  progress.clear();
  if (!status.ok())
    return fail(status);
  if (verbose)
    for (const std::string &note : result.notes)
      llvm::errs() << "hadalc: note: " << note << '\n';
  return report.getNumOccurrences() ? writeReport(result.report) : Done;
}
