// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention over latents of which each head's keys and values are computed
// again, for many tokens of one sequence at a time.

#include "codegen/Conversion/DeepSeekToRT/Attention.h"
#include "codegen/Conversion/DeepSeekToRT/DequantizedTiles.h"
#include "hadal_rt/abi.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

/// Tokens whose keys and values are on the stack.
static constexpr int64_t tileTokens = 128;
/// Rows that are computed at a time.
static constexpr int64_t rowsAtOnce = 8;

static constexpr int64_t lanes = KernelBuilder::maxLanes;

std::optional<ExpandedShape> ExpandedShape::get(PageLayout page, int64_t heads,
                                                int64_t nope, int64_t value) {
  ExpandedShape shape;
  shape.heads = heads;
  shape.nope = nope;
  shape.value = value;
  shape.rank = page.valueDim;
  shape.rope = page.keyDim - page.valueDim;
  if (shape.rank % (2 * lanes) || shape.rope % (2 * lanes) ||
      nope % (2 * lanes) || value % (2 * lanes) ||
      page.pageTokens % (2 * lanes) || tileTokens % page.pageTokens)
    return std::nullopt;
  // Everything on the stack is in pairs or f32.
  std::optional<int64_t> words = checkedSum(nope, value);
  std::optional<int64_t> weights =
      words ? checkedProduct({*words, shape.rank / 2}) : words;
  int64_t columns = page.keyDim + 2 * shape.rope;
  constexpr int64_t most = HADAL_RT_KERNEL_STACK_BYTES / 4 / 8 * 7;
  if (!weights || *weights > most || columns > most / tileTokens)
    return std::nullopt;
  int64_t tile = tileTokens * (nope + shape.rope + value) / 2;
  int64_t pages = page.pageTokens * page.keyDim;
  int64_t rows = rowsAtOnce * ((nope + shape.rope) / 2 + 2 * tileTokens);
  if (*weights + tile + pages + rows > most)
    return std::nullopt;
  return shape;
}

/// \p count lanes of \p vector from \p begin on.
static Value sliceLanes(KernelBuilder &b, Value vector, int64_t begin,
                        int64_t count) {
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < count; ++i)
    mask.push_back(begin + i);
  return vector::ShuffleOp::create(b, vector, vector, mask);
}

namespace {

/// Attention of one head for a run of rows of one sequence: over tiles of the
/// context, expands the latents of the tile and then lets all rows see it. What
/// happens to a row depends on no other row.
class ExpandedAttention {
public:
  ExpandedAttention(KernelBuilder &b, KernelOp kernel, PageLayout page,
                    const ExpandedShape &shape, const KernelOptions &options,
                    double scale);

  void attend(KernelOp kernel, Value rows);

  /// The weights of keys or of values: one of both.
  struct Half {
    Value floats;
    std::optional<DequantizedTiles> codes;
  };
  Half keyWeight, valueWeight;
  Value queries, positions, sequences, layer, runs, stats, out;

private:
  void widenTile(const Half &half, Value tile);
  Value columnOf(const Half &half, Value tile, Value column);
  void readWeights();
  void attendRun(Value begin, Value end);
  void expandPage(Value pageIndex, Value token);
  void expandKeys(Value token);
  /// Adds to \p sums, \p vectors for each row of \p factors from \p first on,
  /// the products of pairs [0, \p end) of that row with the vectors of pairs
  /// that \p load gives.
  Values addPairs(Values sums, Value end, Value factors, Value first,
                  int64_t vectors,
                  function_ref<Value(Value pair, int64_t v)> load);
  void expandValues(Value latents, Value token);
  /// Rows [row, row + \p count), of which the last sees \p tokens of the tile.
  void attendRows(Value row, int64_t count, Value seen, Value tokens);
  void score(Value row, int64_t count, Value seen, Value tokens);
  void weigh(Value row, int64_t count, Value tokens);
  void addValues(Value row, int64_t count, Value tokens);
  Value countOf(Value row) {
    return b.add(b.toIndex(b.load(positions, row)), 1);
  }
  Values statOf(Value row, int64_t which) {
    return {row, b.add(b.mul(head, 2), which)};
  }
  VectorType pairVector() const {
    return VectorType::get({lanes}, b.getI32Type());
  }
  int64_t keyPairs() const { return (shape.nope + shape.rope) / 2; }

  KernelBuilder &b;
  PageLayout page;
  ExpandedShape shape;
  PairProduct pairs;
  double scale;
  Value step, head, run;
  /// The weights of the head: `[rank / 16, nope, 8]` pairs of columns of the
  /// rank, and `[value / 32, rank / 2, 32]`.
  Value keyPanels, valuePanels;
  /// Of a page: its latents in pairs, if they are not stored so, and `[key_dim
  /// / 2, page_tokens]`.
  Value wide, columns;
  /// Of a tile: pairs of columns `[(nope + rope) / 2, tokens]`, and of tokens
  /// `[tokens / 2, value]`.
  Value keys, values;
  /// Of the rows: `[rows, (nope + rope) / 2]`, `[rows, tokens]`, `[rows, tokens
  /// / 2]`, `[rows]`.
  Value query, scores, weights, corrections;
};

} // namespace

ExpandedAttention::ExpandedAttention(KernelBuilder &b, KernelOp kernel,
                                     PageLayout page,
                                     const ExpandedShape &shape,
                                     const KernelOptions &options, double scale)
    : b(b), page(page), shape(shape), pairs(b, options.bf16Pairs), scale(scale),
      step(kernel.getStep()) {
  Type i32 = b.getI32Type(), f32 = b.getF32Type();
  keyPanels =
      b.stack({shape.rank / lanes, shape.nope, lanes / 2}, i32, "key_panels");
  valuePanels = b.stack({shape.value / (2 * lanes), shape.rank / 2, 2 * lanes},
                        i32, "value_panels");
  if (page.isInteger())
    wide = b.stack({page.pageTokens, page.keyDim / 2}, i32, "wide");
  columns = b.stack({page.keyDim / 2, page.pageTokens}, i32, "columns");
  keys = b.stack({keyPairs(), tileTokens}, i32, "keys");
  values = b.stack({tileTokens / 2, shape.value}, i32, "values");
  query = b.stack({rowsAtOnce, keyPairs()}, i32, "query");
  scores = b.stack({rowsAtOnce, tileTokens}, f32, "scores");
  weights = b.stack({rowsAtOnce, tileTokens / 2}, i32, "weights");
  corrections = b.stack(rowsAtOnce, f32, "corrections");
}

void ExpandedAttention::attend(KernelOp kernel, Value rows) {
  b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
    head = b.rem(item, shape.heads);
    Value first = b.mul(b.div(item, shape.heads), ExpandedShape::blockRows);
    Value last = b.min(b.add(first, ExpandedShape::blockRows), rows);
    b.loop("row", first, last, 1, [&](Value row) {
      // A run is known by its end.
      Value end = b.load(runs, row),
            before = b.sub(maxIndex(b, row, b.index(1)), b.index(1));
      Value isFirst = b.equal(row, first);
      Value isOther = b.less(b.load(runs, before), end);
      Value begins = b.select(isFirst, isFirst, isOther);
      b.when(b.select(begins, b.less(b.i32(0), end), begins), [&] {
        readWeights();
        attendRun(row, b.min(last, b.toIndex(end)));
      });
    });
  });
}

/// Widens integers of \p tile of the head to where keys will be, eight columns
/// to a row.
void ExpandedAttention::widenTile(const Half &half, Value tile) {
  if (!half.codes)
    return;
  half.codes->forColumns(
      head, tile, {}, [&](Value k, ValueList columns, ValueRange) -> Values {
        constexpr int64_t perRow = tileTokens / lanes;
        b.storeVector(
            vector::BitCastOp::create(b, pairVector(), columns.front()), keys,
            {b.div(k, perRow), b.mul(b.rem(k, perRow), lanes)});
        return {};
      });
}

/// Column \p column of \p tile, which is the last that was widened.
Value ExpandedAttention::columnOf(const Half &half, Value tile, Value column) {
  if (!half.codes)
    return widen(
        b, b.loadVector(half.floats, {head, tile, column, b.index(0)}, lanes));
  constexpr int64_t perRow = tileTokens / lanes;
  return vector::BitCastOp::create(
      b, b.vectorType(lanes),
      b.loadVector(keys,
                   {b.div(column, perRow), b.mul(b.rem(column, perRow), lanes)},
                   lanes));
}

void ExpandedAttention::readWeights() {
  int64_t half = lanes / 2;
  // Lanes are columns of the rank.
  b.loop("tile", b.index(0), b.index(shape.rank / lanes), 1, [&](Value tile) {
    widenTile(keyWeight, tile);
    b.loop(b.index(0), b.index(shape.nope), 2, [&](Value n) {
      Value packed = pairs.packNeighbors(
          columnOf(keyWeight, tile, n), columnOf(keyWeight, tile, b.add(n, 1)));
      b.storeVector(sliceLanes(b, packed, 0, half), keyPanels,
                    {tile, n, b.index(0)});
      b.storeVector(sliceLanes(b, packed, half, half), keyPanels,
                    {tile, b.add(n, 1), b.index(0)});
    });
  });
  // Lanes are columns of the value.
  b.loop("tile", b.index(0), b.index(shape.value / lanes), 1, [&](Value tile) {
    widenTile(valueWeight, tile);
    Value panel = b.div(tile, 2), column = b.mul(b.rem(tile, 2), lanes);
    b.loop("pair", b.index(0), b.index(shape.rank / 2), 1, [&](Value pair) {
      Value c = b.mul(pair, 2);
      Value x = pairs.round(columnOf(valueWeight, tile, c));
      Value y = pairs.round(columnOf(valueWeight, tile, b.add(c, 1)));
      b.storeVector(pairs.pack(x, y), valuePanels, {panel, pair, column});
    });
  });
}

void ExpandedAttention::attendRun(Value begin, Value end) {
  run = begin;
  Value column = b.mul(head, shape.value);
  b.loop("row", begin, end, 1, [&](Value row) {
    b.store(b.f32(noMaximum), stats, statOf(row, 0));
    b.store(b.f32(0), stats, statOf(row, 1));
    b.loop(b.index(0), b.index(shape.value), lanes, [&](Value i) {
      b.storeVector(b.f32(0, b.vectorType(lanes)), out,
                    {row, b.add(column, i)});
    });
  });
  Value context = countOf(b.sub(end, b.index(1)));
  b.loop("seen", b.index(0), context, tileTokens, [&](Value seen) {
    Value last = b.min(b.add(seen, tileTokens), context);
    b.loop("token", seen, last, page.pageTokens, [&](Value token) {
      expandPage(b.div(token, page.pageTokens), b.sub(token, seen));
    });
    auto attendSome = [&](Value row, int64_t count) {
      Value most = countOf(b.add(row, count - 1));
      b.when(b.less(seen, most), [&] {
        Value tokens = b.sub(b.min(last, most), seen);
        attendRows(row, count, seen, tokens);
      });
    };
    Value rows = b.sub(end, begin);
    Value whole = b.add(begin, b.mul(b.div(rows, rowsAtOnce), rowsAtOnce));
    b.loop("row", begin, whole, rowsAtOnce,
           [&](Value row) { attendSome(row, rowsAtOnce); });
    b.loop("row", whole, end, 1, [&](Value row) { attendSome(row, 1); });
  });
  b.loop("row", begin, end, 1, [&](Value row) {
    Value inverse =
        b.broadcast(b.divf(b.f32(1), b.load(stats, statOf(row, 1))), lanes);
    b.loop(b.index(0), b.index(shape.value), lanes, [&](Value i) {
      Values at = {row, b.add(column, i)};
      b.storeVector(b.mulf(b.loadVector(out, at, lanes), inverse), out, at);
    });
  });
}

void ExpandedAttention::expandPage(Value pageIndex, Value token) {
  Value sequence = b.toIndex(b.load(sequences, run));
  Value latents = wide;
  if (page.isInteger()) {
    auto part = [&](PageLayout::Part which) {
      return pagePart(b, step, sequence, pageIndex, layer, page, which);
    };
    Value stored = part(PageLayout::Keys), scales = part(PageLayout::KeyScales);
    b.loop(b.index(0), b.index(page.pageTokens), 1, [&](Value i) {
      b.loop("column", b.index(0), b.index(page.keyDim), page.group,
             [&](Value column) {
               widenLatent(b, pairs, page, {stored, scales, i}, column,
                           page.group, wide, i);
             });
    });
  } else {
    latents = pagePairs(b, step, sequence, pageIndex, layer, page);
  }
  b.loop(
      "token", b.index(0), b.index(page.pageTokens), lanes, [&](Value first) {
        b.loop("pair", b.index(0), b.index(page.keyDim / 2), lanes,
               [&](Value pair) {
                 Values tile;
                 for (int64_t i = 0; i < lanes; ++i)
                   tile.push_back(
                       b.loadVector(latents, {b.add(first, i), pair}, lanes));
                 for (auto [i, x] : llvm::enumerate(transpose(b, tile)))
                   b.storeVector(x, columns, {b.add(pair, int64_t(i)), first});
               });
      });
  expandKeys(token);
  expandValues(latents, token);
}

void ExpandedAttention::expandKeys(Value token) {
  constexpr int64_t some = 8, vectors = 2;
  b.loop(
      "in_page", b.index(0), b.index(page.pageTokens), vectors * lanes,
      [&](Value inPage) {
        auto at = [&](Value row, int64_t v) {
          return Values{row, b.add(inPage, v * lanes)};
        };
        auto store = [&](Value x, Value row, int64_t v) {
          b.storeVector(x, keys, {row, b.add(b.add(token, inPage), v * lanes)});
        };
        b.loop(b.index(0), b.index(shape.nope), some, [&](Value n) {
          Values sums(some * vectors, b.f32(0, b.vectorType(lanes)));
          sums = b.loop(
              "tile", b.index(0), b.index(shape.rank / lanes), 1, sums,
              [&](Value tile, ValueRange carried) {
                Values next(carried);
                for (int64_t j = 0; j < lanes / 2; ++j) {
                  Value row = b.add(b.mul(tile, lanes / 2), j);
                  SmallVector<PairProduct::Pairs> latents;
                  for (int64_t v = 0; v < vectors; ++v)
                    latents.push_back(
                        pairs.unpack(b.loadVector(columns, at(row, v), lanes)));
                  for (int64_t i = 0; i < some; ++i) {
                    auto weight = pairs.broadcast(
                        b.load(keyPanels, {tile, b.add(n, i), b.index(j)}),
                        lanes);
                    for (int64_t v = 0; v < vectors; ++v) {
                      Value &sum = next[i * vectors + v];
                      sum = pairs.add(sum, weight, latents[v]);
                    }
                  }
                }
                return next;
              });
          for (int64_t i = 0; i < some; i += 2)
            for (int64_t v = 0; v < vectors; ++v)
              store(pairs.pack(pairs.round(sums[i * vectors + v]),
                               pairs.round(sums[(i + 1) * vectors + v])),
                    b.add(b.div(n, 2), i / 2), v);
        });
        b.loop(b.index(0), b.index(shape.rope / 2), 1, [&](Value i) {
          for (int64_t v = 0; v < vectors; ++v)
            store(b.loadVector(columns, at(b.add(i, shape.rank / 2), v), lanes),
                  b.add(i, shape.nope / 2), v);
        });
      });
}

Values
ExpandedAttention::addPairs(Values sums, Value end, Value factors, Value first,
                            int64_t vectors,
                            function_ref<Value(Value pair, int64_t v)> load) {
  auto rows = int64_t(sums.size()) / vectors;
  return b.loop(
      "pair", b.index(0), end, 1, sums, [&](Value pair, ValueRange carried) {
        Values next(carried);
        SmallVector<PairProduct::Pairs> loaded;
        for (int64_t v = 0; v < vectors; ++v)
          loaded.push_back(pairs.unpack(load(pair, v)));
        for (int64_t i = 0; i < rows; ++i) {
          auto factor =
              pairs.broadcast(b.load(factors, {b.add(first, i), pair}), lanes);
          for (int64_t v = 0; v < vectors; ++v) {
            Value &sum = next[i * vectors + v];
            sum = pairs.add(sum, factor, loaded[v]);
          }
        }
        return next;
      });
}

void ExpandedAttention::expandValues(Value latents, Value token) {
  constexpr int64_t some = 8, vectors = 2;
  b.loop("panel", b.index(0), b.index(shape.value / (2 * lanes)), 1,
         [&](Value panel) {
           b.loop(
               "token", b.index(0), b.index(page.pageTokens), some,
               [&](Value first) {
                 Values sums = addPairs(
                     Values(some * vectors, b.f32(0, b.vectorType(lanes))),
                     b.index(shape.rank / 2), latents, first, vectors,
                     [&](Value pair, int64_t v) {
                       return b.loadVector(valuePanels,
                                           {panel, pair, b.index(v * lanes)},
                                           lanes);
                     });
                 Value to = b.div(b.add(token, first), 2);
                 for (int64_t i = 0; i < some; i += 2)
                   for (int64_t v = 0; v < vectors; ++v)
                     b.storeVector(
                         pairs.pack(pairs.round(sums[i * vectors + v]),
                                    pairs.round(sums[(i + 1) * vectors + v])),
                         values,
                         {b.add(to, i / 2),
                          b.add(b.mul(panel, 2 * lanes), v * lanes)});
               });
         });
}

void ExpandedAttention::attendRows(Value row, int64_t count, Value seen,
                                   Value tokens) {
  int64_t keyDim = shape.nope + shape.rope;
  for (int64_t i = 0; i < count; ++i)
    b.loop("column", b.index(0), b.index(keyDim), 2 * lanes, [&](Value column) {
      Value from = b.add(b.mul(head, keyDim), column);
      Value fromRow = b.add(row, i);
      Value low = b.loadVector(queries, {fromRow, from}, lanes);
      Value high = b.loadVector(queries, {fromRow, b.add(from, lanes)}, lanes);
      b.storeVector(pairs.packNeighbors(low, high), query,
                    {b.index(i), b.div(column, 2)});
    });
  score(row, count, seen, tokens);
  weigh(row, count, tokens);
  addValues(row, count, tokens);
}

void ExpandedAttention::score(Value row, int64_t count, Value seen,
                              Value tokens) {
  constexpr int64_t vectors = 2;
  VectorType vector = b.vectorType(lanes);
  b.loop("token", b.index(0), tokens, vectors * lanes, [&](Value token) {
    Values dots(count * vectors, b.f32(0, vector));
    dots = b.loop(
        "pair", b.index(0), b.index(keyPairs()), 1, dots,
        [&](Value pair, ValueRange carried) {
          Values next(carried);
          SmallVector<PairProduct::Pairs> loaded;
          for (int64_t v = 0; v < vectors; ++v)
            loaded.push_back(pairs.unpack(
                b.loadVector(keys, {pair, b.add(token, v * lanes)}, lanes)));
          for (int64_t i = 0; i < count; ++i) {
            auto q = pairs.broadcast(b.load(query, {b.index(i), pair}), lanes);
            for (int64_t v = 0; v < vectors; ++v) {
              Value &dot = next[i * vectors + v];
              dot = pairs.add(dot, q, loaded[v]);
            }
          }
          return next;
        });
    for (int64_t i = 0; i < count; ++i) {
      Value seenByRow = b.broadcast(b.toI32(countOf(b.add(row, i))), lanes);
      for (int64_t v = 0; v < vectors; ++v) {
        Value inTile = b.add(token, v * lanes);
        Value lane = b.add(b.broadcast(b.toI32(b.add(seen, inTile)), lanes),
                           b.laneNumbers(lanes));
        Value score = b.mulf(dots[i * vectors + v], b.f32(scale, vector));
        score = b.select(b.less(lane, seenByRow), score,
                         b.f32(lowestScore, vector));
        b.storeVector(score, scores, {b.index(i), inTile});
      }
    }
  });
}

void ExpandedAttention::weigh(Value row, int64_t count, Value tokens) {
  VectorType vector = b.vectorType(lanes);
  for (int64_t i = 0; i < count; ++i) {
    Value ofRow = b.add(row, i), slot = b.index(i);
    Value best =
        b.loop("token", b.index(0), tokens, lanes, b.f32(lowestScore, vector),
               [&](Value token, ValueRange most) {
                 Value x = b.loadVector(scores, {slot, token}, lanes);
                 return Values{b.maxf(most[0], x)};
               })[0];
    Value old = b.load(stats, statOf(ofRow, 0));
    Value maximum = b.maxf(old, b.maxLane(best));
    Value correction = b.exp(b.subf(old, maximum));
    Value maxima = b.broadcast(maximum, lanes);
    Value total =
        b.loop("token", b.index(0), tokens, 2 * lanes, b.f32(0, vector),
               [&](Value token, ValueRange sum) {
                 auto weightOf = [&](int64_t v) {
                   Value x = b.loadVector(
                       scores, {slot, b.add(token, v * lanes)}, lanes);
                   return b.exp(b.subf(x, maxima));
                 };
                 Value packed = pairs.packNeighbors(weightOf(0), weightOf(1));
                 b.storeVector(packed, weights, {slot, b.div(token, 2)});
                 return Values{b.addf(b.addf(sum[0], pairs.first(packed)),
                                      pairs.second(packed))};
               })[0];
    Value before = b.load(stats, statOf(ofRow, 1));
    b.store(maximum, stats, statOf(ofRow, 0));
    b.store(b.fma(before, correction, b.sumLanes(total)), stats,
            statOf(ofRow, 1));
    b.store(correction, corrections, slot);
  }
}

void ExpandedAttention::addValues(Value row, int64_t count, Value tokens) {
  int64_t some = std::min<int64_t>(count, 4), vectors = 2;
  for (int64_t wider : {8, 4})
    if (some * wider <= 16 && shape.value % (wider * lanes) == 0) {
      vectors = wider;
      break;
    }
  // Pairs of whole vectors of scores: what a row does not see weighs nothing.
  Value end = b.mul(b.div(b.add(tokens, 2 * lanes - 1), 2 * lanes), lanes);
  b.loop("token", b.index(0), b.index(count), some, [&](Value first) {
    b.loop("column", b.index(0), b.index(shape.value), vectors * lanes,
           [&](Value column) {
             auto at = [&](int64_t i, int64_t v) {
               Value inHead = b.add(column, v * lanes);
               return Values{b.add(b.add(row, first), i),
                             b.add(b.mul(head, shape.value), inHead)};
             };
             Values sums;
             for (int64_t i = 0; i < some; ++i) {
               Value correction =
                   b.broadcast(b.load(corrections, b.add(first, i)), lanes);
               for (int64_t v = 0; v < vectors; ++v)
                 sums.push_back(
                     b.mulf(b.loadVector(out, at(i, v), lanes), correction));
             }
             sums = addPairs(std::move(sums), end, weights, first, vectors,
                             [&](Value pair, int64_t v) {
                               return b.loadVector(
                                   values, {pair, b.add(column, v * lanes)},
                                   lanes);
                             });
             for (int64_t i = 0; i < some; ++i)
               for (int64_t v = 0; v < vectors; ++v)
                 b.storeVector(sums[i * vectors + v], out, at(i, v));
           });
  });
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

KernelOp KernelSet::findRuns(TypeRange types) {
  return get("find_runs", types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value sequences = arguments[0], runs = arguments[1], span = arguments[2],
          rows = arguments[3];
    Value zero = b.index(0);
    auto find = [&](Value row, ValueRange carried) {
      Value begin = carried[0], next = b.add(row, 1);
      Value other = b.min(next, b.sub(rows, b.index(1)));
      Value isSame = b.equal(b.load(sequences, row), b.load(sequences, other));
      // The end of the run, if this row is its last.
      Value end =
          b.select(isSame, b.select(b.equal(next, rows), next, zero), next);
      Value isLast = b.less(zero, end);
      Value isShort =
          b.less(b.sub(next, begin), b.index(ExpandedShape::leastRows));
      b.when(isLast, [&] {
        Value mark = b.toI32(b.select(isShort, zero, next));
        b.loop(begin, next, 1, [&](Value i) { b.store(mark, runs, i); });
      });
      Value widens = b.select(isLast, isShort, isLast);
      return Values{b.select(isLast, next, begin),
                    b.select(widens, b.min(carried[1], begin), carried[1]),
                    b.select(widens, next, carried[2])};
    };
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value) {
      Values found = b.loop(zero, rows, 1, {zero, rows, zero}, find);
      b.store(b.toI32(b.min(found[1], found[2])), span, zero);
      b.store(b.toI32(found[2]), span, b.index(1));
    });
  });
}

KernelOp KernelSet::expandedAttention(TypeRange types, PageLayout page,
                                      const ExpandedShape &shape,
                                      std::optional<HeadShape> key,
                                      std::optional<HeadShape> value,
                                      double scale) {
  auto nameOf = [&](const std::optional<HeadShape> &half) {
    return half ? half->getName(shape.heads) : weightName(types[1]);
  };
  std::string weights = nameOf(key);
  if (nameOf(value) != weights)
    weights += "_" + nameOf(value);
  auto name = llvm::formatv("expanded_attention_{0}_{1}_{2}_{3}_{4}_{5:e8}",
                            shape.heads, shape.nope, shape.value,
                            pageName(page), weights, scale)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    ExpandedAttention attention(b, kernel, page, shape, options, scale);
    attention.queries = arguments[0];
    size_t next = 1;
    auto take = [&](ExpandedAttention::Half &half,
                    const std::optional<HeadShape> &codes) {
      if (codes)
        half.codes.emplace(b, options.dotProduct, *codes, arguments, next,
                           /*mostTiles=*/1);
      else
        half.floats = arguments[next++];
    };
    take(attention.keyWeight, key);
    take(attention.valueWeight, value);
    attention.positions = arguments[next++];
    attention.sequences = arguments[next++];
    attention.layer = arguments[next++];
    attention.runs = arguments[next++];
    attention.stats = arguments[next++];
    attention.out = arguments[next++];
    attention.attend(kernel, arguments[next]);
  });
}
