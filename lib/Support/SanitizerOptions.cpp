// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// AddressSanitizer's defaults in the tools of a sanitized build. libMLIR is
// not instrumented: memory that our code poisons through LLVM's allocators, or
// std containers that both sides touch, would be reported without cause.

extern "C" const char *__asan_default_options() {
  return "allow_user_poisoning=0:detect_container_overflow=0";
}
