// RUN: hadal-opt %s -split-input-file -rt-plan-memory -verify-diagnostics

// expected-error @+1 {{expects one rt.program, but got 0}}
module {}

// -----

rt.program @m entry @both {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @both(%step: !rt.step) {
  // expected-error @+1 {{expects bytes per token or fixed bytes, but got both: 64 and 128}}
  %a = rt.alloc %step bytes 64 * tokens + 128 : memref<?x16xf32>
  return
}

// -----

rt.program @m entry @small {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @small(%step: !rt.step) {
  // expected-error @+1 {{expects room for 'memref<?x32xf32>', but got 64 bytes}}
  %a = rt.alloc %step bytes 64 * tokens + 0 : memref<?x32xf32>
  return
}

// -----

rt.program @m entry @small_strided {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @small_strided(%step: !rt.step) {
  // One byte is missing: 3 * 60 + 13 elements of 1 byte.
  // expected-error @+1 {{expects room for 'memref<4x13xi8, strided<[60, 1]>>', but got 192 bytes}}
  %a = rt.alloc %step bytes 0 * tokens + 192 : memref<4x13xi8, strided<[60, 1]>>
  return
}

// -----

rt.program @m entry @large {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
rt.kernel @use [memref<?xi8>, memref<?xi8>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?xi8>, %y: memref<?xi8>):
}
func.func @large(%step: !rt.step) {
  %n = rt.tokens %step
  %a = rt.alloc %step bytes 9223372036854775744 * tokens + 0 : memref<?xi8>
  // expected-error @+1 {{expects an arena of less than 2^63 bytes}}
  %b = rt.alloc %step bytes 64 * tokens + 0 : memref<?xi8>
  rt.dispatch @use items %n of %step(%a, %b) : memref<?xi8>, memref<?xi8>
  return
}

// -----

rt.program @m entry @recursive {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
// expected-error @+1 {{expects no host function to call itself}}
func.func @recursive(%step: !rt.step) {
  call @other(%step) : (!rt.step) -> ()
  return
}
func.func private @other(%step: !rt.step) {
  call @recursive(%step) : (!rt.step) -> ()
  return
}

// -----

rt.program @m entry @result {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @result(%step: !rt.step) {
  return
}
func.func private @make(%step: !rt.step) -> memref<?x16xf32> {
  // expected-note @+1 {{buffer allocated here}}
  %a = rt.alloc %step bytes 64 * tokens + 0 : memref<?x16xf32>
  // expected-error @+1 {{expects no buffer of the arena}}
  return %a : memref<?x16xf32>
}

// -----

rt.program @m entry @control {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @control(%step: !rt.step) {
  %true = arith.constant true
  // expected-error @+1 {{expects no regions in a host function}}
  scf.if %true {
  }
  return
}

// -----

rt.program @m entry @blocks {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
// expected-error @+1 {{expects one block in a host function}}
func.func @blocks(%step: !rt.step) {
  cf.br ^bb1
^bb1:
  return
}

// -----

rt.program @m entry @weight {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @weight(%step: !rt.step) {
  %a = rt.weight %step at 192 : memref<16xf32>
  // expected-error @+1 {{expects 'memref<17xf32>' at 192 to lie within 256 bytes}}
  %b = rt.weight %step at 192 : memref<17xf32>
  return
}

// -----

rt.program @m entry @page_size {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @page_size(%step: !rt.step) {
  return
}
rt.kernel @k [] {
^bb0(%step: !rt.step, %first: index, %last: index):
  // expected-error @+1 {{expects pages of 256 bytes, but got 512}}
  %page = rt.page %step[%first, %last] layer %last bytes 512, 128 at 0 : memref<4x8xf32>
}

// -----

rt.program @m entry @page_part {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @page_part(%step: !rt.step) {
  return
}
rt.kernel @k [] {
^bb0(%step: !rt.step, %first: index, %last: index):
  // expected-error @+1 {{expects 'memref<4x8xf32>' at 64 to lie within 128 bytes}}
  %page = rt.page %step[%first, %last] layer %last bytes 256, 128 at 64 : memref<4x8xf32>
}

// -----

rt.program @m entry @page_base {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @page_base(%step: !rt.step) {
  return
}
rt.kernel @k [] {
^bb0(%step: !rt.step, %first: index, %last: index):
  // expected-error @+1 {{expects a layer's part at 192 to lie within 256 bytes}}
  %page = rt.page %step[%first, %last] layer %last bytes 256, 128 at 0 base 192 : memref<4x8xf32>
}
