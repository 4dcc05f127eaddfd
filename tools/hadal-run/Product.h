// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The model that is compiled into this program, and its weights.

#ifndef HADAL_TOOLS_HADAL_RUN_PRODUCT_H
#define HADAL_TOOLS_HADAL_RUN_PRODUCT_H

#include "Report.h"

#include "hadal_rt/hadal_rt.hpp"

#include <string>

/// Comes from the object that the compiler made.
extern "C" const hadal_rt_model_t hadal_model;

namespace hadal::run {

using rt::Session;
using rt::Weights;

/// Checks the machine and opens the weights: those at \p path if it is not
/// empty, else those in this program, else those beside it.
ExitCode openProduct(const std::string &path, Weights &weights);

/// A copy of `hadal_model`, or of what it has for a lesser processor that this
/// one is: alone, so that its fields can be changed.
hadal_rt_model_t chosenModel();

/// Makes \p session with one sequence, \p sequence, in it.
ExitCode startSession(const hadal_rt_model_t &model, const Weights &weights,
                      const hadal_rt_session_options_t &sizes, Session &session,
                      int32_t &sequence);

/// Reports \p status, which is not HADAL_RT_OK.
ExitCode reportStatus(hadal_rt_status_t status);

/// Seconds since some fixed time.
double nowSeconds();

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_PRODUCT_H
