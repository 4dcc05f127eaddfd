// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The node of recipes that merge experts.

#ifndef HADAL_PACKER_MERGING_H
#define HADAL_PACKER_MERGING_H

#include "lib/Packer/Recipe.h"

namespace hadal {

/// Makes the node of `deepseek.merge_experts`. It reads all experts, one at a
/// time, to see which become one, unless \p files know that from another weight
/// of the layer, and then each row of them when it is asked for. \p inputs are
/// the operands of \p op; \p name is that of a tensor behind the experts, for
/// messages.
std::unique_ptr<RecipeNode>
makeMergeExpertsNode(deepseek::MergeExpertsOp op, ElementKind kind,
                     int64_t count, llvm::ArrayRef<RecipeNode *> inputs,
                     llvm::StringRef name, SourceFiles &files);

} // namespace hadal

#endif // HADAL_PACKER_MERGING_H
