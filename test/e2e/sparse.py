# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Checkpoints of real sizes that take no disk: their tensors are a hole in the file, which reads as zeros.
"""Writes sparse safetensors checkpoints."""
import json
import os
import struct
import sys

sys.dont_write_bytecode = True
import make_cases

# DeepSeek-V3, cut to its first layer, which is dense: an embedding and a head of 1.9 GB each, and FP8 matrices.
DEEPSEEK_V3 = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 129280,
               "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 1,
               "first_k_dense_replace": 1, "moe_layer_freq": 1, "n_routed_experts": 256, "n_shared_experts": 1,
               "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "topk_method": "noaux_tc", "scoring_func": "sigmoid",
               "norm_topk_prob": True, "routed_scaling_factor": 2.5, "num_attention_heads": 128, "num_key_value_heads": 128,
               "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
               "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000, "rope_scaling": None,
               "max_position_embeddings": 4096, "attention_bias": False, "tie_word_embeddings": False, "bos_token_id": 0,
               "eos_token_id": 1, "torch_dtype": "bfloat16", "quantization_config": make_cases.FP8}

# The layers of DeepSeek-Coder-6.7B, two of them.
CODER_6_7B = make_cases.llama(vocab_size=32256, hidden_size=4096, intermediate_size=11008, num_attention_heads=32,
                              num_key_value_heads=32)

BYTES = {"F32": 4, "BF16": 2, "F8_E4M3": 1}


def tensors(config):
    """Yields (name, element type, shape), those of an FP8 checkpoint if config has FP8's quantization_config."""
    for name, (shape, kind) in sorted(make_cases.shapes(config).items()):
        if "quantization_config" in config and len(shape) == 2 and kind not in ("embedding", "head", "router"):
            yield name, "F8_E4M3", shape
            yield name + "_scale_inv", "F32", tuple(-(-n // 128) for n in shape)
        else:
            yield name, "F32" if kind == "correction" else "BF16", shape


def write_tensors(path, tensors):
    """Writes (name, element type, shape) as a hole; returns the bytes of all."""
    header, end = {}, 0
    for name, dtype, shape in tensors:
        size = BYTES[dtype]
        for n in shape:
            size *= n
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        os.truncate(file.fileno(), 8 + len(text) + end)
    return end


def write_model(folder, config):
    """Returns the bytes of all tensors."""
    make_cases.write_json(folder / "config.json", config)
    return write_tensors(folder / "model.safetensors", tensors(config))


def statistics(config):
    """Yields what a calibration would know of a DeepSeek-V3, but for products of channels."""
    hidden, inner, experts = config["hidden_size"], config["moe_intermediate_size"], config["n_routed_experts"]
    heads = config["num_attention_heads"]
    attention = {"q_a_proj": hidden, "kv_a_proj_with_mqa": hidden, "q_b_proj": config["q_lora_rank"],
                 "o_proj": heads * config["v_head_dim"]}
    for layer in range(config["num_hidden_layers"]):
        name, moments = f"layers.{layer}", {f"self_attn.{key}": (n,) for key, n in attention.items()}
        if layer < config["first_k_dense_replace"]:
            moments |= {"mlp.gate_proj": (hidden,), "mlp.up_proj": (hidden,), "mlp.down_proj": (config["intermediate_size"],)}
        else:
            for part, n in (("gate_proj", hidden), ("up_proj", hidden), ("down_proj", inner)):
                moments |= {f"mlp.experts.{part}": (experts, n), f"mlp.shared_experts.{part}": (n,)}
            yield f"{name}.mlp.gate.mass", "F32", (experts,)
            yield f"{name}.mlp.gate.mass.count", "F32", (experts,)
        for key, shape in moments.items():
            yield f"{name}.{key}.moment", "F32", shape
            yield f"{name}.{key}.moment.count", "F32", shape[:-1] or (1,)
        yield f"{name}.influence", "F32", (1,)
        yield f"{name}.influence.percentiles", "F32", (101,)
    yield "lm_head.moment", "F32", (hidden,)
    yield "lm_head.moment.count", "F32", (1,)
