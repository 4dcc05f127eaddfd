// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Nodes of recipes that scale channels.

#ifndef HADAL_PACKER_CHANNELSCALING_H
#define HADAL_PACKER_CHANNELSCALING_H

#include "lib/Packer/Recipe.h"

namespace hadal {

/// Makes the node of `deepseek.channel_scales`, which holds a number a channel
/// and reads of each of \p weights the rows that decide.
std::unique_ptr<RecipeNode>
makeChannelScalesNode(deepseek::ChannelScalesOp op, int64_t count,
                      RecipeNode *statistic,
                      llvm::ArrayRef<RecipeNode *> weights);

/// Makes the node of `deepseek.scale_channels`. \p name is that of a tensor
/// behind \p input, for messages.
std::unique_ptr<RecipeNode>
makeScaleChannelsNode(deepseek::ScaleChannelsOp op, ElementKind kind,
                      int64_t count, RecipeNode *input, RecipeNode *scales,
                      llvm::StringRef name);

} // namespace hadal

#endif // HADAL_PACKER_CHANNELSCALING_H
