// Every op prints as it was written, with each of its optional parts.

// RUN: hadal-opt %s | hadal-opt | FileCheck %s
// RUN: hadal-opt %s --mlir-print-op-generic | hadal-opt | FileCheck %s
// RUN: hadal-opt %s --emit-bytecode | hadal-opt | FileCheck %s

// CHECK: rt.program @model entry @step {context_length = 64 : i64, hidden = 32 : i64, info = {model_type = "llama"}, layers = 2 : i64, layout_hash = "00112233445566778899aabbccddeeff", page_bytes = 4096 : i64, page_tokens = 16 : i64, vocab = 40 : i64, weights_bytes = 65536 : i64}
rt.program @model entry @step {vocab = 40 : i64, hidden = 32 : i64, layers = 2 : i64, context_length = 64 : i64, page_tokens = 16 : i64, page_bytes = 4096 : i64, weights_bytes = 65536 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {model_type = "llama"}}

// CHECK: rt.kernel @fill [memref<?x64xf32>, index] {
// CHECK-NEXT: ^bb0(%{{.+}}: !rt.step, %{{.+}}: index, %{{.+}}: index, %{{.+}}: memref<?x64xf32>, %{{.+}}: index):
rt.kernel @fill [memref<?x64xf32>, index] {
^bb0(%step: !rt.step, %first: index, %last: index, %out: memref<?x64xf32>, %n: index):
  rt.return
}

// CHECK-LABEL: rt.kernel @multiply
//       CHECK: rt.products %[[FIRST:.+]] to %[[LAST:.+]] of %[[X:.+]] : memref<?x64xf32> tiles %[[FIRST]] to %[[LAST]] of %[[W:.+]] : memref<4x64x16xbf16> {
//  CHECK-NEXT: ^bb0(%[[TILE:.+]]: index, %[[ROW:.+]]: index, %[[SUMS:.+]]: vector<16xf32>):
//  CHECK-NEXT:   vector.store %[[SUMS]], %{{.+}}[%[[ROW]], %[[TILE]]]
rt.kernel @multiply [memref<?x64xf32>, memref<4x64x16xbf16>, memref<?x64xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x64xf32>, %w: memref<4x64x16xbf16>, %out: memref<?x64xf32>):
  rt.products %first to %last of %x : memref<?x64xf32> tiles %first to %last of %w : memref<4x64x16xbf16> {
  ^bb0(%tile: index, %row: index, %sums: vector<16xf32>):
    vector.store %sums, %out[%row, %tile] : memref<?x64xf32>, vector<16xf32>
  }
}

// CHECK-LABEL: rt.kernel @multiply_listed
//       CHECK: rt.products %[[FIRST:.+]] to %[[LAST:.+]] of %{{.+}} : memref<?x64xf32> from %[[FIRST]] by %{{.+}} : memref<?xi32> tiles %[[FIRST]] to %[[LAST]] of %{{.+}}, %{{.+}} : memref<2x8x64x16xi8>, memref<2x8x64x16xi8> at %[[FIRST]] scales %{{.+}}, %{{.+}} : memref<2x1x1xf32>, memref<2x1x1xf32> attributes {bf16_inputs, entries_per_row = 2 : i64} {
rt.kernel @multiply_listed [memref<?x64xf32>, memref<?xi32>, memref<2x8x64x16xi8>, memref<2x1x1xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x64xf32>, %list: memref<?xi32>, %w: memref<2x8x64x16xi8>, %s: memref<2x1x1xf32>):
  rt.products %first to %last of %x : memref<?x64xf32> from %first by %list : memref<?xi32> tiles %first to %last of %w, %w : memref<2x8x64x16xi8>, memref<2x8x64x16xi8> at %first scales %s, %s : memref<2x1x1xf32>, memref<2x1x1xf32> attributes {bf16_inputs, entries_per_row = 2 : i64} {
  ^bb0(%tile: index, %entry: index, %gate: vector<16xf32>, %up: vector<16xf32>):
  }
}

// CHECK-LABEL: func.func @step(
// CHECK-SAME: %[[STEP:.+]]: !rt.step)
func.func @step(%step: !rt.step) {
  // CHECK: %[[TOKENS:.+]] = rt.tokens %[[STEP]]
  %tokens = rt.tokens %step
  // CHECK: rt.outputs %[[STEP]]
  %outputs = rt.outputs %step
  // CHECK: rt.input %[[STEP]] token_ids : memref<?xi32>
  %ids = rt.input %step token_ids : memref<?xi32>
  // CHECK: rt.input %[[STEP]] positions : memref<?xi32>
  %positions = rt.input %step positions : memref<?xi32>
  // CHECK: rt.input %[[STEP]] sequences : memref<?xi32>
  %sequences = rt.input %step sequences : memref<?xi32>
  // CHECK: rt.input %[[STEP]] output_rows : memref<?xi32>
  %rows = rt.input %step output_rows : memref<?xi32>
  // CHECK: rt.logits %[[STEP]] : memref<?x40xf32>
  %logits = rt.logits %step : memref<?x40xf32>
  // CHECK: rt.weight %[[STEP]] at 128 : memref<32xf32>
  %w0 = rt.weight %step at 128 : memref<32xf32>
  // CHECK: rt.weight %[[STEP]] at 256 "norm" : memref<32xf32>
  %w1 = rt.weight %step at 256 "norm" : memref<32xf32>
  // CHECK: %[[A:.+]] = rt.alloc %[[STEP]] bytes 256 * tokens + 0 : memref<?x64xf32>
  %a = rt.alloc %step bytes 256 * tokens + 0 : memref<?x64xf32>
  // CHECK: %[[B:.+]] = rt.alloc %[[STEP]] bytes 256 * tokens + 64 at 256 * tokens + 128 : memref<?x64xf32>
  %b = rt.alloc %step bytes 256 * tokens + 64 at 256 * tokens + 128 : memref<?x64xf32>
  // CHECK: rt.columns %[[B]] from 32 : memref<?x64xf32> -> memref<?x16xf32, strided<[64, 1]>>
  %c = rt.columns %b from 32 : memref<?x64xf32> -> memref<?x16xf32, strided<[64, 1]>>
  // CHECK: rt.page %[[STEP]][%[[TOKENS]], %[[TOKENS]]] layer %[[TOKENS]] bytes 4096, 2048 at 64 : memref<16x8xf32>
  %p = rt.page %step[%tokens, %tokens] layer %tokens bytes 4096, 2048 at 64 : memref<16x8xf32>
  // CHECK: rt.page %[[STEP]][%[[TOKENS]], %[[TOKENS]]] layer %[[TOKENS]] bytes 4096, 1024 at 64 base 2048 : memref<16x8xf32>
  %based = rt.page %step[%tokens, %tokens] layer %tokens bytes 4096, 1024 at 64 base 2048 : memref<16x8xf32>
  // CHECK: rt.count %{{.+}} : memref<?xi32>
  %n = rt.count %ids : memref<?xi32>
  // CHECK: rt.dispatch @fill items %[[TOKENS]] of %[[STEP]](%[[A]], %[[TOKENS]]) : memref<?x64xf32>, index
  rt.dispatch @fill items %tokens of %step(%a, %tokens) : memref<?x64xf32>, index
  // CHECK: rt.dispatch @fill items %[[TOKENS]] of %[[STEP]](%[[A]], %[[TOKENS]]) {result_buffers = array<i64: 0, 60>, work = #rt.work<op = "experts", outputs = true, alternative = true, weights = 64, experts = 8, experts_per_row = 2, row_bytes = 3, context_bytes = 4, window_tokens = 8, row_f32_ops = 5, row_int8_ops = 6, pair_f32_ops = 7, context_f32_ops = 8, pair_exps = 9, row_rounded = 10, least_rows = 11, below_rows = 12>} : memref<?x64xf32>, index
  rt.dispatch @fill items %tokens of %step(%a, %tokens) {result_buffers = array<i64: 0, 60>, work = #rt.work<op = "experts", outputs = true, alternative = true, weights = 64, experts = 8, experts_per_row = 2, row_bytes = 3, context_bytes = 4, window_tokens = 8, row_f32_ops = 5, row_int8_ops = 6, pair_f32_ops = 7, context_f32_ops = 8, pair_exps = 9, row_rounded = 10, least_rows = 11, below_rows = 12>} : memref<?x64xf32>, index
  return
}

// CHECK-LABEL: rt.kernel @attend_heads
//       CHECK: rt.block_attention %{{.+}} to %{{.+}} of %{{.+}}(%[[Q:.+]], %{{.+}}, %{{.+}}, %{{.+}}) into %{{.+}}, %{{.+}} {{{.*}}kv_heads = 2{{.*}}} : memref<?x64xf32>, memref<?xi32>, memref<?xi32>, memref<3x2x16xf32>, memref<3x2x2xf32>
rt.kernel @attend_heads [memref<?x64xf32>, memref<?xi32>, index, memref<3x2x16xf32>, memref<3x2x2xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %q: memref<?x64xf32>, %p: memref<?xi32>, %layer: index, %sums: memref<3x2x16xf32>, %stats: memref<3x2x2xf32>):
  rt.block_attention %first to %last of %step(%q, %p, %p, %layer) into %sums, %stats {element = i8, scale = 2.5e-1 : f32, heads = 4, kv_heads = 2, block_heads = 2, block_rows = 1, key_dim = 16, value_dim = 16, rope_columns = 0, scale_group = 16, scale_offset = 512, head_bytes = 1280, value_offset = 640, value_scale_offset = 1152, page_tokens = 32, page_bytes = 5120, layer_bytes = 2560, selected_tokens = 0, least_run = 384, segments = 3, segment_tokens = 1024, strands = 4, window = 0, sink = 0, sink_segments = 0} : memref<?x64xf32>, memref<?xi32>, memref<?xi32>, memref<3x2x16xf32>, memref<3x2x2xf32>
}

// CHECK-LABEL: rt.kernel @attend
//       CHECK: rt.block_attention %[[FIRST:.+]] to %[[LAST:.+]] of %{{.+}}(%{{.+}}, %[[P:.+]], %[[S:.+]], %{{.+}}) rope %{{.+}} selected %{{.+}} into %{{.+}} rows %{{.+}} by %{{.+}} {{{.*}}element = bf16{{.*}}} : memref<?x64xf32>, memref<?xi32>, memref<?xi32>, memref<?x64xf32> rope memref<?x48xf32> selected memref<?x9xi32>
rt.kernel @attend [memref<?x64xf32>, memref<?x48xf32>, memref<?xi32>, memref<?xi32>, index, memref<?x9xi32>, memref<?x64xf32>, index, index] {
^bb0(%step: !rt.step, %first: index, %last: index, %q: memref<?x64xf32>, %r: memref<?x48xf32>, %p: memref<?xi32>, %s: memref<?xi32>, %layer: index, %t: memref<?x9xi32>, %out: memref<?x64xf32>, %rows: index, %block: index):
  rt.block_attention %first to %last of %step(%q, %p, %s, %layer) rope %r selected %t into %out rows %rows by %block {element = bf16, scale = 2.5e-1 : f32, heads = 2, kv_heads = 0, block_heads = 2, block_rows = 1, key_dim = 40, value_dim = 32, rope_columns = 24, scale_group = 0, scale_offset = 0, head_bytes = 0, value_offset = 0, value_scale_offset = 0, page_tokens = 32, page_bytes = 5120, layer_bytes = 2560, selected_tokens = 9, least_run = 384, segments = 0, segment_tokens = 0, strands = 0, window = 0, sink = 0, sink_segments = 0} : memref<?x64xf32>, memref<?xi32>, memref<?xi32>, memref<?x64xf32> rope memref<?x48xf32> selected memref<?x9xi32>
}
