// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels of the indexer that chooses what sparse attention sees: appending its
// keys, scores over the pages of a sequence, and the exact selection.

#include "codegen/Conversion/DeepSeekToRT/Kernels.h"
#include "lib/Support/CheckedMath.h"

#include "llvm/Support/FormatVariadic.h"

#include <tuple>

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

/// Index keys of a page, `[index_dim, tokens]`: lanes are tokens.
static Value indexPart(KernelBuilder &b, Value step, Value sequence,
                       Value pageIndex, Value layer, PageLayout page) {
  auto type = MemRefType::get({page.indexDim, page.pageTokens}, b.getF32Type());
  return rt::PageOp::create(b, type, step, sequence, pageIndex, layer,
                            page.pageBytes(), page.layerBytes(),
                            page.indexOffsetBytes());
}

static std::string indexName(PageLayout page) {
  return llvm::formatv("{0}_at_{1}_of_{2}", page.indexDim,
                       page.indexOffsetBytes(), page.pageBytes())
      .str();
}

KernelOp KernelSet::appendIndex(TypeRange types, PageLayout page) {
  return get(
      "append_index_" + Twine(indexName(page)), types,
      [&](KernelBuilder &b, KernelOp kernel) {
        auto arguments = kernel.getKernelArguments();
        Value positions = arguments[1], sequences = arguments[2];
        b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
          Value position = b.toIndex(b.load(positions, row));
          Value keys =
              indexPart(b, kernel.getStep(), b.toIndex(b.load(sequences, row)),
                        b.div(position, page.pageTokens), arguments[3], page);
          Value token = b.rem(position, page.pageTokens);
          b.loop(b.index(0), b.index(page.indexDim), 1, [&](Value i) {
            b.store(b.load(arguments[0], {row, i}), keys, {i, token});
          });
        });
      });
}

/// Heads that are scored at a time.
static int64_t headsAtOnce(int64_t heads, int64_t registers) {
  int64_t most = registers >= 32 ? 8 : 2;
  while (heads % most != 0)
    --most;
  return most;
}

KernelOp KernelSet::indexScores(TypeRange types, PageLayout page, int64_t heads,
                                int64_t topK, double scale, int64_t strands) {
  auto name = llvm::formatv("index_scores_{0}_{1}_of_{2}_by_{3}_{4:e8}", heads,
                            indexName(page), topK, strands, scale)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value queries = arguments[0], weights = arguments[1];
    Value positions = arguments[2], sequences = arguments[3];
    Value layer = arguments[4], scores = arguments[5];
    constexpr int64_t width = KernelBuilder::maxLanes;
    VectorType vector = b.vectorType(width);
    int64_t vectors = page.pageTokens % (2 * width) == 0 ? 2 : 1;
    int64_t some = headsAtOnce(heads, options.registers);
    b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      Value row = b.div(item, strands);
      Value count = b.add(b.toIndex(b.load(positions, row)), 1);
      // Where all are chosen, scores do not matter.
      b.when(b.less(b.index(topK), count), [&] {
        Value sequence = b.toIndex(b.load(sequences, row));
        Value pages = b.div(b.add(count, page.pageTokens - 1), page.pageTokens);
        b.loop(b.rem(item, strands), pages, b.index(strands), [&](Value i) {
          Value keys = indexPart(b, kernel.getStep(), sequence, i, layer, page);
          b.loop("token", b.index(0), b.index(page.pageTokens), vectors * width,
                 [&](Value token) {
                   Values sums(vectors, b.f32(0, vector));
                   sums = b.loop(
                       "head", b.index(0), b.index(heads), some, sums,
                       [&](Value head, ValueRange carriedSums) {
                         Values dots(some * vectors, b.f32(0, vector));
                         dots = b.loop(
                             "column", b.index(0), b.index(page.indexDim), 1,
                             dots, [&](Value column, ValueRange carried) {
                               Values next(carried), loaded;
                               for (int64_t v = 0; v < vectors; ++v)
                                 loaded.push_back(b.loadVector(
                                     keys, {column, b.add(token, v * width)},
                                     width));
                               for (int64_t h = 0; h < some; ++h) {
                                 Value at =
                                     b.add(b.mul(b.add(head, h), page.indexDim),
                                           column);
                                 Value q = b.broadcast(
                                     b.load(queries, {row, at}), width);
                                 for (int64_t v = 0; v < vectors; ++v) {
                                   Value &dot = next[h * vectors + v];
                                   dot = b.fma(q, loaded[v], dot);
                                 }
                               }
                               return next;
                             });
                         Values next(carriedSums);
                         for (int64_t h = 0; h < some; ++h) {
                           Value weight = b.broadcast(
                               b.load(weights, {row, b.add(head, h)}), width);
                           for (int64_t v = 0; v < vectors; ++v)
                             next[v] = b.fma(weight,
                                             b.maxf(dots[h * vectors + v],
                                                    b.f32(0, vector)),
                                             next[v]);
                         }
                         return next;
                       });
                   Value first = b.add(b.mul(i, page.pageTokens), token);
                   for (int64_t v = 0; v < vectors; ++v)
                     b.storeVector(b.mulf(sums[v], b.f32(scale, vector)),
                                   scores, {row, b.add(first, v * width)});
                 });
        });
      });
    });
  });
}

//===----------------------------------------------------------------------===//
// Selection
//===----------------------------------------------------------------------===//

/// The bits of an f32, so that as unsigned numbers they have its order; both
/// zeros become one.
static Value orderedBits(KernelBuilder &b, Value x) {
  Value bits = arith::BitcastOp::create(b, b.getI32Type(), b.addf(x, b.f32(0)));
  Value sign = arith::ShRSIOp::create(b, bits, b.i32(31));
  Value flipped = arith::OrIOp::create(b, sign, b.i32(INT32_MIN));
  return arith::XOrIOp::create(b, bits, flipped);
}

/// Of the \p count scores of \p row, finds the bits of the one that is number
/// \p topK from the largest, a byte at a time, and how many equal to it are
/// among them.
static std::pair<Value, Value> findThreshold(KernelBuilder &b, Value scores,
                                             Value row, Value count,
                                             int64_t topK, Value histogram) {
  KernelBuilder::Named named(b, "find_threshold");
  constexpr int64_t bins = 256;
  Value prefix = b.i32(0), wanted = b.i32(int32_t(topK));
  for (int32_t shift = 24; shift >= 0; shift -= 8) {
    b.loop("bin", b.index(0), b.index(bins), 1,
           [&](Value bin) { b.store(b.i32(0), histogram, bin); });
    b.loop("slot", b.index(0), count, 1, [&](Value s) {
      Value bits = orderedBits(b, b.load(scores, {row, s}));
      auto bump = [&] {
        Value bin = arith::AndIOp::create(
            b, arith::ShRUIOp::create(b, bits, b.i32(shift)), b.i32(bins - 1));
        Value at = b.toIndex(bin);
        b.store(b.add(b.load(histogram, at), b.i32(1)), histogram, at);
      };
      if (shift == 24)
        return bump();
      Value known = b.i32(shift + 8);
      b.when(b.equal(arith::ShRUIOp::create(b, bits, known),
                     arith::ShRUIOp::create(b, prefix, known)),
             bump);
    });
    // From the largest: the first bin that has all that are still wanted.
    Values found =
        b.loop(b.index(0), b.index(bins), 1, {b.i32(-1), wanted},
               [&](Value i, ValueRange carried) {
                 Value bin = b.sub(b.index(bins - 1), i);
                 Value size = b.load(histogram, bin);
                 Value isOpen = b.less(carried[0], b.i32(0));
                 Value isHere = b.less(carried[1], b.add(size, b.i32(1)));
                 Value next = b.select(isHere, b.toI32(bin), carried[0]);
                 Value left =
                     b.select(isHere, carried[1], b.sub(carried[1], size));
                 return Values{b.select(isOpen, next, carried[0]),
                               b.select(isOpen, left, carried[1])};
               });
    prefix = arith::OrIOp::create(
        b, prefix, arith::ShLIOp::create(b, found[0], b.i32(shift)));
    wanted = found[1];
  }
  return {prefix, wanted};
}

KernelOp KernelSet::selectTop(TypeRange types, int64_t topK) {
  auto name = llvm::formatv("select_top_{0}", topK).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value scores = arguments[0], positions = arguments[1], out = arguments[2];
    Value histogram = b.stack(256, b.getI32Type(), "histogram");
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value count = b.add(b.toIndex(b.load(positions, row)), 1);
      Value all = b.less(count, b.index(topK + 1));
      b.when(all, [&] {
        b.loop(b.index(0), b.index(topK), 1, [&](Value i) {
          Value position = b.select(b.less(i, count), b.toI32(i), b.i32(-1));
          b.store(position, out, {row, i});
        });
      });
      b.when(b.less(b.index(topK), count), [&] {
        Value threshold, ties;
        std::tie(threshold, ties) =
            findThreshold(b, scores, row, count, topK, histogram);
        b.loop("slot", b.index(0), count, 1, {b.index(0), ties},
               [&](Value s, ValueRange carried) {
                 Value bits = orderedBits(b, b.load(scores, {row, s}));
                 Value isMore = arith::CmpIOp::create(
                     b, arith::CmpIPredicate::ugt, bits, threshold);
                 Value isTie = b.equal(bits, threshold);
                 Value isTaken =
                     b.select(isTie, b.less(b.i32(0), carried[1]), isMore);
                 b.when(isTaken,
                        [&] { b.store(b.toI32(s), out, {row, carried[0]}); });
                 return Values{
                     b.select(isTaken, b.add(carried[0], 1), carried[0]),
                     b.select(isTie, b.sub(carried[1], b.i32(1)), carried[1])};
               });
      });
    });
  });
}
