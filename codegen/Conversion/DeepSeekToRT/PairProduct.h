// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of pairs of bf16 numbers, which are added in f32.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_PAIRPRODUCT_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_PAIRPRODUCT_H

#include "codegen/Conversion/DeepSeekToRT/KernelBuilder.h"

namespace hadal {

/// Two bf16 numbers in 32 bits, the first in the low half: what memory holds
/// of two neighbors, and what one lane of `vdpbf16ps` multiplies.
///
/// A lane adds first the product of the second numbers, then that of the first,
/// each rounded to f32 once; products are exact. Targets that have no
/// instruction for it do it with two `fma`, which gives the same bits, except
/// that the instruction takes subnormals for zeros.
class PairProduct {
  using Value = mlir::Value;

public:
  /// \p hasInstruction: the target has AVX512_BF16.
  PairProduct(KernelBuilder &b, bool hasInstruction)
      : b(b), hasInstruction(hasInstruction) {}

  /// Pairs that are multiplied more than once.
  struct Pairs {
    Value packed;        ///< A vector of i32; only for the instruction.
    Value first, second; ///< In f32; only without.
  };
  /// \p packed is a vector of i32.
  Pairs unpack(Value packed);
  /// The pair \p packed, an i32, in all of \p lanes.
  Pairs broadcast(Value packed, int64_t lanes);
  /// \p sums, a vector of f32, + the products of \p x and \p y.
  Value add(Value sums, const Pairs &x, const Pairs &y);

  /// \p x, of f32, rounded to bf16, to nearest, ties to even.
  Value round(Value x);
  /// Pairs of \p first and \p second, which are rounded already.
  Value pack(Value first, Value second);
  /// The first numbers of \p packed, in f32, and the second ones.
  Value first(Value packed);
  Value second(Value packed);
  /// Pairs of neighbors in \p low and then in \p high, vectors of f32, rounded.
  Value packNeighbors(Value low, Value high);
  /// Of pairs of neighbors, those of one row and of the next, pairs of both
  /// rows: two vectors, of the first and of the second half of the columns.
  std::pair<Value, Value> transpose(Value row, Value nextRow);

  /// Whether it multiplies for \p sums by the instruction.
  bool isNative(mlir::Type sums) const;

private:
  KernelBuilder &b;
  bool hasInstruction;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_PAIRPRODUCT_H
