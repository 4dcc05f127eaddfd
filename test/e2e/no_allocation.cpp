// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Links a model that was compiled as `abyss`, and proves that steps of its
// sessions take no memory: from the creation of a session on, malloc and its
// kin count their calls, and the system ends the program at a call of mmap,
// brk and such, from whichever thread or library. Prints a hash of all logits.
//
// usage: no_allocation WEIGHTS THREADS [malloc|new|mmap]
// The last shows, by doing so in the midst of steps, that it would be found.

#include "abyss.h"

#include "hadal_rt/hadal_rt.h"

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <new>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

//===----------------------------------------------------------------------===//
// Those that allocate
//===----------------------------------------------------------------------===//

static std::atomic<bool> isWatching;
static std::atomic<int> calls;

static void note() {
  if (isWatching.load())
    ++calls;
}

// The C library's own, under the names that it exports them by.
extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t bytes) {
  note();
  return __libc_malloc(bytes);
}
void *calloc(size_t count, size_t bytes) {
  note();
  return __libc_calloc(count, bytes);
}
void *realloc(void *old, size_t bytes) {
  note();
  return __libc_realloc(old, bytes);
}
void *memalign(size_t alignment, size_t bytes) {
  note();
  return __libc_memalign(alignment, bytes);
}
void *aligned_alloc(size_t alignment, size_t bytes) {
  note();
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void **out, size_t alignment, size_t bytes) {
  note();
  *out = __libc_memalign(alignment, bytes);
  return *out ? 0 : 12;
}
}

/// From now on the system ends this process, with SIGSYS, at a call that takes
/// memory, starts a thread or opens a file. False: it does not know how.
static bool forbidSystemCalls() {
  static const long forbidden[] = {SYS_mmap,  SYS_mremap, SYS_brk,
                                   SYS_clone, SYS_clone3, SYS_openat};
  constexpr size_t count = sizeof(forbidden) / sizeof(*forbidden);
  sock_filter filter[2 + count + 1];
  size_t size = 0;
  filter[size++] =
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  for (size_t i = 0; i < count; ++i)
    filter[size++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, uint32_t(forbidden[i]),
                              uint8_t(count - i), 0);
  filter[size++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  filter[size++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
  sock_fprog program = {uint16_t(size), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                 SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

[[noreturn]] static void fail(const char *what, const char *why) {
  isWatching = false;
  fprintf(stderr, "error: %s: %s\n", what, why);
  _exit(1); // What ends the program otherwise may allocate.
}

static void check(const char *what, hadal_rt_status_t status) {
  if (status)
    fail(what, hadal_rt_last_error());
}

static void take(const char *how) {
  if (!strcmp(how, "malloc"))
    free(malloc(100));
  else if (!strcmp(how, "new"))
    operator delete(operator new(100));
  else if (!strcmp(how, "mmap"))
    syscall(SYS_mmap, nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1,
            0);
  else
    fail(how, "expected malloc, new or mmap");
}

static constexpr int64_t mostTokens = 48;
static int32_t ids[mostTokens], sequences[mostTokens], rows[mostTokens];
static float *logits; // [mostTokens, vocab]
static uint64_t hash = 14695981039346656037u;

/// Feeds \p count tokens to each of \p sequenceCount sequences in one step,
/// with the logits of all.
static void step(hadal_rt_session_t *session, const int32_t *of,
                 int64_t sequenceCount, int64_t count) {
  static uint32_t seed = 1;
  int64_t tokens = 0;
  for (int64_t i = 0; i < sequenceCount; ++i)
    for (int64_t j = 0; j < count; ++j, ++tokens) {
      seed = seed * 1664525 + 1013904223;
      ids[tokens] = int32_t((seed >> 8) % uint32_t(abyss_model.vocab));
      sequences[tokens] = of[i];
      rows[tokens] = int32_t(tokens);
    }
  check("a step", hadal_rt_session_step(session, ids, sequences, tokens, rows,
                                        tokens, logits));
  const auto *words = reinterpret_cast<const uint32_t *>(logits);
  for (int64_t i = 0; i < tokens * abyss_model.vocab; ++i)
    hash = (hash ^ words[i]) * 1099511628211u;
  if (calls)
    fail("a step", "it allocates");
}

static hadal_rt_weights_t *openWeights(const char *path) {
  hadal_rt_weights_t *weights;
#ifdef HADAL_RT_BARE
  // As if they were part of the program.
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END))
    fail(path, "cannot open");
  auto bytes = size_t(ftell(file));
  rewind(file);
  void *data = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (!data || fread(data, 1, bytes, file) != bytes)
    fail(path, "cannot read");
  fclose(file);
  check("weights",
        hadal_rt_weights_open_memory(&abyss_model, data, bytes, &weights));
#else
  check("weights", hadal_rt_weights_open(&abyss_model, path, &weights));
#endif
  return weights;
}

int main(int argc, char **argv) {
  if (argc < 3)
    return 2;
  logits = static_cast<float *>(
      calloc(size_t(mostTokens * abyss_model.vocab), sizeof(float)));
  hadal_rt_weights_t *weights = openWeights(argv[1]);
  hadal_rt_session_options_t options = {};
  options.threads = atoi(argv[2]);
  options.max_sequences = 3;
  options.kv_tokens = 3 * 128;
  hadal_rt_session_t *session;
  check("session",
        hadal_rt_session_create(&abyss_model, weights, &options, &session));

  isWatching = true;
  // Where it is not allowed, the C library's own functions are still watched.
  if (!forbidSystemCalls())
    fprintf(stderr, "note: system calls are not watched, no seccomp here\n");
  int32_t all[3];
  check("sequence", hadal_rt_sequence_create(session, &all[0]));
  step(session, all, 1, 40); // Prefill.
  if (argc > 3)
    take(argv[3]);
  for (int i = 0; i < 8; ++i)
    step(session, all, 1, 1);
  check("sequence", hadal_rt_sequence_create(session, &all[1]));
  check("fork", hadal_rt_sequence_fork(session, all[0], &all[2]));
  step(session, all, 3, 16); // A batch, one of it on shared pages.
  for (int i = 0; i < 8; ++i)
    step(session, all, 3, 1);
  check("truncate", hadal_rt_sequence_truncate(session, all[0], 20));
  check("free", hadal_rt_sequence_free(session, all[1]));
  check("sequence", hadal_rt_sequence_create(session, &all[1]));
  check("reserve", hadal_rt_session_reserve(session, all[1], 32));
  step(session, all, 3, 2);
  // Errors are texts, and need no memory either.
  ids[0] = -1;
  if (!hadal_rt_session_step(session, ids, sequences, 1, rows, 1, logits))
    fail("a wrong step", "it was taken");
  step(session, all, 2, 1);

  isWatching = false;
  char line[32];
  int length = snprintf(line, sizeof(line), "%016llx\n",
                        static_cast<unsigned long long>(hash));
  if (write(1, line, size_t(length)) != length)
    return 1;
  _exit(0);
}
