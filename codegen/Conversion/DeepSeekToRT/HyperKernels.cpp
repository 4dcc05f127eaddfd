// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels of hyper-connections, and of the norm without a weight.

#include "codegen/Conversion/DeepSeekToRT/Attention.h"
#include "codegen/Conversion/DeepSeekToRT/Kernels.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;
using Values = KernelBuilder::Values;

/// 1 / sqrt(mean of squares + epsilon) of \p columns elements from \p first on.
static Value inverseRoot(KernelBuilder &b, Value memref, Value row, Value first,
                         int64_t columns, double epsilon) {
  int64_t lanes = KernelBuilder::lanesFor(columns);
  Value sums = b.loop(
      "column", b.index(0), b.index(columns), lanes,
      b.f32(0, b.vectorType(lanes)), [&](Value column, ValueRange carried) {
        Value x = b.loadVector(memref, {row, b.add(first, column)}, lanes);
        return Values{b.fma(x, x, carried[0])};
      })[0];
  Value mean = b.divf(b.sumLanes(sums), b.f32(double(columns)));
  return b.divf(b.f32(1), b.sqrt(b.addf(mean, b.f32(epsilon))));
}

KernelOp KernelSet::unitNorm(TypeRange types, int64_t heads, int64_t dim,
                             float epsilon) {
  auto name = llvm::formatv("unit_norm_{0}x{1}_{2:e8}", heads, dim, epsilon);
  return get(name.str(), types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    int64_t lanes = KernelBuilder::lanesFor(dim);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      b.loop("head", b.index(0), b.index(heads), 1, [&](Value head) {
        Value first = b.mul(head, dim);
        Value scale = b.broadcast(
            inverseRoot(b, arguments[0], row, first, dim, double(epsilon)),
            lanes);
        b.loop(b.index(0), b.index(dim), lanes, [&](Value i) {
          Values at = {row, b.add(first, i)};
          b.storeVector(b.mulf(b.loadVector(arguments[0], at, lanes), scale),
                        arguments[1], at);
        });
      });
    });
  });
}

KernelOp KernelSet::hyperExpand(TypeRange types, int64_t streams,
                                int64_t hidden) {
  auto name = llvm::formatv("hyper_expand_{0}x{1}", streams, hidden).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    int64_t lanes = KernelBuilder::lanesFor(hidden);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      b.loop(b.index(0), b.index(hidden), lanes, [&](Value i) {
        Value x = b.loadVector(arguments[0], {row, i}, lanes);
        for (int64_t j = 0; j < streams; ++j)
          b.storeVector(x, arguments[1], {row, b.add(i, j * hidden)});
      });
    });
  });
}

KernelOp KernelSet::hyperProject(TypeRange types, int64_t rows,
                                 int64_t columns) {
  auto name = llvm::formatv("hyper_project_{0}x{1}", rows, columns).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    int64_t lanes = KernelBuilder::lanesFor(columns);
    int64_t chains = columns % (4 * lanes) == 0 ? 4 : 1;
    b.loop("item", kernel.getFirst(), kernel.getLast(), 1, [&](Value item) {
      Value row = b.div(item, rows), i = b.rem(item, rows);
      Values sums = b.loop(
          "column", b.index(0), b.index(columns), chains * lanes,
          Values(size_t(chains), b.f32(0, b.vectorType(lanes))),
          [&](Value column, ValueRange carried) {
            Values next;
            for (int64_t c = 0; c < chains; ++c) {
              Value at = b.add(column, c * lanes);
              next.push_back(b.fma(b.loadVector(arguments[1], {i, at}, lanes),
                                   b.loadVector(arguments[0], {row, at}, lanes),
                                   carried[c]));
            }
            return next;
          });
      Value sum = sums[0];
      for (int64_t c = 1; c < chains; ++c)
        sum = b.addf(sum, sums[c]);
      b.store(b.sumLanes(sum), arguments[2], {row, i});
    });
  });
}

namespace {

/// Residual streams of one row, and what is computed from them.
struct Streams {
  KernelBuilder &b;
  Value input, projected, base, scale;
  int64_t count, hidden;
  Value row, factor;

  /// u_i * scale[s] + base[i], of \p lanes of them from \p i on.
  Value mixed(int64_t i, int64_t s, int64_t lanes = 1) {
    auto load = [&](Value memref, ValueRange at) {
      return lanes == 1 ? b.load(memref, at) : b.loadVector(memref, at, lanes);
    };
    auto all = [&](Value x) { return lanes == 1 ? x : b.broadcast(x, lanes); };
    Value u = b.mulf(load(projected, {row, b.index(i)}), all(factor));
    return b.addf(b.mulf(u, all(b.load(scale, b.index(s)))),
                  load(base, b.index(i)));
  }
  /// Writes the sum of streams, each times its own weight, to \p out.
  void read(double epsilon, Value out) {
    int64_t lanes = KernelBuilder::lanesFor(hidden);
    Values weights;
    for (int64_t j = 0; j < count; ++j)
      weights.push_back(
          b.broadcast(b.addf(b.sigmoid(mixed(j, 0)), b.f32(epsilon)), lanes));
    b.loop(b.index(0), b.index(hidden), lanes, [&](Value i) {
      Value sum = b.f32(0, b.vectorType(lanes));
      for (int64_t j = 0; j < count; ++j)
        sum =
            b.fma(weights[j],
                  b.loadVector(input, {row, b.add(i, j * hidden)}, lanes), sum);
      b.storeVector(sum, out, {row, i});
    });
  }
};

} // namespace

namespace {

/// A square of numbers: a vector a row where their number is a power of two,
/// and numbers else. What is done with columns is done lane by lane, and with
/// rows to the transposed square, so that sums have the order of their terms.
struct Square {
  KernelBuilder &b;
  int64_t count;
  Values parts; ///< Of rows, one row after the other.

  /// Numbers that a part has.
  static int64_t lanesOf(int64_t count) {
    bool isVector =
        llvm::isPowerOf2_64(count) && count <= KernelBuilder::maxLanes;
    return isVector ? count : 1;
  }

  Square transposed() const {
    if (int64_t(parts.size()) == count)
      return {b, count, count == 1 ? parts : transpose(b, parts)};
    Values turned;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < count; ++j)
        turned.push_back(parts[size_t(j * count + i)]);
    return {b, count, turned};
  }

  /// Calls \p body for each column of parts.
  void forColumns(function_ref<void(MutableArrayRef<Value *>)> body) {
    int64_t width = int64_t(parts.size()) / count;
    for (int64_t j = 0; j < width; ++j) {
      SmallVector<Value *> column;
      for (int64_t i = 0; i < count; ++i)
        column.push_back(&parts[size_t(i * width + j)]);
      body(column);
    }
  }

  Value sum(ArrayRef<Value *> column) {
    Value sum = *column[0];
    for (Value *x : column.drop_front())
      sum = b.addf(sum, *x);
    return sum;
  }

  /// Divides columns by their sums + \p epsilon.
  Square normalized(double epsilon) {
    Square square = *this;
    square.forColumns([&](MutableArrayRef<Value *> column) {
      Value total = square.sum(column);
      total = b.addf(total, b.f32(epsilon, total.getType()));
      for (Value *x : column)
        *x = b.divf(*x, total);
    });
    return square;
  }

  /// The softmax of columns, + \p epsilon.
  Square softmax(double epsilon) {
    Square square = *this;
    square.forColumns([&](MutableArrayRef<Value *> column) {
      Value most = *column[0];
      for (Value *x : column.drop_front())
        most = b.maxf(most, *x);
      for (Value *x : column)
        *x = b.exp(b.subf(*x, most));
      Value total = square.sum(column);
      for (Value *x : column)
        *x = b.addf(b.divf(*x, total), b.f32(epsilon, total.getType()));
    });
    return square;
  }
};

} // namespace

KernelOp KernelSet::hyperMix(TypeRange types, int64_t streams, int64_t hidden,
                             int64_t iterations, float normEpsilon,
                             float epsilon) {
  auto name = llvm::formatv("hyper_mix_{0}x{1}_{2}_{3:e8}_{4:e8}", streams,
                            hidden, iterations, normEpsilon, epsilon)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    int64_t m = streams;
    double small = double(epsilon);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value factor = inverseRoot(b, arguments[0], row, b.index(0), m * hidden,
                                 double(normEpsilon));
      Streams s = {b, arguments[0], arguments[1], arguments[2], arguments[3],
                   m, hidden,       row,          factor};
      s.read(small, arguments[4]);
      for (int64_t j = 0; j < m; ++j)
        b.store(b.mulf(b.f32(2), b.sigmoid(s.mixed(m + j, 1))), arguments[5],
                {row, b.index(j)});
      KernelBuilder::Named named(b, "normalize_matrix");
      int64_t partLanes = Square::lanesOf(m);
      Square mixed = {b, m, {}};
      for (int64_t i = 0; i < m * m; i += partLanes)
        mixed.parts.push_back(s.mixed(2 * m + i, 2, partLanes));
      // The softmax of rows, then columns and rows in turns.
      Square matrix = mixed.transposed().softmax(small).transposed();
      Values parts = b.loop(
          b.index(1), b.index(iterations), 1, matrix.normalized(small).parts,
          [&](Value, ValueRange carried) {
            Square last = {b, m, Values(carried)};
            Square rows = last.transposed().normalized(small).transposed();
            return rows.normalized(small).parts;
          });
      for (auto [i, part] : llvm::enumerate(parts)) {
        Values at = {row, b.index(int64_t(i) * partLanes)};
        if (partLanes == 1)
          b.store(part, arguments[6], at);
        else
          b.storeVector(part, arguments[6], at);
      }
    });
  });
}

KernelOp KernelSet::hyperHead(TypeRange types, int64_t streams, int64_t hidden,
                              float normEpsilon, float epsilon) {
  auto name = llvm::formatv("hyper_head_{0}x{1}_{2:e8}_{3:e8}", streams, hidden,
                            normEpsilon, epsilon)
                  .str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      Value factor = inverseRoot(b, arguments[0], row, b.index(0),
                                 streams * hidden, double(normEpsilon));
      Streams s = {
          b,       arguments[0], arguments[1], arguments[2], arguments[3],
          streams, hidden,       row,          factor};
      s.read(double(epsilon), arguments[4]);
    });
  });
}

KernelOp KernelSet::hyperUpdate(TypeRange types, int64_t streams,
                                int64_t hidden) {
  auto name = llvm::formatv("hyper_update_{0}x{1}", streams, hidden).str();
  return get(name, types, [&](KernelBuilder &b, KernelOp kernel) {
    auto arguments = kernel.getKernelArguments();
    int64_t lanes = KernelBuilder::lanesFor(hidden);
    b.loop("row", kernel.getFirst(), kernel.getLast(), 1, [&](Value row) {
      auto weight = [&](Value memref, int64_t i) {
        return b.broadcast(b.load(memref, {row, b.index(i)}), lanes);
      };
      Values post, comb;
      for (int64_t i = 0; i < streams; ++i)
        post.push_back(weight(arguments[2], i));
      for (int64_t i = 0; i < streams * streams; ++i)
        comb.push_back(weight(arguments[3], i));
      b.loop(b.index(0), b.index(hidden), lanes, [&](Value i) {
        Value y = b.loadVector(arguments[1], {row, i}, lanes);
        Values x;
        for (int64_t j = 0; j < streams; ++j)
          x.push_back(
              b.loadVector(arguments[0], {row, b.add(i, j * hidden)}, lanes));
        for (int64_t k = 0; k < streams; ++k) {
          Value sum = b.mulf(post[k], y);
          for (int64_t j = 0; j < streams; ++j)
            sum = b.fma(comb[j * streams + k], x[j], sum);
          b.storeVector(sum, arguments[4], {row, b.add(i, k * hidden)});
        }
      });
    });
  });
}
