// RUN: hadal-opt %s -split-input-file -rt-plan-memory | FileCheck %s
// RUN: hadal-opt %s -split-input-file -rt-plan-memory=report 2>&1 >%t | FileCheck %s --check-prefix=REPORT
// A plan does not depend on the one before.
// RUN: hadal-opt %s -split-input-file -rt-plan-memory -rt-plan-memory | FileCheck %s

// Three buffers in a chain need the bytes of two, and the last one those of
// the first.

// CHECK: rt.program @m entry @chain {arena_fixed = 64 : i64, arena_per_token = 320 : i64
// REPORT: remark: the arena needs 320 * tokens + 64 bytes
rt.program @m entry @chain {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}

rt.kernel @copy [memref<?x16xf32>, memref<?x16xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x16xf32>, %y: memref<?x16xf32>):
}
rt.kernel @count [memref<?x16xf32>, memref<4xi32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x16xf32>, %y: memref<4xi32>):
}

// CHECK-LABEL: func.func @chain
func.func @chain(%step: !rt.step) {
  %n = rt.tokens %step
  // CHECK: rt.alloc %{{.+}} bytes 64 * tokens + 0 at 256 * tokens + 0
  %a = rt.alloc %step bytes 64 * tokens + 0 : memref<?x16xf32>
  // CHECK: rt.alloc %{{.+}} bytes 256 * tokens + 0 at 0 * tokens + 0
  %b = rt.alloc %step bytes 256 * tokens + 0 : memref<?x16xf32>
  // CHECK: rt.alloc %{{.+}} bytes 64 * tokens + 0 at 256 * tokens + 0
  %c = rt.alloc %step bytes 64 * tokens + 0 : memref<?x16xf32>
  // Buffers that do not grow come after those that do.
  // CHECK: rt.alloc %{{.+}} bytes 0 * tokens + 64 at 320 * tokens + 0
  %d = rt.alloc %step bytes 0 * tokens + 64 : memref<4xi32>
  rt.dispatch @copy items %n of %step(%a, %b) : memref<?x16xf32>, memref<?x16xf32>
  rt.dispatch @copy items %n of %step(%b, %c) : memref<?x16xf32>, memref<?x16xf32>
  rt.dispatch @count items %n of %step(%c, %d) : memref<?x16xf32>, memref<4xi32>
  return
}

// -----

// A buffer lives as long as its columns do.

// CHECK: rt.program @m entry @columns {arena_per_token = 384 : i64
rt.program @m entry @columns {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}

rt.kernel @use [memref<?x16xf32, strided<[32, 1]>>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x16xf32, strided<[32, 1]>>):
}
rt.kernel @fill [memref<?x32xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x32xf32>):
}

// CHECK-LABEL: func.func @columns
func.func @columns(%step: !rt.step) {
  %n = rt.tokens %step
  // CHECK: rt.alloc %{{.+}} bytes 128 * tokens + 0 at 0 * tokens + 0
  %a = rt.alloc %step bytes 128 * tokens + 0 : memref<?x32xf32>
  // CHECK: rt.alloc %{{.+}} bytes 128 * tokens + 0 at 128 * tokens + 0
  %b = rt.alloc %step bytes 128 * tokens + 0 : memref<?x32xf32>
  // CHECK: rt.alloc %{{.+}} bytes 128 * tokens + 0 at 256 * tokens + 0
  %c = rt.alloc %step bytes 128 * tokens + 0 : memref<?x32xf32>
  // CHECK: rt.alloc %{{.+}} bytes 128 * tokens + 0 at 128 * tokens + 0
  %d = rt.alloc %step bytes 128 * tokens + 0 : memref<?x32xf32>
  %a1 = rt.columns %a from 16 : memref<?x32xf32> -> memref<?x16xf32, strided<[32, 1]>>
  rt.dispatch @fill items %n of %step(%a) : memref<?x32xf32>
  rt.dispatch @fill items %n of %step(%b) : memref<?x32xf32>
  rt.dispatch @fill items %n of %step(%c) : memref<?x32xf32>
  rt.dispatch @fill items %n of %step(%b) : memref<?x32xf32>
  rt.dispatch @fill items %n of %step(%d) : memref<?x32xf32>
  rt.dispatch @fill items %n of %step(%c) : memref<?x32xf32>
  rt.dispatch @use items %n of %step(%a1) : memref<?x16xf32, strided<[32, 1]>>
  return
}

// -----

// A callee's frame lies above what is alive at each call of it, and above that
// of its caller's caller.

// CHECK: rt.program @m entry @caller {arena_fixed = 192 : i64, arena_per_token = 256 : i64
rt.program @m entry @caller {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}

rt.kernel @fill [memref<?x16xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x16xf32>):
}
rt.kernel @fixed [memref<16xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<16xf32>):
}

// CHECK-LABEL: func.func @caller
func.func @caller(%step: !rt.step) {
  %n = rt.tokens %step
  // CHECK: rt.alloc %{{.+}} bytes 64 * tokens + 0 at 0 * tokens + 0
  %a = rt.alloc %step bytes 64 * tokens + 0 : memref<?x16xf32>
  // Dead when @middle is called, alive when @leaf is.
  // CHECK: rt.alloc %{{.+}} bytes 64 * tokens + 0 at 64 * tokens + 0
  %b = rt.alloc %step bytes 64 * tokens + 0 : memref<?x16xf32>
  // CHECK: rt.alloc %{{.+}} bytes 0 * tokens + 128 at 256 * tokens + 0
  %c = rt.alloc %step bytes 0 * tokens + 128 : memref<16xf32>
  rt.dispatch @fixed items %n of %step(%c) : memref<16xf32>
  call @middle(%step, %a) : (!rt.step, memref<?x16xf32>) -> ()
  rt.dispatch @fill items %n of %step(%b) : memref<?x16xf32>
  call @leaf(%step, %a) : (!rt.step, memref<?x16xf32>) -> ()
  rt.dispatch @fill items %n of %step(%b) : memref<?x16xf32>
  rt.dispatch @fixed items %n of %step(%c) : memref<16xf32>
  return
}
// CHECK-LABEL: func.func private @leaf
func.func private @leaf(%step: !rt.step, %x: memref<?x16xf32>) {
  %n = rt.tokens %step
  // CHECK: rt.alloc %{{.+}} bytes 64 * tokens + 0 at 192 * tokens + 0
  %a = rt.alloc %step bytes 64 * tokens + 0 : memref<?x16xf32>
  // CHECK: rt.alloc %{{.+}} bytes 0 * tokens + 64 at 256 * tokens + 128
  %b = rt.alloc %step bytes 0 * tokens + 64 : memref<16xf32>
  rt.dispatch @fill items %n of %step(%a) : memref<?x16xf32>
  rt.dispatch @fixed items %n of %step(%b) : memref<16xf32>
  return
}
// CHECK-LABEL: func.func private @middle
func.func private @middle(%step: !rt.step, %x: memref<?x16xf32>) {
  %n = rt.tokens %step
  // CHECK: rt.alloc %{{.+}} bytes 128 * tokens + 0 at 64 * tokens + 0
  %a = rt.alloc %step bytes 128 * tokens + 0 : memref<?x16xf32>
  rt.dispatch @fill items %n of %step(%a) : memref<?x16xf32>
  call @leaf(%step, %a) : (!rt.step, memref<?x16xf32>) -> ()
  return
}
