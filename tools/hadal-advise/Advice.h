// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which model, stored how, with which window, does what somebody wishes on a
// machine: by the compiler's own cost model, and what is known of quality.

#ifndef HADAL_TOOLS_HADAL_ADVISE_ADVICE_H
#define HADAL_TOOLS_HADAL_ADVISE_ADVICE_H

#include "hadal/Compiler.h"

#include "llvm/Support/JSON.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace hadal::advise {

/// Shares of what a machine can do at best that kernels have been measured at.
struct Efficiency {
  double bandwidth = 1, int8 = 1, f32 = 1;

  /// \p machine as kernels use it.
  Machine of(Machine machine) const;
};

/// How weights are stored.
struct Storage {
  std::string scheme;      ///< Of --quantize; "none": as the model has them.
  double klDivergence = 0; ///< To the model without, in nats a token.
  Efficiency efficiency;
};

struct FamilyMember {
  std::string name;
  std::string folder;                   ///< With its config.json.
  std::map<std::string, double> scores; ///< By task, in percent.
};

/// Of the machine.
struct Costs {
  double usdPerHour = 0, watts = 0;
};

/// A machine by its maker's data, which a wish can name.
struct NamedMachine {
  std::string name;
  Machine machine;
  double memoryBytes = 0;
  Costs costs;
};

/// What advise.json says; see there.
struct Knowledge {
  std::vector<FamilyMember> members;
  std::vector<Storage> storages;
  std::vector<NamedMachine> machines;
  std::vector<int64_t> windows;             ///< 0: none but the model's own.
  std::map<std::string, std::string> tasks; ///< And what their score is.
  Costs costs;
};

/// Reads \p path. Folders of configurations are in `family` beside it.
absl::StatusOr<Knowledge> readKnowledge(const std::string &path);

/// What is asked for.
struct Wishes {
  std::string task;
  Machine machine;        ///< As it was measured, or as its maker says.
  bool isBound = false;   ///< Kernels may reach all of it: nobody has measured.
  double memoryBytes = 0; ///< Where weights and session have to fit.
  std::string cpu;        ///< As CompileOptions::cpu.
  int64_t contextTokens = 4096, promptTokens = 512, answerTokens = 256;
  double minTokensPerSecond = 0, maxFirstSeconds = 0, minScore = 0; ///< 0: any.
  std::optional<double> maxLoss; ///< Of the KL divergence.
};

/// One way to meet the wishes, or not.
struct Candidate {
  const FamilyMember *member = nullptr;
  const Storage *storage = nullptr;
  int64_t windowTokens = 0; ///< 0: the model's own.
  double weightsBytes = 0, memoryBytes = 0;
  double decodeTokensPerSecond = 0; ///< Half way through the answer.
  double prefillTokensPerSecond = 0;
  double firstSeconds = 0;   ///< Until the first token.
  double requestSeconds = 0; ///< Prompt and answer.
  double usdPerMillion = 0;  ///< Of tokens of answers, with their prompts.
  double kwhPerMillion = 0;
  std::optional<double> score; ///< Of the task.
  std::string refusal;         ///< Why it does not meet the wishes; or empty.

  llvm::json::Object toJSON() const;
};

/// Works out all candidates: those that meet the wishes first, by score, then
/// loss, then cost; the others after them, in the same order.
absl::StatusOr<std::vector<Candidate>> advise(const Knowledge &knowledge,
                                              const Wishes &wishes);

/// A table of 80 columns of the first \p count that meet the wishes, and why
/// others do not.
std::string toText(const std::vector<Candidate> &candidates,
                   const Wishes &wishes, size_t count);

/// Tokens a second.
struct ComparedRepeat {
  double predicted = 0, measured = 0;
  double error() const { return predicted / measured - 1; }
};

/// One run of a benchmark, and what was predicted of it: of each repeat by what
/// was measured beside it, if that is known, since machines change.
struct Comparison {
  StepShape step;                      ///< `tokens` is 1 for a decode.
  std::vector<ComparedRepeat> repeats; ///< By error; at least one.
  /// That whose error is the median.
  const ComparedRepeat &middle() const {
    return repeats[(repeats.size() - 1) / 2];
  }
};

/// Predicts the runs that `hadal-bench --json` printed to \p path of the model
/// that \p options compiles, on the machine that was measured there.
absl::StatusOr<std::vector<Comparison>> compare(const Knowledge &knowledge,
                                                const CompileOptions &options,
                                                const std::string &path);

/// What more parameters bring.
struct ScalingPoint {
  double parameters = 0;
  double accuracy = 0; ///< In percent.
};

/// Reads `acc` of what `hadal-eval --choices --json` printed to \p path.
absl::StatusOr<double> readAccuracy(const std::string &path);

/// What each size gains over the one before, for twice the parameters, and from
/// where on that is less than one percent point. \p points has at least two.
std::string describeScaling(std::vector<ScalingPoint> points);

} // namespace hadal::advise

#endif // HADAL_TOOLS_HADAL_ADVISE_ADVICE_H
