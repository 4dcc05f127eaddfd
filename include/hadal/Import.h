// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A model on disk becomes a module of deepseek ops.

#ifndef HADAL_IMPORT_H
#define HADAL_IMPORT_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include "absl/status/statusor.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace hadal {

/// A file for the text library that an importer made from what a model's file
/// says of its tokenizer.
struct TextFile {
  /// As in a Hugging Face folder: "tokenizer.json".
  std::string name;
  std::string contents;
};

/// An adapter that sequences choose by its name.
struct RuntimeAdapter {
  std::string name;
  std::string folder; ///< As PEFT saves it.
};

/// By which recipes name the file of tensors of the adapter \p name.
std::string getAdapterFile(llvm::StringRef name);

struct ImportOptions {
  /// False: no file with tensors is opened, so that the configuration alone is
  /// enough. Shapes and element types then come from it, and the recipes of
  /// the weights do not say where their bytes are. Of GGUF files the headers
  /// are read, and tables that are part of the configuration.
  bool weights = true;
  /// A model of the same architecture, of a few layers and small sizes, in
  /// place of the model; needs that there are no `weights`.
  bool tiny = false;
  /// Folder of a LoRA adapter as PEFT saves it, with adapter_config.json and
  /// adapter_model.safetensors, of which only the headers are read; a tiny
  /// model gets one like it: changes of low rank to weights of the same names.
  /// What it adds is declared by `deepseek.lora`, and the weights that it
  /// changes become f32. Its files are named `lora/..` in recipes. Empty: none.
  std::string lora = "";
  /// Adapters that are kept beside the weights, which stay as they are. What
  /// they add is declared by `deepseek.adapters`.
  std::vector<RuntimeAdapter> adapters = {};
  /// Tokens a sequence may have. 0: as many as the model says.
  int64_t contextTokens = 0;
  /// Keys that a GGUF file lacks, and their values: integers, numbers, `true`
  /// or `false`, or other text. One that the file has, or that nothing reads,
  /// is an error.
  std::vector<std::pair<std::string, std::string>> ggufKeys = {};
  /// Take an ONNX graph that is no model of the family, too: the module then
  /// has a function of tensors, with `rt.inputs`, and no `deepseek.model`.
  bool graphs = false;
  /// Sizes of the dimensions of an ONNX graph that have none, by their names,
  /// or by INPUT.AXIS; needs `graphs`. With any, the graph becomes such a
  /// function, even if it is a model of the family.
  std::vector<std::pair<std::string, int64_t>> dims = {};
  /// If set, gets one line for each thing that the importer knew not to matter
  /// or had to assume: ignored keys, defaults, a layer that is left out.
  std::vector<std::string> *notes = nullptr;
  /// If set, gets what a model of a single file has in place of the tokenizer's
  /// files in a folder; nothing for a folder.
  std::vector<TextFile> *textFiles = nullptr;
};

/// Reads the model at \p path, a Hugging Face folder (config.json beside
/// *.safetensors) or a GGUF file (the first, if it is split), and returns a
/// verified module with one `deepseek.model`. The module's recipes name files
/// relative to the folder, or to that of the file.
///
/// Nothing in the files is trusted: every size is checked before it is used,
/// and no file outside the folder is opened. Loads the dialects it needs into
/// \p context. Each error is one line that names the file, the key or tensor,
/// and both values.
///
/// - kNotFound: there is nothing at \p path.
/// - kInvalidArgument: the model or an option is wrong.
/// - kUnimplemented: Hadal does not support this format, architecture or key.
/// - kInternal: a bug in Hadal.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
importModel(mlir::MLIRContext &context, llvm::StringRef path,
            const ImportOptions &options = {});

} // namespace hadal

#endif // HADAL_IMPORT_H
