// A case for each constraint that a verifier checks.

// RUN: hadal-opt %s -split-input-file -verify-diagnostics

// expected-error @below {{'rt.program' op expects positive sizes, but got 0}}
rt.program @program_c1 entry @step {vocab = 0 : i64, hidden = 32 : i64, layers = 2 : i64, context_length = 64 : i64, page_tokens = 16 : i64, page_bytes = 4096 : i64, weights_bytes = 64 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func private @step(!rt.step)

// -----

// expected-error @below {{'rt.program' op expects arena sizes >= 0, but got -64}}
rt.program @program_c1_arena entry @step {vocab = 40 : i64, hidden = 32 : i64, layers = 2 : i64, context_length = 64 : i64, page_tokens = 16 : i64, page_bytes = 4096 : i64, weights_bytes = 64 : i64, arena_fixed = -64 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func private @step(!rt.step)

// -----

// expected-error @below {{expects window_tokens and sink_tokens from 0 to 2147483647, but got -1}}
rt.program @program_c1_window entry @step {vocab = 40 : i64, hidden = 32 : i64, layers = 2 : i64, context_length = 64 : i64, page_tokens = 16 : i64, page_bytes = 4096 : i64, weights_bytes = 64 : i64, window_tokens = -1 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @step(%step: !rt.step) {
  return
}

// -----

// expected-error @below {{'rt.program' op expects entry @step to be a function from a step to nothing}}
rt.program @program_c2 entry @step {vocab = 40 : i64, hidden = 32 : i64, layers = 2 : i64, context_length = 64 : i64, page_tokens = 16 : i64, page_bytes = 4096 : i64, weights_bytes = 64 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func private @step(!rt.step) -> index

// -----

func.func @weight_c1(%step: !rt.step) {
  // expected-error @below {{'rt.weight' op expects an offset that is a multiple of 64, but got 32}}
  %0 = rt.weight %step at 32 : memref<32xf32>
  return
}

// -----

func.func @weight_c1_negative(%step: !rt.step) {
  // expected-error @below {{'rt.weight' op expects an offset that is a multiple of 64, but got -64}}
  %0 = rt.weight %step at -64 : memref<32xf32>
  return
}

// -----

func.func @alloc_c1(%step: !rt.step) {
  // expected-error @below {{'rt.alloc' op expects sizes that are multiples of 64, but got 100}}
  %0 = rt.alloc %step bytes 100 * tokens + 0 : memref<?x25xf32>
  return
}

// -----

func.func @alloc_c1_offset(%step: !rt.step) {
  // expected-error @below {{'rt.alloc' op expects sizes that are multiples of 64, but got 32}}
  %0 = rt.alloc %step bytes 128 * tokens + 0 at 32 * tokens + 0 : memref<?x32xf32>
  return
}

// -----

func.func @alloc_c2(%step: !rt.step) {
  // expected-error @below {{'rt.alloc' op expects both offsets or none, but got one}}
  %0 = "rt.alloc"(%step) {per_token = 64, fixed = 0, offset_fixed = 0} : (!rt.step) -> memref<?x16xf32>
  return
}

// -----

func.func @columns_c1(%step: !rt.step, %b: memref<?x64xf32>) {
  // expected-error @below {{'rt.columns' op expects columns within the rows of 'memref<?x64xf32>', but got 'memref<?x16xf32, strided<[64, 1]>>' from 56}}
  %0 = rt.columns %b from 56 : memref<?x64xf32> -> memref<?x16xf32, strided<[64, 1]>>
  return
}

// -----

func.func @columns_c1_stride(%step: !rt.step, %b: memref<?x64xf32>) {
  // expected-error @below {{'rt.columns' op expects columns within the rows of 'memref<?x64xf32>', but got 'memref<?x16xf32>' from 0}}
  %0 = rt.columns %b from 0 : memref<?x64xf32> -> memref<?x16xf32>
  return
}

// -----

func.func @columns_c1_element(%step: !rt.step, %b: memref<?x64xf32>) {
  // expected-error @below {{'rt.columns' op expects columns within the rows of 'memref<?x64xf32>', but got 'memref<?x16xf16, strided<[64, 1]>>' from 0}}
  %0 = rt.columns %b from 0 : memref<?x64xf32> -> memref<?x16xf16, strided<[64, 1]>>
  return
}

// -----

func.func @page_c1(%step: !rt.step, %i: index) {
  // expected-error @below {{'rt.page' op expects positive sizes, an offset and a base >= 0, but got 0, 2048, 0 and 0}}
  %0 = rt.page %step[%i, %i] layer %i bytes 0, 2048 at 0 : memref<16x8xf32>
  return
}

// -----

func.func @page_c1_offset(%step: !rt.step, %i: index) {
  // expected-error @below {{'rt.page' op expects positive sizes, an offset and a base >= 0, but got 4096, 2048, -1 and 0}}
  %0 = rt.page %step[%i, %i] layer %i bytes 4096, 2048 at -1 : memref<16x8xf32>
  return
}

// -----

func.func @page_c1_base(%step: !rt.step, %i: index) {
  // expected-error @below {{'rt.page' op expects positive sizes, an offset and a base >= 0, but got 4096, 2048, 0 and -64}}
  %0 = rt.page %step[%i, %i] layer %i bytes 4096, 2048 at 0 base -64 : memref<16x8xf32>
  return
}

// -----

// expected-error @below {{'rt.kernel' op expects memref or index arguments, but got 'f32'}}
rt.kernel @kernel_c1 [f32] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: f32):
  rt.return
}

// -----

// expected-error @below {{'rt.kernel' op expects a block of arguments ('!rt.step', 'index', 'index', 'memref<?xf32>'), but got ('!rt.step', 'index', 'index')}}
rt.kernel @kernel_c1_block [memref<?xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index):
  rt.return
}

// -----

func.func @dispatch_c1(%step: !rt.step, %i: index) {
  // expected-error @below {{'rt.dispatch' op expects @none to be a kernel}}
  rt.dispatch @none items %i of %step(%i) : index
  return
}

// -----

// expected-note @below {{kernel declared here}}
rt.kernel @kernel [memref<?x64xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %out: memref<?x64xf32>):
  rt.return
}
func.func @dispatch_c1_types(%step: !rt.step, %i: index, %out: memref<?x32xf32>) {
  // expected-error @below {{'rt.dispatch' op expects arguments [memref<?x64xf32>], but got ('memref<?x32xf32>')}}
  rt.dispatch @kernel items %i of %step(%out) : memref<?x32xf32>
  return
}

// -----

rt.kernel @kernel [memref<?x64xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %out: memref<?x64xf32>):
  rt.return
}
func.func @dispatch_c2(%step: !rt.step, %i: index, %out: memref<?x64xf32>) {
  // expected-error @below {{'rt.dispatch' op expects pairs of an argument that is a memref<?xNxf32> and of columns, 1 to N, but got array<i64: 0, 65>}}
  rt.dispatch @kernel items %i of %step(%out) {result_buffers = array<i64: 0, 65>} : memref<?x64xf32>
  return
}

// -----

// expected-error @below {{expects numbers >= 0, but got -1}}
func.func private @work_c1() attributes {w = #rt.work<op = "linear", row_bytes = -1>}

// -----

// expected-error @below {{expects experts_per_row <= experts, but got 9 and 8}}
func.func private @work_c1_experts() attributes {w = #rt.work<op = "experts", experts = 8, experts_per_row = 9>}

// -----

func.func @count_c1(%empty: memref<0xi32>) {
  // expected-error @below {{'rt.count' op expects room for a number, but got 'memref<0xi32>'}}
  %0 = rt.count %empty : memref<0xi32>
  return
}

// -----

rt.kernel @products_c1 [memref<?x64xf32>, memref<64x16xbf16>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x64xf32>, %w: memref<64x16xbf16>):
  // expected-error @below {{'rt.products' op expects one weight, or two of one type, of bf16, f16 or i8 [.., tiles, inner, 16], but got 'memref<64x16xbf16>'}}
  rt.products %first to %last of %x : memref<?x64xf32> tiles %first to %last of %w : memref<64x16xbf16> {
  ^bb0(%tile: index, %row: index, %sums: vector<16xf32>):
  }
}

// -----

rt.kernel @products_c2 [memref<?x64xf32>, memref<4x64x16xi8>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x64xf32>, %w: memref<4x64x16xi8>):
  // expected-error @below {{'rt.products' op expects 1 scales, but got 0}}
  rt.products %first to %last of %x : memref<?x64xf32> tiles %first to %last of %w : memref<4x64x16xi8> {
  ^bb0(%tile: index, %row: index, %sums: vector<16xf32>):
  }
}

// -----

rt.kernel @products_c3 [memref<?x64xf32>, memref<4x64x16xf16>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x64xf32>, %w: memref<4x64x16xf16>):
  // expected-error @below {{'rt.products' op expects a block of arguments ('index', 'index', 'vector<16xf32>'), but got ('index', 'index')}}
  rt.products %first to %last of %x : memref<?x64xf32> tiles %first to %last of %w : memref<4x64x16xf16> {
  ^bb0(%tile: index, %row: index):
  }
}

// -----

rt.kernel @products_c4 [memref<?x64xf32>, memref<4x64x16xf16>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x64xf32>, %w: memref<4x64x16xf16>):
  // expected-error @below {{'rt.products' op expects entries_per_row > 0, but got 0}}
  rt.products %first to %last of %x : memref<?x64xf32> tiles %first to %last of %w : memref<4x64x16xf16> attributes {entries_per_row = 0 : i64} {
  ^bb0(%tile: index, %row: index, %sums: vector<16xf32>):
  }
}

// -----

rt.kernel @block_attention_c1 [memref<?x64xf32>, memref<?xi32>, index, memref<?x64xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %q: memref<?x64xf32>, %p: memref<?xi32>, %n: index, %out: memref<?x64xf32>):
  // expected-error @below {{'rt.block_attention' op expects a result with rows and a block of them, or two without, but got 2}}
  rt.block_attention %first to %last of %step(%q, %p, %p, %n) rope %q into %out, %out rows %n by %n {element = bf16, scale = 2.5e-1 : f32, heads = 2, kv_heads = 0, block_heads = 2, block_rows = 1, key_dim = 40, value_dim = 32, rope_columns = 24, scale_group = 0, scale_offset = 0, head_bytes = 0, value_offset = 0, value_scale_offset = 0, page_tokens = 32, page_bytes = 5120, layer_bytes = 2560, selected_tokens = 0, least_run = 384, segments = 0, segment_tokens = 0, strands = 0, window = 0, sink = 0, sink_segments = 0} : memref<?x64xf32>, memref<?xi32>, memref<?xi32>, memref<?x64xf32>, memref<?x64xf32> rope memref<?x64xf32>
}

// -----

rt.kernel @block_attention_c2 [memref<?x64xf32>, memref<?xi32>, index, memref<?x64xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %q: memref<?x64xf32>, %p: memref<?xi32>, %n: index, %out: memref<?x64xf32>):
  // expected-error @below {{'rt.block_attention' op expects positive sizes, heads in whole blocks, and values of latents and groups in keys, but got 3 heads in blocks of 2, keys of 40 columns, values of 32 and groups of 0}}
  rt.block_attention %first to %last of %step(%q, %p, %p, %n) rope %q into %out rows %n by %n {element = bf16, scale = 2.5e-1 : f32, heads = 3, kv_heads = 0, block_heads = 2, block_rows = 1, key_dim = 40, value_dim = 32, rope_columns = 24, scale_group = 0, scale_offset = 0, head_bytes = 0, value_offset = 0, value_scale_offset = 0, page_tokens = 32, page_bytes = 5120, layer_bytes = 2560, selected_tokens = 0, least_run = 384, segments = 0, segment_tokens = 0, strands = 0, window = 0, sink = 0, sink_segments = 0} : memref<?x64xf32>, memref<?xi32>, memref<?xi32>, memref<?x64xf32> rope memref<?x64xf32>
}

// -----

rt.kernel @block_attention_c3 [memref<?x64xf32>, memref<?xi32>, index, memref<?x64xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %q: memref<?x64xf32>, %p: memref<?xi32>, %n: index, %out: memref<?x64xf32>):
  // expected-error @below {{'rt.block_attention' op expects numbers of f32, f16 or bf16, or of i8 with scales, but got 'i8' with groups of 0}}
  rt.block_attention %first to %last of %step(%q, %p, %p, %n) rope %q into %out rows %n by %n {element = i8, scale = 2.5e-1 : f32, heads = 2, kv_heads = 0, block_heads = 2, block_rows = 1, key_dim = 40, value_dim = 32, rope_columns = 24, scale_group = 0, scale_offset = 0, head_bytes = 0, value_offset = 0, value_scale_offset = 0, page_tokens = 32, page_bytes = 5120, layer_bytes = 2560, selected_tokens = 0, least_run = 384, segments = 0, segment_tokens = 0, strands = 0, window = 0, sink = 0, sink_segments = 0} : memref<?x64xf32>, memref<?xi32>, memref<?xi32>, memref<?x64xf32> rope memref<?x64xf32>
}

// -----

rt.kernel @block_attention_c4 [memref<?x64xf32>, memref<?xi32>, index, memref<?x64xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %q: memref<?x64xf32>, %p: memref<?xi32>, %n: index, %out: memref<?x64xf32>):
  // expected-error @below {{'rt.block_attention' op expects blocks of heads with one key, in head_bytes, and no rope_query, selected or is_rounded, but got 2 keys for 4 heads in blocks of 4, of 2048 bytes}}
  rt.block_attention %first to %last of %step(%q, %p, %p, %n) into %out rows %n by %n {element = bf16, scale = 2.5e-1 : f32, heads = 4, kv_heads = 2, block_heads = 4, block_rows = 1, key_dim = 16, value_dim = 16, rope_columns = 0, scale_group = 0, scale_offset = 0, head_bytes = 2048, value_offset = 1024, value_scale_offset = 0, page_tokens = 32, page_bytes = 5120, layer_bytes = 2560, selected_tokens = 0, least_run = 384, segments = 0, segment_tokens = 0, strands = 0, window = 0, sink = 0, sink_segments = 0} : memref<?x64xf32>, memref<?xi32>, memref<?xi32>, memref<?x64xf32>
}

// -----

rt.kernel @block_attention_c4_latents [memref<?x64xf32>, memref<?xi32>, index, memref<?x64xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %q: memref<?x64xf32>, %p: memref<?xi32>, %n: index, %out: memref<?x64xf32>):
  // expected-error @below {{'rt.block_attention' op expects rope_query with latents}}
  rt.block_attention %first to %last of %step(%q, %p, %p, %n) into %out rows %n by %n {element = bf16, scale = 2.5e-1 : f32, heads = 4, kv_heads = 0, block_heads = 4, block_rows = 1, key_dim = 16, value_dim = 16, rope_columns = 0, scale_group = 0, scale_offset = 0, head_bytes = 2048, value_offset = 1024, value_scale_offset = 0, page_tokens = 32, page_bytes = 5120, layer_bytes = 2560, selected_tokens = 0, least_run = 384, segments = 0, segment_tokens = 0, strands = 0, window = 0, sink = 0, sink_segments = 0} : memref<?x64xf32>, memref<?xi32>, memref<?xi32>, memref<?x64xf32>
}
