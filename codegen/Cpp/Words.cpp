// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Trees of ops are looked for by their shape, functions of a number by
// comparing with what writes them.

#include "codegen/Cpp/Words.h"

#include "codegen/Conversion/DeepSeekToRT/KernelBuilder.h"
#include "codegen/Cpp/EmitCpp.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
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

//===----------------------------------------------------------------------===//
// Functions of a number
//===----------------------------------------------------------------------===//

CppWords::CppWords(MLIRContext *context)
    : module(ModuleOp::create(UnknownLoc::get(context))) {
  KernelBuilder b(module->getLoc(), context);
  // What has others in it comes first.
  using Function = Value (KernelBuilder::*)(Value);
  const std::pair<StringRef, Function> functions[] = {
      {"softplus", &KernelBuilder::softplus},
      {"sigmoid", &KernelBuilder::sigmoid},
      {"exp", &KernelBuilder::exp}};
  SmallVector<Type> types = {b.getF32Type()};
  for (int64_t lanes = 1; lanes <= KernelBuilder::maxLanes; lanes *= 2)
    types.push_back(b.vectorType(lanes));
  SmallVector<std::pair<StringRef, func::FuncOp>> written;
  for (auto [name, function] : functions)
    for (auto [i, type] : llvm::enumerate(types)) {
      b.setInsertionPointToEnd(module->getBody());
      auto callee = func::FuncOp::create(b, (name + Twine(i)).str(),
                                         b.getFunctionType(type, type));
      b.setInsertionPointToEnd(callee.addEntryBlock());
      func::ReturnOp::create(b, (b.*function)(callee.getArgument(0)));
      written.push_back({name, callee});
    }
  // Without them, all is written out.
  if (failed(prepareForCpp(*module)))
    return;
  for (auto [name, callee] : written)
    words.push_back({name, callee.getArgument(0),
                     callee.front().getTerminator()->getOperand(0)});
}

/// True if \p value is computed as \p pattern is. \p bound has what is known of
/// both, and gets what is found.
static bool isComputedAs(Value value, Value pattern,
                         llvm::DenseMap<Value, Value> &bound) {
  if (auto known = bound.find(pattern); known != bound.end())
    return known->second == value;
  Operation *given = value.getDefiningOp(), *expected = pattern.getDefiningOp();
  if (value.getType() != pattern.getType())
    return false;
  if (expected) {
    bool isAlike = given && given->getName() == expected->getName() &&
                   given->getNumResults() == 1 &&
                   given->getNumOperands() == expected->getNumOperands() &&
                   given->getAttrDictionary() == expected->getAttrDictionary();
    if (!isAlike)
      return false;
    for (auto [a, b] :
         llvm::zip_equal(given->getOperands(), expected->getOperands()))
      if (!isComputedAs(a, b, bound))
        return false;
    // Constants may be there more than once.
    if (expected->hasTrait<OpTrait::ConstantLike>())
      return true;
  }
  bound[pattern] = value;
  return true;
}

std::optional<CppIdiom> CppWords::match(const Word &word, Operation *op) const {
  llvm::DenseMap<Value, Value> bound;
  if (!isComputedAs(op->getResult(0), word.result, bound))
    return std::nullopt;
  CppIdiom idiom{word.name, {bound.lookup(word.argument)}, {}};
  // From the end on, so that an op comes after those that use it. What others
  // use, too, is written for them.
  Block *block = word.result.getDefiningOp()->getBlock();
  for (Operation &expected : llvm::reverse(block->without_terminator())) {
    Value value = bound.lookup(expected.getResult(0));
    if (value && value.getDefiningOp() != op)
      absorb(op, idiom.parts, value.getDefiningOp());
  }
  return idiom;
}

std::optional<CppIdiom> CppWords::find(Operation *op) const {
  if (op->getNumResults() != 1)
    return std::nullopt;
  for (const Word &word : words)
    if (auto idiom = match(word, op))
      return idiom;
  if (auto idiom = findLaneTree(op))
    return idiom;
  if (auto idiom = findExtremum(op))
    return idiom;
  return findDotProduct(op);
}
