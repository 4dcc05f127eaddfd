// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A model without an operating system: no files, threads, heap or C library.
// The C++ of the model is part of this file, its weights are part of the
// program, and all memory is in arrays whose sizes the compiler of the model
// has worked out. For AArch64: as a program of Linux that makes two system
// calls, or with -DBARE_BOARD for QEMU's board `virt` alone; see README.md.

#include "model.cpp"

// One sequence of at most this many tokens, fed one by one.
constexpr int64_t context = 64;
constexpr int64_t pages = (context + MODEL_PAGE_TOKENS - 1) / MODEL_PAGE_TOKENS;

// Page 0 is nobody's: entries of the page table that no token sees have it.
alignas(64) static uint8_t kvBytes[(pages + 1) * MODEL_PAGE_BYTES];
alignas(64) static uint8_t
    arenaBytes[MODEL_ARENA_BYTES_PER_TOKEN + MODEL_ARENA_BYTES_FIXED];
static float logits[MODEL_VOCAB];

__asm__(".section .rodata\n"
        ".balign 4096\n"
        "weights_file: .incbin \"model.weights\"\n"
        ".text\n");
extern "C" const uint8_t weights_file[];

//===----------------------------------------------------------------------===//
// What compilers call, and the machine
//===----------------------------------------------------------------------===//

// A loop is no call of itself, whatever the compiler sees in it.
#define PLAIN __attribute__((optimize("no-tree-loop-distribute-patterns")))

extern "C" PLAIN void *memcpy(void *to, const void *from, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    static_cast<uint8_t *>(to)[i] = static_cast<const uint8_t *>(from)[i];
  return to;
}

extern "C" PLAIN void *memset(void *to, int value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    static_cast<uint8_t *>(to)[i] = uint8_t(value);
  return to;
}

#ifdef BARE_BOARD

// Memory of two gigabytes, each mapped to itself: what belongs to devices, and
// what is RAM. Without a map, vectors would have to be aligned.
extern "C" {
extern const uint64_t memory_map[512];
const uint64_t memory_map[512] __attribute__((aligned(4096))) = {
    0x00000000ull | 1 << 10 | 0 << 2 | 1,           // Accessed; devices.
    0x40000000ull | 1 << 10 | 3 << 8 | 1 << 2 | 1}; // Shared; RAM, cached.
alignas(16) uint8_t
    board_stack[1 << 20]; // Of which abi.h promises half to kernels.
[[noreturn]] void runModel();
}

// The board starts here, at exception level 1.
__asm__(".globl _start\n"
        "_start:\n"
        "  mov x0, #0x300000\n" // Vectors are no exception.
        "  msr cpacr_el1, x0\n"
        "  mov x0, #0xff00\n" // Kinds of memory: 0 devices, 1 RAM, cached.
        "  msr mair_el1, x0\n"
        "  ldr x0, =0x803519\n" // 39 bits, pages of 4 KiB, one map.
        "  msr tcr_el1, x0\n"
        "  adrp x0, memory_map\n"
        "  msr ttbr0_el1, x0\n"
        "  tlbi vmalle1\n"
        "  dsb sy\n"
        "  isb\n"
        "  mrs x0, sctlr_el1\n"
        "  ldr x1, =0x1005\n" // Map, caches of data and instructions.
        "  orr x0, x0, x1\n"
        "  msr sctlr_el1, x0\n"
        "  isb\n"
        "  adrp x0, board_stack\n"
        "  add x0, x0, #0x100000\n"
        "  mov sp, x0\n"
        "  bl runModel\n");

/// A character to the serial port, a PL011 that QEMU has set up.
static void put(char c) {
  *reinterpret_cast<volatile uint32_t *>(0x09000000) = uint8_t(c);
}

/// Turns the board off: SYSTEM_OFF of Arm's PSCI.
[[noreturn]] static void stop(int) {
  register uint64_t x0 __asm__("x0") = 0x84000008;
  for (;;)
    __asm__ volatile("hvc #0" : "+r"(x0) : : "memory");
}

#else

/// The two services of a machine: system calls of Linux here, so that an
/// emulator of programs runs this.
static long call(long number, long a, long b, long c) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
}
static void put(char c) { call(64, 1, long(&c), 1); }
[[noreturn]] static void stop(int code) {
  for (;;)
    call(94, code, 0, 0);
}

#endif // BARE_BOARD

static void putNumber(int64_t value) {
  if (value >= 10)
    putNumber(value / 10);
  put(char('0' + value % 10));
}

//===----------------------------------------------------------------------===//
// The model
//===----------------------------------------------------------------------===//

/// All items, here and now.
static void runHere(void *, const hadal_rt_step_t *step,
                    hadal_rt_kernel_t kernel, const int64_t *params,
                    int64_t items) {
  kernel(step, params, 0, items);
}

/// The section of that name in the weights file, or null.
static const uint8_t *findWeights() {
  hadal_rt_weights_header_t header;
  memcpy(&header, weights_file, sizeof(header));
  for (size_t i = 0; i < sizeof(header.layout_hash); ++i)
    if (header.layout_hash[i] != hadal_model.layout_hash[i])
      return nullptr;
  const char wanted[] = "weights";
  for (uint32_t i = 0; i < header.section_count && i < HADAL_RT_MAX_SECTIONS;
       ++i) {
    size_t same = 0;
    while (same < sizeof(wanted) &&
           header.sections[i].name[same] == wanted[same])
      ++same;
    if (same == sizeof(wanted))
      return weights_file + header.sections[i].offset;
  }
  return nullptr;
}

#ifndef BARE_BOARD
#define runModel _start
#endif
extern "C" [[noreturn]] void runModel() {
  int32_t pageTable[pages];
  for (int64_t i = 0; i < pages; ++i)
    pageTable[i] = int32_t(i + 1);
  int32_t token = 1, position = 0, sequence = 0, row = 0;

  hadal_rt_step_t step = {};
  step.dispatch = runHere;
  step.weights = findWeights();
  step.arena = arenaBytes;
  step.kv = kvBytes;
  step.page_table = pageTable;
  step.page_table_stride = pages;
  step.token_ids = &token;
  step.positions = &position;
  step.sequences = &sequence;
  step.output_rows = &row;
  step.logits = logits;
  step.tokens = 1;
  step.outputs = 1;
  if (!step.weights) {
    put('?'); // The weights are those of another model.
    stop(1);
  }

  // Three tokens are given, and 16 follow.
  const int32_t prompt[] = {1, 2, 3};
  for (; position < 3 + 16 - 1; ++position) {
    if (position < 3)
      token = prompt[position];
    hadal_model.step(&step);
    if (position < 2)
      continue;
    token = 0;
    for (int32_t i = 1; i < int32_t(MODEL_VOCAB); ++i)
      if (logits[i] > logits[token])
        token = i;
    putNumber(token);
    put(position + 1 < 3 + 16 - 1 ? ',' : '\n');
  }
  stop(0);
}
