// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels of attention: appending to the cache, and one query head over the
// pages of its sequence.

#include "codegen/Conversion/DeepSeekToRT/Kernels.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

namespace {

/// Keys and values of one page, of one layer, in a kernel.
struct Page {
  Value keys, values;
  Value head; // Null for latents.

  Value key(KernelBuilder &b, Value token, Value column, int64_t lanes) const {
    return b.loadVector(keys, indices(token, column), lanes);
  }
  Value value(KernelBuilder &b, Value token, Value column,
              int64_t lanes) const {
    return b.loadVector(values, indices(token, column), lanes);
  }
  Values indices(Value token, Value column) const {
    return head ? Values{head, token, column} : Values{token, column};
  }
};

/// Consecutive elements of a query that meet consecutive ones of a key.
struct QueryPart {
  Value memref;
  Value column;
  int64_t keyColumn;
  int64_t dim;
};

} // namespace

static Value pagePart(KernelBuilder &b, Value step, Value sequence,
                      Value pageIndex, Value layer, PageLayout page,
                      bool isValue) {
  int64_t dim = isValue ? page.valueDim : page.keyDim;
  SmallVector<int64_t> shape = {page.heads, page.pageTokens, dim};
  if (page.isLatent)
    shape.erase(shape.begin());
  return rt::PageOp::create(b, MemRefType::get(shape, b.getF32Type()), step,
                            sequence, pageIndex, layer, page.pageBytes(),
                            page.layerBytes(),
                            isValue ? page.valueOffsetBytes() : 0);
}

static std::string pageName(PageLayout page) {
  return llvm::formatv("{0}_{1}x{2}_{3}_of_{4}_{5}",
                       page.isLatent ? "latent" : "heads", page.heads,
                       page.keyDim, page.valueDim, page.layers, page.pageTokens)
      .str();
}

KernelOp KernelSet::appendCache(TypeRange types, PageLayout page) {
  return get("append_cache_" + Twine(pageName(page)), types,
             [&](KernelBuilder &b, KernelOp kernel) {
               auto arguments = kernel.getKernelArguments();
               Value positions = arguments[2], sequences = arguments[3],
                     layer = arguments[4];
               b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
                 Value position = b.toIndex(b.load(positions, row));
                 Value sequence = b.toIndex(b.load(sequences, row));
                 Value pageIndex = b.div(position, page.pageTokens);
                 Value token = b.rem(position, page.pageTokens);
                 auto part = [&](bool isValue) {
                   return pagePart(b, kernel.getStep(), sequence, pageIndex,
                                   layer, page, isValue);
                 };
                 auto copy = [&](Value from, Value fromColumn, Value to,
                                 Values prefix, int64_t toColumn, int64_t dim) {
                   int64_t lanes = KernelBuilder::lanesFor(dim);
                   b.loop(b.index(0), b.index(dim), lanes, [&](Value i) {
                     Value source = fromColumn ? b.add(fromColumn, i) : i;
                     Values target = prefix;
                     target.push_back(b.add(i, toColumn));
                     b.storeVector(b.loadVector(from, {row, source}, lanes), to,
                                   target);
                   });
                 };
                 if (page.isLatent) {
                   Value keys = part(false);
                   copy(arguments[0], Value(), keys, {token}, 0, page.valueDim);
                   copy(arguments[1], Value(), keys, {token}, page.valueDim,
                        page.keyDim - page.valueDim);
                   return;
                 }
                 Value keys = part(false), values = part(true);
                 b.loop(b.index(0), b.index(page.heads), 1, [&](Value head) {
                   copy(arguments[0], b.mul(head, page.keyDim), keys,
                        {head, token}, 0, page.keyDim);
                   copy(arguments[1], b.mul(head, page.valueDim), values,
                        {head, token}, 0, page.valueDim);
                 });
               });
             });
}

/// q . k over one part: up to four chains of lanes, added as a tree.
static Value dotProduct(KernelBuilder &b, const QueryPart &part, Value row,
                        const Page &page, Value token) {
  int64_t lanes = KernelBuilder::lanesFor(part.dim);
  int64_t chunks = part.dim / lanes;
  int64_t chains = std::min<int64_t>(chunks, 4);
  auto multiply = [&](Value column, Value accumulator) {
    Value q =
        b.loadVector(part.memref, {row, b.add(part.column, column)}, lanes);
    Value k = page.key(b, token, b.add(column, part.keyColumn), lanes);
    return b.fma(q, k, accumulator);
  };
  Values sums(chains, b.f32(0, b.vectorType(lanes)));
  int64_t looped = chunks > 8 ? chunks / chains * chains : 0;
  if (looped)
    sums = b.loop(b.index(0), b.index(looped * lanes), chains * lanes, sums,
                  [&](Value column, ValueRange carried) {
                    Values next;
                    for (int64_t i = 0; i < chains; ++i)
                      next.push_back(
                          multiply(b.add(column, i * lanes), carried[i]));
                    return next;
                  });
  for (int64_t i = looped; i < chunks; ++i)
    sums[i % chains] = multiply(b.index(i * lanes), sums[i % chains]);
  while (sums.size() > 1) {
    Values halves;
    for (size_t i = 0; i + 1 < sums.size(); i += 2)
      halves.push_back(b.addf(sums[i], sums[i + 1]));
    if (sums.size() % 2)
      halves.push_back(sums.back());
    sums = halves;
  }
  return b.sumLanes(sums[0]);
}

/// One query head of one token over the pages of its sequence, with a running
/// maximum and sum (Milakov & Gimelshein 2018, arXiv:1805.02867).
static void attendOneHead(KernelBuilder &b, Value step, PageLayout layout,
                          Value row, Value kvHead, ArrayRef<QueryPart> query,
                          Value position, Value sequence, Value layer,
                          double scale, Value scores, Value sums, Value out,
                          Value outColumn) {
  int64_t dim = layout.valueDim, lanes = KernelBuilder::lanesFor(dim);
  VectorType vector = b.vectorType(lanes);
  b.loop(b.index(0), b.index(dim), lanes,
         [&](Value c) { b.storeVector(b.f32(0, vector), sums, c); });
  Value count = b.add(position, 1);
  Value pages = b.div(b.add(position, layout.pageTokens), layout.pageTokens);
  Values state = b.loop(
      b.index(0), pages, 1, {b.f32(-1e30), b.f32(0)},
      [&](Value pageIndex, ValueRange carried) {
        Page page;
        page.head = kvHead;
        page.keys = pagePart(b, step, sequence, pageIndex, layer, layout,
                             /*isValue=*/false);
        page.values = layout.isLatent
                          ? page.keys
                          : pagePart(b, step, sequence, pageIndex, layer,
                                     layout, /*isValue=*/true);
        Value seen = b.mul(pageIndex, layout.pageTokens);
        Value valid = b.min(b.index(layout.pageTokens), b.sub(count, seen));
        Value maximum = b.loop(b.index(0), valid, 1, carried[0],
                               [&](Value token, ValueRange best) {
                                 Value score;
                                 for (const QueryPart &part : query) {
                                   Value dot =
                                       dotProduct(b, part, row, page, token);
                                   score = score ? b.addf(score, dot) : dot;
                                 }
                                 score = b.mulf(score, b.f32(scale));
                                 b.store(score, scores, token);
                                 return Values{b.maxf(best[0], score)};
                               })[0];
        Value correction = b.exp(b.subf(carried[0], maximum));
        int64_t width = KernelBuilder::lanesFor(layout.pageTokens);
        Value maxima = b.broadcast(maximum, width);
        b.loop(b.index(0), b.index(layout.pageTokens), width, [&](Value i) {
          Value x = b.loadVector(scores, i, width);
          b.storeVector(b.exp(b.subf(x, maxima)), scores, i);
        });
        Value total =
            b.loop(b.index(0), valid, 1, b.mulf(carried[1], correction),
                   [&](Value token, ValueRange sum) {
                     return Values{b.addf(sum[0], b.load(scores, token))};
                   })[0];
        // As many columns at a time as fit in registers.
        Value corrections = b.broadcast(correction, lanes);
        int64_t chunks = dim / lanes;
        auto columns = [&](Value begin, int64_t some) {
          Values accumulators;
          for (int64_t i = 0; i < some; ++i)
            accumulators.push_back(
                b.mulf(b.loadVector(sums, b.add(begin, i * lanes), lanes),
                       corrections));
          accumulators = b.loop(
              b.index(0), valid, 1, accumulators,
              [&](Value token, ValueRange carriedSums) {
                Value p = b.broadcast(b.load(scores, token), lanes);
                Values next;
                for (int64_t i = 0; i < some; ++i)
                  next.push_back(b.fma(
                      p, page.value(b, token, b.add(begin, i * lanes), lanes),
                      carriedSums[i]));
                return next;
              });
          for (int64_t i = 0; i < some; ++i)
            b.storeVector(accumulators[i], sums, b.add(begin, i * lanes));
        };
        int64_t some = std::min<int64_t>(chunks, 8);
        b.loop(b.index(0), b.index(chunks / some * some * lanes), some * lanes,
               [&](Value begin) { columns(begin, some); });
        if (chunks % some)
          columns(b.index(chunks / some * some * lanes), chunks % some);
        return Values{maximum, total};
      });
  Value inverse = b.broadcast(b.divf(b.f32(1), state[1]), lanes);
  b.loop(b.index(0), b.index(dim), lanes, [&](Value c) {
    b.storeVector(b.mulf(b.loadVector(sums, c, lanes), inverse), out,
                  {row, b.add(outColumn, c)});
  });
}

KernelOp KernelSet::attention(TypeRange types, PageLayout page, int64_t heads,
                              double scale) {
  auto name =
      llvm::formatv("attention_{0}_{1}_{2:e8}", heads, pageName(page), scale)
          .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value scores = b.stack(page.pageTokens, b.getF32Type());
    Value sums = b.stack(page.valueDim, b.getF32Type());
    b.loop(b.index(0), b.index(page.pageTokens), 1,
           [&](Value i) { b.store(b.f32(0), scores, i); });
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      Value row = b.div(item, heads), head = b.rem(item, heads);
      QueryPart query = {arguments[0], b.mul(head, page.keyDim), 0,
                         page.keyDim};
      attendOneHead(b, kernel.getStep(), page, row,
                    b.div(head, heads / page.heads), query,
                    b.toIndex(b.load(arguments[1], row)),
                    b.toIndex(b.load(arguments[2], row)), arguments[3], scale,
                    scores, sums, arguments[4], b.mul(head, page.valueDim));
    });
  });
}

KernelOp KernelSet::absorbedAttention(TypeRange types, PageLayout page,
                                      int64_t heads, int64_t ropeStride,
                                      double scale) {
  auto name = llvm::formatv("absorbed_attention_{0}_{1}_{2}_{3:e8}", heads,
                            ropeStride, pageName(page), scale)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value scores = b.stack(page.pageTokens, b.getF32Type());
    Value sums = b.stack(page.valueDim, b.getF32Type());
    b.loop(b.index(0), b.index(page.pageTokens), 1,
           [&](Value i) { b.store(b.f32(0), scores, i); });
    int64_t rank = page.valueDim, rope = page.keyDim - rank;
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      Value row = b.div(item, heads), head = b.rem(item, heads);
      QueryPart query[] = {{arguments[0], b.mul(head, rank), 0, rank},
                           {arguments[1],
                            b.add(b.mul(head, ropeStride), ropeStride - rope),
                            rank, rope}};
      attendOneHead(b, kernel.getStep(), page, row, Value(), query,
                    b.toIndex(b.load(arguments[2], row)),
                    b.toIndex(b.load(arguments[3], row)), arguments[4], scale,
                    scores, sums, arguments[5], b.mul(head, rank));
    });
  });
}
