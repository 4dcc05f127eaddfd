// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The pass that runs a model in the reference interpreter, prints its logits,
// or compares them with those of an earlier run.

#include "dialects/DeepSeek/Reference/Passes.h"

#include "dialects/DeepSeek/Reference/Reference.h"
#include "lib/Support/FileIO.h"

#include "llvm/Support/Format.h"

#include <cmath>

namespace hadal::deepseek {
#define GEN_PASS_DEF_DEEPSEEKRUN
#include "dialects/DeepSeek/Reference/Passes.h.inc"
} // namespace hadal::deepseek

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

/// Where the first run with `check` leaves its logits.
constexpr StringLiteral logitsAttrName = "deepseek.reference_logits";

/// Writes \p tensor to the file \p path in NumPy's format, version 1.0.
static bool writeNpy(const Tensor &tensor, StringRef path, std::string &error) {
  std::string shape;
  for (int64_t size : tensor.shape)
    shape += std::to_string(size) + ", ";
  std::string header =
      "{'descr': '<f8', 'fortran_order': False, 'shape': (" + shape + "), }";
  // The header ends in a line feed, at a multiple of 64 bytes.
  constexpr size_t prefixBytes = 10;
  header.append(63 - (prefixBytes + header.size()) % 64, ' ');
  header += '\n';
  std::string prefix("\x93NUMPY\x01\x00", 8);
  prefix += char(header.size() & 0xff);
  prefix += char(header.size() >> 8);
  AtomicFile file;
  return file.open(path, error) &&
         file.write(prefix.data(), prefix.size(), error) &&
         file.write(header.data(), header.size(), error) &&
         file.write(tensor.values.data(), tensor.values.size() * sizeof(double),
                    error) &&
         file.commit(error);
}

namespace {
struct DeepSeekRun
    : public hadal::deepseek::impl::DeepSeekRunBase<DeepSeekRun> {
  using DeepSeekRunBase::DeepSeekRunBase;

  void runOnOperation() override {
    if (failed(runModel()))
      signalPassFailure();
  }

private:
  LogicalResult runModel();
  FailureOr<Tensor> computeLogits(ModelOp model);
  LogicalResult compare(const Tensor &logits);
};
} // namespace

LogicalResult DeepSeekRun::runModel() {
  auto models = getOperation().getOps<ModelOp>();
  if (models.empty())
    return emitError(getOperation().getLoc(),
                     "expects a 'deepseek.model' to run");
  FailureOr<Tensor> logits = computeLogits(*models.begin());
  if (failed(logits))
    return failure();
  if (!npy.empty()) {
    std::string error;
    if (!writeNpy(*logits, npy, error))
      return emitError(getOperation().getLoc(), error);
  }
  if (check >= 0)
    return compare(*logits);
  if (!npy.empty())
    return success();
  for (int64_t r = 0; r < logits->rows(); ++r) {
    for (int64_t i = 0; i < logits->columns(); ++i)
      llvm::outs() << (i ? " " : "") << llvm::format("%.9g", logits->row(r)[i]);
    llvm::outs() << '\n';
  }
  llvm::outs().flush();
  return success();
}

/// Logits of every token, in the order of the option.
FailureOr<Tensor> DeepSeekRun::computeLogits(ModelOp model) {
  size_t count = tokens.size();
  if (count == 0)
    return model.emitError("expects tokens to run on");
  if (!sequences.empty() && sequences.size() != count)
    return model.emitError("expects one sequence for each of ")
           << count << " tokens, but got " << sequences.size();
  if (!positions.empty() && positions.size() != count)
    return model.emitError("expects one position for each of ")
           << count << " tokens, but got " << positions.size();
  SmallVector<int32_t> ids(tokens.begin(), tokens.end());
  SmallVector<int32_t> of(sequences.begin(), sequences.end());
  SmallVector<int32_t> at(positions.begin(), positions.end());
  of.resize(count);
  if (at.empty()) {
    std::map<int32_t, int32_t> next;
    for (int32_t sequence : of)
      at.push_back(next[sequence]++);
  }
  for (int32_t position : at)
    if (position >= int64_t(model.getContextLength()))
      return model.emitError("expects positions below the context of ")
             << model.getContextLength() << ", but got " << position;

  Interpreter::Options options;
  options.modelFolder = folder;
  options.adapters.assign(adapters.begin(), adapters.end());
  Interpreter interpreter(getOperation(), options);
  Tensor logits({int64_t(count), int64_t(model.getVocab())});
  size_t step = chunk ? size_t(chunk) : count;
  for (size_t begin = 0; begin < count; begin += step) {
    size_t size = std::min(step, count - begin);
    auto outputs = llvm::to_vector(llvm::seq<int32_t>(0, int32_t(size)));
    FailureOr<Tensor> part =
        interpreter.run(model.getEntry(), ArrayRef(ids).slice(begin, size),
                        ArrayRef(at).slice(begin, size),
                        ArrayRef(of).slice(begin, size), outputs);
    if (failed(part))
      return failure();
    if (part->shape != ArrayRef<int64_t>{int64_t(size), logits.columns()})
      return model.emitError("expects logits for each token from '")
             << model.getEntry() << "'";
    llvm::copy(part->values, logits.row(int64_t(begin)));
  }
  return logits;
}

/// Compares with the logits on the module, or puts them there.
LogicalResult DeepSeekRun::compare(const Tensor &logits) {
  ModuleOp module = getOperation();
  auto type =
      RankedTensorType::get(logits.shape, Float64Type::get(&getContext()));
  auto before = module->getAttrOfType<DenseElementsAttr>(logitsAttrName);
  if (!before) {
    module->setAttr(logitsAttrName,
                    DenseElementsAttr::get(type, ArrayRef(logits.values)));
    return success();
  }
  if (before.getType() != type)
    return emitError(module.getLoc(),
                     "expects logits like those of the first run, ")
           << before.getType() << ", but got " << type;
  auto expected = llvm::to_vector(before.getValues<double>());
  double largest = 0, worst = -1;
  size_t worstAt = 0;
  for (auto [i, pair] : llvm::enumerate(llvm::zip(expected, logits.values))) {
    auto [was, is] = pair;
    largest = std::max(largest, std::abs(was));
    // A NaN on one side alone is the worst difference there is.
    double difference = std::isnan(was) && std::isnan(is) ? 0
                        : std::isnan(was) || std::isnan(is)
                            ? INFINITY
                            : std::abs(was - is);
    if (difference > worst) {
      worst = difference;
      worstAt = i;
    }
  }
  if (worst <= check * largest)
    return success();
  size_t columns = size_t(logits.columns());
  InFlightDiagnostic diag =
      emitError(module.getLoc(), "expects the logits of the first "
                                 "run within ");
  auto number = [](double value) {
    return llvm::formatv("{0:e9}", value).str();
  };
  return diag << number(check * largest) << ", but got "
              << number(logits.values[worstAt]) << " instead of "
              << number(expected[worstAt]) << " for token " << worstAt / columns
              << ", vocabulary entry " << worstAt % columns;
}
