// What the ops of hyper-connections and of attention over compressed entries
// become: their kernels, work items, and places in a page.

// RUN: hadal-opt %s -convert-deepseek-to-rt | FileCheck %s --enable-var-scope

#rotary = #deepseek.rotary<dim = 4, theta = 1.6e5 : f64, layout = interleaved>
!cache = !deepseek.compressed_cache<dim = 8, index_dim = 4, ratios = [0, 4, 128, 4], overlapping = 4, element = f32>

// A page of 32 tokens: keys of 4 layers, 1024 bytes each; from 4096 on values,
// gates and entries of two layers of 4; of their index; of one layer of 128.
// CHECK: rt.program @m entry @forward {{.*}}page_bytes = 19264 : i64
deepseek.model @m vocab 40 hidden 32 layers 4 context 256 entry @forward {}

// CHECK-LABEL: func.func private @compress
// CHECK-SAME:    (%[[STEP:.+]]: !rt.step, %[[V:[^:]+]]: {{.+}}, %[[G:[^:]+]]: {{.+}}, %[[B:[^:]+]]: memref<4x16xf32>, %[[N:[^:]+]]: memref<16xf32>, %[[P:[^:]+]]: memref<?xi32>, %[[S:[^:]+]]: memref<?xi32>, %[[I:[^:]+]]: index
// CHECK:         %[[TOKENS:.+]] = rt.tokens
// CHECK:         %[[TABLE:.+]] = rt.weight %[[STEP]] at 0 "rotary_table.0"
// CHECK:         rt.dispatch @append_compressor_4_{{.*}} items %[[TOKENS]] of %{{.+}}(%[[V]], %[[G]], %[[B]], %[[P]], %[[S]], %[[I]])
// CHECK:         rt.dispatch @compress_4_4_{{.*}} items %[[TOKENS]] of %{{.+}}(%[[N]], %[[TABLE]], %[[P]], %[[S]], %[[I]])
func.func private @compress(%v: tensor<?x16xf32>, %g: tensor<?x16xf32>, %b: tensor<4x16xf32>, %n: tensor<8xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %index: index) {
  deepseek.compress entries %v, %g bias %b norm %n at %p of %s in %cache[%index] ratio 4 by #rotary epsilon 1.0e-6 : tensor<?x16xf32>, tensor<4x16xf32>, tensor<8xf32>, tensor<?xi32>, !cache
  return
}

// CHECK-LABEL: func.func private @attend
// CHECK:         rt.dispatch @select_entries_5_3_{{.*}} items %[[TOKENS:.+]] of
// CHECK:         rt.dispatch @append_compressed_{{.*}} items %[[TOKENS]] of
// CHECK:         rt.dispatch @compressed_attention_1x2_16_4_5_32_{{.*}} items %[[TOKENS]] of
func.func private @attend(%q: tensor<?x16xf32>, %k: tensor<?x8xf32>, %sinks: tensor<2xf32>, %iq: tensor<?x12xf32>, %iw: tensor<?x3xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index, %index: index) -> tensor<?x16xf32> {
  %selected = deepseek.select_entries %iq, %iw at %p of %s in %cache[%index] heads 3 scale 0.5 : tensor<?x12xf32>, tensor<?x3xf32>, tensor<?xi32>, !cache -> tensor<?x5xi32>
  %0 = deepseek.compressed_attention %q, %k sinks %sinks selected %selected : tensor<?x5xi32> at %p of %s in %cache[%layer, %index] heads 2 window 16 ratio 4 scale 0.25 : tensor<?x16xf32>, tensor<?x8xf32>, tensor<2xf32>, tensor<?xi32>, !cache -> tensor<?x16xf32>
  return %0 : tensor<?x16xf32>
}

// Products of the streams are items of their own.

// CHECK-LABEL: func.func private @streams
// CHECK:         %[[ROWS:.+]] = arith.constant 24 : index
// CHECK:         %[[ITEMS:.+]] = arith.muli %[[TOKENS:.+]], %[[ROWS]]
// CHECK:         rt.dispatch @hyper_project_24x128_{{.*}} items %[[ITEMS]] of
// CHECK:         rt.dispatch @hyper_mix_4x32_20_{{.*}} items %[[TOKENS]] of
// CHECK:         rt.dispatch @swiglu_32_limit_{{.*}} items %[[TOKENS]] of
// CHECK:         rt.dispatch @unit_norm_2x16_{{.*}} items %[[TOKENS]] of
// CHECK:         rt.dispatch @hyper_update_4x32_{{.*}} items %[[TOKENS]] of
func.func private @streams(%x: tensor<?x128xf32>, %fn: tensor<24x128xf32>, %base: tensor<24xf32>, %scale: tensor<3xf32>) -> tensor<?x128xf32> {
  %u, %post, %comb = deepseek.hyper_mix %x, %fn, %base, %scale streams 4 iterations 20 norm_epsilon 1.0e-6 epsilon 1.0e-6 : tensor<?x128xf32>, tensor<24x128xf32>, tensor<24xf32>, tensor<3xf32> -> tensor<?x32xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  %y = deepseek.swiglu %u, %u limit 10.0 : tensor<?x32xf32>
  %z = deepseek.unit_norm %y heads 2 epsilon 1.0e-6 : tensor<?x32xf32>
  %0 = deepseek.hyper_update %x, %z, %post, %comb : tensor<?x128xf32>, tensor<?x32xf32>, tensor<?x4xf32>, tensor<?x16xf32>
  return %0 : tensor<?x128xf32>
}

// CHECK-LABEL: rt.kernel @append_compressor_4_
// CHECK:         rt.page %{{.+}}[%{{.+}}, %{{.+}}] layer %{{.+}} bytes 19264, 4352 at 0 base 4096 : memref<32x16xf32>
// CHECK:         rt.page {{.*}} bytes 19264, 4352 at 2048 base 4096 : memref<32x16xf32>
// CHECK-LABEL: rt.kernel @compress_4_4_
// CHECK:         rt.page {{.*}} bytes 19264, 4352 at 4096 base 4096 : memref<8x8xf32>

deepseek.weight @embed : tensor<40x32xf32> {
  %0 = deepseek.source "embed" in [] at [] : tensor<40x32xf32>
  deepseek.yield %0 : tensor<40x32xf32>
}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x40xf32> {
  %w = deepseek.use_weight @embed : tensor<40x32xf32>
  %x = deepseek.embed %ids, %w : tensor<?xi32>, tensor<40x32xf32> -> tensor<?x32xf32>
  %r = deepseek.gather_rows %x, %outputs : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %h = deepseek.use_weight @head : tensor<40x32xf32, #deepseek.tiled<rows = 16>>
  %l = deepseek.lm_head %r, %h : tensor<?x32xf32>, tensor<40x32xf32, #deepseek.tiled<rows = 16>> -> tensor<?x40xf32>
  return %l : tensor<?x40xf32>
}
deepseek.weight @head : tensor<40x32xf32, #deepseek.tiled<rows = 16>> {
  %0 = deepseek.source "head" in [] at [] : tensor<40x32xf32>
  %1 = deepseek.pack %0 : tensor<40x32xf32> to tensor<40x32xf32, #deepseek.tiled<rows = 16>>
  deepseek.yield %1 : tensor<40x32xf32, #deepseek.tiled<rows = 16>>
}
