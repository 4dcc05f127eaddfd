// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Measures prefill and decode, and, in the same process and on the same
// threads, what the machine can read and multiply: a share of the possible
// means more than a speed.

#include "Bench.h"

#include "Options.h"
#include "Product.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <getopt.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

using namespace hadal;
using namespace hadal::run;

namespace {

struct BenchOptions {
  int64_t prefillTokens = 512;
  int64_t decodeTokens = 128;
  std::vector<int64_t> depths = {0};
  int64_t threads = 0;
  int64_t repeats = 3;
  std::string weightsPath;
  bool json = false;
};

/// What several repeats of a measurement gave.
struct Samples {
  std::vector<double> values;

  void add(double value) {
    values.insert(std::upper_bound(values.begin(), values.end(), value), value);
  }
  double min() const { return values.front(); }
  double max() const { return values.back(); }
  double median() const {
    size_t half = values.size() / 2;
    return values.size() % 2 ? values[half]
                             : (values[half - 1] + values[half]) / 2;
  }
};

struct Measurement {
  bool isDecode;
  int64_t tokens;
  int64_t depth;
  Samples tokensPerSecond;
  /// Weights and KV pages that the step of one token reads.
  double bytesPerToken;
};

} // namespace

//===----------------------------------------------------------------------===//
// The machine
//===----------------------------------------------------------------------===//

// The probes are models that compute nothing: their steps run on the threads
// of a session, as those of a real one do.

/// More than the caches of most machines.
static constexpr int64_t probeBytes = int64_t(512) << 20;
static constexpr int64_t probeItemBytes = 256 << 10;

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t sumAvx2(const char *data,
                                                        int64_t bytes) {
  __m256i sums[4] = {};
  for (int64_t i = 0; i < bytes; i += 128)
    for (int64_t j = 0; j < 4; ++j)
      sums[j] = _mm256_xor_si256(
          sums[j], _mm256_load_si256(
                       reinterpret_cast<const __m256i *>(data + i + 32 * j)));
  __m256i sum = _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]),
                                 _mm256_xor_si256(sums[2], sums[3]));
  return uint64_t(_mm256_extract_epi64(sum, 0)) ^
         uint64_t(_mm256_extract_epi64(sum, 1)) ^
         uint64_t(_mm256_extract_epi64(sum, 2)) ^
         uint64_t(_mm256_extract_epi64(sum, 3));
}
#endif

static uint64_t sumPlain(const char *data, int64_t bytes) {
  auto *words = reinterpret_cast<const uint64_t *>(data);
  uint64_t sums[4] = {};
  for (int64_t i = 0; i < bytes / 8; i += 4)
    for (int64_t j = 0; j < 4; ++j)
      sums[j] ^= words[i + j];
  return sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
}

static uint64_t sum(const char *data, int64_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2"))
    return sumAvx2(data, bytes);
#endif
  return sumPlain(data, bytes);
}

/// Reads items [first, last) of the arena; touches them first if token 0 asks.
static void readItems(const hadal_rt_step_t *step, const int64_t *params,
                      int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    auto *data = reinterpret_cast<char *>(params[0]) + i * probeItemBytes;
    if (step->outputs)
      memset(data, int(i), probeItemBytes);
    else
      // The store keeps the compiler from dropping the loads.
      *reinterpret_cast<volatile uint64_t *>(params[1] + i * 8) =
          sum(data, probeItemBytes);
  }
}

static void runReadStep(const hadal_rt_step_t *step) {
  int64_t params[] = {reinterpret_cast<int64_t>(step->arena),
                      reinterpret_cast<int64_t>(step->arena) + probeBytes};
  step->dispatch(step->pool, step, readItems, params,
                 probeBytes / probeItemBytes);
}

/// Multiply-adds in one item of the arithmetic probe, a power of two.
static constexpr int64_t probeFmas = int64_t(1) << 22;

#if defined(__x86_64__)
// Sixteen sums hide a latency of 4 cycles on two units.
__attribute__((target("avx2,fma"))) static float multiplyAvx2(float x) {
  __m256 sums[12], a = _mm256_set1_ps(x), b = _mm256_set1_ps(0.5f);
  for (__m256 &s : sums)
    s = a;
  for (int64_t i = 0; i < probeFmas / (12 * 8); ++i)
    for (__m256 &s : sums)
      s = _mm256_fmadd_ps(s, b, a);
  for (int i = 1; i < 12; ++i)
    sums[0] = _mm256_add_ps(sums[0], sums[i]);
  return _mm256_cvtss_f32(sums[0]);
}

__attribute__((target("avx512f"))) static float multiplyAvx512(float x) {
  __m512 sums[12], a = _mm512_set1_ps(x), b = _mm512_set1_ps(0.5f);
  for (__m512 &s : sums)
    s = a;
  for (int64_t i = 0; i < probeFmas / (12 * 16); ++i)
    for (__m512 &s : sums)
      s = _mm512_fmadd_ps(s, b, a);
  for (int i = 1; i < 12; ++i)
    sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return _mm512_cvtss_f32(sums[0]);
}
#endif

static float multiplyPlain(float x) {
  float sums[32];
  for (float &s : sums)
    s = x;
  for (int64_t i = 0; i < probeFmas / 32; ++i)
    for (float &s : sums)
      s = s * 0.5f + x;
  for (int i = 1; i < 32; ++i)
    sums[0] += sums[i];
  return sums[0];
}

static void multiplyItems(const hadal_rt_step_t *, const int64_t *params,
                          int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    auto *result = reinterpret_cast<volatile float *>(params[0] + i * 4);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
      *result = multiplyAvx512(*result);
      continue;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      *result = multiplyAvx2(*result);
      continue;
    }
#endif
    *result = multiplyPlain(*result);
  }
}

static constexpr int64_t probeFmaItems = 256;

static void runMultiplyStep(const hadal_rt_step_t *step) {
  int64_t params[] = {reinterpret_cast<int64_t>(step->arena)};
  step->dispatch(step->pool, step, multiplyItems, params, probeFmaItems);
}

/// Times \p run, a probe's step, \p repeats times; gives \p amount per second.
static ExitCode probe(const Weights &weights, int64_t threads,
                      void (*run)(const hadal_rt_step_t *), int64_t arenaBytes,
                      double amount, int64_t repeats, Samples &samples) {
  hadal_rt_model_t model = hadal_model;
  model.step = run;
  model.arena_bytes_per_token = 0;
  model.arena_bytes_fixed = arenaBytes;
  model.page_bytes = 0;
  hadal_rt_session_options_t sizes = {};
  sizes.threads = threads;
  sizes.max_step_tokens = 1;
  hadal_rt_session_t *created = nullptr;
  hadal_rt_status_t status =
      hadal_rt_session_create(&model, weights.get(), &sizes, &created);
  Session session(created);
  int32_t sequence = 0, token = 0, row = 0;
  std::vector<float> logits(size_t(model.vocab));
  if (!status)
    status = hadal_rt_sequence_create(created, &sequence);
  for (int64_t i = -1; !status && i < repeats; ++i) {
    // The first step touches the memory.
    int64_t outputs = i < 0;
    double start = nowSeconds();
    status = hadal_rt_session_step(created, &token, &sequence, 1, &row, outputs,
                                   logits.data());
    double seconds = nowSeconds() - start;
    if (!status && i >= 0)
      samples.add(amount / seconds);
    if (!status)
      status = hadal_rt_sequence_truncate(created, sequence, 0);
  }
  return status ? reportStatus(status) : Done;
}

//===----------------------------------------------------------------------===//
// The model
//===----------------------------------------------------------------------===//

/// Finds the number after \p key in the manifest; \p otherwise if there is
/// none. The compiler writes each such key once, at the top level.
static int64_t manifestNumber(const char *key, int64_t otherwise) {
  std::string quoted = std::string("\"") + key + "\":";
  const char *found = hadal_model.manifest
                          ? strstr(hadal_model.manifest, quoted.c_str())
                          : nullptr;
  if (!found)
    return otherwise;
  long long value = strtoll(found + quoted.size(), nullptr, 10);
  return value > 0 ? value : otherwise;
}

namespace {

class Bench {
public:
  explicit Bench(const BenchOptions &options) : options(options) {}
  ExitCode run();

private:
  ExitCode measureDepth(int64_t depth);
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

  Samples bytesPerSecond;
  Samples fmasPerSecond;
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
  if (!status)
    status = hadal_rt_sequence_truncate(session.get(), sequence, depth);
  return seconds;
}

ExitCode Bench::measureDepth(int64_t depth) {
  hadal_rt_status_t status =
      hadal_rt_sequence_truncate(session.get(), sequence, 0);
  if (!status)
    status = feed(depth, stepTokens);
  int64_t weightsBytes =
      manifestNumber("active_weights_bytes", hadal_model.weights_bytes);
  for (bool isDecode : {false, true}) {
    int64_t count = isDecode ? options.decodeTokens : options.prefillTokens;
    if (!count)
      continue;
    Measurement result = {isDecode, count, depth, {}, 0};
    for (int64_t i = -1; i < options.repeats && !status; ++i) {
      // The first run brings in the weights; it need not be long.
      int64_t now =
          i < 0 ? std::min<int64_t>(count, isDecode ? 2 : count) : count;
      double seconds =
          sampleSeconds(depth, now, isDecode ? 1 : stepTokens, status);
      if (i >= 0 && !status)
        result.tokensPerSecond.add(double(now) / seconds);
    }
    if (status)
      return reportStatus(status);
    double kvBytes = (double(depth) + double(count) / 2) *
                     double(hadal_model.page_bytes) /
                     double(hadal_model.page_tokens);
    result.bytesPerToken = double(weightsBytes) + kvBytes;
    measurements.push_back(result);
  }
  return status ? reportStatus(status) : Done;
}

static void appendSamples(std::string &out, const char *key,
                          const Samples &samples) {
  appendFormat(out, "\"%s\":{\"min\":%.6g,\"median\":%.6g,\"max\":%.6g}", key,
               samples.min(), samples.median(), samples.max());
}

ExitCode Bench::print() const {
  std::string out;
  double bandwidth = bytesPerSecond.median();
  int64_t operations = manifestNumber("operations_per_token", 0);
  auto threads = static_cast<int>(hadal_rt_session_threads(session.get()));
  auto shareOfBandwidth = [&](const Measurement &m) {
    return m.bytesPerToken * m.tokensPerSecond.median() / bandwidth;
  };
  auto shareOfPeak = [&](const Measurement &m) {
    return double(operations) * m.tokensPerSecond.median() /
           (2 * fmasPerSecond.median());
  };
  if (options.json) {
    out = "{\"model\":";
    appendJsonString(out, hadal_model.name);
    appendFormat(out, ",\"threads\":%d,\"weights_bytes\":%lld,", threads,
                 static_cast<long long>(hadal_model.weights_bytes));
    appendSamples(out, "read_bytes_per_s", bytesPerSecond);
    out += ',';
    appendSamples(out, "f32_fmas_per_s", fmasPerSecond);
    out += ",\"runs\":[";
    for (const Measurement &m : measurements) {
      appendFormat(out, "%s{\"kind\":\"%s\",\"tokens\":%lld,\"depth\":%lld,",
                   &m == measurements.data() ? "" : ",",
                   m.isDecode ? "decode" : "prefill",
                   static_cast<long long>(m.tokens),
                   static_cast<long long>(m.depth));
      appendSamples(out, "tokens_per_s", m.tokensPerSecond);
      if (m.isDecode)
        appendFormat(out,
                     ",\"bytes_per_token\":%.0f,\"share_of_bandwidth\":%.4f",
                     m.bytesPerToken, shareOfBandwidth(m));
      if (operations)
        appendFormat(out,
                     ",\"operations_per_token\":%lld,\"share_of_f32_peak\":"
                     "%.4f",
                     static_cast<long long>(operations), shareOfPeak(m));
      out += '}';
    }
    out += "]}\n";
  } else {
    appendFormat(out,
                 "%s, %d threads, %.1f MB of weights\n"
                 "machine: reads %.2f GB/s (%.2f .. %.2f), f32 peak %.1f "
                 "GFLOP/s (%.1f .. %.1f)\n\n"
                 "%-8s %7s %7s %12s %21s\n",
                 hadal_model.name, threads,
                 double(hadal_model.weights_bytes) * 1e-6, bandwidth * 1e-9,
                 bytesPerSecond.min() * 1e-9, bytesPerSecond.max() * 1e-9,
                 fmasPerSecond.median() * 2e-9, fmasPerSecond.min() * 2e-9,
                 fmasPerSecond.max() * 2e-9, "run", "tokens", "depth",
                 "tokens/s", "(min .. max)");
    for (const Measurement &m : measurements) {
      std::string range;
      appendFormat(range, "(%.2f .. %.2f)", m.tokensPerSecond.min(),
                   m.tokensPerSecond.max());
      appendFormat(out, "%-8s %7lld %7lld %12.2f %21s",
                   m.isDecode ? "decode" : "prefill",
                   static_cast<long long>(m.tokens),
                   static_cast<long long>(m.depth), m.tokensPerSecond.median(),
                   range.c_str());
      if (m.isDecode)
        appendFormat(out, "  %.1f MB/token, %.0f%% of bandwidth",
                     m.bytesPerToken * 1e-6, 100 * shareOfBandwidth(m));
      if (operations)
        appendFormat(out, "  %.0f%% of f32 peak", 100 * shareOfPeak(m));
      out += '\n';
    }
  }
  return printText(out) ? Done
                        : reportError(BadInput, "cannot write to stdout");
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

  constexpr int64_t readRepeats = 9;
  if (ExitCode code = probe(weights, options.threads, runReadStep,
                            probeBytes + probeBytes / probeItemBytes * 8,
                            double(probeBytes), readRepeats, bytesPerSecond))
    return code;
  if (ExitCode code =
          probe(weights, options.threads, runMultiplyStep, probeFmaItems * 4,
                double(probeFmas * probeFmaItems), readRepeats, fmasPerSecond))
    return code;

  stepTokens = std::clamp<int64_t>(mostTokens, 1, 512);
  hadal_rt_session_options_t sizes = {};
  sizes.threads = options.threads;
  sizes.max_step_tokens = stepTokens;
  sizes.kv_tokens = deepest + std::max<int64_t>(mostTokens, 1);
  hadal_rt_session_t *created = nullptr;
  hadal_rt_status_t status =
      hadal_rt_session_create(&hadal_model, weights.get(), &sizes, &created);
  session.reset(created);
  if (!status)
    status = hadal_rt_sequence_create(created, &sequence);
  if (status)
    return reportStatus(status);
  sequenceIds.assign(size_t(stepTokens), sequence);
  tokens.resize(size_t(stepTokens));
  logits.resize(size_t(hadal_model.vocab));
  for (int64_t depth : options.depths)
    if (ExitCode code = measureDepth(depth))
      return code;
  return print();
}

static const char benchHelp[] =
    "usage: hadal-bench OUT -p 512 -n 128 -d 0,4096 -t 8\n"
    "\n"
    "Measures the model that is compiled into OUT, and on the same threads "
    "what\n"
    "the machine can read and compute. Defaults in parentheses.\n"
    "  -p N    tokens of a prefill; 0: none (512)\n"
    "  -n N    tokens of a decode, one a step; 0: none (128)\n"
    "  -d LIST tokens that come before either (0)\n"
    "  -t N    threads; 0: all cores (0)\n"
    "  -r N    repeats; their median is printed (3)\n"
    "  --json  print one JSON object\n"
    "  --weights FILE\n";

ExitCode run::runBench(int argc, char **argv) {
  BenchOptions options;
  static const option longOptions[] = {
      {"help", no_argument, nullptr, 'h'},
      {"json", no_argument, nullptr, 'j'},
      {"weights", required_argument, nullptr, 'w'},
      {nullptr, 0, nullptr, 0}};
  opterr = 0;
  for (;;) {
    const char *current = argv[optind];
    int id = getopt_long(argc, argv, ":hp:n:d:t:r:", longOptions, nullptr);
    if (id == -1)
      break;
    bool good = true;
    switch (id) {
    case 'h':
      fputs(benchHelp, stdout);
      return Done;
    case 'j':
      options.json = true;
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
