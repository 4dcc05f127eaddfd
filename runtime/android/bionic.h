// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the runtime uses of Android's C library, for 64-bit ARM, so that its
// library for Android is built without an NDK: each header that the runtime
// includes becomes one that includes this file. Types, constants and names are
// those of bionic's headers and of Linux's for arm64; the members of structures
// that are not used are padding.

#ifndef HADAL_RT_ANDROID_BIONIC_H
#define HADAL_RT_ANDROID_BIONIC_H

#if !defined(__ANDROID__) || !defined(__aarch64__)
#error "bionic.h is for Android on 64-bit ARM"
#endif

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
typedef long ssize_t;
typedef long off_t;
typedef uint32_t mode_t;

// errno.h
int *__errno(void) __attribute__((const));
#define errno (*__errno())
#define EINTR 4

// stdlib.h, string.h, stdio.h
void *malloc(size_t);
void free(void *);
void *aligned_alloc(size_t, size_t);
long long strtoll(const char *, char **, int);
void *memcpy(void *, const void *, size_t);
void *memset(void *, int, size_t);
int memcmp(const void *, const void *, size_t);
void *memchr(const void *, int, size_t);
int strcmp(const char *, const char *);
char *strerror(int);
typedef struct __sFILE FILE;
FILE *fopen(const char *, const char *);
size_t fread(void *, size_t, size_t, FILE *);
int fclose(FILE *);
int vsnprintf(char *, size_t, const char *, va_list);

// fcntl.h, unistd.h, sys/syscall.h
int open(const char *, int, ...);
int close(int);
ssize_t pread(int, void *, size_t, off_t);
long sysconf(int);
long syscall(long, ...);
#define O_RDONLY 0
#define O_NONBLOCK 04000
#define O_CLOEXEC 02000000
#define _SC_PAGESIZE 0x27
#define _SC_NPROCESSORS_ONLN 0x61
#define _SC_PHYS_PAGES 0x62
#define SYS_futex 98

// linux/futex.h
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129

// sys/stat.h
struct stat {
  uint64_t st_dev, st_ino;
  mode_t st_mode;
  uint32_t padding[7];
  off_t st_size;
  uint64_t more[9];
};
static_assert(sizeof(struct stat) == 128, "as Linux fills it");
int fstat(int, struct stat *);
#define S_ISREG(mode) (((mode) & 0170000) == 0100000)

// sys/mman.h
void *mmap(void *, size_t, int, int, int, off_t);
int munmap(void *, size_t);
int madvise(void *, size_t, int);
#define MAP_FAILED (reinterpret_cast<void *>(-1))
#define PROT_READ 1
#define PROT_WRITE 2
#define MAP_PRIVATE 2
#define MAP_ANONYMOUS 0x20
#define MAP_NORESERVE 0x4000
#define MADV_WILLNEED 3
#define MADV_HUGEPAGE 14

// time.h
struct timespec {
  long tv_sec, tv_nsec;
};
int clock_gettime(int, timespec *);
#define CLOCK_MONOTONIC 1

// sched.h
struct cpu_set_t {
  unsigned long bits[16];
};
int sched_getaffinity(int, size_t, cpu_set_t *);
int __sched_cpucount(size_t, const cpu_set_t *);
#define CPU_COUNT(set) __sched_cpucount(sizeof(cpu_set_t), set)

// sys/auxv.h
unsigned long getauxval(unsigned long);
#define AT_HWCAP 16
#define AT_HWCAP2 26

// pthread.h
typedef long pthread_t;
struct pthread_attr_t {
  uint64_t padding[7];
};
int pthread_attr_init(pthread_attr_t *);
int pthread_attr_destroy(pthread_attr_t *);
int pthread_attr_setstacksize(pthread_attr_t *, size_t);
int pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *),
                   void *);
int pthread_join(pthread_t, void **);
}

#endif // HADAL_RT_ANDROID_BIONIC_H
