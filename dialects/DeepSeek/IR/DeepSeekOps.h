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

/// Columns of a row whose i8 scales are multiplied by one f16, the block of
/// ggml's k-quants: see `deepseek.linear`.
constexpr int64_t scaleBlock = 256;

/// Bytes that follow the factors of such columns.
constexpr int64_t scaleBlockBytes = 2;

/// Scales of type \p element that a row of \p columns has in groups of
/// \p group, as they are stored.
int64_t getScaleColumns(int64_t columns, int64_t group, mlir::Type element);

/// The dimension of \p weight whose groups have \p scales: the last, or that of
/// the rows, if its matrices are transposed; see `deepseek.head_linear`.
int64_t getScaleAxis(mlir::Value weight, mlir::Value scales);

/// Elements of a row of \p weight that one of \p scales is for, or of a column
/// if that is their axis; 0 if these scales are of no groups.
int64_t getScaleGroup(mlir::Value weight, mlir::Value scales);

/// Whether inputs of a product with a weight of type \p weight may be rounded
/// to bf16: `bf16_inputs` of `deepseek.linear`.
bool canTakeBF16(mlir::Type weight);

/// What the names of an adapter's files start with, in a `deepseek.source`.
constexpr llvm::StringLiteral adapterFolderPrefix = "lora/";

/// The window that holds for every attention in \p module: the widest, with the
/// largest sink. Null if there is none, or one that sees all.
WindowAttr getCommonWindow(mlir::Operation *module);

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_DEEPSEEKOPS_H
