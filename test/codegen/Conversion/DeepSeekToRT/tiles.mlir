// How much a kernel takes at a time follows from the caches of the target: of a
// Zen 4, an Ice Lake of a notebook, and a Haswell.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=avx512-vnni l1-bytes=32768 l2-bytes=1048576" | FileCheck %s --check-prefixes=CHECK,ZEN4
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=avx512-vnni l1-bytes=49152 l2-bytes=524288" | FileCheck %s --check-prefixes=CHECK,ICE
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="registers=8 dot-product=avx2 l1-bytes=32768 l2-bytes=262144" | FileCheck %s --check-prefixes=CHECK,HASWELL
// RUN: not hadal-opt %s -convert-deepseek-to-rt="l1-bytes=0" 2>&1 | FileCheck %s --check-prefix=NONE

// NONE: expects caches of some bytes, but got l1-bytes 0 and l2-bytes 1048576

!cache = !deepseek.kv_cache<kind = latent, layers = 1, heads = 1, key_dim = 576, value_dim = 512, element = f32>

deepseek.model @m vocab 64 hidden 32 layers 1 context 512 entry @forward {}
deepseek.weight @table : tensor<64x32xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<64x32xbf16>
  deepseek.yield %0 : tensor<64x32xbf16>
}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %rows: tensor<?xi32>, %cache: !cache) -> tensor<?x64xf32> {
  %table = deepseek.use_weight @table : tensor<64x32xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<64x32xbf16> -> tensor<?x32xf32>
  %l = deepseek.lm_head %x, %table : tensor<?x32xf32>, tensor<64x32xbf16> -> tensor<?x64xf32>
  return %l : tensor<?x64xf32>
}

// A tile of these weights has 64 KiB: as many as half of the second-level cache
// has room for serve a block of rows.

// CHECK:        rt.kernel @linear_int4_512x8192
// ZEN4-SAME:    attributes {tile = {weight_tiles = 8 : i64}}
// ICE-SAME:     attributes {tile = {weight_tiles = 4 : i64}}
// HASWELL-SAME: attributes {tile = {weight_tiles = 2 : i64}}
func.func private @product(%x: tensor<?x8192xf32>, %w: tensor<512x8192xi4, #deepseek.tiled<rows = 16, columns = 8>>, %s: tensor<512x64xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x512xf32> {
  %a = deepseek.linear %x, %w scales %s : tensor<512x64xf16, #deepseek.tiled<rows = 16>> activation_group 128 : tensor<?x8192xf32>, tensor<512x8192xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x512xf32>
  return %a : tensor<?x512xf32>
}

// Sums, queries and scores of a block, beside a page, are to fit the
// second-level cache; columns of a page and of the block's queries the first.

// CHECK:        rt.kernel @absorbed_attention_16_
// ZEN4-SAME:    attributes {tile = {columns = 64 : i64, heads = 16 : i64, rows = 3 : i64}}
// ICE-SAME:     attributes {tile = {columns = 64 : i64, heads = 16 : i64, rows = 3 : i64}}
// HASWELL-SAME: attributes {tile = {columns = 64 : i64, heads = 16 : i64, rows = 2 : i64}}
func.func private @sixteen(%q: tensor<?x8192xf32>, %r: tensor<?x1024xf32>, %c: tensor<?x512xf32>, %k: tensor<?x64xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x8192xf32> {
  %a = deepseek.absorbed_attention %q, %r, %c, %k at %positions of %sequences in %cache[%layer] heads 16 scale 0.1 : tensor<?x8192xf32>, tensor<?x1024xf32>, tensor<?x512xf32>, tensor<?x64xf32>, tensor<?xi32>, !cache -> tensor<?x8192xf32>
  return %a : tensor<?x8192xf32>
}

// CHECK:        rt.kernel @absorbed_attention_8_
// ZEN4-SAME:    attributes {tile = {columns = 64 : i64, heads = 8 : i64, rows = 4 : i64}}
// ICE-SAME:     attributes {tile = {columns = 96 : i64, heads = 8 : i64, rows = 4 : i64}}
// HASWELL-SAME: attributes {tile = {columns = 64 : i64, heads = 8 : i64, rows = 4 : i64}}
func.func private @eight(%q: tensor<?x4096xf32>, %r: tensor<?x512xf32>, %c: tensor<?x512xf32>, %k: tensor<?x64xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x4096xf32> {
  %a = deepseek.absorbed_attention %q, %r, %c, %k at %positions of %sequences in %cache[%layer] heads 8 scale 0.1 : tensor<?x4096xf32>, tensor<?x512xf32>, tensor<?x512xf32>, tensor<?x64xf32>, tensor<?xi32>, !cache -> tensor<?x4096xf32>
  return %a : tensor<?x4096xf32>
}
