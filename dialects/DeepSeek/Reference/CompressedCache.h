// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The cache of attention over compressed entries, for the interpreter, and the
// ops that use it.

#ifndef HADAL_DIALECTS_DEEPSEEK_REFERENCE_COMPRESSEDCACHE_H
#define HADAL_DIALECTS_DEEPSEEK_REFERENCE_COMPRESSEDCACHE_H

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/DeepSeek/Reference/Tensor.h"

#include <map>

namespace hadal::deepseek {

/// Keys, entries and the state of compressors of all sequences.
class CompressedCache {
public:
  /// The values of an op's operands, in its order; null for one it lacks.
  using Operands = llvm::ArrayRef<const Tensor *>;

  llvm::LogicalResult compress(CompressOp op, Operands operands);
  mlir::FailureOr<Tensor> select(SelectEntriesOp op, Operands operands);
  mlir::FailureOr<Tensor> attend(CompressedAttentionOp op, Operands operands);
  void clear() { slots.clear(); }

private:
  using Vector = std::vector<double>;
  enum Kind { Key, Value, Gate, Entry };
  /// Vectors of one sequence, by position or by window.
  using Slots = std::map<int64_t, Vector>;
  /// Those of `kind` for layer number `index` of those with `ratio` (of all
  /// layers for keys).
  Slots &at(Kind kind, CachePart part, int64_t ratio, int64_t index,
            int64_t sequence) {
    return slots[{kind, int64_t(part), ratio, index, sequence}];
  }

  std::map<std::array<int64_t, 5>, Slots> slots;
};

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_REFERENCE_COMPRESSEDCACHE_H
