// Of heads of queries that share keys as many go as of each other group: those that add the least, and keys stay. The
// columns of the output that heads 1 and 2 of four are read by are zero here, so that nothing is lost without them.

// DEFINE: %{run} = -deepseek-run="tokens=3,1,4,1,5,9,2,6
// RUN: hadal-opt %s %{run} check=1e-12" -deepseek-prune-heads="amount=50%" %{run} check=1e-12" 2>/dev/null | FileCheck %s
// RUN: hadal-opt %s -deepseek-prune-heads="amount=2" 2>&1 | FileCheck %s --check-prefix=REMARK
// RUN: not hadal-opt %s -deepseek-prune-heads="amount=1" 2>&1 | FileCheck %s --check-prefix=MULTIPLE
// RUN: not hadal-opt %s -deepseek-prune-heads="amount=4" 2>&1 | FileCheck %s --check-prefix=MULTIPLE
// RUN: not hadal-opt %s -deepseek-prune-heads="amount=10%" 2>&1 | FileCheck %s --check-prefix=MULTIPLE
// RUN: not hadal-opt %s -deepseek-prune-heads="amount=2" -deepseek-prune-heads="amount=1" 2>&1 | FileCheck %s --check-prefix=ONE

// CHECK: deepseek.weight @q : tensor<16x32xf16>
// CHECK: %[[VIEW:.+]] = deepseek.reshape %{{.+}} : tensor<32x32xf16> -> tensor<4x8x32xf16>
// CHECK: %[[I:.+]] = deepseek.importance %{{.+}} group 8 : tensor<32x32xf32> -> tensor<4xf32>
// CHECK: deepseek.select %[[VIEW]] by %[[I]] axis 0 keep 2 groups 2
// CHECK: deepseek.weight @q_bias : tensor<16xf32>
// CHECK: deepseek.weight @kv : tensor<32x32xf32>
// CHECK: deepseek.weight @o : tensor<32x16xf32>
// CHECK: deepseek.rotary %{{.+}}, %{{.+}} heads 2 by
// CHECK: deepseek.rotary %{{.+}}, %{{.+}} heads 2 by
// CHECK: deepseek.attention {{.+}} heads 2 scale

// REMARK: judges heads by their weights alone
// MULTIPLE: expects to take out a multiple of 2 heads, as many of each that reads the same keys, up to 2 of 4, but got
// ONE: expects several heads of queries for one of keys, to take some away, but there are 2 of both

#rotary = #deepseek.rotary<dim = 8, theta = 1.0e4 : f64, layout = half_split>
!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @tiny vocab 24 hidden 32 layers 1 context 64 entry @forward {model_type = "qwen2"}

deepseek.weight @embed : tensor<24x32xbf16> {
  %0 = deepseek.source "embed" in [] at [] : tensor<24x32xbf16>
  deepseek.yield %0 : tensor<24x32xbf16>
}
deepseek.weight @head : tensor<24x32xbf16> {
  %0 = deepseek.source "head" in [] at [] : tensor<24x32xbf16>
  deepseek.yield %0 : tensor<24x32xbf16>
}
deepseek.weight @q : tensor<32x32xf16> {
  %0 = deepseek.source "q" in [] at [] : tensor<32x32xf16>
  deepseek.yield %0 : tensor<32x32xf16>
}
deepseek.weight @q_bias : tensor<32xf32> {
  %0 = deepseek.source "q.bias" in [] at [] : tensor<32xf32>
  deepseek.yield %0 : tensor<32xf32>
}
deepseek.weight @kv : tensor<32x32xf32> {
  %0 = deepseek.source "kv" in [] at [] : tensor<32x32xf32>
  deepseek.yield %0 : tensor<32x32xf32>
}
deepseek.weight @o : tensor<32x32xf32> {
  %0 = deepseek.source "o" in [] at [] : tensor<32x16xf32>
  %1 = deepseek.slice %0 axis 1 from 0 to 8 : tensor<32x16xf32> -> tensor<32x8xf32>
  %2 = deepseek.slice %0 axis 1 from 8 to 16 : tensor<32x16xf32> -> tensor<32x8xf32>
  %c = deepseek.source "codes" in [] at [] : tensor<32x16xi8>
  %zero = deepseek.dequantize %c, %0 zeros %c : tensor<32x16xi8> block 1 x 1 : tensor<32x16xi8>, tensor<32x16xf32> -> tensor<32x16xf32>
  %3 = deepseek.concat %1, %zero, %2 axis 1 : (tensor<32x8xf32>, tensor<32x16xf32>, tensor<32x8xf32>) -> tensor<32x32xf32>
  deepseek.yield %3 : tensor<32x32xf32>
}

func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x24xf32> {
  %embed = deepseek.use_weight @embed : tensor<24x32xbf16>
  %head = deepseek.use_weight @head : tensor<24x32xbf16>
  %q_proj = deepseek.use_weight @q : tensor<32x32xf16>
  %q_bias = deepseek.use_weight @q_bias : tensor<32xf32>
  %kv_proj = deepseek.use_weight @kv : tensor<32x32xf32>
  %o_proj = deepseek.use_weight @o : tensor<32x32xf32>
  %layer = arith.constant 0 : index
  %x = deepseek.embed %tokens, %embed : tensor<?xi32>, tensor<24x32xbf16> -> tensor<?x32xf32>
  %q = deepseek.linear %x, %q_proj bias %q_bias : tensor<32xf32> : tensor<?x32xf32>, tensor<32x32xf16> -> tensor<?x32xf32>
  %kv = deepseek.linear %x, %kv_proj : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %k, %v = deepseek.split %kv : tensor<?x32xf32> -> tensor<?x16xf32>, tensor<?x16xf32>
  %qr = deepseek.rotary %q, %positions heads 4 by #rotary : tensor<?x32xf32>, tensor<?xi32>
  %kr = deepseek.rotary %k, %positions heads 2 by #rotary : tensor<?x16xf32>, tensor<?xi32>
  %a = deepseek.attention %qr, %kr, %v at %positions of %sequences in %cache[%layer] heads 4 scale 3.5e-1 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, !cache -> tensor<?x32xf32>
  %o = deepseek.linear %a, %o_proj : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %y = deepseek.add %x, %o : tensor<?x32xf32>
  %rows = deepseek.gather_rows %y, %outputs : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %result = deepseek.lm_head %rows, %head : tensor<?x32xf32>, tensor<24x32xbf16> -> tensor<?x24xf32>
  return %result : tensor<?x24xf32>
}
