// RUN: hadal-opt %s -split-input-file -convert-rt-to-llvm -verify-diagnostics

func.func @unplanned(%step: !rt.step) {
  // expected-error @+1 {{expects a place in the arena; -rt-plan-memory gives it one}}
  %a = rt.alloc %step bytes 64 * tokens + 0 : memref<?x16xf32>
  return
}

// -----

// expected-error @+1 {{expects static strides and offset 0, but got 'memref<?x16xf32, strided<[?, 1]>>'}}
rt.kernel @dynamic_stride [memref<?x16xf32, strided<[?, 1]>>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x16xf32, strided<[?, 1]>>):
}

// -----

// expected-error @+1 {{expects static strides and offset 0, but got 'memref<?x16xf32, strided<[16, 1], offset: 4>>'}}
rt.kernel @offset [memref<?x16xf32, strided<[16, 1], offset: 4>>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x16xf32, strided<[16, 1], offset: 4>>):
}

// -----

// expected-error @+1 {{expects only the first size to be dynamic, but got 'memref<4x?xf32, strided<[16, 1]>>'}}
rt.kernel @dynamic_columns [memref<4x?xf32, strided<[16, 1]>>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<4x?xf32, strided<[16, 1]>>):
}

// -----

// expected-error @+1 {{expects elements of whole bytes, but got 'memref<4xi4>'}}
rt.kernel @nibbles [memref<4xi4>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<4xi4>):
}

// -----

// expected-error @+1 {{expects the default memory space, but got 'memref<4xf32, 1>'}}
rt.kernel @space [memref<4xf32, 1>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<4xf32, 1>):
}

// -----

rt.kernel @dim [memref<?x16xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x16xf32>):
  %c0 = arith.constant 0 : index
  // expected-error @+1 {{expects a static size: a kernel has sizes from rt.tokens and rt.outputs}}
  %n = memref.dim %x, %c0 : memref<?x16xf32>
}

// -----

rt.kernel @weight [] {
^bb0(%step: !rt.step, %first: index, %last: index):
  // expected-error @+1 {{has no place in a kernel}}
  %w = rt.weight %step at 0 : memref<16xf32>
}

// -----

func.func @load(%step: !rt.step, %x: memref<?xf32>, %i: index) {
  // expected-error @+1 {{has no place in a host function}}
  %v = memref.load %x[%i] : memref<?xf32>
  return
}

// -----

// expected-error @+1 {{expects a step as the first argument of a host function}}
func.func @no_step(%n: index) {
  return
}

// -----

// expected-error @+1 {{expects arguments that are buffers and indices, but got 'f32'}}
func.func @float(%step: !rt.step, %x: f32) {
  return
}

// -----

// expected-error @+1 {{expects no results of a host function}}
func.func @result(%step: !rt.step) -> index {
  %n = rt.tokens %step
  return %n : index
}

// -----

// expected-error @+1 {{expects arguments that are buffers and indices, but got '!rt.step'}}
func.func @two_steps(%step: !rt.step, %other: !rt.step) {
  return
}

// -----

// expected-error @+1 {{expects one block in a host function}}
func.func @blocks(%step: !rt.step) {
  cf.br ^bb1
^bb1:
  return
}

// -----

// expected-error @+1 {{expects a layout_hash of 32 hexadecimal digits, but got "0011"}}
rt.program @hash entry @hash_step {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "0011", info = {}}
func.func @hash_step(%step: !rt.step) {
  return
}

// -----

rt.program @one entry @step {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
// expected-error @+1 {{expects one rt.program in a module}}
rt.program @two entry @step {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @step(%step: !rt.step) {
  return
}

// -----

// expected-error @+1 {{expects no other symbol @hadal_model}}
rt.program @m entry @hadal_model {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @hadal_model(%step: !rt.step) {
  return
}
