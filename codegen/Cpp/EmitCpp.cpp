// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The file: tables of weights, kernels, host functions and the model.

#include "codegen/Cpp/EmitCpp.h"

#include "codegen/Cpp/BodyEmitter.h"
#include "dialects/RT/IR/RTOps.h"
#include "hadal_rt/abi.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"

#include <functional>
#include <map>

using namespace mlir;
using namespace hadal;

namespace {

/// A weight that a function is called with: a column of its table.
struct WeightColumn {
  unsigned argument;
  std::string name;
  Type type;
};

/// A host function that is called once a layer.
struct LayerFunction {
  func::FuncOp function;
  SmallVector<func::CallOp> calls;
  SmallVector<WeightColumn> weights; ///< Empty: there is no table.
  std::string name;
};

/// Names of the whole file, and what is known of it before it is written.
class Program {
public:
  LogicalResult read(ModuleOp module);

  std::string kernelName(StringRef symbol) const {
    return kernelNames.lookup(symbol);
  }
  const LayerFunction &function(StringRef symbol) const {
    return functions.find(symbol)->second;
  }
  /// The constant that is \p offset, of a weight; "": only tables have it.
  std::string weightName(int64_t offset) const {
    auto found = weights.find(offset);
    return found == weights.end() ? "" : found->second.first;
  }
  void emitWeights(CppWriter &writer) const;
  /// What a kernel's argument is, by what it is dispatched with.
  std::string argumentName(rt::KernelOp kernel, unsigned index) const;
  /// The op of the model that \p kernel is part of, or "".
  StringRef purpose(rt::KernelOp kernel) const;
  /// What a host function's value is called in the model, or "".
  std::string traceName(Value value, unsigned depth = 0) const;
  /// True if a host function's \p value is a weight.
  bool isWeight(Value value, unsigned depth = 0) const;
  /// True if a kernel that it is given to writes a host function's \p buffer.
  bool isWritten(Value buffer, unsigned depth = 0) const;
  bool isWritten(rt::DispatchOp dispatch, Value buffer) const;

  /// Names that all functions see.
  const CppNames &globalNames() const { return names; }

private:
  /// What the first caller gives for an argument of a host function, or null.
  Value traceArgument(Value value) const;

  CppNames names;
  llvm::StringMap<std::string> kernelNames;
  llvm::MapVector<StringRef, LayerFunction> functions;
  llvm::StringMap<SmallVector<rt::DispatchOp>> dispatches;
  llvm::StringMap<rt::KernelOp> kernels;
  /// Weights that no table has, by offset: name and type.
  std::map<int64_t, std::pair<std::string, Type>> weights;
};

} // namespace

/// "layers.3.self_attn.q_proj" as a member of a layer: self_attn_q_proj.
static std::string memberName(rt::WeightOp weight) {
  StringRef name = weight.getName().value_or("");
  if (name.empty())
    return "weight_at_" + std::to_string(weight.getOffset());
  if (name.consume_front("layers."))
    name = name.drop_while(llvm::isDigit).ltrim('.');
  return toCppIdentifier(name);
}

/// The last word of a weight's name, as far as it says what it is.
static std::string shortName(rt::WeightOp weight) {
  StringRef name = weight.getName().value_or("");
  StringRef last = name.rsplit('.').second;
  if (last.empty() || llvm::all_of(last, llvm::isDigit))
    last = name.split('.').first;
  return toCppIdentifier(last.empty() ? "weight" : last);
}

LogicalResult Program::read(ModuleOp module) {
  for (auto kernel : module.getOps<rt::KernelOp>()) {
    kernels[kernel.getSymName()] = kernel;
    kernelNames[kernel.getSymName()] =
        names.get(toCppIdentifier(kernel.getSymName()));
  }
  for (auto function : module.getOps<func::FuncOp>())
    if (!function.isExternal())
      functions[function.getSymName()] = {
          function, {}, {}, names.get(toCppIdentifier(function.getSymName()))};
  module.walk([&](rt::DispatchOp dispatch) {
    dispatches[dispatch.getKernel()].push_back(dispatch);
  });
  WalkResult result = module.walk([&](func::CallOp call) {
    auto found = functions.find(call.getCallee());
    if (found == functions.end()) {
      call.emitOpError("has no form in C++: its callee has no body");
      return WalkResult::interrupt();
    }
    found->second.calls.push_back(call);
    return WalkResult::advance();
  });
  if (result.wasInterrupted())
    return failure();
  for (auto &entry : functions) {
    LayerFunction &layer = entry.second;
    CppNames members;
    if (layer.calls.empty())
      continue;
    for (unsigned i = 0; i < layer.function.getNumArguments(); ++i) {
      bool isWeight = llvm::all_of(layer.calls, [&](func::CallOp call) {
        return call.getOperand(i).getDefiningOp<rt::WeightOp>();
      });
      if (isWeight)
        layer.weights.push_back(
            {i,
             members.get(memberName(
                 layer.calls[0].getOperand(i).getDefiningOp<rt::WeightOp>())),
             layer.function.getArgumentTypes()[i]});
    }
  }
  module.walk([&](rt::WeightOp weight) {
    bool isInTable = llvm::all_of(weight->getUses(), [&](OpOperand &use) {
      auto call = dyn_cast<func::CallOp>(use.getOwner());
      return call &&
             llvm::any_of(function(call.getCallee()).weights,
                          [&](const WeightColumn &column) {
                            return column.argument == use.getOperandNumber();
                          });
    });
    if (!isInTable && !weights.count(weight.getOffset()))
      weights[weight.getOffset()] = {
          names.get(toCppIdentifier(weight.getName().value_or("weight"))),
          weight.getType()};
  });
  return success();
}

Value Program::traceArgument(Value value) const {
  auto argument = dyn_cast<BlockArgument>(value);
  auto function =
      argument ? dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp())
               : nullptr;
  if (!function)
    return Value();
  auto found = functions.find(function.getSymName());
  if (found == functions.end() || found->second.calls.empty())
    return Value();
  return found->second.calls[0]->getOperand(argument.getArgNumber());
}

/// Calls are followed so far; host functions do not nest deeper.
constexpr unsigned maxDepth = 4;

bool Program::isWeight(Value value, unsigned depth) const {
  if (value.getDefiningOp())
    return isa<rt::WeightOp>(value.getDefiningOp());
  Value outer = depth < maxDepth ? traceArgument(value) : Value();
  return outer && isWeight(outer, depth + 1);
}

bool Program::isWritten(rt::DispatchOp dispatch, Value buffer) const {
  auto kernel = kernels.find(dispatch.getKernel());
  if (kernel == kernels.end())
    return false;
  rt::KernelOp callee = kernel->second;
  for (auto [given, argument] :
       llvm::zip_equal(dispatch.getArguments(), callee.getKernelArguments()))
    if (given == buffer && BodyEmitter::isWritten(argument))
      return true;
  return false;
}

bool Program::isWritten(Value buffer, unsigned depth) const {
  for (OpOperand &use : buffer.getUses()) {
    if (auto dispatch = dyn_cast<rt::DispatchOp>(use.getOwner()))
      if (isWritten(dispatch, buffer))
        return true;
    if (auto columns = dyn_cast<rt::ColumnsOp>(use.getOwner()))
      if (depth < maxDepth && isWritten(columns.getResult(), depth + 1))
        return true;
    if (auto call = dyn_cast<func::CallOp>(use.getOwner())) {
      func::FuncOp callee = functions.find(call.getCallee())->second.function;
      if (depth < maxDepth &&
          isWritten(callee.getArgument(use.getOperandNumber()), depth + 1))
        return true;
    }
  }
  return false;
}

void Program::emitWeights(CppWriter &writer) const {
  if (weights.empty())
    return;
  writer.comment("Weights that are not of one layer, in bytes from the start "
                 "of all.");
  for (auto &[offset, weight] : weights)
    writer.line("constexpr int64_t " + weight.first + " = " + Twine(offset) +
                "; // " + describeShape(weight.second));
  writer.line();
}

std::string Program::traceName(Value value, unsigned depth) const {
  if (isa<BlockArgument>(value)) {
    Value outer = depth < maxDepth ? traceArgument(value) : Value();
    return outer ? traceName(outer, depth + 1) : "";
  }
  Operation *op = value.getDefiningOp();
  if (auto weight = dyn_cast<rt::WeightOp>(op))
    return shortName(weight);
  if (auto input = dyn_cast<rt::InputOp>(op))
    return rt::stringifyInputKind(input.getKind()).str();
  if (isa<rt::TokensOp, rt::OutputsOp>(op))
    return "rows";
  if (isa<rt::LogitsOp>(op))
    return "logits";
  return "";
}

std::string Program::argumentName(rt::KernelOp kernel, unsigned index) const {
  auto found = dispatches.find(kernel.getSymName());
  Value argument = kernel.getKernelArguments()[index];
  if (found != dispatches.end()) {
    std::string common;
    for (rt::DispatchOp dispatch : found->second) {
      std::string name = traceName(dispatch.getArguments()[index]);
      if (common.empty())
        common = name;
      else if (!name.empty() && common != name)
        common = "weights";
    }
    if (!common.empty() && isa<MemRefType>(argument.getType()))
      return common;
    if (common == "rows")
      return common;
  }
  if (!isa<MemRefType>(argument.getType()))
    return "layer";
  return BodyEmitter::isWritten(argument) ? "out" : "x";
}

StringRef Program::purpose(rt::KernelOp kernel) const {
  auto found = dispatches.find(kernel.getSymName());
  if (found != dispatches.end())
    for (rt::DispatchOp dispatch : found->second)
      if (auto work = dispatch.getWork())
        return work->getOp();
  return "";
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

namespace {

class KernelEmitter : public BodyEmitter {
public:
  KernelEmitter(CppWriter &writer, const Program &program)
      : BodyEmitter(writer), program(program) {}

  LogicalResult emit(rt::KernelOp kernel);

protected:
  LogicalResult emitOther(Operation *op) override;

private:
  const Program &program;
};

} // namespace

LogicalResult KernelEmitter::emit(rt::KernelOp kernel) {
  analyze(kernel.getBodyRegion());
  std::string shapes;
  SmallVector<std::pair<Value, std::string>> arguments;
  for (auto [i, argument] : llvm::enumerate(kernel.getKernelArguments())) {
    std::string name = names.get(program.argumentName(kernel, i));
    arguments.push_back({argument, name});
    shapes += (i ? ", " : "") + name;
    if (isa<MemRefType>(argument.getType()))
      shapes += " " + describeShape(argument.getType());
  }
  StringRef purpose = program.purpose(kernel);
  writer.comment((purpose.empty() ? "" : purpose + ": ").str() + shapes + ".");
  bool usesStep = isUsed(kernel.getStep());
  bool usesParams =
      llvm::any_of(arguments, [&](auto &pair) { return isUsed(pair.first); });
  writer.open("void " + program.kernelName(kernel.getSymName()) +
              "(const hadal_rt_step_t *" + (usesStep ? "step" : "") +
              ", const int64_t *" + (usesParams ? "params" : "") + ", int64_t" +
              (isUsed(kernel.getFirst()) ? " first" : "") + ", int64_t" +
              (isUsed(kernel.getLast()) ? " last" : "") + ")");
  bind(kernel.getStep(), {"step"});
  bind(kernel.getFirst(), {"first"});
  bind(kernel.getLast(), {"last"});
  for (auto [i, pair] : llvm::enumerate(arguments)) {
    auto [argument, name] = pair;
    bind(argument, {name});
    if (!isUsed(argument))
      continue;
    auto memref = dyn_cast<MemRefType>(argument.getType());
    if (!memref) {
      writer.line("const int64_t " + name + " = params[" + Twine(i) + "];");
      continue;
    }
    std::string element = getCppElement(memref.getElementType());
    if (element.empty())
      return kernel.emitOpError("has no form in C++: it takes ") << memref;
    std::string type = (isWritten(argument) ? "" : "const ") + element;
    writer.line(type + " *" + name + " = buffer<" + type + ">(params, " +
                Twine(i) + ");");
  }
  if (failed(emitBlock(kernel.getBodyRegion().front())))
    return failure();
  writer.close();
  writer.line();
  return success();
}

LogicalResult KernelEmitter::emitOther(Operation *op) {
  if (isa<rt::TokensOp>(op))
    return bind(op->getResult(0), {"step->tokens"}), success();
  if (isa<rt::OutputsOp>(op))
    return bind(op->getResult(0), {"step->outputs"}), success();
  if (auto input = dyn_cast<rt::InputOp>(op))
    return bind(input,
                {"step->" + rt::stringifyInputKind(input.getKind()).str()}),
           success();
  if (isa<rt::LogitsOp>(op))
    return bind(op->getResult(0), {"step->logits"}), success();
  auto page = dyn_cast<rt::PageOp>(op);
  if (!page)
    return op->emitOpError("has no form in C++");
  auto type = cast<MemRefType>(page.getType());
  SmallVector<int64_t> strides;
  int64_t offset;
  std::string element = getCppElement(type.getElementType());
  if (element.empty() || failed(type.getStridesAndOffset(strides, offset)) ||
      offset != 0 || llvm::is_contained(strides, ShapedType::kDynamic))
    return op->emitOpError("has no form in C++: ") << type;
  if (!isWritten(page))
    element = "const " + element;
  std::string name = names.get("cached");
  writer.line(element + " *" + name + " = page<" + element + ">(step, " +
              text(page.getSequence()) + ", " + text(page.getIndex()) + ", " +
              text(page.getLayer()) + ", " + Twine(page.getPageBytes()) + ", " +
              Twine(page.getLayerBytes()) + ", " +
              Twine(page.getBase() + page.getOffset()) + ");");
  bind(page, {name});
  return success();
}

//===----------------------------------------------------------------------===//
// Host functions
//===----------------------------------------------------------------------===//

namespace {

class HostEmitter : public BodyEmitter {
public:
  HostEmitter(CppWriter &writer, const Program &program,
              llvm::StringMap<unsigned> &calls)
      : BodyEmitter(writer), program(program), calls(calls) {}

  LogicalResult emit(const LayerFunction &layer);

protected:
  LogicalResult emitOther(Operation *op) override;

private:
  LogicalResult emitCall(func::CallOp call);
  std::string resultName(Value buffer);
  std::string hintArgument(Value argument);

  const Program &program;
  llvm::StringMap<unsigned> &calls; ///< Written so far, by callee.
};

} // namespace

/// Writes the table of the weights of \p layer: a row a call.
static void emitTable(CppWriter &writer, const LayerFunction &layer) {
  if (layer.weights.empty())
    return;
  writer.comment("The weights of one call of " + layer.name +
                 ", in bytes from the start of all.");
  writer.open("struct " + layer.name + "_weights");
  size_t width = 0;
  for (const WeightColumn &column : layer.weights)
    width = std::max(width, column.name.size());
  for (const WeightColumn &column : layer.weights)
    writer.line("int64_t " + column.name + "; " +
                std::string(width - column.name.size(), ' ') + "// " +
                describeShape(column.type));
  writer.close(";");
  writer.line();
  writer.open("constexpr " + layer.name + "_weights " + layer.name + "_at[] =");
  for (func::CallOp call : layer.calls) {
    std::string row;
    StringRef where;
    for (const WeightColumn &column : layer.weights) {
      auto weight =
          call.getOperand(column.argument).getDefiningOp<rt::WeightOp>();
      row += (row.empty() ? "" : ", ") + std::to_string(weight.getOffset());
      if (where.empty() && weight.getName().value_or("").starts_with("layers."))
        where = weight.getName()->take_front(
            weight.getName()->find('.', StringRef("layers.").size()));
    }
    if (!where.empty())
      writer.line("// " + where);
    writer.line("{" + row + "},");
  }
  writer.close(";");
  writer.line();
}

LogicalResult HostEmitter::emit(const LayerFunction &layer) {
  func::FuncOp function = layer.function;
  if (!function.getBody().hasOneBlock() || function.getNumResults() != 0 ||
      function.getNumArguments() == 0 ||
      !isa<rt::StepType>(function.getArgumentTypes()[0]))
    return function.emitOpError("has no form in C++: expects one block, a step "
                                "as the first argument and no results");
  names = program.globalNames();
  names.get("w");
  analyze(function.getBody());
  emitTable(writer, layer);
  std::string parameters, shapes;
  bool usesTable = llvm::any_of(layer.weights, [&](const WeightColumn &w) {
    return isUsed(function.getArgument(w.argument));
  });
  for (Value argument : function.getArguments()) {
    unsigned index = cast<BlockArgument>(argument).getArgNumber();
    if (isa<rt::StepType>(argument.getType())) {
      bind(argument, {"step"});
      parameters = "const hadal_rt_step_t *step";
      continue;
    }
    auto column = llvm::find_if(layer.weights, [&](const WeightColumn &w) {
      return w.argument == index;
    });
    if (column != layer.weights.end()) {
      if (column == layer.weights.begin())
        parameters +=
            ", const " + layer.name + "_weights &" + (usesTable ? "w" : "");
      bind(argument, {"weight(step, w." + column->name + ")"});
      continue;
    }
    auto memref = dyn_cast<MemRefType>(argument.getType());
    if (!memref && !isa<IndexType>(argument.getType()))
      return function.emitOpError("has no form in C++: it takes ")
             << argument.getType();
    std::string name = names.get(hintArgument(argument));
    bind(argument, {name});
    // Without a name, or compilers warn.
    std::string declared = isUsed(argument) ? name : "";
    if (!memref) {
      parameters += ", int64_t " + declared;
      continue;
    }
    shapes += (shapes.empty() ? "" : ", ") + name + " " + describeShape(memref);
    parameters += std::string(program.isWritten(argument) ? ", " : ", const ") +
                  getCppElement(memref.getElementType()) + " *" + declared;
  }
  if (!shapes.empty())
    writer.comment(shapes + ".");
  writer.open("void " + layer.name + "(" + parameters + ")");
  bool usesTokens = false;
  for (Operation &op : function.getBody().front()) {
    auto alloc = dyn_cast<rt::AllocOp>(op);
    usesTokens |= isa<rt::TokensOp>(op) ||
                  (alloc && alloc.getOffsetPerToken().value_or(0) != 0);
  }
  if (usesTokens)
    writer.line("const int64_t tokens = step->tokens;");
  if (failed(emitBlock(function.getBody().front())))
    return failure();
  writer.close();
  writer.line();
  return success();
}

/// The name of what a dispatch computes: that of its matrix, or of its op.
std::string HostEmitter::resultName(Value buffer) {
  for (Operation *user : buffer.getUsers()) {
    auto dispatch = dyn_cast<rt::DispatchOp>(user);
    if (!dispatch || !program.isWritten(dispatch, buffer))
      continue;
    for (Value argument : dispatch.getArguments()) {
      auto type = dyn_cast<MemRefType>(argument.getType());
      if (!type || type.getRank() < 3 || !type.hasStaticShape() ||
          !program.isWeight(argument))
        continue;
      std::string name = program.traceName(argument);
      StringRef shorter = name;
      shorter.consume_back("_proj");
      return shorter.str();
    }
    if (auto work = dispatch.getWork())
      return toCppIdentifier(work->getOp());
  }
  // What a layer gives to the next.
  return "hidden";
}

std::string HostEmitter::hintArgument(Value argument) {
  std::string name = program.traceName(argument);
  if (!name.empty())
    return name;
  if (!isa<MemRefType>(argument.getType()))
    return "layer";
  return program.isWritten(argument) ? "out" : "x";
}

LogicalResult HostEmitter::emitCall(func::CallOp call) {
  const LayerFunction &callee = program.function(call.getCallee());
  std::string list;
  bool hasTable = false;
  for (OpOperand &operand : call->getOpOperands()) {
    bool isColumn = llvm::any_of(callee.weights, [&](const WeightColumn &w) {
      return w.argument == operand.getOperandNumber();
    });
    std::string argument;
    if (!isColumn) {
      argument = text(operand.get());
    } else if (!hasTable) {
      argument = callee.name + "_at[" +
                 std::to_string(calls[call.getCallee()]++) + "]";
      hasTable = true;
    } else {
      continue;
    }
    list += (list.empty() ? "" : ", ") + argument;
  }
  writer.line(callee.name + "(" + list + ");");
  return success();
}

LogicalResult HostEmitter::emitOther(Operation *op) {
  if (isa<rt::TokensOp>(op))
    return bind(op->getResult(0), {"tokens"}), success();
  if (isa<rt::OutputsOp>(op))
    return bind(op->getResult(0), {"step->outputs"}), success();
  if (isa<rt::LogitsOp>(op))
    return bind(op->getResult(0), {"step->logits"}), success();
  if (auto input = dyn_cast<rt::InputOp>(op))
    return bind(input,
                {"step->" + rt::stringifyInputKind(input.getKind()).str()}),
           success();
  if (auto weight = dyn_cast<rt::WeightOp>(op)) {
    std::string name = program.weightName(weight.getOffset());
    // Without a name it is in tables only.
    if (!name.empty())
      bind(weight, {"weight(step, " + name + ")"});
    return success();
  }
  if (auto columns = dyn_cast<rt::ColumnsOp>(op)) {
    std::string base = text(columns.getInput(), CppExpression::Sum);
    if (columns.getBegin())
      bind(columns, {base + " + " + std::to_string(columns.getBegin()),
                     CppExpression::Sum});
    else
      bind(columns, get(columns.getInput()));
    return success();
  }
  if (auto alloc = dyn_cast<rt::AllocOp>(op)) {
    if (!alloc.getOffsetPerToken())
      return op->emitOpError("expects a place in the arena; -rt-plan-memory "
                             "gives it one");
    auto type = cast<MemRefType>(alloc.getType());
    std::string element = getCppElement(type.getElementType());
    if (element.empty())
      return op->emitOpError("has no form in C++: ") << type;
    int64_t perToken = *alloc.getOffsetPerToken(),
            fixed = *alloc.getOffsetFixed();
    std::string place;
    if (perToken)
      place = "tokens * " + std::to_string(perToken);
    if (fixed || place.empty())
      place += (place.empty() ? "" : " + ") + std::to_string(fixed);
    std::string name = names.get(resultName(alloc));
    std::string line = element + " *" + name + " = arena<" + element +
                       ">(step, " + place + ");";
    std::string shape = describeShape(type);
    bool fits = line.size() + shape.size() < 72;
    if (!fits)
      writer.line("// " + name + " " + shape);
    writer.line(fits ? line + " // " + shape : line);
    bind(alloc, {name});
    return success();
  }
  if (auto dispatch = dyn_cast<rt::DispatchOp>(op)) {
    std::string list;
    for (Value argument : dispatch.getArguments())
      list += ", " + text(argument);
    writer.line("dispatch(step, " + program.kernelName(dispatch.getKernel()) +
                ", " + text(dispatch.getItems()) + list + ");");
    return success();
  }
  if (auto call = dyn_cast<func::CallOp>(op))
    return emitCall(call);
  return op->emitOpError("has no form in C++");
}

//===----------------------------------------------------------------------===//
// The file
//===----------------------------------------------------------------------===//

/// \p text as adjacent string literals of at most a line each.
static void emitString(CppWriter &writer, StringRef text) {
  constexpr size_t part = 70;
  do {
    std::string literal;
    size_t taken = 0;
    while (taken < text.size() && literal.size() < part) {
      unsigned char c = text[taken++];
      if (c == '"' || c == '\\' || c == '?')
        (literal += '\\') += char(c);
      else if (c < 0x20 || c >= 0x7f)
        // Three digits, so that no digit after it becomes part of it.
        for (char digit : {'\\', char('0' + (c >> 6)), char('0' + (c >> 3 & 7)),
                           char('0' + (c & 7))})
          literal += digit;
      else
        literal += char(c);
    }
    text = text.drop_front(taken);
    writer.raw("    \"" + literal + "\"");
  } while (!text.empty());
}

static LogicalResult emitModel(CppWriter &writer, rt::ProgramOp program,
                               StringRef symbol, StringRef entry) {
  FailureOr<std::string> hash = program.getLayoutHashBytes();
  if (failed(hash))
    return failure();
  StringRef name = program.getSymName();
  if (auto given = program.getInfo().getAs<StringAttr>("name"))
    name = given.getValue();
  std::string bytes;
  for (unsigned char byte : *hash)
    bytes += (bytes.empty() ? "" : ", ") + std::to_string(byte);
  writer.comment("How the model was made, which `hadalc --manifest` shows.");
  writer.line("HADAL_MANIFEST const char manifest[] =");
  emitString(writer, program.getManifest());
  writer.line(";");
  writer.line();
  writer.line("} // namespace");
  writer.line();
  writer.open("extern \"C\" const hadal_rt_model_t " + symbol + " =");
  writer.line("HADAL_RT_ABI_VERSION, HADAL_CPU_FEATURES,");
  emitString(writer, name);
  writer.line(", manifest,");
  writer.line("{" + bytes + "},");
  auto field = [&](int64_t value, StringRef comment) {
    writer.line(Twine(value) + ", // " + comment);
  };
  field(program.getWeightsBytes(), "bytes of weights");
  field(program.getVocab(), "columns of the logits");
  field(program.getHidden(), "width of the residual stream");
  field(program.getLayers(), "layers");
  field(program.getContextLength(), "positions");
  field(program.getPageTokens(), "tokens in a KV page");
  field(program.getPageBytes(), "bytes of a KV page, all layers");
  field(program.getArenaPerToken(), "bytes of the arena per token of a step");
  field(program.getArenaFixed(), "bytes of the arena besides");
  field(program.getWindowTokens(), "latest tokens that a token sees; 0: all");
  field(program.getSinkTokens(), "first tokens that it sees, too");
  writer.line(entry + ",");
  writer.line("nullptr, // It runs on the processor.");
  writer.close(";");
  return success();
}

LogicalResult hadal::prepareForCpp(ModuleOp module) {
  PassManager passes = PassManager::on<ModuleOp>(module.getContext());
  passes.addPass(createCanonicalizerPass());
  passes.addPass(createCSEPass());
  return passes.run(module);
}

LogicalResult hadal::emitCpp(ModuleOp module, const EmitCppOptions &options,
                             llvm::raw_ostream &stream) {
  auto programs = llvm::to_vector(module.getOps<rt::ProgramOp>());
  if (programs.size() != 1)
    return module.emitError("expects one rt.program in a module, but got ")
           << programs.size();
  Program program;
  if (failed(program.read(module)))
    return failure();
  CppWriter writer(stream);
  writer.raw("// " + options.preamble);
  writer.line();
  writer.line("#include \"" + options.header + "\"");
  writer.line();
  // First, so that words of the kernels do not get in its way.
  writer.line("#ifdef HADAL_STANDALONE");
  writer.line("#define HADAL_MODEL " + Twine(options.symbol));
  writer.line("#include \"hadal_rt/standalone.h\"");
  writer.line("#endif");
  writer.line();
  writer.line("#include \"hadal_rt/kernels.h\"");
  writer.line();
  writer.line("namespace {");
  writer.line("using namespace hadal_cpp;");
  writer.line();
  program.emitWeights(writer);
  for (auto kernel : module.getOps<rt::KernelOp>())
    if (failed(KernelEmitter(writer, program).emit(kernel)))
      return failure();
  llvm::StringMap<unsigned> calls;
  // Callees first: no function calls itself.
  llvm::StringSet<> written;
  std::function<LogicalResult(StringRef)> emitFunction = [&](StringRef symbol) {
    if (!written.insert(symbol).second)
      return success();
    const LayerFunction &layer = program.function(symbol);
    WalkResult result = layer.function->walk([&](func::CallOp call) {
      return WalkResult(emitFunction(call.getCallee()));
    });
    if (result.wasInterrupted())
      return failure();
    return HostEmitter(writer, program, calls).emit(layer);
  };
  StringRef entry = programs[0].getEntry();
  if (failed(emitFunction(entry)))
    return failure();
  return emitModel(writer, programs[0], options.symbol,
                   program.function(entry).name);
}
