// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Passes and pipelines that turn a model into code.

#ifndef HADAL_CODEGEN_PASSES_H
#define HADAL_CODEGEN_PASSES_H

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
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

void registerLowerToLLVMPipeline();

/// Registers the passes and the pipelines of this folder.
inline void registerHadalCodegenPasses() {
  registerCodegenPasses();
  registerLowerToLLVMPipeline();
}

} // namespace hadal

#endif // HADAL_CODEGEN_PASSES_H
