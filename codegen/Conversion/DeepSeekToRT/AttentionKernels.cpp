// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels of attention: heads that share keys over the pages of their sequence.

#include "codegen/CUDA/Limits.h"
#include "codegen/Conversion/DeepSeekToRT/Attention.h"
#include "hadal_rt/abi.h"
#include "lib/Support/CheckedMath.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

/// Tokens of a segment, where attention is split over the context; at least a
/// page.
static constexpr int64_t mostSegmentTokens = 512;
/// Items that share out the segments of a row, at most. A power of two.
static constexpr int64_t mostStrands = 64;

/// Query heads of an item, over its rows.
static constexpr int64_t mostSlots = 64;
/// Groups that an item takes side by side, and their query heads together.
static constexpr int64_t mostSides = 4, mostSideHeads = 8;
/// Rows of an item where heads fill the lanes.
static constexpr int64_t mostLatentRows = 4;

/// Of a GPU, whose blocks of threads take an item: rows times heads, where
/// latents have three parts, where they are rounded to one, and where heads
/// have keys of their own, which leaves room for two blocks; at least that of a
/// tile. Tokens of a segment; blocks that keep all multiprocessors busy, and as
/// many where two or more fit on each and rows of several sequences, which come
/// one by one, are to be spread; and bytes of the sums of segments, at most.
static constexpr int64_t mostBlockSlots = 16, mostRoundedSlots = 64,
                         mostHeadSlots = 32;
static constexpr int64_t blockSegmentTokens = 1024, enoughBlocks = 128,
                         enoughHeadBlocks = 512;
static constexpr int64_t mostPartialBytes = 256 << 20;

int64_t hadal::largestDivisor(int64_t size, int64_t most) {
  int64_t divisor = std::max<int64_t>(1, std::min(size, most));
  while (size % divisor != 0)
    --divisor;
  return divisor;
}

AttentionPlan AttentionPlan::get(PageLayout page, int64_t heads,
                                 int64_t context, deepseek::WindowAttr window,
                                 const KernelOptions &options,
                                 int64_t selectedTokens) {
  AttentionPlan plan;
  bool isRounded = page.isOfPairs(options);
  int64_t blockSlots = isRounded       ? mostRoundedSlots
                       : page.isLatent ? mostBlockSlots
                                       : mostHeadSlots;
  if (options.dotProduct == DotProductKind::CUDA) {
    auto fits = [&] {
      return rt::BlockAttentionOp::getSharedBytes(
                 blockSlots, page.keyDim, page.isLatent ? 0 : page.valueDim,
                 page.element, isRounded) <= mostSharedBytes;
    };
    while (blockSlots > mostBlockSlots && !fits())
      blockSlots /= 2;
    plan.isOfBlocks = fits();
    // Latents have no other kernel there.
    if (page.isLatent && !plan.isOfBlocks)
      return plan;
  }
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
  // Only rows depend on caches: the order of sums follows from the groups.
  int64_t pageWords =
      page.pageTokens * (page.isLatent ? page.keyDim : *columns);
  int64_t cached = options.caches.l2Bytes / int64_t(sizeof(float)) - pageWords;
  int64_t cachedSlots = std::max<int64_t>(cached, 0) / (*columns + fixed);
  auto rowsFor = [&](int64_t most) {
    int64_t rows = std::min(slots, cachedSlots) / plan.groupHeads;
    return std::clamp<int64_t>(rows, 1, most);
  };
  if (plan.isOfBlocks && !page.isLatent) {
    plan.groupHeads = largestDivisor(heads / page.heads, blockSlots);
    plan.blockRows = blockSlots / plan.groupHeads;
  } else if (plan.isOfBlocks) {
    plan.groupHeads = 1;
    while (2 * plan.groupHeads <= blockSlots &&
           heads % (2 * plan.groupHeads) == 0)
      plan.groupHeads *= 2;
    plan.blockRows = selectedTokens ? 1 : blockSlots / plan.groupHeads;
  } else if (page.isLatent) {
    // A power of two: heads are lanes.
    plan.groupHeads = KernelBuilder::lanesFor(heads);
    while (plan.groupHeads > slots)
      plan.groupHeads /= 2;
    // Rows that choose for themselves share nothing.
    plan.blockRows = rowsFor(selectedTokens ? 1 : mostLatentRows);
  } else {
    plan.groupHeads = largestDivisor(heads / page.heads, slots);
    plan.blockRows = rowsFor(mostSlots);
    // Where a group has all heads of its keys.
    if (plan.groupHeads * page.heads == heads)
      plan.sides = largestDivisor(
          page.heads,
          std::min({mostSides, mostSideHeads / plan.groupHeads, slots}));
  }
  plan.groups = heads / plan.groupHeads;
  plan.slots = plan.blockRows * plan.groupHeads;
  // Those of a page and of the queries of all slots fill three quarters.
  plan.scoreColumns = llvm::bit_floor(
      std::max<uint64_t>(1, options.caches.l1Bytes / 4 * 3 / sizeof(float) /
                                (page.pageTokens + plan.slots)));
  int64_t segmentTokens =
      plan.isOfBlocks ? blockSegmentTokens : mostSegmentTokens;
  int64_t pages = std::max<int64_t>(1, segmentTokens / page.pageTokens);
  if (plan.isOfBlocks) {
    int64_t bytes = ceilDiv(context, pages * page.pageTokens) *
                    plan.groupHeads * page.valueDim * int64_t(sizeof(float));
    plan.fewItems =
        std::clamp(mostPartialBytes / bytes, plan.fewItems, enoughBlocks);
    plan.enoughItems = page.isLatent ? enoughBlocks : enoughHeadBlocks;
  }
  // What one token sees: a window may begin and end within a page.
  int64_t seenPages = ceilDiv(context, page.pageTokens);
  if (plan.isWindowed())
    seenPages = std::min(seenPages,
                         plan.sinkPages + 1 +
                             ceilDiv(plan.windowTokens - 1, page.pageTokens));
  if (plan.split().groups < plan.fewItems && seenPages > pages) {
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

AttentionPlan AttentionPlan::split() const {
  AttentionPlan plan = *this;
  plan.groupHeads *= sides;
  plan.groups /= sides;
  plan.blockRows = 1;
  plan.slots = plan.groupHeads;
  return plan;
}

Value hadal::maxIndex(KernelBuilder &b, Value x, Value y) {
  return b.select(b.less(x, y), y, x);
}

void Attention::tiled(Value count, int64_t most, ArrayRef<int64_t> sizes,
                      function_ref<void(Value, int64_t)> body) {
  Value begin = b.index(0);
  for (int64_t size : sizes) {
    if (size > most)
      continue;
    Value end =
        size == 1 ? count
                  : b.add(begin, b.mul(b.div(b.sub(count, begin), size), size));
    b.loop("begin", begin, end, size, [&](Value first) { body(first, size); });
    begin = end;
  }
}

void Attention::valueTiles(int64_t vectors,
                           function_ref<void(Value, int64_t)> body) {
  int64_t chunks = page.valueDim / lanes;
  vectors = std::min(vectors, chunks);
  int64_t whole = chunks / vectors * vectors;
  b.loop("column", b.index(0), b.index(whole * lanes), vectors * lanes,
         [&](Value column) { body(column, vectors); });
  if (chunks > whole)
    body(b.index(whole * lanes), chunks - whole);
}

void Attention::attendBlocks(KernelOp kernel, Value allRows, Value blockRows) {
  Value blocks = b.called("blocks", b.ceilDiv(allRows, blockRows));
  b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
    // The last rows of a prefill see most, and begin first.
    group = b.called("group", b.div(item, blocks));
    Value block = b.called(
        "block", b.sub(b.sub(blocks, b.index(1)), b.rem(item, blocks)));
    Value first = b.called("block_begin", b.mul(block, blockRows));
    Value last = b.called("block_end", b.min(b.add(first, blockRows), allRows));
    // Rows of several sequences share nothing, and come one by one.
    Value sequence = b.load(sequences, first);
    Value stride =
        b.loop(first, last, 1, blockRows, [&](Value i, ValueRange carried) {
          Value same =
              b.called("is_same", b.equal(sequence, b.load(sequences, i)));
          return Values{
              b.called("stride", b.select(same, carried[0], b.index(1)))};
        })[0];
    b.loop(first, last, stride, [&](Value i) {
      row = b.called("row", i);
      rows = b.called("row_count", b.min(stride, b.sub(last, i)));
      if (!runs)
        return attend();
      // They are looked for where there may be one.
      Value isMine = b.equal(b.load(runs, row), b.i32(0));
      Value isFew = b.less(allRows, b.index(ExpandedShape::leastRows));
      b.when(b.select(isFew, isFew, isMine), [&] { attend(); });
    });
  });
}

/// The segments that a token which sees \p pages has. \p windowPage is null
/// without a window.
static Reach reachedSegments(KernelBuilder &b, const AttentionPlan &plan,
                             Value pages, Value windowPage) {
  Value segments =
      b.called("segments",
               b.div(b.add(pages, plan.segmentPages - 1), plan.segmentPages));
  Value window = windowPage ? b.div(windowPage, plan.segmentPages) : Value();
  return Reach(b, b.index(0), segments, plan.sinkSegments, window);
}

/// Counts tokens and reads queries of rows [row, row + rows).
void Attention::attend() {
  slots = b.called("slots", b.mul(rows, plan.groupHeads));
  Values bounds = {b.index(0)};
  if (plan.isWindowed())
    bounds.push_back(b.index(INT32_MAX));
  bounds = b.loop(
      "slot", b.index(0), slots, 1, bounds,
      [&](Value slot, ValueRange carried) {
        Value count = contextOf(rowOf(slot));
        b.store(b.toI32(count), counts, slot);
        Values next = {b.called("most_seen", maxIndex(b, carried[0], count))};
        if (plan.isWindowed()) {
          Value start = startOf(count);
          b.store(b.toI32(start), starts, slot);
          next.push_back(b.called("first_seen", b.min(carried[1], start)));
        }
        return next;
      });
  if (plan.isWindowed())
    windowPage = b.div(bounds[1], page.pageTokens);
  readQueries();
  mostSeen = bounds[0];
  Value pages = b.called(
      "pages", b.div(b.add(mostSeen, page.pageTokens - 1), page.pageTokens));
  if (!plan.segments) {
    attendSegment(b.index(0), pages);
    return finish(/*isMerged=*/false);
  }
  fill(mergedMaxima, paddedSlots(), noMaximum);
  fill(mergedTotals, paddedSlots(), 0);
  Reach segments = reachedSegments(b, plan, pages, windowPage);
  b.loop(b.index(0), segments.count, 1, [&](Value i) {
    Value segment = segments.at(i);
    attendPages(segment, pages);
    mergeSegment(segment, b.called("is_first", b.equal(i, b.index(0))));
  });
  finish(/*isMerged=*/true);
}

/// Attends to \p segment of a sequence of \p pages.
void Attention::attendPages(Value segment, Value pages) {
  Value first = b.called("first_page", b.mul(segment, plan.segmentPages));
  attendSegment(first, b.called("last_page",
                                b.min(b.add(first, plan.segmentPages), pages)));
}

void Attention::attendSegment(Value firstPage, Value lastPage) {
  KernelBuilder::Named named(b, "attend_segment");
  fill(maxima, paddedSlots(), noMaximum);
  b.loop("slot", b.index(0), slots, 1, [&](Value slot) {
    b.loop("column", b.index(0), b.index(page.valueDim), lanes,
           [&](Value column) {
             b.storeVector(b.f32(0, b.vectorType(lanes)), sums, {slot, column});
           });
  });
  beginSegment();
  Reach pages(b, firstPage, lastPage, plan.sinkPages, windowPage);
  Value last = b.called("last_index", b.sub(pages.count, b.index(1)));
  b.loop(b.index(0), pages.count, 1, [&](Value i) {
    attendPage(b.called("page_index", pages.at(i)),
               pages.at(b.min(b.add(i, 1), last)));
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
  b.loop("column", b.index(0), b.index(dim), lanes, [&](Value column) {
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
  b.loop("column", b.index(0), b.index(dim), lanes, [&](Value column) {
    Values source(at);
    source.back() = b.add(source.back(), column);
    b.storeVector(b.mulf(b.loadVector(from, source, lanes), inverse), out,
                  {row, b.add(outColumn, column)});
  });
}

void Attention::mergeSegment(Value segment, Value isFirst) {
  KernelBuilder::Named named(b, "merge_segment");
  Value begin = b.called("segment_begin", b.mul(segment, plan.segmentTokens));
  b.loop("slot", b.index(0), slots, 1, [&](Value slot) {
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
  KernelBuilder::Named named(b, "divide_by_totals");
  b.loop("slot", b.index(0), slots, 1, [&](Value slot) {
    Value outRow = rowOf(slot);
    Value column = b.called("column", b.mul(headOf(slot), page.valueDim));
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
  b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
    // A thread takes consecutive items, and what there is of the context has
    // the first segments: in this order they are spread over threads.
    Value unit = b.called("unit", b.div(item, plan.strands));
    Value first =
        b.called("first_segment",
                 reverseBits(b, b.called("strand", b.rem(item, plan.strands)),
                             plan.strands));
    row = b.called("row", b.div(unit, plan.groups));
    group = b.called("group", b.rem(unit, plan.groups));
    rows = b.index(1);
    slots = b.index(plan.groupHeads);
    Value context = b.called("context", contextOf(row));
    mostSeen = context;
    Value pages = b.called(
        "pages", b.div(b.add(context, page.pageTokens - 1), page.pageTokens));
    if (plan.isWindowed())
      windowPage = b.div(startOf(context), page.pageTokens);
    Reach segments = reachedSegments(b, plan, pages, windowPage);
    b.when(b.less(first, segments.count), [&] {
      b.loop("slot", b.index(0), slots, 1, [&](Value slot) {
        b.store(b.toI32(context), counts, slot);
        if (plan.isWindowed())
          b.store(b.toI32(startOf(context)), starts, slot);
      });
      readQueries();
      KernelBuilder::Named named(b, "attend_segments");
      b.loop("segment", first, segments.count, plan.strands, [&](Value i) {
        attendPages(segments.at(i), pages);
        Value partial =
            b.called("partial", b.add(b.mul(unit, plan.segments), i));
        b.loop("slot", b.index(0), slots, 1, [&](Value slot) {
          b.store(b.load(maxima, slot), stats, {partial, b.index(0), slot});
          b.store(totalOf(slot), stats, {partial, b.index(1), slot});
          b.loop("column", b.index(0), b.index(page.valueDim), lanes,
                 [&](Value column) {
                   b.storeVector(b.loadVector(sums, {slot, column}, lanes),
                                 partials, {partial, slot, column});
                 });
        });
      });
    });
  });
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

/// What attention that is split over the context leaves to be merged: weighted
/// sums of values, and maxima and totals of weights.
static constexpr StringRef segmentNames[] = {"segment_sums", "segment_stats"};

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

/// The body of a kernel whose blocks of threads share what they read, of keys
/// of heads or, with \p ropeColumns, of latents.
static void attendByBlocks(KernelBuilder &b, KernelOp kernel, PageLayout page,
                           bool isRounded, int64_t heads, int64_t ropeColumns,
                           double scale, const AttentionPlan &plan,
                           bool isSplit, bool hasRuns) {
  ValueRange rest = kernel.getKernelArguments();
  auto take = [&](bool isThere = true) {
    Value first = isThere ? rest.front() : Value();
    rest = rest.drop_front(isThere);
    return first;
  };
  Value query = take(), rope = take(page.isLatent);
  Value positions = take(), sequences = take(), layer = take();
  Value selected = take(plan.selectedTokens != 0), runs = take(hasRuns);
  Values results(rest.take_front(isSplit ? 2 : 1));
  Value rows = isSplit ? Value() : rest[1];
  Value blockRows = isSplit ? Value() : rest[2];
  auto number = [&](int64_t value) { return b.getI64IntegerAttr(value); };
  auto offset = [&](PageLayout::Part part, bool isThere) {
    return number(isThere ? page.offsetBytes(part) : 0);
  };
  bool hasHeads = !page.isLatent;
  rt::BlockAttentionOp::create(
      b, kernel.getStep(), kernel.getFirst(), kernel.getLast(), query,
      positions, sequences, layer, rope, selected, runs, results, rows,
      blockRows, TypeAttr::get(page.element), b.getF32FloatAttr(float(scale)),
      isRounded ? b.getUnitAttr() : UnitAttr(), number(heads),
      number(hasHeads ? page.heads : 0), number(plan.groupHeads),
      number(plan.blockRows), number(page.keyDim), number(page.valueDim),
      number(ropeColumns), number(page.group),
      offset(PageLayout::KeyScales, page.isInteger()),
      number(hasHeads ? page.headBytes() : 0),
      offset(PageLayout::Values, hasHeads),
      offset(PageLayout::ValueScales, hasHeads && page.isInteger()),
      number(page.pageTokens), number(page.pageBytes()),
      number(page.layerBytes()), number(plan.selectedTokens),
      number(ExpandedShape::leastRows), number(plan.segments),
      number(plan.segmentTokens), number(plan.strands),
      number(plan.windowTokens), number(plan.sinkTokens),
      number(plan.sinkSegments));
}

KernelOp KernelSet::attention(TypeRange types, PageLayout page, int64_t heads,
                              double scale, AttentionPlan plan, bool isSplit) {
  auto name =
      llvm::formatv("attention{0}_{1}_{2}_{3:e8}", splitName(plan, isSplit),
                    heads, pageName(page), scale)
          .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    if (plan.isOfBlocks)
      return attendByBlocks(b, kernel, page, /*isRounded=*/false, heads,
                            /*ropeColumns=*/0, scale,
                            isSplit ? plan.split() : plan, isSplit,
                            /*hasRuns=*/false);
    auto arguments = kernel.getKernelArguments();
    HeadsAttention attention(b, kernel, page, isSplit ? plan.split() : plan,
                             options.registers, scale,
                             isSplit ? plan.sides : 1);
    attention.queries = b.called("queries", arguments[0]);
    attention.positions = arguments[1];
    attention.sequences = arguments[2];
    attention.layer = arguments[3];
    if (isSplit) {
      b.call(arguments.drop_front(4), segmentNames);
      return attention.attendSegments(kernel, arguments[4], arguments[5]);
    }
    attention.out = arguments[4];
    attention.attendBlocks(kernel, arguments[5], arguments[6]);
  });
}

KernelOp KernelSet::absorbedAttention(TypeRange types, PageLayout page,
                                      int64_t heads, int64_t ropeStride,
                                      double scale, AttentionPlan plan,
                                      bool isSplit, bool hasRuns) {
  auto name = llvm::formatv("absorbed_attention{0}{1}{2}_{3}_{4}_{5}_{6:e8}",
                            splitName(plan, isSplit),
                            page.isOfPairs(options) ? "_pairs" : "",
                            hasRuns ? "_runs" : "", heads, ropeStride,
                            pageName(page), scale)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    if (plan.isOfBlocks)
      return attendByBlocks(b, kernel, page, page.isOfPairs(options), heads,
                            ropeStride, scale, isSplit ? plan.split() : plan,
                            isSplit, hasRuns);
    LatentAttention attention(b, kernel, page, isSplit ? plan.split() : plan,
                              options, scale, ropeStride);
    b.call(arguments, {"queries", "rope_queries"});
    attention.queries = arguments[0];
    attention.ropeQueries = arguments[1];
    attention.positions = arguments[2];
    attention.sequences = arguments[3];
    attention.layer = arguments[4];
    auto rest = arguments.drop_front(5);
    if (plan.selectedTokens) {
      attention.selected = b.called("selected", rest.front());
      rest = rest.drop_front();
    }
    if (hasRuns) {
      attention.runs = b.called("runs", rest.front());
      rest = rest.drop_front();
    }
    if (isSplit) {
      b.call(rest, segmentNames);
      return attention.attendSegments(kernel, rest[0], rest[1]);
    }
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
    b.call(arguments, segmentNames);
    Value partials = arguments[0], stats = arguments[1];
    Value positions = arguments[2], out = arguments[3];
    int64_t heads = plan.groups * plan.groupHeads;
    b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      Value row = b.called("row", b.div(item, heads));
      Value head = b.called("head", b.rem(item, heads));
      Value group = b.called("group", b.div(head, plan.groupHeads));
      Value slot = b.called("slot", b.rem(head, plan.groupHeads));
      Value unit = b.called("unit", b.add(b.mul(row, plan.groups), group));
      Value position = b.toIndex(b.load(positions, row));
      if (plan.selectedTokens)
        position = b.min(position, b.index(plan.selectedTokens - 1));
      Value pages =
          b.called("pages", b.add(b.div(position, plan.pageTokens()), 1));
      Value windowPage;
      if (plan.isWindowed()) {
        Value start =
            b.sub(b.add(position, 1),
                  b.min(b.add(position, 1), b.index(plan.windowTokens)));
        windowPage = b.div(start, plan.pageTokens());
      }
      Reach segments = reachedSegments(b, plan, pages, windowPage);
      Value column = b.called("column", b.mul(head, valueDim));
      Values merged = b.loop(
          "segment", b.index(0), segments.count, 1,
          {b.f32(noMaximum), b.f32(0)}, [&](Value segment, ValueRange carried) {
            Value partial =
                b.called("partial", b.add(b.mul(unit, plan.segments), segment));
            return merge(b, carried, b.load(stats, {partial, b.index(0), slot}),
                         b.load(stats, {partial, b.index(1), slot}),
                         b.called("is_first", b.equal(segment, b.index(0))),
                         partials, {partial, slot, b.index(0)}, out, row,
                         column, valueDim);
          });
      divide(b, out, {row, column}, merged[1], out, row, column, valueDim);
    });
  });
}
