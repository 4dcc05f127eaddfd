// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of many rows of 8-bit activations with 4- and 8-bit weights by the
// tile registers of Intel AMX: Intel SDM, volume 1, chapter 18. CUDA has none,
// but a warp that keeps such tiles in its registers multiplies them by `mma`.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_AMXPRODUCT_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_AMXPRODUCT_H

#include "codegen/Conversion/DeepSeekToRT/IntegerProduct.h"

namespace hadal {

/// Multiplies 16 rows at a time by tiles of one weight, or of a gate and an up.
/// The bits are those of `multiplyIntegerTiles`: sums of a group are exact, and
/// what follows in f32 is the same in the same order.
///
/// Per item, which has the tiles of `groupsAtOnce` groups at most, as many rows
/// as `stateRows` go through all of k in pieces of `pieceElements`. For each
/// piece, weights of fewer bits become bytes once, in the first- or
/// second-level cache, and then blocks of 16 rows are copied side by side, each
/// for all tiles of the item.
class AMXProduct {
public:
  using Value = mlir::Value;

  /// Makes what the product keeps on the stack: to be called where the kernel
  /// begins. Groups are of \p perGroup out of \p tiles tiles of each of \p
  /// weights weights, which are of \p shape. None if the target has no tile
  /// registers, or pieces of k are not whole groups.
  static std::optional<AMXProduct>
  get(KernelBuilder &b, const KernelOptions &options, const IntegerShape &shape,
      int64_t weights, int64_t tiles, int64_t perGroup);

  /// Groups of tiles that an item may have.
  int64_t groupsAtOnce() const { return atOnce; }

  /// Multiplies as many of the first entries as fill blocks, the last at least
  /// by half; returns the first entry that is left.
  Value multiply(KernelBuilder &b, const IntegerItem &item) const;

private:
  AMXProduct(KernelBuilder &b, const KernelOptions &options,
             const IntegerShape &shape, int64_t weights, int64_t perGroup,
             int64_t atOnce);

  /// A piece of k, [begin, begin + size) in elements.
  struct Piece {
    Value begin, size;
  };
  /// A tile in bytes: of a piece alone, or where it is stored, from column
  /// `begin` on.
  struct TileBytes {
    Value address, begin; ///< `begin` is null for a piece.
    /// Columns of a record, or 0, and bytes from one to the next.
    int64_t record = 0, recordBytes = 0;

    /// Where column \p k of the piece is, from the address on.
    Value offsetOf(KernelBuilder &b, Value k) const;
  };
  using Post =
      llvm::function_ref<KernelBuilder::Values(Value group, ValueList carried)>;

  int64_t ratio() const { return shape.group / shape.activationGroup; }
  /// True if a weight's scales come once, after all of k.
  bool isPerChannel() const {
    return shape.group == shape.inner && ratio() > 1;
  }
  int64_t pieceElements() const;
  /// Rows whose sums are kept from piece to piece.
  int64_t stateRows() const { return (isShared ? 64 : 256) / weights; }

  void configure(KernelBuilder &b) const;
  void unpack(KernelBuilder &b, const IntegerItem &item, Piece piece) const;
  void copyRows(KernelBuilder &b, const IntegerItem &item, Value begin,
                Piece piece) const;
  void multiplyPiece(KernelBuilder &b, const IntegerItem &item, int64_t weight,
                     Value tile, Value block, Piece piece) const;
  void store(KernelBuilder &b, const IntegerItem &item, Value block,
             Value begin) const;
  KernelBuilder::Values chain(KernelBuilder &b, const TileBytes &tile,
                              Value first, Value count, ValueList carried,
                              Post post) const;
  void sumGroup(KernelBuilder &b, const TileBytes &tile, Value group) const;

  IntegerShape shape;
  /// True if what is kept is in the shared memory of a GPU, which is less than
  /// a second-level cache.
  bool isShared;
  int64_t mostElements; ///< Of k, in a piece.
  int64_t weights, tiles, atOnce;
  /// `[weights * tiles, k / 4, 64]` in i8: weights of fewer bits as bytes. Null
  /// for those of 8.
  Value bytes;
  Value rows;       ///< `[k / 64, 16, 16]` in i32: 64 bytes of each row.
  Value rowScales;  ///< `[16, groups]` in f32.
  Value groupSums;  ///< `[16, 16]` in i32: of one group, tile by row.
  Value state;      ///< `[blocks, weights * tiles, 16, 16]` in f32.
  Value tileConfig; ///< `[64]` in i8.
};

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_AMXPRODUCT_H
