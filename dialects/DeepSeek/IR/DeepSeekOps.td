// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operations of the deepseek dialect.

#ifndef HADAL_DEEPSEEK_OPS
#define HADAL_DEEPSEEK_OPS

include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "dialects/DeepSeek/IR/DeepSeekTypes.td"

class DeepSeek_Op<string opMnemonic, list<Trait> traits = []>
    : Op<DeepSeek_Dialect, opMnemonic, traits>;

/// [tokens, n] in f32.
def Activations : 2DTensorOf<[F32]>;
/// [tokens] in i32.
def PerToken : 1DTensorOf<[I32]>;
/// Integers of a matrix, of as many bits as are stored.
def CodeElement : AnyTypeOf<[I8, I<3>, I<4>, I<5>, I<6>, UI<2>, UI<4>, UI<5>]>;
/// What matrices of heads may be stored in.
def HeadElement : AnyTypeOf<[F32, F16, BF16, CodeElement]>;
/// What matrices of a model may be stored in.
def MatrixElement : AnyTypeOf<[F32, F16, BF16, F8E4M3FN, CodeElement]>;
/// The same, and what else a checkpoint has: scales, and tables of integers.
def WeightElement : AnyTypeOf<[MatrixElement, F8E8M0FNU, I32, I64]>;
/// Scales and offsets of groups of integers; i8 has two levels, see
/// `deepseek.linear`.
def GroupScaleElement : AnyTypeOf<[F32, F16, BF16, I8]>;
def WeightTensor : RankedTensorOf<[WeightElement]>;
def WeightMatrix : 2DTensorOf<[MatrixElement]>;
def WeightVector : 1DTensorOf<[F32, F16, BF16]>;
def ScaleTensor : RankedTensorOf<[F32, F16, BF16]>;
/// Zero points, which are integers.
def ZeroTensor : RankedTensorOf<[I8]>;
def QuantizableTensor : RankedTensorOf<[F32, F16, BF16]>;

//===----------------------------------------------------------------------===//
// The model and its weights
//===----------------------------------------------------------------------===//

def DeepSeek_ModelOp : DeepSeek_Op<"model",
    [Symbol, HasParent<"::mlir::ModuleOp">,
     DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Names a model, its sizes and its entry point";
  let description = [{
    One per module. `entry` is a `func.func` that takes token ids, positions
    and sequences (each `[tokens]`), the rows that need logits (`[outputs]`)
    and the cache, and returns logits `[outputs, vocab]`. `info` carries what
    the compiler reports but does not interpret (`model_type`, token ids,
    source files).
    - (C1) `vocab`, `hidden`, `layers` and `context_length` are positive.
    - (C2) `entry` is a function of that signature.
    - (C3) the module has no constant of more than 65536 elements: weights
      never live in the IR.

    ```mlir
    deepseek.model @tiny vocab 320 hidden 64 layers 4 context 4096
        entry @forward {model_type = "llama"}
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$vocab,
                       I64Attr:$hidden, I64Attr:$layers, I64Attr:$context_length,
                       FlatSymbolRefAttr:$entry, DictionaryAttr:$info);
  let assemblyFormat = [{
    $sym_name `vocab` $vocab `hidden` $hidden `layers` $layers `context`
    $context_length `entry` $entry $info attr-dict
  }];
  let hasVerifier = 1;
}

def DeepSeek_WeightOp : DeepSeek_Op<"weight",
    [Symbol, HasParent<"::mlir::ModuleOp">, IsolatedFromAbove,
     SingleBlock, NoTerminator,
     DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Declares a weight and the recipe that makes its stored form";
  let description = [{
    The region computes the weight from the checkpoint's tensors; only the
    packer runs it. Passes rewrite it.
    - (C1) the region ends in `deepseek.yield` of a value of the weight's type.
    - (C2) the weight has static shape.
    - (C3) `beside`, whose records it shares from byte `at` of the first on, has
      records of as many bytes, as many in a tile and as many tiles, from byte 0
      on.

    ```mlir
    deepseek.weight @norm : tensor<64xf32> {
      %0 = deepseek.source "model.norm.weight" in ["model.safetensors"]
          at [128] : tensor<64xbf16>
      %1 = deepseek.convert %0 : tensor<64xbf16> to tensor<64xf32>
      deepseek.yield %1 : tensor<64xf32>
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name,
                       TypeAttrOf<WeightTensor>:$type,
                       OptionalAttr<FlatSymbolRefAttr>:$beside,
                       OptionalAttr<I64Attr>:$at);
  let regions = (region SizedRegion<1>:$recipe);
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name,
                                 "::mlir::Type":$type), [{
    build($_builder, $_state, ::mlir::TypeRange(), $_builder.getStringAttr(name),
          ::mlir::TypeAttr::get(type), ::mlir::FlatSymbolRefAttr(),
          ::mlir::IntegerAttr());
  }]>];
  let assemblyFormat = [{
    $sym_name `:` $type (`beside` $beside^ `at` $at)? attr-dict-with-keyword
    $recipe
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The value that the recipe yields.
    ::mlir::Value getResult();
    ::mlir::RankedTensorType getWeightType() {
      return ::llvm::cast<::mlir::RankedTensorType>(getType());
    }
    /// How it is stored with others; null if it is on its own.
    RecordAttr getRecord();
    /// Records of one of its tiles; it has some.
    int64_t getTileRecords();
    /// Its tiles, of all matrices; it is tiled.
    int64_t getTileCount();
    /// Erases what the recipe computes and does not yield.
    void eraseUnusedSteps();
  }];
}

def DeepSeek_YieldOp : DeepSeek_Op<"yield",
    [Pure, Terminator, HasParent<"WeightOp">]> {
  let summary = "Ends a recipe with the weight's value";
  let arguments = (ins WeightTensor:$value);
  let assemblyFormat = "$value attr-dict `:` type($value)";
}

def DeepSeek_UseWeightOp : DeepSeek_Op<"use_weight",
    [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Reads a weight";
  let description = [{
    - (C1) `name` is a `deepseek.weight` of the result's type.
  }];
  let arguments = (ins FlatSymbolRefAttr:$name);
  let results = (outs WeightTensor:$result);
  let assemblyFormat = "$name attr-dict `:` type($result)";
}

def DeepSeek_LoRAOp : DeepSeek_Op<"lora", [
    HasParent<"::mlir::ModuleOp">,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Declares what an adapter adds to a weight";
  let description = [{
    Wherever `weight` is read, it is weight + scale * up * down (Hu et al. 2021,
    arXiv:2106.09685, section 4.1, where `down` is A and `up` is B), matrix by
    matrix of a stack of experts. `-deepseek-merge-lora` makes that its recipe;
    the lowering takes no module in which this has not been done.
    - (C1) `weight` is `[.., n, k]` in f32, f16 or bf16, `down` `[.., r, k]` and
      `up` `[.., n, r]`.
    - (C2) `scale` is finite.

    ```mlir
    deepseek.lora @layers.0.self_attn.q_proj
        down @layers.0.self_attn.q_proj.lora_a
        up @layers.0.self_attn.q_proj.lora_b scale 1.500000e+00
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$weight, FlatSymbolRefAttr:$down,
                       FlatSymbolRefAttr:$up, F64Attr:$scale);
  let assemblyFormat =
      "$weight `down` $down `up` $up `scale` $scale attr-dict";
  let hasVerifier = 1;
}

def DeepSeek_AdaptersOp : DeepSeek_Op<"adapters", [
    HasParent<"::mlir::ModuleOp">,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Declares what adapters that a sequence may choose add to a weight";
  let description = [{
    Of a sequence that has chosen adapter a, wherever the product of an x with
    `weight` is computed, it is that and `down[a] x` times `up[a]`, transposed:
    what `deepseek.adapt` adds, which `-deepseek-attach-adapters` puts behind
    the product; the lowering takes no module in which this has not been done.
    The attribute `deepseek.adapters` of the model has the names of all
    adapters. One that does not change the weight has zeros.
    - (C1) `weight` is `[n, k]`, `down` f32 `[adapters, r, k]` and `up` f32
      `[adapters, r, n]`.

    ```mlir
    deepseek.adapters @layers.0.self_attn.q_proj
        down @layers.0.self_attn.q_proj.adapters_a
        up @layers.0.self_attn.q_proj.adapters_b
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$weight, FlatSymbolRefAttr:$down,
                       FlatSymbolRefAttr:$up);
  let assemblyFormat = "$weight `down` $down `up` $up attr-dict";
}

//===----------------------------------------------------------------------===//
// Recipes
//===----------------------------------------------------------------------===//

class DeepSeek_RecipeOp<string opMnemonic, list<Trait> traits = []>
    : DeepSeek_Op<opMnemonic, !listconcat([Pure], traits)>;

def DeepSeek_SourceOp : DeepSeek_RecipeOp<"source"> {
  let summary = "A tensor, or a stack of tensors, of the checkpoint";
  let description = [{
    Bytes of `name` in row-major order. A name with `{}` stands for a stack:
    `{}` is 0, 1, .. up to the leading dimension. `files` and `offsets` say
    where each tensor is: one file or one per tensor, one byte offset per
    tensor. Both are empty when the compiler runs without weights. Files are
    those of the model's folder; `lora/NAME` is NAME of that of an adapter.
    - (C1) `offsets` is empty, or has one entry per tensor, none negative.
    - (C2) `files` is empty iff `offsets` is, or has one entry or one per
      tensor.
  }];
  let arguments = (ins StrAttr:$name, StrArrayAttr:$files,
                       DenseI64ArrayAttr:$offsets);
  let results = (outs WeightTensor:$result);
  let assemblyFormat =
      "$name `in` $files `at` $offsets attr-dict `:` type($result)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// True if the name stands for one tensor per index of dimension 0.
    bool isStack() { return getName().contains("{}"); }
    /// Tensors that the op reads: 1, or dimension 0 of a stack.
    int64_t getTensorCount() {
      return isStack() ? getType().getDimSize(0) : 1;
    }
    ::mlir::RankedTensorType getType() {
      return ::llvm::cast<::mlir::RankedTensorType>(getResult().getType());
    }
  }];
}

def DeepSeek_ConcatOp : DeepSeek_RecipeOp<"concat"> {
  let summary = "Joins tensors along one dimension";
  let description = [{
    - (C1) `axis` is a dimension; the others agree; sizes along it add up.
  }];
  let arguments = (ins Variadic<WeightTensor>:$inputs, I64Attr:$axis);
  let results = (outs WeightTensor:$result);
  let assemblyFormat = [{
    $inputs `axis` $axis attr-dict `:` functional-type($inputs, $result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_SliceOp : DeepSeek_RecipeOp<"slice"> {
  let summary = "Takes indices [begin, end) of one dimension";
  let description = [{
    - (C1) `axis` is a dimension and 0 <= begin < end <= its size; the result
      has `end - begin` there, and the encoding of the input.
  }];
  let arguments = (ins WeightTensor:$input, I64Attr:$axis, I64Attr:$begin,
                       I64Attr:$end);
  let results = (outs WeightTensor:$result);
  let assemblyFormat = [{
    $input `axis` $axis `from` $begin `to` $end attr-dict
    `:` type($input) `->` type($result)
  }];
  let hasVerifier = 1;
  let hasFolder = 1;
}

def DeepSeek_ReshapeOp : DeepSeek_RecipeOp<"reshape"> {
  let summary = "Gives the same elements, in the same order, another shape";
  let description = [{
    - (C1) both shapes have the same number of elements, of one type and with
      one encoding.
  }];
  let arguments = (ins WeightTensor:$input);
  let results = (outs WeightTensor:$result);
  let assemblyFormat =
      "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def DeepSeek_TransposeOp : DeepSeek_RecipeOp<"transpose"> {
  let summary = "Permutes dimensions";
  let description = [{
    Dimension i of the result is dimension `permutation[i]` of the input.
    - (C1) `permutation` is one, and the shapes follow it; the encoding is that
      of the input.
  }];
  let arguments = (ins WeightTensor:$input, DenseI64ArrayAttr:$permutation);
  let results = (outs WeightTensor:$result);
  let assemblyFormat = [{
    $input $permutation attr-dict `:` type($input) `->` type($result)
  }];
  let hasVerifier = 1;
  let hasFolder = 1;
}

def DeepSeek_ConvertOp : DeepSeek_RecipeOp<"convert"> {
  let summary = "Changes the element type, rounding to nearest even";
  let description = [{
    - (C1) shapes are equal.
  }];
  let arguments = (ins WeightTensor:$input);
  let results = (outs WeightTensor:$result);
  let assemblyFormat =
      "$input attr-dict `:` type($input) `to` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def DeepSeek_DequantizeOp : DeepSeek_RecipeOp<"dequantize"> {
  let summary = "Multiplies blocks of an FP8 or integer matrix by their scales";
  let description = [{
    result[.., i, j] = (input[.., i, j] - zeros[.., i / rows, j / columns])
                       * scales[.., i / rows, j / columns],
    computed in f32; without `zeros` nothing is subtracted. Source: DeepSeek-V3
    `inference/kernel.py`, `weight_dequant_kernel`; despite its name
    `weight_scale_inv` multiplies.
    - (C1) `rows` and `columns` are positive.
    - (C2) `scales` is `[.., ceil(n / rows), ceil(k / columns)]` for an input
      `[.., n, k]`, and the result has the input's shape.
    - (C3) the blocks of an FP8 input are 128 x 128, as in DeepSeek-V3, unless
      `unchecked`.
    - (C4) `zeros` have the shape of `scales`, and the input is integer then.
  }];
  let arguments = (ins RankedTensorOf<[F8E4M3FN, I8, I<4>]>:$input,
                       ScaleTensor:$scales, Optional<ZeroTensor>:$zeros,
                       I64Attr:$rows, I64Attr:$columns, UnitAttr:$unchecked);
  let results = (outs RankedTensorOf<[F32, F16, BF16]>:$result);
  let builders = [
    // Without zero points.
    OpBuilder<(ins "::mlir::Type":$result, "::mlir::Value":$input,
                   "::mlir::Value":$scales, "int64_t":$rows,
                   "int64_t":$columns, "bool":$unchecked), [{
      build($_builder, $_state, result, input, scales, ::mlir::Value(), rows,
            columns, unchecked);
    }]>];
  let assemblyFormat = [{
    $input `,` $scales (`zeros` $zeros^ `:` type($zeros))? `block` $rows `x`
    $columns (`unchecked` $unchecked^)? attr-dict `:` type($input) `,`
    type($scales) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_AddProductOp : DeepSeek_RecipeOp<"add_product", [
    AllTypesMatch<["input", "result"]>]> {
  let summary = "Adds a scaled product of two thin matrices";
  let description = [{
    result = input + scale * left * right, matrix by matrix of a stack; the
    product and the sum are computed in f32, in the order of r, and rounded
    once.
    - (C1) `left` is `[.., n, r]` and `right` `[.., r, k]` for an input
      `[.., n, k]`.
    - (C2) `scale` is finite.
  }];
  let arguments = (ins QuantizableTensor:$input, QuantizableTensor:$left,
                       QuantizableTensor:$right, F64Attr:$scale);
  let results = (outs QuantizableTensor:$result);
  let assemblyFormat = [{
    $input `,` $left `,` $right `scale` $scale attr-dict `:` type($input) `,`
    type($left) `,` type($right)
  }];
  let hasVerifier = 1;
}

def DeepSeek_StackRowsOp : DeepSeek_RecipeOp<"stack_rows"> {
  let summary = "A stack of matrices of different heights, each times a number";
  let description = [{
    Input i, times scales[i], is the first rows of matrix indices[i]; all else
    is zero. Multiplied in f32.
    - (C1) inputs are `[r, k]` with r of at most R for a result `[n, R, k]`.
    - (C2) `indices` and `scales` have one entry for each input; indices ascend
      in `[0, n)`, scales are finite.

    ```mlir
    %2 = deepseek.stack_rows (%0, %1) at [0, 2] times [1.0, 5.000000e-01]
        : (tensor<4x64xf32>, tensor<8x64xbf16>) -> tensor<3x8x64xf32>
    ```
  }];
  let arguments = (ins Variadic<2DTensorOf<[F32, F16, BF16]>>:$inputs,
                       DenseI64ArrayAttr:$indices, DenseF64ArrayAttr:$scales);
  let results = (outs 3DTensorOf<[F32]>:$result);
  let assemblyFormat = [{
    `(` $inputs `)` `at` $indices `times` $scales attr-dict `:`
    functional-type($inputs, $result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_UnpackOp : DeepSeek_RecipeOp<"unpack"> {
  let summary = "Integers of a few bits, from the bytes that hold them";
  let description = [{
    A row of bytes is a row of bits, the lowest of a byte first. Every `bits` of
    them are an unsigned integer u, which becomes

        (u + plus) mod 2^bits - 2^(bits - 1)

    so that codes of which half stand for negative numbers become those. Both
    the codes of a weight and its zero points are read so, and their difference
    does not depend on what is subtracted here. `plus` is 1 for the zero points
    of a GPTQ checkpoint whose `checkpoint_format` is `gptq`: it stores one
    less (AutoGPTQ, `qlinear_cuda.py`). It is 2^(bits - 1) for integers that
    have a sign already, in two's complement: they stay what they are.
    - (C1) `bits` is 2, 3, 4 or 8, and `plus` 0, 1 or 2^(bits - 1).
    - (C2) rows of the result have as many bits as those of `input`; the other
      dimensions are equal.
    - (C3) the result is i8, or i4 if `bits` is at most 4.

    ```mlir
    %0 = deepseek.source "w.qzeros" in ["model.safetensors"] at [64]
        : tensor<2x16xi8>
    %1 = deepseek.unpack %0 bits 4 plus 1 : tensor<2x16xi8> -> tensor<2x32xi8>
    ```
  }];
  let arguments = (ins RankedTensorOf<[I8]>:$input, I64Attr:$bits,
                       I64Attr:$plus);
  let results = (outs RankedTensorOf<[I8, I<4>]>:$result);
  let assemblyFormat = [{
    $input `bits` $bits `plus` $plus attr-dict `:` type($input) `->`
    type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_GatherOp : DeepSeek_RecipeOp<"gather"> {
  let summary = "Takes elements of each row by a list of indices";
  let description = [{
    result[.., j] = input[.., i(j)] where the bytes `indices[j, :]` are i(j), a
    32-bit integer, lowest byte first. The scales of a matrix whose columns are
    in groups without an order are gathered to one for each column.
    - (C1) `indices` is `[columns, 4]`, and the result has `columns` columns
      and else the shape of `input`.
    - (C2) each index is that of a column of `input`: the packer checks it.
  }];
  let arguments = (ins WeightTensor:$input, 2DTensorOf<[I8]>:$indices);
  let results = (outs WeightTensor:$result);
  let assemblyFormat = [{
    $input `,` $indices attr-dict `:` type($input) `,` type($indices) `->`
    type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_ImportanceOp : DeepSeek_RecipeOp<"importance"> {
  let summary = "How much each input channel of a weight adds to the output";
  let description = [{
    Sums, over the rows i of a matrix and the channels c of group j, what the
    channel adds to the square of the output when channels do not cancel:

        result[.., j] = sum_i sum_(c in j) weight[.., i, c]^2 * moment[.., c]

    with `moment[c]` the mean square of the channel over a calibration text.
    Where all of a row of `moment` is zero, or there is none, it counts as ones:
    an expert that no token chose is judged by its weights alone. Computed in
    f64, rounded once. Sun et al. 2023, arXiv:2306.11695, eq. 1, squared, and
    summed over a channel.
    - (C1) `moment` is `[k]` or, for a weight `[e, n, k]`, `[e, k]`.
    - (C2) `group` is positive and divides k; the result is `[.., k / group]`
      with the dimensions that the weight has before its rows.
  }];
  let arguments = (ins QuantizableTensor:$weight,
                       Optional<RankedTensorOf<[F32]>>:$moment, I64Attr:$group);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = [{
    $weight (`moment` $moment^ `:` type($moment))? `group` $group attr-dict
    `:` type($weight) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_SelectOp : DeepSeek_RecipeOp<"select"> {
  let summary = "Keeps the indices of one dimension that matter most";
  let description = [{
    Cuts the indices of `axis` into `groups` equal ranges, and keeps of each
    the `keep / groups` that have the largest `importance`, of equal ones the
    first. They stay in their order, or, with `sorted`, have that of falling
    importance.
    - (C1) `axis` is a dimension, of n indices; `importance` is `[n]` or, for
      an axis behind dimension 0, `[b, n]` with one row for each of its b
      indices.
    - (C2) `groups` is positive and divides n and `keep`, and
      0 < keep <= n; the result has `keep` there.
  }];
  let arguments = (ins WeightTensor:$input, RankedTensorOf<[F32]>:$importance,
                       I64Attr:$axis, I64Attr:$keep, I64Attr:$groups,
                       UnitAttr:$sorted);
  let results = (outs WeightTensor:$result);
  let assemblyFormat = [{
    $input `by` $importance `axis` $axis `keep` $keep `groups` $groups
    (`sorted` $sorted^)? attr-dict `:` type($input) `,` type($importance) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_RankOp : DeepSeek_RecipeOp<"rank"> {
  let summary = "Where `deepseek.select` with `sorted` puts each index";
  let description = [{
    result[i] is the place of i by falling `importance`, of equal ones the first.
    - (C1) `importance` and the result are `[n]`.
  }];
  let arguments = (ins 1DTensorOf<[F32]>:$importance);
  let results = (outs 1DTensorOf<[I32]>:$result);
  let assemblyFormat =
      "$importance attr-dict `:` type($importance) `->` type($result)";
  let hasVerifier = 1;
}

def DeepSeek_MergedPart : DeepSeek_Enum<"MergedPart",
    "What merging the experts of a layer makes", [
  I32EnumAttrCase<"Map", 0, "map">,
  I32EnumAttrCase<"Gate", 1, "gate">,
  I32EnumAttrCase<"Up", 2, "up">,
  I32EnumAttrCase<"Down", 3, "down">,
  I32EnumAttrCase<"Outer", 4, "outer">,
  I32EnumAttrCase<"Inner", 5, "inner">]>;

def DeepSeek_MergeExpertsOp : DeepSeek_RecipeOp<"merge_experts", [
    AttrSizedOperandSegments]> {
  let summary = "Makes one expert of several that do much the same";
  let description = [{
    Experts that make nearly the same of the same rows are joined, the nearest
    two first, until `keep` are left: hierarchical clustering by the outputs,
    with average linkage and the Euclidean distance (HC-SMoE, Chen et al. 2024,
    arXiv:2410.08589, section 3.2). The rows are 64 made-up ones whose channels
    have the mean squares `moment`, averaged over the experts, so that it takes
    no text to run experts on.

    A merged expert is the mean of its members, weighted by `mass`: how much
    each was chosen. Channels between gate, up and down have no order; before,
    those of a member are matched with those of the one with the most mass, so
    that the sum of products of gate, up and down is largest (M-SMoE, Li et al.
    2023, arXiv:2310.01334, section 3.1), estimated by the same rows. Where the
    mass of all members is zero, or there is none, they count alike.

    `map` is the number of the merged expert for each expert; merged ones are in
    the order of their first members. Distances and matches in f64, sums
    rounded once.

    What a text says of the experts is merged alike: `outer` is `statistic`, mean
    squares or mean products, of what gate and up read, and `inner` that of what
    down reads, whose channels are matched. It is the mean over the members,
    weighted by `count`, on how many rows each is; zeros where that is none.
    - (C1) `gate` and `up` are `[e, i, d]`, `down` is `[e, d, i]`, all of one
      element type.
    - (C2) `mass` is `[e]` and `moment` `[e, d]`.
    - (C4) `statistic` and `count` are given iff the part is `outer` or `inner`:
      `[e, k]` or `[e, k, k]`, k being d or i, and `[e]`; the result has `keep`
      in place of e.
    - (C3) 0 < `keep` <= e; `map` is i32 `[e]`, `gate` and `up` are
      `[keep, i, d]` and `down` is `[keep, d, i]`, of the weights' type.

    ```mlir
    %m = deepseek.merge_experts map of %gate, %up, %down keep 8
        : tensor<16x64x256xbf16>, tensor<16x64x256xbf16>, tensor<16x256x64xbf16>
        -> tensor<16xi32>
    ```
  }];
  let arguments = (ins
      EnumAttr<DeepSeek_Dialect, DeepSeek_MergedPart, "merged_part">:$part,
      QuantizableTensor:$gate, QuantizableTensor:$up, QuantizableTensor:$down,
      Optional<1DTensorOf<[F32]>>:$mass, Optional<2DTensorOf<[F32]>>:$moment,
      Optional<RankedTensorOf<[F32]>>:$statistic,
      Optional<1DTensorOf<[F32]>>:$count, I64Attr:$keep);
  let results = (outs RankedTensorOf<[F32, F16, BF16, I32]>:$result);
  let assemblyFormat = [{
    $part `of` $gate `,` $up `,` $down (`mass` $mass^ `:` type($mass))?
    (`moment` $moment^ `:` type($moment))?
    (`statistic` $statistic^ `:` type($statistic))?
    (`count` $count^ `:` type($count))? `keep` $keep attr-dict `:`
    type($gate) `,` type($up) `,` type($down) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_ChannelScalesOp : DeepSeek_RecipeOp<"channel_scales"> {
  let summary = "By what the channels that weights read are best scaled";
  let description = [{
    A product stays what it is if a channel of its input is divided by a number
    and what reads it is multiplied by that. Rounding does not. The numbers are
    powers of two, by which scaling is exact, around the middle of them all.

    With `bits`, `statistic` is the mean square m_j of each channel, and the
    number for it m_j^(a / 2), for the a of 0, 0.05, .., 0.95 for which the sum
    over the rows w of `weights` of m_j (w_j - q_j / s_j)^2 is smallest, q being
    w_j s_j rounded to integers of `bits` with one scale for each `group` (AWQ,
    Lin et al. 2023, arXiv:2306.00978, eq. 4 and 5; with channels that do not go
    together). Of a weight of more than 1024 rows, as many evenly spaced ones
    decide.

    With `strength`, `statistic` is the largest magnitude x_j of each channel,
    and the number x_j^strength / w_j^(1 - strength), where w_j is the largest
    magnitude of these rows (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438,
    eq. 4). A channel that is always zero keeps its scale.
    - (C1) `weights` are `[.., k]` and `statistic` and the result `[k]`, or
      `[e, n, k]` and `[e, k]`, where each of e matrices has its own.
    - (C2) either `bits`, 4, 5, 6 or 8, and a positive `group` are given, or
      `strength`, from 0 to 1.

    ```mlir
    %s = deepseek.channel_scales of %w by %m bits 4 group 32
        : (tensor<256xf32>, tensor<64x256xbf16>) -> tensor<256xf32>
    ```
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$statistic,
                       Variadic<QuantizableTensor>:$weights,
                       OptionalAttr<I64Attr>:$bits,
                       OptionalAttr<I64Attr>:$group,
                       OptionalAttr<F64Attr>:$strength);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = [{
    `of` $weights `by` $statistic (`bits` $bits^)? (`group` $group^)?
    (`strength` $strength^)? attr-dict `:` functional-type(operands, $result)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ChannelScaling getScaling();
  }];
}

def DeepSeek_ScaleChannelsOp : DeepSeek_RecipeOp<"scale_channels"> {
  let summary = "Multiplies the channels of a weight by powers of numbers";
  let description = [{
    Index j of `axis` is multiplied by s_j to the power of `power`, rounded
    once.
    - (C1) `axis` is a dimension, of n indices; `scales` are `[n]` or, for an
      axis behind dimension 0, `[b, n]` with one row for each of its b indices.
    - (C2) `power` is 1, -1 or -2.
    - (C3) the result has the shape of `input`.

    ```mlir
    %1 = deepseek.scale_channels %0 by %s axis 1 power 1
        : tensor<64x256xbf16>, tensor<256xf32> -> tensor<64x256xbf16>
    ```
  }];
  let arguments = (ins QuantizableTensor:$input,
                       RankedTensorOf<[F32]>:$scales, I64Attr:$axis,
                       I64Attr:$power);
  let results = (outs QuantizableTensor:$result);
  let assemblyFormat = [{
    $input `by` $scales `axis` $axis `power` $power attr-dict `:` type($input)
    `,` type($scales) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_QuantizeOp : DeepSeek_RecipeOp<"quantize", [
    AttrSizedOperandSegments]> {
  let summary = "Rounds each group of a row to integers of one scale";
  let description = [{
    Groups are `group` consecutive elements of the last dimension. With s the
    group's scale (see `deepseek.quantize_scales`, of the same `moment`),
    element w becomes round-to-nearest-even(w / s), clamped to [-127, 127] for
    i8, [-8, 7] for i4, [-16, 15] for i5 and [-32, 31] for i6; all of a group
    whose scale is 0 become 0.

    With `gram`, the mean of x^T x over the rows x that the weight is multiplied
    with, errors of a row make up for one another: columns are rounded one
    after the other, and what is rounded is not w_j but w_j + a_j, where a_j
    makes the mean square error of the product smallest, given the errors e_i =
    w_i - s q_i of the columns before it. With H = R R^T, R triangular in that
    order, a_j = sum_i e_i R_ij / R_jj. H is the gram with `damping` times the
    mean of its diagonal added to that, or the unit matrix where the diagonal is
    zero: an expert that no token chose. The column of the largest diagonal
    element is the first. In f64. Frantar et al. 2023, arXiv:2210.17323,
    algorithm 1, in the form of Chee et al. 2023, arXiv:2307.13304, eq. 2, with
    the order of columns and scales of their groups fixed before.
    - (C1) the result has the input's shape, in i8, i6, i5 or i4.
    - (C2) the last dimension is a multiple of `group`, and `group` of 32.
    - (C3) `moment` is `[k]` or, for an input `[e, n, k]`, `[e, k]`; `group` is
      at most 32768 then.
    - (C4) `gram` is `[k, k]` or, for an input `[e, n, k]`, `[e, k, k]`, and
      given iff `damping` is, which is positive and finite.
  }];
  let arguments = (ins QuantizableTensor:$input,
                       Optional<RankedTensorOf<[F32]>>:$moment,
                       Optional<RankedTensorOf<[F32]>>:$gram, I64Attr:$group,
                       OptionalAttr<F64Attr>:$damping);
  let results = (outs RankedTensorOf<[I8, I<6>, I<5>, I<4>]>:$result);
  let assemblyFormat = [{
    $input (`moment` $moment^ `:` type($moment))?
    (`gram` $gram^ `:` type($gram))? `group` $group (`damping` $damping^)?
    attr-dict `:` type($input) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_QuantizeScalesOp : DeepSeek_RecipeOp<"quantize_scales"> {
  let summary = "The scales by which a weight is rounded to integers";
  let description = [{
    For 8 bits a group's scale is max |w| / 127; for b = 4, 5 and 6 bits it is
    w / -2^(b-1) for the w of largest magnitude (the first of equal ones), so
    that it becomes the one integer that has no opposite. Rounded to f16, to
    nearest even.

    With `moment`, the mean square of each input channel over a text, it is the
    one of several s for which the error sum_j moment_j (w_j - s q_j)^2 is
    smallest, q_j being w_j / s rounded and clamped: the above, and, from each
    of some fixed scales around it, of both signs unless there are 8 bits, the s
    that is best for its q. Where all moments of a group are zero, they count as ones.
    - (C1) `bits` is 4, 5, 6 or 8.
    - (C2) the result is `[.., n, k / group]` for an input `[.., n, k]`, and the
      group that follows is a multiple of 32.
    - (C3) `moment` as for `deepseek.quantize`.
  }];
  let arguments = (ins QuantizableTensor:$input,
                       Optional<RankedTensorOf<[F32]>>:$moment, I64Attr:$bits);
  let results = (outs RankedTensorOf<[F16]>:$result);
  let assemblyFormat = [{
    $input (`moment` $moment^ `:` type($moment))? `bits` $bits attr-dict `:`
    type($input) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_RoundByOp : DeepSeek_RecipeOp<"round_by"> {
  let summary = "The integers that a weight was trained to be";
  let description = [{
    In training for rounded weights the loss is that of s * clamp(round(w / s)),
    and a checkpoint has w and s. Element w of the result is w / s, computed in
    f32, rounded to nearest even and clamped to [-128, 127] for i8 and [-8, 7]
    for i4; 0 where s is 0 (Jacob et al. 2017, arXiv:1712.05877, section 3).
    - (C1) the result has the input's shape, in i8 or i4.
    - (C2) `scales` is `[.., a, b]` for an input `[.., n, k]`, where a divides n
      and b divides k: each is that of a block.

    ```mlir
    %q = deepseek.round_by %w scales %s
        : tensor<64x256xbf16>, tensor<64x8xf32> -> tensor<64x256xi4>
    ```
  }];
  let arguments = (ins QuantizableTensor:$input, QuantizableTensor:$scales);
  let results = (outs RankedTensorOf<[I8, I<4>]>:$result);
  let assemblyFormat = [{
    $input `scales` $scales attr-dict `:` type($input) `,` type($scales) `->`
    type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_GGUFFormat : DeepSeek_Enum<"GGUFFormat",
    "How a GGUF file stores blocks of numbers in few bits", [
  I32EnumAttrCase<"Q4_0", 0, "q4_0">, I32EnumAttrCase<"Q4_1", 1, "q4_1">,
  I32EnumAttrCase<"Q5_0", 2, "q5_0">, I32EnumAttrCase<"Q5_1", 3, "q5_1">,
  I32EnumAttrCase<"Q8_0", 4, "q8_0">, I32EnumAttrCase<"Q2_K", 5, "q2_k">,
  I32EnumAttrCase<"Q3_K", 6, "q3_k">, I32EnumAttrCase<"Q4_K", 7, "q4_k">,
  I32EnumAttrCase<"Q5_K", 8, "q5_k">, I32EnumAttrCase<"Q6_K", 9, "q6_k">,
  I32EnumAttrCase<"IQ4_NL", 10, "iq4_nl">,
  I32EnumAttrCase<"IQ4_XS", 11, "iq4_xs">,
  I32EnumAttrCase<"MXFP4", 12, "mxfp4">]>;

def DeepSeek_DequantizeGGUFOp : DeepSeek_RecipeOp<"dequantize_gguf"> {
  let summary = "Computes the numbers that the blocks of a GGUF file stand for";
  let description = [{
    The last dimension of `input` is a row of bytes as the file has them, block
    after block. The numbers are, bit for bit, those of `dequantize_row_*` in
    ggml (`src/ggml-quants.c`), which computes them in f32.
    - (C1) the last dimension of `input` is a multiple of the bytes of a block,
      and that of the result has as many times the numbers of a block.
    - (C2) the other dimensions are equal.

    ```mlir
    %0 = deepseek.source "blk.0.attn_q.weight" in ["model.gguf"] at [4096]
        : tensor<64x36xi8>
    %1 = deepseek.dequantize_gguf q4_0 %0 : tensor<64x36xi8> -> tensor<64x64xf32>
    ```
  }];
  let arguments = (ins
      EnumAttr<DeepSeek_Dialect, DeepSeek_GGUFFormat, "gguf_format">:$format,
      RankedTensorOf<[I8]>:$input);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat =
      "$format $input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def DeepSeek_GGUFPart : DeepSeek_Enum<"GGUFPart",
    "What blocks of a GGUF file are made of", [
  I32EnumAttrCase<"Codes", 0, "codes">,
  I32EnumAttrCase<"Scales", 1, "scales">,
  I32EnumAttrCase<"Offsets", 2, "offsets">]>;

def DeepSeek_GGUFPartOp : DeepSeek_RecipeOp<"gguf_part"> {
  let summary = "The integers, scales or offsets of the blocks of a GGUF file";
  let description = [{
    Every format is integers in groups of a row: number j is

        codes[j] * scales[j / group] - offsets[j / group]

    rounded to f32 once, which are the very numbers of
    `deepseek.dequantize_gguf`. Where a block has a scale of scales, scales and
    offsets are i8 of two levels, as in `deepseek.linear`; the products of
    both are exact in f32.

    | Formats | Group | Codes | Scales | Offsets |
    |---|---|---|---|---|
    | `q4_0` | 32 | i4 | f16 | |
    | `q4_1` | 32 | ui4 | f16 | f16 |
    | `q5_0` | 32 | i5 | f16 | |
    | `q5_1` | 32 | ui5 | f16 | f16 |
    | `q8_0` | 32 | i8 | f16 | |
    | `iq4_nl` | 32 | ui4 with a table | f16 | |
    | `q2_k` | 16 | ui2 | i8 | i8 |
    | `q3_k` | 16 | i3 | i8 | |
    | `q4_k` | 32 | ui4 | i8 | i8 |
    | `q5_k` | 32 | ui5 | i8 | i8 |
    | `q6_k` | 16 | i6 | i8 | |
    | `iq4_xs` | 32 | ui4 with a table | i8 | |
    | `mxfp4` | 32 | ui4 with a table | bf16 | |

    - (C1) the last dimension of `input` is a multiple of the bytes of a block;
      that of the result has what these blocks have of the part.
    - (C2) the other dimensions are equal.
    - (C3) the format has that part, and the result is of its type; codes with
      a table, `#deepseek.codebook`, stand for its numbers.

    ```mlir
    %0 = deepseek.source "blk.0.attn_q.weight" in ["model.gguf"] at [4096]
        : tensor<64x40xi8>
    %1 = deepseek.gguf_part codes of q4_1 %0
        : tensor<64x40xi8> -> tensor<64x64xui4>
    %2 = deepseek.gguf_part scales of q4_1 %0
        : tensor<64x40xi8> -> tensor<64x2xf16>
    ```
  }];
  let arguments = (ins
      EnumAttr<DeepSeek_Dialect, DeepSeek_GGUFPart, "gguf_part">:$part,
      EnumAttr<DeepSeek_Dialect, DeepSeek_GGUFFormat, "gguf_format">:$format,
      RankedTensorOf<[I8]>:$input);
  let results = (outs RankedTensorOf<[CodeElement, F16, BF16]>:$result);
  let assemblyFormat = [{
    $part `of` $format $input attr-dict `:` type($input) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_DequantizeMXFP4Op : DeepSeek_RecipeOp<"dequantize_mxfp4"> {
  let summary = "Multiplies groups of 32 FP4 numbers by their scales";
  let description = [{
    A byte has two E2M1 numbers, that of the even column in its low four bits:
    result[.., i, j] = e2m1(input[.., i, j / 2]) * scales[.., i, j / 32], which
    is exact in every type but f16. Sources: OCP Microscaling Formats 1.0,
    section 5.3.3; DeepSeek-V4 `inference/kernel.py`.
    - (C1) the result is `[.., n, k]`, k a multiple of 32, for an input
      `[.., n, k / 2]` and scales `[.., n, k / 32]`.

    ```mlir
    %w = deepseek.dequantize_mxfp4 %codes, %scales
        : tensor<6x32x32xi8>, tensor<6x32x2xf8E8M0FNU> -> tensor<6x32x64xbf16>
    ```
  }];
  let arguments = (ins RankedTensorOf<[I8]>:$input,
                       RankedTensorOf<[F8E8M0FNU]>:$scales);
  let results = (outs QuantizableTensor:$result);
  let assemblyFormat = [{
    $input `,` $scales attr-dict `:` type($input) `,` type($scales) `->`
    type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_ExpertIdsOp : DeepSeek_RecipeOp<"expert_ids"> {
  let summary = "Narrows a table of expert numbers, none out of range";
  let description = [{
    A number that is not in [0, experts) is an error of the packer: kernels use
    it as an index.
    - (C1) shapes are equal.
    - (C2) `experts > 0`.
  }];
  let arguments = (ins RankedTensorOf<[I32, I64]>:$input, I64Attr:$experts);
  let results = (outs RankedTensorOf<[I32]>:$result);
  let assemblyFormat = [{
    $input `of` $experts attr-dict `:` type($input) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_RotaryTableOp : DeepSeek_RecipeOp<"rotary_table"> {
  let summary = "Cosines and sines of a rotary embedding";
  let description = [{
    Row p is `[cos(p f_0), .., cos(p f_m), sin(p f_0), .., sin(p f_m)]` with
    m = dim / 2 - 1, each times the attention factor of the scaling; computed
    in f64, rounded once.
    - (C1) the result is `[positions, dim]`.
  }];
  let arguments = (ins DeepSeek_RotaryAttr:$rotary);
  let results = (outs 2DTensorOf<[F32]>:$result);
  let assemblyFormat = "$rotary attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def DeepSeek_NumbersOp : DeepSeek_RecipeOp<"numbers"> {
  let summary = "A few numbers that are in no file";
  let description = [{
    Of a format that has them in its graph, and not among its tensors.
    - (C1) the result is `[count]`, for as many as there are, at most 16.
  }];
  let arguments = (ins DenseF32ArrayAttr:$values);
  let results = (outs 1DTensorOf<[F32]>:$result);
  let assemblyFormat = "$values attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def DeepSeek_PackOp : DeepSeek_RecipeOp<"pack"> {
  let summary = "Stores a weight in the layout of its encoding";
  let description = [{
    - (C1) the result is the input's type with a `#deepseek.tiled` encoding,
      which has the table of the input if it has one.
  }];
  let arguments = (ins WeightTensor:$input);
  let results = (outs WeightTensor:$result);
  let assemblyFormat =
      "$input attr-dict `:` type($input) `to` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Statistics
//===----------------------------------------------------------------------===//

def DeepSeek_ProbeKind : DeepSeek_Enum<"ProbeKind",
    "What a probe shows of a value", [
  I32EnumAttrCase<"Moment", 0, "moment">,
  I32EnumAttrCase<"InnerMoment", 1, "inner_moment">,
  I32EnumAttrCase<"Mass", 2, "mass">,
  I32EnumAttrCase<"State", 3, "state">,
  I32EnumAttrCase<"Gram", 4, "gram">,
  I32EnumAttrCase<"InnerGram", 5, "inner_gram">]>;

def DeepSeek_ProbeOp : DeepSeek_Op<"probe"> {
  let summary = "Shows activations to who gathers statistics";
  let description = [{
    Computes nothing: a model with probes has the results of one without. A
    program that is compiled with them hands the rows to its host:
    - `moment`: the squares of each column are summed up, with `experts` for
      each expert that a row chooses.
    - `inner_moment`: the same of the channels inside the experts that made
      `input`, between gate and up and down.
    - `mass`: the weights, `input`, with which each expert is chosen.
    - `state`: what a layer reads, to compare it with what the next one does.
    - `gram`, `inner_gram`: as `moment` and `inner_moment`, but products of each
      two columns are summed up.

    - (C1) `experts`, `[tokens, top_k]`, is given with `inner_moment`,
      `inner_gram` and `mass`, not with `state`; `count`, the number of experts,
      is positive with it and 0 without. The `input` of `mass` is
      `[tokens, top_k]`.
    - (C2) the `input` of `inner_moment` and `inner_gram` is the result of
      `deepseek.experts`.
  }];
  let arguments = (ins
      EnumAttr<DeepSeek_Dialect, DeepSeek_ProbeKind, "probe_kind">:$kind,
      I64Attr:$id, Activations:$input, Optional<2DTensorOf<[I32]>>:$experts,
      I64Attr:$count, Index:$layer);
  let assemblyFormat = [{
    $kind $id `of` $input (`experts` $experts^ `:` type($experts))?
    `count` $count `layer` $layer attr-dict `:` type($input)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// The forward step
//===----------------------------------------------------------------------===//

def DeepSeek_EmbedOp : DeepSeek_Op<"embed", [Pure, AttrSizedOperandSegments]> {
  let summary = "Looks up a row of the embedding table for each token";
  let description = [{
    Rows of integers are multiplied by their scales, less their offsets.
    - (C1) `table` is `[vocab, hidden]`, the result `[tokens, hidden]`.
    - (C2) `scales` are given iff the table is integer, `offsets` may be then, as
      for `deepseek.linear`.
  }];
  let arguments = (ins PerToken:$tokens, WeightMatrix:$table,
                       Optional<2DTensorOf<[GroupScaleElement]>>:$scales,
                       Optional<2DTensorOf<[GroupScaleElement]>>:$offsets);
  let results = (outs Activations:$result);
  let builders = [
    // Of a table of numbers.
    OpBuilder<(ins "::mlir::Type":$result, "::mlir::Value":$tokens,
                   "::mlir::Value":$table), [{
      build($_builder, $_state, result, tokens, table, ::mlir::Value(),
            ::mlir::Value());
    }]>];
  let assemblyFormat = [{
    $tokens `,` $table (`scales` $scales^ `:` type($scales))?
    (`offsets` $offsets^ `:` type($offsets))? attr-dict `:` type($tokens) `,`
    type($table) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_RMSNormOp : DeepSeek_Op<"rms_norm", [
    Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "Scales each row of a tensor by its root mean square";
  let description = [{
    Normalizes `input` along its last dimension, then scales it by `weight`:

        result[t, j] = weight[j] * input[t, j]
                       / sqrt(mean_k(input[t, k]^2) + epsilon)

    - (C1) `input` is `[tokens, dim]` and `weight` is `[dim]`.
    - (C2) `epsilon > 0`.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4. The paper has no
    `epsilon`; it stands where DeepSeek-V3 `inference/model.py` has it.

    ```mlir
    %y = deepseek.rms_norm %x, %w epsilon 1.0e-6
        : tensor<?x7168xf32>, tensor<7168xf32>
    ```
  }];
  let arguments = (ins Activations:$input, WeightVector:$weight,
                       F32Attr:$epsilon);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $input `,` $weight `epsilon` $epsilon attr-dict `:` type($input) `,`
    type($weight)
  }];
  let hasVerifier = 1;
}

def DeepSeek_UnitNormOp : DeepSeek_Op<"unit_norm", [
    Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "Scales each head by its root mean square, without a weight";
  let description = [{
    `deepseek.rms_norm` of each of `heads` equal parts of a row, with a weight
    of ones. DeepSeek-V4 has it on queries.
    - (C1) the columns of `input` are a multiple of `heads`.
    - (C2) `epsilon > 0`.
  }];
  let arguments = (ins Activations:$input, I64Attr:$heads, F32Attr:$epsilon);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $input `heads` $heads `epsilon` $epsilon attr-dict `:` type($input)
  }];
  let hasVerifier = 1;
}

def DeepSeek_LayerNormOp : DeepSeek_Op<"layer_norm", [
    Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "Normalizes each row of a tensor by its mean and variance";
  let description = [{
        result[t, j] = weight[j] * (input[t, j] - mean_k(input[t, k]))
                       / sqrt(variance_k(input[t, k]) + epsilon) + bias[j]

    with the variance over all k, not all but one.
    - (C1) `input` is `[tokens, dim]`, `weight` and `bias` are `[dim]`.
    - (C2) `epsilon > 0`.

    Source: Ba et al. 2016, arXiv:1607.06450. In DeepSeek-V3.2 it normalizes
    the keys of the indexer.

    ```mlir
    %y = deepseek.layer_norm %x, %w, %b epsilon 1.0e-6
        : tensor<?x128xf32>, tensor<128xf32>, tensor<128xf32>
    ```
  }];
  let arguments = (ins Activations:$input, WeightVector:$weight,
                       WeightVector:$bias, F32Attr:$epsilon);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $input `,` $weight `,` $bias `epsilon` $epsilon attr-dict `:` type($input)
    `,` type($weight) `,` type($bias)
  }];
  let hasVerifier = 1;
}

def DeepSeek_RoundToGridOp : DeepSeek_Op<"round_to_grid", [
    Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "Rounds elements to a grid that the model was trained with";
  let description = [{
    `grid` holds a scale s and a zero point z, which is an integer:

        n = min(max(round(input[t, k] / s) + z, -128), 127) - z
        result[t, k] = n * s

    computed in f32, ties to even. It is what QuantizeLinear and
    DequantizeLinear do to 8 bits and back, and part of the model: unlike with
    `activation_group` of `deepseek.linear`, scales do not follow the numbers.
    A program multiplies the integers n where all that reads the result is a
    product with integers.
    - (C1) `grid` is `[2]`.

    Source: ONNX operators, QuantizeLinear-13, of int8; uint8 is the same with z
    less 128. Of quantization-aware training: Jacob et al. 2018,
    arXiv:1712.05877.

    ```mlir
    %y = deepseek.round_to_grid %x, %g : tensor<?x64xf32>, tensor<2xf32>
    ```
  }];
  let arguments = (ins Activations:$input, 1DTensorOf<[F32]>:$grid);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $input `,` $grid attr-dict `:` type($input) `,` type($grid)
  }];
  let hasVerifier = 1;
}

def DeepSeek_LinearOp : DeepSeek_Op<"linear", [Pure, AttrSizedOperandSegments]> {
  let summary = "Multiplies each row by a weight matrix";
  let description = [{
    result[t, n] = sum_k input[t, k] * W[n, k] + bias[n], where W is `weight`,
    times its scales, less its offsets, if they are given. A zero point z of a
    group with scale s is an offset of s * z.

    With `activation_group`, each group of that many elements of a row of
    `input` is first rounded to 8-bit integers of one scale, max |x| / 127: a
    lossy choice. For weights of at most 4 bits whose groups are those of the
    inputs and have at most 32 elements, the scale is the power of two at or
    above that. With `bf16_inputs`, elements of `input` are first rounded to
    bf16, to nearest, ties to even: lossy, too. Without either, inputs are what
    they are.
    - (C1) `input` is `[tokens, k]`, `weight` `[n, k]`, result `[tokens, n]`.
    - (C2) `bias`, if any, is `[n]`.
    - (C3) `scales` are given iff the weight is FP8 or integer. For FP8 they
      are f32 `[ceil(n / 128), ceil(k / 128)]` (see `deepseek.dequantize`), for
      integers f16, bf16 or f32 `[n, k / group]` (see `deepseek.quantize`), or
      i8 of two levels: `[n, k / 256 * (256 / group + 2)]` has, for each 256
      columns of a row, one factor for each group and then the two bytes of an
      f16, the lowest first, by which these factors are multiplied.
    - (C4) `activation_group` may be given if the weight is integer; it is a
      multiple of 16 that divides the weight's group.
    - (C5) `offsets`, which are subtracted from the weight's integers once they
      are scaled, may be given if the weight is integer; they have the shape of
      `scales`.
    - (C6) `bf16_inputs` may be given if the weight is bf16, f16 or FP8 and k is
      even.

    Source of bf16_inputs: Kalamkar et al. 2019, arXiv:1905.12322, which rounds
    both factors and adds in f32.
  }];
  let arguments = (ins Activations:$input, WeightMatrix:$weight,
                       Optional<WeightVector>:$bias,
                       Optional<2DTensorOf<[GroupScaleElement]>>:$scales,
                       Optional<2DTensorOf<[GroupScaleElement]>>:$offsets,
                       OptionalAttr<I64Attr>:$activation_group,
                       UnitAttr:$bf16_inputs);
  let results = (outs Activations:$result);
  let builders = [
    // Without offsets.
    OpBuilder<(ins "::mlir::Type":$result, "::mlir::Value":$input,
                   "::mlir::Value":$weight, "::mlir::Value":$bias,
                   "::mlir::Value":$scales,
                   "::mlir::IntegerAttr":$activation_group), [{
      build($_builder, $_state, result, input, weight, bias, scales,
            ::mlir::Value(), activation_group, ::mlir::UnitAttr());
    }]>];
  let assemblyFormat = [{
    $input `,` $weight (`bias` $bias^ `:` type($bias))?
    (`scales` $scales^ `:` type($scales))?
    (`offsets` $offsets^ `:` type($offsets))?
    (`activation_group` $activation_group^)? (`bf16_inputs` $bf16_inputs^)?
    attr-dict `:` type($input) `,` type($weight) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_AdaptOp : DeepSeek_Op<"adapt", [
    Pure, AllTypesMatch<["base", "result"]>]> {
  let summary = "Adds what the adapter of each token's sequence makes of a row";
  let description = [{
    For a token t whose sequence has chosen adapter a,

        hidden[r] = sum_k down[a, r, k] * input[t, k]
        result[t, n] = base[t, n] + sum_r up[a, r, n] * hidden[r]

    and result[t] = base[t], bit for bit, for one that has chosen none. Which
    adapter that is the session says; a step may have sequences of all kinds
    (Chen et al. 2023, arXiv:2310.18547, section 4). `up` has the scale of the
    adapter in it.
    - (C1) `base` is `[tokens, n]`, `input` `[tokens, k]`, `down` `[adapters, r,
      k]` and `up` `[adapters, r, n]`.

    ```mlir
    %y = deepseek.adapt %base, %x, %down, %up of %sequences
        : tensor<?x96xf32>, tensor<?x64xf32>, tensor<2x8x64xf32>,
          tensor<2x8x96xf32>, tensor<?xi32>
    ```
  }];
  let arguments = (ins Activations:$base, Activations:$input,
                       3DTensorOf<[F32]>:$down, 3DTensorOf<[F32]>:$up,
                       PerToken:$sequences);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $base `,` $input `,` $down `,` $up `of` $sequences attr-dict `:`
    type($base) `,` type($input) `,` type($down) `,` type($up) `,`
    type($sequences)
  }];
  let hasVerifier = 1;
}

def DeepSeek_HeadLinearOp : DeepSeek_Op<"head_linear", [
    Pure, AttrSizedOperandSegments]> {
  let summary = "Multiplies the start of each head by that head's matrix";
  let description = [{
    result[t, h * n + i] = sum_k input[t, h * stride + k] * W[h, i, k],
    with stride = columns of `input` / heads, where W is `weight`, times its
    scales, less its offsets, if they are given. What is left of a head past k
    is not read: MLA keeps the rotary part there. Inputs are not rounded.
    - (C1) `weight` is `[heads, n, k]`, `input` `[tokens, heads * stride]` with
      stride >= k, and the result `[tokens, heads * n]`.
    - (C2) `scales` are given iff the weight is integer, and `offsets` only
      then. They are those of `deepseek.linear`, of groups of k, `[heads, n, k /
      group]`; or of groups of n, `[heads, n / group, k]`: a weight whose
      matrices are transposed since they were stored has such. Two levels are
      along the groups in either.
  }];
  let arguments = (ins Activations:$input, 3DTensorOf<[HeadElement]>:$weight,
                       Optional<3DTensorOf<[GroupScaleElement]>>:$scales,
                       Optional<3DTensorOf<[GroupScaleElement]>>:$offsets);
  let results = (outs Activations:$result);
  let builders = [
    OpBuilder<(ins "::mlir::Type":$result, "::mlir::Value":$input,
                   "::mlir::Value":$weight), [{
      build($_builder, $_state, result, input, weight, ::mlir::Value(),
            ::mlir::Value());
    }]>];
  let assemblyFormat = [{
    $input `,` $weight (`scales` $scales^ `:` type($scales))?
    (`offsets` $offsets^ `:` type($offsets))? attr-dict `:`
    type($input) `,` type($weight) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_SplitOp : DeepSeek_Op<"split", [Pure]> {
  let summary = "Splits each row into consecutive parts";
  let description = [{
    - (C1) the columns of the results add up to those of the input.
  }];
  let arguments = (ins Activations:$input);
  let results = (outs Variadic<Activations>:$results);
  let assemblyFormat =
      "$input attr-dict `:` type($input) `->` type($results)";
  let hasVerifier = 1;
}

def DeepSeek_RotaryOp : DeepSeek_Op<"rotary", [
    Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "Rotates pairs of elements of each head by the position";
  let description = [{
    The last `rotary.dim` elements of each head are rotated, or with `leading`
    the first ones; the others are kept. With `inverse`, they are rotated back.
    - (C1) the columns of `input` are a multiple of `heads`, and a head is at
      least `rotary.dim` wide.
    - (C2) heads that rotate in full are `half_split`, as every generation with
      ordinary attention has it, unless `unchecked`. MLA's are `interleaved`.
    - (C3) a head whose last part is rotated is `interleaved` (MLA), unless
      `unchecked`. One whose first part is may have either layout: the indexer
      of DeepSeek-V3.2 has `half_split`, GLM-5's `interleaved`.
    A single key head of MLA (`heads` is 1) may have either layout of (C2).
  }];
  let arguments = (ins Activations:$input, PerToken:$positions,
                       I64Attr:$heads, UnitAttr:$leading,
                       DeepSeek_RotaryAttr:$rotary, UnitAttr:$inverse,
                       UnitAttr:$unchecked);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $input `,` $positions `heads` $heads (`leading` $leading^)? `by` $rotary
    (`inverse` $inverse^)?
    (`unchecked` $unchecked^)? attr-dict `:` type($input) `,` type($positions)
  }];
  let hasVerifier = 1;
}

def DeepSeek_AttentionOp : DeepSeek_Op<"attention",
    [MemoryEffects<[MemRead, MemWrite]>, AttrSizedOperandSegments,
     AllTypesMatch<["positions", "sequences"]>]> {
  let summary = "Grouped-query attention over the cache";
  let description = [{
    Appends keys and values of every token to the cache, then attends: query
    head h of token t sees key head h / (heads / kv_heads) of the tokens of its
    own sequence at positions up to its own, or of those the ones that `window`
    lets it see; result = softmax(q . k * scale) v.
    Ainslie et al. 2023, arXiv:2305.13245.
    - (C1) `query` is `[tokens, heads * key_dim]`; `key` and `value` are
      `[tokens, kv_heads * key_dim]` and `[tokens, kv_heads * value_dim]` of a
      cache of kind `heads`; the result is `[tokens, heads * value_dim]`.
    - (C2) `heads` is a multiple of the cache's heads.
    - (C3) `scale > 0`.
    - (C4) queries may be of some of the tokens alone, in their order: `query`
      and the result have a row for each of `query_positions` and
      `query_sequences` then, of which both are given or none.
  }];
  let arguments = (ins Activations:$query, Activations:$key,
                       Activations:$value, PerToken:$positions,
                       PerToken:$sequences, DeepSeek_KVCacheType:$cache,
                       Index:$layer, Optional<PerToken>:$query_positions,
                       Optional<PerToken>:$query_sequences, I64Attr:$heads,
                       F64Attr:$scale,
                       OptionalAttr<DeepSeek_WindowAttr>:$window);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $query `,` $key `,` $value `at` $positions `of` $sequences `in` $cache
    `[` $layer `]` `heads` $heads `scale` $scale (`window` $window^)?
    (`queries` `at` $query_positions^ `of` $query_sequences `:`
     type($query_positions) `,` type($query_sequences))? attr-dict `:` type($query) `,` type($key) `,` type($value) `,`
    type($positions) `,` type($cache) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_SelectKeysOp : DeepSeek_Op<"select_keys",
    [MemoryEffects<[MemRead, MemWrite]>, AttrSizedOperandSegments,
     AllTypesMatch<["positions", "sequences"]>]> {
  let summary = "Chooses the tokens that sparse attention sees";
  let description = [{
    The lightning indexer of DeepSeek-V3.2. Appends `key` of every token to the
    index keys of the cache, and scores each token s of a sequence, up to the
    token t's own position, with cheap heads that share one key:

        score[t, s] = scale * sum_h weights[t, h] * max(0, query[t, h] . key[s])

    `selected[t]` are the positions of the `top_k` largest scores, ascending,
    and -1 where there are fewer tokens; of equal scores, the earlier token.
    - (C1) the cache is of kind `latent` and has an `index_dim`, d: `query` is
      `[tokens, heads * d]`, `key` `[tokens, d]`, `weights` `[tokens, heads]`.
    - (C2) the result is `[tokens, top_k]`, for `heads` and `top_k` > 0.
    - (C3) `scale > 0`.
    - (C4) `query_positions` and `query_sequences` as for `deepseek.attention`;
      `weights` have rows as queries have.

    Source: DeepSeek-V3.2-Exp, section 1, eq. 1. Its `inference/model.py` turns
    query and key by a Hadamard matrix, which changes no score, and rounds them
    to FP8, which is not done here.

    ```mlir
    %s = deepseek.select_keys %q, %k, %w at %positions of %sequences
        in %cache[%layer] heads 64 top_k 2048 scale 1.1e-2 : tensor<?x8192xf32>,
        tensor<?x128xf32>, tensor<?x64xf32>, tensor<?xi32>, !cache
        -> tensor<?x2048xi32>
    ```
  }];
  let arguments = (ins Activations:$query, Activations:$key,
                       Activations:$weights, PerToken:$positions,
                       PerToken:$sequences, DeepSeek_KVCacheType:$cache,
                       Index:$layer, Optional<PerToken>:$query_positions,
                       Optional<PerToken>:$query_sequences, I64Attr:$heads,
                       I64Attr:$top_k, F64Attr:$scale);
  let results = (outs 2DTensorOf<[I32]>:$selected);
  let assemblyFormat = [{
    $query `,` $key `,` $weights `at` $positions `of` $sequences `in` $cache
    `[` $layer `]` `heads` $heads `top_k` $top_k `scale` $scale
    (`queries` `at` $query_positions^ `of` $query_sequences `:`
     type($query_positions) `,` type($query_sequences))? attr-dict `:`
    type($query) `,` type($key) `,` type($weights) `,` type($positions) `,`
    type($cache) `->` type($selected)
  }];
  let hasVerifier = 1;
}

def DeepSeek_LatentAttentionOp : DeepSeek_Op<"latent_attention",
    [MemoryEffects<[MemRead, MemWrite]>,
     AllTypesMatch<["positions", "sequences"]>]> {
  let summary = "Multi-head latent attention, expanded";
  let description = [{
    Appends `[latent | rope_key]` of every token to the cache. Keys and values
    of head h are expanded from the latents c of the tokens seen, with rows
    `kv_b[h]`, n + v of them:

        k_h = [kv_b[h, :n] c | rope_key],  v_h = kv_b[h, n:] c
        result_h = softmax(q_h . k_h * scale) v_h

    A token sees those of its sequence up to its own position, or of those the
    ones that `window` lets it see, or the ones that are `selected`.

    DeepSeek-V2, arXiv:2405.04434, eq. 9 to 19.
    - (C1) for a cache of kind `latent` with value_dim c and key_dim c + r:
      `query` is `[tokens, heads * (n + r)]`, its rotary part last and rotated;
      `latent` `[tokens, c]`, normalized; `rope_key` `[tokens, r]`, rotated;
      `kv_b` `[heads * (n + v), c]`; the result `[tokens, heads * v]`.
    - (C2) `scale > 0`.
    - (C3) `selected`, as `deepseek.select_keys` gives it, is `[tokens, top_k]`;
      there is no `window` then.
  }];
  let arguments = (ins Activations:$query, Activations:$latent,
                       Activations:$rope_key, WeightMatrix:$kv_b,
                       PerToken:$positions, PerToken:$sequences,
                       DeepSeek_KVCacheType:$cache, Index:$layer,
                       Optional<2DTensorOf<[I32]>>:$selected, I64Attr:$heads, F64Attr:$scale,
                       OptionalAttr<DeepSeek_WindowAttr>:$window);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $query `,` $latent `,` $rope_key `,` $kv_b `at` $positions `of` $sequences
    `in` $cache `[` $layer `]` `heads` $heads `scale` $scale
    (`window` $window^)? (`selected` $selected^ `:` type($selected))?
    attr-dict `:` type($query) `,` type($latent) `,`
    type($rope_key) `,` type($kv_b) `,` type($positions) `,` type($cache) `->`
    type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_AbsorbedAttentionOp : DeepSeek_Op<"absorbed_attention",
    [MemoryEffects<[MemRead, MemWrite]>, AttrSizedOperandSegments,
     AllTypesMatch<["positions", "sequences"]>]> {
  let summary = "Multi-head latent attention, in the space of the latents";
  let description = [{
    The key half of `kv_b` is absorbed into the query and the value half into
    what follows, so that every head reads the cached latents c themselves:

        score_h = (query_h . c + rope_query_h . rope_key) * scale
        result_h = softmax(score_h) c

    over the tokens of the sequence up to the token's own position, or those of
    them that `window` lets it see, or the ones that are `selected`.

    DeepSeek-V2, arXiv:2405.04434, section 2.1.3. Equal to
    `deepseek.latent_attention` in exact arithmetic.
    - (C1) for a cache of kind `latent` with value_dim c and key_dim c + r:
      `query` is `[tokens, heads * c]`; `rope_query` is
      `[tokens, heads * (n + r)]`, of which the last r of each head are read;
      `latent` `[tokens, c]`; `rope_key` `[tokens, r]`; the result
      `[tokens, heads * c]`.
    - (C2) `scale > 0`.
    - (C3) `selected`, as `deepseek.select_keys` gives it, is `[tokens, top_k]`;
      there is no `window` then.
    - (C4) `query_positions` and `query_sequences` as for `deepseek.attention`;
      `rope_query` and `selected` have rows as queries have.
  }];
  let arguments = (ins Activations:$query, Activations:$rope_query,
                       Activations:$latent, Activations:$rope_key,
                       PerToken:$positions, PerToken:$sequences,
                       DeepSeek_KVCacheType:$cache, Index:$layer,
                       Optional<2DTensorOf<[I32]>>:$selected,
                       Optional<PerToken>:$query_positions,
                       Optional<PerToken>:$query_sequences, I64Attr:$heads,
                       F64Attr:$scale,
                       OptionalAttr<DeepSeek_WindowAttr>:$window);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $query `,` $rope_query `,` $latent `,` $rope_key `at` $positions `of`
    $sequences `in` $cache `[` $layer `]` `heads` $heads `scale` $scale
    (`window` $window^)? (`selected` $selected^ `:` type($selected))?
    (`queries` `at` $query_positions^ `of` $query_sequences `:`
     type($query_positions) `,` type($query_sequences))? attr-dict `:` type($query) `,` type($rope_query) `,`
    type($latent) `,` type($rope_key) `,` type($positions) `,` type($cache)
    `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_SwiGLUOp : DeepSeek_Op<"swiglu", [
    Pure, SameOperandsAndResultType]> {
  let summary = "Gates one projection by the other";
  let description = [{
    result = gate / (1 + exp(-gate)) * up. Shazeer 2020, arXiv:2002.05202.
    With `limit`, gate is first cut off above it and up to [-limit, limit], as
    in DeepSeek-V4.
    - (C1) `limit > 0`.
  }];
  let arguments = (ins Activations:$gate, Activations:$up,
                       OptionalAttr<F64Attr>:$limit);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $gate `,` $up (`limit` $limit^)? attr-dict `:` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_AddOp : DeepSeek_Op<"add", [
    Pure, SameOperandsAndResultType, Commutative]> {
  let summary = "Adds activations: a residual, or a shared expert";
  let arguments = (ins Activations:$lhs, Activations:$rhs);
  let results = (outs Activations:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($result)";
}

def DeepSeek_RouterOp : DeepSeek_Op<"router", [
    Pure, AttrSizedOperandSegments]> {
  let summary = "Chooses experts for each token, and their weights";
  let description = [{
    See `#deepseek.routing` for the rules.
    - (C1) `logits` are `[tokens, experts]`; `experts` and `weights` are
      `[tokens, top_k]`.
    - (C2) `bias`, `[experts]`, is given iff the method is `noaux_tc`.
    - (C3) scoring and method are a pair that some generation uses: softmax
      with greedy or group-limited greedy, sigmoid or sqrt_softplus with
      noaux_tc; unless `unchecked`.
    - (C4) `renormalize_from`, if given, is more than `top_k` and no more than
      the experts that can be chosen, and the rule does not normalize. The
      weights of the `top_k` chosen are then multiplied by the sum of the
      `renormalize_from` best over their own + 1e-20: fewer experts with the
      weight of more.
    - (C5) the method is not `hash`, which `deepseek.hash_router` has.
    - (C6) `map`, if given, is `[experts]`: expert e of the rule is number
      `map[e]` of those that run, so that several can be one, or all are stored
      in another order. A token that chooses one twice gets it with both
      weights.
  }];
  let arguments = (ins Activations:$logits,
                       Optional<1DTensorOf<[F32]>>:$bias,
                       Optional<1DTensorOf<[I32]>>:$map,
                       DeepSeek_RoutingAttr:$routing,
                       OptionalAttr<I64Attr>:$renormalize_from,
                       UnitAttr:$unchecked);
  let results = (outs 2DTensorOf<[I32]>:$experts, Activations:$weights);
  let builders = [
    // Without a map.
    OpBuilder<(ins "::mlir::Type":$experts, "::mlir::Type":$weights,
                   "::mlir::Value":$logits, "::mlir::Value":$bias,
                   "RoutingAttr":$routing,
                   "::mlir::IntegerAttr":$renormalize_from, "bool":$unchecked),
    [{
      build($_builder, $_state, experts, weights, logits, bias,
            ::mlir::Value(), routing, renormalize_from, unchecked);
    }]>];
  let assemblyFormat = [{
    $logits (`bias` $bias^ `:` type($bias))? (`map` $map^ `:` type($map))?
    `by` $routing
    (`renormalize_from` $renormalize_from^)? (`unchecked` $unchecked^)? attr-dict `:` type($logits) `->`
    type($experts) `,` type($weights)
  }];
  let hasVerifier = 1;
}

def DeepSeek_HashRouterOp : DeepSeek_Op<"hash_router", [Pure]> {
  let summary = "Looks up the experts of each token, and computes their weights";
  let description = [{
    The experts of a token are row `tokens[t]` of `table`; their weights are
    those that `#deepseek.routing` gives them. DeepSeek-V4 has it in its first
    layers (`num_hash_layers`).
    - (C1) `logits` are `[tokens, experts]`; `table` is `[vocab, top_k]`;
      `experts` and `weights` are `[tokens, top_k]`.
    - (C2) the method is `hash`.
  }];
  let arguments = (ins Activations:$logits, PerToken:$tokens,
                       2DTensorOf<[I32]>:$table, DeepSeek_RoutingAttr:$routing);
  let results = (outs 2DTensorOf<[I32]>:$experts, Activations:$weights);
  let assemblyFormat = [{
    $logits `,` $tokens `,` $table `by` $routing attr-dict `:` type($logits)
    `,` type($tokens) `,` type($table) `->` type($experts) `,` type($weights)
  }];
  let hasVerifier = 1;
}

def DeepSeek_ExpertsOp : DeepSeek_Op<"experts", [
    Pure, AttrSizedOperandSegments]> {
  let summary = "Runs the routed experts of each token and sums them";
  let description = [{
    result[t] = sum_s weights[t, s] * ffn_e(input[t]) with e = experts[t, s]
    and ffn_e(x) = down[e] (silu(gate[e] x) * (up[e] x)), summed in the order
    of s. DeepSeekMoE, arXiv:2401.06066, eq. 9. `limit` cuts off gate and up as
    in `deepseek.swiglu`.
    - (C1) `gate` and `up` are `[e, i, d]`, `down` is `[e, d, i]`, `input` and
      the result `[tokens, d]`.
    - (C2) `experts` and `weights` are `[tokens, top_k]`.
    - (C3) the weights are of one type, or all integer, gate and up of one type.
      Scales are given iff they are FP8 or integer, one for each, with shapes
      and types as for `deepseek.linear`.
    - (C4) `activation_group` likewise.
    - (C5) `offsets` likewise: of all three weights, of gate and up, of down, or
      of none.
    - (C6) `limit > 0`.
    - (C7) `bf16_inputs`, which also rounds what `down` is multiplied with, as
      for `deepseek.linear`: d and i are even.
  }];
  let arguments = (ins Activations:$input, 2DTensorOf<[I32]>:$experts,
                       Activations:$weights, 3DTensorOf<[MatrixElement]>:$gate,
                       3DTensorOf<[MatrixElement]>:$up,
                       3DTensorOf<[MatrixElement]>:$down,
                       Variadic<3DTensorOf<[GroupScaleElement]>>:$scales,
                       Variadic<3DTensorOf<[GroupScaleElement]>>:$offsets,
                       OptionalAttr<I64Attr>:$activation_group,
                       OptionalAttr<F64Attr>:$limit, UnitAttr:$bf16_inputs);
  let results = (outs Activations:$result);
  let builders = [
    // Without offsets.
    OpBuilder<(ins "::mlir::Type":$result, "::mlir::Value":$input,
                   "::mlir::Value":$experts, "::mlir::Value":$weights,
                   "::mlir::Value":$gate, "::mlir::Value":$up,
                   "::mlir::Value":$down, "::mlir::ValueRange":$scales,
                   "::mlir::IntegerAttr":$activation_group,
                   CArg<"::mlir::FloatAttr", "{}">:$limit), [{
      build($_builder, $_state, result, input, experts, weights, gate, up, down,
            scales, ::mlir::ValueRange(), activation_group, limit,
            ::mlir::UnitAttr());
    }]>];
  let extraClassDeclaration = [{
    /// The offsets of gate, up or down, 0, 1 or 2; null if it has none.
    ::mlir::Value getOffsetsOf(size_t matrix) {
      ::mlir::ValueRange given = getOffsets();
      if (given.size() == 1)
        return matrix == 2 ? given[0] : ::mlir::Value();
      return matrix < given.size() ? given[matrix] : ::mlir::Value();
    }
  }];
  let assemblyFormat = [{
    $input `,` $experts `,` $weights `gate` $gate `up` $up `down` $down
    (`scales` $scales^ `:` type($scales))?
    (`offsets` $offsets^ `:` type($offsets))?
    (`activation_group` $activation_group^)? (`limit` $limit^)?
    (`bf16_inputs` $bf16_inputs^)? attr-dict `:` type($input) `,`
    type($experts) `,` type($weights) `,` type($gate) `,` type($up) `,`
    type($down) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_GatherRowsOp : DeepSeek_Op<"gather_rows", [Pure]> {
  let summary = "Keeps some rows: those that need logits, or go through a layer";
  let description = [{
    result[r] = input[rows[r]], of activations, or of what each token has one
    of: its position and its sequence.
    - (C1) `rows` is `[kept]`, and input and result are of one type but for the
      number of rows.
  }];
  let arguments = (ins AnyTypeOf<[Activations, PerToken]>:$input,
                       PerToken:$rows);
  let results = (outs AnyTypeOf<[Activations, PerToken]>:$result);
  let assemblyFormat = [{
    $input `,` $rows attr-dict `:` type($input) `,` type($rows) `->`
    type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_ScatterRowsOp : DeepSeek_Op<"scatter_rows",
    [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "Puts rows back where they were gathered";
  let description = [{
    result[rows[r]] = update[r], and result[t] = input[t] for all other t: a
    token that does not go through a layer keeps the state that it has.
    - (C1) `rows` is `[kept]`, each of it another row of `input`, ascending, as
      `deepseek.select_rows` gives them; `update` is `[kept, columns]` for an
      `input` of `[tokens, columns]`.

    ```mlir
    %y = deepseek.scatter_rows %x, %kept at %rows
        : tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>
    ```
  }];
  let arguments = (ins Activations:$input, Activations:$update,
                       PerToken:$rows);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $input `,` $update `at` $rows attr-dict `:` type($input) `,` type($update)
    `,` type($rows)
  }];
  let hasVerifier = 1;
}

def DeepSeek_SelectRowsOp : DeepSeek_Op<"select_rows", [
    Pure, AttrSizedOperandSegments]> {
  let summary = "The tokens that go through a layer: those with a high score";
  let description = [{
    The numbers of the rows t with scores[t, 0] > threshold[0], ascending; with
    `threshold` left out, > 0, which is where a sigmoid is above a half. A NaN
    is above every threshold: a token of which nothing is known goes through.
    Given `among`, rows that another gate has let through, only of those: a
    token goes through both, or not at all.

    A token is judged by itself, so that it does not matter which others are in
    its step. (Expert choice, by which the best k of a sequence go through,
    needs those that come after: Raposo et al. 2024, arXiv:2404.02258, section
    3.5.)
    - (C1) `scores` is `[tokens, 1]`, `threshold` is `[1]`.

    ```mlir
    %rows = deepseek.select_rows %scores above %threshold : tensor<1xf32>
        : tensor<?x1xf32> -> tensor<?xi32>
    %both = deepseek.select_rows %others among %rows : tensor<?xi32>
        : tensor<?x1xf32> -> tensor<?xi32>
    ```
  }];
  let arguments = (ins Activations:$scores,
                       Optional<1DTensorOf<[F32]>>:$threshold,
                       Optional<PerToken>:$among);
  let results = (outs PerToken:$rows);
  let assemblyFormat = [{
    $scores (`above` $threshold^ `:` type($threshold))?
    (`among` $among^ `:` type($among))? attr-dict `:` type($scores) `->`
    type($rows)
  }];
  let hasVerifier = 1;
}

def DeepSeek_InfluenceOp : DeepSeek_Op<"influence",
    [Pure, AllTypesMatch<["before", "after"]>]> {
  let summary = "By how much a layer has turned each token's state";
  let description = [{
    result[t, 0] = 1 - cos(before[t], after[t]), and 1 where one is all zeros:
    the block influence of ShortGPT (Men et al. 2024, arXiv:2403.03853, eq. 1),
    of one token.
    - (C1) the result is `[tokens, 1]`.

    ```mlir
    %s = deepseek.influence %x, %y : tensor<?x64xf32> -> tensor<?x1xf32>
    ```
  }];
  let arguments = (ins Activations:$before, Activations:$after);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $before `,` $after attr-dict `:` type($before) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_LMHeadOp : DeepSeek_Op<"lm_head", [
    Pure, AttrSizedOperandSegments]> {
  let summary = "Projects hidden rows to logits over the vocabulary";
  let description = [{
    logits[r, v] = sum_k input[r, k] * weight[v, k], with scales and rounded
    input as in `deepseek.linear`.
    - (C1) `input` is `[outputs, hidden]`, `weight` `[vocab, hidden]`, the
      result `[outputs, vocab]`.
    - (C2) `scales` are given iff the weight is integer, as for
      `deepseek.linear`.
    - (C3) `activation_group` likewise.
    - (C4) `offsets` likewise.
    - (C5) `bf16_inputs` likewise.
  }];
  let arguments = (ins Activations:$input,
                       2DTensorOf<[F32, F16, BF16, CodeElement]>:$weight,
                       Optional<2DTensorOf<[GroupScaleElement]>>:$scales,
                       Optional<2DTensorOf<[GroupScaleElement]>>:$offsets,
                       OptionalAttr<I64Attr>:$activation_group,
                       UnitAttr:$bf16_inputs);
  let results = (outs Activations:$result);
  let builders = [
    // Without offsets.
    OpBuilder<(ins "::mlir::Type":$result, "::mlir::Value":$input,
                   "::mlir::Value":$weight, "::mlir::Value":$scales,
                   "::mlir::IntegerAttr":$activation_group), [{
      build($_builder, $_state, result, input, weight, scales,
            ::mlir::Value(), activation_group, ::mlir::UnitAttr());
    }]>];
  let assemblyFormat = [{
    $input `,` $weight (`scales` $scales^ `:` type($scales))?
    (`offsets` $offsets^ `:` type($offsets))?
    (`activation_group` $activation_group^)? (`bf16_inputs` $bf16_inputs^)?
    attr-dict `:` type($input) `,` type($weight) `->` type($result)
  }];
  let hasVerifier = 1;
}

include "dialects/DeepSeek/IR/CompressedAttentionOps.td"
include "dialects/DeepSeek/IR/HyperConnectionOps.td"

#endif // HADAL_DEEPSEEK_OPS
