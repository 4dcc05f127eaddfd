// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Finds the mix of integers that loses least within a number of bits.

#ifndef HADAL_COMPILER_CHOOSESCHEME_H
#define HADAL_COMPILER_CHOOSESCHEME_H

#include "lib/Compiler/Calibration.h"

namespace hadal {

/// Reads "auto:4.5bpw": bits of a weight, a mean over the model. Nothing if
/// \p scheme does not start with `auto:`; 0 if it is not followed by that.
std::optional<double> parseAutoBits(llvm::StringRef scheme);

/// Chooses a type for each class of weights, as -deepseek-quantize takes it, so
/// that all weights of the model together have no more than the bits a weight
/// of `options.quantize`. For each class and type alone the model is compiled,
/// with \p statistics, and its divergence from \p base measured on the text;
/// of the mixes that are small enough the one with the least sum is taken.
/// \p notes gets a line about it.
///
/// kInvalidArgument: no mix is small enough; the message says what is.
absl::StatusOr<std::string> chooseScheme(const CompileOptions &options,
                                         const std::string &statistics,
                                         const Observed &base, Outputs &outputs,
                                         std::vector<std::string> &notes);

} // namespace hadal

#endif // HADAL_COMPILER_CHOOSESCHEME_H
