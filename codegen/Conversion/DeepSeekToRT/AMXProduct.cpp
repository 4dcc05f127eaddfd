// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products by the tile registers of Intel AMX. Registers and shapes are chosen
// here, so that nothing is left to an allocator: 0 has the sums of a group, 1
// its weights and 2 its rows.

#include "codegen/Conversion/DeepSeekToRT/AMXProduct.h"

#include "codegen/RegisterArrays.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace hadal;
using Values = KernelBuilder::Values;

/// Rows of a block: those of a tile register.
constexpr int64_t blockRows = 16;
/// Bytes of a row of a tile register.
constexpr int64_t rowBytes = 64;
/// Tile registers.
enum : int8_t { Sums = 0, Weights = 1, Inputs = 2 };

/// Elements of k that one product of tiles takes.
static int64_t elementsAtOnce(const IntegerShape &shape) {
  return std::min(shape.activationGroup, rowBytes);
}

/// Elements of k in a piece, whose rows leave half of the first-level cache or
/// more to what they are multiplied with; or are in shared memory beside those
/// of other warps.
static int64_t mostPieceElements(const KernelOptions &options) {
  if (options.dotProduct == DotProductKind::CUDA)
    return 512;
  return llvm::bit_floor(uint64_t(options.caches.l1Bytes)) / 2 / blockRows;
}

/// Tiles of all weights that an item has: the more, the more products a copied
/// row serves; their bytes and sums stay in a second-level cache.
constexpr int64_t mostTiles = 8;

//===----------------------------------------------------------------------===//
// Instructions
//===----------------------------------------------------------------------===//

static void callAMX(KernelBuilder &b, StringRef name, ValueRange operands) {
  LLVM::CallIntrinsicOp::create(b, b.getStringAttr(("llvm.x86." + name).str()),
                                operands);
}

static Value tileRegister(KernelBuilder &b, int8_t number) {
  return LLVM::ConstantOp::create(b, b.getI8IntegerAttr(number));
}

/// The address of the first element of \p memref, as an index.
static Value addressOf(KernelBuilder &b, Value memref) {
  return memref::ExtractAlignedPointerAsIndexOp::create(b, memref);
}

static Value pointerTo(KernelBuilder &b, Value address) {
  Value word = arith::IndexCastOp::create(b, b.getI64Type(), address);
  return LLVM::IntToPtrOp::create(b, LLVM::LLVMPointerType::get(b.getContext()),
                                  word);
}

/// Loads or stores (\p name) a tile register; its rows follow each other.
static void moveTile(KernelBuilder &b, StringRef name, int8_t number,
                     Value address) {
  Value stride = LLVM::ConstantOp::create(b, b.getI64IntegerAttr(rowBytes));
  callAMX(b, name, {tileRegister(b, number), pointerTo(b, address), stride});
}

//===----------------------------------------------------------------------===//
// Rows of a block
//===----------------------------------------------------------------------===//

namespace {

/// One of the rows of a block: its index, which is \p number where it is known.
struct Row {
  Value index;
  int64_t number;
};

/// A vector for each row of a block: values that loops carry, or for a GPU an
/// array in registers, for which they carry none.
class RowVectors {
public:
  RowVectors(KernelBuilder &b, bool isArray, StringRef name) : b(b) {
    if (!isArray)
      return;
    array = b.stack({blockRows, tileRows}, b.getF32Type(), name);
    array.getDefiningOp()->setAttr(registersAttrName, b.getUnitAttr());
  }

  void forRows(function_ref<void(Row)> body) const {
    if (array)
      b.loop("index", b.index(0), b.index(blockRows), 1,
             [&](Value index) { body({index, 0}); });
    else
      for (int64_t m = 0; m < blockRows; ++m)
        body({b.index(m), m});
  }
  /// Those that \p make gives; what is to be carried.
  Values begin(function_ref<Value(Row)> make) const {
    Values next;
    forRows([&](Row row) { set(next, row, make(row)); });
    return next;
  }
  /// Those that \p make gives for each row and what it has.
  Values update(ValueRange carried,
                function_ref<Value(Row, Value before)> make) const {
    Values next;
    forRows([&](Row row) { set(next, row, make(row, get(carried, row))); });
    return next;
  }
  Value get(ValueRange carried, Row row) const {
    return array ? b.loadVector(array, {row.index, b.index(0)}, tileRows)
                 : carried[row.number];
  }

private:
  void set(Values &next, Row row, Value vector) const {
    if (array)
      b.storeVector(vector, array, {row.index, b.index(0)});
    else
      next.push_back(vector);
  }

  KernelBuilder &b;
  Value array;
};

} // namespace

//===----------------------------------------------------------------------===//
// Stack
//===----------------------------------------------------------------------===//

std::optional<AMXProduct> AMXProduct::get(KernelBuilder &b,
                                          const KernelOptions &options,
                                          const IntegerShape &shape,
                                          int64_t weights, int64_t tiles,
                                          int64_t perGroup) {
  DotProductKind dotProduct = options.dotProduct;
  int64_t mostElements = mostPieceElements(options);
  // A group of the weight that is larger than a piece is of all k.
  bool hasPieces = shape.activationGroup % 32 == 0 &&
                   shape.activationGroup % elementsAtOnce(shape) == 0 &&
                   shape.activationGroup <= mostElements &&
                   (shape.group <= mostElements || shape.group == shape.inner);
  // Nibbles that count from 0, offsets and digits of the inputs are for VNNI.
  bool isPlain = shape.codebook.empty() && !shape.isUnsigned &&
                 !shape.hasOffsets && shape.digits == 1 &&
                 shape.scaleElement.isF16();
  bool hasTiles = dotProduct == DotProductKind::AMXInt8 ||
                  dotProduct == DotProductKind::CUDA;
  if (!hasTiles || !hasPieces || !isPlain)
    return std::nullopt;
  int64_t most = std::max<int64_t>(mostTiles / (weights * perGroup), 1);
  int64_t atOnce = std::min<int64_t>(most, ceilDiv(tiles, perGroup));
  // A warp is given one item.
  if (dotProduct == DotProductKind::CUDA)
    atOnce = 1;
  return AMXProduct(b, options, shape, weights, perGroup, atOnce);
}

int64_t AMXProduct::pieceElements() const {
  int64_t unit = isPerChannel() ? shape.activationGroup : shape.group;
  // Rows are copied by 64 elements.
  unit = std::lcm(unit, rowBytes);
  int64_t most = std::max(mostElements / unit, int64_t(1)) * unit;
  return std::min(most, int64_t(roundUp(shape.inner, unit)));
}

AMXProduct::AMXProduct(KernelBuilder &b, const KernelOptions &options,
                       const IntegerShape &shape, int64_t weights,
                       int64_t perGroup, int64_t atOnce)
    : shape(shape), isShared(options.dotProduct == DotProductKind::CUDA),
      mostElements(mostPieceElements(options)), weights(weights),
      tiles(perGroup * atOnce), atOnce(atOnce) {
  int64_t piece = pieceElements();
  b.setTile("piece_columns", piece);
  if (shape.bits < 8)
    bytes = b.stack({weights * tiles, piece / 4, rowBytes}, b.getI8Type(),
                    "weight_bytes");
  rows = b.stack({piece / rowBytes, blockRows, rowBytes / 4}, b.getI32Type(),
                 "row_bytes");
  rowScales = b.stack({blockRows, piece / shape.activationGroup},
                      b.getF32Type(), "row_scales");
  groupSums = b.stack({blockRows, tileRows}, b.getI32Type(), "group_sums");
  state =
      b.stack({stateRows() / blockRows, weights * tiles, blockRows, tileRows},
              b.getF32Type(), "running_sums");
  tileConfig = b.stack(rowBytes, b.getI8Type(), "tile_shapes");
}

/// Palette 1 with the shapes of the three registers: Intel SDM, volume 2A,
/// LDTILECFG.
void AMXProduct::configure(KernelBuilder &b) const {
  SmallVector<int8_t> config(rowBytes, 0);
  config[0] = 1;
  auto setShape = [&](int8_t number, int64_t rows, int64_t bytes) {
    config[16 + 2 * number] = int8_t(bytes);
    config[48 + number] = int8_t(rows);
  };
  int64_t atOnce = elementsAtOnce(shape);
  setShape(Sums, blockRows, rowBytes);
  setShape(Weights, atOnce / 4, rowBytes);
  setShape(Inputs, blockRows, atOnce);
  auto type = VectorType::get({rowBytes}, b.getI8Type());
  Value vector = arith::ConstantOp::create(
      b, DenseElementsAttr::get(type, ArrayRef(config)));
  b.storeVector(vector, tileConfig, b.index(0));
  callAMX(b, "ldtilecfg", pointerTo(b, addressOf(b, tileConfig)));
}

//===----------------------------------------------------------------------===//
// Loops
//===----------------------------------------------------------------------===//

Value AMXProduct::multiply(KernelBuilder &b, const IntegerItem &item) const {
  KernelBuilder::Named named(b, "multiply_blocks");
  // A block that is half full costs less than its rows would, a few at a time.
  Value count = b.sub(item.last, item.first);
  Value blocks = b.div(b.add(count, blockRows / 2), blockRows);
  Value blockEnd = b.add(item.first, b.mul(blocks, blockRows));
  b.when(b.less(b.index(0), blocks), [&] {
    configure(b);
    Value zero = b.f32(0, b.vectorType(tileRows));
    b.loop("begin", item.first, blockEnd, stateRows(), [&](Value begin) {
      // Blocks from begin on, up to what the state has.
      Value size = b.min(b.sub(blockEnd, begin), b.index(stateRows()));
      Value count = b.div(size, blockRows);
      auto forBlocks = [&](function_ref<void(Value block)> body) {
        b.loop(b.index(0), count, 1, body);
      };
      auto forTiles = [&](function_ref<void(Value tile)> body) {
        b.loop(b.index(0), b.sub(item.tiles.end, item.tiles.begin), 1, body);
      };
      forBlocks([&](Value block) {
        KernelBuilder::Named named(b, "clear_sums");
        b.loop(
            "chain", b.index(0), b.index(weights * tiles), 1, [&](Value chain) {
              b.loop("row", b.index(0), b.index(blockRows), 1, [&](Value row) {
                b.storeVector(zero, state, {block, chain, row, b.index(0)});
              });
            });
      });
      int64_t most = pieceElements();
      b.loop("k", b.index(0), b.index(shape.inner), most, [&](Value k) {
        Piece piece = {k, b.min(b.sub(b.index(shape.inner), k), b.index(most))};
        if (shape.bits < 8)
          unpack(b, item, piece);
        forBlocks([&](Value block) {
          copyRows(b, item, b.add(begin, b.mul(block, blockRows)), piece);
          forTiles([&](Value tile) {
            for (size_t i = 0; i < item.weights.size(); ++i)
              multiplyPiece(b, item, int64_t(i), tile, block, piece);
          });
        });
      });
      forBlocks([&](Value block) {
        store(b, item, block, b.add(begin, b.mul(block, blockRows)));
      });
    });
    callAMX(b, "tilerelease", {});
  });
  return b.min(blockEnd, item.last);
}

/// Makes bytes of a piece of all tiles.
void AMXProduct::unpack(KernelBuilder &b, const IntegerItem &item,
                        Piece piece) const {
  KernelBuilder::Named named(b, "unpack_weights");
  auto byteType = VectorType::get({rowBytes}, b.getI8Type());
  Value least = arith::ConstantOp::create(
      b, DenseElementsAttr::get(byteType,
                                b.getI8IntegerAttr(1 << (shape.bits - 1))));
  int64_t columns = deepseek::getTileColumns(shape.bits);
  int64_t vectors = columns * shape.bits / 32;
  b.loop(b.index(0), b.sub(item.tiles.end, item.tiles.begin), 1, [&](Value t) {
    for (size_t w = 0; w < item.weights.size(); ++w) {
      const IntegerWeight &weight = item.weights[w];
      Value chain = b.add(b.mul(t, weights), int64_t(w));
      b.loop(
          "unit", b.index(0), b.div(piece.size, columns), 1, [&](Value unit) {
            Value first =
                b.mul(b.add(b.div(piece.begin, columns), unit), vectors);
            Values stored;
            for (int64_t i = 0; i < vectors; ++i) {
              Values at;
              if (weight.leading)
                at.push_back(weight.leading);
              at.push_back(b.add(item.tiles.begin, t));
              at.append(placeInTile(
                  b, first, weight.ofRecord(weight.inner * shape.bits / 32)));
              at.back() = b.add(at.back(), i);
              at.push_back(b.index(0));
              stored.push_back(b.loadVector(weight.memref, at, rowBytes));
            }
            for (auto [i, codes] :
                 llvm::enumerate(unpackCodes(b, shape.bits, stored)))
              b.storeVector(b.sub(codes, least), bytes,
                            {chain, b.add(b.mul(unit, columns / 4), int64_t(i)),
                             b.index(0)});
          });
    }
  });
}

/// Copies a piece of 16 entries from \p begin on. Past the last entry, the last
/// stands for those that are not there.
void AMXProduct::copyRows(KernelBuilder &b, const IntegerItem &item,
                          Value begin, Piece piece) const {
  KernelBuilder::Named named(b, "copy_rows");
  int64_t groups = pieceElements() / shape.activationGroup;
  int64_t scaleLanes = KernelBuilder::lanesFor(groups);
  Value firstGroup = b.div(piece.begin, shape.activationGroup);
  Value groupCount = b.div(piece.size, shape.activationGroup);
  b.loop(b.index(0), b.index(blockRows), 1, [&](Value m) {
    Value entry = b.min(b.add(begin, m), b.sub(item.last, b.index(1)));
    Value row = item.rowOf(entry);
    // Rows are padded to 64 bytes, and to 16 groups.
    Value vectors = b.div(b.add(piece.size, rowBytes - 1), rowBytes);
    b.loop(b.index(0), vectors, 1, [&](Value i) {
      Value from = b.add(b.div(piece.begin, 4), b.mul(i, rowBytes / 4));
      Value values = b.loadVector(item.input.values, {row, from}, rowBytes / 4);
      b.storeVector(values, rows, {i, m, b.index(0)});
    });
    b.loop("group", b.index(0), groupCount, scaleLanes, [&](Value group) {
      Value scales = b.loadVector(item.input.scales,
                                  {row, b.add(firstGroup, group)}, scaleLanes);
      b.storeVector(scales, rowScales, {m, group});
    });
  });
}

Value AMXProduct::TileBytes::offsetOf(KernelBuilder &b, Value k) const {
  if (!begin)
    return b.mul(k, tileRows);
  Value column = b.add(begin, k);
  if (!record)
    return b.mul(column, tileRows);
  return b.add(b.mul(b.div(column, record), recordBytes),
               b.mul(b.rem(column, record), tileRows));
}

/// Leaves the exact sums of \p group, counted within the piece, in their
/// register.
void AMXProduct::sumGroup(KernelBuilder &b, const TileBytes &tile,
                          Value group) const {
  int64_t atOnce = elementsAtOnce(shape);
  callAMX(b, "tilezero", tileRegister(b, Sums));
  Value rowsAddress = addressOf(b, rows);
  for (int64_t i = 0; i < shape.activationGroup / atOnce; ++i) {
    Value k = b.add(b.mul(group, shape.activationGroup), i * atOnce);
    // Four elements of k are a row of the weights' register.
    moveTile(b, "tileloadd64", Weights,
             b.add(tile.address, tile.offsetOf(b, k)));
    Value block = b.mul(b.div(k, rowBytes), blockRows * rowBytes);
    moveTile(b, "tileloadd64", Inputs,
             b.add(rowsAddress, b.add(block, b.rem(k, rowBytes))));
    callAMX(b, "tdpbssd",
            {tileRegister(b, Sums), tileRegister(b, Inputs),
             tileRegister(b, Weights)});
  }
}

/// Calls \p post for groups [first, first + count) of the inputs, in order,
/// when `groupSums` has the sums of each. Those of the next are under way
/// meanwhile.
Values AMXProduct::chain(KernelBuilder &b, const TileBytes &tile, Value first,
                         Value count, ValueList carried, Post post) const {
  Value sums = addressOf(b, groupSums);
  sumGroup(b, tile, first);
  Value end = b.add(first, count);
  Values results =
      b.loop("group", b.add(first, 1), end, 1, carried,
             [&](Value group, ValueRange carried) {
               moveTile(b, "tilestored64", Sums, sums);
               sumGroup(b, tile, group);
               return post(b.sub(group, b.index(1)), Values(carried));
             });
  moveTile(b, "tilestored64", Sums, sums);
  return post(b.sub(end, b.index(1)), results);
}

/// Adds a piece to the sums of a tile and a block of rows.
void AMXProduct::multiplyPiece(KernelBuilder &b, const IntegerItem &item,
                               int64_t weight, Value tile, Value block,
                               Piece piece) const {
  KernelBuilder::Named named(b, "multiply_piece");
  const IntegerWeight &of = item.weights[weight];
  Value chainIndex = b.add(b.mul(tile, weights), weight);
  Value stored = b.add(item.tiles.begin, tile);
  TileBytes from;
  if (shape.bits < 8) {
    from.address = b.add(addressOf(b, bytes),
                         b.mul(chainIndex, pieceElements() * tileRows));
  } else {
    SmallVector<int64_t> strides;
    int64_t ignored;
    (void)cast<MemRefType>(of.memref.getType())
        .getStridesAndOffset(strides, ignored);
    size_t next = 0;
    from.address = addressOf(b, of.memref);
    if (of.leading)
      from.address = b.add(from.address, b.mul(of.leading, strides[next++]));
    from.address = b.add(from.address, b.mul(stored, strides[next++]));
    from.begin = piece.begin;
    from.record = of.record;
    from.recordBytes = strides[next];
  }

  auto sumsOf = [&](Value m) -> Value {
    Value integers = b.loadVector(groupSums, {m, b.index(0)}, tileRows);
    return arith::SIToFPOp::create(b, b.vectorType(tileRows), integers);
  };
  auto inputScale = [&](Value m, Value group) {
    return b.broadcast(b.load(rowScales, {m, group}), tileRows);
  };
  auto weightScales = [&](Value group) -> Value {
    Values at;
    if (of.leading)
      at.push_back(of.leading);
    at.push_back(stored);
    at.append(placeInTile(b, b.add(b.div(piece.begin, shape.group), group),
                          of.ofRecord(shape.inner / shape.group)));
    at.push_back(b.index(0));
    return arith::ExtFOp::create(b, b.vectorType(tileRows),
                                 b.loadVector(of.scales, at, tileRows));
  };
  RowVectors sums(b, isShared, "sums");
  auto addGroup = [&](Value group, ValueList carried) {
    Value scales = weightScales(group);
    return sums.update(carried, [&](Row row, Value before) {
      Value added = sumsOf(row.index);
      return b.fma(added, b.mulf(scales, inputScale(row.index, group)), before);
    });
  };
  auto addPartTo = [&](const RowVectors &to, Value part, ValueList carried) {
    return to.update(carried, [&](Row row, Value before) {
      Value added = sumsOf(row.index);
      return b.fma(added, inputScale(row.index, part), before);
    });
  };

  auto stateAt = [&](Row row) {
    return Values{block, chainIndex, row.index, b.index(0)};
  };
  Values carried = sums.begin(
      [&](Row row) { return b.loadVector(state, stateAt(row), tileRows); });
  Value parts = b.div(piece.size, shape.activationGroup);
  if (ratio() == 1) {
    carried = chain(b, from, b.index(0), parts, carried, addGroup);
  } else if (isPerChannel()) {
    carried = chain(b, from, b.index(0), parts, carried,
                    [&](Value part, ValueList carried) {
                      return addPartTo(sums, part, carried);
                    });
  } else {
    Value zero = b.f32(0, b.vectorType(tileRows));
    RowVectors ofGroup(b, isShared, "sums_of_group");
    auto addPart = [&](Value part, ValueList carried) {
      return addPartTo(ofGroup, part, carried);
    };
    carried = b.loop("group", b.index(0), b.div(piece.size, shape.group), 1,
                     carried, [&](Value group, ValueRange carried) {
                       Values inner = ofGroup.begin([&](Row) { return zero; });
                       inner = chain(b, from, b.mul(group, ratio()),
                                     b.index(ratio()), inner, addPart);
                       Value scales = weightScales(group);
                       return sums.update(carried, [&](Row row, Value before) {
                         return b.fma(ofGroup.get(inner, row), scales, before);
                       });
                     });
  }
  sums.forRows([&](Row row) {
    b.storeVector(sums.get(carried, row), state, stateAt(row));
  });
}

/// Gives the sums of entries from \p begin on to the item's `store`.
void AMXProduct::store(KernelBuilder &b, const IntegerItem &item, Value block,
                       Value begin) const {
  KernelBuilder::Named named(b, "store_sums");
  Value count = b.min(b.sub(item.last, begin), b.index(blockRows));
  Value tileCount = b.sub(item.tiles.end, item.tiles.begin);
  b.loop(b.index(0), count, 1, [&](Value m) {
    b.loop(b.index(0), tileCount, 1, [&](Value t) {
      Value tile = b.add(item.tiles.begin, t);
      Values sums;
      for (auto [w, weight] : llvm::enumerate(item.weights)) {
        Value chainIndex = b.add(b.mul(t, weights), int64_t(w));
        Value sum =
            b.loadVector(state, {block, chainIndex, m, b.index(0)}, tileRows);
        if (isPerChannel()) {
          Values at;
          if (weight.leading)
            at.push_back(weight.leading);
          at.append({tile, b.index(0), b.index(0)});
          Value scales =
              arith::ExtFOp::create(b, b.vectorType(tileRows),
                                    b.loadVector(weight.scales, at, tileRows));
          sum = b.fma(sum, scales, b.f32(0, b.vectorType(tileRows)));
        }
        sums.push_back(sum);
      }
      item.store(tile, b.add(begin, m), sums);
    });
  });
}
