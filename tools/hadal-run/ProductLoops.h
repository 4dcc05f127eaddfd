// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loops like those of kernels over weights, for the probes: what the arithmetic
// around the products leaves of the machine's peaks.

#ifndef HADAL_TOOLS_HADAL_RUN_PRODUCTLOOPS_H
#define HADAL_TOOLS_HADAL_RUN_PRODUCTLOOPS_H

#include <cstdint>
#include <vector>

namespace hadal::run {

/// Multiplies four tiles of 16 outputs and 2048 columns, whose weights and
/// scales are the bytes at a pointer, in their order in memory.
struct ProductLoop {
  using Run = float (*)(const char *weights);

  int bits;       ///< Of a weight; 16: bf16, which becomes f32.
  int64_t bytes;  ///< Of weights and scales.
  Run oneRow;     ///< With a row of the inputs; null if that is not known.
  Run manyRows;   ///< With as many as kernels take at a time.
  double manyOps; ///< Of that, a multiplication and an addition being two.
};

/// Those that this processor can run: bits ascend. Empty where kernels do
/// something else than the loops that there are.
std::vector<ProductLoop> findProductLoops();

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_PRODUCTLOOPS_H
