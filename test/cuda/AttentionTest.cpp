// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention by blocks of threads, over latents and over keys and values of
// heads, emulated: held to the softmax in f64, for each kind of cache, and to
// that of other blocks and of segments that others compute, bit for bit.

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

constexpr int64_t bytesOf(cached kind) {
  return kind == cached::f32 ? 4 : kind == cached::int8 ? 1 : 2;
}

/// Heads in groups of four, in segments of 64 tokens. Columns are no multiple
/// of 16 of a tile, but whole pieces of 16 bytes.
template <cached of, bool rounded, int64_t rows, int64_t tokens_of_window = 0,
          int64_t chosen = 0, int64_t columns = 40>
struct Sizes {
  static constexpr cached kind = of;
  static constexpr bool is_rounded = rounded;
  static constexpr int64_t heads = 8, group_heads = 4, block_rows = rows,
                           key_dim = columns, value_dim = columns - 16,
                           rope_columns = 24, scale_group = 8, page_tokens = 32;
  static constexpr int64_t latent_bytes = page_tokens * key_dim * bytesOf(of);
  static constexpr int64_t scale_offset = latent_bytes;
  static constexpr int64_t layer_bytes =
      latent_bytes +
      (of == cached::int8 ? page_tokens * key_dim / scale_group * 4 : 0);
  static constexpr int64_t page_bytes = 2 * layer_bytes;
  static constexpr int64_t kv_heads = 0, head_bytes = 0, value_offset = 0,
                           value_scale_offset = 0;
  static constexpr int64_t selected = chosen, selected_stride = chosen,
                           least_run = 384;
  static constexpr int64_t segment_tokens = 64, segments = 4, strands = 4;
  static constexpr int64_t window = tokens_of_window, sink = window ? 3 : 0,
                           sink_segments = window ? 1 : 0;
  static constexpr int64_t query_stride = heads * value_dim,
                           rope_query_stride = heads * rope_columns,
                           out_stride = heads * value_dim;
  static float scale() { return 0.2f; }
};

/// Six heads, of which three share keys and values of their own; one in a block
/// where \p in_group says so. As PageLayout has them.
template <cached of, int64_t rows, int64_t tokens_of_window = 0,
          int64_t columns = 48, int64_t value_columns = 32,
          int64_t in_group = 3>
struct HeadSizes {
  static constexpr cached kind = of;
  static constexpr bool is_rounded = false;
  static constexpr int64_t heads = 6, kv_heads = 2, group_heads = in_group,
                           block_rows = rows, key_dim = columns,
                           value_dim = value_columns, rope_columns = 0,
                           page_tokens = 32, scale_group = 0;
  static constexpr int64_t aligned(int64_t bytes) {
    return (bytes + 63) / 64 * 64;
  }
  static constexpr int64_t scale_bytes =
      of == cached::int8 ? page_tokens * 4 : 0;
  static constexpr int64_t scale_offset =
      aligned(page_tokens * key_dim * bytesOf(of));
  static constexpr int64_t value_offset = scale_offset + scale_bytes;
  static constexpr int64_t value_scale_offset =
      value_offset + aligned(page_tokens * value_dim * bytesOf(of));
  static constexpr int64_t head_bytes = value_scale_offset + scale_bytes;
  static constexpr int64_t layer_bytes = kv_heads * head_bytes,
                           page_bytes = 2 * layer_bytes;
  static constexpr int64_t selected = 0, selected_stride = 0, least_run = 384;
  static constexpr int64_t segment_tokens = 64, segments = 4, strands = 4;
  static constexpr int64_t window = tokens_of_window, sink = window ? 3 : 0,
                           sink_segments = window ? 1 : 0;
  static constexpr int64_t query_stride = heads * key_dim,
                           rope_query_stride = 0,
                           out_stride = heads * value_dim;
  static float scale() { return 0.2f; }
};

template <typename S>
void attend(hadal_rt_step_t state, int64_t items, const float *query,
            const float *rope, const int32_t *positions,
            const int32_t *sequences, const int32_t *selected, float *out,
            float *stats, int64_t rows, int64_t block) {
  block_attention<S> attention(shared_scratch(block_attention<S>::shared_bytes),
                               &state, query, rope, positions, sequences,
                               /*layer=*/1, S::selected ? selected : nullptr,
                               /*runs=*/nullptr);
  if (stats)
    attention.attend_segments(first_item(items), last_item(items), out, stats);
  else
    attention.attend_blocks(first_item(items), last_item(items), out, rows,
                            block);
}

class Attention : public testing::TestWithParam<bool> {
protected:
  static constexpr int64_t context = 200, rows = 6;
  /// Four rows of a prefill, and one each of two other sequences.
  const std::vector<int32_t> positions = {140, 141, 142, 143, 199, 5};
  const std::vector<int32_t> sequences = {1, 1, 1, 1, 0, 2};
  static constexpr int64_t lengths[] = {200, 144, 6}; ///< Of each.

  void SetUp() override {
    setenv("HADAL_CUDA_ORDER", GetParam() ? "reverse" : "forward", 1);
  }

  float draw() { return normal(random); }

  /// Keys and values of a token of which a row reads some: heads, columns of
  /// keys and of values behind them. The values of latents are in the keys.
  template <typename S> static constexpr int64_t keyHeads() {
    return S::kv_heads ? S::kv_heads : 1;
  }
  template <typename S> static constexpr int64_t columns() {
    return S::key_dim + (S::kv_heads ? S::value_dim : 0);
  }
  /// What number \p k of head \p head of a token stands for.
  template <typename S>
  double &number(int64_t sequence, int64_t token, int64_t head, int64_t k) {
    return numbers[size_t(
        ((sequence * context + token) * keyHeads<S>() + head) * columns<S>() +
        k)];
  }

  /// Writes a number to place \p at of what is at \p part; \p scale is that of
  /// a byte. Returns what it stands for.
  template <typename S>
  double write(uint8_t *part, int64_t at, float *scale, bool isFirst) {
    if constexpr (S::kind == cached::f32) {
      return reinterpret_cast<float *>(part)[at] = draw();
    } else if constexpr (S::kind == cached::int8) {
      auto byte = int8_t(random() % 255 - 127);
      if (isFirst)
        *scale = 0.003f * std::exp(0.5f * draw());
      reinterpret_cast<int8_t *>(part)[at] = byte;
      return double(byte) * double(*scale);
    } else {
      uint16_t &half = reinterpret_cast<uint16_t *>(part)[at];
      bool isBf16 = S::kind == cached::bf16;
      half = isBf16 ? narrow_bf16(draw()) : narrow_f16(draw());
      return isBf16 ? widen_bf16(half) : widen_f16(half);
    }
  }

  /// Fills pages of three sequences, and `numbers` with what they stand for.
  /// What comes after a sequence is no number, as are pages of no sequence.
  template <typename S> void fillCache() {
    constexpr int64_t pages = (context + 31) / 32;
    table.resize(3 * pages);
    memory.assign(size_t(3 * pages * S::page_bytes), 0xff);
    numbers.assign(size_t(3 * context * keyHeads<S>() * columns<S>()), 0);
    for (int64_t page = 0; page < 3 * pages; ++page)
      table[size_t(page)] = int32_t((page * 8 + 3) % (3 * pages));
    for (int64_t s = 0; s < 3; ++s)
      for (int64_t t = 0; t < lengths[s]; ++t) {
        uint8_t *page =
            &memory[size_t(table[size_t(s * pages + t / 32)] * S::page_bytes +
                           S::layer_bytes)];
        int64_t place = t % 32;
        if constexpr (S::kv_heads == 0) {
          for (int64_t k = 0; k < S::key_dim; ++k) {
            int64_t at = place * S::key_dim + k;
            number<S>(s, t, 0, k) =
                write<S>(page, at,
                         reinterpret_cast<float *>(page + S::scale_offset) +
                             at / S::scale_group,
                         k % S::scale_group == 0);
          }
        } else {
          for (int64_t head = 0; head < S::kv_heads; ++head) {
            uint8_t *part = page + head * S::head_bytes;
            for (int64_t k = 0; k < S::key_dim; ++k)
              number<S>(s, t, head, k) = write<S>(
                  part, k * 32 + place,
                  reinterpret_cast<float *>(part + S::scale_offset) + place,
                  k == 0);
            for (int64_t k = 0; k < S::value_dim; ++k)
              number<S>(s, t, head, S::key_dim + k) = write<S>(
                  part + S::value_offset, place * S::value_dim + k,
                  reinterpret_cast<float *>(part + S::value_scale_offset) +
                      place,
                  k == 0);
          }
        }
      }
    query.resize(size_t(rows * S::query_stride));
    rope.resize(size_t(rows * S::rope_query_stride));
    for (auto *columns : {&query, &rope})
      for (float &x : *columns)
        x = draw();
    selected.clear();
    if constexpr (S::selected != 0)
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < S::selected; ++i) {
          int64_t count = positions[size_t(row)] + 1;
          // In order, without one twice.
          selected.push_back(
              int32_t(count <= S::selected ? i : i * count / S::selected));
        }
  }

  template <typename S>
  void launch(int64_t items, float *out, float *stats, int64_t block) {
    hadal_cuda_kernel_t kernel = {"attend",
                                  9,
                                  team_threads,
                                  1,
                                  block_attention<S>::shared_bytes,
                                  0,
                                  emulate<attend<S>>};
    auto word = [](const void *p) { return int64_t(intptr_t(p)); };
    hadal_rt_step_t step = {};
    step.kv = memory.data();
    step.page_table = table.data();
    step.page_table_stride = int64_t(table.size()) / 3;
    hadal_cuda_parameters_t parameters = {
        step,
        items,
        {word(query.data()), word(rope.data()), word(positions.data()),
         word(sequences.data()), word(selected.data()), word(out), word(stats),
         rows, block}};
    hadal_cuda_run(&kernel, unsigned(items), &parameters);
  }

  /// Head \p head of row \p row, in f64.
  template <typename S>
  std::vector<double> expected(int64_t row, int64_t head) {
    int64_t count = positions[size_t(row)] + 1;
    std::vector<int64_t> seen;
    if (S::selected && count > S::selected)
      for (int64_t i = 0; i < S::selected; ++i)
        seen.push_back(selected[size_t(row * S::selected + i)]);
    else
      for (int64_t t = 0; t < count; ++t)
        if (!S::window || t < S::sink || t >= count - S::window)
          seen.push_back(t);
    std::vector<double> result(size_t(S::value_dim), 0.0);
    double total = 0;
    constexpr int64_t own = S::kv_heads ? S::key_dim : S::value_dim;
    int64_t keyHead = S::kv_heads ? head * keyHeads<S>() / S::heads : 0;
    for (int64_t t : seen) {
      auto at = [&](int64_t k) {
        return number<S>(sequences[size_t(row)], t, keyHead, k);
      };
      double score = 0;
      for (int64_t k = 0; k < S::key_dim; ++k)
        score +=
            at(k) *
            double(k < own
                       ? query[size_t(row * S::query_stride + head * own + k)]
                       : rope[size_t(row * S::rope_query_stride +
                                     head * S::rope_columns + 8 + k - own)]);
      double weight = std::exp(score * double(S::scale()));
      total += weight;
      for (int64_t k = 0; k < S::value_dim; ++k)
        result[size_t(k)] += weight * at(S::kv_heads ? S::key_dim + k : k);
    }
    for (double &x : result)
      x /= total;
    return result;
  }

  /// \p S takes a row at a time, \p Blocks some.
  template <typename S, typename Blocks> void check(double tolerance) {
    fillCache<S>();
    constexpr int64_t groups = S::heads / S::group_heads;
    std::vector<float> out(size_t(rows * S::out_stride), NAN), inBlocks = out;
    launch<S>(groups * rows, out.data(), nullptr, 1);
    constexpr int64_t block = Blocks::block_rows;
    launch<Blocks>(groups * ((rows + block - 1) / block), inBlocks.data(),
                   nullptr, block);
    EXPECT_EQ(out, inBlocks);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t head = 0; head < S::heads; ++head) {
        std::vector<double> wanted = expected<S>(row, head);
        for (int64_t k = 0; k < S::value_dim; ++k)
          ASSERT_NEAR(
              out[size_t(row * S::out_stride + head * S::value_dim + k)],
              wanted[size_t(k)], tolerance)
              << row << ", " << head << ", " << k;
      }

    // Segments that are merged as they come, and by another kernel.
    constexpr int64_t units = rows * groups;
    std::vector<float> sums(
        size_t(units * S::segments * S::group_heads * S::value_dim), NAN);
    std::vector<float> stats(size_t(units * S::segments * 2 * S::group_heads),
                             NAN);
    launch<S>(units * S::strands, sums.data(), stats.data(), 0);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t head = 0; head < S::heads; ++head)
        for (int64_t k = 0; k < S::value_dim; ++k) {
          int64_t unit = row * groups + head / S::group_heads;
          int64_t slot = head % S::group_heads;
          float most = -1e29f, total = 0, sum = 0;
          for (int64_t i = 0; i < S::segments; ++i) {
            int64_t partial = unit * S::segments + i;
            float maximum = stats[size_t(partial * 2 * S::group_heads + slot)];
            if (std::isnan(maximum))
              break; // The row sees no more.
            float now = max(most, maximum);
            float before = exp(most - now), factor = exp(maximum - now);
            sum =
                fma(sums[size_t(
                        (partial * S::group_heads + slot) * S::value_dim + k)],
                    factor, sum * before);
            total =
                fma(stats[size_t((partial * 2 + 1) * S::group_heads + slot)],
                    factor, total * before);
            most = now;
          }
          ASSERT_EQ(sum * (1 / total),
                    out[size_t(row * S::out_stride + head * S::value_dim + k)])
              << row << ", " << head << ", " << k;
        }
  }

  std::mt19937 random{1};
  std::normal_distribution<float> normal;
  std::vector<int32_t> table, selected;
  std::vector<uint8_t> memory;
  std::vector<double> numbers;
  std::vector<float> query, rope;
};

constexpr double exact = 4e-6;
/// Queries, weights and latents of eight bits.
constexpr double rounded = 0.03;

TEST_P(Attention, OverF32) {
  check<Sizes<cached::f32, false, 1>, Sizes<cached::f32, false, 4>>(exact);
}
TEST_P(Attention, OverF16) {
  check<Sizes<cached::f16, false, 1>, Sizes<cached::f16, false, 4>>(exact);
}
TEST_P(Attention, OverBf16) {
  check<Sizes<cached::bf16, false, 1, 0, 0, 48>,
        Sizes<cached::bf16, false, 3, 0, 0, 48>>(exact);
}
TEST_P(Attention, OverInt8) {
  check<Sizes<cached::int8, false, 1>, Sizes<cached::int8, false, 2>>(exact);
}
TEST_P(Attention, RoundedOverBf16) {
  check<Sizes<cached::bf16, true, 1>, Sizes<cached::bf16, true, 16>>(rounded);
}
TEST_P(Attention, RoundedOverInt8) {
  check<Sizes<cached::int8, true, 1>, Sizes<cached::int8, true, 5>>(rounded);
}
TEST_P(Attention, OfAWindow) {
  check<Sizes<cached::bf16, false, 1, 50>, Sizes<cached::bf16, false, 4, 50>>(
      exact);
}
TEST_P(Attention, OfSelectedTokens) {
  check<Sizes<cached::f32, false, 1, 0, 70>,
        Sizes<cached::f32, false, 1, 0, 70>>(exact);
}

/// Keys and values of their own, of columns that are no multiple of a tile,
/// too.
TEST_P(Attention, OfHeadsOverF32) {
  check<HeadSizes<cached::f32, 1>, HeadSizes<cached::f32, 4>>(exact);
  check<HeadSizes<cached::f32, 1, 0, 20, 9>,
        HeadSizes<cached::f32, 2, 0, 20, 9>>(exact);
}
TEST_P(Attention, OfHeadsOverF16) {
  check<HeadSizes<cached::f16, 1>, HeadSizes<cached::f16, 3>>(exact);
}
TEST_P(Attention, OfHeadsOverBf16) {
  // Two tiles of slots, of which blocks of one row fill one.
  check<HeadSizes<cached::bf16, 1>, HeadSizes<cached::bf16, 10>>(exact);
  check<HeadSizes<cached::bf16, 1, 0, 20, 12>,
        HeadSizes<cached::bf16, 8, 0, 20, 12>>(exact);
}
TEST_P(Attention, OfHeadsOverInt8) {
  check<HeadSizes<cached::int8, 1>, HeadSizes<cached::int8, 6>>(exact);
}
TEST_P(Attention, OfHeadsOneByOne) {
  check<HeadSizes<cached::int8, 1, 0, 32, 32, 1>,
        HeadSizes<cached::int8, 32, 0, 32, 32, 1>>(exact);
}
TEST_P(Attention, OfHeadsInAWindow) {
  check<HeadSizes<cached::f32, 1, 50>, HeadSizes<cached::f32, 4, 50>>(exact);
  check<HeadSizes<cached::bf16, 1, 20>, HeadSizes<cached::bf16, 2, 20>>(exact);
}

INSTANTIATE_TEST_SUITE_P(Orders, Attention, testing::Bool(),
                         [](const testing::TestParamInfo<bool> &order) {
                           return order.param ? "Reverse" : "Forward";
                         });

} // namespace
} // namespace hadal_cuda
