// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The order of rows of projections whose results are rotated.

#include "lib/Import/RotaryRows.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

using namespace mlir;

Value hadal::splitRotaryPairs(OpBuilder &recipe, Value value, int64_t heads) {
  Location loc = value.getLoc();
  auto type = cast<RankedTensorType>(value.getType());
  Type element = type.getElementType();
  int64_t pairs = type.getDimSize(0) / heads / 2;
  SmallVector<int64_t> split = {heads, pairs, 2};
  SmallVector<int64_t> swapped = {heads, 2, pairs};
  SmallVector<int64_t> order = {0, 2, 1};
  for (int64_t size : type.getShape().drop_front()) {
    order.push_back(int64_t(split.size()));
    split.push_back(size);
    swapped.push_back(size);
  }
  value = deepseek::ReshapeOp::create(
      recipe, loc, RankedTensorType::get(split, element), value);
  value = deepseek::TransposeOp::create(
      recipe, loc, RankedTensorType::get(swapped, element), value, order);
  return deepseek::ReshapeOp::create(recipe, loc, type, value);
}
