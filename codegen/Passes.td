// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Passes that turn a model into code. This is their table of contents.

#ifndef HADAL_CODEGEN_PASSES
#define HADAL_CODEGEN_PASSES

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Transforms
//===----------------------------------------------------------------------===//

def PlanMemory : Pass<"rt-plan-memory", "::mlir::ModuleOp"> {
  let summary = "Gives every buffer of the host program its place in the arena";
  let description = [{
    The arena is `per_token * tokens + fixed` bytes: first the buffers that grow
    with the tokens of a step, then those that do not. A buffer lives from its
    first use to its last in its function; two that are never alive together
    may share bytes. The largest is placed first, each in the smallest gap that
    holds it. The frame of a function lies above all that is alive at any call
    of it. Writes the totals to `rt.program`. Exact, and the same every time; a
    plan that is there already is replaced.

    Fails on a function that calls itself, on control flow and results of
    buffers in a host function, on an `rt.alloc` with both kinds of bytes, or
    with fewer bytes than one row of its type, and on an `rt.weight` or
    `rt.page` that reaches beyond the weights or the layer's part of a page.

    ```mlir
    %a = rt.alloc %step bytes 256 * tokens + 0 : memref<?x64xf32>
    // becomes
    %a = rt.alloc %step bytes 256 * tokens + 0 at 512 * tokens + 0
        : memref<?x64xf32>
    ```
  }];
  let options = [Option<"report", "report", "bool", /*default=*/"false",
      "Remark how many bytes the arena needs, as a formula">];
  let statistics = [
    Statistic<"numBuffers", "num-buffers", "Number of buffers placed">,
    Statistic<"unsharedPerToken", "unshared-per-token",
        "Bytes per token if no two buffers shared any">,
    Statistic<"arenaPerToken", "arena-per-token",
        "Bytes of the arena per token of a step">,
    Statistic<"arenaFixed", "arena-fixed", "Bytes of the arena besides">];
  let dependentDialects = ["::hadal::rt::RTDialect"];
}

def SeparateGraphResults : Pass<"rt-separate-graph-results",
                                "::mlir::func::FuncOp"> {
  let summary = "Gives each result of a graph a buffer of its own";
  let description = [{
    A function with `rt.inputs` that returns one buffer several times, as a
    graph does whose outputs are equal, returns copies of it after the first,
    since the caller will give a place for each. Exact.

    ```mlir
    return %y, %y : memref<4xf32>, memref<4xf32>
    // becomes
    %copy = memref.alloc() : memref<4xf32>
    memref.copy %y, %copy : memref<4xf32> to memref<4xf32>
    return %y, %copy : memref<4xf32>, memref<4xf32>
    ```
  }];
  let dependentDialects = ["::mlir::memref::MemRefDialect"];
}

def PlanGraphMemory : Pass<"rt-plan-graph-memory", "::mlir::ModuleOp"> {
  let summary = "Gives every buffer of a graph its place in one arena";
  let description = [{
    A function with `rt.inputs` is a graph of tensors of known size. After
    bufferization it takes inputs, weights and outputs and allocates the rest;
    now it takes inputs, outputs, all weights as bytes, and the arena as bytes,
    and allocates nothing. A buffer lives from its first use to its last; two
    that are never alive together may share bytes. The largest is placed first,
    each in the lowest gap that holds it. Copies become loops. Weights get
    their offsets, `rt.offset`, and the function `rt.weights_bytes` and
    `rt.arena_bytes`. Exact, and the same every time.

    Fails on a buffer whose size is not known, or that leaves the loop that
    makes it.
  }];
  let statistics = [
    Statistic<"numBuffers", "num-buffers", "Number of buffers placed">];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::linalg::LinalgDialect",
                           "::mlir::memref::MemRefDialect"];
}

def EmitGraphEntry : Pass<"rt-emit-graph-entry", "::mlir::ModuleOp"> {
  let summary = "Describes a graph to C programs";
  let description = [{
    Adds the constant `hadal_rt_graph_t` of `hadal_rt/graph.h`, with names,
    element types and shapes of inputs and outputs, and the function that it
    points to, which unpacks the pointers and calls the graph's. Runs when the
    graph is a function of the llvm dialect that takes plain pointers.
  }];
  let options = [Option<"symbol", "symbol", "std::string",
      /*default=*/"\"hadal_graph\"", "Name of the constant">];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

def PackWeights : Pass<"deepseek-pack-weights", "::mlir::ModuleOp"> {
  let summary = "Stores the weights of matrix products in tiles of 16 rows";
  let description = [{
    The layout stands in the weight's type (`#deepseek.tiled`), in those of the
    functions that take it, and at the end of its recipe (`deepseek.pack`).
    Exact: only the order of bytes changes. An embedding table that no product
    reads stays row-major; one that is tied to the head is stored once, in
    tiles. Never fails; a weight that is packed already is left alone.

    ```mlir
    deepseek.weight @w : tensor<64x64xbf16> {
      %0 = deepseek.source ...
    // becomes
    deepseek.weight @w : tensor<64x64xbf16, #deepseek.tiled<rows = 16>> {
      %0 = deepseek.source ...
      %1 = deepseek.pack %0 : ...
    ```
  }];
  let statistics = [Statistic<"numWeightsPacked", "num-weights-packed",
      "Number of weights that were given a layout">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

//===----------------------------------------------------------------------===//
// Conversion
//===----------------------------------------------------------------------===//

def ConvertDeepSeekToRT : Pass<"convert-deepseek-to-rt", "::mlir::ModuleOp"> {
  let summary = "Forms dispatches: every deepseek op becomes kernels and calls";
  let description = [{
    A function of deepseek ops becomes a host function of the same name that
    takes the step, allocates a buffer for each result and dispatches a kernel
    for each op, in order. Kernels are `rt.kernel` ops made of scf, vector and
    arith for the exact shapes; ops of one shape share one. Weights are placed
    (`rt.offset`) and those that nothing reads are dropped; `deepseek.model`
    becomes `rt.program`.

    How many rows, columns and tiles a kernel takes at a time follows from
    `registers` and from the caches' sizes, and stands in the kernel's `tile`.
    Results do not depend on the caches.

    Fails on `deepseek.latent_attention` (run
    `-deepseek-absorb-latent-attention` before), on weights that are not packed,
    and on ops of other dialects than arith and func.

    ```mlir
    %y = deepseek.add %a, %b : tensor<?x64xf32>
    // becomes
    %y = rt.alloc %step bytes 256 * tokens + 0 : memref<?x64xf32, ..>
    rt.dispatch @add_64 items %tokens of %step(%a, %b, %y) : ..
    ```
  }];
  let options = [
    Option<"registers", "registers", "int64_t", /*default=*/"32",
        "Vector registers of 16 f32 lanes: 32 with AVX-512, 8 with AVX2 or NEON">,
    Option<"pageTokens", "page-tokens", "int64_t", /*default=*/"32",
        "Tokens in a KV page, a multiple of 16">,
    Option<"dotProduct", "dot-product", "::hadal::DotProductKind",
        /*default=*/"::hadal::DotProductKind::Generic",
        "Instructions that multiply bytes",
        [{::llvm::cl::values(
          clEnumValN(::hadal::DotProductKind::Generic, "generic",
                     "products and sums of 32-bit integers"),
          clEnumValN(::hadal::DotProductKind::GenericI8MM, "generic-i8mm",
                     "the same, with smmla for many rows, for C++ source"),
          clEnumValN(::hadal::DotProductKind::AVX2, "avx2", "vpmaddubsw"),
          clEnumValN(::hadal::DotProductKind::AVX512VNNI, "avx512-vnni",
                     "vpdpbusd"),
          clEnumValN(::hadal::DotProductKind::AMXInt8, "amx-int8",
                     "tdpbssd for many rows, vpdpbusd for few"),
          clEnumValN(::hadal::DotProductKind::Neon, "neon", "sdot"),
          clEnumValN(::hadal::DotProductKind::NeonI8MM, "neon-i8mm",
                     "smmla for many rows, sdot for one"),
          clEnumValN(::hadal::DotProductKind::CUDA, "cuda",
                     "mma for many rows, dp4a for few; and rt.products"))}]>,
    Option<"bf16Products", "bf16-products", "bool", /*default=*/"false",
        "Round queries, and weights of the softmax, to bf16 where they meet "
        "latents of bf16 or of integers: lossy">,
    Option<"bf16Pairs", "bf16-pairs", "bool", /*default=*/"false",
        "Multiply bf16 by vdpbf16ps of AVX512_BF16">,
    Option<"bf16Dots", "bf16-dots", "bool", /*default=*/"false",
        "Multiply inputs in bf16 by bfdot and bfmmla of FEAT_BF16">,
    Option<"scalesByExponents", "scales-by-exponents", "bool",
        /*default=*/"false",
        "Multiply scales by inputs' scales that are powers of two by vscalefps "
        "of AVX-512">,
    Option<"isRead", "is-read", "bool", /*default=*/"false",
        "Make kernels that people read: loops of one step, nothing ahead">,
    Option<"followsStreams", "follows-streams", "bool", /*default=*/"false",
        "Read the weights of a single row as one stream, which hardware "
        "reads ahead">,
    Option<"l1Bytes", "l1-bytes", "int64_t", /*default=*/"32768",
        "Bytes of the target's first-level data cache">,
    Option<"l2Bytes", "l2-bytes", "int64_t", /*default=*/"1048576",
        "Bytes of the second-level cache of one of its cores">,
    Option<"describeWork", "describe-work", "bool", /*default=*/"false",
        "Give dispatches their `work`, for profiles and reports">];
  let dependentDialects = [
    "::hadal::rt::RTDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::arith::ArithDialect",
    "::mlir::math::MathDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"];
}

//===----------------------------------------------------------------------===//
// LLVM
//===----------------------------------------------------------------------===//

def ConvertRTToLLVM : Pass<"convert-rt-to-llvm", "::mlir::ModuleOp"> {
  let summary = "Turns host program, kernels and model into LLVM functions";
  let description = [{
    Afterward the module has, by the C ABI of `hadal_rt/abi.h`:
    - per `rt.kernel` an internal function `void (step, params, first, last)`,
      which rebuilds its memrefs from the words of `params`. Its body is as it
      was, apart from the `rt` ops; `-hadal-lower-to-llvm` lowers the rest.
    - per host function an internal function in which a buffer is its address;
    - for `rt.program` a constant `hadal_rt_model_t` named `symbol`, and its
      manifest in the ELF section `.hadal.manifest`, which linkers keep.

    `deepseek.weight` ops are dropped. Fails on an unplanned `rt.alloc`, on a
    memref whose strides are not static or whose offset is not 0, on
    `memref.dim` of a dynamic size, and on ops that a host function may not
    have.

    ```mlir
    rt.dispatch @k items %n of %step(%x, %y) : memref<?x64xf32>, index
    // becomes
    llvm.store %x, %params : !llvm.ptr, !llvm.ptr
    llvm.store %y, %params_1 : i64, !llvm.ptr
    llvm.call %dispatch(%pool, %step, %k, %params, %n) : !llvm.ptr, ...
    ```
  }];
  let options = [
    Option<"symbol", "symbol", "std::string", /*default=*/"\"hadal_model\"",
        "Name of the model's symbol">,
    Option<"lesser", "lesser", "std::string", /*default=*/"\"\"",
        "Symbol of the model for lesser processors, which another module has; "
        "empty: there is none">];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

#endif // HADAL_CODEGEN_PASSES
