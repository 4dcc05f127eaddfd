// RUN: hadal-opt %s -split-input-file -verify-diagnostics -deepseek-quantize="scheme=ffn=int8,attention=int4-g32 method=imatrix" | FileCheck %s

// What two classes read is of no one type, if they want several.

// CHECK: deepseek.weight @w : tensor<32x64xbf16>
// expected-remark @below {{cannot quantize 'w': it is part of several classes}}
deepseek.weight @w : tensor<32x64xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<32x64xbf16>
  deepseek.yield %0 : tensor<32x64xbf16>
}
!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 1, key_dim = 32, value_dim = 32, element = f32>
func.func @two_classes(%x: tensor<?x64xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> (tensor<?x32xf32>, tensor<?x32xf32>) {
  %w = deepseek.use_weight @w : tensor<32x64xbf16>
  %q = deepseek.linear %x, %w : tensor<?x64xf32>, tensor<32x64xbf16> -> tensor<?x32xf32>
  %a = deepseek.attention %q, %q, %q at %p of %s in %cache[%layer] heads 1 scale 1.0 : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32>, tensor<?xi32>, !cache -> tensor<?x32xf32>
  %g = deepseek.linear %x, %w : tensor<?x64xf32>, tensor<32x64xbf16> -> tensor<?x32xf32>
  %y = deepseek.swiglu %g, %g : tensor<?x32xf32>
  return %a, %y : tensor<?x32xf32>, tensor<?x32xf32>
}

// -----

// One scale for very many columns: it is not chosen by what a text reads of each.

// CHECK: deepseek.weight @mlp : tensor<32x65536xi8>
// CHECK: deepseek.quantize %{{.+}} group 65536 : tensor<32x65536xbf16> -> tensor<32x65536xi8>
// expected-remark @below {{rounds 'mlp' to nearest: groups of 65536 have too many weights to judge}}
deepseek.weight @mlp : tensor<32x65536xbf16> {
  %0 = deepseek.source "w" in [] at [] : tensor<32x65536xbf16>
  deepseek.yield %0 : tensor<32x65536xbf16>
}
deepseek.weight @statistics.mlp.moment : tensor<65536xf32> {
  %0 = deepseek.source "m" in [] at [] : tensor<65536xf32>
  deepseek.yield %0 : tensor<65536xf32>
}
func.func @wide(%x: tensor<?x65536xf32>) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @mlp : tensor<32x65536xbf16>
  %y = deepseek.linear %x, %w : tensor<?x65536xf32>, tensor<32x65536xbf16> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
