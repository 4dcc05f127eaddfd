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

#endif // HADAL_DIALECTS_DEEPSEEK_DEEPSEEKDIALECT_H
