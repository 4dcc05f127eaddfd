// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rounds groups of weights to integers. Loops have no branches, so that they
// become vector code.

#include "lib/Packer/Quantization.h"

#include "dialects/DeepSeek/IR/DeepSeekDialect.h"
#include "dialects/DeepSeek/IR/Rounding.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace hadal;

static uint32_t toBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

static float toFloat(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

float hadal::findLargest(float largest, const float *data, int64_t count) {
  // Bits of magnitudes compare as the magnitudes do, and those of the other
  // sign are negative.
  int32_t positive = 0, negative = 0;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits = toBits(data[i]);
    positive = std::max(positive, int32_t(bits));
    negative = std::max(negative, int32_t(bits ^ 0x80000000));
  }
  int32_t magnitude = std::max(positive, negative);
  if (magnitude <= int32_t(toBits(largest) & 0x7fffffff))
    return largest;
  if (positive != negative)
    return positive > negative ? toFloat(positive) : -toFloat(negative);
  while (int32_t(toBits(*data) & 0x7fffffff) != magnitude)
    ++data;
  return *data;
}

void hadal::quantize(const float *from, int64_t count, float scale,
                     unsigned bits, int8_t *to) {
  if (scale == 0) {
    std::fill_n(to, count, int8_t(0));
    return;
  }
  // A float of this size has a unit in the last place of 1, so that adding it
  // rounds to an integer, which is left in the low bits.
  constexpr float magic = 0x1.8p23f;
  float smallest = deepseek::getLeastInteger(bits);
  float largest = deepseek::getMostInteger(bits);
  for (int64_t i = 0; i < count; ++i) {
    // Clamped first: the bounds are integers, so the result is the same.
    float value = std::min(std::max(from[i] / scale, smallest), largest);
    to[i] = int8_t(toBits(value + magic) - toBits(magic));
  }
}

/// \p bits of each of \p count * 32 / bits integers from bit \p position on.
template <int bits>
static void packPlane(const uint8_t *from, int64_t count, int position,
                      uint32_t flipped, uint8_t *to) {
  constexpr uint32_t mask = 0x01010101u * ((1u << bits) - 1);
  for (int64_t i = 0; i < count; ++i) {
    uint32_t word = 0;
    for (int lane = 0; lane < 8 / bits; ++lane) {
      uint32_t four;
      std::memcpy(&four, from, sizeof(four));
      from += sizeof(four);
      word |= ((four ^ flipped) >> position & mask) << bits * lane;
    }
    std::memcpy(to + i * 4, &word, sizeof(word));
  }
}

void hadal::packCodes(const int8_t *from, int64_t count, int64_t bits,
                      bool isSigned, uint8_t *to) {
  int64_t columns = deepseek::getTileColumns(bits);
  // Adding the least integer flips the highest bit.
  uint32_t flipped = isSigned ? 0x01010101u << (bits - 1) : 0;
  for (int64_t i = 0; i < count; ++i, from += columns) {
    auto block = reinterpret_cast<const uint8_t *>(from);
    int position = 0;
    for (int64_t plane : deepseek::getBitPlanes(bits)) {
      int64_t words = columns * plane / 32;
      if (plane == 4)
        packPlane<4>(block, words, position, flipped, to);
      else if (plane == 2)
        packPlane<2>(block, words, position, flipped, to);
      else
        packPlane<1>(block, words, position, flipped, to);
      to += words * 4;
      position += int(plane);
    }
  }
}
