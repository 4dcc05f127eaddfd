// With AMX, 16 rows at a time are multiplied in tile registers; what is left, and
// a single row, as with VNNI.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=amx-int8" | FileCheck %s --enable-var-scope

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @m vocab 32 hidden 64 layers 1 context 64 entry @forward {}

deepseek.weight @table : tensor<32x64xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<32x64xbf16>
  deepseek.yield %0 : tensor<32x64xbf16>
}
deepseek.weight @head : tensor<32x64xbf16> {
  %0 = deepseek.source "head" in [] at [] : tensor<32x64xbf16>
  deepseek.yield %0 : tensor<32x64xbf16>
}

func.func private @int4(%x: tensor<?x64xf32>, %w: tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %s: tensor<32x2xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  %a = deepseek.linear %x, %w scales %s : tensor<32x2xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

func.func private @wide(%x: tensor<?x64xf32>, %w: tensor<208x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %s: tensor<208x2xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x208xf32> {
  %a = deepseek.linear %x, %w scales %s : tensor<208x2xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<208x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x208xf32>
  return %a : tensor<?x208xf32>
}

func.func private @int8(%x: tensor<?x256xf32>, %w: tensor<32x256xi8, #deepseek.tiled<rows = 16, columns = 4>>, %s: tensor<32x1xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  %a = deepseek.linear %x, %w scales %s : tensor<32x1xf16, #deepseek.tiled<rows = 16>> activation_group 128 : tensor<?x256xf32>, tensor<32x256xi8, #deepseek.tiled<rows = 16, columns = 4>> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

func.func private @experts(%x: tensor<?x64xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %up: tensor<8x32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %us: tensor<8x32x2xf16, #deepseek.tiled<rows = 16>>, %down: tensor<8x64x32xi4, #deepseek.tiled<rows = 16, columns = 8>>, %ds: tensor<8x64x1xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x64xf32> {
  %y = deepseek.experts %x, %e, %w gate %up up %up down %down scales %us, %us, %ds : tensor<8x32x2xf16, #deepseek.tiled<rows = 16>>, tensor<8x32x2xf16, #deepseek.tiled<rows = 16>>, tensor<8x64x1xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, tensor<8x32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, tensor<8x64x32xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x32xf32> {
  %table = deepseek.use_weight @table : tensor<32x64xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<32x64xbf16> -> tensor<?x64xf32>
  %head = deepseek.use_weight @head : tensor<32x64xbf16>
  %l = deepseek.lm_head %x, %head : tensor<?x64xf32>, tensor<32x64xbf16> -> tensor<?x32xf32>
  return %l : tensor<?x32xf32>
}

// A block is half full at least. Weights of 4 bits become signed bytes, once for
// all blocks of rows.

// CHECK-LABEL: rt.kernel @linear_int4_32x64_32_32
// CHECK-DAG:     %[[BYTES:.+]] = memref.alloca() {alignment = 64 : i64} : memref<2x16x64xi8>
// CHECK-DAG:     %[[ROWS:.+]] = memref.alloca() {alignment = 64 : i64} : memref<1x16x16xi32>
// CHECK-DAG:     %[[SUMS:.+]] = memref.alloca() {alignment = 64 : i64} : memref<16x16xi32>
// CHECK-DAG:     %[[STATE:.+]] = memref.alloca() {alignment = 64 : i64} : memref<16x2x16x16xf32>
// CHECK:         %[[COUNT:.+]] = arith.addi %{{.+}}, %c8
// CHECK:         arith.divui %[[COUNT]], %c16
// CHECK:         scf.if
// CHECK:           llvm.call_intrinsic "llvm.x86.ldtilecfg"
// CHECK:           arith.shrui
// CHECK:           arith.subi %{{.+}}, %{{.+}} : vector<64xi8>
// CHECK:           vector.store %{{.+}}, %[[BYTES]]
// CHECK:           vector.store %{{.+}}, %[[ROWS]]

// A group's sums are stored while those of the next are made, and scaled and
// added as with VNNI.

// CHECK:           llvm.call_intrinsic "llvm.x86.tilezero"
// CHECK:           llvm.call_intrinsic "llvm.x86.tileloadd64"
// CHECK:           llvm.call_intrinsic "llvm.x86.tileloadd64"
// CHECK:           llvm.call_intrinsic "llvm.x86.tdpbssd"
// CHECK-NEXT:      %{{.+}} = arith.addi
// CHECK:           scf.for
// CHECK:             llvm.call_intrinsic "llvm.x86.tilestored64"
// CHECK:             llvm.call_intrinsic "llvm.x86.tdpbssd"
// CHECK-NOT:         llvm.call_intrinsic
// CHECK:             %[[SCALES:.+]] = arith.extf %{{.+}} : vector<16xf16> to vector<16xf32>
// CHECK:             %[[INTEGERS:.+]] = vector.load %[[SUMS]]
// CHECK:             %[[SUM:.+]] = arith.sitofp %[[INTEGERS]]
// CHECK:             %[[SCALE:.+]] = arith.mulf %[[SCALES]], %{{.+}} : vector<16xf32>
// CHECK:             math.fma %[[SUM]], %[[SCALE]], %{{.+}} : vector<16xf32>
// CHECK-COUNT-15:    math.fma
// CHECK:           llvm.call_intrinsic "llvm.x86.tilestored64"
// CHECK:           llvm.call_intrinsic "llvm.x86.tilerelease"
// CHECK:         llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"

// Two items of four tiles that come in one call are multiplied together.

// CHECK-LABEL: rt.kernel @linear_int4_208x64_32_32
// CHECK-NEXT:    ^bb0(%{{.+}}: !rt.step, %[[FIRST:[^:]+]]: index, %[[LAST:[^:]+]]: index,
// CHECK-DAG:     memref.alloca() {alignment = 64 : i64} : memref<8x16x64xi8>
// CHECK-DAG:     memref.alloca() {alignment = 64 : i64} : memref<16x8x16x16xf32>
// CHECK:         scf.for %[[ITEM:.+]] = %[[FIRST]] to %[[LAST]] step %c2
// CHECK:           %[[BEGIN:.+]] = arith.muli %[[ITEM]], %c4
// CHECK:           arith.addi %[[BEGIN]], %c8
// CHECK:           llvm.call_intrinsic "llvm.x86.tdpbssd"

// Weights of 8 bits are read where they are, 64 elements at a time; their scale
// comes after all of k.

// CHECK-LABEL: rt.kernel @linear_int8_32x256_256_128
// CHECK-SAME:    [memref<?x64xi32{{.+}}>, memref<{{.+}}>, memref<{{.+}}>, memref<2x64x64xi8>
// CHECK:         llvm.call_intrinsic "llvm.x86.ldtilecfg"
// CHECK:         memref.extract_aligned_pointer_as_index %{{.+}} : memref<2x64x64xi8> -> index
// CHECK:         llvm.call_intrinsic "llvm.x86.tilezero"
// CHECK:         llvm.call_intrinsic "llvm.x86.tdpbssd"
// CHECK:         llvm.call_intrinsic "llvm.x86.tdpbssd"
// CHECK:         scf.for
// CHECK-NOT:     arith.extf
// CHECK:         scf.for
// CHECK:         %[[LAST:.+]] = arith.extf
// CHECK:         math.fma %{{.+}}, %[[LAST]], %{{.+}} : vector<16xf32>
// CHECK:         llvm.call_intrinsic "llvm.x86.tilerelease"

// Rows of experts are gathered, and gate and up have a state each.

// CHECK-LABEL: rt.kernel @experts_up_int4_8x32x64_32_32_2
// CHECK-DAG:     memref.alloca() {alignment = 64 : i64} : memref<4x16x64xi8>
// CHECK-DAG:     memref.alloca() {alignment = 64 : i64} : memref<8x4x16x16xf32>
// CHECK:         llvm.call_intrinsic "llvm.x86.ldtilecfg"
// CHECK:         llvm.call_intrinsic "llvm.x86.tilerelease"
// CHECK-LABEL: rt.kernel @experts_down_int4_8x64x32_32_32
// CHECK:         llvm.call_intrinsic "llvm.x86.tdpbssd"
