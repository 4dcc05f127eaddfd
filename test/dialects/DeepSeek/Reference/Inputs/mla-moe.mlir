// A model of two layers with made-up weights: MLA with a query of low rank, one
// dense layer and one with experts that are chosen by noaux_tc.

#rotary = #deepseek.rotary<dim = 4, theta = 1.0e4 : f64, layout = interleaved, scaling = #deepseek.yarn_scaling<factor = 4.0e1 : f64, original = 32, beta_fast = 3.2e1 : f64, beta_slow = 1.0e0 : f64, attention_factor = 1.0e0 : f64, truncate = true>>
#routing = #deepseek.routing<scoring = sigmoid, method = noaux_tc, experts = 8, top_k = 3, groups = 4, top_groups = 2, normalize = true, scale = 2.5e0 : f64>
!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

deepseek.model @tiny vocab 24 hidden 16 layers 2 context 64 entry @forward {model_type = "deepseek_v3"}

deepseek.weight @embed : tensor<24x16xbf16> {
  %0 = deepseek.source "embed.weight" in [] at [] : tensor<24x16xbf16>
  deepseek.yield %0 : tensor<24x16xbf16>
}
deepseek.weight @norm : tensor<16xf32> {
  %0 = deepseek.source "norm.weight" in [] at [] : tensor<16xbf16>
  %1 = deepseek.convert %0 : tensor<16xbf16> to tensor<16xf32>
  deepseek.yield %1 : tensor<16xf32>
}
deepseek.weight @lm_head : tensor<24x16xbf16> {
  %0 = deepseek.source "lm_head.weight" in [] at [] : tensor<24x16xbf16>
  deepseek.yield %0 : tensor<24x16xbf16>
}
deepseek.weight @layers.0.input_norm : tensor<16xf32> {
  %0 = deepseek.source "layers.0.input_norm.weight" in [] at [] : tensor<16xbf16>
  %1 = deepseek.convert %0 : tensor<16xbf16> to tensor<16xf32>
  deepseek.yield %1 : tensor<16xf32>
}
deepseek.weight @layers.0.q_a : tensor<12x16xbf16> {
  %0 = deepseek.source "layers.0.q_a.weight" in [] at [] : tensor<12x16xbf16>
  deepseek.yield %0 : tensor<12x16xbf16>
}
deepseek.weight @layers.0.q_a_norm : tensor<12xf32> {
  %0 = deepseek.source "layers.0.q_a_norm.weight" in [] at [] : tensor<12xbf16>
  %1 = deepseek.convert %0 : tensor<12xbf16> to tensor<12xf32>
  deepseek.yield %1 : tensor<12xf32>
}
deepseek.weight @layers.0.q_b : tensor<20x12xbf16> {
  %0 = deepseek.source "layers.0.q_b.weight" in [] at [] : tensor<20x12xbf16>
  deepseek.yield %0 : tensor<20x12xbf16>
}
deepseek.weight @layers.0.kv_a : tensor<12x16xbf16> {
  %0 = deepseek.source "layers.0.kv_a.weight" in [] at [] : tensor<12x16xbf16>
  deepseek.yield %0 : tensor<12x16xbf16>
}
deepseek.weight @layers.0.kv_a_norm : tensor<8xf32> {
  %0 = deepseek.source "layers.0.kv_a_norm.weight" in [] at [] : tensor<8xbf16>
  %1 = deepseek.convert %0 : tensor<8xbf16> to tensor<8xf32>
  deepseek.yield %1 : tensor<8xf32>
}
deepseek.weight @layers.0.kv_b : tensor<22x8xbf16> {
  %0 = deepseek.source "layers.0.kv_b.weight" in [] at [] : tensor<22x8xbf16>
  deepseek.yield %0 : tensor<22x8xbf16>
}
deepseek.weight @layers.0.o : tensor<16x10xbf16> {
  %0 = deepseek.source "layers.0.o.weight" in [] at [] : tensor<16x10xbf16>
  deepseek.yield %0 : tensor<16x10xbf16>
}
deepseek.weight @layers.0.post_norm : tensor<16xf32> {
  %0 = deepseek.source "layers.0.post_norm.weight" in [] at [] : tensor<16xbf16>
  %1 = deepseek.convert %0 : tensor<16xbf16> to tensor<16xf32>
  deepseek.yield %1 : tensor<16xf32>
}
deepseek.weight @layers.1.input_norm : tensor<16xf32> {
  %0 = deepseek.source "layers.1.input_norm.weight" in [] at [] : tensor<16xbf16>
  %1 = deepseek.convert %0 : tensor<16xbf16> to tensor<16xf32>
  deepseek.yield %1 : tensor<16xf32>
}
deepseek.weight @layers.1.q_a : tensor<12x16xbf16> {
  %0 = deepseek.source "layers.1.q_a.weight" in [] at [] : tensor<12x16xbf16>
  deepseek.yield %0 : tensor<12x16xbf16>
}
deepseek.weight @layers.1.q_a_norm : tensor<12xf32> {
  %0 = deepseek.source "layers.1.q_a_norm.weight" in [] at [] : tensor<12xbf16>
  %1 = deepseek.convert %0 : tensor<12xbf16> to tensor<12xf32>
  deepseek.yield %1 : tensor<12xf32>
}
deepseek.weight @layers.1.q_b : tensor<20x12xbf16> {
  %0 = deepseek.source "layers.1.q_b.weight" in [] at [] : tensor<20x12xbf16>
  deepseek.yield %0 : tensor<20x12xbf16>
}
deepseek.weight @layers.1.kv_a : tensor<12x16xbf16> {
  %0 = deepseek.source "layers.1.kv_a.weight" in [] at [] : tensor<12x16xbf16>
  deepseek.yield %0 : tensor<12x16xbf16>
}
deepseek.weight @layers.1.kv_a_norm : tensor<8xf32> {
  %0 = deepseek.source "layers.1.kv_a_norm.weight" in [] at [] : tensor<8xbf16>
  %1 = deepseek.convert %0 : tensor<8xbf16> to tensor<8xf32>
  deepseek.yield %1 : tensor<8xf32>
}
deepseek.weight @layers.1.kv_b : tensor<22x8xbf16> {
  %0 = deepseek.source "layers.1.kv_b.weight" in [] at [] : tensor<22x8xbf16>
  deepseek.yield %0 : tensor<22x8xbf16>
}
deepseek.weight @layers.1.o : tensor<16x10xbf16> {
  %0 = deepseek.source "layers.1.o.weight" in [] at [] : tensor<16x10xbf16>
  deepseek.yield %0 : tensor<16x10xbf16>
}
deepseek.weight @layers.1.post_norm : tensor<16xf32> {
  %0 = deepseek.source "layers.1.post_norm.weight" in [] at [] : tensor<16xbf16>
  %1 = deepseek.convert %0 : tensor<16xbf16> to tensor<16xf32>
  deepseek.yield %1 : tensor<16xf32>
}
deepseek.weight @layers.0.gate : tensor<20x16xbf16> {
  %0 = deepseek.source "layers.0.gate.weight" in [] at [] : tensor<20x16xbf16>
  deepseek.yield %0 : tensor<20x16xbf16>
}
deepseek.weight @layers.0.up : tensor<20x16xbf16> {
  %0 = deepseek.source "layers.0.up.weight" in [] at [] : tensor<20x16xbf16>
  deepseek.yield %0 : tensor<20x16xbf16>
}
deepseek.weight @layers.0.down : tensor<16x20xbf16> {
  %0 = deepseek.source "layers.0.down.weight" in [] at [] : tensor<16x20xbf16>
  deepseek.yield %0 : tensor<16x20xbf16>
}
deepseek.weight @layers.1.router : tensor<8x16xbf16> {
  %0 = deepseek.source "layers.1.router.weight" in [] at [] : tensor<8x16xbf16>
  deepseek.yield %0 : tensor<8x16xbf16>
}
deepseek.weight @layers.1.bias : tensor<8xf32> {
  %0 = deepseek.source "layers.1.bias.weight" in [] at [] : tensor<8xf32>
  deepseek.yield %0 : tensor<8xf32>
}
deepseek.weight @layers.1.experts.gate : tensor<8x8x16xbf16> {
  %0 = deepseek.source "layers.1.experts.{}.gate.weight" in [] at [] : tensor<8x8x16xbf16>
  deepseek.yield %0 : tensor<8x8x16xbf16>
}
deepseek.weight @layers.1.experts.up : tensor<8x8x16xbf16> {
  %0 = deepseek.source "layers.1.experts.{}.up.weight" in [] at [] : tensor<8x8x16xbf16>
  deepseek.yield %0 : tensor<8x8x16xbf16>
}
deepseek.weight @layers.1.experts.down : tensor<8x16x8xbf16> {
  %0 = deepseek.source "layers.1.experts.{}.down.weight" in [] at [] : tensor<8x16x8xbf16>
  deepseek.yield %0 : tensor<8x16x8xbf16>
}
deepseek.weight @layers.1.shared.gate : tensor<8x16xbf16> {
  %0 = deepseek.source "layers.1.shared.gate.weight" in [] at [] : tensor<8x16xbf16>
  deepseek.yield %0 : tensor<8x16xbf16>
}
deepseek.weight @layers.1.shared.up : tensor<8x16xbf16> {
  %0 = deepseek.source "layers.1.shared.up.weight" in [] at [] : tensor<8x16xbf16>
  deepseek.yield %0 : tensor<8x16xbf16>
}
deepseek.weight @layers.1.shared.down : tensor<16x8xbf16> {
  %0 = deepseek.source "layers.1.shared.down.weight" in [] at [] : tensor<16x8xbf16>
  deepseek.yield %0 : tensor<16x8xbf16>
}

func.func private @attention(%x: tensor<?x16xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index,
    %input_norm: tensor<16xf32>, %q_a: tensor<12x16xbf16>, %q_a_norm: tensor<12xf32>, %q_b: tensor<20x12xbf16>,
    %kv_a: tensor<12x16xbf16>, %kv_a_norm: tensor<8xf32>, %kv_b: tensor<22x8xbf16>, %o: tensor<16x10xbf16>) -> tensor<?x16xf32> {
  %h = deepseek.rms_norm %x, %input_norm epsilon 1.0e-6 : tensor<?x16xf32>, tensor<16xf32>
  %qa = deepseek.linear %h, %q_a : tensor<?x16xf32>, tensor<12x16xbf16> -> tensor<?x12xf32>
  %qn = deepseek.rms_norm %qa, %q_a_norm epsilon 1.0e-6 : tensor<?x12xf32>, tensor<12xf32>
  %qb = deepseek.linear %qn, %q_b : tensor<?x12xf32>, tensor<20x12xbf16> -> tensor<?x20xf32>
  %query = deepseek.rotary %qb, %positions heads 2 by #rotary : tensor<?x20xf32>, tensor<?xi32>
  %kva = deepseek.linear %h, %kv_a : tensor<?x16xf32>, tensor<12x16xbf16> -> tensor<?x12xf32>
  %c:2 = deepseek.split %kva : tensor<?x12xf32> -> tensor<?x8xf32>, tensor<?x4xf32>
  %latent = deepseek.rms_norm %c#0, %kv_a_norm epsilon 1.0e-6 : tensor<?x8xf32>, tensor<8xf32>
  %rope_key = deepseek.rotary %c#1, %positions heads 1 by #rotary : tensor<?x4xf32>, tensor<?xi32>
  %a = deepseek.latent_attention %query, %latent, %rope_key, %kv_b at %positions of %sequences in %cache[%layer] heads 2 scale 4.3e-1 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  %p = deepseek.linear %a, %o : tensor<?x10xf32>, tensor<16x10xbf16> -> tensor<?x16xf32>
  %y = deepseek.add %x, %p : tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x24xf32> {
  %embed = deepseek.use_weight @embed : tensor<24x16xbf16>
  %x0 = deepseek.embed %tokens, %embed : tensor<?xi32>, tensor<24x16xbf16> -> tensor<?x16xf32>
  %l0_input_norm = deepseek.use_weight @layers.0.input_norm : tensor<16xf32>
  %l0_q_a = deepseek.use_weight @layers.0.q_a : tensor<12x16xbf16>
  %l0_q_a_norm = deepseek.use_weight @layers.0.q_a_norm : tensor<12xf32>
  %l0_q_b = deepseek.use_weight @layers.0.q_b : tensor<20x12xbf16>
  %l0_kv_a = deepseek.use_weight @layers.0.kv_a : tensor<12x16xbf16>
  %l0_kv_a_norm = deepseek.use_weight @layers.0.kv_a_norm : tensor<8xf32>
  %l0_kv_b = deepseek.use_weight @layers.0.kv_b : tensor<22x8xbf16>
  %l0_o = deepseek.use_weight @layers.0.o : tensor<16x10xbf16>
  %i0 = arith.constant 0 : index
  %a0 = call @attention(%x0, %positions, %sequences, %cache, %i0, %l0_input_norm, %l0_q_a, %l0_q_a_norm, %l0_q_b, %l0_kv_a, %l0_kv_a_norm, %l0_kv_b, %l0_o) : (tensor<?x16xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<16xf32>, tensor<12x16xbf16>, tensor<12xf32>, tensor<20x12xbf16>, tensor<12x16xbf16>, tensor<8xf32>, tensor<22x8xbf16>, tensor<16x10xbf16>) -> tensor<?x16xf32>
  %l0_post_norm = deepseek.use_weight @layers.0.post_norm : tensor<16xf32>
  %h0 = deepseek.rms_norm %a0, %l0_post_norm epsilon 1.0e-6 : tensor<?x16xf32>, tensor<16xf32>
  %l0_gate = deepseek.use_weight @layers.0.gate : tensor<20x16xbf16>
  %l0_up = deepseek.use_weight @layers.0.up : tensor<20x16xbf16>
  %l0_down = deepseek.use_weight @layers.0.down : tensor<16x20xbf16>
  %g0 = deepseek.linear %h0, %l0_gate : tensor<?x16xf32>, tensor<20x16xbf16> -> tensor<?x20xf32>
  %u0 = deepseek.linear %h0, %l0_up : tensor<?x16xf32>, tensor<20x16xbf16> -> tensor<?x20xf32>
  %s0 = deepseek.swiglu %g0, %u0 : tensor<?x20xf32>
  %d0 = deepseek.linear %s0, %l0_down : tensor<?x20xf32>, tensor<16x20xbf16> -> tensor<?x16xf32>
  %x1 = deepseek.add %a0, %d0 : tensor<?x16xf32>
  %l1_input_norm = deepseek.use_weight @layers.1.input_norm : tensor<16xf32>
  %l1_q_a = deepseek.use_weight @layers.1.q_a : tensor<12x16xbf16>
  %l1_q_a_norm = deepseek.use_weight @layers.1.q_a_norm : tensor<12xf32>
  %l1_q_b = deepseek.use_weight @layers.1.q_b : tensor<20x12xbf16>
  %l1_kv_a = deepseek.use_weight @layers.1.kv_a : tensor<12x16xbf16>
  %l1_kv_a_norm = deepseek.use_weight @layers.1.kv_a_norm : tensor<8xf32>
  %l1_kv_b = deepseek.use_weight @layers.1.kv_b : tensor<22x8xbf16>
  %l1_o = deepseek.use_weight @layers.1.o : tensor<16x10xbf16>
  %i1 = arith.constant 1 : index
  %a1 = call @attention(%x1, %positions, %sequences, %cache, %i1, %l1_input_norm, %l1_q_a, %l1_q_a_norm, %l1_q_b, %l1_kv_a, %l1_kv_a_norm, %l1_kv_b, %l1_o) : (tensor<?x16xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<16xf32>, tensor<12x16xbf16>, tensor<12xf32>, tensor<20x12xbf16>, tensor<12x16xbf16>, tensor<8xf32>, tensor<22x8xbf16>, tensor<16x10xbf16>) -> tensor<?x16xf32>
  %l1_post_norm = deepseek.use_weight @layers.1.post_norm : tensor<16xf32>
  %h1 = deepseek.rms_norm %a1, %l1_post_norm epsilon 1.0e-6 : tensor<?x16xf32>, tensor<16xf32>
  %l1_router = deepseek.use_weight @layers.1.router : tensor<8x16xbf16>
  %l1_bias = deepseek.use_weight @layers.1.bias : tensor<8xf32>
  %logits = deepseek.linear %h1, %l1_router : tensor<?x16xf32>, tensor<8x16xbf16> -> tensor<?x8xf32>
  %experts, %weights = deepseek.router %logits bias %l1_bias : tensor<8xf32> by #routing : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  %l1_experts_gate = deepseek.use_weight @layers.1.experts.gate : tensor<8x8x16xbf16>
  %l1_experts_up = deepseek.use_weight @layers.1.experts.up : tensor<8x8x16xbf16>
  %l1_experts_down = deepseek.use_weight @layers.1.experts.down : tensor<8x16x8xbf16>
  %routed = deepseek.experts %h1, %experts, %weights gate %l1_experts_gate up %l1_experts_up down %l1_experts_down : tensor<?x16xf32>, tensor<?x3xi32>, tensor<?x3xf32>, tensor<8x8x16xbf16>, tensor<8x8x16xbf16>, tensor<8x16x8xbf16> -> tensor<?x16xf32>
  %l1_shared_gate = deepseek.use_weight @layers.1.shared.gate : tensor<8x16xbf16>
  %l1_shared_up = deepseek.use_weight @layers.1.shared.up : tensor<8x16xbf16>
  %l1_shared_down = deepseek.use_weight @layers.1.shared.down : tensor<16x8xbf16>
  %g1 = deepseek.linear %h1, %l1_shared_gate : tensor<?x16xf32>, tensor<8x16xbf16> -> tensor<?x8xf32>
  %u1 = deepseek.linear %h1, %l1_shared_up : tensor<?x16xf32>, tensor<8x16xbf16> -> tensor<?x8xf32>
  %s1 = deepseek.swiglu %g1, %u1 : tensor<?x8xf32>
  %d1 = deepseek.linear %s1, %l1_shared_down : tensor<?x8xf32>, tensor<16x8xbf16> -> tensor<?x16xf32>
  %f1 = deepseek.add %routed, %d1 : tensor<?x16xf32>
  %x2 = deepseek.add %a1, %f1 : tensor<?x16xf32>
  %rows = deepseek.gather_rows %x2, %outputs : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %norm = deepseek.use_weight @norm : tensor<16xf32>
  %last = deepseek.rms_norm %rows, %norm epsilon 1.0e-6 : tensor<?x16xf32>, tensor<16xf32>
  %lm_head = deepseek.use_weight @lm_head : tensor<24x16xbf16>
  %result = deepseek.lm_head %last, %lm_head : tensor<?x16xf32>, tensor<24x16xbf16> -> tensor<?x24xf32>
  return %result : tensor<?x24xf32>
}
