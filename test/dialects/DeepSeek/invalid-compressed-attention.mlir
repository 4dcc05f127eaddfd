// A case per constraint of compressed attention and of what comes with it.

// RUN: hadal-opt %s -split-input-file -verify-diagnostics

func.func @compress_c1(%v: tensor<?x16xf32>, %b: tensor<4x16xf32>, %n: tensor<8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compress' op expects the ratio of a layer of the cache, for entries, but got 8 and}}
  deepseek.compress entries %v, %v bias %b norm %n at %p of %s in %cache[%i] ratio 8 by #deepseek.rotary<dim = 4, theta = 1.6e5 : f64, layout = interleaved> epsilon 1.0e-6 : tensor<?x16xf32>, tensor<4x16xf32>, tensor<8xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>
  return
}

// -----

func.func @compress_c1_index(%v: tensor<?x16xf32>, %b: tensor<4x16xf32>, %n: tensor<8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compress' op expects the ratio of a layer of the cache, for index, but got 128 and}}
  deepseek.compress index %v, %v bias %b norm %n at %p of %s in %cache[%i] ratio 128 by #deepseek.rotary<dim = 4, theta = 1.6e5 : f64, layout = interleaved> epsilon 1.0e-6 : tensor<?x16xf32>, tensor<4x16xf32>, tensor<8xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>
  return
}

// -----

func.func @compress_c2(%v: tensor<?x8xf32>, %b: tensor<4x16xf32>, %n: tensor<8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compress' op expects value of shape ?x16, but got 'tensor<?x8xf32>'}}
  deepseek.compress entries %v, %v bias %b norm %n at %p of %s in %cache[%i] ratio 4 by #deepseek.rotary<dim = 4, theta = 1.6e5 : f64, layout = interleaved> epsilon 1.0e-6 : tensor<?x8xf32>, tensor<4x16xf32>, tensor<8xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>
  return
}

// -----

func.func @compress_c3(%v: tensor<?x16xf32>, %b: tensor<4x8xf32>, %n: tensor<8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compress' op expects bias of shape 4x16, but got 'tensor<4x8xf32>'}}
  deepseek.compress entries %v, %v bias %b norm %n at %p of %s in %cache[%i] ratio 4 by #deepseek.rotary<dim = 4, theta = 1.6e5 : f64, layout = interleaved> epsilon 1.0e-6 : tensor<?x16xf32>, tensor<4x8xf32>, tensor<8xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>
  return
}

// -----

func.func @compress_c3_norm(%v: tensor<?x16xf32>, %b: tensor<4x16xf32>, %n: tensor<16xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compress' op expects norm of shape 8, but got 'tensor<16xf32>'}}
  deepseek.compress entries %v, %v bias %b norm %n at %p of %s in %cache[%i] ratio 4 by #deepseek.rotary<dim = 4, theta = 1.6e5 : f64, layout = interleaved> epsilon 1.0e-6 : tensor<?x16xf32>, tensor<4x16xf32>, tensor<16xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>
  return
}

// -----

func.func @compress_c4(%v: tensor<?x16xf32>, %b: tensor<4x16xf32>, %n: tensor<8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compress' op expects an interleaved rotary embedding of at most 8 dimensions, but got}}
  deepseek.compress entries %v, %v bias %b norm %n at %p of %s in %cache[%i] ratio 4 by #deepseek.rotary<dim = 4, theta = 1.6e5 : f64, layout = half_split> epsilon 1.0e-6 : tensor<?x16xf32>, tensor<4x16xf32>, tensor<8xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>
  return
}

// -----

func.func @compress_c5(%v: tensor<?x16xf32>, %b: tensor<4x16xf32>, %n: tensor<8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compress' op expects epsilon > 0, but got 0.000000e+00 : f32}}
  deepseek.compress entries %v, %v bias %b norm %n at %p of %s in %cache[%i] ratio 4 by #deepseek.rotary<dim = 4, theta = 1.6e5 : f64, layout = interleaved> epsilon 0.0 : tensor<?x16xf32>, tensor<4x16xf32>, tensor<8xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>
  return
}

// -----

func.func @select_entries_c1(%q: tensor<?x12xf32>, %w: tensor<?x3xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 128], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.select_entries' op expects a cache with layers of overlapping windows, but got}}
  %0 = deepseek.select_entries %q, %w at %p of %s in %cache[%i] heads 3 scale 0.5 : tensor<?x12xf32>, tensor<?x3xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 128], overlapping = 4, element = f32> -> tensor<?x5xi32>
  return
}

// -----

func.func @select_entries_c2(%q: tensor<?x8xf32>, %w: tensor<?x3xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.select_entries' op expects query of shape ?x12, but got 'tensor<?x8xf32>'}}
  %0 = deepseek.select_entries %q, %w at %p of %s in %cache[%i] heads 3 scale 0.5 : tensor<?x8xf32>, tensor<?x3xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32> -> tensor<?x5xi32>
  return
}

// -----

func.func @select_entries_c2_weights(%q: tensor<?x12xf32>, %w: tensor<?x4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.select_entries' op expects weights of shape ?x3, but got 'tensor<?x4xf32>'}}
  %0 = deepseek.select_entries %q, %w at %p of %s in %cache[%i] heads 3 scale 0.5 : tensor<?x12xf32>, tensor<?x4xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32> -> tensor<?x5xi32>
  return
}

// -----

func.func @select_entries_c3(%q: tensor<?x12xf32>, %w: tensor<?x3xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.select_entries' op expects scale > 0, but got -5.000000e-01 : f64}}
  %0 = deepseek.select_entries %q, %w at %p of %s in %cache[%i] heads 3 scale -0.5 : tensor<?x12xf32>, tensor<?x3xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32> -> tensor<?x5xi32>
  return
}

// -----

func.func @compressed_attention_c1(%q: tensor<?x24xf32>, %k: tensor<?x8xf32>, %sinks: tensor<2xf32>, %sel: tensor<?x5xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compressed_attention' op expects query of shape ?x16, but got 'tensor<?x24xf32>'}}
  %0 = deepseek.compressed_attention %q, %k sinks %sinks selected %sel : tensor<?x5xi32> at %p of %s in %cache[%i, %i] heads 2 window 16 ratio 4 scale 0.25 : tensor<?x24xf32>, tensor<?x8xf32>, tensor<2xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32> -> tensor<?x24xf32>
  return
}

// -----

func.func @compressed_attention_c1_key(%q: tensor<?x16xf32>, %k: tensor<?x4xf32>, %sinks: tensor<2xf32>, %sel: tensor<?x5xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compressed_attention' op expects key of shape ?x8, but got 'tensor<?x4xf32>'}}
  %0 = deepseek.compressed_attention %q, %k sinks %sinks selected %sel : tensor<?x5xi32> at %p of %s in %cache[%i, %i] heads 2 window 16 ratio 4 scale 0.25 : tensor<?x16xf32>, tensor<?x4xf32>, tensor<2xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32> -> tensor<?x16xf32>
  return
}

// -----

func.func @compressed_attention_c1_sinks(%q: tensor<?x16xf32>, %k: tensor<?x8xf32>, %sinks: tensor<3xf32>, %sel: tensor<?x5xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compressed_attention' op expects sinks of shape 2, but got 'tensor<3xf32>'}}
  %0 = deepseek.compressed_attention %q, %k sinks %sinks selected %sel : tensor<?x5xi32> at %p of %s in %cache[%i, %i] heads 2 window 16 ratio 4 scale 0.25 : tensor<?x16xf32>, tensor<?x8xf32>, tensor<3xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32> -> tensor<?x16xf32>
  return
}

// -----

func.func @compressed_attention_c2(%q: tensor<?x16xf32>, %k: tensor<?x8xf32>, %sinks: tensor<2xf32>, %sel: tensor<?x5xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compressed_attention' op expects ratio 0 or that of a layer of the cache, with selected entries where windows overlap and only there, but got 8 with some}}
  %0 = deepseek.compressed_attention %q, %k sinks %sinks selected %sel : tensor<?x5xi32> at %p of %s in %cache[%i, %i] heads 2 window 16 ratio 8 scale 0.25 : tensor<?x16xf32>, tensor<?x8xf32>, tensor<2xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32> -> tensor<?x16xf32>
  return
}

// -----

func.func @compressed_attention_c2_selected(%q: tensor<?x16xf32>, %k: tensor<?x8xf32>, %sinks: tensor<2xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compressed_attention' op expects ratio 0 or that of a layer of the cache, with selected entries where windows overlap and only there, but got 4 with none}}
  %0 = deepseek.compressed_attention %q, %k sinks %sinks at %p of %s in %cache[%i, %i] heads 2 window 16 ratio 4 scale 0.25 : tensor<?x16xf32>, tensor<?x8xf32>, tensor<2xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32> -> tensor<?x16xf32>
  return
}

// -----

func.func @compressed_attention_c3(%q: tensor<?x16xf32>, %k: tensor<?x8xf32>, %sinks: tensor<2xf32>, %sel: tensor<?x5xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compressed_attention' op expects window > 0, but got 0}}
  %0 = deepseek.compressed_attention %q, %k sinks %sinks selected %sel : tensor<?x5xi32> at %p of %s in %cache[%i, %i] heads 2 window 0 ratio 4 scale 0.25 : tensor<?x16xf32>, tensor<?x8xf32>, tensor<2xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32> -> tensor<?x16xf32>
  return
}

// -----

func.func @compressed_attention_c3_heads(%q: tensor<?x16xf32>, %k: tensor<?x8xf32>, %sinks: tensor<2xf32>, %sel: tensor<?x5xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compressed_attention' op expects heads > 0, but got 0}}
  %0 = deepseek.compressed_attention %q, %k sinks %sinks selected %sel : tensor<?x5xi32> at %p of %s in %cache[%i, %i] heads 0 window 16 ratio 4 scale 0.25 : tensor<?x16xf32>, tensor<?x8xf32>, tensor<2xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32> -> tensor<?x16xf32>
  return
}

// -----

func.func @compressed_attention_c3_scale(%q: tensor<?x16xf32>, %k: tensor<?x8xf32>, %sinks: tensor<2xf32>, %sel: tensor<?x5xi32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>, %i: index) {
  // expected-error @below {{'deepseek.compressed_attention' op expects scale > 0, but got 0.000000e+00 : f64}}
  %0 = deepseek.compressed_attention %q, %k sinks %sinks selected %sel : tensor<?x5xi32> at %p of %s in %cache[%i, %i] heads 2 window 16 ratio 4 scale 0.0 : tensor<?x16xf32>, tensor<?x8xf32>, tensor<2xf32>, tensor<?xi32>, !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32> -> tensor<?x16xf32>
  return
}

// -----

func.func @unit_norm_c1(%x: tensor<?x16xf32>) {
  // expected-error @below {{'deepseek.unit_norm' op expects heads that divide 16 columns, but got 3}}
  %0 = deepseek.unit_norm %x heads 3 epsilon 1.0e-6 : tensor<?x16xf32>
  return
}

// -----

func.func @unit_norm_c2(%x: tensor<?x16xf32>) {
  // expected-error @below {{'deepseek.unit_norm' op expects epsilon > 0, but got 0.000000e+00 : f32}}
  %0 = deepseek.unit_norm %x heads 2 epsilon 0.0 : tensor<?x16xf32>
  return
}

// -----

func.func @swiglu_c1(%x: tensor<?x16xf32>) {
  // expected-error @below {{'deepseek.swiglu' op expects limit > 0, but got 0.000000e+00 : f64}}
  %0 = deepseek.swiglu %x, %x limit 0.0 : tensor<?x16xf32>
  return
}

// -----

func.func @experts_c6(%x: tensor<?x32xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %g: tensor<8x32x32xbf16>) {
  // expected-error @below {{'deepseek.experts' op expects limit > 0, but got -1.000000e+00 : f64}}
  %0 = deepseek.experts %x, %e, %w gate %g up %g down %g limit -1.0 : tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x32x32xbf16>, tensor<8x32x32xbf16>, tensor<8x32x32xbf16> -> tensor<?x32xf32>
  return
}

// -----

func.func @hash_router_c1(%l: tensor<?x8xf32>, %t: tensor<?xi32>, %table: tensor<40x3xi32>) {
  // expected-error @below {{'deepseek.hash_router' op expects table of shape ?x2, but got 'tensor<40x3xi32>'}}
  %e, %w = deepseek.hash_router %l, %t, %table by <scoring = sqrt_softplus, method = hash, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = true, scale = 1.5 : f64> : tensor<?x8xf32>, tensor<?xi32>, tensor<40x3xi32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @hash_router_c2(%l: tensor<?x8xf32>, %t: tensor<?xi32>, %table: tensor<40x2xi32>) {
  // expected-error @below {{'deepseek.hash_router' op expects method hash, but got greedy}}
  %e, %w = deepseek.hash_router %l, %t, %table by <scoring = sqrt_softplus, method = greedy, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = true, scale = 1.5 : f64> : tensor<?x8xf32>, tensor<?xi32>, tensor<40x2xi32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @router_c5(%l: tensor<?x8xf32>) {
  // expected-error @below {{'deepseek.router' op expects a method that chooses by scores, but got hash}}
  %e, %w = deepseek.router %l by <scoring = sqrt_softplus, method = hash, experts = 8, top_k = 2, groups = 1, top_groups = 1, normalize = true, scale = 1.5 : f64> unchecked : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

deepseek.weight @dequantize_mxfp4_c1 : tensor<4x48xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x24xi8>
  %1 = deepseek.source "s" in [] at [] : tensor<4x2xf8E8M0FNU>
  // expected-error @below {{'deepseek.dequantize_mxfp4' op expects rows of a multiple of 32 numbers, but got 'tensor<4x48xbf16>'}}
  %2 = deepseek.dequantize_mxfp4 %0, %1 : tensor<4x24xi8>, tensor<4x2xf8E8M0FNU> -> tensor<4x48xbf16>
  deepseek.yield %2 : tensor<4x48xbf16>
}

// -----

deepseek.weight @dequantize_mxfp4_c1_scales : tensor<4x64xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<4x32xi8>
  %1 = deepseek.source "s" in [] at [] : tensor<4x1xf8E8M0FNU>
  // expected-error @below {{'deepseek.dequantize_mxfp4' op expects scales of shape 4x2, but got 'tensor<4x1xf8E8M0FNU>'}}
  %2 = deepseek.dequantize_mxfp4 %0, %1 : tensor<4x32xi8>, tensor<4x1xf8E8M0FNU> -> tensor<4x64xbf16>
  deepseek.yield %2 : tensor<4x64xbf16>
}

// -----

deepseek.weight @expert_ids_c1 : tensor<4x3xi32> {
  %0 = deepseek.source "t" in [] at [] : tensor<4x2xi64>
  // expected-error @below {{'deepseek.expert_ids' op expects a result of shape 4x2, but got 'tensor<4x3xi32>'}}
  %1 = deepseek.expert_ids %0 of 6 : tensor<4x2xi64> -> tensor<4x3xi32>
  deepseek.yield %1 : tensor<4x3xi32>
}

// -----

deepseek.weight @expert_ids_c2 : tensor<4x2xi32> {
  %0 = deepseek.source "t" in [] at [] : tensor<4x2xi64>
  // expected-error @below {{'deepseek.expert_ids' op expects experts > 0, but got 0}}
  %1 = deepseek.expert_ids %0 of 0 : tensor<4x2xi64> -> tensor<4x2xi32>
  deepseek.yield %1 : tensor<4x2xi32>
}

// -----

// expected-error @below {{expects dim > 0, but got 0}}
func.func private @compressed_cache_dim(!deepseek.compressed_cache<dim = 0, index_dim = 4, ratios = [0], overlapping = 4, element = f32>)

// -----

// expected-error @below {{expects index_dim > 0, but got 0}}
func.func private @compressed_cache_index_dim(!deepseek.compressed_cache<dim = 8, index_dim = 0, ratios = [0], overlapping = 4, element = f32>)

// -----

// expected-error @below {{expects layers > 0, but got 0}}
func.func private @compressed_cache_layers(!deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [], overlapping = 4, element = f32>)

// -----

// expected-error @below {{expects ratios >= 0, but got -4}}
func.func private @compressed_cache_ratio(!deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [-4], overlapping = 4, element = f32>)

// -----

// expected-error @below {{expects f32 elements, but got 'f16'}}
func.func private @compressed_cache_element(!deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0], overlapping = 4, element = f16>)

// -----

// expected-error @below {{expects one group for hash, but got 2}}
func.func private @routing_hash_groups() attributes {routing = #deepseek.routing<scoring = sqrt_softplus, method = hash, experts = 8, top_k = 2, groups = 2, top_groups = 1, normalize = true, scale = 1.5 : f64>}
