// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The model that is compiled into this program, and its weights.

#ifndef HADAL_TOOLS_HADAL_RUN_PRODUCT_H
#define HADAL_TOOLS_HADAL_RUN_PRODUCT_H

#include "Report.h"

#include "hadal_rt/hadal_rt.h"

#include <memory>
#include <string>
#include <string_view>

/// Comes from the object that the compiler made.
extern "C" const hadal_rt_model_t hadal_model;

namespace hadal::run {

struct CloseWeights {
  void operator()(hadal_rt_weights_t *weights) const {
    hadal_rt_weights_close(weights);
  }
};
struct FreeSession {
  void operator()(hadal_rt_session_t *session) const {
    hadal_rt_session_free(session);
  }
};
using Weights = std::unique_ptr<hadal_rt_weights_t, CloseWeights>;
using Session = std::unique_ptr<hadal_rt_session_t, FreeSession>;

/// Checks the machine and opens the weights: those at \p path if it is not
/// empty, else those in this program, else those beside it.
ExitCode openProduct(const std::string &path, Weights &weights);

/// Reports \p status, which is not HADAL_RT_OK.
ExitCode reportStatus(hadal_rt_status_t status);

/// Returns a section of the weights as text; empty if there is none.
std::string_view sectionText(const Weights &weights, const char *name);

/// Seconds since some fixed time.
double nowSeconds();

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_PRODUCT_H
