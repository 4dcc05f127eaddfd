// What makes values is divided by what the attention's output is multiplied by; query heads that share a value share its scales.

// DEFINE: %{run} = -deepseek-run="tokens=3,1,4,1,5,9,2,6
// RUN: hadal-opt %s %{run} check=1e-12" -deepseek-scale-channels="bits=4 group-size=32" %{run} check=1e-12" 2>/dev/null | FileCheck %s
// RUN: sed -e 's/@statistics.o.moment/@statistics.x.moment/' %s | hadal-opt -deepseek-scale-channels="bits=4 group-size=32" 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// CHECK: deepseek.weight @v : tensor<32x64xbf16>
// CHECK: %[[FIRST:.+]] = deepseek.slice %{{.+}} axis 1 from 0 to 1 : tensor<2x2x16xf32> -> tensor<2x1x16xf32>
// CHECK: deepseek.transpose %{{.+}} [0, 2, 1, 3] : tensor<64x2x2x16xbf16> -> tensor<64x2x2x16xbf16>
// CHECK: deepseek.channel_scales of %{{.+}} by %{{.+}} bits 4 group 32 : (tensor<32xf32>, tensor<128x32xbf16>) -> tensor<32xf32>
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 0 power -1 : tensor<32x64xbf16>, tensor<32xf32>
// CHECK: deepseek.weight @v.bias : tensor<32xf32>
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 0 power -1 : tensor<32xf32>, tensor<32xf32>
// CHECK: deepseek.weight @o : tensor<64x64xbf16>
// CHECK: deepseek.concat %[[EACH:.+]], %[[EACH]] axis 1 : (tensor<2x1x16xf32>, tensor<2x1x16xf32>) -> tensor<2x2x16xf32>
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 1 power 1 : tensor<64x64xbf16>, tensor<64xf32>
// CHECK: deepseek.weight @statistics.o.moment : tensor<64xf32>
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 0 power -2 : tensor<64xf32>, tensor<64xf32>

// UNKNOWN: remark: keeps the scales of its channels: nothing says what they carry

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 16, value_dim = 16, element = f32>

deepseek.model @grouped vocab 24 hidden 64 layers 1 context 64 entry @forward {model_type = "llama"}

deepseek.weight @embed : tensor<24x64xbf16> {
  %0 = deepseek.source "embed" in [] at [] : tensor<24x64xbf16>
  deepseek.yield %0 : tensor<24x64xbf16>
}
deepseek.weight @q : tensor<64x64xbf16> {
  %0 = deepseek.source "q" in [] at [] : tensor<64x64xbf16>
  deepseek.yield %0 : tensor<64x64xbf16>
}
deepseek.weight @k : tensor<32x64xbf16> {
  %0 = deepseek.source "k" in [] at [] : tensor<32x64xbf16>
  deepseek.yield %0 : tensor<32x64xbf16>
}
deepseek.weight @v : tensor<32x64xbf16> {
  %0 = deepseek.source "v" in [] at [] : tensor<32x64xbf16>
  deepseek.yield %0 : tensor<32x64xbf16>
}
deepseek.weight @v.bias : tensor<32xf32> {
  %0 = deepseek.source "b" in [] at [] : tensor<32xf32>
  deepseek.yield %0 : tensor<32xf32>
}
deepseek.weight @o : tensor<64x64xbf16> {
  %0 = deepseek.source "o" in [] at [] : tensor<64x64xbf16>
  deepseek.yield %0 : tensor<64x64xbf16>
}
deepseek.weight @statistics.o.moment : tensor<64xf32> {
  %0 = deepseek.source "m" in [] at [] : tensor<64xf32>
  deepseek.yield %0 : tensor<64xf32>
}

func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x24xf32> {
  %embed = deepseek.use_weight @embed : tensor<24x64xbf16>
  %wq = deepseek.use_weight @q : tensor<64x64xbf16>
  %wk = deepseek.use_weight @k : tensor<32x64xbf16>
  %wv = deepseek.use_weight @v : tensor<32x64xbf16>
  %bv = deepseek.use_weight @v.bias : tensor<32xf32>
  %wo = deepseek.use_weight @o : tensor<64x64xbf16>
  %c0 = arith.constant 0 : index
  %x = deepseek.embed %tokens, %embed : tensor<?xi32>, tensor<24x64xbf16> -> tensor<?x64xf32>
  %q = deepseek.linear %x, %wq : tensor<?x64xf32>, tensor<64x64xbf16> -> tensor<?x64xf32>
  %k = deepseek.linear %x, %wk : tensor<?x64xf32>, tensor<32x64xbf16> -> tensor<?x32xf32>
  %v = deepseek.linear %x, %wv bias %bv : tensor<32xf32> : tensor<?x64xf32>, tensor<32x64xbf16> -> tensor<?x32xf32>
  %a = deepseek.attention %q, %k, %v at %positions of %sequences in %cache[%c0] heads 4 scale 2.5e-1 : tensor<?x64xf32>, tensor<?x32xf32>, tensor<?x32xf32>, tensor<?xi32>, !cache -> tensor<?x64xf32>
  %o = deepseek.linear %a, %wo : tensor<?x64xf32>, tensor<64x64xbf16> -> tensor<?x64xf32>
  %y = deepseek.add %x, %o : tensor<?x64xf32>
  %rows = deepseek.gather_rows %y, %outputs : tensor<?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  %result = deepseek.lm_head %rows, %embed : tensor<?x64xf32>, tensor<24x64xbf16> -> tensor<?x24xf32>
  return %result : tensor<?x24xf32>
}
