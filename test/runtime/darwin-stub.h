// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the runtime uses of the headers of macOS, written after their manual
// pages, so that it can be compiled for macOS where there is no SDK: each
// header that it includes becomes one that includes this file. It shows that
// nothing of another system is used, not that the declarations are Apple's.

#ifndef DARWIN_STUB_H
#define DARWIN_STUB_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
typedef long ssize_t;
typedef int64_t off_t;
typedef uint16_t mode_t;

int *__error(void);
#define errno (*__error())
enum { EINTR = 4 };

void *malloc(size_t);
void free(void *);
long long strtoll(const char *, char **, int);
void *memcpy(void *, const void *, size_t);
void *memset(void *, int, size_t);
int memcmp(const void *, const void *, size_t);
void *memchr(const void *, int, size_t);
int strcmp(const char *, const char *);
char *strerror(int);
int vsnprintf(char *, size_t, const char *, va_list);

int open(const char *, int, ...);
int close(int);
ssize_t pread(int, void *, size_t, off_t);
long sysconf(int);
enum { O_RDONLY = 0, O_NONBLOCK = 4, O_CLOEXEC = 0x1000000 };
enum { _SC_PAGESIZE = 29, _SC_NPROCESSORS_ONLN = 58, _SC_PHYS_PAGES = 200 };

struct stat {
  mode_t st_mode;
  off_t st_size;
};
int fstat(int, struct stat *);
#define S_ISREG(mode) (((mode) & 0170000) == 0100000)

void *mmap(void *, size_t, int, int, int, off_t);
int munmap(void *, size_t);
int madvise(void *, size_t, int);
#define MAP_FAILED (reinterpret_cast<void *>(-1))
enum { PROT_READ = 1, PROT_WRITE = 2, MADV_WILLNEED = 3 };
enum { MAP_PRIVATE = 2, MAP_NORESERVE = 0x40, MAP_ANONYMOUS = 0x1000 };

struct timespec {
  long tv_sec, tv_nsec;
};
enum clockid_t { CLOCK_MONOTONIC = 6 };
int clock_gettime(clockid_t, timespec *);
int sysctlbyname(const char *, void *, size_t *, void *, size_t);

typedef struct pthread *pthread_t;
struct pthread_attr_t {
  char opaque[64];
};
struct pthread_mutex_t {
  long signature;
  char opaque[56];
};
struct pthread_cond_t {
  long signature;
  char opaque[40];
};
#define PTHREAD_MUTEX_INITIALIZER                                              \
  {                                                                            \
    0x32AAABA7, {}                                                             \
  }
#define PTHREAD_COND_INITIALIZER                                               \
  {                                                                            \
    0x3CB0B1BB, {}                                                             \
  }
int pthread_attr_init(pthread_attr_t *);
int pthread_attr_destroy(pthread_attr_t *);
int pthread_attr_setstacksize(pthread_attr_t *, size_t);
int pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *),
                   void *);
int pthread_join(pthread_t, void **);
int pthread_mutex_lock(pthread_mutex_t *);
int pthread_mutex_unlock(pthread_mutex_t *);
int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *);
int pthread_cond_broadcast(pthread_cond_t *);
}

#endif // DARWIN_STUB_H
