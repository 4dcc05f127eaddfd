// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The node of recipes that merge experts.

#include "lib/Packer/Merging.h"

#include "dialects/DeepSeek/IR/ExpertMerging.h"

#include "absl/strings/str_cat.h"
#include "mlir/Analysis/SliceAnalysis.h"

#include <algorithm>

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

class MergeExpertsNode : public PiecewiseNode {
public:
  MergeExpertsNode(MergeExpertsOp op, ElementKind kind, int64_t count,
                   ArrayRef<RecipeNode *> inputs, StringRef name,
                   std::shared_ptr<const ExpertMerger> &shared)
      : PiecewiseNode(kind, count), parts(inputs.take_front(3)),
        part(op.getPart()), keep(int64_t(op.getKeep())), name(name),
        merger(shared) {
    inputs = inputs.drop_front(3);
    const std::pair<Value, RecipeNode **> optional[] = {
        {op.getMass(), &mass},
        {op.getMoment(), &moment},
        {op.getStatistic(), &statistic},
        {op.getCount(), &rowCounts}};
    for (auto [value, node] : optional)
      if (value) {
        *node = inputs.front();
        inputs = inputs.drop_front();
      }
    auto shape = cast<RankedTensorType>(op.getGate().getType()).getShape();
    experts = shape[0];
    inner = shape[1];
    hidden = shape[2];
    bool isDown = part == MergedPart::Down;
    rows = isDown ? hidden : inner;
    int64_t columns = isDown ? inner : hidden;
    if (statistic) {
      shape = cast<RankedTensorType>(op.getResult().getType()).getShape();
      columns = shape.back();
      rows = shape.size() == 3 ? columns : 1;
    }
    numbers.resize(size_t(columns));
  }

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    if (!merger)
      if (absl::Status status = merge(); !status.ok())
        return status;
    if (part == MergedPart::Map) {
      std::copy_n(merger->getMap().begin() + first, count,
                  static_cast<int32_t *>(out));
      return count;
    }
    auto columns = int64_t(numbers.size());
    if (absl::Status status = makeRow(first / columns); !status.ok())
      return status;
    int64_t column = first % columns;
    int64_t now = std::min(count, columns - column);
    // A mean of numbers that fit does, too.
    narrow(kind, numbers.data() + column, now, out);
    return now;
  }

private:
  absl::Status merge() {
    std::vector<float> masses, moments, weights[3];
    absl::Status status;
    if (mass)
      status = read(*mass, 0, experts, masses);
    if (status.ok() && moment)
      status = read(*moment, 0, experts * hidden, moments);
    if (!status.ok())
      return status;
    auto made = std::make_shared<ExpertMerger>(
        experts, inner, hidden, averageMoments(moments, masses, experts));
    int64_t size = inner * hidden;
    for (int64_t e = 0; e < experts; ++e) {
      for (size_t i = 0; status.ok() && i < 3; ++i) {
        status = read(*parts[i], e * size, size, weights[i]);
        if (status.ok() &&
            findNonFinite(ElementKind::F32, weights[i].data(), size) >= 0)
          status = absl::InvalidArgumentError(
              absl::StrCat("tensor '", name.str(), "': expert ", e,
                           " has weights that are not finite, and cannot be "
                           "merged"));
      }
      if (!status.ok())
        return status;
      made->add(e, weights[0].data(), weights[1].data(), weights[2].data());
    }
    made->merge(keep, masses);
    merger = std::move(made);
    return absl::OkStatus();
  }

  /// Fills `numbers` with row \p index of the merged experts.
  absl::Status makeRow(int64_t index) {
    if (index == held)
      return absl::OkStatus();
    held = -1;
    // Inner channels are columns of down, rows of gate and up, and both of a
    // statistic of them.
    bool isInner = part == MergedPart::Inner;
    bool hasInnerRows =
        isInner ? rows > 1 : !statistic && part != MergedPart::Down;
    bool hasInnerColumns = isInner || part == MergedPart::Down;
    auto columns = int64_t(numbers.size());
    RecipeNode *from =
        statistic ? statistic : parts[size_t(part) - size_t(MergedPart::Gate)];
    sums.assign(size_t(columns), 0);
    ArrayRef<ExpertMerger::Member> members = merger->getMembers(index / rows);
    std::vector<double> shares;
    if (statistic) {
      if (counts.empty()) {
        std::vector<float> found;
        if (absl::Status status = read(*rowCounts, 0, experts, found);
            !status.ok())
          return status;
        counts = std::move(found);
      }
      shares = shareCounts(members, counts);
    }
    for (auto [i, member] : llvm::enumerate(members)) {
      int64_t row = index % rows;
      if (hasInnerRows)
        row = member.channels[size_t(row)];
      absl::Status status =
          read(*from, (member.expert * rows + row) * columns, columns, numbers);
      if (!status.ok())
        return status;
      for (int64_t j = 0; j < columns; ++j)
        sums[size_t(j)] +=
            (statistic ? shares[i] : member.share) *
            double(numbers[size_t(hasInnerColumns ? member.channels[size_t(j)]
                                                  : j)]);
    }
    std::copy(sums.begin(), sums.end(), numbers.begin());
    held = index;
    return absl::OkStatus();
  }

  SmallVector<RecipeNode *> parts; ///< Gate, up and down.
  RecipeNode *mass = nullptr, *moment = nullptr;
  RecipeNode *statistic = nullptr, *rowCounts = nullptr;
  MergedPart part;
  int64_t keep;
  StringRef name;
  int64_t experts, inner, hidden;
  int64_t rows; ///< Of one expert of this part.
  /// That of all weights with this recipe; null until it is made.
  std::shared_ptr<const ExpertMerger> &merger;
  int64_t held = -1; ///< The row that `numbers` are.
  std::vector<float> numbers;
  std::vector<double> sums;
  std::vector<float> counts; ///< What `rowCounts` is, once it is read.
};

} // namespace

std::unique_ptr<RecipeNode>
hadal::makeMergeExpertsNode(MergeExpertsOp op, ElementKind kind, int64_t count,
                            ArrayRef<RecipeNode *> inputs, StringRef name,
                            SourceFiles &files) {
  // What decides which experts become one, without the names of values: weights
  // of one layer, and what is known of them, have it in recipes of their own.
  std::string key;
  llvm::raw_string_ostream os(key);
  llvm::SetVector<Operation *> slice;
  BackwardSliceOptions sliceOptions;
  sliceOptions.inclusive = true;
  SmallVector<Value> deciding = {op.getGate(), op.getUp(), op.getDown(),
                                 op.getMass(), op.getMoment()};
  for (Value value : deciding)
    if (value)
      (void)getBackwardSlice(value, &slice, sliceOptions);
  llvm::DenseMap<Value, int64_t> numbers = {{Value(), -1}};
  for (Operation &before : *op->getBlock()) {
    if (!slice.contains(&before))
      continue;
    os << before.getName() << ' ' << before.getAttrDictionary();
    for (Value operand : before.getOperands())
      os << ' ' << numbers.lookup(operand);
    for (Value result : before.getResults()) {
      os << ' ' << result.getType();
      numbers.try_emplace(result, int64_t(numbers.size()));
    }
    os << '\n';
  }
  for (Value value : deciding)
    os << numbers.lookup(value) << ' ';
  os << int64_t(op.getKeep());
  // A layer has one map, that of its router.
  StringRef layer = op->getParentOfType<WeightOp>().getSymName();
  if (op.getPart() == MergedPart::Map) {
    layer.consume_back(".map");
    files.nameMerger(layer, key);
  }
  return std::make_unique<MergeExpertsNode>(op, kind, count, inputs, name,
                                            files.getMerger(key));
}
