// Caches of other elements than f32: what is stored, and how it is read.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt -split-input-file -verify-diagnostics | FileCheck %s --enable-var-scope

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 32, value_dim = 32, element = i8, group = 32>

deepseek.model @m vocab 64 hidden 32 layers 2 context 512 entry @forward {}
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

// A head is keys of 32 x 32 bytes, a scale a token, and the same of values:
// 2304 bytes, of two heads and two layers.

// CHECK: rt.program @m {{.*}}page_bytes = 9216
// CHECK-LABEL: rt.kernel @append_cache_heads_2x32_32_of_2_32_i8g32
// CHECK:         %[[KEYS:.+]] = rt.page {{.+}} bytes 9216, 4608 at 0 : memref<2x32x32xi8, strided<[2304, 32, 1]>>
// CHECK:         %[[KEY_SCALES:.+]] = rt.page {{.+}} at 1024 : memref<2x32xf32, strided<[576, 1]>>
// CHECK:         rt.page {{.+}} at 1152 : memref<2x32x32xi8, strided<[2304, 32, 1]>>
// CHECK:         rt.page {{.+}} at 2176 : memref<2x32xf32, strided<[576, 1]>>
// CHECK:         math.absf
// CHECK:         memref.store %{{.+}}, %[[KEY_SCALES]]
// CHECK:         math.roundeven
// CHECK:         memref.store %{{.+}}, %[[KEYS]]

// Of few slots, integers are widened as they are read; of many, once a page.

// CHECK-LABEL: rt.kernel @attention_4_heads_2x32_32_of_2_32_i8g32
// CHECK:         %[[WIDE:.+]] = memref.alloca() {{.*}}: memref<1x32x32xf32>
// CHECK:         %[[KEYS:.+]] = rt.page {{.+}} : memref<2x32x32xi8, strided<[2304, 32, 1]>>
// CHECK:         memref.prefetch
// CHECK:         %[[K:.+]] = vector.load %[[KEYS]]{{.+}} vector<16xi8>
// CHECK:         arith.extsi %[[K]]
// CHECK:         arith.sitofp
// CHECK:         vector.store %{{.+}}, %[[WIDE]]
// CHECK:         vector.load %[[WIDE]]
func.func private @attention(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x128xf32> {
  %a = deepseek.attention %q, %k, %v at %positions of %sequences in %cache[%layer] heads 4 scale 1.25e-1 : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, !cache -> tensor<?x128xf32>
  return %a : tensor<?x128xf32>
}

// -----

!latents = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 48, value_dim = 32, element = bf16>

deepseek.model @m vocab 64 hidden 32 layers 2 context 512 entry @forward {}
deepseek.weight @table : tensor<64x32xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<64x32xbf16>
  deepseek.yield %0 : tensor<64x32xbf16>
}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %rows: tensor<?xi32>, %cache: !latents) -> tensor<?x64xf32> {
  %table = deepseek.use_weight @table : tensor<64x32xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<64x32xbf16> -> tensor<?x32xf32>
  %l = deepseek.lm_head %x, %table : tensor<?x32xf32>, tensor<64x32xbf16> -> tensor<?x64xf32>
  return %l : tensor<?x64xf32>
}

// Rounded in integers, the same on every target; widened once for all heads.

// CHECK-LABEL: rt.kernel @append_cache_latent_1x48_32_of_2_32_bf16
// CHECK:         rt.page {{.+}} : memref<32x48xbf16>
// CHECK-NOT:     arith.truncf
// CHECK:         arith.trunci %{{.+}} : vector<16xi32> to vector<16xi16>
// CHECK-LABEL: rt.kernel @absorbed_attention_16_16_latent
// CHECK:         %[[WIDE:.+]] = memref.alloca() {{.*}}: memref<32x48xf32>
// CHECK:         %[[PAGE:.+]] = rt.page {{.+}} : memref<32x48xbf16>
// CHECK:         vector.load %[[PAGE]]{{.+}} vector<16xbf16>
// CHECK:         vector.store %{{.+}}, %[[WIDE]]
// CHECK:         memref.load %[[WIDE]]
func.func private @latent(%q: tensor<?x512xf32>, %r: tensor<?x256xf32>, %c: tensor<?x32xf32>, %k: tensor<?x16xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !latents, %layer: index) -> tensor<?x512xf32> {
  %a = deepseek.absorbed_attention %q, %r, %c, %k at %positions of %sequences in %cache[%layer] heads 16 scale 1.25e-1 : tensor<?x512xf32>, tensor<?x256xf32>, tensor<?x32xf32>, tensor<?x16xf32>, tensor<?xi32>, !latents -> tensor<?x512xf32>
  return %a : tensor<?x512xf32>
}

// -----

// A kernel has one scale for a key.

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 32, value_dim = 32, element = i8, group = 16>

deepseek.model @m vocab 64 hidden 32 layers 2 context 512 entry @forward {}
deepseek.weight @table : tensor<64x32xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<64x32xbf16>
  deepseek.yield %0 : tensor<64x32xbf16>
}
// expected-error @below {{expects a cache whose group is key_dim and value_dim to lower, but got '!deepseek.kv_cache<}}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %rows: tensor<?xi32>, %cache: !cache) -> tensor<?x64xf32> {
  %table = deepseek.use_weight @table : tensor<64x32xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<64x32xbf16> -> tensor<?x32xf32>
  %l = deepseek.lm_head %x, %table : tensor<?x32xf32>, tensor<64x32xbf16> -> tensor<?x64xf32>
  return %l : tensor<?x64xf32>
}
