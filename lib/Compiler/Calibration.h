// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Statistics of a model on a text: gathered by the compiled model itself, and
// put where passes find them.

#ifndef HADAL_COMPILER_CALIBRATION_H
#define HADAL_COMPILER_CALIBRATION_H

#include "hadal/Compiler.h"
#include "lib/Compiler/Outputs.h"

#include "absl/status/statusor.h"
#include "mlir/IR/BuiltinOps.h"

namespace hadal {

/// Name by which recipes read the statistics' file.
inline constexpr char statisticsFileName[] = "@statistics";

/// A program without anything lossy.
struct Observed {
  std::string program; ///< Its path.
  ModelReport report;
};

/// True if \p path is of statistics, not of a text: it ends in `.safetensors`.
bool isStatisticsFile(llvm::StringRef path);

/// What compiles the model of \p options for this machine, without anything
/// lossy, to \p output.
CompileOptions makeLossless(const CompileOptions &options,
                            const std::string &output);

/// Compiles the model of \p options with probes, without anything lossy, runs
/// it over the text `options.calibration`, and writes what it saw to \p path:
/// with \p grams, second moments, too. \p outputs has its temporary files, and
/// \p base gets what it is, which runs as long as \p outputs lives.
///
/// kInvalidArgument: the text cannot be read or scored; the message is that of
/// the program.
absl::Status gatherStatistics(const CompileOptions &options, bool grams,
                              Outputs &outputs, const std::string &path,
                              Observed &base);

/// Runs what was compiled with \p options, and is in its place, and \p base
/// over the text, by `options.evaluator`.
///
/// kInvalidArgument: the evaluator fails; the message is its.
absl::StatusOr<LossReport> measureLoss(const CompileOptions &options,
                                       Outputs &outputs, const Observed &base);

/// Declares each tensor of the file \p path as `@statistics.NAME`, a weight
/// whose recipe reads it from the file `statisticsFileName`, and gives the
/// model of \p module the influence of its layers. \p notes gets what the text
/// says nothing of.
///
/// kInvalidArgument: the file is not one of statistics.
absl::Status attachStatistics(mlir::ModuleOp module, const std::string &path,
                              std::vector<std::string> &notes);

/// Erases what attachStatistics() declared.
void detachStatistics(mlir::ModuleOp module);

} // namespace hadal

#endif // HADAL_COMPILER_CALIBRATION_H
