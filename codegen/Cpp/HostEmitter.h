// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The host program in C++: a list of dispatches in functions.

#ifndef HADAL_CODEGEN_CPP_HOSTEMITTER_H
#define HADAL_CODEGEN_CPP_HOSTEMITTER_H

#include "codegen/Cpp/CppProgram.h"

namespace hadal {

/// How a host program calls what is not in it.
struct HostOptions {
  /// What stands before the name of a kernel in a dispatch.
  std::string kernelScope;
  /// HADAL_RT_CPU_* bits, an expression.
  std::string features = "HADAL_CPU_FEATURES";
  /// What ends the model's constant: who keeps what a session has.
  std::string device = "nullptr, // It runs on the processor.";
  /// Bytes of the arena beside those of the memory plan.
  int64_t scratchBytes = 0;
};

/// Writes the host functions of \p program that its entry needs, callees
/// first, each with the table of its weights. One that is longer than a screen
/// is divided into those of the model's modules. \p names has those of the
/// file.
mlir::LogicalResult emitHostFunctions(CppWriter &writer,
                                      const CppProgram &program,
                                      CppNames &names,
                                      const HostOptions &options);

/// Ends the anonymous namespace with the manifest, and defines the constant
/// \p symbol of the model, whose step is the entry of \p program.
mlir::LogicalResult emitModel(CppWriter &writer, const CppProgram &program,
                              llvm::StringRef symbol,
                              const HostOptions &options);

} // namespace hadal

#endif // HADAL_CODEGEN_CPP_HOSTEMITTER_H
