// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Statements and expressions of one function.

#ifndef HADAL_CODEGEN_CPP_BODYEMITTER_H
#define HADAL_CODEGEN_CPP_BODYEMITTER_H

#include "codegen/Cpp/CppWriter.h"

#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"

#include <optional>

namespace hadal {

/// C++ that computes a value.
struct CppExpression {
  /// How tightly it binds: what binds less than its place needs parentheses.
  enum Binding { Choice, Comparison, Bits, Sum, Product, Unary, Primary };

  std::string text;
  Binding binding = Primary;

  std::string at(Binding least) const {
    return binding < least ? "(" + text + ")" : text;
  }
};

/// Operations that a word of `hadal_rt/kernels.h` stands for.
struct CppIdiom {
  llvm::StringRef callee;
  llvm::SmallVector<mlir::Value> operands;
  /// What is in it beside the operation itself, and used by it alone.
  llvm::SmallVector<mlir::Operation *> parts;
};

/// The idiom that ends with \p op.
std::optional<CppIdiom> findIdiom(mlir::Operation *op);

/// Writes the ops of a region, in order. An op that is used once becomes part
/// of the expression that uses it, unless that changed what it reads.
class BodyEmitter {
public:
  /// With \p sharesLanes the lanes of a vector are those of threads: vectors
  /// are classes, and what is stored is seen by all.
  BodyEmitter(CppWriter &writer, bool sharesLanes = false)
      : writer(writer), sharesLanes(sharesLanes) {}
  virtual ~BodyEmitter() = default;

  /// True if something is stored in \p memref.
  static bool isWritten(mlir::Value memref);

  /// Looks for idioms and counts uses in \p region; first.
  void analyze(mlir::Region &region);
  mlir::LogicalResult emitBlock(mlir::Block &block);

protected:
  /// Writes \p op, for which there is no expression.
  virtual mlir::LogicalResult emitOther(mlir::Operation *op) = 0;
  /// What \p value should be called: "position", or "" for no opinion.
  virtual std::string hint(mlir::Value value);
  /// Writes what has to stand before \p loop.
  virtual void beforeLoop(mlir::Operation *loop) {}
  /// What \p load, of a vector, is.
  virtual std::string loadVector(mlir::Operation *load);
  /// The statement that declares the buffer \p name of \p type.
  virtual std::string declareBuffer(llvm::StringRef name,
                                    mlir::MemRefType type);

  bool isUsed(mlir::Value value) const { return useCounts.lookup(value) != 0; }
  CppExpression get(mlir::Value value);
  std::string text(mlir::Value value,
                   CppExpression::Binding least = CppExpression::Choice) {
    return get(value).at(least);
  }
  void bind(mlir::Value value, CppExpression expression) {
    expressions[value] = std::move(expression);
  }
  /// Declares a constant for \p value, or keeps \p expression for its use.
  void define(mlir::Value value, CppExpression expression);

  CppWriter &writer;
  CppNames names;
  const bool sharesLanes;

  /// "x + 256 * row + k": where \p indices are in \p memref.
  std::string address(mlir::Value memref, mlir::ValueRange indices);

private:
  llvm::SmallVector<mlir::Value> operandsOf(mlir::Operation *op) const;
  void analyzeBlock(mlir::Block &block);
  bool canMove(mlir::Operation *op, mlir::Operation *user) const;
  mlir::LogicalResult emitOp(mlir::Operation *op);
  mlir::LogicalResult emitFor(mlir::Operation *op);
  mlir::LogicalResult emitIf(mlir::Operation *op);
  mlir::LogicalResult emitStore(mlir::Operation *op);
  /// An expression for an op of one result; nothing: there is no word for it.
  std::optional<CppExpression> express(mlir::Operation *op);
  CppExpression expressConstant(mlir::Attribute value, mlir::Type type);
  CppExpression infix(mlir::Operation *op, llvm::StringRef sign,
                      CppExpression::Binding binding);
  CppExpression call(llvm::StringRef callee, mlir::ValueRange operands);
  /// An operand beside a vector: a splat of f32 may be the number itself.
  CppExpression lane(mlir::Value value);
  std::string subscript(mlir::Value memref, mlir::ValueRange indices);
  std::string offset(mlir::Value memref, mlir::ValueRange indices);
  void assign(llvm::ArrayRef<std::string> targets, mlir::ValueRange values);
  /// Variables that the expression of \p value reads.
  void addVariables(mlir::Value value, llvm::StringSet<> &into);

  llvm::DenseMap<mlir::Value, CppExpression> expressions;
  llvm::DenseMap<mlir::Value, unsigned> useCounts;
  llvm::DenseMap<mlir::Operation *, CppIdiom> idioms;
  /// Where the statement begins that an op is written with, if not its own.
  llvm::DenseMap<mlir::Operation *, mlir::Operation *> roots;
  llvm::DenseSet<mlir::Operation *> absorbed; ///< Parts of idioms, and dead.
  llvm::DenseSet<mlir::Operation *> inlined;  ///< Without a name.
  llvm::DenseSet<mlir::Value> variables;      ///< Names that are assigned to.
  llvm::DenseMap<mlir::Operation *, unsigned> positions;
  /// Positions of ops that write to memory, by block, in order.
  llvm::DenseMap<mlir::Block *, llvm::SmallVector<unsigned>> writes;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CPP_BODYEMITTER_H
