// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Normalization form C: decompose, order, compose.

#include "Nfc.h"

#include "Utf8.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace hadal::text {

#include "NfcTables.inc"

// Hangul syllables compose by arithmetic; The Unicode Standard, section 3.12.
constexpr uint32_t syllableBase = 0xAC00, leadBase = 0x1100, vowelBase = 0x1161,
                   trailBase = 0x11A7;
constexpr uint32_t leadCount = 19, vowelCount = 21, trailCount = 28;
constexpr uint32_t syllableCount = leadCount * vowelCount * trailCount;

static uint32_t combiningClass(uint32_t codePoint) {
  auto *end = std::end(combiningClasses);
  auto *range = std::lower_bound(
      std::begin(combiningClasses), end, codePoint,
      [](const uint32_t (&row)[3], uint32_t key) { return row[1] < key; });
  return range != end && (*range)[0] <= codePoint ? (*range)[2] : 0;
}

static void decompose(uint32_t codePoint, std::vector<uint32_t> &result) {
  if (codePoint - syllableBase < syllableCount) {
    uint32_t index = codePoint - syllableBase;
    result.push_back(leadBase + index / (vowelCount * trailCount));
    result.push_back(vowelBase + index / trailCount % vowelCount);
    if (index % trailCount)
      result.push_back(trailBase + index % trailCount);
    return;
  }
  auto *end = std::end(decompositions);
  auto *row = std::lower_bound(
      std::begin(decompositions), end, codePoint,
      [](const uint32_t (&entry)[3], uint32_t key) { return entry[0] < key; });
  if (row == end || (*row)[0] != codePoint) {
    result.push_back(codePoint);
    return;
  }
  decompose((*row)[1], result);
  if ((*row)[2])
    decompose((*row)[2], result);
}

/// The primary composite of two characters, or 0.
static uint32_t compose(uint32_t first, uint32_t second) {
  if (first - leadBase < leadCount && second - vowelBase < vowelCount)
    return syllableBase +
           ((first - leadBase) * vowelCount + (second - vowelBase)) *
               trailCount;
  if (first - syllableBase < syllableCount &&
      (first - syllableBase) % trailCount == 0 && second > trailBase &&
      second - trailBase < trailCount)
    return first + (second - trailBase);
  auto *end = std::end(compositions);
  auto *row = std::lower_bound(
      std::begin(compositions), end, second,
      [first](const uint32_t (&entry)[3], uint32_t key) {
        return entry[0] != first ? entry[0] < first : entry[1] < key;
      });
  return row != end && (*row)[0] == first && (*row)[1] == second ? (*row)[2]
                                                                 : 0;
}

std::string normalizeNfc(std::string_view text) {
  // Nothing below U+0300 combines with anything below it.
  bool isPlain = true;
  for (size_t at = 0; at < text.size() && isPlain;) {
    Utf8Step step = readUtf8(text, at);
    isPlain = step.codePoint < 0x300;
    at += step.length;
  }
  if (isPlain)
    return std::string(text);

  std::vector<uint32_t> decomposed;
  decomposed.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    Utf8Step step = readUtf8(text, at);
    decompose(step.codePoint, decomposed);
    at += step.length;
  }
  std::vector<uint8_t> classes(decomposed.size());
  for (size_t i = 0; i < decomposed.size(); ++i)
    classes[i] = static_cast<uint8_t>(combiningClass(decomposed[i]));

  // Order each run of marks by class, and marks of one class as they stood.
  struct Mark {
    uint8_t order;
    size_t index;
    uint32_t codePoint;
  };
  std::vector<Mark> run;
  for (size_t i = 0; i < decomposed.size();) {
    if (classes[i] == 0) {
      ++i;
      continue;
    }
    size_t begin = i;
    run.clear();
    for (; i < decomposed.size() && classes[i] != 0; ++i)
      run.push_back({classes[i], i, decomposed[i]});
    std::sort(run.begin(), run.end(), [](const Mark &a, const Mark &b) {
      return a.order != b.order ? a.order < b.order : a.index < b.index;
    });
    for (size_t k = 0; k < run.size(); ++k) {
      classes[begin + k] = run[k].order;
      decomposed[begin + k] = run[k].codePoint;
    }
  }

  std::vector<uint32_t> composed;
  composed.reserve(decomposed.size());
  bool hasStarter = false;
  size_t starter = 0;
  uint8_t lastClass = 0;
  for (size_t i = 0; i < decomposed.size(); ++i) {
    // A mark is blocked from the starter by one of its own class or a higher
    // one in between, and a starter by anything in between.
    bool isAdjacent = hasStarter && composed.size() == starter + 1;
    bool isBlocked = !hasStarter || (!isAdjacent && lastClass >= classes[i]);
    if (!isBlocked) {
      if (uint32_t result = compose(composed[starter], decomposed[i])) {
        composed[starter] = result;
        continue;
      }
    }
    if (classes[i] == 0) {
      hasStarter = true;
      starter = composed.size();
    }
    lastClass = classes[i];
    composed.push_back(decomposed[i]);
  }

  std::string result;
  result.reserve(text.size());
  for (uint32_t codePoint : composed)
    appendUtf8(result, codePoint);
  return result;
}

} // namespace hadal::text
