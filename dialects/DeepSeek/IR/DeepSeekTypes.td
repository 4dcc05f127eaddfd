// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Types of the deepseek dialect.

#ifndef HADAL_DEEPSEEK_TYPES
#define HADAL_DEEPSEEK_TYPES

include "mlir/IR/AttrTypeBase.td"
include "dialects/DeepSeek/IR/DeepSeekAttrs.td"

class DeepSeek_Type<string name, string typeMnemonic>
    : TypeDef<DeepSeek_Dialect, name> {
  let mnemonic = typeMnemonic;
}

def DeepSeek_CacheKind : DeepSeek_Enum<"CacheKind", "What a KV cache keeps", [
  I32EnumAttrCase<"Heads", 0, "heads">,
  I32EnumAttrCase<"Latent", 1, "latent">]>;

def DeepSeek_KVCacheType : DeepSeek_Type<"KVCache", "kv_cache"> {
  let summary = "The keys and values of all layers, of every sequence";
  let description = [{
    Per token and layer:
    - `heads`: keys `[heads, key_dim]` and values `[heads, value_dim]`.
    - `latent`: one vector `[key_dim]`: the compressed latent of MLA, its first
      `value_dim` elements, followed by the rotated shared key
      (DeepSeek-V2, arXiv:2405.04434, section 2.1). `heads` is 1.

    What is appended is rounded to `element`: f32, which loses nothing, bf16,
    f16 (what is beyond 65504 becomes that) or i8. Elements of i8 have an f32
    scale for each `group` columns of a token and head, of a key, a value or a
    latent: max |x| / 127; integers are those nearest to x / scale. A scale that
    is subnormal counts as zero.

    A latent cache with an `index_dim` keeps a key of so many elements more, in
    f32: the one by which `deepseek.select_keys` chooses tokens.

    ```mlir
    !deepseek.kv_cache<kind = latent, layers = 27, heads = 1, key_dim = 576,
                       value_dim = 512, element = f32>
    !deepseek.kv_cache<kind = latent, layers = 27, heads = 1, key_dim = 576,
                       value_dim = 512, element = i8, group = 64>
    ```
  }];
  let parameters = (ins EnumParameter<DeepSeek_CacheKind>:$kind,
                        "int64_t":$layers, "int64_t":$heads,
                        "int64_t":$key_dim, "int64_t":$value_dim,
                        "::mlir::Type":$element,
                        DefaultValuedParameter<"int64_t", "0",
                            "columns with one scale, for i8">:$group,
                        DefaultValuedParameter<"int64_t", "0",
                            "elements of an index key">:$index_dim);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def DeepSeek_CompressedCacheType : DeepSeek_Type<"CompressedCache",
    "compressed_cache"> {
  let summary = "Tokens, and entries that stand for several of them";
  let description = [{
    The cache of DeepSeek-V4. Layer l pools `ratios[l]` tokens into an entry, or
    none if that is 0; windows of the ratio `overlapping` overlap, and their
    layers have an index. Per sequence:
    - per token and layer: its key, which is its value, `[dim]`;
    - per window of `ratios[l]` tokens: an entry `[dim]` and, where windows
      overlap, one of the index, `[index_dim]`;
    - per token and layer with a ratio, the state of its compressors: value and
      gate, `[dim]` each, or, where windows overlap, `[2 dim]` each and
      `[2 index_dim]` each for the index.

    ```mlir
    !deepseek.compressed_cache<dim = 512, index_dim = 128,
        ratios = array<i64: 0, 4, 128, 4>, overlapping = 4, element = f32>
    ```
  }];
  let parameters = (ins "int64_t":$dim, "int64_t":$index_dim,
                        "::mlir::DenseI64ArrayAttr":$ratios,
                        "int64_t":$overlapping, "::mlir::Type":$element);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    int64_t getLayers() const { return getRatios().size(); }
    /// Layers that pool \p ratio tokens.
    int64_t countLayers(int64_t ratio) const;
    /// The ratios that layers have, each once, in increasing order, but for 0.
    ::llvm::SmallVector<int64_t> getDistinctRatios() const;
    bool isOverlapping(int64_t ratio) const { return ratio == getOverlapping(); }
    /// Numbers that all layers keep of a token, on average, rounded up.
    int64_t getElementsPerToken() const;
  }];
}

#endif // HADAL_DEEPSEEK_TYPES
