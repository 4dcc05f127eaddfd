// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Imports a model and prints the module it becomes, or writes it in another
// format.

#include "hadal/Export.h"
#include "hadal/Import.h"

#include "lib/Import/ONNX/GraphImporter.h"

#include "mlir/Support/FileUtilities.h"

#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/ToolOutputFile.h"
#include "llvm/Support/WithColor.h"

namespace cl = llvm::cl;

static constexpr const char *overview =
    R"(Imports a model and prints it in the deepseek dialect, or as a GGUF file

  hadal-translate --import-hf DeepSeek-V2-Lite --weights=none -o model.mlir
  hadal-translate --import-gguf DeepSeek-V2-Lite.Q4_K_M.gguf
  hadal-translate --import-onnx llama/model.onnx
  hadal-translate --to-gguf DeepSeek-V2-Lite -o DeepSeek-V2-Lite.gguf

EXIT STATUS: 0 done; 1 the input is at fault; 2 wrong usage; 3 a bug)";

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::OptionCategory category("Options");
  cl::opt<std::string> input(cl::Positional, cl::desc("MODEL"), cl::Required,
                             cl::cat(category));
  cl::opt<bool> importHF("import-hf",
                         cl::desc("MODEL is a Hugging Face folder: config.json "
                                  "and *.safetensors"),
                         cl::cat(category));
  cl::opt<bool> importGGUF("import-gguf",
                           cl::desc("MODEL is a GGUF file, the first if it is "
                                    "split"),
                           cl::cat(category));
  cl::opt<bool> importONNX("import-onnx", cl::desc("MODEL is an ONNX file"),
                           cl::cat(category));
  cl::opt<bool> toGGUF(
      "to-gguf",
      cl::desc("MODEL, in any of these formats or a .mlir file, becomes the "
               "GGUF file -o"),
      cl::cat(category));
  cl::opt<bool> onnxGraph(
      "onnx-graph",
      cl::desc("Print the graph of an ONNX file as it is, in the onnx dialect"),
      cl::cat(category));
  cl::opt<std::string> textFolder(
      "text-files",
      cl::desc("Write the tokenizer's files of a GGUF file to this folder"),
      cl::value_desc("folder"), cl::cat(category));
  cl::opt<std::string> output("o", cl::desc("Output file (default: -)"),
                              cl::value_desc("file"), cl::init("-"),
                              cl::cat(category));
  enum class Weights { Pack, None };
  cl::opt<Weights> weights(
      "weights", cl::desc("What is read of the tensors (default: pack)"),
      cl::values(
          clEnumValN(Weights::Pack, "pack", "their places and types"),
          clEnumValN(Weights::None, "none", "nothing: config.json is enough")),
      cl::init(Weights::Pack), cl::cat(category));
  cl::opt<int64_t> context(
      "context", cl::desc("Tokens a sequence may have (default: the model's)"),
      cl::value_desc("tokens"), cl::init(0), cl::cat(category));
  cl::list<std::string> ggufKeys(
      "gguf-key", cl::desc("A key that the GGUF file lacks, and its value"),
      cl::value_desc("key=value"), cl::CommaSeparated, cl::cat(category));
  cl::opt<bool> verbose("verbose",
                        cl::desc("Print what was ignored or assumed"),
                        cl::cat(category));
  cl::HideUnrelatedOptions(category);
  if (!cl::ParseCommandLineOptions(argc, argv, overview, &llvm::errs()))
    return 2;
  auto usage = [](const llvm::Twine &message) {
    llvm::WithColor::error(llvm::errs(), "hadal-translate") << message << '\n';
    return 2;
  };
  if (importHF + importGGUF + importONNX + toGGUF != 1)
    return usage("expected one of --import-hf, --import-gguf, --import-onnx "
                 "and --to-gguf; see --help");
  if (toGGUF && output == "-")
    return usage("--to-gguf needs -o FILE");
  if (toGGUF && (weights == Weights::None || !textFolder.empty()))
    return usage("--to-gguf goes with neither --weights=none nor --text-files");
  if (!toGGUF && llvm::sys::fs::exists(input) &&
      importHF != llvm::sys::fs::is_directory(input))
    return usage("'" + input + "' is " +
                 (importHF ? "no folder, expected --import-gguf or "
                             "--import-onnx"
                           : "a folder, expected --import-hf"));
  if (onnxGraph && !importONNX)
    return usage("--onnx-graph needs --import-onnx");
  if (context < 0)
    return usage("--context is " + llvm::Twine(context) +
                 ", expected 0 or more");

  std::vector<std::pair<std::string, std::string>> suppliedKeys;
  for (llvm::StringRef item : ggufKeys) {
    auto [key, value] = item.split('=');
    if (key.empty() || value.empty())
      return usage("--gguf-key is '" + item + "', expected KEY=VALUE");
    suppliedKeys.emplace_back(key.str(), value.str());
  }

  mlir::MLIRContext mlirContext(mlir::MLIRContext::Threading::DISABLED);
  std::vector<std::string> notes;
  auto printNotes = [&] {
    if (verbose)
      for (const std::string &note : notes)
        llvm::WithColor::remark(llvm::errs(), "hadal-translate")
            << note << '\n';
  };
  auto report = [](const absl::Status &status) {
    llvm::WithColor::error(llvm::errs(), "hadal-translate")
        << std::string(status.message()) << '\n';
    return absl::IsInternal(status) ? 3 : 1;
  };
  if (toGGUF) {
    hadal::ExportOptions options;
    options.contextTokens = context;
    options.ggufKeys = suppliedKeys;
    options.notes = &notes;
    absl::Status status =
        hadal::exportGGUF(mlirContext, input, output, options);
    printNotes();
    return status.ok() ? 0 : report(status);
  }
  hadal::ImportOptions options;
  options.weights = weights == Weights::Pack;
  options.contextTokens = context;
  options.ggufKeys = suppliedKeys;
  options.notes = &notes;
  std::vector<hadal::TextFile> textFiles;
  options.textFiles = &textFiles;
  absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>> module =
      onnxGraph ? hadal::onnx::importGraph(mlirContext, input, options.weights)
                : hadal::importModel(mlirContext, input, options);
  printNotes();
  if (!module.ok())
    return report(module.status());

  std::string error;
  if (!textFolder.empty())
    for (const hadal::TextFile &textFile : textFiles) {
      std::unique_ptr<llvm::ToolOutputFile> file =
          mlir::openOutputFile(textFolder + "/" + textFile.name, &error);
      if (!file) {
        llvm::WithColor::error(llvm::errs(), "hadal-translate")
            << error << '\n';
        return 1;
      }
      file->os() << textFile.contents;
      file->keep();
    }
  std::unique_ptr<llvm::ToolOutputFile> file =
      mlir::openOutputFile(output, &error);
  if (!file) {
    llvm::WithColor::error(llvm::errs(), "hadal-translate") << error << '\n';
    return 1;
  }
  llvm::raw_fd_ostream &os = file->os();
  (*module)->print(os, mlir::OpPrintingFlags().printNameLocAsPrefix());
  os.flush();
  if (os.has_error()) {
    llvm::WithColor::error(llvm::errs(), "hadal-translate")
        << "cannot write '" << output << "': " << os.error().message() << '\n';
    os.clear_error();
    return 1;
  }
  file->keep();
  return 0;
}
