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

    ```mlir
    !deepseek.kv_cache<kind = latent, layers = 27, heads = 1, key_dim = 576,
                       value_dim = 512, element = f32>
    ```
  }];
  let parameters = (ins EnumParameter<DeepSeek_CacheKind>:$kind,
                        "int64_t":$layers, "int64_t":$heads,
                        "int64_t":$key_dim, "int64_t":$value_dim,
                        "::mlir::Type":$element);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

#endif // HADAL_DEEPSEEK_TYPES
