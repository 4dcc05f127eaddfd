// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Measures the model that is compiled into this program.

#ifndef HADAL_TOOLS_HADAL_RUN_BENCH_H
#define HADAL_TOOLS_HADAL_RUN_BENCH_H

#include "Report.h"

namespace hadal::run {

/// Runs `--bench` with the options that follow it, those of hadal-bench.
ExitCode runBench(int argc, char **argv);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_BENCH_H
