// Ops of attention over compressed entries, and what else DeepSeek-V4 adds to a
// layer, print as they were written.

// RUN: hadal-opt %s | hadal-opt | FileCheck %s
// RUN: hadal-opt %s --emit-bytecode | hadal-opt | FileCheck %s

#rotary = #deepseek.rotary<dim = 4, theta = 1.6e5 : f64, layout = interleaved>
!cache = !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>

// CHECK-LABEL: func.func @compress
// CHECK-SAME: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>
func.func @compress(%v: tensor<?x16xf32>, %g: tensor<?x16xf32>, %b: tensor<4x16xf32>, %n: tensor<8xf32>, %w: tensor<?x8xf32>, %wb: tensor<128x8xf32>, %i: tensor<?x8xf32>, %ib: tensor<4x8xf32>, %in: tensor<4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %index: index) {
  // CHECK: deepseek.compress {{ ?}}entries %{{.+}}, %{{.+}} bias %{{.+}} norm %{{.+}} at %{{.+}} of %{{.+}} in %{{.+}}[%{{.+}}] ratio 4 by <dim = 4, theta = 1.600000e+05 : f64, layout = interleaved> epsilon 9.99999997E-7 :
  deepseek.compress entries %v, %g bias %b norm %n at %p of %s in %cache[%index] ratio 4 by #rotary epsilon 1.0e-6 : tensor<?x16xf32>, tensor<4x16xf32>, tensor<8xf32>, tensor<?xi32>, !cache
  // CHECK: deepseek.compress {{ ?}}entries {{.*}} ratio 128
  deepseek.compress entries %w, %w bias %wb norm %n at %p of %s in %cache[%index] ratio 128 by #rotary epsilon 1.0e-6 : tensor<?x8xf32>, tensor<128x8xf32>, tensor<8xf32>, tensor<?xi32>, !cache
  // CHECK: deepseek.compress {{ ?}}index
  deepseek.compress index %i, %i bias %ib norm %in at %p of %s in %cache[%index] ratio 4 by #rotary epsilon 1.0e-6 : tensor<?x8xf32>, tensor<4x8xf32>, tensor<4xf32>, tensor<?xi32>, !cache
  return
}

// CHECK-LABEL: func.func @attend
func.func @attend(%q: tensor<?x16xf32>, %k: tensor<?x8xf32>, %sinks: tensor<2xf32>, %iq: tensor<?x12xf32>, %iw: tensor<?x3xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index, %index: index) -> (tensor<?x16xf32>, tensor<?x16xf32>) {
  // CHECK: %[[SELECTED:.+]] = deepseek.select_entries %{{.+}}, %{{.+}} at %{{.+}} of %{{.+}} in %{{.+}}[%{{.+}}] heads 3 scale 5.000000e-01 :
  %selected = deepseek.select_entries %iq, %iw at %p of %s in %cache[%index] heads 3 scale 0.5 : tensor<?x12xf32>, tensor<?x3xf32>, tensor<?xi32>, !cache -> tensor<?x5xi32>
  // CHECK: deepseek.compressed_attention %{{.+}}, %{{.+}} sinks %{{.+}} selected %[[SELECTED]] : tensor<?x5xi32> at %{{.+}} of %{{.+}} in %{{.+}}[%{{.+}}, %{{.+}}] heads 2 window 16 ratio 4 scale 2.500000e-01 :
  %0 = deepseek.compressed_attention %q, %k sinks %sinks selected %selected : tensor<?x5xi32> at %p of %s in %cache[%layer, %index] heads 2 window 16 ratio 4 scale 0.25 : tensor<?x16xf32>, tensor<?x8xf32>, tensor<2xf32>, tensor<?xi32>, !cache -> tensor<?x16xf32>
  // CHECK: deepseek.compressed_attention {{.*}} heads 2 window 16 ratio 0 scale
  %1 = deepseek.compressed_attention %0, %k sinks %sinks at %p of %s in %cache[%layer, %index] heads 2 window 16 ratio 0 scale 0.25 : tensor<?x16xf32>, tensor<?x8xf32>, tensor<2xf32>, tensor<?xi32>, !cache -> tensor<?x16xf32>
  // CHECK: deepseek.unit_norm %{{.+}} heads 2 epsilon
  %2 = deepseek.unit_norm %1 heads 2 epsilon 1.0e-6 : tensor<?x16xf32>
  // CHECK: deepseek.rotary %{{.+}}, %{{.+}} heads 2 by <dim = 4, theta = 1.600000e+05 : f64, layout = interleaved> inverse :
  %3 = deepseek.rotary %2, %p heads 2 by #rotary inverse : tensor<?x16xf32>, tensor<?xi32>
  return %2, %3 : tensor<?x16xf32>, tensor<?x16xf32>
}

// CHECK-LABEL: func.func @experts
func.func @experts(%x: tensor<?x32xf32>, %logits: tensor<?x8xf32>, %tokens: tensor<?xi32>, %table: tensor<40x2xi32>, %g: tensor<8x32x32xbf16>) -> (tensor<?x32xf32>, tensor<?x32xf32>) {
  // CHECK: deepseek.hash_router %{{.+}}, %{{.+}}, %{{.+}} by <scoring = sqrt_softplus, method = hash, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = true, scale = 1.500000e+00 : f64> :
  %e, %w = deepseek.hash_router %logits, %tokens, %table by <scoring = sqrt_softplus, method = hash, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = true, scale = 1.5 : f64> : tensor<?x8xf32>, tensor<?xi32>, tensor<40x2xi32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: deepseek.experts {{.*}} limit 1.000000e+01 :
  %0 = deepseek.experts %x, %e, %w gate %g up %g down %g limit 10.0 : tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x32x32xbf16>, tensor<8x32x32xbf16>, tensor<8x32x32xbf16> -> tensor<?x32xf32>
  // CHECK: deepseek.swiglu %{{.+}}, %{{.+}} limit 1.000000e+01 :
  %1 = deepseek.swiglu %x, %0 limit 10.0 : tensor<?x32xf32>
  return %0, %1 : tensor<?x32xf32>, tensor<?x32xf32>
}

// CHECK: deepseek.weight @experts.w1
deepseek.weight @experts.w1 : tensor<6x32x64xbf16> {
  %0 = deepseek.source "ffn.experts.{}.w1.weight" in [] at [] : tensor<6x32x32xi8>
  %1 = deepseek.source "ffn.experts.{}.w1.scale" in [] at [] : tensor<6x32x2xf8E8M0FNU>
  // CHECK: deepseek.dequantize_mxfp4 %{{.+}}, %{{.+}} : tensor<6x32x32xi8>, tensor<6x32x2xf8E8M0FNU> -> tensor<6x32x64xbf16>
  %2 = deepseek.dequantize_mxfp4 %0, %1 : tensor<6x32x32xi8>, tensor<6x32x2xf8E8M0FNU> -> tensor<6x32x64xbf16>
  deepseek.yield %2 : tensor<6x32x64xbf16>
}

deepseek.weight @tid2eid : tensor<40x2xi32> {
  %0 = deepseek.source "ffn.gate.tid2eid" in [] at [] : tensor<40x2xi64>
  // CHECK: deepseek.expert_ids %{{.+}} of 6 : tensor<40x2xi64> -> tensor<40x2xi32>
  %1 = deepseek.expert_ids %0 of 6 : tensor<40x2xi64> -> tensor<40x2xi32>
  deepseek.yield %1 : tensor<40x2xi32>
}
