// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels as functions.

#ifndef HADAL_CODEGEN_CPP_KERNELEMITTER_H
#define HADAL_CODEGEN_CPP_KERNELEMITTER_H

#include "codegen/Cpp/BodyEmitter.h"
#include "codegen/Cpp/CppProgram.h"

namespace hadal {

/// Writes an `rt.kernel` as a function of C++.
class KernelEmitter : public BodyEmitter {
public:
  KernelEmitter(CppWriter &writer, const CppProgram &program,
                bool sharesLanes = false)
      : BodyEmitter(writer, sharesLanes), program(program) {}

  mlir::LogicalResult emit(rt::KernelOp kernel);

protected:
  /// What a kernel is given, and its name.
  struct Argument {
    mlir::Value value;
    std::string name;
    /// Of a buffer: "const bf16"; empty: it is a number.
    std::string element;
  };

  /// Opens the function and names what it is called with.
  virtual mlir::LogicalResult open(rt::KernelOp kernel,
                                   llvm::ArrayRef<Argument> arguments);
  mlir::LogicalResult emitOther(mlir::Operation *op) override;

  const CppProgram &program;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CPP_KERNELEMITTER_H
