// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What -deepseek-quantize is asked for, class of weights by class.

#ifndef HADAL_PASSES_QUANTIZATION_SCHEME_H
#define HADAL_PASSES_QUANTIZATION_SCHEME_H

#include "llvm/ADT/StringRef.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace hadal {

/// Weights that a scheme treats alike.
enum class WeightClass {
  Experts,
  Attention,
  FFN,
  Shared,
  Head,
  Heads,
  Embedding
};

/// Their names in a scheme, in the order of the enum.
inline constexpr const char *weightClassNames[] = {
    "experts", "attention", "ffn", "shared", "head", "heads", "embedding"};

/// How the weights of a class are stored.
struct QuantizedType {
  int64_t bits = 0;  ///< 8, 6, 5, 4, or 0: as they are.
  int64_t group = 0; ///< Elements of a row with one scale; 0: all of the row.

  bool operator==(const QuantizedType &other) const {
    return bits == other.bits && group == other.group;
  }
};

struct QuantizeScheme {
  std::array<QuantizedType, std::size(weightClassNames)> types;

  QuantizedType operator[](WeightClass of) const { return types[size_t(of)]; }
};

/// How weights are rounded; see Passes.td.
enum class RoundingMethod {
  Nearest,
  Importance,
  ActivationAware, ///< Importance, after -deepseek-scale-channels.
  Smooth,          ///< The same, by a strength.
  ErrorFeedback
};

/// Reads "rtn", "imatrix", "awq", "smoothquant" or "gptq". On an error returns
/// nothing and says in
/// \p error what is wrong.
std::optional<RoundingMethod> parseRoundingMethod(llvm::StringRef text,
                                                  std::string &error);

/// Reads a scheme: items with commas between them, of which a later one wins
/// over those before it. An item is a preset, which sets every class that is
/// rounded without being named, or `CLASS=TYPE`; see Passes.td for both. A
/// class that nothing sets stays as it is. On an error returns nothing and says
/// in \p error what is wrong.
std::optional<QuantizeScheme> parseQuantizeScheme(llvm::StringRef text,
                                                  std::string &error);

} // namespace hadal

#endif // HADAL_PASSES_QUANTIZATION_SCHEME_H
