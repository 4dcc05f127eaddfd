// Weights whose codes lie in records with scales and offsets of two levels: a
// single row reads them as one stream, in the order of memory.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=avx512-vnni follows-streams" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,STREAM
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=avx512-vnni follows-streams is-read" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,READ

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @m vocab 32 hidden 1024 layers 1 context 64 entry @forward {}

deepseek.weight @head : tensor<32x1024xui5> {
  %0 = deepseek.source "head" in [] at [] : tensor<32x704xi8>
  %1 = deepseek.gguf_part codes of q5_k %0 : tensor<32x704xi8> -> tensor<32x1024xui5>
  deepseek.yield %1 : tensor<32x1024xui5>
}
deepseek.weight @head.scales : tensor<32x40xi8> {
  %0 = deepseek.source "head" in [] at [] : tensor<32x704xi8>
  %1 = deepseek.gguf_part scales of q5_k %0 : tensor<32x704xi8> -> tensor<32x40xi8>
  deepseek.yield %1 : tensor<32x40xi8>
}
deepseek.weight @head.offsets : tensor<32x40xi8> {
  %0 = deepseek.source "head" in [] at [] : tensor<32x704xi8>
  %1 = deepseek.gguf_part offsets of q5_k %0 : tensor<32x704xi8> -> tensor<32x40xi8>
  deepseek.yield %1 : tensor<32x40xi8>
}

// What is in a record is found without a division: records, blocks of one and
// groups of one are loops. A record begins with all lines of its scales and
// offsets, and of a group's codes the line of high bits, which every lane needs,
// comes last. A compiler of source orders lines as it likes.

// CHECK-LABEL: rt.kernel @linear_uint5_32x1024_32_32_scales_levels_offsets_levels
// CHECK:         scf.for {{.+}} step %c12
// CHECK:         memref.prefetch {{.+}}, locality<2>
// CHECK:         scf.for %{{.+}} step %{{.+}} iter_args(%{{.+}} = %{{.+}}) -> (vector<16xf32>) {
// CHECK-COUNT-10:  memref.prefetch {{.+}}, locality<3>, data : memref<2x2x20x16xi8
// CHECK-NOT:       memref.prefetch
// CHECK:           scf.for %{{.+}} step %{{.+}} iter_args(%{{.+}} = %{{.+}}) -> (vector<16xf32>) {
// CHECK:             arith.extf %{{.+}} : vector<16xf16> to vector<16xf32>
// CHECK:             scf.for %{{.+}} step %{{.+}} iter_args(%{{.+}} = %{{.+}}) -> (vector<16xf32>) {
// CHECK-NOT:           arith.remui
// STREAM:              vector.load %{{.+}} : memref<2x2x80x64xi8
// STREAM-NEXT:         llvm.fence syncscope("singlethread") acq_rel
// STREAM:              vector.load %{{.+}} : memref<2x2x80x64xi8
// STREAM-NEXT:         llvm.fence syncscope("singlethread") acq_rel
// READ-NOT:            llvm.fence
// CHECK-COUNT-8:       vpdpbusd
// CHECK:             scf.yield
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x32xf32> {
  %w = deepseek.use_weight @head : tensor<32x1024xui5>
  %s = deepseek.use_weight @head.scales : tensor<32x40xi8>
  %o = deepseek.use_weight @head.offsets : tensor<32x40xi8>
  %x = deepseek.embed %ids, %w scales %s : tensor<32x40xi8> offsets %o : tensor<32x40xi8> : tensor<?xi32>, tensor<32x1024xui5> -> tensor<?x1024xf32>
  %l = deepseek.lm_head %x, %w scales %s : tensor<32x40xi8> offsets %o : tensor<32x40xi8> activation_group 32 : tensor<?x1024xf32>, tensor<32x1024xui5> -> tensor<?x32xf32>
  return %l : tensor<?x32xf32>
}
