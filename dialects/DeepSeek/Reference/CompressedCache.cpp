// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention over compressed entries, plain and slow.

#include "dialects/DeepSeek/Reference/CompressedCache.h"

#include "dialects/DeepSeek/IR/RotaryTable.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>

using namespace mlir;
using namespace hadal::deepseek;

static double dot(const double *a, const double *b, int64_t size) {
  double sum = 0;
  for (int64_t i = 0; i < size; ++i)
    sum += a[i] * b[i];
  return sum;
}

/// Rotates the last dimensions of \p entry, which stands for \p position.
static void rotate(std::vector<double> &entry, RotaryAttr rotary,
                   int64_t position) {
  double factor = getRotaryAttentionFactor(rotary);
  double *x = entry.data() + int64_t(entry.size()) - rotary.getDim();
  for (double frequency : getRotaryFrequencies(rotary)) {
    double angle = double(position) * frequency;
    double a = x[0], b = x[1];
    double cosine = std::cos(angle) * factor, sine = std::sin(angle) * factor;
    *x++ = a * cosine - b * sine;
    *x++ = b * cosine + a * sine;
  }
}

/// A number in [0, \p limit), or an error of \p op.
static FailureOr<int64_t> readIndex(Operation *op, StringRef name, double value,
                                    int64_t limit) {
  auto index = int64_t(value);
  if (index >= 0 && index < limit)
    return index;
  return op->emitOpError("expects ")
         << name << " in [0, " << limit << "), but got " << index;
}

static LogicalResult expectRows(Operation *op, ArrayRef<const Tensor *> rows) {
  for (const Tensor *tensor : rows)
    if (tensor && tensor->rows() != rows.front()->rows())
      return op->emitOpError("expects operands of as many rows, but got ")
             << rows.front()->rows() << " and " << tensor->rows();
  return success();
}

LogicalResult CompressedCache::compress(CompressOp op, Operands operands) {
  const Tensor &value = *operands[0], &gate = *operands[1];
  const Tensor &bias = *operands[2], &norm = *operands[3];
  const Tensor &positions = *operands[4], &sequences = *operands[5];
  if (failed(expectRows(op, {&value, &gate, &positions, &sequences})))
    return failure();
  int64_t ratio = op.getRatio(), dim = norm.columns();
  FailureOr<int64_t> index =
      readIndex(op, "an index", operands[7]->values[0],
                op.getCache().getType().countLayers(ratio));
  if (failed(index))
    return failure();
  CachePart part = op.getPart();
  for (int64_t t = 0; t < value.rows(); ++t) {
    FailureOr<int64_t> position =
        readIndex(op, "positions", positions.values[size_t(t)], INT32_MAX);
    FailureOr<int64_t> sequence =
        readIndex(op, "sequences", sequences.values[size_t(t)], INT32_MAX);
    if (failed(position) || failed(sequence))
      return failure();
    Slots &values = at(Value, part, ratio, *index, *sequence);
    Slots &gates = at(Gate, part, ratio, *index, *sequence);
    values[*position].assign(value.row(t), value.row(t) + value.columns());
    Vector &biased = gates[*position];
    biased.assign(gate.row(t), gate.row(t) + gate.columns());
    for (int64_t i = 0; i < gate.columns(); ++i)
      biased[size_t(i)] += bias.row(*position % ratio)[i];
    if ((*position + 1) % ratio != 0)
      continue;

    // Tokens of the entry, and the column at which each has what is for it.
    int64_t begin = *position + 1 - ratio;
    SmallVector<std::pair<int64_t, int64_t>> members;
    if (op.isOverlapping() && begin > 0)
      for (int64_t p = begin - ratio; p < begin; ++p)
        members.push_back({p, 0});
    for (int64_t p = begin; p <= *position; ++p)
      members.push_back({p, op.isOverlapping() ? dim : 0});
    Vector entry(static_cast<size_t>(dim));
    for (int64_t i = 0; i < dim; ++i) {
      double most = -INFINITY, total = 0;
      for (auto [p, column] : members) {
        auto found = gates.find(p);
        if (found == gates.end())
          return op.emitOpError("expects every token of a window in the cache, "
                                "but position ")
                 << p << " is not";
        most = std::max(most, found->second[size_t(column + i)]);
      }
      for (auto [p, column] : members) {
        double weight = std::exp(gates[p][size_t(column + i)] - most);
        entry[size_t(i)] += weight * values[p][size_t(column + i)];
        total += weight;
      }
      entry[size_t(i)] /= total;
    }
    double epsilon = double(op.getEpsilon().convertToFloat());
    double factor =
        1 /
        std::sqrt(dot(entry.data(), entry.data(), dim) / double(dim) + epsilon);
    for (int64_t i = 0; i < dim; ++i)
      entry[size_t(i)] *= factor * norm.values[size_t(i)];
    rotate(entry, op.getRotary(), begin);
    at(Entry, part, ratio, *index, *sequence)[begin / ratio] = entry;
  }
  return success();
}

FailureOr<Tensor> CompressedCache::select(SelectEntriesOp op,
                                          Operands operands) {
  const Tensor &query = *operands[0], &weights = *operands[1];
  const Tensor &positions = *operands[2], &sequences = *operands[3];
  if (failed(expectRows(op, {&query, &weights, &positions, &sequences})))
    return failure();
  CompressedCacheType type = op.getCache().getType();
  int64_t ratio = type.getOverlapping(), dim = type.getIndexDim();
  FailureOr<int64_t> index = readIndex(op, "an index", operands[5]->values[0],
                                       type.countLayers(ratio));
  if (failed(index))
    return failure();
  int64_t topK = cast<RankedTensorType>(op.getResult().getType()).getDimSize(1);
  Tensor result({query.rows(), topK});
  double scale = op.getScale().convertToDouble();
  for (int64_t t = 0; t < query.rows(); ++t) {
    Slots &keys = at(Entry, CachePart::Index, ratio, *index,
                     int64_t(sequences.values[size_t(t)]));
    auto visible = (int64_t(positions.values[size_t(t)]) + 1) / ratio;
    SmallVector<std::pair<double, int64_t>> ranking;
    for (int64_t w = 0; w < visible; ++w) {
      auto key = keys.find(w);
      if (key == keys.end())
        return op.emitOpError("expects every entry in the cache, but window ")
               << w << " has none";
      double score = 0;
      for (int64_t h = 0; h < int64_t(op.getHeads()); ++h)
        score +=
            weights.row(t)[h] *
            std::max(dot(query.row(t) + h * dim, key->second.data(), dim), 0.0);
      ranking.push_back({score * scale, w});
    }
    llvm::sort(ranking, [](auto &a, auto &b) { // Of equals, the earliest.
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    if (int64_t(ranking.size()) > topK)
      ranking.truncate(size_t(topK));
    llvm::sort(ranking, llvm::less_second());
    for (int64_t i = 0; i < topK; ++i)
      result.row(t)[i] =
          i < int64_t(ranking.size()) ? double(ranking[size_t(i)].second) : -1;
  }
  return result;
}

FailureOr<Tensor> CompressedCache::attend(CompressedAttentionOp op,
                                          Operands operands) {
  const Tensor &query = *operands[0], &key = *operands[1];
  const Tensor &sinks = *operands[2], *selected = operands[3];
  const Tensor &positions = *operands[4], &sequences = *operands[5];
  if (failed(expectRows(op, {&query, &key, selected, &positions, &sequences})))
    return failure();
  CompressedCacheType type = op.getCache().getType();
  FailureOr<int64_t> layer =
      readIndex(op, "a layer", operands[7]->values[0], type.getLayers());
  int64_t ratio = op.getRatio(), index = 0;
  if (failed(layer))
    return failure();
  if (ratio) {
    FailureOr<int64_t> number = readIndex(
        op, "an index", operands[8]->values[0], type.countLayers(ratio));
    if (failed(number))
      return failure();
    index = *number;
  }
  auto keysOf = [&](int64_t t) -> Slots & {
    return at(Key, CachePart::Entries, 0, *layer,
              int64_t(sequences.values[size_t(t)]));
  };
  for (int64_t t = 0; t < key.rows(); ++t)
    keysOf(t)[int64_t(positions.values[size_t(t)])].assign(
        key.row(t), key.row(t) + key.columns());

  int64_t heads = op.getHeads(), dim = type.getDim();
  double scale = op.getScale().convertToDouble();
  Tensor result({query.rows(), heads * dim});
  for (int64_t t = 0; t < query.rows(); ++t) {
    auto position = int64_t(positions.values[size_t(t)]);
    SmallVector<const double *> seen;
    for (const auto &[p, row] : keysOf(t))
      if (p <= position && p > position - int64_t(op.getWindow()))
        seen.push_back(row.data());
    if (ratio) {
      Slots &entries = at(Entry, CachePart::Entries, ratio, index,
                          int64_t(sequences.values[size_t(t)]));
      for (const auto &[w, row] : entries) {
        bool isChosen = !selected || llvm::is_contained(
                                         ArrayRef(selected->row(t),
                                                  size_t(selected->columns())),
                                         double(w));
        if (w < (position + 1) / ratio && isChosen)
          seen.push_back(row.data());
      }
    }
    for (int64_t h = 0; h < heads; ++h) {
      double most = sinks.values[size_t(h)];
      Vector weights;
      for (const double *row : seen) {
        weights.push_back(dot(query.row(t) + h * dim, row, dim) * scale);
        most = std::max(most, weights.back());
      }
      double total = std::exp(sinks.values[size_t(h)] - most);
      double *out = result.row(t) + h * dim;
      for (auto [row, weight] : llvm::zip(seen, weights)) {
        double share = std::exp(weight - most);
        total += share;
        for (int64_t i = 0; i < dim; ++i)
          out[i] += share * row[i];
      }
      for (int64_t i = 0; i < dim; ++i)
        out[i] /= total;
    }
  }
  return result;
}
