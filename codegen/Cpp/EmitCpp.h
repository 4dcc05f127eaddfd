// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From a module of the rt dialect with planned memory to C++ source.

#ifndef HADAL_CODEGEN_CPP_EMITCPP_H
#define HADAL_CODEGEN_CPP_EMITCPP_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/raw_ostream.h"

#include <string>

namespace hadal {

struct EmitCppOptions {
  /// What the file includes first: the header that declares `symbol`.
  std::string header;
  /// Name of the model's constant, an identifier of C.
  std::string symbol = "hadal_model";
  /// Lines of the comment at the top.
  std::string preamble;
  /// Whether people read it: kernels that are longer than a screen are divided
  /// into functions. For kernels that are blocked for many registers that takes
  /// long, and makes nothing short.
  bool isRead = true;
};

/// Brings a module into the form that reads well: constants where they are
/// used, nothing computed twice. Exact.
mlir::LogicalResult prepareForCpp(mlir::ModuleOp module);

/// Writes \p module as one file of C++17 for g++ 12 and clang 22, which needs
/// `hadal_rt/kernels.h` alone: a function a kernel and a host function, a table
/// of weight offsets a layer function, and the constant `hadal_rt_model_t`.
/// Operations become the same operations, in the same order, so that a program
/// computes what the LLVM backend's does.
///
/// Fails with a diagnostic at the first op that it has no words for; \p stream
/// may then hold a part.
mlir::LogicalResult emitCpp(mlir::ModuleOp module,
                            const EmitCppOptions &options,
                            llvm::raw_ostream &stream);

} // namespace hadal

#endif // HADAL_CODEGEN_CPP_EMITCPP_H
