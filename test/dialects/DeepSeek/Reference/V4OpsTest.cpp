// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The ops that DeepSeek-V4 adds, on numbers that can be followed by hand, or
// that were worked out in float64 from its formulas.

#include "test/dialects/DeepSeek/Reference/InterpreterTest.h"

#include <cmath>

using namespace mlir;
using namespace hadal::deepseek;

namespace {

using ReferenceV4OpsTest = InterpreterTest;

// The products of the streams are 0, so that the base alone decides.
TEST_F(ReferenceV4OpsTest, HyperConnection) {
  load(
      R"(func.func @f(%x: tensor<?x4xf32>, %fn: tensor<24x4xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>) -> (tensor<?x1xf32>, tensor<?x4xf32>, tensor<?x16xf32>) {
    %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 4 iterations 20 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x4xf32>, tensor<24x4xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x1xf32>, tensor<?x4xf32>, tensor<?x16xf32>
    return %u, %post, %comb : tensor<?x1xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  })");
  Tensor base({24}, {0,   0,  0,  0, 0,  std::log(3), 0,  0, 1, 0,   0, .5,
                     -.5, .2, .9, 0, .3, .3,          -1, 2, 0, 1.5, 0, -.7});
  auto results = call({Tensor({1, 4}, {1, 2, 3, 4}), Tensor({24, 4}), base,
                       Tensor({3}, {1, 1, 1})});
  expectValues(results[0], {5 + 10e-6}, 1e-12);
  expectValues(results[1], {1, 1.5, 1, 1});
  expectValues(results[2],
               {.497306, .125398, .193147, .184149, .130411, .180003, .558318,
                .131266, .188146, .128960, .054135, .628759, .184136, .565638,
                .194400, .055825},
               1e-6);
}

TEST_F(ReferenceV4OpsTest, HyperUpdateMixesColumns) {
  load(
      R"(func.func @f(%x: tensor<?x4xf32>, %y: tensor<?x1xf32>, %post: tensor<?x4xf32>, %comb: tensor<?x16xf32>) -> tensor<?x4xf32> {
    %0 = deepseek.hyper_update %x, %y, %post, %comb : tensor<?x4xf32>, tensor<?x1xf32>, tensor<?x4xf32>, tensor<?x16xf32>
    return %0 : tensor<?x4xf32>
  })");
  Tensor comb({1, 16}, {.497306, .125398, .193147, .184149, .130411, .180003,
                        .558318, .131266, .188146, .128960, .054135, .628759,
                        .184136, .565638, .194400, .055825});
  expectValues(call({Tensor({1, 4}, {1, 2, 3, 4}), Tensor({1, 1}, {10}),
                     Tensor({1, 4}, {.1, .2, .3, .4}), comb})[0],
               {3.059110, 5.134836, 5.249786, 6.556258}, 1e-5);
}

// Each row has its own streams; norm_epsilon makes the row of zeros finite.
TEST_F(ReferenceV4OpsTest, HyperExpandAndHead) {
  load(
      R"(func.func @f(%x: tensor<?x1xf32>, %fn: tensor<2x2xf32>, %base: tensor<2xf32>, %scale: tensor<1xf32>) -> tensor<?x1xf32> {
    %0 = deepseek.hyper_expand %x streams 2 : tensor<?x1xf32> -> tensor<?x2xf32>
    %1 = deepseek.hyper_head %0, %fn, %base, %scale streams 2 norm_epsilon 1.0e-30 epsilon 2.5e-1 : tensor<?x2xf32>, tensor<2x2xf32>, tensor<2xf32>, tensor<1xf32> -> tensor<?x1xf32>
    return %1 : tensor<?x1xf32>
  })");
  // Both streams are 1 once normalized; u is (1, 0), and (0, 0) of zeros.
  expectValues(call({Tensor({2, 1}, {5, 0}), Tensor({2, 2}, {.5, .5, 1, -1}),
                     Tensor({2}), Tensor({1}, {std::log(3)})})[0],
               {5 * (.75 + .25 + .5 + .25), 0}, 1e-12);
}

TEST_F(ReferenceV4OpsTest, UnitNorm) {
  load(R"(func.func @f(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
    %0 = deepseek.unit_norm %x heads 2 epsilon 5.0e-1 : tensor<?x4xf32>
    return %0 : tensor<?x4xf32>
  })");
  expectValues(call({Tensor({1, 4}, {1, 7, 0, 0})})[0],
               {1 / std::sqrt(25.5), 7 / std::sqrt(25.5), 0, 0});
}

TEST_F(ReferenceV4OpsTest, Routers) {
  load(
      R"(func.func @f(%z: tensor<?x8xf32>, %b: tensor<8xf32>, %t: tensor<?xi32>, %table: tensor<2x3xi32>) -> (tensor<?x3xi32>, tensor<?x3xf32>, tensor<?x3xi32>, tensor<?x3xf32>) {
    %e, %w = deepseek.router %z bias %b : tensor<8xf32> by <scoring = sqrt_softplus, method = noaux_tc, experts = 8, top_k = 3, groups = 1, top_groups = 1, normalize = true, scale = 1.5 : f64> : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
    %he, %hw = deepseek.hash_router %z, %t, %table by <scoring = sqrt_softplus, method = hash, experts = 8, top_k = 3, groups = 1, top_groups = 1, normalize = true, scale = 1.5 : f64> : tensor<?x8xf32>, tensor<?xi32>, tensor<2x3xi32> -> tensor<?x3xi32>, tensor<?x3xf32>
    return %e, %w, %he, %hw : tensor<?x3xi32>, tensor<?x3xf32>, tensor<?x3xi32>, tensor<?x3xf32>
  })");
  Tensor z({1, 8}, {1.2, -.4, .3, 2, -1, .8, .1, 1.5});
  Tensor bias({8}, {0, .6, 0, -.5, .9, 0, .3, -.2});
  auto run = [&](Tensor table) {
    return call({z, bias, Tensor({1}, {1}), std::move(table)});
  };
  auto results = run(Tensor({2, 3}, {0, 0, 0, 4, 1, 0}));
  const double weights[] = {.337763, .432238, .729999};
  expectValues(results[0], {4, 1, 0});
  expectValues(results[1], weights, 1e-6);
  expectValues(results[2], {4, 1, 0});
  expectValues(results[3], weights, 1e-6);
  expectError({z, bias, Tensor({1}, {1}), Tensor({2, 3}, {0, 0, 0, 4, 8, 0})},
              "expects experts in [0, 8), but got 8");
  expectError({z, bias, Tensor({1}, {2}), Tensor({2, 3})},
              "expects tokens in [0, 2), but got 2");
}

TEST_F(ReferenceV4OpsTest, SwiGLUWithLimit) {
  load(
      R"(func.func @f(%g: tensor<?x3xf32>, %u: tensor<?x3xf32>) -> tensor<?x3xf32> {
    %0 = deepseek.swiglu %g, %u limit 2.0 : tensor<?x3xf32>
    return %0 : tensor<?x3xf32>
  })");
  auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  expectValues(
      call({Tensor({1, 3}, {5, -5, 1}), Tensor({1, 3}, {-3, 3, 1})})[0],
      {silu(2) * -2, silu(-5) * 2, silu(1)});
}

// Gates are 0, so that entries are means: of the second halves of tokens 0 to 3
// (columns 1), and of the first halves of those and the second of the next.
TEST_F(ReferenceV4OpsTest, CompressAndAttend) {
  load(
      R"(
  !cache = !deepseek.compressed_cache<dim = 2, index_dim = 2, ratios = [4], overlapping = 4, element = f32>
  func.func @f(%v: tensor<?x4xf32>, %g: tensor<?x4xf32>, %b: tensor<4x4xf32>, %n: tensor<2xf32>, %q: tensor<?x2xf32>, %w: tensor<?x1xf32>, %k: tensor<?x2xf32>, %sinks: tensor<1xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    deepseek.compress entries %v, %g bias %b norm %n at %p of %s in %cache[%layer] ratio 4 by <dim = 2, theta = 1.0e4 : f64, layout = interleaved> epsilon 1.0e-30 : tensor<?x4xf32>, tensor<4x4xf32>, tensor<2xf32>, tensor<?xi32>, !cache
    deepseek.compress index %v, %g bias %b norm %n at %p of %s in %cache[%layer] ratio 4 by <dim = 2, theta = 1.0e4 : f64, layout = interleaved> epsilon 1.0e-30 : tensor<?x4xf32>, tensor<4x4xf32>, tensor<2xf32>, tensor<?xi32>, !cache
    %e = deepseek.select_entries %q, %w at %p of %s in %cache[%layer] heads 1 scale 1.0 : tensor<?x2xf32>, tensor<?x1xf32>, tensor<?xi32>, !cache -> tensor<?x2xi32>
    %o = deepseek.compressed_attention %q, %k sinks %sinks selected %e : tensor<?x2xi32> at %p of %s in %cache[%layer, %layer] heads 1 window 2 ratio 4 scale 1.0 : tensor<?x2xf32>, tensor<?x2xf32>, tensor<1xf32>, tensor<?xi32>, !cache -> tensor<?x2xf32>
    return %e, %o : tensor<?x2xi32>, tensor<?x2xf32>
  })");
  // Values are (t, 0 | 1, 0): halves of token t.
  auto step = [&](int64_t first, int64_t count) {
    Tensor v({count, 4}), p({count}), k({count, 2});
    for (int64_t i = 0; i < count; ++i) {
      p.values[size_t(i)] = double(first + i);
      v.row(i)[0] = double(first + i);
      v.row(i)[2] = 1;
      k.row(i)[0] = 3;
    }
    Tensor ones({count, 1});
    llvm::fill(ones.values, 1);
    return call({v, Tensor({count, 4}), Tensor({4, 4}), Tensor({2}, {2, 2}),
                 Tensor({count, 2}), ones, k, Tensor({1}), p, Tensor({count}),
                 Tensor(), Tensor({}, {0})});
  };
  auto results = step(0, 3);
  // No query sees an entry; 1, 2, 2 tokens and the sink, all of weight 1.
  expectValues(results[0], {-1, -1, -1, -1, -1, -1});
  expectValues(results[1], {1.5, 0, 2, 0, 2, 0}, 1e-12);
  results = step(3, 5);
  expectValues(results[0], {0, -1, 0, -1, 0, -1, 0, -1, 0, 1});
  // An entry is (1, 0) of any length, times sqrt(2) and the norm of 2.
  double entry = 2 * std::sqrt(2.0);
  expectValues(results[1],
               {(6 + entry) / 4, 0, (6 + entry) / 4, 0, (6 + entry) / 4, 0,
                (6 + entry) / 4, 0, (6 + entry + entry * std::cos(4)) / 5,
                entry * std::sin(4) / 5},
               1e-12);
  expectError({Tensor({1, 4}), Tensor({1, 4}), Tensor({4, 4}), Tensor({2}),
               Tensor({1, 2}), Tensor({1, 1}), Tensor({1, 2}), Tensor({1}),
               Tensor({1}, {11}), Tensor({1}), Tensor(), Tensor({}, {0})},
              "expects every token of a window in the cache, but position 8 is "
              "not");
}

} // namespace
