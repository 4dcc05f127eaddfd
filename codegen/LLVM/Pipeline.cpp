// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The order in which a module becomes one of the llvm dialect alone.

#include "codegen/Passes.h"

#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/UBToLLVM/UBToLLVM.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVMPass.h"
#include "mlir/Conversion/VectorToSCF/VectorToSCF.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

void hadal::buildLowerToLLVMPipeline(OpPassManager &passes,
                                     const LowerToLLVMOptions &options) {
  passes.addPass(createConvertRTToLLVM({options.symbol, options.lesser}));
  {
    // Function by function, so that they are lowered in parallel.
    auto &nested = passes.nest<LLVM::LLVMFuncOp>();
    VectorTransferToSCFOptions transfers;
    transfers.enableFullUnroll();
    nested.addPass(createConvertVectorToSCFPass(transfers));
    nested.addPass(createCanonicalizerPass());
    nested.addPass(createCSEPass());
    nested.addPass(memref::createExpandStridedMetadataPass());
    nested.addPass(createLowerAffinePass());
    nested.addPass(createSCFToControlFlowPass());
    // Sums keep their order; x86vector ops are instructions.
    ConvertVectorToLLVMPassOptions vectors;
    vectors.reassociateFPReductions = false;
    vectors.x86Vector = true;
    nested.addPass(createConvertVectorToLLVMPass(vectors));
  }
  passes.addPass(createFinalizeMemRefToLLVMConversionPass());
  {
    auto &nested = passes.nest<LLVM::LLVMFuncOp>();
    nested.addPass(createConvertIndexToLLVMPass());
    nested.addPass(createConvertMathToLLVMPass());
    nested.addPass(createArithToLLVMConversionPass());
    nested.addPass(createUBToLLVMConversionPass());
  }
  passes.addPass(createConvertControlFlowToLLVMPass());
  passes.addPass(createConvertFuncToLLVMPass());
  passes.addPass(createReconcileUnrealizedCastsPass());
  {
    auto &nested = passes.nest<LLVM::LLVMFuncOp>();
    nested.addPass(createCanonicalizerPass());
    nested.addPass(createCSEPass());
  }
  passes.addPass(createSymbolDCEPass());
}

void hadal::registerLowerToLLVMPipeline() {
  PassPipelineRegistration<LowerToLLVMOptions>(
      "hadal-lower-to-llvm",
      "Lower a module of the rt dialect with planned memory to LLVM",
      buildLowerToLLVMPipeline);
}
