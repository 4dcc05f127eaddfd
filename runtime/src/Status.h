// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How the runtime reports: a code for the program, one line for the person.

#ifndef HADAL_RT_SRC_STATUS_H
#define HADAL_RT_SRC_STATUS_H

#include "hadal_rt/hadal_rt.h"

namespace hadal_rt {

/// Keeps the formatted line for hadal_rt_last_error() and returns \p status.
/// Lines longer than the buffer are cut.
__attribute__((format(printf, 2, 3))) hadal_rt_status_t
fail(hadal_rt_status_t status, const char *format, ...);

} // namespace hadal_rt

#endif // HADAL_RT_SRC_STATUS_H
