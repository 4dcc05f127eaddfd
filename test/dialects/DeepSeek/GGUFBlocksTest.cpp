// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The block formats of GGUF files, against what llama.cpp's own package for
// Python makes of the same blocks (make_gguf_vectors.py wrote the table).

#include "dialects/DeepSeek/IR/GGUFBlocks.h"

#include <cstring>
#include <gtest/gtest.h>

using namespace hadal::deepseek;

namespace {

struct Expected {
  GGUFFormat format;
  uint64_t hash; ///< FNV-1a of the numbers' bytes.
  float first, last;
};

constexpr Expected table[] = {
    {GGUFFormat::Q4_0, 0xf07d86c69118595d, 0x1.8500000000000p-8f,
     -0x1.b468000000000p-10f},
    {GGUFFormat::Q4_1, 0x176cd34265f7a2eb, 0x1.03e0000000000p-5f,
     -0x1.c640000000000p-1f},
    {GGUFFormat::Q5_0, 0x5c6645a336d53aac, -0x1.23c0000000000p-5f,
     -0x1.5bd0000000000p-3f},
    {GGUFFormat::Q5_1, 0xc9cfd277f822cf49, 0x1.deb0000000000p-5f,
     0x1.394c000000000p+3f},
    {GGUFFormat::Q8_0, 0x72ef9e995b09e9a1, -0x1.35fc000000000p-2f,
     -0x1.9194000000000p+0f},
    {GGUFFormat::Q2_K, 0x37ca9d30275319ac, -0x1.e908000000000p-4f,
     -0x1.d275160000000p+3f},
    {GGUFFormat::Q3_K, 0x7f5fa59c821ffc47, -0x1.dd60000000000p+3f,
     -0x1.fd00000000000p+0f},
    {GGUFFormat::Q4_K, 0x2998a022c833a3ce, -0x1.37ff000000000p+0f,
     0x1.b9b5c00000000p-1f},
    {GGUFFormat::Q5_K, 0xf5afe5bb8317e963, 0x1.8178000000000p+0f,
     0x1.b608140000000p+4f},
    {GGUFFormat::Q6_K, 0x50b0f4fe714e8948, -0x1.1238000000000p+2f,
     -0x1.9e00600000000p+5f},
    {GGUFFormat::IQ4_NL, 0xe462ec80fa4d6e0c, 0x1.2fe8000000000p-4f,
     -0x1.953c000000000p-6f},
    {GGUFFormat::IQ4_XS, 0x70fbe43761bb49b4, 0x1.cdf0000000000p-3f,
     -0x1.e79e000000000p+2f},
    {GGUFFormat::MXFP4, 0xd44c5bea7c48f654, -0x1.0000000000000p-107f,
     -0x1.0000000000000p-57f},
};

constexpr int64_t blocks = 64;

/// Offsets, in a block, of the bytes with the exponent of a scale.
std::vector<size_t> exponentsOf(GGUFFormat format) {
  switch (format) {
  case GGUFFormat::Q4_1:
  case GGUFFormat::Q5_1:
  case GGUFFormat::Q4_K:
  case GGUFFormat::Q5_K:
    return {1, 3};
  case GGUFFormat::Q2_K:
    return {81, 83};
  case GGUFFormat::Q3_K:
    return {109};
  case GGUFFormat::Q6_K:
    return {209};
  case GGUFFormat::MXFP4:
    return {0};
  default:
    return {1};
  }
}

TEST(GGUFBlocksTest, EveryFormatIsBitExact) {
  EXPECT_EQ(std::size(table), size_t(getMaxEnumValForGGUFFormat()) + 1);
  for (const Expected &expected : table) {
    GGUFBlock block = getGGUFBlock(expected.format);
    std::vector<uint8_t> bytes(size_t(blocks * block.bytes));
    uint64_t state = 0;
    for (uint8_t &byte : bytes) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      byte = uint8_t(state >> 56);
    }
    for (size_t begin = 0; begin < bytes.size(); begin += size_t(block.bytes))
      for (size_t offset : exponentsOf(expected.format))
        bytes[begin + offset] &=
            expected.format == GGUFFormat::MXFP4 ? 0x7f : 0xbf;

    std::vector<float> numbers(size_t(blocks * block.elements));
    dequantizeGGUF(expected.format, bytes.data(), blocks, numbers.data());
    EXPECT_EQ(numbers.front(), expected.first);
    EXPECT_EQ(numbers.back(), expected.last);
    uint64_t hash = 0xcbf29ce484222325u;
    for (float number : numbers) {
      uint8_t parts[sizeof(number)];
      std::memcpy(parts, &number, sizeof(number));
      for (uint8_t part : parts)
        hash = (hash ^ part) * 0x100000001b3u;
    }
    EXPECT_EQ(hash, expected.hash)
        << stringifyGGUFFormat(expected.format).str();
  }
}

// The scale of MXFP4 is a power of two, subnormal for the two smallest.
TEST(GGUFBlocksTest, MXFP4HasSubnormalScales) {
  uint8_t block[17] = {};
  block[1] = 0x97; // The lower half, 12 halves, comes first; -1 half 16 later.
  float numbers[32];
  for (auto [exponent, half] : {std::pair<uint8_t, float>(0, 0x1p-128f),
                                {1, 0x1p-127f},
                                {2, 0x1p-126f},
                                {254, 0x1p126f}}) {
    block[0] = exponent;
    dequantizeGGUF(GGUFFormat::MXFP4, block, 1, numbers);
    EXPECT_EQ(numbers[0], 12 * half);
    EXPECT_EQ(numbers[16], -half);
  }
}

} // namespace
