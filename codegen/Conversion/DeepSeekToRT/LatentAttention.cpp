// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention over latents, which all heads share.

#include "codegen/Conversion/DeepSeekToRT/Attention.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace hadal;
using Values = KernelBuilder::Values;

Values hadal::transpose(KernelBuilder &b, Values rows) {
  int64_t size = rows.size();
  for (int64_t step = 1; step < size; step *= 2) {
    // Squares of `step` right of the diagonal change places with those left.
    SmallVector<int64_t> upper, lower;
    for (int64_t i = 0; i < size; ++i) {
      upper.push_back(i & step ? size + i - step : i);
      lower.push_back(i & step ? size + i : i + step);
    }
    for (int64_t i = 0; i < size; ++i) {
      if (i & step)
        continue;
      Value x = rows[i], y = rows[i + step];
      rows[i] = vector::ShuffleOp::create(b, x, y, upper);
      rows[i + step] = vector::ShuffleOp::create(b, x, y, lower);
    }
  }
  return rows;
}

void LatentAttention::readQuery(Value from, Value rowInBlock, int64_t first,
                                int64_t stride, int64_t columns, int64_t to) {
  KernelBuilder::Named named(b, "read_query");
  Value fromRow = b.called("from_row", b.add(row, rowInBlock));
  auto columnOf = [&](Value head, Value i) {
    Value inHead = b.add(b.mul(i, unit), first);
    return b.add(b.mul(b.add(b.mul(group, heads), head), stride), inHead);
  };
  int64_t count = columns / unit, whole = count / heads * heads;
  b.loop(b.index(0), b.index(whole), heads, [&](Value i) {
    Values tile;
    for (int64_t head = 0; head < heads; ++head) {
      Value column = columnOf(b.index(head), i);
      Value x = b.loadVector(from, {fromRow, column}, heads);
      if (unit == 2)
        x = pairs.packNeighbors(
            x, b.loadVector(from, {fromRow, b.add(column, heads)}, heads));
      tile.push_back(x);
    }
    for (auto [j, x] : llvm::enumerate(transpose(b, tile)))
      b.storeVector(x, query, {rowInBlock, b.add(i, to + j), b.index(0)});
  });
  b.loop(b.index(whole), b.index(count), 1, [&](Value i) {
    b.loop("head", b.index(0), b.index(heads), 1, [&](Value head) {
      Value column = columnOf(head, i);
      Value x = b.load(from, {fromRow, column});
      if (unit == 2)
        x = pairs.pack(pairs.round(x),
                       pairs.round(b.load(from, {fromRow, b.add(column, 1)})));
      b.store(x, query, {rowInBlock, b.add(i, to), head});
    });
  });
}

void LatentAttention::readQueries() {
  int64_t rank = page.valueDim, rope = page.keyDim - rank;
  b.loop("row_in_block", b.index(0), rows, 1, [&](Value rowInBlock) {
    readQuery(queries, rowInBlock, 0, rank, rank, 0);
    readQuery(ropeQueries, rowInBlock, ropeStride - rope, ropeStride, rope,
              rank / unit);
  });
}

void LatentAttention::beginSegment() { fill(totals, paddedSlots(), 0); }

int64_t LatentAttention::blockColumns() const {
  // Each selected token would be looked up again for each block.
  if (plan.selectedTokens)
    return page.keyDim;
  int64_t whole = page.isInteger() ? page.group : unit;
  return whole *
         largestDivisor(page.keyDim / whole,
                        std::max<int64_t>(1, plan.scoreColumns / whole));
}

void hadal::widenLatent(KernelBuilder &b, PairProduct &pairs, PageLayout page,
                        const LatentPlace &place, Value column, int64_t count,
                        Value wide, Value to) {
  int64_t width = KernelBuilder::lanesFor(count / 2);
  Value group = b.div(column, page.group);
  Value scale = b.broadcast(b.load(place.scales, {place.token, group}), width);
  b.loop("k", b.index(0), b.index(count), 2 * width, [&](Value k) {
    Value from = b.add(column, k);
    auto load = [&](int64_t vector) {
      Value at = b.add(from, vector * width);
      Value x = b.loadVector(place.latents, {place.token, at}, width);
      return b.mulf(widen(b, x), scale);
    };
    b.storeVector(pairs.packNeighbors(load(0), load(1)), wide,
                  {to, b.div(from, 2)});
  });
}

void LatentAttention::widenBlock(Value count, Value firstColumn,
                                 function_ref<Place(Value)> placeOf) {
  KernelBuilder::Named named(b, "widen_latents");
  bool isCopy = unit == 2 && !page.isInteger();
  int64_t group = page.isInteger() ? page.group : blockColumns();
  int64_t width = KernelBuilder::lanesFor(isCopy ? group / 2 : group);
  b.loop(b.index(0), count, 1, [&](Value i) {
    Place place = placeOf(i);
    b.loop("in_block", b.index(0), b.index(blockColumns()), group,
           [&](Value inBlock) {
             Value first = b.add(firstColumn, inBlock), scale;
             if (unit == 2 && !isCopy)
               return widenLatent(b, pairs, page, place, first, group, wide, i);
             if (place.scales)
               scale = b.broadcast(
                   b.load(place.scales, {place.token, b.div(first, group)}),
                   width);
             int64_t perLane = isCopy ? 2 : 1;
             Value begin = b.div(first, perLane);
             b.loop("k", b.index(0), b.index(group / perLane), width,
                    [&](Value k) {
                      Value column = b.add(begin, k);
                      Value x = b.loadVector(place.latents,
                                             {place.token, column}, width);
                      if (!isCopy)
                        x = widen(b, x);
                      b.storeVector(scale ? b.mulf(x, scale) : x, wide,
                                    {i, column});
                    });
           });
  });
}

Value LatentAttention::latentsOf(Value pageIndex) {
  if (unit == 1 || page.isInteger())
    return partOf(pageIndex, PageLayout::Keys);
  return pagePairs(b, step, b.toIndex(b.load(sequences, row)), pageIndex, layer,
                   page);
}

void LatentAttention::attendPage(Value pageIndex, Value nextPage) {
  KernelBuilder::Named named(b, "attend_page");
  Value seen = b.called("seen", b.mul(pageIndex, page.pageTokens));
  Value latents = latentsOf(pageIndex);
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
    return Place{latentsOf(index),
                 page.isInteger() ? partOf(index, PageLayout::KeyScales)
                                  : Value(),
                 b.rem(position, page.pageTokens)};
  };
  Value source = wide ? wide : latents;
  Value tokens = validIn(mostSeen, seen);
  // Some columns at a time, so that what all rows need of the page and of their
  // queries is in the first-level cache.
  b.loop("column", b.index(0), b.index(page.keyDim), blockColumns(),
         [&](Value column) {
           // What comes next, as fast as this is read.
           b.loop("token", b.index(0), tokens, 1, [&](Value token) {
             Value linear = b.add(b.mul(token, page.keyDim), column);
             for (int64_t i = 0; i < blockColumns();
                  i += lineBytes / page.elementBytes())
               prefetch(b, nextLatents, Value(), b.add(linear, i));
           });
           if (wide)
             widenBlock(tokens, column, placeOf);
           static constexpr int64_t sizes[] = {2, 1};
           tiled(rows, plan.blockRows, sizes,
                 [&](Value rowInBlock, int64_t size) {
                   scoreBlock(source, tokens, column, rowInBlock, size);
                 });
         });
  if (unit == 2)
    pairTokens(source, tokens);
  b.loop("row_in_block", b.index(0), rows, 1, [&](Value rowInBlock) {
    Value count = countOf(b.mul(rowInBlock, heads));
    Value isSeen = b.called("is_seen", b.less(seen, count));
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
  KernelBuilder::Named named(b, "score_tokens");
  VectorType vector = b.vectorType(heads);
  int64_t some = (isWide() ? 16 : 4) / size;
  Value isFirst = b.called("is_first", b.equal(firstColumn, b.index(0)));
  // What lies past the last token is read, and not used.
  b.loop("token", b.index(0), tokens, some, [&](Value first) {
    auto at = [&](int64_t r, int64_t t) {
      return Values{b.add(rowInBlock, r), b.add(first, t), b.index(0)};
    };
    Values dots;
    for (int64_t r = 0; r < size; ++r)
      for (int64_t t = 0; t < some; ++t)
        dots.push_back(b.select(isFirst, b.f32(0, vector),
                                b.loadVector(scores, at(r, t), heads)));
    Value begin = b.div(firstColumn, unit);
    auto multiply = [&](Value column, ValueRange carried) {
      Values next(carried);
      SmallVector<PairProduct::Pairs> queryPairs;
      Values q;
      for (int64_t r = 0; r < size; ++r) {
        q.push_back(b.loadVector(
            query, {b.add(rowInBlock, r), column, b.index(0)}, heads));
        if (unit == 2)
          queryPairs.push_back(pairs.unpack(q.back()));
      }
      for (int64_t t = 0; t < some; ++t) {
        Value k = b.load(latents, {b.add(first, t), column});
        if (unit == 2) {
          PairProduct::Pairs keyPairs = pairs.broadcast(k, heads);
          for (int64_t r = 0; r < size; ++r)
            next[r * some + t] =
                pairs.add(next[r * some + t], queryPairs[r], keyPairs);
          continue;
        }
        k = b.broadcast(k, heads);
        for (int64_t r = 0; r < size; ++r)
          next[r * some + t] = b.fma(k, q[r], next[r * some + t]);
      }
      return next;
    };
    dots =
        b.loop(begin, b.add(begin, blockColumns() / unit), 1, dots, multiply);
    for (int64_t r = 0; r < size; ++r)
      for (int64_t t = 0; t < some; ++t)
        b.storeVector(dots[r * some + t], scores, at(r, t));
  });
}

void LatentAttention::pairTokens(Value latents, Value tokens) {
  KernelBuilder::Named named(b, "pair_tokens");
  int64_t width = KernelBuilder::lanesFor(page.valueDim / 2);
  Value zero = b.broadcast(b.i32(0), width);
  b.loop("pair", b.index(0), b.div(b.add(tokens, 1), 2), 1, [&](Value pair) {
    Value token = b.mul(pair, 2), next = b.add(token, 1);
    // What lies past the last token may be any bits.
    Value isToken = b.less(next, tokens);
    b.loop("column", b.index(0), b.index(page.valueDim / 2), width,
           [&](Value column) {
             Value x = b.loadVector(latents, {token, column}, width);
             Value y = b.loadVector(latents, {next, column}, width);
             auto [low, high] = pairs.transpose(x, b.select(isToken, y, zero));
             Value to = b.mul(column, 2);
             b.storeVector(low, values, {pair, to});
             b.storeVector(high, values, {pair, b.add(to, width)});
           });
  });
}

Value LatentAttention::weigh(Value rowInBlock, Value valid, Value maximum,
                             Value total) {
  KernelBuilder::Named named(b, "weigh_scores");
  auto weightOf = [&](Value token) {
    Value score = b.loadVector(scores, {rowInBlock, token, b.index(0)}, heads);
    return b.exp(b.subf(score, maximum));
  };
  if (unit == 1)
    return b.loop("token", b.index(0), valid, 1, total,
                  [&](Value token, ValueRange sum) {
                    Value x = weightOf(token);
                    b.storeVector(x, scores, {rowInBlock, token, b.index(0)});
                    return Values{b.addf(sum[0], x)};
                  })[0];
  return b.loop(
      "token", b.index(0), valid, 2, total, [&](Value token, ValueRange sum) {
        Value next = b.add(token, 1);
        Value x = pairs.round(weightOf(token)), y = pairs.round(weightOf(next));
        y = b.select(b.less(next, valid), y, b.f32(0, y.getType()));
        b.storeVector(pairs.pack(x, y), weights, {b.div(token, 2), b.index(0)});
        return Values{b.addf(b.addf(sum[0], x), y)};
      })[0];
}

void LatentAttention::attendRow(Value rowInBlock, Value latents, Value seen,
                                Value count) {
  KernelBuilder::Named named(b, "attend_row");
  Value valid = validIn(count, seen);
  Value firstSlot = b.called("slot", b.mul(rowInBlock, heads));
  VectorType vector = b.vectorType(heads);
  auto scoresOf = [&](Value token) {
    return Values{rowInBlock, token, b.index(0)};
  };

  Value old = b.loadVector(maxima, firstSlot, heads);
  Value maximum = b.loop(
      "token", b.index(0), valid, 1, old, [&](Value token, ValueRange best) {
        Value score = b.mulf(b.loadVector(scores, scoresOf(token), heads),
                             b.f32(scale, vector));
        if (plan.isWindowed())
          score = maskWindow(score, b.add(seen, token), startOf(count));
        b.storeVector(score, scores, scoresOf(token));
        return Values{b.maxf(best[0], score)};
      })[0];
  Value correction = b.called("correction", b.exp(b.subf(old, maximum)));
  b.storeVector(maximum, maxima, firstSlot);
  b.storeVector(correction, corrections, firstSlot);
  Value total = b.mulf(b.loadVector(totals, firstSlot, heads), correction);
  total = weigh(rowInBlock, valid, maximum, total);
  b.storeVector(total, totals, firstSlot);

  int64_t headsAtOnce = std::min<int64_t>(heads, isWide() ? 4 : 2);
  valueTiles((isWide() ? 16 : 4) / headsAtOnce, [&](Value column,
                                                    int64_t vectors) {
    b.loop("head", b.index(0), b.index(heads), headsAtOnce, [&](Value head) {
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
      auto addTokens = [&](Value token, ValueRange carried) {
        Values next, loaded;
        SmallVector<PairProduct::Pairs> loadedPairs;
        for (int64_t v = 0; v < vectors; ++v) {
          loaded.push_back(b.loadVector(unit == 2 ? values : latents,
                                        {token, b.add(column, v * lanes)},
                                        lanes));
          if (unit == 2)
            loadedPairs.push_back(pairs.unpack(loaded.back()));
        }
        for (int64_t h = 0; h < headsAtOnce; ++h) {
          if (unit == 2) {
            Value p = b.load(weights, {token, b.add(head, h)});
            PairProduct::Pairs weight = pairs.broadcast(p, lanes);
            for (int64_t v = 0; v < vectors; ++v)
              next.push_back(
                  pairs.add(carried[h * vectors + v], weight, loadedPairs[v]));
            continue;
          }
          Value p = b.broadcast(
              b.load(scores, {rowInBlock, token, b.add(head, h)}), lanes);
          for (int64_t v = 0; v < vectors; ++v)
            next.push_back(b.fma(p, loaded[v], carried[h * vectors + v]));
        }
        return next;
      };
      Value end = unit == 2 ? b.div(b.add(valid, 1), 2) : valid;
      added = b.loop(b.index(0), end, 1, added, addTokens);
      for (int64_t h = 0; h < headsAtOnce; ++h)
        for (int64_t v = 0; v < vectors; ++v)
          b.storeVector(added[h * vectors + v], sums, at(h, v));
    });
  });
}
