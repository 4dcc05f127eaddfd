// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the functions of a program in C++ are called, and what is known of them
// before any is written.

#ifndef HADAL_CODEGEN_CPP_CPPPROGRAM_H
#define HADAL_CODEGEN_CPP_CPPPROGRAM_H

#include "codegen/Cpp/CppWriter.h"
#include "codegen/Cpp/Words.h"
#include "dialects/RT/IR/RTOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"

#include <map>

namespace hadal {

/// A weight that a function is called with: a column of its table.
struct WeightColumn {
  unsigned argument;
  std::string name;
  mlir::Type type;
};

/// A host function that is called once a layer.
struct LayerFunction {
  mlir::func::FuncOp function;
  llvm::SmallVector<mlir::func::CallOp> calls;
  llvm::SmallVector<WeightColumn> weights; ///< Empty: there is no table.
  std::string name;

  /// True if argument \p number is a weight, which the table has.
  bool isInTable(unsigned number) const {
    return llvm::any_of(weights, [&](const WeightColumn &column) {
      return column.argument == number;
    });
  }
};

/// Names of the whole file, and what is known of it before it is written.
class CppProgram {
public:
  explicit CppProgram(mlir::MLIRContext *context) : knownWords(context) {}

  mlir::LogicalResult read(mlir::ModuleOp module);

  /// The one rt.program of the module.
  rt::ProgramOp getOp() const { return op; }
  std::string kernelName(llvm::StringRef symbol) const {
    return kernelNames.lookup(symbol);
  }
  const LayerFunction &function(llvm::StringRef symbol) const {
    return functions.find(symbol)->second;
  }
  /// The constant that is \p offset, of a weight; "": only tables have it.
  std::string weightName(int64_t offset) const {
    auto found = weights.find(offset);
    return found == weights.end() ? "" : found->second.first;
  }
  void emitWeights(CppWriter &writer) const;
  /// What a kernel's argument is, by what it is dispatched with.
  std::string argumentName(rt::KernelOp kernel, unsigned index) const;
  /// What the kernel of \p dispatch calls \p buffer that it is given, if it
  /// gives its arguments names, or "".
  std::string givenName(rt::DispatchOp dispatch, mlir::Value buffer) const;
  /// The op of the model that \p kernel is part of, or "".
  llvm::StringRef purpose(rt::KernelOp kernel) const;
  /// What a host function's value is called in the model, or "".
  std::string traceName(mlir::Value value, unsigned depth = 0) const;
  /// True if a host function's \p value is a weight.
  bool isWeight(mlir::Value value, unsigned depth = 0) const;
  /// True if a kernel that it is given to writes a host function's \p buffer.
  bool isWritten(mlir::Value buffer, unsigned depth = 0) const;
  bool isWritten(rt::DispatchOp dispatch, mlir::Value buffer) const;

  /// Names that all functions see.
  const CppNames &globalNames() const { return names; }
  const CppWords &words() const { return knownWords; }

private:
  llvm::StringRef shortenKernelName(llvm::StringRef symbol) const;
  /// What the first caller gives for an argument of a host function, or null.
  mlir::Value traceArgument(mlir::Value value) const;

  CppWords knownWords;
  rt::ProgramOp op;
  CppNames names;
  llvm::StringMap<std::string> kernelNames;
  llvm::MapVector<llvm::StringRef, LayerFunction> functions;
  llvm::StringMap<llvm::SmallVector<rt::DispatchOp>> dispatches;
  llvm::StringMap<rt::KernelOp> kernels;
  /// Weights that no table has, by offset: name and type.
  std::map<int64_t, std::pair<std::string, mlir::Type>> weights;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CPP_CPPPROGRAM_H
