// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// mlir-reduce with Hadal's dialects and passes: makes a module that shows a bug
// small.

#include "codegen/Passes.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/RT/IR/RTOps.h"
#include "passes/Passes.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Tools/mlir-reduce/MlirReduceMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  registry.insert<hadal::deepseek::DeepSeekDialect, hadal::rt::RTDialect>();
  mlir::registerAllPasses();
  hadal::registerDeepSeekPasses();
  hadal::registerHadalCodegenPasses();
  mlir::MLIRContext context(registry);
  return mlir::failed(mlir::mlirReduceMain(argc, argv, context));
}
