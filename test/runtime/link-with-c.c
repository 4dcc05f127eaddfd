// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A C program that names every function of the runtime: it must compile as
// strict C11 and link without the C++ runtime library. Its size, with an empty
// program's taken off, is what the runtime adds to a product.

#include "hadal_rt/hadal_rt.h"

#include <stdio.h>

static void run_step(const hadal_rt_step_t *step) { (void)step; }

int main(int argc, char **argv) {
  hadal_rt_model_t model = {0};
  hadal_rt_weights_t *weights = 0;
  hadal_rt_session_t *session = 0;
  const void *data = 0;
  uint64_t bytes = 0;
  int64_t length = 0;
  int32_t sequence = 0, token = 0;
  model.step = run_step;
  if (argc == 1) {
    // The model above is not a model, and says so.
    return hadal_rt_model_check(&model) == HADAL_RT_UNSUPPORTED_ABI ? 0 : 1;
  }
  if (hadal_rt_weights_open(&model, argv[1], &weights) ||
      hadal_rt_weights_open_embedded(&model, argv[0], &weights) ||
      hadal_rt_weights_open_memory(&model, argv[0], 1, &weights) ||
      hadal_rt_weights_section(weights, "weights", &data, &bytes) ||
      hadal_rt_session_memory_bytes(&model, 0, &length) ||
      hadal_rt_session_create(&model, weights, 0, &session) ||
      hadal_rt_sequence_create(session, &sequence) ||
      hadal_rt_sequence_fork(session, sequence, &sequence) ||
      hadal_rt_sequence_length(session, sequence, &length) ||
      hadal_rt_session_reserve(session, sequence, 1) ||
      hadal_rt_session_step(session, &token, &sequence, 1, 0, 0, 0) ||
      hadal_rt_sequence_append(session, sequence, &token, 1, 0) ||
      hadal_rt_sequence_truncate(session, sequence, 0) ||
      hadal_rt_sequence_free(session, sequence))
    fprintf(stderr, "%s: %s\n", hadal_rt_status_text(HADAL_RT_OK),
            hadal_rt_last_error());
  printf("%d %d\n", (int)hadal_rt_session_threads(session),
         (int)hadal_rt_session_free_pages(session));
  hadal_rt_session_free(session);
  hadal_rt_weights_close(weights);
  return 0;
}
