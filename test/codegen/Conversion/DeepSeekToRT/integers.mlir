// Products of integer weights: inputs are rounded once for all that read them,
// sums of a group are integers.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=avx512-vnni" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,VNNI
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=avx512-vnni scales-by-exponents" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,VNNI,EXPONENT
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="dot-product=avx512-vnni scales-by-exponents follows-streams" | FileCheck %s --enable-var-scope --check-prefixes=STREAM
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="registers=8 dot-product=avx2" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,AVX2
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="registers=8 dot-product=neon" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,NEON
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="registers=8 dot-product=neon-i8mm" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,I8MM
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="registers=8" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,GENERIC

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @m vocab 32 hidden 64 layers 1 context 64 entry @forward {}

deepseek.weight @table : tensor<32x64xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<32x64xbf16>
  deepseek.yield %0 : tensor<32x64xbf16>
}
deepseek.weight @head : tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>> {
  %0 = deepseek.source "head" in [] at [] : tensor<32x64xbf16>
  %1 = deepseek.quantize %0 group 64 : tensor<32x64xbf16> -> tensor<32x64xi8>
  %2 = deepseek.pack %1 : tensor<32x64xi8> to tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>>
  deepseek.yield %2 : tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>>
}
deepseek.weight @head.scales : tensor<32x1xf16, #deepseek.tiled<rows = 16>> {
  %0 = deepseek.source "head" in [] at [] : tensor<32x64xbf16>
  %1 = deepseek.quantize_scales %0 bits 8 : tensor<32x64xbf16> -> tensor<32x1xf16>
  %2 = deepseek.pack %1 : tensor<32x1xf16> to tensor<32x1xf16, #deepseek.tiled<rows = 16>>
  deepseek.yield %2 : tensor<32x1xf16, #deepseek.tiled<rows = 16>>
}

// CHECK-LABEL: func.func private @layer
// CHECK-SAME:    memref<2x8x64xi8>, %{{.+}}: memref<2x2x16xf16>
// CHECK:         rt.dispatch @quantize_rows_64_32_8{{.*}}(%[[X:.+]], %[[Q:.+]], %[[S:.+]], %[[O:.+]]) :
// CHECK:         rt.dispatch @linear_int4_32x64_32_32{{.*}}(%[[Q]], %[[S]], %[[O]], %{{.+}}, %{{.+}}, %[[A:.+]], %{{.+}}) :
// CHECK-NOT:     quantize_rows
// CHECK:         rt.dispatch @linear_int4_32x64_32_32_add{{.*}}(%[[Q]], %[[S]], %[[O]], %{{.+}}, %{{.+}}, %[[A]], %{{.+}}, %{{.+}}) :
// CHECK-NOT:     rt.dispatch
// CHECK:         return
func.func private @layer(%x: tensor<?x64xf32>, %w: tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %s: tensor<32x2xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  %a = deepseek.linear %x, %w scales %s : tensor<32x2xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  %b = deepseek.linear %x, %w scales %s : tensor<32x2xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  %c = deepseek.add %a, %b : tensor<?x32xf32>
  return %c : tensor<?x32xf32>
}

// A norm that only products read is rounded where it is computed, and stored
// nowhere.

// CHECK-LABEL: func.func private @rounded_norm
// CHECK-SAME:    %[[X:[^:]+]]: memref<?x64xf32{{[^:]*}}>, %[[N:[^:]+]]: memref<64xf32>
// CHECK-NOT:     rt.dispatch
// CHECK:         rt.dispatch @rms_norm_{{.*}}quantize_rows_64_32_8{{.*}}(%[[X]], %[[N]], %[[Q:.+]], %[[S:.+]], %[[O:.+]]) :
// CHECK:         rt.dispatch @linear_int4_32x64_32_32{{.*}}(%[[Q]], %[[S]], %[[O]],
func.func private @rounded_norm(%x: tensor<?x64xf32>, %n: tensor<64xf32>, %w: tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %s: tensor<32x2xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  %a = deepseek.rms_norm %x, %n epsilon 1.0e-6 : tensor<?x64xf32>, tensor<64xf32>
  %b = deepseek.linear %a, %w scales %s : tensor<32x2xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  return %b : tensor<?x32xf32>
}

// Inputs that the model rounds itself are integers of two digits where only
// products with integers read them, and numbers otherwise.

// CHECK-LABEL: func.func private @on_grid
// CHECK-SAME:    %[[X:[^:]+]]: memref<?x64xf32{{[^:]*}}>, %[[G:[^:]+]]: memref<16xf32>
// CHECK-NOT:     rt.dispatch
// CHECK:         rt.dispatch @split_grid_64_64_{{.*}}(%[[X]], %[[G]], %[[Q:.+]], %[[S:.+]], %[[O:.+]]) :
// CHECK-NOT:     rt.dispatch
// CHECK:         rt.dispatch @linear_int8_32x64_64_64_grid{{.*}}(%[[Q]], %[[S]], %[[O]],
func.func private @on_grid(%x: tensor<?x64xf32>, %g: tensor<2xf32>, %w: tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>>, %s: tensor<32x1xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  %a = deepseek.round_to_grid %x, %g : tensor<?x64xf32>, tensor<2xf32>
  %b = deepseek.linear %a, %w scales %s : tensor<32x1xf16, #deepseek.tiled<rows = 16>> : tensor<?x64xf32>, tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>> -> tensor<?x32xf32>
  return %b : tensor<?x32xf32>
}

// CHECK-LABEL: func.func private @on_grid_and_read
// CHECK:         rt.dispatch @round_to_grid_64_{{.*}}(%{{.+}}, %{{.+}}, %[[Y:.+]]) :
// CHECK:         rt.dispatch @split_rows_64_64_{{.*}}(%[[Y]], %[[Q:.+]], %[[S:.+]], %[[O:.+]]) :
// CHECK:         rt.dispatch @linear_int8_32x64_64_64_f32{{.*}}(%[[Q]], %[[S]], %[[O]],
func.func private @on_grid_and_read(%x: tensor<?x64xf32>, %g: tensor<2xf32>, %w: tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>>, %s: tensor<32x1xf16, #deepseek.tiled<rows = 16>>) -> (tensor<?x32xf32>, tensor<?x64xf32>) {
  %a = deepseek.round_to_grid %x, %g : tensor<?x64xf32>, tensor<2xf32>
  %b = deepseek.linear %a, %w scales %s : tensor<32x1xf16, #deepseek.tiled<rows = 16>> : tensor<?x64xf32>, tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>> -> tensor<?x32xf32>
  %c = deepseek.add %a, %x : tensor<?x64xf32>
  return %b, %c : tensor<?x32xf32>, tensor<?x64xf32>
}

func.func private @wide(%x: tensor<?x512xf32>, %w: tensor<32x512xi8, #deepseek.tiled<rows = 16, columns = 4>>, %s: tensor<32x8xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  %a = deepseek.linear %x, %w scales %s : tensor<32x8xf16, #deepseek.tiled<rows = 16>> activation_group 64 : tensor<?x512xf32>, tensor<32x512xi8, #deepseek.tiled<rows = 16, columns = 4>> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// One that something else reads, too, is stored.

// CHECK-LABEL: func.func private @shared_norm
// CHECK:         rt.dispatch @rms_norm_64_{{.*}}(%{{.+}}, %{{.+}}, %[[X:.+]]) :
// CHECK:         rt.dispatch @quantize_rows_64_32_8{{.*}}(%[[X]], %{{.+}}, %{{.+}}, %{{.+}}) :
func.func private @shared_norm(%x: tensor<?x64xf32>, %n: tensor<64xf32>, %w: tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %s: tensor<32x2xf16, #deepseek.tiled<rows = 16>>) -> (tensor<?x32xf32>, tensor<?x64xf32>) {
  %a = deepseek.rms_norm %x, %n epsilon 1.0e-6 : tensor<?x64xf32>, tensor<64xf32>
  %b = deepseek.linear %a, %w scales %s : tensor<32x2xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  %c = deepseek.add %a, %x : tensor<?x64xf32>
  return %b, %c : tensor<?x32xf32>, tensor<?x64xf32>
}

// Gate and up of a dense layer are one product with its input.

// CHECK-LABEL: func.func private @gated
// CHECK-SAME:    %[[IN:[^:]+]]: memref<?x64xf32{{[^:]*}}>, %[[G:[^:]+]]: memref<2x8x64xi8>, %[[GS:[^:]+]]: memref<2x2x16xf16>, %[[U:[^:]+]]: memref<2x8x64xi8>, %[[US:[^:]+]]: memref<2x2x16xf16>, %[[OUT:[^:]+]]: memref<?x32xf32
// CHECK:         rt.dispatch @quantize_rows_64_32_8{{.*}}(%[[IN]], %[[Q:.+]], %[[S:.+]], %[[O:.+]]) :
// CHECK:         rt.dispatch @linear_swiglu_int4_32x64_32_32{{.*}}(%[[Q]], %[[S]], %[[O]], %[[G]], %[[GS]], %[[U]], %[[US]], %[[OUT]], %{{.+}}) :
// CHECK-NOT:     rt.dispatch
// CHECK:         return
func.func private @gated(%x: tensor<?x64xf32>, %g: tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %gs: tensor<32x2xf16, #deepseek.tiled<rows = 16>>, %u: tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %us: tensor<32x2xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x32xf32> {
  %a = deepseek.linear %x, %g scales %gs : tensor<32x2xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  %b = deepseek.linear %x, %u scales %us : tensor<32x2xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<32x64xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x32xf32>
  %c = deepseek.swiglu %a, %b : tensor<?x32xf32>
  return %c : tensor<?x32xf32>
}

// Experts round their input once a token, and what is between once a slot.

// CHECK-LABEL: func.func private @experts
// CHECK:         rt.dispatch @quantize_rows_64_32_8{{.*}} items %[[ROWS:[^ ]+]] of
// CHECK:         rt.dispatch @experts_up_int4_8x32x64_32_32_2
// CHECK:         rt.dispatch @quantize_rows_32_32_8{{.*}} items %[[SLOTS:[^ ]+]] of
// CHECK:         rt.dispatch @experts_down_int4_8x64x32_32_32
func.func private @experts(%x: tensor<?x64xf32>, %e: tensor<?x2xi32>, %w: tensor<?x2xf32>, %up: tensor<8x32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, %us: tensor<8x32x2xf16, #deepseek.tiled<rows = 16>>, %down: tensor<8x64x32xi4, #deepseek.tiled<rows = 16, columns = 8>>, %ds: tensor<8x64x1xf16, #deepseek.tiled<rows = 16>>) -> tensor<?x64xf32> {
  %y = deepseek.experts %x, %e, %w gate %up up %up down %down scales %us, %us, %ds : tensor<8x32x2xf16, #deepseek.tiled<rows = 16>>, tensor<8x32x2xf16, #deepseek.tiled<rows = 16>>, tensor<8x64x1xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8x32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, tensor<8x32x64xi4, #deepseek.tiled<rows = 16, columns = 8>>, tensor<8x64x32xi4, #deepseek.tiled<rows = 16, columns = 8>> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x32xf32> {
  %table = deepseek.use_weight @table : tensor<32x64xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<32x64xbf16> -> tensor<?x64xf32>
  %w = deepseek.use_weight @head : tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>>
  %s = deepseek.use_weight @head.scales : tensor<32x1xf16, #deepseek.tiled<rows = 16>>
  %l = deepseek.lm_head %x, %w scales %s : tensor<32x1xf16, #deepseek.tiled<rows = 16>> activation_group 32 : tensor<?x64xf32>, tensor<32x64xi8, #deepseek.tiled<rows = 16, columns = 4>> -> tensor<?x32xf32>
  return %l : tensor<?x32xf32>
}

// 4-bit weights are split into nibbles: two columns of four a load. Sums start
// at an offset that takes the 8 back that was added to each.

// A power of two is a quotient without its mantissa, or twice that.

// CHECK-LABEL: rt.kernel @quantize_rows_64_32_8_
// AVX2-SAME:     power
// EXPONENT-SAME: exponent
// CHECK:         %[[BITS:.+]] = arith.andi
// CHECK:         %[[BELOW:.+]] = arith.bitcast %[[BITS]] : i32 to f32
// CHECK:         arith.cmpf olt, %[[BELOW]]
// EXPONENT:      %[[EXPONENT:.+]] = arith.sitofp %{{.+}} : i32 to f32
// EXPONENT:      arith.select %{{.+}}, %[[EXPONENT]]

// CHECK-LABEL: rt.kernel @linear_int4_32x64_32_32
// CHECK:         %[[START:.+]] = memref.load %{{.+}}[%{{.+}}] : memref<?x16xi32
// CHECK:         vector.broadcast %[[START]] : i32 to vector<16xi32>
// CHECK:         vector.load %{{.+}} : memref<2x8x64xi8>, vector<64xi8>
// CHECK:         arith.shrui
// VNNI:          llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"
// AVX2:          llvm.call_intrinsic "llvm.x86.avx2.pmadd.ub.sw"
// AVX2:          llvm.call_intrinsic "llvm.x86.avx2.pmadd.wd"
// NEON-COUNT-4:  llvm.call_intrinsic "llvm.aarch64.neon.sdot.v4i32.v16i8"
// GENERIC-NOT:   llvm.call_intrinsic

// Of four rows at a time, two are a matrix of eight columns, and so are two
// outputs: eight pairs of a tile with two pairs of rows.

// I8MM-NOT:      sdot
// I8MM:          %[[FIRST:.+]] = vector.load %{{.+}} : memref<?x16xi32{{.*}}>, vector<2xi32>
// I8MM:          %[[SECOND:.+]] = vector.load %{{.+}} : memref<?x16xi32{{.*}}>, vector<2xi32>
// I8MM:          vector.shuffle %[[FIRST]], %[[SECOND]] [0, 1, 2, 3] : vector<2xi32>, vector<2xi32>
// I8MM:          vector.shuffle %[[FOUR:.+]], %[[MORE:.+]] [0, 16, 1, 17] : vector<16xi32>, vector<16xi32>
// I8MM-COUNT-16: llvm.call_intrinsic "llvm.aarch64.neon.smmla.v4i32.v16i8"
// CHECK:         arith.sitofp %{{.+}} : vector<16xi32> to vector<16xf32>

// The input's scale is a power of two, by which that of the weight is
// multiplied, or whose exponent is added.

// EXPONENT:      %[[SCALE:.+]] = llvm.call_intrinsic "llvm.x86.avx512.mask.scalef.ps.512"
// EXPONENT-NEXT: math.fma %{{.+}}, %[[SCALE]],
// CHECK:         math.fma

// Up to eight rows, which are a block only where there are no more, wait for
// memory with AVX-512.

// VNNI-NOT:      memref.prefetch
// VNNI:          scf.for %{{.+}} -> (vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>)
// VNNI:          memref.prefetch
// VNNI-COUNT-8:  math.fma

// A single row asks for weights ahead, of both tiles that it reads side by side
// with AVX-512; none is past the last tile of the call.

// VNNI:          scf.for %{{.+}} -> (vector<16xf32>, vector<16xf32>)
// CHECK:         %[[THERE:.+]] = arith.minui
// CHECK:         memref.prefetch %{{.+}}[%[[THERE]], %{{.+}}, %{{.+}}], read, locality<2>, data : memref<2x8x64xi8>
// I8MM-NOT:      smmla
// I8MM:          llvm.call_intrinsic "llvm.aarch64.neon.sdot.v4i32.v16i8"

// A group of 64 columns is 1 KiB of a tile. Eight rows read one tile at a time
// and ask for the sixth group from there, four rows two, and the second.

// CHECK-LABEL: rt.kernel @linear_int8_32x512_64_64
// VNNI:          scf.for %{{.+}} -> (vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>)
// VNNI:          %[[SIX:.+]] = arith.constant 6 : index
// VNNI-NEXT:     arith.addi %{{.+}}, %[[SIX]] : index
// VNNI:          memref.prefetch
// VNNI:          scf.for %{{.+}} -> (vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>)
// VNNI:          %[[TWO:.+]] = arith.constant 2 : index
// VNNI-NEXT:     arith.addi %{{.+}}, %[[TWO]] : index
// VNNI:          memref.prefetch
// Where hardware follows a stream, it has one tile, and asks for each line of
// the scales once.

// STREAM-LABEL: rt.kernel @linear_int4_32x64_32_32_16_
// STREAM:         scf.for %{{.+}} -> (vector<16xf32>) {
// STREAM-NOT:       memref.prefetch
// STREAM:           memref.prefetch %{{.+}}, read, locality<3>, data : memref<2x2x16xf16>
// STREAM-NOT:       memref.prefetch
// STREAM:           math.fma
// STREAM:           scf.yield %{{.+}} : vector<16xf32>
// STREAM-LABEL: rt.kernel @linear_int4_32x64_32_32_add

// Of longer groups it reads four lines without a branch between them. Blocks of
// twelve rows ask for what is ahead.

// STREAM-LABEL: rt.kernel @linear_int8_32x512_64_64_
// STREAM:         scf.for {{.+}} step %c12
// STREAM:         memref.prefetch %{{.+}}, read, locality<2>, data : memref<2x128x64xi8>
// STREAM:         scf.for {{.+}} step %c4{{[^ ]*}} {{.+}} -> (vector<16xi32>, vector<16xi32>) {
// STREAM-NOT:       memref.prefetch
// STREAM-COUNT-4:   vpdpbusd
// STREAM-NOT:       vpdpbusd
// STREAM:           scf.yield %{{.+}} : vector<16xi32>, vector<16xi32>
// STREAM-LABEL: rt.kernel @rms_norm

// 8-bit weights with VNNI become unsigned; with AVX2 their signs move.

// CHECK-LABEL: rt.kernel @linear_int8_32x64_64_32
// VNNI:          arith.xori
// VNNI:          llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"
// AVX2:          llvm.call_intrinsic "llvm.x86.avx2.psign.b"
// AVX2:          math.absi
