// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// hadal-run OUT ...: runs an executable that hadalc made with the options that
// follow, once it is sure that it is one.

#include "ElfFile.h"
#include "Help.h"

#include <string>

using namespace hadal::run;

int main(int argc, char **argv) {
  std::string help =
      "usage: hadal-run OUT --chat \"Why is the sky blue?\" -n 200\n\n"
      "Runs OUT, an executable made by hadalc --emit=exe. Another file is "
      "refused,\n"
      "not run. One of:\n";
  help += runHelp;
  return runProductTool(argc, argv, help.c_str(), /*mode=*/nullptr);
}
