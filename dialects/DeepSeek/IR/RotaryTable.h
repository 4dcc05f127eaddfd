// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The frequencies behind a rotary embedding, in f64.

#ifndef HADAL_DIALECTS_DEEPSEEK_ROTARYTABLE_H
#define HADAL_DIALECTS_DEEPSEEK_ROTARYTABLE_H

#include "dialects/DeepSeek/IR/DeepSeekDialect.h"

namespace hadal::deepseek {

/// Frequencies f_i of \p rotary, after scaling: `[dim / 2]`, in radians per
/// position. YaRN as in DeepSeek-V3 `inference/model.py`,
/// `precompute_freqs_cis`; Llama 3 as in transformers.
llvm::SmallVector<double> getRotaryFrequencies(RotaryAttr rotary);

/// What multiplies cosines and sines: 1, or YaRN's attention factor.
double getRotaryAttentionFactor(RotaryAttr rotary);

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_ROTARYTABLE_H
