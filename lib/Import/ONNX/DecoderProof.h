// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The state of a proof that a graph is a decoder, and its steps.

#ifndef HADAL_IMPORT_ONNX_DECODERPROOF_H
#define HADAL_IMPORT_ONNX_DECODERPROOF_H

#include "lib/Import/ONNX/Evaluator.h"
#include "lib/Import/ONNX/GraphMatcher.h"
#include "lib/Import/ONNX/RopeTable.h"

#include "llvm/ADT/DenseSet.h"

namespace hadal::onnx {

/// Nodes that move elements of `source` and no more, and what comes of it.
struct Movement {
  mlir::Value source, result;
  llvm::SmallVector<NodeOp> chain;
};

/// `Evaluator::trace` of \p movement.
inline ArrayPtr trace(Evaluator &evaluator, const Movement &movement) {
  return evaluator.trace(movement.source, movement.chain, movement.result);
}

/// Whether the attribute `axis` of \p node is the last dimension of \p array.
inline bool isLastAxis(NodeOp node, int64_t fallback, const Array *array) {
  int64_t axis = getInt(node, "axis", fallback);
  return axis == -1 || (array && axis + 1 == int64_t(array->shape.size()));
}

/// How elements of heads get their rotated values.
struct Rotation {
  NodeOp node;
  /// Of what is rotated; `high` and `low` are the halves that are swapped.
  Movement input, high, low;
  /// Broadcast to what is rotated; of a RotaryEmbedding, which has no halves,
  /// `[batch, tokens, pairs]`, or tables of which `positions` take rows.
  mlir::Value cosine, sine, positions;
  bool isFused = false;
};

/// In which order elements of heads are.
enum class HeadLayout {
  Heads,      ///< [batch, heads, tokens, dim]
  Transposed, ///< [batch, heads, dim, tokens]
  Rows        ///< [batch, tokens, heads * dim]
};

/// Heads that attention takes, and how they are stored.
struct HeadsOperand {
  mlir::Value value;
  HeadLayout layout;
  bool isCached; ///< Those of the past come first.
  int64_t heads;
};

/// Heads `[batch, heads, tokens, nope + rope]` that a node joins of two parts.
struct JoinedHeads {
  bool isKey = false;
  Movement outer, nope, rope;
  Rotation rotation;
  NodeOp join;

  mlir::Value nopeSource() const { return nope.source; }
  mlir::Value ropeSource() const { return rotation.input.source; }
};

/// Calls \p check with elements of heads `[batch, heads, tokens, dim]`: all of
/// the first and the last head of a short step, and some of the others.
bool forElements(
    const Lengths &lengths, int64_t heads, int64_t dim,
    llvm::function_ref<bool(int64_t, int64_t, int64_t, int64_t)> check);

class DecoderProof {
public:
  DecoderProof(mlir::func::FuncOp graph, llvm::StringRef folder,
               llvm::StringRef path,
               const std::optional<huggingface::RopeConfig> &rope)
      : graph(graph), path(path), files(folder), givenRope(rope) {}

  absl::StatusOr<Decoder> match();

private:
  using Evaluators = std::vector<std::unique_ptr<Evaluator>>;

  bool ok() const { return status.ok(); }
  /// Says that \p value should have been \p expected. Always false.
  bool refuse(mlir::Value value, const llvm::Twine &expected);
  bool refuse(const llvm::Twine &message);

  bool chooseLengths();
  /// \p lengths, as far as the graph leaves them open.
  Lengths limitLengths(Lengths lengths) const;
  Evaluator &small(size_t i = 0) { return *evaluators[i]; }
  Evaluator &large() { return *evaluators.back(); }

  NodeOp nodeOf(mlir::Value value, llvm::StringRef type = "");
  InitializerOp initializerOf(mlir::Value value);
  mlir::Value strip(mlir::Value value);
  mlir::Value peel(mlir::Value value, double &scale);
  std::optional<double> scalarOf(mlir::Value value);
  bool keepsRows(NodeOp node);
  Movement walk(mlir::Value value);

  /// \p operands of \p node, DequantizeLinear: integers, scales, and zero
  /// points or null. Blocks, or parts, are along \p axis.
  bool matchQuantized(NodeOp node, llvm::ArrayRef<mlir::Value> operands,
                      int64_t axis, bool isTransposed, Matrix &matrix);
  bool matchQuantized(NodeOp node, bool isTransposed, Matrix &matrix) {
    return matchQuantized(
        node, {getOperand(node, 0), getOperand(node, 1), getOperand(node, 2)},
        getInt(node, "axis", 1), isTransposed, matrix);
  }
  InitializerOp bytesOf(mlir::Value value);
  bool isZero(mlir::Value value);
  bool matchTensor(mlir::Value value, Matrix &matrix);
  bool matchLinear(mlir::Value value, Matrix &matrix, mlir::Value &input);
  bool matchPacked(NodeOp node, Matrix &matrix);
  /// \p value, what \p matrix is multiplied with, before it is rounded.
  mlir::Value beforeRounding(mlir::Value value, Matrix &matrix);
  bool takeColumns(NodeOp node, mlir::Value result, Matrix &matrix,
                   mlir::Value &input);
  bool matchNormOf(NodeOp node, InitializerOp &weight, mlir::Value &input);
  bool matchNorm(mlir::Value value, InitializerOp &weight, mlir::Value &input);
  bool matchResidual(mlir::Value value, mlir::Value &residual, Matrix &last,
                     mlir::Value &input);
  bool matchGated(mlir::Value value, DecoderLayer &layer, mlir::Value &input);
  bool matchSecondNorm(mlir::Value input, mlir::Value residual,
                       DecoderLayer &layer);
  bool matchNetwork(mlir::Value value, mlir::Value &residual,
                    DecoderLayer &layer);
  bool matchAttention(mlir::Value input, mlir::Value residual,
                      DecoderLayer &layer);
  /// Queries, keys and values, in this order, are projections of \p inputs,
  /// which must all be the norm of \p residual that the layer begins with.
  bool matchInputNorm(mlir::Value attended, llvm::ArrayRef<mlir::Value> inputs,
                      mlir::Value residual, DecoderLayer &layer);
  bool matchGroupQuery(NodeOp node, mlir::Value residual, DecoderLayer &layer);
  bool matchProducts(mlir::Value input, mlir::Value residual,
                     DecoderLayer &layer);
  /// \p operand, in \p layout, holds \p heads of a projection, which \p matrix
  /// then has the rows of. With \p isCached, those of the past come first.
  bool matchHeads(mlir::Value operand, HeadLayout layout, bool isCached,
                  bool isRotated, int64_t heads, Matrix &matrix,
                  mlir::Value &input);
  bool matchProjections(mlir::Value result,
                        llvm::ArrayRef<HeadsOperand> operands,
                        DecoderLayer &layer, mlir::Value (&inputs)[3]);
  bool matchOperator(NodeOp node, const Movement &outer, mlir::Value residual,
                     DecoderLayer &layer);
  int64_t rowOf(Evaluator &evaluator, Rotation &rotation, int64_t index);
  Angle angleOf(Evaluator &evaluator, Rotation &rotation, int64_t index);
  bool matchMerged(const Movement &outer, mlir::Value value, int64_t heads,
                   int64_t dim);
  bool matchRotation(mlir::Value value, Rotation &rotation);
  bool matchSwap(mlir::Value value, Rotation &rotation);
  bool matchMask(mlir::Value mask, bool isCondition, bool isInverted);
  bool setHeads(mlir::Value value, int64_t heads, int64_t kvHeads, int64_t dim);
  bool setRope(const RopeTable &table, mlir::Value value);
  bool checkCaches(mlir::Value cosine, mlir::Value sine, mlir::Value value);
  bool matchPackedTable(NodeOp node, Matrix &matrix);
  bool matchTakenRows(NodeOp node, mlir::Value &tokens, Matrix &matrix);
  bool matchEmbedding(mlir::Value value);

  // Of experts, in MatchExperts.cpp.
  NodeOp findExperts(mlir::Value value, double &scale);
  bool isMixture(mlir::Value value);
  bool matchMixture(mlir::Value value, DecoderLayer &layer, mlir::Value &input);
  bool matchFusedExperts(NodeOp node, Mixture &mixture, mlir::Value &input);
  bool matchFusedMatrix(NodeOp node, unsigned weights, unsigned scales,
                        unsigned zeros, int64_t rows, int64_t columns,
                        Matrix &matrix);
  bool matchFusedRouter(NodeOp node, mlir::Value weights, Mixture &mixture,
                        mlir::Value &input);

  // Of experts that are written out, in MatchRouting.cpp.
  Movement walkRows(mlir::Value value);
  bool isWrittenMixture(NodeOp node);
  bool makeChoices(NodeOp top, mlir::Value weights, Evaluators &made);
  bool matchChoice(NodeOp top, mlir::Value weights, Mixture &mixture,
                   mlir::Value &input, Evaluators &made);
  bool matchGroups(NodeOp top, Mixture &mixture, mlir::Value &choice);
  bool matchRule(NodeOp top, mlir::Value weights, Mixture &mixture,
                 mlir::Value &input);
  bool matchLogits(mlir::Value logits, Mixture &mixture, mlir::Value &input);
  bool matchWeighted(mlir::Value value, mlir::Value &expert,
                     mlir::Value &weight);
  bool matchScattered(mlir::Value value, Mixture &mixture, mlir::Value &input);
  bool matchTaken(mlir::Value value, NodeOp top, const Evaluators &made,
                  Matrix &matrix, mlir::Value &input);
  bool matchGathered(mlir::Value value, Mixture &mixture, mlir::Value &input);
  bool matchWrittenExperts(NodeOp node, Mixture &mixture, mlir::Value &input);

  // Of latent attention, in MatchLatent.cpp.
  bool matchLatent(NodeOp product, mlir::Value queries, mlir::Value keys,
                   double scale, mlir::Value residual, DecoderLayer &layer);
  NodeOp findJoin(mlir::Value operand);
  bool joinParts(NodeOp last);
  bool joinAllParts();
  bool proveJoined(Evaluator &evaluator, JoinedHeads &side, int64_t heads,
                   const huggingface::LatentConfig &latent);
  bool matchLatentNorm(mlir::Value value, InitializerOp &weight,
                       mlir::Value &input);

  mlir::func::FuncOp graph;
  llvm::StringRef path;
  TensorFiles files;
  std::optional<huggingface::RopeConfig> givenRope;
  /// Lengths that the graph fixes; 0, or -1 of the past, where it does not.
  Lengths fixed{0, 0, -1};
  bool hasPast = false;
  Evaluators evaluators;
  /// The graph before choices are made up, by tokens: for the sizes of those.
  llvm::DenseMap<int64_t, std::unique_ptr<Evaluator>> choiceSizes;
  absl::Status status;
  Decoder decoder;
  bool hasEpsilon = false, hasRope = false;
  RopeFormula formula;
  /// Constants that were taken for tensors of the file.
  llvm::DenseMap<mlir::Value, InitializerOp> smallTensors;
  llvm::DenseSet<mlir::Value> provenMasks;
  llvm::DenseSet<std::pair<mlir::Value, mlir::Value>> provenCaches;
};

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_DECODERPROOF_H
