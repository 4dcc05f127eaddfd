// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention where keys are of their own.

#include "codegen/Conversion/DeepSeekToRT/Attention.h"

using namespace mlir;
using namespace hadal;
using Values = KernelBuilder::Values;

void HeadsAttention::readQueries() {
  KernelBuilder::Named named(b, "read_queries");
  int64_t width = KernelBuilder::lanesFor(page.keyDim);
  b.loop("slot", b.index(0), slots, 1, [&](Value slot) {
    Value from = b.called("row", rowOf(slot));
    Value column = b.called("column", b.mul(headOf(slot), page.keyDim));
    b.loop(b.index(0), b.index(page.keyDim), width, [&](Value i) {
      b.storeVector(b.loadVector(queries, {from, b.add(column, i)}, width),
                    query, {slot, i});
    });
  });
}

void HeadsAttention::beginSegment() {
  constexpr int64_t width = KernelBuilder::maxLanes;
  b.loop("slot", b.index(0), slots, 1, [&](Value slot) {
    b.storeVector(b.f32(0, b.vectorType(width)), totals, {slot, b.index(0)});
  });
}

void HeadsAttention::attendPage(Value pageIndex, Value nextPage) {
  KernelBuilder::Named named(b, "attend_page");
  // The first of them, if there are several sides.
  Value kvHead = b.div(b.mul(group, plan.groupHeads),
                       plan.groups * plan.groupHeads / page.heads);
  Value seen = b.called("seen", b.mul(pageIndex, page.pageTokens));
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
  auto sizes = tileSizes(/*isFew=*/sides > 1);
  Source keys = {keysPart, kvHead, valuesPart, kvHead, sizes};
  Source values = {valuesPart, kvHead, nextKeys, kvHead, sizes};
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

void HeadsAttention::tiles(const Source &source,
                           function_ref<int64_t(int64_t)> most,
                           function_ref<void(const Tile &)> body) {
  if (sides == 1)
    return tiled(
        slots, plan.slots, source.tileSizes,
        [&](Value slot, int64_t size) { body({Value(), slot, 1, size}); });
  tiled(b.index(sideHeads), sideHeads, source.tileSizes,
        [&](Value slot, int64_t size) {
          int64_t atOnce = largestDivisor(sides, most(size));
          b.loop("side", b.index(0), b.index(sides), atOnce,
                 [&](Value side) { body({side, slot, atOnce, size}); });
        });
}

void HeadsAttention::prefetchNext(const Source &source, Value kvHead,
                                  Value linear, int64_t count) {
  if (!source.next)
    return;
  for (int64_t i = 0; i < count; i += lineBytes / page.elementBytes())
    prefetch(b, source.next, kvHead, b.add(linear, i));
}

void HeadsAttention::widenPart(const Source &source, Value to, int64_t outer,
                               int64_t inner) {
  KernelBuilder::Named named(b, "widen_page");
  int64_t width = KernelBuilder::lanesFor(inner);
  b.loop(b.index(0), b.index(outer), 1, [&](Value i) {
    prefetchNext(source, source.kvHead, b.mul(i, inner), inner);
    b.loop(b.index(0), b.index(inner), width, [&](Value j) {
      Value stored = b.loadVector(source.part, {source.head, i, j}, width);
      b.storeVector(widen(b, stored), to, {b.index(0), i, j});
    });
  });
}

/// Scores of all tokens of the page; those that a slot does not see yet have
/// the lowest.
void HeadsAttention::score(const Source &keys, Value seen) {
  int64_t most = isWide() ? 8 : 2;
  tiles(
      keys, [&](int64_t size) { return most / size; },
      [&](const Tile &tile) { scoreTile(keys, seen, tile); });
}

void HeadsAttention::scoreTile(const Source &keys, Value seen,
                               const Tile &tile) {
  KernelBuilder::Named named(b, "score_tokens");
  constexpr int64_t width = KernelBuilder::maxLanes;
  int64_t vectors = page.pageTokens % (2 * width) == 0 ? 2 : 1;
  VectorType vector = b.vectorType(width);
  auto multiply = [&](Value token, Value column, Values &dots) {
    for (int64_t side = 0, dot = 0; side < tile.sides; ++side) {
      prefetchNext(keys, sideOf(keys.kvHead, tile, side),
                   b.add(b.mul(column, page.pageTokens), token),
                   vectors * width);
      Values keyLanes;
      for (int64_t v = 0; v < vectors; ++v) {
        Values lane = {sideOf(keys.head, tile, side), column,
                       b.add(token, v * width)};
        keyLanes.push_back(widen(b, b.loadVector(keys.part, lane, width)));
      }
      for (int64_t s = 0; s < tile.slots; ++s) {
        Value q =
            b.broadcast(b.load(query, {slotOf(tile, side, s), column}), width);
        for (int64_t v = 0; v < vectors; ++v, ++dot)
          dots[dot] = b.fma(q, keyLanes[v], dots[dot]);
      }
    }
  };
  auto finishScore = [&](Value dot, Value slot, Value kvHead, Value token) {
    Value count = b.broadcast(b.load(counts, slot), width);
    Value lane = b.add(b.broadcast(b.toI32(b.add(seen, token)), width),
                       b.laneNumbers(width));
    Value score = b.mulf(dot, b.f32(scale, vector));
    if (page.isInteger())
      score = b.mulf(score, b.loadVector(keyScales, {kvHead, token}, width));
    score = b.select(b.less(lane, count), score, b.f32(lowestScore, vector));
    if (plan.isWindowed())
      score = maskWindow(score, lane, b.broadcast(b.load(starts, slot), width));
    b.storeVector(score, scores, {slot, token});
  };
  int64_t unrolled = tile.size() > 2 ? 1 : largestDivisor(page.keyDim, 4);
  b.loop("token", b.index(0), b.index(page.pageTokens), vectors * width,
         [&](Value token) {
           Values dots(tile.size() * vectors, b.f32(0, vector));
           dots = b.loop("column", b.index(0), b.index(page.keyDim), unrolled,
                         dots, [&](Value column, ValueRange carried) {
                           Values next(carried);
                           for (int64_t u = 0; u < unrolled; ++u)
                             multiply(token, b.add(column, u), next);
                           return next;
                         });
           for (int64_t side = 0, dot = 0; side < tile.sides; ++side)
             for (int64_t s = 0; s < tile.slots; ++s)
               for (int64_t v = 0; v < vectors; ++v, ++dot)
                 finishScore(dots[dot], slotOf(tile, side, s),
                             page.isInteger() ? sideOf(kvHeadOfPage, tile, side)
                                              : Value(),
                             b.add(token, v * width));
         });
}

/// Makes weights of scores, corrects the maxima and totals.
void HeadsAttention::weigh() {
  KernelBuilder::Named named(b, "weigh_scores");
  constexpr int64_t width = KernelBuilder::maxLanes;
  int64_t vectors = page.pageTokens / width;
  auto at = [&](Value slot, int64_t v) {
    return Values{slot, b.index(v * width)};
  };
  b.loop("slot", b.index(0), slots, 1, [&](Value slot) {
    Value best = b.loadVector(scores, at(slot, 0), width);
    for (int64_t v = 1; v < vectors; ++v)
      best = b.maxf(best, b.loadVector(scores, at(slot, v), width));
    b.store(b.maxf(b.load(maxima, slot), b.maxLane(best)), newMaxima, slot);
  });
  b.loop("slot", b.index(0), slots, width, [&](Value slot) {
    Value maximum = b.loadVector(newMaxima, slot, width);
    Value old = b.loadVector(maxima, slot, width);
    b.storeVector(b.exp(b.subf(old, maximum)), corrections, slot);
    b.storeVector(maximum, maxima, slot);
  });
  b.loop("slot", b.index(0), slots, 1, [&](Value slot) {
    Value kvHead = kvHeadOfPage;
    if (sides > 1 && kvHead)
      kvHead = b.add(kvHead, b.div(slot, sideHeads));
    Value maximum = b.broadcast(b.load(maxima, slot), width);
    Value total = b.mulf(b.loadVector(totals, {slot, b.index(0)}, width),
                         b.broadcast(b.load(corrections, slot), width));
    for (int64_t v = 0; v < vectors; ++v) {
      Value x = b.loadVector(scores, at(slot, v), width);
      x = b.exp(b.subf(x, maximum));
      total = b.addf(total, x);
      // Values are integers: their weights take the scales.
      if (page.isInteger())
        x = b.mulf(
            x, b.loadVector(valueScales, {kvHead, b.index(v * width)}, width));
      b.storeVector(x, scores, at(slot, v));
    }
    b.storeVector(total, totals, {slot, b.index(0)});
  });
}

void HeadsAttention::addValues(const Source &values, Value seen) {
  // Sums that are held in registers: columns first, then sides.
  int64_t most = isWide() ? 16 : 4, chunks = page.valueDim / lanes;
  auto vectorsOf = [&](int64_t size) {
    return std::min(chunks, std::max<int64_t>(1, most / size));
  };
  tiles(
      values, [&](int64_t size) { return most / (size * vectorsOf(size)); },
      [&](const Tile &tile) {
        valueTiles(vectorsOf(tile.slots), [&](Value column, int64_t vectors) {
          addValueTile(values, seen, tile, column, vectors);
        });
      });
}

void HeadsAttention::addValueTile(const Source &values, Value seen,
                                  const Tile &tile, Value firstColumn,
                                  int64_t vectors) {
  KernelBuilder::Named named(b, "add_values");
  SmallVector<Value> tileSlots;
  for (int64_t side = 0; side < tile.sides; ++side)
    for (int64_t s = 0; s < tile.slots; ++s)
      tileSlots.push_back(slotOf(tile, side, s));
  // A side has one row, all of whose heads see the same.
  bool isMasked = sides == 1 && tile.slots > 1;
  Values valid;
  for (Value slot : tileSlots)
    valid.push_back(isMasked || valid.empty() ? validIn(countOf(slot), seen)
                                              : valid[0]);
  Value least = valid[0], most = valid[0];
  if (isMasked)
    for (Value other : ArrayRef(valid).drop_front()) {
      least = b.min(least, other);
      most = b.select(b.less(most, other), other, most);
    }
  auto columnOf = [&](int64_t v) { return b.add(firstColumn, v * lanes); };
  Values totals;
  for (Value slot : tileSlots) {
    Value correction = b.broadcast(b.load(corrections, slot), lanes);
    for (int64_t v = 0; v < vectors; ++v)
      totals.push_back(
          b.mulf(b.loadVector(sums, {slot, columnOf(v)}, lanes), correction));
  }
  auto add = [&](Value token, ValueRange carried, bool masked) {
    Values next(carried);
    for (int64_t side = 0, sum = 0; side < tile.sides; ++side) {
      prefetchNext(values, sideOf(values.kvHead, tile, side),
                   b.add(b.mul(token, page.valueDim), firstColumn),
                   vectors * lanes);
      Values loaded;
      for (int64_t v = 0; v < vectors; ++v) {
        Values at = {sideOf(values.head, tile, side), token, columnOf(v)};
        loaded.push_back(widen(b, b.loadVector(values.part, at, lanes)));
      }
      for (int64_t s = 0; s < tile.slots; ++s) {
        int64_t slot = side * tile.slots + s;
        Value p = b.broadcast(b.load(scores, {tileSlots[slot], token}), lanes);
        Value isSeen = masked ? b.less(token, valid[slot]) : Value();
        for (int64_t v = 0; v < vectors; ++v, ++sum) {
          Value added = b.fma(p, loaded[v], next[sum]);
          next[sum] = masked ? b.select(isSeen, added, next[sum]) : added;
        }
      }
    }
    return next;
  };
  totals = b.loop("token", b.index(0), least, 1, totals,
                  [&](Value token, ValueRange carried) {
                    return add(token, carried, /*masked=*/false);
                  });
  if (isMasked)
    totals = b.loop("token", least, most, 1, totals,
                    [&](Value token, ValueRange carried) {
                      return add(token, carried, /*masked=*/true);
                    });
  int64_t total = 0;
  for (Value slot : tileSlots)
    for (int64_t v = 0; v < vectors; ++v, ++total)
      b.storeVector(totals[total], sums, {slot, columnOf(v)});
}
