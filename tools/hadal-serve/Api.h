// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The routes of the server, and what they answer.

#ifndef HADAL_TOOLS_HADAL_SERVE_API_H
#define HADAL_TOOLS_HADAL_SERVE_API_H

#include "Answer.h"
#include "ApiRequest.h"
#include "Engine.h"
#include "Http.h"
#include "Metrics.h"
#include "Options.h"
#include "Product.h"

#include <atomic>
#include <ctime>
#include <memory>
#include <string>

namespace hadal::serve {

/// Answers what comes through \p http. All of these outlive it.
class Api {
public:
  Api(HttpServer &http, Engine &engine, const Product &product,
      Metrics &metrics, const ServeOptions &options);

  /// From now on, no generation is taken: they are told to go elsewhere.
  void drain() { draining = true; }

private:
  /// What is being made for a request.
  struct Choices {
    std::shared_ptr<Outbox> outbox;
    Generations generations;
  };

  using Request = httplib::Request;
  using Response = httplib::Response;

  bool refuseEarly(const Request &request, Response &response);
  ApiError checkHeaders(const Request &request) const;
  bool answerGet(const Request &request, Response &response);
  void complete(const Request &request, Response &response, bool isChat);
  void answerWhole(const Choices &choices, const Answer &answer,
                   Response &response);
  void stream(Choices choices, std::shared_ptr<Answer> answer,
              bool includesUsage, Response &response);
  void fillError(Response &response);
  void finishHeaders(const Request &request, Response &response);
  void log(const Request &request, const Response &response);

  HttpServer &http;
  Engine &engine;
  const Product &product;
  Metrics &metrics;
  const ServeOptions &options;
  const std::string name, fingerprint;
  const time_t started = time(nullptr);
  std::atomic<bool> draining = false;
};

} // namespace hadal::serve

#endif // HADAL_TOOLS_HADAL_SERVE_API_H
