// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// hadal-bench OUT ...: measures an executable that hadalc made. The measuring
// is in the executable itself; this finds it and asks for it.

#include "../hadal-run/ElfFile.h"
#include "../hadal-run/Report.h"

#include <cstdio>
#include <cstring>
#include <vector>

using namespace hadal::run;

static const char help[] =
    "usage: hadal-bench OUT -p 512 -n 128 -d 0,4096 -t 8\n"
    "\n"
    "Measures OUT, an executable made by hadalc --emit=exe: prefill and "
    "decode\n"
    "in tokens/s, bytes read a token, and their share of what the machine can\n"
    "read, measured in the same run. `hadal-bench OUT --help` lists the "
    "options.\n";

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
  char benchOption[] = "--bench";
  std::vector<char *> arguments = {argv[1], benchOption};
  arguments.insert(arguments.end(), argv + 2, argv + argc);
  arguments.push_back(nullptr);
  return executeProduct(arguments.data());
}
