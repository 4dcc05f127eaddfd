// The loops of a kernel: what is vectorized, and in what order sums are made.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt -split-input-file | FileCheck %s --enable-var-scope --check-prefixes=CHECK,WIDE
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="registers=8" -split-input-file | FileCheck %s --enable-var-scope --check-prefixes=CHECK,NARROW

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @m vocab 64 hidden 32 layers 1 context 64 entry @forward {}
deepseek.weight @table : tensor<64x32xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<64x32xbf16>
  deepseek.yield %0 : tensor<64x32xbf16>
}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x64xf32> {
  %table = deepseek.use_weight @table : tensor<64x32xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<64x32xbf16> -> tensor<?x32xf32>
  %l = deepseek.lm_head %x, %table : tensor<?x32xf32>, tensor<64x32xbf16> -> tensor<?x64xf32>
  return %l : tensor<?x64xf32>
}

// Four tiles of sixteen rows at a time with 32 registers, two with 8; k goes
// up one by one, whatever the unrolling.

// CHECK-LABEL: rt.kernel @linear_bf16_64x32
// CHECK:       ^bb0(%{{.+}}: !rt.step, %[[FIRST:.+]]: index, %[[LAST:.+]]: index, %[[X:.+]]: memref<?x32xf32, {{.+}}>, %[[W:.+]]: memref<4x32x16xbf16>,
// CHECK:         scf.for %{{.+}} = %[[FIRST]] to %[[LAST]]
// WIDE:            scf.for %[[K:.+]] = {{.+}} iter_args({{.+}}) -> (vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>,
// NARROW:          scf.for %[[K:.+]] = {{.+}} iter_args({{.+}}) -> (vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>) {
// CHECK:             %[[S:.+]] = memref.load %[[X]][%{{.+}}, %[[K]]]
// CHECK:             vector.broadcast %[[S]] : f32 to vector<16xf32>
// CHECK:             %[[C:.+]] = vector.load %[[W]][%{{.+}}, %[[K]], %{{.+}}] : memref<4x32x16xbf16>, vector<16xbf16>
// CHECK:             %[[F:.+]] = arith.extf %[[C]] : vector<16xbf16> to vector<16xf32>
// CHECK:             math.fma %[[F]]
