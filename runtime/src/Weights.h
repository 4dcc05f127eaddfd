// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// An open weights file, as the session sees it.

#ifndef HADAL_RT_SRC_WEIGHTS_H
#define HADAL_RT_SRC_WEIGHTS_H

#include "hadal_rt/hadal_rt.h"

struct hadal_rt_weights {
  const hadal_rt_model_t *model;
  void *mapping; ///< Null when the weights were in memory.
  uint64_t mappingBytes;
  const uint8_t *file;    ///< The header, within the mapping.
  const uint8_t *weights; ///< Section "weights".
  /// A checked copy: what is in the file may change under the mapping.
  hadal_rt_weights_header_t header;
};

namespace hadal_rt {

/// Checks what weights and sessions need to know of a model before they use
/// any other field of it. Not the processor.
hadal_rt_status_t checkModel(const hadal_rt_model_t *model);

} // namespace hadal_rt

#endif // HADAL_RT_SRC_WEIGHTS_H
