// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rotary frequencies against numbers computed from the papers' formulas.

#include "dialects/DeepSeek/IR/RotaryTable.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/MLIRContext.h"

#include <gtest/gtest.h>

using namespace mlir;
using namespace hadal::deepseek;

namespace {

class RotaryTableTest : public ::testing::Test {
protected:
  RotaryTableTest() { context.loadDialect<DeepSeekDialect>(); }

  RotaryAttr parse(StringRef parameters) {
    return dyn_cast_or_null<RotaryAttr>(parseAttribute(
        ("#deepseek.rotary<" + parameters + ">").str(), &context));
  }

  MLIRContext context;
};

/// Expects frequency i to be f, to all of the nine digits that f has.
void expectFrequencies(RotaryAttr rotary,
                       ArrayRef<std::pair<size_t, double>> expected) {
  ASSERT_TRUE(rotary);
  SmallVector<double> frequencies = getRotaryFrequencies(rotary);
  ASSERT_EQ(frequencies.size(), size_t(rotary.getDim()) / 2);
  for (auto [i, f] : expected)
    EXPECT_NEAR(frequencies[i], f, 5e-9 * f) << "of pair " << i;
}

TEST_F(RotaryTableTest, Unscaled) {
  expectFrequencies(parse("dim = 8, theta = 1.0e4 : f64, layout = half_split"),
                    {{0, 1}, {1, 0.1}, {2, 0.01}, {3, 0.001}});
}

TEST_F(RotaryTableTest, Linear) {
  RotaryAttr rotary =
      parse("dim = 8, theta = 1.0e4 : f64, layout = half_split, scaling = "
            "#deepseek.linear_scaling<factor = 4.0 : f64>");
  expectFrequencies(rotary, {{0, 0.25}, {1, 0.025}, {2, 0.0025}, {3, 0.00025}});
  EXPECT_EQ(getRotaryAttentionFactor(rotary), 1);
}

// The parameters of DeepSeek-V3: pairs up to 10 are kept, those from 23 on are
// divided by 40.
TEST_F(RotaryTableTest, YarnOfV3) {
  expectFrequencies(
      parse("dim = 64, theta = 1.0e4 : f64, layout = interleaved, scaling = "
            "#deepseek.yarn_scaling<factor = 40.0 : f64, original = 4096, "
            "beta_fast = 32.0 : f64, beta_slow = 1.0 : f64, "
            "attention_factor = 1.0 : f64, truncate = true>"),
      {{0, 1},
       {1, 0.749894209},
       {8, 0.1},
       {10, 0.0562341325},
       {11, 0.0390069266},
       {12, 0.0268793601},
       {15, 0.00833450895},
       {16, 0.0055},
       {20, 0.000790569415},
       {22, 0.000177827941},
       {23, 3.33380358e-05},
       {31, 3.33380358e-06}});
}

TEST_F(RotaryTableTest, YarnOfAnotherBase) {
  expectFrequencies(
      parse("dim = 64, theta = 1.6e5 : f64, layout = interleaved, scaling = "
            "#deepseek.yarn_scaling<factor = 16.0 : f64, original = 65536, "
            "beta_fast = 32.0 : f64, beta_slow = 1.0 : f64, "
            "attention_factor = 1.0 : f64, truncate = true>"),
      {{0, 1},
       {1, 0.687656022},
       {8, 0.05},
       {12, 0.0111803399},
       {15, 0.00363553858},
       {16, 0.002265625},
       {20, 0.000296977778},
       {24, 1.953125e-05},
       {25, 5.37231267e-06},
       {31, 5.68052904e-07}});
}

TEST_F(RotaryTableTest, YarnMultipliesByItsAttentionFactor) {
  RotaryAttr rotary =
      parse("dim = 64, theta = 1.0e4 : f64, layout = interleaved, scaling = "
            "#deepseek.yarn_scaling<factor = 40.0 : f64, original = 4096, "
            "beta_fast = 32.0 : f64, beta_slow = 1.0 : f64, "
            "attention_factor = 1.5 : f64, truncate = false>");
  ASSERT_TRUE(rotary);
  EXPECT_EQ(getRotaryAttentionFactor(rotary), 1.5);
}

// Pairs 0 and 1 turn often and are kept, pair 3 turns less than once and is
// divided, and pair 2, which turns 1.6 times, is between.
TEST_F(RotaryTableTest, Llama3) {
  RotaryAttr rotary =
      parse("dim = 8, theta = 1.0e4 : f64, layout = half_split, scaling = "
            "#deepseek.llama3_scaling<factor = 8.0 : f64, low_freq_factor = "
            "1.0 : f64, high_freq_factor = 4.0 : f64, original = 1024>");
  double s = (1024 * 0.01 / (2 * M_PI) - 1) / 3;
  expectFrequencies(
      rotary,
      {{0, 1}, {1, 0.1}, {2, (1 - s) * 0.01 / 8 + s * 0.01}, {3, 0.001 / 8}});
}

} // namespace
