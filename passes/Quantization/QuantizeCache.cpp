// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Gives every cache elements of fewer bits.

#include "passes/Passes.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "mlir/IR/AttrTypeSubElements.h"
#include "llvm/ADT/StringSwitch.h"

#include <numeric>

namespace hadal {
#define GEN_PASS_DEF_QUANTIZECACHE
#include "passes/Passes.h.inc"
} // namespace hadal

using namespace mlir;
using namespace hadal;
using namespace hadal::deepseek;

namespace {

struct QuantizeCache : public hadal::impl::QuantizeCacheBase<QuantizeCache> {
  using QuantizeCacheBase::QuantizeCacheBase;

  void runOnOperation() override {
    Builder b(&getContext());
    auto type = llvm::StringSwitch<Type>(element)
                    .Case("f32", b.getF32Type())
                    .Case("bf16", b.getBF16Type())
                    .Case("f16", b.getF16Type())
                    .Case("int8", b.getI8Type())
                    .Default(nullptr);
    if (!type) {
      getOperation().emitError("expects an element of f32, bf16, f16 or int8, "
                               "but got '")
          << element << "'";
      return signalPassFailure();
    }
    AttrTypeReplacer replacer;
    replacer.addReplacement([&](KVCacheType cache) -> Type {
      if (!cache.getElement().isF32())
        return cache;
      // A latent's rotated key is what its values are not.
      int64_t other = cache.getKind() == CacheKind::Latent
                          ? cache.getKeyDim() - cache.getValueDim()
                          : cache.getKeyDim();
      int64_t group =
          type.isInteger() ? std::gcd(cache.getValueDim(), other) : 0;
      return KVCacheType::get(cache.getContext(), cache.getKind(),
                              cache.getLayers(), cache.getHeads(),
                              cache.getKeyDim(), cache.getValueDim(), type,
                              group, cache.getIndexDim());
    });
    replacer.recursivelyReplaceElementsIn(getOperation(), /*replaceAttrs=*/true,
                                          /*replaceLocs=*/false,
                                          /*replaceTypes=*/true);
  }
};

} // namespace
