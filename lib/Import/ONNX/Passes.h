// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Passes on the graph of an ONNX file.

#ifndef HADAL_IMPORT_ONNX_PASSES_H
#define HADAL_IMPORT_ONNX_PASSES_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace hadal::onnx {

#define GEN_PASS_DECL
#include "lib/Import/ONNX/Passes.h.inc"

/// Defines `registerONNXPasses`.
#define GEN_PASS_REGISTRATION
#include "lib/Import/ONNX/Passes.h.inc"

/// What -onnx-fuse-idioms does.
llvm::LogicalResult fuseIdioms(mlir::func::FuncOp graph);

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_PASSES_H
