// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Each op of the forward step on numbers that can be followed by hand.

#include "test/dialects/DeepSeek/Reference/InterpreterTest.h"

#include <cmath>

using namespace mlir;
using namespace hadal::deepseek;

namespace {

using ReferenceOpsTest = InterpreterTest;

double silu(double x) { return x / (1 + std::exp(-x)); }

TEST_F(ReferenceOpsTest, Embed) {
  load(
      R"(func.func @f(%t: tensor<?xi32>, %w: tensor<3x2xf32>) -> tensor<?x2xf32> {
    %0 = deepseek.embed %t, %w : tensor<?xi32>, tensor<3x2xf32> -> tensor<?x2xf32>
    return %0 : tensor<?x2xf32>
  })");
  Tensor table({3, 2}, {1, 2, 3, 4, 5, 6});
  expectValues(call({Tensor({2}, {2, 0}), table})[0], {5, 6, 1, 2});
  expectError({Tensor({1}, {3}), table}, "expects tokens in [0, 3), but got 3");
  expectError({Tensor({1}, {-1}), table}, "but got -1");
}

TEST_F(ReferenceOpsTest, RMSNorm) {
  load(
      R"(func.func @f(%x: tensor<?x2xf32>, %w: tensor<2xf32>) -> tensor<?x2xf32> {
    %0 = deepseek.rms_norm %x, %w epsilon 5.0e-1 : tensor<?x2xf32>, tensor<2xf32>
    return %0 : tensor<?x2xf32>
  })");
  // mean(1, 49) is 25: the root is of 25.5.
  expectValues(call({Tensor({1, 2}, {1, 7}), Tensor({2}, {2, 3})})[0],
               {2 / std::sqrt(25.5), 21 / std::sqrt(25.5)});
}

TEST_F(ReferenceOpsTest, LayerNorm) {
  load(
      R"(func.func @f(%x: tensor<?x2xf32>, %w: tensor<2xf32>, %b: tensor<2xf32>) -> tensor<?x2xf32> {
    %0 = deepseek.layer_norm %x, %w, %b epsilon 1.0 : tensor<?x2xf32>, tensor<2xf32>, tensor<2xf32>
    return %0 : tensor<?x2xf32>
  })");
  // Mean 3, variance 4.
  double factor = 1 / std::sqrt(5.0);
  expectValues(call({Tensor({1, 2}, {1, 5}), Tensor({2}, {3, 2}),
                     Tensor({2}, {0.5, 0})})[0],
               {-2 * 3 * factor + 0.5, 2 * 2 * factor});
}

TEST_F(ReferenceOpsTest, SelectKeys) {
  load(R"(
    !cache = !deepseek.kv_cache<kind = latent, layers = 1, heads = 1, key_dim = 3, value_dim = 2, element = f32, index_dim = 1>
    func.func @f(%q: tensor<?x2xf32>, %k: tensor<?x1xf32>, %w: tensor<?x2xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache) -> tensor<?x2xi32> {
      %layer = arith.constant 0 : index
      %0 = deepseek.select_keys %q, %k, %w at %p of %s in %cache[%layer] heads 2 top_k 2 scale 2.0 : tensor<?x2xf32>, tensor<?x1xf32>, tensor<?x2xf32>, tensor<?xi32>, !cache -> tensor<?x2xi32>
      return %0 : tensor<?x2xi32>
    })");
  // Heads that a key turns against say nothing; the second head counts against
  // a token. Of the last token: 1 * 3, 1 * 1, 1 * 3 and -1 * 2; of equal ones,
  // the first two. Another sequence is not seen.
  Tensor query({5, 2}, {1, -1, 1, -1, 1, -1, 1, -1, 1, -1});
  Tensor key({5, 1}, {3, 1, 9, 3, -2}),
      weights({5, 2}, {1, -1, 1, -1, 1, -1, 1, -1, 1, -1});
  Tensor positions({5}, {0, 1, 0, 2, 3}), sequences({5}, {0, 0, 1, 0, 0});
  expectValues(call({query, key, weights, positions, sequences, Tensor()})[0],
               {0, -1, 0, 1, 0, -1, 0, 2, 0, 2});
}

TEST_F(ReferenceOpsTest, LinearWithBias) {
  load(
      R"(func.func @f(%x: tensor<?x2xf32>, %w: tensor<3x2xf32>, %b: tensor<3xf32>) -> tensor<?x3xf32> {
    %0 = deepseek.linear %x, %w bias %b : tensor<3xf32> : tensor<?x2xf32>, tensor<3x2xf32> -> tensor<?x3xf32>
    return %0 : tensor<?x3xf32>
  })");
  expectValues(
      call({Tensor({2, 2}, {1, 2, -1, 0}), Tensor({3, 2}, {1, 2, 3, 4, 5, 6}),
            Tensor({3}, {10, 20, 30})})[0],
      {15, 31, 47, 9, 17, 25});
}

// Rows 128 and 129, and column 128, are in the second block.
TEST_F(ReferenceOpsTest, LinearWithScales) {
  load(
      R"(func.func @f(%x: tensor<?x129xf32>, %w: tensor<130x129xf8E4M3FN>, %s: tensor<2x2xf32>) -> tensor<?x130xf32> {
    %0 = deepseek.linear %x, %w scales %s : tensor<2x2xf32> : tensor<?x129xf32>, tensor<130x129xf8E4M3FN> -> tensor<?x130xf32>
    return %0 : tensor<?x130xf32>
  })");
  Tensor x({1, 129}), w({130, 129}), scales({2, 2}, {1, 2, 3, 4});
  x.values.assign(129, 1);
  w.values.assign(size_t(130 * 129), 1);
  Tensor result = call({x, w, scales})[0];
  EXPECT_EQ(result.values[0], 128 + 2);
  EXPECT_EQ(result.values[127], 128 + 2);
  EXPECT_EQ(result.values[128], 3 * 128 + 4);
}

// Ties go to even, and zero is a number of the grid.
TEST_F(ReferenceOpsTest, RoundToGrid) {
  load(
      R"(func.func @f(%x: tensor<?x4xf32>, %g: tensor<2xf32>) -> tensor<?x4xf32> {
    %0 = deepseek.round_to_grid %x, %g : tensor<?x4xf32>, tensor<2xf32>
    return %0 : tensor<?x4xf32>
  })");
  Tensor x({2, 4}, {0.25, 0.75, -0.7, 0, 100, -100, 49, -78});
  expectValues(call({x, Tensor({2}, {0.5, 28})})[0],
               {0, 1, -0.5, 0, 49.5, -78, 49, -78});
}

// One scale of a weight for two groups of the input.
TEST_F(ReferenceOpsTest, LinearWithIntegers) {
  load(
      R"(func.func @f(%x: tensor<?x64xf32>, %w: tensor<2x64xi8>, %s: tensor<2x1xf16>, %b: tensor<2xf32>) -> tensor<?x2xf32> {
    %0 = deepseek.linear %x, %w bias %b : tensor<2xf32> scales %s : tensor<2x1xf16> activation_group 32 : tensor<?x64xf32>, tensor<2x64xi8> -> tensor<?x2xf32>
    return %0 : tensor<?x2xf32>
  })");
  Tensor x({2, 64}), w({2, 64}), scales({2, 1}, {0.25, 2});
  // Rounded to halves: 0.75 and 1.25 are ties, which go to 1. The other groups
  // have a scale of 0.1f, or zeros.
  llvm::copy(ArrayRef<double>{-63.5, 0.74, 0.75, 1.25}, x.row(0));
  llvm::copy(ArrayRef<double>{12.7, 1.04, 0.04}, x.row(0) + 32);
  x.row(1)[63] = -127;
  for (int64_t j = 0; j < 64; ++j) {
    w.row(0)[j] = 1;
    w.row(1)[j] = double(j);
  }
  double tenth = double(0.1f);
  expectValues(call({x, w, scales, Tensor({2}, {1, 0})})[0],
               {1 + 0.25 * (-63.5 + 0.5 + 1 + 1 + 137 * tenth),
                2 * (0.5 + 2 + 3 + (127 * 32 + 10 * 33) * tenth),
                1 - 0.25 * 127, -2.0 * 63 * 127},
               1e-9);
}

TEST_F(ReferenceOpsTest, LMHeadWithIntegers) {
  load(
      R"(func.func @f(%x: tensor<?x64xf32>, %w: tensor<1x64xi4>, %s: tensor<1x2xf16>) -> tensor<?x1xf32> {
    %0 = deepseek.lm_head %x, %w scales %s : tensor<1x2xf16> activation_group 32 : tensor<?x64xf32>, tensor<1x64xi4> -> tensor<?x1xf32>
    return %0 : tensor<?x1xf32>
  })");
  Tensor x({2, 64}), w({1, 64}), scales({1, 2}, {0.25, 3});
  x.values[0] = 127;
  x.values[1] = 0.4;
  x.values[32] = 254;
  x.values[33] = -3;
  // Steps of 4, the power of two above 300 / 127.
  x.row(1)[0] = 300;
  x.row(1)[1] = 9;
  w.values.assign(64, -8);
  expectValues(call({x, w, scales})[0],
               {-8 * 0.25 * 127 - 8 * 3.0 * (254 - 4), -8 * 0.25 * (300 + 8)});
}

TEST_F(ReferenceOpsTest, HeadLinearSkipsTheEndOfAHead) {
  load(
      R"(func.func @f(%x: tensor<?x6xf32>, %w: tensor<2x1x2xf32>) -> tensor<?x2xf32> {
    %0 = deepseek.head_linear %x, %w : tensor<?x6xf32>, tensor<2x1x2xf32> -> tensor<?x2xf32>
    return %0 : tensor<?x2xf32>
  })");
  expectValues(call({Tensor({1, 6}, {1, 2, 100, 3, 4, 100}),
                     Tensor({2, 1, 2}, {5, 6, 7, 8})})[0],
               {17, 53});
}

TEST_F(ReferenceOpsTest, Split) {
  load(
      R"(func.func @f(%x: tensor<?x3xf32>) -> (tensor<?x1xf32>, tensor<?x2xf32>) {
    %0:2 = deepseek.split %x : tensor<?x3xf32> -> tensor<?x1xf32>, tensor<?x2xf32>
    return %0#0, %0#1 : tensor<?x1xf32>, tensor<?x2xf32>
  })");
  auto results = call({Tensor({2, 3}, {1, 2, 3, 4, 5, 6})});
  expectValues(results[0], {1, 4});
  expectValues(results[1], {2, 3, 5, 6});
}

TEST_F(ReferenceOpsTest, RotaryHalfSplit) {
  load(
      R"(func.func @f(%x: tensor<?x4xf32>, %p: tensor<?xi32>) -> tensor<?x4xf32> {
    %0 = deepseek.rotary %x, %p heads 1 by <dim = 4, theta = 1.0e4 : f64, layout = half_split> : tensor<?x4xf32>, tensor<?xi32>
    return %0 : tensor<?x4xf32>
  })");
  // Frequencies are 1 and 0.01: pair (1, 3) turns by 3, pair (2, 4) by 0.03.
  expectValues(
      call({Tensor({1, 4}, {1, 2, 3, 4}), Tensor({1}, {3})})[0],
      {std::cos(3) - 3 * std::sin(3), 2 * std::cos(0.03) - 4 * std::sin(0.03),
       3 * std::cos(3) + std::sin(3), 4 * std::cos(0.03) + 2 * std::sin(0.03)});
}

TEST_F(ReferenceOpsTest, RotaryInterleavedRotatesTheEndOfEachHead) {
  load(
      R"(func.func @f(%x: tensor<?x6xf32>, %p: tensor<?xi32>) -> tensor<?x6xf32> {
    %0 = deepseek.rotary %x, %p heads 2 by <dim = 2, theta = 1.0e4 : f64, layout = interleaved> : tensor<?x6xf32>, tensor<?xi32>
    return %0 : tensor<?x6xf32>
  })");
  double c = std::cos(2), s = std::sin(2);
  expectValues(call({Tensor({1, 6}, {9, 1, 2, 8, 3, 4}), Tensor({1}, {2})})[0],
               {9, c - 2 * s, 2 * c + s, 8, 3 * c - 4 * s, 4 * c + 3 * s});
}

// Two query heads read one key head. The first token sees itself alone; the
// second sees both, each as much where the scores are equal.
TEST_F(ReferenceOpsTest, Attention) {
  load(R"(
  !cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 1, key_dim = 1, value_dim = 2, element = f32>
  func.func @f(%q: tensor<?x2xf32>, %k: tensor<?x1xf32>, %v: tensor<?x2xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x4xf32> {
    %0 = deepseek.attention %q, %k, %v at %p of %s in %cache[%layer] heads 2 scale 0.5 : tensor<?x2xf32>, tensor<?x1xf32>, tensor<?x2xf32>, tensor<?xi32>, !cache -> tensor<?x4xf32>
    return %0 : tensor<?x4xf32>
  })");
  Tensor none, layer({}, {1});
  double e = std::exp(1);
  expectValues(
      call({Tensor({2, 2}, {7, 8, 0, 1}), Tensor({2, 1}, {1, 3}),
            Tensor({2, 2}, {1, 2, 3, 4}), Tensor({2}, {0, 1}),
            Tensor({2}, {0, 0}), none, layer})[0],
      {1, 2, 1, 2, 2, 3, (1 + 3 * e) / (1 + e), (2 + 4 * e) / (1 + e)});
  // Another sequence, and another layer, see nothing of it.
  Tensor q({1, 2}, {5, 5}), k({1, 1}, {5}), v({1, 2}, {50, 60});
  expectValues(
      call({q, k, v, Tensor({1}, {2}), Tensor({1}, {1}), none, layer})[0],
      {50, 60, 50, 60});
  expectValues(call({q, k, v, Tensor({1}, {2}), Tensor({1}, {0}), none,
                     Tensor({}, {0})})[0],
               {50, 60, 50, 60});
  // A token at a position of the past replaces it, and does not see the rest.
  expectValues(
      call({q, k, v, Tensor({1}, {0}), Tensor({1}, {0}), none, layer})[0],
      {50, 60, 50, 60});
  expectError(
      {q, k, v, Tensor({1}, {3}), Tensor({1}, {0}), none, Tensor({}, {2})},
      "expects a layer in [0, 2), but got 2");
  expectError({q, k, v, Tensor({1}, {3}), Tensor({2}, {0, 0}), none, layer},
              "expects operands of as many rows, but got 1 and 2");
}

TEST_F(ReferenceOpsTest, AttentionWithAWindowAndASink) {
  load(R"(
    !cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 1, key_dim = 1, value_dim = 1, element = f32>
    func.func @f(%q: tensor<?x1xf32>, %k: tensor<?x1xf32>, %v: tensor<?x1xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache) -> tensor<?x1xf32> {
      %layer = arith.constant 0 : index
      %0 = deepseek.attention %q, %k, %v at %p of %s in %cache[%layer] heads 1 scale 1.0 window <tokens = 2, sink = 1> : tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?xi32>, !cache -> tensor<?x1xf32>
      return %0 : tensor<?x1xf32>
    })");
  // Queries of zero weigh all alike: the last two, and the first.
  expectValues(
      call({Tensor({4, 1}), Tensor({4, 1}), Tensor({4, 1}, {3, 6, 12, 30}),
            Tensor({4}, {0, 1, 2, 3}), Tensor({4}), Tensor()})[0],
      {3, 4.5, 7, 15});
}

TEST_F(ReferenceOpsTest, LatentAttentionIsAbsorbedAttention) {
  load(R"(
  !cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 3, value_dim = 2, element = f32>
  func.func @f(%q: tensor<?x4xf32>, %c: tensor<?x2xf32>, %r: tensor<?x1xf32>, %kv_b: tensor<4x2xf32>, %uk: tensor<2x2x1xf32>, %uv: tensor<2x1x2xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache) -> (tensor<?x2xf32>, tensor<?x2xf32>) {
    %l0 = arith.constant 0 : index
    %0 = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%l0] heads 2 scale 0.5 : tensor<?x4xf32>, tensor<?x2xf32>, tensor<?x1xf32>, tensor<4x2xf32>, tensor<?xi32>, !cache -> tensor<?x2xf32>
    %l1 = arith.constant 1 : index
    %ql = deepseek.head_linear %q, %uk : tensor<?x4xf32>, tensor<2x2x1xf32> -> tensor<?x4xf32>
    %u = deepseek.absorbed_attention %ql, %q, %c, %r at %p of %s in %cache[%l1] heads 2 scale 0.5 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x2xf32>, tensor<?x1xf32>, tensor<?xi32>, !cache -> tensor<?x4xf32>
    %1 = deepseek.head_linear %u, %uv : tensor<?x4xf32>, tensor<2x1x2xf32> -> tensor<?x2xf32>
    return %0, %1 : tensor<?x2xf32>, tensor<?x2xf32>
  })");
  // Head 0 has key row (1, 2) and value row (3, 4), head 1 (5, 6) and (7, 8).
  auto results = call(
      {Tensor({2, 4}, {1, 0, 1, 0, 1, 2, 1, 2}), Tensor({2, 2}, {1, 0, 0, 1}),
       Tensor({2, 1}, {3, 1}), Tensor({4, 2}, {1, 2, 3, 4, 5, 6, 7, 8}),
       Tensor({2, 2, 1}, {1, 2, 5, 6}), Tensor({2, 1, 2}, {3, 4, 7, 8}),
       Tensor({2}, {0, 1}), Tensor({2}, {0, 0}), Tensor()});
  // Scores of token 1: head 0 (1 + 6) / 2 and (2 + 2) / 2; head 1 (5 + 6) / 2
  // and (6 + 2) / 2.
  double a = std::exp(-1.5);
  SmallVector<double> expected = {3, 7, (3 + 4 * a) / (1 + a),
                                  (7 + 8 * a) / (1 + a)};
  expectValues(results[0], expected);
  expectValues(results[1], expected);
}

TEST_F(ReferenceOpsTest, SwiGLU) {
  load(
      R"(func.func @f(%x: tensor<?x2xf32>, %y: tensor<?x2xf32>) -> tensor<?x2xf32> {
    %0 = deepseek.swiglu %x, %y : tensor<?x2xf32>
    return %0 : tensor<?x2xf32>
  })");
  expectValues(call({Tensor({1, 2}, {2, -1000}), Tensor({1, 2}, {3, 1})})[0],
               {3 * silu(2), 0});
}

TEST_F(ReferenceOpsTest, Experts) {
  load(
      R"(func.func @f(%x: tensor<?x1xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<3x1x1xf32>, %u: tensor<3x1x1xf32>, %d: tensor<3x1x1xf32>) -> tensor<?x1xf32> {
    %0 = deepseek.experts %x, %e, %w gate %g up %u down %d : tensor<?x1xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<3x1x1xf32>, tensor<3x1x1xf32>, tensor<3x1x1xf32> -> tensor<?x1xf32>
    return %0 : tensor<?x1xf32>
  })");
  Tensor x({1, 1}, {2}), weights({1, 2}, {0.5, 0.25});
  Tensor gate({3, 1, 1}, {1, 2, 3}), up({3, 1, 1}, {4, 5, 6});
  Tensor down({3, 1, 1}, {7, 8, 9});
  expectValues(call({x, Tensor({1, 2}, {2, 0}), weights, gate, up, down})[0],
               {0.5 * 9 * silu(6) * 12 + 0.25 * 7 * silu(2) * 8}, 1e-12);
  expectError({x, Tensor({1, 2}, {2, 3}), weights, gate, up, down},
              "expects experts in [0, 3), but got 3");
}

// What `down` reads is rounded, too.
TEST_F(ReferenceOpsTest, ExpertsWithIntegers) {
  load(
      R"(func.func @f(%x: tensor<?x32xf32>, %e: tensor<?x1xi32>, %w: tensor<?x1xf32>, %g: tensor<2x32x32xi8>, %u: tensor<2x32x32xi8>, %d: tensor<2x32x32xi8>, %gs: tensor<2x32x1xf16>, %us: tensor<2x32x1xf16>, %ds: tensor<2x32x1xf16>) -> tensor<?x32xf32> {
    %0 = deepseek.experts %x, %e, %w gate %g up %u down %d scales %gs, %us, %ds : tensor<2x32x1xf16>, tensor<2x32x1xf16>, tensor<2x32x1xf16> activation_group 32 : tensor<?x32xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<2x32x32xi8>, tensor<2x32x32xi8>, tensor<2x32x32xi8> -> tensor<?x32xf32>
    return %0 : tensor<?x32xf32>
  })");
  Tensor x({1, 32}), gate({2, 32, 32}), up({2, 32, 32}), down({2, 32, 32});
  Tensor ones({2, 32, 1}), twos({2, 32, 1}), halves({2, 32, 1});
  ones.values.assign(64, 1);
  twos.values.assign(64, 2);
  halves.values.assign(64, 0.5);
  x.values[0] = 63.5;
  x.values[1] = 0.74; // Rounds to 0.5.
  gate.row(32)[1] = 1;
  gate.row(33)[1] = 3;
  up.row(32)[0] = 1;
  up.row(33)[1] = 1;
  down.row(32)[0] = 2;
  down.row(33)[1] = 2;
  // silu(1) * 63.5 is 127 steps; silu(3) * 0.5 is 3.9 of them.
  double step = double(float(silu(1) * 63.5) / 127);
  std::vector<double> expected(32);
  expected[0] = 0.25 * 127 * step;
  expected[1] = 0.25 * 4 * step;
  expectValues(call({x, Tensor({1, 1}, {1}), Tensor({1, 1}, {0.25}), gate, up,
                     down, twos, ones, halves})[0],
               expected);
}

TEST_F(ReferenceOpsTest, GatherRowsAndLMHead) {
  load(
      R"(func.func @f(%x: tensor<?x2xf32>, %r: tensor<?xi32>, %w: tensor<3x2xf32>) -> tensor<?x3xf32> {
    %0 = deepseek.gather_rows %x, %r : tensor<?x2xf32>, tensor<?xi32> -> tensor<?x2xf32>
    %1 = deepseek.lm_head %0, %w : tensor<?x2xf32>, tensor<3x2xf32> -> tensor<?x3xf32>
    return %1 : tensor<?x3xf32>
  })");
  Tensor x({3, 2}, {1, 2, 3, 4, 5, 6}), w({3, 2}, {1, 0, 0, 1, 1, 1});
  expectValues(call({x, Tensor({2}, {2, 0}), w})[0], {5, 6, 11, 1, 2, 3});
  expectError({x, Tensor({1}, {3}), w}, "expects rows in [0, 3), but got 3");
}

TEST_F(ReferenceOpsTest, RecursionIsAnError) {
  load(R"(func.func @f() {
    call @f() : () -> ()
    return
  })");
  expectError({}, "calls inside each other");
}

TEST_F(ReferenceOpsTest, UnknownColumnsAreAnError) {
  load(R"(func.func @f(%x: tensor<?x?xf32>) -> tensor<?x?xf32> {
    return %x : tensor<?x?xf32>
  })");
  expectError({Tensor({1, 1})},
              "expects no dynamic size but the number of rows in the "
              "reference, but got 'tensor<?x?xf32>'");
}

TEST_F(ReferenceOpsTest, UnknownElementsAreAnError) {
  load(R"(func.func @f(%x: tensor<2xi16>) -> tensor<2xi16> {
    return %x : tensor<2xi16>
  })");
  expectError({Tensor({2})}, "expects floating point, i32 or at most 8 bits in "
                             "the reference, but got 'tensor<2xi16>'");
}

TEST_F(ReferenceOpsTest, ArgumentsMustFitTheirTypes) {
  load(R"(func.func @f(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
    return %x : tensor<?x2xf32>
  })");
  expectError({Tensor({1, 3})}, "expects a value of type 'tensor<?x2xf32>' in "
                                "the reference, but got shape [1, 3]");
  expectError({}, "expects 1 arguments for 'f', but got 0");
}

TEST_F(ReferenceOpsTest, UnknownOpIsAnError) {
  load(R"(func.func @f(%x: index) -> index {
    %0 = arith.addi %x, %x : index
    return %0 : index
  })");
  expectError({Tensor({}, {1})},
              "'arith.addi' op is not an op that the reference knows");
}

//===----------------------------------------------------------------------===//
// Routers
//===----------------------------------------------------------------------===//

class ReferenceRouterTest : public InterpreterTest {
protected:
  /// Routes one token to three of eight experts by `#deepseek.routing`, whose
  /// other parameters are \p parameters.
  SmallVector<Tensor> route(const std::string &parameters,
                            std::vector<double> logits,
                            std::vector<double> bias = {}) {
    std::string signature = "%z: tensor<?x8xf32>", operand;
    SmallVector<Tensor> arguments = {Tensor({1, 8}, std::move(logits))};
    if (!bias.empty()) {
      signature += ", %b: tensor<8xf32>";
      operand = " bias %b : tensor<8xf32>";
      arguments.push_back(Tensor({8}, std::move(bias)));
    }
    load("func.func @f(" + signature +
         ") -> (tensor<?x3xi32>, tensor<?x3xf32>) {\n"
         "%e, %w = deepseek.router %z" +
         operand + " by <experts = 8, top_k = 3, " + parameters +
         "> : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>\n"
         "return %e, %w : tensor<?x3xi32>, tensor<?x3xf32>\n}");
    return call(arguments);
  }

  const std::vector<double> logits = {1.2, -.4, .3, 2, -1, .8, .1, 1.5};
  const std::vector<double> bias = {0, .6, 0, -.5, .9, 0, .3, -.2};
};

// Sums of the two best of each group of two: 1.77, 0.96, 1.86 and 1.44.
TEST_F(ReferenceRouterTest, NoAuxTC) {
  auto results = route("scoring = sigmoid, method = noaux_tc, groups = 4, "
                       "top_groups = 2, normalize = true, scale = 2.5 : f64",
                       logits, bias);
  expectValues(results[0], {4, 1, 0});
  expectValues(results[1], {.467309, .697314, 1.335377}, 5e-7);
}

TEST_F(ReferenceRouterTest, GroupLimitedGreedy) {
  auto results =
      route("scoring = softmax, method = group_limited_greedy, groups = 4, "
            "top_groups = 2, normalize = false, scale = 16.0 : f64",
            logits);
  expectValues(results[0], {3, 7, 2});
  expectValues(results[1], {5.654088, 3.429378, 1.032909}, 5e-7);
}

TEST_F(ReferenceRouterTest, Greedy) {
  auto results = route("scoring = softmax, method = greedy, groups = 1, "
                       "top_groups = 1, normalize = true, scale = 1.0 : f64",
                       logits);
  expectValues(results[0], {3, 7, 0});
  double sum = .353380 + .214336 + .158784;
  expectValues(results[1], {.353380 / sum, .214336 / sum, .158784 / sum}, 2e-6);
}

TEST_F(ReferenceRouterTest, EqualScoresGoToTheLowerIndex) {
  auto results = route("scoring = softmax, method = greedy, groups = 1, "
                       "top_groups = 1, normalize = false, scale = 1.0 : f64",
                       {0, 1, 0, 1, 0, 0, 1, 1});
  expectValues(results[0], {1, 3, 6});
}

TEST_F(ReferenceRouterTest, EqualGroupsGoToTheLowerIndex) {
  auto results =
      route("scoring = softmax, method = group_limited_greedy, groups = 4, "
            "top_groups = 2, normalize = false, scale = 1.0 : f64",
            {0, 1, 0, 1, 0, 1, 0, 1});
  expectValues(results[0], {1, 3, 0});
}

} // namespace
