// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of 8-bit activations with weights of 2 to 8 bits.

#include "codegen/Conversion/DeepSeekToRT/IntegerProduct.h"

#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/FormatVariadic.h"

#include <limits>
#include <numeric>

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

/// Bytes that one vector of a tile has: 16 rows of 4 columns.
constexpr int64_t vectorBytes = 64;

/// How far ahead of the weights that hardware follows their scales are asked
/// for, in bytes of the weights.
constexpr int64_t scalePrefetchBytes = 3072;

IntegerRows hadal::integerRows(KernelBuilder &b, ValueRange arguments,
                               int64_t digits, InputScale scale) {
  b.call(arguments, {"x", "x_scales", "x_sums"});
  return {arguments[0], arguments[1], arguments[2], digits, scale};
}

int64_t hadal::integerOffset(int64_t bits, bool isUnsigned, bool hasCodebook,
                             DotProductKind dotProduct) {
  if (bits == 8 || hasCodebook)
    return -weightOffset(dotProduct);
  return isUnsigned ? 0 : -(int64_t(1) << (bits - 1));
}

std::optional<int64_t> hadal::sumFactor(const IntegerShape &shape,
                                        DotProductKind dotProduct) {
  int64_t offset = integerOffset(shape.bits, shape.isUnsigned,
                                 !shape.codebook.empty(), dotProduct);
  if (!shape.hasOffsets)
    return offset;
  return offset ? std::optional<int64_t>(1) : std::nullopt;
}

Value hadal::unpackLane(KernelBuilder &b, int64_t bits, int64_t lane,
                        function_ref<Value(int64_t vector)> load) {
  if (bits == 8)
    return load(lane);
  Value code;
  int64_t first = 0, to = 0, lanes = deepseek::getTileColumns(bits) / 4;
  for (int64_t plane : deepseek::getBitPlanes(bits)) {
    int64_t perVector = 8 / plane;
    Value part = moveBits(b, load(first + lane / perVector), plane,
                          lane % perVector * plane, to);
    code = code ? arith::OrIOp::create(b, code, part) : part;
    first += lanes / perVector;
    to += plane;
  }
  return code;
}

Values hadal::placeInTile(KernelBuilder &b, Value at, int64_t ofRecord) {
  if (!ofRecord)
    return {at};
  return {b.called("record", b.div(at, ofRecord)),
          b.called("in_record", b.rem(at, ofRecord))};
}

Values hadal::unpackCodes(KernelBuilder &b, int64_t bits, ValueList stored) {
  Values codes;
  for (int64_t i = 0; i < deepseek::getTileColumns(bits) / 4; ++i)
    codes.push_back(unpackLane(
        b, bits, i, [&](int64_t vector) { return stored[size_t(vector)]; }));
  return codes;
}

namespace {

/// What a product of tiles needs to know of a weight beside `IntegerWeight`.
struct GroupLoop {
  KernelBuilder &b;
  const KernelOptions &options;
  ArrayRef<IntegerWeight> weights;
  ValueList tiles;
  const IntegerRows &input;
  /// Of the inputs, and of values: as many for each as there are digits.
  ValueList inputRows, rows;

  const IntegerWeight &shape() const { return weights.front(); }
  size_t chains() const { return weights.size() * tiles.size(); }
  /// Columns that a tile stores together, a unit, and the vectors that it
  /// takes.
  int64_t unitColumns() const { return deepseek::getTileColumns(shape().bits); }
  int64_t unitVectors() const { return unitColumns() * shape().bits / 32; }
  /// Units of a group of the inputs, or groups of a unit, if one has several.
  int64_t units() const {
    return std::max<int64_t>(shape().activationGroup / unitColumns(), 1);
  }
  int64_t groupsOfUnit() const {
    return std::max<int64_t>(unitColumns() / shape().activationGroup, 1);
  }
  Value unitOf(Value group) const {
    return b.div(b.mul(group, units()), groupsOfUnit());
  }
  /// A group: which one of the row, and which one of its record, or of the row
  /// again without records.
  struct Place {
    Value group;
    Value record; ///< Null without.
    Value inRecord;
  };
  /// Group \p index of those that are \p columns each.
  Place placeOf(Value index, int64_t columns) const {
    Values at = placeInTile(b, index, shape().record / columns);
    return {index, at.size() > 1 ? at.front() : Value(), at.back()};
  }
  /// Groups of the weight whose scales, or offsets, are multiplied by one more.
  int64_t blockGroups() const { return deepseek::scaleBlock / shape().group; }
  bool hasLevels() const {
    return isOfLevels(shape().scales) ||
           (shape().offsets && isOfLevels(shape().offsets));
  }
  /// Where vector \p at of a record is, or of a tile without records: of codes,
  /// or of scales or offsets.
  Values indices(const IntegerWeight &weight, Value tile, Value record,
                 Value at) const {
    Values list;
    for (Value some : {weight.leading, tile, record})
      if (some)
        list.push_back(some);
    list.append({at, b.index(0)});
    return list;
  }
  /// Numbers that those of two levels are multiplied by, for each weight and
  /// tile, and which block of its record they are of; without levels none.
  struct Blocks {
    Value index;
    Values scales, offsets;
  };
  Blocks blocks(Value record, Value index) const;
  Values scales(Place group, const Blocks &blocks) const;
  Values offsets(Place group, const Blocks &blocks) const;
  Values inputSums(Value part) const;
  Value scale(Value numbers, Value row, Value part) const;
  /// \p part: which group of its unit \p group is.
  Values sums(Place group, int64_t part) const;
  /// Whether hardware reads the codes ahead: with records the scales, too.
  bool isFollowed() const {
    return inputRows.size() == 1 && options.followsStreams;
  }
  /// Groups of the weight whose scales are in one line of a cache.
  int64_t groupsOfLine() const {
    return std::max<int64_t>(
        vectorBytes * 8 / tileRows /
            getElementTypeOrSelf(shape().scales).getIntOrFloatBitWidth(),
        1);
  }
  void askForScales(Value group) const;
  void askForRecord(Value record) const;

private:
  /// What to ask for while a group is multiplied: tiles, in the order of
  /// chains, and a group of them.
  struct Ahead {
    Values tiles;
    Place group;
  };
  void ask(const IntegerWeight &weight, Value numbers, Value tile, Place group,
           unsigned locality) const;
  std::pair<Value, Value> later(Value group, int64_t distance, int64_t groups,
                                int64_t step) const;
  Ahead prefetch(Place group) const;
  /// Whether lines are asked for before they are read. Where there are many
  /// blocks of rows, the first alone waits for memory, and it costs the others
  /// nothing.
  bool isAskedFor() const {
    return inputRows.size() == 1 ? !isFollowed()
                                 : weightOffset(options.dotProduct) != 0;
  }
  /// Whether the lines of a unit are loaded in the order of memory, which
  /// hardware follows, and not in that in which the lanes of codes need them. A
  /// compiler would choose the latter. Where a unit has several groups, the
  /// arithmetic bounds it, and the choice is better left to the compiler.
  bool keepsOrder() const {
    return isFollowed() && chains() == 1 && unitVectors() > 1 &&
           groupsOfUnit() == 1 && !isSource();
  }
  /// Whether a compiler of source takes the kernel.
  bool isSource() const {
    return b.isRead || options.dotProduct == DotProductKind::CUDA;
  }
  /// Units that are read without a branch between them. A compiler keeps four
  /// lines in the order in which hardware follows them, but not eight. That of
  /// source unrolls it: a step for each chain is left. Two rounds of eight LLVM
  /// makes one, which has more values than there are registers; it leaves four.
  int64_t unrolledUnits() const {
    int64_t most = units() == 16 ? 4 : 8;
    if (isSource())
      most = 2;
    else if (isFollowed())
      most = std::max<int64_t>(4 / unitVectors(), 1);
    return std::gcd(units(), most);
  }
  /// Whether `step` multiplies two rows at once, by eight columns.
  bool inPairs() const {
    return multipliesPairs(options.dotProduct) && rows.size() % 2 == 0;
  }
  /// Units that `step` takes at a time.
  int64_t stepUnits() const {
    return inPairs() ? std::max<int64_t>(8 / unitColumns(), 1) : 1;
  }
  Values step(Place group, Value unit, int64_t part, ValueRange carried,
              int64_t unrolled, const Ahead &ahead) const;
  static bool isOfLevels(Value scales) {
    return getElementTypeOrSelf(scales).isInteger();
  }
  Values blocksOf(Value record, Value index,
                  Value IntegerWeight::*scales) const;
  Values numbersOf(Place group, Value IntegerWeight::*scales, Value block,
                   ValueList factors) const;
};

} // namespace

/// A vector of 16 at \p indices, widened to f32.
static Value loadWide(KernelBuilder &b, Value memref, ValueRange indices) {
  Value stored = b.loadVector(memref, indices, tileRows);
  VectorType wide = b.vectorType(tileRows);
  if (stored.getType() == wide)
    return stored;
  return arith::ExtFOp::create(b, wide, stored);
}

/// The f16 of block \p index of a record of \p scales, whose bytes follow the
/// factors.
Values GroupLoop::blocksOf(Value record, Value index,
                           Value IntegerWeight::*scales) const {
  KernelBuilder::Named named(b, "read_scales");
  auto words = VectorType::get({tileRows}, b.getI16Type());
  auto halves = VectorType::get({tileRows}, b.getF16Type());
  Value eight = arith::ConstantOp::create(
      b, DenseElementsAttr::get(words, b.getI16IntegerAttr(8)));
  Value column = b.add(b.mul(index, blockGroups() + deepseek::scaleBlockBytes),
                       blockGroups());
  Values result;
  for (const IntegerWeight &weight : weights)
    for (Value tile : tiles) {
      auto byte = [&](int64_t i) -> Value {
        return arith::ExtUIOp::create(
            b, words,
            b.loadVector(weight.*scales,
                         indices(weight, tile, record, b.add(column, i)),
                         tileRows));
      };
      Value low = byte(0);
      Value bits = arith::OrIOp::create(
          b, low, arith::ShLIOp::create(b, byte(1), eight));
      Value half = arith::BitcastOp::create(b, halves, bits);
      result.push_back(arith::ExtFOp::create(b, b.vectorType(tileRows), half));
    }
  return result;
}

GroupLoop::Blocks GroupLoop::blocks(Value record, Value index) const {
  Blocks result = {index, {}, {}};
  if (isOfLevels(shape().scales))
    result.scales = blocksOf(record, index, &IntegerWeight::scales);
  if (shape().offsets && isOfLevels(shape().offsets))
    result.offsets = blocksOf(record, index, &IntegerWeight::offsets);
  return result;
}

/// Scales or offsets of \p group, for each weight and tile; \p factors are the
/// numbers of their \p block, if they are of two levels.
Values GroupLoop::numbersOf(Place group, Value IntegerWeight::*scales,
                            Value block, ValueList factors) const {
  KernelBuilder::Named named(b, "read_scales");
  Value index = group.inRecord;
  if (!factors.empty())
    index = b.add(index, b.mul(block, deepseek::scaleBlockBytes));
  Values result;
  for (const IntegerWeight &weight : weights)
    for (Value tile : tiles) {
      Values at = indices(weight, tile, group.record, index);
      if (factors.empty()) {
        result.push_back(loadWide(b, weight.*scales, at));
        continue;
      }
      // Exact: 8 bits times the 11 of an f16.
      Value integers =
          arith::ExtSIOp::create(b, VectorType::get({tileRows}, b.getI32Type()),
                                 b.loadVector(weight.*scales, at, tileRows));
      result.push_back(
          b.mulf(arith::SIToFPOp::create(b, b.vectorType(tileRows), integers),
                 factors[result.size()]));
    }
  return result;
}

Values GroupLoop::scales(Place group, const Blocks &blocks) const {
  return numbersOf(group, &IntegerWeight::scales, blocks.index, blocks.scales);
}

/// None if the weights have none.
Values GroupLoop::offsets(Place group, const Blocks &blocks) const {
  if (!shape().offsets)
    return {};
  return numbersOf(group, &IntegerWeight::offsets, blocks.index,
                   blocks.offsets);
}

Values hadal::joinDigits(KernelBuilder &b, ValueRange digits, int64_t count) {
  Values result;
  for (size_t i = 0; i < digits.size(); i += size_t(count)) {
    Value number = digits[i + size_t(count) - 1];
    for (size_t d = size_t(count) - 1; d-- > 0;)
      number = b.fma(number, b.f32(128, number.getType()), digits[i + d]);
    result.push_back(number);
  }
  return result;
}

/// The sum of group \p part of each row of the inputs, as rounded, negated.
Values GroupLoop::inputSums(Value part) const {
  Values digits;
  if (getElementTypeOrSelf(input.sums).isF32()) {
    for (Value row : inputRows)
      digits.push_back(b.load(input.sums, {row, part}));
    return digits;
  }
  for (Value row : rows)
    digits.push_back(arith::SIToFPOp::create(b, b.getF32Type(),
                                             b.load(input.sums, {row, part})));
  Values sums = joinDigits(b, digits, input.digits);
  for (auto [sum, row] : llvm::zip(sums, inputRows)) {
    Value negated = arith::NegFOp::create(b, sum);
    if (input.scale != InputScale::Exponent) {
      sum = b.mulf(negated, b.load(input.scales, {row, part}));
      continue;
    }
    Value scaled = scale(b.broadcast(negated, tileRows), row, part);
    sum = vector::ExtractOp::create(b, scaled, int64_t(0));
  }
  return sums;
}

/// \p numbers times the scale of group \p part of \p row of the inputs.
Value GroupLoop::scale(Value numbers, Value row, Value part) const {
  Value scale = b.broadcast(b.load(input.scales, {row, part}), tileRows);
  return input.scale == InputScale::Exponent
             ? scaleByExponents(b, numbers, scale)
             : b.mulf(numbers, scale);
}

/// Asks for the scales or offsets \p numbers of \p group, of a group of the
/// weight.
void GroupLoop::ask(const IntegerWeight &weight, Value numbers, Value tile,
                    Place group, unsigned locality) const {
  Value index = group.inRecord;
  if (isOfLevels(numbers))
    index = b.add(
        index, b.mul(b.div(index, blockGroups()), deepseek::scaleBlockBytes));
  memref::PrefetchOp::create(b, numbers,
                             indices(weight, tile, group.record, index),
                             /*isWrite=*/false, locality,
                             /*isDataCache=*/true);
}

/// Where group \p group + \p distance of \p groups is: which one of a tile, and
/// whether of the same tile or of one that comes \p step later.
std::pair<Value, Value> GroupLoop::later(Value group, int64_t distance,
                                         int64_t groups, int64_t step) const {
  Value wanted = b.add(group, distance);
  Value isHere = b.less(wanted, b.index(groups));
  return {b.select(isHere, wanted, b.sub(wanted, b.index(groups))),
          b.select(isHere, b.index(0), b.index(step))};
}

/// Where the weights are that come `prefetchBytes` after those of \p group;
/// past a tile's end, those of the tile that is read after it. Asks for their
/// scales. Where several rows share one stream of weights, as much is wanted as
/// of the several streams that a single row has.
GroupLoop::Ahead GroupLoop::prefetch(Place group) const {
  int64_t groups = shape().inner / shape().activationGroup;
  int64_t groupBytes = shape().activationGroup * shape().bits * tileRows / 8;
  int64_t aheadBytes =
      chains() == 1 && rows.size() > 4 ? 3 * prefetchBytes : prefetchBytes;
  int64_t distance = std::clamp<int64_t>(aheadBytes / groupBytes, 1, groups);
  auto [at, step] = later(group.group, distance, groups, int64_t(tiles.size()));
  int64_t ratio = shape().group / shape().activationGroup;
  Ahead ahead = {{}, placeOf(at, shape().activationGroup)};
  Place scaleGroup = ahead.group;
  if (ratio > 1)
    scaleGroup = placeOf(b.div(at, ratio), shape().group);
  for (const IntegerWeight &weight : weights)
    for (Value tile : tiles) {
      Value there =
          b.min(b.add(tile, step), b.sub(weight.tilesEnd, b.index(1)));
      ask(weight, weight.scales, there, scaleGroup, prefetchLocality);
      ahead.tiles.push_back(there);
    }
  return ahead;
}

/// Asks for the scales and offsets that come `scalePrefetchBytes` of weights
/// after those of \p group, once for each line: a second time for one that is
/// under way costs a sixth of the speed. So all groups but the first of a line
/// ask for their own, which is there.
void GroupLoop::askForScales(Value group) const {
  int64_t groups = shape().inner / shape().group, ofLine = groupsOfLine();
  int64_t groupBytes = shape().group * shape().bits * tileRows / 8;
  int64_t wanted = roundUp(ceilDiv(scalePrefetchBytes, groupBytes), ofLine);
  auto [at, step] = later(group, std::min(wanted, groups), groups, 1);
  if (ofLine > 1) {
    Value isFirst = b.less(b.rem(group, ofLine), b.index(1));
    at = b.select(isFirst, at, group);
    step = b.select(isFirst, step, b.index(0));
  }
  for (const IntegerWeight &weight : weights) {
    Value there =
        b.min(b.add(tiles.back(), step), b.sub(weight.tilesEnd, b.index(1)));
    for (Value numbers : {weight.scales, weight.offsets})
      if (numbers)
        ask(weight, numbers, there, placeOf(at, shape().group), /*locality=*/3);
  }
}

/// Asks for all scales and offsets of \p record, which lie before its codes, in
/// the order of memory: hardware follows lines that are asked for so.
void GroupLoop::askForRecord(Value record) const {
  for (const IntegerWeight &weight : weights)
    for (Value tile : tiles)
      for (Value numbers : {weight.scales, weight.offsets}) {
        if (!numbers)
          continue;
        auto type = cast<MemRefType>(numbers.getType());
        int64_t count = type.getDimSize(type.getRank() - 2);
        int64_t ofLine = std::max<int64_t>(
            vectorBytes * 8 / tileRows / type.getElementTypeBitWidth(), 1);
        for (int64_t i = 0; i < count; i += ofLine)
          memref::PrefetchOp::create(b, numbers,
                                     indices(weight, tile, record, b.index(i)),
                                     /*isWrite=*/false, /*locality=*/3,
                                     /*isDataCache=*/true);
      }
}

/// Adds the products of a unit of each tile, or of one \p part of it, and asks
/// for what is \p ahead: one line for each that is read, as many at once would
/// wait for each other. The unit is that of step \p unrolled from the one on
/// that is \p unit after the first of \p group, or from that if it is null. In
/// pairs, sums are those of `packPair`.
Values GroupLoop::step(Place group, Value unit, int64_t part,
                       ValueRange carried, int64_t unrolled,
                       const Ahead &ahead) const {
  KernelBuilder::Named named(b, "multiply_part");
  auto byteType = VectorType::get({vectorBytes}, b.getI8Type());
  Values next(carried);
  // Four columns are a lane of bytes, and so many are multiplied at once.
  int64_t size = inPairs() ? 2 : 1;
  int64_t lanes = stepUnits() * unitColumns() / groupsOfUnit() / 4;
  int64_t first = part * lanes;
  int64_t more = unrolled * stepUnits();
  auto from = [&](Value group) {
    Value begin = unitOf(part ? b.sub(group, b.index(part)) : group);
    return unit ? b.add(begin, unit) : begin;
  };
  auto vectorOf = [&](Place place, int64_t i) {
    return b.add(b.mul(from(place.inRecord), unitVectors()),
                 more * unitVectors() + i);
  };
  Value column =
      b.add(b.mul(b.add(from(group.group), more), unitColumns() / 4), first);
  size_t count = chains() * rows.size();
  SmallVector<Values> stored(chains(),
                             Values(size_t(stepUnits() * unitVectors())));
  auto loadInputs = [&](int64_t lane) {
    Values inputs;
    Value at = b.add(column, lane);
    for (size_t m = 0; m < rows.size(); m += size_t(size))
      if (inPairs())
        inputs.push_back(vector::ShuffleOp::create(
            b, b.loadVector(input.values, {rows[m], at}, 2),
            b.loadVector(input.values, {rows[m + 1], at}, 2),
            ArrayRef<int64_t>{0, 1, 2, 3}));
      else
        inputs.push_back(vector::BitCastOp::create(
            b, byteType,
            b.broadcast(b.load(input.values, {rows[m], at}), tileRows)));
    return inputs;
  };
  auto loadCodes = [&](const IntegerWeight &weight, Value tile, size_t chain,
                       int64_t i) {
    Value &known = stored[chain][size_t(i)];
    if (known)
      return known;
    known = b.loadVector(
        weight.memref, indices(weight, tile, group.record, vectorOf(group, i)),
        vectorBytes);
    if (!ahead.tiles.empty())
      memref::PrefetchOp::create(b, weight.memref,
                                 indices(weight, ahead.tiles[chain],
                                         ahead.group.record,
                                         vectorOf(ahead.group, i)),
                                 /*isWrite=*/false, prefetchLocality,
                                 /*isDataCache=*/true);
    return known;
  };
  for (int64_t i = 0; keepsOrder() && i < unitVectors(); ++i) {
    loadCodes(shape(), tiles.front(), /*chain=*/0, i);
    LLVM::FenceOp::create(b, LLVM::AtomicOrdering::acq_rel, "singlethread");
  }
  // Lanes of one vector after the other, so that few inputs, which are read
  // once for all tiles, and few codes are in registers.
  int64_t together =
      std::max(8 / deepseek::getBitPlanes(shape().bits).front(), size);
  for (int64_t begin = 0; begin < lanes; begin += together) {
    int64_t end = std::min(begin + together, lanes);
    SmallVector<Values> inputs;
    for (int64_t i = begin; i < end; i += size)
      inputs.push_back(loadInputs(i));
    size_t chain = 0;
    for (const IntegerWeight &weight : weights)
      for (Value tile : tiles) {
        auto load = [&](int64_t i) {
          return loadCodes(weight, tile, chain, i);
        };
        // Numbers of a table are what `addDotProducts` reads.
        bool isSigned = weight.codebook.empty()
                            ? weight.bits == 8
                            : weightOffset(options.dotProduct) == 0;
        auto codesOf = [&](int64_t lane) {
          Value codes = unpackLane(b, weight.bits, first + lane, load);
          return weight.codebook.empty()
                     ? codes
                     : lookUp(b, options.dotProduct, weight.codebook, codes);
        };
        for (int64_t i = begin; i < end; i += size) {
          Value codes = codesOf(i);
          Value more = inPairs() ? codesOf(i + 1) : Value();
          // Sums past the first `count` are further chains of the same.
          size_t sum = chain * rows.size() +
                       count * size_t(unrolled * lanes + i) / size_t(size);
          for (Value some : inputs[size_t((i - begin) / size)]) {
            MutableArrayRef<Value> at =
                MutableArrayRef(next).slice(sum % next.size(), size_t(size));
            if (inPairs())
              llvm::copy(addPairProducts(b, at, codes, more, some), at.begin());
            else
              at[0] = addDotProducts(b, options.dotProduct, isSigned, at[0],
                                     codes, some);
            sum += size_t(size);
          }
        }
        ++chain;
      }
  }
  return next;
}

/// Integer sums of one group of the inputs, as f32.
Values GroupLoop::sums(Place group, int64_t part) const {
  auto type = VectorType::get({tileRows}, b.getI32Type());
  Value zero = arith::ConstantOp::create(
      b, DenseElementsAttr::get(type, b.getI32IntegerAttr(0)));
  Values sums, starts;
  int64_t offset = integerOffset(shape().bits, shape().isUnsigned,
                                 !shape().codebook.empty(), options.dotProduct);
  for (Value row : rows) {
    if (shape().offsets && offset == 0) {
      starts.push_back(zero);
      continue;
    }
    Value start = b.load(input.sums, {row, group.group});
    if (shape().offsets)
      start = b.mul(start, b.i32(int32_t(offset)));
    starts.push_back(b.broadcast(start, tileRows));
  }
  // Vectors that as many rows as are multiplied at once have.
  auto convertPairs = [&](Values &vectors, auto convert) {
    for (size_t i = 0; inPairs() && i < vectors.size(); i += 2)
      llvm::copy(convert(vectors[i], vectors[i + 1]), vectors.begin() + i);
  };
  convertPairs(starts, [&](Value a, Value c) { return packPair(b, a, c); });
  for (size_t i = 0; i < chains(); ++i)
    sums.append(starts);
  // Sums of integers are exact in any order: a few of them have two chains
  // each, so that none waits for the one before.
  size_t count = sums.size();
  if (count <= (inPairs() ? 2 : 4))
    sums.append(count, zero);
  Ahead ahead;
  if (isAskedFor())
    ahead = prefetch(group);
  int64_t unroll = unrolledUnits();
  auto steps = [&](Value unit, ValueRange carried) {
    Values next(carried);
    for (int64_t i = 0; i < unroll; i += stepUnits())
      next = step(group, unit, part, next, i / stepUnits(), ahead);
    return next;
  };
  if (units() == unroll)
    sums = steps(Value(), sums);
  else
    sums = b.loop(b.index(0), b.index(units()), unroll, sums, steps);
  for (size_t i = count; i < sums.size(); ++i)
    sums[i - count] = b.add(sums[i - count], sums[i]);
  sums.truncate(count);
  convertPairs(sums, [&](Value a, Value c) { return unpackPair(b, {a, c}); });
  for (Value &sum : sums)
    sum = arith::SIToFPOp::create(b, b.vectorType(tileRows), sum);
  return joinDigits(b, sums, input.digits);
}

Values hadal::multiplyIntegerTiles(KernelBuilder &b,
                                   const KernelOptions &options,
                                   ArrayRef<IntegerWeight> weights,
                                   ValueList tiles, const IntegerRows &input,
                                   ValueList rows) {
  KernelBuilder::Named named(b, "multiply_tiles");
  Values digits;
  for (Value row : rows)
    for (int64_t i = 0; i < input.digits; ++i)
      digits.push_back(b.add(b.mul(row, input.digits), i));
  GroupLoop loop = {b, options, weights, tiles, input, rows, digits};
  const IntegerWeight &shape = weights.front();
  int64_t ratio = shape.group / shape.activationGroup;
  auto inputScales = [&](Value group) {
    Values scales;
    for (Value row : rows)
      scales.push_back(
          b.broadcast(b.load(input.scales, {row, group}), tileRows));
    return scales;
  };

  Values zeros(loop.chains() * rows.size(), b.f32(0, b.vectorType(tileRows)));
  auto addGroup = [&](GroupLoop::Place place, int64_t unitPart,
                      const GroupLoop::Blocks &blocks, ValueRange carried) {
    Value group = place.group;
    Values next, scales = loop.scales(place, blocks);
    // Subtracts the offsets times \p sums of the inputs of this group.
    auto subtract = [&](Values totals, ValueRange sums) {
      Values offsets = loop.offsets(place, blocks);
      for (auto [i, offset] : llvm::enumerate(offsets))
        for (auto [m, sum] : llvm::enumerate(sums)) {
          Value &total = totals[i * rows.size() + m];
          total = b.fma(offset, b.broadcast(sum, tileRows), total);
        }
      return totals;
    };
    if (ratio == 1) {
      Values sums = loop.sums(place, unitPart);
      for (auto [i, sum] : llvm::enumerate(sums)) {
        Value scale =
            loop.scale(scales[i / rows.size()], rows[i % rows.size()], group);
        next.push_back(b.fma(sum, scale, carried[i]));
      }
      return shape.offsets ? subtract(next, loop.inputSums(group)) : next;
    }
    Value first = b.mul(group, ratio);
    Values start = zeros;
    if (shape.offsets)
      start.append(rows.size(), b.f32(0));
    Values inner = b.loop(
        "part", first, b.add(first, ratio), 1, start,
        [&](Value part, ValueRange partial) {
          Values sums =
              loop.sums(loop.placeOf(part, shape.activationGroup), /*part=*/0);
          Values inputs = inputScales(part), result;
          for (auto [i, sum] : llvm::enumerate(sums))
            result.push_back(b.fma(sum, inputs[i % rows.size()], partial[i]));
          if (shape.offsets)
            for (auto [m, sum] : llvm::enumerate(loop.inputSums(part)))
              result.push_back(b.addf(partial[zeros.size() + m], sum));
          return result;
        });
    Values inputSums(ArrayRef(inner).drop_front(zeros.size()));
    inner.truncate(zeros.size());
    for (auto [i, sum] : llvm::enumerate(inner))
      next.push_back(b.fma(sum, scales[i / rows.size()], carried[i]));
    return subtract(next, inputSums);
  };
  // Groups of one unit come one after the other: \p count of them from \p first
  // on, or from the first of the row.
  auto addGroups = [&](GroupLoop::Place first, int64_t count,
                       ValueRange carried, const GroupLoop::Blocks &blocks) {
    int64_t step = loop.groupsOfUnit();
    return b.loop("group", b.index(0), b.index(count), step, carried,
                  [&](Value group, ValueRange carried) {
                    using Place = GroupLoop::Place;
                    Place begin =
                        first.group
                            ? Place{b.add(first.group, group), first.record,
                                    b.add(first.inRecord, group)}
                            : loop.placeOf(group, shape.group);
                    Values next(carried);
                    if (loop.isFollowed() && !shape.record)
                      loop.askForScales(begin.group);
                    for (int64_t i = 0; i < step; ++i) {
                      Place place = {b.add(begin.group, i), begin.record,
                                     b.add(begin.inRecord, i)};
                      next = addGroup(place, i, blocks, next);
                    }
                    return next;
                  });
  };
  int64_t groups = shape.inner / shape.group;
  if (!loop.hasLevels())
    return addGroups({}, groups, zeros, {});
  int64_t perBlock = loop.blockGroups();
  auto addBlocks = [&](Value record, int64_t count, ValueRange carried) {
    return b.loop("block", b.index(0), b.index(count), 1, carried,
                  [&](Value block, ValueRange carried) {
                    Value inRecord = b.mul(block, perBlock), first = inRecord;
                    if (record)
                      first = b.add(b.mul(record, shape.record / shape.group),
                                    inRecord);
                    return addGroups({first, record, inRecord}, perBlock,
                                     carried, loop.blocks(record, block));
                  });
  };
  if (!shape.record)
    return addBlocks(Value(), groups / perBlock, zeros);
  return b.loop("record", b.index(0), b.index(shape.inner / shape.record), 1,
                zeros, [&](Value record, ValueRange carried) {
                  if (loop.isFollowed())
                    loop.askForRecord(record);
                  return addBlocks(record, shape.record / deepseek::scaleBlock,
                                   carried);
                });
}

TileRange hadal::tilesFrom(KernelBuilder &b, Value group, int64_t perGroup,
                           int64_t count, Value end) {
  Value begin = b.mul(group, perGroup);
  return {begin, b.min(b.add(begin, count), end)};
}

/// The power of two at or below \p x, which is positive, in f32, and no
/// subnormal: x without its mantissa.
static Value powerBelow(KernelBuilder &b, Value x) {
  Value bits = arith::BitcastOp::create(b, b.getI32Type(), x);
  Value power = arith::AndIOp::create(b, bits, b.i32(0x7f800000));
  return arith::BitcastOp::create(b, b.getF32Type(), power);
}

/// The logarithm to base two of \p power, a power of two, zero or infinite.
static Value exponentOf(KernelBuilder &b, Value power) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  Value bits = arith::BitcastOp::create(b, b.getI32Type(), power);
  Value biased = arith::ShRUIOp::create(b, bits, b.i32(23));
  Value exponent =
      arith::SIToFPOp::create(b, b.getF32Type(), b.sub(biased, b.i32(127)));
  Value isFinite = b.lessf(power, b.f32(infinity));
  Value isZero = b.lessf(power, b.f32(0x1p-126));
  return b.select(isZero, b.f32(-infinity),
                  b.select(isFinite, exponent, b.f32(infinity)));
}

std::string hadal::nameOfSums(std::optional<int64_t> factor) {
  return factor ? std::to_string(-*factor) : "sums";
}

Value hadal::scaledSum(KernelBuilder &b, ValueRange digits, Value scale) {
  Values numbers;
  for (Value digit : digits)
    numbers.push_back(arith::SIToFPOp::create(b, b.getF32Type(), digit));
  Value sum = joinDigits(b, numbers, int64_t(numbers.size())).front();
  return b.mulf(arith::NegFOp::create(b, sum), scale);
}

KernelOp KernelSet::quantizeRows(TypeRange types, const IntegerShape &shape,
                                 std::optional<float> epsilon) {
  int64_t columns = shape.inner, group = shape.activationGroup;
  InputScale scaleKind = inputScale(shape);
  std::optional<int64_t> factor = sumFactor(shape, options.dotProduct);
  std::string name = llvm::formatv("quantize_rows_{0}_{1}_{2}", columns, group,
                                   nameOfSums(factor));
  if (scaleKind == InputScale::Power)
    name += "_power";
  if (scaleKind == InputScale::Exponent)
    name += "_exponent";
  if (epsilon)
    name = llvm::formatv("rms_norm_{0:e8}_", *epsilon).str() + name;
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    size_t next = 0;
    Value in = arguments[next++];
    Value weight = epsilon ? arguments[next++] : Value();
    Value values = arguments[next++], scales = arguments[next++],
          sums = arguments[next];
    constexpr int64_t lanes = KernelBuilder::maxLanes;
    auto integers = VectorType::get({lanes}, b.getI32Type());
    auto bytes = VectorType::get({lanes}, b.getI8Type());
    auto fours = VectorType::get({lanes / 4}, b.getI32Type());
    Value noSum = arith::ConstantOp::create(
        b, DenseElementsAttr::get(integers, b.getI32IntegerAttr(0)));
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value norms;
      if (epsilon)
        norms = b.broadcast(rmsScale(b, in, row, columns, *epsilon), lanes);
      // Few operations: what is rounded is computed again, not stored.
      auto at = [&](Value k) {
        Value x = b.loadVector(in, {row, k}, lanes);
        return epsilon
                   ? b.mulf(b.mulf(x, norms), b.loadVector(weight, k, lanes))
                   : x;
      };
      b.loop("group", b.index(0), b.index(columns / group), 1, [&](Value g) {
        Value begin = b.mul(g, group);
        Value end = b.add(begin, group);
        Value largest = b.maxLane(b.loop(
            "k", begin, end, lanes, b.f32(0, b.vectorType(lanes)),
            [&](Value k, ValueRange carried) {
              Value x = at(k);
              return Values{b.maxf(carried[0], math::AbsFOp::create(b, x))};
            })[0]);
        // A subnormal scale has no finite inverse; its group counts as zeros.
        Value quotient = b.divf(largest, b.f32(127));
        Value isZero = b.lessf(quotient, b.f32(0x1p-126));
        if (scaleKind != InputScale::Number) {
          Value power = powerBelow(b, quotient);
          quotient = b.select(b.lessf(power, quotient), b.mulf(power, b.f32(2)),
                              power);
        }
        Value scale = b.select(isZero, b.f32(0), quotient);
        Value inverse = b.select(isZero, b.f32(0), b.divf(b.f32(1), scale));
        Value inverses = b.broadcast(inverse, lanes);
        Value sum = b.loop(
            "k", begin, end, lanes, noSum, [&](Value k, ValueRange carried) {
              Value x = at(k);
              Value rounded = math::RoundEvenOp::create(b, b.mulf(x, inverses));
              Value q = arith::FPToSIOp::create(b, integers, rounded);
              Value packed = vector::BitCastOp::create(
                  b, fours, arith::TruncIOp::create(b, bytes, q));
              b.storeVector(packed, values, {row, b.div(k, 4)});
              return Values{b.add(carried[0], q)};
            })[0];
        Value total = b.sumLanes(sum);
        b.store(scaleKind == InputScale::Exponent ? exponentOf(b, scale)
                                                  : scale,
                scales, {row, g});
        b.store(factor ? b.mul(total, b.i32(int32_t(*factor)))
                       : scaledSum(b, total, scale),
                sums, {row, g});
      });
    });
  });
}
