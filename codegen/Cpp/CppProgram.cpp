// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Names come from the model: those of weights, of ops and of what they are for.

#include "codegen/Cpp/CppProgram.h"

#include "codegen/Cpp/BodyEmitter.h"
#include "codegen/SourceNames.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace hadal;

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

/// As many words of \p symbol as tell it from other kernels: at least one that
/// has a number, "linear_bf16_256x64" of "linear_bf16_256x64_64_256".
StringRef CppProgram::shortenKernelName(StringRef symbol) const {
  bool hasNumber = false;
  for (size_t end = symbol.find('_'); end != StringRef::npos;
       end = symbol.find('_', end + 1)) {
    StringRef shorter = symbol.take_front(end);
    StringRef word = shorter.substr(shorter.rfind('_') + 1);
    hasNumber |= llvm::any_of(word, llvm::isDigit);
    bool isUnique = llvm::none_of(kernels, [&](auto &entry) {
      StringRef other = entry.first();
      return other != symbol && other.consume_front(shorter) &&
             (other.empty() || other.front() == '_');
    });
    if (hasNumber && isUnique)
      return shorter;
  }
  return symbol;
}

LogicalResult CppProgram::read(ModuleOp module) {
  auto programs = llvm::to_vector(module.getOps<rt::ProgramOp>());
  if (programs.size() != 1)
    return module.emitError("expects one rt.program in a module, but got ")
           << programs.size();
  op = programs[0];
  for (auto kernel : module.getOps<rt::KernelOp>())
    kernels[kernel.getSymName()] = kernel;
  for (auto kernel : module.getOps<rt::KernelOp>())
    kernelNames[kernel.getSymName()] =
        names.get(toCppIdentifier(shortenKernelName(kernel.getSymName())));
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
             function(call.getCallee()).isInTable(use.getOperandNumber());
    });
    if (!isInTable && !weights.count(weight.getOffset()))
      weights[weight.getOffset()] = {
          names.get(toCppIdentifier(weight.getName().value_or("weight"))),
          weight.getType()};
  });
  return success();
}

Value CppProgram::traceArgument(Value value) const {
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

bool CppProgram::isWeight(Value value, unsigned depth) const {
  if (value.getDefiningOp())
    return isa<rt::WeightOp>(value.getDefiningOp());
  Value outer = depth < maxDepth ? traceArgument(value) : Value();
  return outer && isWeight(outer, depth + 1);
}

bool CppProgram::isWritten(rt::DispatchOp dispatch, Value buffer) const {
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

bool CppProgram::isWritten(Value buffer, unsigned depth) const {
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

void CppProgram::emitWeights(CppWriter &writer) const {
  if (weights.empty())
    return;
  writer.comment("Weights that are not of one layer, in bytes from the start "
                 "of all.");
  for (auto &[offset, weight] : weights)
    writer.line("constexpr int64_t " + weight.first + " = " + Twine(offset) +
                "; // " + describeShape(weight.second));
  writer.line();
}

std::string CppProgram::traceName(Value value, unsigned depth) const {
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

std::string CppProgram::argumentName(rt::KernelOp kernel,
                                     unsigned index) const {
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
  if (!isa<MemRefType>(argument.getType())) {
    // What the host computes for a dispatch is how many rows go together.
    bool isComputed = found != dispatches.end() &&
                      llvm::all_of(found->second, [&](rt::DispatchOp dispatch) {
                        Operation *made =
                            dispatch.getArguments()[index].getDefiningOp();
                        return made && !made->hasTrait<OpTrait::ConstantLike>();
                      });
    return isComputed ? "block_rows" : "layer";
  }
  if (StringRef name = getSourceName(argument); !name.empty())
    return name.str();
  return BodyEmitter::isWritten(argument) ? "out" : "x";
}

std::string CppProgram::givenName(rt::DispatchOp dispatch, Value buffer) const {
  auto kernel = kernels.find(dispatch.getKernel());
  if (kernel == kernels.end())
    return "";
  rt::KernelOp callee = kernel->second;
  for (auto [given, argument] :
       llvm::zip_equal(dispatch.getArguments(), callee.getKernelArguments()))
    if (given == buffer)
      return getSourceName(argument).str();
  return "";
}

StringRef CppProgram::purpose(rt::KernelOp kernel) const {
  auto found = dispatches.find(kernel.getSymName());
  if (found != dispatches.end())
    for (rt::DispatchOp dispatch : found->second)
      if (auto work = dispatch.getWork())
        return work->getOp();
  return "";
}
