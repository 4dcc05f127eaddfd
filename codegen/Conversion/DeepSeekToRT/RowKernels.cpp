// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels that go row by row: embed, rms_norm, rotary, swiglu, add,
// gather_rows.

#include "codegen/Conversion/DeepSeekToRT/Kernels.h"

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

Value hadal::rmsScale(KernelBuilder &b, Value in, Value row, int64_t columns,
                      float epsilon) {
  int64_t lanes = KernelBuilder::lanesFor(columns);
  Values sums =
      b.loop(b.index(0), b.index(columns), lanes, b.f32(0, b.vectorType(lanes)),
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
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value scales = b.broadcast(rmsScale(b, in, row, columns, epsilon), lanes);
      b.loop(b.index(0), b.index(columns), lanes, [&](Value column) {
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
      return b.sumLanes(b.loop(b.index(0), b.index(columns), lanes, zero,
                               [&](Value column, ValueRange carried) {
                                 return Values{add(column, carried[0])};
                               })[0]);
    };
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
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
      b.loop(b.index(0), b.index(columns), lanes, [&](Value column) {
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
    b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value position = b.toIndex(b.load(positions, row));
      b.loop(b.index(0), b.index(heads), 1, [&](Value head) {
        Value base = b.mul(head, headDim);
        if (kept) {
          int64_t width = KernelBuilder::lanesFor(kept);
          b.loop(b.index(0), b.index(kept), width, [&](Value i) {
            Value at = b.add(b.add(base, isLeading ? dim : 0), i);
            b.storeVector(b.loadVector(in, {row, at}, width), out, {row, at});
          });
        }
        Value rotated = b.add(base, isLeading ? 0 : kept);
        b.loop(b.index(0), b.index(half), lanes, [&](Value i) {
          Value cosine = b.loadVector(table, {position, i}, lanes);
          Value sine = b.loadVector(table, {position, b.add(i, half)}, lanes);
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
  return get("swiglu_" + Twine(columns) + limitName(limit), types,
             [&](KernelBuilder &b, KernelOp kernel) {
               auto arguments = kernel.getKernelArguments();
               int64_t lanes = KernelBuilder::lanesFor(columns);
               b.loop(kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
                 b.loop(b.index(0), b.index(columns), lanes, [&](Value c) {
                   Value gate = b.loadVector(arguments[0], {row, c}, lanes);
                   Value up = b.loadVector(arguments[1], {row, c}, lanes);
                   b.storeVector(b.gated(gate, up, limit), arguments[2],
                                 {row, c});
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
