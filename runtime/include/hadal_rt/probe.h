// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What code that was generated with probes calls. Only programs that gather
// statistics have any; the runtime does not define the function.

#ifndef HADAL_RT_PROBE_H
#define HADAL_RT_PROBE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  HADAL_RT_PROBE_MOMENT = 0,       ///< Rows that a product reads.
  HADAL_RT_PROBE_INNER_MOMENT = 1, ///< Rows inside experts: one a slot.
  HADAL_RT_PROBE_MASS = 2,         ///< Weights of the experts chosen.
  HADAL_RT_PROBE_STATE = 3,        ///< What a layer reads.
  HADAL_RT_PROBE_GRAM = 4,         ///< As MOMENT; of each two columns.
  HADAL_RT_PROBE_INNER_GRAM = 5    ///< As INNER_MOMENT, likewise.
};

/// Rows that a probe sees. Every field is 8 bytes wide.
typedef struct hadal_rt_probe {
  int64_t kind;           ///< HADAL_RT_PROBE_*.
  int64_t id;             ///< Of the probe.
  int64_t layer;          ///< That the step is in.
  const float *data;      ///< [rows, stride], of which `columns` count; for
                          ///< HADAL_RT_PROBE_INNER_* rows * top_k rows.
  int64_t rows;           ///< Tokens, or outputs.
  int64_t columns;        ///< Of a row.
  int64_t stride;         ///< From one row to the next, in elements.
  const int32_t *experts; ///< [rows, experts_stride], of which `top_k` count;
                          ///< null if there are none.
  int64_t top_k;
  int64_t experts_stride;
  int64_t expert_count;
} hadal_rt_probe_t;

/// Takes note of rows. Called between dispatches, by the thread that steps.
void hadal_rt_probe(const hadal_rt_probe_t *probe);

#ifdef __cplusplus
}
#endif

#endif // HADAL_RT_PROBE_H
