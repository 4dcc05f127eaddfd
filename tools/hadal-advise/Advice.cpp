// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Compiles each published configuration without weights, as far as the plan of
// its memory, and predicts its steps from what its dispatches read and compute.

#include "Advice.h"

#include "lib/Compiler/Roofline.h"

#include "absl/strings/str_cat.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <algorithm>
#include <cmath>
#include <tuple>

using namespace hadal;
using namespace hadal::advise;

/// Tokens of a step of a prompt, as compiled programs take them.
static constexpr int64_t stepTokens = 512;

static constexpr double hourSeconds = 3600, kilowattHour = 3.6e6;

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

static absl::StatusOr<llvm::json::Value> readJSON(const std::string &path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return absl::NotFoundError(
        absl::StrCat(path, ": cannot read: ", buffer.getError().message()));
  auto json = llvm::json::parse((*buffer)->getBuffer());
  if (!json)
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not JSON: ", llvm::toString(json.takeError())));
  return std::move(*json);
}

namespace hadal::advise {

static bool fromJSON(const llvm::json::Value &value, Efficiency &efficiency,
                     llvm::json::Path path) {
  llvm::json::ObjectMapper map(value, path);
  return map && map.map("bandwidth", efficiency.bandwidth) &&
         map.map("int8", efficiency.int8) && map.map("f32", efficiency.f32);
}

static bool fromJSON(const llvm::json::Value &value, Storage &storage,
                     llvm::json::Path path) {
  llvm::json::ObjectMapper map(value, path);
  return map && map.map("scheme", storage.scheme) &&
         map.map("kl", storage.klDivergence) &&
         map.map("efficiency", storage.efficiency);
}

static bool fromJSON(const llvm::json::Value &value, FamilyMember &member,
                     llvm::json::Path path) {
  llvm::json::ObjectMapper map(value, path);
  return map && map.map("name", member.name) &&
         map.map("config", member.folder) && map.map("scores", member.scores);
}

static bool fromJSON(const llvm::json::Value &value, Costs &costs,
                     llvm::json::Path path) {
  llvm::json::ObjectMapper map(value, path);
  return map && map.map("usd_per_hour", costs.usdPerHour) &&
         map.map("watts", costs.watts);
}

static bool fromJSON(const llvm::json::Value &value, NamedMachine &named,
                     llvm::json::Path path) {
  llvm::json::ObjectMapper map(value, path);
  return map && map.map("name", named.name) &&
         map.map("memory_bytes", named.memoryBytes) &&
         map.map("bytes_per_s", named.machine.bytesPerSecond) &&
         map.map("int8_ops_per_s", named.machine.int8OpsPerSecond) &&
         map.map("f32_ops_per_s", named.machine.f32OpsPerSecond) &&
         fromJSON(value, named.costs, path);
}

} // namespace hadal::advise

absl::StatusOr<Knowledge> advise::readKnowledge(const std::string &path) {
  absl::StatusOr<llvm::json::Value> json = readJSON(path);
  if (!json.ok())
    return json.status();
  Knowledge knowledge;
  llvm::json::Path::Root root(path);
  llvm::json::ObjectMapper map(*json, root);
  bool isGood = map && map.map("models", knowledge.members) &&
                map.map("quantization", knowledge.storages) &&
                map.map("windows", knowledge.windows) &&
                map.map("tasks", knowledge.tasks) &&
                map.map("cost", knowledge.costs) &&
                map.mapOptional("machines", knowledge.machines);
  if (!isGood)
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", llvm::toString(root.getError())));
  llvm::SmallString<128> family(llvm::sys::path::parent_path(path));
  llvm::sys::path::append(family, "family");
  for (FamilyMember &member : knowledge.members)
    member.folder = absl::StrCat(family.str().str(), "/", member.folder);
  return knowledge;
}

//===----------------------------------------------------------------------===//
// Candidates
//===----------------------------------------------------------------------===//

Machine Efficiency::of(Machine machine) const {
  // Where it was measured what products reach, nothing has to be assumed.
  if (!machine.products.empty())
    return machine;
  machine.bytesPerSecond *= bandwidth;
  machine.int8OpsPerSecond *= int8;
  machine.f32OpsPerSecond *= f32;
  return machine;
}

/// Compiles as far as memory is planned, without weights.
static absl::StatusOr<ModelReport> makeReport(CompileOptions options) {
  options.packWeights = false;
  options.output.clear();
  CompileResult result;
  if (absl::Status status = compile(options, &result); !status.ok())
    return status;
  return std::move(result.report);
}

/// Seconds of a prompt of \p tokens, in steps.
static double predictPrompt(const ModelReport &report, int64_t tokens) {
  double seconds = 0;
  for (int64_t done = 0; done < tokens; done += stepTokens) {
    int64_t count = std::min(stepTokens, tokens - done);
    seconds +=
        report.predictSeconds({count, done, int64_t(done + count == tokens)});
  }
  return seconds;
}

/// Fills what depends on the report.
static void predict(ModelReport &report, const Wishes &wishes,
                    const Knowledge &knowledge, Candidate &candidate) {
  report.machine = wishes.isBound
                       ? wishes.machine
                       : candidate.storage->efficiency.of(wishes.machine);
  candidate.weightsBytes = double(report.weightsBytes);
  candidate.memoryBytes =
      candidate.weightsBytes + double(report.peakBytes(stepTokens));
  candidate.firstSeconds = predictPrompt(report, wishes.promptTokens);
  candidate.prefillTokensPerSecond =
      double(wishes.promptTokens) / candidate.firstSeconds;
  double tokenSeconds = report.predictSeconds(
      {1, wishes.promptTokens + wishes.answerTokens / 2, 1});
  candidate.decodeTokensPerSecond = 1 / tokenSeconds;
  // The first token of the answer comes with the prompt.
  candidate.requestSeconds =
      candidate.firstSeconds + double(wishes.answerTokens - 1) * tokenSeconds;
  double secondsPerMillion =
      candidate.requestSeconds / double(wishes.answerTokens) * 1e6;
  candidate.usdPerMillion =
      secondsPerMillion / hourSeconds * knowledge.costs.usdPerHour;
  candidate.kwhPerMillion =
      secondsPerMillion * knowledge.costs.watts / kilowattHour;
}

/// Why \p candidate does not meet \p wishes; empty if it does.
static std::string findRefusal(const Candidate &candidate,
                               const Wishes &wishes) {
  if (candidate.memoryBytes > wishes.memoryBytes)
    return llvm::formatv("needs {0:f1} GB", candidate.memoryBytes * 1e-9);
  if (candidate.decodeTokensPerSecond < wishes.minTokensPerSecond)
    return llvm::formatv("{0:f1} tokens/s", candidate.decodeTokensPerSecond);
  if (wishes.maxFirstSeconds && candidate.firstSeconds > wishes.maxFirstSeconds)
    return llvm::formatv("first token after {0:f1} s", candidate.firstSeconds);
  if (wishes.maxLoss && candidate.storage->klDivergence > *wishes.maxLoss)
    return absl::StrCat("loses ", candidate.storage->klDivergence, " nats");
  if (!candidate.score)
    return "no score is known for the task";
  if (*candidate.score < wishes.minScore)
    return absl::StrCat("scores ", *candidate.score);
  return "";
}

absl::StatusOr<std::vector<Candidate>>
advise::advise(const Knowledge &knowledge, const Wishes &wishes) {
  std::vector<Candidate> candidates;
  for (const FamilyMember &member : knowledge.members)
    for (const Storage &storage : knowledge.storages)
      for (int64_t window : knowledge.windows) {
        // It would see all there is.
        if (window >= wishes.contextTokens)
          continue;
        Candidate candidate;
        candidate.member = &member;
        candidate.storage = &storage;
        candidate.windowTokens = window;
        auto score = member.scores.find(wishes.task);
        if (score != member.scores.end())
          candidate.score = score->second;
        CompileOptions options;
        options.model = member.folder;
        options.cpu = wishes.cpu;
        options.contextTokens = wishes.contextTokens;
        options.quantize = storage.scheme == "none" ? "" : storage.scheme;
        if (window)
          options.window = CompileOptions::Window{window, 0};
        absl::StatusOr<ModelReport> report = makeReport(options);
        if (report.ok()) {
          predict(*report, wishes, knowledge, candidate);
          candidate.refusal = findRefusal(candidate, wishes);
        } else if (report.status().code() == absl::StatusCode::kInternal ||
                   report.status().code() == absl::StatusCode::kNotFound) {
          return report.status();
        } else {
          // Its context is smaller, or the two do not go together.
          candidate.refusal = std::string(report.status().message());
        }
        candidates.push_back(std::move(candidate));
      }
  auto rank = [](const Candidate &candidate) {
    return std::tuple(!candidate.refusal.empty(), -candidate.score.value_or(0),
                      candidate.storage->klDivergence,
                      candidate.windowTokens > 0, -candidate.windowTokens,
                      candidate.usdPerMillion,
                      llvm::StringRef(candidate.member->name));
  };
  llvm::sort(candidates, [&](const Candidate &a, const Candidate &b) {
    return rank(a) < rank(b);
  });
  return candidates;
}

llvm::json::Object Candidate::toJSON() const {
  llvm::json::Object object{
      {"model", member->name},
      {"quantize", storage->scheme},
      {"window_tokens", windowTokens ? llvm::json::Value(windowTokens)
                                     : llvm::json::Value(nullptr)},
      {"kl_divergence", storage->klDivergence},
      {"score",
       score ? llvm::json::Value(*score) : llvm::json::Value(nullptr)}};
  if (weightsBytes) {
    object["weights_bytes"] = weightsBytes;
    object["memory_bytes"] = memoryBytes;
    object["decode_tokens_per_s"] = decodeTokensPerSecond;
    object["prefill_tokens_per_s"] = prefillTokensPerSecond;
    object["first_token_s"] = firstSeconds;
    object["request_s"] = requestSeconds;
    object["usd_per_million_tokens"] = usdPerMillion;
    object["kwh_per_million_tokens"] = kwhPerMillion;
  }
  object["refusal"] =
      refusal.empty() ? llvm::json::Value(nullptr) : llvm::json::Value(refusal);
  return object;
}

/// "int4-g32, window 4096"
static std::string describeStorage(const Candidate &candidate) {
  std::string text = candidate.storage->scheme;
  if (candidate.windowTokens)
    text += absl::StrCat(", window ", candidate.windowTokens);
  return text;
}

std::string advise::toText(const std::vector<Candidate> &candidates,
                           const Wishes &wishes, size_t count) {
  std::string text;
  llvm::raw_string_ostream os(text);
  size_t good = size_t(llvm::count_if(
      candidates, [](const Candidate &c) { return c.refusal.empty(); }));
  if (good)
    os << llvm::formatv("{0,-30} {1,5} {2,6} {3,7} {4,7} {5,8} {6,8}\n", "",
                        "score", "GB", "first s", "token/s", "USD/Mtok",
                        "kWh/Mtok");
  for (const Candidate &c :
       llvm::ArrayRef(candidates).take_front(std::min(good, count))) {
    os << llvm::formatv("{0,-30} {1,5:f1} {2,6:f1} {3,7:f1} {4,7:f1} {5,8:f2} "
                        "{6,8:f2}\n",
                        c.member->name, c.score.value_or(0),
                        c.memoryBytes * 1e-9, c.firstSeconds,
                        c.decodeTokensPerSecond, c.usdPerMillion,
                        c.kwhPerMillion);
    os << llvm::formatv("  --quantize={0}{1}\n", c.storage->scheme,
                        c.windowTokens
                            ? absl::StrCat(" --window=", c.windowTokens)
                            : std::string());
  }
  if (good > count)
    os << llvm::formatv("and {0} more; see --top\n", good - count);
  if (!good)
    os << llvm::formatv("nothing that is known does {0} as wished\n",
                        wishes.task);
  llvm::ArrayRef<Candidate> others =
      llvm::ArrayRef(candidates).drop_front(good);
  if (!others.empty())
    os << "not as wished:\n";
  for (const Candidate &c : others)
    os << llvm::formatv("  {0,-30} {1,-22} {2}\n", c.member->name,
                        describeStorage(c), c.refusal);
  return text;
}

//===----------------------------------------------------------------------===//
// Predictions and measurements
//===----------------------------------------------------------------------===//

absl::StatusOr<std::vector<Comparison>>
advise::compare(const Knowledge &knowledge, const CompileOptions &options,
                const std::string &path) {
  absl::StatusOr<Machine> machine = parseMachine(path);
  if (!machine.ok())
    return absl::Status(machine.status().code(),
                        absl::StrCat("--check ", machine.status().message()));
  absl::StatusOr<llvm::json::Value> json = readJSON(path);
  if (!json.ok())
    return json.status();
  std::string scheme = options.quantize.empty() ? "none" : options.quantize;
  auto storage = llvm::find_if(
      knowledge.storages, [&](const Storage &s) { return s.scheme == scheme; });
  if (storage == knowledge.storages.end())
    return absl::InvalidArgumentError(absl::StrCat(
        "--quantize=", scheme, " is none of those that shares are known of"));
  absl::StatusOr<ModelReport> report = makeReport(options);
  if (!report.ok())
    return report.status();
  const llvm::json::Object *object = json->getAsObject();
  const llvm::json::Array *runs = object ? object->getArray("runs") : nullptr;
  auto bytes = object ? object->getInteger("weights_bytes") : std::nullopt;
  if (!runs || !bytes)
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": no 'runs' or 'weights_bytes' as `hadal-bench --json` prints"));
  if (*bytes != report->weightsBytes)
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": the weights have ", *bytes, " bytes, but those of ",
        options.model, " in ", scheme, " have ", report->weightsBytes));
  std::vector<Comparison> comparisons;
  for (const llvm::json::Value &value : *runs) {
    const llvm::json::Object *run = value.getAsObject();
    auto kind = run ? run->getString("kind") : std::nullopt;
    auto tokens = run ? run->getInteger("tokens") : std::nullopt;
    auto depth = run ? run->getInteger("depth") : std::nullopt;
    const llvm::json::Object *samples =
        run ? run->getObject("tokens_per_s") : nullptr;
    auto speed = samples ? samples->getNumber("median") : std::nullopt;
    if (!kind || !tokens || !depth || !speed || *tokens < 1 || *depth < 0 ||
        !(*speed > 0))
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": run ", comparisons.size(),
          " has no kind, tokens, depth or speed as `hadal-bench --json` "
          "prints"));
    // A decode is so many steps; that in their middle is as long as their mean.
    bool isDecode = *kind == "decode";
    StepShape step = isDecode ? StepShape{1, *depth + *tokens / 2, 1}
                              : StepShape{*tokens, *depth, 1};
    Comparison &comparison = comparisons.emplace_back(Comparison{step, {}});
    auto add = [&](const Machine &then, double tokensPerSecond) {
      report->machine = storage->efficiency.of(then);
      comparison.repeats.push_back(
          {double(step.tokens) / report->predictSeconds(step),
           tokensPerSecond});
    };
    if (const llvm::json::Array *repeats = run->getArray("repeats"))
      for (const llvm::json::Value &one : *repeats) {
        const llvm::json::Object *repeat = one.getAsObject();
        const llvm::json::Object *beside =
            repeat ? repeat->getObject("machine") : nullptr;
        auto repeatSpeed =
            repeat ? repeat->getNumber("tokens_per_s") : std::nullopt;
        if (!beside || !repeatSpeed || !(*repeatSpeed > 0))
          return absl::InvalidArgumentError(absl::StrCat(
              path, ": repeat ", comparison.repeats.size(), " of run ",
              comparisons.size() - 1,
              " has no speed or machine as `hadal-bench --json` prints"));
        absl::StatusOr<Machine> then = readMachine(*beside, path);
        if (!then.ok())
          return then.status();
        then->threads = machine->threads;
        add(*then, *repeatSpeed);
      }
    if (comparison.repeats.empty())
      add(*machine, *speed);
    llvm::sort(comparison.repeats,
               [](const ComparedRepeat &a, const ComparedRepeat &b) {
                 return a.error() < b.error();
               });
  }
  return comparisons;
}

//===----------------------------------------------------------------------===//
// Scaling
//===----------------------------------------------------------------------===//

absl::StatusOr<double> advise::readAccuracy(const std::string &path) {
  absl::StatusOr<llvm::json::Value> json = readJSON(path);
  if (!json.ok())
    return json.status();
  const llvm::json::Object *object = json->getAsObject();
  auto accuracy = object ? object->getNumber("acc") : std::nullopt;
  if (!accuracy || !(*accuracy >= 0 && *accuracy <= 1))
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": no 'acc' as `hadal-eval OUT --choices FILE --json` prints"));
  return 100 * *accuracy;
}

std::string advise::describeScaling(std::vector<ScalingPoint> points) {
  llvm::sort(points, [](const ScalingPoint &a, const ScalingPoint &b) {
    return a.parameters < b.parameters;
  });
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "  parameters  accuracy  gain for twice as many\n";
  std::optional<size_t> saturated;
  for (size_t i = 0; i < points.size(); ++i) {
    os << llvm::formatv("{0,10:f2} G  {1,7:f2}%", points[i].parameters * 1e-9,
                        points[i].accuracy);
    if (i) {
      double gain = (points[i].accuracy - points[i - 1].accuracy) /
                    std::log2(points[i].parameters / points[i - 1].parameters);
      os << llvm::formatv("  {0}{1:f2} points", gain < 0 ? "" : "+", gain);
      // A later gain says that it was not the end.
      if (gain >= 1)
        saturated.reset();
      else if (!saturated)
        saturated = i - 1;
    }
    os << '\n';
  }
  if (saturated)
    os << llvm::formatv("saturated at {0:f2} G: more gains less than one "
                        "percent point for twice the parameters\n",
                        points[*saturated].parameters * 1e-9);
  else
    os << "not saturated: larger models may still gain\n";
  return text;
}
