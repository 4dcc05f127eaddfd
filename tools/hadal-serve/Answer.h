// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Answers to completions, whole or in pieces, as OpenAI's API has them.

#ifndef HADAL_TOOLS_HADAL_SERVE_ANSWER_H
#define HADAL_TOOLS_HADAL_SERVE_ANSWER_H

#include "Generation.h"

#include "hadal_text/tokenizer.h"

#include <ctime>
#include <string>
#include <vector>

namespace hadal::serve {

/// Formats what generations yield.
class Answer {
public:
  Answer(bool isChat, std::string model, std::string fingerprint,
         const text::Tokenizer &tokenizer);

  /// The whole answer; each of \p all has ended.
  std::string whole(const std::vector<Delta> &all,
                    const Generations &generations) const;

  /// The events of a stream: the first one of a choice, each piece, the end.
  std::string begin(size_t index) const;
  std::string piece(size_t index, const Delta &delta) const;
  std::string usage(const Generations &generations) const;
  static std::string end() { return "data: [DONE]\n\n"; }

private:
  struct Parts;
  std::string event(Parts parts) const;

  bool isChat;
  std::string model, fingerprint, id;
  time_t created = time(nullptr);
  const text::Tokenizer &tokenizer;
};

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_ANSWER_H
