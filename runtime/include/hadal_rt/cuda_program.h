// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the host program of a model for CUDA and what launches its kernels know
// of each other, and the words in which `hadalc --emit=cuda` writes that
// program. Needs no CUDA.

#ifndef HADAL_RT_CUDA_PROGRAM_H
#define HADAL_RT_CUDA_PROGRAM_H

#include "hadal_rt/abi.h"

#ifdef __cplusplus
#include <utility>

extern "C" {
#endif

struct hadal_cuda_parameters;

/// Does what one thread of a kernel does, where that is emulated.
typedef void (*hadal_cuda_thread_t)(
    const struct hadal_cuda_parameters *parameters);

/// A kernel of the model's module, and how it is launched. Its parameters are a
/// `hadal_rt_step_t`, whose pointers are the device's, then the number of work
/// items and `params` words, all of 64 bits.
///
/// A launch of n work items, n > 0, has ceil(n / block_items) blocks, at most
/// `max_blocks`; the kernel shares its items out to the blocks there are.
typedef struct hadal_cuda_kernel {
  const char *name;      ///< Of the function in the module.
  int32_t params;        ///< Words after the step and the number of items.
  int32_t block_threads; ///< Threads of a block.
  int32_t block_items;   ///< Work items of a block.
  int32_t shared_bytes;  ///< Dynamic shared memory of a block.
  int32_t max_blocks;    ///< Most blocks of a launch; 0: any number.
  hadal_cuda_thread_t emulate; ///< Null, but in an emulated program.
} hadal_cuda_kernel_t;

/// All kernels of a model.
typedef struct hadal_cuda_program {
  const hadal_cuda_kernel_t *const *kernels;
  int64_t kernel_count;
} hadal_cuda_program_t;

/// Most words that a kernel is given, as parameters of a launch have room for.
#define HADAL_CUDA_MAX_PARAMS 64

/// What a launch of a kernel is given.
typedef struct hadal_cuda_parameters {
  hadal_rt_step_t step;
  int64_t items;
  int64_t words[HADAL_CUDA_MAX_PARAMS];
} hadal_cuda_parameters_t;

#ifdef __cplusplus
} // extern "C"

#ifdef HADAL_CUDA_EMULATE
#include "hadal_rt/cuda_emulation.h"
#define HADAL_CUDA_DEVICE(program)
#define HADAL_CUDA_MODEL_DEVICE nullptr
#define HADAL_CUDA_KERNEL(name, params, threads, items, shared, blocks)        \
  {#name,                                                                      \
   params,                                                                     \
   threads,                                                                    \
   items,                                                                      \
   shared,                                                                     \
   blocks,                                                                     \
   hadal_cuda::emulate<hadal_cuda::name>}
#else
#define HADAL_CUDA_KERNEL(name, params, threads, items, shared, blocks)        \
  {#name, params, threads, items, shared, blocks, nullptr}
#endif

/// Where tools look for what a program was made of.
#ifndef HADAL_MANIFEST
#if defined(__ELF__)
#define HADAL_MANIFEST __attribute__((used, section(".hadal.manifest")))
#else
#define HADAL_MANIFEST
#endif
#endif

namespace hadal_cuda_host {

typedef uint16_t bf16; ///< The upper half of an f32.
typedef uint16_t f16;  ///< IEEE 754 binary16.

/// What is \p offset bytes after the start of the arena.
template <typename T>
inline T *arena(const hadal_rt_step_t *step, int64_t offset) {
  return reinterpret_cast<T *>(step->arena + offset);
}

/// What is \p offset bytes after the start of the weights.
inline const void *weight(const hadal_rt_step_t *step, int64_t offset) {
  return step->weights + offset;
}

inline int64_t udiv(int64_t a, int64_t b) {
  return int64_t(uint64_t(a) / uint64_t(b));
}
inline int64_t urem(int64_t a, int64_t b) {
  return int64_t(uint64_t(a) % uint64_t(b));
}
inline int64_t umin(int64_t a, int64_t b) {
  return uint64_t(a) < uint64_t(b) ? a : b;
}
inline int64_t umax(int64_t a, int64_t b) {
  return uint64_t(a) < uint64_t(b) ? b : a;
}
inline int64_t min(int64_t a, int64_t b) { return b < a ? b : a; }
inline int64_t max(int64_t a, int64_t b) { return a < b ? b : a; }

inline int64_t word(int64_t value) { return value; }
inline int64_t word(const void *address) {
  return int64_t(reinterpret_cast<intptr_t>(address));
}

/// Blocks of a launch of \p items work items.
inline int64_t grid(const hadal_cuda_kernel_t &kernel, int64_t items) {
  int64_t blocks = (items + kernel.block_items - 1) / kernel.block_items;
  int64_t most = kernel.max_blocks ? kernel.max_blocks : INT32_MAX;
  return blocks < most ? blocks : most;
}

/// Runs \p kernel over items [0, items), after all that came before it.
template <typename... Arguments>
inline void dispatch(const hadal_rt_step_t *step,
                     const hadal_cuda_kernel_t &kernel, int64_t items,
                     Arguments... arguments) {
  static_assert(sizeof...(arguments) <= HADAL_CUDA_MAX_PARAMS,
                "a kernel takes that many words at most");
  if (items <= 0)
    return;
#ifdef HADAL_CUDA_EMULATE
  hadal_cuda_parameters_t parameters = {*step, items, {word(arguments)...}};
  int64_t blocks = grid(kernel, items);
  const int64_t params[] = {word(&kernel), word(&parameters), blocks};
  step->dispatch(step->pool, step, hadal_cuda::emulate_blocks, params, blocks);
#else
  const int64_t params[] = {word(arguments)...};
  step->dispatch(
      step->pool, step,
      reinterpret_cast<hadal_rt_kernel_t>(reinterpret_cast<intptr_t>(&kernel)),
      params, items);
#endif
}

} // namespace hadal_cuda_host
#endif

#endif // HADAL_RT_CUDA_PROGRAM_H
