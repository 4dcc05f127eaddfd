// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// mlir-opt with Hadal's dialects, passes and pipelines.

#include "codegen/Passes.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/Reference/Passes.h"
#include "dialects/ONNX/IR/ONNXOps.h"
#include "dialects/RT/IR/RTOps.h"
#include "lib/Compiler/Passes.h"
#include "lib/Import/ONNX/Passes.h"
#include "passes/Passes.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  registry.insert<hadal::deepseek::DeepSeekDialect, hadal::onnx::ONNXDialect,
                  hadal::rt::RTDialect>();

  mlir::registerAllPasses();
  hadal::deepseek::registerDeepSeekReferencePasses();
  hadal::registerDeepSeekPasses();      // passes/
  hadal::onnx::registerONNXPasses();    // lib/Import/ONNX/
  hadal::registerHadalCodegenPasses();  // codegen/
  hadal::registerHadalCompilerPasses(); // lib/Compiler/

  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "Hadal optimizer\n", registry));
}
