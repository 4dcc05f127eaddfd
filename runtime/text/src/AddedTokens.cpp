// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Splitting a text at added tokens, as `AddedVocabulary::find_matches` of the
// `tokenizers` library does.

#include "AddedTokens.h"

#include "Utf8.h"

#include <algorithm>

namespace hadal::text {

/// Whether \p codePoint is White_Space.
static bool isSpace(uint32_t codePoint) {
  return (codePoint >= 0x9 && codePoint <= 0xD) || codePoint == 0x20 ||
         codePoint == 0x85 || codePoint == 0xA0 || codePoint == 0x1680 ||
         (codePoint >= 0x2000 && codePoint <= 0x200A) || codePoint == 0x2028 ||
         codePoint == 0x2029 || codePoint == 0x202F || codePoint == 0x205F ||
         codePoint == 0x3000;
}

/// Whether \p codePoint is what Rust's `\w` matches.
static bool isWord(uint32_t codePoint) {
  static const std::unique_ptr<Regex> word = [] {
    std::string error;
    return Regex::compile("[\\w\\u200c\\u200d]", /*literal=*/false, error);
  }();
  if (!word)
    return false;
  std::string text;
  appendUtf8(text, codePoint);
  Regex::Matcher matcher(*word);
  matcher.reset(text);
  size_t begin, end;
  return matcher.next(begin, end);
}

/// Where the blanks that end \p text begin.
static size_t trailingSpaceBegin(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 &&
           (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80)
      --begin;
    if (!isSpace(readUtf8(text, begin).codePoint))
      break;
    end = begin;
  }
  return end;
}

/// Where the blanks that begin \p text end.
static size_t leadingSpaceEnd(std::string_view text) {
  size_t end = 0;
  while (end < text.size()) {
    Utf8Step step = readUtf8(text, end);
    if (!isSpace(step.codePoint))
      break;
    end += step.length;
  }
  return end;
}

void AddedTokenSet::add(const AddedToken &token, std::string_view spelling) {
  if (spelling.empty())
    return;
  uint32_t node = 0;
  for (char byte : spelling) {
    uint64_t key =
        static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(byte);
    auto [child, isNew] =
        children.emplace(key, static_cast<uint32_t>(tokenAt.size()));
    if (isNew)
      tokenAt.push_back(-1);
    node = child->second;
  }
  isFirstByte[static_cast<unsigned char>(spelling[0])] = true;
  // Of two with one spelling, the first counts.
  if (tokenAt[node] < 0)
    tokenAt[node] = static_cast<int32_t>(tokens.size());
  tokens.push_back(token);
}

int32_t AddedTokenSet::findAt(std::string_view text, size_t at,
                              size_t &length) const {
  int32_t found = -1;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    auto child = children.find(static_cast<uint64_t>(node) << 8 |
                               static_cast<unsigned char>(text[i]));
    if (child == children.end())
      break;
    node = child->second;
    if (tokenAt[node] >= 0) {
      found = tokenAt[node];
      length = i + 1 - at;
    }
  }
  return found;
}

void AddedTokenSet::split(std::string_view text, bool parseSpecial,
                          std::vector<TextPart> &parts) const {
  size_t done = 0;
  for (size_t at = 0; at < text.size() && !tokens.empty();) {
    size_t length = 0;
    int32_t index = isFirstByte[static_cast<unsigned char>(text[at])]
                        ? findAt(text, at, length)
                        : -1;
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken &token = tokens[index];
    size_t begin = at, end = at + length;
    // A match that does not count still hides those that overlap it.
    at = end;
    if (token.isSpecial && !parseSpecial)
      continue;
    if (token.isSingleWord &&
        ((begin > 0 && isWord(lastCodePoint(text.substr(0, begin)))) ||
         (end < text.size() && isWord(readUtf8(text, end).codePoint))))
      continue;
    if (token.stripsLeft)
      begin = std::max(trailingSpaceBegin(text.substr(0, begin)), done);
    if (token.stripsRight)
      end += leadingSpaceEnd(text.substr(end));
    // All of it are blanks that the token before has taken.
    if (begin >= end)
      continue;
    if (done < begin)
      parts.push_back({text.substr(done, begin - done), -1});
    parts.push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  if (done < text.size())
    parts.push_back({text.substr(done), -1});
}

} // namespace hadal::text
