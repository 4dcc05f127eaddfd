// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Measures how often the model that is compiled into this program finds the
// right one of several ways to continue a text.

#ifndef HADAL_TOOLS_HADAL_RUN_CHOICES_H
#define HADAL_TOOLS_HADAL_RUN_CHOICES_H

#include "Report.h"

#include "hadal_rt/hadal_rt.hpp"

#include <cstdint>
#include <string>

namespace hadal::run {

/// Scores the questions of the file at \p path, a line each:
/// `{"context": "..", "choices": ["..", ".."], "answer": 0}`, and prints the
/// accuracies, as one JSON object if \p json.
///
/// Tokens and scores are those of lm-evaluation-harness (EleutherAI, 0.4;
/// `TemplateLM._encode_pair` and `ConfigurableTask.process_results`): white
/// space that ends a context belongs to each choice; the tokens of a choice are
/// those of both together after as many as the context has alone; and the
/// choice whose tokens have the largest sum of log-probabilities is the
/// model's: acc. acc_norm divides the sums by the characters of the choice as
/// the file has it, acc_bytes by its bytes of UTF-8. What does not fit the
/// model's context is refused, where the harness cuts the context.
///
/// \param threads Of the session; 0: all cores.
ExitCode runChoices(const rt::Weights &weights, const std::string &path,
                    int64_t threads, bool json);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_CHOICES_H
