// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention over the pages of a sequence, as a class that builds the body of a
// kernel; its subclasses differ in what a page holds.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_ATTENTION_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_ATTENTION_H

#include "codegen/Conversion/DeepSeekToRT/CacheElements.h"
#include "codegen/Conversion/DeepSeekToRT/PairProduct.h"
#include "lib/Support/CheckedMath.h"

namespace hadal {

/// The score of a token that is not seen.
constexpr double lowestScore = -1e30;
/// Where a running maximum starts: so far above `lowestScore` that a token that
/// is not seen weighs nothing, also where none has been seen yet.
constexpr double noMaximum = -1e29;

/// The largest number up to \p most that divides \p size.
int64_t largestDivisor(int64_t size, int64_t most);

/// Columns of \p rows, vectors of as many lanes, as rows; a power of two.
KernelBuilder::Values transpose(KernelBuilder &b, KernelBuilder::Values rows);

/// Where a latent is: those of its page, their scales (null without), and the
/// token in the page.
struct LatentPlace {
  mlir::Value latents, scales, token;
};

/// Writes \p count columns of a latent of integers, a group at most, to row \p
/// to of \p wide, in pairs.
void widenLatent(KernelBuilder &b, PairProduct &pairs, PageLayout page,
                 const LatentPlace &place, mlir::Value column, int64_t count,
                 mlir::Value wide, mlir::Value to);

/// The larger of two indices.
mlir::Value maxIndex(KernelBuilder &b, mlir::Value x, mlir::Value y);

/// Which of the units [first, last) of a sequence, pages or segments, are
/// computed: those of the sink, and then from the window on.
class Reach {
  using Value = mlir::Value;

public:
  Reach(KernelBuilder &b, Value first, Value last, int64_t sinks, Value window)
      : count(b.called("count", b.sub(last, first))), b(b), first(first) {
    if (!window)
      return;
    sinkEnd = b.index(sinks);
    begin = maxIndex(b, first, maxIndex(b, window, sinkEnd));
    inSink = b.index(0);
    if (sinks) {
      Value end = b.min(last, sinkEnd);
      inSink = b.sub(maxIndex(b, first, end), first);
    }
    count = b.add(inSink, b.sub(maxIndex(b, begin, last), begin));
  }

  /// Number \p i of those computed.
  Value at(Value i) {
    if (!begin)
      return b.add(first, i);
    Value inWindow = b.sub(b.add(begin, i), inSink);
    return b.select(b.less(i, inSink), b.add(first, i), inWindow);
  }

  Value count;

private:
  KernelBuilder &b;
  Value first, sinkEnd, begin, inSink;
};

/// Attention of a block of rows for a group of heads that share keys. A row's
/// head is a slot: slot = row in block * heads of the group + head in group.
///
/// Each slot has a running maximum, sum and weighted sum of values over the
/// pages of a segment (Milakov & Gimelshein 2018, arXiv:1805.02867). What
/// happens to a slot does not depend on the other slots of the block.
class Attention {
protected:
  using Value = mlir::Value;
  using ValueRange = mlir::ValueRange;
  using Values = KernelBuilder::Values;
  using KernelOp = rt::KernelOp;

public:
  Attention(KernelBuilder &b, KernelOp kernel, PageLayout page,
            AttentionPlan plan, int64_t registers, double scale)
      : b(b), page(page), plan(plan), registers(registers), scale(scale),
        step(kernel.getStep()) {
    lanes = KernelBuilder::lanesFor(page.valueDim);
    int64_t padded = roundUp(plan.slots, KernelBuilder::maxLanes);
    b.setTile("rows", plan.blockRows);
    b.setTile("heads", plan.groupHeads);
    sums = b.stack({plan.slots, page.valueDim}, b.getF32Type(), "sums");
    corrections = b.stack(padded, b.getF32Type(), "corrections");
    counts = b.stack(padded, b.getI32Type(), "counts");
    maxima = b.stack(padded, b.getF32Type(), "maxima");
    if (plan.isWindowed())
      starts = b.stack(padded, b.getI32Type(), "starts");
    if (plan.segments) {
      mergedMaxima = b.stack(padded, b.getF32Type(), "merged_maxima");
      mergedTotals = b.stack(padded, b.getF32Type(), "merged_totals");
    }
  }
  virtual ~Attention() = default;

  /// The buffers that rows are read from and written to.
  Value positions, sequences, layer, out;
  /// Rows that another kernel computes are not 0 in it; null if there are none.
  Value runs;

  /// Items are blocks of rows of each group.
  void attendBlocks(KernelOp kernel, Value rows, Value blockRows);
  /// Items are strands of segments of each group of each row.
  void attendSegments(KernelOp kernel, Value partials, Value stats);

protected:
  /// Reads the queries of rows [row, row + count).
  virtual void readQueries() = 0;
  /// Resets what a subclass keeps over a segment.
  virtual void beginSegment() = 0;
  /// \p nextPage is the index of the page after it, or its own.
  virtual void attendPage(Value pageIndex, Value nextPage) = 0;
  /// The sum of weights of a slot, in the segment.
  virtual Value totalOf(Value slot) = 0;

  /// body(first, n) for [0, count) in tiles, the largest first; \p count is at
  /// most \p most.
  void tiled(Value count, int64_t most, llvm::ArrayRef<int64_t> sizes,
             llvm::function_ref<void(Value, int64_t)> body);
  /// body(column, vectors) for all columns of a value.
  void valueTiles(int64_t vectors,
                  llvm::function_ref<void(Value, int64_t)> body);
  void attend();
  void attendPages(Value segment, Value pages);
  void attendSegment(Value firstPage, Value lastPage);
  void mergeSegment(Value segment, Value isFirst);
  void finish(bool isMerged);
  Value rowOf(Value slot) { return b.add(row, b.div(slot, plan.groupHeads)); }
  Value headOf(Value slot) {
    return b.called("head", b.add(b.mul(group, plan.groupHeads),
                                  b.rem(slot, plan.groupHeads)));
  }
  Value countOf(Value slot) { return b.toIndex(b.load(counts, slot)); }
  /// Tokens up to the one of \p ofRow, or how many of them are selected.
  Value contextOf(Value ofRow) {
    Value count = b.add(b.toIndex(b.load(positions, ofRow)), 1);
    return plan.selectedTokens ? b.min(count, b.index(plan.selectedTokens))
                               : count;
  }
  /// The first token of the window of a token that sees \p count.
  Value startOf(Value count) {
    return b.sub(count, b.min(count, b.index(plan.windowTokens)));
  }
  /// The lowest score instead of \p score for tokens before \p start, but not
  /// for the sink. Of indices, or of vectors of i32.
  Value maskWindow(Value score, Value token, Value start) {
    Value hidden = b.f32(lowestScore, score.getType());
    if (plan.sinkTokens) {
      Value sinks = b.index(plan.sinkTokens);
      if (auto vector = mlir::dyn_cast<mlir::VectorType>(token.getType()))
        sinks = b.broadcast(b.toI32(sinks), vector.getDimSize(0));
      hidden = b.select(b.less(token, sinks), score, hidden);
    }
    return b.select(b.less(token, start), hidden, score);
  }
  /// Tokens of the page from token \p seen on that \p count tokens have.
  Value validIn(Value count, Value seen) {
    return b.called("valid", b.min(b.index(page.pageTokens),
                                   b.sub(count, b.min(count, seen))));
  }
  void fill(Value memref, int64_t size, double value) {
    int64_t width = KernelBuilder::lanesFor(size);
    b.loop(b.index(0), b.index(size), width, [&](Value i) {
      b.storeVector(b.f32(value, b.vectorType(width)), memref, i);
    });
  }
  Value partOf(Value pageIndex, PageLayout::Part part) {
    Value sequence = b.toIndex(b.load(sequences, row));
    return pagePart(b, step, sequence, pageIndex, layer, page, part);
  }
  int64_t paddedSlots() const {
    return roundUp(plan.slots, KernelBuilder::maxLanes);
  }
  bool isWide() const { return registers >= 32; }

  KernelBuilder &b;
  PageLayout page;
  AttentionPlan plan;
  int64_t registers;
  double scale;
  int64_t lanes;
  Value step;
  // Of the block; the most tokens that one sees, the first page of windows.
  Value row, rows, group, slots, mostSeen, windowPage;
  // Per slot.
  Value sums, corrections, counts, starts, maxima, mergedMaxima, mergedTotals;
};

/// Lanes are tokens: a page has its keys transposed. Rows of a block share a
/// sequence, so that all slots share keys and values; or those of each side do,
/// of a single row.
class HeadsAttention : public Attention {
  /// Slots from which on a page that is not f32 is widened once for all.
  static constexpr int64_t fewSlots = 8;

public:
  HeadsAttention(KernelBuilder &b, KernelOp kernel, PageLayout page,
                 AttentionPlan plan, int64_t registers, double scale,
                 int64_t sides)
      : Attention(b, kernel, page, plan, registers, scale), sides(sides),
        sideHeads(plan.groupHeads / sides) {
    query = b.stack({plan.slots, page.keyDim}, b.getF32Type(), "query");
    scores = b.stack({plan.slots, page.pageTokens}, b.getF32Type(), "scores");
    totals = b.stack({plan.slots, KernelBuilder::maxLanes}, b.getF32Type(),
                     "totals");
    newMaxima = b.stack(paddedSlots(), b.getF32Type(), "new_maxima");
    if (!page.isF32() && sides == 1 && plan.slots >= fewSlots) {
      mlir::Type f32 = b.getF32Type();
      wideKeys = b.stack({1, page.keyDim, page.pageTokens}, f32, "wide_keys");
      wideValues =
          b.stack({1, page.pageTokens, page.valueDim}, f32, "wide_values");
    }
    fill(newMaxima, paddedSlots(), lowestScore);
  }

  Value queries;

protected:
  void readQueries() override;
  void beginSegment() override;
  void attendPage(Value pageIndex, Value nextPage) override;
  Value totalOf(Value slot) override {
    return b.sumLanes(
        b.loadVector(totals, {slot, b.index(0)}, KernelBuilder::maxLanes));
  }

private:
  /// A part of a page, of which a head is read, or one of each side from that
  /// on, and what is asked for meanwhile: that of \p kvHead on of `next`.
  struct Source {
    Value part, head, next, kvHead;
    llvm::ArrayRef<int64_t> tileSizes;
  };
  /// Slots that are computed at a time: \p slots of each of \p sides.
  struct Tile {
    Value side, slot;
    int64_t sides, slots;
    int64_t size() const { return sides * slots; }
  };
  /// body(tile) for all slots. A tile has as many sides as \p most slots allow.
  void tiles(const Source &source, llvm::function_ref<int64_t(int64_t)> most,
             llvm::function_ref<void(const Tile &)> body);
  Value slotOf(const Tile &tile, int64_t side, int64_t slot) {
    Value first =
        sides == 1 ? tile.slot
                   : b.add(b.mul(b.add(tile.side, side), sideHeads), tile.slot);
    return b.add(first, slot);
  }
  /// The key head of \p side of \p tile, where that of side 0 is \p first.
  Value sideOf(Value first, const Tile &tile, int64_t side) {
    return sides == 1 ? first : b.add(b.add(first, tile.side), side);
  }
  void score(const Source &keys, Value seen);
  void scoreTile(const Source &keys, Value seen, const Tile &tile);
  void weigh();
  void addValues(const Source &values, Value seen);
  void addValueTile(const Source &values, Value seen, const Tile &tile,
                    Value firstColumn, int64_t vectors);
  /// Writes a head of \p source, `[outer, inner]`, to \p to in f32.
  void widenPart(const Source &source, Value to, int64_t outer, int64_t inner);
  /// Asks for \p count elements of what is next, from element \p linear of
  /// \p kvHead on.
  void prefetchNext(const Source &source, Value kvHead, Value linear,
                    int64_t count);
  /// Slots that are computed at a time, of many or of few.
  llvm::ArrayRef<int64_t> tileSizes(bool isFew = false) const {
    static constexpr int64_t wide[] = {8, 4, 1}, few[] = {4, 2, 1},
                             narrow[] = {2, 1};
    if (!isWide())
      return narrow;
    return isFew ? few : wide;
  }

  int64_t sides, sideHeads;
  Value query, scores, totals, newMaxima, wideKeys, wideValues;
  /// Of the page: scales of keys and values, for 8 bits.
  Value keyScales, valueScales, kvHeadOfPage;
};

/// Lanes are heads: latents are shared by all, and are their own values.
class LatentAttention : public Attention {
public:
  LatentAttention(KernelBuilder &b, KernelOp kernel, PageLayout page,
                  AttentionPlan plan, const KernelOptions &options,
                  double scale, int64_t ropeStride)
      : Attention(b, kernel, page, plan, options.registers, scale),
        heads(plan.groupHeads), ropeStride(ropeStride),
        unit(page.isOfPairs(options) ? 2 : 1), pairs(b, options.bf16Pairs) {
    mlir::Type f32 = b.getF32Type(), i32 = b.getI32Type();
    mlir::Type element = unit == 2 ? i32 : f32;
    b.setTile("columns", blockColumns());
    query =
        b.stack({plan.blockRows, page.keyDim / unit, heads}, element, "query");
    scores = b.stack({plan.blockRows, page.pageTokens, heads}, f32, "scores");
    totals = b.stack(paddedSlots(), f32, "totals");
    bool isStored = unit == 2 ? page.element.isBF16() : page.isF32();
    if (!isStored || plan.selectedTokens)
      wide = b.stack({page.pageTokens, page.keyDim / unit}, element, "wide");
    if (unit == 2) {
      weights = b.stack({page.pageTokens / 2, heads}, i32, "weights");
      values = b.stack({page.pageTokens / 2, page.valueDim}, i32, "values");
    }
  }

  /// Positions that each row sees; null if it sees all up to its own.
  Value queries, ropeQueries, selected;

protected:
  void readQueries() override;
  void beginSegment() override;
  void attendPage(Value pageIndex, Value nextPage) override;
  Value totalOf(Value slot) override { return b.load(totals, slot); }

private:
  using Place = LatentPlace;
  /// Columns that are scored at a time: a divisor of all, and whole groups.
  int64_t blockColumns() const;
  /// Reads \p columns of each head of \p from from column \p first on, \p
  /// stride from one head to the next, into the query of \p rowInBlock from \p
  /// to on.
  void readQuery(Value from, Value rowInBlock, int64_t first, int64_t stride,
                 int64_t columns, int64_t to);
  /// The latents of a page, as they are stored or in pairs.
  Value latentsOf(Value pageIndex);
  /// Writes a block of columns of tokens [0, \p count) to `wide`, in f32 or in
  /// pairs.
  void widenBlock(Value count, Value firstColumn,
                  llvm::function_ref<Place(Value)> placeOf);
  /// Adds the products of a block of columns to the scores of \p size rows.
  void scoreBlock(Value latents, Value tokens, Value firstColumn,
                  Value rowInBlock, int64_t size);
  /// Writes columns of tokens [0, \p tokens) to `values`, in pairs of tokens.
  void pairTokens(Value latents, Value tokens);
  void attendRow(Value rowInBlock, Value latents, Value seen, Value count);
  /// Makes weights of the scores of \p valid tokens of a row, from \p at on,
  /// and returns their sum.
  Value weigh(Value rowInBlock, Value valid, Value maximum, Value total);

  int64_t heads, ropeStride;
  /// Numbers that are multiplied by one lane: 1 of f32, or 2 of bf16.
  int64_t unit;
  PairProduct pairs;
  Value query, scores, totals, wide;
  /// Of the page, in pairs of tokens: weights of a row, and latents.
  Value weights, values;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_ATTENTION_H
