// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels that do what the emulated driver is there to find. Each is given the
// address of 16 bytes and a number.

#include "hadal_rt/cuda_program.h"

#include <cstring>

static const hadal_cuda_kernel_t add = {"add", 2, 16, 1, 0, 0, nullptr};
static const hadal_cuda_kernel_t past = {"past", 2, 16, 1, 0, 0, nullptr};
static const hadal_cuda_kernel_t slack = {"slack", 2, 16, 1, 0, 0, nullptr};
static const hadal_cuda_kernel_t null = {"null", 2, 16, 1, 0, 0, nullptr};
static const hadal_cuda_kernel_t *const kernels[] = {&add, &past, &slack,
                                                     &null};

extern "C" {
extern const hadal_cuda_program_t hadal_model_cuda;
const hadal_cuda_program_t hadal_model_cuda = {kernels, 4};

void hadal_cuda_run(const hadal_cuda_kernel_t *kernel, unsigned,
                    const void *given) {
  auto *parameters = static_cast<const hadal_cuda_parameters_t *>(given);
  auto *bytes = reinterpret_cast<volatile uint8_t *>(parameters->words[0]);
  if (!strcmp(kernel->name, "add"))
    for (int64_t i = 0; i < parameters->items; ++i)
      bytes[i] = uint8_t(bytes[i] + parameters->words[1]);
  else if (!strcmp(kernel->name, "past"))
    bytes[256] = 1; // Allocations are multiples of that.
  else if (!strcmp(kernel->name, "slack"))
    bytes[16] = 1;
  else
    *reinterpret_cast<volatile uint8_t *>(parameters->words[1]) = 1;
}
}
