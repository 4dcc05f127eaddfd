// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels of attention over a window and compressed entries. What a row reads
// of the cache, and in which order, follows from its position alone.

#include "codegen/Conversion/DeepSeekToRT/CompressedLayout.h"
#include "codegen/Conversion/DeepSeekToRT/Kernels.h"
#include "hadal_rt/abi.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;
using deepseek::CachePart;

/// Below every score and gate.
static constexpr double lowest = -1e30;

//===----------------------------------------------------------------------===//
// Layout
//===----------------------------------------------------------------------===//

CompressedLayout CompressedLayout::get(deepseek::CompressedCacheType cache,
                                       int64_t pageTokens) {
  CompressedLayout layout;
  layout.pageTokens = pageTokens;
  layout.overlapping = cache.getOverlapping();
  layout.dim = cache.getDim();
  layout.indexDim = cache.getIndexDim();
  int64_t end = 0;
  // Adds a place to \p places for each of \p layers layers.
  auto add = [&](std::initializer_list<std::pair<Place *, Shape>> places,
                 int64_t layers) {
    int64_t layerBytes = 0;
    for (auto [place, shape] : places) {
      place->base = end;
      place->offset = layerBytes;
      place->shape = shape;
      layerBytes += roundUp(shape.rows * shape.columns * 4, rt::alignmentBytes);
    }
    for (auto [place, shape] : places)
      place->layerBytes = layerBytes;
    end += layers * layerBytes;
  };
  add({{&layout.keys, {pageTokens, layout.dim}}}, cache.getLayers());
  for (int64_t ratio : cache.getDistinctRatios()) {
    int64_t layers = cache.countLayers(ratio);
    bool overlaps = cache.isOverlapping(ratio);
    int64_t entries = std::max<int64_t>(1, pageTokens / ratio);
    for (CachePart part : {CachePart::Entries, CachePart::Index}) {
      bool isIndex = part == CachePart::Index;
      if (isIndex && !overlaps)
        continue;
      int64_t dim = isIndex ? layout.indexDim : layout.dim;
      int64_t columns = overlaps ? 2 * dim : dim;
      Compressor &c = layout.compressors[{ratio, isIndex}];
      add({{&c.values, {pageTokens, columns}},
           {&c.gates, {pageTokens, columns}},
           {&c.entries, {entries, dim}}},
          layers);
    }
  }
  layout.pageBytes = end;
  return layout;
}

/// Distinguishes caches in the names of kernels.
static std::string layoutName(const CompressedLayout &layout) {
  std::string name = llvm::formatv("{0}_{1}", layout.dim, layout.pageTokens);
  for (const auto &[key, c] : layout.compressors)
    name += llvm::formatv("_{0}{1}_{2}_{3}", key.first, key.second ? "i" : "",
                          c.values.base, c.entries.shape.columns)
                .str();
  return name + llvm::formatv("_of_{0}", layout.pageBytes).str();
}

namespace {

/// Rows of the cache of one sequence, in a kernel.
class CacheRows {
public:
  CacheRows(KernelBuilder &b, KernelOp kernel, const CompressedLayout &layout,
            Value sequence)
      : b(b), step(kernel.getStep()), layout(layout), sequence(sequence) {}

  /// A memref and a row in it.
  struct Row {
    Value memref, row;
  };
  /// What \p place has of the token at \p position.
  Row ofToken(const CompressedLayout::Place &place, Value layer,
              Value position) {
    return {page(place, layer, b.div(position, layout.pageTokens)),
            b.rem(position, layout.pageTokens)};
  }
  /// Entry \p window of \p place: it lies with the last token of its window.
  Row ofWindow(const CompressedLayout::Place &place, Value layer, Value window,
               int64_t ratio) {
    Value last = b.add(b.mul(window, ratio), ratio - 1);
    Value row = b.index(0);
    if (ratio < layout.pageTokens)
      row = b.div(b.rem(last, layout.pageTokens), ratio);
    return {page(place, layer, b.div(last, layout.pageTokens)), row};
  }

private:
  Value page(const CompressedLayout::Place &place, Value layer, Value index) {
    auto type = MemRefType::get({place.shape.rows, place.shape.columns},
                                b.getF32Type());
    return rt::PageOp::create(b, type, step, sequence, index, layer,
                              layout.pageBytes, place.layerBytes, place.offset,
                              place.base);
  }

  KernelBuilder &b;
  Value step;
  const CompressedLayout &layout;
  Value sequence;
};

} // namespace

//===----------------------------------------------------------------------===//
// Compressors
//===----------------------------------------------------------------------===//

KernelOp KernelSet::appendCompressed(TypeRange types,
                                     const CompressedLayout &layout) {
  auto name = "append_compressed_" + layoutName(layout);
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    int64_t lanes = KernelBuilder::lanesFor(layout.dim);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value position = b.toIndex(b.load(arguments[1], row));
      CacheRows cache(b, kernel, layout, b.toIndex(b.load(arguments[2], row)));
      auto key = cache.ofToken(layout.keys, arguments[3], position);
      b.loop(b.index(0), b.index(layout.dim), lanes, [&](Value i) {
        b.storeVector(b.loadVector(arguments[0], {row, i}, lanes), key.memref,
                      {key.row, i});
      });
    });
  });
}

KernelOp KernelSet::appendCompressor(TypeRange types,
                                     const CompressedLayout &layout,
                                     int64_t ratio, bool isIndex) {
  auto name = llvm::formatv("append_compressor_{0}{1}_{2}", ratio,
                            isIndex ? "_index" : "", layoutName(layout))
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    const CompressedLayout::Compressor &c = layout.compressor(ratio, isIndex);
    int64_t columns = c.values.shape.columns;
    int64_t lanes = KernelBuilder::lanesFor(columns);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value position = b.toIndex(b.load(arguments[3], row));
      CacheRows cache(b, kernel, layout, b.toIndex(b.load(arguments[4], row)));
      auto value = cache.ofToken(c.values, arguments[5], position);
      auto gate = cache.ofToken(c.gates, arguments[5], position);
      Value place = b.rem(position, ratio);
      b.loop(b.index(0), b.index(columns), lanes, [&](Value i) {
        b.storeVector(b.loadVector(arguments[0], {row, i}, lanes), value.memref,
                      {value.row, i});
        Value biased = b.addf(b.loadVector(arguments[1], {row, i}, lanes),
                              b.loadVector(arguments[2], {place, i}, lanes));
        b.storeVector(biased, gate.memref, {gate.row, i});
      });
    });
  });
}

KernelOp KernelSet::compress(TypeRange types, const CompressedLayout &layout,
                             int64_t ratio, bool isIndex, int64_t rotated,
                             float epsilon) {
  auto name = llvm::formatv("compress_{0}{1}_{2}_{3:e8}_{4}", ratio,
                            isIndex ? "_index" : "", rotated, epsilon,
                            layoutName(layout))
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value norm = arguments[0], table = arguments[1], layer = arguments[4];
    const CompressedLayout::Compressor &c = layout.compressor(ratio, isIndex);
    bool overlaps = layout.overlapping == ratio;
    int64_t dim = c.entries.shape.columns;
    int64_t lanes = KernelBuilder::lanesFor(dim);
    VectorType vector = b.vectorType(lanes);
    Value entry = b.stack(dim, b.getF32Type(), "entry");

    auto pool = [&](Value row) {
      Value position = b.toIndex(b.load(arguments[2], row));
      CacheRows cache(b, kernel, layout, b.toIndex(b.load(arguments[3], row)));
      Value end = b.add(position, 1);
      Value begin = b.sub(end, b.index(ratio));
      // Of the window before, if there is one, tokens have first halves.
      Value before = b.select(b.equal(begin, b.index(0)), begin,
                              b.sub(begin, b.index(ratio)));
      auto forMembers =
          [&](Value column, Values carried,
              function_ref<Values(Value, Value, ValueRange)> body) {
            auto span = [&](Value first, Value last, Value at) {
              carried = b.loop(first, last, 1, carried,
                               [&](Value p, ValueRange values) {
                                 return body(p, at, values);
                               });
            };
            if (overlaps)
              span(before, begin, column);
            span(begin, end, overlaps ? b.add(column, dim) : column);
            return carried;
          };
      auto load = [&](const CompressedLayout::Place &place, Value p,
                      Value column) {
        auto at = cache.ofToken(place, layer, p);
        return b.loadVector(at.memref, {at.row, column}, lanes);
      };
      Value squares =
          b.loop("column", b.index(0), b.index(dim), lanes, b.f32(0, vector),
                 [&](Value column, ValueRange carried) {
                   Value most = forMembers(
                       column, {b.f32(lowest, vector)},
                       [&](Value p, Value at, ValueRange values) {
                         return Values{b.maxf(values[0], load(c.gates, p, at))};
                       })[0];
                   Values sums = forMembers(
                       column, {b.f32(0, vector), b.f32(0, vector)},
                       [&](Value p, Value at, ValueRange values) {
                         Value weight =
                             b.exp(b.subf(load(c.gates, p, at), most));
                         return Values{
                             b.addf(values[0], weight),
                             b.fma(weight, load(c.values, p, at), values[1])};
                       });
                   Value x = b.divf(sums[1], sums[0]);
                   b.storeVector(x, entry, column);
                   return Values{b.fma(x, x, carried[0])};
                 })[0];
      Value mean = b.divf(b.sumLanes(squares), b.f32(double(dim)));
      Value factor = b.broadcast(
          b.divf(b.f32(1), b.sqrt(b.addf(mean, b.f32(double(epsilon))))),
          lanes);
      auto out = cache.ofWindow(c.entries, layer, b.div(begin, ratio), ratio);
      b.loop(b.index(0), b.index(dim), lanes, [&](Value i) {
        Value x = b.mulf(b.mulf(b.loadVector(entry, i, lanes), factor),
                         b.loadVector(norm, i, lanes));
        b.storeVector(x, entry, i);
        b.storeVector(x, out.memref, {out.row, i});
      });
      int64_t half = rotated / 2, width = KernelBuilder::lanesFor(half);
      b.loop(b.index(0), b.index(half), width, [&](Value i) {
        Value cosine = b.loadVector(table, {begin, i}, width);
        Value sine = b.loadVector(table, {begin, b.add(i, half)}, width);
        Value at = b.add(b.mul(i, 2), dim - rotated);
        auto parts = vector::DeinterleaveOp::create(
            b, b.loadVector(entry, at, 2 * width));
        Value x = parts.getRes1(), y = parts.getRes2();
        Value newX = b.subf(b.mulf(x, cosine), b.mulf(y, sine));
        Value newY = b.addf(b.mulf(y, cosine), b.mulf(x, sine));
        b.storeVector(vector::InterleaveOp::create(b, newX, newY), out.memref,
                      {out.row, at});
      });
    };
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value position = b.toIndex(b.load(arguments[2], row));
      Value isLast = b.equal(b.rem(b.add(position, 1), ratio), b.index(0));
      b.when(isLast, [&] { pool(row); });
    });
  });
}

//===----------------------------------------------------------------------===//
// Selection
//===----------------------------------------------------------------------===//

namespace {

/// The largest of a sequence of scores, in the order in which they came. They
/// are kept as integers that are ordered, unsigned, as the scores are.
class Selection {
public:
  Selection(KernelBuilder &b, int64_t count)
      : b(b), count(count), block(roundUp(count, width)) {
    keys = b.stack(2 * block, b.getI32Type(), "keys");
    ids = b.stack(2 * block, b.getI32Type(), "ids");
  }

  /// Leaves in `ids` the indices of the largest of \p size > count scores.
  void run(Value size, function_ref<Value(Value)> score) {
    b.loop("begin", b.index(0), size, block, b.index(0),
           [&](Value first, ValueRange carried) {
             Value held = carried[0];
             Value last = b.min(b.add(first, block), size);
             b.loop(first, last, 1, [&](Value i) {
               Value at = b.add(held, b.sub(i, first));
               b.store(toKey(score(i)), keys, at);
               b.store(b.toI32(i), ids, at);
             });
             held = b.add(held, b.sub(last, first));
             // What pads the last vector is below every score.
             Value padded = b.mul(b.div(b.add(held, width - 1), width), width);
             b.loop(held, padded, 1,
                    [&](Value i) { b.store(b.i32(0), keys, i); });
             b.when(b.less(b.index(count), held),
                    [&] { keepLargest(held, padded); });
             return Values{b.min(held, b.index(count))};
           });
  }

  Value ids;

private:
  Value binary(arith::CmpIPredicate predicate, Value a, Value c) {
    return arith::CmpIOp::create(b, predicate, a, c);
  }

  Value toKey(Value score) {
    // A negative zero is a zero.
    Value bits =
        arith::BitcastOp::create(b, b.getI32Type(), b.addf(score, b.f32(0)));
    Value sign = arith::ShRSIOp::create(b, bits, b.i32(31));
    // All bits of a negative number are turned over, and the sign of others.
    Value turned = arith::OrIOp::create(b, sign, b.i32(INT32_MIN));
    return arith::XOrIOp::create(b, bits, turned);
  }

  /// How many of the first \p padded keys are in that order with \p key.
  Value countThat(arith::CmpIPredicate predicate, Value key, Value padded) {
    auto type = VectorType::get({width}, b.getI32Type());
    Value zero = arith::ConstantOp::create(
        b, DenseElementsAttr::get(type, b.getI32IntegerAttr(0)));
    Value other = b.broadcast(key, width);
    Value sums = b.loop(
        b.index(0), padded, width, zero, [&](Value i, ValueRange carried) {
          Value is = binary(predicate, b.loadVector(keys, i, width), other);
          return Values{b.add(carried[0], arith::ExtUIOp::create(b, type, is))};
        })[0];
    return b.sumLanes(sums);
  }

  /// Moves the largest of \p held keys, and their ids, to the front.
  void keepLargest(Value held, Value padded) {
    using Predicate = arith::CmpIPredicate;
    Value wanted = b.i32(int32_t(count));
    // The largest key that at least `count` keys reach, bit by bit.
    Value least = b.loop(
        b.index(0), b.index(32), 1, b.i32(0), [&](Value i, ValueRange carried) {
          Value bit = arith::ShRUIOp::create(b, b.i32(INT32_MIN), b.toI32(i));
          Value higher = arith::OrIOp::create(b, carried[0], bit);
          Value reach = countThat(Predicate::uge, higher, padded);
          return Values{b.select(binary(Predicate::sge, reach, wanted), higher,
                                 carried[0])};
        })[0];
    // Of those equal to it, the first are kept.
    Value equals = b.sub(wanted, countThat(Predicate::ugt, least, padded));
    b.loop(b.index(0), held, 1, {b.index(0), equals},
           [&](Value i, ValueRange carried) {
             Value key = b.load(keys, i), id = b.load(ids, i);
             Value isLarger = binary(Predicate::ugt, key, least);
             Value isEqual = arith::AndIOp::create(
                 b, binary(Predicate::eq, key, least),
                 binary(Predicate::sgt, carried[1], b.i32(0)));
             b.store(key, keys, carried[0]);
             b.store(id, ids, carried[0]);
             Value isKept = arith::OrIOp::create(b, isLarger, isEqual);
             return Values{
                 b.select(isKept, b.add(carried[0], 1), carried[0]),
                 b.select(isEqual, b.sub(carried[1], b.i32(1)), carried[1])};
           });
  }

  static constexpr int64_t width = KernelBuilder::maxLanes;
  KernelBuilder &b;
  int64_t count, block;
  Value keys;
};

} // namespace

KernelOp KernelSet::selectEntries(TypeRange types,
                                  const CompressedLayout &layout, int64_t heads,
                                  double scale, int64_t topK) {
  auto name = llvm::formatv("select_entries_{0}_{1}_{2:e8}_{3}", topK, heads,
                            scale, layoutName(layout))
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value query = arguments[0], weights = arguments[1], layer = arguments[4],
          out = arguments[5];
    int64_t ratio = layout.overlapping, dim = layout.indexDim;
    const auto &place = layout.compressor(ratio, /*isIndex=*/true).entries;
    int64_t lanes = KernelBuilder::lanesFor(dim);
    Selection selection(b, topK);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value position = b.toIndex(b.load(arguments[2], row));
      CacheRows cache(b, kernel, layout, b.toIndex(b.load(arguments[3], row)));
      Value visible = b.div(b.add(position, 1), ratio);
      Value isMore = b.less(b.index(topK), visible);
      b.when(isMore, [&] {
        selection.run(visible, [&](Value window) {
          auto key = cache.ofWindow(place, layer, window, ratio);
          Value sum = b.loop(
              "head", b.index(0), b.index(heads), 1, b.f32(0),
              [&](Value head, ValueRange carried) {
                Value first = b.mul(head, dim);
                Value products = b.loop(
                    b.index(0), b.index(dim), lanes,
                    b.f32(0, b.vectorType(lanes)),
                    [&](Value i, ValueRange sums) {
                      Value q =
                          b.loadVector(query, {row, b.add(first, i)}, lanes);
                      Value k = b.loadVector(key.memref, {key.row, i}, lanes);
                      return Values{b.fma(q, k, sums[0])};
                    })[0];
                Value positive = b.maxf(b.sumLanes(products), b.f32(0));
                return Values{
                    b.fma(b.load(weights, {row, head}), positive, carried[0])};
              })[0];
          return b.mulf(sum, b.f32(scale));
        });
      });
      b.loop(b.index(0), b.index(topK), 1, [&](Value i) {
        Value all = b.select(b.less(i, visible), b.toI32(i), b.i32(-1));
        b.store(b.select(isMore, b.load(selection.ids, i), all), out, {row, i});
      });
    });
  });
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

CompressedAttentionPlan
CompressedAttentionPlan::get(int64_t heads, int64_t window, int64_t ratio,
                             int64_t selected, int64_t context) {
  CompressedAttentionPlan plan;
  plan.window = std::min(window, context);
  plan.selected = selected;
  plan.ratio = ratio;
  int64_t entries = ratio ? context / ratio : 0;
  if (selected)
    entries = std::min(entries, selected);
  plan.mostKeys = roundUp(plan.window + entries, KernelBuilder::maxLanes);
  // Scores of a group of heads take half of the stack.
  constexpr int64_t budget = HADAL_RT_KERNEL_STACK_BYTES / 2 / 4;
  for (int64_t group = 8; group > 0 && !plan.groupHeads; group /= 2)
    if (heads % group == 0 && plan.mostKeys <= budget / group)
      plan.groupHeads = group;
  plan.groups = plan.groupHeads ? heads / plan.groupHeads : 0;
  return plan;
}

namespace {

/// Attention of a group of heads of one row, which share keys that are values.
class CompressedAttention {
public:
  CompressedAttention(KernelBuilder &b, KernelOp kernel,
                      const CompressedLayout &layout,
                      const CompressedAttentionPlan &plan, double scale)
      : b(b), kernel(kernel), layout(layout), plan(plan), scale(scale),
        lanes(KernelBuilder::lanesFor(layout.dim)) {
    scores =
        b.stack({plan.groupHeads, plan.mostKeys}, b.getF32Type(), "scores");
  }

  Value query, sinks, selected, positions, sequences, layer, index, out;

  void attend(Value row, Value group);

private:
  using KeyBody =
      function_ref<Values(CacheRows::Row key, Value number, ValueRange)>;
  /// Calls \p body for each key that the row sees, in order.
  Values forKeys(Values carried, KeyBody body);
  Values score();
  Value weigh(int64_t head, Value most);
  void addValues(ArrayRef<Value> totals);
  Value column(int64_t head, Value i) {
    return b.add(b.add(firstColumn, head * layout.dim), i);
  }

  KernelBuilder &b;
  KernelOp kernel;
  const CompressedLayout &layout;
  const CompressedAttentionPlan &plan;
  double scale;
  int64_t lanes;
  Value scores;
  // Of the row.
  Value row, firstHead, firstColumn, position, sequence, firstToken, tokens,
      entries;
};

} // namespace

Values CompressedAttention::forKeys(Values carried, KeyBody body) {
  CacheRows cache(b, kernel, layout, sequence);
  carried =
      b.loop(b.index(0), tokens, 1, carried, [&](Value i, ValueRange values) {
        return body(cache.ofToken(layout.keys, layer, b.add(firstToken, i)), i,
                    values);
      });
  if (!plan.ratio)
    return carried;
  const auto &place = layout.compressor(plan.ratio, /*isIndex=*/false).entries;
  return b.loop(
      b.index(0), entries, 1, carried, [&](Value i, ValueRange values) {
        Value window = selected ? b.toIndex(b.load(selected, {row, i})) : i;
        return body(cache.ofWindow(place, index, window, plan.ratio),
                    b.add(tokens, i), values);
      });
}

/// Stores the scores of all keys, and returns the largest of each head.
Values CompressedAttention::score() {
  KernelBuilder::Named named(b, "score_keys");
  Values maxima;
  for (int64_t h = 0; h < plan.groupHeads; ++h)
    maxima.push_back(b.load(sinks, b.add(firstHead, h)));
  return forKeys(maxima, [&](CacheRows::Row key, Value number,
                             ValueRange most) {
    Values sums =
        b.loop(b.index(0), b.index(layout.dim), lanes,
               Values(size_t(plan.groupHeads), b.f32(0, b.vectorType(lanes))),
               [&](Value i, ValueRange carried) {
                 Value k = b.loadVector(key.memref, {key.row, i}, lanes);
                 Values next;
                 for (int64_t h = 0; h < plan.groupHeads; ++h)
                   next.push_back(
                       b.fma(b.loadVector(query, {row, column(h, i)}, lanes), k,
                             carried[h]));
                 return next;
               });
    Values next;
    for (int64_t h = 0; h < plan.groupHeads; ++h) {
      Value score = b.mulf(b.sumLanes(sums[h]), b.f32(scale));
      b.store(score, scores, {b.index(h), number});
      next.push_back(b.maxf(most[h], score));
    }
    return next;
  });
}

/// Replaces the scores of a head by their weights, and returns the sum of
/// those, with that of the sink.
Value CompressedAttention::weigh(int64_t head, Value most) {
  KernelBuilder::Named named(b, "weigh_scores");
  constexpr int64_t width = KernelBuilder::maxLanes;
  VectorType vector = b.vectorType(width);
  Value count = b.add(tokens, entries);
  Value padded = b.mul(b.div(b.add(count, width - 1), width), width);
  b.loop(count, padded, 1,
         [&](Value i) { b.store(b.f32(lowest), scores, {b.index(head), i}); });
  Value maxima = b.broadcast(most, width);
  Value sums = b.loop(b.index(0), padded, width, b.f32(0, vector),
                      [&](Value i, ValueRange carried) {
                        Values at = {b.index(head), i};
                        Value weight = b.exp(
                            b.subf(b.loadVector(scores, at, width), maxima));
                        b.storeVector(weight, scores, at);
                        return Values{b.addf(carried[0], weight)};
                      })[0];
  Value sink = b.load(sinks, b.add(firstHead, head));
  return b.addf(b.sumLanes(sums), b.exp(b.subf(sink, most)));
}

void CompressedAttention::addValues(ArrayRef<Value> totals) {
  KernelBuilder::Named named(b, "add_values");
  int64_t vectors = layout.dim % (2 * lanes) == 0 ? 2 : 1;
  Values inverses;
  for (Value total : totals)
    inverses.push_back(b.broadcast(b.divf(b.f32(1), total), lanes));
  b.loop("column", b.index(0), b.index(layout.dim), vectors * lanes,
         [&](Value first) {
           Values sums = forKeys(
               Values(size_t(plan.groupHeads * vectors),
                      b.f32(0, b.vectorType(lanes))),
               [&](CacheRows::Row key, Value number, ValueRange carried) {
                 Values loaded, next;
                 for (int64_t v = 0; v < vectors; ++v)
                   loaded.push_back(b.loadVector(
                       key.memref, {key.row, b.add(first, v * lanes)}, lanes));
                 for (int64_t h = 0; h < plan.groupHeads; ++h) {
                   Value weight =
                       b.broadcast(b.load(scores, {b.index(h), number}), lanes);
                   for (int64_t v = 0; v < vectors; ++v)
                     next.push_back(
                         b.fma(weight, loaded[v], carried[h * vectors + v]));
                 }
                 return next;
               });
           for (int64_t h = 0; h < plan.groupHeads; ++h)
             for (int64_t v = 0; v < vectors; ++v)
               b.storeVector(b.mulf(sums[h * vectors + v], inverses[h]), out,
                             {row, column(h, b.add(first, v * lanes))});
         });
}

void CompressedAttention::attend(Value rowOf, Value group) {
  row = rowOf;
  firstHead = b.mul(group, plan.groupHeads);
  firstColumn = b.mul(firstHead, layout.dim);
  position = b.toIndex(b.load(positions, row));
  sequence = b.toIndex(b.load(sequences, row));
  Value end = b.add(position, 1);
  tokens = b.min(end, b.index(plan.window));
  firstToken = b.sub(end, tokens);
  entries = b.index(0);
  if (plan.ratio)
    entries = b.div(end, plan.ratio);
  if (plan.selected)
    entries = b.min(entries, b.index(plan.selected));
  Values maxima = score(), totals;
  for (int64_t h = 0; h < plan.groupHeads; ++h)
    totals.push_back(weigh(h, maxima[h]));
  addValues(totals);
}

KernelOp KernelSet::compressedAttention(TypeRange types,
                                        const CompressedLayout &layout,
                                        const CompressedAttentionPlan &plan,
                                        double scale) {
  auto name =
      llvm::formatv("compressed_attention_{0}x{1}_{2}_{3}_{4}_{5}_{6:e8}_{7}",
                    plan.groups, plan.groupHeads, plan.window, plan.ratio,
                    plan.selected, plan.mostKeys, scale, layoutName(layout))
          .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    CompressedAttention attention(b, kernel, layout, plan, scale);
    size_t next = 0;
    attention.query = arguments[next++];
    attention.sinks = arguments[next++];
    if (plan.selected)
      attention.selected = arguments[next++];
    attention.positions = arguments[next++];
    attention.sequences = arguments[next++];
    attention.layer = arguments[next++];
    attention.index = arguments[next++];
    attention.out = arguments[next];
    b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      attention.attend(b.div(item, plan.groups), b.rem(item, plan.groups));
    });
  });
}
