// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// hadal-run OUT ...: runs an executable that hadalc made with the options that
// follow, once it is sure that it is one.

#include "ElfFile.h"
#include "Report.h"

#include <cstdio>
#include <cstring>

using namespace hadal::run;

static const char help[] =
    "usage: hadal-run OUT --chat \"Why is the sky blue?\" -n 200\n"
    "\n"
    "Runs OUT, an executable made by hadalc --emit=exe, with the options that\n"
    "follow; `hadal-run OUT --help` lists them. A file that is not such an\n"
    "executable is refused, not run.\n";

int main(int argc, char **argv) {
  setProgramName(argc ? argv[0] : nullptr);
  if (argc < 2)
    return reportUsage("expected an executable made by hadalc");
  if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
    fputs(help, stdout);
    return Done;
  }
  if (argv[1][0] == '-')
    return reportUsage("expected the executable first, but got '%.60s'",
                       argv[1]);
  return executeProduct(argv + 1);
}
