// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Graph passes: deepseek in, deepseek out. This is their table of contents.

#ifndef HADAL_PASSES
#define HADAL_PASSES

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

def AbsorbLatentAttention : Pass<"deepseek-absorb-latent-attention",
                                 "::mlir::ModuleOp"> {
  let summary = "Lets MLA attend in the space of the cached latents";
  let description = [{
    A decode step then reads each cached latent once for all heads, and never
    expands the cache to keys and values. `kv_b` is cut into the half that
    makes keys, which moves to the query, and the half that makes values, which
    moves behind the attention (DeepSeek-V2, arXiv:2405.04434, section 2.1.3).
    Exact: the sums are the same, in another order.

    ```mlir
    %o = deepseek.latent_attention %q, %c, %r, %kv_b at .. : ..
    // becomes
    %ql = deepseek.head_linear %q, %w_uk : ..      // [tokens, heads * c]
    %u = deepseek.absorbed_attention %ql, %q, %c, %r at .. : ..
    %o = deepseek.head_linear %u, %w_uv : ..       // [tokens, heads * v]
    ```

    The weight `@X` behind `%kv_b` becomes `@X.absorbed_key`,
    `[heads, c, n]`, and `@X.absorbed_value`, `[heads, v, c]`; their recipes
    are that of `@X`, reshaped, sliced and, for the key, transposed. `@X` is
    erased when nothing uses it any more. An argument `%kv_b` of a function
    becomes two, at the same place.

    Never fails. Left as it is: an attention whose `kv_b` is neither a
    `deepseek.use_weight` nor an argument that is one at every call; whose
    `kv_b` has other uses; whose function is public, or used other than by
    `func.call`; or whose weight is FP8 or has an encoding.
  }];
  let statistics = [Statistic<"numAbsorbed", "num-absorbed",
      "Number of attention ops that were rewritten">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

#endif // HADAL_PASSES
