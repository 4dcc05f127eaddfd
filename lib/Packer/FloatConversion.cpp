// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Conversions between the element types of weights. Loops have no branches, so
// that they become vector code.

#include "lib/Packer/FloatConversion.h"

#include "mlir/IR/BuiltinTypes.h"

#include <array>
#include <cstring>

using namespace hadal;

std::optional<ElementKind> hadal::getElementKind(mlir::Type type) {
  if (type.isF32())
    return ElementKind::F32;
  if (type.isF16())
    return ElementKind::F16;
  if (type.isBF16())
    return ElementKind::BF16;
  if (llvm::isa<mlir::Float8E4M3FNType>(type))
    return ElementKind::F8E4M3FN;
  if (llvm::isa<mlir::Float8E8M0FNUType>(type))
    return ElementKind::F8E8M0FNU;
  if (type.isSignlessInteger(32))
    return ElementKind::I32;
  if (type.isSignlessInteger(64))
    return ElementKind::I64;
  for (ElementKind kind :
       {ElementKind::I8, ElementKind::I3, ElementKind::I4, ElementKind::I5,
        ElementKind::I6, ElementKind::UI2, ElementKind::UI4, ElementKind::UI5})
    if (isUnsigned(kind) ? type.isUnsignedInteger(unsigned(bitsOf(kind)))
                         : type.isSignlessInteger(unsigned(bitsOf(kind))))
      return kind;
  return std::nullopt;
}

const char *hadal::getName(ElementKind kind) {
  switch (kind) {
  case ElementKind::F32:
    return "f32";
  case ElementKind::F16:
    return "f16";
  case ElementKind::BF16:
    return "bf16";
  case ElementKind::F8E4M3FN:
    return "f8E4M3FN";
  case ElementKind::F8E8M0FNU:
    return "f8E8M0FNU";
  case ElementKind::I32:
    return "i32";
  case ElementKind::I64:
    return "i64";
  case ElementKind::I8:
    return "i8";
  case ElementKind::I3:
    return "i3";
  case ElementKind::I4:
    return "i4";
  case ElementKind::I5:
    return "i5";
  case ElementKind::I6:
    return "i6";
  case ElementKind::UI2:
    return "ui2";
  case ElementKind::UI4:
    return "ui4";
  case ElementKind::UI5:
    return "ui5";
  }
  llvm_unreachable("unknown element kind");
}

static float toFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

static uint32_t toBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

/// Widens a format of \p exponentBits and \p mantissaBits below a sign. The
/// bits are those of an f32 whose exponent is off by the difference of the
/// biases; one multiplication repairs that, for subnormals as well.
static float widenBits(uint32_t bits, unsigned exponentBits,
                       unsigned mantissaBits) {
  unsigned signBit = exponentBits + mantissaBits;
  uint32_t bias = (1u << (exponentBits - 1)) - 1;
  uint32_t magnitude = bits & ((1u << signBit) - 1);
  float scale = toFloat((127 - bias + 127) << 23);
  uint32_t result = toBits(toFloat(magnitude << (23 - mantissaBits)) * scale);
  return toFloat(result | (bits >> signBit) << 31);
}

static float widenF16(uint16_t bits) {
  float value = widenBits(bits, 5, 10);
  // The largest exponent means infinity or NaN.
  uint32_t special = (bits & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
  return toFloat(toBits(value) | special);
}

static float widenF8(uint8_t bits) {
  return (bits & 0x7f) == 0x7f ? toFloat(0x7fc00000 | uint32_t(bits >> 7) << 31)
                               : widenBits(bits, 4, 3);
}

/// 2^(bits - 127); 0 is subnormal in f32, and 255 NaN.
static float widenE8M0(uint8_t bits) {
  return toFloat(bits == 0     ? 0x00400000
                 : bits == 255 ? 0x7fc00000
                               : bits << 23);
}

static const std::array<float, 256> &getF8Table() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values;
    for (unsigned i = 0; i < 256; ++i)
      values[i] = widenF8(uint8_t(i));
    return values;
  }();
  return table;
}

/// Rounds to a format of \p exponentBits and \p mantissaBits below a sign;
/// what is too large for it gets \p overflow. NaN is not looked for.
static uint32_t narrowBits(float value, unsigned exponentBits,
                           unsigned mantissaBits, uint32_t overflow) {
  uint32_t bits = toBits(value);
  uint32_t sign = bits >> 31 << (exponentBits + mantissaBits);
  uint32_t magnitude = bits & 0x7fffffff;
  uint32_t bias = (1u << (exponentBits - 1)) - 1;
  unsigned shift = 23 - mantissaBits;

  // Subnormals: adding a number whose unit in the last place is the smallest
  // subnormal makes the addition round to it.
  uint32_t magicBits = (127 - bias + shift + 1) << 23;
  uint32_t subnormal =
      toBits(toFloat(magnitude) + toFloat(magicBits)) - magicBits;

  uint32_t isOdd = magnitude >> shift & 1;
  uint32_t normal =
      (magnitude - ((127 - bias) << 23) + ((1u << (shift - 1)) - 1) + isOdd) >>
      shift;
  bool isNormal = magnitude >= (127 - bias + 1) << 23;
  uint32_t result = isNormal ? normal : subnormal;
  result = isNormal && (normal > overflow || magnitude >= 0x7f800000) ? overflow
                                                                      : result;
  return sign | result;
}

static uint16_t narrowF16(float value) {
  return uint16_t(narrowBits(value, 5, 10, 0x7c00));
}

static uint8_t narrowF8(float value) {
  return uint8_t(narrowBits(value, 4, 3, 0x7f));
}

static uint16_t narrowBF16(float value) {
  uint32_t bits = toBits(value);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void hadal::widen(ElementKind kind, const void *from, int64_t count,
                  float *to) {
  switch (kind) {
  case ElementKind::F32:
    std::memcpy(to, from, size_t(count) * 4);
    return;
  case ElementKind::F16:
    for (int64_t i = 0; i < count; ++i)
      to[i] = widenF16(static_cast<const uint16_t *>(from)[i]);
    return;
  case ElementKind::BF16:
    for (int64_t i = 0; i < count; ++i)
      to[i] = toFloat(uint32_t(static_cast<const uint16_t *>(from)[i]) << 16);
    return;
  case ElementKind::F8E4M3FN: {
    const std::array<float, 256> &table = getF8Table();
    for (int64_t i = 0; i < count; ++i)
      to[i] = table[static_cast<const uint8_t *>(from)[i]];
    return;
  }
  case ElementKind::F8E8M0FNU:
    for (int64_t i = 0; i < count; ++i)
      to[i] = widenE8M0(static_cast<const uint8_t *>(from)[i]);
    return;
  case ElementKind::I8:
  case ElementKind::I3:
  case ElementKind::I4:
  case ElementKind::I5:
  case ElementKind::I6:
  case ElementKind::UI2:
  case ElementKind::UI4:
  case ElementKind::UI5:
    for (int64_t i = 0; i < count; ++i)
      to[i] = static_cast<const int8_t *>(from)[i];
    return;
  case ElementKind::I32:
  case ElementKind::I64:
    llvm_unreachable("numbers of a table do not fit f32");
  }
}

void hadal::narrow(ElementKind kind, const float *from, int64_t count,
                   void *to) {
  switch (kind) {
  case ElementKind::F32:
    std::memcpy(to, from, size_t(count) * 4);
    return;
  case ElementKind::F16:
    for (int64_t i = 0; i < count; ++i)
      static_cast<uint16_t *>(to)[i] = narrowF16(from[i]);
    return;
  case ElementKind::BF16:
    for (int64_t i = 0; i < count; ++i)
      static_cast<uint16_t *>(to)[i] = narrowBF16(from[i]);
    return;
  case ElementKind::F8E4M3FN:
    for (int64_t i = 0; i < count; ++i)
      static_cast<uint8_t *>(to)[i] = narrowF8(from[i]);
    return;
  case ElementKind::F8E8M0FNU:
    llvm_unreachable("no weight is rounded to powers of two");
  case ElementKind::I8:
  case ElementKind::I3:
  case ElementKind::I4:
  case ElementKind::I5:
  case ElementKind::I6:
  case ElementKind::UI2:
  case ElementKind::UI4:
  case ElementKind::UI5:
  case ElementKind::I32:
  case ElementKind::I64:
    llvm_unreachable("integers have scales; see Quantization.h");
  }
}

/// The first of \p count elements all of whose \p mask bits are set, or -1.
template <typename T>
static int64_t findMasked(const T *data, int64_t count, T mask) {
  constexpr int64_t block = 4096;
  for (int64_t begin = 0; begin < count; begin += block) {
    int64_t end = std::min(begin + block, count);
    T found = 0;
    for (int64_t i = begin; i < end; ++i)
      found |= T(T(data[i] & mask) == mask);
    if (!found)
      continue;
    for (int64_t i = begin; i < end; ++i)
      if (T(data[i] & mask) == mask)
        return i;
  }
  return -1;
}

int64_t hadal::findNonFinite(ElementKind kind, const void *data,
                             int64_t count) {
  switch (kind) {
  case ElementKind::F32:
    return findMasked<uint32_t>(static_cast<const uint32_t *>(data), count,
                                0x7f800000);
  case ElementKind::F16:
    return findMasked<uint16_t>(static_cast<const uint16_t *>(data), count,
                                0x7c00);
  case ElementKind::BF16:
    return findMasked<uint16_t>(static_cast<const uint16_t *>(data), count,
                                0x7f80);
  case ElementKind::F8E4M3FN:
    return findMasked<uint8_t>(static_cast<const uint8_t *>(data), count, 0x7f);
  case ElementKind::F8E8M0FNU:
    return findMasked<uint8_t>(static_cast<const uint8_t *>(data), count, 0xff);
  case ElementKind::I8:
  case ElementKind::I3:
  case ElementKind::I4:
  case ElementKind::I5:
  case ElementKind::I6:
  case ElementKind::UI2:
  case ElementKind::UI4:
  case ElementKind::UI5:
  case ElementKind::I32:
  case ElementKind::I64:
    return -1;
  }
  llvm_unreachable("unknown element kind");
}
