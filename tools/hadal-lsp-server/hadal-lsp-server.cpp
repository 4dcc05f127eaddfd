// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The MLIR language server, with Hadal's dialects: completion, diagnostics and
// go to definition in an editor.

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/ONNX/IR/ONNXOps.h"
#include "dialects/RT/IR/RTOps.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/InitAllDialects.h"
#include "mlir/Tools/mlir-lsp-server/MlirLspServerMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  registry.insert<hadal::deepseek::DeepSeekDialect, hadal::onnx::ONNXDialect,
                  hadal::rt::RTDialect>();
  return mlir::failed(mlir::MlirLspServerMain(argc, argv, registry));
}
