// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The loops of 4 bits in groups of 32, without and with offsets, of 8 bits in
// groups of 128 and of 32, and of bf16, as code for AVX-512 has them; of scores
// and of rounding: codegen/Conversion/DeepSeekToRT/IntegerProduct.cpp,
// TileProduct.cpp and HeadsAttention.cpp.

#include "ProductLoops.h"

#include <cstring>

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

/// Groups of a record, whose scales fill a line.
static constexpr int64_t recordGroups = vectorBytes / scaleBytes;

/// How weights are stored: records of scales, offsets if there are any, and
/// codes.
struct Stored {
  int bits, group;
  bool hasOffsets = false;

  constexpr int64_t groupBytes() const { return group * 16 * bits / 8; }
  constexpr int64_t codesAt() const {
    return recordGroups * scaleBytes * (hasOffsets ? 2 : 1);
  }
  constexpr int64_t recordBytes() const {
    return codesAt() + recordGroups * groupBytes();
  }
  constexpr int64_t tileBytes() const {
    return columns / (recordGroups * group) * recordBytes();
  }
  constexpr int64_t bytes() const { return tiles * tileBytes(); }
  constexpr double bitsOfWeight() const {
    return double(8 * bytes()) / double(tiles * 16 * columns);
  }
};

static constexpr Stored plain4 = {4, 32}, offset4 = {4, 32, true},
                        plain8 = {8, 128}, small8 = {8, 32};

/// How far ahead a single row asks for weights that lie in several streams.
static constexpr int64_t aheadBytes = 2048;

/// Of 8 bits, whose inputs have numbers for scales, or of 4, with powers of
/// two. Several tiles together are as many streams, each of which is asked for.
template <const Stored &form, int rows, int together>
__attribute__((target("avx512f,avx512bw,avx512vnni"))) static float
multiplyIntegers(const char *weights) {
  constexpr int bits = form.bits, perVector = 8 / bits;
  constexpr int64_t groups = columns / form.group;
  constexpr int64_t ofGroup = form.groupBytes() / vectorBytes;
  // A few sums have two chains each, so that none waits for the one before.
  constexpr int count = rows * together, chains = count <= 4 ? 2 : 1;
  constexpr bool asks = rows == 1 && together > 1;
  __m512 all = _mm512_setzero_ps();
  for (int64_t tile = 0; tile < tiles; tile += together) {
    __m512 sums[count];
    for (__m512 &sum : sums)
      sum = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; ++g) {
      int64_t part = g % recordGroups;
      const char *records = weights + tile * form.tileBytes() +
                            g / recordGroups * form.recordBytes();
      __m512i dots[chains * count];
#pragma GCC unroll 16
      for (int i = 0; i < chains * count; ++i)
        dots[i] = form.hasOffsets || i >= count
                      ? _mm512_setzero_si512()
                      : _mm512_set1_epi32(inputs[i % rows * groups + g]);
      // As many lines as kernels have without a branch between them.
#pragma GCC unroll 4
      for (int64_t u = 0; u < ofGroup; ++u) {
#pragma GCC unroll 16
        for (int t = 0; t < together; ++t) {
          const char *at = records + t * form.tileBytes() + form.codesAt() +
                           part * form.groupBytes() + u * vectorBytes;
          __m512i stored = _mm512_loadu_si512(at);
          if (asks)
            _mm_prefetch(at + aheadBytes, _MM_HINT_T1);
#pragma GCC unroll 16
          for (int i = 0; i < perVector; ++i) {
            __m512i codes;
            if constexpr (bits == 8)
              codes = _mm512_xor_si512(stored, _mm512_set1_epi8(-128));
            else
              codes = _mm512_and_si512(i == 0 ? stored
                                              : _mm512_srli_epi16(stored, 4),
                                       _mm512_set1_epi8(15));
            int64_t lane = perVector * u + i;
#pragma GCC unroll 16
            for (int r = 0; r < rows; ++r) {
              __m512i &dot = dots[lane % chains * count + t * rows + r];
              dot = _mm512_dpbusd_epi32(
                  dot, codes,
                  _mm512_set1_epi32(inputs[r * columns / 4 +
                                           g * perVector * ofGroup + lane]));
            }
          }
        }
      }
#pragma GCC unroll 16
      for (int t = 0; t < together; ++t) {
        const char *scales = records + t * form.tileBytes() + part * scaleBytes;
        if (asks && part == 0)
          _mm_prefetch(scales + aheadBytes, _MM_HINT_T1);
        auto numbers = [&](int64_t of) __attribute__((target("avx512f"))) {
          return _mm512_cvtph_ps(
              _mm256_loadu_si256(reinterpret_cast<const __m256i *>(
                  scales + of * recordGroups * scaleBytes)));
        };
        __m512 scale = numbers(0);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
          __m512 &sum = sums[t * rows + r];
          __m512 input =
              _mm512_castsi512_ps(_mm512_set1_epi32(inputs[r * groups + g]));
          __m512 both = bits == 8 ? _mm512_mul_ps(scale, input)
                                  : _mm512_scalef_ps(scale, input);
          __m512i dot = dots[t * rows + r];
          if constexpr (chains == 2)
            dot = _mm512_add_epi32(dot, dots[count + t * rows + r]);
          sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), both, sum);
          if (!form.hasOffsets)
            continue;
          // The sum of the inputs, which is a number and no vector.
          __m512 ofInputs = _mm512_scalef_ps(
              _mm512_set1_ps(-float(inputs[r * groups + g])), input);
          sum = _mm512_fmadd_ps(
              numbers(1), _mm512_set1_ps(_mm512_cvtss_f32(ofInputs)), sum);
        }
      }
    }
    for (__m512 &sum : sums)
      all = _mm512_add_ps(all, sum);
  }
  return _mm512_cvtss_f32(all);
}

/// Rows times four tiles, each of which is asked for if \p isAsked.
template <int rows, bool isAsked>
__attribute__((target("avx512f"))) static float
multiplyBf16(const char *weights) {
  __m512 sums[rows * tiles];
  for (__m512 &sum : sums)
    sum = _mm512_setzero_ps();
  for (int64_t k = 0; k < columns; ++k) {
    __m512 of[tiles];
    for (int64_t t = 0; t < tiles; ++t) {
      const char *stored = weights + (t * columns + k) * 32;
      of[t] = _mm512_castsi512_ps(
          _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(
                                reinterpret_cast<const __m256i *>(stored))),
                            16));
      if (isAsked && k % 2 == 0)
        _mm_prefetch(stored + aheadBytes, _MM_HINT_T1);
    }
    for (int r = 0; r < rows; ++r) {
      __m512 input =
          _mm512_castsi512_ps(_mm512_set1_epi32(inputs[r * columns + k]));
      for (int64_t t = 0; t < tiles; ++t)
        sums[t * rows + r] = _mm512_fmadd_ps(of[t], input, sums[t * rows + r]);
    }
  }
  __m512 all = _mm512_setzero_ps();
  for (__m512 &sum : sums)
    all = _mm512_add_ps(all, sum);
  // All of it, or sums of one lane are kept where no vector has room.
  return _mm512_reduce_add_ps(all);
}

/// e^x, as KernelBuilder::exp() has it.
__attribute__((target("avx512f"))) static inline __m512 exponential(__m512 x) {
  __m512 clamped = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.3f)),
                                 _mm512_set1_ps(88.3f));
  __m512 n = _mm512_floor_ps(_mm512_fmadd_ps(
      clamped, _mm512_set1_ps(1.44269504f), _mm512_set1_ps(0.5f)));
  __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-0.693359375f), clamped);
  r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  for (float coefficient : {1.3981999507e-3f, 8.3334519073e-3f,
                            4.1665795894e-2f, 1.6666665459e-1f, 0.5f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(coefficient));
  p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r),
                    _mm512_set1_ps(1));
  __m512i exponent = _mm512_slli_epi32(
      _mm512_add_epi32(_mm512_cvttps_epi32(n), _mm512_set1_epi32(127)), 23);
  return _mm512_maskz_mul_ps(
      _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.3f), _CMP_NLT_UQ), p,
      _mm512_castsi512_ps(exponent));
}

/// Pages of 32 scores: scaled, masked and stored, their largest, their weights.
__attribute__((target("avx512f"))) static float
weighScores(const char *numbers) {
  alignas(64) float scores[32];
  __m512 scale = _mm512_set1_ps(0.125f), totals = _mm512_setzero_ps();
  __m512i lanes = _mm512_set1_epi32(inputs[0]), seen = lanes;
  float maximum = -1e30f;
  for (int64_t page = 0; page < RowLoop::count; page += 32) {
    for (int64_t i = 0; i < 32; i += 16) {
      __m512 score = _mm512_mul_ps(
          _mm512_loadu_ps(numbers + (page + i) * int64_t(sizeof(float))),
          scale);
      score = _mm512_mask_blend_ps(_mm512_cmplt_epi32_mask(lanes, seen), score,
                                   _mm512_set1_ps(-1));
      _mm512_store_ps(scores + i, score);
      lanes = _mm512_add_epi32(lanes, _mm512_set1_epi32(16));
    }
    float best = _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_load_ps(scores), _mm512_load_ps(scores + 16)));
    best = best > maximum ? best : maximum;
    __m512 most = _mm512_set1_ps(best);
    totals = _mm512_mul_ps(
        totals, exponential(_mm512_sub_ps(_mm512_set1_ps(maximum), most)));
    maximum = best;
    for (int64_t i = 0; i < 32; i += 16) {
      __m512 weight =
          exponential(_mm512_sub_ps(_mm512_load_ps(scores + i), most));
      totals = _mm512_add_ps(totals, weight);
      _mm512_store_ps(scores + i, weight);
    }
    asm volatile("" : : "r"(scores) : "memory");
  }
  return _mm512_cvtss_f32(totals);
}

/// To bytes, with a scale that is a power of two, and the sum of a group.
__attribute__((target("avx512f,avx512bw"))) static float
roundNumbers(const char *numbers) {
  alignas(16) int8_t bytes[32];
  int64_t total = 0;
  for (int64_t group = 0; group < RowLoop::count; group += 32) {
    __m512 x[2];
    for (int64_t i = 0; i < 2; ++i)
      x[i] =
          _mm512_loadu_ps(numbers + (group + 16 * i) * int64_t(sizeof(float)));
    float largest = _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_abs_ps(x[0]), _mm512_abs_ps(x[1])));
    float quotient = largest / 127;
    int32_t word;
    memcpy(&word, &quotient, sizeof(word));
    word &= 0x7f800000;
    float power;
    memcpy(&power, &word, sizeof(power));
    power = power < quotient ? 2 * power : power;
    power = quotient < 0x1p-126f ? 1 : power;
    __m512 inverse = _mm512_set1_ps(1 / power);
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < 2; ++i) {
      __m512i rounded = _mm512_cvtps_epi32(_mm512_roundscale_ps(
          _mm512_mul_ps(x[i], inverse), _MM_FROUND_TO_NEAREST_INT));
      _mm_store_si128(reinterpret_cast<__m128i *>(bytes + 16 * i),
                      _mm512_cvtepi32_epi8(rounded));
      sum = _mm512_add_epi32(sum, rounded);
    }
    total += _mm512_reduce_add_epi32(sum);
    asm volatile("" : : "r"(bytes) : "memory");
  }
  return float(total);
}

static constexpr double opsOf(int64_t rows) {
  return double(2 * rows * tiles * 16 * columns);
}

/// Whether kernels read integers of one row tile by tile here, on Zen 4: see
/// codegen/LLVM/EmitObject.cpp. Zen 3, of the same family, has no AVX-512.
static bool followsStreams() {
  return __builtin_cpu_is("amdfam19h") && __builtin_cpu_supports("avx512f");
}

template <const Stored &form> static ProductLoop integerLoop(bool follows) {
  return {form.bitsOfWeight(), form.bytes(),
          follows ? multiplyIntegers<form, 1, 1> : multiplyIntegers<form, 1, 4>,
          multiplyIntegers<form, 12, 1>, opsOf(12)};
}

std::vector<ProductLoop> hadal::run::findProductLoops() {
  // As f32, from one to two; rows differ.
  for (uint32_t i = 0; i < 12 * columns; ++i)
    inputs[i] = int32_t(0x3f800000u | (i * 2654435761u >> 9));
  std::vector<ProductLoop> loops;
  if (__builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("avx512bw")) {
    bool follows = followsStreams();
    loops = {integerLoop<plain4>(follows), integerLoop<offset4>(follows),
             integerLoop<plain8>(follows), integerLoop<small8>(follows)};
  }
  if (__builtin_cpu_supports("avx512f"))
    loops.push_back(
        {16, tiles * columns * 32,
         followsStreams() ? multiplyBf16<1, false> : multiplyBf16<1, true>,
         multiplyBf16<6, false>, opsOf(6)});
  return loops;
}

std::optional<RowLoop> hadal::run::findRowLoop() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
    return RowLoop{weighScores, roundNumbers};
  return std::nullopt;
}

#else

std::vector<ProductLoop> hadal::run::findProductLoops() { return {}; }

std::optional<RowLoop> hadal::run::findRowLoop() { return std::nullopt; }

#endif
