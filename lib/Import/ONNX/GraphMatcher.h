// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the graph of a decoder consists of, once all of it has been proven.

#ifndef HADAL_IMPORT_ONNX_GRAPHMATCHER_H
#define HADAL_IMPORT_ONNX_GRAPHMATCHER_H

#include "dialects/ONNX/IR/ONNXOps.h"
#include "lib/Import/HuggingFace/Config.h"
#include "lib/Import/HuggingFace/TensorStore.h"

#include "absl/status/statusor.h"

#include <optional>
#include <vector>

namespace hadal::onnx {

/// Rows of a matrix `[rows, columns]` that a graph multiplies by, and of the
/// bias that it adds.
struct Matrix {
  InitializerOp tensor;
  InitializerOp bias;
  /// Of integers: a number is (integer - zero) * scale. Zeros may be null.
  InitializerOp scales, zeros;
  /// Columns that have a scale of their own.
  int64_t block = 0;
  /// Which of a row's scales a column has; null: those of its block.
  InitializerOp order;
  /// One scale for all.
  bool hasOneScale = false;
  /// Of how many bits an integer is, where bytes hold several or it is less
  /// half their range: those of MatMulNBits and QMoE. 0: elements are numbers.
  int64_t packedBits = 0;
  /// Zeros are packed along the rows of all, not along the blocks of a row.
  bool hasZeroColumn = false;
  /// The tensor is `[columns, storedRows]`.
  bool isTransposed = false;
  int64_t storedRows = 0, columns = 0;
  /// Of those that are stored, every `rowStep`-th from `firstRow` on.
  int64_t firstRow = 0, rowStep = 1, rows = 0;
  /// Rows of so many heads are in the order of rotation by neighbors.
  int64_t interleavedHeads = 0;
  /// What the graph rounds what it multiplies with to.
  std::optional<huggingface::InputGrid> inputGrid;
  /// Tensors have so many of these in their first dimension; 0: they are one.
  int64_t experts = 0;

  /// Whether both are the same rows of the same tensors.
  bool isSame(const Matrix &other) const {
    auto keyOf = [](const Matrix &m) {
      return std::tuple(m.tensor, m.bias, m.scales, m.zeros, m.block, m.order,
                        m.packedBits, m.isTransposed, m.firstRow, m.rowStep,
                        m.rows);
    };
    return keyOf(*this) == keyOf(other);
  }
};

/// Experts, of which a router chooses some for each token, and their shared
/// part, which is a feed-forward network.
struct Mixture {
  /// Number, routing and what cuts off; `sharedExperts` is 1 or 0, of the width
  /// that the matrices have.
  huggingface::MoEConfig config;
  Matrix router;
  InitializerOp correction;
  /// One of all experts, or one of each.
  std::vector<Matrix> gate, up, down;
};

struct DecoderLayer {
  InitializerOp inputNorm, attentionNorm;
  /// With latent attention, q is expanded from qLatent, if there is one, and
  /// keys and values from kvLatent.
  Matrix q, k, v, o;
  Matrix qLatent, kvLatent, kvExpansion;
  InitializerOp qNorm, kvNorm;
  /// Of the feed-forward network, or of the shared part of a mixture.
  Matrix gate, up, down;
  std::optional<Mixture> mixture;
};

struct Decoder {
  InitializerOp norm;
  Matrix embedding, head;
  std::vector<DecoderLayer> layers;
  int64_t heads = 0, kvHeads = 0, headDim = 0;
  std::optional<huggingface::LatentConfig> latent;
  double epsilon = 0;
  huggingface::RopeConfig rope;
  /// Positions that tables of the graph reach to; 0 for any.
  int64_t maxPositions = 0;
};

/// Matches \p graph, whose idioms have been fused. Files of its initializers
/// are in \p folder; \p path starts messages. \p rope is what the configuration
/// says, if there is one; it must be what the graph computes.
///
/// kUnimplemented: names the first node that could not be matched.
/// kInvalidArgument: the graph contradicts \p rope.
absl::StatusOr<Decoder>
matchDecoder(mlir::func::FuncOp graph, llvm::StringRef folder,
             llvm::StringRef path,
             const std::optional<huggingface::RopeConfig> &rope);

} // namespace hadal::onnx

#endif // HADAL_IMPORT_ONNX_GRAPHMATCHER_H
