// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Places the buffers of a graph in one arena, and its weights in one section.

#include "codegen/Passes.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/RT/IR/RTOps.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/Transforms/BufferViewFlowAnalysis.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

namespace hadal {
#define GEN_PASS_DEF_PLANGRAPHMEMORY
#include "codegen/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::rt;

/// Bytes of a buffer of static shape; nothing if there are too many.
static std::optional<int64_t> getBytes(MemRefType type) {
  SmallVector<int64_t> factors(type.getShape());
  factors.push_back(
      std::max(type.getElementType().getIntOrFloatBitWidth(), 8u) / 8);
  return checkedProduct(factors);
}

namespace {
/// A buffer, and the operations of the function's block that it lives through.
struct Buffer {
  memref::AllocOp alloc;
  int64_t bytes = 0, first = INT64_MAX, last = -1, offset = 0;

  bool meets(const Buffer &other) const {
    return first <= other.last && other.first <= last;
  }
};

struct PlanGraphMemory
    : public hadal::impl::PlanGraphMemoryBase<PlanGraphMemory> {
  using PlanGraphMemoryBase::PlanGraphMemoryBase;

  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (function->hasAttr(graphInputsAttrName) && failed(plan(function)))
        return signalPassFailure();
  }

private:
  LogicalResult plan(func::FuncOp function);
  FailureOr<SmallVector<Buffer>> findBuffers(func::FuncOp function);
  LogicalResult placeWeights(func::FuncOp function, int64_t &totalBytes);
};
} // namespace

/// A view of \p type into \p bytes, a buffer of bytes, at \p offset.
static Value makeView(OpBuilder &builder, Location loc, MemRefType type,
                      Value bytes, int64_t offset) {
  Value at = arith::ConstantIndexOp::create(builder, loc, offset);
  auto plain = MemRefType::get(type.getShape(), type.getElementType());
  return memref::ViewOp::create(builder, loc, plain, bytes, at, ValueRange());
}

FailureOr<SmallVector<Buffer>>
PlanGraphMemory::findBuffers(func::FuncOp function) {
  Block &block = function.front();
  llvm::DenseMap<Operation *, int64_t> order;
  for (Operation &op : block)
    order[&op] = int64_t(order.size());
  BufferViewFlowAnalysis flow(function);
  SmallVector<Buffer> buffers;
  WalkResult walk = function.walk([&](memref::AllocOp alloc) {
    MemRefType type = alloc.getType();
    std::optional<int64_t> bytes;
    if (type.hasStaticShape() && type.getLayout().isIdentity())
      bytes = getBytes(type);
    if (!bytes) {
      alloc.emitOpError("expects a buffer of known size");
      return WalkResult::interrupt();
    }
    Buffer buffer{alloc, *bytes};
    for (Value alias : flow.resolve(alloc)) {
      // A place of its own for each turn of a loop is not known here.
      if (alias.getParentRegion() != alloc->getParentRegion() &&
          alias.getParentRegion()->isProperAncestor(alloc->getParentRegion())) {
        alloc.emitOpError("expects a buffer that does not leave its loop");
        return WalkResult::interrupt();
      }
      auto include = [&](Operation *op) {
        if (Operation *top = block.findAncestorOpInBlock(*op)) {
          buffer.first = std::min(buffer.first, order[top]);
          buffer.last = std::max(buffer.last, order[top]);
        }
      };
      for (Operation *user : alias.getUsers())
        include(user);
      if (Operation *source = alias.getDefiningOp())
        include(source);
    }
    buffers.push_back(buffer);
    return WalkResult::advance();
  });
  if (walk.wasInterrupted())
    return failure();
  return buffers;
}

/// Places the largest first, each in the lowest gap that holds it; returns the
/// bytes of all.
static int64_t placeBuffers(MutableArrayRef<Buffer> buffers) {
  SmallVector<Buffer *> order;
  for (Buffer &buffer : buffers)
    order.push_back(&buffer);
  // They lie in one array, in the order of the function.
  llvm::sort(order, [](const Buffer *a, const Buffer *b) {
    return a->bytes != b->bytes ? a->bytes > b->bytes : a < b;
  });
  int64_t total = 0;
  SmallVector<Buffer *> placed; // By offset.
  for (Buffer *buffer : order) {
    int64_t at = 0;
    for (Buffer *other : placed) {
      if (!buffer->meets(*other))
        continue;
      if (other->offset - at >= buffer->bytes)
        break;
      at = std::max(at,
                    roundUp(other->offset + other->bytes, rt::alignmentBytes));
    }
    buffer->offset = at;
    total = std::max(total, at + buffer->bytes);
    placed.insert(llvm::upper_bound(placed, buffer,
                                    [](const Buffer *a, const Buffer *b) {
                                      return a->offset < b->offset;
                                    }),
                  buffer);
  }
  return roundUp(total, rt::alignmentBytes);
}

LogicalResult PlanGraphMemory::placeWeights(func::FuncOp function,
                                            int64_t &totalBytes) {
  SymbolTable symbols(getOperation());
  OpBuilder builder(&function.front(), function.front().begin());
  SmallVector<unsigned> taken;
  SmallVector<std::pair<BlockArgument, int64_t>> places;
  for (BlockArgument argument : function.getArguments()) {
    auto name = function.getArgAttrOfType<FlatSymbolRefAttr>(
        argument.getArgNumber(), graphWeightAttrName);
    if (!name)
      continue;
    auto weight = symbols.lookup<deepseek::WeightOp>(name.getValue());
    auto type = dyn_cast<MemRefType>(argument.getType());
    std::optional<int64_t> bytes;
    if (type && type.hasStaticShape())
      bytes = getBytes(type);
    if (!weight || !bytes || *bytes != weight.getWeightType().getNumElements())
      return function.emitOpError("expects a weight of as many bytes as its "
                                  "argument, but got ")
             << name;
    weight->setAttr("rt.offset", builder.getI64IntegerAttr(totalBytes));
    places.emplace_back(argument, totalBytes);
    taken.push_back(argument.getArgNumber());
    std::optional<int64_t> end =
        checkedSum(totalBytes, *bytes + rt::alignmentBytes);
    if (!end)
      return function.emitOpError("has more weights than can be counted");
    totalBytes = roundUp(totalBytes + *bytes, rt::alignmentBytes);
  }
  auto type = MemRefType::get(totalBytes, builder.getI8Type());
  unsigned index = function.getNumArguments();
  if (failed(function.insertArgument(index, type, {}, function.getLoc())))
    return failure();
  for (auto [argument, offset] : places)
    argument.replaceAllUsesWith(makeView(builder, function.getLoc(),
                                         cast<MemRefType>(argument.getType()),
                                         function.getArgument(index), offset));
  for (unsigned each : llvm::reverse(taken))
    if (failed(function.eraseArgument(each)))
      return failure();
  return success();
}

LogicalResult PlanGraphMemory::plan(func::FuncOp function) {
  if (!function.getBody().hasOneBlock())
    return function.emitOpError("expects one block");
  // Copies are loops like all others, not calls of a library.
  function.walk([](memref::CopyOp copy) {
    OpBuilder builder(copy);
    linalg::makeMemRefCopyOp(builder, copy.getLoc(), copy.getSource(),
                             copy.getTarget());
    copy.erase();
  });
  function.walk([](memref::DeallocOp dealloc) { dealloc.erase(); });
  int64_t weightBytes = 0;
  if (failed(placeWeights(function, weightBytes)))
    return failure();
  FailureOr<SmallVector<Buffer>> buffers = findBuffers(function);
  if (failed(buffers))
    return failure();
  std::optional<int64_t> sum = int64_t(0);
  for (const Buffer &buffer : *buffers)
    if (sum)
      sum = checkedSum(*sum, buffer.bytes + rt::alignmentBytes);
  if (!sum)
    return function.emitOpError("has more buffers than can be counted");
  int64_t arenaBytes = placeBuffers(*buffers);
  OpBuilder builder(&function.front(), function.front().begin());
  auto type = MemRefType::get(arenaBytes, builder.getI8Type());
  unsigned index = function.getNumArguments();
  if (failed(function.insertArgument(index, type, {}, function.getLoc())))
    return failure();
  for (Buffer &buffer : *buffers) {
    builder.setInsertionPoint(buffer.alloc);
    buffer.alloc.replaceAllUsesWith(
        makeView(builder, buffer.alloc.getLoc(), buffer.alloc.getType(),
                 function.getArgument(index), buffer.offset));
    buffer.alloc.erase();
  }
  numBuffers += unsigned(buffers->size());
  function->setAttr(graphWeightsBytesAttrName,
                    builder.getI64IntegerAttr(weightBytes));
  function->setAttr(graphArenaBytesAttrName,
                    builder.getI64IntegerAttr(arenaBytes));
  return success();
}
