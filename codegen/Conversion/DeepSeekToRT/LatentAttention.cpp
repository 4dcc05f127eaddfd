// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention over latents, which all heads share.

#include "codegen/Conversion/DeepSeekToRT/Attention.h"

using namespace mlir;
using namespace hadal;
using Values = KernelBuilder::Values;

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

int64_t LatentAttention::blockColumns() const {
  // Each selected token would be looked up again for each block.
  if (plan.selectedTokens)
    return page.keyDim;
  int64_t unit = page.isInteger() ? page.group : 1;
  return unit * largestDivisor(page.keyDim / unit,
                               std::max<int64_t>(1, mostBlockColumns / unit));
}

void LatentAttention::widenBlock(Value count, Value firstColumn,
                                 function_ref<Place(Value)> placeOf) {
  int64_t group = page.isInteger() ? page.group : blockColumns();
  int64_t width = KernelBuilder::lanesFor(group);
  b.loop(b.index(0), count, 1, [&](Value i) {
    Place place = placeOf(i);
    b.loop(b.index(0), b.index(blockColumns()), group, [&](Value inBlock) {
      Value first = b.add(firstColumn, inBlock), scale;
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
  Value scales;
  if (page.isInteger())
    scales = partOf(pageIndex, PageLayout::KeyScales);
  auto placeOf = [&](Value i) {
    if (!selected)
      return Place{latents, scales, i};
    // Selected tokens [seen, seen + count), as if they were a page.
    Value position = b.toIndex(b.load(selected, {row, b.add(seen, i)}));
    Value index = b.div(position, page.pageTokens);
    return Place{partOf(index, PageLayout::Keys),
                 page.isInteger() ? partOf(index, PageLayout::KeyScales)
                                  : Value(),
                 b.rem(position, page.pageTokens)};
  };
  Value source = wide ? wide : latents;
  Value tokens = validIn(mostSeen, seen);
  // Some columns at a time, so that what all rows need of the page and of their
  // queries is in the first-level cache.
  b.loop(b.index(0), b.index(page.keyDim), blockColumns(), [&](Value column) {
    // What comes next, as fast as this is read.
    b.loop(b.index(0), tokens, 1, [&](Value token) {
      Value linear = b.add(b.mul(token, page.keyDim), column);
      for (int64_t i = 0; i < blockColumns();
           i += lineBytes / page.elementBytes())
        prefetch(b, nextLatents, Value(), b.add(linear, i));
    });
    if (wide)
      widenBlock(tokens, column, placeOf);
    static constexpr int64_t sizes[] = {2, 1};
    tiled(rows, ArrayRef(sizes).drop_front(plan.blockRows < 2),
          [&](Value rowInBlock, int64_t size) {
            scoreBlock(source, tokens, column, rowInBlock, size);
          });
  });
  b.loop(b.index(0), rows, 1, [&](Value rowInBlock) {
    Value count = countOf(b.mul(rowInBlock, heads));
    Value isSeen = b.less(seen, count);
    if (plan.isWindowed()) {
      Value inWindow = b.less(startOf(count), b.add(seen, page.pageTokens));
      Value inSink = b.less(pageIndex, b.index(plan.sinkPages));
      isSeen = b.select(inSink, isSeen, b.select(inWindow, isSeen, inWindow));
    }
    b.when(isSeen, [&] { attendRow(rowInBlock, source, seen, count); });
  });
}

void LatentAttention::scoreBlock(Value latents, Value tokens, Value firstColumn,
                                 Value rowInBlock, int64_t size) {
  VectorType vector = b.vectorType(heads);
  int64_t some = (isWide() ? 16 : 4) / size;
  Value isFirst = b.equal(firstColumn, b.index(0));
  // What lies past the last token is read, and not used.
  b.loop(b.index(0), tokens, some, [&](Value first) {
    auto at = [&](int64_t r, int64_t t) {
      return Values{b.add(rowInBlock, r), b.add(first, t), b.index(0)};
    };
    Values dots;
    for (int64_t r = 0; r < size; ++r)
      for (int64_t t = 0; t < some; ++t)
        dots.push_back(b.select(isFirst, b.f32(0, vector),
                                b.loadVector(scores, at(r, t), heads)));
    dots = b.loop(
        firstColumn, b.add(firstColumn, blockColumns()), 1, dots,
        [&](Value column, ValueRange carried) {
          Values next(carried), q;
          for (int64_t r = 0; r < size; ++r)
            q.push_back(b.loadVector(
                query, {b.add(rowInBlock, r), column, b.index(0)}, heads));
          for (int64_t t = 0; t < some; ++t) {
            Value k =
                b.broadcast(b.load(latents, {b.add(first, t), column}), heads);
            for (int64_t r = 0; r < size; ++r) {
              Value &dot = next[r * some + t];
              dot = b.fma(k, q[r], dot);
            }
          }
          return next;
        });
    for (int64_t r = 0; r < size; ++r)
      for (int64_t t = 0; t < some; ++t)
        b.storeVector(dots[r * some + t], scores, at(r, t));
  });
}

void LatentAttention::attendRow(Value rowInBlock, Value latents, Value seen,
                                Value count) {
  Value valid = validIn(count, seen);
  Value firstSlot = b.mul(rowInBlock, heads);
  VectorType vector = b.vectorType(heads);
  auto scoresOf = [&](Value token) {
    return Values{rowInBlock, token, b.index(0)};
  };

  Value old = b.loadVector(maxima, firstSlot, heads);
  Value maximum =
      b.loop(b.index(0), valid, 1, old, [&](Value token, ValueRange best) {
        Value score = b.mulf(b.loadVector(scores, scoresOf(token), heads),
                             b.f32(scale, vector));
        if (plan.isWindowed())
          score = maskWindow(score, b.add(seen, token), startOf(count));
        b.storeVector(score, scores, scoresOf(token));
        return Values{b.maxf(best[0], score)};
      })[0];
  Value correction = b.exp(b.subf(old, maximum));
  b.storeVector(maximum, maxima, firstSlot);
  b.storeVector(correction, corrections, firstSlot);
  Value total = b.mulf(b.loadVector(totals, firstSlot, heads), correction);
  total = b.loop(b.index(0), valid, 1, total, [&](Value token, ValueRange sum) {
    Values at = scoresOf(token);
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
              Value p = b.broadcast(
                  b.load(scores, {rowInBlock, token, b.add(head, h)}), lanes);
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
