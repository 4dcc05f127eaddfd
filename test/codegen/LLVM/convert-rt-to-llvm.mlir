// RUN: hadal-opt %s -split-input-file -convert-rt-to-llvm | FileCheck %s
// RUN: hadal-opt %s -split-input-file -convert-rt-to-llvm=symbol=other | FileCheck %s --check-prefix=SYMBOL
// RUN: hadal-opt %s -split-input-file -convert-rt-to-llvm=lesser=other | FileCheck %s --check-prefix=LESSER

// A kernel reads its arguments from the words of its second argument.

// CHECK-LABEL: llvm.func internal @arguments
//  CHECK-SAME: (%[[STEP:.+]]: !llvm.ptr {llvm.align = 8 : i64, llvm.dereferenceable = 120 : i64, llvm.noalias, llvm.nonnull, llvm.noundef, llvm.readonly},
//  CHECK-SAME: %[[PARAMS:.+]]: !llvm.ptr {llvm.align = 8 : i64, llvm.dereferenceable = 24 : i64, llvm.noalias, llvm.nonnull, llvm.noundef, llvm.readonly},
//  CHECK-SAME: %[[FIRST:.+]]: i64, %{{.+}}: i64)
rt.kernel @arguments [memref<?x16xbf16, strided<[32, 1]>>, index, memref<4x2xi8>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x16xbf16, strided<[32, 1]>>, %n: index, %unused: memref<4x2xi8>):
  // The size of a dynamic dimension is the number of tokens, at byte 96.
  // CHECK-DAG: %[[C96:.+]] = llvm.mlir.constant(96 : i64)
  // CHECK-DAG: %[[TOKENS_PTR:.+]] = llvm.getelementptr inbounds %[[STEP]][%[[C96]]]
  // CHECK-DAG: %[[TOKENS:.+]] = llvm.load %[[TOKENS_PTR]] : !llvm.ptr -> i64
  // CHECK-DAG: %[[I:.+]] = builtin.unrealized_conversion_cast %[[FIRST]] : i64 to index
  // CHECK: %[[X:.+]] = llvm.load %[[PARAMS]] : !llvm.ptr -> !llvm.ptr
  // CHECK: llvm.insertvalue %[[X]], %{{.+}}[0]
  // CHECK: llvm.insertvalue %[[X]], %{{.+}}[1]
  // CHECK: %[[OFFSET:.+]] = llvm.mlir.constant(0 : index)
  // CHECK: llvm.insertvalue %[[OFFSET]], %{{.+}}[2]
  // CHECK: llvm.insertvalue %[[TOKENS]], %{{.+}}[3, 0]
  // CHECK: %[[STRIDE:.+]] = llvm.mlir.constant(32 : index)
  // CHECK: llvm.insertvalue %[[STRIDE]], %{{.+}}[4, 0]
  // CHECK: %[[SIZE:.+]] = llvm.mlir.constant(16 : index)
  // CHECK: llvm.insertvalue %[[SIZE]], %{{.+}}[3, 1]
  // CHECK: %[[ONE:.+]] = llvm.mlir.constant(1 : index)
  // CHECK: %[[WHOLE:.+]] = llvm.insertvalue %[[ONE]], %{{.+}}[4, 1]
  // CHECK: %[[MEMREF:.+]] = builtin.unrealized_conversion_cast %[[WHOLE]] : {{.+}} to memref<?x16xbf16, strided<[32, 1]>>
  // CHECK: %[[C8:.+]] = llvm.mlir.constant(8 : i64)
  // CHECK: %[[WORD:.+]] = llvm.getelementptr inbounds %[[PARAMS]][%[[C8]]]
  // CHECK: %[[VALUE:.+]] = llvm.load %[[WORD]] : !llvm.ptr -> i64
  // CHECK: %[[N:.+]] = builtin.unrealized_conversion_cast %[[VALUE]] : i64 to index
  // CHECK: memref.load %[[MEMREF]][%[[I]], %[[N]]]
  %v = memref.load %x[%first, %n] : memref<?x16xbf16, strided<[32, 1]>>
  memref.store %v, %x[%last, %n] : memref<?x16xbf16, strided<[32, 1]>>
  // CHECK: llvm.return
}

// -----

// What a step brings is at the offsets of hadal_rt_step_t.

// CHECK-LABEL: llvm.func internal @inputs
//  CHECK-SAME: %[[STEP:[^:]+]]: !llvm.ptr
// CHECK-DAG: llvm.mlir.constant(104 : i64)
// CHECK-DAG: llvm.mlir.constant(88 : i64)
// CHECK-DAG: llvm.mlir.constant(80 : i64)
// CHECK-DAG: llvm.mlir.constant(72 : i64)
// CHECK-DAG: llvm.mlir.constant(64 : i64)
// CHECK-DAG: llvm.mlir.constant(56 : i64)
// CHECK-NOT: rt.
rt.kernel @inputs [] {
^bb0(%step: !rt.step, %first: index, %last: index):
  %ids = rt.input %step token_ids : memref<?xi32>
  %positions = rt.input %step positions : memref<?xi32>
  %sequences = rt.input %step sequences : memref<?xi32>
  %rows = rt.input %step output_rows : memref<?xi32>
  %logits = rt.logits %step : memref<?x8xf32>
  %outputs = rt.outputs %step
  %tokens = rt.tokens %step
  %a = memref.load %ids[%tokens] : memref<?xi32>
  %b = memref.load %positions[%outputs] : memref<?xi32>
  %c = memref.load %sequences[%first] : memref<?xi32>
  %d = memref.load %rows[%first] : memref<?xi32>
  %e = arith.sitofp %a : i32 to f32
  memref.store %e, %logits[%first, %last] : memref<?x8xf32>
}

// -----

// A page is where the page table says, in 64 bits from the first product on.

// CHECK-LABEL: llvm.func internal @page
//  CHECK-SAME: %{{.+}}: !llvm.ptr {{.+}}, %{{.+}}: !llvm.ptr {{.+}}, %[[FIRST:.+]]: i64, %[[LAST:.+]]: i64
rt.kernel @page [] {
^bb0(%step: !rt.step, %first: index, %last: index):
  %c2 = arith.constant 2 : index
  // CHECK: scf.for
  scf.for %i = %first to %last step %c2 {
    // CHECK: %[[ROW:.+]] = llvm.mul %{{.+}}, %[[STRIDE:.+]] : i64
    // CHECK: %[[ENTRY:.+]] = llvm.add %[[ROW]], %{{.+}} : i64
    // CHECK: %[[ADDRESS:.+]] = llvm.getelementptr inbounds %{{.+}}[%[[ENTRY]]] : (!llvm.ptr, i64) -> !llvm.ptr, i32
    // CHECK: %[[NUMBER:.+]] = llvm.load %[[ADDRESS]] : !llvm.ptr -> i32
    // CHECK: %[[WIDE:.+]] = llvm.sext %[[NUMBER]] : i32 to i64
    // CHECK: %[[PAGE_BYTES:.+]] = llvm.mlir.constant(4096 : i64)
    // CHECK: %[[START:.+]] = llvm.mul %[[WIDE]], %[[PAGE_BYTES]] : i64
    // CHECK: %[[LAYER_BYTES:.+]] = llvm.mlir.constant(1024 : i64)
    // CHECK: %[[LAYER:.+]] = llvm.mul %{{.+}}, %[[LAYER_BYTES]] : i64
    // CHECK: %[[BYTES:.+]] = llvm.add %[[START]], %[[LAYER]] : i64
    // CHECK: %[[PART:.+]] = llvm.getelementptr inbounds %{{.+}}[%[[BYTES]]] : (!llvm.ptr, i64) -> !llvm.ptr, i8
    // CHECK: %[[OFFSET:.+]] = llvm.mlir.constant(128 : i64)
    // CHECK: llvm.getelementptr inbounds %[[PART]][%[[OFFSET]]] : (!llvm.ptr, i64) -> !llvm.ptr, i8
    %page = rt.page %step[%first, %i] layer %c2 bytes 4096, 1024 at 128 : memref<4x8xf32>
    %v = memref.load %page[%c2, %c2] : memref<4x8xf32>
    memref.store %v, %page[%i, %c2] : memref<4x8xf32>
  }
}

// -----

// Host functions pass addresses; dispatches share one array of words.

rt.kernel @k2 [memref<?x32xf16>, index] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x32xf16>, %n: index):
}
rt.kernel @k1 [memref<?x16xf16, strided<[32, 1]>>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x16xf16, strided<[32, 1]>>):
}

// CHECK-LABEL: llvm.func internal @host
//  CHECK-SAME: (%[[STEP:.+]]: !llvm.ptr {llvm.align = 8 : i64, {{.+}}}, %[[X:.+]]: !llvm.ptr, %[[N:.+]]: i64)
//   CHECK-DAG: %[[DISPATCH:.+]] = llvm.load %[[STEP]] : !llvm.ptr -> !llvm.ptr
//   CHECK-DAG: %[[COUNT:.+]] = llvm.mlir.constant(2 : i64)
//   CHECK-DAG: %[[PARAMS:.+]] = llvm.alloca %[[COUNT]] x i64
//   CHECK-NOT: llvm.alloca
func.func private @host(%step: !rt.step, %x: memref<?x32xf16>, %n: index) {
  // CHECK: llvm.store %[[X]], %[[PARAMS]] : !llvm.ptr, !llvm.ptr
  // CHECK: llvm.store %{{.+}}, %{{.+}} : i64, !llvm.ptr
  // CHECK: %[[K2:.+]] = llvm.mlir.addressof @k2
  // CHECK: llvm.call %[[DISPATCH]](%[[POOL:.+]], %[[STEP]], %[[K2]], %[[PARAMS]], %{{.+}}) : !llvm.ptr, (!llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, i64) -> ()
  rt.dispatch @k2 items %n of %step(%x, %n) : memref<?x32xf16>, index
  // Column 16 of f16 is 32 bytes on.
  // CHECK: %[[C32:.+]] = llvm.mlir.constant(32 : i64)
  // CHECK: %[[RIGHT:.+]] = llvm.getelementptr inbounds %[[X]][%[[C32]]] : (!llvm.ptr, i64) -> !llvm.ptr, i8
  %right = rt.columns %x from 16 : memref<?x32xf16> -> memref<?x16xf16, strided<[32, 1]>>
  // CHECK: llvm.store %[[RIGHT]], %[[PARAMS]] : !llvm.ptr, !llvm.ptr
  // CHECK: %[[K1:.+]] = llvm.mlir.addressof @k1
  // CHECK: llvm.call %[[DISPATCH]](%[[POOL]], %[[STEP]], %[[K1]], %[[PARAMS]], %{{.+}})
  rt.dispatch @k1 items %n of %step(%right) : memref<?x16xf16, strided<[32, 1]>>
  return
}

// CHECK-LABEL: llvm.func internal @caller
//  CHECK-SAME: (%[[STEP:.+]]: !llvm.ptr
//   CHECK-NOT: llvm.alloca
func.func @caller(%step: !rt.step) {
  // CHECK: %[[C64:.+]] = llvm.mlir.constant(64 : i64)
  // CHECK: %[[PER_TOKEN:.+]] = llvm.mul %[[TOKENS:.+]], %[[C64]] : i64
  // CHECK: %[[A:.+]] = llvm.getelementptr inbounds %[[ARENA:.+]][%[[PER_TOKEN]]] : (!llvm.ptr, i64) -> !llvm.ptr, i8
  %a = rt.alloc %step bytes 64 * tokens + 0 at 64 * tokens + 0 : memref<?x32xf16>
  // CHECK: %[[C128:.+]] = llvm.mlir.constant(128 : i64)
  // CHECK: %[[END:.+]] = llvm.mul %[[TOKENS]], %[[C128]] : i64
  // CHECK: %[[FIXED:.+]] = llvm.getelementptr inbounds %[[ARENA]][%[[END]]]
  // CHECK: %[[C256:.+]] = llvm.mlir.constant(256 : i64)
  // CHECK: %[[B:.+]] = llvm.getelementptr inbounds %[[FIXED]][%[[C256]]]
  %b = rt.alloc %step bytes 0 * tokens + 64 at 128 * tokens + 256 : memref<?x32xf16>
  // CHECK: %[[OFFSET:.+]] = llvm.mlir.constant(700000000000 : i64)
  // CHECK: %[[W:.+]] = llvm.getelementptr inbounds %{{.+}}[%[[OFFSET]]]
  %w = rt.weight %step at 700000000000 : memref<4xi8>
  %n = rt.outputs %step
  // CHECK: llvm.call @host(%[[STEP]], %[[A]], %{{.+}}) : (!llvm.ptr, !llvm.ptr, i64) -> ()
  call @host(%step, %a, %n) : (!rt.step, memref<?x32xf16>, index) -> ()
  // CHECK: llvm.call @host(%[[STEP]], %[[B]], %{{.+}}) : (!llvm.ptr, !llvm.ptr, i64) -> ()
  call @host(%step, %b, %n) : (!rt.step, memref<?x32xf16>, index) -> ()
  // CHECK: llvm.call @weight(%[[STEP]], %[[W]])
  call @weight(%step, %w) : (!rt.step, memref<4xi8>) -> ()
  return
}
func.func private @weight(%step: !rt.step, %w: memref<4xi8>) {
  return
}

// -----

// The model is a constant, its manifest a section that linkers keep.

//   CHECK-NOT: deepseek.weight
// CHECK-LABEL: llvm.mlir.global private unnamed_addr constant @hadal_model.name("Model\00")
//       CHECK: llvm.mlir.global private unnamed_addr constant @hadal_model.manifest("{}\00")
//       CHECK: llvm.mlir.global internal constant @hadal_model.manifest.section("{}")
//  CHECK-SAME: alignment = 1 : i64, section = ".hadal.manifest"
//       CHECK: llvm.mlir.global appending @llvm.used() {{.+}}section = "llvm.metadata"
//       CHECK: llvm.mlir.addressof @hadal_model.manifest.section
//       CHECK: llvm.mlir.global external constant @hadal_model()
//  CHECK-SAME: !llvm.struct<(i32, i32, ptr, ptr, array<16 x i8>, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, ptr, ptr, ptr, ptr)>
//       CHECK: llvm.mlir.constant(4 : i32)
//       CHECK: llvm.mlir.constant(7 : i32)
//       CHECK: llvm.mlir.addressof @hadal_model.name
//       CHECK: llvm.mlir.addressof @hadal_model.manifest
//       CHECK: llvm.mlir.constant("\00\11\223DUfw\88\99\AA\BB\CC\DD\EE\FF") : !llvm.array<16 x i8>
// CHECK-COUNT-9: llvm.mlir.constant({{[0-9]+}} : i64) : i64
//       CHECK: llvm.mlir.constant(8 : i64) : i64
//       CHECK: llvm.mlir.constant(2 : i64) : i64
//       CHECK: llvm.mlir.addressof @model_step
// CHECK-COUNT-2: llvm.mlir.zero : !llvm.ptr
// SYMBOL: llvm.mlir.global external constant @other()
deepseek.weight @w : tensor<4x4xf32> {
  %0 = deepseek.source "w" in ["model.safetensors"] at [0] : tensor<4x4xf32>
  deepseek.yield %0 : tensor<4x4xf32>
}
rt.program @hadal_model entry @model_step {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", window_tokens = 8 : i64, sink_tokens = 2 : i64, cpu_features = 7 : i64, manifest = "{}", info = {name = "Model"}}
func.func @model_step(%step: !rt.step) {
  return
}

// -----

// Without a manifest there is no section, without a name the symbol is it.

// CHECK-LABEL: @hadal_model.name("plain\00")
//   CHECK-NOT: .hadal.manifest
//   CHECK-NOT: llvm.used
//       CHECK: llvm.mlir.global external constant @hadal_model()

// What there is for lesser processors is another module's.

// LESSER-LABEL: @hadal_model.name("plain\00")
//       LESSER: llvm.mlir.global external constant @other() {{.*}}: !llvm.struct<
//       LESSER: llvm.mlir.global external constant @hadal_model()
//   LESSER-NOT: llvm.mlir.global
//       LESSER: llvm.mlir.zero : !llvm.ptr
//       LESSER: llvm.mlir.addressof @other : !llvm.ptr
rt.program @plain entry @plain_step {vocab = 8 : i64, hidden = 64 : i64, layers = 1 : i64, context_length = 16 : i64, page_tokens = 4 : i64, page_bytes = 256 : i64, weights_bytes = 256 : i64, layout_hash = "00112233445566778899aabbccddeeff", info = {}}
func.func @plain_step(%step: !rt.step) {
  return
}
