// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The command line of hadal-serve.

#include "Options.h"

#include "../hadal-run/Integers.h"

#include <cstring>
#include <getopt.h>

using namespace hadal;
using namespace hadal::serve;
using run::Done;
using run::ExitCode;
using run::readInteger;
using run::reportUsage;

const char serve::help[] =
    // Fits a screen of 24 lines, 80 columns.
    "usage: hadalc MODEL -o model --emit=lib && hadal-serve model.so\n"
    "\n"
    "Serves a model over HTTP as OpenAI's API does: /v1/chat/completions,\n"
    "/v1/completions, /v1/models; a chat page at /, /health, /metrics.\n"
    "Defaults in parentheses; a --timeout or --drain-timeout of 0 is none.\n"
    "  --host ADDRESS      (127.0.0.1)      --port N  0: any (8080)\n"
    "  --name NAME         of the model for clients (that of the file)\n"
    "  --weights FILE      (beside the library, with .weights)\n"
    "  --chat-format F     deepseek-v3, ... (what the model says)\n"
    "  --threads N         (all cores)\n"
    "  --max-running N     generations at a time (32)\n"
    "  --max-queue N       that wait; others are told to retry (256)\n"
    "  --max-connections N (256)            --max-body BYTES (1048576)\n"
    "  --step-tokens N     most in a step: less, smoother; more, faster "
    "(256)\n"
    "  --kv-tokens N       that the KV memory holds (4096 a generation)\n"
    "  --prefix-cache N    finished sequences to begin others with (32)\n"
    "  --timeout S         for a generation (600)\n"
    "  --receive-timeout S for a request to arrive (20)\n"
    "  --drain-timeout S   after SIGTERM (30)\n"
    "  --json              log JSON lines   --quiet  log nothing\n";

namespace {
/// Values of options; none has a letter, but for -h.
enum OptionId {
  ChatFormat = 256,
  DrainTimeout,
  Host,
  Json,
  KVTokens,
  MaxBody,
  MaxConnections,
  MaxQueue,
  MaxRunning,
  Name,
  Port,
  PrefixCache,
  Quiet,
  ReceiveTimeout,
  StepTokens,
  Threads,
  Timeout,
  Weights
};
} // namespace

static const option longOptions[] = {
    {"chat-format", required_argument, nullptr, ChatFormat},
    {"drain-timeout", required_argument, nullptr, DrainTimeout},
    {"help", no_argument, nullptr, 'h'},
    {"host", required_argument, nullptr, Host},
    {"json", no_argument, nullptr, Json},
    {"kv-tokens", required_argument, nullptr, KVTokens},
    {"max-body", required_argument, nullptr, MaxBody},
    {"max-connections", required_argument, nullptr, MaxConnections},
    {"max-queue", required_argument, nullptr, MaxQueue},
    {"max-running", required_argument, nullptr, MaxRunning},
    {"name", required_argument, nullptr, Name},
    {"port", required_argument, nullptr, Port},
    {"prefix-cache", required_argument, nullptr, PrefixCache},
    {"quiet", no_argument, nullptr, Quiet},
    {"receive-timeout", required_argument, nullptr, ReceiveTimeout},
    {"step-tokens", required_argument, nullptr, StepTokens},
    {"threads", required_argument, nullptr, Threads},
    {"timeout", required_argument, nullptr, Timeout},
    {"weights", required_argument, nullptr, Weights},
    {nullptr, 0, nullptr, 0}};

static ExitCode readText(const char *name, std::string &value) {
  value = optarg;
  return value.empty() ? reportUsage("%s is empty", name) : Done;
}

/// Takes one option that getopt_long has found; its value is in `optarg`.
static ExitCode takeOption(int id, ServeOptions &options) {
  EngineOptions &engine = options.engine;
  HttpLimits &http = options.http;
  constexpr int64_t day = 86400;
  switch (id) {
  case ChatFormat:
    return readText("--chat-format", options.chatFormat);
  case DrainTimeout:
    return readInteger("--drain-timeout", optarg, 0, day, options.drainSeconds);
  case Host:
    return readText("--host", options.host);
  case Json:
    options.json = true;
    return Done;
  case KVTokens:
    return readInteger("--kv-tokens", optarg, 1, INT64_MAX, engine.kvTokens);
  case MaxBody:
    return readInteger("--max-body", optarg, 1, 1 << 30, http.bodyBytes);
  case MaxConnections:
    return readInteger("--max-connections", optarg, 1, 10000, http.connections);
  case MaxQueue:
    return readInteger("--max-queue", optarg, 1, 100000, engine.maxQueue);
  case MaxRunning:
    return readInteger("--max-running", optarg, 1, 4096, engine.maxRunning);
  case Name:
    return readText("--name", options.name);
  case Port:
    return readInteger("--port", optarg, 0, 65535, options.port);
  case PrefixCache:
    return readInteger("--prefix-cache", optarg, 0, 4096, engine.cachedPrompts);
  case Quiet:
    options.quiet = true;
    return Done;
  case ReceiveTimeout:
    return readInteger("--receive-timeout", optarg, 1, day, http.receive);
  case StepTokens:
    return readInteger("--step-tokens", optarg, 1, 65536, engine.stepTokens);
  case Threads:
    return readInteger("--threads", optarg, 0, 1024, engine.threads);
  case Timeout:
    return readInteger("--timeout", optarg, 0, day, options.timeoutSeconds);
  case Weights:
    return readText("--weights", options.weightsPath);
  default:
    return reportUsage("unknown option");
  }
}

ExitCode serve::parseOptions(int argc, char **argv, ServeOptions &options) {
  opterr = 0;
  for (;;) {
    int id = getopt_long(argc, argv, ":h", longOptions, nullptr);
    // Of several letters in one argument, getopt has not stepped past it.
    const char *current = argv[optind - 1];
    if (optind < argc && strncmp(current, "-", 1))
      current = argv[optind];
    if (id == -1)
      break;
    if (id == 'h') {
      options.help = true;
      return Done;
    }
    if (id == ':')
      return reportUsage("option '%.60s' expects a value", current);
    if (id == '?')
      return reportUsage("unknown or ambiguous option '%.60s'", current);
    if (ExitCode code = takeOption(id, options))
      return code;
  }
  if (optind == argc)
    return reportUsage("expected a library made by hadalc --emit=lib");
  options.product = argv[optind++];
  if (optind < argc)
    return reportUsage("unexpected argument '%.60s'", argv[optind]);
  return Done;
}
