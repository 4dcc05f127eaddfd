// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where a page keeps what a compressed cache has of its tokens, and how
// attention over it is shared out.

#ifndef HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_COMPRESSEDLAYOUT_H
#define HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_COMPRESSEDLAYOUT_H

#include "dialects/DeepSeek/IR/DeepSeekOps.h"

#include <map>

namespace hadal {

/// A page of tokens of one sequence: the keys of all layers; then, for each
/// number of tokens to an entry and each layer that has it, the values, gates
/// and entries of its compressor, and likewise those of the index.
struct CompressedLayout {
  struct Shape {
    int64_t rows = 0, columns = 0;
  };
  /// Rows of f32 that each of several layers has.
  struct Place {
    /// Where in the page the first layer's part begins, how far apart those of
    /// two layers are, and where in it this is.
    int64_t base = 0, layerBytes = 0, offset = 0;
    Shape shape;
  };
  struct Compressor {
    Place values, gates, entries;
  };

  int64_t pageTokens = 0, dim = 0, indexDim = 0, overlapping = 0;
  int64_t pageBytes = 0;
  Place keys;
  /// By the tokens of an entry, and whether it is for the index.
  std::map<std::pair<int64_t, bool>, Compressor> compressors;

  static CompressedLayout get(deepseek::CompressedCacheType cache,
                              int64_t pageTokens);
  const Compressor &compressor(int64_t ratio, bool isIndex) const {
    return compressors.at({ratio, isIndex});
  }
};

/// How the heads of a row are shared out to work items.
struct CompressedAttentionPlan {
  /// Heads of an item, and groups of them. None: their scores do not fit on a
  /// kernel's stack.
  int64_t groupHeads = 0, groups = 0;
  int64_t window = 0, ratio = 0;
  /// Entries that are selected at most; 0: all are seen.
  int64_t selected = 0;
  /// Keys that a row sees at most, a multiple of 16.
  int64_t mostKeys = 0;

  static CompressedAttentionPlan get(int64_t heads, int64_t window,
                                     int64_t ratio, int64_t selected,
                                     int64_t context);
};

} // namespace hadal

#endif // HADAL_CODEGEN_CONVERSION_DEEPSEEKTORT_COMPRESSEDLAYOUT_H
