// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Measures how well the model that is compiled into this program guesses a
// text.

#ifndef HADAL_TOOLS_HADAL_RUN_EVAL_H
#define HADAL_TOOLS_HADAL_RUN_EVAL_H

#include "Report.h"

namespace hadal::run {

/// Runs `--eval` with the options that follow it, those of hadal-eval, and
/// `--rows-to FD`: instead of printing, write every row of logits to that open
/// file; see RowsHeader.
ExitCode runEval(int argc, char **argv);

/// Returns how many of \p tokens, those of the longest text, a step takes: so
/// many that the logits of all of them stay small.
int64_t chooseStepTokens(int64_t tokens);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_EVAL_H
