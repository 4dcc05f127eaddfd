// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention and rotary embedding, where a graph is not raised. Definitions are
// those of https://onnx.ai/onnx/operators, versions 23 to 25, and of
// com.microsoft.RotaryEmbedding.

#include "lib/Import/ONNX/GraphLowering.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

/// [batch, tokens, heads * dim] as [batch, heads, tokens, dim].
static FailureOr<Lowered> splitHeads(GraphLowering &g, Lowered x,
                                     int64_t heads) {
  if (x.getRank() == 4)
    return x;
  if (x.getRank() != 3 || heads < 1 || x.dim(2) % heads)
    return g.fail("expects [batch, tokens, heads * dim], and the number of "
                  "heads");
  x = g.reshape(x, {x.dim(0), x.dim(1), heads, x.dim(2) / heads});
  return g.transpose(x, {0, 2, 1, 3});
}

static Lowered joinHeads(GraphLowering &g, Lowered x) {
  x = g.transpose(x, {0, 2, 1, 3});
  return g.reshape(x, {x.dim(0), x.dim(1), x.dim(2) * x.dim(3)});
}

static LogicalResult lowerRotary(GraphLowering &g) {
  bool isMicrosoft = g.node.getOpType().starts_with("com.microsoft.");
  Lowered x = g.input(0), cosines = g.input(isMicrosoft ? 2 : 1);
  Lowered sines = g.input(isMicrosoft ? 3 : 2);
  Lowered positions = g.input(isMicrosoft ? 1 : 3);
  if (!x || !cosines || !sines || !x.isFloat() ||
      cosines.element != x.element || sines.element != x.element ||
      cosines.getShape() != sines.getShape())
    return g.fail("expects a tensor and tables of cosines and sines");
  if (g.getInt("is_packed_batching", 0) || g.getFloat("scale", 1) != 1)
    return g.fail("is packed or scaled, which is not supported");
  bool isFlat = x.getRank() == 3;
  int64_t heads = g.getInt("num_heads", 0);
  if (isFlat && !heads && isMicrosoft && cosines.getRank() == 2 &&
      cosines.dim(1))
    heads = x.dim(2) / (2 * cosines.dim(1));
  FailureOr<Lowered> split = splitHeads(g, x, heads);
  if (failed(split))
    return failure();
  x = *split;
  int64_t batch = x.dim(0), tokens = x.dim(2), dim = x.dim(3);
  int64_t turned = g.getInt("rotary_embedding_dim", 0);
  turned = turned ? turned : dim;
  int64_t half = turned / 2;
  if (turned % 2 || turned < 2 || turned > dim)
    return g.fail("rotates " + Twine(turned) + " of " + Twine(dim) +
                  " elements");
  if (positions) {
    if (positions.isFloat() || positions.getRank() != 2 ||
        cosines.getRank() != 2 || positions.dim(0) != batch ||
        positions.dim(1) != tokens)
      return g.fail("expects positions of [batch, tokens]");
    positions = g.checkedIndices(positions, cosines.dim(0));
    cosines = g.gather(cosines, positions, 0);
    sines = g.gather(sines, positions, 0);
  }
  if (cosines.getShape() != ArrayRef<int64_t>({batch, tokens, half}))
    return g.fail("has tables that do not fit " + Twine(half) + " angles of " +
                  Twine(tokens) + " tokens");
  cosines = g.reshape(cosines, {batch, 1, tokens, half});
  sines = g.reshape(sines, {batch, 1, tokens, half});
  bool isInterleaved = g.getInt("interleaved", 0);
  SmallVector<int64_t> shape = {batch, x.dim(1), tokens, half};
  auto part = [&](bool isSecond) {
    SmallVector<AffineExpr> access;
    for (unsigned i = 0; i < 4; ++i)
      access.push_back(g.builder.getAffineDimExpr(i));
    access[3] = isInterleaved ? access[3] * 2 + int64_t(isSecond)
                              : access[3] + (isSecond ? half : 0);
    return g.view(x, shape,
                  AffineMap::get(4, 0, access, g.builder.getContext()));
  };
  SmallVector<Lowered> operands = {part(false), part(true), cosines, sines};
  Lowered real =
      g.map(operands, shape, x.element, [](Scalars &s, ValueRange v) {
        return s.sub(s.mul(v[2], v[0]), s.mul(v[3], v[1]));
      });
  Lowered imaginary =
      g.map(operands, shape, x.element, [](Scalars &s, ValueRange v) {
        return s.add(s.mul(v[3], v[0]), s.mul(v[2], v[1]));
      });
  Lowered both;
  if (isInterleaved) {
    SmallVector<int64_t> apart(shape), together(shape);
    apart.push_back(1);
    together.back() = turned;
    both = g.join({g.reshape(real, apart), g.reshape(imaginary, apart)}, 4);
    both = g.reshape(both, together);
  } else {
    both = g.join({real, imaginary}, 3);
  }
  Lowered result = turned == dim ? both : g.insert(both, x, {0, 0, 0, 0});
  return g.set(isFlat ? joinHeads(g, result) : result);
}

/// What is added to the scores: 0 where a token is seen, minus infinity where
/// it is not, or what the mask says; [batch or 1, heads or 1, tokens, total].
static FailureOr<Lowered> makeBias(GraphLowering &g, ArrayRef<int64_t> scores,
                                   Lowered mask, Lowered lengths,
                                   int64_t past) {
  int64_t tokens = scores[2], total = scores[3];
  SmallVector<int64_t> shape = {1, 1, tokens, total};
  SmallVector<int64_t> maskShape;
  if (mask) {
    if (mask.getRank() < 1 || mask.getRank() > 4 ||
        (!mask.isFloat() && !mask.element.isInteger(1)))
      return g.fail("expects a mask of truths or numbers");
    maskShape.assign(size_t(4 - mask.getRank()), 1);
    llvm::append_range(maskShape, mask.getShape());
    for (size_t i = 0; i < 3; ++i) {
      if (maskShape[i] != 1 && maskShape[i] != scores[i])
        return g.fail("has a mask that does not fit its scores");
      if (i < 2)
        shape[i] = maskShape[i];
    }
    if (maskShape[3] > total || !mask.getType().getNumElements())
      return g.fail("has a mask of " + Twine(maskShape[3]) + " of " +
                    Twine(total) + " tokens");
    mask = g.reshape(mask, maskShape);
  }
  if (lengths) {
    if (lengths.isFloat() || lengths.getRank() != 1 ||
        lengths.dim(0) != scores[0])
      return g.fail("expects a length of each sequence");
    shape[0] = scores[0];
    lengths = g.convert(lengths, g.builder.getI64Type());
  }
  bool isCausal = g.getInt("is_causal", 0);
  int64_t left = g.getInt("left_window_size", -1);
  int64_t right = g.getInt("right_window_size", -1);
  Type real = g.builder.getF32Type(), index = g.builder.getI64Type();
  return g.generate(shape, real, [&](Scalars &s, ValueRange at) -> Value {
    Value zero = s.real(0, real);
    Value never = s.real(-std::numeric_limits<double>::infinity(), real);
    Value bias = zero;
    Value column = s.make<arith::IndexCastOp>(index, at[3]);
    if (mask) {
      SmallVector<Value> from;
      for (auto [i, size] : llvm::enumerate(maskShape))
        from.push_back(i < 3 && size == 1 ? s.index(0) : at[i]);
      Value last = s.index(maskShape[3] - 1);
      Value isInside = s.compare("le", at[3], last, /*isUnsigned=*/true);
      from[3] = s.select(isInside, at[3], last);
      Value value = s.make<tensor::ExtractOp>(mask.value, ValueRange(from));
      value = mask.isFloat() ? s.cast(value, value.getType(), real)
                             : s.select(value, zero, never);
      bias = s.select(isInside, value, never);
    }
    Value isSeen = s.integer(1, s.builder.getI1Type());
    // The position of the row's token.
    Value row = s.make<arith::IndexCastOp>(index, at[2]);
    Value length;
    if (lengths) {
      length = s.make<tensor::ExtractOp>(lengths.value, ValueRange(at[0]));
      isSeen = s.both(isSeen, s.compare("lt", column, length));
      row = s.add(row, s.sub(length, s.integer(tokens, index)));
    } else {
      row = s.add(row, s.integer(past, index));
    }
    Value distance = s.sub(row, column);
    if (isCausal)
      isSeen = s.both(isSeen, s.compare("ge", distance, s.zero(index)));
    if (left >= 0)
      isSeen =
          s.both(isSeen, s.compare("le", distance, s.integer(left, index)));
    if (right >= 0)
      isSeen =
          s.both(isSeen, s.compare("ge", distance, s.integer(-right, index)));
    return s.select(isSeen, bias, never);
  });
}

static LogicalResult lowerAttention(GraphLowering &g) {
  Lowered q = g.input(0), k = g.input(1), v = g.input(2), mask = g.input(3);
  Lowered pastKey = g.input(4), pastValue = g.input(5), lengths = g.input(6);
  if (!q || !k || !v || !q.isFloat() || k.element != q.element ||
      v.element != q.element || bool(pastKey) != bool(pastValue) ||
      (pastKey && lengths))
    return g.fail("expects queries, keys and values of one type, and keys and "
                  "values of the past, or lengths, or none");
  bool isFlat = q.getRank() == 3;
  FailureOr<Lowered> queries = splitHeads(g, q, g.getInt("q_num_heads", 0));
  int64_t kvHeads = g.getInt("kv_num_heads", 0);
  FailureOr<Lowered> keys =
      failed(queries) ? queries : splitHeads(g, k, kvHeads);
  FailureOr<Lowered> values = failed(keys) ? keys : splitHeads(g, v, kvHeads);
  if (failed(values))
    return failure();
  q = *queries;
  k = *keys;
  v = *values;
  int64_t past = 0;
  if (pastKey) {
    if (pastKey.getRank() != 4 || pastValue.getRank() != 4 ||
        pastKey.element != k.element || pastValue.element != v.element)
      return g.fail("has keys or values of the past of another type");
    for (int64_t i : {0, 1, 3})
      if (pastKey.dim(i) != k.dim(i) || pastValue.dim(i) != v.dim(i))
        return g.fail("has keys or values of the past that do not fit");
    past = pastKey.dim(2);
    k = g.join({pastKey, k}, 2);
    v = g.join({pastValue, v}, 2);
  }
  (void)g.set(1, k);
  (void)g.set(2, v);
  int64_t heads = q.dim(1), groups = k.dim(1), dim = q.dim(3);
  if (groups < 1 || heads % groups || v.dim(1) != groups ||
      k.dim(0) != q.dim(0) || v.dim(0) != q.dim(0) || k.dim(3) != dim ||
      v.dim(2) != k.dim(2))
    return g.fail("has queries, keys and values that do not fit");
  auto repeat = [&](Lowered x) {
    if (groups == heads)
      return x;
    SmallVector<AffineExpr> access;
    for (unsigned i = 0; i < 4; ++i)
      access.push_back(g.builder.getAffineDimExpr(i));
    access[1] = access[1].floorDiv(uint64_t(heads / groups));
    return g.view(x, {x.dim(0), heads, x.dim(2), x.dim(3)},
                  AffineMap::get(4, 0, access, g.builder.getContext()));
  };
  // Half of the scale each: products of 16 bits stay small.
  double scale = std::sqrt(g.getFloat("scale", 1 / std::sqrt(double(dim))));
  auto scaled = [&](Lowered x) {
    Type wide = g.computeType(x.element);
    return g.map(x, x.getShape(), x.element, [&](Scalars &s, ValueRange y) {
      return s.mul(y[0], s.real(scale, wide));
    });
  };
  Type wide = g.computeType(q.element);
  FailureOr<Lowered> product =
      g.matmul(scaled(q), g.transpose(scaled(repeat(k)), {0, 1, 3, 2}), wide);
  if (failed(product))
    return failure();
  Lowered scores = g.convert(*product, q.element);
  SmallVector<int64_t> shape(scores.getShape());
  FailureOr<Lowered> bias = makeBias(g, shape, mask, lengths, past);
  if (failed(bias))
    return failure();
  int64_t mode = g.getInt("qk_matmul_output_mode", 0);
  if (mode == 0)
    (void)g.set(3, scores);
  double cap = g.getFloat("softcap", 0);
  if (cap > 0)
    scores =
        g.map(scores, shape, q.element, [&](Scalars &s, ValueRange y) -> Value {
          Value most = s.real(cap, wide);
          return s.mul(s.make<math::TanhOp>(s.div(y[0], most)), most);
        });
  if (mode == 1)
    (void)g.set(3, scores);
  scores =
      g.map({scores, *bias}, shape, q.element, [&](Scalars &s, ValueRange y) {
        return s.add(y[0], s.cast(y[1], y[1].getType(), wide));
      });
  if (mode == 2)
    (void)g.set(3, scores);
  double lowest = -std::numeric_limits<double>::infinity();
  Lowered seen = g.reduce(*bias, 3, lowest, [](Scalars &s, ValueRange y) {
    return s.max(y[0], y[1]);
  });
  // A token that sees none gets zeros.
  Lowered weights = g.map({g.softmax(scores, 3, /*isLog=*/false), seen}, shape,
                          q.element, [&](Scalars &s, ValueRange y) {
                            Value isNone = s.compare(
                                "eq", y[1], s.real(lowest, y[1].getType()));
                            return s.select(isNone, s.zero(wide), y[0]);
                          });
  if (mode == 3)
    (void)g.set(3, weights);
  FailureOr<Lowered> result = g.matmul(weights, repeat(v), wide);
  if (failed(result))
    return failure();
  Lowered rounded = g.convert(*result, q.element);
  return g.set(isFlat ? joinHeads(g, rounded) : rounded);
}

LowerRule onnx::findAttentionRule(StringRef type) {
  return llvm::StringSwitch<LowerRule>(type)
      .Case("Attention", lowerAttention)
      .Cases({"RotaryEmbedding", "com.microsoft.RotaryEmbedding"}, lowerRotary)
      .Default(nullptr);
}
