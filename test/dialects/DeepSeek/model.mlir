// A whole model in the dialect: one layer function, called once a layer.

// RUN: hadal-opt %s | hadal-opt | FileCheck %s

#rotary = #deepseek.rotary<dim = 8, theta = 1.0e4 : f64, layout = half_split>
!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 8, element = f32>

// CHECK: deepseek.model @tiny vocab 40 hidden 32 layers 2 context 64 entry @forward
deepseek.model @tiny vocab 40 hidden 32 layers 2 context 64 entry @forward
    {model_type = "llama"}

deepseek.weight @embed_tokens : tensor<40x32xbf16> {
  %0 = deepseek.source "model.embed_tokens.weight" in ["model.safetensors"] at [0] : tensor<40x32xbf16>
  deepseek.yield %0 : tensor<40x32xbf16>
}
deepseek.weight @lm_head : tensor<40x32xbf16> {
  %0 = deepseek.source "lm_head.weight" in ["model.safetensors"] at [2560] : tensor<40x32xbf16>
  deepseek.yield %0 : tensor<40x32xbf16>
}
deepseek.weight @norm : tensor<32xf32> {
  %0 = deepseek.source "model.norm.weight" in ["model.safetensors"] at [5120] : tensor<32xbf16>
  %1 = deepseek.convert %0 : tensor<32xbf16> to tensor<32xf32>
  deepseek.yield %1 : tensor<32xf32>
}
deepseek.weight @layers.0.self_attn.q_proj : tensor<32x32xbf16> {
  %0 = deepseek.source "model.layers.0.self_attn.q_proj.weight" in ["model.safetensors"] at [8192] : tensor<32x32xbf16>
  deepseek.yield %0 : tensor<32x32xbf16>
}
deepseek.weight @layers.0.self_attn.k_proj : tensor<16x32xbf16> {
  %0 = deepseek.source "model.layers.0.self_attn.k_proj.weight" in ["model.safetensors"] at [16384] : tensor<16x32xbf16>
  deepseek.yield %0 : tensor<16x32xbf16>
}

// CHECK: func.func private @layer
func.func private @layer(%x: tensor<?x32xf32>, %positions: tensor<?xi32>,
    %sequences: tensor<?xi32>, %cache: !cache, %layer: index,
    %norm: tensor<32xf32>, %q_proj: tensor<32x32xbf16>,
    %k_proj: tensor<16x32xbf16>) -> tensor<?x32xf32> {
  %h = deepseek.rms_norm %x, %norm epsilon 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %q = deepseek.linear %h, %q_proj : tensor<?x32xf32>, tensor<32x32xbf16> -> tensor<?x32xf32>
  %k = deepseek.linear %h, %k_proj : tensor<?x32xf32>, tensor<16x32xbf16> -> tensor<?x16xf32>
  %qr = deepseek.rotary %q, %positions heads 4 by #rotary : tensor<?x32xf32>, tensor<?xi32>
  %kr = deepseek.rotary %k, %positions heads 2 by #rotary : tensor<?x16xf32>, tensor<?xi32>
  %a = deepseek.attention %qr, %kr, %k at %positions of %sequences in %cache[%layer] heads 4 scale 3.5e-1
      : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, !cache -> tensor<?x32xf32>
  %y = deepseek.add %x, %a : tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// CHECK: func.func @forward
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>,
    %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache)
    -> tensor<?x40xf32> {
  %embed_tokens = deepseek.use_weight @embed_tokens : tensor<40x32xbf16>
  %norm = deepseek.use_weight @norm : tensor<32xf32>
  %q = deepseek.use_weight @layers.0.self_attn.q_proj : tensor<32x32xbf16>
  %k = deepseek.use_weight @layers.0.self_attn.k_proj : tensor<16x32xbf16>
  %0 = deepseek.embed %tokens, %embed_tokens : tensor<?xi32>, tensor<40x32xbf16> -> tensor<?x32xf32>
  %l0 = arith.constant 0 : index
  %1 = call @layer(%0, %positions, %sequences, %cache, %l0, %norm, %q, %k)
      : (tensor<?x32xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<32xf32>, tensor<32x32xbf16>, tensor<16x32xbf16>) -> tensor<?x32xf32>
  %2 = deepseek.gather_rows %1, %outputs : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %3 = deepseek.rms_norm %2, %norm epsilon 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %lm_head = deepseek.use_weight @lm_head : tensor<40x32xbf16>
  %4 = deepseek.lm_head %3, %lm_head : tensor<?x32xf32>, tensor<40x32xbf16> -> tensor<?x40xf32>
  return %4 : tensor<?x40xf32>
}
