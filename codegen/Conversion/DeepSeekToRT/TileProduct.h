// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tiles of a packed matrix times rows of activations: the loops that linear
// ops and experts share.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_TILEPRODUCT_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_TILEPRODUCT_H

#include "codegen/Conversion/DeepSeekToRT/Kernels.h"

namespace hadal {

/// A packed weight in a kernel: `[.., tiles, k, 16]`, with the index of the
/// leading dimension (expert or head) if it has one.
struct TiledWeight {
  using Value = mlir::Value;

  Value memref;
  Value leading;
  Value scales;
  int64_t inner;

  /// Sixteen rows of column \p k of a tile, widened to f32. For FP8, \p scale
  /// carries the block scale.
  Value column(KernelBuilder &b, Value tile, Value k, Value scale) const;
  /// Columns \p k and \p k + 1 of a tile of bf16, in pairs: `vector<16xi32>`.
  Value columnPair(KernelBuilder &b, Value tile, Value k) const;
  Value blockScale(KernelBuilder &b, Value tile, Value block) const;
  /// Sixteen rows of column \p k of a tile, as they are stored.
  Value stored(KernelBuilder &b, Value tile, Value k) const;
  /// Bytes of one column of a tile.
  int64_t columnBytes() const;
  /// Asks for the column of a tile that is \p bytes after column \p k; past
  /// its end, for the first columns of the tile \p next after it.
  void prefetch(KernelBuilder &b, Value tile, Value k, int64_t bytes,
                int64_t next) const;
};

/// How far ahead of a product with one row its weights are asked for, unless
/// hardware follows them: it is as fast as memory, and hardware stops at the
/// end of each page.
constexpr int64_t prefetchBytes = 2048;

/// Into the second-level cache: the first has few misses under way at a time.
constexpr unsigned prefetchLocality = 2;

/// Where the rows of activations are read from.
struct Rows {
  using Value = mlir::Value;

  Value memref;
  /// Column of \p memref at which the inner dimension starts; may be null.
  Value columnOffset;
  /// Whether inputs are rounded to bf16: \p memref has pairs of them in i32, as
  /// `KernelSet::roundRows` makes them, or f32 that a GPU rounds.
  bool isBF16 = false;
  /// What multiplies pairs: see `KernelOptions`.
  bool bf16Pairs = false, bf16Dots = false;

  /// \p memref as a product with \p bf16Inputs takes it.
  static Rows get(const KernelOptions &options, Value memref, bool bf16Inputs) {
    return {memref, Value(), bf16Inputs, options.bf16Pairs, options.bf16Dots};
  }

  Value element(KernelBuilder &b, Value row, Value k) const {
    Value column = columnOffset ? b.add(columnOffset, k) : k;
    return b.load(memref, {row, column});
  }
};

using ValueList = llvm::ArrayRef<mlir::Value>;

/// Products of \p rows with the tiles of \p weights: for weight w, tile u and
/// row m, accumulator (w * tiles + u) * rows + m. Every accumulator is one
/// chain over k in order, whatever the number of rows and tiles; or over pairs
/// of columns, as `PairProduct` or `addBF16Dots` add them, of rows in bf16.
KernelBuilder::Values multiplyTiles(KernelBuilder &b,
                                    const KernelOptions &options,
                                    llvm::ArrayRef<TiledWeight> weights,
                                    ValueList tiles, const Rows &input,
                                    ValueList rows);

/// Products with tiles of gate and of up, \p weights, made by \p multiply of
/// both
/// \p atOnce, as suits a single row, which waits for memory, or of one after
/// the other: as suits more rows, whose sums take all registers, and memory of
/// which hardware follows one stream.
template <typename Weight>
KernelBuilder::Values multiplyGateAndUp(
    llvm::ArrayRef<Weight> weights, bool atOnce,
    llvm::function_ref<KernelBuilder::Values(llvm::ArrayRef<Weight>)>
        multiply) {
  if (atOnce)
    return multiply(weights);
  KernelBuilder::Values sums;
  for (const Weight &weight : weights)
    sums.append(multiply(weight));
  return sums;
}

/// Stores `KernelBuilder::gated` for the tiles and rows of \p sums, gates
/// before ups.
void storeGated(KernelBuilder &b, ValueList sums, ValueList tiles,
                ValueList rows, mlir::Value out, int64_t columns, bool isPadded,
                std::optional<double> limit);

/// Calls \p body with blocks of rows [first, last): as many of the first of
/// \p sizes as there are, then of the next, down to single ones. It runs once
/// per size at compile time, many times at run time.
void forRowBlocks(KernelBuilder &b, mlir::Value first, mlir::Value last,
                  llvm::ArrayRef<int64_t> sizes,
                  llvm::function_ref<void(ValueList)> body);

/// Calls \p body with the tiles of group \p group: \p perItem of them, or,
/// in a last group that has fewer, one at a time.
void forTilesOfItem(KernelBuilder &b, mlir::Value group, int64_t tiles,
                    int64_t perItem, llvm::function_ref<void(ValueList)> body);

/// Stores one tile's results; past \p columns only where the row is padded.
void storeTile(KernelBuilder &b, mlir::Value vector, mlir::Value out,
               mlir::Value row, mlir::Value columnOffset, mlir::Value tile,
               int64_t columns, bool isPadded);

/// The same for the \p sums of all \p tiles and \p rows, those of a tile
/// together.
void storeTiles(KernelBuilder &b, ValueList sums, ValueList tiles,
                ValueList rows, mlir::Value out, mlir::Value columnOffset,
                int64_t columns, bool isPadded);

/// Sizes of row blocks whose accumulators \p registers hold, \p chains tiles to
/// a row; largest first, down to 1.
llvm::SmallVector<int64_t> rowBlocks(int64_t registers, int64_t chains);

/// True if rows of \p type hold a whole last tile.
bool hasPaddedRows(mlir::Type type, int64_t columns);

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_TILEPRODUCT_H
