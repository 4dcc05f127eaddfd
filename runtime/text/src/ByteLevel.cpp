// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The byte-to-character table of GPT-2, both ways.

#include "ByteLevel.h"

#include "Utf8.h"

#include <array>

namespace hadal::text {

namespace {

struct Table {
  std::array<uint32_t, 256> charOf;
  /// -1 for a character that spells no byte.
  std::array<int16_t, 0x144> byteOf;

  constexpr Table() : charOf(), byteOf() {
    for (int16_t &byte : byteOf)
      byte = -1;
    uint32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      bool printable = (byte >= 33 && byte <= 126) ||
                       (byte >= 161 && byte <= 172) || byte >= 174;
      charOf[byte] = printable ? byte : next++;
      byteOf[charOf[byte]] = static_cast<int16_t>(byte);
    }
  }
};

constexpr Table table;

} // namespace

uint32_t byteLevelChar(uint8_t byte) { return table.charOf[byte]; }

void spellBytes(std::string_view bytes, std::string &spelled) {
  for (char byte : bytes)
    appendUtf8(spelled, table.charOf[static_cast<uint8_t>(byte)]);
}

std::string unspellBytes(std::string_view spelled) {
  std::string bytes;
  for (size_t at = 0; at < spelled.size();) {
    Utf8Step step = readUtf8(spelled, at);
    if (!step.valid || step.codePoint >= table.byteOf.size() ||
        table.byteOf[step.codePoint] < 0)
      return std::string(spelled);
    bytes.push_back(static_cast<char>(table.byteOf[step.codePoint]));
    at += step.length;
  }
  return bytes;
}

} // namespace hadal::text
