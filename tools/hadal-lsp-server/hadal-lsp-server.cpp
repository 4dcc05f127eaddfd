// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The MLIR language server, with Hadal's dialects: completion, diagnostics, go
// to definition and what an op means, in an editor.

#include "OpDocs.h"

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
  // Static, since --help exits.
  static hadal::lsp::OutputFilter filter;
  return mlir::failed(mlir::MlirLspServerMain(argc, argv, registry));
}
