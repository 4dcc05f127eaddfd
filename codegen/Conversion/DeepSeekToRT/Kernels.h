// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernels that deepseek ops become: one function an op, for its exact
// shapes. Each returns the kernel for a given set of argument types, made at
// first use; the argument order stands in each description.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_KERNELS_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_KERNELS_H

#include "codegen/CacheSizes.h"
#include "codegen/Conversion/DeepSeekToRT/KernelBuilder.h"
#include "codegen/DotProductKind.h"
#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/IR/InputRounding.h"
#include "dialects/RT/IR/RTOps.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"

namespace hadal {

struct CompressedLayout;
struct CompressedAttentionPlan;

/// What kernels need to know of the target.
struct KernelOptions {
  /// Vector registers of 16 f32 lanes (AVX-512: 32; AVX2 and NEON: 8).
  int64_t registers = 32;
  /// Tokens in a KV page.
  int64_t pageTokens = 32;
  /// What multiplies bytes.
  DotProductKind dotProduct = DotProductKind::Generic;
  /// Whether queries, and weights of the softmax, are rounded to bf16 where
  /// they meet latents of as few bits.
  bool bf16Products = false;
  /// Whether the target multiplies pairs of bf16 (AVX512_BF16).
  bool bf16Pairs = false;
  /// The same by `bfdot` and `bfmmla` (FEAT_BF16), whose sums have other bits.
  bool bf16Dots = false;
  /// Whether `vscalefps` multiplies by powers of two beside dot products, for
  /// which a product would wait: inputs then have logarithms for scales.
  bool scalesByExponents = false;
  /// Whether people read the kernels: `KernelBuilder::isRead`.
  bool isRead = false;
  /// Whether hardware reads one stream of weights ahead as fast as memory is,
  /// but not several: a single row then has its integers tile by tile, and asks
  /// for nothing but scales.
  bool followsStreams = false;
  /// What tiles are to fit.
  CacheSizes caches;
};

/// Where one layer's keys and values are in a KV page: one head after the
/// other, keys [key_dim, tokens] and values [tokens, value_dim] of each; or
/// latents [tokens, key_dim]. Elements of 8 bits have a scale a token of each
/// key and each value, or scales [tokens, groups] of the latents.
struct PageLayout {
  /// In the order in which they are stored. Latents are keys.
  enum Part { Keys, KeyScales, Values, ValueScales };

  int64_t pageTokens, heads, keyDim, valueDim;
  bool isLatent;
  int64_t layers;
  mlir::Type element;
  int64_t group;
  /// Of a latent: elements of the key that an indexer adds, `[index_dim,
  /// tokens]` in f32 behind the latents; 0 without.
  int64_t indexDim;

  static PageLayout get(deepseek::KVCacheType cache, int64_t pageTokens);
  bool isInteger() const { return group != 0; }
  bool isF32() const { return element.isF32(); }
  /// Whether products with what it holds are those of bf16: of latents that
  /// were rounded to as few bits, or fewer.
  bool isOfPairs(const KernelOptions &options) const;
  int64_t elementBytes() const;
  int64_t partBytes(Part part) const;
  /// Byte offset of a part of head 0 within a layer's part of a page.
  int64_t offsetBytes(Part part) const;
  int64_t headBytes() const;
  /// Byte offset of the index keys within a layer's part of a page.
  int64_t indexOffsetBytes() const;
  int64_t layerBytes() const;
  int64_t pageBytes() const { return layerBytes() * layers; }
};

/// How the heads of attention are shared out to work items.
struct AttentionPlan {
  /// Dispatches with fewer items than this are split over the context.
  int64_t fewItems = 8;
  /// Items that a dispatch should have before a block takes several rows.
  int64_t enoughItems = 32;

  /// Query heads of one item, all with the same keys, and groups of them. No
  /// groups: a head does not fit on a kernel's stack.
  int64_t groupHeads = 0, groups = 0;
  /// Most rows of one item, as many as stay in the second-level cache with a
  /// page, and rows times heads.
  int64_t blockRows = 0, slots = 0;
  /// Columns of latents, at most, that are scored at a time, so that those of a
  /// page and of the queries of all slots stay in the first-level cache.
  int64_t scoreColumns = 0;
  /// Groups that one item of a split attention takes side by side, each with
  /// keys of its own: several streams from memory are faster than one.
  int64_t sides = 1;
  /// Segments of a whole context, which are summed one by one and merged in
  /// order, and items that share them out; 0 if attention is never split.
  int64_t segments = 0, segmentPages = 0, segmentTokens = 0, strands = 0;
  /// Tokens of the window, 0 if there is none, and of its sink; pages and
  /// segments that the sink takes.
  int64_t windowTokens = 0, sinkTokens = 0, sinkPages = 0, sinkSegments = 0;

  /// Positions that are chosen for each token, which it sees; 0 if it sees all.
  int64_t selectedTokens = 0;

  /// Whether a block of a GPU's threads takes an item: `rt.block_attention`.
  bool isOfBlocks = false;

  bool isWindowed() const { return windowTokens != 0; }
  int64_t pageTokens() const { return segmentTokens / segmentPages; }
  /// The plan of the dispatches that take segments as items: one row, and the
  /// groups of all sides as one.
  AttentionPlan split() const;

  /// \p window may be null. \p selectedTokens: see there.
  static AttentionPlan get(PageLayout page, int64_t heads, int64_t context,
                           deepseek::WindowAttr window,
                           const KernelOptions &options,
                           int64_t selectedTokens = 0);
};

/// Latent attention whose keys and values are computed again from latents.
struct ExpandedShape {
  /// Tokens of a sequence that a step has at least for their keys and values
  /// to be computed again. That takes rank * (nope + value) products for each
  /// token that they see, and saves what the absorbed form has more for each
  /// pair: for the shapes of V2 and V3, 170 rows pay for it.
  static constexpr int64_t leastRows = 384;
  /// Rows of one item, which computes all keys and values that they see.
  static constexpr int64_t blockRows = 2048;

  /// Columns of a head's key that are not rotated, and of its value; of the
  /// latents, and of the rotated key.
  int64_t heads, nope, value, rank, rope;

  /// Of a page of pairs. None if there is no kernel for it: products are made
  /// in whole vectors, and what a head needs is on the stack.
  static std::optional<ExpandedShape> get(PageLayout page, int64_t heads,
                                          int64_t nope, int64_t value);
};

/// [rows, columns] of f32 (or \p element), rows \p stride elements apart.
mlir::MemRefType rowsType(mlir::MLIRContext *context, int64_t columns,
                          int64_t stride, mlir::Type element = {});

/// How kernels are named after the element type \p type.
std::string shortName(mlir::Type type);

/// How kernels are named after the element type of a weight, \p type.
std::string weightName(mlir::Type type);

/// The part of a kernel's name that says where SwiGLU is cut off.
/// One over the root mean square of row \p row of \p in, \p columns wide:
/// what `rmsNorm` multiplies with.
mlir::Value rmsScale(KernelBuilder &b, mlir::Value in, mlir::Value row,
                     int64_t columns, float epsilon);

std::string limitName(std::optional<double> limit);

/// The part of a kernel's name that says whether inputs are rounded to bf16.
inline const char *inputName(bool bf16Inputs) {
  return bf16Inputs ? "_of_bf16" : "";
}

/// Rows that a tile of a packed weight interleaves.
constexpr int64_t tileRows = 16;

/// Digits of seven bits that a number of an input is where it is not rounded,
/// and where it is an integer of a `round_to_grid`: less its zero point, one of
/// nine bits.
constexpr int64_t inputDigits = 4, gridDigits = 2;

/// Scales of rounded inputs: max |x| / 127, the power of two at or above it,
/// or the logarithm to base two of that, all in f32.
enum class InputScale { Number, Power, Exponent };

/// An integer weight `[columns, inner]`; see `IntegerWeight`.
struct IntegerShape {
  int64_t columns, inner, bits, group, activationGroup;
  int64_t digits; ///< Of the inputs: 1, `gridDigits` or `inputDigits`.
  bool isUnsigned, hasOffsets;
  /// Of scales and of offsets.
  mlir::Type scaleElement, offsetElement;
  /// What its integers stand for; empty if for themselves.
  llvm::ArrayRef<int64_t> codebook = {};
  /// Columns that share a record with their scales and offsets; 0: see
  /// `IntegerWeight`.
  int64_t record = 0;

  /// How many of \p count parts of a row a record has; 0 without records.
  int64_t ofRecord(int64_t count) const {
    return record ? count / (inner / record) : 0;
  }
  /// Whether the scales of the inputs, which are rounded, are powers of two.
  bool hasPowers() const {
    return digits == 1 &&
           deepseek::roundsToPowers(bits, group, activationGroup);
  }
  /// What the names of kernels say of it, beside its sizes \p dims.
  std::string getName(const llvm::Twine &dims) const;
  /// Its sizes, of one matrix or of that of each expert.
  std::string getDims(int64_t experts = 0) const;
};

/// An integer weight of `head_linear`, `[heads, columns, inner]`.
struct HeadShape : IntegerShape {
  /// Groups are of columns; scales and offsets are `[heads, groups, inner]`, in
  /// no tiles.
  bool isTurned = false;

  std::string getName(int64_t heads) const {
    return IntegerShape::getName(getDims(heads)) + (isTurned ? "_turned" : "");
  }
};

class KernelSet {
public:
  KernelSet(mlir::ModuleOp module, KernelOptions options)
      : module(module), options(options) {}

  using Type = mlir::Type;
  using TypeRange = mlir::TypeRange;

  DotProductKind dotProduct() const { return options.dotProduct; }
  /// Whether kernels round the inputs of products to bf16 themselves.
  bool roundsInPlace() const {
    return options.dotProduct == DotProductKind::CUDA;
  }
  /// What stands for the scales of the inputs of \p shape.
  InputScale inputScale(const IntegerShape &shape) const {
    if (!shape.hasPowers())
      return InputScale::Number;
    return options.scalesByExponents ? InputScale::Exponent : InputScale::Power;
  }

  /// Tiles that one work item of a linear kernel computes.
  int64_t tilesPerItem(int64_t tiles) const;
  /// Work items of a linear kernel over \p columns outputs.
  int64_t linearItems(int64_t columns) const;
  /// Those of one over \p count weights of floating-point numbers, of type \p
  /// weight, for \p rows rows.
  mlir::Value linearItems(KernelBuilder &b, Type weight, int64_t count,
                          int64_t columns, mlir::Value rows) const;
  /// Those of each expert that has any slots, likewise.
  int64_t expertItems(Type weight, int64_t count, int64_t columns) const;

  /// (token_ids, table, out); items are rows.
  rt::KernelOp embed(TypeRange types, int64_t hidden);
  /// (token_ids, table, scales, [offsets], out); items are rows.
  rt::KernelOp integerEmbed(TypeRange types, const IntegerShape &shape);
  /// (in, weight, out); items are rows.
  rt::KernelOp rmsNorm(TypeRange types, int64_t columns, float epsilon);
  /// (in, weight, bias, out); items are rows.
  rt::KernelOp layerNorm(TypeRange types, int64_t columns, float epsilon);
  /// (in, weight, [bias], [scales], out, rows); items are `linearItems`. With
  /// \p bf16Inputs, here and below, inputs are those of `roundRows`, or f32
  /// where `roundsInPlace` says that the kernel rounds them.
  rt::KernelOp linear(TypeRange types, int64_t inner, int64_t columns,
                      bool hasBias, bool hasScales, bool bf16Inputs);
  /// (in, [norm's weight], values, scales, sums); items are rows. Rounds
  /// groups of elements to bytes, as products of \p shape read them; the sum of
  /// each goes to sums, as `sumFactor` says. With \p epsilon, what is rounded
  /// is `rmsNorm` of the row, which is stored nowhere.
  rt::KernelOp quantizeRows(TypeRange types, const IntegerShape &shape,
                            std::optional<float> epsilon);
  /// (in, pairs); items are rows. Rounds each number to bf16, two to an i32.
  rt::KernelOp roundRows(TypeRange types, int64_t columns);
  /// (in, digits, scales, sums); items are rows. Cuts each number into digits,
  /// of which the lowest comes first: row r is rows r * 4 .. r * 4 + 3 of
  /// digits and of sums that are integers. Scales are powers of two.
  rt::KernelOp splitRows(TypeRange types, const IntegerShape &shape);
  /// (in, grid, digits, scales, sums), likewise, of the integers that
  /// `round_to_grid` rounds to: two digits, whose scale is that of the grid.
  rt::KernelOp splitGrid(TypeRange types, const IntegerShape &shape);
  /// (in, grid, out); items are rows.
  rt::KernelOp roundToGrid(TypeRange types, int64_t columns);
  /// (values, scales, sums, weight, weight scales, [weight offsets], [bias],
  /// [residual], out, rows); items are groups of tiles. A residual, of whole
  /// tiles, is added last.
  rt::KernelOp integerLinear(TypeRange types, const IntegerShape &shape,
                             bool hasBias, bool hasResidual);
  /// (in, gate, up, [gate scales, up scales], out, rows); items are
  /// `linearItems`. Stores silu(gate) * up.
  rt::KernelOp gatedLinear(TypeRange types, int64_t inner, int64_t columns,
                           bool hasScales, std::optional<double> limit,
                           bool bf16Inputs);
  /// (values, scales, sums, gate, gate scales, up, up scales, [gate offsets,
  /// up offsets], out, rows), likewise.
  rt::KernelOp integerGatedLinear(TypeRange types, const IntegerShape &shape,
                                  std::optional<double> limit);
  /// (in, weight, [span], out, rows); items are heads * `linearItems`. With a
  /// span, `findRuns` says which rows.
  rt::KernelOp headLinear(TypeRange types, int64_t heads, int64_t stride,
                          int64_t inner, int64_t columns, bool hasSpan);
  /// (in, weight, scales, [offsets], [span], out, rows), likewise. The bits are
  /// those of a weight in f32.
  rt::KernelOp integerHeadLinear(TypeRange types, const HeadShape &shape,
                                 int64_t heads, int64_t stride, bool hasSpan);
  /// (in, positions, table, out); items are rows.
  rt::KernelOp rotary(TypeRange types, int64_t heads, int64_t headDim,
                      deepseek::RotaryAttr rotary, bool inverse,
                      bool isLeading);
  /// heads: (key, value, positions, sequences, layer, rows);
  /// latent: (latent, rope_key, positions, sequences, layer, rows).
  rt::KernelOp appendCache(TypeRange types, PageLayout page);
  /// Its items for \p rows: blocks of rows times heads; of latents, rows.
  static mlir::Value appendItems(KernelBuilder &b, PageLayout page,
                                 mlir::Value rows);
  /// (key, positions, sequences, layer); items are rows.
  rt::KernelOp appendIndex(TypeRange types, PageLayout page);
  /// (query, weights, positions, sequences, layer, scores); items are rows *
  /// strands. Scores of a row that sees no more than \p topK tokens are left as
  /// they are.
  rt::KernelOp indexScores(TypeRange types, PageLayout page, int64_t heads,
                           int64_t topK, double scale, int64_t strands);
  /// (scores, positions, selected); items are rows.
  rt::KernelOp selectTop(TypeRange types, int64_t topK);
  /// (query, positions, sequences, layer, out, rows, block_rows); items are
  /// groups of heads * blocks of rows. Split: (query, positions, sequences,
  /// layer, sums, stats); items are rows * groups * strands.
  rt::KernelOp attention(TypeRange types, PageLayout page, int64_t heads,
                         double scale, AttentionPlan plan, bool isSplit);
  /// (query, rope_query, ..), likewise; with selected positions, or runs of
  /// rows that another kernel computes, they come after the layer.
  rt::KernelOp absorbedAttention(TypeRange types, PageLayout page,
                                 int64_t heads, int64_t ropeStride,
                                 double scale, AttentionPlan plan, bool isSplit,
                                 bool hasRuns);
  /// (sequences, runs, span, rows); one item. What it writes for a row is 0, or
  /// the end of the row's run: of consecutive rows of one sequence, so many
  /// that `expandedAttention` computes them. All others are in [span[0],
  /// span[1]).
  rt::KernelOp findRuns(TypeRange types);
  /// (query, key weight, [scales, [offsets]], value weight, [scales,
  /// [offsets]], positions, sequences, layer, runs, stats, out, rows); items
  /// are heads * blocks of `ExpandedShape::blockRows` rows. Writes the rows
  /// that have a run. \p key and \p value are given if they are integers.
  rt::KernelOp expandedAttention(TypeRange types, PageLayout page,
                                 const ExpandedShape &shape,
                                 std::optional<HeadShape> key,
                                 std::optional<HeadShape> value, double scale);
  /// (sums, stats, positions, out) of a split attention; items are
  /// rows * heads.
  rt::KernelOp mergeSegments(TypeRange types, int64_t valueDim,
                             AttentionPlan plan);
  /// (gate, up, out); items are rows.
  rt::KernelOp swiglu(TypeRange types, int64_t columns,
                      std::optional<double> limit);
  /// (lhs, rhs, out); items are rows.
  rt::KernelOp add(TypeRange types, int64_t columns);
  /// (in, rows, out); items are kept rows. No columns: of vectors.
  rt::KernelOp gatherRows(TypeRange types, int64_t columns);
  /// (in, out); items are rows.
  rt::KernelOp copyRows(TypeRange types, int64_t columns);
  /// (update, rows, out); items are rows of the update.
  rt::KernelOp scatterRows(TypeRange types, int64_t columns);
  /// (scores, [threshold], [among], rows, count, all rows); one item. Writes to
  /// rows those whose score is above the threshold, or 0, and how many they
  /// are; of all rows, or of as many in \p among.
  rt::KernelOp selectRows(TypeRange types, bool hasThreshold, bool hasAmong);
  /// (before, after, out); items are rows.
  rt::KernelOp influence(TypeRange types, int64_t columns);
  /// (logits, [bias], [map], experts, weights); items are rows. \p massOf: as
  /// many experts' mass goes to those chosen; top_k if they keep their own.
  rt::KernelOp router(TypeRange types, deepseek::RoutingAttr routing,
                      int64_t massOf, bool hasMap);
  /// (logits, tokens, table, experts, weights); items are rows.
  rt::KernelOp hashRouter(TypeRange types, deepseek::RoutingAttr routing);
  /// (experts, offsets, list, active, rows); one item. Sorts slots (row *
  /// top_k + s) by expert: those of expert e are list[offsets[e] ..
  /// offsets[e + 1]); active[0 ..] are the experts that have any, and
  /// active[experts] their number.
  rt::KernelOp groupSlots(TypeRange types, int64_t experts, int64_t topK);
  /// (in, offsets, list, active, gate, up, [gate scales, up scales], out);
  /// items are active experts * `expertItems`.
  rt::KernelOp expertsUp(TypeRange types, int64_t experts, int64_t topK,
                         int64_t inner, int64_t columns, bool hasScales,
                         std::optional<double> limit, bool bf16Inputs);
  /// (in, offsets, list, active, down, [scales], out), likewise.
  rt::KernelOp expertsDown(TypeRange types, int64_t experts, int64_t inner,
                           int64_t columns, bool hasScales, bool bf16Inputs);
  /// (values, scales, sums, slot offsets, list, active, gate, gate scales,
  /// up, up scales, [gate offsets, up offsets], out); items as for expertsUp.
  rt::KernelOp integerExpertsUp(TypeRange types, const IntegerShape &shape,
                                int64_t experts, int64_t topK,
                                std::optional<double> limit);
  /// (values, scales, sums, slot offsets, list, active, down, down scales,
  /// [down offsets], out), likewise.
  rt::KernelOp integerExpertsDown(TypeRange types, const IntegerShape &shape,
                                  int64_t experts);
  /// (slots, weights, out); items are rows.
  rt::KernelOp combine(TypeRange types, int64_t topK, int64_t columns);

  /// (in, down, adapters, hidden); items are rows * rank.
  rt::KernelOp adaptDown(TypeRange types, int64_t rank, int64_t inner);
  /// (base, hidden, up, adapters, out); items are rows * adaptBlocks().
  rt::KernelOp adaptUp(TypeRange types, int64_t rank, int64_t columns);
  /// Items of one row of what adapters add to \p columns.
  static int64_t adaptBlocks(int64_t columns);

  /// (in, out); items are rows.
  rt::KernelOp unitNorm(TypeRange types, int64_t heads, int64_t dim,
                        float epsilon);
  /// (in, out); items are rows.
  rt::KernelOp hyperExpand(TypeRange types, int64_t streams, int64_t hidden);
  /// (in, weight, out): products of whole rows, not normalized; items are
  /// rows * rows of the weight.
  rt::KernelOp hyperProject(TypeRange types, int64_t rows, int64_t columns);
  /// (in, products, base, scale, sublayer, post, comb); items are rows.
  rt::KernelOp hyperMix(TypeRange types, int64_t streams, int64_t hidden,
                        int64_t iterations, float normEpsilon, float epsilon);
  /// (in, products, base, scale, out); items are rows.
  rt::KernelOp hyperHead(TypeRange types, int64_t streams, int64_t hidden,
                         float normEpsilon, float epsilon);
  /// (in, sublayer, post, comb, out); items are rows.
  rt::KernelOp hyperUpdate(TypeRange types, int64_t streams, int64_t hidden);

  /// (key, positions, sequences, layer); items are rows.
  rt::KernelOp appendCompressed(TypeRange types,
                                const CompressedLayout &layout);
  /// (value, gate, bias, positions, sequences, index); items are rows.
  rt::KernelOp appendCompressor(TypeRange types, const CompressedLayout &layout,
                                int64_t ratio, bool isIndex);
  /// (norm, table, positions, sequences, index); items are rows, of which the
  /// last of each window makes an entry. \p rotated columns turn.
  rt::KernelOp compress(TypeRange types, const CompressedLayout &layout,
                        int64_t ratio, bool isIndex, int64_t rotated,
                        float epsilon);
  /// (query, weights, positions, sequences, index, out); items are rows.
  rt::KernelOp selectEntries(TypeRange types, const CompressedLayout &layout,
                             int64_t heads, double scale, int64_t topK);
  /// (query, sinks, [selected], positions, sequences, layer, index, out); items
  /// are rows * groups of heads.
  rt::KernelOp compressedAttention(TypeRange types,
                                   const CompressedLayout &layout,
                                   const CompressedAttentionPlan &plan,
                                   double scale);

private:
  using Body = llvm::function_ref<void(KernelBuilder &, rt::KernelOp)>;
  rt::KernelOp get(const llvm::Twine &name, TypeRange types, Body body);

  mlir::ModuleOp module;
  KernelOptions options;
  llvm::StringMap<rt::KernelOp> kernels;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_KERNELS_H
