// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Puts what nvcc makes of a model's kernels into the model's host program, and
// names who launches them: libhadal_rt_cuda.a. Needs no CUDA.
//
// The host program is compiled with -DHADAL_CUDA_IMAGE='"FILE.fatbin"', the
// file that `nvcc -fatbin` has written.

#ifndef HADAL_RT_CUDA_DEVICE_H
#define HADAL_RT_CUDA_DEVICE_H

#include "hadal_rt/cuda_program.h"

/// Loads the driver of CUDA, which must be there when a session is made, and
/// runs steps on the device that the variable HADAL_CUDA_DEVICE numbers, or on
/// device 0. Of a `hadal_rt_device_t`, `program` is a `hadal_cuda_program_t`,
/// and the image is one that cuModuleLoadData() takes.
// NOLINTNEXTLINE(bugprone-dynamic-static-initializers): it is a constant.
extern "C" const hadal_rt_device_calls_t hadal_rt_cuda_calls;

/// Defines the device of a model: \p program is the name of its
/// `hadal_cuda_program_t`.
#ifndef HADAL_CUDA_IMAGE
#define HADAL_CUDA_DEVICE(program)                                             \
  static_assert(false, "expects -DHADAL_CUDA_IMAGE='\"FILE.fatbin\"'");        \
  static const hadal_rt_device_t hadal_cuda_model_device = {};
#else
#define HADAL_CUDA_DEVICE(program)                                             \
  asm(".pushsection .rodata." #program "_image,\"a\"\n"                        \
      ".balign 64\n"                                                           \
      ".globl " #program "_image\n"                                            \
      ".hidden " #program "_image\n" #program "_image:\n"                      \
      ".incbin \"" HADAL_CUDA_IMAGE "\"\n"                                     \
      ".globl " #program "_image_end\n"                                        \
      ".hidden " #program "_image_end\n" #program "_image_end:\n"              \
      ".byte 0\n"                                                              \
      ".popsection");                                                          \
  extern "C" __attribute__((visibility("hidden")))                             \
  const uint8_t program##_image[],                                             \
      program##_image_end[];                                                   \
  static const hadal_rt_device_t hadal_cuda_model_device = {                   \
      &hadal_rt_cuda_calls, &program, program##_image, program##_image_end};
#endif

/// The last field of the model.
#define HADAL_CUDA_MODEL_DEVICE &hadal_cuda_model_device

#endif // HADAL_RT_CUDA_DEVICE_H
