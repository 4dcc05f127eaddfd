// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Files that appear whole or not at all, and bounded reads of untrusted ones.

#include "lib/Support/FileIO.h"

#include "lib/Support/InputRecorder.h"

#include "llvm/ADT/Twine.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace hadal;

AtomicFile::~AtomicFile() {
  if (descriptor >= 0)
    ::close(descriptor);
  if (!temporary.empty())
    ::unlink(temporary.c_str());
}

bool AtomicFile::fail(const char *action, std::string &error) {
  error = ("cannot " + llvm::Twine(action) + " '" + destination +
           "': " + std::strerror(errno))
              .str();
  return false;
}

bool AtomicFile::open(llvm::StringRef path, std::string &error) {
  destination = path.str();
  struct stat info;
  bool exists = ::stat(destination.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) {
    errno = EISDIR;
    return fail("write", error);
  }
  // To rename over /dev/null would take it from everyone.
  if (exists && !S_ISREG(info.st_mode)) {
    error =
        ("cannot write '" + llvm::Twine(destination) + "': not a regular file")
            .str();
    return false;
  }
  temporary = destination + ".tmp.XXXXXX";
  descriptor = ::mkstemp(temporary.data());
  if (descriptor < 0) {
    temporary.clear();
    return fail("create", error);
  }
  return true;
}

bool AtomicFile::write(const void *data, uint64_t bytes, std::string &error) {
  if (!writeAt(sizeBytes, data, bytes, error))
    return false;
  sizeBytes += bytes;
  return true;
}

bool AtomicFile::writeAt(uint64_t offset, const void *data, uint64_t bytes,
                         std::string &error) {
  const char *from = static_cast<const char *>(data);
  while (bytes) {
    ssize_t written = ::pwrite(descriptor, from, bytes, off_t(offset));
    if (written < 0) {
      if (errno == EINTR)
        continue;
      return fail("write", error);
    }
    from += written;
    offset += uint64_t(written);
    bytes -= uint64_t(written);
  }
  return true;
}

bool AtomicFile::pad(uint64_t alignment, std::string &error) {
  static const char zeros[4096] = {};
  uint64_t missing = (alignment - sizeBytes % alignment) % alignment;
  while (missing) {
    uint64_t now = missing < sizeof(zeros) ? missing : sizeof(zeros);
    if (!write(zeros, now, error))
      return false;
    missing -= now;
  }
  return true;
}

bool AtomicFile::commit(std::string &error, unsigned mode) {
  // mkstemp made the file private; it gets the mode that open would give it.
  mode_t mask = ::umask(0);
  ::umask(mask);
  if (::fchmod(descriptor, mode & ~mask) != 0)
    return fail("set the mode of", error);
  int closing = ::close(descriptor);
  descriptor = -1;
  if (closing != 0)
    return fail("close", error);
  if (::rename(temporary.c_str(), destination.c_str()) != 0)
    return fail("rename", error);
  temporary.clear();
  return true;
}

InputFile::~InputFile() {
  if (descriptor >= 0)
    ::close(descriptor);
}

bool InputFile::open(llvm::StringRef path, std::string &error) {
  name = path.str();
  // Without waiting for the other end of a pipe, which is refused below.
  descriptor = ::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info;
  if (descriptor < 0 || ::fstat(descriptor, &info) != 0) {
    error = ("cannot open '" + llvm::Twine(name) + "': " + std::strerror(errno))
                .str();
    return false;
  }
  if (!S_ISREG(info.st_mode)) {
    error = ("'" + llvm::Twine(name) + "' is not a regular file").str();
    return false;
  }
  sizeBytes = uint64_t(info.st_size);
  InputRecorder::note(name);
  return true;
}

bool InputFile::read(uint64_t offset, void *data, uint64_t bytes,
                     std::string &error) const {
  if (offset > sizeBytes || bytes > sizeBytes - offset) {
    error = ("'" + llvm::Twine(name) + "' has " + llvm::Twine(sizeBytes) +
             " bytes, but bytes " + llvm::Twine(offset) + " to " +
             llvm::Twine(offset + bytes) + " are needed")
                .str();
    return false;
  }
  char *to = static_cast<char *>(data);
  while (bytes) {
    ssize_t got = ::pread(descriptor, to, bytes, off_t(offset));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0) {
      error = ("cannot read '" + llvm::Twine(name) + "' at byte " +
               llvm::Twine(offset) + ": " +
               (got < 0 ? std::strerror(errno) : "the file got shorter"))
                  .str();
      return false;
    }
    to += got;
    offset += uint64_t(got);
    bytes -= uint64_t(got);
  }
  return true;
}
