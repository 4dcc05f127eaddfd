// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the rules that lower nodes of a graph to linalg have in common.

#ifndef HADAL_IMPORT_ONNX_GRAPHLOWERING_H
#define HADAL_IMPORT_ONNX_GRAPHLOWERING_H

#include "lib/Import/ONNX/Evaluator.h"

#include "mlir/Dialect/Utils/StructuredOpsUtils.h"
#include "mlir/IR/AffineMap.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringSet.h"

namespace hadal::onnx {

/// A tensor of static shape that the function computes.
struct Lowered {
  mlir::Value value;
  /// As ONNX has it, with its sign: `ui8`. That of `value` is signless.
  mlir::Type element;

  explicit operator bool() const { return bool(value); }
  mlir::RankedTensorType getType() const {
    return llvm::cast<mlir::RankedTensorType>(value.getType());
  }
  llvm::ArrayRef<int64_t> getShape() const { return getType().getShape(); }
  int64_t getRank() const { return getType().getRank(); }
  int64_t dim(int64_t axis) const { return getShape()[size_t(axis)]; }
  bool isFloat() const { return llvm::isa<mlir::FloatType>(element); }
  bool isUnsigned() const {
    return element.isUnsignedInteger() || element.isInteger(1);
  }
};

/// Whether tensors of a graph may have such elements.
bool isElement(mlir::Type type);

/// Builds arithmetic on elements. Operands of one call have one type.
class Scalars {
public:
  Scalars(mlir::OpBuilder &builder, mlir::Location loc)
      : builder(builder), loc(loc) {}

  mlir::Value real(double value, mlir::Type type);
  mlir::Value integer(int64_t value, mlir::Type type);
  mlir::Value index(int64_t value) {
    return integer(value, builder.getIndexType());
  }
  /// Zero of a float or an integer.
  mlir::Value zero(mlir::Type type);

  template <typename Op, typename... Args> mlir::Value make(Args... args) {
    return Op::create(builder, loc, args...);
  }
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, mlir::Value y);
  /// Of floats.
  mlir::Value div(mlir::Value x, mlir::Value y);
  /// Of floats: NaN if one is.
  mlir::Value max(mlir::Value x, mlir::Value y, bool isUnsigned = false);
  mlir::Value min(mlir::Value x, mlir::Value y, bool isUnsigned = false);
  /// \p name: "eq", "ne", "lt", "le", "gt" or "ge". Ordered, but for "ne".
  mlir::Value compare(llvm::StringRef name, mlir::Value x, mlir::Value y,
                      bool isUnsigned = false);
  mlir::Value select(mlir::Value condition, mlir::Value x, mlir::Value y);
  mlir::Value both(mlir::Value x, mlir::Value y);
  mlir::Value either(mlir::Value x, mlir::Value y);
  /// 1 / (1 + exp(-x)).
  mlir::Value sigmoid(mlir::Value x);
  /// Element \p x of type \p from as one of \p to, both with their signs.
  /// Numbers beyond the range of integers become its ends, NaN 0.
  mlir::Value cast(mlir::Value x, mlir::Type from, mlir::Type to);
  /// The same, for integers that wrap around.
  mlir::Value toIndex(mlir::Value x);

  mlir::OpBuilder &builder;
  mlir::Location loc;
};

using ScalarBody = llvm::function_ref<mlir::Value(Scalars &, mlir::ValueRange)>;

/// Lowers the nodes of a graph, one by one, in order.
class GraphLowering {
public:
  GraphLowering(mlir::OpBuilder &builder, Evaluator &evaluator, int64_t opset)
      : builder(builder), evaluator(evaluator), opset(opset),
        loc(builder.getUnknownLoc()) {}

  void define(mlir::Value value, Lowered lowered);
  Lowered lookup(mlir::Value value) const { return values.lookup(value); }
  /// Null if the node leaves it out.
  Lowered input(unsigned i) const;
  /// On failure `message` says why.
  mlir::LogicalResult lower(NodeOp op);
  static bool isKnown(llvm::StringRef type);
  /// Whether any check has failed at run time: an i1.
  mlir::Value getFailure();

  std::string message;

  // What rules are made of.

  mlir::LogicalResult fail(const llvm::Twine &text) {
    message = text.str();
    return mlir::failure();
  }
  mlir::LogicalResult set(unsigned i, Lowered result);
  mlir::LogicalResult set(Lowered result) { return set(0, result); }
  mlir::LogicalResult set(mlir::Value value, mlir::Type element) {
    return set(0, {value, element});
  }

  // Attributes, which count as read, and operands.
  mlir::Attribute getParameter(llvm::StringRef name) {
    readParameters.insert(name);
    return node.getParameters().get(name);
  }
  int64_t getInt(llvm::StringRef name, int64_t fallback) {
    readParameters.insert(name);
    return onnx::getInt(node, name, fallback);
  }
  double getFloat(llvm::StringRef name, double fallback) {
    readParameters.insert(name);
    return onnx::getFloat(node, name, fallback);
  }
  std::optional<llvm::SmallVector<int64_t>> getInts(llvm::StringRef name) {
    readParameters.insert(name);
    return onnx::getInts(node, name);
  }
  llvm::StringRef getString(llvm::StringRef name, llvm::StringRef fallback);
  bool has(unsigned i) const { return bool(getOperand(node, i)); }
  /// Integers that are known now.
  std::optional<llvm::SmallVector<int64_t>> integers(unsigned i);
  /// The attribute \p name, or operand \p i. Empty where both are left out.
  mlir::FailureOr<std::optional<llvm::SmallVector<int64_t>>>
  integersOf(llvm::StringRef name, unsigned i);
  mlir::FailureOr<int64_t> axisOf(int64_t axis, int64_t rank,
                                  bool allowEnd = false);
  /// The attribute `axis`, counted from the first of \p rank dimensions.
  mlir::FailureOr<int64_t> readAxis(int64_t fallback, int64_t rank,
                                    bool allowEnd = false) {
    return axisOf(getInt("axis", fallback), rank, allowEnd);
  }
  mlir::LogicalResult normalizeAxes(llvm::MutableArrayRef<int64_t> axes,
                                    int64_t rank);
  mlir::LogicalResult checkShape(llvm::ArrayRef<int64_t> shape);
  mlir::FailureOr<llvm::SmallVector<int64_t>>
  broadcast(llvm::ArrayRef<Lowered> operands);

  // Tensors.
  mlir::Type storage(mlir::Type element) const;
  mlir::RankedTensorType tensor(llvm::ArrayRef<int64_t> shape,
                                mlir::Type element) const {
    return mlir::RankedTensorType::get(shape, storage(element));
  }
  mlir::Value empty(llvm::ArrayRef<int64_t> shape, mlir::Type element);
  mlir::Value filled(llvm::ArrayRef<int64_t> shape, mlir::Type element,
                     mlir::Value scalar);
  Scalars scalars() { return Scalars(builder, loc); }
  mlir::Value generic(llvm::ArrayRef<mlir::Value> inputs,
                      llvm::ArrayRef<mlir::AffineMap> maps,
                      llvm::ArrayRef<mlir::utils::IteratorType> iterators,
                      mlir::Value init, ScalarBody body);
  /// One element of the result for one of each operand, which are broadcast to
  /// \p shape. Floats of fewer than 32 bits are f32 within \p body, whose
  /// result is rounded to \p element.
  Lowered map(llvm::ArrayRef<Lowered> operands, llvm::ArrayRef<int64_t> shape,
              mlir::Type element, ScalarBody body);
  /// Each element from its indices.
  Lowered generate(llvm::ArrayRef<int64_t> shape, mlir::Type element,
                   ScalarBody body);
  /// Element [..] of the result is that of \p source at \p access.
  Lowered view(Lowered source, llvm::ArrayRef<int64_t> shape,
               mlir::AffineMap access);
  Lowered transpose(Lowered source, llvm::ArrayRef<int64_t> order);
  Lowered reshape(Lowered source, llvm::ArrayRef<int64_t> shape);
  Lowered expand(Lowered source, llvm::ArrayRef<int64_t> shape);
  Lowered slice(Lowered source, llvm::ArrayRef<int64_t> offsets,
                llvm::ArrayRef<int64_t> sizes);
  Lowered insert(Lowered part, Lowered into, llvm::ArrayRef<int64_t> offsets);
  /// One behind the other along \p axis; all else has to be alike.
  Lowered join(llvm::ArrayRef<Lowered> parts, int64_t axis);
  /// Parts of \p source along \p axis, at indices that are within it.
  Lowered gather(Lowered source, Lowered indices, int64_t axis);
  Lowered convert(Lowered source, mlir::Type element);
  /// Integers of a tensor of type \p type, of fewer than 8 bits, from the
  /// bytes that hold them, the lowest bits first; each becomes a byte.
  Lowered unpack(Lowered bytes, mlir::RankedTensorType type);
  Lowered splat(double value, mlir::Type element,
                llvm::ArrayRef<int64_t> shape = {});
  mlir::Value extract(mlir::Value tensor, mlir::ValueRange indices);
  /// Sums and the like over \p axes, which stay with size 1. Computed in f32
  /// if the elements are narrower floats; the result is of that type.
  Lowered reduce(Lowered source, llvm::ArrayRef<int64_t> axes, double init,
                 ScalarBody body);
  Lowered reduceWith(Lowered source, llvm::ArrayRef<int64_t> axes,
                     mlir::TypedAttr init, ScalarBody body);
  Lowered mean(Lowered source, llvm::ArrayRef<int64_t> axes);
  /// Of \p x, in f32 or f64.
  Lowered softmax(Lowered x, int64_t axis, bool isLog);
  /// Products over the last axis of \p a and the one before it of \p b, with
  /// batches broadcast; sums are of type \p sum.
  mlir::FailureOr<Lowered> matmul(Lowered a, Lowered b, mlir::Type sum);
  /// The wider of float types: f32 for those of fewer bits.
  mlir::Type computeType(mlir::Type element) const;
  /// Fails at run time where \p bad, of i1 elements, has one that is set.
  void check(Lowered bad);
  /// Indices within [0, size): negative ones count from the end, and others
  /// make the run fail.
  Lowered checkedIndices(Lowered indices, int64_t size);

  mlir::OpBuilder &builder;
  Evaluator &evaluator;
  int64_t opset;
  mlir::Location loc;
  NodeOp node;
  llvm::StringSet<> readParameters; ///< By the rule of `node`.
  llvm::DenseMap<mlir::Value, Lowered> values;
  llvm::SmallVector<mlir::Value> failures; ///< Scalars of i1.
};

/// Integers of 8 bits that DequantizeLinear makes numbers of, less their zero
/// points, as i32, and the scales that they are multiplied by: one, or a
/// vector.
struct IntegerFactor {
  Lowered integers, scales;
};

/// Operands \p i and \p j of the node as such factors of f32, of which the
/// second may have a scale for each part along \p axis. None if they are
/// something else, or if sums of \p terms products may exceed i32.
mlir::FailureOr<std::optional<std::pair<IntegerFactor, IntegerFactor>>>
readFactors(GraphLowering &g, unsigned i, unsigned j, int64_t axis,
            int64_t terms);

/// \p sums of products of \p factors as numbers; parts of the second factor
/// are along \p axis.
Lowered scaleSums(GraphLowering &g, Lowered sums,
                  const std::pair<IntegerFactor, IntegerFactor> &factors,
                  int64_t axis);

/// How one operator is lowered.
using LowerRule = mlir::LogicalResult (*)(GraphLowering &);

/// Null if it is not known here.
LowerRule findElementwiseRule(llvm::StringRef type);
LowerRule findMovementRule(llvm::StringRef type);
LowerRule findReductionRule(llvm::StringRef type);
LowerRule findProductRule(llvm::StringRef type);
LowerRule findAttentionRule(llvm::StringRef type);
LowerRule findWindowRule(llvm::StringRef type);

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_GRAPHLOWERING_H
