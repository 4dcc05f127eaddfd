// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Nodes of recipes that leave out what matters least.

#ifndef HADAL_PACKER_SELECTION_H
#define HADAL_PACKER_SELECTION_H

#include "lib/Packer/Recipe.h"

namespace hadal {

/// Makes the node of `deepseek.importance`, which holds a number a group of
/// channels. \p moment may be null; \p name is that of a tensor behind
/// \p weight, for messages.
std::unique_ptr<RecipeNode>
makeImportanceNode(deepseek::ImportanceOp op, int64_t count, RecipeNode *weight,
                   RecipeNode *moment, llvm::StringRef name);

/// Makes the node of `deepseek.select`, which holds the indices that it keeps.
std::unique_ptr<RecipeNode> makeSelectNode(deepseek::SelectOp op, int64_t count,
                                           RecipeNode *input,
                                           RecipeNode *importance);

/// Makes the node of `deepseek.rank`, which holds a number an index.
std::unique_ptr<RecipeNode> makeRankNode(int64_t count, RecipeNode *importance);

} // namespace hadal

#endif // HADAL_PACKER_SELECTION_H
