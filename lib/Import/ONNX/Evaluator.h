// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Computes what a graph says of shapes, positions and masks, for given lengths
// of a step. What depends on tokens or weights has a shape and no numbers.

#ifndef HADAL_IMPORT_ONNX_EVALUATOR_H
#define HADAL_IMPORT_ONNX_EVALUATOR_H

#include "dialects/ONNX/IR/ONNXOps.h"
#include "lib/Support/FileIO.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"

#include <functional>
#include <memory>
#include <optional>

namespace hadal::onnx {

/// How many sequences, tokens of each, and tokens of each before them.
struct Lengths {
  int64_t batch = 1, tokens = 1, past = 0;
};

/// An element, or an index of one: an integer, or a number.
union Number {
  int64_t integer;
  double real;
};

/// A tensor of known shape. Elements are computed when they are asked for,
/// unless they are few.
struct Array {
  llvm::SmallVector<int64_t, 5> shape;
  int64_t count = 0;
  bool isReal = false;
  /// How many arrays an element may go through.
  unsigned depth = 0;
  /// Of element `index` in row-major order. Null: only the shape is known.
  std::function<Number(int64_t index)> compute;
  std::vector<Number> elements;

  int64_t dim(unsigned i) const { return i < shape.size() ? shape[i] : -1; }
  bool isKnown() const { return compute || count == int64_t(elements.size()); }
  Number at(int64_t index) const {
    return elements.empty() ? compute(index) : elements[size_t(index)];
  }
  double real(int64_t index) const {
    return isReal ? at(index).real : double(at(index).integer);
  }
  int64_t integer(int64_t index) const {
    return isReal ? int64_t(at(index).real) : at(index).integer;
  }
};
using ArrayPtr = std::shared_ptr<const Array>;

/// Reads elements of the initializers of a graph from their files.
class TensorFiles {
public:
  explicit TensorFiles(llvm::StringRef folder) : folder(folder.str()) {}

  /// Null if the file cannot be read.
  std::shared_ptr<InputFile> open(llvm::StringRef name);

private:
  std::string folder;
  llvm::StringMap<std::shared_ptr<InputFile>> files;
};

class Evaluator {
public:
  /// Evaluates all nodes of \p graph; of the values in \p given, which nodes
  /// compute, it takes what is said there. The evaluator is not used after the
  /// graph or \p files are gone.
  Evaluator(mlir::func::FuncOp graph, TensorFiles &files, Lengths lengths,
            const llvm::DenseMap<mlir::Value, ArrayPtr> &given =
                llvm::DenseMap<mlir::Value, ArrayPtr>());

  /// Evaluates only constants and initializers, for a graph that is no language
  /// model. Of inputs nothing is known until `setShape` says it; nodes are
  /// evaluated by `evaluateNode`, in order.
  Evaluator(mlir::func::FuncOp graph, TensorFiles &files);
  void evaluateNode(NodeOp op) { evaluate(op); }
  void setShape(mlir::Value value, llvm::ArrayRef<int64_t> shape);

  /// Null if not even the shape of \p value is known.
  const Array *get(mlir::Value value) const {
    return values.lookup(value).get();
  }
  const Lengths &getLengths() const { return lengths; }
  /// The integers of \p value, if they are known and at most 4096.
  std::optional<llvm::SmallVector<int64_t>>
  getIntegers(mlir::Value value) const;

  /// Which element of \p source each element of \p result is, where \p chain,
  /// from the first node to the last, does no more than move elements; -1 for
  /// those of an input of the graph that a node joins to them. Null if it
  /// cannot be told.
  ArrayPtr trace(mlir::Value source, llvm::ArrayRef<NodeOp> chain,
                 mlir::Value result);

private:
  ArrayPtr makeInput(llvm::StringRef name, mlir::RankedTensorType type);
  ArrayPtr makeInitializer(InitializerOp op);
  void evaluateTensor(mlir::Operation &op);
  void evaluate(NodeOp op);
  ArrayPtr evaluateElementwise(NodeOp op, llvm::StringRef type);
  ArrayPtr evaluateShapes(NodeOp op, llvm::StringRef type);
  ArrayPtr evaluateIndexing(NodeOp op, llvm::StringRef type);
  ArrayPtr evaluateMovement(NodeOp op, llvm::StringRef type);
  ArrayPtr evaluateScatter(NodeOp op);
  ArrayPtr evaluateReduction(NodeOp op, llvm::StringRef type);
  ArrayPtr evaluateProduct(NodeOp op, llvm::StringRef type);

  ArrayPtr input(NodeOp op, unsigned i) const {
    return i < op.getInputs().size() ? values.lookup(op.getInputs()[i])
                                     : nullptr;
  }
  std::optional<llvm::SmallVector<int64_t>> integers(NodeOp op,
                                                     unsigned i) const {
    if (i >= op.getInputs().size())
      return std::nullopt;
    return getIntegers(op.getInputs()[i]);
  }
  /// The axes of a node: an attribute of old versions, an input of new ones.
  std::optional<llvm::SmallVector<int64_t>> axesOf(NodeOp op, unsigned i,
                                                   int64_t rank) const;

  TensorFiles &files;
  Lengths lengths;
  llvm::DenseMap<mlir::Value, ArrayPtr> values;
};

/// The element of an array of shape \p from that element \p index of \p to
/// reads, where the first is broadcast to the second; -1 if it cannot be.
int64_t broadcastIndex(int64_t index, llvm::ArrayRef<int64_t> from,
                       llvm::ArrayRef<int64_t> to);

/// An array of \p shape whose elements \p compute gives.
ArrayPtr makeArray(llvm::ArrayRef<int64_t> shape, bool isReal,
                   std::function<Number(int64_t index)> compute);

/// Attributes of nodes.
int64_t getInt(NodeOp op, llvm::StringRef name, int64_t fallback);
llvm::StringRef getText(NodeOp op, llvm::StringRef name,
                        llvm::StringRef fallback);
double getFloat(NodeOp op, llvm::StringRef name, double fallback);
std::optional<llvm::SmallVector<int64_t>> getInts(NodeOp op,
                                                  llvm::StringRef name);

/// An operand that the node has and does not leave out, or null.
mlir::Value getOperand(NodeOp op, unsigned i);

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_EVALUATOR_H
