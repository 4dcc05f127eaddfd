// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the graph of a decoder consists of, once all of it has been proven.

#ifndef HADAL_IMPORT_ONNX_GRAPHMATCHER_H
#define HADAL_IMPORT_ONNX_GRAPHMATCHER_H

#include "dialects/ONNX/IR/ONNXOps.h"
#include "lib/Import/HuggingFace/Config.h"

#include "absl/status/statusor.h"

#include <optional>
#include <vector>

namespace hadal::onnx {

/// Rows of a matrix `[rows, columns]` that a graph multiplies by, and of the
/// bias that it adds.
struct Matrix {
  InitializerOp tensor;
  InitializerOp bias;
  /// Set if `tensor` holds packed integers: the MatMulNBits that they are of.
  NodeOp packed;
  /// Set if it holds integers that this DequantizeLinear makes numbers of.
  NodeOp quantized;
  /// The tensor is `[columns, storedRows]`.
  bool isTransposed = false;
  int64_t storedRows = 0, columns = 0;
  int64_t firstRow = 0, rows = 0;
  /// Rows of so many heads are in the order of rotation by neighbors.
  int64_t interleavedHeads = 0;
};

struct DecoderLayer {
  InitializerOp inputNorm, attentionNorm;
  Matrix q, k, v, o, gate, up, down;
};

struct Decoder {
  InitializerOp embedding, norm;
  Matrix head;
  std::vector<DecoderLayer> layers;
  int64_t heads = 0, kvHeads = 0, headDim = 0;
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
