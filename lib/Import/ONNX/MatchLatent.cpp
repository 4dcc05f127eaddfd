// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Proves that products of queries, keys and values are multi-head latent
// attention (DeepSeek-V2, arXiv:2405.04434, section 2.1), written out: heads of
// queries and keys are a part without positions and a rotated one, which all
// heads of keys share, and keys and values are expanded from a latent.

#include "lib/Import/JSON.h"
#include "lib/Import/ONNX/DecoderProof.h"

#include "mlir/Dialect/Utils/IndexingUtils.h"

#include <cmath>

using namespace mlir;
using namespace hadal;
using namespace hadal::onnx;

/// Of the norms of latents in the code of all generations, and in the dialect.
constexpr double latentEpsilon = 1e-6;

/// Puts a Concat in the place of \p last, if it and a ScatterND before it write
/// all of what they return: the beginning of the last dimension and the rest,
/// as torch exports writes to slices of a tensor. That dimension comes first
/// in both, by transpositions.
bool DecoderProof::joinParts(NodeOp last) {
  auto isWrite = [](NodeOp node) {
    return node && node.getOpType() == "ScatterND" &&
           node.getInputs().size() == 3 &&
           getText(node, "reduction", "none") == "none";
  };
  auto orderOf = [&](NodeOp transpose) {
    return transpose ? getInts(transpose, "perm")
                     : std::optional<SmallVector<int64_t>>();
  };
  if (!isWrite(last))
    return false;
  Value base = last.getInputs()[0];
  if (NodeOp back = nodeOf(base, "Transpose")) {
    NodeOp there = nodeOf(back.getInputs()[0], "Transpose");
    auto first = orderOf(there), second = orderOf(back);
    if (!first || !second || !isPermutationVector(*first) ||
        *second != invertPermutationVector(*first))
      return false;
    base = there.getInputs()[0];
  }
  NodeOp begin = nodeOf(base, "ScatterND");
  if (!isWrite(begin))
    return false;
  SmallVector<Value> parts;
  std::optional<SmallVector<int64_t>> order;
  for (NodeOp write : {begin, last}) {
    NodeOp turned = nodeOf(write.getInputs()[2], "Transpose");
    auto own = orderOf(turned);
    if (!own || own->empty() || (*own)[0] + 1 != int64_t(own->size()) ||
        own != order.value_or(*own))
      return false;
    order = own;
    parts.push_back(turned.getInputs()[0]);
  }
  for (auto &evaluator : evaluators) {
    const Array *whole = evaluator->get(last.getOutputs()[0]);
    int64_t next = 0;
    for (NodeOp write : {begin, last}) {
      const Array *places = evaluator->get(write.getInputs()[1]);
      const Array *part = evaluator->get(write.getInputs()[2]);
      if (!whole || whole->shape.empty() || !places || !places->isKnown() ||
          places->shape.size() != 2 || places->shape[1] != 1 || !part ||
          part->shape.size() != whole->shape.size() ||
          part->shape[0] != places->count ||
          ArrayRef<int64_t>(part->shape).drop_front() !=
              ArrayRef<int64_t>(whole->shape).drop_front())
        return false;
      for (int64_t i = 0; i < places->count; ++i)
        if (places->integer(i) != next++)
          return false;
    }
    if (next != whole->shape[0])
      return false;
  }
  OpBuilder builder(last);
  auto make = [&](StringRef type, ValueRange inputs, NamedAttribute parameter) {
    return NodeOp::create(builder, last.getLoc(),
                          TypeRange(ValueType::get(last.getContext())), type,
                          last.getName(), inputs,
                          builder.getDictionaryAttr(parameter))
        .getOutputs()[0];
  };
  Value joined = make(
      "Concat", parts,
      builder.getNamedAttr("axis", builder.getI64IntegerAttr((*order)[0])));
  joined =
      make("Transpose", joined,
           builder.getNamedAttr("perm", builder.getDenseI64ArrayAttr(*order)));
  last.getOutputs()[0].replaceAllUsesWith(joined);
  return true;
}

/// The same everywhere. Whether anything has changed, so that the graph must be
/// evaluated again.
bool DecoderProof::joinAllParts() {
  bool hasChanged = false;
  for (NodeOp node : llvm::make_early_inc_range(graph.front().getOps<NodeOp>()))
    hasChanged |= joinParts(node);
  return hasChanged;
}

NodeOp DecoderProof::findJoin(Value operand) {
  NodeOp join = nodeOf(walk(operand).source, "Concat");
  if (!join || join.getInputs().size() != 2)
    return {};
  const Array *whole = small().get(join.getOutputs()[0]);
  return whole && isLastAxis(join, 0, whole) ? join : NodeOp();
}

/// Heads of queries or keys are what latent attention makes of the rows of two
/// projections, or one, at the lengths of \p evaluator.
bool DecoderProof::proveJoined(Evaluator &evaluator, JoinedHeads &side,
                               int64_t heads,
                               const huggingface::LatentConfig &latent) {
  int64_t nope = latent.nopeDim, rope = latent.ropeDim, half = rope / 2;
  int64_t dim = nope + rope, keyWidth = nope + latent.valueDim;
  bool isKey = side.isKey;
  // Rows of what heads are taken from, one a token.
  struct Expected {
    int64_t width, first, perHead;
  };
  const Expected plain = isKey ? Expected{heads * keyWidth, 0, keyWidth}
                               : Expected{heads * dim, 0, dim};
  const Expected turned = isKey ? Expected{latent.rank + rope, latent.rank, 0}
                                : Expected{heads * dim, nope, dim};
  const Lengths &lengths = evaluator.getLengths();
  int64_t past = isKey ? lengths.past : 0, total = past + lengths.tokens;
  const Movement &in = side.rotation.input, &high = side.rotation.high,
                 &low = side.rotation.low;
  ArrayPtr outer = trace(evaluator, side.outer),
           nopeIndex = trace(evaluator, side.nope);
  ArrayPtr ropeIndex = trace(evaluator, side.rope),
           index = trace(evaluator, in);
  ArrayPtr highIndex = trace(evaluator, high), lowIndex = trace(evaluator, low);
  const Array *cosines = evaluator.get(side.rotation.cosine);
  const Array *sines = evaluator.get(side.rotation.sine);
  const Array *rotated = evaluator.get(side.rotation.node.getOutputs()[0]);
  const Array *nopeFrom = evaluator.get(side.nopeSource());
  const Array *ropeFrom = evaluator.get(side.ropeSource());
  if (!outer || !nopeIndex || !ropeIndex || !index || !highIndex || !lowIndex ||
      !cosines || !cosines->isKnown() || !sines || !sines->isKnown() ||
      !rotated || !nopeFrom || !ropeFrom)
    return refuse(side.outer.result,
                  "heads that are moved by nodes that are known");
  int64_t rows = lengths.batch * lengths.tokens;
  if (outer->count != lengths.batch * heads * total * dim ||
      nopeIndex->shape.empty() || nopeIndex->shape.back() != nope ||
      ropeIndex->shape.empty() || ropeIndex->shape.back() != rope ||
      nopeFrom->count != rows * plain.width ||
      ropeFrom->count != rows * turned.width ||
      nopeFrom->shape.back() != plain.width ||
      ropeFrom->shape.back() != turned.width || rotated->shape.empty() ||
      rotated->shape.back() != rope || rotated->count != index->count ||
      highIndex->count * 2 != rotated->count ||
      lowIndex->count * 2 != rotated->count || highIndex->shape.empty() ||
      lowIndex->shape.empty() || highIndex->shape.back() != half ||
      lowIndex->shape.back() != half)
    return refuse(side.outer.result, "heads of projections, one a token");
  auto flat = [&](int64_t b, int64_t h, int64_t t, int64_t j) {
    return isKey ? ((b * heads + h) * dim + j) * total + t
                 : ((b * heads + h) * total + t) * dim + j;
  };
  // Keys may be transposed before the product, or not.
  ArrayRef<int64_t> outerShape = outer->shape;
  if (isKey &&
      (outerShape.size() < 2 || outerShape[outerShape.size() - 2] != dim))
    return refuse(side.outer.result, "keys that are transposed");
  auto angleAt = [&](int64_t at) {
    return angleOf(evaluator, side.rotation, at);
  };
  // The element of what the rotation makes that is \p j of a rotated part.
  auto turnedAt = [&](int64_t b, int64_t h, int64_t s, int64_t j) -> int64_t {
    int64_t at = outer->integer(flat(b, h, past + s, nope + j));
    if (at < 0 || at % dim != nope + j)
      return -1;
    return ropeIndex->integer(at / dim * rope + j);
  };
  if (!hasRope) {
    RopeTable table;
    table.positions = lengths.tokens;
    table.pairs = half;
    table.at = [&](int64_t p, int64_t i) -> Angle {
      int64_t at = turnedAt(0, 0, p, i);
      return at < 0 ? Angle{std::nan(""), 0} : angleAt(at);
    };
    if (past != 0 || !setRope(table, side.outer.result))
      return refuse(side.outer.result,
                    "a graph that takes steps without a past");
  }
  bool isRight = forElements(
      lengths, heads, dim,
      [&](int64_t b, int64_t h, int64_t s, int64_t j) -> bool {
        int64_t row = b * lengths.tokens + s;
        if (j < nope) {
          int64_t at = outer->integer(flat(b, h, past + s, j));
          return at >= 0 && at % dim == j &&
                 nopeIndex->integer(at / dim * nope + j) ==
                     row * plain.width + plain.first + h * plain.perHead + j;
        }
        // Neighbors become halves, and these are rotated.
        int64_t i = j - nope, at = turnedAt(b, h, s, i);
        if (at < 0 || at >= rotated->count || at % rope != i)
          return false;
        int64_t base = row * turned.width + turned.first + h * turned.perHead;
        int64_t own = i < half ? 2 * i : 2 * (i - half) + 1;
        int64_t line = at / rope;
        int64_t other = i < half ? highIndex->integer(line * half + i)
                                 : lowIndex->integer(line * half + i - half);
        return index->integer(at) == base + own &&
               other == base + (i < half ? own + 1 : own - 1) &&
               formula.matches(angleAt(at), lengths.past + s, i % half,
                               /*mantissaBits=*/23);
      });
  if (!isRight)
    return refuse(side.outer.result,
                  "heads that begin without positions and end in a part "
                  "that is rotated by neighbors, as the positions say");
  if (past)
    for (int64_t h : {int64_t(0), heads - 1})
      for (int64_t t : {int64_t(0), past - 1})
        if (outer->integer(flat(0, h, t, 0)) != -1)
          return refuse(side.outer.result, "keys of the past before others");
  return true;
}

bool DecoderProof::matchLatent(NodeOp product, Value queries, Value keys,
                               double scale, Value residual,
                               DecoderLayer &layer) {
  Value result = product.getOutputs()[0];
  Value values = product.getInputs()[1];
  JoinedHeads q, k;
  k.isKey = true;
  for (auto [heads, operand] : {std::pair{&q, queries}, {&k, keys}}) {
    heads->outer = walk(operand);
    heads->join = findJoin(operand);
    if (!heads->join)
      return refuse(heads->outer.source,
                    "heads of a part without positions and a rotated one");
    heads->nope = walk(heads->join.getInputs()[0]);
    heads->rope = walk(heads->join.getInputs()[1]);
    if (!matchRotation(heads->rope.source, heads->rotation))
      return false;
  }
  Movement v = walk(values);
  // Sizes, which no length changes.
  const Array *queryArray = small().get(queries);
  const Array *nopeArray = small().get(q.join.getInputs()[0]);
  const Array *valueArray = small().get(values);
  const Array *kvArray = small().get(k.ropeSource());
  if (!queryArray || queryArray->shape.size() != 4 || !nopeArray ||
      nopeArray->shape.empty() || !valueArray ||
      valueArray->shape.size() != 4 || !kvArray || kvArray->shape.empty())
    return refuse(result, "queries, keys and values of four dimensions");
  huggingface::LatentConfig latent;
  int64_t heads = queryArray->shape[1], dim = queryArray->shape[3];
  latent.nopeDim = nopeArray->shape.back();
  latent.ropeDim = dim - latent.nopeDim;
  latent.valueDim = valueArray->shape.back();
  latent.rank = kvArray->shape.back() - latent.ropeDim;
  int64_t nope = latent.nopeDim, rope = latent.ropeDim;
  if (nope < 1 || rope < 2 || rope % 2 != 0 || latent.rank < 1 ||
      latent.valueDim < 1)
    return refuse(result, "parts of heads and of a latent, of sizes from 1 on");

  int64_t keyWidth = nope + latent.valueDim;
  for (size_t n = evaluators.size(); n-- > 0;) {
    Evaluator &evaluator = *evaluators[n];
    const Lengths &lengths = evaluator.getLengths();
    if (!proveJoined(evaluator, q, heads, latent) ||
        !proveJoined(evaluator, k, heads, latent))
      return false;
    // Values are the rest of each head of what keys are taken from.
    ArrayPtr index = trace(evaluator, v);
    int64_t total = lengths.past + lengths.tokens;
    if (v.source != k.nopeSource() || !index ||
        index->count != lengths.batch * heads * total * latent.valueDim)
      return refuse(values, "values from the projection that keys are from");
    bool isRight = forElements(
        lengths, heads, latent.valueDim,
        [&](int64_t b, int64_t h, int64_t s, int64_t j) {
          int64_t at =
              ((b * heads + h) * total + lengths.past + s) * latent.valueDim +
              j;
          return index->integer(at) ==
                 (b * lengths.tokens + s) * heads * keyWidth + h * keyWidth +
                     nope + j;
        });
    if (!isRight)
      return refuse(values, "values behind the keys of each head");
    if (lengths.past && index->integer(0) != -1)
      return refuse(values, "values of the past before others");
  }

  // YaRN's factor of the scale is in no table.
  double factor = scale * std::sqrt(double(dim));
  bool isGiven = givenRope || decoder.latent;
  double expected = isGiven ? decoder.rope.softmaxFactor : factor;
  if (!(factor > 0 && std::abs(factor - expected) <= 1e-6 * expected))
    return refuse(result,
                  "a scale of " +
                      Twine(std::to_string(expected / std::sqrt(double(dim)))) +
                      ", but got " + Twine(std::to_string(scale)));
  if (!isGiven)
    decoder.rope.softmaxFactor = std::abs(factor - 1) <= 1e-6 ? 1 : factor;

  Value queryInput, expanded, latentInput, normed;
  if (!matchLinear(q.nopeSource(), layer.q, queryInput) ||
      q.ropeSource() != q.nopeSource())
    return refuse(q.nopeSource(), "queries that are one projection");
  if (!matchLinear(k.nopeSource(), layer.kvExpansion, expanded))
    return refuse(k.nopeSource(), "keys and values that are one projection");
  if (!matchLatentNorm(expanded, layer.kvNorm, normed))
    return false;
  // The latent is the beginning of the rows that the rotated keys end.
  Movement begin = walk(normed);
  if (begin.source != k.ropeSource())
    return refuse(normed, "the latent of the projection that rotated keys are "
                          "from");
  for (auto &evaluator : evaluators) {
    ArrayPtr index = trace(*evaluator, begin);
    int64_t rows =
        evaluator->getLengths().batch * evaluator->getLengths().tokens;
    if (!index || index->count != rows * latent.rank)
      return refuse(normed, "the first columns of a projection");
    for (int64_t row : {int64_t(0), rows / 2, rows - 1})
      for (int64_t j = 0; j < latent.rank; ++j)
        if (index->integer(row * latent.rank + j) !=
            row * (latent.rank + rope) + j)
          return refuse(normed, "the first columns of a projection");
  }
  if (!matchLinear(k.ropeSource(), layer.kvLatent, latentInput))
    return refuse(k.ropeSource(), "a latent and rotated keys that are one "
                                  "projection");
  if (strip(queryInput) != strip(latentInput)) {
    Value beforeNorm;
    if (!matchLatentNorm(queryInput, layer.qNorm, beforeNorm))
      return false;
    if (!matchLinear(beforeNorm, layer.qLatent, queryInput))
      return refuse(beforeNorm, "a latent that is a projection");
    latent.queryRank = layer.qLatent.rows;
  }
  if (layer.q.rows != heads * dim ||
      layer.kvExpansion.rows != heads * keyWidth ||
      layer.kvLatent.rows != latent.rank + rope)
    return refuse(result, "projections to the heads and the latent");
  auto keyOf = [](const huggingface::LatentConfig &config) {
    return std::tuple(config.queryRank, config.rank, config.nopeDim,
                      config.ropeDim, config.valueDim);
  };
  if (!decoder.latent) {
    if (decoder.heads)
      return refuse(result, "latent attention in all layers or in none");
    decoder.latent = latent;
    decoder.heads = decoder.kvHeads = heads;
    decoder.headDim = dim;
  }
  if (keyOf(*decoder.latent) != keyOf(latent) || decoder.heads != heads)
    return refuse(result, "latent attention of the sizes that other layers "
                          "have");
  return matchInputNorm(result, {queryInput, latentInput, latentInput},
                        residual, layer);
}

bool DecoderProof::matchLatentNorm(Value value, InitializerOp &weight,
                                   Value &input) {
  NodeOp node = nodeOf(strip(value), "RMSNormalization");
  if (!node || !matchNormOf(node, weight, input))
    return refuse(value, "an RMS norm of a latent");
  double epsilon = getFloat(node, "epsilon", 1e-5);
  if (float(epsilon) != float(latentEpsilon))
    return refuse(value, "epsilon 0.000001 for the norm of a latent, but got " +
                             Twine(std::to_string(epsilon)));
  return true;
}
