// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Regular expressions as tokenizer.json files mean them: Oniguruma's dialect
// (Ruby syntax), translated to PCRE2's.

#ifndef HADAL_TEXT_SRC_REGEX_H
#define HADAL_TEXT_SRC_REGEX_H

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace hadal::text {

/// Translates the Oniguruma regular expression \p pattern to one for PCRE2 that
/// finds the same matches under UTF, UCP and MULTILINE:
/// - `\s` is White_Space; PCRE2 would have U+180E too;
/// - `\w`, also as part of `\b`, is Alphabetic, M, Nd and Pc, and outside of a
///   set six more of Latin-1 (`²³¹¼½¾`); PCRE2 would have no marks;
/// - a script is that property alone, where PCRE2 means Script_Extensions;
/// - `\h` is a hexadecimal digit, `\v` is U+000B, `(?m)` is PCRE2's `(?s)`;
/// - `x{n,m}+` and `x{n}?` repeat a repetition; they are not possessive or
/// lazy.
///
/// \returns Nothing, and what is not supported in \p error, for a construct
/// whose meaning may differ: nested sets, set intersections, callouts, calls
/// and conditions, options in the middle of a pattern, and rare escapes.
std::optional<std::string> translateRegex(std::string_view pattern,
                                          std::string &error);

/// A compiled regular expression; immutable and free to share.
class Regex {
public:
  /// Compiles Oniguruma's \p pattern, or literal text if \p literal.
  static std::unique_ptr<Regex> compile(std::string_view pattern, bool literal,
                                        std::string &error);
  ~Regex();
  Regex(const Regex &) = delete;
  Regex &operator=(const Regex &) = delete;

  /// Finds all matches in one subject, left to right.
  class Matcher {
  public:
    explicit Matcher(const Regex &regex);
    ~Matcher();
    Matcher(const Matcher &) = delete;
    Matcher &operator=(const Matcher &) = delete;

    /// Starts over with \p subject, which must be valid UTF-8.
    void reset(std::string_view subject);

    /// Moves to the next match and sets \p begin and \p end. An empty match
    /// right after the last match does not count.
    /// \returns False after the last match, and after an error (see `failed`).
    bool next(size_t &begin, size_t &end);

    /// Whether the last `next` gave up: the expression needs more steps on this
    /// subject than any sane one would.
    bool failed() const { return hasFailed; }

  private:
    const Regex &regex;
    void *matchData;
    void *matchContext;
    std::string_view subject;
    size_t at = 0;
    size_t lastEnd = std::string_view::npos;
    bool hasFailed = false;
  };

private:
  Regex() = default;
  void *code = nullptr;
};

} // namespace hadal::text

#endif // HADAL_TEXT_SRC_REGEX_H
