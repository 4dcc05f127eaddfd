// RUN: hadal-opt %s -split-input-file -verify-diagnostics -deepseek-scale-channels="bits=4 group-size=32" -o %t

// What a norm makes and something else than a product reads, and a norm whose weight is read twice.

deepseek.weight @norm : tensor<32xf32> {
  %0 = deepseek.source "norm" in [] at [] : tensor<32xf32>
  deepseek.yield %0 : tensor<32xf32>
}
deepseek.weight @w : tensor<32x32xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<32x32xf32>
  deepseek.yield %0 : tensor<32x32xf32>
}
func.func @other_reader(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %norm = deepseek.use_weight @norm : tensor<32xf32>
  %w = deepseek.use_weight @w : tensor<32x32xf32>
  // expected-remark @below {{keeps the scales of its channels: 'deepseek.add' reads them in another way}}
  %h = deepseek.rms_norm %x, %norm epsilon 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %y = deepseek.linear %h, %w : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %z = deepseek.add %h, %y : tensor<?x32xf32>
  return %z : tensor<?x32xf32>
}

// -----

deepseek.weight @norm : tensor<32xf32> {
  %0 = deepseek.source "norm" in [] at [] : tensor<32xf32>
  deepseek.yield %0 : tensor<32xf32>
}
deepseek.weight @w : tensor<32x32xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<32x32xf32>
  deepseek.yield %0 : tensor<32x32xf32>
}
func.func @norm_twice(%x: tensor<?x32xf32>) -> (tensor<?x32xf32>, tensor<?x32xf32>) {
  %norm = deepseek.use_weight @norm : tensor<32xf32>
  %w = deepseek.use_weight @w : tensor<32x32xf32>
  // expected-remark @below {{keeps the scales of its channels: its weight is read elsewhere, too}}
  %h = deepseek.rms_norm %x, %norm epsilon 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %y = deepseek.linear %h, %w : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %z = deepseek.rms_norm %y, %norm epsilon 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  return %y, %z : tensor<?x32xf32>, tensor<?x32xf32>
}

// -----

// A gated network, and experts, with a limit: the product of gate and up is no longer in proportion to up.

deepseek.weight @gate : tensor<2x32x32xf32> {
  %0 = deepseek.source "gate" in [] at [] : tensor<2x32x32xf32>
  deepseek.yield %0 : tensor<2x32x32xf32>
}
deepseek.weight @up : tensor<2x32x32xf32> {
  %0 = deepseek.source "up" in [] at [] : tensor<2x32x32xf32>
  deepseek.yield %0 : tensor<2x32x32xf32>
}
deepseek.weight @down : tensor<2x32x32xf32> {
  %0 = deepseek.source "down" in [] at [] : tensor<2x32x32xf32>
  deepseek.yield %0 : tensor<2x32x32xf32>
}
func.func @limits(%x: tensor<?x32xf32>, %g: tensor<?x32xf32>, %u: tensor<?x32xf32>, %e: tensor<?x1xi32>, %w: tensor<?x1xf32>) -> (tensor<?x32xf32>, tensor<?x32xf32>) {
  %gate = deepseek.use_weight @gate : tensor<2x32x32xf32>
  %up = deepseek.use_weight @up : tensor<2x32x32xf32>
  %down = deepseek.use_weight @down : tensor<2x32x32xf32>
  // expected-remark @below {{keeps the scales of its channels: they have a limit}}
  %s = deepseek.swiglu %g, %u limit 7.0 : tensor<?x32xf32>
  // expected-remark @below {{keeps the scales of its channels: they have a limit}}
  %y = deepseek.experts %x, %e, %w gate %gate up %up down %down limit 7.0 : tensor<?x32xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<2x32x32xf32>, tensor<2x32x32xf32>, tensor<2x32x32xf32> -> tensor<?x32xf32>
  return %s, %y : tensor<?x32xf32>, tensor<?x32xf32>
}

// -----

// A gated network of what no product makes, and experts that share a matrix.

deepseek.weight @both : tensor<2x32x32xf32> {
  %0 = deepseek.source "both" in [] at [] : tensor<2x32x32xf32>
  deepseek.yield %0 : tensor<2x32x32xf32>
}
func.func @shared(%x: tensor<?x32xf32>, %g: tensor<?x32xf32>, %u: tensor<?x32xf32>, %e: tensor<?x1xi32>, %w: tensor<?x1xf32>) -> (tensor<?x32xf32>, tensor<?x32xf32>) {
  %both = deepseek.use_weight @both : tensor<2x32x32xf32>
  // expected-remark @below {{keeps the scales of its channels: it has no products of its own around it}}
  %s = deepseek.swiglu %g, %u : tensor<?x32xf32>
  // expected-remark @below {{keeps the scales of its channels: its weights are integers, or read elsewhere}}
  %y = deepseek.experts %x, %e, %w gate %both up %both down %both : tensor<?x32xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<2x32x32xf32>, tensor<2x32x32xf32>, tensor<2x32x32xf32> -> tensor<?x32xf32>
  return %s, %y : tensor<?x32xf32>, tensor<?x32xf32>
}

// -----

// Values of heads that something else reads; those of attention, and their output's weight, that are read twice.

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 1, key_dim = 32, value_dim = 32, element = f32>
deepseek.weight @v : tensor<32x32xf32> {
  %0 = deepseek.source "v" in [] at [] : tensor<32x32xf32>
  deepseek.yield %0 : tensor<32x32xf32>
}
deepseek.weight @heads : tensor<1x32x32xf32> {
  %0 = deepseek.source "heads" in [] at [] : tensor<1x32x32xf32>
  deepseek.yield %0 : tensor<1x32x32xf32>
}
deepseek.weight @o : tensor<32x32xf32> {
  %0 = deepseek.source "o" in [] at [] : tensor<32x32xf32>
  deepseek.yield %0 : tensor<32x32xf32>
}
func.func @values(%x: tensor<?x32xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> (tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32>) {
  %v = deepseek.use_weight @v : tensor<32x32xf32>
  %heads = deepseek.use_weight @heads : tensor<1x32x32xf32>
  %o = deepseek.use_weight @o : tensor<32x32xf32>
  %0 = deepseek.head_linear %x, %heads : tensor<?x32xf32>, tensor<1x32x32xf32> -> tensor<?x32xf32>
  // expected-remark @below {{keeps the scales of its channels: what it reads is read elsewhere, too}}
  %1 = deepseek.linear %0, %o : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %2 = deepseek.linear %x, %v : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %3 = deepseek.attention %x, %x, %2 at %p of %s in %cache[%layer] heads 1 scale 1.0 : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32>, tensor<?xi32>, !cache -> tensor<?x32xf32>
  // expected-remark @below {{keeps the scales of its channels: its weights are integers, or read elsewhere}}
  %4 = deepseek.linear %3, %o : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %5 = deepseek.attention %x, %x, %x at %p of %s in %cache[%layer] heads 1 scale 1.0 : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32>, tensor<?xi32>, !cache -> tensor<?x32xf32>
  // expected-remark @below {{keeps the scales of its channels: values are read elsewhere, too}}
  %6 = deepseek.linear %5, %o : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  return %0, %1, %4, %6 : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32>
}

// -----

// A norm that is an argument, of each of two calls, and a product whose weight is not passed.

deepseek.weight @norm.0 : tensor<32xf32> {
  %0 = deepseek.source "norm.0" in [] at [] : tensor<32xf32>
  deepseek.yield %0 : tensor<32xf32>
}
deepseek.weight @norm.1 : tensor<32xf32> {
  %0 = deepseek.source "norm.1" in [] at [] : tensor<32xf32>
  deepseek.yield %0 : tensor<32xf32>
}
deepseek.weight @w : tensor<32x32xf32> {
  %0 = deepseek.source "w" in [] at [] : tensor<32x32xf32>
  deepseek.yield %0 : tensor<32x32xf32>
}
func.func private @layer(%x: tensor<?x32xf32>, %norm: tensor<32xf32>) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @w : tensor<32x32xf32>
  // expected-remark @below {{keeps the scales of its channels: its weights are not all passed alike}}
  %h = deepseek.rms_norm %x, %norm epsilon 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %y = deepseek.linear %h, %w : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
func.func @calls(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %n0 = deepseek.use_weight @norm.0 : tensor<32xf32>
  %n1 = deepseek.use_weight @norm.1 : tensor<32xf32>
  %y = call @layer(%x, %n0) : (tensor<?x32xf32>, tensor<32xf32>) -> tensor<?x32xf32>
  %z = call @layer(%y, %n1) : (tensor<?x32xf32>, tensor<32xf32>) -> tensor<?x32xf32>
  return %z : tensor<?x32xf32>
}

// -----

// The same of what makes values and of what reads them; and statistics of another model.

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 1, key_dim = 32, value_dim = 32, element = f32>
deepseek.weight @v : tensor<32x32xf32> {
  %0 = deepseek.source "v" in [] at [] : tensor<32x32xf32>
  deepseek.yield %0 : tensor<32x32xf32>
}
deepseek.weight @o.0 : tensor<32x32xf32> {
  %0 = deepseek.source "o.0" in [] at [] : tensor<32x32xf32>
  deepseek.yield %0 : tensor<32x32xf32>
}
deepseek.weight @o.1 : tensor<32x32xf32> {
  %0 = deepseek.source "o.1" in [] at [] : tensor<32x32xf32>
  deepseek.yield %0 : tensor<32x32xf32>
}
deepseek.weight @norm : tensor<32xf32> {
  %0 = deepseek.source "norm" in [] at [] : tensor<32xf32>
  deepseek.yield %0 : tensor<32xf32>
}
deepseek.weight @head : tensor<64x32xf32> {
  %0 = deepseek.source "head" in [] at [] : tensor<64x32xf32>
  deepseek.yield %0 : tensor<64x32xf32>
}
deepseek.weight @statistics.head.moment : tensor<16xf32> {
  %0 = deepseek.source "moment" in [] at [] : tensor<16xf32>
  deepseek.yield %0 : tensor<16xf32>
}
func.func private @layer(%x: tensor<?x32xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index, %o: tensor<32x32xf32>) -> tensor<?x32xf32> {
  %v = deepseek.use_weight @v : tensor<32x32xf32>
  %0 = deepseek.linear %x, %v : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  %1 = deepseek.attention %x, %x, %0 at %p of %s in %cache[%layer] heads 1 scale 1.0 : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32>, tensor<?xi32>, !cache -> tensor<?x32xf32>
  // expected-remark @below {{keeps the scales of its channels: its weights are not all passed alike}}
  %2 = deepseek.linear %1, %o : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
  return %2 : tensor<?x32xf32>
}
func.func @calls(%x: tensor<?x32xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x64xf32> {
  %o0 = deepseek.use_weight @o.0 : tensor<32x32xf32>
  %o1 = deepseek.use_weight @o.1 : tensor<32x32xf32>
  %norm = deepseek.use_weight @norm : tensor<32xf32>
  %head = deepseek.use_weight @head : tensor<64x32xf32>
  %y = call @layer(%x, %p, %s, %cache, %layer, %o0) : (tensor<?x32xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<32x32xf32>) -> tensor<?x32xf32>
  %z = call @layer(%y, %p, %s, %cache, %layer, %o1) : (tensor<?x32xf32>, tensor<?xi32>, tensor<?xi32>, !cache, index, tensor<32x32xf32>) -> tensor<?x32xf32>
  // expected-remark @below {{keeps the scales of its channels: the statistics are of another model}}
  %h = deepseek.rms_norm %z, %norm epsilon 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %l = deepseek.lm_head %h, %head : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return %l : tensor<?x64xf32>
}
