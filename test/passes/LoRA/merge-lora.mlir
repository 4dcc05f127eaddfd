// RUN: hadal-opt %s -deepseek-merge-lora -verify-diagnostics | FileCheck %s

// What an adapter adds becomes the last step of the recipe, and what held it goes.

// CHECK-LABEL: deepseek.weight @w : tensor<8x6xf32>
//       CHECK: %[[W:.+]] = deepseek.convert
//  CHECK-NEXT: %[[A:.+]] = deepseek.source "w.lora_A.weight"
//  CHECK-NEXT: %[[B:.+]] = deepseek.source "w.lora_B.weight"
//  CHECK-NEXT: %[[R:.+]] = deepseek.add_product %[[W]], %[[B]], %[[A]] scale 1.500000e+00 : tensor<8x6xf32>, tensor<8x2xf16>, tensor<2x6xf32>
//  CHECK-NEXT: deepseek.yield %[[R]]
deepseek.weight @w : tensor<8x6xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<8x6xbf16>
  %1 = deepseek.convert %0 : tensor<8x6xbf16> to tensor<8x6xf32>
  deepseek.yield %1 : tensor<8x6xf32>
}
// CHECK-NOT: @w.lora
deepseek.weight @w.lora_a : tensor<2x6xf32> {
  %0 = deepseek.source "w.lora_A.weight" in [] at [] : tensor<2x6xf32>
  deepseek.yield %0 : tensor<2x6xf32>
}
deepseek.weight @w.lora_b : tensor<8x2xf16> {
  %0 = deepseek.source "w.lora_B.weight" in [] at [] : tensor<8x2xf16>
  deepseek.yield %0 : tensor<8x2xf16>
}
deepseek.lora @w down @w.lora_a up @w.lora_b scale 1.500000e+00

// A stack of experts has a product for each; a type that rounds stays, with a remark.

// CHECK-LABEL: deepseek.weight @experts : tensor<3x4x6xbf16>
//       CHECK: deepseek.add_product %{{.+}}, %{{.+}}, %{{.+}} scale -2.500000e-01 : tensor<3x4x6xbf16>, tensor<3x4x1xf32>, tensor<3x1x6xf32>
// expected-remark @below {{'experts' and 0 like it are rounded to 'bf16' after an adapter was merged}}
deepseek.weight @experts : tensor<3x4x6xbf16> {
  %0 = deepseek.source "experts.{}" in [] at [] : tensor<3x4x6xbf16>
  deepseek.yield %0 : tensor<3x4x6xbf16>
}
deepseek.weight @a : tensor<3x1x6xf32> {
  %0 = deepseek.source "experts.{}.a" in [] at [] : tensor<3x1x6xf32>
  deepseek.yield %0 : tensor<3x1x6xf32>
}
deepseek.weight @b : tensor<3x4x1xf32> {
  %0 = deepseek.source "experts.{}.b" in [] at [] : tensor<3x4x1xf32>
  deepseek.yield %0 : tensor<3x4x1xf32>
}
// CHECK-NOT: deepseek.lora
deepseek.lora @experts down @a up @b scale -2.500000e-01
