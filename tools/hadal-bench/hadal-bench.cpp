// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// hadal-bench OUT ...: measures an executable that hadalc made. The measuring
// is in the executable itself; this finds it and asks for it.

#include "../hadal-run/ElfFile.h"
#include "../hadal-run/Help.h"

#include <string>

using namespace hadal::run;

int main(int argc, char **argv) {
  std::string help =
      "usage: hadal-bench OUT -p 512 -n 128 -d 0,4096 -t 8\n\n"
      "Measures OUT, an executable made by hadalc --emit=exe: prefill and "
      "decode\n"
      "in tokens/s, bytes read a token, and their share of what the machine "
      "can read,\n"
      "measured in the same run. Defaults in parentheses.\n";
  help += benchHelp;
  return runProductTool(argc, argv, help.c_str(), /*mode=*/"--bench");
}
