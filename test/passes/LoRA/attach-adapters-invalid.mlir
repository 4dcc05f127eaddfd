// RUN: hadal-opt %s -deepseek-attach-adapters -split-input-file -verify-diagnostics

// A weight that an adapter changes may be read by deepseek.linear alone.

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 1, key_dim = 8, value_dim = 8, element = f32>
deepseek.model @m vocab 16 hidden 8 layers 1 context 64 entry @forward {}
deepseek.weight @table : tensor<16x8xf32> {
  %0 = deepseek.source "table" in [] at [] : tensor<16x8xf32>
  deepseek.yield %0 : tensor<16x8xf32>
}
deepseek.weight @embeddings : tensor<16x8xf32> {
  %0 = deepseek.source "embeddings" in [] at [] : tensor<16x8xf32>
  deepseek.yield %0 : tensor<16x8xf32>
}
deepseek.weight @a : tensor<1x2x8xf32> {
  %0 = deepseek.stack_rows () at [] times [] : () -> tensor<1x2x8xf32>
  deepseek.yield %0 : tensor<1x2x8xf32>
}
deepseek.weight @b : tensor<1x2x16xf32> {
  %0 = deepseek.stack_rows () at [] times [] : () -> tensor<1x2x16xf32>
  deepseek.yield %0 : tensor<1x2x16xf32>
}
deepseek.adapters @table down @a up @b
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x16xf32> {
  %table = deepseek.use_weight @table : tensor<16x8xf32>
  %embeddings = deepseek.use_weight @embeddings : tensor<16x8xf32>
  %0 = deepseek.embed %tokens, %embeddings : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %1 = deepseek.gather_rows %0, %outputs : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  // expected-error @below {{'deepseek.lm_head' op reads a weight that adapters change, which is supported in deepseek.linear alone; merge the adapter}}
  %2 = deepseek.lm_head %1, %table : tensor<?x8xf32>, tensor<16x8xf32> -> tensor<?x16xf32>
  return %2 : tensor<?x16xf32>
}

// -----

// All calls of a layer have adapters, or none has.

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 1, key_dim = 8, value_dim = 8, element = f32>
deepseek.model @m vocab 8 hidden 8 layers 1 context 64 entry @forward {}
deepseek.weight @w : tensor<8x8xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<8x8xf32>
  deepseek.yield %0 : tensor<8x8xf32>
}
deepseek.weight @v : tensor<8x8xf32> {
  %0 = deepseek.source "v" in [] at [] : tensor<8x8xf32>
  deepseek.yield %0 : tensor<8x8xf32>
}
deepseek.weight @a : tensor<1x2x8xf32> {
  %0 = deepseek.stack_rows () at [] times [] : () -> tensor<1x2x8xf32>
  deepseek.yield %0 : tensor<1x2x8xf32>
}
deepseek.adapters @w down @a up @a
func.func private @layer(%x: tensor<?x8xf32>, %s: tensor<?xi32>, %w: tensor<8x8xf32>) -> tensor<?x8xf32> {
  %0 = deepseek.linear %x, %w : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x8xf32> {
  %w = deepseek.use_weight @w : tensor<8x8xf32>
  %v = deepseek.use_weight @v : tensor<8x8xf32>
  %0 = deepseek.embed %tokens, %v : tensor<?xi32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %1 = call @layer(%0, %sequences, %w) : (tensor<?x8xf32>, tensor<?xi32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  // expected-error @below {{'func.call' op expects adapters for argument 2, as in other calls of @layer}}
  %2 = call @layer(%1, %sequences, %v) : (tensor<?x8xf32>, tensor<?xi32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %3 = deepseek.gather_rows %2, %outputs : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  return %3 : tensor<?x8xf32>
}

// -----

// A layer that is not told whose rows it has cannot choose, nor one whose adapters are of several shapes.

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 1, key_dim = 8, value_dim = 8, element = f32>
deepseek.model @m vocab 8 hidden 8 layers 1 context 64 entry @forward {}
deepseek.weight @w : tensor<8x8xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<8x8xf32>
  deepseek.yield %0 : tensor<8x8xf32>
}
deepseek.weight @a : tensor<1x2x8xf32> {
  %0 = deepseek.stack_rows () at [] times [] : () -> tensor<1x2x8xf32>
  deepseek.yield %0 : tensor<1x2x8xf32>
}
deepseek.adapters @w down @a up @a
// expected-error @below {{'func.func' op expects the sequences of its rows as an argument, to choose adapters by}}
func.func private @layer(%x: tensor<?x8xf32>, %w: tensor<8x8xf32>) -> tensor<?x8xf32> {
  %0 = deepseek.linear %x, %w : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x8xf32> {
  %w = deepseek.use_weight @w : tensor<8x8xf32>
  %0 = deepseek.embed %tokens, %w : tensor<?xi32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %1 = call @layer(%0, %w) : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %2 = deepseek.gather_rows %1, %outputs : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  return %2 : tensor<?x8xf32>
}

// -----

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 1, key_dim = 8, value_dim = 8, element = f32>
deepseek.model @m vocab 8 hidden 8 layers 1 context 64 entry @forward {}
deepseek.weight @w : tensor<8x8xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<8x8xf32>
  deepseek.yield %0 : tensor<8x8xf32>
}
deepseek.weight @v : tensor<8x8xf32> {
  %0 = deepseek.source "v" in [] at [] : tensor<8x8xf32>
  deepseek.yield %0 : tensor<8x8xf32>
}
deepseek.weight @a : tensor<1x2x8xf32> {
  %0 = deepseek.stack_rows () at [] times [] : () -> tensor<1x2x8xf32>
  deepseek.yield %0 : tensor<1x2x8xf32>
}
deepseek.weight @b : tensor<1x4x8xf32> {
  %0 = deepseek.stack_rows () at [] times [] : () -> tensor<1x4x8xf32>
  deepseek.yield %0 : tensor<1x4x8xf32>
}
deepseek.adapters @w down @a up @a
deepseek.adapters @v down @b up @b
func.func private @layer(%x: tensor<?x8xf32>, %s: tensor<?xi32>, %w: tensor<8x8xf32>) -> tensor<?x8xf32> {
  %0 = deepseek.linear %x, %w : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}
func.func @forward(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x8xf32> {
  %w = deepseek.use_weight @w : tensor<8x8xf32>
  %v = deepseek.use_weight @v : tensor<8x8xf32>
  %0 = deepseek.embed %tokens, %v : tensor<?xi32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %1 = call @layer(%0, %sequences, %w) : (tensor<?x8xf32>, tensor<?xi32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  // expected-error @below {{'func.call' op expects adapters of 'tensor<1x2x8xf32>' for argument 2, as in other calls, but got 'tensor<1x4x8xf32>'}}
  %2 = call @layer(%1, %sequences, %v) : (tensor<?x8xf32>, tensor<?xi32>, tensor<8x8xf32>) -> tensor<?x8xf32>
  %3 = deepseek.gather_rows %2, %outputs : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  return %3 : tensor<?x8xf32>
}
