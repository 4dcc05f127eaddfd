// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The translation of Oniguruma's regular expressions, and normalization.

#include "Regex.h"
#include "Nfc.h"
#include "Utf8.h"

#include <gtest/gtest.h>

#include <vector>

using namespace hadal::text;

namespace {

std::vector<std::string> findAll(std::string_view pattern,
                                 std::string_view subject,
                                 bool literal = false) {
  std::string error;
  auto regex = Regex::compile(pattern, literal, error);
  EXPECT_NE(regex, nullptr) << pattern << ": " << error;
  std::vector<std::string> matches;
  if (!regex)
    return matches;
  Regex::Matcher matcher(*regex);
  matcher.reset(subject);
  size_t begin, end;
  while (matcher.next(begin, end))
    matches.emplace_back(subject.substr(begin, end - begin));
  EXPECT_FALSE(matcher.failed());
  return matches;
}

using Matches = std::vector<std::string>;

// White_Space has U+0085 and U+3000, and not U+180E.
TEST(Regex, Space) {
  EXPECT_EQ(findAll("\\s", "a \u0085\u180e\u3000b"),
            (Matches{" ", "\u0085", "\u3000"}));
  EXPECT_EQ(findAll("[^\\s]", "a \u180e"), (Matches{"a", "\u180e"}));
  EXPECT_EQ(findAll("[\\S]", " x"), (Matches{"x"}));
}

// A hyphen after a class is a hyphen, whatever the class turns into.
TEST(Regex, HyphenBesideClass) {
  EXPECT_EQ(findAll("[\\s-z]", "a-z\u4e00"), (Matches{"-", "z"}));
  EXPECT_EQ(findAll("[a-\\d]", "a-5b"), (Matches{"a", "-", "5"}));
  EXPECT_EQ(findAll("[-a]", "-a"), (Matches{"-", "a"}));
}

TEST(Regex, WordAndBoundary) {
  EXPECT_EQ(findAll("\\w+", "e\u0301_1 x"), (Matches{"e\u0301_1", "x"}));
  EXPECT_EQ(findAll("\\bx", "x\u0301x x"), (Matches{"x", "x"}));
  EXPECT_EQ(findAll("\\w", "\u00b2"), (Matches{"\u00b2"}));
  EXPECT_EQ(findAll("[\\w]", "\u00b2"), (Matches{}));
}

// Ruby's `$` is the end of any line, and its `(?m)` lets `.` match newlines.
TEST(Regex, LinesAndOptions) {
  EXPECT_EQ(findAll("a$", "a\na"), (Matches{"a", "a"}));
  EXPECT_EQ(findAll("a.", "a\n"), (Matches{}));
  EXPECT_EQ(findAll("(?m:a.)", "a\n"), (Matches{"a\n"}));
  EXPECT_EQ(findAll("(?i)ab", "aB"), (Matches{"aB"}));
  EXPECT_EQ(findAll("(?i:'s)", "'S'\u017f"), (Matches{"'S", "'\u017f"}));
}

// In Ruby, an interval is neither possessive nor, if exact, lazy.
TEST(Regex, Intervals) {
  EXPECT_EQ(findAll("a{1,2}+a", "aaaaa"), (Matches{"aaaaa"}));
  EXPECT_EQ(findAll("a{2}?b", "aab b"), (Matches{"aab", "b"}));
  EXPECT_EQ(findAll("xa{,2}", "xaaa"), (Matches{"xaa"}));
  EXPECT_EQ(findAll("a{,}", "a{,}"), (Matches{"a{,}"}));
  EXPECT_EQ(findAll("a++a", "aaa"), (Matches{}));
}

TEST(Regex, Properties) {
  EXPECT_EQ(findAll("\\p{Han}", "\u3001\u5b57"), (Matches{"\u5b57"}));
  EXPECT_EQ(findAll("\\p{^L}", "a1"), (Matches{"1"}));
  EXPECT_EQ(findAll("\\p{uppercase letter}", "aB"), (Matches{"B"}));
  EXPECT_EQ(findAll("\\h", "gF"), (Matches{"F"}));
}

TEST(Regex, EmptyMatches) {
  EXPECT_EQ(findAll("(?=b)", "abb").size(), 2u);
  EXPECT_EQ(findAll("x*", "ab").size(), 3u);
}

TEST(Regex, Literal) {
  EXPECT_EQ(findAll("a.[", "a.[axb", true), (Matches{"a.["}));
}

// What would mean something else, or may, is refused by name.
TEST(Regex, Refusals) {
  for (auto [pattern, part] : {std::pair{"(", "'(' without ')'"},
                               {"a)", "')' without '('"},
                               {"*a", "nothing to repeat"},
                               {"[a", "set without ']'"},
                               {"[a[b]]", "nested set"},
                               {"[a&&b]", "intersection"},
                               {"(?<name>a)", "unsupported group"},
                               {"(?R)", "unsupported group"},
                               {"(?C1)a", "unsupported group"},
                               {"(*FAIL)", "unsupported '(*'"},
                               {"a(?i)b", "unsupported group"},
                               {"\\g<1>", "unsupported escape"},
                               {"\\1", "unsupported escape"},
                               {"\\C", "unsupported escape"},
                               {"\\", "'\\' without a character"},
                               {"\\p", "property without"},
                               {"\\p{Nonsense}", "unknown"},
                               {"\\p{Punct}", "unsupported property"},
                               {"\\xff", "escape of a byte"},
                               {"\\x{110000}", "character code point value"},
                               {"a{70000}", "too big"}}) {
    std::string error;
    EXPECT_EQ(Regex::compile(pattern, false, error), nullptr) << pattern;
    EXPECT_NE(error.find(part), std::string::npos) << pattern << ": " << error;
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
}

// Matching that would take forever gives up instead.
TEST(Regex, GivesUp) {
  std::string error;
  auto regex = Regex::compile("(?:a+)+b", false, error);
  ASSERT_NE(regex, nullptr) << error;
  Regex::Matcher matcher(*regex);
  std::string subject(64, 'a');
  matcher.reset(subject + "c");
  size_t begin, end;
  EXPECT_FALSE(matcher.next(begin, end));
}

// A pattern as long as a file lets it be is refused or compiled, not a crash.
TEST(Regex, DeepNesting) {
  std::string error;
  EXPECT_EQ(Regex::compile(std::string(100000, '('), false, error), nullptr);
  std::string nested = std::string(50000, '(') + std::string(50000, ')');
  EXPECT_EQ(Regex::compile(nested, false, error), nullptr);
}

TEST(Nfc, Composes) {
  EXPECT_EQ(normalizeNfc("plain"), "plain");
  EXPECT_EQ(normalizeNfc("e\u0301"), "\u00e9");
  EXPECT_EQ(normalizeNfc("\u212b"), "\u00c5");
  EXPECT_EQ(normalizeNfc("\u1112\u1161\u11ab"), "\uD55C");
  EXPECT_EQ(normalizeNfc("\u0958"), "\u0915\u093c"); // excluded from composing
  EXPECT_EQ(normalizeNfc("a\u0307\u0323"), "\u1ea1\u0307"); // reordered
  EXPECT_EQ(normalizeNfc("\u0344"), "\u0308\u0301");
}

// U+089C came with Unicode 14; `tokenizers` does not move it.
TEST(Nfc, LeavesLaterMarks) {
  EXPECT_EQ(normalizeNfc("\u089c\u0f7d"), "\u089c\u0f7d");
}

// 100000 marks on one letter must not take quadratic time.
TEST(Nfc, LongRunOfMarks) {
  std::string text = "a";
  for (int i = 0; i < 50000; ++i)
    text += "\u0301\u0323";
  EXPECT_EQ(normalizeNfc(text).size(), text.size());
}

// Table 3-8 of The Unicode Standard: one U+FFFD a maximal subpart.
TEST(Utf8, MaximalSubparts) {
  std::string text;
  appendLossyUtf8(text, "\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64");
  EXPECT_EQ(text, "a\ufffd\ufffd\ufffdb\ufffdc\ufffd\ufffdd");
}

} // namespace
