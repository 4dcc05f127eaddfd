// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reading, writing and repairing UTF-8.

#include "Utf8.h"

namespace hadal::text {

Utf8Step readUtf8(std::string_view text, size_t at) {
  Utf8Step step;
  auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) {
    step.codePoint = lead;
    step.valid = true;
    return step;
  }
  // Unicode, table 3-7: only the second byte has a range of its own.
  size_t length = 0;
  unsigned low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0)
      low = 0xA0;
    if (lead == 0xED)
      high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0)
      low = 0x90;
    if (lead == 0xF4)
      high = 0x8F;
  } else {
    return step;
  }
  uint32_t codePoint = lead & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if (at + i >= text.size()) {
      step.length = i;
      step.truncated = true;
      return step;
    }
    auto byte = static_cast<unsigned char>(text[at + i]);
    if (byte < low || byte > high) {
      step.length = i;
      return step;
    }
    codePoint = codePoint << 6 | (byte & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  step.codePoint = codePoint;
  step.length = length;
  step.valid = true;
  return step;
}

void appendUtf8(std::string &text, uint32_t codePoint) {
  auto put = [&](uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (codePoint < 0x80) {
    put(codePoint);
  } else if (codePoint < 0x800) {
    put(0xC0 | codePoint >> 6);
    put(0x80 | (codePoint & 0x3F));
  } else if (codePoint < 0x10000) {
    put(0xE0 | codePoint >> 12);
    put(0x80 | (codePoint >> 6 & 0x3F));
    put(0x80 | (codePoint & 0x3F));
  } else {
    put(0xF0 | codePoint >> 18);
    put(0x80 | (codePoint >> 12 & 0x3F));
    put(0x80 | (codePoint >> 6 & 0x3F));
    put(0x80 | (codePoint & 0x3F));
  }
}

bool isValidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    Utf8Step step = readUtf8(text, at);
    if (!step.valid)
      return false;
    at += step.length;
  }
  return true;
}

void appendLossyUtf8(std::string &text, std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    Utf8Step step = readUtf8(bytes, at);
    if (step.valid)
      text.append(bytes.substr(at, step.length));
    else
      appendUtf8(text, 0xFFFD);
    at += step.length;
  }
}

uint32_t lastCodePoint(std::string_view text) {
  if (text.empty())
    return 0;
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80)
    --at;
  return readUtf8(text, at).codePoint;
}

} // namespace hadal::text
