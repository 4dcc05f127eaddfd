// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels of linear, head_linear and lm_head.

#include "codegen/Conversion/DeepSeekToRT/BlockProduct.h"
#include "codegen/Conversion/DeepSeekToRT/DequantizedTiles.h"
#include "codegen/Conversion/DeepSeekToRT/ItemProduct.h"
#include "hadal_rt/abi.h"
#include "lib/Support/CheckedMath.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

int64_t KernelSet::tilesPerItem(int64_t tiles) const {
  // Two chains per fused multiply-add pipe hide its latency for one token.
  int64_t wanted = options.registers >= 32 ? 4 : 2;
  // A GPU hides it by other items, of which it takes thousands.
  if (options.dotProduct == DotProductKind::CUDA)
    wanted = 1;
  while (wanted > tiles)
    wanted /= 2;
  return wanted;
}

int64_t KernelSet::linearItems(int64_t columns) const {
  int64_t tiles = ceilDiv(columns, tileRows);
  return ceilDiv(tiles, tilesPerItem(tiles));
}

Value KernelSet::linearItems(KernelBuilder &b, Type weight, int64_t count,
                             int64_t columns, Value rows) const {
  if (BlockProduct::isFor(options, weight))
    return BlockProduct(count, ceilDiv(columns, tileRows)).items(b, rows);
  return b.index(linearItems(columns));
}

KernelOp KernelSet::linear(TypeRange types, int64_t inner, int64_t columns,
                           bool hasBias, bool hasScales, bool bf16Inputs) {
  int64_t tiles = ceilDiv(columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  auto name =
      llvm::formatv("linear_{0}_{1}x{2}{3}{4}", weightName(types[1]), columns,
                    inner, inputName(bf16Inputs), hasBias ? "_bias" : "")
          .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    size_t next = 2;
    Value bias = hasBias ? arguments[next++] : Value();
    Value scales = hasScales ? arguments[next++] : Value();
    Value out = arguments[next++], rowCount = arguments[next];
    TiledWeight weight = {arguments[1], Value(), scales, inner};
    Rows input = Rows::get(options, arguments[0], bf16Inputs);
    bool isPadded = hasPaddedRows(out.getType(), columns);
    b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      if (BlockProduct::isFor(options, types[1])) {
        auto block = BlockProduct(1, tiles).item(b, item, rowCount);
        return BlockProduct::multiply(
            b, weight, input, block,
            [&](Value tile, Value row, ValueList sums) {
              Value sum = sums.front();
              if (bias)
                sum = b.addf(
                    sum, b.loadVector(bias, b.mul(tile, tileRows), tileRows));
              storeTile(b, sum, out, row, Value(), tile, columns, isPadded);
            });
      }
      forTilesOfItem(b, item, tiles, perItem, [&](ArrayRef<Value> tile) {
        forRowBlocks(b, b.index(0), rowCount,
                     rowBlocks(options.registers, int64_t(tile.size())),
                     [&](ArrayRef<Value> rows) {
                       Values sums =
                           multiplyTiles(b, options, weight, tile, input, rows);
                       size_t next = 0;
                       for (Value t : tile) {
                         Value added;
                         if (bias)
                           added =
                               b.loadVector(bias, b.mul(t, tileRows), tileRows);
                         for (Value row : rows) {
                           Value sum = sums[next++];
                           storeTile(b, bias ? b.addf(sum, added) : sum, out,
                                     row, Value(), t, columns, isPadded);
                         }
                       }
                     });
      });
    });
  });
}

std::string IntegerShape::getName(const Twine &dims) const {
  std::string name =
      llvm::formatv("{0}int{1}_{2}_{3}_{4}", isUnsigned ? "u" : "", bits,
                    dims.str(), group, activationGroup);
  if (!codebook.empty())
    name += "_of";
  for (int64_t number : codebook)
    name += "_" + std::to_string(number);
  if (digits > 1)
    name += digits == gridDigits ? "_grid" : "_f32";
  auto elementName = [](Type element) {
    return element.isInteger() ? "levels" : shortName(element);
  };
  if (!scaleElement.isF16())
    name += "_scales_" + elementName(scaleElement);
  if (hasOffsets)
    name += "_offsets_" + elementName(offsetElement);
  return name;
}

std::string IntegerShape::getDims(int64_t experts) const {
  std::string dims = llvm::formatv("{0}x{1}", columns, inner);
  return experts ? std::to_string(experts) + "x" + dims : dims;
}

KernelOp KernelSet::gatedLinear(TypeRange types, int64_t inner, int64_t columns,
                                bool hasScales, std::optional<double> limit,
                                bool bf16Inputs) {
  int64_t tiles = ceilDiv(columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  auto name =
      llvm::formatv("linear_swiglu_{0}_{1}x{2}{3}{4}", weightName(types[1]),
                    columns, inner, inputName(bf16Inputs), limitName(limit))
          .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value gateScales = hasScales ? arguments[3] : Value();
    Value upScales = hasScales ? arguments[4] : Value();
    Value out = arguments[hasScales ? 5 : 3];
    Value rowCount = arguments[hasScales ? 6 : 4];
    TiledWeight weights[] = {{arguments[1], Value(), gateScales, inner},
                             {arguments[2], Value(), upScales, inner}};
    Rows input = Rows::get(options, arguments[0], bf16Inputs);
    bool isPadded = hasPaddedRows(out.getType(), columns);
    b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      if (BlockProduct::isFor(options, types[1])) {
        auto block = BlockProduct(2, tiles).item(b, item, rowCount);
        return BlockProduct::multiply(
            b, weights, input, block,
            [&](Value tile, Value row, ValueList sums) {
              storeGated(b, sums, tile, row, out, columns, isPadded, limit);
            });
      }
      forTilesOfItem(b, item, tiles, perItem, [&](ValueList tile) {
        forRowBlocks(
            b, b.index(0), rowCount,
            rowBlocks(options.registers, int64_t(tile.size())),
            [&](ValueList rows) {
              Values sums = multiplyGateAndUp<TiledWeight>(
                  weights, rows.size() == 1 && !options.followsStreams,
                  [&](ArrayRef<TiledWeight> some) {
                    return multiplyTiles(b, options, some, tile, input, rows);
                  });
              storeGated(b, sums, tile, rows, out, columns, isPadded, limit);
            });
      });
    });
  });
}

/// The rows of a step of \p rows that a product of heads computes: those of
/// \p span if it is not null; of few rows, all.
static std::pair<Value, Value> rowsOfSpan(KernelBuilder &b, Value span,
                                          Value rows) {
  if (!span)
    return {b.index(0), rows};
  Value isFew = b.less(rows, b.index(ExpandedShape::leastRows));
  auto bound = [&](int64_t which, Value ofFew) {
    Value found = b.toIndex(b.load(span, b.index(which)));
    return b.select(isFew, ofFew, found);
  };
  Value begin = bound(0, b.index(0));
  return {begin, bound(1, rows)};
}

KernelOp KernelSet::headLinear(TypeRange types, int64_t heads, int64_t stride,
                               int64_t inner, int64_t columns, bool hasSpan) {
  int64_t tiles = ceilDiv(columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  auto name = llvm::formatv("head_linear{0}_{1}_{2}x{3}x{4}_of_{5}",
                            hasSpan ? "_span" : "", weightName(types[1]), heads,
                            columns, inner, stride)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value out = arguments[hasSpan ? 3 : 2], allRows = arguments.back();
    std::pair<Value, Value> range =
        rowsOfSpan(b, hasSpan ? arguments[2] : Value(), allRows);
    Value begin = range.first, end = range.second;
    Value perHead = linearItems(b, types[1], 1, columns, allRows);
    b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      Value head = b.called("head", b.div(item, perHead));
      TiledWeight weight = {arguments[1], head, Value(), inner};
      Rows input = {arguments[0], b.called("from_column", b.mul(head, stride))};
      Value columnOffset = b.called("to_column", b.mul(head, columns));
      Value itemOfHead = b.called("item_of_head", b.rem(item, perHead));
      if (BlockProduct::isFor(options, types[1])) {
        auto block =
            BlockProduct(1, tiles).item(b, itemOfHead, allRows, begin, end);
        return BlockProduct::multiply(
            b, weight, input, block,
            [&](Value tile, Value row, ValueList sums) {
              storeTile(b, sums.front(), out, row, columnOffset, tile, columns,
                        false);
            });
      }
      forTilesOfItem(b, itemOfHead, tiles, perItem, [&](ArrayRef<Value> tile) {
        forRowBlocks(
            b, begin, end, rowBlocks(options.registers, int64_t(tile.size())),
            [&](ArrayRef<Value> rows) {
              storeTiles(
                  b, multiplyTiles(b, options, weight, tile, input, rows), tile,
                  rows, out, columnOffset, columns, /*isPadded=*/false);
            });
      });
    });
  });
}

KernelOp KernelSet::integerHeadLinear(TypeRange types, const HeadShape &shape,
                                      int64_t heads, int64_t stride,
                                      bool hasSpan) {
  int64_t tiles = ceilDiv(shape.columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  auto name = llvm::formatv("head_linear{0}_{1}_of_{2}", hasSpan ? "_span" : "",
                            shape.getName(heads), stride)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    size_t next = 1;
    DequantizedTiles numbers(b, options.dotProduct, shape, arguments, next,
                             perItem);
    Value span = hasSpan ? arguments[next++] : Value();
    Value out = arguments[next];
    std::pair<Value, Value> range = rowsOfSpan(b, span, arguments.back());
    Value begin = range.first, end = range.second;
    // Tiles that are widened for many rows.
    int64_t bytes =
        std::min<int64_t>(HADAL_RT_KERNEL_STACK_BYTES, options.caches.l2Bytes) /
        2;
    int64_t most = bytes / (shape.inner * tileRows * int64_t(sizeof(float)));
    int64_t atOnce = std::min<int64_t>(most, perItem);
    Value wide;
    b.setTile("weight_tiles", atOnce);
    if (atOnce > 0)
      wide = b.stack({atOnce, shape.inner, tileRows}, b.getF32Type(), "wide");
    // A row reads what few need once; of more, what is widened is read again.
    constexpr int64_t fewRows = 2;
    Value isMany = b.less(b.index(fewRows), b.sub(end, begin));
    Value fewEnd = wide ? b.select(isMany, begin, end) : end;
    int64_t groups = ceilDiv(tiles, perItem);
    b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      Value head = b.div(item, groups), group = b.rem(item, groups);
      Rows input = {arguments[0], b.mul(head, stride)};
      Value columnOffset = b.mul(head, shape.columns);
      auto store = [&](ValueList sums, ValueList tile, ValueList rows) {
        storeTiles(b, sums, tile, rows, out, columnOffset, shape.columns,
                   /*isPadded=*/false);
      };
      forTilesOfItem(b, group, tiles, perItem, [&](ValueList tile) {
        b.loop("row", begin, fewEnd, 1, [&](Value row) {
          Values zeros(tile.size(), b.f32(0, b.vectorType(tileRows)));
          Values sums = numbers.forColumns(
              head, tile, zeros,
              [&](Value k, ValueList columns, ValueRange carried) {
                Value x = b.broadcast(input.element(b, row, k), tileRows);
                Values next;
                for (auto [column, sum] : llvm::zip(columns, carried))
                  next.push_back(b.fma(column, x, sum));
                return next;
              });
          store(sums, tile, row);
        });
        if (!wide)
          return;
        b.when(isMany, [&] {
          for (size_t first = 0; first < tile.size(); first += size_t(atOnce)) {
            ValueList some = tile.slice(
                first, std::min(size_t(atOnce), tile.size() - first));
            numbers.forColumns(
                head, some, {},
                [&](Value k, ValueList columns, ValueRange) -> Values {
                  for (auto [i, column] : llvm::enumerate(columns))
                    b.storeVector(column, wide,
                                  {b.index(int64_t(i)), k, b.index(0)});
                  return {};
                });
            Values slots;
            for (size_t i = 0; i < some.size(); ++i)
              slots.push_back(b.index(int64_t(i)));
            TiledWeight widened = {wide, Value(), Value(), shape.inner};
            forRowBlocks(
                b, begin, end,
                rowBlocks(options.registers, int64_t(some.size())),
                [&](ValueList rows) {
                  store(multiplyTiles(b, options, widened, slots, input, rows),
                        some, rows);
                });
          }
        });
      });
    });
  });
}

KernelOp KernelSet::integerLinear(TypeRange types, const IntegerShape &shape,
                                  bool hasBias, bool hasResidual) {
  int64_t tiles = ceilDiv(shape.columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  std::string name = "linear_" + shape.getName(shape.getDims()) +
                     (hasBias ? "_bias" : "") + (hasResidual ? "_add" : "");
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    IntegerRows input =
        integerRows(b, arguments, shape.digits, inputScale(shape));
    IntegerWeight weight = {
        arguments[3],
        arguments[4],
        Value(),
        shape.inner,
        shape.bits,
        shape.isUnsigned,
        shape.group,
        shape.activationGroup,
        b.min(b.mul(kernel.getLast(), perItem), b.index(tiles))};
    weight.codebook = shape.codebook;
    weight.record = shape.record;
    size_t next = 5;
    if (shape.hasOffsets)
      weight.offsets = arguments[next++];
    Value bias = hasBias ? arguments[next++] : Value();
    Value residual =
        hasResidual ? b.called("residual", arguments[next++]) : Value();
    Value out = arguments[next++], rowCount = arguments[next];
    bool isPadded = hasPaddedRows(out.getType(), shape.columns);
    auto store = [&](Value tile, Value row, ValueList sums) {
      Value sum = sums.front();
      if (bias)
        sum = b.addf(sum, b.loadVector(bias, b.mul(tile, tileRows), tileRows));
      if (residual)
        sum = b.addf(sum, b.loadVector(residual, {row, b.mul(tile, tileRows)},
                                       tileRows));
      storeTile(b, sum, out, row, Value(), tile, shape.columns, isPadded);
    };
    ItemProduct product(b, options, shape, /*weights=*/1, perItem);
    b.loop("item", kernel.getFirst(), kernel.getLast(), product.groupsAtOnce(),
           [&](Value item) {
             product.multiply(b, {weight, product.tiles(b, item, weight), input,
                                  b.index(0), rowCount,
                                  [](Value row) { return row; }, store});
           });
  });
}

KernelOp KernelSet::integerGatedLinear(TypeRange types,
                                       const IntegerShape &shape,
                                       std::optional<double> limit) {
  int64_t tiles = ceilDiv(shape.columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  std::string name =
      "linear_swiglu_" + shape.getName(shape.getDims()) + limitName(limit);
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    IntegerRows input =
        integerRows(b, arguments, shape.digits, inputScale(shape));
    Value tilesEnd = b.min(b.mul(kernel.getLast(), perItem), b.index(tiles));
    auto weight = [&](int64_t at, int64_t offsets) {
      return IntegerWeight{
          arguments[at],  arguments[at + 1],
          Value(),        shape.inner,
          shape.bits,     shape.isUnsigned,
          shape.group,    shape.activationGroup,
          tilesEnd,       shape.hasOffsets ? arguments[offsets] : Value(),
          shape.codebook, shape.record};
    };
    IntegerWeight weights[] = {weight(3, 7), weight(5, 8)};
    size_t next = shape.hasOffsets ? 9 : 7;
    Value out = arguments[next], rowCount = arguments[next + 1];
    bool isPadded = hasPaddedRows(out.getType(), shape.columns);
    auto store = [&](Value tile, Value row, ValueList sums) {
      storeGated(b, sums, tile, row, out, shape.columns, isPadded, limit);
    };
    ItemProduct product(b, options, shape, /*weights=*/2, perItem);
    b.loop("item", kernel.getFirst(), kernel.getLast(), product.groupsAtOnce(),
           [&](Value item) {
             product.multiply(b, {weights, product.tiles(b, item, weights[0]),
                                  input, b.index(0), rowCount,
                                  [](Value row) { return row; }, store});
           });
  });
}
