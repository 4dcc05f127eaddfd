// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// An ONNX file: its message or its text, its graph, and the places of tensors
// in the file of external data beside it, all of which are zero.

#include "Model.h"

using namespace hadal::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static Folder folder;
  auto [bytes, zeros] = splitZeros({data, size});
  // No message starts with the end of a group.
  bool isText = !bytes.empty() && bytes.front() == '<';
  const char *name = isText ? "model.onnxtext" : "model.onnx";
  folder.write(name, bytes);
  folder.write("model.onnx.data", {}, zeros);
  importAndCheck(folder.pathOf(name), /*weights=*/true);
  return 0;
}
