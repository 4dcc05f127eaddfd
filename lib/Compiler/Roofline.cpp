// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Predicts how long a step takes from what its dispatches read and compute.

#include "lib/Compiler/Roofline.h"

#include "absl/strings/str_cat.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"

#include <algorithm>
#include <cmath>
#include <tuple>

using namespace hadal;
using llvm::StringRef;

/// Tokens of the prefill, and tokens before either, that are predicted.
static constexpr int64_t prefillTokens = 512;
static constexpr int64_t depths[] = {0, 4096};

//===----------------------------------------------------------------------===//
// Machines
//===----------------------------------------------------------------------===//

/// Reads "37GB/s" for \p unit "B/s". A prefix is a power of 1000.
static std::optional<double> parseQuantity(StringRef text, StringRef unit) {
  if (!text.consume_back(unit))
    return std::nullopt;
  double scale = 1;
  if (!text.empty())
    if (double prefix = llvm::StringSwitch<double>(text.take_back(1))
                            .Case("u", 1e-6)
                            .Case("n", 1e-9)
                            .Case("m", 1e-3)
                            .Case("k", 1e3)
                            .Case("M", 1e6)
                            .Case("G", 1e9)
                            .Case("T", 1e12)
                            .Default(0)) {
      scale = prefix;
      text = text.drop_back();
    }
  double value;
  if (text.getAsDouble(value) || !std::isfinite(value) || value < 0)
    return std::nullopt;
  return value * scale;
}

static absl::Status parseItem(StringRef item, Machine &machine) {
  auto [key, text] = item.split('=');
  double *target = llvm::StringSwitch<double *>(key)
                       .Case("bandwidth", &machine.bytesPerSecond)
                       .Case("int8", &machine.int8OpsPerSecond)
                       .Case("f32", &machine.f32OpsPerSecond)
                       .Case("dispatch", &machine.dispatchSeconds)
                       .Default(nullptr);
  if (!target)
    return absl::InvalidArgumentError(absl::StrCat(
        "has '", item.str(),
        "', expected bandwidth=, int8=, f32= or dispatch= and a value"));
  const char *unit = key == "bandwidth"  ? "B/s"
                     : key == "int8"     ? "OPS"
                     : key == "dispatch" ? "s"
                                         : "FLOPS";
  std::optional<double> value = parseQuantity(text, unit);
  if (!value)
    return absl::InvalidArgumentError(absl::StrCat(
        "has '", item.str(), "', expected a number with the unit ", unit,
        ", as in ", key == "dispatch" ? "3u" : "2.5T", unit));
  *target = *value;
  return absl::OkStatus();
}

absl::StatusOr<Machine> hadal::readMachine(const llvm::json::Object &object,
                                           const std::string &path) {
  Machine machine;
  for (auto [key, target] :
       {std::pair("read_bytes_per_s", &machine.bytesPerSecond),
        std::pair("int8_operations_per_s", &machine.int8OpsPerSecond),
        std::pair("f32_operations_per_s", &machine.f32OpsPerSecond),
        std::pair("dispatch_s", &machine.dispatchSeconds)}) {
    const llvm::json::Object *samples = object.getObject(key);
    std::optional<double> value =
        samples ? samples->getNumber("median") : std::nullopt;
    if (!value)
      return absl::NotFoundError(
          absl::StrCat("names '", path, "', which has no '", key,
                       "' as `hadal-bench --json` prints it"));
    *target = *value;
  }
  // Programs of other processors, and of older compilers, have none of these.
  auto median = [](const llvm::json::Object &object, const char *key) {
    const llvm::json::Object *samples = object.getObject(key);
    return samples ? samples->getNumber("median").value_or(0) : 0;
  };
  auto forEach = [&](const char *key, auto body) {
    if (const llvm::json::Array *list = object.getArray(key))
      for (const llvm::json::Value &value : *list)
        if (const llvm::json::Object *item = value.getAsObject())
          body(*item);
  };
  forEach("caches", [&](const llvm::json::Object &item) {
    Machine::Cache cache = {item.getNumber("bytes").value_or(0),
                            median(item, "read_bytes_per_s")};
    if (cache.bytes > 0 && cache.bytesPerSecond > 0)
      machine.caches.push_back(cache);
  });
  machine.threads = object.getNumber("threads").value_or(0);
  for (auto [key, target] :
       {std::pair("exponentials_per_s", &machine.expsPerSecond),
        std::pair("rounded_per_s", &machine.roundedPerSecond),
        std::pair("handover_bytes_per_s", &machine.handoverBytesPerSecond),
        std::pair("rows_bytes_per_s", &machine.rowsBytesPerSecond)})
    *target = median(object, key);
  forEach("products", [&](const llvm::json::Object &item) {
    Machine::Products products = {
        item.getNumber("bits").value_or(0), median(item, "share_of_memory"),
        median(item, "row_bytes_per_s"), median(item, "operations_per_s")};
    if (products.bits > 0 && products.shareOfMemory > 0 &&
        products.rowBytesPerSecond > 0 && products.opsPerSecond > 0)
      machine.products.push_back(products);
  });
  return machine;
}

static absl::Status readBenchResult(const std::string &path, Machine &machine) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return absl::NotFoundError(
        absl::StrCat("names '", path,
                     "', which cannot be read: ", buffer.getError().message()));
  auto json = llvm::json::parse((*buffer)->getBuffer());
  if (!json) {
    llvm::consumeError(json.takeError());
    return absl::NotFoundError(
        absl::StrCat("names '", path, "', which is not JSON"));
  }
  const llvm::json::Object *object = json->getAsObject();
  absl::StatusOr<Machine> read =
      readMachine(object ? *object : llvm::json::Object(), path);
  if (!read.ok())
    return read.status();
  machine = *std::move(read);
  return absl::OkStatus();
}

absl::StatusOr<Machine> hadal::parseMachine(const std::string &text) {
  Machine machine;
  if (StringRef(text).contains('=')) {
    for (StringRef item : llvm::split(text, ','))
      if (absl::Status status = parseItem(item, machine); !status.ok())
        return status;
  } else if (absl::Status status = readBenchResult(text, machine);
             !status.ok()) {
    return status;
  }
  for (auto [key, value] : {std::pair("bandwidth", machine.bytesPerSecond),
                            std::pair("int8", machine.int8OpsPerSecond),
                            std::pair("f32", machine.f32OpsPerSecond)})
    if (!(value > 0))
      return absl::InvalidArgumentError(
          absl::StrCat("has no ", key, "=, or a ", key, " of zero"));
  return machine;
}

//===----------------------------------------------------------------------===//
// Prediction
//===----------------------------------------------------------------------===//

bool DispatchReport::isUsedIn(const StepShape &step) const {
  if (leastRows)
    return step.tokens >= leastRows;
  return !isAlternative && (!belowRows || step.tokens < belowRows);
}

WorkAmount DispatchReport::amountIn(const StepShape &step) const {
  double rows = double(outputs ? step.outputs : step.tokens);
  auto tokens = double(step.tokens), depth = double(step.depth);
  // The first `growing` tokens see all before them, the others a window.
  double growing = tokens, context = depth + tokens;
  if (windowTokens > 0) {
    growing = std::clamp(double(windowTokens) - depth, 0.0, tokens);
    context = std::min(context, double(windowTokens) - 1 + tokens);
  }
  double pairs = growing * (depth + (growing + 1) / 2) +
                 (tokens - growing) * double(windowTokens);
  double read = 1;
  // Of the experts, those that some row chose, if it chooses evenly.
  if (experts)
    read -= std::pow(1 - double(expertsPerRow) / double(experts), rows);
  WorkAmount amount;
  amount.bufferBytes = double(rowBytes) * rows;
  amount.bytes = (rows > 0 ? double(weights) * read : 0) + amount.bufferBytes +
                 double(contextBytes) * context;
  amount.int8Ops = double(rowInt8Ops) * rows;
  amount.f32Ops = double(rowF32Ops) * rows + double(contextF32Ops) * context +
                  double(pairF32Ops) * pairs;
  amount.exps = double(pairExps) * pairs;
  amount.rounded = double(rowRounded) * rows;
  return amount;
}

double DispatchReport::weightBits() const {
  double operations = double(rowInt8Ops ? rowInt8Ops : rowF32Ops);
  if (operations == 0)
    return 0;
  double read = double(weights);
  if (experts)
    read *= double(expertsPerRow) / double(experts);
  return 8 * read / (operations / 2);
}

namespace {

/// Dispatches of one op in one kind of layer, over a step.
struct PredictedOp {
  std::string layer, op;
  WorkAmount amount;
  double byteSeconds = 0, operationSeconds = 0, seconds = 0;

  const char *bound() const {
    return operationSeconds > byteSeconds ? "operations"
           : 2 * byteSeconds < seconds    ? "dispatch"
                                          : "bytes";
  }
};

struct Prediction {
  StepShape step;
  std::vector<PredictedOp> ops;
  PredictedOp total;
};

} // namespace

/// Where all that a step reads is when the next one reads it again: a cache
/// that holds it; null: memory.
static const Machine::Cache *findCache(const ModelReport &report,
                                       const StepShape &step) {
  double bytes = 0;
  for (DispatchReport dispatch : report.dispatches) {
    dispatch.experts = 0; // The next step chooses others.
    if (dispatch.isUsedIn(step))
      bytes += double(dispatch.count) * dispatch.amountIn(step).bytes;
  }
  for (const Machine::Cache &cache : report.machine->caches)
    if (bytes <= cache.bytes)
      return &cache;
  return nullptr;
}

/// What products of \p dispatch reach: those whose weights have the most
/// similar bits, of integers or of f32; null if it has none, or nothing is
/// known. Attention is like products of f32.
static const Machine::Products *findProducts(const Machine &machine,
                                             const DispatchReport &dispatch) {
  constexpr double f32Bits = 16;
  bool isF32 = !dispatch.rowInt8Ops;
  if (isF32 && !dispatch.rowF32Ops && !dispatch.pairF32Ops)
    return nullptr;
  const Machine::Products *nearest = nullptr;
  double bits = isF32 ? f32Bits : dispatch.weightBits();
  for (const Machine::Products &products : machine.products)
    if ((products.bits >= f32Bits) == isF32 &&
        (!nearest ||
         std::abs(products.bits - bits) < std::abs(nearest->bits - bits)))
      nearest = &products;
  return nearest;
}

/// Bytes a second of \p bytes of buffers of \p rows that threads with \p share
/// of the machine read and write in \p dispatch; \p before: the one before it,
/// or null.
static double bufferSpeed(const Machine &machine, double bytes, double rows,
                          double share, const DispatchReport &dispatch,
                          const DispatchReport *before) {
  auto cache = llvm::find_if(machine.caches, [&](const Machine::Cache &some) {
    return bytes <= some.bytes;
  });
  if (cache == machine.caches.end())
    return machine.bytesPerSecond * share;
  // A thread has the rows that it had before. Layers end with products.
  bool isLocal = dispatch.isByRow && before && before->isByRow &&
                 before->layer == dispatch.layer;
  if (machine.threads <= 1 || isLocal)
    return cache->bytesPerSecond * share;
  if (rows <= 1 && machine.handoverBytesPerSecond > 0)
    return machine.handoverBytesPerSecond;
  if (rows <= 1 || machine.rowsBytesPerSecond == 0)
    return machine.bytesPerSecond * share;
  if (dispatch.isByRow)
    return machine.rowsBytesPerSecond;
  // Products wait for half of them, and multiply meanwhile else.
  return std::min(machine.bytesPerSecond, 2 * machine.rowsBytesPerSecond);
}

/// Seconds of one call of \p dispatch, that does \p amount, all memory giving
/// what \p cache does, if that is not null; \p before: the one before it.
static PredictedOp predictCall(const Machine &machine,
                               const Machine::Cache *cache,
                               const DispatchReport &dispatch,
                               const WorkAmount &amount, double rows,
                               const DispatchReport *before) {
  // The thread that dispatches computes a single item without the others.
  bool isAlone = dispatch.isByRow && rows <= 1;
  double share = isAlone && machine.threads > 0 ? 1 / machine.threads : 1;
  double weights =
      cache ? cache->bytesPerSecond * share : machine.bytesPerSecond;
  double int8Ops = machine.int8OpsPerSecond, f32Ops = machine.f32OpsPerSecond;
  if (const Machine::Products *products = findProducts(machine, dispatch)) {
    // What a cache gives in part comes from memory.
    bool isHeld = cache && cache->bytesPerSecond > 1.5 * machine.bytesPerSecond;
    if (dispatch.weights)
      weights = std::min(isHeld ? weights : weights * products->shareOfMemory,
                         products->rowBytesPerSecond * share);
    (dispatch.rowInt8Ops ? int8Ops : f32Ops) = products->opsPerSecond;
  }
  PredictedOp call;
  call.amount = amount;
  double weightSeconds = (amount.bytes - amount.bufferBytes) / weights;
  double rowSeconds =
      amount.bufferBytes /
      bufferSpeed(machine, amount.bufferBytes, rows, share, dispatch, before);
  call.byteSeconds = weightSeconds + rowSeconds;
  auto addOperations = [&](double count, double perSecond) {
    if (perSecond > 0)
      call.operationSeconds += count / (perSecond * share);
  };
  addOperations(amount.int8Ops, int8Ops);
  addOperations(amount.f32Ops, f32Ops);
  addOperations(amount.exps, machine.expsPerSecond);
  addOperations(amount.rounded, machine.roundedPerSecond);
  // Weights come while others are multiplied; rows are read before and written
  // after, as a prediction that is no bound has it.
  call.seconds =
      machine.products.empty()
          ? std::max(call.byteSeconds, call.operationSeconds)
          : std::max(weightSeconds, call.operationSeconds) + rowSeconds;
  if (!isAlone)
    call.seconds += machine.dispatchSeconds;
  return call;
}

static Prediction predict(const ModelReport &report, const StepShape &step) {
  const Machine &machine = *report.machine;
  const Machine::Cache *cache = findCache(report, step);
  llvm::MapVector<std::pair<StringRef, StringRef>, PredictedOp> ops;
  Prediction result{step, {}, {}};
  const DispatchReport *before = nullptr;
  for (const DispatchReport &dispatch : report.dispatches) {
    if (!dispatch.isUsedIn(step))
      continue;
    double rows = double(dispatch.outputs ? step.outputs : step.tokens);
    PredictedOp call = predictCall(machine, cache, dispatch,
                                   dispatch.amountIn(step), rows, before);
    before = &dispatch;
    auto count = double(dispatch.count);
    PredictedOp &op = ops[{dispatch.layer, dispatch.op}];
    op.layer = dispatch.layer;
    op.op = dispatch.op;
    for (PredictedOp *sum : {&op, &result.total}) {
      sum->amount.bytes += count * call.amount.bytes;
      sum->amount.int8Ops += count * call.amount.int8Ops;
      sum->amount.f32Ops += count * call.amount.f32Ops;
      sum->byteSeconds += count * call.byteSeconds;
      sum->operationSeconds += count * call.operationSeconds;
      sum->seconds += count * call.seconds;
    }
  }
  for (auto &[key, op] : ops)
    result.ops.push_back(op);
  llvm::sort(result.ops, [](const PredictedOp &a, const PredictedOp &b) {
    return std::tie(b.seconds, a.layer, a.op) <
           std::tie(a.seconds, b.layer, b.op);
  });
  return result;
}

double ModelReport::predictSeconds(const StepShape &step) const {
  return predict(*this, step).total.seconds;
}

/// The steps that are predicted: those that fit into the context.
static std::vector<StepShape> getSteps(const ModelReport &report) {
  std::vector<StepShape> steps;
  for (int64_t tokens : {int64_t(1), prefillTokens})
    for (int64_t depth : depths)
      if (depth + tokens <= report.contextTokens)
        steps.push_back({tokens, depth, 1});
  return steps;
}

std::string hadal::predictText(const ModelReport &report) {
  const Machine &machine = *report.machine;
  std::string text;
  llvm::raw_string_ostream os(text);
  os << llvm::formatv(
            "\npredicted for {0:f1} GB/s, {1:f2} TOPS in int8, {2:f0} "
            "GFLOPS in f32, {3:f1} us a dispatch\n",
            machine.bytesPerSecond * 1e-9, machine.int8OpsPerSecond * 1e-12,
            machine.f32OpsPerSecond * 1e-9, machine.dispatchSeconds * 1e6)
            .str();
  for (const Machine::Cache &cache : machine.caches)
    os << llvm::formatv("{0:f1} MB, read again: {1:f1} GB/s\n",
                        cache.bytes * 1e-6, cache.bytesPerSecond * 1e-9)
              .str();
  for (const Machine::Products &products : machine.products)
    os << llvm::formatv("products of {0:f2} bits: {1:f0}% of that bandwidth, "
                        "{2:f1} GB/s of a cache, {3:f2} TOPS\n",
                        products.bits, products.shareOfMemory * 100,
                        products.rowBytesPerSecond * 1e-9,
                        products.opsPerSecond * 1e-12)
              .str();
  for (const StepShape &step : getSteps(report)) {
    Prediction prediction = predict(report, step);
    const PredictedOp &total = prediction.total;
    os << llvm::formatv("\n{0} of {1} after {2}: {3:f2} ms, {4:f1} tokens/s\n",
                        step.tokens == 1 ? "decode" : "prefill", step.tokens,
                        step.depth, total.seconds * 1e3,
                        double(step.tokens) / total.seconds)
              .str();
    os << llvm::formatv("  {0,-17} {1,-18} {2,7} {3,8} {4,6} {5,5}  {6}\n",
                        "layer", "op", "MB", "MOP", "ms", "share", "bound")
              .str();
    for (const PredictedOp &op : prediction.ops)
      if (double share = op.seconds / total.seconds; share >= 0.005)
        os << llvm::formatv("  {0,-17} {1,-18} {2,7:f1} {3,8:f0} {4,6:f1} "
                            "{5,4:f0}%  {6}\n",
                            StringRef(op.layer).take_front(17),
                            StringRef(op.op).take_front(18),
                            op.amount.bytes * 1e-6,
                            (op.amount.int8Ops + op.amount.f32Ops) * 1e-6,
                            op.seconds * 1e3, share * 100, op.bound())
                  .str();
  }
  return text;
}

static llvm::json::Object toObject(const PredictedOp &op) {
  return llvm::json::Object{{"bytes", op.amount.bytes},
                            {"int8_operations", op.amount.int8Ops},
                            {"f32_operations", op.amount.f32Ops},
                            {"seconds", op.seconds},
                            {"bound", op.bound()}};
}

llvm::json::Object hadal::predictJSON(const ModelReport &report) {
  const Machine &machine = *report.machine;
  llvm::json::Array steps;
  for (const StepShape &step : getSteps(report)) {
    Prediction prediction = predict(report, step);
    llvm::json::Array ops;
    for (const PredictedOp &op : prediction.ops) {
      llvm::json::Object object = toObject(op);
      object["layer"] = op.layer;
      object["op"] = op.op;
      ops.push_back(std::move(object));
    }
    llvm::json::Object object = toObject(prediction.total);
    object["kind"] = step.tokens == 1 ? "decode" : "prefill";
    object["tokens"] = step.tokens;
    object["depth"] = step.depth;
    object["tokens_per_s"] = double(step.tokens) / prediction.total.seconds;
    object["ops"] = std::move(ops);
    steps.push_back(std::move(object));
  }
  llvm::json::Array caches, products;
  for (const Machine::Cache &cache : machine.caches)
    caches.push_back(llvm::json::Object{
        {"bytes", cache.bytes}, {"read_bytes_per_s", cache.bytesPerSecond}});
  for (const Machine::Products &some : machine.products)
    products.push_back(
        llvm::json::Object{{"bits", some.bits},
                           {"share_of_memory", some.shareOfMemory},
                           {"row_bytes_per_s", some.rowBytesPerSecond},
                           {"operations_per_s", some.opsPerSecond}});
  return llvm::json::Object{
      {"machine",
       llvm::json::Object{{"read_bytes_per_s", machine.bytesPerSecond},
                          {"int8_operations_per_s", machine.int8OpsPerSecond},
                          {"f32_operations_per_s", machine.f32OpsPerSecond},
                          {"dispatch_s", machine.dispatchSeconds},
                          {"caches", std::move(caches)},
                          {"products", std::move(products)}}},
      {"steps", std::move(steps)}};
}
