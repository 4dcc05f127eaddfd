// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernels that deepseek ops become. Work items never share an output, and
// each output is one chain of operations in an order that depends on nothing
// but the model: not on threads, not on what else is in the batch.

#include "codegen/Conversion/DeepSeekToRT/Kernels.h"

#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using deepseek::RotaryAttr;
using deepseek::RoutingAttr;
using rt::KernelOp;
using Values = KernelBuilder::Values;

//===----------------------------------------------------------------------===//
// Layouts
//===----------------------------------------------------------------------===//

PageLayout PageLayout::get(deepseek::KVCacheType cache, int64_t pageTokens) {
  return {pageTokens,
          cache.getHeads(),
          cache.getKeyDim(),
          cache.getValueDim(),
          cache.getKind() == deepseek::CacheKind::Latent,
          cache.getLayers()};
}

int64_t PageLayout::valueOffsetBytes() const {
  return roundUp(heads * pageTokens * keyDim * 4, rt::alignmentBytes);
}

int64_t PageLayout::layerBytes() const {
  // The values of a latent are part of its key.
  if (isLatent)
    return valueOffsetBytes();
  return valueOffsetBytes() +
         roundUp(heads * pageTokens * valueDim * 4, rt::alignmentBytes);
}

MemRefType hadal::rowsType(MLIRContext *context, int64_t columns,
                           int64_t stride, Type element) {
  if (!element)
    element = Float32Type::get(context);
  return MemRefType::get({ShapedType::kDynamic, columns}, element,
                         StridedLayoutAttr::get(context, 0, {stride, 1}));
}

/// A short text for a type in a kernel's name: bf16, f8E4M3FN, ..
static std::string shortName(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text == "i8" ? "fp8" : text;
}

static std::string weightName(Type type) {
  return shortName(cast<MemRefType>(type).getElementType());
}

/// Row strides of the memref arguments, which are part of a kernel's identity.
static std::string strideName(TypeRange types) {
  std::string text;
  for (Type type : types)
    if (auto memref = dyn_cast<MemRefType>(type))
      if (auto strided = dyn_cast<StridedLayoutAttr>(memref.getLayout()))
        text += "_" + std::to_string(strided.getStrides().front());
  return text;
}

/// Names carry every constant that is in a kernel; nine digits tell any two
/// f32 apart.
KernelOp KernelSet::get(const Twine &name, TypeRange types, Body body) {
  // An exponent as in 1.0e-06 would need quotes in the IR and in assembly.
  std::string symbol = (name + strideName(types)).str();
  llvm::replace(symbol, '-', 'm');
  llvm::erase(symbol, '+');
  KernelOp &kernel = kernels[symbol];
  if (kernel)
    return kernel;
  OpBuilder moduleBuilder = OpBuilder::atBlockEnd(module.getBody());
  kernel = KernelOp::create(moduleBuilder, module.getLoc(), symbol, types);
  KernelBuilder builder(
      NameLoc::get(StringAttr::get(module.getContext(), symbol)),
      module.getContext());
  builder.setInsertionPointToStart(&kernel.getBody().front());
  body(builder, kernel);
  return kernel;
}

//===----------------------------------------------------------------------===//
// Tiles of a matrix times rows of activations
//===----------------------------------------------------------------------===//

int64_t KernelSet::tilesPerItem(int64_t tiles) const {
  // Two chains per fused multiply-add pipe hide its latency for one token.
  int64_t wanted = options.registers >= 32 ? 4 : 2;
  while (wanted > tiles)
    wanted /= 2;
  return wanted;
}

int64_t KernelSet::linearItems(int64_t columns) const {
  int64_t tiles = ceilDiv(columns, tileRows);
  return ceilDiv(tiles, tilesPerItem(tiles));
}

namespace {

/// A packed weight in a kernel: `[.., tiles, k, 16]`, with the index of the
/// leading dimension (expert or head) if it has one.
struct TiledWeight {
  Value memref;
  Value leading;
  Value scales;
  int64_t inner;

  /// Sixteen rows of column \p k of a tile, widened to f32. For FP8, \p scale
  /// carries the block scale.
  Value column(KernelBuilder &b, Value tile, Value k, Value scale) const;
  Value blockScale(KernelBuilder &b, Value tile, Value block) const;
};

/// Where the rows of activations are read from.
struct Rows {
  Value memref;
  /// Column of \p memref at which the inner dimension starts; may be null.
  Value columnOffset;

  Value element(KernelBuilder &b, Value row, Value k) const {
    Value column = columnOffset ? b.add(columnOffset, k) : k;
    return b.load(memref, {row, column});
  }
};

} // namespace

Value TiledWeight::blockScale(KernelBuilder &b, Value tile, Value block) const {
  Values indices;
  if (leading)
    indices.push_back(leading);
  indices.push_back(b.div(tile, deepseek::fp8BlockSize / tileRows));
  indices.push_back(block);
  return b.broadcast(b.load(scales, indices), tileRows);
}

Value TiledWeight::column(KernelBuilder &b, Value tile, Value k,
                          Value scale) const {
  Values indices;
  if (leading)
    indices.push_back(leading);
  indices.append({tile, k, b.index(0)});
  Value stored = b.loadVector(memref, indices, tileRows);
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  VectorType wide = b.vectorType(tileRows);
  if (element.isF32())
    return stored;
  if (!element.isInteger(8))
    return arith::ExtFOp::create(b, wide, stored);
  // E4M3FN: the sign goes to bit 31, exponent and mantissa to bits 20 to 26,
  // which makes an exponent that is 120 too small; subnormals stay so.
  VectorType bits = VectorType::get({tileRows}, b.getI32Type());
  auto constant = [&](int32_t value) -> Value {
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(bits, b.getI32IntegerAttr(value)));
  };
  Value extended = arith::ExtUIOp::create(b, bits, stored);
  Value sign = arith::ShLIOp::create(
      b, arith::AndIOp::create(b, extended, constant(0x80)), constant(24));
  Value magnitude = arith::ShLIOp::create(
      b, arith::AndIOp::create(b, extended, constant(0x7f)), constant(20));
  Value value = arith::BitcastOp::create(
      b, wide, arith::OrIOp::create(b, sign, magnitude));
  return b.mulf(b.mulf(value, b.f32(0x1p120, wide)), scale);
}

/// Products of \p rows with the tiles of \p weights: for weight w, tile u and
/// row m, accumulator (w * tiles + u) * rows + m. Every accumulator is one
/// chain over k in order, whatever the number of rows and tiles.
static Values multiplyTiles(KernelBuilder &b, ArrayRef<TiledWeight> weights,
                            ArrayRef<Value> tiles, const Rows &input,
                            ArrayRef<Value> rows) {
  int64_t inner = weights.front().inner;
  auto step = [&](Value k, ValueRange accumulators, ArrayRef<Value> scales) {
    Values inputs, results;
    for (Value row : rows)
      inputs.push_back(b.broadcast(input.element(b, row, k), tileRows));
    size_t next = 0;
    for (auto [w, weight] : llvm::enumerate(weights))
      for (Value tile : tiles) {
        Value column =
            weight.column(b, tile, k, scales.empty() ? Value() : scales[w]);
        for (Value x : inputs)
          results.push_back(b.fma(column, x, accumulators[next++]));
      }
    return results;
  };
  // k in [lower, lower + count).
  auto span = [&](Value lower, int64_t count, ValueRange accumulators,
                  ArrayRef<Value> scales) {
    int64_t unroll = count % 4 == 0 ? 4 : count % 2 == 0 ? 2 : 1;
    return b.loop(lower, b.add(lower, count), unroll, accumulators,
                  [&](Value k, ValueRange carried) {
                    Values values(carried);
                    for (int64_t i = 0; i < unroll; ++i)
                      values = step(b.add(k, i), values, scales);
                    return values;
                  });
  };

  Values accumulators(weights.size() * tiles.size() * rows.size(),
                      b.f32(0, b.vectorType(tileRows)));
  if (!weights.front().scales)
    return span(b.index(0), inner, accumulators, {});

  constexpr int64_t block = deepseek::fp8BlockSize;
  auto scaled = [&](Value index, int64_t count, ValueRange carried) {
    Values scales;
    for (const TiledWeight &weight : weights)
      scales.push_back(weight.blockScale(b, tiles.front(), index));
    return span(b.mul(index, block), count, carried, scales);
  };
  if (inner >= block)
    accumulators = b.loop(b.index(0), b.index(inner / block), 1, accumulators,
                          [&](Value index, ValueRange carried) {
                            return scaled(index, block, carried);
                          });
  if (inner % block != 0)
    accumulators = scaled(b.index(inner / block), inner % block, accumulators);
  return accumulators;
}

/// Calls \p body with blocks of rows [first, last): of \p block rows, then
/// single ones. It runs once per size at compile time, many times at run time.
static void forRowBlocks(KernelBuilder &b, Value first, Value last,
                         int64_t block,
                         function_ref<void(ArrayRef<Value>)> body) {
  Value whole =
      b.add(first, b.mul(b.div(b.sub(last, first), block), b.index(block)));
  if (block > 1)
    b.loop(first, whole, block, [&](Value row) {
      Values rows;
      for (int64_t i = 0; i < block; ++i)
        rows.push_back(b.add(row, i));
      body(rows);
    });
  b.loop(block > 1 ? whole : first, last, 1,
         [&](Value row) { body(ArrayRef<Value>(row)); });
}

/// Calls \p body with the tiles of group \p group: \p perItem of them, or,
/// in a last group that has fewer, one at a time.
static void forTilesOfItem(KernelBuilder &b, Value group, int64_t tiles,
                           int64_t perItem,
                           function_ref<void(ArrayRef<Value>)> body) {
  Value begin = b.mul(group, perItem);
  auto all = [&] {
    Values values;
    for (int64_t i = 0; i < perItem; ++i)
      values.push_back(b.add(begin, i));
    body(values);
  };
  if (tiles % perItem == 0)
    return all();
  Value isWhole = b.less(group, b.index(tiles / perItem));
  b.when(isWhole, all);
  b.when(b.equal(group, b.index(tiles / perItem)), [&] {
    b.loop(begin, b.index(tiles), 1,
           [&](Value tile) { body(ArrayRef<Value>(tile)); });
  });
}

/// Stores one tile's results; past \p columns only where the row is padded.
static void storeTile(KernelBuilder &b, Value vector, Value out, Value row,
                      Value columnOffset, Value tile, int64_t columns,
                      bool isPadded) {
  Value column = b.mul(tile, tileRows);
  Value at = columnOffset ? b.add(columnOffset, column) : column;
  if (columns % tileRows == 0 || isPadded) {
    b.storeVector(vector, out, {row, at});
    return;
  }
  Value left = b.sub(b.index(columns), column);
  Value mask = vector::CreateMaskOp::create(
      b, VectorType::get({tileRows}, b.getI1Type()), ValueRange{left});
  vector::MaskedStoreOp::create(b, out, ValueRange{row, at}, mask, vector);
}

static int64_t rowBlock(int64_t registers, int64_t chains) {
  // Accumulators take what a column of each chain and one broadcast leave.
  return std::clamp<int64_t>((registers - chains - 2) / chains, 1, 6);
}

/// True if rows of \p type hold a whole last tile.
static bool hasPaddedRows(Type type, int64_t columns) {
  auto memref = cast<MemRefType>(type);
  return memref.getDimSize(1) >= roundUp(columns, tileRows);
}

KernelOp KernelSet::linear(TypeRange types, int64_t inner, int64_t columns,
                           bool hasBias, bool hasScales) {
  int64_t tiles = ceilDiv(columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  auto name = llvm::formatv("linear_{0}_{1}x{2}{3}", weightName(types[1]),
                            columns, inner, hasBias ? "_bias" : "")
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    size_t next = 2;
    Value bias = hasBias ? arguments[next++] : Value();
    Value scales = hasScales ? arguments[next++] : Value();
    Value out = arguments[next++], rowCount = arguments[next];
    TiledWeight weight = {arguments[1], Value(), scales, inner};
    Rows input = {arguments[0], Value()};
    bool isPadded = hasPaddedRows(out.getType(), columns);
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      forTilesOfItem(b, item, tiles, perItem, [&](ArrayRef<Value> tile) {
        forRowBlocks(b, b.index(0), rowCount,
                     rowBlock(options.registers, int64_t(tile.size())),
                     [&](ArrayRef<Value> rows) {
                       Values sums =
                           multiplyTiles(b, weight, tile, input, rows);
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

KernelOp KernelSet::headLinear(TypeRange types, int64_t heads, int64_t stride,
                               int64_t inner, int64_t columns) {
  int64_t tiles = ceilDiv(columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  auto name = llvm::formatv("head_linear_{0}_{1}x{2}x{3}_of_{4}",
                            weightName(types[1]), heads, columns, inner, stride)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value out = arguments[2], rowCount = arguments[3];
    int64_t groups = ceilDiv(tiles, perItem);
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      Value head = b.div(item, groups);
      TiledWeight weight = {arguments[1], head, Value(), inner};
      Rows input = {arguments[0], b.mul(head, stride)};
      Value columnOffset = b.mul(head, columns);
      forTilesOfItem(
          b, b.rem(item, groups), tiles, perItem, [&](ArrayRef<Value> tile) {
            forRowBlocks(b, b.index(0), rowCount,
                         rowBlock(options.registers, int64_t(tile.size())),
                         [&](ArrayRef<Value> rows) {
                           Values sums =
                               multiplyTiles(b, weight, tile, input, rows);
                           size_t next = 0;
                           for (Value t : tile)
                             for (Value row : rows)
                               storeTile(b, sums[next++], out, row,
                                         columnOffset, t, columns, false);
                         });
          });
    });
  });
}

//===----------------------------------------------------------------------===//
// Row by row
//===----------------------------------------------------------------------===//

KernelOp KernelSet::embed(TypeRange types, int64_t hidden) {
  auto table = cast<MemRefType>(types[1]);
  bool isTiled = table.getRank() == 3;
  auto name = llvm::formatv("embed_{0}_{1}{2}", weightName(table), hidden,
                            isTiled ? "_tiled" : "")
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value ids = arguments[0], table = arguments[1], out = arguments[2];
    Type element = cast<MemRefType>(table.getType()).getElementType();
    int64_t lanes = isTiled ? 1 : KernelBuilder::lanesFor(hidden);
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value id = b.toIndex(b.load(ids, row));
      b.loop(b.index(0), b.index(hidden), lanes, [&](Value column) {
        // A tied table is stored for the head: its rows are interleaved.
        Value stored = isTiled ? b.load(table, {b.div(id, tileRows), column,
                                                b.rem(id, tileRows)})
                               : b.loadVector(table, {id, column}, lanes);
        if (!element.isF32())
          stored = arith::ExtFOp::create(
              b, isTiled ? Type(b.getF32Type()) : b.vectorType(lanes), stored);
        if (isTiled)
          b.store(stored, out, {row, column});
        else
          b.storeVector(stored, out, {row, column});
      });
    });
  });
}

KernelOp KernelSet::rmsNorm(TypeRange types, int64_t columns, float epsilon) {
  auto name = llvm::formatv("rms_norm_{0}_{1:e8}", columns, epsilon).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value in = arguments[0], weight = arguments[1], out = arguments[2];
    int64_t lanes = KernelBuilder::lanesFor(columns);
    VectorType vector = b.vectorType(lanes);
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Values sums =
          b.loop(b.index(0), b.index(columns), lanes, b.f32(0, vector),
                 [&](Value column, ValueRange carried) {
                   Value x = b.loadVector(in, {row, column}, lanes);
                   return Values{b.fma(x, x, carried[0])};
                 });
      Value mean = b.divf(b.sumLanes(sums[0]), b.f32(double(columns)));
      Value scale =
          b.divf(b.f32(1), b.sqrt(b.addf(mean, b.f32(double(epsilon)))));
      Value scales = b.broadcast(scale, lanes);
      b.loop(b.index(0), b.index(columns), lanes, [&](Value column) {
        Value x = b.loadVector(in, {row, column}, lanes);
        Value w = b.loadVector(weight, column, lanes);
        b.storeVector(b.mulf(b.mulf(x, scales), w), out, {row, column});
      });
    });
  });
}

KernelOp KernelSet::rotary(TypeRange types, int64_t heads, int64_t headDim,
                           RotaryAttr rotary) {
  int64_t dim = rotary.getDim(), half = dim / 2, kept = headDim - dim;
  bool isInterleaved =
      rotary.getLayout() == deepseek::RotaryLayout::Interleaved;
  auto name = llvm::formatv("rotary_{0}_{1}x{2}_{3}",
                            isInterleaved ? "interleaved" : "half_split", heads,
                            headDim, dim)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value in = arguments[0], positions = arguments[1], table = arguments[2],
          out = arguments[3];
    int64_t lanes = KernelBuilder::lanesFor(half);
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value position = b.toIndex(b.load(positions, row));
      b.loop(b.index(0), b.index(heads), 1, [&](Value head) {
        Value base = b.mul(head, headDim);
        if (kept) {
          int64_t width = KernelBuilder::lanesFor(kept);
          b.loop(b.index(0), b.index(kept), width, [&](Value i) {
            Value at = b.add(base, i);
            b.storeVector(b.loadVector(in, {row, at}, width), out, {row, at});
          });
        }
        Value rotated = b.add(base, kept);
        b.loop(b.index(0), b.index(half), lanes, [&](Value i) {
          Value cosine = b.loadVector(table, {position, i}, lanes);
          Value sine = b.loadVector(table, {position, b.add(i, half)}, lanes);
          Value x, y;
          if (isInterleaved) {
            Value both =
                b.loadVector(in, {row, b.add(rotated, b.mul(i, 2))}, 2 * lanes);
            auto parts = vector::DeinterleaveOp::create(b, both);
            x = parts.getRes1();
            y = parts.getRes2();
          } else {
            x = b.loadVector(in, {row, b.add(rotated, i)}, lanes);
            y = b.loadVector(in, {row, b.add(b.add(rotated, i), half)}, lanes);
          }
          Value newX = b.subf(b.mulf(x, cosine), b.mulf(y, sine));
          Value newY = b.addf(b.mulf(y, cosine), b.mulf(x, sine));
          if (isInterleaved) {
            Value both = vector::InterleaveOp::create(b, newX, newY);
            b.storeVector(both, out, {row, b.add(rotated, b.mul(i, 2))});
          } else {
            b.storeVector(newX, out, {row, b.add(rotated, i)});
            b.storeVector(newY, out, {row, b.add(b.add(rotated, i), half)});
          }
        });
      });
    });
  });
}

KernelOp KernelSet::swiglu(TypeRange types, int64_t columns) {
  return get("swiglu_" + Twine(columns), types,
             [&](KernelBuilder &b, KernelOp kernel) {
               auto arguments = kernel.getKernelArguments();
               int64_t lanes = KernelBuilder::lanesFor(columns);
               b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
                 b.loop(b.index(0), b.index(columns), lanes, [&](Value c) {
                   Value gate = b.loadVector(arguments[0], {row, c}, lanes);
                   Value up = b.loadVector(arguments[1], {row, c}, lanes);
                   Value silu = b.mulf(gate, b.sigmoid(gate));
                   b.storeVector(b.mulf(silu, up), arguments[2], {row, c});
                 });
               });
             });
}

KernelOp KernelSet::add(TypeRange types, int64_t columns) {
  return get("add_" + Twine(columns), types,
             [&](KernelBuilder &b, KernelOp kernel) {
               auto arguments = kernel.getKernelArguments();
               int64_t lanes = KernelBuilder::lanesFor(columns);
               b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
                 b.loop(b.index(0), b.index(columns), lanes, [&](Value c) {
                   Value lhs = b.loadVector(arguments[0], {row, c}, lanes);
                   Value rhs = b.loadVector(arguments[1], {row, c}, lanes);
                   b.storeVector(b.addf(lhs, rhs), arguments[2], {row, c});
                 });
               });
             });
}

KernelOp KernelSet::gatherRows(TypeRange types, int64_t columns) {
  return get("gather_rows_" + Twine(columns), types,
             [&](KernelBuilder &b, KernelOp kernel) {
               auto arguments = kernel.getKernelArguments();
               int64_t lanes = KernelBuilder::lanesFor(columns);
               b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
                 Value from = b.toIndex(b.load(arguments[1], row));
                 b.loop(b.index(0), b.index(columns), lanes, [&](Value c) {
                   b.storeVector(b.loadVector(arguments[0], {from, c}, lanes),
                                 arguments[2], {row, c});
                 });
               });
             });
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

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

//===----------------------------------------------------------------------===//
// Experts
//===----------------------------------------------------------------------===//

/// Below every score that takes part.
constexpr double notChosen = -3.0e38;

/// The index of the largest of \p count values; the first of equal ones.
static Value argmax(KernelBuilder &b, Value memref, int64_t count) {
  return b.loop(b.index(1), b.index(count), 1,
                {b.load(memref, b.index(0)), b.index(0)},
                [&](Value i, ValueRange best) {
                  Value value = b.load(memref, i);
                  Value isBetter = b.lessf(best[0], value);
                  return Values{b.select(isBetter, value, best[0]),
                                b.select(isBetter, i, best[1])};
                })[1];
}

KernelOp KernelSet::router(TypeRange types, RoutingAttr routing) {
  int64_t experts = routing.getExperts(), topK = routing.getTopK();
  int64_t groups = routing.getGroups(), perGroup = experts / groups;
  bool hasBias = routing.getMethod() == deepseek::TopKMethod::NoAuxTC;
  auto name = llvm::formatv("router_{0}_{1}_{2}_of_{3}_{4}_of_{5}{6}_{7:e8}",
                            stringifyScoring(routing.getScoring()),
                            stringifyTopKMethod(routing.getMethod()), topK,
                            experts, routing.getTopGroups(), groups,
                            routing.getNormalize() ? "_normalized" : "",
                            routing.getScale().getValueAsDouble())
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value logits = arguments[0];
    Value bias = hasBias ? arguments[1] : Value();
    Value ids = arguments[hasBias ? 2 : 1];
    Value weights = arguments[hasBias ? 3 : 2];
    Value scores = b.stack(experts, b.getF32Type());
    Value ranking = b.stack(experts, b.getF32Type());
    Value groupRanking = b.stack(groups, b.getF32Type());
    int64_t lanes = KernelBuilder::lanesFor(experts);
    auto forExperts = [&](function_ref<void(Value)> body) {
      b.loop(b.index(0), b.index(experts), lanes, body);
    };
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      auto logit = [&](Value e) {
        return b.loadVector(logits, {row, e}, lanes);
      };
      if (routing.getScoring() == deepseek::Scoring::Sigmoid) {
        forExperts(
            [&](Value e) { b.storeVector(b.sigmoid(logit(e)), scores, e); });
      } else {
        VectorType vector = b.vectorType(lanes);
        Value maximum = b.maxLane(
            b.loop(b.index(0), b.index(experts), lanes,
                   b.f32(notChosen, vector), [&](Value e, ValueRange carried) {
                     return Values{b.maxf(carried[0], logit(e))};
                   })[0]);
        Value maxima = b.broadcast(maximum, lanes);
        Value sum = b.sumLanes(
            b.loop(b.index(0), b.index(experts), lanes, b.f32(0, vector),
                   [&](Value e, ValueRange carried) {
                     Value x = b.exp(b.subf(logit(e), maxima));
                     b.storeVector(x, scores, e);
                     return Values{b.addf(carried[0], x)};
                   })[0]);
        Value sums = b.broadcast(sum, lanes);
        forExperts([&](Value e) {
          Value x = b.loadVector(scores, e, lanes);
          b.storeVector(b.divf(x, sums), scores, e);
        });
      }
      forExperts([&](Value e) {
        Value x = b.loadVector(scores, e, lanes);
        if (bias)
          x = b.addf(x, b.loadVector(bias, e, lanes));
        b.storeVector(x, ranking, e);
      });

      if (groups > 1) {
        b.loop(b.index(0), b.index(groups), 1, [&](Value group) {
          Value begin = b.mul(group, perGroup);
          Values best =
              b.loop(begin, b.add(begin, perGroup), 1,
                     {b.f32(notChosen), b.f32(notChosen)},
                     [&](Value e, ValueRange two) {
                       Value x = b.load(ranking, e);
                       Value isFirst = b.lessf(two[0], x);
                       Value second =
                           b.select(isFirst, two[0], b.maxf(two[1], x));
                       return Values{b.select(isFirst, x, two[0]), second};
                     });
          b.store(hasBias ? b.addf(best[0], best[1]) : best[0], groupRanking,
                  group);
        });
        // Chosen groups are taken out of the ranking; what is left in it is
        // then taken out of the experts' ranking.
        b.loop(b.index(0), b.index(routing.getTopGroups()), 1, [&](Value) {
          b.store(b.f32(notChosen), groupRanking,
                  argmax(b, groupRanking, groups));
        });
        b.loop(b.index(0), b.index(groups), 1, [&](Value group) {
          Value isLeft = b.lessf(b.f32(notChosen), b.load(groupRanking, group));
          b.when(isLeft, [&] {
            Value begin = b.mul(group, perGroup);
            b.loop(begin, b.add(begin, perGroup), 1,
                   [&](Value e) { b.store(b.f32(notChosen), ranking, e); });
          });
        });
      }

      Value sum = b.loop(b.index(0), b.index(topK), 1, b.f32(0),
                         [&](Value slot, ValueRange carried) {
                           Value e = argmax(b, ranking, experts);
                           Value score = b.load(scores, e);
                           b.store(b.f32(notChosen), ranking, e);
                           b.store(b.toI32(e), ids, {row, slot});
                           b.store(score, weights, {row, slot});
                           return Values{b.addf(carried[0], score)};
                         })[0];
      Value scale = b.f32(routing.getScale().getValueAsDouble());
      b.loop(b.index(0), b.index(topK), 1, [&](Value slot) {
        Value weight = b.load(weights, {row, slot});
        if (routing.getNormalize())
          weight = b.divf(weight, b.addf(sum, b.f32(1e-20)));
        b.store(b.mulf(weight, scale), weights, {row, slot});
      });
    });
  });
}

KernelOp KernelSet::groupSlots(TypeRange types, int64_t experts, int64_t topK) {
  auto name = llvm::formatv("group_slots_{0}_of_{1}", topK, experts).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value ids = arguments[0], offsets = arguments[1], list = arguments[2],
          active = arguments[3], rowCount = arguments[4];
    Value cursors = b.stack(experts, b.getI32Type());
    auto addOne = [&](Value memref, Value at) {
      b.store(b.add(b.load(memref, at), b.i32(1)), memref, at);
    };
    auto forSlots = [&](function_ref<void(Value, Value)> body) {
      b.loop(b.index(0), rowCount, 1, [&](Value row) {
        b.loop(b.index(0), b.index(topK), 1, [&](Value s) {
          body(b.add(b.mul(row, topK), s), b.toIndex(b.load(ids, {row, s})));
        });
      });
    };
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value) {
      b.loop(b.index(0), b.index(experts), 1,
             [&](Value e) { b.store(b.i32(0), cursors, e); });
      forSlots([&](Value, Value e) { addOne(cursors, e); });
      // Counts become the places where each expert's slots begin.
      Values ends = b.loop(
          b.index(0), b.index(experts), 1, {b.i32(0), b.index(0)},
          [&](Value e, ValueRange carried) {
            Value count = b.load(cursors, e);
            b.store(carried[0], offsets, e);
            b.store(carried[0], cursors, e);
            // Written at every expert; only the next active one is kept.
            b.store(b.toI32(e), active, carried[1]);
            Value isActive = b.less(b.i32(0), count);
            return Values{b.add(carried[0], count),
                          b.select(isActive, b.add(carried[1], 1), carried[1])};
          });
      b.store(ends[0], offsets, b.index(experts));
      b.store(b.toI32(ends[1]), active, b.index(experts));
      forSlots([&](Value slot, Value e) {
        b.store(b.toI32(slot), list, b.toIndex(b.load(cursors, e)));
        addOne(cursors, e);
      });
    });
  });
}

/// Calls \p body for blocks of the slots of the expert that \p item is for,
/// with the expert, the tiles and the slots; items past the last active
/// expert have nothing to do.
static void forExpertItems(
    KernelBuilder &b, KernelOp kernel, Value offsets, Value list, Value active,
    int64_t experts, int64_t tiles, int64_t perItem, int64_t registers,
    int64_t weights,
    function_ref<void(Value, ArrayRef<Value>, ArrayRef<Value>)> body) {
  int64_t groups = ceilDiv(tiles, perItem);
  b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
    Value nth = b.div(item, groups);
    Value count = b.toIndex(b.load(active, b.index(experts)));
    b.when(b.less(nth, count), [&] {
      Value expert = b.toIndex(b.load(active, nth));
      Value begin = b.toIndex(b.load(offsets, expert));
      Value end = b.toIndex(b.load(offsets, b.add(expert, 1)));
      forTilesOfItem(
          b, b.rem(item, groups), tiles, perItem, [&](ArrayRef<Value> tile) {
            forRowBlocks(b, begin, end,
                         rowBlock(registers, int64_t(tile.size()) * weights),
                         [&](ArrayRef<Value> entries) {
                           Values slots;
                           for (Value entry : entries)
                             slots.push_back(b.toIndex(b.load(list, entry)));
                           body(expert, tile, slots);
                         });
          });
    });
  });
}

KernelOp KernelSet::expertsUp(TypeRange types, int64_t experts, int64_t topK,
                              int64_t inner, int64_t columns, bool hasScales) {
  int64_t tiles = ceilDiv(columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  auto name = llvm::formatv("experts_up_{0}_{1}x{2}x{3}_{4}",
                            weightName(types[4]), experts, columns, inner, topK)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value out = arguments[hasScales ? 8 : 6];
    Value gateScales = hasScales ? arguments[6] : Value();
    Value upScales = hasScales ? arguments[7] : Value();
    Rows input = {arguments[0], Value()};
    forExpertItems(
        b, kernel, arguments[1], arguments[2], arguments[3], experts, tiles,
        perItem, options.registers, /*weights=*/2,
        [&](Value expert, ArrayRef<Value> tile, ArrayRef<Value> slots) {
          TiledWeight weights[] = {{arguments[4], expert, gateScales, inner},
                                   {arguments[5], expert, upScales, inner}};
          Values rows;
          for (Value slot : slots)
            rows.push_back(b.div(slot, topK));
          Values sums = multiplyTiles(b, weights, tile, input, rows);
          size_t half = sums.size() / 2, next = 0;
          for (Value t : tile)
            for (Value slot : slots) {
              Value gate = sums[next], up = sums[half + next];
              ++next;
              Value silu = b.mulf(gate, b.sigmoid(gate));
              storeTile(b, b.mulf(silu, up), out, slot, Value(), t, columns,
                        /*isPadded=*/true);
            }
        });
  });
}

KernelOp KernelSet::expertsDown(TypeRange types, int64_t experts, int64_t inner,
                                int64_t columns, bool hasScales) {
  int64_t tiles = ceilDiv(columns, tileRows);
  int64_t perItem = tilesPerItem(tiles);
  auto name = llvm::formatv("experts_down_{0}_{1}x{2}x{3}",
                            weightName(types[4]), experts, columns, inner)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value out = arguments[hasScales ? 6 : 5];
    Value scales = hasScales ? arguments[5] : Value();
    Rows input = {arguments[0], Value()};
    forExpertItems(
        b, kernel, arguments[1], arguments[2], arguments[3], experts, tiles,
        perItem, options.registers, /*weights=*/1,
        [&](Value expert, ArrayRef<Value> tile, ArrayRef<Value> slots) {
          TiledWeight weight = {arguments[4], expert, scales, inner};
          Values sums = multiplyTiles(b, weight, tile, input, slots);
          size_t next = 0;
          for (Value t : tile)
            for (Value slot : slots)
              storeTile(b, sums[next++], out, slot, Value(), t, columns,
                        /*isPadded=*/true);
        });
  });
}

KernelOp KernelSet::combine(TypeRange types, int64_t topK, int64_t columns) {
  auto name = llvm::formatv("combine_{0}_{1}", topK, columns).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    int64_t lanes = KernelBuilder::lanesFor(columns);
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value slot = b.mul(row, topK);
      b.loop(b.index(0), b.index(columns), lanes, [&](Value c) {
        Value sum = b.f32(0, b.vectorType(lanes));
        for (int64_t s = 0; s < topK; ++s) {
          Value weight =
              b.broadcast(b.load(arguments[1], {row, b.index(s)}), lanes);
          Value y = b.loadVector(arguments[0], {b.add(slot, s), c}, lanes);
          sum = b.fma(weight, y, sum);
        }
        b.storeVector(sum, arguments[2], {row, c});
      });
    });
  });
}
