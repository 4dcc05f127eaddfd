// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What many ops say at length and a reader knows by a name. Each is exact: the
// word does the same operations in the same order. An op that looks different
// one day is written out, and is as right.

#include "codegen/Cpp/BodyEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace hadal;

/// True if \p value is every \p stride th lane of \p vector from \p begin on.
static bool isSlice(Value value, Value vector, int64_t begin, int64_t count,
                    int64_t stride = 1) {
  auto shuffle = value.getDefiningOp<vector::ShuffleOp>();
  if (!shuffle || shuffle.getV1() != vector ||
      int64_t(shuffle.getMask().size()) != count)
    return false;
  for (auto [i, lane] : llvm::enumerate(shuffle.getMask()))
    if (lane != begin + int64_t(i) * stride)
      return false;
  return true;
}

/// a and b of `select(a < b, b, a)` or, for a minimum, `select(b < a, b, a)`.
static std::optional<CppIdiom> findExtremum(Operation *op) {
  auto select = dyn_cast<arith::SelectOp>(op);
  if (!select)
    return std::nullopt;
  auto compare = select.getCondition().getDefiningOp<arith::CmpFOp>();
  if (!compare || compare.getPredicate() != arith::CmpFPredicate::OLT ||
      !compare->hasOneUse())
    return std::nullopt;
  Value b = select.getTrueValue(), a = select.getFalseValue();
  if (compare.getLhs() == a && compare.getRhs() == b)
    return CppIdiom{"max", {a, b}, {compare}};
  if (compare.getLhs() == b && compare.getRhs() == a)
    return CppIdiom{"min", {a, b}, {compare}};
  return std::nullopt;
}

/// Adds \p more to \p parts if nothing but \p root and those uses them.
static bool absorb(Operation *root, SmallVectorImpl<Operation *> &parts,
                   ArrayRef<Operation *> more) {
  for (Operation *part : more)
    for (Operation *user : part->getUsers())
      if (user != root && !llvm::is_contained(parts, user) &&
          !llvm::is_contained(more, user))
        return false;
  parts.append(more.begin(), more.end());
  return true;
}

/// Sums, or the largest, of the two halves until one lane is left.
static std::optional<CppIdiom> findLaneTree(Operation *op) {
  auto extract = dyn_cast<vector::ExtractOp>(op);
  if (!extract || extract.getStaticPosition() != ArrayRef<int64_t>{0})
    return std::nullopt;
  CppIdiom idiom;
  Value vector = extract.getSource();
  for (int64_t lanes = 1;; lanes *= 2) {
    Operation *combine = vector.getDefiningOp();
    auto type = dyn_cast<VectorType>(vector.getType());
    if (!combine || !type || type.getRank() != 1 || type.getDimSize(0) != lanes)
      break;
    StringRef callee;
    Value low, high;
    SmallVector<Operation *> parts = {combine};
    if (isa<arith::AddFOp, arith::AddIOp>(combine)) {
      callee = "sum_lanes";
      low = combine->getOperand(0);
      high = combine->getOperand(1);
    } else if (auto extremum = findExtremum(combine);
               extremum && extremum->callee == "max") {
      callee = "max_lane";
      low = extremum->operands[0];
      high = extremum->operands[1];
      parts.append(extremum->parts);
    }
    auto shuffle = low ? low.getDefiningOp<vector::ShuffleOp>() : nullptr;
    if (!shuffle || (!idiom.callee.empty() && idiom.callee != callee))
      break;
    Value whole = shuffle.getV1();
    if (cast<VectorType>(whole.getType()).getDimSize(0) != 2 * lanes ||
        !isSlice(low, whole, 0, lanes) || !isSlice(high, whole, lanes, lanes))
      break;
    parts.append({low.getDefiningOp(), high.getDefiningOp()});
    if (!absorb(op, idiom.parts, parts))
      break;
    idiom.callee = callee;
    vector = whole;
  }
  if (idiom.callee.empty())
    return std::nullopt;
  idiom.operands = {vector};
  return idiom;
}

/// Four products of bytes added to each lane of 32 bits, one after the other.
static std::optional<CppIdiom> findDotProduct(Operation *op) {
  auto type = dyn_cast<VectorType>(op->getResult(0).getType());
  if (!isa<arith::AddIOp>(op) || !type || type.getRank() != 1 ||
      type.getDimSize(0) != 16 || !type.getElementType().isInteger(32))
    return std::nullopt;
  CppIdiom idiom{"add_dot4", {}, {}};
  Value sums = op->getResult(0), factors[2];
  for (int64_t i = 3; i >= 0; --i) {
    // A sum that starts from 0 starts with its first product.
    bool isFirst = i == 0 && sums.getDefiningOp<arith::MulIOp>();
    auto add = sums.getDefiningOp<arith::AddIOp>();
    Value last = isFirst ? sums : add ? add.getRhs() : Value();
    auto product = last ? last.getDefiningOp<arith::MulIOp>() : nullptr;
    if (!product)
      return std::nullopt;
    SmallVector<Operation *> parts = {product};
    if (add && add != op)
      parts.push_back(add);
    for (int64_t factor : {0, 1}) {
      auto extend = product->getOperand(factor).getDefiningOp<arith::ExtSIOp>();
      auto lanes =
          extend ? extend.getIn().getDefiningOp<vector::ShuffleOp>() : nullptr;
      if (!lanes)
        return std::nullopt;
      Value bytes = lanes.getV1();
      if (i == 3)
        factors[factor] = bytes;
      auto bytesType = cast<VectorType>(bytes.getType());
      if (factors[factor] != bytes || bytesType.getDimSize(0) != 64 ||
          !bytesType.getElementType().isInteger(8) ||
          !isSlice(lanes, bytes, i, 16, 4))
        return std::nullopt;
    }
    // Extended bytes may be factors of other products, too; those are written
    // out if nothing is left of them here.
    if (!absorb(op, idiom.parts, parts))
      return std::nullopt;
    sums = isFirst ? Value() : add.getLhs();
  }
  // Bits 0 to 3 alone are no sign.
  if (auto mask = factors[0].getDefiningOp<arith::AndIOp>()) {
    DenseIntElementsAttr bits;
    if (matchPattern(mask.getRhs(), m_Constant(&bits)) && bits.isSplat() &&
        bits.getSplatValue<APInt>().isNonNegative())
      idiom.callee = "add_dot4_nonnegative";
  }
  if (sums)
    idiom.operands = {sums, factors[0], factors[1]};
  else
    idiom = {idiom.callee.drop_front(StringRef("add_").size()),
             {factors[0], factors[1]},
             std::move(idiom.parts)};
  return idiom;
}

std::optional<CppIdiom> hadal::findIdiom(Operation *op) {
  if (op->getNumResults() != 1)
    return std::nullopt;
  if (auto idiom = findLaneTree(op))
    return idiom;
  if (auto idiom = findExtremum(op))
    return idiom;
  return findDotProduct(op);
}
