// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Passes and pipelines that turn a model into code.

#ifndef HADAL_CODEGEN_PASSES_H
#define HADAL_CODEGEN_PASSES_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassOptions.h"

#include "codegen/DotProductKind.h"
#include "dialects/RT/IR/RTOps.h"

namespace hadal {

#define GEN_PASS_DECL
#include "codegen/Passes.h.inc"

/// Defines `registerCodegenPasses`, which registers every pass of this folder.
#define GEN_PASS_REGISTRATION
#include "codegen/Passes.h.inc"

struct LowerToLLVMOptions
    : public mlir::PassPipelineOptions<LowerToLLVMOptions> {
  Option<std::string> symbol{*this, "symbol",
                             llvm::cl::desc("Name of the model's symbol"),
                             llvm::cl::init("hadal_model")};
  Option<std::string> lesser{
      *this, "lesser",
      llvm::cl::desc("Symbol of the model for lesser processors; empty: none"),
      llvm::cl::init("")};
};

/// Appends `-hadal-lower-to-llvm`: a module with planned memory becomes one of
/// the llvm dialect alone.
void buildLowerToLLVMPipeline(mlir::OpPassManager &passes,
                              const LowerToLLVMOptions &options);

struct LowerGraphToLLVMOptions
    : public mlir::PassPipelineOptions<LowerGraphToLLVMOptions> {
  Option<std::string> symbol{*this, "symbol",
                             llvm::cl::desc("Name of the graph's symbol"),
                             llvm::cl::init("hadal_graph")};
};

/// Appends `-hadal-bufferize-graph`: a function of tensors becomes one of
/// loops over buffers, which takes its results as arguments.
void buildBufferizeGraphPipeline(mlir::OpPassManager &passes);

/// Appends `-hadal-lower-graph-to-llvm`: a graph with planned memory becomes a
/// module of the llvm dialect alone.
void buildLowerGraphToLLVMPipeline(mlir::OpPassManager &passes,
                                   const LowerGraphToLLVMOptions &options);

/// Adds to \p registry what bufferization needs to know of the dialects of a
/// graph.
void registerGraphDialects(mlir::DialectRegistry &registry);

void registerLowerToLLVMPipeline();
void registerGraphPipelines();

/// Registers the passes and the pipelines of this folder.
inline void registerHadalCodegenPasses() {
  registerCodegenPasses();
  registerLowerToLLVMPipeline();
  registerGraphPipelines();
}

} // namespace hadal

#endif // HADAL_CODEGEN_PASSES_H
