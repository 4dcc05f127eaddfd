// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels: what they take, and what of the step they read.

#include "codegen/Cpp/KernelEmitter.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using namespace hadal;

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
  StringRef purpose = program.purpose(kernel);
  writer.comment((purpose.empty() ? "" : purpose + ": ").str() + shapes + ".");
  bind(kernel.getStep(), {"step"});
  bind(kernel.getFirst(), {"first"});
  bind(kernel.getLast(), {"last"});
  if (failed(open(kernel, arguments)) ||
      failed(emitBlock(kernel.getBodyRegion().front())))
    return failure();
  writer.close();
  writer.line();
  return success();
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
  if (auto intrinsic = dyn_cast<LLVM::CallIntrinsicOp>(op);
      intrinsic &&
      intrinsic.getIntrin() == "llvm.aarch64.neon.smmla.v4i32.v16i8") {
    std::string operands;
    for (Value operand : intrinsic.getArgs())
      operands += (operands.empty() ? "" : ", ") + text(operand);
    define(op->getResult(0), {"add_dot8_pairs(" + operands + ")"});
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
