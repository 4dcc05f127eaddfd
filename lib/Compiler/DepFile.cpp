// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules that tell make and ninja when to compile again.

#include "lib/Compiler/DepFile.h"

#include "llvm/ADT/StringRef.h"

using namespace hadal;
using llvm::StringRef;

/// Appends \p path as make reads it back. Backslashes before a space are
/// doubled, others are not.
static void appendPath(std::string &rule, StringRef path) {
  for (size_t i = 0; i < path.size(); ++i) {
    char c = path[i];
    if (c == ' ' || c == '#') {
      for (size_t j = i; c == ' ' && j > 0 && path[j - 1] == '\\'; --j)
        rule += '\\';
      rule += '\\';
    } else if (c == '$') {
      rule += '$';
    }
    rule += c;
  }
}

std::string hadal::makeDepFile(llvm::ArrayRef<std::string> targets,
                               llvm::ArrayRef<std::string> inputs) {
  std::string rule;
  for (StringRef target : targets) {
    if (!rule.empty())
      rule += ' ';
    appendPath(rule, target);
  }
  rule += ':';
  for (StringRef input : inputs) {
    rule += " \\\n  ";
    appendPath(rule, input);
  }
  rule += '\n';
  for (StringRef input : inputs) {
    rule += '\n';
    appendPath(rule, input);
    rule += ":\n";
  }
  return rule;
}
