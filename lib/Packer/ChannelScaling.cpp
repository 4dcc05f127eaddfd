// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Nodes of recipes that scale channels.

#include "lib/Packer/ChannelScaling.h"

#include "dialects/DeepSeek/IR/ChannelScales.h"

#include "absl/strings/str_cat.h"

#include <algorithm>

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

/// Elements that are scaled at a time; they stay in the cache.
static constexpr int64_t blockElements = 32 * 1024;

namespace {

/// Computed as a whole when first asked for.
class ChannelScalesNode : public RecipeNode {
public:
  ChannelScalesNode(ChannelScalesOp op, int64_t count, RecipeNode *statistic,
                    ArrayRef<RecipeNode *> weights)
      : RecipeNode(ElementKind::F32, count), statistic(statistic),
        weights(weights), scaling(op.getScaling()),
        columns(cast<RankedTensorType>(op.getResult().getType())
                    .getShape()
                    .back()) {}

  absl::Status evaluate(int64_t first, int64_t count, void *out) override {
    if (scales.empty())
      if (absl::Status status = compute(); !status.ok())
        return status;
    std::copy_n(scales.data() + first, count, static_cast<float *>(out));
    return absl::OkStatus();
  }

private:
  absl::Status compute() {
    std::vector<float> moments(static_cast<size_t>(count)), made;
    std::vector<float> row(static_cast<size_t>(columns));
    std::vector<char> elements;
    absl::Status status = statistic->evaluate(0, count, moments.data());
    if (!status.ok())
      return status;
    // A stack of statistics has scales of its own for each matrix.
    int64_t stacks = count / columns;
    for (int64_t m = 0; m < stacks; ++m) {
      ChannelScaler scaler(
          scaling, ArrayRef(moments).slice(size_t(m * columns), row.size()));
      for (RecipeNode *weight : weights) {
        int64_t rows = weight->getCount() / columns / stacks;
        elements.resize(size_t(columns * weight->getElementBytes()));
        for (int64_t i = 0; i < rows; i += getRowStep(rows)) {
          status = weight->evaluate((m * rows + i) * columns, columns,
                                    elements.data());
          if (!status.ok())
            return status;
          widen(weight->getKind(), elements.data(), columns, row.data());
          scaler.add(row.data());
        }
      }
      llvm::append_range(made, scaler.choose());
    }
    scales = std::move(made);
    return absl::OkStatus();
  }

  RecipeNode *statistic;
  SmallVector<RecipeNode *> weights;
  ChannelScaling scaling;
  int64_t columns;
  std::vector<float> scales;
};

class ScaleChannelsNode : public PiecewiseNode {
public:
  ScaleChannelsNode(ScaleChannelsOp op, ElementKind kind, int64_t count,
                    RecipeNode *input, RecipeNode *scales, StringRef name)
      : PiecewiseNode(kind, count), input(input), scales(scales), name(name),
        power(op.getPower()) {
    auto shape = cast<RankedTensorType>(op.getInput().getType()).getShape();
    size_t axis = op.getAxis();
    size = shape[axis];
    for (int64_t dimension : shape.drop_front(axis + 1))
      unit *= dimension;
    // Elements with one row of scales.
    perRow = scales->getCount() == size ? count : count / shape.front();
  }

  absl::StatusOr<int64_t> evaluatePiece(int64_t first, int64_t count,
                                        void *out) override {
    if (factors.empty()) {
      std::vector<float> read(size_t(scales->getCount()));
      absl::Status status =
          scales->evaluate(0, scales->getCount(), read.data());
      if (!status.ok())
        return status;
      for (float &scale : read)
        scale = power == 1    ? scale
                : power == -1 ? 1 / scale
                              : 1 / (scale * scale);
      factors = std::move(read);
    }
    elements.resize(size_t(blockElements * input->getElementBytes()));
    numbers.resize(size_t(blockElements));
    int64_t now = std::min(count, blockElements);
    absl::Status status = input->evaluate(first, now, elements.data());
    if (!status.ok())
      return status;
    widen(input->getKind(), elements.data(), now, numbers.data());
    for (int64_t i = 0; i < now; ++i) {
      int64_t at = first + i;
      numbers[size_t(i)] *=
          factors[size_t(at / perRow * size + at / unit % size)];
    }
    narrow(kind, numbers.data(), now, out);
    if (int64_t bad = findNonFinite(kind, out, now); bad >= 0)
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor '", name.str(), "': ", numbers[size_t(bad)],
          ", which element ", first + bad, " is when its channel is scaled, ",
          "does not fit ", hadal::getName(kind)));
    return now;
  }

private:
  RecipeNode *input, *scales;
  StringRef name;
  int64_t power;
  int64_t size, unit = 1; ///< Indices of the axis, and elements of one.
  int64_t perRow;
  std::vector<float> factors; ///< Scales to the power.
  std::vector<char> elements;
  std::vector<float> numbers;
};

} // namespace

std::unique_ptr<RecipeNode>
hadal::makeChannelScalesNode(ChannelScalesOp op, int64_t count,
                             RecipeNode *statistic,
                             ArrayRef<RecipeNode *> weights) {
  return std::make_unique<ChannelScalesNode>(op, count, statistic, weights);
}

std::unique_ptr<RecipeNode>
hadal::makeScaleChannelsNode(ScaleChannelsOp op, ElementKind kind,
                             int64_t count, RecipeNode *input,
                             RecipeNode *scales, StringRef name) {
  return std::make_unique<ScaleChannelsNode>(op, kind, count, input, scales,
                                             name);
}
