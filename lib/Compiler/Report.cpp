// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Counts what a model holds and does, from its ops and their types alone.

#include "lib/Compiler/Report.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/RT/IR/RTOps.h"
#include "lib/Compiler/Roofline.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"

#include <map>
#include <tuple>

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

/// Tokens of the prompt that the report works out numbers for.
static constexpr int64_t reportTokens = 512;

//===----------------------------------------------------------------------===//
// Counting
//===----------------------------------------------------------------------===//

static RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

static int64_t elementsOf(Value value) {
  return typeOf(value).getNumElements();
}

static int64_t bytesOf(Value value) {
  return ceilDiv(
      elementsOf(value) * int64_t(typeOf(value).getElementTypeBitWidth()), 8);
}

static int64_t columnsOf(Value value) {
  return typeOf(value).getShape().back();
}

namespace {

class Counter {
public:
  Counter(ModuleOp module, ModelReport &report)
      : symbols(module), report(report) {}

  void run(ModelOp model) {
    auto entry = symbols.lookup<func::FuncOp>(model.getEntry());
    if (!entry || entry.isExternal())
      return;
    // What is not in a layer: the embedding table, the last norm, the head.
    LayerReport outer;
    outer.name = "embedding, head";
    llvm::MapVector<Operation *, int64_t> calls;
    llvm::DenseSet<Attribute> seen;
    for (Operation &op : entry.getBody().front()) {
      if (auto call = dyn_cast<func::CallOp>(op)) {
        if (auto callee = symbols.lookup<func::FuncOp>(call.getCallee()))
          ++calls[callee];
      } else {
        countOp(&op, outer);
        if (auto head = dyn_cast<LMHeadOp>(op))
          report.headFlops += 2 * elementsOf(head.getWeight());
        for (Value operand : op.getOperands())
          if (auto use = operand.getDefiningOp<UseWeightOp>())
            if (seen.insert(use.getNameAttr()).second)
              countWeight(operand, outer);
      }
    }
    for (auto [op, count] : calls) {
      auto function = cast<func::FuncOp>(op);
      if (function.isExternal())
        continue;
      LayerReport layer;
      layer.name = function.getSymName().str();
      layer.count = count;
      function.walk([&](Operation *op) { countOp(op, layer); });
      for (Value argument : function.getArguments())
        countWeight(argument, layer);
      function.walk([&](UseWeightOp use) { countWeight(use, layer); });
      report.layers.push_back(layer);
    }
    report.layers.push_back(outer);

    LayerReport &total = report.total;
    total = LayerReport();
    total.name = "total";
    for (const LayerReport &layer : report.layers) {
      total.parameters += layer.count * layer.parameters;
      total.activeParameters += layer.count * layer.activeParameters;
      total.flopsPerToken += layer.count * layer.flopsPerToken;
      total.attentionFlops += layer.count * layer.attentionFlops;
      total.selectedFlops += layer.count * layer.selectedFlops;
      total.selectedTokens =
          std::max(total.selectedTokens, layer.selectedTokens);
      total.weightBytes += layer.count * layer.weightBytes;
      total.activeBytes += layer.count * layer.activeBytes;
    }
    report.storage.clear();
    for (auto &[type, storage] : storageOf)
      report.storage.push_back(storage);
    llvm::sort(report.storage, [](const auto &a, const auto &b) {
      return std::tie(b.parameters, a.type) < std::tie(a.parameters, b.type);
    });
    for (Type type : entry.getArgumentTypes())
      if (auto cache = dyn_cast<KVCacheType>(type)) {
        describeCache(cache);
        report.indexBytesPerToken =
            cache.getLayers() * cache.getIndexDim() * int64_t(sizeof(float));
        report.kvBytesPerToken += report.indexBytesPerToken;
      } else if (auto cache = dyn_cast<CompressedCacheType>(type)) {
        report.cacheElement.clear();
        llvm::raw_string_ostream(report.cacheElement) << cache.getElement();
        report.kvBytesPerToken =
            cache.getElementsPerToken() *
            int64_t(cache.getElement().getIntOrFloatBitWidth() / 8);
      }
  }

private:
  void describeCache(KVCacheType cache) {
    int64_t elements =
        cache.getKind() == CacheKind::Latent
            ? cache.getKeyDim()
            : cache.getHeads() * (cache.getKeyDim() + cache.getValueDim());
    int64_t bytes =
        elements * int64_t(cache.getElement().getIntOrFloatBitWidth() / 8);
    if (cache.getGroup()) {
      bytes += elements / cache.getGroup() * int64_t(sizeof(float));
      report.cacheElement = llvm::formatv("int8-g{0}", cache.getGroup());
    } else {
      report.cacheElement.clear();
      llvm::raw_string_ostream(report.cacheElement) << cache.getElement();
    }
    report.kvBytesPerToken = cache.getLayers() * bytes;
  }

  /// Counts products of \p op, for one token.
  static void countOp(Operation *op, LayerReport &layer) {
    llvm::TypeSwitch<Operation *>(op)
        .Case([&](LinearOp op) {
          layer.flopsPerToken += 2 * elementsOf(op.getWeight());
        })
        .Case([&](HeadLinearOp op) {
          layer.flopsPerToken += 2 * elementsOf(op.getWeight());
        })
        .Case([&](LMHeadOp op) {
          layer.flopsPerToken += 2 * elementsOf(op.getWeight());
        })
        .Case([&](ExpertsOp op) {
          for (Value weight : {op.getGate(), op.getUp(), op.getDown()})
            layer.flopsPerToken += 2 * elementsOf(weight) /
                                   typeOf(weight).getDimSize(0) *
                                   columnsOf(op.getExperts());
        })
        .Case([&](AttentionOp op) {
          auto cache = cast<KVCacheType>(op.getCache().getType());
          layer.attentionFlops += 2 * int64_t(op.getHeads()) *
                                  (cache.getKeyDim() + cache.getValueDim());
        })
        .Case([&](SelectKeysOp op) {
          auto cache = cast<KVCacheType>(op.getCache().getType());
          layer.attentionFlops +=
              2 * int64_t(op.getHeads()) * cache.getIndexDim();
          layer.selectedTokens = int64_t(op.getTopK());
        })
        .Case([&](LatentAttentionOp op) {
          // Keys and values are made again for every token that is seen.
          (op.getSelected() ? layer.selectedFlops : layer.attentionFlops) +=
              2 * elementsOf(op.getKvB()) + 2 * columnsOf(op.getQuery()) +
              2 * columnsOf(op.getResult());
        })
        .Case([&](HyperMixOp op) {
          layer.flopsPerToken += 2 * elementsOf(op.getWeight());
        })
        .Case([&](HyperHeadOp op) {
          layer.flopsPerToken += 2 * elementsOf(op.getWeight());
        })
        .Case([&](SelectEntriesOp op) {
          layer.attentionFlops += 2 * columnsOf(op.getQuery()) /
                                  op.getCache().getType().getOverlapping();
        })
        .Case([&](CompressedAttentionOp op) {
          // A bounded number of keys, but where all entries are seen.
          int64_t perKey = 4 * columnsOf(op.getQuery());
          int64_t ratio = op.getRatio();
          layer.flopsPerToken += perKey * int64_t(op.getWindow());
          if (op.getSelected())
            layer.flopsPerToken += perKey * columnsOf(op.getSelected());
          else if (ratio)
            layer.attentionFlops += perKey / ratio;
        })
        .Case([&](AbsorbedAttentionOp op) {
          auto cache = cast<KVCacheType>(op.getCache().getType());
          (op.getSelected() ? layer.selectedFlops : layer.attentionFlops) +=
              2 * int64_t(op.getHeads()) *
              (cache.getKeyDim() + cache.getValueDim());
        });
  }

  /// Counts \p value, if it is a weight: a tensor whose rows are not tokens.
  void countWeight(Value value, LayerReport &layer) {
    auto type = dyn_cast<RankedTensorType>(value.getType());
    if (!type || !type.hasStaticShape() || value.use_empty())
      return;
    int64_t elements = elementsOf(value), bytes = bytesOf(value);
    int64_t activeElements = elements, activeBytes = bytes;
    bool isScale = true;
    Value scales, offsets;
    for (OpOperand &use : value.getUses()) {
      llvm::TypeSwitch<Operation *>(use.getOwner())
          .Case<LinearOp, HeadLinearOp, LMHeadOp, EmbedOp>([&](auto op) {
            isScale &= op.getScales() == value || op.getOffsets() == value;
            scales = op.getScales();
            offsets = op.getOffsets();
          })
          .Case([&](ExpertsOp experts) {
            bool isUsedAsScale =
                llvm::is_contained(experts.getScales(), value) ||
                llvm::is_contained(experts.getOffsets(), value);
            isScale &= isUsedAsScale;
            unsigned matrix = use.getOperandNumber() -
                              experts.getGateMutable().getOperandNumber();
            if (matrix < experts.getScales().size())
              scales = experts.getScales()[matrix];
            offsets = experts.getOffsetsOf(matrix);
            int64_t of = type.getDimSize(0);
            int64_t used = std::min(of, columnsOf(experts.getExperts()));
            activeElements = elements / of * used;
            activeBytes = bytes / of * used;
          })
          .Default([&](Operation *) { isScale = false; });
    }
    // A token reads one row of the embedding table.
    if (llvm::all_of(value.getUsers(),
                     [](Operation *user) { return isa<EmbedOp>(user); }))
      activeBytes = bytes / type.getDimSize(0);
    layer.weightBytes += bytes;
    layer.activeBytes += activeBytes;
    if (isScale)
      return;
    layer.parameters += elements;
    layer.activeParameters += activeElements;
    std::string name = getStoredType(value, scales);
    StorageReport &storage = storageOf[name];
    storage.type = name;
    storage.parameters += layer.count * elements;
    storage.bytes += layer.count * (bytes + (scales ? bytesOf(scales) : 0) +
                                    (offsets ? bytesOf(offsets) : 0));
  }

  /// The name of the type of \p value with \p scales, if it has any, as
  /// --quantize has it.
  static std::string getStoredType(Value value, Value scales) {
    Type element = getElementTypeOrSelf(value);
    if (element.isInteger() && scales)
      return llvm::formatv("int{0}-g{1}", element.getIntOrFloatBitWidth(),
                           getScaleGroup(value, scales));
    if (isa<Float8E4M3FNType>(element))
      return llvm::formatv("fp8-{0}x{0}", fp8BlockSize);
    std::string name;
    llvm::raw_string_ostream(name) << element;
    return name;
  }

  SymbolTable symbols;
  ModelReport &report;
  std::map<std::string, StorageReport> storageOf;
};

} // namespace

void hadal::countModel(ModuleOp module, ModelReport &report) {
  auto models = module.getOps<ModelOp>();
  if (models.empty())
    return;
  ModelOp model = *models.begin();
  report.name = model.getSymName().str();
  if (auto type = model.getInfo().getAs<StringAttr>("model_type"))
    report.type = type.str();
  report.contextTokens = int64_t(model.getContextLength());
  report.layers.clear();
  report.headFlops = 0;
  report.windowTokens = report.sinkTokens = 0;
  if (WindowAttr window = getCommonWindow(module);
      window && window.getTokens() < report.contextTokens) {
    report.windowTokens = window.getTokens();
    report.sinkTokens = window.getSink();
  }
  Counter(module, report).run(model);
}

void hadal::addMemory(ModuleOp module, ModelReport &report) {
  for (auto program : module.getOps<rt::ProgramOp>()) {
    report.weightsBytes = int64_t(program.getWeightsBytes());
    report.pageTokens = int64_t(program.getPageTokens());
    report.pageBytes = int64_t(program.getPageBytes());
    report.arenaPerToken = int64_t(program.getArenaPerToken());
    report.arenaFixed = int64_t(program.getArenaFixed());
  }
}

//===----------------------------------------------------------------------===//
// Numbers worked out
//===----------------------------------------------------------------------===//

int64_t ModelReport::seenTokens(int64_t position) const {
  return windowTokens ? std::min(position + 1, windowTokens + sinkTokens)
                      : position + 1;
}

int64_t ModelReport::pagesOfSequence(int64_t tokens) const {
  int64_t pages = ceilDiv(contextTokens, pageTokens);
  if (!windowTokens)
    return pages;
  // As the runtime plans it: see makePlan() of runtime/src/Session.cpp.
  return std::min(pages, ceilDiv(sinkTokens, pageTokens) + 1 +
                             ceilDiv(windowTokens + tokens - 2, pageTokens));
}

int64_t ModelReport::decodeFlops(int64_t position) const {
  return total.flopsPerToken + total.attentionFlops * seenTokens(position) +
         total.selectedFlops * std::min(position + 1, total.selectedTokens);
}

/// Pairs of one of \p tokens and one that it sees, if those are at most
/// \p most.
static int64_t countPairs(int64_t tokens, int64_t most) {
  int64_t full = std::min(tokens, most);
  return full * (full + 1) / 2 + (tokens - full) * most;
}

int64_t ModelReport::prefillFlops(int64_t tokens) const {
  return (total.flopsPerToken - headFlops) * tokens + headFlops +
         total.attentionFlops * countPairs(tokens, seenTokens(tokens)) +
         total.selectedFlops * countPairs(tokens, total.selectedTokens);
}

int64_t ModelReport::decodeBytes(int64_t position) const {
  int64_t seen = seenTokens(position) - 1;
  int64_t read =
      total.selectedTokens ? std::min(seen, total.selectedTokens) : seen;
  return total.activeBytes + indexBytesPerToken * seen +
         (kvBytesPerToken - indexBytesPerToken) * read;
}

int64_t ModelReport::prefillBytes(int64_t tokens) const {
  // Each weight once; of the experts, those that the tokens may choose.
  int64_t bytes = 0;
  for (const LayerReport &layer : layers)
    bytes +=
        layer.count * std::min(layer.weightBytes, layer.activeBytes * tokens);
  return bytes + kvBytesPerToken * tokens;
}

int64_t ModelReport::peakBytes(int64_t tokens) const {
  if (!pageTokens)
    return 0;
  return arenaPerToken * tokens + arenaFixed +
         maxBatch * pagesOfSequence(tokens) * pageBytes;
}

//===----------------------------------------------------------------------===//
// Forms
//===----------------------------------------------------------------------===//

/// Three digits and a unit: "1.23 G".
static std::string shorten(double value) {
  const char *units[] = {"", " k", " M", " G", " T", " P"};
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  if (unit == 0)
    return llvm::formatv("{0}", int64_t(value));
  int digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return llvm::formatv(digits == 2   ? "{0:f2}{1}"
                       : digits == 1 ? "{0:f1}{1}"
                                     : "{0:f0}{1}",
                       value, units[unit])
      .str();
}

/// What lossy options of \p report save and cost.
static std::string lossText(const ModelReport &report, const LossReport &loss) {
  auto share = [](int64_t now, int64_t before) {
    return llvm::formatv("{0:f1} %", 100 * (double(now) / double(before) - 1))
        .str();
  };
  std::string gates;
  if (loss.skippedShare > 0)
    gates = llvm::formatv("  layers with a gate: {0:f1} % skipped, which saves "
                          "{1:f1} % of all operations\n",
                          100 * loss.skippedShare, 100 * loss.savedShare);
  return llvm::formatv(
      "\nagainst the model without lossy options, on the calibration's {0} "
      "tokens:\n  parameters {1}, FLOPs of decode {2}, bytes of weights {3}\n"
      "  perplexity {4:f3} from {5:f3}, KL divergence {6:f4}, same first "
      "choice "
      "{7:f1} %\n{8}",
      loss.tokens, share(report.total.parameters, loss.baseParameters),
      share(report.decodeFlops(0), loss.baseFlops),
      share(report.total.weightBytes, loss.baseWeightBytes), loss.perplexity,
      loss.basePerplexity, loss.klDivergence, 100 * loss.topAgreement, gates);
}

/// Which experts have become one. Those that are alone are left out.
static std::string mergedText(ArrayRef<MergedLayer> layers) {
  std::string text = "\nexperts merged: each with its share of what the text's "
                     "tokens gave to its layer's, and how\nalike it is to the "
                     "one of them with the most\n";
  for (const MergedLayer &layer : layers) {
    int64_t before = 0;
    for (const auto &members : layer.experts)
      before += int64_t(members.size());
    text += llvm::formatv("  {0}: {1} of {2}", layer.router,
                          layer.experts.size(), before);
    for (const auto &members : layer.experts) {
      if (members.size() < 2)
        continue;
      const char *between = "; ";
      for (const MergedExpert &member : members) {
        text +=
            llvm::formatv("{0}{1} ({2:f1} %, {3:f2})", between, member.number,
                          100 * member.massShare, member.similarity);
        between = " + ";
      }
    }
    text += '\n';
  }
  return text;
}

static llvm::json::Array mergedJSON(ArrayRef<MergedLayer> layers) {
  llvm::json::Array all;
  for (const MergedLayer &layer : layers) {
    llvm::json::Array experts;
    for (const auto &members : layer.experts) {
      llvm::json::Array of;
      for (const MergedExpert &member : members)
        of.push_back(llvm::json::Object{{"expert", member.number},
                                        {"mass_share", member.massShare},
                                        {"similarity", member.similarity}});
      experts.push_back(std::move(of));
    }
    all.push_back(llvm::json::Object{{"router", layer.router},
                                     {"experts", std::move(experts)}});
  }
  return all;
}

std::string ModelReport::toText() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  auto line = [&](StringRef label, const std::string &value,
                  const std::string &note = "") {
    os << llvm::formatv("{0,-28} {1,10}{2}", label, value,
                        note.empty() ? "" : "  " + note)
              .str()
       << '\n';
  };
  os << name << (type.empty() ? "" : " (" + type + ")") << "\n\n";
  line("parameters", shorten(double(total.parameters)));
  line("  active, per token", shorten(double(total.activeParameters)));
  line("FLOPs, decode", shorten(double(decodeFlops(0))),
       "+ " + shorten(double(total.attentionFlops)) + " per token before" +
           (total.selectedTokens
                ? " and " + shorten(double(total.selectedFlops)) +
                      " per selected one"
                : ""));
  line("FLOPs, prefill of 512", shorten(double(prefillFlops(reportTokens))));
  line("bytes read, decode", shorten(double(decodeBytes(0))) + "B",
       "+ " +
           (indexBytesPerToken ? shorten(double(indexBytesPerToken)) +
                                     "B per token before and "
                               : "") +
           shorten(double(kvBytesPerToken - indexBytesPerToken)) +
           (indexBytesPerToken ? "B per selected one" : "B per token before"));
  line("bytes read, prefill of 512",
       shorten(double(prefillBytes(reportTokens))) + "B");
  line("weights", shorten(double(total.weightBytes)) + "B",
       weightsBytes ? llvm::formatv("{0} bytes in the file", weightsBytes).str()
                    : "");
  line("KV cache, per token", shorten(double(kvBytesPerToken)) + "B",
       pageTokens ? llvm::formatv("in {0}, pages of {1} tokens, {2} bytes",
                                  cacheElement, pageTokens, pageBytes)
                        .str()
                  : "in " + cacheElement);
  if (pageTokens) {
    os << llvm::formatv("\nmemory of a session, besides weights: {0} * t + {1} "
                        "bytes for steps of t\ntokens, and {2} bytes per KV "
                        "page of {3} tokens of a sequence.\n",
                        arenaPerToken, arenaFixed, pageBytes, pageTokens)
              .str();
    if (windowTokens)
      os << llvm::formatv("A token sees the {0} latest tokens and the first "
                          "{1}: a sequence holds\n{2} + ceil(({0} + t - 2) / "
                          "{3}) + 1 pages at most.\n",
                          windowTokens, sinkTokens,
                          ceilDiv(sinkTokens, pageTokens), pageTokens)
                .str();
    os << llvm::formatv("At t = {0}, context {1}, {2} sequence{3}: {4}B\n",
                        reportTokens, contextTokens, maxBatch,
                        maxBatch == 1 ? "" : "s",
                        shorten(double(peakBytes(reportTokens))))
              .str();
  }
  if (!storage.empty())
    os << llvm::formatv("\n{0,-28} {1,10} {2,11} {3,12}\n", "stored as",
                        "parameters", "bytes", "bits/weight")
              .str();
  for (const StorageReport &of : storage)
    os << llvm::formatv("  {0,-26} {1,10} {2,11} {3,12:f2}\n", of.type,
                        shorten(double(of.parameters)),
                        shorten(double(of.bytes)) + "B", of.bitsPerWeight())
              .str();
  os << llvm::formatv("\n{0,-24} {1,5} {2,11} {3,11} {4,11} {5,11}\n", "layer",
                      "count", "parameters", "active", "FLOPs/token", "weights")
            .str();
  auto row = [&](const LayerReport &layer) {
    os << llvm::formatv("{0,-24} {1,5} {2,11} {3,11} {4,11} {5,11}\n",
                        StringRef(layer.name).take_front(24), layer.count,
                        shorten(double(layer.parameters)),
                        shorten(double(layer.activeParameters)),
                        shorten(double(layer.flopsPerToken)),
                        shorten(double(layer.weightBytes)) + "B")
              .str();
  };
  for (const LayerReport &layer : layers)
    row(layer);
  row(total);
  if (!merged.empty())
    os << mergedText(merged);
  if (loss)
    os << lossText(*this, *loss);
  if (machine)
    os << predictText(*this);
  return text;
}

static llvm::json::Object lossJSON(const LossReport &loss) {
  return llvm::json::Object{{"text_tokens", loss.tokens},
                            {"perplexity", loss.perplexity},
                            {"base_perplexity", loss.basePerplexity},
                            {"kl_divergence", loss.klDivergence},
                            {"top_1_agreement", loss.topAgreement},
                            {"skipped_share", loss.skippedShare},
                            {"saved_share", loss.savedShare},
                            {"base_parameters", loss.baseParameters},
                            {"base_decode_flops", loss.baseFlops},
                            {"base_weight_bytes", loss.baseWeightBytes}};
}

static llvm::json::Object toObject(const LayerReport &layer) {
  return llvm::json::Object{
      {"name", layer.name},
      {"count", layer.count},
      {"parameters", layer.parameters},
      {"active_parameters", layer.activeParameters},
      {"flops_per_token", layer.flopsPerToken},
      {"attention_flops_per_token_pair", layer.attentionFlops},
      {"attention_flops_per_selected_token", layer.selectedFlops},
      {"selected_tokens", layer.selectedTokens},
      {"weight_bytes", layer.weightBytes},
      {"active_weight_bytes", layer.activeBytes}};
}

std::string ModelReport::toJSON() const {
  llvm::json::Array rows;
  for (const LayerReport &layer : layers)
    rows.push_back(toObject(layer));
  llvm::json::Array stored;
  for (const StorageReport &of : storage)
    stored.push_back(
        llvm::json::Object{{"type", of.type},
                           {"parameters", of.parameters},
                           {"bytes", of.bytes},
                           {"bits_per_weight", of.bitsPerWeight()}});
  llvm::json::Object object{
      {"name", name},
      {"model_type", type},
      {"parameters", total.parameters},
      {"active_parameters", total.activeParameters},
      {"context_tokens", contextTokens},
      {"max_batch", maxBatch},
      {"decode",
       llvm::json::Object{{"flops", decodeFlops(0)},
                          {"flops_per_token_before", total.attentionFlops},
                          {"bytes", decodeBytes(0)},
                          {"bytes_per_token_before", kvBytesPerToken}}},
      {"prefill", llvm::json::Object{{"tokens", reportTokens},
                                     {"flops", prefillFlops(reportTokens)},
                                     {"bytes", prefillBytes(reportTokens)}}},
      {"weight_bytes", total.weightBytes},
      {"storage", std::move(stored)},
      {"kv_type", cacheElement},
      {"kv_bytes_per_token", kvBytesPerToken},
      {"index_bytes_per_token", indexBytesPerToken},
      {"layers", std::move(rows)}};
  if (pageTokens)
    object["memory"] = llvm::json::Object{
        {"weights_section_bytes", weightsBytes},
        {"page_tokens", pageTokens},
        {"page_bytes", pageBytes},
        {"arena_bytes_per_token", arenaPerToken},
        {"arena_bytes_fixed", arenaFixed},
        {"window_tokens", windowTokens},
        {"sink_tokens", sinkTokens},
        {"pages_of_sequence_for_steps_of_512", pagesOfSequence(reportTokens)},
        {"peak_bytes_for_steps_of_512", peakBytes(reportTokens)}};
  if (!merged.empty())
    object["merged_experts"] = mergedJSON(merged);
  if (loss)
    object["loss"] = lossJSON(*loss);
  if (machine)
    object["prediction"] = predictJSON(*this);
  return llvm::formatv("{0}", llvm::json::Value(std::move(object))).str();
}
