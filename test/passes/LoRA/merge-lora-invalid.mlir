// RUN: hadal-opt %s -deepseek-merge-lora -verify-diagnostics

// A weight in tiles is not where its numbers are added to.

deepseek.weight @w : tensor<16x8xf32, #deepseek.tiled<rows = 16>> {
  %0 = deepseek.source "w" in [] at [] : tensor<16x8xf32>
  %1 = deepseek.pack %0 : tensor<16x8xf32> to tensor<16x8xf32, #deepseek.tiled<rows = 16>>
  deepseek.yield %1 : tensor<16x8xf32, #deepseek.tiled<rows = 16>>
}
deepseek.weight @a : tensor<2x8xf32> {
  %0 = deepseek.source "a" in [] at [] : tensor<2x8xf32>
  deepseek.yield %0 : tensor<2x8xf32>
}
deepseek.weight @b : tensor<16x2xf32> {
  %0 = deepseek.source "b" in [] at [] : tensor<16x2xf32>
  deepseek.yield %0 : tensor<16x2xf32>
}
// expected-error @below {{'deepseek.lora' op expects a weight without a layout to merge into, but got 'tensor<16x8xf32, #deepseek.tiled<rows = 16>>'}}
deepseek.lora @w down @a up @b scale 1.0
