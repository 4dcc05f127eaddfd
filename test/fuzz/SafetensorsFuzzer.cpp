// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The header of a safetensors file, and the shapes in it against those that the
// configuration of a small model asks for.

#include "Model.h"

using namespace hadal::fuzz;

// The model "llama" of make_cases.py, whose header is a seed.
static const char config[] = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "vocab_size": 509, "hidden_size": 64, "intermediate_size": 176,
  "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
  "hidden_act": "silu", "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
  "rope_scaling": null, "attention_bias": false,
  "max_position_embeddings": 4096, "tie_word_embeddings": false,
  "torch_dtype": "bfloat16"})";

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static Folder folder;
  static bool isReady = false;
  if (!isReady) {
    llvm::StringRef text(config);
    folder.write("config.json", {text.bytes_begin(), text.size()});
    isReady = true;
  }
  auto [bytes, zeros] = splitZeros({data, size});
  folder.write("model.safetensors", bytes, zeros);
  importAndCheck(folder.pathOf(""), /*weights=*/true);
  return 0;
}
