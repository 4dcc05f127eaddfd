// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Several executables side by side: what each costs, and how close its guesses
// are to those of a base.

#ifndef HADAL_TOOLS_HADAL_EVAL_PARETOTABLE_H
#define HADAL_TOOLS_HADAL_EVAL_PARETOTABLE_H

#include <string>
#include <string_view>
#include <vector>

namespace hadal::run {

struct ParetoRow {
  std::string path;
  double perplexity = 0;
  double divergence = 0; ///< From the base, nats a token.
  double agreement = 0;  ///< Share of tokens with the base's first choice.
  double weightsBytes = 0;
  double tokensPerSecond = 0;    ///< Of decode.
  double operationsPerToken = 0; ///< Of decode, f32 and integer.
  /// Whether no other row is as good in divergence, bytes, speed and
  /// operations, and better in one of them.
  bool isOnFront = false;
};

/// Reads what `--bench --json` of an executable says of its weights and its
/// first decode into \p row. \returns False if it does not say so.
bool readBench(std::string_view json, ParetoRow &row);

/// Sets `isOnFront` of all rows.
void markFront(std::vector<ParetoRow> &rows);

std::string makeParetoText(const std::vector<ParetoRow> &rows);
std::string makeParetoJson(const std::vector<ParetoRow> &rows);
/// A plot of divergence over size, with the rows at which less of one costs
/// more of the other joined by a line.
std::string makeParetoSvg(const std::vector<ParetoRow> &rows);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_EVAL_PARETOTABLE_H
