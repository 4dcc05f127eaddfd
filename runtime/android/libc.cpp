// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Names of Android's libc.so, for the linker alone: what a compiled model and
// the runtime may need, all of which bionic has since API 29. A library that is
// linked with this one loads the system's in its place.

#define NAME(name)                                                             \
  void name() {}

extern "C" {
// What compilers call by themselves.
NAME(memcmp)
NAME(memcpy)
NAME(memmove)
NAME(memset)
NAME(__stack_chk_fail)

// What bionic.h declares.
NAME(__errno)
NAME(malloc)
NAME(free)
NAME(aligned_alloc)
NAME(strtoll)
NAME(memchr)
NAME(strcmp)
NAME(strerror)
NAME(fopen)
NAME(fread)
NAME(fclose)
NAME(vsnprintf)
NAME(open)
NAME(close)
NAME(pread)
NAME(sysconf)
NAME(syscall)
NAME(fstat)
NAME(mmap)
NAME(munmap)
NAME(madvise)
NAME(clock_gettime)
NAME(sched_getaffinity)
NAME(__sched_cpucount)
NAME(getauxval)
NAME(pthread_attr_init)
NAME(pthread_attr_destroy)
NAME(pthread_attr_setstacksize)
NAME(pthread_create)
NAME(pthread_join)
}
