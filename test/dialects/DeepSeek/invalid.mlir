// A case for each constraint that a verifier checks.

// RUN: hadal-opt %s -split-input-file -verify-diagnostics

// expected-error @below {{'deepseek.model' op expects vocab > 0, but got 0}}
deepseek.model @model_c1 vocab 0 hidden 32 layers 2 context 64 entry @forward {}
func.func private @forward(tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 8, element = f32>) -> tensor<?x40xf32>

// -----

// expected-error @below {{'deepseek.model' op expects entry @forward to be a function of this module}}
deepseek.model @model_c2 vocab 40 hidden 32 layers 2 context 64 entry @forward {}

// -----

// expected-error @below {{'deepseek.model' op expects entry @forward to take token ids, positions, sequences, output rows and a cache and to return 'tensor<?x40xf32>', but got '(tensor<?xi32>) -> tensor<?x40xf32>'}}
deepseek.model @model_c2_type vocab 40 hidden 32 layers 2 context 64 entry @forward {}
func.func private @forward(tensor<?xi32>) -> tensor<?x40xf32>

// -----

// expected-error @below {{'deepseek.weight' op expects a recipe that ends in 'deepseek.yield'}}
deepseek.weight @weight_c1 : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
}

// -----

// expected-error @below {{'deepseek.weight' op expects a recipe of type 'tensor<4x8xf32>', but got 'tensor<4x8xbf16>'}}
deepseek.weight @weight_c1_type : tensor<4x8xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-note @below {{yielded here}}
  deepseek.yield %0 : tensor<4x8xbf16>
}

// -----

// expected-error @below {{'deepseek.weight' op expects a weight beside it, @weight_c3_base, with records like those of 'tensor<16x64xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 64, bytes = 576>>>', from their first byte on}}
deepseek.weight @weight_c3 : tensor<16x64xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 64, bytes = 576>>> beside @weight_c3_base at 64 {
  %0 = deepseek.source "w" in ["m"] at [0] : tensor<16x64xi4>
  %1 = deepseek.pack %0 : tensor<16x64xi4> to tensor<16x64xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 64, bytes = 576>>>
  deepseek.yield %1 : tensor<16x64xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 64, bytes = 576>>>
}
deepseek.weight @weight_c3_base : tensor<16x2xf16, #deepseek.tiled<rows = 16>> {
  %0 = deepseek.source "s" in ["m"] at [0] : tensor<16x2xf16>
  %1 = deepseek.pack %0 : tensor<16x2xf16> to tensor<16x2xf16, #deepseek.tiled<rows = 16>>
  deepseek.yield %1 : tensor<16x2xf16, #deepseek.tiled<rows = 16>>
}

// -----

// expected-error @below {{'deepseek.weight' op expects a place in the first record, at a multiple of 64, but got 128}}
deepseek.weight @weight_c3_place : tensor<16x64xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 64, bytes = 576>>> beside @weight_c3_other at 128 {
  %0 = deepseek.source "w" in ["m"] at [0] : tensor<16x64xi4>
  %1 = deepseek.pack %0 : tensor<16x64xi4> to tensor<16x64xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 64, bytes = 576>>>
  deepseek.yield %1 : tensor<16x64xi4, #deepseek.tiled<rows = 16, columns = 8, record = <columns = 64, bytes = 576>>>
}
deepseek.weight @weight_c3_other : tensor<16x2xf16, #deepseek.tiled<rows = 16, record = <columns = 2, bytes = 576>>> {
  %0 = deepseek.source "s" in ["m"] at [0] : tensor<16x2xf16>
  %1 = deepseek.pack %0 : tensor<16x2xf16> to tensor<16x2xf16, #deepseek.tiled<rows = 16, record = <columns = 2, bytes = 576>>>
  deepseek.yield %1 : tensor<16x2xf16, #deepseek.tiled<rows = 16, record = <columns = 2, bytes = 576>>>
}

// -----

// expected-error @below {{'deepseek.weight' op expects a static shape, but got 'tensor<?x8xbf16>'}}
deepseek.weight @weight_c2 : tensor<?x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  deepseek.yield %0 : tensor<4x8xbf16>
}

// -----

func.func @use_weight_c1() {
  // expected-error @below {{'deepseek.use_weight' op expects @none to be a weight}}
  %0 = deepseek.use_weight @none : tensor<4xf32>
  return
}

// -----

// expected-note @below {{declared here}}
deepseek.weight @w : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  deepseek.yield %0 : tensor<4x8xbf16>
}
func.func @use_weight_c1_type() {
  // expected-error @below {{'deepseek.use_weight' op expects the type of the weight, 'tensor<4x8xbf16>', but got 'tensor<4xf32>'}}
  %0 = deepseek.use_weight @w : tensor<4xf32>
  return
}

// -----

deepseek.weight @source_c1 : tensor<4x8xbf16> {
  // expected-error @below {{'deepseek.source' op expects one offset for each of 1 tensors, but got 2}}
  %0 = deepseek.source "w" in ["f"] at [0, 1] : tensor<4x8xbf16>
  deepseek.yield %0 : tensor<4x8xbf16>
}

// -----

deepseek.weight @source_c1_stack : tensor<4x8xbf16> {
  // expected-error @below {{'deepseek.source' op expects one offset for each of 4 tensors, but got 1}}
  %0 = deepseek.source "w.{}" in ["f"] at [0] : tensor<4x8xbf16>
  deepseek.yield %0 : tensor<4x8xbf16>
}

// -----

deepseek.weight @source_c1_negative : tensor<4x8xbf16> {
  // expected-error @below {{'deepseek.source' op expects offsets >= 0, but got -1}}
  %0 = deepseek.source "w" in ["f"] at [-1] : tensor<4x8xbf16>
  deepseek.yield %0 : tensor<4x8xbf16>
}

// -----

deepseek.weight @source_c2 : tensor<4x8xbf16> {
  // expected-error @below {{'deepseek.source' op expects one file, or one for each of 1 tensors, but got 2}}
  %0 = deepseek.source "w" in ["f", "g"] at [0] : tensor<4x8xbf16>
  deepseek.yield %0 : tensor<4x8xbf16>
}

// -----

deepseek.weight @source_c2_empty : tensor<4x8xbf16> {
  // expected-error @below {{'deepseek.source' op expects one file, or one for each of 1 tensors, but got 1}}
  %0 = deepseek.source "w" in ["f"] at [] : tensor<4x8xbf16>
  deepseek.yield %0 : tensor<4x8xbf16>
}

// -----

deepseek.weight @concat_c1 : tensor<8x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.concat' op expects axis within rank 2, but got 2}}
  %1 = deepseek.concat %0, %0 axis 2 : (tensor<4x8xbf16>, tensor<4x8xbf16>) -> tensor<8x8xbf16>
  deepseek.yield %1 : tensor<8x8xbf16>
}

// -----

deepseek.weight @concat_c1_shape : tensor<8x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.concat' op expects inputs like the result except along axis 1, but got 'tensor<4x8xbf16>' and 'tensor<8x8xbf16>'}}
  %1 = deepseek.concat %0, %0 axis 1 : (tensor<4x8xbf16>, tensor<4x8xbf16>) -> tensor<8x8xbf16>
  deepseek.yield %1 : tensor<8x8xbf16>
}

// -----

deepseek.weight @concat_c1_sum : tensor<9x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.concat' op expects 8 along axis 0, but got 'tensor<9x8xbf16>'}}
  %1 = deepseek.concat %0, %0 axis 0 : (tensor<4x8xbf16>, tensor<4x8xbf16>) -> tensor<9x8xbf16>
  deepseek.yield %1 : tensor<9x8xbf16>
}

// -----

deepseek.weight @slice_c1 : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.slice' op expects axis within rank 2, but got 2}}
  %1 = deepseek.slice %0 axis 2 from 0 to 1 : tensor<4x8xbf16> -> tensor<4x8xbf16>
  deepseek.yield %1 : tensor<4x8xbf16>
}

// -----

deepseek.weight @slice_c1_bounds : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.slice' op expects 0 <= begin < end <= 8, but got 0 and 9}}
  %1 = deepseek.slice %0 axis 1 from 0 to 9 : tensor<4x8xbf16> -> tensor<4x8xbf16>
  deepseek.yield %1 : tensor<4x8xbf16>
}

// -----

deepseek.weight @slice_c1_empty : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.slice' op expects 0 <= begin < end <= 8, but got 3 and 3}}
  %1 = deepseek.slice %0 axis 1 from 3 to 3 : tensor<4x8xbf16> -> tensor<4x8xbf16>
  deepseek.yield %1 : tensor<4x8xbf16>
}

// -----

deepseek.weight @slice_c1_result : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.slice' op expects result 'tensor<4x4xbf16>', but got 'tensor<4x8xbf16>'}}
  %1 = deepseek.slice %0 axis 1 from 0 to 4 : tensor<4x8xbf16> -> tensor<4x8xbf16>
  deepseek.yield %1 : tensor<4x8xbf16>
}

// -----

deepseek.weight @reshape_c1 : tensor<33xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.reshape' op expects as many elements, of one type, but got 'tensor<4x8xbf16>' and 'tensor<33xbf16>'}}
  %1 = deepseek.reshape %0 : tensor<4x8xbf16> -> tensor<33xbf16>
  deepseek.yield %1 : tensor<33xbf16>
}

// -----

deepseek.weight @transpose_c1 : tensor<8x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.transpose' op expects a permutation from 'tensor<4x8xbf16>' to 'tensor<8x8xbf16>', but got [1, 1]}}
  %1 = deepseek.transpose %0 [1, 1] : tensor<4x8xbf16> -> tensor<8x8xbf16>
  deepseek.yield %1 : tensor<8x8xbf16>
}

// -----

deepseek.weight @transpose_c1_shape : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.transpose' op expects a permutation from 'tensor<4x8xbf16>' to 'tensor<4x8xbf16>', but got [1, 0]}}
  %1 = deepseek.transpose %0 [1, 0] : tensor<4x8xbf16> -> tensor<4x8xbf16>
  deepseek.yield %1 : tensor<4x8xbf16>
}

// -----

deepseek.weight @convert_c1 : tensor<8x4xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.convert' op expects a result of shape 4x8, but got 'tensor<8x4xbf16>'}}
  %1 = deepseek.convert %0 : tensor<4x8xbf16> to tensor<8x4xbf16>
  deepseek.yield %1 : tensor<8x4xbf16>
}

// -----

deepseek.weight @dequantize_c1 : tensor<256x130xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<256x130xf8E4M3FN>
  %1 = deepseek.source "s" in [] at [] : tensor<2x2xf32>
  // expected-error @below {{'deepseek.dequantize' op expects positive block sizes, but got 0 and 128}}
  %2 = deepseek.dequantize %0, %1 block 0 x 128 : tensor<256x130xf8E4M3FN>, tensor<2x2xf32> -> tensor<256x130xf32>
  deepseek.yield %2 : tensor<256x130xf32>
}

// -----

deepseek.weight @dequantize_c2 : tensor<256x130xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<256x130xf8E4M3FN>
  %1 = deepseek.source "s" in [] at [] : tensor<2x1xf32>
  // expected-error @below {{'deepseek.dequantize' op expects scales of shape 2x2, but got 'tensor<2x1xf32>'}}
  %2 = deepseek.dequantize %0, %1 block 128 x 128 : tensor<256x130xf8E4M3FN>, tensor<2x1xf32> -> tensor<256x130xf32>
  deepseek.yield %2 : tensor<256x130xf32>
}

// -----

deepseek.weight @dequantize_c3 : tensor<256x130xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<256x130xf8E4M3FN>
  %1 = deepseek.source "s" in [] at [] : tensor<4x3xf32>
  // expected-error @below {{'deepseek.dequantize' op expects blocks of 128 x 128, but got 64 x 64}}
  %2 = deepseek.dequantize %0, %1 block 64 x 64 : tensor<256x130xf8E4M3FN>, tensor<4x3xf32> -> tensor<256x130xf32>
  deepseek.yield %2 : tensor<256x130xf32>
}

// -----

deepseek.weight @dequantize_gguf_c1_bytes : tensor<4x32xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x17xi8>
  // expected-error @below {{'deepseek.dequantize_gguf' op expects rows of a multiple of 18 bytes for q4_0, but got 'tensor<4x17xi8>'}}
  %1 = deepseek.dequantize_gguf q4_0 %0 : tensor<4x17xi8> -> tensor<4x32xf32>
  deepseek.yield %1 : tensor<4x32xf32>
}

// -----

deepseek.weight @dequantize_gguf_c1_numbers : tensor<4x64xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x18xi8>
  // expected-error @below {{'deepseek.dequantize_gguf' op expects a result of shape 4x32, but got 'tensor<4x64xf32>'}}
  %1 = deepseek.dequantize_gguf q4_0 %0 : tensor<4x18xi8> -> tensor<4x64xf32>
  deepseek.yield %1 : tensor<4x64xf32>
}

// -----

deepseek.weight @dequantize_gguf_c2 : tensor<3x256xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x144xi8>
  // expected-error @below {{'deepseek.dequantize_gguf' op expects a result of shape 4x256, but got 'tensor<3x256xf32>'}}
  %1 = deepseek.dequantize_gguf q4_k %0 : tensor<4x144xi8> -> tensor<3x256xf32>
  deepseek.yield %1 : tensor<3x256xf32>
}

// -----

deepseek.weight @rotary_table_c1 : tensor<64x4xf32> {
  // expected-error @below {{'deepseek.rotary_table' op expects a result of shape ?x8, but got 'tensor<64x4xf32>'}}
  %0 = deepseek.rotary_table <dim = 8, theta = 1.0e4 : f64, layout = half_split> : tensor<64x4xf32>
  deepseek.yield %0 : tensor<64x4xf32>
}

// -----

deepseek.weight @pack_c1 : tensor<4x8xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x8xbf16>
  // expected-error @below {{'deepseek.pack' op expects the input's type with a tiled encoding, but got 'tensor<4x8xbf16>' and 'tensor<4x8xbf16>'}}
  %1 = deepseek.pack %0 : tensor<4x8xbf16> to tensor<4x8xbf16>
  deepseek.yield %1 : tensor<4x8xbf16>
}

// -----

func.func @embed_c1(%t: tensor<?xi32>, %w: tensor<40x16xf32>) {
  // expected-error @below {{'deepseek.embed' op expects a result of shape ?x16, but got 'tensor<?x8xf32>'}}
  %0 = deepseek.embed %t, %w : tensor<?xi32>, tensor<40x16xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @rms_norm_c1(%x: tensor<?x16xf32>, %w: tensor<8xf32>) {
  // expected-error @below {{'deepseek.rms_norm' op expects weight of shape 16, but got 'tensor<8xf32>'}}
  %0 = deepseek.rms_norm %x, %w epsilon 1.0e-6 : tensor<?x16xf32>, tensor<8xf32>
  return
}

// -----

func.func @rms_norm_c2(%x: tensor<?x16xf32>, %w: tensor<16xf32>) {
  // expected-error @below {{'deepseek.rms_norm' op expects epsilon > 0, but got 0.000000e+00 : f32}}
  %0 = deepseek.rms_norm %x, %w epsilon 0.0 : tensor<?x16xf32>, tensor<16xf32>
  return
}

// -----

func.func @rms_norm_c2_nan(%x: tensor<?x16xf32>, %w: tensor<16xf32>) {
  // expected-error @below {{'deepseek.rms_norm' op expects epsilon > 0, but got 0x7FC00000 : f32}}
  %0 = deepseek.rms_norm %x, %w epsilon 0x7FC00000 : tensor<?x16xf32>, tensor<16xf32>
  return
}

// -----

func.func @linear_c1(%x: tensor<?x16xf32>, %w: tensor<24x8xf32>) {
  // expected-error @below {{'deepseek.linear' op expects weight and input to agree in k, but got 'tensor<24x8xf32>' and 'tensor<?x16xf32>'}}
  %0 = deepseek.linear %x, %w : tensor<?x16xf32>, tensor<24x8xf32> -> tensor<?x24xf32>
  return
}

// -----

func.func @linear_c1_result(%x: tensor<?x16xf32>, %w: tensor<24x16xf32>) {
  // expected-error @below {{'deepseek.linear' op expects a result of shape ?x24, but got 'tensor<?x16xf32>'}}
  %0 = deepseek.linear %x, %w : tensor<?x16xf32>, tensor<24x16xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @linear_c2(%x: tensor<?x16xf32>, %w: tensor<24x16xf32>, %b: tensor<16xf32>) {
  // expected-error @below {{'deepseek.linear' op expects bias of shape 24, but got 'tensor<16xf32>'}}
  %0 = deepseek.linear %x, %w bias %b : tensor<16xf32> : tensor<?x16xf32>, tensor<24x16xf32> -> tensor<?x24xf32>
  return
}

// -----

func.func @linear_c3(%x: tensor<?x16xf32>, %w: tensor<24x16xf8E4M3FN>) {
  // expected-error @below {{'deepseek.linear' op expects scales with an FP8 or integer weight and only then, but got none with 'tensor<24x16xf8E4M3FN>'}}
  %0 = deepseek.linear %x, %w : tensor<?x16xf32>, tensor<24x16xf8E4M3FN> -> tensor<?x24xf32>
  return
}

// -----

func.func @linear_c3_not_fp8(%x: tensor<?x16xf32>, %w: tensor<24x16xf32>, %s: tensor<1x1xf32>) {
  // expected-error @below {{'deepseek.linear' op expects scales with an FP8 or integer weight and only then, but got some with 'tensor<24x16xf32>'}}
  %0 = deepseek.linear %x, %w scales %s : tensor<1x1xf32> : tensor<?x16xf32>, tensor<24x16xf32> -> tensor<?x24xf32>
  return
}

// -----

func.func @linear_c3_shape(%x: tensor<?x16xf32>, %w: tensor<130x16xf8E4M3FN>, %s: tensor<1x1xf32>) {
  // expected-error @below {{'deepseek.linear' op expects scales of shape 2x1, but got 'tensor<1x1xf32>'}}
  %0 = deepseek.linear %x, %w scales %s : tensor<1x1xf32> : tensor<?x16xf32>, tensor<130x16xf8E4M3FN> -> tensor<?x130xf32>
  return
}

// -----

func.func @adapt_c1(%y: tensor<?x24xf32>, %x: tensor<?x16xf32>, %a: tensor<2x4x16xf32>, %b: tensor<2x3x24xf32>, %s: tensor<?xi32>) {
  // expected-error @below {{'deepseek.adapt' op expects [adapters, r, 16] and [adapters, r, 24] in f32, but got 'tensor<2x4x16xf32>' and 'tensor<2x3x24xf32>'}}
  %0 = deepseek.adapt %y, %x, %a, %b of %s : tensor<?x24xf32>, tensor<?x16xf32>, tensor<2x4x16xf32>, tensor<2x3x24xf32>, tensor<?xi32>
  return
}

// -----

deepseek.weight @stack_rows_c1 : tensor<2x4x8xf32> {
  %0 = deepseek.source "x" in [] at [] : tensor<5x8xf32>
  // expected-error @below {{'deepseek.stack_rows' op expects inputs of at most 4 rows of 8, but got 'tensor<5x8xf32>'}}
  %1 = deepseek.stack_rows (%0) at [0] times [1.0] : (tensor<5x8xf32>) -> tensor<2x4x8xf32>
  deepseek.yield %1 : tensor<2x4x8xf32>
}

// -----

deepseek.weight @stack_rows_c2 : tensor<2x4x8xf32> {
  %0 = deepseek.source "x" in [] at [] : tensor<4x8xf32>
  // expected-error @below {{'deepseek.stack_rows' op expects ascending indices in [0, 2), but got 2 after -1}}
  %1 = deepseek.stack_rows (%0) at [2] times [1.0] : (tensor<4x8xf32>) -> tensor<2x4x8xf32>
  deepseek.yield %1 : tensor<2x4x8xf32>
}

// -----

deepseek.weight @stack_rows_c2_scales : tensor<2x4x8xf32> {
  %0 = deepseek.source "x" in [] at [] : tensor<4x8xf32>
  // expected-error @below {{'deepseek.stack_rows' op expects an index and a scale for each of 1 inputs, but got 1 and 2}}
  %1 = deepseek.stack_rows (%0) at [0] times [1.0, 2.0] : (tensor<4x8xf32>) -> tensor<2x4x8xf32>
  deepseek.yield %1 : tensor<2x4x8xf32>
}

// -----

deepseek.weight @w : tensor<6x8xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<6x8xf32>
  deepseek.yield %0 : tensor<6x8xf32>
}
deepseek.weight @a : tensor<2x4x8xf32> {
  %0 = deepseek.stack_rows () at [] times [] : () -> tensor<2x4x8xf32>
  deepseek.yield %0 : tensor<2x4x8xf32>
}
// expected-error @below {{'deepseek.adapters' op expects [adapters, r, 8] and [adapters, r, 6] in f32, but got 'tensor<2x4x8xf32>' and 'tensor<2x4x8xf32>'}}
deepseek.adapters @w down @a up @a

// -----

// expected-error @below {{'deepseek.adapters' op expects @none to be a weight}}
deepseek.adapters @none down @none up @none

// -----

func.func @head_linear_c1(%x: tensor<?x16xf32>, %w: tensor<3x4x5xf32>) {
  // expected-error @below {{'deepseek.head_linear' op expects 3 heads of at least 5 columns, but got 'tensor<?x16xf32>'}}
  %0 = deepseek.head_linear %x, %w : tensor<?x16xf32>, tensor<3x4x5xf32> -> tensor<?x12xf32>
  return
}

// -----

func.func @head_linear_c1_stride(%x: tensor<?x16xf32>, %w: tensor<2x4x9xf32>) {
  // expected-error @below {{'deepseek.head_linear' op expects 2 heads of at least 9 columns, but got 'tensor<?x16xf32>'}}
  %0 = deepseek.head_linear %x, %w : tensor<?x16xf32>, tensor<2x4x9xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @head_linear_c1_no_heads(%x: tensor<?x16xf32>, %w: tensor<0x4x5xf32>) {
  // expected-error @below {{'deepseek.head_linear' op expects 0 heads of at least 5 columns, but got 'tensor<?x16xf32>'}}
  %0 = deepseek.head_linear %x, %w : tensor<?x16xf32>, tensor<0x4x5xf32> -> tensor<?x0xf32>
  return
}

// -----

func.func @head_linear_c1_result(%x: tensor<?x16xf32>, %w: tensor<2x4x6xf32>) {
  // expected-error @below {{'deepseek.head_linear' op expects a result of shape ?x8, but got 'tensor<?x12xf32>'}}
  %0 = deepseek.head_linear %x, %w : tensor<?x16xf32>, tensor<2x4x6xf32> -> tensor<?x12xf32>
  return
}

// -----

func.func @head_linear_c2(%x: tensor<?x64xf32>, %w: tensor<2x64x32xi4>) {
  // expected-error @below {{'deepseek.head_linear' op expects scales with an FP8 or integer weight and only then, but got none with 'tensor<2x64x32xi4>'}}
  %0 = deepseek.head_linear %x, %w : tensor<?x64xf32>, tensor<2x64x32xi4> -> tensor<?x128xf32>
  return
}

// -----

func.func @head_linear_c2_shape(%x: tensor<?x64xf32>, %w: tensor<2x64x32xi4>, %s: tensor<2x2x16xf16>) {
  // expected-error @below {{'deepseek.head_linear' op expects scales of shape 2x2x32, but got 'tensor<2x2x16xf16>'}}
  %0 = deepseek.head_linear %x, %w scales %s : tensor<2x2x16xf16> : tensor<?x64xf32>, tensor<2x64x32xi4> -> tensor<?x128xf32>
  return
}

// -----

func.func @head_linear_c2_groups(%x: tensor<?x64xf32>, %w: tensor<2x64x32xi4>, %s: tensor<2x3x32xf16>) {
  // expected-error @below {{'deepseek.head_linear' op expects scales of groups that divide 64 columns, but got 'tensor<2x3x32xf16>'}}
  %0 = deepseek.head_linear %x, %w scales %s : tensor<2x3x32xf16> : tensor<?x64xf32>, tensor<2x64x32xi4> -> tensor<?x128xf32>
  return
}

// -----

func.func @head_linear_c2_offsets(%x: tensor<?x64xf32>, %w: tensor<2x64x32xui4>, %s: tensor<2x2x32xf16>, %o: tensor<2x64x1xf16>) {
  // expected-error @below {{'deepseek.head_linear' op expects offsets of shape 2x2x32, but got 'tensor<2x64x1xf16>'}}
  %0 = deepseek.head_linear %x, %w scales %s : tensor<2x2x32xf16> offsets %o : tensor<2x64x1xf16> : tensor<?x64xf32>, tensor<2x64x32xui4> -> tensor<?x128xf32>
  return
}

// -----

func.func @split_c1(%x: tensor<?x16xf32>) {
  // expected-error @below {{'deepseek.split' op expects parts of 16 columns in all, but got 12}}
  %0:2 = deepseek.split %x : tensor<?x16xf32> -> tensor<?x8xf32>, tensor<?x4xf32>
  return
}

// -----

func.func @rotary_c1(%x: tensor<?x16xf32>, %p: tensor<?xi32>) {
  // expected-error @below {{'deepseek.rotary' op expects heads that divide 16 columns into at least 8, but got 3}}
  %0 = deepseek.rotary %x, %p heads 3 by <dim = 8, theta = 1.0e4 : f64, layout = half_split> : tensor<?x16xf32>, tensor<?xi32>
  return
}

// -----

func.func @rotary_c1_narrow(%x: tensor<?x16xf32>, %p: tensor<?xi32>) {
  // expected-error @below {{'deepseek.rotary' op expects heads that divide 16 columns into at least 8, but got 4}}
  %0 = deepseek.rotary %x, %p heads 4 by <dim = 8, theta = 1.0e4 : f64, layout = half_split> : tensor<?x16xf32>, tensor<?xi32>
  return
}

// -----

func.func @rotary_c2(%x: tensor<?x16xf32>, %p: tensor<?xi32>) {
  // expected-error @below {{'deepseek.rotary' op expects layout half_split where heads rotate in full (2 heads of 8), but got interleaved}}
  %0 = deepseek.rotary %x, %p heads 2 by <dim = 8, theta = 1.0e4 : f64, layout = interleaved> : tensor<?x16xf32>, tensor<?xi32>
  return
}

// -----

func.func @rotary_c3(%x: tensor<?x16xf32>, %p: tensor<?xi32>) {
  // expected-error @below {{'deepseek.rotary' op expects layout interleaved where heads rotate in part (8 of 16), but got half_split}}
  %0 = deepseek.rotary %x, %p heads 1 by <dim = 8, theta = 1.0e4 : f64, layout = half_split> : tensor<?x16xf32>, tensor<?xi32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @attention_c1(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %v: tensor<?x12xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.attention' op expects a cache of kind heads, but got '!deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>'}}
  %0 = deepseek.attention %q, %k, %v at %p of %s in %cache[%layer] heads 4 scale 1.0 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, !cache -> tensor<?x24xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>

func.func @attention_c1_query(%q: tensor<?x24xf32>, %k: tensor<?x16xf32>, %v: tensor<?x12xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.attention' op expects query of shape ?x32, but got 'tensor<?x24xf32>'}}
  %0 = deepseek.attention %q, %k, %v at %p of %s in %cache[%layer] heads 4 scale 1.0 : tensor<?x24xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, !cache -> tensor<?x24xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>

func.func @attention_c1_key(%q: tensor<?x32xf32>, %k: tensor<?x24xf32>, %v: tensor<?x12xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.attention' op expects key of shape ?x16, but got 'tensor<?x24xf32>'}}
  %0 = deepseek.attention %q, %k, %v at %p of %s in %cache[%layer] heads 4 scale 1.0 : tensor<?x32xf32>, tensor<?x24xf32>, tensor<?x12xf32>, tensor<?xi32>, !cache -> tensor<?x24xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>

func.func @attention_c1_value(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %v: tensor<?x16xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.attention' op expects value of shape ?x12, but got 'tensor<?x16xf32>'}}
  %0 = deepseek.attention %q, %k, %v at %p of %s in %cache[%layer] heads 4 scale 1.0 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, !cache -> tensor<?x24xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>

func.func @attention_c1_result(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %v: tensor<?x12xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.attention' op expects a result of shape ?x24, but got 'tensor<?x32xf32>'}}
  %0 = deepseek.attention %q, %k, %v at %p of %s in %cache[%layer] heads 4 scale 1.0 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, !cache -> tensor<?x32xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>

func.func @attention_c2(%q: tensor<?x24xf32>, %k: tensor<?x16xf32>, %v: tensor<?x12xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.attention' op expects heads to be a multiple of the cache's 2, but got 3}}
  %0 = deepseek.attention %q, %k, %v at %p of %s in %cache[%layer] heads 3 scale 1.0 : tensor<?x24xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, !cache -> tensor<?x18xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>

func.func @attention_c3(%q: tensor<?x32xf32>, %k: tensor<?x16xf32>, %v: tensor<?x12xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.attention' op expects scale > 0, but got 0.000000e+00 : f64}}
  %0 = deepseek.attention %q, %k, %v at %p of %s in %cache[%layer] heads 4 scale 0.0 : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x12xf32>, tensor<?xi32>, !cache -> tensor<?x24xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>

func.func @latent_attention_c1(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.latent_attention' op expects a cache of kind latent, but got '!deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>'}}
  %0 = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 1.0 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @latent_attention_c1_heads(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.latent_attention' op expects heads that divide query and result, but got 3, 'tensor<?x20xf32>' and 'tensor<?x10xf32>'}}
  %0 = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 3 scale 1.0 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @latent_attention_c1_query(%q: tensor<?x8xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.latent_attention' op expects query heads wider than the rotary part, 4, but got 4}}
  %0 = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 1.0 : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @latent_attention_c1_latent(%q: tensor<?x20xf32>, %c: tensor<?x4xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.latent_attention' op expects latent of shape ?x8, but got 'tensor<?x4xf32>'}}
  %0 = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 1.0 : tensor<?x20xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @latent_attention_c1_rope_key(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x8xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.latent_attention' op expects rope_key of shape ?x4, but got 'tensor<?x8xf32>'}}
  %0 = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 1.0 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x8xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @latent_attention_c1_kv_b(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<20x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.latent_attention' op expects kv_b of shape 22x8, but got 'tensor<20x8xbf16>'}}
  %0 = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 1.0 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<20x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @latent_attention_c2(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.latent_attention' op expects scale > 0, but got -1.000000e+00 : f64}}
  %0 = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale -1.0 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>

func.func @absorbed_attention_c1(%q: tensor<?x16xf32>, %rq: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.absorbed_attention' op expects a cache of kind latent, but got '!deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 8, value_dim = 6, element = f32>'}}
  %0 = deepseek.absorbed_attention %q, %rq, %c, %r at %p of %s in %cache[%layer] heads 2 scale 1.0 : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, !cache -> tensor<?x16xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @absorbed_attention_c1_rope_query(%q: tensor<?x16xf32>, %rq: tensor<?x6xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.absorbed_attention' op expects heads of rope_query of at least 4 columns, but got 'tensor<?x6xf32>'}}
  %0 = deepseek.absorbed_attention %q, %rq, %c, %r at %p of %s in %cache[%layer] heads 2 scale 1.0 : tensor<?x16xf32>, tensor<?x6xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, !cache -> tensor<?x16xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @absorbed_attention_c1_query(%q: tensor<?x20xf32>, %rq: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.absorbed_attention' op expects query of shape ?x16, but got 'tensor<?x20xf32>'}}
  %0 = deepseek.absorbed_attention %q, %rq, %c, %r at %p of %s in %cache[%layer] heads 2 scale 1.0 : tensor<?x20xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, !cache -> tensor<?x16xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @absorbed_attention_c1_latent(%q: tensor<?x16xf32>, %rq: tensor<?x20xf32>, %c: tensor<?x4xf32>, %r: tensor<?x4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.absorbed_attention' op expects latent of shape ?x8, but got 'tensor<?x4xf32>'}}
  %0 = deepseek.absorbed_attention %q, %rq, %c, %r at %p of %s in %cache[%layer] heads 2 scale 1.0 : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi32>, !cache -> tensor<?x16xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @absorbed_attention_c1_rope_key(%q: tensor<?x16xf32>, %rq: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.absorbed_attention' op expects rope_key of shape ?x4, but got 'tensor<?x8xf32>'}}
  %0 = deepseek.absorbed_attention %q, %rq, %c, %r at %p of %s in %cache[%layer] heads 2 scale 1.0 : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x8xf32>, tensor<?xi32>, !cache -> tensor<?x16xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @absorbed_attention_c1_result(%q: tensor<?x16xf32>, %rq: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.absorbed_attention' op expects a result of shape ?x16, but got 'tensor<?x10xf32>'}}
  %0 = deepseek.absorbed_attention %q, %rq, %c, %r at %p of %s in %cache[%layer] heads 2 scale 1.0 : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @absorbed_attention_c2(%q: tensor<?x16xf32>, %rq: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.absorbed_attention' op expects scale > 0, but got 0.000000e+00 : f64}}
  %0 = deepseek.absorbed_attention %q, %rq, %c, %r at %p of %s in %cache[%layer] heads 2 scale 0.0 : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, !cache -> tensor<?x16xf32>
  return
}

// -----

func.func @swiglu_types(%x: tensor<?x16xf32>, %y: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.swiglu' op requires the same type for all operands and results}}
  %0 = "deepseek.swiglu"(%x, %y) : (tensor<?x16xf32>, tensor<?x8xf32>) -> tensor<?x16xf32>
  return
}

// -----

func.func @add_types(%x: tensor<?x16xf32>, %y: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.add' op requires the same type for all operands and results}}
  %0 = "deepseek.add"(%x, %y) : (tensor<?x16xf32>, tensor<?x8xf32>) -> tensor<?x16xf32>
  return
}

// -----

func.func @router_c6(%l: tensor<?x8xf32>, %m: tensor<4xi32>) {
  // expected-error @below {{'deepseek.router' op expects map of shape 8, but got 'tensor<4xi32>'}}
  %0:2 = deepseek.router %l map %m : tensor<4xi32> by <scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @router_c1(%l: tensor<?x16xf32>) {
  // expected-error @below {{'deepseek.router' op expects logits of shape ?x8, but got 'tensor<?x16xf32>'}}
  %0:2 = deepseek.router %l by <scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64> : tensor<?x16xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @router_c1_experts(%l: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.router' op expects experts of shape ?x2, but got 'tensor<?x3xi32>'}}
  %0:2 = deepseek.router %l by <scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64> : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @router_c1_weights(%l: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.router' op expects weights of shape ?x2, but got 'tensor<?x3xf32>'}}
  %0:2 = deepseek.router %l by <scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x3xf32>
  return
}

// -----

func.func @router_c2(%l: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.router' op expects a bias with noaux_tc and only then, but got none with noaux_tc}}
  %0:2 = deepseek.router %l by <scoring = sigmoid, method = noaux_tc, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @router_c2_greedy(%l: tensor<?x8xf32>, %b: tensor<8xf32>) {
  // expected-error @below {{'deepseek.router' op expects a bias with noaux_tc and only then, but got one with greedy}}
  %0:2 = deepseek.router %l bias %b : tensor<8xf32> by <scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @router_c2_shape(%l: tensor<?x8xf32>, %b: tensor<4xf32>) {
  // expected-error @below {{'deepseek.router' op expects bias of shape 8, but got 'tensor<4xf32>'}}
  %0:2 = deepseek.router %l bias %b : tensor<4xf32> by <scoring = sigmoid, method = noaux_tc, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @router_c3(%l: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.router' op expects softmax with greedy or group_limited_greedy, or sigmoid or sqrt_softplus with noaux_tc, but got sigmoid with greedy}}
  %0:2 = deepseek.router %l by <scoring = sigmoid, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @router_c3_noaux_tc(%l: tensor<?x8xf32>, %b: tensor<8xf32>) {
  // expected-error @below {{'deepseek.router' op expects softmax with greedy or group_limited_greedy, or sigmoid or sqrt_softplus with noaux_tc, but got softmax with noaux_tc}}
  %0:2 = deepseek.router %l bias %b : tensor<8xf32> by <scoring = softmax, method = noaux_tc, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @router_c4_normalizes(%l: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.router' op expects no renormalize_from with a rule that normalizes, but got 3}}
  %0:2 = deepseek.router %l by <scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = true, scale = 1.0 : f64> renormalize_from 3 : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @router_c4_less(%l: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.router' op expects renormalize_from above top_k, 2, and at most 8, but got 2}}
  %0:2 = deepseek.router %l by <scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64> renormalize_from 2 : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @router_c4_more(%l: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.router' op expects renormalize_from above top_k, 2, and at most 8, but got 9}}
  %0:2 = deepseek.router %l by <scoring = softmax, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = false, scale = 1.0 : f64> renormalize_from 9 : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

deepseek.weight @importance_rank : tensor<2xf32> {
  %w = deepseek.source "w" in [] at [] : tensor<4x4xf32>
  %m = deepseek.source "m" in [] at [] : tensor<4xf32>
  // expected-error @below {{'deepseek.importance' op expects a matrix or a stack of them}}
  %0 = deepseek.importance %m group 2 : tensor<4xf32> -> tensor<2xf32>
  deepseek.yield %0 : tensor<2xf32>
}

// -----

deepseek.weight @importance_c1 : tensor<2xf32> {
  %w = deepseek.source "w" in [] at [] : tensor<4x4xf32>
  %m = deepseek.source "m" in [] at [] : tensor<4xf32>
  // expected-error @below {{'deepseek.importance' op expects a moment of 4 channels, but got 'tensor<4x4xf32>'}}
  %0 = deepseek.importance %w moment %w : tensor<4x4xf32> group 2 : tensor<4x4xf32> -> tensor<2xf32>
  deepseek.yield %0 : tensor<2xf32>
}

// -----

deepseek.weight @importance_c2 : tensor<1xf32> {
  %w = deepseek.source "w" in [] at [] : tensor<4x4xf32>
  %m = deepseek.source "m" in [] at [] : tensor<4xf32>
  // expected-error @below {{'deepseek.importance' op expects a group that divides 4 channels, but got 3}}
  %0 = deepseek.importance %w group 3 : tensor<4x4xf32> -> tensor<1xf32>
  deepseek.yield %0 : tensor<1xf32>
}

// -----

deepseek.weight @importance_c2_result : tensor<4xf32> {
  %w = deepseek.source "w" in [] at [] : tensor<4x4xf32>
  %m = deepseek.source "m" in [] at [] : tensor<4xf32>
  // expected-error @below {{'deepseek.importance' op expects a result of shape 2, but got}}
  %0 = deepseek.importance %w group 2 : tensor<4x4xf32> -> tensor<4xf32>
  deepseek.yield %0 : tensor<4xf32>
}

// -----

deepseek.weight @rank_c1 : tensor<4xi32> {
  %m = deepseek.source "m" in [] at [] : tensor<8xf32>
  // expected-error @below {{'deepseek.rank' op expects a result of shape 8, but got 'tensor<4xi32>'}}
  %0 = deepseek.rank %m : tensor<8xf32> -> tensor<4xi32>
  deepseek.yield %0 : tensor<4xi32>
}

// -----

deepseek.weight @merge_experts_rank : tensor<2x8x16xf32> {
  %g = deepseek.source "g" in [] at [] : tensor<4x8x16xf32>
  %d = deepseek.source "d" in [] at [] : tensor<4x16x8xf32>
  %h = deepseek.source "h" in [] at [] : tensor<4x16x8xf16>
  %m = deepseek.source "m" in [] at [] : tensor<8x4xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8xf32>
  // expected-error @below {{'deepseek.merge_experts' op expects a stack of matrices, but got 'tensor<8x4xf32>'}}
  %0 = deepseek.merge_experts gate of %m, %g, %d keep 2 : tensor<8x4xf32>, tensor<4x8x16xf32>, tensor<4x16x8xf32> -> tensor<2x8x16xf32>
  deepseek.yield %0 : tensor<2x8x16xf32>
}

// -----

deepseek.weight @merge_experts_c1 : tensor<2x8x16xf32> {
  %g = deepseek.source "g" in [] at [] : tensor<4x8x16xf32>
  %d = deepseek.source "d" in [] at [] : tensor<4x16x8xf32>
  %h = deepseek.source "h" in [] at [] : tensor<4x16x8xf16>
  %m = deepseek.source "m" in [] at [] : tensor<8x4xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8xf32>
  // expected-error @below {{'deepseek.merge_experts' op expects up of shape 4x8x16, but got 'tensor<4x16x8xf32>'}}
  %0 = deepseek.merge_experts gate of %g, %d, %d keep 2 : tensor<4x8x16xf32>, tensor<4x16x8xf32>, tensor<4x16x8xf32> -> tensor<2x8x16xf32>
  deepseek.yield %0 : tensor<2x8x16xf32>
}

// -----

deepseek.weight @merge_experts_c1_types : tensor<2x8x16xf32> {
  %g = deepseek.source "g" in [] at [] : tensor<4x8x16xf32>
  %d = deepseek.source "d" in [] at [] : tensor<4x16x8xf32>
  %h = deepseek.source "h" in [] at [] : tensor<4x16x8xf16>
  %m = deepseek.source "m" in [] at [] : tensor<8x4xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8xf32>
  // expected-error @below {{'deepseek.merge_experts' op expects equal element types, but got}}
  %0 = deepseek.merge_experts gate of %g, %g, %h keep 2 : tensor<4x8x16xf32>, tensor<4x8x16xf32>, tensor<4x16x8xf16> -> tensor<2x8x16xf32>
  deepseek.yield %0 : tensor<2x8x16xf32>
}

// -----

deepseek.weight @merge_experts_c2_mass : tensor<2x8x16xf32> {
  %g = deepseek.source "g" in [] at [] : tensor<4x8x16xf32>
  %d = deepseek.source "d" in [] at [] : tensor<4x16x8xf32>
  %h = deepseek.source "h" in [] at [] : tensor<4x16x8xf16>
  %m = deepseek.source "m" in [] at [] : tensor<8x4xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8xf32>
  // expected-error @below {{'deepseek.merge_experts' op expects mass of shape 4, but got 'tensor<8xf32>'}}
  %0 = deepseek.merge_experts gate of %g, %g, %d mass %v : tensor<8xf32> keep 2 : tensor<4x8x16xf32>, tensor<4x8x16xf32>, tensor<4x16x8xf32> -> tensor<2x8x16xf32>
  deepseek.yield %0 : tensor<2x8x16xf32>
}

// -----

deepseek.weight @merge_experts_c2_moment : tensor<2x8x16xf32> {
  %g = deepseek.source "g" in [] at [] : tensor<4x8x16xf32>
  %d = deepseek.source "d" in [] at [] : tensor<4x16x8xf32>
  %h = deepseek.source "h" in [] at [] : tensor<4x16x8xf16>
  %m = deepseek.source "m" in [] at [] : tensor<8x4xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8xf32>
  // expected-error @below {{'deepseek.merge_experts' op expects moment of shape 4x16, but got 'tensor<8x4xf32>'}}
  %0 = deepseek.merge_experts gate of %g, %g, %d moment %m : tensor<8x4xf32> keep 2 : tensor<4x8x16xf32>, tensor<4x8x16xf32>, tensor<4x16x8xf32> -> tensor<2x8x16xf32>
  deepseek.yield %0 : tensor<2x8x16xf32>
}

// -----

deepseek.weight @merge_experts_c3 : tensor<5x8x16xf32> {
  %g = deepseek.source "g" in [] at [] : tensor<4x8x16xf32>
  %d = deepseek.source "d" in [] at [] : tensor<4x16x8xf32>
  %h = deepseek.source "h" in [] at [] : tensor<4x16x8xf16>
  %m = deepseek.source "m" in [] at [] : tensor<8x4xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8xf32>
  // expected-error @below {{'deepseek.merge_experts' op expects to keep 1 to 4 experts, but got 5}}
  %0 = deepseek.merge_experts gate of %g, %g, %d keep 5 : tensor<4x8x16xf32>, tensor<4x8x16xf32>, tensor<4x16x8xf32> -> tensor<5x8x16xf32>
  deepseek.yield %0 : tensor<5x8x16xf32>
}

// -----

deepseek.weight @merge_experts_c3_map : tensor<4xf32> {
  %g = deepseek.source "g" in [] at [] : tensor<4x8x16xf32>
  %d = deepseek.source "d" in [] at [] : tensor<4x16x8xf32>
  %h = deepseek.source "h" in [] at [] : tensor<4x16x8xf16>
  %m = deepseek.source "m" in [] at [] : tensor<8x4xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8xf32>
  // expected-error @below {{'deepseek.merge_experts' op expects elements of 'i32', but got 'tensor<4xf32>'}}
  %0 = deepseek.merge_experts map of %g, %g, %d keep 2 : tensor<4x8x16xf32>, tensor<4x8x16xf32>, tensor<4x16x8xf32> -> tensor<4xf32>
  deepseek.yield %0 : tensor<4xf32>
}

// -----

deepseek.weight @merge_experts_c3_result : tensor<2x8x16xf32> {
  %g = deepseek.source "g" in [] at [] : tensor<4x8x16xf32>
  %d = deepseek.source "d" in [] at [] : tensor<4x16x8xf32>
  %h = deepseek.source "h" in [] at [] : tensor<4x16x8xf16>
  %m = deepseek.source "m" in [] at [] : tensor<8x4xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8xf32>
  // expected-error @below {{'deepseek.merge_experts' op expects a result of shape 2x16x8, but got 'tensor<2x8x16xf32>'}}
  %0 = deepseek.merge_experts down of %g, %g, %d keep 2 : tensor<4x8x16xf32>, tensor<4x8x16xf32>, tensor<4x16x8xf32> -> tensor<2x8x16xf32>
  deepseek.yield %0 : tensor<2x8x16xf32>
}

// -----

deepseek.weight @channel_scales_c1 : tensor<8xf32> {
  %m = deepseek.source "m" in [] at [] : tensor<8xf32>
  %w = deepseek.source "w" in [] at [] : tensor<4x8xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8x4xf32>
  // expected-error @below {{'deepseek.channel_scales' op expects weights that read the channels of 'tensor<8xf32>', but got 'tensor<8x4xf32>'}}
  %0 = deepseek.channel_scales of %v by %m strength 0.5 : (tensor<8xf32>, tensor<8x4xf32>) -> tensor<8xf32>
  deepseek.yield %m : tensor<8xf32>
}

// -----

deepseek.weight @channel_scales_c1_result : tensor<8xf32> {
  %m = deepseek.source "m" in [] at [] : tensor<8xf32>
  %w = deepseek.source "w" in [] at [] : tensor<4x8xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8x4xf32>
  // expected-error @below {{'deepseek.channel_scales' op expects a result of shape 8, but got 'tensor<4xf32>'}}
  %0 = deepseek.channel_scales of %w by %m strength 0.5 : (tensor<8xf32>, tensor<4x8xf32>) -> tensor<4xf32>
  deepseek.yield %m : tensor<8xf32>
}

// -----

deepseek.weight @channel_scales_c2 : tensor<8xf32> {
  %m = deepseek.source "m" in [] at [] : tensor<8xf32>
  %w = deepseek.source "w" in [] at [] : tensor<4x8xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8x4xf32>
  // expected-error @below {{'deepseek.channel_scales' op expects bits of 4, 5, 6 or 8 and a group, or a strength of 0 to 1}}
  %0 = deepseek.channel_scales of %w by %m bits 4 : (tensor<8xf32>, tensor<4x8xf32>) -> tensor<8xf32>
  deepseek.yield %m : tensor<8xf32>
}

// -----

deepseek.weight @channel_scales_c2_both : tensor<8xf32> {
  %m = deepseek.source "m" in [] at [] : tensor<8xf32>
  %w = deepseek.source "w" in [] at [] : tensor<4x8xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8x4xf32>
  // expected-error @below {{'deepseek.channel_scales' op expects bits of 4, 5, 6 or 8 and a group, or a strength of 0 to 1}}
  %0 = deepseek.channel_scales of %w by %m bits 4 group 8 strength 0.5 : (tensor<8xf32>, tensor<4x8xf32>) -> tensor<8xf32>
  deepseek.yield %m : tensor<8xf32>
}

// -----

deepseek.weight @scale_channels_c1_axis : tensor<8xf32> {
  %m = deepseek.source "m" in [] at [] : tensor<8xf32>
  %w = deepseek.source "w" in [] at [] : tensor<4x8xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8x4xf32>
  // expected-error @below {{'deepseek.scale_channels' op expects an axis of 'tensor<4x8xf32>', but got 2}}
  %0 = deepseek.scale_channels %w by %m axis 2 power 1 : tensor<4x8xf32>, tensor<8xf32> -> tensor<4x8xf32>
  deepseek.yield %m : tensor<8xf32>
}

// -----

deepseek.weight @scale_channels_c1 : tensor<8xf32> {
  %m = deepseek.source "m" in [] at [] : tensor<8xf32>
  %w = deepseek.source "w" in [] at [] : tensor<4x8xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8x4xf32>
  // expected-error @below {{'deepseek.scale_channels' op expects scales of 4 indices, but got 'tensor<8xf32>'}}
  %0 = deepseek.scale_channels %w by %m axis 0 power 1 : tensor<4x8xf32>, tensor<8xf32> -> tensor<4x8xf32>
  deepseek.yield %m : tensor<8xf32>
}

// -----

deepseek.weight @scale_channels_c2 : tensor<8xf32> {
  %m = deepseek.source "m" in [] at [] : tensor<8xf32>
  %w = deepseek.source "w" in [] at [] : tensor<4x8xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8x4xf32>
  // expected-error @below {{'deepseek.scale_channels' op expects a power of 1, -1 or -2, but got 2}}
  %0 = deepseek.scale_channels %w by %m axis 1 power 2 : tensor<4x8xf32>, tensor<8xf32> -> tensor<4x8xf32>
  deepseek.yield %m : tensor<8xf32>
}

// -----

deepseek.weight @scale_channels_c3 : tensor<8xf32> {
  %m = deepseek.source "m" in [] at [] : tensor<8xf32>
  %w = deepseek.source "w" in [] at [] : tensor<4x8xf32>
  %v = deepseek.source "v" in [] at [] : tensor<8x4xf32>
  // expected-error @below {{'deepseek.scale_channels' op expects a result of shape 4x8, but got 'tensor<8x4xf32>'}}
  %0 = deepseek.scale_channels %w by %m axis 1 power 1 : tensor<4x8xf32>, tensor<8xf32> -> tensor<8x4xf32>
  deepseek.yield %m : tensor<8xf32>
}

// -----

deepseek.weight @select_c1_axis : tensor<2x4xf32> {
  %w = deepseek.source "w" in [] at [] : tensor<4x4xf32>
  %m = deepseek.source "m" in [] at [] : tensor<4xf32>
  // expected-error @below {{'deepseek.select' op expects an axis of}}
  %0 = deepseek.select %w by %m axis 2 keep 2 groups 1 : tensor<4x4xf32>, tensor<4xf32> -> tensor<2x4xf32>
  deepseek.yield %0 : tensor<2x4xf32>
}

// -----

deepseek.weight @select_c1 : tensor<2x4xf32> {
  %w = deepseek.source "w" in [] at [] : tensor<4x4xf32>
  %m = deepseek.source "m" in [] at [] : tensor<4xf32>
  // expected-error @below {{'deepseek.select' op expects the importance of 4 indices, but got 'tensor<4x4xf32>'}}
  %0 = deepseek.select %w by %w axis 0 keep 2 groups 1 : tensor<4x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
  deepseek.yield %0 : tensor<2x4xf32>
}

// -----

deepseek.weight @select_c2_groups : tensor<3x4xf32> {
  %w = deepseek.source "w" in [] at [] : tensor<4x4xf32>
  %m = deepseek.source "m" in [] at [] : tensor<4xf32>
  // expected-error @below {{'deepseek.select' op expects groups that divide 4 and 3, but got 2}}
  %0 = deepseek.select %w by %m axis 0 keep 3 groups 2 : tensor<4x4xf32>, tensor<4xf32> -> tensor<3x4xf32>
  deepseek.yield %0 : tensor<3x4xf32>
}

// -----

deepseek.weight @select_c2_keep : tensor<5x4xf32> {
  %w = deepseek.source "w" in [] at [] : tensor<4x4xf32>
  %m = deepseek.source "m" in [] at [] : tensor<4xf32>
  // expected-error @below {{'deepseek.select' op expects to keep 1 to 4 indices, but got 5}}
  %0 = deepseek.select %w by %m axis 0 keep 5 groups 1 : tensor<4x4xf32>, tensor<4xf32> -> tensor<5x4xf32>
  deepseek.yield %0 : tensor<5x4xf32>
}

// -----

deepseek.weight @select_c2_type : tensor<2x4xf16> {
  %w = deepseek.source "w" in [] at [] : tensor<4x4xf32>
  %m = deepseek.source "m" in [] at [] : tensor<4xf32>
  // expected-error @below {{'deepseek.select' op expects equal element types}}
  %0 = deepseek.select %w by %m axis 0 keep 2 groups 1 : tensor<4x4xf32>, tensor<4xf32> -> tensor<2x4xf16>
  deepseek.yield %0 : tensor<2x4xf16>
}

// -----

deepseek.weight @select_c2_result : tensor<4x2xf32> {
  %w = deepseek.source "w" in [] at [] : tensor<4x4xf32>
  %m = deepseek.source "m" in [] at [] : tensor<4xf32>
  // expected-error @below {{'deepseek.select' op expects a result of shape 2x4}}
  %0 = deepseek.select %w by %m axis 0 keep 2 groups 1 : tensor<4x4xf32>, tensor<4xf32> -> tensor<4x2xf32>
  deepseek.yield %0 : tensor<4x2xf32>
}

// -----

func.func @experts_c1(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x4x8xf16>, %u: tensor<8x4x8xf16>, %d: tensor<8x16x4xf16>) {
  // expected-error @below {{'deepseek.experts' op expects gate and up of [experts, i, 16], but got 'tensor<8x4x8xf16>' and 'tensor<8x4x8xf16>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %u down %d : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x8xf16>, tensor<8x4x8xf16>, tensor<8x16x4xf16> -> tensor<?x16xf32>
  return
}

// -----

func.func @experts_c1_up(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x4x16xf16>, %u: tensor<8x5x16xf16>, %d: tensor<8x16x4xf16>) {
  // expected-error @below {{'deepseek.experts' op expects gate and up of [experts, i, 16], but got 'tensor<8x4x16xf16>' and 'tensor<8x5x16xf16>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %u down %d : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf16>, tensor<8x5x16xf16>, tensor<8x16x4xf16> -> tensor<?x16xf32>
  return
}

// -----

func.func @experts_c1_down(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x4x16xf16>, %u: tensor<8x4x16xf16>, %d: tensor<8x4x16xf16>) {
  // expected-error @below {{'deepseek.experts' op expects down of shape 8x16x4, but got 'tensor<8x4x16xf16>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %u down %d : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf16>, tensor<8x4x16xf16>, tensor<8x4x16xf16> -> tensor<?x16xf32>
  return
}

// -----

func.func @experts_c1_result(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x4x16xf16>, %u: tensor<8x4x16xf16>, %d: tensor<8x16x4xf16>) {
  // expected-error @below {{'deepseek.experts' op expects a result of shape ?x16, but got 'tensor<?x8xf32>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %u down %d : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf16>, tensor<8x4x16xf16>, tensor<8x16x4xf16> -> tensor<?x8xf32>
  return
}

// -----

func.func @experts_c2(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x3xf32>, %g: tensor<8x4x16xf16>, %u: tensor<8x4x16xf16>, %d: tensor<8x16x4xf16>) {
  // expected-error @below {{'deepseek.experts' op expects weights of shape ?x2, but got 'tensor<?x3xf32>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %u down %d : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x3xf32>, tensor<8x4x16xf16>, tensor<8x4x16xf16>, tensor<8x16x4xf16> -> tensor<?x16xf32>
  return
}

// -----

func.func @experts_c3(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x4x16xf8E4M3FN>, %u: tensor<8x4x16xf8E4M3FN>, %d: tensor<8x16x4xf8E4M3FN>) {
  // expected-error @below {{'deepseek.experts' op expects weights of one type, or all integer, with three scales if they are FP8 or integer, but got 0 with 'tensor<8x4x16xf8E4M3FN>', 'tensor<8x4x16xf8E4M3FN>' and 'tensor<8x16x4xf8E4M3FN>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %u down %d : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf8E4M3FN>, tensor<8x4x16xf8E4M3FN>, tensor<8x16x4xf8E4M3FN> -> tensor<?x16xf32>
  return
}

// -----

func.func @experts_c3_count(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x4x16xf8E4M3FN>, %u: tensor<8x4x16xf8E4M3FN>, %d: tensor<8x16x4xf8E4M3FN>, %s0: tensor<8x1x1xf32>, %s1: tensor<8x1x1xf32>) {
  // expected-error @below {{'deepseek.experts' op expects weights of one type, or all integer, with three scales if they are FP8 or integer, but got 2 with 'tensor<8x4x16xf8E4M3FN>', 'tensor<8x4x16xf8E4M3FN>' and 'tensor<8x16x4xf8E4M3FN>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %u down %d scales %s0, %s1 : tensor<8x1x1xf32>, tensor<8x1x1xf32> : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf8E4M3FN>, tensor<8x4x16xf8E4M3FN>, tensor<8x16x4xf8E4M3FN> -> tensor<?x16xf32>
  return
}

// -----

func.func @experts_c3_not_fp8(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x4x16xf16>, %u: tensor<8x4x16xf16>, %d: tensor<8x16x4xf16>, %s0: tensor<8x1x1xf32>, %s1: tensor<8x1x1xf32>, %s2: tensor<8x1x1xf32>) {
  // expected-error @below {{'deepseek.experts' op expects weights of one type, or all integer, with three scales if they are FP8 or integer, but got 3 with 'tensor<8x4x16xf16>', 'tensor<8x4x16xf16>' and 'tensor<8x16x4xf16>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %u down %d scales %s0, %s1, %s2 : tensor<8x1x1xf32>, tensor<8x1x1xf32>, tensor<8x1x1xf32> : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf16>, tensor<8x4x16xf16>, tensor<8x16x4xf16> -> tensor<?x16xf32>
  return
}

// -----

func.func @experts_c3_mixed(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x4x16xf8E4M3FN>, %u: tensor<8x4x16xf16>, %d: tensor<8x16x4xf8E4M3FN>, %s0: tensor<8x1x1xf32>, %s1: tensor<8x1x1xf32>, %s2: tensor<8x1x1xf32>) {
  // expected-error @below {{'deepseek.experts' op expects weights of one type, or all integer, with three scales if they are FP8 or integer, but got 3 with 'tensor<8x4x16xf8E4M3FN>', 'tensor<8x4x16xf16>' and 'tensor<8x16x4xf8E4M3FN>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %u down %d scales %s0, %s1, %s2 : tensor<8x1x1xf32>, tensor<8x1x1xf32>, tensor<8x1x1xf32> : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf8E4M3FN>, tensor<8x4x16xf16>, tensor<8x16x4xf8E4M3FN> -> tensor<?x16xf32>
  return
}

// -----

func.func @experts_c3_shape(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x4x16xf8E4M3FN>, %u: tensor<8x4x16xf8E4M3FN>, %d: tensor<8x16x4xf8E4M3FN>, %s0: tensor<8x1x1xf32>, %s1: tensor<8x2x1xf32>, %s2: tensor<8x1x1xf32>) {
  // expected-error @below {{'deepseek.experts' op expects up scales of shape 8x1x1, but got 'tensor<8x2x1xf32>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %u down %d scales %s0, %s1, %s2 : tensor<8x1x1xf32>, tensor<8x2x1xf32>, tensor<8x1x1xf32> : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf8E4M3FN>, tensor<8x4x16xf8E4M3FN>, tensor<8x16x4xf8E4M3FN> -> tensor<?x16xf32>
  return
}

// -----

func.func @gather_rows_c1(%x: tensor<?x16xf32>, %r: tensor<?xi32>) {
  // expected-error @below {{'deepseek.gather_rows' op expects input and result of one type but for the rows, but got 'tensor<?x16xf32>' and 'tensor<?x8xf32>'}}
  %0 = deepseek.gather_rows %x, %r : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x8xf32>
  return
}

// -----

func.func @lm_head_c1(%x: tensor<?x16xf32>, %w: tensor<40x8xf32>) {
  // expected-error @below {{'deepseek.lm_head' op expects weight and input to agree in hidden, but got 'tensor<40x8xf32>' and 'tensor<?x16xf32>'}}
  %0 = deepseek.lm_head %x, %w : tensor<?x16xf32>, tensor<40x8xf32> -> tensor<?x40xf32>
  return
}

// -----

func.func @lm_head_c1_result(%x: tensor<?x16xf32>, %w: tensor<40x16xf32>) {
  // expected-error @below {{'deepseek.lm_head' op expects a result of shape ?x40, but got 'tensor<?x41xf32>'}}
  %0 = deepseek.lm_head %x, %w : tensor<?x16xf32>, tensor<40x16xf32> -> tensor<?x41xf32>
  return
}

// -----

func.func @linear_c3_scale_type(%x: tensor<?x64xf32>, %w: tensor<16x64xf8E4M3FN>, %s: tensor<1x1xf16>) {
  // expected-error @below {{'deepseek.linear' op expects scales in f32 for FP8, but got 'tensor<1x1xf16>'}}
  %0 = deepseek.linear %x, %w scales %s : tensor<1x1xf16> : tensor<?x64xf32>, tensor<16x64xf8E4M3FN> -> tensor<?x16xf32>
  return
}

// -----

func.func @linear_c3_groups(%x: tensor<?x64xf32>, %w: tensor<16x64xi8>, %s: tensor<16x3xf16>) {
  // expected-error @below {{'deepseek.linear' op expects scales of groups that divide 64 columns, but got 'tensor<16x3xf16>'}}
  %0 = deepseek.linear %x, %w scales %s : tensor<16x3xf16> activation_group 32 : tensor<?x64xf32>, tensor<16x64xi8> -> tensor<?x16xf32>
  return
}

// -----

func.func @round_to_grid_c1(%x: tensor<?x64xf32>, %g: tensor<1xf32>) {
  // expected-error @below {{'deepseek.round_to_grid' op expects a grid of shape 2, but got 'tensor<1xf32>'}}
  %0 = deepseek.round_to_grid %x, %g : tensor<?x64xf32>, tensor<1xf32>
  return
}

// -----

deepseek.weight @numbers_c1 : tensor<3xf32> {
  // expected-error @below {{'deepseek.numbers' op expects a result of shape 2, but got 'tensor<3xf32>'}}
  %0 = deepseek.numbers [5.0e-1, 1.0] : tensor<3xf32>
  deepseek.yield %0 : tensor<3xf32>
}

// -----

func.func @linear_c4(%x: tensor<?x64xf32>, %w: tensor<16x64xf16>) {
  // expected-error @below {{'deepseek.linear' op expects activation_group and offsets only with an integer weight, but got some with 'tensor<16x64xf16>'}}
  %0 = deepseek.linear %x, %w activation_group 32 : tensor<?x64xf32>, tensor<16x64xf16> -> tensor<?x16xf32>
  return
}

// -----

func.func @linear_c4_divides(%x: tensor<?x64xf32>, %w: tensor<16x64xi4>, %s: tensor<16x2xf16>) {
  // expected-error @below {{'deepseek.linear' op expects activation_group to be a multiple of 16 that divides the weight's group, 32, but got 64}}
  %0 = deepseek.linear %x, %w scales %s : tensor<16x2xf16> activation_group 64 : tensor<?x64xf32>, tensor<16x64xi4> -> tensor<?x16xf32>
  return
}

// -----

func.func @lm_head_c2(%x: tensor<?x64xf32>, %w: tensor<16x64xi8>) {
  // expected-error @below {{'deepseek.lm_head' op expects scales with an FP8 or integer weight and only then, but got none with 'tensor<16x64xi8>'}}
  %0 = deepseek.lm_head %x, %w activation_group 32 : tensor<?x64xf32>, tensor<16x64xi8> -> tensor<?x16xf32>
  return
}

// -----

deepseek.weight @quantize_c1 : tensor<4x32xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xf32>
  // expected-error @below {{'deepseek.quantize' op expects a result of shape 4x64, but got 'tensor<4x32xi8>'}}
  %1 = deepseek.quantize %0 group 32 : tensor<4x64xf32> -> tensor<4x32xi8>
  deepseek.yield %1 : tensor<4x32xi8>
}

// -----

deepseek.weight @quantize_c2 : tensor<4x64xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xf32>
  // expected-error @below {{'deepseek.quantize' op expects a group that is a multiple of 32 and divides 64 columns, but got 48}}
  %1 = deepseek.quantize %0 group 48 : tensor<4x64xf32> -> tensor<4x64xi8>
  deepseek.yield %1 : tensor<4x64xi8>
}

// -----

deepseek.weight @quantize_scales_c1 : tensor<4x2xf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xf32>
  // expected-error @below {{'deepseek.quantize_scales' op expects 4, 5, 6 or 8 bits, but got 7}}
  %1 = deepseek.quantize_scales %0 bits 7 : tensor<4x64xf32> -> tensor<4x2xf16>
  deepseek.yield %1 : tensor<4x2xf16>
}

// -----

deepseek.weight @quantize_scales_c2 : tensor<4x4xf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xf32>
  // expected-error @below {{'deepseek.quantize_scales' op expects groups of a multiple of 32 that divide 64 columns, but got 'tensor<4x4xf16>'}}
  %1 = deepseek.quantize_scales %0 bits 8 : tensor<4x64xf32> -> tensor<4x4xf16>
  deepseek.yield %1 : tensor<4x4xf16>
}

// -----

deepseek.weight @quantize_c3 : tensor<4x64xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xf32>
  %1 = deepseek.source "s" in [] at [] : tensor<4x64xf32>
  // expected-error @below {{'deepseek.quantize' op expects a moment of 64 channels, but got 'tensor<4x64xf32>'}}
  %2 = deepseek.quantize %0 moment %1 : tensor<4x64xf32> group 32 : tensor<4x64xf32> -> tensor<4x64xi8>
  deepseek.yield %2 : tensor<4x64xi8>
}

// -----

deepseek.weight @quantize_c3_group : tensor<4x65536xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x65536xf32>
  %1 = deepseek.source "s" in [] at [] : tensor<65536xf32>
  // expected-error @below {{'deepseek.quantize' op expects a group of at most 32768 with a moment, but got 65536}}
  %2 = deepseek.quantize %0 moment %1 : tensor<65536xf32> group 65536 : tensor<4x65536xf32> -> tensor<4x65536xi8>
  deepseek.yield %2 : tensor<4x65536xi8>
}

// -----

deepseek.weight @quantize_c4 : tensor<4x64xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xf32>
  %1 = deepseek.source "s" in [] at [] : tensor<64xf32>
  // expected-error @below {{'deepseek.quantize' op expects a gram of 64 channels, but got 'tensor<64xf32>'}}
  %2 = deepseek.quantize %0 gram %1 : tensor<64xf32> group 32 damping 0.01 : tensor<4x64xf32> -> tensor<4x64xi8>
  deepseek.yield %2 : tensor<4x64xi8>
}

// -----

deepseek.weight @quantize_c4_no_damping : tensor<4x64xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xf32>
  %1 = deepseek.source "s" in [] at [] : tensor<64x64xf32>
  // expected-error @below {{'deepseek.quantize' op expects a damping with a gram, and none without}}
  %2 = deepseek.quantize %0 gram %1 : tensor<64x64xf32> group 32 : tensor<4x64xf32> -> tensor<4x64xi8>
  deepseek.yield %2 : tensor<4x64xi8>
}

// -----

deepseek.weight @quantize_c4_damping : tensor<4x64xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xf32>
  %1 = deepseek.source "s" in [] at [] : tensor<64x64xf32>
  // expected-error @below {{'deepseek.quantize' op expects a damping above 0, but got 0.000000e+00 : f64}}
  %2 = deepseek.quantize %0 gram %1 : tensor<64x64xf32> group 32 damping 0.0 : tensor<4x64xf32> -> tensor<4x64xi8>
  deepseek.yield %2 : tensor<4x64xi8>
}

// -----

deepseek.weight @quantize_scales_c3 : tensor<4x1xf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xf32>
  %1 = deepseek.source "s" in [] at [] : tensor<32xf32>
  // expected-error @below {{'deepseek.quantize_scales' op expects a moment of 64 channels, but got 'tensor<32xf32>'}}
  %2 = deepseek.quantize_scales %0 moment %1 : tensor<32xf32> bits 8 : tensor<4x64xf32> -> tensor<4x1xf16>
  deepseek.yield %2 : tensor<4x1xf16>
}

// -----

deepseek.weight @quantize_scales_c3_group : tensor<4x1xf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x65536xf32>
  %1 = deepseek.source "s" in [] at [] : tensor<65536xf32>
  // expected-error @below {{'deepseek.quantize_scales' op expects a group of at most 32768 with a moment, but got 65536}}
  %2 = deepseek.quantize_scales %0 moment %1 : tensor<65536xf32> bits 8 : tensor<4x65536xf32> -> tensor<4x1xf16>
  deepseek.yield %2 : tensor<4x1xf16>
}

// -----

func.func @probe_c1(%x: tensor<?x16xf32>, %layer: index) {
  // expected-error @below {{'deepseek.probe' op expects experts with inner_moment, inner_gram and mass and none with state, but got none with inner_gram}}
  deepseek.probe inner_gram 0 of %x count 0 layer %layer : tensor<?x16xf32>
  return
}

// -----

func.func @probe_c2(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %layer: index) {
  // expected-error @below {{'deepseek.probe' op expects the result of deepseek.experts}}
  deepseek.probe inner_gram 0 of %x experts %e : tensor<?x2xi32> count 4 layer %layer : tensor<?x16xf32>
  return
}

// -----

func.func @experts_c4(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x4x16xf16>, %d: tensor<8x16x4xf16>) {
  // expected-error @below {{'deepseek.experts' op expects activation_group and offsets only with an integer weight, but got some with 'tensor<8x4x16xf16>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %g down %d activation_group 32 : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x4x16xf16>, tensor<8x4x16xf16>, tensor<8x16x4xf16> -> tensor<?x16xf32>
  return
}

// -----

func.func @experts_c5(%x: tensor<?x64xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %up: tensor<8x32x64xi8>, %us: tensor<8x32x2xf16>, %uz: tensor<8x32x2xf32>, %down: tensor<8x64x32xi8>, %ds: tensor<8x64x1xf16>) {
  // expected-error @below {{'deepseek.experts' op expects at most three offsets, with integer weights, but got 4 with 'tensor<8x32x64xi8>'}}
  %0 = deepseek.experts %x, %e, %w gate %up up %up down %down scales %us, %us, %ds : tensor<8x32x2xf16>, tensor<8x32x2xf16>, tensor<8x64x1xf16> offsets %uz, %uz, %uz, %uz : tensor<8x32x2xf32>, tensor<8x32x2xf32>, tensor<8x32x2xf32>, tensor<8x32x2xf32> : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x32x64xi8>, tensor<8x32x64xi8>, tensor<8x64x32xi8> -> tensor<?x64xf32>
  return
}

// -----

func.func @linear_c5(%x: tensor<?x64xf32>, %w: tensor<16x64xi4>, %s: tensor<16x2xf16>, %z: tensor<16x1xf32>) {
  // expected-error @below {{'deepseek.linear' op expects offsets of shape 16x2, but got 'tensor<16x1xf32>'}}
  %0 = deepseek.linear %x, %w scales %s : tensor<16x2xf16> offsets %z : tensor<16x1xf32> : tensor<?x64xf32>, tensor<16x64xi4> -> tensor<?x16xf32>
  return
}

// -----

func.func @linear_c6(%x: tensor<?x64xf32>, %w: tensor<16x64xf32>) {
  // expected-error @below {{'deepseek.linear' op expects bf16_inputs only with a weight of bf16, f16 or FP8 of an even number of columns, but got 'tensor<16x64xf32>'}}
  %0 = deepseek.linear %x, %w bf16_inputs : tensor<?x64xf32>, tensor<16x64xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @lm_head_c5(%x: tensor<?x63xf32>, %w: tensor<16x63xbf16>) {
  // expected-error @below {{'deepseek.lm_head' op expects bf16_inputs only with a weight of bf16, f16 or FP8 of an even number of columns, but got 'tensor<16x63xbf16>'}}
  %0 = deepseek.lm_head %x, %w bf16_inputs : tensor<?x63xf32>, tensor<16x63xbf16> -> tensor<?x16xf32>
  return
}

// -----

func.func @experts_c7(%x: tensor<?x16xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x3x16xbf16>, %d: tensor<8x16x3xbf16>) {
  // expected-error @below {{'deepseek.experts' op expects bf16_inputs only with a weight of bf16, f16 or FP8 of an even number of columns, but got 'tensor<8x16x3xbf16>'}}
  %0 = deepseek.experts %x, %e, %w gate %g up %g down %d bf16_inputs : tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x3x16xbf16>, tensor<8x3x16xbf16>, tensor<8x16x3xbf16> -> tensor<?x16xf32>
  return
}

// -----

func.func @lm_head_c4(%x: tensor<?x64xf32>, %w: tensor<16x64xf16>, %z: tensor<16x1xf32>) {
  // expected-error @below {{'deepseek.lm_head' op expects activation_group and offsets only with an integer weight, but got some with 'tensor<16x64xf16>'}}
  %0 = deepseek.lm_head %x, %w offsets %z : tensor<16x1xf32> : tensor<?x64xf32>, tensor<16x64xf16> -> tensor<?x16xf32>
  return
}

// -----

deepseek.weight @dequantize_c4 : tensor<4x64xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xi8>
  %1 = deepseek.source "s" in [] at [] : tensor<4x2xf16>
  %2 = deepseek.source "z" in [] at [] : tensor<4x1xi8>
  // expected-error @below {{'deepseek.dequantize' op expects zeros of shape 4x2, but got 'tensor<4x1xi8>'}}
  %3 = deepseek.dequantize %0, %1 zeros %2 : tensor<4x1xi8> block 1 x 32 : tensor<4x64xi8>, tensor<4x2xf16> -> tensor<4x64xf32>
  deepseek.yield %3 : tensor<4x64xf32>
}

// -----

deepseek.weight @dequantize_c4_fp8 : tensor<4x64xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xf8E4M3FN>
  %1 = deepseek.source "s" in [] at [] : tensor<1x1xf32>
  %2 = deepseek.source "z" in [] at [] : tensor<1x1xi8>
  // expected-error @below {{'deepseek.dequantize' op expects an integer input with zeros, but got 'tensor<4x64xf8E4M3FN>'}}
  %3 = deepseek.dequantize %0, %1 zeros %2 : tensor<1x1xi8> block 128 x 128 : tensor<4x64xf8E4M3FN>, tensor<1x1xf32> -> tensor<4x64xf32>
  deepseek.yield %3 : tensor<4x64xf32>
}

// -----

deepseek.weight @gguf_part_c1 : tensor<4x64xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x66xi8>
  // expected-error @below {{'deepseek.gguf_part' op expects rows of a multiple of 34 bytes for q8_0, but got 'tensor<4x66xi8>'}}
  %1 = deepseek.gguf_part codes of q8_0 %0 : tensor<4x66xi8> -> tensor<4x64xi8>
  deepseek.yield %1 : tensor<4x64xi8>
}

// -----

deepseek.weight @gguf_part_c2 : tensor<4x4xf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x68xi8>
  // expected-error @below {{'deepseek.gguf_part' op expects a result of shape 4x2, but got 'tensor<4x4xf16>'}}
  %1 = deepseek.gguf_part scales of q8_0 %0 : tensor<4x68xi8> -> tensor<4x4xf16>
  deepseek.yield %1 : tensor<4x4xf16>
}

// -----

func.func @linear_c5_no_blocks(%x: tensor<?x64xf32>, %w: tensor<16x64xui4>, %s: tensor<16x2xf16>, %z: tensor<16x10xi8>) {
  // expected-error @below {{'deepseek.linear' op expects offsets of one level for groups of 32 of 64 columns, but got 'tensor<16x10xi8>'}}
  %0 = deepseek.linear %x, %w scales %s : tensor<16x2xf16> offsets %z : tensor<16x10xi8> : tensor<?x64xf32>, tensor<16x64xui4> -> tensor<?x16xf32>
  return
}

// -----

func.func @embed_c2(%ids: tensor<?xi32>, %w: tensor<16x64xf16>, %s: tensor<16x2xf16>) {
  // expected-error @below {{'deepseek.embed' op expects scales and offsets only with a table of integers, but got some with 'tensor<16x64xf16>'}}
  %0 = deepseek.embed %ids, %w scales %s : tensor<16x2xf16> : tensor<?xi32>, tensor<16x64xf16> -> tensor<?x64xf32>
  return
}

// -----

deepseek.weight @gguf_part_c3_codebook : tensor<4x32xui4> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x18xi8>
  // expected-error @below {{'deepseek.gguf_part' op expects a result with the encoding #deepseek.codebook<}}
  %1 = deepseek.gguf_part codes of iq4_nl %0 : tensor<4x18xi8> -> tensor<4x32xui4>
  deepseek.yield %1 : tensor<4x32xui4>
}

// -----

deepseek.weight @gguf_part_c1_levels : tensor<4x16xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x210xi8>
  // expected-error @below {{'deepseek.gguf_part' op expects a result of shape 4x18, but got 'tensor<4x16xi8>'}}
  %1 = deepseek.gguf_part scales of q6_k %0 : tensor<4x210xi8> -> tensor<4x16xi8>
  deepseek.yield %1 : tensor<4x16xi8>
}

// -----

func.func @linear_c3_levels(%x: tensor<?x256xf32>, %w: tensor<16x256xi6>, %s: tensor<16x16xi8>) {
  // expected-error @below {{'deepseek.linear' op expects scales of groups that divide 256 columns, but got 'tensor<16x16xi8>'}}
  %0 = deepseek.linear %x, %w scales %s : tensor<16x16xi8> : tensor<?x256xf32>, tensor<16x256xi6> -> tensor<?x16xf32>
  return
}

// -----

func.func @linear_c5_levels(%x: tensor<?x256xf32>, %w: tensor<16x256xui4>, %s: tensor<16x10xi8>, %z: tensor<16x18xi8>) {
  // expected-error @below {{'deepseek.linear' op expects offsets of shape 16x10, but got 'tensor<16x18xi8>'}}
  %0 = deepseek.linear %x, %w scales %s : tensor<16x10xi8> offsets %z : tensor<16x18xi8> : tensor<?x256xf32>, tensor<16x256xui4> -> tensor<?x16xf32>
  return
}

// -----

deepseek.weight @gguf_part_c3 : tensor<4x2xf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x68xi8>
  // expected-error @below {{'deepseek.gguf_part' op expects a format with offsets, but got q8_0}}
  %1 = deepseek.gguf_part offsets of q8_0 %0 : tensor<4x68xi8> -> tensor<4x2xf16>
  deepseek.yield %1 : tensor<4x2xf16>
}

// -----

deepseek.weight @gguf_part_c3_type : tensor<4x64xi4> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x40xi8>
  // expected-error @below {{'deepseek.gguf_part' op expects a result of 'ui4' for codes of q4_1, but got 'tensor<4x64xi4>'}}
  %1 = deepseek.gguf_part codes of q4_1 %0 : tensor<4x40xi8> -> tensor<4x64xi4>
  deepseek.yield %1 : tensor<4x64xi4>
}

// -----

deepseek.weight @unpack_c1 : tensor<4x8xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x5xi8>
  // expected-error @below {{'deepseek.unpack' op expects 2, 3, 4 or 8 bits, plus 0, 1 or half their range, but got 5 and 0}}
  %1 = deepseek.unpack %0 bits 5 plus 0 : tensor<4x5xi8> -> tensor<4x8xi8>
  deepseek.yield %1 : tensor<4x8xi8>
}

// -----

deepseek.weight @unpack_c2 : tensor<4x10xi8> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x4xi8>
  // expected-error @below {{'deepseek.unpack' op expects rows of whole integers of 3 bits, but got 'tensor<4x4xi8>'}}
  %1 = deepseek.unpack %0 bits 3 plus 0 : tensor<4x4xi8> -> tensor<4x10xi8>
  deepseek.yield %1 : tensor<4x10xi8>
}

// -----

deepseek.weight @unpack_c3 : tensor<4x4xi4> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x4xi8>
  // expected-error @below {{'deepseek.unpack' op expects i8 for 8 bits, but got 'tensor<4x4xi4>'}}
  %1 = deepseek.unpack %0 bits 8 plus 0 : tensor<4x4xi8> -> tensor<4x4xi4>
  deepseek.yield %1 : tensor<4x4xi4>
}

// -----

deepseek.weight @gather_c1 : tensor<4x3xf16> {
  %0 = deepseek.source "s" in [] at [] : tensor<4x2xf16>
  %1 = deepseek.source "g_idx" in [] at [] : tensor<3x2xi8>
  // expected-error @below {{'deepseek.gather' op expects indices of shape 3x4, but got 'tensor<3x2xi8>'}}
  %2 = deepseek.gather %0, %1 : tensor<4x2xf16>, tensor<3x2xi8> -> tensor<4x3xf16>
  deepseek.yield %2 : tensor<4x3xf16>
}

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 8, value_dim = 8, element = f32>
deepseek.model @model_c3 vocab 40 hidden 32 layers 1 context 64 entry @forward {}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x40xf32> {
  // expected-error @below {{'arith.constant' op expects at most 65536 elements beside a model, whose weights are symbols, but got 'tensor<2048x40xf32>'}}
  %table = arith.constant dense<0.0> : tensor<2048x40xf32>
  %all = tensor.cast %table : tensor<2048x40xf32> to tensor<?x40xf32>
  return %all : tensor<?x40xf32>
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @select_keys_c1_cache(%q: tensor<?x18xf32>, %k: tensor<?x6xf32>, %w: tensor<?x3xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.select_keys' op expects a latent cache with an index_dim, but got '!deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>'}}
  %0 = deepseek.select_keys %q, %k, %w at %p of %s in %cache[%layer] heads 3 top_k 5 scale 1.0 : tensor<?x18xf32>, tensor<?x6xf32>, tensor<?x3xf32>, tensor<?xi32>, !cache -> tensor<?x5xi32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32, index_dim = 6>

func.func @select_keys_c1_weights(%q: tensor<?x18xf32>, %k: tensor<?x6xf32>, %w: tensor<?x2xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.select_keys' op expects weights of shape ?x3, but got 'tensor<?x2xf32>'}}
  %0 = deepseek.select_keys %q, %k, %w at %p of %s in %cache[%layer] heads 3 top_k 5 scale 1.0 : tensor<?x18xf32>, tensor<?x6xf32>, tensor<?x2xf32>, tensor<?xi32>, !cache -> tensor<?x5xi32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32, index_dim = 6>

func.func @select_keys_c2(%q: tensor<?x18xf32>, %k: tensor<?x6xf32>, %w: tensor<?x3xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.select_keys' op expects heads and top_k > 0, but got 3 and 0}}
  %0 = deepseek.select_keys %q, %k, %w at %p of %s in %cache[%layer] heads 3 top_k 0 scale 1.0 : tensor<?x18xf32>, tensor<?x6xf32>, tensor<?x3xf32>, tensor<?xi32>, !cache -> tensor<?x0xi32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32, index_dim = 6>

func.func @select_keys_c2_result(%q: tensor<?x18xf32>, %k: tensor<?x6xf32>, %w: tensor<?x3xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.select_keys' op expects a result of shape ?x4, but got 'tensor<?x5xi32>'}}
  %0 = deepseek.select_keys %q, %k, %w at %p of %s in %cache[%layer] heads 3 top_k 4 scale 1.0 : tensor<?x18xf32>, tensor<?x6xf32>, tensor<?x3xf32>, tensor<?xi32>, !cache -> tensor<?x5xi32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32, index_dim = 6>

func.func @select_keys_c3(%q: tensor<?x18xf32>, %k: tensor<?x6xf32>, %w: tensor<?x3xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.select_keys' op expects scale > 0, but got 0.000000e+00 : f64}}
  %0 = deepseek.select_keys %q, %k, %w at %p of %s in %cache[%layer] heads 3 top_k 5 scale 0.0 : tensor<?x18xf32>, tensor<?x6xf32>, tensor<?x3xf32>, tensor<?xi32>, !cache -> tensor<?x5xi32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @absorbed_attention_c3(%q: tensor<?x16xf32>, %rq: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %sel: tensor<?x5xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.absorbed_attention' op expects no window with selected positions, but got #deepseek.window<tokens = 4, sink = 0>}}
  %0 = deepseek.absorbed_attention %q, %rq, %c, %r at %p of %s in %cache[%layer] heads 2 scale 1.0 window <tokens = 4, sink = 0> selected %sel : tensor<?x5xi32> : tensor<?x16xf32>, tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>, !cache -> tensor<?x16xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

func.func @latent_attention_c3(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %sel: tensor<?x5xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.latent_attention' op expects no window with selected positions, but got #deepseek.window<tokens = 4, sink = 0>}}
  %0 = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 1.0 window <tokens = 4, sink = 0> selected %sel : tensor<?x5xi32> : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return
}

// -----

func.func @layer_norm_c1(%x: tensor<?x8xf32>, %w: tensor<8xf32>, %b: tensor<4xf32>) {
  // expected-error @below {{'deepseek.layer_norm' op expects bias of shape 8, but got 'tensor<4xf32>'}}
  %0 = deepseek.layer_norm %x, %w, %b epsilon 1.0e-6 : tensor<?x8xf32>, tensor<8xf32>, tensor<4xf32>
  return
}

// -----

func.func @layer_norm_c2(%x: tensor<?x8xf32>, %w: tensor<8xf32>) {
  // expected-error @below {{'deepseek.layer_norm' op expects epsilon > 0, but got 0.000000e+00 : f32}}
  %0 = deepseek.layer_norm %x, %w, %w epsilon 0.0 : tensor<?x8xf32>, tensor<8xf32>, tensor<8xf32>
  return
}

// -----

func.func @gather_rows_c1_rank(%p: tensor<?xi32>, %x: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.gather_rows' op expects input and result of one type but for the rows, but got 'tensor<?x8xf32>' and 'tensor<?xi32>'}}
  %0 = deepseek.gather_rows %x, %p : tensor<?x8xf32>, tensor<?xi32> -> tensor<?xi32>
  return
}

// -----

func.func @scatter_rows_c1(%p: tensor<?xi32>, %x: tensor<?x8xf32>, %y: tensor<?x4xf32>) {
  // expected-error @below {{'deepseek.scatter_rows' op expects update of shape ?x8, but got 'tensor<?x4xf32>'}}
  %0 = deepseek.scatter_rows %x, %y at %p : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi32>
  return
}

// -----

func.func @select_rows_c1(%x: tensor<?x2xf32>) {
  // expected-error @below {{'deepseek.select_rows' op expects scores of shape ?x1, but got 'tensor<?x2xf32>'}}
  %0 = deepseek.select_rows %x : tensor<?x2xf32> -> tensor<?xi32>
  return
}

// -----

func.func @select_rows_c1_threshold(%x: tensor<?x1xf32>, %t: tensor<2xf32>) {
  // expected-error @below {{'deepseek.select_rows' op expects threshold of shape 1, but got 'tensor<2xf32>'}}
  %0 = deepseek.select_rows %x above %t : tensor<2xf32> : tensor<?x1xf32> -> tensor<?xi32>
  return
}

// -----

func.func @influence_c1(%x: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.influence' op expects a result of shape ?x1, but got 'tensor<?x2xf32>'}}
  %0 = deepseek.influence %x, %x : tensor<?x8xf32> -> tensor<?x2xf32>
  return
}

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 1, key_dim = 8, value_dim = 8, element = f32>

func.func @attention_c4(%x: tensor<?x8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) {
  // expected-error @below {{'deepseek.attention' op expects positions and sequences of queries, or neither}}
  %0 = "deepseek.attention"(%x, %x, %x, %p, %s, %cache, %layer, %p) <{heads = 1 : i64, scale = 1.0 : f64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 1, 1, 0>}> : (tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<?xi32>) -> tensor<?x8xf32>
  return
}

// -----

deepseek.weight @round_by_c2 : tensor<4x64xi4> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x64xf32>
  %1 = deepseek.source "s" in [] at [] : tensor<4x3xf32>
  // expected-error @below {{'deepseek.round_by' op expects scales of blocks of 'tensor<4x64xf32>', but got 'tensor<4x3xf32>'}}
  %2 = deepseek.round_by %0 scales %1 : tensor<4x64xf32>, tensor<4x3xf32> -> tensor<4x64xi4>
  deepseek.yield %2 : tensor<4x64xi4>
}
