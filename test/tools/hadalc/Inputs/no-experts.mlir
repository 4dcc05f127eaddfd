// A model of two layers with made-up weights: grouped-query attention with
// biases, and a gated network in FP8.

#rotary = #deepseek.rotary<dim = 8, theta = 1.0e4 : f64, layout = half_split>
!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @tiny vocab 24 hidden 32 layers 2 context 64 entry @forward {model_type = "qwen2"}

deepseek.weight @embed : tensor<24x32xbf16> {
  %0 = deepseek.source "embed" in [] at [] : tensor<24x32xbf16>
  deepseek.yield %0 : tensor<24x32xbf16>
}
deepseek.weight @norm : tensor<32xf32> {
  %0 = deepseek.source "norm" in [] at [] : tensor<32xbf16>
  %1 = deepseek.convert %0 : tensor<32xbf16> to tensor<32xf32>
  deepseek.yield %1 : tensor<32xf32>
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
  %0 = deepseek.source "k" in [] at [] : tensor<16x32xf32>
  %1 = deepseek.source "v" in [] at [] : tensor<16x32xf32>
  %2 = deepseek.concat %0, %1 axis 0 : (tensor<16x32xf32>, tensor<16x32xf32>) -> tensor<32x32xf32>
  deepseek.yield %2 : tensor<32x32xf32>
}
deepseek.weight @gate : tensor<160x32xf8E4M3FN> {
  %0 = deepseek.source "gate" in [] at [] : tensor<160x32xf8E4M3FN>
  deepseek.yield %0 : tensor<160x32xf8E4M3FN>
}
deepseek.weight @gate_scales : tensor<2x1xf32> {
  %0 = deepseek.source "gate.scales" in [] at [] : tensor<2x1xf32>
  deepseek.yield %0 : tensor<2x1xf32>
}
deepseek.weight @down : tensor<32x160xbf16> {
  %0 = deepseek.source "down" in [] at [] : tensor<32x160xbf16>
  deepseek.yield %0 : tensor<32x160xbf16>
}

func.func private @layer(%x: tensor<?x32xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index, %norm: tensor<32xf32>, %q_proj: tensor<32x32xf16>, %q_bias: tensor<32xf32>, %kv_proj: tensor<32x32xf32>, %gate: tensor<160x32xf8E4M3FN>, %gate_scales: tensor<2x1xf32>, %down: tensor<32x160xbf16>) -> tensor<?x32xf32> {
  %h = deepseek.rms_norm %x, %norm epsilon 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %q = deepseek.linear %h, %q_proj bias %q_bias : tensor<32xf32> : tensor<?x32xf32>, tensor<32x32xf16> -> tensor<?x32xf32>
  %kv = deepseek.linear %h, %kv_proj : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %k, %v = deepseek.split %kv : tensor<?x32xf32> -> tensor<?x16xf32>, tensor<?x16xf32>
  %qr = deepseek.rotary %q, %positions heads 4 by #rotary : tensor<?x32xf32>, tensor<?xi32>
  %kr = deepseek.rotary %k, %positions heads 2 by #rotary : tensor<?x16xf32>, tensor<?xi32>
  %a = deepseek.attention %qr, %kr, %v at %positions of %sequences in %cache[%layer] heads 4 scale 3.5e-1 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, !cache -> tensor<?x32xf32>
  %b = deepseek.add %x, %a : tensor<?x32xf32>
  %g = deepseek.linear %b, %gate scales %gate_scales : tensor<2x1xf32> : tensor<?x32xf32>, tensor<160x32xf8E4M3FN> -> tensor<?x160xf32>
  %s = deepseek.swiglu %g, %g : tensor<?x160xf32>
  %d = deepseek.linear %s, %down : tensor<?x160xf32>, tensor<32x160xbf16> -> tensor<?x32xf32>
  %y = deepseek.add %b, %d : tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x24xf32> {
  %embed = deepseek.use_weight @embed : tensor<24x32xbf16>
  %norm = deepseek.use_weight @norm : tensor<32xf32>
  %q = deepseek.use_weight @q : tensor<32x32xf16>
  %q_bias = deepseek.use_weight @q_bias : tensor<32xf32>
  %kv = deepseek.use_weight @kv : tensor<32x32xf32>
  %gate = deepseek.use_weight @gate : tensor<160x32xf8E4M3FN>
  %gate_scales = deepseek.use_weight @gate_scales : tensor<2x1xf32>
  %down = deepseek.use_weight @down : tensor<32x160xbf16>
  %0 = deepseek.embed %tokens, %embed : tensor<?xi32>, tensor<24x32xbf16> -> tensor<?x32xf32>
  %i0 = arith.constant 0 : index
  %1 = call @layer(%0, %positions, %sequences, %cache, %i0, %norm, %q, %q_bias, %kv, %gate, %gate_scales, %down) : (tensor<?x32xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<32xf32>, tensor<32x32xf16>, tensor<32xf32>, tensor<32x32xf32>, tensor<160x32xf8E4M3FN>, tensor<2x1xf32>, tensor<32x160xbf16>) -> tensor<?x32xf32>
  %i1 = arith.constant 1 : index
  %2 = call @layer(%1, %positions, %sequences, %cache, %i1, %norm, %q, %q_bias, %kv, %gate, %gate_scales, %down) : (tensor<?x32xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<32xf32>, tensor<32x32xf16>, tensor<32xf32>, tensor<32x32xf32>, tensor<160x32xf8E4M3FN>, tensor<2x1xf32>, tensor<32x160xbf16>) -> tensor<?x32xf32>
  %3 = deepseek.gather_rows %2, %outputs : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %4 = deepseek.rms_norm %3, %norm epsilon 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %5 = deepseek.lm_head %4, %embed : tensor<?x32xf32>, tensor<24x32xbf16> -> tensor<?x24xf32>
  return %5 : tensor<?x24xf32>
}
