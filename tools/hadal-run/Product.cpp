// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The model that is compiled into this program, and its weights.

#include "Product.h"

#include "OwnPath.h"

#include <ctime>

using namespace hadal;
using namespace hadal::run;

ExitCode run::reportStatus(hadal_rt_status_t status) {
  (void)status;
  return reportError(BadInput, "%s", hadal_rt_last_error());
}

ExitCode run::openProduct(const std::string &path, Weights &weights) {
  if (hadal_rt_status_t status = hadal_rt_model_check(&hadal_model))
    return reportStatus(status);
  hadal_rt_status_t status;
  if (!path.empty()) {
    status = weights.open(hadal_model, path.c_str());
  } else {
    std::string self;
    if (ExitCode code = findOwnPath(self))
      return code;
    status = weights.openEmbedded(hadal_model, self.c_str());
    if (status == HADAL_RT_NOT_FOUND)
      status = weights.open(hadal_model, (self + ".weights").c_str());
  }
  return status ? reportStatus(status) : Done;
}

hadal_rt_model_t run::chosenModel() {
  const hadal_rt_model_t *chosen;
  hadal_rt_model_t model =
      hadal_rt_model_choose(&hadal_model, &chosen) ? hadal_model : *chosen;
  model.lesser = nullptr;
  return model;
}

ExitCode run::startSession(const hadal_rt_model_t &model,
                           const Weights &weights,
                           const hadal_rt_session_options_t &sizes,
                           Session &session, int32_t &sequence) {
  hadal_rt_status_t status = session.create(model, weights, sizes);
  if (!status)
    status = hadal_rt_sequence_create(session.get(), &sequence);
  return status ? reportStatus(status) : Done;
}

double run::nowSeconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}
