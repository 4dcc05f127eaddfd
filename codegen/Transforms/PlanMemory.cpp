// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Places the buffers of the host program in the arena, by when they are alive.

#include "codegen/Passes.h"
#include "lib/Support/CheckedMath.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/STLExtras.h"

#include <limits>

namespace hadal {
#define GEN_PASS_DEF_PLANMEMORY
#include "codegen/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;

namespace {

/// The two parts of the arena, planned apart.
enum Part { PerToken, Fixed, NumParts };

/// A buffer, alive from op number `first` to op number `last`, inclusive.
struct Buffer {
  rt::AllocOp alloc;
  Part part;
  int64_t sizeBytes;
  unsigned first;
  unsigned last;
  int64_t offset = 0; ///< In the part, from the function's base.

  bool isAliveWith(const Buffer &other) const {
    return first <= other.last && other.first <= last;
  }
  int64_t end() const { return offset + sizeBytes; }
};

struct Call {
  func::FuncOp callee;
  unsigned position;
};

struct Frame {
  SmallVector<Buffer> buffers;
  SmallVector<Call> calls;
  int64_t base[NumParts] = {0, 0};
};

} // namespace

/// Bytes that \p type spans when each dynamic size is 1; nothing if that
/// cannot be told, or is too much.
static std::optional<int64_t> spanBytes(MemRefType type) {
  SmallVector<int64_t> strides;
  int64_t offset;
  if (!type.getElementType().isIntOrFloat() ||
      failed(type.getStridesAndOffset(strides, offset)))
    return std::nullopt;
  int64_t elements = 1;
  for (auto [size, stride] : llvm::zip_equal(type.getShape(), strides)) {
    if (size == 0)
      return 0;
    if (ShapedType::isDynamic(size))
      continue;
    if (ShapedType::isDynamic(stride) || stride < 0)
      return std::nullopt;
    auto extent = checkedProduct({size - 1, stride});
    auto sum = extent ? checkedSum(elements, *extent) : std::nullopt;
    if (!sum)
      return std::nullopt;
    elements = *sum;
  }
  auto bits = checkedProduct({elements, type.getElementTypeBitWidth()});
  return bits ? std::optional(ceilDiv(*bits, 8)) : std::nullopt;
}

/// Gives each of \p buffers that is in \p part its offset: the largest first,
/// in the smallest gap between those placed that are alive with it.
static LogicalResult placeBuffers(MutableArrayRef<Buffer> buffers, Part part) {
  SmallVector<Buffer *> order;
  for (Buffer &buffer : buffers)
    if (buffer.part == part)
      order.push_back(&buffer);
  llvm::sort(order, [](const Buffer *a, const Buffer *b) {
    // They are elements of one array, in the order of the program.
    return a->sizeBytes != b->sizeBytes ? a->sizeBytes > b->sizeBytes : a < b;
  });

  SmallVector<Buffer *> placed; // Sorted by offset.
  for (Buffer *buffer : order) {
    int64_t free = 0; // End of all that is alive and lies before.
    int64_t bestGap = std::numeric_limits<int64_t>::max();
    std::optional<int64_t> best;
    for (Buffer *other : placed) {
      if (!other->isAliveWith(*buffer))
        continue;
      int64_t gap = other->offset - free;
      if (gap >= buffer->sizeBytes && gap < bestGap) {
        best = free;
        bestGap = gap;
      }
      free = std::max(free, other->end());
    }
    buffer->offset = best.value_or(free);
    if (!checkedSum(buffer->offset, buffer->sizeBytes))
      return buffer->alloc.emitOpError(
          "expects an arena of less than 2^63 bytes");
    placed.insert(llvm::upper_bound(placed, buffer,
                                    [](const Buffer *a, const Buffer *b) {
                                      return a->offset < b->offset;
                                    }),
                  buffer);
  }
  return success();
}

namespace {

struct PlanMemory : public hadal::impl::PlanMemoryBase<PlanMemory> {
  using PlanMemoryBase::PlanMemoryBase;

  void runOnOperation() override {
    frames.clear();
    ModuleOp module = getOperation();
    auto programs = llvm::to_vector(module.getOps<rt::ProgramOp>());
    if (programs.size() != 1) {
      module.emitError("expects one rt.program, but got ") << programs.size();
      return signalPassFailure();
    }
    if (module
            .walk([&](Operation *op) {
              return WalkResult(checkBounds(op, programs.front()));
            })
            .wasInterrupted())
      return signalPassFailure();
    for (auto function : module.getOps<func::FuncOp>())
      if (!function.isExternal() && failed(readFunction(function)))
        return signalPassFailure();

    SmallVector<func::FuncOp> order;
    llvm::DenseMap<Operation *, Visit> visits;
    for (auto &[function, frame] : frames)
      if (failed(sortFunctions(function, visits, order)))
        return signalPassFailure();

    // Callers come before callees, whose base they push up.
    int64_t total[NumParts] = {0, 0};
    for (func::FuncOp function : llvm::reverse(order))
      if (failed(placeFrame(frames[function], total)))
        return signalPassFailure();

    writePlan(programs.front(), total);
  }

private:
  enum class Visit { Never, Active, Done };

  /// Refuses slices that reach beyond the memory that \p program has.
  LogicalResult checkBounds(Operation *op, rt::ProgramOp program) {
    if (auto weight = dyn_cast<rt::WeightOp>(op))
      return checkSlice(op, cast<MemRefType>(weight.getType()),
                        weight.getOffset(), program.getWeightsBytes());
    auto page = dyn_cast<rt::PageOp>(op);
    if (!page)
      return success();
    if (page.getPageBytes() != program.getPageBytes())
      return page.emitOpError("expects pages of ")
             << program.getPageBytes() << " bytes, but got "
             << page.getPageBytes();
    auto end = checkedSum(page.getBase(), page.getLayerBytes());
    if (!end || *end > int64_t(page.getPageBytes()))
      return page.emitOpError("expects a layer's part at ")
             << int64_t(page.getBase()) << " to lie within "
             << int64_t(page.getPageBytes()) << " bytes";
    return checkSlice(op, cast<MemRefType>(page.getType()), page.getOffset(),
                      page.getLayerBytes());
  }

  LogicalResult checkSlice(Operation *op, MemRefType type, int64_t offset,
                           int64_t sizeBytes) {
    auto span = spanBytes(type);
    auto end = span ? checkedSum(offset, *span) : std::nullopt;
    if (end && *end <= sizeBytes)
      return success();
    return op->emitOpError("expects ")
           << type << " at " << offset << " to lie within " << sizeBytes
           << " bytes";
  }

  /// Collects the buffers and the calls of \p function.
  LogicalResult readFunction(func::FuncOp function) {
    if (!function.getBody().hasOneBlock())
      return function.emitOpError("expects one block in a host function");
    Frame &frame = frames[function];
    llvm::DenseMap<Operation *, unsigned> positions;
    for (Operation &op : function.getBody().front()) {
      positions[&op] = positions.size();
      if (op.getNumRegions() != 0)
        return op.emitOpError("expects no regions in a host function");
      if (auto call = dyn_cast<func::CallOp>(op)) {
        auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
            call, call.getCalleeAttr());
        frame.calls.push_back({callee, positions[&op]});
      }
    }
    for (auto alloc : function.getOps<rt::AllocOp>())
      if (failed(readBuffer(alloc, positions, frame)))
        return failure();
    return success();
  }

  LogicalResult
  readBuffer(rt::AllocOp alloc,
             const llvm::DenseMap<Operation *, unsigned> &positions,
             Frame &frame) {
    if (alloc.getPerToken() != 0 && alloc.getFixed() != 0)
      return alloc.emitOpError("expects bytes per token or fixed bytes, but "
                               "got both: ")
             << alloc.getPerToken() << " and " << alloc.getFixed();
    Part part = alloc.getPerToken() != 0 ? PerToken : Fixed;
    int64_t sizeBytes =
        part == PerToken ? alloc.getPerToken() : alloc.getFixed();
    auto type = cast<MemRefType>(alloc.getType());
    auto span = spanBytes(type);
    if (!span || *span > sizeBytes)
      return alloc.emitOpError("expects room for ")
             << type << ", but got " << sizeBytes << " bytes";

    // Contents matter from the first use on.
    unsigned first = std::numeric_limits<unsigned>::max();
    unsigned last = 0;
    SmallVector<Value> aliases = {alloc.getResult()};
    while (!aliases.empty())
      for (Operation *user : aliases.pop_back_val().getUsers()) {
        if (auto view = dyn_cast<rt::ColumnsOp>(user)) {
          aliases.push_back(view.getResult());
          continue;
        }
        if (!isa<rt::DispatchOp, rt::ProbeOp, rt::CountOp, func::CallOp>(
                user)) {
          InFlightDiagnostic diag =
              user->emitOpError("expects no buffer of the arena");
          diag.attachNote(alloc.getLoc()) << "buffer allocated here";
          return diag;
        }
        first = std::min(first, positions.lookup(user));
        last = std::max(last, positions.lookup(user));
      }
    if (first > last)
      first = last = positions.lookup(alloc);
    frame.buffers.push_back({alloc, part, sizeBytes, first, last});
    ++numBuffers;
    if (part == PerToken)
      unsharedPerToken += sizeBytes;
    return success();
  }

  /// Appends \p function to \p order, after all that it calls.
  LogicalResult sortFunctions(func::FuncOp function,
                              llvm::DenseMap<Operation *, Visit> &visits,
                              SmallVectorImpl<func::FuncOp> &order) {
    Visit &visit = visits[function];
    if (visit == Visit::Done)
      return success();
    if (visit == Visit::Active)
      return function.emitOpError("expects no host function to call itself");
    visit = Visit::Active;
    for (Call &call : frames[function].calls)
      if (call.callee && !call.callee.isExternal() &&
          failed(sortFunctions(call.callee, visits, order)))
        return failure();
    visits[function] = Visit::Done;
    order.push_back(function);
    return success();
  }

  LogicalResult placeFrame(Frame &frame, int64_t (&total)[NumParts]) {
    for (Part part : {PerToken, Fixed}) {
      if (failed(placeBuffers(frame.buffers, part)))
        return failure();
      int64_t base = frame.base[part];
      for (const Buffer &buffer : frame.buffers) {
        if (buffer.part != part)
          continue;
        auto end = checkedSum(base, buffer.end());
        if (!end)
          return buffer.alloc->emitOpError(
              "expects an arena of less than 2^63 bytes");
        total[part] = std::max(total[part], *end);
      }
      for (Call &call : frame.calls) {
        if (!call.callee || call.callee.isExternal())
          continue;
        int64_t &calleeBase = frames[call.callee].base[part];
        calleeBase = std::max(calleeBase, base);
        for (const Buffer &buffer : frame.buffers)
          if (buffer.part == part && buffer.first <= call.position &&
              call.position <= buffer.last)
            calleeBase = std::max(calleeBase, base + buffer.end());
      }
    }
    return success();
  }

  void writePlan(rt::ProgramOp program, const int64_t (&total)[NumParts]) {
    for (auto &[function, frame] : frames)
      for (Buffer &buffer : frame.buffers) {
        int64_t offset = frame.base[buffer.part] + buffer.offset;
        bool perToken = buffer.part == PerToken;
        buffer.alloc.setOffsetPerToken(perToken ? offset : total[PerToken]);
        buffer.alloc.setOffsetFixed(perToken ? 0 : offset);
      }
    program.setArenaPerToken(total[PerToken]);
    program.setArenaFixed(total[Fixed]);
    arenaPerToken = total[PerToken];
    arenaFixed = total[Fixed];
    if (report)
      program.emitRemark("the arena needs ")
          << total[PerToken] << " * tokens + " << total[Fixed] << " bytes";
  }

  /// In the order of the module, because output must not depend on addresses.
  llvm::MapVector<func::FuncOp, Frame> frames;
};

} // namespace
