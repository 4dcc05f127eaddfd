// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What all kernels share: layouts, names, and the set that makes each once.
// Work items never share an output, and each output is one chain of operations
// in an order that depends on nothing but the model: not on threads, not on
// what else is in the batch.

#include "codegen/Conversion/DeepSeekToRT/Kernels.h"

#include "lib/Support/CheckedMath.h"

using namespace mlir;
using namespace hadal;
using rt::KernelOp;

PageLayout PageLayout::get(deepseek::KVCacheType cache, int64_t pageTokens) {
  return {pageTokens,
          cache.getHeads(),
          cache.getKeyDim(),
          cache.getValueDim(),
          cache.getKind() == deepseek::CacheKind::Latent,
          cache.getLayers(),
          cache.getElement(),
          cache.getGroup(),
          cache.getIndexDim()};
}

bool PageLayout::isOfPairs(const KernelOptions &options) const {
  bool isEven = keyDim % 2 == 0 && valueDim % 2 == 0 && group % 2 == 0;
  return options.bf16Products && isLatent && isEven &&
         (element.isBF16() || isInteger());
}

int64_t PageLayout::elementBytes() const {
  return element.getIntOrFloatBitWidth() / 8;
}

int64_t PageLayout::partBytes(Part part) const {
  bool isValue = part == Values || part == ValueScales;
  // The values of a latent are part of its key.
  if (isValue && isLatent)
    return 0;
  int64_t columns = isValue ? valueDim : keyDim;
  int64_t bytes = elementBytes();
  if (part == KeyScales || part == ValueScales) {
    columns = isInteger() ? columns / group : 0;
    bytes = sizeof(float);
  }
  return roundUp(pageTokens * columns * bytes, rt::alignmentBytes);
}

int64_t PageLayout::offsetBytes(Part part) const {
  int64_t offset = 0;
  for (Part before : {Keys, KeyScales, Values})
    offset += before < part ? partBytes(before) : 0;
  return offset;
}

int64_t PageLayout::headBytes() const {
  return offsetBytes(ValueScales) + partBytes(ValueScales);
}

int64_t PageLayout::indexOffsetBytes() const { return headBytes() * heads; }

int64_t PageLayout::layerBytes() const {
  return indexOffsetBytes() +
         roundUp(indexDim * pageTokens * int64_t(sizeof(float)),
                 rt::alignmentBytes);
}

MemRefType hadal::rowsType(MLIRContext *context, int64_t columns,
                           int64_t stride, Type element) {
  if (!element)
    element = Float32Type::get(context);
  return MemRefType::get({ShapedType::kDynamic, columns}, element,
                         StridedLayoutAttr::get(context, 0, {stride, 1}));
}

/// A short text for a type in a kernel's name: bf16, f8E4M3FN, ..
std::string hadal::shortName(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text == "i8" ? "fp8" : text;
}

std::string hadal::weightName(Type type) {
  return shortName(cast<MemRefType>(type).getElementType());
}

/// Row strides of the memref arguments, which are part of a kernel's identity.
static std::string strideName(TypeRange types) {
  std::string text;
  for (Type type : types)
    if (auto memref = dyn_cast<MemRefType>(type);
        memref && !memref.hasStaticShape())
      if (auto strided = dyn_cast<StridedLayoutAttr>(memref.getLayout()))
        text += "_" + std::to_string(strided.getStrides().front());
  return text;
}

/// Names carry every constant that is in a kernel; nine digits tell any two
/// f32 apart.
KernelOp KernelSet::get(const Twine &name, TypeRange types, Body body) {
  // An exponent as in 1.0e-06 would need quotes in the IR and in assembly.
  std::string symbol = (name + strideName(types)).str();
  llvm::replace(symbol, '-', 'm');
  llvm::erase(symbol, '+');
  // Columns of wider rows may have the stride of rows that are padded, and
  // weights may share records or not.
  auto isOther = [&](StringRef name) {
    auto known = kernels.find(name);
    return known != kernels.end() &&
           TypeRange(ValueRange(known->second.getKernelArguments())) != types;
  };
  while (isOther(symbol))
    symbol += "_other";
  KernelOp &kernel = kernels[symbol];
  if (kernel)
    return kernel;
  OpBuilder moduleBuilder = OpBuilder::atBlockEnd(module.getBody());
  kernel = KernelOp::create(moduleBuilder, module.getLoc(), symbol, types);
  KernelBuilder builder(
      NameLoc::get(StringAttr::get(module.getContext(), symbol)),
      module.getContext());
  builder.isRead = options.isRead;
  builder.setInsertionPointToStart(&kernel.getBody().front());
  body(builder, kernel);
  return kernel;
}
