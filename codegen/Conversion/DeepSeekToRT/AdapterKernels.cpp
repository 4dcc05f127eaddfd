// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels of what the adapter of a row's sequence adds to it. A row without one
// is copied.

#include "codegen/Conversion/DeepSeekToRT/Kernels.h"
#include "lib/Support/CheckedMath.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

/// Columns that one item adds to.
static constexpr int64_t blockColumns = 512;

int64_t KernelSet::adaptBlocks(int64_t columns) {
  return ceilDiv(columns, blockColumns);
}

KernelOp KernelSet::adaptDown(TypeRange types, int64_t rank, int64_t inner) {
  auto name = llvm::formatv("adapt_down_{0}x{1}_of_{2}", rank, inner,
                            cast<MemRefType>(types[1]).getDimSize(0))
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    int64_t lanes = KernelBuilder::lanesFor(inner);
    int64_t chains = inner % (4 * lanes) == 0 ? 4 : 1;
    b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      Value row = b.div(item, rank), r = b.rem(item, rank);
      // 0 is none.
      Value chosen = b.toIndex(b.load(arguments[2], row));
      b.when(b.less(b.index(0), chosen), [&] {
        Value adapter = b.sub(chosen, b.index(1));
        Values sums =
            b.loop("column", b.index(0), b.index(inner), chains * lanes,
                   Values(size_t(chains), b.f32(0, b.vectorType(lanes))),
                   [&](Value column, ValueRange carried) {
                     Values next;
                     for (int64_t c = 0; c < chains; ++c) {
                       Value at = b.add(column, c * lanes);
                       next.push_back(b.fma(
                           b.loadVector(arguments[1], {adapter, r, at}, lanes),
                           b.loadVector(arguments[0], {row, at}, lanes),
                           carried[size_t(c)]));
                     }
                     return next;
                   });
        Value sum = sums[0];
        for (int64_t c = 1; c < chains; ++c)
          sum = b.addf(sum, sums[size_t(c)]);
        b.store(b.sumLanes(sum), arguments[3], {row, r});
      });
    });
  });
}

KernelOp KernelSet::adaptUp(TypeRange types, int64_t rank, int64_t columns) {
  auto name = llvm::formatv("adapt_up_{0}x{1}_of_{2}", columns, rank,
                            cast<MemRefType>(types[2]).getDimSize(0))
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    int64_t lanes = KernelBuilder::lanesFor(columns);
    int64_t blocks = adaptBlocks(columns);
    b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      Value row = b.div(item, blocks);
      Value begin = b.mul(b.rem(item, blocks), blockColumns);
      Value end = b.min(b.add(begin, blockColumns), b.index(columns));
      Value chosen = b.toIndex(b.load(arguments[3], row));
      // None has no rows to add.
      Value isAdapted = b.less(b.index(0), chosen);
      Value adapter =
          b.select(isAdapted, b.sub(chosen, b.index(1)), b.index(0));
      Value rows = b.select(isAdapted, b.index(rank), b.index(0));
      b.loop("column", begin, end, lanes, [&](Value column) {
        Value base = b.loadVector(arguments[0], {row, column}, lanes);
        Values sum = b.loop(
            b.index(0), rows, 1, Values{base},
            [&](Value r, ValueRange carried) {
              Value hidden = b.broadcast(b.load(arguments[1], {row, r}), lanes);
              return Values{
                  b.fma(hidden,
                        b.loadVector(arguments[2], {adapter, r, column}, lanes),
                        carried[0])};
            });
        b.storeVector(sum[0], arguments[4], {row, column});
      });
    });
  });
}
