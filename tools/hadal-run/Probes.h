// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the machine can read, multiply and dispatch, measured on the threads
// that a model runs on.

#ifndef HADAL_TOOLS_HADAL_RUN_PROBES_H
#define HADAL_TOOLS_HADAL_RUN_PROBES_H

#include "Product.h"
#include "ProductLoops.h"
#include "WorkTable.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

namespace hadal::run {

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

/// What the machine can do a second. A multiplication and an addition are two
/// operations.
struct Speeds {
  double bytes = 0;   ///< Read from memory.
  double f32Ops = 0;  ///< Fused multiply-adds of vectors.
  double int8Ops = 0; ///< Dot products of bytes, summed in 32 bits.

  /// Seconds that \p work takes at the least: those of its bytes, or those of
  /// its operations at the peaks that fit them.
  double leastSeconds(double workBytes, const Work &work) const {
    return std::max(workBytes / bytes, operationSeconds(work));
  }
  double operationSeconds(const Work &work) const {
    return work.int8Ops / int8Ops + work.f32Ops / f32Ops;
  }
  static Speeds meanOf(const Speeds &a, const Speeds &b) {
    return {(a.bytes + b.bytes) / 2, (a.f32Ops + b.f32Ops) / 2,
            (a.int8Ops + b.int8Ops) / 2};
  }
};

/// A model whose steps compute nothing that is wanted, and a session that runs
/// them.
class Probe {
public:
  using Run = void (*)(const hadal_rt_step_t *);

  Probe() = default;
  Probe(const Probe &) = delete;
  Probe &operator=(const Probe &) = delete;

  /// A step of \p run does \p amount of what is counted, in an arena of \p
  /// arenaBytes, which it touches where it is to write logits.
  ExitCode open(const Weights &weights, int64_t threads, Run run,
                int64_t arenaBytes, double amount);
  /// Runs a step; \p perSecond is raised to what it gave, if that is more.
  ExitCode raise(double &perSecond);
  /// The most of a few tries, of \p stepAmount a step.
  ExitCode measure(double stepAmount, Samples &perSecond);
  int64_t threads() const { return hadal_rt_session_threads(session.get()); }

private:
  ExitCode step(bool writesLogits);

  hadal_rt_model_t model = {}; ///< Outlives the session.
  Session session;
  int32_t sequence = 0;
  double amount = 0;
  std::vector<float> logits;
};

/// What was measured of the machine, over some time.
struct MachineSamples {
  /// What loops like those of kernels reach with weights of as many bits.
  struct Products {
    double bits;           ///< With scales.
    Samples shareOfMemory; ///< Of one row: of what is read without products.
    Samples rowBytes;      ///< Of one row, with weights that are in a cache.
    Samples manyOps;       ///< Of many rows.
  };
  /// A cache: of all threads together, where each has its own. What is larger
  /// than the last of them is what they give of the model's weights.
  struct Cache {
    int64_t bytes;
    Samples readBytes;
  };

  std::vector<Products> products;
  std::vector<Cache> caches;      ///< Smaller ones first.
  Samples bytes, f32Ops, int8Ops; ///< As in Speeds.
  Samples bf16Ops; ///< Dot products of bf16; empty without the instruction.
  const char *int8Instruction = "";
  Samples dispatchSeconds; ///< Start and end of a dispatch of all threads.
  /// Of a row that all threads wrote in the dispatch before, and all read, and
  /// of the one that they write.
  Samples handoverBytes;
  Samples rowsBytes; ///< Of many rows, likewise.
  /// Of scores of attention, and numbers that are made integers; empty if it is
  /// not known how kernels do that.
  Samples exponentials, rounded;

  /// The medians.
  Speeds typical() const {
    return {bytes.median(), f32Ops.median(), int8Ops.median()};
  }
  /// Adds those of \p other, of the same machine.
  void add(const MachineSamples &other);
  /// Appends members of a JSON object, each followed by a comma.
  void appendJson(std::string &out) const;
  /// Appends a line of text, and others.
  void appendText(std::string &out) const;
};

/// Measures the machine, as often as it is asked, on threads of its own: no
/// model may run meanwhile. Keeps the memory that it reads, half a gigabyte or
/// eight times the caches that the threads share.
class Machine {
public:
  /// Makes the probes with \p threads threads, 0 being all, and takes a
  /// sample; takes a second or two.
  ExitCode open(const Weights &weights, int64_t threads);
  /// Measures what the machine can do at this moment: of a few tries, which
  /// take two or three tenths of a second together, the fastest. What takes
  /// less than a hundredth is measured twice: first, for \p after, which is of
  /// the run that has just ended, and last, for \p before, of the one to come.
  ExitCode sample(MachineSamples &after, MachineSamples &before);

  const MachineSamples &samples() const { return all; }

private:
  /// Memory and peaks, to which short probes are idle.
  ExitCode sampleLong(MachineSamples &to);
  /// What is of processors and their caches.
  ExitCode sampleShort(MachineSamples &to);
  ExitCode sampleCaches(MachineSamples &to);
  ExitCode sampleProducts(MachineSamples &to);
  ExitCode sampleShares(double readBytes, MachineSamples &to);
  ExitCode sampleRows(MachineSamples &to);
  ExitCode sampleDispatches(MachineSamples &to);
  /// What \p loop does with weights or numbers in a cache, \p amount each time.
  ExitCode measureLoop(ProductLoop::Run loop, int64_t loopBytes, double amount,
                       Samples &perSecond);

  Probe reads, multiplications, dots, dispatches;
  std::vector<ProductLoop> loops;
  std::optional<RowLoop> rowLoop;
  std::vector<int64_t> caches; ///< Their bytes, smaller ones first.
  MachineSamples all;
};

/// Appends `"KEY":{"min":..,"median":..,"max":..}`.
void appendSamples(std::string &out, const char *key, const Samples &samples);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_PROBES_H
