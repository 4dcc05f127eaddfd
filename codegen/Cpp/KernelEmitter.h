// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels as functions.

#ifndef HADAL_CODEGEN_CPP_KERNELEMITTER_H
#define HADAL_CODEGEN_CPP_KERNELEMITTER_H

#include "codegen/Cpp/BodyEmitter.h"
#include "codegen/Cpp/CppProgram.h"

#include <memory>

namespace hadal {

/// Writes an `rt.kernel` as a function of C++.
class KernelEmitter : public BodyEmitter {
public:
  KernelEmitter(CppWriter &writer, const CppProgram &program,
                const CppParts &parts, bool sharesLanes = false)
      : BodyEmitter(writer, program, parts, sharesLanes) {}

  mlir::LogicalResult emit(rt::KernelOp kernel);
  /// Lines of the kernel's own function, without its comment.
  unsigned kernelLines() const { return ownLines; }
  /// True if \p op may be in another function than the kernel's.
  virtual bool canBeInPart(mlir::Operation *op) const;

protected:
  std::string partQualifier() const override { return "HADAL_INLINE "; }

  /// What a kernel is given, and its name.
  struct Argument {
    mlir::Value value;
    std::string name;
    /// Of a buffer: "const bf16"; empty: it is a number.
    std::string element;
  };

  /// Writes what has to stand before the function and its comment.
  virtual mlir::LogicalResult declare(rt::KernelOp kernel) {
    return mlir::success();
  }
  /// Opens the function and names what it is called with.
  virtual mlir::LogicalResult open(rt::KernelOp kernel,
                                   llvm::ArrayRef<Argument> arguments);
  mlir::LogicalResult emitOther(mlir::Operation *op) override;

private:
  unsigned ownLines = 0;
};

/// Writes \p kernel, divided into functions of at most a screen's length where
/// that can be, by an emitter that \p make makes. \p names has those of the
/// file. Returns that emitter, or null.
std::unique_ptr<KernelEmitter> emitDivided(
    CppWriter &writer, rt::KernelOp kernel, const CppProgram &program,
    CppNames &names,
    llvm::function_ref<std::unique_ptr<KernelEmitter>(const CppParts &)> make);

} // namespace hadal

#endif // HADAL_CODEGEN_CPP_KERNELEMITTER_H
