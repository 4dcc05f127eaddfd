// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Records what each op of a model computes, and compares two records.

#include "lib/Compiler/OpValues.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/Reference/Reference.h"
#include "hadal/Import.h"
#include "lib/Compiler/Diagnostics.h"
#include "lib/Compiler/Verify.h"
#include "lib/Compiler/WorkTable.h"
#include "lib/Import/Safetensors/Safetensors.h"
#include "lib/Support/FileIO.h"

#include "absl/strings/str_cat.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <cmath>

using namespace mlir;
using namespace hadal;

/// Programs write files of a few numbers a result.
static constexpr uint64_t maxHeaderBytes = 100'000'000;

/// Ops that have one weight of their own, whose name is theirs in all builds.
static constexpr StringLiteral namedOps[] = {"linear", "head_linear", "lm_head",
                                             "rms_norm", "layer_norm"};

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

StringRef hadal::findWeight(Value value, ArrayRef<func::CallOp> calls) {
  while (auto argument = dyn_cast<BlockArgument>(value)) {
    if (calls.empty())
      return {};
    value = func::CallOp(calls.back()).getOperand(argument.getArgNumber());
    calls = calls.drop_back();
  }
  auto use = value.getDefiningOp<deepseek::UseWeightOp>();
  return use ? use.getName() : StringRef();
}

/// The layer whose function \p calls lead to, "layers.3"; or nothing.
static std::string findLayer(ArrayRef<func::CallOp> calls) {
  if (!calls.empty())
    for (Value operand : func::CallOp(calls.back()).getOperands())
      if (StringRef prefix =
              getLayerPrefix(findWeight(operand, calls.drop_back()));
          !prefix.empty())
        return prefix.drop_back().str();
  return "";
}

std::string hadal::nameOp(Operation *op, ArrayRef<func::CallOp> calls) {
  for (Value operand : op->getOperands())
    if (StringRef name = findWeight(operand, calls); !name.empty())
      return name.str();
  std::string layer = findLayer(calls);
  return layer + (layer.empty() ? "" : ".") +
         op->getName().stripDialect().str();
}

/// Gives all of \p values their keys.
static void setKeys(std::vector<OpValues> &values) {
  llvm::StringMap<int64_t> counts;
  for (OpValues &value : values) {
    if (llvm::is_contained(namedOps, value.op)) {
      value.key = value.name;
      continue;
    }
    value.key = value.layer + " " + value.op;
    int64_t count = counts[value.key]++;
    value.key += "#" + std::to_string(count);
  }
}

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

/// Reads the file that --values writes.
static absl::StatusOr<std::vector<OpValues>>
readValues(const std::string &path) {
  absl::StatusOr<safetensors::Checkpoint> file =
      safetensors::Checkpoint::openFile(path);
  if (!file.ok())
    return file.status();
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer || (*buffer)->getBufferSize() < 8)
    return absl::InternalError("the program left no values");
  StringRef bytes = (*buffer)->getBuffer();
  uint64_t length = llvm::support::endian::read64le(bytes.data());
  if (length > maxHeaderBytes || length > bytes.size() - 8)
    return absl::InternalError("the program left broken values");
  llvm::Expected<llvm::json::Value> header =
      llvm::json::parse(bytes.substr(8, length));
  const llvm::json::Object *object = header ? header->getAsObject() : nullptr;
  const llvm::json::Object *metadata =
      object ? object->getObject("__metadata__") : nullptr;
  if (!header)
    llvm::consumeError(header.takeError());
  std::vector<OpValues> values;
  // Their names begin with numbers, of six digits.
  for (StringRef name : file->names()) {
    const safetensors::Tensor &tensor = *file->find(name);
    std::optional<StringRef> of =
        metadata ? metadata->getString(name) : std::nullopt;
    if (!of || tensor.dtype != safetensors::DType::F32 ||
        tensor.shape.size() != 2)
      return absl::InternalError("the program left other values");
    OpValues &value = values.emplace_back();
    value.name = name.split(' ').second.str();
    auto [op, rest] = of->split(' ');
    value.op = op.str();
    value.kernel = rest.split(' ').first.str();
    value.layer = rest.split(' ').second.str();
    value.rows = tensor.shape[0];
    value.columns = tensor.shape[1];
    value.values.resize(size_t(value.rows * value.columns));
    const char *from = bytes.data() + tensor.offsetBytes;
    for (double &to : value.values) {
      float number;
      std::memcpy(&number, from, sizeof(number));
      from += sizeof(number);
      to = double(number);
    }
  }
  return values;
}

static absl::StatusOr<std::vector<OpValues>>
runProgram(const std::string &path, const std::vector<int32_t> &tokens,
           Outputs &outputs) {
  std::string values, logits, errors, printed, message, list;
  for (auto [of, name] : {std::pair(&values, "values.safetensors"),
                          {&logits, "logits.npy"},
                          {&errors, "errors"},
                          {&printed, "printed"}}) {
    absl::StatusOr<std::string> scratch = outputs.getScratchPath(name);
    if (!scratch.ok())
      return scratch.status();
    *of = *scratch;
  }
  for (int32_t token : tokens)
    list += (list.empty() ? "" : ",") + std::to_string(token);
  // Where the path has no folder, it is no name to search for.
  std::string program =
      llvm::sys::path::has_parent_path(path) ? path : "./" + path;
  int code = outputs.run(program,
                         {program, "--tokens", list, "-n", "0", "--logits",
                          logits, "--values", values},
                         errors, message, printed);
  if (code != 0)
    return absl::InvalidArgumentError(absl::StrCat(
        "'", path, "' cannot be run: ", findLastError(code, errors, message)));
  return readValues(values);
}

//===----------------------------------------------------------------------===//
// The interpreter
//===----------------------------------------------------------------------===//

static absl::StatusOr<std::vector<OpValues>>
interpret(const std::string &path, const std::vector<int32_t> &tokens) {
  MLIRContext context;
  context.loadDialect<deepseek::DeepSeekDialect, func::FuncDialect,
                      arith::ArithDialect>();
  DiagnosticCapture capture(context);
  bool isModule = StringRef(path).ends_with(".mlir");
  absl::StatusOr<OwningOpRef<ModuleOp>> module =
      isModule ? parseModel(context, capture, path)
               : importModel(context, path);
  if (!module.ok())
    return module.status();
  deepseek::ModelOp model = *(*module)->getOps<deepseek::ModelOp>().begin();
  for (int32_t token : tokens)
    if (token >= int64_t(model.getVocab()))
      return absl::InvalidArgumentError(
          absl::StrCat("token ", token, " is not one of the ",
                       int64_t(model.getVocab()), " of '", path, "'"));
  if (int64_t(tokens.size()) > int64_t(model.getContextLength()))
    return absl::InvalidArgumentError(absl::StrCat(
        "there are ", tokens.size(), " tokens, but the context of '", path,
        "' has ", int64_t(model.getContextLength())));

  std::vector<OpValues> values;
  deepseek::Interpreter::Options options;
  options.modelFolder = path;
  if (!llvm::sys::fs::is_directory(path))
    options.modelFolder = llvm::sys::path::parent_path(path).str();
  if (options.modelFolder.empty())
    options.modelFolder = ".";
  options.observe = [&](const deepseek::Interpreter::Step &step) {
    if (!isa<deepseek::DeepSeekDialect>(step.op->getDialect()) ||
        isa<deepseek::UseWeightOp, deepseek::SplitOp>(step.op))
      return success();
    for (Value result : step.op->getResults()) {
      auto type = dyn_cast<RankedTensorType>(result.getType());
      const deepseek::Tensor *tensor = step.get(result);
      if (!type || !type.getElementType().isF32() || !tensor ||
          tensor->rank() != 2)
        continue;
      OpValues &value = values.emplace_back();
      value.name = nameOp(step.op, step.calls);
      value.op = step.op->getName().stripDialect().str();
      value.layer = findLayer(step.calls);
      value.rows = tensor->rows();
      value.columns = tensor->columns();
      value.values = tensor->values;
    }
    return success();
  };
  deepseek::Interpreter interpreter(**module, options);
  auto positions =
      llvm::to_vector(llvm::seq<int32_t>(0, int32_t(tokens.size())));
  SmallVector<int32_t> sequences(tokens.size(), 0);
  if (failed(interpreter.run(model.getEntry(), tokens, positions, sequences,
                             positions)))
    return capture.toStatus(absl::StatusCode::kInvalidArgument,
                            "the interpreter failed without saying why");
  return values;
}

absl::StatusOr<std::vector<OpValues>>
hadal::recordValues(const std::string &path, const std::vector<int32_t> &tokens,
                    Outputs &outputs) {
  InputFile file;
  std::string error;
  char magic[4];
  bool isProgram = !llvm::sys::fs::is_directory(path) &&
                   file.open(path, error) && file.size() >= sizeof(magic) &&
                   file.read(0, magic, sizeof(magic), error) &&
                   StringRef(magic, sizeof(magic)) == "\x7f"
                                                      "ELF";
  absl::StatusOr<std::vector<OpValues>> values =
      isProgram ? runProgram(path, tokens, outputs) : interpret(path, tokens);
  if (values.ok())
    setKeys(*values);
  return values;
}

//===----------------------------------------------------------------------===//
// Differences
//===----------------------------------------------------------------------===//

static OpDifference compare(const OpValues &first, const OpValues &second) {
  OpDifference difference{&first, &second};
  double largest = 0, worst = -1;
  for (double value : first.values)
    largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < first.values.size(); ++i) {
    double a = first.values[i], b = second.values[i];
    bool isSame = a == b || (std::isnan(a) && std::isnan(b));
    double error = isSame ? 0 : std::fabs(a - b);
    if (std::isnan(error))
      error = INFINITY;
    if (!(error > worst))
      continue;
    worst = error;
    difference.row = int64_t(i) / first.columns;
    difference.column = int64_t(i) % first.columns;
  }
  worst = std::max(worst, 0.0);
  difference.error =
      largest > 0 && std::isfinite(largest) ? worst / largest : worst;
  return difference;
}

std::vector<OpDifference>
hadal::compareValues(const std::vector<OpValues> &first,
                     const std::vector<OpValues> &second) {
  llvm::StringMap<const OpValues *> others;
  for (const OpValues &value : second)
    others.try_emplace(value.key, &value);
  std::vector<OpDifference> differences;
  for (const OpValues &value : first) {
    const OpValues *other = others.lookup(value.key);
    if (other && other->rows == value.rows && other->columns == value.columns)
      differences.push_back(compare(value, *other));
  }
  return differences;
}
