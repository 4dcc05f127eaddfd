// RUN: hadal-opt %s -rt-plan-memory -hadal-lower-to-llvm | FileCheck %s
// RUN: hadal-opt %S/Inputs/tiny.mlir -rt-plan-memory -hadal-lower-to-llvm=symbol=tiny_model | FileCheck %s --check-prefix=WHOLE

// Nothing but the llvm dialect is left of a whole model.

// WHOLE-NOT: {{ (rt|arith|scf|memref|vector|func|cf|math)\.}}
// WHOLE-NOT: unrealized_conversion_cast
// WHOLE: llvm.mlir.global external constant @tiny_model()
// WHOLE-NOT: {{ (rt|arith|scf|memref|vector|func|cf|math)\.}}
// WHOLE-NOT: unrealized_conversion_cast

rt.program @m entry @forward {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}

// No operation on floats has a flag that lets it be reordered or fused.

// CHECK-LABEL: llvm.func internal @floats
//   CHECK-NOT: {{fast|contract|reassoc}}
//       CHECK: llvm.fmul %{{.+}}, %{{.+}} : vector<16xf32>
//       CHECK: llvm.fadd %{{.+}}, %{{.+}} : vector<16xf32>
//       CHECK: llvm.intr.fma(%{{.+}}, %{{.+}}, %{{.+}}) : (vector<16xf32>, vector<16xf32>, vector<16xf32>) -> vector<16xf32>
//       CHECK: "llvm.intr.vector.reduce.fadd"(%{{.+}}, %{{.+}}) <{fastmathFlags = #llvm.fastmath<none>}> : (f32, vector<16xf32>) -> f32
rt.kernel @floats [memref<?x16xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x16xf32>):
  %c0 = arith.constant 0 : index
  %a = vector.load %x[%first, %c0] : memref<?x16xf32>, vector<16xf32>
  %b = arith.mulf %a, %a : vector<16xf32>
  %c = arith.addf %b, %a : vector<16xf32>
  %d = math.fma %a, %b, %c : vector<16xf32>
  %e = vector.reduction <add>, %d : vector<16xf32> into f32
  memref.store %e, %x[%first, %c0] : memref<?x16xf32>
}

// Vectors of 16-bit floats and of bytes are loaded as they are.

// CHECK-LABEL: llvm.func internal @elements
//       CHECK: llvm.load %{{.+}} {alignment = 2 : i64} : !llvm.ptr -> vector<8xbf16>
//       CHECK: llvm.fpext %{{.+}} : vector<8xbf16> to vector<8xf32>
//       CHECK: llvm.load %{{.+}} {alignment = 2 : i64} : !llvm.ptr -> vector<8xf16>
//       CHECK: llvm.load %{{.+}} {alignment = 1 : i64} : !llvm.ptr -> vector<8xi8>
//       CHECK: llvm.load %{{.+}} {alignment = 1 : i64} : !llvm.ptr -> vector<8xi8>
rt.kernel @elements [memref<16xbf16>, memref<16xf16>, memref<16xi8>, memref<16xf8E4M3FN>, memref<16xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %a: memref<16xbf16>, %b: memref<16xf16>, %c: memref<16xi8>, %d: memref<16xf8E4M3FN>, %y: memref<16xf32>):
  %c0 = arith.constant 0 : index
  %0 = vector.load %a[%c0] : memref<16xbf16>, vector<8xbf16>
  %1 = arith.extf %0 : vector<8xbf16> to vector<8xf32>
  %2 = vector.load %b[%c0] : memref<16xf16>, vector<8xf16>
  %3 = arith.extf %2 : vector<8xf16> to vector<8xf32>
  %4 = vector.load %c[%c0] : memref<16xi8>, vector<8xi8>
  %5 = arith.sitofp %4 : vector<8xi8> to vector<8xf32>
  %6 = vector.load %d[%c0] : memref<16xf8E4M3FN>, vector<8xf8E4M3FN>
  %7 = vector.bitcast %6 : vector<8xf8E4M3FN> to vector<8xi8>
  %8 = arith.uitofp %7 : vector<8xi8> to vector<8xf32>
  %9 = arith.addf %1, %3 : vector<8xf32>
  %10 = arith.addf %9, %5 : vector<8xf32>
  %11 = arith.addf %10, %8 : vector<8xf32>
  vector.store %11, %y[%first] : memref<16xf32>, vector<8xf32>
}

// Multi-dimensional vectors and stack memory.

// CHECK-LABEL: llvm.func internal @shapes
//       CHECK: llvm.alloca
//       CHECK: llvm.intr.masked.load
//       CHECK: llvm.shufflevector
//       CHECK: llvm.return
rt.kernel @shapes [memref<8x16xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<8x16xf32>):
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %none = arith.constant dense<0.0> : vector<16xf32>
  %tile = memref.alloca() {alignment = 64 : i64} : memref<2x16xf32>
  %a = vector.transfer_read %x[%first, %c0], %zero {in_bounds = [true, true]} : memref<8x16xf32>, vector<2x16xf32>
  %b = arith.addf %a, %a : vector<2x16xf32>
  vector.transfer_write %b, %tile[%c0, %c0] {in_bounds = [true, true]} : vector<2x16xf32>, memref<2x16xf32>
  %mask = vector.create_mask %last : vector<16xi1>
  %c = vector.maskedload %tile[%c0, %c0], %mask, %none : memref<2x16xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
  %d = vector.shuffle %c, %c [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0] : vector<16xf32>, vector<16xf32>
  %e = vector.extract %d[3] : f32 from vector<16xf32>
  %f = vector.broadcast %e : f32 to vector<16xf32>
  %g = vector.insert %zero, %f[2] : f32 into vector<16xf32>
  vector.maskedstore %x[%first, %c0], %mask, %g : memref<8x16xf32>, vector<16xi1>, vector<16xf32>
}

func.func @forward(%step: !rt.step) {
  %n = rt.tokens %step
  %x = rt.alloc %step bytes 64 * tokens + 0 : memref<?x16xf32>
  %a = rt.weight %step at 0 : memref<16xbf16>
  %b = rt.weight %step at 0 : memref<16xf16>
  %c = rt.weight %step at 0 : memref<16xi8>
  %d = rt.weight %step at 0 : memref<16xf8E4M3FN>
  %y = rt.alloc %step bytes 0 * tokens + 64 : memref<16xf32>
  %z = rt.alloc %step bytes 0 * tokens + 512 : memref<8x16xf32>
  rt.dispatch @floats items %n of %step(%x) : memref<?x16xf32>
  rt.dispatch @elements items %n of %step(%a, %b, %c, %d, %y) : memref<16xbf16>, memref<16xf16>, memref<16xi8>, memref<16xf8E4M3FN>, memref<16xf32>
  rt.dispatch @shapes items %n of %step(%z) : memref<8x16xf32>
  return
}
