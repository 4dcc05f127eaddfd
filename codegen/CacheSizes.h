// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which caches code is made for.

#ifndef HADAL_CODEGEN_CACHESIZES_H
#define HADAL_CODEGEN_CACHESIZES_H

#include <cstdint>

namespace hadal {

/// Bytes of the caches of a core: the first-level one for data, and its share
/// of the second. Sizes of tiles follow from them, and no bit of a result. What
/// stands here is the least that any 64-bit processor with vectors of 256 bits
/// has.
struct CacheSizes {
  int64_t l1Bytes = 32 << 10, l2Bytes = 256 << 10;
};

} // namespace hadal

#endif // HADAL_CODEGEN_CACHESIZES_H
