// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes NumPy array files, version 1.0 of the format
// (numpy/lib/format.py). All targets of Hadal are little-endian.

#include "NpyWriter.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace hadal::run;

NpyWriter::~NpyWriter() {
  if (!file)
    return;
  fclose(file);
  unlink(temporaryPath.c_str());
}

bool NpyWriter::open(const std::string &name, const std::string &descr,
                     const std::vector<int64_t> &shape) {
  // A file is put in place of it at the end, which no device is to be.
  struct stat status;
  if (!stat(name.c_str(), &status) && !S_ISREG(status.st_mode)) {
    errno = S_ISDIR(status.st_mode) ? EISDIR : ENOTSUP;
    return false;
  }
  path = name;
  temporaryPath = name + ".tmp." + std::to_string(getpid());
  int descriptor = ::open(temporaryPath.c_str(),
                          O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0)
    return false;
  file = fdopen(descriptor, "w");
  if (!file) {
    int error = errno;
    close(descriptor);
    unlink(temporaryPath.c_str());
    errno = error;
    return false;
  }
  std::string header =
      "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (";
  for (size_t i = 0; i < shape.size(); ++i)
    header += (i ? ", " : "") + std::to_string(shape[i]);
  header += shape.size() == 1 ? ",), }" : "), }";
  // With the 10 bytes before it and a newline, a multiple of 64.
  header.append(63 - (header.size() + 10) % 64, ' ');
  header += '\n';
  const char prefix[] = {'\x93',
                         'N',
                         'U',
                         'M',
                         'P',
                         'Y',
                         1,
                         0,
                         char(header.size() & 255),
                         char(header.size() >> 8)};
  return fwrite(prefix, sizeof(prefix), 1, file) == 1 &&
         fwrite(header.data(), header.size(), 1, file) == 1;
}

bool NpyWriter::append(const void *data, size_t bytes) {
  return fwrite(data, 1, bytes, file) == bytes;
}

bool NpyWriter::commit() {
  bool good = !fclose(file);
  file = nullptr;
  if (good && !rename(temporaryPath.c_str(), path.c_str()))
    return true;
  int error = errno;
  unlink(temporaryPath.c_str());
  errno = error;
  return false;
}
