// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attributes that carry the choices on which generations of models differ.

#ifndef HADAL_DEEPSEEK_ATTRS
#define HADAL_DEEPSEEK_ATTRS

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/TensorEncoding.td"
include "dialects/DeepSeek/IR/DeepSeekDialect.td"

class DeepSeek_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<DeepSeek_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

class DeepSeek_Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::hadal::deepseek";
  let genSpecializedAttr = 0;
}

//===----------------------------------------------------------------------===//
// Rotary position embedding
//===----------------------------------------------------------------------===//

def DeepSeek_RotaryLayout : DeepSeek_Enum<"RotaryLayout",
    "Which two elements of a head are rotated as a pair", [
  I32EnumAttrCase<"HalfSplit", 0, "half_split">,
  I32EnumAttrCase<"Interleaved", 1, "interleaved">]>;

def DeepSeek_LinearScalingAttr : DeepSeek_Attr<"LinearScaling",
    "linear_scaling"> {
  let summary = "Every rotary frequency is divided by one factor";
  let description = "DeepSeek-Coder: `rope_scaling` of type `linear`.";
  let parameters = (ins "::mlir::FloatAttr":$factor);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def DeepSeek_Llama3ScalingAttr : DeepSeek_Attr<"Llama3Scaling",
    "llama3_scaling"> {
  let summary = "Low frequencies are divided, high ones kept, with a ramp";
  let description = [{
    With wavelength l = 2 pi / f: f / factor where l > original / low, f where
    l < original / high, and a linear blend between. Source: transformers
    `modeling_rope_utils.py`, `_compute_llama3_parameters`.
  }];
  let parameters = (ins "::mlir::FloatAttr":$factor, "::mlir::FloatAttr":$low_freq_factor,
                        "::mlir::FloatAttr":$high_freq_factor, "int64_t":$original);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def DeepSeek_YarnScalingAttr : DeepSeek_Attr<"YarnScaling", "yarn_scaling"> {
  let summary = "YaRN: frequencies are blended by how often they turn";
  let description = [{
    Peng et al. 2023, arXiv:2309.00071, section 3.2, as DeepSeek-V3's
    `inference/model.py` computes it. `attention_factor` multiplies cosine and
    sine; the softmax scale is a separate attribute of the attention op.
    `truncate` rounds the two correction dimensions outward.
  }];
  let parameters = (ins "::mlir::FloatAttr":$factor, "int64_t":$original,
                        "::mlir::FloatAttr":$beta_fast, "::mlir::FloatAttr":$beta_slow,
                        "::mlir::FloatAttr":$attention_factor, "bool":$truncate);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def DeepSeek_RotaryAttr : DeepSeek_Attr<"Rotary", "rotary"> {
  let summary = "A rotary embedding: dimensions, base, pairing and scaling";
  let description = [{
    Pair i of `dim` / 2 turns by position * f_i, with f_i = theta^(-2i / dim)
    before scaling (Su et al. 2021, arXiv:2104.09864, eq. 15).

    ```mlir
    #deepseek.rotary<dim = 64, theta = 1.0e4 : f64, layout = interleaved>
    ```
  }];
  let parameters = (ins "int64_t":$dim, "::mlir::FloatAttr":$theta,
                        EnumParameter<DeepSeek_RotaryLayout>:$layout,
                        OptionalParameter<"::mlir::Attribute">:$scaling);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

def DeepSeek_WindowAttr : DeepSeek_Attr<"Window", "window"> {
  let summary = "How far back a token sees, and the first tokens that all see";
  let description = [{
    The token at position i sees position j if i - `tokens` < j <= i, itself
    included, or if j < `sink` and j <= i: a sliding window (Beltagy et al.
    2020, arXiv:2004.05150) and attention sinks (Xiao et al. 2023,
    arXiv:2309.17453). Positions are those of the sequence: unlike in that
    paper, tokens that are no longer seen do not renumber the others.

    ```mlir
    #deepseek.window<tokens = 4096, sink = 4>
    ```
  }];
  let parameters = (ins "int64_t":$tokens, "int64_t":$sink);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Whether a token at \p position sees the one at \p other.
    bool sees(int64_t position, int64_t other) const {
      return other <= position &&
             (other > position - getTokens() || other < getSink());
    }
  }];
}

//===----------------------------------------------------------------------===//
// Routing
//===----------------------------------------------------------------------===//

def DeepSeek_Scoring : DeepSeek_Enum<"Scoring",
    "How router logits become scores", [
  I32EnumAttrCase<"Softmax", 0, "softmax">,
  I32EnumAttrCase<"Sigmoid", 1, "sigmoid">,
  I32EnumAttrCase<"SqrtSoftplus", 2, "sqrt_softplus">]>;

def DeepSeek_TopKMethod : DeepSeek_Enum<"TopKMethod",
    "How experts are chosen by their scores", [
  I32EnumAttrCase<"Greedy", 0, "greedy">,
  I32EnumAttrCase<"GroupLimitedGreedy", 1, "group_limited_greedy">,
  I32EnumAttrCase<"NoAuxTC", 2, "noaux_tc">,
  I32EnumAttrCase<"Hash", 3, "hash">]>;

def DeepSeek_RoutingAttr : DeepSeek_Attr<"Routing", "routing"> {
  let summary = "The rule by which a token chooses its experts";
  let description = [{
    - `greedy`: the `top_k` largest scores.
    - `group_limited_greedy` (DeepSeek-V2, arXiv:2405.04434, section 2.2.2): a
      group's score is its largest; experts outside the `topk_group` best
      groups are not chosen.
    - `noaux_tc` (DeepSeek-V3, arXiv:2412.19437, section 2.1.2): selection by
      score + correction bias, a group's score is the sum of its two largest;
      weights are the scores without the bias.
    - `hash` (DeepSeek-V4): by the token alone, from a table.

    A score is the `softmax`, the `sigmoid`, or the square root of the softplus,
    sqrt(ln(1 + e^z)), of the logits z.

    Weights are then divided by their sum + 1e-20 if `normalize`, and
    multiplied by `scale`. Equal scores: the lower index first.
  }];
  let parameters = (ins EnumParameter<DeepSeek_Scoring>:$scoring,
                        EnumParameter<DeepSeek_TopKMethod>:$method,
                        "int64_t":$experts, "int64_t":$top_k,
                        "int64_t":$groups, "int64_t":$top_groups,
                        "bool":$normalize, "::mlir::FloatAttr":$scale);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

//===----------------------------------------------------------------------===//
// Layout of stored weights
//===----------------------------------------------------------------------===//

def DeepSeek_CodebookAttr : DeepSeek_Attr<"Codebook", "codebook",
    [DeclareAttrInterfaceMethods<VerifiableTensorEncoding>]> {
  let summary = "Encoding of a weight whose integers are places in a table";
  let description = [{
    An integer c of such a weight, of ui4, stands for `numbers[c]`, one of 16
    integers of 8 bits. Once packed, the weight's `#deepseek.tiled` has it.
  }];
  let parameters = (ins ArrayRefParameter<"int64_t">:$numbers);
  let assemblyFormat = "`<` `[` $numbers `]` `>`";
  let genVerifyDecl = 1;
}

def DeepSeek_RecordAttr : DeepSeek_Attr<"Record", "record"> {
  let summary = "How a tile of a weight shares its memory with other weights";
  let description = [{
    `columns` elements of each row of a tile, then as many of the other weights,
    are a record of `bytes` bytes; the records of a tile follow each other. So
    integers, their scales and their offsets are read as one stream of memory.
    With two `tiles`, those of two weights alternate, of a gate and an up.
    - (C1) `columns` and `bytes` are positive, `bytes` a multiple of 64, and
      `tiles` is 1 or 2.

    ```
    i4 in groups of 32, scales in f16: columns = 64, bytes = 576 of the integers
    +--------------+---------------------+--------------------+
    | 2 scales x16 | 32 columns x16      | 32 columns x16     |
    +--------------+---------------------+--------------------+
    0             64                    320                  576
    ```
  }];
  let parameters = (ins "int64_t":$columns, "int64_t":$bytes,
                        DefaultValuedParameter<"int64_t", "1">:$tiles);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def DeepSeek_TiledAttr : DeepSeek_Attr<"Tiled", "tiled",
    [DeclareAttrInterfaceMethods<VerifiableTensorEncoding>]> {
  let summary = "Encoding of a weight whose rows are interleaved in tiles";
  let description = [{
    A weight `[.., n, k]` is stored as
    `[.., ceil(n / rows), k / columns, rows, columns]`: `rows` consecutive rows
    are interleaved, `columns` elements of each at a time, so that one vector
    load gives those columns of a tile. Rows past n are zero. One copy serves a
    matrix times one vector and times many.

    `columns` is 1 for floating point, and for i8 that are scales; for integers
    that dot products take it is 32 over the lowest power of two of which their
    bits are the sum: 4 for i8, 8 for i4, 16 for i6, 32 for i5. These columns
    of a row are words of 4 bytes: first those that hold the highest power of
    two of the lowest bits, then those of the bits above. A word of p bits has
    columns 4 s + j of 32 / p in byte j, from bit p s on. Words of the 16 rows
    alternate. Signed integers of less than 8 bits count from the least: of i6,
    32 is added.

    ```
    i4   byte j: column j, column j + 4
    i6   byte j: bits 0-3 of columns j, j + 4; then of j + 8, j + 12;
                 then bits 4-5 of columns j, j + 4, j + 8, j + 12
    ```

    With a `record`, tiles have those of other weights between them. Its
    columns are whole units, and divide k.
  }];
  let parameters = (ins "int64_t":$rows,
                        DefaultValuedParameter<"int64_t", "1">:$columns,
                        OptionalParameter<"CodebookAttr">:$codebook,
                        OptionalParameter<"RecordAttr">:$record);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

#endif // HADAL_DEEPSEEK_ATTRS
