// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The command line of emitted executables.

#include "Options.h"

#include "Help.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <getopt.h>

using namespace hadal;
using namespace hadal::run;

std::string run::makeHelp() {
  return std::string("usage: ") + programName() +
         " --chat \"Why is the sky blue?\" -n 200\n\n"
         "Runs the model that is compiled into this program. One of:\n" +
         runHelp;
}

bool run::readFile(const char *path, std::string &contents) {
  FILE *file = fopen(path, "re");
  if (!file)
    return false;
  contents.clear();
  char buffer[65536];
  while (size_t got = fread(buffer, 1, sizeof(buffer), file))
    contents.append(buffer, got);
  bool good = !ferror(file);
  int error = errno;
  fclose(file);
  errno = error;
  return good;
}

static ExitCode parseTokens(const char *argument, RunOptions &options) {
  std::string list = argument;
  if (argument[0] == '@' && !readFile(argument + 1, list))
    return reportError(BadInput, "%s: cannot read: %s", argument + 1,
                       strerror(errno));
  std::vector<int64_t> values;
  if (!parseIntegerList(list, INT32_MAX, values))
    return reportUsage("--tokens is '%.60s', expected ids like 1,2,3",
                       argument);
  options.tokens.assign(values.begin(), values.end());
  return Done;
}

namespace {
/// Values of options without a letter.
enum OptionId {
  Adapter = 256,
  Chat,
  ChatFormat,
  Chunk,
  Context,
  Json,
  JsonSchema,
  Logits,
  MinP,
  Profile,
  Prompt,
  RepetitionPenalty,
  Seed,
  System,
  Temperature,
  Thinking,
  Threads,
  Tokens,
  TopK,
  TopP,
  Trace,
  Values,
  Weights
};
} // namespace

static const option longOptions[] = {
    {"adapter", required_argument, nullptr, Adapter},
    {"chat", required_argument, nullptr, Chat},
    {"chat-format", required_argument, nullptr, ChatFormat},
    {"chunk", required_argument, nullptr, Chunk},
    {"context", required_argument, nullptr, Context},
    {"help", no_argument, nullptr, 'h'},
    {"json", no_argument, nullptr, Json},
    {"json-schema", required_argument, nullptr, JsonSchema},
    {"logits", required_argument, nullptr, Logits},
    {"min-p", required_argument, nullptr, MinP},
    {"profile", no_argument, nullptr, Profile},
    {"prompt", required_argument, nullptr, Prompt},
    {"repetition-penalty", required_argument, nullptr, RepetitionPenalty},
    {"seed", required_argument, nullptr, Seed},
    {"system", required_argument, nullptr, System},
    {"temperature", required_argument, nullptr, Temperature},
    {"thinking", no_argument, nullptr, Thinking},
    {"threads", required_argument, nullptr, Threads},
    {"tokens", required_argument, nullptr, Tokens},
    {"top-k", required_argument, nullptr, TopK},
    {"top-p", required_argument, nullptr, TopP},
    {"trace", required_argument, nullptr, Trace},
    {"values", required_argument, nullptr, Values},
    {"weights", required_argument, nullptr, Weights},
    {nullptr, 0, nullptr, 0}};

static ExitCode readFloat(const char *name, float &value) {
  char *end;
  errno = 0;
  value = strtof(optarg, &end);
  if (end != optarg && !*end && std::isfinite(value))
    return Done;
  return reportUsage("%s is '%.60s', expected a number", name, optarg);
}

static ExitCode setMode(RunOptions &options, RunOptions::Mode mode) {
  if (options.mode != RunOptions::Mode::None)
    return reportUsage(
        "only one of --chat, --prompt and --tokens may be given");
  options.mode = mode;
  return Done;
}

/// Takes one option that getopt_long has found; its value is in `optarg`.
static ExitCode takeOption(int id, RunOptions &options) {
  switch (id) {
  case Chat:
  case Prompt:
    options.text = optarg;
    return setMode(options, id == Chat ? RunOptions::Mode::Chat
                                       : RunOptions::Mode::Prompt);
  case Tokens:
    if (ExitCode code = setMode(options, RunOptions::Mode::Tokens))
      return code;
    return parseTokens(optarg, options);
  case Adapter:
    options.adapter = optarg;
    if (!*optarg)
      return reportUsage("--adapter is empty, expected a name");
    return Done;
  case ChatFormat:
    options.chatFormat = optarg;
    return Done;
  case Chunk:
    return readInteger("--chunk", optarg, 1, INT32_MAX, options.chunkTokens);
  case Context:
    return readInteger("--context", optarg, 1, INT32_MAX,
                       options.contextTokens);
  case Json:
    options.json = true;
    return Done;
  case JsonSchema:
    options.schemaPath = optarg;
    if (!*optarg)
      return reportUsage("--json-schema is empty, expected a file name");
    return Done;
  case Profile:
    options.profile = true;
    return Done;
  case Trace:
    options.tracePath = optarg;
    if (!*optarg)
      return reportUsage("--trace is empty, expected a file name");
    return Done;
  case Values:
    options.valuesPath = optarg;
    if (!*optarg)
      return reportUsage("--values is empty, expected a file name");
    return Done;
  case Logits:
    options.logitsPath = optarg;
    if (!*optarg)
      return reportUsage("--logits is empty, expected a file name");
    return Done;
  case MinP:
    return readFloat("--min-p", options.sampler.minP);
  case RepetitionPenalty:
    return readFloat("--repetition-penalty", options.sampler.repetitionPenalty);
  case Seed:
    return readInteger("--seed", optarg, 0, INT64_MAX, options.sampler.seed);
  case System:
    options.system = optarg;
    return Done;
  case Temperature:
    return readFloat("--temperature", options.sampler.temperature);
  case Thinking:
    options.thinking = true;
    return Done;
  case Threads:
    return readInteger("--threads", optarg, 0, 1024, options.threads);
  case TopK:
    return readInteger("--top-k", optarg, 0, INT32_MAX, options.sampler.topK);
  case TopP:
    return readFloat("--top-p", options.sampler.topP);
  case Weights:
    options.weightsPath = optarg;
    if (!*optarg)
      return reportUsage("--weights is empty, expected a file name");
    return Done;
  case 'n':
    return readInteger("-n", optarg, 0, INT32_MAX, options.generate);
  default:
    return reportUsage("unknown option");
  }
}

ExitCode run::parseOptions(int argc, char **argv, RunOptions &options) {
  options.sampler.temperature = 0;
  opterr = 0;
  for (;;) {
    // With what stands there now, since getopt may step past it.
    const char *current = argv[optind];
    int id = getopt_long(argc, argv, ":hn:", longOptions, nullptr);
    if (id == -1)
      break;
    if (id == 'h') {
      options.mode = RunOptions::Mode::Help;
      return Done;
    }
    if (id == ':')
      return reportUsage("option '%.60s' expects a value", current);
    if (id == '?')
      return reportUsage("unknown or ambiguous option '%.60s'", current);
    if (ExitCode code = takeOption(id, options))
      return code;
  }
  if (optind < argc)
    return reportUsage("unexpected argument '%.60s'", argv[optind]);
  if (options.mode == RunOptions::Mode::None)
    return reportUsage("expected --chat, --prompt or --tokens");
  if (!options.valuesPath.empty() &&
      (options.profile || !options.tracePath.empty()))
    return reportUsage("--values does not go with --profile and --trace");
  bool isChat = options.mode == RunOptions::Mode::Chat;
  if (!isChat && (!options.system.empty() || !options.chatFormat.empty() ||
                  options.thinking))
    return reportUsage("--system, --chat-format and --thinking go with --chat");
  if (!options.schemaPath.empty() &&
      (options.mode == RunOptions::Mode::Tokens || options.thinking))
    return reportUsage("--json-schema goes with --chat and --prompt, and not "
                       "with --thinking");
  std::string error;
  if (!text::Sampler::validate(options.sampler, error))
    return reportUsage("%s", error.c_str());
  return Done;
}
