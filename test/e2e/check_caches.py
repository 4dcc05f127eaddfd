#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Sizes of tiles follow from the caches of the processor that code is made for, and no bit of a result does.
"""Compares products for processors with the same instructions and other caches.

    check_caches.py --hadalc build/bin/hadalc [--bench bench]

Models have made-up weights, and attention and products that are tiled otherwise on each of the processors. Exit status: 0
logits are equal, 1 they are not, 77 this machine runs none of the products.
"""
import argparse
import importlib
import json
import re
import struct
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
from harness import SKIPPED, Failure, ids, is_for_another, must_run, require_numpy, run_checks

np = require_numpy("check_caches.py")

# AVX2 with caches of 32 and 256 KiB, 32 and 512 KiB, 48 and 1280 KiB.
CPUS = ["haswell", "znver2", "alderlake"]
# Blocks have 8 heads of up to 4 rows, or 16 of up to 3; enough tokens for both.
HEADS = [8, 16]
TOKENS = ids([(7 * i * i + i) % 256 for i in range(140)])


def write_model(folder, heads, shapes):
    config = {"model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"], "hidden_size": 128, "vocab_size": 256,
              "num_hidden_layers": 1, "num_attention_heads": heads, "num_key_value_heads": heads, "kv_lora_rank": 512,
              "q_lora_rank": None, "qk_nope_head_dim": 32, "qk_rope_head_dim": 64, "v_head_dim": 32, "intermediate_size": 1152,
              "n_routed_experts": None, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 256,
              "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    random, header, body = np.random.default_rng(heads), {}, b""
    for name, shape in shapes(config):
        values = np.ones(shape) if len(shape) == 1 else random.standard_normal(shape) / shape[-1] ** 0.5
        data = (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True)
    parser.add_argument("--bench", default=Path(__file__).resolve().parent.parent.parent / "bench")
    args = parser.parse_args()
    sys.path.append(str(args.bench))
    shapes = importlib.import_module("make_random_model").tensor_shapes

    def compare(folder, heads):
        model = folder / f"heads{heads}"
        write_model(model, heads, shapes)
        found, tiles = [], []
        for cpu in CPUS:
            product, dump = folder / cpu, folder / f"{cpu}-{heads}.mlir"
            flags = [args.hadalc, model, f"--cpu={cpu}", "--quantize=int8", "--quiet"]
            must_run([*flags, "-o", product], 120)
            must_run([*flags, "--compile-to=rt", "-o", dump], 120)
            tiles.append(re.findall(r"rt\.kernel (@\w+).*(\{tile = .*?\})\}", dump.read_text()))
            if is_for_another(product):
                sys.exit(SKIPPED)
            must_run([product, "--tokens", TOKENS, "--logits", folder / "logits.npy"], 120)
            found.append(np.load(folder / "logits.npy"))
        for cpu, logits, tile in zip(CPUS[1:], found[1:], tiles[1:]):
            if tile == tiles[0]:
                raise Failure(f"code for {cpu} has the tiles of {CPUS[0]}")
            if not np.array_equal(logits, found[0]):
                raise Failure(f"logits for {cpu} differ by {np.abs(logits - found[0]).max():.1e} from those for {CPUS[0]}")
        return f"logits of {len(CPUS)} products with other tiles are equal"

    with tempfile.TemporaryDirectory(prefix="hadal-e2e-") as name:
        return run_checks([(f"{heads} heads", lambda heads=heads: compare(Path(name), heads)) for heads in HEADS])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"check_caches.py: {failure}")
