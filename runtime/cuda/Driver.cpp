// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Finds the driver of CUDA.

#include "Driver.h"

#include <dlfcn.h>
#include <pthread.h>

using namespace hadal_rt;
using namespace hadal_rt::cuda;

static constexpr char library[] = "libcuda.so.1";

const char *Driver::describe(Result result) const {
  const char *text = nullptr;
  return errorString(result, &text) == success && text ? text : "unknown error";
}

static hadal_rt_status_t load(Driver &driver) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    return fail(HADAL_RT_DEVICE_ERROR, "there is no driver for CUDA: %s",
                dlerror());
  const char *missing = nullptr;
#define HADAL_CUDA_FIND(member, symbol, parameters)                            \
  driver.member =                                                              \
      reinterpret_cast<Result(*) parameters>(dlsym(handle, #symbol));          \
  missing = driver.member ? missing : #symbol;
  HADAL_CUDA_DRIVER(HADAL_CUDA_FIND)
#undef HADAL_CUDA_FIND
  if (missing) {
    dlclose(handle);
    return fail(HADAL_RT_DEVICE_ERROR,
                "the driver for CUDA, %s, is too old: it has no %s", library,
                missing);
  }
  // It stays loaded if it does not start: threads of it may run.
  if (Result result = driver.init(0))
    return fail(HADAL_RT_DEVICE_ERROR, "the driver for CUDA does not start: %s",
                driver.describe(result));
  return HADAL_RT_OK;
}

hadal_rt_status_t cuda::loadDriver(const Driver **out) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static Driver driver;
  static bool isLoaded = false;
  pthread_mutex_lock(&mutex);
  hadal_rt_status_t status = isLoaded ? HADAL_RT_OK : load(driver);
  isLoaded = status == HADAL_RT_OK;
  pthread_mutex_unlock(&mutex);
  *out = &driver;
  return status;
}
