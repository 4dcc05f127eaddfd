// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention where keys are of their own.

#include "codegen/Conversion/DeepSeekToRT/Attention.h"

using namespace mlir;
using namespace hadal;
using Values = KernelBuilder::Values;

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
              score = b.select(b.less(lane, count), score,
                               b.f32(lowestScore, vector));
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
