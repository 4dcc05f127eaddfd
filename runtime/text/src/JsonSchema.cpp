// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A JSON schema as a grammar. A keyword that is not known here is refused: a
// text that leaves it out of account might not be valid.

#include "Grammar.h"

#include "Json.h"
#include "SchemaPattern.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>

namespace hadal::text {

using Impl = Grammar::Impl;

static constexpr size_t maxSchemaBytes = 1 << 20;
static constexpr size_t maxSchemaNesting = 100;
static constexpr int64_t maxCount = Impl::maxNodes;
/// Of one enum, of the properties of one object, of one anyOf.
static constexpr size_t maxValues = 1000, maxProperties = 1000;
static constexpr size_t maxChoices = 100;
/// Most pairs of members that are compared for all oneOf together.
static constexpr size_t maxComparisons = 10000000;
static constexpr int32_t maxIntegerDigits = 18;
/// Decimals of so many digits are all different in f64.
static constexpr int32_t maxNumberDigits = 15;
static constexpr int64_t maxIndent = 16;

//===----------------------------------------------------------------------===//
// JSON whose members keep their order
//===----------------------------------------------------------------------===//

namespace {

struct Value {
  enum Kind { Null, Bool, Integer, Number, String, Array, Object } kind = Null;
  bool isTrue = false;
  std::string text; ///< Of a string, its bytes; of a number, as it stands.
  std::vector<Value> items;
  std::vector<std::pair<std::string, Value>> members;

  const Value *find(std::string_view key) const {
    for (const auto &[name, value] : members)
      if (name == key)
        return &value;
    return nullptr;
  }
};

/// Puts a Value together from what nlohmann's parser reads.
class ValueBuilder {
public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  explicit ValueBuilder(Value &root) { open.push_back(&root); }

  bool null() { return add({}); }
  bool boolean(bool value) { return add({Value::Bool, value, {}, {}, {}}); }
  bool number_integer(number_integer_t value) {
    return add({Value::Integer, false, std::to_string(value), {}, {}});
  }
  bool number_unsigned(number_unsigned_t value) {
    return add({Value::Integer, false, std::to_string(value), {}, {}});
  }
  bool number_float(number_float_t, const string_t &text) {
    return add({Value::Number, false, text, {}, {}});
  }
  bool string(string_t &text) {
    return add({Value::String, false, std::move(text), {}, {}});
  }
  bool binary(binary_t &) { return false; }
  bool start_object(size_t) { return enter(Value::Object); }
  bool start_array(size_t) { return enter(Value::Array); }
  bool end_object() { return leave(); }
  bool end_array() { return leave(); }
  bool key(string_t &text) {
    if (!seen.back().insert(text).second) {
      error = "the key " + quote(text) + " comes twice";
      return false;
    }
    nextKey = std::move(text);
    return true;
  }
  bool parse_error(size_t position, const std::string &,
                   const nlohmann::detail::exception &) {
    error = "not JSON: wrong at byte " + std::to_string(position);
    return false;
  }

  std::string error;

private:
  Value *place() {
    Value &parent = *open.back();
    if (seen.empty()) // The root itself.
      return &parent;
    if (parent.kind == Value::Array)
      return &parent.items.emplace_back();
    parent.members.emplace_back(std::move(nextKey), Value());
    return &parent.members.back().second;
  }
  bool add(Value value) {
    *place() = std::move(value);
    return true;
  }
  bool enter(Value::Kind kind) {
    if (open.size() > maxSchemaNesting) {
      error = "nested deeper than " + std::to_string(maxSchemaNesting);
      return false;
    }
    Value *value = place();
    value->kind = kind;
    open.push_back(value);
    seen.emplace_back();
    return true;
  }
  bool leave() {
    open.pop_back();
    seen.pop_back();
    return true;
  }

  std::vector<Value *> open; ///< The root, and what is not closed yet.
  std::vector<std::set<std::string>> seen; ///< Keys of what is not closed.
  std::string nextKey;
};

} // namespace

/// \p value without spaces.
static std::string writeJson(const Value &value) {
  std::string out;
  switch (value.kind) {
  case Value::Null:
    return "null";
  case Value::Bool:
    return value.isTrue ? "true" : "false";
  case Value::Integer:
  case Value::Number:
    return value.text;
  case Value::String:
    return quoteJson(value.text);
  case Value::Array:
    for (const Value &item : value.items)
      out += (out.empty() ? "" : ",") + writeJson(item);
    return "[" + out + "]";
  case Value::Object:
    for (const auto &[key, member] : value.members)
      out +=
          (out.empty() ? "" : ",") + quoteJson(key) + ":" + writeJson(member);
    return "{" + out + "}";
  }
  return out;
}

//===----------------------------------------------------------------------===//
// Numbers within bounds
//===----------------------------------------------------------------------===//

namespace {

/// A number as digits: "012" and "5" are 12.5.
struct Decimal {
  bool isNegative = false;
  std::string whole = "0"; ///< No zeros before; at least one digit.
  std::string fraction;    ///< No zeros after.

  bool isZero() const { return whole == "0" && fraction.empty(); }
};

/// Where a range of numbers ends.
struct Bound {
  Decimal at;
  bool isExclusive = false;
};

/// The numbers of no sign from one bound to another.
struct Magnitudes {
  Bound min;
  const Bound *max; ///< Null: none.
  bool isInteger;
};

} // namespace

/// Reads \p text, a number of JSON.
static Decimal readDecimal(std::string_view text) {
  Decimal result;
  result.isNegative = text[0] == '-';
  if (result.isNegative)
    text.remove_prefix(1);
  int64_t exponent = 0;
  if (size_t at = text.find_first_of("eE"); at != text.npos) {
    // nlohmann refuses what overflows f64; what underflows is cut off here.
    exponent = std::clamp<int64_t>(
        atoll(std::string(text.substr(at + 1)).c_str()), -1000, 1000);
    text = text.substr(0, at);
  }
  size_t point = std::min(text.find('.'), text.size());
  std::string digits(text.substr(0, point));
  if (point < text.size())
    digits += text.substr(point + 1);
  int64_t wholeDigits = int64_t(point) + exponent;
  if (wholeDigits < 0)
    digits.insert(0, size_t(-wholeDigits), '0');
  wholeDigits = std::max<int64_t>(wholeDigits, 0);
  if (int64_t(digits.size()) < wholeDigits)
    digits.resize(size_t(wholeDigits), '0');
  result.whole = digits.substr(0, size_t(wholeDigits));
  result.fraction = digits.substr(size_t(wholeDigits));
  size_t zeros =
      std::min(result.whole.find_first_not_of('0'), result.whole.size());
  result.whole.erase(0, zeros);
  if (result.whole.empty())
    result.whole = "0";
  result.fraction.erase(result.fraction.find_last_not_of('0') + 1);
  if (result.isZero())
    result.isNegative = false;
  return result;
}

/// -1, 0 or 1.
static int compare(const Decimal &a, const Decimal &b) {
  if (a.isNegative != b.isNegative)
    return a.isNegative ? -1 : 1;
  int order = a.whole.size() != b.whole.size()
                  ? (a.whole.size() < b.whole.size() ? -1 : 1)
                  : a.whole.compare(b.whole);
  if (!order)
    order = a.fraction.compare(b.fraction);
  order = order < 0 ? -1 : order > 0;
  return a.isNegative ? -order : order;
}

namespace {

/// Writes the numbers of one length before the point that are in a range.
class DigitWriter {
public:
  DigitWriter(Impl &grammar, const Magnitudes &range, int32_t wholeDigits,
              int32_t fractionDigits, int32_t to)
      : grammar(grammar), range(range), wholeDigits(wholeDigits),
        fractionDigits(fractionDigits), to(to) {}

  void write(int32_t from) {
    auto length = [](const Decimal &number) {
      return int32_t(number.whole.size());
    };
    if (wholeDigits < length(range.min.at) ||
        (range.max && wholeDigits > length(range.max->at)))
      return;
    bool atMin = wholeDigits == length(range.min.at);
    bool atMax = range.max && wholeDigits == length(range.max->at);
    grammar.addJump(from, place({0, false, atMin, atMax}));
    while (!pending.empty()) {
      auto [key, node] = pending.back();
      pending.pop_back();
      writePlace(key, node);
    }
  }

private:
  /// Digits so far, whether the point came, and whether the digits are those of
  /// the bounds.
  struct Place {
    int32_t digits;
    bool hasPoint, atMin, atMax;
    bool operator<(const Place &other) const {
      return std::tie(digits, hasPoint, atMin, atMax) <
             std::tie(other.digits, other.hasPoint, other.atMin, other.atMax);
    }
  };

  int32_t place(Place key) {
    auto [it, isNew] = places.try_emplace(key, 0);
    if (isNew) {
      it->second = grammar.addNode();
      pending.emplace_back(key, it->second);
    }
    return it->second;
  }

  char digitOf(const Decimal &number, int32_t at) const {
    if (at < wholeDigits)
      return number.whole[size_t(at)];
    auto after = size_t(at - wholeDigits);
    return after < number.fraction.size() ? number.fraction[after] : '0';
  }

  /// Whether all digits of \p number from \p at on are 0.
  bool isZeroFrom(const Decimal &number, int32_t at) const {
    return int32_t(number.fraction.size()) <= at - wholeDigits;
  }

  /// Whether the number may end at \p key.
  bool canEnd(const Place &key) const {
    if (key.digits < wholeDigits || (key.hasPoint && key.digits == wholeDigits))
      return false;
    if (key.atMin &&
        (!isZeroFrom(range.min.at, key.digits) || range.min.isExclusive))
      return false;
    return !key.atMax || !isZeroFrom(range.max->at, key.digits) ||
           !range.max->isExclusive;
  }

  void writePlace(const Place &key, int32_t node) {
    if (canEnd(key))
      grammar.addJump(node, to);
    if (key.digits == wholeDigits && !key.hasPoint) {
      if (fractionDigits > 0)
        grammar.addByte(node, place({key.digits, true, key.atMin, key.atMax}),
                        '.', '.');
      return;
    }
    if (key.digits == wholeDigits + fractionDigits)
      return;
    char low = key.atMin ? digitOf(range.min.at, key.digits) : '0';
    char high = key.atMax ? digitOf(range.max->at, key.digits) : '9';
    for (char digit = low; digit <= high; ++digit) {
      if (digit == '0' && !key.digits && wholeDigits > 1)
        continue;
      Place next = {key.digits + 1, key.hasPoint, key.atMin && digit == low,
                    key.atMax && digit == high};
      grammar.addByte(node, place(next), uint8_t(digit), uint8_t(digit));
    }
  }

  Impl &grammar;
  const Magnitudes &range;
  const int32_t wholeDigits, fractionDigits, to;
  std::map<Place, int32_t> places;
  std::vector<std::pair<Place, int32_t>> pending;
};

} // namespace

static void writeMagnitudes(Impl &grammar, int32_t from, int32_t to,
                            const Magnitudes &range) {
  int32_t most = range.isInteger ? maxIntegerDigits : maxNumberDigits;
  for (int32_t digits = 1; digits <= most; ++digits)
    DigitWriter(grammar, range, digits, range.isInteger ? 0 : most - digits, to)
        .write(from);
}

//===----------------------------------------------------------------------===//
// Schemas
//===----------------------------------------------------------------------===//

/// Keywords that say nothing of what is valid.
static constexpr const char *annotations[] = {
    "$schema",     "$id",       "$comment",    "$defs",
    "definitions", "title",     "default",     "deprecated",
    "readOnly",    "writeOnly", "description", "examples"};

static bool isAnnotation(const std::string &keyword) {
  return std::find(std::begin(annotations), std::end(annotations), keyword) !=
         std::end(annotations);
}

static constexpr const char *typeNames[] = {
    "null", "boolean", "integer", "number", "string", "array", "object"};

/// Keywords that speak of one type alone, and that type.
static constexpr std::pair<const char *, const char *> typedKeywords[] = {
    {"minimum", "number"},
    {"maximum", "number"},
    {"exclusiveMinimum", "number"},
    {"exclusiveMaximum", "number"},
    {"minLength", "string"},
    {"maxLength", "string"},
    {"pattern", "string"},
    {"format", "string"},
    {"items", "array"},
    {"prefixItems", "array"},
    {"minItems", "array"},
    {"maxItems", "array"},
    {"uniqueItems", "array"},
    {"properties", "object"},
    {"required", "object"},
    {"additionalProperties", "object"}};

namespace {

class SchemaReader {
public:
  SchemaReader(const Value &root, Impl &grammar, std::string &error)
      : root(root), grammar(grammar), error(error) {}

  bool read() {
    ruleOf(root, "");
    while (!pending.empty() && error.empty()) {
      Pending next = pending.front();
      pending.pop_front();
      where = next.where;
      readSchema(*next.schema, grammar.starts[size_t(next.rule)],
                 grammar.endOf(next.rule));
      if (grammar.isTooLarge())
        return fail("the grammar of the schema is too large");
    }
    if (error.empty() && !grammar.finish()) {
      where.clear();
      return fail("no value follows the schema");
    }
    return error.empty();
  }

private:
  struct Pending {
    const Value *schema;
    int32_t rule;
    std::string where;
  };
  struct Property {
    std::string name;
    int32_t rule;
    bool isRequired;
  };

  bool fail(const std::string &message) {
    if (error.empty())
      error = "at " + quote(where.empty() ? "/" : where) + ": " + message;
    return false;
  }

  std::string below(const std::string &key) const {
    return where.size() + key.size() < 200 ? where + "/" + key : where;
  }

  /// The rule of \p schema, which is read later if it was not yet.
  int32_t ruleOf(const Value &schema, std::string place) {
    auto [it, isNew] = rules.try_emplace(&schema, 0);
    if (isNew) {
      it->second = grammar.addRule();
      pending.push_back({&schema, it->second, std::move(place)});
    }
    return it->second;
  }

  // Rules that all schemas share.
  int32_t anyRule() { return ruleOf(any, where); }
  int32_t spaceRule();
  int32_t characterRule();
  int32_t digitRule();

  void readSchema(const Value &schema, int32_t from, int32_t to);
  bool checkKeywords(const Value &schema);
  bool expectAlone(const Value &schema, const char *keyword,
                   const char *allowed = "");
  std::optional<std::set<std::string>> typesOf(const Value &schema);
  const Value *resolve(const std::string &reference);
  const Value *follow(const Value *schema);
  bool areApart(const Value &first, const Value &second, int depth = 0);
  void readChoices(const Value &schema, const char *keyword, int32_t from,
                   int32_t to);
  void readValues(const Value &schema, int32_t from, int32_t to);
  void readType(const std::string &type, const Value &schema, int32_t from,
                int32_t to);
  bool readCount(const Value &schema, const char *keyword, int64_t &count);
  bool readCounts(const Value &schema, const char *minKeyword,
                  const char *maxKeyword, int64_t &min, int64_t &max);
  void readPattern(const char *keyword, const Value &value, int64_t min,
                   int64_t max, int32_t from, int32_t to);
  void readString(const Value &schema, int32_t from, int32_t to);
  void readNumber(const Value &schema, bool isInteger, int32_t from,
                  int32_t to);
  void readArray(const Value &schema, int32_t from, int32_t to);
  void readObject(const Value &schema, int32_t from, int32_t to);
  void addMember(int32_t from, int32_t to, const std::string &name,
                 int32_t value);
  void addOtherKey(int32_t from, int32_t to,
                   const std::vector<Property> &properties);
  void addSpace(int32_t from, int32_t to) {
    grammar.addCall(from, to, spaceRule());
  }

  const Value &root;
  Impl &grammar;
  std::string &error;
  std::string where; ///< The JSON pointer of what is read.
  std::deque<Pending> pending;
  std::map<const Value *, int32_t> rules;
  const Value any = {Value::Bool, true, {}, {}, {}};
  int32_t space = -1, character = -1, digit = -1;
  size_t comparisons = 0;
};

} // namespace

int32_t SchemaReader::spaceRule() {
  if (space >= 0)
    return space;
  int32_t indent = grammar.addRule();
  for (uint8_t byte : {' ', '\t'})
    grammar.addByte(grammar.starts[size_t(indent)], grammar.endOf(indent), byte,
                    byte);
  space = grammar.addRule();
  int32_t start = grammar.starts[size_t(space)], end = grammar.endOf(space);
  grammar.addJump(start, end);
  grammar.addByte(start, end, ' ', ' ');
  int32_t line = grammar.addNode();
  grammar.addByte(start, line, '\n', '\n');
  grammar.addRepeated(line, end, indent, 0, maxIndent);
  return space;
}

/// One character of a string. A code point beyond U+FFFF that is escaped is one
/// too, of two escapes.
int32_t SchemaReader::characterRule() {
  if (character >= 0)
    return character;
  character = grammar.addRule();
  int32_t start = grammar.starts[size_t(character)];
  int32_t end = grammar.endOf(character);
  grammar.addCharacter(start, end, ' ', '!');
  grammar.addCharacter(start, end, '#', '[');
  grammar.addCharacter(start, end, ']', 0xd7ff);
  grammar.addCharacter(start, end, 0xe000, 0x10ffff);
  int32_t escape = grammar.addNode();
  grammar.addByte(start, escape, '\\', '\\');
  for (char byte : {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'})
    grammar.addByte(escape, end, uint8_t(byte), uint8_t(byte));
  auto addHex = [&](int32_t from, int32_t to, const char *low,
                    const char *high) {
    auto add = [&](char first, char last) {
      first = std::max(first, *low);
      last = std::min(last, *high);
      if (first <= last)
        grammar.addByte(from, to, uint8_t(first), uint8_t(last));
    };
    // `low` and `high` are digits, or letters of the one case or the other.
    add('0', '9');
    add('A', 'F');
    add('a', 'f');
  };
  auto addHexes = [&](int32_t from, int32_t to, int count) {
    for (; count; --count) {
      int32_t next = count == 1 ? to : grammar.addNode();
      addHex(from, next, "0", "f");
      from = next;
    }
  };
  int32_t unicode = grammar.addNode();
  grammar.addByte(escape, unicode, 'u', 'u');
  // Not D800 to DFFF.
  int32_t afterFirst = grammar.addNode(), afterD = grammar.addNode();
  int32_t afterSecond = grammar.addNode();
  addHex(unicode, afterFirst, "0", "9");
  for (auto [low, high] :
       {std::pair("A", "C"), {"E", "F"}, {"a", "c"}, {"e", "f"}})
    addHex(unicode, afterFirst, low, high);
  addHexes(afterFirst, end, 3);
  for (auto byte : {"D", "d"})
    addHex(unicode, afterD, byte, byte);
  addHex(afterD, afterSecond, "0", "7");
  addHexes(afterSecond, end, 2);
  // D800 to DBFF, and then DC00 to DFFF.
  int32_t high = grammar.addNode(), low = grammar.addNode();
  int32_t lowD = grammar.addNode(), lowSecond = grammar.addNode();
  int32_t afterHigh = grammar.addNode();
  for (auto [first, last] : {std::pair("8", "9"), {"A", "B"}, {"a", "b"}})
    addHex(afterD, high, first, last);
  addHexes(high, afterHigh, 2);
  grammar.addText(afterHigh, low, "\\u");
  for (auto byte : {"D", "d"})
    addHex(low, lowD, byte, byte);
  for (auto [first, last] : {std::pair("C", "F"), {"c", "f"}})
    addHex(lowD, lowSecond, first, last);
  addHexes(lowSecond, end, 2);
  return character;
}

int32_t SchemaReader::digitRule() {
  if (digit >= 0)
    return digit;
  digit = grammar.addRule();
  grammar.addByte(grammar.starts[size_t(digit)], grammar.endOf(digit), '0',
                  '9');
  return digit;
}

/// Refuses keywords that are not known, or not of the right type.
bool SchemaReader::checkKeywords(const Value &schema) {
  static const std::set<std::string> others = {
      "type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"};
  for (const auto &[keyword, value] : schema.members) {
    bool isKnown =
        others.count(keyword) || isAnnotation(keyword) ||
        std::any_of(
            std::begin(typedKeywords), std::end(typedKeywords),
            [&, &name = keyword](auto &it) { return it.first == name; });
    if (!isKnown)
      return fail("the keyword " + quote(keyword) + " is not supported");
  }
  return true;
}

/// Refuses what stands beside \p keyword, but for annotations and \p allowed.
bool SchemaReader::expectAlone(const Value &schema, const char *keyword,
                               const char *allowed) {
  for (const auto &[other, value] : schema.members)
    if (other != keyword && other != allowed && !isAnnotation(other))
      return fail("the keyword " + quote(other) + " beside '" + keyword +
                  "' is not supported");
  return true;
}

/// The types that \p schema allows; nothing with an error.
std::optional<std::set<std::string>>
SchemaReader::typesOf(const Value &schema) {
  std::set<std::string> types;
  const Value *type = schema.find("type");
  auto add = [&](const Value &name) {
    bool isKnown = name.kind == Value::String &&
                   std::find(std::begin(typeNames), std::end(typeNames),
                             name.text) != std::end(typeNames);
    if (!isKnown)
      return fail("the type is " + quote(writeJson(name)) +
                  ", expected null, boolean, integer, number, string, array "
                  "or object");
    types.insert(name.text);
    return true;
  };
  if (type && type->kind == Value::Array) {
    for (const Value &name : type->items)
      if (!add(name))
        return std::nullopt;
  } else if (type) {
    if (!add(*type))
      return std::nullopt;
  } else {
    for (auto [keyword, implied] : typedKeywords)
      if (schema.find(keyword))
        types.insert(implied);
    if (types.empty())
      types.insert(std::begin(typeNames), std::end(typeNames));
  }
  if (types.count("number"))
    types.erase("integer");
  return types;
}

/// Finds what a reference like "#/$defs/NAME" points to.
const Value *SchemaReader::resolve(const std::string &reference) {
  auto refuse = [&](const char *why) {
    fail("$ref is " + quote(reference) + ", " + why);
    return nullptr;
  };
  if (reference.empty() || reference[0] != '#' ||
      (reference.size() > 1 && reference[1] != '/'))
    return refuse("expected '#' or '#/...': others are not supported");
  const Value *at = &root;
  for (size_t i = 1; i < reference.size();) {
    size_t end = std::min(reference.find('/', i + 1), reference.size());
    std::string key = reference.substr(i + 1, end - i - 1);
    i = end;
    // RFC 6901, section 3.
    for (auto [escape, meant] : {std::pair("~1", '/'), {"~0", '~'}})
      for (size_t found; (found = key.find(escape)) != key.npos;) {
        key.replace(found, 2, 1, meant);
        if (meant == '~')
          break;
      }
    const Value *next = at->find(key);
    if (!next && at->kind == Value::Array && !key.empty() && key.size() < 8 &&
        key.find_first_not_of("0123456789") == key.npos &&
        size_t(atoi(key.c_str())) < at->items.size())
      next = &at->items[size_t(atoi(key.c_str()))];
    if (!next)
      return refuse("which is not there");
    at = next;
  }
  return at;
}

/// Goes through references that lead from \p schema.
const Value *SchemaReader::follow(const Value *schema) {
  for (int count = 0; schema && count < 100; ++count) {
    const Value *reference = schema->find("$ref");
    if (!reference || reference->kind != Value::String)
      return schema;
    schema = resolve(reference->text);
  }
  return nullptr;
}

/// Whether no value is valid under both. Only what is easily seen counts:
/// different types, different constants, or such in a member that both require.
bool SchemaReader::areApart(const Value &one, const Value &two, int depth) {
  const Value *first = follow(&one), *second = follow(&two);
  if (!first || !second || first->kind != Value::Object ||
      second->kind != Value::Object)
    return false;
  auto constantsOf = [](const Value &schema) {
    std::vector<std::string> constants;
    if (const Value *value = schema.find("const"))
      constants.push_back(writeJson(*value));
    else if (const Value *list = schema.find("enum"))
      for (const Value &item : list->items)
        constants.push_back(writeJson(item));
    return constants;
  };
  // Numbers that are written differently may be equal.
  auto isNumber = [](const std::string &text) {
    return text[0] == '-' || (text[0] >= '0' && text[0] <= '9') ||
           text[0] == '[' || text[0] == '{';
  };
  auto constants = constantsOf(*first), others = constantsOf(*second);
  if (!constants.empty() && !others.empty())
    return std::none_of(constants.begin(), constants.end(), [&](auto &text) {
      return isNumber(text) ||
             std::find(others.begin(), others.end(), text) != others.end();
    });
  if (first->find("type") && second->find("type")) {
    auto types = typesOf(*first), otherTypes = typesOf(*second);
    if (!types || !otherTypes)
      return false;
    auto overlaps = [&](const std::string &type) {
      return otherTypes->count(type) ||
             (type == "integer" && otherTypes->count("number")) ||
             (type == "number" && otherTypes->count("integer"));
    };
    if (std::none_of(types->begin(), types->end(), overlaps))
      return true;
    // Of members, only objects speak.
    if (*types != std::set<std::string>{"object"} || *types != *otherTypes)
      return false;
  } else {
    return false;
  }
  const Value *members = first->find("properties");
  const Value *required = first->find("required");
  const Value *otherMembers = second->find("properties");
  const Value *otherRequired = second->find("required");
  if (!members || !required || !otherMembers || !otherRequired || depth > 3)
    return false;
  comparisons += members->members.size() * otherMembers->members.size();
  if (comparisons > maxComparisons)
    return fail("oneOf has too many members to compare");
  auto requires_ = [](const Value &list, const std::string &name) {
    return std::any_of(list.items.begin(), list.items.end(),
                       [&](const Value &item) { return item.text == name; });
  };
  for (const auto &[name, member] : members->members)
    if (const Value *other = otherMembers->find(name))
      if (requires_(*required, name) && requires_(*otherRequired, name) &&
          areApart(member, *other, depth + 1))
        return true;
  return false;
}

/// Reads a list of schemas, each of which is a way to go.
void SchemaReader::readChoices(const Value &schema, const char *keyword,
                               int32_t from, int32_t to) {
  const Value &list = *schema.find(keyword);
  if (list.kind != Value::Array || list.items.empty()) {
    fail(std::string(keyword) + " is not a list of schemas");
    return;
  }
  if (list.items.size() > maxChoices) {
    fail(std::string(keyword) + " has more than " + std::to_string(maxChoices) +
         " schemas");
    return;
  }
  if (!strcmp(keyword, "oneOf"))
    for (size_t i = 0; i < list.items.size(); ++i)
      for (size_t j = 0; j < i; ++j)
        if (!areApart(list.items[i], list.items[j])) {
          fail("oneOf is only supported where the types of the schemas, or the "
               "constants of a member that they require, are different; those "
               "of " +
               std::to_string(j) + " and " + std::to_string(i) +
               " are not: anyOf may be what is meant");
          return;
        }
  if (!strcmp(keyword, "allOf") && list.items.size() > 1) {
    fail("allOf with more than one schema is not supported");
    return;
  }
  for (size_t i = 0; i < list.items.size(); ++i)
    grammar.addCall(
        from, to,
        ruleOf(list.items[i], below(keyword + ("/" + std::to_string(i)))));
}

/// Reads `enum` or `const`.
void SchemaReader::readValues(const Value &schema, int32_t from, int32_t to) {
  const Value *constant = schema.find("const");
  const char *keyword = constant ? "const" : "enum";
  if (!expectAlone(schema, keyword, "type"))
    return;
  std::vector<Value> values;
  if (constant) {
    values.push_back(*constant);
  } else {
    const Value &list = *schema.find("enum");
    if (list.kind != Value::Array || list.items.empty()) {
      fail("enum is not a list of values");
      return;
    }
    values = list.items;
  }
  if (values.size() > maxValues) {
    fail("enum has more than " + std::to_string(maxValues) + " values");
    return;
  }
  auto types = typesOf(schema);
  if (!types)
    return;
  for (const Value &value : values) {
    static constexpr const char *names[] = {
        "null", "boolean", "integer", "number", "string", "array", "object"};
    std::string type = names[value.kind];
    if (!schema.find("type") || types->count(type) ||
        (type == "integer" && types->count("number")))
      grammar.addText(from, to, writeJson(value));
  }
}

bool SchemaReader::readCount(const Value &schema, const char *keyword,
                             int64_t &count) {
  const Value *value = schema.find(keyword);
  if (!value)
    return true;
  Decimal number;
  bool isCount = value->kind == Value::Integer || value->kind == Value::Number;
  if (isCount)
    number = readDecimal(value->text);
  if (!isCount || number.isNegative || !number.fraction.empty())
    return fail(std::string(keyword) + " is " + quote(writeJson(*value)) +
                ", expected a count");
  count = number.whole.size() > 9 ? INT64_MAX : atoll(number.whole.c_str());
  return true;
}

bool SchemaReader::readCounts(const Value &schema, const char *minKeyword,
                              const char *maxKeyword, int64_t &min,
                              int64_t &max) {
  if (!readCount(schema, minKeyword, min) ||
      !readCount(schema, maxKeyword, max))
    return false;
  for (auto [keyword, count] : {std::pair(minKeyword, min), {maxKeyword, max}})
    if (count > maxCount)
      return fail(std::string(keyword) + " is more than " +
                  std::to_string(maxCount));
  return true;
}

/// Reads the strings of \p min to \p max characters that follow a pattern, or
/// a format, which is one.
void SchemaReader::readPattern(const char *keyword, const Value &value,
                               int64_t min, int64_t max, int32_t from,
                               int32_t to) {
  auto refuse = [&](const std::string &why) {
    fail(std::string(keyword) + " is " + quote(writeJson(value)) + ", " + why);
  };
  if (value.kind != Value::String)
    return refuse("expected a string");
  std::optional<std::string> pattern = value.text;
  if (!strcmp(keyword, "format")) {
    pattern = findFormat(value.text);
    if (!pattern)
      return refuse("which is not supported");
  }
  std::string why;
  if (!addPattern(grammar, from, to, *pattern, min, max, why))
    refuse(why);
}

void SchemaReader::readString(const Value &schema, int32_t from, int32_t to) {
  int64_t min = 0, max = -1;
  if (!readCounts(schema, "minLength", "maxLength", min, max) ||
      (max >= 0 && max < min))
    return; // No string is as long as that.
  const Value *pattern = schema.find("pattern"),
              *format = schema.find("format");
  if (pattern && format) {
    fail("the keyword 'format' beside 'pattern' is not supported");
    return;
  }
  if (pattern || format)
    return readPattern(format ? "format" : "pattern",
                       format ? *format : *pattern, min, max, from, to);
  int32_t first = grammar.addNode(), last = grammar.addNode();
  grammar.addByte(from, first, '"', '"');
  grammar.addRepeated(first, last, characterRule(), min, max);
  grammar.addByte(last, to, '"', '"');
}

void SchemaReader::readNumber(const Value &schema, bool isInteger, int32_t from,
                              int32_t to) {
  std::optional<Bound> min, max;
  for (auto [keyword, isMin, isExclusive] :
       {std::tuple("minimum", true, false),
        {"exclusiveMinimum", true, true},
        {"maximum", false, false},
        {"exclusiveMaximum", false, true}}) {
    const Value *value = schema.find(keyword);
    if (!value)
      continue;
    if (value->kind != Value::Integer && value->kind != Value::Number) {
      fail(std::string(keyword) + " is " + quote(writeJson(*value)) +
           ", expected a number");
      return;
    }
    Bound bound = {readDecimal(value->text), isExclusive};
    std::optional<Bound> &known = isMin ? min : max;
    int order = known ? compare(bound.at, known->at) : 0;
    if (!known || (isMin ? order > 0 : order < 0) || (!order && isExclusive))
      known = bound;
  }
  if (!isInteger && !min && !max) {
    // -?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?
    int32_t start = grammar.addNode(), whole = grammar.addNode();
    int32_t more = grammar.addNode(), point = grammar.addNode();
    int32_t fraction = grammar.addNode(), exponent = grammar.addNode();
    int32_t sign = grammar.addNode();
    grammar.addJump(from, start);
    grammar.addByte(from, start, '-', '-');
    grammar.addByte(start, whole, '0', '0');
    grammar.addByte(start, more, '1', '9');
    grammar.addRepeated(more, whole, digitRule(), 0, maxNumberDigits - 1);
    grammar.addByte(whole, point, '.', '.');
    grammar.addRepeated(point, fraction, digitRule(), 1, maxNumberDigits);
    grammar.addJump(whole, fraction);
    grammar.addJump(fraction, to);
    for (uint8_t byte : {'e', 'E'})
      grammar.addByte(fraction, exponent, byte, byte);
    grammar.addJump(exponent, sign);
    for (uint8_t byte : {'+', '-'})
      grammar.addByte(exponent, sign, byte, byte);
    return grammar.addRepeated(sign, to, digitRule(), 1, 2);
  }
  const Bound zero = {}, aboveZero = {{}, true};
  auto negate = [](Bound bound) {
    bound.at.isNegative = !bound.at.isNegative && !bound.at.isZero();
    return bound;
  };
  if (!max || !max->at.isNegative)
    writeMagnitudes(grammar, from, to,
                    {min && !min->at.isNegative ? *min : zero,
                     max ? &*max : nullptr, isInteger});
  if (min && !min->at.isNegative)
    return;
  std::optional<Bound> most;
  if (min)
    most = negate(*min);
  int32_t minus = grammar.addNode();
  grammar.addByte(from, minus, '-', '-');
  writeMagnitudes(grammar, minus, to,
                  {max && max->at.isNegative ? negate(*max) : aboveZero,
                   most ? &*most : nullptr, isInteger});
}

void SchemaReader::readArray(const Value &schema, int32_t from, int32_t to) {
  int64_t min = 0, max = -1;
  if (!readCounts(schema, "minItems", "maxItems", min, max))
    return;
  if (const Value *unique = schema.find("uniqueItems");
      unique && (unique->kind != Value::Bool || unique->isTrue)) {
    fail("uniqueItems is only supported as false");
    return;
  }
  std::vector<int32_t> first;
  if (const Value *prefix = schema.find("prefixItems")) {
    if (prefix->kind != Value::Array) {
      fail("prefixItems is not a list of schemas");
      return;
    }
    for (size_t i = 0; i < prefix->items.size(); ++i)
      first.push_back(
          ruleOf(prefix->items[i], below("prefixItems/" + std::to_string(i))));
  }
  const Value *items = schema.find("items");
  if (items && items->kind == Value::Array) {
    fail("items is a list; since draft 2020-12, that is prefixItems");
    return;
  }
  auto firstCount = int64_t(first.size());
  // As with members: no others where some are listed.
  if (!items && firstCount && (max < 0 || max > firstCount) &&
      min <= firstCount)
    max = firstCount;
  int32_t rest = items ? ruleOf(*items, below("items")) : anyRule();

  int32_t open = grammar.addNode(), start = grammar.addNode();
  int32_t close = grammar.addNode();
  grammar.addByte(from, open, '[', '[');
  addSpace(open, start);
  grammar.addByte(close, to, ']', ']');
  auto canEndAt = [&](int64_t count) {
    return count >= min && (max < 0 || count <= max);
  };
  if (canEndAt(0))
    grammar.addJump(start, close);
  // After one more item each, as long as the next differs in anything.
  int64_t last = max >= 0 ? max : std::max(min, firstCount + 1);
  for (int64_t count = 1; count <= last && !grammar.isTooLarge(); ++count) {
    int32_t item = start, next = grammar.addNode();
    if (count > 1) {
      int32_t comma = grammar.addNode();
      item = grammar.addNode();
      grammar.addByte(start, comma, ',', ',');
      addSpace(comma, item);
    }
    int32_t after = grammar.addNode();
    grammar.addCall(item, after,
                    count <= firstCount ? first[size_t(count - 1)] : rest);
    addSpace(after, next);
    if (canEndAt(count))
      grammar.addJump(next, close);
    start = next;
  }
  if (max >= 0)
    return;
  int32_t comma = grammar.addNode(), item = grammar.addNode();
  int32_t after = grammar.addNode();
  grammar.addByte(start, comma, ',', ',');
  addSpace(comma, item);
  grammar.addCall(item, after, rest);
  addSpace(after, start);
}

/// "name": value
void SchemaReader::addMember(int32_t from, int32_t to, const std::string &name,
                             int32_t value) {
  int32_t key = grammar.addNode(), colon = grammar.addNode();
  int32_t start = grammar.addNode(), after = grammar.addNode();
  grammar.addText(from, key, quoteJson(name));
  addSpace(key, colon);
  int32_t space = grammar.addNode();
  grammar.addByte(colon, space, ':', ':');
  addSpace(space, start);
  grammar.addCall(start, after, value);
  addSpace(after, to);
}

/// A string that is none of the names of \p properties. As long as it could be
/// one, it has no escapes.
void SchemaReader::addOtherKey(int32_t from, int32_t to,
                               const std::vector<Property> &properties) {
  int32_t free = grammar.addNode();
  grammar.addCall(free, free, characterRule());
  grammar.addByte(free, to, '"', '"');
  /// The names by their code points.
  struct Branch {
    std::map<uint32_t, size_t> next;
    bool ends = false;
    int32_t node;
  };
  std::vector<Branch> branches(1);
  int32_t first = grammar.addNode();
  grammar.addByte(from, first, '"', '"');
  branches[0].node = first;
  for (const Property &property : properties) {
    size_t at = 0;
    const std::string &name = property.name;
    for (size_t i = 0; i < name.size();) {
      // nlohmann has seen to it that this is UTF-8.
      auto lead = uint8_t(name[i++]);
      uint32_t point = lead < 0x80   ? lead
                       : lead < 0xe0 ? lead & 0x1f
                       : lead < 0xf0 ? lead & 0x0f
                                     : lead & 0x07;
      for (; i < name.size() && (uint8_t(name[i]) & 0xc0) == 0x80; ++i)
        point = point << 6 | (uint8_t(name[i]) & 0x3f);
      auto [it, isNew] = branches[at].next.try_emplace(point, branches.size());
      at = it->second;
      if (isNew) {
        branches.emplace_back();
        branches[at].node = grammar.addNode();
      }
    }
    branches[at].ends = true;
  }
  auto isPlain = [](uint32_t point) {
    return point >= ' ' && point != '"' && point != '\\';
  };
  for (const Branch &branch : branches) {
    if (!branch.ends)
      grammar.addByte(branch.node, to, '"', '"');
    std::set<uint32_t> taken = {'"', '\\'};
    for (auto [point, next] : branch.next) {
      taken.insert(point);
      if (isPlain(point))
        grammar.addCharacter(branch.node, branches[next].node, point, point);
    }
    uint32_t start = ' ';
    auto addUpTo = [&](uint32_t end) { // Exclusive.
      if (start < 0xd800)
        grammar.addCharacter(branch.node, free, start,
                             std::min<uint32_t>(end, 0xd800) - 1);
      if (end > 0xe000)
        grammar.addCharacter(branch.node, free,
                             std::max<uint32_t>(start, 0xe000), end - 1);
    };
    for (uint32_t point : taken) {
      if (point < start)
        continue;
      if (point > start)
        addUpTo(point);
      start = point + 1;
    }
    addUpTo(0x110000);
  }
}

void SchemaReader::readObject(const Value &schema, int32_t from, int32_t to) {
  std::vector<Property> properties;
  const Value *members = schema.find("properties");
  if (members && members->kind != Value::Object) {
    fail("properties is not an object");
    return;
  }
  if (members)
    for (const auto &[name, value] : members->members)
      properties.push_back(
          {name, ruleOf(value, below("properties/" + name)), false});
  const Value *others = schema.find("additionalProperties");
  int32_t otherRule = -1;
  if (others && (others->kind != Value::Bool || others->isTrue))
    otherRule = ruleOf(*others, below("additionalProperties"));
  else if (!others && !members)
    otherRule = anyRule();
  if (const Value *required = schema.find("required")) {
    if (required->kind != Value::Array) {
      fail("required is not a list of names");
      return;
    }
    std::map<std::string, size_t> places;
    for (size_t i = 0; i < properties.size(); ++i)
      places[properties[i].name] = i;
    for (const Value &name : required->items) {
      if (name.kind != Value::String) {
        fail("required has " + quote(writeJson(name)) + ", expected a name");
        return;
      }
      auto [it, isNew] = places.try_emplace(name.text, properties.size());
      if (isNew) {
        // It has no schema of its own.
        if (others && otherRule < 0)
          return; // None is allowed: no object is valid.
        properties.push_back(
            {name.text, otherRule < 0 ? anyRule() : otherRule, true});
      }
      properties[it->second].isRequired = true;
    }
  }

  if (properties.size() > maxProperties) {
    fail("there are more than " + std::to_string(maxProperties) +
         " properties");
    return;
  }
  // Nodes by the next property, before and after the first member.
  int32_t open = grammar.addNode(), close = grammar.addNode();
  int32_t none = grammar.addNode(), some = grammar.addNode();
  grammar.addByte(from, open, '{', '{');
  addSpace(open, none);
  grammar.addByte(close, to, '}', '}');
  auto addComma = [&](int32_t before) {
    int32_t comma = grammar.addNode(), after = grammar.addNode();
    grammar.addByte(before, comma, ',', ',');
    addSpace(comma, after);
    return after;
  };
  for (const Property &property : properties) {
    int32_t nextNone = grammar.addNode(), nextSome = grammar.addNode();
    addMember(none, nextSome, property.name, property.rule);
    addMember(addComma(some), nextSome, property.name, property.rule);
    if (!property.isRequired) {
      grammar.addJump(none, nextNone);
      grammar.addJump(some, nextSome);
    }
    none = nextNone;
    some = nextSome;
    if (grammar.isTooLarge())
      return;
  }
  grammar.addJump(none, close);
  grammar.addJump(some, close);
  if (otherRule < 0)
    return;
  int32_t key = grammar.addRule();
  addOtherKey(grammar.starts[size_t(key)], grammar.endOf(key), properties);
  int32_t afterKey = grammar.addNode(), colon = grammar.addNode();
  int32_t space = grammar.addNode(), value = grammar.addNode();
  int32_t after = grammar.addNode();
  grammar.addCall(none, afterKey, key);
  grammar.addCall(addComma(some), afterKey, key);
  addSpace(afterKey, colon);
  grammar.addByte(colon, space, ':', ':');
  addSpace(space, value);
  grammar.addCall(value, after, otherRule);
  addSpace(after, some);
}

void SchemaReader::readType(const std::string &type, const Value &schema,
                            int32_t from, int32_t to) {
  if (type == "null")
    return grammar.addText(from, to, "null");
  if (type == "boolean") {
    grammar.addText(from, to, "true");
    return grammar.addText(from, to, "false");
  }
  if (type == "string")
    return readString(schema, from, to);
  if (type == "array")
    return readArray(schema, from, to);
  if (type == "object")
    return readObject(schema, from, to);
  readNumber(schema, type == "integer", from, to);
}

/// Writes between \p from and \p to what \p schema allows.
void SchemaReader::readSchema(const Value &schema, int32_t from, int32_t to) {
  if (schema.kind == Value::Bool && !schema.isTrue)
    return; // Allows nothing.
  if (schema.kind != Value::Bool && schema.kind != Value::Object) {
    fail("a schema is " + quote(writeJson(schema)) +
         ", expected an object, true or false");
    return;
  }
  if (!checkKeywords(schema))
    return;
  // One rule for all that allow anything.
  bool allowsAll = std::all_of(
      schema.members.begin(), schema.members.end(),
      [](const auto &member) { return isAnnotation(member.first); });
  if (&schema != &any && allowsAll)
    return grammar.addCall(from, to, anyRule());
  if (const Value *reference = schema.find("$ref")) {
    if (!expectAlone(schema, "$ref"))
      return;
    if (reference->kind != Value::String) {
      fail("$ref is not a string");
      return;
    }
    if (const Value *target = resolve(reference->text))
      grammar.addCall(from, to, ruleOf(*target, reference->text.substr(1)));
    return;
  }
  for (const char *keyword : {"anyOf", "oneOf", "allOf"})
    if (schema.find(keyword)) {
      if (expectAlone(schema, keyword))
        readChoices(schema, keyword, from, to);
      return;
    }
  if (schema.find("enum") || schema.find("const"))
    return readValues(schema, from, to);
  auto types = typesOf(schema);
  if (!types)
    return;
  for (const std::string &type : *types)
    readType(type, schema, from, to);
}

std::shared_ptr<const Grammar> Grammar::fromJsonSchema(std::string_view schema,
                                                       std::string &error) {
  error.clear();
  if (schema.size() > maxSchemaBytes) {
    error = "the schema has " + std::to_string(schema.size()) +
            " bytes, expected at most " + std::to_string(maxSchemaBytes);
    return nullptr;
  }
  Value root;
  ValueBuilder builder(root);
  if (!Json::sax_parse(schema, &builder)) {
    error = builder.error.empty() ? "not JSON" : builder.error;
    return nullptr;
  }
  auto impl = std::make_unique<Impl>();
  if (!SchemaReader(root, *impl, error).read())
    return nullptr;
  return std::shared_ptr<const Grammar>(new Grammar(std::move(impl)));
}

} // namespace hadal::text
