// Scales move from what products read into their weights, by statistics, and nothing changes: 1e-12 is the rounding of f64.

// DEFINE: %{run} = -deepseek-run="tokens=3,1,4,1,5,9,2,6
// RUN: hadal-opt %s %{run} check=1e-12" -deepseek-scale-channels="bits=4 group-size=32" %{run} check=1e-12" 2>%t | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK < %t
// RUN: hadal-opt %s %{run} check=1e-12" -deepseek-scale-channels="strength=0.5" %{run} check=1e-12" 2>/dev/null | FileCheck %s --check-prefix=SMOOTH
// RUN: hadal-opt %s -deepseek-scale-channels="bits=4 group-size=32" -deepseek-quantize="scheme=int4-g32 method=awq" 2>/dev/null | FileCheck %s --check-prefix=ROUNDED
// RUN: not hadal-opt %s -deepseek-scale-channels="bits=7" 2>&1 | FileCheck %s --check-prefix=BITS
// RUN: not hadal-opt %s -deepseek-scale-channels="strength=1.5" 2>&1 | FileCheck %s --check-prefix=STRENGTH

// The norm is divided by what all that read it are multiplied by; the router, which is not rounded, does not decide.
// CHECK: deepseek.weight @norm : tensor<64xf32>
// CHECK: %[[S:.+]] = deepseek.channel_scales of %{{.+}}, %{{.+}}, %{{.+}}, %{{.+}} by %{{.+}} bits 4 group 32 : (tensor<64xf32>, tensor<4x32x64xbf16>, tensor<4x32x64xbf16>, tensor<96x64xf16>, tensor<96x64xf32>) -> tensor<64xf32>
// CHECK: deepseek.scale_channels %{{.+}} by %[[S]] axis 0 power -1 : tensor<64xf32>, tensor<64xf32> -> tensor<64xf32>
// CHECK: deepseek.weight @router : tensor<4x64xbf16>
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 1 power 1 : tensor<4x64xbf16>, tensor<64xf32> -> tensor<4x64xbf16>
// CHECK: deepseek.weight @experts.gate : tensor<4x32x64xbf16>
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 2 power 1 : tensor<4x32x64xbf16>, tensor<64xf32>
// CHECK: deepseek.weight @experts.up : tensor<4x32x64xbf16>
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 2 power 1
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 1 power -1 : tensor<4x32x64xbf16>, tensor<4x32xf32>
// CHECK: deepseek.weight @experts.down : tensor<4x64x32xbf16>
// CHECK: deepseek.channel_scales of %{{.+}} by %{{.+}} bits 4 group 32 : (tensor<4x32xf32>, tensor<4x64x32xbf16>) -> tensor<4x32xf32>
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 2 power 1 : tensor<4x64x32xbf16>, tensor<4x32xf32>
// Numbers of f16 may have fewer digits when they are scaled.
// CHECK: deepseek.weight @gate : tensor<96x64xf32>
// CHECK: deepseek.weight @up : tensor<96x64xf32>
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 0 power -1 : tensor<96x64xf32>, tensor<96xf32>
// CHECK: deepseek.weight @down : tensor<64x96xf32>
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 1 power 1 : tensor<64x96xf32>, tensor<96xf32>
// CHECK: deepseek.weight @statistics.down.moment : tensor<96xf32>
// CHECK: deepseek.scale_channels %{{.+}} by %{{.+}} axis 0 power -2

// REMARK: remark: keeps the scales of its channels: nothing says what they carry

// Largest values are there of one input alone.
// SMOOTH: deepseek.weight @down : tensor<64x96xf32>
// SMOOTH: deepseek.channel_scales of %{{.+}} by %{{.+}} strength 5.000000e-01 : (tensor<96xf32>, tensor<64x96xf32>) -> tensor<96xf32>
// SMOOTH-NOT: deepseek.weight @router : tensor<4x64xf32>
// SMOOTH: deepseek.weight @statistics.down.moment.max
// SMOOTH: deepseek.scale_channels %{{.+}} by %{{.+}} axis 0 power -1

// Rounded by what the statistics are now.
// ROUNDED: deepseek.weight @down : tensor<64x96xi4>
// ROUNDED: %[[W:.+]] = deepseek.scale_channels %{{.+}} by %{{.+}} axis 1 power 1
// ROUNDED: %[[M:.+]] = deepseek.scale_channels %{{.+}} by %{{.+}} axis 0 power -2
// ROUNDED: deepseek.quantize %[[W]] moment %[[M]] : tensor<96xf32> group 32

// BITS: error: expects bits of 4, 5, 6 or 8, or a strength of 0 to 1, but got 7 and -1
// STRENGTH: error: expects bits of 4, 5, 6 or 8, or a strength of 0 to 1, but got 4 and 1.5

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
deepseek.weight @last : tensor<64xf32> {
  %0 = deepseek.source "last" in [] at [] : tensor<64xf32>
  deepseek.yield %0 : tensor<64xf32>
}
deepseek.weight @router : tensor<4x64xbf16> {
  %0 = deepseek.source "router" in [] at [] : tensor<4x64xbf16>
  deepseek.yield %0 : tensor<4x64xbf16>
}
deepseek.weight @experts.gate : tensor<4x32x64xbf16> {
  %0 = deepseek.source "experts.{}.gate" in [] at [] : tensor<4x32x64xbf16>
  deepseek.yield %0 : tensor<4x32x64xbf16>
}
deepseek.weight @experts.up : tensor<4x32x64xbf16> {
  %0 = deepseek.source "experts.{}.up" in [] at [] : tensor<4x32x64xbf16>
  deepseek.yield %0 : tensor<4x32x64xbf16>
}
deepseek.weight @experts.down : tensor<4x64x32xbf16> {
  %0 = deepseek.source "experts.{}.down" in [] at [] : tensor<4x64x32xbf16>
  deepseek.yield %0 : tensor<4x64x32xbf16>
}
deepseek.weight @gate : tensor<96x64xf16> {
  %0 = deepseek.source "gate" in [] at [] : tensor<96x64xf16>
  deepseek.yield %0 : tensor<96x64xf16>
}
deepseek.weight @up : tensor<96x64xf32> {
  %0 = deepseek.source "up" in [] at [] : tensor<96x64xf32>
  deepseek.yield %0 : tensor<96x64xf32>
}
deepseek.weight @down : tensor<64x96xf32> {
  %0 = deepseek.source "down" in [] at [] : tensor<64x96xf32>
  deepseek.yield %0 : tensor<64x96xf32>
}
deepseek.weight @statistics.gate.moment : tensor<64xf32> {
  %0 = deepseek.source "m0" in [] at [] : tensor<64xf32>
  deepseek.yield %0 : tensor<64xf32>
}
deepseek.weight @statistics.experts.down.moment : tensor<4x32xf32> {
  %0 = deepseek.source "m1" in [] at [] : tensor<4x32xf32>
  deepseek.yield %0 : tensor<4x32xf32>
}
deepseek.weight @statistics.down.moment : tensor<96xf32> {
  %0 = deepseek.source "m2" in [] at [] : tensor<96xf32>
  deepseek.yield %0 : tensor<96xf32>
}
deepseek.weight @statistics.down.moment.max : tensor<96xf32> {
  %0 = deepseek.source "m3" in [] at [] : tensor<96xf32>
  deepseek.yield %0 : tensor<96xf32>
}

func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x24xf32> {
  %embed = deepseek.use_weight @embed : tensor<24x64xbf16>
  %head = deepseek.use_weight @head : tensor<24x64xf32>
  %norm = deepseek.use_weight @norm : tensor<64xf32>
  %last = deepseek.use_weight @last : tensor<64xf32>
  %router = deepseek.use_weight @router : tensor<4x64xbf16>
  %e_gate = deepseek.use_weight @experts.gate : tensor<4x32x64xbf16>
  %e_up = deepseek.use_weight @experts.up : tensor<4x32x64xbf16>
  %e_down = deepseek.use_weight @experts.down : tensor<4x64x32xbf16>
  %gate = deepseek.use_weight @gate : tensor<96x64xf16>
  %up = deepseek.use_weight @up : tensor<96x64xf32>
  %down = deepseek.use_weight @down : tensor<64x96xf32>
  %x = deepseek.embed %tokens, %embed : tensor<?xi32>, tensor<24x64xbf16> -> tensor<?x64xf32>
  %h = deepseek.rms_norm %x, %norm epsilon 1.0e-6 : tensor<?x64xf32>, tensor<64xf32>
  %logits = deepseek.linear %h, %router : tensor<?x64xf32>, tensor<4x64xbf16> -> tensor<?x4xf32>
  %e, %w = deepseek.router %logits by <scoring = softmax, method = greedy, experts = 4, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0e0 : f64> : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %routed = deepseek.experts %h, %e, %w gate %e_gate up %e_up down %e_down : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<4x32x64xbf16>, tensor<4x32x64xbf16>, tensor<4x64x32xbf16> -> tensor<?x64xf32>
  %g = deepseek.linear %h, %gate : tensor<?x64xf32>, tensor<96x64xf16> -> tensor<?x96xf32>
  %u = deepseek.linear %h, %up : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xf32>
  %s = deepseek.swiglu %g, %u : tensor<?x96xf32>
  %d = deepseek.linear %s, %down : tensor<?x96xf32>, tensor<64x96xf32> -> tensor<?x64xf32>
  %f = deepseek.add %routed, %d : tensor<?x64xf32>
  %y = deepseek.add %x, %f : tensor<?x64xf32>
  %rows = deepseek.gather_rows %y, %outputs : tensor<?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  %n = deepseek.rms_norm %rows, %last epsilon 1.0e-6 : tensor<?x64xf32>, tensor<64xf32>
  %result = deepseek.lm_head %n, %head : tensor<?x64xf32>, tensor<24x64xf32> -> tensor<?x24xf32>
  return %result : tensor<?x24xf32>
}
