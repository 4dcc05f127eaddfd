// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The words in which `hadalc --emit=cpp` writes models: short vectors and what
// is done with them. For g++ 12 and clang 22 or later, which make of it what
// the processor has; numbers are the same on all, because nothing is fused or
// reordered that does not say so. Nothing here allocates.

#ifndef HADAL_RT_KERNELS_H
#define HADAL_RT_KERNELS_H

#include "hadal_rt/abi.h"
#include "hadal_rt/probe.h"

#include <stdint.h>
#include <string.h>

#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// A product and a sum round twice unless `fma` says otherwise.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
// Vectors are passed within one file only: no ABI matters.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#define HADAL_INLINE __attribute__((always_inline)) inline

/// Where tools look for what a program was made of.
#if defined(__ELF__)
#define HADAL_MANIFEST __attribute__((used, section(".hadal.manifest")))
#else
#define HADAL_MANIFEST
#endif

/// Instructions that the file is compiled for, which the runtime looks for.
enum : uint32_t {
  HADAL_CPU_FEATURES = 0
#if defined(__SSE4_2__) && defined(__POPCNT__)
                       | HADAL_RT_CPU_SSE42_POPCNT
#endif
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
                       | HADAL_RT_CPU_AVX2_FMA_F16C
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) &&  \
    defined(__AVX512VL__)
                       | HADAL_RT_CPU_AVX512_F_BW_DQ_VL
#endif
#ifdef __AVX512VNNI__
                       | HADAL_RT_CPU_AVX512_VNNI
#endif
#ifdef __ARM_FEATURE_DOTPROD
                       | HADAL_RT_CPU_ARM_DOTPROD
#endif
#ifdef __ARM_FEATURE_MATMUL_INT8
                       | HADAL_RT_CPU_ARM_I8MM
#endif
#ifdef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
                       | HADAL_RT_CPU_ARM_BF16
#endif
};

namespace hadal_cpp {

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

typedef uint16_t bf16; ///< The upper half of an f32.
typedef uint16_t f16;  ///< IEEE 754 binary16.

#define HADAL_VECTORS(name, type)                                              \
  typedef type name##x1 __attribute__((vector_size(sizeof(type))));            \
  typedef type name##x2 __attribute__((vector_size(sizeof(type) * 2)));        \
  typedef type name##x4 __attribute__((vector_size(sizeof(type) * 4)));        \
  typedef type name##x8 __attribute__((vector_size(sizeof(type) * 8)));        \
  typedef type name##x16 __attribute__((vector_size(sizeof(type) * 16)));      \
  typedef type name##x32 __attribute__((vector_size(sizeof(type) * 32)));      \
  typedef type name##x64 __attribute__((vector_size(sizeof(type) * 64)));
HADAL_VECTORS(f32, float)
HADAL_VECTORS(bf16, uint16_t)
HADAL_VECTORS(f16, uint16_t)
HADAL_VECTORS(i64, int64_t)
HADAL_VECTORS(u32, uint32_t)
HADAL_VECTORS(i32, int32_t)
HADAL_VECTORS(u16, uint16_t)
HADAL_VECTORS(i16, int16_t)
HADAL_VECTORS(u8, uint8_t)
HADAL_VECTORS(i8, int8_t)
#undef HADAL_VECTORS

/// As many lanes of another type; half as many; what a lane is.
template <typename T, int count> struct vector_of {
  typedef T type __attribute__((vector_size(sizeof(T) * count)));
};
template <typename T, int count>
using vector = typename vector_of<T, count>::type;
template <typename V>
using lane = std::remove_reference_t<decltype(std::declval<V &>()[0])>;
template <typename V> constexpr int lanes = int(sizeof(V) / sizeof(lane<V>));

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

template <typename V> HADAL_INLINE V load(const void *from) {
  V value;
  memcpy(&value, from, sizeof(V));
  return value;
}

template <typename V> HADAL_INLINE void store(void *to, V value) {
  memcpy(to, &value, sizeof(V));
}

/// The first \p count lanes, at most all.
template <typename V, typename T>
HADAL_INLINE void store_first(T *to, V value, int64_t count) {
  for (int64_t i = 0; i < lanes<V>; ++i)
    if (i < count)
      to[i] = value[i];
}

HADAL_INLINE void prefetch(const void *address) {
  __builtin_prefetch(address, 0, 2);
}

/// Argument \p index of a kernel: an address, or a number.
template <typename T>
HADAL_INLINE T *buffer(const int64_t *params, int64_t index) {
  return reinterpret_cast<T *>(intptr_t(params[index]));
}

/// Page \p index of a sequence; in it, what is \p offset bytes after the start
/// of what \p layer keeps.
template <typename T>
HADAL_INLINE T *page(const hadal_rt_step_t *step, int64_t sequence,
                     int64_t index, int64_t layer, int64_t page_bytes,
                     int64_t layer_bytes, int64_t offset) {
  int64_t number = step->page_table[sequence * step->page_table_stride + index];
  return reinterpret_cast<T *>(step->kv + number * page_bytes +
                               layer * layer_bytes + offset);
}

/// What is \p offset bytes after the start of the arena.
template <typename T>
HADAL_INLINE T *arena(const hadal_rt_step_t *step, int64_t offset) {
  return reinterpret_cast<T *>(step->arena + offset);
}

/// What is \p offset bytes after the start of the weights.
HADAL_INLINE const void *weight(const hadal_rt_step_t *step, int64_t offset) {
  return step->weights + offset;
}

//===----------------------------------------------------------------------===//
// Dispatches
//===----------------------------------------------------------------------===//

HADAL_INLINE int64_t word(int64_t value) { return value; }
HADAL_INLINE int64_t word(const void *address) {
  return int64_t(reinterpret_cast<intptr_t>(address));
}

/// Runs \p kernel over items [0, items), and waits for all of them.
template <typename... Arguments>
HADAL_INLINE void dispatch(const hadal_rt_step_t *step,
                           hadal_rt_kernel_t kernel, int64_t items,
                           Arguments... arguments) {
  const int64_t params[] = {word(arguments)...};
  step->dispatch(step->pool, step, kernel, params, items);
}

/// Shows rows to the program that gathers statistics.
HADAL_INLINE void probe(const hadal_rt_probe_t &rows) { hadal_rt_probe(&rows); }

//===----------------------------------------------------------------------===//
// Indices and integers
//===----------------------------------------------------------------------===//

/// What is read from memory as 32 bits, which are not signed.
HADAL_INLINE int64_t to_index(int32_t value) { return uint32_t(value); }

HADAL_INLINE int64_t udiv(int64_t a, int64_t b) {
  return int64_t(uint64_t(a) / uint64_t(b));
}
HADAL_INLINE int64_t urem(int64_t a, int64_t b) {
  return int64_t(uint64_t(a) % uint64_t(b));
}
HADAL_INLINE int64_t umin(int64_t a, int64_t b) {
  return uint64_t(a) < uint64_t(b) ? a : b;
}
HADAL_INLINE int64_t umax(int64_t a, int64_t b) {
  return uint64_t(a) < uint64_t(b) ? b : a;
}

//===----------------------------------------------------------------------===//
// Lanes
//===----------------------------------------------------------------------===//

/// Each lane is \p value; a difference, because -0 + 0 would be 0.
template <typename V> HADAL_INLINE V splat(lane<V> value) {
  return value - V{};
}

/// The same bits, read as another type.
template <typename To, typename From> HADAL_INLINE To bit_cast(From value) {
  static_assert(sizeof(To) == sizeof(From), "expects as many bits");
  To result;
  memcpy(&result, &value, sizeof(To));
  return result;
}

/// Each lane, converted: truncated toward zero, or to its lowest bits.
template <typename To, typename From> HADAL_INLINE To convert(From value) {
  return __builtin_convertvector(value, To);
}

/// The same with lanes that are not signed.
template <typename To, typename From> HADAL_INLINE To zero_extend(From value) {
  using Bits = vector<std::make_unsigned_t<lane<From>>, lanes<From>>;
  return convert<To>(bit_cast<Bits>(value));
}

/// Each lane of \p value, which is not signed, shifted.
template <typename V> HADAL_INLINE V shift_right(V value, V bits) {
  using Bits = vector<std::make_unsigned_t<lane<V>>, lanes<V>>;
  return bit_cast<V>(bit_cast<Bits>(value) >> bit_cast<Bits>(bits));
}

/// a < b and a <= b of numbers, or of lanes, that are not signed.
template <typename T> HADAL_INLINE auto uless(T a, T b) {
  if constexpr (std::is_integral<T>::value) {
    return std::make_unsigned_t<T>(a) < std::make_unsigned_t<T>(b);
  } else {
    using Bits = vector<std::make_unsigned_t<lane<T>>, lanes<T>>;
    return bit_cast<Bits>(a) < bit_cast<Bits>(b);
  }
}
template <typename T> HADAL_INLINE auto uless_equal(T a, T b) {
  if constexpr (std::is_integral<T>::value) {
    return std::make_unsigned_t<T>(a) <= std::make_unsigned_t<T>(b);
  } else {
    using Bits = vector<std::make_unsigned_t<lane<T>>, lanes<T>>;
    return bit_cast<Bits>(a) <= bit_cast<Bits>(b);
  }
}

HADAL_INLINE int32_t shift_right(int32_t value, int32_t bits) {
  return int32_t(uint32_t(value) >> bits);
}

template <int... from, typename V> HADAL_INLINE auto shuffle(V a, V b) {
  return __builtin_shufflevector(a, b, from...);
}

template <int begin, int stride, typename V, int... i>
HADAL_INLINE auto some_lanes(V v, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(v, v, begin + stride * i...);
}
/// Lanes [begin, begin + count).
template <int begin, int count, typename V> HADAL_INLINE auto slice(V v) {
  return some_lanes<begin, 1>(v, std::make_integer_sequence<int, count>());
}
/// Every \p stride-th lane from \p begin on.
template <int stride, int begin, typename V> HADAL_INLINE auto every(V v) {
  return some_lanes<begin, stride>(
      v, std::make_integer_sequence<int, lanes<V> / stride>());
}
template <typename V> HADAL_INLINE auto low(V v) {
  return slice<0, lanes<V> / 2>(v);
}
template <typename V> HADAL_INLINE auto high(V v) {
  return slice<lanes<V> / 2, lanes<V> / 2>(v);
}
template <typename V, int... i>
HADAL_INLINE auto join(V a, V b, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(a, b, i...);
}
/// The lanes of \p a, then those of \p b.
template <typename V> HADAL_INLINE auto join(V a, V b) {
  return join(a, b, std::make_integer_sequence<int, 2 * lanes<V>>());
}
template <typename V, int... i>
HADAL_INLINE auto interleave(V a, V b, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(a, b, (i / 2 + i % 2 * lanes<V>)...);
}
/// a[0], b[0], a[1], b[1], ..
template <typename V> HADAL_INLINE auto interleave(V a, V b) {
  return interleave(a, b, std::make_integer_sequence<int, 2 * lanes<V>>());
}

template <typename V> HADAL_INLINE V min(V a, V b) { return b < a ? b : a; }
template <typename V> HADAL_INLINE V max(V a, V b) { return a < b ? b : a; }

/// Halves are added until one lane is left.
template <typename V> HADAL_INLINE lane<V> sum_lanes(V v) {
  if constexpr (lanes<V> == 1)
    return v[0];
  else
    return sum_lanes(low(v) + high(v));
}
template <typename V> HADAL_INLINE lane<V> max_lane(V v) {
  if constexpr (lanes<V> == 1)
    return v[0];
  else
    return max_lane(max(low(v), high(v)));
}

//===----------------------------------------------------------------------===//
// Floating point
//===----------------------------------------------------------------------===//

#if defined(__AVX512F__)
constexpr size_t register_bytes = 64;
#elif defined(__AVX2__)
constexpr size_t register_bytes = 32;
#else
constexpr size_t register_bytes = 16;
#endif

HADAL_INLINE float fma(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}

/// a * b + c, rounded once. Slow where the processor has no such instruction.
template <typename V> HADAL_INLINE V fma(V a, V b, V c) {
  if constexpr (sizeof(V) > register_bytes)
    return join(fma(low(a), low(b), low(c)), fma(high(a), high(b), high(c)));
#if defined(__AVX512F__)
  else if constexpr (sizeof(V) == 64)
    return V(_mm512_fmadd_ps(a, b, c));
#endif
#if defined(__FMA__)
  else if constexpr (sizeof(V) == 32)
    return V(_mm256_fmadd_ps(a, b, c));
  else if constexpr (sizeof(V) == 16)
    return V(_mm_fmadd_ps(a, b, c));
#elif defined(__aarch64__)
  else if constexpr (sizeof(V) == 16)
    return V(vfmaq_f32(c, a, b));
#endif
  else {
    V result = {};
    for (int i = 0; i < lanes<V>; ++i)
      result[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return result;
  }
}

/// Without errno, and so without the C library.
HADAL_INLINE float sqrt(float a) {
#if defined(__x86_64__)
  return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a)));
#elif defined(__aarch64__)
  return vget_lane_f32(vsqrt_f32(vdup_n_f32(a)), 0);
#else
  return __builtin_sqrtf(a);
#endif
}
template <typename V> HADAL_INLINE V sqrt(V a) {
  for (int i = 0; i < lanes<V>; ++i)
    a[i] = sqrt(float(a[i]));
  return a;
}

HADAL_INLINE float abs(float a) { return __builtin_fabsf(a); }
template <typename V> HADAL_INLINE V abs(V a) {
  if constexpr (std::is_same<lane<V>, float>::value) {
    using Bits = vector<int32_t, lanes<V>>;
    return bit_cast<V>(bit_cast<Bits>(a) & 0x7fffffff);
  } else {
    return a < 0 ? -a : a;
  }
}

/// To the nearest integer, or the even one of two.
template <typename V> HADAL_INLINE V round_even(V a) {
  using Bits = vector<int32_t, lanes<V>>;
  V magnitude = abs(a);
  // From 2^23 on all numbers are integers, and before it, these are rounded.
  V rounded = (magnitude + 0x1p23f) - 0x1p23f;
  V result = magnitude < 0x1p23f ? rounded : magnitude;
  return bit_cast<V>(bit_cast<Bits>(result) |
                     (bit_cast<Bits>(a) & Bits(splat<Bits>(INT32_MIN))));
}
HADAL_INLINE float round_even(float a) { return round_even(f32x1{a})[0]; }

HADAL_INLINE float floor(float a) { return __builtin_floorf(a); }
template <typename V> HADAL_INLINE V floor(V a) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64)
    return V(_mm512_maskz_roundscale_ps(
        0xffff, a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
#endif
  V rounded = round_even(a);
  return a < rounded ? rounded - 1.0f : rounded;
}

/// e^x to 2 units in the last place; 0 below -87.3, finite above 88. Range
/// reduction by multiples of ln 2 in two parts and a polynomial of degree 7
/// (Cephes `expf`, Moshier 1989).
template <typename V> HADAL_INLINE V exp(V x) {
  using Bits = vector<int32_t, lanes<V>>;
  V clamped = min(max(x, splat<V>(-87.3f)), splat<V>(88.3f));
  V n = floor(fma(clamped, splat<V>(1.44269504f), splat<V>(0.5f)));
  V r = fma(n, splat<V>(-0.693359375f), clamped);
  r = fma(n, splat<V>(2.1219444e-4f), r);
  V p = splat<V>(1.98756915e-4f);
  p = fma(p, r, splat<V>(1.39819995e-3f));
  p = fma(p, r, splat<V>(8.33345191e-3f));
  p = fma(p, r, splat<V>(4.16657959e-2f));
  p = fma(p, r, splat<V>(0.166666655f));
  p = fma(p, r, splat<V>(0.5f));
  p = fma(p, r * r, r) + 1.0f;
  V power = bit_cast<V>((convert<Bits>(n) + 127) << 23);
  return x < -87.3f ? splat<V>(0.0f) : p * power;
}
HADAL_INLINE float exp(float x) { return exp(f32x1{x})[0]; }

/// 1 / (1 + e^-x).
template <typename V> HADAL_INLINE V sigmoid(V x) {
  return 1.0f / (exp(0.0f - x) + 1.0f);
}

/// ln(1 + e^x) = max(x, 0) + ln(1 + y) with y = e^-|x|, and
/// ln(1 + y) = 2 artanh(y / (2 + y)) by its series.
template <typename V> HADAL_INLINE V softplus(V x) {
  V y = exp(0.0f - max(x, 0.0f - x));
  V s = y / (y + 2.0f);
  V t = s * s;
  V series = splat<V>(float(1.0 / 17));
  for (int n = 15; n > 0; n -= 2)
    series = fma(series, t, splat<V>(float(1.0 / n)));
  return max(x, splat<V>(0.0f)) + s * 2.0f * series;
}
HADAL_INLINE float softplus(float x) { return softplus(f32x1{x})[0]; }

//===----------------------------------------------------------------------===//
// 16-bit floating point
//===----------------------------------------------------------------------===//

template <typename V> HADAL_INLINE auto widen_bf16(V stored) {
  using Bits = vector<uint32_t, lanes<V>>;
  return bit_cast<vector<float, lanes<V>>>(convert<Bits>(stored) << 16);
}
HADAL_INLINE float widen_bf16(bf16 stored) {
  return bit_cast<float>(uint32_t(stored) << 16);
}

/// Rounds to nearest, ties to even.
template <typename V> HADAL_INLINE auto narrow_bf16(V value) {
  using Bits = vector<uint32_t, lanes<V>>;
  Bits bits = bit_cast<Bits>(value);
  Bits rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  Bits quiet = bits >> 16 | 0x40;
  return convert<vector<uint16_t, lanes<V>>>(
      (bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}
HADAL_INLINE bf16 narrow_bf16(float value) {
  return narrow_bf16(f32x1{value})[0];
}

template <typename V> HADAL_INLINE auto widen_f16(V stored) {
  using Wide = vector<float, lanes<V>>;
#if defined(__AVX512F__)
  if constexpr (sizeof(Wide) == 64)
    return Wide(_mm512_maskz_cvtph_ps(0xffff, bit_cast<__m256i>(stored)));
#endif
#if defined(__F16C__)
  if constexpr (sizeof(Wide) == 64 && register_bytes == 32)
    return join(widen_f16(low(stored)), widen_f16(high(stored)));
  if constexpr (sizeof(Wide) == 32)
    return Wide(_mm256_cvtph_ps(bit_cast<__m128i>(stored)));
#endif
  using Bits = vector<uint32_t, lanes<V>>;
  Bits bits = convert<Bits>(stored);
  // The exponent is 112 too small, also that of subnormal numbers.
  Bits magnitude = (bits & 0x7fff) << 13;
  Bits scaled = bit_cast<Bits>(bit_cast<Wide>(magnitude) * 0x1p112f);
  Bits result = (bits & 0x7c00) == 0x7c00 ? magnitude | 0x7f800000 : scaled;
  return bit_cast<Wide>(result | (bits & 0x8000) << 16);
}
HADAL_INLINE float widen_f16(f16 stored) { return widen_f16(f16x1{stored})[0]; }

/// Rounds to nearest, ties to even.
template <typename V> HADAL_INLINE auto narrow_f16(V value) {
  using Bits = vector<uint32_t, lanes<V>>;
  Bits bits = bit_cast<Bits>(value);
  Bits magnitude = bits & 0x7fffffff;
  Bits normal =
      (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // The sum with 1/2 rounds to the 24 bits after the point that there are.
  Bits small = bit_cast<Bits>(bit_cast<V>(magnitude) + 0.5f) - 0x3f000000;
  Bits large =
      magnitude > 0x7f800000 ? splat<Bits>(0x7e00) : splat<Bits>(0x7c00);
  Bits result = magnitude < 0x38800000 ? small : normal;
  result = magnitude >= 0x47800000 ? large : result;
  return convert<vector<uint16_t, lanes<V>>>(result | (bits >> 16 & 0x8000));
}
HADAL_INLINE f16 narrow_f16(float value) { return narrow_f16(f32x1{value})[0]; }

//===----------------------------------------------------------------------===//
// Products of bytes
//===----------------------------------------------------------------------===//

/// Adds to each lane four products of signed bytes. The sum is exact, so that
/// all forms of it give the same.
HADAL_INLINE i32x16 add_dot4(i32x16 sums, i8x64 weights, i8x64 inputs) {
#if defined(__AVX512VNNI__)
  // The instruction takes weights without a sign: 128 more than they are.
  auto more = bit_cast<i32x16>(_mm512_dpbusd_epi32(_mm512_setzero_si512(),
                                                   _mm512_set1_epi8(INT8_MIN),
                                                   bit_cast<__m512i>(inputs)));
  i8x64 shifted = weights ^ splat<i8x64>(INT8_MIN);
  return bit_cast<i32x16>(_mm512_dpbusd_epi32(bit_cast<__m512i>(sums),
                                              bit_cast<__m512i>(shifted),
                                              bit_cast<__m512i>(inputs))) -
         more;
#elif defined(__AVX2__)
  // The signs of the weights move to the inputs.
  auto half = [](__m256i w, __m256i x) {
    __m256i pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return bit_cast<i32x8>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  };
  return sums + join(half(bit_cast<__m256i>(low(weights)),
                          bit_cast<__m256i>(low(inputs))),
                     half(bit_cast<__m256i>(high(weights)),
                          bit_cast<__m256i>(high(inputs))));
#elif defined(__ARM_FEATURE_DOTPROD)
  i32x4 parts[] = {slice<0, 4>(sums), slice<4, 4>(sums), slice<8, 4>(sums),
                   slice<12, 4>(sums)};
  i8x16 w[] = {slice<0, 16>(weights), slice<16, 16>(weights),
               slice<32, 16>(weights), slice<48, 16>(weights)};
  i8x16 x[] = {slice<0, 16>(inputs), slice<16, 16>(inputs),
               slice<32, 16>(inputs), slice<48, 16>(inputs)};
  for (int i = 0; i < 4; ++i)
    parts[i] = i32x4(vdotq_s32(parts[i], w[i], x[i]));
  return join(join(parts[0], parts[1]), join(parts[2], parts[3]));
#else
  sums += convert<i32x16>(every<4, 0>(weights)) *
          convert<i32x16>(every<4, 0>(inputs));
  sums += convert<i32x16>(every<4, 1>(weights)) *
          convert<i32x16>(every<4, 1>(inputs));
  sums += convert<i32x16>(every<4, 2>(weights)) *
          convert<i32x16>(every<4, 2>(inputs));
  sums += convert<i32x16>(every<4, 3>(weights)) *
          convert<i32x16>(every<4, 3>(inputs));
  return sums;
#endif
}

/// The same with weights that are not negative.
HADAL_INLINE i32x16 add_dot4_nonnegative(i32x16 sums, i8x64 weights,
                                         i8x64 inputs) {
#if defined(__AVX512VNNI__)
  return bit_cast<i32x16>(_mm512_dpbusd_epi32(bit_cast<__m512i>(sums),
                                              bit_cast<__m512i>(weights),
                                              bit_cast<__m512i>(inputs)));
#else
  return add_dot4(sums, weights, inputs);
#endif
}

/// Adds eight products of signed bytes to each of four sums: those of row i of
/// \p a, bytes [8 i, 8 i + 8), with row j of \p b to lane 2 i + j.
HADAL_INLINE i32x4 add_dot8_pairs(i32x4 sums, i8x16 a, i8x16 b) {
#if defined(__ARM_FEATURE_MATMUL_INT8)
  return i32x4(vmmlaq_s32(sums, a, b));
#else
  for (int i = 0; i < 4; ++i)
    for (int k = 0; k < 8; ++k)
      sums[i] += a[i / 2 * 8 + k] * b[i % 2 * 8 + k];
  return sums;
#endif
}

/// The products alone.
HADAL_INLINE i32x16 dot4(i8x64 weights, i8x64 inputs) {
  return add_dot4(i32x16{}, weights, inputs);
}
HADAL_INLINE i32x16 dot4_nonnegative(i8x64 weights, i8x64 inputs) {
  return add_dot4_nonnegative(i32x16{}, weights, inputs);
}

//===----------------------------------------------------------------------===//
// Products of pairs of bf16
//===----------------------------------------------------------------------===//

/// Adds to each of four sums two products, of numbers side by side. Processors
/// that do so with an instruction round sums otherwise than those that do not.
HADAL_INLINE f32x4 add_dot2_bf16(f32x4 sums, bf16x8 a, bf16x8 b) {
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  return f32x4(
      vbfdotq_f32(sums, bit_cast<bfloat16x8_t>(a), bit_cast<bfloat16x8_t>(b)));
#else
  sums = fma(widen_bf16(every<2, 1>(a)), widen_bf16(every<2, 1>(b)), sums);
  return fma(widen_bf16(every<2, 0>(a)), widen_bf16(every<2, 0>(b)), sums);
#endif
}

/// Adds four products to each of four sums: those of row i of \p a, numbers
/// [4 i, 4 i + 4), with row j of \p b to lane 2 i + j.
HADAL_INLINE f32x4 add_dot4_bf16_pairs(f32x4 sums, bf16x8 a, bf16x8 b) {
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  return f32x4(
      vbfmmlaq_f32(sums, bit_cast<bfloat16x8_t>(a), bit_cast<bfloat16x8_t>(b)));
#else
  i32x4 x = bit_cast<i32x4>(a), y = bit_cast<i32x4>(b);
  sums = add_dot2_bf16(sums, bit_cast<bf16x8>(shuffle<0, 0, 2, 2>(x, x)),
                       bit_cast<bf16x8>(shuffle<0, 2, 0, 2>(y, y)));
  return add_dot2_bf16(sums, bit_cast<bf16x8>(shuffle<1, 1, 3, 3>(x, x)),
                       bit_cast<bf16x8>(shuffle<1, 3, 1, 3>(y, y)));
#endif
}

} // namespace hadal_cpp

#endif // HADAL_RT_KERNELS_H
