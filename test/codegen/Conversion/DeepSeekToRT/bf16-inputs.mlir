// Products of inputs that were rounded to bf16: once for all ops that read them,
// by the instructions of the target, in pairs.

// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="bf16-pairs" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,PAIRS,X86
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="registers=8 bf16-dots" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,PAIRS,ARM
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="registers=8" | FileCheck %s --enable-var-scope --check-prefixes=CHECK,FMA
// RUN: hadal-opt %s -deepseek-pack-weights -convert-deepseek-to-rt="registers=8 dot-product=cuda" | FileCheck %s --enable-var-scope --check-prefix=CUDA

!cache = !deepseek.kv_cache<kind = heads, layers = 1, heads = 2, key_dim = 8, value_dim = 8, element = f32>

deepseek.model @m vocab 32 hidden 64 layers 1 context 64 entry @forward {}
deepseek.weight @table : tensor<32x64xbf16> {
  %0 = deepseek.source "table" in [] at [] : tensor<32x64xbf16>
  deepseek.yield %0 : tensor<32x64xbf16>
}
func.func @forward(%ids: tensor<?xi32>, %positions: tensor<?xi32>, %sequences: tensor<?xi32>, %outputs: tensor<?xi32>, %cache: !cache) -> tensor<?x32xf32> {
  %table = deepseek.use_weight @table : tensor<32x64xbf16>
  %x = deepseek.embed %ids, %table : tensor<?xi32>, tensor<32x64xbf16> -> tensor<?x64xf32>
  %l = deepseek.lm_head %x, %table : tensor<?x64xf32>, tensor<32x64xbf16> -> tensor<?x32xf32>
  return %l : tensor<?x32xf32>
}

// CHECK-LABEL: func.func private @layer
// CHECK-SAME:    %[[X:[^:]+]]: memref<?x64xf32
// CHECK:         rt.dispatch @round_rows_64{{.*}}(%[[X]], %[[P:.+]]) :
// CHECK:         rt.dispatch @linear_bf16_32x64_of_bf16{{.*}}(%[[P]],
// CHECK-NOT:     round_rows
// CHECK:         rt.dispatch @linear_fp8_32x64_of_bf16{{.*}}(%[[P]],
// CHECK:         return
// CUDA-NOT:      round_rows
func.func private @layer(%x: tensor<?x64xf32>, %w: tensor<32x64xbf16, #deepseek.tiled<rows = 16>>, %f: tensor<32x64xf8E4M3FN, #deepseek.tiled<rows = 16>>, %s: tensor<1x1xf32>) -> tensor<?x32xf32> {
  %a = deepseek.linear %x, %w bf16_inputs : tensor<?x64xf32>, tensor<32x64xbf16, #deepseek.tiled<rows = 16>> -> tensor<?x32xf32>
  %b = deepseek.linear %x, %f scales %s : tensor<1x1xf32> bf16_inputs : tensor<?x64xf32>, tensor<32x64xf8E4M3FN, #deepseek.tiled<rows = 16>> -> tensor<?x32xf32>
  %c = deepseek.add %a, %b : tensor<?x32xf32>
  return %c : tensor<?x32xf32>
}

// What experts have inside is rounded, too.

// CHECK-LABEL: func.func private @experts
// CHECK:         rt.dispatch @round_rows_64{{.*}}(%{{.+}}, %[[IN:.+]]) :
// CHECK:         rt.dispatch @experts_up_bf16_4x16x64_2_of_bf16{{.*}}(%[[IN]], {{.*}}, %[[INSIDE:.+]]) :
// CHECK:         rt.dispatch @round_rows_16{{.*}}(%[[INSIDE]], %[[DOWN:.+]]) :
// CHECK:         rt.dispatch @experts_down_bf16_4x64x16_of_bf16{{.*}}(%[[DOWN]],
func.func private @experts(%x: tensor<?x64xf32>, %e: tensor<?x2xi32>, %p: tensor<?x2xf32>, %g: tensor<4x16x64xbf16, #deepseek.tiled<rows = 16>>, %d: tensor<4x64x16xbf16, #deepseek.tiled<rows = 16>>) -> tensor<?x64xf32> {
  %0 = deepseek.experts %x, %e, %p gate %g up %g down %d bf16_inputs : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<4x16x64xbf16, #deepseek.tiled<rows = 16>>, tensor<4x16x64xbf16, #deepseek.tiled<rows = 16>>, tensor<4x64x16xbf16, #deepseek.tiled<rows = 16>> -> tensor<?x64xf32>
  return %0 : tensor<?x64xf32>
}

// Two columns of 16 outputs are 16 pairs. Of several rows, ARM multiplies two at
// a time, by four columns of two outputs; a single row, by pairs.

// CHECK-LABEL: rt.kernel @linear_bf16_32x64_of_bf16
// PAIRS:         %[[C0:.+]] = vector.load %[[W:.+]][%{{.+}}, %{{.+}}, %{{.+}}] : memref<2x64x16xbf16>, vector<16xbf16>
// PAIRS:         %[[C1:.+]] = vector.load %[[W]][%{{.+}}, %{{.+}}, %{{.+}}] : memref<2x64x16xbf16>, vector<16xbf16>
// PAIRS:         vector.shuffle %[[C0]], %[[C1]] [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31]
// X86:           llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.512"
// ARM-NOT:       bfdot
// ARM:           llvm.call_intrinsic "llvm.aarch64.neon.bfmmla"
// ARM:           scf.yield
// ARM:           vector.shuffle %{{.+}}, %{{.+}} [0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29] : vector<16xf32>, vector<16xf32>
// ARM:           scf.for
// ARM-NOT:       bfmmla
// ARM:           llvm.call_intrinsic "llvm.aarch64.neon.bfdot.v4f32.v8bf16"
// FMA:           %[[PAIR:.+]] = memref.load %{{.+}} : memref<?x32xi32
// FMA:           arith.shli %[[PAIR]],
// FMA:           arith.andi %[[PAIR]],
// FMA:           %[[SUM:.+]] = math.fma
// FMA-NEXT:      math.fma %{{.+}}, %{{.+}}, %[[SUM]]

// A GPU rounds inputs where it multiplies them.

// CUDA-LABEL: rt.kernel @linear_bf16_32x64_of_bf16
// CUDA:         rt.products {{.*}} attributes {bf16_inputs}
