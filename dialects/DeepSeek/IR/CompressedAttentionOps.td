// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention of DeepSeek-V4: over a window of tokens, and entries that each
// stand for several tokens further back.

#ifndef HADAL_DEEPSEEK_COMPRESSEDATTENTION_OPS
#define HADAL_DEEPSEEK_COMPRESSEDATTENTION_OPS

def DeepSeek_CachePart : DeepSeek_Enum<"CachePart",
    "What the entries of a compressed cache are for", [
  I32EnumAttrCase<"Entries", 0, "entries">,
  I32EnumAttrCase<"Index", 1, "index">]>;

def DeepSeek_CompressOp : DeepSeek_Op<"compress",
    [MemoryEffects<[MemRead, MemWrite]>,
     AllTypesMatch<["value", "gate"]>,
     AllTypesMatch<["positions", "sequences"]>]> {
  let summary = "Pools each window of tokens into one entry of the cache";
  let description = [{
    Window w of a sequence is its tokens at positions w r to w r + r - 1, r
    being `ratio`. Once its last token is there, the window's entry is

        C_w = sum_j softmax_j(g_j) * a_j,  g_j = gate_j + position_bias[p_j mod r]

    for each column by itself, j over the tokens of the window, a_j being
    `value`. Where windows overlap (see `!deepseek.compressed_cache`), a token
    has columns for two entries: the first half is for the entry of the next
    window, the second for that of its own. So the entry is pooled from r first
    halves and r second halves; window 0 has no first halves.

    The entry is then normalized, C_w / sqrt(mean(C_w^2) + epsilon) * norm, and
    its last columns are rotated by `rotary` at position w r. It goes to `part`
    of the cache, for the layer that is number `index` of those with this
    ratio. Values and gates of the step's tokens go to the cache, too, because
    windows span steps.

    Source: DeepSeek-V4 `inference/model.py`, `Compressor`.
    - (C1) the cache has a layer with `ratio`, which is overlapping if `part`
      is `index`.
    - (C2) an entry has n columns, the cache's `dim` or `index_dim`; `value` and
      `gate` are `[tokens, n]`, or `[tokens, 2 n]` where windows overlap.
    - (C3) `position_bias` is `[ratio, columns of value]`, `norm` `[n]`.
    - (C4) `rotary` is interleaved, of at most n dimensions.
    - (C5) `epsilon > 0`.
  }];
  let arguments = (ins Activations:$value, Activations:$gate,
                       2DTensorOf<[F32]>:$position_bias,
                       1DTensorOf<[F32]>:$norm, PerToken:$positions,
                       PerToken:$sequences, DeepSeek_CompressedCacheType:$cache,
                       Index:$index,
                       EnumAttr<DeepSeek_Dialect, DeepSeek_CachePart,
                                "cache_part">:$part,
                       I64Attr:$ratio, DeepSeek_RotaryAttr:$rotary,
                       F32Attr:$epsilon);
  let assemblyFormat = [{
    $part $value `,` $gate `bias` $position_bias `norm` $norm `at` $positions
    `of` $sequences `in` $cache `[` $index `]` `ratio` $ratio `by` $rotary
    `epsilon` $epsilon attr-dict `:` type($value) `,` type($position_bias) `,`
    type($norm) `,` type($positions) `,` type($cache)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Whether a token has columns for the next window's entry as well.
    bool isOverlapping() {
      return int64_t(getRatio()) == getCache().getType().getOverlapping();
    }
  }];
}

def DeepSeek_SelectEntriesOp : DeepSeek_Op<"select_entries",
    [MemoryEffects<[MemRead]>, AllTypesMatch<["positions", "sequences"]>]> {
  let summary = "Chooses the entries that each token attends to";
  let description = [{
    The score of entry w, whose key K_w is part `index` of the cache, is

        I_w = scale * sum_h weights[t, h] * max(query[t, h] . K_w, 0)

    Of the entries that a token at position p sees, those with
    w < (p + 1) / r, the `top_k` with the largest scores are chosen; of equal
    scores the lower index. `result` has their indices in increasing order, and
    -1 past the last of fewer.

    Source: DeepSeek-V4 `inference/model.py`, `Indexer`; DeepSeek-V3.2-Exp has
    the same over tokens.
    - (C1) the cache has layers with overlapping windows; r is their ratio.
    - (C2) `query` is `[tokens, heads * index_dim]`, `weights`
      `[tokens, heads]`, and the result `[tokens, top_k]`.
    - (C3) `scale > 0`.
  }];
  let arguments = (ins Activations:$query, Activations:$weights,
                       PerToken:$positions, PerToken:$sequences,
                       DeepSeek_CompressedCacheType:$cache, Index:$index,
                       I64Attr:$heads, F64Attr:$scale);
  let results = (outs 2DTensorOf<[I32]>:$result);
  let assemblyFormat = [{
    $query `,` $weights `at` $positions `of` $sequences `in` $cache `[` $index
    `]` `heads` $heads `scale` $scale attr-dict `:` type($query) `,`
    type($weights) `,` type($positions) `,` type($cache) `->` type($result)
  }];
  let hasVerifier = 1;
}

def DeepSeek_CompressedAttentionOp : DeepSeek_Op<"compressed_attention",
    [MemoryEffects<[MemRead, MemWrite]>,
     AllTypesMatch<["positions", "sequences"]>]> {
  let summary = "Attention over a window of tokens and compressed entries";
  let description = [{
    Appends `key` of every token to the cache of layer `layer`, then attends:
    all heads of a token at position p share as keys, and as values, the rows
    k_j of its sequence's tokens at positions above p - `window` up to p, and,
    if `ratio` is not 0, the entries that it sees, those with
    w < (p + 1) / ratio, of the layer that is number `index` of those with this
    ratio; of them only `selected`, if it is given.

        result_h = sum_j e_j k_j / (exp(sinks[h] - M) + sum_j e_j)
        e_j = exp(query_h . k_j * scale - M)

    with M the largest of the scores and `sinks[h]`.

    Source: DeepSeek-V4 `inference/model.py`, `Attention`.
    - (C1) `query` and the result are `[tokens, heads * dim]`, `key`
      `[tokens, dim]` and `sinks` `[heads]`, for a cache of `dim`.
    - (C2) `ratio` is 0 or that of a layer of the cache; `selected` is
      `[tokens, n]` and given iff windows of that ratio overlap.
    - (C3) `heads`, `window` and `scale` are positive.
  }];
  let arguments = (ins Activations:$query, Activations:$key,
                       1DTensorOf<[F32]>:$sinks,
                       Optional<2DTensorOf<[I32]>>:$selected,
                       PerToken:$positions, PerToken:$sequences,
                       DeepSeek_CompressedCacheType:$cache, Index:$layer,
                       Index:$index, I64Attr:$heads, I64Attr:$window,
                       I64Attr:$ratio, F64Attr:$scale);
  let results = (outs Activations:$result);
  let assemblyFormat = [{
    $query `,` $key `sinks` $sinks (`selected` $selected^ `:` type($selected))?
    `at` $positions `of` $sequences `in` $cache `[` $layer `,` $index `]`
    `heads` $heads `window` $window `ratio` $ratio `scale` $scale attr-dict `:`
    type($query) `,` type($key) `,` type($sinks) `,` type($positions) `,`
    type($cache) `->` type($result)
  }];
  let hasVerifier = 1;
}

#endif // HADAL_DEEPSEEK_COMPRESSEDATTENTION_OPS
