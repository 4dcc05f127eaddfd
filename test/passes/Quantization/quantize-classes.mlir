// A product's class comes from where it stands; routers and what is named by no scheme stay.

// RUN: hadal-opt %s -deepseek-quantize="scheme=attention=int8" | grep "deepseek.weight @.*xi[48]>" | FileCheck %s --check-prefix=ATTENTION --implicit-check-not=@
// RUN: hadal-opt %s -deepseek-quantize="scheme=ffn=int8-g32" | grep "deepseek.weight @.*xi[48]>" | FileCheck %s --check-prefix=FFN --implicit-check-not=@
// RUN: hadal-opt %s -deepseek-quantize="scheme=shared=int4-g64" | grep "deepseek.weight @.*xi[48]>" | FileCheck %s --check-prefix=SHARED --implicit-check-not=@
// RUN: hadal-opt %s -deepseek-quantize="scheme=experts=int4-g32" | grep "deepseek.weight @.*xi[48]>" | FileCheck %s --check-prefix=EXPERTS --implicit-check-not=@
// RUN: hadal-opt %s -deepseek-quantize="scheme=head=int8-g64" | grep "deepseek.weight @.*xi[48]>" | FileCheck %s --check-prefix=HEAD --implicit-check-not=@
// RUN: hadal-opt %s -deepseek-quantize="scheme=mixed,attention=none,shared=int8-g32" | grep "deepseek.weight @.*\(scales\|xi[48]>\)" | FileCheck %s --check-prefix=MIXED
// RUN: hadal-opt %s -deepseek-quantize="scheme=int4-g64" | grep "deepseek.weight @.*\(scales\|xi[48]>\)" | FileCheck %s --check-prefix=INT4

// ATTENTION: @w.q : tensor<128x128xi8>
// ATTENTION: @w.kv : tensor<256x128xi8>
// ATTENTION: @w.o : tensor<128x128xi8>

// FFN: @w.gate : tensor<128x128xi8>
// FFN: @w.up : tensor<128x128xi8>
// FFN: @w.down : tensor<128x128xi8>

// SHARED: @w.shared_gate_up : tensor<256x128xi4>
// SHARED: @w.shared_down : tensor<128x128xi4>

// EXPERTS: @w.experts : tensor<2x128x128xi4>

// HEAD: @w.head : tensor<40x128xi8>

// MIXED-NOT: @w.q
// MIXED: @w.gate : tensor<128x128xi8>
// MIXED: @w.gate.scales : tensor<128x1xf16>
// MIXED-NOT: @w.router
// MIXED: @w.experts : tensor<2x128x128xi4>
// MIXED: @w.experts.scales : tensor<2x128x4xf16>
// MIXED: @w.shared_gate_up : tensor<256x128xi8>
// MIXED: @w.shared_gate_up.scales : tensor<256x4xf16>
// MIXED: @w.head : tensor<40x128xi8>
// MIXED: @w.head.scales : tensor<40x1xf16>

// INT4: @w.q : tensor<128x128xi4>
// INT4: @w.q.scales : tensor<128x2xf16>
// INT4: @w.experts : tensor<2x128x128xi4>
// INT4: @w.experts.scales : tensor<2x128x2xf16>
// INT4: @w.head : tensor<40x128xi8>
// INT4: @w.head.scales : tensor<40x1xf16>

#routing = #deepseek.routing<scoring = softmax, method = greedy, experts = 2, top_k = 1, groups = 1, top_groups = 1, normalize = false, scale = 1.0e0 : f64>
#rotary = #deepseek.rotary<dim = 64, theta = 1.0e4 : f64, layout = half_split>
!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 64, value_dim = 64, element = f32>

deepseek.weight @w.q : tensor<128x128xbf16> {
  %0 = deepseek.source "q" in [] at [] : tensor<128x128xbf16>
  deepseek.yield %0 : tensor<128x128xbf16>
}
deepseek.weight @w.kv : tensor<256x128xbf16> {
  %0 = deepseek.source "kv" in [] at [] : tensor<256x128xbf16>
  deepseek.yield %0 : tensor<256x128xbf16>
}
deepseek.weight @w.o : tensor<128x128xbf16> {
  %0 = deepseek.source "o" in [] at [] : tensor<128x128xbf16>
  deepseek.yield %0 : tensor<128x128xbf16>
}
deepseek.weight @w.gate : tensor<128x128xbf16> {
  %0 = deepseek.source "gate" in [] at [] : tensor<128x128xbf16>
  deepseek.yield %0 : tensor<128x128xbf16>
}
deepseek.weight @w.up : tensor<128x128xbf16> {
  %0 = deepseek.source "up" in [] at [] : tensor<128x128xbf16>
  deepseek.yield %0 : tensor<128x128xbf16>
}
deepseek.weight @w.down : tensor<128x128xbf16> {
  %0 = deepseek.source "down" in [] at [] : tensor<128x128xbf16>
  deepseek.yield %0 : tensor<128x128xbf16>
}
deepseek.weight @w.router : tensor<2x128xbf16> {
  %0 = deepseek.source "router" in [] at [] : tensor<2x128xbf16>
  deepseek.yield %0 : tensor<2x128xbf16>
}
deepseek.weight @w.experts : tensor<2x128x128xbf16> {
  %0 = deepseek.source "experts.{}" in [] at [] : tensor<2x128x128xbf16>
  deepseek.yield %0 : tensor<2x128x128xbf16>
}
deepseek.weight @w.shared_gate_up : tensor<256x128xbf16> {
  %0 = deepseek.source "shared_gate_up" in [] at [] : tensor<256x128xbf16>
  deepseek.yield %0 : tensor<256x128xbf16>
}
deepseek.weight @w.shared_down : tensor<128x128xbf16> {
  %0 = deepseek.source "shared_down" in [] at [] : tensor<128x128xbf16>
  deepseek.yield %0 : tensor<128x128xbf16>
}
deepseek.weight @w.head : tensor<40x128xbf16> {
  %0 = deepseek.source "head" in [] at [] : tensor<40x128xbf16>
  deepseek.yield %0 : tensor<40x128xbf16>
}

func.func @layer(%x: tensor<?x128xf32>, %norm: tensor<128xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x40xf32> {
  %q = deepseek.use_weight @w.q : tensor<128x128xbf16>
  %kv = deepseek.use_weight @w.kv : tensor<256x128xbf16>
  %o = deepseek.use_weight @w.o : tensor<128x128xbf16>
  %gate = deepseek.use_weight @w.gate : tensor<128x128xbf16>
  %up = deepseek.use_weight @w.up : tensor<128x128xbf16>
  %down = deepseek.use_weight @w.down : tensor<128x128xbf16>
  %router = deepseek.use_weight @w.router : tensor<2x128xbf16>
  %experts = deepseek.use_weight @w.experts : tensor<2x128x128xbf16>
  %shared_gate_up = deepseek.use_weight @w.shared_gate_up : tensor<256x128xbf16>
  %shared_down = deepseek.use_weight @w.shared_down : tensor<128x128xbf16>
  %head = deepseek.use_weight @w.head : tensor<40x128xbf16>
  %h0 = deepseek.rms_norm %x, %norm epsilon 1.0e-6 : tensor<?x128xf32>, tensor<128xf32>
  %q0 = deepseek.linear %h0, %q : tensor<?x128xf32>, tensor<128x128xbf16> -> tensor<?x128xf32>
  %q1 = deepseek.rotary %q0, %positions heads 2 by #rotary : tensor<?x128xf32>, tensor<?xi32>
  %kv0 = deepseek.linear %h0, %kv : tensor<?x128xf32>, tensor<256x128xbf16> -> tensor<?x256xf32>
  %k, %v = deepseek.split %kv0 : tensor<?x256xf32> -> tensor<?x128xf32>, tensor<?x128xf32>
  %a = deepseek.attention %q1, %k, %v at %positions of %sequences in %cache[%layer] heads 2 scale 1.25e-1 : tensor<?x128xf32>, tensor<?x128xf32>, tensor<?x128xf32>, tensor<?xi32>, !cache -> tensor<?x128xf32>
  %o0 = deepseek.linear %a, %o : tensor<?x128xf32>, tensor<128x128xbf16> -> tensor<?x128xf32>
  %x1 = deepseek.add %x, %o0 : tensor<?x128xf32>

  %h1 = deepseek.rms_norm %x1, %norm epsilon 1.0e-6 : tensor<?x128xf32>, tensor<128xf32>
  %g1 = deepseek.linear %h1, %gate : tensor<?x128xf32>, tensor<128x128xbf16> -> tensor<?x128xf32>
  %u1 = deepseek.linear %h1, %up : tensor<?x128xf32>, tensor<128x128xbf16> -> tensor<?x128xf32>
  %s1 = deepseek.swiglu %g1, %u1 : tensor<?x128xf32>
  %d1 = deepseek.linear %s1, %down : tensor<?x128xf32>, tensor<128x128xbf16> -> tensor<?x128xf32>
  %x2 = deepseek.add %x1, %d1 : tensor<?x128xf32>

  %h2 = deepseek.rms_norm %x2, %norm epsilon 1.0e-6 : tensor<?x128xf32>, tensor<128xf32>
  %logits = deepseek.linear %h2, %router : tensor<?x128xf32>, tensor<2x128xbf16> -> tensor<?x2xf32>
  %e, %w = deepseek.router %logits by #routing : tensor<?x2xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  %f2 = deepseek.experts %h2, %e, %w gate %experts up %experts down %experts : tensor<?x128xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<2x128x128xbf16>, tensor<2x128x128xbf16>, tensor<2x128x128xbf16> -> tensor<?x128xf32>
  %gu2 = deepseek.linear %h2, %shared_gate_up : tensor<?x128xf32>, tensor<256x128xbf16> -> tensor<?x256xf32>
  %g2, %u2 = deepseek.split %gu2 : tensor<?x256xf32> -> tensor<?x128xf32>, tensor<?x128xf32>
  %s2 = deepseek.swiglu %g2, %u2 : tensor<?x128xf32>
  %d2 = deepseek.linear %s2, %shared_down : tensor<?x128xf32>, tensor<128x128xbf16> -> tensor<?x128xf32>
  %m2 = deepseek.add %f2, %d2 : tensor<?x128xf32>
  %x3 = deepseek.add %x2, %m2 : tensor<?x128xf32>

  %y = deepseek.lm_head %x3, %head : tensor<?x128xf32>, tensor<40x128xbf16> -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}
