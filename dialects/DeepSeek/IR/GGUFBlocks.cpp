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

static float low(uint8_t byte) { return float(byte & 15); }
static float high(uint8_t byte) { return float(byte >> 4); }

/// The scale and the minimum of run \p i of 8, six bits each, of Q4_K and Q5_K.
static std::pair<float, float> unpackScale(const uint8_t *packed, int i) {
  if (i < 4)
    return {float(packed[i] & 63), float(packed[i + 4] & 63)};
  return {float((packed[i + 4] & 15) | (packed[i - 4] >> 6) << 4),
          float(packed[i + 4] >> 4 | (packed[i] >> 6) << 4)};
}

/// `kvalues_iq4nl` of ggml.
static constexpr float nonLinear[16] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// Twice the numbers of E2M1, as `kvalues_mxfp4` of ggml has them.
static constexpr float twiceE2M1[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                        0, -1, -2, -3, -4, -6, -8, -12};

GGUFParts hadal::deepseek::getGGUFParts(GGUFFormat format) {
  // Group, bits; whether codes are unsigned, have offsets, and scales are f16.
  switch (format) {
  case GGUFFormat::Q4_0:
    return {32, 4, false, false, true};
  case GGUFFormat::Q4_1:
    return {32, 4, true, true, true};
  case GGUFFormat::Q5_0:
  case GGUFFormat::Q8_0:
  case GGUFFormat::IQ4_NL:
    return {32, 8, false, false, true};
  case GGUFFormat::Q5_1:
    return {32, 8, false, true, true};
  case GGUFFormat::Q2_K:
    return {16, 4, true, true, false};
  case GGUFFormat::Q3_K:
    return {16, 4, false, false, false};
  case GGUFFormat::Q4_K:
    return {32, 4, true, true, false};
  case GGUFFormat::Q5_K:
    return {32, 8, false, true, false};
  case GGUFFormat::Q6_K:
    return {16, 8, false, false, false};
  case GGUFFormat::IQ4_XS:
  case GGUFFormat::MXFP4:
    return {32, 8, false, false, false};
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
    if (areF16)
      return mlir::Float16Type::get(context);
    return mlir::Float32Type::get(context);
  }
  llvm_unreachable("unknown part");
}

/// Sixteen bytes of two codes each: those in the low halves come first.
template <typename Code>
static void splitHalves(const uint8_t *bytes, int8_t *codes, Code code) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = int8_t(code(bytes[i] & 15, i));
    codes[i + 16] = int8_t(code(bytes[i] >> 4, i + 16));
  }
}

static void splitQ2K(const uint8_t *block, int8_t *codes, float *scales,
                     float *offsets) {
  const uint8_t *q = block + 16;
  float d = readF16(block + 80), dmin = readF16(block + 82);
  for (int run = 0; run < 16; ++run, codes += 16) {
    scales[run] = d * low(block[run]);
    offsets[run] = dmin * high(block[run]);
    const uint8_t *bytes = q + run / 8 * 32 + run % 2 * 16;
    for (int i = 0; i < 16; ++i)
      codes[i] = int8_t(bytes[i] >> run % 8 / 2 * 2 & 3);
  }
}

static void splitQ3K(const uint8_t *block, int8_t *codes, float *scales) {
  const uint8_t *mask = block, *q = block + 32, *packed = block + 96;
  float d = readF16(block + 108);
  for (int run = 0; run < 16; ++run, codes += 16) {
    int lowBits = run < 8 ? packed[run] & 15 : packed[run - 8] >> 4;
    int highBits = packed[8 + run % 4] >> 2 * (run / 4) & 3;
    scales[run] = d * float((lowBits | highBits << 4) - 32);
    const uint8_t *bytes = q + run / 8 * 32 + run % 2 * 16;
    for (int i = 0; i < 16; ++i) {
      bool isHigh = mask[run % 2 * 16 + i] >> run / 2 & 1;
      codes[i] = int8_t((bytes[i] >> run % 8 / 2 * 2 & 3) - (isHigh ? 0 : 4));
    }
  }
}

/// Q4_K, and Q5_K with its \p fifth bits.
static void splitQ45K(const uint8_t *block, const uint8_t *fifth,
                      const uint8_t *q, int8_t *codes, float *scales,
                      float *offsets) {
  float d = readF16(block), dmin = readF16(block + 2);
  for (int run = 0; run < 8; ++run, codes += 32) {
    auto [scale, least] = unpackScale(block + 4, run);
    scales[run] = d * scale;
    offsets[run] = dmin * least;
    const uint8_t *bytes = q + run / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      int code = run % 2 ? bytes[i] >> 4 : bytes[i] & 15;
      if (fifth)
        code += (fifth[i] >> run & 1) << 4;
      codes[i] = int8_t(code);
    }
  }
}

static void splitQ6K(const uint8_t *block, int8_t *codes, float *scales) {
  float d = readF16(block + 208);
  for (int i = 0; i < 16; ++i)
    scales[i] = d * float(int8_t(block[192 + i]));
  for (int run = 0; run < 8; ++run)
    for (int i = 0; i < 32; ++i) {
      uint8_t byte = block[run / 4 * 64 + run % 2 * 32 + i];
      int lowBits = run % 4 < 2 ? byte & 15 : byte >> 4;
      int highBits = block[128 + run / 4 * 32 + i] >> 2 * (run % 4) & 3;
      codes[run * 32 + i] = int8_t((lowBits | highBits << 4) - 32);
    }
}

static void splitIQ4XS(const uint8_t *block, int8_t *codes, float *scales) {
  float d = readF16(block);
  uint16_t highBits = readU16(block + 2);
  for (int run = 0; run < 8; ++run) {
    int scale = (block[4 + run / 2] >> 4 * (run % 2) & 15) |
                (highBits >> 2 * run & 3) << 4;
    scales[run] = d * float(scale - 32);
    splitHalves(block + 8 + run * 16, codes + run * 32,
                [](int u, int) { return nonLinear[u]; });
  }
}

void hadal::deepseek::splitGGUF(GGUFFormat format, const uint8_t *bytes,
                                int8_t *codes, float *scales, float *offsets) {
  auto fifth = [](uint32_t bits, int i) { return int(bits >> i & 1) << 4; };
  switch (format) {
  case GGUFFormat::Q4_0:
    *scales = readF16(bytes);
    return splitHalves(bytes + 2, codes, [](int u, int) { return u - 8; });
  case GGUFFormat::Q4_1:
    *scales = readF16(bytes);
    *offsets = -readF16(bytes + 2);
    return splitHalves(bytes + 4, codes, [](int u, int) { return u; });
  case GGUFFormat::Q5_0:
    *scales = readF16(bytes);
    return splitHalves(bytes + 6, codes, [&](int u, int i) {
      return u + fifth(readU32(bytes + 2), i) - 16;
    });
  case GGUFFormat::Q5_1:
    *scales = readF16(bytes);
    *offsets = -readF16(bytes + 2);
    return splitHalves(bytes + 8, codes, [&](int u, int i) {
      return u + fifth(readU32(bytes + 4), i);
    });
  case GGUFFormat::Q8_0:
    *scales = readF16(bytes);
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
    *scales = readF16(bytes);
    return splitHalves(bytes + 2, codes,
                       [](int u, int) { return nonLinear[u]; });
  case GGUFFormat::IQ4_XS:
    return splitIQ4XS(bytes, codes, scales);
  case GGUFFormat::MXFP4: {
    // Half of 2^(e - 127), which is a subnormal for the two smallest e.
    uint32_t e = bytes[0];
    *scales = toFloat(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    return splitHalves(bytes + 1, codes,
                       [](int u, int) { return twiceE2M1[u]; });
  }
  }
  llvm_unreachable("unknown format");
}

void hadal::deepseek::dequantizeGGUF(GGUFFormat format, const uint8_t *bytes,
                                     int64_t blocks, float *out) {
  GGUFBlock block = getGGUFBlock(format);
  GGUFParts parts = getGGUFParts(format);
  int8_t codes[256];
  float scales[16], offsets[16];
  for (; blocks > 0; --blocks, bytes += block.bytes) {
    splitGGUF(format, bytes, codes, scales, offsets);
    for (int64_t i = 0; i < block.elements; ++i) {
      float product = float(codes[i]) * scales[i / parts.group];
      *out++ = parts.hasOffsets ? product - offsets[i / parts.group] : product;
    }
  }
}
