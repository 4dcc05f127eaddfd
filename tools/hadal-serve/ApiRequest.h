// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a body of /v1/completions or /v1/chat/completions asks for.

#ifndef HADAL_TOOLS_HADAL_SERVE_APIREQUEST_H
#define HADAL_TOOLS_HADAL_SERVE_APIREQUEST_H

#include "Generation.h"
#include "Product.h"

#include <string>
#include <vector>

namespace hadal::serve {

/// An answer that is an error, in the form of OpenAI's API.
struct ApiError {
  int status = 0; ///< Of HTTP; 0: no error.
  std::string message;
  std::string param = {}; ///< The field at fault; empty: none.
  std::string code = {};  ///< For programs; empty: none.

  std::string toJson() const;
};

struct ApiRequest {
  bool isChat = false;
  bool streams = false;
  bool includesUsage = false; ///< In a stream.
  int64_t choices = 1;        ///< Answers to each prompt.
  /// Of each prompt in turn, that of each choice.
  std::vector<GenerationOptions> generations;
};

/// What a server can take.
struct RequestLimits {
  int64_t contextTokens; ///< Of a prompt and its answer together.
  int64_t generations;   ///< Of a request.
};

/// What clients call \p model with adapter \p adapter of \p compiled,
/// "MODEL:NAME", or without one, -1.
std::string nameModel(const std::string &model,
                      const hadal_rt_model_t &compiled, int32_t adapter);

/// Reads \p body, which is not trusted.
///
/// \param isChat Whether it has messages, not a prompt.
/// \param model  The name of the model that is served.
/// \returns The error that is its answer, with status 0 if there is none.
ApiError parseRequest(const std::string &body, bool isChat,
                      const std::string &model, const Product &product,
                      const RequestLimits &limits, ApiRequest &request);

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_APIREQUEST_H
