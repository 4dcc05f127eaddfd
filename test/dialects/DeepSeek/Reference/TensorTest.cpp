// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The number formats of stored weights, bit for bit.

#include "dialects/DeepSeek/Reference/Tensor.h"

#include "mlir/IR/Builders.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace mlir;
using namespace hadal::deepseek;

namespace {

class TensorTest : public ::testing::Test {
protected:
  MLIRContext context;
  Builder builder{&context};
  FloatType f32 = builder.getF32Type();
  FloatType f16 = builder.getF16Type();
  FloatType bf16 = builder.getBF16Type();
  FloatType fp8 = Float8E4M3FNType::get(&context);
};

double decodeBits(uint32_t bits, FloatType type) {
  uint8_t bytes[4];
  for (unsigned i = 0; i < 4; ++i)
    bytes[i] = uint8_t(bits >> (8 * i));
  return decode(bytes, type);
}

TEST_F(TensorTest, DecodesFP8) {
  EXPECT_EQ(decodeBits(0x38, fp8), 1.0);
  EXPECT_EQ(decodeBits(0x7e, fp8), 448.0);
  EXPECT_EQ(decodeBits(0x01, fp8), std::ldexp(1, -9));
  EXPECT_EQ(decodeBits(0xc0, fp8), -2.0);
  EXPECT_TRUE(std::isnan(decodeBits(0x7f, fp8)));
}

TEST_F(TensorTest, DecodesWiderTypes) {
  EXPECT_EQ(decodeBits(0x3fc0, bf16), 1.5);
  EXPECT_EQ(decodeBits(0x0001, f16), std::ldexp(1, -24));
  EXPECT_EQ(decodeBits(0xc000, f16), -2.0);
  EXPECT_EQ(decodeBits(0x40490fdb, f32), double(3.14159274f));
}

TEST_F(TensorTest, RoundsTiesToEven) {
  // One bit past the mantissa: of 7 bits, of 10, of 3.
  EXPECT_EQ(roundTo(1 + std::ldexp(1, -8), bf16), 1.0);
  EXPECT_EQ(roundTo(1 + 3 * std::ldexp(1, -8), bf16), 1 + std::ldexp(1, -6));
  EXPECT_EQ(roundTo(1 + std::ldexp(1, -11), f16), 1.0);
  EXPECT_EQ(roundTo(1.0625, fp8), 1.0);
  EXPECT_EQ(roundTo(1.1875, fp8), 1.25);
  EXPECT_EQ(roundTo(1 + std::ldexp(1, -24), f32), 1.0);
  // From f64 at once: rounding to f32 first would make this a tie.
  EXPECT_EQ(roundTo(1 + std::ldexp(1, -8) + std::ldexp(1, -40), bf16),
            1 + std::ldexp(1, -7));
}

TEST_F(TensorTest, RoundsPastTheLargest) {
  EXPECT_EQ(roundTo(448, fp8), 448);
  EXPECT_TRUE(std::isnan(roundTo(1000, fp8)));
  EXPECT_EQ(roundTo(1e6, f16), INFINITY);
}

} // namespace
