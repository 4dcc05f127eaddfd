// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sizes of a tiny model. They are multiples of what kernels and groups of
// integers want wherever those of the model are.

#include "lib/Import/HuggingFace/Shrink.h"

#include "lib/Import/HuggingFace/ModelBuilder.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

using namespace hadal;
using namespace hadal::huggingface;

static void limit(int64_t &size, int64_t most) { size = std::min(size, most); }

/// Heads and what they are grouped by.
static void shrinkHeads(Config &config) {
  int64_t heads = config.heads;
  if (heads > 4)
    config.heads = 4;
  // Latent attention has no heads of keys.
  if (config.kvHeads == heads)
    config.kvHeads = config.heads;
  else if (config.heads < heads)
    limit(config.kvHeads, 2);
  limit(config.headDim, 32);
}

static void shrinkExperts(MoEConfig &moe) {
  limit(moe.sharedExperts, 2);
  limit(moe.intermediate, 64);
  limit(moe.firstDense, 1);
  limit(moe.layerFreq, 2);
  limit(moe.hashLayers, 1);
  if (moe.experts <= 16)
    return;
  moe.experts = 16;
  if (moe.groups > 1) {
    moe.groups = moe.groups > 3 ? 4 : 2;
    limit(moe.topGroups, moe.groups / 2);
  }
  limit(moe.topK, 4);
}

Config huggingface::shrink(Config config) {
  config.packed = std::nullopt;
  config.mtpLayers = 0;
  config.bosToken = std::nullopt;
  config.eosTokens.clear();
  limit(config.vocab, 160);
  limit(config.hidden, 128);
  limit(config.intermediate, 256);
  shrinkHeads(config);
  if (config.windowTokens) {
    limit(*config.windowTokens, 9);
    // One layer of each kind.
    config.windowedLayers = {llvm::all_equal(config.windowedLayers) &&
                                 config.windowedLayers.front(),
                             llvm::is_contained(config.windowedLayers, true)};
  }
  if (config.latent) {
    LatentConfig &latent = *config.latent;
    if (latent.queryRank)
      limit(*latent.queryRank, 96);
    limit(latent.rank, 64);
    limit(latent.nopeDim, 32);
    limit(latent.ropeDim, 16);
    limit(latent.valueDim, 32);
  }
  if (config.indexer) {
    limit(config.indexer->heads, 4);
    limit(config.indexer->dim, 32);
    limit(config.indexer->topK, 6);
  }
  if (config.moe)
    shrinkExperts(*config.moe);
  limit(config.layers, config.moe ? config.moe->firstDense + 2 : 2);
  if (config.compressed) {
    CompressedConfig &compressed = *config.compressed;
    limit(compressed.queryRank, 64);
    limit(compressed.ropeDim, 16);
    limit(compressed.outputRank, 32);
    // As many heads as there were in each group, or fewer.
    compressed.outputGroups = config.heads % 2 == 0 ? 2 : 1;
    limit(compressed.indexHeads, 4);
    limit(compressed.indexDim, 32);
    limit(compressed.indexTopK, 4);
    // One layer of each kind, in the order of the model.
    std::vector<int64_t> ratios;
    for (int64_t ratio : compressed.ratios)
      if (!llvm::is_contained(ratios, ratio))
        ratios.push_back(ratio);
    if (ratios.size() == 1)
      ratios.push_back(ratios.front());
    compressed.ratios = ratios;
    config.layers = int64_t(ratios.size());
  }
  return config;
}

absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
huggingface::buildTiny(mlir::MLIRContext &context, const Config &config,
                       TensorStore *store, std::vector<std::string> &notes) {
  Config tiny = shrink(config);
  return buildModel(context, tiny, store, "tiny",
                    std::min(tiny.maxPositions, tinyContextTokens), notes);
}
