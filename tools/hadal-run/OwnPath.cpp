// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "OwnPath.h"

#include <cerrno>
#include <climits>
#include <cstring>
#include <unistd.h>

using namespace hadal;
using namespace hadal::run;

ExitCode run::findOwnPath(std::string &path) {
  char self[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", self, sizeof(self));
  if (length <= 0)
    return reportError(BadInput,
                       "cannot find this program through /proc/self/exe: %s; "
                       "name its weights with --weights",
                       strerror(errno));
  path.assign(self, size_t(length));
  return Done;
}
