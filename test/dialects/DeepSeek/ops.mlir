// Every op prints as it was written, with each of its optional parts.

// RUN: hadal-opt %s | hadal-opt | FileCheck %s
// RUN: hadal-opt %s --mlir-print-op-generic | hadal-opt | FileCheck %s
// RUN: hadal-opt %s --emit-bytecode | hadal-opt | FileCheck %s

#rotary = #deepseek.rotary<dim = 8, theta = 1.0e4 : f64, layout = half_split>
#pairs = #deepseek.rotary<dim = 4, theta = 1.0e4 : f64, layout = interleaved>
#greedy = #deepseek.routing<scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64>
#noaux = #deepseek.routing<scoring = sigmoid, method = noaux_tc, experts = 8, top_k = 2, groups = 4, top_groups = 2, normalize = true, scale = 2.5 : f64>
!heads = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>
!latent = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

// CHECK: deepseek.model @tiny vocab 40 hidden 32 layers 2 context 64 entry @forward {eos = 1 : i64, model_type = "llama"}
deepseek.model @tiny vocab 40 hidden 32 layers 2 context 64 entry @forward {model_type = "llama", eos = 1 : i64}
func.func private @forward(tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, !heads) -> tensor<?x40xf32>

// CHECK: deepseek.weight @plain : tensor<4x8xf16> {
// CHECK-NEXT: %[[W:.+]] = deepseek.source "w" in ["a.safetensors"] at [128] : tensor<4x8xf16>
// CHECK-NEXT: deepseek.yield %[[W]] : tensor<4x8xf16>
deepseek.weight @plain : tensor<4x8xf16> {
  %0 = deepseek.source "w" in ["a.safetensors"] at [128] : tensor<4x8xf16>
  deepseek.yield %0 : tensor<4x8xf16>
}

// CHECK: deepseek.weight @recipe : tensor<3x4x8xbf16, #deepseek.tiled<rows = 16>> attributes {from = "experts"} {
deepseek.weight @recipe : tensor<3x4x8xbf16, #deepseek.tiled<rows = 16>> attributes {from = "experts"} {
  // CHECK: %[[STACK:.+]] = deepseek.source "experts.{}.w" in ["a.safetensors", "b.safetensors"] at [0, 32] : tensor<2x4x8xf8E4M3FN>
  %0 = deepseek.source "experts.{}.w" in ["a.safetensors", "b.safetensors"] at [0, 32] : tensor<2x4x8xf8E4M3FN>
  // CHECK: %[[SCALES:.+]] = deepseek.source "experts.{}.s" in [] at [] : tensor<2x1x1xf32>
  %1 = deepseek.source "experts.{}.s" in [] at [] : tensor<2x1x1xf32>
  // CHECK: %[[Q:.+]] = deepseek.dequantize %[[STACK]], %[[SCALES]] block 128 x 128 : tensor<2x4x8xf8E4M3FN>, tensor<2x1x1xf32> -> tensor<2x4x8xbf16>
  %2 = deepseek.dequantize %0, %1 block 128 x 128 : tensor<2x4x8xf8E4M3FN>, tensor<2x1x1xf32> -> tensor<2x4x8xbf16>
  // CHECK: deepseek.dequantize %[[STACK]], %[[SCALES]] block 64 x 32 unchecked
  %3 = deepseek.dequantize %0, %1 block 64 x 32 unchecked : tensor<2x4x8xf8E4M3FN>, tensor<2x1x1xf32> -> tensor<2x4x8xf32>
  // CHECK: %[[CUT:.+]] = deepseek.slice %{{.+}} axis 0 from 1 to 2 : tensor<2x4x8xf32> -> tensor<1x4x8xf32>
  %4 = deepseek.slice %3 axis 0 from 1 to 2 : tensor<2x4x8xf32> -> tensor<1x4x8xf32>
  // CHECK: %[[C:.+]] = deepseek.convert %[[CUT]] : tensor<1x4x8xf32> to tensor<1x4x8xbf16>
  %5 = deepseek.convert %4 : tensor<1x4x8xf32> to tensor<1x4x8xbf16>
  // CHECK: %[[T:.+]] = deepseek.transpose %[[C]] [0, 2, 1] : tensor<1x4x8xbf16> -> tensor<1x8x4xbf16>
  %6 = deepseek.transpose %5 [0, 2, 1] : tensor<1x4x8xbf16> -> tensor<1x8x4xbf16>
  // CHECK: %[[R:.+]] = deepseek.reshape %[[T]] : tensor<1x8x4xbf16> -> tensor<1x4x8xbf16>
  %7 = deepseek.reshape %6 : tensor<1x8x4xbf16> -> tensor<1x4x8xbf16>
  // CHECK: %[[ALL:.+]] = deepseek.concat %[[Q]], %[[R]] axis 0 : (tensor<2x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<3x4x8xbf16>
  %8 = deepseek.concat %2, %7 axis 0 : (tensor<2x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<3x4x8xbf16>
  // CHECK: deepseek.pack %[[ALL]] : tensor<3x4x8xbf16> to tensor<3x4x8xbf16, #deepseek.tiled<rows = 16>>
  %9 = deepseek.pack %8 : tensor<3x4x8xbf16> to tensor<3x4x8xbf16, #deepseek.tiled<rows = 16>>
  deepseek.yield %9 : tensor<3x4x8xbf16, #deepseek.tiled<rows = 16>>
}

// CHECK: deepseek.weight @blocks : tensor<4x64xf32>
deepseek.weight @blocks : tensor<4x64xf32> {
  // CHECK: %[[BYTES:.+]] = deepseek.source "w" in ["a.gguf"] at [4096] : tensor<4x36xi8>
  %0 = deepseek.source "w" in ["a.gguf"] at [4096] : tensor<4x36xi8>
  // CHECK: deepseek.dequantize_gguf iq4_nl %[[BYTES]] : tensor<4x36xi8> -> tensor<4x64xf32>
  %1 = deepseek.dequantize_gguf iq4_nl %0 : tensor<4x36xi8> -> tensor<4x64xf32>
  deepseek.yield %1 : tensor<4x64xf32>
}

// CHECK: deepseek.weight @table : tensor<64x8xf32>
deepseek.weight @table : tensor<64x8xf32> {
  // CHECK: deepseek.rotary_table <dim = 8, theta = 1.000000e+04 : f64, layout = half_split> : tensor<64x8xf32>
  %0 = deepseek.rotary_table #rotary : tensor<64x8xf32>
  deepseek.yield %0 : tensor<64x8xf32>
}

// CHECK-LABEL: func.func @use_weight
func.func @use_weight() -> tensor<4x8xf16> {
  // CHECK: deepseek.use_weight @plain : tensor<4x8xf16>
  %0 = deepseek.use_weight @plain : tensor<4x8xf16>
  return %0 : tensor<4x8xf16>
}

// CHECK-LABEL: func.func @row_by_row
func.func @row_by_row(%tokens: tensor<?xi32>, %table: tensor<40x16xf8E4M3FN>, %norm: tensor<16xbf16>, %w: tensor<24x16xf32>, %bias: tensor<24xf16>, %fp8: tensor<24x16xf8E4M3FN>, %scales: tensor<1x1xf32>, %head: tensor<40x16xf16>, %rows: tensor<?xi32>) -> tensor<?x40xf32> {
  // CHECK: %[[X:.+]] = deepseek.embed %{{.+}}, %{{.+}} : tensor<?xi32>, tensor<40x16xf8E4M3FN> -> tensor<?x16xf32>
  %x = deepseek.embed %tokens, %table : tensor<?xi32>, tensor<40x16xf8E4M3FN> -> tensor<?x16xf32>
  // CHECK: %[[H:.+]] = deepseek.rms_norm %[[X]], %{{.+}} epsilon 9.99999997E-7 : tensor<?x16xf32>, tensor<16xbf16>
  %h = deepseek.rms_norm %x, %norm epsilon 1.0e-6 : tensor<?x16xf32>, tensor<16xbf16>
  // CHECK: %[[A:.+]] = deepseek.linear %[[H]], %{{[^ ]+}} : tensor<?x16xf32>, tensor<24x16xf32> -> tensor<?x24xf32>
  %a = deepseek.linear %h, %w : tensor<?x16xf32>, tensor<24x16xf32> -> tensor<?x24xf32>
  // CHECK: %[[B:.+]] = deepseek.linear %[[H]], %{{.+}} bias %{{.+}} : tensor<24xf16> : tensor<?x16xf32>, tensor<24x16xf32> -> tensor<?x24xf32>
  %b = deepseek.linear %h, %w bias %bias : tensor<24xf16> : tensor<?x16xf32>, tensor<24x16xf32> -> tensor<?x24xf32>
  // CHECK: %[[C:.+]] = deepseek.linear %[[H]], %{{.+}} bias %{{.+}} : tensor<24xf16> scales %{{.+}} : tensor<1x1xf32> : tensor<?x16xf32>, tensor<24x16xf8E4M3FN> -> tensor<?x24xf32>
  %c = deepseek.linear %h, %fp8 bias %bias : tensor<24xf16> scales %scales : tensor<1x1xf32> : tensor<?x16xf32>, tensor<24x16xf8E4M3FN> -> tensor<?x24xf32>
  // CHECK: %[[D:.+]] = deepseek.swiglu %[[A]], %[[B]] : tensor<?x24xf32>
  %d = deepseek.swiglu %a, %b : tensor<?x24xf32>
  // CHECK: %[[E:.+]] = deepseek.add %[[D]], %[[C]] : tensor<?x24xf32>
  %e = deepseek.add %d, %c : tensor<?x24xf32>
  // CHECK: %[[PARTS:.+]]:2 = deepseek.split %[[E]] : tensor<?x24xf32> -> tensor<?x16xf32>, tensor<?x8xf32>
  %f:2 = deepseek.split %e : tensor<?x24xf32> -> tensor<?x16xf32>, tensor<?x8xf32>
  // CHECK: %[[G:.+]] = deepseek.gather_rows %[[PARTS]]#0, %{{.+}} : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %g = deepseek.gather_rows %f#0, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  // CHECK: %[[SCORE:.+]] = deepseek.influence %[[G]], %[[G]] : tensor<?x16xf32> -> tensor<?x1xf32>
  %score = deepseek.influence %g, %g : tensor<?x16xf32> -> tensor<?x1xf32>
  // CHECK: %[[KEPT:.+]] = deepseek.select_rows %[[SCORE]] : tensor<?x1xf32> -> tensor<?xi32>
  %kept = deepseek.select_rows %score : tensor<?x1xf32> -> tensor<?xi32>
  // CHECK: deepseek.select_rows %[[SCORE]] among %[[KEPT]] : tensor<?xi32> : tensor<?x1xf32> -> tensor<?xi32>
  %fewer = deepseek.select_rows %score among %kept : tensor<?xi32> : tensor<?x1xf32> -> tensor<?xi32>
  // CHECK: %[[EACH:.+]] = deepseek.gather_rows %{{.+}}, %[[KEPT]] : tensor<?xi32>, tensor<?xi32> -> tensor<?xi32>
  %each = deepseek.gather_rows %rows, %kept : tensor<?xi32>, tensor<?xi32> -> tensor<?xi32>
  // CHECK: deepseek.scatter_rows %[[G]], %[[G]] at %[[EACH]] : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>
  %scattered = deepseek.scatter_rows %g, %g at %each : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>
  // CHECK: deepseek.lm_head %[[G]], %{{.+}} : tensor<?x16xf32>, tensor<40x16xf16> -> tensor<?x40xf32>
  %i = deepseek.lm_head %g, %head : tensor<?x16xf32>, tensor<40x16xf16> -> tensor<?x40xf32>
  return %i : tensor<?x40xf32>
}

// CHECK-LABEL: func.func @attention
func.func @attention(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %v: tensor<?x12xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !heads, %layer: index) -> tensor<?x24xf32> {
  // CHECK: deepseek.rotary %{{.+}}, %{{.+}} heads 4 by <dim = 8, theta = 1.000000e+04 : f64, layout = half_split> : tensor<?x32xf32>, tensor<?xi32>
  %a = deepseek.rotary %q, %p heads 4 by #rotary : tensor<?x32xf32>, tensor<?xi32>
  // CHECK: deepseek.rotary %{{.+}}, %{{.+}} heads 4 by <dim = 4, theta = 1.000000e+04 : f64, layout = interleaved> : tensor<?x32xf32>, tensor<?xi32>
  %b = deepseek.rotary %q, %p heads 4 by #pairs : tensor<?x32xf32>, tensor<?xi32>
  // CHECK: deepseek.rotary %{{.+}}, %{{.+}} heads 8 by <dim = 4, theta = 1.000000e+04 : f64, layout = interleaved> unchecked : tensor<?x32xf32>, tensor<?xi32>
  %c = deepseek.rotary %q, %p heads 8 by #pairs unchecked : tensor<?x32xf32>, tensor<?xi32>
  // CHECK: deepseek.attention %{{.+}}, %{{.+}}, %{{.+}} at %{{.+}} of %{{.+}} in %{{.+}}[%{{.+}}] heads 4 scale 3.500000e-01 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, <kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32> -> tensor<?x24xf32>
  %d = deepseek.attention %a, %k, %v at %p of %s in %cache[%layer] heads 4 scale 3.5e-1 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, !heads -> tensor<?x24xf32>
  return %d : tensor<?x24xf32>
}

!indexed = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32, index_dim = 6>

// CHECK-LABEL: func.func @sparse_attention
func.func @sparse_attention(%iq: tensor<?x18xf32>, %ik: tensor<?x6xf32>, %iw: tensor<?x3xf32>, %w: tensor<6xf32>, %lq: tensor<?x20xf32>, %aq: tensor<?x16xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !indexed, %layer: index) {
  // CHECK: %[[Q:.+]] = deepseek.rotary %{{.+}}, %{{.+}} heads 3 leading by <dim = 4, theta = 1.000000e+04 : f64, layout = half_split> : tensor<?x18xf32>, tensor<?xi32>
  %q = deepseek.rotary %iq, %p heads 3 leading by <dim = 4, theta = 1.0e4 : f64, layout = half_split> : tensor<?x18xf32>, tensor<?xi32>
  // CHECK: %[[K:.+]] = deepseek.layer_norm %{{.+}}, %{{.+}}, %{{.+}} epsilon 9.99999997E-7 : tensor<?x6xf32>, tensor<6xf32>, tensor<6xf32>
  %k = deepseek.layer_norm %ik, %w, %w epsilon 1.0e-6 : tensor<?x6xf32>, tensor<6xf32>, tensor<6xf32>
  // CHECK: %[[S:.+]] = deepseek.select_keys %[[Q]], %[[K]], %{{.+}} at %{{.+}} of %{{.+}} in %{{.+}}[%{{.+}}] heads 3 top_k 5 scale 2.500000e-01 : tensor<?x18xf32>, tensor<?x6xf32>, tensor<?x3xf32>, tensor<?xi32>, <kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32, index_dim = 6> -> tensor<?x5xi32>
  %sel = deepseek.select_keys %q, %k, %iw at %p of %s in %cache[%layer] heads 3 top_k 5 scale 2.5e-1 : tensor<?x18xf32>, tensor<?x6xf32>, tensor<?x3xf32>, tensor<?xi32>, !indexed -> tensor<?x5xi32>
  // CHECK: deepseek.latent_attention {{.+}} heads 2 scale 2.500000e-01 selected %[[S]] : tensor<?x5xi32> : tensor
  %1 = deepseek.latent_attention %lq, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 2.5e-1 selected %sel : tensor<?x5xi32> : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !indexed -> tensor<?x10xf32>
  // CHECK: deepseek.absorbed_attention {{.+}} heads 2 scale 2.500000e-01 selected %[[S]] : tensor<?x5xi32> : tensor
  %2 = deepseek.absorbed_attention %aq, %lq, %c, %r at %p of %s in %cache[%layer] heads 2 scale 2.5e-1 selected %sel : tensor<?x5xi32> : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, !indexed -> tensor<?x16xf32>
  return
}

// CHECK-LABEL: func.func @windows
func.func @windows(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %v: tensor<?x12xf32>, %lq: tensor<?x20xf32>, %aq: tensor<?x16xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %heads: !heads, %latents: !latent, %layer: index) {
  // CHECK: deepseek.attention {{.+}} heads 4 scale 3.500000e-01 window <tokens = 8, sink = 2> : tensor
  %0 = deepseek.attention %q, %k, %v at %p of %s in %heads[%layer] heads 4 scale 3.5e-1 window <tokens = 8, sink = 2> : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, !heads -> tensor<?x24xf32>
  // CHECK: deepseek.latent_attention {{.+}} heads 2 scale 2.500000e-01 window <tokens = 1, sink = 0> : tensor
  %1 = deepseek.latent_attention %lq, %c, %r, %kv_b at %p of %s in %latents[%layer] heads 2 scale 2.5e-1 window <tokens = 1, sink = 0> : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !latent -> tensor<?x10xf32>
  // CHECK: deepseek.absorbed_attention {{.+}} heads 2 scale 2.500000e-01 window <tokens = 4, sink = 4> : tensor
  %2 = deepseek.absorbed_attention %aq, %lq, %c, %r at %p of %s in %latents[%layer] heads 2 scale 2.5e-1 window <tokens = 4, sink = 4> : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, !latent -> tensor<?x16xf32>
  return
}

// CHECK-LABEL: func.func @latent_attention
func.func @latent_attention(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %uk: tensor<2x8x6xbf16>, %uv: tensor<2x5x8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !latent, %layer: index) -> (tensor<?x10xf32>, tensor<?x10xf32>) {
  // CHECK: deepseek.latent_attention %{{.+}}, %{{.+}}, %{{.+}}, %{{.+}} at %{{.+}} of %{{.+}} in %{{.+}}[%{{.+}}] heads 2 scale 2.500000e-01 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, <kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32> -> tensor<?x10xf32>
  %a = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 2.5e-1 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !latent -> tensor<?x10xf32>
  // CHECK: %[[Q:.+]] = deepseek.head_linear %{{.+}}, %{{.+}} : tensor<?x20xf32>, tensor<2x8x6xbf16> -> tensor<?x16xf32>
  %b = deepseek.head_linear %q, %uk : tensor<?x20xf32>, tensor<2x8x6xbf16> -> tensor<?x16xf32>
  // CHECK: deepseek.absorbed_attention %[[Q]], %{{.+}}, %{{.+}}, %{{.+}} at %{{.+}} of %{{.+}} in %{{.+}}[%{{.+}}] heads 2 scale 2.500000e-01 : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, <kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32> -> tensor<?x16xf32>
  %d = deepseek.absorbed_attention %b, %q, %c, %r at %p of %s in %cache[%layer] heads 2 scale 2.5e-1 : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, !latent -> tensor<?x16xf32>
  %e = deepseek.head_linear %d, %uv : tensor<?x16xf32>, tensor<2x5x8xf32> -> tensor<?x10xf32>
  return %a, %e : tensor<?x10xf32>, tensor<?x10xf32>
}

// CHECK-LABEL: func.func @integer_heads
func.func @integer_heads(%q: tensor<?x48xf32>, %uk: tensor<2x256x16xui4>, %ks: tensor<2x10x16xi8>, %uv: tensor<2x5x256xi8>, %vs: tensor<2x5x8xf16>) -> tensor<?x10xf32> {
  // CHECK: %[[L:.+]] = deepseek.head_linear %{{.+}}, %{{.+}} scales %[[S:.+]] : tensor<2x10x16xi8> offsets %[[S]] : tensor<2x10x16xi8> : tensor<?x48xf32>, tensor<2x256x16xui4> -> tensor<?x512xf32>
  %a = deepseek.head_linear %q, %uk scales %ks : tensor<2x10x16xi8> offsets %ks : tensor<2x10x16xi8> : tensor<?x48xf32>, tensor<2x256x16xui4> -> tensor<?x512xf32>
  // CHECK: deepseek.head_linear %[[L]], %{{.+}} scales %{{.+}} : tensor<2x5x8xf16> : tensor<?x512xf32>, tensor<2x5x256xi8> -> tensor<?x10xf32>
  %b = deepseek.head_linear %a, %uv scales %vs : tensor<2x5x8xf16> : tensor<?x512xf32>, tensor<2x5x256xi8> -> tensor<?x10xf32>
  return %b : tensor<?x10xf32>
}

// CHECK-LABEL: func.func @experts
func.func @experts(%x: tensor<?x16xf32>, %logits: tensor<?x8xf32>, %bias: tensor<8xf32>, %map: tensor<8xi32>, %gate: tensor<8x4x16xf16>, %down: tensor<8x16x4xf16>, %gate8: tensor<8x4x16xf8E4M3FN>, %down8: tensor<8x16x4xf8E4M3FN>, %scales: tensor<8x1x1xf32>) -> (tensor<?x16xf32>, tensor<?x16xf32>) {
  // CHECK: %[[E:.+]], %[[W:.+]] = deepseek.router %{{.+}} by <scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.000000e+00 : f64> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %e0, %w0 = deepseek.router %logits by #greedy : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: deepseek.router %{{.+}} bias %{{.+}} : tensor<8xf32> by <scoring = sigmoid, method = noaux_tc, {{.+}}> unchecked : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %e1, %w1 = deepseek.router %logits bias %bias : tensor<8xf32> by #noaux unchecked : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: deepseek.router %{{.+}} map %{{.+}} : tensor<8xi32> by <{{.+}}> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %e3, %w3 = deepseek.router %logits map %map : tensor<8xi32> by #greedy : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: deepseek.router %{{.+}} by <{{.+}}> renormalize_from 4 : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %e2, %w2 = deepseek.router %logits by #greedy renormalize_from 4 : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: deepseek.experts %{{.+}}, %[[E]], %[[W]] gate %[[GATE:.+]] up %[[GATE]] down %{{.+}} : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf16>, tensor<8x4x16xf16>, tensor<8x16x4xf16> -> tensor<?x16xf32>
  %0 = deepseek.experts %x, %e0, %w0 gate %gate up %gate down %down : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf16>, tensor<8x4x16xf16>, tensor<8x16x4xf16> -> tensor<?x16xf32>
  // CHECK: deepseek.experts %{{.+}}, %{{.+}}, %{{.+}} gate %{{.+}} up %{{.+}} down %{{.+}} scales %{{.+}}, %{{.+}}, %{{.+}} : tensor<8x1x1xf32>, tensor<8x1x1xf32>, tensor<8x1x1xf32> : tensor<?x16xf32>
  %1 = deepseek.experts %x, %e1, %w1 gate %gate8 up %gate8 down %down8 scales %scales, %scales, %scales : tensor<8x1x1xf32>, tensor<8x1x1xf32>, tensor<8x1x1xf32> : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf8E4M3FN>, tensor<8x4x16xf8E4M3FN>, tensor<8x16x4xf8E4M3FN> -> tensor<?x16xf32>
  return %0, %1 : tensor<?x16xf32>, tensor<?x16xf32>
}

// Weights rounded to integers, and ops that read them.

// CHECK: deepseek.weight @quantized : tensor<24x64xi4, #deepseek.tiled<rows = 16, columns = 8>>
deepseek.weight @quantized : tensor<24x64xi4, #deepseek.tiled<rows = 16, columns = 8>> {
  %0 = deepseek.source "w" in [] at [] : tensor<24x64xbf16>
  // CHECK: deepseek.quantize %{{.+}} group 32 : tensor<24x64xbf16> -> tensor<24x64xi4>
  %1 = deepseek.quantize %0 group 32 : tensor<24x64xbf16> -> tensor<24x64xi4>
  %2 = deepseek.pack %1 : tensor<24x64xi4> to tensor<24x64xi4, #deepseek.tiled<rows = 16, columns = 8>>
  deepseek.yield %2 : tensor<24x64xi4, #deepseek.tiled<rows = 16, columns = 8>>
}

deepseek.weight @quantized_scales : tensor<24x2xf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<24x64xbf16>
  // CHECK: deepseek.quantize_scales %{{.+}} bits 4 : tensor<24x64xbf16> -> tensor<24x2xf16>
  %1 = deepseek.quantize_scales %0 bits 4 : tensor<24x64xbf16> -> tensor<24x2xf16>
  deepseek.yield %1 : tensor<24x2xf16>
}

// CHECK: deepseek.weight @calibrated
deepseek.weight @calibrated : tensor<3x24x64xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<3x24x64xbf16>
  %m = deepseek.source "m" in [] at [] : tensor<3x64xf32>
  %g = deepseek.source "g" in [] at [] : tensor<64x64xf32>
  // CHECK: deepseek.quantize_scales %{{.+}} moment %[[M:.+]] : tensor<3x64xf32> bits 8 : tensor<3x24x64xbf16> -> tensor<3x24x1xf16>
  %1 = deepseek.quantize_scales %0 moment %m : tensor<3x64xf32> bits 8 : tensor<3x24x64xbf16> -> tensor<3x24x1xf16>
  // CHECK: deepseek.quantize %{{.+}} moment %[[M]] : tensor<3x64xf32> gram %{{.+}} : tensor<64x64xf32> group 64 damping 1.000000e-02 : tensor<3x24x64xbf16> -> tensor<3x24x64xi8>
  %2 = deepseek.quantize %0 moment %m : tensor<3x64xf32> gram %g : tensor<64x64xf32> group 64 damping 0.01 : tensor<3x24x64xbf16> -> tensor<3x24x64xi8>
  deepseek.yield %2 : tensor<3x24x64xi8>
}

// CHECK: deepseek.weight @packed
deepseek.weight @packed : tensor<16x64xf32> {
  %0 = deepseek.source "w.qweight" in [] at [] : tensor<16x32xi8>
  // CHECK: %[[CODES:.+]] = deepseek.unpack %{{.+}} bits 4 plus 0 : tensor<16x32xi8> -> tensor<16x64xi4>
  %1 = deepseek.unpack %0 bits 4 plus 0 : tensor<16x32xi8> -> tensor<16x64xi4>
  %2 = deepseek.source "w.qzeros" in [] at [] : tensor<16x1xi8>
  // CHECK: deepseek.unpack %{{.+}} bits 4 plus 1 : tensor<16x1xi8> -> tensor<16x2xi8>
  %3 = deepseek.unpack %2 bits 4 plus 1 : tensor<16x1xi8> -> tensor<16x2xi8>
  %4 = deepseek.source "w.scales" in [] at [] : tensor<16x2xf16>
  %5 = deepseek.source "w.g_idx" in [] at [] : tensor<64x4xi8>
  // CHECK: %[[S:.+]] = deepseek.gather %{{.+}}, %{{.+}} : tensor<16x2xf16>, tensor<64x4xi8> -> tensor<16x64xf16>
  %6 = deepseek.gather %4, %5 : tensor<16x2xf16>, tensor<64x4xi8> -> tensor<16x64xf16>
  // CHECK: %[[Z:.+]] = deepseek.gather
  %7 = deepseek.gather %3, %5 : tensor<16x2xi8>, tensor<64x4xi8> -> tensor<16x64xi8>
  // CHECK: deepseek.dequantize %[[CODES]], %[[S]] zeros %[[Z]] : tensor<16x64xi8> block 1 x 1 : tensor<16x64xi4>, tensor<16x64xf16> -> tensor<16x64xf32>
  %8 = deepseek.dequantize %1, %6 zeros %7 : tensor<16x64xi8> block 1 x 1 : tensor<16x64xi4>, tensor<16x64xf16> -> tensor<16x64xf32>
  deepseek.yield %8 : tensor<16x64xf32>
}

// CHECK: deepseek.weight @parts
deepseek.weight @parts : tensor<24x64xui4, #deepseek.tiled<rows = 16, columns = 8>> {
  %0 = deepseek.source "w" in [] at [] : tensor<24x40xi8>
  // CHECK: deepseek.gguf_part codes of q4_1 %{{.+}} : tensor<24x40xi8> -> tensor<24x64xui4>
  %1 = deepseek.gguf_part codes of q4_1 %0 : tensor<24x40xi8> -> tensor<24x64xui4>
  // CHECK: deepseek.gguf_part offsets of q4_1 %{{.+}} : tensor<24x40xi8> -> tensor<24x2xf16>
  %2 = deepseek.gguf_part offsets of q4_1 %0 : tensor<24x40xi8> -> tensor<24x2xf16>
  %3 = deepseek.pack %1 : tensor<24x64xui4> to tensor<24x64xui4, #deepseek.tiled<rows = 16, columns = 8>>
  deepseek.yield %3 : tensor<24x64xui4, #deepseek.tiled<rows = 16, columns = 8>>
}

// CHECK: deepseek.weight @places : tensor<24x32xui4, #deepseek.tiled<rows = 16, columns = 8, codebook = <[
deepseek.weight @places : tensor<24x32xui4, #deepseek.tiled<rows = 16, columns = 8, codebook = <[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]>>> {
  %0 = deepseek.source "w" in [] at [] : tensor<24x18xi8>
  %1 = deepseek.gguf_part codes of iq4_nl %0 : tensor<24x18xi8> -> tensor<24x32xui4, #deepseek.codebook<[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]>>
  %2 = deepseek.pack %1 : tensor<24x32xui4, #deepseek.codebook<[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]>> to tensor<24x32xui4, #deepseek.tiled<rows = 16, columns = 8, codebook = <[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]>>>
  deepseek.yield %2 : tensor<24x32xui4, #deepseek.tiled<rows = 16, columns = 8, codebook = <[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]>>>
}

// CHECK: deepseek.weight @levels
deepseek.weight @levels : tensor<24x18xi8, #deepseek.tiled<rows = 16>> {
  %0 = deepseek.source "w" in [] at [] : tensor<24x210xi8>
  // CHECK: deepseek.gguf_part scales of q6_k %{{.+}} : tensor<24x210xi8> -> tensor<24x18xi8>
  %1 = deepseek.gguf_part scales of q6_k %0 : tensor<24x210xi8> -> tensor<24x18xi8>
  %2 = deepseek.pack %1 : tensor<24x18xi8> to tensor<24x18xi8, #deepseek.tiled<rows = 16>>
  deepseek.yield %2 : tensor<24x18xi8, #deepseek.tiled<rows = 16>>
}

// CHECK-LABEL: func.func @offsets
func.func @offsets(%x: tensor<?x64xf32>, %w: tensor<24x64xui4>, %s: tensor<24x2xbf16>, %z: tensor<24x2xf32>) -> (tensor<?x24xf32>, tensor<?x24xf32>) {
  // CHECK: deepseek.linear %{{.+}}, %{{.+}} scales %{{.+}} : tensor<24x2xbf16> offsets %{{.+}} : tensor<24x2xf32> :
  %0 = deepseek.linear %x, %w scales %s : tensor<24x2xbf16> offsets %z : tensor<24x2xf32> : tensor<?x64xf32>, tensor<24x64xui4> -> tensor<?x24xf32>
  // CHECK: deepseek.lm_head %{{.+}}, %{{.+}} scales %{{.+}} : tensor<24x2xbf16> offsets %{{.+}} : tensor<24x2xf32> activation_group 32 :
  %1 = deepseek.lm_head %x, %w scales %s : tensor<24x2xbf16> offsets %z : tensor<24x2xf32> activation_group 32 : tensor<?x64xf32>, tensor<24x64xui4> -> tensor<?x24xf32>
  return %0, %1 : tensor<?x24xf32>, tensor<?x24xf32>
}

// CHECK-LABEL: func.func @integer_weights
func.func @integer_weights(%x: tensor<?x64xf32>, %w: tensor<24x64xi8, #deepseek.tiled<rows = 16, columns = 4>>, %s: tensor<24x2xf16>) -> (tensor<?x24xf32>, tensor<?x24xf32>) {
  // CHECK: deepseek.linear %{{.+}}, %{{.+}} scales %{{.+}} : tensor<24x2xf16> activation_group 32 :
  %0 = deepseek.linear %x, %w scales %s : tensor<24x2xf16> activation_group 32 : tensor<?x64xf32>, tensor<24x64xi8, #deepseek.tiled<rows = 16, columns = 4>> -> tensor<?x24xf32>
  // CHECK: deepseek.lm_head %{{.+}}, %{{.+}} scales %{{.+}} : tensor<24x2xf16> activation_group 32 :
  %1 = deepseek.lm_head %x, %w scales %s : tensor<24x2xf16> activation_group 32 : tensor<?x64xf32>, tensor<24x64xi8, #deepseek.tiled<rows = 16, columns = 4>> -> tensor<?x24xf32>
  return %0, %1 : tensor<?x24xf32>, tensor<?x24xf32>
}

// CHECK-LABEL: func.func @bf16_inputs
func.func @bf16_inputs(%x: tensor<?x64xf32>, %e: tensor<?x2xi32>, %p: tensor<?x2xf32>, %w: tensor<24x64xbf16>, %f: tensor<24x64xf8E4M3FN>, %s: tensor<1x1xf32>, %g: tensor<8x4x64xf16>, %d: tensor<8x64x4xf16>) -> (tensor<?x24xf32>, tensor<?x24xf32>, tensor<?x24xf32>, tensor<?x64xf32>) {
  // CHECK: deepseek.linear %{{.+}}, %{{.+}} bf16_inputs : tensor<?x64xf32>, tensor<24x64xbf16>
  %0 = deepseek.linear %x, %w bf16_inputs : tensor<?x64xf32>, tensor<24x64xbf16> -> tensor<?x24xf32>
  // CHECK: deepseek.linear %{{.+}}, %{{.+}} scales %{{.+}} : tensor<1x1xf32> bf16_inputs :
  %1 = deepseek.linear %x, %f scales %s : tensor<1x1xf32> bf16_inputs : tensor<?x64xf32>, tensor<24x64xf8E4M3FN> -> tensor<?x24xf32>
  // CHECK: deepseek.lm_head %{{.+}}, %{{.+}} bf16_inputs :
  %2 = deepseek.lm_head %x, %w bf16_inputs : tensor<?x64xf32>, tensor<24x64xbf16> -> tensor<?x24xf32>
  // CHECK: deepseek.experts {{.+}} limit 1.500000e+00 bf16_inputs :
  %3 = deepseek.experts %x, %e, %p gate %g up %g down %d limit 1.5 bf16_inputs : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x64xf16>, tensor<8x4x64xf16>, tensor<8x64x4xf16> -> tensor<?x64xf32>
  return %0, %1, %2, %3 : tensor<?x24xf32>, tensor<?x24xf32>, tensor<?x24xf32>, tensor<?x64xf32>
}
