// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Statements and expressions of one function.

#ifndef HADAL_CODEGEN_CPP_BODYEMITTER_H
#define HADAL_CODEGEN_CPP_BODYEMITTER_H

#include "codegen/Cpp/CppProgram.h"

#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

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

/// Lines of a function that still fits a screen.
constexpr unsigned mostFunctionLines = 60;

/// Ops of one block, one after the other, that are a function of their own.
struct CppPart {
  std::string name;
  mlir::Operation *last;
};
/// By their first ops.
using CppParts = llvm::MapVector<mlir::Operation *, CppPart>;

/// True if \p op is one of those from \p first to \p last, or in one.
bool isBetween(mlir::Operation *op, mlir::Operation *first,
               mlir::Operation *last);

/// Writes the ops of a region, in order. An op that is used once becomes part
/// of the expression that uses it, unless that changed what it reads.
class BodyEmitter {
public:
  /// With \p sharesLanes the lanes of a vector are those of threads: vectors
  /// are classes, and what is stored is seen by all. \p parts outlive this.
  BodyEmitter(CppWriter &writer, const CppProgram &program,
              const CppParts &parts, bool sharesLanes = false)
      : writer(writer), program(program), sharesLanes(sharesLanes),
        parts(parts) {}
  virtual ~BodyEmitter() = default;

  /// True if something is stored in \p memref.
  static bool isWritten(mlir::Value memref);

  /// Looks for idioms and counts uses in \p region; first.
  void analyze(mlir::Region &region);
  mlir::LogicalResult emitBlock(mlir::Block &block);

  /// Text of the functions of parts, callees first.
  llvm::ArrayRef<std::string> partTexts() const { return functions; }
  /// Lines of the function of a part, without its comment.
  unsigned partLines(mlir::Operation *part) const {
    return functionLines.lookup(part);
  }
  /// Lines that \p op takes where it stands.
  unsigned linesOf(mlir::Operation *op) const { return lines.lookup(op); }
  /// What ops of a block from \p first to \p last read that is computed before
  /// them, but constants.
  llvm::SetVector<mlir::Value> findCaptured(mlir::Operation *first,
                                            mlir::Operation *last) const;
  /// What they compute that is read after them.
  llvm::SmallVector<mlir::Value> findEscaping(mlir::Operation *first,
                                              mlir::Operation *last) const;

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
  /// Makes \p op have a name, however it is used.
  void keepNamed(mlir::Operation *op) { roots.erase(op); }
  /// Writes \p ops, of one block, in order.
  mlir::LogicalResult emitOps(llvm::ArrayRef<mlir::Operation *> ops);
  /// The name of a parameter for what is called \p text outside.
  std::string parameterName(mlir::Value value, llvm::StringRef text);
  /// Parameters of a function beside what it reads, and what they are given.
  using Given = llvm::SmallVector<std::pair<std::string, std::string>>;
  /// What is written as a function of its own.
  struct Outlined {
    mlir::Operation *part; ///< Whose lines are counted, or null.
    std::string name;
    llvm::ArrayRef<mlir::Value> captured; ///< What it reads; its parameters.
    llvm::ArrayRef<mlir::Value> results;  ///< What it computes for others.
    CppNames names;                       ///< That are taken in it.
    Given given;
  };
  /// Writes the function, which \p body fills, behind those before it, and
  /// calls it.
  mlir::LogicalResult
  emitOutlined(const Outlined &outlined,
               llvm::function_ref<bool(mlir::Value)> isWrittenThere,
               llvm::function_ref<mlir::LogicalResult()> body);
  /// What stands before the type of a function.
  virtual std::string partQualifier() const { return ""; }
  /// Parameters of the function of a part besides.
  virtual Given givenTo(mlir::Operation *first, mlir::Operation *last) const {
    return {};
  }

  CppWriter &writer;
  const CppProgram &program;
  CppNames names;
  const bool sharesLanes;

  /// "x + 256 * row + k": where \p indices are in \p memref.
  std::string address(mlir::Value memref, mlir::ValueRange indices);

private:
  llvm::SmallVector<mlir::Value> operandsOf(mlir::Operation *op) const;
  void analyzeBlock(mlir::Block &block);
  bool canMove(mlir::Operation *op, mlir::Operation *user) const;
  bool isYielded(mlir::Operation *op) const;
  mlir::LogicalResult emitOp(mlir::Operation *op);
  mlir::LogicalResult emitPart(mlir::Operation *first, const CppPart &named);
  bool isRead(mlir::Value value,
              llvm::function_ref<bool(mlir::Operation *)> by) const;
  bool isSmallSum(mlir::Operation *op);
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

  const CppParts &parts;
  mlir::Operation *part = nullptr; ///< Whose function is written.
  llvm::SmallVector<std::string> functions;
  llvm::DenseMap<mlir::Operation *, unsigned> functionLines, lines;
  /// What long ones take that a variable is assigned at the end of a block.
  llvm::DenseMap<mlir::Operation *, unsigned> yieldedLines;
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
