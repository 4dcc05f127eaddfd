// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads NumPy array files, versions 1.0 to 3.0 of the format.

#ifndef HADAL_TOOLS_HADAL_RUN_NPYREADER_H
#define HADAL_TOOLS_HADAL_RUN_NPYREADER_H

#include <cstdint>
#include <string>
#include <vector>

namespace hadal::run {

/// An array in row-major order.
struct NpyArray {
  std::string descr; ///< The type of an element, as NumPy has it: "<f4".
  std::vector<int64_t> shape;
  std::vector<char> data;
};

/// Reads \p path, an array of \p shape, whose elements are of type \p descr and
/// have \p elementBytes bytes. Nothing in the file is trusted. Returns what is
/// wrong with it, or nothing.
std::string readNpy(const std::string &path, const std::string &descr,
                    uint64_t elementBytes, const std::vector<int64_t> &shape,
                    NpyArray &array);

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_NPYREADER_H
