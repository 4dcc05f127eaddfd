// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels that go row by row: embed, rms_norm, rotary, swiglu, add,
// gather_rows, and rounding to bf16.

#include "codegen/Conversion/DeepSeekToRT/IntegerProduct.h"
#include "codegen/Conversion/DeepSeekToRT/Kernels.h"
#include "codegen/Conversion/DeepSeekToRT/PairProduct.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;
using deepseek::RotaryAttr;

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
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value id = b.toIndex(b.load(ids, row));
      b.loop("column", b.index(0), b.index(hidden), lanes, [&](Value column) {
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

KernelOp KernelSet::roundRows(TypeRange types, int64_t columns) {
  auto name = llvm::formatv("round_rows_{0}", columns).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value in = arguments[0], out = arguments[1];
    PairProduct pairs(b, options.bf16Pairs);
    int64_t width = KernelBuilder::lanesFor(columns / 2);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      b.loop("pair", b.index(0), b.index(columns / 2), width, [&](Value pair) {
        Value column = b.mul(pair, 2);
        Value low = b.loadVector(in, {row, column}, width);
        Value high = b.loadVector(in, {row, b.add(column, width)}, width);
        b.storeVector(pairs.packNeighbors(low, high), out, {row, pair});
      });
    });
  });
}

/// Number \p code, an i32, of the 16 of 8 bits in \p table.
static Value lookUp(KernelBuilder &b, ArrayRef<int64_t> table, Value code) {
  auto wordOf = [&](size_t i) {
    uint32_t word = 0;
    for (size_t j = 0; j < 4; ++j)
      word |= uint32_t(uint8_t(table[4 * i + j])) << 8 * j;
    return b.i32(int32_t(word));
  };
  Value word =
      b.select(b.less(code, b.i32(8)),
               b.select(b.less(code, b.i32(4)), wordOf(0), wordOf(1)),
               b.select(b.less(code, b.i32(12)), wordOf(2), wordOf(3)));
  // To the highest byte and, with its sign, down to the lowest.
  Value in = arith::AndIOp::create(b, code, b.i32(3));
  Value shift = arith::ShLIOp::create(b, b.sub(b.i32(3), in), b.i32(3));
  return arith::ShRSIOp::create(b, arith::ShLIOp::create(b, word, shift),
                                b.i32(24));
}

KernelOp KernelSet::integerEmbed(TypeRange types, const IntegerShape &shape) {
  std::string name = "embed_" + shape.getName(shape.getDims());
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value ids = arguments[0], out = arguments.back();
    Value table = arguments[1], scales = arguments[2];
    Value offsets = shape.hasOffsets ? arguments[3] : Value();
    int64_t unit = deepseek::getTileColumns(shape.bits);
    int64_t words = unit * shape.bits / 32, span = std::min(shape.group, unit);
    Type i32 = b.getI32Type();
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value id = b.toIndex(b.load(ids, row));
      Value tile = b.div(id, tileRows), inTile = b.rem(id, tileRows);
      // Number \p group of scales or offsets of the row.
      auto numberOf = [&](Value memref, Value group) -> Value {
        Type element = cast<MemRefType>(memref.getType()).getElementType();
        int64_t count = shape.inner / shape.group;
        if (element.isInteger())
          count +=
              shape.inner / deepseek::scaleBlock * deepseek::scaleBlockBytes;
        auto at = [&](Value column) {
          Values place = {tile};
          place.append(placeInTile(b, column, shape.ofRecord(count)));
          place.push_back(inTile);
          return b.load(memref, place);
        };
        if (element.isF32())
          return at(group);
        if (!element.isInteger())
          return arith::ExtFOp::create(b, b.getF32Type(), at(group));
        int64_t groups = deepseek::scaleBlock / shape.group;
        Value block = b.div(group, groups);
        Value begin = b.mul(block, groups + deepseek::scaleBlockBytes);
        auto byte = [&](int64_t i) -> Value {
          return arith::ExtUIOp::create(b, i32, at(b.add(begin, groups + i)));
        };
        Value low = byte(0);
        Value bits = arith::OrIOp::create(
            b, low, arith::ShLIOp::create(b, byte(1), b.i32(8)));
        Value half = arith::BitcastOp::create(
            b, b.getF16Type(),
            arith::TruncIOp::create(b, b.getI16Type(), bits));
        Value unit = arith::ExtFOp::create(b, b.getF32Type(), half);
        Value factor = arith::ExtSIOp::create(
            b, i32, at(b.add(begin, b.rem(group, groups))));
        return b.mulf(arith::SIToFPOp::create(b, b.getF32Type(), factor), unit);
      };
      b.loop(
          "index", b.index(0), b.index(shape.inner / unit), 1,
          [&](Value index) {
            Value first = b.mul(index, unit);
            Value scale, offset;
            for (int64_t j = 0; j < unit; ++j) {
              Value column = b.add(first, j);
              if (j % span == 0) {
                Value group = b.div(column, shape.group);
                scale = numberOf(scales, group);
                if (offsets)
                  offset = numberOf(offsets, group);
              }
              // Column j is byte j % 4 of a lane of four.
              int64_t lane = j / 4, word = 0, to = 0;
              Value code;
              for (int64_t plane : deepseek::getBitPlanes(shape.bits)) {
                int64_t perWord = 8 / plane, from = lane % perWord * plane;
                Values place = {tile};
                place.append(
                    placeInTile(b, b.mul(index, words),
                                shape.ofRecord(shape.inner * shape.bits / 32)));
                place.back() = b.add(place.back(), word + lane / perWord);
                place.push_back(b.add(b.mul(inTile, 4), j % 4));
                Value byte = b.load(table, place);
                Value part;
                if (plane == 8) {
                  part = arith::ExtSIOp::create(b, i32, byte);
                } else {
                  part = arith::ExtUIOp::create(b, i32, byte);
                  if (from != 0)
                    part =
                        arith::ShRUIOp::create(b, part, b.i32(int32_t(from)));
                  part = arith::AndIOp::create(
                      b, part, b.i32(int32_t((1 << plane) - 1)));
                  if (to != 0)
                    part = arith::ShLIOp::create(b, part, b.i32(int32_t(to)));
                }
                code = code ? arith::OrIOp::create(b, code, part) : part;
                word += unit / 4 / perWord;
                to += plane;
              }
              if (!shape.codebook.empty())
                code = ::lookUp(b, shape.codebook, code);
              if (shape.bits < 8 && !shape.isUnsigned)
                code = b.sub(code, b.i32(1 << (shape.bits - 1)));
              // With the roundings of `deepseek.dequantize_gguf`.
              Value number = b.mulf(
                  arith::SIToFPOp::create(b, b.getF32Type(), code), scale);
              if (offset)
                number = b.subf(number, offset);
              b.store(number, out, {row, column});
            }
          });
    });
  });
}

Value hadal::rmsScale(KernelBuilder &b, Value in, Value row, int64_t columns,
                      float epsilon) {
  int64_t lanes = KernelBuilder::lanesFor(columns);
  Values sums = b.loop("column", b.index(0), b.index(columns), lanes,
                       b.f32(0, b.vectorType(lanes)),
                       [&](Value column, ValueRange carried) {
                         Value x = b.loadVector(in, {row, column}, lanes);
                         return Values{b.fma(x, x, carried[0])};
                       });
  Value mean = b.divf(b.sumLanes(sums[0]), b.f32(double(columns)));
  return b.divf(b.f32(1), b.sqrt(b.addf(mean, b.f32(double(epsilon)))));
}

KernelOp KernelSet::rmsNorm(TypeRange types, int64_t columns, float epsilon) {
  auto name = llvm::formatv("rms_norm_{0}_{1:e8}", columns, epsilon).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value in = arguments[0], weight = arguments[1], out = arguments[2];
    int64_t lanes = KernelBuilder::lanesFor(columns);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value scales = b.broadcast(rmsScale(b, in, row, columns, epsilon), lanes);
      b.loop("column", b.index(0), b.index(columns), lanes, [&](Value column) {
        Value x = b.loadVector(in, {row, column}, lanes);
        Value w = b.loadVector(weight, column, lanes);
        b.storeVector(b.mulf(b.mulf(x, scales), w), out, {row, column});
      });
    });
  });
}

KernelOp KernelSet::layerNorm(TypeRange types, int64_t columns, float epsilon) {
  auto name = llvm::formatv("layer_norm_{0}_{1:e8}", columns, epsilon).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value in = arguments[0], weight = arguments[1], bias = arguments[2],
          out = arguments[3];
    int64_t lanes = KernelBuilder::lanesFor(columns);
    Value zero = b.f32(0, b.vectorType(lanes));
    Value all = b.f32(double(columns));
    auto sumOf = [&](function_ref<Value(Value, Value)> add) {
      return b.sumLanes(b.loop("column", b.index(0), b.index(columns), lanes,
                               zero, [&](Value column, ValueRange carried) {
                                 return Values{add(column, carried[0])};
                               })[0]);
    };
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      auto at = [&](Value column) {
        return b.loadVector(in, {row, column}, lanes);
      };
      Value sum = sumOf([&](Value c, Value sum) { return b.addf(at(c), sum); });
      Value mean = b.broadcast(b.divf(sum, all), lanes);
      Value squares = sumOf([&](Value c, Value sum) {
        Value x = b.subf(at(c), mean);
        return b.fma(x, x, sum);
      });
      Value variance = b.divf(squares, all);
      Value scale = b.broadcast(
          b.divf(b.f32(1), b.sqrt(b.addf(variance, b.f32(double(epsilon))))),
          lanes);
      b.loop("column", b.index(0), b.index(columns), lanes, [&](Value column) {
        Value x = b.mulf(b.subf(at(column), mean), scale);
        Value w = b.loadVector(weight, column, lanes);
        b.storeVector(b.fma(x, w, b.loadVector(bias, column, lanes)), out,
                      {row, column});
      });
    });
  });
}

KernelOp KernelSet::rotary(TypeRange types, int64_t heads, int64_t headDim,
                           RotaryAttr rotary, bool inverse, bool isLeading) {
  int64_t dim = rotary.getDim(), half = dim / 2, kept = headDim - dim;
  bool isInterleaved =
      rotary.getLayout() == deepseek::RotaryLayout::Interleaved;
  auto name =
      llvm::formatv("rotary_{0}{1}{2}_{3}x{4}_{5}", inverse ? "back_" : "",
                    isInterleaved ? "interleaved" : "half_split",
                    isLeading ? "_leading" : "", heads, headDim, dim)
          .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value in = arguments[0], positions = arguments[1], table = arguments[2],
          out = arguments[3];
    int64_t lanes = KernelBuilder::lanesFor(half);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value position = b.toIndex(b.load(positions, row));
      b.loop("head", b.index(0), b.index(heads), 1, [&](Value head) {
        Value base = b.called("head_column", b.mul(head, headDim));
        if (kept) {
          int64_t width = KernelBuilder::lanesFor(kept);
          b.loop(b.index(0), b.index(kept), width, [&](Value i) {
            Value at =
                b.called("column", b.add(b.add(base, isLeading ? dim : 0), i));
            b.storeVector(b.loadVector(in, {row, at}, width), out, {row, at});
          });
        }
        Value rotated = b.add(base, isLeading ? 0 : kept);
        b.loop(b.index(0), b.index(half), lanes, [&](Value i) {
          Value cosine =
              b.called("cosine", b.loadVector(table, {position, i}, lanes));
          Value sine = b.called(
              "sine", b.loadVector(table, {position, b.add(i, half)}, lanes));
          if (inverse)
            sine = b.subf(b.f32(0, sine.getType()), sine);
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

std::string hadal::limitName(std::optional<double> limit) {
  return limit ? llvm::formatv("_limit_{0:e8}", *limit).str() : "";
}

KernelOp KernelSet::swiglu(TypeRange types, int64_t columns,
                           std::optional<double> limit) {
  return get(
      "swiglu_" + Twine(columns) + limitName(limit), types,
      [&](KernelBuilder &b, KernelOp kernel) {
        auto arguments = kernel.getKernelArguments();
        int64_t lanes = KernelBuilder::lanesFor(columns);
        b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
          b.loop("column", b.index(0), b.index(columns), lanes, [&](Value c) {
            Value gate = b.loadVector(arguments[0], {row, c}, lanes);
            Value up = b.loadVector(arguments[1], {row, c}, lanes);
            b.storeVector(b.gated(gate, up, limit), arguments[2], {row, c});
          });
        });
      });
}

KernelOp KernelSet::add(TypeRange types, int64_t columns) {
  return get(
      "add_" + Twine(columns), types, [&](KernelBuilder &b, KernelOp kernel) {
        auto arguments = kernel.getKernelArguments();
        int64_t lanes = KernelBuilder::lanesFor(columns);
        b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
          b.loop("column", b.index(0), b.index(columns), lanes, [&](Value c) {
            Value lhs = b.loadVector(arguments[0], {row, c}, lanes);
            Value rhs = b.loadVector(arguments[1], {row, c}, lanes);
            b.storeVector(b.addf(lhs, rhs), arguments[2], {row, c});
          });
        });
      });
}

KernelOp KernelSet::gatherRows(TypeRange types, int64_t columns) {
  std::string name =
      columns ? "gather_rows_" + std::to_string(columns) : "gather_each";
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value in = arguments[0], rows = arguments[1], out = arguments[2];
    int64_t lanes = columns ? KernelBuilder::lanesFor(columns) : 0;
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value from = b.toIndex(b.load(rows, row));
      if (!columns)
        return b.store(b.load(in, from), out, row);
      b.loop("column", b.index(0), b.index(columns), lanes, [&](Value c) {
        b.storeVector(b.loadVector(in, {from, c}, lanes), out, {row, c});
      });
    });
  });
}

KernelOp KernelSet::copyRows(TypeRange types, int64_t columns) {
  return get(
      "copy_rows_" + Twine(columns), types,
      [&](KernelBuilder &b, KernelOp kernel) {
        auto arguments = kernel.getKernelArguments();
        int64_t lanes = KernelBuilder::lanesFor(columns);
        b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
          b.loop("column", b.index(0), b.index(columns), lanes, [&](Value c) {
            b.storeVector(b.loadVector(arguments[0], {row, c}, lanes),
                          arguments[1], {row, c});
          });
        });
      });
}

KernelOp KernelSet::scatterRows(TypeRange types, int64_t columns) {
  return get(
      "scatter_rows_" + Twine(columns), types,
      [&](KernelBuilder &b, KernelOp kernel) {
        auto arguments = kernel.getKernelArguments();
        int64_t lanes = KernelBuilder::lanesFor(columns);
        b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
          Value to = b.toIndex(b.load(arguments[1], row));
          b.loop("column", b.index(0), b.index(columns), lanes, [&](Value c) {
            b.storeVector(b.loadVector(arguments[0], {row, c}, lanes),
                          arguments[2], {to, c});
          });
        });
      });
}

KernelOp KernelSet::selectRows(TypeRange types, bool hasThreshold,
                               bool hasAmong) {
  std::string name = hasThreshold ? "select_rows_above" : "select_rows";
  if (hasAmong)
    name += "_among";
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    Value scores = arguments[0];
    Value threshold =
        hasThreshold ? b.load(arguments[1], b.index(0)) : b.f32(0);
    auto rest = arguments.drop_front(hasThreshold ? 2 : 1);
    Value among = hasAmong ? Value(rest.front()) : Value();
    rest = rest.drop_front(hasAmong ? 1 : 0);
    Value rows = rest[0], count = rest[1], all = rest[2];
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value) {
      Value kept = b.loop(
          b.index(0), all, 1, b.index(0), [&](Value i, ValueRange carried) {
            Value row = among ? b.toIndex(b.load(among, i)) : i;
            // Written in any case; the next one that is kept replaces it.
            b.store(b.toI32(row), rows, carried[0]);
            Value score = b.load(scores, {row, b.index(0)});
            // A NaN is kept.
            Value isLow = arith::CmpFOp::create(b, arith::CmpFPredicate::OLE,
                                                score, threshold);
            return Values{
                b.select(isLow, carried[0], b.add(carried[0], b.index(1)))};
          })[0];
      b.store(b.toI32(kept), count, b.index(0));
    });
  });
}

KernelOp KernelSet::influence(TypeRange types, int64_t columns) {
  return get(
      "influence_" + Twine(columns), types,
      [&](KernelBuilder &b, KernelOp kernel) {
        auto arguments = kernel.getKernelArguments();
        Value before = arguments[0], after = arguments[1], out = arguments[2];
        int64_t lanes = KernelBuilder::lanesFor(columns);
        b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
          Value zero = b.f32(0, b.vectorType(lanes));
          Values sums = b.loop(
              "column", b.index(0), b.index(columns), lanes, {zero, zero, zero},
              [&](Value column, ValueRange carried) {
                Value x = b.loadVector(before, {row, column}, lanes);
                Value y = b.loadVector(after, {row, column}, lanes);
                return Values{b.fma(x, y, carried[0]), b.fma(x, x, carried[1]),
                              b.fma(y, y, carried[2])};
              });
          // Roots first: squares of squares may be out of range.
          Value norms =
              b.mulf(b.sqrt(b.sumLanes(sums[1])), b.sqrt(b.sumLanes(sums[2])));
          Value cosine = b.divf(b.sumLanes(sums[0]), norms);
          Value one = b.f32(1);
          b.store(b.select(b.lessf(b.f32(0), norms), b.subf(one, cosine), one),
                  out, {row, b.index(0)});
        });
      });
}
