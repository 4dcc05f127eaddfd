// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Files that appear whole or not at all, and bounded reads of untrusted ones.

#ifndef HADAL_SUPPORT_FILEIO_H
#define HADAL_SUPPORT_FILEIO_H

#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <memory>
#include <string>

namespace hadal {

/// A file that is written under a temporary name beside its destination and
/// renamed when complete. Destroyed without `commit`, it leaves nothing.
class AtomicFile {
public:
  AtomicFile() = default;
  AtomicFile(const AtomicFile &) = delete;
  AtomicFile &operator=(const AtomicFile &) = delete;
  ~AtomicFile();

  /// Creates the temporary file. On failure returns false and sets `error` to
  /// one line that names the file and the cause.
  bool open(llvm::StringRef destination, std::string &error);
  /// Writes \p bytes at the current end.
  bool write(const void *data, uint64_t bytes, std::string &error);
  /// Writes zeros up to a multiple of \p alignment.
  bool pad(uint64_t alignment, std::string &error);
  /// Overwrites \p bytes at \p offset.
  bool writeAt(uint64_t offset, const void *data, uint64_t bytes,
               std::string &error);
  /// Sets the mode (for example 0755), flushes, and renames into place.
  bool commit(std::string &error, unsigned mode = 0644);

  uint64_t size() const { return sizeBytes; }
  /// Name of the temporary file, for a tool that writes it itself.
  const std::string &temporaryPath() const { return temporary; }

private:
  bool fail(const char *action, std::string &error);

  std::string destination;
  std::string temporary;
  int descriptor = -1;
  uint64_t sizeBytes = 0;
};

/// An open file of known size that is read by offset (pread), never mapped, so
/// that reading a large one does not count as resident memory.
class InputFile {
public:
  InputFile() = default;
  InputFile(const InputFile &) = delete;
  InputFile &operator=(const InputFile &) = delete;
  ~InputFile();

  /// Opens a regular file. On failure returns false and sets `error`.
  bool open(llvm::StringRef path, std::string &error);
  /// Reads exactly \p bytes at \p offset; out of bounds is an error.
  bool read(uint64_t offset, void *data, uint64_t bytes,
            std::string &error) const;

  uint64_t size() const { return sizeBytes; }
  const std::string &path() const { return name; }

private:
  std::string name;
  int descriptor = -1;
  uint64_t sizeBytes = 0;
};

} // namespace hadal

#endif // HADAL_SUPPORT_FILEIO_H
