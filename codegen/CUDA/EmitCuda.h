// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From a module of the rt dialect with planned memory to CUDA source.

#ifndef HADAL_CODEGEN_CUDA_EMITCUDA_H
#define HADAL_CODEGEN_CUDA_EMITCUDA_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/raw_ostream.h"

#include <string>

namespace hadal {

struct EmitCudaOptions {
  /// What the host program includes first: the header that declares `symbol`.
  std::string header;
  /// Name of the file of the kernels, which emulation includes.
  std::string deviceFile;
  /// Name of the model's constant, an identifier of C.
  std::string symbol = "hadal_model";
  /// The first comment of both files.
  std::string preamble;
};

/// Writes \p module, which `prepareForCpp` has prepared, as two files: to
/// \p device one of CUDA C++ with a `__global__` function a kernel, for nvcc
/// with `-fmad=false`; to \p host one of C++17 with the host functions, the
/// tables of weights and the model, which needs no CUDA.
///
/// A vector's lanes are those of 16 threads, which take a work item together;
/// operations are those of the C++ source, in the same order. What kernels keep
/// to themselves is in shared memory, or where that is too small in the arena,
/// whose fixed part the model then has more of.
///
/// Fails with a diagnostic at the first op that it has no words for; the
/// streams may then hold parts.
mlir::LogicalResult emitCuda(mlir::ModuleOp module,
                             const EmitCudaOptions &options,
                             llvm::raw_ostream &device,
                             llvm::raw_ostream &host);

} // namespace hadal

#endif // HADAL_CODEGEN_CUDA_EMITCUDA_H
