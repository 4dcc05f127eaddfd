// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels: what they take, and what of the step they read.

#include "codegen/Cpp/KernelEmitter.h"

#include "codegen/RegisterArrays.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace hadal;

/// Lines of what is worth a function of its own, and of what is around it
/// there.
constexpr unsigned fewestPartLines = 8, aroundPart = 8, callLines = 3;
/// Values that a function may give to what is after it.
constexpr size_t mostEscaping = 8;

namespace {

/// Ops that may be a function of their own.
struct Candidate {
  Operation *first = nullptr, *last = nullptr;
  /// More is better.
  int64_t worth = 0;
};

/// Looks for the ops of one function that are best a function of their own.
class PartFinder {
public:
  PartFinder(const KernelEmitter &emitter, const CppParts &parts)
      : emitter(emitter), parts(parts) {}

  /// In the function of the part that begins with \p first, or of the kernel.
  Candidate find(rt::KernelOp kernel, Operation *first);

private:
  void visit(Block &block, Operation *first, Operation *last);
  void consider(Operation *first, Operation *last, unsigned lines);

  const KernelEmitter &emitter;
  const CppParts &parts;
  Candidate best;
  Operation *own = nullptr;
};

} // namespace

Candidate PartFinder::find(rt::KernelOp kernel, Operation *first) {
  own = first;
  best = {};
  Block &block = first ? *first->getBlock() : kernel.getBodyRegion().front();
  visit(block, first ? first : &block.front(),
        first ? parts.find(first)->second.last : &block.back());
  return best;
}

/// Looks at all runs of ops of \p block from \p first to \p last, and at what
/// is in them.
void PartFinder::visit(Block &block, Operation *first, Operation *last) {
  struct Step {
    Operation *first, *last;
    unsigned lines;
    bool canMove;
  };
  SmallVector<Step> steps;
  for (Operation *op = first;; op = op->getNextNode()) {
    auto part = parts.find(op);
    bool isPart = part != parts.end() && op != own;
    Operation *end = isPart ? part->second.last : op;
    bool canMove = emitter.canBeInPart(op);
    for (Operation *inside = op; inside != end; inside = inside->getNextNode())
      canMove &= emitter.canBeInPart(inside->getNextNode());
    steps.push_back(
        {op, end, isPart ? callLines : emitter.linesOf(op), canMove});
    if (!isPart)
      for (Region &region : op->getRegions())
        for (Block &inner : region)
          if (!inner.empty())
            visit(inner, &inner.front(), &inner.back());
    op = end;
    if (op == last)
      break;
  }
  for (size_t begin = 0; begin < steps.size(); ++begin) {
    // What has no lines is written with what uses it.
    if (steps[begin].lines == 0 || parts.contains(steps[begin].first))
      continue;
    unsigned lines = 0;
    for (size_t end = begin; end < steps.size() && steps[end].canMove; ++end) {
      lines += steps[end].lines;
      if (lines + aroundPart > mostFunctionLines)
        break;
      if (steps[end].lines != 0)
        consider(steps[begin].first, steps[end].last, lines);
    }
  }
}

void PartFinder::consider(Operation *first, Operation *last, unsigned lines) {
  if (lines < fewestPartLines || last->hasTrait<OpTrait::IsTerminator>())
    return;
  // All of a function is no part of it.
  if (own && first == own && last == parts.find(own)->second.last)
    return;
  SmallVector<Value> escaping = emitter.findEscaping(first, last);
  if (escaping.size() > mostEscaping || llvm::any_of(escaping, [](Value value) {
        return getCppType(value.getType()).empty() ||
               isa<vector::CreateMaskOp>(value.getDefiningOp());
      }))
    return;
  auto canBeGiven = [](Value value) {
    if (auto memref = dyn_cast<MemRefType>(value.getType()))
      return !getCppElement(memref.getElementType()).empty();
    return isa<rt::StepType>(value.getType()) ||
           !getCppType(value.getType()).empty();
  };
  auto given = emitter.findCaptured(first, last);
  if (!llvm::all_of(given, canBeGiven))
    return;
  int64_t captured = given.size();
  // Loops are what a reader takes for one thing.
  bool isLoop = first == last && isa<scf::ForOp, scf::IfOp>(first);
  int64_t results = escaping.size();
  int64_t worth = int64_t(lines) - captured - (results > 1 ? 3 * results : 0) +
                  (isLoop ? 12 : 0);
  if (!best.first || worth > best.worth)
    best = {first, last, worth};
}

/// What \p op was built for (`KernelBuilder::Named`), or "".
static StringRef getBuiltName(Operation *op) {
  auto name = dyn_cast<NameLoc>(op->getLoc());
  return name && isa<NameLoc>(name.getChildLoc()) ? name.getName().getValue()
                                                  : StringRef();
}

/// What the function of a part is for: what its loops were built for, or else
/// the buffer that it writes first.
static std::string namePart(const Candidate &part) {
  StringRef begin, end;
  for (Operation *top = part.first;; top = top->getNextNode()) {
    StringRef built = top->getNumRegions() ? getBuiltName(top) : StringRef();
    if (!built.empty()) {
      begin = begin.empty() ? built : begin;
      end = built;
    }
    if (top == part.last)
      break;
  }
  if (!begin.empty())
    return (begin == end ? begin : begin + "_to_" + end).str();
  std::string name = "values";
  for (Operation *top = part.first;; top = top->getNextNode()) {
    WalkResult result = top->walk([&](Operation *op) {
      Value memref;
      if (auto store = dyn_cast<memref::StoreOp>(op))
        memref = store.getMemRef();
      else if (auto store = dyn_cast<vector::StoreOp>(op))
        memref = store.getBase();
      else if (auto store = dyn_cast<vector::MaskedStoreOp>(op))
        memref = store.getBase();
      if (!memref)
        return WalkResult::advance();
      Operation *made = memref.getDefiningOp();
      name = !made                         ? "rows"
             : isa<memref::AllocaOp>(made) ? getBuiltName(made).str()
                                           : "cache";
      return WalkResult::interrupt();
    });
    if (result.wasInterrupted() || top == part.last)
      return name;
  }
}

std::unique_ptr<KernelEmitter> hadal::emitDivided(
    CppWriter &writer, rt::KernelOp kernel, const CppProgram &program,
    CppNames &names,
    llvm::function_ref<std::unique_ptr<KernelEmitter>(const CppParts &)> make) {
  CppParts parts;
  for (;;) {
    std::unique_ptr<KernelEmitter> emitter = make(parts);
    LogicalResult written = success();
    std::string text = writer.capture([&] { written = emitter->emit(kernel); });
    if (failed(written))
      return nullptr;
    // The longest function that can be divided.
    Candidate next;
    unsigned longest = mostFunctionLines;
    PartFinder finder(*emitter, parts);
    auto divide = [&](Operation *first, unsigned lines) {
      if (lines <= longest)
        return;
      Candidate found = finder.find(kernel, first);
      if (!found.first)
        return;
      next = found;
      longest = lines;
    };
    divide(nullptr, emitter->kernelLines());
    for (auto &[first, part] : parts)
      divide(first, emitter->partLines(first));
    if (!next.first) {
      for (const std::string &function : emitter->partTexts())
        writer.captured(function);
      writer.captured(text);
      return emitter;
    }
    std::string name = names.get(program.kernelName(kernel.getSymName()) + "_" +
                                 namePart(next));
    parts[next.first] = {std::move(name), next.last};
  }
}

LogicalResult KernelEmitter::emit(rt::KernelOp kernel) {
  analyze(kernel.getBodyRegion());
  std::string shapes;
  SmallVector<Argument> arguments;
  for (auto [i, value] : llvm::enumerate(kernel.getKernelArguments())) {
    Argument argument{value, names.get(program.argumentName(kernel, i)), ""};
    shapes += (i ? ", " : "") + argument.name;
    if (auto memref = dyn_cast<MemRefType>(value.getType())) {
      shapes += " " + describeShape(memref);
      std::string element = getCppElement(memref.getElementType());
      if (element.empty() && isUsed(value))
        return kernel.emitOpError("has no form in C++: it takes ") << memref;
      argument.element = (isWritten(value) ? "" : "const ") +
                         (element.empty() ? "void" : element);
    }
    bind(value, {argument.name});
    arguments.push_back(std::move(argument));
  }
  if (failed(declare(kernel)))
    return failure();
  StringRef purpose = program.purpose(kernel);
  writer.comment((purpose.empty() ? "" : purpose + ": ").str() + shapes + ".");
  bind(kernel.getStep(), {"step"});
  bind(kernel.getFirst(), {"first"});
  bind(kernel.getLast(), {"last"});
  unsigned before = writer.lineCount();
  if (failed(open(kernel, arguments)) ||
      failed(emitBlock(kernel.getBodyRegion().front())))
    return failure();
  writer.close();
  ownLines = writer.lineCount() - before;
  writer.line();
  return success();
}

bool KernelEmitter::canBeInPart(Operation *op) const {
  return !isa<memref::AllocaOp>(op) || isRegisterArray(op->getResult(0));
}

LogicalResult KernelEmitter::open(rt::KernelOp kernel,
                                  ArrayRef<Argument> arguments) {
  bool usesParams = llvm::any_of(
      arguments, [&](const Argument &given) { return isUsed(given.value); });
  writer.open("void " + program.kernelName(kernel.getSymName()) +
              "(const hadal_rt_step_t *" +
              (isUsed(kernel.getStep()) ? "step" : "") + ", const int64_t *" +
              (usesParams ? "params" : "") + ", int64_t" +
              (isUsed(kernel.getFirst()) ? " first" : "") + ", int64_t" +
              (isUsed(kernel.getLast()) ? " last" : "") + ")");
  for (auto [i, given] : llvm::enumerate(arguments)) {
    if (!isUsed(given.value))
      continue;
    if (given.element.empty())
      writer.line("const int64_t " + given.name + " = params[" + Twine(i) +
                  "];");
    else
      writer.line(given.element + " *" + given.name + " = buffer<" +
                  given.element + ">(params, " + Twine(i) + ");");
  }
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
  if (auto intrinsic = dyn_cast<LLVM::CallIntrinsicOp>(op)) {
    StringRef word =
        llvm::StringSwitch<StringRef>(intrinsic.getIntrin())
            .Case("llvm.aarch64.neon.smmla.v4i32.v16i8", "add_dot8_pairs")
            .Case("llvm.aarch64.neon.bfdot.v4f32.v8bf16", "add_dot2_bf16")
            .Case("llvm.aarch64.neon.bfmmla", "add_dot4_bf16_pairs")
            .Default("");
    if (word.empty())
      return op->emitOpError("has no form in C++: ") << intrinsic.getIntrin();
    std::string operands;
    for (Value operand : intrinsic.getArgs())
      operands += (operands.empty() ? "" : ", ") + text(operand);
    define(op->getResult(0), {word.str() + "(" + operands + ")"});
    return success();
  }
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
