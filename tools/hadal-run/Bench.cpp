// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Measures prefill and decode, and, in the same process and on the same
// threads, what the machine can read and multiply: a share of the possible
// means more than a speed.

#include "Bench.h"

#include "Help.h"
#include "Options.h"
#include "Probes.h"
#include "Product.h"
#include "Profile.h"
#include "WorkTable.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <getopt.h>
#include <memory>
#include <unistd.h>

using namespace hadal;
using namespace hadal::run;

namespace {

struct BenchOptions {
  int64_t prefillTokens = 512;
  int64_t decodeTokens = 128;
  int64_t stepTokens = 512; ///< Most tokens of a prefill's step.
  std::vector<int64_t> depths = {0};
  int64_t threads = 0;
  int64_t repeats = 3;
  std::string weightsPath;
  std::string tracePath; ///< Empty: none.
  bool profile = false;
  bool json = false;
};

/// What part of the machine's limit repeats reached: each of the limit right
/// before and after it, whose mean it is.
class Shares {
public:
  /// A repeat of \p seconds that would have taken \p before at the limit as it
  /// was before it, \p after at that after it, and \p least at their mean.
  void add(double seconds, double before, double after, double least) {
    all.add(least / seconds);
    if (std::min(before, after) >= 0.9 * std::max(before, after))
      steady.add(least / seconds);
  }
  /// Of the repeats in which the limit stayed within a tenth, or, if there is
  /// none, of all.
  const Samples &samples() const { return isSteady() ? steady : all; }
  bool isSteady() const { return !steady.values.empty(); }
  void appendJson(std::string &out, const char *key) const;
  void appendText(std::string &out) const;

private:
  Samples all, steady;
};

/// One of the repeats of a run.
struct Repeat {
  double tokensPerSecond;
  MachineSamples machine; ///< As it was right before and right after.
};

struct Measurement {
  bool isDecode;
  int64_t tokens;
  int64_t depth;
  Work work; ///< Of all tokens.
  Samples tokensPerSecond = {};
  std::vector<Repeat> repeats = {};
  /// Of what memory gives in the time, the bytes of weights and cache.
  Shares ofBandwidth = {};
  /// Of the time, what the operations take at the peaks that fit them.
  Shares ofPeak = {};
  std::vector<ProfileEntry> profile = {};
  Speeds profileLimits = {}; ///< As the machine was beside the profiled run.

  double secondsPerToken() const { return 1 / tokensPerSecond.median(); }
};

/// One line on a terminal that says what is being measured.
class ProgressLine {
public:
  ~ProgressLine() { show(""); }
  void show(const std::string &text) const {
    if (isatty(STDERR_FILENO))
      fprintf(stderr, "\r\033[K%s", text.c_str());
  }
};

} // namespace

namespace {

class Bench {
public:
  explicit Bench(const BenchOptions &options) : options(options) {}
  ExitCode run();

private:
  ExitCode measureDepth(int64_t depth);
  ExitCode measureRun(Measurement &result);
  ExitCode sampleMachine(MachineSamples &after, MachineSamples &before);
  Work countWork(const Measurement &run) const;
  void appendJson(std::string &out) const;
  void appendText(std::string &out) const;
  /// Of a GPU, it is not measured what it can do.
  static bool isMachineKnown() { return !hadal_model.device; }
  hadal_rt_status_t feed(int64_t tokens, int64_t stepTokens);
  double sampleSeconds(int64_t depth, int64_t tokens, int64_t stepTokens,
                       hadal_rt_status_t &status);
  ExitCode print() const;

  const BenchOptions &options;
  Weights weights;
  Session session;
  int32_t sequence = 0;
  std::vector<int32_t> sequenceIds;
  std::vector<int32_t> tokens;
  std::vector<float> logits;
  uint64_t randomState = 1;
  int64_t stepTokens = 0;

  Machine machine;
  WorkTable table;
  std::unique_ptr<Profile> profile; ///< Null if none is wanted.
  ProgressLine progress;
  std::vector<Measurement> measurements;
};

} // namespace

/// Runs \p count tokens, \p chunk in a step, each step with one row of logits.
hadal_rt_status_t Bench::feed(int64_t count, int64_t chunk) {
  for (int64_t done = 0; done < count;) {
    int64_t now = std::min(chunk, count - done);
    // Tokens differ, so that a mixture of experts uses all of them.
    for (int64_t i = 0; i < now; ++i) {
      randomState = randomState * 6364136223846793005u + 1442695040888963407u;
      tokens[size_t(i)] =
          int32_t((randomState >> 33) % uint64_t(hadal_model.vocab));
    }
    auto row = int32_t(now - 1);
    if (profile) {
      int64_t before = 0;
      hadal_rt_sequence_length(session.get(), sequence, &before);
      profile->nextStep({now, before, 1});
    }
    if (hadal_rt_status_t status = hadal_rt_session_step(
            session.get(), tokens.data(), sequenceIds.data(), now, &row, 1,
            logits.data()))
      return status;
    done += now;
  }
  return HADAL_RT_OK;
}

/// Times \p count tokens after the first \p depth, which stay.
double Bench::sampleSeconds(int64_t depth, int64_t count, int64_t chunk,
                            hadal_rt_status_t &status) {
  double start = nowSeconds();
  status = feed(count, chunk);
  double seconds = nowSeconds() - start;
  if (status)
    return seconds;
  // With a window, what the next token would see may be gone.
  if (hadal_rt_sequence_truncate(session.get(), sequence, depth)) {
    status = hadal_rt_sequence_truncate(session.get(), sequence, 0);
    if (!status)
      status = feed(depth, stepTokens);
  }
  return seconds;
}

/// Adds up what the steps of \p run do.
Work Bench::countWork(const Measurement &run) const {
  Work sum;
  int64_t chunk = run.isDecode ? 1 : stepTokens;
  for (int64_t done = 0; done < run.tokens; done += chunk)
    sum +=
        table.workIn({std::min(chunk, run.tokens - done), run.depth + done, 1});
  return sum;
}

/// What the machine can do right now; of a GPU, nothing.
ExitCode Bench::sampleMachine(MachineSamples &after, MachineSamples &before) {
  return isMachineKnown() ? machine.sample(after, before) : Done;
}

/// What runs untimed before each repeat: tokens, until so much time is over.
static constexpr int64_t wakingTokens = 16;
static constexpr double wakingSeconds = 10e-3;

/// Repeats \p result, whose tokens and depth are set, and once more under the
/// profile. The machine is measured between the repeats: it changes.
ExitCode Bench::measureRun(Measurement &result) {
  hadal_rt_status_t status = HADAL_RT_OK;
  int64_t chunk = result.isDecode ? 1 : stepTokens;
  std::string label;
  appendFormat(label, "%s of %lld after %lld",
               result.isDecode ? "decode" : "prefill",
               static_cast<long long>(result.tokens),
               static_cast<long long>(result.depth));
  MachineSamples before, after, next;
  for (int64_t i = -1; i < options.repeats; ++i) {
    std::string text = label;
    if (i >= 0)
      appendFormat(text, ": %lld of %lld", static_cast<long long>(i + 1),
                   static_cast<long long>(options.repeats));
    progress.show(text);
    // The first run brings in the weights; it need not be long.
    int64_t now = i < 0 && result.isDecode ? std::min<int64_t>(result.tokens, 2)
                                           : result.tokens;
    // Threads are asleep after the probes, and nothing is in a cache. It takes
    // milliseconds until a thread is awake that the system has put on the
    // processor of another.
    for (double end = nowSeconds() + wakingSeconds;
         !status && nowSeconds() < end;)
      sampleSeconds(result.depth, std::min(now, wakingTokens), chunk, status);
    double seconds =
        status ? 0 : sampleSeconds(result.depth, now, chunk, status);
    if (status)
      return reportStatus(status);
    before = next;
    if (ExitCode code = sampleMachine(after, next))
      return code;
    if (i < 0)
      continue;
    result.tokensPerSecond.add(double(now) / seconds);
    if (!isMachineKnown())
      continue;
    Speeds then = before.typical(), later = after.typical(),
           mean = Speeds::meanOf(then, later);
    double bytes = result.work.weightBytes;
    result.ofBandwidth.add(seconds, bytes / then.bytes, bytes / later.bytes,
                           bytes / mean.bytes);
    result.ofPeak.add(seconds, then.operationSeconds(result.work),
                      later.operationSeconds(result.work),
                      mean.operationSeconds(result.work));
    before.add(after);
    result.repeats.push_back({double(now) / seconds, std::move(before)});
  }
  if (profile) {
    progress.show(label + ": profile");
    profile->start(label, hadal_rt_session_threads(session.get()));
    sampleSeconds(result.depth, result.tokens, chunk, status);
    result.profile = profile->stop();
    if (status)
      return reportStatus(status);
    before = next;
    if (ExitCode code = sampleMachine(after, next))
      return code;
    if (isMachineKnown())
      result.profileLimits = Speeds::meanOf(before.typical(), after.typical());
  }
  return Done;
}

ExitCode Bench::measureDepth(int64_t depth) {
  hadal_rt_status_t status =
      hadal_rt_sequence_truncate(session.get(), sequence, 0);
  if (!status)
    status = feed(depth, stepTokens);
  if (status)
    return reportStatus(status);
  for (bool isDecode : {false, true}) {
    int64_t count = isDecode ? options.decodeTokens : options.prefillTokens;
    if (!count)
      continue;
    Measurement result = {isDecode, count, depth, {}};
    result.work = countWork(result);
    if (ExitCode code = measureRun(result))
      return code;
    measurements.push_back(std::move(result));
  }
  return Done;
}

/// Says how many repeats it is of; 0 if the machine changed in every one.
void Shares::appendJson(std::string &out, const char *key) const {
  appendFormat(out,
               ",\"%s\":{\"min\":%.4g,\"median\":%.4g,\"max\":%.4g,"
               "\"steady_repeats\":%zu}",
               key, samples().min(), samples().median(), samples().max(),
               steady.values.size());
}

void Shares::appendText(std::string &out) const {
  std::string text;
  appendFormat(text, "%s%.0f%% (%.0f..%.0f)", isSteady() ? "" : "~",
               100 * samples().median(), 100 * samples().min(),
               100 * samples().max());
  appendFormat(out, " %16s", text.c_str());
}

void Bench::appendJson(std::string &out) const {
  out += "{\"model\":";
  appendJsonString(out, hadal_model.name);
  appendFormat(out, ",\"threads\":%lld,\"weights_bytes\":%lld,",
               static_cast<long long>(hadal_rt_session_threads(session.get())),
               static_cast<long long>(hadal_model.weights_bytes));
  if (isMachineKnown())
    machine.samples().appendJson(out);
  out += "\"runs\":[";
  for (const Measurement &m : measurements) {
    appendFormat(
        out, "%s{\"kind\":\"%s\",\"tokens\":%lld,\"depth\":%lld,",
        &m == measurements.data() ? "" : ",", m.isDecode ? "decode" : "prefill",
        static_cast<long long>(m.tokens), static_cast<long long>(m.depth));
    appendSamples(out, "tokens_per_s", m.tokensPerSecond);
    auto tokens = double(m.tokens);
    appendFormat(out,
                 ",\"bytes_per_token\":%.1f,\"int8_operations_per_token\":%.0f,"
                 "\"f32_operations_per_token\":%.0f",
                 m.work.weightBytes / tokens, m.work.int8Ops / tokens,
                 m.work.f32Ops / tokens);
    if (isMachineKnown()) {
      out += ",\"repeats\":[";
      for (const Repeat &repeat : m.repeats) {
        appendFormat(out, "%s{\"tokens_per_s\":%.6g,\"machine\":{",
                     &repeat == m.repeats.data() ? "" : ",",
                     repeat.tokensPerSecond);
        repeat.machine.appendJson(out);
        out.back() = '}';
        out += '}';
      }
      out += ']';
      m.ofBandwidth.appendJson(out, "share_of_bandwidth");
      m.ofPeak.appendJson(out, "share_of_peak");
    }
    if (profile) {
      out += ",\"profile\":";
      appendProfileJson(out, m.profile, m.profileLimits);
    }
    out += '}';
  }
  out += "]}\n";
}

void Bench::appendText(std::string &out) const {
  appendFormat(out, "%s, %lld threads, %.1f MB of weights\n", hadal_model.name,
               static_cast<long long>(hadal_rt_session_threads(session.get())),
               double(hadal_model.weights_bytes) * 1e-6);
  if (isMachineKnown())
    machine.samples().appendText(out);
  appendFormat(out, "\n%-8s %7s %7s %9s %19s %9s %9s %16s %16s\n", "run",
               "tokens", "depth", "tokens/s", "(min .. max)", "MB/token",
               "MOP/token", isMachineKnown() ? "bandwidth" : "GB/s",
               isMachineKnown() ? "peak" : "");
  bool isSteady = true;
  for (const Measurement &m : measurements) {
    std::string range;
    appendFormat(range, "(%.2f .. %.2f)", m.tokensPerSecond.min(),
                 m.tokensPerSecond.max());
    auto tokens = double(m.tokens);
    appendFormat(out, "%-8s %7lld %7lld %9.2f %19s %9.1f %9.0f",
                 m.isDecode ? "decode" : "prefill",
                 static_cast<long long>(m.tokens),
                 static_cast<long long>(m.depth), m.tokensPerSecond.median(),
                 range.c_str(), m.work.weightBytes / tokens * 1e-6,
                 (m.work.int8Ops + m.work.f32Ops) / tokens * 1e-6);
    if (isMachineKnown()) {
      m.ofBandwidth.appendText(out);
      m.ofPeak.appendText(out);
      isSteady &= m.ofBandwidth.isSteady() && m.ofPeak.isSteady();
    } else {
      appendFormat(out, " %16.1f",
                   m.work.weightBytes / tokens / m.secondsPerToken() * 1e-9);
    }
    out += '\n';
  }
  if (!isSteady)
    out += "~: the machine changed by more than a tenth in every repeat\n";
  for (const Measurement &m : measurements) {
    if (!profile)
      break;
    appendFormat(
        out, "\n%s of %lld after %lld\n", m.isDecode ? "decode" : "prefill",
        static_cast<long long>(m.tokens), static_cast<long long>(m.depth));
    appendProfile(out, m.profile, m.profileLimits);
  }
}

ExitCode Bench::print() const {
  std::string out;
  if (options.json)
    appendJson(out);
  else
    appendText(out);
  progress.show("");
  return printOutput(out);
}

ExitCode Bench::run() {
  if (ExitCode code = openProduct(options.weightsPath, weights))
    return code;
  int64_t mostTokens = std::max(options.prefillTokens, options.decodeTokens);
  int64_t deepest =
      *std::max_element(options.depths.begin(), options.depths.end());
  if (mostTokens > hadal_model.context ||
      deepest > hadal_model.context - mostTokens)
    return reportError(BadInput,
                       "%lld tokens at depth %lld do not fit into the context "
                       "of %lld",
                       static_cast<long long>(mostTokens),
                       static_cast<long long>(deepest),
                       static_cast<long long>(hadal_model.context));

  std::string error;
  const char *manifest = chosenModel().manifest;
  if (!manifest || !table.read(manifest, error))
    return reportError(BadInput, "%s",
                       manifest ? error.c_str()
                                : "this program has no manifest");
  if (options.profile || !options.tracePath.empty()) {
    profile = std::make_unique<Profile>();
    if (ExitCode code = profile->open(!options.tracePath.empty()))
      return code;
  }
  progress.show("the machine");
  if (isMachineKnown())
    if (ExitCode code = machine.open(weights, options.threads))
      return code;

  stepTokens = std::clamp<int64_t>(mostTokens, 1, options.stepTokens);
  hadal_rt_session_options_t sizes = {};
  sizes.threads = options.threads;
  sizes.max_step_tokens = stepTokens;
  sizes.kv_tokens = deepest + std::max<int64_t>(mostTokens, 1);
  if (ExitCode code = startSession(profile ? *profile->model() : hadal_model,
                                   weights, sizes, session, sequence))
    return code;
  sequenceIds.assign(size_t(stepTokens), sequence);
  tokens.resize(size_t(stepTokens));
  logits.resize(size_t(hadal_model.vocab));
  for (int64_t depth : options.depths)
    if (ExitCode code = measureDepth(depth))
      return code;
  if (!options.tracePath.empty())
    if (ExitCode code = profile->writeTrace(options.tracePath))
      return code;
  return print();
}

static std::string makeBenchHelp() {
  return std::string("usage: ") + programName() +
         " --bench -p 512 -n 128 -d 0,4096 -t 8\n\n"
         "Measures the model that is compiled into this program, and on the "
         "same\n"
         "threads what the machine can read and compute. Defaults in "
         "parentheses.\n" +
         benchHelp;
}

ExitCode run::runBench(int argc, char **argv) {
  BenchOptions options;
  static const option longOptions[] = {
      {"help", no_argument, nullptr, 'h'},
      {"json", no_argument, nullptr, 'j'},
      {"profile", no_argument, nullptr, 'P'},
      {"trace", required_argument, nullptr, 'T'},
      {"weights", required_argument, nullptr, 'w'},
      {nullptr, 0, nullptr, 0}};
  opterr = 0;
  for (;;) {
    const char *current = argv[optind];
    int id = getopt_long(argc, argv, ":hp:n:b:d:t:r:", longOptions, nullptr);
    if (id == -1)
      break;
    bool good = true;
    switch (id) {
    case 'h':
      return printOutput(makeBenchHelp());
    case 'j':
      options.json = true;
      break;
    case 'P':
      options.profile = true;
      break;
    case 'T':
      options.tracePath = optarg;
      break;
    case 'w':
      options.weightsPath = optarg;
      break;
    case 'p':
      good = parseInteger(optarg, 0, INT32_MAX, options.prefillTokens);
      break;
    case 'n':
      good = parseInteger(optarg, 0, INT32_MAX, options.decodeTokens);
      break;
    case 'b':
      good = parseInteger(optarg, 1, INT32_MAX, options.stepTokens);
      break;
    case 'd':
      good = parseIntegerList(optarg, INT32_MAX, options.depths);
      break;
    case 't':
      good = parseInteger(optarg, 0, 1024, options.threads);
      break;
    case 'r':
      good = parseInteger(optarg, 1, 1000, options.repeats);
      break;
    case ':':
      return reportUsage("option '%.60s' expects a value", current);
    default:
      return reportUsage("unknown or ambiguous option '%.60s'", current);
    }
    if (!good)
      return reportUsage("-%c is '%.60s', which is no number or out of range",
                         id, optarg);
  }
  if (optind < argc)
    return reportUsage("unexpected argument '%.60s'", argv[optind]);
  if (!options.prefillTokens && !options.decodeTokens)
    return reportUsage("-p and -n are both 0: nothing to measure");
  return Bench(options).run();
}
