// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes NumPy array files, version 1.0 of the format.

#ifndef HADAL_TOOLS_HADAL_RUN_NPYWRITER_H
#define HADAL_TOOLS_HADAL_RUN_NPYWRITER_H

#include <cstdint>
#include <cstdio>
#include <string>

namespace hadal::run {

/// Writes a float32 matrix row by row to a temporary file, which takes the
/// name of the result when all is written: a reader never sees half a file.
class NpyWriter {
public:
  NpyWriter() = default;
  ~NpyWriter();
  NpyWriter(const NpyWriter &) = delete;
  NpyWriter &operator=(const NpyWriter &) = delete;

  /// Begins a file for [rows, columns]. False, with errno set, on an error;
  /// so are the others.
  bool open(const std::string &path, int64_t rows, int64_t columns);
  bool append(const float *values, int64_t count);
  bool commit();

private:
  std::string path;
  std::string temporaryPath;
  FILE *file = nullptr;
};

} // namespace hadal::run

#endif // HADAL_TOOLS_HADAL_RUN_NPYWRITER_H
