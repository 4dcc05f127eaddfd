// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// hadal-advise: which published model to compile how, for a task and a machine.

#include "Advice.h"

#include "lib/Support/ToolErrors.h"

#include "absl/strings/str_cat.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <tuple>

using namespace hadal;
using namespace hadal::advise;
using llvm::StringRef;

static constexpr ToolErrors errors("hadal-advise");

static const char helpText[] =
    R"(usage: hadal-advise --task=code --memory=24GB --machine=bench.json
       hadal-advise --scaling 1.3G=a.json 7G=b.json

Ranks published models, stored types and windows by score, loss and cost.
  --task=general|code|math|reasoning
  --memory=SIZE    RAM for weights and cache; of a GPU, its own
  --machine=FILE|GPU|bandwidth=37GB/s,int8=2TOPS,f32=485GFLOPS
                   FILE: what hadal-bench printed as JSON; GPU: one of the
                   data, with its memory and costs: a100, h100, l4, l40s
  --cpu=NAME       kernels for this processor (this one)
  --context=N      tokens that a sequence may have (4096)
  --prompt=N       tokens of a request (512); --answer=N (256)
  --min-speed=N    tokens/s at least (any)
  --max-first=N    seconds to the first token at most (any)
  --min-score=N    percent at least (any)
  --max-loss=N     KL divergence of the stored type at most (any)
  --price=N        USD an hour of the machine (in the data); --watts=N
  --top=N          rows of the table (10)
  --json           all candidates as one JSON object
  --data=FILE      models, shares, costs (../share/hadal/advise.json)
  --check=FILE     compare with what hadal-bench measured of --model=DIR, with
                   --quantize, --activations and --context as it was compiled
  --tolerance=N    exit status 1 if one is off by more percent (15)
  --scaling        what parameters gained; files: hadal-eval's accuracy as JSON
)";

namespace {

struct Flags {
  std::string task, memory, machine, cpu, data, check, model, quantize,
      activations;
  double context = 0, prompt = 512, answer = 256, top = 10, tolerance = 15;
  double minSpeed = 0, maxFirst = 0, minScore = 0, maxLoss = -1;
  double price = -1, watts = -1;
  bool json = false, scaling = false, help = false;
  std::vector<std::string> others;
};

} // namespace

/// Reads the command line. \returns An error, or an empty string.
static std::string parseFlags(int argc, char **argv, Flags &flags) {
  std::pair<const char *, std::string *> texts[] = {
      {"task", &flags.task},
      {"memory", &flags.memory},
      {"machine", &flags.machine},
      {"cpu", &flags.cpu},
      {"data", &flags.data},
      {"check", &flags.check},
      {"model", &flags.model},
      {"quantize", &flags.quantize},
      {"activations", &flags.activations}};
  std::pair<const char *, double *> numbers[] = {
      {"min-speed", &flags.minSpeed}, {"max-first", &flags.maxFirst},
      {"min-score", &flags.minScore}, {"max-loss", &flags.maxLoss},
      {"price", &flags.price},        {"watts", &flags.watts},
      {"tolerance", &flags.tolerance}};
  std::pair<const char *, double *> counts[] = {{"context", &flags.context},
                                                {"prompt", &flags.prompt},
                                                {"answer", &flags.answer},
                                                {"top", &flags.top}};
  std::pair<const char *, bool *> switches[] = {{"json", &flags.json},
                                                {"scaling", &flags.scaling},
                                                {"help", &flags.help}};
  for (int i = 1; i < argc; ++i) {
    StringRef argument = argv[i];
    if (!argument.consume_front("--")) {
      if (argument == "-h")
        flags.help = true;
      else
        flags.others.push_back(argument.str());
      continue;
    }
    StringRef name, value;
    std::tie(name, value) = argument.split('=');
    bool hasValue = name.size() < argument.size();
    bool isKnown = false;
    for (auto [known, target] : switches)
      if (name == known) {
        if (hasValue)
          return llvm::formatv("'{0}' takes no value", argv[i]);
        *target = isKnown = true;
      }
    if (isKnown)
      continue;
    auto readNumber = [&](double min, double *target, const char *expected) {
      double number;
      if (!value.getAsDouble(number) && std::isfinite(number) &&
          number >= min && (min == 0 || number == std::floor(number)) &&
          number <= 1e9) {
        *target = number;
        return std::string();
      }
      return absl::StrCat("--", name.str(), " is '", value.str(),
                          "', expected ", expected);
    };
    bool isText =
        llvm::any_of(texts, [&](auto &it) { return name == it.first; });
    bool isNumber =
        llvm::any_of(numbers, [&](auto &it) { return name == it.first; }) ||
        llvm::any_of(counts, [&](auto &it) { return name == it.first; });
    if (!isText && !isNumber)
      return llvm::formatv("unknown flag '{0}'", argv[i]);
    if (!hasValue) {
      if (i + 1 == argc)
        return llvm::formatv("'{0}' needs a value", argv[i]);
      value = argv[++i];
    }
    for (auto [known, target] : texts)
      if (name == known)
        *target = value.str();
    std::string error;
    for (auto [known, target] : numbers)
      if (name == known)
        error = readNumber(0, target, "a number that is not negative");
    for (auto [known, target] : counts)
      if (name == known)
        error = readNumber(1, target, "a whole number, at least 1");
    if (!error.empty())
      return error;
  }
  return "";
}

/// Reads "24GB" or \p unit's like. \returns 0 if it is not that.
static double parseSize(StringRef text, StringRef unit) {
  text.consume_back(unit);
  double scale = 1;
  if (!text.empty())
    scale = llvm::StringSwitch<double>(text.take_back(1))
                .Case("k", 1e3)
                .Case("M", 1e6)
                .Case("G", 1e9)
                .Case("T", 1e12)
                .Default(1);
  if (scale != 1)
    text = text.drop_back();
  double value;
  if (text.getAsDouble(value) || !std::isfinite(value) || !(value > 0))
    return 0;
  return value * scale;
}

static int runScaling(const Flags &flags) {
  if (flags.others.size() < 2)
    return errors.failUsage(
        "--scaling expects two results or more, as 1.3G=a.json");
  std::vector<ScalingPoint> points;
  for (const std::string &other : flags.others) {
    auto [size, path] = StringRef(other).split('=');
    ScalingPoint point{parseSize(size, ""), 0};
    if (!point.parameters || path.empty())
      return errors.failUsage(
          absl::StrCat("'", other, "' is not PARAMETERS=FILE, as 1.3G=a.json"));
    if (llvm::any_of(points, [&](const ScalingPoint &known) {
          return known.parameters == point.parameters;
        }))
      return errors.failUsage(
          absl::StrCat("two results have ", size.str(), " parameters"));
    absl::StatusOr<double> accuracy = readAccuracy(path.str());
    if (!accuracy.ok())
      return errors.fail(accuracy.status());
    point.accuracy = *accuracy;
    points.push_back(point);
  }
  llvm::outs() << describeScaling(std::move(points));
  return Done;
}

static int runCheck(const Flags &flags, const Knowledge &knowledge) {
  if (flags.model.empty())
    return errors.failUsage("--check needs --model");
  CompileOptions options;
  options.model = flags.model;
  options.cpu = flags.cpu.empty() ? "native" : flags.cpu;
  options.quantize = flags.quantize;
  options.contextTokens = int64_t(flags.context); // 0: the model's.
  if (!options.quantize.empty())
    if (absl::Status status = checkQuantizeScheme(options.quantize);
        !status.ok())
      return errors.failUsage(
          absl::StrCat("--quantize ", std::string(status.message())));
  options.activations = parseActivations(flags.activations);
  if (!options.activations && !flags.activations.empty())
    return errors.failUsage(absl::StrCat("--activations is '",
                                         flags.activations,
                                         "', expected int8, bf16 or f32"));
  auto comparisons = compare(knowledge, options, flags.check);
  if (!comparisons.ok())
    return errors.fail(comparisons.status());
  bool isGood = true;
  auto percent = [](double share) -> std::string {
    return llvm::formatv("{0}{1:f1}", share < 0 ? "" : "+", 100 * share);
  };
  for (const Comparison &c : *comparisons) {
    const ComparedRepeat &middle = c.middle();
    bool isNear = std::abs(middle.error()) <= flags.tolerance / 100;
    isGood &= isNear;
    std::string range;
    if (c.repeats.size() > 1)
      range = llvm::formatv(" ({0} .. {1})", percent(c.repeats.front().error()),
                            percent(c.repeats.back().error()));
    llvm::outs() << llvm::formatv(
        "{0,-8} of {1,4} after {2,6}: predicted {3:f1}, measured {4:f1} "
        "tokens/s, {5} %{6}{7}\n",
        c.step.tokens == 1 ? "decode" : "prefill", c.step.tokens, c.step.depth,
        middle.predicted, middle.measured, percent(middle.error()), range,
        isNear ? "" : ": off");
  }
  if (!isGood)
    return errors.fail(BadInput,
                       absl::StrCat("a prediction is off by more than ",
                                    flags.tolerance, " percent"));
  return Done;
}

static int runAdvice(const Flags &flags, Knowledge knowledge) {
  auto named = llvm::find_if(knowledge.machines, [&](const NamedMachine &m) {
    return m.name == flags.machine;
  });
  bool isNamed = named != knowledge.machines.end();
  if (flags.task.empty() || flags.machine.empty() ||
      (flags.memory.empty() && !isNamed))
    return errors.failUsage("expected --task, --memory and --machine");
  Wishes wishes;
  wishes.task = flags.task;
  if (!knowledge.tasks.count(flags.task)) {
    std::string known;
    for (const auto &[task, score] : knowledge.tasks)
      absl::StrAppend(&known, known.empty() ? "" : ", ", task);
    return errors.failUsage(
        absl::StrCat("--task is '", flags.task, "', expected one of ", known));
  }
  if (isNamed) {
    wishes.machine = named->machine;
    wishes.memoryBytes = named->memoryBytes;
    wishes.isBound = true;
    knowledge.costs = named->costs;
  }
  if (!flags.memory.empty())
    wishes.memoryBytes = parseSize(flags.memory, "B");
  if (!wishes.memoryBytes)
    return errors.failUsage(absl::StrCat("--memory is '", flags.memory,
                                         "', expected a size, as 24GB"));
  if (!isNamed) {
    absl::StatusOr<Machine> machine = parseMachine(flags.machine);
    if (!machine.ok()) {
      std::string why =
          absl::StrCat("--machine ", std::string(machine.status().message()));
      return absl::IsInvalidArgument(machine.status())
                 ? errors.failUsage(why)
                 : errors.fail(BadInput, why);
    }
    wishes.machine = *machine;
  }
  wishes.cpu = flags.cpu.empty() ? "native" : flags.cpu;
  if (flags.context)
    wishes.contextTokens = int64_t(flags.context);
  wishes.promptTokens = int64_t(flags.prompt);
  wishes.answerTokens = int64_t(flags.answer);
  if (wishes.promptTokens + wishes.answerTokens > wishes.contextTokens)
    return errors.failUsage(
        absl::StrCat("--prompt and --answer have ",
                     wishes.promptTokens + wishes.answerTokens,
                     " tokens, but --context has ", wishes.contextTokens));
  wishes.minTokensPerSecond = flags.minSpeed;
  wishes.maxFirstSeconds = flags.maxFirst;
  wishes.minScore = flags.minScore;
  if (flags.maxLoss >= 0)
    wishes.maxLoss = flags.maxLoss;
  if (flags.price >= 0)
    knowledge.costs.usdPerHour = flags.price;
  if (flags.watts >= 0)
    knowledge.costs.watts = flags.watts;
  auto candidates = advise::advise(knowledge, wishes);
  if (!candidates.ok())
    return errors.fail(candidates.status());
  if (!flags.json) {
    llvm::outs() << absl::StrCat(
        wishes.task, ": ", knowledge.tasks[wishes.task], "\nprompts of ",
        wishes.promptTokens, " tokens, answers of ", wishes.answerTokens, ", ",
        knowledge.costs.usdPerHour, " USD/h, ", knowledge.costs.watts, " W\n",
        wishes.isBound ? "speeds and costs are bounds: what kernels reach of "
                         "this machine is not known\n"
                       : "",
        "\n");
    llvm::outs() << toText(*candidates, wishes, size_t(flags.top));
    return Done;
  }
  llvm::json::Array list;
  for (const Candidate &candidate : *candidates)
    list.push_back(candidate.toJSON());
  llvm::outs() << llvm::json::Value(llvm::json::Object{
                      {"task", wishes.task},
                      {"score", knowledge.tasks[wishes.task]},
                      {"is_bound", wishes.isBound},
                      {"usd_per_hour", knowledge.costs.usdPerHour},
                      {"watts", knowledge.costs.watts},
                      {"candidates", std::move(list)}})
               << '\n';
  return Done;
}

static int run(char *argv0, const Flags &flags) {
  if (flags.help) {
    llvm::outs() << helpText;
    return Done;
  }
  if (flags.scaling)
    return runScaling(flags);
  if (!flags.others.empty())
    return errors.failUsage(
        absl::StrCat("unexpected argument '", flags.others[0], "'"));
  std::string data = flags.data;
  if (data.empty()) {
    llvm::SmallString<256> path(llvm::sys::path::parent_path(
        llvm::sys::path::parent_path(llvm::sys::fs::getMainExecutable(
            argv0, reinterpret_cast<void *>(&run)))));
    llvm::sys::path::append(path, "share", "hadal", "advise.json");
    data = path.str().str();
  }
  absl::StatusOr<Knowledge> knowledge = readKnowledge(data);
  if (!knowledge.ok())
    return errors.fail(knowledge.status());
  if (!flags.check.empty())
    return runCheck(flags, *knowledge);
  return runAdvice(flags, *std::move(knowledge));
}

int main(int argc, char **argv) {
  Flags flags;
  if (std::string error = parseFlags(argc, argv, flags); !error.empty())
    return errors.failUsage(error);
  return errors.finish(run(argv[0], flags));
}
