// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Compiles translated expressions, and matches, with PCRE2.

#include "Json.h"
#include "Regex.h"
#include "Utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <limits>

namespace hadal::text {

std::unique_ptr<Regex> Regex::compile(std::string_view pattern, bool literal,
                                      std::string &error) {
  std::string translated(pattern);
  uint32_t options = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C;
  if (literal) {
    options = PCRE2_UTF | PCRE2_LITERAL;
  } else {
    std::optional<std::string> result = translateRegex(pattern, error);
    if (!result)
      return nullptr;
    translated = std::move(*result);
    options |= PCRE2_UCP | PCRE2_MULTILINE;
  }
  std::unique_ptr<Regex> regex(new Regex);
  pcre2_compile_context *context = pcre2_compile_context_create(nullptr);
  if (context)
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code *compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                    translated.size(), options, &code, &offset, context);
  pcre2_compile_context_free(context);
  regex->code = compiled;
  if (!compiled) {
    PCRE2_UCHAR message[256] = "";
    pcre2_get_error_message(code, message, sizeof message);
    error = std::string(reinterpret_cast<const char *>(message)) + " at byte " +
            std::to_string(offset) + " of " + quote(translated);
    return nullptr;
  }
  // Where code cannot be made at run time, the interpreter does the same.
  (void)pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
  return regex;
}

Regex::~Regex() { pcre2_code_free(static_cast<pcre2_code *>(code)); }

Regex::Matcher::Matcher(const Regex &regex)
    : regex(regex), matchData(pcre2_match_data_create_from_pattern(
                        static_cast<pcre2_code *>(regex.code), nullptr)),
      matchContext(pcre2_match_context_create(nullptr)) {}

Regex::Matcher::~Matcher() {
  pcre2_match_data_free(static_cast<pcre2_match_data *>(matchData));
  pcre2_match_context_free(static_cast<pcre2_match_context *>(matchContext));
}

void Regex::Matcher::reset(std::string_view newSubject) {
  subject = newSubject;
  at = 0;
  lastEnd = std::string_view::npos;
  hasFailed = false;
  // Backtracking over a run as long as the subject, for each alternative of a
  // pattern, is still linear time.
  constexpr size_t baseSteps = 10'000'000;
  if (auto *context = static_cast<pcre2_match_context *>(matchContext))
    pcre2_set_match_limit(context, static_cast<uint32_t>(std::min<size_t>(
                                       baseSteps + 8 * subject.size(),
                                       std::numeric_limits<uint32_t>::max())));
}

bool Regex::Matcher::next(size_t &begin, size_t &end) {
  auto *code = static_cast<pcre2_code *>(regex.code);
  auto *data = static_cast<pcre2_match_data *>(matchData);
  if (!data) {
    hasFailed = true;
    return false;
  }
  while (at <= subject.size()) {
    auto match = [&](uint32_t options) {
      return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(subject.data()),
                         subject.size(), at, options | PCRE2_NO_UTF_CHECK, data,
                         static_cast<pcre2_match_context *>(matchContext));
    };
    int result = match(0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT)
      result = match(PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH)
      return false;
    if (result < 0) {
      hasFailed = true;
      return false;
    }
    const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(data);
    begin = offsets[0];
    end = offsets[1];
    if (begin != end || end != lastEnd) {
      at = lastEnd = end;
      return true;
    }
    at += at < subject.size() ? readUtf8(subject, at).length : 1;
  }
  return false;
}

} // namespace hadal::text
