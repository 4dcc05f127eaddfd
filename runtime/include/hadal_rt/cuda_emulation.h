// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs kernels of CUDA on the processor, so that what threads do together can
// be tested without a GPU: a thread is a fiber with registers of its own, and
// lanes meet at each `__shfl_sync`, `__syncwarp` and `__syncthreads`, where
// they exchange what they have. Between two of those, threads run one after the
// other: in the order of their numbers or, with HADAL_CUDA_ORDER=reverse in the
// environment, against it, so that a result which depends on it shows.
//
// Threads that wait for each other, or that meet at different places, end the
// program with a line that says which. Blocks run on the threads of the pool.

#ifndef HADAL_RT_CUDA_EMULATION_H
#define HADAL_RT_CUDA_EMULATION_H

#include "hadal_rt/cuda_program.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __grid_constant__
#define hadal_cuda_shared (::hadal_cuda::running->shared)

namespace hadal_cuda {

struct Coordinates {
  unsigned x, y, z;
};

/// Where threads meet, and how many are there.
struct Meeting {
  const char *what = nullptr; ///< What the first of them came to do.
  unsigned arrived = 0;
  unsigned round = 0; ///< Times that all have met.
};

struct Warp {
  /// Half a warp, the other half, all of it.
  Meeting meetings[3];
  /// What lanes show each other, in rounds that are even and odd.
  uint64_t shown[2][32];
  /// The same of a product of tiles.
  uint32_t left[2][32][4], right[2][32][2];
};

/// 16 bytes that are under way to shared memory.
struct Copy {
  void *to;
  const void *from;
  unsigned set;
};

struct Fiber {
#if defined(__x86_64__)
  void *top; ///< Of its stack, where its registers are while others run.
#else
  ucontext_t context;
#endif
  uint8_t *stack = nullptr;
  bool isDone;
  std::vector<Copy> copies;
  unsigned sets; ///< Of copies that have ended.
};

/// A block that runs, with all that it has of a multiprocessor.
struct Block {
  static constexpr unsigned maxThreads = 1024;
  static constexpr size_t stackBytes = 64 * 1024;
  static constexpr size_t maxSharedBytes = 227 * 1024;

  Fiber fibers[maxThreads];
  Fiber caller;
  Warp warps[maxThreads / 32];
  Meeting meeting;
  alignas(128) uint8_t shared[maxSharedBytes];
  const hadal_cuda_kernel_t *kernel;
  const hadal_cuda_parameters_t *parameters;
  unsigned threads, current, left;
  unsigned turns; ///< In which no thread could go on.
  bool isReversed;
  Coordinates block, grid;

  ~Block() {
    for (Fiber &fiber : fibers)
      free(fiber.stack);
  }

  [[noreturn]] void fail(const char *what, const char *other = "") {
    fprintf(stderr, "error: kernel %s, block %u, thread %u: %s%s\n",
            kernel->name, block.x, current, what, other);
    abort();
  }

  void run();
  void yield();
  void meet(Meeting &meeting, unsigned count, const char *what);
  void meetLanes(unsigned mask, const char *what);
  template <typename T>
  T exchange(unsigned mask, T value, unsigned source, const char *what);
};

/// The block that this thread of the processor runs.
inline thread_local Block *running = nullptr;

//===----------------------------------------------------------------------===//
// Fibers
//===----------------------------------------------------------------------===//

inline void run_fiber();

#if defined(__x86_64__)

/// Goes on at \p to, and comes back when something goes on at \p from.
extern "C" void hadal_cuda_switch(void **from, void *to);
asm(R"(
.pushsection .text.hadal_cuda_switch,"axG",@progbits,hadal_cuda_switch,comdat
.weak hadal_cuda_switch
.type hadal_cuda_switch,@function
hadal_cuda_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size hadal_cuda_switch,.-hadal_cuda_switch
.popsection
)");

inline void switch_fiber(Fiber &from, Fiber &to) {
  hadal_cuda_switch(&from.top, to.top);
}

inline void start_fiber(Fiber &fiber) {
  auto **top = reinterpret_cast<void **>(fiber.stack + Block::stackBytes);
  *--top = nullptr; // Of a caller that is not there, for alignment.
  *--top = reinterpret_cast<void *>(run_fiber);
  fiber.top = top - 6;
}

#else

inline void switch_fiber(Fiber &from, Fiber &to) {
  swapcontext(&from.context, &to.context);
}

inline void start_fiber(Fiber &fiber) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = Block::stackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, run_fiber, 0);
}

#endif

/// Lets the next thread of the block go on.
inline void Block::yield() {
  unsigned before = current, next = current;
  do
    next = isReversed ? (next ? next : threads) - 1
                      : (next + 1 == threads ? 0 : next + 1);
  while (fibers[next].isDone && next != before);
  if (next == before)
    return;
  current = next;
  switch_fiber(fibers[before], fibers[next]);
}

inline void run_fiber() {
  Block &block = *running;
  block.kernel->emulate(block.parameters);
  unsigned ended = block.current;
  block.fibers[ended].isDone = true;
  block.turns = 0;
  if (--block.left == 0)
    switch_fiber(block.fibers[ended], block.caller);
  block.yield();
}

inline void Block::run() {
  if (threads > maxThreads || kernel->shared_bytes > int(maxSharedBytes))
    fail("a block is too large");
  for (unsigned i = 0; i < threads; ++i) {
    Fiber &fiber = fibers[i];
    if (!fiber.stack)
      fiber.stack =
          static_cast<uint8_t *>(aligned_alloc(64, Block::stackBytes));
    if (!fiber.stack)
      fail("no memory");
    fiber.isDone = false;
    fiber.copies.clear();
    fiber.sets = 0;
    start_fiber(fiber);
  }
  for (unsigned i = 0; i < (threads + 31) / 32; ++i)
    for (Meeting &at : warps[i].meetings)
      at = {};
  meeting = {};
  // What is not written is not zero either.
  memset(shared, 0xff, size_t(kernel->shared_bytes));
  left = threads;
  turns = 0;
  current = isReversed ? threads - 1 : 0;
  switch_fiber(caller, fibers[current]);
}

//===----------------------------------------------------------------------===//
// Threads that meet
//===----------------------------------------------------------------------===//

inline void Block::meet(Meeting &at, unsigned count, const char *what) {
  if (at.arrived == 0)
    at.what = what;
  else if (at.what != what && strcmp(at.what, what) != 0)
    fail("others are elsewhere, at ", at.what);
  if (++at.arrived == count) {
    at.arrived = 0;
    ++at.round;
    turns = 0;
    return;
  }
  for (unsigned round = at.round; at.round == round;) {
    if (++turns > 2 * threads)
      fail("waits for threads that do not come to ", what);
    yield();
  }
}

inline void Block::meetLanes(unsigned mask, const char *what) {
  unsigned lane = current % 32;
  if (!(mask >> lane & 1))
    fail("is not one of the lanes that meet at ", what);
  int index = mask == 0xffff       ? 0
              : mask == 0xffff0000 ? 1
              : mask == 0xffffffff ? 2
                                   : -1;
  if (index < 0)
    fail("lanes that are not those of a warp, or of half of one, meet at ",
         what);
  meet(warps[current / 32].meetings[index], index == 2 ? 32 : 16, what);
}

template <typename T>
T Block::exchange(unsigned mask, T value, unsigned source, const char *what) {
  static_assert(sizeof(T) <= 8, "expects at most 64 bits");
  if (!(mask >> source & 1))
    fail("reads a lane that does not take part in ", what);
  // No lane is two rounds ahead: to get there it meets those that still read.
  Warp &warp = warps[current / 32];
  unsigned round = warp.meetings[mask == 0xffffffff ? 2 : mask != 0xffff].round;
  uint64_t *shown = warp.shown[round % 2];
  memcpy(&shown[current % 32], &value, sizeof(T));
  meetLanes(mask, what);
  memcpy(&value, &shown[source], sizeof(T));
  return value;
}

//===----------------------------------------------------------------------===//
// What kernels call
//===----------------------------------------------------------------------===//

struct ThreadIndex {
  struct X {
    operator unsigned() const { return running->current; }
  } x;
};
struct BlockIndex {
  struct X {
    operator unsigned() const { return running->block.x; }
  } x;
};
struct BlockSize {
  struct X {
    operator unsigned() const { return running->threads; }
  } x;
};
struct GridSize {
  struct X {
    operator unsigned() const { return running->grid.x; }
  } x;
};
constexpr ThreadIndex threadIdx;
constexpr BlockIndex blockIdx;
constexpr BlockSize blockDim;
constexpr GridSize gridDim;

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  unsigned first = running->current % 32 / unsigned(width) * unsigned(width);
  return running->exchange(
      mask, value, first + unsigned(lane) % unsigned(width), "__shfl_sync");
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  unsigned lane = running->current % 32, other = lane ^ unsigned(bits);
  bool isInside = other / unsigned(width) == lane / unsigned(width);
  return running->exchange(mask, value, isInside ? other : lane,
                           "__shfl_xor_sync");
}
inline void __syncwarp(unsigned mask = 0xffffffff) {
  running->meetLanes(mask, "__syncwarp");
}
inline void __syncthreads() {
  running->meet(running->meeting, running->threads, "__syncthreads");
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i)
    c += int8_t(a >> 8 * i) * int8_t(b >> 8 * i);
  return c;
}

/// What is copied is not there before it is waited for.
inline void copy_async(void *to, const void *from) {
  Fiber &fiber = running->fibers[running->current];
  if ((uintptr_t(to) | uintptr_t(from)) % 16 != 0)
    running->fail("copies 16 bytes that are not aligned");
  fiber.copies.push_back({to, from, fiber.sets});
}
inline void commit_copies() { ++running->fibers[running->current].sets; }
template <int sets> inline void wait_copies() {
  Fiber &fiber = running->fibers[running->current];
  size_t left = 0;
  for (const Copy &copy : fiber.copies)
    if (copy.set + sets < fiber.sets)
      memcpy(copy.to, copy.from, 16);
    else
      fiber.copies[left++] = copy;
  fiber.copies.resize(left);
}

/// Where PTX ISA has the elements of mma.m16n8k32 for bytes: byte \p column % 4
/// of a register of a lane. The right matrix is transposed.
struct Fragment {
  int lane, part;
  Fragment(int row, int column, bool isLeft)
      : lane(row % 8 * 4 + column % 16 / 4),
        part(isLeft ? row / 8 + column / 16 * 2 : column / 16) {}
};

inline void multiply_bytes(int32_t (&sums)[4], const uint32_t (&a)[4],
                           const uint32_t (&b)[2]) {
  constexpr unsigned all = 0xffffffff;
  Warp &warp = running->warps[running->current / 32];
  unsigned lane = running->current % 32, round = warp.meetings[2].round % 2;
  memcpy(warp.left[round][lane], a, sizeof(a));
  memcpy(warp.right[round][lane], b, sizeof(b));
  running->meetLanes(all, "mma.sync");
  for (unsigned i = 0; i < 4; ++i) {
    int row = int(lane / 4 + i / 2 * 8), column = int(lane % 4 * 2 + i % 2);
    for (int k = 0; k < 32; ++k) {
      Fragment x(row, k, true), y(column, k, false);
      sums[i] += int8_t(warp.left[round][x.lane][x.part] >> k % 4 * 8) *
                 int8_t(warp.right[round][y.lane][y.part] >> k % 4 * 8);
    }
  }
}

/// The number that bits [16 i, 16 i + 16) of \p pair are in bf16.
inline float widen_half(uint32_t pair, int i) {
  uint32_t bits = i ? pair & 0xffff0000 : pair << 16;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

/// Where PTX ISA has the elements of mma.m16n8k16, see there: sums of exact
/// products are rounded once here, and in an order and with as many bits as it
/// has them by a GPU.
inline void multiply_bf16(float (&sums)[4], const uint32_t (&a)[4],
                          const uint32_t (&b)[2]) {
  Warp &warp = running->warps[running->current / 32];
  unsigned lane = running->current % 32, round = warp.meetings[2].round % 2;
  memcpy(warp.left[round][lane], a, sizeof(a));
  memcpy(warp.right[round][lane], b, sizeof(b));
  running->meetLanes(0xffffffff, "mma.sync");
  for (unsigned i = 0; i < 4; ++i) {
    unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    double sum = sums[i];
    for (unsigned k = 0; k < 16; ++k) {
      unsigned from = k % 8 / 2, left = row / 8 + k / 8 * 2;
      sum +=
          double(widen_half(warp.left[round][row % 8 * 4 + from][left],
                            int(k % 2))) *
          widen_half(warp.right[round][column * 4 + from][k / 8], int(k % 2));
    }
    sums[i] = float(sum);
  }
}

template <int squares>
inline void load_transposed(uint32_t (&parts)[squares], const void *row) {
  Warp &warp = running->warps[running->current / 32];
  unsigned lane = running->current % 32, round = warp.meetings[2].round % 2;
  if (uintptr_t(row) % 16 != 0)
    running->fail("loads rows of squares that are not aligned");
  memcpy(warp.left[round][lane], &row, sizeof(row));
  running->meetLanes(0xffffffff, "ldmatrix.sync");
  for (unsigned i = 0; i < squares; ++i) {
    uint16_t pair[2];
    for (unsigned j = 0; j < 2; ++j) {
      const uint16_t *from;
      memcpy(&from, warp.left[round][i * 8 + lane % 4 * 2 + j], sizeof(from));
      pair[j] = from[lane / 4];
    }
    parts[i] = pair[0] | uint32_t(pair[1]) << 16;
  }
}

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

template <typename T> T *to_argument(int64_t word, T **) {
  return reinterpret_cast<T *>(intptr_t(word));
}
inline int64_t to_argument(int64_t word, const int64_t *) { return word; }

template <typename... Arguments, int... i>
inline void call(void (*kernel)(hadal_rt_step_t, int64_t, Arguments...),
                 const hadal_cuda_parameters_t &parameters,
                 std::integer_sequence<int, i...>) {
  kernel(
      parameters.step, parameters.items,
      to_argument(parameters.words[i], static_cast<Arguments *>(nullptr))...);
}
template <typename... Arguments>
inline void call(void (*kernel)(hadal_rt_step_t, int64_t, Arguments...),
                 const hadal_cuda_parameters_t &parameters) {
  call(kernel, parameters,
       std::make_integer_sequence<int, int(sizeof...(Arguments))>());
}

/// One thread of \p kernel; the running block knows which.
template <auto kernel> void emulate(const hadal_cuda_parameters_t *parameters) {
  call(kernel, *parameters);
}

/// Blocks [first, last) of a grid of \p blocks.
inline void run_blocks(const hadal_cuda_kernel_t *kernel,
                       const hadal_cuda_parameters_t *parameters,
                       int64_t blocks, int64_t first, int64_t last) {
  static thread_local Block block;
  const char *order = getenv("HADAL_CUDA_ORDER");
  block.isReversed = order && !strcmp(order, "reverse");
  block.kernel = kernel;
  block.parameters = parameters;
  block.threads = unsigned(kernel->block_threads);
  block.grid = {unsigned(blocks), 1, 1};
  running = &block;
  for (int64_t i = first; i < last; ++i) {
    block.block = {unsigned(i), 0, 0};
    block.run();
  }
}

/// The kernel of the pool that runs blocks; \p params are the addresses of a
/// kernel and of its parameters, and the number of blocks.
inline void emulate_blocks(const hadal_rt_step_t *, const int64_t *params,
                           int64_t first, int64_t last) {
  run_blocks(
      reinterpret_cast<const hadal_cuda_kernel_t *>(intptr_t(params[0])),
      reinterpret_cast<const hadal_cuda_parameters_t *>(intptr_t(params[1])),
      params[2], first, last);
}

} // namespace hadal_cuda

/// Launches \p kernel with \p blocks blocks, and waits for them; \p parameters
/// is what a launch is given.
extern "C" __attribute__((used, visibility("default"))) inline void
hadal_cuda_run(const hadal_cuda_kernel_t *kernel, unsigned blocks,
               const void *parameters) {
  hadal_cuda::run_blocks(
      kernel, static_cast<const hadal_cuda_parameters_t *>(parameters), blocks,
      0, blocks);
}

#endif // HADAL_RT_CUDA_EMULATION_H
