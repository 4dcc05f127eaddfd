// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The header of a GGUF file: keys, tokenizer, shapes of tensors.

#include "Model.h"

using namespace hadal::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static Folder folder;
  auto [bytes, zeros] = splitZeros({data, size});
  folder.write("model.gguf", bytes, zeros);
  importAndCheck(folder.pathOf("model.gguf"), /*weights=*/true);
  return 0;
}
