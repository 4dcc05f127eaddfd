// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the processor can do, and the floating-point mode that kernels get.

#ifndef HADAL_RT_SRC_CPU_H
#define HADAL_RT_SRC_CPU_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace hadal_rt {

/// Returns the HADAL_RT_CPU_* bits that processor and system support.
uint32_t cpuFeatures();

/// Asks the system for the registers of those of \p needed that it hands out on
/// request only, for all threads of the process; returns what it refuses.
/// \p needed has nothing that `cpuFeatures` lacks.
uint32_t refusedCpuFeatures(uint32_t needed);

/// Returns the name of the first feature in \p needed that \p available
/// lacks, or null when it has them all.
const char *missingCpuFeature(uint32_t needed, uint32_t available);

/// Tells the processor that this is a spin loop.
inline void pauseCpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("isb");
#elif defined(__riscv)
  __asm__ __volatile__(".word 0x0100000f"); // pause, a hint to older ones.
#endif
}

/// Rounds to nearest and keeps subnormals while it lives, whatever the host
/// program chose: the caller's thread computes items too, and they must come
/// out as they do on a worker.
class DefaultFloatMode {
#if defined(__x86_64__)
public:
  DefaultFloatMode() : saved(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~DefaultFloatMode() { _mm_setcsr(saved); }

private:
  unsigned saved;
#elif defined(__aarch64__)
public:
  DefaultFloatMode() {
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(saved));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(uint64_t(0)));
  }
  ~DefaultFloatMode() { __asm__ __volatile__("msr fpcr, %0" : : "r"(saved)); }

private:
  uint64_t saved;
#elif defined(__riscv)
public: // Subnormals are always kept.
  DefaultFloatMode() { __asm__ __volatile__("fsrmi %0, 0" : "=r"(saved)); }
  ~DefaultFloatMode() { __asm__ __volatile__("fsrm %0" : : "r"(saved)); }

private:
  uint64_t saved;
#else
public:
  DefaultFloatMode() {}
  ~DefaultFloatMode() {}
#endif
  DefaultFloatMode(const DefaultFloatMode &) = delete;
  DefaultFloatMode &operator=(const DefaultFloatMode &) = delete;
};

} // namespace hadal_rt

#endif // HADAL_RT_SRC_CPU_H
