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

def WindowAttention : Pass<"deepseek-window-attention", "::mlir::ModuleOp"> {
  let summary = "Lets attention see a window of the latest tokens";
  let description = [{
    Time and memory of a token then stop growing with the tokens before it: the
    KV pages of what no later token sees are used again, and kernels skip them.
    A token at position i sees position j if i - `tokens` < j <= i, or if
    j < `sink`; see `#deepseek.window`. Positions are not renumbered.

    Lossy for a model that was trained without such a window, and not by a
    rounding: what is out of the window is forgotten. The first tokens, on which
    softmax leaves the attention that it needs nowhere else, are worth keeping:
    4 are enough in Xiao et al. 2023, arXiv:2309.17453. Exact for sequences of
    no more than `tokens` tokens.

    ```mlir
    %o = deepseek.attention %q, %k, %v at .. heads 4 scale 0.25 : ..
    // becomes, with tokens=4096 sink=4
    %o = deepseek.attention %q, %k, %v at .. heads 4 scale 0.25
        window <tokens = 4096, sink = 4> : ..
    ```

    The same for `deepseek.latent_attention` and `deepseek.absorbed_attention`.

    Fails only if `tokens` is not positive or `sink` negative. Left as they are,
    with a remark: an attention with a window that is no wider; one that sees
    selected tokens (DeepSeek-V3.2); a model whose context is not longer than
    `tokens`. A wider window, and its sink, are
    replaced.

    Memory stops growing only if every attention has a window: the layers of a
    model share KV pages.
  }];
  let options = [
    Option<"tokens", "tokens", "int64_t", /*default=*/"0",
        "How many tokens a token sees, itself included">,
    Option<"sink", "sink", "int64_t", /*default=*/"0",
        "How many of the first tokens all see, too">];
  let statistics = [
    Statistic<"numWindowed", "num-windowed",
        "Number of attention ops that have this window now">,
    Statistic<"numDeclined", "num-declined",
        "Number of attention ops, or models, that were left as they are">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

//===----------------------------------------------------------------------===//
// Experts
//===----------------------------------------------------------------------===//

def OrderExperts : Pass<"deepseek-order-experts", "::mlir::ModuleOp"> {
  let summary = "Stores the experts that are chosen most beside one another";
  let description = [{
    Where weights are mapped, and memory does not hold them all, what is read
    often is then one range at the start of each weight, and what is hardly read
    is another. By the mass of each expert, `@statistics.ROUTER.mass`, falling.
    Exact, to the last bit: each token chooses the same experts, in the same
    order, and `map` says where they are.

    ```mlir
    deepseek.weight @experts.gate : tensor<16x64x256xbf16> {
      ..
      %2 = deepseek.select %0 by %1 axis 0 keep 16 groups 1 sorted
          : tensor<16x64x256xbf16>, tensor<16xf32> -> tensor<16x64x256xbf16>
      deepseek.yield %2 : tensor<16x64x256xbf16>
    }
    deepseek.weight @router.map : tensor<16xi32> {
      ..
      %1 = deepseek.rank %0 : tensor<16xf32> -> tensor<16xi32>
      deepseek.yield %1 : tensor<16xi32>
    }
    %e, %w = deepseek.router %l map %m : tensor<16xi32> by <.. experts = 16, ..> : ..
    ```

    Fails, and leaves a module that is to be thrown away, if the model has no
    router, or if there are no statistics, unless `assume`. Left as they are,
    with a remark: experts that are merged, that a table chooses, whose weights
    have other readers, or that `-deepseek-keep-stored` keeps.
  }];
  let options = [Option<"assume", "assume", "bool", /*default=*/"false",
      "Make statistics up that are not there: for models without weights">];
  let statistics = [
    Statistic<"numOrdered", "num-ordered",
        "Number of experts in layers that are ordered">,
    Statistic<"numDeclined", "num-declined",
        "Number of routers whose experts stay in their order">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

//===----------------------------------------------------------------------===//
// LoRA
//===----------------------------------------------------------------------===//

def MergeLoRA : Pass<"deepseek-merge-lora", "::mlir::ModuleOp"> {
  let summary = "Adds what adapters change to the recipes of weights";
  let description = [{
    A merged adapter costs nothing at run time: the weight is stored as the sum,
    which the packer computes while it streams. Exact where the weight is f32,
    which is what the importer makes of one that an adapter changes; a weight of
    f16 or bf16 stays so, and a remark says that the sum is rounded.

    ```mlir
    deepseek.weight @w : tensor<64x64xf32> { .. deepseek.yield %0 : .. }
    deepseek.weight @w.lora_a : tensor<4x64xf32> { .. }
    deepseek.weight @w.lora_b : tensor<64x4xf32> { .. }
    deepseek.lora @w down @w.lora_a up @w.lora_b scale 1.500000e+00
    // becomes
    deepseek.weight @w : tensor<64x64xf32> {
      ..
      %3 = deepseek.add_product %0, %2, %1 scale 1.500000e+00 : ..
      deepseek.yield %3 : tensor<64x64xf32>
    }
    ```

    Several adapters of one weight are added in the order of the module. Fails
    if a weight has a layout already. Weights that hold A and B are erased when
    nothing else uses them. Runs before all that cuts, rounds or packs weights.
  }];
  let statistics = [Statistic<"numMerged", "num-merged",
      "Number of changes that became part of a recipe">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

def AttachAdapters : Pass<"deepseek-attach-adapters", "::mlir::ModuleOp"> {
  let summary = "Puts what a sequence's adapter adds behind products";
  let description = [{
    Adapters that are kept at run time share one base in memory, and sequences
    that have chosen different ones, or none, share a step. Exact: the base's
    own product is left as it is, so that a sequence without an adapter is
    computed bit by bit as by a model that has none, whose gate and up are not
    joined.

    ```mlir
    deepseek.adapters @layers.0.w down @layers.0.w.a up @layers.0.w.b
    func.func private @layer(%x: .., %sequences: .., %w: tensor<96x64xbf16>) -> .. {
      %y = deepseek.linear %x, %w : ..
    // becomes
    func.func private @layer(%x: .., %sequences: .., %w: tensor<96x64xbf16>,
                             %a: tensor<2x8x64xf32>, %b: tensor<2x8x96xf32>) -> .. {
      %y = deepseek.linear %x, %w : ..
      %z = deepseek.adapt %y, %x, %a, %b of %sequences : ..
    ```

    and each call passes its layer's `@layers.N.w.a` and `@layers.N.w.b`. Fails
    if an adapter changes a weight that something else than deepseek.linear
    reads, or one in some layers alone. Runs before all that cuts or rounds.
  }];
  let statistics = [Statistic<"numAttached", "num-attached",
      "Number of products that adapters add to">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

//===----------------------------------------------------------------------===//
// Calibration
//===----------------------------------------------------------------------===//

def InsertProbes : Pass<"deepseek-insert-probes", "::mlir::ModuleOp"> {
  let summary = "Makes a model tell what its products read";
  let description = [{
    Exact: probes compute nothing. What is compiled with them hands its
    activations to the program around it, which sums up, by the name of each
    weight, what passes want to know:

    - for a product, the mean square of each column of its input; for experts,
      of the rows that chose each, and of what is between gate and up and down;
    - for a router, the sum of the weights with which each expert was chosen;
    - for a layer, 1 - cos of what it reads and what it makes: the block
      influence of Men et al. 2024, arXiv:2403.03853.

    ```mlir
    %y = deepseek.linear %x, %w : ..
    // becomes
    %y = deepseek.linear %x, %w : ..
    deepseek.probe moment 3 of %x count 0 layer %layer : ..
    ```

    With `gram`, for a product, the mean of the products of each two columns of
    its input, too, once for all weights that read the same, as a list of their
    names; not for those of routers.

    The module gets the names, as `deepseek.probes`. Fails if there is no
    `deepseek.model`, or if the sums of `gram` would take more than
    `max-gram-bytes`. Left out, with a remark: a weight without one name for all
    layers, as `layers.{}.NAME`.
  }];
  let options = [
    Option<"gram", "gram", "bool", /*default=*/"false",
        "Sum up products of each two columns, too">,
    Option<"maxGramBytes", "max-gram-bytes", "int64_t",
        /*default=*/"int64_t(8) << 30", "The most that these may take">];
  let statistics = [Statistic<"numProbes", "num-probes", "Number of probes">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect",
                           "::mlir::arith::ArithDialect"];
}

//===----------------------------------------------------------------------===//
// Pruning
//===----------------------------------------------------------------------===//

def GateLayers : Pass<"deepseek-gate-layers", "::mlir::ModuleOp"> {
  let summary = "Lets tokens skip layers that would change little of them";
  let description = [{
    Each token is judged by itself, so that it does not matter which others are
    in its step. Those that go through are gathered, computed as if there were
    no others, and put back; the others keep the state that they have. Keys and
    values are of all tokens, computed and cached for those that skip, too
    (FlexiDepth, Luo et al. 2025, arXiv:2503.23798, section 3.2), so that later
    tokens see what they would have seen. Gates skip a layer, or leave the model:
    who leaves before layer N goes through none from N on, and its state goes to
    the head, and, for keys and values, to the layers left out (Schuster et al.
    2022, arXiv:2207.07061, which calls it state propagation). There are two
    kinds of gates:

    - Trained: for each layer N that has a weight `@layers.N.skip_gate`,
      `[1, hidden]`, and maybe `@layers.N.skip_gate.bias`, `[1]`. A token x goes
      through if skip_gate . x + bias > 0, where a sigmoid of it is above a half
      (Mixture-of-Depths, Raposo et al. 2024, arXiv:2404.02258, section 3.5).
      It leaves before layer N if `@layers.N.exit_gate` says so alike.
    - Without training: for the `count` layers with the least
      `deepseek.block_influence` (Men et al. 2024, arXiv:2403.03853), the first
      not among them, and no two beside one another. A token skips one if the
      layer before it has turned its state by little: by no more than it does
      to `percent` percent of a text's tokens, which
      `@statistics.layers.N.influence.percentiles`, `[101]`, tells. So do those
      leave for which the layer before one in `exit-before` does as little, of
      which there are `exit-percent` percent: hidden states that are saturated,
      in the words of Schuster et al.

    ```mlir
    func.func private @layer_gated(%x, %p, %s, %cache, %i, .., %before, %t) {
      %score = deepseek.influence %before, %x : ..
      %rows = deepseek.select_rows %score above %t : tensor<1xf32> : ..
      %kept = deepseek.gather_rows %x, %rows : ..
      ..
      %o = deepseek.attention %q, %k, %v at %p of %s in %cache[%i] heads 4
          scale 0.25 queries at %pk of %sk : .. : ..
      ..
      %z = deepseek.scatter_rows %x, %y at %rows : ..
      return %z : ..
    }
    // With an exit before layer 2, layer 2 and each after it:
    %scores = deepseek.influence %x1, %x2 : ..
    %x3 = call @layer_gated(%x2, .., %scores, %t)
    %x4 = call @layer_gated(%x3, .., %scores, %t)
    ```

    Lossy, but for gates that let all tokens through: then exact.

    Fails, and leaves a module that is to be thrown away, if `count` layers
    cannot be chosen so, of which none may be before one in `exit-before`; if
    there are no statistics, unless `assume`; if `percent` is above 100; if
    there is no layer to leave before, or the one before it has a trained gate,
    since who skips it is changed by nothing; or if a layer has adapters, probes, attention that
    is not absorbed or over compressed entries.
  }];
  let options = [
    Option<"count", "count", "unsigned", /*default=*/"0",
        "How many layers get a gate without training">,
    Option<"percent", "percent", "unsigned", /*default=*/"50",
        "Of the tokens of a text, how many percent such a gate lets skip">,
    ListOption<"exitBefore", "exit-before", "unsigned",
        "Layers before which tokens leave the model, without training">,
    ListOption<"exitPercent", "exit-percent", "unsigned",
        "For each of them, how many percent of the tokens of a text leave">,
    Option<"assume", "assume", "bool", /*default=*/"false",
        "Make statistics up that are not there: for models without weights">];
  let statistics = [Statistic<"numGated", "num-gated",
      "Number of layers that have a gate">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect",
                           "::mlir::func::FuncDialect"];
}

def PruneLayers : Pass<"deepseek-prune-layers", "::mlir::ModuleOp"> {
  let summary = "Takes whole layers out of a model";
  let description = [{
    Lossy. Those go that change the least what they read, by the module's
    `deepseek.block_influence` (Men et al. 2024, arXiv:2403.03853, eq. 1): 1 -
    cos of what a layer reads and what it makes, a mean over a text. Where the
    module has none, with a remark, the deepest ones but the last (Gromov et al.
    2024, arXiv:2403.17887, section 4.4).

    ```mlir
    %1 = call @layer(%0, .., %cache, %c0, ..) : ..
    %2 = call @layer(%1, .., %cache, %c1, ..) : ..
    %3 = call @layer(%2, .., %cache, %c2, ..) : ..
    // becomes, for amount=1
    %1 = call @layer(%0, .., %cache, %c0, ..) : ..
    %3 = call @layer(%1, .., %cache, %c1, ..) : ..
    ```

    A percentage is of the model's parameters: layers go until at least as many
    are gone. The cache and the model have as many layers as are left; weights
    and functions that nothing reads any more are erased.

    Fails, and changes nothing, if no layer would be left; if `amount` is none;
    or if a call of the entry with the cache is not from activations to
    activations, with the number of its layer.
  }];
  let options = [Option<"amount", "amount", "std::string", /*default=*/"\"\"",
      "How much goes: a percentage, like 25%, or a number">];
  let statistics = [Statistic<"numRemoved", "num-removed",
      "Number of layers that are gone">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect",
                           "::mlir::arith::ArithDialect"];
}

def PruneExperts : Pass<"deepseek-prune-experts", "::mlir::ModuleOp"> {
  let summary = "Takes experts away to which tokens go the least";
  let description = [{
    Lossy. By the mass of each expert: the sum of the weights with which tokens
    of a text chose it, `@statistics.ROUTER.mass` where ROUTER is the router's
    weight. As many go of each layer and of each group, so that layers stay
    alike and a router chooses among equal groups.

    ```mlir
    deepseek.weight @experts.gate : tensor<16x64x256xbf16> { .. }
    // becomes, for amount=25% and four groups
    deepseek.weight @experts.gate : tensor<12x64x256xbf16> {
      ..
      %2 = deepseek.select %0 by %1 axis 0 keep 12 groups 4
          : tensor<16x64x256xbf16>, tensor<16xf32> -> tensor<12x64x256xbf16>
      deepseek.yield %2 : tensor<12x64x256xbf16>
    }
    ```

    The router's weight and its correction bias are cut alike. FP8 weights are,
    with their scales.

    Fails, and leaves a module that is to be thrown away, if the model has no
    router; if what is left is too little for `top_k`, or for the rule; if a
    number is no multiple of the groups; if there are no statistics, unless
    `assume`; if experts are merged already; or if a weight has other readers.
  }];
  let options = [Option<"amount", "amount", "std::string", /*default=*/"\"\"",
      "How much goes: a percentage, like 25%, or a number">,
    Option<"assume", "assume", "bool", /*default=*/"false",
        "Make statistics up that are not there: for models without weights">];
  let statistics = [Statistic<"numRemoved", "num-removed",
      "Number of experts that are gone, of all layers">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

def MergeExperts : Pass<"deepseek-merge-experts", "::mlir::ModuleOp"> {
  let summary = "Makes one expert of several that do much the same";
  let description = [{
    Lossy. Of each layer `count` experts are stored in place of all, each the
    mean of some, whose channels are matched before. Which they are, and how
    much each counts, `deepseek.merge_experts` says: by what experts make of the
    same rows, and by how much the text chose them, `@statistics.ROUTER.mass`;
    without statistics, with a remark, all alike.

    The router's weight and rule stay as they are, and so does each token's
    choice, among the experts of before; `map` says what they have become. Two
    that are one add up, so that the layer is the sum that it was, of fewer
    different terms. Rules with groups and a correction bias need no exception.

    ```mlir
    deepseek.weight @experts.gate : tensor<16x64x256xbf16> { .. }
    %e, %w = deepseek.router %l bias %b : tensor<16xf32> by <.. experts = 16, ..> : ..
    // becomes, for count=8
    deepseek.weight @experts.gate : tensor<8x64x256xbf16> {
      ..
      %3 = deepseek.merge_experts gate of %0, %1, %2 keep 8
          : tensor<16x64x256xbf16>, tensor<16x64x256xbf16>, tensor<16x256x64xbf16>
          -> tensor<8x64x256xbf16>
      deepseek.yield %3 : tensor<8x64x256xbf16>
    }
    deepseek.weight @router.map : tensor<16xi32> { .. }
    %e, %w = deepseek.router %l bias %b : tensor<16xf32> map %m : tensor<16xi32>
        by <.. experts = 16, ..> : ..
    ```

    FP8 experts become bf16, with a scale no more: a mean has no blocks of one
    scale. What is known of the inputs of experts, mean squares and products,
    becomes that of the merged ones, so that `-deepseek-quantize` rounds them by
    it.

    Fails, and leaves a module that is to be thrown away, if the model has no
    router; if `count` is not between 1 and one less than the experts; if a
    router has a map; or if a weight is an integer or has other readers. Left
    as they are, with a remark: experts that a table chooses
    (`deepseek.hash_router`).
  }];
  let options = [Option<"count", "count", "int64_t", /*default=*/"0",
      "Experts of a layer that are left">];
  let statistics = [Statistic<"numMerged", "num-merged",
      "Number of experts that are gone, of all layers">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

def PruneChannels : Pass<"deepseek-prune-channels", "::mlir::ModuleOp"> {
  let summary = "Narrows gated networks by their least channels";
  let description = [{
    Lossy. By what each channel between gate, up and down adds to the output
    (see `deepseek.importance`): its mean square over a text,
    `@statistics.DOWN.moment`, times the squares of the column of `down` that
    reads it. Without statistics, with a remark, by the column alone. Experts
    are narrowed, too, each by channels of its own.

    ```mlir
    deepseek.weight @gate : tensor<640x256xbf16> { .. }
    // becomes, for amount=25%
    deepseek.weight @gate : tensor<480x256xbf16> {
      ..
      %3 = deepseek.importance %1 moment %2 : tensor<640xf32> group 1
          : tensor<256x640xbf16> -> tensor<640xf32>
      %4 = deepseek.select %0 by %3 axis 0 keep 480 groups 1
          : tensor<640x256xbf16>, tensor<640xf32> -> tensor<480x256xbf16>
      deepseek.yield %4 : tensor<480x256xbf16>
    }
    ```

    What is left is a multiple of 32, rounded up, so that integers can have
    groups of it. Left as it is, with a remark: what would lose nothing then.

    Fails, and leaves a module that is to be thrown away, if no channel would be
    left; if a network has scales or biases, or shares its weights or its
    products.
  }];
  let options = [Option<"amount", "amount", "std::string", /*default=*/"\"\"",
      "How much goes: a percentage, like 25%, or a number">];
  let statistics = [Statistic<"numNarrowed", "num-narrowed",
      "Number of networks that are narrower">,
    Statistic<"numDeclined", "num-declined",
      "Number of networks that stay as wide">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

def PruneHeads : Pass<"deepseek-prune-heads", "::mlir::ModuleOp"> {
  let summary = "Takes heads of attention away";
  let description = [{
    Lossy. By what each head adds to the output (see `deepseek.importance`):
    the mean squares of what it makes, `@statistics.OUTPUT.moment`, times the
    squares of the columns of the output's weight that read it. Without
    statistics, with a remark, by the columns alone.

    ```mlir
    %o = deepseek.latent_attention %q, %c, %r, %kv_b at .. heads 4 ..
    // becomes, for amount=1
    %o = deepseek.latent_attention %q, %c, %r, %kv_b at .. heads 3 ..
    ```

    The weights of the query, `kv_b` and of the output are cut alike. The cache,
    which all heads share, stays as it is. Runs before
    `-deepseek-absorb-latent-attention`.

    Of `deepseek.attention`, heads of queries go, as many of each group that
    reads the same keys, and keys and their cache stay, too.

    Fails, and leaves a module that is to be thrown away, if there is no
    attention; if no head would go, or none be left; if each head of queries has
    keys of its own, or a number is no multiple of the heads of keys; or if the
    weights around it have scales, or other readers.
  }];
  let options = [Option<"amount", "amount", "std::string", /*default=*/"\"\"",
      "How much goes: a percentage, like 25%, or a number">];
  let statistics = [Statistic<"numRemoved", "num-removed",
      "Number of heads that are gone, of all layers">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

def ReduceActiveExperts : Pass<"deepseek-reduce-active-experts",
                               "::mlir::ModuleOp"> {
  let summary = "Lets every token choose fewer experts";
  let description = [{
    A decoded token then reads, and multiplies with, that many fewer. Lossy:
    the experts that were the last to be chosen do nothing. No weight changes.

    ```mlir
    %e, %w = deepseek.router %l by <.. top_k = 6, .. normalize = false, ..>
        : tensor<?x64xf32> -> tensor<?x6xi32>, tensor<?x6xf32>
    // becomes, for top-k=4
    %e, %w = deepseek.router %l by <.. top_k = 4, .. normalize = false, ..>
        renormalize_from 6 : tensor<?x64xf32> -> tensor<?x4xi32>, tensor<?x4xf32>
    ```

    A rule that normalizes gives those that are left all of the weight by
    itself. One that does not gets `renormalize_from`, so that they get that of
    those that go, too, unless `renormalize` is false: then the routed part of
    the layer's output shrinks.

    Fails, and changes nothing, if the model has no router; if `top-k` is less
    than 1 or more than what a router chooses now; or if anything but
    `deepseek.experts` reads what it chooses.
  }];
  let options = [
    Option<"topK", "top-k", "int64_t", /*default=*/"0",
        "Experts of a token, no more than now">,
    Option<"renormalize", "renormalize", "bool", /*default=*/"true",
        "Give the weight of the others to those that are left">];
  let statistics = [Statistic<"numReduced", "num-reduced",
      "Number of routers that choose fewer experts">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

//===----------------------------------------------------------------------===//
// Quantization
//===----------------------------------------------------------------------===//

def Quantize : Pass<"deepseek-quantize", "::mlir::ModuleOp"> {
  let summary = "Stores weights as integers with scales";
  let description = [{
    A weight of 8 or 4 bits is read in half or a quarter of the time, which is
    what a decoded token takes, and its integers are multiplied with those that
    the input is rounded to. Lossy: weights are rounded to nearest, group by
    group (see `deepseek.quantize`), and so are the inputs of the products that
    read them, to 8 bits (see `deepseek.linear`).

    ```mlir
    deepseek.weight @w : tensor<64x256xbf16> { .. }
    %w = deepseek.use_weight @w : tensor<64x256xbf16>
    %y = deepseek.linear %x, %w : ..
    // becomes
    deepseek.weight @w : tensor<64x256xi8> {
      ..
      %1 = deepseek.quantize %0 group 128 : tensor<64x256xbf16> -> tensor<64x256xi8>
      deepseek.yield %1 : tensor<64x256xi8>
    }
    deepseek.weight @w.scales : tensor<64x2xf16> {
      ..
      %1 = deepseek.quantize_scales %0 bits 8 : tensor<64x256xbf16> -> tensor<64x2xf16>
      deepseek.yield %1 : tensor<64x2xf16>
    }
    %w = deepseek.use_weight @w : tensor<64x256xi8>
    %s = deepseek.use_weight @w.scales : tensor<64x2xf16>
    %y = deepseek.linear %x, %w scales %s : tensor<64x2xf16> activation_group 128 : ..
    ```

    FP8 weights are multiplied by their scales in the recipe first. With
    statistics of a text, `@statistics.WEIGHT.moment` and
    `@statistics.WEIGHT.gram`, `method` says how they are used:

    - `rtn`: not at all; each weight becomes the nearest.
    - `imatrix`: the scale of a group is the one for which its error, weighted
      by the mean square of each input channel, is smallest; named after what
      llama.cpp calls such mean squares.
    - `awq`, `smoothquant`: as `imatrix`, after `-deepseek-scale-channels`.
    - `gptq`: so it is, and errors of a row make up for one another, by the
      second moments of the input (Frantar et al. 2023, arXiv:2210.17323).

    ```mlir
    %2 = deepseek.quantize %0 moment %1 : tensor<256xf32> group 32
        : tensor<64x256xbf16> -> tensor<64x256xi4>
    ```

    An argument of a function becomes two, and every call passes both. `activation_group` is
    the largest of 128, 64 and 32 that divides the groups of the op's weights.

    `scheme` is a list of items with commas between them, of which a later one
    wins. `CLASS=TYPE` sets one class:

    | class     | weights                                                       |
    | --------- | ------------------------------------------------------------- |
    | experts   | all three of `deepseek.experts`                               |
    | attention | of `deepseek.linear` that leads to an attention, or from one  |
    | ffn       | the same, to or from `deepseek.swiglu`                        |
    | shared    | those of `ffn` that read what a `deepseek.experts` reads      |
    | head      | of `deepseek.lm_head`, the embedding's table where it is tied |
    | heads     | of `deepseek.head_linear`: MLA's `kv_b`, cut in two           |
    | embedding | a table of `deepseek.embed` that nothing else reads           |

    Paths go through products, norms, splits and rotary embeddings, and end at
    an addition. Where there is none, the name of the weight decides: shared if
    it has `shared_expert` in it, attention for `attn` or `attention`, ffn for
    `mlp` or `ffn`.

    A type is `int8` (one scale a row), `int8-g32`, `int8-g64`, `int8-g128`, the
    same of `int6`, `int5` and `int4`, or `none`. A preset sets all classes but
    `heads` and `embedding`, which stay unless they are named: `int8` means int8-g128; `mixed`, int4-g32 for experts and int8-g128 for the
    rest; another type by itself, that type, but int8-g128 for the head where it
    has fewer than 8 bits: its rounding reaches the logits with nothing after it.

    Fails only if `scheme` or `method` cannot be read, or if a statistic is not
    of the shape of its weight. `heads` and `embedding`, of which nothing is
    gathered, are rounded to nearest by all methods. A weight without a
    statistic that the method wants, or with groups of more than 32768, does
    without, with a remark. A weight whose rows the group does not divide gets
    the largest smaller group of 128, 64 and 32 that does, with a remark that
    names it. Left as they are: norms, biases, routers, and weights that are
    integers; and, with a remark, rows of no multiple of 32; experts of which
    one matrix stays; a weight of unknown class, of several types, with an
    encoding or with another reader; an argument of a function that has unknown
    callers.

    Runs after `-deepseek-absorb-latent-attention`, which cuts weights, and
    before `-deepseek-pack-weights`.
  }];
  let options = [Option<"scheme", "scheme", "std::string", /*default=*/"\"int8\"",
      "What to store as what: int8, int4-g32, mixed, or a list like "
      "experts=int4-g32,attention=int8-g128">,
    Option<"method", "method", "std::string", /*default=*/"\"rtn\"",
      "How weights are rounded: rtn, imatrix, awq, smoothquant or gptq">];
  let statistics = [
    Statistic<"numQuantized", "num-quantized",
        "Number of weights that became integers">,
    Statistic<"numCalibrated", "num-calibrated",
        "Number of those that are rounded by statistics">,
    Statistic<"numDeclined", "num-declined",
        "Number of groups of weights that the scheme names and that stay">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

def ScaleChannels : Pass<"deepseek-scale-channels", "::mlir::ModuleOp"> {
  let summary = "Scales what products read so that rounding loses less";
  let description = [{
    Exact, and of no use by itself: a channel is divided by a power of two where
    it is made, and what reads it is multiplied by that; see
    `deepseek.channel_scales` for how it is chosen. Before
    `-deepseek-quantize`, with `bits` and `group-size` of its scheme, weights of
    channels that carry much then lose less (AWQ); with `strength`, the parts of
    rounding that inputs and weights have are evened out (SmoothQuant).

    ```mlir
    %h = deepseek.rms_norm %x, %n epsilon 1.0e-6 : ..
    %y = deepseek.linear %h, %w : ..
    // stay; the recipes become
    deepseek.weight @n : tensor<256xf32> {
      ..
      %s = deepseek.channel_scales of %1 by %2 bits 4 group 32 : ..
      %3 = deepseek.scale_channels %0 by %s axis 0 power -1 : ..
      deepseek.yield %3 : tensor<256xf32>
    }
    deepseek.weight @w : tensor<64x256xbf16> {
      ..
      %3 = deepseek.scale_channels %0 by %s axis 1 power 1 : ..
      deepseek.yield %3 : tensor<64x256xbf16>
    }
    ```

    Four places are rewritten: the weight of a norm and all products that read
    it; `up` and `down` of a gated network; of experts, each by scales of its
    own; and what makes values of attention and what reads what it gives, where
    query heads that share a value share its scales. Statistics of what is read change alike. Weights in f16 become f32.

    Fails only if an option is out of range. Left as they are, with a remark:
    channels without statistics (`@statistics.WEIGHT.moment`, with `strength`
    `.moment.max`); those that anything but a product reads; gated networks with
    a limit; and weights that are integers or FP8 or have other readers.
  }];
  let options = [
    Option<"bits", "bits", "int64_t", /*default=*/"4",
        "Integers that weights become, by whose error scales are chosen">,
    Option<"groupSize", "group-size", "int64_t", /*default=*/"0",
        "Elements of a row with one scale; 0 is all of them">,
    Option<"strength", "strength", "double", /*default=*/"-1",
        "From 0 to 1: how much of the range of inputs moves to weights; "
        "negative: by the error">];
  let statistics = [
    Statistic<"numScaled", "num-scaled", "Number of inputs that are scaled">,
    Statistic<"numDeclined", "num-declined",
        "Number of inputs that stay as they are">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

def KeepStored : Pass<"deepseek-keep-stored", "::mlir::ModuleOp"> {
  let summary = "Keeps integers of a checkpoint as they are stored";
  let description = [{
    Importers make f32 of weights that a checkpoint stores as integers. Where a
    product reads such a weight, this keeps the integers, their scales and what
    is subtracted: an eighth or a quarter of the bytes, which is what a decoded
    token takes. Exact: the numbers are the same, to the last bit, and so are
    those that they are multiplied by.

    ```mlir
    deepseek.weight @w : tensor<64x256xf32> {
      ..
      %1 = deepseek.dequantize_gguf q4_1 %0 : tensor<64x160xi8> -> tensor<64x256xf32>
      deepseek.yield %1 : tensor<64x256xf32>
    }
    %w = deepseek.use_weight @w : tensor<64x256xf32>
    %y = deepseek.linear %x, %w : ..
    // becomes
    deepseek.weight @w : tensor<64x256xui4> {
      ..
      %1 = deepseek.gguf_part codes of q4_1 %0 : tensor<64x160xi8> -> tensor<64x256xui4>
      deepseek.yield %1 : tensor<64x256xui4>
    }
    deepseek.weight @w.scales : tensor<64x8xf16> { .. }
    deepseek.weight @w.offsets : tensor<64x8xf16> { .. }
    %w = deepseek.use_weight @w : tensor<64x256xui4>
    ..
    %y = deepseek.linear %x, %w scales %s : tensor<64x8xf16> offsets %o : tensor<64x8xf16> : ..
    ```

    Recipes that end in `deepseek.dequantize_gguf` are kept, and those that end
    in `deepseek.dequantize` of integers in groups of a row; a zero point times
    its scale is an offset, which is exact for scales of 16 bits. Behind these,
    whole rows may be moved by `reshape`, `slice` and `transpose`, and matrices
    that `head_linear` reads may be transposed last: so both halves of an
    absorbed `kv_b` are kept. An argument of
    a function becomes two or three. A function that is called with weights of
    several kinds becomes one for each. What else reads a weight, as the
    embedding does of tied ones, has its f32 form beside.

    Never fails. Left as they are: what is integers already, weights whose
    groups are in no order, and, with a remark, experts whose three matrices are
    not alike, zero points with scales in f32, and transposed matrices whose
    columns are no multiple of 16 and of what a tile stores together.
  }];
  let statistics = [
    Statistic<"numKept", "num-kept", "Number of weights that stay integers">,
    Statistic<"numSpecialized", "num-specialized",
        "Number of functions made for weights of another kind">,
    Statistic<"numDeclined", "num-declined",
        "Number of weights and experts that become f32">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

def RoundActivations : Pass<"deepseek-round-activations", "::mlir::ModuleOp"> {
  let summary = "Decides whether inputs of products with weights are rounded";
  let description = [{
    With `type=int8` the inputs of every product with integer weights are
    rounded to 8 bits and a scale a group, so that integers are multiplied by
    integers: lossy. With `type=bf16` those of every product with bf16, f16 or
    FP8 weights are rounded to bf16, which processors multiply in pairs: lossy,
    too. With `type=f32` none are.

    ```mlir
    %y = deepseek.linear %x, %w scales %s : tensor<64x2xf16> : ..
    // becomes, for type=int8
    %y = deepseek.linear %x, %w scales %s : tensor<64x2xf16> activation_group 128 : ..
    ```

    The group is the largest of 128, 64, 32 and 16 that divides those of the
    op's weights. Fails only if `type` is another. Left as they are: inputs that
    are rounded already, for int8; those of integer weights, for bf16; and, with
    a remark, those of weights with groups of no multiple of 16, for int8, and
    of f32 weights and of an odd number of columns, for bf16.
  }];
  let options = [Option<"type", "type", "std::string", /*default=*/"\"int8\"",
      "int8, bf16 or f32">];
  let statistics = [
    Statistic<"numChanged", "num-changed", "Number of products that changed">,
    Statistic<"numDeclined", "num-declined",
        "Number of products whose inputs stay f32">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

def QuantizeCache : Pass<"deepseek-quantize-cache", "::mlir::ModuleOp"> {
  let summary = "Keeps keys and values, or latents, in fewer bits";
  let description = [{
    Sets the element of every `!deepseek.kv_cache`, so that a sequence takes a
    half or a quarter of the memory and of the time to read it. Lossy: what is
    appended is rounded, as the type says; what reads it computes in f32. For
    `int8`, a scale is that of a whole key or value of a head, and, of a latent,
    of the largest groups that have no columns of both its parts. Never fails
    but for an unknown `element`; a cache that is rounded already is left as it
    is.

    ```mlir
    func.func @f(%c: !deepseek.kv_cache<kind = latent, .., element = f32>)
    // becomes
    func.func @f(%c: !deepseek.kv_cache<kind = latent, .., element = i8, group = 64>)
    ```
  }];
  let options = [Option<"element", "element", "std::string",
      /*default=*/"\"bf16\"", "f32, which changes nothing, bf16, f16 or int8">];
  let dependentDialects = ["::hadal::deepseek::DeepSeekDialect"];
}

#endif // HADAL_PASSES
