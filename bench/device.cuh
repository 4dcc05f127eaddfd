// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What measurements on a GPU share: checked calls, memory, times, and the
// bandwidth of a copy.

#ifndef HADAL_BENCH_DEVICE_CUH
#define HADAL_BENCH_DEVICE_CUH

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

void check(bool isRight, const char *what) {
  if (isRight)
    return;
  fprintf(stderr, "%s failed\n", what);
  exit(1);
}
#define CHECK(call) check((call) == 0, #call)

/// The best of some runs of \p work, in milliseconds.
template <typename Work> float measure(Work work) {
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  float best = INFINITY;
  for (int i = 0; i < 20; ++i) {
    float time;
    CHECK(cudaEventRecord(begin));
    work();
    CHECK(cudaEventRecord(end));
    CHECK(cudaEventSynchronize(end));
    CHECK(cudaEventElapsedTime(&time, begin, end));
    best = std::min(best, time);
  }
  CHECK(cudaEventDestroy(begin));
  CHECK(cudaEventDestroy(end));
  return best;
}

template <typename T> T *allocate(size_t count) {
  void *memory = nullptr;
  CHECK(cudaMalloc(&memory, count * sizeof(T)));
  return static_cast<T *>(memory);
}

uint16_t toBf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float fromBf16(uint16_t stored) {
  uint32_t bits = uint32_t(stored) << 16;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

/// Bytes a millisecond that a copy reads and writes.
double measureBandwidth() {
  constexpr size_t bytes = size_t(1) << 30;
  uint8_t *from = allocate<uint8_t>(bytes), *to = allocate<uint8_t>(bytes);
  float time = measure([&] {
    CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice));
  });
  CHECK(cudaFree(from));
  CHECK(cudaFree(to));
  return 2.0 * bytes / time;
}

} // namespace

#endif // HADAL_BENCH_DEVICE_CUH
