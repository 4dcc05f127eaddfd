// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Cuts a model into a test of each of its ops.

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/Reference/Reference.h"
#include "lib/Compiler/OpValues.h"
#include "lib/Compiler/Passes.h"
#include "lib/Compiler/RecordSource.h"
#include "lib/Support/FileIO.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"

namespace hadal {
#define GEN_PASS_DEF_SPLIT
#include "lib/Compiler/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

/// Whether \p type is rows of activations.
static bool isRows(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getRank() == 2 && tensor.isDynamicDim(0) &&
         tensor.getElementType().isF32();
}

/// What \p value is in the functions that \p calls lead to: an argument of the
/// entry, or a result.
static Value traceOut(Value value, ArrayRef<func::CallOp> calls) {
  while (!calls.empty()) {
    auto argument = dyn_cast<BlockArgument>(value);
    if (!argument)
      break;
    value = func::CallOp(calls.back()).getOperand(argument.getArgNumber());
    calls = calls.drop_back();
  }
  return value;
}

namespace {

/// A model of one op.
class OpTest {
public:
  OpTest(ModelOp model, SymbolTable &symbols, const Interpreter::Step &step,
         int64_t number)
      : model(model), symbols(symbols), step(step),
        file(nameOp(step.op, step.calls)) {
    StringRef op = step.op->getName().stripDialect();
    if (!StringRef(file).ends_with(op))
      file += ("." + op).str();
    file = llvm::formatv("{0,0+3}-{1}", number, file);
  }

  /// Finds what the op reads. False: there is no test of it.
  bool collect();

  /// Writes both files to \p output; sources are read in \p folder.
  LogicalResult write(StringRef folder, StringRef output);

private:
  bool collect(Operation *op);
  LogicalResult build(StringRef folder);
  Value recordRows(OpBuilder &builder, Value tokens, Value rows);

  ModelOp model;
  SymbolTable &symbols;
  const Interpreter::Step &step;
  std::string file;
  /// What is cut out, in order; the last is the op itself.
  SmallVector<Operation *> ops;
  Value result;
  int64_t vocab = 0;
  std::string bytes;
  OwningOpRef<ModuleOp> test;
};

} // namespace

bool OpTest::collect() {
  if (isa<SplitOp, GatherRowsOp, UseWeightOp, ProbeOp>(step.op) ||
      !isa<DeepSeekDialect>(step.op->getDialect()))
    return false;
  for (Value value : step.op->getResults())
    if (isRows(value.getType()) && !result)
      result = value;
  if (!result || !collect(step.op))
    return false;
  vocab = cast<RankedTensorType>(result.getType()).getDimSize(1);
  return true;
}

bool OpTest::collect(Operation *op) {
  auto entry = symbols.lookup<func::FuncOp>(model.getEntry());
  for (Value operand : op->getOperands()) {
    Type type = operand.getType();
    if (isRows(type) || !findWeight(operand, step.calls).empty())
      continue;
    Value outer = traceOut(operand, step.calls);
    auto argument = dyn_cast<BlockArgument>(outer);
    bool isOfEntry =
        argument && argument.getOwner()->getParentOp() == entry.getOperation();
    // Positions and sequences are the test's, ids and outputs are others.
    if (isa<KVCacheType>(type) ||
        (isOfEntry &&
         (argument.getArgNumber() == 1 || argument.getArgNumber() == 2)) ||
        outer.getDefiningOp<arith::ConstantIndexOp>())
      continue;
    // What was chosen is chosen again.
    auto tensor = dyn_cast<RankedTensorType>(type);
    Operation *maker = operand.getDefiningOp();
    if (!tensor || !tensor.getElementType().isInteger(32) || !maker ||
        maker->getBlock() != op->getBlock() ||
        (!llvm::is_contained(ops, maker) && !collect(maker)))
      return false;
  }
  ops.push_back(op);
  return true;
}

/// The rows that \p rows were, looked up by token.
Value OpTest::recordRows(OpBuilder &builder, Value tokens, Value rows) {
  const Tensor &recorded = *step.get(rows);
  int64_t columns = recorded.columns();
  size_t begin = alignTensor(bytes);
  for (int64_t token = 0; token < vocab; ++token)
    for (int64_t i = 0; i < columns; ++i) {
      auto number = float(recorded.row(token % recorded.rows())[i]);
      bytes.append(reinterpret_cast<const char *>(&number), sizeof(number));
    }
  OpBuilder symbol = OpBuilder::atBlockEnd(test->getBody());
  Location loc = step.op->getLoc();
  auto type = RankedTensorType::get({vocab, columns}, builder.getF32Type());
  std::string name = "input." + std::to_string(begin);
  auto weight = WeightOp::create(symbol, loc, name, type);
  symbol.setInsertionPointToStart(&weight.getRecipe().emplaceBlock());
  auto source = SourceOp::create(symbol, loc, type, name,
                                 builder.getStrArrayAttr({file + ".bin"}),
                                 builder.getDenseI64ArrayAttr(int64_t(begin)));
  YieldOp::create(symbol, loc, source);
  Value table = UseWeightOp::create(builder, loc, type, name);
  return EmbedOp::create(builder, loc, rows.getType(), tokens, table);
}

LogicalResult OpTest::build(StringRef folder) {
  Location loc = step.op->getLoc();
  test = ModuleOp::create(loc);
  OpBuilder builder = OpBuilder::atBlockEnd(test->getBody());
  auto copy = cast<ModelOp>(builder.clone(*model));
  copy.setVocab(vocab);
  auto entry = symbols.lookup<func::FuncOp>(model.getEntry());
  auto function = func::FuncOp::create(
      builder, loc, model.getEntry(),
      builder.getFunctionType(entry.getArgumentTypes(), result.getType()));
  Block *block = function.addEntryBlock();
  OpBuilder body = OpBuilder::atBlockEnd(block);

  IRMapping mapping;
  llvm::StringSet<> weights;
  for (Operation *op : ops) {
    for (Value operand : op->getOperands()) {
      if (mapping.contains(operand))
        continue;
      Value outer = traceOut(operand, step.calls);
      Value value;
      if (StringRef name = findWeight(operand, step.calls); !name.empty()) {
        auto weight = symbols.lookup<WeightOp>(name);
        // With that whose records it shares.
        for (StringRef some : {name, weight.getBeside().value_or(name)})
          if (weights.insert(some).second)
            builder.clone(*symbols.lookup<WeightOp>(some));
        value = UseWeightOp::create(body, loc, operand.getType(), name);
      } else if (isRows(operand.getType())) {
        value = recordRows(body, block->getArgument(0), operand);
      } else if (auto argument = dyn_cast<BlockArgument>(outer)) {
        value = block->getArgument(argument.getArgNumber());
      } else {
        value = body.clone(*outer.getDefiningOp())->getResult(0);
      }
      mapping.map(operand, value);
    }
    body.clone(*op, mapping);
  }
  Value rows =
      GatherRowsOp::create(body, loc, result.getType(), mapping.lookup(result),
                           block->getArgument(3));
  func::ReturnOp::create(body, loc, rows);

  absl::Status status;
  test->walk([&](SourceOp source) {
    if (status.ok() && !source.getName().starts_with("input."))
      status = recordSource(source, folder.str(), file + ".bin", bytes);
  });
  if (!status.ok())
    return step.op->emitError(std::string(status.message()));
  return mlir::verify(*test);
}

LogicalResult OpTest::write(StringRef folder, StringRef output) {
  if (failed(build(folder)))
    return failure();
  int64_t count = std::min(vocab, step.get(result)->rows());
  std::string tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens += (i ? "," : "") + std::to_string(i);
  std::string text =
      llvm::formatv("// {0} of {1}, with what it read recorded. Try\n"
                    "//   hadal-opt {2}.mlir -o /dev/null "
                    "-deepseek-run=\"tokens={3} folder=.\"\n",
                    step.op->getName(), model.getSymName(), file, tokens);
  llvm::raw_string_ostream(text) << *test;
  for (auto [suffix, contents] :
       {std::pair(".mlir", &text), std::pair(".bin", &bytes)}) {
    AtomicFile to;
    std::string error;
    if (!to.open((output + "/" + file + suffix).str(), error) ||
        !to.write(contents->data(), contents->size(), error) ||
        !to.commit(error))
      return emitError(model.getLoc(), error);
  }
  return success();
}

namespace {

struct Split : public hadal::impl::SplitBase<Split> {
  using SplitBase::SplitBase;

  void runOnOperation() override {
    if (failed(split()))
      signalPassFailure();
    markAllAnalysesPreserved();
  }

private:
  LogicalResult split();
};

} // namespace

LogicalResult Split::split() {
  auto models = getOperation().getOps<ModelOp>();
  if (models.empty())
    return emitError(getOperation().getLoc(),
                     "expects a 'deepseek.model' to split");
  ModelOp model = *models.begin();
  if (tokens.empty())
    return model.emitError("expects tokens to run on");
  if (output.empty())
    return model.emitError("expects an output folder");
  if (int64_t(tokens.size()) > int64_t(model.getContextLength()))
    return model.emitError("expects tokens within the context of ")
           << model.getContextLength() << ", but got " << tokens.size();
  if (std::error_code code = llvm::sys::fs::create_directories(output))
    return emitError(model.getLoc(), "cannot create '")
           << output << "': " << code.message();

  SymbolTable symbols(getOperation());
  llvm::DenseSet<Operation *> seen;
  int64_t count = 0;
  Interpreter::Options options;
  options.modelFolder = folder;
  options.observe = [&](const Interpreter::Step &step) -> LogicalResult {
    if (!seen.insert(step.op).second)
      return success();
    OpTest test(model, symbols, step, count);
    if (!test.collect())
      return success();
    ++count;
    return test.write(folder, output);
  };
  SmallVector<int32_t> ids(tokens.begin(), tokens.end());
  auto positions = llvm::to_vector(llvm::seq<int32_t>(0, int32_t(ids.size())));
  SmallVector<int32_t> sequences(ids.size(), 0);
  return success(succeeded(
      Interpreter(getOperation(), options)
          .run(model.getEntry(), ids, positions, sequences, positions)));
}
