// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Pages of the cache and their elements.

#include "codegen/Conversion/DeepSeekToRT/CacheElements.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace hadal;

Value hadal::pagePart(KernelBuilder &b, Value step, Value sequence,
                      Value pageIndex, Value layer, PageLayout page,
                      PageLayout::Part part) {
  bool isScale =
      part == PageLayout::KeyScales || part == PageLayout::ValueScales;
  Type element = isScale ? Type(b.getF32Type()) : page.element;
  int64_t bytes = element.getIntOrFloatBitWidth() / 8;
  MemRefType type;
  if (page.isLatent) {
    int64_t columns = isScale ? page.keyDim / page.group : page.keyDim;
    type = MemRefType::get({page.pageTokens, columns}, element);
  } else {
    SmallVector<int64_t> shape = {page.heads, page.pageTokens};
    if (part == PageLayout::Keys)
      shape.insert(shape.begin() + 1, page.keyDim);
    else if (part == PageLayout::Values)
      shape.push_back(page.valueDim);
    SmallVector<int64_t> strides = {page.headBytes() / bytes, shape.back(), 1};
    if (isScale)
      strides.erase(strides.begin() + 1);
    type = MemRefType::get(shape, element,
                           StridedLayoutAttr::get(b.getContext(), 0, strides));
  }
  return rt::PageOp::create(b, type, step, sequence, pageIndex, layer,
                            page.pageBytes(), page.layerBytes(),
                            page.offsetBytes(part));
}

Value hadal::pagePairs(KernelBuilder &b, Value step, Value sequence,
                       Value pageIndex, Value layer, PageLayout page) {
  auto type =
      MemRefType::get({page.pageTokens, page.keyDim / 2}, b.getI32Type());
  return rt::PageOp::create(b, type, step, sequence, pageIndex, layer,
                            page.pageBytes(), page.layerBytes(),
                            page.offsetBytes(PageLayout::Keys));
}

std::string hadal::pageName(PageLayout page) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << (page.isLatent ? "latent" : "heads") << '_' << page.heads << 'x'
     << page.keyDim << '_' << page.valueDim << "_of_" << page.layers << '_'
     << page.pageTokens;
  if (!page.isF32())
    os << '_' << page.element;
  if (page.isInteger())
    os << 'g' << page.group;
  return text;
}

/// \p type, or a vector of it with the lanes of \p like.
static Type typeLike(Type type, Value like) {
  auto vector = dyn_cast<VectorType>(like.getType());
  return vector ? Type(vector.clone(type)) : type;
}

Value hadal::widen(KernelBuilder &b, Value stored) {
  Type element = getElementTypeOrSelf(stored);
  Type f32 = typeLike(b.getF32Type(), stored);
  if (element.isF32())
    return stored;
  if (isa<FloatType>(element))
    return arith::ExtFOp::create(b, f32, stored);
  Value integer =
      arith::ExtSIOp::create(b, typeLike(b.getI32Type(), stored), stored);
  return arith::SIToFPOp::create(b, f32, integer);
}

Value hadal::roundToBF16(KernelBuilder &b, Value x) {
  Type i32 = typeLike(b.getI32Type(), x);
  auto constant = [&](int32_t value) {
    Value scalar = b.i32(value);
    auto vector = dyn_cast<VectorType>(i32);
    return vector ? b.broadcast(scalar, vector.getDimSize(0)) : scalar;
  };
  // An instruction for this takes subnormals for zeros.
  Value bits = arith::BitcastOp::create(b, i32, x);
  Value high = arith::ShRUIOp::create(b, bits, constant(16));
  Value odd = arith::AndIOp::create(b, high, constant(1));
  return b.add(b.add(bits, constant(0x7fff)), odd);
}

Value hadal::narrow(KernelBuilder &b, Value x, Type element, Value inverse) {
  if (element.isF32())
    return x;
  Type type = x.getType();
  if (element.isF16()) {
    Value most = b.f32(65504, type), least = b.f32(-65504, type);
    x = b.select(b.lessf(most, x), most, x);
    x = b.select(b.lessf(x, least), least, x);
    return arith::TruncFOp::create(b, typeLike(element, x), x);
  }
  Type i32 = typeLike(b.getI32Type(), x);
  if (element.isBF16()) {
    Value bits = roundToBF16(b, x), shift = b.i32(16);
    if (auto vector = dyn_cast<VectorType>(i32))
      shift = b.broadcast(shift, vector.getDimSize(0));
    bits = arith::ShRUIOp::create(b, bits, shift);
    bits = arith::TruncIOp::create(b, typeLike(b.getI16Type(), x), bits);
    return arith::BitcastOp::create(b, typeLike(element, x), bits);
  }
  Value rounded = math::RoundEvenOp::create(b, b.mulf(x, inverse));
  return arith::TruncIOp::create(b, typeLike(element, x),
                                 arith::FPToSIOp::create(b, i32, rounded));
}

/// Into the second-level cache and those behind it, as `memref.prefetch`
/// counts.
static constexpr uint32_t prefetchLocality = 2;

void hadal::prefetch(KernelBuilder &b, Value part, Value kvHead, Value linear) {
  int64_t rank = cast<MemRefType>(part.getType()).getRank();
  KernelBuilder::Values indices(rank, b.index(0));
  if (kvHead)
    indices.front() = kvHead;
  indices.back() = linear;
  memref::PrefetchOp::create(b, part, indices, /*isWrite=*/false,
                             prefetchLocality, /*isDataCache=*/true);
}
