# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The DeepSeek family's forward pass in float64 NumPy: what compiled programs are compared with. Plain on purpose, with one
# function a concept, no cache and no batching. It shares no code with the compiler.
"""Reads a checkpoint and computes its logits in float64."""
import json
import math
import struct
from pathlib import Path

import numpy as np

# E4M3FN: 1-4-3 bits, bias 7, no infinity; 0x7f and 0xff are NaN.
_CODES = np.arange(256)
_MAGNITUDE = np.where((_CODES >> 3) & 15 == 0, (_CODES & 7) * 2.0**-9,
                      (8 + (_CODES & 7)) * 2.0**(((_CODES >> 3) & 15) - 10.0))
E4M3_VALUES = np.where(_CODES & 0x7F == 0x7F, np.nan, np.where(_CODES & 0x80, -_MAGNITUDE, _MAGNITUDE))
# E8M0: an exponent alone; 255 is NaN.
E8M0_VALUES = np.where(_CODES == 255, np.nan, 2.0**(np.minimum(_CODES, 254) - 127.0))
# E2M1: bit 3 is the sign.
E2M1_VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def decode(raw, dtype, shape):
    """The values of a safetensors element type, as float64."""
    if dtype == "F64":
        values = np.frombuffer(raw, "<f8")
    elif dtype == "F32":
        values = np.frombuffer(raw, "<f4")
    elif dtype == "F16":
        values = np.frombuffer(raw, "<f2")
    elif dtype == "BF16":
        values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype == "F8_E4M3":
        values = E4M3_VALUES[np.frombuffer(raw, np.uint8)]
    elif dtype == "F8_E8M0":
        values = E8M0_VALUES[np.frombuffer(raw, np.uint8)]
    elif dtype == "I8":
        values = np.frombuffer(raw, np.int8)
    elif dtype == "I64":
        values = np.frombuffer(raw, "<i8")
    else:
        raise ValueError(f"unexpected element type {dtype}")
    return values.astype(np.float64).reshape(shape)


def read_safetensors(path):
    data = Path(path).read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + size:]
    return {name: decode(body[slice(*t["data_offsets"])], t["dtype"], t["shape"]) for name, t in header.items()}


def read_checkpoint(folder):
    """Returns (config, tensors by name); an FP8 weight comes multiplied by its block scales."""
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    tensors = {}
    for name in files:
        tensors.update(read_safetensors(folder / name))
    suffix = "_scale_inv"
    for name in [n for n in tensors if n.endswith(".weight" + suffix)]:
        scale, weight = tensors.pop(name), tensors[name[:-len(suffix)]]
        rows, columns = config["quantization_config"]["weight_block_size"]
        spread = scale.repeat(rows, axis=0).repeat(columns, axis=1)
        tensors[name[:-len(suffix)]] = weight * spread[:weight.shape[0], :weight.shape[1]]
    for name in [n for n in tensors if n.endswith(".scale")]:  # DeepSeek-V4.
        scale, weight = tensors.pop(name), tensors[name[:-len("scale")] + "weight"]
        if ".ffn.experts." in name and config.get("expert_dtype") == "fp4":
            codes = weight.astype(int)
            weight = E2M1_VALUES[np.stack([codes & 15, codes >> 4 & 15], axis=-1)].reshape(len(weight), -1)
            rows, columns = 1, 32
        else:
            rows, columns = config["quantization_config"]["weight_block_size"]
        spread = scale.repeat(rows, axis=0).repeat(columns, axis=1)
        tensors[name[:-len("scale")] + "weight"] = weight * spread[:weight.shape[0], :weight.shape[1]]
    return config, tensors


def rms_norm(x, weight, epsilon):
    return weight * x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def multiply(x, tensors, name):
    """x times a matrix; rounded first, in float32, if the model has a grid (scale, zero point) for what the matrix multiplies."""
    if name + ".grid" in tensors:
        scale, zero = tensors[name + ".grid"]
        codes = np.clip(np.rint(x.astype(np.float32) / scale) + zero, -128, 127) - zero
        x = (codes * scale).astype(np.float64)
    return x @ tensors[name + ".weight"].T


def swiglu(x, tensors, prefix):
    gate, up = (multiply(x, tensors, f"{prefix}.{part}_proj") for part in ("gate", "up"))
    return multiply(silu(gate) * up, tensors, f"{prefix}.down_proj")


def rope_settings(config):
    """Both spellings: rope_theta beside rope_scaling, and rope_parameters with everything inside."""
    scaling = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    scaling["kind"] = scaling.get("rope_type", scaling.get("type", "default"))
    scaling["theta"] = float(scaling.get("rope_theta", config.get("rope_theta", 10000.0)))
    return scaling


def yarn_gain(scale, mscale):
    return 1.0 if scale <= 1 else 0.1 * mscale * math.log(scale) + 1.0


def rope_frequencies(scaling, dim):
    """Returns (angle per position of each pair, factor of cosine and sine)."""
    plain = scaling["theta"]**(-np.arange(0, dim, 2) / dim)
    kind = scaling["kind"]
    if kind == "default":
        return plain, 1.0
    factor = float(scaling["factor"])
    if kind == "linear":
        return plain / factor, 1.0
    original = float(scaling["original_max_position_embeddings"])
    if kind == "llama3":
        low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
        wavelength = 2 * np.pi / plain
        smooth = (original / wavelength - low) / (high - low)
        mixed = (1 - smooth) * plain / factor + smooth * plain
        return np.where(wavelength > original / low, plain / factor, np.where(wavelength < original / high, plain, mixed)), 1.0
    if kind == "yarn":

        def correction(rotations):
            return dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(scaling["theta"]))

        low = max(math.floor(correction(scaling.get("beta_fast", 32))), 0)
        high = min(math.ceil(correction(scaling.get("beta_slow", 1))), dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / ((high - low) or 0.001), 0, 1)
        frequencies = plain / factor * ramp + plain * (1 - ramp)
        mscale, mscale_all = scaling.get("mscale"), scaling.get("mscale_all_dim")
        if scaling.get("attention_factor") is not None:
            return frequencies, float(scaling["attention_factor"])
        if mscale and mscale_all:
            return frequencies, yarn_gain(factor, mscale) / yarn_gain(factor, mscale_all)
        return frequencies, yarn_gain(factor, 1.0)
    raise ValueError(f"unexpected rope type {kind}")


def rope(x, scaling, interleaved):
    """Rotates x [tokens, heads, dim] by the token's position. An interleaved pair is (2i, 2i+1), otherwise (i, i+dim/2)."""
    frequencies, gain = rope_frequencies(scaling, x.shape[-1])
    angle = np.arange(x.shape[0])[:, None, None] * frequencies
    cos, sin = np.cos(angle) * gain, np.sin(angle) * gain
    half = x.shape[-1] // 2
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    out = np.empty_like(x)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    if interleaved:
        out[..., 0::2], out[..., 1::2] = rotated
    else:
        out[..., :half], out[..., half:] = rotated
    return out


def window_of(config, layer):
    """(tokens that a token sees, first ones that it sees, too), or None. "_window" is what --window asked for."""
    if "_window" in config:
        return config["_window"]
    if not config.get("use_sliding_window"):
        return None
    types = config.get("layer_types")
    is_windowed = types[layer] == "sliding_attention" if types else layer >= config["max_window_layers"]
    return (config["sliding_window"], 0) if is_windowed else None


def round_cache(x, config, group):
    """What the KV cache keeps of x [.., columns]: "_kv" is what --kv asked for. Rounded from float32, as programs do."""
    element = config.get("_kv", "f32")
    single = x.astype(np.float32)
    if element == "f32":
        return x
    if element == "f16":
        return np.clip(single, -65504, 65504).astype(np.float16).astype(np.float64)
    if element == "bf16":
        bits = single.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    if element != "int8":
        raise ValueError(f"unexpected element of the cache: {element}")
    groups = single.reshape(*x.shape[:-1], -1, group)
    scale = np.abs(groups).max(axis=-1, keepdims=True) / np.float32(127)
    integers = np.rint(groups * np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0))
    return (integers.astype(np.float64) * scale).reshape(x.shape)


def attend(q, k, v, scale, window=None, selected=None):
    """Causal attention of q, k [tokens, heads, d] and v [tokens, heads, e]; returns [tokens, heads * e].

    selected [tokens, tokens] says which of the tokens up to its own each token sees."""
    tokens = q.shape[0]
    blocks = []
    # Some tokens at a time, and the keys that one of them sees, so that a long document fits into memory.
    for begin in range(0, tokens, 512):
        query, key = np.ogrid[begin:min(begin + 512, tokens), :tokens]
        seen = key <= query
        if window:
            seen = seen & ((key > query - window[0]) | (key < window[1]))
        if selected is not None:
            seen = seen & selected[query[:, 0]]
        keys = np.flatnonzero(seen.any(axis=0))
        scores = np.einsum("thd,shd->hts", q[query[:, 0]], k[keys]) * scale
        scores[:, ~seen[:, keys]] = -np.inf
        blocks.append(np.einsum("hts,she->the", softmax(scores), v[keys]))
    return np.concatenate(blocks).reshape(tokens, -1)


def attention(x, config, tensors, prefix, window):
    """Multi-head and grouped-query attention of Llama, Qwen2 and DeepSeek-MoE."""
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    dim = config.get("head_dim") or config["hidden_size"] // heads
    scaling = rope_settings(config)

    def project(name, count):
        y = multiply(x, tensors, f"{prefix}.{name}")
        bias = tensors.get(f"{prefix}.{name}.bias")
        return (y if bias is None else y + bias).reshape(-1, count, dim)

    q = rope(project("q_proj", heads), scaling, interleaved=False)
    k = rope(project("k_proj", kv_heads), scaling, interleaved=False)
    k, v = (round_cache(t, config, dim).repeat(heads // kv_heads, axis=1) for t in (k, project("v_proj", kv_heads)))
    return multiply(attend(q, k, v, dim**-0.5, window), tensors, f"{prefix}.o_proj")


def layer_norm(x, weight, bias, epsilon):
    centered = x - x.mean(axis=-1, keepdims=True)
    return weight * centered / np.sqrt((centered * centered).mean(axis=-1, keepdims=True) + epsilon) + bias


def select_keys(x, query_latent, config, tensors, prefix, margins):
    """The lightning indexer of V3.2: which tokens [tokens, tokens] each token sees."""
    heads, dim, pe = config["index_n_heads"], config["index_head_dim"], config["qk_rope_head_dim"]
    scaling, interleaved = rope_settings(config), config.get("indexer_rope_interleave", False)

    def rotate(y):  # The rotary part comes first here.
        return np.concatenate([rope(y[..., :pe], scaling, interleaved), y[..., pe:]], axis=-1)

    q = rotate((query_latent @ tensors[f"{prefix}.wq_b.weight"].T).reshape(-1, heads, dim))
    k = layer_norm(x @ tensors[f"{prefix}.wk.weight"].T, tensors[f"{prefix}.k_norm.weight"], tensors[f"{prefix}.k_norm.bias"], 1e-6)
    k = rotate(k[:, None])[:, 0]
    weights = x @ tensors[f"{prefix}.weights_proj.weight"].T
    scores = np.einsum("th,ths->ts", weights, np.maximum(np.einsum("thd,sd->ths", q, k), 0)) * (heads * dim)**-0.5
    selected = np.zeros(scores.shape, bool)
    for t in range(len(x)):
        count = min(t + 1, config["index_topk"])
        selected[t, margins.choose(scores[None, t, :t + 1], count, "index")[0]] = True
    return selected


def latent_attention(x, config, tensors, prefix, window, margins):
    """MLA of V2 and V3, in its expanded form; of V3.2, over the tokens that the indexer chooses."""
    heads, latent = config["num_attention_heads"], config["kv_lora_rank"]
    nope, pe, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    scaling = rope_settings(config)

    def weight(name):
        return tensors[f"{prefix}.{name}.weight"]

    selected = None
    if config.get("q_lora_rank") is None:
        q = x @ weight("q_proj").T
    else:
        query_latent = rms_norm(x @ weight("q_a_proj").T, weight("q_a_layernorm"), 1e-6)
        q = query_latent @ weight("q_b_proj").T
        if config["model_type"] == "deepseek_v32":
            selected = select_keys(x, query_latent, config, tensors, f"{prefix}.indexer", margins)
    q = q.reshape(-1, heads, nope + pe)
    q = np.concatenate([q[..., :nope], rope(q[..., nope:], scaling, interleaved=True)], axis=-1)

    compressed = x @ weight("kv_a_proj_with_mqa").T
    group = math.gcd(latent, pe)
    k_pe = round_cache(rope(compressed[:, None, latent:], scaling, interleaved=True), config, group)
    normed = rms_norm(compressed[:, :latent], weight("kv_a_layernorm"), 1e-6)
    expanded = round_cache(normed, config, group) @ weight("kv_b_proj").T
    expanded = expanded.reshape(-1, heads, nope + value)
    k = np.concatenate([expanded[..., :nope], k_pe.repeat(heads, axis=1)], axis=-1)

    scale = (nope + pe)**-0.5
    if scaling["kind"] != "default" and scaling.get("mscale_all_dim"):
        scale *= yarn_gain(scaling["factor"], scaling["mscale_all_dim"])**2
    return attend(q, k, expanded[..., nope:], scale, window, selected) @ weight("o_proj").T


class Margins:
    """The smallest distance, over all decisions of a run, between what was chosen and what was not."""

    def __init__(self):
        self.router = math.inf
        self.index = math.inf  # Of the indexer of V3.2.

    def choose(self, scores, count, kind="router"):
        """Indices of the largest `count` of each row, remembering by how much they won."""
        order = np.argsort(-scores, axis=-1, kind="stable")
        if count < scores.shape[-1]:
            ranked = np.take_along_axis(scores, order, axis=-1)
            last, next_ = ranked[:, count - 1], ranked[:, count]
            # Scores that ReLU made zero are so in float32, too, and the first of them come first.
            gaps = (last - next_)[(last != 0) | (next_ != 0)]
            setattr(self, kind, min(getattr(self, kind), float(gaps.min(initial=math.inf))))
        return order[:, :count]


def keep_best_groups(scores, groups, kept, best_of_group, masked, margins):
    tokens, experts = scores.shape
    rating = best_of_group(scores.reshape(tokens, groups, experts // groups))
    keep = np.zeros((tokens, groups), bool)
    np.put_along_axis(keep, margins.choose(rating, kept), True, axis=-1)
    return np.where(keep.repeat(experts // groups, axis=1), scores, masked)


def route(x, config, tensors, prefix, margins):
    """Returns (expert ids, weights), both [tokens, experts per token]."""
    count, scale = config["num_experts_per_tok"], config.get("routed_scaling_factor") or 1.0
    kind = config["model_type"]
    method = config.get("topk_method") or ("noaux_tc" if kind in ("deepseek_v3", "deepseek_v32") else "greedy")
    norm = config.get("norm_topk_prob", kind in ("deepseek_v3", "deepseek_v32"))
    logits = x @ tensors[f"{prefix}.gate.weight"].T
    if method == "noaux_tc":
        scores = 1 / (1 + np.exp(-logits))
        rated = scores + tensors[f"{prefix}.gate.e_score_correction_bias"]
        if config["n_group"] > 1:
            rated = keep_best_groups(rated, config["n_group"], config["topk_group"],
                                     lambda g: np.sort(g, axis=-1)[..., -2:].sum(axis=-1), -np.inf, margins)
    else:
        scores = rated = softmax(logits)
        if method == "group_limited_greedy":
            rated = keep_best_groups(rated, config["n_group"], config["topk_group"], lambda g: g.max(axis=-1), 0.0, margins)
    chosen = margins.choose(rated, count)
    weights = np.take_along_axis(scores, chosen, axis=-1)
    if norm and count > 1:
        weights = weights / (weights.sum(axis=-1, keepdims=True) + 1e-20)
        if method != "noaux_tc":
            return chosen, weights  # V1 and V2 scale or normalize, never both.
    return chosen, weights * scale


def mixture(x, config, tensors, prefix, margins):
    chosen, weights = route(x, config, tensors, prefix, margins)
    y = np.zeros_like(x)
    for expert in range(config["n_routed_experts"]):
        tokens, place = np.nonzero(chosen == expert)
        if len(tokens):
            y[tokens] += weights[tokens, place, None] * swiglu(x[tokens], tensors, f"{prefix}.experts.{expert}")
    if config.get("n_shared_experts"):
        y += swiglu(x, tensors, f"{prefix}.shared_experts")
    return y


def is_mixture(config, layer):
    return bool(config.get("n_routed_experts")) and layer >= config.get("first_k_dense_replace", 0) \
        and layer % config.get("moe_layer_freq", 1) == 0


def forward(config, tensors, tokens, margins=None):
    """Logits [tokens, vocabulary] of one sequence from its start."""
    margins = margins or Margins()
    if config["model_type"] == "deepseek_v4":
        import reference_v4  # Which imports this file.
        return reference_v4.forward(config, tensors, tokens, margins)
    epsilon = config.get("rms_norm_eps", 1e-6)
    mla = config["model_type"] in ("deepseek_v2", "deepseek_v3", "deepseek_v32")
    x = tensors["model.embed_tokens.weight"][np.asarray(tokens)]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        h = rms_norm(x, tensors[f"{prefix}.input_layernorm.weight"], epsilon)
        where = (config, tensors, f"{prefix}.self_attn", window_of(config, layer))
        x = x + (latent_attention(h, *where, margins) if mla else attention(h, *where))
        h = rms_norm(x, tensors[f"{prefix}.post_attention_layernorm.weight"], epsilon)
        if is_mixture(config, layer):
            x = x + mixture(h, config, tensors, f"{prefix}.mlp", margins)
        else:
            x = x + swiglu(h, tensors, f"{prefix}.mlp")
    tied = config.get("tie_word_embeddings", False)
    return multiply(rms_norm(x, tensors["model.norm.weight"], epsilon), tensors, "model.embed_tokens" if tied else "lm_head")


def greedy(config, tensors, prompt, count, margins=None):
    """Returns (the next `count` tokens, the smallest lead of a winner, as a share of the largest |logit|)."""
    tokens, lead = list(prompt), math.inf
    for _ in range(count):
        logits = forward(config, tensors, tokens, margins)[-1]
        second, first = np.sort(logits)[-2:]
        lead = min(lead, float((first - second) / np.abs(logits).max()))
        tokens.append(int(np.argmax(logits)))
    return tokens[len(prompt):], lead
