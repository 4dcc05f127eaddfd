// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Holds the runtime's declarations of the driver to those of the toolkit, where
// there is one. It compiles, or it does not.

#include "runtime/cuda/Driver.h"

#include <cuda.h>

#include <type_traits>

using namespace hadal_rt::cuda;

/// Whether \p A and \p B are passed alike: as integers or as pointers, and of
/// the same size.
template <typename A, typename B>
constexpr bool isAlike =
    sizeof(A) == sizeof(B) && std::is_pointer_v<A> == std::is_pointer_v<B>;

template <typename R, typename... A, typename Q, typename... B>
constexpr bool areAlike(R (*)(A...), Q (*)(B...)) {
  if constexpr (sizeof...(A) == sizeof...(B))
    return isAlike<R, Q> && (isAlike<A, B> && ...);
  else
    return false;
}

// cuda.h gives functions the names of their latest versions.
#define HADAL_CUDA_CHECK(member, symbol, parameters)                           \
  static_assert(areAlike(static_cast<Result(*) parameters>(nullptr),           \
                         static_cast<decltype(&::symbol)>(nullptr)),           \
                #symbol);
HADAL_CUDA_DRIVER(HADAL_CUDA_CHECK)

static_assert(success == CUDA_SUCCESS &&
              outOfMemory == CUDA_ERROR_OUT_OF_MEMORY);
static_assert(attributeCapabilityMajor ==
                  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR &&
              attributeCapabilityMinor ==
                  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
static_assert(attributeMaxDynamicSharedBytes ==
              CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
static_assert(streamNonBlocking == CU_STREAM_NON_BLOCKING &&
              eventDisableTiming == CU_EVENT_DISABLE_TIMING &&
              captureThreadLocal == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
