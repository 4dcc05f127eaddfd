// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the runtime builds for. HADAL_RT_BARE: a machine with a C library but
// no system, so without threads, files and pages. -DHADAL_RT_BARE asks for it
// elsewhere.

#ifndef HADAL_RT_SRC_PLATFORM_H
#define HADAL_RT_SRC_PLATFORM_H

#if !defined(HADAL_RT_BARE) && !defined(__unix__) && !defined(__APPLE__)
#define HADAL_RT_BARE 1
#endif

#endif // HADAL_RT_SRC_PLATFORM_H
