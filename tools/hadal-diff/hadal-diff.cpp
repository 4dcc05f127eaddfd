// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// hadal-diff A B: tells the first op at which two builds of a model differ.

#include "lib/Compiler/OpValues.h"
#include "lib/Support/ToolErrors.h"

#include "absl/strings/str_cat.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

using namespace hadal;
using llvm::StringRef;

static constexpr ToolErrors errors("hadal-diff");

static const char helpText[] =
    R"(usage: hadal-diff A B --tokens 1,2,3

  hadalc MODEL -o bf16 && hadalc MODEL --quantize=int8 -o int8
  hadal-diff bf16 int8 --tokens 3,1,4,15
Runs two builds of a model on the same tokens and compares what their ops
compute, in the order of the model: tells the first one that differs, and the
one that differs most. A and B are executables of hadalc, which run as they are,
or a model, .mlir or anything that hadalc takes, for the reference interpreter.
  --tokens 1,2,3   ids, one sequence
  --tolerance T    largest error of a result, as a share of the largest |value|
                   that A computes there (1e-4)
  --all            list every op (only those two)
  --json           print one JSON object
An op that the other has not, by name and shape, is counted and left out.
Exits with 1 if an op differs by more than the tolerance.
)";

namespace {

struct Options {
  std::vector<std::string> builds;
  std::vector<int32_t> tokens;
  double tolerance = 1e-4;
  bool all = false, json = false, help = false;
};

/// Of a comparison, what is printed.
struct Result {
  std::vector<OpDifference> differences;
  size_t ops[2]; ///< Of each build.
  const OpDifference *first = nullptr, *worst = nullptr;
};

} // namespace

static int parseOptions(int argc, char **argv, Options &options) {
  for (int i = 1; i < argc; ++i) {
    StringRef argument = argv[i];
    if (!argument.consume_front("-")) {
      options.builds.push_back(argument.str());
      continue;
    }
    argument.consume_front("-");
    auto [name, value] = argument.split('=');
    bool hasValue = name.size() < argument.size();
    if (name == "tokens" || name == "tolerance") {
      if (!hasValue && i + 1 == argc)
        return errors.failUsage(llvm::formatv("'{0}' needs a value", argv[i]));
      if (!hasValue)
        value = argv[++i];
      if (name == "tolerance") {
        if (value.getAsDouble(options.tolerance) || !(options.tolerance >= 0))
          return errors.failUsage(llvm::formatv(
              "--tolerance is '{0}', expected a number, 0 or more", value));
        continue;
      }
      options.tokens.clear();
      for (StringRef item : llvm::split(value, ','))
        if (int32_t token; !item.getAsInteger(10, token) && token >= 0)
          options.tokens.push_back(token);
        else
          return errors.failUsage(llvm::formatv(
              "--tokens is '{0}', expected ids like 1,2,3", value));
      continue;
    }
    bool *flag = name == "all"                   ? &options.all
                 : name == "json"                ? &options.json
                 : name == "help" || name == "h" ? &options.help
                                                 : nullptr;
    if (!flag || hasValue)
      return errors.failUsage(llvm::formatv("unknown option '{0}'", argv[i]));
    *flag = true;
  }
  if (options.help)
    return Done;
  if (options.builds.size() != 2)
    return errors.failUsage(llvm::formatv("expected two builds, but got {0}",
                                          options.builds.size()));
  if (options.tokens.empty())
    return errors.failUsage("expected --tokens");
  return Done;
}

/// The value of \p values that \p difference is of.
static double valueAt(const OpValues &values, const OpDifference &difference) {
  return values
      .values[size_t(difference.row * values.columns + difference.column)];
}

static std::string describe(const OpDifference &difference) {
  std::string text = llvm::formatv(
      "{0} ({1}): error {2:e2}, token {3}, column {4}: {5:e4} and {6:e4}\n",
      difference.first->name, difference.first->op, difference.error,
      difference.row, difference.column, valueAt(*difference.first, difference),
      valueAt(*difference.second, difference));
  auto kernelOf = [](const OpValues &values) {
    return values.kernel.empty() ? StringRef("the interpreter")
                                 : StringRef(values.kernel);
  };
  return text + llvm::formatv("  by {0} and {1}\n", kernelOf(*difference.first),
                              kernelOf(*difference.second))
                    .str();
}

static std::string makeText(const Options &options, const Result &result) {
  std::string text;
  if (options.all)
    for (const OpDifference &difference : result.differences)
      text += llvm::formatv("{0,-44} {1,-20} {2:e2}\n", difference.first->name,
                            difference.first->op, difference.error);
  if (result.first)
    text += "first beyond the tolerance: " + describe(*result.first);
  if (result.worst)
    text += "largest: " + describe(*result.worst);
  return text + llvm::formatv("{0} results compared, of {1} and {2}; {3}\n",
                              result.differences.size(), result.ops[0],
                              result.ops[1],
                              result.first ? "they differ" : "none differs")
                    .str();
}

static llvm::json::Value makeJson(const OpDifference *difference) {
  if (!difference)
    return nullptr;
  auto number = [](double value) -> llvm::json::Value {
    return std::isfinite(value) ? llvm::json::Value(value) : nullptr;
  };
  return llvm::json::Object{
      {"name", difference->first->name},
      {"op", difference->first->op},
      {"kernels", {difference->first->kernel, difference->second->kernel}},
      {"error", number(difference->error)},
      {"token", difference->row},
      {"column", difference->column},
      {"values",
       {number(valueAt(*difference->first, *difference)),
        number(valueAt(*difference->second, *difference))}}};
}

static std::string makeJson(const Options &options, const Result &result) {
  llvm::json::Object object{
      {"tolerance", options.tolerance},
      {"compared", int64_t(result.differences.size())},
      {"results", {int64_t(result.ops[0]), int64_t(result.ops[1])}},
      {"first", makeJson(result.first)},
      {"largest", makeJson(result.worst)}};
  if (options.all) {
    llvm::json::Array list;
    for (const OpDifference &difference : result.differences)
      list.push_back(makeJson(&difference));
    object["all"] = std::move(list);
  }
  return llvm::formatv("{0}\n", llvm::json::Value(std::move(object))).str();
}

static int run(const Options &options) {
  std::vector<OpValues> values[2];
  Result result;
  for (int i : {0, 1}) {
    Outputs outputs;
    absl::StatusOr<std::vector<OpValues>> recorded =
        recordValues(options.builds[size_t(i)], options.tokens, outputs);
    if (!recorded.ok())
      return errors.fail(recorded.status());
    values[i] = std::move(*recorded);
    result.ops[i] = values[i].size();
  }
  result.differences = compareValues(values[0], values[1]);
  if (result.differences.empty())
    return errors.fail(BadInput, absl::StrCat("'", options.builds[0], "' and '",
                                              options.builds[1],
                                              "' have no op in common"));
  for (const OpDifference &difference : result.differences) {
    if (!result.first && !(difference.error <= options.tolerance))
      result.first = &difference;
    if (!result.worst || difference.error > result.worst->error)
      result.worst = &difference;
  }
  llvm::outs() << (options.json ? makeJson(options, result)
                                : makeText(options, result));
  return result.first ? BadInput : Done;
}

int main(int argc, char **argv) {
  Options options;
  if (int code = parseOptions(argc, argv, options))
    return code;
  int code = Done;
  if (options.help)
    llvm::outs() << helpText;
  else
    code = run(options);
  return errors.finish(code);
}
