// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every code of the small formats, and their ties, against code that is plain.

#include "lib/Packer/FloatConversion.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <random>

using namespace hadal;

static float fromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

/// The value of \p code, from the definition of the format.
static double decode(unsigned code, int exponentBits, int mantissaBits) {
  int bias = (1 << (exponentBits - 1)) - 1;
  int exponent = int(code >> mantissaBits) & ((1 << exponentBits) - 1);
  int mantissa = int(code & ((1u << mantissaBits) - 1));
  double magnitude = exponent == 0
                         ? std::ldexp(mantissa, 1 - bias - mantissaBits)
                         : std::ldexp(mantissa + (1 << mantissaBits),
                                      exponent - bias - mantissaBits);
  return code >> (exponentBits + mantissaBits) ? -magnitude : magnitude;
}

struct Format {
  ElementKind kind;
  int exponentBits, mantissaBits;
  unsigned maxCode; ///< The largest finite number.
};

static const Format formats[] = {{ElementKind::F16, 5, 10, 0x7bff},
                                 {ElementKind::BF16, 8, 7, 0x7f7f},
                                 {ElementKind::F8E4M3FN, 4, 3, 0x7e}};

static unsigned narrowOne(ElementKind kind, float value) {
  uint16_t code = 0;
  narrow(kind, &value, 1, &code); // Little-endian.
  return code;
}

static float widenOne(ElementKind kind, unsigned code) {
  auto element = uint16_t(code);
  float value;
  widen(kind, &element, 1, &value);
  return value;
}

TEST(FloatConversion, WidensEveryFiniteCode) {
  for (const Format &format : formats)
    for (unsigned code = 0; code <= format.maxCode; ++code)
      for (unsigned sign : {0u, 1u}) {
        unsigned signedCode =
            code | sign << (format.exponentBits + format.mantissaBits);
        float value = widenOne(format.kind, signedCode);
        ASSERT_EQ(value,
                  decode(signedCode, format.exponentBits, format.mantissaBits))
            << getName(format.kind) << " " << signedCode;
        ASSERT_EQ(std::signbit(value), sign == 1);
        ASSERT_EQ(narrowOne(format.kind, value), signedCode);
      }
}

TEST(FloatConversion, WidensWhatIsNotFinite) {
  EXPECT_EQ(widenOne(ElementKind::F16, 0x7c00), INFINITY);
  EXPECT_EQ(widenOne(ElementKind::F16, 0xfc00), -INFINITY);
  EXPECT_TRUE(std::isnan(widenOne(ElementKind::F16, 0x7c01)));
  EXPECT_EQ(widenOne(ElementKind::BF16, 0x7f80), INFINITY);
  EXPECT_TRUE(std::isnan(widenOne(ElementKind::BF16, 0xffc0)));
  EXPECT_TRUE(std::isnan(widenOne(ElementKind::F8E4M3FN, 0x7f)));
  EXPECT_TRUE(std::isnan(widenOne(ElementKind::F8E4M3FN, 0xff)));
}

// Halfway between two neighbors, the even one; just beside it, the nearer one.
TEST(FloatConversion, RoundsToNearestEven) {
  for (const Format &format : formats)
    for (unsigned code = 0; code < format.maxCode; ++code) {
      double below = decode(code, format.exponentBits, format.mantissaBits);
      double above = decode(code + 1, format.exponentBits, format.mantissaBits);
      auto middle = float((below + above) / 2);
      ASSERT_EQ(double(middle), (below + above) / 2);
      unsigned even = code % 2 ? code + 1 : code;
      ASSERT_EQ(narrowOne(format.kind, middle), even) << middle;
      ASSERT_EQ(narrowOne(format.kind, std::nextafter(middle, 0.0f)), code);
      ASSERT_EQ(narrowOne(format.kind, std::nextafter(middle, INFINITY)),
                code + 1);
      unsigned sign = 1u << (format.exponentBits + format.mantissaBits);
      ASSERT_EQ(narrowOne(format.kind, -middle), even | sign);
    }
}

TEST(FloatConversion, OverflowIsNotFinite) {
  // The largest number plus half a unit in the last place is a tie to even,
  // which in f16 and bf16 is the number that is too large.
  EXPECT_EQ(narrowOne(ElementKind::F16, 65519.996f), 0x7bffu);
  EXPECT_EQ(narrowOne(ElementKind::F16, 65520.0f), 0x7c00u);
  EXPECT_EQ(narrowOne(ElementKind::F16, -1e30f), 0xfc00u);
  EXPECT_EQ(narrowOne(ElementKind::BF16, fromBits(0x7f7f7fff)), 0x7f7fu);
  EXPECT_EQ(narrowOne(ElementKind::BF16, fromBits(0x7f7f8000)), 0x7f80u);
  EXPECT_EQ(narrowOne(ElementKind::F8E4M3FN, 464.0f), 0x7eu);
  EXPECT_EQ(narrowOne(ElementKind::F8E4M3FN, 464.0001f), 0x7fu);
  EXPECT_EQ(narrowOne(ElementKind::F8E4M3FN, -1e38f), 0xffu);
  EXPECT_EQ(narrowOne(ElementKind::F8E4M3FN, INFINITY), 0x7fu);
}

// Loops over whole arrays are vector code, so compare those with single ones.
TEST(FloatConversion, ArraysAreLikeSingleNumbers) {
  std::mt19937 random(1);
  std::vector<float> numbers(1003);
  for (float &number : numbers) {
    uint32_t bits = uint32_t(random());
    number = std::isfinite(fromBits(bits)) ? fromBits(bits) : 1.0f;
  }
  for (const Format &format : formats) {
    std::vector<uint16_t> codes(numbers.size());
    narrow(format.kind, numbers.data(), int64_t(numbers.size()), codes.data());
    for (size_t i = 0; i < numbers.size(); ++i) {
      unsigned code = sizeBytes(format.kind) == 2
                          ? codes[i]
                          : reinterpret_cast<uint8_t *>(codes.data())[i];
      ASSERT_EQ(code, narrowOne(format.kind, numbers[i])) << numbers[i];
    }
  }
}

TEST(FloatConversion, FindsTheFirstThatIsNotFinite) {
  std::vector<uint16_t> data(10000, 0x3f80);
  EXPECT_EQ(findNonFinite(ElementKind::BF16, data.data(), 10000), -1);
  data[9001] = 0xff80;
  data[9002] = 0x7fc0;
  EXPECT_EQ(findNonFinite(ElementKind::BF16, data.data(), 10000), 9001);
  EXPECT_EQ(findNonFinite(ElementKind::BF16, data.data(), 9001), -1);
  const uint8_t bytes[] = {0x7e, 0x80, 0xfe, 0xff};
  EXPECT_EQ(findNonFinite(ElementKind::F8E4M3FN, bytes, 4), 3);
  const float floats[] = {1e38f, -INFINITY};
  EXPECT_EQ(findNonFinite(ElementKind::F32, floats, 2), 1);
}

TEST(FloatConversion, WidensPowersOfTwo) {
  for (unsigned code = 0; code < 255; ++code)
    EXPECT_EQ(widenOne(ElementKind::F8E8M0FNU, code),
              float(std::ldexp(1.0, int(code) - 127)))
        << code;
  EXPECT_TRUE(std::isnan(widenOne(ElementKind::F8E8M0FNU, 255)));
  const uint8_t codes[] = {0, 254, 255};
  EXPECT_EQ(findNonFinite(ElementKind::F8E8M0FNU, codes, 3), 2);
  EXPECT_EQ(findNonFinite(ElementKind::F8E8M0FNU, codes, 2), -1);
}
