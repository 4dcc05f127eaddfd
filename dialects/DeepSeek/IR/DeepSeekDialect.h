// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The deepseek dialect, its attributes and its types.

#ifndef HADAL_DIALECTS_DEEPSEEK_DEEPSEEKDIALECT_H
#define HADAL_DIALECTS_DEEPSEEK_DEEPSEEKDIALECT_H

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/TensorEncoding.h"

#include "dialects/DeepSeek/IR/DeepSeekDialect.h.inc"
#include "dialects/DeepSeek/IR/DeepSeekEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/DeepSeek/IR/DeepSeekAttrs.h.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/DeepSeek/IR/DeepSeekTypes.h.inc"

namespace hadal::deepseek {

/// Columns of a row of integers of \p bits that are stored together in a tile:
/// see `#deepseek.tiled`.
constexpr int64_t getTileColumns(int64_t bits) { return 32 / (bits & -bits); }

/// The table in the encoding of \p type, packed or not; null without one.
CodebookAttr getCodebook(mlir::Type type);

/// The bits that words of a tile hold of each integer of \p bits, the lowest
/// bits first: 6 is 4 and 2.
inline llvm::SmallVector<int64_t, 3> getBitPlanes(int64_t bits) {
  llvm::SmallVector<int64_t, 3> planes;
  for (int64_t plane = 8; plane > 0; plane /= 2)
    if (bits & plane)
      planes.push_back(plane);
  return planes;
}

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_DEEPSEEKDIALECT_H
