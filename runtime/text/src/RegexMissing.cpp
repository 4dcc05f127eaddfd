// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// In place of RegexMatcher.cpp where PCRE2 is not to be had: a program then
// takes and gives token ids, and says so when it is asked for text.

#include "Regex.h"

namespace hadal::text {

std::unique_ptr<Regex> Regex::compile(std::string_view, bool,
                                      std::string &error) {
  error = "this program was built without PCRE2, which regular expressions of "
          "tokenizers need; give it --tokens";
  return nullptr;
}

Regex::~Regex() = default;

// Nothing comes here, since no expression was compiled.
Regex::Matcher::Matcher(const Regex &regex)
    : regex(regex), matchData(nullptr), matchContext(nullptr) {}
Regex::Matcher::~Matcher() = default;
void Regex::Matcher::reset(std::string_view newSubject) {
  subject = newSubject;
}
bool Regex::Matcher::next(size_t &, size_t &) {
  hasFailed = true;
  return false;
}

} // namespace hadal::text
