// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Host functions, their tables of weights, and the model's constant.

#include "codegen/Cpp/HostEmitter.h"

#include "codegen/Cpp/BodyEmitter.h"
#include "hadal_rt/abi.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/StringExtras.h"

#include <functional>

using namespace mlir;
using namespace hadal;

namespace {

class HostEmitter : public BodyEmitter {
public:
  HostEmitter(CppWriter &writer, const CppProgram &program,
              const HostOptions &options, llvm::StringMap<unsigned> &calls)
      : BodyEmitter(writer), program(program), options(options), calls(calls) {}

  LogicalResult emit(const LayerFunction &layer);

protected:
  LogicalResult emitOther(Operation *op) override;

private:
  LogicalResult emitCall(func::CallOp call);
  LogicalResult emitProbe(rt::ProbeOp probe);
  std::string resultName(Value buffer);
  std::string hintArgument(Value argument);

  const CppProgram &program;
  const HostOptions &options;
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

LogicalResult HostEmitter::emitProbe(rt::ProbeOp probe) {
  if (!options.kernelScope.empty())
    return probe.emitOpError("has no form in CUDA: what it shows is in the "
                             "memory of the device");
  auto strideOf = [](Value buffer) {
    return cast<MemRefType>(buffer.getType())
        .getStridesAndOffset()
        .first.front();
  };
  Value experts = probe.getExperts();
  const std::string fields[] = {std::to_string(probe.getKind()),
                                std::to_string(probe.getId()),
                                text(probe.getLayer()),
                                text(probe.getInput()),
                                text(probe.getRows()),
                                std::to_string(probe.getColumns()),
                                std::to_string(strideOf(probe.getInput())),
                                experts ? text(experts) : "nullptr",
                                std::to_string(probe.getTopK()),
                                std::to_string(experts ? strideOf(experts) : 0),
                                std::to_string(probe.getExpertCount())};
  writer.line("probe({" + llvm::join(ArrayRef(fields), ", ") + "});");
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
  if (auto count = dyn_cast<rt::CountOp>(op)) {
    std::string name = names.get("count");
    writer.line("const int64_t " + name + " = " + text(count.getBuffer()) +
                "[0];");
    return bind(count, {name}), success();
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
    writer.line("dispatch(step, " + options.kernelScope +
                program.kernelName(dispatch.getKernel()) + ", " +
                text(dispatch.getItems()) + list + ");");
    return success();
  }
  if (auto call = dyn_cast<func::CallOp>(op))
    return emitCall(call);
  if (auto probe = dyn_cast<rt::ProbeOp>(op))
    return emitProbe(probe);
  return op->emitOpError("has no form in C++");
}

LogicalResult hadal::emitHostFunctions(CppWriter &writer,
                                       const CppProgram &program,
                                       const HostOptions &options) {
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
    return HostEmitter(writer, program, options, calls).emit(layer);
  };
  return emitFunction(program.getOp().getEntry());
}

//===----------------------------------------------------------------------===//
// The model
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

LogicalResult hadal::emitModel(CppWriter &writer, const CppProgram &names,
                               StringRef symbol, const HostOptions &options) {
  rt::ProgramOp program = names.getOp();
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
  writer.line("HADAL_RT_ABI_VERSION, " + options.features + ",");
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
  field(program.getArenaFixed() + options.scratchBytes,
        "bytes of the arena besides");
  field(program.getWindowTokens(), "latest tokens that a token sees; 0: all");
  field(program.getSinkTokens(), "first tokens that it sees, too");
  writer.line(names.function(program.getEntry()).name + ",");
  emitString(writer, rt::joinAdapterNames(program));
  writer.line(", // adapters");
  writer.line(options.device);
  writer.line("nullptr, // One for lesser processors: there is none.");
  writer.close(";");
  return success();
}
