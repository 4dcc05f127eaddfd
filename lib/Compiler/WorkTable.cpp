// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Walks the host functions of a program and lists their dispatches.

#include "lib/Compiler/WorkTable.h"

#include "dialects/RT/IR/RTOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace hadal;

/// The host functions of \p module: the entry first, then in their order.
static SmallVector<func::FuncOp> getHostFunctions(ModuleOp module) {
  SmallVector<func::FuncOp> functions;
  for (auto program : module.getOps<rt::ProgramOp>())
    if (auto entry = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
            program, program.getEntryAttr()))
      functions.push_back(entry);
  for (auto function : module.getOps<func::FuncOp>())
    if (!function.isExternal() && !llvm::is_contained(functions, function))
      functions.push_back(function);
  return functions;
}

StringRef hadal::getLayerPrefix(StringRef name) {
  StringRef rest = name;
  if (!rest.consume_front("layers."))
    return {};
  size_t digits = rest.find_first_not_of("0123456789");
  if (digits == 0 || digits == StringRef::npos || rest[digits] != '.')
    return {};
  return name.take_front(name.size() - rest.size() + digits + 1);
}

/// The name of the weight that \p buffer is: in a function that is called, the
/// one that \p call gives it.
static StringRef getWeightName(Value buffer, func::CallOp call) {
  if (auto argument = dyn_cast<BlockArgument>(buffer))
    buffer = call ? call.getOperand(argument.getArgNumber()) : Value();
  auto weight = buffer ? buffer.getDefiningOp<rt::WeightOp>() : rt::WeightOp();
  return weight && weight.getName() ? *weight.getName() : StringRef();
}

/// "merge_segments" of "merge_segments_1x16x512_of_320_8192".
static StringRef dropShapes(StringRef kernel) {
  for (size_t i = 0; i + 1 < kernel.size(); ++i)
    if (kernel[i] == '_' && llvm::isDigit(kernel[i + 1]))
      return kernel.take_front(i);
  return kernel;
}

static std::string getName(rt::DispatchOp dispatch, func::CallOp call) {
  if (rt::WorkAttr work = dispatch.getWorkAttr(); work && work.getWeights())
    for (Value argument : dispatch.getArguments())
      if (StringRef name = getWeightName(argument, call); !name.empty())
        return name.drop_front(call ? getLayerPrefix(name).size() : 0).str();
  return dropShapes(dispatch.getKernel()).str();
}

static std::string getName(func::CallOp call) {
  for (Value operand : call.getOperands())
    if (StringRef prefix = getLayerPrefix(getWeightName(operand, {}));
        !prefix.empty())
      return prefix.drop_back().str();
  return call.getCallee().str();
}

/// Whether \p items is a number of rows, which is known and not computed, or 1.
static bool isByRow(Value items) {
  Operation *op = items.getDefiningOp();
  return !op || !isa<arith::ArithDialect>(op->getDialect()) ||
         matchPattern(items, m_One());
}

static DispatchReport makeReport(rt::DispatchOp dispatch) {
  DispatchReport report;
  report.layer = dispatch->getParentOfType<func::FuncOp>().getName().str();
  report.kernel = dispatch.getKernel().str();
  report.isByRow = isByRow(dispatch.getItems());
  rt::WorkAttr work = dispatch.getWorkAttr();
  if (!work)
    return report;
  report.op = work.getOp().str();
  report.outputs = work.getOutputs();
  report.selected = work.getSelected();
  report.isAlternative = work.getAlternative();
  report.weights = work.getWeights();
  report.experts = work.getExperts();
  report.expertsPerRow = work.getExpertsPerRow();
  report.rowBytes = work.getRowBytes();
  report.contextBytes = work.getContextBytes();
  report.windowTokens = work.getWindowTokens();
  report.rowF32Ops = work.getRowF32Ops();
  report.rowInt8Ops = work.getRowInt8Ops();
  report.pairF32Ops = work.getPairF32Ops();
  report.contextF32Ops = work.getContextF32Ops();
  report.pairExps = work.getPairExps();
  report.rowRounded = work.getRowRounded();
  report.leastRows = work.getLeastRows();
  report.belowRows = work.getBelowRows();
  return report;
}

void hadal::addDispatches(ModuleOp module, ModelReport &report) {
  report.dispatches.clear();
  SmallVector<func::FuncOp> functions = getHostFunctions(module);
  if (functions.empty())
    return;
  llvm::StringMap<int64_t> counts;
  counts[functions.front().getName()] = 1;
  functions.front().walk(
      [&](func::CallOp call) { ++counts[call.getCallee()]; });
  for (func::FuncOp function : functions)
    function.walk([&](rt::DispatchOp dispatch) {
      report.dispatches.push_back(makeReport(dispatch));
      report.dispatches.back().count = counts.lookup(function.getName());
    });
}

/// The first call of each function in \p entry: names of layers alike differ in
/// their prefix alone.
static llvm::StringMap<func::CallOp> findFirstCalls(func::FuncOp entry) {
  llvm::StringMap<func::CallOp> calls;
  entry.walk(
      [&](func::CallOp call) { calls.try_emplace(call.getCallee(), call); });
  return calls;
}

void hadal::nameLocations(ModuleOp module) {
  SmallVector<func::FuncOp> functions = getHostFunctions(module);
  if (functions.empty())
    return;
  llvm::StringMap<func::CallOp> firstCalls = findFirstCalls(functions.front());
  auto setName = [](Operation *op, const std::string &name) {
    op->setLoc(
        NameLoc::get(StringAttr::get(op->getContext(), name), op->getLoc()));
  };
  for (func::FuncOp function : functions)
    for (Operation &op : function.front()) {
      if (auto call = dyn_cast<func::CallOp>(op))
        setName(call, getName(call));
      else if (auto dispatch = dyn_cast<rt::DispatchOp>(op))
        setName(dispatch,
                getName(dispatch, firstCalls.lookup(function.getName())));
    }
}

llvm::json::Object hadal::makeWorkTable(ModuleOp module) {
  SmallVector<func::FuncOp> functions = getHostFunctions(module);
  if (functions.empty())
    return {};
  llvm::StringMap<func::CallOp> firstCalls = findFirstCalls(functions.front());
  llvm::json::Object table;
  for (func::FuncOp function : functions) {
    llvm::json::Array rows;
    for (Operation &op : function.front()) {
      if (auto call = dyn_cast<func::CallOp>(op)) {
        rows.push_back(llvm::json::Object{{"call", call.getCallee()},
                                          {"name", getName(call)}});
        continue;
      }
      auto dispatch = dyn_cast<rt::DispatchOp>(op);
      if (!dispatch)
        continue;
      DispatchReport report = makeReport(dispatch);
      llvm::json::Object row{
          {"name", getName(dispatch, firstCalls.lookup(function.getName()))},
          {"op", report.op},
          {"kernel", report.kernel}};
      llvm::json::Array results;
      ArrayRef<int64_t> pairs =
          dispatch.getResultBuffers().value_or(ArrayRef<int64_t>());
      for (; !pairs.empty(); pairs = pairs.drop_front(2)) {
        Value buffer = dispatch.getArguments()[unsigned(pairs[0])];
        int64_t offset;
        SmallVector<int64_t> strides;
        if (succeeded(cast<MemRefType>(buffer.getType())
                          .getStridesAndOffset(strides, offset)))
          results.push_back(llvm::json::Array{pairs[0], pairs[1], strides[0]});
      }
      if (!results.empty())
        row["results"] = std::move(results);
      // The number that a gate counts, for what follows.
      for (auto [i, argument] : llvm::enumerate(dispatch.getArguments()))
        if (llvm::any_of(argument.getUsers(), llvm::IsaPred<rt::CountOp>))
          row["count"] = int64_t(i);
      if (report.outputs)
        row["outputs"] = true;
      if (report.selected)
        row["selected"] = true;
      if (report.isAlternative)
        row["alternative"] = true;
      for (auto [key, number] :
           std::initializer_list<std::pair<const char *, int64_t>>{
               {"weights", report.weights},
               {"experts", report.experts},
               {"experts_per_row", report.expertsPerRow},
               {"row_bytes", report.rowBytes},
               {"context_bytes", report.contextBytes},
               {"window_tokens", report.windowTokens},
               {"row_f32_ops", report.rowF32Ops},
               {"row_int8_ops", report.rowInt8Ops},
               {"pair_f32_ops", report.pairF32Ops},
               {"context_f32_ops", report.contextF32Ops},
               {"least_rows", report.leastRows},
               {"below_rows", report.belowRows}})
        if (number)
          row[key] = number;
      rows.push_back(std::move(row));
    }
    table[function.getName()] = std::move(rows);
  }
  return llvm::json::Object{{"entry", functions.front().getName()},
                            {"functions", std::move(table)}};
}
