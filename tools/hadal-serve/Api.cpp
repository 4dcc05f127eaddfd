// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The routes of the server, and what they answer.

#include "Api.h"

#include "Answer.h"
#include "ChatPage.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <strings.h>
#include <utility>

using namespace hadal;
using namespace hadal::serve;
using namespace std::chrono_literals;
using json = nlohmann::ordered_json;

static constexpr char jsonType[] = "application/json";

/// Most generations of a request, as in OpenAI's API.
static constexpr int64_t maxGenerations = 128;

/// How often a connection that waits for tokens looks after its client.
static constexpr auto watchInterval = 100ms;

namespace {
struct Route {
  const char *path;
  const char *method;
};

/// What is to be logged of the request that a thread answers.
struct RequestRecord {
  const char *route = "none";
  Generations generations;
  bool hasReadBody = false;
  std::chrono::steady_clock::time_point start;
};
} // namespace

static constexpr Route routes[] = {{"/", "GET"},
                                   {"/health", "GET"},
                                   {"/metrics", "GET"},
                                   {"/v1/models", "GET"},
                                   {"/v1/chat/completions", "POST"},
                                   {"/v1/completions", "POST"}};
static constexpr char modelPrefix[] = "/v1/models/";

static const ApiError shuttingDown = {503, "the server is shutting down"};

static thread_local RequestRecord record;

static std::string makeFingerprint(const hadal_rt_model_t &model) {
  std::string text = "hadal-";
  for (int i = 0; i < 6; ++i)
    run::appendFormat(text, "%02x", model.layout_hash[i]);
  return text;
}

static void setError(httplib::Response &response, const ApiError &error) {
  response.status = error.status;
  response.set_content(error.toJson() + "\n", jsonType);
  if (error.status == 429 || error.status == 503)
    response.set_header("Retry-After", "1");
}

Api::Api(HttpServer &http, Engine &engine, const Product &product,
         Metrics &metrics, const ServeOptions &options)
    : http(http), engine(engine), product(product), metrics(metrics),
      options(options),
      name(options.name.empty() ? product.name : options.name),
      fingerprint(makeFingerprint(*product.model)) {
  using Handled = httplib::Server::HandlerResponse;
  http.set_pre_routing_handler([this](const Request &in, Response &out) {
    return refuseEarly(in, out) || answerGet(in, out) ? Handled::Handled
                                                      : Handled::Unhandled;
  });
  http.Post("/v1/chat/completions", [this](const Request &in, Response &out) {
    complete(in, out, /*isChat=*/true);
  });
  http.Post("/v1/completions", [this](const Request &in, Response &out) {
    complete(in, out, /*isChat=*/false);
  });
  http.set_error_handler(httplib::Server::Handler(
      [this](const Request &, Response &out) { fillError(out); }));
  http.set_post_routing_handler(
      [this](const Request &in, Response &out) { finishHeaders(in, out); });
  http.set_logger(
      [this](const Request &in, const Response &out) { log(in, out); });
}

//===----------------------------------------------------------------------===//
// Before the body is read
//===----------------------------------------------------------------------===//

/// Finds what is wrong with a request before its body is read.
ApiError Api::checkHeaders(const Request &request) const {
  if (request.method != "POST")
    return {};
  if (request.has_header("Content-Encoding"))
    return {415, "Content-Encoding is '" +
                     request.get_header_value("Content-Encoding") +
                     "', expected none"};
  // A page of another origin can send other types without being asked.
  std::string type = request.get_header_value("Content-Type");
  type = type.substr(0, type.find_first_of("; "));
  if (strcasecmp(type.c_str(), jsonType))
    return {415, "Content-Type is '" + type + "', expected '" + jsonType + "'"};
  if (!request.has_header("Content-Length") &&
      !request.has_header("Transfer-Encoding"))
    return {411, "the request has no Content-Length"};
  if (strtoull(request.get_header_value("Content-Length").c_str(), nullptr,
               10) > http.limits().bodyBytes)
    return {413, "the body has " + request.get_header_value("Content-Length") +
                     " bytes, expected at most " +
                     std::to_string(http.limits().bodyBytes)};
  if (draining)
    return shuttingDown;
  return {};
}

/// \returns Whether \p request is refused.
bool Api::refuseEarly(const Request &request, Response &response) {
  record = {};
  record.start = std::chrono::steady_clock::now();
  const Route *route = nullptr;
  for (const Route &known : routes)
    if (request.path == known.path)
      route = &known;
  if (!route && !request.path.compare(0, strlen(modelPrefix), modelPrefix)) {
    static constexpr Route model = {"/v1/models/NAME", "GET"};
    route = &model;
  }
  if (!route) {
    setError(response, {404, "there is no '" + request.path.substr(0, 100) +
                                 "'; see / and /v1/models"});
    return true;
  }
  record.route = route->path;
  bool isHead = request.method == "HEAD" && !strcmp(route->method, "GET");
  if (request.method != route->method && !isHead) {
    response.set_header("Allow", route->method);
    setError(response, {405, "the method is " + request.method.substr(0, 20) +
                                 ", expected " + route->method});
    return true;
  }
  ApiError error = checkHeaders(request);
  if (error.status)
    setError(response, error);
  return error.status;
}

/// \returns Whether this is one of the answers that need no body.
bool Api::answerGet(const Request &request, Response &response) {
  if (request.method == "POST")
    return false;
  response.status = 200;
  const std::string &path = request.path;
  if (path == "/") {
    response.set_header("Content-Security-Policy",
                        "default-src 'none'; script-src 'unsafe-inline'; "
                        "style-src 'unsafe-inline'; connect-src 'self'");
    response.set_content(chatPage, strlen(chatPage),
                         "text/html; charset=utf-8");
  } else if (path == "/health") {
    response.status = draining ? 503 : 200;
    response.set_content(draining ? "{\"status\":\"draining\"}\n"
                                  : "{\"status\":\"ok\"}\n",
                         jsonType);
  } else if (path == "/metrics") {
    metrics.connections = http.connections();
    response.set_content(metrics.format(),
                         "text/plain; version=0.0.4; charset=utf-8");
  } else {
    // The model itself, and with each adapter.
    json models = json::array();
    const json *wanted = nullptr;
    for (int32_t adapter = -1;
         adapter < 0 || hadal_rt_model_adapter(product.model, adapter);
         ++adapter)
      models.push_back(
          {{"id", nameModel(name, *product.model, adapter)},
           {"object", "model"},
           {"created", started},
           {"owned_by", "hadal"},
           {"max_model_len", engine.contextTokens()},
           {"chat_format", product.chatFormat
                               ? json(chatFormatName(*product.chatFormat))
                               : json(nullptr)}});
    for (const json &model : models)
      if (path != "/v1/models" &&
          model["id"] == path.substr(strlen(modelPrefix)))
        wanted = &model;
    if (path != "/v1/models" && !wanted) {
      ApiError error = {404,
                        "the model is '" +
                            path.substr(strlen(modelPrefix), 100) +
                            "', expected '" + name + "'",
                        "model", "model_not_found"};
      setError(response, error);
      return true;
    }
    json answer = path == "/v1/models"
                      ? json{{"object", "list"}, {"data", models}}
                      : *wanted;
    response.set_content(
        answer.dump(-1, ' ', false, json::error_handler_t::replace) + "\n",
        jsonType);
  }
  return true;
}

//===----------------------------------------------------------------------===//
// Completions
//===----------------------------------------------------------------------===//

void Api::complete(const Request &request, Response &response, bool isChat) {
  record.hasReadBody = true;
  ApiRequest asked;
  RequestLimits limits = {engine.contextTokens(),
                          std::min(maxGenerations, options.engine.maxQueue)};
  ApiError error =
      parseRequest(request.body, isChat, name, product, limits, asked);
  if (error.status)
    return setError(response, error);
  Choices choices;
  choices.outbox =
      std::make_shared<Outbox>(asked.generations.size(), asked.streams);
  std::shared_ptr<Generation> first;
  for (GenerationOptions &wanted : asked.generations) {
    if (options.timeoutSeconds)
      wanted.deadline =
          Clock::now() + std::chrono::seconds(options.timeoutSeconds);
    size_t index = choices.generations.size();
    if (index % size_t(asked.choices) == 0)
      first = nullptr;
    choices.generations.push_back(std::make_shared<Generation>(
        std::move(wanted), *product.tokenizer, *product.trie, choices.outbox,
        index, first));
    if (!first)
      first = choices.generations.back();
  }
  record.generations = choices.generations;
  if (!engine.submit(choices.generations)) {
    if (draining)
      return setError(response, shuttingDown);
    return setError(
        response,
        {429, "no room for " + std::to_string(choices.generations.size()) +
                  " more: at most " + std::to_string(options.engine.maxQueue) +
                  " wait; try again later"});
  }
  auto answer = std::make_shared<Answer>(
      isChat, nameModel(name, *product.model, first->request().adapter),
      fingerprint, *product.tokenizer);
  if (asked.streams)
    stream(std::move(choices), std::move(answer), asked.includesUsage,
           response);
  else
    answerWhole(choices, *answer, response);
}

/// What is said if one of \p deltas has not ended as it should.
static ApiError describeFailure(const std::vector<Delta> &deltas,
                                const Generations &generations) {
  for (size_t i = 0; i < deltas.size(); ++i) {
    if (deltas[i].finish == Finish::Timeout)
      return {504, "the generation took too long: " +
                       std::to_string(generations[i]->generatedTokens()) +
                       " tokens in " +
                       std::to_string(int64_t(generations[i]->seconds())) +
                       " s"};
    if (deltas[i].finish == Finish::Failed)
      return {500, deltas[i].error};
  }
  return {};
}

static void cancel(const Generations &generations) {
  for (const auto &generation : generations)
    generation->cancel();
}

void Api::answerWhole(const Choices &choices, const Answer &answer,
                      Response &response) {
  std::vector<Delta> all;
  while ((all = choices.outbox->wait(watchInterval)).empty())
    if (Connection::current().isPeerGone()) {
      cancel(choices.generations);
      Connection::current().closeAfterwards();
      return setError(response, {499, "the client is gone"});
    }
  ApiError error = describeFailure(all, choices.generations);
  if (error.status) {
    cancel(choices.generations);
    return setError(response, error);
  }
  response.set_content(answer.whole(all, choices.generations), jsonType);
}

/// \returns The events of \p deltas; of each that has ended, less in \p left.
static std::string format(std::vector<Delta> deltas, const Answer &answer,
                          size_t &left) {
  std::string events;
  for (size_t i = 0; i < deltas.size(); ++i) {
    // The end says why in an event of its own.
    std::optional<Finish> finish =
        std::exchange(deltas[i].finish, std::nullopt);
    if (!deltas[i].isEmpty())
      events += answer.piece(i, deltas[i]);
    if (!finish)
      continue;
    Delta last;
    last.finish = finish;
    events += answer.piece(i, last);
    --left;
  }
  return events;
}

void Api::stream(Choices choices, std::shared_ptr<Answer> answer,
                 bool includesUsage, Response &response) {
  response.set_header("Cache-Control", "no-cache");
  response.set_header("X-Accel-Buffering", "no");
  const Generations generations = choices.generations;
  auto provide = [=, left = generations.size()](
                     size_t offset, httplib::DataSink &sink) mutable {
    auto send = [&](const std::string &text) {
      return text.empty() || sink.write(text.data(), text.size());
    };
    if (!offset)
      for (size_t i = 0; i < generations.size(); ++i)
        if (!send(answer->begin(i)))
          return false;
    std::vector<Delta> deltas = choices.outbox->wait(watchInterval);
    if (deltas.empty())
      return !Connection::current().isPeerGone();
    ApiError error = describeFailure(deltas, generations);
    if (error.status) {
      cancel(generations);
      send("data: " + error.toJson() + "\n\n");
      sink.done();
      return true;
    }
    if (!send(format(std::move(deltas), *answer, left)))
      return false;
    if (!left && (!includesUsage || send(answer->usage(generations))) &&
        send(Answer::end()))
      sink.done();
    return true;
  };
  response.set_chunked_content_provider(
      "text/event-stream; charset=utf-8", std::move(provide),
      [generations](bool success) {
        if (success)
          return;
        cancel(generations);
        Connection::current().closeAfterwards();
      });
}

//===----------------------------------------------------------------------===//
// After the answer is made
//===----------------------------------------------------------------------===//

/// Gives errors that cpp-httplib found the form of the others.
void Api::fillError(Response &response) {
  if (!response.body.empty())
    return;
  Connection &connection = Connection::current();
  connection.closeAfterwards();
  int status = response.status;
  if (connection.isTimedOut())
    status = 408;
  else if (connection.isTooLarge())
    status = connection.hasHeaders() ? 413 : 431;
  switch (status) {
  case 408:
    return setError(response,
                    {status, "the request took longer than " +
                                 std::to_string(http.limits().receive.count()) +
                                 " s to arrive"});
  case 413:
    return setError(response,
                    {status, "the body has more than " +
                                 std::to_string(http.limits().bodyBytes) +
                                 " bytes"});
  case 414:
    return setError(response, {status, "the request line is too long"});
  case 431:
    return setError(response,
                    {status, "the headers have more than " +
                                 std::to_string(http.limits().headerBytes) +
                                 " bytes"});
  case 500:
    return setError(response, {status, "internal error"});
  default:
    return setError(response, {status, "not a request of HTTP, or one whose "
                                       "body does not match its headers"});
  }
}

void Api::finishHeaders(const Request &request, Response &response) {
  Connection &connection = Connection::current();
  // A body that was not read would be taken for the next request.
  bool hasBody = request.has_header("Transfer-Encoding") ||
                 (request.has_header("Content-Length") &&
                  request.get_header_value("Content-Length") != "0");
  if (draining || (hasBody && !record.hasReadBody))
    connection.closeAfterwards();
  response.set_header("X-Content-Type-Options", "nosniff");
  response.headers.erase("Keep-Alive");
  if (!connection.isClosing()) {
    response.set_header(
        "Keep-Alive", "timeout=" + std::to_string(http.limits().idle.count()));
    return;
  }
  response.headers.erase("Connection");
  response.set_header("Connection", "close");
}

void Api::log(const Request &request, const Response &response) {
  bool isGone =
      response.content_provider_ && !response.content_provider_success_;
  int status = isGone ? 499 : response.status;
  metrics.countRequest(record.route, status);
  double seconds = std::chrono::duration<double>(
                       std::chrono::steady_clock::now() - record.start)
                       .count();
  TokenCounts counts = countTokens(record.generations);
  std::string line;
  if (options.json) {
    char now[32];
    time_t clock = time(nullptr);
    tm parts;
    strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&clock, &parts));
    json entry = {{"time", now},
                  {"client", request.remote_addr},
                  {"method", request.method.substr(0, 20)},
                  {"route", record.route},
                  {"status", status},
                  {"seconds", seconds}};
    if (counts.prompt) {
      entry["prompt_tokens"] = counts.prompt;
      entry["cached_tokens"] = counts.cached;
      entry["generated_tokens"] = counts.generated;
    }
    line = entry.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  } else {
    run::appendFormat(line, "%s %s %.20s %s %d %.3f s", run::programName(),
                      request.remote_addr.c_str(), request.method.c_str(),
                      record.route, status, seconds);
    if (counts.prompt)
      run::appendFormat(line,
                        ", %lld prompt tokens (%lld cached), %lld "
                        "generated",
                        static_cast<long long>(counts.prompt),
                        static_cast<long long>(counts.cached),
                        static_cast<long long>(counts.generated));
    line += "\n";
  }
  record = {};
  // One call, so that lines of several threads do not mix.
  if (!options.quiet)
    fwrite(line.data(), 1, line.size(), stderr);
}
