// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Host functions, their tables of weights, and the model's constant.

#include "codegen/Cpp/HostEmitter.h"

#include "codegen/Cpp/BodyEmitter.h"
#include "hadal_rt/abi.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/StringExtras.h"

#include <functional>
#include <optional>

using namespace mlir;
using namespace hadal;

namespace {

class HostEmitter : public BodyEmitter {
public:
  HostEmitter(CppWriter &writer, const CppProgram &program, CppNames &fileNames,
              const HostOptions &options, llvm::StringMap<unsigned> &calls)
      : BodyEmitter(writer, program, noParts), fileNames(fileNames),
        options(options), calls(calls) {}

  LogicalResult emit(const LayerFunction &layer);

protected:
  LogicalResult emitOther(Operation *op) override;

private:
  /// What a module of the model does: a run of ops of a layer.
  struct Section {
    std::string name;
    SmallVector<Operation *> ops;
  };
  /// Ops up to a dispatch, and the path of the module whose weights it has.
  struct Unit {
    SmallVector<Operation *> ops;
    SmallVector<StringRef> path;
    StringRef lastWeight; ///< Its own name, without the path.
    bool hasWeight = false;
    unsigned lines = 0;
  };
  FailureOr<std::string> emitSignature(const LayerFunction &layer,
                                       std::string &shapes);
  LogicalResult emitFunction(StringRef shapes, StringRef signature,
                             ArrayRef<Operation *> ops);
  SmallVector<Unit> findUnits(const LayerFunction &layer);
  void divide(ArrayRef<Unit> units, unsigned depth, StringRef name,
              SmallVectorImpl<Section> &sections);
  FailureOr<llvm::DenseSet<Operation *>> findShared(ArrayRef<Section> sections);
  LogicalResult emitSections(const LayerFunction &layer, StringRef shapes,
                             StringRef signature, ArrayRef<Section> sections,
                             const llvm::DenseSet<Operation *> &shared);
  LogicalResult emitSection(const LayerFunction &layer, StringRef name,
                            ArrayRef<Operation *> ops);
  /// Calls of one function, one after the other, each with what the one before
  /// it gave.
  struct Run {
    SmallVector<func::CallOp> calls;
    unsigned input, output; ///< Operands: what a call is given, and gives.
  };
  std::optional<Run> findRun(func::CallOp first);
  LogicalResult emitBody(ArrayRef<Operation *> ops);
  LogicalResult emitRun(const Run &run);
  std::string callText(func::CallOp call, StringRef row,
                       function_ref<std::string(OpOperand &)> argumentOf);
  LogicalResult emitCall(func::CallOp call);
  LogicalResult emitProbe(rt::ProbeOp probe);
  std::string resultName(Value buffer);
  std::string hintArgument(Value argument);

  const CppParts noParts;
  CppNames &fileNames;
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

/// The weight that \p argument of \p layer is in its first call, or null.
static rt::WeightOp getWeight(const LayerFunction &layer, Value argument) {
  auto block = dyn_cast<BlockArgument>(argument);
  if (!block || !layer.isInTable(block.getArgNumber()))
    return nullptr;
  func::CallOp call = layer.calls[0];
  return call.getOperand(block.getArgNumber()).getDefiningOp<rt::WeightOp>();
}

LogicalResult HostEmitter::emit(const LayerFunction &layer) {
  func::FuncOp function = layer.function;
  if (!function.getBody().hasOneBlock() || function.getNumResults() != 0 ||
      function.getNumArguments() == 0 ||
      !isa<rt::StepType>(function.getArgumentTypes()[0]))
    return function.emitOpError("has no form in C++: expects one block, a step "
                                "as the first argument and no results");
  analyze(function.getBody());
  emitTable(writer, layer);
  names = program.globalNames();
  names.get("w");
  std::string shapes;
  FailureOr<std::string> signature = emitSignature(layer, shapes);
  if (failed(signature))
    return failure();
  CppNames atStart = names;
  SmallVector<Operation *> ops;
  bool hasCalls = false;
  for (Operation &op : function.getBody().front().without_terminator()) {
    ops.push_back(&op);
    hasCalls |= isa<func::CallOp>(op);
  }
  LogicalResult written = success();
  unsigned lines = 0;
  std::string text = writer.capture([&] {
    written = emitFunction(shapes, *signature, ops);
    lines = writer.lineCount();
  });
  if (failed(written))
    return failure();
  SmallVector<Section> sections;
  if (lines > mostFunctionLines && !hasCalls)
    divide(findUnits(layer), /*depth=*/0, layer.name, sections);
  if (sections.size() > 1)
    if (FailureOr<llvm::DenseSet<Operation *>> shared = findShared(sections);
        succeeded(shared)) {
      names = atStart;
      return emitSections(layer, shapes, *signature, sections, *shared);
    }
  writer.captured(text);
  return success();
}

/// Names the arguments of \p layer, and adds their shapes to \p shapes.
FailureOr<std::string> HostEmitter::emitSignature(const LayerFunction &layer,
                                                  std::string &shapes) {
  func::FuncOp function = layer.function;
  std::string parameters;
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
  return "void " + layer.name + "(" + parameters + ")";
}

/// True if where \p op has its buffer follows from the tokens of the step.
static bool isPerToken(Operation *op) {
  auto alloc = dyn_cast<rt::AllocOp>(op);
  return alloc && alloc.getOffsetPerToken().value_or(0) != 0;
}

/// True if \p op is written with the tokens of the step.
static bool readsTokens(Operation *op) {
  return isPerToken(op) || llvm::any_of(op->getOperands(), [](Value operand) {
           return isa_and_nonnull<rt::TokensOp>(operand.getDefiningOp());
         });
}

LogicalResult HostEmitter::emitFunction(StringRef shapes, StringRef signature,
                                        ArrayRef<Operation *> ops) {
  if (!shapes.empty())
    writer.comment((shapes + ".").str());
  else
    writer.comment("A step, from token_ids [tokens] i32 to logits [outputs, " +
                   std::to_string(program.getOp().getVocab()) + "] f32.");
  writer.open(signature);
  bool usesTokens = llvm::any_of(ops, [](Operation *op) {
    return isa<rt::TokensOp>(op) || readsTokens(op);
  });
  if (usesTokens)
    writer.line("const int64_t tokens = step->tokens;");
  if (failed(emitBody(ops)))
    return failure();
  writer.close();
  writer.line();
  return success();
}

/// True for what says itself where it is, in every function of the file.
static bool isPlace(Operation *op) {
  return op->hasTrait<OpTrait::ConstantLike>() ||
         isa<rt::WeightOp, rt::InputOp, rt::LogitsOp, rt::OutputsOp,
             rt::TokensOp>(op);
}

//===----------------------------------------------------------------------===//
// Layers that are alike
//===----------------------------------------------------------------------===//

/// Runs of fewer calls are written out.
constexpr size_t fewestCalls = 3;

static bool hasPlaceOf(rt::AllocOp a, rt::AllocOp b) {
  return a.getType() == b.getType() &&
         a.getOffsetPerToken() == b.getOffsetPerToken() &&
         a.getOffsetFixed() == b.getOffsetFixed();
}

/// The calls from \p first on that a loop can make, which swaps two buffers:
/// what call i gives is where call i - 2 was given what it took.
std::optional<HostEmitter::Run> HostEmitter::findRun(func::CallOp first) {
  const LayerFunction &layer = program.function(first.getCallee());
  std::optional<unsigned> input, output;
  Run run{{first}, 0, 0};
  for (Operation *op = first->getNextNode(); op; op = op->getNextNode()) {
    // Where they are is in the table; and what a call gives is somewhere.
    if (isPlace(op) || isa<rt::AllocOp>(op))
      continue;
    auto call = dyn_cast<func::CallOp>(op);
    if (!call || call.getCallee() != first.getCallee())
      break;
    func::CallOp before = run.calls.back();
    bool isAlike = true;
    for (unsigned i = 0; i < call.getNumOperands(); ++i) {
      Value now = call.getOperand(i), then = before.getOperand(i);
      APInt number, last;
      if (now == then || layer.isInTable(i))
        continue;
      if (matchPattern(now, m_ConstantInt(&number)) &&
          matchPattern(then, m_ConstantInt(&last))) {
        isAlike &= number == last + 1;
        continue;
      }
      auto given = now.getDefiningOp<rt::AllocOp>();
      auto givenBefore = then.getDefiningOp<rt::AllocOp>();
      if (!given || !givenBefore) {
        isAlike = false;
      } else if (llvm::is_contained(before.getOperands(), now)) {
        isAlike &= !input || input == i;
        input = i;
      } else {
        isAlike &= !output || output == i;
        output = i;
      }
    }
    if (!isAlike || !input || !output ||
        call.getOperand(*input) != before.getOperand(*output) ||
        !hasPlaceOf(call.getOperand(*output).getDefiningOp<rt::AllocOp>(),
                    before.getOperand(*input).getDefiningOp<rt::AllocOp>()))
      break;
    run.calls.push_back(call);
  }
  if (run.calls.size() < fewestCalls)
    return std::nullopt;
  run.input = *input;
  run.output = *output;
  // Names are swapped: none may be used for what it was before.
  for (func::CallOp call : ArrayRef(run.calls).drop_front()) {
    Value given = call.getOperand(run.input);
    for (Operation *user : given.getUsers())
      if (!llvm::is_contained(run.calls, user))
        return std::nullopt;
  }
  for (Operation *user : first.getOperand(run.input).getUsers())
    if (user->getBlock() != first->getBlock() || first->isBeforeInBlock(user))
      return std::nullopt;
  return run;
}

LogicalResult HostEmitter::emitBody(ArrayRef<Operation *> ops) {
  while (!ops.empty()) {
    auto call = dyn_cast<func::CallOp>(ops.front());
    std::optional<Run> run = call ? findRun(call) : std::nullopt;
    if (!run) {
      if (failed(emitOps(ops.front())))
        return failure();
      ops = ops.drop_front();
      continue;
    }
    // What stands between the calls says where things are.
    Operation *last = run->calls.back();
    while (ops.front() != last) {
      if (isPlace(ops.front()) && failed(emitOps(ops.front())))
        return failure();
      ops = ops.drop_front();
    }
    ops = ops.drop_front();
    if (failed(emitRun(*run)))
      return failure();
  }
  return success();
}

LogicalResult HostEmitter::emitRun(const Run &run) {
  func::CallOp first = run.calls.front(), last = run.calls.back();
  std::string index = names.get("i");
  auto plus = [&](int64_t begin) {
    return begin ? index + " + " + std::to_string(begin) : index;
  };
  std::string row = plus(calls[first.getCallee()]);
  calls[first.getCallee()] += run.calls.size();
  writer.open("for (int64_t " + index + " = 0; " + index + " < " +
              Twine(run.calls.size()) + "; ++" + index + ")");
  func::CallOp second = run.calls[1];
  writer.line(
      callText(first, row,
               [&](OpOperand &operand) {
                 APInt number;
                 if (second.getOperand(operand.getOperandNumber()) !=
                         operand.get() &&
                     matchPattern(operand.get(), m_ConstantInt(&number)))
                   return plus(number.getSExtValue());
                 return text(operand.get());
               }) +
      ";");
  std::string given = text(first.getOperand(run.input));
  writer.line("std::swap(" + given + ", " + text(first.getOperand(run.output)) +
              ");");
  writer.close();
  bind(last.getOperand(run.output), {given});
  return success();
}

//===----------------------------------------------------------------------===//
// Sections
//===----------------------------------------------------------------------===//

SmallVector<HostEmitter::Unit>
HostEmitter::findUnits(const LayerFunction &layer) {
  SmallVector<Unit> units(1);
  func::FuncOp function = layer.function;
  for (Operation &op : function.getBody().front().without_terminator()) {
    Unit &unit = units.back();
    unit.ops.push_back(&op);
    unit.lines += linesOf(&op);
    if (!isa<rt::DispatchOp>(op))
      continue;
    for (Value operand : op.getOperands())
      if (rt::WeightOp weight = getWeight(layer, operand)) {
        unit.hasWeight = true;
        StringRef name = weight.getName().value_or("");
        if (name.consume_front("layers."))
          name = name.drop_while(llvm::isDigit).drop_front();
        SmallVector<StringRef> path;
        name.split(path, '.');
        if (path.size() > 1)
          unit.lastWeight = path.back();
        path.pop_back();
        if (path.size() > unit.path.size())
          unit.path = path;
      }
    units.emplace_back();
  }
  // What comes after the last dispatch goes with it.
  Unit rest = units.pop_back_val();
  if (!units.empty())
    units.back().ops.append(rest.ops);
  return units;
}

/// Adds \p units as one section, or as those of the modules at \p depth of
/// their paths, or as halves.
void HostEmitter::divide(ArrayRef<Unit> units, unsigned depth, StringRef name,
                         SmallVectorImpl<Section> &sections) {
  constexpr unsigned aroundSection = 10, mostDepth = 3;
  unsigned lines = 0;
  for (const Unit &unit : units)
    lines += unit.lines;
  if (units.size() == 1 || lines + aroundSection <= mostFunctionLines) {
    Section section{name.str(), {}};
    for (const Unit &unit : units)
      section.ops.append(unit.ops);
    sections.push_back(std::move(section));
    return;
  }
  if (depth == mostDepth) {
    size_t half = 1;
    for (unsigned before = units[0].lines;
         before + units[half].lines / 2 < lines / 2 && half + 1 < units.size();
         ++half)
      before += units[half].lines;
    // Named after what they end with.
    for (ArrayRef<Unit> part :
         {units.take_front(half), units.drop_front(half)}) {
      StringRef last;
      for (const Unit &unit : part)
        if (!unit.lastWeight.empty())
          last = unit.lastWeight;
      std::string path = name.str();
      if (!last.empty())
        path += "_" + toCppIdentifier(last);
      divide(part, depth, path, sections);
    }
    return;
  }
  // A norm goes with what it is for, what has no weights with what it ends.
  auto moduleOf = [&](const Unit &unit) {
    return depth < unit.path.size() ? unit.path[depth] : StringRef();
  };
  SmallVector<StringRef> modules;
  for (size_t i = 0; i < units.size(); ++i) {
    StringRef module = moduleOf(units[i]);
    if (module.empty() && units[i].hasWeight)
      for (size_t j = i + 1; j < units.size() && module.empty(); ++j)
        module = moduleOf(units[j]);
    if (module.empty() && i > 0)
      module = modules.back();
    modules.push_back(module);
  }
  for (size_t begin = 0, end; begin < units.size(); begin = end) {
    end = begin + 1;
    while (end < units.size() && modules[end] == modules[begin])
      ++end;
    std::string path = name.str();
    // All of a module is not only what one of its parts does.
    bool isAll = depth > 0 && end - begin == units.size();
    if (!modules[begin].empty() && !isAll)
      path += "_" + toCppIdentifier(modules[begin]);
    divide(units.slice(begin, end - begin), depth + 1, path, sections);
  }
}

/// Ops whose results more than one of \p sections use. Fails if one of them
/// cannot stand before its section.
FailureOr<llvm::DenseSet<Operation *>>
HostEmitter::findShared(ArrayRef<Section> sections) {
  llvm::DenseMap<Operation *, size_t> sectionOf;
  for (auto [i, section] : llvm::enumerate(sections))
    for (Operation *op : section.ops)
      sectionOf[op] = i;
  llvm::DenseSet<Operation *> shared;
  // Users first: what a shared op uses is shared, too.
  for (const Section &section : llvm::reverse(sections))
    for (Operation *op : llvm::reverse(section.ops)) {
      bool isShared = llvm::any_of(op->getUsers(), [&](Operation *user) {
        return shared.contains(user) ||
               sectionOf.lookup(user) != sectionOf.lookup(op);
      });
      if (!isShared && !isPlace(op))
        continue;
      if (isa<rt::CountOp, rt::DispatchOp>(op))
        return failure();
      shared.insert(op);
    }
  return shared;
}

/// Calls the function \p name of \p ops, and writes it.
LogicalResult HostEmitter::emitSection(const LayerFunction &layer,
                                       StringRef name,
                                       ArrayRef<Operation *> ops) {
  func::FuncOp function = layer.function;
  llvm::SetVector<Value> captured;
  captured.insert(function.getArgument(0));
  bool usesTable = false, usesTokens = false;
  llvm::DenseSet<Operation *> inside(ops.begin(), ops.end());
  for (Operation *op : ops) {
    usesTokens |= readsTokens(op);
    for (Value operand : op->getOperands()) {
      Operation *made = operand.getDefiningOp();
      if (made && (inside.contains(made) || isPlace(made)))
        continue;
      if (getWeight(layer, operand))
        usesTable = true;
      else
        captured.insert(operand);
    }
  }
  Outlined outlined{
      nullptr, name.str(), captured.getArrayRef(), {}, program.globalNames(),
      {}};
  if (usesTable)
    outlined.given.push_back({"const " + layer.name + "_weights &w", "w"});
  outlined.names.get("w");
  auto body = [&] {
    if (usesTokens)
      writer.line("const int64_t tokens = step->tokens;");
    return emitOps(ops);
  };
  return emitOutlined(
      outlined, [&](Value buffer) { return program.isWritten(buffer); }, body);
}

LogicalResult
HostEmitter::emitSections(const LayerFunction &layer, StringRef shapes,
                          StringRef signature, ArrayRef<Section> sections,
                          const llvm::DenseSet<Operation *> &shared) {
  SmallVector<std::string> sectionNames;
  for (const Section &section : sections) {
    sectionNames.push_back(fileNames.get(section.name));
    names.get(sectionNames.back());
  }
  LogicalResult written = success();
  std::string text = writer.capture([&] {
    if (!shapes.empty())
      writer.comment((shapes + ".").str());
    writer.open(signature);
    bool usesTokens = llvm::any_of(shared, [](Operation *op) {
      return !isPlace(op) && (!isa<rt::AllocOp>(op) || isPerToken(op));
    });
    if (usesTokens)
      writer.line("const int64_t tokens = step->tokens;");
    for (auto [section, name] : llvm::zip_equal(sections, sectionNames)) {
      SmallVector<Operation *> before, inside;
      for (Operation *op : section.ops) {
        if (shared.contains(op))
          keepNamed(op);
        (shared.contains(op) ? before : inside).push_back(op);
      }
      if (failed(emitOps(before)) || failed(emitSection(layer, name, inside))) {
        written = failure();
        return;
      }
    }
    writer.close();
    writer.line();
  });
  for (const std::string &function : partTexts())
    writer.captured(function);
  writer.captured(text);
  return written;
}

/// The name of what a dispatch computes: that of its matrix, or of its op.
std::string HostEmitter::resultName(Value buffer) {
  for (Operation *user : buffer.getUsers()) {
    auto dispatch = dyn_cast<rt::DispatchOp>(user);
    if (!dispatch || !program.isWritten(dispatch, buffer))
      continue;
    std::string given = program.givenName(dispatch, buffer);
    if (!given.empty())
      return given;
    for (Value argument : dispatch.getArguments()) {
      auto type = dyn_cast<MemRefType>(argument.getType());
      if (!type || !type.hasStaticShape() || !program.isWeight(argument))
        continue;
      std::string name = program.traceName(argument);
      StringRef shorter = name;
      if (type.getRank() == 1 && shorter.consume_back("layernorm"))
        return (shorter + "norm").str();
      if (type.getRank() < 3)
        continue;
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

/// A call with row \p row of the table.
std::string
HostEmitter::callText(func::CallOp call, StringRef row,
                      function_ref<std::string(OpOperand &)> argumentOf) {
  const LayerFunction &callee = program.function(call.getCallee());
  std::string list;
  bool hasTable = false;
  for (OpOperand &operand : call->getOpOperands()) {
    std::string argument;
    if (!callee.isInTable(operand.getOperandNumber())) {
      argument = argumentOf(operand);
    } else if (!hasTable) {
      argument = (callee.name + "_at[" + row + "]").str();
      hasTable = true;
    } else {
      continue;
    }
    list += (list.empty() ? "" : ", ") + argument;
  }
  return callee.name + "(" + list + ")";
}

LogicalResult HostEmitter::emitCall(func::CallOp call) {
  const LayerFunction &callee = program.function(call.getCallee());
  std::string row;
  if (!callee.weights.empty())
    row = std::to_string(calls[call.getCallee()]++);
  writer.line(
      callText(call, row,
               [&](OpOperand &operand) { return text(operand.get()); }) +
      ";");
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
                                       CppNames &names,
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
    return HostEmitter(writer, program, names, options, calls).emit(layer);
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
