// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The file: tables of weights, kernels, host functions and the model.

#include "codegen/Cpp/EmitCpp.h"

#include "codegen/Cpp/HostEmitter.h"
#include "codegen/Cpp/KernelEmitter.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;
using namespace hadal;

LogicalResult hadal::prepareForCpp(ModuleOp module) {
  PassManager passes = PassManager::on<ModuleOp>(module.getContext());
  passes.addPass(createCanonicalizerPass());
  passes.addPass(createCSEPass());
  return passes.run(module);
}

LogicalResult hadal::emitCpp(ModuleOp module, const EmitCppOptions &options,
                             llvm::raw_ostream &stream) {
  CppProgram program(module.getContext());
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
  CppNames names = program.globalNames();
  auto make = [&](const CppParts &parts) {
    return std::make_unique<KernelEmitter>(writer, program, parts);
  };
  for (auto kernel : module.getOps<rt::KernelOp>()) {
    const CppParts whole;
    if (options.isRead
            ? !emitDivided(writer, kernel, program, names, make)
            : failed(KernelEmitter(writer, program, whole).emit(kernel)))
      return failure();
  }
  HostOptions host;
  if (failed(emitHostFunctions(writer, program, names, host)))
    return failure();
  return emitModel(writer, program, options.symbol, host);
}
