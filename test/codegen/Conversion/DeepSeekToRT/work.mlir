// With describe-work, each dispatch says what it reads and computes.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=avx512-vnni describe-work=true" | FileCheck %s --enable-var-scope

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 8, element = f32>
#half = #deepseek.rotary<dim = 8, theta = 1.0e4 : f64, layout = half_split>

deepseek.model @m vocab 32 hidden 64 layers 1 context 64 entry @forward {}

deepseek.weight @table : tensor<32x64xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<32x64xbf16>
  deepseek.yield %0 : tensor<32x64xbf16>
}
deepseek.weight @head : tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>> {
  %0 = deepseek.source "head" in [] at [] : tensor<32x64xbf16>
  %1 = deepseek.quantize %0 group 64 : tensor<32x64xbf16> -> tensor<32x64xi8>
  %2 = deepseek.pack %1 : tensor<32x64xi8> to tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>>
  deepseek.yield %2 : tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>>
}
deepseek.weight @head.scales : tensor<32x1xf16, #deepseek.tiled<rows = 16>> {
  %0 = deepseek.source "head" in [] at [] : tensor<32x64xbf16>
  %1 = deepseek.quantize_scales %0 bits 8 : tensor<32x64xbf16> -> tensor<32x1xf16>
  %2 = deepseek.pack %1 : tensor<32x1xf16> to tensor<32x1xf16, #deepseek.tiled<rows = 16>>
  deepseek.yield %2 : tensor<32x1xf16, #deepseek.tiled<rows = 16>>
}

// A table is not read as a whole: per row, one row of 32 bytes, and a position.
// Keys and values of a token are 2 * (8 + 8) * 4 bytes, a pair costs
// 2 * 4 * (8 + 8) operations.

// CHECK-LABEL: func.func private @attention
// CHECK:         rt.dispatch @rotary_half{{.*}} {result_buffers = array<i64: 3, 32>, work = #rt.work<op = "rotary", row_bytes = 292>}
// CHECK:         rt.dispatch @append_cache{{.*}} {work = #rt.work<op = "attention", row_bytes = {{[0-9]+}}>}
// CHECK:         rt.dispatch @attention_4_heads{{.*}} {result_buffers = array<i64: 4, 32>, work = #rt.work<op = "attention", row_bytes = 264, context_bytes = 128, pair_f32_ops = 128, pair_exps = 4>}
func.func private @attention(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x32xf32> {
  %r = deepseek.rotary %q, %positions heads 4 by #half : tensor<?x32xf32>, tensor<?xi32>
  %a = deepseek.attention %r, %k, %k at %positions of %sequences in %cache[%layer] heads 4 scale 3.5e-1 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, !cache -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// Rounding computes no product, but rounds 64 numbers. Of 8 experts, each of 32 * 64 elements in 4
// bits and 64 scales, a row chooses 2.

// CHECK-LABEL: func.func private @experts
// CHECK:         rt.dispatch @quantize_rows{{.*}} {work = #rt.work<op = "experts", row_bytes = {{[0-9]+}}, row_rounded = 64>}
// CHECK:         rt.dispatch @experts_up{{.*}} {work = #rt.work<op = "experts", weights = 18432, experts = 8, experts_per_row = 2, row_bytes = {{[0-9]+}}, row_int8_ops = 16384>}
// CHECK:         rt.dispatch @experts_down{{.*}} {work = #rt.work<op = "experts", weights = 9216, experts = 8, experts_per_row = 2, row_bytes = {{[0-9]+}}, row_int8_ops = 8192>}
func.func private @experts(%x: tensor<?x64xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %up: tensor<8x32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %us: tensor<8x32x2xf16, #deepseek.tiled<rows = 16>>, %down: tensor<8x64x32xi4, #deepseek.tiled<rows = 16, columns = 8>>, %ds: tensor<8x64x1xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x64xf32> {
  %y = deepseek.experts %x, %e, %w gate %up up %up down %down scales %us, %us, %ds : tensor<8x32x2xf16, #deepseek.tiled<rows = 16>>, tensor<8x32x2xf16, #deepseek.tiled<rows = 16>>, tensor<8x64x1xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, tensor<8x32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, tensor<8x64x32xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// Rows of the head are those whose logits are wanted.

// CHECK-LABEL: func.func @forward
// CHECK:         rt.dispatch @embed{{.*}} {result_buffers = array<i64: 2, 64>, work = #rt.work<op = "embed", row_bytes = 388>}
// CHECK:         rt.dispatch @gather_rows{{.*}} {result_buffers = array<i64: 2, 64>, work = #rt.work<op = "gather_rows", outputs = true, row_bytes = 516>}
// CHECK:         rt.dispatch @linear_int8{{.*}} {result_buffers = array<i64: 5, 32>, work = #rt.work<op = "lm_head", outputs = true, weights = 2112, row_bytes = {{[0-9]+}}, row_int8_ops = 4096>}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x32xf32> {
  %table = deepseek.use_weight @table : tensor<32x64xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<32x64xbf16> -> tensor<?x64xf32>
  %w = deepseek.use_weight @head : tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>>
  %s = deepseek.use_weight @head.scales : tensor<32x1xf16, #deepseek.tiled<rows = 16>>
  %k = deepseek.gather_rows %x, %outputs : tensor<?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  %l = deepseek.lm_head %k, %w scales %s : tensor<32x1xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>> -> tensor<?x32xf32>
  return %l : tensor<?x32xf32>
}
