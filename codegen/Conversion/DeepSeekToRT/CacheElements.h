// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What kernels read and write of a page of the cache: its parts, and elements
// in the type in which they are stored.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_CACHEELEMENTS_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_CACHEELEMENTS_H

#include "codegen/Conversion/DeepSeekToRT/Kernels.h"

namespace hadal {

/// \p part of page number \p pageIndex of \p sequence, in \p layer.
mlir::Value pagePart(KernelBuilder &b, mlir::Value step, mlir::Value sequence,
                     mlir::Value pageIndex, mlir::Value layer, PageLayout page,
                     PageLayout::Part part);

/// The latents of such a page, of bf16, as pairs of columns: `[page_tokens,
/// key_dim / 2]` of i32.
mlir::Value pagePairs(KernelBuilder &b, mlir::Value step, mlir::Value sequence,
                      mlir::Value pageIndex, mlir::Value layer,
                      PageLayout page);

/// How kernels are named after the pages that they touch.
std::string pageName(PageLayout page);

/// \p stored, of an element of the cache, in f32; exact.
mlir::Value widen(KernelBuilder &b, mlir::Value stored);

/// \p x rounded to \p element, to nearest; an integer is x * \p inverse.
mlir::Value narrow(KernelBuilder &b, mlir::Value x, mlir::Type element,
                   mlir::Value inverse);

/// The bits of \p x, f32 or a vector of it, rounded to the 16 that bf16 has,
/// to nearest; what the low 16 are is not said.
mlir::Value roundToBF16(KernelBuilder &b, mlir::Value x);

/// What a load brings into the caches, and a prefetch asks for.
constexpr int64_t lineBytes = 64;

/// Asks for the line that holds element \p linear of head \p kvHead of \p part,
/// or of a latent's page, where \p kvHead is null.
void prefetch(KernelBuilder &b, mlir::Value part, mlir::Value kvHead,
              mlir::Value linear);

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_CACHEELEMENTS_H
