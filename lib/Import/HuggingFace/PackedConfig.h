// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What `quantization_config` says of checkpoints whose matrices are packed
// integers, or FP8 in other blocks than DeepSeek's own.

#ifndef HADAL_IMPORT_PACKEDCONFIG_H
#define HADAL_IMPORT_PACKEDCONFIG_H

#include "lib/Import/ObjectReader.h"

#include <optional>

namespace hadal::huggingface {

/// How the tensors of a quantized matrix `[n, k]` are laid out.
enum class PackedLayout {
  GPTQ,     ///< qweight, qzeros and scales packed along k and along n.
  AWQ,      ///< The same names, both packed along n in an order of its own.
  AWQRows,  ///< The same names, all in rows of n; those of scales are longer.
  Packed,   ///< compressed-tensors: weight_packed, along k.
  Integers, ///< compressed-tensors: weight in I8.
  Dense,    ///< compressed-tensors: weight not rounded yet, and its scales.
  FP8       ///< compressed-tensors: weight in F8_E4M3.
};

/// Which elements share a scale.
enum class PackedStrategy { Tensor, Channel, Group, Block };

struct PackedConfig {
  PackedLayout layout = PackedLayout::GPTQ;
  PackedStrategy strategy = PackedStrategy::Group;
  int64_t bits = 4;
  /// Of `Group`: consecutive elements of a row.
  int64_t group = 0;
  /// Of `Block`.
  int64_t blockRows = 0, blockColumns = 0;
  /// Whether there are zero points. GPTQ and AWQ always store them.
  bool hasZeros = true;
  /// GPTQ: zero points are stored less one.
  bool storesZerosLessOne = false;

  /// Bits and elements of a group, -1 for all of a row.
  struct Width {
    int64_t bits, group;
    bool operator==(const Width &other) const {
      return bits == other.bits && group == other.group;
    }
  };
  /// GPTQ: what some matrices have in place of `bits` and `group`. Which of
  /// them a matrix has is for its shapes to say.
  std::vector<Width> otherWidths;
};

/// Reads the configuration of quant_method \p method from \p reader, or
/// nothing if it is not one of packed matrices. \p json is what \p reader
/// reads. The reader keeps the first error. Adds to \p notes.
std::optional<PackedConfig> readPackedConfig(llvm::StringRef method,
                                             const llvm::json::Object &json,
                                             ObjectReader &reader,
                                             absl::Status &status,
                                             std::vector<std::string> &notes);

} // namespace hadal::huggingface

#endif // HADAL_IMPORT_PACKEDCONFIG_H
