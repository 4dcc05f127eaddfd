// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// hadal-eval OUT ...: measures how well an executable that hadalc made guesses
// a text or chooses answers, or how far its guesses are from those of another.
// The executables compute the logits; to compare two, both run at once and
// their rows are read side by side, so that no more than one of each is held.

#include "ParetoTable.h"

#include "../hadal-run/ElfFile.h"
#include "../hadal-run/LogProbabilities.h"
#include "../hadal-run/Report.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <getopt.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using namespace hadal::run;

static const char help[] =
    "usage: hadal-eval OUT... --text FILE [--against OUT2]\n"
    "       hadal-eval OUT --choices FILE\n"
    "\n"
    "Measures the perplexity of OUT, an executable made by hadalc --emit=exe, "
    "on\n"
    "the text in FILE. With --against, also how far its guesses are from those "
    "of\n"
    "OUT2, the base: the mean KL divergence, and how often both find the same\n"
    "token likeliest. Defaults in parentheses.\n"
    "  --text FILE     UTF-8; or --tokens 1,2,3 or @FILE with token ids\n"
    "  --against OUT2  another executable with the same tokens (none)\n"
    "  --choices FILE  how often OUT finds the right choice; a question a "
    "line:\n"
    "                  {\"context\": \"..\", \"choices\": [\"..\", \"..\"], "
    "\"answer\": 0}\n"
    "  --context N     tokens of a window (512, or the model's if fewer)\n"
    "  -t N            threads; 0: all cores (0)\n"
    "  --json          print one JSON object\n"
    "Of several OUT, with --against, a table: size, speed of decode, and "
    "these.\n"
    "  --svg           print a plot of divergence over size instead\n"
    "\n"
    "Windows overlap by half. Each token is guessed once: in the first window "
    "all\n"
    "are, in those after it the second half. Each window begins with the bos "
    "token\n"
    "of models that have one. Choices are scored as lm-evaluation-harness "
    "does:\n"
    "acc by the sum of log-probabilities, acc_norm and acc_bytes by that sum "
    "for\n"
    "each character or byte of the choice.\n";

namespace {

/// No model has more tokens than that.
constexpr int64_t maxVocab = 1 << 24;

/// An executable that runs, and what it writes to its stdout.
class Child {
public:
  Child(const char *path) : path(path) {}
  ~Child() { close(); }
  Child(const Child &) = delete;
  Child &operator=(const Child &) = delete;

  /// Ends the executable. \returns Its exit code, or that of an error.
  ExitCode finish();

  const char *path;

protected:
  /// Starts the executable with \p arguments after its name.
  ExitCode launch(const std::vector<std::string> &arguments);

  FILE *file = nullptr;

private:
  void close() {
    if (file)
      fclose(file);
    file = nullptr;
  }

  pid_t process = -1;
};

/// An executable that runs, and the rows that it writes.
class Rows : public Child {
public:
  using Child::Child;

  /// Starts the executable with \p arguments after its name and its mode.
  ExitCode start(const std::vector<std::string> &arguments);
  ExitCode readHeader();
  /// Reads the next row.
  ExitCode next();

  RowsHeader header = {};
  int32_t token = 0;
  std::vector<float> logits; ///< [vocab]
  double sum = 0;            ///< logSumExp() of the logits.
  double nll = 0;            ///< Of the token.

private:
  /// Reports that rows ended too early, unless the executable said why.
  ExitCode fail();
};

/// An executable that measures itself.
class Bench : public Child {
public:
  using Child::Child;
  /// Measures a decode on \p threads, and reads the speed into \p row.
  ExitCode run(const std::string &threads, ParetoRow &row);
};

} // namespace

ExitCode Child::launch(const std::vector<std::string> &arguments) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC))
    return reportError(BadInput, "cannot make a pipe: %s", strerror(errno));
  process = fork();
  if (process < 0) {
    int error = errno;
    ::close(ends[0]);
    ::close(ends[1]);
    return reportError(BadInput, "cannot start '%s': %s", path,
                       strerror(error));
  }
  if (process == 0) {
    std::vector<char *> argv = {const_cast<char *>(path)};
    for (const std::string &argument : arguments)
      argv.push_back(const_cast<char *>(argument.c_str()));
    argv.push_back(nullptr);
    // The copy has no O_CLOEXEC.
    bool good = dup2(ends[1], STDOUT_FILENO) >= 0;
    _exit(good ? executeProduct(argv.data()) : int(BadInput));
  }
  ::close(ends[1]);
  file = fdopen(ends[0], "r");
  return file
             ? Done
             : reportError(BadInput, "cannot read a pipe: %s", strerror(errno));
}

ExitCode Child::finish() {
  close();
  if (process < 0)
    return Done;
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR)
    ;
  process = -1;
  if (WIFEXITED(status))
    return ExitCode(WEXITSTATUS(status));
  // It wrote what no one wanted to read any more.
  if (WTERMSIG(status) == SIGPIPE)
    return Done;
  return reportError(InternalError, "'%s' was ended by signal %d", path,
                     WTERMSIG(status));
}

ExitCode Rows::start(const std::vector<std::string> &arguments) {
  std::vector<std::string> words = {"--eval", "--rows-to",
                                    std::to_string(STDOUT_FILENO)};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return launch(words);
}

ExitCode Rows::fail() {
  if (ExitCode code = finish())
    return code;
  return reportError(BadInput, "'%s' gave fewer rows than it should", path);
}

ExitCode Rows::readHeader() {
  if (fread(&header, sizeof(header), 1, file) != 1)
    return fail();
  if (memcmp(header.magic, rowsMagic, sizeof(rowsMagic)) || header.vocab < 1 ||
      header.vocab > maxVocab || header.rows < 1)
    return reportError(BadInput, "'%s' gave rows of another version", path);
  logits.resize(size_t(header.vocab));
  return Done;
}

ExitCode Rows::next() {
  if (fread(&token, sizeof(token), 1, file) != 1 ||
      fread(logits.data(), sizeof(float), logits.size(), file) != logits.size())
    return fail();
  if (token < 0 || token >= header.vocab)
    return reportError(BadInput, "'%s' gave token %d of %lld", path, token,
                       static_cast<long long>(header.vocab));
  sum = logSumExp(logits.data(), header.vocab);
  nll = sum - double(logits[size_t(token)]);
  if (std::isfinite(nll))
    return Done;
  return reportError(BadInput, "'%s' gave logits that are not finite", path);
}

ExitCode Bench::run(const std::string &threads, ParetoRow &row) {
  if (ExitCode code = launch({"--bench", "-p", "0", "-n", "32", "-r", "3", "-t",
                              threads, "--json"}))
    return code;
  std::string json;
  char buffer[4096];
  while (size_t count = fread(buffer, 1, sizeof(buffer), file))
    json.append(buffer, count);
  if (ExitCode code = finish())
    return code;
  return readBench(json, row)
             ? Done
             : reportError(BadInput, "'%s' did not say how fast it is", path);
}

namespace {

/// How far the guesses of one model are from those of another.
class Comparison {
public:
  Comparison(Rows &model, Rows &base) : model(model), base(base) {}

  ExitCode run();
  ExitCode print(bool json);
  /// Puts the means into \p row.
  void summarize(ParetoRow &row) const {
    row.perplexity = std::exp(nll.mean());
    row.divergence = meanDivergence.mean();
    row.agreement = agreement.mean();
  }

private:
  double quantile(double share) const {
    return divergences[size_t(
        std::lround(share * double(divergences.size() - 1)))];
  }

  Rows &model, &base;
  RunningMean nll, baseNll, difference, meanDivergence, agreement;
  std::vector<double> divergences; ///< Sorted in the end.
};

} // namespace

ExitCode Comparison::run() {
  auto expectEqual = [&](const char *what, int64_t a, int64_t b) {
    return a == b ? Done
                  : reportError(BadInput, "'%s' has %s %lld, but '%s' has %lld",
                                model.path, what, static_cast<long long>(a),
                                base.path, static_cast<long long>(b));
  };
  if (ExitCode code =
          expectEqual("a vocabulary of", model.header.vocab, base.header.vocab))
    return code;
  if (ExitCode code =
          expectEqual("scored tokens:", model.header.rows, base.header.rows))
    return code;
  if (ExitCode code = expectEqual("windows of", model.header.windowTokens,
                                  base.header.windowTokens))
    return code;
  int64_t vocab = base.header.vocab;
  bool isShown = isatty(STDERR_FILENO);
  for (int64_t i = 0; i < base.header.rows; ++i) {
    for (Rows *rows : {&model, &base})
      if (ExitCode code = rows->next())
        return code;
    if (model.token != base.token)
      return reportError(BadInput,
                         "'%s' and '%s' have different tokens of the text: %d "
                         "and %d after %lld others",
                         model.path, base.path, model.token, base.token,
                         static_cast<long long>(i));
    double value = divergence(base.logits.data(), base.sum, model.logits.data(),
                              model.sum, vocab);
    nll.add(model.nll);
    baseNll.add(base.nll);
    difference.add(model.nll - base.nll);
    meanDivergence.add(value);
    divergences.push_back(value);
    agreement.add(argMax(model.logits.data(), vocab) ==
                  argMax(base.logits.data(), vocab));
    if (isShown && i % 64 == 0)
      fprintf(stderr, "\r%lld of %lld tokens, KL divergence %.6f ",
              static_cast<long long>(i + 1),
              static_cast<long long>(base.header.rows), meanDivergence.mean());
  }
  if (isShown)
    fputc('\n', stderr);
  std::sort(divergences.begin(), divergences.end());
  return Done;
}

ExitCode Comparison::print(bool json) {
  std::string out;
  double ratio = std::exp(difference.mean());
  if (json) {
    appendFormat(out, "{\"window_tokens\":%lld,",
                 static_cast<long long>(model.header.windowTokens));
    appendPerplexity(out, nll);
    out += ",\"base\":{";
    appendPerplexity(out, baseNll);
    appendFormat(
        out,
        "},\"perplexity_ratio\":%.9g,\"perplexity_ratio_standard_error"
        "\":%.6g,\"kl_divergence\":{\"mean\":%.9g,\"standard_error\":"
        "%.6g,\"median\":%.9g,\"p90\":%.9g,\"p99\":%.9g,\"max\":%.9g},",
        ratio, ratio * difference.standardError(), meanDivergence.mean(),
        meanDivergence.standardError(), quantile(0.5), quantile(0.9),
        quantile(0.99), divergences.back());
    appendFormat(out,
                 "\"top_1_agreement\":%.9g,\"top_1_agreement_standard_error\":"
                 "%.6g}\n",
                 agreement.mean(), agreement.standardError());
  } else {
    appendFormat(out, "%lld tokens in windows of %lld\n",
                 static_cast<long long>(nll.count()),
                 static_cast<long long>(model.header.windowTokens));
    appendFormat(out,
                 "perplexity       %.4f +- %.4f, base %.4f +- %.4f\n"
                 "  ratio          %.5f +- %.5f\n",
                 std::exp(nll.mean()),
                 std::exp(nll.mean()) * nll.standardError(),
                 std::exp(baseNll.mean()),
                 std::exp(baseNll.mean()) * baseNll.standardError(), ratio,
                 ratio * difference.standardError());
    appendFormat(out,
                 "KL divergence    %.6f +- %.6f nats (median %.6f, 90%% %.6f, "
                 "99%% %.6f, most %.6f)\n",
                 meanDivergence.mean(), meanDivergence.standardError(),
                 quantile(0.5), quantile(0.9), quantile(0.99),
                 divergences.back());
    appendFormat(out, "top-1 agreement  %.2f%% +- %.2f%%\n",
                 100 * agreement.mean(), 100 * agreement.standardError());
  }
  return printOutput(out);
}

/// Runs \p comparison of \p modelRows with \p baseRows.
static ExitCode compare(Comparison &comparison, Rows &modelRows, Rows &baseRows,
                        const std::vector<std::string> &arguments) {
  ExitCode code = Done;
  // One after the other, so that what is wrong for both is said once.
  for (Rows *rows : {&modelRows, &baseRows}) {
    if (!code)
      code = rows->start(arguments);
    if (!code)
      code = rows->readHeader();
  }
  if (!code)
    code = comparison.run();
  for (Rows *rows : {&modelRows, &baseRows})
    if (ExitCode its = rows->finish(); its && !code)
      code = its;
  return code;
}

enum class Output { Text, Json, Svg };

/// Compares each of \p models with \p base, and prints them side by side.
static ExitCode tabulate(const std::vector<const char *> &models,
                         const char *base,
                         const std::vector<std::string> &arguments,
                         const std::string &threads, Output output) {
  std::vector<ParetoRow> rows(models.size());
  for (size_t i = 0; i < models.size(); ++i) {
    rows[i].path = models[i];
    Rows modelRows(models[i]), baseRows(base);
    Comparison comparison(modelRows, baseRows);
    if (ExitCode code = compare(comparison, modelRows, baseRows, arguments))
      return code;
    comparison.summarize(rows[i]);
  }
  // One after the other, and nothing else meanwhile.
  for (size_t i = 0; i < models.size(); ++i)
    if (ExitCode code = Bench(models[i]).run(threads, rows[i]))
      return code;
  markFront(rows);
  std::string out = output == Output::Text   ? makeParetoText(rows)
                    : output == Output::Json ? makeParetoJson(rows)
                                             : makeParetoSvg(rows);
  return printOutput(out);
}

/// Checks that there is a file at \p path, so that two executables need not say
/// the same.
static ExitCode checkReadable(const char *path) {
  return access(path, R_OK) ? reportError(BadInput, "%s: cannot read: %s", path,
                                          strerror(errno))
                            : Done;
}

int main(int argc, char **argv) {
  if (std::optional<ExitCode> code = checkProductArgument(argc, argv, help))
    return *code;
  const char *base = nullptr;
  std::vector<const char *> models = {argv[1]};
  std::string threads = "0";
  bool json = false, svg = false;
  // What the executables are called with.
  std::vector<std::string> arguments;
  static const option longOptions[] = {
      {"against", required_argument, nullptr, 'a'},
      {"choices", required_argument, nullptr, 'o'},
      {"context", required_argument, nullptr, 'c'},
      {"help", no_argument, nullptr, 'h'},
      {"json", no_argument, nullptr, 'j'},
      {"svg", no_argument, nullptr, 's'},
      {"text", required_argument, nullptr, 'f'},
      {"threads", required_argument, nullptr, 't'},
      {"tokens", required_argument, nullptr, 'i'},
      {nullptr, 0, nullptr, 0}};
  opterr = 0;
  --argc;
  ++argv;
  for (;;) {
    const char *current = argv[optind];
    int id = getopt_long(argc, argv, ":ht:", longOptions, nullptr);
    if (id == -1)
      break;
    switch (id) {
    case 'a':
      base = optarg;
      break;
    case 'c':
      arguments.insert(arguments.end(), {"--context", optarg});
      break;
    case 'f':
      if (ExitCode code = checkReadable(optarg))
        return code;
      arguments.insert(arguments.end(), {"--text", optarg});
      break;
    case 'h':
      return printOutput(help);
    case 'i':
      arguments.insert(arguments.end(), {"--tokens", optarg});
      break;
    case 'j':
      json = true;
      break;
    case 'o':
      if (ExitCode code = checkReadable(optarg))
        return code;
      arguments.insert(arguments.end(), {"--choices", optarg});
      break;
    case 's':
      svg = true;
      break;
    case 't':
      threads = optarg;
      arguments.insert(arguments.end(), {"--threads", optarg});
      break;
    case ':':
      return reportUsage("option '%.60s' expects a value", current);
    default:
      return reportUsage("unknown or ambiguous option '%.60s'", current);
    }
  }
  models.insert(models.end(), argv + optind, argv + argc);
  bool isTable = models.size() > 1;
  if (isTable && !base)
    return reportUsage("several executables are compared with a base: expected "
                       "--against");
  if (svg && (!isTable || json))
    return reportUsage("--svg is for several executables, without --json");
  if (isTable)
    return tabulate(models, base, arguments, threads,
                    svg    ? Output::Svg
                    : json ? Output::Json
                           : Output::Text);
  if (base) {
    Rows modelRows(models[0]), baseRows(base);
    Comparison comparison(modelRows, baseRows);
    ExitCode code = compare(comparison, modelRows, baseRows, arguments);
    return code ? code : comparison.print(json);
  }

  if (json)
    arguments.emplace_back("--json");
  std::string name = models[0], eval = "--eval";
  std::vector<char *> words = {name.data(), eval.data()};
  for (std::string &argument : arguments)
    words.push_back(argument.data());
  words.push_back(nullptr);
  return executeProduct(words.data());
}
