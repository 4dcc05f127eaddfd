// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Measures what each class of weights loses by each type, and adds up.

#include "lib/Compiler/ChooseScheme.h"

#include "passes/Quantization/Scheme.h"

#include "absl/strings/str_cat.h"
#include "llvm/Support/FormatVariadic.h"

using namespace hadal;
using llvm::StringRef;

/// What a class may be stored as; each has kernels of its own.
static constexpr const char *types[] = {"int8-g128", "int6-g32", "int5-g32",
                                        "int4-g32", "int4-g128"};

namespace {

/// What is known of one class stored as one type, and all else as it is.
struct Choice {
  std::string item;  ///< "experts=int4-g32"; empty: it stays.
  int64_t bytes = 0; ///< Less than the model has.
  double divergence = 0;
};

} // namespace

std::optional<double> hadal::parseAutoBits(StringRef scheme) {
  if (!scheme.consume_front("auto:"))
    return std::nullopt;
  double bits = 0;
  if (!scheme.consume_back("bpw") || scheme.getAsDouble(bits) || !(bits > 0) ||
      !(bits <= 32))
    return 0.0;
  return bits;
}

absl::StatusOr<std::string>
hadal::chooseScheme(const CompileOptions &options,
                    const std::string &statistics, const Observed &base,
                    Outputs &outputs, std::vector<std::string> &notes) {
  double bits = *parseAutoBits(options.quantize);
  CompileOptions tried = makeLossless(options, "");
  tried.rounding = options.getRounding();
  tried.calibration = statistics;
  absl::StatusOr<std::string> program = outputs.getScratchPath("tried");
  absl::StatusOr<std::string> weights = outputs.getScratchPath("tried.weights");
  for (const auto *scratch : {&program, &weights})
    if (!scratch->ok())
      return scratch->status();
  CompileOptions measured = options;
  measured.output = *program;

  std::vector<std::vector<Choice>> classes;
  int64_t before = base.report.total.weightBytes, least = before;
  for (const char *name : weightClassNames) {
    std::vector<Choice> choices(1);
    int64_t most = 0;
    for (const char *type : types) {
      Choice choice;
      choice.item = absl::StrCat(name, "=", type);
      tried.quantize = choice.item;
      // How large it is is known without its weights.
      tried.output.clear();
      CompileResult sized;
      if (absl::Status status = compile(tried, &sized); !status.ok())
        return status;
      choice.bytes = before - sized.report.total.weightBytes;
      if (choice.bytes == 0)
        break; // The model has none of the class.
      tried.output = *program;
      if (absl::Status status = compile(tried); !status.ok())
        return status;
      absl::StatusOr<LossReport> loss = measureLoss(measured, outputs, base);
      if (!loss.ok())
        return loss.status();
      choice.divergence = loss->klDivergence;
      most = std::max(most, choice.bytes);
      choices.push_back(choice);
    }
    least -= most;
    if (choices.size() > 1)
      classes.push_back(choices);
  }

  // All mixes: a few types to the power of seven classes at most.
  auto parameters = double(base.report.total.parameters);
  double bestSum = INFINITY;
  int64_t bestBytes = 0;
  std::string best;
  size_t mixes = 1;
  for (const std::vector<Choice> &choices : classes)
    mixes *= choices.size();
  for (size_t mix = 0; mix < mixes; ++mix) {
    size_t rest = mix;
    double sum = 0;
    int64_t bytes = before;
    std::string scheme;
    for (const std::vector<Choice> &choices : classes) {
      const Choice &choice = choices[rest % choices.size()];
      rest /= choices.size();
      sum += choice.divergence;
      bytes -= choice.bytes;
      if (!choice.item.empty())
        scheme += (scheme.empty() ? "" : ",") + choice.item;
    }
    if (8 * double(bytes) / parameters > bits || sum > bestSum ||
        (sum == bestSum && bytes >= bestBytes))
      continue;
    bestSum = sum;
    bestBytes = bytes;
    best = scheme;
  }
  if (!(bestSum < INFINITY))
    return absl::InvalidArgumentError(
        llvm::formatv("--quantize={0}: the smallest mix of this model has "
                      "{1:f2} bits a weight; what is no product's matrix stays "
                      "as it is",
                      options.quantize, 8 * double(least) / parameters)
            .str());
  notes.push_back(
      llvm::formatv("{0}: {1}, {2:f2} bits a weight; the divergences of its "
                    "parts add up to {3:f5}",
                    options.quantize, best.empty() ? "none" : best,
                    8 * double(bestBytes) / parameters, bestSum)
          .str());
  return best.empty() ? "int8,experts=none,attention=none,ffn=none,shared=none,"
                        "head=none"
                      : best;
}
