// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A regular expression becomes a tree, the tree an automaton over characters,
// and that the part of a grammar: its nodes are those of the automaton, each
// once for every number of characters that the lengths tell apart.

#include "SchemaPattern.h"

#include "Json.h"
#include "Utf8.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>

namespace hadal::text {

using Impl = Grammar::Impl;

static constexpr int maxNesting = 100;
/// Repeated more often than this, nothing fits a grammar.
static constexpr int64_t maxRepeats = Impl::maxNodes;

namespace {

/// Characters, as ranges in order that do not touch.
class CharacterSet {
public:
  struct Range {
    uint32_t first, last;
    bool operator<(const Range &other) const { return first < other.first; }
  };

  CharacterSet() = default;
  CharacterSet(std::initializer_list<Range> ranges) : ranges(ranges) {
    normalize();
  }

  void add(const CharacterSet &other) {
    ranges.insert(ranges.end(), other.ranges.begin(), other.ranges.end());
    normalize();
  }

  CharacterSet complement() const {
    CharacterSet result;
    uint32_t start = 0;
    for (Range range : ranges) {
      if (range.first > start)
        result.ranges.push_back({start, range.first - 1});
      start = range.last + 1;
    }
    if (start <= 0x10ffff)
      result.ranges.push_back({start, 0x10ffff});
    return result;
  }

  std::vector<Range> ranges;

private:
  void normalize() {
    std::sort(ranges.begin(), ranges.end());
    size_t kept = 0;
    for (Range range : ranges) {
      if (kept && range.first <= ranges[kept - 1].last + 1)
        ranges[kept - 1].last = std::max(ranges[kept - 1].last, range.last);
      else
        ranges[kept++] = range;
    }
    ranges.resize(kept);
  }
};

struct Expression {
  enum Kind { Set, Start, End, Sequence, Choice, Repeat } kind;
  CharacterSet set = {};
  std::vector<Expression> parts = {}; ///< Of a Repeat, the one.
  int64_t min = 0, max = 0;           ///< Of a Repeat; -1: any number.
};

//===----------------------------------------------------------------------===//
// From text to a tree
//===----------------------------------------------------------------------===//

// ECMA-262, "CharacterClassEscape" and "LineTerminator".
CharacterSet digits() { return {{'0', '9'}}; }
CharacterSet wordCharacters() {
  return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
}
CharacterSet spaces() {
  return {{'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},
          {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
          {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
          {0xfeff, 0xfeff}};
}
CharacterSet lineEnds() {
  return {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
}

class PatternReader {
public:
  PatternReader(std::string_view pattern, std::string &error) : error(error) {
    // The reader of the schema has seen to it that this is UTF-8.
    for (size_t i = 0; i < pattern.size();) {
      Utf8Step step = readUtf8(pattern, i);
      text.push_back(step.codePoint);
      i += step.length;
    }
  }

  std::optional<Expression> read() {
    Expression result = readChoice(0);
    if (error.empty() && at < text.size())
      fail("')' closes nothing");
    if (!error.empty())
      return std::nullopt;
    return result;
  }

private:
  void fail(const std::string &message) {
    if (error.empty())
      error = "at character " + std::to_string(at) + ", " + message;
  }

  bool isAt(char32_t character) const {
    return at < text.size() && text[at] == character;
  }
  bool take(char32_t character) {
    if (!isAt(character))
      return false;
    ++at;
    return true;
  }
  bool take(std::u32string_view characters) {
    if (std::u32string_view(text).substr(at, characters.size()) != characters)
      return false;
    at += characters.size();
    return true;
  }

  Expression readChoice(int depth) {
    Expression result = {Expression::Choice};
    do
      result.parts.push_back(readSequence(depth));
    while (error.empty() && take('|'));
    return result;
  }

  Expression readSequence(int depth) {
    Expression result = {Expression::Sequence};
    while (error.empty() && at < text.size() && !isAt('|') && !isAt(')'))
      result.parts.push_back(readTerm(depth));
    return result;
  }

  Expression readTerm(int depth) {
    if (take('^'))
      return {Expression::Start};
    if (take('$'))
      return {Expression::End};
    Expression atom = readAtom(depth);
    int64_t min = 1, max = 1;
    if (take('*')) {
      min = 0, max = -1;
    } else if (take('+')) {
      max = -1;
    } else if (take('?')) {
      min = 0;
    } else if (take('{')) {
      max = min = readCount();
      if (take(','))
        max = isAt('}') ? -1 : readCount();
      if (!take('}'))
        fail("expected '}'");
      else if (max >= 0 && max < min)
        fail("a repetition has its limits the wrong way around");
    } else {
      return atom;
    }
    take('?'); // Lazy: the same strings match.
    Expression result = {Expression::Repeat};
    result.parts.push_back(std::move(atom));
    result.min = min;
    result.max = max;
    return result;
  }

  int64_t readCount() {
    if (at == text.size() || text[at] < '0' || text[at] > '9')
      fail("expected a count");
    int64_t count = 0;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at)
      count = std::min<int64_t>(count * 10 + (text[at] - '0'), maxRepeats);
    return count;
  }

  Expression readAtom(int depth) {
    if (take('('))
      return readGroup(depth);
    if (take('['))
      return {Expression::Set, readClass()};
    if (take('.'))
      return {Expression::Set, lineEnds().complement()};
    if (take('\\'))
      return {Expression::Set, readEscape(/*inClass=*/false)};
    uint32_t character = text[at];
    if (character < 0x80 && strchr("*+?{}]", int(character)) && character) {
      fail(std::string("'") + char(character) +
           (strchr("}]", int(character)) ? "' closes nothing"
                                         : "' repeats nothing"));
      return {Expression::Sequence};
    }
    ++at;
    return {Expression::Set, {{character, character}}};
  }

  Expression readGroup(int depth) {
    if (take(U"?=") || take(U"?!") || take(U"?<=") || take(U"?<!"))
      fail("a pattern that looks around is not supported");
    else if (take(U"?<"))
      while (error.empty() && !take('>'))
        if (at++ >= text.size())
          fail("expected '>'");
    if (isAt('?') && !take(U"?:"))
      fail("a group of this kind is not supported");
    if (depth == maxNesting)
      fail("nested deeper than " + std::to_string(maxNesting));
    if (!error.empty())
      return {Expression::Sequence};
    Expression result = readChoice(depth + 1);
    if (!take(')'))
      fail("expected ')'");
    return result;
  }

  /// Reads a class after its '['.
  CharacterSet readClass() {
    CharacterSet result;
    bool isComplement = take('^');
    while (error.empty() && !take(']')) {
      CharacterSet first = readClassAtom();
      if (isAt('-') && at + 1 < text.size() && text[at + 1] != ']') {
        ++at;
        CharacterSet last = readClassAtom();
        if (!error.empty())
          break;
        auto isOne = [](const CharacterSet &set) {
          return set.ranges.size() == 1 &&
                 set.ranges[0].first == set.ranges[0].last;
        };
        if (!isOne(first) || !isOne(last) ||
            first.ranges[0].first > last.ranges[0].first) {
          fail("expected a range from one character to a later one");
          break;
        }
        first.ranges[0].last = last.ranges[0].first;
      }
      result.add(first);
    }
    return isComplement ? result.complement() : result;
  }

  CharacterSet readClassAtom() {
    if (at == text.size()) {
      fail("expected ']'");
      return {};
    }
    if (take('\\'))
      return readEscape(/*inClass=*/true);
    uint32_t character = text[at++];
    return {{character, character}};
  }

  /// Reads what comes after a '\'.
  CharacterSet readEscape(bool inClass) {
    if (at == text.size()) {
      fail("nothing comes after '\\'");
      return {};
    }
    uint32_t character = text[at++];
    switch (character) {
    case 'd':
      return digits();
    case 'D':
      return digits().complement();
    case 'w':
      return wordCharacters();
    case 'W':
      return wordCharacters().complement();
    case 's':
      return spaces();
    case 'S':
      return spaces().complement();
    case 't':
      return {{'\t', '\t'}};
    case 'n':
      return {{'\n', '\n'}};
    case 'v':
      return {{'\v', '\v'}};
    case 'f':
      return {{'\f', '\f'}};
    case 'r':
      return {{'\r', '\r'}};
    case 'x':
      return readHex(2, 2);
    case 'u':
      return readUnicode();
    }
    bool isDigitNext = at < text.size() && text[at] >= '0' && text[at] <= '9';
    if (character == '0' && !isDigitNext)
      return {{0, 0}};
    if (character == 'b' && inClass)
      return {{'\b', '\b'}};
    // Punctuation stands for itself; the flag `u` would allow less of it.
    if (character < 0x80 && std::ispunct(int(character)))
      return {{character, character}};
    std::string name = "\\";
    appendUtf8(name, character);
    fail("the escape " + quote(name) + " is not supported");
    return {};
  }

  CharacterSet readUnicode() {
    if (take('{')) {
      CharacterSet result = readHex(1, 6);
      if (!take('}'))
        fail("expected '}'");
      return result;
    }
    CharacterSet first = readHex(4, 4);
    if (!error.empty())
      return {};
    uint32_t high = first.ranges[0].first;
    if (high < 0xd800 || high > 0xdbff || !take(U"\\u"))
      return first;
    CharacterSet second = readHex(4, 4);
    if (!error.empty())
      return {};
    uint32_t low = second.ranges[0].first;
    if (low < 0xdc00 || low > 0xdfff) {
      second.add(first); // Two halves, and no string has either.
      return second;
    }
    uint32_t character = 0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff);
    return {{character, character}};
  }

  CharacterSet readHex(size_t minDigits, size_t maxDigits) {
    uint32_t value = 0;
    size_t count = 0;
    for (; count < maxDigits && at < text.size(); ++count, ++at) {
      uint32_t digit = text[at];
      if (digit >= '0' && digit <= '9')
        digit -= '0';
      else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f')
        digit = (digit | 0x20) - 'a' + 10;
      else
        break;
      value = value << 4 | digit;
    }
    if (count < minDigits || value > 0x10ffff) {
      fail("expected the number of a character");
      return {};
    }
    return {{value, value}};
  }

  std::u32string text;
  size_t at = 0;
  std::string &error;
};

//===----------------------------------------------------------------------===//
// From a tree to a grammar
//===----------------------------------------------------------------------===//

/// A nondeterministic automaton over characters.
class Automaton {
public:
  /// Matches \p pattern anywhere in a text.
  explicit Automaton(const Expression &pattern) {
    int32_t start = addNode();
    addSet(start, start, CharacterSet().complement());
    end = write(pattern, start);
    addSet(end, end, CharacterSet().complement());
  }

  bool isTooLarge() const { return nodes.size() > Impl::maxNodes; }

  /// Writes between \p from and \p to the strings that it takes.
  void addTo(Impl &grammar, int32_t from, int32_t to, int64_t min, int64_t max);

private:
  struct Edge {
    enum Kind { Set, Nothing, Start, End } kind;
    int32_t to;
    size_t set = 0; ///< Its number.
  };

  int32_t addNode() {
    nodes.emplace_back();
    return int32_t(nodes.size()) - 1;
  }
  void addEdge(int32_t from, int32_t to, Edge::Kind kind) {
    nodes[size_t(from)].push_back({kind, to});
  }
  void addSet(int32_t from, int32_t to, const CharacterSet &set) {
    nodes[size_t(from)].push_back({Edge::Set, to, sets.size()});
    sets.push_back(set);
  }

  /// Writes \p expression from \p from on. \returns The node where it ends.
  int32_t write(const Expression &expression, int32_t from) {
    switch (expression.kind) {
    case Expression::Set: {
      int32_t to = addNode();
      addSet(from, to, expression.set);
      return to;
    }
    case Expression::Start:
    case Expression::End: {
      int32_t to = addNode();
      bool isStart = expression.kind == Expression::Start;
      addEdge(from, to, isStart ? Edge::Start : Edge::End);
      return to;
    }
    case Expression::Sequence:
      for (const Expression &part : expression.parts)
        from = write(part, from);
      return from;
    case Expression::Choice: {
      if (expression.parts.size() == 1)
        return write(expression.parts[0], from);
      int32_t to = addNode();
      for (const Expression &part : expression.parts) {
        int32_t start = addNode();
        addEdge(from, start, Edge::Nothing);
        addEdge(write(part, start), to, Edge::Nothing);
      }
      return to;
    }
    case Expression::Repeat:
      return writeRepeat(expression, from);
    }
    return from;
  }

  int32_t writeRepeat(const Expression &expression, int32_t from) {
    const Expression &part = expression.parts[0];
    // A node of its own, so that each copy counts for the size.
    auto next = [&] {
      int32_t node = addNode();
      addEdge(from, node, Edge::Nothing);
      return from = node;
    };
    for (int64_t i = 0; i < expression.min && !isTooLarge(); ++i)
      from = write(part, next());
    int32_t to = addNode();
    if (expression.max < 0) {
      int32_t loop = next();
      addEdge(write(part, loop), loop, Edge::Nothing);
    }
    for (int64_t i = expression.min; i < expression.max && !isTooLarge(); ++i) {
      addEdge(from, to, Edge::Nothing);
      from = write(part, next());
    }
    addEdge(from, to, Edge::Nothing);
    return to;
  }

  std::vector<std::vector<Edge>> nodes;
  std::vector<CharacterSet> sets;
  int32_t end;
};

} // namespace

/// Writes a character of \p set as a string of JSON has it.
static void addSetTo(Impl &grammar, int32_t from, int32_t to,
                     const CharacterSet &set) {
  auto addPlain = [&](uint32_t first, uint32_t last,
                      CharacterSet::Range range) {
    grammar.addCharacter(from, to, std::max(first, range.first),
                         std::min(last, range.last));
  };
  auto addEscaped = [&](uint32_t character, CharacterSet::Range range) {
    if (character >= range.first && character <= range.last) {
      std::string text = quoteJson(std::string(1, char(character)));
      grammar.addText(from, to, text.substr(1, text.size() - 2));
    }
  };
  for (CharacterSet::Range range : set.ranges) {
    for (uint32_t character = 0; character < ' '; ++character)
      addEscaped(character, range);
    addEscaped('"', range);
    addEscaped('\\', range);
    addPlain(' ', '!', range);
    addPlain('#', '[', range);
    addPlain(']', 0xd7ff, range);
    addPlain(0xe000, 0x10ffff, range);
  }
}

void Automaton::addTo(Impl &grammar, int32_t from, int32_t to, int64_t min,
                      int64_t max) {
  // One rule a set.
  std::vector<int32_t> rules;
  for (const CharacterSet &set : sets) {
    rules.push_back(grammar.addRule());
    addSetTo(grammar, grammar.starts[size_t(rules.back())],
             grammar.endOf(rules.back()), set);
    if (grammar.isTooLarge())
      return;
  }
  /// A node of the automaton; whether no character came before it; whether none
  /// may come after it; and how many came, as far as that matters.
  using Place = std::tuple<int32_t, bool, bool, int64_t>;
  std::map<Place, int32_t> places;
  std::vector<std::pair<Place, int32_t>> pending;
  auto placeOf = [&](Place place) {
    auto [it, isNew] = places.try_emplace(place, 0);
    if (isNew) {
      it->second = grammar.addNode();
      pending.emplace_back(place, it->second);
    }
    return it->second;
  };
  int32_t last = grammar.addNode();
  grammar.addByte(from, placeOf({0, true, false, 0}), '"', '"');
  grammar.addByte(last, to, '"', '"');
  const int64_t mostCounted = max < 0 ? min : max;
  while (!pending.empty() && !grammar.isTooLarge()) {
    auto [place, node] = pending.back();
    pending.pop_back();
    auto [at, isFirst, isLast, count] = place;
    if (at == end && count >= min)
      grammar.addJump(node, last);
    for (const Edge &edge : nodes[size_t(at)]) {
      switch (edge.kind) {
      case Edge::Set:
        if (!isLast && (max < 0 || count < max))
          grammar.addCall(node,
                          placeOf({edge.to, false, false,
                                   std::min(count + 1, mostCounted)}),
                          rules[edge.set]);
        break;
      case Edge::Nothing:
        grammar.addJump(node, placeOf({edge.to, isFirst, isLast, count}));
        break;
      case Edge::Start:
        if (isFirst)
          grammar.addJump(node, placeOf({edge.to, isFirst, isLast, count}));
        break;
      case Edge::End:
        grammar.addJump(node, placeOf({edge.to, isFirst, true, count}));
        break;
      }
    }
  }
}

bool addPattern(Impl &grammar, int32_t from, int32_t to,
                std::string_view pattern, int64_t min, int64_t max,
                std::string &error) {
  std::optional<Expression> expression = PatternReader(pattern, error).read();
  if (!expression)
    return false;
  Automaton automaton(*expression);
  if (automaton.isTooLarge()) {
    error = "it takes more than " + std::to_string(Impl::maxNodes) + " nodes";
    return false;
  }
  automaton.addTo(grammar, from, to, min, max);
  return true;
}

//===----------------------------------------------------------------------===//
// Formats
//===----------------------------------------------------------------------===//

std::optional<std::string> findFormat(std::string_view name) {
  // RFC 3339, section 5.6. Years have no leading zero, and minutes 60 seconds.
  const std::string date =
      R"((?:[1-9]\d{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|)"
      R"((?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))|)"
      R"((?:[1-9]\d(?:0[48]|[2468][048]|[13579][26])|)"
      R"((?:[2468][048]|[13579][26])00)-02-29))";
  const std::string minute = R"((?:[01]\d|2[0-3]):[0-5]\d)";
  const std::string time =
      minute + R"(:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-])" + minute + ")";
  // RFC 3339, appendix A. Each number but the last can be followed by the next
  // smaller one.
  const std::string days =
      R"((?:\d{1,9}Y(?:\d{1,9}M(?:\d{1,9}D)?)?|\d{1,9}M(?:\d{1,9}D)?|\d{1,9}D))";
  const std::string hours = R"(T(?:\d{1,9}H(?:\d{1,9}M(?:\d{1,9}S)?)?|)"
                            R"(\d{1,9}M(?:\d{1,9}S)?|\d{1,9}S))";
  // RFC 1123, section 2.1. No two hyphens in a row, which would announce a name
  // of another script; the lengths keep the whole below 250 characters.
  const std::string label = "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,30}";
  auto host = [&](const char *dots) {
    return label + R"((?:\.)" + label + "){0," + dots + "}";
  };
  // RFC 5321, section 4.1.2: a Dot-string, below 64 characters.
  const std::string mailbox = R"([A-Za-z0-9!#$%&'*+/=?^_`{|}~-])";
  const std::string byte = R"((?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))";
  // RFC 4291, section 2.2, without the form that ends in an address of IPv4:
  // eight groups, or at least one of them left out between others.
  const std::string group = "[0-9A-Fa-f]{1,4}";
  auto upTo = [](const std::string &part, int count) {
    return "(?:" + part + "){1," + std::to_string(count) + "}";
  };
  std::string ipv6 = "(?:" + group + ":){7}" + group +
                     "|:(?:" + upTo(":" + group, 7) + "|:)|" +
                     upTo(group + ":", 7) + ":";
  for (int before = 1; before <= 6; ++before)
    ipv6 += "|" + upTo(group + ":", before) + upTo(":" + group, 7 - before);
  // RFC 3986, appendix A, with a host.
  const std::string character =
      R"((?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}))";
  const std::string rest = "(?:" + character + "|[/?])*";

  const std::pair<const char *, std::string> formats[] = {
      {"date", date},
      {"date-time", date + "T" + time},
      {"duration",
       R"(P(?:\d{1,9}W|)" + days + "(?:" + hours + ")?|" + hours + ")"},
      {"email", mailbox + R"((?:\.?)" + mailbox + "){0,31}@" + host("2")},
      {"hostname", host("3")},
      {"ipv4", byte + R"((?:\.)" + byte + "){3}"},
      {"ipv6", ipv6},
      {"json-pointer", "(?:/(?:[^/~]|~[01])*)*"},
      {"time", time},
      {"uri", "[A-Za-z][A-Za-z0-9+.-]*://" + host("3") +
                  R"((?::\d{1,4})?(?:/)" + character + R"(*)*(?:\?)" + rest +
                  ")?(?:#" + rest + ")?"},
      {"uuid", "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"}};
  for (const auto &[known, pattern] : formats)
    if (known == name)
      return "^(?:" + pattern + ")$";
  return std::nullopt;
}

} // namespace hadal::text
