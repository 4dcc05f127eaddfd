// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Status texts and the last error of each thread.

#include "Status.h"

#include "Platform.h"

#include <stdarg.h>
#include <stdio.h>

// Room for a path and a sentence. No call may allocate, so it is fixed.
#ifdef HADAL_RT_BARE
static char lastError[1024];
#else
static thread_local char lastError[1024];
#endif

hadal_rt_status_t hadal_rt::fail(hadal_rt_status_t status, const char *format,
                                 ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(lastError, sizeof(lastError), format, arguments);
  va_end(arguments);
  return status;
}

const char *hadal_rt_last_error(void) { return lastError; }

const char *hadal_rt_status_text(hadal_rt_status_t status) {
  switch (status) {
  case HADAL_RT_OK:
    return "ok";
  case HADAL_RT_INVALID_ARGUMENT:
    return "invalid argument";
  case HADAL_RT_EXHAUSTED:
    return "no free KV page or sequence is left";
  case HADAL_RT_CONTEXT_FULL:
    return "the context is full";
  case HADAL_RT_OUT_OF_MEMORY:
    return "out of memory";
  case HADAL_RT_MEMORY_LIMIT:
    return "more memory needed than allowed";
  case HADAL_RT_IO_ERROR:
    return "cannot read a file";
  case HADAL_RT_INVALID_WEIGHTS:
    return "not a valid weights file";
  case HADAL_RT_WEIGHTS_MISMATCH:
    return "the weights belong to another model";
  case HADAL_RT_UNSUPPORTED_CPU:
    return "the processor lacks a needed feature";
  case HADAL_RT_UNSUPPORTED_ABI:
    return "the model needs another runtime version";
  case HADAL_RT_NOT_FOUND:
    return "not found";
  case HADAL_RT_DEVICE_ERROR:
    return "there is no device, or it has failed";
  }
  return "unknown status";
}
