// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The operations of the deepseek dialect.

#ifndef HADAL_DIALECTS_DEEPSEEK_DEEPSEEKOPS_H
#define HADAL_DIALECTS_DEEPSEEK_DEEPSEEKOPS_H

#include "dialects/DeepSeek/IR/ChannelScales.h"
#include "dialects/DeepSeek/IR/DeepSeekDialect.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#define GET_OP_CLASSES
#include "dialects/DeepSeek/IR/DeepSeekOps.h.inc"

namespace hadal::deepseek {

/// Attribute of a module with probes: what each, by its id, is of, as
/// "KIND WEIGHT", with `{}` in the weight for the number of a layer.
inline constexpr char probesAttrName[] = "deepseek.probes";

/// Attribute of a model: the names of the adapters that a sequence may choose.
inline constexpr char adaptersAttrName[] = "deepseek.adapters";

/// Rows and columns of an FP8 scale block (DeepSeek-V3 `weight_block_size`).
constexpr int64_t fp8BlockSize = 128;

/// What the names of an adapter's files start with, in a `deepseek.source`.
constexpr llvm::StringLiteral adapterFolderPrefix = "lora/";

/// The window that holds for every attention in \p module: the widest, with the
/// largest sink. Null if there is none, or one that sees all.
WindowAttr getCommonWindow(mlir::Operation *module);

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_DEEPSEEKOPS_H
