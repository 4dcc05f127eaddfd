// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// hadal-serve PRODUCT: serves a model that hadalc compiled as a library.

#include "Api.h"
#include "Engine.h"
#include "Http.h"
#include "Metrics.h"
#include "Options.h"
#include "Product.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

using namespace hadal;
using namespace hadal::serve;
using namespace std::chrono_literals;
using run::BadInput;
using run::Done;
using run::reportError;

/// Waits for a signal to stop, then for what still runs; a second signal, or
/// the end of the patience, ends that too.
static void drainOnSignal(const sigset_t &signals, const ServeOptions &options,
                          Api &api, Engine &engine, HttpServer &http) {
  int signal;
  sigwait(&signals, &signal);
  api.drain();
  auto until = Clock::now() + (options.drainSeconds
                                   ? std::chrono::seconds(options.drainSeconds)
                                   : std::chrono::hours(24 * 365));
  timespec tick = {0, 20'000'000};
  while (!engine.isIdle() && Clock::now() < until &&
         sigtimedwait(&signals, nullptr, &tick) < 0) {
  }
  engine.stop();
  http.halt();
}

int main(int argc, char **argv) {
  run::setProgramName(argc ? argv[0] : nullptr);
  ServeOptions options;
  if (run::ExitCode code = parseOptions(argc, argv, options))
    return code;
  if (options.help)
    return run::printOutput(help);
  // All threads inherit this: signals come to those that wait for them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  std::string error;
  Product product;
  if (!product.open(options.product, options.weightsPath, options.chatFormat,
                    error))
    return reportError(BadInput, "%s", error.c_str());
  Metrics metrics;
  Engine engine(*product.model, metrics);
  HttpServer http(options.http);
  Api api(http, engine, product, metrics, options);
  int port = http.bind(options.host, int(options.port), error);
  if (port < 0 || !engine.open(product.weights, options.engine, error))
    return reportError(BadInput, "%s", error.c_str());

  bool isIPv6 = options.host.find(':') != std::string::npos;
  printf("serving '%s' at http://%s%s%s:%d: context %lld tokens, %lld threads, "
         "at most %lld MiB besides the weights\n",
         options.name.empty() ? product.name.c_str() : options.name.c_str(),
         isIPv6 ? "[" : "", options.host.c_str(), isIPv6 ? "]" : "", port,
         static_cast<long long>(engine.contextTokens()),
         static_cast<long long>(engine.threads()),
         static_cast<long long>(engine.memoryBytes() >> 20));
  if (!product.chatFormat)
    printf("no chat: %s\n", product.chatError.c_str());
  fflush(stdout);

  std::thread stopper(
      [&] { drainOnSignal(signals, options, api, engine, http); });
  http.serve();
  stopper.join();
  return Done;
}
