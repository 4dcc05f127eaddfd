// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Finds out what is at a path, and hands it to the importer of that format.

#include "hadal/Import.h"

#include "dialects/RT/IR/RTOps.h"
#include "lib/Import/GGUF/GGUF.h"
#include "lib/Import/GGUF/GGUFStore.h"
#include "lib/Import/GGUF/Keys.h"
#include "lib/Import/GGUF/Tokenizer.h"
#include "lib/Import/HuggingFace/Config.h"
#include "lib/Import/HuggingFace/ModelBuilder.h"
#include "lib/Import/HuggingFace/PackedStore.h"
#include "lib/Import/HuggingFace/SafetensorsStore.h"
#include "lib/Import/HuggingFace/Shrink.h"
#include "lib/Import/JSON.h"
#include "lib/Import/LoRA/AdaptedStore.h"
#include "lib/Import/LoRA/RuntimeAdapters.h"
#include "lib/Import/ONNX/ConvertONNXToLinalg.h"
#include "lib/Import/ONNX/GraphImporter.h"
#include "lib/Import/ONNX/ONNXFile.h"
#include "lib/Import/ONNX/Raise.h"
#include "lib/Import/Safetensors/Safetensors.h"
#include "lib/Support/FileIO.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace hadal;
using llvm::StringRef;
using llvm::Twine;

/// The largest published config.json, with a map of labels, has 100 KiB.
constexpr uint64_t maxConfigBytes = 16 << 20;
constexpr int64_t maxContextTokens = (int64_t(1) << 31) - 1;

/// The tokens that a sequence may have, of a model that was made for
/// \p maxTokens, as \p key says.
static int64_t chooseContext(const ImportOptions &options, int64_t maxTokens,
                             StringRef key, std::vector<std::string> &notes) {
  if (options.contextTokens == 0)
    return maxTokens;
  if (options.contextTokens > maxTokens)
    notes.push_back(("a context of " + Twine(options.contextTokens) +
                     " tokens is more than '" + key + "', " + Twine(maxTokens))
                        .str());
  return options.contextTokens;
}

namespace {
/// Tensors of whatever type and shape is asked for, which are of no file.
class UnreadStore : public huggingface::TensorStore {
public:
  explicit UnreadStore(StringRef folder) : folder(folder.str()) {}

  absl::StatusOr<huggingface::StoredTensor>
  take(StringRef name, llvm::ArrayRef<int64_t> shape) override {
    return huggingface::StoredTensor();
  }
  absl::StatusOr<huggingface::StoredTensor>
  takeStack(StringRef name, llvm::ArrayRef<int64_t> shape) override {
    return huggingface::StoredTensor();
  }
  absl::Status checkUnused(const huggingface::Config &config,
                           std::vector<std::string> &notes) override {
    return absl::OkStatus();
  }
  std::string sourcePath() const override { return folder; }

private:
  std::string folder;
};
} // namespace

/// Builds the model of \p store, with an adapter if the options have one.
static absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
buildAdapted(mlir::MLIRContext &context, const huggingface::Config &config,
             huggingface::TensorStore &store, StringRef name,
             int64_t contextTokens, const ImportOptions &options,
             std::vector<std::string> &notes) {
  if (options.lora.empty())
    return huggingface::buildModel(context, config, &store, name, contextTokens,
                                   notes);
  absl::StatusOr<lora::Adapter> adapter =
      lora::Adapter::open(options.lora, notes);
  if (!adapter.ok())
    return adapter.status();
  lora::AdaptedStore adapted(context, store, *adapter, config.tiedEmbeddings);
  return huggingface::buildModel(context, config, &adapted, name, contextTokens,
                                 notes);
}

/// Builds a tiny model like that of \p config, with an adapter like that of the
/// options.
static absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
buildTiny(mlir::MLIRContext &context, const huggingface::Config &config,
          const ImportOptions &options, std::vector<std::string> &notes) {
  if (options.lora.empty())
    return huggingface::buildTiny(context, config, nullptr, notes);
  absl::StatusOr<lora::Adapter> adapter =
      lora::Adapter::open(options.lora, notes);
  if (!adapter.ok())
    return adapter.status();
  lora::TinyStore store(context, *adapter);
  return huggingface::buildTiny(context, config, &store, notes);
}

static absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
importHuggingFace(mlir::MLIRContext &context, StringRef folder,
                  const ImportOptions &options,
                  std::vector<std::string> &notes) {
  llvm::SmallString<256> configPath(folder);
  llvm::sys::path::append(configPath, "config.json");
  if (!llvm::sys::fs::exists(configPath))
    return invalid(folder + ": has no config.json");
  absl::StatusOr<std::string> path = resolveInFolder(folder, "config.json");
  if (!path.ok())
    return path.status();
  absl::StatusOr<llvm::json::Object> json = readObject(*path, maxConfigBytes);
  if (!json.ok())
    return json.status();
  absl::StatusOr<huggingface::Config> config =
      huggingface::readConfig(*json, *path, notes);
  if (!config.ok())
    return config.status();

  if (options.tiny)
    return buildTiny(context, *config, options, notes);
  int64_t contextTokens = chooseContext(options, config->maxPositions,
                                        "max_position_embeddings", notes);
  // The name as the file system has it, also for `.` and `models/../x`.
  llvm::SmallString<256> realFolder;
  if (llvm::sys::fs::real_path(folder, realFolder))
    realFolder = folder;
  StringRef name = llvm::sys::path::filename(realFolder);
  if (!options.weights && config->packed)
    notes.push_back("quantization_config: which matrices are quantized is not "
                    "known without weights, all are taken for unquantized");
  if (!options.weights) {
    UnreadStore store(folder);
    return buildAdapted(context, *config, store, name, contextTokens, options,
                        notes);
  }
  absl::StatusOr<safetensors::Checkpoint> checkpoint =
      safetensors::Checkpoint::open(folder);
  if (!checkpoint.ok())
    return checkpoint.status();
  huggingface::SafetensorsStore store(context, *checkpoint);
  if (config->packed) {
    huggingface::PackedStore packed(context, store, *checkpoint,
                                    *config->packed);
    return buildAdapted(context, *config, packed, name, contextTokens, options,
                        notes);
  }
  return buildAdapted(context, *config, store, name, contextTokens, options,
                      notes);
}

static absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
importGGUF(mlir::MLIRContext &context, StringRef path,
           const ImportOptions &options, std::vector<std::string> &notes) {
  absl::StatusOr<gguf::Model> model = gguf::Model::open(path, options.weights);
  if (!model.ok())
    return model.status();
  if (absl::Status status = model->supply(options.ggufKeys); !status.ok())
    return status;
  absl::StatusOr<huggingface::Config> config = gguf::readKeys(*model, notes);
  if (!config.ok())
    return config.status();
  if (options.tiny)
    return buildTiny(context, *config, options, notes);
  int64_t contextTokens =
      chooseContext(options, config->maxPositions, "context_length", notes);
  absl::StatusOr<std::vector<TextFile>> textFiles =
      gguf::makeTextFiles(*model, *config, notes);
  if (!textFiles.ok())
    return textFiles.status();
  if (options.textFiles)
    *options.textFiles = std::move(*textFiles);
  // Of a split model, less the number of the file.
  StringRef name = llvm::sys::path::stem(path);
  if (size_t of = name.rfind("-00001-of-"); of != StringRef::npos)
    name = name.take_front(of);
  gguf::GGUFStore store(context, *model, *config, options.weights);
  return buildAdapted(context, *config, store, name, contextTokens, options,
                      notes);
}

static absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
importONNX(mlir::MLIRContext &context, StringRef path,
           const ImportOptions &options, std::vector<std::string> &notes) {
  // Tables of positions are read in any case, as part of the configuration.
  absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>> graph =
      onnx::importGraph(context, path, /*hasPlaces=*/true);
  if (!graph.ok())
    return graph.status();
  onnx::RaiseOptions raise;
  raise.folder = llvm::sys::path::parent_path(path).str();
  if (raise.folder.empty())
    raise.folder = ".";
  raise.path = path.str();
  // A file is called model.onnx, whatever the model is.
  llvm::SmallString<256> realFolder;
  raise.name = llvm::sys::path::stem(path).str();
  if (raise.name == "model" &&
      !llvm::sys::fs::real_path(raise.folder, realFolder))
    raise.name = llvm::sys::path::filename(realFolder).str();
  raise.contextTokens = options.contextTokens;
  raise.tiny = options.tiny;
  if (!options.graphs)
    return onnx::raiseToDeepSeek(**graph, raise, notes);
  mlir::OwningOpRef<mlir::ModuleOp> plain((*graph)->clone());
  std::string reason = "sizes of dimensions are given";
  absl::Status refusal;
  if (options.dims.empty()) {
    absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>> raised =
        onnx::raiseToDeepSeek(**graph, raise, notes);
    if (raised.ok() || absl::IsInternal(raised.status()))
      return raised;
    refusal = raised.status();
    reason = std::string(refusal.message());
  } else if (absl::Status status =
                 onnx::setDimensions(*plain, path, options.dims);
             !status.ok()) {
    return status;
  }
  absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>> converted =
      onnx::convertToLinalg(*plain, {raise.folder, raise.path});
  if (!converted.ok()) {
    if (refusal.ok() || !onnx::isDecoder(*plain))
      return converted.status();
    std::string sizes;
    for (const std::string &name : onnx::unknownDimensions(*plain))
      sizes += (sizes.empty() ? "" : ",") + name + "=N";
    if (sizes.empty())
      return refusal;
    return absl::Status(refusal.code(),
                        std::string(refusal.message()) + "; --dims=" + sizes +
                            " compiles it as a graph of tensors");
  }
  notes.push_back("compiled as a graph of tensors, not as a language model: " +
                  reason);
  (**converted)
      .lookupSymbol(onnx::graphName)
      ->setAttr(rt::graphNameAttrName,
                mlir::StringAttr::get(&context, raise.name));
  return converted;
}

/// True for files that start as GGUF files do, whatever their name.
static bool hasGGUFMagic(StringRef path) {
  InputFile file;
  std::string error;
  char magic[4];
  return file.open(path, error) && file.size() >= sizeof(magic) &&
         file.read(0, magic, sizeof(magic), error) &&
         StringRef(magic, sizeof(magic)) == "GGUF";
}

absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
hadal::importModel(mlir::MLIRContext &context, StringRef path,
                   const ImportOptions &options) {
  if (options.contextTokens < 0 || options.contextTokens > maxContextTokens)
    return invalid("context is " + Twine(options.contextTokens) +
                   ", expected 0 to " + Twine(maxContextTokens));
  if (options.tiny && options.weights)
    return absl::InternalError("a tiny model has no weights");
  llvm::sys::fs::file_status status;
  if (std::error_code error = llvm::sys::fs::status(path, status))
    return error == std::errc::no_such_file_or_directory
               ? absl::NotFoundError(quote(path) + " does not exist")
               : invalid("cannot open " + quote(path) + ": " + error.message());
  bool isFolder = status.type() == llvm::sys::fs::file_type::directory_file;
  bool isGGUF = path.ends_with_insensitive(".gguf");
  if (isGGUF && isFolder && !llvm::sys::fs::exists(path + "/config.json"))
    return invalid(quote(path) + " is a folder, expected a GGUF file");
  bool isONNX = path.ends_with_insensitive(".onnx") || onnx::isTextFile(path);
  if (!options.dims.empty() && (isFolder || !isONNX))
    return invalid(quote(path) + " is no ONNX file, which alone has dimensions "
                                 "that need sizes");
  if (isONNX && isFolder && !llvm::sys::fs::exists(path + "/config.json"))
    return invalid(quote(path) + " is a folder, expected an ONNX file");
  if (!isFolder && !isONNX && !isGGUF && !hasGGUFMagic(path))
    return invalid(quote(path) +
                   " is neither a GGUF or .onnx file nor a folder with "
                   "config.json and *.safetensors");
  if ((isFolder || isONNX) && !options.ggufKeys.empty())
    return invalid(quote(path) + " is no GGUF file, but key " +
                   quote(options.ggufKeys.front().first) + " was given");
  if (!isFolder && isONNX && !options.lora.empty())
    return unimplemented(quote(path) + ": an ONNX file cannot be changed by "
                                       "an adapter, a checkpoint can");
  context.loadDialect<deepseek::DeepSeekDialect, mlir::func::FuncDialect,
                      mlir::arith::ArithDialect>();
  std::vector<std::string> ignored;
  std::vector<std::string> &notes = options.notes ? *options.notes : ignored;
  absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>> module =
      isFolder ? importHuggingFace(context, path, options, notes)
      : isONNX ? importONNX(context, path, options, notes)
               : importGGUF(context, path, options, notes);
  if (module.ok() && !options.adapters.empty())
    if (absl::Status status = lora::declareAdapters(**module, options.adapters,
                                                    options.tiny, notes);
        !status.ok())
      return status;
  return module;
}
