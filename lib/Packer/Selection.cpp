// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Nodes of recipes that leave out what matters least.

#include "lib/Packer/Selection.h"

#include "dialects/DeepSeek/IR/Importance.h"

#include "absl/strings/str_cat.h"
#include "llvm/ADT/STLExtras.h"

#include <algorithm>

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

/// Elements that are read at a time; they stay in the cache.
static constexpr int64_t blockElements = 32 * 1024;

static int64_t productOf(ArrayRef<int64_t> sizes) {
  int64_t product = 1;
  for (int64_t size : sizes)
    product *= size;
  return product;
}

namespace {

/// Computed as a whole when first asked for: a number a channel.
class ImportanceNode : public RecipeNode {
public:
  ImportanceNode(ImportanceOp op, int64_t count, RecipeNode *weight,
                 RecipeNode *moment, StringRef name)
      : RecipeNode(ElementKind::F32, count), weight(weight), moment(moment),
        name(name),
        shape(cast<RankedTensorType>(op.getWeight().getType()).getShape()),
        group(int64_t(op.getGroup())) {}

  absl::Status evaluate(int64_t first, int64_t count, void *out) override {
    if (result.empty()) {
      absl::Status status = compute();
      if (!status.ok())
        return status;
    }
    std::copy_n(result.data() + first, count, static_cast<float *>(out));
    return absl::OkStatus();
  }

private:
  absl::Status compute() {
    int64_t columns = shape.back(), rows = shape[shape.size() - 2];
    std::vector<double> sums(static_cast<size_t>(count), 0.0);
    std::vector<float> factors(static_cast<size_t>(columns), 1.0f);
    std::vector<char> elements(
        size_t(blockElements * weight->getElementBytes()));
    std::vector<float> numbers(static_cast<size_t>(blockElements));
    for (int64_t m = 0; m < count * group / columns; ++m) {
      absl::Status status = readFactors(m, factors);
      for (int64_t done = 0; status.ok() && done < rows * columns;) {
        int64_t now = std::min(blockElements, rows * columns - done);
        status =
            weight->evaluate(m * rows * columns + done, now, elements.data());
        if (!status.ok())
          break;
        widen(weight->getKind(), elements.data(), now, numbers.data());
        for (int64_t i = 0; i < now; ++i) {
          int64_t column = (done + i) % columns;
          double value = numbers[size_t(i)];
          sums[size_t((m * columns + column) / group)] +=
              value * value * double(factors[size_t(column)]);
        }
        done += now;
      }
      if (!status.ok())
        return status;
    }
    std::vector<float> rounded(sums.begin(), sums.end());
    int64_t bad = findNonFinite(ElementKind::F32, rounded.data(), count);
    if (bad >= 0)
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", name.str(), "': the importance of channel ",
                       bad, " does not fit f32"));
    result = std::move(rounded);
    return absl::OkStatus();
  }

  /// The moments of matrix \p m, or ones if all are zero.
  absl::Status readFactors(int64_t m, std::vector<float> &factors) {
    if (!moment)
      return absl::OkStatus();
    auto columns = int64_t(factors.size());
    absl::Status status =
        moment->evaluate(moment->getCount() == columns ? 0 : m * columns,
                         columns, factors.data());
    if (status.ok() &&
        llvm::all_of(factors, [](float factor) { return factor == 0; }))
      std::fill(factors.begin(), factors.end(), 1.0f);
    return status;
  }

  RecipeNode *weight, *moment;
  StringRef name;
  ArrayRef<int64_t> shape; ///< Of the weight.
  int64_t group;
  std::vector<float> result;
};

class SelectNode : public PiecewiseNode {
public:
  SelectNode(SelectOp op, int64_t count, RecipeNode *input,
             RecipeNode *importance)
      : PiecewiseNode(input->getKind(), count), input(input),
        importance(importance), keep(int64_t(op.getKeep())),
        groups(int64_t(op.getGroups())), sorted(op.getSorted()) {
    auto shape = cast<RankedTensorType>(op.getInput().getType()).getShape();
    size_t axis = op.getAxis();
    size = shape[axis];
    unit = productOf(shape.drop_front(axis + 1));
    perRow = productOf(shape.take_front(axis));
    if (importance->getCount() != size)
      perRow /= shape.front();
  }

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    if (kept.empty()) {
      absl::Status status = choose();
      if (!status.ok())
        return status;
    }
    int64_t outer = first / (keep * unit), at = first / unit % keep;
    const int64_t *of = kept.data() + outer / perRow * keep;
    if (importance->getCount() == size)
      of = kept.data();
    // Neighbors that both stay are read at once.
    int64_t run = 1;
    while (at + run < keep && of[at + run] == of[at] + run)
      ++run;
    int64_t skip = first % unit;
    int64_t now = std::min(count, run * unit - skip);
    absl::Status status =
        input->evaluate((outer * size + of[at]) * unit + skip, now, out);
    if (!status.ok())
      return status;
    return now;
  }

private:
  absl::Status choose() {
    std::vector<float> row(static_cast<size_t>(size));
    for (int64_t i = 0; i < importance->getCount(); i += size) {
      absl::Status status = importance->evaluate(i, size, row.data());
      if (!status.ok())
        return status;
      llvm::append_range(
          kept, selectMost(size, keep, groups, sorted,
                           [&](int64_t j) { return double(row[size_t(j)]); }));
    }
    return absl::OkStatus();
  }

  RecipeNode *input, *importance;
  int64_t keep, groups;
  bool sorted;
  int64_t size, unit;        ///< Indices of the axis, and elements of one.
  int64_t perRow;            ///< Outer indices with one row of importance.
  std::vector<int64_t> kept; ///< [rows of importance, keep]
};

class RankNode : public RecipeNode {
public:
  RankNode(int64_t count, RecipeNode *importance)
      : RecipeNode(ElementKind::I32, count), importance(importance) {}

  absl::Status evaluate(int64_t first, int64_t count, void *out) override {
    std::vector<float> row(static_cast<size_t>(this->count));
    absl::Status status = importance->evaluate(0, this->count, row.data());
    if (!status.ok())
      return status;
    llvm::SmallVector<int64_t> ranks =
        rankAll(this->count, [&](int64_t i) { return double(row[size_t(i)]); });
    std::copy_n(ranks.begin() + first, count, static_cast<int32_t *>(out));
    return absl::OkStatus();
  }

private:
  RecipeNode *importance;
};

} // namespace

std::unique_ptr<RecipeNode>
hadal::makeImportanceNode(ImportanceOp op, int64_t count, RecipeNode *weight,
                          RecipeNode *moment, StringRef name) {
  return std::make_unique<ImportanceNode>(op, count, weight, moment, name);
}

std::unique_ptr<RecipeNode> hadal::makeSelectNode(SelectOp op, int64_t count,
                                                  RecipeNode *input,
                                                  RecipeNode *importance) {
  return std::make_unique<SelectNode>(op, count, input, importance);
}

std::unique_ptr<RecipeNode> hadal::makeRankNode(int64_t count,
                                                RecipeNode *importance) {
  return std::make_unique<RankNode>(count, importance);
}
