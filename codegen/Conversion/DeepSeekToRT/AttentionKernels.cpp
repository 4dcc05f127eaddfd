// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels of attention: appending to the cache, and heads that share keys over
// the pages of their sequence.

#include "codegen/Conversion/DeepSeekToRT/Kernels.h"
#include "hadal_rt/abi.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/TypeUtilities.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

/// The score of a token that is not seen.
static constexpr double lowest = -1e30;
/// Where a running maximum starts: so far above `lowest` that a token that is
/// not seen weighs nothing, also where none has been seen yet.
static constexpr double noMaximum = -1e29;

/// Tokens of a segment, where attention is split over the context; at least a
/// page.
static constexpr int64_t mostSegmentTokens = 512;
/// Items that share out the segments of a row, at most. A power of two.
static constexpr int64_t mostStrands = 64;

/// Query heads of an item, over its rows.
static constexpr int64_t mostSlots = 64;
/// Slots from which on a page that is not f32 is widened once for all of them.
static constexpr int64_t fewSlots = 8;
/// What a load brings into the cache, and a prefetch asks for.
static constexpr int64_t lineBytes = 64;
/// Rows of an item where heads fill the lanes.
static constexpr int64_t mostLatentRows = 4;

static int64_t largestDivisor(int64_t size, int64_t most) {
  int64_t divisor = std::max<int64_t>(1, std::min(size, most));
  while (size % divisor != 0)
    --divisor;
  return divisor;
}

AttentionPlan AttentionPlan::get(PageLayout page, int64_t heads,
                                 int64_t context, deepseek::WindowAttr window,
                                 int64_t selectedTokens) {
  AttentionPlan plan;
  if (selectedTokens) {
    // What a row sees is a list of so many tokens, which it gathers in pages.
    plan.selectedTokens = selectedTokens;
    context = std::min(context, selectedTokens);
    std::optional<int64_t> gathered =
        checkedProduct({page.keyDim, page.pageTokens});
    if (!gathered || *gathered > HADAL_RT_KERNEL_STACK_BYTES / 16)
      return plan;
  }
  // A window that spans the context is none.
  if (window && window.getTokens() < context) {
    plan.windowTokens = window.getTokens();
    plan.sinkTokens = std::min(window.getSink(), context);
    plan.sinkPages = ceilDiv(plan.sinkTokens, page.pageTokens);
  }
  // What one head of one row has on the stack, and half the stack for all.
  std::optional<int64_t> columns = checkedSum(page.keyDim, page.valueDim);
  int64_t budget = HADAL_RT_KERNEL_STACK_BYTES / 8;
  if (!columns || *columns > budget)
    return plan;
  // A page is widened to f32 there, too.
  if (!page.isF32())
    budget -= page.pageTokens * (page.isLatent ? page.keyDim : *columns);
  int64_t fixed = page.pageTokens + 2 * KernelBuilder::maxLanes;
  int64_t slots =
      *columns <= budget ? std::min(mostSlots, budget / (*columns + fixed)) : 0;
  if (slots < 1)
    return plan;
  if (page.isLatent) {
    // A power of two: heads are lanes.
    plan.groupHeads = KernelBuilder::lanesFor(heads);
    while (plan.groupHeads > slots)
      plan.groupHeads /= 2;
    // Rows that choose for themselves share nothing.
    plan.blockRows =
        selectedTokens ? 1 : std::min(slots / plan.groupHeads, mostLatentRows);
  } else {
    plan.groupHeads = largestDivisor(heads / page.heads, slots);
    plan.blockRows = slots / plan.groupHeads;
  }
  plan.groups = heads / plan.groupHeads;
  plan.slots = plan.blockRows * plan.groupHeads;
  int64_t pages = std::max<int64_t>(1, mostSegmentTokens / page.pageTokens);
  // What one token sees: a window may begin and end within a page.
  int64_t seenPages = ceilDiv(context, page.pageTokens);
  if (plan.isWindowed())
    seenPages = std::min(seenPages,
                         plan.sinkPages + 1 +
                             ceilDiv(plan.windowTokens - 1, page.pageTokens));
  if (plan.groups < AttentionPlan::fewItems && seenPages > pages) {
    plan.segmentPages = pages;
    plan.segmentTokens = pages * page.pageTokens;
    plan.segments = ceilDiv(context, plan.segmentTokens);
    if (plan.isWindowed()) {
      plan.sinkSegments = ceilDiv(plan.sinkPages, pages);
      plan.segments = std::min(plan.segments,
                               plan.sinkSegments + 1 +
                                   ceilDiv(seenPages - plan.sinkPages, pages));
    }
    plan.strands =
        std::min<int64_t>(llvm::PowerOf2Ceil(plan.segments), mostStrands);
  }
  return plan;
}

static Value pagePart(KernelBuilder &b, Value step, Value sequence,
                      Value pageIndex, Value layer, PageLayout page,
                      PageLayout::Part part) {
  bool isScale =
      part == PageLayout::KeyScales || part == PageLayout::ValueScales;
  Type element = isScale ? Type(b.getF32Type()) : page.element;
  int64_t bytes = element.getIntOrFloatBitWidth() / 8;
  MemRefType type;
  if (page.isLatent) {
    int64_t columns = isScale ? page.keyDim / page.group : page.keyDim;
    type = MemRefType::get({page.pageTokens, columns}, element);
  } else {
    SmallVector<int64_t> shape = {page.heads, page.pageTokens};
    if (part == PageLayout::Keys)
      shape.insert(shape.begin() + 1, page.keyDim);
    else if (part == PageLayout::Values)
      shape.push_back(page.valueDim);
    SmallVector<int64_t> strides = {page.headBytes() / bytes, shape.back(), 1};
    if (isScale)
      strides.erase(strides.begin() + 1);
    type = MemRefType::get(shape, element,
                           StridedLayoutAttr::get(b.getContext(), 0, strides));
  }
  return rt::PageOp::create(b, type, step, sequence, pageIndex, layer,
                            page.pageBytes(), page.layerBytes(),
                            page.offsetBytes(part));
}

static std::string pageName(PageLayout page) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << (page.isLatent ? "latent" : "heads") << '_' << page.heads << 'x'
     << page.keyDim << '_' << page.valueDim << "_of_" << page.layers << '_'
     << page.pageTokens;
  if (!page.isF32())
    os << '_' << page.element;
  if (page.isInteger())
    os << 'g' << page.group;
  return text;
}

//===----------------------------------------------------------------------===//
// Elements of the cache
//===----------------------------------------------------------------------===//

/// \p type, or a vector of it with the lanes of \p like.
static Type typeLike(Type type, Value like) {
  auto vector = dyn_cast<VectorType>(like.getType());
  return vector ? Type(vector.clone(type)) : type;
}

/// \p stored, of an element of the cache, in f32; exact.
static Value widen(KernelBuilder &b, Value stored) {
  Type element = getElementTypeOrSelf(stored);
  Type f32 = typeLike(b.getF32Type(), stored);
  if (element.isF32())
    return stored;
  if (isa<FloatType>(element))
    return arith::ExtFOp::create(b, f32, stored);
  Value integer =
      arith::ExtSIOp::create(b, typeLike(b.getI32Type(), stored), stored);
  return arith::SIToFPOp::create(b, f32, integer);
}

/// \p x rounded to \p element, to nearest; an integer is x * \p inverse.
static Value narrow(KernelBuilder &b, Value x, Type element, Value inverse) {
  if (element.isF32())
    return x;
  Type type = x.getType();
  if (element.isF16()) {
    Value most = b.f32(65504, type), least = b.f32(-65504, type);
    x = b.select(b.lessf(most, x), most, x);
    x = b.select(b.lessf(x, least), least, x);
    return arith::TruncFOp::create(b, typeLike(element, x), x);
  }
  Type i32 = typeLike(b.getI32Type(), x);
  auto constant = [&](int32_t value) {
    Value scalar = b.i32(value);
    auto vector = dyn_cast<VectorType>(i32);
    return vector ? b.broadcast(scalar, vector.getDimSize(0)) : scalar;
  };
  if (element.isBF16()) {
    // An instruction for this takes subnormals for zeros.
    Value bits = arith::BitcastOp::create(b, i32, x);
    Value high = arith::ShRUIOp::create(b, bits, constant(16));
    Value odd = arith::AndIOp::create(b, high, constant(1));
    bits = b.add(b.add(bits, constant(0x7fff)), odd);
    bits = arith::ShRUIOp::create(b, bits, constant(16));
    bits = arith::TruncIOp::create(b, typeLike(b.getI16Type(), x), bits);
    return arith::BitcastOp::create(b, typeLike(element, x), bits);
  }
  Value rounded = math::RoundEvenOp::create(b, b.mulf(x, inverse));
  return arith::TruncIOp::create(b, typeLike(element, x),
                                 arith::FPToSIOp::create(b, i32, rounded));
}

/// Asks for the line that holds element \p linear of head \p kvHead of \p part,
/// or of a latent's page, where \p kvHead is null.
static void prefetch(KernelBuilder &b, Value part, Value kvHead, Value linear) {
  int64_t rank = cast<MemRefType>(part.getType()).getRank();
  Values indices(rank, b.index(0));
  if (kvHead)
    indices.front() = kvHead;
  indices.back() = linear;
  memref::PrefetchOp::create(b, part, indices, /*isWrite=*/false,
                             /*localityHint=*/3, /*isDataCache=*/true);
}

namespace {

/// Puts one row of a step into the cache.
class Append {
public:
  Append(KernelBuilder &b, PageLayout page, Value row)
      : b(b), page(page), row(row) {}

  /// Rounds columns [fromColumn, fromColumn + dim) of \p from. A column goes to
  /// `to[prefix.., column + toColumn, suffix..]`, a scale to
  /// `scales[scalePrefix.., number of its group]`; without groups of columns,
  /// to `scales[scalePrefix..]`.
  void copy(Value from, Value fromColumn, int64_t dim, Value to, Values prefix,
            int64_t toColumn, Value suffix, Value scales, Values scalePrefix,
            bool hasGroups) {
    int64_t group = page.isInteger() ? page.group : dim;
    int64_t lanes = KernelBuilder::lanesFor(group);
    b.loop(b.index(0), b.index(dim), group, [&](Value begin) {
      Value first = b.add(fromColumn, begin), inverse;
      if (page.isInteger()) {
        Value scale = scaleOf(from, first, group, lanes, inverse);
        Values at = scalePrefix;
        if (hasGroups)
          at.push_back(b.add(b.div(begin, group), toColumn / group));
        b.store(scale, scales, at);
      }
      // Where columns are not next to each other, they go one by one.
      int64_t width = suffix ? 1 : lanes;
      Value inverses =
          inverse && width > 1 ? b.broadcast(inverse, width) : inverse;
      b.loop(b.index(0), b.index(group), width, [&](Value i) {
        Values source = {row, b.add(first, i)};
        Value x = width > 1 ? b.loadVector(from, source, width)
                            : b.load(from, source);
        x = narrow(b, x, page.element, inverses);
        Values target = prefix;
        target.push_back(b.add(b.add(begin, i), toColumn));
        if (suffix)
          target.push_back(suffix);
        if (width > 1)
          b.storeVector(x, to, target);
        else
          b.store(x, to, target);
      });
    });
  }

private:
  /// The scale of \p group columns, and its inverse.
  Value scaleOf(Value from, Value first, int64_t group, int64_t lanes,
                Value &inverse) {
    Value largest = b.maxLane(
        b.loop(b.index(0), b.index(group), lanes, b.f32(0, b.vectorType(lanes)),
               [&](Value i, ValueRange most) {
                 Value x = b.loadVector(from, {row, b.add(first, i)}, lanes);
                 return Values{b.maxf(most[0], math::AbsFOp::create(b, x))};
               })[0]);
    // A subnormal scale has no finite inverse; its group counts as zeros.
    Value quotient = b.divf(largest, b.f32(127));
    Value isZero = b.lessf(quotient, b.f32(0x1p-126));
    Value scale = b.select(isZero, b.f32(0), quotient);
    inverse = b.select(isZero, b.f32(0), b.divf(b.f32(1), scale));
    return scale;
  }

  KernelBuilder &b;
  PageLayout page;
  Value row;
};

} // namespace

KernelOp KernelSet::appendCache(TypeRange types, PageLayout page) {
  return get(
      "append_cache_" + Twine(pageName(page)), types,
      [&](KernelBuilder &b, KernelOp kernel) {
        auto arguments = kernel.getKernelArguments();
        Value positions = arguments[2], sequences = arguments[3],
              layer = arguments[4];
        b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
          Value position = b.toIndex(b.load(positions, row));
          Value sequence = b.toIndex(b.load(sequences, row));
          Value pageIndex = b.div(position, page.pageTokens);
          Value token = b.rem(position, page.pageTokens);
          auto part = [&](PageLayout::Part part) {
            bool isScale = part == PageLayout::KeyScales ||
                           part == PageLayout::ValueScales;
            return isScale && !page.isInteger()
                       ? Value()
                       : pagePart(b, kernel.getStep(), sequence, pageIndex,
                                  layer, page, part);
          };
          Append append(b, page, row);
          Value keys = part(PageLayout::Keys);
          Value keyScales = part(PageLayout::KeyScales);
          if (page.isLatent) {
            append.copy(arguments[0], b.index(0), page.valueDim, keys, {token},
                        0, Value(), keyScales, {token}, /*hasGroups=*/true);
            append.copy(arguments[1], b.index(0), page.keyDim - page.valueDim,
                        keys, {token}, page.valueDim, Value(), keyScales,
                        {token}, /*hasGroups=*/true);
            return;
          }
          Value values = part(PageLayout::Values);
          Value valueScales = part(PageLayout::ValueScales);
          b.loop(b.index(0), b.index(page.heads), 1, [&](Value head) {
            append.copy(arguments[0], b.mul(head, page.keyDim), page.keyDim,
                        keys, {head}, 0, token, keyScales, {head, token},
                        /*hasGroups=*/false);
            append.copy(arguments[1], b.mul(head, page.valueDim), page.valueDim,
                        values, {head, token}, 0, Value(), valueScales,
                        {head, token}, /*hasGroups=*/false);
          });
        });
      });
}

static Value maxIndex(KernelBuilder &b, Value x, Value y) {
  return b.select(b.less(x, y), y, x);
}

namespace {

/// Which of the units [first, last) of a sequence, pages or segments, are
/// computed: those of the sink, and then from the window on.
class Reach {
public:
  Reach(KernelBuilder &b, Value first, Value last, int64_t sinks, Value window)
      : count(b.sub(last, first)), b(b), first(first) {
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
public:
  Attention(KernelBuilder &b, KernelOp kernel, PageLayout page,
            AttentionPlan plan, int64_t registers, double scale)
      : b(b), page(page), plan(plan), registers(registers), scale(scale),
        step(kernel.getStep()) {
    lanes = KernelBuilder::lanesFor(page.valueDim);
    int64_t padded = roundUp(plan.slots, KernelBuilder::maxLanes);
    sums = b.stack({plan.slots, page.valueDim}, b.getF32Type());
    corrections = b.stack(padded, b.getF32Type());
    counts = b.stack(padded, b.getI32Type());
    maxima = b.stack(padded, b.getF32Type());
    if (plan.isWindowed())
      starts = b.stack(padded, b.getI32Type());
    if (plan.segments) {
      mergedMaxima = b.stack(padded, b.getF32Type());
      mergedTotals = b.stack(padded, b.getF32Type());
    }
  }
  virtual ~Attention() = default;

  /// The buffers that rows are read from and written to.
  Value positions, sequences, layer, out;

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

  /// body(first, n) for [0, count) in tiles, the largest first.
  void tiled(Value count, ArrayRef<int64_t> sizes,
             function_ref<void(Value, int64_t)> body);
  /// body(column, vectors) for all columns of a value.
  void valueTiles(int64_t vectors, function_ref<void(Value, int64_t)> body);
  void attend();
  void attendSegment(Value firstPage, Value lastPage);
  void mergeSegment(Value segment, Value isFirst);
  void finish(bool isMerged);
  Value rowOf(Value slot) { return b.add(row, b.div(slot, plan.groupHeads)); }
  Value headOf(Value slot) {
    return b.add(b.mul(group, plan.groupHeads), b.rem(slot, plan.groupHeads));
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
    Value hidden = b.f32(lowest, score.getType());
    if (plan.sinkTokens) {
      Value sinks = b.index(plan.sinkTokens);
      if (auto vector = dyn_cast<VectorType>(token.getType()))
        sinks = b.broadcast(b.toI32(sinks), vector.getDimSize(0));
      hidden = b.select(b.less(token, sinks), score, hidden);
    }
    return b.select(b.less(token, start), hidden, score);
  }
  /// Tokens of the page from token \p seen on that \p count tokens have.
  Value validIn(Value count, Value seen) {
    return b.min(b.index(page.pageTokens), b.sub(count, b.min(count, seen)));
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
/// sequence, so that all slots share keys and values.
class HeadsAttention : public Attention {
public:
  HeadsAttention(KernelBuilder &b, KernelOp kernel, PageLayout page,
                 AttentionPlan plan, int64_t registers, double scale)
      : Attention(b, kernel, page, plan, registers, scale) {
    query = b.stack({plan.slots, page.keyDim}, b.getF32Type());
    scores = b.stack({plan.slots, page.pageTokens}, b.getF32Type());
    totals = b.stack({plan.slots, KernelBuilder::maxLanes}, b.getF32Type());
    newMaxima = b.stack(paddedSlots(), b.getF32Type());
    if (!page.isF32() && plan.slots >= fewSlots) {
      Type f32 = b.getF32Type();
      wideKeys = b.stack({1, page.keyDim, page.pageTokens}, f32);
      wideValues = b.stack({1, page.pageTokens, page.valueDim}, f32);
    }
    fill(newMaxima, paddedSlots(), lowest);
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
  /// A part of a page of which a head is read, and what is asked for meanwhile.
  struct Source {
    Value part, head, next, kvHead;
    ArrayRef<int64_t> tileSizes;
  };
  void score(const Source &keys, Value seen);
  void weigh();
  void addValues(const Source &values, Value seen);
  /// Writes a head of \p source, `[outer, inner]`, to \p to in f32.
  void widenPart(const Source &source, Value to, int64_t outer, int64_t inner);
  /// Asks for as much of what is next as `bytes` from element `linear` on.
  void prefetchNext(const Source &source, Value linear, int64_t count);
  /// Slots that are computed at a time, of many or of few.
  ArrayRef<int64_t> tileSizes(bool isFew = false) const {
    static constexpr int64_t wide[] = {8, 4, 1}, narrow[] = {2, 1};
    if (!isWide())
      return narrow;
    return isFew ? ArrayRef(wide).drop_front() : ArrayRef(wide);
  }

  Value query, scores, totals, newMaxima, wideKeys, wideValues;
  /// Of the page: scales of keys and values, for 8 bits.
  Value keyScales, valueScales, kvHeadOfPage;
};

/// Lanes are heads: latents are shared by all, and are their own values.
class LatentAttention : public Attention {
public:
  LatentAttention(KernelBuilder &b, KernelOp kernel, PageLayout page,
                  AttentionPlan plan, int64_t registers, double scale,
                  int64_t ropeStride)
      : Attention(b, kernel, page, plan, registers, scale),
        heads(plan.groupHeads), ropeStride(ropeStride) {
    query = b.stack({plan.blockRows, page.keyDim, heads}, b.getF32Type());
    scores = b.stack({page.pageTokens, heads}, b.getF32Type());
    totals = b.stack(paddedSlots(), b.getF32Type());
    if (!page.isF32() || plan.selectedTokens)
      wide = b.stack({page.pageTokens, page.keyDim}, b.getF32Type());
  }

  /// Positions that each row sees; null if it sees all up to its own.
  Value queries, ropeQueries, selected;

protected:
  void readQueries() override;
  void beginSegment() override;
  void attendPage(Value pageIndex, Value nextPage) override;
  Value totalOf(Value slot) override { return b.load(totals, slot); }

private:
  /// Where a latent is: those of its page, their scales (null without), and
  /// the token in the page.
  struct Place {
    Value latents, scales, token;
  };
  /// Writes the latents of tokens [0, \p count) to `wide`, in f32.
  void widenTokens(Value count, function_ref<Place(Value)> placeOf);
  void attendRow(Value rowInBlock, Value latents, Value nextLatents, Value seen,
                 Value count);

  int64_t heads, ropeStride;
  Value query, scores, totals, wide;
};

} // namespace

void Attention::tiled(Value count, ArrayRef<int64_t> sizes,
                      function_ref<void(Value, int64_t)> body) {
  Value begin = b.index(0);
  for (int64_t size : sizes) {
    if (size > plan.slots)
      continue;
    Value end =
        size == 1 ? count
                  : b.add(begin, b.mul(b.div(b.sub(count, begin), size), size));
    b.loop(begin, end, size, [&](Value first) { body(first, size); });
    begin = end;
  }
}

void Attention::valueTiles(int64_t vectors,
                           function_ref<void(Value, int64_t)> body) {
  int64_t chunks = page.valueDim / lanes;
  vectors = std::min(vectors, chunks);
  int64_t whole = chunks / vectors * vectors;
  b.loop(b.index(0), b.index(whole * lanes), vectors * lanes,
         [&](Value column) { body(column, vectors); });
  if (chunks > whole)
    body(b.index(whole * lanes), chunks - whole);
}

void Attention::attendBlocks(KernelOp kernel, Value allRows, Value blockRows) {
  Value blocks = b.div(b.add(allRows, b.sub(blockRows, b.index(1))), blockRows);
  b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
    // The last rows of a prefill see most, and begin first.
    group = b.div(item, blocks);
    Value block = b.sub(b.sub(blocks, b.index(1)), b.rem(item, blocks));
    Value first = b.mul(block, blockRows);
    Value last = b.min(b.add(first, blockRows), allRows);
    // Rows of several sequences share nothing, and come one by one.
    Value sequence = b.load(sequences, first);
    Value stride =
        b.loop(first, last, 1, blockRows, [&](Value i, ValueRange carried) {
          Value same = b.equal(sequence, b.load(sequences, i));
          return Values{b.select(same, carried[0], b.index(1))};
        })[0];
    b.loop(first, last, stride, [&](Value i) {
      row = i;
      rows = b.min(stride, b.sub(last, i));
      attend();
    });
  });
}

/// The segments that a token which sees \p pages has. \p windowPage is null
/// without a window.
static Reach reachedSegments(KernelBuilder &b, const AttentionPlan &plan,
                             Value pages, Value windowPage) {
  Value segments =
      b.div(b.add(pages, plan.segmentPages - 1), plan.segmentPages);
  Value window = windowPage ? b.div(windowPage, plan.segmentPages) : Value();
  return Reach(b, b.index(0), segments, plan.sinkSegments, window);
}

/// Counts tokens and reads queries of rows [row, row + rows).
void Attention::attend() {
  slots = b.mul(rows, plan.groupHeads);
  Values bounds = {b.index(0)};
  if (plan.isWindowed())
    bounds.push_back(b.index(INT32_MAX));
  bounds =
      b.loop(b.index(0), slots, 1, bounds, [&](Value slot, ValueRange carried) {
        Value count = contextOf(rowOf(slot));
        b.store(b.toI32(count), counts, slot);
        Values next = {maxIndex(b, carried[0], count)};
        if (plan.isWindowed()) {
          Value start = startOf(count);
          b.store(b.toI32(start), starts, slot);
          next.push_back(b.min(carried[1], start));
        }
        return next;
      });
  if (plan.isWindowed())
    windowPage = b.div(bounds[1], page.pageTokens);
  readQueries();
  mostSeen = bounds[0];
  Value pages = b.div(b.add(mostSeen, page.pageTokens - 1), page.pageTokens);
  if (!plan.segments) {
    attendSegment(b.index(0), pages);
    return finish(/*isMerged=*/false);
  }
  fill(mergedMaxima, paddedSlots(), noMaximum);
  fill(mergedTotals, paddedSlots(), 0);
  Reach segments = reachedSegments(b, plan, pages, windowPage);
  b.loop(b.index(0), segments.count, 1, [&](Value i) {
    Value segment = segments.at(i);
    Value first = b.mul(segment, plan.segmentPages);
    attendSegment(first, b.min(b.add(first, plan.segmentPages), pages));
    mergeSegment(segment, b.equal(i, b.index(0)));
  });
  finish(/*isMerged=*/true);
}

void Attention::attendSegment(Value firstPage, Value lastPage) {
  fill(maxima, paddedSlots(), noMaximum);
  b.loop(b.index(0), slots, 1, [&](Value slot) {
    b.loop(b.index(0), b.index(page.valueDim), lanes, [&](Value column) {
      b.storeVector(b.f32(0, b.vectorType(lanes)), sums, {slot, column});
    });
  });
  beginSegment();
  Reach pages(b, firstPage, lastPage, plan.sinkPages, windowPage);
  Value last = b.sub(pages.count, b.index(1));
  b.loop(b.index(0), pages.count, 1, [&](Value i) {
    attendPage(pages.at(i), pages.at(b.min(b.add(i, 1), last)));
  });
}

/// Adds a segment of one slot to those before it. \p merged are a running
/// maximum and total; \p isFirst says that \p out has nothing yet.
static Values merge(KernelBuilder &b, ValueRange merged, Value maximum,
                    Value total, Value isFirst, Value sums, ValueRange at,
                    Value out, Value row, Value outColumn, int64_t dim) {
  int64_t lanes = KernelBuilder::lanesFor(dim);
  Value most = b.maxf(merged[0], maximum);
  Value before = b.exp(b.subf(merged[0], most));
  Value now = b.exp(b.subf(maximum, most));
  Value befores = b.broadcast(before, lanes), nows = b.broadcast(now, lanes);
  b.loop(b.index(0), b.index(dim), lanes, [&](Value column) {
    Values from(at);
    from.back() = b.add(from.back(), column);
    Values to = {row, b.add(outColumn, column)};
    Value sum = b.loadVector(out, to, lanes);
    sum = b.select(isFirst, b.f32(0, sum.getType()), sum);
    sum = b.fma(b.loadVector(sums, from, lanes), nows, b.mulf(sum, befores));
    b.storeVector(sum, out, to);
  });
  return {most, b.fma(total, now, b.mulf(merged[1], before))};
}

/// out = \p from / total, of one slot.
static void divide(KernelBuilder &b, Value from, ValueRange at, Value total,
                   Value out, Value row, Value outColumn, int64_t dim) {
  int64_t lanes = KernelBuilder::lanesFor(dim);
  Value inverse = b.broadcast(b.divf(b.f32(1), total), lanes);
  b.loop(b.index(0), b.index(dim), lanes, [&](Value column) {
    Values source(at);
    source.back() = b.add(source.back(), column);
    b.storeVector(b.mulf(b.loadVector(from, source, lanes), inverse), out,
                  {row, b.add(outColumn, column)});
  });
}

void Attention::mergeSegment(Value segment, Value isFirst) {
  Value begin = b.mul(segment, plan.segmentTokens);
  b.loop(b.index(0), slots, 1, [&](Value slot) {
    b.when(b.less(begin, countOf(slot)), [&] {
      Values merged = {b.load(mergedMaxima, slot), b.load(mergedTotals, slot)};
      merged = merge(b, merged, b.load(maxima, slot), totalOf(slot), isFirst,
                     sums, {slot, b.index(0)}, out, rowOf(slot),
                     b.mul(headOf(slot), page.valueDim), page.valueDim);
      b.store(merged[0], mergedMaxima, slot);
      b.store(merged[1], mergedTotals, slot);
    });
  });
}

void Attention::finish(bool isMerged) {
  b.loop(b.index(0), slots, 1, [&](Value slot) {
    Value outRow = rowOf(slot);
    Value column = b.mul(headOf(slot), page.valueDim);
    if (isMerged)
      divide(b, out, {outRow, column}, b.load(mergedTotals, slot), out, outRow,
             column, page.valueDim);
    else
      divide(b, sums, {slot, b.index(0)}, totalOf(slot), out, outRow, column,
             page.valueDim);
  });
}

/// \p i with its bits in reverse order; they count to \p size, a power of two.
static Value reverseBits(KernelBuilder &b, Value i, int64_t size) {
  Value reversed = b.index(0);
  for (int64_t bit = 1; bit < size; bit *= 2)
    reversed = b.add(b.mul(reversed, 2), b.rem(b.div(i, bit), 2));
  return reversed;
}

void Attention::attendSegments(KernelOp kernel, Value partials, Value stats) {
  b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
    // A thread takes consecutive items, and what there is of the context has
    // the first segments: in this order they are spread over threads.
    Value unit = b.div(item, plan.strands);
    Value first = reverseBits(b, b.rem(item, plan.strands), plan.strands);
    row = b.div(unit, plan.groups);
    group = b.rem(unit, plan.groups);
    rows = b.index(1);
    slots = b.index(plan.groupHeads);
    Value context = contextOf(row);
    mostSeen = context;
    Value pages = b.div(b.add(context, page.pageTokens - 1), page.pageTokens);
    if (plan.isWindowed())
      windowPage = b.div(startOf(context), page.pageTokens);
    Reach segments = reachedSegments(b, plan, pages, windowPage);
    b.when(b.less(first, segments.count), [&] {
      b.loop(b.index(0), slots, 1, [&](Value slot) {
        b.store(b.toI32(context), counts, slot);
        if (plan.isWindowed())
          b.store(b.toI32(startOf(context)), starts, slot);
      });
      readQueries();
      b.loop(first, segments.count, plan.strands, [&](Value i) {
        Value firstPage = b.mul(segments.at(i), plan.segmentPages);
        attendSegment(firstPage,
                      b.min(b.add(firstPage, plan.segmentPages), pages));
        Value partial = b.add(b.mul(unit, plan.segments), i);
        b.loop(b.index(0), slots, 1, [&](Value slot) {
          b.store(b.load(maxima, slot), stats, {partial, b.index(0), slot});
          b.store(totalOf(slot), stats, {partial, b.index(1), slot});
          b.loop(b.index(0), b.index(page.valueDim), lanes, [&](Value column) {
            b.storeVector(b.loadVector(sums, {slot, column}, lanes), partials,
                          {partial, slot, column});
          });
        });
      });
    });
  });
}

//===----------------------------------------------------------------------===//
// Keys of their own
//===----------------------------------------------------------------------===//

void HeadsAttention::readQueries() {
  int64_t width = KernelBuilder::lanesFor(page.keyDim);
  b.loop(b.index(0), slots, 1, [&](Value slot) {
    Value from = rowOf(slot), column = b.mul(headOf(slot), page.keyDim);
    b.loop(b.index(0), b.index(page.keyDim), width, [&](Value i) {
      b.storeVector(b.loadVector(queries, {from, b.add(column, i)}, width),
                    query, {slot, i});
    });
  });
}

void HeadsAttention::beginSegment() {
  constexpr int64_t width = KernelBuilder::maxLanes;
  b.loop(b.index(0), slots, 1, [&](Value slot) {
    b.storeVector(b.f32(0, b.vectorType(width)), totals, {slot, b.index(0)});
  });
}

void HeadsAttention::attendPage(Value pageIndex, Value nextPage) {
  Value kvHead = b.div(b.mul(group, plan.groupHeads),
                       plan.groups * plan.groupHeads / page.heads);
  Value seen = b.mul(pageIndex, page.pageTokens);
  Value keysPart = partOf(pageIndex, PageLayout::Keys);
  Value valuesPart = partOf(pageIndex, PageLayout::Values);
  Value nextKeys = partOf(nextPage, PageLayout::Keys);
  if (page.isInteger()) {
    keyScales = partOf(pageIndex, PageLayout::KeyScales);
    valueScales = partOf(pageIndex, PageLayout::ValueScales);
    kvHeadOfPage = kvHead;
  }
  // While keys are read, their values are asked for, and then the keys that
  // come next: hardware stops at the end of each.
  Source keys = {keysPart, kvHead, valuesPart, kvHead, tileSizes()};
  Source values = {valuesPart, kvHead, nextKeys, kvHead, tileSizes()};
  auto attendParts = [&] {
    score(keys, seen);
    weigh();
    addValues(values, seen);
  };
  if (page.isF32())
    return attendParts();
  if (!wideKeys) {
    keys.tileSizes = values.tileSizes = tileSizes(/*isFew=*/true);
    return attendParts();
  }
  // Each slot would widen the page again.
  Value isFew = b.less(slots, b.index(fewSlots));
  b.when(isFew, [&] {
    keys.tileSizes = values.tileSizes = tileSizes(/*isFew=*/true);
    attendParts();
  });
  b.when(b.less(b.index(fewSlots - 1), slots), [&] {
    widenPart(keys, wideKeys, page.keyDim, page.pageTokens);
    widenPart(values, wideValues, page.pageTokens, page.valueDim);
    Value zero = b.index(0);
    keys = {wideKeys, zero, Value(), Value(), tileSizes()};
    values = {wideValues, zero, Value(), Value(), tileSizes()};
    attendParts();
  });
}

void HeadsAttention::prefetchNext(const Source &source, Value linear,
                                  int64_t count) {
  if (!source.next)
    return;
  for (int64_t i = 0; i < count; i += lineBytes / page.elementBytes())
    prefetch(b, source.next, source.kvHead, b.add(linear, i));
}

void HeadsAttention::widenPart(const Source &source, Value to, int64_t outer,
                               int64_t inner) {
  int64_t width = KernelBuilder::lanesFor(inner);
  b.loop(b.index(0), b.index(outer), 1, [&](Value i) {
    prefetchNext(source, b.mul(i, inner), inner);
    b.loop(b.index(0), b.index(inner), width, [&](Value j) {
      Value stored = b.loadVector(source.part, {source.head, i, j}, width);
      b.storeVector(widen(b, stored), to, {b.index(0), i, j});
    });
  });
}

/// Scores of all tokens of the page; those that a slot does not see yet have
/// the lowest.
void HeadsAttention::score(const Source &keys, Value seen) {
  constexpr int64_t width = KernelBuilder::maxLanes;
  int64_t vectors = page.pageTokens % (2 * width) == 0 ? 2 : 1;
  VectorType vector = b.vectorType(width);
  tiled(slots, keys.tileSizes, [&](Value first, int64_t size) {
    b.loop(
        b.index(0), b.index(page.pageTokens), vectors * width,
        [&](Value token) {
          int64_t unrolled = size > 2 ? 1 : largestDivisor(page.keyDim, 4);
          Values dots(size * vectors, b.f32(0, vector));
          dots = b.loop(
              b.index(0), b.index(page.keyDim), unrolled, dots,
              [&](Value column, ValueRange carried) {
                Values next(carried);
                for (int64_t u = 0; u < unrolled; ++u) {
                  Value at = b.add(column, u);
                  prefetchNext(keys, b.add(b.mul(at, page.pageTokens), token),
                               vectors * width);
                  Values keyLanes;
                  for (int64_t v = 0; v < vectors; ++v) {
                    Values lane = {keys.head, at, b.add(token, v * width)};
                    keyLanes.push_back(
                        widen(b, b.loadVector(keys.part, lane, width)));
                  }
                  for (int64_t s = 0; s < size; ++s) {
                    Value q = b.broadcast(b.load(query, {b.add(first, s), at}),
                                          width);
                    for (int64_t v = 0; v < vectors; ++v) {
                      Value &dot = next[s * vectors + v];
                      dot = b.fma(q, keyLanes[v], dot);
                    }
                  }
                }
                return next;
              });
          for (int64_t s = 0; s < size; ++s) {
            Value slot = b.add(first, s);
            Value count = b.broadcast(b.load(counts, slot), width);
            for (int64_t v = 0; v < vectors; ++v) {
              Value column = b.add(token, v * width);
              Value lane =
                  b.add(b.broadcast(b.toI32(b.add(seen, column)), width),
                        b.laneNumbers(width));
              Value score = b.mulf(dots[s * vectors + v], b.f32(scale, vector));
              if (page.isInteger()) {
                Values scaleLanes = {kvHeadOfPage, column};
                score =
                    b.mulf(score, b.loadVector(keyScales, scaleLanes, width));
              }
              score =
                  b.select(b.less(lane, count), score, b.f32(lowest, vector));
              if (plan.isWindowed())
                score = maskWindow(score, lane,
                                   b.broadcast(b.load(starts, slot), width));
              b.storeVector(score, scores, {slot, column});
            }
          }
        });
  });
}

/// Makes weights of scores, corrects the maxima and totals.
void HeadsAttention::weigh() {
  constexpr int64_t width = KernelBuilder::maxLanes;
  int64_t vectors = page.pageTokens / width;
  auto at = [&](Value slot, int64_t v) {
    return Values{slot, b.index(v * width)};
  };
  b.loop(b.index(0), slots, 1, [&](Value slot) {
    Value best = b.loadVector(scores, at(slot, 0), width);
    for (int64_t v = 1; v < vectors; ++v)
      best = b.maxf(best, b.loadVector(scores, at(slot, v), width));
    b.store(b.maxf(b.load(maxima, slot), b.maxLane(best)), newMaxima, slot);
  });
  b.loop(b.index(0), slots, width, [&](Value slot) {
    Value maximum = b.loadVector(newMaxima, slot, width);
    Value old = b.loadVector(maxima, slot, width);
    b.storeVector(b.exp(b.subf(old, maximum)), corrections, slot);
    b.storeVector(maximum, maxima, slot);
  });
  b.loop(b.index(0), slots, 1, [&](Value slot) {
    Value maximum = b.broadcast(b.load(maxima, slot), width);
    Value total = b.mulf(b.loadVector(totals, {slot, b.index(0)}, width),
                         b.broadcast(b.load(corrections, slot), width));
    for (int64_t v = 0; v < vectors; ++v) {
      Value x = b.loadVector(scores, at(slot, v), width);
      x = b.exp(b.subf(x, maximum));
      total = b.addf(total, x);
      // Values are integers: their weights take the scales.
      if (page.isInteger())
        x = b.mulf(x, b.loadVector(valueScales,
                                   {kvHeadOfPage, b.index(v * width)}, width));
      b.storeVector(x, scores, at(slot, v));
    }
    b.storeVector(total, totals, {slot, b.index(0)});
  });
}

void HeadsAttention::addValues(const Source &values, Value seen) {
  tiled(slots, values.tileSizes, [&](Value first, int64_t size) {
    Values valid;
    for (int64_t s = 0; s < size; ++s)
      valid.push_back(validIn(countOf(b.add(first, s)), seen));
    Value least = valid[0], most = valid[0];
    for (Value other : ArrayRef(valid).drop_front()) {
      least = b.min(least, other);
      most = b.select(b.less(most, other), other, most);
    }
    valueTiles((isWide() ? 16 : 4) / size, [&](Value column, int64_t vectors) {
      Values totals;
      auto at = [&](int64_t s, int64_t v) {
        return Values{b.add(first, s), b.add(column, v * lanes)};
      };
      for (int64_t s = 0; s < size; ++s) {
        Value correction =
            b.broadcast(b.load(corrections, b.add(first, s)), lanes);
        for (int64_t v = 0; v < vectors; ++v)
          totals.push_back(
              b.mulf(b.loadVector(sums, at(s, v), lanes), correction));
      }
      auto add = [&](Value token, ValueRange carried, bool masked) {
        Values next(carried), loaded;
        prefetchNext(values, b.add(b.mul(token, page.valueDim), column),
                     vectors * lanes);
        for (int64_t v = 0; v < vectors; ++v) {
          Values at = {values.head, token, b.add(column, v * lanes)};
          loaded.push_back(widen(b, b.loadVector(values.part, at, lanes)));
        }
        for (int64_t s = 0; s < size; ++s) {
          Value p =
              b.broadcast(b.load(scores, {b.add(first, s), token}), lanes);
          Value isSeen = masked ? b.less(token, valid[s]) : Value();
          for (int64_t v = 0; v < vectors; ++v) {
            Value &sum = next[s * vectors + v];
            Value added = b.fma(p, loaded[v], sum);
            sum = masked ? b.select(isSeen, added, sum) : added;
          }
        }
        return next;
      };
      totals = b.loop(b.index(0), least, 1, totals,
                      [&](Value token, ValueRange carried) {
                        return add(token, carried, /*masked=*/false);
                      });
      if (size > 1)
        totals = b.loop(least, most, 1, totals,
                        [&](Value token, ValueRange carried) {
                          return add(token, carried, /*masked=*/true);
                        });
      for (int64_t s = 0; s < size; ++s)
        for (int64_t v = 0; v < vectors; ++v)
          b.storeVector(totals[s * vectors + v], sums, at(s, v));
    });
  });
}

//===----------------------------------------------------------------------===//
// Latents
//===----------------------------------------------------------------------===//

void LatentAttention::readQueries() {
  int64_t rank = page.valueDim, rope = page.keyDim - rank;
  b.loop(b.index(0), slots, 1, [&](Value slot) {
    Value from = rowOf(slot), head = headOf(slot);
    Value rowInBlock = b.div(slot, heads), lane = b.rem(slot, heads);
    Value column = b.mul(head, rank);
    Value ropeColumn = b.add(b.mul(head, ropeStride), ropeStride - rope);
    b.loop(b.index(0), b.index(rank), 1, [&](Value i) {
      b.store(b.load(queries, {from, b.add(column, i)}), query,
              {rowInBlock, i, lane});
    });
    b.loop(b.index(0), b.index(rope), 1, [&](Value i) {
      b.store(b.load(ropeQueries, {from, b.add(ropeColumn, i)}), query,
              {rowInBlock, b.add(i, rank), lane});
    });
  });
}

void LatentAttention::beginSegment() { fill(totals, paddedSlots(), 0); }

void LatentAttention::widenTokens(Value count,
                                  function_ref<Place(Value)> placeOf) {
  int64_t group = page.isInteger() ? page.group : page.keyDim;
  int64_t width = KernelBuilder::lanesFor(group);
  b.loop(b.index(0), count, 1, [&](Value i) {
    Place place = placeOf(i);
    b.loop(b.index(0), b.index(page.keyDim), group, [&](Value first) {
      Value scale;
      if (place.scales)
        scale = b.broadcast(
            b.load(place.scales, {place.token, b.div(first, group)}), width);
      b.loop(b.index(0), b.index(group), width, [&](Value k) {
        Value column = b.add(first, k);
        Value x =
            widen(b, b.loadVector(place.latents, {place.token, column}, width));
        b.storeVector(scale ? b.mulf(x, scale) : x, wide, {i, column});
      });
    });
  });
}

void LatentAttention::attendPage(Value pageIndex, Value nextPage) {
  Value seen = b.mul(pageIndex, page.pageTokens);
  Value latents = partOf(pageIndex, PageLayout::Keys);
  Value nextLatents = partOf(nextPage, PageLayout::Keys);
  if (wide) {
    Value scales;
    if (page.isInteger())
      scales = partOf(pageIndex, PageLayout::KeyScales);
    widenTokens(validIn(mostSeen, seen), [&](Value i) {
      if (!selected)
        return Place{latents, scales, i};
      // Selected tokens [seen, seen + count), as if they were a page.
      Value position = b.toIndex(b.load(selected, {row, b.add(seen, i)}));
      Value index = b.div(position, page.pageTokens);
      return Place{partOf(index, PageLayout::Keys),
                   page.isInteger() ? partOf(index, PageLayout::KeyScales)
                                    : Value(),
                   b.rem(position, page.pageTokens)};
    });
    latents = wide;
  }
  b.loop(b.index(0), rows, 1, [&](Value rowInBlock) {
    Value count = countOf(b.mul(rowInBlock, heads));
    Value isSeen = b.less(seen, count);
    if (plan.isWindowed()) {
      Value inWindow = b.less(startOf(count), b.add(seen, page.pageTokens));
      Value inSink = b.less(pageIndex, b.index(plan.sinkPages));
      isSeen = b.select(inSink, isSeen, b.select(inWindow, isSeen, inWindow));
    }
    b.when(isSeen,
           [&] { attendRow(rowInBlock, latents, nextLatents, seen, count); });
  });
}

void LatentAttention::attendRow(Value rowInBlock, Value latents,
                                Value nextLatents, Value seen, Value count) {
  Value valid = validIn(count, seen);
  Value firstSlot = b.mul(rowInBlock, heads);
  VectorType vector = b.vectorType(heads);

  // Scores, several tokens at a time; what lies past the last token is read,
  // and not used.
  int64_t some = isWide() ? 16 : 4;
  Value old = b.loadVector(maxima, firstSlot, heads);
  Value maximum =
      b.loop(b.index(0), valid, some, old, [&](Value first, ValueRange best) {
        Values dots(some, b.f32(0, vector));
        dots = b.loop(
            b.index(0), b.index(page.keyDim), 1, dots,
            [&](Value column, ValueRange carried) {
              Value q =
                  b.loadVector(query, {rowInBlock, column, b.index(0)}, heads);
              // What comes next, as fast as this is read.
              prefetch(b, nextLatents, Value(),
                       b.add(b.mul(first, page.keyDim), b.mul(column, some)));
              Values next;
              for (int64_t t = 0; t < some; ++t) {
                Value k = b.load(latents, {b.add(first, t), column});
                next.push_back(b.fma(b.broadcast(k, heads), q, carried[t]));
              }
              return next;
            });
        Value most = best[0];
        for (int64_t t = 0; t < some; ++t) {
          Value token = b.add(first, t);
          Value score = b.mulf(dots[t], b.f32(scale, vector));
          score = b.select(b.less(token, valid), score, b.f32(lowest, vector));
          if (plan.isWindowed())
            score = maskWindow(score, b.add(seen, token), startOf(count));
          b.storeVector(score, scores, {token, b.index(0)});
          most = b.maxf(most, score);
        }
        return Values{most};
      })[0];
  Value correction = b.exp(b.subf(old, maximum));
  b.storeVector(maximum, maxima, firstSlot);
  b.storeVector(correction, corrections, firstSlot);
  Value total = b.mulf(b.loadVector(totals, firstSlot, heads), correction);
  total = b.loop(b.index(0), valid, 1, total, [&](Value token, ValueRange sum) {
    Values at = {token, b.index(0)};
    Value x = b.loadVector(scores, at, heads);
    x = b.exp(b.subf(x, maximum));
    b.storeVector(x, scores, at);
    return Values{b.addf(sum[0], x)};
  })[0];
  b.storeVector(total, totals, firstSlot);

  int64_t headsAtOnce = std::min<int64_t>(heads, isWide() ? 4 : 2);
  valueTiles((isWide() ? 16 : 4) / headsAtOnce, [&](Value column,
                                                    int64_t vectors) {
    b.loop(b.index(0), b.index(heads), headsAtOnce, [&](Value head) {
      auto at = [&](int64_t h, int64_t v) {
        return Values{b.add(firstSlot, b.add(head, h)),
                      b.add(column, v * lanes)};
      };
      Values added;
      for (int64_t h = 0; h < headsAtOnce; ++h) {
        Value slot = b.add(firstSlot, b.add(head, h));
        Value factor = b.broadcast(b.load(corrections, slot), lanes);
        for (int64_t v = 0; v < vectors; ++v)
          added.push_back(b.mulf(b.loadVector(sums, at(h, v), lanes), factor));
      }
      added = b.loop(
          b.index(0), valid, 1, added, [&](Value token, ValueRange carried) {
            Values next, loaded;
            for (int64_t v = 0; v < vectors; ++v)
              loaded.push_back(b.loadVector(
                  latents, {token, b.add(column, v * lanes)}, lanes));
            for (int64_t h = 0; h < headsAtOnce; ++h) {
              Value p =
                  b.broadcast(b.load(scores, {token, b.add(head, h)}), lanes);
              for (int64_t v = 0; v < vectors; ++v)
                next.push_back(b.fma(p, loaded[v], carried[h * vectors + v]));
            }
            return next;
          });
      for (int64_t h = 0; h < headsAtOnce; ++h)
        for (int64_t v = 0; v < vectors; ++v)
          b.storeVector(added[h * vectors + v], sums, at(h, v));
    });
  });
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

static std::string splitName(const AttentionPlan &plan, bool isSplit) {
  std::string name;
  if (isSplit)
    name += llvm::formatv("_split_{0}", plan.segments).str();
  if (plan.selectedTokens)
    name += llvm::formatv("_selected_{0}", plan.selectedTokens).str();
  if (plan.isWindowed())
    name += llvm::formatv("_window_{0}_{1}", plan.windowTokens, plan.sinkTokens)
                .str();
  return name;
}

KernelOp KernelSet::attention(TypeRange types, PageLayout page, int64_t heads,
                              double scale, AttentionPlan plan, bool isSplit) {
  auto name =
      llvm::formatv("attention{0}_{1}_{2}_{3:e8}", splitName(plan, isSplit),
                    heads, pageName(page), scale)
          .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    HeadsAttention attention(b, kernel, page, plan, options.registers, scale);
    attention.queries = arguments[0];
    attention.positions = arguments[1];
    attention.sequences = arguments[2];
    attention.layer = arguments[3];
    if (isSplit)
      return attention.attendSegments(kernel, arguments[4], arguments[5]);
    attention.out = arguments[4];
    attention.attendBlocks(kernel, arguments[5], arguments[6]);
  });
}

KernelOp KernelSet::absorbedAttention(TypeRange types, PageLayout page,
                                      int64_t heads, int64_t ropeStride,
                                      double scale, AttentionPlan plan,
                                      bool isSplit) {
  auto name = llvm::formatv("absorbed_attention{0}_{1}_{2}_{3}_{4:e8}",
                            splitName(plan, isSplit), heads, ropeStride,
                            pageName(page), scale)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    LatentAttention attention(b, kernel, page, plan, options.registers, scale,
                              ropeStride);
    attention.queries = arguments[0];
    attention.ropeQueries = arguments[1];
    attention.positions = arguments[2];
    attention.sequences = arguments[3];
    attention.layer = arguments[4];
    auto rest = arguments.drop_front(5);
    if (plan.selectedTokens) {
      attention.selected = rest.front();
      rest = rest.drop_front();
    }
    if (isSplit)
      return attention.attendSegments(kernel, rest[0], rest[1]);
    attention.out = rest[0];
    attention.attendBlocks(kernel, rest[1], rest[2]);
  });
}

KernelOp KernelSet::mergeSegments(TypeRange types, int64_t valueDim,
                                  AttentionPlan plan) {
  auto name = llvm::formatv("merge_segments{0}_{1}x{2}x{3}_of_{4}",
                            splitName(plan, /*isSplit=*/false), plan.groups,
                            plan.groupHeads, valueDim, plan.segments)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value partials = arguments[0], stats = arguments[1];
    Value positions = arguments[2], out = arguments[3];
    int64_t heads = plan.groups * plan.groupHeads;
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      Value row = b.div(item, heads), head = b.rem(item, heads);
      Value group = b.div(head, plan.groupHeads);
      Value slot = b.rem(head, plan.groupHeads);
      Value unit = b.add(b.mul(row, plan.groups), group);
      Value position = b.toIndex(b.load(positions, row));
      if (plan.selectedTokens)
        position = b.min(position, b.index(plan.selectedTokens - 1));
      Value pages = b.add(b.div(position, plan.pageTokens()), 1);
      Value windowPage;
      if (plan.isWindowed()) {
        Value start =
            b.sub(b.add(position, 1),
                  b.min(b.add(position, 1), b.index(plan.windowTokens)));
        windowPage = b.div(start, plan.pageTokens());
      }
      Reach segments = reachedSegments(b, plan, pages, windowPage);
      Value column = b.mul(head, valueDim);
      Values merged =
          b.loop(b.index(0), segments.count, 1, {b.f32(noMaximum), b.f32(0)},
                 [&](Value segment, ValueRange carried) {
                   Value partial = b.add(b.mul(unit, plan.segments), segment);
                   return merge(
                       b, carried, b.load(stats, {partial, b.index(0), slot}),
                       b.load(stats, {partial, b.index(1), slot}),
                       b.equal(segment, b.index(0)), partials,
                       {partial, slot, b.index(0)}, out, row, column, valueDim);
                 });
      divide(b, out, {row, column}, merged[1], out, row, column, valueDim);
    });
  });
}
