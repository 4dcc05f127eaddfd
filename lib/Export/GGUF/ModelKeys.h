// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the keys of a GGUF file say of a module's graph.

#ifndef HADAL_EXPORT_GGUF_MODELKEYS_H
#define HADAL_EXPORT_GGUF_MODELKEYS_H

#include "lib/Export/GGUF/KeyWriter.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include "mlir/IR/BuiltinOps.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace hadal::gguf {

/// What the form of tensors depends on.
struct ModelFacts {
  /// The heads of q and of k whose rows are in the order of rotation by
  /// neighbors; 0: rows stay as they are.
  int64_t permutedHeads = 0, permutedKVHeads = 0;
  /// Of latent attention with kv_b in halves: heads, and the widths of what is
  /// expanded to a key and to a value.
  struct Expansion {
    int64_t heads, keyDim, valueDim;
  };
  std::optional<Expansion> expansion;
  /// By how much each rotary frequency is divided, for `rope_freqs.weight`;
  /// empty: there is no such tensor.
  std::vector<float> ropeFactors;
};

/// Adds the keys of \p module's graph to \p keys, but for those of the
/// tokenizer's vocabulary. Keys are taken from the first layer of a kind: that
/// all layers fit them is for the caller to check. With
/// \p isExpansionWhole, kv_b of latent attention is one tensor.
///
/// kUnimplemented: no architecture of the format has such a graph.
absl::StatusOr<ModelFacts> addModelKeys(mlir::ModuleOp module,
                                        bool isExpansionWhole, KeyWriter &keys);

} // namespace hadal::gguf

#endif // HADAL_EXPORT_GGUF_MODELKEYS_H
