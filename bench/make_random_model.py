#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes a Hugging Face folder with random bf16 weights of a published shape.

    bench/make_random_model.py --shape deepseek-coder-1.3b-base --out /tmp/coder-1.3b

Speed does not depend on what the weights are; this lets anyone measure a model
of a given shape without its checkpoint. Shapes are the folders of
test/lib/Import/Inputs, each with the published config.json; --layers keeps only
the first N layers. Needs NumPy and as much disk as the weights take.
"""
import argparse
import json
import shutil
import struct
import sys
from pathlib import Path

try:
    import numpy as np
except ImportError:
    sys.exit("make_random_model.py: NumPy is needed (Debian: python3-numpy)")

SHAPES = Path(__file__).resolve().parent.parent / "test/lib/Import/Inputs"


def tensor_shapes(config):
    """Yields (name, shape) of every tensor that the published files have."""
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    is_mla = config.get("kv_lora_rank") is not None
    experts = config.get("n_routed_experts")
    yield "model.embed_tokens.weight", (vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        attention = prefix + "self_attn."
        if is_mla:
            nope, rope = config["qk_nope_head_dim"], config["qk_rope_head_dim"]
            value, rank = config["v_head_dim"], config["kv_lora_rank"]
            if config.get("q_lora_rank"):
                q_rank = config["q_lora_rank"]
                yield attention + "q_a_proj.weight", (q_rank, hidden)
                yield attention + "q_a_layernorm.weight", (q_rank,)
                yield attention + "q_b_proj.weight", (heads * (nope + rope), q_rank)
            else:
                yield attention + "q_proj.weight", (heads * (nope + rope), hidden)
            yield attention + "kv_a_proj_with_mqa.weight", (rank + rope, hidden)
            yield attention + "kv_a_layernorm.weight", (rank,)
            yield attention + "kv_b_proj.weight", (heads * (nope + value), rank)
            yield attention + "o_proj.weight", (hidden, heads * value)
        else:
            for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
                yield attention + f"{name}_proj.weight", (rows * head_dim, hidden)
                if config["model_type"] == "qwen2":
                    yield attention + f"{name}_proj.bias", (rows * head_dim,)
            yield attention + "o_proj.weight", (hidden, heads * head_dim)
        is_moe = (experts and layer >= config.get("first_k_dense_replace", 0)
                  and layer % config.get("moe_layer_freq", 1) == 0)
        feed_forward = {prefix + "mlp.": config["intermediate_size"]}
        if is_moe:
            inner = config["moe_intermediate_size"]
            feed_forward = {prefix + f"mlp.experts.{e}.": inner for e in range(experts)}
            if config.get("n_shared_experts"):
                feed_forward[prefix + "mlp.shared_experts."] = inner * config["n_shared_experts"]
            yield prefix + "mlp.gate.weight", (experts, hidden)
            if config.get("topk_method") == "noaux_tc":
                yield prefix + "mlp.gate.e_score_correction_bias", (experts,)
        for name, inner in feed_forward.items():
            yield name + "gate_proj.weight", (inner, hidden)
            yield name + "up_proj.weight", (inner, hidden)
            yield name + "down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    if not config.get("tie_word_embeddings", False):
        yield "lm_head.weight", (vocab, hidden)


def random_bf16(random, shape):
    """Normal numbers of standard deviation 1/sqrt(columns), or 1 for norms."""
    if len(shape) == 1:
        return np.full(shape, 0x3F80, dtype=np.uint16)
    # A block of random numbers is repeated: making 10^9 of them takes minutes.
    count = int(np.prod(shape))
    block = random.standard_normal(min(count, 1 << 20), dtype=np.float32)
    block = (block / np.sqrt(shape[-1])).astype(np.float32).view(np.uint32) >> 16
    return np.resize(block.astype(np.uint16), count)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", required=True,
                        choices=sorted(p.name for p in SHAPES.iterdir() if p.is_dir()))
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--layers", type=int, help="keep only the first N layers")
    args = parser.parse_args()
    config = json.loads((SHAPES / args.shape / "config.json").read_text())
    config.pop("quantization_config", None)
    config["torch_dtype"] = "bfloat16"
    if config.get("num_nextn_predict_layers"):
        config["num_nextn_predict_layers"] = 0
    if args.layers:
        config["num_hidden_layers"] = args.layers
    header, offset = {}, 0
    for name, shape in tensor_shapes(config):
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    free = shutil.disk_usage(args.out.parent if args.out.parent.exists() else ".").free
    if free < offset * 1.05:
        sys.exit(f"make_random_model.py: {offset / 1e9:.1f} GB are needed in '{args.out}', but {free / 1e9:.1f} GB are free")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    random = np.random.default_rng(1)
    text = json.dumps(header).encode()
    with open(args.out / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in header.values():
            random_bf16(random, tuple(tensor["shape"])).tofile(file)
    print(f"{args.out}: {len(header)} tensors, {offset / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
