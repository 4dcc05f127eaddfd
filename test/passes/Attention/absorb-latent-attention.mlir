// RUN: hadal-opt %s -split-input-file -deepseek-absorb-latent-attention | FileCheck %s

// An argument that is a weight at every call becomes two.

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

// CHECK-NOT: deepseek.weight @kv_b.0 :
// CHECK: deepseek.weight @kv_b.0.absorbed_key : tensor<2x8x6xbf16> {
// CHECK-NEXT: %[[SOURCE:.+]] = deepseek.source "kv_b.0"
// CHECK-NEXT: %[[HEADS:.+]] = deepseek.reshape %[[SOURCE]] : tensor<22x8xbf16> -> tensor<2x11x8xbf16>
// CHECK-NEXT: %[[KEY:.+]] = deepseek.slice %[[HEADS]] axis 1 from 0 to 6 : tensor<2x11x8xbf16> -> tensor<2x6x8xbf16>
// CHECK-NEXT: %[[TURNED:.+]] = deepseek.transpose %[[KEY]] [0, 2, 1]
// CHECK-NEXT: deepseek.yield %[[TURNED]] : tensor<2x8x6xbf16>
// CHECK: deepseek.weight @kv_b.0.absorbed_value : tensor<2x5x8xbf16> {
// CHECK-NEXT: %[[SOURCE:.+]] = deepseek.source "kv_b.0"
// CHECK-NEXT: %[[HEADS:.+]] = deepseek.reshape %[[SOURCE]]
// CHECK-NEXT: %[[VALUE:.+]] = deepseek.slice %[[HEADS]] axis 1 from 6 to 11
// CHECK-NEXT: deepseek.yield %[[VALUE]] : tensor<2x5x8xbf16>
// CHECK-NOT: deepseek.weight @kv_b.1 :
// CHECK: deepseek.weight @kv_b.1.absorbed_key
// CHECK: deepseek.weight @kv_b.1.absorbed_value
deepseek.weight @kv_b.0 : tensor<22x8xbf16> {
  %0 = deepseek.source "kv_b.0" in [] at [] : tensor<22x8xbf16>
  deepseek.yield %0 : tensor<22x8xbf16>
}
deepseek.weight @kv_b.1 : tensor<22x8xbf16> {
  %0 = deepseek.source "kv_b.1" in [] at [] : tensor<22x8xbf16>
  deepseek.yield %0 : tensor<22x8xbf16>
}

// CHECK-LABEL: func.func private @layer(
// CHECK-SAME: %[[Q:[^:]+]]: tensor<?x20xf32>, %[[C:[^:]+]]: tensor<?x8xf32>, %[[R:[^:]+]]: tensor<?x4xf32>, %[[K:[^:]+]]: tensor<2x8x6xbf16>, %[[V:[^:]+]]: tensor<2x5x8xbf16>, %[[P:[^:]+]]: tensor<?xi32>
// CHECK-NEXT: %[[LATENT:.+]] = deepseek.head_linear %[[Q]], %[[K]] : tensor<?x20xf32>, tensor<2x8x6xbf16> -> tensor<?x16xf32>
// CHECK-NEXT: %[[U:.+]] = deepseek.absorbed_attention %[[LATENT]], %[[Q]], %[[C]], %[[R]] at %[[P]] of %{{.+}} in %{{.+}}[%{{.+}}] heads 2 scale 2.500000e-01
// CHECK-NEXT: %[[O:.+]] = deepseek.head_linear %[[U]], %[[V]] : tensor<?x16xf32>, tensor<2x5x8xbf16> -> tensor<?x10xf32>
// CHECK-NEXT: return %[[O]]
func.func private @layer(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x10xf32> {
  %o = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 2.5e-1 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return %o : tensor<?x10xf32>
}

// CHECK-LABEL: func.func @forward
// CHECK-NOT: use_weight @kv_b.0 :
// CHECK: %[[K0:.+]] = deepseek.use_weight @kv_b.0.absorbed_key : tensor<2x8x6xbf16>
// CHECK: %[[V0:.+]] = deepseek.use_weight @kv_b.0.absorbed_value : tensor<2x5x8xbf16>
// CHECK: call @layer(%{{.+}}, %{{.+}}, %{{.+}}, %[[K0]], %[[V0]], %
// CHECK-NOT: use_weight @kv_b.1 :
// CHECK: %[[K1:.+]] = deepseek.use_weight @kv_b.1.absorbed_key
// CHECK: %[[V1:.+]] = deepseek.use_weight @kv_b.1.absorbed_value
// CHECK: call @layer(%{{.+}}, %{{.+}}, %{{.+}}, %[[K1]], %[[V1]], %
func.func @forward(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache) -> (tensor<?x10xf32>, tensor<?x10xf32>) {
  %w0 = deepseek.use_weight @kv_b.0 : tensor<22x8xbf16>
  %l0 = arith.constant 0 : index
  %0 = call @layer(%q, %c, %r, %w0, %p, %s, %cache, %l0) : (tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, tensor<?xi32>, !cache, index) -> tensor<?x10xf32>
  %w1 = deepseek.use_weight @kv_b.1 : tensor<22x8xbf16>
  %l1 = arith.constant 1 : index
  %1 = call @layer(%q, %c, %r, %w1, %p, %s, %cache, %l1) : (tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, tensor<?xi32>, !cache, index) -> tensor<?x10xf32>
  return %0, %1 : tensor<?x10xf32>, tensor<?x10xf32>
}

// -----

// A weight used in the attention's own function is cut there; a weight that is
// used elsewhere, too, stays.

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

// CHECK: deepseek.weight @shared : tensor<22x8xf32>
// CHECK: deepseek.weight @shared.absorbed_key : tensor<2x8x6xf32>
// CHECK: deepseek.weight @shared.absorbed_value : tensor<2x5x8xf32>
deepseek.weight @shared : tensor<22x8xf32> {
  %0 = deepseek.source "shared" in [] at [] : tensor<22x8xf32>
  deepseek.yield %0 : tensor<22x8xf32>
}

// CHECK-LABEL: func.func @direct
// CHECK: %[[K:.+]] = deepseek.use_weight @shared.absorbed_key
// CHECK: %[[V:.+]] = deepseek.use_weight @shared.absorbed_value
// CHECK: deepseek.head_linear %{{.+}}, %[[K]]
// CHECK: deepseek.head_linear %{{.+}}, %[[V]]
func.func @direct(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> (tensor<?x10xf32>, tensor<22x8xf32>) {
  %w = deepseek.use_weight @shared : tensor<22x8xf32>
  %o = deepseek.latent_attention %q, %c, %r, %w at %p of %s in %cache[%layer] heads 2 scale 2.5e-1 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xf32>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  %whole = deepseek.use_weight @shared : tensor<22x8xf32>
  return %o, %whole : tensor<?x10xf32>, tensor<22x8xf32>
}

// -----

// A public function may have callers that are not seen.

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

// CHECK-LABEL: func.func @public
// CHECK: deepseek.latent_attention
func.func @public(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x10xf32> {
  %o = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 2.5e-1 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return %o : tensor<?x10xf32>
}

// -----

// A function whose address is taken may be called with any operand.

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

// CHECK-LABEL: func.func private @address_taken
// CHECK: deepseek.latent_attention
func.func private @address_taken(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x10xf32> {
  %o = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 2.5e-1 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return %o : tensor<?x10xf32>
}
func.func @taker() {
  %f = func.constant @address_taken : (tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, tensor<?xi32>, !cache, index) -> tensor<?x10xf32>
  return
}

// -----

// A call that passes something other than a weight keeps the argument whole.

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

// CHECK-LABEL: func.func private @not_a_weight
// CHECK: deepseek.latent_attention
func.func private @not_a_weight(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %kv_b: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x10xf32> {
  %o = deepseek.latent_attention %q, %c, %r, %kv_b at %p of %s in %cache[%layer] heads 2 scale 2.5e-1 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return %o : tensor<?x10xf32>
}
func.func @caller(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %w: tensor<22x8xbf16>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> tensor<?x10xf32> {
  %o = call @not_a_weight(%q, %c, %r, %w, %p, %s, %cache, %layer) : (tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, tensor<?xi32>, !cache, index) -> tensor<?x10xf32>
  return %o : tensor<?x10xf32>
}

// -----

// A kv_b that is read as a matrix, too, would have to be kept beside its halves.

!cache = !deepseek.kv_cache<kind = latent, layers = 2, heads = 1, key_dim = 12, value_dim = 8, element = f32>

deepseek.weight @kv_b : tensor<22x8xbf16> {
  %0 = deepseek.source "kv_b" in [] at [] : tensor<22x8xbf16>
  deepseek.yield %0 : tensor<22x8xbf16>
}

// CHECK-LABEL: func.func @other_use
// CHECK: deepseek.linear
// CHECK: deepseek.latent_attention
func.func @other_use(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache, %layer: index) -> (tensor<?x22xf32>, tensor<?x10xf32>) {
  %w = deepseek.use_weight @kv_b : tensor<22x8xbf16>
  %expanded = deepseek.linear %c, %w : tensor<?x8xf32>, tensor<22x8xbf16> -> tensor<?x22xf32>
  %o = deepseek.latent_attention %q, %c, %r, %w at %p of %s in %cache[%layer] heads 2 scale 2.5e-1 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xbf16>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return %expanded, %o : tensor<?x22xf32>, tensor<?x10xf32>
}

// The sums are the same, in another order: to rounding in f64.

// RUN: hadal-opt %source/test/dialects/DeepSeek/Reference/Inputs/mla-moe.mlir -deepseek-run="tokens=3,1,4,1,5,9,2,6 check=1e-13" -deepseek-absorb-latent-attention -deepseek-run="tokens=3,1,4,1,5,9,2,6 check=1e-13" | FileCheck %s --check-prefix=BY-VALUE

// BY-VALUE-NOT: deepseek.latent_attention
// BY-VALUE: deepseek.absorbed_attention

// -----

// Halves that an importer joined are taken as they were.

!cache = !deepseek.kv_cache<kind = latent, layers = 1, heads = 1, key_dim = 12, value_dim = 8, element = f32>

// CHECK: deepseek.weight @kv_b.absorbed_key : tensor<2x8x6xf32> {
// CHECK-NEXT: %[[K:.+]] = deepseek.source "k_b"
// CHECK-NEXT: deepseek.yield %[[K]]
// CHECK: deepseek.weight @kv_b.absorbed_value : tensor<2x5x8xf32> {
// CHECK-NEXT: %[[V:.+]] = deepseek.source "v_b"
// CHECK-NEXT: deepseek.yield %[[V]]
deepseek.weight @kv_b : tensor<22x8xf32> {
  %0 = deepseek.source "k_b" in [] at [] : tensor<2x8x6xf32>
  %1 = deepseek.transpose %0 [0, 2, 1] : tensor<2x8x6xf32> -> tensor<2x6x8xf32>
  %2 = deepseek.source "v_b" in [] at [] : tensor<2x5x8xf32>
  %3 = deepseek.concat %1, %2 axis 1 : (tensor<2x6x8xf32>, tensor<2x5x8xf32>) -> tensor<2x11x8xf32>
  %4 = deepseek.reshape %3 : tensor<2x11x8xf32> -> tensor<22x8xf32>
  deepseek.yield %4 : tensor<22x8xf32>
}
func.func @joined(%q: tensor<?x20xf32>, %c: tensor<?x8xf32>, %r: tensor<?x4xf32>, %p: tensor<?xi32>, %s: tensor<?xi32>, %cache: !cache) -> tensor<?x10xf32> {
  %w = deepseek.use_weight @kv_b : tensor<22x8xf32>
  %l = arith.constant 0 : index
  %o = deepseek.latent_attention %q, %c, %r, %w at %p of %s in %cache[%l] heads 2 scale 2.5e-1 : tensor<?x20xf32>, tensor<?x8xf32>, tensor<?x4xf32>, tensor<22x8xf32>, tensor<?xi32>, !cache -> tensor<?x10xf32>
  return %o : tensor<?x10xf32>
}
