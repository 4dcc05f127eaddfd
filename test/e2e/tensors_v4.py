# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The tensors of a DeepSeek-V4 checkpoint, drawn at random: their names, shapes, and how they are stored.
"""Writes the tensors of tiny DeepSeek-V4 models."""
import numpy as np

import reference


def attention(prefix, config, ratio):
    hidden, heads, dim = config["hidden_size"], config["num_attention_heads"], config["head_dim"]
    latent, groups, rank = config["q_lora_rank"], config["o_groups"], config["o_lora_rank"]
    tensors = {"wq_a.weight": ((latent, hidden), "linear"), "q_norm.weight": ((latent,), "norm"),
               "wq_b.weight": ((heads * dim, latent), "query"), "wkv.weight": ((dim, hidden), "query"), "kv_norm.weight": ((dim,), "norm"),
               "attn_sink": ((heads,), "bias"), "wo_a.weight": ((groups * rank, heads * dim // groups), "output"),
               "wo_b.weight": ((hidden, groups * rank), "output")}

    def compressor(name, width):
        columns = 2 * width if ratio == 4 else width
        tensors.update({f"{name}.wkv.weight": ((columns, hidden), "plain"), f"{name}.wgate.weight": ((columns, hidden), "plain"),
                        f"{name}.ape": ((ratio, columns), "bias"), f"{name}.norm.weight": ((width,), "norm")})

    if ratio:
        compressor("compressor", dim)
    if ratio == 4:
        index_heads, index_dim = config["index_n_heads"], config["index_head_dim"]
        tensors.update({"indexer.wq_b.weight": ((index_heads * index_dim, latent), "query"),
                        "indexer.weights_proj.weight": ((index_heads, hidden), "plain")})
        compressor("indexer.compressor", index_dim)
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def block(prefix, config, ratio, is_hash):
    hidden, streams = config["hidden_size"], config["hc_mult"]
    experts, width = config["n_routed_experts"], config["moe_intermediate_size"]
    tensors = {f"{prefix}.{norm}.weight": ((hidden,), "norm") for norm in ("attn_norm", "ffn_norm")}
    for name in ("hc_attn", "hc_ffn"):
        tensors.update({f"{prefix}.{name}_fn": (((2 + streams) * streams, streams * hidden), "hyper"),
                        f"{prefix}.{name}_base": (((2 + streams) * streams,), "bias"), f"{prefix}.{name}_scale": ((3,), "scale")})
    tensors.update(attention(f"{prefix}.attn", config, ratio))
    tensors[f"{prefix}.ffn.gate.weight"] = ((experts, hidden), "router")
    if is_hash:
        tensors[f"{prefix}.ffn.gate.tid2eid"] = ((config["vocab_size"], config["num_experts_per_tok"]), "table")
    else:
        tensors[f"{prefix}.ffn.gate.bias"] = ((experts,), "correction")
    for network in [f"experts.{e}" for e in range(experts)] + ["shared_experts"]:
        down = "expert_down" if network.startswith("experts") else "down"
        for part, shape, kind in (("w1", (width, hidden), "linear"), ("w3", (width, hidden), "linear"), ("w2", (hidden, width), down)):
            tensors[f"{prefix}.ffn.{network}.{part}.weight"] = (shape, kind)
    return tensors


def shapes(config):
    """The tensors of a checkpoint: name to (shape, what kind of numbers)."""
    hidden, streams, vocab = config["hidden_size"], config["hc_mult"], config["vocab_size"]

    def head(prefix):
        return {f"{prefix}fn": ((streams, streams * hidden), "hyper"), f"{prefix}base": ((streams,), "bias"), f"{prefix}scale": ((1,), "scale")}

    tensors = {"embed.weight": ((vocab, hidden), "embedding"), "head.weight": ((vocab, hidden), "head"), "norm.weight": ((hidden,), "norm"),
               **head("hc_head_")}
    layers = config["num_hidden_layers"]
    for layer in range(layers):
        tensors.update(block(f"layers.{layer}", config, config["compress_ratios"][layer], layer < config["num_hash_layers"]))
    for layer in range(config["num_nextn_predict_layers"]):
        prefix = f"mtp.{layer}"
        tensors.update({**block(prefix, config, config["compress_ratios"][layers + layer], False), **head(f"{prefix}.hc_head_")})
        tensors.update({f"{prefix}.{norm}.weight": ((hidden,), "norm") for norm in ("enorm", "hnorm", "norm")})
        tensors.update({f"{prefix}.{part}.weight": ((hidden, hidden), "linear") for part in ("e_proj", "h_proj")})
    return tensors


def powers_of_two(values):
    """Exponents, as bytes of E8M0, of numbers that are at least `values` and less than twice as large."""
    exponents = np.ceil(np.log2(np.maximum(values, 2.0**-100)))
    return (exponents + 127).astype(np.uint8), 2.0**exponents


def encode_e2m1(values):
    """Two numbers to a byte, the even column in its low bits."""
    middle = (reference.E2M1_VALUES[1:8] + reference.E2M1_VALUES[:7]) / 2
    codes = np.searchsorted(middle, np.abs(values)).astype(np.uint8) | np.where(np.signbit(values), 8, 0).astype(np.uint8)
    return codes[:, 0::2] | codes[:, 1::2] << 4


def random_tensors(config, dtype, rng, draw, encode, encode_e4m3):
    """Returns name to (element type, shape, bytes); of `dtype` FP8, matrices are as the release has them."""
    tensors = {}
    for name, (shape, kind) in sorted(shapes(config).items()):
        if kind == "table":
            rows = [rng.permutation(config["n_routed_experts"])[:shape[1]] for _ in range(shape[0])]
            tensors[name] = ("I64", shape, np.asarray(rows, "<i8").tobytes())
            continue
        values = draw(rng, shape, kind)
        is_block = dtype == "FP8" and kind in ("linear", "query", "output", "down", "expert_down")
        scale = name[:-len("weight")] + "scale"
        if is_block and ".ffn.experts." in name and config.get("expert_dtype") == "fp4":
            groups = values.reshape(shape[0], -1, 32)
            exponents, scales = powers_of_two(np.abs(groups).max(axis=-1) / 6)
            packed = encode_e2m1((groups / scales[..., None]).reshape(shape))
            tensors[name] = ("I8", packed.shape, packed.tobytes())
            tensors[scale] = ("F8_E8M0", exponents.shape, exponents.tobytes())
        elif is_block:
            rows, columns = (-(-n // 128) for n in shape)
            largest = [[np.abs(values[i * 128:(i + 1) * 128, j * 128:(j + 1) * 128]).max() for j in range(columns)] for i in range(rows)]
            exponents, scales = powers_of_two(np.asarray(largest) / 448)
            spread = scales.repeat(128, axis=0).repeat(128, axis=1)[:shape[0], :shape[1]]
            tensors[name] = ("F8_E4M3", shape, encode_e4m3(values / spread))
            tensors[scale] = ("F8_E8M0", exponents.shape, exponents.tobytes())
        else:
            is_single = kind in ("hyper", "bias", "scale", "correction")
            element = "F32" if is_single else "BF16" if dtype == "FP8" else dtype
            tensors[name] = (element, shape, encode(values, element))
    return tensors
