// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The contract between three parties that never see each other's source: the
// code that Hadal generates, the runtime that hosts it, and the weights file
// that the packer writes. The compiler includes this file for the offsets.

#ifndef HADAL_RT_ABI_H
#define HADAL_RT_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Changes when a struct in this file does. A runtime refuses other versions.
#define HADAL_RT_ABI_VERSION 4u

/// Stack that a kernel may count on; buffers beyond that go into the arena.
#define HADAL_RT_KERNEL_STACK_BYTES (512 * 1024)

typedef struct hadal_rt_step hadal_rt_step_t;

/// Computes work items [first, last) of one dispatch.
///
/// \param step   The step that is running; the same for every kernel in it.
/// \param params One 64-bit word per kernel argument: the address of a buffer,
///               or the value of an index.
/// Items are independent: any partition over threads gives the same bits.
/// A kernel and what it calls use at most HADAL_RT_KERNEL_STACK_BYTES of stack.
typedef void (*hadal_rt_kernel_t)(const hadal_rt_step_t *step,
                                  const int64_t *params, int64_t first,
                                  int64_t last);

/// Runs \p kernel over items [0, items) and returns when all are done.
typedef void (*hadal_rt_dispatch_t)(void *pool, const hadal_rt_step_t *step,
                                    hadal_rt_kernel_t kernel,
                                    const int64_t *params, int64_t items);

/// What one forward step reads and writes. Every field is 8 bytes wide. The
/// runtime owns all memory; generated code keeps none of it after the step.
struct hadal_rt_step {
  hadal_rt_dispatch_t dispatch; ///< Starts and joins a dispatch.
  void *pool;                   ///< First argument of `dispatch`.
  const uint8_t *weights;       ///< Section "weights", mapped read-only.
  uint8_t *arena;               ///< 64-byte aligned; size from the model.
  uint8_t *kv;                  ///< Page 0 of the pool; 64-byte aligned.
  const int32_t *page_table;    ///< [sequences, page_table_stride] page ids; 0
                                ///< for pages that no token of the step sees.
  int64_t page_table_stride;    ///< Entries per sequence in `page_table`.
  const int32_t *token_ids;     ///< [tokens], each in [0, vocab).
  const int32_t *positions;     ///< [tokens], each in [0, context).
  const int32_t *sequences;     ///< [tokens], rows of `page_table`.
  const int32_t *output_rows;   ///< [outputs], rows that need logits.
  float *logits;                ///< [outputs, vocab], row-major.
  int64_t tokens;               ///< Tokens in this step, at least 1.
  int64_t outputs;              ///< Rows of logits wanted, 0 .. tokens.
  const int32_t *adapters;      ///< [tokens], which adapter each one's sequence
                                ///< has chosen, from 1 on; 0: none.
};

/// Instruction sets that generated code may use; the runtime checks them.
enum {
  HADAL_RT_CPU_AVX2_FMA_F16C = 1u << 0,     ///< x86-64-v3
  HADAL_RT_CPU_AVX512_F_BW_DQ_VL = 1u << 1, ///< x86-64-v4
  HADAL_RT_CPU_AVX512_VNNI = 1u << 2,
  HADAL_RT_CPU_AVX512_BF16 = 1u << 3,
  HADAL_RT_CPU_AMX_INT8 = 1u << 4,     ///< AMX-TILE and AMX-INT8
  HADAL_RT_CPU_SSE42_POPCNT = 1u << 5, ///< x86-64-v2
  HADAL_RT_CPU_ARM_DOTPROD = 1u << 16, ///< FEAT_DotProd
  HADAL_RT_CPU_ARM_I8MM = 1u << 17,    ///< FEAT_I8MM
  HADAL_RT_CPU_ARM_BF16 = 1u << 18,    ///< FEAT_BF16
  HADAL_RT_CPU_RISCV_V = 1u << 24      ///< Vectors, version 1.0.
};

typedef struct hadal_rt_model hadal_rt_model_t;

/// What a session asks of a device: see hadal_rt_device.
typedef struct hadal_rt_device_sizes {
  int64_t max_step_tokens;
  int64_t max_sequences;
  int64_t page_table_stride; ///< Entries per sequence.
  int64_t pages;             ///< Of the KV cache.
  int64_t arena_bytes;
} hadal_rt_device_sizes_t;

/// Who keeps what the steps of a model read and write in memory that is not the
/// processor's. Statuses are hadal_rt_status_t; a call that fails has left its
/// line for hadal_rt_last_error(). One thread at a time calls for a session.
typedef struct hadal_rt_device_calls {
  /// Counts the bytes of the device that open() takes, weights not among them;
  /// -1: too many to count.
  int64_t (*memory_bytes)(const hadal_rt_model_t *model,
                          const hadal_rt_device_sizes_t *sizes);
  /// Takes the memory of a session, its pages zeroed, and brings the weights
  /// there, unless another session has. \p weights outlives what \p out
  /// receives.
  int32_t (*open)(const hadal_rt_model_t *model, const uint8_t *weights,
                  const hadal_rt_device_sizes_t *sizes, void **out);
  void (*close)(void *device);
  /// Both come before the next step. That fails, if they do.
  void (*zero_page)(void *device, int64_t page);
  void (*copy_page)(void *device, int64_t to, int64_t from);
  /// Runs the model's `step`. Of \p step, `weights`, `arena`, `kv`, `dispatch`
  /// and `pool` are null; the other pointers are the processor's. After an
  /// error, there is none but that for all steps that follow.
  int32_t (*step)(void *device, const hadal_rt_step_t *step);
} hadal_rt_device_calls_t;

/// Of a model whose kernels do not run on the processor: where they are, for
/// `calls` alone to read.
typedef struct hadal_rt_device {
  const hadal_rt_device_calls_t *calls;
  const void *program; ///< What there is to launch.
  const uint8_t *image, *image_end;
} hadal_rt_device_t;

/// What a generated object says of itself. Constant data in the object, under
/// the symbol that the generated header declares.
struct hadal_rt_model {
  uint32_t abi_version;    ///< HADAL_RT_ABI_VERSION of the compiler.
  uint32_t cpu_features;   ///< HADAL_RT_CPU_* bits the code needs.
  const char *name;        ///< Model name, for messages.
  const char *manifest;    ///< JSON text, NUL-terminated.
  uint8_t layout_hash[16]; ///< Equals that of the weights file it fits.
  int64_t weights_bytes;   ///< Size of section "weights".
  int64_t vocab;           ///< Rows of the head: columns of the logits.
  int64_t hidden;          ///< Width of the residual stream.
  int64_t layers;
  int64_t context;     ///< Positions that the rotary tables cover.
  int64_t page_tokens; ///< Tokens in one KV page.
  int64_t page_bytes;  ///< Bytes of one KV page, all layers.
  int64_t arena_bytes_per_token;
  int64_t arena_bytes_fixed;
  int64_t window_tokens; ///< Latest tokens that a token sees, itself included;
                         ///< pages before those are used again. 0: all.
  int64_t sink_tokens;   ///< First tokens that it sees, too.
  /// Runs one step. Arena needed: per_token * tokens + fixed bytes.
  void (*step)(const hadal_rt_step_t *step);
  /// Names of the adapters that a sequence may choose, each NUL-terminated, in
  /// order; an empty one ends them.
  const char *adapter_names;
  const hadal_rt_device_t *device; ///< Null: kernels run on the processor.
  /// The same model for processors that lack some of `cpu_features`; null:
  /// none. It has the same weights and sizes, and may have a `lesser` one, too.
  const hadal_rt_model_t *lesser;
};

/// The weights file: this header, zero-padded to 4096 bytes, then sections,
/// each at a multiple of 4096 bytes. Little-endian. Sections: "weights",
/// "manifest" and, when the model has them, "tokenizer.json",
/// "tokenizer_config.json", "generation_config.json".
#define HADAL_RT_WEIGHTS_MAGIC "HADALWTS"
#define HADAL_RT_WEIGHTS_VERSION 1u
#define HADAL_RT_WEIGHTS_ALIGNMENT 4096u
#define HADAL_RT_MAX_SECTIONS 32u

typedef struct hadal_rt_section {
  char name[32];   ///< NUL-padded.
  uint64_t offset; ///< From the start of the header, a multiple of 4096.
  uint64_t bytes;
} hadal_rt_section_t;

typedef struct hadal_rt_weights_header {
  char magic[8];
  uint32_t version;
  uint32_t section_count; ///< At most HADAL_RT_MAX_SECTIONS.
  uint8_t layout_hash[16];
  uint64_t file_bytes; ///< Of header and sections, without a trailer.
  hadal_rt_section_t sections[HADAL_RT_MAX_SECTIONS];
} hadal_rt_weights_header_t;

/// An executable that carries its weights ends with this. The weights file
/// starts at `offset` in the executable, a multiple of 4096.
#define HADAL_RT_TRAILER_MAGIC "HADALEMB"

typedef struct hadal_rt_trailer {
  uint64_t offset;
  uint64_t bytes;
  char magic[8];
} hadal_rt_trailer_t;

#ifdef __cplusplus
}
#endif

#endif // HADAL_RT_ABI_H
