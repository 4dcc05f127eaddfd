// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From Oniguruma's dialect to PCRE2's.

#include "Regex.h"

#include "Json.h"
#include "Utf8.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

namespace hadal::text {

// Ranges, to stand inside of a set. Spelled out rather than \p{White_Space}
// because PCRE2 tests them faster.
constexpr const char *spaceRanges =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}"
    "\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
constexpr const char *wordRanges = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
// Oniguruma tests U+00B2 and the like by another table where `\w` stands alone.
constexpr const char *loneWordSet =
    "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}]";
constexpr const char *loneNotWordSet = "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
                                       "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}]";
constexpr const char *hexRanges = "0-9A-Fa-f";

/// General categories, long name and short, as Oniguruma takes them: without
/// regard to case, spaces, `-` and `_`.
constexpr const char *categories[][2] = {
    {"l", "L"},
    {"letter", "L"},
    {"lu", "Lu"},
    {"uppercaseletter", "Lu"},
    {"ll", "Ll"},
    {"lowercaseletter", "Ll"},
    {"lt", "Lt"},
    {"titlecaseletter", "Lt"},
    {"lm", "Lm"},
    {"modifierletter", "Lm"},
    {"lo", "Lo"},
    {"otherletter", "Lo"},
    {"m", "M"},
    {"mark", "M"},
    {"mn", "Mn"},
    {"nonspacingmark", "Mn"},
    {"mc", "Mc"},
    {"spacingmark", "Mc"},
    {"me", "Me"},
    {"enclosingmark", "Me"},
    {"n", "N"},
    {"number", "N"},
    {"nd", "Nd"},
    {"decimalnumber", "Nd"},
    {"digit", "Nd"},
    {"nl", "Nl"},
    {"letternumber", "Nl"},
    {"no", "No"},
    {"othernumber", "No"},
    {"p", "P"},
    {"punctuation", "P"},
    {"pc", "Pc"},
    {"connectorpunctuation", "Pc"},
    {"pd", "Pd"},
    {"dashpunctuation", "Pd"},
    {"ps", "Ps"},
    {"openpunctuation", "Ps"},
    {"pe", "Pe"},
    {"closepunctuation", "Pe"},
    {"pi", "Pi"},
    {"initialpunctuation", "Pi"},
    {"pf", "Pf"},
    {"finalpunctuation", "Pf"},
    {"po", "Po"},
    {"otherpunctuation", "Po"},
    {"s", "S"},
    {"symbol", "S"},
    {"sm", "Sm"},
    {"mathsymbol", "Sm"},
    {"sc", "Sc"},
    {"currencysymbol", "Sc"},
    {"sk", "Sk"},
    {"modifiersymbol", "Sk"},
    {"so", "So"},
    {"othersymbol", "So"},
    {"z", "Z"},
    {"separator", "Z"},
    {"zs", "Zs"},
    {"spaceseparator", "Zs"},
    {"zl", "Zl"},
    {"lineseparator", "Zl"},
    {"zp", "Zp"},
    {"paragraphseparator", "Zp"},
    {"c", "C"},
    {"other", "C"},
    {"cc", "Cc"},
    {"control", "Cc"},
    {"cntrl", "Cc"},
    {"cf", "Cf"},
    {"format", "Cf"},
    {"cn", "Cn"},
    {"unassigned", "Cn"},
    {"co", "Co"},
    {"privateuse", "Co"},
    {"any", "Any"},
    {"alpha", "Alphabetic"},
    {"alphabetic", "Alphabetic"},
    {"upper", "Uppercase"},
    {"uppercase", "Uppercase"},
    {"lower", "Lowercase"},
    {"lowercase", "Lowercase"},
    {"space", "White_Space"},
    {"whitespace", "White_Space"},
};

static bool isDigit(char c) { return c >= '0' && c <= '9'; }
static bool isHexDigit(char c) {
  return isDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
static bool isLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

namespace {

class Translator {
public:
  Translator(std::string_view pattern, std::string &error)
      : pattern(pattern), error(error) {}

  std::optional<std::string> run();

private:
  bool fail(const std::string &what) {
    error = what + " at byte " + std::to_string(at) + " of " + quote(pattern);
    return false;
  }
  bool atEnd(size_t ahead = 0) const { return at + ahead >= pattern.size(); }
  char peek(size_t ahead = 0) const {
    return atEnd(ahead) ? '\0' : pattern[at + ahead];
  }

  /// Each of these consumes its construct and appends its translation.
  bool translateGroup();
  bool translateSet();
  bool translateEscape(bool inSet, bool &isClass);
  bool translateProperty(bool negated, bool inSet);
  bool translatePosix();
  void translateQuantifier(size_t length);

  /// The length of the quantifier at the current place, 0 if there is none.
  /// Sets \p text to its spelling for PCRE2.
  size_t findQuantifier(std::string &text) const;

  /// Marks all since \p start as one item for a quantifier to repeat.
  void finishAtom(size_t start) {
    atomStart = start;
    isQuantified = false;
  }

  std::string_view pattern;
  std::string &error;
  size_t at = 0;
  std::string out;
  /// Where in `out` each open group began.
  std::vector<size_t> openGroups;
  /// Where in `out` the item began that a quantifier would repeat.
  size_t atomStart = 0;
  bool hasAtom = false;
  bool isQuantified = false;
};

} // namespace

size_t Translator::findQuantifier(std::string &text) const {
  char c = peek();
  if (c == '*' || c == '+' || c == '?') {
    text = c;
    if (peek(1) == '?' || peek(1) == '+')
      text += peek(1);
    return text.size();
  }
  if (c != '{')
    return 0;
  size_t ahead = 1;
  std::string low, high;
  while (isDigit(peek(ahead)))
    low += peek(ahead++);
  bool hasComma = peek(ahead) == ',';
  if (hasComma) {
    ++ahead;
    while (isDigit(peek(ahead)))
      high += peek(ahead++);
  }
  if (peek(ahead) != '}' || (low.empty() && high.empty()))
    return 0;
  ++ahead;
  text = "{" + (low.empty() ? "0" : low);
  if (hasComma)
    text += "," + high;
  text += "}";
  if (hasComma && peek(ahead) == '?') {
    text += "?";
    ++ahead;
  }
  return ahead;
}

bool Translator::translateGroup() {
  size_t start = out.size();
  if (peek(1) == '*')
    return fail("unsupported '(*'");
  if (peek(1) != '?') {
    out += '(';
    ++at;
    openGroups.push_back(start);
    hasAtom = false;
    return true;
  }
  auto open = [&](const char *text) {
    out += text;
    at += std::strlen(text);
    openGroups.push_back(start);
    hasAtom = false;
    return true;
  };
  for (const char *text : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"})
    if (pattern.substr(at, std::strlen(text)) == text)
      return open(text);
  if (peek(2) == '#') {
    size_t end = pattern.find(')', at);
    if (end == std::string_view::npos)
      return fail("comment without end");
    at = end + 1;
    return true;
  }
  // Options i and m, on and off, for a group or for the whole pattern.
  std::string options = "(?";
  size_t ahead = 2;
  for (; !atEnd(ahead); ++ahead) {
    char c = peek(ahead);
    if (c == 'i' || c == '-')
      options += c;
    else if (c == 'm')
      options += 's';
    else
      break;
  }
  if (peek(ahead) == ':' && ahead > 2) {
    at += ahead + 1;
    out += options + ":";
    openGroups.push_back(start);
    hasAtom = false;
    return true;
  }
  if (peek(ahead) == ')' && ahead > 2 && at == 0) {
    at += ahead + 1;
    out += options + ")";
    return true;
  }
  return fail("unsupported group");
}

bool Translator::translateProperty(bool negated, bool inSet) {
  size_t end = pattern.find('}', at);
  if (peek() != '{' || end == std::string_view::npos)
    return fail("property without '{name}'");
  std::string_view name = pattern.substr(at + 1, end - at - 1);
  if (!name.empty() && name[0] == '^') {
    negated = !negated;
    name.remove_prefix(1);
  }
  std::string normal, script;
  for (char c : name) {
    if (c == ' ' || c == '-' || c == '_') {
      script += '_';
      continue;
    }
    if (!isLetter(c) && !isDigit(c))
      return fail("unsupported property " + quote(name));
    normal += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    script += c;
  }
  at = end + 1;
  std::string meaning;
  for (auto &[key, value] : categories)
    if (normal == key)
      meaning = value;
  if (normal == "word" || normal == "w") {
    if (inSet && negated)
      return fail("unsupported negated property 'word' in a set");
    out += inSet ? wordRanges : negated ? loneNotWordSet : loneWordSet;
    return true;
  }
  for (const char *unsupported : {"punct", "graph", "print", "alnum", "xdigit",
                                  "blank", "ascii", "assigned"})
    if (normal == unsupported)
      return fail("unsupported property " + quote(name));
  if (meaning.empty())
    meaning = "sc:" + script;
  out += (negated ? "\\P{" : "\\p{") + meaning + "}";
  return true;
}

bool Translator::translateEscape(bool inSet, bool &isClass) {
  isClass = false;
  if (atEnd(1))
    return fail("'\\' without a character");
  char c = peek(1);
  at += 2;
  auto emitClass = [&](const std::string &ranges, bool negated) {
    isClass = true;
    out += inSet ? ranges : (negated ? "[^" : "[") + ranges + "]";
    return true;
  };
  switch (c) {
  case 's':
    return emitClass(spaceRanges, false);
  case 'S':
    return emitClass(inSet ? "\\P{White_Space}" : spaceRanges, true);
  case 'd':
    return emitClass("\\p{Nd}", false);
  case 'D':
    return emitClass(inSet ? "\\P{Nd}" : "\\p{Nd}", true);
  case 'h':
    return emitClass(hexRanges, false);
  case 'w':
    isClass = true;
    out += inSet ? wordRanges : loneWordSet;
    return true;
  case 'W':
  case 'H':
    if (inSet)
      return fail(std::string("unsupported '\\") + c + "' in a set");
    if (c == 'H')
      return emitClass(hexRanges, true);
    out += loneNotWordSet;
    return true;
  case 'p':
  case 'P':
    isClass = true;
    return translateProperty(c == 'P', inSet);
  case 'b':
  case 'B':
    if (inSet) {
      if (c == 'B')
        return fail("unsupported '\\B' in a set");
      out += "\\x{8}";
      return true;
    } else {
      std::string word = loneWordSet;
      if (c == 'b')
        out += "(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word +
               ")(?=" + word + "))";
      else
        out += "(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" +
               word + "))";
      return true;
    }
  case 'v':
    out += "\\x{b}";
    return true;
  case 'n':
  case 't':
  case 'r':
  case 'f':
  case 'a':
  case 'e':
    out += '\\';
    out += c;
    return true;
  case 'R':
  case 'X':
  case 'A':
  case 'Z':
  case 'z':
    if (inSet)
      return fail(std::string("unsupported '\\") + c + "' in a set");
    out += '\\';
    out += c;
    return true;
  case 'x':
  case 'u': {
    std::string digits;
    if (c == 'x' && peek() == '{') {
      for (++at; isHexDigit(peek()) && digits.size() < 8; ++at)
        digits += peek();
      if (peek() != '}' || digits.empty())
        return fail("ill-formed '\\x{'");
      ++at;
    } else {
      size_t limit = c == 'x' ? 2 : 4;
      for (; isHexDigit(peek()) && digits.size() < limit; ++at)
        digits += peek();
      if (digits.empty() || (c == 'u' && digits.size() != 4))
        return fail("ill-formed hexadecimal escape");
      // Oniguruma takes two digits for a byte, not for a character.
      if (c == 'x' && digits.size() == 2 && digits[0] > '7')
        return fail("unsupported escape of a byte");
    }
    out += "\\x{" + digits + "}";
    return true;
  }
  default:
    if (isLetter(c) || isDigit(c))
      return fail(std::string("unsupported escape '\\") + c + "'");
    out += '\\';
    out += c;
    return true;
  }
}

bool Translator::translatePosix() {
  size_t end = pattern.find(":]", at);
  if (end == std::string_view::npos)
    return fail("unsupported nested set");
  std::string_view name = pattern.substr(at + 2, end - at - 2);
  for (auto [posix, ranges] : {std::pair{"alpha", "\\p{Alphabetic}"},
                               {"^alpha", "\\P{Alphabetic}"},
                               {"digit", "\\p{Nd}"},
                               {"^digit", "\\P{Nd}"},
                               {"upper", "\\p{Uppercase}"},
                               {"lower", "\\p{Lowercase}"},
                               {"space", spaceRanges},
                               {"^space", "\\P{White_Space}"},
                               {"cntrl", "\\p{Cc}"},
                               {"word", wordRanges},
                               {"xdigit", hexRanges}}) {
    if (name != posix)
      continue;
    out += ranges;
    at = end + 2;
    return true;
  }
  return fail("unsupported set " + quote(name));
}

bool Translator::translateSet() {
  out += '[';
  ++at;
  if (peek() == '^') {
    out += '^';
    ++at;
  }
  bool isFirst = true, afterClass = false;
  for (;; isFirst = false) {
    if (atEnd())
      return fail("set without ']'");
    char c = peek();
    if (c == ']' && !isFirst)
      break;
    if (c == '[') {
      if (peek(1) != ':')
        return fail("unsupported nested set");
      if (!translatePosix())
        return false;
      afterClass = true;
      continue;
    }
    if (c == '&' && peek(1) == '&')
      return fail("unsupported intersection of sets");
    if (c == '\\') {
      if (!translateEscape(/*inSet=*/true, afterClass))
        return false;
      continue;
    }
    if (c == '-') {
      // Beside a class it is a hyphen in both dialects, but the class may be
      // ranges now, and would swallow it.
      char next = peek(1), escaped = peek(2);
      bool beforeClass =
          (next == '\\' && escaped && std::strchr("sSdDhHwWpP", escaped)) ||
          (next == '[' && escaped == ':');
      out += isFirst || afterClass || beforeClass || next == ']' ? "\\-" : "-";
    } else if (c == ']') {
      out += "\\]";
    } else {
      out += c;
    }
    afterClass = false;
    ++at;
  }
  out += ']';
  ++at;
  return true;
}

void Translator::translateQuantifier(size_t length) {
  std::string text;
  findQuantifier(text);
  at += length;
  if (isQuantified) {
    out.insert(atomStart, "(?:");
    out += ')';
  }
  out += text;
  isQuantified = true;
}

std::optional<std::string> Translator::run() {
  while (!atEnd()) {
    char c = peek();
    size_t start = out.size();
    std::string quantifier;
    if (size_t length = findQuantifier(quantifier)) {
      if (!hasAtom) {
        fail("nothing to repeat");
        return std::nullopt;
      }
      translateQuantifier(length);
      continue;
    }
    switch (c) {
    case '(':
      if (!translateGroup())
        return std::nullopt;
      continue;
    case ')':
      if (openGroups.empty()) {
        fail("')' without '('");
        return std::nullopt;
      }
      out += ')';
      ++at;
      start = openGroups.back();
      openGroups.pop_back();
      break;
    case '[':
      if (!translateSet())
        return std::nullopt;
      break;
    case '\\': {
      bool isClass;
      if (!translateEscape(/*inSet=*/false, isClass))
        return std::nullopt;
      break;
    }
    case '|':
      out += '|';
      ++at;
      hasAtom = false;
      continue;
    case '{':
    case '}':
    case ']':
      out += '\\';
      out += c;
      ++at;
      break;
    default: {
      size_t length = readUtf8(pattern, at).length;
      out.append(pattern.substr(at, length));
      at += length;
      break;
    }
    }
    finishAtom(start);
    hasAtom = true;
  }
  if (!openGroups.empty()) {
    fail("'(' without ')'");
    return std::nullopt;
  }
  return std::move(out);
}

std::optional<std::string> translateRegex(std::string_view pattern,
                                          std::string &error) {
  // Tried at every start, this takes quadratic time on blanks that do not end
  // the text. The first start in a run of blanks sees all the ends that the
  // later ones would see, so only that one needs a try.
  if (pattern == "\\s+$") {
    std::string set = std::string("[") + spaceRanges + "]";
    return "(?<!" + set + ")" + set + "+$";
  }
  return Translator(pattern, error).run();
}

} // namespace hadal::text
