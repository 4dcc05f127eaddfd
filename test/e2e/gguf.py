# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Writes GGUF files: the container, some of ggml's types, and what a converter does to a Hugging Face checkpoint. It shares
# no code with the compiler, and needs only NumPy.
"""Writes GGUF files from the tensors of Hugging Face checkpoints."""
import re
import struct

import numpy as np

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_PACK = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", I64: "<q", F64: "<d"}

# Name: id, elements and bytes of a block.
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22),
         "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144),
         "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "Q8_K": (15, 256, 292), "IQ4_NL": (20, 32, 18), "IQ4_XS": (23, 256, 136),
         "I32": (26, 1, 4), "BF16": (30, 1, 2), "MXFP4": (39, 32, 17)}


def kind_of(value):
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return U32
    if isinstance(value, float):
        return F32
    return STRING if isinstance(value, (str, bytes)) else ARRAY


def encode_string(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def encode_value(kind, value):
    """The bytes of a value without its type; an array is of the kind that its first element has."""
    if kind == STRING:
        return encode_string(value)
    if kind != ARRAY:
        return struct.pack(_PACK[kind], value)
    if isinstance(value, np.ndarray):
        inner = {"int32": I32, "uint32": U32, "float32": F32, "int64": I64}[value.dtype.name]
    else:
        inner = kind_of(value[0]) if value else U32
    return struct.pack("<IQ", inner, len(value)) + b"".join(encode_value(inner, v) for v in value)


def encode_key(name, value):
    """A value may be (kind, value), which says its type."""
    kind, value = value if isinstance(value, tuple) else (kind_of(value), value)
    return encode_string(name) + struct.pack("<I", kind) + encode_value(kind, value)


def file_bytes(keys, tensors, version=3, alignment=32):
    """The bytes of a file. Keys: name to value; tensors: name to (type, shape as PyTorch has it, bytes)."""
    infos, body = b"", bytearray()
    for name, (kind, shape, raw) in tensors.items():
        body += bytes(-len(body) % alignment)
        infos += encode_string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        infos += struct.pack("<IQ", TYPES[kind][0] if isinstance(kind, str) else kind, len(body))
        body += raw
    header = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(keys))
    header += b"".join(encode_key(name, value) for name, value in keys.items()) + infos
    return header + bytes(-len(header) % alignment) + bytes(body)


class _Reader:
    def __init__(self, data, at):
        self.data, self.at = data, at

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def text(self):
        size = self.take("Q")
        self.at += size
        return self.data[self.at - size:self.at].decode()

    def value(self, kind):
        if kind == ARRAY:
            inner, count = self.take("IQ")
            return [self.value(inner) for _ in range(count)]
        value = self.text() if kind == STRING else self.take(_PACK[kind][1])
        return bool(value) if kind == BOOL else value


def read_file(data, alignment=32):
    """The keys and tensors of a sound file of version 3, as `file_bytes` takes them."""
    reader = _Reader(data, 4)
    version, tensor_count, key_count = reader.take("IQQ")
    assert data[:4] == b"GGUF" and version == 3, data[:8]
    keys, entries, tensors = {}, {}, {}
    for _ in range(key_count):
        name = reader.text()
        keys[name] = reader.value(reader.take("I"))
    kinds = {number: (name, elements, size) for name, (number, elements, size) in TYPES.items()}
    for _ in range(tensor_count):
        name = reader.text()
        shape = tuple(reader.take("Q") for _ in range(reader.take("I")))[::-1]
        entries[name] = (*kinds[reader.take("I")], shape, reader.take("Q"))
    begin = reader.at + -reader.at % alignment
    for name, (kind, elements, size, shape, offset) in entries.items():
        assert offset % alignment == 0, (name, offset)
        raw = data[begin + offset:begin + offset + int(np.prod(shape)) // elements * size]
        tensors[name] = (kind, shape, bytes(raw))
    return keys, tensors


def is_same(found, value):
    """Whether a key that was read is the one that was to be written; numbers are rounded to f32."""
    if isinstance(value, float):
        return found == np.float32(value)
    return found == (list(value) if isinstance(value, np.ndarray) else value)


# Where the scale of a block is, and that of the minima, with how much larger it is for numbers around zero.
_SCALES = {"Q4_1": {0: 1, 2: -7.5}, "Q5_0": {0: 1}, "Q5_1": {0: 1, 2: -15.5}, "Q2_K": {80: 1, 82: 1.5}, "Q3_K": {108: 1},
           "Q4_K": {0: 1, 2: 7.5}, "Q5_K": {0: 1, 2: 15.5}, "IQ4_NL": {0: 1}, "IQ4_XS": {0: 1}}
_IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
_FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def decode(raw, kind):
    """What blocks, [blocks, bytes], stand for, [blocks, elements] in float64."""
    count = len(raw)

    def half(at):
        return raw[:, at:at + 2].copy().view(np.float16).astype(np.float64)

    def nibbles(at, size, run):
        """The low halves of each run of bytes, then the high ones."""
        runs = raw[:, at:at + size].reshape(count, -1, run)
        return np.stack([runs & 15, runs >> 4], axis=2).reshape(count, -1).astype(np.int64)

    def bits(at, size):
        """Bit i of every byte, then bit i + 1: [blocks, 8 * size]."""
        return np.stack([raw[:, at:at + size] >> i & 1 for i in range(8)], axis=1).reshape(count, -1).astype(np.int64)

    def pairs(at):
        """Codes of two bits: four to a byte of each half of 64 bytes."""
        runs = raw[:, at:at + 64].reshape(count, 2, 32)
        return np.stack([runs >> 2 * i & 3 for i in range(4)], axis=2).reshape(count, -1).astype(np.int64)

    def scaled(scales, codes):
        return np.repeat(scales, codes.shape[1] // scales.shape[1], axis=1) * codes

    if kind == "Q4_1":
        return scaled(half(0), nibbles(4, 16, 16)) + half(2)
    if kind in ("Q5_0", "Q5_1"):
        at = {"Q5_0": 2, "Q5_1": 4}[kind]
        codes = nibbles(at + 4, 16, 16) + 16 * np.unpackbits(raw[:, at:at + 4], axis=1, bitorder="little")
        return scaled(half(0), codes - 16) if kind == "Q5_0" else scaled(half(0), codes) + half(2)
    if kind == "Q2_K":
        return scaled(half(80) * (raw[:, :16] & 15), pairs(16)) - scaled(half(82) * (raw[:, :16] >> 4), np.ones((1, 256)))
    if kind == "Q3_K":
        low = np.concatenate([raw[:, 96:104] & 15, raw[:, 96:104] >> 4], axis=1)
        high = np.concatenate([raw[:, 104:108] >> 2 * i & 3 for i in range(4)], axis=1)
        return scaled(half(108) * ((low | high << 4).astype(np.int64) - 32), pairs(32) + 4 * bits(0, 32) - 4)
    if kind in ("Q4_K", "Q5_K"):
        first, second, third = (raw[:, at:at + 4] for at in (4, 8, 12))
        scales = np.concatenate([first & 63, third & 15 | first >> 6 << 4], axis=1)
        minima = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], axis=1)
        codes = nibbles(16, 128, 32) if kind == "Q4_K" else nibbles(48, 128, 32) + 16 * bits(16, 32)
        return scaled(half(0) * scales, codes) - scaled(half(2) * minima, np.ones((1, 256)))
    if kind == "IQ4_NL":
        return scaled(half(0), _IQ4[nibbles(2, 16, 16)])
    if kind == "IQ4_XS":
        low = np.stack([raw[:, 4:8] & 15, raw[:, 4:8] >> 4], axis=2).reshape(count, 8)
        high = raw[:, 2:4].copy().view("<u2") >> np.arange(0, 16, 2) & 3
        return scaled(half(0) * ((low | high << 4).astype(np.int64) - 32), _IQ4[nibbles(8, 128, 16)])
    if kind == "MXFP4":
        return scaled(np.exp2(raw[:, :1].astype(np.float64) - 127), _FP4[nibbles(1, 16, 16)])
    raise ValueError(f"unexpected type {kind}")


def make_up(values, kind):
    """Blocks of random codes whose numbers are about as large as values: (bytes, what they stand for in float64)."""
    elements, size = TYPES[kind][1:]
    blocks = values.reshape(-1, elements)
    wanted = np.abs(blocks).mean(axis=1, keepdims=True)
    raw = np.random.default_rng(blocks.size).integers(0, 256, (len(blocks), size), np.uint8)

    def set_scales(ratio):
        for at, factor in _SCALES.get(kind, {}).items():
            raw[:, at:at + 2] = (factor * ratio).astype(np.float16).view(np.uint8)
        if kind == "MXFP4":
            raw[:, :1] = (127 + np.rint(np.log2(ratio))).astype(np.uint8)

    set_scales(np.ones_like(wanted))
    set_scales(wanted / np.abs(decode(raw, kind)).mean(axis=1, keepdims=True).clip(1e-6))
    return raw.tobytes(), decode(raw, kind).reshape(values.shape)


def encode(values, kind):
    """Rounds to a type: (bytes, what they stand for in float64). Plain code, not the best rounding; some types get
    numbers that are only as large."""
    values = np.asarray(values, np.float64)
    if kind == "F32":
        single = values.astype("<f4")
        return single.tobytes(), single.astype(np.float64)
    if kind == "I32":
        whole = values.astype("<i4")
        return whole.tobytes(), whole.astype(np.float64)
    if kind == "F16":
        half = values.astype("<f2")
        return half.tobytes(), half.astype(np.float64)
    if kind == "BF16":
        bits = values.astype("<f4").view(np.uint32)
        short = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        return short.tobytes(), (short.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if kind in _SCALES or kind == "MXFP4":
        return make_up(values, kind)
    elements, size = TYPES[kind][1:]
    blocks = values.reshape(-1, elements)
    raw = np.zeros((len(blocks), size), np.uint8)
    most = np.abs(blocks).max(axis=1, keepdims=True)
    if kind == "Q8_0":
        scale = (most / 127).astype(np.float16)
        quants = np.rint(blocks / np.maximum(scale.astype(np.float64), 1e-30)).clip(-127, 127)
        raw[:, 2:] = quants.astype(np.int8).view(np.uint8)
        raw[:, :2] = scale.view(np.uint8)
    elif kind == "Q4_0":
        scale = (most / 7).astype(np.float16)
        quants = np.rint(blocks / np.maximum(scale.astype(np.float64), 1e-30)).clip(-8, 7)
        nibbles = (quants + 8).astype(np.uint8)
        raw[:, 2:] = nibbles[:, :16] | nibbles[:, 16:] << 4
        raw[:, :2] = scale.view(np.uint8)
    elif kind == "Q8_K":
        scale = (most / 127).astype("<f4")
        quants = np.rint(blocks / np.maximum(scale.astype(np.float64), 1e-30)).clip(-127, 127)
        raw[:, :4] = scale.view(np.uint8)
        raw[:, 4:260] = quants.astype(np.int8).view(np.uint8)
        raw[:, 260:] = quants.reshape(-1, 16, 16).sum(axis=2).astype("<i2").view(np.uint8)
    elif kind == "Q6_K":
        parts = blocks.reshape(-1, 16, 16)
        scale = (most / (31 * 100)).astype(np.float16)
        steps = np.rint(np.abs(parts).max(axis=2) / 31 / np.maximum(scale.astype(np.float64), 1e-30)).clip(1, 127)
        factor = scale.astype(np.float64) * steps
        quants = np.rint(parts / np.maximum(factor, 1e-30)[:, :, None]).clip(-32, 31)
        codes = (quants + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
        low, high = codes & 15, codes >> 4
        ql = np.stack([low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], axis=2)
        raw[:, :128] = ql.reshape(-1, 128)
        raw[:, 128:192] = (high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6).reshape(-1, 64)
        raw[:, 192:208] = steps.astype(np.int8).view(np.uint8)
        raw[:, 208:] = scale.view(np.uint8)
        return raw.tobytes(), (factor[:, :, None] * quants).reshape(values.shape)
    else:
        raise ValueError(f"unexpected type {kind}")
    return raw.tobytes(), (scale.astype(np.float64) * quants).reshape(values.shape)


_NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
          "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
          "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
          "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
          "self_attn.kv_b_proj": "attn_kv_b", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
          "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp", "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
          "mlp.shared_experts.up_proj": "ffn_up_shexp", "mlp.shared_experts.down_proj": "ffn_down_shexp",
          "self_attn.indexer.wq_b": "indexer.attn_q_b", "self_attn.indexer.wk": "indexer.attn_k",
          "self_attn.indexer.k_norm": "indexer.k_norm", "self_attn.indexer.weights_proj": "indexer.proj",
          # DeepSeek-V4.
          "attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "attn.wq_a": "attn_q_a", "attn.q_norm": "attn_q_a_norm",
          "attn.wq_b": "attn_q_b", "attn.wkv": "attn_kv", "attn.kv_norm": "attn_kv_a_norm", "attn.wo_a": "attn_output_a",
          "attn.wo_b": "attn_output_b", "attn.attn_sink": "attn_sinks", "attn.indexer.wq_b": "indexer.attn_q_b",
          "attn.indexer.weights_proj": "indexer.proj", "ffn.gate": "ffn_gate_inp", "ffn.gate.tid2eid": "ffn_gate_tid2eid",
          "ffn.shared_experts.w1": "ffn_gate_shexp", "ffn.shared_experts.w2": "ffn_down_shexp",
          "ffn.shared_experts.w3": "ffn_up_shexp",
          **{f"{old}.{part}": f"{new}_{part[1:] if part[0] == 'w' else part}" for part in ("wkv", "wgate", "ape", "norm")
             for old, new in (("attn.compressor", "attn_compressor"), ("attn.indexer.compressor", "indexer_compressor"))},
          **{f"hc_{where}_{part}": f"hc_{where}_{part}" for where in ("attn", "ffn") for part in ("fn", "base", "scale")}}
_TOP_NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
              "lm_head.weight": "output.weight", "embed.weight": "token_embd.weight", "norm.weight": "output_norm.weight",
              "head.weight": "output.weight", **{f"hc_head_{part}": f"output_hc_{part}.weight" for part in ("fn", "base", "scale")}}
_EXPERT_PARTS = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down", "w1": "gate", "w3": "up", "w2": "down"}
_ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "deepseek": "deepseek", "deepseek_v2": "deepseek2",
                  "deepseek_v3": "deepseek2", "deepseek_v32": "deepseek32", "deepseek_v4": "deepseek4"}


def new_name(name):
    """The name that a tensor has in a GGUF file."""
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    layer, rest = re.fullmatch(r"(?:model\.)?layers\.(\d+)\.(.+)", name).groups()
    if rest in ("mlp.gate.e_score_correction_bias", "ffn.gate.bias"):
        return f"blk.{layer}.exp_probs_b.bias"
    stem, suffix = rest.rsplit(".", 1) if rest.endswith((".weight", ".bias")) else (rest, "weight")
    return f"blk.{layer}.{_NAMES[stem]}.{suffix}"


def permute(values, heads):
    """Rows of each head from half-split to interleaved rotation; a bias has one column."""
    rows = values.reshape(heads, 2, len(values) // heads // 2, -1)
    return rows.swapaxes(1, 2).reshape(values.shape)


def unpermute(values, heads):
    rows = values.reshape(heads, len(values) // heads // 2, 2, -1)
    return rows.swapaxes(1, 2).reshape(values.shape)


def scaling_keys(config):
    scaling = config.get("rope_scaling") or {}
    more = {}
    if scaling.get("type") in ("linear", "yarn"):
        more.update({"rope.scaling.type": scaling["type"], "rope.scaling.factor": float(scaling["factor"])})
    if scaling.get("type") == "yarn":
        more["rope.scaling.original_context_length"] = scaling["original_max_position_embeddings"]
        if "mscale_all_dim" in scaling:
            more["rope.scaling.yarn_log_multiplier"] = 0.1 * scaling["mscale_all_dim"]
        more["rope.scaling.yarn_beta_fast"] = float(scaling["beta_fast"])
        more["rope.scaling.yarn_beta_slow"] = float(scaling["beta_slow"])
    return more


def keys_of_v4(config):
    """The same for DeepSeek-V4."""
    layers, hidden, limit = config["num_hidden_layers"], config["hidden_size"], config["swiglu_limit"] or 0.0
    more = {"block_count": layers, "context_length": config["max_position_embeddings"], "embedding_length": hidden,
            "attention.head_count": config["num_attention_heads"], "attention.head_count_kv": 1,
            "rope.freq_base": float(config["rope_theta"]), "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
            "expert_count": config["n_routed_experts"], "expert_used_count": config["num_experts_per_tok"],
            "expert_gating_func": 4, "attention.key_length": config["head_dim"], "attention.value_length": config["head_dim"],
            "rope.dimension_count": config["qk_rope_head_dim"], "attention.q_lora_rank": config["q_lora_rank"],
            "attention.sliding_window": config["sliding_window"], "expert_feed_forward_length": config["moe_intermediate_size"],
            "expert_shared_count": config["n_shared_experts"], "expert_weights_scale": float(config["routed_scaling_factor"]),
            "expert_weights_norm": config["norm_topk_prob"], "swiglu_clamp_exp": [float(limit)] * layers,
            "swiglu_clamp_shexp": [float(limit)] * layers, "attention.indexer.head_count": config["index_n_heads"],
            "attention.indexer.key_length": config["index_head_dim"], "attention.indexer.top_k": config["index_topk"],
            "attention.output_group_count": config["o_groups"], "attention.output_lora_rank": config["o_lora_rank"],
            "attention.compress_ratios": config["compress_ratios"],
            "attention.compress_rope_freq_base": float(config["compress_rope_theta"]),
            "hyper_connection.count": config["hc_mult"], "hyper_connection.sinkhorn_iterations": config["hc_sinkhorn_iters"],
            "hyper_connection.epsilon": float(config["hc_eps"]), "hash_layer_count": config["num_hash_layers"],
            "embedding_length_out": hidden * config["hc_mult"], **scaling_keys(config)}
    return {"general.architecture": "deepseek4", "general.type": "model", "general.name": "test",
            **{f"deepseek4.{key}": value for key, value in more.items()}}


def keys_of(config, is_split=False):
    """The keys that a converter writes for a config.json; is_split says that kv_b comes in halves."""
    name = _ARCHITECTURES[config["model_type"]]
    if name == "deepseek4":
        return keys_of_v4(config)
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    keys = {"general.architecture": name, "general.type": "model", "general.name": "test"}
    more = {"block_count": config["num_hidden_layers"], "context_length": config["max_position_embeddings"],
            "embedding_length": config["hidden_size"], "feed_forward_length": config["intermediate_size"],
            "attention.head_count": heads, "rope.freq_base": float(config["rope_theta"]),
            "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]), "vocab_size": config["vocab_size"]}
    if "kv_lora_rank" in config:
        nope, pe, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
        latent = config["kv_lora_rank"]
        more.update({"attention.kv_lora_rank": latent, "rope.dimension_count": pe,
                     "attention.head_count_kv": 1 if is_split else heads,
                     "attention.key_length": latent + pe if is_split else nope + pe,
                     "attention.value_length": latent if is_split else value})
        if is_split:
            more.update({"attention.key_length_mla": nope + pe, "attention.value_length_mla": value})
        if config["q_lora_rank"]:
            more["attention.q_lora_rank"] = config["q_lora_rank"]
    else:
        more.update({"attention.head_count_kv": config.get("num_key_value_heads") or heads, "rope.dimension_count": width})
        if config.get("head_dim"):
            more.update({"attention.key_length": width, "attention.value_length": width})
    if "n_routed_experts" in config:
        more.update({"leading_dense_block_count": config["first_k_dense_replace"],
                     "expert_count": config["n_routed_experts"], "expert_used_count": config["num_experts_per_tok"],
                     "expert_shared_count": config["n_shared_experts"],
                     "expert_feed_forward_length": config["moe_intermediate_size"],
                     "expert_weights_scale": float(config.get("routed_scaling_factor", 1.0))})
    if "kv_lora_rank" in config:
        more.update({"expert_weights_norm": config["norm_topk_prob"], "expert_group_count": config["n_group"],
                     "expert_group_used_count": config["topk_group"],
                     "expert_gating_func": 2 if config["scoring_func"] == "sigmoid" else 1})
    if "index_topk" in config:
        more.update({"attention.indexer.head_count": config["index_n_heads"], "attention.indexer.top_k": config["index_topk"],
                     "attention.indexer.key_length": config["index_head_dim"]})
    more.update(scaling_keys(config))
    keys.update({f"{name}.{key}": value for key, value in more.items()})
    return keys


def tokenizer_keys(vocab, pre="deepseek-llm"):
    """A byte-level vocabulary: two control tokens, the bytes, one merge, and fill."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in visible]
    spelled = {**{b: chr(b) for b in visible}, **{b: chr(256 + i) for i, b in enumerate(others)}}
    tokens = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", *(spelled[b] for b in range(256)), "he"]
    kinds = [3, 3] + [1] * 257 + [5] * (vocab - 259)
    tokens += [f"[PAD{i}]" for i in range(259, vocab)]
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens[:vocab],
            "tokenizer.ggml.token_type": np.array(kinds[:vocab], np.int32), "tokenizer.ggml.merges": ["h e"],
            "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.add_bos_token": True}


def llama3_factors(config):
    """What `rope_freqs.weight` holds: by how much each frequency is divided."""
    scaling, width = config["rope_scaling"], config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    frequencies = config["rope_theta"] ** (-np.arange(0, width, 2, np.float32) / width)
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clip(0, 1)
    return 1 / ((1 - kept) / scaling["factor"] + kept)


# What is F32 whatever matrices are.
_SINGLE = r"gate_inp\.weight$|hc_(attn|ffn)_|output_hc_|compressor_ape"


def convert(config, values, kind_of_tensor, is_split=False):
    """Tensors of a GGUF file, and what they hold under the old names.

    Values: name to float64; kind_of_tensor(new name, shape) is the type of a matrix. What is split is kv_b."""
    tensors, rounded, stacks = {}, {}, {}
    is_permuted = config["model_type"] in ("llama", "deepseek")
    counts = {"q": config["num_attention_heads"], "k": config.get("num_key_value_heads") or config["num_attention_heads"]}

    def add(name, value):
        kind = kind_of_tensor(name, value.shape) if value.ndim > 1 and not re.search(_SINGLE, name) else "F32"
        kind = "I32" if name.endswith("tid2eid.weight") else kind
        raw, value = encode(value, kind)
        tensors[name] = (kind, value.shape, raw)
        return value

    for name, value in values.items():
        expert = re.fullmatch(r"((?:model\.)?layers\.(\d+)\.(?:mlp|ffn)\.experts\.)(\d+)\.(\w+)\.weight", name)
        permuted = re.search(r"self_attn\.([qk])_proj\.(weight|bias)$", name) if is_permuted else None
        if expert:
            stacks.setdefault((expert[1], f"blk.{expert[2]}.ffn_{_EXPERT_PARTS[expert[4]]}_exps.weight"), {})[int(expert[3])] = name
        elif permuted:
            heads = counts[permuted[1]]
            rounded[name] = unpermute(add(new_name(name), permute(value, heads)), heads)
        elif is_split and name.endswith("kv_b_proj.weight"):
            heads, nope = config["num_attention_heads"], config["qk_nope_head_dim"]
            both, prefix = value.reshape(heads, -1, value.shape[1]), new_name(name)[:-len("kv_b.weight")]
            key = add(prefix + "k_b.weight", both[:, :nope].swapaxes(1, 2))
            rounded[name] = np.concatenate([key.swapaxes(1, 2), add(prefix + "v_b.weight", both[:, nope:])],
                                           axis=1).reshape(value.shape)
        else:
            rounded[name] = add(new_name(name), value)
    for (_, name), members in stacks.items():
        stack = add(name, np.stack([values[members[e]] for e in sorted(members)]))
        rounded.update({members[e]: stack[e] for e in members})
    if (config.get("rope_scaling") or {}).get("rope_type") == "llama3":
        raw = llama3_factors(config).astype("<f4")
        tensors["rope_freqs.weight"] = ("F32", raw.shape, raw.tobytes())
    return tensors, rounded


def write_split(folder, stem, keys, tensors, count):
    """Writes files stem-00001-of-0000N.gguf; only the first has the keys."""
    names = list(tensors)
    for i in range(count):
        some = {name: tensors[name] for name in names[i::count]}
        own = {"split.no": (U16, i), "split.count": (U16, count), "split.tensors.count": (I32, len(names))}
        (folder / f"{stem}-{i + 1:05}-of-{count:05}.gguf").write_bytes(file_bytes({**(keys if i == 0 else {}), **own}, some))
