// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loops like those of kernels over weights, for the probes: what the arithmetic
// around the products leaves of the machine's peaks.

#ifndef HADAL_TOOLS_HADAL_RUN_PRODUCTLOOPS_H
#define HADAL_TOOLS_HADAL_RUN_PRODUCTLOOPS_H

#include <cstdint>
#include <optional>
#include <vector>

namespace hadal::run {

/// Multiplies four tiles of 16 outputs and 2048 columns, whose weights and
/// scales are the bytes at a pointer, in their order in memory.
struct ProductLoop {
  using Run = float (*)(const char *weights);

  double bits;    ///< Of a weight, with scales; 16: bf16, which becomes f32.
  int64_t bytes;  ///< Of weights and scales.
  Run oneRow;     ///< With a row of the inputs.
  Run manyRows;   ///< With as many as kernels take at a time.
  double manyOps; ///< Of that, a multiplication and an addition being two.
};

/// Those that this processor can run: bits ascend. Empty where kernels do
/// something else than the loops that there are.
std::vector<ProductLoop> findProductLoops();

/// Reads 1024 numbers at a pointer, as kernels do that compute no products.
struct RowLoop {
  static constexpr int64_t count = 1024;

  ProductLoop::Run exponentials; ///< What attention makes of its scores.
  ProductLoop::Run rounding;     ///< To integers, in groups of 32.
};

/// None where kernels do something else.
std::optional<RowLoop> findRowLoop();

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_PRODUCTLOOPS_H
