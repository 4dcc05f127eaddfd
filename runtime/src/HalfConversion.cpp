// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// f16 to f32 and back for processors that have no instructions for it, under
// the names that compilers call (compiler-rt; the libgcc of RISC-V lacks them).

// A compiler without the type calls none.
#if defined(__riscv) && !defined(__riscv_zfhmin) && defined(__FLT16_MANT_DIG__)

#include <stdint.h>
#include <string.h>

extern "C" {

float __extendhfsf2(_Float16 value) {
  uint16_t bits;
  memcpy(&bits, &value, sizeof(bits));
  uint32_t sign = uint32_t(bits & 0x8000) << 16;
  uint32_t exponent = bits >> 10 & 0x1f, fraction = bits & 0x3ff;
  float result;
  if (exponent == 0) { // Zero, or a subnormal: fraction * 2^-24 exactly.
    result = float(fraction) * 0x1p-24f;
    uint32_t magnitude;
    memcpy(&magnitude, &result, sizeof(magnitude));
    magnitude |= sign;
    memcpy(&result, &magnitude, sizeof(result));
    return result;
  }
  uint32_t wide = exponent == 0x1f ? 0xff : exponent + (127 - 15);
  uint32_t whole = sign | wide << 23 | fraction << 13;
  if (exponent == 0x1f && fraction)
    whole |= 1u << 22; // Quiet.
  memcpy(&result, &whole, sizeof(result));
  return result;
}

/// Rounds to nearest, ties to even.
_Float16 __truncsfhf2(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  uint16_t sign = uint16_t(bits >> 16 & 0x8000);
  uint32_t magnitude = bits & 0x7fffffff;
  uint16_t result;
  if (magnitude > 0x7f800000) { // NaN
    result = uint16_t(0x7e00 | (magnitude >> 13 & 0x3ff));
  } else if (magnitude >= 0x47800000) { // 65536 and more
    result = 0x7c00;
  } else if (magnitude < 0x38800000) { // Below 2^-14: a multiple of 2^-24.
    float scaled;
    memcpy(&scaled, &magnitude, sizeof(scaled));
    // 2^23 has its last bit at 1: the sum rounds to a whole number.
    scaled = scaled * 0x1p24f + 0x1p23f;
    memcpy(&magnitude, &scaled, sizeof(magnitude));
    result = uint16_t(magnitude & 0x7fffff);
  } else {
    uint32_t odd = magnitude >> 13 & 1;
    magnitude += 0xfff + odd - (uint32_t(127 - 15) << 23);
    result = uint16_t(magnitude >> 13);
  }
  result |= sign;
  _Float16 half;
  memcpy(&half, &result, sizeof(half));
  return half;
}

} // extern "C"

#endif
