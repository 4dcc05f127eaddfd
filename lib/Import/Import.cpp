// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Finds out what is at a path, and hands it to the importer of that format.

#include "hadal/Import.h"

#include "lib/Import/HuggingFace/Config.h"
#include "lib/Import/HuggingFace/ModelBuilder.h"
#include "lib/Import/HuggingFace/SafetensorsStore.h"
#include "lib/Import/JSON.h"
#include "lib/Import/Safetensors/Safetensors.h"

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

  int64_t contextTokens = options.contextTokens;
  if (contextTokens == 0)
    contextTokens = config->maxPositions;
  else if (contextTokens > config->maxPositions)
    notes.push_back(("a context of " + Twine(contextTokens) +
                     " tokens is more than 'max_position_embeddings', " +
                     Twine(config->maxPositions))
                        .str());

  // The name as the file system has it, also for `.` and `models/../x`.
  llvm::SmallString<256> realFolder;
  llvm::sys::fs::real_path(folder, realFolder);
  StringRef name = llvm::sys::path::filename(realFolder);
  if (!options.weights)
    return huggingface::buildModel(context, *config, nullptr, name,
                                   contextTokens, notes);
  absl::StatusOr<safetensors::Checkpoint> checkpoint =
      safetensors::Checkpoint::open(folder);
  if (!checkpoint.ok())
    return checkpoint.status();
  huggingface::SafetensorsStore store(context, *checkpoint);
  return huggingface::buildModel(context, *config, &store, name, contextTokens,
                                 notes);
}

absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
hadal::importModel(mlir::MLIRContext &context, StringRef path,
                   const ImportOptions &options) {
  if (options.contextTokens < 0 || options.contextTokens > maxContextTokens)
    return invalid("context is " + Twine(options.contextTokens) +
                   ", expected 0 to " + Twine(maxContextTokens));
  llvm::sys::fs::file_status status;
  if (std::error_code error = llvm::sys::fs::status(path, status))
    return error == std::errc::no_such_file_or_directory
               ? absl::NotFoundError(quote(path) + " does not exist")
               : invalid("cannot open " + quote(path) + ": " + error.message());
  if (status.type() != llvm::sys::fs::file_type::directory_file) {
    for (StringRef extension : {".gguf", ".onnx"})
      if (path.ends_with_insensitive(extension))
        return unimplemented(quote(path) + ": importing " + extension +
                             " files is not supported yet");
    return invalid(quote(path) + " is not a folder, expected one with "
                                 "config.json and *.safetensors");
  }
  context.loadDialect<deepseek::DeepSeekDialect, mlir::func::FuncDialect,
                      mlir::arith::ArithDialect>();
  std::vector<std::string> notes;
  return importHuggingFace(context, path, options,
                           options.notes ? *options.notes : notes);
}
