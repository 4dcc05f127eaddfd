// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How fast attention is in decode, beside the bandwidth of a copy, in one run:
//
//     nvcc -std=c++17 -O3 -fmad=false -arch=native -I runtime/include \
//       bench/attention.cu -o attention && ./attention
//
// 64 sequences of 16,384 tokens, whose latents of bf16 have the shape of V2 and
// V3; and as many of 4,096 tokens with keys and values of heads. Prints a line
// for each shape: milliseconds, bytes of the cache a second, and their share of
// the bandwidth.
// Exit status 1: no GPU, or a result that is off.

#include "device.cuh"
#include "hadal_rt/kernels.cuh"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

using namespace hadal_cuda;

namespace {

constexpr int64_t rowCount = 64, pageTokens = 32;

/// What all shapes have.
template <int64_t tokens> struct Common {
  static constexpr cached kind = cached::bf16;
  static constexpr int64_t context = tokens, page_tokens = pageTokens;
  static constexpr int64_t scale_group = 0, scale_offset = 0,
                           value_scale_offset = 0;
  static constexpr int64_t selected = 0, selected_stride = 0, least_run = 384;
  static constexpr int64_t segment_tokens = 1024, segments = context / 1024,
                           strands = segments;
  static constexpr int64_t window = 0, sink = 0, sink_segments = 0;
  static HADAL_INLINE float scale() { return 0.05f; }
};

/// As kernels have them that hadalc makes: latents, for \p all heads.
template <int64_t all, int64_t in_block, bool rounded>
struct Latents : Common<16384> {
  static constexpr bool is_rounded = rounded;
  static constexpr int64_t heads = all, group_heads = in_block, block_rows = 1;
  static constexpr int64_t key_dim = 576, value_dim = 512, rope_columns = 64;
  static constexpr int64_t kv_heads = 0, head_bytes = 0, value_offset = 0;
  static constexpr int64_t layer_bytes = pageTokens * key_dim * 2,
                           page_bytes = layer_bytes;
  static constexpr int64_t query_stride = heads * value_dim,
                           rope_query_stride = heads * rope_columns,
                           out_stride = heads * value_dim;
};

/// \p all heads with \p keys keys and values of their own, of 128 columns.
template <int64_t all, int64_t keys> struct Heads : Common<4096> {
  static constexpr bool is_rounded = false;
  static constexpr int64_t heads = all, kv_heads = keys,
                           group_heads = all / keys,
                           block_rows = 32 / group_heads;
  static constexpr int64_t key_dim = 128, value_dim = 128, rope_columns = 0;
  static constexpr int64_t value_offset = pageTokens * key_dim * 2,
                           head_bytes = 2 * value_offset;
  static constexpr int64_t layer_bytes = kv_heads * head_bytes,
                           page_bytes = layer_bytes;
  static constexpr int64_t query_stride = heads * key_dim,
                           rope_query_stride = 0,
                           out_stride = heads * value_dim;
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
  block_attention<S> attention(shared_scratch(block_attention<S>::shared_bytes),
                               &step, given.query, given.rope, given.positions,
                               given.sequences, /*layer=*/0,
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

/// The pages of all sequences, a table that has them in another order, and what
/// a step is given.
template <typename S> struct Cache {
  static constexpr int64_t pages = S::context / pageTokens;
  std::vector<uint16_t> numbers =
      std::vector<uint16_t>(size_t(rowCount * pages * S::page_bytes / 2));
  std::vector<int32_t> table, positions, sequences;
  hadal_rt_step_t step = {};

  Cache() {
    for (uint16_t &number : numbers)
      number = toBf16(draw());
    int64_t all = rowCount * pages;
    for (int64_t page = 0; page < all; ++page)
      table.push_back(int32_t(page * 31 % all));
    for (int32_t row = 0; row < rowCount; ++row) {
      positions.push_back(int32_t(S::context - 1));
      sequences.push_back(row);
    }
    step.kv = reinterpret_cast<uint8_t *>(send(numbers));
    step.page_table = send(table);
    step.page_table_stride = pages;
  }
  ~Cache() {
    CHECK(cudaFree(step.kv));
    CHECK(cudaFree(const_cast<int32_t *>(step.page_table)));
  }

  /// Column \p k of the key of a token, or of its value.
  double get(int64_t row, int64_t token, int64_t head, int64_t k,
             bool isValue) const {
    int64_t page = table[size_t(row * pages + token / pageTokens)];
    int64_t place = token % pageTokens, at = page * S::page_bytes / 2;
    if (S::kv_heads == 0)
      at += place * S::key_dim + k;
    else
      at += head / S::group_heads * S::head_bytes / 2 +
            (isValue ? S::value_offset / 2 + place * S::value_dim + k
                     : k * pageTokens + place);
    return fromBf16(numbers[size_t(at)]);
  }
};

template <typename S, bool is_split>
void run(const char *what, const Cache<S> &cache, double bandwidth) {
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
  constexpr int bytes = block_attention<S>::shared_bytes;
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
              column = rand() % S::value_dim;
      double total = 0, sum = 0;
      constexpr int64_t own = S::kv_heads ? S::key_dim : S::value_dim;
      for (int64_t token = 0; token < S::context; ++token) {
        double score = 0;
        for (int64_t k = 0; k < S::key_dim; ++k)
          score +=
              cache.get(row, token, head, k, false) *
              (k < own ? query[size_t(row * S::query_stride + head * own + k)]
                       : rope[size_t(row * S::rope_query_stride +
                                     head * S::rope_columns + k - own)]);
        double weight = std::exp(score * 0.05);
        total += weight;
        sum += weight * cache.get(row, token, head, column, true);
      }
      check(std::abs(found[size_t(row * S::out_stride + head * S::value_dim +
                                  column)] -
                     sum / total) < (S::is_rounded ? 1e-3 : 1e-5),
            "attention");
    }
  }
  double read = double(rowCount) * S::context / pageTokens * S::layer_bytes;
  double operations = 2e-9 * double(rowCount) * S::context * S::heads *
                      (S::key_dim + S::value_dim);
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
  {
    Cache<Latents<16, 16, false>> cache;
    run<Latents<16, 16, false>, true>("16 heads, segments", cache, bandwidth);
    run<Latents<16, 16, false>, false>("16 heads", cache, bandwidth);
  }
  {
    Cache<Latents<16, 16, true>> cache;
    run<Latents<16, 16, true>, true>("16 heads, rounded to bf16, segments",
                                     cache, bandwidth);
  }
  {
    Cache<Latents<128, 16, false>> cache;
    run<Latents<128, 16, false>, false>("128 heads", cache, bandwidth);
  }
  {
    Cache<Latents<128, 64, true>> cache;
    run<Latents<128, 64, true>, false>("128 heads, rounded to bf16", cache,
                                       bandwidth);
  }
  {
    Cache<Heads<32, 8>> cache;
    run<Heads<32, 8>, false>("32 heads of 8 keys", cache, bandwidth);
    run<Heads<32, 8>, true>("32 heads of 8 keys, segments", cache, bandwidth);
  }
  {
    Cache<Heads<32, 32>> cache;
    run<Heads<32, 32>, false>("32 heads of 32 keys", cache, bandwidth);
  }
}
