// By value: experts 2 and 3 are 0 and 1 with their channels in another order, so that two experts do what four did. One
// in place of two that differ does not.

// DEFINE: %{run} = -deepseek-run="tokens=3,1,4,1,5,9,2,6
// RUN: hadal-opt %s %{run} check=1e-12" -deepseek-merge-experts="count=2" %{run} check=1e-12" 2>/dev/null | FileCheck %s
// RUN: hadal-opt %s %{run} check=1" -deepseek-merge-experts="count=1" %{run} check=1" 2>/dev/null | FileCheck %s --check-prefix=ONE
// RUN: not hadal-opt %s %{run} check=1e-2" -deepseek-merge-experts="count=1" %{run} check=1e-2"

// CHECK: deepseek.router %{{.+}} map %{{.+}} : tensor<4xi32> by
// ONE: deepseek.experts {{.+}} tensor<1x32x64xbf16>

#routing = #deepseek.routing<scoring = softmax, method = greedy, experts = 4, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0e0 : f64>
!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 1, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @moe vocab 24 hidden 64 layers 1 context 64 entry @forward {model_type = "deepseek"}

deepseek.weight @embed : tensor<24x64xbf16> {
  %0 = deepseek.source "embed" in [] at [] : tensor<24x64xbf16>
  deepseek.yield %0 : tensor<24x64xbf16>
}
deepseek.weight @head : tensor<24x64xf32> {
  %0 = deepseek.source "head" in [] at [] : tensor<24x64xf32>
  deepseek.yield %0 : tensor<24x64xf32>
}
deepseek.weight @norm : tensor<64xf32> {
  %0 = deepseek.source "norm" in [] at [] : tensor<64xf32>
  deepseek.yield %0 : tensor<64xf32>
}
deepseek.weight @router : tensor<4x64xbf16> {
  %0 = deepseek.source "router" in [] at [] : tensor<4x64xbf16>
  deepseek.yield %0 : tensor<4x64xbf16>
}
deepseek.weight @experts.gate : tensor<4x32x64xbf16> {
  %0 = deepseek.source "experts.{}.gate" in [] at [] : tensor<2x32x64xbf16>
  %1 = deepseek.slice %0 axis 1 from 16 to 32 : tensor<2x32x64xbf16> -> tensor<2x16x64xbf16>
  %2 = deepseek.slice %0 axis 1 from 0 to 16 : tensor<2x32x64xbf16> -> tensor<2x16x64xbf16>
  %3 = deepseek.concat %1, %2 axis 1 : (tensor<2x16x64xbf16>, tensor<2x16x64xbf16>) -> tensor<2x32x64xbf16>
  %4 = deepseek.concat %0, %3 axis 0 : (tensor<2x32x64xbf16>, tensor<2x32x64xbf16>) -> tensor<4x32x64xbf16>
  deepseek.yield %4 : tensor<4x32x64xbf16>
}
deepseek.weight @experts.up : tensor<4x32x64xbf16> {
  %0 = deepseek.source "experts.{}.up" in [] at [] : tensor<2x32x64xbf16>
  %1 = deepseek.slice %0 axis 1 from 16 to 32 : tensor<2x32x64xbf16> -> tensor<2x16x64xbf16>
  %2 = deepseek.slice %0 axis 1 from 0 to 16 : tensor<2x32x64xbf16> -> tensor<2x16x64xbf16>
  %3 = deepseek.concat %1, %2 axis 1 : (tensor<2x16x64xbf16>, tensor<2x16x64xbf16>) -> tensor<2x32x64xbf16>
  %4 = deepseek.concat %0, %3 axis 0 : (tensor<2x32x64xbf16>, tensor<2x32x64xbf16>) -> tensor<4x32x64xbf16>
  deepseek.yield %4 : tensor<4x32x64xbf16>
}
deepseek.weight @experts.down : tensor<4x64x32xbf16> {
  %0 = deepseek.source "experts.{}.down" in [] at [] : tensor<2x64x32xbf16>
  %1 = deepseek.slice %0 axis 2 from 16 to 32 : tensor<2x64x32xbf16> -> tensor<2x64x16xbf16>
  %2 = deepseek.slice %0 axis 2 from 0 to 16 : tensor<2x64x32xbf16> -> tensor<2x64x16xbf16>
  %3 = deepseek.concat %1, %2 axis 2 : (tensor<2x64x16xbf16>, tensor<2x64x16xbf16>) -> tensor<2x64x32xbf16>
  %4 = deepseek.concat %0, %3 axis 0 : (tensor<2x64x32xbf16>, tensor<2x64x32xbf16>) -> tensor<4x64x32xbf16>
  deepseek.yield %4 : tensor<4x64x32xbf16>
}
deepseek.weight @gate_up : tensor<64x64xf16> {
  %0 = deepseek.source "gate_up" in [] at [] : tensor<64x64xf16>
  deepseek.yield %0 : tensor<64x64xf16>
}
deepseek.weight @down : tensor<64x32xf16> {
  %0 = deepseek.source "down" in [] at [] : tensor<64x32xf16>
  deepseek.yield %0 : tensor<64x32xf16>
}

func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x24xf32> {
  %embed = deepseek.use_weight @embed : tensor<24x64xbf16>
  %head = deepseek.use_weight @head : tensor<24x64xf32>
  %norm = deepseek.use_weight @norm : tensor<64xf32>
  %router = deepseek.use_weight @router : tensor<4x64xbf16>
  %gate = deepseek.use_weight @experts.gate : tensor<4x32x64xbf16>
  %up = deepseek.use_weight @experts.up : tensor<4x32x64xbf16>
  %down = deepseek.use_weight @experts.down : tensor<4x64x32xbf16>
  %shared_gate_up = deepseek.use_weight @gate_up : tensor<64x64xf16>
  %shared_down = deepseek.use_weight @down : tensor<64x32xf16>
  %x = deepseek.embed %tokens, %embed : tensor<?xi32>, tensor<24x64xbf16> -> tensor<?x64xf32>
  %h = deepseek.rms_norm %x, %norm epsilon 1.0e-6 : tensor<?x64xf32>, tensor<64xf32>
  %logits = deepseek.linear %h, %router : tensor<?x64xf32>, tensor<4x64xbf16> -> tensor<?x4xf32>
  %e, %w = deepseek.router %logits by #routing : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %routed = deepseek.experts %h, %e, %w gate %gate up %up down %down : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<4x32x64xbf16>, tensor<4x32x64xbf16>, tensor<4x64x32xbf16> -> tensor<?x64xf32>
  %gu = deepseek.linear %h, %shared_gate_up : tensor<?x64xf32>, tensor<64x64xf16> -> tensor<?x64xf32>
  %g, %u = deepseek.split %gu : tensor<?x64xf32> -> tensor<?x32xf32>, tensor<?x32xf32>
  %s = deepseek.swiglu %g, %u : tensor<?x32xf32>
  %d = deepseek.linear %s, %shared_down : tensor<?x32xf32>, tensor<64x32xf16> -> tensor<?x64xf32>
  %f = deepseek.add %routed, %d : tensor<?x64xf32>
  %y = deepseek.add %x, %f : tensor<?x64xf32>
  %rows = deepseek.gather_rows %y, %outputs : tensor<?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  %last = deepseek.rms_norm %rows, %norm epsilon 1.0e-6 : tensor<?x64xf32>, tensor<64xf32>
  %result = deepseek.lm_head %last, %head : tensor<?x64xf32>, tensor<24x64xf32> -> tensor<?x24xf32>
  return %result : tensor<?x24xf32>
}
