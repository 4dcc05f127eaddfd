# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# DeepSeek-V4's forward pass in float64 NumPy: hyper-connections, attention over a window and compressed entries, and experts chosen
# by scores or by token. Its tensors have the names of the release.
"""Computes the logits of a DeepSeek-V4 checkpoint in float64."""
import numpy as np

from reference import rms_norm, rope_frequencies, rope_settings, silu, softmax

OVERLAPPING_RATIO = 4  # Windows of this many tokens overlap, and have an indexer.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def unit_norm(x, epsilon):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon)


def rotate(x, positions, scaling, dim, inverse=False):
    """Rotates the last `dim` elements of x [tokens, .., head] by pairs (2i, 2i+1); cosine and sine are not scaled."""
    frequencies, _ = rope_frequencies(scaling, dim)
    angle = np.asarray(positions)[:, None] * frequencies * (-1 if inverse else 1)
    angle = angle.reshape(angle.shape[:1] + (1,) * (x.ndim - 2) + angle.shape[1:])
    out = x.copy()
    first, second = x[..., -dim::2], x[..., 1 - dim::2]
    out[..., -dim::2] = first * np.cos(angle) - second * np.sin(angle)
    out[..., 1 - dim::2] = second * np.cos(angle) + first * np.sin(angle)
    return out


def hyper_mix(streams, tensors, prefix, config):
    """Returns (pre, post, comb): how streams [tokens, m, hidden] are read, and what becomes of them."""
    tokens, m, _ = streams.shape
    flat = unit_norm(streams.reshape(tokens, -1), config["rms_norm_eps"])
    mixed = flat @ tensors[f"{prefix}_fn"].T
    base, scale, epsilon = tensors[f"{prefix}_base"], tensors[f"{prefix}_scale"], config["hc_eps"]
    pre = sigmoid(mixed[:, :m] * scale[0] + base[:m]) + epsilon
    if mixed.shape[1] == m:
        return pre, None, None
    post = 2 * sigmoid(mixed[:, m:2 * m] * scale[1] + base[m:2 * m])
    comb = softmax((mixed[:, 2 * m:] * scale[2] + base[2 * m:]).reshape(tokens, m, m)) + epsilon
    comb = comb / (comb.sum(axis=1, keepdims=True) + epsilon)
    for _ in range(config["hc_sinkhorn_iters"] - 1):
        comb = comb / (comb.sum(axis=2, keepdims=True) + epsilon)
        comb = comb / (comb.sum(axis=1, keepdims=True) + epsilon)
    return pre, post, comb


def hyper_connect(streams, tensors, prefix, config, sublayer):
    pre, post, comb = hyper_mix(streams, tensors, prefix, config)
    y = sublayer(np.einsum("tj,tjd->td", pre, streams))
    return post[:, :, None] * y[:, None, :] + np.einsum("tjk,tjd->tkd", comb, streams)


def compress(x, tensors, prefix, ratio, scaling, config):
    """Entries [windows, dim], one for each complete window of `ratio` tokens."""
    windows = len(x) // ratio
    overlaps = ratio == OVERLAPPING_RATIO
    values = x @ tensors[f"{prefix}.wkv.weight"].T
    gates = x @ tensors[f"{prefix}.wgate.weight"].T + tensors[f"{prefix}.ape"][np.arange(len(x)) % ratio]
    dim = values.shape[1] // (2 if overlaps else 1)
    values, gates = (t[:windows * ratio].reshape(windows, ratio, t.shape[1]) for t in (values, gates))
    if overlaps:
        before = np.full((1, ratio, dim), 0.0), np.full((1, ratio, dim), -np.inf)
        values, gates = (np.concatenate([np.concatenate([first, t[:-1, :, :dim]])[:windows], t[:, :, dim:]], axis=1)
                         for first, t in zip(before, (values, gates)))
    weights = np.exp(gates - gates.max(axis=1, keepdims=True, initial=-np.inf))
    entries = (weights / weights.sum(axis=1, keepdims=True) * values).sum(axis=1)
    entries = rms_norm(entries, tensors[f"{prefix}.norm.weight"], config["rms_norm_eps"])
    return rotate(entries, np.arange(windows) * ratio, scaling, config["qk_rope_head_dim"])


def select(x, q_latent, tensors, prefix, scaling, config, margins):
    """Which entries each token attends to, [tokens, windows], by the indexer."""
    tokens, ratio = len(x), OVERLAPPING_RATIO
    keys = compress(x, tensors, f"{prefix}.compressor", ratio, scaling, config)
    heads, dim = config["index_n_heads"], config["index_head_dim"]
    q = (q_latent @ tensors[f"{prefix}.wq_b.weight"].T).reshape(tokens, heads, dim)
    q = rotate(q, np.arange(tokens), scaling, config["qk_rope_head_dim"])
    weights = x @ tensors[f"{prefix}.weights_proj.weight"].T * dim**-0.5 * heads**-0.5
    scores = np.einsum("th,thw->tw", weights, np.maximum(np.einsum("thd,wd->thw", q, keys), 0))
    chosen = np.zeros(scores.shape, bool)
    for t in range(tokens):
        visible = (t + 1) // ratio
        best = margins.choose(scores[t:t + 1, :visible], min(config["index_topk"], visible))[0] if visible else []
        chosen[t, best] = True
    return chosen


def attention(x, config, tensors, prefix, ratio, margins):
    tokens, heads, dim = len(x), config["num_attention_heads"], config["head_dim"]
    epsilon, rope_dim, positions = config["rms_norm_eps"], config["qk_rope_head_dim"], np.arange(len(x))
    scaling = rope_settings(config) if ratio else {"kind": "default"}
    scaling["theta"] = float(config["compress_rope_theta" if ratio else "rope_theta"])

    def weight(name):
        return tensors[f"{prefix}.{name}.weight"]

    q_latent = rms_norm(x @ weight("wq_a").T, weight("q_norm"), epsilon)
    q = unit_norm((q_latent @ weight("wq_b").T).reshape(tokens, heads, dim), epsilon)
    q = rotate(q, positions, scaling, rope_dim)
    keys = rotate(rms_norm(x @ weight("wkv").T, weight("kv_norm"), epsilon), positions, scaling, rope_dim)
    distance = positions[:, None] - positions[None, :]
    seen = (distance >= 0) & (distance < config["sliding_window"])
    if ratio:
        entries = compress(x, tensors, f"{prefix}.compressor", ratio, scaling, config)
        if ratio == OVERLAPPING_RATIO:
            chosen = select(x, q_latent, tensors, f"{prefix}.indexer", scaling, config, margins)
        else:
            chosen = np.arange(len(entries))[None, :] < (positions[:, None] + 1) // ratio
        keys, seen = np.concatenate([keys, entries]), np.concatenate([seen, chosen], axis=1)
    scores = np.einsum("thd,sd->hts", q, keys) * dim**-0.5
    scores = np.where(seen, scores, -np.inf)
    sinks = np.broadcast_to(tensors[f"{prefix}.attn_sink"][:, None, None], (heads, tokens, 1))
    shares = softmax(np.concatenate([scores, sinks], axis=-1))[..., :-1]
    out = rotate(np.einsum("hts,sd->thd", shares, keys), positions, scaling, rope_dim, inverse=True)
    groups, rank = config["o_groups"], config["o_lora_rank"]
    out = np.einsum("tgi,gri->tgr", out.reshape(tokens, groups, -1), weight("wo_a").reshape(groups, rank, -1))
    return out.reshape(tokens, -1) @ weight("wo_b").T


def swiglu(x, config, tensors, prefix):
    limit = config.get("swiglu_limit") or np.inf
    gate, up = (x @ tensors[f"{prefix}.{part}.weight"].T for part in ("w1", "w3"))
    return (silu(np.minimum(gate, limit)) * np.clip(up, -limit, limit)) @ tensors[f"{prefix}.w2.weight"].T


def mixture(x, tokens, config, tensors, prefix, margins):
    scores = np.sqrt(np.logaddexp(0, x @ tensors[f"{prefix}.gate.weight"].T))
    table = tensors.get(f"{prefix}.gate.tid2eid")
    if table is not None:
        chosen = table[tokens].astype(int)
    else:
        chosen = margins.choose(scores + tensors[f"{prefix}.gate.bias"], config["num_experts_per_tok"])
    weights = np.take_along_axis(scores, chosen, axis=-1)
    if config.get("norm_topk_prob", True):
        weights = weights / (weights.sum(axis=-1, keepdims=True) + 1e-20)
    weights = weights * config["routed_scaling_factor"]
    y = swiglu(x, config, tensors, f"{prefix}.shared_experts")
    for expert in range(config["n_routed_experts"]):
        rows, place = np.nonzero(chosen == expert)
        if len(rows):
            y[rows] += weights[rows, place, None] * swiglu(x[rows], config, tensors, f"{prefix}.experts.{expert}")
    return y


def forward(config, tensors, tokens, margins):
    """Logits [tokens, vocabulary] of one sequence from its start."""
    epsilon, tokens = config["rms_norm_eps"], np.asarray(tokens)
    streams = tensors["embed.weight"][tokens][:, None, :].repeat(config["hc_mult"], axis=1)
    for layer in range(config["num_hidden_layers"]):
        prefix, ratio = f"layers.{layer}", config["compress_ratios"][layer]
        streams = hyper_connect(
            streams, tensors, f"{prefix}.hc_attn", config, lambda u: attention(
                rms_norm(u, tensors[f"{prefix}.attn_norm.weight"], epsilon), config, tensors, f"{prefix}.attn", ratio, margins))
        streams = hyper_connect(
            streams, tensors, f"{prefix}.hc_ffn", config, lambda u: mixture(
                rms_norm(u, tensors[f"{prefix}.ffn_norm.weight"], epsilon), tokens, config, tensors, f"{prefix}.ffn", margins))
    pre, _, _ = hyper_mix(streams, tensors, "hc_head", config)
    return rms_norm(np.einsum("tj,tjd->td", pre, streams), tensors["norm.weight"], epsilon) @ tensors["head.weight"].T
