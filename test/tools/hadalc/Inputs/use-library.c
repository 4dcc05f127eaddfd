// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Links a library of hadalc and its runtime, from C and from C++.

#include "my-model.h"

#include "hadal_rt/hadal_rt.h"

#include <stdio.h>

int main(void) {
  hadal_rt_status_t status = hadal_rt_model_check(&my_model_model);
  printf("%s %d %s\n", my_model_model.name, (int)MY_MODEL_VOCAB,
         status == HADAL_RT_OK ? "ok" : hadal_rt_last_error());
  return 0;
}
