// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Names of Android's libm.so, for the linker alone, as those of libc.cpp: what
// LLVM makes of mathematical operations that a processor does not have.

#define NAMES(name)                                                            \
  void name() {}                                                               \
  void name##f() {}

extern "C" {
NAMES(acos)
NAMES(acosh)
NAMES(asin)
NAMES(asinh)
NAMES(atan)
NAMES(atan2)
NAMES(atanh)
NAMES(cbrt)
NAMES(ceil)
NAMES(cos)
NAMES(cosh)
NAMES(erf)
NAMES(erfc)
NAMES(exp)
NAMES(exp2)
NAMES(expm1)
NAMES(floor)
NAMES(fma)
NAMES(fmax)
NAMES(fmin)
NAMES(fmod)
NAMES(ldexp)
NAMES(log)
NAMES(log10)
NAMES(log1p)
NAMES(log2)
NAMES(pow)
NAMES(remainder)
NAMES(rint)
NAMES(round)
NAMES(sin)
NAMES(sincos)
NAMES(sinh)
NAMES(sqrt)
NAMES(tan)
NAMES(tanh)
NAMES(trunc)
}
