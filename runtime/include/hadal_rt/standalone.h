// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The runtime's source and a small main, so that the C++ of a model is a whole
// program:
//
//     g++ -std=c++17 -O2 -march=native -DHADAL_STANDALONE -I runtime/include
//         OUT.cpp -o OUT -pthread
//     ./OUT --tokens 1,2,3 -n 16
//
// The file that includes it defines HADAL_MODEL, the name of its model.

#ifndef HADAL_RT_STANDALONE_H
#define HADAL_RT_STANDALONE_H

#ifndef __clang__
// In one file a type may have parts that only this file sees.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsubobject-linkage"
#endif
#if __has_include("../../src/Session.cpp")
#include "../../src/Cpu.cpp"
#include "../../src/HalfConversion.cpp"
#include "../../src/Session.cpp"
#include "../../src/Status.cpp"
#include "../../src/ThreadPool.cpp"
#include "../../src/Weights.cpp"
#else // Installed.
#include "../../share/hadal/runtime/src/Cpu.cpp"
#include "../../share/hadal/runtime/src/HalfConversion.cpp"
#include "../../share/hadal/runtime/src/Session.cpp"
#include "../../share/hadal/runtime/src/Status.cpp"
#include "../../share/hadal/runtime/src/ThreadPool.cpp"
#include "../../share/hadal/runtime/src/Weights.cpp"
#endif
#ifndef __clang__
#pragma GCC diagnostic pop
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace hadal_standalone {

struct Options {
  const char *tokens = nullptr;
  const char *logits = nullptr;
  const char *weights = nullptr;
  int64_t count = 16;
  int64_t threads = 0;
};

inline int usage() {
  fputs("usage: OUT --tokens ID,ID,... [-n COUNT] [--logits FILE.npy]\n"
        "           [--threads COUNT] [--weights FILE]\n"
        "Prints the COUNT (16) most likely tokens after those given. FILE.npy\n"
        "gets the logits of all tokens given, f32 [tokens, vocab].\n",
        stderr);
  return 2;
}

inline int fail(const char *what) {
  fprintf(stderr, "error: %s\n", what);
  return 1;
}

/// Reads a number from \p low to \p high; false: \p text is none.
inline bool readNumber(const char *text, char **end, int64_t low, int64_t high,
                       int64_t *value) {
  errno = 0;
  long long number = strtoll(text, end, 10);
  *value = number;
  return *end != text && errno == 0 && number >= low && number <= high;
}

inline bool readCount(const char *text, int64_t low, int64_t *value) {
  char *end;
  return readNumber(text, &end, low, INT32_MAX, value) && *end == 0;
}

/// The ids of "1,2,3"; \p ids has room for one per two characters. -1: it is
/// no such list.
inline int64_t readTokens(const char *text, int64_t vocab, int32_t *ids) {
  int64_t count = 0, id;
  for (char *end;; text = end + 1) {
    if (!readNumber(text, &end, 0, vocab - 1, &id))
      return -1;
    ids[count++] = int32_t(id);
    if (*end == 0)
      return count;
    if (*end != ',')
      return -1;
  }
}

/// Writes \p rows of \p columns numbers as NumPy does.
inline bool writeNpy(const char *path, const float *values, int64_t rows,
                     int64_t columns) {
  char header[128];
  memset(header, ' ', sizeof(header));
  memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
  int length = snprintf(
      header + 10, sizeof(header) - 10,
      "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }",
      static_cast<long long>(rows), static_cast<long long>(columns));
  header[10 + length] = ' ';
  header[127] = '\n';
  FILE *file = fopen(path, "wb");
  if (!file)
    return false;
  size_t count = size_t(rows) * size_t(columns);
  bool isWritten = fwrite(header, 1, sizeof(header), file) == sizeof(header) &&
                   fwrite(values, sizeof(float), count, file) == count;
  return (fclose(file) == 0) & isWritten;
}

inline int32_t mostLikely(const float *logits, int64_t vocab) {
  int64_t best = 0;
  for (int64_t i = 1; i < vocab; ++i)
    if (logits[i] > logits[best])
      best = i;
  return int32_t(best);
}

/// Feeds \p count tokens, and prints what follows them. All memory is there:
/// \p logits has a row for each token given, or one.
inline hadal_rt_status_t run(const hadal_rt_model_t *model,
                             hadal_rt_session_t *session,
                             const Options &options, int32_t *ids,
                             int32_t *sequences, int32_t *rows, int64_t count,
                             float *logits, const char **problem) {
  int32_t sequence;
  hadal_rt_status_t status = hadal_rt_sequence_create(session, &sequence);
  if (status != HADAL_RT_OK)
    return status;
  constexpr int64_t most = 512; // Tokens of a step, as sessions have it.
  for (int64_t begin = 0; begin < count; begin += most) {
    int64_t now = count - begin < most ? count - begin : most;
    for (int64_t i = 0; i < now; ++i) {
      sequences[i] = sequence;
      rows[i] = int32_t(options.logits ? i : now - 1);
    }
    status = hadal_rt_session_step(
        session, ids + begin, sequences, now, rows, options.logits ? now : 1,
        logits + (options.logits ? begin * model->vocab : 0));
    if (status != HADAL_RT_OK)
      return status;
  }
  if (options.logits) {
    if (!writeNpy(options.logits, logits, count, model->vocab)) {
      *problem = "cannot write the file of logits";
      return HADAL_RT_IO_ERROR;
    }
    logits += (count - 1) * model->vocab;
  }
  for (int64_t i = 0; i < options.count; ++i) {
    int32_t next = mostLikely(logits, model->vocab), row = 0;
    printf(i ? ",%d" : "%d", int(next));
    fflush(stdout);
    if (i + 1 == options.count)
      break;
    status =
        hadal_rt_session_step(session, &next, &sequence, 1, &row, 1, logits);
    if (status != HADAL_RT_OK)
      return status;
  }
  if (options.count)
    putchar('\n');
  return HADAL_RT_OK;
}

inline int main(const hadal_rt_model_t *model, int argc, char **argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const char *name = argv[i];
    if (++i == argc)
      return usage();
    if (!strcmp(name, "--tokens"))
      options.tokens = argv[i];
    else if (!strcmp(name, "--logits"))
      options.logits = argv[i];
    else if (!strcmp(name, "--weights"))
      options.weights = argv[i];
    else if (!strcmp(name, "-n") ? !readCount(argv[i], 0, &options.count)
                                 : strcmp(name, "--threads") != 0 ||
                                       !readCount(argv[i], 1, &options.threads))
      return usage();
  }
  if (!options.tokens)
    return usage();

  // All memory is taken here; below `run` only the buffers of stdio are.
  size_t room = strlen(options.tokens) / 2 + 1;
  auto *ids = static_cast<int32_t *>(calloc(3 * room, sizeof(int32_t)));
  int64_t count = ids ? readTokens(options.tokens, model->vocab, ids) : -1;
  if (count < 0)
    return fail("expected --tokens ID,ID,... of the vocabulary");
  int64_t outputs = options.logits ? count : 1;
  auto *logits = static_cast<float *>(
      calloc(size_t(outputs), size_t(model->vocab) * sizeof(float)));
  size_t length = strlen(argv[0]) + sizeof(".weights");
  auto *path = static_cast<char *>(malloc(length));
  if (!logits || !path)
    return fail("no memory");
  snprintf(path, length, "%s.weights", argv[0]);

  hadal_rt_weights_t *weights = nullptr;
  hadal_rt_session_t *session = nullptr;
  hadal_rt_session_options_t sessionOptions = {};
  sessionOptions.threads = options.threads;
  const char *problem = nullptr;
  hadal_rt_status_t status = hadal_rt_model_check(model);
  if (status == HADAL_RT_OK)
    status = hadal_rt_weights_open(
        model, options.weights ? options.weights : path, &weights);
  if (status == HADAL_RT_OK)
    status = hadal_rt_session_create(model, weights, &sessionOptions, &session);
  if (status == HADAL_RT_OK)
    status = run(model, session, options, ids, ids + room, ids + 2 * room,
                 count, logits, &problem);
  int code = status == HADAL_RT_OK
                 ? 0
                 : fail(problem ? problem : hadal_rt_last_error());
  hadal_rt_session_free(session);
  hadal_rt_weights_close(weights);
  free(path);
  free(logits);
  free(ids);
  return code;
}

} // namespace hadal_standalone

int main(int argc, char **argv) {
  return hadal_standalone::main(&HADAL_MODEL, argc, argv);
}

#endif // HADAL_RT_STANDALONE_H
