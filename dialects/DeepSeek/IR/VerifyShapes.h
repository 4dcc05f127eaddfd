// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the verifiers of all ops say about shapes and attributes.

#ifndef HADAL_DIALECTS_DEEPSEEK_VERIFYSHAPES_H
#define HADAL_DIALECTS_DEEPSEEK_VERIFYSHAPES_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Operation.h"

namespace hadal::deepseek {

inline llvm::ArrayRef<int64_t> shapeOf(mlir::Value value) {
  return llvm::cast<mlir::RankedTensorType>(value.getType()).getShape();
}

inline int64_t columnsOf(mlir::Value value) { return shapeOf(value).back(); }

/// In an expected shape: any size.
constexpr int64_t anySize = mlir::ShapedType::kDynamic;

/// Requires that \p value has the shape \p expected, where a dynamic expected
/// dimension stands for any.
llvm::LogicalResult expectShape(mlir::Operation *op, llvm::StringRef name,
                                mlir::Value value,
                                llvm::ArrayRef<int64_t> expected);

/// Requires a finite number above 0.
llvm::LogicalResult expectPositive(mlir::Operation *op, llvm::StringRef name,
                                   mlir::FloatAttr value);

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_VERIFYSHAPES_H
