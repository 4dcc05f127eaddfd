// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The two files: kernels, and the program that launches them.

#include "codegen/CUDA/EmitCuda.h"

#include "codegen/CUDA/Limits.h"
#include "codegen/Cpp/HostEmitter.h"
#include "codegen/Cpp/KernelEmitter.h"
#include "codegen/RegisterArrays.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace hadal;

namespace {

/// Threads that have the lanes of a vector; `group_lanes` of kernels.cuh.
constexpr int64_t groupLanes = 16;
/// Groups of threads of a block where nothing asks for fewer.
constexpr int64_t mostGroups = 8;
/// Shared memory that a block takes without asking, of which several then fit
/// on one multiprocessor.
constexpr int64_t smallShared = 48 * 1024;
/// The arena's bytes for kernels that need more.
constexpr int64_t mostScratch = 64 * 1024 * 1024;
/// Pieces of 1 KiB that the streams of a loop have in shared memory, and of
/// one stream; `stream` of kernels.cuh has one more that it reads and one that
/// it has read.
constexpr int64_t mostPieces = 32, mostStreamPieces = 16, fewestPieces = 4;
constexpr int64_t pieceBytes = 1024;
/// What `products` of kernels.cuh has: threads of a block, and bytes of its
/// shared memory.
constexpr int64_t teamThreads = 256, productBytes = 72 * 1024;
/// A multiple that fits every vector, as buffers of the arena have.
constexpr int64_t alignment = 64;

/// How a kernel is launched: `hadal_cuda_kernel_t` without its name.
struct Launch {
  int64_t params = 0, threads = 0, groups = mostGroups;
  int64_t sharedBytes = 0, mostBlocks = 0;
  /// Bytes of the arena.
  int64_t scratchBytes = 0;
};

/// Stretches of weights that a loop reads side by side, from front to back.
struct Stream {
  /// A weight and its indices, without those that the loop counts.
  using Tile = std::pair<Value, SmallVector<Value>>;

  scf::ForOp loop;
  SmallVector<Tile> tiles;
  int64_t tileBytes;
  std::string name;

  /// As `stream` of kernels.cuh has it.
  int64_t pieces() const {
    int64_t most =
        llvm::bit_floor(uint64_t(mostPieces / int64_t(tiles.size())));
    return std::min(most, mostStreamPieces);
  }
  int64_t ringBytes() const {
    return int64_t(tiles.size()) * pieces() * pieceBytes;
  }
};

class CudaKernelEmitter : public KernelEmitter {
public:
  CudaKernelEmitter(CppWriter &writer, const CppProgram &program,
                    const CppParts &parts)
      : KernelEmitter(writer, program, parts, /*sharesLanes=*/true),
        plan(program.getOp()) {}

  Launch launch;

protected:
  LogicalResult declare(rt::KernelOp kernel) override;
  LogicalResult open(rt::KernelOp kernel,
                     ArrayRef<Argument> arguments) override;
  LogicalResult emitOther(Operation *op) override;
  void beforeLoop(Operation *loop) override;
  std::string loadVector(Operation *load) override;
  std::string declareBuffer(StringRef name, MemRefType type) override;
  bool canBeInPart(Operation *op) const override;
  Given givenTo(Operation *first, Operation *last) const override;

private:
  void findStreams(rt::KernelOp kernel);
  LogicalResult emitProducts(rt::ProductsOp products);
  LogicalResult declareSizes(rt::BlockAttentionOp attention);
  void emitAttention(rt::BlockAttentionOp attention);
  std::optional<std::string> expressTiles(LLVM::CallIntrinsicOp call);

  rt::ProgramOp plan;
  std::string sizes;       ///< The type that has those of attention.
  int64_t bufferBytes = 0; ///< Of those that are declared.
  bool hasTiles = false;   ///< Of a warp, which tensor cores multiply.
  SmallVector<Stream> streams;
  /// Which stream has what a load reads, and the index that its loop counts.
  struct Place {
    unsigned stream, tile;
    Value row;
    int64_t rowBytes;
  };
  llvm::DenseMap<Operation *, Place> streamed;
};

} // namespace

static int64_t getBytes(MemRefType type) {
  int64_t bytes = type.getNumElements() *
                  llvm::divideCeil(type.getElementTypeBitWidth(), 8);
  return llvm::alignTo(bytes, alignment);
}

std::string CudaKernelEmitter::declareBuffer(StringRef name, MemRefType type) {
  std::string element = getCppElement(type.getElementType());
  std::string line = element + " *const " + name.str() +
                     " = reinterpret_cast<" + element + " *>(scratch_memory";
  if (bufferBytes)
    line += " + " + std::to_string(bufferBytes);
  bufferBytes += getBytes(type);
  return line + ");";
}

//===----------------------------------------------------------------------===//
// Weights that are read ahead
//===----------------------------------------------------------------------===//

/// \p value as one that \p loop does not change, plus a constant.
static std::optional<std::pair<Value, int64_t>> getInvariant(Value value,
                                                             scf::ForOp loop) {
  auto isOutside = [&](Value value) {
    return !loop.getRegion().isAncestor(value.getParentRegion());
  };
  if (isOutside(value))
    return std::pair(value, int64_t(0));
  auto add = value.getDefiningOp<arith::AddIOp>();
  APInt number;
  if (add && isOutside(add.getLhs()) &&
      matchPattern(add.getRhs(), m_ConstantInt(&number)))
    return std::pair(add.getLhs(), number.getSExtValue());
  return std::nullopt;
}

/// Finds weights that innermost loops read: where a load's first indices do not
/// change, and the next one does.
void CudaKernelEmitter::findStreams(rt::KernelOp kernel) {
  kernel.walk([&](vector::LoadOp load) {
    auto base = dyn_cast<BlockArgument>(load.getBase());
    MemRefType type = load.getMemRefType();
    auto inner = dyn_cast<scf::ForOp>(load->getParentOp());
    if (!base || base.getOwner()->getParentOp() != kernel || isWritten(base) ||
        !type.hasStaticShape() || !type.getLayout().isIdentity() || !inner)
      return;
    ValueRange indices = load.getIndices();
    unsigned leading = 0;
    while (leading < indices.size() && getInvariant(indices[leading], inner))
      ++leading;
    if (leading == 0 || leading == indices.size() ||
        !llvm::all_of(indices.drop_front(leading + 1), [](Value index) {
          return matchPattern(index, m_Zero());
        }))
      return;
    int64_t rowBytes = type.getElementTypeBitWidth() / 8;
    for (int64_t dim : type.getShape().drop_front(leading + 1))
      rowBytes *= dim;
    int64_t tileBytes = rowBytes * type.getDimSize(leading);
    VectorType vector = load.getVectorType();
    if (vector.getNumElements() * vector.getElementTypeBitWidth() / 8 !=
            rowBytes ||
        rowBytes < 16 || pieceBytes % rowBytes != 0 ||
        tileBytes < fewestPieces * pieceBytes || tileBytes > INT32_MAX / 2)
      return;
    Stream::Tile tile = {base, llvm::to_vector(indices.take_front(leading))};
    scf::ForOp loop = inner;
    // What is behind a condition may not be there.
    for (auto outer = dyn_cast<scf::ForOp>(loop->getParentOp()); outer;
         outer = dyn_cast<scf::ForOp>(outer->getParentOp())) {
      if (!llvm::all_of(tile.second, [&](Value index) {
            return getInvariant(index, outer).has_value();
          }))
        break;
      loop = outer;
    }
    auto stream = llvm::find_if(streams, [&](const Stream &known) {
      return known.loop == loop && known.tileBytes == tileBytes;
    });
    if (stream == streams.end())
      stream = streams.insert(stream, {loop, {}, tileBytes, ""});
    auto at = llvm::find(stream->tiles, tile);
    if (at == stream->tiles.end())
      at = stream->tiles.insert(at, tile);
    streamed[load] = {unsigned(stream - streams.begin()),
                      unsigned(at - stream->tiles.begin()), indices[leading],
                      rowBytes};
  });
  // One ring serves loops one after the other, so that a loop has one.
  llvm::DenseMap<Operation *, unsigned> first;
  for (auto [i, stream] : llvm::enumerate(streams)) {
    auto [known, isNew] = first.try_emplace(stream.loop, i);
    bool isLarger =
        !isNew && streams[known->second].tileBytes < stream.tileBytes;
    if (isLarger)
      known->second = i;
  }
  auto isKept = [&](unsigned index) {
    const Stream &stream = streams[index];
    auto isInside = [&](const Stream &other) {
      return other.loop != stream.loop &&
             other.loop->isProperAncestor(stream.loop);
    };
    return first.lookup(stream.loop) == index &&
           stream.pieces() >= fewestPieces && llvm::none_of(streams, isInside);
  };
  SmallVector<Operation *> dropped;
  for (auto &[load, place] : streamed)
    if (!isKept(place.stream))
      dropped.push_back(load);
  for (Operation *load : dropped)
    streamed.erase(load);
}

void CudaKernelEmitter::beforeLoop(Operation *loop) {
  for (auto [i, stream] : llvm::enumerate(streams)) {
    if (stream.loop != loop || llvm::none_of(streamed, [&, i = i](auto &entry) {
          return entry.second.stream == i;
        }))
      continue;
    stream.name = names.get("ahead");
    std::string line = "stream<" + std::to_string(stream.tiles.size()) + "> " +
                       stream.name + "(scratch_memory, " +
                       std::to_string(stream.tileBytes);
    for (auto &[base, indices] : stream.tiles) {
      SmallVector<int64_t> strides;
      int64_t ignored, constant = 0;
      (void)cast<MemRefType>(base.getType())
          .getStridesAndOffset(strides, ignored);
      line += ", " + text(base);
      for (auto [index, stride] : llvm::zip(indices, strides)) {
        auto [value, more] = *getInvariant(index, stream.loop);
        APInt number;
        constant += more * stride;
        if (matchPattern(value, m_ConstantInt(&number)))
          constant += number.getSExtValue() * stride;
        else
          line += " + " + text(value, CppExpression::Product) + " * " +
                  std::to_string(stride);
      }
      if (constant)
        line += " + " + std::to_string(constant);
    }
    writer.line(line + ");");
  }
}

std::string CudaKernelEmitter::loadVector(Operation *load) {
  auto found = streamed.find(load);
  if (found == streamed.end())
    return KernelEmitter::loadVector(load);
  const Place &place = found->second;
  return streams[place.stream].name + ".load<" +
         getCppType(load->getResult(0).getType()) + ">(" +
         std::to_string(place.tile) + ", " +
         text(place.row, CppExpression::Product) + " * " +
         std::to_string(place.rowBytes) + ")";
}

/// What all threads of a block do is in the kernel's own function.
bool CudaKernelEmitter::canBeInPart(Operation *op) const {
  WalkResult result = op->walk([&](Operation *inner) {
    return isa<rt::ProductsOp, rt::BlockAttentionOp>(inner)
               ? WalkResult::interrupt()
               : WalkResult::advance();
  });
  return !result.wasInterrupted() && KernelEmitter::canBeInPart(op);
}

/// What is under way for a loop that is around a part; or the memory for that
/// of a loop in it; and the tiles that it multiplies.
CudaKernelEmitter::Given CudaKernelEmitter::givenTo(Operation *first,
                                                    Operation *last) const {
  bool hasStreams = false, usesTiles = false;
  llvm::SmallSetVector<unsigned, 2> around;
  for (Operation *op = first;; op = op->getNextNode()) {
    op->walk([&](Operation *inner) {
      usesTiles |= isa<LLVM::CallIntrinsicOp>(inner);
      auto found = streamed.find(inner);
      if (found == streamed.end())
        return;
      const Stream &stream = streams[found->second.stream];
      if (isBetween(stream.loop, first, last))
        hasStreams = true;
      else
        around.insert(found->second.stream);
    });
    if (op == last)
      break;
  }
  Given given;
  if (hasStreams)
    given.push_back({"uint8_t *const scratch_memory", "scratch_memory"});
  for (unsigned i : around)
    given.push_back({"stream<" + std::to_string(streams[i].tiles.size()) +
                         "> &" + streams[i].name,
                     streams[i].name});
  if (usesTiles)
    given.push_back({"warp_tiles &tiles", "tiles"});
  return given;
}

LogicalResult CudaKernelEmitter::declare(rt::KernelOp kernel) {
  rt::BlockAttentionOp attention;
  kernel.walk([&](rt::BlockAttentionOp op) { attention = op; });
  if (!attention)
    return success();
  sizes = program.kernelName(kernel.getSymName()) + "_sizes";
  return declareSizes(attention);
}

LogicalResult CudaKernelEmitter::open(rt::KernelOp kernel,
                                      ArrayRef<Argument> arguments) {
  int64_t bytes = 0;
  kernel.walk([&](memref::AllocaOp alloca) {
    if (alloca.getType().hasStaticShape() && !isRegisterArray(alloca))
      bytes += getBytes(alloca.getType());
  });
  findStreams(kernel);
  int64_t ringBytes = 0;
  for (auto &[load, place] : streamed)
    ringBytes = std::max(ringBytes, streams[place.stream].ringBytes());
  // Copies under way end in shared memory only.
  if (bytes + ringBytes > mostSharedBytes) {
    streamed.clear();
    ringBytes = 0;
  }
  bufferBytes = ringBytes;
  bytes += ringBytes;
  launch.params = arguments.size();
  // What tensor cores multiply takes a warp, or all threads of a block.
  auto stop = [](auto) { return WalkResult::interrupt(); };
  hasTiles = kernel.walk([&](LLVM::CallIntrinsicOp op) { return stop(op); })
                 .wasInterrupted();
  bool hasProducts =
      kernel.walk([&](rt::ProductsOp op) { return stop(op); }).wasInterrupted();
  if (hasProducts) {
    bufferBytes += productBytes;
    bytes += productBytes;
  }
  rt::BlockAttentionOp attention;
  kernel.walk([&](rt::BlockAttentionOp op) { attention = op; });
  if (attention) {
    bytes += attention.getSharedBytes();
  }
  bool isTeam = hasProducts || attention;
  bool isShared = bytes <= mostSharedBytes;
  if (bytes != 0)
    launch.groups = std::clamp(smallShared / bytes, int64_t(1), mostGroups);
  // Two would be taken for a warp; and what reads ahead is best spread over
  // multiprocessors.
  if (hasTiles || isTeam || launch.groups == 2 || ringBytes != 0)
    launch.groups = 1;
  launch.threads = isTeam     ? teamThreads
                   : hasTiles ? 2 * groupLanes
                              : launch.groups * groupLanes;
  if (isShared) {
    launch.sharedBytes = bytes * launch.groups;
  } else {
    launch.mostBlocks = std::max(mostScratch / bytes, int64_t(1));
    launch.scratchBytes = launch.mostBlocks * bytes;
  }
  bool usesStep = isUsed(kernel.getStep()) || !isShared;
  std::string parameters = "const __grid_constant__ hadal_rt_step_t";
  parameters += usesStep ? " state" : "";
  parameters += ", const int64_t items";
  for (const Argument &given : arguments) {
    parameters += ", " + (given.element.empty() ? "const int64_t "
                                                : given.element + " *");
    // Without a name, or compilers warn.
    if (isUsed(given.value))
      parameters += given.name;
    parameters = StringRef(parameters).rtrim().str();
  }
  writer.line("extern \"C\" __global__ void __launch_bounds__(" +
              Twine(launch.threads) + ")");
  writer.open(program.kernelName(kernel.getSymName()) + "(" + parameters + ")");
  if (usesStep)
    writer.line("const hadal_rt_step_t *const step = &state;");
  if (isUsed(kernel.getFirst()))
    writer.line("const int64_t first = first_item(items);");
  if (isUsed(kernel.getLast()))
    writer.line("const int64_t last = last_item(items);");
  if (hasTiles)
    writer.line("warp_tiles tiles;");
  if (bytes == 0)
    return success();
  if (isShared)
    writer.line("uint8_t *const scratch_memory = shared_scratch(" +
                Twine(bytes) + ");");
  else
    writer.line("uint8_t *const scratch_memory = arena_scratch(step, " +
                Twine(plan.getArenaPerToken()) + ", " +
                Twine(plan.getArenaFixed()) + ", " + Twine(bytes) + ");");
  return success();
}

/// What an instruction of tile registers is for the tiles of a warp: register 0
/// has sums, 1 weights and 2 inputs, as `AMXProduct` has it.
std::optional<std::string>
CudaKernelEmitter::expressTiles(LLVM::CallIntrinsicOp call) {
  StringRef name = call.getIntrin();
  if (!name.consume_front("llvm.x86."))
    return std::nullopt;
  ValueRange operands = call.getArgs();
  auto isNumber = [&](unsigned operand, int64_t expected) {
    APInt number;
    return operand < operands.size() &&
           matchPattern(operands[operand], m_ConstantInt(&number)) &&
           number.getSExtValue() == expected;
  };
  bool hasRows = isNumber(2, 64);
  if (name == "ldtilecfg")
    return "configure(" + text(operands[0]) + ")";
  if (name == "tilezero" && isNumber(0, 0))
    return "zero()";
  if (name == "tileloadd64" && isNumber(0, 1) && hasRows)
    return "load_weights(" + text(operands[1]) + ")";
  if (name == "tileloadd64" && isNumber(0, 2) && hasRows)
    return "load_inputs(" + text(operands[1]) + ")";
  if (name == "tilestored64" && isNumber(0, 0) && hasRows)
    return "store_sums(" + text(operands[1]) + ")";
  if (name == "tdpbssd" && isNumber(0, 0) && isNumber(1, 2) && isNumber(2, 1))
    return "multiply()";
  return std::nullopt;
}

/// Writes a loop over the blocks of what is multiplied, and in it one over the
/// sums that a group of threads takes.
LogicalResult CudaKernelEmitter::emitProducts(rt::ProductsOp products) {
  auto weights = products.getWeights();
  auto type = cast<MemRefType>(weights.front().getType());
  auto input = cast<MemRefType>(products.getInput().getType());
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(input.getStridesAndOffset(strides, offset)) ||
      ShapedType::isDynamic(strides.front()) || strides.back() != 1)
    return products.emitOpError("has no form in CUDA: ") << input;
  std::string rows = text(products.getInput(), CppExpression::Sum);
  if (products.getColumn())
    rows += " + " + text(products.getColumn(), CppExpression::Sum);
  rows += ", " + std::to_string(strides.front());
  if (products.getList())
    rows += ", " + text(products.getList()) + ", " +
            std::to_string(products.getEntriesPerRow());
  auto ofLeading = [&](Value memref) {
    std::string start = text(memref, CppExpression::Sum);
    int64_t size = 1;
    for (int64_t dim :
         cast<MemRefType>(memref.getType()).getShape().drop_front())
      size *= dim;
    if (Value leading = products.getLeading())
      start += " + " + text(leading, CppExpression::Product) + " * " +
               std::to_string(size);
    return start;
  };
  Type element = type.getElementType();
  std::string kind = element.isBF16()  ? "bf16"
                     : element.isF16() ? "f16"
                                       : "fp8";
  std::string name = names.get("product");
  std::string line =
      "products<stored::" + kind + ", " + std::to_string(weights.size()) +
      ", " + std::to_string(type.getShape().drop_back().back()) +
      (products.getBf16Inputs() ? ", 1> " : "> ") + name + "(scratch_memory";
  for (Value bound : {products.getFirstEntry(), products.getLastEntry(),
                      products.getFirstTile(), products.getLastTile()})
    line += ", " + text(bound);
  line += ", input_rows{" + rows + "}";
  for (auto [i, weight] : llvm::enumerate(weights)) {
    line += ", weight_tiles{" + ofLeading(weight);
    if (!products.getScales().empty())
      line += ", " + ofLeading(products.getScales()[i]);
    line += "}";
  }
  writer.line(line + ");");
  writer.open("while (" + name + ".next())");
  std::string at = names.get("i");
  writer.open("for (int " + at + " = " + name + ".first_product(); " + at +
              " < " + name + ".product_count(); " + at + " += " + name +
              ".groups)");
  Block &body = products.getBody().front();
  StringRef words[] = {"tile", "entry"};
  for (auto [i, argument] : llvm::enumerate(body.getArguments())) {
    std::string call = i < 2
                           ? words[i].str() + "_of(" + at + ")"
                           : "sums(" + std::to_string(i - 2) + ", " + at + ")";
    if (!isUsed(argument))
      continue;
    std::string given = names.get(i < 2 ? words[i] : "sum");
    writer.line("const " + getCppType(argument.getType()) + " " + given +
                " = " + name + "." + call + ";");
    bind(argument, {given});
  }
  if (failed(emitBlock(body)))
    return failure();
  writer.close();
  writer.close();
  return success();
}

/// Columns from one row of \p rows to the next.
static std::optional<int64_t> getRowStride(Value rows) {
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(cast<MemRefType>(rows.getType())
                 .getStridesAndOffset(strides, offset)) ||
      ShapedType::isDynamic(strides.front()) || strides.back() != 1)
    return std::nullopt;
  return strides.front();
}

/// Writes the sizes of \p attention as a type with constants, `sizes`.
LogicalResult CudaKernelEmitter::declareSizes(rt::BlockAttentionOp attention) {
  std::optional<int64_t> query = getRowStride(attention.getQuery());
  std::optional<int64_t> rope = 0, out = 0, selected = 0;
  if (attention.getRopeQuery())
    rope = getRowStride(attention.getRopeQuery());
  if (attention.getRows())
    out = getRowStride(attention.getResults().front());
  if (attention.getSelected())
    selected = getRowStride(attention.getSelected());
  if (!query || !rope || !out || !selected)
    return attention.emitOpError("has no form in CUDA: its rows have no "
                                 "constant stride");
  Type element = attention.getElement();
  StringRef kind = element.isF32()    ? "f32"
                   : element.isF16()  ? "f16"
                   : element.isBF16() ? "bf16"
                                      : "int8";
  writer.open("struct " + sizes);
  writer.line("static constexpr cached kind = cached::" + kind + ";");
  writer.line(Twine("static constexpr bool is_rounded = ") +
              (attention.getIsRounded() ? "true" : "false") + ";");
  const std::pair<const char *, uint64_t> numbers[] = {
      {"heads", attention.getHeads()},
      {"kv_heads", attention.getKvHeads()},
      {"group_heads", attention.getBlockHeads()},
      {"block_rows", attention.getBlockRows()},
      {"key_dim", attention.getKeyDim()},
      {"value_dim", attention.getValueDim()},
      {"rope_columns", attention.getRopeColumns()},
      {"scale_group", attention.getScaleGroup()},
      {"scale_offset", attention.getScaleOffset()},
      {"head_bytes", attention.getHeadBytes()},
      {"value_offset", attention.getValueOffset()},
      {"value_scale_offset", attention.getValueScaleOffset()},
      {"page_tokens", attention.getPageTokens()},
      {"page_bytes", attention.getPageBytes()},
      {"layer_bytes", attention.getLayerBytes()},
      {"selected", attention.getSelectedTokens()},
      {"least_run", attention.getLeastRun()},
      {"segments", attention.getSegments()},
      {"segment_tokens", attention.getSegmentTokens()},
      {"strands", attention.getStrands()},
      {"window", attention.getWindow()},
      {"sink", attention.getSink()},
      {"sink_segments", attention.getSinkSegments()},
      {"query_stride", uint64_t(*query)},
      {"rope_query_stride", uint64_t(*rope)},
      {"out_stride", uint64_t(*out)},
      {"selected_stride", uint64_t(*selected)}};
  for (auto &[name, number] : numbers)
    writer.line(Twine("static constexpr int64_t ") + name + " = " +
                Twine(number) + ";");
  std::string scale;
  llvm::raw_string_ostream(scale)
      << llvm::format("%a", attention.getScale().convertToDouble());
  writer.line("static HADAL_INLINE float scale() { return " + scale + "f; }");
  writer.close(";");
  writer.line("static_assert(block_attention<" + sizes +
              ">::shared_bytes == " + Twine(attention.getSharedBytes()) +
              ", \"what a launch gives it\");");
  writer.line();
  return success();
}

void CudaKernelEmitter::emitAttention(rt::BlockAttentionOp attention) {
  std::string name = names.get("attention");
  std::string line =
      "block_attention<" + sizes + "> " + name + "(scratch_memory, step";
  for (Value given :
       {Value(attention.getQuery()), Value(attention.getRopeQuery()),
        Value(attention.getPositions()), Value(attention.getSequences()),
        Value(attention.getLayer()), Value(attention.getSelected()),
        Value(attention.getRuns())})
    line += given ? ", " + text(given) : ", nullptr";
  writer.line(line + ");");
  bool isWhole = bool(attention.getRows());
  line = name + (isWhole ? ".attend_blocks(" : ".attend_segments(") +
         text(attention.getFirst()) + ", " + text(attention.getLast());
  for (Value result : attention.getResults())
    line += ", " + text(result);
  if (isWhole)
    line += ", " + text(attention.getRows()) + ", " +
            text(attention.getBlockRowsNow());
  writer.line(line + ");");
}

LogicalResult CudaKernelEmitter::emitOther(Operation *op) {
  if (auto attention = dyn_cast<rt::BlockAttentionOp>(op)) {
    emitAttention(attention);
    return success();
  }
  if (auto products = dyn_cast<rt::ProductsOp>(op))
    return emitProducts(products);
  if (auto constant = dyn_cast<LLVM::ConstantOp>(op)) {
    // Numbers of tile registers, which have no name.
    bind(constant, {});
    return success();
  }
  if (auto pointer = dyn_cast<memref::ExtractAlignedPointerAsIndexOp>(op)) {
    bind(pointer, {"address_of(" + text(pointer.getSource()) + ")"});
    return success();
  }
  if (auto pointer = dyn_cast<LLVM::IntToPtrOp>(op)) {
    bind(pointer, get(pointer.getArg()));
    return success();
  }
  if (auto call = dyn_cast<LLVM::CallIntrinsicOp>(op)) {
    // Registers of a warp need no release.
    if (call.getIntrin() == "llvm.x86.tilerelease")
      return success();
    if (std::optional<std::string> tiles = expressTiles(call)) {
      writer.line("tiles." + *tiles + ";");
      return success();
    }
  }
  return KernelEmitter::emitOther(op);
}

//===----------------------------------------------------------------------===//
// The files
//===----------------------------------------------------------------------===//

LogicalResult hadal::emitCuda(ModuleOp module, const EmitCudaOptions &options,
                              llvm::raw_ostream &device,
                              llvm::raw_ostream &host) {
  CppProgram program(module.getContext());
  if (failed(program.read(module)))
    return failure();
  // Its buffers are the device's, and it launches without waiting.
  Operation *count = nullptr;
  module.walk([&](rt::CountOp op) { count = op; });
  if (count)
    return count->emitOpError("has no form in CUDA: the host cannot read what "
                              "kernels write");

  CppWriter kernels(device);
  kernels.raw("// " + options.preamble);
  kernels.raw("// Kernels: nvcc -std=c++17 -fmad=false -fatbin " +
              options.deviceFile);
  kernels.line();
  kernels.line("#include \"hadal_rt/kernels.cuh\"");
  kernels.line();
  // Its words come before those of the CUDA headers.
  kernels.line("namespace hadal_cuda {");
  kernels.line();
  SmallVector<std::pair<std::string, Launch>> launches;
  HostOptions hostOptions;
  CppNames kernelNames = program.globalNames();
  for (auto kernel : module.getOps<rt::KernelOp>()) {
    std::unique_ptr<KernelEmitter> emitter = emitDivided(
        kernels, kernel, program, kernelNames, [&](const CppParts &parts) {
          return std::make_unique<CudaKernelEmitter>(kernels, program, parts);
        });
    if (!emitter)
      return failure();
    const Launch &launch = static_cast<CudaKernelEmitter &>(*emitter).launch;
    launches.push_back({program.kernelName(kernel.getSymName()), launch});
    hostOptions.scratchBytes =
        std::max(hostOptions.scratchBytes, launch.scratchBytes);
  }
  kernels.line("} // namespace hadal_cuda");

  CppWriter writer(host);
  writer.raw("// " + options.preamble);
  writer.raw("// The program that launches the kernels of " +
             options.deviceFile + ".");
  writer.line();
  writer.line("#include \"" + options.header + "\"");
  writer.line();
  // First, so that words of the kernels do not get in its way.
  writer.line("#ifdef HADAL_STANDALONE");
  writer.line("#define HADAL_MODEL " + Twine(options.symbol));
  writer.line("#include \"hadal_rt/standalone.h\"");
  writer.line("#endif");
  writer.line();
  writer.line("#ifndef HADAL_CUDA_EMULATE");
  writer.line("#include \"hadal_rt/cuda_device.h\"");
  writer.line("#endif");
  writer.line("#include \"hadal_rt/cuda_program.h\"");
  writer.line("#ifdef HADAL_CUDA_EMULATE");
  writer.line("#include \"" + options.deviceFile + "\"");
  writer.line("#endif");
  writer.line();
  writer.comment("Kernels: 64-bit words that they are given, threads and work "
                 "items of a block, its bytes of shared memory, and the most "
                 "blocks of a launch, where that matters.");
  writer.line("namespace launch {");
  for (auto &[name, launch] : launches)
    writer.line("constexpr hadal_cuda_kernel_t " + name +
                " = HADAL_CUDA_KERNEL(" + name + ", " + Twine(launch.params) +
                ", " + Twine(launch.threads) + ", " + Twine(launch.groups) +
                ", " + Twine(launch.sharedBytes) + ", " +
                Twine(launch.mostBlocks) + ");");
  writer.line("constexpr const hadal_cuda_kernel_t *const all[] = {");
  for (auto &[name, launch] : launches)
    writer.line("    &" + name + ",");
  writer.line("};");
  writer.line("} // namespace launch");
  writer.line();
  writer.line("extern \"C\" const hadal_cuda_program_t " + options.symbol +
              "_cuda = {");
  writer.line("    launch::all, " + Twine(launches.size()) + "};");
  writer.line("HADAL_CUDA_DEVICE(" + options.symbol + "_cuda)");
  writer.line();
  writer.line("namespace {");
  writer.line("using namespace hadal_cuda_host;");
  writer.line();
  program.emitWeights(writer);
  CppNames names = program.globalNames();
  hostOptions.kernelScope = "launch::";
  hostOptions.features = "0";
  hostOptions.device = "HADAL_CUDA_MODEL_DEVICE,";
  if (failed(emitHostFunctions(writer, program, names, hostOptions)))
    return failure();
  return emitModel(writer, program, options.symbol, hostOptions);
}
