// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Narrows gated networks by the channels that add the least to their output.

#include "passes/Passes.h"
#include "passes/Pruning/Pruner.h"

#include "lib/Support/CheckedMath.h"

namespace hadal {
#define GEN_PASS_DEF_PRUNECHANNELS
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

/// What is left is a multiple of this: the smallest group of integers.
static constexpr int64_t channelUnit = 32;

namespace {

struct PruneChannels : public hadal::impl::PruneChannelsBase<PruneChannels> {
  using PruneChannelsBase::PruneChannelsBase;

  void runOnOperation() override;

private:
  LogicalResult prune(Pruner &pruner, SwiGLUOp swiglu, PruneAmount amount);
  LogicalResult prune(Pruner &pruner, ExpertsOp experts, PruneAmount amount);
  FailureOr<int64_t> getKept(Operation *op, int64_t channels,
                             PruneAmount amount);
  LogicalResult cut(Pruner &pruner, Operation *op, Value gate, Value up,
                    Value down, int64_t keep);
};

} // namespace

/// Channels that stay, of \p channels.
FailureOr<int64_t> PruneChannels::getKept(Operation *op, int64_t channels,
                                          PruneAmount amount) {
  double gone = amount.count ? double(amount.count)
                             : double(channels) * amount.percent / 100;
  if (gone >= double(channels))
    return op->emitOpError("expects to keep channels, but of ")
           << channels << ", " << amount.count << " are to go";
  int64_t kept = roundUp(channels - int64_t(gone), channelUnit);
  if (kept < channels)
    return kept;
  op->emitRemark("keeps its ")
      << channels << " channels: what is left is a multiple of " << channelUnit;
  ++numDeclined;
  return channels;
}

LogicalResult PruneChannels::cut(Pruner &pruner, Operation *op, Value gate,
                                 Value up, Value down, int64_t keep) {
  FailureOr<PrunedWeight> gates = pruner.find(op, gate),
                          ups = pruner.find(op, up),
                          downs = pruner.find(op, down);
  if (failed(gates) || failed(ups) || failed(downs))
    return failure();
  SmallVector<WeightOp> importance;
  for (WeightOp weight : downs->weights)
    importance.push_back(pruner.makeChannelImportance(weight, 1));
  size_t rank = cast<RankedTensorType>(gate.getType()).getShape().size();
  pruner.select(*gates, rank - 2, keep, 1, importance);
  pruner.select(*ups, rank - 2, keep, 1, importance);
  pruner.select(*downs, rank - 1, keep, 1, importance);
  ++numNarrowed;
  return success();
}

LogicalResult PruneChannels::prune(Pruner &pruner, SwiGLUOp swiglu,
                                   PruneAmount amount) {
  auto gate = swiglu.getGate().getDefiningOp<LinearOp>();
  auto up = swiglu.getUp().getDefiningOp<LinearOp>();
  auto down = swiglu->hasOneUse() ? dyn_cast<LinearOp>(*swiglu->user_begin())
                                  : LinearOp();
  auto isPlain = [](LinearOp op) {
    return op && !op.getScales() && !op.getBias();
  };
  if (!isPlain(gate) || !isPlain(up) || !isPlain(down) || !gate->hasOneUse() ||
      !up->hasOneUse())
    return swiglu.emitOpError("expects products of its own around it, without "
                              "scales and biases, to take channels away");
  int64_t channels = cast<RankedTensorType>(swiglu.getType()).getShape().back();
  FailureOr<int64_t> keep = getKept(swiglu, channels, amount);
  if (failed(keep) || *keep == channels)
    return keep;
  if (failed(cut(pruner, swiglu, gate.getWeight(), up.getWeight(),
                 down.getWeight(), *keep)))
    return failure();
  for (Value value : {gate.getResult(), up.getResult(), swiglu.getResult()})
    Pruner::setColumns(value, *keep);
  return success();
}

LogicalResult PruneChannels::prune(Pruner &pruner, ExpertsOp experts,
                                   PruneAmount amount) {
  if (!experts.getScales().empty())
    return experts.emitOpError("expects weights without scales, to take "
                               "channels away");
  int64_t channels =
      cast<RankedTensorType>(experts.getDown().getType()).getShape().back();
  FailureOr<int64_t> keep = getKept(experts, channels, amount);
  if (failed(keep) || *keep == channels)
    return keep;
  return cut(pruner, experts, experts.getGate(), experts.getUp(),
             experts.getDown(), *keep);
}

void PruneChannels::runOnOperation() {
  std::string error;
  std::optional<PruneAmount> parsed =
      parsePruneAmount("channels", amount, error);
  if (!parsed) {
    emitError(getOperation().getLoc()) << error;
    return signalPassFailure();
  }
  Pruner pruner(getOperation());
  WalkResult result = getOperation().walk([&](Operation *op) {
    if (auto swiglu = dyn_cast<SwiGLUOp>(op))
      return WalkResult(prune(pruner, swiglu, *parsed));
    if (auto experts = dyn_cast<ExpertsOp>(op))
      return WalkResult(prune(pruner, experts, *parsed));
    return WalkResult::advance();
  });
  if (result.wasInterrupted())
    return signalPassFailure();
  pruner.finish();
  if (pruner.numMissing)
    getOperation().emitRemark("judges channels by their weights alone: nothing "
                              "says what they carry");
}
