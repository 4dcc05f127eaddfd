// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads CPUID. The registers count only if the system saves them too (XCR0).
// Bits: Intel SDM, volume 2A, CPUID, and volume 1, section 13.3. On ARM the
// system says it: Documentation/arch/arm64/elf_hwcaps.rst of Linux (and
// arch/riscv/include/uapi/asm/hwcap.h for RISC-V); Apple,
// "Determining instruction set characteristics". Without a system, ARM's
// registers do: Arm ARM, ID_AA64ISAR0_EL1 and ID_AA64ISAR1_EL1.

#include "Cpu.h"

#include "Platform.h"

#include "hadal_rt/abi.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif (defined(__aarch64__) || defined(__riscv)) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

using namespace hadal_rt;

#if defined(__x86_64__)
static bool hasAll(uint32_t value, uint32_t bits) {
  return (value & bits) == bits;
}
#elif defined(__aarch64__) && defined(__APPLE__)
static bool systemHas(const char *name) {
  int value = 0;
  size_t bytes = sizeof(value);
  return sysctlbyname(name, &value, &bytes, nullptr, 0) == 0 && value != 0;
}
#endif

uint32_t hadal_rt::cpuFeatures() {
  uint32_t features = 0;
#if defined(__x86_64__)
  uint32_t a, b, c1, d, b7, c7, d7, cx = 0, a71 = 0;
  if (!__get_cpuid(1, &a, &b, &c1, &d))
    return 0;
  // x86-64-v2: SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT.
  if (hasAll(c1, 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23))
    features |= HADAL_RT_CPU_SSE42_POPCNT;
  if (!(c1 & 1u << 27)) // OSXSAVE
    return features;
  uint32_t xcr0, high;
  __asm__ __volatile__("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
  uint32_t subleaves;
  if (!__get_cpuid_count(7, 0, &subleaves, &b7, &c7, &d7))
    return features;
  if (subleaves >= 1)
    __get_cpuid_count(7, 1, &a71, &b, &a, &d);
  __get_cpuid(0x80000001, &a, &b, &cx, &d);

  // x86-64-v3: FMA, MOVBE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT.
  if (features && hasAll(xcr0, 0x6) &&
      hasAll(c1, 1u << 12 | 1u << 22 | 1u << 28 | 1u << 29) &&
      hasAll(b7, 1u << 3 | 1u << 5 | 1u << 8) && hasAll(cx, 1u << 5))
    features |= HADAL_RT_CPU_AVX2_FMA_F16C;
  // x86-64-v4 adds AVX512 F, DQ, CD, BW and VL.
  if (features & HADAL_RT_CPU_AVX2_FMA_F16C && hasAll(xcr0, 0xe6) &&
      hasAll(b7, 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31)) {
    features |= HADAL_RT_CPU_AVX512_F_BW_DQ_VL;
    if (c7 & 1u << 11)
      features |= HADAL_RT_CPU_AVX512_VNNI;
    if (a71 & 1u << 5)
      features |= HADAL_RT_CPU_AVX512_BF16;
    // XTILECFG and XTILEDATA; AMX-TILE and AMX-INT8.
    if (hasAll(xcr0, 0x60000) && hasAll(d7, 1u << 24 | 1u << 25))
      features |= HADAL_RT_CPU_AMX_INT8;
  }
#elif defined(__aarch64__) && defined(__linux__)
  // HWCAP_ASIMDDP, HWCAP2_I8MM and HWCAP2_BF16, which older headers lack.
  if (getauxval(AT_HWCAP) & 1ul << 20)
    features |= HADAL_RT_CPU_ARM_DOTPROD;
  if (getauxval(AT_HWCAP2) & 1ul << 13)
    features |= HADAL_RT_CPU_ARM_I8MM;
  if (getauxval(AT_HWCAP2) & 1ul << 14)
    features |= HADAL_RT_CPU_ARM_BF16;
#elif defined(__riscv) && defined(__linux__)
  // A bit a letter of the instruction set's name.
  if (getauxval(AT_HWCAP) & 1ul << ('V' - 'A'))
    features |= HADAL_RT_CPU_RISCV_V;
#elif defined(__aarch64__) && defined(__APPLE__)
  if (systemHas("hw.optional.arm.FEAT_DotProd"))
    features |= HADAL_RT_CPU_ARM_DOTPROD;
  if (systemHas("hw.optional.arm.FEAT_I8MM"))
    features |= HADAL_RT_CPU_ARM_I8MM;
  if (systemHas("hw.optional.arm.FEAT_BF16"))
    features |= HADAL_RT_CPU_ARM_BF16;
#elif defined(__aarch64__) && defined(HADAL_RT_BARE)
  uint64_t isar0, isar1;
  __asm__("mrs %0, ID_AA64ISAR0_EL1" : "=r"(isar0));
  __asm__("mrs %0, ID_AA64ISAR1_EL1" : "=r"(isar1));
  if (isar0 >> 44 & 15) // DP
    features |= HADAL_RT_CPU_ARM_DOTPROD;
  if (isar1 >> 52 & 15) // I8MM
    features |= HADAL_RT_CPU_ARM_I8MM;
  if (isar1 >> 44 & 15) // BF16
    features |= HADAL_RT_CPU_ARM_BF16;
#endif
  return features;
}

uint32_t hadal_rt::refusedCpuFeatures(uint32_t needed) {
  uint32_t refused = 0;
#if defined(__x86_64__) && defined(__linux__)
  // ARCH_REQ_XCOMP_PERM and XTILEDATA, which older headers lack: see
  // Documentation/arch/x86/xstate.rst of Linux.
  if (needed & HADAL_RT_CPU_AMX_INT8 &&
      syscall(SYS_arch_prctl, 0x1023, 18) != 0)
    refused |= HADAL_RT_CPU_AMX_INT8;
#else
  (void)needed;
#endif
  return refused;
}

const char *hadal_rt::missingCpuFeature(uint32_t needed, uint32_t available) {
  uint32_t missing = needed & ~available;
  if (missing & HADAL_RT_CPU_SSE42_POPCNT)
    return "SSE4.2 and POPCNT (x86-64-v2)";
  if (missing & HADAL_RT_CPU_AVX2_FMA_F16C)
    return "AVX2, FMA and F16C (x86-64-v3)";
  if (missing & HADAL_RT_CPU_AVX512_F_BW_DQ_VL)
    return "AVX-512 F, BW, DQ and VL (x86-64-v4)";
  if (missing & HADAL_RT_CPU_AVX512_VNNI)
    return "AVX-512 VNNI";
  if (missing & HADAL_RT_CPU_AVX512_BF16)
    return "AVX-512 BF16";
  if (missing & HADAL_RT_CPU_AMX_INT8)
    return "AMX-INT8, and a system that lets programs use it";
  if (missing & HADAL_RT_CPU_ARM_DOTPROD)
    return "dot products (FEAT_DotProd)";
  if (missing & HADAL_RT_CPU_ARM_I8MM)
    return "products of 8-bit matrices (FEAT_I8MM)";
  if (missing & HADAL_RT_CPU_ARM_BF16)
    return "products of bf16 (FEAT_BF16)";
  if (missing & HADAL_RT_CPU_RISCV_V)
    return "vectors (V)";
  if (missing)
    return "one that this runtime does not know";
  return nullptr;
}
