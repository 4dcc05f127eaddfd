// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Verifiers of attention over compressed entries.

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/IR/VerifyShapes.h"

using namespace mlir;
using namespace hadal::deepseek;

LogicalResult CompressOp::verify() {
  CompressedCacheType cache = getCache().getType();
  int64_t ratio = getRatio();
  bool isIndex = getPart() == CachePart::Index;
  if (ratio <= 0 || !cache.countLayers(ratio) ||
      (isIndex && !isOverlapping())) // C1
    return emitOpError("expects the ratio of a layer of the cache, for ")
           << stringifyCachePart(getPart()) << ", but got " << ratio << " and "
           << cache;
  int64_t dim = isIndex ? cache.getIndexDim() : cache.getDim();
  int64_t columns = isOverlapping() ? 2 * dim : dim;
  if (failed(expectShape(*this, "value", getValue(), {anySize, columns})))
    return failure(); // C2
  if (failed(expectShape(*this, "bias", getPositionBias(), {ratio, columns})) ||
      failed(expectShape(*this, "norm", getNorm(), {dim}))) // C3
    return failure();
  RotaryAttr rotary = getRotary();
  if (rotary.getLayout() != RotaryLayout::Interleaved ||
      rotary.getDim() > dim) // C4
    return emitOpError("expects an interleaved rotary embedding of at most ")
           << dim << " dimensions, but got " << rotary;
  return expectPositive(*this, "epsilon", getEpsilonAttr()); // C5
}

LogicalResult SelectEntriesOp::verify() {
  CompressedCacheType cache = getCache().getType();
  int64_t heads = getHeads();
  if (!cache.countLayers(cache.getOverlapping())) // C1
    return emitOpError("expects a cache with layers of overlapping windows, "
                       "but got ")
           << cache;
  if (heads <= 0) // C2
    return emitOpError("expects heads > 0, but got ") << heads;
  if (failed(expectShape(*this, "query", getQuery(),
                         {anySize, heads * cache.getIndexDim()})) ||
      failed(expectShape(*this, "weights", getWeights(), {anySize, heads})))
    return failure();              // C2
  if (columnsOf(getResult()) <= 0) // C2
    return emitOpError("expects a result of at least one column, but got ")
           << getResult().getType();
  return expectPositive(*this, "scale", getScaleAttr()); // C3
}

LogicalResult CompressedAttentionOp::verify() {
  CompressedCacheType cache = getCache().getType();
  int64_t heads = getHeads(), ratio = getRatio(), dim = cache.getDim();
  if (heads <= 0) // C3
    return emitOpError("expects heads > 0, but got ") << heads;
  if (failed(expectShape(*this, "query", getQuery(), {anySize, heads * dim})) ||
      failed(expectShape(*this, "key", getKey(), {anySize, dim})) ||
      failed(expectShape(*this, "sinks", getSinks(), {heads})) ||
      failed(
          expectShape(*this, "a result", getResult(), {anySize, heads * dim})))
    return failure(); // C1
  if (ratio < 0 || (ratio && !cache.countLayers(ratio)) ||
      bool(getSelected()) != (ratio && cache.isOverlapping(ratio))) // C2
    return emitOpError("expects ratio 0 or that of a layer of the cache, with "
                       "selected entries where windows overlap and only "
                       "there, but got ")
           << ratio << " with " << (getSelected() ? "some" : "none") << " and "
           << cache;
  if (int64_t(getWindow()) <= 0) // C3
    return emitOpError("expects window > 0, but got ") << int64_t(getWindow());
  return expectPositive(*this, "scale", getScaleAttr()); // C3
}
