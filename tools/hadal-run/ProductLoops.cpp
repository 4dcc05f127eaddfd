// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The loops of int4-g32, int8 in groups of 128, and bf16, as code for AVX-512
// has them: codegen/Conversion/DeepSeekToRT/IntegerProduct.cpp and
// TileProduct.cpp.

#include "ProductLoops.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

using namespace hadal::run;

#if defined(__x86_64__)

static constexpr int64_t columns = 2048, tiles = 4, vectorBytes = 64;

/// Rows of inputs, rounded to bytes or not, and their scales and where sums
/// start. What they are changes no time, if they are not known beforehand.
static int32_t inputs[12 * columns];

/// Of 16 outputs, the scales of a group in f16.
static constexpr int64_t scaleBytes = 32;

static constexpr int64_t bytesOf(int64_t bits, int64_t group) {
  return tiles * (columns * 16 * bits / 8 + columns / group * scaleBytes);
}

/// How far ahead kernels ask for weights: of one row's four streams, and of the
/// one of more rows.
template <int rows> static constexpr int64_t aheadBytes = rows == 1 ? 2048 : 0;

/// Of 8 bits, whose scales are numbers, or of 4, with powers of two.
template <int bits, int group, int rows, int together>
__attribute__((target("avx512f,avx512bw,avx512vnni"))) static float
multiplyIntegers(const char *weights) {
  constexpr int perVector = 8 / bits;
  constexpr int64_t vectors = columns / 4 / perVector;
  constexpr int64_t groups = columns / group, ofGroup = vectors / groups;
  const char *scales = weights + tiles * vectors * vectorBytes;
  __m512 all = _mm512_setzero_ps();
  for (int64_t tile = 0; tile < tiles; tile += together) {
    __m512 sums[rows * together];
    for (__m512 &sum : sums)
      sum = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; ++g) {
      __m512i dots[rows * together];
      for (int i = 0; i < rows * together; ++i)
        dots[i] = _mm512_set1_epi32(inputs[i % rows * groups + g]);
      for (int64_t v = g * ofGroup; v < (g + 1) * ofGroup; ++v)
        for (int t = 0; t < together; ++t) {
          const char *at = weights + ((tile + t) * vectors + v) * vectorBytes;
          __m512i stored = _mm512_loadu_si512(at);
          if (aheadBytes<rows>)
            _mm_prefetch(at + aheadBytes<rows>, _MM_HINT_T1);
          for (int i = 0; i < perVector; ++i) {
            __m512i codes;
            if constexpr (bits == 8)
              codes = _mm512_xor_si512(stored, _mm512_set1_epi8(-128));
            else
              codes = _mm512_and_si512(i == 0 ? stored
                                              : _mm512_srli_epi16(stored, 4),
                                       _mm512_set1_epi8(15));
            for (int r = 0; r < rows; ++r)
              dots[t * rows + r] = _mm512_dpbusd_epi32(
                  dots[t * rows + r], codes,
                  _mm512_set1_epi32(
                      inputs[r * columns / 4 + perVector * v + i]));
          }
        }
      for (int t = 0; t < together; ++t) {
        __m512 scale = _mm512_cvtph_ps(
            _mm256_loadu_si256(reinterpret_cast<const __m256i *>(
                scales + ((tile + t) * groups + g) * scaleBytes)));
        for (int r = 0; r < rows; ++r) {
          __m512 &sum = sums[t * rows + r];
          __m512 input =
              _mm512_castsi512_ps(_mm512_set1_epi32(inputs[r * groups + g]));
          __m512 both = bits == 8 ? _mm512_mul_ps(scale, input)
                                  : _mm512_scalef_ps(scale, input);
          sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t * rows + r]), both,
                                sum);
        }
      }
    }
    for (__m512 &sum : sums)
      all = _mm512_add_ps(all, sum);
  }
  return _mm512_cvtss_f32(all);
}

/// Six rows times four tiles.
__attribute__((target("avx512f"))) static float
multiplyBf16(const char *weights) {
  constexpr int rows = 6;
  __m512 sums[rows * tiles];
  for (__m512 &sum : sums)
    sum = _mm512_setzero_ps();
  for (int64_t k = 0; k < columns; ++k)
    for (int64_t t = 0; t < tiles; ++t) {
      __m512i half = _mm512_cvtepu16_epi32(_mm256_loadu_si256(
          reinterpret_cast<const __m256i *>(weights + (t * columns + k) * 32)));
      __m512 w = _mm512_castsi512_ps(_mm512_slli_epi32(half, 16));
      for (int r = 0; r < rows; ++r)
        sums[t * rows + r] = _mm512_fmadd_ps(
            w, _mm512_castsi512_ps(_mm512_set1_epi32(inputs[r * columns + k])),
            sums[t * rows + r]);
    }
  __m512 all = _mm512_setzero_ps();
  for (__m512 &sum : sums)
    all = _mm512_add_ps(all, sum);
  return _mm512_cvtss_f32(all);
}

static constexpr double opsOf(int64_t rows) {
  return double(2 * rows * tiles * 16 * columns);
}

std::vector<ProductLoop> hadal::run::findProductLoops() {
  // As f32, from one to two; rows differ.
  for (uint32_t i = 0; i < 12 * columns; ++i)
    inputs[i] = int32_t(0x3f800000u | (i * 2654435761u >> 9));
  std::vector<ProductLoop> loops;
  if (__builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("avx512bw"))
    loops = {{4, bytesOf(4, 32), multiplyIntegers<4, 32, 1, 4>,
              multiplyIntegers<4, 32, 12, 1>, opsOf(12)},
             {8, bytesOf(8, 128), multiplyIntegers<8, 128, 1, 4>,
              multiplyIntegers<8, 128, 12, 1>, opsOf(12)}};
  if (__builtin_cpu_supports("avx512f"))
    loops.push_back(
        {16, tiles * columns * 32, nullptr, multiplyBf16, opsOf(6)});
  return loops;
}

#else

std::vector<ProductLoop> hadal::run::findProductLoops() { return {}; }

#endif
