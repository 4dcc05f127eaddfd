// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes a GGUF file: magic, version, counts, keys, entries of tensors, and
// their data, aligned (https://github.com/ggml-org/ggml, docs/gguf.md); then
// reads it again, and compares.

#include "hadal/Export.h"

#include "lib/Export/GGUF/TensorForms.h"
#include "lib/Export/GGUF/TokenizerKeys.h"
#include "lib/Import/JSON.h"
#include "lib/Packer/Recipe.h"
#include "lib/Support/FileIO.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/OperationSupport.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Support/DebugStringHelper.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::gguf;

constexpr uint32_t formatVersion = 3;
/// Of the data of each tensor, where no key says otherwise.
constexpr uint64_t alignmentBytes = 32;
constexpr uint64_t maxTextFileBytes = 256 << 20;
/// Elements of a tensor that are computed at a time.
constexpr int64_t chunkElements = 1 << 20;

namespace {
/// What a model's files say.
struct Source {
  OwningOpRef<ModuleOp> module;
  std::vector<TextFile> textFiles;
  /// Files in recipes are relative to it.
  std::string folder;
};
} // namespace

/// Reads the tokenizer's files that are in \p folder.
static absl::StatusOr<std::vector<TextFile>> readTextFiles(StringRef folder) {
  std::vector<TextFile> textFiles;
  SourceFiles files(folder);
  for (const char *name :
       {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}) {
    if (!llvm::sys::fs::exists(folder + "/" + name))
      continue;
    absl::StatusOr<InputFile *> input = files.open(name);
    if (!input.ok())
      return input.status();
    if ((*input)->size() > maxTextFileBytes)
      return invalid("'" + (*input)->path() + "' has " +
                     Twine((*input)->size()) + " bytes, expected at most " +
                     Twine(maxTextFileBytes));
    std::string contents((*input)->size(), '\0'), error;
    if (!(*input)->read(0, contents.data(), contents.size(), error))
      return invalid(error);
    textFiles.push_back({name, std::move(contents)});
  }
  return textFiles;
}

static absl::StatusOr<OwningOpRef<ModuleOp>> parse(MLIRContext &context,
                                                   StringRef path) {
  context.loadDialect<deepseek::DeepSeekDialect, func::FuncDialect,
                      arith::ArithDialect>();
  InputFile file;
  std::string error, message;
  if (!file.open(path, error))
    return invalid(error);
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    if (message.empty())
      message = debugString(diagnostic.getLocation()) + ": " + diagnostic.str();
    return success();
  });
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(path, &context);
  if (!module)
    return invalid(message.empty() ? path + ": does not parse"
                                   : Twine(message));
  return std::move(module);
}

static absl::StatusOr<Source> read(MLIRContext &context, StringRef path,
                                   const ExportOptions &options) {
  Source source;
  bool isFolder = llvm::sys::fs::is_directory(path);
  bool isModule = !isFolder && path.ends_with(".mlir");
  ImportOptions importOptions;
  importOptions.contextTokens = options.contextTokens;
  importOptions.ggufKeys = options.ggufKeys;
  importOptions.notes = options.notes;
  importOptions.textFiles = &source.textFiles;
  absl::StatusOr<OwningOpRef<ModuleOp>> module =
      isModule ? parse(context, path)
               : importModel(context, path, importOptions);
  if (!module.ok())
    return module.status();
  source.module = std::move(*module);
  source.folder =
      isFolder ? path.str() : llvm::sys::path::parent_path(path).str();
  if (source.folder.empty())
    source.folder = ".";
  auto models = source.module->getOps<deepseek::ModelOp>();
  if (models.empty())
    return invalid(quote(path) + " has no deepseek.model operation");
  if (isModule && options.contextTokens)
    (*models.begin()).setContextLength(options.contextTokens);
  // What lies beside a GGUF file need not be about it.
  if (source.textFiles.empty() && !path.ends_with_insensitive(".gguf")) {
    absl::StatusOr<std::vector<TextFile>> files = readTextFiles(source.folder);
    if (!files.ok())
      return files.status();
    source.textFiles = std::move(*files);
  }
  return std::move(source);
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

/// Appends the elements of \p form to \p file.
static absl::Status writeTensor(const TensorForm &form, SourceFiles &sources,
                                AtomicFile &file) {
  auto annotate = [&](const absl::Status &status) {
    return absl::Status(status.code(), ("tensor '" + form.name +
                                        "': " + std::string(status.message())));
  };
  absl::StatusOr<Recipe> recipe = makeRecipe(form.recipe, sources);
  if (!recipe.ok())
    return annotate(recipe.status());
  RecipeNode &node = *recipe->result;
  int64_t elementBytes = node.getElementBytes();
  int64_t step = chunkElements / elementBytes;
  if (step > node.getGranule())
    step -= step % node.getGranule();
  std::vector<char> buffer(size_t(step * elementBytes));
  std::string error;
  for (int64_t first = 0; first < node.getCount(); first += step) {
    int64_t count = std::min(step, node.getCount() - first);
    absl::Status status = node.evaluate(first, count, buffer.data());
    if (!status.ok())
      return annotate(status);
    if (!file.write(buffer.data(), uint64_t(count * elementBytes), error))
      return invalid(error);
  }
  return absl::OkStatus();
}

static absl::Status writeFile(AtomicFile &file, const KeyWriter &keys,
                              ArrayRef<TensorForm> forms,
                              ArrayRef<float> ropeFactors,
                              SourceFiles &sources) {
  uint64_t tensors = forms.size() + (ropeFactors.empty() ? 0 : 1);
  std::string header = "GGUF";
  appendU32(header, formatVersion);
  appendU64(header, tensors);
  appendU64(header, keys.getCount());
  header += keys.getBytes();
  uint64_t offset = 0;
  auto addEntry = [&](StringRef name, ArrayRef<int64_t> shape,
                      const BlockType &type, int64_t sizeBytes) {
    appendString(header, name);
    appendU32(header, uint32_t(shape.size()));
    for (int64_t size : llvm::reverse(shape))
      appendU64(header, uint64_t(size));
    appendU32(header, type.id);
    appendU64(header, offset);
    offset = llvm::alignTo(offset + uint64_t(sizeBytes), alignmentBytes);
  };
  if (!ropeFactors.empty())
    addEntry("rope_freqs.weight", int64_t(ropeFactors.size()),
             *findBlockType("F32"), int64_t(ropeFactors.size() * 4));
  for (const TensorForm &form : forms)
    addEntry(form.name, form.shape, *form.type, form.getSizeBytes());

  std::string error;
  if (!file.write(header.data(), header.size(), error) ||
      !file.pad(alignmentBytes, error))
    return invalid(error);
  uint64_t dataBegin = file.size();
  if (!ropeFactors.empty()) {
    std::string data;
    for (float factor : ropeFactors)
      appendU32(data, llvm::bit_cast<uint32_t>(factor));
    if (!file.write(data.data(), data.size(), error) ||
        !file.pad(alignmentBytes, error))
      return invalid(error);
  }
  for (const TensorForm &form : forms) {
    if (absl::Status status = writeTensor(form, sources, file); !status.ok())
      return status;
    if (!file.pad(alignmentBytes, error))
      return invalid(error);
  }
  if (file.size() - dataBegin != offset)
    return absl::InternalError("the tensors have " +
                               std::to_string(file.size() - dataBegin) +
                               " bytes, expected " + std::to_string(offset));
  return absl::OkStatus();
}

//===----------------------------------------------------------------------===//
// Comparison
//===----------------------------------------------------------------------===//

/// What is first different in two functions, for a message; empty: nothing.
static std::string findDifference(func::FuncOp written, func::FuncOp readBack) {
  if (OperationEquivalence::isEquivalentTo(
          written, readBack, OperationEquivalence::IgnoreLocations))
    return "";
  std::string name = written.getSymName().str();
  Region::OpIterator a = written.getBody().op_begin();
  Region::OpIterator b = readBack.getBody().op_begin();
  for (; a != written.getBody().op_end() && b != readBack.getBody().op_end();
       ++a, ++b) {
    bool isSame =
        a->getName() == b->getName() &&
        a->getAttrDictionary() == b->getAttrDictionary() &&
        a->getResultTypes() == b->getResultTypes() &&
        a->getPropertiesAsAttribute() == b->getPropertiesAsAttribute();
    if (!isSame)
      return "'" + debugString(*a) + "' of @" + name + " becomes '" +
             debugString(*b) + "'";
  }
  return "@" + name + " becomes another";
}

/// Makes sure that \p readBack is \p written, but for names of files and
/// recipes. What differs is what the format has no place for.
static absl::Status compare(ModuleOp written, ModuleOp readBack) {
  auto fail = [](const Twine &what) {
    return unimplemented(
        "a GGUF file cannot say all of this model: read again, " + what);
  };
  SymbolTable symbols(readBack);
  int64_t count = 0;
  for (Operation &op : written.getOps()) {
    if (auto model = dyn_cast<deepseek::ModelOp>(op)) {
      auto other = *readBack.getOps<deepseek::ModelOp>().begin();
      if (model.getVocab() != other.getVocab() ||
          model.getHidden() != other.getHidden() ||
          model.getLayers() != other.getLayers() ||
          model.getContextLength() != other.getContextLength() ||
          model.getInfo() != other.getInfo())
        return fail("'" + debugString(op) + "' becomes '" +
                    debugString(*other) + "'");
    } else if (auto weight = dyn_cast<deepseek::WeightOp>(op)) {
      ++count;
      auto other = symbols.lookup<deepseek::WeightOp>(weight.getSymName());
      if (!other || other.getType() != weight.getType())
        return fail("weight '" + weight.getSymName() + "' of type " +
                    debugString(weight.getType()) + " becomes " +
                    (other ? debugString(other.getType()) : "nothing"));
    } else if (auto function = dyn_cast<func::FuncOp>(op)) {
      auto other = symbols.lookup<func::FuncOp>(function.getSymName());
      std::string difference =
          other ? findDifference(function, other)
                : "@" + function.getSymName().str() + " becomes nothing";
      if (!difference.empty())
        return fail(difference);
    } else {
      return fail("'" + op.getName().getStringRef() + "' becomes nothing");
    }
  }
  if (count != int64_t(llvm::range_size(readBack.getOps<deepseek::WeightOp>())))
    return fail("there are other weights");
  return absl::OkStatus();
}

absl::Status hadal::exportGGUF(MLIRContext &context, StringRef model,
                               StringRef output, const ExportOptions &options) {
  std::vector<std::string> ignored;
  std::vector<std::string> &notes = options.notes ? *options.notes : ignored;
  absl::StatusOr<Source> source = read(context, model, options);
  if (!source.ok())
    return source.status();
  ModuleOp module = *source->module;

  KeyWriter keys;
  absl::StatusOr<ModelFacts> facts =
      addModelKeys(module, hasWholeExpansion(module), keys);
  if (!facts.ok())
    return facts.status();
  if (absl::Status status = addTokenizerKeys(
          source->textFiles,
          (*module.getOps<deepseek::ModelOp>().begin()).getVocab(), keys,
          notes);
      !status.ok())
    return status;
  OwningOpRef<ModuleOp> recipes = ModuleOp::create(module.getLoc());
  absl::StatusOr<std::vector<TensorForm>> forms =
      makeTensorForms(module, *facts, *recipes);
  if (!forms.ok())
    return forms.status();
  // As llama.cpp's own tools say which version of its blocks these are.
  if (llvm::any_of(*forms, [](const TensorForm &form) {
        return form.type->blockElements > 1;
      }))
    keys.addInteger("general.quantization_version", 2);

  AtomicFile file;
  std::string error;
  if (!file.open(output, error))
    return invalid(error);
  SourceFiles sources(source->folder);
  if (absl::Status status =
          writeFile(file, keys, *forms, facts->ropeFactors, sources);
      !status.ok())
    return status;
  ImportOptions importOptions;
  importOptions.contextTokens = options.contextTokens;
  absl::StatusOr<OwningOpRef<ModuleOp>> readBack =
      importModel(context, file.temporaryPath(), importOptions);
  if (!readBack.ok())
    return unimplemented("a GGUF file cannot say all of this model: " +
                         std::string(readBack.status().message()));
  if (absl::Status status = compare(module, **readBack); !status.ok())
    return status;
  if (!file.commit(error))
    return invalid(error);
  return absl::OkStatus();
}
