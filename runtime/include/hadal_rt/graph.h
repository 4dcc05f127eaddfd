// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A compiled graph that is no language model: tensors in, tensors out. All
// memory is the caller's; a run allocates nothing, opens nothing and keeps
// nothing, so that any number of threads may run one graph, each with an arena
// of its own. Code may call functions of the mathematical library of C.

#ifndef HADAL_RT_GRAPH_H
#define HADAL_RT_GRAPH_H

#include "hadal_rt/hadal_rt.h"

#ifdef __cplusplus
extern "C" {
#endif

/// Changes when a struct in this file does.
#define HADAL_RT_GRAPH_ABI_VERSION 1u

/// Elements of tensors. The numbers are those of ONNX's TensorProto.DataType.
typedef enum hadal_rt_element {
  HADAL_RT_ELEMENT_F32 = 1,
  HADAL_RT_ELEMENT_U8 = 2,
  HADAL_RT_ELEMENT_I8 = 3,
  HADAL_RT_ELEMENT_U16 = 4,
  HADAL_RT_ELEMENT_I16 = 5,
  HADAL_RT_ELEMENT_I32 = 6,
  HADAL_RT_ELEMENT_I64 = 7,
  HADAL_RT_ELEMENT_BOOL = 9, ///< A byte, 0 or 1.
  HADAL_RT_ELEMENT_F16 = 10,
  HADAL_RT_ELEMENT_F64 = 11,
  HADAL_RT_ELEMENT_U32 = 12,
  HADAL_RT_ELEMENT_U64 = 13,
  HADAL_RT_ELEMENT_BF16 = 16
} hadal_rt_element_t;

/// An input or output: a dense tensor in row-major order.
typedef struct hadal_rt_graph_tensor {
  const char *name; ///< As in the graph.
  const int64_t *shape;
  int32_t rank;
  int32_t element; ///< A hadal_rt_element_t.
} hadal_rt_graph_tensor_t;

typedef struct hadal_rt_graph hadal_rt_graph_t;

/// What a generated object says of itself. Constant data in the object, under
/// the symbol that the generated header declares.
struct hadal_rt_graph {
  uint32_t abi_version;    ///< HADAL_RT_GRAPH_ABI_VERSION of the compiler.
  uint32_t cpu_features;   ///< HADAL_RT_CPU_* bits the code needs.
  const char *name;        ///< For messages.
  uint8_t layout_hash[16]; ///< Equals that of the weights file it fits.
  int64_t weights_bytes;   ///< Of section "weights". 0: there is no file.
  int64_t arena_bytes;
  int64_t input_count, output_count;
  const hadal_rt_graph_tensor_t *inputs, *outputs;
  /// Computes all outputs.
  ///
  /// \param inputs  The elements of each input, aligned as they are large.
  /// \param outputs Where those of each output go; apart from all others.
  /// \param weights Section "weights" of the file, 64-byte aligned; may be null
  ///                if there are none.
  /// \param arena   `arena_bytes` bytes, 64-byte aligned; may be null for none.
  ///
  /// \retval HADAL_RT_OK Done.
  /// \retval HADAL_RT_INVALID_ARGUMENT An index that the graph computes or is
  ///         given is out of range, or an integer is divided by zero. Outputs
  ///         are written, and mean nothing.
  int32_t (*run)(const void *const *inputs, void *const *outputs,
                 const void *weights, void *arena);
};

/// Checks that this processor and this runtime can run \p graph.
///
/// \retval HADAL_RT_UNSUPPORTED_CPU  The code needs instructions that are not
///         there.
/// \retval HADAL_RT_INVALID_ARGUMENT \p graph is null.
/// \retval HADAL_RT_UNSUPPORTED_ABI  It is of another version.
hadal_rt_status_t hadal_rt_graph_check(const hadal_rt_graph_t *graph);

/// Opens and maps the weights file of \p graph, which outlives them. As
/// hadal_rt_weights_open(); section "weights" is what `run` takes.
hadal_rt_status_t hadal_rt_graph_weights_open(const hadal_rt_graph_t *graph,
                                              const char *path,
                                              hadal_rt_weights_t **out);

#ifdef __cplusplus
} // extern "C"
#endif

#endif // HADAL_RT_GRAPH_H
