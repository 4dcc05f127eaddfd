// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The main program of emitted executables: tokenize, run, sample, print.

#include "Bench.h"
#include "Eval.h"
#include "NpyWriter.h"
#include "Options.h"
#include "Probes.h"
#include "Product.h"
#include "Profile.h"
#include "TextSections.h"
#include "Values.h"

#include "hadal_text/constraint.h"
#include "hadal_text/sampler.h"
#include "hadal_text/tokenizer.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <unistd.h>

using namespace hadal;
using namespace hadal::run;

/// Prompt tokens in a step, unless --chunk says otherwise.
static constexpr int64_t defaultChunkTokens = 512;

/// Most bytes of logits that --logits holds at a time.
static constexpr int64_t logitsBufferBytes = 64 << 20;

/// Tokens to generate when -n is not given.
static constexpr int64_t defaultGenerate = 256;

namespace {

/// One run of the model, from prompt to timings.
class Runner {
public:
  /// \p startSeconds is when the program began.
  Runner(const RunOptions &options, double startSeconds)
      : options(options), startSeconds(startSeconds) {}
  ExitCode run();

private:
  ExitCode loadTokenizer();
  ExitCode loadSchema();
  ExitCode encodePrompt();
  ExitCode encodeChat();
  ExitCode checkLengths();
  ExitCode makeSession();
  ExitCode readPrompt();
  ExitCode generate();
  ExitCode step(const int32_t *tokens, int64_t count, int64_t firstOutput,
                int64_t outputs);
  ExitCode printToken(int32_t token);
  ExitCode finish();
  ExitCode printProfile();

  bool stopsAtEos() const { return options.mode != RunOptions::Mode::Tokens; }

  const RunOptions &options;
  Weights weights;
  Session session;
  int32_t sequence = 0;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::optional<text::Detokenizer> detokenizer;
  std::optional<text::TokenTrie> trie;        ///< Of the constraint.
  std::optional<text::Constraint> constraint; ///< Of --json-schema.

  std::vector<int32_t> prompt;
  std::vector<int32_t> generated;
  std::string generatedText;
  int64_t generateTokens = 0;
  int64_t chunkTokens = 0;
  bool foundEos = false; ///< Or the end of what follows the schema.

  std::vector<int32_t> sequenceIds; ///< [chunkTokens], all `sequence`.
  std::vector<int32_t> outputRows;  ///< [chunkTokens]
  std::vector<float> logits;        ///< [rows, vocab]
  double promptSeconds = 0;
  double generateSeconds = 0;
  /// Since the program began: when the first step is called, and when the
  /// first token is there.
  double startSeconds;
  double firstStepSeconds = 0, firstTokenSeconds = 0;

  std::unique_ptr<Profile> profile; ///< Null if none is wanted.
  std::unique_ptr<Values> values;   ///< The same.
  std::vector<ProfileEntry> promptProfile, generateProfile;
};

} // namespace

/// Makes the tokenizer. Token ids need none, so that with --tokens one that is
/// missing or not supported only means that there is no text.
ExitCode Runner::loadTokenizer() {
  std::string error;
  tokenizer = run::loadTokenizer(weights, error);
  if (tokenizer)
    detokenizer.emplace(*tokenizer, /*skipSpecial=*/true);
  else if (options.mode != RunOptions::Mode::Tokens)
    return reportError(BadInput, "%s; give token ids with --tokens",
                       error.c_str());
  return Done;
}

ExitCode Runner::loadSchema() {
  const char *path = options.schemaPath.c_str();
  std::string schema, error;
  if (!readFile(path, schema))
    return reportError(BadInput, "%s: cannot read: %s", path, strerror(errno));
  auto grammar = text::Grammar::fromJsonSchema(schema, error);
  if (!grammar)
    return reportError(BadInput, "%s: %s", path, error.c_str());
  trie.emplace(*tokenizer);
  constraint.emplace(std::move(grammar), *trie);
  return Done;
}

ExitCode Runner::encodeChat() {
  std::string error;
  std::optional<text::ChatFormat> format;
  if (options.chatFormat.empty()) {
    format = findChatFormat(weights, *tokenizer, error);
  } else {
    format = text::parseChatFormat(options.chatFormat, error);
    if (!format)
      return reportUsage("%s", error.c_str());
  }
  if (!format)
    return reportError(BadInput, "%s", error.c_str());

  std::vector<text::ChatMessage> messages;
  if (!options.system.empty())
    messages.push_back({"system", options.system});
  messages.push_back({"user", options.text});
  text::ChatOptions chat;
  chat.thinking = options.thinking;
  auto rendered = text::renderChat(*format, messages, chat, error);
  if (!rendered)
    return reportError(BadInput, "%s", error.c_str());
  auto ids = tokenizer->encode(*rendered, /*addSpecial=*/false,
                               /*parseSpecial=*/true, error);
  if (!ids)
    return reportError(BadInput, "--chat: %s", error.c_str());
  prompt = std::move(*ids);
  return Done;
}

ExitCode Runner::encodePrompt() {
  if (options.mode == RunOptions::Mode::Chat)
    return encodeChat();
  if (options.mode == RunOptions::Mode::Tokens) {
    prompt = options.tokens;
    return Done;
  }
  std::string error;
  auto ids = tokenizer->encode(options.text, /*addSpecial=*/true,
                               /*parseSpecial=*/true, error);
  if (!ids)
    return reportError(BadInput, "--prompt: %s", error.c_str());
  prompt = std::move(*ids);
  return Done;
}

/// Checks the prompt, and fits what is to be generated into the context.
ExitCode Runner::checkLengths() {
  if (prompt.empty())
    return reportError(BadInput, "the prompt has no tokens");
  for (size_t i = 0; i < prompt.size(); ++i)
    if (prompt[i] < 0 || prompt[i] >= hadal_model.vocab)
      return reportError(BadInput, "token %zu is %d, expected 0 .. %lld", i,
                         prompt[i],
                         static_cast<long long>(hadal_model.vocab - 1));
  auto promptTokens = int64_t(prompt.size());
  int64_t context = hadal_model.context;
  if (options.contextTokens)
    context = std::min(context, options.contextTokens);
  if (promptTokens > context)
    return reportError(
        BadInput, "the prompt has %lld tokens, but the context has %lld",
        static_cast<long long>(promptTokens), static_cast<long long>(context));
  // The last token that is generated is not fed back.
  int64_t room = context - promptTokens + 1;
  if (options.generate > room)
    return reportError(BadInput,
                       "-n is %lld, but after %lld prompt tokens the context "
                       "of %lld has room for %lld",
                       static_cast<long long>(options.generate),
                       static_cast<long long>(promptTokens),
                       static_cast<long long>(context),
                       static_cast<long long>(room));
  generateTokens = options.generate;
  if (generateTokens < 0)
    generateTokens =
        options.logitsPath.empty() ? std::min(room, defaultGenerate) : 0;
  return Done;
}

ExitCode Runner::makeSession() {
  auto promptTokens = int64_t(prompt.size());
  bool wantsAll = !options.logitsPath.empty();
  chunkTokens = options.chunkTokens;
  if (!chunkTokens) {
    chunkTokens = defaultChunkTokens;
    if (wantsAll)
      chunkTokens = std::clamp<int64_t>(
          logitsBufferBytes / int64_t(sizeof(float)) / hadal_model.vocab, 1,
          defaultChunkTokens);
  }
  chunkTokens = std::min(chunkTokens, promptTokens);

  hadal_rt_session_options_t sizes = {};
  sizes.threads = options.threads;
  sizes.max_step_tokens = chunkTokens;
  sizes.kv_tokens = options.contextTokens
                        ? options.contextTokens
                        : promptTokens + std::max<int64_t>(generateTokens, 1);
  const hadal_rt_model_t &model = profile  ? *profile->model()
                                  : values ? *values->model()
                                           : hadal_model;
  if (ExitCode code = startSession(model, weights, sizes, session, sequence))
    return code;
  if (!options.adapter.empty()) {
    int32_t adapter = -1;
    hadal_rt_status_t status = hadal_rt_model_find_adapter(
        &hadal_model, options.adapter.c_str(), &adapter);
    if (!status)
      status = hadal_rt_sequence_set_adapter(session.get(), sequence, adapter);
    if (status)
      return reportStatus(status);
  }
  sequenceIds.assign(size_t(chunkTokens), sequence);
  outputRows.resize(size_t(chunkTokens));
  logits.resize(size_t((wantsAll ? chunkTokens : 1) * hadal_model.vocab));
  return Done;
}

/// Runs \p count tokens and computes the logits of \p outputs of them.
ExitCode Runner::step(const int32_t *tokens, int64_t count, int64_t firstOutput,
                      int64_t outputs) {
  for (int64_t i = 0; i < outputs; ++i)
    outputRows[size_t(i)] = int32_t(firstOutput + i);
  if (profile) {
    int64_t before = 0;
    hadal_rt_sequence_length(session.get(), sequence, &before);
    profile->nextStep({count, before, outputs});
  }
  hadal_rt_status_t status =
      hadal_rt_session_step(session.get(), tokens, sequenceIds.data(), count,
                            outputRows.data(), outputs, logits.data());
  return status ? reportStatus(status) : Done;
}

/// Runs the prompt. Leaves the logits of its last token in row 0.
ExitCode Runner::readPrompt() {
  auto promptTokens = int64_t(prompt.size());
  bool wantsAll = !options.logitsPath.empty();
  NpyWriter writer;
  auto reportFile = [&] {
    return reportError(BadInput, "%s: cannot write: %s",
                       options.logitsPath.c_str(), strerror(errno));
  };
  if (wantsAll && !writer.open(options.logitsPath, "<f4",
                               {promptTokens, hadal_model.vocab}))
    return reportFile();

  if (profile)
    profile->start("prompt", hadal_rt_session_threads(session.get()));
  double start = nowSeconds();
  firstStepSeconds = start - startSeconds;
  for (int64_t first = 0; first < promptTokens; first += chunkTokens) {
    int64_t count = std::min(chunkTokens, promptTokens - first);
    bool isLast = first + count == promptTokens;
    int64_t outputs = wantsAll ? count : int64_t(isLast);
    if (ExitCode code =
            step(prompt.data() + first, count, count - outputs, outputs))
      return code;
    if (wantsAll &&
        !writer.append(logits.data(),
                       size_t(count * hadal_model.vocab) * sizeof(float)))
      return reportFile();
    if (isLast && outputs > 1)
      std::copy_n(logits.begin() + (outputs - 1) * hadal_model.vocab,
                  hadal_model.vocab, logits.begin());
  }
  promptSeconds = nowSeconds() - start;
  if (profile)
    promptProfile = profile->stop();
  if (wantsAll && !writer.commit())
    return reportFile();
  return Done;
}

/// Collects the text of \p token, or shows it at once.
ExitCode Runner::printToken(int32_t token) {
  std::string piece;
  if (detokenizer)
    piece = detokenizer->push(token);
  else if (!options.json)
    piece = (generated.size() > 1 ? "," : "") + std::to_string(token);
  generatedText += piece;
  return options.json || piece.empty() ? Done : printOutput(piece);
}

ExitCode Runner::generate() {
  text::Sampler sampler(options.sampler);
  for (int32_t token : prompt)
    sampler.accept(token);
  if (profile)
    profile->start("generate", hadal_rt_session_threads(session.get()));
  double start = nowSeconds();
  while (int64_t(generated.size()) < generateTokens) {
    auto vocab = size_t(hadal_model.vocab);
    if (constraint)
      constraint->apply(logits.data(), vocab);
    int32_t token = sampler.sample(logits.data(), vocab);
    if (token < 0)
      return reportError(
          BadInput, "no logit of generated token %zu is finite%s",
          generated.size(),
          constraint ? " among those that follow the schema" : "");
    generated.push_back(token);
    sampler.accept(token);
    if (stopsAtEos() && tokenizer) {
      const std::vector<int32_t> &ids = tokenizer->eosIds();
      foundEos = std::binary_search(ids.begin(), ids.end(), token);
    }
    if (ExitCode code = printToken(token))
      return code;
    if (constraint && !foundEos) {
      constraint->accept(tokenizer->tokenBytes(token));
      foundEos = constraint->isComplete();
    }
    if (generated.size() == 1)
      firstTokenSeconds = nowSeconds() - startSeconds;
    if (foundEos || int64_t(generated.size()) == generateTokens)
      break;
    if (ExitCode code = step(&generated.back(), 1, 0, 1))
      return code;
  }
  generateSeconds = nowSeconds() - start;
  if (profile)
    generateProfile = profile->stop();
  return Done;
}

static double rate(size_t count, double seconds) {
  return seconds > 0 ? double(count) / seconds : 0;
}

/// Prints what was held back, and the JSON object or the timings.
ExitCode Runner::finish() {
  std::string out;
  if (detokenizer)
    out = detokenizer->flush();
  generatedText += out;
  // The first token comes from the prompt's logits.
  size_t decoded = generated.empty() ? 0 : generated.size() - 1;
  double promptRate = rate(prompt.size(), promptSeconds);
  double generateRate = rate(decoded, generateSeconds);
  if (options.json) {
    out = "{\"prompt_tokens\":";
    appendJsonList(out, prompt);
    out += ",\"tokens\":";
    appendJsonList(out, generated);
    out += ",\"text\":";
    appendJsonString(out, generatedText);
    out += ",\"stop\":";
    appendJsonString(out, foundEos ? "eos" : "length");
    appendFormat(
        out,
        ",\"timings\":{\"prompt_tokens\":%zu,\"prompt_s\":%.6f,"
        "\"prompt_tokens_per_s\":%.3f,\"generated_tokens\":%zu,"
        "\"generate_s\":%.6f,\"generated_tokens_per_s\":%.3f,"
        "\"first_step_s\":%.6f,\"first_token_s\":%.6f,\"threads\":%lld}}\n",
        prompt.size(), promptSeconds, promptRate, generated.size(),
        generateSeconds, generateRate, firstStepSeconds, firstTokenSeconds,
        static_cast<long long>(hadal_rt_session_threads(session.get())));
  } else if (!generated.empty() &&
             (generatedText.empty() || generatedText.back() != '\n')) {
    out += '\n';
  }
  if (ExitCode code = printOutput(out))
    return code;
  if (!options.json && isatty(STDERR_FILENO))
    fprintf(stderr,
            "prompt: %zu tokens, %.2f tokens/s; generated: %zu tokens, %.2f "
            "tokens/s; %lld threads\n",
            prompt.size(), promptRate, generated.size(), generateRate,
            static_cast<long long>(hadal_rt_session_threads(session.get())));
  return Done;
}

/// Prints the profile to stderr and writes the trace, if they are wanted.
ExitCode Runner::printProfile() {
  if (!options.tracePath.empty())
    if (ExitCode code = profile->writeTrace(options.tracePath))
      return code;
  if (!options.profile)
    return Done;
  Machine machine;
  if (ExitCode code = machine.open(weights, options.threads))
    return code;
  std::string out;
  machine.samples().appendText(out);
  for (auto [label, entries] : {std::pair("prompt", &promptProfile),
                                std::pair("generate", &generateProfile)})
    if (!entries->empty()) {
      appendFormat(out, "\n%s\n", label);
      appendProfile(out, *entries, machine.samples().typical());
    }
  fputs(out.c_str(), stderr);
  return Done;
}

ExitCode Runner::run() {
  if (ExitCode code = openProduct(options.weightsPath, weights))
    return code;
  if (ExitCode code = loadTokenizer())
    return code;
  if (!options.schemaPath.empty())
    if (ExitCode code = loadSchema())
      return code;
  if (ExitCode code = encodePrompt())
    return code;
  if (ExitCode code = checkLengths())
    return code;
  if (options.profile || !options.tracePath.empty()) {
    profile = std::make_unique<Profile>();
    if (ExitCode code = profile->open(!options.tracePath.empty()))
      return code;
  }
  if (!options.valuesPath.empty()) {
    values = std::make_unique<Values>();
    if (ExitCode code = values->open())
      return code;
  }
  if (ExitCode code = makeSession())
    return code;
  if (ExitCode code = readPrompt())
    return code;
  if (ExitCode code = generate())
    return code;
  if (ExitCode code = finish())
    return code;
  if (values)
    if (ExitCode code = values->write(options.valuesPath))
      return code;
  return profile ? printProfile() : Done;
}

int main(int argc, char **argv) {
  double startSeconds = nowSeconds();
  setProgramName(argc ? argv[0] : nullptr);
  if (argc > 1 && !strcmp(argv[1], "--bench"))
    return runBench(argc - 1, argv + 1);
  if (argc > 1 && !strcmp(argv[1], "--eval"))
    return runEval(argc - 1, argv + 1);
  RunOptions options;
  if (ExitCode code = parseOptions(argc, argv, options))
    return code;
  if (options.mode == RunOptions::Mode::Help)
    return printOutput(makeHelp());
  return Runner(options, startSeconds).run();
}
