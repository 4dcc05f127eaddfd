// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes NumPy array files, version 1.0 of the format.

#ifndef HADAL_TOOLS_HADAL_RUN_NPYWRITER_H
#define HADAL_TOOLS_HADAL_RUN_NPYWRITER_H

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace hadal::run {

/// Writes an array piece by piece to a temporary file, which takes the name of
/// the result when all is written: a reader never sees half a file.
class NpyWriter {
public:
  NpyWriter() = default;
  ~NpyWriter();
  NpyWriter(const NpyWriter &) = delete;
  NpyWriter &operator=(const NpyWriter &) = delete;

  /// Begins a file for an array of \p shape, whose elements are of type
  /// \p descr, as NumPy has it: "<f4". False, with errno set, on an error; so
  /// are the others.
  bool open(const std::string &path, const std::string &descr,
            const std::vector<int64_t> &shape);
  bool append(const void *data, size_t bytes);
  bool commit();

private:
  std::string path;
  std::string temporaryPath;
  FILE *file = nullptr;
};

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_NPYWRITER_H
