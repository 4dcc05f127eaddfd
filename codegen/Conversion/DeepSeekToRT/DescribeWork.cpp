// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Says of dispatches what they read and compute. The rule is one for all ops
// that read weights in tiles, so that an op that joins several products needs
// none of its own.

#include "codegen/Conversion/DeepSeekToRT/DescribeWork.h"

#include "codegen/Conversion/DeepSeekToRT/KernelBuilder.h"
#include "codegen/Conversion/DeepSeekToRT/Kernels.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/RT/IR/RTOps.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

LinearOp hadal::addedProduct(AddOp op) {
  for (Value operand : {op.getRhs(), op.getLhs()}) {
    auto product = operand.getDefiningOp<LinearOp>();
    if (product && product->hasOneUse() &&
        getElementTypeOrSelf(product.getWeight()).isInteger() &&
        cast<RankedTensorType>(operand.getType()).getShape().back() %
                tileRows ==
            0)
      return product;
  }
  return {};
}

static int64_t bytesOf(ShapedType type) {
  return type.getNumElements() * type.getElementTypeBitWidth() / 8;
}

/// Whether \p operand of \p op is what integers are scaled or shifted by, not
/// a matrix.
static bool isScaleOrOffset(Operation *op, Value operand) {
  return TypeSwitch<Operation *, bool>(op)
      .Case<EmbedOp, LinearOp, HeadLinearOp, LMHeadOp>([&](auto op) {
        return operand == op.getScales() || operand == op.getOffsets();
      })
      .Case([&](ExpertsOp op) {
        return llvm::is_contained(op.getScales(), operand) ||
               llvm::is_contained(op.getOffsets(), operand);
      })
      .Default(false);
}

/// Whether \p op reads rows of its static operands, one a token, not all.
static bool readsRowsOfTables(Operation *op) {
  return isa<EmbedOp, RotaryOp, AdaptOp>(op);
}

/// Bytes of \p buffer that one row of the step reads or writes; 0 if it does
/// not grow with them.
static int64_t rowBytesOf(Value buffer) {
  auto type = cast<MemRefType>(buffer.getType());
  if (type.getRank() == 0 || !type.isDynamicDim(0))
    return 0;
  if (auto alloc = buffer.getDefiningOp<rt::AllocOp>())
    return int64_t(alloc.getPerToken());
  return bytesOf(type.clone(type.getShape().drop_front().empty()
                                ? ArrayRef<int64_t>(1)
                                : type.getShape().drop_front(),
                            type.getElementType()));
}

/// A buffer that is not of the arena: a weight.
static bool isWeight(Value buffer) {
  return cast<MemRefType>(buffer.getType()).hasStaticShape() &&
         !buffer.getDefiningOp<rt::AllocOp>();
}

namespace {

/// The fields of an `rt::WorkAttr`.
struct Work {
  int64_t weights = 0, experts = 0, expertsPerRow = 0;
  int64_t rowBytes = 0, contextBytes = 0, windowTokens = 0;
  int64_t rowF32Ops = 0, rowInt8Ops = 0, pairF32Ops = 0;
  int64_t contextF32Ops = 0, pairExps = 0, rowRounded = 0, leastRows = 0;
  /// The operands of the op whose products these are.
  SmallVector<Value> read;
};

} // namespace

/// Adds the products of \p op with weight \p operand, `[.., rows, inner]`.
static void addProduct(Operation *op, Value operand, Work &work) {
  auto type = cast<RankedTensorType>(operand.getType());
  int64_t operations = 2 * type.getNumElements();
  if (auto experts = dyn_cast<ExpertsOp>(op))
    operations = operations / type.getDimSize(0) *
                 cast<RankedTensorType>(experts.getExperts().getType())
                     .getShape()
                     .back();
  (op->hasAttr("activation_group") ? work.rowInt8Ops : work.rowF32Ops) +=
      operations;
}

/// Adds attention of \p heads over \p cache, read by a dispatch that takes the
/// query.
static void addAttention(KVCacheType cache, int64_t heads, Work &work) {
  work.pairF32Ops += 2 * heads * (cache.getKeyDim() + cache.getValueDim());
  // Over latents a vector has the heads of one pair, else pairs of one head.
  bool isLatent = cache.getKind() == CacheKind::Latent;
  work.pairExps +=
      isLatent
          ? int64_t(llvm::alignTo(uint64_t(heads), KernelBuilder::maxLanes))
          : heads;
  PageLayout page = PageLayout::get(cache, /*pageTokens=*/32);
  int64_t bytes = page.indexDim ? page.indexOffsetBytes() : page.layerBytes();
  work.contextBytes += bytes / page.pageTokens;
}

/// Adds the scores of an indexer, read by the dispatch that takes its query.
static void addScores(SelectKeysOp op, Work &work) {
  auto cache = cast<KVCacheType>(op.getCache().getType());
  work.pairF32Ops += 2 * int64_t(op.getHeads()) * cache.getIndexDim();
  work.contextBytes += cache.getIndexDim() * int64_t(sizeof(float));
}

/// The attention that \p dispatch computes for long runs of rows in place of
/// what \p op is the end of; null if it does not.
static AbsorbedAttentionOp getExpanded(Operation *op, rt::DispatchOp dispatch,
                                       const IRMapping &mapping) {
  auto value = dyn_cast<HeadLinearOp>(op);
  auto attention =
      value ? value.getInput().getDefiningOp<AbsorbedAttentionOp>() : nullptr;
  if (!attention ||
      !llvm::is_contained(dispatch.getArguments(),
                          mapping.lookupOrNull(attention.getRopeQuery())))
    return nullptr;
  return attention;
}

/// Adds what \p dispatch computes in place of \p attention and of \p value,
/// for rows that see keys and values of their own.
static void addExpanded(AbsorbedAttentionOp attention, HeadLinearOp value,
                        Work &work) {
  auto columnsOf = [](Value rows) {
    return cast<RankedTensorType>(rows.getType()).getDimSize(1);
  };
  addAttention(cast<KVCacheType>(attention.getCache().getType()), 0, work);
  work.pairF32Ops +=
      2 * (columnsOf(attention.getRopeQuery()) + columnsOf(value.getResult()));
  work.pairExps += int64_t(attention.getHeads());
  // Each item computes keys and values of all that it sees.
  auto key = attention.getQuery().getDefiningOp<HeadLinearOp>();
  for (HeadLinearOp product : {key, value})
    work.contextF32Ops +=
        2 *
        cast<RankedTensorType>(product.getWeight().getType()).getNumElements();
  work.leastRows = ExpandedShape::leastRows;
}

static Work getWork(Operation *op, rt::DispatchOp dispatch,
                    const IRMapping &mapping) {
  Work work;
  auto takes = [&](Value operand) {
    Value buffer = mapping.lookupOrNull(operand);
    return buffer && llvm::is_contained(dispatch.getArguments(), buffer);
  };
  auto select = dyn_cast<SelectKeysOp>(op);
  for (Value argument : dispatch.getArguments()) {
    auto type = dyn_cast<MemRefType>(argument.getType());
    if (!type)
      continue;
    // Rows of scores are as long as the context can be; most is not used.
    if (select && argument.getDefiningOp<rt::AllocOp>() &&
        argument != mapping.lookupOrNull(select.getSelected()) &&
        llvm::none_of(op->getOperands(), [&](Value operand) {
          return mapping.lookupOrNull(operand) == argument;
        }))
      continue;
    if (!isWeight(argument))
      work.rowBytes += rowBytesOf(argument);
    else if (readsRowsOfTables(op))
      work.rowBytes += bytesOf(type) / type.getDimSize(0);
    else
      work.weights += bytesOf(type);
  }
  if (dispatch.getKernel().contains("quantize_rows"))
    for (Value argument : dispatch.getArguments())
      if (auto type = dyn_cast<MemRefType>(argument.getType());
          type && type.getElementType().isF32() && !isWeight(argument)) {
        work.rowRounded = rowBytesOf(argument) / int64_t(sizeof(float));
        break; // Scales come behind.
      }
  if (AbsorbedAttentionOp attention = getExpanded(op, dispatch, mapping)) {
    addExpanded(attention, cast<HeadLinearOp>(op), work);
    return work;
  }
  // A gated product reads the weights of the two that it gates, a sum with a
  // product those of the product.
  SmallVector<std::pair<Operation *, Value>> operands;
  for (Value operand : op->getOperands()) {
    operands.emplace_back(op, operand);
    if (auto product = operand.getDefiningOp<LinearOp>();
        product && isa<SwiGLUOp, AddOp>(op))
      for (Value inner : product->getOperands())
        operands.emplace_back(product, inner);
  }
  for (auto [reader, operand] : operands) {
    auto type = dyn_cast<RankedTensorType>(operand.getType());
    if (!type || !isa_and_nonnull<TiledAttr>(type.getEncoding()) ||
        !takes(operand) || readsRowsOfTables(op))
      continue;
    if (!isScaleOrOffset(reader, operand)) {
      addProduct(reader, operand, work);
      work.read.push_back(operand);
    }
    if (auto experts = dyn_cast<ExpertsOp>(op)) {
      work.experts = type.getDimSize(0);
      // Of fewer, merged, a token may choose one more than once.
      work.expertsPerRow = std::min(
          work.experts, cast<RankedTensorType>(experts.getExperts().getType())
                            .getShape()
                            .back());
    }
  }
  TypeSwitch<Operation *>(op).Case<AttentionOp, AbsorbedAttentionOp>(
      [&](auto attention) {
        if (!takes(attention.getQuery()))
          return;
        addAttention(cast<KVCacheType>(attention.getCache().getType()),
                     attention.getHeads(), work);
        if (WindowAttr window = attention.getWindowAttr())
          work.windowTokens = window.getTokens() + window.getSink();
        if constexpr (std::is_same_v<decltype(attention), AbsorbedAttentionOp>)
          if (Value selected = attention.getSelected())
            work.windowTokens =
                cast<RankedTensorType>(selected.getType()).getShape().back();
        work.read.push_back(attention.getQuery());
      });
  if (select && takes(select.getQuery()))
    addScores(select, work);
  return work;
}

/// The arguments of \p dispatch that hold results of \p op in f32, each with
/// its columns.
static SmallVector<int64_t> getResultBuffers(Operation *op,
                                             rt::DispatchOp dispatch,
                                             const IRMapping &mapping) {
  SmallVector<int64_t> pairs;
  for (Value result : op->getResults()) {
    auto type = dyn_cast<RankedTensorType>(result.getType());
    Value buffer = mapping.lookupOrNull(result);
    auto argument = llvm::find(dispatch.getArguments(), buffer);
    // What is rounded where it is computed has no f32 anywhere.
    if (type && buffer && type.getElementType().isF32() &&
        argument != dispatch.getArguments().end() &&
        getElementTypeOrSelf(buffer.getType()).isF32())
      pairs.append(
          {argument - dispatch.getArguments().begin(), type.getShape().back()});
  }
  return pairs;
}

/// Says of the dispatches that leave long runs of rows to \p expanded that they
/// do: they take what `find_runs` found.
static void describeRuns(rt::DispatchOp expanded) {
  auto limit = [](rt::DispatchOp dispatch) {
    rt::WorkAttr work = dispatch.getWorkAttr();
    if (!work || work.getLeastRows())
      return;
    dispatch.setWorkAttr(rt::WorkAttr::get(
        work.getContext(), work.getOp(), work.getOutputs(), work.getSelected(),
        work.getAlternative(), work.getWeights(), work.getExperts(),
        work.getExpertsPerRow(), work.getRowBytes(), work.getContextBytes(),
        work.getWindowTokens(), work.getRowF32Ops(), work.getRowInt8Ops(),
        work.getPairF32Ops(), work.getContextF32Ops(), work.getPairExps(),
        work.getRowRounded(), /*leastRows=*/0, ExpandedShape::leastRows));
  };
  auto isFinder = [](rt::DispatchOp dispatch) {
    return dispatch.getKernel() == "find_runs";
  };
  for (Value ends : expanded.getArguments())
    for (Operation *user : ends.getUsers()) {
      auto finder = dyn_cast<rt::DispatchOp>(user);
      if (!finder || !isFinder(finder))
        continue;
      for (Value found : finder.getArguments())
        if (isa_and_nonnull<rt::AllocOp>(found.getDefiningOp()))
          for (Operation *reader : found.getUsers())
            if (auto dispatch = dyn_cast<rt::DispatchOp>(reader);
                dispatch && !isFinder(dispatch))
              limit(dispatch);
    }
}

void hadal::describeWork(Operation *op,
                         llvm::iterator_range<Block::iterator> made,
                         const IRMapping &mapping, WorkRows rows) {
  Operation *named = op;
  if (auto sum = dyn_cast<AddOp>(op))
    if (LinearOp product = addedProduct(sum))
      named = product;
  // What takes the same weights or query as a later dispatch is for steps of
  // other sizes.
  llvm::SmallDenseSet<Value> taken;
  for (Operation &one : llvm::reverse(made)) {
    auto dispatch = dyn_cast<rt::DispatchOp>(one);
    if (!dispatch)
      continue;
    Work work = getWork(op, dispatch, mapping);
    bool isAlternative = !work.read.empty();
    for (Value value : work.read)
      isAlternative &= !taken.insert(value).second;
    if (getExpanded(op, dispatch, mapping))
      isAlternative = true;
    dispatch.setWorkAttr(rt::WorkAttr::get(
        op->getContext(), named->getName().stripDialect(),
        rows == WorkRows::Outputs, rows == WorkRows::Selected, isAlternative,
        work.weights, work.experts, work.expertsPerRow, work.rowBytes,
        work.contextBytes, work.windowTokens, work.rowF32Ops, work.rowInt8Ops,
        work.pairF32Ops, work.contextF32Ops, work.pairExps, work.rowRounded,
        work.leastRows, /*belowRows=*/0));
    // A sum that is named for its product is not that product's result.
    if (named != op)
      continue;
    if (auto pairs = getResultBuffers(op, dispatch, mapping); !pairs.empty())
      dispatch.setResultBuffers(pairs);
  }
  for (Operation &one : made)
    if (auto dispatch = dyn_cast<rt::DispatchOp>(one);
        dispatch && getExpanded(op, dispatch, mapping))
      describeRuns(dispatch);
}
