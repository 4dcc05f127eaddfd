// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Says of dispatches what they read and compute.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_DESCRIBEWORK_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_DESCRIBEWORK_H

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "mlir/IR/Block.h"
#include "mlir/IR/IRMapping.h"

namespace hadal {

/// What the rows of an op are: all tokens of the step, those whose logits are
/// wanted, or those that a layer's gate lets through.
enum class WorkRows { Tokens, Outputs, Selected };

/// The product that the kernel of a product adds to the other operand of
/// \p op, if nothing else reads it; else null.
deepseek::LinearOp addedProduct(deepseek::AddOp op);

/// Gives a `work` and its `result_buffers` to each dispatch among \p made, what
/// deepseek op \p op became.
///
/// Bytes follow from the buffers that a dispatch takes. Operations are those of
/// \p op, and go to the dispatches that take its weights or its query.
///
/// \param mapping What the operands of \p op became.
void describeWork(mlir::Operation *op,
                  llvm::iterator_range<mlir::Block::iterator> made,
                  const mlir::IRMapping &mapping, WorkRows rows);

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_DESCRIBEWORK_H
