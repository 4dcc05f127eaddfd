// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How fast attention over latents is in decode, beside the bandwidth of a copy,
// in one run:
//
//     nvcc -std=c++17 -O3 -fmad=false -arch=native -I runtime/include \
//       bench/latents.cu -o latents && ./latents
//
// 64 sequences of 16,384 tokens, whose latents of bf16 have the shape of V2 and
// V3. Prints a line for each number of heads and for each rounding:
// milliseconds, bytes of latents a second, and their share of the bandwidth.
// Exit status 1: no GPU, or a result that is off.

#include "device.cuh"
#include "hadal_rt/kernels.cuh"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

using namespace hadal_cuda;

namespace {

constexpr int64_t rowCount = 64, context = 16384, pageTokens = 32;
constexpr int64_t pages = context / pageTokens, keyDim = 576, valueDim = 512;

/// As kernels have them that hadalc makes, for \p all heads.
template <int64_t all, int64_t in_block, bool rounded> struct Sizes {
  static constexpr latents kind = latents::bf16;
  static constexpr bool is_rounded = rounded;
  static constexpr int64_t heads = all, group_heads = in_block, block_rows = 1;
  static constexpr int64_t key_dim = keyDim, value_dim = valueDim;
  static constexpr int64_t rope_columns = 64, scale_group = 0, scale_offset = 0;
  static constexpr int64_t page_tokens = pageTokens,
                           layer_bytes = pageTokens * keyDim * 2;
  static constexpr int64_t page_bytes = layer_bytes;
  static constexpr int64_t selected = 0, selected_stride = 0, least_run = 384;
  static constexpr int64_t segment_tokens = 1024, segments = context / 1024,
                           strands = 16;
  static constexpr int64_t window = 0, sink = 0, sink_segments = 0;
  static constexpr int64_t query_stride = heads * valueDim,
                           rope_query_stride = heads * rope_columns;
  static constexpr int64_t out_stride = heads * valueDim;
  static HADAL_INLINE float scale() { return 0.05f; }
};

struct Arguments {
  const float *query, *rope;
  const int32_t *positions, *sequences;
  float *out, *stats;
};

/// \p is_split: segments, to be merged by another kernel.
template <typename S, bool is_split>
__global__ void __launch_bounds__(team_threads)
    attend(const __grid_constant__ hadal_rt_step_t step, int64_t items,
           Arguments given) {
  latent_attention<S> attention(
      shared_scratch(latent_attention<S>::shared_bytes), &step, given.query,
      given.rope, given.positions, given.sequences, /*layer=*/0,
      /*selected=*/nullptr, /*runs=*/nullptr);
  if constexpr (is_split)
    attention.attend_segments(first_item(items), last_item(items), given.out,
                              given.stats);
  else
    attention.attend_blocks(first_item(items), last_item(items), given.out,
                            rowCount, /*block_rows=*/1);
}

template <typename T> T *send(const std::vector<T> &from) {
  T *to = allocate<T>(from.size());
  CHECK(cudaMemcpy(to, from.data(), from.size() * sizeof(T),
                   cudaMemcpyHostToDevice));
  return to;
}

float draw() { return float(rand()) / float(RAND_MAX) - 0.5f; }

/// The latents of all sequences, [pages, tokens, columns], a page table that
/// has them in another order, and what a step is given.
struct Cache {
  std::vector<uint16_t> numbers =
      std::vector<uint16_t>(size_t(rowCount * context * keyDim));
  std::vector<int32_t> table, positions, sequences;
  hadal_rt_step_t step = {};

  Cache() {
    for (uint16_t &number : numbers)
      number = toBf16(draw());
    int64_t all = rowCount * pages;
    for (int64_t page = 0; page < all; ++page)
      table.push_back(int32_t(page * 31 % all));
    for (int32_t row = 0; row < rowCount; ++row) {
      positions.push_back(int32_t(context - 1));
      sequences.push_back(row);
    }
    step.kv = reinterpret_cast<uint8_t *>(send(numbers));
    step.page_table = send(table);
    step.page_table_stride = pages;
  }

  const uint16_t *latent(int64_t row, int64_t token) const {
    return &numbers[size_t(
        (table[size_t(row * pages + token / pageTokens)] * pageTokens +
         token % pageTokens) *
        keyDim)];
  }
};

template <typename S, bool is_split>
void run(const char *what, Cache &cache, double bandwidth) {
  std::vector<float> query(size_t(rowCount * S::query_stride)),
      rope(size_t(rowCount * S::rope_query_stride));
  for (auto *numbers : {&query, &rope})
    for (float &x : *numbers)
      x = draw();
  constexpr int64_t units = rowCount * S::heads / S::group_heads;
  constexpr int64_t items = is_split ? units * S::strands : units;
  size_t outs = size_t(rowCount * S::out_stride) * (is_split ? S::segments : 1);
  Arguments given = {
      send(query),
      send(rope),
      send(cache.positions),
      send(cache.sequences),
      allocate<float>(outs),
      allocate<float>(size_t(units * S::segments * 2 * S::group_heads))};
  constexpr int bytes = latent_attention<S>::shared_bytes;
  CHECK(cudaFuncSetAttribute(
      attend<S, is_split>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  float time = measure([&] {
    attend<S, is_split>
        <<<unsigned(items), team_threads, bytes>>>(cache.step, items, given);
  });
  CHECK(cudaGetLastError());
  if constexpr (!is_split) {
    std::vector<float> found(outs);
    CHECK(cudaMemcpy(found.data(), given.out, outs * sizeof(float),
                     cudaMemcpyDeviceToHost));
    for (int64_t i = 0; i < 4; ++i) {
      int64_t row = rand() % rowCount, head = rand() % S::heads,
              column = rand() % valueDim;
      double total = 0, sum = 0;
      for (int64_t token = 0; token < context; ++token) {
        const uint16_t *latent = cache.latent(row, token);
        double score = 0;
        for (int64_t k = 0; k < keyDim; ++k)
          score +=
              double(fromBf16(latent[k])) *
              (k < valueDim
                   ? query[size_t(row * S::query_stride + head * valueDim + k)]
                   : rope[size_t(row * S::rope_query_stride + head * 64 + k -
                                 valueDim)]);
        double weight = std::exp(score * 0.05);
        total += weight;
        sum += weight * fromBf16(latent[column]);
      }
      check(std::abs(
                found[size_t(row * S::out_stride + head * valueDim + column)] -
                sum / total) < (S::is_rounded ? 1e-3 : 1e-5),
            "attention");
    }
  }
  double read = double(rowCount) * context * keyDim * 2;
  double operations =
      2e-9 * double(rowCount) * context * S::heads * (keyDim + valueDim);
  printf(
      "%-44s %8.4f ms  %7.1f GB/s, %3.0f %% of the bandwidth  %6.1f TFLOPS\n",
      what, time, read / time * 1e-6, 100 * read / time / bandwidth,
      operations / time);
  for (const void *part :
       {(const void *)given.query, (const void *)given.rope,
        (const void *)given.positions, (const void *)given.sequences,
        (const void *)given.out, (const void *)given.stats})
    CHECK(cudaFree(const_cast<void *>(part)));
}

} // namespace

int main() {
  int count = 0;
  check(cudaGetDeviceCount(&count) == 0 && count > 0, "finding a GPU");
  double bandwidth = measureBandwidth();
  printf("a copy: %.0f GB/s\n", bandwidth * 1e-6);
  Cache cache;
  run<Sizes<16, 16, false>, true>("16 heads, segments", cache, bandwidth);
  run<Sizes<16, 16, false>, false>("16 heads", cache, bandwidth);
  run<Sizes<16, 16, true>, true>("16 heads, rounded to bf16, segments", cache,
                                 bandwidth);
  run<Sizes<128, 16, false>, false>("128 heads", cache, bandwidth);
  run<Sizes<128, 64, true>, false>("128 heads, rounded to bf16", cache,
                                   bandwidth);
}
