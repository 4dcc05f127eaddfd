
// An adapter of the keys and values of dense.mlir.
deepseek.weight @kv.lora_a : tensor<3x32xf16> {
  %0 = deepseek.source "kv.lora_A.weight" in [] at [] : tensor<3x32xf16>
  deepseek.yield %0 : tensor<3x32xf16>
}
deepseek.weight @kv.lora_b : tensor<32x3xf32> {
  %0 = deepseek.source "kv.lora_B.weight" in [] at [] : tensor<32x3xf32>
  deepseek.yield %0 : tensor<32x3xf32>
}
deepseek.lora @kv down @kv.lora_a up @kv.lora_b scale 1.500000e+00
