// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The header of a weights file, alone and at the end of an executable. The
// model is the one that the header names, so that the sections are reached.

#include "Model.h"

#include "hadal_rt/hadal_rt.h"

#include <cstring>

using namespace hadal::fuzz;

static void touch(hadal_rt_weights_t *weights) {
  for (const char *name : {"weights", "manifest", "tokenizer.json", ""}) {
    const void *data = nullptr;
    uint64_t bytes = 0;
    if (hadal_rt_weights_section(weights, name, &data, &bytes) != HADAL_RT_OK)
      continue;
    volatile uint8_t sink = 0;
    if (bytes) {
      sink = static_cast<const uint8_t *>(data)[0];
      sink = static_cast<const uint8_t *>(data)[bytes - 1];
    }
    (void)sink;
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static Folder folder;
  auto [bytes, zeros] = splitZeros({data, size});
  folder.write("a.weights", bytes, zeros);

  hadal_rt_model_t model = {};
  model.abi_version = HADAL_RT_ABI_VERSION;
  model.name = "fuzzed";
  model.manifest = "{}";
  model.vocab = model.hidden = model.layers = model.context = 16;
  model.page_tokens = 16;
  model.page_bytes = model.arena_bytes_per_token = 64;
  model.step = [](const hadal_rt_step_t *) {};
  // The format of one section is checked by all, its contents by nobody, so
  // what the header says of it decides which model this is.
  hadal_rt_weights_header_t header = {};
  std::memcpy(&header, bytes.data(), std::min(bytes.size(), sizeof(header)));
  std::memcpy(model.layout_hash, header.layout_hash, sizeof(model.layout_hash));
  for (const hadal_rt_section_t &section : header.sections)
    if (!std::strncmp(section.name, "weights", sizeof(section.name)))
      model.weights_bytes = int64_t(section.bytes);

  std::string path = folder.pathOf("a.weights");
  hadal_rt_weights_t *weights = nullptr;
  if (hadal_rt_weights_open(&model, path.c_str(), &weights) == HADAL_RT_OK) {
    touch(weights);
    hadal_rt_weights_close(weights);
  }
  if (hadal_rt_weights_open_embedded(&model, path.c_str(), &weights) ==
      HADAL_RT_OK) {
    touch(weights);
    hadal_rt_weights_close(weights);
  }
  return 0;
}
