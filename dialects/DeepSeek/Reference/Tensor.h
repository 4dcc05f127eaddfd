// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Values of the reference interpreter: dense, in f64, whatever their type in
// the IR.

#ifndef HADAL_DIALECTS_DEEPSEEK_REFERENCE_TENSOR_H
#define HADAL_DIALECTS_DEEPSEEK_REFERENCE_TENSOR_H

#include "mlir/IR/BuiltinTypes.h"

#include <vector>

namespace hadal::deepseek {

/// A dense tensor in row-major order. One of rank 0 is a scalar. Integers and
/// indices are kept as f64, too, which holds all of i32.
struct Tensor {
  llvm::SmallVector<int64_t, 4> shape;
  std::vector<double> values;

  Tensor() = default;
  /// All zeros. The sizes are not negative, and their product fits memory.
  explicit Tensor(llvm::ArrayRef<int64_t> shape);
  Tensor(llvm::ArrayRef<int64_t> shape, std::vector<double> values);

  int64_t rank() const { return int64_t(shape.size()); }
  /// Size of dimension 0, which is the number of tokens of activations.
  int64_t rows() const { return shape.front(); }
  /// Size of the last dimension.
  int64_t columns() const { return shape.back(); }

  /// Row \p i of a tensor seen as a matrix with the last dimension as columns.
  double *row(int64_t i) { return values.data() + i * columns(); }
  const double *row(int64_t i) const { return values.data() + i * columns(); }
};

/// Rounds to a value of \p type, to nearest, ties to even. Past the largest:
/// infinity, or NaN where the type has none.
double roundTo(double value, mlir::FloatType type);

/// Reads one little-endian value of \p type, whose width is 8, 16 or 32.
double decode(const uint8_t *bytes, mlir::FloatType type);

} // namespace hadal::deepseek

#endif // HADAL_DIALECTS_DEEPSEEK_REFERENCE_TENSOR_H
