// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What Android's libc.so says otherwise than glibc, by glibc: a library for
// Android, loaded after this one, runs where there is no Android.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int *__errno(void) { return &errno; }

/// By the numbers of bionic's headers, of which glibc's mean something else.
long sysconf(int name) {
  long (*next)(int) = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
  switch (name) {
  case 0x27:
    return next(_SC_PAGESIZE);
  case 0x61:
    return next(_SC_NPROCESSORS_ONLN);
  case 0x62:
    return next(_SC_PHYS_PAGES);
  }
  fprintf(stderr, "sysconf(%d): nothing of Android's that is known here\n",
          name);
  abort();
}
