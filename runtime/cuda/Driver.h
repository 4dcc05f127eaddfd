// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The functions of CUDA's driver that the runtime calls. They are declared here
// and found when a session is made, so that neither a build nor a product needs
// the toolkit or the driver. Names and numbers are those of the CUDA Driver
// API, https://docs.nvidia.com/cuda/cuda-driver-api/.

#ifndef HADAL_RT_CUDA_DRIVER_H
#define HADAL_RT_CUDA_DRIVER_H

#include "../src/Status.h"

#include <stddef.h>
#include <stdint.h>

namespace hadal_rt {
namespace cuda {

typedef int Result;
constexpr Result success = 0;
constexpr Result outOfMemory = 2;

typedef int DeviceNumber;
typedef unsigned long long Address;
typedef struct Context_ *Context;
typedef struct Module_ *Module;
typedef struct Function_ *Function;
typedef struct Stream_ *Stream;
typedef struct Event_ *Event;
typedef struct Graph_ *Graph;
typedef struct GraphExec_ *GraphExec;

/// Values of the driver's enumerations.
constexpr int attributeCapabilityMajor = 75, attributeCapabilityMinor = 76;
constexpr int attributeMaxDynamicSharedBytes = 8;
constexpr unsigned streamNonBlocking = 1;
constexpr unsigned eventDisableTiming = 2;
constexpr int captureThreadLocal = 1;

/// Member, symbol, parameters.
#define HADAL_CUDA_DRIVER(F)                                                   \
  F(errorString, cuGetErrorString, (Result, const char **))                    \
  F(init, cuInit, (unsigned flags))                                            \
  F(deviceGetCount, cuDeviceGetCount, (int *))                                 \
  F(deviceGet, cuDeviceGet, (DeviceNumber *, int ordinal))                     \
  F(deviceGetName, cuDeviceGetName, (char *, int bytes, DeviceNumber))         \
  F(deviceGetAttribute, cuDeviceGetAttribute,                                  \
    (int *, int attribute, DeviceNumber))                                      \
  F(contextRetain, cuDevicePrimaryCtxRetain, (Context *, DeviceNumber))        \
  F(contextRelease, cuDevicePrimaryCtxRelease_v2, (DeviceNumber))              \
  F(contextPush, cuCtxPushCurrent_v2, (Context))                               \
  F(contextPop, cuCtxPopCurrent_v2, (Context *))                               \
  F(memoryInfo, cuMemGetInfo_v2, (size_t *free, size_t *all))                  \
  F(moduleLoad, cuModuleLoadData, (Module *, const void *image))               \
  F(moduleUnload, cuModuleUnload, (Module))                                    \
  F(moduleGetFunction, cuModuleGetFunction,                                    \
    (Function *, Module, const char *name))                                    \
  F(functionSetAttribute, cuFuncSetAttribute,                                  \
    (Function, int attribute, int value))                                      \
  F(memoryTake, cuMemAlloc_v2, (Address *, size_t))                            \
  F(memoryGive, cuMemFree_v2, (Address))                                       \
  F(hostTake, cuMemAllocHost_v2, (void **, size_t))                            \
  F(hostGive, cuMemFreeHost, (void *))                                         \
  F(copyToDevice, cuMemcpyHtoDAsync_v2,                                        \
    (Address, const void *, size_t, Stream))                                   \
  F(copyToHost, cuMemcpyDtoHAsync_v2, (void *, Address, size_t, Stream))       \
  F(copyOnDevice, cuMemcpyDtoDAsync_v2, (Address, Address, size_t, Stream))    \
  F(set, cuMemsetD8Async, (Address, unsigned char, size_t, Stream))            \
  F(streamCreate, cuStreamCreate, (Stream *, unsigned flags))                  \
  F(streamDestroy, cuStreamDestroy_v2, (Stream))                               \
  F(streamSynchronize, cuStreamSynchronize, (Stream))                          \
  F(eventCreate, cuEventCreate, (Event *, unsigned flags))                     \
  F(eventDestroy, cuEventDestroy_v2, (Event))                                  \
  F(eventRecord, cuEventRecord, (Event, Stream))                               \
  F(eventSynchronize, cuEventSynchronize, (Event))                             \
  F(launch, cuLaunchKernel,                                                    \
    (Function, unsigned gridX, unsigned gridY, unsigned gridZ,                 \
     unsigned blockX, unsigned blockY, unsigned blockZ, unsigned sharedBytes,  \
     Stream, void **parameters, void **extra))                                 \
  F(captureBegin, cuStreamBeginCapture_v2, (Stream, int mode))                 \
  F(captureEnd, cuStreamEndCapture, (Stream, Graph *))                         \
  F(graphInstantiate, cuGraphInstantiateWithFlags,                             \
    (GraphExec *, Graph, unsigned long long flags))                            \
  F(graphDestroy, cuGraphDestroy, (Graph))                                     \
  F(graphExecDestroy, cuGraphExecDestroy, (GraphExec))                         \
  F(graphLaunch, cuGraphLaunch, (GraphExec, Stream))

struct Driver {
  // NOLINTBEGIN(bugprone-macro-parentheses): these are declarations.
#define HADAL_CUDA_MEMBER(member, symbol, parameters)                          \
  Result(*member) parameters;
  HADAL_CUDA_DRIVER(HADAL_CUDA_MEMBER)
#undef HADAL_CUDA_MEMBER
  // NOLINTEND(bugprone-macro-parentheses)

  /// What the driver says of \p result; never null.
  const char *describe(Result result) const;
};

/// Loads libcuda.so.1, once in a process, and starts it. \p out stays valid
/// until the process ends.
///
/// \retval HADAL_RT_DEVICE_ERROR There is none, it is too old, or does not
/// start.
hadal_rt_status_t loadDriver(const Driver **out);

} // namespace cuda
} // namespace hadal_rt

#endif // HADAL_RT_CUDA_DRIVER_H
