// Attention: the items it has, what a long context is cut into, and the loops
// over a page.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt -split-input-file | FileCheck %s --enable-var-scope --check-prefixes=CHECK,WIDE
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="registers=8" -split-input-file | FileCheck %s --enable-var-scope --check-prefixes=CHECK,NARROW

!cache = !deepseek.kv_cache<kind = heads, layers = 2, heads = 2, key_dim = 64, value_dim = 32, element = f32>

deepseek.model @m vocab 64 hidden 32 layers 2 context 2048 entry @forward {}
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

// Two KV heads are two groups of items, which a split attention takes side by
// side. A step of fewer than eight rows takes the four segments of 512 tokens one
// by one, in buffers for seven, and merges them; any other takes blocks of rows.

// CHECK-LABEL: func.func private @attention
// CHECK-SAME:    %[[POS:[^ ]+]]: memref<?xi32>, %{{[^ ]+}}: memref<?xi32>, %{{[^ ]+}}: index, %[[OUT:[^ ]+]]: memref
// CHECK:         %[[ROWS:.+]] = rt.tokens
// CHECK:         %[[C8:.+]] = arith.constant 8 : index
// CHECK:         %[[FEW:.+]] = arith.cmpi slt, %[[ROWS]], %[[C8]]
// CHECK:         %[[NONE:.+]] = arith.constant 0 : index
// CHECK:         %[[SUMS:.+]] = rt.alloc %{{.+}} bytes 0 * tokens + 14336 : memref<28x4x32xf32>
// CHECK:         %[[STATS:.+]] = rt.alloc %{{.+}} bytes 0 * tokens + 896 : memref<28x2x4xf32>
// CHECK:         %[[SEGMENTS:.+]] = arith.select %[[FEW]], %{{.+}}, %[[NONE]]
// CHECK:         rt.dispatch @attention_split_4_4_heads{{.*}} items %[[SEGMENTS]] of {{.+}} %[[SUMS]], %[[STATS]])
// CHECK:         %[[HEADS:.+]] = arith.select %[[FEW]], %{{.+}}, %[[NONE]]
// CHECK:         rt.dispatch @merge_segments_1x4x32_of_4{{.*}} items %[[HEADS]] of %{{.+}}(%[[SUMS]], %[[STATS]], %[[POS]], %[[OUT]])
// CHECK:         %[[BLOCKS:.+]] = arith.select %[[FEW]], %[[NONE]], %{{.+}}
// CHECK:         rt.dispatch @attention_4_heads{{.*}} items %[[BLOCKS]] of {{.+}}, %[[OUT]], %[[ROWS]], %{{.+}})

// Keys are stored with tokens next to each other. An item is a head of
// neighboring rows, which share the lines of a page.

// CHECK-LABEL: rt.kernel @append_cache_heads_2x64_32
// CHECK:         scf.for %[[ITEM:[^ ]+]] =
// CHECK:         %[[HEAD:[^ ]+]] = arith.remui %[[ITEM]],
// CHECK:         scf.for %[[ROW:[^ ]+]] =
// CHECK:         %[[TOKEN:[^ ]+]] = arith.remui
// CHECK:         rt.page {{.+}} : memref<2x64x32xf32, strided<[3072, 32, 1]>>
// CHECK:         rt.page {{.+}} : memref<2x32x32xf32, strided<[3072, 32, 1]>>
// CHECK:             memref.store %{{.+}}, %{{.+}}[%[[HEAD]], %{{.+}}, %[[TOKEN]]] : memref<2x64x32xf32, strided<[3072, 32, 1]>>

// Two slots of each of two heads of keys are scored at a time, and their values
// added, of both in one loop; with eight registers, one head at a time.

// CHECK-LABEL: rt.kernel @attention_split_4_4_heads
// WIDE:          %{{.+}}:8 = scf.for
// NARROW:        %{{.+}}:4 = scf.for
// WIDE:          %{{.+}}:8 = scf.for
// NARROW:        %{{.+}}:4 = scf.for

// Eight slots at a time, or two with eight registers: sixteen tokens in a
// vector are scored, column by column.

// CHECK-LABEL: rt.kernel @attention_4_heads
// CHECK:         %[[KEYS:.+]] = rt.page {{.+}} : memref<2x64x32xf32, strided<[3072, 32, 1]>>
// CHECK:         %[[VALUES:.+]] = rt.page {{.+}} : memref<2x32x32xf32, strided<[3072, 32, 1]>>
// WIDE:          scf.for %{{.+}} step %c8
// NARROW:        scf.for %{{.+}} step %c2
// CHECK:           scf.for %[[TOKEN:[^ ]+]] =
// WIDE:              %{{.+}}:16 = scf.for %[[COLUMN:[^ ]+]] =
// NARROW:            %{{.+}}:4 = scf.for %[[COLUMN:[^ ]+]] =
// CHECK:               %[[K:.+]] = vector.load %[[KEYS]][%{{.+}}, %[[COLUMN]], %[[TOKEN]]] : memref<2x64x32xf32, strided<[3072, 32, 1]>>, vector<16xf32>
// CHECK:               vector.load %[[KEYS]]
// CHECK:               %[[Q:.+]] = vector.broadcast %{{.+}} : f32 to vector<16xf32>
// CHECK:               math.fma %[[Q]], %[[K]],

// Then the weighted values: a loop over the tokens that all slots see, and one
// over those that some do.

// CHECK:             %[[VALID:.+]]:{{4|16}} = scf.for
// CHECK:               vector.load %[[VALUES]]
// CHECK-NOT:           arith.select
// CHECK:               scf.yield
// CHECK:             scf.for {{.+}} iter_args({{.+}} = %[[VALID]]#0,
// CHECK:               vector.load %[[VALUES]]
// CHECK:               %[[SEEN:.+]] = arith.cmpi slt
// CHECK:               %[[SUM:.+]] = math.fma
// CHECK:               arith.select %[[SEEN]], %[[SUM]],
func.func private @attention(%q: tensor<?x256xf32>, %k: tensor<?x128xf32>, %v: tensor<?x64xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x128xf32> {
  %a = deepseek.attention %q, %k, %v at %positions of %sequences in %cache[%layer] heads 4 scale 1.25e-1 : tensor<?x256xf32>, tensor<?x128xf32>, tensor<?x64xf32>, tensor<?xi32>, !cache -> tensor<?x128xf32>
  return %a : tensor<?x128xf32>
}

// -----

!latents = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 48, value_dim = 32, element = f32>

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

// Heads are lanes. A latent is loaded element by element for its scores, of two
// rows at a time, and by vectors as a value. The context is one segment, which is never split.

// CHECK-LABEL: func.func private @latent
// CHECK-NOT:     split
// CHECK:         rt.dispatch @absorbed_attention_16_16_latent
// CHECK-LABEL: rt.kernel @absorbed_attention_16_16_latent
// CHECK:         %[[PAGE:.+]] = rt.page {{.+}} : memref<32x48xf32>
// WIDE:          %{{.+}}:16 = scf.for %[[COLUMN:[^ ]+]] =
// NARROW:        %{{.+}}:4 = scf.for %[[COLUMN:[^ ]+]] =
// CHECK:           %[[Q:.+]] = vector.load %{{.+}}[%{{.+}}, %[[COLUMN]], %{{.+}}] : memref<4x48x16xf32>, vector<16xf32>
// CHECK:           vector.load %{{.+}}[%{{.+}}, %[[COLUMN]], %{{.+}}] : memref<4x48x16xf32>, vector<16xf32>
// CHECK:           memref.load %[[PAGE]][%{{.+}}, %[[COLUMN]]]
// CHECK:           %[[K:.+]] = vector.broadcast %{{.+}} : f32 to vector<16xf32>
// CHECK:           math.fma %[[K]], %[[Q]],
// CHECK:         vector.load %[[PAGE]][%{{.+}}, %{{.+}}] : memref<32x48xf32>, vector<16xf32>
func.func private @latent(%q: tensor<?x512xf32>, %r: tensor<?x256xf32>, %c: tensor<?x32xf32>, %k: tensor<?x16xf32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %cache: !latents, %layer: index) -> tensor<?x512xf32> {
  %a = deepseek.absorbed_attention %q, %r, %c, %k at %positions of %sequences in %cache[%layer] heads 16 scale 1.25e-1 : tensor<?x512xf32>, tensor<?x256xf32>, tensor<?x32xf32>, tensor<?x16xf32>, tensor<?xi32>, !latents -> tensor<?x512xf32>
  return %a : tensor<?x512xf32>
}
