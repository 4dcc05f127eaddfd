// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What many ops say at length and a reader knows by a name.

#ifndef HADAL_CODEGEN_CPP_WORDS_H
#define HADAL_CODEGEN_CPP_WORDS_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <optional>

namespace hadal {

/// Operations that a word of `hadal_rt/kernels.h` stands for. Each is exact:
/// the word does the same operations in the same order. An op that looks
/// different one day is written out, and is as right.
struct CppIdiom {
  llvm::StringRef callee;
  llvm::SmallVector<mlir::Value> operands;
  /// What is in it beside the operation itself, and used by it alone.
  llvm::SmallVector<mlir::Operation *> parts;
};

/// Functions of a number that `KernelBuilder` writes out, such as e^x.
class CppWords {
public:
  /// Writes each of them out, as `prepareForCpp` leaves it, to compare with.
  explicit CppWords(mlir::MLIRContext *context);

  /// The idiom that ends with \p op.
  std::optional<CppIdiom> find(mlir::Operation *op) const;

private:
  struct Word {
    llvm::StringRef name;
    mlir::Value argument, result;
  };
  std::optional<CppIdiom> match(const Word &word, mlir::Operation *op) const;

  mlir::OwningOpRef<mlir::ModuleOp> module;
  llvm::SmallVector<Word> words;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CPP_WORDS_H
