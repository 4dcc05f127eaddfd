// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The block formats of GGUF files: their sizes, and the numbers they stand for,
// which are those of `dequantize_row_*` of ggml (src/ggml-quants.c), with the
// same products and sums in f32 in the same order.

#include "dialects/DeepSeek/IR/GGUFBlocks.h"

#include "llvm/Support/Endian.h"

#include <cstring>

// A fused multiply-add would round once where ggml rounds twice.
#pragma STDC FP_CONTRACT OFF

using namespace hadal::deepseek;

GGUFBlock hadal::deepseek::getGGUFBlock(GGUFFormat format) {
  switch (format) {
  case GGUFFormat::Q4_0:
    return {32, 18};
  case GGUFFormat::Q4_1:
    return {32, 20};
  case GGUFFormat::Q5_0:
    return {32, 22};
  case GGUFFormat::Q5_1:
    return {32, 24};
  case GGUFFormat::Q8_0:
    return {32, 34};
  case GGUFFormat::Q2_K:
    return {256, 84};
  case GGUFFormat::Q3_K:
    return {256, 110};
  case GGUFFormat::Q4_K:
    return {256, 144};
  case GGUFFormat::Q5_K:
    return {256, 176};
  case GGUFFormat::Q6_K:
    return {256, 210};
  case GGUFFormat::IQ4_NL:
    return {32, 18};
  case GGUFFormat::IQ4_XS:
    return {256, 136};
  case GGUFFormat::MXFP4:
    return {32, 17};
  }
  llvm_unreachable("unknown format");
}

static float toFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

static uint16_t readU16(const uint8_t *bytes) {
  return llvm::support::endian::read16le(bytes);
}

static uint32_t readU32(const uint8_t *bytes) {
  return llvm::support::endian::read32le(bytes);
}

/// The f16 at \p bytes.
static float readF16(const uint8_t *bytes) {
  uint32_t bits = readU16(bytes);
  uint32_t sign = (bits & 0x8000) << 16, magnitude = bits & 0x7fff;
  // The bits of an f32 whose exponent is off by the difference of the biases;
  // a product with a power of two repairs that, for subnormals as well.
  float value = toFloat(magnitude << 13) * 0x1p112f;
  uint32_t result;
  std::memcpy(&result, &value, sizeof(result));
  if (magnitude >= 0x7c00) // Infinity or NaN.
    result |= 0x7f800000;
  return toFloat(result | sign);
}

/// The scale and the minimum of run \p i of 8, six bits each, of Q4_K and Q5_K.
static std::pair<int, int> unpackScale(const uint8_t *packed, int i) {
  if (i < 4)
    return {packed[i] & 63, packed[i + 4] & 63};
  return {(packed[i + 4] & 15) | (packed[i - 4] >> 6) << 4,
          packed[i + 4] >> 4 | (packed[i] >> 6) << 4};
}

/// `kvalues_iq4nl` of ggml.
static constexpr int64_t nonLinear[16] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// Twice the numbers of E2M1, as `kvalues_mxfp4` of ggml has them.
static constexpr int64_t twiceE2M1[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                          0, -1, -2, -3, -4, -6, -8, -12};

GGUFParts hadal::deepseek::getGGUFParts(GGUFFormat format) {
  // Group, bits; whether codes are unsigned and have offsets.
  switch (format) {
  case GGUFFormat::Q4_0:
    return {32, 4, false, false, GGUFParts::F16};
  case GGUFFormat::Q4_1:
    return {32, 4, true, true, GGUFParts::F16};
  case GGUFFormat::Q5_0:
    return {32, 5, false, false, GGUFParts::F16};
  case GGUFFormat::Q5_1:
    return {32, 5, true, true, GGUFParts::F16};
  case GGUFFormat::Q8_0:
    return {32, 8, false, false, GGUFParts::F16};
  case GGUFFormat::IQ4_NL:
    return {32, 4, true, false, GGUFParts::F16, nonLinear};
  case GGUFFormat::Q2_K:
    return {16, 2, true, true, GGUFParts::TwoLevels};
  case GGUFFormat::Q3_K:
    return {16, 3, false, false, GGUFParts::TwoLevels};
  case GGUFFormat::Q4_K:
    return {32, 4, true, true, GGUFParts::TwoLevels};
  case GGUFFormat::Q5_K:
    return {32, 5, true, true, GGUFParts::TwoLevels};
  case GGUFFormat::Q6_K:
    return {16, 6, false, false, GGUFParts::TwoLevels};
  case GGUFFormat::IQ4_XS:
    return {32, 4, true, false, GGUFParts::TwoLevels, nonLinear};
  case GGUFFormat::MXFP4:
    // Powers of two, of which bf16 has all that f32 has.
    return {32, 4, true, false, GGUFParts::BF16, twiceE2M1};
  }
  llvm_unreachable("unknown format");
}

mlir::Type GGUFParts::getType(mlir::MLIRContext *context, GGUFPart part) const {
  using mlir::IntegerType;
  switch (part) {
  case GGUFPart::Codes:
    return IntegerType::get(context, unsigned(bits),
                            isUnsigned ? IntegerType::Unsigned
                                       : IntegerType::Signless);
  case GGUFPart::Offsets:
    if (!hasOffsets)
      return {};
    [[fallthrough]];
  case GGUFPart::Scales:
    switch (storage) {
    case TwoLevels:
      return IntegerType::get(context, 8);
    case F16:
      return mlir::Float16Type::get(context);
    case BF16:
      return mlir::BFloat16Type::get(context);
    }
  }
  llvm_unreachable("unknown part");
}

CodebookAttr GGUFParts::getCodebook(mlir::MLIRContext *context) const {
  return codebook.empty() ? CodebookAttr()
                          : CodebookAttr::get(context, codebook);
}

/// Sixteen bytes of two codes each: those in the low halves come first.
template <typename Code>
static void splitHalves(const uint8_t *bytes, int8_t *codes, Code code) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = int8_t(code(bytes[i] & 15, i));
    codes[i + 16] = int8_t(code(bytes[i] >> 4, i + 16));
  }
}

static void splitQ2K(const uint8_t *block, int8_t *codes, GGUFScales &scales,
                     GGUFScales &offsets) {
  const uint8_t *q = block + 16;
  scales.unit = readF16(block + 80);
  offsets.unit = readF16(block + 82);
  for (int run = 0; run < 16; ++run, codes += 16) {
    scales.factors[run] = block[run] & 15;
    offsets.factors[run] = block[run] >> 4;
    const uint8_t *bytes = q + run / 8 * 32 + run % 2 * 16;
    for (int i = 0; i < 16; ++i)
      codes[i] = int8_t(bytes[i] >> run % 8 / 2 * 2 & 3);
  }
}

static void splitQ3K(const uint8_t *block, int8_t *codes, GGUFScales &scales) {
  const uint8_t *mask = block, *q = block + 32, *packed = block + 96;
  scales.unit = readF16(block + 108);
  for (int run = 0; run < 16; ++run, codes += 16) {
    int lowBits = run < 8 ? packed[run] & 15 : packed[run - 8] >> 4;
    int highBits = packed[8 + run % 4] >> 2 * (run / 4) & 3;
    scales.factors[run] = int8_t((lowBits | highBits << 4) - 32);
    const uint8_t *bytes = q + run / 8 * 32 + run % 2 * 16;
    for (int i = 0; i < 16; ++i) {
      bool isHigh = mask[run % 2 * 16 + i] >> run / 2 & 1;
      codes[i] = int8_t((bytes[i] >> run % 8 / 2 * 2 & 3) - (isHigh ? 0 : 4));
    }
  }
}

/// Q4_K, and Q5_K with its \p fifth bits.
static void splitQ45K(const uint8_t *block, const uint8_t *fifth,
                      const uint8_t *q, int8_t *codes, GGUFScales &scales,
                      GGUFScales &offsets) {
  scales.unit = readF16(block);
  offsets.unit = readF16(block + 2);
  for (int run = 0; run < 8; ++run, codes += 32) {
    auto [scale, least] = unpackScale(block + 4, run);
    scales.factors[run] = int8_t(scale);
    offsets.factors[run] = int8_t(least);
    const uint8_t *bytes = q + run / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      int code = run % 2 ? bytes[i] >> 4 : bytes[i] & 15;
      if (fifth)
        code += (fifth[i] >> run & 1) << 4;
      codes[i] = int8_t(code);
    }
  }
}

static void splitQ6K(const uint8_t *block, int8_t *codes, GGUFScales &scales) {
  scales.unit = readF16(block + 208);
  std::memcpy(scales.factors, block + 192, 16);
  for (int run = 0; run < 8; ++run)
    for (int i = 0; i < 32; ++i) {
      uint8_t byte = block[run / 4 * 64 + run % 2 * 32 + i];
      int lowBits = run % 4 < 2 ? byte & 15 : byte >> 4;
      int highBits = block[128 + run / 4 * 32 + i] >> 2 * (run % 4) & 3;
      codes[run * 32 + i] = int8_t((lowBits | highBits << 4) - 32);
    }
}

static void splitIQ4XS(const uint8_t *block, int8_t *codes,
                       GGUFScales &scales) {
  scales.unit = readF16(block);
  uint16_t highBits = readU16(block + 2);
  for (int run = 0; run < 8; ++run) {
    int scale = (block[4 + run / 2] >> 4 * (run % 2) & 15) |
                (highBits >> 2 * run & 3) << 4;
    scales.factors[run] = int8_t(scale - 32);
    splitHalves(block + 8 + run * 16, codes + run * 32,
                [](int u, int) { return u; });
  }
}

void hadal::deepseek::splitGGUF(GGUFFormat format, const uint8_t *bytes,
                                int8_t *codes, GGUFScales &scales,
                                GGUFScales &offsets) {
  auto fifth = [](uint32_t bits, int i) { return int(bits >> i & 1) << 4; };
  scales.factors[0] = offsets.factors[0] = 1;
  switch (format) {
  case GGUFFormat::Q4_0:
    scales.unit = readF16(bytes);
    return splitHalves(bytes + 2, codes, [](int u, int) { return u - 8; });
  case GGUFFormat::Q4_1:
    scales.unit = readF16(bytes);
    offsets.unit = -readF16(bytes + 2);
    return splitHalves(bytes + 4, codes, [](int u, int) { return u; });
  case GGUFFormat::Q5_0:
    scales.unit = readF16(bytes);
    return splitHalves(bytes + 6, codes, [&](int u, int i) {
      return u + fifth(readU32(bytes + 2), i) - 16;
    });
  case GGUFFormat::Q5_1:
    scales.unit = readF16(bytes);
    offsets.unit = -readF16(bytes + 2);
    return splitHalves(bytes + 8, codes, [&](int u, int i) {
      return u + fifth(readU32(bytes + 4), i);
    });
  case GGUFFormat::Q8_0:
    scales.unit = readF16(bytes);
    std::memcpy(codes, bytes + 2, 32);
    return;
  case GGUFFormat::Q2_K:
    return splitQ2K(bytes, codes, scales, offsets);
  case GGUFFormat::Q3_K:
    return splitQ3K(bytes, codes, scales);
  case GGUFFormat::Q4_K:
    return splitQ45K(bytes, nullptr, bytes + 16, codes, scales, offsets);
  case GGUFFormat::Q5_K:
    return splitQ45K(bytes, bytes + 16, bytes + 48, codes, scales, offsets);
  case GGUFFormat::Q6_K:
    return splitQ6K(bytes, codes, scales);
  case GGUFFormat::IQ4_NL:
    scales.unit = readF16(bytes);
    return splitHalves(bytes + 2, codes, [](int u, int) { return u; });
  case GGUFFormat::IQ4_XS:
    return splitIQ4XS(bytes, codes, scales);
  case GGUFFormat::MXFP4: {
    // Half of 2^(e - 127), which is a subnormal for the two smallest e.
    uint32_t e = bytes[0];
    scales.unit = toFloat(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    return splitHalves(bytes + 1, codes, [](int u, int) { return u; });
  }
  }
  llvm_unreachable("unknown format");
}

void hadal::deepseek::dequantizeGGUF(GGUFFormat format, const uint8_t *bytes,
                                     int64_t blocks, float *out) {
  GGUFBlock block = getGGUFBlock(format);
  GGUFParts parts = getGGUFParts(format);
  int8_t codes[256];
  GGUFScales scales, offsets;
  for (; blocks > 0; --blocks, bytes += block.bytes) {
    splitGGUF(format, bytes, codes, scales, offsets);
    for (int64_t i = 0; i < block.elements; ++i) {
      float product = float(parts.numberOf(codes[i])) * scales[i / parts.group];
      *out++ = parts.hasOffsets ? product - offsets[i / parts.group] : product;
    }
  }
}
