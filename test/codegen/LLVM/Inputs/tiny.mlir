// A model of one layer, small enough to follow by hand: each token adds its
// embedding to those of all tokens before it in its sequence, which the KV
// pages keep; the layer doubles the sum; the head multiplies it.

rt.program @tiny entry @forward {vocab = 16 : i64, hidden = 32 : i64, layers = 2 : i64, context_length = 32 : i64, page_tokens = 3 : i64, page_bytes = 1024 : i64, weights_bytes = 2112 : i64, layout_hash = "000102030405060708090a0b0c0d0eff", manifest = "{\22model\22: \22tiny\22}", info = {name = "Tiny"}}

deepseek.weight @embedding : tensor<16x32xbf16> {
  %0 = deepseek.source "embedding" in ["model.safetensors"] at [0] : tensor<16x32xbf16>
  deepseek.yield %0 : tensor<16x32xbf16>
}

rt.kernel @embed [memref<16x32xbf16>, memref<?x32xf32, strided<[48, 1]>>, memref<?xi8>] {
^bb0(%step: !rt.step, %first: index, %last: index, %table: memref<16x32xbf16>, %x: memref<?x32xf32, strided<[48, 1]>>, %ids: memref<?xi8>):
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %c32 = arith.constant 32 : index
  %tokens = rt.input %step token_ids : memref<?xi32>
  scf.for %i = %first to %last step %c1 {
    %id = memref.load %tokens[%i] : memref<?xi32>
    %byte = arith.trunci %id : i32 to i8
    memref.store %byte, %ids[%i] : memref<?xi8>
    %row = arith.index_castui %id : i32 to index
    scf.for %j = %c0 to %c32 step %c8 {
      %w = vector.load %table[%row, %j] : memref<16x32xbf16>, vector<8xbf16>
      %f = arith.extf %w : vector<8xbf16> to vector<8xf32>
      vector.store %f, %x[%i, %j] : memref<?x32xf32, strided<[48, 1]>>, vector<8xf32>
    }
  }
}

// Keeps each token's row, for layer 1 of 2, 128 bytes into its part.
rt.kernel @append [memref<?x32xf32, strided<[48, 1]>>] {
^bb0(%step: !rt.step, %first: index, %last: index, %x: memref<?x32xf32, strided<[48, 1]>>):
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %sequences = rt.input %step sequences : memref<?xi32>
  %positions = rt.input %step positions : memref<?xi32>
  scf.for %i = %first to %last step %c1 {
    %s = memref.load %sequences[%i] : memref<?xi32>
    %sequence = arith.index_castui %s : i32 to index
    %p = memref.load %positions[%i] : memref<?xi32>
    %position = arith.index_castui %p : i32 to index
    %index = arith.divui %position, %c3 : index
    %slot = arith.remui %position, %c3 : index
    %page = rt.page %step[%sequence, %index] layer %c1 bytes 1024, 512 at 128 : memref<3x32xf32>
    %row = vector.load %x[%i, %c0] : memref<?x32xf32, strided<[48, 1]>>, vector<32xf32>
    vector.store %row, %page[%slot, %c0] : memref<3x32xf32>, vector<32xf32>
  }
}

rt.kernel @attend [memref<?x32xf32, strided<[48, 1]>>] {
^bb0(%step: !rt.step, %first: index, %last: index, %y: memref<?x32xf32, strided<[48, 1]>>):
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %zero = arith.constant dense<0.0> : vector<32xf32>
  %sum = memref.alloca() {alignment = 64 : i64} : memref<32xf32>
  %sequences = rt.input %step sequences : memref<?xi32>
  %positions = rt.input %step positions : memref<?xi32>
  scf.for %i = %first to %last step %c1 {
    vector.store %zero, %sum[%c0] : memref<32xf32>, vector<32xf32>
    %s = memref.load %sequences[%i] : memref<?xi32>
    %sequence = arith.index_castui %s : i32 to index
    %p = memref.load %positions[%i] : memref<?xi32>
    %position = arith.index_castui %p : i32 to index
    %end = arith.addi %position, %c1 : index
    scf.for %j = %c0 to %end step %c1 {
      %index = arith.divui %j, %c3 : index
      %slot = arith.remui %j, %c3 : index
      %page = rt.page %step[%sequence, %index] layer %c1 bytes 1024, 512 at 128 : memref<3x32xf32>
      %row = vector.load %page[%slot, %c0] : memref<3x32xf32>, vector<32xf32>
      %old = vector.load %sum[%c0] : memref<32xf32>, vector<32xf32>
      %new = arith.addf %old, %row : vector<32xf32>
      vector.store %new, %sum[%c0] : memref<32xf32>, vector<32xf32>
    }
    %all = vector.load %sum[%c0] : memref<32xf32>, vector<32xf32>
    vector.store %all, %y[%i, %c0] : memref<?x32xf32, strided<[48, 1]>>, vector<32xf32>
  }
}

// Multiplies columns by an index argument.
rt.kernel @scale [index, memref<?x16xf32, strided<[48, 1]>>] {
^bb0(%step: !rt.step, %first: index, %last: index, %factor: index, %x: memref<?x16xf32, strided<[48, 1]>>):
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %i = arith.index_castui %factor : index to i32
  %f = arith.uitofp %i : i32 to f32
  %v = vector.broadcast %f : f32 to vector<16xf32>
  scf.for %row = %first to %last step %c1 {
    %a = vector.load %x[%row, %c0] : memref<?x16xf32, strided<[48, 1]>>, vector<16xf32>
    %b = arith.mulf %a, %v : vector<16xf32>
    vector.store %b, %x[%row, %c0] : memref<?x16xf32, strided<[48, 1]>>, vector<16xf32>
  }
}

// Adds the token's id to all logits; its columns are 16 wide with a mask of 10.
rt.kernel @head [memref<16x32xf16>, memref<?x32xf32, strided<[48, 1]>>, memref<?xi8>, memref<16xf32>] {
^bb0(%step: !rt.step, %first: index, %last: index, %w: memref<16x32xf16>, %x: memref<?x32xf32, strided<[48, 1]>>, %ids: memref<?xi8>, %bias: memref<16xf32>):
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %c10 = arith.constant 10 : index
  %c16 = arith.constant 16 : index
  %c32 = arith.constant 32 : index
  %zero = arith.constant dense<0.0> : vector<8xf32>
  %none = arith.constant dense<0.0> : vector<16xf32>
  %rows = rt.input %step output_rows : memref<?xi32>
  %logits = rt.logits %step : memref<?x16xf32>
  %outputs = rt.outputs %step
  %inside = arith.cmpi ule, %last, %outputs : index
  scf.if %inside {
    scf.for %o = %first to %last step %c1 {
      %r = memref.load %rows[%o] : memref<?xi32>
      %row = arith.index_castui %r : i32 to index
      %id = memref.load %ids[%row] : memref<?xi8>
      %add = arith.sitofp %id : i8 to f32
      scf.for %v = %c0 to %c16 step %c1 {
        %dot = scf.for %j = %c0 to %c32 step %c8 iter_args(%acc = %zero) -> (vector<8xf32>) {
          %h = vector.load %w[%v, %j] : memref<16x32xf16>, vector<8xf16>
          %a = arith.extf %h : vector<8xf16> to vector<8xf32>
          %b = vector.load %x[%row, %j] : memref<?x32xf32, strided<[48, 1]>>, vector<8xf32>
          %next = vector.fma %a, %b, %acc : vector<8xf32>
          scf.yield %next : vector<8xf32>
        }
        %high = vector.shuffle %dot, %dot [4, 5, 6, 7] : vector<8xf32>, vector<8xf32>
        %low = vector.extract_strided_slice %dot {offsets = [0], sizes = [4], strides = [1]} : vector<8xf32> to vector<4xf32>
        %half = arith.addf %low, %high : vector<4xf32>
        %sum = vector.reduction <add>, %half : vector<4xf32> into f32
        %result = arith.addf %sum, %add : f32
        memref.store %result, %logits[%o, %v] : memref<?x16xf32>
      }
      %mask = vector.create_mask %c10 : vector<16xi1>
      %b = vector.maskedload %bias[%c0], %mask, %none : memref<16xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
      %l = vector.load %logits[%o, %c0] : memref<?x16xf32>, vector<16xf32>
      %t = arith.addf %l, %b : vector<16xf32>
      vector.maskedstore %logits[%o, %c0], %mask, %t : memref<?x16xf32>, vector<16xi1>, vector<16xf32>
    }
  }
}

func.func private @layer(%step: !rt.step, %x: memref<?x32xf32, strided<[48, 1]>>, %factor: index) {
  %tokens = rt.tokens %step
  %y = rt.alloc %step bytes 192 * tokens + 0 : memref<?x32xf32, strided<[48, 1]>>
  rt.dispatch @append items %tokens of %step(%x) : memref<?x32xf32, strided<[48, 1]>>
  rt.dispatch @attend items %tokens of %step(%x) : memref<?x32xf32, strided<[48, 1]>>
  %left = rt.columns %x from 0 : memref<?x32xf32, strided<[48, 1]>> -> memref<?x16xf32, strided<[48, 1]>>
  %right = rt.columns %x from 16 : memref<?x32xf32, strided<[48, 1]>> -> memref<?x16xf32, strided<[48, 1]>>
  rt.dispatch @scale items %tokens of %step(%factor, %left) : index, memref<?x16xf32, strided<[48, 1]>>
  rt.dispatch @scale items %tokens of %step(%factor, %right) : index, memref<?x16xf32, strided<[48, 1]>>
  // A buffer of the callee is no buffer of the caller.
  rt.dispatch @attend items %tokens of %step(%y) : memref<?x32xf32, strided<[48, 1]>>
  return
}

func.func @forward(%step: !rt.step) {
  %tokens = rt.tokens %step
  %outputs = rt.outputs %step
  %x = rt.alloc %step bytes 192 * tokens + 0 : memref<?x32xf32, strided<[48, 1]>>
  %ids = rt.alloc %step bytes 64 * tokens + 0 : memref<?xi8>
  %table = rt.weight %step at 0 : memref<16x32xbf16>
  rt.dispatch @embed items %tokens of %step(%table, %x, %ids) : memref<16x32xbf16>, memref<?x32xf32, strided<[48, 1]>>, memref<?xi8>
  %c1 = arith.constant 1 : index
  %c2 = arith.addi %c1, %c1 : index
  call @layer(%step, %x, %c2) : (!rt.step, memref<?x32xf32, strided<[48, 1]>>, index) -> ()
  %bias = rt.weight %step at 1024 "bias" : memref<16xf32>
  %head = rt.weight %step at 1088 : memref<16x32xf16>
  rt.dispatch @head items %outputs of %step(%head, %x, %ids, %bias) : memref<16x32xf16>, memref<?x32xf32, strided<[48, 1]>>, memref<?xi8>, memref<16xf32>
  return
}
