// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a program that was compiled with probes says of its activations.

#ifndef HADAL_TOOLS_HADAL_RUN_STATISTICS_H
#define HADAL_TOOLS_HADAL_RUN_STATISTICS_H

#include "Report.h"

#include <string>

namespace hadal::run {

/// Begins to sum up what the probes see.
void startStatistics();

/// Writes what was seen since startStatistics() to \p path, a file of
/// safetensors: for probe P in layer L "P.L", f32, and "P.L.count", f32, how
/// many rows it, or each expert, had. Sums are in f64, in the
/// order of rows.
ExitCode writeStatistics(const std::string &path);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_STATISTICS_H
