// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs a text through the model and sums up what its logits say of each token.

#include "Eval.h"

#include "Choices.h"
#include "GateCounter.h"
#include "LogProbabilities.h"
#include "Options.h"
#include "Product.h"
#include "Statistics.h"
#include "TextSections.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <getopt.h>
#include <optional>
#include <unistd.h>

using namespace hadal;
using namespace hadal::run;

/// Tokens of a window, unless --context says otherwise or the model has fewer.
/// The same as elsewhere, since perplexities compare only at one size.
static constexpr int64_t defaultWindowTokens = 512;

/// Most tokens of a step, and bytes of logits that it computes.
static constexpr int64_t maxStepTokens = 512;
static constexpr int64_t maxLogitsBytes = 64 << 20;

int64_t run::chooseStepTokens(int64_t tokens) {
  return std::clamp<int64_t>(maxLogitsBytes / int64_t(sizeof(float)) /
                                 hadal_model.vocab,
                             1, std::min(maxStepTokens, tokens));
}

namespace {

struct EvalOptions {
  std::string textPath;
  std::string tokens; ///< Of --tokens: a list, or @FILE.
  std::string choicesPath;
  int64_t windowTokens = 0;
  int64_t threads = 0;
  int64_t rowsTo = -1;
  std::string weightsPath;
  std::string statisticsPath; ///< For what probes see; empty: nothing.
  bool json = false;
};

class Eval {
public:
  explicit Eval(const EvalOptions &options) : options(options) {}
  ExitCode run();

private:
  ExitCode readText();
  ExitCode encode(const std::string &text);
  ExitCode makeSession();
  ExitCode openRows();
  ExitCode scoreWindow(int64_t first, int64_t end, int64_t firstScored);
  ExitCode scoreRow(int64_t token, const float *row);
  ExitCode print() const;

  /// Tokens that are scored: all that have one before them.
  int64_t scoredTokens() const {
    return int64_t(tokens.size()) - (prefix.empty() ? 1 : 0);
  }

  const EvalOptions &options;
  Weights weights;
  Session session;
  int32_t sequence = 0;
  std::vector<int32_t> prefix; ///< What every window begins with: bos, or none.
  std::vector<int32_t> tokens; ///< Of the text.
  int64_t windowTokens = 0;
  int64_t stepTokens = 0;
  std::vector<int32_t> sequenceIds, rows;
  std::vector<float> logits; ///< [stepTokens, vocab]
  FILE *rowsFile = nullptr;
  RunningMean nll;
  GateCounter gates;
  bool hasGates = false;
};

} // namespace

ExitCode Eval::encode(const std::string &text) {
  std::string error;
  auto tokenizer = loadTokenizer(weights, error);
  if (!tokenizer)
    return reportError(BadInput, "%s; give token ids with --tokens",
                       error.c_str());
  // Text of a special token in a file is text.
  auto ids = tokenizer->encode(text, /*addSpecial=*/false,
                               /*parseSpecial=*/false, error);
  if (!ids)
    return reportError(BadInput, "%s: %s", options.textPath.c_str(),
                       error.c_str());
  tokens = std::move(*ids);
  prefix = findTextPrefix(*tokenizer);
  return Done;
}

ExitCode Eval::readText() {
  std::string contents;
  auto read = [&](const char *path) {
    return readFile(path, contents)
               ? Done
               : reportError(BadInput, "%s: cannot read: %s", path,
                             strerror(errno));
  };
  if (!options.textPath.empty()) {
    if (ExitCode code = read(options.textPath.c_str()))
      return code;
    if (ExitCode code = encode(contents))
      return code;
  } else {
    contents = options.tokens;
    if (contents[0] == '@')
      if (ExitCode code = read(options.tokens.c_str() + 1))
        return code;
    std::vector<int64_t> ids;
    if (!parseIntegerList(contents, INT32_MAX, ids))
      return reportUsage("--tokens is '%.60s', expected ids like 1,2,3",
                         options.tokens.c_str());
    tokens.assign(ids.begin(), ids.end());
  }
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= hadal_model.vocab)
      return reportError(BadInput, "token %zu is %d, expected 0 .. %lld", i,
                         tokens[i],
                         static_cast<long long>(hadal_model.vocab - 1));
  if (scoredTokens() < 1)
    return reportError(BadInput, "the text has %zu tokens: none to score",
                       tokens.size());
  return Done;
}

ExitCode Eval::makeSession() {
  windowTokens = options.windowTokens;
  if (!windowTokens)
    windowTokens = std::min<int64_t>(hadal_model.context, defaultWindowTokens);
  if (windowTokens > hadal_model.context)
    return reportError(BadInput,
                       "--context is %lld, but the model has a context of %lld",
                       static_cast<long long>(windowTokens),
                       static_cast<long long>(hadal_model.context));
  // Bos, and two tokens, of which one can be scored in every window.
  if (windowTokens < int64_t(prefix.size()) + 2)
    return reportError(BadInput, "--context is %lld, expected %zu or more",
                       static_cast<long long>(windowTokens), prefix.size() + 2);
  stepTokens = chooseStepTokens(windowTokens);
  hasGates = gates.open();
  hadal_rt_session_options_t sizes = {};
  sizes.threads = options.threads;
  sizes.max_step_tokens = stepTokens;
  sizes.kv_tokens = windowTokens;
  if (ExitCode code = startSession(hasGates ? *gates.model() : hadal_model,
                                   weights, sizes, session, sequence))
    return code;
  sequenceIds.assign(size_t(stepTokens), sequence);
  rows.resize(size_t(stepTokens));
  logits.resize(size_t(stepTokens * hadal_model.vocab));
  return Done;
}

static ExitCode reportRows() {
  return reportError(BadInput, "cannot write rows: %s", strerror(errno));
}

ExitCode Eval::openRows() {
  if (options.rowsTo < 0)
    return Done;
  rowsFile = fdopen(int(options.rowsTo), "w");
  if (!rowsFile)
    return reportRows();
  RowsHeader header = {{}, hadal_model.vocab, scoredTokens(), windowTokens};
  memcpy(header.magic, rowsMagic, sizeof(rowsMagic));
  return fwrite(&header, sizeof(header), 1, rowsFile) == 1 ? Done
                                                           : reportRows();
}

/// Scores token \p token of the text by \p row, the logits before it.
ExitCode Eval::scoreRow(int64_t token, const float *row) {
  int32_t id = tokens[size_t(token)];
  if (rowsFile) {
    auto count = size_t(hadal_model.vocab);
    return fwrite(&id, sizeof(id), 1, rowsFile) == 1 &&
                   fwrite(row, sizeof(float), count, rowsFile) == count
               ? Done
               : reportRows();
  }
  double value = logSumExp(row, hadal_model.vocab) - double(row[id]);
  if (!std::isfinite(value))
    return reportError(BadInput, "the logits for token %lld are not finite",
                       static_cast<long long>(token));
  nll.add(value);
  return Done;
}

/// Runs tokens [\p first, \p end) of the text from an empty cache, and scores
/// those from \p firstScored on.
ExitCode Eval::scoreWindow(int64_t first, int64_t end, int64_t firstScored) {
  std::vector<int32_t> inputs = prefix;
  // The last token is guessed, but nothing is guessed from it.
  inputs.insert(inputs.end(), tokens.begin() + first, tokens.begin() + end - 1);
  auto count = int64_t(inputs.size());
  // The token that is guessed from input i is this one plus i.
  int64_t offset = first + 1 - int64_t(prefix.size());
  hadal_rt_status_t status =
      hadal_rt_sequence_truncate(session.get(), sequence, 0);
  for (int64_t done = 0; !status && done < count; done += stepTokens) {
    int64_t now = std::min(stepTokens, count - done), outputs = 0;
    for (int64_t i = 0; i < now; ++i)
      if (offset + done + i >= firstScored)
        rows[size_t(outputs++)] = int32_t(i);
    if (hasGates)
      gates.nextStep({now, done, outputs});
    status = hadal_rt_session_step(session.get(), inputs.data() + done,
                                   sequenceIds.data(), now, rows.data(),
                                   outputs, logits.data());
    for (int64_t i = 0; !status && i < outputs; ++i)
      if (ExitCode code = scoreRow(offset + done + rows[size_t(i)],
                                   logits.data() + i * hadal_model.vocab))
        return code;
  }
  return status ? reportStatus(status) : Done;
}

ExitCode Eval::print() const {
  std::string out;
  if (options.json) {
    out = "{\"model\":";
    appendJsonString(out, hadal_model.name);
    appendFormat(out, ",\"text_tokens\":%zu,\"window_tokens\":%lld,",
                 tokens.size(), static_cast<long long>(windowTokens));
    appendPerplexity(out, nll);
    if (hasGates)
      appendFormat(out,
                   ",\"skipped_layers\":{\"share\":%.6f,"
                   "\"operations_share\":%.6f}",
                   gates.skippedShare(), gates.savedShare());
    out += "}\n";
  } else {
    appendFormat(out, "%.200s, %zu tokens in windows of %lld\n",
                 hadal_model.name, tokens.size(),
                 static_cast<long long>(windowTokens));
    appendFormat(out, "perplexity %.4f +- %.4f (%.5f nats a token)\n",
                 std::exp(nll.mean()),
                 std::exp(nll.mean()) * nll.standardError(), nll.mean());
    if (hasGates)
      appendFormat(out,
                   "layers with a gate: %.2f%% skipped, which saves %.2f%% of "
                   "all operations\n",
                   100 * gates.skippedShare(), 100 * gates.savedShare());
  }
  return printOutput(out);
}

ExitCode Eval::run() {
  if (ExitCode code = openProduct(options.weightsPath, weights))
    return code;
  if (!options.choicesPath.empty())
    return runChoices(weights, options.choicesPath, options.threads,
                      options.json);
  if (ExitCode code = readText())
    return code;
  if (ExitCode code = makeSession())
    return code;
  if (ExitCode code = openRows())
    return code;
  // A window begins half of one after the last, and scores what that did not
  // reach: every token once, and after the first window each with half a
  // window before it.
  auto total = int64_t(tokens.size());
  int64_t body = windowTokens - int64_t(prefix.size());
  int64_t next = prefix.empty() ? 1 : 0;
  if (!options.statisticsPath.empty())
    startStatistics();
  bool isShown = !rowsFile && isatty(STDERR_FILENO);
  for (int64_t first = 0; next < total;
       first += std::max<int64_t>(body / 2, 1)) {
    int64_t end = std::min(first + body, total);
    if (ExitCode code = scoreWindow(first, end, next))
      return code;
    next = end;
    if (isShown)
      fprintf(stderr, "\r%lld of %lld tokens, perplexity %.4f ",
              static_cast<long long>(next), static_cast<long long>(total),
              std::exp(nll.mean()));
  }
  if (isShown)
    fputc('\n', stderr);
  if (!options.statisticsPath.empty())
    if (ExitCode code = writeStatistics(options.statisticsPath))
      return code;
  if (rowsFile)
    return fclose(rowsFile) ? reportRows() : Done;
  return print();
}

ExitCode run::runEval(int argc, char **argv) {
  EvalOptions options;
  static const option longOptions[] = {
      {"choices", required_argument, nullptr, 'o'},
      {"context", required_argument, nullptr, 'c'},
      {"json", no_argument, nullptr, 'j'},
      {"rows-to", required_argument, nullptr, 'r'},
      {"statistics", required_argument, nullptr, 's'},
      {"text", required_argument, nullptr, 'f'},
      {"threads", required_argument, nullptr, 't'},
      {"tokens", required_argument, nullptr, 'i'},
      {"weights", required_argument, nullptr, 'w'},
      {nullptr, 0, nullptr, 0}};
  opterr = 0;
  for (;;) {
    const char *current = argv[optind];
    int id = getopt_long(argc, argv, ":t:", longOptions, nullptr);
    if (id == -1)
      break;
    bool good = true;
    switch (id) {
    case 'c':
      good = parseInteger(optarg, 1, INT32_MAX, options.windowTokens);
      break;
    case 'f':
      options.textPath = optarg;
      good = *optarg;
      break;
    case 'i':
      options.tokens = optarg;
      good = *optarg;
      break;
    case 'j':
      options.json = true;
      break;
    case 'o':
      options.choicesPath = optarg;
      good = *optarg;
      break;
    case 'r':
      good = parseInteger(optarg, 0, INT32_MAX, options.rowsTo);
      break;
    case 's':
      options.statisticsPath = optarg;
      good = *optarg;
      break;
    case 't':
      good = parseInteger(optarg, 0, 1024, options.threads);
      break;
    case 'w':
      options.weightsPath = optarg;
      break;
    case ':':
      return reportUsage("option '%.60s' expects a value", current);
    default:
      return reportUsage("unknown or ambiguous option '%.60s'", current);
    }
    if (!good)
      return reportUsage("'%.60s' has a value that is out of range: '%.60s'",
                         current, optarg);
  }
  if (optind < argc)
    return reportUsage("unexpected argument '%.60s'", argv[optind]);
  if (!options.textPath.empty() + !options.tokens.empty() +
          !options.choicesPath.empty() !=
      1)
    return reportUsage("expected one of --text, --tokens and --choices");
  if (!options.choicesPath.empty() &&
      (options.windowTokens || options.rowsTo >= 0 ||
       !options.statisticsPath.empty()))
    return reportUsage("--choices takes no --context, --against or "
                       "--statistics");
  return Eval(options).run();
}
