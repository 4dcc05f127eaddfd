// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A config.json without any tensors, which would contradict it.

#include "Model.h"

using namespace hadal::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static Folder folder;
  folder.write("config.json", {data, size});
  importAndCheck(folder.pathOf(""), /*weights=*/false);
  return 0;
}
