// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What every GPU from sm_80 on has, which kernels and launches keep to.

#ifndef HADAL_CODEGEN_CUDA_LIMITS_H
#define HADAL_CODEGEN_CUDA_LIMITS_H

#include <cstdint>

namespace hadal {

/// Bytes of shared memory of a block of threads.
constexpr int64_t mostSharedBytes = 163 * 1024;

} // namespace hadal

#endif // HADAL_CODEGEN_CUDA_LIMITS_H
