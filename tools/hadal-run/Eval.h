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

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_EVAL_H
