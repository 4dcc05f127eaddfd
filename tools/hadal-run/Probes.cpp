// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Measures the machine. The probes are models that compute nothing: their steps
// run on the threads of a session, as those of a real one do.

#include "Probes.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <pthread.h>
#include <string>
#include <tuple>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

using namespace hadal;
using namespace hadal::run;

static constexpr int64_t probeItemBytes = 256 << 10;

/// What the read probe reads, whole items: see findProbeBytes().
static int64_t probeBytes;

/// Bytes that \p threads threads cannot have in their caches: eight times what
/// these hold, if a cache of the last level has at least eight threads, but of
/// the memory of the machine no more than a quarter.
static int64_t findProbeBytes(int64_t threads) {
  constexpr int64_t least = int64_t(512) << 20;
  int64_t wanted = 0, most = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE) && defined(_SC_PHYS_PAGES)
  int64_t cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 0);
  wanted = 8 * cache * ((threads + 7) / 8);
  most = int64_t(sysconf(_SC_PHYS_PAGES)) / 4 * sysconf(_SC_PAGESIZE);
#endif
  int64_t bytes = std::max(std::min(wanted, most), least);
  return bytes / probeItemBytes * probeItemBytes;
}

/// What it reads over and over, whole items, if that is less.
static int64_t probedBytes;

/// A step goes over one in as many items: fewer of those that are in a cache.
static int64_t probedPart = 1;

/// Items of a dispatch: of a step, or fewer.
static int64_t probedRound = INT64_MAX;

/// What it does with an item, as often as that has the loop's weights; null: it
/// reads.
static ProductLoop::Run probedLoop;
static int64_t probedLoopBytes;

/// How far ahead the read probe asks for memory, as kernels do; 0: not at all.
static int64_t probedAheadBytes;

/// Asks for the lines of [data, data + bytes) that are to be read later.
static inline void askAhead(const char *data, int64_t bytes) {
  if (probedAheadBytes)
    for (int64_t i = 0; i < bytes; i += 64)
      __builtin_prefetch(data + probedAheadBytes + i, /*rw=*/0,
                         /*locality=*/2);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t sumAvx2(const char *data,
                                                        int64_t bytes) {
  __m256i sums[4] = {};
  for (int64_t i = 0; i < bytes; i += 128) {
    askAhead(data + i, 128);
    for (int64_t j = 0; j < 4; ++j)
      sums[j] = _mm256_xor_si256(
          sums[j], _mm256_load_si256(
                       reinterpret_cast<const __m256i *>(data + i + 32 * j)));
  }
  __m256i sum = _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]),
                                 _mm256_xor_si256(sums[2], sums[3]));
  return uint64_t(_mm256_extract_epi64(sum, 0)) ^
         uint64_t(_mm256_extract_epi64(sum, 1)) ^
         uint64_t(_mm256_extract_epi64(sum, 2)) ^
         uint64_t(_mm256_extract_epi64(sum, 3));
}
#endif

static uint64_t sumPlain(const char *data, int64_t bytes) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i < bytes; i += 64) {
    askAhead(data + i, 64);
    auto *words = reinterpret_cast<const uint64_t *>(data + i);
    for (int64_t j = 0; j < 8; ++j)
      sums[j] ^= words[j];
  }
  for (int64_t j = 1; j < 8; ++j)
    sums[0] ^= sums[j];
  return sums[0];
}

static uint64_t sum(const char *data, int64_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2"))
    return sumAvx2(data, bytes);
#endif
  return sumPlain(data, bytes);
}

/// Sums up the products of as many weights as an item has.
static uint64_t multiplyItem(const char *data) {
  float sum = 0;
  for (int64_t at = 0; at + probedLoopBytes <= probeItemBytes;
       at += probedLoopBytes)
    sum += probedLoop(data + at);
  return uint64_t(sum > 0);
}

/// Reads items [first, last) of the arena; touches them first if token 0 asks.
static void readItems(const hadal_rt_step_t *step, const int64_t *params,
                      int64_t first, int64_t last) {
  int64_t items = probedBytes / probeItemBytes;
  for (int64_t i = first; i < last; ++i) {
    auto *data = reinterpret_cast<char *>(params[0]) +
                 (step->outputs ? i : i % items) * probeItemBytes;
    if (step->outputs)
      memset(data, int(i), probeItemBytes);
    else
      // The store keeps the compiler from dropping the loads.
      *reinterpret_cast<volatile uint64_t *>(params[1] + i * 8) =
          probedLoop ? multiplyItem(data) : sum(data, probeItemBytes);
  }
}

static void runReadStep(const hadal_rt_step_t *step) {
  int64_t params[] = {reinterpret_cast<int64_t>(step->arena),
                      reinterpret_cast<int64_t>(step->arena) + probeBytes};
  int64_t items = probeBytes / probeItemBytes / probedPart;
  // As a model reads its weights, a thread reads its share in each round.
  int64_t round = step->outputs ? items : std::min(items, probedRound);
  for (; items > 0; items -= round)
    step->dispatch(step->pool, step, readItems, params, std::min(items, round));
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

//===----------------------------------------------------------------------===//
// Dot products
//===----------------------------------------------------------------------===//

/// Multiply-adds in one item of a probe of dot products.
static constexpr int64_t probeDots = int64_t(12) << 20;

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512vnni"))) static int32_t
dotBytesVNNI(int32_t x) {
  __m512i sums[12], a = _mm512_set1_epi32(x | 1), b = _mm512_set1_epi8(3);
  for (__m512i &s : sums)
    s = a;
  for (int64_t i = 0; i < probeDots / (12 * 64); ++i)
    for (__m512i &s : sums)
      s = _mm512_dpbusd_epi32(s, a, b);
  for (int i = 1; i < 12; ++i)
    sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  return _mm512_reduce_add_epi32(sums[0]);
}

__attribute__((target("avx2"))) static int32_t dotBytesAvx2(int32_t x) {
  __m256i sums[6], a = _mm256_set1_epi32(x | 1), b = _mm256_set1_epi8(3);
  __m256i ones = _mm256_set1_epi16(1);
  for (__m256i &s : sums)
    s = a;
  // The product depends on a sum, or it would be made once.
  for (int64_t i = 0; i < probeDots / (6 * 32); ++i)
    for (__m256i &s : sums)
      s = _mm256_add_epi32(s,
                           _mm256_madd_epi16(_mm256_maddubs_epi16(s, b), ones));
  for (int i = 1; i < 6; ++i)
    sums[0] = _mm256_add_epi32(sums[0], sums[i]);
  return _mm256_extract_epi32(sums[0], 0) ^ _mm256_extract_epi32(sums[0], 5);
}

__attribute__((target("avx512f,avx512bf16"))) static int32_t
dotBf16(int32_t x) {
  __m512 sums[12];
  __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80 ^ (x & 1));
  __m512bh b = (__m512bh)_mm512_set1_epi16(0x3f00);
  for (__m512 &s : sums)
    s = _mm512_set1_ps(float(x));
  for (int64_t i = 0; i < probeDots / (12 * 32); ++i)
    for (__m512 &s : sums)
      s = _mm512_dpbf16_ps(s, a, b);
  for (int i = 1; i < 12; ++i)
    sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return int32_t(_mm512_cvtss_f32(sums[0]) > 0);
}
#elif defined(__ARM_FEATURE_DOTPROD)
static int32_t dotBytesNeon(int32_t x) {
  int32x4_t sums[12];
  int8x16_t a = vreinterpretq_s8_s32(vdupq_n_s32(x | 1)), b = vdupq_n_s8(3);
  for (int32x4_t &s : sums)
    s = vdupq_n_s32(x);
  for (int64_t i = 0; i < probeDots / (12 * 16); ++i)
    for (int32x4_t &s : sums)
      s = vdotq_s32(s, a, b);
  for (int i = 1; i < 12; ++i)
    sums[0] = vaddq_s32(sums[0], sums[i]);
  return vaddvq_s32(sums[0]);
}
#endif

static int32_t dotBytesPlain(int32_t x) {
  uint32_t sums[32];
  for (uint32_t &s : sums)
    s = uint32_t(x);
  for (int64_t i = 0; i < probeDots / 32; ++i)
    for (uint32_t &s : sums)
      s = (s & 0xff) * 3 + uint32_t(x);
  for (int i = 1; i < 32; ++i)
    sums[0] += sums[i];
  return int32_t(sums[0]);
}

using DotFunction = int32_t (*)(int32_t);

/// The fastest dot product of bytes here, and what it is called.
static DotFunction findByteDot(const char *&name) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni")) {
    name = "vpdpbusd";
    return dotBytesVNNI;
  }
  if (__builtin_cpu_supports("avx2")) {
    name = "vpmaddubsw";
    return dotBytesAvx2;
  }
#elif defined(__ARM_FEATURE_DOTPROD)
  name = "sdot";
  return dotBytesNeon;
#endif
  name = "scalar";
  return dotBytesPlain;
}

/// Null if there is none.
static DotFunction findBf16Dot() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bf16"))
    return dotBf16;
#endif
  return nullptr;
}

/// What the probe that runs computes.
static DotFunction probedDot;

static void dotItems(const hadal_rt_step_t *, const int64_t *params,
                     int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    auto *result = reinterpret_cast<volatile int32_t *>(params[0] + i * 4);
    *result = probedDot(*result);
  }
}

static void runDotStep(const hadal_rt_step_t *step) {
  int64_t params[] = {reinterpret_cast<int64_t>(step->arena)};
  step->dispatch(step->pool, step, dotItems, params, probeFmaItems);
}

//===----------------------------------------------------------------------===//
// Dispatches
//===----------------------------------------------------------------------===//

/// Times are those of a few dispatches, longer than what a clock takes.
static constexpr int64_t probeTimes = 40, dispatchesTimed = 8;

/// Where the probe that runs leaves the time of each dispatch.
static double probedSeconds[probeTimes];

/// Bytes of the row that a dispatch of the probe that runs hands over.
static int64_t probedRowBytes;

/// Of rows as models have, short and long, and of as many as a prefill has.
static constexpr int64_t shortRowBytes = 1024, longRowBytes = 8192,
                         rowsBytes = 512 << 10;

/// So many for each thread, as few as there are in dispatches that are short.
static constexpr int64_t itemsOfThread = 8;

/// What an item computes: long enough for all threads to take some.
static uint64_t computeItem(uint64_t x) {
  for (int i = 0; i < 100; ++i)
    x = x * 6364136223846793005u + 1442695040888963407u;
  return x;
}

/// How often threads have taken items that are not the one that dispatches, and
/// how often they are to in the dispatches that are timed. What they write has
/// a line of its own.
alignas(64) static std::atomic<int64_t> takenByOthers;
alignas(64) static int64_t wantedOfOthers;
static pthread_t dispatchingThread;

/// Reads the row at params[0], and writes the part of that at params[1] that
/// items [first, last) of params[2] have.
static void handOver(const hadal_rt_step_t *, const int64_t *params,
                     int64_t first, int64_t last) {
  auto *from = reinterpret_cast<const char *>(params[0]);
  auto *to = reinterpret_cast<char *>(params[1]);
  if (!pthread_equal(pthread_self(), dispatchingThread))
    takenByOthers.fetch_add(1, std::memory_order_relaxed);
  uint64_t all = sum(from, probedRowBytes);
  for (int64_t i = first; i < last; ++i)
    all = computeItem(all);
  int64_t begin = probedRowBytes * first / params[2];
  memset(to + begin, int(all & 127), probedRowBytes * last / params[2] - begin);
}

/// How many items a dispatch of the probe that runs has.
static int64_t probedItems;

static void runDispatchStep(const hadal_rt_step_t *step) {
  int64_t params[] = {reinterpret_cast<int64_t>(step->arena),
                      reinterpret_cast<int64_t>(step->arena) + rowsBytes,
                      probedItems};
  auto dispatchSome = [&] {
    double start = nowSeconds();
    for (int64_t i = 0; i < dispatchesTimed; ++i) {
      step->dispatch(step->pool, step, handOver, params, probedItems);
      std::swap(params[0], params[1]);
    }
    return nowSeconds() - start;
  };
  // Threads were asleep, and it takes milliseconds until one is awake that the
  // system has put on the processor of another. What is wanted is the time of
  // dispatches that others take part in.
  dispatchingThread = pthread_self();
  constexpr double mostSeconds = 30e-3;
  double deadline = nowSeconds() + mostSeconds;
  for (double &seconds : probedSeconds)
    do {
      takenByOthers = 0;
      seconds = dispatchSome() / double(dispatchesTimed);
    } while (takenByOthers < wantedOfOthers && nowSeconds() < deadline);
}

//===----------------------------------------------------------------------===//
// All of it
//===----------------------------------------------------------------------===//

ExitCode Probe::open(const Weights &weights, int64_t threads, Run run,
                     int64_t arenaBytes, double stepAmount) {
  amount = stepAmount;
  model = chosenModel();
  model.step = run;
  model.arena_bytes_per_token = 0;
  model.arena_bytes_fixed = arenaBytes;
  model.page_bytes = 0;
  hadal_rt_session_options_t sizes = {};
  sizes.threads = threads;
  sizes.max_step_tokens = 1;
  logits.resize(size_t(model.vocab));
  if (ExitCode code = startSession(model, weights, sizes, session, sequence))
    return code;
  return step(/*writesLogits=*/true);
}

ExitCode Probe::step(bool writesLogits) {
  int32_t token = 0, row = 0;
  hadal_rt_status_t status =
      hadal_rt_session_step(session.get(), &token, &sequence, 1, &row,
                            int64_t(writesLogits), logits.data());
  if (!status)
    status = hadal_rt_sequence_truncate(session.get(), sequence, 0);
  return status ? reportStatus(status) : Done;
}

ExitCode Probe::raise(double &perSecond) {
  double start = nowSeconds();
  ExitCode code = step(/*writesLogits=*/false);
  perSecond = std::max(perSecond, amount / (nowSeconds() - start));
  return code;
}

/// Of a few tries, whoever else wants the processor disturbs the fewest.
static constexpr int tries = 3;

ExitCode Probe::measure(double stepAmount, Samples &perSecond) {
  // There are many of these, in each sample.
  constexpr int fewTries = 2;
  double best = 0;
  for (int i = 0; i < fewTries; ++i)
    if (ExitCode code = raise(best))
      return code;
  perSecond.add(best / amount * stepAmount);
  return Done;
}

ExitCode Machine::sample(MachineSamples &after, MachineSamples &before) {
  after = before = {};
  MachineSamples slow;
  if (ExitCode code = sampleShort(after))
    return code;
  if (ExitCode code = sampleLong(slow))
    return code;
  if (ExitCode code = sampleShort(before))
    return code;
  after.add(slow);
  before.add(slow);
  for (const MachineSamples *some : {&after, &before})
    all.add(*some);
  return Done;
}

ExitCode Machine::sampleLong(MachineSamples &to) {
  Speeds now;
  probedLoop = nullptr;
  probedBytes = probeBytes;
  probedPart = 1;
  DotFunction bf16Dot = findBf16Dot();
  double bf16Ops = 0;
  for (int i = 0; i < tries; ++i) {
    // Processors differ in whether they read faster when they are asked ahead.
    for (int64_t ahead : {0, 2048}) {
      probedAheadBytes = ahead;
      if (ExitCode code = reads.raise(now.bytes))
        return code;
    }
    if (ExitCode code = multiplications.raise(now.f32Ops))
      return code;
    probedDot = findByteDot(to.int8Instruction);
    if (ExitCode code = dots.raise(now.int8Ops))
      return code;
    probedDot = bf16Dot;
    if (ExitCode code = bf16Dot ? dots.raise(bf16Ops) : Done)
      return code;
  }
  to.bytes.add(now.bytes);
  to.f32Ops.add(now.f32Ops);
  to.int8Ops.add(now.int8Ops);
  if (bf16Dot)
    to.bf16Ops.add(bf16Ops);
  return sampleShares(now.bytes, to);
}

ExitCode Machine::sampleShort(MachineSamples &to) {
  for (auto sampleSome : {&Machine::sampleCaches, &Machine::sampleProducts,
                          &Machine::sampleRows, &Machine::sampleDispatches})
    if (ExitCode code = (this->*sampleSome)(to))
      return code;
  return Done;
}

/// Bytes of the data cache of \p level that the first processor has or shares;
/// 0 if the system does not say. What sysconf() says may be the sum of several.
static int64_t findCacheBytes(int level) {
  for (int index = 0; index < 8; ++index) {
    auto read = [&](const char *file, const char *format, auto *value) {
      std::string path = "/sys/devices/system/cpu/cpu0/cache/index";
      path += std::to_string(index) + "/" + file;
      FILE *from = fopen(path.c_str(), "re");
      bool good = from && fscanf(from, format, value) == 1;
      if (from)
        fclose(from);
      return good;
    };
    int found = 0;
    char type[16] = {};
    long long kibibytes = 0;
    if (read("level", "%d", &found) && found == level &&
        read("type", "%15s", type) && strcmp(type, "Instruction") &&
        read("size", "%lldK", &kibibytes) && kibibytes < 1 << 30)
      return int64_t(kibibytes) << 10;
  }
  return 0;
}

/// Bytes of the caches that \p threads threads have, smaller ones first, as far
/// as they can be told from memory.
static std::vector<int64_t> findCaches(int64_t threads) {
  std::vector<int64_t> caches;
  for (int64_t bytes : {findCacheBytes(2) * threads, findCacheBytes(3)})
    if (bytes >= 2 * probeItemBytes && bytes <= probeBytes / 2 &&
        (caches.empty() || bytes > caches.back()))
      caches.push_back(bytes);
  return caches;
}

/// Of a cache, the half that is read: the rest is for what else there is.
static int64_t readOf(int64_t cacheBytes) {
  return cacheBytes / 2 / probeItemBytes * probeItemBytes;
}

/// Steps that read no memory go over one item in so many.
static constexpr int64_t shortPart = 16;

ExitCode Machine::sampleCaches(MachineSamples &to) {
  probedLoop = nullptr;
  probedPart = shortPart;
  for (int64_t cache : caches) {
    probedBytes = readOf(cache);
    to.caches.push_back({cache, {}});
    if (ExitCode code = reads.measure(double(probeBytes / shortPart),
                                      to.caches.back().readBytes))
      return code;
  }
  // More than a cache holds, of which it may give some again.
  if (int64_t bytes = chosenModel().weights_bytes;
      bytes <= probeBytes / 2 && !caches.empty() && bytes > caches.back()) {
    probedBytes = bytes / probeItemBytes * probeItemBytes;
    probedPart = 1;
    probedRound = probedBytes / probeItemBytes;
    to.caches.push_back({bytes, {}});
    ExitCode code =
        reads.measure(double(probeBytes), to.caches.back().readBytes);
    probedRound = INT64_MAX;
    return code;
  }
  return Done;
}

ExitCode Machine::measureLoop(ProductLoop::Run loop, int64_t loopBytes,
                              double amount, Samples &perSecond) {
  probedLoop = loop;
  probedLoopBytes = loopBytes;
  probedPart = shortPart;
  probedBytes = caches.empty() ? 2 * probeItemBytes : readOf(caches.front());
  double items = double(probeBytes / probeItemBytes / shortPart);
  return reads.measure(items * double(probeItemBytes / loopBytes) * amount,
                       perSecond);
}

ExitCode Machine::sampleProducts(MachineSamples &to) {
  for (const ProductLoop &loop : loops) {
    MachineSamples::Products &some = to.products.emplace_back(
        MachineSamples::Products{loop.bits, {}, {}, {}});
    if (ExitCode code =
            measureLoop(loop.manyRows, loop.bytes, loop.manyOps, some.manyOps))
      return code;
    if (ExitCode code = measureLoop(loop.oneRow, loop.bytes, double(loop.bytes),
                                    some.rowBytes))
      return code;
  }
  return Done;
}

/// Memory was read at \p readBytes a second just before.
ExitCode Machine::sampleShares(double readBytes, MachineSamples &to) {
  for (const ProductLoop &loop : loops) {
    MachineSamples::Products &some = to.products.emplace_back(
        MachineSamples::Products{loop.bits, {}, {}, {}});
    probedLoop = loop.oneRow;
    probedLoopBytes = loop.bytes;
    // A part of the memory, which no cache holds either.
    probedPart = 4;
    probedBytes = probeBytes;
    double items = double(probeBytes / probeItemBytes / probedPart);
    double rowBytes = items * double(probeItemBytes / loop.bytes * loop.bytes);
    if (ExitCode code = reads.measure(rowBytes / readBytes, some.shareOfMemory))
      return code;
  }
  return Done;
}

ExitCode Machine::sampleRows(MachineSamples &to) {
  constexpr int64_t count = RowLoop::count, bytes = count * 4;
  if (!rowLoop)
    return Done;
  if (ExitCode code = measureLoop(rowLoop->exponentials, bytes, double(count),
                                  to.exponentials))
    return code;
  return measureLoop(rowLoop->rounding, bytes, double(count), to.rounded);
}

/// Medians of many, as each is short.
ExitCode Machine::sampleDispatches(MachineSamples &to) {
  probedAheadBytes = 0;
  double item, shortRow, longRow, rows;
  int64_t threads = dispatches.threads(), items = itemsOfThread * threads;
  // A thread reads many rows once.
  for (auto [count, rowBytes, seconds] :
       {std::tuple(int64_t(1), int64_t(0), &item),
        std::tuple(items, shortRowBytes, &shortRow),
        std::tuple(items, longRowBytes, &longRow),
        std::tuple(threads, rowsBytes, &rows)}) {
    probedItems = count;
    wantedOfOthers = threads > 1 && count > 1 ? dispatchesTimed : 0;
    probedRowBytes = rowBytes;
    double unused = 0;
    if (ExitCode code = dispatches.raise(unused))
      return code;
    auto *middle = probedSeconds + probeTimes / 2;
    std::nth_element(probedSeconds, middle, probedSeconds + probeTimes);
    *seconds = *middle;
  }
  // What is handed over is read and written.
  auto speed = [](int64_t bytes, double seconds) {
    // At the most what the first-level cache gives.
    constexpr double mostBytesPerSecond = 2e11;
    return std::min(mostBytesPerSecond,
                    2 * double(bytes) / std::max(seconds, 1e-9));
  };
  double rowSpeed = speed(longRowBytes - shortRowBytes, longRow - shortRow);
  to.handoverBytes.add(rowSpeed);
  to.rowsBytes.add(speed(rowsBytes, rows));
  to.dispatchSeconds.add(std::max(shortRow - double(itemsOfThread) * item -
                                      2 * shortRowBytes / rowSpeed,
                                  1e-9));
  return Done;
}

ExitCode Machine::open(const Weights &weights, int64_t threads) {
  const char *unused;
  double dotAmount = 2 * double(probeDots * probeFmaItems);
  probedDot = findByteDot(unused);
  if (ExitCode code =
          dots.open(weights, threads, runDotStep, probeFmaItems * 4, dotAmount))
    return code;
  if (ExitCode code = multiplications.open(
          weights, threads, runMultiplyStep, probeFmaItems * 4,
          2 * double(probeFmas * probeFmaItems)))
    return code;
  if (ExitCode code =
          dispatches.open(weights, threads, runDispatchStep, 2 * rowsBytes, 1))
    return code;
  probeBytes = findProbeBytes(dots.threads());
  if (ExitCode code = reads.open(weights, threads, runReadStep,
                                 probeBytes + probeBytes / probeItemBytes * 8,
                                 double(probeBytes)))
    return code;
  caches = findCaches(dots.threads());
  loops = findProductLoops();
  rowLoop = findRowLoop();
  MachineSamples after, before;
  return sample(after, before);
}

/// Adds the samples of \p other, of the same machine.
void MachineSamples::add(const MachineSamples &other) {
  auto append = [](Samples &to, const Samples &from) {
    for (double value : from.values)
      to.add(value);
  };
  for (auto member :
       {&MachineSamples::bytes, &MachineSamples::f32Ops,
        &MachineSamples::int8Ops, &MachineSamples::bf16Ops,
        &MachineSamples::dispatchSeconds, &MachineSamples::handoverBytes,
        &MachineSamples::rowsBytes, &MachineSamples::exponentials,
        &MachineSamples::rounded})
    append(this->*member, other.*member);
  if (*other.int8Instruction)
    int8Instruction = other.int8Instruction;
  for (size_t i = caches.size(); i < other.caches.size(); ++i)
    caches.push_back({other.caches[i].bytes, {}});
  for (size_t i = 0; i < other.caches.size(); ++i)
    append(caches[i].readBytes, other.caches[i].readBytes);
  for (size_t i = products.size(); i < other.products.size(); ++i)
    products.push_back({other.products[i].bits, {}, {}, {}});
  for (size_t i = 0; i < other.products.size(); ++i)
    for (auto member :
         {&Products::shareOfMemory, &Products::rowBytes, &Products::manyOps})
      append(products[i].*member, other.products[i].*member);
}

void run::appendSamples(std::string &out, const char *key,
                        const Samples &samples) {
  appendFormat(out, "\"%s\":{\"min\":%.6g,\"median\":%.6g,\"max\":%.6g}", key,
               samples.min(), samples.median(), samples.max());
}

void MachineSamples::appendJson(std::string &out) const {
  auto append = [&](const char *key, const Samples &samples) {
    if (samples.values.empty())
      return;
    appendSamples(out, key, samples);
    out += ',';
  };
  append("read_bytes_per_s", bytes);
  append("f32_operations_per_s", f32Ops);
  append("int8_operations_per_s", int8Ops);
  appendFormat(out, "\"int8_instruction\":\"%s\",", int8Instruction);
  append("bf16_operations_per_s", bf16Ops);
  append("dispatch_s", dispatchSeconds);
  append("handover_bytes_per_s", handoverBytes);
  append("rows_bytes_per_s", rowsBytes);
  append("exponentials_per_s", exponentials);
  append("rounded_per_s", rounded);
  out += "\"caches\":[";
  for (const Cache &cache : caches) {
    appendFormat(out, "%s{\"bytes\":%lld,", &cache == caches.data() ? "" : ",",
                 static_cast<long long>(cache.bytes));
    appendSamples(out, "read_bytes_per_s", cache.readBytes);
    out += '}';
  }
  out += "],\"products\":[";
  for (const Products &some : products) {
    appendFormat(out, "%s{\"bits\":%g,", &some == products.data() ? "" : ",",
                 some.bits);
    appendSamples(out, "share_of_memory", some.shareOfMemory);
    out += ',';
    appendSamples(out, "row_bytes_per_s", some.rowBytes);
    out += ',';
    appendSamples(out, "operations_per_s", some.manyOps);
    out += '}';
  }
  out += "],";
}

void MachineSamples::appendText(std::string &out) const {
  appendFormat(out,
               "machine: reads %.1f GB/s (%.1f .. %.1f); peaks: f32 %.0f "
               "GFLOP/s, int8 %.2f TOP/s (%s)",
               bytes.median() * 1e-9, bytes.min() * 1e-9, bytes.max() * 1e-9,
               f32Ops.median() * 1e-9, int8Ops.median() * 1e-12,
               int8Instruction);
  if (!bf16Ops.values.empty())
    appendFormat(out, ", bf16 %.2f TFLOP/s", bf16Ops.median() * 1e-12);
  appendFormat(out, "; a dispatch %.2f us, its row %.1f GB/s, many %.1f\n",
               dispatchSeconds.median() * 1e6, handoverBytes.median() * 1e-9,
               rowsBytes.median() * 1e-9);
  for (const Cache &cache : caches)
    appendFormat(out, "%.1f MB, read again: %.0f GB/s\n",
                 double(cache.bytes) * 1e-6, cache.readBytes.median() * 1e-9);
  for (const Products &some : products)
    appendFormat(out,
                 "products of %g bits: one row %.0f%% of what memory gives, "
                 "%.0f GB/s of a cache; many %.2f TOP/s\n",
                 some.bits, 100 * some.shareOfMemory.median(),
                 some.rowBytes.median() * 1e-9, some.manyOps.median() * 1e-12);
  if (!exponentials.values.empty())
    appendFormat(out, "scores %.1f G/s, rounding %.1f G/s\n",
                 exponentials.median() * 1e-9, rounded.median() * 1e-9);
}
