// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operations of the rt dialect.

#ifndef HADAL_RT_OPS
#define HADAL_RT_OPS

include "dialects/RT/IR/RTDialect.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/ViewLikeInterface.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"

class RT_Op<string opMnemonic, list<Trait> traits = []>
    : Op<RT_Dialect, opMnemonic, traits>;

//===----------------------------------------------------------------------===//
// The program
//===----------------------------------------------------------------------===//

def RT_ProgramOp : RT_Op<"program",
    [Symbol, HasParent<"::mlir::ModuleOp">,
     DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "A compiled model: its entry, its sizes and its memory plan";
  let description = [{
    One per module; becomes `hadal_rt_model_t`. `entry` takes `!rt.step` and
    returns nothing. `layout_hash` (32 hexadecimal digits) ties the code to the
    weights file. The arena needs `arena_per_token * tokens + arena_fixed`
    bytes, which the memory plan fills in. `cpu_features` are
    `HADAL_RT_CPU_*` bits, `manifest` is JSON; code generation fills them in.
    A token sees the `window_tokens` latest tokens, or all if it is 0, and the
    `sink_tokens` first ones: the widest window of any layer.
    - (C1) sizes are positive, those of the arena and the window not negative.
    - (C2) `entry` is a function from `!rt.step` to nothing.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefAttr:$entry,
                       I64Attr:$vocab, I64Attr:$hidden, I64Attr:$layers,
                       I64Attr:$context_length, I64Attr:$page_tokens,
                       I64Attr:$page_bytes, I64Attr:$weights_bytes,
                       StrAttr:$layout_hash,
                       DefaultValuedAttr<I64Attr, "0">:$arena_per_token,
                       DefaultValuedAttr<I64Attr, "0">:$arena_fixed,
                       DefaultValuedAttr<I64Attr, "0">:$window_tokens,
                       DefaultValuedAttr<I64Attr, "0">:$sink_tokens,
                       DefaultValuedAttr<I64Attr, "0">:$cpu_features,
                       DefaultValuedAttr<StrAttr, "\"\"">:$manifest,
                       DictionaryAttr:$info);
  let assemblyFormat = "$sym_name `entry` $entry attr-dict";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The 16 bytes that `layout_hash` stands for. Fails with a diagnostic if
    /// it is not so many.
    ::llvm::FailureOr<std::string> getLayoutHashBytes();
  }];
}

//===----------------------------------------------------------------------===//
// What a step brings
//===----------------------------------------------------------------------===//

def RT_TokensOp : RT_Op<"tokens", [Pure]> {
  let summary = "Number of tokens in the step";
  let arguments = (ins RT_StepType:$step);
  let results = (outs Index:$result);
  let assemblyFormat = "$step attr-dict";
}

def RT_OutputsOp : RT_Op<"outputs", [Pure]> {
  let summary = "Number of rows that need logits";
  let arguments = (ins RT_StepType:$step);
  let results = (outs Index:$result);
  let assemblyFormat = "$step attr-dict";
}

def RT_InputKind : I32EnumAttr<"InputKind", "An array that a step brings", [
  I32EnumAttrCase<"TokenIds", 0, "token_ids">,
  I32EnumAttrCase<"Positions", 1, "positions">,
  I32EnumAttrCase<"Sequences", 2, "sequences">,
  I32EnumAttrCase<"OutputRows", 3, "output_rows">,
  I32EnumAttrCase<"Adapters", 4, "adapters">]> {
  let cppNamespace = "::hadal::rt";
  let genSpecializedAttr = 0;
}
def RT_InputKindAttr : EnumAttr<RT_Dialect, RT_InputKind, "input_kind"> {
  let assemblyFormat = "$value";
}

def RT_InputOp : RT_Op<"input", [Pure]> {
  let summary = "An array that the step brings, one entry per token or output";
  let arguments = (ins RT_StepType:$step, RT_InputKindAttr:$kind);
  let results = (outs MemRefRankOf<[I32], [1]>:$result);
  let assemblyFormat = "$step $kind attr-dict `:` type($result)";
}

def RT_LogitsOp : RT_Op<"logits", [Pure]> {
  let summary = "Where the step wants its logits, `[outputs, vocab]`";
  let arguments = (ins RT_StepType:$step);
  let results = (outs MemRefRankOf<[F32], [2]>:$result);
  let assemblyFormat = "$step attr-dict `:` type($result)";
}

//===----------------------------------------------------------------------===//
// Buffers
//===----------------------------------------------------------------------===//

def RT_WeightOp : RT_Op<"weight", [Pure]> {
  let summary = "A slice of the weights section";
  let description = [{
    - (C1) `offset` is a multiple of 64 and not negative.
  }];
  let arguments = (ins RT_StepType:$step, I64Attr:$offset,
                       OptionalAttr<StrAttr>:$name);
  let results = (outs AnyStaticShapeMemRef:$result);
  let assemblyFormat =
      "$step `at` $offset ($name^)? attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def RT_AllocOp : RT_Op<"alloc", [MemoryEffects<[MemAlloc]>]> {
  let summary = "A buffer of the step, in the arena";
  let description = [{
    Needs `per_token` bytes for each token of the step and `fixed` bytes. The
    memory plan gives it a place: `offset_per_token * tokens + offset_fixed`.
    - (C1) the four are multiples of 64 and not negative.
    - (C2) the offsets are both there or both not.
  }];
  let arguments = (ins RT_StepType:$step, I64Attr:$per_token, I64Attr:$fixed,
                       OptionalAttr<I64Attr>:$offset_per_token,
                       OptionalAttr<I64Attr>:$offset_fixed);
  let results = (outs AnyMemRef:$result);
  let assemblyFormat = [{
    $step `bytes` $per_token `*` `tokens` `+` $fixed
    (`at` $offset_per_token^ `*` `tokens` `+` $offset_fixed)? attr-dict
    `:` type($result)
  }];
  let hasVerifier = 1;
}

def RT_ColumnsOp : RT_Op<"columns", [Pure, ViewLikeOpInterface]> {
  let summary = "Consecutive columns of a buffer";
  let description = [{
    The result starts `begin` elements into each row and keeps the row stride.
    - (C1) both are rank 2 with one row stride and element type, and the
      columns lie within the rows of the input.
  }];
  let arguments = (ins MemRefRankOf<[AnyType], [2]>:$input, I64Attr:$begin);
  let results = (outs MemRefRankOf<[AnyType], [2]>:$result);
  let assemblyFormat = [{
    $input `from` $begin attr-dict `:` type($input) `->` type($result)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::Value getViewSource() { return getInput(); }
    ::mlir::Value getViewDest() { return getResult(); }
  }];
}

def RT_PageOp : RT_Op<"page", [Pure]> {
  let summary = "Part of one KV page of a sequence, for one layer";
  let description = [{
    The address is that of page `page_table[sequence, index]` of `page_bytes`,
    plus `base + layer * layer_bytes + offset`: from `base` on there are layers
    that keep the same.
    - (C1) sizes are positive, `offset` and `base` are not negative.
  }];
  let arguments = (ins RT_StepType:$step, Index:$sequence, Index:$index,
                       Index:$layer, I64Attr:$page_bytes, I64Attr:$layer_bytes,
                       I64Attr:$offset, DefaultValuedAttr<I64Attr, "0">:$base);
  let results = (outs AnyStaticShapeMemRef:$result);
  let assemblyFormat = [{
    $step `[` $sequence `,` $index `]` `layer` $layer `bytes` $page_bytes `,`
    $layer_bytes `at` $offset (`base` $base^)? attr-dict `:` type($result)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Kernels and dispatches
//===----------------------------------------------------------------------===//

def RT_KernelOp : RT_Op<"kernel",
    [Symbol, IsolatedFromAbove, AutomaticAllocationScope,
     HasParent<"::mlir::ModuleOp">,
     SingleBlockImplicitTerminator<"ReturnOp">]> {
  let summary = "Code that computes work items [first, last) of a dispatch";
  let description = [{
    The block's arguments are the step, `first`, `last`, and then one argument
    per dispatch operand: memrefs and indices. Items are independent, so that a
    result does not depend on which thread computes which.
    - (C1) the block has the arguments `!rt.step, index, index` and then those
      of `argument_types`, each a memref or an index.

    ```mlir
    rt.kernel @fill(memref<?x64xf32>) {
    ^bb0(%step: !rt.step, %first: index, %last: index,
         %out: memref<?x64xf32>):
      ...
    }
    ```

    `tile` says for people how much the kernel takes at a time, where that
    depends on the target: rows, tiles of weights, or columns.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name,
                       TypeArrayAttr:$argument_types,
                       OptionalAttr<DictionaryAttr>:$tile);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat =
      "$sym_name $argument_types attr-dict-with-keyword $body";
  let hasVerifier = 1;
  let skipDefaultBuilders = 1;
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name,
                                 "::mlir::TypeRange":$argumentTypes)>];
  let extraClassDeclaration = [{
    ::mlir::Value getStep() { return getBody().getArgument(0); }
    ::mlir::Value getFirst() { return getBody().getArgument(1); }
    ::mlir::Value getLast() { return getBody().getArgument(2); }
    ::mlir::Block::BlockArgListType getKernelArguments() {
      return getBody().getArguments().drop_front(3);
    }
  }];
}

def RT_ReturnOp : RT_Op<"return",
    [Pure, Terminator, ParentOneOf<["KernelOp", "ProductsOp"]>]> {
  let summary = "Ends a kernel, or what it does with a product";
  let assemblyFormat = "attr-dict";
}

def RT_ProductsOp : RT_Op<"products",
    [AttrSizedOperandSegments,
     SingleBlockImplicitTerminator<"ReturnOp">]> {
  let summary = "Products of rows with tiles of weights, by a block of threads";
  let description = [{
    For GPUs, whose tensor cores multiply the entries [`first_entry`,
    `last_entry`) by the tiles [`first_tile`, `last_tile`) of a packed weight,
    or of a gate and an up. Entry e is row `list[e] / entries_per_row` of
    `input`, or row e without a list, from column `column` on. The body has a
    tile, an entry, and of each weight the sums of the tile's 16 outputs; it
    runs once for each tile and entry, in any order, and stores what it makes
    of them. Weights of FP8 have `scales`, one for 128 x 128 of them.

    Inputs are three bf16 numbers each or, with `bf16_inputs`, are rounded to
    one; products are exact, and sums of 128 columns begin at zero and are added
    in order: a sum does not depend on what else is computed.
    - (C1) one weight, or two of one type, bf16, f16 or i8 `[.., tiles, inner,
      16]`, with an index `leading` if there is a dimension before the tiles.
    - (C2) as many scales as weights of i8, and none for others.
    - (C3) the body has arguments `index, index` and then a `vector<16xf32>` for
      each weight.
    - (C4) `entries_per_row` is positive.

    ```mlir
    rt.products %first to %last of %x : memref<?x64xf32, strided<[64, 1]>>
        tiles %begin to %end of %w : memref<4x64x16xbf16> {
    ^bb0(%tile: index, %entry: index, %sums: vector<16xf32>):
      ...
    }
    ```
  }];
  let arguments = (ins Index:$first_entry, Index:$last_entry,
                       MemRefRankOf<[F32], [2]>:$input,
                       Optional<Index>:$column,
                       Optional<MemRefRankOf<[I32], [1]>>:$list,
                       Index:$first_tile, Index:$last_tile,
                       Variadic<AnyStaticShapeMemRef>:$weights,
                       Optional<Index>:$leading,
                       Variadic<AnyStaticShapeMemRef>:$scales,
                       DefaultValuedAttr<I64Attr, "1">:$entries_per_row,
                       UnitAttr:$bf16_inputs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $first_entry `to` $last_entry `of` $input `:` type($input)
    (`from` $column^)? (`by` $list^ `:` type($list))?
    `tiles` $first_tile `to` $last_tile `of` $weights `:` type($weights)
    (`at` $leading^)? (`scales` $scales^ `:` type($scales))?
    attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
}

def RT_BlockAttentionOp : RT_Op<"block_attention",
    [AttrSizedOperandSegments, MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "Attention whose heads share what they read, by a block of threads";
  let description = [{
    For GPUs: what `deepseek.attention` and `deepseek.absorbed_attention` are,
    for items [`first`, `last`) of their kernels. A block of threads reads each
    token once for `block_heads` heads of up to `block_rows` rows and multiplies
    by tensor cores. What it reads is of type `element`, in the pages of a row's
    sequence, as `rt.page` finds them:

    - where `kv_heads` is 0, latents of `key_dim` numbers, `[page_tokens,
      key_dim]`, of which the first `value_dim` are the value, too; those of
      integers have scales of f32, `scale_offset` bytes later, for groups of
      `scale_group` columns. A query's columns behind the value's are those of
      `rope_query`. `selected` has positions for the row, which sees no others.
    - else keys and values of so many heads, `head_bytes` each: keys, `[key_dim,
      page_tokens]`, and `value_offset` bytes later values, `[page_tokens,
      value_dim]`. Those of integers have a scale a token, `scale_offset` and
      `value_scale_offset` bytes after the start of the head.

    With a result `[rows, heads * value_dim]`, items are blocks of
    `block_rows_now` of `rows` rows, for each group of heads, but for rows whose
    `runs` are not 0 in a step of at least `least_run` rows. With two, items are
    `strands` for each group of each row, which write sums `[units * segments,
    block_heads, value_dim]` of segments, and maxima and totals `[.., 2,
    block_heads]`. A segment has `segment_tokens` tokens, or all if that is 0.
    A row sees the `window` latest tokens and the first `sink` ones, or all if
    `window` is 0.

    Queries, weights and what is read are three bf16 numbers each where one has
    not all of them, or, with `is_rounded`, one.
    - (C1) one result with `rows` and `block_rows_now`, or two without.
    - (C2) sizes are positive, and `block_heads` divides `heads`; `scale_group`
      divides `key_dim`, and of latents `value_dim <= key_dim`.
    - (C3) `element` is f32, f16 or bf16 without scales, or i8 with.
    - (C4) with `kv_heads`, it divides `heads`, `block_heads` divides the heads
      of each, sizes fit in `head_bytes`, and there is no `rope_query`,
      `selected` or `is_rounded`; without, there is `rope_query`.
  }];
  let arguments = (ins RT_StepType:$step, Index:$first, Index:$last,
                       MemRefRankOf<[F32], [2]>:$query,
                       MemRefRankOf<[I32], [1]>:$positions,
                       MemRefRankOf<[I32], [1]>:$sequences, Index:$layer,
                       Optional<MemRefRankOf<[F32], [2]>>:$rope_query,
                       Optional<MemRefRankOf<[I32], [2]>>:$selected,
                       Optional<MemRefRankOf<[I32], [1]>>:$runs,
                       Variadic<AnyMemRef>:$results, Optional<Index>:$rows,
                       Optional<Index>:$block_rows_now,
                       TypeAttr:$element, F32Attr:$scale,
                       UnitAttr:$is_rounded, I64Attr:$heads,
                       I64Attr:$kv_heads,
                       I64Attr:$block_heads, I64Attr:$block_rows,
                       I64Attr:$key_dim, I64Attr:$value_dim,
                       I64Attr:$rope_columns, I64Attr:$scale_group,
                       I64Attr:$scale_offset, I64Attr:$head_bytes,
                       I64Attr:$value_offset, I64Attr:$value_scale_offset,
                       I64Attr:$page_tokens,
                       I64Attr:$page_bytes, I64Attr:$layer_bytes,
                       I64Attr:$selected_tokens, I64Attr:$least_run,
                       I64Attr:$segments, I64Attr:$segment_tokens,
                       I64Attr:$strands, I64Attr:$window, I64Attr:$sink,
                       I64Attr:$sink_segments);
  let assemblyFormat = [{
    $first `to` $last `of` $step `(` $query `,` $positions `,` $sequences `,`
    $layer `)` (`rope` $rope_query^)? (`selected` $selected^)? (`runs` $runs^)?
    `into` $results (`rows` $rows^)? (`by` $block_rows_now^)? attr-dict `:`
    type($query) `,` type($positions) `,` type($sequences) `,` type($results)
    (`rope` type($rope_query)^)? (`selected` type($selected)^)?
    (`runs` type($runs)^)?
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Bytes of shared memory that a block of \p slots rows times heads takes,
    /// as `block_attention` of kernels.cuh has them; \p value_dim: 0 of
    /// latents.
    static int64_t getSharedBytes(int64_t slots, int64_t key_dim,
                                  int64_t value_dim, ::mlir::Type element,
                                  bool is_rounded);
    int64_t getSharedBytes();
  }];
}

def RT_WorkAttr : AttrDef<RT_Dialect, "Work"> {
  let mnemonic = "work";
  let summary = "What a dispatch reads and computes, as a formula of the step";
  let description = [{
    `op` is the deepseek op that the dispatch is part of. A row is a token of
    the step or, with `outputs`, one whose logits are wanted, or, with
    `selected`, one that a layer's gate lets through. In a step of r rows, whose sequences have c tokens with the new ones, and where p pairs of
    a token and one that it attends to are computed, the dispatch

    - reads `weights` bytes of weights; with `experts`, which a row chooses
      `experts_per_row` of, those of the experts that any row chose;
    - reads or writes `row_bytes * r` bytes of buffers, of its table's rows and
      of the cache that it appends to;
    - reads `context_bytes * c` bytes of the cache, where a row attends to at
      most `window_tokens`, 0 being all before it;
    - adds or multiplies `row_f32_ops * r + context_f32_ops * c +
      pair_f32_ops * p` times in floating point and `row_int8_ops * r` times in
      integers, in products with weights and in attention;
    - takes `pair_exps * p` exponentials, of whole vectors, in attention, and
      rounds `row_rounded * r` numbers to integers; the rest is not counted.

    With `alternative`, another dispatch does the same in steps of other sizes,
    and this one then has no items. A dispatch with `least_rows` does it in
    place of those with as many `below_rows`, in steps of at least so many
    tokens. Defaults are zero.
    - (C1) no number is negative, and `experts_per_row <= experts`.

    ```mlir
    #rt.work<op = "linear", weights = 8192, row_bytes = 512,
             row_f32_ops = 8192>
    ```
  }];
  let parameters = (ins
    StringRefParameter<"The deepseek op">:$op,
    DefaultValuedParameter<"bool", "false">:$outputs,
    DefaultValuedParameter<"bool", "false">:$selected,
    DefaultValuedParameter<"bool", "false">:$alternative,
    DefaultValuedParameter<"int64_t", "0">:$weights,
    DefaultValuedParameter<"int64_t", "0">:$experts,
    DefaultValuedParameter<"int64_t", "0">:$experts_per_row,
    DefaultValuedParameter<"int64_t", "0">:$row_bytes,
    DefaultValuedParameter<"int64_t", "0">:$context_bytes,
    DefaultValuedParameter<"int64_t", "0">:$window_tokens,
    DefaultValuedParameter<"int64_t", "0">:$row_f32_ops,
    DefaultValuedParameter<"int64_t", "0">:$row_int8_ops,
    DefaultValuedParameter<"int64_t", "0">:$pair_f32_ops,
    DefaultValuedParameter<"int64_t", "0">:$context_f32_ops,
    DefaultValuedParameter<"int64_t", "0">:$pair_exps,
    DefaultValuedParameter<"int64_t", "0">:$row_rounded,
    DefaultValuedParameter<"int64_t", "0">:$least_rows,
    DefaultValuedParameter<"int64_t", "0">:$below_rows);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def RT_DispatchOp : RT_Op<"dispatch",
    [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Runs a kernel over work items and waits for all of them";
  let description = [{
    - (C1) `kernel` is an `rt.kernel` whose argument types are those of
      `arguments`: a kernel and a layout that do not match do not compile.
    - (C2) `result_buffers` has pairs, each of the number of an argument that
      is a `memref<?xN x f32>`, no two alike, and of columns, 1 to N.

    `work`, if it is there, says what profiles and reports should count, and
    `result_buffers` which arguments hold the results of its deepseek op when
    the dispatch is done, and how many of their columns.
  }];
  let arguments = (ins RT_StepType:$step, FlatSymbolRefAttr:$kernel,
                       Index:$items, Variadic<AnyType>:$arguments,
                       OptionalAttr<RT_WorkAttr>:$work,
                       OptionalAttr<DenseI64ArrayAttr>:$result_buffers);
  let assemblyFormat = [{
    $kernel `items` $items `of` $step `(` $arguments `)` attr-dict `:`
    type($arguments)
  }];
  let builders = [OpBuilder<(ins "::mlir::Value":$step,
      "::mlir::FlatSymbolRefAttr":$kernel, "::mlir::Value":$items,
      "::mlir::ValueRange":$arguments), [{
    build($_builder, $_state, step, kernel, items, arguments,
          /*work=*/nullptr, /*result_buffers=*/nullptr);
  }]>];
  let hasVerifier = 1;
}

def RT_CountOp : RT_Op<"count", [MemoryEffects<[MemRead]>]> {
  let summary = "A number that a kernel has written, for the host";
  let description = [{
    The first number of `buffer`, when all dispatches before it are done: how
    many rows there are of what depends on the numbers themselves. Kernels that
    run elsewhere have the processor wait.
    - (C1) `buffer` has room for a number.
  }];
  let arguments = (ins MemRefRankOf<[I32], [1]>:$buffer);
  let results = (outs Index:$result);
  let assemblyFormat = "$buffer attr-dict `:` type($buffer)";
  let hasVerifier = 1;
}

def RT_ProbeOp : RT_Op<"probe"> {
  let summary = "Shows rows of a buffer to who gathers statistics";
  let description = [{
    Calls `hadal_rt_probe` of `hadal_rt/probe.h` with the rows, when all
    dispatches before it are done.
    - (C1) `top_k` and `expert_count` are positive with `experts`, else 0.
  }];
  let arguments = (ins RT_StepType:$step, I64Attr:$kind, I64Attr:$id,
                       Index:$layer, Index:$rows, I64Attr:$columns,
                       MemRefRankOf<[F32], [2]>:$input,
                       Optional<MemRefRankOf<[I32], [2]>>:$experts,
                       I64Attr:$top_k, I64Attr:$expert_count);
  let assemblyFormat = [{
    $id `kind` $kind `of` $step `layer` $layer `rows` $rows `columns` $columns
    `(` $input `)` (`experts` $experts^ `:` type($experts))? `top_k` $top_k `of`
    $expert_count attr-dict `:` type($input)
  }];
  let hasVerifier = 1;
}

#endif // HADAL_RT_OPS
