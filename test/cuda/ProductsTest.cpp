// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of rows with packed weights as tensor cores make them, emulated:
// held to sums in f64, for each stored type, and to those of other numbers of
// rows, bit for bit.

#define HADAL_CUDA_EMULATE

#include "hadal_rt/cuda_program.h"

#include "hadal_rt/kernels.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

namespace hadal_cuda {
namespace {

constexpr int sharedBytes = 72 * 1024;

/// out[weight, row, 16 * tiles] = input[list[row] / 2, inner] * weights.
template <stored kind, int weights, int inner, int parts>
void multiply(hadal_rt_step_t, int64_t items, const float *input,
              const int32_t *list, const void *gate, const void *up,
              const float *scales, float *out, int64_t rows, int64_t stride,
              int64_t tiles, int64_t share) {
  uint8_t *memory = shared_scratch(sharedBytes);
  for (int64_t item = first_item(items); item < last_item(items); ++item) {
    int64_t end = (item + 1) * share < tiles ? (item + 1) * share : tiles;
    input_rows from = {input, stride, list, 2};
    auto run = [&](auto product) {
      while (product.next())
        for (int i = product.first_product(); i < product.product_count();
             i += product.groups)
          for (int w = 0; w < weights; ++w)
            store(out + ((w * rows + product.entry_of(i)) * tiles +
                         product.tile_of(i)) *
                            16,
                  product.sums(w, i));
    };
    if constexpr (weights == 1)
      run(products<kind, 1, inner, parts>(memory, 0, rows, item * share, end,
                                          from, weight_tiles{gate, scales}));
    else
      run(products<kind, 2, inner, parts>(memory, 0, rows, item * share, end,
                                          from, weight_tiles{gate, scales},
                                          weight_tiles{up, scales}));
  }
}

/// A weight as it is stored, [tiles, inner, 16], and its numbers.
struct Weight {
  std::vector<uint16_t> halves;
  std::vector<uint8_t> bytes;
  std::vector<double> numbers;

  const void *data(stored kind) const {
    return kind == stored::fp8 ? static_cast<const void *>(bytes.data())
                               : halves.data();
  }
};

double numberOfByte(uint8_t byte) {
  int exponent = byte >> 3 & 15, mantissa = byte & 7;
  double value = exponent ? std::ldexp(8 + mantissa, exponent - 10)
                          : std::ldexp(mantissa, -9);
  return byte & 0x80 ? -value : value;
}

class Products : public testing::TestWithParam<bool> {
protected:
  void SetUp() override {
    setenv("HADAL_CUDA_ORDER", GetParam() ? "reverse" : "forward", 1);
  }

  Weight makeWeight(stored kind, int64_t size) {
    Weight weight;
    for (int64_t i = 0; i < size; ++i) {
      if (kind == stored::fp8) {
        uint8_t byte = uint8_t(random());
        byte = (byte & 0x7f) == 0x7f ? 0 : byte; // No number.
        weight.bytes.push_back(byte);
        weight.numbers.push_back(numberOfByte(byte));
        continue;
      }
      float value = normal(random);
      bool isBf16 = kind == stored::bf16;
      weight.halves.push_back(isBf16 ? narrow_bf16(value) : narrow_f16(value));
      weight.numbers.push_back(isBf16 ? widen_bf16(weight.halves.back())
                                      : widen_f16(weight.halves.back()));
    }
    return weight;
  }

  template <stored kind, int weights, int inner, int parts = 3>
  void check(int64_t tiles, int64_t most, int64_t share) {
    constexpr int64_t stride = inner + 3; // Rows that are not aligned, too.
    Weight gate = makeWeight(kind, tiles * inner * 16);
    Weight up = makeWeight(kind, tiles * inner * 16);
    int64_t blocks = (inner + 127) / 128;
    std::vector<float> scales(size_t((tiles + 7) / 8 * blocks));
    for (float &scale : scales)
      scale = std::exp(normal(random));
    std::vector<float> input(size_t(most * stride));
    for (float &x : input)
      x = normal(random) * std::exp(3 * normal(random));
    std::vector<int32_t> list;
    for (int64_t row = 0; row < most; ++row)
      list.push_back(int32_t(2 * (most - 1 - row) + row % 2));

    std::vector<float> whole;
    for (int64_t rows : {most, most / 2, int64_t(9), int64_t(8), int64_t(1)}) {
      if (rows > most)
        continue;
      std::vector<float> out(size_t(weights * rows * tiles * 16), NAN);
      int64_t items = (tiles + share - 1) / share;
      hadal_cuda_kernel_t kernel = {
          "multiply",
          10,
          team_threads,
          1,
          sharedBytes,
          0,
          emulate<multiply<kind, weights, inner, parts>>};
      auto word = [](const void *p) { return int64_t(intptr_t(p)); };
      hadal_cuda_parameters_t parameters = {
          {},
          items,
          {word(input.data()), word(list.data()), word(gate.data(kind)),
           word(up.data(kind)), word(scales.data()), word(out.data()), rows,
           stride, tiles, share}};
      hadal_cuda_run(&kernel, unsigned(items), &parameters);
      if (rows == most)
        whole = out;
      for (int w = 0; w < weights; ++w)
        for (int64_t row = 0; row < rows; ++row)
          for (int64_t column = 0; column < tiles * 16; ++column) {
            float found = out[size_t((w * rows + row) * tiles * 16 + column)];
            ASSERT_EQ(found,
                      whole[size_t((w * most + row) * tiles * 16 + column)])
                << rows << " rows, " << row << ", " << column;
            if (rows != most)
              continue;
            const Weight &weight = w ? up : gate;
            double sum = 0, size = 0;
            for (int64_t k = 0; k < inner; ++k) {
              float x = input[size_t(list[size_t(row)] / 2 * stride + k)];
              if (parts == 1)
                x = widen_bf16(narrow_bf16(x));
              double product =
                  weight.numbers[size_t((column / 16 * inner + k) * 16 +
                                        column % 16)] *
                  x;
              if (kind == stored::fp8)
                product *= scales[size_t(column / 128 * blocks + k / 128)];
              sum += product;
              size += std::abs(product);
            }
            // A few roundings of sums that are at most this large.
            ASSERT_NEAR(found, sum, 1e-6 * size) << row << ", " << column;
          }
    }
  }

  std::mt19937 random{1};
  std::normal_distribution<float> normal;
};

TEST_P(Products, ABf16) { check<stored::bf16, 1, 144>(11, 70, 11); }
TEST_P(Products, ABf16OfFewColumns) { check<stored::bf16, 2, 24>(3, 20, 1); }
TEST_P(Products, AnF16) { check<stored::f16, 1, 300>(2, 17, 2); }
TEST_P(Products, AnFp8) { check<stored::fp8, 1, 272>(9, 12, 8); }
TEST_P(Products, ABf16OfRoundedInputs) {
  check<stored::bf16, 1, 144, 1>(11, 70, 11);
}
TEST_P(Products, TwoOfFp8) { check<stored::fp8, 2, 160>(5, 66, 4); }

INSTANTIATE_TEST_SUITE_P(Orders, Products, testing::Bool(),
                         [](const testing::TestParamInfo<bool> &order) {
                           return order.param ? "Reverse" : "Forward";
                         });

} // namespace
} // namespace hadal_cuda
