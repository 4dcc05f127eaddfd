// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// hadal-run OUT ...: runs an executable that hadalc made with the options that
// follow, once it is sure that it is one.

#include "ElfFile.h"

using namespace hadal::run;

static const char help[] =
    "usage: hadal-run OUT --chat \"Why is the sky blue?\" -n 200\n"
    "\n"
    "Runs OUT, an executable made by hadalc --emit=exe, with the options that\n"
    "follow; `hadal-run OUT --help` lists them. A file that is not such an\n"
    "executable is refused, not run.\n";

int main(int argc, char **argv) {
  return runProductTool(argc, argv, help, /*mode=*/nullptr);
}
