// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What follows a JSON schema, what does not, and which schemas are refused.

#include "hadal_text/constraint.h"

#include "hadal_text/sampler.h"

#include "gtest/gtest.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <set>

using namespace hadal::text;

namespace {

class ConstraintTest : public testing::Test {
protected:
  static void SetUpTestSuite() {
    std::ifstream file(HADAL_TEXT_CHECKPOINT "/tokenizer.json");
    std::string json((std::istreambuf_iterator<char>(file)), {}), error;
    tokenizer = Tokenizer::fromJson(json, error).release();
    ASSERT_TRUE(tokenizer) << error;
    ASSERT_TRUE(
        tokenizer->applyGenerationConfig(R"({"eos_token_id": 1})", error));
    trie = new TokenTrie(*tokenizer);
  }
  static void TearDownTestSuite() {
    delete trie;
    delete tokenizer;
  }

  static Constraint begin(const std::string &schema) {
    std::string error;
    auto grammar = Grammar::fromJsonSchema(schema, error);
    EXPECT_TRUE(grammar) << schema << ": " << error;
    return Constraint(grammar ? grammar : Grammar::fromJsonSchema("{}", error),
                      *trie);
  }

  static std::vector<float> allowed(Constraint &constraint) {
    std::vector<float> logits(size_t(tokenizer->vocabSize()));
    constraint.apply(logits.data(), logits.size());
    return logits;
  }

  /// Whether \p text follows \p schema, to its end.
  static bool follows(const std::string &schema, const std::string &text) {
    Constraint constraint = begin(schema);
    if (!constraint.accept(text))
      return false;
    return std::isfinite(allowed(constraint)[1]);
  }

  static void expect(const std::string &schema,
                     std::initializer_list<const char *> good,
                     std::initializer_list<const char *> bad) {
    for (const char *text : good)
      EXPECT_TRUE(follows(schema, text)) << schema << ": " << text;
    for (const char *text : bad)
      EXPECT_FALSE(follows(schema, text)) << schema << ": " << text;
  }

  static void refuse(const std::string &schema, const std::string &needle) {
    std::string error;
    EXPECT_FALSE(Grammar::fromJsonSchema(schema, error)) << schema;
    EXPECT_NE(error.find(needle), std::string::npos) << schema << ": " << error;
  }

  static inline Tokenizer *tokenizer;
  static inline TokenTrie *trie;
};

TEST_F(ConstraintTest, AnyValue) {
  for (const char *schema : {"{}", "true"})
    expect(schema,
           {R"({"a": [1, -2.5e10, "x\n\u00e9\ud83d\ude00", null, true]})", "0",
            "[]", "{}", "\"\u5b57\"", "[[\n  [\n    0\n  ]\n]]"},
           {"", "01", "[1,]", R"({"a"})", "{,}", "\"\n\"", R"("\x")", "nul",
            R"("\ud83d")", R"("\ude00")", "1.", "--1", "1e", "\"\xff\"",
            "\"\xed\xa0\x80\"", "1 ", " 1", "1e999"});
}

TEST_F(ConstraintTest, Strings) {
  expect(R"({"type": "string", "minLength": 2, "maxLength": 3})",
         {R"("ab")", R"("abc")", "\"\u5b57\U0001F600\"", R"("\u0041\n\t")",
          R"("a\ud83d\ude00")"},
         {R"("a")", R"("abcd")", "12", R"("\u00e9")"});
}

TEST_F(ConstraintTest, Numbers) {
  expect(R"({"type": "integer"})", {"0", "-1", "999999999999999999"},
         {"1.5", "1e2", "00", "1000000000000000000000"});
  expect(R"({"type": "integer", "minimum": -12, "exclusiveMaximum": 105})",
         {"-12", "-9", "0", "7", "99", "104", "-1"},
         {"-13", "105", "110", "200", "1000", "-0", "-100"});
  expect(R"({"type": "integer", "exclusiveMinimum": 2.5, "maximum": 3.5})",
         {"3"}, {"2", "4"});
  expect(R"({"type": "number", "minimum": 0.25, "maximum": 1})",
         {"0.25", "0.5", "1", "1.0", "0.99999999999999", "0.250"},
         {"0.2", "0.24999", "1.01", "0", "2", "-0.5", "5e-1"});
  expect(R"({"type": "number", "exclusiveMinimum": -1.5, "maximum": -1e-2})",
         {"-1.4", "-1", "-0.01", "-1.49", "-0.5"},
         {"-1.5", "-1.50", "-0.001", "-0", "0", "-1.6", "1"});
  expect(R"({"type": "number", "exclusiveMinimum": 0})", {"0.1", "5", "100"},
         {"0", "0.0", "-1"});
  expect(R"({"type": "integer", "minimum": 5})", {"5", "50", "4000"},
         {"4", "-5", "0"});
}

TEST_F(ConstraintTest, Constants) {
  expect(R"({"enum": ["red", "re\"d", 5, null, [1, {"a": 2}]]})",
         {R"("red")", R"("re\"d")", "5", "null", R"([1,{"a":2}])"},
         {R"("re")", "4", "true"});
  expect(R"({"type": "string", "enum": ["a", 5]})", {R"("a")"}, {"5"});
  expect(R"({"const": 1.50})", {"1.50"}, {"2"});
}

TEST_F(ConstraintTest, Arrays) {
  expect(R"({"type": "array", "items": {"type": "boolean"}, "minItems": 1,
             "maxItems": 2})",
         {"[true]", "[true, false]", "[ true,\nfalse ]"},
         {"[]", "[true,true,true]", "[1]", "[true,]"});
  expect(R"({"prefixItems": [{"type": "null"}, {"type": "boolean"}],
             "items": {"type": "integer"}})",
         {"[]", "[null]", "[null,true]", "[null,true,1,2,3]"},
         {"[true]", "[null,1]", "[null,true,true]"});
  expect(R"({"type": "array", "items": {"type": "null"}, "minItems": 3})",
         {"[null,null,null]", "[null,null,null,null,null]"}, {"[null,null]"});
  expect(R"({"prefixItems": [{"type": "null"}], "items": false})",
         {"[]", "[null]"}, {"[null,null]", "[1]"});
}

TEST_F(ConstraintTest, Objects) {
  const char *schema = R"({"type": "object", "properties": {
      "z": {"type": "integer"}, "a": {"type": "null"}, "m": {"const": "x"}},
      "required": ["z", "m"]})";
  expect(schema,
         {R"({"z":1,"m":"x"})", R"({"z": 1, "a": null, "m": "x"})",
          "{\n  \"z\": 1,\n  \"m\": \"x\"\n}"},
         {"{}", R"({"m":"x","z":1})", R"({"z":1})", R"({"z":1,"m":"x","b":1})",
          R"({"z":1,,"m":"x"})"});
  expect(R"({"properties": {"a": {}, "b": {}}})",
         {"{}", R"({"a":1})", R"({"b":1})", R"({"a":1,"b":2})"},
         {R"({"c":1})", R"({"a":1 "b":1})"});
  expect(R"({"type": "object", "properties": {"ab": true, "a\u5b57": true},
             "additionalProperties": {"type": "integer"}})",
         {R"({"ab": "x", "b": 1, "a": 2, "": 3, "abc": 4, "x\n": 5})",
          "{\"a\u5b58\": 1}", "{\"a\u5b57\": null, \"a\u5b57\u5b57\": 1}"},
         {R"({"b": "x"})", R"({"a": 1, "ab": 2})", R"({"a\u0062": 1})"});
  expect(R"({"required": ["k"]})", {R"({"k": [1]})"}, {"{}", R"({"j": 1})"});
}

TEST_F(ConstraintTest, ReferencesAndChoices) {
  expect(R"({"$ref": "#/$defs/n~1o~0de", "$defs": {"n/o~de": {
             "type": "object", "required": ["next"],
             "properties": {"next": {"anyOf": [{"type": "null"},
                                               {"$ref": "#"}]}}}}})",
         {R"({"next": null})", R"({"next": {"next": {"next": null}}})"},
         {R"({"next": 1})", R"({"next": {}})"});
  // Nothing but itself is no value, but beside others it does no harm.
  expect(R"({"anyOf": [{"$ref": "#"}, {"type": "null"}]})", {"null"}, {"1"});
  expect(R"({"oneOf": [{"type": "string"}, {"type": ["integer", "null"]}]})",
         {R"("a")", "1", "null"}, {"true"});
  expect(R"({"oneOf": [
      {"type": "object", "required": ["kind"],
       "properties": {"kind": {"const": "a"}, "x": {"type": "null"}}},
      {"type": "object", "required": ["kind"],
       "properties": {"kind": {"enum": ["b", "c"]}}}]})",
         {R"({"kind": "a", "x": null})", R"({"kind": "c"})"},
         {R"({"kind": "b", "x": null})", R"({"kind": "d"})"});
  expect(R"({"allOf": [{"type": "null"}], "description": "x"})", {"null"},
         {"1"});
}

TEST_F(ConstraintTest, Patterns) {
  auto schema = [](const std::string &pattern, const std::string &more = {}) {
    return R"({"type": "string", "pattern": ")" + pattern + "\"" + more + "}";
  };
  // Anywhere in the string, unless it says where.
  expect(schema("b+"), {R"("b")", R"("abbc")"}, {R"("")", R"("ac")"});
  expect(schema("^b"), {R"("b")", R"("bc")"}, {R"("ab")"});
  expect(schema("b$"), {R"("b")", R"("ab")"}, {R"("bc")"});
  expect(schema("^(|a|bc)$"), {R"("")", R"("a")", R"("bc")"},
         {R"("b")", R"("abc")"});
  expect(schema("^a|b$"), {R"("ac")", R"("cb")"}, {R"("bac")"});
  expect(schema("x(^a|b)$"), {R"("axb")"}, {R"("xa")", R"("a")"});
  expect(schema("^$"), {R"("")"}, {R"("a")"});
  // Repetitions.
  expect(schema("^(?:ab?){2,3}c*?$"), {R"("aa")", R"("aaba")", R"("ababac")"},
         {R"("a")", R"("aaaa")", R"("cab")"});
  expect(schema("^a{2}b{1,}(?<name>(c*)*)$"), {R"("aab")", R"("aabbcc")"},
         {R"("aa")", R"("ab")"});
  expect(schema("^a{0}b{0,0}$"), {R"("")"}, {R"("a")", R"("b")"});
  // Characters; those that JSON escapes are escaped.
  expect(schema(R"(^[a-cx\\\\\\]-]+$)"), {R"("abcx\\]-")"},
         {R"("d")", R"("[")"});
  expect(schema("^[^a-z]$"), {R"("A")", R"("\"")", R"("\n")", "\"\u5b57\""},
         {R"("a")", R"("")", R"("\u0041")"});
  expect(schema(R"(^\\d\\D\\w\\W\\s\\S\\.\\/\\x41\\u0042\\u{1F600}\\0$)"),
         {"\"1a_- b./AB\U0001F600\\u0000\""}, {R"("11a- b./AB")"});
  expect(schema(R"(^\\ud83d\\ude00[\\n\\b]$)"),
         {"\"\U0001F600\\n\"", "\"\U0001F600\\b\""}, {R"("n")"});
  expect(schema("^.$"), {R"("a")", "\"\U0001F600\""},
         {R"("\n")", R"("\r")", "\"\u2028\"", R"("ab")"});
  expect(schema("^[]$|^[^]x$"), {R"("ax")", R"("\nx")"}, {R"("")", R"("x")"});
  // And lengths.
  expect(schema("^(ab)*$", R"(, "minLength": 3, "maxLength": 6)"),
         {R"("abab")", R"("ababab")"}, {R"("ab")", R"("abababab")", R"("")"});
  expect(schema("[0-9]", R"(, "minLength": 4)"), {R"("abc1def")", R"("1abc")"},
         {R"("1ab")", R"("abcde")"});

  auto refuses = [&](const std::string &pattern, const std::string &needle) {
    refuse(schema(pattern), needle);
  };
  refuses("a(?=b)", "at '/': pattern is '\"a(?=b)\"', at character 4, a "
                    "pattern that looks around is not supported");
  refuses("a(?<!b)", "looks around");
  refuses("(?i)a", "a group of this kind");
  refuses(R"((a)\\1)", "the escape '\\1' is not supported");
  refuses(R"(\\bword)", "the escape '\\b' is not supported");
  refuses(R"(\\p{L})", "the escape '\\p' is not supported");
  refuses("a)", "')' closes nothing");
  refuses("(a", "expected ')'");
  refuses("[a", "expected ']'");
  refuses("[z-a]", "expected a range");
  refuses(R"([\\d-z])", "expected a range");
  refuses("*", "'*' repeats nothing");
  refuses("^*", "'*' repeats nothing");
  refuses("a{2", "expected '}'");
  refuses("a{x}", "expected a count");
  refuses("a{3,2}", "the wrong way around");
  refuses(R"(\\x4)", "expected the number of a character");
  refuses(R"(\\u{110000})", "expected the number of a character");
  refuses(std::string(200, '(') + std::string(200, ')'), "nested deeper");
  refuses("((a{1000}){1000}){1000}", "more than 100000 nodes");
  refuses("((){1000000}){1000000}", "more than 100000 nodes");
  refuse(schema("^a{300}$", R"(, "maxLength": 299)"), "no value follows");
  refuse(schema("[a-z]{500}", R"(, "maxLength": 1000)"), "is too large");
  refuse(schema("$a"), "no value follows");
  refuse(schema("^[]$"), "no value follows");
  refuse(R"({"pattern": 5})", "pattern is '5', expected a string");
}

TEST_F(ConstraintTest, Formats) {
  auto schema = [](const char *format) {
    return std::string(R"({"type": "string", "format": ")") + format + "\"}";
  };
  expect(schema("date"),
         {R"("2024-02-29")", R"("2000-02-29")", R"("1999-12-31")"},
         {R"("2023-02-29")", R"("1900-02-29")", R"("2024-04-31")",
          R"("2024-13-01")", R"("2024-1-1")", R"("2024-00-10")"});
  expect(schema("time"), {R"("23:59:59Z")", R"("00:00:00.125+05:30")"},
         {R"("24:00:00Z")", R"("12:60:00Z")", R"("12:00:00")", R"("12:00Z")"});
  expect(schema("date-time"), {R"("2024-02-29T12:00:00-08:00")"},
         {R"("2024-02-29 12:00:00Z")", R"("2024-02-29")"});
  expect(schema("duration"),
         {R"("P1Y2M3D")", R"("PT5H")", R"("P3DT1M2S")", R"("P4W")"},
         {R"("P")", R"("PT")", R"("P1D2Y")", R"("P1W2D")", R"("P1YT")"});
  expect(schema("email"), {R"("joe.q+x@example.com")", R"("a@b")"},
         {R"("joe")", R"("@b")", R"("a..b@c")", R"("a@-b")", R"("a.@b")"});
  expect(
      schema("hostname"), {R"("a")", R"("www.example-1.org")"},
      {R"("")", R"("-a")", R"("a-")", R"("a..b")", R"("a_b")", R"("xn--a")"});
  expect(schema("ipv4"), {R"("0.10.199.255")"},
         {R"("256.0.0.1")", R"("01.0.0.1")", R"("1.2.3")"});
  expect(schema("ipv6"),
         {R"("::")", R"("::1")", R"("1::")", R"("2001:db8::ff00:42:8329")",
          R"("1:2:3:4:5:6:7:8")", R"("1:2:3:4:5:6:7::")"},
         {R"(":")", R"("1:2:3:4:5:6:7")", R"("1::2::3")", R"("12345::")",
          R"("1:2:3:4:5:6:7:8:9")", R"("1:2:3:4:5:6:7::8")"});
  expect(schema("uuid"), {R"("123e4567-e89b-12d3-a456-426614174000")"},
         {R"("123e4567e89b12d3a456426614174000")"});
  expect(schema("uri"), {R"("https://example.com:80/a/b%20c?q=1#x")"},
         {R"("example.com")", R"("https://")", R"("http://a/%2")"});
  expect(schema("json-pointer"), {R"("")", R"("/a~0b/\\")"},
         {R"("a")", R"("/~2")"});
  // Of a length, too; and of other types, it says nothing.
  expect(R"({"type": ["string", "null"], "format": "ipv4", "maxLength": 7})",
         {R"("1.2.3.4")", "null"}, {R"("10.2.3.4")"});
  refuse(schema("regex"), "format is '\"regex\"', which is not supported");
  refuse(R"({"format": "date", "pattern": "x"})",
         "the keyword 'format' beside 'pattern' is not supported");
}

TEST_F(ConstraintTest, Refusals) {
  refuse("{", "not JSON: wrong at byte");
  refuse("5", "a schema is '5', expected an object");
  refuse(R"({"properties": {"a": {"uniqueKeys": "x"}}})",
         "at '/properties/a': the keyword 'uniqueKeys' is not supported");
  for (const char *keyword :
       {"not", "if", "multipleOf", "patternProperties", "contains",
        "minProperties", "dependentRequired", "frob", "unevaluatedItems"})
    refuse(std::string(R"({")") + keyword + R"(": 1})",
           std::string("the keyword '") + keyword + "' is not supported");
  refuse(R"({"type": "integer", "enum": [1], "minimum": 3})",
         "the keyword 'minimum' beside 'enum'");
  refuse(R"({"$ref": "#", "type": "null"})",
         "the keyword 'type' beside '$ref'");
  refuse(R"({"anyOf": [true], "oneOf": [true]})", "'oneOf' beside 'anyOf'");
  refuse(R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})",
         "those of 0 and 1 are not");
  refuse(R"({"oneOf": [{"const": 1}, {"const": 1.0}]})", "those of 0 and 1");
  refuse(R"({"allOf": [{}, {}]})", "allOf with more than one schema");
  refuse(R"({"uniqueItems": true})", "uniqueItems is only supported as false");
  refuse(R"({"type": "text"})", "expected null, boolean, integer");
  refuse(R"({"$ref": "http://x"})", "others are not supported");
  refuse(R"({"$ref": "#/$defs/x"})", "which is not there");
  refuse(R"({"minLength": -1})", "minLength is '-1', expected a count");
  refuse(R"({"minLength": 1e300})", "minLength is more than 100000");
  refuse(R"({"minimum": "1"})", "expected a number");
  refuse(R"({"type": "array", "items": [{}]})", "that is prefixItems");
  refuse(R"({"a": 1, "a": 2})", "the key 'a' comes twice");
  refuse(R"({"maxItems": 100000, "type": "array"})", "is too large");
  // What nothing follows.
  refuse("false", "no value follows the schema");
  refuse(R"({"$ref": "#"})", "no value follows");
  refuse(R"({"type": "integer", "minimum": 3, "maximum": 2})", "no value");
  refuse(R"({"type": "string", "minLength": 3, "maxLength": 2})", "no value");
  refuse(R"({"type": "object", "required": ["a"],
             "properties": {"a": {"$ref": "#"}}})",
         "no value follows");
  std::string deep(150, '[');
  refuse(R"({"const": )" + deep + std::string(150, ']') + "}",
         "nested deeper than 100");
}

/// The mask is what walking each token's bytes alone gives.
TEST_F(ConstraintTest, MaskIsThatOfEachTokenAlone) {
  const char *schema = R"({"type": "object", "properties": {
      "name": {"type": "string", "maxLength": 6}, "n": {"type": "number"},
      "t": {"type": "array", "items": {"enum": ["once", "one", 7]}}},
      "additionalProperties": true})";
  for (const char *prefix : {"", "{", "{\n ", R"({"na)", R"({"name": "ab)",
                             R"({"n": 1)", R"({"t": [)", R"({"t": ["on)",
                             R"({"x": {"y": "\u00)", "{\"name\": \"\xe5"}) {
    Constraint constraint = begin(schema);
    ASSERT_TRUE(constraint.accept(prefix)) << prefix;
    std::vector<float> logits = allowed(constraint);
    EXPECT_EQ(allowed(constraint), logits) << prefix; // It is kept.
    for (int32_t id = 0; id < tokenizer->vocabSize(); ++id) {
      Constraint alone = begin(schema);
      alone.accept(prefix);
      std::string_view bytes = tokenizer->tokenBytes(id);
      bool expected =
          !tokenizer->isSpecial(id) && !bytes.empty() && alone.accept(bytes);
      ASSERT_EQ(std::isfinite(logits[size_t(id)]), expected)
          << prefix << " and " << bytes;
    }
  }
}

TEST_F(ConstraintTest, EndsWhereNothingMoreMayCome) {
  Constraint constraint = begin(R"({"type": ["integer", "array"]})");
  EXPECT_FALSE(constraint.isComplete());
  ASSERT_TRUE(constraint.accept("[1]"));
  EXPECT_TRUE(constraint.isComplete());
  constraint = begin(R"({"type": "integer"})");
  ASSERT_TRUE(constraint.accept("1"));
  EXPECT_FALSE(constraint.isComplete());
}

/// A text gets only as deep as it can be closed again, in memory that is
/// bounded.
TEST_F(ConstraintTest, Depth) {
  Constraint constraint = begin("{}");
  int depth = 0;
  while (constraint.accept("[") && depth < 1000)
    ++depth;
  EXPECT_GT(depth, 200);
  EXPECT_LT(depth, 300);
  constraint = begin("{}");
  EXPECT_TRUE(constraint.accept(std::string(size_t(depth), '[')));
  EXPECT_TRUE(constraint.accept(std::string(size_t(depth), ']')));
  EXPECT_TRUE(constraint.isComplete());
}

/// More states than are kept: what was found is forgotten, not wrong.
TEST_F(ConstraintTest, ForgetsWhatIsTooMuch) {
  Constraint constraint = begin(
      R"({"type": "array", "items": {"type": "string"}, "minItems": 9000})");
  ASSERT_TRUE(constraint.accept("["));
  for (int i = 0; i < 9000; ++i) {
    ASSERT_TRUE(constraint.accept(i ? ",\"a\"" : "\"a\"")) << i;
    if (i % 1000 == 999)
      EXPECT_EQ(
          std::isfinite(allowed(constraint)[size_t(tokenizer->idOf("]"))]),
          i == 8999);
  }
  EXPECT_TRUE(constraint.accept("]"));
  EXPECT_TRUE(constraint.isComplete());
}

/// A vocabulary of 100,000 words, as large as those of the family. The times
/// are printed, not judged.
TEST_F(ConstraintTest, LargeVocabulary) {
  std::string vocab = "\"!!\": 0";
  RandomGenerator random(1);
  int32_t count = 1;
  auto add = [&](const std::string &token) {
    vocab += ",\"" + token + "\":" + std::to_string(count++);
  };
  for (char c = ' ' + 1; c < 127; ++c)
    add(c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c));
  std::set<std::string> words;
  while (words.size() < 100000) {
    std::string word = random.next() % 2 ? "\u0120" : ""; // A space.
    for (uint64_t left = 1 + random.next() % 4; left; --left) {
      word += "bcdfghklmnprstvw"[random.next() % 16];
      word += "aeiou"[random.next() % 5];
    }
    if (words.insert(word).second)
      add(word);
  }
  std::string error;
  auto large = Tokenizer::fromJson(
      R"({"model": {"type": "BPE", "merges": [], "vocab": {)" + vocab +
          R"(}}, "pre_tokenizer": {"type": "ByteLevel"},
             "decoder": {"type": "ByteLevel"}})",
      error);
  ASSERT_TRUE(large) << error;
  using Clock = std::chrono::steady_clock;
  auto report = [start = Clock::now()](const char *what) mutable {
    std::chrono::duration<double, std::milli> time = Clock::now() - start;
    std::cout << "  " << what << ": " << time.count() << " ms\n";
    start = Clock::now();
  };
  TokenTrie largeTrie(*large);
  report("trie of 100,000 tokens");
  auto grammar = Grammar::fromJsonSchema(
      R"({"properties": {"name": {"type": "string"}}, "required": ["name"]})",
      error);
  ASSERT_TRUE(grammar) << error;
  report("grammar");
  Constraint constraint(grammar, largeTrie);
  std::vector<float> logits(size_t(large->vocabSize()));
  auto countAllowed = [&] {
    std::fill(logits.begin(), logits.end(), 0.0f);
    constraint.apply(logits.data(), logits.size());
    return std::count(logits.begin(), logits.end(), 0.0f);
  };
  EXPECT_EQ(countAllowed(), 1); // {
  report("first token");
  ASSERT_TRUE(constraint.accept("{\"name\":\""));
  EXPECT_GT(countAllowed(), 100000);
  report("first token of a string");
  ASSERT_TRUE(constraint.accept("a"));
  EXPECT_GT(countAllowed(), 100000);
  report("next token of a string");
}

} // namespace
